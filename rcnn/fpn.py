"""The feature pyramid network (FPN): feature maps of several resolutions, all with information from the deepest layers.

See Lin et al., "Feature Pyramid Networks for Object Detection", 2017, section 3. The early layers of a convolutional
network have a high resolution, but they only detect simple patterns such as edges. The late layers detect objects, but
their resolution is low. The FPN goes from the coarsest feature map (*level*) to the finest one: it enlarges each level
to the size of the next finer level, and adds the two levels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from rcnn._ext.dispatch import floats, is_replaced, replaceable
from rcnn._validate import FLAG, MOST_LEVELS, as_float_array, check_sequence, integer
from rcnn.nn import Module, Sequential, Tensor
from rcnn.nn import functional as F
from rcnn.nn.layers import MOST_CHANNELS, kaiming_uniform, same_conv2d

Norm = Callable[[int], Module]


class Pyramid(list[Tensor]):
    """The levels of a feature pyramid, finest first.

    Parameters
    ----------
    levels : iterable of (N, C, H_l, W_l) tensors
        The feature maps of N images, one tensor per level l, with C channels.
    num_extra : int
        The number of levels at the end that only the region proposal network (RPN) uses. No region of interest (RoI) is
        pooled from them.
    """

    def __init__(self, levels: Iterable[Tensor], num_extra: int = 0) -> None:
        super().__init__(levels)
        self.num_extra = integer(0).check("num_extra", num_extra)


class FPN(Module):
    """A feature pyramid on top of the levels of a backbone.

    Its input is a list of feature maps of N images, finest first: one tensor (N, in_channels_list[l], H_l, W_l) per
    level l. The result is a `Pyramid` whose levels have the shapes (N, out_channels, H_l, W_l). The learned parameters
    have the same names as in torchvision.

    Parameters
    ----------
    in_channels_list : sequence of int
        The number of channels of each level of the backbone, in 1 .. 2^20. There are 1 to 64 levels.
    out_channels : int
        The number of channels of every level of the pyramid, in 1 .. 2^20.
    extra_max_pool : bool
        Whether to add one more level for the RPN. It consists of every second row and column of the coarsest level.
    norm : callable, optional
        Function that returns a normalisation layer for a given number of channels. It follows each convolution, which
        then has no bias. By default, there is no normalisation, as in the paper.

    Raises
    ------
    TypeError, ValueError
        If an argument is invalid.
    """

    def __init__(
        self,
        in_channels_list: Sequence[int],
        out_channels: int = 256,
        extra_max_pool: bool = True,
        norm: Norm | None = None,
    ) -> None:
        check_sequence(in_channels_list, "in_channels_list")
        integer(1, MOST_LEVELS).check("the length of in_channels_list", len(in_channels_list))
        for level, channels in enumerate(in_channels_list):
            integer(1, MOST_CHANNELS).check(f"in_channels_list[{level}]", channels)
        extra_max_pool = FLAG.check("extra_max_pool", extra_max_pool)
        self.inner_blocks = [_block(channels, out_channels, 1, norm) for channels in in_channels_list]
        self.layer_blocks = [_block(out_channels, out_channels, 3, norm) for _ in in_channels_list]
        self.extra_max_pool = extra_max_pool

    @property
    def num_levels(self) -> int:  # numpydoc ignore=RT01
        """The number of levels of the result."""
        return len(self.inner_blocks) + self.extra_max_pool

    def forward(self, levels: Sequence[Tensor]) -> Pyramid:
        check_sequence(levels, "levels")
        if len(levels) != len(self.inner_blocks):
            raise ValueError(
                f"levels must have {len(self.inner_blocks)} feature maps, one per level, got {len(levels)}"
            )
        merged = self.inner_blocks[-1](levels[-1])
        out = [self.layer_blocks[-1](merged)]
        for index in reversed(range(len(levels) - 1)):
            merged = _merge(self.inner_blocks[index](levels[index]), merged)
            out.insert(0, self.layer_blocks[index](merged))
        if not self.extra_max_pool:
            return Pyramid(out)
        return Pyramid([*out, F.max_pool2d(out[-1], kernel_size=1, stride=2)], num_extra=1)


@replaceable(lambda finer, coarser: floats(np.shape(finer), finer))
def top_down(finer: ArrayLike, coarser: ArrayLike) -> np.ndarray:
    """Return the sum of a level and the next coarser level, which is enlarged by nearest-neighbour interpolation.

    Parameters
    ----------
    finer : (N, C, H, W) array_like
        The finer level of N images, with C channels.
    coarser : (N, C, h, w) array_like
        The coarser level.

    Returns
    -------
    (N, C, H, W) array
        The sum. Row i of the enlarged level is row floor(i * h / H) of `coarser`; its columns follow the same rule.

    Raises
    ------
    TypeError, ValueError
        If an argument does not contain numbers or has a wrong shape.

    References
    ----------
    Lin et al., "Feature Pyramid Networks for Object Detection", 2017, section 3.

    Examples
    --------
    >>> top_down(np.zeros((1, 1, 1, 4)), [[[[1.0, 2.0]]]])
    array([[[[1., 1., 2., 2.]]]])
    """
    levels = as_float_array(finer, "finer"), as_float_array(coarser, "coarser")
    return F.upsample_add(*map(Tensor, levels)).data


def _merge(finer: Tensor, coarser: Tensor) -> Tensor:
    """Return the sum of `top_down`, as a tensor with a gradient."""
    merged = F.upsample_add(finer, coarser)
    if is_replaced("top_down"):  # the difference is a constant: the value is the user's, the gradient is the library's
        merged = merged + (top_down(finer.data, coarser.data) - merged.data)
    return merged


def _block(in_channels: int, out_channels: int, kernel_size: int, norm: Norm | None) -> Sequential:
    """Return a convolution of the pyramid, and its normalisation if there is one."""
    conv = same_conv2d(in_channels, out_channels, kernel_size, partial(kaiming_uniform, a=1), bias=norm is None)
    return Sequential(conv) if norm is None else Sequential(conv, norm(out_channels))


class BackboneWithFPN(Module):
    """A backbone and the feature pyramid on top of it.

    Parameters
    ----------
    body : Module
        A backbone that returns a list of levels, finest first.
    in_channels_list : sequence of int
        The number of channels of each level of `body`, in 1 .. 2^20. There are 1 to 64 levels.
    out_channels : int
        The number of channels of every level of the pyramid, in 1 .. 2^20.
    norm : callable, optional
        See `FPN`.
    """

    def __init__(
        self, body: Module, in_channels_list: Sequence[int], out_channels: int = 256, norm: Norm | None = None
    ) -> None:
        self.body = body
        self.fpn = FPN(in_channels_list, out_channels, norm=norm)

    def forward(self, x: Tensor) -> Pyramid:
        return self.fpn(self.body(x))

"""The feature pyramid: levels of every resolution, each with the meaning of the deepest one.

Lin et al., "Feature Pyramid Networks for Object Detection", 2017, section 3. A convolutional network's early levels are
sharp but know little, its late ones know much but are coarse. The pyramid walks back from coarse to fine: each level is
enlarged to the size of the next finer one and added to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

from rcnn.nn import Module, Sequential, Tensor
from rcnn.nn import functional as F
from rcnn.nn.layers import kaiming_uniform, same_conv2d


class Pyramid(list[Tensor]):
    """The levels of a feature pyramid, finest first, the last `num_extra` of which only the RPN reads."""

    def __init__(self, levels: Iterable[Tensor], num_extra: int = 0) -> None:
        super().__init__(levels)
        self.num_extra = num_extra


class FPN(Module):
    """A feature pyramid on top of the levels of a backbone.

    Takes levels (N, in_channels_list[i], H_i, W_i), finest first, and gives a `Pyramid` of as many maps
    (N, out_channels, H_i, W_i), and with `extra_max_pool` one more, the coarsest at every second place.
    Parameters are named as in torchvision.
    """

    def __init__(self, in_channels_list: Sequence[int], out_channels: int = 256, extra_max_pool: bool = True) -> None:
        weights = partial(kaiming_uniform, a=1)
        self.inner_blocks = [Sequential(same_conv2d(c, out_channels, 1, weights)) for c in in_channels_list]
        self.layer_blocks = [Sequential(same_conv2d(out_channels, out_channels, 3, weights)) for _ in in_channels_list]
        self.extra_max_pool = extra_max_pool

    def forward(self, levels: Sequence[Tensor]) -> Pyramid:
        if len(levels) != len(self.inner_blocks):
            raise ValueError(f"this pyramid was made for {len(self.inner_blocks)} levels, not {len(levels)}")
        merged = self.inner_blocks[-1](levels[-1])
        out = [self.layer_blocks[-1](merged)]
        for index in reversed(range(len(levels) - 1)):
            merged = F.upsample_add(self.inner_blocks[index](levels[index]), merged)
            out.insert(0, self.layer_blocks[index](merged))
        if not self.extra_max_pool:
            return Pyramid(out)
        return Pyramid([*out, F.max_pool2d(out[-1], kernel_size=1, stride=2)], num_extra=1)


class BackboneWithFPN(Module):
    """A backbone whose `body` gives a list of levels, and the pyramid on top of them."""

    def __init__(self, body: Module, in_channels_list: Sequence[int], out_channels: int = 256) -> None:
        self.body = body
        self.fpn = FPN(in_channels_list, out_channels)

    def forward(self, x: Tensor) -> Pyramid:
        return self.fpn(self.body(x))

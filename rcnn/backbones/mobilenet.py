"""MobileNetV2 and MobileNetV3-Large, as bodies, and with a feature pyramid or with a single feature map.

A MobileNet needs a tenth of the arithmetic of a ResNet-50. It consists of *inverted residual blocks*: a 1x1 convolution
increases the number of channels, a depthwise convolution filters each channel on its own, and another 1x1 convolution
reduces the number of channels again. See Sandler et al., "MobileNetV2: Inverted residuals and linear bottlenecks",
2018, and Howard et al., "Searching for MobileNetV3", 2019. The learned parameters have the same names as in
torchvision.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from rcnn._validate import FLAG, Rule, as_integer, integer, number, one_of, tuple_of
from rcnn.backbones.resnet import biasless_conv
from rcnn.fpn import BackboneWithFPN, Norm
from rcnn.nn import (
    BatchNorm2d,
    Conv2d,
    FrozenBatchNorm2d,
    Hardsigmoid,
    Hardswish,
    Module,
    ReLU,
    ReLU6,
    Sequential,
    SqueezeExcitation,
    Tensor,
)
from rcnn.nn.fusion import fused
from rcnn.nn.layers import normal

Activation = Callable[[], Module]

# For each group of equal blocks of MobileNetV2 (table 2 of the paper): the factor by which the first convolution
# increases the number of channels, the number of channels of the result, the number of blocks, and the stride of the
# first of them.
V2_BLOCKS = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
# For each block of MobileNetV3-Large (table 1 of the paper): the side of the depthwise kernel, its number of channels,
# the number of channels of the result, the number of channels of the inner layer of squeeze-and-excitation (0 if the
# block has none), the activation, and the stride.
V3_BLOCKS: tuple[tuple[int, int, int, int, Activation, int], ...] = (
    (3, 16, 16, 0, ReLU, 1),
    (3, 64, 24, 0, ReLU, 2),
    (3, 72, 24, 0, ReLU, 1),
    (5, 72, 40, 24, ReLU, 2),
    (5, 120, 40, 32, ReLU, 1),
    (5, 120, 40, 32, ReLU, 1),
    (3, 240, 80, 0, Hardswish, 2),
    (3, 200, 80, 0, Hardswish, 1),
    (3, 184, 80, 0, Hardswish, 1),
    (3, 184, 80, 0, Hardswish, 1),
    (3, 480, 112, 120, Hardswish, 1),
    (3, 672, 112, 168, Hardswish, 1),
    (5, 672, 160, 168, Hardswish, 2),
    (5, 960, 160, 240, Hardswish, 1),
    (5, 960, 160, 240, Hardswish, 1),
)
MOBILENETS = ("mobilenet_v2", "mobilenet_v3_large")
STAGES = 6  # of both networks
RETURNED_LAYERS = Rule(
    f"stages from 0 to {STAGES - 1} in ascending order",
    tuple_of(as_integer),
    lambda layers: layers != () and list(layers) == [stage for stage in range(STAGES) if stage in layers],
)
OUT_CHANNELS = 256


class InvertedResidualV2(Module):
    """The block of MobileNetV2 (figure 4 of the paper).

    Parameters
    ----------
    in_channels, out_channels : int
        The numbers of channels of the input and of the output.
    stride : int
        The stride of the depthwise convolution.
    expansion : int
        The factor by which the first convolution increases the number of channels. If it is 1, there is no such
        convolution.
    norm : callable
        Function that returns a normalisation layer for a given number of channels.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, expansion: int, norm: Norm) -> None:
        width = in_channels * expansion
        expand = [] if expansion == 1 else [_conv_norm(in_channels, width, 1, 1, norm, ReLU6)]
        self.conv = Sequential(
            *expand,
            _conv_norm(width, width, 3, stride, norm, ReLU6, groups=width),
            biasless_conv(width, out_channels, 1),
            norm(out_channels),
        )
        self.stride, self.has_shortcut = stride, stride == 1 and in_channels == out_channels

    @fused
    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) + x if self.has_shortcut else self.conv(x)


class InvertedResidualV3(Module):
    """The block of MobileNetV3 (figure 4 of the paper).

    Parameters
    ----------
    in_channels : int
        The number of channels of the input.
    kernel_size : int
        The side of the kernel of the depthwise convolution.
    width : int
        The number of channels of the depthwise convolution. If it is `in_channels`, there is no convolution before it.
    out_channels : int
        The number of channels of the output.
    squeeze : int
        The number of channels of the inner layer of the squeeze-and-excitation that follows the depthwise convolution,
        or 0 if there is none.
    activation : callable
        Function that returns the activation of the first two convolutions.
    stride : int
        The stride of the depthwise convolution.
    norm : callable
        Function that returns a normalisation layer for a given number of channels.
    """

    def __init__(
        self,
        in_channels: int,
        kernel_size: int,
        width: int,
        out_channels: int,
        squeeze: int,
        activation: Activation,
        stride: int,
        norm: Norm,
    ) -> None:
        expand = [] if width == in_channels else [_conv_norm(in_channels, width, 1, 1, norm, activation)]
        self.block = Sequential(
            *expand,
            _conv_norm(width, width, kernel_size, stride, norm, activation, groups=width),
            *([_squeeze_excitation(width, squeeze)] if squeeze else []),
            _conv_norm(width, out_channels, 1, 1, norm, None),
        )
        self.stride, self.has_shortcut = stride, stride == 1 and in_channels == out_channels

    @fused
    def forward(self, x: Tensor) -> Tensor:
        return self.block(x) + x if self.has_shortcut else self.block(x)


class MobileNet(Sequential):
    """The body of MobileNetV2 or of MobileNetV3-Large, which returns feature maps of images (N, 3, H, W).

    The body has six stages. Stage 0 is the first convolution. The stages 1 to 4 begin with the blocks that have stride
    2, and are named after these blocks, as in torchvision. Stage 5 is the last convolution, which has the stride of
    stage 4.

    Parameters
    ----------
    name : {"mobilenet_v2", "mobilenet_v3_large"}
        The network.
    returned_layers : sequence of int
        The stages whose first block (for the stages 0 and 5, whose convolution) gives a level of the result, in
        ascending order. By default, the levels are those of torchvision's detectors. Both of them have stride 32.
    frozen : bool
        Whether to use FrozenBatchNorm2d instead of BatchNorm2d.
    eps : float
        The number that the norms add to the variance, in [0, 1e6].

    Attributes
    ----------
    channels : tuple of int
        The number of channels of each level.

    Raises
    ------
    TypeError, ValueError
        If an argument is invalid.
    """

    def __init__(
        self, name: str, returned_layers: Sequence[int] = (4, 5), frozen: bool = False, eps: float = 1e-5
    ) -> None:
        self.name = one_of(MOBILENETS).check("name", name)
        self.returned_layers = RETURNED_LAYERS.check("returned_layers", returned_layers)
        self.frozen, self.eps = FLAG.check("frozen", frozen), number(0, 1e6).check("eps", eps)
        norm = partial(FrozenBatchNorm2d if frozen else BatchNorm2d, eps=self.eps)
        blocks, widths = (_v2_blocks if name == "mobilenet_v2" else _v3_blocks)(norm)
        super().__init__(*blocks)
        strided = [index for index, block in enumerate(blocks) if getattr(block, "stride", 1) == 2]
        self.stages = (0, *strided, len(blocks) - 1)  # the first block of each stage
        self.channels = tuple(widths[self.stages[stage]] for stage in self.returned_layers)

    @fused
    def forward(self, x: Tensor) -> list[Tensor]:
        levels, wanted = [], [self.stages[stage] for stage in self.returned_layers]
        for index, block in enumerate(self):
            x = block(x)
            if index in wanted:
                levels.append(x)
        return levels

    def freeze(self, trainable_layers: int) -> None:
        """Freeze all stages except the last `trainable_layers`. Stages that are not frozen become trainable.

        Parameters
        ----------
        trainable_layers : int
            The number of trainable stages, in 0 .. 6, as in torchvision's `trainable_backbone_layers`.

        Raises
        ------
        TypeError, ValueError
            If `trainable_layers` is not in 0 .. 6.
        """
        trainable_layers = integer(0, STAGES).check("trainable_layers", trainable_layers)
        first = (*self.stages, len(self))[STAGES - trainable_layers]
        for index, block in enumerate(self):
            block.requires_grad_(index >= first)


def _v2_blocks(norm: Norm) -> tuple[list[Module], list[int]]:
    """Return the blocks of MobileNetV2, and the number of channels after each of them."""
    blocks, widths = [_conv_norm(3, 32, 3, 2, norm, ReLU6)], [32]
    for expansion, channels, count, stride in V2_BLOCKS:
        for index in range(count):
            step = stride if index == 0 else 1
            blocks.append(InvertedResidualV2(widths[-1], channels, step, expansion, norm))
            widths.append(channels)
    return [*blocks, _conv_norm(widths[-1], 1280, 1, 1, norm, ReLU6)], [*widths, 1280]


def _v3_blocks(norm: Norm) -> tuple[list[Module], list[int]]:
    """Return the blocks of MobileNetV3-Large, and the number of channels after each of them."""
    blocks, widths = [_conv_norm(3, 16, 3, 2, norm, Hardswish)], [16]
    for kernel_size, width, channels, squeeze, activation, stride in V3_BLOCKS:
        block = InvertedResidualV3(widths[-1], kernel_size, width, channels, squeeze, activation, stride, norm)
        blocks.append(block)
        widths.append(channels)
    return [*blocks, _conv_norm(widths[-1], 960, 1, 1, norm, Hardswish)], [*widths, 960]


def _conv_norm(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    stride: int,
    norm: Norm,
    activation: Activation | None,
    groups: int = 1,
) -> Module:
    """Return a convolution, its norm and its activation."""
    conv = biasless_conv(in_channels, out_channels, kernel_size, stride, groups)
    return Sequential(conv, norm(out_channels), *([] if activation is None else [activation()]))


def _squeeze_excitation(channels: int, squeeze_channels: int) -> SqueezeExcitation:
    """Return squeeze-and-excitation with torchvision's initial weights."""
    block = SqueezeExcitation(channels, squeeze_channels, scale_activation=Hardsigmoid)
    for conv, outs in ((block.fc1, squeeze_channels), (block.fc2, channels)):
        conv.weight.data = normal(conv.weight.shape, std=math.sqrt(2 / outs))
        conv.bias.data = np.zeros(outs, np.float32)  # type: ignore[union-attr]
    return block


class MobileNetFPN(BackboneWithFPN):
    """A MobileNet and a pyramid of three levels: two with stride 32, and one with stride 64 for the RPN alone.

    Parameters
    ----------
    name : {"mobilenet_v2", "mobilenet_v3_large"}
        The network.
    out_channels : int
        The number of channels of every level, in 1 .. 2^20.
    returned_layers, frozen, eps
        See `MobileNet`.
    """

    body: MobileNet

    def __init__(
        self,
        name: str,
        out_channels: int = OUT_CHANNELS,
        returned_layers: Sequence[int] = (4, 5),
        frozen: bool = False,
        eps: float = 1e-5,
    ) -> None:
        body = MobileNet(name, returned_layers, frozen, eps)
        super().__init__(body, body.channels, out_channels)
        self.out_channels = out_channels
        self.name, self.returned_layers, self.frozen, self.eps = name, body.returned_layers, body.frozen, body.eps


class MobileNetMap(Sequential):
    """A MobileNet and a 1x1 convolution, which give a single feature map with stride 32.

    Parameters
    ----------
    name : {"mobilenet_v2", "mobilenet_v3_large"}
        The network.
    out_channels : int
        The number of channels of the map, in 1 .. 2^20.
    frozen, eps
        See `MobileNet`.
    """

    def __init__(self, name: str, out_channels: int = OUT_CHANNELS, frozen: bool = False, eps: float = 1e-5) -> None:
        body = MobileNet(name, (STAGES - 1,), frozen, eps)
        super().__init__(body, Conv2d(body.channels[-1], out_channels, 1))
        self.out_channels = out_channels
        self.name, self.frozen, self.eps = name, body.frozen, body.eps

    @property
    def body(self) -> MobileNet:  # numpydoc ignore=RT01
        """The MobileNet."""
        return self[0]  # type: ignore[return-value]

    @fused
    def forward(self, x: Tensor) -> Tensor:
        (level,) = self.body(x)
        return self[1](level)


def mobilenet_backbone(
    backbone_name: str,
    *,
    fpn: bool = True,
    trainable_layers: int = 2,
    returned_layers: Sequence[int] = (4, 5),
    frozen: bool = True,
) -> MobileNetFPN | MobileNetMap:
    """Return a MobileNet as the backbone of a detector, like torchvision's function of the same name.

    Parameters
    ----------
    backbone_name : {"mobilenet_v2", "mobilenet_v3_large"}
        The network.
    fpn : bool
        Whether the backbone has a feature pyramid. Without it, the result is a single feature map.
    trainable_layers : int
        The number of stages to train, in 0 .. 6, counted from the last one.
    returned_layers : sequence of int
        The stages from which the pyramid is made; see `MobileNet`.
    frozen : bool
        Whether to use FrozenBatchNorm2d instead of BatchNorm2d, as for pretrained weights.

    Returns
    -------
    MobileNetFPN or MobileNetMap
        The backbone. Its attribute `out_channels` is 256.

    Raises
    ------
    TypeError, ValueError
        If an argument is invalid.
    """
    if FLAG.check("fpn", fpn):
        backbone: MobileNetFPN | MobileNetMap = MobileNetFPN(backbone_name, OUT_CHANNELS, returned_layers, frozen)
    else:
        backbone = MobileNetMap(backbone_name, OUT_CHANNELS, frozen)
    backbone.body.freeze(trainable_layers)
    return backbone

"""A backbone that is small enough to be trained in minutes from random weights, without weights from ImageNet."""

from __future__ import annotations

from rcnn._validate import MOST_ELEMENTS, integer
from rcnn.backbones.resnet import biasless_conv
from rcnn.nn import BatchNorm2d, Module, ReLU, Sequential, Tensor
from rcnn.nn.fusion import fused

MOST_CHANNELS = 2048
MOST_DEPTH = 256


class SmallBackbone(Module):
    """A residual network with stride 8, which maps N images (N, 3, H, W) to features (N, out_channels, H/8, W/8).

    Three convolutions with stride 2 reduce the resolution, and `depth` residual blocks follow. With the default
    arguments, the network has about 250,000 parameters.

    Parameters
    ----------
    out_channels : int
        The number of channels of the feature map, in 1 .. 2048.
    depth : int
        The number of residual blocks after the last convolution with stride 2, in 0 .. 256. Together, they have at most
        2^30 weights.

    Raises
    ------
    TypeError, ValueError
        If an argument is invalid.
    """

    def __init__(self, out_channels: int = 64, depth: int = 2) -> None:
        out_channels = integer(1, MOST_CHANNELS).check("out_channels", out_channels)
        depth = integer(0, MOST_DEPTH).check("depth", depth)
        if 18 * out_channels**2 * depth > MOST_ELEMENTS:
            raise ValueError(
                f"depth must be at most {MOST_ELEMENTS // (18 * out_channels**2)} for out_channels={out_channels}, "
                f"because the blocks may have at most {MOST_ELEMENTS} weights; got {depth}"
            )
        self.out_channels, self.depth = out_channels, depth
        self.stem = Sequential(
            _conv_norm(3, 24, stride=2),
            ReLU(),  # (N, 24, H/2, W/2)
            _conv_norm(24, 48, stride=2),
            ReLU(),  # (N, 48, H/4, W/4)
            ResidualBlock(48),
            _conv_norm(48, out_channels, stride=2),
            ReLU(),  # (N, out_channels, H/8, W/8)
        )
        self.blocks = Sequential(*(ResidualBlock(out_channels) for _ in range(depth)))

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(self.stem(x))


class ResidualBlock(Module):
    """Two 3x3 convolutions whose result is added to their input (He et al., 2016, figure 2).

    Parameters
    ----------
    channels : int
        The number of channels of the input and of the output.
    """

    def __init__(self, channels: int) -> None:
        self.first = _conv_norm(channels, channels)
        self.relu = ReLU()
        self.second = _conv_norm(channels, channels)

    @fused
    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.second(self.relu(self.first(x))) + x)


def _conv_norm(in_channels: int, out_channels: int, stride: int = 1) -> Sequential:
    """Return a 3x3 convolution and its batch norm. The convolution needs no bias, because the norm has one."""
    return Sequential(biasless_conv(in_channels, out_channels, 3, stride), BatchNorm2d(out_channels))

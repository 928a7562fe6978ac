"""Backbones: networks that turn an image into feature maps.

Any module from (N, 3, H, W) to (N, C, H', W') will do, or with a pyramid one that gives a list of such maps; this one
is small enough to learn from random weights in minutes, without ImageNet.
"""

from __future__ import annotations

import math

import numpy as np

from rcnn.nn import BatchNorm2d, Conv2d, Module, ReLU, Sequential, Tensor
from rcnn.nn.modules import normal


class SmallBackbone(Module):
    """A residual network of stride 8: (N, 3, H, W) to (N, out_channels, H/8, W/8).

    Three convolutions of stride 2 bring the resolution down, `depth` residual blocks think at the last one. With the
    defaults it has a quarter of a million parameters.
    """

    def __init__(self, out_channels: int = 64, depth: int = 2) -> None:
        self.out_channels, self.depth = out_channels, depth
        self.stem = Sequential(
            _conv_norm(3, 24, stride=2), ReLU(),  # (N, 24, H/2, W/2)
            _conv_norm(24, 48, stride=2), ReLU(),  # (N, 48, H/4, W/4)
            ResidualBlock(48),
            _conv_norm(48, out_channels, stride=2), ReLU(),  # (N, out_channels, H/8, W/8)
        )
        self.blocks = Sequential(*(ResidualBlock(out_channels) for _ in range(depth)))

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(self.stem(x))


class ResidualBlock(Module):
    """Two 3x3 convolutions whose result is added to their input. He et al., "Deep residual learning", 2016, fig. 2."""

    def __init__(self, channels: int) -> None:
        self.first = _conv_norm(channels, channels)
        self.relu = ReLU()
        self.second = _conv_norm(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(x + self.second(self.relu(self.first(x))))


def _conv_norm(in_channels: int, out_channels: int, stride: int = 1) -> Sequential:
    """A 3x3 convolution and its batch norm; the convolution needs no bias, for the norm has one."""
    conv = Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
    fan_out = 9 * out_channels
    conv.weight.data = normal(conv.weight.shape, std=math.sqrt(2 / fan_out))  # He et al., "Delving deep", 2015
    return Sequential(conv, BatchNorm2d(out_channels))


# The library's own backbones by name: what a checkpoint can rebuild without the user's help. Each keeps the arguments
# it was made with as attributes of the same names.
OWN: dict[str, tuple[type[Module], tuple[str, ...]]] = {
    "SmallBackbone": (SmallBackbone, ("out_channels", "depth")),
}


def describe(backbone: Module) -> dict[str, object] | None:
    """What `build` needs to make such a backbone again, as values that JSON can hold; None for a user's own."""
    for name, (kind, arguments) in OWN.items():
        if type(backbone) is kind:
            return {"name": name, "arguments": {argument: getattr(backbone, argument) for argument in arguments}}
    return None


def build(description: object) -> Module:
    """A new backbone from what `describe` gave; ValueError for anything else, for it may come from any file."""
    if not isinstance(description, dict):
        raise ValueError(f"a backbone is described by its name and arguments, not by {description!r}")
    name, arguments = description.get("name"), description.get("arguments")
    if not isinstance(name, str) or name not in OWN or not isinstance(arguments, dict):
        raise ValueError(f"no backbone {name!r} here; there are {', '.join(OWN)}")
    kind, allowed = OWN[name]
    if set(arguments) != set(allowed) or not all(isinstance(value, int) for value in arguments.values()):
        raise ValueError(f"{name} takes the integers {', '.join(allowed)}, not {arguments}")
    return kind(**arguments)


def count_parameters(module: Module) -> int:
    """How many numbers a module learns."""
    return sum(int(np.prod(parameter.shape)) for parameter in module.parameters())

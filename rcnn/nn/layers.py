"""Layers: the modules that a network is built of, and how their weights begin.

Arguments and defaults are PyTorch's, and so is the initialisation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from rcnn.nn import functional as F
from rcnn.nn.fusion import fused
from rcnn.nn.module import Module
from rcnn.nn.random import generator
from rcnn.nn.tensor import Parameter, Tensor
from rcnn.nn.windows import Pair, pair

# ---------------------------------------------------------------------- initialisation


def normal(shape: tuple[int, ...], std: float, rng: np.random.Generator | None = None) -> np.ndarray:
    """A float32 array drawn from a normal distribution around 0."""
    return (generator(rng).standard_normal(shape, dtype=np.float32) * np.float32(std)).astype(np.float32)


def kaiming_uniform(shape: tuple[int, ...], a: float, rng: np.random.Generator | None = None) -> np.ndarray:
    """A float32 array, uniform within gain * sqrt(3 / fan_in), gain = sqrt(2 / (1 + a^2)).

    He et al., "Delving deep into rectifiers", 2015. For convolutions and linear layers PyTorch takes a = sqrt(5).
    """
    bound = math.sqrt(6 / ((1 + a * a) * math.prod(shape[1:])))
    return generator(rng).uniform(-bound, bound, shape).astype(np.float32)


def _default_bias(outs: int, fan_in: int) -> np.ndarray:
    bound = 1 / math.sqrt(fan_in)
    return generator().uniform(-bound, bound, outs).astype(np.float32)


# ---------------------------------------------------------------------- layers


class Conv2d(Module):
    """Convolution, (N, in_channels, H, W) to (N, out_channels, H', W')."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Pair,
        stride: int | Pair = 1,
        padding: int | Pair = 0,
        dilation: int | Pair = 1,
        groups: int = 1,
        bias: bool = True,
    ) -> None:
        if groups < 1 or in_channels % groups or out_channels % groups:
            raise ValueError(f"groups={groups} must divide in_channels={in_channels} and out_channels={out_channels}")
        self.stride, self.padding, self.dilation, self.groups = stride, padding, dilation, groups
        shape = (out_channels, in_channels // groups, *pair("kernel_size", kernel_size, 1))
        self.weight = Parameter(kaiming_uniform(shape, math.sqrt(5)))
        self.bias = Parameter(_default_bias(out_channels, math.prod(shape[1:]))) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


def same_conv2d(
    in_channels: int, out_channels: int, kernel_size: int, weights: Callable[[tuple[int, ...]], np.ndarray]
) -> Conv2d:
    """A convolution that keeps the size of its map. `weights` draws its weights, given their shape; biases are 0."""
    conv = Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2)
    conv.weight.data = weights(conv.weight.shape)
    if conv.bias is not None:
        conv.bias.data = np.zeros(out_channels, np.float32)
    return conv


class Linear(Module):
    """x W^T + b, (N, in_features) to (N, out_features); maps (N, C, H, W) of as many values are flattened."""

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        self.weight = Parameter(kaiming_uniform((out_features, in_features), math.sqrt(5)))
        self.bias = Parameter(_default_bias(out_features, in_features)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


_TORCH_COUNTER = ("num_batches_tracked",)  # PyTorch's batch norm counts its batches; nothing here depends on it


class BatchNorm2d(Module):
    """Batch normalisation of (N, num_features, H, W): the batch's statistics in training, running ones after."""

    ignored_state = _TORCH_COUNTER

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        self.eps, self.momentum = eps, momentum
        self.weight = Parameter(np.ones(num_features, np.float32))
        self.bias = Parameter(np.zeros(num_features, np.float32))
        self.register_buffer("running_mean", np.zeros(num_features, np.float32))
        self.register_buffer("running_var", np.ones(num_features, np.float32))
        self.running_mean: np.ndarray
        self.running_var: np.ndarray

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, self.training, self.momentum, self.eps
        )


class FrozenBatchNorm2d(Module):
    """Batch normalisation by fixed statistics and a fixed gain: one multiplication and one addition per channel."""

    ignored_state = _TORCH_COUNTER

    def __init__(self, num_features: int, eps: float = 1e-5) -> None:
        self.eps = eps
        self.register_buffer("weight", np.ones(num_features, np.float32))
        self.register_buffer("bias", np.zeros(num_features, np.float32))
        self.register_buffer("running_mean", np.zeros(num_features, np.float32))
        self.register_buffer("running_var", np.ones(num_features, np.float32))
        self.weight: np.ndarray
        self.bias: np.ndarray
        self.running_mean: np.ndarray
        self.running_var: np.ndarray

    def forward(self, x: Tensor) -> Tensor:
        scale = self.weight / np.sqrt(self.running_var + self.running_var.dtype.type(self.eps))  # (C,)
        return F.scale_and_shift(x, scale, self.bias - self.running_mean * scale)


class ReLU(Module):
    """max(x, 0)."""

    def __init__(self, inplace: bool = False) -> None:
        del inplace  # accepted so that a network written for PyTorch reads the same; results never share memory here

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x)


class LeakyReLU(Module):
    """x where positive, negative_slope * x elsewhere."""

    def __init__(self, negative_slope: float = 0.01) -> None:
        self.negative_slope = negative_slope

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(x, self.negative_slope)


class Sigmoid(Module):
    """1 / (1 + exp(-x))."""

    def forward(self, x: Tensor) -> Tensor:
        return F.sigmoid(x)


class MaxPool2d(Module):
    """The largest value under each window."""

    def __init__(self, kernel_size: int | Pair, stride: int | Pair | None = None, padding: int | Pair = 0) -> None:
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(x, self.kernel_size, self.stride, self.padding)


class AvgPool2d(Module):
    """The mean under each window."""

    def __init__(self, kernel_size: int | Pair, stride: int | Pair | None = None, padding: int | Pair = 0) -> None:
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, self.kernel_size, self.stride, self.padding)


class AdaptiveAvgPool2d(Module):
    """The mean over a grid of output_size cells."""

    def __init__(self, output_size: int | Pair) -> None:
        self.output_size = output_size

    def forward(self, x: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(x, self.output_size)


class Upsample(Module):
    """The map enlarged by a whole factor, by the nearest value or bilinearly."""

    def __init__(self, scale_factor: int = 2, mode: str = "nearest") -> None:
        self.scale_factor, self.mode = scale_factor, mode

    def forward(self, x: Tensor) -> Tensor:
        size = (x.shape[2] * self.scale_factor, x.shape[3] * self.scale_factor)
        return F.interpolate(x, size, self.mode)


class Dropout(Module):
    """In training, sets each element to 0 with probability p and divides the others by 1 - p."""

    def __init__(self, p: float = 0.5) -> None:
        if not 0 <= p < 1:
            raise ValueError(f"p must be in [0, 1), not {p}")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.p, self.training)


class Flatten(Module):
    """(N, ...) to (N, everything else)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(start_dim=1)


class Identity(Module):
    """x."""

    def forward(self, x: Tensor) -> Tensor:
        return x


class Sequential(Module):
    """Modules one after the other; also a list of them by index. Their names are 0, 1, 2, ..."""

    def __init__(self, *modules: Module) -> None:
        for index, module in enumerate(modules):
            setattr(self, str(index), module)

    def __len__(self) -> int:
        return sum(1 for _ in self.children())

    def __iter__(self) -> Iterator[Module]:
        return (module for _, module in self.children())

    def __getitem__(self, index: int) -> Module:
        return list(self)[index]

    @fused
    def forward(self, x: Any) -> Any:
        for module in self:
            x = module(x)
        return x

"""Layers, and the `Module` that holds them: the parts of a network that remember their parameters.

A module is an ordinary object. What belongs to it is found by walking its attributes in the order in which they were
set: a `Parameter` is learned, a buffer (see `register_buffer`) is remembered but not learned, and a module is a part.
Parameters and modules may also stand in lists, tuples and dicts. Names are the attribute's, joined by dots, with the
index or key: `conv.0.weight`.

Arguments and defaults are PyTorch's, and so is the initialisation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self, TypeVar

import numpy as np

from rcnn.nn import functional as F
from rcnn.nn.convolution import Pair, pair
from rcnn.nn.random import generator
from rcnn.nn.tensor import Parameter, Tensor

T = TypeVar("T")


class Module:
    """A part of a network. Subclass it, set layers as attributes in `__init__`, and define `forward`."""

    training = True
    ignored_state: tuple[str, ...] = ()
    """Names that a state may hold for this module, and that say nothing to it."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} does not define forward")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.forward(*args, **kwargs)

    # ------------------------------------------------------------------ what it holds

    def register_buffer(self, name: str, value: np.ndarray) -> None:
        """Sets an array as attribute `name` and makes it part of the state: saved and loaded, but not learned."""
        self.__dict__.setdefault("_buffers", {})[name] = None  # an ordered set of names
        setattr(self, name, value)

    def children(self) -> Iterator[tuple[str, Module]]:
        """The modules directly below this one, with their names, in the order in which they were set."""
        for name, value in vars(self).items():
            yield from _find(Module, name, value)

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """This module and all below it, with what their parts' full names begin with: "", "conv.", "conv.0.", ..."""
        yield prefix, self
        for name, child in self.children():
            yield from child.named_modules(f"{prefix}{name}.")

    def modules(self) -> Iterator[Module]:
        """This module and all below it."""
        for _, module in self.named_modules():
            yield module

    def named_parameters(self, prefix: str = "") -> Iterator[tuple[str, Parameter]]:
        """Every parameter with its full name: this module's own first, then its parts'. A shared one comes once."""
        seen: set[int] = set()
        for name, value in self._named_state(prefix):
            if isinstance(value, Parameter) and id(value) not in seen:
                seen.add(id(value))
                yield name, value

    def parameters(self) -> Iterator[Parameter]:
        """Every parameter, in the order of `named_parameters`."""
        for _, parameter in self.named_parameters():
            yield parameter

    def _named_state(self, prefix: str = "") -> Iterator[tuple[str, Parameter | np.ndarray]]:
        """(full name, value) of everything in the state: parameters, then buffers, then the parts'."""
        for name, value in vars(self).items():
            for full_name, parameter in _find(Parameter, name, value):
                yield prefix + full_name, parameter
        for name, buffer in self._own_buffers():
            yield prefix + name, buffer
        for name, child in self.children():
            yield from child._named_state(f"{prefix}{name}.")

    def _own_buffers(self) -> list[tuple[str, np.ndarray]]:
        """The buffers of this module alone, with their names."""
        return [(name, getattr(self, name)) for name in vars(self).get("_buffers", ())]

    # ------------------------------------------------------------------ state

    def state_dict(self) -> dict[str, np.ndarray]:
        """{full name: array} of every parameter and buffer. The arrays are the module's own, not copies."""
        return {name: value.data if isinstance(value, Parameter) else value for name, value in self._named_state()}

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> tuple[list[str], list[str]]:
        """Copies arrays into the parameters and buffers of the same names, and gives (missing, unexpected) names.

        Arrays are converted to the dtype that is there. Raises ValueError, having changed nothing, when a shape
        differs, or with `strict` when a name is missing or unexpected; the message lists every one of them.
        """
        own = self.state_dict()
        missing = [name for name in own if name not in state]
        ignored = {prefix + name for prefix, module in self.named_modules() for name in module.ignored_state}
        unexpected = [name for name in state if name not in own and name not in ignored]
        misshapen = [f"{name}: {np.shape(state[name])} in the state, {own[name].shape} in the model"
                     for name in own if name in state and np.shape(state[name]) != own[name].shape]
        problems = []
        if strict and missing:
            problems.append("missing: " + ", ".join(missing))
        if strict and unexpected:
            problems.append("unexpected: " + ", ".join(unexpected))
        if misshapen:
            problems.append("of another shape: " + "; ".join(misshapen))
        if problems:
            raise ValueError(f"the state does not fit {type(self).__name__}. " + ". ".join(problems))
        for name, array in own.items():
            if name in state:
                array[...] = np.asarray(state[name])
        return missing, unexpected

    def astype(self, dtype: Any) -> Self:
        """Turns every floating-point parameter and buffer into `dtype` (float32 or float64), in place."""
        for parameter in self.parameters():
            parameter.data, parameter.grad = parameter.data.astype(dtype), None
        for module in self.modules():
            for name, buffer in module._own_buffers():
                if buffer.dtype.kind == "f":
                    setattr(module, name, buffer.astype(dtype))
        return self

    # ------------------------------------------------------------------ modes

    def train(self, mode: bool = True) -> Self:
        """Switches this module and all below it to training (dropout drops, batch norm uses the batch's statistics)."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        """Switches this module and all below it to evaluation."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Lets every parameter be learned, or freezes it."""
        for parameter in self.parameters():
            parameter.requires_grad = requires_grad
        return self

    def zero_grad(self) -> None:
        """Forgets every gradient."""
        for parameter in self.parameters():
            parameter.grad = None


def _find(kind: type[T], name: str, value: Any) -> Iterator[tuple[str, T]]:
    """What an attribute holds of a kind: itself, or those in a list, tuple or dict, however nested."""
    if isinstance(value, kind):
        yield name, value
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _find(kind, f"{name}.{index}", item)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _find(kind, f"{name}.{key}", item)


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

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int | Pair, stride: int | Pair = 1,
                 padding: int | Pair = 0, dilation: int | Pair = 1, groups: int = 1, bias: bool = True) -> None:
        if groups < 1 or in_channels % groups or out_channels % groups:
            raise ValueError(f"groups={groups} must divide in_channels={in_channels} and out_channels={out_channels}")
        self.stride, self.padding, self.dilation, self.groups = stride, padding, dilation, groups
        shape = (out_channels, in_channels // groups, *pair("kernel_size", kernel_size, 1))
        self.weight = Parameter(kaiming_uniform(shape, math.sqrt(5)))
        self.bias = Parameter(_default_bias(out_channels, math.prod(shape[1:]))) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


def same_conv2d(in_channels: int, out_channels: int, kernel_size: int,
                weights: Callable[[tuple[int, ...]], np.ndarray]) -> Conv2d:
    """A convolution that keeps the size of its map. `weights` draws its weights, given their shape; biases are 0."""
    conv = Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2)
    conv.weight.data = weights(conv.weight.shape)
    if conv.bias is not None:
        conv.bias.data = np.zeros(out_channels, np.float32)
    return conv


class Linear(Module):
    """x W^T + b, (N, in_features) to (N, out_features)."""

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
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias,
                            self.training, self.momentum, self.eps)


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
        scale = self.weight / np.sqrt(self.running_var + self.running_var.dtype.type(self.eps))
        shift = self.bias - self.running_mean * scale
        return x * scale[:, None, None] + shift[:, None, None]


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

    def forward(self, x: Any) -> Any:
        for module in self:
            x = module(x)
        return x

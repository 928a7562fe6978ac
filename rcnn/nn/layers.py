"""Layers: the modules from which networks are built, and the initialisation of their weights.

Arguments, defaults and initialisation are the same as in PyTorch.
"""

from __future__ import annotations

import contextlib
import contextvars
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from rcnn._validate import BELOW_ONE, FLAG, MOST_ELEMENTS, NUMBER, check_sequence, check_size, integer, number, one_of
from rcnn.nn import functional as F
from rcnn.nn.fusion import fused
from rcnn.nn.module import Module
from rcnn.nn.random import generator
from rcnn.nn.resize import MODES
from rcnn.nn.tensor import Parameter, Tensor, check_tensor
from rcnn.nn.windows import Pair, check_maps, pair

# ---------------------------------------------------------------------- initialisation

_drawing: contextvars.ContextVar[bool] = contextvars.ContextVar("drawing", default=True)


@contextlib.contextmanager
def without_drawing() -> Iterator[None]:
    """Make layers with placeholders instead of random weights within this block.

    Use it for a network whose weights are all loaded afterwards, because drawing the 41 million weights of a detector
    takes longer than reading them from a file. A placeholder is a read-only array of zeros that takes no memory.
    `load_state_dict` replaces it if `assign` is True. The block applies only to the current context.

    Yields
    ------
    None
        The block draws no weights.

    Examples
    --------
    >>> from rcnn import nn
    >>> with without_drawing():
    ...     layer = nn.Linear(2, 3)
    >>> layer.load_state_dict(nn.Linear(2, 3).state_dict(), assign=True)
    ([], [])
    """
    token = _drawing.set(False)
    try:
        yield
    finally:
        _drawing.reset(token)


def normal(shape: tuple[int, ...], std: float, rng: np.random.Generator | None = None) -> np.ndarray:
    """Return random numbers from a normal distribution with mean 0.

    Parameters
    ----------
    shape : tuple of int
        The shape of the result, with at most 2^30 elements.
    std : float
        The standard deviation, at least 0.
    rng : np.random.Generator, optional
        The random generator; by default, the library's own.

    Returns
    -------
    float32 array
        The numbers, in an array of shape `shape`.

    Raises
    ------
    TypeError, ValueError
        If an argument is invalid.
    """
    shape, std = _check_shape(shape, least=0), number(0, 1e6).check("std", std)
    if not _drawing.get():
        return _placeholder(shape)
    return (generator(rng).standard_normal(shape, dtype=np.float32) * np.float32(std)).astype(np.float32)


def kaiming_uniform(shape: tuple[int, ...], a: float, rng: np.random.Generator | None = None) -> np.ndarray:
    """Return uniformly distributed random numbers in [-bound, bound], where bound = sqrt(6 / ((1 + a^2) fan_in)).

    Parameters
    ----------
    shape : tuple of int
        The shape of the weights: (outputs, inputs), or (outputs, inputs, kernel height, kernel width) for a
        convolution. fan_in is the product of all elements but the first. There are at most 2^30 weights.
    a : float
        The slope of the leaky ReLU that follows. PyTorch's convolutions and linear layers use sqrt(5).
    rng : np.random.Generator, optional
        The random generator; by default, the library's own.

    Returns
    -------
    float32 array
        The numbers, in an array of shape `shape`.

    Raises
    ------
    TypeError, ValueError
        If an argument is invalid.

    References
    ----------
    He et al., "Delving deep into rectifiers", 2015.
    """
    shape, a = _check_shape(shape, least=1), number(-1e6, 1e6).check("a", a)
    return _uniform(shape, math.sqrt(6 / ((1 + a * a) * math.prod(shape[1:]))), rng)


def _check_shape(shape: Sequence[int], least: int) -> tuple[int, ...]:
    """Return a shape as a tuple. Raise an error if an element is below `least`, or if the array is too large."""
    check_sequence(shape, "shape")
    sides = tuple(integer(least, MOST_ELEMENTS).check("shape", side) for side in shape[:32])
    check_size(sides, "shape")
    return sides


def _uniform(shape: tuple[int, ...], bound: float, rng: np.random.Generator | None = None) -> np.ndarray:
    if not _drawing.get():
        return _placeholder(shape)
    return generator(rng).uniform(-bound, bound, shape).astype(np.float32)


def _placeholder(shape: tuple[int, ...]) -> np.ndarray:
    return np.broadcast_to(np.float32(0), shape)


# ---------------------------------------------------------------------- layers


MOST_CHANNELS = 2**20


def _count(name: str, value: int) -> int:
    return int(integer(1, MOST_CHANNELS).check(name, value))


def _check_window(
    kernel_size: int | Pair, stride: int | Pair | None, padding: int | Pair
) -> tuple[Pair, Pair | None, Pair]:
    """Check and return the arguments of a pooling layer, each as a pair (rows, columns)."""
    kernel, pad = pair("kernel_size", kernel_size, 1), pair("padding", padding, 0)
    return kernel, None if stride is None else pair("stride", stride, 1), pad


class Conv2d(Module):
    """A convolution, which maps (N, in_channels, H, W) to (N, out_channels, H', W'); see `functional.conv2d`.

    Parameters
    ----------
    in_channels, out_channels : int
        The numbers of channels of the input and of the output, in 1 .. 2^20.
    kernel_size : int or (rows, columns)
        The size of the window, in pixels, in 1 .. 4096.
    stride, padding, dilation : int or (rows, columns)
        The step between windows, the width of the border of zeros, and the step between the elements of a window, in
        pixels. The padding is in 0 .. 4096, and both steps are in 1 .. 4096.
    groups : int
        The number of groups into which the channels and the filters are divided, at least 1. The filters of a group use
        only the channels of the same group.
    bias : bool
        Whether to learn one constant per filter and add it to the output of the filter.

    Raises
    ------
    TypeError, ValueError
        If `groups` does not divide `in_channels` and `out_channels`, if a number is out of range, or if there are more
        than 2^30 weights.
    """

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
        in_channels, out_channels = _count("in_channels", in_channels), _count("out_channels", out_channels)
        groups, bias = _count("groups", groups), FLAG.check("bias", bias)
        if in_channels % groups or out_channels % groups:
            raise ValueError(f"groups={groups} must divide in_channels={in_channels} and out_channels={out_channels}")
        self.stride, self.padding = pair("stride", stride, 1), pair("padding", padding, 0)
        self.dilation, self.groups = pair("dilation", dilation, 1), groups
        shape = (out_channels, in_channels // groups, *pair("kernel_size", kernel_size, 1))
        check_size(shape, "in_channels, out_channels and kernel_size")
        self.weight = Parameter(kaiming_uniform(shape, math.sqrt(5)))
        self.bias = Parameter(_uniform((out_channels,), 1 / math.sqrt(math.prod(shape[1:])))) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


def same_conv2d(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    weights: Callable[[tuple[int, ...]], np.ndarray],
    bias: bool = True,
) -> Conv2d:
    """Return a convolution that preserves the size of the feature map and whose biases are initially 0.

    Parameters
    ----------
    in_channels, out_channels : int
        The numbers of channels of the input and of the output.
    kernel_size : int
        The side of the window, an odd number of pixels.
    weights : callable
        Function that returns the initial weights for a given shape.
    bias : bool
        Whether the convolution has biases.

    Returns
    -------
    Conv2d
        A layer with stride 1 and padding kernel_size // 2.
    """
    side, _ = pair("kernel_size", kernel_size, 1)
    if not callable(weights):
        raise TypeError(f"weights must be callable, got {type(weights).__name__}")
    conv = Conv2d(in_channels, out_channels, side, padding=side // 2, bias=bias)
    conv.weight.data = weights(conv.weight.shape)
    if conv.bias is not None:
        conv.bias.data = np.zeros(out_channels, np.float32)
    return conv


class Linear(Module):
    """The linear layer x W^T + b, which maps (N, in_features) to (N, out_features).

    Feature maps (N, C, H, W) are first flattened to (N, C * H * W).

    Parameters
    ----------
    in_features, out_features : int
        The lengths of the input vectors and of the output vectors, at least 1. Their product is at most 2^30.
    bias : bool
        If True, b is learned; otherwise, it is 0.

    Raises
    ------
    TypeError, ValueError
        If a number is out of range.
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        shape = tuple(
            integer(1, MOST_ELEMENTS).check(name, count)
            for name, count in (("out_features", out_features), ("in_features", in_features))
        )
        check_size(shape, "in_features and out_features")
        bias = FLAG.check("bias", bias)
        self.weight = Parameter(kaiming_uniform(shape, math.sqrt(5)))
        self.bias = Parameter(_uniform(shape[:1], 1 / math.sqrt(shape[1]))) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


_TORCH_COUNTER = ("num_batches_tracked",)  # PyTorch's batch norm counts its batches; rcnn ignores the count


class BatchNorm2d(Module):
    """Batch normalisation of feature maps (N, num_features, H, W).

    In training, it uses the statistics of the batch. In evaluation, it uses the running statistics.

    Parameters
    ----------
    num_features : int
        The number of channels of the maps, in 1 .. 2^20.
    eps : float
        A small number that is added to the variance, in [0, 1e6].
    momentum : float
        The weight of a batch in the new running statistics, in [0, 1].

    Raises
    ------
    TypeError, ValueError
        If a number is out of range.
    """

    ignored_state = _TORCH_COUNTER

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        num_features = _count("num_features", num_features)
        self.eps, self.momentum = number(0, 1e6).check("eps", eps), number(0, 1).check("momentum", momentum)
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
    """Batch normalisation with fixed statistics, weight and bias: one multiplication and one addition per element.

    Parameters
    ----------
    num_features : int
        The number of channels of the maps, in 1 .. 2^20.
    eps : float
        A small number that is added to the variance, in [0, 1e6].

    Raises
    ------
    TypeError, ValueError
        If a number is out of range.
    """

    ignored_state = _TORCH_COUNTER

    def __init__(self, num_features: int, eps: float = 1e-5) -> None:
        num_features = _count("num_features", num_features)
        self.eps = number(0, 1e6).check("eps", eps)
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
    """The activation max(x, 0).

    Parameters
    ----------
    inplace : bool
        Ignored; accepted for compatibility with PyTorch code.
    """

    def __init__(self, inplace: bool = False) -> None:
        del inplace  # here, a result never shares memory with the input

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x)


class LeakyReLU(Module):
    """The activation that is x where x > 0, and negative_slope * x elsewhere.

    Parameters
    ----------
    negative_slope : float
        The factor for negative elements.
    """

    def __init__(self, negative_slope: float = 0.01) -> None:
        self.negative_slope = NUMBER.check("negative_slope", negative_slope)

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(x, self.negative_slope)


class ReLU6(Module):
    """The activation min(max(x, 0), 6).

    Parameters
    ----------
    inplace : bool
        Ignored; accepted for compatibility with PyTorch code.
    """

    def __init__(self, inplace: bool = False) -> None:
        del inplace

    def forward(self, x: Tensor) -> Tensor:
        return F.relu6(x)


class Hardswish(Module):
    """The activation x * relu6(x + 3) / 6.

    Parameters
    ----------
    inplace : bool
        Ignored; accepted for compatibility with PyTorch code.
    """

    def __init__(self, inplace: bool = False) -> None:
        del inplace

    def forward(self, x: Tensor) -> Tensor:
        return F.hardswish(x)


class Hardsigmoid(Module):
    """The activation relu6(x + 3) / 6.

    Parameters
    ----------
    inplace : bool
        Ignored; accepted for compatibility with PyTorch code.
    """

    def __init__(self, inplace: bool = False) -> None:
        del inplace

    def forward(self, x: Tensor) -> Tensor:
        return F.hardsigmoid(x)


class Sigmoid(Module):
    """The activation 1 / (1 + exp(-x))."""

    def forward(self, x: Tensor) -> Tensor:
        return F.sigmoid(x)


class MaxPool2d(Module):
    """The maximum in each window; see `functional.max_pool2d`.

    Parameters
    ----------
    kernel_size : int or (rows, columns)
        The size of the window, in pixels, in 1 .. 4096.
    stride : int or (rows, columns), optional
        The step between windows, in pixels, in 1 .. 4096; by default, the size of the window.
    padding : int or (rows, columns)
        The width of the border, in pixels, at most half of the window. The values in the border are minus infinity.

    Raises
    ------
    ValueError
        If a number is out of range.
    """

    def __init__(self, kernel_size: int | Pair, stride: int | Pair | None = None, padding: int | Pair = 0) -> None:
        self.kernel_size, self.stride, self.padding = _check_window(kernel_size, stride, padding)

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(x, self.kernel_size, self.stride, self.padding)


class AvgPool2d(Module):
    """The mean in each window; see `functional.avg_pool2d`.

    Parameters
    ----------
    kernel_size : int or (rows, columns)
        The size of the window, in pixels, in 1 .. 4096.
    stride : int or (rows, columns), optional
        The step between windows, in pixels, in 1 .. 4096; by default, the size of the window.
    padding : int or (rows, columns)
        The width of the border of zeros, in pixels, at most the size of the window.

    Raises
    ------
    ValueError
        If a number is out of range.
    """

    def __init__(self, kernel_size: int | Pair, stride: int | Pair | None = None, padding: int | Pair = 0) -> None:
        self.kernel_size, self.stride, self.padding = _check_window(kernel_size, stride, padding)

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, self.kernel_size, self.stride, self.padding)


class AdaptiveAvgPool2d(Module):
    """The mean in each cell of a grid that covers the map; see `functional.adaptive_avg_pool2d`.

    Parameters
    ----------
    output_size : int or (rows, columns)
        The number of cells along each axis, in 1 .. 4096.

    Raises
    ------
    ValueError
        If a number is out of range.
    """

    def __init__(self, output_size: int | Pair) -> None:
        self.output_size = pair("output_size", output_size, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(x, self.output_size)


class Upsample(Module):
    """A layer that enlarges feature maps by an integer factor.

    Parameters
    ----------
    scale_factor : int
        The factor for the height and the width, in 1 .. 1024.
    mode : str
        "nearest" or "bilinear".

    Raises
    ------
    TypeError, ValueError
        If `scale_factor` is out of range, or if `mode` is unknown.
    """

    def __init__(self, scale_factor: int = 2, mode: str = "nearest") -> None:
        self.scale_factor = integer(1, 1024).check("scale_factor", scale_factor)
        self.mode = one_of(MODES).check("mode", mode)

    def forward(self, x: Tensor) -> Tensor:
        check_maps("Upsample", x)
        size = (x.shape[2] * self.scale_factor, x.shape[3] * self.scale_factor)
        return F.interpolate(x, size, self.mode)


class Dropout(Module):
    """A layer that, in training, sets random elements to 0 and divides the others by 1 - p; see `functional.dropout`.

    Parameters
    ----------
    p : float
        The probability that an element is set to 0, in [0, 1).

    Raises
    ------
    TypeError, ValueError
        If p is not a number in [0, 1).
    """

    def __init__(self, p: float = 0.5) -> None:
        self.p = BELOW_ONE.check("p", p)

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.p, self.training)


class Flatten(Module):
    """A layer that reshapes (N, ...) to (N, M), where M is the number of elements per image."""

    def forward(self, x: Tensor) -> Tensor:
        check_tensor("Flatten", x)
        return x.flatten(start_dim=1)


class Identity(Module):
    """A layer that returns its input unchanged."""

    def forward(self, x: Tensor) -> Tensor:
        return x


class SqueezeExcitation(Module):
    """A block that multiplies each channel of feature maps by a factor that depends on the means of all channels.

    The factors are scale_activation(fc2(activation(fc1(means)))). The learned parameters have the same names as in
    torchvision.

    Parameters
    ----------
    input_channels : int
        The number of channels of the maps, in 1 .. 2^20.
    squeeze_channels : int
        The number of outputs of the layer `fc1`, in 1 .. 2^20.
    activation, scale_activation : callable
        Functions without arguments that return the activations after `fc1` and after `fc2`, such as the class `ReLU`.

    References
    ----------
    Hu et al., "Squeeze-and-excitation networks", 2018.
    """

    def __init__(
        self,
        input_channels: int,
        squeeze_channels: int,
        activation: Callable[[], Module] = ReLU,
        scale_activation: Callable[[], Module] = Sigmoid,
    ) -> None:
        self.avgpool = AdaptiveAvgPool2d(1)
        self.fc1 = Conv2d(input_channels, squeeze_channels, 1)
        self.fc2 = Conv2d(squeeze_channels, input_channels, 1)
        self.activation, self.scale_activation = activation(), scale_activation()

    @fused
    def forward(self, x: Tensor) -> Tensor:
        squeezed = self.activation(self.fc1(self.avgpool(x)))  # (N, squeeze_channels, 1, 1)
        return F.scale_channels(x, self.scale_activation(self.fc2(squeezed)))


class Sequential(Module):
    """A sequence of modules that run one after the other; it can be indexed and iterated like a list.

    Parameters
    ----------
    *modules : Module
        The modules; their names are 0, 1, 2, ...

    Examples
    --------
    >>> from rcnn import nn
    >>> layers = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> [name for name, _ in layers.named_parameters()]
    ['0.weight', '0.bias', '2.weight', '2.bias']
    """

    def __init__(self, *modules: Module) -> None:
        for index, module in enumerate(modules):
            if not isinstance(module, Module):
                raise TypeError(f"modules[{index}] must be a Module, got {type(module).__name__}")
            setattr(self, str(index), module)

    def __len__(self) -> int:
        return len(self._modules())

    def __iter__(self) -> Iterator[Module]:
        return iter(self._modules())

    def __getitem__(self, index: int) -> Module:
        return self._modules()[index]

    def _modules(self) -> list[Module]:
        """Return the modules. `children` would also search all other attributes, which takes longer."""
        return [value for value in list(vars(self).values()) if isinstance(value, Module)]

    @fused
    def forward(self, x: Any) -> Any:
        for module in self:
            x = module(x)
        return x

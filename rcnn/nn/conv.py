"""Convolution, with its gradients.

Feature maps have the shape (N, C, H, W) and lie in memory channels last, so that taking windows out is a copy of long
runs, and a 1x1 convolution needs no copy at all. A convolution is then a matrix product (Chellapilla et al., "High
performance convolutional neural networks for document processing", 2006): each window becomes a row of `columns`, each
filter a column of `filters`, and every output value is one row times one column. That is the reference below, and both
gradients follow from it. The kernels compute the same without the copy, or with fewer multiplications.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rcnn._ext.dispatch import compiled
from rcnn.nn.elementwise import relu_gradient, sum_per_channel
from rcnn.nn.fusion import result_of
from rcnn.nn.tensor import Tensor, concatenate
from rcnn.nn.windows import Pair, check_maps, output_size, padded, pair, scatter_windows, windows


def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Pair = 1,
    padding: int | Pair = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
) -> Tensor:
    """Return the cross-correlation of the maps with the filters, (N, O, H', W').

    Parameters
    ----------
    x : (N, C, H, W)
    weight : (O, C / groups, kernel height, kernel width)
    bias : (O,), optional
    stride, padding, dilation : int or (rows, columns)
        Padding is with zeros.
    groups : int
        Of g groups of channels, the g-th part of the filters sees the g-th.

    Raises TypeError for what is not a tensor, ValueError where the channels do not match, the window does not fit, the
    groups do not divide the filters, or the bias has another shape.
    """
    _check(x, weight, bias, groups)
    if groups > 1:
        return _grouped(x, weight, bias, stride, padding, dilation, groups)
    geometry = (pair("stride", stride, 1), pair("padding", padding, 0), pair("dilation", dilation, 1))
    size = output_size(x.shape[2:], weight.shape[2:], *geometry)
    return result_of(Convolution(x.computed(), weight, bias, *geometry, size))


def matrix_product(maps: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return maps.flatten(start_dim=1) W^T + b, (N, O), of maps (N, C, H, W) and weight (O, C * H * W).

    It is the convolution whose window is the whole map.
    """
    maps = maps.computed()
    filters = weight.reshape(len(weight), *maps.shape[1:])  # (O, C, H, W)
    size = (maps.shape[2], maps.shape[3])
    return result_of(
        MatrixProduct(Convolution(maps, filters, bias, stride=size, padding=(0, 0), dilation=(1, 1), size=(1, 1)))
    )


@dataclass(frozen=True)
class Convolution:
    """relu(convolution * scale + bias + residual), with a constant scale (O,); see `rcnn.nn.fusion`."""

    x: Tensor
    weight: Tensor
    bias: Tensor | None
    stride: Pair
    padding: Pair
    dilation: Pair
    size: Pair
    scale: np.ndarray | None = None
    residual: Tensor | None = None
    relu: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.x.shape[0], self.weight.shape[0], *self.size)

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.result_type(self.x.dtype, self.weight.dtype)

    @property
    def parents(self) -> tuple[Tensor, ...]:
        return tuple(one for one in (self.x, self.weight, self.bias, self.residual) if one is not None)

    def scaled(self, scale: np.ndarray, shift: np.ndarray) -> Convolution | None:
        is_plain = not self.relu and all(one is None for one in (self.bias, self.scale, self.residual))
        if not is_plain or scale.dtype != self.dtype:
            return None
        return replace(self, scale=scale, bias=Tensor(shift))

    def added(self, residual: Tensor) -> Convolution | None:
        if self.relu or self.residual is not None or (residual.shape, residual.dtype) != (self.shape, self.dtype):
            return None
        return replace(self, residual=residual)

    def rectified(self) -> Convolution:
        return replace(self, relu=True)

    def compute(self) -> np.ndarray:
        bias, residual = (None if tensor is None else tensor.data for tensor in (self.bias, self.residual))
        after = (self.scale, bias, residual, self.relu)
        return _convolve(self.x.data, self.weight.data, *after, self.stride, self.padding, self.dilation, self.size)

    def gradient(self, out: np.ndarray, g: np.ndarray) -> tuple[np.ndarray | None, ...]:
        x, weight, bias, residual = self.x, self.weight, self.bias, self.residual
        geometry = (self.stride, self.padding, self.dilation)
        wanted = any(parent is not None and parent.requires_grad for parent in (bias, residual))
        g_added, g_sum = _before(g, out if self.relu else None, self.scale, wanted)
        g_x = g_weight = g_bias = None
        if x.requires_grad:
            g_x = _input_gradient(g_sum, weight.data, x.shape, *geometry)
        if weight.requires_grad:
            g_weight = _weight_gradient(g_sum, x.data, weight.shape, *geometry)
        if bias is not None and bias.requires_grad:
            g_bias = sum_per_channel(g_added)
        gradients = ((x, g_x), (weight, g_weight), (bias, g_bias), (residual, g_added))
        return tuple(gradient for parent, gradient in gradients if parent is not None)


@dataclass(frozen=True)
class MatrixProduct:
    """A convolution whose window is the whole map, with its result (N, O, 1, 1) as (N, O)."""

    convolution: Convolution

    @property
    def shape(self) -> tuple[int, ...]:
        return self.convolution.shape[:2]

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.convolution.dtype

    @property
    def parents(self) -> tuple[Tensor, ...]:
        return self.convolution.parents

    def scaled(self, scale: np.ndarray, shift: np.ndarray) -> None:
        return None

    def added(self, residual: Tensor) -> None:
        return None

    def rectified(self) -> MatrixProduct:
        return MatrixProduct(self.convolution.rectified())

    def compute(self) -> np.ndarray:
        return self.convolution.compute().reshape(self.shape)

    def gradient(self, out: np.ndarray, g: np.ndarray) -> tuple[np.ndarray | None, ...]:
        return self.convolution.gradient(out[:, :, None, None], g[:, :, None, None])


def _before(
    g: np.ndarray, out: np.ndarray | None, scale: np.ndarray | None, wanted: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return the gradients of relu(sum * scale + ...) for what is added after the scale, and for the sum.

    out: the result of the ReLU, or None where there is none. The first is g itself if it is not `wanted`.
    """
    if out is None:
        return g, g if scale is None else g * scale[:, None, None]
    after, of_sum = relu_gradient(g, out, scale, plain=wanted or scale is None)
    after = g if after is None else after
    return after, after if of_sum is None else of_sum


def _check(x: Tensor, weight: Tensor, bias: Tensor | None, groups: int) -> None:
    """Raise TypeError or ValueError for what cannot be convolved."""
    check_maps("conv2d", x)
    if x.shape[1] != weight.shape[1] * groups:
        raise ValueError(
            f"the input has {x.shape[1]} channels (shape {x.shape}), "
            f"the filters {weight.shape} want {weight.shape[1] * groups}"
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"bias must have the shape {weight.shape[:1]}, a value per filter, not {bias.shape}")


def _grouped(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: int | Pair,
    padding: int | Pair,
    dilation: int | Pair,
    groups: int,
) -> Tensor:
    """Return a convolution whose g-th part of the filters sees only the g-th part of the channels."""
    outs, ins = weight.shape[0] // groups, weight.shape[1]
    if outs * groups != weight.shape[0]:
        raise ValueError(f"{weight.shape[0]} filters do not divide into {groups} groups")
    parts = []
    for group in range(groups):
        channels, filters = slice(group * ins, (group + 1) * ins), slice(group * outs, (group + 1) * outs)
        own_bias = None if bias is None else bias[filters]
        parts.append(conv2d(x[:, channels], weight[filters], own_bias, stride, padding, dilation))
    return concatenate(parts, axis=1)


# ---------------------------------------------------------------------- the reference, on arrays


@compiled("conv.convolve")
def _convolve(
    x: np.ndarray,
    weight: np.ndarray,
    scale: np.ndarray | None,
    bias: np.ndarray | None,
    residual: np.ndarray | None,
    relu: bool,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    size: Pair,
) -> np.ndarray:
    """Return relu(convolution * scale + bias + residual), (N, O, *size); `size` is (H', W')."""
    out = _columns(x, weight.shape, stride, padding, dilation) @ _as_matrix(weight)  # (N * H' * W', O)
    if scale is not None:
        out *= scale
    if bias is not None:
        out += bias
    out = out.reshape(len(x), *size, len(weight)).transpose(0, 3, 1, 2)  # (N, O, H', W')
    if residual is not None:
        out += residual
    return np.maximum(out, 0, out=out) if relu else out


@compiled("conv.input_gradient")
def _input_gradient(
    g: np.ndarray, weight: np.ndarray, shape: tuple[int, ...], stride: Pair, padding: Pair, dilation: Pair
) -> np.ndarray:
    """The gradient for the maps, of their `shape` (N, C, H, W): each window's goes back to where it was taken."""
    n, outs, rows, columns = g.shape
    g_columns = _as_rows(g) @ _as_matrix(weight).T  # (N * H' * W', kernel height * kernel width * C)
    g_windows = g_columns.reshape(n, rows, columns, *weight.shape[2:], shape[1])
    return scatter_windows(g_windows, shape, stride, padding, dilation)


@compiled("conv.weight_gradient")
def _weight_gradient(
    g: np.ndarray, x: np.ndarray, shape: tuple[int, ...], stride: Pair, padding: Pair, dilation: Pair
) -> np.ndarray:
    """The gradient for the filters, of their `shape` (O, C, kernel height, kernel width).

    The windows are taken out again: keeping them would need kernel height * kernel width times the memory.
    """
    matrix = _columns(x, shape, stride, padding, dilation).T @ _as_rows(g)  # (kernel height * kernel width * C, O)
    return _from_matrix(matrix, shape)


def _columns(x: np.ndarray, weight_shape: tuple[int, ...], stride: Pair, padding: Pair, dilation: Pair) -> np.ndarray:
    """Every window as a row: (N * H' * W', kernel height * kernel width * C)."""
    kernel = (weight_shape[2], weight_shape[3])
    size = output_size(x.shape[2:], kernel, stride, padding, dilation)
    taken = windows(padded(x, padding, 0.0), kernel, stride, dilation, size)
    return taken.reshape(len(x) * size[0] * size[1], kernel[0] * kernel[1] * x.shape[1])


def _as_matrix(weight: np.ndarray) -> np.ndarray:
    """Filters (O, C, kh, kw) as a matrix (kh * kw * C, O), its rows in the order of a window's values."""
    return np.ascontiguousarray(weight.transpose(2, 3, 1, 0)).reshape(-1, weight.shape[0])


def _from_matrix(matrix: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The inverse of `_as_matrix`: (kh * kw * C, O) back to `shape` (O, C, kh, kw)."""
    outs, channels, *kernel = shape
    return matrix.reshape(*kernel, channels, outs).transpose(3, 2, 0, 1)


def _as_rows(features: np.ndarray) -> np.ndarray:
    """Maps (N, C, H, W) as a matrix (N * H * W, C), a row per place."""
    return np.ascontiguousarray(features.transpose(0, 2, 3, 1)).reshape(-1, features.shape[1])

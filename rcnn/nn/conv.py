"""Convolution and its gradients.

Feature maps have the shape (N, C, H, W) and are stored channels last in memory. A window then consists of a few long
contiguous runs of numbers, which are fast to copy. A 1x1 convolution needs no copy at all.

A convolution can be computed as a matrix product (Chellapilla et al., "High performance convolutional neural networks
for document processing", 2006). One matrix has a row for each window, and the other has a column for each filter. Every
output value is the product of a row and a column. If the channels are divided into G groups, there are G such products.
The reference below computes convolutions and both gradients in this way. The compiled kernels compute the same values
without copying the windows, or with fewer multiplications.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

from rcnn._ext.dispatch import compiled
from rcnn._validate import check_size, integer
from rcnn.nn.elementwise import activate, relu_gradient, sum_per_channel
from rcnn.nn.fusion import Operation, extend, result_of
from rcnn.nn.tape import taped
from rcnn.nn.tensor import Tensor, check_tensor
from rcnn.nn.windows import Pair, check_maps, output_size, padded, pair, scatter_windows, windows

GROUPS = integer(1, 2**30)


@taped
def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Pair = 1,
    padding: int | Pair = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
) -> Tensor:
    """Return the cross-correlation of feature maps with filters.

    Parameters
    ----------
    x : (N, C, H, W) Tensor
        The feature maps of N images, with C channels.
    weight : (O, C / groups, kernel height, kernel width) Tensor
        The O filters.
    bias : (O,) Tensor, optional
        One constant per filter, which is added to the output of the filter.
    stride, padding, dilation : int or (rows, columns)
        The step between windows, the width of the border of zeros, and the step between the elements of a window, in
        pixels. The padding is in 0 .. 4096, and both steps are in 1 .. 4096.
    groups : int
        The number of groups into which the channels and the filters are divided, at least 1. The filters of a group use
        only the channels of the same group. If there are as many groups as channels, the convolution is *depthwise*.

    Returns
    -------
    (N, O, H', W') Tensor
        The result, with H' = floor((H + 2 padding - dilation (kernel height - 1) - 1) / stride) + 1. W' is computed in
        the same way from W.

    Raises
    ------
    TypeError
        If x is not a tensor.
    ValueError
        If the numbers of channels do not match, if the window does not fit into the padded map, if the number of
        filters is not divisible by `groups`, if a shape is wrong, if a number is out of range, or if the padded map or
        the result has more than 2^30 elements.

    Examples
    --------
    >>> import numpy as np
    >>> from rcnn.nn import Tensor
    >>> x = Tensor(np.arange(9.0).reshape(1, 1, 3, 3))
    >>> weight = Tensor(np.arange(4.0).reshape(1, 1, 2, 2))
    >>> conv2d(x, weight).data.tolist()
    [[[[19.0, 25.0], [37.0, 43.0]]]]
    """
    check_maps("conv2d", x)
    check_tensor("conv2d", weight, "weight")
    if bias is not None:
        check_tensor("conv2d", bias, "bias")
    groups = GROUPS.check("groups", groups)
    geometry = (pair("stride", stride, 1), pair("padding", padding, 0), pair("dilation", dilation, 1))
    size = _size_of_result(x.shape, weight.shape, None if bias is None else bias.shape, *geometry, groups)

    def convolution(maps: Tensor, filters: Tensor) -> Convolution:
        return Convolution(maps.computed(), filters, bias, *geometry, size, groups=groups)

    extended = extend(x, "convolved", weight, convolution) if groups == 1 else None
    return result_of(convolution(x, weight)) if extended is None else extended


def matrix_product(maps: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return maps.flatten(start_dim=1) W^T + b, computed as a convolution whose window is the whole map.

    Parameters
    ----------
    maps : (N, C, H, W) Tensor
        The feature maps of N images, with C channels. They are not copied.
    weight : (O, C * H * W) Tensor
        The matrix W for O outputs. Its columns are in the order (C, H, W).
    bias : (O,) Tensor or None
        The vector b.

    Returns
    -------
    (N, O) Tensor
        The result, with one row per image.
    """
    maps = maps.computed()
    filters = weight.reshape(len(weight), *maps.shape[1:])  # (O, C, H, W)
    size = (maps.shape[2], maps.shape[3])
    return result_of(MatrixProduct(maps, filters, bias, stride=size, padding=(0, 0), dilation=(1, 1), size=(1, 1)))


@dataclass(eq=False)
class Convolution(Operation):
    """The operation activation(convolution * scale + bias + residual); see `rcnn.nn.fusion`.

    Attributes
    ----------
    x, weight, bias, stride, padding, dilation, groups
        The arguments of `conv2d`. `stride`, `padding` and `dilation` are pairs (rows, columns).
    size : (int, int)
        The height and width of the result.
    scale : (O,) array or None
        One constant factor for each of O filters.
    """

    x: Tensor
    weight: Tensor
    bias: Tensor | None
    stride: Pair
    padding: Pair
    dilation: Pair
    size: Pair
    groups: int = 1
    scale: np.ndarray | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.x.shape[0], self.weight.shape[0], *self.size)

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.result_type(self.x.dtype, self.weight.dtype)

    @property
    def parents(self) -> tuple[Tensor, ...]:
        return tuple([one for one in (self.x, self.weight, self.bias, self.residual) if one is not None])

    def scaled(self, scale: np.ndarray, shift: np.ndarray) -> Convolution | None:
        is_plain = not self.activation and all(one is None for one in (self.bias, self.scale, self.residual))
        if not is_plain or scale.dtype != self.dtype:
            return None
        return self.with_(scale=scale, bias=Tensor(shift))

    def compute(self) -> np.ndarray:
        bias, residual = (None if tensor is None else tensor.data for tensor in (self.bias, self.residual))
        after = (self.scale, bias, residual, self.activation)
        geometry = (self.stride, self.padding, self.dilation, self.groups)
        return _convolve(self.x.data, self.weight.data, *after, *geometry, self.size)

    def gradient(self, out: np.ndarray, g: np.ndarray) -> tuple[np.ndarray | None, ...]:
        x, weight, bias, residual = self.x, self.weight, self.bias, self.residual
        geometry = (self.stride, self.padding, self.dilation, self.groups)
        required = any(parent is not None and parent.requires_grad for parent in (bias, residual))
        g_added, g_sum = _before(g, out if self.activation else None, self.scale, required)
        g_x = g_weight = g_bias = None
        if x.requires_grad:
            g_x = _input_gradient(g_sum, weight.data, x.shape, *geometry)
        if weight.requires_grad:
            g_weight = _weight_gradient(g_sum, x.data, weight.shape, *geometry)
        if bias is not None and bias.requires_grad:
            g_bias = sum_per_channel(g_added)
        gradients = ((x, g_x), (weight, g_weight), (bias, g_bias), (residual, g_added))
        return tuple(gradient for parent, gradient in gradients if parent is not None)


class MatrixProduct(Convolution):
    """A convolution whose window is the whole map. Its value (N, O, 1, 1) is returned as (N, O)."""

    @property
    def shape(self) -> tuple[int, ...]:
        return super().shape[:2]

    def added(self, residual: Tensor) -> None:
        return None

    def compute(self) -> np.ndarray:
        return super().compute().reshape(self.shape)

    def gradient(self, out: np.ndarray, g: np.ndarray) -> tuple[np.ndarray | None, ...]:
        return super().gradient(out[:, :, None, None], g[:, :, None, None])


def _before(
    g: np.ndarray, out: np.ndarray | None, scale: np.ndarray | None, required: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return the gradients (N, O, H', W') of relu(sum * scale + added) with respect to `added` and to `sum`.

    Here, `sum` is the result of the convolution, and `added` is the sum of the bias and the residual. `g` is the
    gradient with respect to the result of the ReLU, and `out` is this result. `out` is None if there is no ReLU.
    Unless the first gradient is `required`, another array may be returned in its place.
    """
    if out is None:
        return g, g if scale is None else g * scale[:, None, None]
    after, of_sum = relu_gradient(g, out, scale, plain=required or scale is None)
    after = g if after is None else after
    return after, after if of_sum is None else of_sum


@functools.lru_cache(1024)
def _size_of_result(
    maps: tuple[int, ...],
    filters: tuple[int, ...],
    bias: tuple[int, ...] | None,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
) -> Pair:
    """Return the (H', W') of a convolution of these shapes. Raise ValueError if they do not match or are too large.

    The result is cached, because these checks take as long as the convolution of a small map.
    """
    if len(filters) != 4 or 0 in filters[2:]:
        raise ValueError(f"conv2d: weight must have shape (O, C / groups, height, width), got {filters}")
    if maps[1] != filters[1] * groups:
        raise ValueError(
            f"conv2d: x must have {filters[1] * groups} channels for weight {filters} and groups={groups}, "
            f"got {maps[1]} (shape {maps})"
        )
    if filters[0] % groups:
        raise ValueError(f"groups must divide the number of filters ({filters[0]}), got {groups}")
    if bias is not None and bias != filters[:1]:
        raise ValueError(f"bias must have shape {filters[:1]}, with one value per filter, got {bias}")
    size = output_size(maps[2:], filters[2:], stride, padding, dilation)
    check_size((maps[0], filters[0], *size), "x and weight")
    check_size((*maps[:2], maps[2] + 2 * padding[0], maps[3] + 2 * padding[1]), "x and padding")
    return size


# ---------------------------------------------------------------------- the reference, on arrays


@compiled("conv.convolve")
def _convolve(
    x: np.ndarray,
    weight: np.ndarray,
    scale: np.ndarray | None,
    bias: np.ndarray | None,
    residual: np.ndarray | None,
    activation: str | None,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
    size: Pair,
) -> np.ndarray:
    """Return activation(convolution * scale + bias + residual) of shape (N, O, *size), where `size` is (H', W')."""
    columns = _columns(x, weight.shape, stride, padding, dilation, groups)
    out = _ungrouped(columns @ _as_matrices(weight, groups))  # (N * H' * W', O)
    if scale is not None:
        out *= scale
    if bias is not None:
        out += bias
    out = out.reshape(len(x), *size, len(weight)).transpose(0, 3, 1, 2)  # (N, O, H', W')
    if residual is not None:
        out += residual
    return out if activation is None else activate(out, activation)


@compiled("conv.input_gradient")
def _input_gradient(
    g: np.ndarray,
    weight: np.ndarray,
    shape: tuple[int, ...],
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
) -> np.ndarray:
    """Return the gradient (N, C, H, W) with respect to the maps. Where windows overlap, their gradients are added."""
    n, _, rows, columns = g.shape
    g_columns = _as_rows(g, groups) @ _as_matrices(weight, groups).transpose(0, 2, 1)  # (G, N * H' * W', kh * kw * C/G)
    g_windows = g_columns.reshape(groups, n, rows, columns, *weight.shape[2:], shape[1] // groups)
    g_windows = g_windows.transpose(1, 2, 3, 4, 5, 0, 6).reshape(n, rows, columns, *weight.shape[2:], shape[1])
    return scatter_windows(g_windows, shape, stride, padding, dilation)


@compiled("conv.weight_gradient")
def _weight_gradient(
    g: np.ndarray,
    x: np.ndarray,
    shape: tuple[int, ...],
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
) -> np.ndarray:
    """Return the gradient (O, C / G, kernel height, kernel width) with respect to the filters.

    The windows are copied from the maps again. Keeping the windows of the forward pass would need kernel height *
    kernel width times as much memory as the maps.
    """
    columns = _columns(x, shape, stride, padding, dilation, groups)
    matrices = columns.transpose(0, 2, 1) @ _as_rows(g, groups)  # (G, kernel height * kernel width * C/G, O/G)
    outs, channels, *kernel = shape
    split = matrices.reshape(groups, *kernel, channels, outs // groups)
    return split.transpose(0, 4, 3, 1, 2).reshape(shape)  # the order of `_as_matrices`, reversed


def _columns(
    x: np.ndarray, weight_shape: tuple[int, ...], stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> np.ndarray:
    """Return the matrix (N * H' * W', kernel height * kernel width * C/G) of each of the G groups: (G, ..., ...).

    A matrix has one row per window.
    """
    outs, channels, *kernel = weight_shape
    places = (kernel[0], kernel[1])
    size = output_size(x.shape[2:], places, stride, padding, dilation)
    taken = windows(padded(x, padding, 0.0), places, stride, dilation, size)  # (N, H', W', kh, kw, C)
    count = len(x) * size[0] * size[1]
    split = taken.reshape(count, kernel[0] * kernel[1], groups, channels)
    return split.transpose(2, 0, 1, 3).reshape(groups, count, kernel[0] * kernel[1] * channels)


def _as_matrices(weight: np.ndarray, groups: int) -> np.ndarray:
    """Return filters (O, C/G, kh, kw) as G matrices (kh * kw * C/G, O/G), whose rows are in the order of a window."""
    outs, channels, *kernel = weight.shape
    split = weight.reshape(groups, outs // groups, channels, *kernel).transpose(0, 3, 4, 2, 1)
    return split.reshape(groups, kernel[0] * kernel[1] * channels, outs // groups)


def _as_rows(features: np.ndarray, groups: int) -> np.ndarray:
    """Return maps (N, O, H, W) as G matrices (N * H * W, O/G) with one row per pixel."""
    n, outs, height, width = features.shape
    split = features.transpose(0, 2, 3, 1).reshape(n * height * width, groups, outs // groups)
    return np.ascontiguousarray(split.transpose(1, 0, 2))


def _ungrouped(matrices: np.ndarray) -> np.ndarray:
    """Return the columns of G matrices (M, O/G) side by side, as one matrix (M, O)."""
    groups, count, outs = matrices.shape
    return np.ascontiguousarray(matrices.transpose(1, 0, 2)).reshape(count, groups * outs)

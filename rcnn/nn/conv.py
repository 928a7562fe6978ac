"""Convolution, with its gradients.

Feature maps have the shape (N, C, H, W) and lie in memory channels last, so that taking windows out is a copy of long
runs, and a 1x1 convolution needs no copy at all. A convolution is then a matrix product (Chellapilla et al., "High
performance convolutional neural networks for document processing", 2006): each window becomes a row of `columns`, each
filter a column of `filters`, and every output value is one row times one column. That is the reference below, and both
gradients follow from it. `rcnn._ext.conv` calls the kernels, which compute the same without the copy, or with fewer
multiplications.
"""

from __future__ import annotations

import numpy as np

from rcnn._ext import conv as kernels
from rcnn.nn import elementwise
from rcnn.nn.elementwise import relu_gradient, sum_over_places
from rcnn.nn.tensor import Tensor, concatenate, record
from rcnn.nn.windows import Pair, check_maps, output_size, padded, pair, scatter_windows, windows


def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Pair = 1,
    padding: int | Pair = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
    *,
    scale: np.ndarray | None = None,
    residual: Tensor | None = None,
    relu: bool = False,
) -> Tensor:
    """The cross-correlation of the maps with the filters, (N, O, H', W').

    x: (N, C, H, W); weight: (O, C / groups, kernel height, kernel width); bias: (O,) or None. stride, padding (zeros)
    and dilation: a number, or one for rows and one for columns. Of g groups of channels, the g-th part of the filters
    sees the g-th.

    What often follows can be done in the same pass over the result, which saves several through memory:
    relu(convolution * scale + bias + residual), with a constant scale (O,) and a residual of the result's shape.

    Raises TypeError for what is no tensor, ValueError where the channels do not match, the window does not fit, the
    groups do not divide the filters, or bias, scale or residual have other shapes.
    """
    _check(x, weight, bias, scale, residual, groups)
    if groups > 1:
        return _grouped(x, weight, bias, stride, padding, dilation, groups, scale, residual, relu)
    how = (pair("stride", stride, 1), pair("padding", padding, 0), pair("dilation", dilation, 1))
    size = output_size(x.shape[2:], weight.shape[2:], *how)
    shape = (x.shape[0], weight.shape[0], *size)
    if residual is not None and residual.shape != shape:
        raise ValueError(f"residual has the shape {residual.shape}, the convolution makes {shape}")
    if scale is not None:
        scale = scale.astype(x.dtype, copy=False)
    inputs = (
        x.data,
        weight.data,
        scale,
        None if bias is None else bias.data,
        None if residual is None else residual.data,
        relu,
    )
    out = (kernels.convolve if _is_fast(x, weight, residual) else _convolve)(*inputs, *how, size)  # (N, O, H', W')

    def vjp(g: np.ndarray) -> tuple[np.ndarray | None, ...]:
        wanted = any(parent is not None and parent.requires_grad for parent in (bias, residual))
        g_after, g_sum = _before(g, out if relu else None, scale, wanted)
        quick = _is_fast(x, weight, residual)
        g_x = g_weight = g_bias = None
        if x.requires_grad:
            g_x = (kernels.input_gradient if quick else _input_gradient)(g_sum, weight.data, x.shape, *how)
        if weight.requires_grad:
            g_weight = (kernels.weight_gradient if quick else _weight_gradient)(g_sum, x.data, weight.shape, *how)
        if bias is not None and bias.requires_grad:
            g_bias = sum_over_places(g_after)
        return tuple(
            grad
            for parent, grad in ((x, g_x), (weight, g_weight), (bias, g_bias), (residual, g_after))
            if parent is not None
        )

    parents = [parent for parent in (x, weight, bias, residual) if parent is not None]
    return record(out, parents, vjp)


def _before(
    g: np.ndarray, out: np.ndarray | None, scale: np.ndarray | None, wanted: bool
) -> tuple[np.ndarray, np.ndarray]:
    """The gradients of relu(sum * scale + ...) for what is added after the scale, and for the sum.

    out: what the positive part gave, or None where none was taken. The first is g itself if it is not `wanted`.
    """
    if out is None:
        return g, g if scale is None else g * scale[:, None, None]
    after, of_sum = relu_gradient(g, out, scale, plain=wanted or scale is None)
    after = g if after is None else after
    return after, after if of_sum is None else of_sum


def _check(
    x: Tensor, weight: Tensor, bias: Tensor | None, scale: np.ndarray | None, residual: Tensor | None, groups: int
) -> None:
    """TypeError or ValueError for what cannot be convolved."""
    check_maps("conv2d", x)
    if x.shape[1] != weight.shape[1] * groups:
        raise ValueError(
            f"the input has {x.shape[1]} channels (shape {x.shape}), "
            f"the filters {weight.shape} want {weight.shape[1] * groups}"
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"bias must have the shape {weight.shape[:1]}, a value per filter, not {bias.shape}")
    if scale is not None and scale.shape != weight.shape[:1]:
        raise ValueError(f"scale must have the shape {weight.shape[:1]}, a value per filter, not {scale.shape}")
    if residual is not None:
        check_maps("conv2d", residual)


def _is_fast(x: Tensor, weight: Tensor, residual: Tensor | None) -> bool:
    """Whether the kernels compute this: they know no sums of nothing."""
    return weight.shape[1] > 0 and elementwise.is_fast(x.data, weight.data, None if residual is None else residual.data)


def _grouped(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: int | Pair,
    padding: int | Pair,
    dilation: int | Pair,
    groups: int,
    scale: np.ndarray | None,
    residual: Tensor | None,
    relu: bool,
) -> Tensor:
    """A convolution whose g-th part of the filters sees only the g-th part of the channels."""
    outs, ins = weight.shape[0] // groups, weight.shape[1]
    if outs * groups != weight.shape[0]:
        raise ValueError(f"{weight.shape[0]} filters do not divide into {groups} groups")
    parts = []
    for group in range(groups):
        mine = slice(group * outs, (group + 1) * outs)
        parts.append(
            conv2d(
                x[:, group * ins : (group + 1) * ins],
                weight[mine],
                None if bias is None else bias[mine],
                stride,
                padding,
                dilation,
                scale=None if scale is None else scale[mine],
                residual=None if residual is None else residual[:, mine],
                relu=relu,
            )
        )
    return concatenate(parts, axis=1)


# ---------------------------------------------------------------------- the reference, on arrays


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
    """relu(convolution * scale + bias + residual), (N, O, *size); `size` is (H', W')."""
    out = _columns(x, weight.shape, stride, padding, dilation) @ _as_matrix(weight)  # (N * H' * W', O)
    if scale is not None:
        out *= scale
    if bias is not None:
        out += bias
    out = out.reshape(len(x), *size, len(weight)).transpose(0, 3, 1, 2)  # (N, O, H', W')
    if residual is not None:
        out += residual
    return np.maximum(out, 0, out=out) if relu else out


def _input_gradient(
    g: np.ndarray, weight: np.ndarray, shape: tuple[int, ...], stride: Pair, padding: Pair, dilation: Pair
) -> np.ndarray:
    """The gradient for the maps, of their `shape` (N, C, H, W): each window's goes back to where it was taken."""
    n, outs, rows, columns = g.shape
    g_columns = _as_rows(g) @ _as_matrix(weight).T  # (N * H' * W', kernel height * kernel width * C)
    g_windows = g_columns.reshape(n, rows, columns, *weight.shape[2:], shape[1])
    return scatter_windows(g_windows, shape, stride, padding, dilation)


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

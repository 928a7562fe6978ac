"""Operations that slide a window over a feature map: convolution and pooling, with their gradients.

Feature maps have the shape (N, C, H, W) and lie in memory channels last. Seen as (N, H, W, C), the values under a
window are `kernel height` runs of `kernel width * C` neighbours, so taking windows out is a copy of long runs, and a
1x1 convolution needs no copy at all.

A convolution is then a matrix product (Chellapilla et al., "High performance convolutional neural networks for document
processing", 2006): each window becomes a row of `columns`, each filter a column of `filters`, and every output value is
one row times one column.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rcnn.nn.tensor import Tensor, check_tensor, concatenate, record

Pair = tuple[int, int]


def pair(name: str, value: int | Sequence[int], smallest: int) -> Pair:
    """(rows, columns) from one number for both, or two; ValueError for anything else and for less than `smallest`."""
    values = tuple(value) if isinstance(value, Sequence) else (value, value)
    if len(values) != 2 or not all(isinstance(v, (int, np.integer)) and v >= smallest for v in values):
        raise ValueError(f"{name} must be one or two whole numbers of at least {smallest}, not {value!r}")
    return int(values[0]), int(values[1])


def check_maps(operation: str, x: Tensor) -> None:
    """Raises TypeError unless x is a tensor, ValueError unless it has the four axes of feature maps."""
    check_tensor(operation, x)
    if x.ndim != 4:
        raise ValueError(f"{operation} takes feature maps of shape (N, C, H, W), not {x.shape}")


def channels_last(features: np.ndarray) -> np.ndarray:
    """The same (N, C, H, W) array, lying in memory channels last (a copy only where it does not yet)."""
    return np.ascontiguousarray(features.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


def output_size(size: Pair, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair = (1, 1)) -> Pair:
    """How many positions (rows, columns) a window has on a padded map; ValueError where it does not fit at all."""
    span = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    room = [s + 2 * p - n for s, p, n in zip(size, padding, span, strict=True)]
    if min(room) < 0:
        raise ValueError(f"a window of {span[0]} x {span[1]} does not fit a map of {size[0]} x {size[1]} "
                         f"with padding {padding[0]}, {padding[1]}")
    return room[0] // stride[0] + 1, room[1] // stride[1] + 1


def conv2d(x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: int | Pair = 1, padding: int | Pair = 0,
           dilation: int | Pair = 1, groups: int = 1) -> Tensor:
    """The cross-correlation of the maps with the filters, (N, O, H', W').

    x: (N, C, H, W); weight: (O, C / groups, kernel height, kernel width); bias: (O,) or None. Raises ValueError where
    the channels do not match or the window does not fit.
    """
    check_maps("conv2d", x)
    if x.shape[1] != weight.shape[1] * groups:
        raise ValueError(f"the input has {x.shape[1]} channels (shape {x.shape}), "
                         f"the filters {weight.shape} want {weight.shape[1] * groups}")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"bias must have the shape {weight.shape[:1]}, a value per filter, not {bias.shape}")
    if groups > 1:
        return _grouped(x, weight, bias, stride, padding, dilation, groups)
    step, pad, gap = pair("stride", stride, 1), pair("padding", padding, 0), pair("dilation", dilation, 1)
    n, channels, height, width = x.shape
    outs, _, kernel_height, kernel_width = weight.shape
    kernel = (kernel_height, kernel_width)
    rows, columns = output_size((height, width), kernel, step, pad, gap)

    def windows() -> np.ndarray:
        """Every window as a row: (N * H' * W', kernel height * kernel width * C)."""
        maps = _padded(x.data, pad, 0.0)
        return _windows(maps, kernel, step, gap, (rows, columns)).reshape(n * rows * columns, len(filters))

    filters = _as_matrix(weight.data)  # (kernel height * kernel width * C, O)
    out = windows() @ filters  # (N * H' * W', O)
    if bias is not None:
        out += bias.data

    def vjp(g: np.ndarray) -> tuple[np.ndarray | None, ...]:
        g = np.ascontiguousarray(g.transpose(0, 2, 3, 1)).reshape(n * rows * columns, outs)  # (N * H' * W', O)
        # The windows are taken out again: keeping them would need kernel height * kernel width times the memory.
        g_weight = _from_matrix(windows().T @ g, weight.shape) if weight.requires_grad else None
        g_x = None
        if x.requires_grad:
            g_windows = (g @ filters.T).reshape(n, rows, columns, *kernel, channels)
            g_x = _scatter_windows(g_windows, x.shape, step, pad, gap)
        return (g_x, g_weight) if bias is None else (g_x, g_weight, _sum_rows(g))

    out = out.reshape(n, rows, columns, outs).transpose(0, 3, 1, 2)  # (N, O, H', W')
    return record(out, (x, weight) if bias is None else (x, weight, bias), vjp)


def max_pool2d(x: Tensor, kernel_size: int | Pair, stride: int | Pair | None = None,
               padding: int | Pair = 0) -> Tensor:
    """The largest value under each window, (N, C, H', W'); the gradient goes to it (to the first one of equals).

    `stride=None` means the kernel's size.
    """
    check_maps("max_pool2d", x)
    kernel = pair("kernel_size", kernel_size, 1)
    step = kernel if stride is None else pair("stride", stride, 1)
    pad = pair("padding", padding, 0)
    if pad[0] > kernel[0] // 2 or pad[1] > kernel[1] // 2:
        raise ValueError(f"padding {padding} is more than half of kernel_size {kernel_size}")
    size = output_size((x.shape[2], x.shape[3]), kernel, step, pad)
    maps = _padded(x.data, pad, -np.inf)
    offsets = [(i, j) for i in range(kernel[0]) for j in range(kernel[1])]
    best = _at_offset(maps, offsets[0], step, size).copy()  # (N, H', W', C)
    for offset in offsets[1:]:
        np.maximum(best, _at_offset(maps, offset, step, size), out=best)

    def vjp(g: np.ndarray) -> tuple[np.ndarray]:
        g = g.transpose(0, 2, 3, 1)  # (N, H', W', C)
        g_maps = np.zeros_like(maps)
        waiting = np.ones(best.shape, bool)  # windows whose largest value has not been met yet
        for offset in offsets:
            met = (_at_offset(maps, offset, step, size) == best) & waiting
            _at_offset(g_maps, offset, step, size)[...] += g * met
            waiting ^= met
        return (_unpadded(g_maps, x.shape, pad),)

    return record(best.transpose(0, 3, 1, 2), (x,), vjp)


def avg_pool2d(x: Tensor, kernel_size: int | Pair, stride: int | Pair | None = None,
               padding: int | Pair = 0) -> Tensor:
    """The mean under each window, padding counted as zeros, (N, C, H', W'). `stride=None` means the kernel's size."""
    check_maps("avg_pool2d", x)
    kernel = pair("kernel_size", kernel_size, 1)
    step = kernel if stride is None else pair("stride", stride, 1)
    pad = pair("padding", padding, 0)
    size = output_size((x.shape[2], x.shape[3]), kernel, step, pad)
    windows = _windows(_padded(x.data, pad, 0.0), kernel, step, (1, 1), size)  # (N, H', W', kh, kw, C)
    out, taken = windows.mean(axis=(3, 4)), windows.shape

    def vjp(g: np.ndarray) -> tuple[np.ndarray]:
        share = g.transpose(0, 2, 3, 1)[:, :, :, None, None] / (kernel[0] * kernel[1])
        return (_scatter_windows(np.broadcast_to(share, taken), x.shape, step, pad, (1, 1)),)

    return record(out.transpose(0, 3, 1, 2), (x,), vjp)


def _grouped(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int | Pair, padding: int | Pair,
             dilation: int | Pair, groups: int) -> Tensor:
    """A convolution whose g-th part of the filters sees only the g-th part of the channels."""
    outs, ins = weight.shape[0] // groups, weight.shape[1]
    if outs * groups != weight.shape[0]:
        raise ValueError(f"{weight.shape[0]} filters do not divide into {groups} groups")
    parts = []
    for group in range(groups):
        mine = slice(group * outs, (group + 1) * outs)
        parts.append(conv2d(x[:, group * ins:(group + 1) * ins], weight[mine], None if bias is None else bias[mine],
                            stride, padding, dilation))
    return concatenate(parts, axis=1)


def _padded(features: np.ndarray, pad: Pair, value: float) -> np.ndarray:
    """The maps as (N, H + 2 * pad, W + 2 * pad, C), contiguous, with `value` around them."""
    maps = features.transpose(0, 2, 3, 1)
    if pad == (0, 0):
        return np.ascontiguousarray(maps)
    n, height, width, channels = maps.shape
    out = np.full((n, height + 2 * pad[0], width + 2 * pad[1], channels), value, maps.dtype)
    out[:, pad[0]:pad[0] + height, pad[1]:pad[1] + width] = maps
    return out


def _unpadded(maps: np.ndarray, shape: tuple[int, ...], pad: Pair) -> np.ndarray:
    """(N, C, H, W) without the border of padded (N, H + 2 * pad, W + 2 * pad, C) maps."""
    inner = maps[:, pad[0]:pad[0] + shape[2], pad[1]:pad[1] + shape[3]]
    return np.ascontiguousarray(inner).transpose(0, 3, 1, 2)


def _windows(maps: np.ndarray, kernel: Pair, stride: Pair, dilation: Pair, size: Pair) -> np.ndarray:
    """A read-only view of every window of (N, H, W, C) maps: (N, H', W', kernel height, kernel width, C)."""
    n, _, _, channels = maps.shape
    at_image, at_row, at_column, at_channel = maps.strides
    strides = (at_image, stride[0] * at_row, stride[1] * at_column, dilation[0] * at_row, dilation[1] * at_column,
               at_channel)
    return np.lib.stride_tricks.as_strided(maps, (n, *size, *kernel, channels), strides, writeable=False)


def _at_offset(maps: np.ndarray, offset: Pair, stride: Pair, size: Pair) -> np.ndarray:
    """A view of the value that each window has at one offset: (N, H', W', C)."""
    (i, j), (rows, columns) = offset, size
    return maps[:, i:i + stride[0] * (rows - 1) + 1:stride[0], j:j + stride[1] * (columns - 1) + 1:stride[1]]


def _scatter_windows(windows: np.ndarray, shape: tuple[int, ...], stride: Pair, pad: Pair,
                     dilation: Pair) -> np.ndarray:
    """The adjoint of taking windows out: every value of (N, H', W', kh, kw, C) is added to where it came from.

    The result has `shape` (N, C, H, W). One addition per offset in the window: within one, no two windows overlap.
    """
    n, channels, height, width = shape
    _, rows, columns, kernel_height, kernel_width, _ = windows.shape
    if (kernel_height, kernel_width) == stride == (1, 1) and pad == (0, 0):
        return windows.reshape(n, height, width, channels).transpose(0, 3, 1, 2)
    maps = np.zeros((n, height + 2 * pad[0], width + 2 * pad[1], channels), windows.dtype)
    for i in range(kernel_height):
        for j in range(kernel_width):
            offset = (i * dilation[0], j * dilation[1])
            _at_offset(maps, offset, stride, (rows, columns))[...] += windows[:, :, :, i, j]
    return _unpadded(maps, shape, pad)


def _as_matrix(weight: np.ndarray) -> np.ndarray:
    """Filters (O, C, kh, kw) as a matrix (kh * kw * C, O), its rows in the order of a window's values."""
    return np.ascontiguousarray(weight.transpose(2, 3, 1, 0)).reshape(-1, weight.shape[0])


def _from_matrix(matrix: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The inverse of `_as_matrix`: (kh * kw * C, O) back to `shape` (O, C, kh, kw)."""
    outs, channels, *kernel = shape
    return matrix.reshape(*kernel, channels, outs).transpose(3, 2, 0, 1)


def _sum_rows(matrix: np.ndarray) -> np.ndarray:
    """The sum over the rows, as a matrix product: BLAS adds in blocks, which is both quicker and more accurate."""
    return np.ones(len(matrix), matrix.dtype) @ matrix

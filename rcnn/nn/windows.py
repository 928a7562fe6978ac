"""Windows that slide over feature maps: their sizes, how they are taken out of a map, and how they are put back.

Feature maps have the shape (N, C, H, W) and lie in memory channels last. Seen as (N, H, W, C), the values under a
window are `kernel height` runs of `kernel width * C` neighbours, so taking windows out is a copy of long runs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rcnn.nn.tensor import Tensor, check_tensor

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


def check_pixels(operation: str, x: Tensor) -> None:
    """Raises as `check_maps`, and ValueError for maps without a pixel."""
    check_maps(operation, x)
    if 0 in x.shape[2:]:
        raise ValueError(f"{operation} takes feature maps (N, C, H, W) of at least one pixel, not {x.shape}")


def channels_last(features: np.ndarray) -> np.ndarray:
    """The same (N, C, H, W) array, lying in memory channels last (a copy only where it does not yet)."""
    return np.ascontiguousarray(features.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


def output_size(
    size: Sequence[int], kernel: Sequence[int], stride: Pair, padding: Pair, dilation: Pair = (1, 1)
) -> Pair:
    """How many positions (rows, columns) a window has on a padded map; ValueError where it does not fit at all."""
    span = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    room = [s + 2 * p - n for s, p, n in zip(size, padding, span, strict=True)]
    if min(room) < 0:
        raise ValueError(
            f"a window of {span[0]} x {span[1]} does not fit a map of {size[0]} x {size[1]} "
            f"with padding {padding[0]}, {padding[1]}"
        )
    return room[0] // stride[0] + 1, room[1] // stride[1] + 1


def padded(features: np.ndarray, pad: Pair, value: float) -> np.ndarray:
    """The maps as (N, H + 2 * pad, W + 2 * pad, C), contiguous, with `value` around them."""
    maps = features.transpose(0, 2, 3, 1)
    if pad == (0, 0):
        return np.ascontiguousarray(maps)
    n, height, width, channels = maps.shape
    out = np.full((n, height + 2 * pad[0], width + 2 * pad[1], channels), value, maps.dtype)
    out[:, pad[0] : pad[0] + height, pad[1] : pad[1] + width] = maps
    return out


def unpadded(maps: np.ndarray, shape: tuple[int, ...], pad: Pair) -> np.ndarray:
    """(N, C, H, W) without the border of padded (N, H + 2 * pad, W + 2 * pad, C) maps."""
    inner = maps[:, pad[0] : pad[0] + shape[2], pad[1] : pad[1] + shape[3]]
    return np.ascontiguousarray(inner).transpose(0, 3, 1, 2)


def windows(maps: np.ndarray, kernel: Pair, stride: Pair, dilation: Pair, size: Pair) -> np.ndarray:
    """A read-only view of every window of (N, H, W, C) maps: (N, H', W', kernel height, kernel width, C)."""
    n, _, _, channels = maps.shape
    at_image, at_row, at_column, at_channel = maps.strides
    strides = (
        at_image,
        stride[0] * at_row,
        stride[1] * at_column,
        dilation[0] * at_row,
        dilation[1] * at_column,
        at_channel,
    )
    return np.lib.stride_tricks.as_strided(maps, (n, *size, *kernel, channels), strides, writeable=False)


def at_offset(maps: np.ndarray, offset: Pair, stride: Pair, size: Pair) -> np.ndarray:
    """A view of the value that each window has at one offset: (N, H', W', C)."""
    (i, j), (rows, columns) = offset, size
    return maps[:, i : i + stride[0] * (rows - 1) + 1 : stride[0], j : j + stride[1] * (columns - 1) + 1 : stride[1]]


def scatter_windows(windows: np.ndarray, shape: tuple[int, ...], stride: Pair, pad: Pair, dilation: Pair) -> np.ndarray:
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
            at_offset(maps, offset, stride, (rows, columns))[...] += windows[:, :, :, i, j]
    return unpadded(maps, shape, pad)

"""Pooling: the maximum or the mean in a window that slides over a feature map, with gradients."""

from __future__ import annotations

import numpy as np

from rcnn._ext.dispatch import compiled
from rcnn.nn.tape import taped
from rcnn.nn.tensor import Tensor, is_recording, record
from rcnn.nn.windows import (
    Pair,
    at_offset,
    check_pixels,
    output_size,
    padded,
    pair,
    scatter_windows,
    unpadded,
    windows,
)


@taped
def max_pool2d(x: Tensor, kernel_size: int | Pair, stride: int | Pair | None = None, padding: int | Pair = 0) -> Tensor:
    """Return the maximum in each window.

    The gradient goes to the element with the maximum; if there are several, it goes to the first one. If a window
    contains NaN, its maximum is NaN and no gradient flows to its elements.

    Parameters
    ----------
    x : (N, C, H, W) Tensor
        The feature maps of N images, with C channels and at least one pixel.
    kernel_size : int or (rows, columns)
        The size of the window, in pixels, in 1 .. 4096.
    stride : int or (rows, columns), optional
        The step between windows, in pixels, in 1 .. 4096; by default, the size of the window.
    padding : int or (rows, columns)
        The width of the border, in pixels, at most half of the window. The values in the border are minus infinity.

    Returns
    -------
    (N, C, H', W') Tensor
        The maxima in H' x W' windows.

    Raises
    ------
    TypeError
        If x is not a tensor.
    ValueError
        If x has no pixels, if a number is out of range, if the window does not fit into the padded map, or if the
        padding is larger than half of the window.
    """
    kernel, step, pad, size = _check("max_pool2d", x, kernel_size, stride, padding)
    if pad[0] > kernel[0] // 2 or pad[1] > kernel[1] // 2:
        raise ValueError(f"padding must be at most half of kernel_size={kernel}, got {pad}")
    shape = x.shape
    out, winners = _max_pool(x.data, kernel, step, pad, size, is_recording() and x.requires_grad)
    if winners is None:
        return Tensor(out)
    return record(out, (x,), lambda g: (_max_pool_gradient(g, winners, kernel, step, pad, shape),))


@taped
def avg_pool2d(x: Tensor, kernel_size: int | Pair, stride: int | Pair | None = None, padding: int | Pair = 0) -> Tensor:
    """Return the mean in each window.

    Parameters
    ----------
    x : (N, C, H, W) Tensor
        The feature maps of N images, with C channels and at least one pixel.
    kernel_size : int or (rows, columns)
        The size of the window, in pixels, in 1 .. 4096.
    stride : int or (rows, columns), optional
        The step between windows, in pixels, in 1 .. 4096; by default, the size of the window.
    padding : int or (rows, columns)
        The width of the border of zeros, in pixels, at most the size of the window. The mean includes these zeros.

    Returns
    -------
    (N, C, H', W') Tensor
        The means in H' x W' windows.

    Raises
    ------
    TypeError
        If x is not a tensor.
    ValueError
        If x has no pixels, if a number is out of range, if the window does not fit into the padded map, or if the
        padding is larger than the window.
    """
    kernel, step, pad, size = _check("avg_pool2d", x, kernel_size, stride, padding)
    shape = x.shape
    out = _avg_pool(x.data, kernel, step, pad, size)
    return record(out, (x,), lambda g: (_avg_pool_gradient(g, kernel, step, pad, shape),))


def _check(
    operation: str, x: Tensor, kernel_size: int | Pair, stride: int | Pair | None, padding: int | Pair
) -> tuple[Pair, Pair, Pair, Pair]:
    """Return the kernel, the stride, the padding and the number of windows, each as a pair (rows, columns)."""
    check_pixels(operation, x)
    kernel = pair("kernel_size", kernel_size, 1)
    step = kernel if stride is None else pair("stride", stride, 1)
    pad = pair("padding", padding, 0)
    if pad[0] > kernel[0] or pad[1] > kernel[1]:
        raise ValueError(f"padding must be at most kernel_size={kernel}, got {pad}")
    return kernel, step, pad, output_size((x.shape[2], x.shape[3]), kernel, step, pad)


# ---------------------------------------------------------------------- the maximum


@compiled("pooling.max_pool")
def _max_pool(
    x: np.ndarray, kernel: Pair, stride: Pair, padding: Pair, size: Pair, with_winners: bool
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the maxima (N, C, *size) of all windows, and their winners (N, *size, C); None unless `with_winners`.

    The winner of a window is the index of its maximum, counted row by row. If several elements are equal to the
    maximum, the winner is the first of them. If the window contains NaN, the winner is -1. The winners have the
    dtype of x.
    """
    maps = padded(x, padding, -np.inf)
    values = [at_offset(maps, offset, stride, size) for offset in _offsets(kernel)]  # (N, H', W', C) each
    largest = values[0].copy()
    for value in values[1:]:
        np.maximum(largest, value, out=largest)
    winners = None
    if with_winners:
        winners = np.full_like(largest, -1)
        for index in reversed(range(len(values))):  # backwards, so that the first maximum is written last
            np.putmask(winners, values[index] == largest, index)
    return largest.transpose(0, 3, 1, 2), winners


@compiled("pooling.max_pool_gradient")
def _max_pool_gradient(
    g: np.ndarray, winners: np.ndarray, kernel: Pair, stride: Pair, padding: Pair, shape: tuple[int, ...]
) -> np.ndarray:
    """Return the gradient with respect to the input of `_max_pool`. Its shape is `shape`, (N, C, H, W)."""
    n, channels, height, width = shape
    g_maps = np.zeros((n, height + 2 * padding[0], width + 2 * padding[1], channels), g.dtype)
    g = g.transpose(0, 2, 3, 1)  # (N, H', W', C)
    size = (g.shape[1], g.shape[2])
    for index, offset in enumerate(_offsets(kernel)):
        at_offset(g_maps, offset, stride, size)[...] += np.where(winners == index, g, 0)
    return unpadded(g_maps, shape, padding)


def _offsets(kernel: Pair) -> list[Pair]:
    """Return the (row, column) of every element of a window, row by row."""
    return [(i, j) for i in range(kernel[0]) for j in range(kernel[1])]


# ---------------------------------------------------------------------- the mean


@compiled("pooling.avg_pool")
def _avg_pool(x: np.ndarray, kernel: Pair, stride: Pair, padding: Pair, size: Pair) -> np.ndarray:
    """Return the mean (N, C, *size) of each window."""
    taken = windows(padded(x, padding, 0.0), kernel, stride, (1, 1), size)  # (N, H', W', kh, kw, C)
    return taken.mean(axis=(3, 4)).transpose(0, 3, 1, 2)


@compiled("pooling.avg_pool_gradient")
def _avg_pool_gradient(g: np.ndarray, kernel: Pair, stride: Pair, padding: Pair, shape: tuple[int, ...]) -> np.ndarray:
    """Return the gradient with respect to the input of `_avg_pool`. Its shape is `shape`, (N, C, H, W)."""
    n, channels, rows, columns = g.shape
    share = g.transpose(0, 2, 3, 1)[:, :, :, None, None] / (kernel[0] * kernel[1])  # (N, H', W', 1, 1, C)
    each = np.broadcast_to(share, (n, rows, columns, *kernel, channels))
    return scatter_windows(each, shape, stride, padding, (1, 1))

"""Pooling: the largest or the mean value under a window that slides over a feature map, with the gradients.

Each comes twice, as a kernel for float32 and as its reference in NumPy: a function of the maps that gives the result
and the function that turns the result's gradient into that of the maps.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rcnn._ext import backend
from rcnn._ext.layout import pixels
from rcnn._ext.memory import empty, empty_maps
from rcnn.nn import elementwise
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

Pooled = tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]


def max_pool2d(x: Tensor, kernel_size: int | Pair, stride: int | Pair | None = None, padding: int | Pair = 0) -> Tensor:
    """The largest value under each window, (N, C, H', W'); the gradient goes to it (to the first one of equals).

    `stride=None` means the kernel's size. NaN in a window is its largest value, to which no gradient goes. Raises
    TypeError for what is no tensor, ValueError for maps without pixels, a window that does not fit, or padding of more
    than half of it.
    """
    kernel, step, pad, size = _check("max_pool2d", x, kernel_size, stride, padding)
    if pad[0] > kernel[0] // 2 or pad[1] > kernel[1] // 2:
        raise ValueError(f"padding {padding} is more than half of kernel_size {kernel_size}")
    if elementwise.is_fast(x.data):
        out, gradient = _pool(x.data, kernel, step, pad, size, mean=False, noted=is_recording() and x.requires_grad)
    else:
        out, gradient = _max_pool(x.data, kernel, step, pad, size)
    return record(out, (x,), lambda g: (gradient(g),))


def avg_pool2d(x: Tensor, kernel_size: int | Pair, stride: int | Pair | None = None, padding: int | Pair = 0) -> Tensor:
    """The mean under each window, padding counted as zeros, (N, C, H', W'). `stride=None` means the kernel's size.

    Raises TypeError for what is no tensor, ValueError for maps without pixels or a window that does not fit.
    """
    kernel, step, pad, size = _check("avg_pool2d", x, kernel_size, stride, padding)
    if elementwise.is_fast(x.data):
        out, gradient = _pool(x.data, kernel, step, pad, size, mean=True, noted=False)
    else:
        out, gradient = _avg_pool(x.data, kernel, step, pad, size)
    return record(out, (x,), lambda g: (gradient(g),))


def _check(
    operation: str, x: Tensor, kernel_size: int | Pair, stride: int | Pair | None, padding: int | Pair
) -> tuple[Pair, Pair, Pair, Pair]:
    """Kernel, stride and padding as pairs, and how many windows there are."""
    check_pixels(operation, x)
    kernel = pair("kernel_size", kernel_size, 1)
    step = kernel if stride is None else pair("stride", stride, 1)
    pad = pair("padding", padding, 0)
    return kernel, step, pad, output_size((x.shape[2], x.shape[3]), kernel, step, pad)


# ---------------------------------------------------------------------- by kernels


def _pool(x: np.ndarray, kernel: Pair, step: Pair, pad: Pair, size: Pair, mean: bool, noted: bool) -> Pooled:
    """The mean, or the largest; which place is the largest is kept where the gradient is recorded."""
    how = np.array([kernel, step, pad], np.intp)
    shape = x.shape
    out = empty_maps((shape[0], shape[1], *size))
    winners = empty((shape[0], *size, shape[1])) if noted else None
    work = out.size * kernel[0] * kernel[1]
    backend.pooling_kernels.pool(pixels(x), how, mean, pixels(out), winners, backend.threads_for(work))

    def gradient(g: np.ndarray) -> np.ndarray:
        g_x = empty_maps(shape)
        backend.pooling_kernels.pool_gradient(pixels(g), winners, how, pixels(g_x), backend.threads_for(work))
        return g_x

    return out, gradient


# ---------------------------------------------------------------------- the references


def _max_pool(x: np.ndarray, kernel: Pair, step: Pair, pad: Pair, size: Pair) -> Pooled:
    maps = padded(x, pad, -np.inf)
    offsets = [(i, j) for i in range(kernel[0]) for j in range(kernel[1])]
    best = at_offset(maps, offsets[0], step, size).copy()  # (N, H', W', C)
    for offset in offsets[1:]:
        np.maximum(best, at_offset(maps, offset, step, size), out=best)

    def gradient(g: np.ndarray) -> np.ndarray:
        g = g.transpose(0, 2, 3, 1)  # (N, H', W', C)
        g_maps = np.zeros_like(maps)
        waiting = np.ones(best.shape, bool)  # windows whose largest value has not been met yet
        for offset in offsets:
            met = (at_offset(maps, offset, step, size) == best) & waiting
            at_offset(g_maps, offset, step, size)[...] += np.where(met, g, 0)
            waiting ^= met
        return unpadded(g_maps, x.shape, pad)

    return best.transpose(0, 3, 1, 2), gradient


def _avg_pool(x: np.ndarray, kernel: Pair, step: Pair, pad: Pair, size: Pair) -> Pooled:
    taken = windows(padded(x, pad, 0.0), kernel, step, (1, 1), size)  # (N, H', W', kh, kw, C)
    out, shape = taken.mean(axis=(3, 4)), taken.shape

    def gradient(g: np.ndarray) -> np.ndarray:
        share = g.transpose(0, 2, 3, 1)[:, :, :, None, None] / (kernel[0] * kernel[1])
        return scatter_windows(np.broadcast_to(share, shape), x.shape, step, pad, (1, 1))

    return out.transpose(0, 3, 1, 2), gradient

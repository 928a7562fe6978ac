"""The drivers of the kernels of `rcnn.nn.pooling`. A `window` consists of a kernel size, a stride and a padding."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rcnn._ext import backend, load
from rcnn._ext.layout import pixels
from rcnn._ext.memory import empty, empty_maps

if TYPE_CHECKING:
    from rcnn._ext import _pooling as kernels
else:
    kernels = load("_pooling")

Pair = tuple[int, int]


def max_pool(
    x: np.ndarray, kernel: Pair, stride: Pair, padding: Pair, size: Pair, with_winners: bool
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the maxima (N, C, *size) of all windows, and the indices of the maxima (None unless `with_winners`)."""
    winners = empty((len(x), *size, x.shape[1])) if with_winners else None
    return _pool(x, (kernel, stride, padding), size, False, winners), winners


def max_pool_gradient(
    g: np.ndarray, winners: np.ndarray, kernel: Pair, stride: Pair, padding: Pair, shape: tuple[int, ...]
) -> np.ndarray:
    """Return the gradient with respect to the input of `max_pool`, whose shape is `shape` (N, C, H, W)."""
    return _pool_gradient(g, winners, (kernel, stride, padding), shape)


def avg_pool(x: np.ndarray, kernel: Pair, stride: Pair, padding: Pair, size: Pair) -> np.ndarray:
    """Return the mean (N, C, *size) of each window."""
    return _pool(x, (kernel, stride, padding), size, True, None)


def avg_pool_gradient(g: np.ndarray, kernel: Pair, stride: Pair, padding: Pair, shape: tuple[int, ...]) -> np.ndarray:
    """Return the gradient with respect to the input of `avg_pool`, whose shape is `shape` (N, C, H, W)."""
    return _pool_gradient(g, None, (kernel, stride, padding), shape)


def _pool(
    x: np.ndarray, window: tuple[Pair, Pair, Pair], size: Pair, mean: bool, winners: np.ndarray | None
) -> np.ndarray:
    """Return the mean or the maximum of each window (N, C, *size). Write the winners into `winners`, if given."""
    out = empty_maps((len(x), x.shape[1], *size))
    threads = _threads(out, window)
    kernels.pool(pixels(x), np.array(window, np.intp), mean, pixels(out), winners, threads)
    return out


def _pool_gradient(
    g: np.ndarray, winners: np.ndarray | None, window: tuple[Pair, Pair, Pair], shape: tuple[int, ...]
) -> np.ndarray:
    """Return the gradient (N, C, H, W) of max pooling, or of average pooling if `winners` is None."""
    g_x = empty_maps(shape)
    kernels.pool_gradient(pixels(g), winners, np.array(window, np.intp), pixels(g_x), _threads(g, window))
    return g_x


def _threads(windows: np.ndarray, window: tuple[Pair, Pair, Pair]) -> int:
    """Return the number of threads for a kernel that reads every element of the N * C * H' * W' windows."""
    kernel, _, _ = window
    return backend.threads_for(windows.size * kernel[0] * kernel[1])

"""Arrays for what passes through a network, in memory that is used again.

`np.empty` fetches fresh pages from the operating system for every large array; here the memory of an array that nobody
holds any longer goes to the next. Nothing else differs: an array is freed when its last reference goes.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from rcnn._ext import backend, load

SMALL = 1 << 16  # bytes; what NumPy itself keeps ready


def empty(shape: tuple[int, ...], dtype: Any = np.float32) -> np.ndarray:
    """Return a contiguous, uninitialised array of this shape."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size < SMALL or not backend.runs_kernels():
        return np.empty(shape, dtype)
    return np.frombuffer(_kernel().Block(size), dtype).reshape(shape)


def empty_maps(shape: tuple[int, ...], dtype: Any = np.float32) -> np.ndarray:
    """Return uninitialised feature maps of the shape (N, C, H, W) that lie in memory channels last."""
    n, channels, height, width = shape
    return empty((n, height, width, channels), dtype).transpose(0, 3, 1, 2)


@contextmanager
def network_pass() -> Iterator[None]:
    """A block that is one pass through a network.

    One pool of threads works in it. At its end, memory that the pass did not use is given back to the system.
    """
    try:
        with backend.one_pool():
            yield
    finally:
        if _kernel.cache_info().currsize:  # blocks were given out
            _kernel().pass_ends()


@functools.cache
def _kernel() -> Any:
    return load("_memory")

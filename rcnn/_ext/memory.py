"""Arrays for the values of a network; their memory is reused.

For every large array, `np.empty` gets new pages from the operating system. The functions of this module instead reuse
the memory of an array that is no longer referenced. In all other respects, they return ordinary NumPy arrays.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from rcnn._ext import backend, load

SMALL = 1 << 16  # bytes; smaller arrays come from NumPy's own allocator


def empty(shape: tuple[int, ...], dtype: Any = np.float32) -> np.ndarray:
    """Return a contiguous, uninitialised array of this shape."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size < SMALL or not backend.runs_kernels():
        return np.empty(shape, dtype)
    return np.frombuffer(_kernel().Block(size), dtype).reshape(shape)


def empty_maps(shape: tuple[int, ...], dtype: Any = np.float32) -> np.ndarray:
    """Return uninitialised feature maps of shape (N, C, H, W), stored channels last in memory."""
    n, channels, height, width = shape
    return empty((n, height, width, channels), dtype).transpose(0, 3, 1, 2)


@contextmanager
def network_pass() -> Iterator[None]:
    """Mark the block as one forward or backward pass through a network.

    Inside the block, only one pool of threads is active (see `one_pool`). At the end of the block, memory that was kept
    for reuse but not used in the pass is returned to the operating system.
    """
    try:
        with backend.one_pool():
            yield
    finally:
        if _kernel.cache_info().currsize:  # arrays were created
            _kernel().pass_ends()


@functools.cache
def _kernel() -> Any:
    return load("_memory")

"""Arrays for the values of a network, in memory that is reused.

`np.empty` fetches fresh pages from the operating system for every large array. Here, the memory of an array that is no
longer referenced is reused for the next one. Otherwise these are ordinary arrays, freed with their last reference.
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
    """Return uninitialised feature maps of the shape (N, C, H, W) that lie in memory channels last."""
    n, channels, height, width = shape
    return empty((n, height, width, channels), dtype).transpose(0, 3, 1, 2)


@contextmanager
def network_pass() -> Iterator[None]:
    """Mark the block as one forward or backward pass through a network.

    Only one pool of threads works inside the block (see `one_pool`). At its end, memory that the pass did not use is
    returned to the system.
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

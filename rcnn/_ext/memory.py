"""Arrays for the values of a network; their memory is reused.

For every large array, `np.empty` gets new pages from the operating system. The functions of this module instead reuse
the memory of an array that is no longer referenced. In all other respects, they return ordinary NumPy arrays.
"""

from __future__ import annotations

import contextvars
import functools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from rcnn._ext import backend, load

_shared: contextvars.ContextVar[dict[Any, Any] | None] = contextvars.ContextVar("shared", default=None)

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
def shared_filters() -> Iterator[None]:
    """Rearrange filters only once in the block, even if several convolutions use them.

    The kernels copy the filters of a convolution into another order, or transform them. The result is kept until the
    end of the block, so the filters must not change in the block.
    """
    token = _shared.set({})
    try:
        yield
    finally:
        _shared.reset(token)


def empty_filters(weight: np.ndarray, size: int, kind: str) -> tuple[np.ndarray, bool]:
    """Return an array (size,) for rearranged filters, and whether they are already in it; see `shared_filters`.

    `kind` is the name of the rearrangement.
    """
    shared = _shared.get()
    if shared is None:
        return empty((size,)), False
    known = shared.get((id(weight), kind))
    if known is not None:
        return known[0], True
    filters = empty((size,))
    shared[id(weight), kind] = filters, weight  # as long as the array exists, no other array has the same id
    return filters, False


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

"""Arrays for what passes through a network, in memory that is used again.

`np.empty` fetches fresh pages from the operating system for every large array; here the memory of an array that nobody
holds any longer goes to the next. Nothing else differs: an array is freed when its last reference goes.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from rcnn._ext import backend

SMALL = 1 << 16  # bytes; what NumPy itself keeps ready


def empty(shape: tuple[int, ...], dtype: Any = np.float32) -> np.ndarray:
    """A contiguous array of this shape, holding whatever was there."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size < SMALL or not backend.runs_kernels():
        return np.empty(shape, dtype)
    block: Any = backend.memory.Block(size)  # NumPy's types know no other buffers than Python's own
    return np.frombuffer(block, dtype).reshape(shape)


def empty_maps(shape: tuple[int, ...], dtype: Any = np.float32) -> np.ndarray:
    """Feature maps of the shape (N, C, H, W) that lie in memory channels last, holding whatever was there."""
    n, channels, height, width = shape
    return empty((n, height, width, channels), dtype).transpose(0, 3, 1, 2)

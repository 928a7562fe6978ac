"""The driver of the kernel of `rcnn.transform`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rcnn._ext import backend, load
from rcnn._ext.memory import empty

if TYPE_CHECKING:
    from rcnn._ext import _resampling as kernels
else:
    kernels = load("_resampling")

Taps = tuple[np.ndarray, np.ndarray, np.ndarray]


def resample(image: np.ndarray, rows: Taps, columns: Taps) -> np.ndarray:
    """Return an image (H, W, C) resized to (H', W', C). `rows` and `columns` are results of `bilinear_taps`."""
    _, width, channels = image.shape
    out = empty((len(rows[0]), len(columns[0]), channels))
    threads = backend.threads_for(out.size)
    scratch = empty((threads, width * channels))
    kernels.bilinear(np.ascontiguousarray(image), *rows, *columns, scratch, out, threads)
    return out

"""The drivers of the kernels of `rcnn.nn.resize`: nearest-neighbour resampling of maps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rcnn._ext import backend, load
from rcnn._ext.layout import pixels
from rcnn._ext.memory import empty_maps

if TYPE_CHECKING:
    from rcnn._ext import _resampling as kernels
else:
    kernels = load("_resampling")


def nearest(x: np.ndarray, rows: np.ndarray, columns: np.ndarray, lateral: np.ndarray | None) -> np.ndarray:
    """Enlarge maps x to (N, C, H, W): out[n, c, i, j] = x[n, c, rows[i], columns[j]], plus `lateral` if it is given."""
    out = empty_maps((*x.shape[:2], len(rows), len(columns)))
    added = None if lateral is None else pixels(lateral)
    kernels.enlarge(pixels(x), rows, columns, added, pixels(out), backend.threads_for(out.size))
    return out


def nearest_gradient(g: np.ndarray, rows: np.ndarray, columns: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return the gradient of `nearest` with respect to x, whose shape is `shape` (N, C, h, w).

    `rows` and `columns` are in ascending order, so all copies of one element are next to each other and can be summed
    as a block.
    """
    out = empty_maps(shape)
    row_starts = np.searchsorted(rows, np.arange(shape[2] + 1))  # (h + 1,)
    column_starts = np.searchsorted(columns, np.arange(shape[3] + 1))  # (w + 1,)
    kernels.gather(pixels(g), row_starts, column_starts, pixels(out), backend.threads_for(g.size))
    return out

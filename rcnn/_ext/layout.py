"""Memory layout of feature maps: channels last, whatever the order of their axes."""

from __future__ import annotations

import numpy as np


def pixels(maps: np.ndarray) -> np.ndarray:
    """Return maps (N, C, H, W) as (N, H, W, C), contiguous; a view if they lie channels last."""
    return np.ascontiguousarray(maps.transpose(0, 2, 3, 1))


def read_only(array: np.ndarray) -> np.ndarray:
    """Return a view of the array that cannot be written to."""
    view = array.view()
    view.flags.writeable = False
    return view

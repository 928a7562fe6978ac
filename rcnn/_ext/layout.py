"""Memory layout of feature maps: they are stored channels last, although their shape is (N, C, H, W)."""

from __future__ import annotations

import numpy as np


def pixels(maps: np.ndarray) -> np.ndarray:
    """Return maps (N, C, H, W) as a contiguous array (N, H, W, C). If they are stored channels last, it is a view."""
    return np.ascontiguousarray(maps.transpose(0, 2, 3, 1))

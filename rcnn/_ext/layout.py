"""Memory layout of feature maps: channels last, whatever the order of their axes."""

from __future__ import annotations

import numpy as np


def pixels(maps: np.ndarray) -> np.ndarray:
    """Return maps (N, C, H, W) as (N, H, W, C), contiguous; a view if they lie channels last."""
    return np.ascontiguousarray(maps.transpose(0, 2, 3, 1))

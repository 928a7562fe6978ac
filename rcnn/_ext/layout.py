"""How feature maps lie in memory: channels last, whatever the order of their axes."""

from __future__ import annotations

import numpy as np


def pixels(maps: np.ndarray) -> np.ndarray:
    """Maps (N, C, H, W) as (N, H, W, C), contiguous; a view where they lie channels last."""
    return np.ascontiguousarray(maps.transpose(0, 2, 3, 1))

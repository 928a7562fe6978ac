"""Pictures shown another way each time: mirrored, larger, smaller. Boxes go along."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from rcnn import transform


@dataclass(frozen=True)
class Change:
    """What is done to one picture: whether it is mirrored, and by how much its size after resizing is multiplied."""

    flipped: bool = False
    scale: float = 1.0


def draw(rng: np.random.Generator, flip: float, scale_jitter: tuple[float, float]) -> Change:
    """A change drawn from `rng`: mirrored with probability `flip`, scaled by a factor between those of `scale_jitter`.

    The factor is uniform in its logarithm, so that half the size is as likely as twice the size. Two numbers are drawn
    whatever the settings are.
    """
    mirrored, position = rng.random(2)
    low, high = map(math.log, scale_jitter)
    return Change(bool(mirrored < flip), math.exp(low + position * (high - low)))


def flip(picture: Any, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(the picture (H, W, 3) mirrored left for right, its boxes (G, 4) where they are then).

    picture: whatever `transform.as_picture` takes, which raises ValueError or TypeError for what is none. The picture's
        array is a view where it was an array already.
    """
    is_array = isinstance(picture, np.ndarray) and picture.ndim == 3
    array = picture if is_array else transform.as_picture(picture)
    width = array.shape[1]
    mirrored = boxes.copy()
    mirrored[:, 0], mirrored[:, 2] = width - boxes[:, 2], width - boxes[:, 0]
    return array[:, ::-1], mirrored

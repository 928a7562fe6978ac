"""Random inputs of every kind that a wrong function may not expect.

A check describes what must vary in its inputs, and takes the inputs from here: boxes with negative coordinates, below a
pixel or thousands of pixels large, tall and wide, as float32 or float64; numbers of rows that are equal or different.
All coordinates are multiples of a power of two, so float32 represents them exactly.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

COUNTS = ((1, 1), (3, 3), (2, 5), (4, 4), (5, 2))  # numbers of rows of two arrays: also equal, also those of a box
CENTRES = (-40, 40)  # in units; many boxes extend to the left of the image or above it
SIDES = (2, 24)  # in units
LONG = 6  # factor by which some boxes are taller than wide, or wider than tall
ZEROS = (
    "An array of zeros is not empty. To find out if there are rows, look at the length of the array, not at its values."
)


@dataclass(frozen=True)
class BoxKind:
    """A kind of box.

    Attributes
    ----------
    hint : str
        Hint to show if a function is wrong only for boxes of this kind.
    unit : float
        Length, in pixels, of which all sides and coordinates are multiples.
    at : (int, int)
        Range of the centres, in units.
    dtype : type
        Float type of the boxes.
    """

    hint: str
    unit: float
    at: tuple[int, int]
    dtype: type[np.floating]

    def draw(self, rng: np.random.Generator, count: int, near: np.ndarray | None = None) -> np.ndarray:
        """Draw boxes. Many of them overlap, because their centres are close to a few points.

        Parameters
        ----------
        rng : np.random.Generator
            Random generator.
        count : int
            Number of boxes.
        near : (K, 4) array, optional
            Boxes of this kind. The new boxes are close to them.

        Returns
        -------
        (count, 4) array
            The boxes.
        """
        if near is None or not len(near):
            middle = rng.integers(*self.at, (1 + count // 3, 2))
        else:
            middle = np.rint((near[:, :2] + near[:, 2:]) / 2 / self.unit).astype(int)
        centres = middle[rng.integers(0, len(middle), count)] + rng.integers(-5, 6, (count, 2))  # (count, 2)
        sides = rng.integers(*SIDES, (count, 2))
        longer = rng.integers(0, 4, count)  # a quarter is taller, and a quarter is wider
        sides[longer < 2, longer[longer < 2]] *= LONG
        low = centres - sides // 2
        return (np.concatenate([low, low + sides], axis=1) * self.unit).astype(self.dtype)


BOX_KINDS = (
    BoxKind(
        "Some of these boxes lie to the left of the image or above it: their coordinates are negative. Do not clip "
        "them at 0.",
        1.0,
        CENTRES,
        np.float64,
    ),
    BoxKind(
        "These boxes are smaller than a pixel, as on a feature map. Do not add a constant, and do not enlarge a box.",
        1 / 64,
        CENTRES,
        np.float32,
    ),
    BoxKind("These boxes are thousands of pixels large.", 64.0, CENTRES, np.float64),
    BoxKind("These boxes end at fractions of a pixel. Do not round.", 1 / 4, (100, 300), np.float32),
)


def box_kinds() -> Iterator[tuple[BoxKind, tuple[int, int]]]:
    """Yield every kind of box, with two numbers of rows.

    Yields
    ------
    BoxKind
        The kind.
    (int, int)
        Two numbers of rows. They are equal or different, but not always 1.
    """
    for number, kind in enumerate(BOX_KINDS):
        for counts in (COUNTS[number % len(COUNTS)], COUNTS[(number + 2) % len(COUNTS)]):
            yield kind, counts


def threshold_between(rng: np.random.Generator, overlaps: np.ndarray) -> float:
    """Choose a threshold that separates IoUs, so that a wrong IoU changes the result, and that is not close to any.

    Parameters
    ----------
    rng : np.random.Generator
        Random generator.
    overlaps : array
        IoUs.

    Returns
    -------
    float
        A number with three digits in the middle of a gap between two of the IoUs; 0.5 if there is no such gap.
    """
    values = np.unique(np.append(overlaps[(overlaps > 0.02) & (overlaps < 0.98)], [0.02, 0.98]))
    gaps = np.diff(values)
    wide = np.flatnonzero(gaps > 0.01)
    if not len(wide):
        return 0.5
    inner = wide[(wide > 0) & (wide < len(gaps) - 1)]
    chosen = rng.choice(inner if len(inner) else wide)
    return round(float(values[chosen] + gaps[chosen] / 2), 3)


def integers(rng: np.random.Generator, count: int) -> np.ndarray:
    """Draw boxes with integer coordinates, also negative ones, and odd and even sides.

    Parameters
    ----------
    rng : np.random.Generator
        Random generator.
    count : int
        Number of boxes.

    Returns
    -------
    (count, 4) array of int64
        The boxes.
    """
    low = rng.integers(-20, 20, (count, 2))
    return np.concatenate([low, low + rng.integers(1, 30, (count, 2))], axis=1)


def different(rng: np.random.Generator, count: int = 4) -> tuple[float, ...]:
    """Draw different weights in random order, so that no two can be exchanged.

    Parameters
    ----------
    rng : np.random.Generator
        Random generator.
    count : int, optional
        Number of weights.

    Returns
    -------
    tuple of float
        The weights.
    """
    return tuple(rng.permutation([2.0, 4.0, 5.0, 10.0, 0.5, 3.0])[:count].tolist())

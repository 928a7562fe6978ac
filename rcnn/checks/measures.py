"""Checks of how good detections are: average precision."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from rcnn import evaluate
from rcnn.checks._engine import Case, Function, run

OBJECTS = (3, 4, 7, 8, 9, 11, 13)  # of these no share is a whole number of tenths, but for 0, a half and all


def average_precision(function: Function, seed: int | None = None) -> None:
    """Nothing where `function(recall, precision, method)`, (D,) and (D,), gives the average precision, a number.

    The points of the curve come by falling score, so the recall does not fall. At every recall the precision counts
    as the best that is reached at that recall or a higher one, 0 beyond the highest. method "voc2007": its mean
    at the recalls 0, 0.1, ..., 1; "voc2012": its integral over the recall from 0 to 1. Without a point it is 0; where
    the recall is NaN, for there was nothing to find, NaN. Raises CheckFailed, which says what is wrong.
    """
    run("average_precision", function, evaluate.average_precision,
        _average_precision_cases(np.random.default_rng(seed)), rows=(("recall", "precision"),))


def _average_precision_cases(rng: np.random.Generator) -> Iterator[Case]:
    yield _curve([1], 1, "voc2012", "the only object is found by the only detection: precision 1 from recall 0 to "
                 "recall 1, for the curve begins at recall 0, not at its first point")
    few = int(rng.choice([3, 4]))
    yield _curve([1] * few, few, "voc2012", "every detection is right and every object is found: the area under the "
                 "curve is a whole square, and its first strip begins at recall 0")
    yield _curve([1] * 2, 4, "voc2012", "half of the objects are never found: beyond the highest recall the precision "
                 "counts as 0")
    yield _curve([0, 1], 1, "voc2012", "the first detection is wrong, the second finds the only object: at every "
                 "recall the best precision at that recall *or a higher one* counts")
    yield Case({"recall": np.array([0.5, 1]), "precision": np.array([1, 0.5]), "method": "voc2012"}, "between two "
               "points no recall is reached but that of the right one: the area is made of rectangles, each as wide as "
               "the recall grows and as high as the best precision at its right edge or beyond")
    yield _curve([1, 0, 0, 1], 2, "voc2012", "wrong detections let the precision fall and the recall stay: they make "
                 "no step, and a rectangle without width has no area")
    yield _curve([1, 0, 1, 1, 0], 3, "voc2012", "to the right of a point the precision may be higher than at the "
                 "point: the best is looked for at higher recalls, not at lower ones")
    yield _curve([1], 2, "voc2007", "half of the objects are found: the recalls 0, 0.1, ..., 0.5 are reached, how many "
                 "of how many is that? A recall is reached where the curve is at least there")
    yield _curve([1] * few, few, "voc2007", "a perfect detector has average precision 1, at all eleven recalls")
    yield _curve([1, 0, 1, 1, 0], 3, "voc2007", "the precision at each of the eleven recalls is the best at that "
                 "recall or a higher one, not that of the nearest point, nor interpolated between points")
    yield _curve([0] * 3, 4, "voc2012", "no detection is right: the recall stays 0, and so does the precision")
    yield _curve([0] * 3, 4, "voc2007", "no detection is right: the recall 0 is reached, with a precision of 0")
    for method in evaluate.METHODS[::-1]:
        yield _curve([], 4, method, "no detections at all are an ordinary input: nothing is found, and the average "
                     "precision is 0")
        yield Case({"recall": np.full(2, np.nan), "precision": np.zeros(2), "method": method}, "the recall is NaN "
                   "where there was no object to find; then the average precision is not known either, and "
                   "0 would be unjust")
    yield Case({"recall": np.array([0, 1]), "precision": np.array([0, 1]), "method": "voc2012"}, "whole numbers are "
               "numbers, too")
    for count in (2, 5, 12, 40):
        for method in evaluate.METHODS:
            objects = int(rng.choice(OBJECTS))
            yield _curve(_found(rng, count, objects), objects, method, "a curve as it comes: draw it, lay the best "
                         "precision to the right over it, and go through this one by hand")


def _curve(right: Sequence[int], objects: int, method: str, hint: str) -> Case:
    """The curve of detections that are right (1) or wrong (0), by falling score, of so many objects."""
    found = np.cumsum(np.array(right, float))  # (D,)
    return Case({"recall": found / objects, "precision": found / np.arange(1, len(right) + 1), "method": method}, hint)


def _found(rng: np.random.Generator, count: int, objects: int) -> list[int]:
    """Which of `count` detections are right (1), at most as many as there are objects."""
    right = rng.integers(0, 2, count)
    return (right * (np.cumsum(right) <= objects)).tolist()

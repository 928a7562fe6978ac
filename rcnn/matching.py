"""Which object each box is to learn, and the balanced minibatch of boxes that the loss is computed on.

Ren et al., "Faster R-CNN", 2015, section 3.1.2; Girshick, "Fast R-CNN", 2015, section 2.3. The semantics, down to ties,
are those of torchvision's `Matcher` and `BalancedPositiveNegativeSampler`.
"""

import operator

import numpy as np
from numpy.typing import ArrayLike

from rcnn._ext.dispatch import indices, replaceable
from rcnn._validate import as_float_array, as_index_array

BACKGROUND = -1
IGNORED = -2


@replaceable(lambda iou, **_: indices(len(iou), IGNORED, np.shape(iou)[1] - 1))
def match(iou: ArrayLike, high: float, low: float, force_best: bool = False) -> np.ndarray:
    """The index of the object that each box is matched to, (A,) int64; -1 is background, -2 is ignored.

    A box goes to the object it overlaps most, the first of equals, if that IoU is at least `high`; it is background if
    the IoU is below `low`, and ignored in between. Thresholds are compared in the dtype of `iou`.

    With `force_best` an object counts even where no box reaches `high`: every box that has the highest IoU with some
    object, ties included, becomes positive too. It is matched to its own best object, which need not be the one that
    forced it. An object that no box overlaps forces nothing.

    Args:
        iou: (A, G), boxes by objects. Without objects every box is background.
        high, low: 0 <= low <= high <= 1.
        force_best: the RPN does this, the second stage does not.

    Raises ValueError for thresholds out of order, another shape, or NaN.
    """
    overlaps = as_float_array(iou, "iou")
    if overlaps.ndim != 2:
        raise ValueError(f"iou must have shape (A, G), got {overlaps.shape}")
    if not 0 <= low <= high <= 1:
        raise ValueError(f"thresholds must be 0 <= low <= high <= 1, got low={low!r} and high={high!r}")
    boxes, objects = overlaps.shape
    if objects == 0:
        return np.full(boxes, BACKGROUND, np.int64)
    best_object = overlaps.argmax(axis=1)  # (A,)
    best_iou = overlaps[np.arange(boxes), best_object]  # (A,)
    if np.isnan(best_iou).any():  # argmax stops at a NaN, so none goes unseen
        raise ValueError(f"iou[{int(np.isnan(best_iou).argmax())}] holds NaN")
    matches: np.ndarray = best_object.astype(np.int64)  # (A,)
    matches[best_iou < overlaps.dtype.type(high)] = IGNORED
    matches[best_iou < overlaps.dtype.type(low)] = BACKGROUND
    if force_best:
        forced = best_for_some_object(overlaps)  # (F,)
        matches[forced] = best_object[forced]
    return matches


def best_for_some_object(iou: np.ndarray) -> np.ndarray:
    """Indices (F,) of the boxes that have the highest IoU some object has, if above 0; `iou` is (A, G).

    A box that is best for several objects comes up several times.
    """
    highest = iou.max(axis=0, initial=0)  # (G,)
    highest[highest == 0] = np.nan  # equals nothing: an object that no box overlaps
    return np.nonzero(iou == highest)[0]  # (F,)


@replaceable(
    lambda labels, **_: tuple(
        indices(None, 0, len(labels) - 1, distinct=True, among=mask)
        for mask in (np.asarray(labels) >= 1, np.asarray(labels) == 0)
    )
)
def sample(
    labels: ArrayLike, size: int, positive_fraction: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """(positive, negative): indices of a random minibatch of at most `size` boxes, sorted int64.

    At most `int(size * positive_fraction)` boxes are positive; negatives fill the rest. Where either kind runs short,
    there are fewer: too few positives are made up for by negatives, too few negatives are not.

    Args:
        labels: (A,) integers: 1 and above positive, 0 negative, below 0 never chosen.
        size: boxes to choose, 0 or more.
        positive_fraction: 0 to 1.
        rng: what the choice is drawn from.
    """
    classes = as_index_array(labels, "labels")  # (A,)
    if operator.index(size) < 0:
        raise ValueError(f"size must not be negative, got {size!r}")
    if not 0 <= positive_fraction <= 1:
        raise ValueError(f"positive_fraction must be between 0 and 1, got {positive_fraction!r}")
    if not isinstance(rng, np.random.Generator):
        raise TypeError(f"rng must be a numpy.random.Generator, got {type(rng).__name__}")
    positive = choose(np.flatnonzero(classes >= 1), int(size * positive_fraction), rng)
    negative = choose(np.flatnonzero(classes == 0), size - len(positive), rng)
    return positive, negative


def choose(candidates: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` of `candidates` (N,) at random without repetition, sorted; all of them if there are fewer."""
    return np.sort(rng.choice(candidates, min(count, len(candidates)), replace=False, shuffle=False))

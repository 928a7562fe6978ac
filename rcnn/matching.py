"""Matching of boxes to ground-truth objects, and sampling of the balanced minibatch for the loss.

Ren et al., "Faster R-CNN", 2015, section 3.1.2; Girshick, "Fast R-CNN", 2015, section 2.3. Results, including ties, are
those of torchvision's `Matcher` and `BalancedPositiveNegativeSampler`.
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
    """Return the index of the object that each box is matched to; -1 is background, -2 is ignored.

    A box is matched to the object with which it has the highest IoU, if that IoU is at least `high`; ties keep the
    first object. The box is background if the IoU is below `low`, and ignored in between. The thresholds are compared
    in the dtype of `iou`.

    With `force_best`, an object gets a positive box even if no box reaches `high`: every box that has the highest IoU
    with some object, ties included, becomes positive too. Such a box is matched to *its own* best object, which need
    not be the object that forced it. An object that no box overlaps forces nothing.

    Parameters
    ----------
    iou : (A, G) array_like
        IoU of each box with each object. Without objects (G = 0) every box is background.
    high, low : float
        Thresholds, 0 <= low <= high <= 1.
    force_best : bool
        True for the RPN, False for the second stage.

    Returns
    -------
    (A,) int64 array
        The index of an object, or -1, or -2.

    Raises
    ------
    ValueError
        If `low > high` or a threshold is outside [0, 1], if `iou` has another shape, or if it holds NaN.

    Examples
    --------
    >>> match([[0.8, 0.1], [0.2, 0.4], [0.0, 0.0]], high=0.7, low=0.3)
    array([ 0, -2, -1])
    >>> match([[0.8, 0.1], [0.2, 0.4], [0.0, 0.0]], high=0.7, low=0.3, force_best=True)
    array([ 0,  1, -1])
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
    if np.isnan(best_iou).any():  # argmax returns the first NaN, so this finds every row with one
        raise ValueError(f"iou[{int(np.isnan(best_iou).argmax())}] holds NaN")
    matches: np.ndarray = best_object.astype(np.int64)  # (A,)
    matches[best_iou < overlaps.dtype.type(high)] = IGNORED
    matches[best_iou < overlaps.dtype.type(low)] = BACKGROUND
    if force_best:
        forced = best_for_some_object(overlaps)  # (F,)
        matches[forced] = best_object[forced]
    return matches


def best_for_some_object(iou: np.ndarray) -> np.ndarray:
    """Return the indices of the boxes that have the highest IoU with some object, if that IoU is above 0.

    Parameters
    ----------
    iou : (A, G) array
        IoU of each box with each object.

    Returns
    -------
    (F,) int64 array
        Indices of boxes, ascending; a box that is best for several objects appears several times.
    """
    highest = iou.max(axis=0, initial=0)  # (G,)
    highest[highest == 0] = np.nan  # NaN equals nothing: an object that no box overlaps forces no box
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
    """Return the indices of a random minibatch of boxes, as (positive, negative).

    At most `int(size * positive_fraction)` boxes are positive, and negatives fill the rest. If there are too few
    positives, negatives take their place; if there are too few negatives, the minibatch is smaller.

    Parameters
    ----------
    labels : (A,) array_like of int
        1 and above is positive, 0 is negative; boxes below 0 are never sampled.
    size : int
        The largest number of boxes, at least 0.
    positive_fraction : float
        The largest fraction of positive boxes, in [0, 1].
    rng : numpy.random.Generator
        The source of randomness.

    Returns
    -------
    positive, negative : (P,) and (Q,) int64 arrays
        Indices, each sorted; P + Q <= `size`.

    Examples
    --------
    >>> positive, negative = sample([1, 0, -1, 2, 0, 0], 4, 0.25, np.random.default_rng(0))
    >>> len(positive), len(negative)
    (1, 3)
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
    """Return `count` of the candidates at random without repetition; all of them if there are fewer.

    Parameters
    ----------
    candidates : (N,) array
        Any indices.
    count : int
        How many to return.
    rng : numpy.random.Generator
        The source of randomness.

    Returns
    -------
    (min(count, N),) array
        The chosen candidates, sorted.
    """
    return np.sort(rng.choice(candidates, min(count, len(candidates)), replace=False, shuffle=False))

"""Matching of boxes to ground-truth objects, and sampling of a balanced minibatch for the loss.

See Ren et al., "Faster R-CNN", 2015, section 3.1.2, and Girshick, "Fast R-CNN", 2015, section 2.3. The rules, including
those for ties, are the same as in torchvision's `Matcher` and `BalancedPositiveNegativeSampler`.
"""

import numpy as np
from numpy.typing import ArrayLike

from rcnn._ext.dispatch import indices, replaceable
from rcnn._validate import FLAG, FRACTION, MOST_ELEMENTS, as_float_array, as_index_array, check_generator, integer

BACKGROUND = -1
IGNORED = -2


@replaceable(lambda iou, **_: indices(len(iou), IGNORED, np.shape(iou)[1] - 1))
def match(iou: ArrayLike, high: float, low: float, force_best: bool = False) -> np.ndarray:
    """Return the index of the object to which each box is matched; -1 means background, -2 means ignored.

    Each box has a best object: the object with which its intersection over union (IoU) is highest, or the first of
    several such objects. If this IoU is at least `high`, the box is positive: it is matched to its best object. If the
    IoU is below `low`, the box is background. Otherwise, the box is ignored. The thresholds are first converted to the
    dtype of `iou`.

    With `force_best`, a box is also positive if it has the highest IoU with some object, even if this IoU is below
    `high`. If several boxes have the highest IoU with an object, all of them are positive. A forced box is
    matched to *its own* best object, which may differ from the object that made it positive. An object that overlaps no
    box makes no box positive.

    Parameters
    ----------
    iou : (A, G) array_like
        The IoU of each of A boxes with each of G objects. If there are no objects (G = 0), every box is background.
    high, low : float
        The thresholds, with 0 <= low <= high <= 1.
    force_best : bool
        True for the region proposal network, False for the second stage.

    Returns
    -------
    (A,) int64 array
        For each box, the index of an object, -1 or -2.

    Raises
    ------
    TypeError, ValueError
        If `low > high`, if a threshold is not a number in [0, 1], if `iou` does not have two axes, or if it contains
        NaN.

    Examples
    --------
    >>> match([[0.8, 0.1], [0.2, 0.4], [0.0, 0.0]], high=0.7, low=0.3)
    array([ 0, -2, -1])
    >>> match([[0.8, 0.1], [0.2, 0.4], [0.0, 0.0]], high=0.7, low=0.3, force_best=True)
    array([ 0,  1, -1])
    """
    overlaps = _check_iou(iou)
    high, low = check_thresholds(high, low, ("high", "low"))
    force_best = FLAG.check("force_best", force_best)
    boxes, objects = overlaps.shape
    if objects == 0:
        return np.full(boxes, BACKGROUND, np.int64)
    best_object = overlaps.argmax(axis=1)  # (A,)
    best_iou = overlaps[np.arange(boxes), best_object]  # (A,)
    if np.isnan(best_iou).any():  # argmax treats NaN as the largest value, so this finds every row with NaN
        raise ValueError(f"iou[{int(np.isnan(best_iou).argmax())}] contains NaN")
    matches: np.ndarray = best_object.astype(np.int64)  # (A,)
    matches[best_iou < overlaps.dtype.type(high)] = IGNORED
    matches[best_iou < overlaps.dtype.type(low)] = BACKGROUND
    if force_best:
        forced = best_for_some_object(overlaps)  # (F,)
        matches[forced] = best_object[forced]
    return matches


def check_thresholds(
    high: float, low: float, names: tuple[str, str] = ("fg_iou_thresh", "bg_iou_thresh")
) -> tuple[float, float]:
    """Return the two IoU thresholds of `match` as floats.

    Parameters
    ----------
    high, low : float
        The thresholds.
    names : (str, str)
        The names of the caller's arguments, for error messages.

    Returns
    -------
    (float, float)
        The thresholds.

    Raises
    ------
    TypeError, ValueError
        If the thresholds are not numbers with 0 <= low <= high <= 1.
    """
    high, low = FRACTION.check(names[0], high), FRACTION.check(names[1], low)
    if low > high:
        raise ValueError(f"{names[1]} must be at most {names[0]} ({high:g}), got {low:g}")
    return high, low


def best_for_some_object(iou: ArrayLike) -> np.ndarray:
    """Return the indices of the boxes that have the highest IoU with some object, if that IoU is above 0.

    Parameters
    ----------
    iou : (A, G) array_like
        The IoU of each of A boxes with each of G objects.

    Returns
    -------
    (F,) int64 array
        F indices of boxes, in ascending order. A box that is best for several objects appears several times.

    Raises
    ------
    TypeError, ValueError
        If `iou` does not contain numbers or does not have two axes.
    """
    iou = _check_iou(iou)
    highest = iou.max(axis=0, initial=0)  # (G,)
    highest[highest == 0] = np.nan  # NaN equals no number, so an object that overlaps no box selects none
    return np.nonzero(iou == highest)[0].astype(np.int64, copy=False)  # (F,)


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

    At most `int(size * positive_fraction)` boxes of the minibatch are positive; the others are negative. If there are
    too few positive boxes, more negative boxes are chosen. If there are too few negative boxes, the minibatch is
    smaller.

    Parameters
    ----------
    labels : (A,) array_like of int
        The labels of A boxes: 1 and above means positive, and 0 means negative. A box with a negative label is never
        chosen.
    size : int
        The maximum number of boxes in the minibatch, in 0 .. 2^30.
    positive_fraction : float
        The maximum fraction of positive boxes, in [0, 1].
    rng : numpy.random.Generator
        The random generator.

    Returns
    -------
    positive, negative : (P,) and (Q,) int64 arrays
        The indices of P positive and Q negative boxes, each in ascending order; P + Q is at most `size`.

    Raises
    ------
    TypeError, ValueError
        If an argument is invalid.

    Examples
    --------
    >>> positive, negative = sample([1, 0, -1, 2, 0, 0], 4, 0.25, np.random.default_rng(0))
    >>> len(positive), len(negative)
    (1, 3)
    """
    classes = as_index_array(labels, "labels")  # (A,)
    size = integer(0, MOST_ELEMENTS).check("size", size)
    positive_fraction = FRACTION.check("positive_fraction", positive_fraction)
    check_generator(rng)
    positive = _choose(np.flatnonzero(classes >= 1), int(size * positive_fraction), rng)
    negative = _choose(np.flatnonzero(classes == 0), size - len(positive), rng)
    return positive, negative


def _choose(candidates: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return `count` different random candidates (N,), or all if there are fewer, in ascending order."""
    chosen = np.sort(rng.choice(candidates, min(count, len(candidates)), replace=False, shuffle=False))
    return chosen.astype(np.int64, copy=False)  # 32-bit systems have int32 indices


def _check_iou(iou: ArrayLike) -> np.ndarray:
    overlaps = as_float_array(iou, "iou")
    if overlaps.ndim != 2:
        raise ValueError(f"iou must have shape (A, G), got {overlaps.shape}")
    return overlaps

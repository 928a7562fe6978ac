"""Non-maximum suppression (NMS): of boxes that overlap too much, keep only the one with the highest score."""

import numpy as np
from numpy.typing import ArrayLike

from rcnn._ext.dispatch import compiled, indices, replaceable
from rcnn._validate import FRACTION, as_float_array, as_index_array, check_boxes, check_scores
from rcnn.boxes import iou

REAL = (np.float32, np.float64)


@replaceable(lambda boxes, scores, **_: indices(None, 0, len(boxes) - 1, distinct=True, scores=np.asarray(scores)))
def nms(boxes: ArrayLike, scores: ArrayLike, iou_threshold: float) -> np.ndarray:
    """Return the indices of the boxes that non-maximum suppression keeps, in descending order of score.

    The boxes are visited in descending order of score. Boxes with equal scores are visited in the given order, and
    boxes whose score is NaN are visited last. A box is kept unless its intersection over union (IoU) with a box that
    was kept before is *greater than* `iou_threshold`.

    Parameters
    ----------
    boxes : (N, 4) array_like
        N boxes, in pixels.
    scores : (N,) array_like
        One score per box.
    iou_threshold : float
        The threshold, in [0, 1].

    Returns
    -------
    (K,) int64 array
        The indices of the K boxes that are kept.

    Raises
    ------
    TypeError, ValueError
        If a shape is wrong, or if `iou_threshold` is not a number in [0, 1].

    Examples
    --------
    >>> nms([[0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30]], [0.8, 0.9, 0.7], 0.5)
    array([1, 2])
    """
    checked = check_boxes(boxes)
    return _nms(checked, check_scores(scores, len(checked)), FRACTION.check("iou_threshold", iou_threshold))


@replaceable(lambda boxes, scores, **_: indices(None, 0, len(boxes) - 1, distinct=True, scores=np.asarray(scores)))
def batched_nms(boxes: ArrayLike, scores: ArrayLike, groups: ArrayLike, iou_threshold: float) -> np.ndarray:
    """Apply `nms` to each group, and return the indices of all kept boxes in descending order of score.

    Boxes of different groups never remove each other. A common shortcut moves the groups far apart and then applies
    `nms` only once. It is not used here, because moving the groups rounds the coordinates.

    Parameters
    ----------
    boxes : (N, 4) array_like
        N boxes, in pixels.
    scores : (N,) array_like
        One score per box.
    groups : (N,) array_like of int
        The group of each box, for example its class label or pyramid level.
    iou_threshold : float
        The threshold, in [0, 1].

    Returns
    -------
    (K,) int64 array
        The indices of the K boxes that are kept.

    Raises
    ------
    TypeError, ValueError
        If a shape is wrong, or if `iou_threshold` is not a number in [0, 1].
    """
    checked = check_boxes(boxes)
    count = len(checked)
    members = as_index_array(groups, "groups", count)
    return _batched_nms(checked, check_scores(scores, count), members, FRACTION.check("iou_threshold", iou_threshold))


def descending_order(scores: ArrayLike) -> np.ndarray:
    """Return the indices that sort the scores in descending order; equal scores stay in the given order.

    Parameters
    ----------
    scores : (N,) array_like
        N scores. NaN comes last in the order.

    Returns
    -------
    (N,) int64 array
        The indices.
    """
    given = as_float_array(scores, "scores")
    return _descending_order(check_scores(given, given.size))


@compiled("nms.descending_order")
def _descending_order(scores: np.ndarray) -> np.ndarray:
    """Return the indices (N,) that sort the scores in descending order. Ties keep their order, and NaN comes last."""
    return np.argsort(-scores, kind="stable").astype(np.int64, copy=False)


@compiled("nms.nms", REAL, uses=("iou", "area"))
def _nms(boxes: np.ndarray, scores: np.ndarray, iou_threshold: float) -> np.ndarray:
    """Return the indices (K,) of the kept boxes. The code follows the definition in `nms` step by step.

    The IoU is compared in float64. In float32, NumPy would also round the threshold. An IoU of float32(0.3) would then
    not be greater than 0.3.
    """
    kept = []
    remaining = _descending_order(scores)
    while len(remaining):
        best, rest = remaining[0], remaining[1:]
        kept.append(best)
        overlap = iou(boxes[best : best + 1], boxes[rest])[0].astype(np.float64)  # (len(rest),)
        remaining = rest[~(overlap > iou_threshold)]
    return np.array(kept, np.int64)


@compiled("nms.batched_nms", REAL, uses=("nms", "iou", "area"))
def _batched_nms(boxes: np.ndarray, scores: np.ndarray, groups: np.ndarray, iou_threshold: float) -> np.ndarray:
    """Return the indices (K,) of the boxes that `nms` keeps in each group, in descending order of score."""
    kept = [np.zeros(0, np.int64)]
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)  # (M,)
        kept.append(members[nms(boxes[members], scores[members], iou_threshold)])
    indices_kept = np.sort(np.concatenate(kept))  # (K,), ascending: equal scores stay in the given order
    return indices_kept[_descending_order(scores[indices_kept])]

"""Non-maximum suppression (NMS): of boxes that overlap too much, keep only the one with the highest score."""

import numpy as np
from numpy.typing import ArrayLike

from rcnn._ext.dispatch import compiled, indices, replaceable
from rcnn._validate import (
    FLAG,
    FRACTION,
    MOST_BOXES,
    POSITIVE,
    as_float_array,
    as_index_array,
    check_boxes,
    check_scores,
    integer,
    one_of,
    optional,
)
from rcnn.boxes import iou

REAL = (np.float32, np.float64)
SOFT = one_of(("linear", "gaussian"))
SIGMA = 0.5  # the value in the paper on Soft-NMS


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


def soft_nms(
    boxes: ArrayLike,
    scores: ArrayLike,
    iou_threshold: float = 0.3,
    *,
    method: str = "gaussian",
    sigma: float = SIGMA,
    score_thresh: float = 0.001,
) -> tuple[np.ndarray, np.ndarray]:
    """Lower the scores of boxes that overlap a better box, instead of removing these boxes (Soft-NMS).

    The boxes are visited in descending order of their current scores. Each visited box multiplies the scores of the
    boxes that are not yet visited by a factor, which depends on their intersection over union (IoU) with it. A box is
    removed as soon as its score is not above `score_thresh`.

    Parameters
    ----------
    boxes : (N, 4) array_like
        N boxes, in pixels.
    scores : (N,) array_like
        One score per box. A score that is NaN is not above `score_thresh`.
    iou_threshold : float
        Only for "linear": a box with an IoU of at most this threshold keeps its score. The threshold is in [0, 1].
    method : {"gaussian", "linear"}
        The factor: exp(-IoU^2 / sigma), or 1 - IoU if the IoU is above `iou_threshold`.
    sigma : float
        Only for "gaussian": the higher this number, the less the scores are lowered. It is above 0.
    score_thresh : float
        The threshold, in [0, 1]. A box that is kept must have a higher score.

    Returns
    -------
    keep : (K,) int64 array
        The indices of the K boxes that are kept, in descending order of their new scores.
    scores : (K,) array
        The new scores.

    Raises
    ------
    TypeError, ValueError
        If a shape is wrong, or if another argument is out of range.

    References
    ----------
    Bodla et al., "Soft-NMS -- Improving Object Detection With One Line of Code", 2017, section 3.

    Examples
    --------
    >>> soft_nms([[0, 0, 10, 10], [0, 0, 10, 5]], [0.8, 0.6], method="linear")
    (array([0, 1]), array([0.8, 0.3]))
    """
    boxes = check_boxes(boxes)
    return _soft_nms(
        boxes,
        check_scores(scores, len(boxes)),
        FRACTION.check("iou_threshold", iou_threshold),
        SOFT.check("method", method),
        POSITIVE.check("sigma", sigma),
        FRACTION.check("score_thresh", score_thresh),
    )


def suppress(
    boxes: ArrayLike,
    scores: ArrayLike,
    labels: ArrayLike,
    *,
    score_thresh: float = 0.0,
    nms_thresh: float = 0.5,
    top_k: int = MOST_BOXES,
    class_agnostic: bool = False,
    soft_nms: str | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Apply `nms` or `soft_nms` to the boxes of each class, or to all boxes together.

    Parameters
    ----------
    boxes : (N, 4) array_like
        N boxes, in pixels.
    scores : (N,) array_like
        One score per box.
    labels : (N,) array_like of int
        The class of each box.
    score_thresh : float
        The threshold of `soft_nms`, in [0, 1].
    nms_thresh : float
        The threshold of `nms`, or of `soft_nms` with the method "linear", in [0, 1].
    top_k : int
        The maximum number of boxes that are kept, in 1 .. 2^20.
    class_agnostic : bool
        If True, boxes of different classes suppress each other, too.
    soft_nms : {"linear", "gaussian"}, optional
        The method of `soft_nms`; by default, `nms` is applied.

    Returns
    -------
    keep : (K,) int64 array
        The indices of the K boxes that are kept, in descending order of score.
    scores : (K,) array
        Their scores, which `soft_nms` has lowered.

    Raises
    ------
    TypeError, ValueError
        If a shape is wrong, or if another argument is out of range.
    """
    boxes = check_boxes(boxes)
    scores, groups = check_scores(scores, len(boxes)), as_index_array(labels, "labels", len(boxes))
    score_thresh, nms_thresh = FRACTION.check("score_thresh", score_thresh), FRACTION.check("nms_thresh", nms_thresh)
    top_k, method = integer(1, MOST_BOXES).check("top_k", top_k), optional(SOFT).check("soft_nms", soft_nms)
    if FLAG.check("class_agnostic", class_agnostic):
        groups = np.zeros_like(groups)
    if method is None:
        keep = batched_nms(boxes, scores, groups, nms_thresh)[:top_k]
        return keep, scores[keep]
    lowered = np.zeros_like(scores)  # (N,), 0 for the boxes that are removed
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        keep, new = _soft_nms(boxes[members], scores[members], nms_thresh, method, SIGMA, score_thresh)
        lowered[members[keep]] = new
    order = _descending_order(lowered)
    keep = order[lowered[order] > score_thresh][:top_k]
    return keep, lowered[keep]


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


def _soft_nms(
    boxes: np.ndarray, scores: np.ndarray, iou_threshold: float, method: str, sigma: float, score_thresh: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the kept indices and their new scores. This function has no kernel."""
    scores = scores.copy()
    kept = []
    remaining = np.flatnonzero(scores > score_thresh)
    while len(remaining):
        best = remaining[scores[remaining].argmax()]
        kept.append(best)
        remaining = remaining[remaining != best]
        overlap = iou(boxes[best : best + 1], boxes[remaining])[0].astype(np.float64)  # (len(remaining),)
        if method == "linear":
            scores[remaining] *= np.where(overlap > iou_threshold, 1 - overlap, 1)
        else:
            scores[remaining] *= np.exp(-(overlap**2) / sigma)
        remaining = remaining[scores[remaining] > score_thresh]
    keep = np.array(kept, np.int64)
    return keep, scores[keep]

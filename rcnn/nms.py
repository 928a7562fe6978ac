"""Non-maximum suppression: of boxes that overlap too much, only the one with the best score is kept."""

import numpy as np
from numpy.typing import ArrayLike

from rcnn._ext.dispatch import compiled, indices, replaceable
from rcnn._validate import as_index_array, check_boxes, check_scores
from rcnn.boxes import iou

REAL = (np.float32, np.float64)


@replaceable(lambda boxes, scores, **_: indices(None, 0, len(boxes) - 1, distinct=True, scores=np.asarray(scores)))
def nms(boxes: ArrayLike, scores: ArrayLike, iou_threshold: float) -> np.ndarray:
    """Return the indices of the boxes (N, 4) that are kept, by descending score, (K,) int64.

    From the best score down, each kept box removes those after it whose IoU with it is *greater than* `iou_threshold`.
    Ties keep the first; a score that is NaN comes last.

    Raises ValueError unless 0 <= iou_threshold <= 1 and there is a score (N,) for each box.
    """
    checked = check_boxes(boxes)
    return _nms(checked, check_scores(scores, len(checked)), _check_threshold(iou_threshold))


@replaceable(lambda boxes, scores, **_: indices(None, 0, len(boxes) - 1, distinct=True, scores=np.asarray(scores)))
def batched_nms(boxes: ArrayLike, scores: ArrayLike, groups: ArrayLike, iou_threshold: float) -> np.ndarray:
    """Return the indices of the boxes (N, 4) that `nms` keeps within each group, by descending score, (K,) int64.

    `groups` (N,) holds any integers, such as class labels or pyramid levels. Boxes of different groups never remove
    each other. Each group is suppressed on its own; the usual trick, one suppression after moving the groups apart,
    rounds the coordinates.

    Raises as `nms`.
    """
    checked = check_boxes(boxes)
    count = len(checked)
    members = as_index_array(groups, "groups", count)
    return _batched_nms(checked, check_scores(scores, count), members, _check_threshold(iou_threshold))


@compiled("nms.descending_order")
def descending_order(scores: np.ndarray) -> np.ndarray:
    """Return the indices (N,) of the scores from highest to lowest; ties keep the first, NaN comes last."""
    return np.argsort(-scores, kind="stable")


@compiled("nms.nms", REAL, uses=("iou", "area"))
def _nms(boxes: np.ndarray, scores: np.ndarray, iou_threshold: float) -> np.ndarray:
    """Return the kept indices as the definition of `nms` puts it.

    The IoU is compared as a double: NumPy would otherwise round the threshold to float32, and 0.3 is then not below
    an IoU of float32(0.3).
    """
    kept = []
    remaining = descending_order(scores)
    while len(remaining):
        best, rest = remaining[0], remaining[1:]
        kept.append(best)
        overlap = iou(boxes[best : best + 1], boxes[rest])[0].astype(np.float64)  # (len(rest),)
        remaining = rest[~(overlap > iou_threshold)]
    return np.array(kept, np.int64)


@compiled("nms.batched_nms", REAL, uses=("nms", "iou", "area"))
def _batched_nms(boxes: np.ndarray, scores: np.ndarray, groups: np.ndarray, iou_threshold: float) -> np.ndarray:
    """Return what `nms` keeps of each group, sorted by score."""
    kept = [np.zeros(0, np.int64)]
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)  # (M,)
        kept.append(members[nms(boxes[members], scores[members], iou_threshold)])
    indices_kept = np.sort(np.concatenate(kept))  # (K,), ascending, so that ties keep the first
    return indices_kept[descending_order(scores[indices_kept])]


def _check_threshold(iou_threshold: float) -> float:
    threshold = float(iou_threshold)
    if not 0 <= threshold <= 1:
        raise ValueError(f"iou_threshold must lie in 0 .. 1, got {iou_threshold}")
    return threshold

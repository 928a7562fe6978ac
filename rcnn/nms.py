"""Non-maximum suppression: of boxes that overlap too much, the one with the best score stays."""

import numpy as np
from numpy.typing import ArrayLike

from rcnn import _backend
from rcnn._arrays import as_index_array, check_boxes, check_scores
from rcnn.boxes import iou


def nms(boxes: ArrayLike, scores: ArrayLike, iou_threshold: float) -> np.ndarray:
    """Indices of the boxes (N, 4) that stay, by falling score, (K,) int64.

    From the best score down, each box that stays removes those after it whose IoU with it is *greater than*
    `iou_threshold`. Of equal scores the earlier box comes first; a score that is NaN comes last.

    Raises ValueError unless 0 <= iou_threshold <= 1 and there is a score (N,) for each box.
    """
    checked = check_boxes(boxes)
    return _suppress(checked, check_scores(scores, len(checked)), np.zeros(len(checked), np.int64), iou_threshold)


def batched_nms(boxes: ArrayLike, scores: ArrayLike, groups: ArrayLike, iou_threshold: float) -> np.ndarray:
    """Indices of the boxes (N, 4) that stay when each group keeps to itself, by falling score, (K,) int64.

    `groups` (N,) holds any integers, such as class labels or pyramid levels. Boxes of different groups never remove
    each other. Each group is suppressed on its own; the usual trick, one suppression after moving the groups apart,
    rounds the coordinates.

    Raises as `nms`.
    """
    checked = check_boxes(boxes)
    count = len(checked)
    return _suppress(checked, check_scores(scores, count), as_index_array(groups, "groups", count), iou_threshold)


def _suppress(boxes: np.ndarray, scores: np.ndarray, groups: np.ndarray, iou_threshold: float) -> np.ndarray:
    """Indices that stay, (K,), after sorting the boxes into groups and each group by score."""
    threshold = float(iou_threshold)
    if not 0 <= threshold <= 1:
        raise ValueError(f"iou_threshold must lie in 0 .. 1, got {iou_threshold}")
    by_score = np.argsort(-scores, kind="stable")  # (N,) indices into boxes; stable: of equals the earlier first
    by_group = by_score[np.argsort(groups[by_score], kind="stable")]  # (N,) group by group, each by score
    changes = np.flatnonzero(np.diff(groups[by_group])) + 1
    starts = np.concatenate([[0], changes, [len(boxes)]])  # (number of groups + 1,)
    stays = np.empty(len(boxes), bool)
    stays[by_group] = _survivors(boxes[by_group], starts, threshold)
    return by_score[stays[by_score]]  # (K,)


def _survivors(boxes: np.ndarray, starts: np.ndarray, threshold: float) -> np.ndarray:
    """Whether each box (N, 4) stays, (N,) bool; group g is boxes[starts[g]:starts[g + 1]], best score first."""
    stays = np.zeros(len(boxes), bool)
    if len(boxes) == 0:
        return stays
    if _backend.runs_kernels():
        columns = np.ascontiguousarray(boxes.T)  # (4, N)
        work = 2 * int((np.diff(starts) ** 2).sum()) if len(starts) > 2 else 0  # the groups share the threads
        threads = _backend.threads_for(work)
        scratch = np.empty(len(boxes), boxes.dtype)
        _backend.nms_kernels.nms(columns, starts, threshold, stays.view(np.uint8), scratch, threads)
    else:
        for first, last in zip(starts[:-1], starts[1:], strict=True):
            stays[first + _nms(boxes[first:last], threshold)] = True
    return stays


def _nms(boxes: np.ndarray, threshold: float) -> np.ndarray:
    """The reference: indices that stay of boxes (N, 4) sorted by falling score; as the definition puts it.

    The IoU is compared as a double: NumPy would otherwise round the threshold to float32, and 0.3 is then not below
    an IoU of float32(0.3).
    """
    kept = []
    remaining = np.arange(len(boxes))
    while len(remaining):
        best, rest = remaining[0], remaining[1:]
        kept.append(best)
        overlap = iou(boxes[best : best + 1], boxes[rest])[0].astype(np.float64)  # (len(rest),)
        remaining = rest[~(overlap > threshold)]
    return np.array(kept, np.int64)

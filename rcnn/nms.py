"""Non-maximum suppression: of boxes that overlap too much, the one with the best score stays."""

import numpy as np
from numpy.typing import ArrayLike

from rcnn._ext import backend
from rcnn._validate import as_index_array, check_boxes, check_scores
from rcnn.boxes import iou


def nms(boxes: ArrayLike, scores: ArrayLike, iou_threshold: float) -> np.ndarray:
    """Indices of the boxes (N, 4) that stay, by falling score, (K,) int64.

    From the best score down, each box that stays removes those after it whose IoU with it is *greater than*
    `iou_threshold`. Of equal scores the earlier box comes first; a score that is NaN comes last.

    Raises ValueError unless 0 <= iou_threshold <= 1 and there is a score (N,) for each box.
    """
    checked = check_boxes(boxes)
    return _suppress(checked, check_scores(scores, len(checked)), None, iou_threshold)


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


def _suppress(boxes: np.ndarray, scores: np.ndarray, groups: np.ndarray | None, iou_threshold: float) -> np.ndarray:
    """Indices that stay, (K,), after sorting the boxes into groups and each group by score."""
    threshold = float(iou_threshold)
    if not 0 <= threshold <= 1:
        raise ValueError(f"iou_threshold must lie in 0 .. 1, got {iou_threshold}")
    by_score = falling_order(scores)  # (N,) indices into boxes
    by_group, starts = (by_score, np.array([0, len(boxes)])) if groups is None else _sort_groups(by_score, groups)
    stays = np.zeros(len(boxes), bool)
    if backend.runs_kernels():
        _run_kernel(boxes, by_group, starts, threshold, stays)
    else:
        for first, last in zip(starts[:-1], starts[1:], strict=True):
            group = by_group[first:last]
            stays[group[_nms(boxes[group], threshold)]] = True
    return by_score[stays[by_score]]  # (K,)


def falling_order(scores: np.ndarray) -> np.ndarray:
    """Indices (N,) of the scores from the highest to the lowest; of equals the earlier comes first, NaN comes last.

    That is a stable sort, and NumPy sorts whole numbers several times as fast as float32. So a whole number is made of
    each score and its index: above, the bits of the negative score, turned so that they rise as it does; below, the
    index.
    """
    if scores.dtype != np.float32 or not backend.runs_kernels():
        return np.argsort(-scores, kind="stable")
    bits = (0 - scores).view(np.uint32)  # (N,); 0 - 0 and 0 - -0 are the same
    rising = np.where(bits >> 31, ~bits, bits | np.uint32(2**31))  # of negative floats, the bits fall as they rise
    rising[np.isnan(scores)] = np.uint32(2**32 - 1)
    keys = rising.astype(np.uint64) << np.uint64(32) | np.arange(len(scores), dtype=np.uint64)
    keys.sort()
    return (keys & np.uint64(2**32 - 1)).astype(np.int64)


def _sort_groups(by_score: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The indices `by_score` (N,) group by group, and where the groups start and the last ends, (groups + 1,)."""
    members = groups[by_score]  # (N,)
    least = groups.min(initial=0)
    if int(groups.max(initial=0)) - int(least) < 2**16:
        members = (members - least).astype(np.uint16)  # which NumPy sorts by counting
    order = np.argsort(members, kind="stable")  # (N,)
    changes = np.flatnonzero(np.diff(members[order])) + 1
    return by_score[order], np.concatenate([[0], changes, [len(groups)]])


def _run_kernel(boxes: np.ndarray, order: np.ndarray, starts: np.ndarray, threshold: float, stays: np.ndarray) -> None:
    """Fills `stays` (N,); group g is boxes[order[starts[g]:starts[g + 1]]], best score first."""
    if len(boxes) == 0:
        return
    # The groups share the threads. A box asks at most those before it, in vectors, and most find one soon.
    work = int((np.diff(starts) ** 2).sum()) // 32 if len(starts) > 2 else 0
    kept = np.empty((5, len(boxes) + 64 * len(starts)), boxes.dtype)
    threads = backend.threads_for(work)
    backend.nms_kernels.nms(boxes, order, starts, threshold, stays.view(np.uint8), kept, threads)


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

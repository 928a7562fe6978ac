"""The drivers of the kernel of `rcnn.nms`: they sort the boxes by group and score, and the kernel compares boxes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rcnn._ext import backend, load

if TYPE_CHECKING:
    from rcnn._ext import _nms as kernels
else:
    kernels = load("_nms")


def nms(boxes: np.ndarray, scores: np.ndarray, iou_threshold: float) -> np.ndarray:
    """Return the indices (K,) of the kept boxes, in descending order of score."""
    by_score = descending_order(scores)  # (N,)
    return _suppress(boxes, by_score, by_score, np.array([0, len(boxes)], np.intp), iou_threshold)


def batched_nms(boxes: np.ndarray, scores: np.ndarray, groups: np.ndarray, iou_threshold: float) -> np.ndarray:
    """Return the indices (K,) of the boxes that NMS keeps in each group, in descending order of score."""
    by_score = descending_order(scores)  # (N,)
    return _suppress(boxes, by_score, *_sort_groups(by_score, groups), iou_threshold)


def descending_order(scores: np.ndarray) -> np.ndarray:
    """Return the indices (N,) that sort the scores in descending order. Ties keep their order, and NaN comes last.

    NumPy sorts integers several times as fast as float32. Therefore, each score and its index are combined into one
    64-bit integer. Its upper half contains the bits of the negated score, transformed so that the integers have the
    same order as the numbers. Its lower half contains the index. A float64 score would leave no bits for the index.
    """
    if scores.dtype != np.float32:
        return np.argsort(-scores, kind="stable").astype(np.int64, copy=False)
    bits = (0 - scores).view(np.uint32)  # (N,); 0 - 0 and 0 - -0 have the same bits
    ascending = np.where(
        bits >> 31, ~bits, bits | np.uint32(2**31)
    )  # for negative floats, larger numbers have smaller bits
    ascending[np.isnan(scores)] = np.uint32(2**32 - 1)
    keys = ascending.astype(np.uint64) << np.uint64(32) | np.arange(len(scores), dtype=np.uint64)
    keys.sort()
    return (keys & np.uint64(2**32 - 1)).astype(np.int64)


def _sort_groups(by_score: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices `by_score` (N,), sorted by group, and the start of each group, with N as the last element."""
    members = groups[by_score]  # (N,)
    least = groups.min(initial=0)
    if int(groups.max(initial=0)) - int(least) < 2**16:
        members = (members - least).astype(np.uint16)  # NumPy sorts 16-bit integers in linear time
    order = np.argsort(members, kind="stable")  # (N,)
    changes = np.flatnonzero(np.diff(members[order])) + 1
    return by_score[order], np.concatenate([[0], changes, [len(groups)]])


def _suppress(
    boxes: np.ndarray, by_score: np.ndarray, by_group: np.ndarray, starts: np.ndarray, threshold: float
) -> np.ndarray:
    """Return the kept indices in the order of `by_score`. Group g is by_group[starts[g] : starts[g + 1]]."""
    keeps = np.zeros(len(boxes), bool)
    if len(boxes):
        # The groups are divided among threads. A box is compared with several kept boxes at once, until one removes it.
        work = int((np.diff(starts) ** 2).sum()) // 32 if len(starts) > 2 else 0
        kept = np.empty((5, len(boxes) + 64 * len(starts)), boxes.dtype)
        threads = backend.threads_for(work)
        kernels.nms(boxes, by_group.astype(np.intp, copy=False), starts, threshold, keeps.view(np.uint8), kept, threads)
    return by_score[keeps[by_score]]  # (K,)

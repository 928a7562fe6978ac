"""Blaise's submission: iou is wrong for disjoint boxes, nms never ends, and encode is missing."""

import numpy as np


def iou(boxes1, boxes2):
    sides = np.minimum(boxes1[:, None, 2:], boxes2[:, 2:]) - np.maximum(boxes1[:, None, :2], boxes2[:, :2])
    shared = sides[..., 0] * sides[..., 1]
    areas1, areas2 = ((b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1]) for b in (boxes1, boxes2))
    return shared / (areas1[:, None] + areas2 - shared)


def nms(boxes, scores, iou_threshold):
    kept = []
    while len(kept) < len(boxes):
        best = int(np.argmax(scores))
        if best not in kept:
            kept.append(best)
    return kept

"""Typical mistakes in the stages that learners write. `rcnn.course.with_and_without` shows what each one costs.

The name of a function is the name of its stage in `rcnn.replace`. Its docstring describes the mistake. The functions
call the library for everything else, so they do not show how a stage is written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rcnn import anchors, boxes, matching, roi, roi_heads
from rcnn import nms as suppression

Size = Sequence[int]


def iou(boxes1: np.ndarray, boxes2: np.ndarray) -> np.ndarray:
    """Divide the intersection by the sum of the two areas instead of the union."""
    overlap = boxes.iou(boxes1, boxes2)  # (N, M)
    return overlap / (1 + overlap)


def cell_anchors(sizes: np.ndarray, ratios: np.ndarray) -> np.ndarray:
    """Read the aspect ratio as width / height instead of height / width."""
    return anchors.cell_anchors(sizes, ratios)[:, [1, 0, 3, 2]]


def grid_anchors(cell: np.ndarray, feature_size: Size, stride: Size, offset: float = 0.0) -> np.ndarray:
    """Order the anchors by column, then row, instead of by row, then column."""
    rows, columns = feature_size
    grid = anchors.grid_anchors(cell, feature_size, stride, offset)
    return grid.reshape(rows, columns, -1, 4).transpose(1, 0, 2, 3).reshape(-1, 4)


def anchor_generator(
    image_size: Size, feature_sizes: Sequence[Size], sizes: Sequence[Any], ratios: Sequence[Any], offset: float = 0.0
) -> list[np.ndarray]:
    """Forget the stride, so that neighbouring anchors are one pixel apart."""
    del image_size
    return [
        anchors.grid_anchors(anchors.cell_anchors(size, ratios), shape, (1, 1), offset)
        for size, shape in zip(sizes, feature_sizes, strict=True)
    ]


def match(iou: np.ndarray, high: float, low: float, force_best: bool = False) -> np.ndarray:
    """Match each box to its best object, and forget the thresholds."""
    del high, low, force_best
    return iou.argmax(axis=1) if iou.shape[1] else np.full(len(iou), matching.BACKGROUND)


def sample(
    labels: np.ndarray, size: int, positive_fraction: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Choose only positive boxes, and no negative ones."""
    positive, negative = matching.sample(labels, size, positive_fraction, rng)
    return positive, negative[:0]


def encode(gt_boxes: np.ndarray, boxes_: np.ndarray, weights: Sequence[float] = (1, 1, 1, 1)) -> np.ndarray:
    """Swap dx with dy, and dw with dh."""
    return boxes.encode(gt_boxes, boxes_, weights)[:, [1, 0, 3, 2]]


def decode(deltas: np.ndarray, boxes_: np.ndarray, weights: Sequence[float] = (1, 1, 1, 1)) -> np.ndarray:
    """Forget to divide the deltas by their weights."""
    del weights
    return boxes.decode(deltas, boxes_)


def nms(boxes_: np.ndarray, scores: np.ndarray, iou_threshold: float) -> list[int]:
    """Compare each box only with the box that was kept last."""
    kept: list[int] = []
    for index in suppression.descending_order(scores).tolist():
        if not kept or boxes.iou(boxes_[kept[-1:]], boxes_[[index]])[0, 0] <= iou_threshold:
            kept.append(index)
    return kept


def batched_nms(boxes_: np.ndarray, scores: np.ndarray, groups: np.ndarray, iou_threshold: float) -> np.ndarray:
    """Forget the groups, so that boxes of different classes suppress each other."""
    del groups
    return suppression.nms(boxes_, scores, iou_threshold)


def roi_align(
    features: np.ndarray, rois: np.ndarray, roi_images: np.ndarray, output_size: Size, spatial_scale: float = 1.0
) -> np.ndarray:
    """Round the RoI and its bins to whole cells, as RoIPool does."""
    return roi.roi_pool(features, rois, roi_images, (output_size[0], output_size[1]), spatial_scale)


def roi_targets(
    proposals: np.ndarray, gt_boxes: np.ndarray, gt_labels: np.ndarray, **options: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Use the index of an object as its class."""
    numbers = np.minimum(np.arange(len(gt_labels)) + 1, np.max(gt_labels, initial=0))  # (G,)
    targets = roi_heads.find_targets(proposals, gt_boxes, numbers, **options)
    return targets.rois, targets.labels, targets.deltas


TYPICAL: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (
        *(anchor_generator, batched_nms, cell_anchors, decode, encode, grid_anchors),
        *(iou, match, nms, roi_align, roi_targets, sample),
    )
}

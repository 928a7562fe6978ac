"""The second stage: what is in each proposal, and where exactly are its edges?

Girshick, "Fast R-CNN", 2015, section 2; Ren et al., "Faster R-CNN", 2015. Features are pooled from each region of
interest (RoI), two fully connected layers look at them, and two more give the class and, for each class, the deltas
from the RoI to the object.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from rcnn import boxes as box_ops
from rcnn import roi
from rcnn._validate import as_float_array, as_index_array, check_boxes, integer
from rcnn.matching import match, sample
from rcnn.nms import batched_nms
from rcnn.nn import Dropout, Linear, Module, Tensor
from rcnn.nn import functional as F
from rcnn.nn.fusion import fused
from rcnn.nn.random import generator
from rcnn.nn.tensor import check_tensor, record

MIN_SIDE = 1e-2  # pixels; a detection with a shorter side is dropped
SMOOTH_L1_BETA = 1 / 9
DELTA_WEIGHTS = (10.0, 10.0, 5.0, 5.0)  # scale the targets to roughly unit standard deviation


# ---------------------------------------------------------------------- pooling


def pool(
    features: Sequence[Tensor],
    rois: np.ndarray,
    roi_images: np.ndarray,
    levels: np.ndarray,
    scales: Sequence[float],
    *,
    output_size: tuple[int, int] = (7, 7),
    sampling_ratio: int = 2,
    aligned: bool = False,
) -> Tensor:
    """Return the features under each RoI, (R, C, *output_size), by RoIAlign on the level that the RoI belongs to.

    The gradient flows to the features, not to the RoIs.

    Parameters
    ----------
    features : sequence of tensors
        Per level (N, C, H_l, W_l).
    rois, roi_images : (R, 4), (R,)
        Boxes in pixels of the batch, and the index of the image that each lies on.
    levels : (R,)
        Index in `features` of each RoI's level, as from `rcnn.roi.roi_levels`.
    scales : sequence of floats
        Per level the feature pixels per pixel of the batch, as from `rcnn.roi.level_scales`.
    output_size : (height, width)
        The bins of a RoI.
    sampling_ratio, aligned
        As in `rcnn.roi.roi_align`.
    """
    for index, level in enumerate(features):
        check_tensor(f"pool (features[{index}])", level)
    where = (rois, roi_images, levels)
    maps, options = [level.data for level in features], (scales, sampling_ratio, aligned)
    pooled = roi.multiscale_roi_align(maps, *where, output_size, *options)  # (R, C, *output_size)
    shapes = [level.shape for level in features]
    return record(pooled, features, lambda g: tuple(roi.multiscale_roi_align_backward(g, *where, shapes, *options)))


# ---------------------------------------------------------------------- the head


class TwoMLPHead(Module):
    """Two fully connected layers: pooled features (R, C, ph, pw) to (R, hidden_dim)."""

    def __init__(self, in_features: int, hidden_dim: int, dropout: float) -> None:
        self.fc6 = Linear(in_features, hidden_dim)
        self.fc7 = Linear(hidden_dim, hidden_dim)
        self.dropout = Dropout(dropout)

    @fused
    def forward(self, pooled: Tensor) -> Tensor:
        hidden = self.dropout(F.relu(self.fc6(pooled)))  # (R, hidden_dim)
        return self.dropout(F.relu(self.fc7(hidden)))


class FastRCNNPredictor(Module):
    """The last two layers: class logits (R, L), and for each class its deltas (R, L, 4)."""

    def __init__(self, in_features: int, num_classes: int) -> None:
        self.cls_score = Linear(in_features, num_classes)
        self.bbox_pred = Linear(in_features, num_classes * 4)

    def forward(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        class_logits: Tensor = self.cls_score(hidden)
        return class_logits, self.bbox_pred(hidden).reshape(*class_logits.shape, 4)


class RoIHeads(Module):
    """The learned part of the second stage: pooled features to class logits and box deltas."""

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        pool_size: tuple[int, int] = (7, 7),
        hidden_dim: int = 1024,
        dropout: float = 0.0,
    ) -> None:
        rows, columns = pool_size
        self.box_head = TwoMLPHead(in_channels * rows * columns, hidden_dim, dropout)
        self.box_predictor = FastRCNNPredictor(hidden_dim, num_classes)

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """Return (class_logits (R, L), box_deltas (R, L, 4)) of pooled features (R, C, ph, pw)."""
        class_logits, box_deltas = self.box_predictor(self.box_head(pooled))
        return class_logits, box_deltas


# ---------------------------------------------------------------------- training


@dataclass(frozen=True)
class RoITargets:
    """The RoIs of one image that the second stage learns from, and their targets.

    Attributes
    ----------
    rois : (R, 4)
        Proposals and ground truth.
    labels : (R,) int64
        Their classes, 0 for background.
    deltas : (R, 4)
        From each RoI to its object, weighted; zeros for background.
    """

    rois: np.ndarray
    labels: np.ndarray
    deltas: np.ndarray


def find_targets(
    proposals: ArrayLike,
    gt_boxes: ArrayLike,
    gt_labels: ArrayLike,
    *,
    fg_iou_thresh: float = 0.5,
    bg_iou_thresh: float = 0.5,
    batch_size: int = 512,
    positive_fraction: float = 0.25,
    weights: Sequence[float] = DELTA_WEIGHTS,
    rng: np.random.Generator | None = None,
) -> RoITargets:
    """Return a sample of the RoIs of one image with their targets.

    The ground truth joins the proposals: while the RPN still proposes badly, the second stage has something to learn.

    Parameters
    ----------
    proposals : (P, 4)
        In pixels.
    gt_boxes, gt_labels : (G, 4), (G,)
        The objects, in pixels, and their classes, 1 and above.
    fg_iou_thresh, bg_iou_thresh : float
        A RoI is positive at or above the first, background below the second.
    batch_size : int
        The largest number of RoIs that are sampled.
    positive_fraction : float
        The largest fraction of them that may be positive.
    weights : four floats
        The factors of dx, dy, dw, dh.
    rng : numpy.random.Generator, optional
        Draws the sample; the library's own without it.
    """
    proposals = check_boxes(proposals, "proposals")
    gt_boxes = check_boxes(gt_boxes, "gt_boxes")
    gt_labels = as_index_array(gt_labels, "gt_labels", len(gt_boxes))
    if (gt_labels < 1).any():
        raise ValueError(f"gt_labels must be at least 1 (0 is the background), got {gt_labels.min()}")
    candidates = np.concatenate([proposals, gt_boxes.astype(proposals.dtype)])  # (P + G, 4)
    matches = match(box_ops.iou(candidates, gt_boxes), fg_iou_thresh, bg_iou_thresh)
    labels = np.minimum(matches + 1, 0)  # background 0, ignored -1
    labels[matches >= 0] = gt_labels[matches[matches >= 0]]
    positive, negative = sample(labels, batch_size, positive_fraction, generator(rng))
    chosen = np.sort(np.concatenate([positive, negative]))
    rois, labels, matches = candidates[chosen], labels[chosen], matches[chosen]
    deltas = np.zeros((len(rois), 4), rois.dtype)
    is_object = labels > 0
    deltas[is_object] = box_ops.encode(gt_boxes[matches[is_object]], rois[is_object], weights)
    return RoITargets(rois, labels, deltas)


def loss(class_logits: Tensor, box_deltas: Tensor, targets: Sequence[RoITargets]) -> tuple[Tensor, Tensor]:
    """Return the two losses of the second stage, scalars: of the class and of the deltas (Fast R-CNN, equation 1).

    class_logits (R, L) and box_deltas (R, L, 4) over the RoIs of all images in order. Cross-entropy is averaged; smooth
    L1 of the true class's deltas is summed over the objects and divided by the number of RoIs.
    """
    labels = np.concatenate([t.labels for t in targets])  # (R,)
    wanted = np.concatenate([t.deltas for t in targets])  # (R, 4)
    positive = np.flatnonzero(labels > 0)
    cls_loss = F.cross_entropy(class_logits, labels)
    reg_loss = F.smooth_l1_loss(box_deltas[positive, labels[positive]], wanted[positive], SMOOTH_L1_BETA)
    return cls_loss, reg_loss * (1 / max(len(labels), 1))


# ---------------------------------------------------------------------- detection


def detect(
    class_logits: ArrayLike,
    box_deltas: ArrayLike,
    rois: ArrayLike,
    image_size: tuple[int, int],
    *,
    score_thresh: float = 0.05,
    nms_thresh: float = 0.5,
    top_k: int = 100,
    weights: Sequence[float] = DELTA_WEIGHTS,
) -> dict[str, np.ndarray]:
    """Return the detections of one image, by descending score: {"boxes" (D, 4), "scores" (D,), "labels" (D,)}.

    Each RoI may become one box of every class. Boxes are clipped to the image; those with a low score or a side below
    1e-2 pixels are dropped; suppression runs within each class; the best of all classes remain.

    Parameters
    ----------
    class_logits, box_deltas : (R, L), (R, L, 4)
        The head's results; class 0 is the background.
    rois : (R, 4)
        In pixels.
    image_size : (height, width)
        In pixels.
    score_thresh : float
        A detection's score must exceed it.
    nms_thresh : float
        The IoU above which a box is suppressed by a better one of its class.
    top_k : int
        The largest number of detections.
    weights : four floats
        The factors of dx, dy, dw, dh that the deltas were learned with.
    """
    integer(1).check("top_k", top_k)
    boxes = check_boxes(rois, "rois")
    logits, moves = as_float_array(class_logits, "class_logits"), as_float_array(box_deltas, "box_deltas")
    if logits.ndim != 2 or moves.shape != (*logits.shape, 4) or len(logits) != len(boxes):
        raise ValueError(
            f"class_logits and box_deltas must have the shapes ({len(boxes)}, L) and ({len(boxes)}, L, 4) for "
            f"{len(boxes)} RoIs, got {logits.shape} and {moves.shape}"
        )
    classes = logits.shape[1]
    scores = F.softmax_of(logits)[:, 1:].reshape(-1)  # (R * (L-1),): background is no detection
    likely = np.flatnonzero(scores > score_thresh)  # few: decoding what cannot be detected would be wasted
    indices, labels = likely // (classes - 1), likely % (classes - 1) + 1
    boxes = box_ops.decode(moves[indices, labels], boxes[indices], weights)
    boxes, scores = box_ops.clip(boxes, image_size), scores[likely]
    kept = box_ops.remove_small(boxes, MIN_SIDE)
    boxes, scores, labels = boxes[kept], scores[kept], labels[kept]
    kept = batched_nms(boxes, scores, labels, nms_thresh)[:top_k]
    return {"boxes": boxes[kept], "scores": scores[kept], "labels": labels[kept].astype(np.int64)}

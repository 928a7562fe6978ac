"""The second stage: what is in each proposal, and where exactly are its edges?

Girshick, "Fast R-CNN", 2015, section 2; Ren et al., "Faster R-CNN", 2015. Features are pooled from each region of
interest (RoI), two fully connected layers look at them, and two more say the class and, for each class, the deltas from
the RoI to the object.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rcnn import boxes as box_ops
from rcnn import roi
from rcnn._ext.memory import empty_maps
from rcnn.config import FasterRCNNConfig
from rcnn.matching import match, sample
from rcnn.nms import batched_nms
from rcnn.nn import Dropout, Linear, Module, Tensor, elementwise
from rcnn.nn import functional as F
from rcnn.nn.layers import is_plain
from rcnn.nn.tensor import record

MIN_SIDE = 1e-2  # pixels; a detection with a shorter side is dropped
SMOOTH_L1_BETA = 1 / 9


# ---------------------------------------------------------------------- pooling


def level_scales(feature_heights: Sequence[int], padded_height: int) -> list[float]:
    """For each level, what a coordinate of the image is multiplied with to be one of the level.

    The power of two nearest to feature height / padded height where that explains the height to within a row, else
    the ratio itself.
    """
    scales = []
    for height in feature_heights:
        ratio = height / padded_height
        power = 2.0 ** round(math.log2(ratio))
        scales.append(power if abs(power * padded_height - height) <= 1 else ratio)
    return scales


def roi_levels(rois: np.ndarray, scales: Sequence[float], config: FasterRCNNConfig) -> np.ndarray:
    """(R,) index of the level that each RoI (R, 4) is pooled from: large ones from coarse levels (FPN, equation 1)."""
    finest, coarsest = (round(-math.log2(scale)) for scale in (scales[0], scales[-1]))
    levels = roi.assign_levels(rois, finest, coarsest, config.canonical_size, config.canonical_level)
    return np.minimum(levels - finest, len(scales) - 1)


def pool(
    features: Sequence[Tensor],
    rois: np.ndarray,
    roi_images: np.ndarray,
    levels: np.ndarray,
    scales: Sequence[float],
    config: FasterRCNNConfig,
) -> Tensor:
    """The features under each RoI, (R, C, *pool_size): RoIAlign on the level that the RoI belongs to.

    features: per level (N, C, H_l, W_l); rois (R, 4); roi_images (R,); levels (R,) index of a level. The gradient flows
    to the features, not to the RoIs.
    """
    how = (config.sampling_ratio, config.aligned)
    members = [np.flatnonzero(levels == level) for level in range(len(features))]
    channels = features[0].shape[1]
    pooled = empty_maps((len(rois), channels, *config.pool_size), features[0].dtype)
    for level, who, scale in zip(features, members, scales, strict=True):
        if len(who):
            roi.roi_align_into(pooled, who, level.data, rois[who], roi_images[who], scale, *how)

    def vjp(g: np.ndarray) -> tuple[np.ndarray | None, ...]:
        grads: list[np.ndarray | None] = [None] * len(features)
        for index, (level, who, scale) in enumerate(zip(features, members, scales, strict=True)):
            if len(who):
                n, _, height, width = level.shape
                grads[index] = roi.roi_align_backward(
                    elementwise.take(g, who), rois[who], roi_images[who], (n, channels, height, width), scale, *how
                )
        return tuple(grads)

    return record(pooled, features, vjp)


# ---------------------------------------------------------------------- the head


class TwoMLPHead(Module):
    """Two fully connected layers: pooled features (R, C, ph, pw) to (R, hidden_dim)."""

    def __init__(self, in_features: int, hidden_dim: int, dropout: float) -> None:
        self.fc6 = Linear(in_features, hidden_dim)
        self.fc7 = Linear(hidden_dim, hidden_dim)
        self.dropout = Dropout(dropout)

    def forward(self, pooled: Tensor) -> Tensor:
        hidden = self.dropout(_linear_relu(self.fc6, pooled))  # (R, hidden_dim)
        return self.dropout(_linear_relu(self.fc7, hidden))


def _linear_relu(layer: Module, x: Tensor) -> Tensor:
    """relu(layer(x)), where maps are taken as they lie if the layer is our own `Linear`, else flattened for it."""
    if not is_plain(layer, Linear):
        return F.relu(layer(x.flatten(start_dim=1)))
    linear = F.linear if x.ndim == 2 else F.linear_on_maps
    return linear(x, layer.weight, layer.bias, relu=True)


class FastRCNNPredictor(Module):
    """What the head concludes: class logits (R, L) and for each class its deltas (R, L, 4)."""

    def __init__(self, in_features: int, num_classes: int) -> None:
        self.cls_score = Linear(in_features, num_classes)
        self.bbox_pred = Linear(in_features, num_classes * 4)

    def forward(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        class_logits: Tensor = self.cls_score(hidden)
        return class_logits, self.bbox_pred(hidden).reshape(*class_logits.shape, 4)


class RoIHeads(Module):
    """The learned part of the second stage: pooled features to class logits and box deltas."""

    def __init__(self, config: FasterRCNNConfig) -> None:
        rows, columns = config.pool_size
        self.box_head = TwoMLPHead(config.feat_channels * rows * columns, config.hidden_dim, config.dropout)
        self.box_predictor = FastRCNNPredictor(config.hidden_dim, config.num_classes)

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """(class_logits (R, L), box_deltas (R, L, 4)) from pooled features (R, C, ph, pw)."""
        class_logits, box_deltas = self.box_predictor(self.box_head(pooled))
        return class_logits, box_deltas


# ---------------------------------------------------------------------- training


@dataclass(frozen=True)
class RoITargets:
    """The RoIs of one image that the second stage learns from, and what it should say about them.

    rois (R, 4); labels (R,): class, 0 for background; deltas (R, 4): to the matched object, in the second stage's
    weights (zeros for background).
    """

    rois: np.ndarray
    labels: np.ndarray
    deltas: np.ndarray


def find_targets(
    proposals: np.ndarray,
    gt_boxes: np.ndarray,
    gt_labels: np.ndarray,
    config: FasterRCNNConfig,
    rng: np.random.Generator,
) -> RoITargets:
    """A sample of RoIs of one image with their targets. proposals (P, 4); gt_boxes (G, 4); gt_labels (G,).

    The ground truth joins the proposals: while the RPN still proposes badly, the second stage has something to learn.
    """
    candidates = np.concatenate([proposals, gt_boxes.astype(proposals.dtype)])  # (P + G, 4)
    matches = match(box_ops.iou(candidates, gt_boxes), config.box_fg_iou_thresh, config.box_bg_iou_thresh)
    labels = np.minimum(matches + 1, 0)  # background 0, ignored -1
    labels[matches >= 0] = gt_labels[matches[matches >= 0]]
    positive, negative = sample(labels, config.box_batch_size_per_image, config.box_positive_fraction, rng)
    chosen = np.sort(np.concatenate([positive, negative]))
    rois, labels, matches = candidates[chosen], labels[chosen], matches[chosen]
    deltas = np.zeros((len(rois), 4), rois.dtype)
    is_object = labels > 0
    deltas[is_object] = box_ops.encode(gt_boxes[matches[is_object]], rois[is_object], config.bbox_reg_weights)
    return RoITargets(rois, labels, deltas)


def loss(class_logits: Tensor, box_deltas: Tensor, targets: Sequence[RoITargets]) -> tuple[Tensor, Tensor]:
    """The two losses of the second stage, scalars: of the class and of the deltas (Fast R-CNN, equation 1).

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
    class_logits: np.ndarray,
    box_deltas: np.ndarray,
    rois: np.ndarray,
    image_size: tuple[int, int],
    config: FasterRCNNConfig,
    score_thresh: float,
    nms_thresh: float,
    top_k: int,
) -> dict[str, np.ndarray]:
    """The detections of one image, by falling score: {"boxes" (D, 4), "scores" (D,), "labels" (D,)}.

    class_logits (R, L), box_deltas (R, L, 4), rois (R, 4). Each RoI may become one box of every class. Boxes are
    clipped to image_size; those with a score up to `score_thresh` or a side below 1e-2 are dropped; suppression runs
    within each class; the `top_k` best of all classes remain.
    """
    classes = class_logits.shape[1]
    scores = F.softmax_of(class_logits)[:, 1:].reshape(-1)  # (R * (L-1),): background is no detection
    likely = np.flatnonzero(scores > score_thresh)  # few: decoding what cannot be detected would be wasted
    who, labels = likely // (classes - 1), likely % (classes - 1) + 1
    boxes = box_ops.decode(box_deltas[who, labels], rois[who], config.bbox_reg_weights)
    boxes, scores = box_ops.clip(boxes, image_size), scores[likely]
    kept = box_ops.remove_small(boxes, MIN_SIDE)
    boxes, scores, labels = boxes[kept], scores[kept], labels[kept]
    kept = batched_nms(boxes, scores, labels, nms_thresh)[:top_k]
    return {"boxes": boxes[kept], "scores": scores[kept], "labels": labels[kept].astype(np.int64)}

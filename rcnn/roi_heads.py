"""The second stage: classify each proposal and refine its box.

Girshick, "Fast R-CNN", 2015, section 2; Ren et al., "Faster R-CNN", 2015. Features are pooled from each region of
interest (RoI). Two fully connected layers follow; two more predict the class and, for each class, the deltas from the
RoI to the object. L, the number of classes, counts the background (class 0).
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
    """Return the features of each RoI, pooled by RoIAlign from the level that the RoI belongs to.

    The gradient flows to the features, not to the RoIs.

    Parameters
    ----------
    features : sequence of (N, C, H_l, W_l) tensors
        The levels of the pyramid.
    rois : (R, 4) array
        Boxes in pixels of the batch.
    roi_images : (R,) int array
        The index of each RoI's image.
    levels : (R,) int array
        The index in `features` of each RoI's level, as from `rcnn.roi.roi_levels`.
    scales : sequence of floats
        Feature pixels per pixel of the batch for each level, as from `rcnn.roi.level_scales`.
    output_size : (height, width)
        The number of bins.
    sampling_ratio : int
        As in `rcnn.roi.roi_align`.
    aligned : bool
        As in `rcnn.roi.roi_align`.

    Returns
    -------
    (R, C, height, width) tensor
        The pooled features.
    """
    for index, level in enumerate(features):
        check_tensor(f"pool (features[{index}])", level)
    regions = (rois, roi_images, levels)
    maps, options = [level.data for level in features], (scales, sampling_ratio, aligned)
    pooled = roi.multiscale_roi_align(maps, *regions, output_size, *options)  # (R, C, *output_size)
    shapes = [level.shape for level in features]
    return record(pooled, features, lambda g: tuple(roi.multiscale_roi_align_backward(g, *regions, shapes, *options)))


# ---------------------------------------------------------------------- the head


class TwoMLPHead(Module):
    """Two fully connected layers: pooled features (R, C, ph, pw) to (R, hidden_dim).

    Parameters
    ----------
    in_features : int
        C * ph * pw.
    hidden_dim : int
        The width of both layers.
    dropout : float
        The probability that an element of either layer is dropped in training.
    """

    def __init__(self, in_features: int, hidden_dim: int, dropout: float) -> None:
        self.fc6 = Linear(in_features, hidden_dim)
        self.fc7 = Linear(hidden_dim, hidden_dim)
        self.dropout = Dropout(dropout)

    @fused
    def forward(self, pooled: Tensor) -> Tensor:
        hidden = self.dropout(F.relu(self.fc6(pooled)))  # (R, hidden_dim)
        return self.dropout(F.relu(self.fc7(hidden)))


class FastRCNNPredictor(Module):
    """The last two layers: (R, in_features) to class logits (R, L) and box deltas (R, L, 4), one box per class.

    Parameters
    ----------
    in_features : int
        The width of the layer before.
    num_classes : int
        L, the background included.
    """

    def __init__(self, in_features: int, num_classes: int) -> None:
        self.cls_score = Linear(in_features, num_classes)
        self.bbox_pred = Linear(in_features, num_classes * 4)

    def forward(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        class_logits: Tensor = self.cls_score(hidden)
        return class_logits, self.bbox_pred(hidden).reshape(*class_logits.shape, 4)


class RoIHeads(Module):
    """The layers of the second stage: pooled features to class logits and box deltas.

    Parameters
    ----------
    in_channels : int
        The channels of the feature maps.
    num_classes : int
        L, the background included.
    pool_size : (height, width)
        The size of the pooled features.
    hidden_dim : int
        The width of the two hidden layers.
    dropout : float
        The probability that an element of either hidden layer is dropped in training.
    """

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
    """The sampled RoIs of one image and their targets.

    Attributes
    ----------
    rois : (R, 4) array
        Proposals and ground-truth boxes, in pixels.
    labels : (R,) int64 array
        Their classes; 0 is background.
    deltas : (R, 4) array
        The weighted deltas from each RoI to its object; zeros for background.
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
    """Return a sample of the RoIs of one image, and their targets.

    The ground-truth boxes are added to the proposals, so that there are positive RoIs even while the RPN still proposes
    badly.

    Parameters
    ----------
    proposals : (P, 4) array
        In pixels.
    gt_boxes : (G, 4) array
        The objects, in pixels.
    gt_labels : (G,) int array
        Their classes, 1 and above.
    fg_iou_thresh, bg_iou_thresh : float
        A RoI is positive at or above the first IoU, background below the second.
    batch_size : int
        The largest number of RoIs to sample.
    positive_fraction : float
        The largest fraction of positive RoIs in the sample.
    weights : four floats
        The factors of dx, dy, dw, dh.
    rng : numpy.random.Generator, optional
        The source of randomness; by default the library's own.

    Returns
    -------
    RoITargets
        RoIs, labels and deltas.
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
    """Return the two losses of the second stage: of the class and of the deltas.

    Cross-entropy is averaged over the RoIs. Smooth L1 (beta = 1/9) of the true class's deltas is summed over the RoIs
    with an object and divided by the number of RoIs.

    Parameters
    ----------
    class_logits : (R, L) tensor
        The logits of the RoIs of all images, in order.
    box_deltas : (R, L, 4) tensor
        The deltas of each class.
    targets : sequence of RoITargets
        One per image.

    Returns
    -------
    cls_loss, reg_loss : scalar tensors
        Both are 0 if nothing was sampled.

    References
    ----------
    Girshick, "Fast R-CNN", 2015, equation 1.
    """
    labels = np.concatenate([t.labels for t in targets])  # (R,)
    target_deltas = np.concatenate([t.deltas for t in targets])  # (R, 4)
    positive = np.flatnonzero(labels > 0)
    cls_loss = F.cross_entropy(class_logits, labels)
    reg_loss = F.smooth_l1_loss(box_deltas[positive, labels[positive]], target_deltas[positive], SMOOTH_L1_BETA)
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
    """Return the detections of one image, by descending score.

    Each RoI can become one box of every class. Boxes are clipped to the image. Boxes with a low score or a side below
    1e-2 pixels are dropped. NMS runs within each class. The best boxes of all classes remain.

    Parameters
    ----------
    class_logits : (R, L) array
        Logits; class 0 is the background.
    box_deltas : (R, L, 4) array
        Deltas of each class.
    rois : (R, 4) array
        Boxes in pixels.
    image_size : (height, width)
        The size to which boxes are clipped, in pixels.
    score_thresh : float
        A detection's score must be greater than this.
    nms_thresh : float
        A box is suppressed if its IoU with a box of higher score of its class is above this.
    top_k : int
        The largest number of detections.
    weights : four floats
        The factors of dx, dy, dw, dh that the deltas were encoded with.

    Returns
    -------
    dict
        {"boxes": (D, 4), "scores": (D,), "labels": (D,) int64}.
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

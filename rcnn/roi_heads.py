"""The second stage, which classifies each proposal and refines its box.

Features are pooled from each region of interest (RoI). Two fully connected layers follow; a more accurate variant has
convolutions instead of the first one. Two more layers predict the class and, for each class, four deltas that move the
RoI to the object. In the shapes, N is the number of images, R the number of RoIs, C the number of channels, and L the
number of classes, including the background (class 0).

See Girshick, "Fast R-CNN", 2015, section 2, and Ren et al., "Faster R-CNN", 2015.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from rcnn import boxes as box_ops
from rcnn import roi
from rcnn._ext.dispatch import Result, floats, indices, replaceable
from rcnn._validate import (
    BELOW_ONE,
    FRACTION,
    MAX_CLASSES,
    MOST_BOXES,
    MOST_CONVS,
    MOST_ELEMENTS,
    as_dtype,
    as_float_array,
    as_index_array,
    check_boxes,
    check_finite,
    check_pair,
    check_sequence,
    check_sides,
    integer,
)
from rcnn.matching import check_thresholds, match, sample
from rcnn.nms import suppress
from rcnn.nn import BatchNorm2d, Dropout, Identity, Linear, Module, ReLU, Sequential, Tensor
from rcnn.nn import functional as F
from rcnn.nn.fusion import fused
from rcnn.nn.layers import normal, same_conv2d
from rcnn.nn.random import generator
from rcnn.nn.tensor import check_tensor, record

MIN_SIDE = 1e-2  # in pixels; a detection with a shorter side is dropped
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
    """Return the features of each RoI, which RoIAlign pools from the pyramid level to which the RoI belongs.

    Gradients flow to the features but not to the RoIs.

    Parameters
    ----------
    features : sequence of (N, C, H_l, W_l) tensors
        The feature maps of N images, with C channels: one tensor per level l of the pyramid.
    rois : (R, 4) array
        R regions of interest (RoIs): boxes in pixel coordinates of the padded images.
    roi_images : (R,) int array
        For each RoI, the index of its image.
    levels : (R,) int array
        For each RoI, the index of its level in `features`, as returned by `rcnn.roi.roi_levels`.
    scales : sequence of floats
        For each level, the number of feature pixels per image pixel, as returned by `rcnn.roi.level_scales`.
    output_size : (height, width)
        The number of bins along each axis.
    sampling_ratio : int
        See `rcnn.roi.roi_align`.
    aligned : bool
        See `rcnn.roi.roi_align`.

    Returns
    -------
    (R, C, height, width) tensor
        The pooled features.
    """
    check_sequence(features, "features")
    for index, level in enumerate(features):
        check_tensor("pool", level, f"features[{index}]")
    regions = (rois, roi_images, levels)
    maps, options = [level.data for level in features], (scales, sampling_ratio, aligned)
    pooled = roi.multiscale_roi_align(maps, *regions, output_size, *options)  # (R, C, *output_size)
    shapes = [level.shape for level in features]
    return record(pooled, features, lambda g: tuple(roi.multiscale_roi_align_backward(g, *regions, shapes, *options)))


# ---------------------------------------------------------------------- the head


class TwoMLPHead(Module):
    """Two fully connected layers that map the pooled features (R, C, ph, pw) of R RoIs to (R, hidden_dim).

    Parameters
    ----------
    in_features : int
        The number of pooled features per RoI, C * ph * pw, at least 1.
    hidden_dim : int
        The number of outputs of each layer, at least 1. A layer can have at most 2^30 weights.
    dropout : float
        The probability that an output of a layer is set to 0 in training, in [0, 1).
    """

    def __init__(self, in_features: int, hidden_dim: int, dropout: float) -> None:
        integer(1, MOST_ELEMENTS).check("hidden_dim", hidden_dim)
        BELOW_ONE.check("dropout", dropout)
        self.fc6 = Linear(in_features, hidden_dim)
        self.fc7 = Linear(hidden_dim, hidden_dim)
        self.dropout = Dropout(dropout)

    @fused
    def forward(self, pooled: Tensor) -> Tensor:
        hidden = self.dropout(F.relu(self.fc6(pooled)))  # (R, hidden_dim)
        return self.dropout(F.relu(self.fc7(hidden)))


class FastRCNNConvFCHead(Sequential):
    """3x3 convolutions with batch norm and one fully connected layer, which map (R, C, ph, pw) to (R, hidden_dim).

    This head is more accurate than `TwoMLPHead`, but it also takes more time.

    Parameters
    ----------
    in_channels : int
        The number of channels C of the pooled features, which the convolutions preserve, in 1 .. 2^20.
    pool_size : (height, width)
        The size of the pooled features, in 1 .. 1024.
    num_convs : int
        The number of convolutions, in 1 .. 16.
    hidden_dim : int
        The number of outputs of the last layer, at least 1. It can have at most 2^30 weights.
    dropout : float
        The probability that an output of the last layer is set to 0 in training, in [0, 1).

    References
    ----------
    Wu and He, "Group normalization", 2018, section 4.2.
    """

    def __init__(
        self, in_channels: int, pool_size: tuple[int, int], num_convs: int, hidden_dim: int, dropout: float
    ) -> None:
        rows, columns = check_pair(pool_size, "pool_size", roi.MOST_BINS)
        integer(1, MOST_CONVS).check("num_convs", num_convs)
        super().__init__(
            *(_conv_norm_relu(in_channels) for _ in range(num_convs)),
            Identity(),  # here, torchvision flattens the features; our linear layer does this itself
            Linear(in_channels * rows * columns, hidden_dim),
            ReLU(),
            Dropout(dropout),
        )


def _conv_norm_relu(channels: int) -> Sequential:
    """Return a 3x3 convolution with Kaiming initialisation, its batch norm and a ReLU."""
    weights = partial(normal, std=math.sqrt(2 / (9 * channels)))
    return Sequential(same_conv2d(channels, channels, 3, weights, bias=False), BatchNorm2d(channels), ReLU())


class FastRCNNPredictor(Module):
    """The last two layers, which map (R, in_features) to class logits (R, L) and box deltas (R, L, 4).

    Each of the R RoIs gets one logit and four deltas for each of L classes.

    Parameters
    ----------
    in_features : int
        The number of outputs of the layer before, at least 1.
    num_classes : int
        The number of classes L, including the background, in 1 .. 2^16.
    """

    def __init__(self, in_features: int, num_classes: int) -> None:
        integer(1, MAX_CLASSES).check("num_classes", num_classes)
        self.cls_score = Linear(in_features, num_classes)
        self.bbox_pred = Linear(in_features, num_classes * 4)

    def forward(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        class_logits: Tensor = self.cls_score(hidden)
        return class_logits, self.bbox_pred(hidden).reshape(*class_logits.shape, 4)


class RoIHeads(Module):
    """The layers of the second stage, which map pooled features to class logits and box deltas.

    Parameters
    ----------
    in_channels : int
        The number of channels of the feature maps, at least 1.
    num_classes : int
        The number of classes, including the background, in 1 .. 2^16.
    pool_size : (height, width)
        The size of the pooled features, in 1 .. 1024.
    hidden_dim : int
        The number of outputs of each fully connected hidden layer, at least 1. A layer can have at most 2^30 weights.
    dropout : float
        The probability that an output of such a layer is set to 0 in training, in [0, 1).
    num_convs : int
        If 0, the hidden layers are those of `TwoMLPHead`. Otherwise, they are those of `FastRCNNConvFCHead`, with this
        number of convolutions, at most 16.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        pool_size: tuple[int, int] = (7, 7),
        hidden_dim: int = 1024,
        dropout: float = 0.0,
        num_convs: int = 0,
    ) -> None:
        integer(1, MOST_ELEMENTS).check("in_channels", in_channels)
        integer(1, MOST_ELEMENTS).check("hidden_dim", hidden_dim)
        rows, columns = check_pair(pool_size, "pool_size", roi.MOST_BINS)
        integer(0, MOST_CONVS).check("num_convs", num_convs)
        self.box_head: Module = (
            FastRCNNConvFCHead(in_channels, pool_size, num_convs, hidden_dim, dropout)
            if num_convs
            else TwoMLPHead(in_channels * rows * columns, hidden_dim, dropout)
        )
        self.box_predictor = FastRCNNPredictor(hidden_dim, num_classes)

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """Return the class logits (R, L) and box deltas (R, L, 4) of pooled features (R, C, ph, pw)."""
        class_logits, box_deltas = self.box_predictor(self.box_head(pooled))
        return class_logits, box_deltas


# ---------------------------------------------------------------------- training


@dataclass(frozen=True)
class RoITargets:
    """The sampled RoIs of one image and their targets.

    Attributes
    ----------
    rois : (R, 4) array
        The R sampled RoIs, which are proposals and ground-truth boxes, in pixels.
    labels : (R,) int64 array
        The class of each RoI; 0 is background.
    deltas : (R, 4) array
        The deltas that move each RoI to its object, multiplied by their weights. The deltas of a background RoI are 0.
    """

    rois: np.ndarray
    labels: np.ndarray
    deltas: np.ndarray


def _gathered(arrays: Sequence[np.ndarray]) -> RoITargets:
    """Return the three arrays of a user's function as RoITargets. Raise ValueError if their lengths differ."""
    counts = [len(array) for array in arrays]
    if len(set(counts)) > 1:
        raise ValueError(f"your roi_targets must return three arrays of the same length, got {counts}")
    return RoITargets(*arrays)


def _target_arrays(proposals: ArrayLike, gt_labels: ArrayLike, **_: object) -> tuple[Result, Result, Result]:
    boxes = floats((None, 4), proposals)
    return boxes, indices(None, 0, int(np.max(gt_labels, initial=0))), boxes


@replaceable(_target_arrays, name="roi_targets", gather=_gathered)
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

    The ground-truth boxes are added to the proposals. Therefore, there are positive RoIs even at the start of training,
    when the proposals are still poor.

    Parameters
    ----------
    proposals : (P, 4) array
        P proposals, in pixels.
    gt_boxes : (G, 4) array
        The boxes of G objects, in pixels.
    gt_labels : (G,) int array
        The class of each object, at least 1.
    fg_iou_thresh, bg_iou_thresh : float
        A RoI is positive if its highest intersection over union (IoU) with an object is at least the first threshold,
        and background if this IoU is below the second threshold. The thresholds satisfy
        0 <= bg_iou_thresh <= fg_iou_thresh <= 1.
    batch_size : int
        The maximum number of RoIs in the sample, in 0 .. 2^30.
    positive_fraction : float
        The maximum fraction of positive RoIs in the sample, in [0, 1].
    weights : four floats
        The factors by which the deltas dx, dy, dw and dh are multiplied.
    rng : numpy.random.Generator, optional
        The random generator; by default, the library's own.

    Returns
    -------
    RoITargets
        The sampled RoIs, their labels and their deltas.

    Raises
    ------
    TypeError, ValueError
        If an argument is invalid.
    """
    proposals = check_boxes(proposals, "proposals")
    gt_boxes = check_boxes(gt_boxes, "gt_boxes")
    check_finite(proposals, "proposals")
    check_finite(gt_boxes, "gt_boxes")
    gt_labels = as_index_array(gt_labels, "gt_labels", len(gt_boxes))
    if (gt_labels < 1).any():
        raise ValueError(f"gt_labels must be at least 1 (0 is the background), got {gt_labels.min()}")
    high, low = check_thresholds(fg_iou_thresh, bg_iou_thresh)
    integer(0, MOST_ELEMENTS).check("batch_size", batch_size)
    candidates = np.concatenate([proposals, as_dtype(gt_boxes, proposals.dtype, "gt_boxes")])  # (P + G, 4)
    matches = match(box_ops.iou(candidates, gt_boxes), high, low)
    labels = np.minimum(matches + 1, 0)  # background 0, ignored -1
    labels[matches >= 0] = gt_labels[matches[matches >= 0]]
    positive, negative = sample(labels, batch_size, positive_fraction, generator(rng))
    chosen = np.sort(np.concatenate([positive, negative]))
    rois, labels, matches = candidates[chosen], labels[chosen], matches[chosen]
    deltas = np.zeros((len(rois), 4), rois.dtype)
    is_object = labels > 0
    deltas[is_object] = box_ops.encode(gt_boxes[matches[is_object]], rois[is_object], weights)
    return RoITargets(rois, labels, deltas)


def loss(
    class_logits: Tensor,
    box_deltas: Tensor,
    targets: Sequence[RoITargets],
    *,
    class_weights: Sequence[float] | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the classification loss and the regression loss of the second stage.

    The classification loss is the cross-entropy, averaged over all RoIs with the weights of their classes. The
    regression loss is the smooth L1 loss (beta = 1/9) of the deltas of the true class. It is summed over the positive
    RoIs and divided by the number of all RoIs.

    Parameters
    ----------
    class_logits : (R, L) tensor
        The logits of R RoIs for L classes. The RoIs of all images are in the order of `targets`.
    box_deltas : (R, L, 4) tensor
        The deltas of each RoI for each class.
    targets : sequence of RoITargets
        The targets of each image.
    class_weights : L floats, optional
        The weight of each class in the classification loss, background first; by default, 1 for all classes.

    Returns
    -------
    cls_loss, reg_loss : scalar tensors
        The two losses. Both are 0 if there are no RoIs.

    References
    ----------
    Girshick, "Fast R-CNN", 2015, equation 1. As in torchvision, beta is 1/9 instead of 1.
    """
    _check_loss(class_logits, box_deltas, targets)
    labels = np.concatenate([t.labels for t in targets])  # (R,)
    target_deltas = np.concatenate([t.deltas for t in targets])  # (R, 4)
    positive = np.flatnonzero(labels > 0)
    cls_loss = F.cross_entropy(class_logits, labels, class_weights)
    reg_loss = F.smooth_l1_loss(box_deltas[positive, labels[positive]], target_deltas[positive], SMOOTH_L1_BETA)
    return cls_loss, reg_loss * (1 / max(len(labels), 1))


def _check_loss(class_logits: Tensor, box_deltas: Tensor, targets: Sequence[RoITargets]) -> None:
    """Raise TypeError or ValueError if the shapes or the labels of predictions and targets do not match."""
    check_tensor("loss", class_logits, "class_logits")
    check_tensor("loss", box_deltas, "box_deltas")
    check_sequence(targets, "targets")
    if not len(targets):
        raise ValueError("targets must have at least one element, got none")
    all_labels = []
    for index, target in enumerate(targets):
        if not isinstance(target, RoITargets):
            raise TypeError(f"targets[{index}] must be RoITargets, got {type(target).__name__}")
        labels = as_index_array(target.labels, f"targets[{index}].labels")
        deltas = check_boxes(target.deltas, f"targets[{index}].deltas")
        if len(deltas) != len(labels):
            raise ValueError(
                f"targets[{index}].deltas must have shape ({len(labels)}, 4), with four deltas per label, "
                f"got {deltas.shape}"
            )
        all_labels.append(labels)
    count = sum(map(len, all_labels))
    if class_logits.ndim != 2 or len(class_logits) != count or box_deltas.shape != (*class_logits.shape, 4):
        raise ValueError(
            f"class_logits and box_deltas must have shapes ({count}, L) and ({count}, L, 4) for {count} RoIs in "
            f"targets, got {class_logits.shape} and {box_deltas.shape}"
        )
    classes = class_logits.shape[1]
    for index, labels in enumerate(all_labels):
        if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
            raise ValueError(
                f"targets[{index}].labels must be in 0 .. {classes - 1}, got {labels.min()} .. {labels.max()}"
            )


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
    class_agnostic: bool = False,
    soft_nms: str | None = None,
    weights: Sequence[float] = DELTA_WEIGHTS,
    visible: tuple[float, float] = (0.0, 0.0),
) -> dict[str, np.ndarray]:
    """Return the detections of one image, in descending order of score.

    Each RoI yields one box for every class. Boxes with a low score are dropped. The other boxes are clipped to the
    image. Boxes with a side shorter than 1e-2 pixels are then dropped, and so are boxes that lie in the padding of the
    image (see `visible`). Non-maximum suppression (NMS) is applied to each class. Finally, the boxes with the highest
    scores are kept, regardless of their class.

    Parameters
    ----------
    class_logits : (R, L) array
        The logits of R RoIs for L classes; class 0 is the background.
    box_deltas : (R, L, 4) array
        The deltas of each RoI for each class.
    rois : (R, 4) array
        R boxes, in pixels.
    image_size : (height, width)
        The size of the image, in pixels.
    score_thresh : float
        The threshold, in [0, 1]. A detection must have a higher score.
    nms_thresh : float
        The maximum intersection over union (IoU) of two detections of the same class, in [0, 1].
    top_k : int
        The maximum number of detections, in 1 .. 2^20.
    class_agnostic : bool
        If True, boxes of different classes suppress each other, too.
    soft_nms : {"linear", "gaussian"}, optional
        If given, lower the scores of overlapping boxes instead of dropping these boxes; see `rcnn.nms.soft_nms`.
    weights : four floats
        The factors by which the deltas dx, dy, dw and dh were multiplied in training.
    visible : (height, width)
        The minimum height of a box that is cut at the bottom border of the image, and the minimum width of a box that
        is cut at the right border, in pixels, in [0, 2^20]. If less remains of a box, it is dropped, because it lies
        almost entirely in the padding.

    Returns
    -------
    dict
        {"boxes": (D, 4), "scores": (D,), "labels": (D,) int64} of D detections. If a logit of a RoI is NaN, the RoI
        yields no detection. If a delta of a class is NaN, the RoI yields no detection of this class.

    Raises
    ------
    TypeError, ValueError
        If an argument is invalid.
    """
    integer(1, MOST_BOXES).check("top_k", top_k)
    score_thresh = FRACTION.check("score_thresh", score_thresh)
    nms_thresh = FRACTION.check("nms_thresh", nms_thresh)
    check_sides(image_size, "image_size")
    visible = check_sides(visible, "visible")
    boxes = check_boxes(rois, "rois")
    logits, moves = as_float_array(class_logits, "class_logits"), as_float_array(box_deltas, "box_deltas")
    if logits.ndim != 2 or logits.shape[1] < 1 or moves.shape != (*logits.shape, 4) or len(logits) != len(boxes):
        raise ValueError(
            f"class_logits and box_deltas must have shapes ({len(boxes)}, L) and ({len(boxes)}, L, 4) for "
            f"{len(boxes)} RoIs, got {logits.shape} and {moves.shape}"
        )
    classes = logits.shape[1]
    scores = F.softmax_of(logits)[:, 1:].reshape(-1)  # (R * (L-1),), without the background
    likely = np.flatnonzero(scores > score_thresh)  # only these few boxes need to be decoded
    indices, labels = likely // max(classes - 1, 1), likely % max(classes - 1, 1) + 1
    boxes = box_ops.decode(moves[indices, labels], boxes[indices], weights)
    whole, boxes, scores = boxes, box_ops.clip(boxes, image_size), scores[likely]
    kept = box_ops.remove_small(boxes, MIN_SIDE)
    kept = kept[~_are_slivers(whole[kept], boxes[kept], visible)]
    boxes, scores, labels = boxes[kept], scores[kept], labels[kept]
    kept, scores = suppress(
        boxes,
        scores,
        labels,
        score_thresh=score_thresh,
        nms_thresh=nms_thresh,
        top_k=top_k,
        class_agnostic=class_agnostic,
        soft_nms=soft_nms,
    )
    return {"boxes": boxes[kept], "scores": scores, "labels": labels[kept].astype(np.int64)}


def _are_slivers(whole: np.ndarray, clipped: np.ndarray, visible: tuple[float, float]) -> np.ndarray:
    """Return a mask (N,) of the boxes that are cut at the bottom or the right, and are then smaller than `visible`.

    `whole` contains the boxes before clipping, and `clipped` contains them after clipping.
    """
    sides = clipped[:, 2:] - clipped[:, :2]  # (N, 2)
    slivers = (whole[:, 2:] > clipped[:, 2:]) & (sides < visible[::-1])  # (N, 2): at the right, at the bottom
    return slivers[:, 0] | slivers[:, 1]

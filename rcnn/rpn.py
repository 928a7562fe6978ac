"""The region proposal network (RPN), which proposes boxes that may contain an object.

See Ren et al., "Faster R-CNN", 2015, section 3.1. A small convolutional head is applied at every cell of the feature
map. For each anchor of the cell, it predicts how likely it is that the anchor contains an object (*objectness*, a
logit) and how to move the anchor to this object (*deltas*). `propose` turns these predictions into boxes. To train the
head, use `find_targets` and `loss`.

In the shapes, N is the number of images, C the number of channels, H_l and W_l the height and width of the feature map
of level l, and A_l the number of anchors on this level.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from rcnn import boxes as box_ops
from rcnn._ext.memory import shared_filters
from rcnn._validate import (
    FRACTION,
    MOST_BOXES,
    MOST_CONVS,
    MOST_ELEMENTS,
    as_float_array,
    as_index_array,
    check_boxes,
    check_finite,
    check_scores,
    check_sequence,
    check_sides,
    in_common_dtype,
    integer,
)
from rcnn.anchors import MOST_PER_CELL
from rcnn.matching import check_thresholds, match, sample
from rcnn.nms import batched_nms, descending_order
from rcnn.nn import Module, ReLU, Sequential, Tensor, concatenate
from rcnn.nn import functional as F
from rcnn.nn.layers import normal, same_conv2d
from rcnn.nn.random import generator
from rcnn.nn.tensor import check_tensor

MIN_SIDE = 1e-3  # in pixels; a proposal with a shorter side is dropped
SMOOTH_L1_BETA = 1 / 9


class RPNHead(Module):
    """3x3 convolutions (one in the paper) followed by two 1x1 convolutions, shared by all levels.

    Its input is a list of feature maps (N, C, H_l, W_l), one per level l. It returns a list of objectness logits
    (N, A_l) and a list of deltas (N, A_l, 4), where A_l = H_l * W_l * num_anchors. Both are in the order of the
    anchors: by row, then column, then cell anchor.

    Parameters
    ----------
    in_channels : int
        The number of channels of the feature maps, in 1 .. 2^20.
    num_anchors : int
        The number of anchors per cell, in 1 .. 4096.
    num_convs : int
        The number of 3x3 convolutions, in 1 .. 16.
    """

    def __init__(self, in_channels: int, num_anchors: int, num_convs: int = 1) -> None:
        integer(1, MOST_PER_CELL).check("num_anchors", num_anchors)
        integer(1, MOST_CONVS).check("num_convs", num_convs)
        weights = partial(normal, std=0.01)  # section 3.1.3
        hidden = [same_conv2d(in_channels, in_channels, 3, weights) for _ in range(num_convs)]
        self.conv = Sequential(*(Sequential(conv, ReLU()) for conv in hidden))  # nested as in torchvision
        self.cls_logits = same_conv2d(in_channels, num_anchors, 1, weights)
        self.bbox_pred = same_conv2d(in_channels, num_anchors * 4, 1, weights)

    def forward(self, features: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        objectness, deltas = [], []
        with shared_filters():  # all levels use the same filters
            for level in features:
                hidden = self.conv(level)
                n = level.shape[0]
                objectness.append(self.cls_logits(hidden).transpose(0, 2, 3, 1).reshape(n, -1))  # (N, A_l)
                deltas.append(self.bbox_pred(hidden).transpose(0, 2, 3, 1).reshape(n, -1, 4))  # (N, A_l, 4)
        return objectness, deltas


class RPN(Module):
    """The region proposal network. Only its `head` has parameters; the other steps are functions in this file.

    Parameters
    ----------
    in_channels : int
        The number of channels of the feature maps, in 1 .. 2^20.
    num_anchors : int
        The number of anchors per cell, in 1 .. 4096.
    num_convs : int
        The number of 3x3 convolutions of the head, in 1 .. 16.
    """

    def __init__(self, in_channels: int, num_anchors: int, num_convs: int = 1) -> None:
        self.head = RPNHead(in_channels, num_anchors, num_convs)

    def forward(self, features: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        objectness, deltas = self.head(features)
        return objectness, deltas


@dataclass(frozen=True)
class Proposals:
    """The proposals of the RPN for one image.

    Attributes
    ----------
    boxes, scores : (P, 4) and (P,) arrays
        The P proposals, in pixels, and their probabilities, in descending order of probability.
    candidates, candidate_scores : (K, 4) and (K,) arrays
        The K boxes before non-maximum suppression (NMS), in pixels, and their probabilities, level by level.
    num_after_nms : int
        The number of candidates that NMS kept. The proposals are the best P of these candidates.
    """

    boxes: np.ndarray
    scores: np.ndarray
    candidates: np.ndarray
    candidate_scores: np.ndarray
    num_after_nms: int


def propose(
    objectness: Sequence[ArrayLike],
    deltas: Sequence[ArrayLike],
    anchors: Sequence[ArrayLike],
    image_size: tuple[int, int],
    *,
    pre_nms_top_n: int = 1000,
    post_nms_top_n: int = 1000,
    nms_thresh: float = 0.7,
    score_thresh: float = 0.0,
) -> Proposals:
    """Return the proposals for one image.

    On each level, the anchors with the highest scores are moved by their deltas and clipped to the image. Boxes with a
    side shorter than 1e-3 pixels or a score below `score_thresh` are dropped. Non-maximum suppression (NMS) is then
    applied to each level. Finally, the boxes with the highest scores are kept, regardless of their level.

    Parameters
    ----------
    objectness, deltas, anchors : sequences of arrays, one per level
        For each level l with A_l anchors, the logits (A_l,), the deltas (A_l, 4) and the anchors (A_l, 4), in pixels.
    image_size : (height, width)
        The size of the image, in pixels.
    pre_nms_top_n : int
        The maximum number of anchors per level before NMS, in 1 .. 2^20.
    post_nms_top_n : int
        The maximum number of proposals, in 1 .. 2^20.
    nms_thresh : float
        The maximum intersection over union (IoU) of two proposals from the same level, in [0, 1].
    score_thresh : float
        The minimum score of a proposal, in [0, 1].

    Returns
    -------
    Proposals
        The proposals, and the candidates before NMS. An anchor whose logit or deltas contain NaN yields no candidate.

    Raises
    ------
    TypeError, ValueError
        If there is no level, if the arrays of a level differ in length, or if another argument is invalid.

    References
    ----------
    Ren et al., "Faster R-CNN", 2015, section 3.1. For levels: Lin et al., "Feature Pyramid Networks", 2017.
    """
    for name, count in (("pre_nms_top_n", pre_nms_top_n), ("post_nms_top_n", post_nms_top_n)):
        integer(1, MOST_BOXES).check(name, count)
    nms_thresh = FRACTION.check("nms_thresh", nms_thresh)
    score_thresh = FRACTION.check("score_thresh", score_thresh)
    for name, values in (("objectness", objectness), ("deltas", deltas), ("anchors", anchors)):
        check_sequence(values, name)
        if not len(objectness):
            raise ValueError("objectness must have one array per level, got none")
        if len(values) != len(objectness):
            raise ValueError(
                f"{name} must have one array per level, like objectness (which has {len(objectness)}), "
                f"got {len(values)}"
            )
    check_sides(image_size, "image_size")
    boxes, logits, levels = [], [], []
    for level, given in enumerate(zip(objectness, deltas, anchors, strict=True)):
        level_logits, level_deltas, level_anchors = _check_level(level, *given)
        best = top_k(level_logits, pre_nms_top_n)  # only these anchors need to be decoded
        boxes.append(box_ops.decode(level_deltas[best], level_anchors[best]))
        logits.append(level_logits[best])
        levels.append(np.full(len(best), level))
    candidates = box_ops.clip(np.concatenate(boxes), image_size)  # (K', 4)
    scores, groups = F.sigmoid_of(np.concatenate(logits)), np.concatenate(levels)  # (K',), (K',)
    kept = box_ops.remove_small(candidates, MIN_SIDE)
    kept = kept[scores[kept] >= score_thresh]
    candidates, scores, groups = candidates[kept], scores[kept], groups[kept]  # (K, 4), (K,), (K,)
    survivors = batched_nms(candidates, scores, groups, nms_thresh)
    chosen = survivors[:post_nms_top_n]
    return Proposals(candidates[chosen], scores[chosen], candidates, scores, len(survivors))


def _check_level(
    level: int, logits: ArrayLike, deltas: ArrayLike, anchors: ArrayLike
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the arrays of one level as floats. Raise ValueError unless each anchor has a logit and four deltas."""
    boxes = check_boxes(anchors, f"anchors[{level}]")  # (A_l, 4)
    moves = check_boxes(deltas, f"deltas[{level}]")  # (A_l, 4)
    if len(moves) != len(boxes):
        raise ValueError(
            f"deltas[{level}] must have shape {boxes.shape}, with four deltas per anchor, got {moves.shape}"
        )
    return check_scores(logits, len(boxes), f"objectness[{level}]"), moves, boxes


def top_k(scores: ArrayLike, k: int) -> np.ndarray:
    """Return the indices of the k largest scores, in descending order; equal scores stay in the given order.

    Parameters
    ----------
    scores : (A,) array_like
        The scores of A anchors; NaN comes last.
    k : int
        The maximum number of indices, at least 0.

    Returns
    -------
    (min(k, A),) int64 array
        Indices into `scores`.
    """
    scores = as_float_array(scores, "scores")
    check_scores(scores, scores.size)
    k = integer(0).check("k", k)
    if k < len(scores):
        smallest_kept = np.partition(scores, len(scores) - k)[len(scores) - k]
        above, equal = np.flatnonzero(scores > smallest_kept), np.flatnonzero(scores == smallest_kept)
        chosen = np.sort(np.concatenate([above, equal[: k - len(above)]]))
    else:
        chosen = np.arange(len(scores))
    return chosen[descending_order(scores[chosen])].astype(np.int64, copy=False)


@dataclass(frozen=True)
class AnchorTargets:
    """The targets of the RPN for one image.

    Attributes
    ----------
    matches : (A,) int64 array
        For each of A anchors, the index of the object that it must predict; -1 means background, and -2 means ignored.
    positive, negative : int64 arrays
        The indices of the positive and of the negative anchors that were sampled for the loss, in ascending order.
    deltas : (len(positive), 4) array
        The deltas that move the sampled positive anchors to their objects.
    """

    matches: np.ndarray
    positive: np.ndarray
    negative: np.ndarray
    deltas: np.ndarray


def find_targets(
    anchors: ArrayLike,
    gt_boxes: ArrayLike,
    *,
    fg_iou_thresh: float = 0.7,
    bg_iou_thresh: float = 0.3,
    batch_size: int = 256,
    positive_fraction: float = 0.5,
    rng: np.random.Generator | None = None,
) -> AnchorTargets:
    """Return the targets of the RPN for one image.

    An anchor is positive if its intersection over union (IoU) with an object is at least `fg_iou_thresh`. It is also
    positive if it overlaps an object and no other anchor has a higher IoU with this object. Any other anchor is
    negative if its IoU with every object is below `bg_iou_thresh`, and is otherwise ignored.

    Parameters
    ----------
    anchors : (A, 4) array
        The A anchors of all levels, in pixels.
    gt_boxes : (G, 4) array
        The boxes of G objects, in pixels.
    fg_iou_thresh, bg_iou_thresh : float
        The thresholds for positive and for negative anchors, with 0 <= bg_iou_thresh <= fg_iou_thresh <= 1.
    batch_size : int
        The maximum number of anchors in the sample, in 0 .. 2^30.
    positive_fraction : float
        The maximum fraction of positive anchors in the sample, in [0, 1].
    rng : numpy.random.Generator, optional
        The random generator; by default, the library's own.

    Returns
    -------
    AnchorTargets
        The matches, the sampled anchors and their deltas.

    Raises
    ------
    TypeError, ValueError
        If an argument is invalid.

    References
    ----------
    Ren et al., "Faster R-CNN", 2015, section 3.1.2.
    """
    anchors, gt_boxes = in_common_dtype(check_boxes(anchors, "anchors"), check_boxes(gt_boxes, "gt_boxes"))
    check_finite(anchors, "anchors")
    check_finite(gt_boxes, "gt_boxes")
    high, low = check_thresholds(fg_iou_thresh, bg_iou_thresh)
    integer(0, MOST_ELEMENTS).check("batch_size", batch_size)
    matches = match(box_ops.iou(anchors, gt_boxes), high, low, force_best=True)
    labels = np.where(matches >= 0, 1, matches + 1)  # positive 1, negative 0, ignored -1
    positive, negative = sample(labels, batch_size, positive_fraction, generator(rng))
    return AnchorTargets(matches, positive, negative, box_ops.encode(gt_boxes[matches[positive]], anchors[positive]))


def loss(
    objectness: Sequence[Tensor], deltas: Sequence[Tensor], targets: Sequence[AnchorTargets]
) -> tuple[Tensor, Tensor]:
    """Return the classification loss and the regression loss of the RPN.

    The classification loss is the binary cross-entropy of the objectness, averaged over all sampled anchors of the
    batch. The regression loss is the smooth L1 loss (beta = 1/9) of the deltas. It is summed over the sampled positive
    anchors and divided by the number of all sampled anchors.

    Parameters
    ----------
    objectness, deltas : sequences of tensors, one per level
        For each level l with A_l anchors, the logits (N, A_l) and the deltas (N, A_l, 4) of N images.
    targets : sequence of AnchorTargets
        The targets of each image.

    Returns
    -------
    cls_loss, reg_loss : scalar tensors
        The two losses. Both are 0 if no anchors were sampled.

    References
    ----------
    Ren et al., "Faster R-CNN", 2015, equation 1. As in torchvision, beta and the divisor of the regression loss differ
    from this equation.
    """
    _check_loss(objectness, deltas, targets)
    logits = concatenate(objectness, axis=1)  # (N, A)
    all_deltas = concatenate(deltas, axis=1)  # (N, A, 4)
    positive_images = np.repeat(np.arange(len(targets)), [len(t.positive) for t in targets])
    negative_images = np.repeat(np.arange(len(targets)), [len(t.negative) for t in targets])
    positive = np.concatenate([t.positive for t in targets])
    negative = np.concatenate([t.negative for t in targets])
    images, anchors = np.concatenate([positive_images, negative_images]), np.concatenate([positive, negative])
    is_object = np.repeat([1.0, 0.0], [len(positive), len(negative)])
    cls_loss = F.binary_cross_entropy_with_logits(logits[images, anchors], is_object)
    target_deltas = np.concatenate([t.deltas for t in targets])
    reg_loss = F.smooth_l1_loss(all_deltas[positive_images, positive], target_deltas, SMOOTH_L1_BETA)
    return cls_loss, reg_loss * (1 / max(len(anchors), 1))


def _check_loss(objectness: Sequence[Tensor], deltas: Sequence[Tensor], targets: Sequence[AnchorTargets]) -> None:
    """Raise TypeError or ValueError if the shapes or the indices of predictions and targets do not match."""
    for name, values in (("objectness", objectness), ("deltas", deltas), ("targets", targets)):
        check_sequence(values, name)
    if not len(objectness) == len(deltas) > 0:
        raise ValueError(
            f"objectness and deltas must have one tensor per level, got {len(objectness)} and {len(deltas)} tensors"
        )
    for level, (logits, moves) in enumerate(zip(objectness, deltas, strict=True)):
        check_tensor("loss", logits, f"objectness[{level}]")
        check_tensor("loss", moves, f"deltas[{level}]")
        if logits.ndim != 2 or len(logits) != len(targets) or moves.shape != (*logits.shape, 4):
            raise ValueError(
                f"objectness[{level}] and deltas[{level}] must have shapes ({len(targets)}, A) and "
                f"({len(targets)}, A, 4) for {len(targets)} targets, got {logits.shape} and {moves.shape}"
            )
    count = sum(logits.shape[1] for logits in objectness)
    for index, target in enumerate(targets):
        if not isinstance(target, AnchorTargets):
            raise TypeError(f"targets[{index}] must be AnchorTargets, got {type(target).__name__}")
        name = f"targets[{index}]"
        deltas_of_target = check_boxes(target.deltas, f"{name}.deltas")
        sampled = [
            as_index_array(values, f"{name}.{field}")
            for field, values in (("positive", target.positive), ("negative", target.negative))
        ]
        if len(deltas_of_target) != len(sampled[0]):
            raise ValueError(
                f"{name}.deltas must have shape ({len(sampled[0])}, 4), with four deltas per positive anchor, got "
                f"{deltas_of_target.shape}"
            )
        for chosen in sampled:
            if len(chosen) and not 0 <= chosen.min() <= chosen.max() < count:
                raise ValueError(
                    f"targets[{index}]: the indices of anchors must be in 0 .. {count - 1}, got {chosen.min()} .. "
                    f"{chosen.max()}"
                )

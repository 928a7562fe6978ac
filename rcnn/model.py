"""`FasterRCNN`: the stages put together.

An image meets them in this order: transform, backbone, anchors, RPN, proposals, RoIs, pooling, head, detections. Three
steps hold that pass: `features`, `first_stage` (to proposals) and `second_stage` (to class logits and deltas). The
methods that users call are views of it: `predict` runs it to the end, `trace` keeps all of it, and `get_loss` compares
it with the targets.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rcnn import nn, roi, roi_heads, rpn, transform
from rcnn._ext.memory import network_pass
from rcnn._validate import FRACTION, as_index_array, check_boxes, integer
from rcnn.anchors import AnchorGenerator, measure_stride
from rcnn.config import FasterRCNNConfig
from rcnn.fpn import Pyramid
from rcnn.nn import Module, Tensor
from rcnn.nn.random import drawing_from, generator
from rcnn.trace import Detections, Trace
from rcnn.transform import Batch, Size

PROBE_SIDE = 128  # pixels of the empty image that shows how many levels a backbone has
STRIDE_PROBES = ((256, 256), (352, 224))  # (height, width) of those that its strides are measured and checked on

Watch = Callable[..., None]
"""An observer of a pass: `watch(stage, **values)` is called after each stage, with the arrays that it computed."""


def ignore(stage: str, **values: Any) -> None:
    """Observe nothing."""


@dataclass(frozen=True)
class FirstStage:
    """Everything that the first stage computed, for a batch of N images.

    Attributes
    ----------
    features : Pyramid
        Per level (N, C, H_l, W_l).
    anchors : list of arrays
        Per level (A_l, 4), in pixels of the batch.
    objectness, deltas : lists of tensors
        Per level (N, A_l) logits and (N, A_l, 4) deltas.
    proposals : list of rpn.Proposals
        One per image.
    """

    features: Pyramid
    anchors: list[np.ndarray]
    objectness: list[Tensor]
    deltas: list[Tensor]
    proposals: list[rpn.Proposals]

    def rois(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the proposals of all images (R, 4), and the index of the image of each (R,)."""
        return join([proposals.boxes for proposals in self.proposals])


@dataclass(frozen=True)
class SecondStage:
    """Everything that the second stage computed.

    Attributes
    ----------
    rois, roi_images : (R, 4), (R,)
        Boxes in pixels of the batch, and the index of the image of each.
    levels : (R,)
        Index of the level that each RoI was pooled from.
    scales : list of floats
        Per level the feature pixels per pixel of the batch.
    pooled : Tensor (R, C, ph, pw)
    class_logits, box_deltas : Tensors (R, L), (R, L, 4)
    """

    rois: np.ndarray
    roi_images: np.ndarray
    levels: np.ndarray
    scales: list[float]
    pooled: Tensor
    class_logits: Tensor
    box_deltas: Tensor


class FasterRCNN(Module):
    """A Faster R-CNN. Ren, He, Girshick, Sun: "Faster R-CNN: Towards Real-Time Object Detection", 2015.

    Images are a float batch (N, 3, H, W) that is normalised already, or a list of images: (H, W, 3) uint8, or float in
    [0, 1], PIL images, or paths. A list is resized and normalised as the config says, and boxes come back in each
    image's own pixels. `make_batch` does that beforehand; its result is accepted in place of the images everywhere.

    Any number of threads may call `predict`, `trace` and `get_loss` of one model.
    """

    def __init__(self, config: FasterRCNNConfig) -> None:
        self.config = config
        self.backbone = config.backbone
        self.anchor_generator = AnchorGenerator(self._sizes_by_level(), config.aspect_ratios, config.anchor_offset)
        per_cell = set(self.anchor_generator.num_anchors_per_location())
        if len(per_cell) > 1:
            raise ValueError(
                "every level needs the same number of anchors per cell, because one RPN head serves all levels; "
                f"anchor_sizes and aspect_ratios give {sorted(per_cell)}"
            )
        self.rpn = rpn.RPN(config.feat_channels, per_cell.pop())
        self.roi_heads = roi_heads.RoIHeads(
            config.feat_channels,
            config.num_classes,
            pool_size=config.pool_size,
            hidden_dim=config.hidden_dim,
            dropout=config.dropout,
        )

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype in which this model computes: float32, or what `astype` made of it."""
        return self.roi_heads.box_predictor.cls_score.weight.dtype

    # ------------------------------------------------------------------ the pass, in three steps

    def features(self, batch: Batch) -> Pyramid:
        """Return the backbone's levels, (N, C, H_l, W_l) each; a single map is a pyramid of one."""
        batch = self.make_batch(batch)
        features = self.backbone(Tensor(batch.images))
        is_list = isinstance(features, (list, tuple))
        if self.config.use_fpn != is_list:
            wanted = "a list of feature maps (use_fpn=True)" if self.config.use_fpn else "one map (use_fpn=False)"
            raise ValueError(f"the backbone must give {wanted}, not {type(features).__name__}")
        levels = features if isinstance(features, Pyramid) else Pyramid(features if is_list else [features])
        for index, level in enumerate(levels):
            if not isinstance(level, Tensor):
                raise TypeError(f"level {index} of the backbone must be a Tensor, not {type(level).__name__}")
            if level.ndim != 4 or level.shape[:2] != (len(batch.images), self.config.feat_channels):
                raise ValueError(
                    f"level {index} of the backbone has the shape {level.shape}; "
                    f"({len(batch.images)}, feat_channels={self.config.feat_channels}, H, W) is wanted"
                )
        return levels

    def first_stage(
        self,
        batch: Batch,
        *,
        pre_nms_top_n: int | None = None,
        post_nms_top_n: int | None = None,
        watch: Watch = ignore,
    ) -> FirstStage:
        """Return everything from the backbone to the proposals.

        Parameters
        ----------
        batch : Batch
            As from `make_batch`.
        pre_nms_top_n, post_nms_top_n : int, optional
            How many anchors per level and proposals per image are kept; the config's counts for testing without them.
        watch : callable
            An observer, called after each stage.
        """
        c, batch = self.config, self.make_batch(batch)
        features = self.features(batch)
        watch("backbone", features=_arrays(features))
        anchors = self._anchors(batch, features)
        watch("anchors", anchors=anchors)
        objectness, deltas = self.rpn(features)
        watch("RPN head", objectness=_arrays(objectness), deltas=_arrays(deltas))
        # .data: here the gradient stops. The second stage takes the proposals as given; it could otherwise lower its
        # loss by moving them, and the choice among them has no gradient anyway (section 3.2 of the paper).
        proposals = [
            rpn.propose(
                [level.data[image] for level in objectness],
                [level.data[image] for level in deltas],
                anchors,
                size,
                pre_nms_top_n=c.rpn_pre_nms_top_n_test if pre_nms_top_n is None else pre_nms_top_n,
                post_nms_top_n=c.rpn_post_nms_top_n_test if post_nms_top_n is None else post_nms_top_n,
                nms_thresh=c.rpn_nms_thresh,
                score_thresh=c.rpn_score_thresh,
            )
            for image, size in enumerate(batch.image_sizes)
        ]
        watch("proposals", proposals=[found.boxes for found in proposals])
        return FirstStage(features, anchors, objectness, deltas, proposals)

    def second_stage(
        self,
        batch: Batch,
        features: Pyramid,
        rois: np.ndarray,
        roi_images: np.ndarray,
        *,
        watch: Watch = ignore,
    ) -> SecondStage:
        """Return everything from the RoIs to the class logits and deltas.

        rois (R, 4) in pixels of the batch, roi_images (R,) the index of the image of each; watch as in `first_stage`.
        """
        c, batch = self.config, self.make_batch(batch)
        rois, roi_images = _check_rois(rois, roi_images, len(batch.images), self.dtype)
        levels_read = len(features) - getattr(features, "num_extra", 0)
        readable = features[:levels_read]
        scales = roi.level_scales([level.shape[2] for level in readable], batch.images.shape[2])
        canonical = {"canonical_size": c.canonical_size, "canonical_level": c.canonical_level}
        levels = roi.roi_levels(rois, scales, **canonical)  # (R,)
        pooled = roi_heads.pool(
            readable,
            rois,
            roi_images,
            levels,
            scales,
            output_size=c.pool_size,
            sampling_ratio=c.sampling_ratio,
            aligned=c.aligned,
        )  # (R, C, ph, pw)
        watch("RoIAlign", pooled=pooled.data)
        class_logits, box_deltas = self.roi_heads(pooled)  # (R, L), (R, L, 4)
        watch("head", class_logits=class_logits.data, box_deltas=box_deltas.data)
        return SecondStage(rois, roi_images, levels, scales, pooled, class_logits, box_deltas)

    def detections(
        self,
        batch: Batch,
        second: SecondStage,
        score_thresh: float | None = None,
        nms_thresh: float | None = None,
        top_k: int | None = None,
    ) -> list[Detections]:
        """Return the detections of each image in pixels of the batch; arguments as in `predict`."""
        score_thresh, nms_thresh, top_k = self._thresholds(score_thresh, nms_thresh, top_k)
        found = []
        for image, size in enumerate(batch.image_sizes):
            members = np.flatnonzero(second.roi_images == image)
            found.append(
                roi_heads.detect(
                    second.class_logits.data[members],
                    second.box_deltas.data[members],
                    second.rois[members],
                    size,
                    score_thresh=score_thresh,
                    nms_thresh=nms_thresh,
                    top_k=top_k,
                    weights=self.config.bbox_reg_weights,
                )
            )
        return found

    # ------------------------------------------------------------------ views of the pass

    def forward(self, images: Any, rois: Any = None, roi_images: Any = None) -> tuple[Tensor, Tensor]:
        """Return (class_logits (R, L), box_deltas (R, L, 4)) of RoIs, with gradients where they are recorded.

        rois: (R, 4) in pixels of the batch, and roi_images: (R,) index of the image of each; without them the RPN's
        proposals. Raises ValueError for RoIs of an image that does not exist.
        """
        if (rois is None) != (roi_images is None):
            raise ValueError("rois and roi_images, the index of the image of each RoI, go together")
        batch = self.make_batch(images)
        with network_pass():
            if rois is None:
                first = self.first_stage(batch)
                second = self.second_stage(batch, first.features, *first.rois())
            else:
                second = self.second_stage(batch, self.features(batch), rois, roi_images)
        return second.class_logits, second.box_deltas

    def predict(
        self,
        images: Any,
        score_thresh: float | None = None,
        nms_thresh: float | None = None,
        top_k: int | None = None,
    ) -> list[Detections]:
        """Return the objects on each image: a list of {"boxes" (D, 4), "scores" (D,), "labels" (D,)}, best first.

        A score exceeds `score_thresh`; boxes of one class do not overlap by more than `nms_thresh`; an image has at
        most `top_k`. None means the config's box_score_thresh, box_nms_thresh and box_detections_per_img.
        """
        thresholds = self._thresholds(score_thresh, nms_thresh, top_k)
        if _is_empty(images):
            return []
        batch = self.make_batch(images)
        with nn.evaluation(), nn.no_grad(), network_pass():
            first = self.first_stage(batch)
            second = self.second_stage(batch, first.features, *first.rois())
            found = self.detections(batch, second, *thresholds)
        return _in_original_pixels(found, batch)

    def trace(self, images: Any, targets: Any = None, rng: np.random.Generator | None = None) -> Trace:
        """Return every intermediate array of one `predict`; with targets also how anchors and RoIs would be sampled.

        targets as in `get_loss`; rng draws the samples.
        """
        batch = self.make_batch(images)
        objects = None if targets is None else self._check_targets(targets, batch)
        clock = _Clock()
        with nn.evaluation(), nn.no_grad(), network_pass():
            first = self.first_stage(batch, watch=clock)
            second = self.second_stage(batch, first.features, *first.rois(), watch=clock)
            found = self.detections(batch, second)
            clock("detections")
        sampled = {} if objects is None else self._trace_targets(objects, first, generator(rng))
        c = self.config
        return Trace(
            images=transform.to_images(batch, c.image_mean, c.image_std),
            batch=batch.images,
            image_sizes=batch.image_sizes,
            features=_arrays(first.features),
            anchors=first.anchors,
            objectness=_arrays(first.objectness),
            rpn_deltas=_arrays(first.deltas),
            candidates=[p.candidates for p in first.proposals],
            candidate_scores=[p.candidate_scores for p in first.proposals],
            num_after_nms=[p.num_after_nms for p in first.proposals],
            proposals=[p.boxes for p in first.proposals],
            proposal_scores=[p.scores for p in first.proposals],
            rois=second.rois,
            roi_images=second.roi_images,
            roi_levels=second.levels,
            roi_scales=second.scales,
            pooled=second.pooled.data,
            class_logits=second.class_logits.data,
            box_deltas=second.box_deltas.data,
            detections=found,
            outputs=_in_original_pixels(found, batch),
            output_size=c.pool_size,
            sampling_ratio=c.sampling_ratio,
            aligned=c.aligned,
            times=clock.seconds,
            **sampled,
        )

    def get_loss(
        self, images: Any, targets: Any, rng: np.random.Generator | None = None, watch: Watch = ignore
    ) -> dict[str, Tensor]:
        """Return the losses, scalars: rpn_cls_loss, rpn_reg_loss, roi_cls_loss, roi_reg_loss, total_loss (their sum).

        Parameters
        ----------
        images
            A batch, or a list of images.
        targets : list of dicts
            Per image {"boxes": (G, 4), "labels": (G,)}; boxes in the pixels of the images that were passed, labels in
            1 .. num_classes - 1. G = 0 is an ordinary image.
        rng : numpy.random.Generator, optional
            Draws the samples and all dropout.
        watch : callable
            An observer, called after each stage.

        Raises
        ------
        ValueError
            Naming the image and the box, for a target that cannot be right.
        """
        rng = generator(rng)
        batch = self.make_batch(images)
        objects = self._check_targets(targets, batch)
        c = self.config
        counts = {"pre_nms_top_n": c.rpn_pre_nms_top_n_train, "post_nms_top_n": c.rpn_post_nms_top_n_train}
        with network_pass(), drawing_from(rng):
            first = self.first_stage(batch, **counts, watch=watch)
            anchor_targets, roi_targets = self._find_targets(objects, first, rng)
            rpn_cls_loss, rpn_reg_loss = rpn.loss(first.objectness, first.deltas, anchor_targets)
            sampled = join([target.rois for target in roi_targets])
            second = self.second_stage(batch, first.features, *sampled, watch=watch)
            roi_cls_loss, roi_reg_loss = roi_heads.loss(second.class_logits, second.box_deltas, roi_targets)
        losses = {
            "rpn_cls_loss": rpn_cls_loss,
            "rpn_reg_loss": rpn_reg_loss,
            "roi_cls_loss": roi_cls_loss,
            "roi_reg_loss": roi_reg_loss,
            "total_loss": rpn_cls_loss + rpn_reg_loss + roi_cls_loss + roi_reg_loss,
        }
        watch("losses", **{name: loss.data for name, loss in losses.items()})
        return losses

    def strides(self) -> list[Size]:
        """Return (rows, columns) of every level: the number of pixels between two positions of its feature map.

        Measured on an empty image, and checked on another: a level of stride s has ceil(side / s) positions along a
        side. Raises ValueError for a backbone whose maps have other numbers of them, as without padding.
        """
        probe, check = STRIDE_PROBES
        strides = [measure_stride(probe, size) for size in self._feature_sizes(probe)]
        for level, (stride, found) in enumerate(zip(strides, self._feature_sizes(check), strict=True)):
            wanted = tuple(-(-side // step) for side, step in zip(check, stride, strict=True))
            if found != wanted:
                raise ValueError(
                    f"level {level} of the backbone has the stride {stride} on an image of {probe}, but {found} "
                    f"positions on one of {check}, where such a stride makes {wanted}; do its convolutions pad their "
                    "input?"
                )
        return strides

    def make_batch(self, images: Any, scales: Sequence[float] | None = None) -> Batch:
        """Return the images as a padded batch, as `predict`, `trace` and `get_loss` do first; a batch is itself.

        Parameters
        ----------
        images
            A batch (N, 3, H, W) that is normalised already, or a list of images, which are resized and normalised.
        scales : sequence of floats, optional
            Per image of a list, a factor of its size after resizing. Boxes stay in the pixels of the images.

        Raises
        ------
        TypeError, ValueError
            For anything else, with what to do instead.
        """
        if isinstance(images, Batch):
            return images
        if isinstance(images, Tensor):
            images = images.data
        if isinstance(images, np.ndarray):
            return transform.pad_batch(_check_batch(images).astype(self.dtype, copy=False))
        if not isinstance(images, (list, tuple)):
            raise TypeError(
                f"images must be a batch (N, 3, H, W) or a list of images, not {type(images).__name__}; "
                "a single image goes into a list: [image]"
            )
        if not images:
            raise ValueError("there is no image")
        c = self.config
        return transform.make_batch(images, c.min_size, c.max_size, c.image_mean, c.image_std, self.dtype, scales)

    # ------------------------------------------------------------------ parts of the steps

    def _anchors(self, batch: Batch, features: Sequence[Tensor]) -> list[np.ndarray]:
        """Return the anchors of each level (A_l, 4), in pixels of the padded batch."""
        size, feature_sizes = batch.images.shape[2:], _sizes_of(features)
        self._check_stride(size, feature_sizes)
        return [level.astype(self.dtype, copy=False) for level in self.anchor_generator(size, feature_sizes)]

    def _check_stride(self, size: Size, feature_sizes: list[Size]) -> None:
        """Raise ValueError where the config states a stride that the feature maps do not have."""
        stated = self.config.anchor_stride
        if stated is None:
            return
        strides = stated if isinstance(stated, tuple) else (stated,) * len(feature_sizes)
        measured = [measure_stride(size, feature_size) for feature_size in feature_sizes]
        if len(strides) != len(measured) or any(pair != (s, s) for pair, s in zip(measured, strides, strict=True)):
            raise ValueError(
                f"anchor_stride={stated}, but the feature maps have the strides (rows, columns) "
                f"{measured} on a batch of {size[0]} x {size[1]}; anchor_stride=None measures them"
            )

    def _thresholds(
        self, score_thresh: float | None, nms_thresh: float | None, top_k: int | None
    ) -> tuple[float, float, int]:
        """Return the checked thresholds of score and overlap and the largest number; the config's where None."""
        c = self.config
        score_thresh = c.box_score_thresh if score_thresh is None else score_thresh
        nms_thresh = c.box_nms_thresh if nms_thresh is None else nms_thresh
        top_k = c.box_detections_per_img if top_k is None else top_k
        return (
            FRACTION.check("score_thresh", score_thresh),
            FRACTION.check("nms_thresh", nms_thresh),
            integer(1).check("top_k", top_k),
        )

    # ------------------------------------------------------------------ targets

    def _check_targets(self, targets: Any, batch: Batch) -> list[dict[str, np.ndarray]]:
        """Return the checked targets, with boxes in pixels of the batch."""
        checked = transform.check_targets(targets, len(batch.images), self.config.num_classes, self.dtype)
        return [
            {"boxes": transform.scale_boxes(target["boxes"], original, size), "labels": target["labels"]}
            for target, original, size in zip(checked, batch.original_sizes, batch.image_sizes, strict=True)
        ]

    def _find_targets(
        self, objects: list[dict[str, np.ndarray]], first: FirstStage, rng: np.random.Generator
    ) -> tuple[list[rpn.AnchorTargets], list[roi_heads.RoITargets]]:
        """Return per image the targets of the anchors, and of a sample of the proposals."""
        c, anchors = self.config, np.concatenate(first.anchors)  # (A, 4)
        anchor_targets = [
            rpn.find_targets(
                anchors,
                target["boxes"],
                fg_iou_thresh=c.rpn_fg_iou_thresh,
                bg_iou_thresh=c.rpn_bg_iou_thresh,
                batch_size=c.rpn_batch_size_per_image,
                positive_fraction=c.rpn_positive_fraction,
                rng=rng,
            )
            for target in objects
        ]
        roi_targets = [
            roi_heads.find_targets(
                proposals.boxes,
                target["boxes"],
                target["labels"],
                fg_iou_thresh=c.box_fg_iou_thresh,
                bg_iou_thresh=c.box_bg_iou_thresh,
                batch_size=c.box_batch_size_per_image,
                positive_fraction=c.box_positive_fraction,
                weights=c.bbox_reg_weights,
                rng=rng,
            )
            for proposals, target in zip(first.proposals, objects, strict=True)
        ]
        return anchor_targets, roi_targets

    def _trace_targets(
        self, objects: list[dict[str, np.ndarray]], first: FirstStage, rng: np.random.Generator
    ) -> dict[str, Any]:
        """Return the fields that a trace has with targets."""
        anchor_targets, roi_targets = self._find_targets(objects, first, rng)
        return {
            "gt_boxes": [target["boxes"] for target in objects],
            "gt_labels": [target["labels"] for target in objects],
            "anchor_matches": [target.matches for target in anchor_targets],
            "sampled_anchors": [(target.positive, target.negative) for target in anchor_targets],
            "sampled_rois": [target.rois for target in roi_targets],
            "sampled_labels": [target.labels for target in roi_targets],
        }

    # ------------------------------------------------------------------ probes of the backbone

    def _feature_sizes(self, image_size: Size) -> list[Size]:
        """Return (height, width) of every level's feature map of an empty image."""
        with nn.evaluation(), nn.no_grad(), network_pass():
            levels = self.features(transform.pad_batch(np.zeros((1, 3, *image_size), self.dtype)))
        return _sizes_of(levels)

    def _sizes_by_level(self) -> Any:
        """Return the config's anchor sizes, one per level of a pyramid where there are as many as levels."""
        sizes = self.config.anchor_sizes
        if not self.config.use_fpn or isinstance(sizes[0], tuple):
            return sizes
        with nn.evaluation(), nn.no_grad(), network_pass():
            levels = self.backbone(Tensor(np.zeros((1, 3, PROBE_SIDE, PROBE_SIDE), np.float32)))
        return tuple((size,) for size in sizes) if len(levels) == len(sizes) else sizes


class _Clock:
    """An observer that measures the seconds from one stage to the next."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def __call__(self, stage: str, **values: Any) -> None:
        now = time.perf_counter()
        self.seconds[stage], self._last = now - self._last, now


def join(boxes_list: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return all boxes (R, 4), and the index of the image of each (R,), from the boxes of each image."""
    counts = [len(boxes) for boxes in boxes_list]
    return np.concatenate(boxes_list), np.repeat(np.arange(len(counts)), counts)


def _check_batch(images: np.ndarray) -> np.ndarray:
    """Return a batch (N, 3, H, W) of floats, or raise an error that says what to do."""
    if images.ndim == 3 and 3 in (images.shape[0], images.shape[2]):
        raise ValueError(
            f"images must be a batch (N, 3, H, W) or a list of images; an array of shape {images.shape} "
            "looks like a single image, which goes into a list: [image]"
        )
    if images.ndim == 4 and images.shape[1] != 3 and images.shape[3] == 3:
        raise ValueError(
            f"images of shape {images.shape} have their channels last; images (H, W, 3) go into a list: list(images)"
        )
    if images.ndim != 4 or images.shape[1] != 3 or 0 in images.shape:
        raise ValueError(f"a batch must have the shape (N, 3, H, W), not {images.shape}")
    if images.dtype.kind != "f":
        raise TypeError(f"a batch must be float and normalised, not {images.dtype}; images (H, W, 3) go into a list")
    return images


def _check_rois(rois: Any, roi_images: Any, num_images: int, dtype: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return RoIs (R, 4) of `dtype` and the images that they lie on (R,), or raise an error that names the RoI."""
    boxes = check_boxes(rois, "rois").astype(dtype, copy=False)
    owners = as_index_array(roi_images, "roi_images", len(boxes))
    absent = np.flatnonzero((owners < 0) | (owners >= num_images))
    if len(absent):
        raise ValueError(
            f"roi_images[{absent[0]}] is {owners[absent[0]]}, but there are {num_images} images (0 .. {num_images - 1})"
        )
    return boxes, owners


def _arrays(levels: Sequence[Tensor]) -> list[np.ndarray]:
    """Return the values of tensors."""
    return [level.data for level in levels]


def _sizes_of(levels: Sequence[Tensor]) -> list[Size]:
    """Return (height, width) of every level."""
    return [(level.shape[2], level.shape[3]) for level in levels]


def _is_empty(images: Any) -> bool:
    if isinstance(images, np.ndarray):
        return images.shape[:1] == (0,)
    return isinstance(images, (list, tuple)) and not images


def _in_original_pixels(detections: list[Detections], batch: Batch) -> list[Detections]:
    """Return the detections with their boxes in the pixels of the images that were passed."""
    return [
        {**found, "boxes": transform.scale_boxes(found["boxes"], size, original)}
        for found, size, original in zip(detections, batch.image_sizes, batch.original_sizes, strict=True)
    ]

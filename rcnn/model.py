"""`FasterRCNN`: the stages put together.

An image meets them in this order: transform, backbone, anchors, RPN, proposals, RoIs, pooling, head, detections. Every
method below is such a walk, over the same stage functions: `predict` to the end, `trace` keeping everything on the way,
`get_loss` comparing with what should have come out.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np

from rcnn import roi_heads, rpn, transform
from rcnn._ext import backend
from rcnn._validate import as_index_array, check_boxes
from rcnn.anchors import AnchorGenerator, measure_stride
from rcnn.config import FasterRCNNConfig
from rcnn.fpn import Pyramid
from rcnn.nn import Module, Tensor, no_grad
from rcnn.nn.random import drawing_from, generator
from rcnn.trace import Detections, Trace
from rcnn.transform import Size

PROBE_SIDE = 128  # pixels of the empty image with which a backbone is asked how many levels it has
STRIDE_PROBES = ((256, 256), (352, 224))  # (height, width) of those that its strides are measured and checked on


class FasterRCNN(Module):
    """A Faster R-CNN. Ren, He, Girshick, Sun: "Faster R-CNN: Towards Real-Time Object Detection", 2015.

    Images are a float batch (N, 3, H, W) that is normalised already, or a list of pictures: (H, W, 3) uint8, or float
    in [0, 1], PIL images, or paths. Pictures are resized and normalised as the config says, and boxes come back in each
    picture's own pixels. `make_batch` does the former beforehand; what it gives stands for the pictures everywhere.
    """

    def __init__(self, config: FasterRCNNConfig) -> None:
        self.config = config
        self.backbone = config.backbone
        self.anchor_generator = AnchorGenerator(self._sizes_by_level(), config.aspect_ratios, config.anchor_offset)
        per_cell = set(self.anchor_generator.num_anchors_per_location())
        if len(per_cell) > 1:
            raise ValueError(
                f"every level needs the same number of anchors per cell, for one RPN head serves all; "
                f"anchor_sizes and aspect_ratios give {sorted(per_cell)}"
            )
        self._laid: tuple[Any, list[np.ndarray]] | None = None  # the anchors of the last batch, and what they depend on
        self.rpn = rpn.RPN(config, per_cell.pop())
        self.roi_heads = roi_heads.RoIHeads(config)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype in which this model computes: float32, or what `astype` made of it."""
        return self.roi_heads.box_predictor.cls_score.weight.dtype

    # ------------------------------------------------------------------ what users call

    def forward(self, images: Any, rois: Any = None, roi_images: Any = None) -> tuple[Tensor, Tensor]:
        """(class_logits (R, L), box_deltas (R, L, 4)) of RoIs, with gradients where they are recorded.

        rois: (R, 4) in pixels of the batch, and roi_images: (R,) index of the image of each; without them the RPN's
        proposals. Raises ValueError for RoIs of an image that is not there.
        """
        if (rois is None) != (roi_images is None):
            raise ValueError("rois and roi_images, the index of the image of each RoI, go together")
        batch = self._batch(images)
        with backend.network_pass():
            features = self._features(batch)
            if rois is None:
                proposals = [p.boxes for p in self._propose(features, self._anchors(batch, features), batch)]
                rois, roi_images = _join(proposals)
            else:
                rois, roi_images = _check_rois(rois, roi_images, len(batch.images), self.dtype)
            pooled, _, _ = self._pool(features, rois, roi_images, batch)
            class_logits, box_deltas = self.roi_heads(pooled)
            return class_logits, box_deltas

    def predict(
        self, images: Any, score_thresh: float | None = None, nms_thresh: float | None = None, top_k: int | None = None
    ) -> list[Detections]:
        """What is on each image: a list of {"boxes" (D, 4), "scores" (D,), "labels" (D,)}, by falling score.

        A score exceeds `score_thresh`; boxes of one class do not overlap by more than `nms_thresh`; an image has at
        most `top_k`. None means the config's box_score_thresh, box_nms_thresh and box_detections_per_img.
        """
        cuts = self._cuts(score_thresh, nms_thresh, top_k)
        if _is_empty(images):
            return []
        batch = self._batch(images)
        with self._evaluating():
            features = self._features(batch)
            proposals = self._propose(features, self._anchors(batch, features), batch)
            rois, roi_images = _join([p.boxes for p in proposals])
            pooled, _, _ = self._pool(features, rois, roi_images, batch)
            class_logits, box_deltas = self.roi_heads(pooled)
            detections = self._detect(class_logits, box_deltas, rois, roi_images, batch, cuts)
        return _in_own_pixels(detections, batch)

    def trace(self, images: Any, targets: Any = None, rng: np.random.Generator | None = None) -> Trace:
        """Every intermediate array of one `predict`; with targets also how anchors and RoIs would be sampled.

        targets as in `get_loss`; rng draws the samples.
        """
        batch = self._batch(images)
        clock = _Clock()
        with self._evaluating():
            features = self._features(batch)
            clock.stop("backbone")
            anchors = self._anchors(batch, features)
            clock.stop("anchors")
            objectness, rpn_deltas = self.rpn.head(features)
            clock.stop("RPN head")
            proposals = self._select(objectness, rpn_deltas, anchors, batch, "test")
            clock.stop("proposals")
            rois, roi_images = _join([p.boxes for p in proposals])
            pooled, levels, scales = self._pool(features, rois, roi_images, batch)
            clock.stop("RoIAlign")
            class_logits, box_deltas = self.roi_heads(pooled)
            clock.stop("head")
            detections = self._detect(class_logits, box_deltas, rois, roi_images, batch, self._cuts())
            clock.stop("detections")
        taught = {} if targets is None else self._trace_targets(targets, batch, anchors, proposals, generator(rng))
        return Trace(
            pictures=transform.to_pictures(batch, self.config.image_mean, self.config.image_std),
            images=batch.images,
            image_sizes=batch.image_sizes,
            features=[level.data for level in features],
            anchors=anchors,
            objectness=[level.data for level in objectness],
            rpn_deltas=[d.data for d in rpn_deltas],
            candidates=[p.candidates for p in proposals],
            candidate_scores=[p.candidate_scores for p in proposals],
            num_after_nms=[p.num_after_nms for p in proposals],
            proposals=[p.boxes for p in proposals],
            proposal_scores=[p.scores for p in proposals],
            rois=rois,
            roi_images=roi_images,
            roi_levels=levels,
            roi_scales=scales,
            pooled=pooled.data,
            class_logits=class_logits.data,
            box_deltas=box_deltas.data,
            detections=detections,
            outputs=_in_own_pixels(detections, batch),
            output_size=self.config.pool_size,
            sampling_ratio=self.config.sampling_ratio,
            aligned=self.config.aligned,
            times=clock.seconds,
            **taught,
        )

    def get_loss(self, images: Any, targets: Any, rng: np.random.Generator | None = None) -> dict[str, Tensor]:
        """The losses, scalars: rpn_cls_loss, rpn_reg_loss, roi_cls_loss, roi_reg_loss, and total_loss, their sum.

        targets: a list with a dict per image, {"boxes": (G, 4), "labels": (G,)}; boxes in the pixels of the images that
        were passed, labels in 1 .. num_classes - 1; G = 0 is an ordinary image. rng draws the samples and all dropout.
        Raises ValueError that names the image and the box for a target that cannot be right.
        """
        rng = generator(rng)
        batch = self._batch(images)
        objects = self._targets(targets, batch)
        with backend.network_pass(), drawing_from(rng):
            features = self._features(batch)
            anchors = self._anchors(batch, features)
            objectness, rpn_deltas = self.rpn.head(features)
            proposals = self._select(objectness, rpn_deltas, anchors, batch, "train")
            rpn_targets, roi_targets = self._find_targets(objects, anchors, proposals, rng)
            rpn_cls_loss, rpn_reg_loss = rpn.loss(objectness, rpn_deltas, rpn_targets)
            rois, roi_images = _join([t.rois for t in roi_targets])
            pooled, _, _ = self._pool(features, rois, roi_images, batch)
            class_logits, box_deltas = self.roi_heads(pooled)
            roi_cls_loss, roi_reg_loss = roi_heads.loss(class_logits, box_deltas, roi_targets)
        return {
            "rpn_cls_loss": rpn_cls_loss,
            "rpn_reg_loss": rpn_reg_loss,
            "roi_cls_loss": roi_cls_loss,
            "roi_reg_loss": roi_reg_loss,
            "total_loss": rpn_cls_loss + rpn_reg_loss + roi_cls_loss + roi_reg_loss,
        }

    def strides(self) -> list[Size]:
        """(rows, columns) of every level: how many pixels lie between two positions of its feature map.

        Measured on an empty picture, and checked on another: a level of stride s has ceil(side / s) positions along a
        side. Raises ValueError for a backbone whose maps have other numbers of them, as without padding.
        """
        probe, check = STRIDE_PROBES
        strides = [measure_stride(probe, size) for size in self._feature_sizes(probe)]
        for level, (stride, found) in enumerate(zip(strides, self._feature_sizes(check), strict=True)):
            wanted = tuple(-(-side // step) for side, step in zip(check, stride, strict=True))
            if found != wanted:
                raise ValueError(
                    f"level {level} of the backbone has the stride {stride} on a picture of {probe}, but "
                    f"{found} positions on one of {check}, where such a stride makes {wanted}; do its "
                    "convolutions pad their input?"
                )
        return strides

    def make_batch(self, pictures: Sequence[Any], scales: Sequence[float] | None = None) -> transform.Batch:
        """The pictures resized, normalised and padded, as `predict`, `trace` and `get_loss` would; they take it, too.

        scales: a factor per picture, with which its size after resizing is multiplied. Boxes stay in the pixels of the
        pictures, before and after.
        """
        c = self.config
        return transform.make_batch(pictures, c.min_size, c.max_size, c.image_mean, c.image_std, self.dtype, scales)

    # ------------------------------------------------------------------ the walk, step by step

    def _batch(self, images: Any) -> transform.Batch:
        """The images as a padded batch; TypeError or ValueError that says what to do with what it cannot be."""
        if isinstance(images, transform.Batch):
            return images
        if isinstance(images, Tensor):
            images = images.data
        if isinstance(images, np.ndarray):
            return transform.pad_batch(_check_batch(images).astype(self.dtype, copy=False))
        if not isinstance(images, (list, tuple)):
            raise TypeError(
                f"images must be a batch (N, 3, H, W) or a list of pictures, not {type(images).__name__}; "
                "a single picture goes into a list: [picture]"
            )
        if not images:
            raise ValueError("there is no image")
        return self.make_batch(images)

    def _targets(self, targets: Any, batch: transform.Batch) -> list[dict[str, np.ndarray]]:
        """The checked targets, with boxes in pixels of the batch."""
        checked = transform.check_targets(targets, len(batch.images), self.config.num_classes, self.dtype)
        return [
            {"boxes": transform.scale_boxes(target["boxes"], original, size), "labels": target["labels"]}
            for target, original, size in zip(checked, batch.original_sizes, batch.image_sizes, strict=True)
        ]

    def _features(self, batch: transform.Batch) -> Pyramid:
        """The backbone's levels; a single map is a pyramid of one."""
        features = self.backbone(Tensor(batch.images))
        levels = (
            features
            if isinstance(features, Pyramid)
            else Pyramid(features if isinstance(features, (list, tuple)) else [features])
        )
        if self.config.use_fpn != isinstance(features, (list, tuple)):
            wanted = "a list of feature maps (use_fpn=True)" if self.config.use_fpn else "one map (use_fpn=False)"
            raise ValueError(f"the backbone must give {wanted}, not {type(features).__name__}")
        for index, level in enumerate(levels):
            if not isinstance(level, Tensor):
                raise TypeError(f"level {index} of the backbone must be a Tensor, not {type(level).__name__}")
            if level.ndim != 4 or level.shape[:2] != (len(batch.images), self.config.feat_channels):
                raise ValueError(
                    f"level {index} of the backbone has the shape {level.shape}; "
                    f"({len(batch.images)}, feat_channels={self.config.feat_channels}, H, W) is wanted"
                )
        return levels

    def _anchors(self, batch: transform.Batch, features: Sequence[Tensor]) -> list[np.ndarray]:
        """Per level (A_l, 4), laid on the padded size of the batch; read-only, for they are kept for the next batch."""
        size = (batch.images.shape[2], batch.images.shape[3])
        feature_sizes = _sizes_of(features)
        cells = [cell.tobytes() for cell in self.anchor_generator.cells]  # for somebody may have changed them
        key = (self.anchor_generator, self.anchor_generator.offset, cells, size, feature_sizes, self.dtype)
        if self._laid is None or self._laid[0] != key:
            self._check_stride(size, feature_sizes)
            anchors = [level.astype(self.dtype, copy=False) for level in self.anchor_generator(size, feature_sizes)]
            for level in anchors:
                level.flags.writeable = False
            self._laid = (key, anchors)
        return list(self._laid[1])

    def _check_stride(self, size: Size, feature_sizes: list[Size]) -> None:
        """ValueError where the config states a stride that the feature maps do not have."""
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

    def _propose(
        self, features: Sequence[Tensor], anchors: list[np.ndarray], batch: transform.Batch
    ) -> list[rpn.Proposals]:
        """Per image the RPN's proposals."""
        objectness, deltas = self.rpn.head(features)
        return self._select(objectness, deltas, anchors, batch, "test")

    def _select(
        self,
        objectness: list[Tensor],
        deltas: list[Tensor],
        anchors: list[np.ndarray],
        batch: transform.Batch,
        phase: str,
    ) -> list[rpn.Proposals]:
        """Per image the proposals that the RPN's outputs make, with the counts for "train" or "test"."""
        c = self.config
        if phase == "train":
            pre_nms, post_nms = c.rpn_pre_nms_top_n_train, c.rpn_post_nms_top_n_train
        else:
            pre_nms, post_nms = c.rpn_pre_nms_top_n_test, c.rpn_post_nms_top_n_test
        # .data: here the gradient stops. The second stage takes the proposals as given; it could otherwise lower its
        # loss by moving them, and the choice among them has no gradient anyway (section 3.2 of the paper).
        return [
            rpn.propose(
                [level.data[i] for level in objectness],
                [level.data[i] for level in deltas],
                anchors,
                size,
                pre_nms,
                post_nms,
                c.rpn_nms_thresh,
                c.rpn_score_thresh,
            )
            for i, size in enumerate(batch.image_sizes)
        ]

    def _pool(
        self, features: Pyramid, rois: np.ndarray, roi_images: np.ndarray, batch: transform.Batch
    ) -> tuple[Tensor, np.ndarray, list[float]]:
        """(pooled (R, C, ph, pw), level of each RoI (R,), scale of each level), from the levels that RoIs may read."""
        readable = features[: len(features) - features.num_extra]
        scales = roi_heads.level_scales([level.shape[2] for level in readable], batch.images.shape[2])
        levels = roi_heads.roi_levels(rois, scales, self.config)
        return roi_heads.pool(readable, rois, roi_images, levels, scales, self.config), levels, scales

    def _cuts(
        self, score_thresh: float | None = None, nms_thresh: float | None = None, top_k: int | None = None
    ) -> tuple[float, float, int]:
        """The thresholds of score and overlap and the largest number of detections; the config's where None."""
        c = self.config
        cuts = (
            c.box_score_thresh if score_thresh is None else score_thresh,
            c.box_nms_thresh if nms_thresh is None else nms_thresh,
            c.box_detections_per_img if top_k is None else top_k,
        )
        for name, value in zip(("score_thresh", "nms_thresh"), cuts[:2], strict=True):
            if not (isinstance(value, Real) and 0 <= value <= 1):
                raise ValueError(f"{name} must be a number in [0, 1], not {value!r}")
        if not isinstance(cuts[2], Integral) or cuts[2] < 1:
            raise ValueError(f"top_k must be an integer of at least 1, not {cuts[2]!r}")
        return cuts

    def _detect(
        self,
        class_logits: Tensor,
        box_deltas: Tensor,
        rois: np.ndarray,
        roi_images: np.ndarray,
        batch: transform.Batch,
        cuts: tuple[float, float, int],
    ) -> list[Detections]:
        """Per image its detections, in pixels of the batch; cuts as from `_cuts`."""
        return [
            roi_heads.detect(class_logits.data[mine], box_deltas.data[mine], rois[mine], size, self.config, *cuts)
            for size, mine in zip(batch.image_sizes, _per_image(roi_images, len(batch.images)), strict=True)
        ]

    def _find_targets(
        self,
        objects: list[dict[str, np.ndarray]],
        anchors: list[np.ndarray],
        proposals: list[rpn.Proposals],
        rng: np.random.Generator,
    ) -> tuple[list[rpn.AnchorTargets], list[roi_heads.RoITargets]]:
        """Per image what the RPN should have said about the anchors, and the second stage about a sample of RoIs."""
        all_anchors = np.concatenate(anchors)  # (A, 4)
        return (
            [rpn.find_targets(all_anchors, o["boxes"], self.config, rng) for o in objects],
            [
                roi_heads.find_targets(p.boxes, o["boxes"], o["labels"], self.config, rng)
                for p, o in zip(proposals, objects, strict=True)
            ],
        )

    def _trace_targets(
        self,
        targets: Any,
        batch: transform.Batch,
        anchors: list[np.ndarray],
        proposals: list[rpn.Proposals],
        rng: np.random.Generator,
    ) -> dict[str, Any]:
        """What a trace knows besides when there are targets."""
        objects = self._targets(targets, batch)
        rpn_targets, roi_targets = self._find_targets(objects, anchors, proposals, rng)
        return {
            "gt_boxes": [o["boxes"] for o in objects],
            "gt_labels": [o["labels"] for o in objects],
            "anchor_matches": [t.matches for t in rpn_targets],
            "sampled_anchors": [(t.positive, t.negative) for t in rpn_targets],
            "sampled_rois": [t.rois for t in roi_targets],
            "sampled_labels": [t.labels for t in roi_targets],
        }

    # ------------------------------------------------------------------ helpers

    @contextlib.contextmanager
    def _evaluating(self) -> Iterator[None]:
        """Evaluation mode without gradients; every module's own mode is restored."""
        modes = [(module, module.training) for module in self.modules()]
        self.eval()
        try:
            with no_grad(), backend.network_pass():
                yield
        finally:
            for module, mode in modes:
                module.training = mode

    def _feature_sizes(self, image_size: Size) -> list[Size]:
        """(height, width) of every level's feature map of an empty image."""
        with self._evaluating():
            levels = self._features(transform.pad_batch(np.zeros((1, 3, *image_size), self.dtype)))
        return _sizes_of(levels)

    def _sizes_by_level(self) -> Any:
        """The config's anchor sizes, one per level of a pyramid where there are as many as levels."""
        sizes = self.config.anchor_sizes
        if not self.config.use_fpn or isinstance(sizes[0], tuple):
            return sizes
        with self._evaluating():
            levels = self.backbone(Tensor(np.zeros((1, 3, PROBE_SIDE, PROBE_SIDE), np.float32)))
        return tuple((size,) for size in sizes) if len(levels) == len(sizes) else sizes


class _Clock:
    """Seconds from one call of `stop` to the next, by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def stop(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[name], self._last = now - self._last, now


def _check_batch(images: np.ndarray) -> np.ndarray:
    """A batch (N, 3, H, W) of floats, or an error that says what to do."""
    if images.ndim == 3 and 3 in (images.shape[0], images.shape[2]):
        raise ValueError(
            f"images must be a batch (N, 3, H, W) or a list of pictures; an array of shape {images.shape} "
            "looks like a single picture, which goes into a list: [picture]"
        )
    if images.ndim == 4 and images.shape[1] != 3 and images.shape[3] == 3:
        raise ValueError(
            f"images of shape {images.shape} have their channels last; pictures (H, W, 3) go into a list: list(images)"
        )
    if images.ndim != 4 or images.shape[1] != 3 or 0 in images.shape:
        raise ValueError(f"a batch must have the shape (N, 3, H, W), not {images.shape}")
    if images.dtype.kind != "f":
        raise TypeError(f"a batch must be float and normalised, not {images.dtype}; pictures (H, W, 3) go into a list")
    return images


def _check_rois(rois: Any, roi_images: Any, num_images: int, dtype: Any) -> tuple[np.ndarray, np.ndarray]:
    """RoIs (R, 4) of `dtype` and the images that they lie on (R,), or an error that names the RoI."""
    boxes = check_boxes(rois, "rois").astype(dtype)
    owners = as_index_array(roi_images, "roi_images", len(boxes))
    absent = np.flatnonzero((owners < 0) | (owners >= num_images))
    if len(absent):
        raise ValueError(
            f"roi_images[{absent[0]}] is {owners[absent[0]]}, but there are {num_images} images (0 .. {num_images - 1})"
        )
    return boxes, owners


def _sizes_of(levels: Sequence[Tensor]) -> list[Size]:
    """(height, width) of every level."""
    return [(level.shape[2], level.shape[3]) for level in levels]


def _is_empty(images: Any) -> bool:
    if isinstance(images, np.ndarray):
        return images.shape[:1] == (0,)
    return isinstance(images, (list, tuple)) and not images


def _join(boxes_list: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """(all boxes (R, 4), index of the image of each (R,)) from the boxes of each image."""
    counts = [len(boxes) for boxes in boxes_list]
    return np.concatenate(boxes_list), np.repeat(np.arange(len(counts)), counts)


def _per_image(roi_images: np.ndarray, num_images: int) -> list[np.ndarray]:
    """For each image the indices of its RoIs."""
    return [np.flatnonzero(roi_images == image) for image in range(num_images)]


def _in_own_pixels(detections: list[Detections], batch: transform.Batch) -> list[Detections]:
    """The detections with their boxes in the pixels of the pictures that were passed."""
    return [
        {**found, "boxes": transform.scale_boxes(found["boxes"], size, original)}
        for found, size, original in zip(detections, batch.image_sizes, batch.original_sizes, strict=True)
    ]

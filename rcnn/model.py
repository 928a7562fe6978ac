"""`FasterRCNN`: the complete detector, composed of its stages.

`make_batch` turns images into a padded batch. The forward pass then has three steps. Each step is a method and consists
of stages. After each stage, the pass calls an observer, `watch`, with the name of the stage. These are the stages:

- `features`, which is the first part of `first_stage`, has one stage: "backbone".
- `first_stage` continues with the stages "anchors", "RPN head" and "proposals".
- `second_stage` has the stages "RoIAlign" and "head" (class logits and deltas).

The other public methods use this pass. `predict` and `trace` run it and then compute the detections. `trace` also keeps
all arrays and measures the time of each stage, with "detections" as the last stage. `get_loss` compares the results of
both stages with the targets and then reports the stage "losses" to `watch`.

Sizes are always (height, width). A batch is padded until both are multiples of 32. In the shapes, N is the number of
images, R the number of regions of interest (RoIs), and L the number of classes, including the background (class 0).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from rcnn import nn, roi, roi_heads, rpn, transform, views
from rcnn._ext.memory import network_pass
from rcnn._validate import (
    FLAG,
    FRACTION,
    MOST_BOXES,
    as_dtype,
    as_index_array,
    check_boxes,
    check_sequence,
    integer,
    is_finite,
    optional,
)
from rcnn.anchors import AnchorGenerator, measure_stride
from rcnn.config import FasterRCNNConfig
from rcnn.fpn import BackboneWithFPN, Pyramid
from rcnn.nms import SOFT
from rcnn.nn import Module, Tensor, parallel
from rcnn.nn.random import drawing_from, generator, per_image
from rcnn.trace import Detections, Trace
from rcnn.transform import Batch, Size

PROBE_SIDE = 128  # in pixels; the side of the empty image that is used to count the levels of a backbone
STRIDE_PROBES = ((256, 256), (352, 224))  # sizes of two empty images: one to measure the strides, one to check them

Watch = Callable[..., None]
"""An observer of a pass: `watch(stage, **values)` is called after each stage, with the arrays of the stage."""


def ignore(stage: str, **values: Any) -> None:
    """Do nothing. This is the default observer.

    Parameters
    ----------
    stage : str
        The name of a stage.
    **values : arrays
        The arrays that the stage computed.
    """


@dataclass(frozen=True)
class FirstStage:
    """The results of the first stage for a batch of N images.

    Attributes
    ----------
    features : Pyramid
        The feature maps with C channels: one tensor (N, C, H_l, W_l) per level l.
    anchors : list of (A_l, 4) arrays
        The A_l anchors of each level, in pixel coordinates of the padded images.
    objectness : list of (N, A_l) tensors
        For each level, the logits of the objectness: whether the anchors contain an object.
    deltas : list of (N, A_l, 4) tensors
        For each level, the deltas that move the anchors to the objects.
    proposals : list of rpn.Proposals
        The proposals of each image.
    """

    features: Pyramid
    anchors: list[np.ndarray]
    objectness: list[Tensor]
    deltas: list[Tensor]
    proposals: list[rpn.Proposals]

    def rois(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the proposals of all images as regions of interest (RoIs).

        Returns
        -------
        rois : (R, 4) array
            R boxes, in pixel coordinates of the padded images.
        roi_images : (R,) int array
            For each RoI, the index of its image.
        """
        return join([proposals.boxes for proposals in self.proposals])


@dataclass(frozen=True)
class SecondStage:
    """The results of the second stage.

    Attributes
    ----------
    rois : (R, 4) array
        R regions of interest (RoIs): boxes in pixel coordinates of the padded images.
    roi_images : (R,) int array
        For each RoI, the index of its image.
    levels : (R,) int array
        For each RoI, the index of the level from which it was pooled.
    scales : list of floats
        For each level, the number of feature pixels per image pixel.
    pooled : (R, C, ph, pw) tensor
        The pooled features: C channels of ph x pw bins for each RoI.
    class_logits : (R, L) tensor
        The logits of L classes; column 0 is the background.
    box_deltas : (R, L, 4) tensor
        For each RoI and each class, the four deltas that move the RoI to the object.
    """

    rois: np.ndarray
    roi_images: np.ndarray
    levels: np.ndarray
    scales: list[float]
    pooled: Tensor
    class_logits: Tensor
    box_deltas: Tensor


class FasterRCNN(Module):
    """A Faster R-CNN, as described in Ren et al., "Faster R-CNN: Towards Real-Time Object Detection", 2015.

    Methods accept images in two forms. The first form is a normalised float array (N, 3, H, W) of N images. The second
    form is a list. Each of its elements is an array (H, W, 3), a PIL image or a path; an array is uint8, or float in
    [0, 1]. The images in a list are resized and normalised according to the config. `predict` returns boxes in pixel
    coordinates of the original images. Instead of images, every method also accepts the result of `make_batch`. All
    numbers must be finite.

    Any number of threads may call `predict`, `trace` and `get_loss` of the same model at the same time.

    Parameters
    ----------
    config : FasterRCNNConfig
        The settings.
    """

    def __init__(self, config: FasterRCNNConfig) -> None:
        if not isinstance(config, FasterRCNNConfig):
            raise TypeError(f"config must be a FasterRCNNConfig, got {type(config).__name__}")
        self.config = config
        self.backbone = config.backbone
        self.anchor_generator = AnchorGenerator(self._sizes_by_level(), config.aspect_ratios, config.anchor_offset)
        per_cell = set(self.anchor_generator.num_anchors_per_location())
        if len(per_cell) > 1:
            raise ValueError(
                "anchor_sizes and aspect_ratios must give every level the same number of anchors per cell, because one "
                f"RPN head serves all levels; got {sorted(per_cell)}"
            )
        self.rpn = rpn.RPN(config.feat_channels, per_cell.pop(), config.rpn_num_convs)
        self.roi_heads = roi_heads.RoIHeads(
            config.feat_channels,
            config.num_classes,
            pool_size=config.pool_size,
            hidden_dim=config.hidden_dim,
            dropout=config.dropout,
            num_convs=config.box_num_convs,
        )

    @property
    def dtype(self) -> np.dtype[Any]:  # numpydoc ignore=RT01
        """The dtype in which this model computes: float32, or the dtype that was last passed to `astype`."""
        return self.roi_heads.box_predictor.cls_score.weight.dtype

    # ------------------------------------------------------------------ the pass, in three steps

    def features(self, batch: Batch) -> Pyramid:
        """Return the feature maps of the backbone, finest first. A single map becomes a pyramid of one level.

        Parameters
        ----------
        batch : Batch
            N images, as returned by `make_batch`.

        Returns
        -------
        Pyramid
            For each level l, a tensor (N, C, H_l, W_l) with C channels.

        Raises
        ------
        TypeError, ValueError
            If the result of the backbone does not match the config.
        """
        batch = self.make_batch(batch)
        features = self.backbone(Tensor(batch.images))
        is_list = isinstance(features, (list, tuple))
        if self.config.use_fpn != is_list:
            required = "a list of feature maps (use_fpn=True)" if self.config.use_fpn else "one map (use_fpn=False)"
            raise ValueError(f"the backbone must return {required}, got {type(features).__name__}")
        levels = features if isinstance(features, Pyramid) else Pyramid(features if is_list else [features])
        for index, level in enumerate(levels):
            if not isinstance(level, Tensor):
                raise TypeError(f"level {index} of the backbone must be a Tensor, got {type(level).__name__}")
            if level.ndim != 4 or level.shape[:2] != (len(batch.images), self.config.feat_channels):
                raise ValueError(
                    f"level {index} of the backbone must have shape ({len(batch.images)}, "
                    f"feat_channels={self.config.feat_channels}, H, W), got {level.shape}"
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
        """Run the first stage, from the batch to the proposals.

        Parameters
        ----------
        batch : Batch
            N images, as returned by `make_batch`.
        pre_nms_top_n : int, optional
            The maximum number of anchors per level before non-maximum suppression (NMS), in 1 .. 2^20; by default, the
            config's `rpn_pre_nms_top_n_test`.
        post_nms_top_n : int, optional
            The maximum number of proposals per image after NMS, in 1 .. 2^20; by default, the config's
            `rpn_post_nms_top_n_test`.
        watch : callable
            Function that is called as `watch(stage, **arrays)` after each stage.

        Returns
        -------
        FirstStage
            The features, anchors, logits, deltas and proposals.

        Raises
        ------
        TypeError, ValueError
            If the result of the backbone does not match the config, or if a number is out of range.
        """
        c, batch = self.config, self.make_batch(batch)
        _check_watch(watch)
        features = self.features(batch)
        watch("backbone", features=_arrays(features))
        anchors = self._anchors(batch, features)
        watch("anchors", anchors=anchors)
        objectness, deltas = self.rpn(features)
        watch("RPN head", objectness=_arrays(objectness), deltas=_arrays(deltas))
        # `propose` moves the best anchors by their deltas. It then clips, filters and suppresses the resulting boxes.
        # .data stops the gradient here, because the second stage treats proposals as constants (section 3.2 of the
        # paper). Otherwise, it could lower its loss by moving the proposals. The selection has no gradient anyway.
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
        """Run the second stage, from the RoIs to the class logits and deltas.

        Parameters
        ----------
        batch : Batch
            N images, as returned by `make_batch`.
        features : Pyramid
            The feature maps of these images, as returned by `first_stage`.
        rois : (R, 4) array
            R regions of interest (RoIs): boxes in pixel coordinates of the padded images.
        roi_images : (R,) int array
            For each RoI, the index of its image.
        watch : callable
            Function that is called as `watch(stage, **arrays)` after each stage.

        Returns
        -------
        SecondStage
            The pooled features, logits and deltas.

        Raises
        ------
        TypeError, ValueError
            If the features or the RoIs do not match the batch.
        """
        c, batch = self.config, self.make_batch(batch)
        _check_watch(watch)
        _check_features(features, len(batch.images), c.feat_channels)
        rois = as_dtype(check_boxes(rois, "rois"), self.dtype, "rois")
        roi_images = as_index_array(roi_images, "roi_images", len(rois))
        # Only the RPN uses the last `num_extra` levels (in an FPN, the max-pooled one). RoIs are pooled from the rest.
        roi_features = features[: len(features) - getattr(features, "num_extra", 0)]
        # Only heights are needed, because RoIAlign uses one scale per level for both axes, as in torchvision.
        scales = roi.level_scales([level.shape[2] for level in roi_features], batch.images.shape[2])
        canonical = {"canonical_size": c.canonical_size, "canonical_level": c.canonical_level}
        levels = roi.roi_levels(rois, scales, **canonical)  # (R,)
        pooled = roi_heads.pool(
            roi_features,
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
        *,
        class_agnostic: bool = False,
        soft_nms: str | None = None,
    ) -> list[Detections]:
        """Return the detections of each image, in pixel coordinates of the padded images.

        Parameters
        ----------
        batch : Batch
            N images, as returned by `make_batch`.
        second : SecondStage
            The results of the second stage.
        score_thresh : float, optional
            See `predict`.
        nms_thresh : float, optional
            See `predict`.
        top_k : int, optional
            See `predict`.
        class_agnostic : bool
            See `predict`.
        soft_nms : {"linear", "gaussian"}, optional
            See `predict`.

        Returns
        -------
        list of dicts
            For each image, {"boxes": (D, 4), "scores": (D,), "labels": (D,)}. It contains the D detections of the image
            in descending order of score. A box that extends into the padding is cut at the border of the image. If less
            than one pixel of the original image remains, the box is dropped.
        """
        rules = self._rules(score_thresh, nms_thresh, top_k, class_agnostic, soft_nms)
        batch = self.make_batch(batch)
        if not isinstance(second, SecondStage):
            raise TypeError(f"second must be a SecondStage, got {type(second).__name__}")
        found = []
        for image, size in enumerate(batch.image_sizes):
            members = np.flatnonzero(second.roi_images == image)
            found.append(
                roi_heads.detect(
                    second.class_logits.data[members],
                    second.box_deltas.data[members],
                    second.rois[members],
                    size,
                    **rules,
                    weights=self.config.bbox_reg_weights,
                    visible=_pixel_at_padding(batch, image),
                )
            )
        return found

    # ------------------------------------------------------------------ methods that run the pass
    #
    # Each of these methods runs the network within `network_pass()`. In this context, only one pool of threads works
    # (either that of the kernels or that of BLAS), because two pools would compete for the processors. At the end of
    # the pass, the context gives unused memory back to the system.

    def forward(self, images: Any, rois: Any = None, roi_images: Any = None) -> tuple[Tensor, Tensor]:
        """Return the class logits and box deltas of RoIs; gradients are recorded unless they are switched off.

        Parameters
        ----------
        images : batch or list of images
            N images.
        rois : (R, 4) array_like, optional
            R regions of interest (RoIs): boxes in pixel coordinates of the padded images. By default, the RoIs are the
            proposals of the RPN.
        roi_images : (R,) array_like of int, optional
            For each RoI, the index of its image. It is required if `rois` is given.

        Returns
        -------
        class_logits : (R, L) tensor
            The logits of L classes; column 0 is the background.
        box_deltas : (R, L, 4) tensor
            For each RoI and each class, the four deltas that move the RoI to the object.

        Raises
        ------
        ValueError
            If only one of `rois` and `roi_images` is given, or if an index in `roi_images` is out of range.
        """
        if (rois is None) != (roi_images is None):
            raise ValueError("pass both rois and roi_images (the index of each RoI's image), or neither")
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
        *,
        class_agnostic: bool = False,
        soft_nms: str | None = None,
        flip: bool = False,
        scales: Sequence[float] = (1.0,),
    ) -> list[Detections]:
        """Return the objects that are detected in each image, in descending order of score.

        Parameters
        ----------
        images : batch or list of images
            N images. If there are no images, the result is an empty list.
        score_thresh : float, optional
            The threshold, in [0, 1]. Only detections with a higher score are returned. The default is the config's
            `box_score_thresh`.
        nms_thresh : float, optional
            The maximum intersection over union (IoU) of two detections of the same class, in [0, 1]; by default, the
            config's `box_nms_thresh`.
        top_k : int, optional
            The maximum number of detections per image, in 1 .. 2^20; by default, the config's `box_detections_per_img`.
        class_agnostic : bool
            If True, `nms_thresh` is also the maximum IoU of detections of different classes. Use it if two objects
            never have almost the same box.
        soft_nms : {"linear", "gaussian"}, optional
            If given, detections that overlap a better one are not dropped. Instead, their scores are lowered; see
            `rcnn.nms.soft_nms`.
        flip : bool
            If True, also detect objects in the mirrored images, and merge the detections.
        scales : sequence of floats
            The images are resized by each of these factors, in [0.001, 1000], in addition to the usual resizing. The
            detections at all scales are merged. `flip` and more than one scale require a list of images.

        Returns
        -------
        list of dicts
            For each image, {"boxes": (D, 4), "scores": (D,), "labels": (D,)}. It contains the D detections of the
            image. The boxes are in pixel coordinates of the original image.

        Raises
        ------
        TypeError, ValueError
            If `images` is invalid or contains NaN or infinity, if another argument is out of range, or if the network
            computes NaN or infinity, because its weights are not finite or far too large.
        """
        rules = self._rules(score_thresh, nms_thresh, top_k, class_agnostic, soft_nms)
        factors = views.check_scales(scales)
        has_views = FLAG.check("flip", flip) or factors != [1.0]
        if _is_empty(images):
            return []
        if not has_views:
            return self._predict(rules, images)
        # Every view returns all of its boxes, because suppression must see those of all views at once.
        unsuppressed = {"score_thresh": rules["score_thresh"], "nms_thresh": 1.0, "top_k": MOST_BOXES}
        given = views.check_images(images, self.dtype)
        return views.detect_in_views(partial(self._predict, unsuppressed), given, flip, factors, **rules)

    def _predict(self, rules: dict[str, Any], images: Any, scale: float | None = None) -> list[Detections]:
        """Return the detections in one view of the images, in pixel coordinates of the original images."""
        batch = self.make_batch(images, None if scale is None else [scale] * len(images))
        with nn.evaluation(), nn.no_grad(), network_pass():
            first = self.first_stage(batch, watch=check_predictions)
            second = self.second_stage(batch, first.features, *first.rois(), watch=check_predictions)
            found = self.detections(batch, second, **rules)
        return _in_original_pixels(found, batch)

    def trace(self, images: Any, targets: Any = None, rng: np.random.Generator | None = None) -> Trace:
        """Run `predict` and return all intermediate arrays; with `targets`, also sample anchors and RoIs.

        Parameters
        ----------
        images : batch or list of images
            N images.
        targets : list of dicts, optional
            The objects in the images; see `get_loss`.
        rng : numpy.random.Generator, optional
            Random generator for sampling; by default, the library's own.

        Returns
        -------
        Trace
            All arrays, in the order of computation.

        Raises
        ------
        TypeError, ValueError
            For the same reasons as in `predict` and `get_loss`.
        """
        rng = generator(rng)
        batch = self.make_batch(images)
        objects = None if targets is None else self._check_targets(targets, batch)
        clock = _Clock()
        with nn.evaluation(), nn.no_grad(), network_pass():
            first = self.first_stage(batch, watch=clock)
            second = self.second_stage(batch, first.features, *first.rois(), watch=clock)
            found = self.detections(batch, second)
            clock("detections")
        sampled = {} if objects is None else self._trace_targets(objects, first, rng)
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
        self,
        images: Any,
        targets: Any,
        rng: np.random.Generator | Sequence[np.random.Generator] | None = None,
        watch: Watch = ignore,
    ) -> dict[str, Tensor]:
        """Return the losses of a batch.

        Parameters
        ----------
        images : batch or list of images
            N images.
        targets : list of dicts
            For each image, {"boxes": (G, 4), "labels": (G,)} of its G objects. The boxes are in pixel coordinates of
            the original image, and the labels are in 1 .. num_classes - 1. Each box must overlap its image. An image
            may have no objects (G = 0).
        rng : numpy.random.Generator or sequence of generators, optional
            Random generator for sampling and dropout, or one generator for each image; by default, the library's own.
            With one generator for each image, the samples of an image do not depend on the other images.
        watch : callable
            Function that is called as `watch(stage, **arrays)` after each stage.

        Returns
        -------
        dict of scalar tensors
            The losses rpn_cls_loss, rpn_reg_loss, roi_cls_loss and roi_reg_loss, and their sum, total_loss.

        Raises
        ------
        TypeError, ValueError
            If `images` is invalid or contains NaN or infinity, or if a target is invalid. The message contains the
            index of the image and, if a box is invalid, the index of the box.
        """
        _check_watch(watch)
        batch = self.make_batch(images)
        draws = per_image(rng, len(batch.images))
        objects = self._check_targets(targets, batch)
        c = self.config
        counts = {"pre_nms_top_n": c.rpn_pre_nms_top_n_train, "post_nms_top_n": c.rpn_post_nms_top_n_train}
        with network_pass(), drawing_from(draws):
            first = self.first_stage(batch, **counts, watch=watch)
            anchor_targets, roi_targets = self._find_targets(objects, first, draws)
            rpn_cls_loss, rpn_reg_loss = rpn.loss(first.objectness, first.deltas, anchor_targets)
            sampled = [target.rois for target in roi_targets]
            with drawing_from(draws, [len(rois) for rois in sampled]):
                second = self.second_stage(batch, first.features, *join(sampled), watch=watch)
            roi_cls_loss, roi_reg_loss = roi_heads.loss(
                second.class_logits, second.box_deltas, roi_targets, class_weights=c.box_class_weights
            )
        if parallel.is_summing():  # these are means over the images of this process
            of_rpn, of_cls, of_reg = self._shares(anchor_targets, roi_targets)
            rpn_cls_loss, rpn_reg_loss = rpn_cls_loss * of_rpn, rpn_reg_loss * of_rpn
            roi_cls_loss, roi_reg_loss = roi_cls_loss * of_cls, roi_reg_loss * of_reg
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
        """Return the stride of every level: the number of image pixels between neighbouring feature-map positions.

        The strides are measured on an empty image. They are then checked on an empty image of another size: in this
        image, a level with stride s must have ceil(side / s) positions along each side.

        Returns
        -------
        list of (rows, columns)
            One pair per level.

        Raises
        ------
        ValueError
            If a level has another number of positions, for example because a convolution does not pad its input.
        """
        probe, check = STRIDE_PROBES
        strides = [measure_stride(probe, size) for size in self._feature_sizes(probe)]
        for level, (stride, found) in enumerate(zip(strides, self._feature_sizes(check), strict=True)):
            expected = tuple(-(-side // step) for side, step in zip(check, stride, strict=True))
            if found != expected:
                raise ValueError(
                    f"level {level} of the backbone has stride {stride} for an image of size {probe}, so for an image "
                    f"of size {check}, its feature map must have size {expected}, got {found}; make sure that the "
                    "convolutions of the backbone pad their input"
                )
        return strides

    def make_batch(self, images: Any, scales: Sequence[float] | None = None) -> Batch:
        """Return the images as a padded batch; `predict`, `trace` and `get_loss` call this method first.

        Parameters
        ----------
        images : batch or list of images
            A normalised float array (N, 3, H, W), or a list of images. The images in a list are resized and normalised.
            A `Batch` is returned unchanged.
        scales : sequence of floats, optional
            Only for a list of images: one factor per image, in [0.001, 1000]. The size of the resized image is
            multiplied by this factor. Targets and detections remain in pixel coordinates of the original image.

        Returns
        -------
        Batch
            The batch; both sides are multiples of 32.

        Raises
        ------
        TypeError, ValueError
            If `images` has another form or contains NaN or infinity, or if `scales` is invalid. The message says what
            to do.
        """
        if isinstance(images, Batch):
            return images
        if isinstance(images, Tensor):
            images = images.data
        if isinstance(images, np.ndarray):
            return transform.pad_batch(as_dtype(transform.check_batch(images), self.dtype, "images"))
        if not isinstance(images, (list, tuple)):
            raise TypeError(
                f"images must be a batch (N, 3, H, W) or a list of images, got {type(images).__name__}; "
                "pass a single image as [image]"
            )
        if not images:
            raise ValueError("images must contain at least one image, got none")
        c = self.config
        return transform.make_batch(images, c.min_size, c.max_size, c.image_mean, c.image_std, self.dtype, scales)

    # ------------------------------------------------------------------ parts of the steps

    def _anchors(self, batch: Batch, features: Sequence[Tensor]) -> list[np.ndarray]:
        """Return the anchors of each level (A_l, 4), in pixel coordinates of the padded images."""
        size, feature_sizes = batch.images.shape[2:], _sizes_of(features)
        self._check_stride(size, feature_sizes)
        return [level.astype(self.dtype, copy=False) for level in self.anchor_generator(size, feature_sizes)]

    def _check_stride(self, size: Size, feature_sizes: list[Size]) -> None:
        """Raise ValueError if the config's `anchor_stride` differs from the strides of the feature maps."""
        stated = self.config.anchor_stride
        if stated is None:
            return
        strides = stated if isinstance(stated, tuple) else (stated,) * len(feature_sizes)
        measured = [measure_stride(size, feature_size) for feature_size in feature_sizes]
        if len(strides) != len(measured) or any(pair != (s, s) for pair, s in zip(measured, strides, strict=True)):
            raise ValueError(
                f"anchor_stride={stated} does not match the feature maps: for a batch of {size[0]} x {size[1]} "
                f"pixels, their strides (rows, columns) are {measured}; use anchor_stride=None to measure the strides"
            )

    def _rules(
        self,
        score_thresh: float | None,
        nms_thresh: float | None,
        top_k: int | None,
        class_agnostic: bool,
        soft_nms: str | None,
    ) -> dict[str, Any]:
        """Check these arguments of `predict`, and return them by name. The config's value replaces None."""
        c = self.config
        score_thresh = c.box_score_thresh if score_thresh is None else score_thresh
        nms_thresh = c.box_nms_thresh if nms_thresh is None else nms_thresh
        top_k = c.box_detections_per_img if top_k is None else top_k
        return {
            "score_thresh": FRACTION.check("score_thresh", score_thresh),
            "nms_thresh": FRACTION.check("nms_thresh", nms_thresh),
            "top_k": integer(1, MOST_BOXES).check("top_k", top_k),
            "class_agnostic": FLAG.check("class_agnostic", class_agnostic),
            "soft_nms": optional(SOFT).check("soft_nms", soft_nms),
        }

    # ------------------------------------------------------------------ targets

    def _check_targets(self, targets: Any, batch: Batch) -> list[dict[str, np.ndarray]]:
        """Return the checked targets, with boxes in pixel coordinates of the padded images."""
        checked = transform.check_targets(
            targets, len(batch.images), self.config.num_classes, self.dtype, batch.original_sizes
        )
        scaled = [
            transform.scale_boxes(target["boxes"], original, size)
            for target, original, size in zip(checked, batch.original_sizes, batch.image_sizes, strict=True)
        ]
        for image, (boxes, target) in enumerate(zip(scaled, checked, strict=True)):
            flat = (boxes[:, 2:] <= boxes[:, :2]).any(axis=1)  # (G,)
            if flat.any():
                box = int(flat.argmax())
                raise ValueError(
                    f"targets[{image}]: box {box} is too thin, because the resized image is so small that a side of "
                    f"the box is rounded to 0; got {target['boxes'][box].tolist()}"
                )
        return [{"boxes": boxes, "labels": target["labels"]} for boxes, target in zip(scaled, checked, strict=True)]

    def _find_targets(
        self, objects: list[dict[str, np.ndarray]], first: FirstStage, draws: Sequence[np.random.Generator]
    ) -> tuple[list[rpn.AnchorTargets], list[roi_heads.RoITargets]]:
        """Return the targets of each image: those of its anchors, and those of a sample of its proposals.

        `draws` contains the random generator of each image.
        """
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
            for target, rng in zip(objects, draws, strict=True)
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
            for proposals, target, rng in zip(first.proposals, objects, draws, strict=True)
        ]
        return anchor_targets, roi_targets

    def _shares(
        self, anchor_targets: Sequence[rpn.AnchorTargets], roi_targets: Sequence[roi_heads.RoITargets]
    ) -> list[float]:
        """Return the shares of this process in the divisors of the RPN's losses, roi_cls_loss and roi_reg_loss."""
        labels = np.concatenate([target.labels for target in roi_targets])  # (R,)
        weights = self.config.box_class_weights
        anchors = sum(len(target.positive) + len(target.negative) for target in anchor_targets)
        weight = len(labels) if weights is None else float(np.asarray(weights)[labels].sum())
        return parallel.shares([anchors, weight, len(labels)])

    def _trace_targets(
        self, objects: list[dict[str, np.ndarray]], first: FirstStage, rng: np.random.Generator
    ) -> dict[str, Any]:
        """Return a dict with the fields of a trace that depend on targets."""
        anchor_targets, roi_targets = self._find_targets(objects, first, [rng] * len(objects))
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
        """Return the (height, width) of every level's feature map for an empty image."""
        with nn.evaluation(), nn.no_grad(), network_pass():
            levels = self.features(transform.pad_batch(np.zeros((1, 3, *image_size), self.dtype)))
        return _sizes_of(levels)

    def _sizes_by_level(self) -> Any:
        """Return the config's anchor sizes. A flat sequence with one size per level becomes one sequence per level.

        If the backbone is not one with an `FPN`, it is called directly to count its levels. `_feature_sizes` cannot be
        used yet, because it needs `dtype`. This is the dtype of the heads, which are created after the anchors.
        """
        sizes = self.config.anchor_sizes
        if not self.config.use_fpn or isinstance(sizes[0], tuple):
            return sizes
        if isinstance(self.backbone, BackboneWithFPN):
            num_levels = self.backbone.fpn.num_levels
        else:
            with nn.evaluation(), nn.no_grad(), network_pass():
                num_levels = len(self.backbone(Tensor(np.zeros((1, 3, PROBE_SIDE, PROBE_SIDE), np.float32))))
        return tuple((size,) for size in sizes) if num_levels == len(sizes) else sizes


class _Clock:
    """An observer that measures the seconds from one stage to the next, and checks the predictions."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def __call__(self, stage: str, **values: Any) -> None:
        check_predictions(stage, **values)
        now = time.perf_counter()
        self.seconds[stage], self._last = now - self._last, now


def join(boxes_list: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return the boxes of all images as one array.

    Parameters
    ----------
    boxes_list : list of (R_i, 4) arrays
        The R_i boxes of each image i.

    Returns
    -------
    boxes : (R, 4) array
        All R boxes, image by image.
    box_images : (R,) int array
        For each box, the index of its image.
    """
    check_sequence(boxes_list, "boxes_list")
    if not len(boxes_list):
        raise ValueError("boxes_list must contain the boxes of at least one image, got none")
    boxes_list = [check_boxes(boxes, f"boxes_list[{index}]") for index, boxes in enumerate(boxes_list)]
    counts = [len(boxes) for boxes in boxes_list]
    return np.concatenate(boxes_list), np.repeat(np.arange(len(counts)), counts)


def check_predictions(stage: str, **values: Any) -> None:
    """Raise ValueError if one of the two heads computed NaN or infinity. This is an observer of a pass.

    Without this check, the detector would find nothing, because comparisons with NaN are false.

    Parameters
    ----------
    stage : str
        The name of a stage.
    **values : arrays or lists of arrays
        The arrays that the stage computed.

    Raises
    ------
    ValueError
        If the stage is "RPN head" or "head" and an array is not finite.
    """
    if stage not in ("RPN head", "head"):
        return
    for name, arrays in values.items():
        if not all(map(is_finite, arrays if isinstance(arrays, list) else [arrays])):
            raise ValueError(
                f"{name} contains NaN or infinity after the stage {stage}, "
                "because weights of the model are not finite or far too large"
            )


def _check_watch(watch: Any) -> None:
    if not callable(watch):
        raise TypeError(f"watch must be callable, got {type(watch).__name__}")


def _check_features(features: Any, num_images: int, channels: int) -> None:
    """Raise TypeError or ValueError unless `features` are the maps (N, C, H_l, W_l) of a batch."""
    check_sequence(features, "features")
    if len(features) <= getattr(features, "num_extra", 0):
        raise ValueError(f"features must have at least one level from which RoIs are pooled, got {len(features)}")
    for index, level in enumerate(features):
        if not isinstance(level, Tensor):
            raise TypeError(f"features[{index}] must be a Tensor, got {type(level).__name__}")
        if level.ndim != 4 or level.shape[:2] != (num_images, channels) or 0 in level.shape:
            raise ValueError(f"features[{index}] must have shape ({num_images}, {channels}, H, W), got {level.shape}")


def _pixel_at_padding(batch: Batch, image: int) -> tuple[float, float]:
    """Return the (height, width) that one pixel of the original image has in the batch.

    If the batch has no padding along an axis, the result is 0 for this axis.
    """
    sizes = zip(batch.image_sizes[image], batch.original_sizes[image], batch.images.shape[2:], strict=True)
    height, width = (side / original if side < padded else 0.0 for side, original, padded in sizes)
    return height, width


def _arrays(levels: Sequence[Tensor]) -> list[np.ndarray]:
    """Return a list with the array of each tensor."""
    return [level.data for level in levels]


def _sizes_of(levels: Sequence[Tensor]) -> list[Size]:
    """Return the (height, width) of each feature map."""
    return [(level.shape[2], level.shape[3]) for level in levels]


def _is_empty(images: Any) -> bool:
    if isinstance(images, np.ndarray):
        return images.shape[:1] == (0,)
    return isinstance(images, (list, tuple)) and not images


def _in_original_pixels(detections: list[Detections], batch: Batch) -> list[Detections]:
    """Return the detections with boxes in pixel coordinates of the original images."""
    return [
        {**found, "boxes": transform.scale_boxes(found["boxes"], size, original)}
        for found, size, original in zip(detections, batch.image_sizes, batch.original_sizes, strict=True)
    ]

"""The eight stages of the detector on one image, and the way from each result back to its origin."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

import rcnn
from rcnn import boxes, nms, nn, rpn
from rcnn.nn import functional as F

SHOWN = 24  # RoIs whose sample points and pooled features are part of an overview
SIDES = (4.0, 128.0)  # smallest and largest size of an anchor, in pixels
RATIOS = (0.1, 10.0)


@dataclass(frozen=True)
class Settings:
    """The settings of a detection.

    Attributes
    ----------
    score_thresh, nms_thresh, rpn_nms_thresh : float
        The thresholds of the scores, of the NMS of detections and of the NMS of proposals.
    proposals : int
        The largest number of proposals.
    pooling : {"align", "pool"}
        RoIAlign or RoIPool.
    anchor_sizes, anchor_ratios : tuple of float
        The sizes in pixels and the ratios height / width of the anchors.
    """

    score_thresh: float
    nms_thresh: float
    rpn_nms_thresh: float
    proposals: int
    pooling: str
    anchor_sizes: tuple[float, ...]
    anchor_ratios: tuple[float, ...]

    @classmethod
    def of(cls, model: rcnn.FasterRCNN) -> Settings:
        """Return the settings with which a detector was trained.

        Parameters
        ----------
        model : FasterRCNN
            The detector.

        Returns
        -------
        Settings
            The settings.
        """
        c = model.config
        sizes, ratios = c.anchor_sizes, c.aspect_ratios
        return cls(
            c.box_score_thresh, c.box_nms_thresh, c.rpn_nms_thresh, c.rpn_post_nms_top_n_test, "align", sizes, ratios
        )

    @classmethod
    def from_message(cls, message: dict[str, Any]) -> Settings:
        """Return the settings of a message.

        Parameters
        ----------
        message : dict
            The `Settings` of protocol.ts.

        Returns
        -------
        Settings
            The settings.

        Raises
        ------
        ValueError
            If a setting is missing or out of range.
        """
        try:
            settings = cls(
                *(float(message[name]) for name in ("scoreThreshold", "nmsThreshold", "proposalNmsThreshold")),
                int(message["proposals"]),
                str(message["pooling"]),
                *(tuple(map(float, message[name])) for name in ("anchorSizes", "anchorRatios")),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"the settings are incomplete or have a wrong type: {error}") from error
        if settings.pooling not in ("align", "pool"):
            raise ValueError(f'pooling must be "align" or "pool", got {settings.pooling!r}')
        for name, values, (least, most) in (
            ("anchorSizes", settings.anchor_sizes, SIDES),
            ("anchorRatios", settings.anchor_ratios, RATIOS),
        ):
            if not all(least <= value <= most for value in values):
                raise ValueError(f"{name} must be in [{least:g}, {most:g}], got {list(values)}")
        return settings

    def as_message(self) -> dict[str, Any]:
        """Return the settings in the form of protocol.ts.

        Returns
        -------
        dict
            The `Settings` of protocol.ts.
        """
        return {
            "scoreThreshold": self.score_thresh,
            "nmsThreshold": self.nms_thresh,
            "proposalNmsThreshold": self.rpn_nms_thresh,
            "proposals": self.proposals,
            "pooling": self.pooling,
            "anchorSizes": list(self.anchor_sizes),
            "anchorRatios": list(self.anchor_ratios),
        }


def configure(base: rcnn.FasterRCNN, settings: Settings) -> rcnn.FasterRCNN:
    """Return a detector with the weights of another one, and the anchors and the RPN's NMS threshold of the settings.

    Parameters
    ----------
    base : FasterRCNN
        The detector whose layers are shared.
    settings : Settings
        The settings.

    Returns
    -------
    FasterRCNN
        The detector; `base` itself if it has these settings.

    Raises
    ------
    ValueError
        If the number of anchors per cell would change, because the RPN has outputs for a fixed number.
    """
    c = base.config
    wanted = {
        "anchor_sizes": settings.anchor_sizes,
        "aspect_ratios": settings.anchor_ratios,
        "rpn_nms_thresh": settings.rpn_nms_thresh,
    }
    if all(getattr(c, name) == value for name, value in wanted.items()):
        return base
    for name in ("anchor_sizes", "aspect_ratios"):
        if len(wanted[name]) != len(getattr(c, name)):
            raise ValueError(
                f"{name} must have {len(getattr(c, name))} numbers, because the RPN was trained for this number of "
                f"anchors per cell, got {len(wanted[name])}"
            )
    model = rcnn.FasterRCNN(rcnn.FasterRCNNConfig(c.backbone, **{**c.settings(), **wanted}))
    model.rpn, model.roi_heads = base.rpn, base.roi_heads
    return model


def pool_instead(
    features: np.ndarray, rois: np.ndarray, roi_images: np.ndarray, output_size: tuple[int, int], spatial_scale: float
) -> np.ndarray:
    """Return what RoIPool pools; it replaces `roi_align`.

    Parameters
    ----------
    features, rois, roi_images, output_size, spatial_scale : arrays and numbers
        See `rcnn.roi.roi_pool`.

    Returns
    -------
    (R, C, ph, pw) array
        The pooled features.
    """
    return rcnn.roi.roi_pool(features, rois, roi_images, output_size, spatial_scale)


class Clock:
    """An observer of a pass that measures the milliseconds from one stage to the next."""

    def __init__(self) -> None:
        self.times: dict[str, float] = {}
        self._start = self._last = time.perf_counter()

    def __call__(self, stage: str, **values: Any) -> None:
        now = time.perf_counter()
        self.times[stage], self._last = 1e3 * (now - self._last), now

    def total(self) -> float:
        """Return the milliseconds since the start.

        Returns
        -------
        float
            The time.
        """
        return 1e3 * (time.perf_counter() - self._start)


class Detection:
    """All stages of a detector on one image.

    Parameters
    ----------
    model : FasterRCNN
        A detector with one level of features, in evaluation or training mode.
    image : (H, W, 3) uint8 array
        The image; it must not be resized by the detector.
    settings : Settings
        The settings.

    Raises
    ------
    ValueError
        If the image has another size than the detector expects, or if a setting is out of range.
    """

    def __init__(self, model: rcnn.FasterRCNN, image: np.ndarray, settings: Settings) -> None:
        clock = Clock()
        self.image, self.settings = image, settings
        self.model = configure(model, settings)
        self.config = self.model.config
        self.batch = self.model.make_batch([image])
        if self.batch.images.shape[2:] != image.shape[:2]:
            side = self.config.min_size
            raise ValueError(f"the image must be {side} x {side} pixels, got {image.shape[0]} x {image.shape[1]}")
        with nn.evaluation(), nn.no_grad():
            self.first = self.model.first_stage(self.batch, post_nms_top_n=settings.proposals, watch=clock)
            self.second = self._second_stage(clock)
            (self.found,) = self.model.detections(
                self.batch, self.second, settings.score_thresh, settings.nms_thresh, self.config.box_detections_per_img
            )
        clock("detections")
        self.clock = clock

    def _second_stage(self, clock: Clock) -> Any:
        """Return the results of the second stage, which pools as the settings say."""
        arguments = (self.batch, self.first.features, *self.first.rois())
        if self.settings.pooling == "align":
            return self.model.second_stage(*arguments, watch=clock)
        with rcnn.replace("roi_align", pool_instead):
            second = self.model.second_stage(*arguments, watch=clock)
        clock.times = {{"RoIAlign": "RoIPool"}.get(stage, stage): value for stage, value in clock.times.items()}
        return second

    # ------------------------------------------------------------------ arrays

    @cached_property
    def features(self) -> np.ndarray:
        """The feature map (C, rows, columns)."""
        (level,) = self.first.features
        return level.data[0]

    @cached_property
    def stride(self) -> tuple[int, int]:
        """The pixels between neighbouring cells, along y and along x."""
        return rcnn.anchors.measure_stride(self.image.shape[:2], self.features.shape[1:])

    @cached_property
    def anchors(self) -> np.ndarray:
        """The anchors (A, 4)."""
        return self.first.anchors[0]

    @cached_property
    def logits(self) -> np.ndarray:
        """The objectness logits (A,)."""
        return self.first.objectness[0].data[0]

    @cached_property
    def deltas(self) -> np.ndarray:
        """The deltas of the anchors (A, 4)."""
        return self.first.deltas[0].data[0]

    @cached_property
    def anchor_shapes(self) -> np.ndarray:
        """The sizes and ratios (K, 2) of the anchors of a cell, in the order of the anchors."""
        return np.array([(s, r) for r in self.settings.anchor_ratios for s in self.settings.anchor_sizes])

    @cached_property
    def proposals(self) -> np.ndarray:
        """The proposals (P, 4)."""
        return self.first.proposals[0].boxes

    @cached_property
    def proposal_scores(self) -> np.ndarray:
        """The scores of the proposals (P,)."""
        return self.first.proposals[0].scores

    @cached_property
    def class_scores(self) -> np.ndarray:
        """The class probabilities (P, L)."""
        return F.softmax_of(self.second.class_logits.data)

    # ------------------------------------------------------------------ from a result to its origin

    @cached_property
    def candidate_anchors(self) -> np.ndarray:
        """The index of the anchor (K,) of each candidate, in the order of the candidates."""
        best = rpn.top_k(self.logits, self.config.rpn_pre_nms_top_n_test)
        moved = boxes.clip(boxes.decode(self.deltas[best], self.anchors[best]), self.image.shape[:2])
        kept = boxes.remove_small(moved, rpn.MIN_SIDE)
        scores = F.sigmoid_of(self.logits[best])
        return best[kept[scores[kept] >= self.config.rpn_score_thresh]]

    @cached_property
    def survivors(self) -> np.ndarray:
        """The indices of the candidates that NMS keeps, in descending order of score."""
        found = self.first.proposals[0]
        return nms.nms(found.candidates, found.candidate_scores, self.config.rpn_nms_thresh)

    @cached_property
    def proposal_anchors(self) -> np.ndarray:
        """The index of the anchor (P,) from which each proposal was made."""
        return self.candidate_anchors[self.survivors[: len(self.proposals)]]

    @cached_property
    def detection_rois(self) -> np.ndarray:
        """The index of the RoI (D,) from which each detection was made."""
        return np.array([self._roi_of(index) for index in range(len(self.found["boxes"]))], np.int64)

    def _roi_of(self, detection: int) -> int:
        label, score = self.found["labels"][detection], self.found["scores"][detection]
        same = np.flatnonzero(self.class_scores[:, label] == score)
        if len(same) == 1:
            return int(same[0])
        moved = boxes.clip(self.decoded(same, label), self.image.shape[:2])
        return int(same[np.abs(moved - self.found["boxes"][detection]).sum(axis=1).argmin()])

    def decoded(self, rois: Sequence[int] | np.ndarray, label: int) -> np.ndarray:
        """Return the boxes of a class, before they are clipped.

        Parameters
        ----------
        rois : (R,) sequence of int
            The indices of R RoIs.
        label : int
            The class.

        Returns
        -------
        (R, 4) array
            The boxes.
        """
        deltas = self.second.box_deltas.data[rois, label]
        return boxes.decode(deltas, self.proposals[rois], self.config.bbox_reg_weights)

    @cached_property
    def shown(self) -> np.ndarray:
        """The RoIs (R,) of an overview: those of the detections, then those with the best proposals."""
        best = np.arange(min(SHOWN, len(self.proposals)))
        order = np.concatenate([self.detection_rois, best])
        _, first = np.unique(order, return_index=True)
        return order[np.sort(first)]

    # ------------------------------------------------------------------ pooling

    @property
    def scale(self) -> float:
        """The number of feature pixels per image pixel."""
        return self.second.scales[0]

    def samples(self, rois: np.ndarray) -> np.ndarray:
        """Return where RoIAlign or RoIPool reads the feature map.

        Parameters
        ----------
        rois : (R,) int array
            The indices of R RoIs.

        Returns
        -------
        (R, ph, pw, S, 2) or (R, ph, pw, 1, 4) array
            For RoIAlign, the S sample points x, y of each bin; for RoIPool, the box of the cells of each bin. Both are
            in pixels of the image, where a cell is centred on its index times the stride.
        """
        (ph, pw), regions = self.config.pool_size, self.proposals[rois]
        if self.settings.pooling == "align":
            y = self.positions(regions[:, 1], regions[:, 3], ph)  # (R, ph, n)
            x = self.positions(regions[:, 0], regions[:, 2], pw)  # (R, pw, n)
            n = y.shape[2]
            shape = (len(regions), ph, pw, n, n)
            points = [
                np.broadcast_to(x[:, None, :, None, :], shape),
                np.broadcast_to(y[:, :, None, :, None], shape),
            ]
            return (np.stack(points, axis=-1) / self.scale).reshape(*shape[:3], n * n, 2).astype(np.float32)
        top, bottom = self.bounds(regions[:, 1], regions[:, 3], ph, self.features.shape[1])  # (R, ph) each
        left, right = self.bounds(regions[:, 0], regions[:, 2], pw, self.features.shape[2])  # (R, pw) each
        shape = (len(regions), ph, pw)
        sides = [left[:, None], top[:, :, None], right[:, None], bottom[:, :, None]]
        box = np.stack([np.broadcast_to(side, shape) for side in sides], axis=-1)  # (R, ph, pw, 4)
        return ((box[:, :, :, None] - 0.5) / self.scale).astype(np.float32)

    def positions(self, low: np.ndarray, high: np.ndarray, bins: int) -> np.ndarray:
        """Return the positions of the samples of RoIAlign along one axis.

        Parameters
        ----------
        low, high : (R,) arrays
            The sides of R RoIs along this axis, in pixels of the image.
        bins : int
            The number of bins.

        Returns
        -------
        (R, bins, n) array
            The positions, in feature pixels.
        """
        n, real = self.config.sampling_ratio, low.dtype.type
        start = low * real(self.scale)
        step = np.maximum(high * real(self.scale) - start, real(1)) / real(bins)  # (R,)
        offset = (np.arange(n, dtype=low.dtype) + real(0.5)) / real(n)  # (n,)
        return start[:, None, None] + (np.arange(bins, dtype=low.dtype)[:, None] + offset) * step[:, None, None]

    def bounds(self, low: np.ndarray, high: np.ndarray, bins: int, pixels: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the first feature pixel of each bin of RoIPool along one axis, and the one behind the last.

        Parameters
        ----------
        low, high : (R,) arrays
            The sides of R RoIs along this axis, in pixels of the image.
        bins : int
            The number of bins.
        pixels : int
            The number of feature pixels along this axis.

        Returns
        -------
        (R, bins) array, (R, bins) array
            The first pixels, and those behind the last ones.
        """
        real = low.dtype.type
        first, last = (np.floor(np.abs(side * real(self.scale)) + real(0.5)) for side in (low, high))  # (R,); none < 0
        step = (np.maximum(last - first + 1, 1) / real(bins))[:, None]  # (R, 1)
        index = np.arange(bins, dtype=low.dtype)
        start = np.clip(np.floor(index * step) + first[:, None], 0, pixels)
        return start, np.clip(np.ceil((index + 1) * step) + first[:, None], 0, pixels)

    # ------------------------------------------------------------------ the overview

    def overview(self) -> dict[str, Any]:
        """Return all stages in the form of protocol.ts.

        Returns
        -------
        dict
            The `Overview` of protocol.ts.
        """
        shown, first = self.shown, self.first.proposals[0]
        answer = {
            "size": list(self.image.shape[:2]),
            "levels": [
                {
                    "features": self.features,
                    "stride": list(self.stride),
                    "anchorsPerCell": len(self.anchor_shapes),
                    "firstAnchor": 0,
                }
            ],
            "anchors": self.anchors,
            "anchorShapes": self.anchor_shapes,
            "objectness": self.logits,
            "anchorDeltas": self.deltas,
            "counts": {"candidates": len(first.candidates), "afterNms": first.num_after_nms},
            "proposals": self.proposals,
            "proposalScores": self.proposal_scores,
            "proposalAnchors": self.proposal_anchors,
            "shown": shown,
            "samples": self.samples(shown),
            "pooled": self.second.pooled.data[shown],
            "classScores": self.class_scores,
            "classLogits": self.second.class_logits.data,
            "boxDeltas": self.second.box_deltas.data,
            **self.found,
            "detectionRois": self.detection_rois,
        }
        order = ("backbone", "anchors", "RPN head", "proposals", "RoIAlign", "RoIPool", "head", "detections")
        times = {stage: self.clock.times[stage] for stage in order if stage in self.clock.times}
        return {**answer, "times": {**times, "total": self.clock.total()}}

"""One pass through the detector as pictures: all stages in one strip, or one figure per stage.

What is drawn comes from a trace: any object with the attributes of the model's `Trace`. Where a stage has many maps or
boxes, the pictures follow one RoI, the one with the most certain object, and the pyramid level that it is read from.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rcnn.plot import features, stages, style


@dataclass(frozen=True)
class _View:
    """Which part of a trace is drawn: an image, a pyramid level, a RoI (None if the image has none)."""

    trace: Any
    image: int
    level: int
    roi: int | None
    class_names: Sequence[str] | None
    min_score: float  # detections below are left out, or a page would vanish under doubtful ones
    compact: bool  # a panel of the strip, without scores and ground truth

    @property
    def picture(self) -> np.ndarray:
        return np.asarray(self.trace.pictures[self.image])

    @property
    def features(self) -> np.ndarray:
        return np.asarray(self.trace.features[self.level][self.image])  # (C, H, W)

    @property
    def per_cell(self) -> int:
        """The number of anchors of one cell of the level."""
        height, width = self.features.shape[1:]
        return len(self.trace.anchors[self.level]) // (int(height) * int(width))


def trace_strip(
    trace: Any, image: int = 0, class_names: Sequence[str] | None = None, min_score: float = 0.5
) -> Figure:
    """A figure of eight panels, from the picture of `image` to its detections, with the shapes and counts of each.

    `trace` has the attributes of the model's `Trace`; `class_names[label]` is what a detection's tag says. Detections
    with a score below `min_score` are counted, but not drawn.
    """
    view = _view(trace, image, class_names, min_score, compact=True)
    height, width = view.picture.shape[:2]
    rows = (float(np.clip(height / width, 0.4, 1.6)), max(1.0, min(height / width, 1.6)))  # in widths of a panel
    strip = style.figure(10.0, 1.75 * sum(rows) + 1.6)
    panels = strip.subplots(2, 4, height_ratios=rows).flat
    for number, (ax, (name, draw)) in enumerate(zip(panels, _STAGES, strict=True), start=1):
        style.title(ax, f"{number}  {name}", draw(ax, view))
        ax.set_anchor("NW")
    funnel = "   \u2192   ".join(f"{name} {count:,}" for name, count in trace.counts(image).items())
    strip.supxlabel(textwrap.fill(funnel, 125), fontsize=style.TEXT_SIZE + 0.5, color=style.INK)
    return strip


def stage_pictures(
    trace: Any, image: int = 0, class_names: Sequence[str] | None = None, min_score: float = 0.5
) -> Iterator[tuple[str, Figure]]:
    """The stages' names and figures, one by one, from the picture of `image` to its detections.

    The arguments are those of `trace_strip`. A trace that holds anchor matches gives a ninth figure after the
    objectness.
    """
    view = _view(trace, image, class_names, min_score, compact=False)
    for name, draw in _STAGES:
        yield name, _single(view, name, draw)
        if name == "Objectness" and trace.anchor_matches is not None:
            yield "Matched anchors", _single(view, "Matched anchors", _matched_anchors)


def _single(view: _View, name: str, draw: Callable[[Axes, _View], str]) -> Figure:
    single = style.figure(6.2, 5.6)
    ax = single.subplots()
    style.title(ax, name, draw(ax, view))
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    single.set_figwidth(float(np.clip(4.8 * abs((right - left) / (top - bottom)), 3.5, 9.0)) + 1.4)
    return single


def _view(trace: Any, image: int, class_names: Sequence[str] | None, min_score: float, compact: bool) -> _View:
    if not 0 <= image < len(trace.pictures):
        raise ValueError(f"image is {image}; the trace has the images 0 to {len(trace.pictures) - 1}")
    rows = np.flatnonzero(np.asarray(trace.roi_images) == image)
    if rows.size == 0:
        return _View(trace, image, 0, None, class_names, min_score, compact)
    objects = _softmax(np.asarray(trace.class_logits)[rows])[:, 1:]
    roi = int(rows[objects.max(axis=1).argmax()])
    return _View(trace, image, int(trace.roi_levels[roi]), roi, class_names, min_score, compact)


# Each stage draws itself and returns its caption.


def _picture(ax: Axes, view: _View) -> str:
    stages.image(ax, view.picture)
    return _shape(view.picture) + ("" if view.compact else f", in a batch of shape {_shape(view.trace.images)}")


def _features(ax: Axes, view: _View) -> str:
    features.feature_map(ax, view.features)
    return f"{_level(view)}{_shape(view.features)}"


def _anchors(ax: Axes, view: _View) -> str:
    x1, y1, x2, y2 = (0, 0, *view.picture.shape[1::-1]) if view.roi is None else view.trace.rois[view.roi]
    stages.anchor_level(ax, view.picture, view.trace.anchors[view.level], near=((x1 + x2) / 2, (y1 + y2) / 2))
    height, width = view.features.shape[1:]
    return f"{_level(view)}{height} \u00d7 {width} \u00d7 {view.per_cell} = {height * width * view.per_cell:,}"


def _objectness(ax: Axes, view: _View) -> str:
    height, width = view.features.shape[1:]
    logits = np.asarray(view.trace.objectness[view.level][view.image], float)
    maps = _sigmoid(logits).reshape(height, width, view.per_cell).transpose(2, 0, 1)  # (k, H, W)
    size = np.asarray(view.trace.images).shape[2:]
    first = np.asarray(view.trace.anchors[view.level], float)[0]
    offset = float((first[0] + first[2]) / 2 / (size[1] / width))
    stages.objectness(ax, view.picture, maps, (int(size[0]), int(size[1])), offset)
    return f"{_level(view)}best of {view.per_cell} anchors per cell"


def _matched_anchors(ax: Axes, view: _View) -> str:
    anchors = np.concatenate([np.asarray(level) for level in view.trace.anchors])
    matches = view.trace.anchor_matches[view.image]
    stages.matched_anchors(ax, view.picture, anchors, matches, view.trace.gt_boxes[view.image])
    return f"{len(anchors):,} anchors of all levels"


def _proposals(ax: Axes, view: _View) -> str:
    kept, scores = view.trace.proposals[view.image], view.trace.proposal_scores[view.image]
    stages.proposals(ax, view.picture, kept, scores, top=50 if view.compact else 100)
    if view.roi is not None:
        roi = np.asarray(view.trace.rois)[[view.roi]]
        stages.boxes(ax, roi, labels=np.zeros(1), class_names=[f"RoI {view.roi}"], color=style.ORANGE)
    return f"{len(view.trace.candidates[view.image]):,} candidates, {len(kept):,} kept"


def _sample_points(ax: Axes, view: _View) -> str:
    if view.roi is None:
        style.note(style.frame(ax), "no RoI")
        return "0 RoIs"
    trace = view.trace
    features.sample_points(
        ax, np.abs(view.features).mean(axis=0), trace.rois[view.roi], trace.roi_scales[view.level],
        trace.output_size, trace.sampling_ratio, trace.aligned,
    )  # fmt: skip
    bins = " \u00d7 ".join(str(length) for length in trace.output_size)
    per_bin = f"{trace.sampling_ratio} \u00d7 {trace.sampling_ratio}" if trace.sampling_ratio else "adaptive"
    return f"RoI {view.roi}: {bins} bins, {per_bin} points each"


def _pooled_features(ax: Axes, view: _View) -> str:
    if view.roi is None:
        style.note(style.frame(ax), "no RoI")
        return "0 RoIs"
    pooled = np.asarray(view.trace.pooled[view.roi])
    shown = min(len(pooled), 16 if view.compact else 64)
    features.pooled_features(ax, pooled, shown)
    return f"RoI {view.roi}: {_shape(pooled)}, {shown} channels shown"


def _detections(ax: Axes, view: _View) -> str:
    found = view.trace.detections[view.image]
    sure = np.asarray(found["scores"]) >= view.min_score
    boxes, scores, labels = (np.asarray(found[key])[sure] for key in ("boxes", "scores", "labels"))
    gt_boxes = None if view.compact or view.trace.gt_boxes is None else view.trace.gt_boxes[view.image]
    stages.detections(ax, view.picture, boxes, None if view.compact else scores, labels, view.class_names, gt_boxes)
    return f"{len(sure):,}, of which {len(boxes):,} score {view.min_score:g} or more"


_STAGES: tuple[tuple[str, Callable[[Axes, _View], str]], ...] = (
    ("Picture", _picture),
    ("Features", _features),
    ("Anchors", _anchors),
    ("Objectness", _objectness),
    ("Proposals", _proposals),
    ("RoI sample points", _sample_points),
    ("Pooled features", _pooled_features),
    ("Detections", _detections),
)


def _shape(array: np.ndarray) -> str:
    return "(" + ", ".join(str(length) for length in np.shape(array)) + ")"


def _level(view: _View) -> str:
    levels = len(view.trace.features)
    return f"level {view.level + 1} of {levels}: " if levels > 1 else ""


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * logits)))


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))

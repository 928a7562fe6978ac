"""Validation of the detections and targets that the metrics take: shapes, numbers and labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from rcnn._validate import (
    MAX_CLASSES,
    as_index_array,
    check_boxes,
    check_finite,
    check_flags,
    check_scores,
    check_sequence,
    integer,
    listed,
    shown,
)
from rcnn.data.protocol import check_areas

FARTHEST = 1e9  # pixels

PerImage = Mapping[str, ArrayLike]  # the detections in one image, or its target


@dataclass(frozen=True, eq=False)
class Found:
    """The validated detections in one image."""

    boxes: np.ndarray  # (D, 4) float64
    scores: np.ndarray  # (D,)
    labels: np.ndarray  # (D,)


@dataclass(frozen=True, eq=False)
class Wanted:
    """The validated objects in one image."""

    boxes: np.ndarray  # (G, 4) float64
    labels: np.ndarray  # (G,)
    difficult: np.ndarray  # (G,) bool
    crowd: np.ndarray  # (G,) bool
    areas: np.ndarray  # (G,) float64, in square pixels


def check_inputs(
    detections: Sequence[PerImage], targets: Sequence[PerImage], num_classes: int
) -> tuple[list[Found], list[Wanted]]:
    """Return the validated detections and targets. If one is invalid, raise ValueError with the index of its image."""
    check_sequence(detections, "detections")
    check_sequence(targets, "targets")
    if len(detections) != len(targets):
        raise ValueError(f"detections and targets must have the same length, got {len(detections)} and {len(targets)}")
    return (
        check_detections(detections, num_classes),
        [check_target(t, num_classes, f"targets[{i}]") for i, t in enumerate(targets)],
    )


def check_detections(detections: Sequence[PerImage], num_classes: int) -> list[Found]:
    """Return the validated detections. If one is invalid, raise ValueError with the index of its image."""
    check_sequence(detections, "detections")
    integer(1, MAX_CLASSES).check("num_classes", num_classes)
    return [_check_detections(d, num_classes, f"detections[{i}]") for i, d in enumerate(detections)]


def _check_detections(detection: PerImage, num_classes: int, name: str) -> Found:
    _check_keys(detection, ("boxes", "scores", "labels"), name)
    boxes = check_boxes(detection["boxes"], f"{name}['boxes']").astype(np.float64)
    check_coordinates(boxes, f"{name}['boxes']")
    scores = check_scores(detection["scores"], len(boxes), f"{name}['scores']")
    if np.isnan(scores).any():
        raise ValueError(f"{name}['scores'][{int(np.isnan(scores).argmax())}] must be a number, got NaN")
    return Found(boxes, scores, _check_labels(detection["labels"], len(boxes), num_classes, f"{name}['labels']"))


def check_target(target: PerImage, num_classes: int, name: str) -> Wanted:
    """Return the validated target. If it is invalid, raise TypeError or ValueError with its name."""
    _check_keys(target, ("boxes", "labels"), name)
    boxes = check_boxes(target["boxes"], f"{name}['boxes']").astype(np.float64)
    check_coordinates(boxes, f"{name}['boxes']")
    empty = (boxes[:, 2:] <= boxes[:, :2]).any(axis=1)  # (G,)
    if empty.any():
        i = int(empty.argmax())
        raise ValueError(f"{name}['boxes'][{i}] must have x2 > x1 and y2 > y1, got {boxes[i].tolist()}")
    labels = _check_labels(target["labels"], len(boxes), num_classes, f"{name}['labels']")
    return Wanted(
        boxes,
        labels,
        check_flags(target, "difficult", len(boxes), name),
        check_flags(target, "crowd", len(boxes), name),
        check_areas(target, boxes, name),
    )


def check_coordinates(boxes: np.ndarray, name: str) -> None:
    """Raise ValueError unless all coordinates are finite, and so small that areas are finite, too."""
    check_finite(boxes, name)
    far = (np.abs(boxes) > FARTHEST).any(axis=1)  # (N,)
    if far.any():
        row = int(far.argmax())
        raise ValueError(
            f"{name}[{row}] must have coordinates of at most {FARTHEST:g} pixels, got {boxes[row].tolist()}"
        )


def _check_keys(entry: PerImage, keys: Sequence[str], name: str) -> None:
    if not isinstance(entry, Mapping):
        raise TypeError(f"{name} must be a dict with {', '.join(keys)}, got {shown(entry)}")
    missing = [key for key in keys if key not in entry]
    if missing:
        keys_text = f"its keys are {listed(list(map(str, entry)))}" if entry else "it has no keys"
        raise ValueError(f"{name} lacks {', '.join(missing)}; {keys_text}")


def _check_labels(values: ArrayLike, length: int, num_classes: int, name: str) -> np.ndarray:
    labels = as_index_array(values, name, length)
    wrong = (labels < 1) | (labels >= num_classes)
    if wrong.any():
        i = int(wrong.argmax())
        raise ValueError(f"{name}[{i}] must be in 1 .. {num_classes - 1} (0 is the background), got {labels[i]}")
    return labels


def concatenate(parts: Sequence[np.ndarray], dtype: type[np.generic]) -> np.ndarray:
    """Return all parts, joined into one array (N,). It is empty if there are no parts."""
    return np.concatenate([np.zeros(0, dtype), *parts])

"""The explorer of the score threshold: where it puts a detector on its precision-recall curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rcnn import evaluate, plot
from rcnn.course.widgets._explorer import Explorer, Range

PerImage = Mapping[str, np.ndarray]  # the detections on one image, or its target
STILLS = (0.05, 0.5, 0.95)


def score_threshold(
    images: Sequence[np.ndarray],
    detections: Sequence[PerImage],
    targets: Sequence[PerImage],
    label: int,
    name: str = "",
    index: int = 0,
) -> Explorer:
    """A threshold on the scores of one class, the detections that exceed it, and what that is on the curve.

    images, detections and targets are those of the same images, as `evaluate.evaluate_detections` takes them; right is
    what has an IoU of at least 0.5. `name` is what the class is called. On the left the image at `index`, on the
    right the curve of all images. Where nothing can move: thresholds of 0.05, 0.5 and 0.95.

    Raises ValueError where the class has no object or no detection, or where objects are difficult or crowds.
    """
    positions, scores, correct = _ranked(detections, targets, label)  # (D, 2), (D,), (D,)
    num_objects = sum(int((target["labels"] == label).sum()) for target in targets)
    precision, recall = evaluate.precision_recall(correct, num_objects)

    def draw(figure: Any, threshold: float, index: int) -> None:
        admitted = int((scores > threshold).sum())
        left, right = figure.subplots(1, 2)
        here = np.flatnonzero(positions[:admitted, 0] == index)  # ranks from 0
        found = [detections[index]["boxes"][positions[i, 1]] for i in here]
        wanted = targets[index]["boxes"][targets[index]["labels"] == label]
        plot.ranked_boxes(
            left,
            images[index],
            np.array(found).reshape(-1, 4),
            correct[here],
            wanted,
            [f"{score:.2f}" for score in scores[here]],
        )
        plot.title(
            left,
            f"Image {index}: {name or f'class {label}'}, score above {threshold:.2f}",
            f"dashed: objects of the class, {len(wanted)} on this image",
        )
        plot.ranked_curve(right, recall, precision, correct, admitted)
        plot.title(right, "All images", _summary(precision[:admitted], recall[:admitted], num_objects))

    controls = {"threshold": Range(0, 1, 0.5, 0.01), "index": Range(0, len(images) - 1, index)}
    return Explorer(draw, controls, [{"threshold": threshold} for threshold in STILLS], size=(9.0, 4.6))


def _ranked(
    detections: Sequence[PerImage], targets: Sequence[PerImage], label: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(image and index in it, (D, 2); scores (D,); whether right, (D,)) of the class's detections by falling score."""
    if any(np.any(target[flag]) for target in targets for flag in ("difficult", "crowd") if flag in target):
        raise ValueError("targets has objects that are difficult, or crowds; what is found of them is not on the curve")
    pairs = [(image, i) for image, found in enumerate(detections) for i in np.flatnonzero(found["labels"] == label)]
    positions = np.array(pairs, np.int64).reshape(-1, 2)
    scores = np.array([detections[image]["scores"][i] for image, i in positions], float)
    highest = max(label, *(int(np.max(entry["labels"], initial=0)) for entry in (*detections, *targets)))
    result = evaluate.evaluate_detections(detections, targets, highest + 1)
    if not len(scores) or not result.num_objects[label]:
        raise ValueError(
            f"label {label} has {len(scores)} detections and {result.num_objects[label]} objects; "
            "there is no curve of it"
        )
    order = np.argsort(-scores, kind="stable")
    return positions[order], scores[order], np.diff(result.recall[label], prepend=0) > 0


def _summary(precision: np.ndarray, recall: np.ndarray, num_objects: int) -> str:
    """What the admitted detections amount to."""
    if not len(precision):
        return f"nothing is above the threshold; {num_objects} objects"
    return f"precision {precision[-1]:.2f}, recall {recall[-1]:.2f}; {num_objects} objects"

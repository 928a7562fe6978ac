"""Widget for the score threshold, which selects a point on the precision-recall curve of a detector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rcnn import evaluate, plot
from rcnn.course.widgets._explorer import Explorer, Range

PerImage = Mapping[str, np.ndarray]  # the detections on an image, or the target of an image
STILLS = (0.05, 0.5, 0.95)
HIGHEST = 1.06  # upper end of the precision axis: a ring around a precision of 1 must not touch the caption above


def score_threshold(
    images: Sequence[np.ndarray],
    detections: Sequence[PerImage],
    targets: Sequence[PerImage],
    label: int,
    name: str = "",
    index: int = 0,
) -> Explorer:
    """Return an explorer of a score threshold for one class.

    The left plot shows the detections above the threshold on one image. The right plot shows the precision-recall curve
    of all images, and the point on this curve for the current threshold. A detection is correct if its IoU with an
    object is at least 0.5. The still plots use the thresholds 0.05, 0.5 and 0.95.

    Parameters
    ----------
    images : sequence of (H, W, 3) array
        Images on which the detector ran.
    detections : sequence of dict
        Detections on each image, as in `evaluate.evaluate_detections`.
    targets : sequence of dict
        Target of each image, as in `evaluate.evaluate_detections`.
    label : int
        Label of the class.
    name : str, optional
        Name of the class.
    index : int, optional
        Index of the image to show first.

    Returns
    -------
    Explorer
        The explorer.

    Raises
    ------
    ValueError
        If the class has no objects or no detections, or a target contains a difficult object or a crowd.
    """
    positions, scores, correct = _ranked(detections, targets, label)  # (D, 2), (D,), (D,)
    num_objects = sum(int((target["labels"] == label).sum()) for target in targets)
    precision, recall = evaluate.precision_recall(correct, num_objects)

    def _draw_at(figure: Any, threshold: float, index: int) -> None:
        admitted = int((scores > threshold).sum())
        left, right = figure.subplots(1, 2)
        here = np.flatnonzero(positions[:admitted, 0] == index)  # ranks from 0
        found = [detections[index]["boxes"][positions[i, 1]] for i in here]
        objects = targets[index]["boxes"][targets[index]["labels"] == label]
        plot.ranked_boxes(
            left,
            images[index],
            np.array(found).reshape(-1, 4),
            correct[here],
            objects,
            [f"{score:.2f}" for score in scores[here]],
        )
        plot.title(
            left,
            f"Image {index}: {name or f'class {label}'}, score above {threshold:.2f}",
            f"dashed: {len(objects)} objects of this class",
        )
        plot.ranked_curve(right, recall, precision, correct, admitted)
        right.set_ylim(0, HIGHEST)
        plot.title(right, "All images", _summary(precision[:admitted], recall[:admitted], num_objects))

    controls = {"threshold": Range(0, 1, 0.5, 0.01), "index": Range(0, len(images) - 1, index)}
    admitted = [int((scores > threshold).sum()) for threshold in STILLS]
    alt = (
        f"Detections of {name or f'class {label}'} on image {index}, and the precision-recall curve of all images, for "
        f"the score thresholds {', '.join(map(str, STILLS))}. Above these thresholds, there are "
        + "; ".join(
            f"{count} detections with {_summary(precision[:count], recall[:count], num_objects).split(';')[0]}"
            for count in admitted
        )
        + "."
    )
    stills = [{"threshold": threshold} for threshold in STILLS]
    return Explorer(_draw_at, controls, stills, alt, size=(9.0, 4.6))


def _ranked(
    detections: Sequence[PerImage], targets: Sequence[PerImage], label: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return three arrays for D detections, best first: (image, index) (D, 2), score (D,) and is-correct (D,)."""
    if any(np.any(target[flag]) for target in targets for flag in ("difficult", "crowd") if flag in target):
        raise ValueError("targets must have no difficult objects and no crowds: the curve has no points for them")
    pairs = [(image, i) for image, found in enumerate(detections) for i in np.flatnonzero(found["labels"] == label)]
    positions = np.array(pairs, np.int64).reshape(-1, 2)
    scores = np.array([detections[image]["scores"][i] for image, i in positions], float)
    highest = max(label, *(int(np.max(entry["labels"], initial=0)) for entry in (*detections, *targets)))
    result = evaluate.evaluate_detections(detections, targets, highest + 1)
    if not len(scores) or not result.num_objects[label]:
        raise ValueError(
            f"label {label} must have detections and objects, "
            f"got {len(scores)} detections and {result.num_objects[label]} objects"
        )
    order = np.argsort(-scores, kind="stable")
    return positions[order], scores[order], np.diff(result.recall[label], prepend=0) > 0


def _summary(precision: np.ndarray, recall: np.ndarray, num_objects: int) -> str:
    """Return the precision and recall of the detections above the threshold as text."""
    if not len(precision):
        return f"no detection above the threshold; {num_objects} objects"
    return f"precision {precision[-1]:.2f}, recall {recall[-1]:.2f}; {num_objects} objects"

"""Widget for non-maximum suppression (NMS), step by step, with any threshold."""

from __future__ import annotations

from typing import Any

import numpy as np

from rcnn import boxes as box_ops
from rcnn import plot
from rcnn.course.widgets._explorer import Explorer, Range
from rcnn.nms import nms

LOW, HIGH = 0.1, 0.9  # range of the threshold
HEIGHT = 4.3  # inches


def nms_stepper(
    boxes: np.ndarray, scores: np.ndarray, iou_threshold: float = 0.5, image: np.ndarray | None = None
) -> Explorer:
    """Return an explorer of NMS that shows which boxes are kept, removed or waiting after each step.

    Each step keeps the waiting box with the highest score. Then it removes the waiting boxes whose IoU with this box
    exceeds the threshold. The still plots show the start, the first two steps, and the end.

    Parameters
    ----------
    boxes : (N, 4) array
        Boxes in pixels, at least one.
    scores : (N,) array
        Scores in [0, 1].
    iou_threshold : float, optional
        Start value of the threshold.
    image : (H, W, 3) array, optional
        Image to draw behind the boxes.

    Returns
    -------
    Explorer
        The explorer.

    Raises
    ------
    ValueError
        If there are no boxes.
    """
    if not len(boxes):
        raise ValueError(f"boxes must have at least one row, got shape {np.shape(boxes)}")
    order = np.argsort(-np.asarray(scores), kind="stable")
    ranked, descending = np.asarray(boxes)[order], np.asarray(scores)[order]  # (N, 4), (N,)
    overlaps = box_ops.iou(ranked, ranked)  # (N, N)

    def _draw_at(figure: Any, steps: int, threshold: float) -> None:
        kept = nms(ranked, descending, threshold)  # (K,), ascending because the boxes are sorted
        done = min(int(steps), len(kept))
        states = _states(overlaps, kept, done, threshold)
        left, right = figure.subplots(1, 2, width_ratios=(1.05, 1))
        plot.suppression_step(left, ranked, states, image)
        plot.suppression_legend(left, states)
        plot.title(
            left,
            f"After step {done} of {len(kept)}" if done else "Before the first step",
            f"threshold {threshold:g}; {len(ranked)} boxes, labelled with their ranks",
        )
        with_best = overlaps[kept[done - 1]] if done else np.zeros(len(ranked))  # (N,)
        plot.suppression_queue(right, descending, states, with_best)
        plot.title(right, "Boxes by descending score", "IoU with the box kept now")

    most, last = len(ranked), len(nms(ranked, descending, iou_threshold))
    controls = {"steps": Range(0, most, min(1, most)), "threshold": Range(LOW, HIGH, iou_threshold, 0.05)}
    stills = [{"steps": steps} for steps in sorted({0, 1, min(2, last), last})]
    alt = (
        f"{most} boxes on the left, and their scores on the right, before the first step and after steps "
        f"{', '.join(str(still['steps']) for still in stills[1:])}. Each step keeps the waiting box with the highest "
        f"score and removes the boxes whose IoU with it exceeds {iou_threshold:g}. At the end, {last} boxes are kept."
    )
    return Explorer(_draw_at, controls, stills, alt, size=(9.0, HEIGHT))


def _states(overlaps: np.ndarray, kept: np.ndarray, done: int, threshold: float) -> list[str]:
    """Return the state of each of N sorted boxes after `done` steps, such as "kept now" (see `plot.suppression_step`).

    `overlaps` (N, N) contains the IoU of each pair of boxes. `kept` (K,) contains the indices of the K boxes that NMS
    keeps, in descending order of score.
    """
    removes = overlaps[kept].astype(np.float64) > threshold  # (K, N)
    states = np.full(len(overlaps), "waiting", object)
    states[removes[:done].any(axis=0)] = "removed before"
    if done:
        states[removes[done - 1] & ~removes[: done - 1].any(axis=0)] = "removed now"
        states[kept[:done]] = "kept before"
        states[kept[done - 1]] = "kept now"
    return states.tolist()

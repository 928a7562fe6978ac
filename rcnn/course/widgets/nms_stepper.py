"""The explorer of non-maximum suppression: one step after the other, at any threshold."""

from __future__ import annotations

from typing import Any

import numpy as np

from rcnn import boxes as box_ops
from rcnn import plot
from rcnn.course.widgets._explorer import Explorer, Range
from rcnn.nms import nms

LOW, HIGH = 0.1, 0.9  # thresholds
HEIGHT = 4.3  # inches of the plot


def nms_stepper(
    boxes: np.ndarray, scores: np.ndarray, iou_threshold: float = 0.5, image: np.ndarray | None = None
) -> Explorer:
    """NMS of a few boxes (N, 4) with scores (N,) in [0, 1]: which are kept, removed or waiting after each step.

    A step keeps the best box that is waiting and removes those that overlap it by more than the threshold. `image`
    is what the boxes lie on. Where nothing can move: the beginning, the first two steps, and the end.

    Raises ValueError where there is no box.
    """
    if not len(boxes):
        raise ValueError("boxes has no row: without a box there is no step to show")
    order = np.argsort(-np.asarray(scores), kind="stable")
    ranked, falling = np.asarray(boxes)[order], np.asarray(scores)[order]  # (N, 4), (N,)
    overlaps = box_ops.iou(ranked, ranked)  # (N, N)

    def draw(figure: Any, steps: int, threshold: float) -> None:
        kept = nms(ranked, falling, threshold)  # (K,), rising: the boxes are sorted
        done = min(int(steps), len(kept))
        states = _states(overlaps, kept, done, threshold)
        left, right = figure.subplots(1, 2, width_ratios=(1.05, 1))
        plot.suppression_step(left, ranked, states, image)
        plot.suppression_legend(left, states)
        plot.title(
            left,
            f"After step {done} of {len(kept)}" if done else "Before the first step",
            f"threshold {threshold:g}; {len(ranked)} boxes, tagged with their ranks",
        )
        with_best = overlaps[kept[done - 1]] if done else np.zeros(len(ranked))  # (N,)
        plot.suppression_queue(right, falling, states, with_best)
        plot.title(right, "The list, by falling score", "IoU: with the box that is kept now")

    most, last = len(ranked), len(nms(ranked, falling, iou_threshold))
    controls = {"steps": Range(0, most, min(1, most)), "threshold": Range(LOW, HIGH, iou_threshold, 0.05)}
    stills = [{"steps": steps} for steps in sorted({0, 1, min(2, last), last})]
    return Explorer(draw, controls, stills, size=(9.0, HEIGHT))


def _states(overlaps: np.ndarray, kept: np.ndarray, done: int, threshold: float) -> list[str]:
    """What has become of each of N sorted boxes after `done` steps, as `plot.suppression_step` calls it.

    overlaps (N, N): their IoU. kept: indices of the boxes that are kept in the end, best first.
    """
    removes = overlaps[kept].astype(np.float64) > threshold  # (K, N)
    states = np.full(len(overlaps), "waiting", object)
    states[removes[:done].any(axis=0)] = "removed before"
    if done:
        states[removes[done - 1] & ~removes[: done - 1].any(axis=0)] = "removed now"
        states[kept[:done]] = "kept before"
        states[kept[done - 1]] = "kept now"
    return states.tolist()

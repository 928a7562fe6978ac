"""Comparison of the answers of two programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

Detections = Mapping[str, np.ndarray]
Arrays = Mapping[str, np.ndarray]

FEW = 0.02  # of the detections may differ: the last bit of a score can decide whether a box is suppressed
PIXELS, SCORE = 0.05, 1e-4  # largest differences between matched detections


@dataclass(frozen=True)
class Agreement:
    """The agreement of two answers: a description, whether it is close enough, and the largest difference."""

    text: str
    holds: bool
    difference: float = 0.0


def same_array(ours: np.ndarray, theirs: np.ndarray) -> Agreement:
    """Compare bit by bit; NaN, which torchvision returns for 0 / 0, counts as 0."""
    theirs = np.where(np.isnan(theirs), 0, theirs)
    same = np.array_equal(ours, theirs)
    return Agreement("equal" if same else "not equal", same, 0.0 if same else np.inf)


def close(ours: np.ndarray, theirs: np.ndarray, allowed: float) -> Agreement:
    """Compare within `allowed`, relative to the largest absolute value."""
    if ours.shape != theirs.shape:
        return Agreement(f"shape {ours.shape}, not {theirs.shape}", False, np.inf)
    difference = float(np.abs(ours - theirs).max() / np.abs(theirs).max())
    text = f"{difference:.0e} of the largest" if difference else "equal"
    return Agreement(text, difference <= allowed, difference)


def same_detections(ours: Sequence[Detections], theirs: Sequence[Detections]) -> Agreement:
    """Compare the detections of each image; a fraction `FEW` may differ, and there must be at least one.

    Two detections match if their labels are equal and each is the nearest to the other. Their boxes must agree within
    `PIXELS` and their scores within `SCORE`.
    """
    matched, count, boxes, scores = 0, 0, 0.0, 0.0
    for a, b in zip(ours, theirs, strict=True):
        count += max(len(a["boxes"]), len(b["boxes"]))
        mine, other = partners(a, b)
        apart = np.abs(a["boxes"][mine] - b["boxes"][other]).max(axis=1, initial=0)
        surer = np.abs(a["scores"][mine] - b["scores"][other])
        near = (apart <= PIXELS) & (surer <= SCORE)
        matched += int(near.sum())
        boxes, scores = max(boxes, apart[near].max(initial=0)), max(scores, surer[near].max(initial=0))
    text = f"{matched} of {count} detections, boxes {boxes:.0e} pixels, scores {scores:.0e}"
    return Agreement(text, matched >= (1 - FEW) * count > 0, float(boxes))


def partners(ours: Detections, theirs: Detections) -> tuple[np.ndarray, np.ndarray]:
    """Return (indices of ours, indices of theirs) of mutually nearest detections with equal labels."""
    if len(ours["boxes"]) == 0 or len(theirs["boxes"]) == 0:
        return np.zeros(0, int), np.zeros(0, int)
    distances = np.abs(ours["boxes"][:, None] - theirs["boxes"]).max(axis=2)  # (D, E)
    distances = np.where(ours["labels"][:, None] == theirs["labels"], distances, np.inf)
    nearest, back = distances.argmin(axis=1), distances.argmin(axis=0)
    mine = np.flatnonzero((back[nearest] == np.arange(len(nearest))) & np.isfinite(distances.min(axis=1)))
    return mine, nearest[mine]


def same_step(
    ours: tuple[Arrays, Arrays], theirs: tuple[Arrays, Arrays], allowed: float, allowed_gradients: float
) -> Agreement:
    """Compare two training steps, each (losses by name, gradients by parameter name).

    The relative difference of every loss may be at most `allowed`, and that of all gradients together, in norm, at most
    `allowed_gradients`. NaN never agrees.
    """
    losses, gradients = theirs
    if set(ours[1]) != set(gradients):
        return Agreement(f"gradients of other parameters: {sorted(set(ours[1]) ^ set(gradients))[:3]}", False, np.inf)
    worst = float(np.max([np.abs(ours[0][name] / losses[name] - 1) for name in losses]))
    between = sum(float(np.square(ours[1][name] - gradients[name]).sum(dtype=np.float64)) for name in gradients)
    norm = sum(float(np.square(gradient).sum(dtype=np.float64)) for gradient in gradients.values())
    apart = float(np.sqrt(np.divide(between, norm)))
    text = f"losses {worst:.0e} apart, gradients {apart:.0e}"
    return Agreement(text, worst <= allowed and apart <= allowed_gradients, worst)

"""Comparison of the results of two libraries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

Detections = Mapping[str, np.ndarray]
Arrays = Mapping[str, np.ndarray]

FEW = 0.02  # fraction of the detections that may differ: the last bit of a score can change which box is kept
PIXELS, SCORE = 0.05, 1e-4  # largest allowed differences of the boxes and scores of matched detections


@dataclass(frozen=True)
class Agreement:
    """The agreement of two results: its description, whether it is close enough, and the largest difference."""

    text: str
    holds: bool
    difference: float = 0.0


def same_array(ours: np.ndarray, theirs: np.ndarray) -> Agreement:
    """Compare two arrays bit by bit; a NaN in `theirs` counts as 0, because torchvision returns NaN for 0 / 0."""
    theirs = np.where(np.isnan(theirs), 0, theirs)
    same = np.array_equal(ours, theirs)
    return Agreement("equal" if same else "not equal", same, 0.0 if same else np.inf)


def close(ours: np.ndarray, theirs: np.ndarray, allowed: float) -> Agreement:
    """Compare two arrays; their difference, relative to the largest absolute value, may be at most `allowed`."""
    if ours.shape != theirs.shape:
        return Agreement(f"shapes {ours.shape} and {theirs.shape} differ", False, np.inf)
    difference = float(np.abs(ours - theirs).max() / np.abs(theirs).max())
    text = f"within {difference:.0e}, relative to the largest value" if difference else "equal"
    return Agreement(text, difference <= allowed, difference)


def same_detections(ours: Sequence[Detections], theirs: Sequence[Detections]) -> Agreement:
    """Compare the detections of each image; at most a fraction `FEW` may differ, and there must be at least one.

    Two detections are partners if they have the same label and each is the nearest to the other. They agree if their
    boxes differ by at most `PIXELS` and their scores by at most `SCORE`.
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
    text = f"{matched} of {count} detections, boxes within {boxes:.0e} pixels, scores within {scores:.0e}"
    return Agreement(text, matched >= (1 - FEW) * count > 0, float(boxes))


def partners(ours: Detections, theirs: Detections) -> tuple[np.ndarray, np.ndarray]:
    """Return the pairs of mutually nearest detections with equal labels, as (indices of ours, indices of theirs)."""
    if len(ours["boxes"]) == 0 or len(theirs["boxes"]) == 0:
        return np.zeros(0, int), np.zeros(0, int)
    distances = np.abs(ours["boxes"][:, None] - theirs["boxes"]).max(axis=2)  # (number of ours, number of theirs)
    distances = np.where(ours["labels"][:, None] == theirs["labels"], distances, np.inf)
    nearest, back = distances.argmin(axis=1), distances.argmin(axis=0)
    mine = np.flatnonzero((back[nearest] == np.arange(len(nearest))) & np.isfinite(distances.min(axis=1)))
    return mine, nearest[mine]


def same_step(
    ours: tuple[Arrays, Arrays], theirs: tuple[Arrays, Arrays], allowed: float, allowed_gradients: float
) -> Agreement:
    """Compare two training steps. Each consists of a dict of losses and a dict of gradients by parameter name.

    The relative difference of each loss may be at most `allowed`. All gradients are compared together, as one vector:
    the norm of the difference, divided by the norm of their gradient, may be at most `allowed_gradients`. NaN never
    agrees.
    """
    losses, gradients = theirs
    if set(ours[1]) != set(gradients):
        return Agreement(f"only one has gradients of {sorted(set(ours[1]) ^ set(gradients))[:3]}", False, np.inf)
    worst = float(np.max([np.abs(ours[0][name] / losses[name] - 1) for name in losses]))
    between = sum(float(np.square(ours[1][name] - gradients[name]).sum(dtype=np.float64)) for name in gradients)
    norm = sum(float(np.square(gradient).sum(dtype=np.float64)) for gradient in gradients.values())
    apart = float(np.sqrt(np.divide(between, norm)))
    text = f"losses within {worst:.0e}, gradients within {apart:.0e}"
    return Agreement(text, worst <= allowed and apart <= allowed_gradients, worst)

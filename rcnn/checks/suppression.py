"""The check of non-maximum suppression."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from rcnn import boxes
from rcnn import nms as reference
from rcnn.checks._engine import Case, Function, run

PLENTY = 40  # of boxes: where a sort that is not stable shows


def nms(function: Function, seed: int | None = None) -> None:
    """Nothing where `function(boxes, scores, iou_threshold)`, (N, 4) and (N,), gives the indices that stay, (K,).

    The indices are into `boxes` as given, by falling score. Whatever stays removes the boxes of lower score whose IoU
    with it is *greater than* the threshold; of equal scores the earlier box comes first; the IoU of two boxes without
    area is 0. Raises CheckFailed, which says what is wrong.
    """
    run("nms", function, reference.nms, _cases(np.random.default_rng(seed)), rows=(("boxes", "scores"),))


def _cases(rng: np.random.Generator) -> Iterator[Case]:
    """Few boxes first. In a row of boxes of the same height, all of them 20 wide, a step of s is an IoU of (20 - s) /
    (20 + s): 1/3 for 10, 3/5 for 5, 1/7 for 15.
    """
    x, y, h = rng.integers(3, 30, 3).tolist()

    def row(steps: list[float], scores: list[float], threshold: float, hint: str) -> Case:
        """Boxes that begin so many pixels further to the right."""
        return _case([[x + step, y, x + step + 20, y + h] for step in steps], scores, threshold, hint)

    high, middle, low = _falling(rng, 3)
    yield row(
        [0],
        [high],
        0.5,
        "a box that is alone stays, and the answer holds its index, 0: not the box, and not whether it stays",
    )
    yield row([0, 50], [high, low], 0.5, "boxes that are apart do not remove each other: both stay, the better first")
    yield row(
        [0, 50, 100],
        [middle, low, high],
        0.5,
        "the answer goes by falling score, and its indices are into the "
        "boxes as they were given, not as they were sorted",
    )
    yield row([0, 0], [low, high], 0.5, "the same box twice: the one with the better score stays, wherever it stands")
    yield row(
        [0, 10], [high, low], 0.5, "these boxes overlap with an IoU of 1/3, and the threshold is higher: both stay"
    )
    yield row(
        [0, 10],
        [high, low],
        0.25,
        "these boxes overlap with an IoU of 1/3, and the threshold is lower: one "
        "stays, and what is too much is for the caller to say",
    )
    yield _case(
        [[x, y, x + 40, y + 40], [x + 10, y + 10, x + 20, y + 20]],
        [high, low],
        0.5,
        "the small box lies inside the large one, yet covers little of it: it is the IoU, over the union, that counts",
    )
    yield _case(
        [[x, y, x + 4, y + 4], [x + 2, y, x + 6, y + 4]],
        [high, low],
        0.4,
        "the IoU of these small boxes is 1/3: coordinates are continuous, a box from 3 to 7 is 4 wide",
    )
    yield row(
        [0, 100, 5],
        [high, middle, low],
        0.5,
        "the box that overlaps another is not next to it, by place or by "
        "score: each that stays is held against all that come after, and one that stays is enough to remove a "
        "box",
    )
    yield row(
        [0, 5, 100, 105],
        [high, middle, low, low / 2],
        0.5,
        "two heaps: when the best box has removed its own, the best of what is left has its turn",
    )
    yield row(
        [0, 8, 16],
        [high, middle, low],
        0.4,
        "the first removes the second, and a box that has been removed removes nothing: the third stays",
    )
    yield _case(
        [[x, y, x + 20, y + h], [x, y, x + 40, y + h]],
        [high, low],
        0.5,
        "an IoU of exactly the threshold: only one that is greater removes",
    )
    yield row(
        [0, 20], [high, low], 0.0, "boxes that touch have an IoU of 0, which is not greater than a threshold of 0"
    )
    yield row([0, 0], [high, low], 1.0, "no IoU is greater than 1: with that threshold even the same box stays twice")
    yield row([0, 50], [middle, middle], 0.5, "of equal scores the earlier box comes first")
    yield row(
        [0, 0],
        [middle, middle],
        0.5,
        "the same box twice, with the same score: the earlier stays, and it does remove the other",
    )
    yield row(
        [0, 5, 50, 55],
        [-low, -high, 0, -middle],
        0.5,
        "a score may be 0 or less, as what a network says before "
        "a sigmoid: it is there to be compared, and says nothing about what is removed already",
    )
    yield _case(np.zeros((0, 4)), [], 0.5, "no boxes at all is an ordinary input: nothing stays")
    yield _case(
        [[x, y, x, y], [x, y, x, y]],
        [low, high],
        0.5,
        "boxes without area: the union is 0, and 0/0 is no number; here the IoU of nothing is 0, so both stay",
    )
    yield Case(
        {
            "boxes": np.array([[x, y, x + 20, y + h], [x + 5, y, x + 25, y + h]], np.int64),
            "scores": np.array([1, 2]),
            "iou_threshold": 0.5,
        },
        "whole numbers are numbers, too; an IoU of them is not whole",
    )
    yield _case(
        [[x + 50 * i, y, x + 50 * i + 20, y + h] for i in range(PLENTY)],
        rng.integers(0, 2, PLENTY),
        0.5,
        "of many equal scores, too, the earlier box comes first: some ways of sorting mix equals up",
    )
    for count in (2, 3, 5, 8, 12, 40):
        for dtype in (np.float64, np.float32):
            yield _crowd(rng, count, dtype)


def _case(rows: object, scores: object, threshold: float, hint: str) -> Case:
    return Case({"boxes": np.array(rows, float), "scores": np.array(scores, float), "iou_threshold": threshold}, hint)


def _crowd(rng: np.random.Generator, count: int, dtype: type[np.floating]) -> Case:
    """Boxes around few centres, some of equal scores, and a threshold that no IoU is near to."""
    centres = rng.uniform(10, 60, (1 + count // 4, 2))
    corner = centres[rng.integers(0, len(centres), count)] + rng.uniform(-8, 8, (count, 2))  # (count, 2)
    drawn = np.concatenate([corner, corner + rng.uniform(15, 30, (count, 2))], axis=1).round(1).astype(dtype)
    scores = (rng.integers(1, 2 * count + 1, count) / (2 * count + 1)).astype(dtype)
    overlaps = boxes.iou(drawn, drawn)
    thresholds = rng.uniform(0.2, 0.8, 20).round(2)
    nearest = np.abs(overlaps[..., None] - thresholds).min(axis=(0, 1))  # (20,)
    return Case(
        {"boxes": drawn, "scores": scores, "iou_threshold": float(thresholds[nearest.argmax()])},
        "boxes as they come: cross them off by hand, from the best score down, with the IoU of each pair beside it",
    )


def _falling(rng: np.random.Generator, count: int) -> list[float]:
    """Scores between 0 and 1, none of which is another, the largest first."""
    drawn: list[float] = (np.sort(rng.choice(np.arange(1, 100), count, replace=False))[::-1] / 100).tolist()
    return drawn

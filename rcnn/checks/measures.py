"""Checks of how good detections are: which of them are right, and average precision."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike

from rcnn import boxes as box_ops
from rcnn import evaluate
from rcnn.checks._engine import Case, Function, run
from rcnn.evaluate.coco import RECALLS

OBJECTS = (3, 4, 7, 8, 9, 11, 13)  # the share found is no whole number of hundredths, but for quarters, a half and all
METHODS = (*evaluate.METHODS, "coco")
PLENTY = 40  # of detections: where a sort that is not stable shows


# ---------------------------------------------------------------------- which detections are right


def assign(function: Function, seed: int | None = None) -> None:
    """Nothing where `function(boxes, scores, gt_boxes, iou_threshold)` says which detections are right, (D,) bool.

    boxes (D, 4), scores (D,) and gt_boxes (G, 4) are of one class and one image; the answer is in the order of the
    boxes as given. By falling score, of equal scores the earlier first, each detection is held against the one object
    that it overlaps most. It is right if that IoU is *at least* the threshold and no detection before it was right
    with the same object. Raises CheckFailed, which says what is wrong.
    """
    run(
        "assign",
        function,
        _assign,
        _assign_cases(np.random.default_rng(seed)),
        rows=(("boxes", "scores"), ("gt_boxes",)),
    )


def _assign(boxes: ArrayLike, scores: ArrayLike, gt_boxes: ArrayLike, iou_threshold: float) -> np.ndarray:
    """The definition, word by word."""
    overlaps = box_ops.iou(boxes, gt_boxes)  # (D, G)
    right = np.zeros(len(overlaps), bool)
    taken: set[int] = set()
    for d in np.argsort(-np.asarray(scores), kind="stable") if overlaps.shape[1] else ():
        g = int(overlaps[d].argmax())
        right[d] = overlaps[d, g] >= iou_threshold and g not in taken
        taken |= {g} if right[d] else set()
    return right


def _assign_cases(rng: np.random.Generator) -> Iterator[Case]:
    """Few boxes first. Of boxes 20 wide and of one height, a step of s is an IoU of (20 - s) / (20 + s)."""
    x, y, h = rng.integers(30, 60, 3).tolist()

    def row(
        steps: Sequence[float], scores: Sequence[float], objects: Sequence[float], hint: str, threshold: float = 0.5
    ) -> Case:
        """Detections and objects that begin so many pixels further to the right."""
        found, wanted = ([[x + step, y, x + step + 20, y + h] for step in line] for line in (steps, objects))
        return _assign_case(found, scores, wanted, threshold, hint)

    high, middle, low = (np.sort(rng.choice(np.arange(1, 100), 3, replace=False))[::-1] / 100).tolist()
    yield row(
        [0],
        [high],
        [0],
        "the only detection lies on the only object: for each detection the answer says whether it is right",
    )
    yield row([100], [high], [0], "a detection that lies apart from the only object is wrong")
    yield row([10], [high], [0], "their IoU is 1/3, and the threshold is higher: it is wrong")
    yield row(
        [10],
        [high],
        [0],
        "their IoU is 1/3, and the threshold is lower: what is enough is for the caller to say",
        threshold=0.25,
    )
    yield _assign_case(
        [[x, y, x + 4, y + 4]],
        [high],
        [[x + 2, y, x + 6, y + 4]],
        0.4,
        "the IoU of these small boxes is 1/3: coordinates are continuous, a box from 3 to 7 is 4 wide",
    )
    yield _assign_case(
        [[x, y, x + 20, y + h]],
        [high],
        [[x, y, x + 40, y + h]],
        0.5,
        "an IoU of exactly the threshold is enough: here *at least* counts, in NMS *greater than*",
    )
    yield row(
        [0, 100],
        [high, low],
        [0, 100],
        "two objects, and a detection on each: both are right, for a claim is to one object and leaves the others free",
    )
    yield row(
        [100, 0],
        [high, low],
        [0, 100],
        "the detections name the objects in another order than they are "
        "listed in: row d belongs to detection d, column g to object g",
    )
    yield row(
        [0, 0], [high, low], [0], "two detections of one object: it is found once, and a second box on it is wrong"
    )
    yield row(
        [0, 0],
        [low, high],
        [0],
        "two detections of one object: the one with the better score is right, "
        "wherever it stands; the answer is in the order in which the boxes were given",
    )
    yield row(
        [0, 2],
        [low, high],
        [0],
        "two detections of one object: the better *score* comes first and claims it, though the other overlaps it more",
    )
    yield row(
        [10, 0],
        [high, low],
        [0],
        "the first overlaps the object too little, so it is wrong and claims nothing: the second is right",
    )
    yield row(
        [100, 0, 50],
        [middle, low, high],
        [0, 50],
        "turns go by falling score; the answer is in the order in which the boxes were given",
    )
    yield row(
        [2, 6],
        [high, low],
        [6, 0],
        "the first overlaps both objects enough: it claims the one that it overlaps "
        "most, and leaves the other to the second",
    )
    yield row(
        [0, 2],
        [high, low],
        [0, 6],
        "the object that the second overlaps most is taken, so it is wrong; that "
        "another object would be free, with an IoU that is enough, does not help it (here VOC's rule; COCO's "
        "would let it have that)",
    )
    yield row([0, 0], [middle, middle], [0], "of equal scores the earlier has its turn first")
    yield row([100, 0, 0], [-low, 0, -high], [0], "a score may be 0 or less; it is there to be compared")
    yield row([0, 100], [high, low], [], "no object at all is an ordinary image: every detection on it is wrong")
    yield row([], [], [0], "no detection at all is an ordinary input: there is nothing to say")
    yield Case(
        {
            "boxes": np.array([[x, y, x + 20, y + h], [x + 5, y, x + 25, y + h]], np.int64),
            "scores": np.array([1, 2]),
            "gt_boxes": np.array([[x, y, x + 20, y + h]], np.int64),
            "iou_threshold": 0.5,
        },
        "whole numbers are numbers, too; an IoU of them is not whole",
    )
    positions = [100 * i for i in rng.permutation(PLENTY // 2)]
    yield row(
        positions + positions,
        rng.integers(0, 2, PLENTY).tolist(),
        positions,
        "of many equal scores, too, the earlier box comes first: some ways of sorting mix equals up",
    )
    for count in (2, 3, 5, 8, 12, 40):
        yield _assign_crowd(rng, count)


def _assign_case(boxes: object, scores: object, gt_boxes: object, threshold: float, hint: str) -> Case:
    return Case(
        {
            "boxes": np.array(boxes, float).reshape(-1, 4),
            "scores": np.array(scores, float),
            "gt_boxes": np.array(gt_boxes, float).reshape(-1, 4),
            "iou_threshold": threshold,
        },
        hint,
    )


def _assign_crowd(rng: np.random.Generator, count: int) -> Case:
    """Detections around few objects that overlap, and a threshold that no IoU is near to."""
    corner = rng.uniform(10, 40, (1 + count // 3, 2))
    objects = np.concatenate([corner, corner + rng.uniform(18, 30, corner.shape)], axis=1).round(1)
    near = objects[rng.integers(0, len(objects), count)]
    found = (near + rng.uniform(-4, 4, near.shape)).round(1)
    overlaps, thresholds = box_ops.iou(found, objects), rng.uniform(0.3, 0.7, 20).round(2)
    nearest = np.abs(overlaps[..., None] - thresholds).min(axis=(0, 1))  # (20,)
    scores = rng.integers(1, 2 * count + 1, count) / (2 * count + 1)
    return _assign_case(
        found,
        scores,
        objects,
        float(thresholds[nearest.argmax()]),
        "boxes as they come: go through "
        "them by hand, from the best score down, with the IoU of each with every object beside it",
    )


# ---------------------------------------------------------------------- average precision


def average_precision(function: Function, seed: int | None = None) -> None:
    """Nothing where `function(recall, precision, method)`, (D,) and (D,), gives the average precision, a number.

    The points of the curve come by falling score, so the recall does not fall. At every recall the precision counts
    as the best that is reached at that recall or a higher one, 0 beyond the highest. method "voc2007": its mean
    at the recalls 0, 0.1, ..., 1; "voc2012": its integral over the recall from 0 to 1; "coco": its mean at the recalls
    0, 0.01, ..., 1. Without a point it is 0; where the recall is NaN, for there was nothing to find, NaN. Raises
    CheckFailed, which says what is wrong.
    """
    run(
        "average_precision",
        function,
        _average_precision,
        _average_precision_cases(np.random.default_rng(seed)),
        rows=(("recall", "precision"),),
    )


def _average_precision(recall: ArrayLike, precision: ArrayLike, method: str) -> float:
    """The definition; "coco" is what the challenge's measure does at one IoU threshold."""
    if method != "coco":
        return evaluate.average_precision(recall, precision, method)
    r, p = np.asarray(recall, float), np.asarray(precision, float)
    if np.isnan(r).any():
        return float("nan")
    best = np.append(np.maximum.accumulate(p[::-1])[::-1], 0)  # (D + 1,): beyond the highest recall it is 0
    return float(best[np.searchsorted(r, RECALLS)].mean())


def _average_precision_cases(rng: np.random.Generator) -> Iterator[Case]:
    yield _curve(
        [1],
        1,
        "voc2012",
        "the only object is found by the only detection: precision 1 from recall 0 to "
        "recall 1, for the curve begins at recall 0, not at its first point",
    )
    few = int(rng.choice([3, 4]))
    yield _curve(
        [1] * few,
        few,
        "voc2012",
        "every detection is right and every object is found: the area under the "
        "curve is a whole square, and its first strip begins at recall 0",
    )
    yield _curve(
        [1] * 2,
        4,
        "voc2012",
        "half of the objects are never found: beyond the highest recall the precision counts as 0",
    )
    yield _curve(
        [0, 1],
        1,
        "voc2012",
        "the first detection is wrong, the second finds the only object: at every "
        "recall the best precision at that recall *or a higher one* counts",
    )
    yield Case(
        {"recall": np.array([0.5, 1]), "precision": np.array([1, 0.5]), "method": "voc2012"},
        "between two "
        "points no recall is reached but that of the right one: the area is made of rectangles, each as wide as "
        "the recall grows and as high as the best precision at its right edge or beyond",
    )
    yield _curve(
        [1, 0, 0, 1],
        2,
        "voc2012",
        "wrong detections let the precision fall and the recall stay: they make "
        "no step, and a rectangle without width has no area",
    )
    yield _curve(
        [1, 0, 1, 1, 0],
        3,
        "voc2012",
        "to the right of a point the precision may be higher than at the "
        "point: the best is looked for at higher recalls, not at lower ones",
    )
    yield _curve(
        [1],
        2,
        "voc2007",
        "half of the objects are found: the recalls 0, 0.1, ..., 0.5 are reached, how many "
        "of how many is that? A recall is reached where the curve is at least there",
    )
    yield _curve([1] * few, few, "voc2007", "a perfect detector has average precision 1, at all eleven recalls")
    yield _curve(
        [1, 0, 1, 1, 0],
        3,
        "voc2007",
        "the precision at each of the eleven recalls is the best at that "
        "recall or a higher one, not that of the nearest point, nor interpolated between points",
    )
    yield _curve(
        [1],
        2,
        "coco",
        "half of the objects are found: of COCO's recalls 0, 0.01, ..., 0.5 are reached, how "
        "many of how many is that? A recall is reached where the curve is at least there",
    )
    yield _curve([1] * few, few, "coco", "a perfect detector has average precision 1, at all 101 recalls")
    yield _curve(
        [1, 0, 1, 1, 0],
        3,
        "coco",
        "COCO, too, takes at each of its recalls the best precision at that "
        "recall or a higher one, not that of the nearest point, nor one interpolated between points",
    )
    for method in METHODS[::-1]:
        yield _curve(
            [0] * 3,
            4,
            method,
            "no detection is right: the recall stays 0, which is reached with a precision "
            "of 0, and no other is reached",
        )
    for method in METHODS[::-1]:
        yield _curve(
            [],
            4,
            method,
            "no detections at all are an ordinary input: nothing is found, and the average precision is 0",
        )
        yield Case(
            {"recall": np.full(2, np.nan), "precision": np.zeros(2), "method": method},
            "the recall is NaN "
            "where there was no object to find; then the average precision is not known either, and "
            "0 would be unjust",
        )
    yield Case(
        {"recall": np.array([0, 1]), "precision": np.array([0, 1]), "method": "voc2012"},
        "whole numbers are numbers, too",
    )
    for count in (2, 5, 12, 40):
        for method in METHODS:
            objects = int(rng.choice(OBJECTS))
            yield _curve(
                _found(rng, count, objects),
                objects,
                method,
                "a curve as it comes: draw it, lay the best "
                "precision to the right over it, and go through this one by hand",
            )


def _curve(right: Sequence[int], objects: int, method: str, hint: str) -> Case:
    """The curve of detections that are right (1) or wrong (0), by falling score, of so many objects."""
    found = np.cumsum(np.array(right, float))  # (D,)
    return Case({"recall": found / objects, "precision": found / np.arange(1, len(right) + 1), "method": method}, hint)


def _found(rng: np.random.Generator, count: int, objects: int) -> list[int]:
    """Which of `count` detections are right (1), at most as many as there are objects."""
    right = rng.integers(0, 2, count)
    return (right * (np.cumsum(right) <= objects)).tolist()

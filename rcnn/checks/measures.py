"""Checks of evaluation: right and wrong detections, and average precision."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike

from rcnn import boxes as box_ops
from rcnn import evaluate
from rcnn._ext.dispatch import original
from rcnn.checks import _inputs
from rcnn.checks._engine import Case, Function, generator_of, run
from rcnn.evaluate.coco import RECALLS

OBJECTS = (
    3,
    4,
    7,
    8,
    9,
    11,
    13,
)  # numbers of objects G; only 1/4, 1/2, 3/4 and 1 are both k / G and multiples of 0.01
METHODS = (*evaluate.METHODS, "coco")
PLENTY = 40  # number of detections that is large enough to reveal an unstable sort


# ---------------------------------------------------------------------- which detections are right


@original
def assign(function: Function, seed: int | None = None) -> None:
    """Raise CheckFailed unless `function` returns which detections are right.

    Parameters
    ----------
    function : callable
        ``function(boxes, scores, gt_boxes, iou_threshold)``. `boxes` (D, 4) and `scores` (D,) describe D detections,
        and `gt_boxes` (G, 4) contains the boxes of G objects. All boxes belong to one class and one image. The function
        returns a (D,) array of bools in the order of `boxes`: True for each detection that is right. The detections are
        processed by descending score; in a tie, in the order of the array. Each detection is compared with the one
        object that it overlaps most. It is right if that IoU is *at least* the threshold and no earlier detection was
        right for the same object.
    seed : int, optional
        Seed for the random inputs. Without it, every call uses new inputs.

    Raises
    ------
    CheckFailed
        If any result is wrong. The message shows a hint and the smallest failing input that was found.
    TypeError
        If `function` is not callable.

    References
    ----------
    Everingham et al., "The PASCAL Visual Object Classes (VOC) Challenge", 2010, section 4.2.
    """
    run(
        "assign",
        function,
        _assign,
        _assign_cases(generator_of(seed)),
        rows=(("boxes", "scores"), ("gt_boxes",)),
    )


def _assign(boxes: ArrayLike, scores: ArrayLike, gt_boxes: ArrayLike, iou_threshold: float) -> np.ndarray:
    """Return the expected result, computed directly from the definition."""
    overlaps = box_ops.iou(boxes, gt_boxes)  # (D, G)
    right = np.zeros(len(overlaps), bool)
    taken: set[int] = set()
    for d in np.argsort(-np.asarray(scores), kind="stable") if overlaps.shape[1] else ():
        g = int(overlaps[d].argmax())
        right[d] = overlaps[d, g] >= iou_threshold and g not in taken
        taken |= {g} if right[d] else set()
    return right


def _assign_cases(rng: np.random.Generator) -> Iterator[Case]:
    """Yield cases, simplest first. Boxes in a row are 20 wide, so at a distance s their IoU is (20 - s) / (20 + s)."""
    x, y, h = rng.integers(30, 60, 3).tolist()

    def row(
        steps: Sequence[float], scores: Sequence[float], objects: Sequence[float], hint: str, threshold: float = 0.5
    ) -> Case:
        """Return a case with boxes in a row. Detections begin at the x values `steps`, and objects at `objects`."""
        found, wanted = ([[x + step, y, x + step + 20, y + h] for step in line] for line in (steps, objects))
        return _assign_case(found, scores, wanted, threshold, hint)

    high, middle, low = (np.sort(rng.choice(np.arange(1, 100), 3, replace=False))[::-1] / 100).tolist()
    yield row(
        [0],
        [high],
        [0],
        "The only detection lies on the only object. The result says for each detection whether it is right.",
    )
    yield row([100], [high], [0], "A detection that does not overlap the only object is wrong.")
    yield row([10], [high], [0], "The IoU is 1/3, which is below the threshold, so the detection is wrong.")
    yield row(
        [10],
        [high],
        [0],
        "The IoU is 1/3, which is above the threshold, so the detection is right. The threshold is an argument.",
        threshold=0.25,
    )
    yield _assign_case(
        [[x, y, x + 4, y + 4]],
        [high],
        [[x + 2, y, x + 6, y + 4]],
        0.4,
        "The IoU of these small boxes is 1/3. Coordinates are continuous: a box from 3 to 7 is 4 pixels wide.",
    )
    yield _assign_case(
        [[x, y, x + 20, y + h]],
        [high],
        [[x, y, x + 40, y + h]],
        0.5,
        "An IoU equal to the threshold is enough. Here the rule is *at least*, but in NMS it is *greater than*.",
    )
    yield row(
        [0, 100],
        [high, low],
        [0, 100],
        "There are two objects, with a detection on each. Both are right, because a detection claims only one object "
        "and leaves the others free.",
    )
    yield row(
        [100, 0],
        [high, low],
        [0, 100],
        "The detections are not in the order of their objects. In the IoU matrix, row d belongs to detection d, and "
        "column g belongs to object g.",
    )
    yield row(
        [0, 0],
        [high, low],
        [0],
        "There are two detections of one object. The object can be found only once, so the second detection is wrong.",
    )
    yield row(
        [0, 0],
        [low, high],
        [0],
        "There are two detections of one object. The one with the higher score is right, wherever it is in the array. "
        "The result is in the order of `boxes`.",
    )
    yield row(
        [0, 2],
        [low, high],
        [0],
        "There are two detections of one object. The detection with the higher *score* comes first and claims the "
        "object, although the other detection overlaps it more.",
    )
    yield row(
        [10, 0],
        [high, low],
        [0],
        "The first detection overlaps the object too little, so it is wrong and does not claim the object. The second "
        "detection is right.",
    )
    yield row(
        [100, 0, 50],
        [middle, low, high],
        [0, 50],
        "Detections are processed by descending score, but the result is in the order of `boxes`.",
    )
    yield row(
        [2, 6],
        [high, low],
        [6, 0],
        "The first detection overlaps both objects enough. It claims the object that it overlaps most, and leaves the "
        "other object to the second detection.",
    )
    yield row(
        [0, 2],
        [high, low],
        [0, 6],
        "The object that the second detection overlaps most is already claimed, so the second detection is wrong. "
        "Another object is free and has a sufficient IoU, but that does not help. (This is VOC's rule. COCO's rule "
        "would assign that object.)",
    )
    yield row(
        [0, 0],
        [middle, middle],
        [0],
        "If scores are equal, the detection that is first in the array is processed first.",
    )
    yield row(
        [2, 0],
        [middle, middle],
        [0],
        "The scores are equal, so the detection that is first in the array is processed first, although the other "
        "detection overlaps the object more.",
    )
    yield row(
        [0, 0],
        [middle, middle + 1e-3],
        [0],
        "The scores are nearly equal, but the second is higher, so the second detection claims the object.",
    )
    yield row([100, 0, 0], [-low, 0, -high], [0], "A score may be 0 or negative. Compare scores only with each other.")
    for scale in (low, 1, 1e4, 1e12):
        for sign in (-1, 1):
            yield row(
                [100, 0, 0, 50],
                [sign * scale * score for score in (3, 2, 1, 4)],
                [0, 50],
                "All scores may be negative, also -1 or below, or all above 1. A score may be any number, so every "
                "detection counts. Compare scores only with each other.",
            )
    yield row([0], [0], [0], f"The only score is 0, which is a score like any other. {_inputs.ZEROS}")
    yield row(
        [10], [high], [0], "The IoU is 1/3, which is at least 0. A threshold of 0 is a threshold, too.", threshold=0.0
    )
    yield _assign_case(
        np.zeros((1, 4)),
        [high],
        [[x, y, x + 20, y + h]],
        0.5,
        f"This detection is a point at the origin, so it is wrong. {_inputs.ZEROS}",
    )
    yield row([0, 100], [high, low], [], "An image without objects is valid input: every detection in it is wrong.")
    yield row([], [], [0], "Zero detections are valid input: the result is empty.")
    yield Case(
        {
            "boxes": np.array([[x, y, x + 20, y + h], [x + 5, y, x + 25, y + h]], np.int64),
            "scores": np.array([1, 2]),
            "gt_boxes": np.array([[x, y, x + 20, y + h]], np.int64),
            "iou_threshold": 0.5,
        },
        "Integers are valid input, but their IoU need not be an integer.",
    )
    positions = [100 * i for i in rng.permutation(PLENTY // 2)]
    yield row(
        positions + positions,
        rng.integers(0, 2, PLENTY).tolist(),
        positions,
        "If many scores are equal, their boxes must keep their order. Some sorting algorithms change the order of "
        "ties.",
    )
    for number, (kind, counts) in enumerate(_inputs.box_kinds()):
        objects = kind.draw(rng, 1 + max(counts))
        yield _assign_near(rng, kind.draw(rng, 2 * sum(counts) + number, objects), objects, kind.hint)
    for count in (2, 3, 5, 8, 12, 40):
        yield _assign_crowd(rng, count)
    for step in (1e-5, 1e-9):
        yield row(
            [0, 0],
            [middle, middle + step],
            [0],
            "The scores are nearly equal, but the second is higher, so the second detection claims the object. Do not "
            "round the scores.",
        )
    for scores in ((0.86, 0.94), (0.91, 0.93), (0.06, 0.14)):
        yield row(
            [0, 0],
            scores,
            [0],
            "The scores are nearly equal, but the second is higher, so the second detection claims the object. Do not "
            "round the scores.",
        )
    for threshold in (1 / 3 - 1e-4, 1 / 3 + 1e-4):
        yield row(
            [10],
            [high],
            [0],
            "The IoU is 1/3, close to the threshold. Compare it with the threshold as it is, without a tolerance.",
            threshold=threshold,
        )
    yield row(
        positions * 8,
        rng.integers(0, 2, 8 * len(positions)).tolist(),
        positions,
        "If many scores are equal, their boxes must keep their order. Some sorting algorithms change the order of "
        "ties.",
    )


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
    """Draw detections around a few overlapping objects, and a threshold that is not close to any IoU."""
    corner = rng.uniform(10, 40, (1 + count // 3, 2))
    objects = np.concatenate([corner, corner + rng.uniform(18, 30, corner.shape)], axis=1).round(1)
    near = objects[rng.integers(0, len(objects), count)]
    found = (near + rng.uniform(-4, 4, near.shape)).round(1)
    return _assign_near(
        rng,
        found,
        objects,
        "These boxes are random. Write down the IoU of each detection with every object. Then go through the "
        "detections by hand, from the highest score down.",
    )


def _assign_near(rng: np.random.Generator, found: np.ndarray, objects: np.ndarray, hint: str) -> Case:
    """Draw scores and a threshold between the IoUs. Leave out detections that overlap two objects alike."""
    overlaps = box_ops.iou(found, objects)
    best = np.sort(overlaps, axis=1)[:, ::-1][:, :2]  # (D, 2), the two highest IoUs
    clear = (best[:, 0] - best[:, 1] > 1e-3) | (best[:, 0] == 0) if best.shape[1] == 2 else np.ones(len(found), bool)
    found, overlaps = found[clear], overlaps[clear]
    threshold = _inputs.threshold_between(rng, overlaps.max(axis=1, initial=0))
    scores = rng.integers(1, 2 * len(found) + 2, len(found)) / (2 * len(found) + 1)
    return _assign_case(found, scores, objects, threshold, hint)


# ---------------------------------------------------------------------- average precision


@original
def average_precision(function: Function, seed: int | None = None) -> None:
    """Raise CheckFailed unless `function` computes average precision.

    Parameters
    ----------
    function : callable
        ``function(recall, precision, method)``. `recall` (D,) and `precision` (D,) contain the recall and the precision
        after each of D detections, in descending order of score. Recall therefore never decreases. The function returns
        a number. Let p(r) be the largest value of `precision` where `recall` is at least r, or 0 if there is no such
        value. With the method "voc2007", the result is the mean of p(r) at r = 0, 0.1, ..., 1. With "voc2012", it is
        the integral of p(r) for r from 0 to 1. With "coco", it is the mean of p(r) at r = 0, 0.01, ..., 1. Without
        detections, the result is 0. If `recall` is NaN, because there was no object, the result is NaN.
    seed : int, optional
        Seed for the random inputs. Without it, every call uses new inputs.

    Raises
    ------
    CheckFailed
        If any result is wrong. The message shows a hint and the smallest failing input that was found.
    TypeError
        If `function` is not callable.

    References
    ----------
    Everingham et al., "The PASCAL Visual Object Classes (VOC) Challenge", 2010, section 4.2.
    Lin et al., "Microsoft COCO: Common Objects in Context", 2014.
    """
    run(
        "average_precision",
        function,
        _average_precision,
        _average_precision_cases(generator_of(seed)),
        rows=(("recall", "precision"),),
    )


def _average_precision(recall: ArrayLike, precision: ArrayLike, method: str) -> float:
    """Return the average precision by its definition. "coco" is COCO's average precision at one IoU threshold."""
    if method != "coco":
        return evaluate.average_precision(recall, precision, method)
    r, p = np.asarray(recall, float), np.asarray(precision, float)
    if np.isnan(r).any():
        return float("nan")
    best = np.append(np.maximum.accumulate(p[::-1])[::-1], 0)  # (D + 1,); it is 0 beyond the highest recall
    return float(best[np.searchsorted(r, RECALLS)].mean())


def _average_precision_cases(rng: np.random.Generator) -> Iterator[Case]:
    yield _curve(
        [1],
        1,
        "voc2012",
        "The only detection finds the only object, so the precision is 1 from recall 0 to recall 1. The curve begins "
        "at recall 0, not at its first point.",
    )
    few = int(rng.choice([3, 4]))
    yield _curve(
        [1] * few,
        few,
        "voc2012",
        "Every detection is right and every object is found, so the area under the curve is a full square. Its first "
        "rectangle begins at recall 0.",
    )
    yield _curve(
        [1] * 2,
        4,
        "voc2012",
        "Half of the objects are never found. Beyond the highest recall, the precision counts as 0.",
    )
    yield _curve(
        [0, 1],
        1,
        "voc2012",
        "The first detection is wrong, and the second finds the only object. The precision at every recall is the "
        "best precision at that recall *or a higher one*.",
    )
    yield Case(
        {"recall": np.array([0.5, 1]), "precision": np.array([1, 0.5]), "method": "voc2012"},
        "A recall between two points is reached only by the point on the right. The area consists of rectangles. "
        "Each rectangle is as wide as the increase in recall, and as high as the best precision at its right edge or "
        "farther right.",
    )
    yield _curve(
        [1, 0, 0, 1],
        2,
        "voc2012",
        "Wrong detections lower the precision but do not change the recall. They add no step, because a rectangle "
        "without width has no area.",
    )
    yield _curve(
        [1, 0, 1, 1, 0],
        3,
        "voc2012",
        "To the right of a point, the precision may be higher than at the point. Look for the best precision at "
        "higher recalls, not at lower ones.",
    )
    yield _curve(
        [1],
        2,
        "voc2007",
        "Half of the objects are found, so the recalls 0, 0.1, ..., 0.5 are reached. How many of the eleven recalls "
        "are these? A recall is reached if some point of the curve has at least that recall.",
    )
    yield _curve(
        [1] * few, few, "voc2007", "A perfect detector has an average precision of 1: all eleven recalls are reached."
    )
    yield _curve(
        [1, 0, 1, 1, 0],
        3,
        "voc2007",
        "At each of the eleven recalls, use the best precision at that recall or a higher one. Do not use the "
        "precision of the nearest point, and do not interpolate between points.",
    )
    yield _curve(
        [1],
        2,
        "coco",
        "Half of the objects are found, so COCO's recalls 0, 0.01, ..., 0.5 are reached. How many of the 101 recalls "
        "are these? A recall is reached if some point of the curve has at least that recall.",
    )
    yield _curve(
        [1] * few, few, "coco", "A perfect detector has an average precision of 1: all 101 recalls are reached."
    )
    yield _curve(
        [1, 0, 1, 1, 0],
        3,
        "coco",
        "COCO, too, uses the best precision at each recall or a higher one. Do not use the precision of the nearest "
        "point, and do not interpolate between points.",
    )
    for method in METHODS[::-1]:
        yield _curve(
            [0] * 3,
            4,
            method,
            "No detection is right, so the recall stays 0. Recall 0 is reached with a precision of 0, and no other "
            "recall is reached.",
        )
    for method in METHODS[::-1]:
        yield _curve(
            [],
            4,
            method,
            "Zero detections are valid input: nothing is found, and the average precision is 0.",
        )
        yield Case(
            {"recall": np.full(2, np.nan), "precision": np.zeros(2), "method": method},
            "The recall is NaN if there was no object to find. Then the average precision is undefined as well. A "
            "value of 0 would be unfair.",
        )
    yield Case(
        {"recall": np.array([0, 1]), "precision": np.array([0, 1]), "method": "voc2012"},
        "Integers are valid input.",
    )
    for count in (2, 5, 12, 40):
        for method in METHODS:
            objects = int(rng.choice(OBJECTS))
            yield _curve(
                _found(rng, count, objects),
                objects,
                method,
                "This curve is random. Draw it. Above it, draw the best precision at each recall or a higher one. "
                "Then work out the result by hand.",
            )
    for method in METHODS:
        yield Case(
            {"recall": np.full(1, np.nan), "precision": np.zeros(1), "method": method},
            "The recall of a single detection is NaN, too, if there was no object to find.",
        )
        yield _curve([1], 8, method, "One of eight objects is found. Beyond the last recall, the precision is 0.")


def _curve(right: Sequence[int], objects: int, method: str, hint: str) -> Case:
    """Return a case with the curve of detections, best first. In `right`, 1 is a right detection and 0 a wrong one."""
    found = np.cumsum(np.array(right, float))  # (D,)
    return Case({"recall": found / objects, "precision": found / np.arange(1, len(right) + 1), "method": method}, hint)


def _found(rng: np.random.Generator, count: int, objects: int) -> list[int]:
    """Choose at random which of `count` detections are right (1) and which are wrong (0), at most `objects` right."""
    right = rng.integers(0, 2, count)
    return (right * (np.cumsum(right) <= objects)).tolist()

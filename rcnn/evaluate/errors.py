"""Errors of a detector: the classes that it confuses, and the average precision that each kind of error costs.

Hoiem, Chodpathumwan and Dai, "Diagnosing Error in Object Detectors", 2012, divide wrong detections into kinds. Bolya,
Foley, Hays and Hoffman, "TIDE: A General Toolbox for Identifying Object Detection Errors", 2020, repair all errors of
one kind, and measure how much the average precision increases.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rcnn._ext.dispatch import original
from rcnn._validate import MAX_CLASSES, NUMBER, integer, one_of
from rcnn.boxes import iou, share_inside
from rcnn.evaluate._inputs import Found, PerImage, Wanted, check_inputs, concatenate
from rcnn.evaluate.voc import (
    METHODS,
    NO_OBJECT,
    Judged,
    check_iou_threshold,
    count_objects,
    first_of_each,
    is_to_find,
    judge,
    summary,
)

KINDS = ("right", "localisation", "class", "both", "duplicate", "background", "missed")
RIGHT, LOCALISATION, CLASS, BOTH, DUPLICATE, BACKGROUND, MISSED = range(len(KINDS))
LEFT_OUT = -1  # the kind of a detection or an object that does not count


# ---------------------------------------------------------------------- confusion


def confusion(
    detections: Sequence[PerImage],
    targets: Sequence[PerImage],
    num_classes: int,
    iou_threshold: float = 0.5,
    score_thresh: float = 0.5,
) -> np.ndarray:
    """Return the confusion matrix of L classes. Rows are true classes, and columns are predicted classes.

    Row 0 counts detections without an object, and column 0 counts missed objects. Element [0, 0] is 0. The sum of row l
    is therefore the number of objects of class l. The sum of column l is the number of detections of class l that
    count.

    Only detections with a score above `score_thresh` are used. These detections are taken in descending order of score,
    whatever their class; detections with equal scores keep their order. Each detection considers the objects in its
    image that are not yet taken and whose IoU with it is at least `iou_threshold`. It takes the object with the highest
    IoU. In a tie, it prefers an object of its own class, then the first one.

    Difficult objects and crowds are not counted. A detection that takes no object is also not counted if its IoU with a
    difficult object is at least `iou_threshold`, or if at least this fraction of its area is in a crowd.

    Parameters
    ----------
    detections : sequence of dict
        For each image with D detections, {"boxes": (D, 4), "scores": (D,), "labels": (D,)}; boxes are in pixels.
    targets : sequence of dict
        For each image with G objects, {"boxes": (G, 4), "labels": (G,)}, and optionally "difficult" (G,) bool and
        "crowd" (G,) bool.
    num_classes : int
        The number of classes L, including the background, from 1 to 2^15.
    iou_threshold : float
        The lowest IoU of a match, in (0, 1].
    score_thresh : float
        Only detections with a score above this number are used; it must be finite. A score above 0.5 means that the
        detector considers the detection more likely to be right than wrong.

    Returns
    -------
    (L, L) int64 array
        The confusion matrix.

    Raises
    ------
    TypeError, ValueError
        If `detections` and `targets` have different lengths, or if a value is invalid. The message names the image.
    """
    check_iou_threshold(iou_threshold)
    score_thresh = NUMBER.check("score_thresh", score_thresh)
    num_classes = integer(1, MAX_CLASSES // 2).check("num_classes", num_classes)
    counts = np.zeros((num_classes, num_classes), np.int64)  # (L, L)
    for detected, target in zip(*check_inputs(detections, targets, num_classes), strict=True):
        taken_by, left_out = _take_objects(detected, target, iou_threshold, score_thresh)
        to_find = is_to_find(target)  # (G,)
        alone = (detected.scores > score_thresh) & ~left_out  # (D,)
        alone[taken_by[taken_by >= 0]] = False
        predicted = np.append(detected.labels, 0)[taken_by]  # (G,); -1 selects the 0 at the end
        np.add.at(counts, (target.labels[to_find], predicted[to_find]), 1)
        np.add.at(counts, (0, detected.labels[alone]), 1)
    return counts


@original
def _take_objects(
    detected: Found, target: Wanted, iou_threshold: float, score_thresh: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the index (G,) of each object's detection (-1: none), and a mask (D,) of detections on ignored objects."""
    overlaps = iou(detected.boxes, target.boxes)  # (D, G)
    inside = np.where(target.crowd, share_inside(detected.boxes, target.boxes), overlaps)  # (D, G)
    to_find = is_to_find(target)  # (G,)
    left_out = ((inside >= iou_threshold) & ~to_find).any(axis=1)  # (D,)
    taken_by = np.full(len(target.boxes), -1)  # (G,)
    by_score = np.argsort(-detected.scores, kind="stable")  # (D,)
    for d in by_score[detected.scores[by_score] > score_thresh]:
        fits = to_find & (taken_by < 0) & (overlaps[d] >= iou_threshold)  # (G,)
        if fits.any():
            other_class = target.labels != detected.labels[d]  # (G,)
            best = np.lexsort((other_class, -overlaps[d], ~fits))[0]  # sorts by the last key first
            taken_by[best] = d
    return taken_by, left_out


# ---------------------------------------------------------------------- kinds of error


@dataclass(frozen=True, eq=False)
class Errors:
    """The detections and objects of each kind of error. `str()` returns a table.

    There are K kinds, in the order of `KINDS`, and L classes.

    Attributes
    ----------
    detections : (K, L) int array
        The number of detections of each kind and predicted class. The row "missed" contains zeros, because only objects
        can be missed.
    objects : (K, L) int array
        The number of objects of each kind and true class. A "right" object is found; objects of the kinds
        "localisation", "class" and "missed" are not found.
    mean_ap : float
        The mean average precision.
    repaired : dict of str to float
        For each kind of error, the value that `mean_ap` would have if all errors of this kind were repaired.
    examples : dict of str to (n, 2) int64 array
        For each kind except "missed", its n detections, in descending order of score: each row contains the index of an
        image and the index of the detection in this image. For "missed", the n missed objects: each row contains the
        index of an image and the index of the object in this image.
    """

    detections: np.ndarray
    objects: np.ndarray
    mean_ap: float
    repaired: dict[str, float]
    examples: dict[str, np.ndarray]

    def __str__(self) -> str:
        lines = [f"{'kind':<14}{'detections':>12}{'objects':>10}{'AP without':>12}{'gain':>8}"]
        for kind, detections, objects in zip(KINDS, self.detections.sum(axis=1), self.objects.sum(axis=1), strict=True):
            after = self.repaired.get(kind)
            effect = "" if after is None else f"{after:>12.3f}{after - self.mean_ap:>+8.3f}"
            lines.append(f"{kind:<14}{detections:>12}{objects:>10}{effect}")
        lines.append(f"mean average precision: {self.mean_ap:.3f}")
        return "\n".join(lines)


def error_kinds(
    detections: Sequence[PerImage],
    targets: Sequence[PerImage],
    num_classes: int,
    iou_threshold: float = 0.5,
    background_iou: float = 0.1,
    method: str = "voc2012",
) -> Errors:
    """Return the kind of each detection and object, and the average precision that each kind of error costs.

    A detection is *right* if it is right in `evaluate_detections`. Detections that do not count there are left out.
    Every other detection is wrong. Its kind is the first one in this list that applies:

    - *duplicate*: it matches an object with an IoU of at least `iou_threshold`, but a detection with a higher score has
      already found this object.
    - *class*: its IoU with an object of another class is at least `iou_threshold`.
    - *localisation*: its IoU with an object of its own class is at least `background_iou`.
    - *both*: its IoU with an object of another class is at least `background_iou`. Both the class and the location are
      wrong.
    - *background*: its IoU with every object is below `background_iou`.

    An object that is not found has the kind *localisation* or *class* if a detection of this kind overlaps it. If there
    are several such detections, the one with the highest score decides. Otherwise, the object is *missed*. Difficult
    objects and crowds are left out.

    Errors are repaired as in TIDE (section 2.3). A detection of the kind *localisation* or *class* is made right. If
    several of them belong to one object, only the one with the highest score remains. Detections of the kinds *both*,
    *duplicate* and *background* are removed. *Missed* objects are removed from the targets. A class without other
    objects is then no longer part of the mean.

    TIDE's own program matches detections as COCO does, and checks *localisation* before *class*. Its counts can
    therefore differ if two kinds apply.

    Parameters
    ----------
    detections : sequence of dict
        For each image with D detections, {"boxes": (D, 4), "scores": (D,), "labels": (D,)}; boxes are in pixels.
    targets : sequence of dict
        For each image with G objects, {"boxes": (G, 4), "labels": (G,)}, and optionally "difficult" (G,) bool and
        "crowd" (G,) bool.
    num_classes : int
        The number of classes, including the background, from 1 to 2^16.
    iou_threshold : float
        The lowest IoU of a match, in (0, 1].
    background_iou : float
        A detection with a lower IoU lies on the background. The value must be above 0 and below `iou_threshold`.
    method : str
        "voc2007" or "voc2012"; see `average_precision`.

    Returns
    -------
    Errors
        The counts, the cost of each kind, and examples.

    Raises
    ------
    TypeError, ValueError
        If `detections` and `targets` have different lengths, or if a value is invalid. The message names the image.

    References
    ----------
    Bolya, Foley, Hays and Hoffman, "TIDE: A General Toolbox for Identifying Object Detection Errors", 2020, section 2.
    """
    check_iou_threshold(iou_threshold)
    background_iou = NUMBER.check("background_iou", background_iou)
    if not 0 < background_iou < iou_threshold:
        raise ValueError(
            f"background_iou must be above 0 and below iou_threshold={iou_threshold:g}, got {background_iou!r}"
        )
    one_of(METHODS).check("method", method)
    found, wanted = check_inputs(detections, targets, num_classes)
    judged = judge(found, wanted, iou_threshold)
    objects = _Objects(
        labels=concatenate([target.labels for target in wanted], np.int64),
        counts=concatenate([is_to_find(target) for target in wanted], np.bool_),
    )
    kinds, about = _kinds(found, wanted, judged, iou_threshold, background_iou)  # (D,), (D,)
    fates = _fates(kinds, about, objects)  # (G,)

    def mean_ap_without(kind: int) -> float:
        labels, correct = _repair(kind, kinds, about, judged, objects)
        lost = objects.labels[fates == MISSED] if kind == MISSED else []
        remaining = count_objects(wanted, num_classes) - np.bincount(lost, minlength=num_classes)
        return summary(labels, correct, remaining, method).mean_ap

    return Errors(
        detections=_count(kinds, judged.labels, num_classes),
        objects=_count(fates, objects.labels, num_classes),
        mean_ap=mean_ap_without(RIGHT),
        repaired={KINDS[kind]: mean_ap_without(kind) for kind in range(1, len(KINDS))},
        examples=_examples(kinds, fates, judged, found, wanted),
    )


@dataclass(frozen=True, eq=False)
class _Objects:
    """The G objects of all images."""

    labels: np.ndarray  # (G,)
    counts: np.ndarray  # (G,) bool, False for difficult objects and crowds


def _kinds(
    found: Sequence[Found], wanted: Sequence[Wanted], judged: Judged, high: float, low: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return two arrays (D,) in the order of `judged`: the kind and the object (or NO_OBJECT) of each detection."""
    kinds, about = [], []
    first_object = 0
    for detected, target in zip(found, wanted, strict=True):
        own_kinds, own_about = _explain(detected, target, high, low)
        kinds.append(own_kinds)
        about.append(np.where(own_about == NO_OBJECT, NO_OBJECT, first_object + own_about))
        first_object += len(target.boxes)
    guess, guess_about = concatenate(kinds, np.int64)[judged.order], concatenate(about, np.int64)[judged.order]
    matched = judged.objects != NO_OBJECT  # (D,)
    kind = np.select([~judged.counts, judged.correct, matched], [LEFT_OUT, RIGHT, DUPLICATE], guess)
    return kind, np.where(matched, judged.objects, guess_about)


@original
def _explain(detected: Found, target: Wanted, high: float, low: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the kind (D,) and the object (D,) of each detection in an image, as if none were right or a duplicate."""
    if not len(target.boxes):
        return np.full(len(detected.boxes), BACKGROUND), np.full(len(detected.boxes), NO_OBJECT)
    overlaps = iou(detected.boxes, target.boxes)  # (D, G)
    overlaps = np.where(target.crowd, 0, overlaps)  # (D, G); a crowd is not a single object, so it is ignored
    same_class = detected.labels[:, None] == target.labels  # (D, G)
    own, other = np.where(same_class, overlaps, 0), np.where(same_class, 0, overlaps)
    cases = [other.max(axis=1) >= high, own.max(axis=1) >= low, other.max(axis=1) >= low]  # (D,) each
    kinds = np.select(cases, [CLASS, LOCALISATION, BOTH], BACKGROUND)
    return kinds, np.select(cases, [other.argmax(axis=1), own.argmax(axis=1), other.argmax(axis=1)], NO_OBJECT)


def _fates(kinds: np.ndarray, about: np.ndarray, objects: _Objects) -> np.ndarray:
    """Return RIGHT, LOCALISATION, CLASS, MISSED or LEFT_OUT (G,) for each object. Detections are sorted by score."""
    fates = np.full(len(objects.labels), MISSED)
    # In ascending order of score, so that the last assignment is that of the highest score.
    lost = np.flatnonzero((kinds == LOCALISATION) | (kinds == CLASS))[::-1]
    for d in (*lost, *np.flatnonzero(kinds == RIGHT)):
        fates[about[d]] = kinds[d]
    return np.where(objects.counts, fates, LEFT_OUT)


def _repair(
    kind: int, kinds: np.ndarray, about: np.ndarray, judged: Judged, objects: _Objects
) -> tuple[np.ndarray, np.ndarray]:
    """Repair the errors of `kind`. Return (labels, correct) of the detections that then count, sorted by score."""
    corrected = (kinds == kind) & (kind in (LOCALISATION, CLASS))  # (D,)
    candidates = np.where((kinds == RIGHT) | corrected, about, NO_OBJECT)  # (D,)
    right = first_of_each(candidates) & np.append(objects.counts, False)[candidates]
    surplus = ((kinds == RIGHT) | (kinds == kind)) & ~right
    remain = judged.counts & ~surplus  # (D,)
    labels = np.where(corrected, np.append(objects.labels, 0)[about], judged.labels)  # (D,)
    return labels[remain], right[remain]


def _count(kinds: np.ndarray, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Return the number (K, L) of detections or objects of each of K kinds and L classes."""
    counts = np.zeros((len(KINDS), num_classes), np.int64)
    np.add.at(counts, (kinds[kinds != LEFT_OUT], labels[kinds != LEFT_OUT]), 1)
    return counts


def _examples(
    kinds: np.ndarray, fates: np.ndarray, judged: Judged, found: Sequence[Found], wanted: Sequence[Wanted]
) -> dict[str, np.ndarray]:
    """For each kind, return the pairs (image, detection) of its n errors (n, 2). MISSED has pairs (image, object)."""
    positions = _positions([len(detected.boxes) for detected in found])[judged.order]  # (D, 2)
    return {
        **{name: positions[kinds == kind] for kind, name in enumerate(KINDS)},
        KINDS[MISSED]: _positions([len(target.boxes) for target in wanted])[fates == MISSED],
    }


def _positions(lengths: Sequence[int]) -> np.ndarray:
    """Return (index of the image, index in the image) for N items (N, 2). Image i contains `lengths[i]` items."""
    pairs = [(image, i) for image, length in enumerate(lengths) for i in range(length)]
    return np.array(pairs, np.int64).reshape(-1, 2)

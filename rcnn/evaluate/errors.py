"""A detector's errors: the classes it confuses, and the average precision that each kind of error costs.

Hoiem, Chodpathumwan and Dai, "Diagnosing Error in Object Detectors", 2012, sort wrong detections into kinds. Bolya,
Foley, Hays and Hoffman, "TIDE: A General Toolbox for Identifying Object Detection Errors", 2020, measure each kind by
the average precision that its repair would gain.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rcnn._ext.dispatch import original
from rcnn.boxes import iou
from rcnn.evaluate._inputs import Found, PerImage, Wanted, check_inputs, concatenate
from rcnn.evaluate.voc import (
    NO_OBJECT,
    Judged,
    check_iou_threshold,
    count_objects,
    first_of_each,
    is_to_find,
    judge,
    share_inside,
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
    """Return the confusion matrix of the classes: rows are the true class, columns the predicted one.

    Row 0 counts detections without an object, column 0 objects that were missed; [0, 0] is 0. Row l therefore sums to
    the objects of class l, and column l to its detections that count.

    Detections with a score above `score_thresh` are matched by descending score (ties keep the first), whatever their
    class. Each takes one object of its image among those not yet taken whose IoU is at least `iou_threshold`: the one
    that it overlaps most. Ties keep an object of its own class, then the first. Difficult objects and crowds are not
    counted. A detection that takes no object but fits one of these is left out; it fits a crowd by the fraction of it
    that is inside.

    Parameters
    ----------
    detections : sequence of dict
        Per image {"boxes": (D, 4), "scores": (D,), "labels": (D,)}; boxes in pixels.
    targets : sequence of dict
        Per image {"boxes": (G, 4), "labels": (G,)}, and optionally "difficult" and "crowd", (G,) bool each.
    num_classes : int
        The number of labels, including the background.
    iou_threshold : float
        The IoU of a match, in (0, 1].
    score_thresh : float
        The score above which a detection counts; above 0.5 a detector considers it more likely right than wrong.

    Returns
    -------
    (L, L) int64 array
        The counts.

    Raises
    ------
    ValueError
        If the inputs do not match or are invalid; the message names the image.
    """
    check_iou_threshold(iou_threshold)
    counts = np.zeros((num_classes, num_classes), np.int64)  # (L, L)
    for detected, target in zip(*check_inputs(detections, targets, num_classes), strict=True):
        taken_by, left_out = _take_objects(detected, target, iou_threshold, score_thresh)
        to_find = is_to_find(target)  # (G,)
        alone = (detected.scores > score_thresh) & ~left_out  # (D,)
        alone[taken_by[taken_by >= 0]] = False
        predicted = np.append(detected.labels, 0)[taken_by]  # (G,); -1 picks the 0 at the end
        np.add.at(counts, (target.labels[to_find], predicted[to_find]), 1)
        np.add.at(counts, (0, detected.labels[alone]), 1)
    return counts


@original
def _take_objects(
    detected: Found, target: Wanted, iou_threshold: float, score_thresh: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the detection that takes each object, (G,), -1 for none, and True for detections left out, (D,) bool."""
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
            best = np.lexsort((other_class, -overlaps[d], ~fits))[0]  # the last key counts first
            taken_by[best] = d
    return taken_by, left_out


# ---------------------------------------------------------------------- kinds of error


@dataclass(frozen=True, eq=False)
class Errors:
    """Detections and objects by kind of error; K kinds in the order of `KINDS`, L classes. `str()` returns a table.

    Attributes
    ----------
    detections : (K, L) int array
        Detections of each kind, by predicted class; none is "missed".
    objects : (K, L) int array
        Objects by true class: "right" are found; those of "localisation", "class" and "missed" are lost.
    mean_ap : float
        The mean average precision.
    repaired : dict of str to float
        `mean_ap` if all errors of one kind were repaired, by kind.
    examples : dict of str to (n, 2) int64 array
        Index of the image and of the detection in it, by kind and descending score; for "missed", of the object.
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

    A detection is *right* if it is so in `evaluate_detections`; those that do not count there are left out. For the
    others, the first kind that applies is

    - *duplicate*: its object, at `iou_threshold`, was found with a higher score;
    - *class*: it overlaps an object of another class by at least `iou_threshold`;
    - *localisation*: it overlaps an object of its class by at least `background_iou`;
    - *both*: it overlaps an object of another class by at least `background_iou`;
    - *background*: it overlaps no object by as much.

    An object that is not found is *localisation* or *class* if a detection of that kind overlaps it (the one with the
    highest score decides), and otherwise *missed*. Difficult objects and crowds are left out.

    Errors are repaired as in TIDE (section 2.3). A detection of kind *localisation* or *class* is made right; of
    several for one object, only the one with the highest score remains. *Both*, *duplicate* and *background* are
    removed. *Missed* objects are removed from the targets (a class with no other objects drops out of the mean). TIDE's
    own program matches as COCO does and checks *localisation* first, so its counts differ where two kinds apply.

    Parameters
    ----------
    detections : sequence of dict
        Per image {"boxes": (D, 4), "scores": (D,), "labels": (D,)}; boxes in pixels.
    targets : sequence of dict
        Per image {"boxes": (G, 4), "labels": (G,)}, and optionally "difficult" and "crowd", (G,) bool each.
    num_classes : int
        The number of labels, including the background.
    iou_threshold : float
        The IoU of a match, in (0, 1].
    background_iou : float
        Above 0 and below `iou_threshold`.
    method : str
        "voc2007" or "voc2012"; see `average_precision`.

    Returns
    -------
    Errors
        Counts, costs and examples.

    Raises
    ------
    ValueError
        If the inputs do not match or are invalid; the message names the image.

    References
    ----------
    Bolya, Foley, Hays and Hoffman, "TIDE: A General Toolbox for Identifying Object Detection Errors", 2020, section 2.
    """
    if not 0 < background_iou < iou_threshold:
        raise ValueError(
            f"background_iou must be above 0 and below iou_threshold={iou_threshold:g}, got {background_iou!r}"
        )
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
    """The objects of all images."""

    labels: np.ndarray  # (G,)
    counts: np.ndarray  # (G,) bool, True if it is to be found


def _kinds(
    found: Sequence[Found], wanted: Sequence[Wanted], judged: Judged, high: float, low: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the kind of each detection, (D,), and its object or NO_OBJECT, (D,), in the order of `judged`."""
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
    """Return kind (D,) and object in this image (D,) of detections, as if none had matched an object of its class."""
    if not len(target.boxes):
        return np.full(len(detected.boxes), BACKGROUND), np.full(len(detected.boxes), NO_OBJECT)
    overlaps = iou(detected.boxes, target.boxes)  # (D, G)
    overlaps = np.where(target.crowd, 0, overlaps)  # (D, G); a crowd is no single object to confuse with
    same_class = detected.labels[:, None] == target.labels  # (D, G)
    own, other = np.where(same_class, overlaps, 0), np.where(same_class, 0, overlaps)
    cases = [other.max(axis=1) >= high, own.max(axis=1) >= low, other.max(axis=1) >= low]  # (D,) each
    kinds = np.select(cases, [CLASS, LOCALISATION, BOTH], BACKGROUND)
    return kinds, np.select(cases, [other.argmax(axis=1), own.argmax(axis=1), other.argmax(axis=1)], NO_OBJECT)


def _fates(kinds: np.ndarray, about: np.ndarray, objects: _Objects) -> np.ndarray:
    """Return RIGHT, LOCALISATION, CLASS, MISSED or LEFT_OUT for each object, (G,); detections by descending score."""
    fates = np.full(len(objects.labels), MISSED)
    lost = np.flatnonzero((kinds == LOCALISATION) | (kinds == CLASS))[::-1]  # the last one decides: the highest score
    for d in (*lost, *np.flatnonzero(kinds == RIGHT)):
        fates[about[d]] = kinds[d]
    return np.where(objects.counts, fates, LEFT_OUT)


def _repair(
    kind: int, kinds: np.ndarray, about: np.ndarray, judged: Judged, objects: _Objects
) -> tuple[np.ndarray, np.ndarray]:
    """Return labels and correctness, by descending score, of the detections that count once `kind` is repaired."""
    corrected = (kinds == kind) & (kind in (LOCALISATION, CLASS))  # (D,)
    candidates = np.where((kinds == RIGHT) | corrected, about, NO_OBJECT)  # (D,)
    right = first_of_each(candidates) & np.append(objects.counts, False)[candidates]
    surplus = ((kinds == RIGHT) | (kinds == kind)) & ~right
    remain = judged.counts & ~surplus  # (D,)
    labels = np.where(corrected, np.append(objects.labels, 0)[about], judged.labels)  # (D,)
    return labels[remain], right[remain]


def _count(kinds: np.ndarray, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Return the number of detections or objects of each kind and class, (K, L)."""
    counts = np.zeros((len(KINDS), num_classes), np.int64)
    np.add.at(counts, (kinds[kinds != LEFT_OUT], labels[kinds != LEFT_OUT]), 1)
    return counts


def _examples(
    kinds: np.ndarray, fates: np.ndarray, judged: Judged, found: Sequence[Found], wanted: Sequence[Wanted]
) -> dict[str, np.ndarray]:
    """Return per kind (n, 2): the image, and the detection in it (for MISSED the object)."""
    positions = _positions([len(detected.boxes) for detected in found])[judged.order]  # (D, 2)
    return {
        **{name: positions[kinds == kind] for kind, name in enumerate(KINDS)},
        KINDS[MISSED]: _positions([len(target.boxes) for target in wanted])[fates == MISSED],
    }


def _positions(lengths: Sequence[int]) -> np.ndarray:
    """Return (index of the image, index in the image), (N, 2), of all items of images with these `lengths`."""
    pairs = [(image, i) for image, length in enumerate(lengths) for i in range(length)]
    return np.array(pairs, np.int64).reshape(-1, 2)

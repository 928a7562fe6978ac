"""What a detector gets wrong: which classes it confuses, and which kinds of error cost how much average precision.

Hoiem, Chodpathumwan, Dai: "Diagnosing Error in Object Detectors", 2012, sorts wrong detections into kinds; Bolya,
Foley, Hays, Hoffman: "TIDE: A General Toolbox for Identifying Object Detection Errors", 2020, weighs each kind by the
average precision that its repair would bring.
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
    """How often each class was called what, (L, L) int64: rows are what it is, columns what was predicted.

    Row 0 counts detections where nothing is, column 0 objects that were missed; [0, 0] is 0. So row l sums to the
    objects of class l, and column l to its detections but for those left out.

    Detections with a score above `score_thresh` choose in turn, whatever their class, by falling score (of equal scores
    the earlier first). Each takes, of the objects of its image that are still free and that it overlaps by at least
    `iou_threshold`, the one that it overlaps most; of equal ones one of its own class, then the earlier. Objects that
    are difficult, or a crowd, are not counted; a detection that takes no object but fits one of these is left out (it
    fits a crowd by the share of it that lies inside).

    Args:
        detections, targets, num_classes: as in `evaluate_detections`.
        iou_threshold: above 0, at most 1.
        score_thresh: 0.5 is where a detector says that it rather believes in its answer.
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
    """(the detection that takes each object, (G,), -1 for none; whether each detection is left out, (D,) bool)."""
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
    """Detections and objects by kind of error; K kinds in the order of `KINDS`, L classes."""

    detections: np.ndarray
    """(K, L) detections of each kind, by the class that they state; none is "missed"."""
    objects: np.ndarray
    """(K, L) objects by their class: "right" are found; lost are those of "localisation", "class" and "missed"."""
    mean_ap: float
    """Mean average precision as it is."""
    repaired: dict[str, float]
    """Per kind of error: what `mean_ap` would be if there were none of that kind."""
    examples: dict[str, np.ndarray]
    """Per kind (n, 2): index of the image, index of the detection in it, by falling score; of "missed" the object."""

    def __str__(self) -> str:
        lines = [f"{'kind':<14}{'detections':>12}{'objects':>10}{'AP without':>12}{'gain':>8}"]
        for kind, detections, objects in zip(KINDS, self.detections.sum(axis=1), self.objects.sum(axis=1), strict=True):
            after = self.repaired.get(kind)
            effect = "" if after is None else f"{after:>12.3f}{after - self.mean_ap:>+8.3f}"
            lines.append(f"{kind:<14}{detections:>12}{objects:>10}{effect}")
        lines.append(f"mean average precision as it is: {self.mean_ap:.3f}")
        return "\n".join(lines)


def error_kinds(
    detections: Sequence[PerImage],
    targets: Sequence[PerImage],
    num_classes: int,
    iou_threshold: float = 0.5,
    background_iou: float = 0.1,
    method: str = "voc2012",
) -> Errors:
    """Of which kind each detection is, what became of each object, and what each kind of error costs.

    A detection is *right* where `evaluate_detections` says so, and those that do not count there are left out. For any
    other, the first of these that fits says what is wrong with it:

    - *duplicate*: its object, at `iou_threshold`, had been found with a higher score;
    - *class*: it overlaps an object of another class by at least `iou_threshold`;
    - *localisation*: it overlaps an object of its class by at least `background_iou`;
    - *both*: it overlaps an object of another class by at least `background_iou`;
    - *background*: there is nothing.

    An object that is not found is one of *localisation* or *class* if a detection of that kind is about it (the one
    with the highest score decides), and else *missed*. Objects that are difficult, or a crowd, are none of it.

    Repair is that of TIDE (section 2.3): a detection of kind *localisation* or *class* is made right, and of several of
    one object only the one with the highest score remains; *both*, *duplicate* and *background* are taken away; what
    was *missed* is not asked for (a class of which nothing else is left drops out of the mean). TIDE's own program
    matches as COCO does and looks for *localisation* first; where kinds compete, its counts differ.

    Args:
        detections, targets, num_classes, iou_threshold, method: as in `evaluate_detections`.
        background_iou: above 0 and below `iou_threshold`.
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
    counts: np.ndarray  # (G,) whether it is to be found


def _kinds(
    found: Sequence[Found], wanted: Sequence[Wanted], judged: Judged, high: float, low: float
) -> tuple[np.ndarray, np.ndarray]:
    """(kind (D,), the object that it is about, (D,), or NO_OBJECT) of each detection, in the order of `judged`."""
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
    """(kind (D,), object in this image (D,)) of detections, taken as if none had an object of its class."""
    if not len(target.boxes):
        return np.full(len(detected.boxes), BACKGROUND), np.full(len(detected.boxes), NO_OBJECT)
    overlaps = iou(detected.boxes, target.boxes)  # (D, G)
    overlaps = np.where(target.crowd, 0, overlaps)  # (D, G); a crowd is nobody to be mistaken for
    same_class = detected.labels[:, None] == target.labels  # (D, G)
    own, other = np.where(same_class, overlaps, 0), np.where(same_class, 0, overlaps)
    cases = [other.max(axis=1) >= high, own.max(axis=1) >= low, other.max(axis=1) >= low]  # (D,) each
    kinds = np.select(cases, [CLASS, LOCALISATION, BOTH], BACKGROUND)
    return kinds, np.select(cases, [other.argmax(axis=1), own.argmax(axis=1), other.argmax(axis=1)], NO_OBJECT)


def _fates(kinds: np.ndarray, about: np.ndarray, objects: _Objects) -> np.ndarray:
    """What became of each object, (G,): RIGHT, LOCALISATION, CLASS, MISSED or LEFT_OUT; detections by falling score."""
    fates = np.full(len(objects.labels), MISSED)
    telling = np.flatnonzero((kinds == LOCALISATION) | (kinds == CLASS))[::-1]  # the highest score has the last word
    for d in (*telling, *np.flatnonzero(kinds == RIGHT)):
        fates[about[d]] = kinds[d]
    return np.where(objects.counts, fates, LEFT_OUT)


def _repair(
    kind: int, kinds: np.ndarray, about: np.ndarray, judged: Judged, objects: _Objects
) -> tuple[np.ndarray, np.ndarray]:
    """(labels, whether right) of the detections that count once those of `kind` are repaired, by falling score."""
    mended = (kinds == kind) & (kind in (LOCALISATION, CLASS))  # (D,)
    candidates = np.where((kinds == RIGHT) | mended, about, NO_OBJECT)  # (D,)
    right = first_of_each(candidates) & np.append(objects.counts, False)[candidates]
    surplus = ((kinds == RIGHT) | (kinds == kind)) & ~right
    remain = judged.counts & ~surplus  # (D,)
    labels = np.where(mended, np.append(objects.labels, 0)[about], judged.labels)  # (D,)
    return labels[remain], right[remain]


def _count(kinds: np.ndarray, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """How many there are of each kind and class, (K, L)."""
    counts = np.zeros((len(KINDS), num_classes), np.int64)
    np.add.at(counts, (kinds[kinds != LEFT_OUT], labels[kinds != LEFT_OUT]), 1)
    return counts


def _examples(
    kinds: np.ndarray, fates: np.ndarray, judged: Judged, found: Sequence[Found], wanted: Sequence[Wanted]
) -> dict[str, np.ndarray]:
    """Per kind (n, 2): the image, and the detection (of MISSED the object) in it."""
    positions = _positions([len(detected.boxes) for detected in found])[judged.order]  # (D, 2)
    return {
        **{name: positions[kinds == kind] for kind, name in enumerate(KINDS)},
        KINDS[MISSED]: _positions([len(target.boxes) for target in wanted])[fates == MISSED],
    }


def _positions(lengths: Sequence[int]) -> np.ndarray:
    """(index of the image, index in the image), (N, 2), of everything in images of so many things each."""
    pairs = [(image, i) for image, length in enumerate(lengths) for i in range(length)]
    return np.array(pairs, np.int64).reshape(-1, 2)

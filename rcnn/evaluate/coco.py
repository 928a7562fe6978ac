"""The metrics of the COCO challenge: twelve numbers, computed from matches at ten IoU thresholds.

The metrics are defined by Lin et al., "Microsoft COCO: Common Objects in Context", 2014, and by the evaluation code of
the challenge. Edge cases follow that code: equal scores, equal IoUs, an IoU equal to a threshold, and an area equal to
a limit of its range.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from rcnn._validate import integer
from rcnn.boxes import area, convert
from rcnn.evaluate._inputs import Found, PerImage, Wanted, check_inputs, concatenate
from rcnn.evaluate.voc import is_to_find

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)  # (T,)
RECALLS = np.linspace(0, 1, 101)  # (R,)
AREA_NAMES = ("all", "small", "medium", "large")
AREA_RANGES = np.array([[0, 1e5**2], [0, 32**2], [32**2, 96**2], [96**2, 1e5**2]])  # (A, 2), limits included
MOST_CLASSES = 2**14  # each class has thousands of numbers
MAX_DETECTIONS = (1, 10, 100)  # (M,) per class and image

WRONG, RIGHT, IGNORED = np.arange(3, dtype=np.int8)  # outcomes of a detection; an ignored detection does not count


@dataclass(frozen=True, eq=False)
class CocoEvaluation:
    """The COCO metrics of the detections in a set of images.

    The axes of the arrays are T = 10 IoU thresholds (`IOU_THRESHOLDS`), R = 101 recalls (`RECALLS`), L classes in the
    order of their labels (0 is the background), A = 4 area ranges (`AREA_NAMES`) and M = 3 limits for the number of
    detections (`MAX_DETECTIONS`). A value is NaN if there is no object to find. (The code of the challenge returns -1.)

    Attributes
    ----------
    precision : (T, R, L, A, M) array
        For each recall r in `RECALLS`, the highest precision where the recall is at least r; 0 if there is none.
    recall : (T, L, A, M) array
        The fraction of the objects that are found.
    num_objects : (L,) int array
        The number of objects to find in each class. Crowds and difficult objects are not counted.
    num_detections : (L,) int array
        The number of detections of each class. All are counted, but the metrics use at most the 100 detections with the
        highest scores for each class and image.
    """

    precision: np.ndarray
    recall: np.ndarray
    num_objects: np.ndarray
    num_detections: np.ndarray

    @property
    def ap(self) -> np.ndarray:
        """The mean, over all IoU thresholds, of the average precision of each class.

        Returns
        -------
        (L,) array
            Values in [0, 1]; NaN for a class without objects to find.
        """
        return self.precision[..., 0, -1].mean(axis=(0, 1))

    @property
    def ap50(self) -> np.ndarray:
        """The average precision of each class at an IoU of 0.5.

        Returns
        -------
        (L,) array
            Values in [0, 1]; NaN for a class without objects to find.
        """
        return self.precision[0, ..., 0, -1].mean(axis=0)

    @property
    def numbers(self) -> dict[str, float]:
        """The twelve numbers of the challenge, by name. Each is a mean over the classes that have objects.

        "AP" is the mean of the average precision over the IoU thresholds 0.5, 0.55, ..., 0.95. "AP50" and "AP75" are
        the average precision at a single threshold, 0.5 or 0.75. "APs", "APm" and "APl" are the AP of small objects
        (areas up to 32 x 32 pixels), medium objects, and large objects (areas from 96 x 96 pixels).

        "AR1", "AR10" and "AR100" are the average recall over the same IoU thresholds. They use at most 1, 10 and 100
        detections of each class in each image, those with the highest scores. "ARs", "ARm" and "ARl" are the AR100 of
        small, medium and large objects.

        Returns
        -------
        dict of str to float
            Values in [0, 1]; NaN if no class has objects.
        """
        precision, recall = self.precision, self.recall
        return {
            "AP": _mean(precision[..., 0, 2]),
            "AP50": _mean(precision[0, ..., 0, 2]),
            "AP75": _mean(precision[5, ..., 0, 2]),
            **{f"AP{name[0]}": _mean(precision[..., a, 2]) for a, name in enumerate(AREA_NAMES) if a > 0},
            **{f"AR{limit}": _mean(recall[..., 0, m]) for m, limit in enumerate(MAX_DETECTIONS)},
            **{f"AR{name[0]}": _mean(recall[..., a, 2]) for a, name in enumerate(AREA_NAMES) if a > 0},
        }


def evaluate_coco(detections: Sequence[PerImage], targets: Sequence[PerImage], num_classes: int) -> CocoEvaluation:
    """Evaluate detections with the COCO metrics.

    Detections are matched with objects separately for each image, class, area range and IoU threshold. The detections
    are taken in descending order of score; detections with equal scores keep their order. Each detection considers the
    objects that are not yet taken and whose IoU with it reaches the threshold. It takes the object with the highest
    IoU; in a tie, the *last* one. A detection that takes an object is right; a detection that takes no object is wrong.

    Some objects are ignored: they need not be found. A detection takes an ignored object only if it can take no other
    object; the detection is then ignored, too. These objects are ignored:

    - an object whose area is outside the area range. Only one detection can take it, as with any other object.
    - a crowd. Any number of detections can take it. Its IoU is the fraction of the detection that is inside the crowd.
    - an object marked difficult (in PASCAL VOC; COCO has no such mark). Any number of detections can take it.

    A detection that takes no object is ignored, too, if its own area is outside the area range. Precision and recall
    are computed over the detections of all images, in descending order of score. If scores are equal, the first image
    comes first. (COCO's own code sorts the images by their ids.)

    Parameters
    ----------
    detections : sequence of dict
        For each image with D detections, {"boxes": (D, 4), "scores": (D,), "labels": (D,)}; boxes are in pixels.
    targets : sequence of dict
        For each image with G objects, {"boxes": (G, 4), "labels": (G,)}, and optionally "crowd" (G,) bool, "difficult"
        (G,) bool and "areas" (G,). The areas of the objects are in square pixels; the default is the area of each box.
    num_classes : int
        The number of classes, including the background, from 1 to 2^14.

    Returns
    -------
    CocoEvaluation
        The precision and recall curves, and the twelve numbers.

    Raises
    ------
    TypeError, ValueError
        If `detections` and `targets` have different lengths, or if a value is invalid. The message names the image.

    References
    ----------
    Lin et al., "Microsoft COCO: Common Objects in Context", 2014.
    """
    num_classes = integer(1, MOST_CLASSES).check("num_classes", num_classes)
    found, wanted = check_inputs(detections, targets, num_classes)
    scores = concatenate([detected.scores for detected in found], np.float64)  # (D,), all images
    labels = concatenate([detected.labels for detected in found], np.int64)  # (D,)
    ranks = concatenate([_ranks(detected) for detected in found], np.int64)  # (D,)
    num_objects = _num_objects(wanted, num_classes)  # (L, A)
    precision, recall = _accumulate(_outcomes(found, wanted, ranks), scores, labels, ranks, num_objects)
    return CocoEvaluation(precision, recall, num_objects[:, 0], np.bincount(labels, minlength=num_classes))


def _ranks(detected: Found) -> np.ndarray:
    """Return the rank (D,) of each detection among those of its class in its image. The highest score has rank 0."""
    order = np.lexsort((-detected.scores, detected.labels))  # (D,): sorted by class, then by score
    labels = detected.labels[order]
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.arange(len(order)) - np.searchsorted(labels, labels)  # the position within the class
    return ranks


def _ignored(wanted: Sequence[Wanted]) -> np.ndarray:
    """Return a mask (G, A) of the objects, in all images, that need not be found in each of the A area ranges."""
    areas = concatenate([target.areas for target in wanted], np.float64)  # (G,)
    return _shared(wanted)[:, None] | _outside(areas)


def _shared(wanted: Sequence[Wanted]) -> np.ndarray:
    """Return a mask (G,) of the objects, in all images, to which several detections may be matched."""
    return concatenate([~is_to_find(target) for target in wanted], np.bool_)


def _outside(areas: np.ndarray) -> np.ndarray:
    """Return a mask (N, A) of the `areas` (N,) that are outside each of the A area ranges."""
    return (areas[:, None] < AREA_RANGES[:, 0]) | (areas[:, None] > AREA_RANGES[:, 1])


def _num_objects(wanted: Sequence[Wanted], num_classes: int) -> np.ndarray:
    """Return the number of objects (L, A) to find for each of L classes and A area ranges."""
    labels = concatenate([target.labels for target in wanted], np.int64)  # (G,)
    num_objects = np.zeros((num_classes, len(AREA_RANGES)), np.int64)
    g, a = np.nonzero(~_ignored(wanted))
    np.add.at(num_objects, (labels[g], a), 1)
    return num_objects


def _outcomes(found: Sequence[Found], wanted: Sequence[Wanted], ranks: np.ndarray) -> np.ndarray:
    """Return the outcome (D, A, T), such as RIGHT, of each detection for each area range and IoU threshold.

    The first round matches the best detection of each class in each image. All of them can be matched at the same time,
    because no two of them can take the same object. The next round matches all second-best detections, and so on.
    """
    ignored, shared = _ignored(wanted), _shared(wanted)  # (G, A), (G,)
    areas = concatenate([area(detected.boxes) for detected in found], np.float64)  # (D,)
    alone = np.where(_outside(areas), IGNORED, WRONG)  # (D, A): the outcome of a detection that takes no object
    outcomes = np.repeat(alone[:, :, None], len(IOU_THRESHOLDS), axis=2)  # (D, A, T)
    taken = np.zeros((*ignored.shape, len(IOU_THRESHOLDS)), np.bool_)  # (G, A, T)
    for detections, objects, overlaps in _rounds(*_pairs(found, wanted, ranks), ranks):
        fits = (overlaps[:, None, None] >= IOU_THRESHOLDS) & ~taken[objects]  # (P, A, T)
        # A later pair of a detection is better. Every pair whose object is not ignored is better than all others.
        rank = np.arange(len(objects))[:, None] + np.where(ignored[objects], 0, len(objects))  # (P, A)
        first = np.flatnonzero(np.diff(detections, prepend=-1))  # the first pair of each detection
        best = np.maximum.reduceat(np.where(fits, rank[:, :, None], -1), first)  # (len(first), A, T)
        n, a, t = np.nonzero(best >= 0)
        pair = best[n, a, t] % len(objects)
        outcomes[detections[pair], a, t] = np.where(ignored[objects[pair], a], IGNORED, RIGHT)
        taken[objects[pair], a, t] = ~shared[objects[pair]]
    return outcomes


def _pairs(
    found: Sequence[Found], wanted: Sequence[Wanted], ranks: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return three arrays (P,) for P possible matches: the index of the detection, that of the object, and the IoU.

    In a possible match, the detection and the object have the same image and class, and their IoU reaches the lowest
    threshold. The indices count over all images. Detections beyond the largest limit in `MAX_DETECTIONS` are left out,
    because they affect no result.
    """
    detections, objects, overlaps = [], [], []
    first_detection = first_object = 0
    for detected, target in zip(found, wanted, strict=True):
        overlap = _overlaps(detected.boxes, target.boxes, target.crowd)
        near = (overlap >= IOU_THRESHOLDS[0]) & (detected.labels[:, None] == target.labels)  # (D_i, G_i)
        near &= ranks[first_detection : first_detection + len(detected.boxes), None] < MAX_DETECTIONS[-1]
        d, g = np.nonzero(near)  # (P_i,), (P_i,)
        detections.append(first_detection + d)
        objects.append(first_object + g)
        overlaps.append(overlap[d, g])
        first_detection += len(detected.boxes)
        first_object += len(target.boxes)
    return concatenate(detections, np.int64), concatenate(objects, np.int64), concatenate(overlaps, np.float64)


def _overlaps(boxes: np.ndarray, objects: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """Return the IoU (D, G) of detections and objects. For a crowd, it is the fraction of the detection inside it.

    Here, a box is given by one corner and two sides, as in COCO files, and not by two opposite corners. The two forms
    differ in rounding errors, which can decide whether an IoU of 0.7 reaches the threshold of 0.7.
    """
    x, y, w, h = convert(boxes, "xyxy", "xywh").T[:, :, None]  # (D, 1) each
    object_x, object_y, object_w, object_h = convert(objects, "xyxy", "xywh").T  # (G,) each
    width = np.minimum(x + w, object_x + object_w) - np.maximum(x, object_x)  # (D, G)
    height = np.minimum(y + h, object_y + object_h) - np.maximum(y, object_y)
    intersection = np.where((width > 0) & (height > 0), width * height, 0)
    union = np.where(crowd, w * h, w * h + object_w * object_h - intersection)
    return np.divide(intersection, union, out=np.zeros_like(union), where=intersection > 0)


def _rounds(
    detections: np.ndarray, objects: np.ndarray, overlaps: np.ndarray, ranks: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield the pairs of all detections of rank 0, then of rank 1, and so on, sorted by detection and then by IoU."""
    order = np.lexsort((objects, overlaps, detections, ranks[detections]))  # sorts by the last key first
    turns = np.flatnonzero(np.diff(ranks[detections[order]])) + 1
    for turn in np.split(order, turns):
        if len(turn):
            yield detections[turn], objects[turn], overlaps[turn]


def _accumulate(
    outcomes: np.ndarray, scores: np.ndarray, labels: np.ndarray, ranks: np.ndarray, num_objects: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the precision (T, R, L, A, M) and the recall (T, L, A, M) over all images; NaN if there are no objects."""
    num_thresholds, num_limits = len(IOU_THRESHOLDS), len(MAX_DETECTIONS)
    precision = np.full((num_thresholds, len(RECALLS), *num_objects.shape, num_limits), np.nan)
    recall = np.full((num_thresholds, *num_objects.shape, num_limits), np.nan)
    order = np.lexsort((-scores, labels))  # (D,): sorted by class, then by descending score
    ends = np.cumsum(np.bincount(labels, minlength=len(num_objects)))  # (L,)
    for label in np.flatnonzero(num_objects.any(axis=1)):
        own = order[ends[label - 1] : ends[label]]  # label is never 0, the background
        for m, limit in enumerate(MAX_DETECTIONS):
            best = own[ranks[own] < limit]
            for a in np.flatnonzero(num_objects[label]):
                precision[:, :, label, a, m], recall[:, label, a, m] = _curves(outcomes[best, a], num_objects[label, a])
    return precision, recall


def _curves(outcomes: np.ndarray, num_objects: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the precision (T, R) at R `RECALLS` and the highest recall (T,), for D detections at T IoU thresholds.

    `outcomes` (D, T) are in descending order of score.
    """
    right = np.cumsum(outcomes == RIGHT, axis=0)  # (D, T)
    counted = np.cumsum(outcomes != IGNORED, axis=0)  # (D, T)
    recall = right / num_objects
    precision = right / np.maximum(counted, 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]  # (D, T)
    best = np.concatenate([best, np.zeros((1, best.shape[1]))])  # (D + 1, T): 0 above the highest recall
    at = np.stack([np.searchsorted(column, RECALLS) for column in recall.T])  # (T, R): where each recall is reached
    return np.take_along_axis(best.T, at, axis=1), recall[-1] if len(recall) else np.zeros(len(at))


def _mean(values: np.ndarray) -> float:
    """Return the mean of the values that are not NaN, or NaN if all of them are NaN."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")

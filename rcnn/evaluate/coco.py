"""The measure of the COCO challenge: twelve numbers over ten IoU thresholds.

Lin et al., "Microsoft COCO: Common Objects in Context", 2014, and the challenge's evaluation code. Its rules for edge
cases are kept: ties of scores, ties of IoUs, an IoU equal to a threshold, an area equal to an end of its range.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from rcnn.boxes import area, convert
from rcnn.evaluate._inputs import Found, PerImage, Wanted, check_inputs, concatenate
from rcnn.evaluate.voc import is_to_find

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)  # (T,)
RECALLS = np.linspace(0, 1, 101)  # (R,)
AREA_NAMES = ("all", "small", "medium", "large")
AREA_RANGES = np.array([[0, 1e5**2], [0, 32**2], [32**2, 96**2], [96**2, 1e5**2]])  # (A, 2), both ends included
MAX_DETECTIONS = (1, 10, 100)  # (M,) of one class in one image

WRONG, RIGHT, IGNORED = np.arange(3, dtype=np.int8)  # the outcome of a detection; an ignored one does not count


@dataclass(frozen=True, eq=False)
class CocoEvaluation:
    """COCO's measure of the detections on a set of images.

    The axes are T = 10 IoU thresholds, R = 101 recalls, L labels (0 is the background), A = 4 area ranges and M = 3
    numbers of detections, in the order of `IOU_THRESHOLDS`, `RECALLS`, `AREA_NAMES` and `MAX_DETECTIONS`. A value is
    NaN if there is no object to find; the challenge's own code returns -1.

    Attributes
    ----------
    precision : (T, R, L, A, M) array
        The best precision at that recall or a higher one; 0 beyond the highest.
    recall : (T, L, A, M) array
        The fraction of the objects that are found.
    num_objects : (L,) int array
        Objects to find, without crowds and difficult ones.
    num_detections : (L,) int array
        All detections. Only the 100 best of a class in an image are used.
    """

    precision: np.ndarray
    recall: np.ndarray
    num_objects: np.ndarray
    num_detections: np.ndarray

    @property
    def ap(self) -> np.ndarray:
        """The average precision of each class, the mean over all thresholds.

        Returns
        -------
        (L,) array
            In [0, 1]; NaN without objects to find.
        """
        return self.precision[..., 0, -1].mean(axis=(0, 1))

    @property
    def ap50(self) -> np.ndarray:
        """The average precision of each class at an IoU of 0.5.

        Returns
        -------
        (L,) array
            In [0, 1]; NaN without objects to find.
        """
        return self.precision[0, ..., 0, -1].mean(axis=0)

    @property
    def numbers(self) -> dict[str, float]:
        """The twelve numbers of the challenge by name: means over the classes that have objects.

        "AP" is the mean over the IoU thresholds 0.5, 0.55, ..., 0.95; "AP50" and "AP75" are at one threshold. "APs",
        "APm" and "APl" count small objects (up to 32 x 32 pixels), medium ones, and large ones (from 96 x 96). "AR1",
        "AR10" and "AR100" are the mean recall of the best 1, 10 and 100 detections of each class in each image. "ARs",
        "ARm" and "ARl" are the recall of the best 100 for small, medium and large objects.

        Returns
        -------
        dict of str to float
            In [0, 1]; NaN if no class has objects.
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
    """Return COCO's measure of detections.

    Every image, class, area range and IoU threshold is matched separately, by descending score (ties keep the first).
    Each detection takes one object among those not yet taken whose IoU reaches the threshold: the one that it overlaps
    most; ties keep the *last*. A detection that takes an object is right; one that takes none is wrong.

    Some objects are ignored. They need not be found, are only taken by a detection that fits no other object, and a
    detection that takes one is ignored, too. They are

    - an object whose area is outside the area range; it can be taken once, like any other;
    - a crowd; any number of detections can take it, and its IoU is the fraction of the detection that is inside it;
    - an object marked difficult (in PASCAL VOC, not in COCO); any number of detections can take it.

    A detection that takes no object is also ignored if its own area is outside the range. Precision and recall are
    those of the detections of all images by descending score (ties keep the first image; COCO's own code sorts images
    by id).

    Parameters
    ----------
    detections : sequence of dict
        Per image {"boxes": (D, 4), "scores": (D,), "labels": (D,)}; boxes in pixels.
    targets : sequence of dict
        Per image {"boxes": (G, 4), "labels": (G,)}, and optionally "crowd" (G,) bool, "difficult" (G,) bool and "areas"
        (G,), the area of each object in square pixels; by default that of its box.
    num_classes : int
        The number of labels, including the background.

    Returns
    -------
    CocoEvaluation
        The curves and the numbers.

    Raises
    ------
    ValueError
        If the inputs do not match or are invalid; the message names the image.

    References
    ----------
    Lin et al., "Microsoft COCO: Common Objects in Context", 2014.
    """
    found, wanted = check_inputs(detections, targets, num_classes)
    scores = concatenate([detected.scores for detected in found], np.float64)  # (D,) of all images
    labels = concatenate([detected.labels for detected in found], np.int64)  # (D,)
    ranks = concatenate([_ranks(detected) for detected in found], np.int64)  # (D,)
    num_objects = _num_objects(wanted, num_classes)  # (L, A)
    precision, recall = _accumulate(_outcomes(found, wanted, ranks), scores, labels, ranks, num_objects)
    return CocoEvaluation(precision, recall, num_objects[:, 0], np.bincount(labels, minlength=num_classes))


def _ranks(detected: Found) -> np.ndarray:
    """Return the rank of each detection among those of its class in the image, by descending score from 0, (D,)."""
    order = np.lexsort((-detected.scores, detected.labels))  # (D,): class by class
    labels = detected.labels[order]
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.arange(len(order)) - np.searchsorted(labels, labels)  # its position among those of its class
    return ranks


def _ignored(wanted: Sequence[Wanted]) -> np.ndarray:
    """Return True for each object of all images that need not be found, by area range, (G, A) bool."""
    areas = concatenate([target.areas for target in wanted], np.float64)  # (G,)
    return _shared(wanted)[:, None] | _outside(areas)


def _shared(wanted: Sequence[Wanted]) -> np.ndarray:
    """Return True for each object of all images that any number of detections can take, (G,) bool."""
    return concatenate([~is_to_find(target) for target in wanted], np.bool_)


def _outside(areas: np.ndarray) -> np.ndarray:
    """Return True where one of `areas` (N,) is outside an area range, (N, A) bool."""
    return (areas[:, None] < AREA_RANGES[:, 0]) | (areas[:, None] > AREA_RANGES[:, 1])


def _num_objects(wanted: Sequence[Wanted], num_classes: int) -> np.ndarray:
    """Return the number of objects to find, by label and area range, (L, A)."""
    labels = concatenate([target.labels for target in wanted], np.int64)  # (G,)
    num_objects = np.zeros((num_classes, len(AREA_RANGES)), np.int64)
    g, a = np.nonzero(~_ignored(wanted))
    np.add.at(num_objects, (labels[g], a), 1)
    return num_objects


def _outcomes(found: Sequence[Found], wanted: Sequence[Wanted], ranks: np.ndarray) -> np.ndarray:
    """Return RIGHT, WRONG or IGNORED for each detection of all images, area range and IoU threshold, (D, A, T) int8.

    The best detections of every image and class are matched together, because they have no object in common; then all
    second best, and so on.
    """
    ignored, shared = _ignored(wanted), _shared(wanted)  # (G, A), (G,)
    areas = concatenate([area(detected.boxes) for detected in found], np.float64)  # (D,)
    alone = np.where(_outside(areas), IGNORED, WRONG)  # (D, A): the outcome of a detection that takes no object
    outcomes = np.repeat(alone[:, :, None], len(IOU_THRESHOLDS), axis=2)  # (D, A, T)
    taken = np.zeros((*ignored.shape, len(IOU_THRESHOLDS)), np.bool_)  # (G, A, T)
    for detections, objects, overlaps in _rounds(*_pairs(found, wanted, ranks), ranks):
        fits = (overlaps[:, None, None] >= IOU_THRESHOLDS) & ~taken[objects]  # (P, A, T)
        # Among a detection's pairs, later ones are better, and those with an object that counts are better than others.
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
    """Return (detection, object, IoU), (P,) each: pairs of one image and class whose IoU reaches the lowest threshold.

    Detections and objects are indices over all images. Detections of too high a rank to affect a result have no pair.
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
    """Return the IoU of each detection with each object, (D, G); for a crowd, the fraction of the detection inside it.

    It is computed from corners and sides, as in COCO's files, and not from opposite corners: the last bit decides
    whether an IoU of 0.7 reaches the threshold 0.7.
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
    """Yield the pairs of detections of rank 0, then of rank 1, ...; those of one detection from worst to best."""
    order = np.lexsort((objects, overlaps, detections, ranks[detections]))  # the last key counts most
    turns = np.flatnonzero(np.diff(ranks[detections[order]])) + 1
    for turn in np.split(order, turns):
        if len(turn):
            yield detections[turn], objects[turn], overlaps[turn]


def _accumulate(
    outcomes: np.ndarray, scores: np.ndarray, labels: np.ndarray, ranks: np.ndarray, num_objects: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return precision (T, R, L, A, M) and recall (T, L, A, M) of all images' detections; NaN without objects."""
    num_thresholds, num_limits = len(IOU_THRESHOLDS), len(MAX_DETECTIONS)
    precision = np.full((num_thresholds, len(RECALLS), *num_objects.shape, num_limits), np.nan)
    recall = np.full((num_thresholds, *num_objects.shape, num_limits), np.nan)
    order = np.lexsort((-scores, labels))  # (D,): class by class, by descending score
    ends = np.cumsum(np.bincount(labels, minlength=len(num_objects)))  # (L,)
    for label in np.flatnonzero(num_objects.any(axis=1)):
        own = order[ends[label - 1] : ends[label]]  # there is no detection of label 0
        for m, limit in enumerate(MAX_DETECTIONS):
            best = own[ranks[own] < limit]
            for a in np.flatnonzero(num_objects[label]):
                precision[:, :, label, a, m], recall[:, label, a, m] = _curves(outcomes[best, a], num_objects[label, a])
    return precision, recall


def _curves(outcomes: np.ndarray, num_objects: int) -> tuple[np.ndarray, np.ndarray]:
    """Return precision at `RECALLS` (T, R) and highest recall (T,), from outcomes (D, T) by descending score."""
    right = np.cumsum(outcomes == RIGHT, axis=0)  # (D, T)
    counted = np.cumsum(outcomes != IGNORED, axis=0)  # (D, T)
    recall = right / num_objects
    precision = right / np.maximum(counted, 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]  # (D, T)
    best = np.concatenate([best, np.zeros((1, best.shape[1]))])  # (D + 1, T): beyond the highest recall it is 0
    at = np.stack([np.searchsorted(column, RECALLS) for column in recall.T])  # (T, R): the first detection to reach it
    return np.take_along_axis(best.T, at, axis=1), recall[-1] if len(recall) else np.zeros(len(at))


def _mean(values: np.ndarray) -> float:
    """Return the mean of the elements that are not NaN; NaN if there are none."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")

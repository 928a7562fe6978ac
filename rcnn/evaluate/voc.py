"""Average precision of a detector, as the PASCAL VOC challenges define it.

Everingham et al., "The PASCAL Visual Object Classes (VOC) Challenge", 2010, section 4.2, and the development kits of
2007 (precision read off at 11 recalls) and 2012 (area under the curve). Boxes are continuous here: no `+1` in a side.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike
from tqdm import tqdm

from rcnn._ext.dispatch import original
from rcnn._validate import as_float_array
from rcnn.boxes import area, iou
from rcnn.data import Dataset
from rcnn.evaluate._inputs import Found, PerImage, Wanted, check_inputs, concatenate

METHODS = ("voc2007", "voc2012")
NO_OBJECT = -1


class Detector(Protocol):
    """Anything that finds objects in images."""

    def predict(self, images: list[np.ndarray], /) -> list[dict[str, np.ndarray]]:
        """{"boxes": (D, 4), "scores": (D,), "labels": (D,)} for every image."""
        ...


@dataclass(frozen=True, eq=False)
class Evaluation:
    """How good the detections on a set of images are; what is per class is indexed by the label, 0 is background."""

    ap: np.ndarray
    """(L,) average precision of each class; NaN where there is no object to find, and so for the background."""
    mean_ap: float
    """The mean of `ap` over the classes that have objects; NaN if none has."""
    precision: list[np.ndarray]
    """L arrays (D_l,): precision among the detections of class l down to each, by falling score."""
    recall: list[np.ndarray]
    """L arrays (D_l,): share of the objects of class l found down to each; NaN if there is none."""
    num_objects: np.ndarray
    """(L,) objects to find; difficult ones and crowds do not count."""
    num_detections: np.ndarray
    """(L,) detections; those of objects that do not count are left out."""


def evaluate(
    model: Detector,
    dataset: Dataset,
    batch_size: int = 4,
    iou_threshold: float = 0.5,
    method: str = "voc2012",
    progress: bool = True,
) -> Evaluation:
    """How good `model` is on `dataset`.

    Args:
        model: anything with `predict`; it is given lists of up to `batch_size` images.
        dataset: its `classes` say how many labels there are.
        iou_threshold, method: as in `evaluate_detections`.
        progress: whether to show a bar.
    """
    return evaluate_detections(
        *predictions(model, dataset, batch_size, progress), len(dataset.classes), iou_threshold, method
    )


def predictions(
    model: Detector, dataset: Dataset, batch_size: int = 4, progress: bool = True
) -> tuple[list[dict[str, np.ndarray]], list[dict[str, np.ndarray]]]:
    """(detections, targets) of every image of `dataset`: what every measure takes, from one pass of the model.

    model: anything with `predict`; it is given lists of up to `batch_size` images. progress: whether to show a bar.
    """
    detections: list[dict[str, np.ndarray]] = []
    targets: list[dict[str, np.ndarray]] = []
    for batch in batches(dataset, batch_size, progress):
        detections += model.predict([image for image, _ in batch])
        targets += [target for _, target in batch]
    return detections, targets


def batches(
    dataset: Dataset, batch_size: int, progress: bool
) -> Iterator[list[tuple[np.ndarray, dict[str, np.ndarray]]]]:
    """The images of `dataset` with their targets, in order, up to `batch_size` at a time, with a bar if wanted."""
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size!r}")
    with tqdm(total=len(dataset), desc="evaluate", unit="image", disable=not progress) as bar:
        for first in range(0, len(dataset), batch_size):
            batch = [dataset[i] for i in range(first, min(first + batch_size, len(dataset)))]
            yield batch
            bar.update(len(batch))


def evaluate_detections(
    detections: Sequence[PerImage],
    targets: Sequence[PerImage],
    num_classes: int,
    iou_threshold: float = 0.5,
    method: str = "voc2012",
) -> Evaluation:
    """How well `detections` find the objects of `targets`.

    By falling score (of equal scores the earlier image and the earlier detection first), each detection is held
    against the object of its class that it overlaps most in its image. If their IoU is at least `iou_threshold`, the
    first detection of an object is right, every further one is wrong, even where it overlaps another object too. A
    detection of an object marked difficult is neither right nor wrong; nor is one of no object of which at least
    `iou_threshold` lies in a box round a crowd of its class.

    Args:
        detections: per image {"boxes": (D, 4), "scores": (D,), "labels": (D,)}.
        targets: per image {"boxes": (G, 4), "labels": (G,)}, and, if wanted, "difficult": (G,) bool and
            "crowd": (G,) bool.
        num_classes: the number of labels, background included.
        iou_threshold: above 0, at most 1.
        method: "voc2007" or "voc2012"; see `average_precision`.

    Raises ValueError, naming the image, for what does not fit together.
    """
    found, wanted = check_inputs(detections, targets, num_classes)
    judged = judge(found, wanted, iou_threshold)
    return summary(
        judged.labels[judged.counts], judged.correct[judged.counts], count_objects(wanted, num_classes), method
    )


def summary(labels: np.ndarray, correct: np.ndarray, num_objects: np.ndarray, method: str) -> Evaluation:
    """The evaluation of detections by falling score: their classes (D,), whether each is right (D,); objects (L,)."""
    _check_method(method)
    num_classes = len(num_objects)
    curves = [precision_recall(correct[labels == label], int(num_objects[label])) for label in range(num_classes)]
    ap = np.array(
        [
            average_precision(recall, precision, method) if n else np.nan
            for (precision, recall), n in zip(curves, num_objects, strict=True)
        ]
    )  # (L,)
    return Evaluation(
        ap=ap,
        mean_ap=float(np.nanmean(ap)) if num_objects.any() else float("nan"),
        precision=[precision for precision, _ in curves],
        recall=[recall for _, recall in curves],
        num_objects=num_objects,
        num_detections=np.bincount(labels, minlength=num_classes),
    )


def precision_recall(correct: ArrayLike, num_objects: int) -> tuple[np.ndarray, np.ndarray]:
    """(precision, recall), (D,) each, of the first 1, 2, ..., D detections.

    Args:
        correct: (D,) bool, whether each detection is right, by falling score.
        num_objects: how many there are to find; with 0 the recall is NaN.
    """
    right = np.cumsum(np.asarray(correct, np.bool_))  # (D,)
    precision = right / np.arange(1, len(right) + 1)
    recall = right / num_objects if num_objects else np.full(len(right), np.nan)
    return precision, recall


def average_precision(recall: ArrayLike, precision: ArrayLike, method: str = "voc2012") -> float:
    """The average precision, 0 to 1, of a curve; 0 if it has no point, NaN if the recall is.

    At every recall the precision counts as the best that is reached at that recall or a higher one. "voc2007" is its
    mean at the recalls 0, 0.1, ..., 1; "voc2012" is its integral over the recall.

    Args:
        recall, precision: (D,) each, as from `precision_recall`; the recall does not fall.
    """
    _check_method(method)
    r, p = as_float_array(recall, "recall"), as_float_array(precision, "precision")
    if r.ndim != 1 or r.shape != p.shape:
        raise ValueError(f"recall and precision must both have shape (D,), got {r.shape} and {p.shape}")
    if np.isnan(r).any():
        return float("nan")
    if (np.diff(r) < 0).any():
        raise ValueError(f"recall must not fall, got {r[:-1][np.diff(r) < 0][0]:g} before a smaller one")
    best = np.append(np.maximum.accumulate(p[::-1])[::-1], 0)  # (D + 1,): beyond the highest recall it is 0
    if method == "voc2007":
        return float(best[np.searchsorted(r, np.arange(11) / 10)].mean())  # the first point of at least that recall
    return float(np.sum(np.diff(r, prepend=0) * best[:-1]))


@dataclass(frozen=True, eq=False)
class Judged:
    """The detections of all images, by falling score, each held against the objects of its class."""

    order: np.ndarray  # (D,) the place of each among the detections of all images in turn
    labels: np.ndarray  # (D,)
    objects: np.ndarray  # (D,) the object that it is of, counted through all images; NO_OBJECT for none
    correct: np.ndarray  # (D,) whether it is right, if it counts
    counts: np.ndarray  # (D,) whether it is right or wrong, and not of an object that does not count


def judge(found: Sequence[Found], wanted: Sequence[Wanted], iou_threshold: float) -> Judged:
    """What `evaluate_detections` says about each detection."""
    check_iou_threshold(iou_threshold)
    scores = concatenate([detected.scores for detected in found], np.float64)  # (D,) of all images
    order = np.argsort(-scores, kind="stable")  # (D,)
    objects = _match_to_objects(found, wanted, iou_threshold)[order]
    to_find = concatenate([is_to_find(target) for target in wanted], np.bool_)  # (G,) of all images
    counts = np.append(to_find, True)[objects]  # (D,); NO_OBJECT = -1 picks the True at the end
    return Judged(
        order,
        labels=concatenate([detected.labels for detected in found], np.int64)[order],
        objects=objects,
        correct=first_of_each(objects),
        counts=counts,
    )


def count_objects(wanted: Sequence[Wanted], num_classes: int) -> np.ndarray:
    """How many objects of each class there are to find, (L,)."""
    labels = concatenate([target.labels[is_to_find(target)] for target in wanted], np.int64)
    return np.bincount(labels, minlength=num_classes)


def is_to_find(target: Wanted) -> np.ndarray:
    """Whether each object of an image counts, (G,) bool: it is not difficult, and one object, not a crowd."""
    return ~(target.difficult | target.crowd)


def share_inside(boxes: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """The share of each box, (D, 4), that lies inside each region, (G, 4): (D, G); 0 for a box without area."""
    low, high = np.maximum(boxes[:, None, :2], regions[:, :2]), np.minimum(boxes[:, None, 2:], regions[:, 2:])
    inside = np.maximum(high - low, 0).prod(axis=2)  # (D, G)
    areas = area(boxes)[:, None]  # (D, 1)
    return np.divide(inside, areas, out=np.zeros_like(inside), where=areas > 0)


@original
def _match_to_objects(found: Sequence[Found], wanted: Sequence[Wanted], iou_threshold: float) -> np.ndarray:
    """The object that each detection is of, (D,) over all images, as an index into all objects; -1 for none."""
    matches = []
    first_object = 0
    for detected, target in zip(found, wanted, strict=True):
        of = np.full(len(detected.boxes), NO_OBJECT)  # (D_i,)
        if len(detected.boxes) and len(target.boxes):
            same_class = detected.labels[:, None] == target.labels  # (D_i, G_i)
            for candidates, overlaps in (
                (~target.crowd, iou(detected.boxes, target.boxes)),
                (target.crowd, share_inside(detected.boxes, target.boxes)),
            ):
                overlaps = np.where(same_class & candidates, overlaps, 0)  # (D_i, G_i)
                fits = (of == NO_OBJECT) & (overlaps.max(axis=1) >= iou_threshold)  # (D_i,)
                of = np.where(fits, first_object + overlaps.argmax(axis=1), of)
        matches.append(of)
        first_object += len(target.boxes)
    return concatenate(matches, np.int64)


def first_of_each(objects: np.ndarray) -> np.ndarray:
    """Whether each entry of `objects` (D,) is the first to name its object, (D,) bool; never so for -1."""
    first = np.zeros(len(objects), np.bool_)
    first[np.unique(objects, return_index=True)[1]] = True
    first[objects == NO_OBJECT] = False
    return first


def check_iou_threshold(iou_threshold: float) -> None:
    """Nothing, or a ValueError for what is no threshold."""
    if not 0 < iou_threshold <= 1:
        raise ValueError(f"iou_threshold must be above 0 and at most 1, got {iou_threshold!r}")


def _check_method(method: str) -> None:
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")

"""Average precision of a detector, as the PASCAL VOC challenges define it.

Everingham et al., "The PASCAL Visual Object Classes (VOC) Challenge", 2010, section 4.2, and the development kits of
2007 (precision read off at 11 recalls) and 2012 (area under the curve). Boxes are continuous here: no `+1` in a side.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike
from tqdm import tqdm

from rcnn._arrays import as_float_array, as_index_array, check_boxes, check_finite, check_scores
from rcnn.boxes import iou
from rcnn.data import Dataset

METHODS = ("voc2007", "voc2012")
NO_OBJECT = -1


class Detector(Protocol):
    """Anything that finds objects in pictures."""

    def predict(self, images: list[np.ndarray], /) -> list[dict[str, np.ndarray]]:
        """{"boxes": (D, 4), "scores": (D,), "labels": (D,)} for every picture."""
        ...


@dataclass(frozen=True, eq=False)
class Evaluation:
    """How good the detections on a set of pictures are; what is per class is indexed by the label, 0 is background."""

    ap: np.ndarray
    """(L,) average precision of each class; NaN where there is no object to find, and so for the background."""
    mean_ap: float
    """The mean of `ap` over the classes that have objects; NaN if none has."""
    precision: list[np.ndarray]
    """L arrays (D_l,): precision among the detections of class l down to each, by falling score."""
    recall: list[np.ndarray]
    """L arrays (D_l,): share of the objects of class l found down to each; NaN if there is none."""
    num_objects: np.ndarray
    """(L,) objects to find; difficult ones do not count."""
    num_detections: np.ndarray
    """(L,) detections; those of difficult objects do not count."""


def evaluate(model: Detector, dataset: Dataset, batch_size: int = 4, iou_threshold: float = 0.5,
             method: str = "voc2012", progress: bool = True) -> Evaluation:
    """How good `model` is on `dataset`.

    Args:
        model: anything with `predict`; it is given lists of up to `batch_size` pictures.
        dataset: its `classes` say how many labels there are.
        iou_threshold, method: as in `evaluate_detections`.
        progress: whether to show a bar.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size!r}")
    detections: list[dict[str, np.ndarray]] = []
    targets: list[dict[str, np.ndarray]] = []
    with tqdm(total=len(dataset), desc="evaluate", unit="page", disable=not progress) as bar:
        for first in range(0, len(dataset), batch_size):
            batch = [dataset[i] for i in range(first, min(first + batch_size, len(dataset)))]
            detections += model.predict([picture for picture, _ in batch])
            targets += [target for _, target in batch]
            bar.update(len(batch))
    return evaluate_detections(detections, targets, len(dataset.classes), iou_threshold, method)


def evaluate_detections(detections: Sequence[Mapping[str, ArrayLike]], targets: Sequence[Mapping[str, ArrayLike]],
                        num_classes: int, iou_threshold: float = 0.5, method: str = "voc2012") -> Evaluation:
    """How well `detections` find the objects of `targets`.

    By falling score (of equal scores the earlier picture and the earlier detection first), each detection is held
    against the object of its class that it overlaps most in its picture. If their IoU is at least `iou_threshold`, the
    first detection of an object is right, every further one is wrong, even where it overlaps another object too. A
    detection of an object marked difficult is neither right nor wrong.

    Args:
        detections: per picture {"boxes": (D, 4), "scores": (D,), "labels": (D,)}.
        targets: per picture {"boxes": (G, 4), "labels": (G,)}, and, if wanted, "difficult": (G,) bool.
        num_classes: the number of labels, background included.
        iou_threshold: above 0, at most 1.
        method: "voc2007" or "voc2012"; see `average_precision`.

    Raises ValueError, naming the picture, for what does not fit together.
    """
    _check_method(method)
    if not 0 < iou_threshold <= 1:
        raise ValueError(f"iou_threshold must be above 0 and at most 1, got {iou_threshold!r}")
    if len(detections) != len(targets):
        raise ValueError(f"detections and targets must be as many, got {len(detections)} and {len(targets)}")
    found = [_check_detections(d, num_classes, f"detections[{i}]") for i, d in enumerate(detections)]
    wanted = [_check_target(t, num_classes, f"targets[{i}]") for i, t in enumerate(targets)]
    scores = _concatenate([page.scores for page in found], np.float64)  # (D,) of all pictures
    labels = _concatenate([page.labels for page in found], np.int64)  # (D,)
    objects = _match_to_objects(found, wanted, iou_threshold)  # (D,)
    object_labels = _concatenate([page.labels for page in wanted], np.int64)  # (G,) of all pictures
    difficult = _concatenate([page.difficult for page in wanted], np.bool_)  # (G,)

    order = np.argsort(-scores, kind="stable")  # (D,)
    labels, objects = labels[order], objects[order]
    correct = first_of_each(objects)  # (D,)
    counts = np.append(~difficult, True)[objects]  # (D,); NO_OBJECT = -1 picks the True at the end
    num_objects = np.bincount(object_labels[~difficult], minlength=num_classes)  # (L,)
    curves = [precision_recall(correct[counts & (labels == label)], int(num_objects[label]))
              for label in range(num_classes)]
    ap = np.array([average_precision(recall, precision, method) if n else np.nan
                   for (precision, recall), n in zip(curves, num_objects, strict=True)])  # (L,)
    return Evaluation(ap=ap, mean_ap=float(np.nanmean(ap)) if num_objects.any() else float("nan"),
                      precision=[precision for precision, _ in curves], recall=[recall for _, recall in curves],
                      num_objects=num_objects, num_detections=np.bincount(labels[counts], minlength=num_classes))


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
class _Found:
    """Checked detections of one picture."""

    boxes: np.ndarray  # (D, 4) float64
    scores: np.ndarray  # (D,)
    labels: np.ndarray  # (D,)


@dataclass(frozen=True, eq=False)
class _Wanted:
    """Checked objects of one picture."""

    boxes: np.ndarray  # (G, 4) float64
    labels: np.ndarray  # (G,)
    difficult: np.ndarray  # (G,) bool


def _match_to_objects(found: Sequence[_Found], wanted: Sequence[_Wanted], iou_threshold: float) -> np.ndarray:
    """The object that each detection is of, (D,) over all pictures, as an index into all objects; -1 for none."""
    matches = []
    first_object = 0
    for page, target in zip(found, wanted, strict=True):
        of = np.full(len(page.boxes), NO_OBJECT)  # (D_i,)
        if len(page.boxes) and len(target.boxes):
            overlaps = np.where(page.labels[:, None] == target.labels, iou(page.boxes, target.boxes), 0)  # (D_i, G_i)
            best = overlaps.argmax(axis=1)  # (D_i,)
            of = np.where(overlaps.max(axis=1) >= iou_threshold, first_object + best, NO_OBJECT)
        matches.append(of)
        first_object += len(target.boxes)
    return _concatenate(matches, np.int64)


def first_of_each(objects: np.ndarray) -> np.ndarray:
    """Whether each entry of `objects` (D,) is the first to name its object, (D,) bool; never so for -1."""
    first = np.zeros(len(objects), np.bool_)
    first[np.unique(objects, return_index=True)[1]] = True
    first[objects == NO_OBJECT] = False
    return first


def _check_detections(detection: Mapping[str, ArrayLike], num_classes: int, name: str) -> _Found:
    _check_keys(detection, ("boxes", "scores", "labels"), name)
    boxes = check_boxes(detection["boxes"], f"{name}['boxes']").astype(np.float64)
    check_finite(boxes, f"{name}['boxes']")
    scores = check_scores(detection["scores"], len(boxes), f"{name}['scores']")
    if np.isnan(scores).any():
        raise ValueError(f"{name}['scores'][{int(np.isnan(scores).argmax())}] is NaN; it has no place in the order")
    return _Found(boxes, scores, _check_labels(detection["labels"], len(boxes), num_classes, f"{name}['labels']"))


def _check_target(target: Mapping[str, ArrayLike], num_classes: int, name: str) -> _Wanted:
    _check_keys(target, ("boxes", "labels"), name)
    boxes = check_boxes(target["boxes"], f"{name}['boxes']").astype(np.float64)
    check_finite(boxes, f"{name}['boxes']")
    empty = (boxes[:, 2:] <= boxes[:, :2]).any(axis=1)  # (G,)
    if empty.any():
        i = int(empty.argmax())
        raise ValueError(f"{name}['boxes'][{i}] is {boxes[i].tolist()}; an object needs x2 > x1 and y2 > y1")
    labels = _check_labels(target["labels"], len(boxes), num_classes, f"{name}['labels']")
    difficult = np.asarray(target.get("difficult", np.zeros(len(boxes))), np.bool_)
    if difficult.shape != (len(boxes),):
        raise ValueError(f"{name}['difficult'] must have shape ({len(boxes)},), got {difficult.shape}")
    return _Wanted(boxes, labels, difficult)


def _check_keys(page: Mapping[str, ArrayLike], keys: Sequence[str], name: str) -> None:
    missing = [key for key in keys if key not in page]
    if missing:
        raise ValueError(f"{name} lacks {', '.join(missing)}; it holds {', '.join(page) or 'nothing'}")


def _check_labels(values: ArrayLike, length: int, num_classes: int, name: str) -> np.ndarray:
    labels = as_index_array(values, name, length)
    wrong = (labels < 1) | (labels >= num_classes)
    if wrong.any():
        i = int(wrong.argmax())
        raise ValueError(f"{name}[{i}] is {labels[i]}; labels are 1 to {num_classes - 1} for {num_classes} classes")
    return labels


def _check_method(method: str) -> None:
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")


def _concatenate(parts: Sequence[np.ndarray], dtype: type[np.generic]) -> np.ndarray:
    """All parts in a row, (N,); an empty sequence is an empty array."""
    return np.concatenate([np.zeros(0, dtype), *parts])

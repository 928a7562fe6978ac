"""Average precision of a detector, as defined in the PASCAL VOC challenges.

The definition is in Everingham et al., "The PASCAL Visual Object Classes (VOC) Challenge", 2010, section 4.2. The
development kit of 2007 computes the mean precision at 11 recalls; the development kit of 2012 computes the area under
the curve. Coordinates are continuous here, so the side of a box is x2 - x1, without `+1`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike
from tqdm import tqdm

from rcnn._ext.dispatch import original
from rcnn._validate import (
    FLAG,
    MOST_SEQUENCE,
    Rule,
    as_array,
    as_float,
    as_float_array,
    check_sequence,
    check_size,
    integer,
    one_of,
    shown,
)
from rcnn.boxes import iou, share_inside
from rcnn.data import Dataset
from rcnn.data.protocol import check_dataset, item_of
from rcnn.evaluate._inputs import Found, PerImage, Wanted, check_inputs, concatenate

METHODS = ("voc2007", "voc2012")
NO_OBJECT = -1
IOU_THRESHOLD = Rule("a number in (0, 1]", as_float, lambda x: 0 < x <= 1)


class Detector(Protocol):
    """A model that finds objects in images."""

    def predict(self, images: list[np.ndarray], /) -> list[dict[str, np.ndarray]]:
        """Return the detections in each image.

        Parameters
        ----------
        images : list of (H, W, 3) array
            The images.

        Returns
        -------
        list of dict
            For each image with D detections, {"boxes": (D, 4), "scores": (D,), "labels": (D,)}; boxes are in pixels.
        """
        ...


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The average precision of the detections in a set of images, for each of L classes.

    The index of a class in an array or a list is its label. Label 0 is the background.

    Attributes
    ----------
    ap : (L,) array
        The average precision of each class. It is NaN for the background, and for a class without objects to find.
    mean_ap : float
        The mean of `ap` over the classes that have objects; NaN if no class has objects.
    precision : list of L arrays (D_l,)
        The precision of class l after the first 1, 2, ..., D_l of its detections, in descending order of score.
    recall : list of L arrays (D_l,)
        The recall of class l after the same detections; NaN if there are no objects of this class.
    num_objects : (L,) int array
        The number of objects to find in each class. Difficult objects and crowds are not counted.
    num_detections : (L,) int array
        The number of detections of each class. Detections of difficult objects and of crowds are not counted.
    """

    ap: np.ndarray
    mean_ap: float
    precision: list[np.ndarray]
    recall: list[np.ndarray]
    num_objects: np.ndarray
    num_detections: np.ndarray


def evaluate(
    model: Detector,
    dataset: Dataset,
    batch_size: int = 4,
    iou_threshold: float = 0.5,
    method: str = "voc2012",
    progress: bool = True,
) -> Evaluation:
    """Return the average precision of a detector on a data set.

    Parameters
    ----------
    model : Detector
        The detector. Its `predict` is called with lists of up to `batch_size` images.
    dataset : Dataset
        The images and targets. The length of its `classes` is the number of classes, including the background.
    batch_size : int
        The largest number of images in a call, from 1 to 2^20.
    iou_threshold : float
        The lowest IoU of a match, in (0, 1].
    method : str
        "voc2007" or "voc2012"; see `average_precision`.
    progress : bool
        If True, show a progress bar.

    Returns
    -------
    Evaluation
        The curves and the average precision of each class.

    Raises
    ------
    TypeError, ValueError
        If an argument is invalid. For a detection or a target, the message names the image.
    """
    check_iou_threshold(iou_threshold)
    _check_method(method)
    return evaluate_detections(
        *predictions(model, dataset, batch_size, progress), len(dataset.classes), iou_threshold, method
    )


def predictions(
    model: Detector, dataset: Dataset, batch_size: int = 4, progress: bool = True
) -> tuple[list[dict[str, np.ndarray]], list[dict[str, np.ndarray]]]:
    """Return the detections of a model on a data set, and the targets.

    All metrics take these two lists, so one pass of the model is enough for several metrics.

    Parameters
    ----------
    model : Detector
        The detector. Its `predict` is called with lists of up to `batch_size` images.
    dataset : Dataset
        The images and targets.
    batch_size : int
        The largest number of images in a call, from 1 to 2^20.
    progress : bool
        If True, show a progress bar.

    Returns
    -------
    detections, targets : list of dict
        One entry for each image, in the order of the data set.

    Raises
    ------
    TypeError, ValueError
        If an argument is invalid.
    """
    if not callable(getattr(model, "predict", None)):
        raise TypeError(f"model must have a predict method, got {shown(model)}")
    detections: list[dict[str, np.ndarray]] = []
    targets: list[dict[str, np.ndarray]] = []
    for batch in batches(dataset, batch_size, progress):
        found = model.predict([image for image, _ in batch])
        check_sequence(found, "the result of predict", len(batch))
        detections += found
        targets += [target for _, target in batch]
    return detections, targets


def batches(dataset: Dataset, batch_size: int, progress: bool) -> Iterator[list[tuple[np.ndarray, Any]]]:
    """Yield the images and targets of a data set in batches, in order, and show a progress bar.

    Parameters
    ----------
    dataset : Dataset
        The images and targets.
    batch_size : int
        The largest number of images in a batch, from 1 to 2^20.
    progress : bool
        If False, hide the progress bar.

    Yields
    ------
    list of (image, target)
        One batch of up to `batch_size` images.

    Raises
    ------
    TypeError, ValueError
        If `batch_size` is out of range, or if `dataset` is not a data set.
    """
    batch_size = integer(1, MOST_SEQUENCE).check("batch_size", batch_size)
    check_dataset(dataset)
    FLAG.check("progress", progress)
    with tqdm(total=len(dataset), desc="evaluate", unit="image", disable=None if progress else True) as bar:
        for first in range(0, len(dataset), batch_size):
            batch = [item_of(dataset, i) for i in range(first, min(first + batch_size, len(dataset)))]
            yield batch
            bar.update(len(batch))


def evaluate_detections(
    detections: Sequence[PerImage],
    targets: Sequence[PerImage],
    num_classes: int,
    iou_threshold: float = 0.5,
    method: str = "voc2012",
) -> Evaluation:
    """Return the average precision of detections.

    The detections of all images are taken in descending order of score. In a tie, the earlier image comes first, then
    the earlier detection. Each detection is compared with the object of its class that it overlaps most in its image.
    If their IoU is at least `iou_threshold`, the detection matches the object. The first detection that matches an
    object is right, and the next ones are wrong, even if they also overlap another object. Detections that match no
    object are wrong, too.

    Some detections do not count: they are neither right nor wrong. A detection does not count if it matches an object
    marked difficult. A detection that matches no object does not count if the fraction of its area inside a crowd of
    its class is at least `iou_threshold`.

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
    method : str
        "voc2007" or "voc2012"; see `average_precision`.

    Returns
    -------
    Evaluation
        The curves and the average precision of each class.

    Raises
    ------
    TypeError, ValueError
        If `detections` and `targets` have different lengths, or if a value is invalid. The message names the image.

    References
    ----------
    Everingham et al., "The PASCAL Visual Object Classes (VOC) Challenge", 2010, section 4.2.

    Examples
    --------
    >>> found = [{"boxes": [[0, 0, 10, 10], [50, 50, 60, 60]], "scores": [0.9, 0.8], "labels": [1, 1]}]
    >>> targets = [{"boxes": [[0, 0, 10, 8], [20, 20, 30, 30]], "labels": [1, 1]}]
    >>> evaluate_detections(found, targets, num_classes=2).mean_ap
    0.5
    """
    _check_method(method)
    found, wanted = check_inputs(detections, targets, num_classes)
    judged = judge(found, wanted, iou_threshold)
    return summary(
        judged.labels[judged.counts], judged.correct[judged.counts], count_objects(wanted, num_classes), method
    )


def summary(labels: np.ndarray, correct: np.ndarray, num_objects: np.ndarray, method: str) -> Evaluation:
    """Return the evaluation of detections that are already known to be right or wrong.

    Parameters
    ----------
    labels : (D,) integer array
        The predicted class of each of D detections, in descending order of score.
    correct : (D,) bool array
        True for each detection that is right.
    num_objects : (L,) integer array
        The number of objects to find in each of L classes.
    method : str
        "voc2007" or "voc2012".

    Returns
    -------
    Evaluation
        The curves and the average precision of each class.

    Raises
    ------
    ValueError
        If `method` is neither "voc2007" nor "voc2012".
    """
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
    """Return the precision and the recall after each of D detections.

    Parameters
    ----------
    correct : (D,) bool array
        True for each detection that is right. The detections are in descending order of score.
    num_objects : int
        The number of objects to find, from 0 to 2^53. If it is 0, the recall is NaN.

    Returns
    -------
    precision, recall : (D,) array
        The values after the first 1, 2, ..., D detections.

    Raises
    ------
    TypeError, ValueError
        If an argument is invalid.

    Examples
    --------
    >>> precision, recall = precision_recall([True, False], num_objects=2)
    >>> precision.tolist(), recall.tolist()
    ([1.0, 0.5], [0.5, 0.5])
    """
    flags = as_array(correct, "correct")
    if flags.ndim != 1 or (flags.size and flags.dtype.kind not in "biuf"):
        raise ValueError(f"correct must be a boolean array of shape (D,), got {shown(correct)}")
    check_size(flags.shape, "correct")
    num_objects = integer(0, 2**53).check("num_objects", num_objects)
    right = np.cumsum(flags.astype(np.bool_))  # (D,)
    precision = right / np.arange(1, len(right) + 1)
    recall = right / num_objects if num_objects else np.full(len(right), np.nan)
    return precision, recall


def average_precision(recall: ArrayLike, precision: ArrayLike, method: str = "voc2012") -> float:
    """Return the average precision of a precision-recall curve.

    First, the precision at each recall is replaced by the highest precision at this or any higher recall. The method
    "voc2007" returns the mean of the new precision at the recalls 0, 0.1, ..., 1. The method "voc2012" returns its
    integral over the recall.

    Parameters
    ----------
    recall, precision : (D,) array
        The curve, with D points, as returned by `precision_recall`. The recall must not decrease.
    method : str
        "voc2007" or "voc2012".

    Returns
    -------
    float
        A value in [0, 1]; 0 for an empty curve, NaN if the recall contains NaN.

    Raises
    ------
    TypeError, ValueError
        If the shapes differ, if a value is outside [0, 1], if the recall decreases, or if `method` is unknown.

    Examples
    --------
    >>> average_precision([0.5, 0.5, 1.0], [1.0, 0.5, 2 / 3])
    0.8333333333333333
    """
    _check_method(method)
    r, p = as_float_array(recall, "recall"), as_float_array(precision, "precision")
    if r.ndim != 1 or r.shape != p.shape:
        raise ValueError(f"recall and precision must both have shape (D,), got {r.shape} and {p.shape}")
    if np.isnan(r).any():
        return float("nan")
    for name, values in (("recall", r), ("precision", p)):
        if not ((values >= 0) & (values <= 1)).all():
            raise ValueError(f"{name} must be in [0, 1], got {shown(values)}")
    if (np.diff(r) < 0).any():
        raise ValueError(
            f"recall must not decrease, but it contains {r[:-1][np.diff(r) < 0][0]:g} before a smaller value"
        )
    best = np.append(np.maximum.accumulate(p[::-1])[::-1], 0)  # (D + 1,): 0 above the highest recall
    if method == "voc2007":
        return float(best[np.searchsorted(r, np.arange(11) / 10)].mean())  # the first point with this recall or more
    return float(np.sum(np.diff(r, prepend=0) * best[:-1]))


@dataclass(frozen=True, eq=False)
class Judged:
    """The D detections of all images in descending order of score, with the objects that they match."""

    order: np.ndarray  # (D,) index of each detection before sorting, over all images
    labels: np.ndarray  # (D,) predicted class
    objects: np.ndarray  # (D,) index of the matched object over all images; NO_OBJECT if there is none
    correct: np.ndarray  # (D,) bool, True for the first detection of an object; it is right if it also counts
    counts: np.ndarray  # (D,) bool, False if the matched object is difficult or a crowd


def judge(found: Sequence[Found], wanted: Sequence[Wanted], iou_threshold: float) -> Judged:
    """Match each detection with an object, by the rules of `evaluate_detections`.

    Parameters
    ----------
    found : sequence of Found
        The detections of each image.
    wanted : sequence of Wanted
        The objects of each image.
    iou_threshold : float
        The lowest IoU of a match, in (0, 1].

    Returns
    -------
    Judged
        All detections, in descending order of score.
    """
    check_iou_threshold(iou_threshold)
    scores = concatenate([detected.scores for detected in found], np.float64)  # (D,), all images
    order = np.argsort(-scores, kind="stable")  # (D,)
    objects = _match_to_objects(found, wanted, iou_threshold)[order]
    to_find = concatenate([is_to_find(target) for target in wanted], np.bool_)  # (G,), all images
    counts = np.append(to_find, True)[objects]  # (D,); NO_OBJECT = -1 selects the True at the end
    return Judged(
        order,
        labels=concatenate([detected.labels for detected in found], np.int64)[order],
        objects=objects,
        correct=first_of_each(objects),
        counts=counts,
    )


def count_objects(wanted: Sequence[Wanted], num_classes: int) -> np.ndarray:
    """Return the number of objects to find in each class.

    Parameters
    ----------
    wanted : sequence of Wanted
        The objects of each image.
    num_classes : int
        The number of classes L, including the background.

    Returns
    -------
    (L,) int array
        One number for each class.
    """
    labels = concatenate([target.labels[is_to_find(target)] for target in wanted], np.int64)
    return np.bincount(labels, minlength=num_classes)


def is_to_find(target: Wanted) -> np.ndarray:
    """Return a mask of the objects that a detector must find.

    Parameters
    ----------
    target : Wanted
        The G objects of one image.

    Returns
    -------
    (G,) bool array
        False for difficult objects and crowds, True for all others.
    """
    return ~(target.difficult | target.crowd)


@original
def _match_to_objects(found: Sequence[Found], wanted: Sequence[Wanted], iou_threshold: float) -> np.ndarray:
    """Return the object (D,) that each detection matches, as an index over all images, or NO_OBJECT."""
    matches = []
    first_object = 0
    for detected, target in zip(found, wanted, strict=True):
        matched = np.full(len(detected.boxes), NO_OBJECT)  # (D_i,)
        if len(detected.boxes) and len(target.boxes):
            same_class = detected.labels[:, None] == target.labels  # (D_i, G_i)
            for candidates, overlaps in (
                (~target.crowd, iou(detected.boxes, target.boxes)),
                (target.crowd, share_inside(detected.boxes, target.boxes)),
            ):
                overlaps = np.where(same_class & candidates, overlaps, 0)  # (D_i, G_i)
                fits = (matched == NO_OBJECT) & (overlaps.max(axis=1) >= iou_threshold)  # (D_i,)
                matched = np.where(fits, first_object + overlaps.argmax(axis=1), matched)
        matches.append(matched)
        first_object += len(target.boxes)
    return concatenate(matches, np.int64)


def first_of_each(objects: np.ndarray) -> np.ndarray:
    """Return a mask of the first detection of each object.

    Parameters
    ----------
    objects : (D,) int array
        The index of the object that each of D detections matches; -1 if there is none.

    Returns
    -------
    (D,) bool array
        True for the first detection of each object; always False for a detection without an object.
    """
    first = np.zeros(len(objects), np.bool_)
    first[np.unique(objects, return_index=True)[1]] = True
    first[objects == NO_OBJECT] = False
    return first


def check_iou_threshold(iou_threshold: float) -> None:
    """Raise ValueError unless the IoU threshold is in (0, 1].

    Parameters
    ----------
    iou_threshold : float
        The threshold.

    Raises
    ------
    ValueError
        If the threshold is not in (0, 1].
    """
    IOU_THRESHOLD.check("iou_threshold", iou_threshold)


def _check_method(method: str) -> None:
    one_of(METHODS).check("method", method)

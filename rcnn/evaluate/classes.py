"""Matching of a detector's classes with the classes of a data set by name, because their order may differ."""

from collections.abc import Sequence

import numpy as np

from rcnn._validate import MAX_CLASSES, NAME, as_index_array, check_boxes, check_sequence, integer, listed
from rcnn.evaluate._inputs import PerImage, check_detections


def match_classes(detector_classes: Sequence[str] | int, dataset_classes: Sequence[str]) -> np.ndarray:
    """Return the data set's label for each label of the detector.

    Parameters
    ----------
    detector_classes : sequence of str, or int
        The names of the detector's L classes, with the background first. If the detector has no class names, pass the
        number of its classes. The classes are then assumed to be those of the data set, in the same order.
    dataset_classes : sequence of str
        The names of the data set's classes, with the background first.

    Returns
    -------
    (L,) int64 array
        The data set's label for each class of the detector; 0 if the data set does not have the class.

    Raises
    ------
    TypeError, ValueError
        If an argument is invalid, if the detector does not know a class of the data set, or if the number of its
        classes is wrong.

    Examples
    --------
    >>> match_classes(("background", "cow", "dog", "cat"), ("background", "cat", "dog")).tolist()
    [0, 0, 2, 1]
    """
    _check_names(dataset_classes, "dataset_classes")
    if isinstance(detector_classes, int):
        integer(1, MAX_CLASSES).check("detector_classes", detector_classes)
        if detector_classes != len(dataset_classes):
            raise ValueError(
                f"the detector has {detector_classes} classes without names, but the data set has "
                f"{len(dataset_classes)} classes; the numbers must be equal (both include the background)"
            )
        return np.arange(detector_classes)
    _check_names(detector_classes, "detector_classes")
    unknown = [name for name in dataset_classes[1:] if name not in detector_classes[1:]]
    if unknown:
        raise ValueError(
            f"the detector does not know these classes of the data set: {listed(unknown)}; "
            f"its {len(detector_classes)} classes are {listed(detector_classes)}"
        )
    labels = {name: label for label, name in enumerate(dataset_classes)}
    return np.array([0, *(labels.get(name, 0) for name in detector_classes[1:])])


def rename(detections: Sequence[PerImage], labels: np.ndarray) -> list[dict[str, np.ndarray]]:
    """Return the detections with the data set's labels. Detections of other classes are removed.

    Parameters
    ----------
    detections : sequence of dict
        For each image with D detections, {"boxes": (D, 4), "scores": (D,), "labels": (D,)}, with the detector's labels.
    labels : (L,) integer array
        The data set's label for each of the detector's L labels, from `match_classes`.

    Returns
    -------
    list of dict
        For each image, a new dict with the same keys.

    Raises
    ------
    TypeError, ValueError
        If an argument is invalid. For a detection, the message names the image.
    """
    own = as_index_array(labels, "labels")  # (L,)
    renamed = []
    for detected, found in zip(detections, check_detections(detections, max(len(own), 1)), strict=True):
        new = own[found.labels]  # (D,)
        known = new > 0
        boxes = check_boxes(detected["boxes"])  # of their own dtype
        renamed.append({"boxes": boxes[known], "scores": found.scores[known], "labels": new[known]})
    return renamed


def _check_names(names: Sequence[str], argument: str) -> None:
    """Raise TypeError or ValueError unless `names` contains at least one string and only strings."""
    check_sequence(names, argument)
    integer(1, MAX_CLASSES).check(f"the number of {argument}", len(names))
    for index, name in enumerate(names):
        NAME.check(f"{argument}[{index}]", name)

"""The classes of a detector and of a data set, matched by name: their order may differ."""

from collections.abc import Sequence

import numpy as np

from rcnn.evaluate._inputs import PerImage


def match_classes(detector_classes: Sequence[str] | int, dataset_classes: Sequence[str]) -> np.ndarray:
    """Return the data set's label for each label of the detector.

    Parameters
    ----------
    detector_classes : sequence of str, or int
        The names of the detector's classes, the background first. For a detector without names, their number; its
        classes are then assumed to be the data set's, in the same order.
    dataset_classes : sequence of str
        The names of the data set's classes, the background first.

    Returns
    -------
    (L,) int64 array
        The labels; 0 if the data set does not have the class.

    Raises
    ------
    ValueError
        If the detector does not know every class of the data set.

    Examples
    --------
    >>> match_classes(("background", "cow", "dog", "cat"), ("background", "cat", "dog")).tolist()
    [0, 0, 2, 1]
    """
    if isinstance(detector_classes, int):
        if detector_classes != len(dataset_classes):
            raise ValueError(
                f"the detector has {detector_classes} classes without names, the data set has "
                f"{len(dataset_classes)}; the numbers must be equal (both include the background)"
            )
        return np.arange(detector_classes)
    unknown = [name for name in dataset_classes[1:] if name not in detector_classes[1:]]
    if unknown:
        raise ValueError(
            f"the detector does not know {_some(unknown)} of the data set; "
            f"its {len(detector_classes)} classes are {_some(detector_classes)}"
        )
    labels = {name: label for label, name in enumerate(dataset_classes)}
    return np.array([0, *(labels.get(name, 0) for name in detector_classes[1:])])


def rename(detections: Sequence[PerImage], labels: np.ndarray) -> list[dict[str, np.ndarray]]:
    """Return the detections under the data set's labels, without those of classes that it does not have.

    Parameters
    ----------
    detections : sequence of dict
        Per image {"boxes": (D, 4), "scores": (D,), "labels": (D,)}, under the detector's labels.
    labels : (L,) integer array
        The data set's label for each of the detector's, from `match_classes`.

    Returns
    -------
    list of dict
        Copies of the same form.
    """
    renamed = []
    for detected in detections:
        new = labels[np.asarray(detected["labels"], np.int64)]  # (D,)
        known = new > 0
        renamed.append(
            {
                "boxes": np.asarray(detected["boxes"]).reshape(-1, 4)[known],
                "scores": np.asarray(detected["scores"])[known],
                "labels": new[known],
            }
        )
    return renamed


def _some(names: Sequence[str], limit: int = 8) -> str:
    """Return the names joined by commas; of many, the first few and the number of the others."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more

"""A detector's classes and a data set's, which may stand in another order: matched by name."""

from collections.abc import Sequence

import numpy as np

from rcnn.evaluate._inputs import PerImage


def match_classes(detector_classes: Sequence[str] | int, dataset_classes: Sequence[str]) -> np.ndarray:
    """The label that the data set has for each label of the detector, (L,) int64; 0 where it has no such class.

    detector_classes: the names of the detector's classes, the background first; or, where they have none, how many
        there are, and then they are taken to be the data set's, in its order.
    dataset_classes: the names of the data set's, the background first.

    Raises ValueError where the detector cannot know every class of the data set.
    """
    if isinstance(detector_classes, int):
        if detector_classes != len(dataset_classes):
            raise ValueError(
                f"the detector tells {detector_classes} classes apart, without names, and the data set "
                f"has {len(dataset_classes)} (the background counts as one)"
            )
        return np.arange(detector_classes)
    unknown = [name for name in dataset_classes[1:] if name not in detector_classes[1:]]
    if unknown:
        raise ValueError(
            f"the detector does not know {_some(unknown)} of the data set; it tells "
            f"{len(detector_classes)} classes apart: {_some(detector_classes)}"
        )
    labels = {name: label for label, name in enumerate(dataset_classes)}
    return np.array([0, *(labels.get(name, 0) for name in detector_classes[1:])])


def rename(detections: Sequence[PerImage], labels: np.ndarray) -> list[dict[str, np.ndarray]]:
    """The detections under the data set's labels, without those of classes that it has not.

    labels: (L,) as from `match_classes`.
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
    """The names in a row, the first few of many."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more

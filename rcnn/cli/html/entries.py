"""Images of a data set, reduced and with the boxes to draw over them: the objects, the detections and their kinds."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rcnn._validate import counted
from rcnn.data import Dataset
from rcnn.data.protocol import item_of
from rcnn.evaluate import Errors

SIDE = 800  # pixels; longer sides of an image are reduced to this length
QUALITY = 85  # of JPEG
MIN_SCORE = 0.5  # of the detections that are drawn
RIGHT, FOUND, IGNORED = "right", "found", "ignored"  # of a detection; of an object; of both

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Box:
    """The box of an object or a detection.

    Attributes
    ----------
    corners : (float, float, float, float)
        x1, y1, x2, y2 in pixels of the image.
    label : int
        Label of the class.
    kind : str
        For a detection, one of `rcnn.evaluate.KINDS`. For an object, "found" or "missed"; "object" without detections.
        "ignored" for both if they do not count.
    score : float or None
        Score of a detection; None for an object.
    """

    corners: tuple[float, float, float, float]
    label: int
    kind: str
    score: float | None = None

    @property
    def wrong(self) -> bool:  # numpydoc ignore=RT01
        """True for an error: a wrong detection or a missed object."""
        return self.kind not in (RIGHT, FOUND, IGNORED, "object")


@dataclass(frozen=True)
class Entry:
    """An image with the boxes to draw over it.

    Attributes
    ----------
    name : str
        Name of the image.
    size : (int, int)
        (height, width) of the image in pixels, before it was reduced.
    jpeg : bytes
        Content of a JPEG file with the reduced image.
    objects, detections : tuple of Box
        The boxes.
    """

    name: str
    size: tuple[int, int]
    jpeg: bytes
    objects: tuple[Box, ...]
    detections: tuple[Box, ...]

    @property
    def errors(self) -> int:  # numpydoc ignore=RT01
        """Number of wrong detections and missed objects."""
        return sum(box.wrong for box in (*self.objects, *self.detections))


class FirstImages:
    """A data set with the first images of another one.

    Parameters
    ----------
    dataset : Dataset
        The other data set.
    count : int
        Largest number of images.
    """

    def __init__(self, dataset: Dataset, count: int) -> None:
        self._dataset, self._count, self.classes = dataset, min(count, len(dataset)), dataset.classes
        self.records = getattr(dataset, "records", None)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        if not 0 <= index < self._count:
            raise IndexError(f"there are {self._count} images, got {index}")
        return self._dataset[index]


def make_entries(
    dataset: Dataset,
    indices: Sequence[int],
    detections: Sequence[Arrays] | None = None,
    errors: Errors | None = None,
) -> Iterator[Entry]:
    """Yield an entry for each of some images of a data set.

    Parameters
    ----------
    dataset : Dataset
        The data set.
    indices : sequence of int
        Indices of the images.
    detections : sequence of dict, optional
        The detections in every image of the data set, with the labels of the data set.
    errors : Errors, optional
        Result of `rcnn.evaluate.error_kinds` for these detections.

    Yields
    ------
    Entry
        The image and its boxes.
    """
    names = image_names(dataset)
    kinds = {} if errors is None else _kinds(errors)
    for index in indices:
        image, target = item_of(dataset, index)
        ignored = ~counted(target, len(target["labels"]), f"the target of image {index}")  # (G,)
        missed = kinds.get((index, True), {})
        present = "object" if errors is None else FOUND
        objects = tuple(
            Box(_corners(box), int(label), IGNORED if off else missed.get(i, present))
            for i, (box, label, off) in enumerate(zip(target["boxes"], target["labels"], ignored, strict=True))
        )
        found = {} if detections is None else detections[index]
        kind_of = kinds.get((index, False), {})
        rows = zip(found.get("boxes", ()), found.get("labels", ()), found.get("scores", ()), strict=True)
        boxes = tuple(
            Box(_corners(box), int(label), kind_of.get(i, IGNORED), round(float(score), 3))
            for i, (box, label, score) in enumerate(rows)
        )
        yield Entry(names[index], image.shape[:2], as_jpeg(image), objects, boxes)


def above(detected: Arrays, min_score: float) -> dict[str, np.ndarray]:
    """Return the detections above a score.

    Parameters
    ----------
    detected : mapping
        The detections in an image.
    min_score : float
        The score.

    Returns
    -------
    dict
        These detections.
    """
    kept = detected["scores"] > min_score  # (D,)
    return {name: values[kept] for name, values in detected.items()}


def count_errors(errors: Errors, num_images: int) -> np.ndarray:
    """Count the errors in each image.

    Parameters
    ----------
    errors : Errors
        Result of `rcnn.evaluate.error_kinds`.
    num_images : int
        Number of images N.

    Returns
    -------
    (N,) int64 array
        Number of wrong detections and missed objects.
    """
    images = [pairs[:, 0] for kind, pairs in errors.examples.items() if kind != RIGHT]
    return np.bincount(np.concatenate([np.zeros(0, np.int64), *images]), minlength=num_images)


def _kinds(errors: Errors) -> dict[tuple[int, bool], dict[int, str]]:
    """Return the kind of each detection by (image, False) and its index, and of missed objects by (image, True)."""
    kinds: dict[tuple[int, bool], dict[int, str]] = {}
    for kind, pairs in errors.examples.items():
        for image, i in pairs.tolist():
            kinds.setdefault((image, kind == "missed"), {})[i] = kind
    return kinds


def _corners(box: np.ndarray) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = (round(float(x), 1) for x in box)
    return x1, y1, x2, y2


def image_names(dataset: Dataset) -> list[str]:
    """Return the names of the images of a data set.

    Parameters
    ----------
    dataset : Dataset
        The data set.

    Returns
    -------
    list of str
        The paths of the files, relative to the deepest folder that contains all of them; "image 0" if there are none.
    """
    records = getattr(dataset, "records", None)
    if records is None:
        return [f"image {index}" for index in range(len(dataset))]
    paths = [Path(record.image) for record in records]
    try:
        folder = os.path.commonpath({path.parent for path in paths})
    except ValueError:  # the images are on different drives
        return [str(path) for path in paths]
    return [path.relative_to(folder).as_posix() for path in paths]


def as_jpeg(image: np.ndarray, side: int = SIDE) -> bytes:
    """Return an image as the content of a JPEG file.

    Parameters
    ----------
    image : (H, W, 3) uint8 array, or float array in [0, 1]
        The image in RGB.
    side : int
        Longest allowed side in pixels; larger images are reduced.

    Returns
    -------
    bytes
        The content of the file.
    """
    from PIL import Image

    values = image if image.dtype == np.uint8 else np.rint(255 * image).astype(np.uint8)
    reduced = Image.fromarray(np.ascontiguousarray(values))
    reduced.thumbnail((side, side))  # keeps the ratio of the sides; a side has at least one pixel
    file = io.BytesIO()
    reduced.save(file, "JPEG", quality=QUALITY)
    return file.getvalue()

"""Images and boxes for `rcnn.data.validate`: the values of the data set, unchanged, even if they are invalid.

An item is an image with its annotation. In training, an invalid image or box is an error. `rcnn.data.validate` instead
uses all readable parts of the item.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rcnn import images
from rcnn._validate import as_index_array, check_boxes, check_size, counted
from rcnn.data.records import AnnotatedImages, Annotations, Record, drawn_upright, frame_size, turn_boxes
from rcnn.data.report import Example, Notes
from rcnn.transform import Size

DARK = 64  # if no 8-bit value of a 16-bit image exceeds this number, its values have 14 bits or fewer


@dataclass(frozen=True, eq=False)
class Item:
    """An image and its annotation, with the unchanged values of the data set.

    Attributes
    ----------
    index : int
        Index in the data set.
    place : str
        Name of the image in messages.
    image : (H, W, 3) uint8 array or None
        The upright image; None if it cannot be read.
    size : (int, int) or None
        Size (height, width), in pixels, of the image to which `boxes` refer; None if the size is unknown.
    boxes : (G, 4) float64 array
        Boxes of the G objects, from the annotation.
    upright : (G, 4) array or None
        Boxes in pixel coordinates of `image`. None if the image file cannot be read, or if the image has
        another size in the annotation.
    labels : (G,) int64 array
        Label of each object.
    names : tuple of str, or None
        Class name of each object, from the annotation; None if the data set has only labels.
    counted : (G,) bool array
        False for difficult objects and for crowds.
    file : Path or None
        File of the image, if known.
    """

    index: int
    place: str
    image: np.ndarray | None
    size: Size | None
    boxes: np.ndarray
    upright: np.ndarray | None
    labels: np.ndarray
    names: tuple[str, ...] | None
    counted: np.ndarray
    file: Path | None

    def example(self, detail: str = "", box: int | None = None) -> Example:
        """Return this image, or one of its boxes, as an example of a problem.

        Parameters
        ----------
        detail : str
            Description of the problem.
        box : int, optional
            Index of the box.

        Returns
        -------
        Example
            An example with the name and the index of this image.
        """
        return Example(self.place, self.index, box, detail)


class Items:
    """Items of a data set, read by index.

    Parameters
    ----------
    dataset : Dataset or Annotations
        A data set, or the annotations that a reader such as `read_voc` returned.
    """

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset
        self._records: Sequence[Record] | None = None
        if isinstance(dataset, (AnnotatedImages, Annotations)):
            self._records = dataset.records
        self._root = _common_folder(self._records or ())
        self.classes = tuple(str(name) for name in dataset.classes)

    def __len__(self) -> int:
        return len(self._dataset if self._records is None else self._records)

    def read(self, index: int, notes: Notes | None = None) -> Item | None:
        """Read one item.

        Parameters
        ----------
        index : int
            Index in the data set.
        notes : Notes, optional
            Receives a problem for each part of the item that cannot be read.

        Returns
        -------
        Item or None
            The item, or None if no part of it can be read.
        """
        into = Notes(0) if notes is None else notes
        if self._records is None:
            return _read_pair(self._dataset, index, into)
        record = self._records[index]
        return _read_record(record, index, f"{_relative(record.image, self._root)} ({record.source})", into)


# ---------------------------------------------------------------------- files


def _read_record(record: Record, index: int, place: str, notes: Notes) -> Item:
    """Return the item of a record, with its boxes and, if the file can be read, its image."""
    here = Example(place, index)
    image, size, upright = None, record.size, None
    try:
        header = images.header(record.image)
        image = images.read(record.image)
    except FileNotFoundError:
        notes.add("missing-image", here)
    except (OSError, ValueError) as error:
        notes.add("unreadable-image", Example(place, index, detail=_without_path(error, record.image)))
    else:
        if header.sixteen_bit and image.max() <= DARK:
            notes.add(
                "dark-image", Example(place, index, detail=f"its 16-bit values are at most {257 * int(image.max())}")
            )
        try:
            size = frame_size(record, header)
        except ValueError:
            height, width = header.upright_size
            notes.add(
                "size-mismatch",
                Example(
                    place,
                    index,
                    detail=f"the annotation states {_words(record.size)}, but the file has {width} x {height}",
                ),
            )
        else:
            upright = record.boxes if drawn_upright(record, header) else turn_boxes(record.boxes, header)
    return Item(
        index,
        place,
        image,
        size,
        record.boxes,
        upright,
        record.labels,
        record.names,
        ~(record.difficult | record.crowd),
        record.image,
    )


def _words(size: Size | None) -> str:
    return "nothing" if size is None else f"{size[1]} x {size[0]}"


def _common_folder(records: Sequence[Record]) -> Path | None:
    """Return the deepest folder that contains all images, so that messages need not repeat it."""
    folders = {record.image.parent for record in records}
    try:
        return Path(os.path.commonpath(folders)) if folders else None
    except ValueError:  # the images are on different drives
        return None


def _relative(path: Path, root: Path | None) -> str:
    return path.relative_to(root).as_posix() if root is not None and path.is_relative_to(root) else str(path)


def _without_path(error: Exception, path: Path) -> str:
    """Return the message of an error without the leading path, because the example already names the image."""
    return str(error).removeprefix(str(path)).lstrip(": ") or type(error).__name__


# ---------------------------------------------------------------------- any Dataset


def _read_pair(dataset: Any, index: int, notes: Notes) -> Item | None:
    """Convert `dataset[index]`, which may be any value, to an item; return None if the target is malformed."""
    place = f"image {index}"
    try:
        pair = dataset[index]
    except Exception as error:  # a user's data set may raise any error, and each error is reported
        notes.add("failing-item", Example(place, index, detail=f"{type(error).__name__}: {error}"))
        return None
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        notes.add(
            "malformed-item",
            Example(place, index, detail=f"dataset[index] must be (image, target), got {type(pair).__name__}"),
        )
        return None
    image = None
    try:
        image = _as_rgb(pair[0])
    except (OSError, TypeError, ValueError) as error:
        notes.add("malformed-item", Example(place, index, detail=str(error)))
    try:
        boxes, labels, counted = _as_target(pair[1])
    except (TypeError, ValueError) as error:
        notes.add("malformed-item", Example(place, index, detail=str(error)))
        return None
    size = None if image is None else (image.shape[0], image.shape[1])
    return Item(index, place, image, size, boxes, boxes, labels, None, counted, None)


def _as_rgb(image: Any) -> np.ndarray:
    """Convert an image, in any form that a detector accepts, to (H, W, 3) uint8; raise an error if it is invalid."""
    if isinstance(image, (str, os.PathLike)):
        return images.read(image)
    if images.is_pil_image(image):
        return images.to_rgb(image)
    if not isinstance(image, np.ndarray):
        raise TypeError(f"the image must be an array (H, W, 3), got {type(image).__name__}")
    if image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ValueError(f"the image must have shape (H, W, 3), got {image.shape}")
    check_size(image.shape, "the image")
    if image.dtype == np.uint8:
        return image
    if image.dtype.kind != "f":
        raise TypeError(f"the image must be uint8, or floats in [0, 1], got {image.dtype}")
    if not (image.min() >= 0 and image.max() <= 1):  # NaN also fails this check
        raise ValueError(
            f"the values of a float image must be in [0, 1], got values from {image.min():g} to {image.max():g}"
        )
    return np.rint(255 * image).astype(np.uint8)


def _as_target(target: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return boxes (G, 4) float64, labels (G,) int64 and counted (G,) bool; raise an error if the target is invalid."""
    if not isinstance(target, dict) or not {"boxes", "labels"} <= set(target):
        keys = f" with {', '.join(map(repr, target)) or 'nothing'}" if isinstance(target, dict) else ""
        raise ValueError(f"the target must be a dict with 'boxes' and 'labels', got {type(target).__name__}{keys}")
    boxes = check_boxes(target["boxes"]).astype(np.float64)
    labels = as_index_array(target["labels"], "labels", len(boxes))
    return boxes, labels, counted(target, len(boxes), "target")

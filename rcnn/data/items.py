"""The images of a data set with their boxes as they are, right or wrong: what `rcnn.data.validate` looks at.

Training wants an image and a target or an error; whoever looks for errors wants to see as much as can be read.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from rcnn import images
from rcnn._validate import as_index_array, check_boxes, counted
from rcnn.data.records import AnnotatedImages, Annotations, Record, drawn_upright, frame_size, turn_boxes
from rcnn.data.report import Example, Notes
from rcnn.transform import Size


@dataclass(frozen=True, eq=False)
class Item:
    """An annotated image, as much of it as can be read."""

    index: int
    place: str  # what messages call it
    image: np.ndarray | None  # (H, W, 3) uint8, upright
    size: Size | None  # (height, width) in whose pixels the boxes are written
    boxes: np.ndarray  # (G, 4) float64, as they are written
    upright: np.ndarray | None  # (G, 4), the boxes in the image's pixels; None where they are of another size
    labels: np.ndarray  # (G,) int64
    names: tuple[str, ...] | None  # (G,) the classes as they are written, where they are
    counted: np.ndarray  # (G,) bool: objects that are neither difficult nor crowds
    file: Path | None

    def example(self, detail: str = "", box: int | None = None) -> Example:
        """This image, or a box of it, as an example of a problem."""
        return Example(self.place, self.index, box, detail)


class Items:
    """The items of a data set, by index; what prevents reading one is noted in `notes`, if they are given."""

    def __init__(self, dataset: Any) -> None:
        """dataset: a `Dataset`, or the `Annotations` of a reader."""
        self._dataset = dataset
        self._records: Sequence[Record] | None = None
        if isinstance(dataset, (AnnotatedImages, Annotations)):
            self._records = dataset.records
        self._root = _common_folder(self._records or ())
        self.classes = tuple(str(name) for name in dataset.classes)

    def __len__(self) -> int:
        return len(self._dataset if self._records is None else self._records)

    def read(self, index: int, notes: Notes | None = None) -> Item | None:
        """The item at `index`; None if nothing of it can be read."""
        into = Notes(0) if notes is None else notes
        if self._records is None:
            return _read_pair(self._dataset, index, into)
        record = self._records[index]
        return _read_record(record, index, f"{_relative(record.image, self._root)} ({record.source})", into)


# ---------------------------------------------------------------------- files


def _read_record(record: Record, index: int, place: str, notes: Notes) -> Item:
    """The item of a record: the boxes in any case, the image if it can be read."""
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
        try:
            size = frame_size(record, header)
        except ValueError:
            height, width = header.upright_size
            notes.add(
                "size-mismatch",
                Example(
                    place, index, detail=f"the annotation says {_words(record.size)}, the file has {width} x {height}"
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
    """The deepest folder in which all images are, so that messages can leave it out."""
    folders = {record.image.parent for record in records}
    try:
        return Path(os.path.commonpath(folders)) if folders else None
    except ValueError:  # on two drives
        return None


def _relative(path: Path, root: Path | None) -> str:
    return path.relative_to(root).as_posix() if root is not None and path.is_relative_to(root) else str(path)


def _without_path(error: Exception, path: Path) -> str:
    """What the error says, without the path at its beginning, which the example names already."""
    return str(error).removeprefix(str(path)).lstrip(": ") or type(error).__name__


# ---------------------------------------------------------------------- any Dataset


def _read_pair(dataset: Any, index: int, notes: Notes) -> Item | None:
    """The item of `dataset[index]`, whatever that is."""
    place = f"image {index}"
    try:
        pair = dataset[index]
    except Exception as error:  # somebody else's code: whatever it raises is what is to be told
        notes.add("failing-item", Example(place, index, detail=f"{type(error).__name__}: {error}"))
        return None
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        notes.add("malformed-item", Example(place, index, detail=f"is {type(pair).__name__}, not (image, target)"))
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
    """What a detector takes for an image as (H, W, 3) uint8; TypeError, ValueError or OSError for anything else."""
    if isinstance(image, (str, os.PathLike)):
        return images.read(image)
    if isinstance(image, Image.Image):
        return images.to_rgb(image)
    if not isinstance(image, np.ndarray):
        raise TypeError(f"its image is {type(image).__name__}; wanted is an array (H, W, 3)")
    if image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ValueError(f"its image has the shape {image.shape}; wanted is (H, W, 3)")
    if image.dtype == np.uint8:
        return image
    if image.dtype.kind != "f":
        raise TypeError(f"its image is {image.dtype}; wanted is uint8, or float in [0, 1]")
    if not (image.min() >= 0 and image.max() <= 1):  # NaN fails this, too
        raise ValueError(f"its image has values from {image.min():g} to {image.max():g}; floats lie in [0, 1]")
    return np.rint(255 * image).astype(np.uint8)


def _as_target(target: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(boxes (G, 4) float64, labels (G,) int64, counted (G,) bool) of a target; TypeError or ValueError if none."""
    if not isinstance(target, dict) or not {"boxes", "labels"} <= set(target):
        keys = f" with {', '.join(map(repr, target)) or 'nothing'}" if isinstance(target, dict) else ""
        raise ValueError(f"its target is {type(target).__name__}{keys}; wanted is a dict with 'boxes' and 'labels'")
    boxes = check_boxes(target["boxes"]).astype(np.float64)
    labels = as_index_array(target["labels"], "labels", len(boxes))
    return boxes, labels, counted(target, len(boxes), "target")

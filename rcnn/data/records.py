"""Annotated image files: what the readers make of a folder, and the data set that decodes them when asked for.

A reader (`voc`, `coco`, `table`, `masks`) turns the annotations of a folder into `Record`s, which keep what was
written, right or wrong; `AnnotatedImages` serves them, and `rcnn.data.validate` says what is wrong with them.

Photos that are stored lying on their side. A camera stores what it was held like in the file's EXIF data, and images
come out of here upright. Some annotation programs show the photo upright, others as it is stored, and their files
seldom say which. So: where an annotation states the upright image's width and height, and the stored one's are
others, its boxes are taken to be upright already. All other boxes are taken to be in stored pixels, and are turned
along with the image. A half turn or a mirror image leaves width and height as they are, and a square stays a square,
so boxes that were drawn on such a photo upright cannot be told; turn the files themselves for good then (jpegtran,
ImageMagick's -auto-orient).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from rcnn import images
from rcnn.boxes import clip
from rcnn.data.indexing import place_of
from rcnn.images import Header
from rcnn.transform import Size

Target = dict[str, np.ndarray]
UNKNOWN = -1  # the label of a class name that is not among the classes
ON_ERROR = ("raise", "skip")
MAX_EXCESS = 1.0  # pixels that a box may reach beyond its image: a coordinate rounded, or counted from the other end


@dataclass(frozen=True, eq=False)
class Record:
    """One annotated image as its annotation describes it; the image's file has not been opened.

    image: path of the image's file, inside the folder that the reader was given.
    source: where the annotation stands, for messages: "Annotations/a.xml", "train.json, image 17", "train.csv, line 3".
    boxes: (G, 4) float64 x1, y1, x2, y2 in pixels, continuous, as they were written.
    names: the class of each object as it was written.
    labels: (G,) int64, 1 .. L-1, or UNKNOWN.
    difficult, crowd: (G,) bool; an object that does not count (VOC), and a box round a crowd of them (COCO).
    truncated: (G,) bool; an object of which the box holds only a part (VOC); it counts as any other.
    areas: (G,) float64 pixels that each object covers; the box's own area where nothing better is known.
    size: (height, width) that the annotation states for the image, or None.
    image_id: the number or name by which results refer to the image.
    """

    image: Path
    source: str
    boxes: np.ndarray
    names: tuple[str, ...]
    labels: np.ndarray
    difficult: np.ndarray
    crowd: np.ndarray
    truncated: np.ndarray
    areas: np.ndarray
    size: Size | None = None
    image_id: int | str = 0


@dataclass(frozen=True)
class Broken:
    """An annotation or an image that cannot be read: where it stands, and why not."""

    source: str
    reason: str


@dataclass(frozen=True)
class Annotations:
    """What a reader found: `classes` (the background first), a record per image, and what it could not read.

    category_ids: per label the number that the annotations know its class by (COCO), -1 for the background; empty where
        there are no such numbers.
    """

    classes: tuple[str, ...]
    records: Sequence[Record]
    broken: Sequence[Broken] = ()
    category_ids: tuple[int, ...] = field(default=())

    def subset(self, indices: Sequence[int]) -> Annotations:
        """The same with these records alone, in this order; what is broken stays, for nobody knows where it belongs."""
        return replace(self, records=[self.records[i] for i in indices])


class AnnotatedImages:
    """A `Dataset` of image files, decoded when they are asked for, upright with their boxes.

    Targets carry, beside "boxes" and "labels", "difficult", "crowd" and "truncated" (G,) bool and "areas" (G,) float64.
    A box that reaches beyond its image by up to a pixel is cut at the border; whatever else is impossible about an
    annotation is an error.

    annotations: as from a reader.
    on_error: "raise" makes an unreadable annotation an error at once, and an unreadable image or an impossible box
        one when it is asked for; the message names the file. "skip" reads every image once, with a bar, and leaves
        out those that are wrong; `skipped` says which and why. If none is left, that is a ValueError.
    """

    def __init__(self, annotations: Annotations, on_error: str = "raise", progress: bool = True) -> None:
        if on_error not in ON_ERROR:
            raise ValueError(f"on_error must be one of {', '.join(ON_ERROR)}, got {on_error!r}")
        self.classes, self.category_ids = annotations.classes, annotations.category_ids
        self.records, self.broken = list(annotations.records), list(annotations.broken)
        self.skipped: list[Broken] = []
        if on_error == "skip":
            self._skip_wrong_ones(progress)
        elif self.broken:
            raise ValueError(
                f"{self.broken[0].source} cannot be read: {self.broken[0].reason}"
                + (f" (and {len(self.broken) - 1} more)" if len(self.broken) > 1 else "")
                + '; on_error="skip" leaves out what cannot be read (in a RUN.toml: [data] options = '
                '{on_error = "skip"})'
            )

    def __len__(self) -> int:
        return len(self.records)

    def __repr__(self) -> str:
        noun = "image" if len(self) == 1 else "images"
        return f"<{type(self).__name__}: {len(self)} {noun} of {', '.join(self.classes[1:]) or 'nothing'}>"

    def __getitem__(self, index: int) -> tuple[np.ndarray, Target]:
        """(image (H, W, 3) uint8, target) of an image, upright; -1 is the last one.

        Raises OSError or ValueError that names the file, and the box where one is impossible.
        """
        record = self._record(index)
        target = self._target(record, images.header(record.image))  # first, because it is cheaper than the image
        return images.read(record.image), target

    def annotation(self, index: int) -> tuple[Size, Target]:
        """((height, width) of the upright image, target), from the file's header alone: nothing is decoded."""
        record = self._record(index)
        header = images.header(record.image)
        return header.upright_size, self._target(record, header)

    def subset(self, indices: Sequence[int]) -> AnnotatedImages:
        """The same data set with these images alone, in this order."""
        part = copy.copy(self)
        part.records = [self._record(i) for i in indices]
        return part

    def _record(self, index: int) -> Record:
        return self.records[place_of(index, len(self.records), "image")]

    def _target(self, record: Record, header: Header) -> Target:
        """The target of an image, upright; ValueError that names file, source, box and numbers where it cannot be."""
        unknown = np.flatnonzero((record.labels < 1) | (record.labels >= len(self.classes)))
        if len(unknown):
            i = int(unknown[0])
            raise ValueError(
                f"{record.image} ({record.source}): box {i} is of class {record.names[i]!r}, which is not "
                f"among the classes: {', '.join(self.classes[1:])}"
            )
        return {
            "boxes": upright_boxes(record, header),
            "labels": record.labels.copy(),
            "difficult": record.difficult.copy(),
            "crowd": record.crowd.copy(),
            "truncated": record.truncated.copy(),
            "areas": record.areas.copy(),
        }

    def _skip_wrong_ones(self, progress: bool) -> None:
        """Leaves only the records whose images and boxes can be read, and notes the others in `skipped`."""
        right = []
        self.skipped = list(self.broken)
        for i in tqdm(range(len(self)), desc="read", unit="image", disable=not progress):
            try:
                self[i]
            except (OSError, ValueError) as error:
                self.skipped.append(Broken(self.records[i].source, str(error)))
            else:
                right.append(i)
        if not right:
            first = f", the first: {self.skipped[0].source}: {self.skipped[0].reason}" if self.skipped else ""
            raise ValueError(f"no image is left: {len(self.skipped)} cannot be read{first}")
        self.records = [self.records[i] for i in right]


def upright_boxes(record: Record, header: Header) -> np.ndarray:
    """The boxes (G, 4) float32 of a record in the pixels of the upright image, cut at its border.

    Raises ValueError, naming the file, the source, the box and its numbers, where the annotation is of an image of
    another size, or a box is not finite, is empty, or reaches beyond the image by more than a pixel.
    """
    frame = frame_size(record, header)
    boxes = _check_inside(record, frame)  # (G, 4)
    if not drawn_upright(record, header):
        boxes = turn_boxes(boxes, header)
    return boxes.astype(np.float32)


def drawn_upright(record: Record, header: Header) -> bool:
    """Whether the boxes of a record are in the pixels of the upright image; else of the stored one (see above)."""
    return record.size == header.upright_size != header.stored_size


def frame_size(record: Record, header: Header) -> Size:
    """The (height, width) of the image as the boxes of a record see it; ValueError where the record has another."""
    if record.size not in (None, header.stored_size, header.upright_size):
        height, width = header.stored_size
        raise ValueError(
            f"{record.image} ({record.source}) is {width} pixels wide and {height} high; the annotation "
            f"says {record.size[1]} and {record.size[0]}"
        )
    return header.upright_size if drawn_upright(record, header) else header.stored_size


def turn_boxes(boxes: np.ndarray, header: Header) -> np.ndarray:
    """`boxes` (G, 4) of the stored image as boxes (G, 4) of the upright one."""
    (height, width), orientation = header.stored_size, header.orientation
    x1, y1, x2, y2 = boxes.T  # (G,) each
    if orientation in (2, 3, 7, 8):  # the stored image's right edge becomes the left or the top one
        x1, x2 = width - x2, width - x1
    if orientation in (3, 4, 6, 7):  # its lower edge becomes the top or the left one
        y1, y2 = height - y2, height - y1
    if orientation >= 5:
        x1, y1, x2, y2 = y1, x1, y2, x2
    return np.stack([x1, y1, x2, y2], axis=1)  # (G, 4)


def _check_inside(record: Record, frame: Size) -> np.ndarray:
    """The boxes (G, 4) of a record, cut at the border of an image of size `frame`; ValueError for impossible ones."""
    height, width = frame
    boxes = record.boxes
    cut = clip(boxes, frame)  # (G, 4)
    single = cut.astype(np.float32)  # in which a very thin box may vanish
    for wrong, why in (
        (~np.isfinite(boxes), "every number must be finite"),
        (boxes[:, 2:] <= boxes[:, :2], "x2 > x1 and y2 > y1 are needed"),
        (np.abs(boxes - cut) > MAX_EXCESS, f"the image is {width} pixels wide and {height} high"),
        (single[:, 2:] <= single[:, :2], f"nothing of it lies in the image, {width} pixels wide and {height} high"),
    ):
        if wrong.any():
            i = int(np.argmax(wrong.any(axis=1)))
            raise ValueError(
                f"{record.image} ({record.source}): box {i}, {record.names[i]!r}, is "
                f"{boxes[i].tolist()} (x1, y1, x2, y2); {why}"
            )
    return cut

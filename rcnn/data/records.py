"""Annotated image files: the records that readers return, and the data set that decodes the images on access.

A reader, such as `read_voc`, converts the annotations of a folder to `Record`s. A record contains all values of
the annotation unchanged, even if they are invalid. `AnnotatedImages` is the data set of these images.
`rcnn.data.validate` reports the faults of the records.

How photos are rotated: a camera stores its orientation in the EXIF data of the file, and this module returns the image
upright. Some annotation programs show a photo upright, and others show it as it is stored. The annotations rarely say
which of the two was shown. This module therefore uses a rule. If the annotation contains the width and height of the
upright image, and the stored image has another width and height, then the boxes refer to the upright image. Otherwise
the boxes refer to the stored image, and are rotated together with it.

The rule cannot recognise boxes that refer to the upright photo if the upright photo and the stored photo have the same
width and height. This is the case after a rotation by 180 degrees, after mirroring, and for square images. Rotate such
files permanently before you use them, for example with jpegtran or with the option -auto-orient of ImageMagick.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from rcnn import images
from rcnn._validate import FLAG, listed, one_of, shown
from rcnn.boxes import area, clip
from rcnn.data.indexing import normalise_index
from rcnn.images import Header
from rcnn.transform import Size

Target = dict[str, np.ndarray]
UNKNOWN = -1  # label of an object whose class is not among the classes
ON_ERROR = ("raise", "skip", "fix")
MAX_EXCESS = 1.0  # pixels that a box may extend beyond its image, because programs round and count pixels differently


@dataclass(frozen=True)
class Broken:
    """An annotation, an image or an object that cannot be read.

    Attributes
    ----------
    source : str
        Position of the annotation, as in `Record`.
    reason : str
        The error message.
    image : str
        Name of the image from the annotation, with or without a suffix; "" if it is not known.
    """

    source: str
    reason: str
    image: str = ""


@dataclass(frozen=True, eq=False)
class Record:
    """The annotation of an image; the image file has not been opened.

    Attributes
    ----------
    image : Path
        File of the image, inside the folder that was passed to the reader.
    source : str
        Position of the annotation, for messages, such as "Annotations/a.xml", "train.json, image 17" or "train.csv,
        line 3".
    boxes : (G, 4) float64 array
        x1, y1, x2, y2 of the G objects, in pixels. Coordinates are continuous and not validated.
    names : tuple of str
        Class name of each object, from the annotation.
    labels : (G,) int64 array
        Labels from 1 to L - 1, or UNKNOWN. L is the number of classes including the background.
    difficult, crowd : (G,) bool array
        `difficult` marks objects that are not counted (VOC), and `crowd` marks boxes around a crowd (COCO).
    truncated : (G,) bool array
        Marks objects that extend beyond their box (VOC). Such objects count like all other objects.
    areas : (G,) float64 array
        Number of pixels that each object covers, or the area of its box if the annotation does not contain this number.
    size : (int, int) or None
        (height, width) of the image in pixels, from the annotation; None if the annotation contains no size.
    image_id : int or str
        Number or name that identifies the image in results.
    faults : tuple of Broken
        The objects that cannot be read; `boxes` does not contain them.
    annotated : bool
        False if the image has no annotation, and is treated as an image without objects.
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
    faults: tuple[Broken, ...] = ()
    annotated: bool = True

    def subset(self, indices: Sequence[int] | np.ndarray) -> Record:
        """Return the record with some of its objects.

        Parameters
        ----------
        indices : sequence of int
            Indices of the objects, in the order of the result.

        Returns
        -------
        Record
            The record of the same image with the chosen objects.
        """
        chosen = np.asarray(indices, np.int64)  # (K,)
        arrays = ("boxes", "labels", "difficult", "crowd", "truncated", "areas")
        parts = {name: getattr(self, name)[chosen] for name in arrays}
        return replace(self, names=tuple(self.names[i] for i in chosen), **parts)


@dataclass(frozen=True)
class Annotations:
    """Annotations of a data set, returned by a reader.

    Attributes
    ----------
    classes : tuple of str
        Class names in the order of their labels, starting with the background.
    records : sequence of Record
        One record for each image.
    broken : sequence of Broken
        Annotations and images that could not be read.
    category_ids : tuple of int
        For each label, the id of its class in a COCO file (-1 for the background). Empty for other formats.
    unannotated : sequence of Broken
        The images of all splits that have no annotation, each with a sentence that explains how the image is treated.
    splits : sequence of str
        The splits that the data set defines; empty if it defines none.
    """

    classes: tuple[str, ...]
    records: Sequence[Record]
    broken: Sequence[Broken] = ()
    category_ids: tuple[int, ...] = field(default=())
    unannotated: Sequence[Broken] = ()
    splits: Sequence[str] = ()

    def unreadable(self) -> list[Broken]:
        """Return everything that could not be read: `broken`, and the `faults` of the records.

        Returns
        -------
        list of Broken
            One entry for each annotation, image or object.
        """
        return [*self.broken, *(fault for record in self.records for fault in record.faults)]

    def subset(self, indices: Sequence[int]) -> Annotations:
        """Return the annotations of some images.

        Parameters
        ----------
        indices : sequence of int
            Indices of the records, in the order of the result.

        Returns
        -------
        Annotations
            The chosen records, and all of `broken` and `unannotated`, because their entries may belong to any split.
        """
        return replace(self, records=[self.records[i] for i in indices])


class AnnotatedImages:
    """A `Dataset` of image files, which are decoded on access and returned upright.

    The target of an image with G objects has "boxes" (G, 4) float32, "labels" (G,) int64, "difficult", "crowd" and
    "truncated" (G,) bool, and "areas" (G,) float64. A box that extends at most one pixel beyond its image is clipped.
    By default, any other invalid annotation is an error.

    Parameters
    ----------
    annotations : Annotations
        The annotations that a reader returned.
    on_error : {"raise", "skip", "fix"}
        "raise": an unreadable annotation raises an error immediately, and an unreadable image or an invalid object
        raises an error on access. "skip": the constructor reads every image once, leaves out invalid objects and
        images, and lists them in `skipped`. The valid objects of an image remain. An image is left out if all of its
        objects are invalid. "fix": like "skip", but a box that extends beyond its image is cut at the border and listed
        in `fixed`.
    progress : bool
        Show a progress bar while images are read.

    Raises
    ------
    TypeError
        If an argument has the wrong type.
    ValueError
        If an annotation cannot be read and `on_error` is "raise", or if no valid image is left after skipping.
    """

    def __init__(self, annotations: Annotations, on_error: str = "raise", progress: bool = True) -> None:
        if not isinstance(annotations, Annotations):
            raise TypeError(f"annotations must be Annotations, got {shown(annotations)}")
        one_of(ON_ERROR).check("on_error", on_error)
        FLAG.check("progress", progress)
        self.classes, self.category_ids = annotations.classes, annotations.category_ids
        self.records, self.broken = list(annotations.records), list(annotations.broken)
        self.unannotated, self.splits = list(annotations.unannotated), tuple(annotations.splits)
        self.skipped: list[Broken] = []
        self.fixed: list[Broken] = []
        if on_error != "raise":
            self._keep_valid(on_error == "fix", progress)
        elif unreadable := annotations.unreadable():
            raise ValueError(
                f"{unreadable[0].source} cannot be read: {unreadable[0].reason}"
                + (f"; unreadable entries besides this one: {len(unreadable) - 1}" if len(unreadable) > 1 else "")
                + '; to skip unreadable entries, use on_error="skip" (in a plan, RUN.toml: [data] options = '
                '{on_error = "skip"})'
            )

    def __len__(self) -> int:
        return len(self.records)

    def __repr__(self) -> str:
        noun = "image" if len(self) == 1 else "images"
        return f"<{type(self).__name__}: {len(self)} {noun} of {listed(self.classes[1:]) or 'nothing'}>"

    def __getitem__(self, index: int) -> tuple[np.ndarray, Target]:
        """Return an upright image, (H, W, 3) uint8, and its target; negative indices count from the end.

        Raise OSError or ValueError if the image or a box is invalid. The message names the file and the invalid box.
        """
        record = self._record(index)
        target = self._target(record, images.header(record.image))  # before decoding, which takes longer
        return images.read(record.image), target

    def annotation(self, index: int) -> tuple[Size, Target]:
        """Return the size and the target of an image; read the header of its file, but do not decode the image.

        Parameters
        ----------
        index : int
            Index of the image.

        Returns
        -------
        size : (int, int)
            (height, width) of the upright image, in pixels.
        target : dict
            The target that `self[index]` also returns.

        Raises
        ------
        OSError, ValueError
            If the header cannot be read, or a box is invalid.
        """
        record = self._record(index)
        header = images.header(record.image)
        return header.upright_size, self._target(record, header)

    def subset(self, indices: Sequence[int]) -> AnnotatedImages:
        """Return a data set with some of the images.

        Parameters
        ----------
        indices : sequence of int
            Indices of the images, in the order of the result.

        Returns
        -------
        AnnotatedImages
            The new data set. It shares its records with this data set.
        """
        part = copy.copy(self)
        part.records = [self._record(i) for i in indices]
        return part

    def _record(self, index: int) -> Record:
        return self.records[normalise_index(index, len(self.records), "image")]

    def _target(self, record: Record, header: Header) -> Target:
        """Return the target of the upright image; if it is invalid, raise ValueError with the file and the box."""
        unknown = np.flatnonzero(_unknown(record, self.classes))
        if len(unknown):
            raise ValueError(
                f"{record.image} ({record.source}): {_unknown_words(record, int(unknown[0]), self.classes)}"
            )
        return {
            "boxes": upright_boxes(record, header),
            "labels": record.labels.copy(),
            "difficult": record.difficult.copy(),
            "crowd": record.crowd.copy(),
            "truncated": record.truncated.copy(),
            "areas": record.areas.copy(),
        }

    def _keep_valid(self, fix: bool, progress: bool) -> None:
        """Keep only valid images and objects, and list all others in `skipped`."""
        self.skipped, kept = list(self.broken), []
        for record in tqdm(self.records, desc="read", unit="image", disable=None if progress else True):
            try:
                images.read(record.image)
                kept.append(self._valid_part(record, fix))
            except (OSError, ValueError) as error:
                self.skipped.append(Broken(record.source, str(error)))
        if not kept:
            first = f"; the first is {self.skipped[0].source}: {self.skipped[0].reason}" if self.skipped else ""
            raise ValueError(f"no valid image is left; unusable entries: {len(self.skipped)}{first}")
        self.records = kept

    def _valid_part(self, record: Record, fix: bool) -> Record:
        """Return the record with only its valid objects; raise ValueError if all of its objects are invalid."""
        frame = frame_size(record, images.header(record.image))
        cut_record = cut_boxes(record, frame) if fix else record
        wrong: dict[int, str] = {}  # index of an object -> reason
        for i in np.flatnonzero(_unknown(record, self.classes)).tolist():
            wrong[i] = _unknown_words(record, i, self.classes)
        for mask, why in _box_faults(cut_record.boxes, frame):
            for i in np.flatnonzero(mask).tolist():
                wrong.setdefault(i, _box_words(record, i, why))
        faults = [*record.faults, *(Broken(record.source, wrong[i]) for i in sorted(wrong))]
        if faults and len(wrong) == len(record.boxes):
            raise ValueError(f"{record.image} ({record.source}): no object is valid: {faults[0].reason}")
        self.skipped += faults
        valid = [i for i in range(len(record.boxes)) if i not in wrong]
        for i in valid:
            if (np.abs(cut_record.boxes[i] - record.boxes[i]) > 0).any():
                words = _box_words(record, i, f"it was cut at the border to {cut_record.boxes[i].tolist()}")
                self.fixed.append(Broken(record.source, words))
        return replace(cut_record.subset(valid), faults=())


def cut_boxes(record: Record, frame: Size) -> Record:
    """Cut each box that extends more than one pixel beyond the image at the border, and return the new record.

    Parameters
    ----------
    record : Record
        An annotated image.
    frame : (int, int)
        (height, width) of the image to which the boxes refer, in pixels.

    Returns
    -------
    Record
        The record with the changed boxes. The area of an object with a changed box is at most the area of this box.
    """
    cut = clip(record.boxes, frame)  # (G, 4)
    with np.errstate(invalid="ignore"):  # a coordinate may be infinite
        beyond = (np.abs(record.boxes - cut) > MAX_EXCESS).any(axis=1) & np.isfinite(record.boxes).all(axis=1)  # (G,)
    boxes = np.where(beyond[:, None], cut, record.boxes)  # (G, 4)
    areas = np.where(beyond, np.minimum(record.areas, area(cut)), record.areas)  # (G,)
    return replace(record, boxes=boxes, areas=areas)


def _unknown(record: Record, classes: Sequence[str]) -> np.ndarray:
    """Return a (G,) mask of the objects whose label is not among the classes."""
    return np.asarray((record.labels < 1) | (record.labels >= len(classes)))


def _unknown_words(record: Record, i: int, classes: Sequence[str]) -> str:
    return f"box {i} is of class {record.names[i]!r}, which is not among the classes: {listed(classes[1:])}"


def _box_words(record: Record, i: int, why: str) -> str:
    return f"box {i}, {record.names[i]!r}, is {record.boxes[i].tolist()} (x1, y1, x2, y2); {why}"


def upright_boxes(record: Record, header: Header) -> np.ndarray:
    """Return the boxes of a record in pixel coordinates of the upright image, clipped to the image.

    Parameters
    ----------
    record : Record
        An annotated image.
    header : Header
        Header of the image file.

    Returns
    -------
    (G, 4) float32 array
        Boxes in pixels.

    Raises
    ------
    ValueError
        If the image size in the annotation differs from that of the file, or if a box is not finite, is empty, or
        extends more than one pixel beyond the image. The message names the file and the annotation. If a box is
        invalid, the message also gives the index and the coordinates of this box.
    """
    frame = frame_size(record, header)
    boxes = _check_inside(record, frame)  # (G, 4)
    if not drawn_upright(record, header):
        boxes = turn_boxes(boxes, header)
    return boxes.astype(np.float32)


def drawn_upright(record: Record, header: Header) -> bool:
    """Return True if the boxes of a record refer to the upright image.

    Parameters
    ----------
    record : Record
        An annotated image.
    header : Header
        Header of the image file.

    Returns
    -------
    bool
        False if they refer to the stored image (see the rule at the top of this module).
    """
    return record.size == header.upright_size != header.stored_size


def frame_size(record: Record, header: Header) -> Size:
    """Return the size of the image to which the boxes of a record refer: the upright or the stored image.

    Parameters
    ----------
    record : Record
        An annotated image.
    header : Header
        Header of the image file.

    Returns
    -------
    (int, int)
        (height, width) in pixels.

    Raises
    ------
    ValueError
        If the size in the record differs from the sizes of the upright image and of the stored image.
    """
    if record.size not in (None, header.stored_size, header.upright_size):
        height, width = header.stored_size
        raise ValueError(
            f"{record.image} ({record.source}) is {width} pixels wide and {height} high, but the annotation "
            f"states {record.size[1]} and {record.size[0]}"
        )
    return header.upright_size if drawn_upright(record, header) else header.stored_size


def turn_boxes(boxes: np.ndarray, header: Header) -> np.ndarray:
    """Convert boxes of the stored image to boxes of the upright image.

    Parameters
    ----------
    boxes : (G, 4) array
        Boxes in pixel coordinates of the stored image.
    header : Header
        Size and EXIF orientation of the image.

    Returns
    -------
    (G, 4) array
        Boxes in pixel coordinates of the upright image.

    Examples
    --------
    A stored image of 40 x 60 (height, width) that is upright after a rotation by 90 degrees clockwise:

    >>> turn_boxes(np.array([[10, 5, 30, 25]]), Header((40, 60), orientation=6)).tolist()
    [[15, 10, 35, 30]]
    """
    (height, width), orientation = header.stored_size, header.orientation
    x1, y1, x2, y2 = boxes.T  # (G,) each
    if orientation in (2, 3, 7, 8):  # the right edge of the stored image becomes the left or top edge
        x1, x2 = width - x2, width - x1
    if orientation in (3, 4, 6, 7):  # the bottom edge of the stored image becomes the top or left edge
        y1, y2 = height - y2, height - y1
    if orientation >= 5:
        x1, y1, x2, y2 = y1, x1, y2, x2
    return np.stack([x1, y1, x2, y2], axis=1)  # (G, 4)


def _check_inside(record: Record, frame: Size) -> np.ndarray:
    """Return the boxes (G, 4) of a record, clipped to an image of size `frame`; raise ValueError if one is invalid."""
    for wrong, why in _box_faults(record.boxes, frame):
        if wrong.any():
            raise ValueError(f"{record.image} ({record.source}): {_box_words(record, int(np.argmax(wrong)), why)}")
    return clip(record.boxes, frame)


def _box_faults(boxes: np.ndarray, frame: Size) -> list[tuple[np.ndarray, str]]:
    """Return, for each rule, a (G,) mask of the boxes (G, 4) that break the rule in an image of size `frame`."""
    height, width = frame
    cut = clip(boxes, frame)  # (G, 4)
    single = cut.astype(np.float32)  # in float32, the sides of a very thin box may round to 0
    with np.errstate(invalid="ignore"):  # infinity minus infinity
        excess = np.abs(boxes - cut)  # (G, 4)
    return [
        (~np.isfinite(boxes).all(axis=1), "every coordinate must be finite"),
        ((boxes[:, 2:] <= boxes[:, :2]).any(axis=1), "x2 > x1 and y2 > y1 are required"),
        ((excess > MAX_EXCESS).any(axis=1), f"it must lie in the image ({width} pixels wide, {height} high)"),
        (
            (single[:, 2:] <= single[:, :2]).any(axis=1),
            f"it has no area in the image ({width} pixels wide, {height} high)",
        ),
    ]

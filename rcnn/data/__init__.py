"""Data sets: images with the boxes and labels of their objects.

Training and evaluation need only the `Dataset` protocol, so your own list-like class works as well as the classes of
this package. `Shapes` and `Digits` draw pages with objects. `VOC`, `COCO`, `CSV`, `Table` and `Masks` read annotated
image files. They read only regular files, and no file outside the folders that you pass, also if a link in a folder
leads to one. A folder of images may itself be a link; `validate` reports it.
"""

import operator
import os
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

from rcnn.data.coco import COCO, read_coco
from rcnn.data.digits import Digits
from rcnn.data.masks import Masks, read_masks
from rcnn.data.records import AnnotatedImages, Annotations, Broken, Record, frame_size, turn_boxes, upright_boxes
from rcnn.data.shapes import Shapes
from rcnn.data.splits import split
from rcnn.data.table import CSV, Table, read_csv, read_table
from rcnn.data.validation import validate
from rcnn.data.voc import VOC, read_voc
from rcnn.data.write import write_coco, write_csv, write_voc

__all__ = [
    "AnnotatedImages",
    "Annotations",
    "Broken",
    "COCO",
    "CSV",
    "Dataset",
    "Digits",
    "Masks",
    "Record",
    "Shapes",
    "Table",
    "VOC",
    "frame_size",
    "load",
    "read_annotations",
    "read_coco",
    "read_csv",
    "read_masks",
    "read_table",
    "read_voc",
    "split",
    "turn_boxes",
    "upright_boxes",
    "validate",
    "write_coco",
    "write_csv",
    "write_voc",
]


class Dataset(Protocol):
    """Images and their targets, read by index."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of their labels; the first name is "background"."""
        ...

    def __len__(self) -> int:
        """Return the number of images."""
        ...

    def __getitem__(self, index: int, /) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Return an image and its target.

        Returns
        -------
        image : (H, W, 3) uint8 array
        target : dict
            For the G objects of the image: "boxes" (G, 4) float32, in pixels, and "labels" (G,) int64. Optional arrays
            are "difficult" and "crowd" (G,) bool, which mark objects that training and evaluation ignore; "truncated"
            (G,) bool; and "areas" (G,) float64, in pixels.

        Raises
        ------
        IndexError
            If there is no image with this index.
        """
        ...


DRAWN: dict[str, Callable[..., Dataset]] = {"shapes": Shapes, "digits": Digits}
READERS: dict[str, tuple[Callable[..., Annotations], tuple[str, ...]]] = {  # each reader with the names of its options
    "voc": (read_voc, ("classes", "first_pixel")),
    "coco": (read_coco, ("classes", "images")),
    "csv": (read_csv, ("classes", "images")),
    "masks": (read_masks, ("class_name", "images", "masks")),
}


def load(
    name: str, split: str, n: int | None = None, seed: int = 0, options: Mapping[str, Any] | None = None
) -> Dataset:
    """Return a data set by the name that the commands use for it.

    Parameters
    ----------
    name : str
        "shapes" or "digits" for drawn pages. "voc:PATH", "coco:PATH", "csv:PATH" or "masks:PATH" for files, which are
        read like those of `VOC`, `COCO`, `CSV` and `Masks`.
    split : str
        "train" or "val". For files, you can also use any other split that they have.
    n : int, optional
        Number of images: n drawn pages, or the first n images of the split. The default is all images of files, and
        20,000 pages for "train" or 200 for "val".
    seed : int
        Seed of the drawn pages; ignored for files.
    options : mapping, optional
        Further arguments of the reader, by name, such as "on_error", "classes" or "images".

    Returns
    -------
    Dataset
        The drawn pages, or the `AnnotatedImages`.

    Raises
    ------
    ValueError
        If the name or an option is unknown (the message lists the known ones), or if the reader raises a ValueError.
    OSError
        If a file or folder is not found.

    Examples
    --------
    >>> pages = load("shapes", "train", n=10)
    >>> len(pages), pages[0][0].shape
    (10, (128, 128, 3))
    """
    further = dict(options or {})
    if name in DRAWN:
        if further:
            raise ValueError(f"{name} takes no options, got {', '.join(map(repr, further))}")
        return DRAWN[name](n, split=split, seed=seed)
    on_error = further.pop("on_error", "raise")
    return AnnotatedImages(read_annotations(name, split, n, further), on_error)


def read_annotations(
    name: str, split: str | None, n: int | None = None, options: Mapping[str, Any] | None = None
) -> Annotations:
    """Read annotations exactly as the files state them, without opening an image.

    Parameters
    ----------
    name : str
        "voc:PATH", "coco:PATH", "csv:PATH" or "masks:PATH".
    split : str or None
        See `load`; None means every image.
    n : int, optional
        Number of images to return, from the start of the split. `broken` always covers the whole split.
    options : mapping, optional
        See `load`; "on_error" is not allowed here.

    Returns
    -------
    Annotations
        One record for each image, even if it is invalid.

    Raises
    ------
    ValueError, OSError
        See `load`.
    """
    kind, _, path = name.partition(":")
    if kind not in READERS or not path:
        hint = f"; {name} is a path: write voc:{name}, or use another format" if os.path.exists(name) else ""
        raise ValueError(
            f"there is no data set {name!r}; the data sets are: "
            f"{', '.join((*DRAWN, *(f'{kind}:PATH' for kind in READERS)))}{hint}"
        )
    read, allowed = READERS[kind]
    further = dict(options or {})
    for option in further:
        if option not in allowed:
            raise ValueError(f"{kind}:PATH has no option {option!r}; its options are on_error, {', '.join(allowed)}")
    if n is not None and operator.index(n) < 0:
        raise ValueError(f"n must not be negative, got {n}")
    annotations = read(path, split, **further)
    return annotations if n is None else annotations.subset(range(min(n, len(annotations.records))))

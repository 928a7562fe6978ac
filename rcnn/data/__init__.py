"""Data sets: images with the boxes and labels of their objects.

Training and evaluation need only the `Dataset` protocol, so your own list-like class works as well as the classes of
this package. `Shapes` and `Digits` draw their pages. `VOC`, `COCO`, `CSV`, `Table` and `Masks` read annotated image
files; they read nothing outside the folders that they are given.
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
    """Images with their targets, by index."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names by label; index 0 is "background"."""
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
            "boxes" (G, 4) float32, in pixels, and "labels" (G,) int64. Optional: "difficult" and "crowd" (G,) bool,
            whose objects are neither learned nor counted; "truncated" (G,) bool; "areas" (G,) float64, in pixels.

        Raises
        ------
        IndexError
            If `index` is beyond the end.
        """
        ...


DRAWN: dict[str, Callable[..., Dataset]] = {"shapes": Shapes, "digits": Digits}
READERS: dict[str, tuple[Callable[..., Annotations], tuple[str, ...]]] = {  # each with the names of its options
    "voc": (read_voc, ("classes", "first_pixel")),
    "coco": (read_coco, ("classes", "images")),
    "csv": (read_csv, ("classes", "images")),
    "masks": (read_masks, ("class_name", "images", "masks")),
}


def load(
    name: str, split: str, n: int | None = None, seed: int = 0, options: Mapping[str, Any] | None = None
) -> Dataset:
    """Return the data set that `name` stands for in every command.

    Parameters
    ----------
    name : str
        "shapes" or "digits" for drawn pages; "voc:PATH", "coco:PATH", "csv:PATH" or "masks:PATH" for files, read as by
        `VOC`, `COCO`, `CSV` and `Masks`.
    split : str
        "train" or "val"; for files also any other split of theirs.
    n : int, optional
        Number of images: pages to draw, or the first n of the files. By default all.
    seed : int
        Seed of the drawn pages; ignored for files.
    options : mapping, optional
        Further arguments of the reader, by name: "on_error", "classes", "images", ...

    Returns
    -------
    Dataset
        The drawn pages, or the `AnnotatedImages`.

    Raises
    ------
    ValueError
        If the name or an option is unknown (the message lists the known ones), or as the reader raises.
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
    """Read the annotations of files as they are written, without opening an image.

    Parameters
    ----------
    name : str
        "voc:PATH", "coco:PATH", "csv:PATH" or "masks:PATH".
    split : str or None
        As in `load`; None means every image.
    n : int, optional
        Number of images: the first n of the split. `broken` stays that of the whole split.
    options : mapping, optional
        As in `load`, without "on_error".

    Returns
    -------
    Annotations
        A record for each image, valid or not.

    Raises
    ------
    ValueError, OSError
        As in `load`.
    """
    kind, _, path = name.partition(":")
    if kind not in READERS or not path:
        hint = f"; {name} is a path: write voc:{name}, or another kind" if os.path.exists(name) else ""
        raise ValueError(
            f"there is no data set {name!r}; there are: "
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

"""Data sets: images with the boxes and labels of their objects.

Training and evaluation require only the methods of the `Dataset` protocol. You can therefore write your own list-like
class instead of using a class of this package. `Shapes` and `Digits` draw artificial images, which are called pages.
`VOC`, `COCO`, `YOLO`, `Labelme`, `CVAT`, `LabelStudio`, `CSV`, `Table` and `Masks` read annotated image files. They
read only regular files. They refuse to open files outside the folders that you pass, even through a link inside such a
folder. The folder of the images may itself be a link; `validate` reports such a link.
"""

import os
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

from rcnn._validate import STRING, Rule, as_table, integer, listed, optional, shown
from rcnn.data.coco import COCO, read_coco
from rcnn.data.cvat import CVAT, read_cvat
from rcnn.data.digits import Digits
from rcnn.data.formats import find_formats
from rcnn.data.label_studio import LabelStudio, read_label_studio
from rcnn.data.labelme import Labelme, read_labelme
from rcnn.data.masks import Masks, read_masks
from rcnn.data.records import AnnotatedImages, Annotations, Broken, Record, frame_size, turn_boxes, upright_boxes
from rcnn.data.shapes import Shapes
from rcnn.data.splits import split
from rcnn.data.table import CSV, Table, read_csv, read_table
from rcnn.data.validation import validate
from rcnn.data.voc import VOC, read_voc
from rcnn.data.write import write_coco, write_csv, write_voc, write_yolo
from rcnn.data.yolo import YOLO, read_yolo

__all__ = [
    "AnnotatedImages",
    "Annotations",
    "Broken",
    "COCO",
    "CSV",
    "CVAT",
    "Dataset",
    "Digits",
    "LabelStudio",
    "Labelme",
    "Masks",
    "Record",
    "Shapes",
    "Table",
    "VOC",
    "YOLO",
    "find_formats",
    "frame_size",
    "load",
    "read_annotations",
    "read_coco",
    "read_csv",
    "read_cvat",
    "read_label_studio",
    "read_labelme",
    "read_masks",
    "read_table",
    "read_voc",
    "read_yolo",
    "split",
    "turn_boxes",
    "upright_boxes",
    "validate",
    "write_coco",
    "write_csv",
    "write_voc",
    "write_yolo",
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
            For the G objects in the image, "boxes" (G, 4) float32, in pixels, and "labels" (G,) int64. Four more arrays
            are optional. "difficult" and "crowd" (G,) bool mark objects that training and evaluation ignore.
            "truncated" (G,) bool marks objects that extend beyond their box. "areas" (G,) float64 gives the number of
            pixels of each object.

        Raises
        ------
        IndexError
            If there is no image with this index.
        """
        ...


DRAWN: dict[str, Callable[..., Dataset]] = {"shapes": Shapes, "digits": Digits}
READERS: dict[str, tuple[Callable[..., Annotations], tuple[str, ...]]] = {  # the reader of each format, and its options
    "voc": (read_voc, ("classes", "first_pixel", "unannotated")),
    "coco": (read_coco, ("classes", "images", "unannotated")),
    "csv": (read_csv, ("classes", "images", "unannotated")),
    "yolo": (read_yolo, ("classes", "unannotated")),
    "labelme": (read_labelme, ("classes", "unannotated")),
    "cvat": (read_cvat, ("classes", "unannotated")),
    "labelstudio": (read_label_studio, ("classes", "unannotated")),
    "masks": (read_masks, ("class_name", "images", "masks")),
}
OPTIONS = optional(Rule("a mapping from option names to values", as_table))


def load(
    name: str, split: str, n: int | None = None, seed: int = 0, options: Mapping[str, Any] | None = None
) -> Dataset:
    """Return the data set with a name such as "shapes" or "voc:PATH".

    Parameters
    ----------
    name : str
        "shapes" or "digits" for drawn pages. For files, "FORMAT:PATH", such as "voc:photos", where FORMAT is a key of
        `READERS`; or a path alone, which is read in the format that `find_formats` recognises.
    split : str
        "train" or "val". For files, any other split of the data set is also allowed, such as "test".
    n : int, optional
        Number of pages to draw, or number of images to use, from the start of the split. By default, 20,000 pages are
        drawn for "train" and 200 for "val"; for files, all images of the split are used.
    seed : int
        Seed of the drawn pages; ignored for files.
    options : mapping, optional
        Further arguments by name, such as {"on_error": "skip"} or {"classes": ["cat", "dog"]}. Drawn pages have no
        options.

    Returns
    -------
    Dataset
        `Shapes` or `Digits` for drawn pages, and `AnnotatedImages` for files.

    Raises
    ------
    TypeError
        If an argument has the wrong type.
    ValueError
        If the name or an option is unknown (the message then lists the known ones), or if the class of the data set,
        such as `VOC`, raises a ValueError.
    OSError
        If a file or folder is not found.

    Examples
    --------
    >>> pages = load("shapes", "train", n=10)
    >>> len(pages), pages[0][0].shape
    (10, (128, 128, 3))
    """
    further = OPTIONS.check("options", options) or {}
    integer(0).check("seed", seed)
    if STRING.check("name", name) in DRAWN:
        if further:
            raise ValueError(f"{name} takes no options, got {listed(list(map(shown, further)))}")
        return DRAWN[name](n, split=split, seed=seed)
    on_error = further.pop("on_error", "raise")
    return AnnotatedImages(read_annotations(name, split, n, further), on_error)


def read_annotations(
    name: str, split: str | None, n: int | None = None, options: Mapping[str, Any] | None = None
) -> Annotations:
    """Read annotations without opening an image. The values in the files are neither checked nor changed.

    Parameters
    ----------
    name : str
        "FORMAT:PATH", or a path alone; see `load`.
    split : str or None
        See `load`; None means every image.
    n : int, optional
        If given, only the first n records of the split are returned, but `broken` still covers the whole split.
    options : mapping, optional
        See `load`; "on_error" is not allowed here.

    Returns
    -------
    Annotations
        One record for each image, even if its boxes are invalid.

    Raises
    ------
    ValueError, OSError
        See `load`.
    """
    further = OPTIONS.check("options", options) or {}
    optional(STRING).check("split", split)
    n = optional(integer(0)).check("n", n)
    kind, _, path = STRING.check("name", name).partition(":")
    if not (kind in READERS and path) and os.path.exists(name):  # a folder can have the name of a format
        kind, path = find_formats(name)[0], name
    if kind not in READERS or not path:
        if os.sep in name and ":" not in name.partition(os.sep)[0]:
            raise FileNotFoundError(f"{shown(name)}: file or folder not found")
        raise ValueError(
            f"there is no data set {shown(name)}; the data sets are: "
            f"{', '.join((*DRAWN, *(f'{kind}:PATH' for kind in READERS)))}, and the path of a folder or file"
        )
    read, allowed = READERS[kind]
    for option in further:
        if option not in allowed:
            raise ValueError(
                f"{kind}:PATH has no option {shown(option)}; its options are on_error, {', '.join(allowed)}"
            )
    annotations = read(path, split, **further)
    return annotations if n is None else annotations.subset(range(min(n, len(annotations.records))))

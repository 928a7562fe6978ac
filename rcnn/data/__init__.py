"""Data sets: images with the boxes and labels of what is in them.

Everything that trains or evaluates asks for the `Dataset` protocol alone, so a list-like class of one's own serves as
well as those of this package. `Shapes` and `Digits` draw their pages; `VOC`, `COCO`, `CSV`, `Table` and `Masks` read
annotated image files, and nothing outside the folders that they are given.
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
        """The names of the labels; index 0 is "background"."""
        ...

    def __len__(self) -> int:
        """The number of images."""
        ...

    def __getitem__(self, index: int, /) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """(image (H, W, 3) uint8, {"boxes": (G, 4) float32, "labels": (G,) int64}); IndexError beyond the end.

        A target may also hold "difficult" and "crowd" (G,) bool, of objects that are neither learned nor counted,
        "truncated" (G,) bool, and "areas" (G,) float64.
        """
        ...


DRAWN: dict[str, Callable[..., Dataset]] = {"shapes": Shapes, "digits": Digits}
READERS: dict[str, tuple[Callable[..., Annotations], tuple[str, ...]]] = {  # with what else they can be told
    "voc": (read_voc, ("classes", "first_pixel")),
    "coco": (read_coco, ("classes", "images")),
    "csv": (read_csv, ("classes", "images")),
    "masks": (read_masks, ("class_name", "images", "masks")),
}


def load(
    name: str, split: str, n: int | None = None, seed: int = 0, options: Mapping[str, Any] | None = None
) -> Dataset:
    """The data set that `name` stands for in every command.

    Args:
        name: "shapes" or "digits", which are drawn; or "voc:PATH", "coco:PATH", "csv:PATH", "masks:PATH", which are
            read as `VOC`, `COCO`, `CSV` and `Masks` do.
        split: "train" or "val"; of what is read also another that is there.
        n: number of images; None means the split's own number. Of what is read, the first n.
        seed: of the drawn pages.
        options: further arguments of what reads PATH, by name: "on_error", "classes", "images", ...

    Raises ValueError for an unknown name or option, listing those that exist, and what the readers raise.
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
    """The annotations of "voc:PATH", "coco:PATH", "csv:PATH" or "masks:PATH", right or wrong; no image is opened.

    Arguments and errors as in `load`, but that "on_error" is no option; a split of None means every image. With n,
    what is `broken` is that of the whole split.
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

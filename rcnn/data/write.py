"""Data sets written out as folders that `VOC`, `COCO` and `CSV` read back to the same bits.

Images become PNG files. Coordinates are written with as many digits as they have, so float32 boxes come back as they
were; in VOC, which counts from 1, to within 1e-16 of a pixel below 2e-9. What a form does not know is written as the
nearest that it does: a crowd in VOC as a difficult object; the areas of objects are kept by COCO alone, which
does not know whether an object is truncated.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol
from xml.etree import ElementTree

import numpy as np
from tqdm import tqdm

from rcnn._files import write_whole
from rcnn._validate import as_index_array, check_boxes, check_finite
from rcnn.boxes import area
from rcnn.data.reading import CLASSES_FILE, FLAG_NAMES, Thing, check_classes, stated_classes
from rcnn.data.table import COLUMNS
from rcnn.data.voc import CORNERS
from rcnn.images import as_png

Target = dict[str, np.ndarray]


class Images(Protocol):
    """What is written: see `rcnn.data.Dataset`."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the labels, the background first."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> tuple[np.ndarray, Target]: ...


def write_voc(dataset: Images, folder: str | os.PathLike[str], split: str, progress: bool = True) -> None:
    """Writes JPEGImages, Annotations, ImageSets/Main/SPLIT.txt and classes.txt.

    Called for another split of the same folder, it adds that one. Raises FileExistsError where the folder has such a
    split already, ValueError where it has other classes, and for names of a split or a class that cannot be written.
    """
    root = Path(folder)
    image_set = root / "ImageSets" / "Main" / f"{split}.txt"
    _prepare(dataset, root, split, image_set, "JPEGImages", "Annotations", "ImageSets/Main")
    _state_classes(root, dataset.classes)
    stems = []
    for stem, image, things in _images(dataset, split, progress):
        write_whole(root / "JPEGImages" / f"{stem}.png", as_png(image), flush=False)
        write_whole(root / "Annotations" / f"{stem}.xml", _voc_xml(f"{stem}.png", image, things), flush=False)
        stems.append(stem)
    write_whole(image_set, "".join(f"{stem}\n" for stem in stems).encode())


def write_coco(dataset: Images, folder: str | os.PathLike[str], split: str, progress: bool = True) -> None:
    """Writes images and annotations/instances_SPLIT.json.

    Categories have the numbers of `dataset.category_ids` if it has them, else those of the labels; images are
    numbered from 1. Other splits, and errors, as in `write_voc`.
    """
    root = Path(folder)
    path = root / "annotations" / f"instances_{split}.json"
    _prepare(dataset, root, split, path, "images", "annotations")
    numbers = getattr(dataset, "category_ids", ()) or range(len(dataset.classes))
    ids = dict(zip(dataset.classes[1:], numbers[1:], strict=True))
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for stem, image, things in _images(dataset, split, progress):
        write_whole(root / "images" / f"{stem}.png", as_png(image), flush=False)
        height, width = image.shape[:2]
        images.append({"id": len(images) + 1, "file_name": f"{stem}.png", "width": width, "height": height})
        for thing in things:
            annotations.append({"id": len(annotations) + 1, "image_id": len(images), **_coco_annotation(thing, ids)})
    categories = [{"id": number, "name": name} for name, number in ids.items()]
    content = {"images": images, "annotations": annotations, "categories": categories}
    write_whole(path, json.dumps(content, ensure_ascii=False).encode())


def write_csv(dataset: Images, folder: str | os.PathLike[str], split: str, progress: bool = True) -> None:
    """Writes images, SPLIT.csv and classes.txt; other splits, and errors, as in `write_voc`."""
    root = Path(folder)
    path = root / f"{split}.csv"
    _prepare(dataset, root, split, path, "images")
    _state_classes(root, dataset.classes)
    text = io.StringIO(newline="")
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow((*COLUMNS, *FLAG_NAMES, "width", "height"))
    for stem, image, things in _images(dataset, split, progress):
        name, size = f"images/{stem}.png", (image.shape[1], image.shape[0])
        write_whole(root / name, as_png(image), flush=False)
        for thing in things:
            flags = (int(getattr(thing, flag)) for flag in FLAG_NAMES)
            rows.writerow((name, *map(_plain, thing.box), thing.name, *flags, *size))
        if not things:
            rows.writerow((name, *[""] * (len(COLUMNS) - 1 + len(FLAG_NAMES)), *size))
    write_whole(path, text.getvalue().encode())


# ---------------------------------------------------------------------- what every form needs


def _prepare(dataset: Images, root: Path, split: str, listing: Path, *folders: str) -> None:
    """Makes the folders; errors where names cannot be written, or the split is there."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", split):
        raise ValueError(f"split must be a plain name such as 'train', got {split!r}")
    for name in dataset.classes:
        if name != name.strip() or not name.isprintable():
            raise ValueError(f"the class {name!r} has blanks around its name, or what cannot be printed")
    if check_classes(dataset.classes) != tuple(dataset.classes):
        raise ValueError(f"the classes must begin with the background, got {dataset.classes}")
    if listing.exists():
        raise FileExistsError(f"{listing} is there already")
    for folder in folders:
        (root / folder).mkdir(parents=True, exist_ok=True)


def _state_classes(root: Path, classes: Sequence[str]) -> None:
    """Writes classes.txt, for not every class need occur, and labels follow its order."""
    there = stated_classes(root)
    if there is None:
        write_whole(root / CLASSES_FILE, "".join(f"{name}\n" for name in classes[1:]).encode())
    elif there != tuple(classes):
        raise ValueError(f"{root} has the classes {', '.join(there[1:])}, not {', '.join(classes[1:])}")


def _images(dataset: Images, split: str, progress: bool) -> Iterator[tuple[str, np.ndarray, list[Thing]]]:
    """(the name of its file without suffix, image, objects) of every image."""
    for i in tqdm(range(len(dataset)), desc=f"write {split}", unit="image", disable=not progress):
        image, target = dataset[i]
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(f"image {i} must be (H, W, 3) uint8 to be written, got {image.shape} {image.dtype}")
        yield f"{split}_{i:06d}", image, _things(target, dataset.classes, f"image {i}")


def _things(target: Target, classes: Sequence[str], place: str) -> list[Thing]:
    """The objects of a target; ValueError for numbers that no reader would take."""
    boxes = check_boxes(target["boxes"], f"boxes of {place}").astype(np.float64)  # (G, 4)
    check_finite(boxes, f"boxes of {place}")
    labels = as_index_array(target["labels"], f"labels of {place}", len(boxes))  # (G,)
    if len(labels) and not 1 <= labels.min() <= labels.max() < len(classes):
        raise ValueError(f"labels of {place} are {labels.tolist()}; labels are 1 to {len(classes) - 1}")
    none = np.zeros(len(boxes), np.bool_)
    columns = (
        boxes.tolist(),
        labels,
        target.get("difficult", none),
        target.get("crowd", none),
        target.get("truncated", none),
        target.get("areas", area(boxes)),
    )
    return [
        Thing((x1, y1, x2, y2), classes[label], bool(difficult), bool(crowd), bool(truncated), float(covered))
        for (x1, y1, x2, y2), label, difficult, crowd, truncated, covered in zip(*columns, strict=True)
    ]


def _voc_xml(name: str, image: np.ndarray, things: Sequence[Thing]) -> bytes:
    """The annotation of an image; the first pixel is 1, and the last one belongs to the box."""
    root = ElementTree.Element("annotation")
    _add(root, "folder", "JPEGImages")
    _add(root, "filename", name)
    size = _add(root, "size")
    for side, value in zip(("height", "width", "depth"), image.shape, strict=True):
        _add(size, side, value)
    _add(root, "segmented", 0)
    for thing in things:
        element = _add(root, "object")
        _add(element, "name", thing.name)
        _add(element, "truncated", int(thing.truncated))
        _add(element, "difficult", int(thing.difficult or thing.crowd))
        box = _add(element, "bndbox")
        x1, y1, x2, y2 = thing.box
        for corner, value in zip(CORNERS, (x1 + 1, y1 + 1, x2, y2), strict=True):
            _add(box, corner, _plain(value))
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="utf-8") + b"\n"


def _add(parent: ElementTree.Element, tag: str, value: object = None) -> ElementTree.Element:
    """A new element in `parent`, with `value` for its text."""
    element = ElementTree.SubElement(parent, tag)
    element.text = None if value is None else str(value)
    return element


def _coco_annotation(thing: Thing, ids: Mapping[str, int]) -> dict[str, Any]:
    x1, y1, x2, y2 = thing.box
    entry: dict[str, Any] = {
        "category_id": ids[thing.name],
        "bbox": [_plain(v) for v in (x1, y1, x2 - x1, y2 - y1)],
        "area": _plain(thing.area or 0.0),
        "iscrowd": int(thing.crowd),
    }
    return entry | {"ignore": 1} if thing.difficult else entry


def _plain(value: float) -> int | float:
    """A whole number as an integer, which reads better in a file."""
    return int(value) if value.is_integer() else value

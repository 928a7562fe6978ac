"""Writers of data sets in the formats that `VOC`, `COCO`, `YOLO` and `CSV` read.

Images become PNG files. Coordinates are written with all their digits, so float32 boxes are read back unchanged. There
are two exceptions. Because VOC counts from 1, coordinates below 2e-9 pixels change by up to 1e-16 pixels. Because YOLO
stores fractions of the size of the image, coordinates below 1e-6 pixels change by up to 1e-9 pixels.

Not every format can store every property of an object. VOC has no crowds, so crowds become difficult objects. YOLO has
no difficult objects and no crowds, so these become ordinary objects. Only COCO stores the areas of objects. COCO does
not store whether an object is truncated.
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

from rcnn._files import check_path, write_whole
from rcnn._validate import Rule, as_index_array, as_string, check_boxes, check_finite, check_flags, listed, shown
from rcnn.data.protocol import check_areas, check_dataset, item_of
from rcnn.data.reading import CLASSES_FILE, FLAG_NAMES, Thing, check_classes, stated_classes
from rcnn.data.table import COLUMNS
from rcnn.data.voc import CORNERS
from rcnn.images import as_png

Target = Mapping[str, np.ndarray]
SPLIT = Rule(
    "a name of letters, digits, - and _, such as train",
    as_string,
    lambda name: re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name) is not None,
)


class Images(Protocol):
    """A data set to write; see `rcnn.data.Dataset`."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of their labels, starting with the background."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> tuple[np.ndarray, Target]: ...


def write_voc(dataset: Images, folder: str | os.PathLike[str], split: str, progress: bool = True) -> None:
    """Write a data set in VOC format: JPEGImages, Annotations, ImageSets/Main/SPLIT.txt and classes.txt.

    SPLIT is the name of the split. If the folder already contains other splits, the new split is added.

    Parameters
    ----------
    dataset : Dataset
        Images and targets.
    folder : path
        Folder to write to. If it does not exist, it is created.
    split : str
        Name of the split. It may contain letters, digits, - and _.
    progress : bool
        Show a progress bar.

    Raises
    ------
    FileExistsError
        If the folder already has this split.
    ValueError
        If the folder has other classes, a name cannot be written, or an image or a target is invalid.
    TypeError
        If `dataset` or one of its items does not follow the protocol `rcnn.data.Dataset`.
    """
    root = Path(check_path(folder, "folder"))
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
    """Write a data set in COCO format: images and annotations/instances_SPLIT.json.

    SPLIT is the name of the split. The ids of the categories are `dataset.category_ids` if this attribute exists, and
    otherwise the labels. Image ids start at 1.

    Parameters
    ----------
    dataset, folder, split, progress : Dataset, path, str, bool
        See `write_voc`.

    Raises
    ------
    FileExistsError, ValueError
        As in `write_voc`, except that the folder may have other classes.
    """
    root = Path(check_path(folder, "folder"))
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
    """Write a data set as images, a file SPLIT.csv named after the split, and classes.txt.

    Parameters
    ----------
    dataset, folder, split, progress : Dataset, path, str, bool
        See `write_voc`.

    Raises
    ------
    FileExistsError, ValueError
        As in `write_voc`.
    """
    root = Path(check_path(folder, "folder"))
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


def write_yolo(dataset: Images, folder: str | os.PathLike[str], split: str, progress: bool = True) -> None:
    """Write a data set in YOLO format: images/SPLIT, labels/SPLIT and data.yaml, which also lists the other splits.

    Parameters
    ----------
    dataset, folder, split, progress : Dataset, path, str, bool
        See `write_voc`.

    Raises
    ------
    FileExistsError, ValueError
        As in `write_voc`.
    """
    import yaml

    root = Path(check_path(folder, "folder"))
    _prepare(dataset, root, split, root / "labels" / split, f"images/{split}", f"labels/{split}")
    _state_classes(root, dataset.classes)
    for stem, image, things in _images(dataset, split, progress):
        lines = [_yolo_line(thing, dataset.classes, image.shape) for thing in things]
        write_whole(root / "images" / split / f"{stem}.png", as_png(image), flush=False)
        write_whole(root / "labels" / split / f"{stem}.txt", "".join(lines).encode(), flush=False)
    splits = sorted(path.name for path in (root / "images").iterdir())
    content = {name: f"images/{name}" for name in splits} | {"names": dict(enumerate(dataset.classes[1:]))}
    write_whole(root / "data.yaml", yaml.safe_dump(content, allow_unicode=True, sort_keys=False).encode())


# ---------------------------------------------------------------------- shared by all formats


def _prepare(dataset: Images, root: Path, split: str, listing: Path, *folders: str) -> None:
    """Create the folders; raise an error if a name cannot be written, or if the split already exists."""
    SPLIT.check("split", split)
    check_dataset(dataset)
    for name in dataset.classes:
        if name != name.strip() or not name.isprintable():
            raise ValueError(f"class names must be printable and have no surrounding blanks, got {shown(name)}")
    if check_classes(dataset.classes) != tuple(dataset.classes):
        raise ValueError(f"classes must begin with the background, got {shown(dataset.classes)}")
    if os.path.lexists(listing):
        raise FileExistsError(f"{listing} already exists")
    for folder in folders:
        (root / folder).mkdir(parents=True, exist_ok=True)


def _state_classes(root: Path, classes: Sequence[str]) -> None:
    """Write classes.txt, which stores the order of the labels and also the classes without objects."""
    existing = stated_classes(root)
    if existing is None:
        write_whole(root / CLASSES_FILE, "".join(f"{name}\n" for name in classes[1:]).encode())
    elif existing != tuple(classes):
        raise ValueError(f"classes must be those of {root} ({listed(existing[1:])}), got {listed(classes[1:])}")


def _images(dataset: Images, split: str, progress: bool) -> Iterator[tuple[str, np.ndarray, list[Thing]]]:
    """Yield the file name without suffix, the image and the objects of each image."""
    for i in tqdm(range(len(dataset)), desc=f"write {split}", unit="image", disable=None if progress else True):
        image, target = item_of(dataset, i)
        if image.dtype != np.uint8 or image.shape[2] != 3:
            raise ValueError(
                f"image {i} must be an (H, W, 3) array of uint8 to be written, got {image.shape} {image.dtype}"
            )
        yield f"{split}_{i:06d}", image, _things(target, dataset.classes, f"image {i}")


def _things(target: Target, classes: Sequence[str], source: str) -> list[Thing]:
    """Return the objects of a target; raise ValueError for values that the readers would not accept."""
    boxes = check_boxes(target["boxes"], f"boxes of {source}").astype(np.float64)  # (G, 4)
    check_finite(boxes, f"boxes of {source}")
    labels = as_index_array(target["labels"], f"labels of {source}", len(boxes))  # (G,)
    if len(labels) and not 1 <= labels.min() <= labels.max() < len(classes):
        raise ValueError(f"labels of {source} must be from 1 to {len(classes) - 1}, got {shown(labels.tolist())}")
    name = f"the target of {source}"
    columns = (
        boxes.tolist(),
        labels,
        *(check_flags(target, flag, len(boxes), name) for flag in FLAG_NAMES),
        check_areas(target, boxes, name),
    )
    return [
        Thing((x1, y1, x2, y2), classes[label], bool(difficult), bool(crowd), bool(truncated), float(covered))
        for (x1, y1, x2, y2), label, difficult, crowd, truncated, covered in zip(*columns, strict=True)
    ]


def _voc_xml(name: str, image: np.ndarray, things: Sequence[Thing]) -> bytes:
    """Return the XML of an image; VOC counts pixels from 1, and xmax and ymax are the last pixels inside the box."""
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
    """Add an element to `parent`, with `value` as its text, and return it."""
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


def _yolo_line(thing: Thing, classes: Sequence[str], shape: Sequence[int]) -> str:
    """Return the line of an object: the number of its class, and its box as fractions of the size of the image."""
    x1, y1, x2, y2 = thing.box
    height, width = shape[:2]
    numbers = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
    return f"{classes.index(thing.name) - 1} {' '.join(map(repr, numbers))}\n"


def _plain(value: float) -> int | float:
    """Convert a whole number to int, because its text is shorter."""
    return int(value) if value.is_integer() else value

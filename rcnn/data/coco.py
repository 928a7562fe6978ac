"""Reader of the COCO format: one JSON file describes all images.

A box is written as x, y, width, height. Category ids may have gaps. The categories are sorted by their ids and get the
labels 1, 2, ... in this order.

References
----------
Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014; format: cocodataset.org/#format-data.
"""

from __future__ import annotations

import json
import os
import reprlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rcnn._files import read_whole
from rcnn._validate import MAX_CLASSES, listed, shown
from rcnn.data.coco_folders import find_files, image_folders
from rcnn.data.reading import (
    BACKGROUND,
    MAX_ID_LENGTH,
    Thing,
    as_flag,
    as_id,
    as_number,
    as_size,
    check_classes,
    check_link,
    clean_name,
    given_path,
    inside,
    make_record,
    read_each,
)
from rcnn.data.records import AnnotatedImages, Annotations, Broken, Record
from rcnn.data.search import Search
from rcnn.data.splits import SKIP, choose, plain_name, source_of, without_annotation

NO_CATEGORY = -1  # category id of the background
INTEGER = "an integer of at most 64 bits"
IDS = f"{INTEGER} or a string of at most {MAX_ID_LENGTH:,} characters"
MAX_JSON = 1 << 31  # bytes of a JSON file, more than four times the size of COCO's largest file


class COCO(AnnotatedImages):
    """Images described by a JSON file in COCO format.

    `category_ids[label]` is the category id, in the file, of the class with this label. Targets mark objects whose
    "iscrowd" is 1 as crowds. They mark objects whose "ignore" is 1 as difficult; programs that convert VOC files to
    COCO format write this key. If "area" is missing, the area of the box is used. "segmentation" is only used if "bbox"
    is missing. The ids of annotations are ignored. A JSON file can be at most 2 GiB in size. Category ids must be
    integers of at most 64 bits. Image ids may also be strings of at most 1,000 characters. Integers may be written as
    text, or as 1.0.

    Parameters
    ----------
    annotations : path
        A JSON file, or a folder in one of four layouts. (1) It contains annotations/instances_train*.json and
        annotations/instances_val*.json. (2) It contains train.json and val.json, or annotations/train.json and
        annotations/val.json. (3) It contains train/_annotations.coco.json and valid/_annotations.coco.json. (4) It
        contains a single JSON file. Names such as `Train` and `Validation`, as in exports of CVAT, mean the splits
        "train" and "val".
    split : str, optional
        "train", "val" or another split, such as "test". If there is no file for "val", some of the other images are
        held out for validation (see `rcnn.data.split`). By default, every image is read.
    images : path, optional
        Folder of the images. By default, these folders are searched in this order: the folder of the split, a folder
        such as `images`, and the data folder itself.
    classes : sequence of str, optional
        Class names for the labels 1, 2, ..., with or without a leading "background". By default, the classes are the
        categories of all splits, in ascending order of their ids, except for groups. A group is a category that has no
        objects and is the "supercategory" of other categories. (Roboflow writes such a group.)
    unannotated : {"skip", "empty"}
        "skip" leaves out images that no JSON file names; "empty" reads them as images without objects. `rcnn check`
        lists these images.
    on_error, progress : str, bool
        See `AnnotatedImages`.
    """

    def __init__(
        self,
        annotations: str | os.PathLike[str],
        split: str | None = None,
        images: str | os.PathLike[str] | None = None,
        classes: Sequence[str] | None = None,
        unannotated: str = SKIP,
        on_error: str = "raise",
        progress: bool = True,
    ) -> None:
        super().__init__(read_coco(annotations, split, images, classes, unannotated), on_error, progress)


@dataclass(frozen=True)
class Category:
    """The description of a category in a JSON file."""

    name: str
    used: bool  # True if an object has this class
    group: str | None = None  # the supercategory of the class


@dataclass(frozen=True, eq=False)
class Found:
    """The contents of one JSON file."""

    entries: list[Record | Broken]
    categories: dict[int, Category]


def read_coco(
    annotations: str | os.PathLike[str],
    split: str | None = None,
    images: str | os.PathLike[str] | None = None,
    classes: Sequence[str] | None = None,
    unannotated: str = SKIP,
) -> Annotations:
    """Read the annotations of a JSON file, or of a folder with JSON files.

    Parameters
    ----------
    annotations, split, images, classes, unannotated : path, str, path, sequence of str, str
        See `COCO`.

    Returns
    -------
    Annotations
        The annotations. Their attribute `broken` lists the images with invalid entries.

    Raises
    ------
    OSError
        If a file or folder is not found, or a file is not a regular file.
    ValueError
        If the folder has none of the four layouts, the split does not exist, a file is not JSON in COCO's format, or a
        file in the folder is a link to a file outside the folder.
    """
    everything, parts = find_files(annotations)
    source, _ = source_of(None if split is None else plain_name(split), parts, str(annotations))
    wanted = everything if source is None else [parts[source]]
    needed = wanted if classes is not None else dict.fromkeys([*everything, *parts.values()])
    for path in needed:
        if path != given_path(annotations, "annotations"):  # a path that the user typed may be a link
            check_link(path, given_path(annotations, "annotations"))
    found = {path: _read_file(path, images) for path in needed}
    names, category_ids = _choose_classes([found[path] for path in needed], classes)
    members = {name: partial(getattr, found.get(path), "entries") for name, path in parts.items()}
    everything_read = [entry for path in needed for entry in found[path].entries]
    if len(needed) >= len(everything):  # otherwise, a file that was not read may name the images
        everything_read += without_annotation(everything_read)
    return choose(everything_read, members, split, str(annotations), names, unannotated, category_ids)


# ---------------------------------------------------------------------- classes


def _choose_classes(files: Sequence[Found], classes: Sequence[str] | None) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return the class names and category ids in the order of `classes`, or sorted by id if `classes` is None."""
    ids = _ids_by_name(files)
    groups = _unused_groups(files)
    names = (BACKGROUND, *(name for name in ids if name not in groups)) if classes is None else check_classes(classes)
    if len(names) > MAX_CLASSES:
        raise ValueError(f"there are {len(names) - 1:,} categories; at most {MAX_CLASSES - 1:,} are allowed")
    for name in names[1:]:
        if name not in ids:
            raise ValueError(f"there is no category {name!r}; the categories are: {listed(list(ids))}")
    return names, (NO_CATEGORY, *(ids[name] for name in names[1:]))


def _ids_by_name(files: Sequence[Found]) -> dict[str, int]:
    """Return a dict from category names to ids, in ascending order of the ids.

    Some programs add a category without objects, for the background or for the whole data set. The category
    "background" is left out. A category without objects is also left out if another category has the same name. Raise
    ValueError if two categories with objects have the same name, or if one id has two names.
    """
    names: dict[int, str] = {}
    for found in files:
        for number, category in found.categories.items():
            if names.setdefault(number, category.name) != category.name:
                raise ValueError(
                    f"category {number} is {names[number]!r} in one file and {category.name!r} in another; write the "
                    "same categories, with the same ids, to the files of all splits"
                )
    used = {number for found in files for number, category in found.categories.items() if category.used}
    ids: dict[str, int] = {}
    for number in sorted(names, key=lambda number: (number not in used, number)):
        name = names[number]
        if number in used and name in ids:
            raise ValueError(f"categories {ids[name]} and {number} have the same name, {name!r}")
        ids.setdefault(name, number)
    ids.pop(BACKGROUND, None)
    return dict(sorted(ids.items(), key=lambda item: item[1]))


def _unused_groups(files: Sequence[Found]) -> set[str]:
    """Return the names of the categories that group other categories and have no objects themselves."""
    categories = [category for found in files for category in found.categories.values()]
    groups = {category.group for category in categories if category.group != category.name}
    used = {category.name for category in categories if category.used}
    return {category.name for category in categories if category.name in groups} - used


# ---------------------------------------------------------------------- one file


def _read_file(path: Path, images: str | os.PathLike[str] | None) -> Found:
    """Read a JSON file; raise OSError or ValueError, with the path, if the file as a whole cannot be read."""
    try:
        content = json.loads(read_whole(path, MAX_JSON))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(
            f"{path} is not in COCO format: it is a {type(content).__name__}, not an object {{...}} with lists of "
            "images, annotations and categories"
        )
    tables = {}
    for key in ("images", "annotations", "categories"):
        if not isinstance(content.get(key), list):
            keys = ", ".join(reprlib.repr(key) for key in list(content)[:10]) or "none"
            hint = f"; it is in the format of labelme, so use labelme:{path.parent}" if "shapes" in content else ""
            raise ValueError(f"{path} is not in COCO format: it has no list {key!r}; its keys: {keys}{hint}")
        tables[key] = content[key]
    names = _category_names(tables["categories"], path)
    groups = {as_id(entry["id"]): entry.get("supercategory") for entry in tables["categories"]}
    by_image, broken = _sort_by_image(tables["annotations"], tables["images"], path.name)
    entries = _read_images(tables["images"], by_image, names, path, images)
    things = [thing for group in by_image.values() for _, thing in group]
    used = {as_id(thing.get("category_id")) for thing in things}
    return Found(
        [*entries, *broken],
        {number: Category(name, number in used, _text(groups[number])) for number, name in names.items()},
    )


def _category_names(table: Sequence[Any], path: Path) -> dict[int, str]:
    """Return a dict from category ids to names."""
    names: dict[int, str] = {}
    for i, entry in enumerate(table):
        what = f"{path}, categories[{i}]"
        number = as_id(entry.get("id")) if isinstance(entry, dict) else None
        if not isinstance(number, int):
            raise ValueError(f"{what}: {_without_id(entry, 'id', INTEGER)}")
        name = clean_name(entry.get("name"), f"{what}: the name")
        if names.setdefault(number, name) != name:
            raise ValueError(f"{what} is {name!r}, but its id {number} already belongs to {names[number]!r}")
    return names


Group = list[tuple[int, dict[str, Any]]]  # the annotations of an image, each with its index in the file


def _sort_by_image(
    table: Sequence[Any], images: Sequence[Any], filename: str
) -> tuple[dict[int | str, Group], list[Broken]]:
    """Return the annotations of each image, and the annotations that belong to no image."""
    ids = {as_id(entry.get("id")) for entry in images if isinstance(entry, dict)} - {None}
    by_image: dict[int | str, Group] = {number: [] for number in ids if number is not None}
    broken = []
    for i, entry in enumerate(table):
        image_id = as_id(entry.get("image_id")) if isinstance(entry, dict) else None
        if image_id is None:
            broken.append(Broken(f"{filename}, annotations[{i}]", _without_id(entry, "image_id")))
        elif image_id not in by_image:
            broken.append(
                Broken(f"{filename}, annotations[{i}]", f"there is no image with the id {reprlib.repr(image_id)}")
            )
        else:
            by_image[image_id].append((i, entry))
    return by_image, broken


def _without_id(entry: Any, key: str, allowed: str = IDS) -> str:
    """Return the reason why an entry has no valid id: it is not an object, lacks the key, or has an invalid value."""
    if not isinstance(entry, dict) or entry.get(key) is None:
        return f"it has no {key}: {shown(entry)}"
    return f"its {key} must be {allowed}, got {shown(entry[key])}"


def _read_images(
    table: Sequence[Any],
    by_image: Mapping[int | str, Group],
    names: Mapping[int, str],
    path: Path,
    images: str | os.PathLike[str] | None,
) -> list[Record | Broken]:
    """Return a record for each image, or a `Broken` that gives the reason why the image's entry is invalid."""
    search = Search(image_folders(path, images))
    times = Counter(as_id(entry.get("id")) for entry in table if isinstance(entry, dict))
    entries: list[Record | Broken] = []
    for i, entry in enumerate(table):
        source = f"{path.name}, images[{i}]"
        try:
            image_id = as_id(entry.get("id")) if isinstance(entry, dict) else None
            if image_id is None:
                raise ValueError(_without_id(entry, "id"))
            source = f"{path.name}, image {reprlib.repr(image_id)}"
            if times[image_id] > 1:
                raise ValueError(f"{times[image_id]} images have this id, so boxes cannot be assigned to one image")
            name = entry.get("file_name")
            image = search.find(name) or inside(search.folders[0], name)
            things, faults = read_each(partial(_read_thing, names=names), by_image[image_id], source)
            size = as_size(*(_stated_side(entry.get(side)) for side in ("width", "height")))
            own_id = entry["id"] if isinstance(entry["id"], str) else image_id  # results contain the file's own ids
            entries.append(make_record(image, source, things, size, own_id, faults))
        except ValueError as error:
            entries.append(Broken(source, str(error), str(entry.get("file_name")) if isinstance(entry, dict) else ""))
    _check_found(entries, table, path, search.folders)
    return entries


def _check_found(entries: Sequence[Record | Broken], table: Sequence[Any], path: Path, folders: Sequence[Path]) -> None:
    """Raise FileNotFoundError if the annotations list images, but none of the image files exists."""
    records = [entry for entry in entries if isinstance(entry, Record)]
    if not records or any(record.image.is_file() for record in records):
        return
    name = table[0].get("file_name") if isinstance(table[0], dict) else table[0]
    raise FileNotFoundError(
        f"none of the {len(entries)} images of {path} ({reprlib.repr(name)}, ...) is in any of these folders: "
        f"{', '.join(map(str, folders))}; pass their folder as the argument or option 'images'"
    )


def _stated_side(value: object) -> object:
    """Return a width or height from the file. Return None for -1, which VIA writes if it has not opened the image."""
    return None if value == -1 else value


def _read_thing(entry: tuple[int, Mapping[str, Any]], number: int, names: Mapping[int, str]) -> list[Thing]:
    """Read one annotation; raise ValueError if its box or its category is invalid."""
    del number
    source, annotation = f"annotations[{entry[0]}]", entry[1]
    stated, box = annotation.get("category_id"), annotation.get("bbox")
    category = as_id(stated)
    if not isinstance(category, int):
        raise ValueError(f"category_id of {source} must be an integer, got {reprlib.repr(stated)}")
    if box is None and isinstance(annotation.get("segmentation"), list):
        box = _box_around(annotation["segmentation"], source)
    if not isinstance(box, list) or len(box) != 4:
        raise ValueError(f"bbox of {source} must be [x, y, width, height], got {reprlib.repr(box)}")
    x, y, width, height = (as_number(value, f"bbox of {source}") for value in box)
    area = None if annotation.get("area") is None else as_number(annotation["area"], f"area of {source}")
    if area is not None and not area >= 0:
        raise ValueError(f"area of {source} must be at least 0, got {area}")
    thing = Thing(
        (x, y, x + width, y + height),
        names.get(category, f"category {category}"),
        difficult=as_flag(annotation.get("ignore"), f"ignore of {source}"),
        crowd=as_flag(annotation.get("iscrowd"), f"iscrowd of {source}"),
        area=area,
    )
    return [thing]


def _box_around(polygons: Sequence[Any], source: str) -> list[float] | None:
    """Return x, y, width and height of the box around polygons [[x, y, x, y, ...], ...]; None if there are none."""
    if not polygons or not all(isinstance(polygon, list) and len(polygon) >= 6 for polygon in polygons):
        return None
    numbers = [[as_number(value, f"segmentation of {source}") for value in polygon] for polygon in polygons]
    xs = [x for polygon in numbers for x in polygon[::2]]
    ys = [y for polygon in numbers for y in polygon[1::2]]
    return [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]


def _text(value: object) -> str | None:
    """Return a string without surrounding blanks, or None if `value` is not a string."""
    return value.strip() if isinstance(value, str) else None

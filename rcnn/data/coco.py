"""Images with one JSON file for all of them, as COCO has it.

Lin et al., "Microsoft COCO: Common Objects in Context", 2014, and cocodataset.org/#format-data. A box is written x, y,
width, height; categories have numbers that need not follow one another, and labels are their places in rising order.
"""

from __future__ import annotations

import json
import os
import reprlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rcnn.data.coco_folders import find_files, find_images
from rcnn.data.reading import (
    BACKGROUND,
    Thing,
    as_flag,
    as_number,
    as_size,
    check_classes,
    clean_name,
    inside,
    make_record,
    with_labels,
)
from rcnn.data.records import AnnotatedImages, Annotations, Broken, Record
from rcnn.data.splits import part_of, source_of

NO_CATEGORY = -1  # the number of the background


class COCO(AnnotatedImages):
    """Images that a JSON file in COCO's form describes; `category_ids[label]` is the number of a class in it.

    Crowds (`iscrowd`) are marked in the targets, "area" is used where it is stated, and the outlines of objects
    ("segmentation", polygons or run lengths) are not looked at. "ignore", which conversions from VOC write for
    difficult objects, marks them. An annotation's own number has no meaning here.

    annotations: a JSON file; or a folder with annotations/instances_train*.json and instances_val*.json, with
        train.json and val.json (here or in annotations), or with _annotations.coco.json in each of the folders train
        and valid; or with a single JSON file.
    split: "train", "val" or another of these files; images are held out where there is none for "val" (see
        `rcnn.data.split`). None means every image.
    images: the folder of the images. None looks beside the annotations: in the folder of the split, in images, and in
        the folder itself.
    classes: the names of the labels 1, 2, ..., with or without "background" in front. None means the categories of all
        splits, by their numbers, but for groups: categories without an object of which others say that they are their
        "supercategory", as Roboflow writes one.
    on_error, progress: as in `AnnotatedImages`.
    """

    def __init__(
        self,
        annotations: str | os.PathLike[str],
        split: str | None = None,
        images: str | os.PathLike[str] | None = None,
        classes: Sequence[str] | None = None,
        on_error: str = "raise",
        progress: bool = True,
    ) -> None:
        super().__init__(read_coco(annotations, split, images, classes), on_error, progress)


@dataclass(frozen=True)
class Category:
    """A class as a file describes it: its name, whether any object is of it, and the group that it belongs to."""

    name: str
    used: bool
    group: str | None = None


@dataclass(frozen=True, eq=False)
class Found:
    """What one JSON file says."""

    entries: list[Record | Broken]
    categories: dict[int, Category]


def read_coco(
    annotations: str | os.PathLike[str],
    split: str | None = None,
    images: str | os.PathLike[str] | None = None,
    classes: Sequence[str] | None = None,
) -> Annotations:
    """What a JSON file or a folder of them says; arguments as in `COCO`.

    Raises OSError for what is not there, ValueError for a folder of another form, a split that it does not have, and a
    file that is not COCO's JSON; an image whose entries in it make no sense is among the `broken`.
    """
    everything, parts = find_files(annotations)
    source, hold_out = source_of(split, parts, str(annotations))
    wanted = everything if source is None else [parts[source]]
    needed = wanted if classes is not None else dict.fromkeys([*everything, *parts.values()])
    found = {path: _read_file(path, images) for path in needed}
    names, category_ids = _choose_classes([found[path] for path in needed], classes)
    entries = (entry for path in wanted for entry in found[path].entries)
    return part_of(with_labels(entries, names, category_ids), split, hold_out, str(annotations))


# ---------------------------------------------------------------------- classes


def _choose_classes(files: Sequence[Found], classes: Sequence[str] | None) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """(the names of the labels, the categories' numbers), by rising number or in the order of `classes`."""
    ids = _ids_by_name(files)
    groups = _unused_groups(files)
    names = (BACKGROUND, *(name for name in ids if name not in groups)) if classes is None else check_classes(classes)
    for name in names[1:]:
        if name not in ids:
            raise ValueError(f"there is no category {name!r}; there are: {', '.join(ids)}")
    return names, (NO_CATEGORY, *(ids[name] for name in names[1:]))


def _ids_by_name(files: Sequence[Found]) -> dict[str, int]:
    """The number of each category, by its name, in rising order of the numbers.

    Some programs add a category that no object is of, for the background or for the set as a whole; it is left out
    where its name is taken, and so is a background. ValueError for other names that come twice, and for a number with
    two names.
    """
    names: dict[int, str] = {}
    for found in files:
        for number, category in found.categories.items():
            if names.setdefault(number, category.name) != category.name:
                raise ValueError(f"category {number} is {names[number]!r} in one file and {category.name!r} in another")
    used = {number for found in files for number, category in found.categories.items() if category.used}
    ids: dict[str, int] = {}
    for number in sorted(names, key=lambda number: (number not in used, number)):
        name = names[number]
        if number in used and name in ids:
            raise ValueError(f"categories {ids[name]} and {number} are both {name!r}")
        ids.setdefault(name, number)
    ids.pop(BACKGROUND, None)
    return dict(sorted(ids.items(), key=lambda item: item[1]))


def _unused_groups(files: Sequence[Found]) -> set[str]:
    """The names of the categories that stand for a group of others and have no object of their own."""
    categories = [category for found in files for category in found.categories.values()]
    groups = {category.group for category in categories if category.group != category.name}
    used = {category.name for category in categories if category.used}
    return {category.name for category in categories if category.name in groups} - used


# ---------------------------------------------------------------------- one file


def _read_file(path: Path, images: str | os.PathLike[str] | None) -> Found:
    """What a JSON file says; OSError or ValueError that names it where it cannot be read as a whole."""
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds no annotations in COCO's form: it is not an object, {{...}}")
    tables = {}
    for key in ("images", "annotations", "categories"):
        if not isinstance(content.get(key), list):
            keys = ", ".join(reprlib.repr(key) for key in list(content)[:10]) or "nothing"
            raise ValueError(f"{path} holds no annotations in COCO's form: it has no list {key!r}; it has {keys}")
        tables[key] = content[key]
    names = _category_names(tables["categories"], path)
    groups = {entry["id"]: entry.get("supercategory") for entry in tables["categories"]}
    by_image, broken = _sort_by_image(tables["annotations"], tables["images"], path.name)
    entries = _read_images(tables["images"], by_image, names, path, images)
    things = [thing for group in by_image.values() for _, thing in group]
    used = {thing["category_id"] for thing in things if _is_id(thing.get("category_id"))}
    return Found(
        [*entries, *broken],
        {number: Category(name, number in used, _text(groups[number])) for number, name in names.items()},
    )


def _category_names(table: Sequence[Any], path: Path) -> dict[int, str]:
    """The name of each category by its number."""
    names: dict[int, str] = {}
    for i, entry in enumerate(table):
        what = f"{path}, categories[{i}]"
        number = entry.get("id") if isinstance(entry, dict) else None
        if isinstance(number, bool) or not isinstance(number, int):
            raise ValueError(f"{what} has no number: {reprlib.repr(entry)}")
        name = clean_name(entry.get("name"), f"{what}: the name")
        if names.setdefault(number, name) != name:
            raise ValueError(f"{what} is {name!r}, but category {number} is {names[number]!r} already")
    return names


Group = list[tuple[int, dict[str, Any]]]  # the annotations of an image, each with its place in the file


def _sort_by_image(
    table: Sequence[Any], images: Sequence[Any], place: str
) -> tuple[dict[int | str, Group], list[Broken]]:
    """(the annotations of each image, those of no image)."""
    by_image: dict[int | str, Group] = {
        entry["id"]: [] for entry in images if isinstance(entry, dict) and _is_id(entry.get("id"))
    }
    broken = []
    for i, entry in enumerate(table):
        image_id = entry.get("image_id") if isinstance(entry, dict) else None
        if not _is_id(image_id):
            broken.append(Broken(f"{place}, annotations[{i}]", f"it has no image_id: {reprlib.repr(entry)}"))
        elif image_id not in by_image:
            broken.append(Broken(f"{place}, annotations[{i}]", f"there is no image {image_id!r}"))
        else:
            by_image[image_id].append((i, entry))
    return by_image, broken


def _read_images(
    table: Sequence[Any],
    by_image: Mapping[int | str, Group],
    names: Mapping[int, str],
    path: Path,
    images: str | os.PathLike[str] | None,
) -> Iterable[Record | Broken]:
    """A record for each image, or why there is none."""
    folder = find_images(path, images, [entry.get("file_name") for entry in table if isinstance(entry, dict)])
    times = Counter(entry["id"] for entry in table if isinstance(entry, dict) and _is_id(entry.get("id")))
    for i, entry in enumerate(table):
        source = f"{path.name}, images[{i}]"
        try:
            if not isinstance(entry, dict) or not _is_id(entry.get("id")):
                raise ValueError(f"it has no id: {reprlib.repr(entry)}")
            image_id = entry["id"]
            source = f"{path.name}, image {image_id!r}"
            if times[image_id] > 1:
                raise ValueError(f"{times[image_id]} images have this id, and nobody knows whose the boxes are")
            things = [_read_thing(thing, f"annotations[{k}]", names) for k, thing in by_image[image_id]]
            size = as_size(entry.get("width"), entry.get("height"))
            yield make_record(inside(folder, entry.get("file_name")), source, things, size, image_id)
        except ValueError as error:
            yield Broken(source, str(error))


def _read_thing(entry: Mapping[str, Any], place: str, names: Mapping[int, str]) -> Thing:
    """One annotation; ValueError where it has no box or no category."""
    category, box = entry.get("category_id"), entry.get("bbox")
    if isinstance(category, bool) or not isinstance(category, int):
        raise ValueError(f"category_id of {place} is {reprlib.repr(category)}, not the number of a category")
    if not isinstance(box, list) or len(box) != 4:
        raise ValueError(f"bbox of {place} is {reprlib.repr(box)}, not x, y, width, height")
    x, y, width, height = (as_number(value, f"bbox of {place}") for value in box)
    area = None if entry.get("area") is None else as_number(entry["area"], f"area of {place}")
    if area is not None and not area >= 0:
        raise ValueError(f"area of {place} is {area}; it must be at least 0")
    return Thing(
        (x, y, x + width, y + height),
        names.get(category, f"category {category}"),
        difficult=as_flag(entry.get("ignore"), f"ignore of {place}"),
        crowd=as_flag(entry.get("iscrowd"), f"iscrowd of {place}"),
        area=area,
    )


def _text(value: object) -> str | None:
    """A text without blanks around it; None for anything else."""
    return value.strip() if isinstance(value, str) else None


def _is_id(value: object) -> bool:
    return isinstance(value, (int, str)) and not isinstance(value, bool)

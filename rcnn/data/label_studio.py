"""Reader of Label Studio's own format: a JSON file with a list of tasks, one for each image.

Coordinates are percentages of the size of the image. The formats "JSON" and "JSON-MIN" are read.

References
----------
Label Studio, labelstud.io/guide/export: "Label Studio JSON format of annotated tasks".
"""

from __future__ import annotations

import json
import math
import os
import re
import reprlib
from collections.abc import Mapping, Sequence
from typing import Any

from rcnn._files import read_whole
from rcnn._validate import shown
from rcnn.data.reading import (
    IMAGE_FOLDERS,
    Thing,
    around_ellipse,
    as_degrees,
    as_number,
    as_size,
    check_classes,
    clean_name,
    existing_folder,
    given_path,
    inside,
    is_entry,
    make_record,
    matching,
    named_folders,
    read_each,
    stated_classes,
)
from rcnn.data.records import AnnotatedImages, Annotations, Broken
from rcnn.data.search import Search, path_parts
from rcnn.data.splits import SKIP, Entry, choose, without_annotation, without_repeats
from rcnn.images import SUFFIXES

MAX_JSON = 1 << 31  # bytes of the JSON file
SHAPES = {"x", "points", "radiusX", "rle", "imageDataURL"}  # a region with one of these values is a shape
LABELS = ("rectanglelabels", "polygonlabels", "ellipselabels", "labels")
PREFIX = re.compile(r"[0-9a-f]{8}-")  # uploaded files get a random prefix, such as "1a2b3c4d-"


class LabelStudio(AnnotatedImages):
    """Images described by a JSON file that Label Studio has exported.

    Each rectangle, polygon or ellipse with a label is an object; other shapes, such as a brush mask, are reported as
    errors. A rotated region becomes the smallest unrotated box around it. A second annotation of an image is an error,
    because both may describe the same objects. Cancelled annotations and predictions are ignored. A JSON file can be
    at most 2 GiB in size.

    Parameters
    ----------
    path : path
        The JSON file, or a folder that contains one JSON file. The images are in the folder of the file or in a folder
        such as `images`, with or without the prefix that Label Studio adds to the names of uploaded files.
    split : {"train", "val"}, optional
        Split to read; "val" contains images that are held out (see `rcnn.data.split`). By default, every image is read.
    classes : sequence of str, optional
        Class names for the labels 1, 2, ..., with or without a leading "background". By default, these are the names in
        classes.txt in the folder or, without this file, the sorted class names of all objects.
    unannotated : {"skip", "empty"}
        See `VOC`. A task without an annotation is an image without an annotation.
    on_error, progress : str, bool
        See `AnnotatedImages`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        split: str | None = None,
        classes: Sequence[str] | None = None,
        unannotated: str = SKIP,
        on_error: str = "raise",
        progress: bool = True,
    ) -> None:
        super().__init__(read_label_studio(path, split, classes, unannotated), on_error, progress)


def read_label_studio(
    path: str | os.PathLike[str],
    split: str | None = None,
    classes: Sequence[str] | None = None,
    unannotated: str = SKIP,
) -> Annotations:
    """Read the annotations of a JSON file.

    Parameters
    ----------
    path, split, classes, unannotated : path, str, sequence of str, str
        See `LabelStudio`.

    Returns
    -------
    Annotations
        The annotations. Their attribute `broken` lists the invalid tasks.

    Raises
    ------
    OSError
        If the file is not found.
    ValueError
        If the file is not in this format, or the split does not exist.
    """
    given = given_path(path)
    files = (
        [given]
        if given.is_file()
        else [file for file in matching(existing_folder(given), "[!.]*.json") if is_entry(file)]
    )
    if len(files) != 1:
        raise ValueError(f"{given} must contain one JSON file, got {len(files)}; pass the path of the file")
    try:
        tasks = json.loads(read_whole(files[0], MAX_JSON))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{files[0]} is not JSON: {error}") from error
    if not isinstance(tasks, list):
        raise ValueError(f"{files[0]} is not in Label Studio's format: it must be a list of tasks")
    if any(map(_is_create_ml, tasks)):
        raise ValueError(f"{files[0]} is in CreateML's format, which rcnn does not read; export the data set as COCO")
    folder = files[0].parent
    names = stated_classes(folder) if classes is None else check_classes(classes)
    search = Search([*named_folders(folder, IMAGE_FOLDERS), folder])
    found = [_read_task(task, f"{files[0].name}, task {i}", search) for i, task in enumerate(tasks)]
    entries = without_repeats(entry for entry in found if entry is not None)
    return choose([*entries, *without_annotation(entries)], {}, split, str(given), names, unannotated)


def _read_task(task: Any, source: str, search: Search) -> Entry | None:
    """Return the record of a task, or None if the task has no annotation."""
    name = ""
    try:
        if not isinstance(task, dict):
            raise ValueError(f"it must be a JSON object, got {shown(task)}")
        name = _image_name(task)
        results = _results(task)
        if results is None:
            return None
        image = search.find(name) or search.find(PREFIX.sub("", "".join(path_parts(name)[-1:]), count=1))
        regions = _objects(results)
        things, faults = read_each(_read_region, regions, source)
        sizes = {as_size(region.get("original_width"), region.get("original_height")) for region in regions}
        size = sizes.pop() if len(sizes) == 1 else None
        return make_record(image or inside(search.folders[0], name), source, things, size, task.get("id", name), faults)
    except ValueError as error:
        return Broken(source, str(error), name)


def _is_create_ml(task: Any) -> bool:
    """Return whether an entry of a JSON list is in the format CreateML, whose annotations have boxes but no result."""
    found = task.get("annotations") if isinstance(task, dict) else None
    return isinstance(found, list) and any(isinstance(entry, dict) and "coordinates" in entry for entry in found)


def _image_name(task: Mapping[str, Any]) -> str:
    """Return the first text of a task that ends like the name of an image or, if there is none, the first text."""
    content = task.get("data", task)
    values = [content.get("image"), *content.values()] if isinstance(content, dict) else []
    texts = [value for value in values if isinstance(value, str) and value.strip()]
    if not texts:
        raise ValueError("it names no image")
    return next((text for text in texts if "".join(path_parts(text)[-1:]).lower().endswith(SUFFIXES)), texts[0])


def _results(task: Mapping[str, Any]) -> list[Any] | None:
    """Return the regions of a task, or None if nobody has annotated it."""
    if "annotations" not in task and "completions" not in task:  # JSON-MIN, whose regions are in a value of the task
        lists = [
            value for value in task.values() if isinstance(value, list) and all(isinstance(v, dict) for v in value)
        ]
        return [{"value": region, **region} for regions in lists for region in regions] if lists else None
    everything = task.get("annotations", task.get("completions")) or []
    if not isinstance(everything, list):
        raise ValueError(f"its annotations must be a list, got {shown(everything)}")
    annotations = [entry for entry in everything if isinstance(entry, dict) and not entry.get("was_cancelled")]
    if len(annotations) > 1:
        raise ValueError(f"it has {len(annotations)} annotations; keep one of them")
    results = annotations[0].get("result") or [] if annotations else None
    if not isinstance(results, list | None):
        raise ValueError(f"result of its annotation must be a list, got {shown(results)}")
    return results


def _objects(results: Sequence[Any]) -> list[Mapping[str, Any]]:
    """Return the regions that are objects: those with class names, and those in which a class name is missing.

    Other results, such as a choice or a text, are left out. So is a region without class names if another region of the
    same shape has them, because Label Studio can store a rectangle and its label as two regions.
    """
    regions = [region for region in results if isinstance(region, dict) and isinstance(region.get("value"), dict)]
    named = {_identity(region) for region in regions if _box_keys(region)}
    return [
        region
        for region in regions
        if _box_keys(region) or (not SHAPES.isdisjoint(region["value"]) and _identity(region) not in named)
    ]


def _identity(region: Mapping[str, Any]) -> str:
    """Return the id of a region or, in the format JSON-MIN, its position."""
    return repr(region.get("id") or [region["value"].get(key) for key in ("x", "y", "width", "height", "points")])


def _box_keys(region: Mapping[str, Any]) -> list[str]:
    """Return the keys that contain class names of a region."""
    return [key for key in LABELS if isinstance(region["value"].get(key), list) and region["value"][key]]


def _read_region(region: Mapping[str, Any], number: int) -> list[Thing]:
    """Return the objects of a region, one for each of its class names."""
    what, value = f"region {number}", region["value"]
    keys = _box_keys(region)
    if not keys or "rle" in value:
        raise ValueError(
            f"{what} of type {shown(region.get('type'))} has no class name for a box; "
            "use rectangles, polygons or ellipses with a label"
        )
    width, height = (
        as_number(region.get(f"original_{side}"), f"original_{side} of {what}") for side in ("width", "height")
    )

    def percent(key: str) -> float:
        return as_number(value.get(key), f"{key} of {what}") / 100

    rotation = as_degrees(value.get("rotation"), f"rotation of {what}")
    if "points" in value:
        if not isinstance(value["points"], list) or not all(
            isinstance(p, list) and len(p) == 2 for p in value["points"]
        ):
            raise ValueError(f"points of {what} must be a list of [x, y], got {reprlib.repr(value['points'])}")
        points = [[as_number(number, f"points of {what}") / 100 for number in point] for point in value["points"]]
        if not points:
            raise ValueError(f"{what} has no points")
        xs, ys = [point[0] * width for point in points], [point[1] * height for point in points]
        box = min(xs), min(ys), max(xs), max(ys)
    elif "radiusX" in value:
        radii = percent("radiusX") * width, percent("radiusY") * height
        box = around_ellipse(percent("x") * width, percent("y") * height, *radii, rotation)
    else:
        box = _around(
            percent("x") * width, percent("y") * height, percent("width") * width, percent("height") * height,
            math.radians(rotation),
        )  # fmt: skip
    return [Thing(box, clean_name(name, f"label of {what}")) for name in value[keys[0]]]


def _around(x: float, y: float, width: float, height: float, angle: float) -> tuple[float, float, float, float]:
    """Return the smallest unrotated box around a rectangle that is rotated clockwise about its upper left corner."""
    cos, sin = (math.cos(angle), math.sin(angle)) if angle else (1.0, 0.0)
    xs = [x + dx * cos - dy * sin for dx in (0, width) for dy in (0, height)]
    ys = [y + dx * sin + dy * cos for dx in (0, width) for dy in (0, height)]
    return min(xs), min(ys), max(xs), max(ys)

"""Reader of the format of labelme: one JSON file for each image.

A file contains a list of shapes. Rectangles, polygons, circles and masks are objects; the box of an object is the
smallest box around its shape. Points and lines have no box.

References
----------
Wada, "Labelme: Image Polygonal Annotation with Python", github.com/wkentaro/labelme.
"""

from __future__ import annotations

import json
import math
import os
import reprlib
from collections.abc import Mapping, Sequence
from typing import Any

from rcnn.data.reading import Box, Thing, as_flag, as_number, as_size, clean_name, make_record, read_each, read_inside
from rcnn.data.records import AnnotatedImages, Annotations, Record
from rcnn.data.sheets import Sheet, read_sheets
from rcnn.data.splits import SKIP

THIN = ("point", "points", "line", "linestrip")  # shapes without an area
MAX_JSON = 1 << 29  # bytes of a JSON file, which may contain the image


class Labelme(AnnotatedImages):
    """Images with one JSON file per image, as labelme writes them.

    A JSON file belongs to the image with the same name or, if there is none, to the image that "imagePath" names.
    Shapes with the same label and the same "group_id" are one object. Points and lines are reported as errors. The
    image must be a file, because "imageData" is not read. A JSON file can be at most 512 MiB in size.

    Parameters
    ----------
    folder : path
        A folder with images and JSON files, in one of the layouts of `VOC`.
    split, classes, unannotated : str, sequence of str, str
        See `VOC`.
    on_error, progress : str, bool
        See `AnnotatedImages`.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        split: str | None = None,
        classes: Sequence[str] | None = None,
        unannotated: str = SKIP,
        on_error: str = "raise",
        progress: bool = True,
    ) -> None:
        super().__init__(read_labelme(folder, split, classes, unannotated, progress), on_error, progress)


def read_labelme(
    folder: str | os.PathLike[str],
    split: str | None = None,
    classes: Sequence[str] | None = None,
    unannotated: str = SKIP,
    progress: bool = True,
) -> Annotations:
    """Read the annotations of a folder.

    Parameters
    ----------
    folder, split, classes, unannotated, progress : path, str, sequence of str, str, bool
        See `Labelme`.

    Returns
    -------
    Annotations
        The annotations. Their attribute `broken` lists the invalid JSON files.

    Raises
    ------
    OSError
        If the folder is not found.
    ValueError
        If the folder has no JSON files, or the split does not exist.
    """
    return read_sheets(folder, ".json", _read_sheet, split, classes, unannotated, progress)


def _read_sheet(sheet: Sheet) -> Record:
    """Return the record of a JSON file; raise ValueError if it is invalid."""
    try:
        content = json.loads(read_inside(sheet.path, sheet.root, MAX_JSON))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
        raise ValueError("it is not in the format of labelme: it has no list 'shapes'")
    objects: dict[Any, Thing] = {}  # by label and group; a shape without a group is an object of its own

    def read(shape: Any, number: int) -> list[Thing]:
        thing, group = _read_shape(shape, number), shape.get("group_id")
        key = number if group in (None, "") else (thing.name, str(group))
        objects[key] = _joined(objects[key], thing) if key in objects else thing
        return []

    _, faults = read_each(read, content["shapes"], sheet.source)
    stated = content.get("imagePath")
    image = sheet.image(stated.strip() if isinstance(stated, str) else "")
    if content.get("imageData") and not image.exists():
        raise ValueError(f"{image}: file not found; the JSON file contains it as imageData, so save it as this file")
    size = as_size(content.get("imageWidth"), content.get("imageHeight"))
    return make_record(image, sheet.source, [*objects.values()], size, sheet.stem, faults)


def _read_shape(shape: Any, number: int) -> Thing:
    """Return the object of a shape; raise ValueError if it is invalid."""
    what = f"shapes[{number}]"
    if not isinstance(shape, dict) or not isinstance(shape.get("points"), list):
        raise ValueError(f"{what} has no list 'points': {reprlib.repr(shape)}")
    if shape.get("shape_type") in THIN:
        raise ValueError(
            f"{what} is a {shape['shape_type']}, which has no box; draw a rectangle, a polygon or a circle"
        )
    points = [_read_point(point, f"points of {what}") for point in shape["points"]]
    if len(points) < 2:
        raise ValueError(f"{what} must have at least two points, got {len(points)}")
    box = _around_circle(*points[:2]) if shape.get("shape_type") == "circle" else _around(points)
    name = clean_name(shape.get("label"), f"label of {what}")
    return Thing(box, name, difficult=as_flag(_difficult(shape), f"difficult of {what}"))


def _difficult(shape: Mapping[str, Any]) -> Any:
    """Return the flag "difficult" of a shape; some programs write it next to "flags" instead of inside."""
    flags = shape.get("flags")
    return shape.get("difficult", flags.get("difficult") if isinstance(flags, dict) else None)


def _read_point(point: Any, what: str) -> tuple[float, float]:
    if not isinstance(point, list) or len(point) < 2:
        raise ValueError(f"{what} must be [x, y], got {reprlib.repr(point)}")
    return as_number(point[0], what), as_number(point[1], what)


def _around(points: Sequence[tuple[float, float]]) -> Box:
    xs, ys = zip(*points, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def _around_circle(centre: tuple[float, float], edge: tuple[float, float]) -> Box:
    radius = math.dist(centre, edge)
    return centre[0] - radius, centre[1] - radius, centre[0] + radius, centre[1] + radius


def _joined(thing: Thing, other: Thing) -> Thing:
    """Combine two shapes of one group: return an object whose box contains both boxes."""
    (x1, y1, x2, y2), (x3, y3, x4, y4) = thing.box, other.box
    box = min(x1, x3), min(y1, y3), max(x2, x4), max(y2, y4)
    return Thing(box, thing.name, thing.difficult or other.difficult)

"""Reader of CVAT's own format, "CVAT for images 1.1": one XML file describes all images.

References
----------
CVAT, docs.cvat.ai: "XML annotation format".
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

from rcnn.data.reading import (
    IMAGE_FOLDERS,
    Box,
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
    read_inside,
    stated_classes,
)
from rcnn.data.records import AnnotatedImages, Annotations, Broken
from rcnn.data.search import Search, path_parts
from rcnn.data.splits import SKIP, WHOLE, Entry, choose, plain_name, split_folders, without_annotation, without_repeats
from rcnn.data.voc import parse_xml

FILE = "annotations.xml"
MAX_XML = 1 << 30  # bytes of the XML file


class CVAT(AnnotatedImages):
    """Images described by an XML file of CVAT, such as annotations.xml.

    Each box, polygon, ellipse or mask is an object; a rotated shape becomes the smallest unrotated box around it.
    Points, polylines, cuboids and skeletons are reported as errors. The XML file can be at most 1 GiB in size.

    Parameters
    ----------
    path : path
        The file, or the folder that contains the folder `images`, and annotations.xml or a single other XML file.
    split : str, optional
        "train", "val" or another subset of the CVAT project, such as "Validation". If there is no "val", some of the
        other images are held out for validation (see `rcnn.data.split`). By default, every image is read.
    classes : sequence of str, optional
        Class names for the labels 1, 2, ..., with or without a leading "background". By default, these are the names in
        classes.txt in the folder or, without this file, the sorted class names of all objects.
    unannotated : {"skip", "empty"}
        See `VOC`.
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
        super().__init__(read_cvat(path, split, classes, unannotated), on_error, progress)


def read_cvat(
    path: str | os.PathLike[str],
    split: str | None = None,
    classes: Sequence[str] | None = None,
    unannotated: str = SKIP,
) -> Annotations:
    """Read the annotations of an XML file of CVAT.

    Parameters
    ----------
    path, split, classes, unannotated : path, str, sequence of str, str
        See `CVAT`.

    Returns
    -------
    Annotations
        The annotations. Their attribute `broken` lists the invalid images.

    Raises
    ------
    OSError
        If the file is not found.
    ValueError
        If the file is not in this format, or the split does not exist.
    """
    given = given_path(path)
    file = given if given.is_file() else _find_file(existing_folder(given))
    names = stated_classes(file.parent) if classes is None else check_classes(classes)
    content = read_inside(file, file.parent, MAX_XML)
    try:
        root = parse_xml(content)
    except (ParseError, LookupError, ValueError) as error:  # ValueError: entities, or an invalid encoding
        raise ValueError(f"{file} is not XML that can be read: {str(error)[:100]}") from error
    if root.tag != "annotations":
        raise ValueError(f"{file} is not in CVAT's format: it must begin with <annotations>, got {root.tag!r}")
    if root.find("track") is not None:
        raise ValueError(f"{file} describes a video; in CVAT, export the task as 'CVAT for images 1.1' instead")
    bases = [*named_folders(file.parent, IMAGE_FOLDERS), file.parent]
    found: list[Entry] = []
    subsets: list[str] = []
    searches: dict[str, Search] = {}
    for element in root.iter("image"):
        subset = element.get("subset") or WHOLE
        if subset not in searches:
            searches[subset] = Search([*_folders_of(bases, subset), *bases])
        found.append(_read_image(element, file.name, searches[subset]))
        subsets.append(plain_name(subset))
    entries = without_repeats(found)
    members: dict[str, list[Entry]] = {name: [] for name in subsets}
    for name, entry in zip(subsets, entries, strict=True):
        members[name].append(entry)
    parts = {} if set(members) <= {WHOLE} else {name: part.copy for name, part in members.items()}
    return choose([*entries, *without_annotation(entries)], parts, split, str(given), names, unannotated)


def _find_file(folder: Path) -> Path:
    """Return annotations.xml or, if it is missing, the only other XML file in the folder."""
    files = [file for file in matching(folder, "[!.]*.xml") if is_entry(file)]
    if folder / FILE in files:
        return folder / FILE
    if len(files) > 1:
        raise ValueError(f"{folder} has {len(files)} XML files, none of which is {FILE}; pass the path of one of them")
    below = matching(folder, "[!.]*.xml", deep=True)
    if not files and below:
        raise FileNotFoundError(f"{folder / FILE}: file not found; pass the path of the file, such as {below[0]}")
    return files[0] if files else folder / FILE


def _folders_of(bases: Sequence[Path], subset: str) -> list[Path]:
    """Return the existing folders for the images of a subset, such as images/Train; all are inside `bases`."""
    parts = path_parts(subset)
    named = [split_folders(base).get(plain_name(subset), base.joinpath(*parts)) for base in bases]
    return [folder for folder in named if os.path.isdir(folder)]  # False if the name is too long


def _read_image(element: Element, filename: str, search: Search) -> Entry:
    name = element.get("name") or ""
    source = f"{filename}, image {name!r}"
    try:
        image = search.find(name) or inside(search.folders[0], name)
        shapes = [shape for shape in element if shape.tag != "tag"]
        things, faults = read_each(lambda shape, i: [_read_shape(shape, i)], shapes, source)
        size = as_size(element.get("width"), element.get("height"))
        return make_record(image, source, things, size, name, faults)
    except ValueError as error:
        return Broken(source, str(error), name)


def _read_shape(element: Element, number: int) -> Thing:
    what = f"shape {number}"

    def value(attribute: str) -> float:
        return as_number(element.get(attribute), f"{attribute} of {what}")

    box: Box
    rotation = as_degrees(element.get("rotation"), f"rotation of {what}")
    if element.tag == "box":
        box = _rotated((value("xtl"), value("ytl"), value("xbr"), value("ybr")), rotation)
    elif element.tag == "polygon":
        points = [pair.split(",") for pair in (element.get("points") or "").split(";")]
        xs, ys = (
            [as_number(pair[k] if len(pair) == 2 else None, f"points of {what}") for pair in points] for k in (0, 1)
        )
        box = min(xs), min(ys), max(xs), max(ys)
    elif element.tag == "ellipse":
        box = around_ellipse(value("cx"), value("cy"), value("rx"), value("ry"), rotation)
    elif element.tag == "mask":
        box = value("left"), value("top"), value("left") + value("width"), value("top") + value("height")
    else:
        raise ValueError(f"{what} is a <{element.tag}>, which has no box; use <box>, <polygon>, <ellipse> or <mask>")
    return Thing(box, clean_name(element.get("label"), f"label of {what}"))


def _rotated(box: Box, degrees: float) -> Box:
    """Return the smallest unrotated box around a box that is rotated about its centre."""
    if degrees % 360 == 0:
        return box
    x1, y1, x2, y2 = box
    cos, sin = abs(math.cos(math.radians(degrees))), abs(math.sin(math.radians(degrees)))
    half_width = ((x2 - x1) * cos + (y2 - y1) * sin) / 2
    half_height = ((x2 - x1) * sin + (y2 - y1) * cos) / 2
    x, y = (x1 + x2) / 2, (y1 + y2) / 2
    return x - half_width, y - half_height, x + half_width, y + half_height

"""Functions that write detections as annotations, which users can correct and then train with."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from rcnn import images
from rcnn._files import check_free, write_whole
from rcnn.data.search import path_parts

Entry = dict[str, Any]  # see `rcnn.cli.photos.detect_groups`
COLUMNS_OF_FRAMES = ("frame", "time")  # added if there are videos
FOLDERS = {"voc": ("JPEGImages", "Annotations"), "yolo": ("images", "labels"), "labelme": (".", ".")}
COLUMNS = ("image", "x1", "y1", "x2", "y2", "label", "score", "width", "height")


def can_name(file: Path) -> bool:
    """Return whether annotation files can contain the path of an image, and readers then find the image.

    Control characters and names that are not UTF-8 are not allowed in XML or CSV files. Readers ignore spaces around a
    name, and take a backslash for a slash.
    """
    readable = all(
        unicodedata.category(character) not in ("Cc", "Cs", "Zl", "Zp") and ord(character) & 0xFFFE != 0xFFFE
        for character in str(file)
    )
    return readable and path_parts(file.name) == [file.name]


def csv_rows(entries: Iterable[tuple[Entry, Sequence[Entry]]], file: Path, has_frames: bool) -> Iterator[str]:
    """Yield the lines of a table with one row for each detection, and an empty row for an image without detections.

    `entries` contains pairs of an image and its detections. If an image is inside the folder of `file`, its path is
    relative to this folder, as in the tables that `rcnn.data.CSV` reads. With `has_frames`, the table also has the
    numbers and the times of frames of videos.
    """
    folder = os.path.realpath(file.parent)
    yield _csv_row(COLUMNS + COLUMNS_OF_FRAMES * has_frames)
    for entry, detections in entries:
        path = os.path.realpath(entry["file"])
        name = os.path.relpath(path, folder) if path.startswith(folder + os.sep) else entry["file"]
        size = entry["size"]["width"], entry["size"]["height"]
        frame = [entry.get(column, "") for column in COLUMNS_OF_FRAMES * has_frames]
        for found in detections:
            yield _csv_row((name, *found["box"], name_of(found), found["score"], *size, *frame))
        if not detections:
            yield _csv_row((name, *[""] * 6, *size, *frame))


def _csv_row(values: Sequence[object]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue()


class Folder:
    """A new folder with copies of images and one annotation file for each.

    Parameters
    ----------
    root : Path
        The folder, which must be missing or empty.
    kind : {"voc", "yolo", "labelme"}
        The format.
    class_names : sequence of str
        Names of the classes, starting with the background. YOLO files contain only the numbers of classes, so the names
        without the background are written to classes.txt.
    """

    def __init__(self, root: Path, kind: str, class_names: Sequence[str]) -> None:
        check_free(root)
        self.kind, self.taken = kind, set[str]()
        self.images, self.labels = (root / name for name in FOLDERS[kind])
        for folder in (self.images, self.labels):
            folder.mkdir(parents=True, exist_ok=True)
        if kind == "yolo":
            write_whole(root / "classes.txt", "".join(f"{name}\n" for name in class_names[1:]).encode())

    def add(self, entry: Entry, detections: Sequence[Entry], frame: np.ndarray | None = None) -> None:
        """Copy the image of `entry`, or write the frame (H, W, 3) of a video, and write `detections` to its file."""
        file = Path(entry["file"])
        name = file.stem if frame is None else f"{file.stem}-{entry['frame']:06}"
        suffix = file.suffix if frame is None else ".png"
        stem, number = name, 1
        while stem.casefold() in self.taken:
            number += 1
            stem = f"{name}-{number}"
        self.taken.add(stem.casefold())
        if frame is None:
            shutil.copyfile(file, self.images / f"{stem}{suffix}")
        else:
            write_whole(self.images / f"{stem}{suffix}", images.as_png(frame), flush=False)
        if self.kind == "voc":
            ending, content = ".xml", voc_sheet(f"{stem}{suffix}", entry["size"], detections)
        elif self.kind == "yolo":
            ending, content = ".txt", yolo_lines(entry["size"], detections).encode()
        else:
            ending, content = ".json", labelme_sheet(f"{stem}{suffix}", entry["size"], detections)
        write_whole(self.labels / f"{stem}{ending}", content, flush=False)


def voc_sheet(name: str, size: Entry, detections: Sequence[Entry]) -> bytes:
    """Return the VOC annotation of an image as XML. Pixels count from 1; xmax, ymax are the last pixels inside."""
    root = ElementTree.Element("annotation")
    _add(root, "filename", name)
    sides = _add(root, "size")
    for side, value in (*size.items(), ("depth", 3)):
        _add(sides, side, value)
    for found in detections:
        element = _add(root, "object")
        _add(element, "name", name_of(found))
        _add(element, "difficult", 0)
        box = _add(element, "bndbox")
        x1, y1, x2, y2 = found["box"]
        corners = {"xmin": x1 + 1, "ymin": y1 + 1, "xmax": x2, "ymax": y2}
        for corner, value in corners.items():
            _add(box, corner, round(value, 2))
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="utf-8") + b"\n"


def yolo_lines(size: Entry, detections: Sequence[Entry]) -> str:
    """Return a line per detection: class number (from 0), then centre, width and height as fractions of the image."""
    lines = []
    for found in detections:
        x1, y1, x2, y2 = found["box"]
        across, down = size["width"], size["height"]
        numbers = ((x1 + x2) / 2 / across, (y1 + y2) / 2 / down, (x2 - x1) / across, (y2 - y1) / down)
        lines.append(f"{found['label'] - 1} " + " ".join(f"{number:.6f}" for number in numbers) + "\n")
    return "".join(lines)


def describe(found: Mapping[str, np.ndarray], names: Sequence[str] | None) -> list[Entry]:
    """Return a list with a dict of Python numbers for each detection in an image."""
    return [
        {
            "box": [round(float(x), 2) for x in box],
            "score": round(float(score), 4),
            "label": int(label),
            **({"name": names[label]} if names else {}),
        }
        for box, score, label in zip(found["boxes"], found["scores"], found["labels"], strict=True)
    ]


def labelme_sheet(name: str, size: Entry, detections: Sequence[Entry]) -> bytes:
    """Return the JSON of an image; each detection becomes a rectangle."""
    shapes: list[Entry] = [
        {
            "label": name_of(found),
            "points": [found["box"][:2], found["box"][2:]],
            "group_id": None,
            "description": f"score {found['score']}",
            "shape_type": "rectangle",
            "flags": {},
        }
        for found in detections
    ]
    sides = {"imageHeight": size["height"], "imageWidth": size["width"]}
    content = {"version": "5.0.0", "flags": {}, "shapes": shapes, "imagePath": name, "imageData": None, **sides}
    return json.dumps(content, indent=1).encode() + b"\n"


def name_of(found: Entry) -> str:
    """Return the class name of a detection, or its label if the detector has no names."""
    return str(found.get("name", found["label"]))


def _add(parent: ElementTree.Element, tag: str, value: object = None) -> ElementTree.Element:
    element = ElementTree.SubElement(parent, tag)
    element.text = None if value is None else str(value)
    return element

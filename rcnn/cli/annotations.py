"""Functions that write detections as annotations (CSV, VOC or YOLO), which users can correct and then train with."""

from __future__ import annotations

import csv
import io
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from rcnn._files import check_free, write_whole

Entry = dict[str, Any]  # see `rcnn.cli.detect.detect_files`
COLUMNS = ("image", "x1", "y1", "x2", "y2", "label", "score", "width", "height")


def csv_table(entries: Sequence[tuple[Entry, Sequence[Entry]]], file: Path) -> str:
    """Return a table with one row for each detection, and an empty row for an image without detections.

    `entries` contains pairs of an image and its detections. If an image is inside the folder of `file`, its path is
    relative to this folder, as in the tables that `rcnn.data.CSV` reads.
    """
    text = io.StringIO(newline="")
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(COLUMNS)
    folder = os.path.realpath(file.parent)
    for entry, detections in entries:
        path = os.path.realpath(entry["file"])
        name = os.path.relpath(path, folder) if path.startswith(folder + os.sep) else entry["file"]
        size = entry["size"]["width"], entry["size"]["height"]
        for found in detections:
            rows.writerow((name, *found["box"], name_of(found), found["score"], *size))
        if not detections:
            rows.writerow((name, *[""] * 6, *size))
    return text.getvalue()


class Folder:
    """A new folder with copies of images and one annotation file for each, in the VOC or YOLO format.

    Parameters
    ----------
    root : Path
        The folder, which must be missing or empty.
    kind : {"voc", "yolo"}
        The format.
    class_names : sequence of str
        Names of the classes, starting with the background. YOLO files contain only the numbers of classes, so the names
        without the background are written to classes.txt.
    """

    def __init__(self, root: Path, kind: str, class_names: Sequence[str]) -> None:
        check_free(root)
        self.kind, self.taken = kind, set[str]()
        names = ("JPEGImages", "Annotations") if kind == "voc" else ("images", "labels")
        self.images, self.labels = (root / name for name in names)
        for folder in (self.images, self.labels):
            folder.mkdir(parents=True, exist_ok=True)
        if kind == "yolo":
            write_whole(root / "classes.txt", "".join(f"{name}\n" for name in class_names[1:]).encode())

    def add(self, entry: Entry, detections: Sequence[Entry]) -> None:
        """Copy the image of `entry` to the folder, and write `detections` to the annotation file of this image."""
        file = Path(entry["file"])
        stem, number = file.stem, 1
        while stem.casefold() in self.taken:
            number += 1
            stem = f"{file.stem}-{number}"
        self.taken.add(stem.casefold())
        shutil.copyfile(file, self.images / f"{stem}{file.suffix}")
        if self.kind == "voc":
            content = voc_sheet(f"{stem}{file.suffix}", entry["size"], detections)
            write_whole(self.labels / f"{stem}.xml", content, flush=False)
        else:
            content = yolo_lines(entry["size"], detections).encode()
            write_whole(self.labels / f"{stem}.txt", content, flush=False)


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


def name_of(found: Entry) -> str:
    """Return the class name of a detection, or its label if the detector has no names."""
    return str(found.get("name", found["label"]))


def _add(parent: ElementTree.Element, tag: str, value: object = None) -> ElementTree.Element:
    element = ElementTree.SubElement(parent, tag)
    element.text = None if value is None else str(value)
    return element

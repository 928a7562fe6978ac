"""The command `rcnn detect`, which finds objects in image files and keeps only one image in memory at a time."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from rcnn import images
from rcnn._files import write_whole
from rcnn.cli.process import fail, message, say
from rcnn.cli.shared import check_file, load_weights
from rcnn.model import FasterRCNN

Entry = dict[str, Any]
FEW_IMAGES = 3  # if there are more images, the command shows a progress bar


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `rcnn detect` to the commands."""
    parser = commands.add_parser(
        "detect",
        help="find objects in images",
        description="Find objects in images (JPEG, PNG, WebP, TIFF, GIF, BMP and others), and draw their boxes. "
        "Unreadable files are reported and skipped; the exit status is then 2. Boxes are x1, y1, x2, y2, in pixel "
        "coordinates of the image after its EXIF rotation.",
    )
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="image files")
    parser.add_argument(
        "--weights",
        required=True,
        metavar="PATH|RUN|coco",
        help="a weights file of rcnn (.safetensors) or torchvision (.pth); the folder of a run, to use its best "
        "weights; or coco, for torchvision's COCO detector",
    )
    parser.add_argument(
        "--score", type=float, metavar="S", help="keep detections above this score (default: set by the model)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("rcnn-detections"),
        metavar="DIR",
        help="folder for the drawings, which are PNG files (default: %(default)s)",
    )
    parser.add_argument("--json", metavar="FILE", help="also write the detections to this file (- for standard output)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Detect objects, draw and print the detections; return 0, or 2 if a file cannot be read."""
    if options.score is not None and not 0 <= options.score <= 1:
        raise ValueError(f"--score must be between 0 and 1, got {options.score}")
    check_file("--json", options.json)
    model = load_weights(options.weights)
    options.out.mkdir(parents=True, exist_ok=True)
    entries: list[Entry] = []
    status = 0
    bar = len(options.images) > FEW_IMAGES and sys.stderr.isatty()
    try:
        for file, outcome in tqdm(
            detect_files(model, options.images, options.out, options.score),
            unit="image",
            total=len(options.images),
            disable=not bar,
            dynamic_ncols=True,
        ):
            if isinstance(outcome, str):
                status = fail(outcome)
                continue
            entries.append(outcome)
            if options.json != "-":
                say(f"{file}: {len(outcome['detections'])} detected, drawing: {outcome['drawing']}")
    finally:  # also write the detections after Ctrl-C
        if options.json == "-":
            sys.stdout.write(as_json(entries))
        elif options.json:
            write_whole(options.json, as_json(entries).encode())
    return status


def detect_files(
    model: FasterRCNN, files: Sequence[Path], folder: Path, score_thresh: float | None = None
) -> Iterator[tuple[Path, Entry | str]]:
    """Yield each file with its entry for the JSON file, or with an error message.

    The keys of an entry are "file", "drawing" (the path of the PNG in `folder`), "size" ("width" and "height" of the
    image after its EXIF rotation) and "detections". The keys of a detection are "box" (x1, y1, x2, y2 in pixel
    coordinates of this image), "score", "label" and, if the model has class names, "name". If two files have the same
    name, their drawings have different names. A drawing never overwrites one of `files`.
    """
    taken = {_identity(file) for file in files}
    for file in files:
        try:
            entry = _detect_file(model, file, folder, score_thresh, taken)
        except (OSError, ValueError, MemoryError) as error:
            yield file, _reason(file, error)
        else:
            yield file, entry


def as_json(entries: Sequence[Entry]) -> str:
    """Return the content of the JSON file as text."""
    return json.dumps(entries, indent=1) + "\n"


def _detect_file(model: FasterRCNN, file: Path, folder: Path, score_thresh: float | None, taken: set[str]) -> Entry:
    """Return the entry of one file; also write its drawing, and add the path of the drawing to `taken`."""
    from rcnn import plot  # imports matplotlib, which is slow

    image = images.read(file)  # (H, W, 3)
    found = model.predict([image], score_thresh=score_thresh)[0]
    names = model.config.class_names
    drawing = plot.annotate(image, found["boxes"], found["scores"], found["labels"], names)
    target = _free_name(folder, file.stem, taken)
    write_whole(target, images.as_png(drawing))
    taken.add(_identity(target))
    height, width = image.shape[:2]
    return {
        "file": str(file),
        "drawing": str(target),
        "size": {"width": width, "height": height},
        "detections": _detections(found, names),
    }


def _detections(found: dict[str, np.ndarray], names: Sequence[str] | None) -> list[Entry]:
    """Return the detections as dicts of Python numbers."""
    return [
        {
            "box": [round(float(x), 2) for x in box],
            "score": round(float(score), 4),
            "label": int(label),
            **({"name": names[label]} if names else {}),
        }
        for box, score, label in zip(found["boxes"], found["scores"], found["labels"], strict=True)
    ]


def _free_name(folder: Path, stem: str, taken: set[str]) -> Path:
    """Return the path `folder`/`stem`.png; if this path is taken, add a number after `stem`."""
    number, path = 1, folder / f"{stem}.png"
    while _identity(path) in taken:
        number += 1
        path = folder / f"{stem}-{number}.png"
    return path


def _identity(path: Path) -> str:
    """Return the same string for all paths to a file, even if the file system does not distinguish A from a."""
    return os.path.realpath(path).casefold()


def _reason(file: Path, error: Exception) -> str:
    """Return the message of an error; it starts with the path of the file, as in the errors of `images.read`."""
    text = message(error)
    return text if text.startswith((f"{file} ", f"{file}:")) else f"{file}: {text}"

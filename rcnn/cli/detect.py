"""The command `rcnn detect`: objects in image files, with one image in memory at a time."""

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
from rcnn.cli.shared import check_file, fail, load_weights, say
from rcnn.model import FasterRCNN

Entry = dict[str, Any]
FEW_IMAGES = 3  # more images get a progress bar


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `rcnn detect` to the commands."""
    parser = commands.add_parser(
        "detect",
        help="find objects in images",
        description="Finds objects in images (JPEG, PNG, WebP, TIFF, GIF, BMP and others) and draws them. Unreadable "
        "files are reported and skipped; the exit status is then 2. Boxes are x1, y1, x2, y2 in pixels of the upright "
        "image, after its EXIF rotation.",
    )
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="image files")
    parser.add_argument(
        "--weights",
        required=True,
        metavar="PATH|RUN|coco",
        help="a file of rcnn (.safetensors) or torchvision (.pth), the folder of a run (its best weights are used), "
        "or coco, torchvision's COCO detector",
    )
    parser.add_argument("--score", type=float, metavar="S", help="lowest score (default: the model's own)")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("rcnn-detections"),
        metavar="DIR",
        help="folder for the annotated images, as PNG files (default: %(default)s)",
    )
    parser.add_argument("--json", metavar="FILE", help="also write the detections to this file (- for standard output)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Detect, draw and print; return 0, or 2 if a file could not be read."""
    if options.score is not None and not 0 <= options.score <= 1:
        raise ValueError(f"--score must be in 0 .. 1, got {options.score}")
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
    finally:  # keep the detections after Ctrl-C, too
        if options.json == "-":
            sys.stdout.write(as_json(entries))
        elif options.json:
            write_whole(options.json, as_json(entries).encode())
    return status


def detect_files(
    model: FasterRCNN, files: Sequence[Path], folder: Path, score_thresh: float | None = None
) -> Iterator[tuple[Path, Entry | str]]:
    """Yield each file with its entry for the JSON file, or with an error message.

    An entry has "file"; "drawing", the PNG in `folder`; "size" with "width" and "height" of the upright image; and
    "detections", each with "box" (x1, y1, x2, y2 in pixels of that image), "score", "label" and, if the model has
    class names, "name". Two files of the same name get drawings of different names, and no drawing replaces a file of
    `files`.
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
    """Return the entries as the text of a JSON file."""
    return json.dumps(entries, indent=1) + "\n"


def _detect_file(model: FasterRCNN, file: Path, folder: Path, score_thresh: float | None, taken: set[str]) -> Entry:
    """Return the entry of one file; write its drawing, and add the drawing's name to `taken`."""
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
    """Return the detections as plain numbers."""
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
    """Return `folder`/`stem`.png, with a number if that name is taken."""
    number, path = 1, folder / f"{stem}.png"
    while _identity(path) in taken:
        number += 1
        path = folder / f"{stem}-{number}.png"
    return path


def _identity(path: Path) -> str:
    """Return a text that is equal for paths of the same file, also on case-insensitive file systems."""
    return os.path.realpath(path).casefold()


def _reason(file: Path, error: Exception) -> str:
    """Return the text of an error, starting with the name of the file like the errors of `images.read`."""
    text = str(error) or type(error).__name__
    return text if text.startswith((f"{file} ", f"{file}:")) else f"{file}: {text}"

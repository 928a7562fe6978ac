"""The command `rcnn view`, which writes an HTML file to leaf through the images of a data set."""

from __future__ import annotations

import argparse
import sys
import webbrowser
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rcnn import data
from rcnn.cli import html
from rcnn.cli.html.entries import MIN_SCORE
from rcnn.cli.process import say
from rcnn.cli.shared import NAMED, add_max_pixels, check_file, known_format, load_weights
from rcnn.data.splits import TEST, TRAIN, VAL
from rcnn.train import plan

MAX_IMAGES = 1000  # of each split
MAX_PAGES = 100  # of each split of the drawn data sets
MAX_NOTES = 100
WHOLE = "all"  # the images of a data set without splits


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `rcnn view` to the commands."""
    parser = commands.add_parser(
        "view",
        help="write an HTML file to leaf through images, objects, detections and errors",
        description="Write an HTML file that shows the images of a data set with the boxes of their objects. With "
        "--weights, it also shows the detections of a detector, and the kind of each error. In the browser, you can "
        "filter the images by class and by kind of error, and sort them by the number of errors. The file works "
        "without a network. Invalid images and objects are left out and listed; for details, use rcnn check.",
    )
    parser.add_argument(
        "dataset",
        metavar="DATASET|RUN.toml",
        help="the path of a folder or file, with or without its format (such as voc:PATH); shapes; digits; or a plan "
        "(.toml)",
    )
    parser.add_argument(
        "--weights",
        metavar="PATH|RUN|NAME",
        help="also show the detections of this detector: a weights file of rcnn (.safetensors) or torchvision (.pth); "
        f"the folder of a run, to use its best weights; or {NAMED}",
    )
    parser.add_argument(
        "--split", metavar="SPLIT", help="split to show (default: val with --weights, otherwise train, val and test)"
    )
    parser.add_argument(
        "--score",
        type=float,
        default=MIN_SCORE,
        metavar="S",
        help="use only detections above this score (default: %(default)s)",
    )
    parser.add_argument(
        "--images",
        type=int,
        metavar="N",
        help=f"show at most the first N images of each split (default: {MAX_IMAGES:,}; for "
        f"{' and '.join(data.DRAWN)}: {MAX_PAGES})",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("rcnn-view.html"),
        metavar="FILE",
        help="HTML file to write (default: %(default)s); if there are more than 50 images, they are written to a "
        "folder beside it (rcnn-view_files)",
    )
    parser.add_argument("--open", action="store_true", help="at the end, open the file in the browser")
    add_max_pixels(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Write the HTML file; return 0."""
    if not 0 <= options.score <= 1:
        raise ValueError(f"--score must be between 0 and 1, got {options.score}")
    if options.images is not None and options.images < 1:
        raise ValueError(f"--images must be at least 1, got {options.images}")
    check_file("--out", options.out, ".html", ".htm")
    options.dataset = known_format(options.dataset)
    datasets = _datasets(options)
    model = None if options.weights is None else load_weights(options.weights)
    count = options.images or MAX_IMAGES
    folder = html.write_viewer(
        options.out,
        options.dataset,
        datasets,
        model,
        str(options.weights),
        options.score,
        count,
        _notes(datasets),
        progress=sys.stderr.isatty(),
    )
    shown = sum(min(len(dataset), count) for dataset in datasets.values())
    say(f"{shown} image{'s' * (shown != 1)}: {options.out}" + ("" if folder is None else f", with {folder}"))
    if options.open:
        webbrowser.open(options.out.resolve().as_uri())
    return 0


def _datasets(options: argparse.Namespace) -> dict[str, data.Dataset]:
    """Return the data set of each split to show, without the invalid images and objects."""
    spec, reader, split = options.dataset, {}, options.split
    if split is None and options.weights is not None:
        split = VAL
    if spec.endswith(".toml"):
        chosen = plan.read(spec)
        spec, reader = chosen.train if split in (None, TRAIN) else chosen.val or chosen.train, dict(chosen.options)
    if spec in data.DRAWN:
        return {name: data.load(spec, name, options.images or MAX_PAGES) for name in ([split] if split else [VAL])}
    on_error = reader.pop("on_error", "skip")
    if on_error == "raise":
        on_error = "skip"
    names = [split] if split else _splits(spec, reader)
    return {
        name: data.AnnotatedImages(data.read_annotations(spec, None if name == WHOLE else name, None, reader), on_error)
        for name in names
    }


def _splits(spec: str, reader: Mapping[str, Any]) -> list[str]:
    """Return the names of the splits of a data set."""
    stated = data.read_annotations(spec, None, None, reader).splits
    names = [name for name in (TRAIN, VAL, TEST) if name in stated or (name == VAL and TRAIN in stated)]
    return names or list(stated) or [WHOLE]


def _notes(datasets: Mapping[str, data.Dataset]) -> list[str]:
    """Return sentences about what is left out."""
    kinds = {"skipped": "left out", "fixed": "cut at the border", "unannotated": "no annotation"}
    notes = []
    for split, dataset in datasets.items():
        for name, words in kinds.items():
            entries = getattr(dataset, name, ())
            notes += [f"{split}: {words}: {entry.source}: {entry.reason}" for entry in entries[:MAX_NOTES]]
            if len(entries) > MAX_NOTES:
                notes.append(f"{split}: {words}: {len(entries) - MAX_NOTES:,} more")
    return notes

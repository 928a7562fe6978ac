"""The command `rcnn convert`: a data set in another format, with its images as PNG files."""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from rcnn import data
from rcnn._files import check_free

WRITERS: dict[str, Callable[[data.Dataset, Path, str], None]] = {
    "voc": data.write_voc,
    "coco": data.write_coco,
    "csv": data.write_csv,
}
SPLITS = ("train", "val")


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `rcnn convert` to the commands."""
    parser = commands.add_parser(
        "convert",
        help="convert a data set to VOC, COCO or CSV format",
        description="Writes the train and val splits of a data set in another format. Images become PNG files named "
        "train_000000.png and so on; boxes keep every digit. A property that the target format does not have is "
        "replaced by the nearest one (a crowd becomes difficult in VOC).",
    )
    parser.add_argument("source", metavar="SOURCE", help="shapes, digits, voc:PATH, coco:PATH, csv:PATH or masks:PATH")
    parser.add_argument("target", metavar="TARGET", help="voc:PATH, coco:PATH or csv:PATH; a new or empty folder")
    for split in SPLITS:
        parser.add_argument(
            f"--{split}",
            type=int,
            metavar="N",
            help=f"convert the first N images of the {split} split only, 0 for none (default: all)",
        )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Convert and print the result; return 0. A failed or interrupted conversion leaves no files."""
    kind, _, path = options.target.partition(":")
    if kind not in WRITERS or not path:
        raise ValueError(
            f"TARGET must be one of {', '.join(f'{kind}:PATH' for kind in WRITERS)}, got {options.target!r}"
        )
    target = Path(os.path.abspath(Path(path).expanduser()))
    check_free(target)
    for split in SPLITS:
        if (getattr(options, split) or 0) < 0:
            raise ValueError(f"--{split} must not be negative, got {getattr(options, split)}")
    counts = {split: getattr(options, split) for split in SPLITS}
    datasets = {split: data.load(options.source, split, n) for split, n in counts.items() if n != 0}
    if not datasets:
        raise ValueError("--train 0 and --val 0 leave nothing to write")
    partial = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        for split, dataset in datasets.items():
            WRITERS[kind](dataset, partial, split)
        if target.exists():
            target.rmdir()  # it is empty; not every system allows os.replace over an empty folder
        os.replace(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    written = ", ".join(f"{len(dataset)} for {split}" for split, dataset in datasets.items())
    print(f"{kind}:{path}: {written}")
    return 0

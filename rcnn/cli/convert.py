"""What `rcnn convert` does: a data set in another form, its images as PNG files."""

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
    """Adds `rcnn convert` to the commands."""
    parser = commands.add_parser(
        "convert",
        help="write a data set as a VOC folder, as COCO JSON or as CSV",
        description="Writes the train and the val split of a data set in another form. Images become PNG files by "
        "the names of train_000000.png and so on; boxes keep every digit. What the target's form does not "
        "know becomes the nearest that it does (a crowd is difficult in VOC).",
    )
    parser.add_argument("source", metavar="SOURCE", help="shapes, digits, voc:PATH, coco:PATH, csv:PATH or masks:PATH")
    parser.add_argument("target", metavar="TARGET", help="voc:PATH, coco:PATH or csv:PATH; a new or empty folder")
    for split in SPLITS:
        parser.add_argument(
            f"--{split}",
            type=int,
            metavar="N",
            help=f"the first N images of the {split} split, 0 for none (default: all)",
        )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Converts, and says what was written; nothing is left of a conversion that was interrupted or failed."""
    kind, _, path = options.target.partition(":")
    if kind not in WRITERS or not path:
        raise ValueError(
            f"a data set can be written as {', '.join(f'{kind}:PATH' for kind in WRITERS)}, not as {options.target!r}"
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
    beside = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        for split, dataset in datasets.items():
            WRITERS[kind](dataset, beside, split)
        if target.exists():
            target.rmdir()  # it is empty; os.replace over an empty folder is not for every system
        os.replace(beside, target)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    written = ", ".join(f"{len(dataset)} for {split}" for split, dataset in datasets.items())
    print(f"{kind}:{path}: {written}")
    return 0

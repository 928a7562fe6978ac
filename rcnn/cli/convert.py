"""The command `rcnn convert`, which writes a data set in another format, with PNG images."""

from __future__ import annotations

import argparse

from rcnn import data
from rcnn.cli.process import say
from rcnn.cli.shared import add_max_pixels, check_target, known_format, write_datasets
from rcnn.data.splits import TEST

SPLITS = ("train", "val")


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `rcnn convert` to the commands."""
    parser = commands.add_parser(
        "convert",
        help="convert a data set to VOC, COCO, YOLO or CSV format",
        description="Write the splits train, val and test of a data set in another format. Images become PNG files "
        "named train_000000.png, train_000001.png and so on. Box coordinates are not rounded. If the target format "
        "has no field for a property of an object, the most similar field is used; for example, a crowd becomes a "
        "difficult object in VOC.",
    )
    parser.add_argument(
        "source", metavar="SOURCE", help="shapes, digits, or a path such as voc:PATH; see rcnn check --help"
    )
    parser.add_argument(
        "target",
        metavar="TARGET",
        help="voc:PATH, coco:PATH, yolo:PATH or csv:PATH; PATH is a new or empty folder",
    )
    for split in SPLITS:
        parser.add_argument(
            f"--{split}",
            type=int,
            metavar="N",
            help=f"convert only the first N images of the {split} split, or none if N is 0 (default: all)",
        )
    add_max_pixels(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Convert the data set and print what was written; return 0. If the conversion fails, no files remain."""
    kind, folder = check_target(options.target)
    for split in SPLITS:
        if (getattr(options, split) or 0) < 0:
            raise ValueError(f"--{split} must not be negative, got {getattr(options, split)}")
    counts = {split: getattr(options, split) for split in SPLITS}
    source = known_format(options.source)
    datasets = {split: data.load(source, split, n) for split, n in counts.items() if n != 0}
    if not datasets:
        raise ValueError("--train and --val must not both be 0, because no images would be written")
    if TEST in getattr(next(iter(datasets.values())), "splits", ()):
        datasets[TEST] = data.load(source, TEST)
    write_datasets(datasets, kind, folder)
    written = ", ".join(f"{len(dataset)} for {split}" for split, dataset in datasets.items())
    say(f"{options.target}: {written}")
    return 0

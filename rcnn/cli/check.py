"""The command `rcnn check`, which reports the contents and the faults of a data set."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rcnn import data
from rcnn._files import write_whole
from rcnn.cli.process import printable, say
from rcnn.cli.shared import (
    WRITERS,
    add_max_pixels,
    check_file,
    check_not_in_dataset,
    check_target,
    known_format,
    write_datasets,
    write_figure,
)
from rcnn.data.items import Items
from rcnn.data.report import Problem, Report, counts_table, problems_text
from rcnn.data.splits import TEST
from rcnn.data.validation import shared_images, validate
from rcnn.train import defaults, plan
from rcnn.train.augment import augment
from rcnn.train.loader import learned, read_image
from rcnn.transform import as_image

SPLITS = ("train", "val")
BOTH = "both"
PAGES = {"train": 500, "val": 200}  # number of pages to check in the drawn data sets
SHEET = Path("rcnn-check.png")
SHEET_IMAGES = 16
REPAIRS = "repairs.txt"  # list of the repairs, in the folder of the repaired copy
SHOWN_REPAIRS = 10


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `rcnn check` to the commands."""
    parser = commands.add_parser(
        "check",
        help="find faults in a data set before training",
        description="Read every image of a data set once, count the objects of each class, list faults in images, "
        "boxes and labels, and draw sixteen images with their boxes. The exit status is 0 if training may start, 1 "
        "if there are errors, and 2 if the data set cannot be read at all. To leave out faulty images and "
        "objects instead of correcting them, train with rcnn train --on-error skip. With --on-error fix, boxes are "
        "also cut at the border of their image.",
    )
    parser.add_argument(
        "dataset",
        metavar="DATASET|RUN.toml",
        help="the path of a folder or file, with or without its format "
        f"({', '.join(f'{kind}:PATH' for kind in data.READERS)}); shapes; digits; or a plan, the .toml file of a run",
    )
    parser.add_argument(
        "--split",
        default=BOTH,
        metavar="SPLIT",
        help="split to check: train, val, both, or another name (default: %(default)s)",
    )
    parser.add_argument(
        "--sheet",
        type=Path,
        default=SHEET,
        metavar="FILE",
        help=".png file for the drawing of sixteen images (default: %(default)s)",
    )
    parser.add_argument(
        "--augmented",
        action="store_true",
        help="draw training images as the detector sees them in training, after the random changes of the plan or of "
        "the default recipe",
    )
    parser.add_argument(
        "--json", metavar="FILE", help="also write the report to this .json file (- for standard output)"
    )
    parser.add_argument(
        "--fix",
        metavar="OUT",
        help="also write a repaired copy of the data set to this new or empty folder: boxes are cut at the border of "
        "their image, and invalid objects and images are left out. The copy has the format of the data set if rcnn "
        "can write this format, and otherwise COCO format; to choose the format, write OUT as one of "
        f"{', '.join(f'{kind}:PATH' for kind in WRITERS)}. The file {REPAIRS} in the folder lists all repairs",
    )
    add_max_pixels(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Check the data set, print a report and draw images; return 0 if training can start, otherwise 1."""
    _check_outputs(options)
    options.dataset = known_format(options.dataset)
    target = check_target(_fix_target(options)) if options.fix else None
    # The default sheet replaces the sheet of the last time, which may be in the folder of the images.
    outputs = {"--json": options.json} | ({"--sheet": options.sheet} if options.sheet != SHEET else {})
    datasets, reports, shared = examine(options.dataset, options.split, outputs=outputs)
    sheet = _write_augmented(options) if options.augmented else _write_sheet(options.sheet, datasets, reports)
    ok = all(report.ok for report in reports.values())
    if options.json:
        content = {
            "dataset": options.dataset,
            "ok": ok,
            "shared": [problem.as_dict() for problem in shared],
            "splits": {split: report.as_dict() for split, report in reports.items()},
        }
        text = json.dumps(content, indent=1) + "\n"
        if options.json == "-":
            sys.stdout.write(text)
        else:
            write_whole(options.json, text.encode())
    if options.json != "-":
        say(_text(reports, shared, sheet))
    if target:
        _write_fixed(options, *target)
    return 0 if ok or target else 1


def examine(
    dataset: str, split: str = BOTH, on_error: str | None = None, outputs: Mapping[str, str | Path | None] | None = None
) -> tuple[dict[str, Any], dict[str, Report], Sequence[Problem]]:
    """Return the data set and the report of each split, and the problems that the splits have in common.

    `on_error` replaces this option of the reader. With "skip" and "fix", only the valid images and objects are checked.
    The files `outputs`, by option, must not be files of the data set.
    """
    specs = _specs(dataset, split)
    datasets = _datasets(specs, on_error)
    for name, loaded in datasets.items():
        for option, file in (outputs or {}).items():
            check_not_in_dataset(option, file, specs[name][0], loaded)
    reports = {
        name: validate(loaded, progress=sys.stderr.isatty(), to_learn=name == "train")
        for name, loaded in datasets.items()
    }
    return datasets, reports, shared_images(reports["train"], reports["val"]) if len(reports) == 2 else ()


def _check_outputs(options: argparse.Namespace) -> None:
    """Raise OSError or ValueError if an output file cannot be written, before any image is read."""
    check_file("--sheet", options.sheet, ".png")
    check_file("--json", options.json, ".json")
    if options.augmented and options.split not in ("train", BOTH):
        raise ValueError(f"--augmented draws training images, but --split is {options.split}; leave one of them out")


def _fix_target(options: argparse.Namespace) -> str:
    """Return the format and the path of the repaired copy, such as "voc:repaired"."""
    kind = options.dataset.partition(":")[0]
    has_format = ":" in options.fix and options.fix.partition(":")[0] in WRITERS
    return str(options.fix) if has_format else f"{kind if kind in WRITERS else 'coco'}:{options.fix}"


def _write_fixed(options: argparse.Namespace, kind: str, folder: Path) -> None:
    """Write the repaired copy of the data set, and print and list the repairs."""
    specs = _specs(options.dataset, options.split)
    datasets = {split: _load_fixed(split, *spec) for split, spec in specs.items()}
    if options.split == BOTH and TEST in getattr(datasets.get("train"), "splits", ()):
        datasets[TEST] = _load_fixed(TEST, *specs["train"])
    write_datasets(datasets, kind, folder)
    cut, left_out = (
        list(dict.fromkeys(entry for dataset in datasets.values() for entry in getattr(dataset, name, ())))
        for name in ("fixed", "skipped")
    )
    lines = [f"cut: {entry.source}: {entry.reason}" for entry in cut]
    lines += [f"left out: {entry.source}: {entry.reason}" for entry in left_out]
    write_whole(folder / REPAIRS, "".join(f"{printable(line)}\n" for line in lines).encode())
    written = ", ".join(f"{len(dataset)} for {split}" for split, dataset in datasets.items())
    summary = f"boxes cut: {len(cut)}; objects and images left out: {len(left_out)}; all repairs: {folder / REPAIRS}"
    say("\n".join([*lines[:SHOWN_REPAIRS], f"{kind}:{folder}: {written}; {summary}"]))


def _load_fixed(split: str, spec: str, count: int | None, reader: Mapping[str, Any]) -> data.Dataset:
    if spec in data.DRAWN:
        return data.load(spec, split, count or PAGES.get(split))
    return data.load(spec, split, count, options={**reader, "on_error": "fix"})


def _datasets(specs: Mapping[str, tuple[str, int | None, Mapping[str, Any]]], on_error: str | None) -> dict[str, Any]:
    """Return the data set to check for each split: annotations with their faults, or drawn pages."""
    changed = {} if on_error is None else {"on_error": on_error}
    return _broken_once(
        {split: _load(spec, split, count, {**reader, **changed}) for split, (spec, count, reader) in specs.items()}
    )


def _specs(dataset: str, split: str) -> dict[str, tuple[str, int | None, Mapping[str, Any]]]:
    """Return the name of the data set, the number of images and the options of the reader for each split."""
    splits = SPLITS if split == BOTH else (split,)
    reader: Mapping[str, Any] = {}
    specs: dict[str, tuple[str | None, int | None]] = dict.fromkeys(splits, (dataset, None))
    if dataset.endswith(".toml"):
        chosen = plan.read(dataset)
        reader = chosen.options
        specs = dict.fromkeys(splits, (chosen.val or chosen.train, None))
        specs |= {"train": (chosen.train, chosen.train_images), "val": (chosen.val, chosen.val_images)}
    found = {name: (spec, count, reader) for name, (spec, count) in specs.items() if spec and name in splits}
    if not found:
        raise ValueError(f"{dataset} defines no data set for {split}; add the key {split} to its section [data]")
    return found


def _load(spec: str, split: str, count: int | None, reader: Mapping[str, Any]) -> Any:
    if spec in data.DRAWN:
        return data.load(spec, split, count or PAGES.get(split))
    further = dict(reader)
    if further.pop("on_error", "raise") != "raise":  # training skips faulty images, but the report must count them
        return data.load(spec, split, count, options=reader)
    return data.read_annotations(spec, split, count, further)


def _broken_once(datasets: dict[str, Any]) -> dict[str, Any]:
    """Keep each unreadable or missing annotation only in the first data set, because its split is unknown."""
    first = next(iter(datasets.values()))
    return {
        split: dataclasses.replace(
            dataset, broken=_new(dataset, first, "broken"), unannotated=_new(dataset, first, "unannotated")
        )
        if dataset is not first and isinstance(dataset, data.Annotations)
        else dataset
        for split, dataset in datasets.items()
    }


def _new(dataset: data.Annotations, first: Any, name: str) -> list[data.Broken]:
    seen = set(getattr(first, name, ()))
    return [broken for broken in getattr(dataset, name) if broken not in seen]


# ---------------------------------------------------------------------- printed text


def _text(reports: Mapping[str, Report], shared: Sequence[Problem], sheet: str) -> str:
    """Return the table of counts, the problems of each split, and the verdict."""
    parts = [counts_table({split: report.counts for split, report in reports.items()})]
    parts += [f"{split}: {problems_text(report.problems)}" for split, report in reports.items()]
    parts += [f"train and val: {problems_text(shared)}"] if shared else []
    verdict = "training may start" if all(report.ok for report in reports.values()) else "training must not start"
    return "\n\n".join([*parts, f"{sheet}\n{verdict}"])


# ---------------------------------------------------------------------- the drawing of sixteen images


def _write_sheet(path: Path, datasets: Mapping[str, Any], reports: Mapping[str, Report]) -> str:
    """Write one picture that shows up to sixteen images, and return a line of text about it."""
    from rcnn import plot  # imports matplotlib, which is slow

    chosen = choose(reports)
    if not chosen:
        return "no drawing, because there are no images"
    items = {split: Items(dataset) for split, dataset in datasets.items()}
    tiles = [_tile(items[split], index, split, _kinds_of(reports[split], index)) for split, index in chosen]
    images, boxes_list, labels_list, captions = zip(*tiles, strict=True)
    names = next(iter(items.values())).classes
    write_figure(path, plot.contact_sheet(images, boxes_list, labels_list, names, captions))
    return f"{len(chosen)} image{'s' * (len(chosen) != 1)} with their boxes: {path}"


def _tile(items: Items, index: int, split: str, kinds: Sequence[str]) -> tuple[Any, np.ndarray, np.ndarray, str]:
    """Return an image, its G boxes (G, 4), labels (G,) and caption; the image is None if it cannot be read."""
    item = items.read(index)
    if item is None:
        return None, np.zeros((0, 4)), np.zeros(0, np.int64), f"{split}, image {index}\n{', '.join(kinds)}"
    boxes = item.boxes if item.upright is None else item.upright
    name = item.place if item.file is None else item.file.name
    text = ", ".join(kinds) or f"{len(boxes)} object{'s' * (len(boxes) != 1)}"
    return item.image, boxes, item.labels, f"{split}, {name}\n{text}"


def _write_augmented(options: argparse.Namespace) -> str:
    """Write the contact sheet of augmented training images, and return a line of text about it."""
    from rcnn import plot  # imports matplotlib, which is slow

    spec, count, reader = _specs(options.dataset, options.split)["train"]
    usable = {} if spec in data.DRAWN else {**reader, "on_error": "skip"}
    dataset = data.load(spec, "train", count, options=usable)
    if not len(dataset):
        return "no drawing, because there are no images"
    is_plan = options.dataset.endswith(".toml")
    recipe = (plan.read(options.dataset) if is_plan else defaults.for_dataset(spec, options=usable)).recipe
    indices = np.unique(np.linspace(0, len(dataset) - 1, SHEET_IMAGES).astype(int)).tolist()
    read = [read_image(dataset, index) for index in indices]
    targets = [learned(dataset, index, target) for index, (_, target) in zip(indices, read, strict=True)]
    changed, targets, scales = augment([image for image, _ in read], targets, recipe, step=0)
    images = [as_image(image) for image in changed]
    boxes_list, labels_list = ([target[name] for target in targets] for name in ("boxes", "labels"))
    captions = [
        f"train, {_file_name(dataset, index)}\nscaled by {scale:.2f}"
        for index, scale in zip(indices, scales, strict=True)
    ]
    write_figure(options.sheet, plot.contact_sheet(images, boxes_list, labels_list, dataset.classes, captions))
    return f"{len(images)} augmented training image{'s' * (len(images) != 1)}: {options.sheet}"


def _file_name(dataset: data.Dataset, index: int) -> str:
    return Path(dataset.records[index].image).name if isinstance(dataset, data.AnnotatedImages) else f"image {index}"


def choose(reports: Mapping[str, Report], count: int = SHEET_IMAGES) -> list[tuple[str, int]]:
    """Return (split, index) of up to `count` images: first, one per problem in turn, then images without problems."""
    columns = [
        [(split, example.image) for example in problem.examples if example.image is not None]
        for split, report in reports.items()
        for problem in report.problems
    ]
    depth = max(map(len, columns), default=0)
    faulty = [column[row] for row in range(depth) for column in columns if row < len(column)]
    chosen = list(dict.fromkeys(faulty))[:count]
    everything = [(split, i) for split, report in reports.items() for i in range(report.counts.images)]
    rest = [image for image in everything if image not in set(chosen)]
    spread = np.unique(np.linspace(0, len(rest) - 1, min(count - len(chosen), len(rest))).astype(int))
    return chosen + [rest[i] for i in spread]


def _kinds_of(report: Report, index: int) -> list[str]:
    """Return the kinds of problems of the image at `index`."""
    return [problem.kind for problem in report.problems if any(example.image == index for example in problem.examples)]

"""The command `rcnn check`, which reports the contents and the faults of a data set."""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rcnn import data
from rcnn._files import write_whole
from rcnn.cli.process import message, printable, say
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
from rcnn.data.splits import TEST, TRAIN, VAL
from rcnn.data.validation import shared_images, validate
from rcnn.train import defaults, plan
from rcnn.train.augment import augment
from rcnn.train.loader import read_image, training_target
from rcnn.transform import as_image

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
        "boxes and labels, find images that are in two splits, and draw sixteen images with their boxes. The exit "
        "status is 0 if there are no errors, 1 if there are errors, and 2 if the data set cannot be read at all. "
        "Errors in the test split do not prevent training. To leave out faulty images and objects instead of "
        "correcting them, train with rcnn train --on-error skip. With --on-error fix, boxes are also cut at the border "
        "of their image.",
    )
    parser.add_argument(
        "dataset",
        metavar="DATASET|RUN.toml",
        help="the path of a folder or file, with or without its format "
        f"({', '.join(f'{kind}:PATH' for kind in data.READERS)}); shapes; digits; or a plan, the .toml file of a run",
    )
    parser.add_argument(
        "--split",
        metavar="SPLIT",
        help="check only this split, such as train, val or test, or both, which means train and val (default: train, "
        "val and, if there is one, test)",
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
    """Check the data set, print a report and draw images; return 0 if there are no errors, otherwise 1."""
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
            "shared": [{"splits": pair, **problem.as_dict()} for pair, found in shared.items() for problem in found],
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
    dataset: str,
    split: str | None = None,
    on_error: str | None = None,
    outputs: Mapping[str, str | Path | None] | None = None,
) -> tuple[dict[str, Any], dict[str, Report], dict[tuple[str, str], Sequence[Problem]]]:
    """Return the data set and the report of each split, and the problems that each pair of splits has in common.

    `on_error` replaces this option of the reader. With "skip" and "fix", only the valid images and objects are checked.
    The files `outputs`, by option, must not be files of the data set.
    """

    def load(name: str, spec: str, count: int | None, reader: Mapping[str, Any]) -> Any:
        try:
            return _load(name, spec, count, reader if on_error is None else {**reader, "on_error": on_error})
        except (OSError, ValueError) as error:
            if name != TEST or split == TEST:
                raise
            return data.Annotations((), (), [data.Broken(spec, message(error))])  # training does not need this split

    specs, datasets = _load_splits(dataset, split, load)
    datasets = _broken_once(datasets)
    for name, loaded in datasets.items():
        for option, file in (outputs or {}).items():
            check_not_in_dataset(option, file, specs[name][0], loaded)
    reports = {
        name: validate(loaded, progress=sys.stderr.isatty(), to_learn=name == TRAIN)
        for name, loaded in datasets.items()
    }
    pairs = itertools.combinations(reports.items(), 2)
    shared: dict[tuple[str, str], Sequence[Problem]] = {
        (first[0], second[0]): shared_images(first, second) for first, second in pairs
    }
    return datasets, reports, shared


def _check_outputs(options: argparse.Namespace) -> None:
    """Raise OSError or ValueError if an output file cannot be written, before any image is read."""
    check_file("--sheet", options.sheet, ".png")
    check_file("--json", options.json, ".json")
    if options.augmented and options.split not in (TRAIN, BOTH, None):
        raise ValueError(f"--augmented draws training images, but --split is {options.split}; leave one of them out")


def _fix_target(options: argparse.Namespace) -> str:
    """Return the format and the path of the repaired copy, such as "voc:repaired"."""
    kind = options.dataset.partition(":")[0]
    has_format = ":" in options.fix and options.fix.partition(":")[0] in WRITERS
    return str(options.fix) if has_format else f"{kind if kind in WRITERS else 'coco'}:{options.fix}"


def _write_fixed(options: argparse.Namespace, kind: str, folder: Path) -> None:
    """Write the repaired copy of the data set, and print and list the repairs."""
    _, datasets = _load_splits(options.dataset, options.split, _load_fixed)
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


def _load_splits(
    dataset: str, split: str | None, load: Callable[..., Any]
) -> tuple[dict[str, tuple[str, int | None, Mapping[str, Any]]], dict[str, Any]]:
    """Return the arguments of `load` and its result for `split`; by default, for train, val and, if defined, test."""
    specs = _specs(dataset, split)
    datasets = {name: load(name, *spec) for name, spec in specs.items()}
    if split is None and TEST in getattr(datasets.get(TRAIN), "splits", ()):
        spec, _, reader = specs[TRAIN]
        specs[TEST] = spec, None, reader
        datasets[TEST] = load(TEST, *specs[TEST])
    return specs, datasets


def _specs(dataset: str, split: str | None) -> dict[str, tuple[str, int | None, Mapping[str, Any]]]:
    """Return the name of the data set, the number of images and the options of the reader for each split."""
    splits = (TRAIN, VAL) if split is None or split == BOTH else (split,)
    reader: Mapping[str, Any] = {}
    specs: dict[str, tuple[str | None, int | None]] = dict.fromkeys(splits, (dataset, None))
    if dataset.endswith(".toml"):
        chosen = plan.read(dataset)
        reader = chosen.options
        specs = dict.fromkeys(splits, (chosen.val or chosen.train, None))
        specs |= {TRAIN: (chosen.train, chosen.train_images), VAL: (chosen.val, chosen.val_images)}
    found = {name: (spec, count, reader) for name, (spec, count) in specs.items() if spec and name in splits}
    if not found:
        raise ValueError(f"{dataset} defines no data set for {split}; add the key {split} to its section [data]")
    return found


def _load(split: str, spec: str, count: int | None, reader: Mapping[str, Any]) -> Any:
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


def _text(reports: Mapping[str, Report], shared: Mapping[tuple[str, str], Sequence[Problem]], sheet: str) -> str:
    """Return the table of counts, the problems of each split, and the verdict."""
    parts = [counts_table({split: report.counts for split, report in reports.items()})]
    parts += [f"{split}: {problems_text(report.problems)}" for split, report in reports.items()]
    parts += [f"{' and '.join(pair)}: {problems_text(problems)}" for pair, problems in shared.items() if problems]
    faulty = [split for split, report in reports.items() if not report.ok]
    verdict = "training must not start" if set(faulty) - {TEST} else "training may start"
    if faulty == [TEST]:
        verdict += f", but not an evaluation on {TEST}, which has errors"
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
    targets = [training_target(dataset, index, target) for index, (_, target) in zip(indices, read, strict=True)]
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

"""The command `rcnn eval`, which prints the average precision and the kinds of error of a detector on a data set."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from rcnn import data, evaluate
from rcnn._files import write_whole
from rcnn.cli.jobs import Command, Lost, add_jobs, make_pool
from rcnn.cli.prediction import OPTIONS, add_options, with_options
from rcnn.cli.process import say
from rcnn.cli.shared import (
    NAMED,
    add_max_pixels,
    check_file,
    check_not_in_dataset,
    known_format,
    load_weights,
    write_figure,
)
from rcnn.model import FasterRCNN
from rcnn.trace import Detections
from rcnn.train import plan

VAL_PAGES = 200  # number of pages from the drawn data sets
METHODS = {"voc": "voc2012", "voc2007": "voc2007"}
FIGURE = "evaluation.png"
FEW = 6  # number of confusions to list
BATCH = 4  # images in a pass
TASK_OPTIONS = ("weights", "dataset", "split", "images", "errors", "plots", "json", *OPTIONS)

Targets = list[dict[str, np.ndarray]]
Outcome = tuple[evaluate.StageRecall | None, list[Detections], Targets]


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `rcnn eval` to the commands."""
    parser = commands.add_parser(
        "eval",
        help="print average precision, kinds of error and recall by stage",
        description="Run a detector on a data set, and print the average precision of each class. With options, also "
        "print the twelve COCO metrics, the kinds of error, or the recall by stage (the fraction of objects that are "
        "still found after each stage). The classes of the detector and of the data set are matched by name, in any "
        "order.",
    )
    parser.add_argument(
        "dataset",
        metavar="DATASET|RUN.toml",
        help="the path of a folder or file, with or without its format (such as voc:PATH); shapes; digits; or a plan, "
        "the .toml file of a run",
    )
    parser.add_argument(
        "--weights",
        required=True,
        metavar="PATH|RUN|NAME",
        help="a weights file of rcnn (.safetensors) or torchvision (.pth); the folder of a run, to use its best "
        f"weights; or {NAMED}",
    )
    parser.add_argument(
        "--split", default="val", help="split to use: train, val, or another name (default: %(default)s)"
    )
    parser.add_argument(
        "--measure",
        choices=(*METHODS, "coco"),
        default="voc",
        help="how to compute average precision: voc (VOC 2012), voc2007, or coco, which prints the twelve COCO metrics "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--errors",
        action="store_true",
        help="also print the kinds of error, the confusions of classes, and the recall by stage",
    )
    parser.add_argument("--plots", type=Path, metavar="DIR", help="also write a figure of all results to this folder")
    parser.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        help="also write the detections to this .json file, in the COCO results format",
    )
    parser.add_argument(
        "--images",
        type=int,
        metavar="N",
        help=f"use only the first N images (default: all; for {' and '.join(data.DRAWN)}: {VAL_PAGES})",
    )
    add_jobs(parser)
    add_max_pixels(parser)
    add_options(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Evaluate the detector, print the results and write files; return 0."""
    _check_outputs(options)
    options.dataset = known_format(options.dataset)
    model = load_weights(options.weights)
    detector = with_options(model, options)
    dataset = _load(options)
    labels = evaluate.match_classes(model.config.class_names or model.config.num_classes, dataset.classes)
    stages, detections, targets = _detect(options, model, detector, dataset, labels)
    known = evaluate.rename(detections, labels)
    if options.json:
        write_whole(options.json, _as_results(known, dataset).encode())
    _print_measure(options.measure, known, targets, dataset.classes)
    others = _count(detections) - _count(known)
    if others:
        say(f"skipped {others} detections of classes that {options.dataset} does not have")
    if stages is not None:
        _show_errors(options, known, targets, stages, dataset.classes)
        if detector is not model:
            say("The recall by stage is that of a single view, with the suppression of the model.")
    return 0


def _detect(
    options: argparse.Namespace, model: FasterRCNN, detector: Any, dataset: data.Dataset, labels: np.ndarray
) -> Outcome:
    """Return the recall by stage (None unless the options ask for it), the detections and the targets of a data set."""
    pool = make_pool(options)
    if pool is None:
        return _detect_in(dataset, model, detector, labels, _wants_stages(options), progress=True)
    parts = [range(start, min(start + BATCH, len(dataset))) for start in range(0, len(dataset), BATCH)]
    outcomes: list[Outcome] = []
    task = Task(pool.command(options, TASK_OPTIONS), labels)
    with pool, tqdm(total=len(dataset), desc="evaluate", unit="image", disable=None) as bar:
        for part, done in zip(parts, pool.map(task, parts, partial(_describe, dataset)), strict=True):
            if isinstance(done, Lost):
                raise RuntimeError(
                    f"two worker processes died ({done.reason}) while they worked on {_describe(dataset, part)}"
                )
            outcomes.append(done)
            bar.update(len(part))
    stages = [found for found, _, _ in outcomes if found is not None]
    detections = [one for _, found, _ in outcomes for one in found]
    targets = [one for _, _, given in outcomes for one in given]
    return evaluate.join_stages(stages) if stages else None, detections, targets


def _wants_stages(options: argparse.Namespace) -> bool:
    """Return whether the options ask for the recall by stage."""
    return bool(options.errors or options.plots)


@dataclass(frozen=True)
class Task:
    """Detection in parts of a data set, as a function that other processes can call.

    Attributes
    ----------
    command : Command
        The command, with the options in `TASK_OPTIONS`.
    labels : (L,) int64 array
        The data set's label for each of the detector's L labels.
    """

    command: Command
    labels: np.ndarray

    def __call__(self, part: range) -> Outcome:
        """Return the result of `_detect_in` for a part of the data set."""
        options = self.command.options
        with self.command.loaded(_load_all) as (model, dataset):
            detector, subset = with_options(model, options), _Subset(dataset, part)
            return _detect_in(subset, model, detector, self.labels, _wants_stages(options))


def _load_all(options: argparse.Namespace) -> tuple[FasterRCNN, data.Dataset]:
    return load_weights(options.weights), _load(options)


@dataclass(frozen=True)
class _Subset:
    """Some images of a data set."""

    dataset: data.Dataset
    indices: range

    @property
    def classes(self) -> Sequence[str]:
        return self.dataset.classes

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Any:
        return self.dataset[self.indices[index]]


def _detect_in(
    dataset: Any, model: FasterRCNN, detector: Any, labels: np.ndarray, wants_stages: bool, progress: bool = False
) -> Outcome:
    """Return the recall by stage (None unless `wants_stages`), the detections and the targets of a data set."""
    stages = None
    if wants_stages:  # this gives the same detections as `predictions`
        stages, detections, targets = evaluate.trace_dataset(
            model, dataset, batch_size=BATCH, progress=progress, labels=labels
        )
    if stages is None or detector is not model:
        detections, targets = evaluate.predictions(detector, dataset, BATCH, progress)
    return stages, detections, targets


def _describe(dataset: data.Dataset, part: range) -> str:
    """Return a name of some images of a data set for a message."""
    records = getattr(dataset, "records", None)
    if records is None:
        return f"images {part.start} to {part.stop - 1}"
    return ", ".join(str(records[index].image) for index in part)


def _check_outputs(options: argparse.Namespace) -> None:
    """Before the computation, raise OSError if an output cannot be written, and ValueError if --images is invalid."""
    if options.images is not None and options.images < 1:
        raise ValueError(f"--images must be at least 1, got {options.images}")
    check_file("--json", options.json, ".json")
    if options.plots:
        options.plots.mkdir(parents=True, exist_ok=True)
        check_file("--plots", options.plots / FIGURE, ".png")


def _load(options: argparse.Namespace) -> data.Dataset:
    """Return the data set for the evaluation; for a plan, its validation or training data."""
    spec, count, reader = options.dataset, None, None
    if spec.endswith(".toml"):
        chosen = plan.read(spec)
        reader = chosen.options
        spec, count = chosen.val or chosen.train, chosen.val_images
        if options.split == "train":
            spec, count = chosen.train, chosen.train_images
    if count is None and spec in data.DRAWN:
        count = VAL_PAGES
    dataset = data.load(spec, options.split, count if options.images is None else options.images, options=reader)
    check_not_in_dataset("--json", options.json, spec, dataset)
    return dataset


def _as_results(detections: Sequence[Detections], dataset: data.Dataset) -> str:
    """Return the text of a COCO results file; the ids of images and categories are those of the annotations."""
    records = getattr(dataset, "records", None)
    image_ids = list(range(len(dataset))) if records is None else [record.image_id for record in records]
    category_ids = getattr(dataset, "category_ids", ()) or range(len(dataset.classes))
    return evaluate.results_json(detections, image_ids, category_ids)


def _count(detections: Sequence[Detections]) -> int:
    return sum(len(detected["labels"]) for detected in detections)


# ---------------------------------------------------------------------- printed text


def _print_measure(measure: str, detections: Sequence[Detections], targets: Targets, classes: Sequence[str]) -> None:
    """Print a row for each class, the mean and, with --measure coco, the twelve COCO metrics."""
    if measure != "coco":
        result = evaluate.evaluate_detections(detections, targets, len(classes), method=METHODS[measure])
        _print_table(classes, result.num_objects, result.num_detections, {"AP50": result.ap})
        return
    coco = evaluate.evaluate_coco(detections, targets, len(classes))
    _print_table(classes, coco.num_objects, coco.num_detections, {"AP": coco.ap, "AP50": coco.ap50})
    say("")
    for name, value in coco.numbers.items():
        say(f"{name:<6}{_number(value)}")


def _print_table(
    classes: Sequence[str], num_objects: np.ndarray, num_detections: np.ndarray, columns: dict[str, np.ndarray]
) -> None:
    """Print the number of objects and detections and each column (L,) for the L classes, then sums and means."""
    width = max(12, *map(len, classes))
    say(f"{'class':<{width}} {'objects':>8} {'detections':>10}" + "".join(f" {name:>7}" for name in columns))
    for label, name in enumerate(classes[1:], start=1):
        say(
            f"{name:<{width}} {num_objects[label]:>8} {num_detections[label]:>10}"
            + "".join(f" {_number(values[label])}" for values in columns.values())
        )
    means = (values[~np.isnan(values)] for values in columns.values())
    say(
        f"{'mean':<{width}} {num_objects[1:].sum():>8} {num_detections[1:].sum():>10}"
        + "".join(f" {_number(values.mean() if len(values) else np.nan)}" for values in means)
    )


def _number(value: float) -> str:
    """Return a number as seven characters; NaN, which means that there are no objects, becomes a dash."""
    return f"{'-':>7}" if np.isnan(value) else f"{value:>7.3f}"


def _show_errors(
    options: argparse.Namespace,
    detections: Sequence[Detections],
    targets: Targets,
    stages: evaluate.StageRecall,
    classes: Sequence[str],
) -> None:
    """Print or draw the kinds of error and the recall by stage, or do both, depending on the options."""
    method = METHODS.get(options.measure, METHODS["voc"])
    errors = evaluate.error_kinds(detections, targets, len(classes), method=method)
    confusion = evaluate.confusion(detections, targets, len(classes))
    if options.errors:
        say(
            f"\n{errors}\n\nconfused classes, for detections with a score above 0.5: {_confusions(confusion, classes)}"
            f"\n\n{stages}"
        )
    if options.plots:
        from rcnn import plot  # imports matplotlib, which is slow

        result = evaluate.evaluate_detections(detections, targets, len(classes), method=method)
        write_figure(options.plots / FIGURE, plot.evaluation_page(result, confusion, errors, stages, classes))
        say(f"\nfigure: {options.plots / FIGURE}")


def _confusions(counts: np.ndarray, classes: Sequence[str]) -> str:
    """Return the most frequent confusions in a confusion matrix (L, L) as text."""
    off_diagonal = counts * ~np.eye(len(counts), dtype=bool)
    off_diagonal[0] = off_diagonal[:, 0] = 0
    order = np.argsort(-off_diagonal, axis=None, kind="stable")[:FEW]
    pairs = [(classes[i // len(counts)], classes[i % len(counts)], off_diagonal.flat[i]) for i in order]
    text = ", ".join(f"{actual} as {predicted} ({count})" for actual, predicted, count in pairs if count)
    return text or "none"

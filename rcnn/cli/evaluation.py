"""What `rcnn eval` does: runs a detector over a data set once, and says how good it is and what it gets wrong."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rcnn import data, evaluate
from rcnn._files import write_whole
from rcnn.cli.shared import check_file, load_weights, write_figure
from rcnn.trace import Detections
from rcnn.train import plan

VAL_PAGES = 200  # of the sets that are drawn
METHODS = {"voc": "voc2012", "voc2007": "voc2007"}
FIGURE = "evaluation.png"
FEW = 6  # confusions that are listed

Targets = list[dict[str, np.ndarray]]


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds `eval` to the commands of a parser."""
    parser = commands.add_parser(
        "eval",
        help="average precision on a data set, kinds of error, recall by stage",
        description="Runs a detector over a data set and prints the average precision of each class, on request by "
        "COCO's measure, with kinds of error and how many objects each stage still reaches. Classes are "
        "matched by name, whatever their order.",
    )
    parser.add_argument(
        "dataset",
        metavar="DATASET|RUN.toml",
        help="shapes, digits, voc:PATH, coco:PATH, csv:PATH, masks:PATH, or a file that names one",
    )
    parser.add_argument(
        "--weights",
        required=True,
        metavar="PATH|RUN|coco",
        help="a model.safetensors, a .pth of torchvision's, coco, or the folder of a run, of which the "
        "best weights are taken",
    )
    parser.add_argument("--split", default="val", help="train, val, or another that is there (default: %(default)s)")
    parser.add_argument(
        "--measure",
        choices=(*METHODS, "coco"),
        default="voc",
        help="voc (2012 and later), voc2007, or coco's twelve numbers (default: %(default)s)",
    )
    parser.add_argument(
        "--errors",
        action="store_true",
        help="also print the kinds of error, what is taken for what, and the recall by stage",
    )
    parser.add_argument("--plots", type=Path, metavar="DIR", help="also write all of this as a figure to this folder")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="also write the detections to this file, as COCO's tools read them"
    )
    parser.add_argument(
        "--images",
        type=int,
        metavar="N",
        help=f"the first N images only (default: all, or {VAL_PAGES} of {' and '.join(data.DRAWN)})",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Runs the command and gives its exit status, 0; what is wrong is an OSError or a ValueError."""
    _check_outputs(options)
    model = load_weights(options.weights)
    dataset = _load(options)
    labels = evaluate.match_classes(model.config.class_names or model.config.num_classes, dataset.classes)
    stages = None
    if options.errors or options.plots:  # a pass that keeps the stages gives the same detections
        stages, detections, targets = evaluate.trace_dataset(model, dataset, labels=labels)
    else:
        detections, targets = evaluate.predictions(model, dataset)
    known = evaluate.rename(detections, labels)
    if options.json:
        write_whole(options.json, _as_results(known, dataset).encode())
    _print_measure(options.measure, known, targets, dataset.classes)
    others = _count(detections) - _count(known)
    if others:
        print(f"left out: {others} detections of classes that {options.dataset} does not have")
    if stages is not None:
        _show_errors(options, known, targets, stages, dataset.classes)
    return 0


def _check_outputs(options: argparse.Namespace) -> None:
    """An error, before any work is done, for what cannot be written, or for no images."""
    if options.images is not None and options.images < 1:
        raise ValueError(f"--images must be at least 1, not {options.images}")
    check_file("--json", options.json)
    if options.plots:
        options.plots.mkdir(parents=True, exist_ok=True)


def _load(options: argparse.Namespace) -> data.Dataset:
    """The images to look at: of a plan, those that it validates on, or learns from."""
    spec, count, reader = options.dataset, None, None
    if spec.endswith(".toml"):
        chosen = plan.read(spec)
        reader = chosen.options
        spec, count = chosen.val or chosen.train, chosen.val_images
        if options.split == "train":
            spec, count = chosen.train, chosen.train_images
    if count is None and spec in data.DRAWN:
        count = VAL_PAGES
    return data.load(spec, options.split, count if options.images is None else options.images, options=reader)


def _as_results(detections: Sequence[Detections], dataset: data.Dataset) -> str:
    """The text of a COCO result file, with the numbers by which the annotations know images and classes."""
    records = getattr(dataset, "records", None)
    image_ids = list(range(len(dataset))) if records is None else [record.image_id for record in records]
    category_ids = getattr(dataset, "category_ids", ()) or range(len(dataset.classes))
    return evaluate.results_json(detections, image_ids, category_ids)


def _count(detections: Sequence[Detections]) -> int:
    return sum(len(detected["labels"]) for detected in detections)


# ---------------------------------------------------------------------- what is printed


def _print_measure(measure: str, detections: Sequence[Detections], targets: Targets, classes: Sequence[str]) -> None:
    """Prints a row for each class, the mean, and of COCO's measure the twelve numbers."""
    if measure != "coco":
        result = evaluate.evaluate_detections(detections, targets, len(classes), method=METHODS[measure])
        _print_table(classes, result.num_objects, result.num_detections, {"AP50": result.ap})
        return
    coco = evaluate.evaluate_coco(detections, targets, len(classes))
    _print_table(classes, coco.num_objects, coco.num_detections, {"AP": coco.ap, "AP50": coco.ap50})
    print()
    for name, value in coco.numbers.items():
        print(f"{name:<6}{_number(value)}")


def _print_table(
    classes: Sequence[str], num_objects: np.ndarray, num_detections: np.ndarray, columns: dict[str, np.ndarray]
) -> None:
    """Prints objects, detections and each column (L,) by class, and below them the sums and the means."""
    width = max(12, *map(len, classes))
    print(f"{'class':<{width}} {'objects':>8} {'found':>8}" + "".join(f" {name:>7}" for name in columns))
    for label, name in enumerate(classes[1:], start=1):
        print(
            f"{name:<{width}} {num_objects[label]:>8} {num_detections[label]:>8}"
            + "".join(f" {_number(values[label])}" for values in columns.values())
        )
    means = (values[~np.isnan(values)] for values in columns.values())
    print(
        f"{'mean':<{width}} {num_objects[1:].sum():>8} {num_detections[1:].sum():>8}"
        + "".join(f" {_number(values.mean() if len(values) else np.nan)}" for values in means)
    )


def _number(value: float) -> str:
    """A number in seven columns; a dash where there is none, for want of objects."""
    return f"{'-':>7}" if np.isnan(value) else f"{value:>7.3f}"


def _show_errors(
    options: argparse.Namespace,
    detections: Sequence[Detections],
    targets: Targets,
    stages: evaluate.StageRecall,
    classes: Sequence[str],
) -> None:
    """Prints, or draws, or both, what goes wrong and which stage loses the objects."""
    method = METHODS.get(options.measure, METHODS["voc"])
    errors = evaluate.error_kinds(detections, targets, len(classes), method=method)
    confusion = evaluate.confusion(detections, targets, len(classes))
    if options.errors:
        print(
            f"\n{errors}\n\ntaken for another class, above a score of 0.5: {_confusions(confusion, classes)}"
            f"\n\n{stages}"
        )
    if options.plots:
        from rcnn import plot  # matplotlib, which takes a while, only where something is drawn

        result = evaluate.evaluate_detections(detections, targets, len(classes), method=method)
        write_figure(options.plots / FIGURE, plot.evaluation_page(result, confusion, errors, stages, classes))
        print(f"\nfigure: {options.plots / FIGURE}")


def _confusions(counts: np.ndarray, classes: Sequence[str]) -> str:
    """The most frequent confusions of a matrix (L, L) in words."""
    off_diagonal = counts * ~np.eye(len(counts), dtype=bool)
    off_diagonal[0] = off_diagonal[:, 0] = 0
    order = np.argsort(-off_diagonal, axis=None, kind="stable")[:FEW]
    pairs = [(classes[i // len(counts)], classes[i % len(counts)], off_diagonal.flat[i]) for i in order]
    words = ", ".join(f"{what} as {predicted} ({count})" for what, predicted, count in pairs if count)
    return words or "none"

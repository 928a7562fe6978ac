"""The report of a training run: an HTML file with the result, the curves, the errors and the next commands."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from rcnn._files import read_whole, write_whole
from rcnn.cli.html.entries import MIN_SCORE, Box, Entry, above, count_errors, make_entries
from rcnn.cli.html.template import as_uri, fill, text
from rcnn.data import Dataset
from rcnn.data.splits import TRAIN, VAL
from rcnn.doctor import Verdict
from rcnn.evaluate import (
    Errors,
    Evaluation,
    error_kinds,
    evaluate_detections,
    match_classes,
    predictions,
    rename,
)
from rcnn.model import FasterRCNN
from rcnn.train.run_folder import BEST, CURVES, PLAN, SavedRun

REPORT = "report.html"
WORST, BEST_IMAGES = 6, 3  # numbers of images to show
EDGE = 0.05  # of the height; boxes nearer than this to the border have their tag inside
CURVES_TEXT = "losses, learning rate and AP50 by step"
MAX_CURVES = 1 << 26  # bytes of curves.png


@dataclass(frozen=True, eq=False)
class Measured:
    """The detections of a detector in the images of a split.

    Attributes
    ----------
    split : str
        Name of the split.
    dataset : Dataset
        The images of the split.
    detections : list of dict
        For each image, the detections with the labels of the data set.
    targets : list of dict
        For each image, the target.
    """

    split: str
    dataset: Dataset
    detections: list[dict[str, np.ndarray]]
    targets: list[dict[str, np.ndarray]]

    @cached_property
    def result(self) -> Evaluation:  # numpydoc ignore=RT01
        """The average precision of each class."""
        return evaluate_detections(self.detections, self.targets, len(self.dataset.classes))

    @cached_property
    def errors(self) -> Errors:  # numpydoc ignore=RT01
        """The kinds of error of all detections."""
        return error_kinds(self.detections, self.targets, len(self.dataset.classes))


def measure(model: FasterRCNN, dataset: Dataset, split: str, progress: bool = True, batch_size: int = 4) -> Measured:
    """Run a detector on the images of a split.

    Parameters
    ----------
    model : FasterRCNN
        The detector.
    dataset : Dataset
        The images.
    split : str
        Name of the split.
    progress : bool
        If True, show a progress bar.
    batch_size : int
        The largest number of images that are processed at a time.

    Returns
    -------
    Measured
        The detections.

    Raises
    ------
    OSError, ValueError
        If an image or an annotation is invalid, or if the detector does not know a class of the data set.
    """
    labels = match_classes(model.config.class_names or model.config.num_classes, dataset.classes)
    detections, targets = predictions(model, dataset, batch_size, progress)
    return Measured(split, dataset, rename(detections, labels), targets)


def write_report(saved: SavedRun, measured: Measured | None = None, verdicts: Sequence[Verdict] = ()) -> Path:
    """Write report.html to the folder of a run.

    Parameters
    ----------
    saved : SavedRun
        The run. The report contains curves.png of its folder, if there is one.
    measured : Measured, optional
        The detections of the trained detector. Without it, the report has no average precision and no images; if the
        run has not reached its last step, the report explains how to continue it.
    verdicts : sequence of Verdict
        The verdicts of the doctor.

    Returns
    -------
    Path
        The report.
    """
    parts = [_stopped(saved) if measured is None else _result(saved, measured), _curves(saved)]
    if measured is not None:
        parts += [_kinds(measured.errors), _images(measured)]
    parts += [_doctor(verdicts), _commands(saved, measured)]
    page = fill(
        "report.html",
        {
            "title": text(f"Training run {saved.folder.resolve().name}"),
            "summary": text(_summary(saved)),
            "body": "\n".join(filter(None, parts)),
        },
    )
    write_whole(saved.folder / REPORT, page)
    return saved.folder / REPORT


def _summary(saved: SavedRun) -> str:
    """Return the data, the model and the number of steps, in words."""
    classes = len(saved.model.config.class_names or ()) - 1
    data = [] if saved.plan is None else [saved.plan.train, f"model: {saved.plan.kind}"]
    return "; ".join([*data, f"{classes} class{'es' * (classes != 1)}", f"{saved.run.steps:,} training steps"])


def _stopped(saved: SavedRun) -> str:
    """Return a paragraph if the run has not reached its end."""
    if saved.run.steps >= saved.recipe.steps:
        return ""
    command = f"rcnn train --resume {shlex.quote(str(saved.folder))}"
    words = f"The run was stopped after step {saved.run.steps:,} of {saved.recipe.steps:,}. To continue it:"
    return f'<p class="trouble">{text(words)}</p>\n<pre>{text(command)}</pre>'


# ---------------------------------------------------------------------- sections


def _section(title: str, *content: str) -> str:
    return "\n".join([f"<section>\n<h2>{text(title)}</h2>", *content, "</section>"])


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table of cells of HTML. Cells that begin with a digit, a sign or a dash are aligned on the right."""

    def cell(tag: str, content: str, column: int) -> str:
        is_number = all(row[column][:1] in (*"0123456789+-–",) for row in rows)
        attribute = ' class="number"' if is_number else ""
        return f"<{tag}{attribute}>{content}</{tag}>"

    lines = ["".join(cell("td", content, i) for i, content in enumerate(row)) for row in rows]
    head = "".join(cell("th", text(name), i) for i, name in enumerate(header))
    body = "\n".join(f"<tr>{line}</tr>" for line in lines)
    return f'<div class="scroll"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table></div>'


def _result(saved: SavedRun, measured: Measured) -> str:
    """Return the average precision of each class."""
    result, count = measured.result, len(measured.targets)
    rows = [
        [
            text(name),
            f"{result.num_objects[label]:,}",
            f"{result.num_detections[label]:,}",
            _number(result.ap[label]),
            f'<span class="bar"><i style="width: {100 * np.nan_to_num(result.ap[label]):.1f}%"></i></span>',
        ]
        for label, name in enumerate(measured.dataset.classes)
        if label > 0
    ]
    images = f"{count:,} image{'s' * (count != 1)}"
    return _section(
        f"Result on {measured.split} ({images})",
        f"<p>Mean AP50: <strong>{_number(result.mean_ap)}</strong>. {text(_caution(saved, measured.split))}</p>",
        _table(["class", "objects", "detections", "AP50", ""], rows),
    )


def _caution(saved: SavedRun, split: str) -> str:
    """Return which weights were used, and how to understand the result."""
    best = saved.run.best
    weights = f"These are the weights after step {saved.run.steps:,}."
    if best is not None and (saved.folder / BEST).is_file():
        step, ap50 = (saved.validation[name][best] for name in ("step", "ap50"))
        weights = f"These are the weights after step {step:,.0f}, which had the best AP50 on {VAL} ({ap50:.3f})."
    if split == TRAIN:
        return f"{weights} The detector was trained on these images. On other images, it is usually worse."
    if split == VAL and best is not None:
        return f"{weights} They were chosen on the same images, so the result on other images may be slightly lower."
    return weights


def _curves(saved: SavedRun) -> str:
    """Return the curves, or nothing if they have not been drawn."""
    path = saved.folder / CURVES
    if not path.is_file():
        return ""
    uri = as_uri(read_whole(path, MAX_CURVES), "png")
    return _section("Curves", f'<div class="scroll"><img class="plot" src="{uri}" alt="{CURVES_TEXT}"></div>')


def _kinds(errors: Errors) -> str:
    """Return a table of the kinds of error."""
    counts = zip(errors.examples, errors.detections.sum(axis=1), errors.objects.sum(axis=1), strict=True)
    rows = [
        [
            text(kind),
            f"{detections:,}",
            f"{objects:,}",
            f"{errors.repaired[kind] - errors.mean_ap:+.3f}" if kind in errors.repaired else "–",
        ]
        for kind, detections, objects in counts
    ]
    words = (
        "All detections are counted, also those with low scores. The last column shows how much the mean AP50 would "
        "rise without the errors of this kind."
    )
    return _section("Kinds of error", f"<p>{words}</p>", _table(["kind", "detections", "objects", "gain"], rows))


def _images(measured: Measured) -> str:
    """Return the images with the most errors, and those with the fewest, among the detections that are drawn."""
    drawn = [above(detected, MIN_SCORE) for detected in measured.detections]
    errors = error_kinds(drawn, measured.targets, len(measured.dataset.classes))
    wrong = count_errors(errors, len(drawn))  # (N,)
    objects = np.array([len(target["labels"]) for target in measured.targets])  # (N,)
    order = np.lexsort((-objects, wrong))  # (N,); the fewest errors first; in a tie, the most objects first
    worst = [int(i) for i in np.argsort(-wrong, kind="stable")[:WORST] if wrong[i]]
    best = [int(i) for i in order if i not in worst][:BEST_IMAGES]
    legend = (
        '<ul class="legend"><li><span class="key object"></span> object</li>'
        '<li><span class="key missed"></span> missed object</li>'
        '<li><span class="key right"></span> right detection</li>'
        '<li><span class="key wrong"></span> wrong detection</li></ul>'
    )
    sections = []
    for title, indices in (("Images with the most errors", worst), ("Images with the fewest errors", best)):
        entries = make_entries(measured.dataset, indices, drawn, errors)
        figures = [_figure(entry, measured.dataset.classes) for entry in entries]
        if figures:
            words = f"<p>Detections above a score of {MIN_SCORE:g}.</p>{legend}"
            sections.append(_section(title, words, '<div class="images">', *figures, "</div>"))
    return "\n".join(sections)


def _figure(entry: Entry, classes: Sequence[str]) -> str:
    """Return an image with its boxes."""
    height, width = entry.size
    source, name = as_uri(entry.jpeg, "jpeg"), text(entry.name)
    boxes = "".join(_box(box, entry.size, classes) for box in (*entry.objects, *entry.detections))
    return (
        f'<figure>\n<div class="frame" style="aspect-ratio: {width} / {height}">\n<img src="{source}" alt="{name}">\n'
        f"{boxes}</div>\n<figcaption>{name}; errors: {entry.errors}, objects: {len(entry.objects)}</figcaption>\n"
        "</figure>"
    )


def _box(box: Box, size: tuple[int, int], classes: Sequence[str]) -> str:
    """Return a box; only errors have a tag, so that tags do not hide the image."""
    (height, width), (x1, y1, x2, y2) = size, box.corners
    if box.score is None:
        look, score, room = "missed" if box.wrong else "object", "", height - y2
    else:
        look, score, room = "wrong" if box.wrong else "right", f" {box.score:.2f}", y1
    look += " edge" * (room < EDGE * height) + " east" * (x1 > (1 - 4 * EDGE) * width)
    words = text(f"{classes[box.label]}{score}, {box.kind}")
    tag = f"<span>{words.removesuffix(', missed')}</span>" if box.wrong else ""
    return (
        f'<div class="box {look}" title="{words}" style="'
        f"left: {100 * x1 / width:.2f}%; top: {100 * y1 / height:.2f}%; "
        f'width: {100 * (x2 - x1) / width:.2f}%; height: {100 * (y2 - y1) / height:.2f}%">{tag}</div>'
    )


def _doctor(verdicts: Sequence[Verdict]) -> str:
    """Return the verdicts of the doctor, or nothing if there are none."""
    if not verdicts:
        return ""
    rows = [
        [text(verdict.stage), "ok", text(verdict.number)]
        if verdict.trouble is None
        else [
            text(verdict.stage),
            '<strong class="trouble">problem</strong>',
            f"{text(verdict.number)}<br><strong>{text(verdict.trouble)}</strong><br>{text(verdict.remedy)}",
        ]
        for verdict in verdicts
    ]
    troubles = [verdict for verdict in verdicts if verdict.trouble is not None]
    words = f"Begin with {troubles[0].stage}: {troubles[0].trouble}." if troubles else "No stage has a problem."
    return _section("What the doctor says", f"<p>{text(words)}</p>", _table(["stage", "", "measurement"], rows))


def _commands(saved: SavedRun, measured: Measured | None) -> str:
    """Return the commands that use the detector."""
    run = shlex.quote(str(saved.folder))
    lines = [f"rcnn detect PHOTO.jpg --weights {run}"]
    if saved.plan is not None:
        toml, split = shlex.quote(str(saved.folder / PLAN)), VAL if measured is None else measured.split
        lines += [f"rcnn {name} {toml} --weights {run} --split {split}" for name in ("view", "eval")]
    commands = "\n".join(lines)
    return _section("Next", f"<pre>{text(commands)}</pre>")


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"

"""The digit detector with a learner's function in place of one of its stages, beside the unchanged detector."""

from __future__ import annotations

import dataclasses
import functools
import html
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

from rcnn import boxes, data, evaluate, train, zoo
from rcnn._ext.dispatch import REPLACEABLE, replace
from rcnn._validate import integer, one_of
from rcnn.course._mistakes import TYPICAL
from rcnn.course.figures import as_html
from rcnn.model import FasterRCNN
from rcnn.nms import nms

Function = Callable[..., Any]
Target = dict[str, np.ndarray]
Item = tuple[np.ndarray, Target]

IN_TRAINING = ("encode", "match", "roi_align_backward", "roi_targets", "sample")  # stages that `predict` does not call
NOT_CALLED = {
    "roi_pool": 'the detector pools with RoIAlign; pass "roi_align" with your roi_pool instead',
    "top_down": "the digit detector has no feature pyramid",
}
MOST_PAGES, MOST_STEPS = 1000, 10_000
RECIPE = train.Recipe(batch_size=2, lr=1e-3, warmup_steps=0, final_lr=1.0, weight_decay=0.0, max_norm=10.0)
SHOWN_SCORE = 0.3  # lowest score of a detection that is drawn
MOST_TAGS, TAG_IOU = 10, 0.1  # a detection that overlaps a better one with this IoU has no tag
SAME_IOU = 0.5  # of two detections of the same object
LEAST_OBJECTS, CLEAR_DIFFERENCES = 3, 18  # of the page that is drawn; so many differences do not hide the page yet
STYLE = """
.rcnn-versions { display: grid; grid-auto-flow: column; grid-auto-columns: minmax(0, 1fr); gap: 8px; max-width: 60em; }
@media (max-width: 600px) { .rcnn-versions { grid-auto-flow: row; } }
"""
NAMES = {"library": "the library's {}", "yours": "your {}", "mistake": "a typical mistake"}


@dataclass(frozen=True)
class Outcome:
    """The digit detector with one version of a stage.

    Attributes
    ----------
    name : str
        Description of the version.
    ap : float
        Mean average precision at an IoU of 0.5; NaN if the function failed.
    detections : list of dict
        Detections on each page; empty if the function failed.
    problem : str
        Why the function failed, in one line; empty if it did not fail.
    """

    name: str
    ap: float
    detections: list[Target]
    problem: str = ""


class WithAndWithout:
    """Detections and average precision with several versions of a stage, which a notebook displays side by side.

    Parameters
    ----------
    stage : str
        Name of the stage.
    outcomes : mapping of str to Outcome
        Outcome of each version: "library", "yours" and, if there is a wrong version, "mistake".
    items : sequence of (image, target)
        Pages on which the detectors ran.
    class_names : sequence of str
        Class names, indexed by label.
    mistake : str, optional
        Description of the typical mistake.
    steps : int, optional
        Number of training steps before the evaluation.
    """

    def __init__(
        self,
        stage: str,
        outcomes: Mapping[str, Outcome],
        items: Sequence[Item],
        class_names: Sequence[str],
        mistake: str = "",
        steps: int = 0,
    ) -> None:
        self.stage, self.outcomes, self.mistake, self.steps = stage, outcomes, mistake, steps
        self._items, self._class_names = list(items), class_names

    @property
    def ap(self) -> dict[str, float]:  # numpydoc ignore=RT01
        """Mean average precision of each version: "library", "yours" and "mistake"; NaN if a function failed."""
        return {key: outcome.ap for key, outcome in self.outcomes.items()}

    @functools.cached_property
    def page(self) -> int:  # numpydoc ignore=RT01
        """Index of the page that is drawn, on which the best and the worst version differ clearly, but not too much."""
        working = [outcome for outcome in self.outcomes.values() if outcome.detections]
        if not working:
            return 0
        best, worst = (extreme(working, key=lambda outcome: outcome.ap).detections for extreme in (max, min))
        counts = np.array([_differences(*found) for found in zip(best, worst, strict=True)])
        few = np.array([len(target["boxes"]) < LEAST_OBJECTS for _, target in self._items])
        return int(np.lexsort((np.abs(counts - CLEAR_DIFFERENCES), few))[0])

    def figures(self) -> list[Any]:
        """Return one figure for each version, all with the same page.

        Returns
        -------
        list of Figure
            The figures.
        """
        from rcnn import plot  # imports matplotlib, which is slow
        from rcnn.plot.style import label_color

        image, target = self._items[self.page]
        drawn = []
        for outcome in self.outcomes.values():
            drawn.append(plot.figure(2.7, 3.3))
            ax = drawn[-1].subplots()
            heading = outcome.name[0].upper() + outcome.name[1:]
            if outcome.problem:
                plot.image(ax, image, dimmed=True)
                plot.title(ax, heading, "failed; the reason is below")
                continue
            found = _clear(outcome.detections[self.page])
            tagged = nms(found["boxes"], found["scores"], TAG_IOU)[:MOST_TAGS]
            best = found["boxes"][tagged], found["scores"][tagged], found["labels"][tagged]
            plot.detections(ax, image, *best, self._class_names, gt_boxes=target["boxes"])
            for index in np.setdiff1d(np.arange(len(found["boxes"])), tagged):
                plot.boxes(ax, found["boxes"][[index]], color=label_color(found["labels"][index]))
            plot.title(ax, heading, f"AP {outcome.ap:.3f}; {_counted(len(found['boxes']), 'detection')} on this page")
        return drawn

    def __repr__(self) -> str:
        """Return the average precision of each version, and the reason if a function failed."""
        pages = _counted(len(self._items), "validation page")
        objects = _counted(sum(len(target["boxes"]) for _, target in self._items), "digit")
        first = f"after {_counted(self.steps, 'more training step')} each, " if self.steps else ""
        lines = [f"Average precision (AP) on {pages} with {objects}, {first}with"]
        for key, outcome in self.outcomes.items():
            name = f"{outcome.name} ({self.mistake})" if key == "mistake" and self.mistake else outcome.name
            lines.append(f"  {name}: {outcome.problem or f'{outcome.ap:.3f}'}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """Return one image for each version, which stand side by side if there is room, and the text below them."""
        from rcnn import plot  # imports matplotlib, which is slow

        heading, *lines = repr(self).splitlines()
        images = [
            as_html(plot.png(figure), text) for figure, text in zip(self.figures(), self._descriptions(), strict=True)
        ]
        versions = "".join(f"<li>{html.escape(line.strip(), quote=False)}</li>" for line in lines)
        row = f'<div class="rcnn-versions"><style>{STYLE}</style>{" ".join(images)}</div>'
        return f"{row}<p>{heading}</p><ul>{versions}</ul>"

    def _descriptions(self) -> list[str]:
        """Return the alternative text of each figure."""
        page = f"a page with {_counted(len(self._items[self.page][1]['boxes']), 'digit')}"
        texts = []
        for outcome in self.outcomes.values():
            name = outcome.name[0].upper() + outcome.name[1:]
            if outcome.problem:
                texts.append(f"{name} failed on {page}, so no detections are drawn.")
            else:
                count = _counted(len(_clear(outcome.detections[self.page])["boxes"]), "detection")
                texts.append(f"{name} yields {count} on {page}.")
        return texts


def with_and_without(
    stage: str, function: Function, wrong: Function | None = None, *, pages: int = 6, steps: int = 40
) -> WithAndWithout:
    """Run the digit detector with the library's stage, with your function, and with a typical mistake.

    If only training calls the stage, each of the three detectors is first trained for a few more steps. If your
    function fails, the result contains the reason.

    Parameters
    ----------
    stage : str
        Name of the stage, as in `rcnn.replace`.
    function : callable
        Your function; see `rcnn.replace`.
    wrong : callable, optional
        A wrong function. The first line of its docstring describes the mistake. By default, it is a typical mistake, if
        `rcnn.course` knows one for this stage.
    pages : int, optional
        Number of validation pages. A slow function needs a few seconds for some pages.
    steps : int, optional
        Number of training steps, with two pages each, if only training calls the stage.

    Returns
    -------
    WithAndWithout
        Detections and average precision. Jupyter displays a page with the detections of each version.

    Raises
    ------
    TypeError
        If `stage` is not a string, or if a function is not callable.
    ValueError
        If the digit detector does not call the stage, or if a number is out of range.

    Examples
    --------
    >>> from rcnn.nms import nms
    >>> result = with_and_without("nms", nms, pages=2)
    >>> result.ap["yours"] == result.ap["library"]
    True
    """
    if stage in NOT_CALLED:
        raise ValueError(f"the digit detector does not call {stage}: {NOT_CALLED[stage]}")
    one_of(tuple(name for name in REPLACEABLE if name not in NOT_CALLED)).check("stage", stage)
    wrong = TYPICAL.get(stage) if wrong is None else wrong
    for name, value in (("function", function), ("wrong", wrong)):
        if value is not None and not callable(value):
            raise TypeError(f"{name} must be callable, got {type(value).__name__}")
    dataset = data.Digits(integer(1, MOST_PAGES).check("pages", pages), split="val")
    items = [dataset[index] for index in range(len(dataset))]
    steps = integer(1, MOST_STEPS).check("steps", steps) if stage in IN_TRAINING else 0
    versions = {"library": None, "yours": function} | ({"mistake": wrong} if wrong else {})
    outcomes = {key: _run(key, stage, version, items, steps) for key, version in versions.items()}
    return WithAndWithout(stage, outcomes, items, dataset.classes, _description(wrong), steps)


def _run(key: str, stage: str, version: Function | None, items: Sequence[Item], steps: int) -> Outcome:
    """Return the outcome of the detector with one version of the stage. None is the library's own version."""
    name = NAMES[key].format(stage)
    model = zoo.load_digits()
    try:
        with nullcontext() if version is None else replace(stage, version):
            _train(model, steps)
            found = model.predict([image for image, _ in items])
    except Exception as error:  # anything that a learner's function can raise
        if version is None:
            raise
        return Outcome(name, float("nan"), [], _reason(error))
    return Outcome(name, _average_precision(found, items), found)


def _train(model: FasterRCNN, steps: int) -> None:
    """Train the model for a few more steps, with the same pages and random numbers in every call."""
    if steps:
        recipe = dataclasses.replace(RECIPE, steps=steps)
        train.fit(model, data.Digits(recipe.batch_size * steps, split="train"), recipe, workers=0, progress=False)
        model.eval()


def _average_precision(found: Sequence[Target], items: Sequence[Item]) -> float:
    """Return the mean average precision at an IoU of 0.5; NaN if there are no objects."""
    targets = [target for _, target in items]
    return evaluate.evaluate_detections(found, targets, len(data.Digits.classes)).mean_ap


def _reason(error: Exception) -> str:
    """Return why a learner's function failed, in one line."""
    if isinstance(error, NotImplementedError):
        return "is not written yet"
    text = str(error).strip().partition("\n")[0]
    return f"failed with {type(error).__name__}: {text}" if text else f"failed with {type(error).__name__}"


def _description(wrong: Function | None) -> str:
    """Return the first line of the docstring of a wrong function, or its name if it has no docstring."""
    if wrong is None:
        return ""
    line = (wrong.__doc__ or getattr(wrong, "__name__", "").replace("_", " ")).strip().partition("\n")[0].rstrip(".")
    return line[:1].lower() + line[1:]


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _clear(found: Target) -> Target:
    """Return the detections with a clear score."""
    shown = np.flatnonzero(found["scores"] >= SHOWN_SCORE)
    return {key: values[shown] for key, values in found.items()}


def _differences(one: Target, other: Target) -> int:
    """Return how many clear detections of one version have no equal, or only a taken one, in the other version."""
    one, other = _clear(one), _clear(other)
    same = boxes.iou(one["boxes"], other["boxes"]) >= SAME_IOU  # (D1, D2)
    same &= one["labels"][:, None] == other["labels"]
    pairs = min(int(same.any(axis=1).sum()), int(same.any(axis=0).sum()))
    return len(one["boxes"]) + len(other["boxes"]) - 2 * pairs

"""How good a detector is, and what it gets wrong. Each function is `(ax, arrays..., options) -> ax`.

`evaluation_page` puts all of them on one figure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from rcnn.plot import curves, style
from rcnn.plot.style import as_array

_AGREED = LinearSegmentedColormap.from_list("agreed", ["white", style.SKY, style.BLUE])
_MISTAKEN = LinearSegmentedColormap.from_list("mistaken", ["white", style.ORANGE, style.VERMILION])
_MOST_NUMBERS = 24  # classes, beyond which the cells of a confusion matrix are too small for numbers
_MOST_CURVES = 10  # classes, beyond which curves cannot be told apart by colour
_FEWEST_ROWS = 6  # for which there is room in a panel of bars, so that a lone bar is no block
_SERIES = ((style.BLUE, "o"), (style.ORANGE, "v"), (style.GREEN, "s"), (style.PURPLE, "^"), (style.VERMILION, "D"))
_NAME_LENGTH = 18  # characters of a class name, beyond which it is cut


# ---------------------------------------------------------------------- classes

def confusion_matrix(ax: Axes, counts: np.ndarray, class_names: Sequence[str] | None = None) -> Axes:
    """How often each class (row) was called what (column); `counts` is (L, L), as `evaluate.confusion` gives it.

    Row and column 0, what is nothing and what was missed, are drawn last. What is right is blue, a mistake orange, and
    the stronger the larger a share it is of its row's objects (in the row of what is nothing, of its column's
    detections). With more than 24 classes there are no numbers, and with many more not every class is named.
    """
    given = as_array("counts", counts, (None, None)).astype(float)
    if len(given) != len(given.T) or len(given) < 2:
        raise ValueError(f"counts has the shape {given.shape}; wanted is (L, L) for L classes, the background included")
    order = np.append(np.arange(1, len(given)), 0)
    table = given[order][:, order]  # (L, L)
    names = _names(len(given), class_names)
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)  # (L, L)
    shares[-1] = table[-1] / np.maximum(table.sum(axis=0), 1)
    diagonal = np.eye(len(table), dtype=bool)[:, :, None]
    ax.imshow(np.where(diagonal, _AGREED(shares), _MISTAKEN(np.sqrt(shares))), aspect="equal")  # a root shows the few
    if len(table) - 1 <= _MOST_NUMBERS:
        _write_numbers(ax, table, shares)
    for border in (ax.axhline, ax.axvline):
        border(len(table) - 1.5, color=style.GREY, linewidth=0.8)
    _name_ticks(ax, [*names[1:], "nothing, or taken"], [*names[1:], "missed"])
    ax.set_xlabel("what was said", fontsize=style.TEXT_SIZE + 1, color=style.INK)
    ax.set_ylabel("what it is", fontsize=style.TEXT_SIZE + 1, color=style.INK)
    return ax


def ap_bars(ax: Axes, ap: np.ndarray, class_names: Sequence[str] | None = None, most: int = 24) -> Axes:
    """A bar for the average precision of each class, the best on top; `ap` is (L,), NaN for a class without objects.

    Of more than `most` classes the best and the worst halves of so many are drawn.
    """
    values = as_array("ap", ap, (None,)).astype(float)
    names = _names(len(values), class_names)
    known = np.flatnonzero(~np.isnan(values))  # never the background
    ranked = known[np.argsort(-values[known], kind="stable")]
    cut = len(ranked) > most
    shown = np.concatenate([ranked[:most // 2], ranked[len(ranked) - most // 2:]]) if cut else ranked
    rows = np.arange(len(shown)) + cut * (np.arange(len(shown)) >= most // 2)  # an empty row where classes are left out
    style.graph(ax, "average precision", "")
    ax.grid(False, axis="y")
    ax.barh(rows, values[shown], height=0.7, color=style.SKY)
    for row, value in zip(rows, values[shown], strict=True):
        _write(ax, f"{value:.3f}", value, row)
    if cut:
        ax.text(0, most // 2, f" {len(ranked) - len(shown)} more", va="center", fontsize=style.TEXT_SIZE,
                color=style.GREY)
    ax.set_yticks(rows, [names[label] for label in shown])
    ax.set(xlim=(0, 1.12), ylim=(max(len(shown) + cut, _FEWEST_ROWS) - 0.4, -0.6), xticks=np.linspace(0, 1, 6))
    return ax if len(shown) else style.note(ax, "no objects")


def precision_recall_classes(ax: Axes, recalls: Sequence[np.ndarray], precisions: Sequence[np.ndarray],
                             ap: np.ndarray, class_names: Sequence[str] | None = None) -> Axes:
    """Precision over recall of every class that has objects; all are (L,), index 0 being the background.

    More than ten classes are drawn pale, and in black the mean over them of the best precision from each recall on.
    """
    values = as_array("ap", ap, (None,)).astype(float)
    names = _names(len(values), class_names)
    known = [label for label in range(1, len(values)) if not np.isnan(values[label])]
    many = len(known) > _MOST_CURVES
    for label in known:
        if many:
            ax.plot(recalls[label], precisions[label], color=style.NEUTRAL, linewidth=0.7, alpha=0.5, clip_on=False)
        else:
            curves.precision_recall(ax, recalls[label], precisions[label], names[label], float(values[label]))
    style.graph(ax, "recall", "precision")
    ax.set(xlim=(0, 1), ylim=(0, 1), aspect="auto")
    if many:
        at = np.linspace(0, 1, 101)
        mean = np.mean([_best_from(at, recalls[label], precisions[label]) for label in known], axis=0)
        lines = ax.plot(at, mean, color=style.INK, linewidth=style.LINE_WIDTH, label=f"mean of {len(known)} classes")
        style.legend_right(ax, lines)
    return ax if known else style.note(ax, "no objects")


# ---------------------------------------------------------------------- errors and stages

def error_kinds(ax: Axes, kinds: Sequence[str], gains: np.ndarray, detections: np.ndarray,
                objects: np.ndarray) -> Axes:
    """A bar for each kind of error, the costliest on top: what average precision its repair would bring.

    All are (K,): the names, the gains, and how many detections and how many lost objects are of the kind.
    """
    values = as_array("gains", gains, (len(kinds),)).astype(float)
    wrong, lost = as_array("detections", detections, (len(kinds),)), as_array("objects", objects, (len(kinds),))
    order = np.argsort(-np.nan_to_num(values), kind="stable")
    style.graph(ax, "average precision gained by its repair", "")
    ax.grid(False, axis="y")
    ax.barh(np.arange(len(kinds)), np.nan_to_num(values[order]), height=0.66, color=style.ORANGE)
    for row, kind in enumerate(order):
        parts = [f"{count:,} {word if count != 1 else word[:-1]}"
                 for count, word in ((wrong[kind], "detections"), (lost[kind], "objects")) if count]
        gain = "" if np.isnan(values[kind]) else f"{values[kind]:+.3f}   "
        _write(ax, gain + ", ".join(parts or ["none"]), float(np.nan_to_num(values[kind])), row)
    ax.set_yticks(range(len(kinds)), [kinds[kind] for kind in order])
    longest = max(0.01, float(np.nan_to_num(values).max(initial=0)))
    ax.set(xlim=(0, 2 * longest), ylim=(len(kinds) - 0.4, -0.6))  # the other half is for the words
    ax.set_xticks([tick for tick in MaxNLocator(3).tick_values(0, longest) if tick <= longest])
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    return ax


def stage_recall(ax: Axes, stages: Sequence[str], recalls: Mapping[str, np.ndarray]) -> Axes:
    """The share of the objects that each of the stages, from top to bottom, still reaches.

    `recalls` has (S,) shares by name; the first is drawn as bars with their numbers, the others as marks.
    """
    style.graph(ax, "share of the objects", "")
    ax.grid(False, axis="y")
    rows = np.arange(len(stages))
    handles: list[Any] = []
    for number, (name, shares) in enumerate(recalls.items()):
        values = as_array(f"recalls[{name!r}]", shares, (len(stages),)).astype(float)
        if number == 0:
            handles.append(ax.barh(rows, np.nan_to_num(values), height=0.78, color=style.SKY, label=name))
            for row, value in enumerate(values):
                ax.annotate("no objects" if np.isnan(value) else f"{value:.3f}", (1, row), (8, 0), va="center",
                            textcoords="offset points", fontsize=style.TEXT_SIZE, color=style.INK)
            continue
        color, marker = _SERIES[(number - 1) % len(_SERIES)]
        lane = (number - len(recalls) / 2) / len(recalls) * 0.78  # marks of one row lie one above the other
        handles += ax.plot(values, rows + lane, linestyle="none", marker=marker, markersize=5, color=color, zorder=3,
                           markeredgecolor="white", markeredgewidth=0.5, label=name, clip_on=False)
    ax.set_yticks(rows, list(stages))
    ax.set(xlim=(0, 1), ylim=(max(len(stages), 1) - 0.4, -0.6))
    style.legend_under_name(ax, handles)
    return ax


def evaluation_page(evaluation: Any, confusion: np.ndarray, errors: Any, stages: Any,
                    class_names: Sequence[str] | None = None) -> Figure:
    """A figure of five panels: average precision, curves, confusion, kinds of error, recall by stage.

    They are drawn from what `rcnn.evaluate` gives: an `Evaluation`, the counts of `confusion`, an `Errors`, a
    `StageRecall`, or anything with their attributes.
    """
    count = len(confusion)
    side = float(np.clip(0.3 * count, 4.2, 8.0))  # inches of the confusion matrix
    page = style.figure(side + 6.5, 4.0 + side + 1.5)
    panels = page.subplot_mosaic([["ap", "curves"], ["confusion", "errors"], ["confusion", "stages"]],
                                 width_ratios=(side + 1.5, 5.0), height_ratios=(3.6, side / 2, side / 2))
    objects = int(evaluation.num_objects.sum())
    style.title(ap_bars(panels["ap"], evaluation.ap, class_names), "Average precision",
                f"mean {evaluation.mean_ap:.3f}, {objects:,} objects" if objects else "")
    style.title(precision_recall_classes(panels["curves"], evaluation.recall, evaluation.precision, evaluation.ap,
                                         class_names), "Precision and recall")
    style.title(confusion_matrix(panels["confusion"], confusion, class_names), "Confusion")
    kinds = list(errors.repaired)
    at = [list(errors.examples).index(kind) for kind in kinds]
    gains = np.array([errors.repaired[kind] - errors.mean_ap for kind in kinds])
    style.title(error_kinds(panels["errors"], kinds, gains, errors.detections.sum(axis=1)[at],
                            errors.objects.sum(axis=1)[at]), "Kinds of error")
    recalls = {f"IoU {stages.iou_threshold:g}": stages.recall(), "IoU 0.7": stages.recall(0.7),
               **{name: stages.recall(of=group) for name, group in stages.by_size().items()}}
    style.title(stage_recall(panels["stages"], stages.stages, recalls), "Objects that each stage reaches")
    panels["confusion"].set_anchor("NW")
    return page


# ---------------------------------------------------------------------- helpers

def _names(count: int, class_names: Sequence[str] | None) -> list[str]:
    """A short name for each of `count` labels; the label itself without names."""
    if class_names is None:
        return [str(label) for label in range(count)]
    if len(class_names) != count:
        raise ValueError(f"class_names has {len(class_names)} names for {count} classes, the background included")
    return [name if len(name) <= _NAME_LENGTH else f"{name[:_NAME_LENGTH - 1]}\u2026" for name in class_names]


def _write(ax: Axes, text: str, x: float, row: float) -> None:
    """Writes `text` at the end of a bar that ends at `x`."""
    ax.annotate(text, (x, row), (4, 0), textcoords="offset points", va="center", fontsize=style.TEXT_SIZE,
                color=style.INK)


def _write_numbers(ax: Axes, table: np.ndarray, shares: np.ndarray) -> None:
    """Writes each count of `table` that is not 0 into its cell, black or white, whichever is read better."""
    for row, column in np.argwhere(table > 0):
        share = shares[row, column]
        color = _AGREED(share) if row == column else _MISTAKEN(np.sqrt(share))
        ax.text(column, row, f"{table[row, column]:.0f}", ha="center", va="center", fontsize=style.TEXT_SIZE,
                color=style.contrasting(to_hex(color)))


def _name_ticks(ax: Axes, rows: Sequence[str], columns: Sequence[str]) -> None:
    """Names along both axes of a matrix, every n-th of very many."""
    style.ticks(ax)
    step = -(-len(rows) // 60)
    at = [*range(0, len(rows) - 1, step), len(rows) - 1]
    upright = max(map(len, columns)) > 3
    ax.set_yticks(at, [rows[i] for i in at])
    ax.set_xticks(at, [columns[i] for i in at], rotation=90 if upright else 0)
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set(color=style.FAINT, linewidth=0.8)


def _best_from(at: np.ndarray, recall: np.ndarray, precision: np.ndarray) -> np.ndarray:
    """The best precision that is reached at each recall of `at` or a higher one; 0 beyond the highest."""
    best = np.append(np.maximum.accumulate(np.asarray(precision)[::-1])[::-1], 0)
    return np.asarray(best[np.searchsorted(recall, at)])

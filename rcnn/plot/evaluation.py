"""Plots of evaluation: ranked detections, precision and recall, and the errors of a detector.

The plots show ranked detections and their curves, average precision by class, the confusion matrix, kinds of error,
recall by stage and a table of findings. `evaluation_page` draws the main results of an evaluation in one figure.

Ranked detections are sorted by descending score. For D detections, the array `correct` has shape (D,). True means
that a detection is correct. In all plots of ranked detections, correct detections are blue with a dot, and wrong
detections are orange with a cross. Only the first `admitted` detections are counted in the legend. All later detections
are drawn in pale colours.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from rcnn.plot import style
from rcnn.plot.arguments import checked
from rcnn.plot.style import LINE_WIDTH, THIN_LINE, as_array, as_boxes
from rcnn.plot.tags import Tags

RIGHT, WRONG = style.BLUE, style.VERMILION
_PALE = 0.3  # opacity of detections that are not counted
_MOST_RANKS = 16  # if a curve has at most this many detections, their ranks are written next to it
_BAR = 0.72  # height of a bar, as a fraction of its row
_FEW_RECALLS = 20  # up to this number of sampled recalls, lines are thick and dots are large

_CORRECT_COLORS = LinearSegmentedColormap.from_list("correct", ["white", style.SKY, style.BLUE])
_WRONG_COLORS = LinearSegmentedColormap.from_list("wrong", ["white", style.ORANGE, style.VERMILION])
_DIFFERENCE_COLORS = LinearSegmentedColormap.from_list("difference", ["white", style.ORANGE, style.VERMILION])
_MOST_NUMBERED_CLASSES = 24  # with more classes, the cells are too small for numbers
_MOST_PANELS = 10  # with more classes, the panels of the curves are too small
_WORST_COLORS = (style.PURPLE, style.ORANGE, style.VERMILION)  # of the worst classes, if there are many
_PANEL_ROOM = 0.93  # fraction of the height of the axes for the panels, below the names of the first row
_PANEL_GAPS = 0.2, 0.3  # between two panels, as fractions of the width and the height of a panel
_FEWEST_ROWS = 6  # bars leave space for this many rows, so that a single bar does not fill the axes
_RECALL_MARKS = (
    (style.BLUE, "o"),
    (style.ORANGE, "v"),
    (style.GREEN, "s"),
    (style.PURPLE, "^"),
    (style.VERMILION, "D"),
)
_NAME_LENGTH = 18  # characters; longer class names are shortened


# ---- ranked detections


@checked
def ranking(
    ax: Axes, scores: np.ndarray, correct: np.ndarray, admitted: int | None = None, names: Sequence[str] | None = None
) -> Axes:
    """Draw ranked detections as horizontal bars, with the best detection on top.

    Parameters
    ----------
    ax : Axes
        Axes to draw on.
    scores : (D,) array
        Scores of D detections in [0, 1], descending.
    correct : (D,) bool array
        True for correct detections.
    admitted : int, optional
        Number of detections that are counted, starting with the best. By default, all are counted.
    names : sequence of str, optional
        Labels of the bars; by default the ranks, starting at 1.

    Returns
    -------
    Axes
        The axes `ax`.

    Raises
    ------
    ValueError
        If a shape or the number of names is wrong, or if the scores are not descending.
    """
    values = as_array("scores", scores, (None,)).astype(float)
    style.check_descending("scores", values)
    right = as_array("correct", correct, (len(values),)).astype(bool)
    cut = len(values) if admitted is None else admitted
    labels = _names_or_ranks(names, len(values))
    style.graph(ax, "score", "rank" if names is None else "")
    ax.grid(False, axis="y")
    for row, (value, good) in enumerate(zip(values, right, strict=True)):
        opacity = 1.0 if row < cut else _PALE
        ax.barh(row, value, height=_BAR, color=style.SKY if good else style.ORANGE, alpha=opacity)
        _mark_correct_or_wrong(ax, value, row, bool(good), opacity)
    if cut < len(values):
        ax.axhline(cut - 0.5, color=style.INK, linewidth=THIN_LINE, linestyle="--")
    ax.set_yticks(range(len(values)), style.literals(labels))
    ax.set(xlim=(0, 1), ylim=(max(len(values), 1) - 0.4, -0.6), xticks=(0, 0.25, 0.5, 0.75, 1))
    _correct_and_wrong_legend(ax, right[:cut])
    return ax if len(values) else style.note(ax, "no detections")


@checked
def ranked_boxes(
    ax: Axes,
    image: np.ndarray,
    boxes: np.ndarray,
    correct: np.ndarray,
    gt_boxes: np.ndarray,
    names: Sequence[str] | None = None,
) -> Axes:
    """Draw the boxes of ranked detections over an image.

    The boxes of the objects are drawn as dashed lines.

    Parameters
    ----------
    ax : Axes
        Axes to draw on.
    image : (H, W, 3) array
        Image, uint8 or float in [0, 1].
    boxes : (D, 4) array
        Boxes of D detections, in pixels.
    correct : (D,) bool array
        True for correct detections. It determines the colour of each box.
    gt_boxes : (G, 4) array
        Boxes of G objects, in pixels.
    names : sequence of str, optional
        Tags of the boxes; by default the ranks, starting at 1.

    Returns
    -------
    Axes
        The axes `ax`.

    Raises
    ------
    ValueError
        If a shape or the number of names is wrong.
    """
    corners = as_boxes("boxes", boxes)
    right = as_array("correct", correct, (len(corners),)).astype(bool)
    style.image(ax, image)
    for corner in as_boxes("gt_boxes", gt_boxes):
        style.edged_box(ax, corner, "white", "--", THIN_LINE)
    for corner, good in zip(corners, right, strict=True):
        style.edged_box(ax, corner, RIGHT if good else WRONG, "-", LINE_WIDTH)
    tags = _names_or_ranks(names, len(corners))
    if tags:
        ax.add_artist(Tags(corners, tags, [RIGHT if good else WRONG for good in right]))
    return ax


@checked
def ranked_curve(
    ax: Axes, recall: np.ndarray, precision: np.ndarray, correct: np.ndarray, admitted: int | None = None
) -> Axes:
    """Draw precision against recall, with a mark for each detection.

    The mark of a detection shows the precision and the recall when this detection and all detections with a higher rank
    are counted. If there are at most 16 detections, their ranks are written next to the marks. A ring with lines to
    both axes shows the last counted detection.

    Parameters
    ----------
    ax : Axes
        Axes to draw on.
    recall : (D,) array
        Recall after each of D detections, ascending, in [0, 1].
    precision : (D,) array
        Precision after each detection.
    correct : (D,) bool array
        True for correct detections.
    admitted : int, optional
        Number of detections that are counted, starting with the best. By default, all are counted and no ring is drawn.

    Returns
    -------
    Axes
        The axes `ax`.

    Raises
    ------
    ValueError
        If a shape is wrong, or if `recall` is not ascending or not in [0, 1].
    """
    x, y, right = _checked_curve(recall, precision, correct)
    cut = len(x) if admitted is None else admitted
    style.graph(ax, "recall", "precision")
    ax.plot(x, y, color=style.GREY, linewidth=THIN_LINE, alpha=_PALE, clip_on=False)
    ax.plot(x[:cut], y[:cut], color=style.GREY, linewidth=THIN_LINE, clip_on=False)
    for i, (at, height, good) in enumerate(zip(x, y, right, strict=True)):
        _mark_correct_or_wrong(ax, at, height, bool(good), 1.0 if i < cut else _PALE)
        if len(x) <= _MOST_RANKS:
            ax.annotate(
                f"{i + 1}",
                (at, height),
                (6, 4),
                textcoords="offset points",
                fontsize=style.TEXT_SIZE,
                color=style.INK if i < cut else style.GREY,
            )
    if admitted is not None and 0 < cut <= len(x):
        last = (x[cut - 1], y[cut - 1])
        ax.plot([0, last[0], last[0]], [last[1], last[1], 0], color=style.INK, linewidth=THIN_LINE, linestyle=":")
        ax.plot(
            *last,
            "o",
            markersize=12,
            markerfacecolor="none",
            markeredgecolor=style.INK,
            markeredgewidth=1.4,
            clip_on=False,
            zorder=5,
        )
    ax.set(xlim=(0, 1), ylim=(0, 1.06), yticks=np.linspace(0, 1, 6))  # with room for the ranks above 1
    _correct_and_wrong_legend(ax, right[:cut])
    return ax if len(x) else style.note(ax, "no detections")


@checked
def interpolation(ax: Axes, recall: np.ndarray, precision: np.ndarray, recalls: np.ndarray | None = None) -> Axes:
    """Draw the points of a precision-recall curve, and the envelope from which average precision is computed.

    The value of the envelope at recall r is the highest precision where the recall is at least r. Each grey dot shows a
    detection.

    Parameters
    ----------
    ax : Axes
        Axes to draw on.
    recall : (D,) array
        Recall after each of D detections, ascending, in [0, 1].
    precision : (D,) array
        Precision after each detection.
    recalls : (K,) array, optional
        K recalls at which the envelope is sampled. If omitted, the area under the envelope is shaded instead.

    Returns
    -------
    Axes
        The axes `ax`.

    Raises
    ------
    ValueError
        If a shape is wrong, or if `recall` is not ascending or not in [0, 1].
    """
    x, y, _ = _checked_curve(recall, precision, np.zeros(np.shape(recall), bool))
    best = np.append(np.maximum.accumulate(y[::-1])[::-1], 0)  # (D + 1,); 0 beyond the highest recall
    edges = np.concatenate([[0], x, [1]])  # (D + 2,)
    style.graph(ax, "recall", "precision")
    ax.stairs(best, edges, color=style.BLUE, linewidth=LINE_WIDTH, baseline=None, clip_on=False)
    if recalls is None:
        ax.stairs(best, edges, color=style.SKY, fill=True, alpha=0.45)
    else:
        at = as_array("recalls", recalls, (None,)).astype(float)
        heights = best[np.searchsorted(x, at)]  # (K,)
        ax.vlines(at, 0, heights, color=style.SKY, linewidth=3.0 if len(at) <= _FEW_RECALLS else 1.0)
        ax.plot(
            at,
            heights,
            "o",
            color=style.ORANGE,
            markersize=5 if len(at) <= _FEW_RECALLS else 2.2,
            markeredgecolor=style.INK,
            markeredgewidth=0.4,
            clip_on=False,
            zorder=4,
        )
    ax.plot(x, y, "o", color=style.GREY, markersize=3.5, clip_on=False, zorder=3)
    ax.set(xlim=(0, 1), ylim=(0, 1))
    return ax


@checked
def precision_recall(
    ax: Axes,
    recall: np.ndarray,
    precision: np.ndarray,
    label: str | None = None,
    average_precision: float | None = None,
) -> Axes:
    """Draw one precision-recall curve.

    Each call adds a curve to the axes, in the next colour.

    Parameters
    ----------
    ax : Axes
        Axes to draw on.
    recall : (D,) array
        Recall in [0, 1] after each of D detections, in descending order of score.
    precision : (D,) array
        Precision in [0, 1] after each detection.
    label : str, optional
        Name of the curve in the legend.
    average_precision : float, optional
        Average precision to write in the legend.

    Returns
    -------
    Axes
        The axes `ax`.
    """
    x = as_array("recall", recall, (None,)).astype(float)
    y = as_array("precision", precision, (len(x),)).astype(float)
    earlier = len(ax.get_lines())
    words = [] if label is None else [label]
    if average_precision is not None:
        words.append(f"AP {average_precision:.3f}")
    ax.plot(
        x,
        y,
        color=style.CURVE_COLORS[earlier % len(style.CURVE_COLORS)],
        linewidth=style.LINE_WIDTH,
        label=style.shown_label("  ".join(words)) or None,
        linestyle=("-", "--", ":")[earlier // len(style.CURVE_COLORS) % 3],
        clip_on=False,
    )
    style.graph(ax, "recall", "precision")
    ax.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    handles = ax.get_legend_handles_labels()[0]
    if handles:
        style.legend_right(ax, handles)
    return ax


# ---- measures of a detector


@checked
def confusion_matrix(ax: Axes, counts: np.ndarray, class_names: Sequence[str] | None = None) -> Axes:
    """Draw a confusion matrix, with true classes as rows and predicted classes as columns.

    The background is row and column 0 of `counts`, but it is drawn as the last row and column. Cells on the diagonal
    are blue, and errors are orange. The colour of a cell shows its count as a fraction of the sum of its row: the
    larger the fraction, the darker the cell. In the background row, it shows the fraction of the sum of the column
    instead. If there are more than 24 classes, the cells have no numbers. If there are more than 60 rows, only every
    n-th class is labelled.

    Parameters
    ----------
    ax : Axes
        Axes to draw on.
    counts : (L, L) array
        Counts from `rcnn.evaluate.confusion` for L classes, background included; at least 0.
    class_names : sequence of str, optional
        Class names, indexed by label; if omitted, labels are shown as numbers.

    Returns
    -------
    Axes
        The axes `ax`.

    Raises
    ------
    ValueError
        If `counts` is not a square matrix with at least 2 rows, if a count is negative, or if `class_names` does not
        have L entries.
    """
    given = as_array("counts", counts, (None, None)).astype(float)
    if len(given) != len(given.T) or len(given) < 2:
        raise ValueError(f"counts must have shape (L, L) with L >= 2 (classes and background), got {given.shape}")
    if not (given >= 0).all():
        raise ValueError(f"counts must be at least 0, got {given.min():g}")
    order = np.append(np.arange(1, len(given)), 0)
    table = given[order][:, order]  # (L, L)
    names = _short_names(len(given), class_names)
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)  # (L, L)
    shares[-1] = table[-1] / np.maximum(table.sum(axis=0), 1)
    diagonal = np.eye(len(table), dtype=bool)[:, :, None]
    # The square root makes small fractions visible.
    ax.imshow(np.where(diagonal, _CORRECT_COLORS(shares), _WRONG_COLORS(np.sqrt(shares))), aspect="equal")
    if len(table) - 1 <= _MOST_NUMBERED_CLASSES:
        _write_counts(ax, table, shares)
    for border in (ax.axhline, ax.axvline):
        border(len(table) - 1.5, color=style.GREY, linewidth=0.8)
    space = "\n" if len(table) - 1 <= _MOST_NUMBERED_CLASSES else " "  # two lines, if the rows are high enough
    _name_ticks(ax, [*names[1:], f"background,{space}duplicate"], [*names[1:], "missed"])
    ax.set_xlabel("predicted class", fontsize=style.TEXT_SIZE + 1, color=style.INK)
    ax.set_ylabel("true class", fontsize=style.TEXT_SIZE + 1, color=style.INK)
    return ax


@checked
def ap_bars(ax: Axes, ap: np.ndarray, class_names: Sequence[str] | None = None, most: int = 24) -> Axes:
    """Draw the average precision of each class as a bar, with the best class on top.

    Parameters
    ----------
    ax : Axes
        Axes to draw on.
    ap : (L,) array
        Average precision of each of L classes, indexed by label. Classes with NaN (no objects) are left out.
    class_names : sequence of str, optional
        Class names, indexed by label; if omitted, labels are shown as numbers.
    most : int, optional
        Largest number of bars. If there are more classes, half of the bars show the best classes, and the other half
        show the worst classes.

    Returns
    -------
    Axes
        The axes `ax`.
    """
    values = as_array("ap", ap, (None,)).astype(float)
    names = _short_names(len(values), class_names)
    known = np.flatnonzero(~np.isnan(values))  # never the background
    ranked = known[np.argsort(-values[known], kind="stable")]
    cut = len(ranked) > most
    shown = np.concatenate([ranked[: most // 2], ranked[len(ranked) - most // 2 :]]) if cut else ranked
    # An empty row stands for the classes that are left out.
    rows = np.arange(len(shown)) + cut * (np.arange(len(shown)) >= most // 2)
    style.graph(ax, "average precision", "")
    ax.grid(False, axis="y")
    ax.barh(rows, values[shown], height=0.7, color=style.SKY)
    for row, value in zip(rows, values[shown], strict=True):
        _write_at_end(ax, f"{value:.3f}", value, row)
    if cut:
        ax.text(
            0, most // 2, f" {len(ranked) - len(shown)} more", va="center", fontsize=style.TEXT_SIZE, color=style.GREY
        )
    ax.set_yticks(rows, style.literals(names[label] for label in shown))
    ax.set(xlim=(0, 1.12), ylim=(max(len(shown) + cut, _FEWEST_ROWS) - 0.4, -0.6), xticks=np.linspace(0, 1, 6))
    return ax if len(shown) else style.note(ax, "no objects")


@checked
def precision_recall_classes(
    ax: Axes,
    recalls: Sequence[np.ndarray],
    precisions: Sequence[np.ndarray],
    ap: np.ndarray,
    class_names: Sequence[str] | None = None,
) -> Axes:
    """Draw the precision-recall curve of every class that has objects.

    Each class has a small panel of its own, by descending average precision. A panel shows the curve of its class in
    blue, and the curves of the other classes in grey. All panels show the same range: the part in which the precision
    is below 1, so they start at a multiple of 0.1. If more than ten classes have objects, there is only one panel. It
    starts at 0. The mean of the envelopes of all curves at 101 recalls is black, the three classes with the lowest
    average precision are coloured, and the curves of the other classes are grey.

    Parameters
    ----------
    ax : Axes
        Axes to draw on.
    recalls, precisions : sequence of (D,) array
        Recall and precision of each of L classes, indexed by label (0 is the background). Each array has one value for
        each of the D detections of the class.
    ap : (L,) array
        Average precision of each class, indexed by label; NaN for a class without objects.
    class_names : sequence of str, optional
        Class names, indexed by label; if omitted, labels are shown as numbers.

    Returns
    -------
    Axes
        The axes `ax`.

    Raises
    ------
    ValueError
        If `recalls` or `precisions` does not have one array for each class, or if a shape is wrong.
    """
    values = as_array("ap", ap, (None,)).astype(float)
    names = _short_names(len(values), class_names)
    for name, curves in (("recalls", recalls), ("precisions", precisions)):
        if len(curves) != len(values):
            raise ValueError(f"{name} must have one array per class ({len(values)}), got {len(curves)}")
    known = [label for label in range(1, len(values)) if not np.isnan(values[label])]
    known.sort(key=lambda label: -values[label])
    ranked = [
        (
            as_array("recalls", recalls[label], (None,)),
            as_array("precisions", precisions[label], (len(recalls[label]),)),
        )
        for label in known
    ]
    titles = [(names[label], f"AP {values[label]:.3f}") for label in known]
    if 0 < len(known) <= _MOST_PANELS:
        _draw_panels(ax, ranked, titles)
        return ax
    style.graph(ax, "recall", "precision")
    ax.set(xlim=(0, 1), ylim=(0, 1))
    if not known:
        return style.note(ax, "no objects")
    _draw_mean_and_worst(ax, ranked, titles)
    return ax


@checked
def error_kinds(ax: Axes, kinds: Sequence[str], gains: np.ndarray, detections: np.ndarray, objects: np.ndarray) -> Axes:
    """Draw a bar for each kind of error, with the largest gain on top.

    The gain of a kind is the increase in average precision if all errors of this kind were corrected.

    Parameters
    ----------
    ax : Axes
        Axes to draw on.
    kinds : sequence of str
        Names of K kinds of error.
    gains : (K,) array
        Gain of each kind in average precision; NaN if it is undefined.
    detections : (K,) array
        Number of wrong detections of each kind.
    objects : (K,) array
        Number of missed objects of each kind.

    Returns
    -------
    Axes
        The axes `ax`.
    """
    values = as_array("gains", gains, (len(kinds),)).astype(float)
    wrong, lost = as_array("detections", detections, (len(kinds),)), as_array("objects", objects, (len(kinds),))
    order = np.argsort(-np.nan_to_num(values), kind="stable")
    style.graph(ax, "average precision gained if fixed", "")
    ax.grid(False, axis="y")
    ax.barh(np.arange(len(kinds)), np.nan_to_num(values[order]), height=0.66, color=style.ORANGE)
    for row, kind in enumerate(order):
        parts = [
            f"{count:,} {word if count != 1 else word[:-1]}"
            for count, word in ((wrong[kind], "detections"), (lost[kind], "objects"))
            if count
        ]
        gain = "" if np.isnan(values[kind]) else f"{values[kind]:+.3f}   "
        _write_at_end(ax, gain + ", ".join(parts or ["none"]), float(np.nan_to_num(values[kind])), row)
    ax.set_yticks(range(len(kinds)), style.literals(kinds[kind] for kind in order))
    longest = max(0.01, float(np.nan_to_num(values).max(initial=0)))
    ax.set(xlim=(0, 2 * longest), ylim=(len(kinds) - 0.4, -0.6))  # the right half is for the texts
    ax.set_xticks([tick for tick in MaxNLocator(3).tick_values(0, longest) if tick <= longest])
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    return ax


@checked
def stage_recall(ax: Axes, stages: Sequence[str], recalls: Mapping[str, np.ndarray]) -> Axes:
    """Draw the recall of each stage of a detector, with the first stage on top.

    Parameters
    ----------
    ax : Axes
        Axes to draw on.
    stages : sequence of str
        Names of S stages.
    recalls : mapping of str to (S,) array
        Maps one or more names, such as "IoU 0.5", to arrays that contain the recall of every stage. The first array is
        drawn as bars with numbers, and all other arrays are drawn as marks.

    Returns
    -------
    Axes
        The axes `ax`.

    Raises
    ------
    ValueError
        If `recalls` is empty or a shape is wrong.
    """
    if not recalls:
        raise ValueError("recalls must have at least one entry, got none")
    style.graph(ax, "recall", "")
    ax.grid(False, axis="y")
    rows = np.arange(len(stages))
    handles: list[Any] = []
    for number, (name, shares) in enumerate(recalls.items()):
        values = as_array(f"recalls[{name!r}]", shares, (len(stages),)).astype(float)
        if number == 0:
            handles.append(ax.barh(rows, np.nan_to_num(values), height=0.78, color=style.SKY, label=name))
            for row, value in enumerate(values):
                ax.annotate(
                    "no objects" if np.isnan(value) else f"{value:.3f}",
                    (1, row),
                    (8, 0),
                    va="center",
                    textcoords="offset points",
                    fontsize=style.TEXT_SIZE,
                    color=style.INK,
                )
            continue
        color, marker = _RECALL_MARKS[(number - 1) % len(_RECALL_MARKS)]
        lane = (number - len(recalls) / 2) / len(recalls) * 0.78  # marks of one row are placed one above the other
        handles += ax.plot(
            values,
            rows + lane,
            linestyle="none",
            marker=marker,
            markersize=5,
            color=color,
            zorder=3,
            markeredgecolor="white",
            markeredgewidth=0.5,
            label=name,
            clip_on=False,
        )
    ax.set_yticks(rows, style.literals(stages))
    ax.set(xlim=(0, 1), ylim=(max(len(stages), 1) - 0.4, -0.6))
    style.legend_under_name(ax, handles)
    return ax


@checked
def evaluation_page(
    evaluation: Any, confusion: np.ndarray, errors: Any, stages: Any, class_names: Sequence[str] | None = None
) -> Figure:
    """Draw a figure of five panels that show the results of an evaluation.

    The panels show the average precision, the precision-recall curves, the confusion matrix, the kinds of error, and
    the recall by stage.

    Parameters
    ----------
    evaluation : Evaluation
        Result of `rcnn.evaluate.evaluate`, or an object with the same attributes.
    confusion : (L, L) array
        Counts from `rcnn.evaluate.confusion` for L classes, background included.
    errors : Errors
        Result of `rcnn.evaluate.error_kinds`, or an object with the same attributes.
    stages : StageRecall
        Result of `rcnn.evaluate.recall_by_stage`, or an object with the same attributes.
    class_names : sequence of str, optional
        Class names, indexed by label; if omitted, labels are shown as numbers.

    Returns
    -------
    Figure
        The figure.
    """
    count = len(confusion)
    side = float(np.clip(0.3 * count, 4.2, 8.0))  # side of the confusion matrix in inches
    figure = style.figure(side + 6.0, 4.0 + side + 1.0)
    halves: Any = figure.subfigures(2, 1, height_ratios=(3.8, side + 1.2))
    panels = halves[0].subplot_mosaic([["ap", "curves"]], width_ratios=(1, 2.2))
    panels |= halves[1].subplot_mosaic(
        [["confusion", "errors"], ["confusion", "stages"]], width_ratios=(side + 0.8, 5.2), height_ratios=(1, 1)
    )
    objects = int(evaluation.num_objects.sum())
    style.title(
        ap_bars(panels["ap"], evaluation.ap, class_names),
        "Average precision",
        f"mean {evaluation.mean_ap:.3f}, {objects:,} objects" if objects else "",
    )
    curves = panels["curves"]
    precision_recall_classes(curves, evaluation.recall, evaluation.precision, evaluation.ap, class_names)
    is_part = curves.get_xlim()[0] > 0 or curves.get_ylim()[0] > 0
    style.title(curves, "Precision and recall", "the axes do not start at 0" if is_part else "")
    style.title(confusion_matrix(panels["confusion"], confusion, class_names), "Confusion")
    kinds = list(errors.repaired)
    at = [list(errors.examples).index(kind) for kind in kinds]
    gains = np.array([errors.repaired[kind] - errors.mean_ap for kind in kinds])
    style.title(
        error_kinds(panels["errors"], kinds, gains, errors.detections.sum(axis=1)[at], errors.objects.sum(axis=1)[at]),
        "Kinds of error",
    )
    recalls = {
        f"IoU {stages.iou_threshold:g}": stages.recall(),
        "IoU 0.7": stages.recall(0.7),
        **{name: stages.recall(of=group) for name, group in stages.by_size().items()},
    }
    style.title(stage_recall(panels["stages"], stages.stages, recalls), "Recall by stage")
    panels["confusion"].set_anchor("NW")
    return figure


@checked
def findings(
    ax: Axes,
    values: np.ndarray,
    names: Sequence[str],
    measures: Sequence[str],
    reference: Sequence[float],
    tolerance: float = 0.0,
) -> Axes:
    """Draw a table of measures and highlight the values that differ from a reference.

    The first row shows the reference values. The more a value differs from the reference value of its column, the
    darker its cell is. The difference is divided by the larger of the two absolute values. NaN is written as "none" and
    differs from every number.

    Parameters
    ----------
    ax : Axes
        Axes to draw on.
    values : (N, M) array
        Measured values in N rows, with one column for each of M measures.
    names : sequence of str
        Name of each of the N rows.
    measures : sequence of str
        Name of each of the M measures.
    reference : (M,) array
        Reference value of each measure.
    tolerance : float, optional
        Largest relative difference, in [0, 1), at which a cell is still white.

    Returns
    -------
    Axes
        The axes `ax`.

    Raises
    ------
    ValueError
        If a shape is wrong or `tolerance` is out of range.
    """
    if not 0 <= tolerance < 1:
        raise ValueError(f"tolerance must be in [0, 1), got {tolerance:g}")
    expected = as_array("reference", reference, (len(measures),)).astype(float)
    table = np.vstack([expected, as_array("values", values, (len(names), len(measures))).astype(float)])  # (N + 1, M)
    largest = np.maximum(np.maximum(np.abs(table), np.abs(expected)), 1e-9)
    share = np.abs(table - expected) / largest  # (N + 1, M)
    share = np.clip(np.where(np.isnan(share), np.isnan(table) != np.isnan(expected), share), 0, 1)
    difference = np.clip((share - tolerance) / (1 - tolerance), 0, 1)
    ax.imshow(_DIFFERENCE_COLORS(difference), aspect="auto")
    for row, column in np.ndindex(*table.shape):
        ax.text(
            column,
            row,
            _three_digits(float(table[row, column])),
            ha="center",
            va="center",
            fontsize=style.TEXT_SIZE,
            color=style.contrasting(to_hex(_DIFFERENCE_COLORS(difference[row, column]))),
        )
    style.ticks(ax)
    ax.set_yticks(range(len(table)), style.literals(["reference", *names]))
    ax.set_xticks(range(len(measures)), style.literals(measures))
    ax.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
    ax.axhline(0.5, color=style.GREY, linewidth=1.0)
    for spine in ax.spines.values():
        spine.set(color=style.FAINT, linewidth=0.8)
    return ax


# ---- helpers for ranked detections


def _names_or_ranks(names: Sequence[str] | None, count: int) -> list[str]:
    """Return the names of `count` detections. By default, the names are their ranks, starting at 1."""
    if names is None:
        return [f"{row + 1}" for row in range(count)]
    if len(names) != count:
        raise ValueError(f"names must have one entry per detection ({count}), got {len(names)}")
    return list(names)


def _checked_curve(
    recall: np.ndarray, precision: np.ndarray, correct: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Check and return the three arrays (D,). Raise ValueError unless `recall` is ascending and in [0, 1]."""
    x = as_array("recall", recall, (None,)).astype(float)
    wrong = np.flatnonzero(~((np.diff(x, prepend=0) >= 0) & (x <= 1)))
    if wrong.size:
        raise ValueError(f"recall must be ascending and in [0, 1], got {x[wrong[0]]:g} at index {wrong[0]}")
    y = as_array("precision", precision, (len(x),)).astype(float)
    return x, y, as_array("correct", correct, (len(x),)).astype(bool)


def _mark_correct_or_wrong(ax: Axes, x: float, y: float, good: bool, opacity: float) -> None:
    """Draw a dot for a correct detection, or a cross for a wrong one."""
    ax.plot(
        x,
        y,
        marker="o" if good else "X",
        markersize=6.5,
        color=RIGHT if good else WRONG,
        alpha=opacity,
        markeredgecolor="white",
        markeredgewidth=0.6,
        clip_on=False,
        zorder=4,
    )


def _correct_and_wrong_legend(ax: Axes, admitted: np.ndarray) -> None:
    """Draw a legend with the numbers of correct (True) and wrong (False) elements of the array `admitted`."""
    handles = [
        Line2D([], [], color=color, linestyle="none", marker=marker, markersize=6.5, label=f"{word}: {count}")
        for color, marker, word, count in (
            (RIGHT, "o", "correct", int(admitted.sum())),
            (WRONG, "X", "wrong", int((~admitted).sum())),
        )
    ]
    style.legend_under_name(ax, handles)


# ---- helpers for measures


def _short_names(count: int, class_names: Sequence[str] | None) -> list[str]:
    """Return a short name for each of `count` labels, or the labels as text if there are no names."""
    if class_names is None:
        return [str(label) for label in range(count)]
    if len(class_names) != count:
        raise ValueError(f"class_names must have {count} entries, including the background, got {len(class_names)}")
    return [name if len(name) <= _NAME_LENGTH else f"{name[: _NAME_LENGTH - 1]}\u2026" for name in class_names]


def _write_at_end(ax: Axes, text: str, x: float, row: float) -> None:
    """Write `text` at the end of a bar that ends at `x`."""
    ax.annotate(
        text, (x, row), (4, 0), textcoords="offset points", va="center", fontsize=style.TEXT_SIZE, color=style.INK
    )


def _write_counts(ax: Axes, table: np.ndarray, shares: np.ndarray) -> None:
    """Write each non-zero count of `table` into its cell, in the colour with more contrast: black or white."""
    for row, column in np.argwhere(table > 0):
        share = shares[row, column]
        color = _CORRECT_COLORS(share) if row == column else _WRONG_COLORS(np.sqrt(share))
        ax.text(
            column,
            row,
            f"{table[row, column]:.0f}",
            ha="center",
            va="center",
            fontsize=style.TEXT_SIZE,
            color=style.contrasting(to_hex(color)),
        )


def _name_ticks(ax: Axes, rows: Sequence[str], columns: Sequence[str]) -> None:
    """Label the rows and columns of a matrix. If there are many, label only every n-th of them."""
    style.ticks(ax)
    step = -(-len(rows) // 60)
    at = [*range(0, len(rows) - 1, step), len(rows) - 1]
    upright = max(map(len, columns[:-1])) > 2  # the last one has room, because names before it are short
    ax.set_yticks(at, style.literals(rows[i] for i in at))
    ax.set_xticks(at, style.literals(columns[i] for i in at), rotation=90 if upright else 0)
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set(color=style.FAINT, linewidth=0.8)


def _draw_panels(ax: Axes, curves: Sequence[tuple[np.ndarray, np.ndarray]], titles: Sequence[tuple[str, str]]) -> None:
    """Draw each curve (recall, precision) into a panel inside `ax`, over the other curves in grey.

    A title consists of the name of the class, which is written above the panel, and a text inside the panel.
    """
    low = np.array(_corner(curves))
    ax.set(xlim=(low[0], 1), ylim=(low[1], 1), aspect="auto")
    ax.set_axis_off()
    ends = 1 + 0.02 * (1 - low)  # lines at recall 1 or precision 1 are not cut in half
    count = len(curves)
    columns = count if count <= 3 else -(-count // 2)
    rows = -(-count // columns)
    (across, down), bottoms = _PANEL_GAPS, np.arange(rows)[::-1]
    width, height = 1 / (columns + across * (columns - 1)), _PANEL_ROOM / (rows + down * (rows - 1))
    for i, ((recall, precision), (name, text)) in enumerate(zip(curves, titles, strict=True)):
        row, column = divmod(i, columns)
        panel = ax.inset_axes((column * (1 + across) * width, bottoms[row] * (1 + down) * height, width, height))
        is_lowest = i + columns >= count
        style.graph(panel, "recall" if is_lowest else "", "precision" if column == 0 else "")
        for other in (*curves[:i], *curves[i + 1 :]):
            panel.plot(*other, color=style.NEUTRAL, linewidth=0.7, alpha=0.5)
        panel.plot(recall, precision, color=style.BLUE, linewidth=style.LINE_WIDTH, label=style.literal(name))
        panel.set(xlim=(low[0], ends[0]), ylim=(low[1], ends[1]))
        for axis, start in zip((panel.xaxis, panel.yaxis), low, strict=True):
            axis.set_ticks(np.linspace(start, 1, 3))
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        panel.tick_params(labelbottom=is_lowest, labelleft=column == 0)
        panel.set_title(style.literal(name), loc="left", fontsize=style.TEXT_SIZE + 1, color=style.INK, pad=3)
        panel.text(
            0.05,
            0.06,
            text,
            transform=panel.transAxes,
            fontsize=style.TEXT_SIZE,
            color=style.INK,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1},
        )


def _draw_mean_and_worst(
    ax: Axes, curves: Sequence[tuple[np.ndarray, np.ndarray]], titles: Sequence[tuple[str, str]]
) -> None:
    """Draw the curves (recall, precision), best first: their mean in black, the worst in colour, the others in grey."""
    worst = len(curves) - len(_WORST_COLORS)
    lines = []
    for i, (curve, words) in enumerate(zip(curves, titles, strict=True)):
        if i < worst:
            ax.plot(*curve, color=style.NEUTRAL, linewidth=0.7, alpha=0.5, clip_on=False)
        else:
            lines += ax.plot(*curve, color=_WORST_COLORS[i - worst], label="  ".join(words), clip_on=False)
    at = np.linspace(0, 1, 101)
    mean = np.mean([_best_from(at, *curve) for curve in curves], axis=0)
    label = f"mean of {len(curves)} classes"
    lines = [*ax.plot(at, mean, color=style.INK, linewidth=1.5 * style.LINE_WIDTH, label=label), *lines]
    style.legend_right(ax, lines)


def _best_from(at: np.ndarray, recall: np.ndarray, precision: np.ndarray) -> np.ndarray:
    """For each r in `at`, return the largest precision where the recall is at least r, or 0 if there is none."""
    best = np.append(np.maximum.accumulate(np.asarray(precision)[::-1])[::-1], 0)
    return np.asarray(best[np.searchsorted(recall, at)])


def _corner(curves: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[float, float]:
    """Return the multiples of 0.1 at which axes can start so that they show where the curves leave precision 1.

    Points after the last true positive, which only lower the precision at the highest recall, do not count.
    """
    left, below = 1.0, 1.0
    for recall, precision in curves:
        best = np.maximum.accumulate(np.asarray(precision, float)[::-1])[::-1]
        if not len(best):
            return 0.0, 0.0
        perfect = int(np.sum(best == 1))  # number of points with precision 1, which come first
        left = min(left, float(recall[perfect - 1]) if perfect else 0.0)
        below = min(below, float(best[np.searchsorted(recall, recall[-1])]))
    left, below = (min(math.floor(10 * value) / 10, 0.9) for value in (left, below))
    return left, below


def _three_digits(value: float) -> str:
    """Return a number as text with about three digits and no exponent, or "none" if it is not finite."""
    if not np.isfinite(value):
        return "none"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"

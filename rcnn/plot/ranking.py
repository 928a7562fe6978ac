"""Pictures of ranked detections: which are right, and the curve that they make. Each is `(ax, arrays...) -> ax`.

Detections come by falling score; `correct` (D,) says which are right. What is right is blue with a dot, what is wrong
is orange with a cross, in every picture. The first `admitted` detections count, and those below them are drawn pale.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from rcnn.plot import stages, style
from rcnn.plot.style import LINE_WIDTH, THIN_LINE, as_array, as_boxes
from rcnn.plot.tags import Tags

RIGHT, WRONG = style.BLUE, style.VERMILION
_PALE = 0.3  # opacity of what is not admitted
_MOST_NUMBERS = 16  # detections, beyond which the ranks along a curve would lie on each other
_BAR = 0.72  # of a row's height
_FEW_RECALLS = 20  # up to so many are marked by a dot each


def ranking(ax: Axes, scores: np.ndarray, correct: np.ndarray, admitted: int | None = None,
            names: Sequence[str] | None = None) -> Axes:
    """The detections as a list, best on top: a bar for each of `scores` (D,), in [0, 1], marked right or wrong.

    `names` (D,) stand before the bars, the ranks from 1 without it.
    """
    values = as_array("scores", scores, (None,)).astype(float)
    if (np.diff(values) > 0).any():
        raise ValueError("scores must not rise: the detections come by falling score")
    right = as_array("correct", correct, (len(values),)).astype(bool)
    cut = len(values) if admitted is None else admitted
    labels = [f"{row + 1}" for row in range(len(values))] if names is None else list(names)
    style.graph(ax, "score", "rank" if names is None else "")
    ax.grid(False, axis="y")
    for row, (value, good) in enumerate(zip(values, right, strict=True)):
        opacity = 1.0 if row < cut else _PALE
        ax.barh(row, value, height=_BAR, color=style.SKY if good else style.ORANGE, alpha=opacity)
        _mark(ax, value, row, bool(good), opacity)
    if cut < len(values):
        ax.axhline(cut - 0.5, color=style.INK, linewidth=THIN_LINE, linestyle="--")
    ax.set_yticks(range(len(values)), labels)
    ax.set(xlim=(0, 1), ylim=(max(len(values), 1) - 0.4, -0.6), xticks=(0, 0.25, 0.5, 0.75, 1))
    _legend_under_label(ax, right[:cut])
    return ax if len(values) else style.note(ax, "no detections")


def ranked_boxes(ax: Axes, picture: np.ndarray, boxes: np.ndarray, correct: np.ndarray, gt_boxes: np.ndarray,
                 names: Sequence[str] | None = None) -> Axes:
    """The `boxes` (D, 4) of ranked detections over `picture`, tagged with their `names` (D,), or ranks from 1 without.

    `correct` (D,) gives their colours. The objects, `gt_boxes` (G, 4), are dashed.
    """
    corners = as_boxes("boxes", boxes)
    right = as_array("correct", correct, (len(corners),)).astype(bool)
    stages.image(ax, picture)
    for x1, y1, x2, y2 in as_boxes("gt_boxes", gt_boxes):
        _outlined(ax, (x1, y1), x2 - x1, y2 - y1, "white", "--", THIN_LINE)
    for (x1, y1, x2, y2), good in zip(corners, right, strict=True):
        _outlined(ax, (x1, y1), x2 - x1, y2 - y1, RIGHT if good else WRONG, "-", LINE_WIDTH)
    tags = [f"{i + 1}" for i in range(len(corners))] if names is None else list(names)
    if tags:
        ax.add_artist(Tags(corners, tags, [RIGHT if good else WRONG for good in right]))
    return ax


def ranked_curve(ax: Axes, recall: np.ndarray, precision: np.ndarray, correct: np.ndarray,
                 admitted: int | None = None) -> Axes:
    """Precision over recall, (D,) each, with a mark for every detection: where the list stands once it is admitted.

    Of few detections each mark has its rank. The last one admitted has a ring, with lines to both axes.
    """
    x, y, right = _curve(recall, precision, correct)
    cut = len(x) if admitted is None else admitted
    style.graph(ax, "recall", "precision")
    ax.plot(x, y, color=style.GREY, linewidth=THIN_LINE, alpha=_PALE, clip_on=False)
    ax.plot(x[:cut], y[:cut], color=style.GREY, linewidth=THIN_LINE, clip_on=False)
    for i, (at, height, good) in enumerate(zip(x, y, right, strict=True)):
        _mark(ax, at, height, bool(good), 1.0 if i < cut else _PALE)
        if len(x) <= _MOST_NUMBERS:
            ax.annotate(f"{i + 1}", (at, height), (6, 4), textcoords="offset points", fontsize=style.TEXT_SIZE,
                        color=style.INK if i < cut else style.GREY)  # fmt: skip
    if admitted is not None and 0 < cut <= len(x):
        last = (x[cut - 1], y[cut - 1])
        ax.plot([0, last[0], last[0]], [last[1], last[1], 0], color=style.INK, linewidth=THIN_LINE, linestyle=":")
        ax.plot(*last, "o", markersize=12, markerfacecolor="none", markeredgecolor=style.INK,
                markeredgewidth=1.4, clip_on=False, zorder=5)  # fmt: skip
    ax.set(xlim=(0, 1), ylim=(0, 1))
    _legend_under_label(ax, right[:cut])
    return ax if len(x) else style.note(ax, "no detections")


def interpolation(ax: Axes, recall: np.ndarray, precision: np.ndarray, recalls: np.ndarray | None = None) -> Axes:
    """One curve, (D,) each, and what an average precision makes of it: the best precision from every recall on.

    With `recalls` (K,) that is read at these recalls, without it the area under it is taken. The detections themselves
    are grey dots.
    """
    x, y, _ = _curve(recall, precision, np.zeros(len(np.asarray(recall)), bool))
    best = np.append(np.maximum.accumulate(y[::-1])[::-1], 0)  # (D + 1,): beyond the highest recall it is 0
    edges = np.concatenate([[0], x, [1]])  # (D + 2,)
    style.graph(ax, "recall", "precision")
    ax.stairs(best, edges, color=style.BLUE, linewidth=LINE_WIDTH, baseline=None, clip_on=False)
    if recalls is None:
        ax.stairs(best, edges, color=style.SKY, fill=True, alpha=0.45)
    else:
        at = as_array("recalls", recalls, (None,)).astype(float)
        heights = best[np.searchsorted(x, at)]  # (K,)
        ax.vlines(at, 0, heights, color=style.SKY, linewidth=3.0 if len(at) <= _FEW_RECALLS else 1.0)
        ax.plot(at, heights, "o", color=style.ORANGE, markersize=5 if len(at) <= _FEW_RECALLS else 2.2,
                markeredgecolor=style.INK, markeredgewidth=0.4, clip_on=False, zorder=4)  # fmt: skip
    ax.plot(x, y, "o", color=style.GREY, markersize=3.5, clip_on=False, zorder=3)
    ax.set(xlim=(0, 1), ylim=(0, 1))
    return ax


# ---------------------------------------------------------------------- helpers

def _curve(recall: np.ndarray, precision: np.ndarray, correct: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(recall (D,), precision (D,), correct (D,)), checked; ValueError for a recall that falls or is not known."""
    x = as_array("recall", recall, (None,)).astype(float)
    if not (np.diff(x, prepend=0) >= 0).all() or not (x <= 1).all():
        raise ValueError("recall must lie in [0, 1] and not fall")
    y = as_array("precision", precision, (len(x),)).astype(float)
    return x, y, as_array("correct", correct, (len(x),)).astype(bool)


def _mark(ax: Axes, x: float, y: float, good: bool, opacity: float) -> None:
    """A dot for what is right, a cross for what is wrong."""
    ax.plot(x, y, marker="o" if good else "X", markersize=6.5, color=RIGHT if good else WRONG, alpha=opacity,
            markeredgecolor="white", markeredgewidth=0.6, clip_on=False, zorder=4)  # fmt: skip


def _outlined(ax: Axes, corner: tuple[float, float], width: float, height: float, color: str, line: str,
              points: float) -> None:
    ax.add_patch(Rectangle(corner, width, height, fill=False, edgecolor=color, linestyle=line, linewidth=points,
                           joinstyle="miter", path_effects=style.outline(points), zorder=3))  # fmt: skip


def _legend_under_label(ax: Axes, admitted: np.ndarray) -> None:
    """How many of the admitted detections, (D',) bool, are right and wrong, under the name of the horizontal axis."""
    handles = [Line2D([], [], color=color, linestyle="none", marker=marker, markersize=6.5,
                      label=f"{word}: {count}")
               for color, marker, word, count in ((RIGHT, "o", "right", int(admitted.sum())),
                                                  (WRONG, "X", "wrong", int((~admitted).sum())))]  # fmt: skip
    style.legend_under_name(ax, handles)

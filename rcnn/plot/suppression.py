"""Plots of non-maximum suppression: its steps, what it keeps, and what it costs.

Draws the boxes and the list of one step, the recall that remains after each step, and the time over the number of
boxes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter

from rcnn.plot import style
from rcnn.plot.style import LINE_WIDTH, THIN_LINE, as_array, as_boxes
from rcnn.plot.tags import Tags

# The states of a box, each with its colour, line and width. Later states are drawn on top.
STATES = {
    "removed before": ("#a8a8a8", ":", THIN_LINE),
    "waiting": (style.SKY, "-", THIN_LINE),
    "kept before": (style.GREEN, "-", LINE_WIDTH),
    "removed now": (style.VERMILION, "--", LINE_WIDTH),
    "kept now": (style.YELLOW, "-", 2.4),
}
_SERIES_LOOKS = (
    (style.BLUE, "o", "-"),
    (style.VERMILION, "s", "--"),
    (style.GREEN, "^", "-."),
    (style.PURPLE, "D", ":"),
)
_ROW = 0.72  # height of a bar, as a share of its row
_FAINT_BAR = 0.35  # opacity of the bar of a removed box
_APART = 0.025  # shares that are written beside each other differ by more
_TEXT_ROOM = 1.75  # length of the axis for bars up to 1: the rest is for words


def suppression_step(ax: Axes, boxes: np.ndarray, states: Sequence[str], image: np.ndarray | None = None) -> Axes:
    """The `boxes` (N, 4), by falling score, in the middle of suppression, over `image` if there is one.

    `states` (N,) says what has become of each, by the names in `STATES`. A box is tagged with its rank, from 1, as long
    as it may still be seen: those removed before are not.
    """
    corners = as_boxes("boxes", boxes)
    _check_states(states, len(corners))
    if image is not None:
        style.image(ax, image, dimmed=True)
    for state, (color, line, width) in STATES.items():
        for i in np.flatnonzero(np.array(states, object) == state):
            x1, y1, x2, y2 = corners[i]
            ax.add_patch(
                Rectangle(
                    (x1, y1),
                    x2 - x1,
                    y2 - y1,
                    fill=False,
                    edgecolor=color,
                    linestyle=line,
                    linewidth=width,
                    joinstyle="miter",
                    zorder=3,
                    path_effects=None if state == "removed before" else style.outline(width),
                )
            )
    tagged = [i for i, state in enumerate(states) if state != "removed before"]
    ax.add_artist(Tags(corners[tagged], [f"{i + 1}" for i in tagged], [STATES[states[i]][0] for i in tagged]))
    if image is None:
        ax.autoscale_view()
        style.frame(ax)
    return ax


def suppression_queue(ax: Axes, scores: np.ndarray, states: Sequence[str], overlaps: np.ndarray) -> Axes:
    """The boxes of `suppression_step` as a list, best on top: a bar for each of `scores` (N,), in [0, 1].

    Beside it stands what has become of the box, and for those that are removed now the IoU with the one that is kept
    now, from `overlaps` (N,).
    """
    values = as_array("scores", scores, (None,)).astype(float)
    shared = as_array("overlaps", overlaps, (len(values),)).astype(float)
    _check_states(states, len(values))
    if (np.diff(values) > 0).any():
        raise ValueError("scores must not rise: the boxes come by falling score")
    style.graph(ax, "score", "rank")
    ax.grid(False, axis="y")
    for row, (value, state) in enumerate(zip(values, states, strict=True)):
        color = STATES[state][0]
        ax.barh(
            row,
            value,
            height=_ROW,
            color=color,
            edgecolor=style.GREY,
            linewidth=0.5,
            alpha=_FAINT_BAR if state == "removed before" else 1,
        )
        words = f"{state}, IoU {shared[row]:.2f}" if state == "removed now" else state
        ax.annotate(
            words,
            (value, row),
            (4, 0),
            textcoords="offset points",
            va="center",
            fontsize=style.TEXT_SIZE,
            color=style.GREY if state == "removed before" else style.INK,
        )
    ax.set_yticks(range(len(values)), [f"{row + 1}" for row in range(len(values))])
    ax.set(xlim=(0, _TEXT_ROOM), ylim=(max(len(values), 1) - 0.4, -0.6), xticks=(0, 0.5, 1))
    return ax if len(values) else style.note(ax, "no boxes")


def suppression_legend(ax: Axes, states: Sequence[str]) -> Axes:
    """A legend under `ax`: how many boxes are in each state, the kept ones first."""
    handles: list[Artist] = [
        Patch(facecolor=STATES[name][0], edgecolor=style.GREY, linewidth=0.5, label=f"{name}: {states.count(name)}")
        for name in ("kept before", "kept now", "removed now", "removed before", "waiting")
    ]
    style.legend_below(ax, handles, columns=3)
    return ax


def recall_steps(ax: Axes, steps: Sequence[str], counts: np.ndarray, recalls: Mapping[str, np.ndarray]) -> Axes:
    """The share of the objects that is still reached after each of the S steps, from left to right.

    `counts` (S,), how many boxes there are after each, stand under its name. `recalls` holds (S,) shares by name: a
    line for each, the first and the last of whose values are written beside it, once where lines meet.
    """
    numbers = as_array("counts", counts, (len(steps),)).astype(float)
    at = np.arange(len(steps))
    written = {0: np.zeros(0), -1: np.zeros(0)}  # values, beside the first and the last step
    style.graph(ax, "", "share of the objects reached")
    handles: list[Artist] = []
    for number, (name, shares) in enumerate(recalls.items()):
        values = as_array(f"recalls[{name!r}]", shares, (len(steps),)).astype(float)
        color, marker, line = _SERIES_LOOKS[number % len(_SERIES_LOOKS)]
        handles += ax.plot(
            at,
            values,
            color=color,
            marker=marker,
            linestyle=line,
            markersize=5,
            label=name,
            linewidth=LINE_WIDTH,
            clip_on=False,
            zorder=3,
        )
        for end, side, shift in ((0, "right", -7), (-1, "left", 7)):
            if np.abs(written[end] - values[end]).min(initial=1) < _APART:
                continue
            written[end] = np.append(written[end], values[end])
            ax.annotate(
                f"{values[end]:.2f}",
                (at[end], values[end]),
                (shift, 0),
                textcoords="offset points",
                ha=side,
                va="center",
                fontsize=style.TEXT_SIZE,
                color=style.INK,
            )
    ax.set_xticks(at, [f"{step}\n{count:,.0f}" for step, count in zip(steps, numbers, strict=True)])
    ax.set(xlim=(-0.6, len(steps) - 0.4), ylim=(0, 1))
    style.legend_inside(ax, handles, "lower right", length=3)
    return ax


def growth(ax: Axes, sizes: np.ndarray, seconds: Mapping[str, np.ndarray], power: float) -> Axes:
    """How long something takes, (K,) seconds by name, over how much of it there is, `sizes` (K,); both logarithmic.

    A dotted line for each grows with the given `power` of the size, and meets it at the largest.
    """
    x = as_array("sizes", sizes, (None,)).astype(float)
    style.graph(ax, "boxes", "milliseconds")
    ax.set(xscale="log", yscale="log")
    handles: list[Artist] = []
    for number, (name, values) in enumerate(seconds.items()):
        y = 1e3 * as_array(f"seconds[{name!r}]", values, (len(x),)).astype(float)
        if not (y > 0).all():
            raise ValueError(f"seconds[{name!r}] must be above 0 throughout")
        color, marker, line = _SERIES_LOOKS[number % len(_SERIES_LOOKS)]
        ax.plot(x, y[-1] * (x / x[-1]) ** power, color=style.GREY, linewidth=THIN_LINE, linestyle=":")
        handles += ax.plot(
            x, y, color=color, marker=marker, linestyle=line, markersize=4, linewidth=LINE_WIDTH, label=name
        )
    handles.append(
        Line2D([], [], color=style.GREY, linewidth=THIN_LINE, linestyle=":", label=f"grows with power {power:g}")
    )
    ax.xaxis.set_major_locator(FixedLocator(x.tolist()))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    ax.yaxis.set_major_locator(LogLocator(10, numticks=12))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_minor_formatter(NullFormatter())
    style.legend_right(ax, handles)
    return ax


def _check_states(states: Sequence[str], count: int) -> None:
    """Nothing, or a ValueError where there is no state, or an unknown one, for each of `count` boxes."""
    if len(states) != count:
        raise ValueError(f"states has {len(states)} entries for {count} boxes")
    for i, state in enumerate(states):
        if state not in STATES:
            raise ValueError(f"states[{i}] is {state!r}; allowed are {', '.join(STATES)}")

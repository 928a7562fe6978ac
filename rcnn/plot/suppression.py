"""Plots of non-maximum suppression: its steps, its effect on recall, and its running time.

The plots show the boxes and the ranked list at one step, the recall after each step, and the running time as a function
of the number of boxes.
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
from rcnn.plot.arguments import checked
from rcnn.plot.style import LINE_WIDTH, THIN_LINE, as_array, as_boxes
from rcnn.plot.tags import Tags

# The states of a box, each with its colour, line style and line width. Later states are drawn on top.
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
_ROW = 0.72  # height of a bar, as a fraction of its row
_FAINT_BAR = 0.35  # opacity of the bar of a removed box
_APART = 0.025  # if two end values are closer than this, only one is written
_TEXT_ROOM = 1.75  # end of the x axis; bars end at 1 at most, and the space after 1 is for texts


@checked
def suppression_step(ax: Axes, boxes: np.ndarray, states: Sequence[str], image: np.ndarray | None = None) -> Axes:
    """Draw the boxes at one step of suppression.

    Each box is tagged with its rank, starting at 1. Boxes that were removed in earlier steps have no tag.

    Parameters
    ----------
    ax : Axes
        Axes to draw on.
    boxes : (N, 4) array
        N boxes, in pixels, by descending score.
    states : sequence of str
        State of each of the N boxes. The states are the keys of `STATES`.
    image : (H, W, 3) array, optional
        Image to draw under the boxes, uint8 or float in [0, 1].

    Returns
    -------
    Axes
        The axes `ax`.

    Raises
    ------
    ValueError
        If `states` and `boxes` differ in length, or if a state is unknown.
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


@checked
def suppression_queue(ax: Axes, scores: np.ndarray, states: Sequence[str], overlaps: np.ndarray) -> Axes:
    """Draw the boxes at one step of suppression as horizontal bars, with the best box on top.

    Each bar is labelled with the state of its box. If the box is removed at this step, the label also contains its IoU
    with the box that is kept at this step.

    Parameters
    ----------
    ax : Axes
        Axes to draw on.
    scores : (N,) array
        Scores of N boxes in [0, 1], descending.
    states : sequence of str
        State of each of the N boxes. The states are the keys of `STATES`.
    overlaps : (N,) array
        IoU of each box with the box that is kept at this step.

    Returns
    -------
    Axes
        The axes `ax`.

    Raises
    ------
    ValueError
        If a shape is wrong, if a state is unknown, or if the scores are not descending.
    """
    values = as_array("scores", scores, (None,)).astype(float)
    shared = as_array("overlaps", overlaps, (len(values),)).astype(float)
    _check_states(states, len(values))
    style.check_descending("scores", values)
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
        text = f"{state}, IoU {shared[row]:.2f}" if state == "removed now" else state
        ax.annotate(
            text,
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


@checked
def suppression_legend(ax: Axes, states: Sequence[str]) -> Axes:
    """Draw a legend under the axes with the number of boxes in each state, with kept boxes first.

    Parameters
    ----------
    ax : Axes
        Axes to draw on.
    states : sequence of str
        State of each of the N boxes. The states are the keys of `STATES`.

    Returns
    -------
    Axes
        The axes `ax`.
    """
    handles: list[Artist] = [
        Patch(facecolor=STATES[name][0], edgecolor=style.GREY, linewidth=0.5, label=f"{name}: {states.count(name)}")
        for name in ("kept before", "kept now", "removed now", "removed before", "waiting")
    ]
    style.legend_below(ax, handles, columns=3)
    return ax


@checked
def recall_steps(ax: Axes, steps: Sequence[str], counts: np.ndarray, recalls: Mapping[str, np.ndarray]) -> Axes:
    """Draw the recall after each step, from left to right.

    Parameters
    ----------
    ax : Axes
        Axes to draw on.
    steps : sequence of str
        Name of each of S steps.
    counts : (S,) array
        Number of boxes after each step, written under the name of the step.
    recalls : mapping of str to (S,) array
        Maps the name of each line to the recall after every step. The first and the last value are written next to the
        line. If several lines end at the same point, the value is written only once.

    Returns
    -------
    Axes
        The axes `ax`.
    """
    numbers = as_array("counts", counts, (len(steps),)).astype(float)
    at = np.arange(len(steps))
    written = {0: np.zeros(0), -1: np.zeros(0)}  # values already written next to the first and last step
    style.graph(ax, "", "recall")
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
    ax.set_xticks(at, style.literals(f"{step}\n{count:,.0f}" for step, count in zip(steps, numbers, strict=True)))
    ax.set(xlim=(-0.6, len(steps) - 0.4), ylim=(0, 1))
    style.legend_inside(ax, handles, "lower right", length=3)
    return ax


@checked
def growth(ax: Axes, sizes: np.ndarray, seconds: Mapping[str, np.ndarray], power: float) -> Axes:
    """Draw the running time as a function of the number of boxes, on logarithmic axes.

    For comparison, a dotted line next to each curve shows a power law.

    Parameters
    ----------
    ax : Axes
        Axes to draw on.
    sizes : (K,) array
        The numbers of boxes for which the times were measured.
    seconds : mapping of str to (K,) array
        Maps the name of each curve to its running times. Each array contains one positive time, in seconds, for each
        element of `sizes`.
    power : float
        Exponent of the power law. The dotted line meets each curve at the last number of boxes.

    Returns
    -------
    Axes
        The axes `ax`.

    Raises
    ------
    ValueError
        If a time is not above 0.
    """
    x = as_array("sizes", sizes, (None,)).astype(float)
    style.graph(ax, "boxes", "milliseconds")
    ax.set(xscale="log", yscale="log")
    handles: list[Artist] = []
    for number, (name, values) in enumerate(seconds.items()):
        y = 1e3 * as_array(f"seconds[{name!r}]", values, (len(x),)).astype(float)
        if not (y > 0).all():
            raise ValueError(f"seconds[{name!r}] must be above 0, got {y.min() / 1e3:g}")
        color, marker, line = _SERIES_LOOKS[number % len(_SERIES_LOOKS)]
        ax.plot(x, y[-1] * (x / x[-1]) ** power, color=style.GREY, linewidth=THIN_LINE, linestyle=":")
        handles += ax.plot(
            x, y, color=color, marker=marker, linestyle=line, markersize=4, linewidth=LINE_WIDTH, label=name
        )
    handles.append(
        Line2D([], [], color=style.GREY, linewidth=THIN_LINE, linestyle=":", label=f"power law, exponent {power:g}")
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
    """Raise ValueError unless `states` contains a known state for each of `count` boxes."""
    if len(states) != count:
        raise ValueError(f"states must have one entry per box ({count}), got {len(states)}")
    for i, state in enumerate(states):
        if state not in STATES:
            raise ValueError(f"states[{i}] must be one of {', '.join(STATES)}, got {state!r}")

"""Pictures of annotations: pixels and the boxes around them, and how well boxes fit the pictures that they are on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from rcnn.plot import style
from rcnn.plot.stages import image
from rcnn.plot.style import as_array, as_boxes

MOST_PIXELS = 40  # along a side, for numbers at each row and column
THINNEST, THICKER = 2.4, 2.0  # points: the last box's line, and by how much each is thicker than the next
BINS = 10
_LINES: tuple[Literal["-", "--", ":", "-."], ...] = ("-", "--", ":", "-.")


def pixel_boxes(
    ax: Axes, picture: np.ndarray, boxes: np.ndarray, names: Sequence[str], colors: Sequence[str] | None = None
) -> Axes:
    """A small `picture` (H, W, 3) with its pixels' edges, whose coordinates are at the axes, and `boxes` (N, 4) on it.

    `names` (N,) say in the legend what each box is. Pixel (row, column) fills the square from (column, row) to
    (column + 1, row + 1). Each line is thinner than those before it, so that edges on the same coordinate are all seen.
    """
    corners = as_boxes("boxes", boxes)
    if len(names) != len(corners):
        raise ValueError(f"names has {len(names)} entries for {len(corners)} boxes")
    image(ax, picture)
    height, width = np.asarray(picture).shape[:2]
    step = -(-max(width, height) // MOST_PIXELS)
    for count, axis, lines in ((width, ax.xaxis, ax.axvline), (height, ax.yaxis, ax.axhline)):
        axis.set_ticks(range(0, count + 1, step))
        for edge in range(count + 1):
            lines(edge, color=style.GREY, linewidth=0.4, zorder=1)
    style.ticks(ax)
    style.name_pixels(ax)
    shades = colors or [style.PALETTE[i % len(style.PALETTE)] for i in range(len(corners))]
    handles = []
    for i, (x1, y1, x2, y2) in enumerate(corners):
        line, = ax.plot([x1, x2, x2, x1, x1], [y1, y1, y2, y2, y1], color=shades[i], label=names[i], zorder=3,
                        linewidth=THINNEST + THICKER * (len(corners) - 1 - i), linestyle=_LINES[i % len(_LINES)],
                        clip_on=False, solid_joinstyle="miter")  # fmt: skip
        handles.append(line)
    if handles:
        style.legend_right(ax, handles)
    return ax


def fit_histogram(ax: Axes, fits: Mapping[str, np.ndarray]) -> Axes:
    """How well boxes fit their pictures, 0 to 1, as a step histogram for each named group of `fits` (B,).

    What boxes fit by chance alone, the same number in every bin, is a faint line; the legend says each group's mean.
    """
    style.graph(ax, "fit: share of the pictures on which the box has less contrast", "share of the boxes")
    ax.set_xlim(0, 1)
    handles = []
    for i, (name, values) in enumerate(fits.items()):
        array = as_array(f"fits[{name!r}]", values, (None,)).astype(np.float64)
        wrong = np.flatnonzero(~((array >= 0) & (array <= 1)))
        if wrong.size:
            raise ValueError(f"fits[{name!r}][{wrong[0]}] is {array[wrong[0]]:g}; a fit lies in [0, 1]")
        if len(array) == 0:
            continue
        shares, edges = np.histogram(array, BINS, (0, 1), weights=np.full(len(array), 1 / len(array)))
        color = style.PALETTE[(5, 6, 2, 1)[i % 4]]
        ax.stairs(shares, edges, color=color, linewidth=2, linestyle=_LINES[i % len(_LINES)])
        handles.append(Line2D([], [], color=color, linewidth=2, linestyle=_LINES[i % len(_LINES)],
                              label=f"{name}: mean {array.mean():.2f}"))  # fmt: skip
    if not handles:
        return style.note(ax, "no boxes")
    ax.axhline(1 / BINS, color=style.GREY, linewidth=0.8)
    handles.append(Line2D([], [], color=style.GREY, linewidth=0.8, label="by chance: mean 0.50"))
    ax.set_ylim(bottom=0)
    style.legend_inside(ax, handles, "upper left")
    return ax

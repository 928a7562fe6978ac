"""Pictures of RoIPool's bins, of what bins answer, and of how answers change as a RoI moves.

Feature maps are drawn in cells, as in `rcnn.plot.features`: cell (row, column) is centred on y = row, x = column.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import ScaledTranslation

from rcnn.plot import style
from rcnn.plot.style import as_array

_EDGES = (style.SKY, style.YELLOW)  # of neighbouring bins, which may share cells
_INSETS = (0.07, 0.20)  # cells by which the edges of neighbouring bins are drawn inside of them
Dashes = Literal["-", "--", ":", "-."]
_UNDER_LABEL = 30.0  # points from the axis to a legend that lies under the axis's numbers and its name
_CURVES: tuple[tuple[str, Dashes], ...] = ((style.VERMILION, "-"), (style.BLUE, "-"), (style.GREEN, "--"),
                                           (style.PURPLE, ":"))


def quantised_bins(ax: Axes, feature_map: np.ndarray, roi: np.ndarray, spatial_scale: float,
                   output_size: tuple[int, int] = (7, 7), margin: float | None = 1.0) -> Axes:
    """What RoIPool reads of `feature_map` (H, W): the RoI, its rounded bins, and the largest cell of each bin.

    `roi` (4,) is in pixels, and `spatial_scale` takes it to cells. Dashed is the RoI before it was rounded. Bins have
    two colours in turn, for neighbours may share cells; one without a cell is not drawn. The view is a square with at
    least `margin` cells around all of this; None shows the whole map.

    Source: Girshick, "Fast R-CNN" (2015), section 2.1.
    """
    cells = as_array("feature_map", feature_map, (None, None))
    exact = as_array("roi", roi, (4,)).astype(float) * spatial_scale
    corners = [_round_away(value) for value in exact]
    rows = _bounds(corners[1], corners[3], output_size[0], cells.shape[0])
    columns = _bounds(corners[0], corners[2], output_size[1], cells.shape[1])
    shown = ax.imshow(cells, cmap=style.ACTIVATIONS, interpolation="nearest")
    _cell_edges(ax, cells.shape)
    for i, (top, bottom) in enumerate(rows):
        for j, (left, right) in enumerate(columns):
            if top < bottom and left < right:
                _draw_bin(ax, (left, top, right, bottom), (i + j) % 2)
                _dot(ax, cells, (left, top, right, bottom))
    x1, y1, x2, y2 = exact
    ax.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=style.ORANGE, linewidth=style.LINE_WIDTH,
                           linestyle="--", joinstyle="miter", path_effects=style.outline(style.LINE_WIDTH), zorder=4))
    style.frame(ax)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(6, integer=True))
    style.ticks(ax)
    if margin is not None:
        _look_at(ax, exact, np.array(corners) + (-0.5, -0.5, 0.5, 0.5), margin)
    style.color_bar(ax, shown, "activation")
    return ax


def bin_values(ax: Axes, values: np.ndarray, limits: tuple[float, float] | None = None) -> Axes:
    """The answers (ph, pw) of a RoI's bins as tiles, each with its number.

    `limits` are the values of the darkest and of the brightest tile, for several pictures on one scale.
    """
    array = as_array("values", values, (None, None)).astype(float)
    if array.size == 0:
        return style.note(style.frame(ax), "no bins")
    low, high = (float(array.min()), float(array.max())) if limits is None else limits
    ax.imshow(array, cmap=style.ACTIVATIONS, vmin=low, vmax=high, interpolation="nearest")
    for i, j in np.ndindex(*array.shape):
        share = (array[i, j] - low) / (high - low) if high > low else 0.5
        ax.text(j, i, f"{array[i, j]:.2f}", ha="center", va="center", fontsize=style.TEXT_SIZE + 1,
                color="white" if share < 0.5 else "black")
    for line in range(1, array.shape[1]):
        ax.axvline(line - 0.5, color="white", linewidth=style.LINE_WIDTH)
    for line in range(1, array.shape[0]):
        ax.axhline(line - 0.5, color="white", linewidth=style.LINE_WIDTH)
    return style.frame(ax)


def shift_curves(ax: Axes, shifts: np.ndarray, curves: Mapping[str, np.ndarray], xlabel: str, ylabel: str,
                 at: float | None = None) -> Axes:
    """What each of `curves` answers, (S,) by name, over the `shifts` (S,) of a RoI; a legend lies below.

    `at` marks one shift, and what each curve answers there. NaN leaves a gap.
    """
    places = as_array("shifts", shifts, (None,)).astype(float)
    looks = dict(zip(curves, _CURVES * (len(curves) // len(_CURVES) + 1), strict=False))
    for name, answers in curves.items():
        values = as_array(f"curves[{name!r}]", answers, (len(places),)).astype(float)
        color, dashes = looks[name]
        ax.plot(places, values, color=color, linestyle=dashes, linewidth=style.LINE_WIDTH)
        if at is not None and len(places):
            ax.plot(at, np.interp(at, places, values), marker="o", markersize=6, markerfacecolor=color,
                    markeredgecolor="black", markeredgewidth=0.8, zorder=4)
    if at is not None:
        ax.axvline(at, color=style.GREY, linewidth=style.THIN_LINE, zorder=1)
    style.graph(ax, xlabel, ylabel)
    handles = [Line2D([], [], color=color, linestyle=dashes, linewidth=style.LINE_WIDTH, label=name)
               for name, (color, dashes) in looks.items()]
    if handles:
        below = ScaledTranslation(0, -_UNDER_LABEL / 72, ax.figure.dpi_scale_trans)
        style.legend_below(ax, handles, columns=len(handles)).set_bbox_to_anchor((0, 0), ax.transAxes + below)
    return ax


def bins_legend(ax: Axes) -> Axes:
    """`ax` with a legend under it that says what `quantised_bins` draws."""
    box = Line2D([], [], color=style.ORANGE, linestyle="--", linewidth=style.LINE_WIDTH, label="the RoI as it came")
    bins = [Line2D([], [], color=color, linewidth=style.LINE_WIDTH, label=label,
                   path_effects=style.outline(style.LINE_WIDTH))
            for color, label in zip(_EDGES, ("a bin", "its neighbours"), strict=True)]
    dot = Line2D([], [], marker="o", color="white", markeredgecolor="black", linestyle="none", label="largest cell")
    style.legend_below(ax, [box, dot, *bins], columns=2).set_bbox_to_anchor((0.0, -0.09))
    return ax


def _round_away(value: float) -> int:
    """The nearest whole number, a half away from zero."""
    return int(math.copysign(math.floor(abs(value) + 0.5), value))


def _bounds(first: int, last: int, bins: int, cells: int) -> list[tuple[int, int]]:
    """Where each bin of the cells `first` .. `last`, both included, begins and ends (exclusive), clipped to the map."""
    length = max(last - first + 1, 1)
    starts = [first + i * length // bins for i in range(bins)]
    stops = [first - -(i + 1) * length // bins for i in range(bins)]
    return [(min(max(start, 0), cells), min(max(stop, 0), cells)) for start, stop in zip(starts, stops, strict=True)]


def _draw_bin(ax: Axes, bounds: tuple[int, int, int, int], turn: int) -> None:
    left, top, right, bottom = bounds
    inset = _INSETS[turn]
    ax.add_patch(Rectangle((left - 0.5 + inset, top - 0.5 + inset), right - left - 2 * inset, bottom - top - 2 * inset,
                           fill=False, edgecolor=_EDGES[turn], linewidth=style.LINE_WIDTH, joinstyle="miter",
                           path_effects=style.outline(style.LINE_WIDTH), zorder=3))


def _dot(ax: Axes, cells: np.ndarray, bounds: tuple[int, int, int, int]) -> None:
    """Draws a dot on the first of a bin's largest cells."""
    left, top, right, bottom = bounds
    row, column = np.divmod(cells[top:bottom, left:right].argmax(), right - left)
    ax.plot(left + column, top + row, marker="o", markersize=5, color="white", markeredgecolor="black",
            markeredgewidth=0.8, zorder=5)


def _cell_edges(ax: Axes, size: tuple[int, ...]) -> None:
    height, width = size
    down = [[(x - 0.5, -0.5), (x - 0.5, height - 0.5)] for x in range(1, width)]
    across = [[(-0.5, y - 0.5), (width - 0.5, y - 0.5)] for y in range(1, height)]
    ax.add_collection(LineCollection(down + across, colors="white", linewidths=0.4, zorder=2), autolim=False)


def _look_at(ax: Axes, one: np.ndarray, other: np.ndarray, margin: float) -> None:
    """Sets the view to a square around two boxes."""
    x1, y1 = np.minimum(one[:2], other[:2])
    x2, y2 = np.maximum(one[2:], other[2:])
    x, y, half = (x1 + x2) / 2, (y1 + y2) / 2, max(x2 - x1, y2 - y1) / 2 + margin
    ax.set(xlim=(x - half, x + half), ylim=(y + half, y - half))

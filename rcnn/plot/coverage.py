"""How well anchors cover the objects of a data set. Each function is `(ax, arrays..., options) -> ax`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from rcnn.plot import style
from rcnn.plot.style import as_array, as_boxes

BINS = 20  # of a histogram over [0, 1]
_ROUNDING = 1e-9  # an IoU below a threshold by no more than this counts as equal to it
_MANY = 3000  # dots; so many are drawn smaller
_MARK = 45  # square points, of the mark of an anchor
_HEADROOM, _LINE_ROOM = 0.08, 0.09  # above the bars, of their height: in any case, and per line of the legend


def coverage(
    ax: Axes, sizes: np.ndarray, ratios: np.ndarray, best_iou: np.ndarray, anchors: np.ndarray | None = None
) -> Axes:
    """Each object at its size and ratio, both logarithmic, coloured by the best IoU that an anchor has with it.

    `sizes` (G,) are square roots of areas in pixels of the batch, `ratios` (G,) heights / widths, `best_iou` (G,) in
    [0, 1]: what `rcnn.anchors.coverage` finds. The worst covered are drawn last. `anchors` (A, 4), cell anchors of all
    levels, are marked by squares.
    """
    x = _positive("sizes", sizes, None)
    y, iou = _positive("ratios", ratios, len(x)), _fractions("best_iou", best_iou, len(x))
    marks = _shapes(np.zeros((0, 4)) if anchors is None else as_boxes("anchors", anchors))  # (A, 2)
    style.graph(ax, "size (pixels of the batch)", "height / width")
    if len(x) + len(marks) == 0:
        return style.note(ax, "no objects")
    order = np.argsort(-iou, kind="stable")
    dots = ax.scatter(x[order], y[order], c=iou[order], s=5 if len(x) > _MANY else 12, cmap=style.VALUES, vmin=0,
                      vmax=1, linewidths=0, alpha=0.85, zorder=2)  # fmt: skip
    style.color_bar(ax, dots, "best IoU with an anchor")
    _powers_of_two(ax, np.append(x, marks[:, 0]), np.append(y, marks[:, 1]))
    if anchors is not None:
        squares = ax.scatter(marks[:, 0], marks[:, 1], s=_MARK, marker="s", facecolors="none", clip_on=False,
                             edgecolors=style.VERMILION, linewidths=style.LINE_WIDTH, zorder=3,
                             path_effects=style.outline(style.LINE_WIDTH, "white"),
                             label=f"anchors: {len(marks)}")  # fmt: skip
        style.legend_inside(ax, [squares], "upper right")
    return ax


def coverage_histogram(ax: Axes, best_iou: np.ndarray, thresholds: Sequence[float] = (0.5, 0.7)) -> Axes:
    """How many objects have which `best_iou` (G,) with an anchor, and the share that reaches each of `thresholds`."""
    values = _fractions("best_iou", best_iou, None)
    limits = _fractions("thresholds", thresholds, None)
    style.graph(ax, "best IoU with an anchor", "objects")
    ax.set_xlim(0, 1)
    if len(values) == 0:
        return style.note(ax, "no objects")
    counts, edges = np.histogram(values, np.arange(BINS + 1) / BINS)
    ax.bar(edges[:-1], counts, width=1 / BINS, align="edge", color=style.SKY, edgecolor="white", linewidth=0.6)
    ax.grid(False, axis="x")
    colors = (style.BLUE, style.VERMILION, style.GREEN, style.PURPLE)
    handles = [ax.axvline(limit, color=colors[i % len(colors)], linewidth=style.LINE_WIDTH, linestyle="--",
                          label=f"{limit:g} or more: {np.mean(values >= limit - _ROUNDING):.1%} of {len(values):,}")
               for i, limit in enumerate(limits.tolist())]  # fmt: skip
    ax.set_ylim(0, counts.max() * (1 + _HEADROOM + _LINE_ROOM * len(handles)))
    if handles:
        style.legend_inside(ax, handles, "upper left")
    return ax


def _shapes(anchors: np.ndarray) -> np.ndarray:
    """(size, ratio) of each anchor (A, 4), (A, 2); ValueError for a side that is not positive."""
    width, height = anchors[:, 2] - anchors[:, 0], anchors[:, 3] - anchors[:, 1]
    flat = np.flatnonzero((width <= 0) | (height <= 0))
    if flat.size:
        raise ValueError(f"anchors[{flat[0]}] is {anchors[flat[0]].tolist()}; x2 > x1 and y2 > y1 are needed")
    return np.stack([np.sqrt(width * height), height / width], axis=1)


def _powers_of_two(ax: Axes, x: np.ndarray, y: np.ndarray) -> None:
    """Makes both axes logarithmic, from a power of two below what they hold to one above it."""
    ax.set(xscale="log", yscale="log")
    for axis, limit, values in ((ax.xaxis, ax.set_xlim, x), (ax.yaxis, ax.set_ylim, y)):
        low, high = np.floor(np.log2(values.min())), np.ceil(np.log2(values.max()))
        limit(2.0 ** (low if low < high else low - 1), 2.0 ** (high if low < high else high + 1))
        style.powers_of_two(axis)


def _positive(name: str, values: object, length: int | None) -> np.ndarray:
    """`values` as float64 (length,) or a ValueError that names the one that is not above 0 and finite."""
    return _within(name, values, length, np.nextafter(0, 1), np.finfo(np.float64).max, "above 0 and finite")


def _fractions(name: str, values: object, length: int | None) -> np.ndarray:
    """`values` as float64 (length,) or a ValueError that names the one outside [0, 1]."""
    return _within(name, values, length, 0.0, 1.0, "in [0, 1]")


def _within(name: str, values: object, length: int | None, low: float, high: float, allowed: str) -> np.ndarray:
    array = as_array(name, values, (length,)).astype(np.float64)
    wrong = np.flatnonzero(~((array >= low) & (array <= high)))
    if wrong.size:
        raise ValueError(f"{name}[{wrong[0]}] is {array[wrong[0]]:g}; it must be {allowed}")
    return array

"""Pictures of training as it goes on, and of what is wrong with it. Each function is `(ax, arrays..., options) -> ax`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap, to_hex
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from rcnn.plot import style
from rcnn.plot.stages import image
from rcnn.plot.style import as_array, as_boxes

_STRANGE = LinearSegmentedColormap.from_list("strange", ["white", style.ORANGE, style.VERMILION])


# ---------------------------------------------------------------------- proposals

def nearest_proposals(
    ax: Axes, picture: np.ndarray, boxes: np.ndarray, overlaps: np.ndarray, gt_boxes: np.ndarray, top: int = 100,
    scale: bool = True,
) -> Axes:
    """The first `top` of `boxes` (P, 4), pale, and of these the one nearest to each object, coloured by its IoU.

    `overlaps` (P, G) is the IoU of each box with each of `gt_boxes` (G, 4), which are drawn dashed.
    `scale` is False where the colours are explained beside another picture of a row.
    """
    objects = as_boxes("gt_boxes", gt_boxes)
    every = as_boxes("boxes", boxes)
    shared = as_array("overlaps", overlaps, (len(every), len(objects))).astype(float)[:top]
    corners = every[:top]
    image(ax, picture, dimmed=True)
    pale = LineCollection(style.outlines(corners), colors="white", linewidths=0.6, alpha=0.35)
    ax.add_collection(pale, autolim=False)
    for x1, y1, x2, y2 in objects:
        ax.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor="white", linestyle="--",
                               linewidth=style.THIN_LINE, path_effects=style.outline(style.THIN_LINE)))
    found = shared.max(axis=0, initial=0) > 0  # (G,); one that no box touches has no nearest
    nearest = shared.argmax(axis=0)[found] if len(corners) else np.zeros(0, int)
    lines = LineCollection(style.outlines(corners[nearest]), array=shared.max(axis=0, initial=0)[found],
                           cmap=style.VALUES, clim=(0, 1), linewidths=style.LINE_WIDTH, joinstyle="miter", zorder=3,
                           path_effects=style.outline(style.LINE_WIDTH))
    ax.add_collection(lines, autolim=False)
    if scale:
        style.color_bar(ax, lines, "IoU with its object")
    return ax


def settling(ax: Axes, steps: Sequence[int], best_iou: np.ndarray, threshold: float = 0.5) -> Axes:
    """How near the best box comes to each object as training goes on: a pale line for each, the median in black.

    `best_iou` is (S, G), a row for each of the `steps` (S,) at which was looked. These are drawn at equal distances,
    for most happens at the beginning. The dotted line is the IoU from which on an object counts as found.
    """
    values = as_array("best_iou", best_iou, (len(steps), None)).astype(float)  # (S, G)
    at = np.arange(len(steps))
    ax.plot(at, values, color=style.SKY, linewidth=0.8, alpha=0.6, clip_on=False)
    style.graph(ax, "step", "IoU of the best box with an object")
    ax.axhline(threshold, color=style.GREY, linestyle=":", linewidth=style.THIN_LINE)
    handles = [Line2D([], [], color=style.SKY, label=f"each of {values.shape[1]} objects")]
    if values.shape[1]:
        handles += ax.plot(at, np.median(values, axis=1), color=style.INK, linewidth=2, marker="o", markersize=4,
                           clip_on=False, label="median", zorder=3)
    handles.append(Line2D([], [], color=style.GREY, linestyle=":", label=f"IoU {threshold:g}"))
    ax.set(xlim=(0, max(len(steps) - 1, 1)), ylim=(0, 1))
    ax.set_xticks(at, [f"{step:,}" for step in steps])
    style.legend_right(ax, handles)
    return ax


# ---------------------------------------------------------------------- levels

def levels(ax: Axes, values: Mapping[str, float]) -> Axes:
    """A dotted line across `ax` at each of `values`, named at its right end, inside: what a curve is held against."""
    for name, value in values.items():
        ax.axhline(value, color=style.GREY, linestyle=":", linewidth=1.2, zorder=1.5)
        ax.annotate(name, (1, value), (-3, 2), xycoords=("axes fraction", "data"), textcoords="offset points",
                    ha="right", va="bottom", fontsize=style.TEXT_SIZE, color=style.INK)
    return ax


# ---------------------------------------------------------------------- what is wrong

def findings(
    ax: Axes, values: np.ndarray, names: Sequence[str], measures: Sequence[str], reference: Sequence[float],
    tolerance: float = 0.0,
) -> Axes:
    """A table of `values` (N, M): a row for each of `names`, a column for each of `measures`.

    A cell is the darker the more its value differs from the `reference` (M,) of its column, as a share of the larger
    of the two, and white up to a share of `tolerance`; the reference is the first row. A NaN, shown as "none", differs
    from every number.
    """
    sound = as_array("reference", reference, (len(measures),)).astype(float)
    table = np.vstack([sound, as_array("values", values, (len(names), len(measures))).astype(float)])  # (N + 1, M)
    largest = np.maximum(np.maximum(np.abs(table), np.abs(sound)), 1e-9)
    share = np.abs(table - sound) / largest  # (N + 1, M)
    share = np.clip(np.where(np.isnan(share), np.isnan(table) != np.isnan(sound), share), 0, 1)
    strange = np.clip((share - tolerance) / (1 - tolerance), 0, 1)
    ax.imshow(_STRANGE(strange), aspect="auto")
    for row, column in np.ndindex(*table.shape):
        ax.text(column, row, _short(float(table[row, column])), ha="center", va="center", fontsize=style.TEXT_SIZE,
                color=style.contrasting(to_hex(_STRANGE(strange[row, column]))))
    style.ticks(ax)
    ax.set_yticks(range(len(table)), ["sound", *names])
    ax.set_xticks(range(len(measures)), measures)
    ax.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
    ax.axhline(0.5, color=style.GREY, linewidth=1.0)
    for spine in ax.spines.values():
        spine.set(color=style.FAINT, linewidth=0.8)
    return ax


def _short(value: float) -> str:
    """Three digits at most, without an exponent where there is room."""
    if not np.isfinite(value):
        return "none"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"

"""Plots of anchors: their order, how well they cover objects, and how they are matched.

The plots show the indices of anchors, the coverage of objects (as a map, a scatter plot or a histogram), the best
anchor of each object, and the fractions of positive, ignored and negative anchors.

Boxes and anchors are arrays of shape (N, 4) with the columns `x1, y1, x2, y2`, in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from rcnn.plot import style
from rcnn.plot.arguments import checked
from rcnn.plot.overview import boxes
from rcnn.plot.style import Dashes, as_array, as_boxes
from rcnn.plot.tags import Tags

POSITIVE, IGNORED, NEGATIVE = style.SKY, style.ORANGE, "#bdbdbd"  # as in `matched_anchors`
KINDS = (("positive", POSITIVE), ("ignored", IGNORED), ("negative", NEGATIVE))
_MATCH_BINS = 50  # number of bins over [0, 1]; 0.3 and 0.7 are bin edges
_COVERAGE_BINS = 20  # number of bins over [0, 1]
_THRESHOLD_DASHES: tuple[Dashes, ...] = ("--", "-", ":", "-.")
_NEAR = 1e-3  # pixels; anchors with centres this close belong to the same position
_FIRST_COLUMN, _COLUMN_WIDTH = 48, 50  # points; right edge of the first column of counts, and distance of the next ones
_WIDE_ENOUGH = 0.08  # smallest fraction of a bar that has space for a number
_ROUNDING = 1e-9  # tolerance when an IoU is compared with a threshold
_MANY = 3000  # if there are more dots than this, they are drawn smaller
_MARK = 45  # square points; area of the mark of an anchor
# Space above the bars, relative to the highest bar: a fixed part, and a part for each line of the legend.
_HEADROOM, _LINE_ROOM = 0.08, 0.09


@checked
def anchor_order(ax: Axes, anchors: np.ndarray, color_of: np.ndarray | None = None) -> Axes:
    """Draw the anchors of several positions, and write the indices of the anchors at each centre.

    Parameters
    ----------
    ax : Axes
        Axes to draw on.
    anchors : (A, 4) array
        The A anchors, in pixels.
    color_of : (A,) int array, optional
        Group of each anchor, such as its index within the cell. The anchors of a group have the same colour.

    Returns
    -------
    Axes
        The axes `ax`.
    """
    corners = as_boxes("anchors", anchors)
    kinds = np.ones(len(corners), int) if color_of is None else as_array("color_of", color_of, (len(corners),)) + 1
    for kind in np.unique(kinds):
        boxes(ax, corners[kinds == kind], color=style.label_color(int(kind)))
    centres = (corners[:, :2] + corners[:, 2:]) / 2  # (A, 2)
    positions, members = np.unique(np.rint(centres / _NEAR), axis=0, return_inverse=True)
    for position in range(len(positions)):
        own = np.flatnonzero(members.ravel() == position)
        x, y = centres[own[0]]
        ax.text(
            x,
            y,
            _spans(own),
            ha="center",
            va="center",
            fontsize=style.TITLE_SIZE,
            color=style.INK,
            zorder=6,
            bbox={"boxstyle": "round,pad=0.2", "facecolor": "white", "edgecolor": "none", "alpha": 0.85},
        )
    style.graph(ax, "x, pixels", "y, pixels")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(7))
    return ax


@checked
def coverage_map(
    ax: Axes,
    x: np.ndarray,
    y: np.ndarray,
    iou: np.ndarray,
    xlabel: str,
    ylabel: str,
    thresholds: Sequence[float] = (0.5, 0.7),
    log: bool = False,
) -> Axes:
    """Draw the best IoU as a function of two variables, with a contour line at each threshold.

    The colour of a point shows the best IoU with an anchor.

    Parameters
    ----------
    ax : Axes
        Axes to draw on.
    x : (X,) array
        Two or more values along the x axis, ascending.
    y : (Y,) array
        Two or more values along the y axis, ascending.
    iou : (Y, X) array
        Best IoU with an anchor for each pair of a y value (row) and an x value (column), in [0, 1].
    xlabel, ylabel : str
        Axis labels.
    thresholds : sequence of float, optional
        IoU values at which contour lines are drawn.
    log : bool, optional
        If True, both axes are logarithmic, with ticks at powers of two. If False, y points down, as in an image, and
        both axes have the same scale.

    Returns
    -------
    Axes
        The axes `ax`.

    Raises
    ------
    ValueError
        If a shape is wrong, if `x` or `y` is not ascending, or if an IoU is outside [0, 1].
    """
    columns, rows = _ascending("x", x), _ascending("y", y)
    values = as_array("iou", iou, (len(rows), len(columns))).astype(float)
    if not (values.min() >= 0 and values.max() <= 1):
        raise ValueError(f"iou must be in [0, 1], got values from {values.min():g} to {values.max():g}")
    mesh = ax.pcolormesh(columns, rows, values, cmap=style.VALUES, vmin=0, vmax=1, shading="gouraud")
    handles = []
    for threshold, dashes in zip(thresholds, _THRESHOLD_DASHES, strict=False):
        if values.min() < threshold <= values.max():
            ax.contour(
                columns, rows, values, [threshold], colors="white", linestyles=dashes, linewidths=style.LINE_WIDTH
            )
            handles.append(
                Line2D(
                    [],
                    [],
                    color="white",
                    linestyle=dashes,
                    linewidth=style.LINE_WIDTH,
                    path_effects=style.outline(style.LINE_WIDTH),
                    label=f"IoU {threshold:g}",
                )
            )
    style.graph(ax, xlabel, ylabel)
    ax.grid(False)
    ax.set(xlim=(columns[0], columns[-1]), ylim=(rows[0], rows[-1]))
    if log:
        _logarithmic(ax)
    else:
        ax.set(aspect="equal", ylim=(rows[-1], rows[0]))
    style.color_bar(ax, mesh, "best IoU with an anchor")
    if handles:
        style.legend_inside(ax, handles, "upper right", length=2.6).set_zorder(5)
    return ax


@checked
def coverage(
    ax: Axes, sizes: np.ndarray, ratios: np.ndarray, best_iou: np.ndarray, anchors: np.ndarray | None = None
) -> Axes:
    """Draw each object as a dot at its size and aspect ratio, coloured by its best IoU with an anchor.

    Both axes are logarithmic. Objects with a low IoU are drawn on top. `rcnn.evaluate.coverage` computes `sizes`,
    `ratios` and `best_iou`.

    Parameters
    ----------
    ax : Axes
        Axes to draw on.
    sizes : (G,) array
        Square root of the area of each of G objects, in pixels of the resized image.
    ratios : (G,) array
        Aspect ratio of each object, height / width.
    best_iou : (G,) array
        Best IoU of each object with an anchor, in [0, 1].
    anchors : (A, 4) array, optional
        The anchors of one cell of each level, A in total, in pixels. A square marks the size and aspect ratio of each
        anchor.

    Returns
    -------
    Axes
        The axes `ax`.

    Raises
    ------
    ValueError
        If a size or ratio is not above 0, if an IoU is outside [0, 1], or if an anchor has no area.
    """
    x = _positive("sizes", sizes, None)
    y, iou = _positive("ratios", ratios, len(x)), _fractions("best_iou", best_iou, len(x))
    marks = _shapes(np.zeros((0, 4)) if anchors is None else as_boxes("anchors", anchors))  # (A, 2)
    style.graph(ax, "size (pixels of the resized image)", "height / width")
    if len(x) + len(marks) == 0:
        return style.note(ax, "no objects")
    order = np.argsort(-iou, kind="stable")
    dots = ax.scatter(
        x[order],
        y[order],
        c=iou[order],
        s=5 if len(x) > _MANY else 12,
        cmap=style.VALUES,
        vmin=0,
        vmax=1,
        linewidths=0,
        alpha=0.85,
        zorder=2,
    )
    style.color_bar(ax, dots, "best IoU with an anchor")
    _logarithmic_around(ax, np.append(x, marks[:, 0]), np.append(y, marks[:, 1]))
    if anchors is not None:
        squares = ax.scatter(
            marks[:, 0],
            marks[:, 1],
            s=_MARK,
            marker="s",
            facecolors="none",
            clip_on=False,
            edgecolors=style.VERMILION,
            linewidths=style.LINE_WIDTH,
            zorder=3,
            path_effects=style.outline(style.LINE_WIDTH, "white"),
            label=f"anchors: {len(marks)}",
        )
        style.legend_inside(ax, [squares], "upper right")
    return ax


@checked
def coverage_histogram(ax: Axes, best_iou: np.ndarray, thresholds: Sequence[float] = (0.5, 0.7)) -> Axes:
    """Draw a histogram of the best IoU that each object has with an anchor.

    For each threshold, the legend states the fraction of objects whose best IoU is at least this threshold.

    Parameters
    ----------
    ax : Axes
        Axes to draw on.
    best_iou : (G,) array
        Best IoU of each of G objects with an anchor, in [0, 1].
    thresholds : sequence of float, optional
        IoU thresholds in [0, 1].

    Returns
    -------
    Axes
        The axes `ax`.

    Raises
    ------
    ValueError
        If a value is outside [0, 1].
    """
    values = _fractions("best_iou", best_iou, None)
    limits = _fractions("thresholds", thresholds, None)
    style.graph(ax, "best IoU with an anchor", "objects")
    ax.set_xlim(0, 1)
    if len(values) == 0:
        return style.note(ax, "no objects")
    counts, edges = np.histogram(values, np.arange(_COVERAGE_BINS + 1) / _COVERAGE_BINS)
    ax.bar(
        edges[:-1], counts, width=1 / _COVERAGE_BINS, align="edge", color=style.SKY, edgecolor="white", linewidth=0.6
    )
    ax.grid(False, axis="x")
    colors = (style.BLUE, style.VERMILION, style.GREEN, style.PURPLE)
    handles = [
        ax.axvline(
            limit,
            color=colors[i % len(colors)],
            linewidth=style.LINE_WIDTH,
            linestyle="--",
            label=f"{limit:g} or more: {np.mean(values >= limit - _ROUNDING):.1%} of {len(values):,}",
        )
        for i, limit in enumerate(limits.tolist())
    ]
    ax.set_ylim(0, counts.max() * (1 + _HEADROOM + _LINE_ROOM * len(handles)))
    if handles:
        style.legend_inside(ax, handles, "upper left")
    return ax


@checked
def best_anchors(ax: Axes, image: np.ndarray, gt_boxes: np.ndarray, anchors: np.ndarray, iou: np.ndarray) -> Axes:
    """Draw each object and its best anchor.

    Objects are drawn as dashed boxes. The colour and the tag of each anchor show its IoU with its object. The part of
    an anchor that lies outside the image is not drawn.

    Parameters
    ----------
    ax : Axes
        Axes to draw on.
    image : (H, W, 3) array
        Image, uint8 or float in [0, 1].
    gt_boxes : (G, 4) array
        Boxes of G objects, in pixels.
    anchors : (G, 4) array
        Best anchor of each object, in pixels.
    iou : (G,) array
        IoU of each object with its best anchor.

    Returns
    -------
    Axes
        The axes `ax`.
    """
    objects = as_boxes("gt_boxes", gt_boxes)
    corners = as_array("anchors", as_boxes("anchors", anchors), (len(objects), 4))
    values = as_array("iou", iou, (len(objects),)).astype(float)
    style.image(ax, image, dimmed=True)
    boxes(ax, objects, color="white", linestyle="--")
    colors = [to_hex(colormaps[style.VALUES](value)) for value in values]
    for corner, color in zip(corners, colors, strict=True):
        boxes(ax, corner[None], color=color)
    if len(objects):
        ax.add_artist(Tags(corners, [f"{value:.2f}" for value in values], colors))
    style.legend_below(
        ax,
        [
            Line2D(
                [],
                [],
                color="white",
                linestyle="--",
                linewidth=style.THIN_LINE,
                path_effects=style.outline(style.THIN_LINE),
                label=f"objects: {len(objects)}",
            ),
            Line2D(
                [], [], color=colormaps[style.VALUES](0.6), linewidth=style.LINE_WIDTH, label="best anchor and its IoU"
            ),
        ],
        columns=2,
    )
    return ax


@checked
def match_bands(ax: Axes, best_iou: np.ndarray, high: float, low: float) -> Axes:
    """Draw a histogram of the best IoU that each anchor has with an object, coloured by kind of anchor.

    An anchor is negative if its best IoU is below `low`, positive if it is at least `high`, and otherwise ignored. The
    y axis, which shows counts, is logarithmic. The legend states the number of anchors of each kind.

    Parameters
    ----------
    ax : Axes
        Axes to draw on.
    best_iou : (A,) array
        Best IoU of each of A anchors with an object, in [0, 1].
    high, low : float
        Thresholds for matching, with 0 <= low <= high <= 1.

    Returns
    -------
    Axes
        The axes `ax`.

    Raises
    ------
    ValueError
        If the thresholds are out of order or a value is outside [0, 1].
    """
    values = as_array("best_iou", best_iou, (None,)).astype(float)
    if not 0 <= low <= high <= 1:
        raise ValueError(f"low and high must satisfy 0 <= low <= high <= 1, got low={low:g} and high={high:g}")
    if values.size and not (values.min() >= 0 and values.max() <= 1):
        raise ValueError(f"best_iou must be in [0, 1], got values from {values.min():g} to {values.max():g}")
    style.graph(ax, "best IoU with an object", "anchors")
    ax.set_xlim(0, 1)
    if len(values) == 0:
        return style.note(ax, "no anchors")
    edges = np.unique(np.concatenate([np.arange(_MATCH_BINS + 1) / _MATCH_BINS, [low, high]]))
    bands = {"negative": values < low, "ignored": (values >= low) & (values < high), "positive": values >= high}
    colors = dict(KINDS)
    for name, members in bands.items():
        ax.hist(values[members], edges.tolist(), color=colors[name], edgecolor="white", linewidth=0.5)
    ax.set_yscale("log")
    ax.set_ylim(0.7, max(2.0, 3.0 * np.histogram(values, edges)[0].max()))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())
    for limit in (low, high):
        ax.axvline(limit, color=style.INK, linewidth=style.THIN_LINE, linestyle="--")
    handles = [Patch(color=colors[name], label=f"{name}: {members.sum():,}") for name, members in bands.items()]
    style.legend_inside(ax, handles, "upper right")
    return ax


@checked
def match_shares(ax: Axes, counts: np.ndarray, names: Sequence[str]) -> Axes:
    """Draw bars that show the fractions of positive, ignored and negative anchors.

    There is one bar for each row of `counts`. The bar has three parts, one for each kind of anchor. The percentage is
    written inside each part that is wide enough. The three counts are written to the right of the bar, in three columns
    with the names of the kinds.

    Parameters
    ----------
    ax : Axes
        Axes to draw on.
    counts : (R, 3) array
        Numbers of positive, ignored and negative anchors in each of R rows.
    names : sequence of str
        Name of each of the R rows.

    Returns
    -------
    Axes
        The axes `ax`.

    Raises
    ------
    ValueError
        If `names` and `counts` differ in length, if a count is negative, or if all counts of a row are 0.
    """
    numbers = as_array("counts", counts, (None, 3)).astype(float)
    if len(names) != len(numbers):
        raise ValueError(f"names must have one entry per row of counts ({len(numbers)}), got {len(names)}")
    empty = np.flatnonzero(~((numbers >= 0).all(axis=1) & (numbers.sum(axis=1) > 0)))
    if empty.size:
        raise ValueError(
            f"counts[{empty[0]}] must not be negative, and their sum must be above 0, got {numbers[empty[0]].tolist()}"
        )
    shares = numbers / numbers.sum(axis=1, keepdims=True)  # (R, 3)
    starts = np.cumsum(shares, axis=1) - shares
    style.graph(ax, "fraction of the anchors", "")
    for kind, (_, color) in enumerate(KINDS):
        ax.barh(np.arange(len(numbers)), shares[:, kind], left=starts[:, kind], height=0.6, color=color)
    for row, (start, share) in enumerate(zip(starts, shares, strict=True)):
        for left, part in zip(start, share, strict=True):
            if part >= _WIDE_ENOUGH:
                ax.text(left + part / 2, row, f"{part:.1%}", ha="center", va="center", fontsize=style.TEXT_SIZE)
        for kind, number in enumerate(numbers[row]):
            _write_beside(ax, kind, row, _count_text(number))
    ax.set(xlim=(0, 1), ylim=(len(numbers) - 0.5, -0.5))
    ax.set_yticks(np.arange(len(numbers)), style.literals(names), fontsize=style.TEXT_SIZE)
    ax.grid(False)
    for kind, (name, _) in enumerate(KINDS):
        _write_beside(ax, kind, -0.5, name, bold=True)
    ax.legend(
        handles=[Patch(color=color, label=name) for name, color in KINDS],
        loc="lower left",
        ncols=3,
        bbox_to_anchor=(0, 1),
        frameon=False,
        fontsize=style.TEXT_SIZE,
        labelcolor=style.INK,
    )
    return ax


def _write_beside(ax: Axes, column: int, y: float, text: str, bold: bool = False) -> None:
    """Write text in one of the columns to the right of the axes, right-aligned."""
    ax.annotate(
        text,
        (1, y),
        (_FIRST_COLUMN + _COLUMN_WIDTH * column, 5 if bold else 0),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        ha="right",
        va="bottom" if bold else "center",
        fontsize=style.TEXT_SIZE,
        fontweight="bold" if bold else "normal",
        color=style.INK,
        annotation_clip=False,
    )


def _count_text(number: float) -> str:
    """Return a count or a mean of counts as text, such as "1,415". A mean below 100 has one decimal, such as "7.9"."""
    return f"{number:.1f}" if number < 100 and number != round(number) else f"{number:,.0f}"


def _spans(indices: np.ndarray) -> str:
    """Return ascending indices as a short text: "4", "4-7", "0, 6, 12"."""
    if len(indices) == 1:
        return str(indices[0])
    if (np.diff(indices) == 1).all():
        return f"{indices[0]}\u2013{indices[-1]}"
    return ", ".join(str(index) for index in indices)


def _ascending(name: str, values: object) -> np.ndarray:
    """Return `values` as a 1-D float64 array. Raise ValueError unless it has two or more ascending values."""
    array = as_array(name, values, (None,)).astype(np.float64)
    if len(array) < 2 or not (np.diff(array) > 0).all():
        raise ValueError(f"{name} must have two or more ascending values, got {np.array2string(array, threshold=6)}")
    return array


def _logarithmic(ax: Axes) -> None:
    """Make both axes of `ax` logarithmic with ticks at powers of two."""
    ax.set(xscale="log", yscale="log")
    for axis in (ax.xaxis, ax.yaxis):
        style.powers_of_two(axis)


def _shapes(anchors: np.ndarray) -> np.ndarray:
    """Return the size and the aspect ratio (A, 2) of each of A anchors. Raise ValueError if a side is not above 0."""
    width, height = anchors[:, 2] - anchors[:, 0], anchors[:, 3] - anchors[:, 1]
    flat = np.flatnonzero((width <= 0) | (height <= 0))
    if flat.size:
        raise ValueError(f"anchors[{flat[0]}] must have x2 > x1 and y2 > y1, got {anchors[flat[0]].tolist()}")
    return np.stack([np.sqrt(width * height), height / width], axis=1)


def _logarithmic_around(ax: Axes, x: np.ndarray, y: np.ndarray) -> None:
    """Make both axes logarithmic, with limits at powers of two around the values."""
    _logarithmic(ax)
    for limit, values in ((ax.set_xlim, x), (ax.set_ylim, y)):
        low, high = np.floor(np.log2(values.min())), np.ceil(np.log2(values.max()))
        limit(2.0 ** (low if low < high else low - 1), 2.0 ** (high if low < high else high + 1))


def _positive(name: str, values: object, length: int | None) -> np.ndarray:
    """Return `values` as a float64 array (length,). Raise ValueError unless all are finite and above 0."""
    return _within(name, values, length, np.nextafter(0, 1), np.finfo(np.float64).max, "above 0 and finite")


def _fractions(name: str, values: object, length: int | None) -> np.ndarray:
    """Return `values` as a float64 array (length,). Raise ValueError unless all are in [0, 1]."""
    return _within(name, values, length, 0.0, 1.0, "in [0, 1]")


def _within(name: str, values: object, length: int | None, low: float, high: float, allowed: str) -> np.ndarray:
    array = as_array(name, values, (length,)).astype(np.float64)
    wrong = np.flatnonzero(~((array >= low) & (array <= high)))
    if wrong.size:
        raise ValueError(f"{name}[{wrong[0]}] must be {allowed}, got {array[wrong[0]]:g}")
    return array

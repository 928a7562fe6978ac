"""Plots of box geometry: coordinates, IoU and deltas.

The plots show the coordinates of a box in every format, the pixels that a box covers, boxes on enlarged pixels, two
overlapping boxes, IoU as a function of two variables, histograms of deltas, histograms of how well boxes fit their
images, and arrows from boxes to their objects.

Boxes are given as `x1, y1, x2, y2` in pixels, and y points down. The pixel in row 0, column 0 covers 0 to 1 in x and in
y.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.transforms import ScaledTranslation

from rcnn.plot import style
from rcnn.plot.arguments import checked
from rcnn.plot.style import LINE_WIDTH, TEXT_SIZE, THIN_LINE, Dashes, as_array, as_boxes

COVERED = "#bfe0f2"
_GRID = "#b8b8b8"  # colour of lines between pixels
LEAVE_ROOM = 0.6  # pixels; smallest margin around boxes that are drawn without an image
DELTA_NAMES = ("dx", "dy", "dw", "dh")
# dx and dy are blue, dw and dh are red. The second line of each pair is dashed, so both are visible if they coincide.
DELTA_LOOK: tuple[tuple[str, Dashes], ...] = (
    (style.BLUE, "-"),
    (style.SKY, "--"),
    (style.VERMILION, "-"),
    (style.ORANGE, "--"),
)
_DELTA_BINS = 50
_FIT_BINS = 10
_MOST_TICKS = 40  # largest number of ticks along a side
_MOST_LINES = 24  # largest number of lines between pixels in a plot of two boxes
_LABEL_ROOM = 0.06  # smallest distance of a contour's label from the border of the axes, as a fraction of their sides
_THINNEST, _THICKER = 2.4, 2.0  # points: width of the last line, and how much thicker each earlier line is
_BOX_DASHES: tuple[Dashes, ...] = ("-", "--", ":", "-.")


@checked
def box_formats(ax: Axes, box: np.ndarray, size: tuple[int, int]) -> Axes:
    """Draw one box on a pixel grid, with its coordinates in every box format.

    Parameters
    ----------
    ax : Axes
        Axes to draw on.
    box : (4,) array
        Box in pixels.
    size : (int, int)
        Height and width of the grid, in pixels.

    Returns
    -------
    Axes
        The axes `ax`.
    """
    x1, y1, x2, y2 = as_boxes("box", [box])[0]
    _pixel_axes(ax, size)
    ax.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, facecolor=COVERED, edgecolor=style.BLUE, linewidth=2, zorder=2))
    middle = (x1 + x2) / 2, (y1 + y2) / 2
    for point, name, shift, align in (
        ((x1, y1), "x1, y1", (-5, 6), "right"),
        ((x2, y2), "x2, y2", (5, -11), "left"),
        (middle, "cx, cy", (6, 0), "left"),
    ):
        ax.plot(*point, "o", color=style.VERMILION, markersize=5, zorder=4)
        ax.annotate(
            f"{name} = {point[0]:g}, {point[1]:g}",
            point,
            shift,
            textcoords="offset points",
            ha=align,
            va="center",
            fontsize=TEXT_SIZE + 1,
            color=style.INK,
            zorder=5,
        )
    _measure(ax, (x1, y2 + 0.45), (x2, y2 + 0.45), f"w = {x2 - x1:g}", (0, -4), ("center", "top"))
    _measure(ax, (x2 + 0.45, y1), (x2 + 0.45, y2), f"h = {y2 - y1:g}", (5, 0), ("left", "center"))
    return ax


@checked
def pixel_grid(ax: Axes, covered: np.ndarray, box: np.ndarray | None = None) -> Axes:
    """Draw a pixel grid in which covered pixels are shaded and labelled with their indices.

    The ticks are at the edges of the pixels.

    Parameters
    ----------
    ax : Axes
        Axes to draw on.
    covered : (H, W) bool array
        Mask of the covered pixels.
    box : (4,) array, optional
        Box to draw over the grid, in pixels.

    Returns
    -------
    Axes
        The axes `ax`.
    """
    mask = as_array("covered", covered, (None, None)).astype(bool)
    _pixel_axes(ax, mask.shape)
    for row, column in zip(*np.nonzero(mask), strict=True):
        ax.add_patch(Rectangle((column, row), 1, 1, facecolor=COVERED, edgecolor=_GRID, linewidth=0.8, zorder=1))
        ax.text(
            column + 0.5,
            row + 0.5,
            f"[{row}, {column}]",
            ha="center",
            va="center",
            fontsize=TEXT_SIZE,
            color=style.INK,
            zorder=4,
        )
    if box is not None:
        x1, y1, x2, y2 = as_boxes("box", [box])[0]
        ax.add_patch(
            Rectangle(
                (x1, y1),
                x2 - x1,
                y2 - y1,
                fill=False,
                edgecolor=style.VERMILION,
                linewidth=2,
                joinstyle="miter",
                zorder=3,
            )
        )
    return ax


@checked
def pixel_boxes(
    ax: Axes, image: np.ndarray, boxes: np.ndarray, names: Sequence[str], colors: Sequence[str] | None = None
) -> Axes:
    """Draw boxes on a small image whose pixel edges are visible.

    The pixel in row r, column c fills the square from x = c, y = r to x = c + 1, y = r + 1. Each box has a thinner line
    than the box before it, so edges at the same coordinate remain visible.

    Parameters
    ----------
    ax : Axes
        Axes to draw on.
    image : (H, W, 3) array
        Image, uint8 or float in [0, 1].
    boxes : (N, 4) array
        N boxes, in pixels.
    names : sequence of str
        Name of each of the N boxes in the legend.
    colors : sequence of str, optional
        Colour of each of the N boxes.

    Returns
    -------
    Axes
        The axes `ax`.

    Raises
    ------
    ValueError
        If `names` and `boxes` differ in length.
    """
    corners = as_boxes("boxes", boxes)
    if len(names) != len(corners):
        raise ValueError(f"names must have one entry per box ({len(corners)}), got {len(names)}")
    style.image(ax, image)
    height, width = np.asarray(image).shape[:2]
    step = -(-max(width, height) // _MOST_TICKS)
    for count, axis, lines in ((width, ax.xaxis, ax.axvline), (height, ax.yaxis, ax.axhline)):
        axis.set_ticks(range(0, count + 1, step))
        for edge in range(count + 1):
            lines(edge, color=style.GREY, linewidth=0.4, zorder=1)
    style.ticks(ax)
    style.name_pixels(ax)
    shades = colors or [style.PALETTE[i % len(style.PALETTE)] for i in range(len(corners))]
    handles = []
    for i, (x1, y1, x2, y2) in enumerate(corners):
        (line,) = ax.plot(
            [x1, x2, x2, x1, x1],
            [y1, y1, y2, y2, y1],
            color=shades[i],
            label=names[i],
            zorder=3,
            linewidth=_THINNEST + _THICKER * (len(corners) - 1 - i),
            linestyle=_BOX_DASHES[i % len(_BOX_DASHES)],
            clip_on=False,
            solid_joinstyle="miter",
        )
        handles.append(line)
    if handles:
        style.legend_right(ax, handles)
    return ax


@checked
def overlap(
    ax: Axes,
    box1: np.ndarray,
    box2: np.ndarray,
    names: tuple[str, str] = ("A", "B"),
    limits: Sequence[float] | None = None,
) -> Axes:
    """Draw two boxes, shade their intersection, and list the areas from which the IoU is computed.

    The legend lists the areas of both boxes, the intersection and the union, in square pixels.

    Parameters
    ----------
    ax : Axes
        Axes to draw on.
    box1, box2 : (4,) array
        Boxes in pixels.
    names : (str, str), optional
        Names of the boxes in the legend.
    limits : sequence of four floats, optional
        Limits of the axes, `x1, y1, x2, y2`, with x2 > x1 and y2 > y1. By default, the limits are chosen so that both
        boxes are visible. If the axes already show an image, its limits are kept.

    Returns
    -------
    Axes
        The axes `ax`.

    Raises
    ------
    ValueError
        If `names` does not have two entries, or if a box or `limits` is invalid.
    """
    first, second = as_boxes("box1", [box1])[0], as_boxes("box2", [box2])[0]
    if len(names) != 2:
        raise ValueError(f"names must have two entries, got {len(names)}")
    if limits is not None:
        x1, y1, x2, y2 = as_boxes("limits", [limits])[0]
        if x1 >= x2 or y1 >= y2:
            raise ValueError(f"limits must have x2 > x1 and y2 > y1, got {[x1, y1, x2, y2]}")
    on_image = bool(ax.images)
    shared = np.concatenate([np.maximum(first[:2], second[:2]), np.minimum(first[2:], second[2:])])
    meet = bool((shared[2:] > shared[:2]).all())
    for corner, color, dashes in ((first, style.BLUE, "-"), (second, style.VERMILION, "--")):
        _filled(ax, corner, color, 0.0 if on_image else 0.16)
        ax.add_patch(
            _box_patch(
                corner,
                fill=False,
                edgecolor=color,
                linewidth=2,
                linestyle=dashes,
                zorder=3,
                path_effects=style.outline(2, "white"),
            )
        )
    if meet:
        _filled(ax, shared, style.GREEN, 0.5)
    if not on_image:
        seen = limits if limits is not None else _around(np.stack([first, second]))
        style.frame(ax).set(xlim=(seen[0], seen[2]), ylim=(seen[3], seen[1]))
        style.whole_number_ticks(ax)
        style.name_pixels(ax)
        _draw_pixel_lines(ax, seen)
        for (x1, y1, _, _), name, color in ((first, names[0], style.BLUE), (second, names[1], style.VERMILION)):
            ax.annotate(
                style.literal(name),
                (x1, y1),
                (4, -4),
                textcoords="offset points",
                ha="left",
                va="top",
                fontsize=TEXT_SIZE + 1,
                fontweight="bold",
                color=color,
                zorder=4,
                annotation_clip=True,
            )
    inside = _size(shared) if meet else 0.0
    legend = style.legend_below(
        ax,
        [
            Line2D([], [], color=style.BLUE, linewidth=2, label=_in_words(names[0], _size(first))),
            Line2D(
                [], [], color=style.VERMILION, linewidth=2, linestyle="--", label=_in_words(names[1], _size(second))
            ),
            Patch(facecolor=style.GREEN, alpha=0.5, label=_in_words("overlap", inside)),
            Patch(facecolor="none", label=_in_words("union", _size(first) + _size(second) - inside)),
        ],
        columns=2,
    )
    below = 4 if on_image else 32  # points; without an image, the axis has ticks and a label
    scale = ax.figure.dpi_scale_trans
    legend.set_bbox_to_anchor((0.0, 0.0), ax.transAxes + ScaledTranslation(0, -below / 72, scale))
    return ax


@checked
def iou_surface(
    ax: Axes,
    iou: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    xlabel: str,
    ylabel: str,
    levels: Sequence[float] = (0.3, 0.5, 0.7),
    points: np.ndarray | None = None,
) -> Axes:
    """Draw IoU as a function of two variables, with contour lines.

    The colour of a point shows the IoU.

    Parameters
    ----------
    ax : Axes
        Axes to draw on.
    iou : (Y, X) array
        IoU for each pair of a y value (row) and an x value (column), in [0, 1].
    x : (X,) array
        Two or more values along the x axis, ascending.
    y : (Y,) array
        Two or more values along the y axis, ascending.
    xlabel, ylabel : str
        Axis labels.
    levels : sequence of float, optional
        IoU values at which contour lines are drawn.
    points : (K, 2) array, optional
        K points (x, y) to draw as dots.

    Returns
    -------
    Axes
        The axes `ax`.

    Raises
    ------
    ValueError
        If a shape is wrong, if `x` or `y` is not ascending, or if an IoU is outside [0, 1].
    """
    across, up = as_array("x", x, (None,)).astype(float), as_array("y", y, (None,)).astype(float)
    for name, positions in (("x", across), ("y", up)):
        if len(positions) < 2 or not (np.diff(positions) > 0).all():
            raise ValueError(
                f"{name} must have two or more ascending values, got {np.array2string(positions, threshold=6)}"
            )
    values = as_array("iou", iou, (len(up), len(across))).astype(float)
    if not (values.min() >= 0 and values.max() <= 1):
        raise ValueError(f"iou must be in [0, 1], got values from {values.min():g} to {values.max():g}")
    style.graph(ax, xlabel, ylabel)
    ax.grid(False)
    mesh = ax.pcolormesh(across, up, values, cmap=style.VALUES, vmin=0, vmax=1, shading="gouraud", rasterized=True)
    drawn = [level for level in levels if values.min() < level < values.max()]
    if drawn:
        lines = ax.contour(across, up, values, levels=sorted(drawn), colors="white", linewidths=LINE_WIDTH)
        for level, path in zip(lines.levels, lines.get_paths(), strict=True):
            _label_contour(ax, np.asarray(path.vertices, float), f"{level:g}", (across[0], up[0], across[-1], up[-1]))
    if points is not None:
        dots = as_array("points", points, (None, 2))
        ax.scatter(dots[:, 0], dots[:, 1], s=9, color="black", edgecolors="white", linewidths=0.4, zorder=3)
    ax.set(xlim=(across[0], across[-1]), ylim=(up[0], up[-1]))
    style.color_bar(ax, mesh, "IoU")
    return ax


@checked
def fit_histogram(ax: Axes, fits: Mapping[str, np.ndarray]) -> Axes:
    """Draw, for each group of boxes, a histogram of how well the boxes fit their images.

    The contrast of a box is the contrast between its inside and its surroundings. To compute the fit of a box, the box
    is placed on every image of the data set. The fit is the fraction of these images in which the box has less contrast
    than in its own image. A faint line shows the uniform distribution, which is expected if boxes do not belong to
    their images. The legend shows the mean of each group.

    Parameters
    ----------
    ax : Axes
        Axes to draw on.
    fits : mapping of str to (B,) array
        Maps the name of each group to the fits, in [0, 1], of its B boxes.

    Returns
    -------
    Axes
        The axes `ax`.

    Raises
    ------
    ValueError
        If a fit is outside [0, 1].
    """
    style.graph(ax, "fit: fraction of images where the box has less contrast", "fraction of the boxes")
    ax.set_xlim(0, 1)
    handles = []
    for i, (name, values) in enumerate(fits.items()):
        array = as_array(f"fits[{name!r}]", values, (None,)).astype(np.float64)
        wrong = np.flatnonzero(~((array >= 0) & (array <= 1)))
        if wrong.size:
            raise ValueError(f"fits[{name!r}][{wrong[0]}] must be in [0, 1], got {array[wrong[0]]:g}")
        if len(array) == 0:
            continue
        shares, edges = np.histogram(array, _FIT_BINS, (0, 1), weights=np.full(len(array), 1 / len(array)))
        color = style.PALETTE[(5, 6, 2, 1)[i % 4]]
        ax.stairs(shares, edges, color=color, linewidth=2, linestyle=_BOX_DASHES[i % len(_BOX_DASHES)])
        handles.append(
            Line2D(
                [],
                [],
                color=color,
                linewidth=2,
                linestyle=_BOX_DASHES[i % len(_BOX_DASHES)],
                label=f"{name}: mean {array.mean():.2f}",
            )
        )
    if not handles:
        return style.note(ax, "no boxes")
    ax.axhline(1 / _FIT_BINS, color=style.GREY, linewidth=0.8)
    handles.append(Line2D([], [], color=style.GREY, linewidth=0.8, label="by chance: mean 0.50"))
    ax.set_ylim(bottom=0)
    style.legend_inside(ax, handles, "upper left")
    return ax


@checked
def delta_histograms(ax: Axes, deltas: np.ndarray, limit: float, unit: bool = False) -> Axes:
    """Draw four histograms of deltas, one for each of dx, dy, dw and dh.

    The legend states the standard deviation of each delta.

    Parameters
    ----------
    ax : Axes
        Axes to draw on.
    deltas : (N, 4) array
        Deltas `dx, dy, dw, dh` of N boxes.
    limit : float
        The x axis and the bins extend from -`limit` to `limit`, which must be above 0.
    unit : bool, optional
        If True, also draw the standard normal distribution.

    Returns
    -------
    Axes
        The axes `ax`.

    Raises
    ------
    ValueError
        If the shape is wrong or `limit` is not above 0.
    """
    values = as_array("deltas", deltas, (None, 4)).astype(float)
    if limit <= 0:
        raise ValueError(f"limit must be above 0, got {limit:g}")
    style.graph(ax, "delta", "density")
    ax.set_xlim(-limit, limit)
    if len(values) == 0:
        return style.note(ax, "no deltas")
    handles: list[Artist] = []
    edges = np.linspace(-limit, limit, _DELTA_BINS + 1)
    for name, column, (color, dashes) in zip(DELTA_NAMES, values.T, DELTA_LOOK, strict=True):
        heights = np.histogram(column, edges)[0] / (len(column) * np.diff(edges))
        ax.stairs(heights, edges, color=color, linestyle=dashes, linewidth=LINE_WIDTH)
        handles.append(
            Line2D(
                [],
                [],
                color=color,
                linestyle=dashes,
                linewidth=LINE_WIDTH,
                label=f"{name}: std {column.std():.2f}",
            )
        )
    if unit:
        at = np.linspace(-limit, limit, 201)
        handles += ax.plot(
            at,
            np.exp(-(at**2) / 2) / np.sqrt(2 * np.pi),
            color=style.INK,
            linewidth=THIN_LINE,
            label="normal: std 1",
        )
    ax.set_ylim(0, ax.get_ylim()[1])
    style.legend_right(ax, handles)
    return ax


@checked
def moves(ax: Axes, image: np.ndarray, boxes: np.ndarray, gt_boxes: np.ndarray) -> Axes:
    """Draw an arrow from the centre of each box to the centre of its object.

    Parameters
    ----------
    ax : Axes
        Axes to draw on.
    image : (H, W, 3) array
        Image, uint8 or float in [0, 1].
    boxes : (N, 4) array
        N boxes, in pixels.
    gt_boxes : (N, 4) array
        For each box, the box of its object, in pixels.

    Returns
    -------
    Axes
        The axes `ax`.
    """
    start = as_boxes("boxes", boxes)
    goal = as_array("gt_boxes", as_boxes("gt_boxes", gt_boxes), (len(start), 4))
    style.image(ax, image, dimmed=True)
    style.add_outlines(ax, start, style.SKY)
    for corner in np.unique(goal, axis=0):
        ax.add_patch(
            _box_patch(
                corner,
                fill=False,
                edgecolor="white",
                linestyle="--",
                linewidth=THIN_LINE,
                zorder=3,
                path_effects=style.outline(THIN_LINE),
            )
        )
    for corner, wanted in zip(start, goal, strict=True):
        ax.annotate(
            "",
            (wanted[:2] + wanted[2:]) / 2,
            (corner[:2] + corner[2:]) / 2,
            zorder=4,
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-|>",
                "color": style.ORANGE,
                "linewidth": LINE_WIDTH,
                "path_effects": style.outline(LINE_WIDTH),
                "shrinkA": 0,
                "shrinkB": 0,
                "mutation_scale": 9,
            },
        )
    style.legend_below(
        ax,
        [
            style.outline_key(style.SKY, "box"),
            style.outline_key(style.ORANGE, "shift of its centre"),
            Line2D(
                [],
                [],
                color="white",
                linestyle="--",
                linewidth=THIN_LINE,
                path_effects=style.outline(THIN_LINE),
                label="object",
            ),
        ],
        columns=2,
    )
    return ax


def _size(corner: np.ndarray) -> float:
    return float((corner[2] - corner[0]) * (corner[3] - corner[1]))


def _in_words(name: str, square_pixels: float) -> str:
    return f"{name}: {square_pixels:.4g} px\u00b2"


def _label_contour(ax: Axes, points: np.ndarray, text: str, limits: tuple[float, float, float, float]) -> None:
    """Write the level of a contour at its rightmost point (x, y), but not near the border of the axes."""
    low, size = np.array(limits[:2]), np.subtract(limits[2:], limits[:2])
    inside = (np.abs((points - low) / size - 0.5) < 0.5 - _LABEL_ROOM).all(axis=1)
    near = points[inside] if inside.any() else points
    right = near[np.isclose(near[:, 0], near[:, 0].max(), atol=0.01 * size[0])]
    x, y = right[np.abs(right[:, 1] - np.median(right[:, 1])).argmin()]
    ax.text(
        x,
        y,
        text,
        ha="center",
        va="center",
        fontsize=TEXT_SIZE,
        color="white",
        zorder=4,
        bbox={"boxstyle": "round,pad=0.2", "facecolor": "black", "edgecolor": "none", "alpha": 0.75},
    )


def _around(corners: np.ndarray) -> list[float]:
    """Return axis limits around the boxes `corners` (N, 4), with a margin."""
    low, high = corners[:, :2].min(axis=0), corners[:, 2:].max(axis=0)
    room = max(LEAVE_ROOM, 0.08 * float((high - low).max()))
    return [*(low - room), *(high + room)]


def _box_patch(corner: np.ndarray, **look: Any) -> Rectangle:
    x1, y1, x2, y2 = corner
    return Rectangle((x1, y1), x2 - x1, y2 - y1, joinstyle="miter", **look)


def _filled(ax: Axes, corner: np.ndarray, color: str, alpha: float) -> None:
    ax.add_patch(_box_patch(corner, facecolor=color, edgecolor="none", alpha=alpha, zorder=2))


def _measure(
    ax: Axes,
    start: tuple[float, float],
    end: tuple[float, float],
    text: str,
    shift: tuple[float, float],
    align: tuple[str, str],
) -> None:
    """Draw a double-headed arrow from `start` to `end`. Write `text` at `shift` points from its middle."""
    ax.annotate("", end, start, arrowprops={"arrowstyle": "<->", "color": style.GREY, "shrinkA": 0, "shrinkB": 0})
    middle = (start[0] + end[0]) / 2, (start[1] + end[1]) / 2
    ax.annotate(
        text,
        middle,
        shift,
        textcoords="offset points",
        ha=align[0],
        va=align[1],
        fontsize=TEXT_SIZE + 1,
        color=style.INK,
    )


def _draw_pixel_lines(ax: Axes, limits: Sequence[float]) -> None:
    """Draw faint lines between the pixels within `limits` (x1, y1, x2, y2), unless there are too many of them."""
    x1, y1, x2, y2 = limits
    if max(x2 - x1, y2 - y1) > _MOST_LINES:
        return
    for axis, low, high in ((ax.xaxis, x1, x2), (ax.yaxis, y1, y2)):
        axis.set_ticks(np.arange(np.ceil(low), high + 1e-9), minor=True)
    ax.grid(True, which="both", color=style.FAINT, linewidth=0.6)
    ax.set_axisbelow(True)


def _pixel_axes(ax: Axes, size: Sequence[int]) -> None:
    """Turn `ax` into an empty pixel grid of `size` (height, width) with ticks at the pixel edges."""
    height, width = size
    style.frame(ax).set(xlim=(0, width), ylim=(height, 0))
    style.ticks(ax)
    ax.set_xticks(range(width + 1))
    ax.set_yticks(range(height + 1))
    ax.grid(True, color=_GRID, linewidth=0.8)
    ax.set_axisbelow(True)
    style.name_pixels(ax)

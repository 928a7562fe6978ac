"""Plots of RoI pooling: the cells that RoIPool and RoIAlign read, and their outputs.

The plots show the sample points of RoIAlign, the rounded bins of RoIPool, the values of the bins, pooled features, how
the output changes when a RoI is shifted, and the part of the image inside each RoI of a batch.

In plots of a feature map, the unit of both axes is one cell. The cell in row r, column c has its centre at x = c, y =
r. RoIAlign uses the same coordinates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.transforms import ScaledTranslation

from rcnn.plot import style
from rcnn.plot.arguments import checked
from rcnn.plot.features import channel_tiles
from rcnn.plot.style import Dashes, as_array, as_boxes

# Colours and line widths (in points) of bins. They differ for neighbouring bins, because these may share cells. A
# narrow line is drawn over a wide one, so both are visible.
_BIN_LOOKS = ((style.SKY, 3.6), (style.PURPLE, 1.4))
_UNDER_LABEL = 30.0  # points; distance between the axis and a legend below its ticks and label
_SHIFT_LOOKS: tuple[tuple[str, Dashes], ...] = (
    (style.VERMILION, "-"),
    (style.BLUE, "-"),
    (style.GREEN, "--"),
    (style.PURPLE, ":"),
)
_ROOM = 0.08  # gap between two crops, as a fraction of their side


@checked
def sample_points(
    ax: Axes,
    feature_map: np.ndarray,
    roi: np.ndarray,
    spatial_scale: float,
    output_size: tuple[int, int] = (7, 7),
    sampling_ratio: int = 2,
    aligned: bool = False,
    margin: float | None = 1.0,
) -> Axes:
    """Draw the RoI, bins and sample points of RoIAlign on a feature map.

    A sample point that lies more than one cell outside the map has the value 0. It is drawn as a cross.

    Parameters
    ----------
    ax : Axes
        Axes to draw on.
    feature_map : (H, W) array
        One channel of a feature map, with at least one cell.
    roi : (4,) array
        RoI in pixels.
    spatial_scale : float
        Factor that converts pixels to cells, such as 1 / 16 for stride 16.
    output_size : (int, int), optional
        Numbers of rows and columns of bins.
    sampling_ratio : int, optional
        Number of sample points in a bin along each axis. If it is 0, the number is adapted to the size of the bins.
    aligned : bool, optional
        If True, shift the RoI by half a cell, as in RoIAlign with `aligned=True`.
    margin : float or None, optional
        Only a square part of the map is shown: the RoI, with at least this many cells around it. If None, the whole map
        is shown.

    Returns
    -------
    Axes
        The axes `ax`.

    References
    ----------
    He et al., "Mask R-CNN" (2017), section 3 and figure 3.
    """
    cells = _checked_map(feature_map)
    corner = _roi_in_cells(as_boxes("roi", [roi])[0], spatial_scale, aligned)
    points = _points_in_cells(corner, output_size, sampling_ratio)  # (points, 2)
    height, width = cells.shape
    x1, y1, x2, y2 = corner
    shown = ax.imshow(cells, cmap=style.ACTIVATIONS, interpolation="nearest")
    _draw_grid(
        ax, np.arange(-0.5, width), np.arange(-0.5, height), (-0.5, -0.5, width - 0.5, height - 0.5), "white", 0.4
    )
    _draw_grid(
        ax,
        np.linspace(x1, x2, output_size[1] + 1),
        np.linspace(y1, y2, output_size[0] + 1),
        tuple(corner),
        style.ORANGE,
        0.8,
    )
    style.edged_box(ax, corner, style.ORANGE)
    style.frame(ax)
    style.whole_number_ticks(ax)
    if margin is not None:
        _look_at(ax, corner, corner, margin)
    _draw_points(ax, points, np.all((points >= -1) & (points <= (width, height)), axis=1))
    style.color_bar(ax, shown, "activation")
    return ax


@checked
def quantised_bins(
    ax: Axes,
    feature_map: np.ndarray,
    roi: np.ndarray,
    spatial_scale: float,
    output_size: tuple[int, int] = (7, 7),
    margin: float | None = 1.0,
) -> Axes:
    """Draw the RoI and the rounded bins of RoIPool on a feature map, and mark the largest value in each bin.

    The dashed box is the RoI before rounding. A dot marks the cell with the largest value in each bin. Bins alternate
    between two colours and line widths, because neighbouring bins may share cells. Empty bins are not drawn.

    Parameters
    ----------
    ax : Axes
        Axes to draw on.
    feature_map : (H, W) array
        One channel of a feature map, with at least one cell.
    roi : (4,) array
        RoI in pixels.
    spatial_scale : float
        Factor that converts pixels to cells, such as 1 / 16 for stride 16.
    output_size : (int, int), optional
        Numbers of rows and columns of bins.
    margin : float or None, optional
        Only a square part of the map is shown: the RoI and its bins, with at least this many cells around them. If
        None, the whole map is shown.

    Returns
    -------
    Axes
        The axes `ax`.

    References
    ----------
    Girshick, "Fast R-CNN" (2015), section 2.1.
    """
    cells = _checked_map(feature_map)
    exact = as_boxes("roi", [roi])[0] * spatial_scale
    corners = [_round_away(value) for value in exact]
    rows = _bin_bounds(corners[1], corners[3], output_size[0], cells.shape[0])
    columns = _bin_bounds(corners[0], corners[2], output_size[1], cells.shape[1])
    shown = ax.imshow(cells, cmap=style.ACTIVATIONS, interpolation="nearest")
    _draw_inner_edges(ax, cells.shape)
    for i, (top, bottom) in enumerate(rows):
        for j, (left, right) in enumerate(columns):
            if top < bottom and left < right:
                _draw_bin(ax, (left, top, right, bottom), (i + j) % 2)
                _mark_largest(ax, cells, (left, top, right, bottom))
    x1, y1, x2, y2 = exact
    ax.add_patch(
        Rectangle(
            (x1, y1),
            x2 - x1,
            y2 - y1,
            fill=False,
            edgecolor=style.ORANGE,
            linewidth=style.LINE_WIDTH,
            linestyle="--",
            joinstyle="miter",
            path_effects=style.outline(style.LINE_WIDTH),
            zorder=4,
        )
    )
    style.frame(ax)
    style.whole_number_ticks(ax)
    if margin is not None:
        _look_at(ax, exact, np.array(corners) + (-0.5, -0.5, 0.5, 0.5), margin)
    style.color_bar(ax, shown, "activation")
    return ax


@checked
def bins_legend(ax: Axes) -> Axes:
    """Draw the legend of a `quantised_bins` plot under the axes.

    Parameters
    ----------
    ax : Axes
        Axes to draw on.

    Returns
    -------
    Axes
        The axes `ax`.
    """
    box = Line2D([], [], color=style.ORANGE, linestyle="--", linewidth=style.LINE_WIDTH, label="RoI before rounding")
    bins = [
        Line2D([], [], color=color, linewidth=width, label=label, path_effects=style.outline(width))
        for (color, width), label in zip(_BIN_LOOKS, ("bin", "neighbouring bins"), strict=True)
    ]
    dot = Line2D([], [], marker="o", color="white", markeredgecolor="black", linestyle="none", label="largest cell")
    style.legend_below(ax, [box, dot, *bins], columns=2).set_bbox_to_anchor((0.0, -0.09))
    return ax


@checked
def bin_values(ax: Axes, values: np.ndarray, limits: tuple[float, float] | None = None) -> Axes:
    """Draw the pooled values of a RoI as tiles with numbers.

    Parameters
    ----------
    ax : Axes
        Axes to draw on.
    values : (ph, pw) array
        Value of each bin, for ph rows and pw columns of bins.
    limits : (float, float), optional
        Values of the darkest and the brightest tile, ascending, so that several plots can have the same scale.

    Returns
    -------
    Axes
        The axes `ax`.

    Raises
    ------
    ValueError
        If the shape is wrong or `limits` are not ascending.
    """
    array = as_array("values", values, (None, None)).astype(float)
    if array.size == 0:
        return style.note(style.frame(ax), "no bins")
    low, high = (float(array.min()), float(array.max())) if limits is None else limits
    if limits is not None and high - low < 1e-9:
        raise ValueError(f"limits must be ascending, got {limits}")
    ax.imshow(array, cmap=style.ACTIVATIONS, vmin=low, vmax=high, interpolation="nearest")
    for i, j in np.ndindex(*array.shape):
        share = (array[i, j] - low) / (high - low) if high > low else 0.5
        ax.text(
            j,
            i,
            f"{array[i, j]:.2f}",
            ha="center",
            va="center",
            fontsize=style.TEXT_SIZE + 1,
            color="white" if share < 0.5 else "black",
        )
    for line in range(1, array.shape[1]):
        ax.axvline(line - 0.5, color="white", linewidth=style.LINE_WIDTH)
    for line in range(1, array.shape[0]):
        ax.axhline(line - 0.5, color="white", linewidth=style.LINE_WIDTH)
    return style.frame(ax)


@checked
def shift_curves(
    ax: Axes, shifts: np.ndarray, curves: Mapping[str, np.ndarray], xlabel: str, ylabel: str, at: float | None = None
) -> Axes:
    """Draw values against the shift of a RoI, with a legend below the plot.

    Parameters
    ----------
    ax : Axes
        Axes to draw on.
    shifts : (S,) array
        S shifts of the RoI, ascending.
    curves : mapping of str to (S,) array
        Maps the name of each curve to its values. NaN leaves a gap.
    xlabel, ylabel : str
        Axis labels.
    at : float, optional
        Shift to mark with a vertical line, and with a dot on each curve.

    Returns
    -------
    Axes
        The axes `ax`.
    """
    positions = as_array("shifts", shifts, (None,)).astype(float)
    looks = dict(zip(curves, _SHIFT_LOOKS * (len(curves) // len(_SHIFT_LOOKS) + 1), strict=False))
    for name, outputs in curves.items():
        values = as_array(f"curves[{name!r}]", outputs, (len(positions),)).astype(float)
        color, dashes = looks[name]
        ax.plot(positions, values, color=color, linestyle=dashes, linewidth=style.LINE_WIDTH)
        if at is not None and len(positions):
            ax.plot(
                at,
                np.interp(at, positions, values),
                marker="o",
                markersize=6,
                markerfacecolor=color,
                markeredgecolor="black",
                markeredgewidth=0.8,
                zorder=4,
            )
    if at is not None:
        ax.axvline(at, color=style.GREY, linewidth=style.THIN_LINE, zorder=1)
    style.graph(ax, xlabel, ylabel)
    handles = [
        Line2D([], [], color=color, linestyle=dashes, linewidth=style.LINE_WIDTH, label=name)
        for name, (color, dashes) in looks.items()
    ]
    if handles:
        below = ScaledTranslation(0, -_UNDER_LABEL / 72, ax.figure.dpi_scale_trans)
        style.legend_below(ax, handles, columns=len(handles)).set_bbox_to_anchor((0, 0), ax.transAxes + below)
    return ax


@checked
def pooled_features(ax: Axes, pooled: np.ndarray, max_channels: int = 64) -> Axes:
    """Draw the pooled channels of one RoI as tiles with a common colour scale.

    The scale ranges from the 1st to the 99th percentile, so outliers do not darken all other values.

    Parameters
    ----------
    ax : Axes
        Axes to draw on.
    pooled : (C, ph, pw) array
        Pooled features of a RoI: C channels of ph rows and pw columns.
    max_channels : int, optional
        Number of channels to draw.

    Returns
    -------
    Axes
        The axes `ax`.
    """
    return channel_tiles(ax, as_array("pooled", pooled, (None, None, None)), max_channels, "activation")


@checked
def roi_batch(
    ax: Axes,
    image: np.ndarray,
    rois: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[str] | None = None,
    most: int = 12,
) -> Axes:
    """Draw the part of the image inside each RoI, with one row for each class.

    The label of a row contains the class and the number of its RoIs. Each RoI is resized to a square, as in pooling.

    Parameters
    ----------
    ax : Axes
        Axes to draw on.
    image : (H, W, 3) array
        Image, uint8 or float in [0, 1].
    rois : (R, 4) array
        R RoIs, in pixels.
    labels : (R,) int array
        Label of each RoI.
    class_names : sequence of str, optional
        Class names, indexed by label; if omitted, labels are shown as numbers.
    most : int, optional
        Largest number of RoIs to draw for each class.

    Returns
    -------
    Axes
        The axes `ax`.

    Raises
    ------
    ValueError
        If a shape is wrong or a label is out of range.
    """
    shown = style.check_image("image", image)
    shown = shown / 255.0 if shown.dtype == np.uint8 else np.clip(shown.astype(float), 0, 1)
    corners = as_boxes("rois", rois)
    classes = as_array("labels", labels, (len(corners),)).astype(int)
    count = 2**20 if class_names is None else len(class_names)
    if ((classes < 0) | (classes >= count)).any():
        raise ValueError(
            f"labels must be in 0 .. {count - 1}, the range of class_names, got {classes.min()} .. {classes.max()}"
        )
    style.frame(ax)
    present = np.unique(classes)
    if len(present) == 0:
        return style.note(ax, "no RoIs")
    names = []
    for row, label in enumerate(present):
        of_class = corners[classes == label]
        names.append(f"{class_names[label] if class_names is not None else label}: {len(of_class)}")
        for column, corner in enumerate(of_class[:most]):
            _draw_crop(ax, shown, corner, column, row, style.label_color(int(label)))
        if len(of_class) > most:
            ax.text(most + 0.1, row + 0.5, "...", va="center", fontsize=style.TEXT_SIZE + 1, color=style.GREY)
    columns = min(most, int(np.bincount(classes).max()))
    ax.set(xlim=(-_ROOM, columns + 0.5), ylim=(len(present), -_ROOM))
    ax.set_yticks(np.arange(len(present)) + 0.5, style.literals(names))
    style.ticks(ax)
    ax.tick_params(length=0)
    ax.set_facecolor("white")
    ax.spines[:].set_visible(False)
    return ax


def _checked_map(feature_map: np.ndarray) -> np.ndarray:
    """Return a feature map (h, w). Raise ValueError unless it has at least one cell."""
    cells = as_array("feature_map", feature_map, (None, None))
    if cells.size == 0:
        raise ValueError(f"feature_map must have at least one cell, got shape {cells.shape}")
    return cells


def _roi_in_cells(roi: np.ndarray, spatial_scale: float, aligned: bool) -> np.ndarray:
    """Return the RoI (4,) in cells. If `aligned` is False, its sides are at least one cell long."""
    corner = roi * spatial_scale - (0.5 if aligned else 0.0)
    if not aligned:
        corner[2:] = np.maximum(corner[2:], corner[:2] + 1)
    return np.asarray(corner)


def _points_in_cells(corner: np.ndarray, output_size: tuple[int, int], sampling_ratio: int) -> np.ndarray:
    """Return the sample points (number of points, 2) of a RoI as (x, y), row by row.

    If `sampling_ratio` is 0, the number of points per bin along each axis is the side of the bin in cells, rounded up.
    """
    axes = []
    for start, end, bins in ((corner[0], corner[2], output_size[1]), (corner[1], corner[3], output_size[0])):
        count = bins * (sampling_ratio or max(int(np.ceil((end - start) / bins)), 1))
        axes.append(start + (np.arange(count) + 0.5) * (end - start) / count)
    x, y = np.meshgrid(*axes)
    return np.stack([x.ravel(), y.ravel()], axis=1)


def _draw_points(ax: Axes, points: np.ndarray, inside: np.ndarray) -> None:
    """Draw N points (N, 2) as dots or, where `inside` (N,) is False, as crosses. Marks shrink if points are close."""
    steps = np.diff(np.unique(points[:, 0].round(6))), np.diff(np.unique(points[:, 1].round(6)))
    step = min((each.min() for each in steps if each.size), default=1.0)
    dots = step / abs(np.diff(ax.get_xlim())[0]) * ax.bbox.width
    size = float(np.clip(0.5 * dots * 72 / ax.figure.dpi, 1.6, 4.5))  # diameter in points
    ax.scatter(
        points[inside, 0],
        points[inside, 1],
        s=size**2,
        facecolors="white",
        edgecolors="black",
        zorder=4,
        linewidths=0.0 if size < 3 else 0.6,
    )
    ax.scatter(points[~inside, 0], points[~inside, 1], s=size**2, marker="x", color="black", zorder=4, linewidths=0.8)


def _draw_grid(ax: Axes, x: np.ndarray, y: np.ndarray, extent: tuple[float, ...], color: str, width: float) -> None:
    """Draw vertical lines at `x` and horizontal lines at `y` within `extent` (x1, y1, x2, y2)."""
    x1, y1, x2, y2 = extent
    segments = [[(each, y1), (each, y2)] for each in x] + [[(x1, each), (x2, each)] for each in y]
    ax.add_collection(LineCollection(segments, colors=color, linewidths=width, zorder=2), autolim=False)


def _round_away(value: float) -> int:
    """Return the nearest whole number, with halves rounded away from zero."""
    return int(math.copysign(math.floor(abs(value) + 0.5), value))


def _bin_bounds(first: int, last: int, bins: int, cells: int) -> list[tuple[int, int]]:
    """Return (start, stop) of each bin over the cells `first` to `last` inclusive, clipped to the map."""
    length = max(last - first + 1, 1)
    starts = [first + i * length // bins for i in range(bins)]
    stops = [first - -(i + 1) * length // bins for i in range(bins)]
    return [(min(max(start, 0), cells), min(max(stop, 0), cells)) for start, stop in zip(starts, stops, strict=True)]


def _draw_bin(ax: Axes, bounds: tuple[int, int, int, int], turn: int) -> None:
    left, top, right, bottom = bounds
    color, width = _BIN_LOOKS[turn]
    ax.add_patch(
        Rectangle(
            (left - 0.5, top - 0.5),
            right - left,
            bottom - top,
            fill=False,
            edgecolor=color,
            linewidth=width,
            joinstyle="miter",
            path_effects=style.outline(width),
            zorder=3 + 0.1 * turn,
        )
    )


def _mark_largest(ax: Axes, cells: np.ndarray, bounds: tuple[int, int, int, int]) -> None:
    """Draw a dot on the cell with the largest value in a bin. In a tie, choose the first of these cells."""
    left, top, right, bottom = bounds
    row, column = np.divmod(cells[top:bottom, left:right].argmax(), right - left)
    ax.plot(
        left + column,
        top + row,
        marker="o",
        markersize=5,
        color="white",
        markeredgecolor="black",
        markeredgewidth=0.8,
        zorder=5,
    )


def _draw_inner_edges(ax: Axes, size: tuple[int, ...]) -> None:
    height, width = size
    down = [[(x - 0.5, -0.5), (x - 0.5, height - 0.5)] for x in range(1, width)]
    across = [[(-0.5, y - 0.5), (width - 0.5, y - 0.5)] for y in range(1, height)]
    ax.add_collection(LineCollection(down + across, colors="white", linewidths=0.4, zorder=2), autolim=False)


def _look_at(ax: Axes, one: np.ndarray, other: np.ndarray, margin: float) -> None:
    """Set the axis limits to a square around two boxes."""
    x1, y1 = np.minimum(one[:2], other[:2])
    x2, y2 = np.maximum(one[2:], other[2:])
    x, y, half = (x1 + x2) / 2, (y1 + y2) / 2, max(x2 - x1, y2 - y1) / 2 + margin
    ax.set(xlim=(x - half, x + half), ylim=(y + half, y - half))


def _draw_crop(ax: Axes, image: np.ndarray, corner: np.ndarray, column: int, row: int, color: str) -> None:
    """Draw the pixels inside a box, or at least one pixel, in the square at this column and row of the plot."""
    height, width = image.shape[:2]
    left, top = (int(np.clip(np.floor(at), 0, side - 1)) for at, side in zip(corner[:2], (width, height), strict=True))
    right, bottom = (
        int(np.clip(np.ceil(at), low + 1, side))
        for at, low, side in zip(corner[2:], (left, top), (width, height), strict=True)
    )
    side = 1 - _ROOM
    ax.imshow(image[top:bottom, left:right], extent=(column, column + side, row + side, row), aspect="equal")
    ax.add_patch(Rectangle((column, row), side, side, fill=False, edgecolor=color, linewidth=style.LINE_WIDTH))

"""Pictures of feature maps and of what RoIAlign takes from them. Each function is `(ax, arrays..., options) -> ax`.

Feature maps are drawn in cells: cell (row, column) is centred on y = row, x = column, which are the coordinates that
RoIAlign samples in.
"""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from rcnn.plot import style
from rcnn.plot.style import as_array


def feature_map(
    ax: Axes, features: np.ndarray, max_channels: int | None = None, quantity: str = "activation"
) -> Axes:
    """One image's `features` (C, H, W): the mean absolute activation of each cell, or the first channels side by side.

    `max_channels` is the number of channels to show; None asks for the mean. `quantity` is what the colour bar calls
    the values.
    """
    array = as_array("features", features, (None, None, None))
    if max_channels is not None:
        return _tiles(ax, array, max_channels, quantity)
    if array.size == 0:
        return style.note(style.frame(ax), "no features")
    shown = ax.imshow(np.abs(array).mean(axis=0), cmap=style.ACTIVATIONS, interpolation="nearest")
    style.color_bar(ax, shown, f"mean |{quantity}|")
    return style.frame(ax)


def pooled_features(ax: Axes, pooled: np.ndarray, max_channels: int = 64) -> Axes:
    """One RoI's pooled features (C, ph, pw): the first `max_channels` channels side by side, row by row, on one scale.

    The scale leaves out the lowest and the highest hundredth, so that one outlier does not darken all others.
    """
    return _tiles(ax, as_array("pooled", pooled, (None, None, None)), max_channels, "activation")


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
    """Where RoIAlign reads `feature_map` (H, W): the RoI, its bins and its sample points over the cells.

    `roi` (4,) is in pixels, and `spatial_scale` takes it to cells. A cross lies more than one cell outside the map and
    counts as 0. The view is a square with the RoI in its middle and at least `margin` cells around it; None shows the
    whole map.

    Source: He et al., "Mask R-CNN" (2017), section 3 and figure 3.
    """
    cells = as_array("feature_map", feature_map, (None, None))
    corner = _roi_in_cells(as_array("roi", roi, (4,)).astype(float), spatial_scale, aligned)
    points = _sample_points(corner, output_size, sampling_ratio)  # (points, 2)
    height, width = cells.shape
    x1, y1, x2, y2 = corner
    shown = ax.imshow(cells, cmap=style.ACTIVATIONS, interpolation="nearest")
    _grid(ax, np.arange(-0.5, width), np.arange(-0.5, height), (-0.5, -0.5, width - 0.5, height - 0.5), "white", 0.4)
    _grid(ax, np.linspace(x1, x2, output_size[1] + 1), np.linspace(y1, y2, output_size[0] + 1), tuple(corner),
          style.ORANGE, 0.8)  # fmt: skip
    ax.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=style.ORANGE, linewidth=style.LINE_WIDTH,
                           joinstyle="miter", path_effects=style.outline(style.LINE_WIDTH), zorder=3))  # fmt: skip
    style.frame(ax)
    _cell_ticks(ax)
    if margin is not None:
        x, y, half = (x1 + x2) / 2, (y1 + y2) / 2, max(x2 - x1, y2 - y1) / 2 + margin
        ax.set(xlim=(x - half, x + half), ylim=(y + half, y - half))
    _draw_points(ax, points, np.all((points >= -1) & (points <= (width, height)), axis=1))
    style.color_bar(ax, shown, "activation")
    return ax


def _roi_in_cells(roi: np.ndarray, spatial_scale: float, aligned: bool) -> np.ndarray:
    """The RoI (4,) in the coordinates of the feature map; unaligned, it is at least one cell wide and high."""
    corner = roi * spatial_scale - (0.5 if aligned else 0.0)
    if not aligned:
        corner[2:] = np.maximum(corner[2:], corner[:2] + 1)
    return np.asarray(corner)


def _sample_points(corner: np.ndarray, output_size: tuple[int, int], sampling_ratio: int) -> np.ndarray:
    """The points (ph * sy * pw * sx, 2) as x, y at which a RoI is read, row by row.

    A `sampling_ratio` of 0 takes as many per bin as the bin has cells, rounded up.
    """
    axes = []
    for start, end, bins in ((corner[0], corner[2], output_size[1]), (corner[1], corner[3], output_size[0])):
        count = bins * (sampling_ratio or max(int(np.ceil((end - start) / bins)), 1))
        axes.append(start + (np.arange(count) + 0.5) * (end - start) / count)
    x, y = np.meshgrid(*axes)
    return np.stack([x.ravel(), y.ravel()], axis=1)


def _draw_points(ax: Axes, points: np.ndarray, inside: np.ndarray) -> None:
    """Draws `points` (N, 2) as large as their distance allows; crosses where not `inside` (N,)."""
    steps = np.diff(np.unique(points[:, 0].round(6))), np.diff(np.unique(points[:, 1].round(6)))
    step = min((each.min() for each in steps if each.size), default=1.0)
    dots = step / abs(np.diff(ax.get_xlim())[0]) * ax.bbox.width
    size = float(np.clip(0.5 * dots * 72 / ax.figure.dpi, 1.6, 4.5))  # the diameter in points
    ax.scatter(points[inside, 0], points[inside, 1], s=size**2, facecolors="white", edgecolors="black", zorder=4,
               linewidths=0.0 if size < 3 else 0.6)  # fmt: skip
    ax.scatter(points[~inside, 0], points[~inside, 1], s=size**2, marker="x", color="black", zorder=4, linewidths=0.8)


def _grid(ax: Axes, x: np.ndarray, y: np.ndarray, extent: tuple[float, ...], color: str, width: float) -> None:
    """Vertical lines at `x` and horizontal ones at `y` within `extent` (x1, y1, x2, y2)."""
    x1, y1, x2, y2 = extent
    segments = [[(each, y1), (each, y2)] for each in x] + [[(x1, each), (x2, each)] for each in y]
    ax.add_collection(LineCollection(segments, colors=color, linewidths=width, zorder=2), autolim=False)


def _cell_ticks(ax: Axes) -> None:
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(6, integer=True))
    style.ticks(ax)


def _tiles(ax: Axes, channels: np.ndarray, max_channels: int, quantity: str) -> Axes:
    """The first `max_channels` of `channels` (C, h, w) as a grid of tiles, one blank cell apart, on one scale."""
    if max_channels < 1:
        raise ValueError(f"max_channels is {max_channels}; it must be at least 1")
    shown = channels[:max_channels].astype(float)
    count, height, width = shown.shape
    if shown.size == 0:
        return style.note(style.frame(ax), "no features")
    columns = int(np.ceil(np.sqrt(count * height / width)))
    rows = -(-count // columns)
    sheet = np.full((rows * (height + 1) - 1, columns * (width + 1) - 1), np.nan)
    for i, channel in enumerate(shown):
        top, left = (i // columns) * (height + 1), (i % columns) * (width + 1)
        sheet[top : top + height, left : left + width] = channel
    low, high = np.nanpercentile(shown, (1, 99))
    mesh = ax.imshow(sheet, cmap=style.ACTIVATIONS, vmin=low, vmax=high, interpolation="nearest")
    style.frame(ax).set_facecolor("white")
    ax.spines[:].set_visible(False)
    style.color_bar(ax, mesh, quantity)
    return ax

"""Plots of feature maps, sliding windows and receptive fields.

The plots show a feature map (its largest activations, or channel by channel), the windows of a convolution, the
connections between cells and pixels, and the influence of each pixel on a cell.

In plots of a feature map, the unit of both axes is one cell. The cell in row r, column c has its centre at x = c, y =
r. A layer is given as a tuple (kernel, stride, padding), which defines the windows of a convolution or a pooling.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from rcnn.plot import style
from rcnn.plot.arguments import checked
from rcnn.plot.style import Dashes, as_array, as_boxes

Layer = tuple[int, int, int]

_FIELD_LOOKS: tuple[tuple[str, Dashes], ...] = (
    (style.SKY, "-"),
    (style.ORANGE, "--"),
    (style.GREEN, ":"),
    (style.PURPLE, "-."),
)
_UNCOVERED = "#e8c4ae"  # a pale vermilion
_SHADOW = 0.6  # opacity of the dark parts of an image on a feature map


@checked
def feature_map(
    ax: Axes,
    features: np.ndarray,
    max_channels: int | None = None,
    quantity: str = "activation",
    image: np.ndarray | None = None,
    image_size: tuple[int, int] | None = None,
    offset: float = 0.0,
    limits: tuple[float, float] | None = None,
) -> Axes:
    """Draw the largest absolute activation of each cell, or the first `max_channels` channels side by side.

    The largest activation shows objects better than the mean, because empty background can activate many channels
    weakly. With `image`, the dark parts of the image are drawn on the map as a shadow.

    Parameters
    ----------
    ax : Axes
        Axes to draw on.
    features : (C, H, W) array
        Features of one image, with C channels.
    max_channels : int, optional
        Number of channels to draw. By default, the largest absolute value over all channels is drawn.
    quantity : str, optional
        Name of the quantity that is drawn. It is written next to the colour bar.
    image : (H', W', 3) array, optional
        Image whose dark parts are drawn on the map, uint8 or float in [0, 1]. It is not used with `max_channels`.
    image_size : (int, int), optional
        Height and width of the area that the map covers, in pixels, including padding. The default is the size of
        `image`.
    offset : float, optional
        Position of the centre of a cell, as a fraction of the stride, as in `AnchorGenerator`.
    limits : (float, float), optional
        Values of the darkest and of the brightest colour. With the same limits, the colours of several plots can be
        compared. By default, the limits depend on the values.

    Returns
    -------
    Axes
        The axes `ax`.

    Raises
    ------
    ValueError
        If a shape is wrong, if `max_channels` is below 1, or if the limits are not ascending.
    """
    array = as_array("features", features, (None, None, None))
    low, high = (None, None) if limits is None else _check_limits(limits)
    if max_channels is not None:
        return channel_tiles(ax, array, max_channels, quantity, limits)
    if array.size == 0:
        return style.note(style.frame(ax), "no features")
    shown = ax.imshow(np.abs(array).max(axis=0), cmap=style.ACTIVATIONS, vmin=low, vmax=high, interpolation="nearest")
    style.color_bar(ax, shown, f"largest |{quantity}|")
    if image is not None:
        _draw_shadow(ax, style.check_image("image", image), array.shape[1:], image_size, offset)
    return style.frame(ax)


def _check_limits(limits: tuple[float, float]) -> tuple[float, float]:
    """Return the limits of a colour scale. Raise ValueError unless they are ascending."""
    if len(limits) != 2 or not limits[0] < limits[1]:
        raise ValueError(f"limits must be two ascending numbers, got {tuple(limits)}")
    return limits


def _draw_shadow(
    ax: Axes, image: np.ndarray, cells: tuple[int, ...], image_size: tuple[int, int] | None, offset: float
) -> None:
    """Draw the dark parts of an image on a map of `cells`, and keep the limits of the axes."""
    grey = image.mean(axis=2)  # (H, W)
    darkest, usual = np.percentile(grey, (1, 50))
    darkness = (usual - grey) / max(usual - darkest, 1e-6)  # 0 is the median, 1 the darkest pixel
    shadow = np.zeros((*grey.shape, 4))  # black, and transparent where the image is not dark
    shadow[..., 3] = _SHADOW * np.clip(2 * darkness - 0.5, 0, 1)
    height, width = np.divide(grey.shape, np.divide(image_size or grey.shape, cells))  # of the image, in cells
    limits = ax.get_xlim(), ax.get_ylim()
    ax.imshow(shadow, extent=(-offset, width - offset, height - offset, -offset))
    ax.set(xlim=limits[0], ylim=limits[1])


@checked
def channel_tiles(
    ax: Axes,
    channels: np.ndarray,
    max_channels: int,
    quantity: str,
    limits: tuple[float, float] | None = None,
) -> Axes:
    """Draw channels as a grid of tiles with a common colour scale.

    A gap of one cell separates neighbouring tiles. By default, the scale ranges from the 1st to the 99th percentile, so
    outliers do not darken all other values.

    Parameters
    ----------
    ax : Axes
        Axes to draw on.
    channels : (C, h, w) array
        C channels with h rows and w columns.
    max_channels : int
        Number of channels to draw, at least 1.
    quantity : str
        Name of the quantity that is drawn. It is written next to the colour bar.
    limits : (float, float), optional
        Values of the darkest and of the brightest colour.

    Returns
    -------
    Axes
        The axes `ax`.

    Raises
    ------
    ValueError
        If `max_channels` is below 1, or if the limits are not ascending.
    """
    if max_channels < 1:
        raise ValueError(f"max_channels must be at least 1, got {max_channels}")
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
    known = shown[np.isfinite(shown)]
    low, high = np.percentile(known, (1, 99)) if known.size else (0.0, 1.0)
    if limits is not None:
        low, high = _check_limits(limits)
    mesh = ax.imshow(sheet, cmap=style.ACTIVATIONS, vmin=low, vmax=high, interpolation="nearest")
    style.frame(ax).set_facecolor("white")
    ax.spines[:].set_visible(False)
    style.color_bar(ax, mesh, quantity)
    return ax


@checked
def sliding_windows(ax: Axes, size: tuple[int, int], kernel: int, stride: int = 1, padding: int = 0) -> Axes:
    """Draw the positions of a sliding window on a padded map.

    The first window and its right neighbour are outlined. A dot marks the centre of each window. Cells that belong to
    no window are shaded.

    Parameters
    ----------
    ax : Axes
        Axes to draw on.
    size : (int, int)
        Numbers of rows and columns of the map.
    kernel : int
        Side of the window, in cells, at least 1.
    stride : int, optional
        Distance between windows, in cells, at least 1.
    padding : int, optional
        Padding on each side, in cells, at least 0.

    Returns
    -------
    Axes
        The axes `ax`.

    Raises
    ------
    ValueError
        If the window is larger than the padded map, or if a number is out of range.
    """
    rows, columns = (_window_starts(side, kernel, stride, padding) for side in size)
    for row in range(-padding, size[0] + padding):
        for column in range(-padding, size[1] + padding):
            ax.add_patch(
                Rectangle(
                    (column, row),
                    1,
                    1,
                    edgecolor=style.GREY,
                    linewidth=0.6,
                    facecolor=_cell_color((row, column), size, (rows, columns), kernel),
                )
            )
    x, y = np.meshgrid(np.add(columns, kernel / 2), np.add(rows, kernel / 2))
    ax.plot(x.ravel(), y.ravel(), marker="o", color=style.INK, markersize=4, linestyle="none", zorder=4)
    looks = ((style.BLUE, "-", 0.0), (style.ORANGE, "--", 0.09))
    for left, (color, dashes, inset) in zip(columns, looks, strict=False):
        ax.add_patch(
            Rectangle(
                (left + inset, rows[0] + inset),
                kernel - 2 * inset,
                kernel - 2 * inset,
                fill=False,
                edgecolor=color,
                linestyle=dashes,
                linewidth=2.4,
                joinstyle="miter",
                zorder=3,
            )
        )
    style.frame(ax).set_facecolor("white")
    ax.spines[:].set_visible(False)
    ax.set(xlim=(-padding - 0.2, size[1] + padding + 0.2), ylim=(size[0] + padding + 0.2, -padding - 0.2))
    return ax


@checked
def windows_legend(ax: Axes) -> Axes:
    """Draw the legend of a `sliding_windows` plot under the axes.

    Parameters
    ----------
    ax : Axes
        Axes to draw on.

    Returns
    -------
    Axes
        The axes `ax`.
    """
    handles = [
        Line2D([], [], color=style.BLUE, linewidth=2.4, label="first window"),
        Line2D([], [], color=style.ORANGE, linewidth=2.4, linestyle="--", label="next window"),
        Line2D([], [], color=style.INK, marker="o", markersize=4, linestyle="none", label="centre of each window"),
        Patch(facecolor="white", edgecolor=style.GREY, linewidth=0.6, label="padding"),
        Patch(facecolor=_UNCOVERED, edgecolor=style.GREY, linewidth=0.6, label="in no window"),
    ]
    style.legend_below(ax, handles, columns=2)
    return ax


@checked
def cells_and_pixels(
    ax: Axes, layers: Sequence[Layer], pixels: int, cell: int | None = None, pixel: int | None = None
) -> Axes:
    """Draw a row of pixels and, above it, a row of cells for each layer.

    Each cell is above the centre of its receptive field. Lines connect `cell` to all cells and pixels in its receptive
    field, and `pixel` to all cells that depend on it. Padding in the receptive field is drawn as hollow squares.

    Parameters
    ----------
    ax : Axes
        Axes to draw on.
    layers : sequence of (int, int, int)
        Kernel size, stride and padding of each layer.
    pixels : int
        Number of pixels in the row, at least 1.
    cell : int, optional
        Index of a cell of the last layer.
    pixel : int, optional
        Index of a pixel.

    Returns
    -------
    Axes
        The axes `ax`.

    Raises
    ------
    ValueError
        If the window of a layer is larger than the padded map that it slides over, or if a number is out of range.
    """
    if pixels < 1:
        raise ValueError(f"pixels must be at least 1, got {pixels}")
    counts, centres = _map_centres(layers, pixels)
    for name, index, count in (("cell", cell, counts[-1]), ("pixel", pixel, counts[0])):
        if index is not None and not 0 <= index < count:
            raise ValueError(f"{name} must be in 0 .. {count - 1}, got {index}")
    handles = []
    if cell is not None:
        _draw_connections(ax, _connections_down(layers, cell, counts), centres, counts, style.BLUE)
        handles.append(Line2D([], [], color=style.BLUE, label=f"receptive field of cell {cell} of the last map"))
    if pixel is not None:
        _draw_connections(ax, _connections_up(layers, pixel, counts), centres, counts, style.VERMILION)
        handles.append(Line2D([], [], color=style.VERMILION, label=f"cells that depend on pixel {pixel}"))
    for level, (start, step) in enumerate(centres):
        at = start + step * np.arange(counts[level])
        ax.plot(at, np.full(len(at), level), marker="s", color=style.INK, markersize=4.5, linestyle="none", zorder=3)
    names = [f"map {level}: {counts[level]} cells" for level in range(1, len(counts))]
    ax.set_yticks(range(len(counts)), [f"{pixels} pixels", *names])
    style.graph(ax, "column of the pixel", "")
    ax.grid(False, axis="y")
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(-0.3, len(counts) - 0.7)
    if handles:
        style.legend_right(ax, handles)
    return ax


@checked
def influence(ax: Axes, gradient: np.ndarray, fields: Mapping[str, Sequence[float]] | None = None) -> Axes:
    """Draw the influence of each pixel on a cell.

    The influence of a pixel is its absolute gradient, divided by the largest absolute gradient. The pixel in row 0,
    column 0 covers 0 to 1 in x and in y.

    Parameters
    ----------
    ax : Axes
        Axes to draw on.
    gradient : (H, W) array
        Gradient of the value of a cell with respect to each pixel.
    fields : mapping of str to (4,) sequence, optional
        Maps names, such as "receptive field", to boxes `x1, y1, x2, y2` in pixels. At most four are drawn, with a
        legend.

    Returns
    -------
    Axes
        The axes `ax`.

    Raises
    ------
    ValueError
        If the gradient is not finite or a shape is wrong.
    """
    array = np.abs(as_array("gradient", gradient, (None, None)).astype(float))
    largest = float(array.max(initial=0.0))
    if not np.isfinite(largest):
        raise ValueError(f"gradient must be finite, got {largest}")
    height, width = array.shape
    shown = ax.imshow(
        array / (largest or 1.0),
        cmap=style.ACTIVATIONS,
        vmin=0,
        vmax=1,
        interpolation="nearest",
        extent=(0, width, height, 0),
    )
    handles = []
    for (name, box), (color, dashes) in zip((fields or {}).items(), _FIELD_LOOKS, strict=False):
        style.edged_box(ax, as_boxes(f"fields[{name!r}]", [box])[0], color, dashes)
        handles.append(
            Line2D(
                [],
                [],
                color=color,
                linestyle=dashes,
                linewidth=style.LINE_WIDTH,
                label=name,
                path_effects=style.outline(style.LINE_WIDTH),
            )
        )
    style.frame(ax)
    ax.set(xlim=(0, width), ylim=(height, 0))
    style.color_bar(ax, shown, "|gradient| / maximum")
    if handles:
        style.legend_below(ax, handles, columns=1)
    return ax


def _window_starts(side: int, kernel: int, stride: int, padding: int) -> range:
    """Return the start of each window along one side. The first window starts at -padding."""
    if kernel < 1 or stride < 1 or padding < 0:
        raise ValueError(f"kernel and stride must be at least 1, and padding at least 0, got {kernel, stride, padding}")
    if kernel > side + 2 * padding:
        raise ValueError(
            f"kernel must be at most {side + 2 * padding} (side {side} with padding {padding}), got {kernel}"
        )
    return range(-padding, side + padding - kernel + 1, stride)


def _cell_color(cell: tuple[int, int], size: tuple[int, int], windows: tuple[range, range], kernel: int) -> str:
    """Return the colour of a cell: white for padding, a pale colour outside all windows, and otherwise grey."""
    if not all(0 <= index < side for index, side in zip(cell, size, strict=True)):
        return "white"
    read = (
        any(first <= index < first + kernel for first in firsts) for index, firsts in zip(cell, windows, strict=True)
    )
    return "#dfe3e8" if all(read) else _UNCOVERED


def _map_centres(layers: Sequence[Layer], pixels: int) -> tuple[list[int], list[tuple[float, int]]]:
    """Return two lists about the row of pixels and each map: number of cells, and (first centre, spacing)."""
    counts, centres = [pixels], [(0.0, 1)]
    for kernel, stride, padding in layers:
        start, step = centres[-1]
        counts.append(len(_window_starts(counts[-1], kernel, stride, padding)))
        centres.append((start + ((kernel - 1) / 2 - padding) * step, step * stride))
    return counts, centres


def _connections_down(layers: Sequence[Layer], cell: int, counts: Sequence[int]) -> list[tuple[int, int, int]]:
    """Return (map, cell of the map, cell below) for each connection from a cell of the last map down to the pixels.

    The cell below may lie in the padding. A cell in the padding has no connections further down.
    """
    connections, cells = [], {cell}
    for level in range(len(layers), 0, -1):
        kernel, stride, padding = layers[level - 1]
        steps = [(level, one, one * stride - padding + k) for one in sorted(cells) for k in range(kernel)]
        connections += steps
        cells = {below for _, _, below in steps if 0 <= below < counts[level - 1]}
    return connections


def _connections_up(layers: Sequence[Layer], pixel: int, counts: Sequence[int]) -> list[tuple[int, int, int]]:
    """Return (map, cell of the map, cell below) for each connection from a pixel up to the last map."""
    connections, cells = [], {pixel}
    for level, (kernel, stride, padding) in enumerate(layers, start=1):
        steps = [
            (level, one, below)
            for one in range(counts[level])
            for below in sorted(cells)
            if 0 <= below - one * stride + padding < kernel
        ]
        connections += steps
        cells = {one for _, one, _ in steps}
    return connections


def _draw_connections(
    ax: Axes,
    connections: Sequence[tuple[int, int, int]],
    centres: Sequence[tuple[float, int]],
    counts: Sequence[int],
    color: str,
) -> None:
    """Draw connections between maps and mark the connected cells. Cells in the padding are hollow."""

    def x(level: int, cell: int) -> float:
        start, step = centres[level]
        return start + step * cell

    segments = [[(x(level, one), level), (x(level - 1, below), level - 1)] for level, one, below in connections]
    ax.add_collection(LineCollection(segments, colors=color, linewidths=0.9, alpha=0.75, zorder=2))
    hollow = sorted({(level - 1, below) for level, _, below in connections if not 0 <= below < counts[level - 1]})
    ax.plot(
        [x(level, cell) for level, cell in hollow],
        [level for level, _ in hollow],
        marker="s",
        markersize=4.5,
        markerfacecolor="white",
        markeredgecolor=color,
        linestyle="none",
        zorder=3,
    )
    touched = sorted(
        {(level, one) for level, one, _ in connections}
        | {(level - 1, below) for level, _, below in connections if 0 <= below < counts[level - 1]}
    )
    ax.plot(
        [x(level, cell) for level, cell in touched],
        [level for level, _ in touched],
        marker="s",
        markersize=6.5,
        color=color,
        linestyle="none",
        zorder=3.5,
    )

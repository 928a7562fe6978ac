"""Plots of feature maps, of windows on them, and of the pixels that a cell sees.

Draws a feature map as its mean or channel by channel, the windows of a convolution, the cells and pixels that are
connected, and the influence of each pixel on a cell.

Feature maps are drawn in cells: cell (row, column) is centred on y = row, x = column. A layer is (kernel, stride,
padding), the three numbers that a convolution and a pooling have in common.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from rcnn.plot import style
from rcnn.plot.style import Dashes, as_array, as_boxes

Layer = tuple[int, int, int]

_FIELD_LOOKS: tuple[tuple[str, Dashes], ...] = (
    (style.SKY, "-"),
    (style.ORANGE, "--"),
    (style.GREEN, ":"),
    (style.PURPLE, "-."),
)
_UNSEEN = "#e8c4ae"  # a pale vermilion


def feature_map(ax: Axes, features: np.ndarray, max_channels: int | None = None, quantity: str = "activation") -> Axes:
    """One image's `features` (C, H, W): the mean absolute activation of each cell, or the first channels side by side.

    `max_channels` is the number of channels to show; None asks for the mean. `quantity` is what the colour bar calls
    the values.
    """
    array = as_array("features", features, (None, None, None))
    if max_channels is not None:
        return channel_tiles(ax, array, max_channels, quantity)
    if array.size == 0:
        return style.note(style.frame(ax), "no features")
    shown = ax.imshow(np.abs(array).mean(axis=0), cmap=style.ACTIVATIONS, interpolation="nearest")
    style.color_bar(ax, shown, f"mean |{quantity}|")
    return style.frame(ax)


def channel_tiles(ax: Axes, channels: np.ndarray, max_channels: int, quantity: str) -> Axes:
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


def sliding_windows(ax: Axes, size: tuple[int, int], kernel: int, stride: int = 1, padding: int = 0) -> Axes:
    """Where a window of `kernel` x `kernel` stops on a map of `size` (rows, columns), with `padding` cells around it.

    The first window and the next one in its row are outlined, a dot is the middle of each, and cells that lie in no
    window are shaded. Raises ValueError where the window does not fit.
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


def windows_legend(ax: Axes) -> Axes:
    """`ax` with a legend under it that says what `sliding_windows` draws."""
    handles = [
        Line2D([], [], color=style.BLUE, linewidth=2.4, label="the first window"),
        Line2D([], [], color=style.ORANGE, linewidth=2.4, linestyle="--", label="the next one"),
        Line2D([], [], color=style.INK, marker="o", markersize=4, linestyle="none", label="middle of each window"),
        Patch(facecolor="white", edgecolor=style.GREY, linewidth=0.6, label="padding"),
        Patch(facecolor=_UNSEEN, edgecolor=style.GREY, linewidth=0.6, label="in no window"),
    ]
    style.legend_below(ax, handles, columns=2)
    return ax


def cells_and_pixels(
    ax: Axes, layers: Sequence[Layer], pixels: int, cell: int | None = None, pixel: int | None = None
) -> Axes:
    """One row of `pixels`, above it what each of `layers` makes of it: every cell over the middle of what it reads.

    Lines lead from a `cell` of the last layer to all that it sees, and from a `pixel` to all that see it. Padding that
    the cell reads is hollow. Raises ValueError where a window does not fit, or for a cell or a pixel that is not there.
    """
    counts, centres = _map_centres(layers, pixels)
    for name, index, count in (("cell", cell, counts[-1]), ("pixel", pixel, counts[0])):
        if index is not None and not 0 <= index < count:
            raise ValueError(f"{name} is {index}; there are {count}, from 0 to {count - 1}")
    handles = []
    if cell is not None:
        _draw_ways(ax, _ways_down(layers, cell, counts), centres, counts, style.BLUE)
        handles.append(Line2D([], [], color=style.BLUE, label=f"what cell {cell} of the last map sees"))
    if pixel is not None:
        _draw_ways(ax, _ways_up(layers, pixel, counts), centres, counts, style.VERMILION)
        handles.append(Line2D([], [], color=style.VERMILION, label=f"which cells see pixel {pixel}"))
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


def influence(ax: Axes, gradient: np.ndarray, fields: Mapping[str, Sequence[float]] | None = None) -> Axes:
    """How much each pixel moves a cell, (H, W), the size of a gradient: as a share of the largest.

    `fields` are boxes `x1, y1, x2, y2` in pixels, drawn over it and named in a legend. A pixel in row 0, column 0
    covers 0 to 1 in x and in y.
    """
    array = np.abs(as_array("gradient", gradient, (None, None)).astype(float))
    largest = float(array.max(initial=0.0))
    if not np.isfinite(largest):
        raise ValueError(f"gradient holds {largest}; it must be finite")
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
    style.color_bar(ax, shown, "|gradient|, share of the largest")
    if handles:
        style.legend_below(ax, handles, columns=1)
    return ax


def _window_starts(side: int, kernel: int, stride: int, padding: int) -> range:
    """Where the windows along one side begin, the first at -padding."""
    if kernel > side + 2 * padding:
        raise ValueError(f"a window of {kernel} does not fit a side of {side} with padding {padding}")
    return range(-padding, side + padding - kernel + 1, stride)


def _cell_color(place: tuple[int, int], size: tuple[int, int], windows: tuple[range, range], kernel: int) -> str:
    """White for padding, pale where no window reads the cell, and grey for all others."""
    if not all(0 <= index < side for index, side in zip(place, size, strict=True)):
        return "white"
    read = (
        any(first <= index < first + kernel for first in firsts) for index, firsts in zip(place, windows, strict=True)
    )
    return "#dfe3e8" if all(read) else _UNSEEN


def _map_centres(layers: Sequence[Layer], pixels: int) -> tuple[list[int], list[tuple[float, int]]]:
    """For the pixels and each map: how many cells, and (where the first one's middle is, pixels from cell to cell)."""
    counts, centres = [pixels], [(0.0, 1)]
    for kernel, stride, padding in layers:
        start, step = centres[-1]
        counts.append(len(_window_starts(counts[-1], kernel, stride, padding)))
        centres.append((start + ((kernel - 1) / 2 - padding) * step, step * stride))
    return counts, centres


def _ways_down(layers: Sequence[Layer], cell: int, counts: Sequence[int]) -> list[tuple[int, int, int]]:
    """(map, cell in it, cell below) for every step from a cell of the last map to the pixels.

    A cell below may lie in the padding, from which no step leads on.
    """
    ways, cells = [], {cell}
    for level in range(len(layers), 0, -1):
        kernel, stride, padding = layers[level - 1]
        steps = [(level, one, one * stride - padding + k) for one in sorted(cells) for k in range(kernel)]
        ways += steps
        cells = {below for _, _, below in steps if 0 <= below < counts[level - 1]}
    return ways


def _ways_up(layers: Sequence[Layer], pixel: int, counts: Sequence[int]) -> list[tuple[int, int, int]]:
    """The same from a pixel up to all cells that see it."""
    ways, cells = [], {pixel}
    for level, (kernel, stride, padding) in enumerate(layers, start=1):
        steps = [
            (level, one, below)
            for one in range(counts[level])
            for below in sorted(cells)
            if 0 <= below - one * stride + padding < kernel
        ]
        ways += steps
        cells = {one for _, one, _ in steps}
    return ways


def _draw_ways(
    ax: Axes,
    ways: Sequence[tuple[int, int, int]],
    centres: Sequence[tuple[float, int]],
    counts: Sequence[int],
    color: str,
) -> None:
    """Draws lines from map to map, and marks the cells that they touch, hollow where these are padding."""

    def x(level: int, cell: int) -> float:
        start, step = centres[level]
        return start + step * cell

    segments = [[(x(level, one), level), (x(level - 1, below), level - 1)] for level, one, below in ways]
    ax.add_collection(LineCollection(segments, colors=color, linewidths=0.9, alpha=0.75, zorder=2))
    hollow = sorted({(level - 1, below) for level, _, below in ways if not 0 <= below < counts[level - 1]})
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
        {(level, one) for level, one, _ in ways}
        | {(level - 1, below) for level, _, below in ways if 0 <= below < counts[level - 1]}
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

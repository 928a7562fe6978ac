"""Pictures of a detector's stages. Each function is `(ax, arrays..., options) -> ax`.

Boxes and anchors are (N, 4), `x1, y1, x2, y2` in pixels. A picture is drawn so that its pixel in row 0, column 0
covers 0 to 1 in x and in y: a box (0, 0, 1, 1) is that pixel's edge.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator

from rcnn.plot import style
from rcnn.plot.style import LINE_WIDTH, THIN_LINE, as_array, as_boxes
from rcnn.plot.tags import Tags, tag_texts


def image(ax: Axes, picture: np.ndarray, dimmed: bool = False) -> Axes:
    """`picture` (H, W, 3) or (H, W), uint8 or float in [0, 1]; `dimmed` where other drawings on it matter more."""
    array = np.asarray(picture)
    if array.ndim == 2:
        array = np.repeat(array[:, :, None], 3, axis=2)  # (H, W, 3)
    array = as_array("picture", array, (None, None, 3))
    if array.size == 0:
        raise ValueError(f"picture has the shape {array.shape}; it must have at least one pixel")
    shown = array / 255.0 if array.dtype == np.uint8 else array.astype(np.float64)
    low, high = shown.min(), shown.max()
    if not (low >= -1e-6 and high <= 1 + 1e-6):
        raise ValueError(f"picture has values from {low:g} to {high:g}; floats lie between 0 and 1, else it is uint8")
    height, width = shown.shape[:2]
    black, white = style.DIMMED if dimmed else (0.0, 1.0)
    ax.imshow(np.clip(black + (white - black) * shown, 0, 1), extent=(0, width, height, 0))
    ax.set(xlim=(0, width), ylim=(height, 0))
    return style.frame(ax)


def boxes(
    ax: Axes,
    boxes: np.ndarray,
    labels: np.ndarray | None = None,
    scores: np.ndarray | None = None,
    class_names: Sequence[str] | None = None,
    color: str | None = None,
    linestyle: str = "-",
) -> Axes:
    """`boxes` (N, 4), tagged with their class and score where `labels` (N,) or `scores` (N,) are given.

    A box has the colour of its label unless `color` says otherwise. `class_names[label]` is what a tag calls the class;
    without names it is the number.
    """
    corners = as_boxes("boxes", boxes)
    numbers = None if labels is None else as_array("labels", labels, (len(corners),)).astype(int)
    values = None if scores is None else as_array("scores", scores, (len(corners),))
    colors = [color or (style.SKY if numbers is None else style.label_color(numbers[i])) for i in range(len(corners))]
    for corner, edge in zip(corners, colors, strict=True):
        _rectangle(ax, corner, edge, linestyle)
    if len(corners) and not (numbers is None and values is None):
        ax.add_artist(Tags(corners, tag_texts(len(corners), numbers, values, class_names), colors))
    return _pixels(ax)


_draw_boxes = boxes  # for functions that have an argument of that name


def cell_anchors(ax: Axes, cell_anchors: np.ndarray, stride: float | tuple[float, float] | None = None) -> Axes:
    """The anchors (k, 4) of one cell around its centre, coloured by aspect ratio, with axes in pixels.

    `stride` (rows, columns) draws the area that belongs to the cell, for comparison.
    """
    anchors = as_boxes("cell_anchors", cell_anchors)
    handles = _draw_by_ratio(ax, anchors, LINE_WIDTH)
    if stride is not None:
        rows, columns = np.broadcast_to(np.asarray(stride, float), 2)
        ax.add_patch(Rectangle((-columns / 2, -rows / 2), columns, rows, facecolor="#c4c4c4", edgecolor="none"))
        handles.append(Patch(facecolor="#c4c4c4", label=f"cell, {rows:g} \u00d7 {columns:g}"))
    ax.plot(0, 0, marker="+", color=style.INK, markersize=7, linestyle="none")
    _pixels(ax)
    style.graph(ax, "x from the centre, pixels", "y from the centre, pixels")
    ax.xaxis.set_major_locator(MaxNLocator(7))
    ax.yaxis.set_major_locator(MaxNLocator(7))
    if handles:
        style.legend_right(ax, handles)
    return ax


def anchor_level(
    ax: Axes, picture: np.ndarray, anchors: np.ndarray, near: tuple[float, float] | None = None, max_dots: int = 32
) -> Axes:
    """The centres of a level's `anchors` (A, 4) over `picture`, and all anchors of one cell.

    The cell is the one whose centre is nearest to the point `near` (x, y), or to the middle of the picture. The axes
    grow where its anchors reach beyond the picture. Of a level with more than `max_dots` rows or columns, only every
    second, third, ... is drawn, and the x axis says so.
    """
    level = as_boxes("anchors", anchors)
    image(ax, picture, dimmed=True)
    if len(level) == 0:
        return ax
    height, width = np.asarray(picture).shape[:2]
    centers = _centers(level)
    per_cell = int((np.abs(centers - centers[0]).max(axis=1) < 1e-3).sum())
    cells = centers[::per_cell]  # (cells, 2)
    wanted = (width / 2, height / 2) if near is None else near
    cell = int(((cells - wanted) ** 2).sum(axis=1).argmin())
    _dots(ax, _thinned(ax, cells, max_dots), "white", size=2.5)
    chosen = level[cell * per_cell : (cell + 1) * per_cell]  # (k, 4)
    _draw_by_ratio(ax, chosen, THIN_LINE)
    left, top = np.minimum(chosen[:, :2].min(axis=0), 0)
    right, bottom = np.maximum(chosen[:, 2:].max(axis=0), (width, height))
    ax.set(xlim=(left, right), ylim=(bottom, top))
    return ax


def objectness(
    ax: Axes,
    picture: np.ndarray,
    objectness: np.ndarray,
    image_size: tuple[int, int] | None = None,
    offset: float = 0.0,
) -> Axes:
    """How probable an object is at each cell, as colour over `picture`.

    `objectness` are probabilities (H, W), or (k, H, W) of which each cell shows its best. `image_size` is the (height,
    width) in pixels that the map covers, padding included; without it, the picture's own. `offset` is where in its cell
    an anchor's centre lies, as in the anchor generator; a cell is drawn around that centre.
    """
    array = np.asarray(objectness, float)
    best = as_array("objectness", array.max(axis=0, initial=0) if array.ndim == 3 else array, (None, None))  # (H, W)
    if array.size and not (array.min() >= 0 and array.max() <= 1):
        raise ValueError(f"objectness has values from {array.min():g} to {array.max():g}; probabilities are wanted")
    image(ax, picture, dimmed=True)
    if best.size == 0:
        return ax
    size = np.asarray(picture).shape[:2] if image_size is None else image_size
    y, x = (_cell_edges(n, extent, offset) for n, extent in zip(best.shape, size, strict=True))
    mesh = ax.pcolormesh(x, y, best, cmap=style.VALUES, vmin=0, vmax=1, edgecolors="none", linewidth=0)
    mesh.set(alpha=0.3 + 0.5 * best)  # improbable cells let the picture through
    height, width = np.asarray(picture).shape[:2]
    ax.set(xlim=(0, width), ylim=(height, 0))
    style.color_bar(ax, mesh, "objectness")
    return ax


def proposals(ax: Axes, picture: np.ndarray, boxes: np.ndarray, scores: np.ndarray, top: int = 100) -> Axes:
    """The `top` best of `boxes` (P, 4), coloured by their `scores` (P,) in [0, 1], the best drawn last."""
    corners = as_boxes("boxes", boxes)
    values = as_array("scores", scores, (len(corners),)).astype(float)
    best = np.argsort(-values, kind="stable")[:top][::-1]
    image(ax, picture, dimmed=True)
    lines = LineCollection(style.outlines(corners[best]), array=values[best], cmap=style.VALUES, clim=(0, 1),
                           linewidths=THIN_LINE, joinstyle="miter")  # fmt: skip
    ax.add_collection(lines, autolim=False)
    style.color_bar(ax, lines, "score")
    return ax


def matched_anchors(
    ax: Axes, picture: np.ndarray, anchors: np.ndarray, matches: np.ndarray, gt_boxes: np.ndarray
) -> Axes:
    """What training makes of each anchor: positive ones as boxes, the centres of negative and ignored ones as dots.

    `matches` (A,) holds the index of an anchor's ground truth in `gt_boxes` (G, 4), -1 for negative, -2 for ignored.
    """
    corners, objects = as_boxes("anchors", anchors), as_boxes("gt_boxes", gt_boxes)
    matched = as_array("matches", matches, (len(corners),))
    wrong = np.flatnonzero((matched < -2) | (matched >= len(objects)))
    if wrong.size:
        raise ValueError(f"matches[{wrong[0]}] is {matched[wrong[0]]}; allowed are -2 to {len(objects) - 1}")
    image(ax, picture, dimmed=True)
    positive, negative, ignored = corners[matched >= 0], corners[matched == -1], corners[matched == -2]
    _dots(ax, _centers(negative), "#bdbdbd", size=2.5)
    _dots(ax, _centers(ignored), style.ORANGE, size=7)
    ax.add_collection(LineCollection(style.outlines(positive), colors=style.SKY, linewidths=THIN_LINE), autolim=False)
    style.legend_below(ax, [
        Line2D([], [], color=style.SKY, label=f"positive: {len(positive):,}"),
        _dot_key(style.ORANGE, 4, f"ignored: {len(ignored):,}"),
        _draw_ground_truth(ax, objects),
        _dot_key("#a0a0a0", 3, f"negative: {len(negative):,}"),
    ], columns=2)  # fmt: skip
    return ax


def detections(
    ax: Axes,
    picture: np.ndarray,
    boxes: np.ndarray,
    scores: np.ndarray | None,
    labels: np.ndarray,
    class_names: Sequence[str] | None = None,
    gt_boxes: np.ndarray | None = None,
) -> Axes:
    """The detected `boxes` (D, 4) over `picture`, tagged with class and score; the ground truth dashed under them.

    `scores` may be None where the tags are to name the class alone.
    """
    image(ax, picture)
    if gt_boxes is not None:
        style.legend_below(ax, [_draw_ground_truth(ax, as_boxes("gt_boxes", gt_boxes))], columns=1)
    return _draw_boxes(ax, boxes, labels, scores, class_names)


def _rectangle(
    ax: Axes, corner: np.ndarray, color: str, linestyle: str = "-", width: float = LINE_WIDTH
) -> None:
    x1, y1, x2, y2 = corner
    ax.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=color, linestyle=linestyle,
                           linewidth=width, joinstyle="miter", path_effects=style.outline(width),
                           zorder=3))  # fmt: skip


def _draw_ground_truth(ax: Axes, gt_boxes: np.ndarray) -> Line2D:
    """Draws `gt_boxes` (G, 4) dashed and returns a legend's handle."""
    for corner in gt_boxes:
        _rectangle(ax, corner, "white", "--", THIN_LINE)
    return Line2D([], [], color="white", linestyle="--", linewidth=THIN_LINE, path_effects=style.outline(THIN_LINE),
                  label=f"ground truth: {len(gt_boxes):,}")  # fmt: skip


def _dot_key(color: str, size: float, label: str) -> Line2D:
    return Line2D([], [], color=color, linestyle="none", marker="o", markersize=size, label=label)


def _centers(corners: np.ndarray) -> np.ndarray:
    return np.asarray((corners[:, :2] + corners[:, 2:]) / 2)  # (N, 2)


def _dots(ax: Axes, points: np.ndarray, color: str, size: float) -> None:
    """Dots at `points` (N, 2), `size` in square points; one at the border is drawn whole."""
    ax.scatter(points[:, 0], points[:, 1], s=size, color=color, linewidths=0, clip_on=False, zorder=2)


def _thinned(ax: Axes, cells: np.ndarray, max_dots: int) -> np.ndarray:
    """Of the centres `cells` (cells, 2), every n-th row and column, so that at most `max_dots` of either remain."""
    x, y = (np.unique(cells[:, axis].round(3), return_inverse=True)[1] for axis in (0, 1))
    step = -(-int(max(x.max(), y.max()) + 1) // max_dots)
    if step > 1:
        ax.set_xlabel(f"dots: 1 row and column in {step}", fontsize=style.TEXT_SIZE, color=style.GREY, loc="left")
    return np.asarray(cells[(x % step == step // 2) & (y % step == step // 2)])


def _draw_by_ratio(ax: Axes, anchors: np.ndarray, width: float) -> list[Artist]:
    """Draws `anchors` (k, 4), one colour per aspect ratio, and returns a legend's handles by rising ratio."""
    ratios = _nominal_ratios(anchors)
    color_of = {ratio: style.PALETTE[i % len(style.PALETTE)] for i, ratio in enumerate(sorted(set(ratios)))}
    for corner, ratio in zip(anchors, ratios, strict=True):
        _rectangle(ax, corner, color_of[ratio], width=width)
    return [Line2D([], [], color=color, label=f"height / width \u2248 {ratio:.1f}", path_effects=style.outline(2.0))
            for ratio, color in color_of.items()]  # fmt: skip


def _nominal_ratios(anchors: np.ndarray) -> list[float]:
    """Height / width of each anchor (k, 4), where anchors of about one ratio share that of the largest of them.

    Anchors are rounded to whole pixels, which makes 0.48 and 0.52 of two anchors that are both meant to be 0.5.
    """
    sides = np.maximum(anchors[:, 2:] - anchors[:, :2], 1e-6)
    ratios = sides[:, 1] / sides[:, 0]
    nominal = ratios.copy()
    for i in np.argsort(sides.prod(axis=1), kind="stable"):  # the largest comes last and has the last word
        nominal[np.abs(np.log(ratios / ratios[i])) < 0.2] = ratios[i]
    return [float(ratio) for ratio in nominal]


def _pixels(ax: Axes) -> Axes:
    """`ax` with limits around what was drawn, where no picture has set them."""
    if ax.get_autoscale_on():
        ax.autoscale_view()
        style.frame(ax)
    return ax


def _cell_edges(count: int, extent: int, offset: float) -> np.ndarray:
    """The borders (count + 1,) of cells around centres at (i + offset) * stride; the first and last fill `extent`."""
    stride = extent / count
    inner = (np.arange(1, count) - 0.5 + offset) * stride
    return np.concatenate([[0.0], inner, [extent]])

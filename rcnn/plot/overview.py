"""Plots of the stages of a detector, and of one complete forward pass.

The plots show boxes, anchors, objectness, proposals, matched anchors, detections, and the number of boxes after each
step. `trace_strip` and `stage_figures` draw all stages of a trace.

Boxes and anchors are arrays of shape (N, 4) with the columns `x1, y1, x2, y2`, in pixels. The pixel in row 0, column 0
covers 0 to 1 in x and in y, so the box (0, 0, 1, 1) is the outline of that pixel.

A trace is an `rcnn.trace.Trace`, or any object with the same attributes. Many stages have several feature maps or
several RoIs. For these stages, the plots show only the RoI with the highest object probability, and only the pyramid
level from which this RoI is pooled.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from rcnn._validate import shown
from rcnn.plot import style
from rcnn.plot.arguments import checked
from rcnn.plot.features import feature_map
from rcnn.plot.pooling import pooled_features, sample_points
from rcnn.plot.style import LINE_WIDTH, THIN_LINE, as_array, as_boxes
from rcnn.plot.tags import Tags, tag_texts
from rcnn.trace import Trace

_FUNNEL_START = 0.5  # x value at which the bars start; below 1, so that a count of 1 has a bar


@checked
def boxes(
    ax: Axes,
    boxes: np.ndarray,
    labels: np.ndarray | None = None,
    scores: np.ndarray | None = None,
    class_names: Sequence[str] | None = None,
    color: str | None = None,
    linestyle: str = "-",
) -> Axes:
    """Draw boxes, and tag them with class and score if these are given.

    Parameters
    ----------
    ax : Axes
        Axes to draw on.
    boxes : (N, 4) array
        N boxes, in pixels.
    labels : (N,) array, optional
        Label of each box. It determines the colour of the box.
    scores : (N,) array, optional
        Score of each box.
    class_names : sequence of str, optional
        Class names, indexed by label; if omitted, labels are shown as numbers.
    color : str, optional
        Colour of all boxes, instead of the colours of the classes.
    linestyle : str, optional
        Line style, as in matplotlib.

    Returns
    -------
    Axes
        The axes `ax`.

    Raises
    ------
    ValueError
        If a shape is wrong, if a coordinate is not finite, or if a label has no name.
    """
    corners = as_boxes("boxes", boxes)
    numbers = None if labels is None else as_array("labels", labels, (len(corners),)).astype(int)
    values = None if scores is None else as_array("scores", scores, (len(corners),))
    colors = [color or (style.SKY if numbers is None else style.label_color(numbers[i])) for i in range(len(corners))]
    for corner, edge in zip(corners, colors, strict=True):
        style.edged_box(ax, corner, edge, linestyle)
    if len(corners) and not (numbers is None and values is None):
        ax.add_artist(Tags(corners, tag_texts(len(corners), numbers, values, class_names), colors))
    return _pixels(ax)


_draw_boxes = boxes  # for functions with an argument named `boxes`


@checked
def cell_anchors(ax: Axes, cell_anchors: np.ndarray, stride: float | tuple[float, float] | None = None) -> Axes:
    """Draw the anchors of one cell around its centre, coloured by aspect ratio.

    Parameters
    ----------
    ax : Axes
        Axes to draw on.
    cell_anchors : (k, 4) array
        The k anchors of the cell, in pixels relative to its centre.
    stride : float or (float, float), optional
        Stride in pixels, or a pair of strides (rows, columns). If given, the area of the cell is drawn for comparison.

    Returns
    -------
    Axes
        The axes `ax`.
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


@checked
def anchor_level(
    ax: Axes, image: np.ndarray, anchors: np.ndarray, near: tuple[float, float] | None = None, max_dots: int = 32
) -> Axes:
    """Draw the anchor centres of a pyramid level over an image, and all anchors of one cell.

    If these anchors extend beyond the image, the limits of the axes include them.

    Parameters
    ----------
    ax : Axes
        Axes to draw on.
    image : (H, W, 3) array
        Image, uint8 or float in [0, 1].
    anchors : (A, 4) array
        The A anchors of the level, in pixels.
    near : (float, float), optional
        Point (x, y) in pixels. The anchors are drawn for the cell whose centre is nearest to this point. The default is
        the middle of the image.
    max_dots : int, optional
        Largest number of rows and columns of dots, at least 1. If there are more, only every n-th is drawn, and the
        label of the x axis states n.

    Returns
    -------
    Axes
        The axes `ax`.

    Raises
    ------
    ValueError
        If a shape is wrong or `max_dots` is below 1.
    """
    level = as_boxes("anchors", anchors)
    if max_dots < 1:
        raise ValueError(f"max_dots must be at least 1, got {max_dots}")
    style.image(ax, image, dimmed=True)
    if len(level) == 0:
        return ax
    height, width = np.asarray(image).shape[:2]
    centers = _centers(level)
    per_cell = int((np.abs(centers - centers[0]).max(axis=1) < 1e-3).sum())
    cells = centers[::per_cell]  # (cells, 2)
    target = (width / 2, height / 2) if near is None else near
    cell = int(((cells - target) ** 2).sum(axis=1).argmin())
    _dots(ax, _thinned(ax, cells, max_dots), "white", size=2.5)
    chosen = level[cell * per_cell : (cell + 1) * per_cell]  # (k, 4)
    _draw_by_ratio(ax, chosen, THIN_LINE)
    left, top = np.minimum(chosen[:, :2].min(axis=0), 0)
    right, bottom = np.maximum(chosen[:, 2:].max(axis=0), (width, height))
    ax.set(xlim=(left, right), ylim=(bottom, top))
    return ax


@checked
def objectness(
    ax: Axes,
    image: np.ndarray,
    objectness: np.ndarray,
    image_size: tuple[int, int] | None = None,
    offset: float = 0.0,
) -> Axes:
    """Draw the probability of an object at each cell as colour over an image.

    Parameters
    ----------
    ax : Axes
        Axes to draw on.
    image : (H, W, 3) array
        Image, uint8 or float in [0, 1].
    objectness : (H', W') or (k, H', W') array
        Probabilities, in [0, 1], for H' rows and W' columns of cells. If each cell has k anchors, the highest of their
        probabilities is shown.
    image_size : (int, int), optional
        Height and width of the area that the map covers, in pixels, including padding. The default is the size of
        `image`.
    offset : float, optional
        Position of the anchor centre, as a fraction of the stride, as in `AnchorGenerator`. Each cell is drawn around
        this centre.

    Returns
    -------
    Axes
        The axes `ax`.

    Raises
    ------
    ValueError
        If the shape is wrong or a value is outside [0, 1].
    """
    array = np.asarray(objectness, float)
    best = as_array("objectness", array.max(axis=0, initial=0) if array.ndim == 3 else array, (None, None))  # (H, W)
    if array.size and not (array.min() >= 0 and array.max() <= 1):
        raise ValueError(f"objectness must be in [0, 1], got values from {array.min():g} to {array.max():g}")
    style.image(ax, image, dimmed=True)
    if best.size == 0:
        return ax
    size = np.asarray(image).shape[:2] if image_size is None else image_size
    y, x = (_cell_borders(n, extent, offset) for n, extent in zip(best.shape, size, strict=True))
    mesh = ax.pcolormesh(x, y, best, cmap=style.VALUES, vmin=0, vmax=1, edgecolors="none", linewidth=0)
    mesh.set(alpha=_opacity(best))
    height, width = np.asarray(image).shape[:2]
    ax.set(xlim=(0, width), ylim=(height, 0))
    style.color_bar(ax, _colors_on(ax.images[-1]), "objectness")
    return ax


@checked
def proposals(ax: Axes, image: np.ndarray, boxes: np.ndarray, scores: np.ndarray, top: int = 100) -> Axes:
    """Draw the best proposals, coloured by score, with the best on top.

    Parameters
    ----------
    ax : Axes
        Axes to draw on.
    image : (H, W, 3) array
        Image, uint8 or float in [0, 1].
    boxes : (P, 4) array
        P proposals, in pixels.
    scores : (P,) array
        Score of each proposal, in [0, 1].
    top : int, optional
        Number of proposals to draw.

    Returns
    -------
    Axes
        The axes `ax`.
    """
    corners = as_boxes("boxes", boxes)
    values = as_array("scores", scores, (len(corners),)).astype(float)
    best = np.argsort(-values, kind="stable")[:top][::-1]
    style.image(ax, image, dimmed=True)
    lines = LineCollection(
        style.outlines(corners[best]),
        array=values[best],
        cmap=style.VALUES,
        clim=(0, 1),
        linewidths=THIN_LINE,
        joinstyle="miter",
    )
    ax.add_collection(lines, autolim=False)
    style.color_bar(ax, lines, "score")
    return ax


@checked
def matched_anchors(
    ax: Axes, image: np.ndarray, anchors: np.ndarray, matches: np.ndarray, gt_boxes: np.ndarray
) -> Axes:
    """Draw positive anchors as boxes, and the centres of negative and ignored anchors as dots.

    Parameters
    ----------
    ax : Axes
        Axes to draw on.
    image : (H, W, 3) array
        Image, uint8 or float in [0, 1].
    anchors : (A, 4) array
        The A anchors, in pixels.
    matches : (A,) int array
        For each anchor, the index of its object in `gt_boxes`; -1 for negative, -2 for ignored anchors.
    gt_boxes : (G, 4) array
        Boxes of G objects, in pixels.

    Returns
    -------
    Axes
        The axes `ax`.

    Raises
    ------
    ValueError
        If a shape is wrong or a match is out of range.
    """
    corners, objects = as_boxes("anchors", anchors), as_boxes("gt_boxes", gt_boxes)
    matched = as_array("matches", matches, (len(corners),))
    wrong = np.flatnonzero((matched < -2) | (matched >= len(objects)))
    if wrong.size:
        raise ValueError(f"matches[{wrong[0]}] must be in -2 .. {len(objects) - 1}, got {matched[wrong[0]]}")
    style.image(ax, image, dimmed=True)
    positive, negative, ignored = corners[matched >= 0], corners[matched == -1], corners[matched == -2]
    _dots(ax, _centers(negative), "#dedede", size=6)
    _dots(ax, _centers(ignored), style.ORANGE, size=11)
    style.add_outlines(ax, positive, style.SKY)
    style.legend_below(
        ax,
        [
            style.outline_key(style.SKY, f"positive: {len(positive):,}"),
            _dot_key(style.ORANGE, 4, f"ignored: {len(ignored):,}"),
            _draw_ground_truth(ax, objects),
            _dot_key("#a0a0a0", 3, f"negative: {len(negative):,}"),
        ],
        columns=2,
    )
    return ax


@checked
def detections(
    ax: Axes,
    image: np.ndarray,
    boxes: np.ndarray,
    scores: np.ndarray | None,
    labels: np.ndarray,
    class_names: Sequence[str] | None = None,
    gt_boxes: np.ndarray | None = None,
) -> Axes:
    """Draw detections over an image, tagged with class and score.

    If `gt_boxes` is given, the ground truth is drawn as dashed boxes under the detections.

    Parameters
    ----------
    ax : Axes
        Axes to draw on.
    image : (H, W, 3) array
        Image, uint8 or float in [0, 1].
    boxes : (D, 4) array
        Boxes of D detections, in pixels.
    scores : (D,) array or None
        Score of each detection. With None, the tags show only the class.
    labels : (D,) array
        Label of each detection.
    class_names : sequence of str, optional
        Class names, indexed by label; if omitted, labels are shown as numbers.
    gt_boxes : (G, 4) array, optional
        Boxes of G objects, in pixels.

    Returns
    -------
    Axes
        The axes `ax`.
    """
    style.image(ax, image)
    if gt_boxes is not None:
        style.legend_below(ax, [_draw_ground_truth(ax, as_boxes("gt_boxes", gt_boxes))], columns=1)
    return _draw_boxes(ax, boxes, labels, scores, class_names)


@checked
def funnel(ax: Axes, counts: Mapping[str, int]) -> Axes:
    """Draw the number of boxes after each step as horizontal bars.

    The axis is logarithmic, so the difference in length between two bars shows the ratio of their counts. A count of 0
    has no bar.

    Parameters
    ----------
    ax : Axes
        Axes to draw on.
    counts : mapping of str to int
        Maps the name of each step to the number of boxes after it. The first step is drawn on top. `Trace.counts`
        returns such a dictionary.

    Returns
    -------
    Axes
        The axes `ax`.

    Raises
    ------
    ValueError
        If a count is negative.
    """
    for name, count in counts.items():
        if count < 0:
            raise ValueError(f"counts[{name!r}] must be at least 0, got {count}")
    style.graph(ax, "boxes (logarithmic)", "")
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set(xlim=(_FUNNEL_START, 3.0 * max([1, *counts.values()])), ylim=(len(counts) - 0.4, -0.6))
    ax.set_yticks(range(len(counts)), style.literals(counts))
    ax.grid(False, axis="y")
    for row, count in enumerate(counts.values()):
        end = max(float(count), _FUNNEL_START)
        ax.barh(row, end - _FUNNEL_START, left=_FUNNEL_START, height=0.66, color=style.SKY)
        ax.annotate(
            f"{count:,}",
            (end, row),
            (4, 0),
            textcoords="offset points",
            va="center",
            fontsize=style.TEXT_SIZE + 1,
            color=style.INK,
        )
    return ax


# ---- a whole trace


@checked
def trace_strip(trace: Any, index: int = 0, class_names: Sequence[str] | None = None, min_score: float = 0.5) -> Figure:
    """Draw a figure of eight panels, from the image to its detections, with shapes and counts.

    Parameters
    ----------
    trace : Trace
        Trace of a forward pass, or an object with the same attributes.
    index : int, optional
        Index of the image in the batch.
    class_names : sequence of str, optional
        Class names, indexed by label; if omitted, labels are shown as numbers.
    min_score : float, optional
        Only detections with a score above this value are drawn. The caption states how many there are in total.

    Returns
    -------
    Figure
        The figure.

    Raises
    ------
    ValueError
        If `index` is out of range.
    """
    view = _choose_view(trace, index, class_names, min_score, compact=True)
    height, width = view.image.shape[:2]
    rows = (float(np.clip(height / width, 0.4, 1.6)), max(1.0, min(height / width, 1.6)))  # heights in panel widths
    strip = style.figure(10.0, 1.75 * sum(rows) + 1.6)
    panels = strip.subplots(2, 4, height_ratios=rows).flat
    for number, (ax, (name, draw)) in enumerate(zip(panels, _PANELS, strict=True), start=1):
        style.title(ax, f"{number}  {name}", draw(ax, view))
        ax.set_anchor("NW")
    funnel = "   \u2192   ".join(f"{name} {count:,}" for name, count in trace.counts(index).items())
    strip.supxlabel(textwrap.fill(funnel, 125), fontsize=style.TEXT_SIZE + 0.5, color=style.INK)
    return strip


@checked
def stage_figures(
    trace: Any, index: int = 0, class_names: Sequence[str] | None = None, min_score: float = 0.5
) -> Iterator[tuple[str, Figure]]:
    """Yield one figure for each stage, from the image to its detections.

    Parameters
    ----------
    trace : Trace
        Trace of a forward pass, or an object with the same attributes.
    index : int, optional
        Index of the image in the batch.
    class_names : sequence of str, optional
        Class names, indexed by label; if omitted, labels are shown as numbers.
    min_score : float, optional
        Only detections with a score above this value are drawn. The caption states how many there are in total.

    Yields
    ------
    (str, Figure)
        Name of the stage, and its figure. There are nine stages if the trace has anchor matches, otherwise eight.

    Raises
    ------
    ValueError
        If `index` is out of range.
    """
    view = _choose_view(trace, index, class_names, min_score, compact=False)
    for name, draw in _PANELS:
        yield name, _single_figure(view, name, draw)
        if name == "Objectness" and trace.anchor_matches is not None:
            yield "Matched anchors", _single_figure(view, "Matched anchors", _panel_matched_anchors)


# ---- helpers for the stages


def _draw_ground_truth(ax: Axes, gt_boxes: np.ndarray) -> Line2D:
    """Draw `gt_boxes` (G, 4) as dashed boxes and return a legend handle."""
    for corner in gt_boxes:
        style.edged_box(ax, corner, "white", "--", THIN_LINE)
    return Line2D(
        [],
        [],
        color="white",
        linestyle="--",
        linewidth=THIN_LINE,
        path_effects=style.outline(THIN_LINE),
        label=f"ground truth: {len(gt_boxes):,}",
    )


def _opacity(objectness: np.ndarray) -> np.ndarray:
    """Return the opacity of cells: improbable cells are more transparent."""
    return 0.12 + 0.68 * objectness


def _colors_on(image: AxesImage) -> ScalarMappable:
    """Return the colours that the cells of `objectness` have on the usual background, for a colour bar."""
    values = np.linspace(0, 1, 256)
    background = np.median(np.asarray(image.get_array()).reshape(-1, 3), axis=0)
    cells = colormaps[style.VALUES](values)[:, :3]  # (256, 3)
    opacity = _opacity(values)[:, None]
    return ScalarMappable(Normalize(0, 1), ListedColormap(opacity * cells + (1 - opacity) * background))


def _dot_key(color: str, size: float, label: str) -> Line2D:
    return Line2D([], [], color=color, linestyle="none", marker="o", markersize=size, label=label)


def _centers(corners: np.ndarray) -> np.ndarray:
    return np.asarray((corners[:, :2] + corners[:, 2:]) / 2)  # (N, 2)


def _dots(ax: Axes, points: np.ndarray, color: str, size: float) -> None:
    """Draw dots with an area of `size` square points at `points` (N, 2), without clipping them at the border."""
    ax.scatter(points[:, 0], points[:, 1], s=size, color=color, linewidths=0, clip_on=False, zorder=2)


def _thinned(ax: Axes, cells: np.ndarray, max_dots: int) -> np.ndarray:
    """Return the cell centres in every n-th row and column, so that at most `max_dots` rows and columns remain."""
    x, y = (np.unique(cells[:, axis].round(3), return_inverse=True)[1] for axis in (0, 1))
    step = -(-int(max(x.max(), y.max()) + 1) // max_dots)
    if step > 1:
        ax.set_xlabel(f"dots: 1 of {step} rows and columns", fontsize=style.TEXT_SIZE, color=style.GREY, loc="left")
    return np.asarray(cells[(x % step == step // 2) & (y % step == step // 2)])


def _draw_by_ratio(ax: Axes, anchors: np.ndarray, width: float) -> list[Artist]:
    """Draw k anchors (k, 4) with one colour per aspect ratio. Return legend handles in the order of the ratios."""
    ratios = _nominal_ratios(anchors)
    color_of = {ratio: style.PALETTE[i % len(style.PALETTE)] for i, ratio in enumerate(sorted(set(ratios)))}
    for corner, ratio in zip(anchors, ratios, strict=True):
        style.edged_box(ax, corner, color_of[ratio], width=width)
    return [
        Line2D([], [], color=color, label=f"height / width \u2248 {ratio:.1f}", path_effects=style.outline(2.0))
        for ratio, color in color_of.items()
    ]


def _nominal_ratios(anchors: np.ndarray) -> list[float]:
    """Return height / width of k anchors (k, 4). Similar ratios are replaced by the ratio of their largest anchor.

    Anchors are rounded to whole pixels, so two anchors with the nominal ratio 0.5 may have the ratios 0.48 and 0.52.
    """
    sides = np.maximum(anchors[:, 2:] - anchors[:, :2], 1e-6)
    ratios = sides[:, 1] / sides[:, 0]
    nominal = ratios.copy()
    for i in np.argsort(sides.prod(axis=1), kind="stable"):  # the largest comes last and overwrites the others
        nominal[np.abs(np.log(ratios / ratios[i])) < 0.2] = ratios[i]
    return [float(ratio) for ratio in nominal]


def _pixels(ax: Axes) -> Axes:
    """Set limits around the drawn boxes, unless an image has set them."""
    if ax.get_autoscale_on():
        ax.autoscale_view()
        style.frame(ax)
    return ax


def _cell_borders(count: int, extent: int, offset: float) -> np.ndarray:
    """Return the count + 1 borders of `count` cells from 0 to `extent`. Their centres are (i + offset) * stride."""
    stride = extent / count
    inner = (np.arange(1, count) - 0.5 + offset) * stride
    return np.concatenate([[0.0], inner, [extent]])


# ---- helpers for a trace


@dataclass(frozen=True)
class _View:
    """The selected part of a trace: an image, a pyramid level, and a RoI (None if the image has no RoI)."""

    trace: Any
    index: int
    level: int
    roi: int | None
    class_names: Sequence[str] | None
    min_score: float  # detections with this score or a lower one are not drawn, because they would cover the image
    compact: bool  # True for a small panel of the strip, which shows no scores and no ground truth

    @property
    def image(self) -> np.ndarray:
        return np.asarray(self.trace.images[self.index])

    @property
    def features(self) -> np.ndarray:
        return np.asarray(self.trace.features[self.level][self.index])  # (C, H, W)

    @property
    def per_cell(self) -> int:
        """Number of anchors per cell of the level."""
        height, width = self.features.shape[1:]
        return len(self.trace.anchors[self.level]) // (int(height) * int(width))

    @property
    def batch_size(self) -> tuple[int, int]:
        """Height and width of the batch."""
        height, width = np.asarray(self.trace.batch).shape[2:]
        return int(height), int(width)

    @property
    def offset(self) -> float:
        """Position of the anchors' centres within a cell."""
        first = np.asarray(self.trace.anchors[self.level], float)[0]
        return float((first[0] + first[2]) / 2 / (self.batch_size[1] / self.features.shape[2]))


def _single_figure(view: _View, name: str, draw: Callable[[Axes, _View], str]) -> Figure:
    single = style.figure(6.2, 5.6)
    ax = single.subplots()
    style.title(ax, name, draw(ax, view))
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    single.set_figwidth(float(np.clip(4.8 * abs((right - left) / (top - bottom)), 3.5, 9.0)) + 1.4)
    single.draw_without_rendering()  # the layout adapts to the new width, and needs one more pass for the colour bar
    return single


def _choose_view(trace: Any, index: int, class_names: Sequence[str] | None, min_score: float, compact: bool) -> _View:
    if not isinstance(trace, Trace):
        raise TypeError(f"trace must be a Trace, got {shown(trace)}")
    if not 0 <= index < len(trace.images):
        raise ValueError(
            f"index must be in 0 .. {len(trace.images) - 1} (number of images: {len(trace.images)}), got {index}"
        )
    rows = np.flatnonzero(np.asarray(trace.roi_images) == index)
    if rows.size == 0:
        return _View(trace, index, 0, None, class_names, min_score, compact)
    objects = _softmax(np.asarray(trace.class_logits)[rows])[:, 1:]
    roi = int(rows[objects.max(axis=1).argmax()])
    return _View(trace, index, int(trace.roi_levels[roi]), roi, class_names, min_score, compact)


# Each of the following functions draws one stage and returns the caption of the plot.


def _panel_image(ax: Axes, view: _View) -> str:
    style.image(ax, view.image)
    return _shape(view.image) + ("" if view.compact else f", in a batch of shape {_shape(view.trace.batch)}")


def _panel_features(ax: Axes, view: _View) -> str:
    feature_map(ax, view.features, image=view.image, image_size=view.batch_size, offset=view.offset)
    return f"{_level(view)}{_shape(view.features)}"


def _panel_anchors(ax: Axes, view: _View) -> str:
    x1, y1, x2, y2 = (0, 0, *view.image.shape[1::-1]) if view.roi is None else view.trace.rois[view.roi]
    anchor_level(ax, view.image, view.trace.anchors[view.level], near=((x1 + x2) / 2, (y1 + y2) / 2))
    height, width = view.features.shape[1:]
    return f"{_level(view)}{height} \u00d7 {width} \u00d7 {view.per_cell} = {height * width * view.per_cell:,}"


def _panel_objectness(ax: Axes, view: _View) -> str:
    height, width = view.features.shape[1:]
    logits = np.asarray(view.trace.objectness[view.level][view.index], float)
    maps = _sigmoid(logits).reshape(height, width, view.per_cell).transpose(2, 0, 1)  # (k, H, W)
    objectness(ax, view.image, maps, view.batch_size, view.offset)
    return f"{_level(view)}best of {view.per_cell} anchors per cell"


def _panel_matched_anchors(ax: Axes, view: _View) -> str:
    anchors = np.concatenate([np.asarray(level) for level in view.trace.anchors])
    matches = view.trace.anchor_matches[view.index]
    matched_anchors(ax, view.image, anchors, matches, view.trace.gt_boxes[view.index])
    return f"{len(anchors):,} anchors of all levels"


def _panel_proposals(ax: Axes, view: _View) -> str:
    kept, scores = view.trace.proposals[view.index], view.trace.proposal_scores[view.index]
    proposals(ax, view.image, kept, scores, top=50 if view.compact else 100)
    if view.roi is not None:
        roi = np.asarray(view.trace.rois)[[view.roi]]
        boxes(ax, roi, labels=np.zeros(1), class_names=[f"RoI {view.roi}"], color=style.ORANGE)
    return f"{len(view.trace.candidates[view.index]):,} candidates, {len(kept):,} kept"


def _panel_sample_points(ax: Axes, view: _View) -> str:
    if view.roi is None:
        style.note(style.frame(ax), "no RoI")
        return "0 RoIs"
    trace = view.trace
    sample_points(
        ax,
        np.abs(view.features).max(axis=0),
        trace.rois[view.roi],
        trace.roi_scales[view.level],
        trace.output_size,
        trace.sampling_ratio,
        trace.aligned,
    )
    bins = " \u00d7 ".join(str(length) for length in trace.output_size)
    per_bin = f"{trace.sampling_ratio} \u00d7 {trace.sampling_ratio}" if trace.sampling_ratio else "adaptive"
    return f"RoI {view.roi}: {bins} bins, {per_bin} points each"


def _panel_pooled_features(ax: Axes, view: _View) -> str:
    if view.roi is None:
        style.note(style.frame(ax), "no RoI")
        return "0 RoIs"
    pooled = np.asarray(view.trace.pooled[view.roi])
    shown = min(len(pooled), 16 if view.compact else 64)
    pooled_features(ax, pooled, shown)
    return f"RoI {view.roi}: {_shape(pooled)}, {shown} channels shown"


def _panel_detections(ax: Axes, view: _View) -> str:
    found = view.trace.detections[view.index]
    confident = np.asarray(found["scores"]) > view.min_score
    boxes, scores, labels = (np.asarray(found[key])[confident] for key in ("boxes", "scores", "labels"))
    gt_boxes = None if view.compact or view.trace.gt_boxes is None else view.trace.gt_boxes[view.index]
    detections(ax, view.image, boxes, None if view.compact else scores, labels, view.class_names, gt_boxes)
    return f"{len(confident):,} in total, {len(boxes):,} with a score above {view.min_score:g}"


_PANELS: tuple[tuple[str, Callable[[Axes, _View], str]], ...] = (
    ("Image", _panel_image),
    ("Features", _panel_features),
    ("Anchors", _panel_anchors),
    ("Objectness", _panel_objectness),
    ("Proposals", _panel_proposals),
    ("RoI sample points", _panel_sample_points),
    ("Pooled features", _panel_pooled_features),
    ("Detections", _panel_detections),
)


def _shape(array: np.ndarray) -> str:
    return "(" + ", ".join(str(length) for length in np.shape(array)) + ")"


def _level(view: _View) -> str:
    levels = len(view.trace.features)
    return f"level {view.level + 1} of {levels}: " if levels > 1 else ""


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * logits)))


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))

"""Plots of training: losses, gradients, and proposals as they converge to their objects.

The plots show lines and reference levels, loss curves, the curves of a training run, the nearest proposal of each
object, the error of numerical gradients, and the norms of gradients for each part of the detector, each loss and each
class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import LogNorm, to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyBboxPatch, Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from rcnn._validate import listed
from rcnn.plot import style
from rcnn.plot.arguments import checked
from rcnn.plot.style import LINE_WIDTH, THIN_LINE, Dashes, as_array, as_boxes

Norms = Mapping[str, Mapping[str, float]]
Values = Sequence[float] | np.ndarray

_LINE_COLORS = (style.BLUE, style.VERMILION, style.GREEN, style.PURPLE, style.ORANGE, style.SKY, style.NEUTRAL)
_LINE_DASHES: tuple[Dashes, ...] = ("-", "--", "-.", ":")
# Darker colours come first, because the background is white. Each curve also has its own line style.
_ERROR_LOOKS = ((style.BLUE, "-"), (style.ORANGE, "--"), (style.GREEN, "-."), (style.PURPLE, ":"))
_LEAST_ERROR = 1e-17  # an error of 0 is drawn here, because a logarithmic axis has no 0
_LOG_TICKS = 9  # largest number of ticks on a logarithmic axis
_COLOR_RANGE = 1e-4  # lower end of the colour scale of a table, as a fraction of the largest gradient
_FEW_PROPOSALS = 20  # up to this number, proposals are drawn in white; more of them in a paler colour
_MOST_ROWS = 12  # if there are more rows, they are not numbered

# The layout of the diagram of `gradient_flow`, in its own units.
_LOSS_COLORS = {"rpn": style.BLUE, "roi": style.VERMILION}
_FLOW_SIZE = (10.4, 4.6)  # width and height of the diagram
_HALF_BOX = (0.98, 0.5)  # half the width and height of a box
_PARTS = {"backbone": (1.2, 2.3), "rpn": (4.0, 3.9), "roi_heads": (6.7, 0.7)}  # positions of the parts with parameters
_PART_NAMES = {
    "backbone": "backbone",
    "rpn": "RPN head",
    "roi_heads": "RoI heads",
    "proposals": "proposals",
    "pool": "RoIAlign",
    "rpn loss": "RPN losses",
    "roi loss": "RoI losses",
}
_POSITIONS = {**_PARTS, "proposals": (6.7, 2.3), "pool": (4.0, 0.7), "rpn loss": (9.2, 3.9), "roi loss": (9.2, 0.7)}
_FORWARD = (
    ("backbone", "rpn"),
    ("rpn", "rpn loss"),
    ("rpn", "proposals"),
    ("proposals", "pool"),
    ("backbone", "pool"),
    ("pool", "roi_heads"),
    ("roi_heads", "roi loss"),
)
_ARROW_SHIFT = 0.13  # distance of a gradient arrow from the forward arrow


@checked
def lines(
    ax: Axes,
    x: np.ndarray,
    series: Mapping[str, np.ndarray],
    xlabel: str,
    ylabel: str,
    levels: Sequence[float] = (),
    log: bool = False,
) -> Axes:
    """Draw one line for each series of values, with common x values.

    Parameters
    ----------
    ax : Axes
        Axes to draw on.
    x : (K,) array
        Values along the x axis.
    series : mapping of str to (K,) array
        Maps the name of each line to its values.
    xlabel, ylabel : str
        Axis labels.
    levels : sequence of float, optional
        Values at which dotted horizontal lines are drawn for comparison.
    log : bool, optional
        Make the x axis logarithmic, with ticks at powers of two.

    Returns
    -------
    Axes
        The axes `ax`.
    """
    at = as_array("x", x, (None,)).astype(float)
    style.graph(ax, xlabel, ylabel)
    for level in levels:
        ax.axhline(level, color=style.GREY, linewidth=THIN_LINE, linestyle=":")
    handles: list[Artist] = []
    for number, (name, values) in enumerate(series.items()):
        handles += ax.plot(
            at,
            as_array(f"series[{name!r}]", values, (len(at),)),
            linewidth=LINE_WIDTH,
            label=name,
            color=_LINE_COLORS[number % len(_LINE_COLORS)],
            linestyle=_LINE_DASHES[number % len(_LINE_DASHES)],
        )
    if log:
        ax.set_xscale("log", base=2)
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_xlim(at.min(), at.max())
    if len(series) > 1:
        style.legend_right(ax, handles)
    return ax


@checked
def levels(ax: Axes, values: Mapping[str, float]) -> Axes:
    """Draw dotted horizontal lines for comparison, labelled at their right ends.

    Parameters
    ----------
    ax : Axes
        Axes to draw on.
    values : mapping of str to float
        Maps the name of each line to its value.

    Returns
    -------
    Axes
        The axes `ax`.
    """
    for name, value in values.items():
        ax.axhline(value, color=style.GREY, linestyle=":", linewidth=1.2, zorder=1.5)
        ax.annotate(
            style.literal(name),
            (1, value),
            (-3, 2),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            ha="right",
            va="bottom",
            fontsize=style.TEXT_SIZE,
            color=style.INK,
        )
    return ax


@checked
def loss_curves(
    ax: Axes,
    history: Mapping[str, Sequence[float] | np.ndarray],
    steps: Sequence[int] | np.ndarray | None = None,
    smoothing: int = 1,
    log: bool = False,
) -> Axes:
    """Draw losses against training steps, with total losses in black.

    Parameters
    ----------
    ax : Axes
        Axes to draw on.
    history : mapping of str to (S,) array
        Maps the name of each loss to its values. A loss whose name starts with "total" is a total loss.
    steps : (S,) array, optional
        Step of each of the S values; by default 1, 2, 3, ...
    smoothing : int, optional
        Number of values in a centred moving average. If it is above 1, the original values are drawn in pale colours.
    log : bool, optional
        Make the loss axis logarithmic.

    Returns
    -------
    Axes
        The axes `ax`.

    Raises
    ------
    ValueError
        If `smoothing` is below 1 or a shape is wrong.
    """
    if smoothing < 1:
        raise ValueError(f"smoothing must be at least 1, got {smoothing}")
    colors = iter(style.CURVE_COLORS * (len(history) // len(style.CURVE_COLORS) + 1))
    for name, losses in history.items():
        values = as_array(f"history[{name!r}]", losses, (None,)).astype(float)
        at = np.arange(1, len(values) + 1) if steps is None else as_array("steps", steps, (len(values),))
        total = name.startswith("total")
        color = style.INK if total else next(colors)
        if smoothing > 1:
            ax.plot(at, values, color=color, linewidth=0.7, alpha=0.25)
        ax.plot(
            at,
            _moving_mean(values, smoothing),
            color=color,
            label=style.shown_label(name),
            zorder=3 if total else 2.5,
            linewidth=style.THIN_LINE if smoothing == 1 else style.LINE_WIDTH,
        )
    style.graph(ax, "step", "loss")
    if log:
        ax.set_yscale("log")
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        ax.yaxis.set_minor_formatter(NullFormatter())
    else:
        ax.set_ylim(bottom=0)
    handles = ax.get_legend_handles_labels()[0]
    if handles:
        for line in style.legend_right(ax, handles).get_lines():
            line.set_linewidth(2 * style.LINE_WIDTH)  # thicker than the curves, so that the colour is visible
    return ax


@checked
def training_curves(
    history: Mapping[str, Sequence[float]],
    lr: Sequence[float],
    validation: Mapping[str, Sequence[float]],
) -> Figure:
    """Draw a figure of a training run: losses, validation losses, learning rate, and AP at IoU 0.5.

    Parameters
    ----------
    history : mapping of str to (S,) sequence
        Maps the name of each loss to its values at S steps.
    lr : (S,) sequence
        Learning rate at each step.
    validation : mapping of str to (V,) sequence
        Results of V validations. The keys are "step" (the number of training steps before the validation), "ap50" (the
        average precision at IoU 0.5), and the names of the validation losses. V may be 0.

    Returns
    -------
    Figure
        The figure.
    """
    figure = style.figure(13, 8)
    (losses, validated), (scored, rated) = figure.subplots(2, 2, sharex=True)
    smoothing = max(len(lr) // 40, 1)
    loss_curves(losses, history, smoothing=smoothing, log=True)
    style.title(losses, "Losses", f"mean of {smoothing} steps; pale: every step" if smoothing > 1 else "every step")
    style.graph(rated, "step", "learning rate")
    rated.plot(np.arange(1, len(lr) + 1), np.asarray(lr, float), color=style.BLUE, linewidth=style.LINE_WIDTH)
    rated.set(xlim=(0, max(len(lr), 1)), ylim=(0, None))
    style.title(rated, "Learning rate")
    _draw_validation(validated, scored, validation)
    for ax in (losses, validated):  # the plot below has the same x axis and the label
        ax.set_xlabel("")
    return figure


@checked
def settling(ax: Axes, steps: Sequence[int], best_iou: np.ndarray, threshold: float = 0.5) -> Axes:
    """Draw the best IoU of each object with any box, at several training steps.

    There is a pale line for each object and a black line for the median of all objects. The measurements are drawn at
    equal distances, because most changes happen in early steps.

    Parameters
    ----------
    ax : Axes
        Axes to draw on.
    steps : (S,) sequence of int
        Training step of each of S measurements.
    best_iou : (S, G) array
        Best IoU of each of G objects at each measurement.
    threshold : float, optional
        Smallest IoU at which an object counts as found. It is drawn as a dotted line.

    Returns
    -------
    Axes
        The axes `ax`.
    """
    values = as_array("best_iou", best_iou, (len(steps), None)).astype(float)  # (S, G)
    at = np.arange(len(steps))
    ax.plot(at, values, color=style.SKY, linewidth=0.8, alpha=0.6, clip_on=False)
    style.graph(ax, "step", "IoU of the best box with an object")
    ax.axhline(threshold, color=style.GREY, linestyle=":", linewidth=style.THIN_LINE)
    handles = [Line2D([], [], color=style.SKY, label=f"each of {values.shape[1]} objects")]
    if values.shape[1]:
        handles += ax.plot(
            at,
            np.median(values, axis=1),
            color=style.INK,
            linewidth=2,
            marker="o",
            markersize=4,
            clip_on=False,
            label="median",
            zorder=3,
        )
    handles.append(Line2D([], [], color=style.GREY, linestyle=":", label=f"IoU {threshold:g}"))
    ax.set(xlim=(0, max(len(steps) - 1, 1)), ylim=(0, 1))
    ax.set_xticks(at, [f"{step:,}" for step in steps])
    style.legend_right(ax, handles)
    return ax


@checked
def nearest_proposals(
    ax: Axes,
    image: np.ndarray,
    boxes: np.ndarray,
    overlaps: np.ndarray,
    gt_boxes: np.ndarray,
    top: int = 100,
    scale: bool = True,
) -> Axes:
    """Draw the proposals with the highest scores, and highlight the nearest proposal of each object.

    The nearest proposal of an object is the one with the highest IoU, and its colour shows this IoU. All other
    proposals are drawn in white, or in a paler colour if there are more than 20. The boxes of the objects are drawn as
    dashed lines.

    Parameters
    ----------
    ax : Axes
        Axes to draw on.
    image : (H, W, 3) array
        Image, uint8 or float in [0, 1].
    boxes : (P, 4) array
        P proposals, in pixels, by descending score.
    overlaps : (P, G) array
        IoU of each proposal with each object.
    gt_boxes : (G, 4) array
        Boxes of G objects, in pixels.
    top : int, optional
        Number of proposals to use, starting with the best.
    scale : bool, optional
        If True, draw a colour bar. Pass False if a neighbouring plot already has one.

    Returns
    -------
    Axes
        The axes `ax`.
    """
    objects = as_boxes("gt_boxes", gt_boxes)
    every = as_boxes("boxes", boxes)
    shared = as_array("overlaps", overlaps, (len(every), len(objects))).astype(float)[:top]
    corners = every[:top]
    style.image(ax, image, dimmed=True)
    crowded = len(corners) > _FEW_PROPOSALS
    pale = LineCollection(
        style.outlines(corners),
        colors="white",
        linewidths=0.6 if crowded else style.THIN_LINE,
        alpha=0.35 if crowded else 0.85,
    )
    ax.add_collection(pale, autolim=False)
    for x1, y1, x2, y2 in objects:
        ax.add_patch(
            Rectangle(
                (x1, y1),
                x2 - x1,
                y2 - y1,
                fill=False,
                edgecolor="white",
                linestyle="--",
                linewidth=style.THIN_LINE,
                path_effects=style.outline(style.THIN_LINE),
            )
        )
    found = shared.max(axis=0, initial=0) > 0  # (G,); an object without overlap has no nearest proposal
    nearest = shared.argmax(axis=0)[found] if len(corners) else np.zeros(0, int)
    lines = LineCollection(
        style.outlines(corners[nearest]),
        array=shared.max(axis=0, initial=0)[found],
        cmap=style.VALUES,
        clim=(0, 1),
        linewidths=style.LINE_WIDTH,
        joinstyle="miter",
        zorder=3,
        path_effects=style.outline(style.LINE_WIDTH),
    )
    ax.add_collection(lines, autolim=False)
    if scale:
        style.color_bar(ax, lines, "IoU with the object")
    return ax


@checked
def gradient_errors(ax: Axes, steps: Values, errors: Mapping[str, Values]) -> Axes:
    """Draw the error of numerical gradients as a function of the step size, on logarithmic axes.

    A dot marks the minimum of each curve. An error of exactly 0 is drawn at 1e-17.

    Parameters
    ----------
    ax : Axes
        Axes to draw on.
    steps : (n,) array
        n step sizes, above 0.
    errors : mapping of str to (n,) array
        Maps the name of each curve to the error, at least 0, at every step size. At most four curves can be drawn.

    Returns
    -------
    Axes
        The axes `ax`.

    Raises
    ------
    ValueError
        If a step or an error is out of range, if a shape is wrong, or if there are more than four curves.
    """
    at = _at_least("steps", as_array("steps", steps, (None,)).astype(float), np.nextafter(0, 1))
    style.graph(ax, "step", "error of the gradient")
    ax.set(xscale="log", yscale="log")
    handles: list[Artist] = []
    for (name, values), (color, line) in zip(errors.items(), _error_looks(len(errors)), strict=False):
        y = _at_least(f"errors[{name!r}]", as_array(f"errors[{name!r}]", values, (len(at),)).astype(float), 0)
        best = int(y.argmin())
        handles += ax.plot(
            at,
            np.maximum(y, _LEAST_ERROR),
            line,
            color=color,
            linewidth=style.LINE_WIDTH,
            zorder=2.5,
            label=f"{name}: minimum {y[best]:.0e} at step {at[best]:.0e}",
        )
        ax.plot(at[best], max(y[best], _LEAST_ERROR), "o", color=color, markersize=7, zorder=3)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(LogLocator(numticks=_LOG_TICKS))
        axis.set_minor_formatter(NullFormatter())
    if handles:
        style.legend_inside(ax, handles, "best", length=2.8)
    return ax


@checked
def gradient_flow(ax: Axes, norms: Norms) -> Axes:
    """Draw the detector as a diagram, with arrows for the forward pass and for the gradients.

    A gradient arrow is drawn only if it leads to a part that receives a gradient. If no gradient passes through the
    proposals, the arrows to and from the proposals are crossed out.

    Parameters
    ----------
    ax : Axes
        Axes to draw on.
    norms : mapping of str to mapping of str to float
        `norms[loss][part]` is the norm of the gradient of a loss ("rpn" or "roi") with respect to the parameters of a
        part ("backbone", "rpn" or "roi_heads"). A missing part counts as 0.

    Returns
    -------
    Axes
        The axes `ax`.

    Raises
    ------
    ValueError
        If a loss is missing or a norm is negative or not finite.
    """
    grads = {loss: {part: _gradient_norm(norms, loss, part) for part in _PARTS} for loss in _LOSS_COLORS}
    for start, end in _FORWARD:
        _flow_arrow(ax, _POSITIONS[start], _POSITIONS[end], style.GREY, style.THIN_LINE, 0.0)
    for loss, start, end in _gradient_arrows(grads):
        _flow_arrow(ax, _POSITIONS[start], _POSITIONS[end], _LOSS_COLORS[loss], 2 * style.LINE_WIDTH, _ARROW_SHIFT)
    if not grads["roi"]["rpn"]:
        _mark_cut(ax)
    for name, position in _POSITIONS.items():
        _flow_box(
            ax,
            _PART_NAMES[name],
            position,
            {loss: grads[loss][name] for loss in grads} if name in _PARTS else {},
            _LOSS_COLORS.get(name.split()[0], style.GREY) if name.endswith("loss") else style.GREY,
        )
    ax.set(xlim=(0, _FLOW_SIZE[0]), ylim=(0, _FLOW_SIZE[1]), aspect="equal")
    ax.axis("off")
    return ax


@checked
def gradient_table(ax: Axes, norms: Norms) -> Axes:
    """Draw a table of gradient norms, with one row per loss and one column per part of the detector.

    The colour scale is logarithmic. A cell is white if the gradient is 0.

    Parameters
    ----------
    ax : Axes
        Axes to draw on.
    norms : mapping of str to mapping of str to float
        `norms[loss][part]` is the norm of the gradient of a loss with respect to the parameters of a part.

    Returns
    -------
    Axes
        The axes `ax`.

    Raises
    ------
    ValueError
        If a norm is negative or not finite.
    """
    parts = list(dict.fromkeys(part for row in norms.values() for part in row))
    values = np.array([[_gradient_norm(norms, loss, part) for part in parts] for loss in norms]).reshape(
        len(norms), len(parts)
    )
    style.frame(ax)
    if values.size == 0:
        return style.note(ax, "no gradients")
    shade = LogNorm(_COLOR_RANGE * values.max(), values.max(), clip=True)
    colors = ScalarMappable(shade, style.VALUES)
    for (row, column), value in np.ndenumerate(values):
        face = to_hex(tuple(colors.to_rgba(value))) if value else "#ffffff"
        ax.add_patch(Rectangle((column, row), 1, 1, facecolor=face, edgecolor=style.FAINT, linewidth=0.8))
        ax.text(
            column + 0.5,
            row + 0.5,
            f"{value:.2g}" if value else "0",
            ha="center",
            va="center",
            fontsize=style.TEXT_SIZE + 1,
            color=style.contrasting(face),
        )
    ax.set(xlim=(0, len(parts)), ylim=(len(norms), 0), aspect="auto")
    ax.set_xticks(np.arange(len(parts)) + 0.5, style.literals(parts))
    ax.set_yticks(np.arange(len(norms)) + 0.5, style.literals(norms))
    style.ticks(ax)
    ax.tick_params(length=0)
    return ax


@checked
def gradient_by_class(
    ax: Axes, gradient: np.ndarray, labels: np.ndarray, class_names: Sequence[str] | None = None
) -> Axes:
    """Draw the gradient norm of the deltas of each RoI and class, with the true class outlined.

    Each cell shows the Euclidean norm of the gradient of the four deltas of one RoI and class. It is white if the norm
    is 0.

    Parameters
    ----------
    ax : Axes
        Axes to draw on.
    gradient : (R, L, 4) array
        Gradient of a loss with respect to `box_deltas`, for R RoIs and L classes (background included).
    labels : (R,) int array
        True class of each RoI.
    class_names : sequence of str, optional
        Class names, indexed by label; if omitted, labels are shown as numbers.

    Returns
    -------
    Axes
        The axes `ax`.

    Raises
    ------
    ValueError
        If a shape is wrong or a label is out of range.
    """
    array = as_array("gradient", gradient, (None, None, 4)).astype(float)
    rows, classes = array.shape[:2]
    true = as_array("labels", labels, (rows,)).astype(int)
    wrong = np.flatnonzero((true < 0) | (true >= classes))
    if wrong.size:
        raise ValueError(f"labels[{wrong[0]}] must be in 0 .. {classes - 1}, got {true[wrong[0]]}")
    style.graph(ax, "class", "RoI")
    if array.size == 0:
        return style.note(ax, "no RoIs")
    length = np.sqrt((array**2).sum(axis=2))  # (R, L)
    shown = np.ma.masked_equal(length, 0)
    mesh = ax.pcolormesh(
        np.arange(classes + 1), np.arange(rows + 1), shown, cmap=style.VALUES, vmin=0, vmax=length.max() or 1.0
    )
    for row, label in enumerate(true):
        ax.add_patch(
            Rectangle(
                (label, row), 1, 1, fill=False, edgecolor=style.VERMILION, linewidth=style.THIN_LINE, clip_on=False
            )
        )
    ax.set(xlim=(0, classes), ylim=(rows, 0))
    ax.grid(False)
    names = [str(label) for label in range(classes)] if class_names is None else list(class_names)
    ax.set_xticks(np.arange(classes) + 0.5, style.literals(names))
    for name, text in zip(names, ax.get_xticklabels(), strict=True):
        text.set_rotation(90 if len(name) > 2 else 0)
    marked = np.arange(0, rows, -(-rows // _MOST_ROWS))
    ax.set_yticks(marked + 0.5, [str(row) for row in marked])
    style.color_bar(ax, mesh, "gradient norm of the four deltas")
    return ax


# ---- helpers for curves


def _draw_validation(losses: Axes, scores: Axes, validation: Mapping[str, Sequence[float]]) -> None:
    """Draw the validation losses, and the AP50 with its best value."""
    style.title(losses, "Validation losses", "on images that are not used for training")
    steps, ap50 = np.asarray(validation["step"], float), np.asarray(validation["ap50"], float)
    if len(steps) == 0:
        for ax, name in ((losses, "loss"), (scores, "AP50")):
            style.note(style.graph(ax, "step", name), "no validation")
        style.title(scores, "AP50")
        return
    loss_curves(
        losses, {name: values for name, values in validation.items() if name.endswith("_loss")}, steps, log=True
    )
    for line in losses.get_lines():  # a single validation would not be visible as a line
        line.set(marker="o", markersize=3, clip_on=False)
    style.graph(scores, "step", "AP50")
    scores.plot(steps, ap50, color=style.GREEN, linewidth=style.LINE_WIDTH, marker="o", markersize=4, clip_on=False)
    scores.set_ylim(0, 1)
    if not np.isfinite(ap50).any():
        style.title(scores, "AP50", "undefined: the validation images have no objects")
        return
    best = int(np.nanargmax(ap50))
    style.title(scores, "AP50", f"best: {ap50[best]:.3f} after step {steps[best]:.0f}, chosen on the same images")
    scores.plot(steps[best], ap50[best], "o", color=style.VERMILION, markersize=7, clip_on=False, zorder=3)


def _moving_mean(values: np.ndarray, window: int) -> np.ndarray:
    """Return a centred moving average over `window` values, or over fewer values near both ends."""
    if window == 1 or len(values) == 0:
        return values
    before, after = window // 2, (window - 1) // 2
    positions = np.arange(len(values))
    starts, ends = np.maximum(positions - before, 0), np.minimum(positions + after + 1, len(values))
    return np.array([values[start:end].mean() for start, end in zip(starts, ends, strict=True)])


def _error_looks(count: int) -> list[tuple[str, str]]:
    """Return `count` pairs (colour, line style). Raise ValueError if there are not enough pairs."""
    if count > len(_ERROR_LOOKS):
        raise ValueError(f"the argument errors must have at most {len(_ERROR_LOOKS)} curves, got {count}")
    return list(_ERROR_LOOKS[:count])


def _at_least(name: str, values: np.ndarray, least: float) -> np.ndarray:
    wrong = np.flatnonzero(~((values >= least) & np.isfinite(values)))
    if wrong.size:
        raise ValueError(
            f"{name}[{wrong[0]}] must be finite and {'above' if least else 'at least'} 0, got {values[wrong[0]]:g}"
        )
    return values


# ---- helpers for gradients


def _gradient_norm(norms: Norms, loss: str, part: str) -> float:
    """Return the gradient norm of a loss for a part, or 0 if the part is missing. Raise ValueError if it is invalid."""
    if loss not in norms:
        raise ValueError(f"norms must have the key {loss!r}, got {listed(list(map(repr, norms))) or 'no entry'}")
    value = float(norms[loss].get(part, 0.0))
    if not (value >= 0 and np.isfinite(value)):
        raise ValueError(f"norms[{loss!r}][{part!r}] must be finite and at least 0, got {value:g}")
    return value


def _gradient_arrows(grads: Norms) -> list[tuple[str, str, str]]:
    """Return (loss, start, end) for every gradient arrow to draw."""
    steps = {
        "rpn": [("rpn", "rpn loss", "rpn"), ("backbone", "rpn", "backbone")],
        "roi": [
            ("roi_heads", "roi loss", "roi_heads"),
            ("backbone", "roi_heads", "pool"),
            ("backbone", "pool", "backbone"),
            ("rpn", "pool", "proposals"),
            ("rpn", "proposals", "rpn"),
        ],
    }
    return [(loss, start, end) for loss, paths in steps.items() for part, start, end in paths if grads[loss][part]]


def _flow_arrow(
    ax: Axes, start: tuple[float, float], end: tuple[float, float], color: str, width: float, shift: float
) -> None:
    """Draw an arrow from the edge of one box to the edge of another, and move it sideways by `shift`."""
    tail, head = np.array(start), np.array(end)
    direction = (head - tail) / np.hypot(*(head - tail))
    aside = shift * np.array([-direction[1], direction[0]])
    room = min(half / abs(step) for half, step in zip(_HALF_BOX, direction, strict=True) if abs(step) > 1e-9) + 0.06
    ax.annotate(
        "",
        head - room * direction + aside,
        tail + room * direction + aside,
        zorder=2,
        arrowprops={
            "arrowstyle": "-|>",
            "color": color,
            "linewidth": width,
            "shrinkA": 0,
            "shrinkB": 0,
            "mutation_scale": 8 + 3 * width,
        },
    )


def _mark_cut(ax: Axes) -> None:
    """Cross out the two arrows through the proposals, because no gradient flows back along them."""
    for start, end in (("rpn", "proposals"), ("proposals", "pool")):
        middle = (np.array(_POSITIONS[start]) + _POSITIONS[end]) / 2
        ax.plot(*middle, "x", color=style.INK, markersize=10, markeredgewidth=2.5, zorder=3)
    ax.text(
        _POSITIONS["proposals"][0] + 1.15,
        _POSITIONS["proposals"][1],
        "no gradient:\nproposals are\nconstants",
        ha="left",
        va="center",
        fontsize=style.TEXT_SIZE,
        color=style.INK,
    )


def _flow_box(ax: Axes, name: str, position: tuple[float, float], gradients: Mapping[str, float], color: str) -> None:
    """Draw a named box, with the norms of its gradients if it has parameters."""
    x, y = position
    ax.add_patch(
        FancyBboxPatch(
            (x - _HALF_BOX[0], y - _HALF_BOX[1]),
            2 * _HALF_BOX[0],
            2 * _HALF_BOX[1],
            zorder=2.5,
            boxstyle="round,pad=0,rounding_size=0.12",
            facecolor="white",
            edgecolor=color,
            linewidth=style.LINE_WIDTH,
        )
    )
    ax.text(
        x,
        y + (0.24 if gradients else 0),
        style.literal(name),
        ha="center",
        va="center",
        fontsize=style.TEXT_SIZE + 1,
        fontweight="bold",
        color=style.INK if color == style.GREY else color,
        zorder=3,
    )
    for line, (loss, value) in enumerate(gradients.items()):
        text = f"{'RPN' if loss == 'rpn' else 'RoI'} losses: {f'{value:.2g}' if value else '0'}"
        ax.text(
            x,
            y - 0.06 - 0.26 * line,
            text,
            ha="center",
            va="center",
            fontsize=style.TEXT_SIZE,
            color=_LOSS_COLORS[loss],
            zorder=3,
        )

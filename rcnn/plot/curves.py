"""Curves of training and of evaluation, and counts. Each function is `(ax, arrays..., options) -> ax`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from rcnn.plot import style
from rcnn.plot.style import as_array

# On white paper the darker half of the palette goes first.
_CURVES = (style.BLUE, style.ORANGE, style.GREEN, style.PURPLE, style.VERMILION, style.SKY, style.NEUTRAL)
_FUNNEL_START = 0.5  # where the bars begin, so that a count of 1 has one


def loss_curves(
    ax: Axes,
    history: Mapping[str, Sequence[float] | np.ndarray],
    steps: Sequence[int] | np.ndarray | None = None,
    smoothing: int = 1,
    log: bool = False,
) -> Axes:
    """The losses of `history`, name by name, over `steps` (1, 2, 3, ... without it); a total is drawn in black.

    `smoothing` is the number of steps that each point of a curve averages, half of them before and half after it; the
    raw values stay visible, pale. `log` makes the losses' axis logarithmic.
    """
    if smoothing < 1:
        raise ValueError(f"smoothing is {smoothing}; it must be at least 1")
    colors = iter(_CURVES * (len(history) // len(_CURVES) + 1))
    for name, losses in history.items():
        values = as_array(f"history[{name!r}]", losses, (None,)).astype(float)
        at = np.arange(1, len(values) + 1) if steps is None else as_array("steps", steps, (len(values),))
        total = name.startswith("total")
        color = style.INK if total else next(colors)
        if smoothing > 1:
            ax.plot(at, values, color=color, linewidth=0.7, alpha=0.25)
        ax.plot(at, _moving_mean(values, smoothing), color=color, label=name, zorder=3 if total else 2.5,
                linewidth=style.THIN_LINE if smoothing == 1 else style.LINE_WIDTH)  # fmt: skip
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
            line.set_linewidth(2 * style.LINE_WIDTH)  # a thin line shows too little of its colour
    return ax


def training_curves(
    history: Mapping[str, Sequence[float]],
    lr: Sequence[float],
    validation: Mapping[str, Sequence[float]],
) -> Figure:
    """A page with the losses of a training run, those on its validation pictures, its AP50 and its learning rate.

    `history` holds the losses of every step by name, `lr` a number per step; `validation` holds "step", after how many
    steps, "ap50" and the losses, a number per validation, of which there may be none.
    """
    page = style.figure(13, 8)
    (losses, validated), (scored, rated) = page.subplots(2, 2, sharex=True)
    smoothing = max(len(lr) // 40, 1)
    loss_curves(losses, history, smoothing=smoothing, log=True)
    style.title(losses, "Losses", f"mean of {smoothing} steps; pale: every step" if smoothing > 1 else "of every step")
    style.graph(rated, "step", "learning rate")
    rated.plot(np.arange(1, len(lr) + 1), np.asarray(lr, float), color=style.BLUE, linewidth=style.LINE_WIDTH)
    rated.set(xlim=(0, max(len(lr), 1)), ylim=(0, None))
    style.title(rated, "Learning rate")
    _draw_validation(validated, scored, validation)
    for ax in (losses, validated):  # the axis is that of the graph below
        ax.set_xlabel("")
    return page


def _draw_validation(losses: Axes, scores: Axes, validation: Mapping[str, Sequence[float]]) -> None:
    """Draws the losses on the validation pictures, and the AP50 with its best value."""
    style.title(losses, "Validation losses", "on pictures that training does not see")
    steps, ap50 = np.asarray(validation["step"], float), np.asarray(validation["ap50"], float)
    if len(steps) == 0:
        for ax, name in ((losses, "loss"), (scores, "AP50")):
            style.note(style.graph(ax, "step", name), "there was no validation")
        style.title(scores, "AP50")
        return
    loss_curves(losses, {name: of for name, of in validation.items() if name.endswith("_loss")}, steps, log=True)
    for line in losses.get_lines():  # a single validation makes no line
        line.set(marker="o", markersize=3, clip_on=False)
    style.graph(scores, "step", "AP50")
    scores.plot(steps, ap50, color=style.GREEN, linewidth=style.LINE_WIDTH, marker="o", markersize=4, clip_on=False)
    scores.set_ylim(0, 1)
    if not np.isfinite(ap50).any():
        style.title(scores, "AP50", "not known: there is no object to find")
        return
    best = int(np.nanargmax(ap50))
    style.title(scores, "AP50", f"best on the same pictures: {ap50[best]:.3f}, after step {steps[best]:.0f}")
    scores.plot(steps[best], ap50[best], "o", color=style.VERMILION, markersize=7, clip_on=False, zorder=3)


def precision_recall(
    ax: Axes,
    recall: np.ndarray,
    precision: np.ndarray,
    label: str | None = None,
    average_precision: float | None = None,
) -> Axes:
    """Precision over recall, both (D,) in [0, 1], as detections are admitted by falling score.

    Each call adds one curve in the next colour; `label` and `average_precision` name it in the legend.
    """
    x = as_array("recall", recall, (None,)).astype(float)
    y = as_array("precision", precision, (len(x),)).astype(float)
    earlier = len(ax.get_lines())
    words = [] if label is None else [label]
    if average_precision is not None:
        words.append(f"AP {average_precision:.3f}")
    ax.plot(x, y, color=_CURVES[earlier % len(_CURVES)], linewidth=style.LINE_WIDTH, label="  ".join(words) or None,
            linestyle=("-", "--", ":")[earlier // len(_CURVES) % 3], clip_on=False)  # fmt: skip
    style.graph(ax, "recall", "precision")
    ax.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    handles = ax.get_legend_handles_labels()[0]
    if handles:
        style.legend_right(ax, handles)
    return ax


def funnel(ax: Axes, counts: Mapping[str, int]) -> Axes:
    """A bar for each of `counts`, from top to bottom, as `Trace.counts` gives them: what each step leaves.

    Lengths are logarithmic, so that a step shows by which factor it thins the boxes out; a count of 0 has no bar.
    """
    for name, count in counts.items():
        if count < 0:
            raise ValueError(f"counts[{name!r}] is {count}; it must be at least 0")
    style.graph(ax, "boxes (logarithmic)", "")
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set(xlim=(_FUNNEL_START, 3.0 * max([1, *counts.values()])), ylim=(len(counts) - 0.4, -0.6))
    ax.set_yticks(range(len(counts)), list(counts))
    ax.grid(False, axis="y")
    for row, count in enumerate(counts.values()):
        end = max(float(count), _FUNNEL_START)
        ax.barh(row, end - _FUNNEL_START, left=_FUNNEL_START, height=0.66, color=style.SKY)
        ax.annotate(f"{count:,}", (end, row), (4, 0), textcoords="offset points", va="center",
                    fontsize=style.TEXT_SIZE + 1, color=style.INK)  # fmt: skip
    return ax


def _moving_mean(values: np.ndarray, window: int) -> np.ndarray:
    """Each value averaged with its neighbours: `window` of them, fewer towards the two ends."""
    if window == 1 or len(values) == 0:
        return values
    before, after = window // 2, (window - 1) // 2
    positions = np.arange(len(values))
    starts, ends = np.maximum(positions - before, 0), np.minimum(positions + after + 1, len(values))
    return np.array([values[start:end].mean() for start, end in zip(starts, ends, strict=True)])

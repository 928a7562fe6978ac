"""Where gradients flow in the detector, and where they do not. Each function is `(ax, arrays..., options) -> ax`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, to_hex
from matplotlib.patches import FancyBboxPatch, Rectangle

from rcnn.plot import style
from rcnn.plot.style import as_array

Norms = Mapping[str, Mapping[str, float]]

_COLORS = {"rpn": style.BLUE, "roi": style.VERMILION}
_FIELD = (10.4, 4.6)  # the diagram's width and height, in its own units
_HALF = (0.98, 0.5)  # half a box's width and height
_PARTS = {"backbone": (1.2, 2.3), "rpn": (4.0, 3.9), "roi_heads": (6.7, 0.7)}  # what is learned, and where it stands
_NAMES = {"backbone": "backbone", "rpn": "RPN head", "roi_heads": "RoI heads", "proposals": "proposals",
          "pool": "RoIAlign", "rpn loss": "RPN losses", "roi loss": "RoI losses"}  # fmt: skip
_PLACES = {**_PARTS, "proposals": (6.7, 2.3), "pool": (4.0, 0.7), "rpn loss": (9.2, 3.9), "roi loss": (9.2, 0.7)}
_FORWARD = (("backbone", "rpn"), ("rpn", "rpn loss"), ("rpn", "proposals"), ("proposals", "pool"),
            ("backbone", "pool"), ("pool", "roi_heads"), ("roi_heads", "roi loss"))  # fmt: skip
_BESIDE = 0.13  # how far from the forward arrow a gradient's arrow runs
_MARKS = 12  # rows of a picture that are numbered, at most
_DECADES = 1e-4  # the smallest gradient that a table's colour tells from a smaller one, of the largest


def gradient_flow(ax: Axes, norms: Norms) -> Axes:
    """The detector as a diagram: arrows of what is computed, and of the gradients that come back.

    `norms["rpn"]` and `norms["roi"]` say, for each of the parts "backbone", "rpn" and "roi_heads", the norm of the
    gradient that the losses of the RPN and of the second stage give to its parameters. An arrow is drawn only where
    what lies behind it gets a gradient; where none comes through the proposals, they are marked as cut off.
    """
    grads = {loss: {part: _norm(norms, loss, part) for part in _PARTS} for loss in _COLORS}
    for start, end in _FORWARD:
        _arrow(ax, _PLACES[start], _PLACES[end], style.GREY, style.THIN_LINE, 0.0)
    for loss, start, end in _gradient_arrows(grads):
        _arrow(ax, _PLACES[start], _PLACES[end], _COLORS[loss], 2 * style.LINE_WIDTH, _BESIDE)
    if not grads["roi"]["rpn"]:
        _cut(ax)
    for name, place in _PLACES.items():
        _box(ax, _NAMES[name], place, {loss: grads[loss][name] for loss in grads} if name in _PARTS else {},
             _COLORS.get(name.split()[0], style.GREY) if name.endswith("loss") else style.GREY)  # fmt: skip
    ax.set(xlim=(0, _FIELD[0]), ylim=(0, _FIELD[1]), aspect="equal")
    ax.axis("off")
    return ax


def gradient_table(ax: Axes, norms: Norms) -> Axes:
    """A table of `norms[loss][part]`: the norm of the gradient that a loss (row) gives to a part (column).

    The colour is logarithmic; a cell without any gradient is white and says 0.
    """
    parts = list(dict.fromkeys(part for row in norms.values() for part in row))
    values = np.array([[_norm(norms, loss, part) for part in parts] for loss in norms]).reshape(len(norms), len(parts))
    style.frame(ax)
    if values.size == 0:
        return style.note(ax, "no gradients")
    shade = LogNorm(_DECADES * values.max(), values.max(), clip=True)
    colors = ScalarMappable(shade, style.VALUES)
    for (row, column), value in np.ndenumerate(values):
        face = to_hex(tuple(colors.to_rgba(value))) if value else "#ffffff"
        ax.add_patch(Rectangle((column, row), 1, 1, facecolor=face, edgecolor=style.FAINT, linewidth=0.8))
        ax.text(column + 0.5, row + 0.5, f"{value:.2g}" if value else "0", ha="center", va="center",
                fontsize=style.TEXT_SIZE + 1, color=style.contrasting(face))  # fmt: skip
    ax.set(xlim=(0, len(parts)), ylim=(len(norms), 0), aspect="auto")
    ax.set_xticks(np.arange(len(parts)) + 0.5, parts)
    ax.set_yticks(np.arange(len(norms)) + 0.5, list(norms))
    style.ticks(ax)
    ax.tick_params(length=0)
    return ax


def gradient_by_class(
    ax: Axes, gradient: np.ndarray, labels: np.ndarray, class_names: Sequence[str] | None = None
) -> Axes:
    """How large the gradient of each RoI's deltas is, class by class; the true class of a RoI is outlined.

    `gradient` (R, L, 4) is that of `box_deltas`; a cell is the length of its four numbers, and white where they are 0.
    `labels` (R,) are the true classes.
    """
    array = as_array("gradient", gradient, (None, None, 4)).astype(float)
    rows, classes = array.shape[:2]
    true = as_array("labels", labels, (rows,)).astype(int)
    wrong = np.flatnonzero((true < 0) | (true >= classes))
    if wrong.size:
        raise ValueError(f"labels[{wrong[0]}] is {true[wrong[0]]}; allowed are 0 to {classes - 1}")
    style.graph(ax, "class", "RoI")
    if array.size == 0:
        return style.note(ax, "no RoIs")
    length = np.sqrt((array**2).sum(axis=2))  # (R, L)
    shown = np.ma.masked_equal(length, 0)
    mesh = ax.pcolormesh(np.arange(classes + 1), np.arange(rows + 1), shown, cmap=style.VALUES, vmin=0,
                         vmax=length.max() or 1.0)  # fmt: skip
    for row, label in enumerate(true):
        ax.add_patch(Rectangle((label, row), 1, 1, fill=False, edgecolor=style.VERMILION, linewidth=style.THIN_LINE,
                               clip_on=False))  # fmt: skip
    ax.set(xlim=(0, classes), ylim=(rows, 0))
    ax.grid(False)
    names = [str(label) for label in range(classes)] if class_names is None else list(class_names)
    ax.set_xticks(np.arange(classes) + 0.5, names, rotation=90 if max(map(len, names)) > 2 else 0)
    marked = np.arange(0, rows, -(-rows // _MARKS))
    ax.set_yticks(marked + 0.5, [str(row) for row in marked])
    style.color_bar(ax, mesh, "length of the gradient of four deltas")
    return ax


# ---------------------------------------------------------------------- the diagram

def _norm(norms: Norms, loss: str, part: str) -> float:
    """The norm of a loss's gradient for a part, 0 where it is not listed; ValueError for what is none."""
    if loss not in norms:
        raise ValueError(f"norms must have an entry {loss!r}; it has {', '.join(map(repr, norms)) or 'none'}")
    value = float(norms[loss].get(part, 0.0))
    if not (value >= 0 and np.isfinite(value)):
        raise ValueError(f"norms[{loss!r}][{part!r}] is {value:g}; a norm is finite and at least 0")
    return value


def _gradient_arrows(grads: Norms) -> list[tuple[str, str, str]]:
    """(loss, from, to) of every step of a gradient that arrives somewhere."""
    steps = {
        "rpn": [("rpn", "rpn loss", "rpn"), ("backbone", "rpn", "backbone")],
        "roi": [("roi_heads", "roi loss", "roi_heads"), ("backbone", "roi_heads", "pool"),
                ("backbone", "pool", "backbone"), ("rpn", "pool", "proposals"), ("rpn", "proposals", "rpn")],
    }  # fmt: skip
    return [(loss, start, end) for loss, paths in steps.items() for part, start, end in paths if grads[loss][part]]


def _arrow(
    ax: Axes, start: tuple[float, float], end: tuple[float, float], color: str, width: float, beside: float
) -> None:
    """An arrow from the edge of one box to that of another, so far to the left of the line between them."""
    begin, target = np.array(start), np.array(end)
    way = (target - begin) / np.hypot(*(target - begin))
    aside = beside * np.array([-way[1], way[0]])
    room = min(half / abs(step) for half, step in zip(_HALF, way, strict=True) if abs(step) > 1e-9) + 0.06
    ax.annotate("", target - room * way + aside, begin + room * way + aside, zorder=2,
                arrowprops={"arrowstyle": "-|>", "color": color, "linewidth": width, "shrinkA": 0, "shrinkB": 0,
                            "mutation_scale": 8 + 3 * width})  # fmt: skip


def _cut(ax: Axes) -> None:
    """A mark across the two arrows that lead through the proposals: no gradient comes back along them."""
    for start, end in (("rpn", "proposals"), ("proposals", "pool")):
        middle = (np.array(_PLACES[start]) + _PLACES[end]) / 2
        ax.plot(*middle, "x", color=style.INK, markersize=10, markeredgewidth=2.5, zorder=3)
    ax.text(_PLACES["proposals"][0] + 1.15, _PLACES["proposals"][1], "no gradient:\nthe boxes are\ntaken as given",
            ha="left", va="center", fontsize=style.TEXT_SIZE, color=style.INK)  # fmt: skip


def _box(ax: Axes, name: str, place: tuple[float, float], gradients: Mapping[str, float], color: str) -> None:
    """A named box; with the norms of the gradients that arrive at it, where it is learned."""
    x, y = place
    ax.add_patch(FancyBboxPatch((x - _HALF[0], y - _HALF[1]), 2 * _HALF[0], 2 * _HALF[1], zorder=2.5,
                                boxstyle="round,pad=0,rounding_size=0.12", facecolor="white", edgecolor=color,
                                linewidth=style.LINE_WIDTH))  # fmt: skip
    ax.text(x, y + (0.24 if gradients else 0), name, ha="center", va="center", fontsize=style.TEXT_SIZE + 1,
            fontweight="bold", color=style.INK if color == style.GREY else color, zorder=3)  # fmt: skip
    for line, (loss, value) in enumerate(gradients.items()):
        text = f"{'RPN' if loss == 'rpn' else 'RoI'} losses: {f'{value:.2g}' if value else '0'}"
        ax.text(x, y - 0.06 - 0.26 * line, text, ha="center", va="center", fontsize=style.TEXT_SIZE,
                color=_COLORS[loss], zorder=3)  # fmt: skip

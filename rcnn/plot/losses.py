"""How far the gradient of a loss is off where it is found by differences: `(ax, arrays..., options) -> ax`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter

from rcnn.plot import style
from rcnn.plot.style import as_array

Values = Sequence[float] | np.ndarray

# On white paper, the darker colours first; the line's style tells the curves apart in grey, too.
_LOOKS = ((style.BLUE, "-"), (style.ORANGE, "--"), (style.GREEN, "-."), (style.PURPLE, ":"))
_LEAST_ERROR = 1e-17  # where an error of 0 is drawn, for a logarithmic axis has no 0
_DECADES = 9  # between two marks of a logarithmic axis there are at least so many in all


def gradient_errors(ax: Axes, steps: Values, errors: Mapping[str, Values]) -> Axes:
    """How far numerical gradients are off, over the step of their differences; both axes are logarithmic.

    `steps` (n,) are above 0; each of `errors`, a name and its values (n,), is at least 0. The smallest error of each is
    marked. An error of exactly 0 is drawn at 1e-17.
    """
    at = _at_least("steps", as_array("steps", steps, (None,)).astype(float), np.nextafter(0, 1))
    style.graph(ax, "step", "error of the gradient")
    ax.set(xscale="log", yscale="log")
    handles: list[Artist] = []
    for (name, values), (color, line) in zip(errors.items(), _looks(len(errors)), strict=False):
        y = _at_least(f"errors[{name!r}]", as_array(f"errors[{name!r}]", values, (len(at),)).astype(float), 0)
        best = int(y.argmin())
        handles += ax.plot(at, np.maximum(y, _LEAST_ERROR), line, color=color, linewidth=style.LINE_WIDTH, zorder=2.5,
                           label=f"{name}: best {y[best]:.0e} at a step of {at[best]:.0e}")  # fmt: skip
        ax.plot(at[best], max(y[best], _LEAST_ERROR), "o", color=color, markersize=7, zorder=3)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(LogLocator(numticks=_DECADES))
        axis.set_minor_formatter(NullFormatter())
    if handles:
        style.legend_inside(ax, handles, "best", length=2.8)
    return ax


def _looks(count: int) -> list[tuple[str, str]]:
    """`count` pairs of a colour and a line style; ValueError where there are more curves than can be told apart."""
    if count > len(_LOOKS):
        raise ValueError(f"there are {count} curves; at most {len(_LOOKS)} can be told apart")
    return list(_LOOKS[:count])


def _at_least(name: str, values: np.ndarray, least: float) -> np.ndarray:
    wrong = np.flatnonzero(~((values >= least) & np.isfinite(values)))
    if wrong.size:
        raise ValueError(f"{name}[{wrong[0]}] is {values[wrong[0]]:g}; it must be finite and "
                         f"{'above' if least else 'at least'} 0")
    return values

"""What all explorers share: controls, a plot that is drawn anew when one moves, and still plots in their place.

An explorer holds no state of its own: a function draws the plot for the values of the controls, and where
nothing can move it draws several such plots below each other.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rcnn import plot

Draw = Callable[..., None]
LABEL_WIDTH = "9em"
CONTROL_WIDTH = "32em"
DOTS_PER_INCH = 100  # of a figure


@dataclass(frozen=True)
class Range:
    """A number between two others, by steps: a slider."""

    low: float
    high: float
    start: float
    step: float = 1

    def __post_init__(self) -> None:
        if not self.low <= self.start <= self.high or self.step <= 0:
            raise ValueError(f"a slider goes from low to high by steps above 0 and starts in between, not {self}")

    def holds(self, value: Any) -> bool:
        """True where the slider can stand at `value`."""
        return bool(self.low <= value <= self.high)


@dataclass(frozen=True)
class Choice:
    """One of several values: a drop-down list."""

    options: Sequence[Any]
    start: Any

    def __post_init__(self) -> None:
        if self.start not in self.options:
            raise ValueError(f"a choice starts with one of {list(self.options)}, not with {self.start!r}")

    def holds(self, value: Any) -> bool:
        """True where `value` can be chosen."""
        return value in self.options


Control = Range | Choice


class Explorer:
    """A plot that follows its controls; the last expression of a notebook's cell shows it.

    draw: called as `draw(figure, **values)`; it draws on `figure` (which has `subplots`) and gives nothing.
    controls: what can be moved, by the names that `draw` knows; the label is the name with spaces for underlines.
    stills: values, by the same names, for which the plot is drawn where nothing can move; what is left out stands
        at its start.
    size: (width, height) of one plot in inches. columns: stills beside each other.

    Raises ValueError for a still that no control can reach.
    """

    def __init__(
        self,
        draw: Draw,
        controls: Mapping[str, Control],
        stills: Sequence[Mapping[str, Any]],
        size: tuple[float, float] = (9.0, 4.5),
        columns: int = 1,
    ) -> None:
        if not stills:
            raise ValueError("an explorer needs at least one still")
        for still in stills:
            for name, value in still.items():
                if name not in controls or not controls[name].holds(value):
                    raise ValueError(f"no control of this explorer reaches {name} = {value!r}")
        self._draw, self._controls, self._stills = draw, dict(controls), list(stills)
        self._size, self._columns = size, columns

    def png(self, **values: Any) -> bytes:
        """A PNG for these values of the controls; what is left out stands at its start."""
        figure = plot.figure(*self._size)
        self._draw(figure, **self._at(values))
        return plot.png(figure)

    def still(self) -> bytes:
        """A PNG of all stills, which says what moving the controls says."""
        rows = -(-len(self._stills) // self._columns)
        figure = plot.figure(self._size[0] * self._columns, self._size[1] * rows)
        parts = figure.subfigures(rows, self._columns, squeeze=False).flat
        for part, values in zip(parts, self._stills, strict=False):
            self._draw(part, **self._at(values))
        return plot.png(figure)

    def widget(self) -> Any:
        """The controls over the plot, as a widget of ipywidgets. Raises ImportError where that is missing."""
        import ipywidgets

        size = {"width": f"{DOTS_PER_INCH * self._size[0]:.0f}px", "max_width": "100%"}
        drawing = ipywidgets.Image(value=self.png(), format="png", layout=size)
        controls = {name: _as_widget(name, control) for name, control in self._controls.items()}

        def redraw(change: Any) -> None:
            del change
            drawing.value = self.png(**{name: control.value for name, control in controls.items()})

        for control in controls.values():
            control.observe(redraw, names="value")
        return ipywidgets.VBox([*controls.values(), drawing], layout={"align_items": "flex-start"})

    def _at(self, values: Mapping[str, Any]) -> dict[str, Any]:
        return {name: control.start for name, control in self._controls.items()} | dict(values)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        """What a notebook shows: it takes the widget where it can, the still plots elsewhere."""
        del include, exclude
        bundle: dict[str, Any] = {"image/png": self.still(), "text/plain": "an explorer: run the cell to move it"}
        if importlib.util.find_spec("ipywidgets") is not None:
            bundle |= self.widget()._repr_mimebundle_()
            bundle["text/plain"] = "an explorer: run the cell to move it"
        return bundle


def _as_widget(name: str, control: Control) -> Any:
    import ipywidgets

    look = {
        "description": name.replace("_", " "),
        "style": {"description_width": LABEL_WIDTH},
        "layout": {"width": CONTROL_WIDTH},
    }
    if isinstance(control, Choice):
        return ipywidgets.Dropdown(options=list(control.options), value=control.start, **look)
    whole = all(float(number).is_integer() for number in (control.low, control.high, control.start, control.step))
    kind = ipywidgets.IntSlider if whole else ipywidgets.FloatSlider
    number = int if whole else float
    return kind(
        value=number(control.start),
        min=number(control.low),
        max=number(control.high),
        step=number(control.step),
        continuous_update=True,
        **look,
    )

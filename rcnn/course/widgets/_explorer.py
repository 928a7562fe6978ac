"""Base of all explorers: controls, a plot that is redrawn when a control changes, and still plots.

An explorer does not store the values of its controls. It has a function that draws the plot for given values. If no
kernel is running, the explorer shows several plots with fixed values (stills) instead.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rcnn import plot
from rcnn.course.figures import as_html, check_text

Draw = Callable[..., None]
LABEL_WIDTH = "9em"
CONTROL_WIDTH = "32em"
DOTS_PER_INCH = 100  # resolution of a figure


@dataclass(frozen=True)
class Range:
    """A slider for a number.

    Attributes
    ----------
    low, high : float
        Ends of the range.
    start : float
        Initial value.
    step : float
        Distance between two neighbouring values; above 0.

    Raises
    ------
    ValueError
        If `start` is outside the range or `step` is not above 0.
    """

    low: float
    high: float
    start: float
    step: float = 1

    def __post_init__(self) -> None:
        if not self.low <= self.start <= self.high or self.step <= 0:
            raise ValueError(f"a slider must have low <= start <= high and a step above 0, got {self}")

    def holds(self, value: Any) -> bool:
        """Return True if the slider allows a value.

        Parameters
        ----------
        value : float
            Value to test.

        Returns
        -------
        bool
            True if the value is between `low` and `high`, inclusive.
        """
        return bool(self.low <= value <= self.high)


@dataclass(frozen=True)
class Choice:
    """A drop-down list from which a value is chosen.

    Attributes
    ----------
    options : sequence
        Values to choose from.
    start : object
        Initial value.

    Raises
    ------
    ValueError
        If `start` is not one of the options.
    """

    options: Sequence[Any]
    start: Any

    def __post_init__(self) -> None:
        if self.start not in self.options:
            raise ValueError(f"start must be one of {list(self.options)}, got {self.start!r}")

    def holds(self, value: Any) -> bool:
        """Return True if a value can be chosen.

        Parameters
        ----------
        value : object
            Value to test.

        Returns
        -------
        bool
            True if the value is one of the options.
        """
        return value in self.options


Control = Range | Choice


class Explorer:
    """A plot with interactive controls.

    If an explorer is the last line of a notebook cell, Jupyter displays it.

    Parameters
    ----------
    draw : function
        Function that draws on a figure or subfigure. It is called as `draw(figure, **values)`.
    controls : mapping of str to Range or Choice
        Maps each argument name of `draw` to its control. The label of the control is this name, with spaces instead of
        underscores.
    stills : sequence of mapping
        For each still plot, a mapping from argument names to values. Arguments that are left out keep their start
        values.
    alt : str
        Alternative text of the still plots; see `rcnn.course.show`.
    size : (float, float), optional
        Width and height of one plot, in inches.
    columns : int, optional
        Number of still plots in each row.

    Raises
    ------
    ValueError
        If `stills` is empty, or a still has a value that its control does not allow.
    """

    def __init__(
        self,
        draw: Draw,
        controls: Mapping[str, Control],
        stills: Sequence[Mapping[str, Any]],
        alt: str,
        size: tuple[float, float] = (9.0, 4.5),
        columns: int = 1,
    ) -> None:
        if not stills:
            raise ValueError("stills must have at least one entry, got none")
        for still in stills:
            for name, value in still.items():
                if name not in controls or not controls[name].holds(value):
                    raise ValueError(
                        f"each value in stills must be one of the values of its control, got {name} = {value!r}"
                    )
        self._draw, self._controls, self._stills = draw, dict(controls), list(stills)
        self._size, self._columns = size, columns
        self.alt = check_text("alt", alt)

    def png(self, **values: Any) -> bytes:
        """Return a PNG image of the plot for given values of the controls.

        Parameters
        ----------
        **values : object
            Values of the controls, by argument name. Arguments that are left out keep their start values.

        Returns
        -------
        bytes
            Content of the PNG file.
        """
        figure = plot.figure(*self._size)
        self._draw(figure, **self._at(values))
        return plot.png(figure)

    def still(self) -> bytes:
        """Return one PNG image with all still plots.

        Returns
        -------
        bytes
            Content of the PNG file.
        """
        rows = -(-len(self._stills) // self._columns)
        figure = plot.figure(self._size[0] * self._columns, self._size[1] * rows)
        parts = figure.subfigures(rows, self._columns, squeeze=False).flat
        for part, values in zip(parts, self._stills, strict=False):
            self._draw(part, **self._at(values))
        return plot.png(figure)

    def widget(self) -> Any:
        """Return the controls and the plot as a widget.

        Returns
        -------
        ipywidgets.VBox
            The widget.

        Raises
        ------
        ImportError
            If ipywidgets is not installed.
        """
        import ipywidgets

        size = {"width": f"{DOTS_PER_INCH * self._size[0]:.0f}px", "max_width": "100%"}
        drawing = ipywidgets.Image(value=self.png(), format="png", layout=size, tooltip=self.alt)
        controls = {name: _as_widget(name, control) for name, control in self._controls.items()}

        def _redraw(change: Any) -> None:
            del change
            drawing.value = self.png(**{name: control.value for name, control in controls.items()})

        for control in controls.values():
            control.observe(_redraw, names="value")
        return ipywidgets.VBox([*controls.values(), drawing], layout={"align_items": "flex-start"})

    def _at(self, values: Mapping[str, Any]) -> dict[str, Any]:
        return {name: control.start for name, control in self._controls.items()} | dict(values)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        """Return two versions for a notebook: the widget, and the still plots for viewers that show no widgets."""
        del include, exclude
        bundle: dict[str, Any] = {}
        if importlib.util.find_spec("ipywidgets") is not None:
            bundle |= self.widget()._repr_mimebundle_()
        bundle["text/html"] = as_html(self.still(), self.alt)
        bundle["text/plain"] = f"Interactive explorer: run the cell to use it. {self.alt}"
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

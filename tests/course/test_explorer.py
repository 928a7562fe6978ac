"""Explorers: sliders that redraw a plot, and still plots for a few values."""

import io

import numpy as np
import pytest
from PIL import Image

from rcnn import plot
from rcnn.course import figures
from rcnn.course.widgets._explorer import Choice, Explorer, Range

WIDGET = "application/vnd.jupyter.widget-view+json"
ALT = "Three plots whose titles name the values of the controls."
CONTROLS = {
    "shift": Range(0, 4, start=1, step=0.5),
    "rows_shown": Range(1, 5, start=2),
    "kind": Choice(("one", "other"), "other"),
}


@pytest.fixture
def drawn():
    return []


@pytest.fixture
def explorer(drawn):
    def draw(figure, **values):
        drawn.append(values)
        plot.title(figure.subplots(), f"{values}")

    return Explorer(draw, CONTROLS, [{"shift": 0}, {"shift": 2.5, "kind": "one"}, {}], ALT, size=(4, 2), columns=2)


START = {"shift": 1, "rows_shown": 2, "kind": "other"}


def size(png):
    with Image.open(io.BytesIO(png)) as image:
        assert image.mode == "P"
        return image.size


def test_png_uses_start_values_for_missing_controls(explorer, drawn):
    assert size(explorer.png(kind="one")) == (400, 200)
    assert drawn == [START | {"kind": "one"}]


def test_still_shows_all_chosen_values(explorer, drawn):
    assert size(explorer.still()) == (800, 400)
    assert drawn == [START | {"shift": 0}, START | {"shift": 2.5, "kind": "one"}, START]


def test_moving_a_control_redraws(explorer, drawn):
    shift, rows, kind, drawing = explorer.widget().children
    before = drawing.value
    assert drawn == [START]
    assert (shift.min, shift.max, shift.step, shift.value) == (0, 4, 0.5, 1)
    assert isinstance(rows.value, int) and rows.description == "rows shown"
    assert drawing.layout.width == "400px"  # its own
    assert drawing.tooltip == ALT
    shift.value = 3.5
    kind.value = "one"
    assert drawn[1:] == [START | {"shift": 3.5}, START | {"shift": 3.5, "kind": "one"}]
    assert drawing.value != before


def test_notebook_gets_widget_and_still(explorer):
    bundle = explorer._repr_mimebundle_()
    assert bundle["text/html"] == figures.as_html(explorer.still(), ALT)
    assert bundle["text/plain"] == f"Interactive explorer: run the cell to use it. {ALT}"
    assert set(bundle[WIDGET]) == {"version_major", "version_minor", "model_id"}


def test_notebook_without_ipywidgets_gets_the_still(explorer, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert set(explorer._repr_mimebundle_()) == {"text/html", "text/plain"}


@pytest.mark.parametrize(
    "stills, message",
    [
        ([], "stills must have at least one entry"),
        ([{"shift": 5}], "got shift = 5"),
        ([{"kind": "third"}], "got kind = 'third'"),
        ([{"size": 1}], "got size = 1"),
    ],
)
def test_still_outside_the_controls_is_rejected(stills, message):
    with pytest.raises(ValueError, match=message):
        Explorer(print, CONTROLS, stills, ALT)


@pytest.mark.parametrize(
    "make", [lambda: Range(0, 1, start=2), lambda: Range(0, 1, start=0, step=0), lambda: Choice(("a",), "b")]
)
def test_control_rejects_an_invalid_start(make):
    with pytest.raises(ValueError, match="start"):
        make()


def test_range_holds_values_between_its_ends():
    assert [Range(0, 1, start=0).holds(value) for value in np.array([-0.1, 0, 1, 1.1])] == [False, True, True, False]

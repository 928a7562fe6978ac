"""Pictures of annotations: what is drawn where, and that nothing is cut off, or made up of nothing."""

import matplotlib
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from rcnn import plot

matplotlib.use("agg")

PICTURE = np.full((6, 9, 3), 200, np.uint8)


@pytest.fixture
def ax():
    return plot.figure(6, 3).subplots()


def draw(ax):
    """Draws the figure of `ax`, whose edges must be white, as where nothing is cut off, and whose text is legible."""
    canvas = FigureCanvasAgg(ax.figure)
    canvas.draw()
    dots = np.asarray(canvas.buffer_rgba())[:, :, :3]
    assert all((side == 255).all() for side in (dots[:2], dots[-2:], dots[:, :2], dots[:, -2:]))
    assert min(text.get_fontsize() for text in ax.figure.findobj(Text) if text.get_text()) >= 8


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_boxes_lie_on_the_edges_of_pixels(ax):
    assert plot.pixel_boxes(ax, PICTURE, [[2, 1, 5, 4], [0, 0, 9, 6]], ["mine", "all"]) is ax
    mine, everything = (line for line in ax.lines if line.get_label() in ("mine", "all"))
    assert set(mine.get_xdata()) == {2, 5} and set(mine.get_ydata()) == {1, 4}
    assert set(everything.get_xdata()) == {0, 9}
    assert mine.get_color() != everything.get_color() and mine.get_linestyle() != everything.get_linestyle()
    assert mine.get_linewidth() > everything.get_linewidth()  # which is drawn over it
    assert legend(ax) == ["mine", "all"]
    assert list(ax.get_xticks()) == list(range(10)) and list(ax.get_yticks()) == list(range(7))
    assert ax.get_xlabel() == "x, pixels" and ax.get_ylabel() == "y, pixels"
    draw(ax)


def test_colours_may_be_chosen_and_no_boxes_are_none(ax):
    plot.pixel_boxes(ax, PICTURE, [[2, 1, 5, 4]], ["mine"], ["red"])
    assert ax.lines[-1].get_color() == "red"
    other = plot.figure(4, 3).subplots()
    plot.pixel_boxes(other, PICTURE, np.zeros((0, 4)), [])
    assert other.get_legend() is None
    draw(other)


def test_a_larger_picture_has_fewer_numbers(ax):
    plot.pixel_boxes(ax, np.zeros((50, 90, 3), np.uint8), [], [])
    assert list(ax.get_xticks()) == list(range(0, 91, 3)) and list(ax.get_yticks()) == list(range(0, 51, 3))


def test_fits_are_counted_as_shares(ax):
    # Bins are 0.1 wide: of four boxes, one is in the first and three are in the last, which holds 1 itself.
    assert plot.fit_histogram(ax, {"true": np.array([0.05, 0.95, 0.99, 1.0]), "none": np.array([])}) is ax
    steps, = (patch for patch in ax.patches if hasattr(patch, "get_data"))
    np.testing.assert_allclose(steps.get_data().values, [0.25, *[0] * 8, 0.75])
    assert ax.lines[0].get_ydata()[0] == 0.1
    assert legend(ax) == ["true: mean 0.75", "by chance: mean 0.50"]
    assert ax.get_xlim() == (0, 1) and ax.get_ylim()[0] == 0
    draw(ax)


@pytest.mark.filterwarnings("error")
def test_nothing_is_said_where_there_is_nothing(ax):
    assert plot.fit_histogram(ax, {"none": np.array([])}) is ax
    assert [text.get_text() for text in ax.texts] == ["no boxes"]
    draw(ax)


@pytest.mark.parametrize("call, message", [
    (lambda ax: plot.pixel_boxes(ax, PICTURE, [[0, 0, 1, 1]], []), "names has 0 entries for 1 boxes"),
    (lambda ax: plot.pixel_boxes(ax, PICTURE, [[0, 0, 1, np.nan]], ["a"]), r"boxes\[0\] is"),
    (lambda ax: plot.fit_histogram(ax, {"a": [0.5, 1.5]}), r"fits\['a'\]\[1\] is 1.5; a fit lies in \[0, 1\]"),
    (lambda ax: plot.fit_histogram(ax, {"a": [[0.5]]}), "has the shape"),
])
def test_bad_input_is_named(ax, call, message):
    with pytest.raises(ValueError, match=message):
        call(ax)

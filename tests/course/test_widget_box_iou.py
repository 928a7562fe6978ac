"""Explorer of IoU: the drawing for different values of its sliders."""

import io

import matplotlib
import numpy as np
import pytest
from legible import assert_nothing_is_clipped
from PIL import Image

from rcnn import plot
from rcnn.course import widgets

matplotlib.use("agg")


def drawn(explorer, **values):
    """Return the figure that `explorer` draws for given values."""
    figure = plot.figure(3.2, 3.7)
    explorer._draw(figure, **explorer._at(values))
    return figure


@pytest.mark.parametrize(
    "values, heading, areas",
    [
        ({"dx": 0}, "IoU 1.00", ["A: 400 px²", "B: 400 px²", "overlap: 400 px²", "union: 400 px²"]),
        ({"dx": 10}, "IoU 0.33", ["A: 400 px²", "B: 400 px²", "overlap: 200 px²", "union: 600 px²"]),
        ({"dx": 10, "dy": -10}, "IoU 0.14", ["A: 400 px²", "B: 400 px²", "overlap: 100 px²", "union: 700 px²"]),
        ({"dx": 0, "scale": 2}, "IoU 0.25", ["A: 400 px²", "B: 1600 px²", "overlap: 400 px²", "union: 1600 px²"]),
        ({"dx": -25, "dy": 0}, "IoU 0.00", ["A: 400 px²", "B: 400 px²", "overlap: 0 px²", "union: 800 px²"]),
    ],
)
def test_heading_is_the_iou_of_the_drawn_boxes(values, heading, areas):
    figure = drawn(widgets.box_iou(20), **values)
    (ax,) = figure.axes
    assert ax.get_title(loc="left") == heading
    assert [text.get_text() for text in ax.get_legend().get_texts()] == areas
    assert_nothing_is_clipped(figure)


def test_box_is_scaled_about_its_centre():
    (ax,) = drawn(widgets.box_iou(20), dx=5, dy=-5, scale=2).axes
    corners = [(*patch.get_xy(), patch.get_width(), patch.get_height()) for patch in ax.patches]
    assert (-5, -15, 40, 40) in corners


def test_view_is_fixed_and_contains_every_position():
    explorer = widgets.box_iou(20)
    views = {
        ax.get_xlim() + ax.get_ylim() for far in (-25, 0, 25) for ax in drawn(explorer, dx=far, dy=far, scale=2).axes
    }
    ((left, right, bottom, top),) = views
    assert left < 20 / 2 - 25 - 20 and right > 20 / 2 + 25 + 20
    assert (top, bottom) == (left, right)


def test_still_shows_six_positions():
    explorer = widgets.box_iou(20)
    single, still = (Image.open(io.BytesIO(data)) for data in (explorer.png(), explorer.still()))
    np.testing.assert_allclose(still.size, np.multiply(single.size, (3, 2)), atol=2)
    assert explorer.png(dx=0) != explorer.png(dx=1)


def test_small_side_is_rejected():
    with pytest.raises(ValueError, match="side must be at least 4 pixels, got 3"):
        widgets.box_iou(3)

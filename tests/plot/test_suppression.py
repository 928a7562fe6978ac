"""Plots of suppression: boxes in each state, legible and unclipped."""

import matplotlib
import numpy as np
import pytest
from legible import assert_nothing_is_clipped
from matplotlib.colors import to_hex

from rcnn import plot
from rcnn.plot.suppression import STATES

matplotlib.use("agg")

BOXES = np.array([[0, 0, 20, 20], [30, 0, 50, 20], [2, 0, 22, 20], [1, 0, 21, 20], [60, 0, 80, 20]])
NAMES = ["kept before", "kept now", "removed before", "removed now", "waiting"]
SCORES = [0.9, 0.8, 0.7, 0.6, 0.5]


@pytest.fixture
def ax():
    return plot.figure(6, 4).subplots()


def words(ax):
    return [text.get_text() for text in ax.texts]


def test_suppression_step_colours_boxes_by_state(ax):
    assert plot.suppression_step(ax, BOXES, NAMES) is ax
    drawn = {tuple(patch.get_xy()): to_hex(patch.get_edgecolor()).lower() for patch in ax.patches}
    assert drawn == {(x, y): STATES[name][0].lower() for (x, y, _, _), name in zip(BOXES, NAMES, strict=True)}
    assert ax.patches[-1].get_xy() == (30, 0)  # the box kept now is on top
    (tags,) = (artist for artist in ax.artists if hasattr(artist, "texts"))
    assert [text.get_text() for text in tags.texts] == ["1", "2", "4", "5"]  # without the box removed before
    assert_nothing_is_clipped(ax.figure)


def test_suppression_step_keeps_the_limits_of_an_image(ax):
    plot.suppression_step(ax, BOXES, NAMES, np.zeros((40, 90, 3)))
    plot.suppression_legend(ax, NAMES)
    assert (ax.get_xlim(), ax.get_ylim()) == ((0, 90), (40, 0))
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "kept before: 1",
        "kept now: 1",
        "removed now: 1",
        "removed before: 1",
        "waiting: 1",
    ]
    assert_nothing_is_clipped(ax.figure)


def test_suppression_queue_writes_state_and_iou(ax):
    assert plot.suppression_queue(ax, SCORES, NAMES, [0, 1, 0, 0.62, 0.1]) is ax
    assert [bar.get_width() for bar in ax.patches] == SCORES
    assert words(ax) == [*NAMES[:3], "removed now, IoU 0.62", "waiting"]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["1", "2", "3", "4", "5"]
    assert ax.get_ylim()[0] > ax.get_ylim()[1]  # the best on top
    assert_nothing_is_clipped(ax.figure)


def test_recall_steps_write_counts_and_write_each_end_value_once(ax):
    plot.recall_steps(ax, ["anchors", "NMS"], [1536, 190.4], {"one": [0.85, 0.95], "other": [0.85, 0.5]})
    np.testing.assert_array_equal(ax.lines[1].get_ydata(), [0.85, 0.5])
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["anchors\n1,536", "NMS\n190"]
    assert words(ax) == ["0.85", "0.95", "0.50"]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["one", "other"]
    assert_nothing_is_clipped(ax.figure)


def test_growth_is_in_milliseconds_with_a_power_law(ax):
    plot.growth(ax, [100, 200], {"kernel": [0.001, 0.003]}, power=2)
    guide, line = ax.lines
    np.testing.assert_allclose(line.get_ydata(), [1, 3])
    np.testing.assert_allclose(guide.get_ydata(), [0.75, 3])  # a quarter of the time at half the size
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["kernel", "power law, exponent 2"]
    assert_nothing_is_clipped(ax.figure)


def test_no_boxes_are_noted(ax):
    plot.suppression_queue(ax, [], [], [])
    assert words(ax) == ["no boxes"]


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda ax: plot.suppression_step(ax, BOXES, NAMES[:2]), "states must have one entry per box .5., got 2"),
        (
            lambda ax: plot.suppression_step(ax, BOXES[:1], ["gone"]),
            r"states\[0\] must be one of removed before, .*, got 'gone'",
        ),
        (
            lambda ax: plot.suppression_queue(ax, [0.5, 0.6], NAMES[:2], [0, 0]),
            "scores must be descending, got 0.5 before 0.6 at index 0",
        ),
        (lambda ax: plot.suppression_queue(ax, [0.5], NAMES[:1], [0, 0]), r"overlaps must have shape .*, got \(2,\)"),
        (lambda ax: plot.recall_steps(ax, ["a"], [1, 2], {}), r"counts must have shape .*, got \(2,\)"),
        (lambda ax: plot.growth(ax, [1, 2], {"kernel": [0, 1]}, 2), r"seconds\['kernel'\] must be above 0, got 0"),
    ],
)
def test_invalid_input_is_reported(ax, call, message):
    with pytest.raises(ValueError, match=message):
        call(ax)

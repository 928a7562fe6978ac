"""Pictures of proposals that settle, of levels and of findings: what is drawn where, and that nothing is cut off."""

import matplotlib
import numpy as np
import pytest
from legible import assert_nothing_is_clipped

from rcnn import plot

matplotlib.use("agg")

PAGE = np.full((40, 60, 3), 200, np.uint8)
OBJECTS = np.array([[0, 0, 10, 10], [30, 10, 50, 30]])
PROPOSALS = np.array([[1, 1, 9, 9], [30, 10, 50, 40], [30, 10, 50, 30]])
OVERLAPS = np.array([[0.64, 0], [0, 2 / 3], [0, 1]])


@pytest.fixture
def ax():
    return plot.figure(4, 3).subplots()


def test_each_object_has_its_nearest_proposal_in_the_colour_of_their_iou(ax):
    assert plot.nearest_proposals(ax, PAGE, PROPOSALS, OVERLAPS, OBJECTS) is ax
    every, nearest = ax.collections
    assert len(every.get_segments()) == 3
    np.testing.assert_array_equal([segment[0] for segment in nearest.get_segments()], [[1, 1], [30, 10]])
    np.testing.assert_array_equal(nearest.get_segments()[1][2], [50, 30])
    np.testing.assert_array_equal(nearest.get_array(), [0.64, 1])
    assert nearest.get_clim() == (0, 1)
    assert [patch.get_bbox().bounds for patch in ax.patches] == [(0, 0, 10, 10), (30, 10, 20, 20)]
    assert_nothing_is_clipped(ax.figure)


def test_only_the_first_proposals_count(ax):
    plot.title(plot.nearest_proposals(ax, PAGE, PROPOSALS, OVERLAPS, OBJECTS, top=2, scale=False), "Two of three")
    every, nearest = ax.collections
    assert len(every.get_segments()) == 2
    np.testing.assert_allclose(nearest.get_array(), [0.64, 2 / 3])
    assert not ax.child_axes
    assert_nothing_is_clipped(ax.figure)


def test_an_object_that_no_proposal_touches_has_none(ax):
    plot.nearest_proposals(ax, PAGE, PROPOSALS, OVERLAPS, OBJECTS, top=1)
    np.testing.assert_array_equal(ax.collections[1].get_array(), [0.64])
    assert len(ax.collections[1].get_segments()) == 1
    assert len(ax.child_axes) == 1


@pytest.mark.filterwarnings("error")
def test_nothing_to_draw_is_no_error(ax):
    plot.nearest_proposals(ax, PAGE, [], np.zeros((0, 2)), OBJECTS)
    assert [len(lines.get_segments()) for lines in ax.collections] == [0, 0]
    assert_nothing_is_clipped(ax.figure)
    other = plot.figure(4, 3).subplots()
    plot.settling(other, [0, 9], np.zeros((2, 0)))
    assert [text.get_text() for text in other.get_legend().get_texts()] == ["each of 0 objects", "IoU 0.5"]
    assert_nothing_is_clipped(other.figure)


def test_settling_draws_a_line_per_object_and_their_median(ax):
    best = np.array([[0.1, 0.2, 0.6], [0.3, 0.8, 0.4], [0.9, 0.9, 0.7]])
    assert plot.settling(ax, [0, 50, 1200], best, threshold=0.6) is ax
    *objects, level, median = ax.lines
    np.testing.assert_array_equal([line.get_ydata() for line in objects], best.T)
    assert list(level.get_ydata()) == [0.6, 0.6]
    np.testing.assert_array_equal(median.get_ydata(), [0.2, 0.4, 0.9])
    np.testing.assert_array_equal(median.get_xdata(), [0, 1, 2])
    assert [text.get_text() for text in ax.get_xticklabels()] == ["0", "50", "1,200"]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["each of 3 objects", "median", "IoU 0.6"]
    assert (ax.get_xlim(), ax.get_ylim()) == ((0, 2), (0, 1))
    assert_nothing_is_clipped(ax.figure)


def test_levels_are_named_where_they_are(ax):
    ax.plot([0, 1], [0, 3])
    assert plot.levels(ax, {"log 2": 0.69, "log 5": 1.61}) is ax
    assert [line.get_ydata()[0] for line in ax.lines[1:]] == [0.69, 1.61]
    assert [(text.get_text(), text.xy[1]) for text in ax.texts] == [("log 2", 0.69), ("log 5", 1.61)]
    assert_nothing_is_clipped(ax.figure)


def test_findings_are_the_darker_the_stranger(ax):
    values = [[1, 200], [0.5, 100], [np.nan, -100], [2, 0]]
    assert plot.findings(ax, values, list("ABCD"), ["deviation", "boxes"], [1, 100]) is ax
    shown = ax.images[0].get_array()
    white, half, full = (np.array(c) for c in (shown[0, 0], shown[2, 0], shown[4, 1]))
    np.testing.assert_array_equal(white[:3], 1)
    for row, column, color in ((1, 0, white), (1, 1, half), (2, 1, white), (3, 0, full), (3, 1, full), (4, 0, half)):
        np.testing.assert_allclose(shown[row, column], color, err_msg=f"{row}, {column}")
    assert not np.array_equal(half, white) and not np.array_equal(half, full)
    texts = [text.get_text() for text in ax.texts]
    assert texts == ["1.00", "100", "1.00", "200", "0.50", "100", "none", "-100", "2.00", "0.00"]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["sound", *"ABCD"]
    assert_nothing_is_clipped(ax.figure)


def test_nothing_is_no_stranger_than_nothing(ax):
    plot.findings(ax, [[np.nan, 1]], ["A"], ["a", "b"], [np.nan, np.nan])
    shown = ax.images[0].get_array()[1]
    np.testing.assert_array_equal(shown[0, :3], 1)
    assert (shown[1, :3] < 1).any()


def test_small_differences_are_tolerated(ax):
    plot.findings(ax, [[75, 50, 20]], ["A"], ["a", "b", "c"], [100, 100, 100], tolerance=0.5)
    sound, found = ax.images[0].get_array()
    np.testing.assert_array_equal(found[:2], sound[:2])
    assert not np.array_equal(found[2], sound[2])
    assert_nothing_is_clipped(ax.figure)


@pytest.mark.parametrize("call, message", [
    (lambda ax: plot.nearest_proposals(ax, PAGE, PROPOSALS, OVERLAPS.T, OBJECTS), r"overlaps has the shape \(2, 3\)"),
    (lambda ax: plot.settling(ax, [0, 1], np.zeros((3, 2))), r"best_iou has the shape \(3, 2\)"),
    (lambda ax: plot.findings(ax, np.zeros((1, 2)), ["A"], ["a", "b"], [0]), r"reference has the shape \(1,\)"),
    (lambda ax: plot.findings(ax, np.zeros((2, 2)), ["A"], ["a", "b"], [0, 0]), r"values has the shape \(2, 2\)"),
])
def test_bad_input_is_named(ax, call, message):
    with pytest.raises(ValueError, match=message):
        call(ax)

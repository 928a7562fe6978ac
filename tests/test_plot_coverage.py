"""Pictures of coverage: what is drawn where, and that nothing is cut off, too small to read, or made up of nothing."""

import matplotlib
import numpy as np
import pytest
from legible import assert_nothing_is_clipped

from rcnn import plot

matplotlib.use("agg")

SIZES, RATIOS, IOU = np.array([20.0, 40.0, 30.0]), np.array([1.0, 2.0, 0.4]), np.array([0.6, 0.2, 0.9])
ANCHORS = np.array([[-8, -16, 8, 16], [-32, -32, 32, 32]])


@pytest.fixture
def ax():
    return plot.figure(4, 4).subplots()


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_objects_stand_at_size_and_ratio_the_worst_covered_on_top(ax):
    assert plot.coverage(ax, SIZES, RATIOS, IOU) is ax
    dots, = ax.collections
    np.testing.assert_array_equal(dots.get_offsets(), [[30, 0.4], [20, 1], [40, 2]])
    np.testing.assert_array_equal(dots.get_array(), [0.9, 0.6, 0.2])
    assert dots.get_clim() == (0, 1)
    assert ax.get_legend() is None
    assert_nothing_is_clipped(ax.figure)


def test_axes_are_logarithmic_between_powers_of_two(ax):
    plot.coverage(ax, SIZES, RATIOS, IOU)
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    assert (ax.get_xlim(), ax.get_ylim()) == ((16, 64), (0.25, 2))
    assert_nothing_is_clipped(ax.figure)
    shown = [tick.get_text() for tick in ax.get_xticklabels() if 16 <= tick.get_position()[0] <= 64]
    assert shown == ["16", "32", "64"]


def test_anchors_are_marked_at_their_shapes(ax):
    plot.coverage(ax, SIZES, RATIOS, IOU, ANCHORS)
    np.testing.assert_allclose(ax.collections[1].get_offsets(), [[512**0.5, 2], [64, 1]])
    assert len(ax.collections[1].get_facecolors()) == 0
    assert legend(ax) == ["anchors: 2"]
    assert ax.get_xlim() == (16, 64)
    assert_nothing_is_clipped(ax.figure)


def test_one_object_has_room_around_it(ax):
    plot.coverage(ax, [32], [1], [0.5])
    assert (ax.get_xlim(), ax.get_ylim()) == ((16, 64), (0.5, 2))
    assert_nothing_is_clipped(ax.figure)


def test_histogram_counts_and_shares(ax):
    # Bars are 0.05 wide and hold their lower edge: 0.5 is in the bar from 0.5, 0.7 in the one from 0.7.
    assert plot.coverage_histogram(ax, [0.5, 0.52, 0.7, 1.0, 0.1]) is ax
    heights = {round(bar.get_x(), 2): bar.get_height() for bar in ax.patches if bar.get_height()}
    assert heights == {0.1: 1, 0.5: 2, 0.7: 1, 0.95: 1}
    assert len(ax.patches) == 20
    assert legend(ax) == ["0.5 or more: 80.0% of 5", "0.7 or more: 40.0% of 5"]
    assert [line.get_xdata()[0] for line in ax.lines] == [0.5, 0.7]
    assert ax.get_xlim() == (0, 1)
    assert_nothing_is_clipped(ax.figure)


@pytest.mark.parametrize("thresholds", [(), (0.3, 0.5, 0.7, 0.9)])
def test_the_legend_of_a_histogram_lies_above_its_bars(thresholds):
    ax = plot.figure(4, 3.4).subplots()
    plot.coverage_histogram(ax, np.arange(20) / 20, thresholds)
    assert_nothing_is_clipped(ax.figure)
    assert (ax.get_legend() is None) == (not thresholds)
    if thresholds:
        bar_tops = ax.transData.transform((0, 1))[1]
        assert ax.get_legend().get_window_extent().y0 > bar_tops


@pytest.mark.filterwarnings("error")
def test_nothing_is_said_where_there_is_nothing():
    for function, arrays in ((plot.coverage, ([], [], [])), (plot.coverage_histogram, ([],))):
        ax = plot.figure(4, 4).subplots()
        assert function(ax, *arrays) is ax
        assert [text.get_text() for text in ax.texts] == ["no objects"]
        assert_nothing_is_clipped(ax.figure)


def test_anchors_alone_are_drawn(ax):
    plot.coverage(ax, [], [], [], ANCHORS)
    assert legend(ax) == ["anchors: 2"]
    assert_nothing_is_clipped(ax.figure)


@pytest.mark.parametrize("call, message", [
    (lambda ax: plot.coverage(ax, [16, 0], [1, 1], [0, 0]), r"sizes\[1\] is 0; it must be above 0"),
    (lambda ax: plot.coverage(ax, [16], [np.inf], [0]), r"ratios\[0\] is inf"),
    (lambda ax: plot.coverage(ax, [16], [1], [1.5]), r"best_iou\[0\] is 1.5; it must be in \[0, 1\]"),
    (lambda ax: plot.coverage(ax, [16, 16], [1], [1]), r"ratios has the shape \(1,\)"),
    (lambda ax: plot.coverage(ax, [16], [1], [1], [[0, 0, 0, 4]]), r"anchors\[0\] is .*x2 > x1"),
    (lambda ax: plot.coverage_histogram(ax, [np.nan]), r"best_iou\[0\] is nan"),
    (lambda ax: plot.coverage_histogram(ax, [0.5], (50,)), r"thresholds\[0\] is 50"),
])
def test_bad_input_is_named(ax, call, message):
    with pytest.raises(ValueError, match=message):
        call(ax)

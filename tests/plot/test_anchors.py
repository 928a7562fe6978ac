"""Plots of anchors, coverage and matching: positions, values, invalid input; legible and unclipped."""

import matplotlib
import numpy as np
import pytest
from legible import assert_nothing_is_clipped
from matplotlib import colormaps
from matplotlib.colors import to_hex

from rcnn import plot
from rcnn.plot import style

matplotlib.use("agg")

IMAGE = np.full((60, 80, 3), 200, np.uint8)
COUNTS = [[8, 112.9, 1415.2], [30, 0, 10]]
SIZES, RATIOS, IOU = np.array([20.0, 40.0, 30.0]), np.array([1.0, 2.0, 0.4]), np.array([0.6, 0.2, 0.9])
ANCHORS = np.array([[-8, -16, 8, 16], [-32, -32, 32, 32]])


@pytest.fixture
def ax():
    return plot.figure(5, 4).subplots()


@pytest.fixture
def square_ax():
    return plot.figure(4, 4).subplots()


def drawn(ax):
    assert_nothing_is_clipped(ax.figure)
    return ax


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


# ---- coverage over two numbers


def test_coverage_map_has_its_values_and_contours(ax):
    x, y = np.arange(5), np.arange(4) * 2
    iou = np.tile(np.linspace(0.2, 0.6, 5), (4, 1))
    assert plot.coverage_map(ax, x, y, iou, "x, pixels", "y, pixels") is ax
    mesh, line = ax.collections
    np.testing.assert_array_equal(mesh.get_array().reshape(4, 5), iou)
    assert mesh.get_clim() == (0, 1)
    np.testing.assert_allclose(np.concatenate([path.vertices for path in line.get_paths()])[:, 0], 3)
    assert legend(ax) == ["IoU 0.5"]  # no value reaches 0.7
    assert (ax.get_xlim(), ax.get_ylim()) == ((0, 4), (6, 0))
    drawn(ax)


def test_logarithmic_coverage_map_has_y_upwards(ax):
    plot.coverage_map(ax, [8, 16, 32], [0.5, 1, 2], np.full((3, 3), 0.8), "size", "ratio", log=True)
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    assert ax.get_ylim() == (0.5, 2)
    assert ax.get_legend() is None  # no threshold lies between the values
    drawn(ax)
    assert [tick.get_text() for tick in ax.get_xticklabels() if 8 <= tick.get_position()[0] <= 32] == ["8", "16", "32"]


# ---- coverage of a data set


def test_coverage_draws_the_worst_covered_objects_on_top(square_ax):
    assert plot.coverage(square_ax, SIZES, RATIOS, IOU) is square_ax
    (dots,) = square_ax.collections
    np.testing.assert_array_equal(dots.get_offsets(), [[30, 0.4], [20, 1], [40, 2]])
    np.testing.assert_array_equal(dots.get_array(), [0.9, 0.6, 0.2])
    assert dots.get_clim() == (0, 1)
    assert square_ax.get_legend() is None
    assert_nothing_is_clipped(square_ax.figure)


def test_coverage_axes_end_at_powers_of_two(square_ax):
    plot.coverage(square_ax, SIZES, RATIOS, IOU)
    assert (square_ax.get_xscale(), square_ax.get_yscale()) == ("log", "log")
    assert (square_ax.get_xlim(), square_ax.get_ylim()) == ((16, 64), (0.25, 2))
    assert_nothing_is_clipped(square_ax.figure)
    shown = [tick.get_text() for tick in square_ax.get_xticklabels() if 16 <= tick.get_position()[0] <= 64]
    assert shown == ["16", "32", "64"]


def test_coverage_marks_anchor_shapes(square_ax):
    plot.coverage(square_ax, SIZES, RATIOS, IOU, ANCHORS)
    np.testing.assert_allclose(square_ax.collections[1].get_offsets(), [[512**0.5, 2], [64, 1]])
    assert len(square_ax.collections[1].get_facecolors()) == 0
    assert legend(square_ax) == ["anchors: 2"]
    assert square_ax.get_xlim() == (16, 64)
    assert_nothing_is_clipped(square_ax.figure)


def test_coverage_of_one_object_has_a_margin(square_ax):
    plot.coverage(square_ax, [32], [1], [0.5])
    assert (square_ax.get_xlim(), square_ax.get_ylim()) == ((16, 64), (0.5, 2))
    assert_nothing_is_clipped(square_ax.figure)


def test_coverage_histogram_counts_and_shares(square_ax):
    # Bars are 0.05 wide and include their lower edge: 0.5 is in the bar from 0.5, 0.7 in the bar from 0.7.
    assert plot.coverage_histogram(square_ax, [0.5, 0.52, 0.7, 1.0, 0.1]) is square_ax
    heights = {round(bar.get_x(), 2): bar.get_height() for bar in square_ax.patches if bar.get_height()}
    assert heights == {0.1: 1, 0.5: 2, 0.7: 1, 0.95: 1}
    assert len(square_ax.patches) == 20
    assert legend(square_ax) == ["0.5 or more: 80.0% of 5", "0.7 or more: 40.0% of 5"]
    assert [line.get_xdata()[0] for line in square_ax.lines] == [0.5, 0.7]
    assert square_ax.get_xlim() == (0, 1)
    assert_nothing_is_clipped(square_ax.figure)


@pytest.mark.parametrize("thresholds", [(), (0.3, 0.5, 0.7, 0.9)])
def test_coverage_histogram_legend_is_above_the_bars(thresholds):
    square_ax = plot.figure(4, 3.4).subplots()
    plot.coverage_histogram(square_ax, np.arange(20) / 20, thresholds)
    assert_nothing_is_clipped(square_ax.figure)
    assert (square_ax.get_legend() is None) == (not thresholds)
    if thresholds:
        bar_tops = square_ax.transData.transform((0, 1))[1]
        assert square_ax.get_legend().get_window_extent().y0 > bar_tops


@pytest.mark.filterwarnings("error")
def test_empty_input_is_noted():
    for function, arrays in ((plot.coverage, ([], [], [])), (plot.coverage_histogram, ([],))):
        square_ax = plot.figure(4, 4).subplots()
        assert function(square_ax, *arrays) is square_ax
        assert [text.get_text() for text in square_ax.texts] == ["no objects"]
        assert_nothing_is_clipped(square_ax.figure)


def test_coverage_draws_anchors_without_objects(square_ax):
    plot.coverage(square_ax, [], [], [], ANCHORS)
    assert legend(square_ax) == ["anchors: 2"]
    assert_nothing_is_clipped(square_ax.figure)


# ---- order


def test_anchor_order_writes_indices_at_each_position(ax):
    centres = np.array([[0, 0], [0, 0], [40, 0], [40, 0]])
    half = np.array([[10, 10], [5, 15], [10, 10], [5, 15]])
    anchors = np.concatenate([centres - half, centres + half], axis=1)
    assert plot.anchor_order(ax, anchors, [0, 1, 0, 1]) is ax
    assert [(text.get_text(), text.get_position()) for text in ax.texts] == [("0–1", (0, 0)), ("2–3", (40, 0))]
    assert [patch.get_height() for patch in ax.patches] == [20, 20, 30, 30]  # first one group, then the other
    assert len({patch.get_edgecolor() for patch in ax.patches}) == 2
    assert 20 in ax.get_xticks()  # numbers along the axes
    drawn(ax)


@pytest.mark.parametrize("order, texts", [([0, 1], ["0", "1"]), ([0, 1, 0, 1], ["0, 2", "1, 3"])])
def test_anchor_order_lists_non_consecutive_indices(ax, order, texts):
    centres = np.array([[0, 0], [40, 0]])[order]
    plot.anchor_order(ax, np.concatenate([centres - 8, centres + 8], axis=1))
    assert [text.get_text() for text in ax.texts] == texts


# ---- best anchors


def test_best_anchors_are_tagged_and_coloured_by_iou(ax):
    objects, anchors = [[10, 10, 30, 40], [40, 20, 70, 50]], [[12, 8, 32, 38], [36, 16, 68, 48]]
    assert plot.best_anchors(ax, IMAGE, objects, anchors, [0.25, 0.75]) is ax
    assert [patch.get_xy() for patch in ax.patches] == [(10, 10), (40, 20), (12, 8), (36, 16)]
    assert [patch.get_linestyle() for patch in ax.patches] == ["--", "--", "-", "-"]
    expected = [to_hex(colormaps[style.VALUES](value)) for value in (0.25, 0.75)]
    assert [to_hex(patch.get_edgecolor()) for patch in ax.patches[2:]] == expected
    tags = next(artist for artist in ax.artists if hasattr(artist, "texts"))
    assert [text.get_text() for text in tags.texts] == ["0.25", "0.75"]
    assert legend(ax)[0] == "objects: 2"
    drawn(ax)


def test_best_anchors_without_objects(ax):
    plot.best_anchors(ax, IMAGE, np.zeros((0, 4)), np.zeros((0, 4)), [])
    assert not ax.patches
    drawn(ax)


# ---- matching


def test_match_bands_split_at_the_thresholds(ax):
    # 0.3 is ignored and 0.7 positive: a threshold belongs to the band above it.
    assert plot.match_bands(ax, [0, 0.1, 0.29, 0.3, 0.5, 0.7, 1.0], high=0.7, low=0.3) is ax
    assert legend(ax) == ["negative: 3", "ignored: 2", "positive: 2"]
    bars = [(round(bar.get_x(), 2), to_hex(bar.get_facecolor())) for bar in ax.patches if bar.get_height() > 0]
    assert bars == [
        (0, "#bdbdbd"),
        (0.1, "#bdbdbd"),
        (0.28, "#bdbdbd"),
        (0.3, style.ORANGE.lower()),
        (0.5, style.ORANGE.lower()),
        (0.7, style.SKY.lower()),
        (0.98, style.SKY.lower()),
    ]
    assert [line.get_xdata()[0] for line in ax.lines] == [0.3, 0.7]
    assert ax.get_yscale() == "log"
    drawn(ax)


def test_match_bands_without_anchors(ax):
    plot.match_bands(ax, [], 0.7, 0.3)
    assert [text.get_text() for text in ax.texts] == ["no anchors"]


def test_match_shares_follow_the_order_of_the_legend(ax):
    assert plot.match_shares(ax, COUNTS, ["a page", "a sample"]) is ax
    assert legend(ax) == ["positive", "ignored", "negative"]
    widths = np.array([bar.get_width() for bar in ax.patches]).reshape(3, 2).T  # rows of the counts
    np.testing.assert_allclose(widths, np.array(COUNTS) / np.sum(COUNTS, axis=1, keepdims=True))
    np.testing.assert_allclose([bar.get_x() for bar in ax.patches][4:], 1 - widths[:, 2])
    texts = [text.get_text() for text in ax.texts]
    assert texts == ["92.1%", "8", "113", "1,415", "75.0%", "25.0%", "30", "0", "10", "positive", "ignored", "negative"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a page", "a sample"]
    drawn(ax)


def test_match_shares_write_a_decimal_below_a_hundred(ax):
    plot.match_shares(ax, [[7.917, 99.96, 5]], ["a page"])
    assert {"7.9", "100.0", "5"} < {text.get_text() for text in ax.texts}


# ---- invalid input


@pytest.mark.parametrize(
    "call, message",
    [
        (
            lambda ax: plot.coverage_map(ax, [1, 1], [1, 2], np.zeros((2, 2)), "", ""),
            "x must have two or more ascending",
        ),
        (lambda ax: plot.coverage_map(ax, [1, 2], [1], np.zeros((1, 2)), "", ""), "y must have two or more ascending"),
        (
            lambda ax: plot.coverage_map(ax, [1, 2], [1, 2, 3], np.zeros((2, 3)), "", ""),
            r"iou must have shape .*, got \(2, 3\)",
        ),
        (
            lambda ax: plot.coverage_map(ax, [1, 2], [1, 2], np.full((2, 2), np.nan), "", ""),
            r"iou must be in \[0, 1\], got values from nan",
        ),
        (lambda ax: plot.anchor_order(ax, [[0, 0, 1, 1]], [0, 1]), r"color_of must have shape .*, got \(2,\)"),
        (lambda ax: plot.best_anchors(ax, IMAGE, [[0, 0, 9, 9]], np.zeros((0, 4)), [0.5]), r"anchors must have shape"),
        (lambda ax: plot.match_bands(ax, [0.5], 0.3, 0.7), "low=0.7 and high=0.3"),
        (lambda ax: plot.match_bands(ax, [1.5], 0.7, 0.3), r"best_iou must be in \[0, 1\], got values from 1.5"),
        (
            lambda ax: plot.match_shares(ax, COUNTS, ["a page"]),
            r"names must have one entry per row of counts \(2\), got 1",
        ),
        (
            lambda ax: plot.match_shares(ax, [[0, 0, 0]], ["a page"]),
            r"counts\[0\] must not be negative, and their sum must be above 0, got \[0.0, 0.0, 0.0\]",
        ),
        (lambda ax: plot.match_shares(ax, [[1, -1, 5]], ["a page"]), r"counts\[0\]"),
        (lambda ax: plot.coverage(ax, [16, 0], [1, 1], [0, 0]), r"sizes\[1\] must be above 0 and finite, got 0"),
        (
            lambda ax: plot.coverage(ax, [16], [np.inf], [0]),
            r"ratios must contain numbers in \[-1e\+15, 1e\+15\], got \[inf\]",
        ),
        (lambda ax: plot.coverage(ax, [16], [1], [1.5]), r"best_iou\[0\] must be in \[0, 1\], got 1.5"),
        (lambda ax: plot.coverage(ax, [16, 16], [1], [1]), r"ratios must have shape .*, got \(1,\)"),
        (lambda ax: plot.coverage(ax, [16], [1], [1], [[0, 0, 0, 4]]), r"anchors\[0\] must have x2 > x1"),
        (lambda ax: plot.coverage_histogram(ax, [np.nan]), r"best_iou\[0\] must be in \[0, 1\], got nan"),
        (lambda ax: plot.coverage_histogram(ax, [0.5], (50,)), r"thresholds\[0\] must be in \[0, 1\], got 50"),
    ],
)
def test_invalid_input_is_reported(ax, call, message):
    with pytest.raises(ValueError, match=message):
        call(ax)

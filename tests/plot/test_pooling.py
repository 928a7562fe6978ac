"""Plots of sample points, bins, pooled features and RoI batches: positions, values and invalid input."""

import matplotlib
import numpy as np
import pytest
from legible import assert_nothing_is_clipped
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from rcnn import plot, roi
from rcnn.plot import style

matplotlib.use("agg")

MAP = np.arange(48.0).reshape(6, 8) % 7  # (6, 8), largest values anywhere
IMAGE = np.zeros((20, 30, 3), np.uint8)
IMAGE[5:10, 10:20] = 51


@pytest.fixture
def ax():
    return plot.figure(5, 4).subplots()


def corners(ax):
    return np.array(
        [
            [p.get_x(), p.get_y(), p.get_x() + p.get_width(), p.get_y() + p.get_height()]
            for p in ax.patches
            if isinstance(p, Rectangle)
        ]
    ).reshape(-1, 4)


def points(ax):
    return [np.asarray(each.get_offsets()) for each in ax.collections if isinstance(each, PathCollection)]


def solid(ax):
    return [patch for patch in ax.patches if patch.get_linestyle() in ("-", "solid")]


def bins(ax):
    """Return the drawn bins as (left, top, right, bottom) in cells, exclusive."""
    drawn = solid(ax)
    return [
        (
            round(p.get_x() + 0.5),
            round(p.get_y() + 0.5),
            round(p.get_x() + p.get_width() + 0.5),
            round(p.get_y() + p.get_height() + 0.5),
        )
        for p in drawn
    ]


def dots(ax):
    """Return (row, column) of each dot."""
    return [(line.get_ydata()[0], line.get_xdata()[0]) for line in ax.lines if line.get_marker() == "o"]


def words(ax):
    return [text.get_text() for text in ax.texts]


# ---- RoIAlign


@pytest.mark.parametrize(
    "aligned, xs, ys",
    [
        # The RoI (8, 16, 24, 24) at scale 1/8 is (1, 2, 3, 3). Two bins across are 1 wide and one down is 1 high; two
        # samples per bin lie a quarter and three quarters in.
        (False, [1.25, 1.75, 2.25, 2.75], [2.25, 2.75]),
        (True, [0.75, 1.25, 1.75, 2.25], [1.75, 2.25]),
    ],
)
def test_sample_points(ax, aligned, xs, ys):
    assert plot.sample_points(ax, np.ones((4, 5)), [8, 16, 24, 24], 1 / 8, (1, 2), 2, aligned) is ax
    assert points(ax)[0].tolist() == [[x, y] for y in ys for x in xs]
    shift = 0.5 if aligned else 0.0
    assert corners(ax).tolist() == [[1 - shift, 2 - shift, 3 - shift, 3 - shift]]
    assert ax.get_xlim() == (0 - shift, 4 - shift)  # a margin of one cell; the view is extended below to be square
    assert ax.get_ylim() == (4.5 - shift, 0.5 - shift)


def test_sample_points_outside_and_adaptive(ax):
    # One bin over cells -4 .. 2 across and 0 .. 1 down: adaptive sampling takes 6 points across and 1 down.
    plot.sample_points(ax, np.ones((4, 5)), [-4, 0, 2, 0.25], 1.0, (1, 1), 0, margin=None)
    inside, outside = points(ax)
    assert inside.tolist() == [[-0.5, 0.5], [0.5, 0.5], [1.5, 0.5]]  # within one cell of the map
    assert outside.tolist() == [[-3.5, 0.5], [-2.5, 0.5], [-1.5, 0.5]]
    assert corners(ax).tolist() == [[-4, 0, 2, 1]]  # at least one cell high


def test_pooled_features_are_tiles(ax):
    pooled = np.arange(20.0).reshape(5, 2, 2)
    assert plot.pooled_features(ax, pooled, max_channels=3) is ax
    sheet = np.ma.filled(ax.images[0].get_array(), np.nan)
    nan = np.nan
    np.testing.assert_array_equal(
        sheet, [[0, 1, nan, 4, 5], [2, 3, nan, 6, 7], [nan] * 5, [8, 9, nan, nan, nan], [10, 11, nan, nan, nan]]
    )


# ---- RoIPool


def test_bins_are_rounded_twice(ax):
    # 0.5 and 4.25 cells become 1 and 4: four columns, two to a bin. 1.5 and 3.5 become 2 and 4: three rows in two bins.
    assert plot.quantised_bins(ax, MAP, np.array([4, 12, 34, 28]), 1 / 8, (2, 2)) is ax
    assert bins(ax) == [(1, 2, 3, 4), (3, 2, 5, 4), (1, 3, 3, 5), (3, 3, 5, 5)]
    (dashed,) = set(ax.patches) - set(solid(ax))
    assert (dashed.get_x(), dashed.get_y(), dashed.get_width(), dashed.get_height()) == (0.5, 1.5, 3.75, 2)
    assert_nothing_is_clipped(ax.figure)


def test_bin_edges_lie_on_the_grid_and_neighbours_differ_in_colour_and_width(ax):
    plot.quantised_bins(ax, MAP, np.array([1, 1, 4, 4]), 1.0, (2, 2))
    drawn = solid(ax)
    for patch, (left, top, right, bottom) in zip(drawn, bins(ax), strict=True):
        assert (patch.get_x(), patch.get_x() + patch.get_width()) == (left - 0.5, right - 0.5)
        assert (patch.get_y(), patch.get_y() + patch.get_height()) == (top - 0.5, bottom - 0.5)
    for look in ([patch.get_edgecolor() for patch in drawn], [patch.get_linewidth() for patch in drawn]):
        assert look[0] == look[3] != look[1] == look[2]


def test_dots_mark_the_output_of_roi_pool():
    rng = np.random.default_rng(0)
    for _ in range(20):
        values = 1.0 + rng.permutation(48).reshape(6, 8)  # no value is 0, the output of an empty bin
        box = rng.uniform(-2, 8, 4)
        box = np.concatenate([np.minimum(box[:2], box[2:]), np.maximum(box[:2], box[2:])])
        ax = plot.figure(3, 3).subplots()
        plot.quantised_bins(ax, values, box * 4, 0.25, (3, 2))
        given = roi.roi_pool(values[None, None], box[None] * 4, [0], (3, 2), 0.25)
        assert [values[cell] for cell in dots(ax)] == given[given > 0].tolist()


def test_a_bin_outside_the_map_is_not_drawn(ax):
    plot.quantised_bins(ax, MAP, np.array([6, 1, 9, 2]), 1.0, (1, 2))  # columns 6 .. 9 of 8
    assert bins(ax) == [(6, 1, 8, 3)]
    assert len(dots(ax)) == 1


def test_view_contains_the_rounded_box_or_the_map(ax):
    plot.quantised_bins(ax, MAP, np.array([2, 2, 4, 4]), 1.0, (1, 1), margin=1)
    assert (ax.get_xlim(), ax.get_ylim()) == ((0.5, 5.5), (5.5, 0.5))  # 1.5 .. 4.5 and a cell around it
    plot.quantised_bins(other := plot.figure(3, 3).subplots(), MAP, np.array([2, 2, 4, 4]), 1.0, margin=None)
    assert (other.get_xlim(), other.get_ylim()) == ((-0.5, 7.5), (5.5, -0.5))


def test_bins_legend_is_complete(ax):
    plot.bins_legend(plot.quantised_bins(ax, MAP, np.array([1, 1, 4, 4]), 1.0))
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "RoI before rounding",
        "largest cell",
        "bin",
        "neighbouring bins",
    ]
    assert_nothing_is_clipped(ax.figure)


def test_bin_values_are_tiles_with_numbers(ax):
    assert plot.bin_values(ax, [[0, 0.256], [0.6, 1]]) is ax
    assert {text.get_position(): (text.get_text(), text.get_color()) for text in ax.texts} == {
        (0, 0): ("0.00", "white"),
        (1, 0): ("0.26", "white"),
        (0, 1): ("0.60", "black"),
        (1, 1): ("1.00", "black"),
    }
    assert ax.images[0].get_clim() == (0, 1)
    assert_nothing_is_clipped(ax.figure)


@pytest.mark.filterwarnings("error")
def test_bin_values_with_limits_and_with_equal_values():
    one, other, none = plot.figure(6, 2).subplots(1, 3)
    plot.bin_values(one, [[0.4]], limits=(0, 4))
    assert one.images[0].get_clim() == (0, 4)
    assert one.texts[0].get_color() == "white"
    plot.bin_values(other, np.full((2, 3), 2.0))
    assert [text.get_text() for text in other.texts] == ["2.00"] * 6
    plot.bin_values(none, np.zeros((0, 2)))
    assert [text.get_text() for text in none.texts] == ["no bins"]


def test_shift_curves_are_marked_at_the_current_shift(ax):
    shifts = np.array([0.0, 1, 2])
    assert plot.shift_curves(ax, shifts, {"one": [1, 3, 5], "other": [4, 4, 0]}, "shift, cells", "output", 0.5) is ax
    curves = [line for line in ax.lines if len(line.get_xdata()) == 3]
    assert [line.get_ydata().tolist() for line in curves] == [[1, 3, 5], [4, 4, 0]]
    marks = [(line.get_xdata()[0], line.get_ydata()[0]) for line in ax.lines if line.get_marker() == "o"]
    assert marks == [(0.5, 2), (0.5, 4)]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["one", "other"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("shift, cells", "output")
    assert [line.get_color() for line in curves] == [style.VERMILION, style.BLUE]
    assert_nothing_is_clipped(ax.figure)


def test_shift_curves_legend_is_below_the_axis_label(ax):
    plot.shift_curves(ax, [0, 1], {"a": [0, 1]}, "shift", "output")
    assert_nothing_is_clipped(ax.figure)
    assert ax.get_legend().get_window_extent().y1 < ax.xaxis.label.get_window_extent().y0
    assert not [line for line in ax.lines if line.get_marker() == "o"]


@pytest.mark.filterwarnings("error")
def test_shift_curves_without_curves_and_with_many(ax):
    plot.shift_curves(ax, [], {}, "shift", "output", at=1)
    assert ax.get_legend() is None
    plot.shift_curves(ax, [0, 1], {str(i): [i, i] for i in range(6)}, "shift", "output")
    assert len(ax.get_legend().get_texts()) == 6


# ---- a RoI batch


def test_roi_batch_has_a_row_of_crops_per_class():
    ax = plot.figure(5, 3).subplots()
    rois = [[0, 0, 5, 5], [10, 5, 20, 10], [0, 10, 6, 20], [0, 12, 6, 20]]
    assert plot.roi_batch(ax, IMAGE, rois, [0, 3, 0, 0], ["background", "a", "b", "c"], most=2) is ax
    assert [text.get_text() for text in ax.get_yticklabels()] == ["background: 3", "c: 1"]
    assert [image.get_array().shape for image in ax.images] == [(5, 5, 3), (10, 6, 3), (5, 10, 3)]
    assert ax.images[2].get_array().min() == 0.2 and ax.images[0].get_array().max() == 0
    assert ax.yaxis_inverted()  # the background is on top
    assert [image.get_extent()[:2] for image in ax.images] == [[0, 0.92], [1, 1.92], [0, 0.92]]
    assert [to_hex(patch.get_edgecolor()).upper() for patch in ax.patches] == [
        style.NEUTRAL,
        style.NEUTRAL,
        style.GREEN,
    ]
    assert words(ax) == ["..."]
    assert_nothing_is_clipped(ax.figure)


def test_roi_outside_the_image_or_without_area_shows_one_pixel():
    ax = plot.figure(5, 3).subplots()
    plot.roi_batch(ax, IMAGE, [[40, 40, 50, 50], [-9, -9, -5, -5], [12.5, 7.5, 12.5, 7.5]], [1, 1, 1])
    assert [image.get_array().shape for image in ax.images] == [(1, 1, 3)] * 3
    assert ax.images[2].get_array().min() == 0.2
    assert_nothing_is_clipped(ax.figure)


def test_roi_batch_without_rois(ax):
    plot.roi_batch(ax, IMAGE, [], [])
    assert words(ax) == ["no RoIs"]
    other = plot.figure(4, 4).subplots()
    plot.gradient_by_class(other, np.zeros((0, 3, 4)), [])
    assert words(other) == ["no RoIs"]


# ---- empty and invalid input


@pytest.mark.parametrize(
    "draw",
    [
        lambda ax: plot.pooled_features(ax, np.zeros((0, 7, 7))),
    ],
)
@pytest.mark.filterwarnings("error")
def test_empty_input_is_drawn(ax, draw):
    assert draw(ax) is ax
    ax.figure.draw_without_rendering()


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda ax: plot.sample_points(ax, np.zeros((1, 4, 4)), [0, 0, 1, 1], 1), r"feature_map must have shape"),
        (lambda ax: plot.pooled_features(ax, np.zeros((4, 4))), r"pooled must have shape"),
        (lambda ax: plot.pooled_features(ax, np.zeros((4, 2, 2)), 0), r"max_channels must be at least 1, got 0"),
        (lambda ax: plot.quantised_bins(ax, MAP[0], np.zeros(4), 1.0), r"feature_map must have shape .*, got \(8,\)"),
        (lambda ax: plot.quantised_bins(ax, MAP, np.zeros(3), 1.0), r"roi must have shape .*, got \(1, 3\)"),
        (lambda ax: plot.bin_values(ax, np.zeros(4)), r"values must have shape .*, got \(4,\)"),
        (lambda ax: plot.shift_curves(ax, [0, 1], {"a": [1]}, "", ""), r"curves\['a'\] must have shape .*, got \(1,\)"),
        (lambda ax: plot.roi_batch(ax, IMAGE, [[0, 0, 1, 1]], [1, 2]), r"labels must have shape .*, got \(2,\)"),
    ],
)
def test_invalid_input_is_reported(ax, call, message):
    with pytest.raises(ValueError, match=message):
        call(ax)

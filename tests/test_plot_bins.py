"""Pictures of RoIPool's bins, of answers and of how they change: what is drawn where, and what is refused."""

import matplotlib
import numpy as np
import pytest
from legible import assert_nothing_is_clipped

from rcnn import plot, roi
from rcnn.plot import style

matplotlib.use("agg")

MAP = np.arange(48.0).reshape(6, 8) % 7  # (6, 8), largest values anywhere


@pytest.fixture
def ax():
    return plot.figure(5, 4).subplots()


def solid(ax):
    return [patch for patch in ax.patches if patch.get_linestyle() in ("-", "solid")]


def bins(ax):
    """The drawn bins as (left, top, right, bottom) in cells, exclusive, without the insets of their edges."""
    drawn = solid(ax)
    return [(round(p.get_x() + 0.5), round(p.get_y() + 0.5), round(p.get_x() + p.get_width() + 0.5),
             round(p.get_y() + p.get_height() + 0.5)) for p in drawn]


def dots(ax):
    """(row, column) of each dot."""
    return [(line.get_ydata()[0], line.get_xdata()[0]) for line in ax.lines if line.get_marker() == "o"]


def test_bins_are_rounded_twice(ax):
    # 0.5 and 4.25 cells become 1 and 4: four columns, two to a bin. 1.5 and 3.5 become 2 and 4: three rows in two bins.
    assert plot.quantised_bins(ax, MAP, np.array([4, 12, 34, 28]), 1 / 8, (2, 2)) is ax
    assert bins(ax) == [(1, 2, 3, 4), (3, 2, 5, 4), (1, 3, 3, 5), (3, 3, 5, 5)]
    dashed, = set(ax.patches) - set(solid(ax))
    assert (dashed.get_x(), dashed.get_y(), dashed.get_width(), dashed.get_height()) == (0.5, 1.5, 3.75, 2)
    assert_nothing_is_clipped(ax.figure)


def test_every_edge_lies_within_its_bin_and_neighbours_differ(ax):
    plot.quantised_bins(ax, MAP, np.array([1, 1, 4, 4]), 1.0, (2, 2))
    drawn = solid(ax)
    for patch, (left, top, right, bottom) in zip(drawn, bins(ax), strict=True):
        assert left - 0.5 < patch.get_x() < patch.get_x() + patch.get_width() < right - 0.5
        assert top - 0.5 < patch.get_y() < patch.get_y() + patch.get_height() < bottom - 0.5
    colors = [patch.get_edgecolor() for patch in drawn]
    assert colors[0] == colors[3] != colors[1] == colors[2]


def test_a_dot_is_on_what_roi_pool_gives():
    rng = np.random.default_rng(0)
    for _ in range(20):
        values = 1.0 + rng.permutation(48).reshape(6, 8)  # none is 0, what an empty bin gives
        box = rng.uniform(-2, 8, 4)
        box = np.concatenate([np.minimum(box[:2], box[2:]), np.maximum(box[:2], box[2:])])
        ax = plot.figure(3, 3).subplots()
        plot.quantised_bins(ax, values, box * 4, 0.25, (3, 2))
        given = roi.roi_pool(values[None, None], box[None] * 4, [0], (3, 2), 0.25)
        assert [values[place] for place in dots(ax)] == given[given > 0].tolist()


def test_a_bin_outside_the_map_is_not_drawn(ax):
    plot.quantised_bins(ax, MAP, np.array([6, 1, 9, 2]), 1.0, (1, 2))  # columns 6 .. 9 of 8
    assert bins(ax) == [(6, 1, 8, 3)]
    assert len(dots(ax)) == 1


def test_the_view_holds_the_rounded_box_or_the_map(ax):
    plot.quantised_bins(ax, MAP, np.array([2, 2, 4, 4]), 1.0, (1, 1), margin=1)
    assert (ax.get_xlim(), ax.get_ylim()) == ((0.5, 5.5), (5.5, 0.5))  # 1.5 .. 4.5 and a cell around it
    plot.quantised_bins(other := plot.figure(3, 3).subplots(), MAP, np.array([2, 2, 4, 4]), 1.0, margin=None)
    assert (other.get_xlim(), other.get_ylim()) == ((-0.5, 7.5), (5.5, -0.5))


def test_the_legend_of_bins_names_all_that_is_drawn(ax):
    plot.bins_legend(plot.quantised_bins(ax, MAP, np.array([1, 1, 4, 4]), 1.0))
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "the RoI as it came", "largest cell", "a bin", "its neighbours"]
    assert_nothing_is_clipped(ax.figure)


def test_answers_are_tiles_with_numbers(ax):
    assert plot.bin_values(ax, [[0, 0.256], [0.6, 1]]) is ax
    assert {text.get_position(): (text.get_text(), text.get_color()) for text in ax.texts} == {
        (0, 0): ("0.00", "white"), (1, 0): ("0.26", "white"), (0, 1): ("0.60", "black"), (1, 1): ("1.00", "black")}
    assert ax.images[0].get_clim() == (0, 1)
    assert_nothing_is_clipped(ax.figure)


@pytest.mark.filterwarnings("error")
def test_answers_on_a_scale_of_several_and_answers_all_alike():
    one, other, none = plot.figure(6, 2).subplots(1, 3)
    plot.bin_values(one, [[0.4]], limits=(0, 4))
    assert one.images[0].get_clim() == (0, 4)
    assert one.texts[0].get_color() == "white"
    plot.bin_values(other, np.full((2, 3), 2.0))
    assert [text.get_text() for text in other.texts] == ["2.00"] * 6
    plot.bin_values(none, np.zeros((0, 2)))
    assert [text.get_text() for text in none.texts] == ["no bins"]


def test_curves_are_marked_where_the_roi_is(ax):
    shifts = np.array([0.0, 1, 2])
    assert plot.shift_curves(ax, shifts, {"one": [1, 3, 5], "other": [4, 4, 0]}, "shift, cells", "answer", 0.5) is ax
    curves = [line for line in ax.lines if len(line.get_xdata()) == 3]
    assert [line.get_ydata().tolist() for line in curves] == [[1, 3, 5], [4, 4, 0]]
    marks = [(line.get_xdata()[0], line.get_ydata()[0]) for line in ax.lines if line.get_marker() == "o"]
    assert marks == [(0.5, 2), (0.5, 4)]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["one", "other"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("shift, cells", "answer")
    assert [line.get_color() for line in curves] == [style.VERMILION, style.BLUE]
    assert_nothing_is_clipped(ax.figure)


def test_the_legend_lies_under_the_name_of_the_axis(ax):
    plot.shift_curves(ax, [0, 1], {"a": [0, 1]}, "shift", "answer")
    assert_nothing_is_clipped(ax.figure)
    assert ax.get_legend().get_window_extent().y1 < ax.xaxis.label.get_window_extent().y0
    assert not [line for line in ax.lines if line.get_marker() == "o"]


@pytest.mark.filterwarnings("error")
def test_no_curves_and_many(ax):
    plot.shift_curves(ax, [], {}, "shift", "answer", at=1)
    assert ax.get_legend() is None
    plot.shift_curves(ax, [0, 1], {str(i): [i, i] for i in range(6)}, "shift", "answer")
    assert len(ax.get_legend().get_texts()) == 6


@pytest.mark.parametrize("call, message", [
    (lambda ax: plot.quantised_bins(ax, MAP[0], np.zeros(4), 1.0), r"feature_map has the shape \(8,\)"),
    (lambda ax: plot.quantised_bins(ax, MAP, np.zeros(3), 1.0), r"roi has the shape \(3,\)"),
    (lambda ax: plot.bin_values(ax, np.zeros(4)), r"values has the shape \(4,\)"),
    (lambda ax: plot.shift_curves(ax, [0, 1], {"a": [1]}, "", ""), r"curves\['a'\] has the shape \(1,\)"),
])
def test_bad_input_is_named(ax, call, message):
    with pytest.raises(ValueError, match=message):
        call(ax)

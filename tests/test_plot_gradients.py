"""Pictures of gradients and of RoI batches: what is drawn where, and that nothing is cut off or too small to read."""

import numpy as np
import pytest
from legible import assert_nothing_is_clipped
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle
from matplotlib.text import Annotation

from rcnn import plot
from rcnn.plot import style

NORMS = {"rpn": {"backbone": 0.03, "rpn": 0.3}, "roi": {"backbone": 0.5, "rpn": 0.0, "roi_heads": 4.8}}


@pytest.fixture
def ax():
    return plot.figure(9.4, 4.4).subplots()


def arrows(ax):
    """How many arrows there are of each colour."""
    drawn = [to_hex(found.arrow_patch.get_edgecolor()).upper() for found in ax.findobj(Annotation)
             if found.arrow_patch is not None]
    return {name: drawn.count(color.upper()) for name, color in
            (("forward", style.GREY), ("rpn", style.BLUE), ("roi", style.VERMILION))}


def words(ax):
    return [text.get_text() for text in ax.texts]


# ---------------------------------------------------------------------- the diagram

def test_arrows_of_gradients_are_drawn_where_one_arrives(ax):
    assert plot.gradient_flow(ax, NORMS) is ax
    assert arrows(ax) == {"forward": 7, "rpn": 2, "roi": 3}
    assert len(ax.lines) == 2  # the two marks of the cut
    assert any(text.startswith("no gradient") for text in words(ax))
    assert_nothing_is_clipped(ax.figure)


def test_the_numbers_stand_in_the_parts_that_learn(ax):
    plot.gradient_flow(ax, NORMS)
    found = words(ax)
    for number in ("RPN losses: 0.3", "RPN losses: 0.03", "RoI losses: 0.5", "RoI losses: 4.8"):
        assert found.count(number) == 1
    assert found.count("RPN losses: 0") == found.count("RoI losses: 0") == 1


def test_a_gradient_through_the_proposals_is_drawn_and_not_marked_as_cut(ax):
    plot.gradient_flow(ax, {**NORMS, "roi": {**NORMS["roi"], "rpn": 0.1}})
    assert arrows(ax) == {"forward": 7, "rpn": 2, "roi": 5}
    assert len(ax.lines) == 0 and not any(text.startswith("no gradient") for text in words(ax))
    assert_nothing_is_clipped(ax.figure)


def test_nothing_flows_without_gradients(ax):
    plot.gradient_flow(ax, {"rpn": {}, "roi": {}})
    assert arrows(ax) == {"forward": 7, "rpn": 0, "roi": 0}


# ---------------------------------------------------------------------- the table

def test_a_table_has_a_row_for_each_loss_and_a_white_cell_for_nothing(ax):
    assert plot.gradient_table(ax, {"first": {"a": 2.0, "b": 0.0}, "second": {"b": 1e-9, "c": 0.25}}) is ax
    assert words(ax) == ["2", "0", "0", "0", "1e-09", "0.25"]
    assert [text.get_text() for text in ax.get_xticklabels()] == ["a", "b", "c"]
    assert [text.get_text() for text in ax.get_yticklabels()] == ["first", "second"]
    faces = [to_hex(cell.get_facecolor()) for cell in ax.patches]
    assert [face == "#ffffff" for face in faces] == [False, True, True, True, False, False]
    assert len({faces[0], faces[4], faces[5]}) == 3
    assert ax.yaxis_inverted()  # the first loss above the second
    assert_nothing_is_clipped(ax.figure)


def test_a_table_of_zeros_and_an_empty_one(ax):
    plot.gradient_table(ax, {"only": {"a": 0.0}})
    assert words(ax) == ["0"]
    empty = plot.figure(4, 3).subplots()
    plot.gradient_table(empty, {})
    assert words(empty) == ["no gradients"]


# ---------------------------------------------------------------------- by class

def test_a_row_shows_the_gradient_of_each_class_and_outlines_the_true_one(ax):
    gradient = np.zeros((2, 3, 4))
    gradient[0, 2] = [0, 3, 0, 4]
    assert plot.gradient_by_class(ax, gradient, [2, 0], ["background", "cat", "dog"]) is ax
    shown = ax.collections[0].get_array()
    assert shown[0, 2] == 5 and shown.mask.sum() == 5
    assert [patch.get_xy() for patch in ax.findobj(Rectangle) if patch in ax.patches] == [(2, 0), (0, 1)]
    assert [text.get_text() for text in ax.get_xticklabels()] == ["background", "cat", "dog"]
    assert [text.get_text() for text in ax.get_yticklabels()] == ["0", "1"]
    assert ax.get_ylim() == (2, 0)
    assert_nothing_is_clipped(ax.figure)


def test_many_rows_are_numbered_now_and_then(ax):
    plot.gradient_by_class(ax, np.zeros((30, 3, 4)), np.zeros(30))
    assert [text.get_text() for text in ax.get_yticklabels()] == [str(row) for row in range(0, 30, 3)]
    assert_nothing_is_clipped(ax.figure)


# ---------------------------------------------------------------------- a RoI batch

PICTURE = np.zeros((20, 30, 3), np.uint8)
PICTURE[5:10, 10:20] = 51


def test_rois_are_cut_out_and_sorted_by_class():
    ax = plot.figure(5, 3).subplots()
    rois = [[0, 0, 5, 5], [10, 5, 20, 10], [0, 10, 6, 20], [0, 12, 6, 20]]
    assert plot.roi_batch(ax, PICTURE, rois, [0, 3, 0, 0], ["background", "a", "b", "c"], most=2) is ax
    assert [text.get_text() for text in ax.get_yticklabels()] == ["background: 3", "c: 1"]
    assert [image.get_array().shape for image in ax.images] == [(5, 5, 3), (10, 6, 3), (5, 10, 3)]
    assert ax.images[2].get_array().min() == 0.2 and ax.images[0].get_array().max() == 0
    assert ax.yaxis_inverted()  # background above
    assert [image.get_extent()[:2] for image in ax.images] == [[0, 0.92], [1, 1.92], [0, 0.92]]
    assert [to_hex(patch.get_edgecolor()).upper() for patch in ax.patches] == [
        style.NEUTRAL, style.NEUTRAL, style.GREEN]
    assert words(ax) == ["..."]
    assert_nothing_is_clipped(ax.figure)


def test_a_roi_beyond_the_picture_or_without_area_shows_a_pixel():
    ax = plot.figure(5, 3).subplots()
    plot.roi_batch(ax, PICTURE, [[40, 40, 50, 50], [-9, -9, -5, -5], [12.5, 7.5, 12.5, 7.5]], [1, 1, 1])
    assert [image.get_array().shape for image in ax.images] == [(1, 1, 3)] * 3
    assert ax.images[2].get_array().min() == 0.2
    assert_nothing_is_clipped(ax.figure)


def test_no_rois_are_said_to_be_none(ax):
    plot.roi_batch(ax, PICTURE, [], [])
    assert words(ax) == ["no RoIs"]
    other = plot.figure(4, 4).subplots()
    plot.gradient_by_class(other, np.zeros((0, 3, 4)), [])
    assert words(other) == ["no RoIs"]


@pytest.mark.parametrize("call, message", [
    (lambda ax: plot.gradient_flow(ax, {"rpn": {}}), "must have an entry 'roi'"),
    (lambda ax: plot.gradient_flow(ax, {"rpn": {"rpn": np.nan}, "roi": {}}), r"norms\['rpn'\]\['rpn'\] is nan"),
    (lambda ax: plot.gradient_table(ax, {"a": {"b": -1.0}}), r"norms\['a'\]\['b'\] is -1"),
    (lambda ax: plot.gradient_by_class(ax, np.zeros((1, 3, 4)), [3]), r"labels\[0\] is 3; allowed are 0 to 2"),
    (lambda ax: plot.gradient_by_class(ax, np.zeros((1, 3)), [0]), r"gradient has the shape \(1, 3\)"),
    (lambda ax: plot.roi_batch(ax, PICTURE, [[0, 0, 1, 1]], [1, 2]), r"labels has the shape \(2,\)"),
])
def test_bad_input_is_named(ax, call, message):
    with pytest.raises(ValueError, match=message):
        call(ax)

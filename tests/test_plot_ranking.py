"""Pictures of ranked detections: right and wrong are told apart everywhere, and the curve is the one that counts."""

import matplotlib
import numpy as np
import pytest
from legible import assert_nothing_is_clipped
from matplotlib.colors import to_hex

from rcnn import plot
from rcnn.plot.ranking import RIGHT, WRONG

matplotlib.use("agg")

SCORES, CORRECT = [0.9, 0.6, 0.2], [True, False, True]
RECALL, PRECISION = np.array([0.5, 0.5, 1]), np.array([1, 0.5, 2 / 3])  # of two objects


@pytest.fixture
def ax():
    return plot.figure(5, 4).subplots()


def marks(ax):
    """(x, y, right) of the marks, right where it has both the colour and the shape of it."""
    drawn = [line for line in ax.lines if line.get_marker() in ("o", "X") and line.get_markersize() == 6.5]
    for line in drawn:
        assert (line.get_color(), line.get_marker()) in ((RIGHT, "o"), (WRONG, "X"))
    return [(line.get_xdata()[0], line.get_ydata()[0], line.get_marker() == "o") for line in drawn]


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_a_ranking_has_a_bar_and_a_mark_for_each(ax):
    assert plot.ranking(ax, SCORES, CORRECT) is ax
    assert [bar.get_width() for bar in ax.patches] == SCORES
    assert [bar.get_facecolor() == ax.patches[0].get_facecolor() for bar in ax.patches] == CORRECT
    assert ax.get_ylim()[0] > ax.get_ylim()[1]  # the best on top
    assert marks(ax) == [(0.9, 0, True), (0.6, 1, False), (0.2, 2, True)]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["1", "2", "3"]
    assert legend(ax) == ["right: 2", "wrong: 1"]
    assert_nothing_is_clipped(ax.figure)


def test_what_is_not_admitted_is_pale_and_does_not_count(ax):
    plot.ranking(ax, SCORES, CORRECT, admitted=1, names=["a", "b", "c"])
    assert [bar.get_alpha() for bar in ax.patches] == [1, 0.3, 0.3]
    assert legend(ax) == ["right: 1", "wrong: 0"]
    assert [line.get_ydata()[0] for line in ax.lines if line.get_linestyle() == "--"] == [0.5]  # below the first row
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["a", "b", "c"]
    assert_nothing_is_clipped(ax.figure)


def test_ranked_boxes_are_tagged_in_their_colours(ax):
    boxes, objects = [[5, 5, 15, 15], [20, 5, 30, 15], [5, 20, 15, 30]], [[5, 5, 16, 16]]
    plot.ranked_boxes(ax, np.zeros((40, 40, 3)), boxes, CORRECT, objects)
    edges = [(patch.get_linestyle(), to_hex(patch.get_edgecolor()).upper()) for patch in ax.patches]
    assert edges == [("--", "#FFFFFF"), ("-", RIGHT), ("-", WRONG), ("-", RIGHT)]
    tags, = (artist for artist in ax.artists if hasattr(artist, "texts"))
    assert [text.get_text() for text in tags.texts] == ["1", "2", "3"]
    assert_nothing_is_clipped(ax.figure)


def test_the_curve_has_every_detection_and_its_rank(ax):
    plot.ranked_curve(ax, RECALL, PRECISION, CORRECT)
    assert marks(ax) == [(0.5, 1, True), (0.5, 0.5, False), (1, 2 / 3, True)]
    assert [text.get_text() for text in ax.texts] == ["1", "2", "3"]
    assert not any(line.get_markersize() == 12 for line in ax.lines)
    assert_nothing_is_clipped(ax.figure)


@pytest.mark.parametrize("admitted, ring", [(2, [(0.5, 0.5)]), (3, [(1, 2 / 3)]), (0, [])])
def test_a_ring_is_where_the_list_ends(ax, admitted, ring):
    plot.ranked_curve(ax, RECALL, PRECISION, CORRECT, admitted)
    rings = [line for line in ax.lines if line.get_markersize() == 12]
    pale = [line.get_alpha() < 1 for line in ax.lines if line.get_markersize() == 6.5]
    assert pale == [i >= admitted for i in range(3)]
    assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in rings] == ring
    assert legend(ax) == [f"right: {sum(CORRECT[:admitted])}", f"wrong: {admitted - sum(CORRECT[:admitted])}"]
    assert_nothing_is_clipped(ax.figure)


def test_many_detections_have_no_ranks(ax):
    count = 17
    plot.ranked_curve(ax, np.arange(1, count + 1) / count, np.ones(count), np.ones(count))
    assert not ax.texts
    assert len(marks(ax)) == count


def test_the_area_is_that_under_the_best_precision(ax):
    plot.interpolation(ax, RECALL, PRECISION)
    outline, filled = ax.patches
    for stairs in (outline, filled):
        values, edges, _ = stairs.get_data()
        assert values @ np.diff(edges) == pytest.approx(1 / 2 + 1 / 2 * 2 / 3)
    assert not ax.collections
    assert_nothing_is_clipped(ax.figure)


@pytest.mark.parametrize("recalls, expected", [
    ([0, 0.25, 0.5, 0.75, 1], [1, 1, 1, 2 / 3, 2 / 3]),
    (np.arange(101) / 100, [1] * 51 + [2 / 3] * 50),
])
def test_the_best_precision_is_read_at_the_recalls(ax, recalls, expected):
    plot.interpolation(ax, RECALL, PRECISION, recalls)
    np.testing.assert_allclose(ax.lines[0].get_xydata(), np.stack([recalls, expected], axis=1))
    np.testing.assert_allclose([segment[1, 1] for segment in ax.collections[0].get_segments()], expected)
    assert_nothing_is_clipped(ax.figure)


def test_a_better_precision_further_right_counts_before_it(ax):
    plot.interpolation(ax, [0.5, 1], [0.5, 2 / 3], [0, 0.5, 1])
    np.testing.assert_allclose(ax.lines[0].get_ydata(), [2 / 3] * 3)
    np.testing.assert_allclose(ax.patches[0].get_data().values, [2 / 3, 2 / 3, 0])


def test_beyond_the_highest_recall_it_is_zero(ax):
    plot.interpolation(ax, [0.5], [1], [0.5, 0.6])
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), [1, 0])


def test_no_detections_are_said():
    for draw in (lambda ax: plot.ranking(ax, [], []), lambda ax: plot.ranked_curve(ax, [], [], [])):
        ax = draw(plot.figure(5, 4).subplots())
        assert [text.get_text() for text in ax.texts] == ["no detections"]


@pytest.mark.parametrize("call, message", [
    (lambda ax: plot.ranking(ax, [0.1, 0.2], [True, True]), "scores must not rise"),
    (lambda ax: plot.ranking(ax, [0.2, 0.1], [True]), r"correct has the shape \(1,\)"),
    (lambda ax: plot.ranked_curve(ax, [0.5, 0.2], [1, 1], [True, True]), "recall must lie"),
    (lambda ax: plot.ranked_curve(ax, [np.nan], [1], [True]), "recall must lie"),
    (lambda ax: plot.interpolation(ax, [0.5, 1.5], [1, 1]), "recall must lie"),
    (lambda ax: plot.interpolation(ax, [0.5], [1, 1]), r"precision has the shape \(2,\)"),
])
def test_bad_input_is_named(ax, call, message):
    with pytest.raises(ValueError, match=message):
        call(ax)

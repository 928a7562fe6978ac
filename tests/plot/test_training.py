"""Plots of training: curves, gradients and nearest proposals; legible and unclipped."""

import matplotlib
import numpy as np
import pytest
from legible import assert_nothing_is_clipped
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle
from matplotlib.text import Annotation

from rcnn import plot
from rcnn.plot import style

matplotlib.use("agg")

LOSSES = ("rpn_cls_loss", "total_loss")
HISTORY = {name: [4.0, 2.0, 1.0, 0.5] for name in LOSSES}
LR = [0.1, 0.3, 0.2, 0.1]
STEPS = [1e-6, 1e-4, 1e-2]
NORMS = {"rpn": {"backbone": 0.03, "rpn": 0.3}, "roi": {"backbone": 0.5, "rpn": 0.0, "roi_heads": 4.8}}
PAGE = np.full((40, 60, 3), 200, np.uint8)
OBJECTS = np.array([[0, 0, 10, 10], [30, 10, 50, 30]])
PROPOSALS = np.array([[1, 1, 9, 9], [30, 10, 50, 40], [30, 10, 50, 30]])
OVERLAPS = np.array([[0.64, 0], [0, 2 / 3], [0, 1]])


@pytest.fixture
def ax():
    return plot.figure(6, 4).subplots()


@pytest.fixture
def small_ax():
    return plot.figure(4, 3).subplots()


@pytest.fixture
def wide_ax():
    return plot.figure(9.4, 4.4).subplots()


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def words(ax):
    return [text.get_text() for text in ax.texts]


def validated(*scores: float) -> dict[str, list[float]]:
    steps = [float(2 * (i + 1)) for i in range(len(scores))]
    return {"step": steps, "ap50": list(scores), **{name: [1.0] * len(scores) for name in LOSSES}}


def arrows(ax):
    """Return the number of arrows by colour."""
    drawn = [
        to_hex(found.arrow_patch.get_edgecolor()).upper()
        for found in ax.findobj(Annotation)
        if found.arrow_patch is not None
    ]
    return {
        name: drawn.count(color.upper())
        for name, color in (("forward", style.GREY), ("rpn", style.BLUE), ("roi", style.VERMILION))
    }


# ---- lines and levels


def test_lines_differ_in_colour_and_line_style(ax):
    assert plot.lines(ax, [4, 8, 16], {"a": [1, 2, 3], "b": [3, 2, 1]}, "side", "IoU", levels=(2.5,), log=True) is ax
    level, first, second = ax.lines
    assert list(level.get_ydata()) == [2.5, 2.5]
    np.testing.assert_array_equal(second.get_xydata(), [[4, 3], [8, 2], [16, 1]])
    assert first.get_color() != second.get_color() and first.get_linestyle() != second.get_linestyle()
    assert legend(ax) == ["a", "b"]
    assert ax.get_xscale() == "log" and ax.get_xlim() == (4, 16)
    assert_nothing_is_clipped(ax.figure)
    assert [tick.get_text() for tick in ax.get_xticklabels() if 4 <= tick.get_position()[0] <= 16] == ["4", "8", "16"]


def test_single_line_has_no_legend(ax):
    plot.lines(ax, [0, 1], {"a": [1, 2]}, "x", "y")
    assert ax.get_legend() is None and ax.get_xscale() == "linear"


def test_levels_are_labelled(small_ax):
    small_ax.plot([0, 1], [0, 3])
    assert plot.levels(small_ax, {"log 2": 0.69, "log 5": 1.61}) is small_ax
    assert [line.get_ydata()[0] for line in small_ax.lines[1:]] == [0.69, 1.61]
    assert [(text.get_text(), text.xy[1]) for text in small_ax.texts] == [("log 2", 0.69), ("log 5", 1.61)]
    assert_nothing_is_clipped(small_ax.figure)


# ---- losses and the page of a run


def test_loss_curves(ax):
    history = {"rpn_cls_loss": [4.0, 1, 1], "total_loss": [9.0, 3, 3]}
    assert plot.loss_curves(ax, history, steps=[10, 20, 30], smoothing=3, log=True) is ax
    smooth = [line for line in ax.get_lines() if line.get_label() in history]
    assert [line.get_label() for line in smooth] == ["rpn_cls_loss", "total_loss"]
    assert smooth[0].get_xdata().tolist() == [10, 20, 30]
    assert smooth[0].get_ydata().tolist() == [2.5, 2, 1]  # (4+1)/2, (4+1+1)/3, (1+1)/2
    assert ax.get_yscale() == "log"
    raw = [line for line in ax.get_lines() if line.get_label() not in history]
    assert raw[1].get_ydata().tolist() == [9, 3, 3]


def test_training_curves_are_complete():
    losses, on_val, ap50, lr = plot.training_curves(HISTORY, LR, validated(0.5, 0.25)).axes
    np.testing.assert_array_equal(losses.get_lines()[0].get_xydata(), [[1, 4], [2, 2], [3, 1], [4, 0.5]])
    assert [line.get_label() for line in on_val.get_lines()] == list(LOSSES)
    np.testing.assert_array_equal(on_val.get_lines()[0].get_xdata(), [2, 4])
    np.testing.assert_array_equal(ap50.get_lines()[0].get_xydata(), [[2, 0.5], [4, 0.25]])
    np.testing.assert_array_equal(ap50.get_lines()[1].get_xydata(), [[2, 0.5]])
    assert any("0.500 after step 2" in text for text in words(ap50))
    np.testing.assert_array_equal(lr.get_lines()[0].get_ydata(), LR)


@pytest.mark.parametrize(
    ("validation", "text"),
    [(validated(), "no validation"), (validated(np.nan), "the validation images have no objects")],
)
def test_missing_validation_is_noted(tmp_path, validation, text):
    page = plot.training_curves(HISTORY, LR, validation)
    page.savefig(tmp_path / "curves.png")
    assert any(text in written for written in words(page.axes[2]))


def test_training_curves_without_steps(tmp_path):
    plot.training_curves({name: [] for name in LOSSES}, [], validated()).savefig(tmp_path / "curves.png")


def test_long_runs_are_smoothed():
    history = {"total_loss": np.linspace(2, 1, 400)}
    losses = plot.training_curves(history, np.full(400, 0.1), validated()).axes[0]
    assert len(losses.get_lines()) == 2 and any("mean of 10 steps" in text for text in words(losses))


# ---- proposals as they settle


def test_nearest_proposals_are_coloured_by_iou(small_ax):
    assert plot.nearest_proposals(small_ax, PAGE, PROPOSALS, OVERLAPS, OBJECTS) is small_ax
    every, nearest = small_ax.collections
    assert len(every.get_segments()) == 3
    np.testing.assert_array_equal([segment[0] for segment in nearest.get_segments()], [[1, 1], [30, 10]])
    np.testing.assert_array_equal(nearest.get_segments()[1][2], [50, 30])
    np.testing.assert_array_equal(nearest.get_array(), [0.64, 1])
    assert nearest.get_clim() == (0, 1)
    assert [patch.get_bbox().bounds for patch in small_ax.patches] == [(0, 0, 10, 10), (30, 10, 20, 20)]
    assert_nothing_is_clipped(small_ax.figure)


def test_nearest_proposals_use_the_first_ones_only(small_ax):
    plot.title(plot.nearest_proposals(small_ax, PAGE, PROPOSALS, OVERLAPS, OBJECTS, top=2, scale=False), "Two of three")
    every, nearest = small_ax.collections
    assert len(every.get_segments()) == 2
    np.testing.assert_allclose(nearest.get_array(), [0.64, 2 / 3])
    assert not small_ax.child_axes
    assert_nothing_is_clipped(small_ax.figure)


@pytest.mark.parametrize("count, width", [(20, 1.0), (21, 0.6)])
def test_few_proposals_are_drawn_clearly(small_ax, count, width):
    boxes = np.tile([1.0, 1, 9, 9], (count, 1))
    plot.nearest_proposals(small_ax, PAGE, boxes, np.full((count, 2), 0.3), OBJECTS)
    every = small_ax.collections[0]
    assert every.get_linewidth() == [width]
    assert (every.get_alpha() > 0.5) == (count == 20)


def test_object_without_overlap_has_no_nearest_proposal(small_ax):
    plot.nearest_proposals(small_ax, PAGE, PROPOSALS, OVERLAPS, OBJECTS, top=1)
    np.testing.assert_array_equal(small_ax.collections[1].get_array(), [0.64])
    assert len(small_ax.collections[1].get_segments()) == 1
    assert len(small_ax.child_axes) == 1


@pytest.mark.filterwarnings("error")
def test_nearest_proposals_of_empty_input(small_ax):
    plot.nearest_proposals(small_ax, PAGE, [], np.zeros((0, 2)), OBJECTS)
    assert [len(lines.get_segments()) for lines in small_ax.collections] == [0, 0]
    assert_nothing_is_clipped(small_ax.figure)
    other = plot.figure(4, 3).subplots()
    plot.settling(other, [0, 9], np.zeros((2, 0)))
    assert [text.get_text() for text in other.get_legend().get_texts()] == ["each of 0 objects", "IoU 0.5"]
    assert_nothing_is_clipped(other.figure)


def test_settling_draws_a_line_for_each_object_and_the_median(small_ax):
    best = np.array([[0.1, 0.2, 0.6], [0.3, 0.8, 0.4], [0.9, 0.9, 0.7]])
    assert plot.settling(small_ax, [0, 50, 1200], best, threshold=0.6) is small_ax
    *objects, level, median = small_ax.lines
    np.testing.assert_array_equal([line.get_ydata() for line in objects], best.T)
    assert list(level.get_ydata()) == [0.6, 0.6]
    np.testing.assert_array_equal(median.get_ydata(), [0.2, 0.4, 0.9])
    np.testing.assert_array_equal(median.get_xdata(), [0, 1, 2])
    assert [text.get_text() for text in small_ax.get_xticklabels()] == ["0", "50", "1,200"]
    assert [text.get_text() for text in small_ax.get_legend().get_texts()] == ["each of 3 objects", "median", "IoU 0.6"]
    assert (small_ax.get_xlim(), small_ax.get_ylim()) == ((0, 2), (0, 1))
    assert_nothing_is_clipped(small_ax.figure)


# ---- numerical gradients


def test_gradient_errors_mark_the_minimum(ax):
    assert plot.gradient_errors(ax, STEPS, {"float64": [1e-9, 1e-11, 1e-5], "float32": [1e-2, 1e-3, 1e-4]}) is ax
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    curves, marks = ax.lines[::2], ax.lines[1::2]
    np.testing.assert_array_equal(curves[0].get_ydata(), [1e-9, 1e-11, 1e-5])
    assert [tuple(mark.get_xydata()[0]) for mark in marks] == [(1e-4, 1e-11), (1e-2, 1e-4)]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "float64: minimum 1e-11 at step 1e-04",
        "float32: minimum 1e-04 at step 1e-02",
    ]
    assert len({line.get_linestyle() for line in curves}) == len({line.get_color() for line in curves}) == 2
    assert_nothing_is_clipped(ax.figure)


def test_gradient_errors_draw_zero_at_the_lower_limit(ax):
    plot.gradient_errors(ax, STEPS, {"exact": [0, 1e-3, 1e-2]})
    assert ax.lines[0].get_ydata()[0] == ax.lines[1].get_ydata()[0] == 1e-17
    assert ax.get_legend().get_texts()[0].get_text().startswith("exact: minimum 0e+00")
    assert_nothing_is_clipped(ax.figure)


def test_gradient_errors_without_curves_have_no_legend(ax):
    plot.gradient_errors(ax, STEPS, {})
    assert ax.get_legend() is None
    assert_nothing_is_clipped(ax.figure)


@pytest.mark.parametrize(
    "steps, errors, message",
    [
        ([0, 1, 2], {}, r"steps\[0\] must be finite and above 0, got 0"),
        (STEPS, {"a": [1, np.nan, 1]}, r"errors\['a'\]\[1\] must be finite and at least 0, got nan"),
        (STEPS, {"a": [1, 1, -1]}, r"errors\['a'\]\[2\] must be finite and at least 0, got -1"),
        (STEPS, {"a": [1, 1]}, r"errors\['a'\] must have shape .*, got \(2,\)"),
        (STEPS, {name: [1, 1, 1] for name in "abcde"}, "errors must have at most 4 curves, got 5"),
    ],
)
def test_gradient_errors_report_invalid_input(ax, steps, errors, message):
    with pytest.raises(ValueError, match=message):
        plot.gradient_errors(ax, steps, errors)


# ---- gradients by part, loss and class


def test_gradient_flow_draws_arrows_to_parts_with_a_gradient(wide_ax):
    assert plot.gradient_flow(wide_ax, NORMS) is wide_ax
    assert arrows(wide_ax) == {"forward": 7, "rpn": 2, "roi": 3}
    assert len(wide_ax.lines) == 2  # two marks of the cut
    assert any(text.startswith("no gradient") for text in words(wide_ax))
    assert_nothing_is_clipped(wide_ax.figure)


def test_gradient_flow_writes_norms_in_trained_parts(wide_ax):
    plot.gradient_flow(wide_ax, NORMS)
    found = words(wide_ax)
    for number in ("RPN losses: 0.3", "RPN losses: 0.03", "RoI losses: 0.5", "RoI losses: 4.8"):
        assert found.count(number) == 1
    assert found.count("RPN losses: 0") == found.count("RoI losses: 0") == 1


def test_gradient_flow_draws_a_gradient_through_the_proposals(wide_ax):
    plot.gradient_flow(wide_ax, {**NORMS, "roi": {**NORMS["roi"], "rpn": 0.1}})
    assert arrows(wide_ax) == {"forward": 7, "rpn": 2, "roi": 5}
    assert len(wide_ax.lines) == 0 and not any(text.startswith("no gradient") for text in words(wide_ax))
    assert_nothing_is_clipped(wide_ax.figure)


def test_gradient_flow_without_gradients_has_no_gradient_arrows(wide_ax):
    plot.gradient_flow(wide_ax, {"rpn": {}, "roi": {}})
    assert arrows(wide_ax) == {"forward": 7, "rpn": 0, "roi": 0}


def test_gradient_table_has_a_row_per_loss_and_white_zeros(wide_ax):
    assert plot.gradient_table(wide_ax, {"first": {"a": 2.0, "b": 0.0}, "second": {"b": 1e-9, "c": 0.25}}) is wide_ax
    assert words(wide_ax) == ["2", "0", "0", "0", "1e-09", "0.25"]
    assert [text.get_text() for text in wide_ax.get_xticklabels()] == ["a", "b", "c"]
    assert [text.get_text() for text in wide_ax.get_yticklabels()] == ["first", "second"]
    faces = [to_hex(cell.get_facecolor()) for cell in wide_ax.patches]
    assert [face == "#ffffff" for face in faces] == [False, True, True, True, False, False]
    assert len({faces[0], faces[4], faces[5]}) == 3
    assert wide_ax.yaxis_inverted()  # the first loss is on top
    assert_nothing_is_clipped(wide_ax.figure)


def test_gradient_table_of_zeros_and_without_entries(wide_ax):
    plot.gradient_table(wide_ax, {"only": {"a": 0.0}})
    assert words(wide_ax) == ["0"]
    empty = plot.figure(4, 3).subplots()
    plot.gradient_table(empty, {})
    assert words(empty) == ["no gradients"]


def test_gradient_by_class_outlines_the_true_class(wide_ax):
    gradient = np.zeros((2, 3, 4))
    gradient[0, 2] = [0, 3, 0, 4]
    assert plot.gradient_by_class(wide_ax, gradient, [2, 0], ["background", "cat", "dog"]) is wide_ax
    shown = wide_ax.collections[0].get_array()
    assert shown[0, 2] == 5 and shown.mask.sum() == 5
    assert [patch.get_xy() for patch in wide_ax.findobj(Rectangle) if patch in wide_ax.patches] == [(2, 0), (0, 1)]
    assert [text.get_text() for text in wide_ax.get_xticklabels()] == ["background", "cat", "dog"]
    assert [text.get_text() for text in wide_ax.get_yticklabels()] == ["0", "1"]
    assert wide_ax.get_ylim() == (2, 0)
    assert_nothing_is_clipped(wide_ax.figure)


def test_gradient_by_class_turns_only_long_names(wide_ax):
    plot.gradient_by_class(wide_ax, np.zeros((1, 3, 4)), [0], ["background", "0", "10"])
    assert [text.get_rotation() for text in wide_ax.get_xticklabels()] == [90, 0, 0]
    assert_nothing_is_clipped(wide_ax.figure)


def test_gradient_by_class_numbers_some_of_many_rows(wide_ax):
    plot.gradient_by_class(wide_ax, np.zeros((30, 3, 4)), np.zeros(30))
    assert [text.get_text() for text in wide_ax.get_yticklabels()] == [str(row) for row in range(0, 30, 3)]
    assert_nothing_is_clipped(wide_ax.figure)


# ---- empty and invalid input


@pytest.mark.parametrize(
    "draw",
    [
        lambda ax: plot.loss_curves(ax, {}),
        lambda ax: plot.loss_curves(ax, {"total_loss": []}, smoothing=5, log=True),
    ],
)
@pytest.mark.filterwarnings("error")
def test_empty_input_is_drawn(ax, draw):
    assert draw(ax) is ax
    ax.figure.draw_without_rendering()


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda ax: plot.lines(ax, [0, 1], {"a": [1]}, "x", "y"), r"series\['a'\] must have shape .*, got \(1,\)"),
        (lambda ax: plot.loss_curves(ax, {"total_loss": [1, 2, 3]}, [1, 2]), r"steps must have shape .*, got \(2,\)"),
        (lambda ax: plot.loss_curves(ax, {}, smoothing=0), r"smoothing must be at least 1, got 0"),
        (
            lambda ax: plot.nearest_proposals(ax, PAGE, PROPOSALS, OVERLAPS.T, OBJECTS),
            r"overlaps must have shape .*, got \(2, 3\)",
        ),
        (lambda ax: plot.settling(ax, [0, 1], np.zeros((3, 2))), r"best_iou must have shape .*, got \(3, 2\)"),
        (lambda ax: plot.gradient_flow(ax, {"rpn": {}}), "must have the key 'roi'"),
        (
            lambda ax: plot.gradient_flow(ax, {"rpn": {"rpn": np.nan}, "roi": {}}),
            r"norms\['rpn'\]\['rpn'\] must be a finite number in .*, got nan",
        ),
        (lambda ax: plot.gradient_table(ax, {"a": {"b": -1.0}}), r"norms\['a'\]\['b'\] must be .*, got -1"),
        (lambda ax: plot.gradient_by_class(ax, np.zeros((1, 3, 4)), [3]), r"labels\[0\] must be in 0 .. 2, got 3"),
        (lambda ax: plot.gradient_by_class(ax, np.zeros((1, 3)), [0]), r"gradient must have shape .*, got \(1, 3\)"),
    ],
)
def test_invalid_input_is_reported(ax, call, message):
    with pytest.raises(ValueError, match=message):
        call(ax)

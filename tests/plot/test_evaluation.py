"""Plots of evaluation: rankings, curves, measures and findings; legible and unclipped."""

from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest
from legible import assert_nothing_is_clipped
from matplotlib.colors import to_hex

from rcnn import plot
from rcnn.evaluate import StageRecall, confusion, error_kinds, evaluate_detections
from rcnn.plot.evaluation import RIGHT, WRONG
from rcnn.zoo.classes import COCO_NAMES

matplotlib.use("agg")

SCORES, CORRECT = [0.9, 0.6, 0.2], [True, False, True]
RECALL, PRECISION = np.array([0.5, 0.5, 1]), np.array([1, 0.5, 2 / 3])  # of two objects
NAMES = ("background", "cat", "dog")
COUNTS = np.array([[0, 4, 0], [2, 7, 1], [0, 3, 5]])
STAGES = ("anchors", "best 10 proposals", "detections")


@pytest.fixture
def ax():
    return plot.figure(5, 4).subplots()


@pytest.fixture
def large_ax():
    return plot.figure(6, 5).subplots()


@pytest.fixture
def small_ax():
    return plot.figure(4, 3).subplots()


def marks(ax):
    """Return (x, y, correct) of each mark; correct is True if both the colour and the shape mean correct."""
    drawn = [line for line in ax.lines if line.get_marker() in ("o", "X") and line.get_markersize() == 6.5]
    for line in drawn:
        assert (line.get_color(), line.get_marker()) in ((RIGHT, "o"), (WRONG, "X"))
    return [(line.get_xdata()[0], line.get_ydata()[0], line.get_marker() == "o") for line in drawn]


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def texts_of(ax):
    return {text.get_text(): text for text in ax.texts}


def tick_names(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


def bars(ax):
    """Return the lengths of the bars by row label."""
    rows = {round(at): name for at, name in zip(ax.get_yticks(), tick_names(ax.yaxis), strict=True)}
    return {rows[round(bar.get_y() + bar.get_height() / 2)]: bar.get_width() for bar in ax.patches}


# ---- ranked detections


def test_ranking_has_a_bar_and_a_mark_per_detection(ax):
    assert plot.ranking(ax, SCORES, CORRECT) is ax
    assert [bar.get_width() for bar in ax.patches] == SCORES
    assert [bar.get_facecolor() == ax.patches[0].get_facecolor() for bar in ax.patches] == CORRECT
    assert ax.get_ylim()[0] > ax.get_ylim()[1]  # the best is on top
    assert marks(ax) == [(0.9, 0, True), (0.6, 1, False), (0.2, 2, True)]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["1", "2", "3"]
    assert legend(ax) == ["correct: 2", "wrong: 1"]
    assert_nothing_is_clipped(ax.figure)


def test_detections_not_admitted_are_pale_and_not_counted(ax):
    plot.ranking(ax, SCORES, CORRECT, admitted=1, names=["a", "b", "c"])
    assert [bar.get_alpha() for bar in ax.patches] == [1, 0.3, 0.3]
    assert legend(ax) == ["correct: 1", "wrong: 0"]
    assert [line.get_ydata()[0] for line in ax.lines if line.get_linestyle() == "--"] == [0.5]  # below the first row
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["a", "b", "c"]
    assert_nothing_is_clipped(ax.figure)


def test_ranked_boxes_have_tags_in_their_colours(ax):
    boxes, objects = [[5, 5, 15, 15], [20, 5, 30, 15], [5, 20, 15, 30]], [[5, 5, 16, 16]]
    plot.ranked_boxes(ax, np.zeros((40, 40, 3)), boxes, CORRECT, objects)
    edges = [(patch.get_linestyle(), to_hex(patch.get_edgecolor()).upper()) for patch in ax.patches]
    assert edges == [("--", "#FFFFFF"), ("-", RIGHT), ("-", WRONG), ("-", RIGHT)]
    (tags,) = (artist for artist in ax.artists if hasattr(artist, "texts"))
    assert [text.get_text() for text in tags.texts] == ["1", "2", "3"]
    assert_nothing_is_clipped(ax.figure)


def test_ranked_curve_marks_every_detection_with_its_rank(ax):
    plot.ranked_curve(ax, RECALL, PRECISION, CORRECT)
    assert marks(ax) == [(0.5, 1, True), (0.5, 0.5, False), (1, 2 / 3, True)]
    assert [text.get_text() for text in ax.texts] == ["1", "2", "3"]
    assert not any(line.get_markersize() == 12 for line in ax.lines)
    assert ax.get_ylim()[1] > 1  # the rank of the first detection is inside the axes, not on the caption
    assert_nothing_is_clipped(ax.figure)


@pytest.mark.parametrize("admitted, ring", [(2, [(0.5, 0.5)]), (3, [(1, 2 / 3)]), (0, [])])
def test_ranked_curve_has_a_ring_at_the_last_admitted_detection(ax, admitted, ring):
    plot.ranked_curve(ax, RECALL, PRECISION, CORRECT, admitted)
    rings = [line for line in ax.lines if line.get_markersize() == 12]
    pale = [line.get_alpha() < 1 for line in ax.lines if line.get_markersize() == 6.5]
    assert pale == [i >= admitted for i in range(3)]
    assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in rings] == ring
    assert legend(ax) == [f"correct: {sum(CORRECT[:admitted])}", f"wrong: {admitted - sum(CORRECT[:admitted])}"]
    assert_nothing_is_clipped(ax.figure)


def test_ranked_curve_of_many_detections_has_no_ranks(ax):
    count = 17
    plot.ranked_curve(ax, np.arange(1, count + 1) / count, np.ones(count), np.ones(count))
    assert not ax.texts
    assert len(marks(ax)) == count


def test_interpolation_fills_the_area_under_the_envelope(ax):
    plot.interpolation(ax, RECALL, PRECISION)
    outline, filled = ax.patches
    for stairs in (outline, filled):
        values, edges, _ = stairs.get_data()
        assert values @ np.diff(edges) == pytest.approx(1 / 2 + 1 / 2 * 2 / 3)
    assert not ax.collections
    assert_nothing_is_clipped(ax.figure)


@pytest.mark.parametrize(
    "recalls, expected",
    [
        ([0, 0.25, 0.5, 0.75, 1], [1, 1, 1, 2 / 3, 2 / 3]),
        (np.arange(101) / 100, [1] * 51 + [2 / 3] * 50),
    ],
)
def test_interpolation_samples_the_envelope_at_recalls(ax, recalls, expected):
    plot.interpolation(ax, RECALL, PRECISION, recalls)
    np.testing.assert_allclose(ax.lines[0].get_xydata(), np.stack([recalls, expected], axis=1))
    np.testing.assert_allclose([segment[1, 1] for segment in ax.collections[0].get_segments()], expected)
    assert_nothing_is_clipped(ax.figure)


def test_interpolation_uses_higher_precision_at_higher_recall(ax):
    plot.interpolation(ax, [0.5, 1], [0.5, 2 / 3], [0, 0.5, 1])
    np.testing.assert_allclose(ax.lines[0].get_ydata(), [2 / 3] * 3)
    np.testing.assert_allclose(ax.patches[0].get_data().values, [2 / 3, 2 / 3, 0])


def test_interpolation_is_zero_beyond_the_highest_recall(ax):
    plot.interpolation(ax, [0.5], [1], [0.5, 0.6])
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), [1, 0])


def test_no_detections_are_noted():
    for draw in (lambda ax: plot.ranking(ax, [], []), lambda ax: plot.ranked_curve(ax, [], [], [])):
        ax = draw(plot.figure(5, 4).subplots())
        assert [text.get_text() for text in ax.texts] == ["no detections"]


# ---- precision and recall, confusion, errors and stages


def test_precision_recall_adds_curves(ax):
    assert plot.precision_recall(ax, [0, 0.5, 1], [1, 1, 0.5], "cat", 0.75) is ax
    plot.precision_recall(ax, [0, 0.5], [1, 0.5], "dog")
    first, second = ax.get_lines()
    assert first.get_xydata().tolist() == [[0, 1], [0.5, 1], [1, 0.5]]
    assert first.get_color() != second.get_color()
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["cat  AP 0.750", "dog"]


def test_confusion_matrix_draws_the_background_last(large_ax):
    assert plot.confusion_matrix(large_ax, COUNTS, NAMES) is large_ax
    cells = {(text.get_position()): text.get_text() for text in large_ax.texts}  # (column, row)
    assert cells == {(0, 0): "7", (1, 0): "1", (2, 0): "2", (0, 1): "3", (1, 1): "5", (0, 2): "4"}
    assert tick_names(large_ax.yaxis) == ["cat", "dog", "background,\nduplicate"]
    assert tick_names(large_ax.xaxis) == ["cat", "dog", "missed"]


def test_confusion_matrix_colours_show_errors_and_shares(large_ax):
    plot.confusion_matrix(large_ax, COUNTS, NAMES)
    red, green, blue = np.moveaxis(np.asarray(large_ax.images[0].get_array())[:, :, :3], 2, 0)
    assert (blue > red)[[0, 1], [0, 1]].all()  # correct cells are blue
    wrong = [(0, 1), (0, 2), (1, 0), (2, 0)]
    assert all(red[cell] > blue[cell] for cell in wrong)  # errors are orange
    assert [tuple(cell) for cell in np.argwhere(red * green * blue == 1)] == [
        (1, 2),
        (2, 1),
        (2, 2),
    ]  # the others are white
    assert blue[0, 1] > blue[1, 0]  # one cat of ten is paler than three dogs of eight
    assert red[0, 0] > 0.1  # seven of ten are less than the whole row
    assert green[2, 0] > 0.5  # four of fourteen detections of cats are pale, though they are all of their row


@pytest.mark.parametrize("classes, numbers", [(24, True), (25, False)])
def test_confusion_matrix_of_many_classes_has_no_numbers(large_ax, classes, numbers):
    plot.confusion_matrix(large_ax, np.eye(classes + 1, dtype=int))
    assert (len(large_ax.texts) > 0) == numbers
    assert tick_names(large_ax.yaxis)[-1] == ("background,\nduplicate" if numbers else "background, duplicate")


@pytest.mark.parametrize(
    "counts, message",
    [
        (np.zeros((2, 3)), r"counts must have shape \(L, L\) .*, got \(2, 3\)"),
        (np.zeros((1, 1)), r"\(L, L\)"),
        (np.zeros(4), "counts"),
        (np.zeros((4, 4)), "class_names must have 4 entries, including the background, got 3"),
    ],
)
def test_confusion_matrix_rejects_invalid_counts(large_ax, counts, message):
    with pytest.raises(ValueError, match=message):
        plot.confusion_matrix(large_ax, counts, NAMES)


def test_ap_bars_are_descending_without_classes_that_have_no_objects(large_ax):
    assert plot.ap_bars(large_ax, np.array([np.nan, 0.25, np.nan, 0.75]), (*NAMES, "fox")) is large_ax
    assert tick_names(large_ax.yaxis) == ["fox", "cat"]
    assert bars(large_ax) == {"fox": 0.75, "cat": 0.25}
    assert {"0.750", "0.250"} == set(texts_of(large_ax))


def test_long_names_are_shortened(large_ax):
    plot.ap_bars(large_ax, np.array([np.nan, 0.5, 0.4]), ("background", "exactly 18 letters", "no more than eighteen"))
    assert tick_names(large_ax.yaxis) == ["exactly 18 letters", "no more than eigh\u2026"]


def test_ap_bars_of_many_classes_show_the_best_and_the_worst(large_ax):
    plot.ap_bars(large_ax, np.append(np.nan, np.arange(30) / 30), most=6)
    assert tick_names(large_ax.yaxis) == ["30", "29", "28", "3", "2", "1"]
    assert " 24 more" in texts_of(large_ax)


def test_each_of_few_classes_has_a_panel_with_the_other_curves_in_grey(large_ax):
    recalls = [np.zeros(0), np.array([1.0]), np.array([0.5, 1.0])]
    precisions = [np.zeros(0), np.array([0.5]), np.array([1.0, 0.8])]
    plot.precision_recall_classes(large_ax, recalls, precisions, np.array([np.nan, 0.5, 0.9]), NAMES)
    panels = large_ax.child_axes
    assert [panel.get_title(loc="left") for panel in panels] == ["dog", "cat"]  # by descending average precision
    assert [text.get_text() for panel in panels for text in panel.texts] == ["AP 0.900", "AP 0.500"]
    for panel, own, other in zip(panels, (2, 1), (1, 2), strict=True):
        grey, blue = panel.get_lines()
        assert (grey.get_color(), blue.get_color()) == (plot.style.NEUTRAL, plot.style.BLUE)
        for line, label in ((grey, other), (blue, own)):
            np.testing.assert_array_equal(line.get_xydata(), np.stack([recalls[label], precisions[label]], axis=1))
    assert_nothing_is_clipped(large_ax.figure)


@pytest.mark.parametrize("count", range(1, 11))
def test_panels_do_not_overlap_and_share_their_range(count):
    ax = plot.figure(7, 4).subplots()
    curve = np.array([0.35, 0.7, 1.0]), np.array([1.0, 0.95, 0.9])
    recalls, precisions = ([np.zeros(0), *[values] * count] for values in curve)
    plot.precision_recall_classes(ax, recalls, precisions, np.array([np.nan, *[0.9] * count]))
    plot.title(ax, "Precision and recall", "a caption")
    assert_nothing_is_clipped(ax.figure)
    panels = ax.child_axes
    assert len(panels) == count
    assert len({(panel.get_xlim(), panel.get_ylim()) for panel in panels}) == 1
    extents = [panel.get_tightbbox() for panel in panels]
    assert not any(a.overlaps(b) for i, a in enumerate(extents) for b in extents[:i])
    texts = [ax.title, ax._left_title, *ax.texts]
    assert not any(text.get_window_extent().overlaps(box) for text in texts if text.get_text() for box in extents)


def test_axes_start_where_the_curves_leave_precision_1(large_ax):
    recall, precision = np.array([0.35, 0.65, 0.9, 0.9]), np.array([1.0, 1.0, 0.83, 0.5])  # the last one is wrong
    perfect = np.array([0.5, 1.0]), np.array([1.0, 1.0])
    plot.precision_recall_classes(
        large_ax, [np.zeros(0), recall, perfect[0]], [np.zeros(0), precision, perfect[1]], np.array([np.nan, 0.8, 1.0])
    )
    assert large_ax.get_xlim() == (0.6, 1) and large_ax.get_ylim() == (0.8, 1)
    for panel in large_ax.child_axes:  # they end a little above 1, so that no line is cut in half
        assert panel.get_xlim() == (0.6, 1.008) and panel.get_ylim() == (0.8, 1.004)
        np.testing.assert_allclose([panel.get_xticks(), panel.get_yticks()], [[0.6, 0.8, 1], [0.8, 0.9, 1]])


def test_precision_recall_of_many_classes_draws_their_mean(large_ax):
    # Ten of 11 classes reach every recall with precision 1, and one reaches half of them with 0.12: 1, then 10/11.
    recalls = [np.zeros(0), *[np.array([1.0])] * 10, np.array([0.0, 0.5])]
    precisions = [np.zeros(0), *[np.array([1.0])] * 10, np.array([0.0, 0.12])]
    plot.precision_recall_classes(large_ax, recalls, precisions, np.array([np.nan, *[1.0] * 10, 0.06]))
    mean = large_ax.get_lines()[-1]
    assert mean.get_label() == "mean of 11 classes"
    assert legend(large_ax) == ["mean of 11 classes", "9  AP 1.000", "10  AP 1.000", "11  AP 0.060"]  # the worst three
    assert [line.get_color() for line in large_ax.get_lines()].count(plot.style.NEUTRAL) == 8
    np.testing.assert_allclose(mean.get_ydata()[[0, 50, 51, 100]], [10.12 / 11, 10.12 / 11, 10 / 11, 10 / 11])


def test_error_kinds_are_descending_by_gain(large_ax):
    assert (
        plot.error_kinds(large_ax, ["class", "missed"], np.array([0.01, 0.2]), np.array([1, 0]), np.array([1, 30]))
        is large_ax
    )
    assert bars(large_ax) == {"missed": 0.2, "class": 0.01}
    assert tick_names(large_ax.yaxis) == ["missed", "class"]
    assert set(texts_of(large_ax)) == {"+0.200   30 objects", "+0.010   1 detection, 1 object"}


def test_stage_recall(large_ax):
    assert (
        plot.stage_recall(large_ax, STAGES, {"IoU 0.5": np.array([1, 0.5, 0.25]), "small": np.array([0.5, 0.5, 0])})
        is large_ax
    )
    assert bars(large_ax) == {"anchors": 1, "best 10 proposals": 0.5, "detections": 0.25}
    assert list(texts_of(large_ax)) == ["1.000", "0.500", "0.250"]
    (marks,) = large_ax.get_lines()
    assert marks.get_xdata().tolist() == [0.5, 0.5, 0]
    assert marks.get_ydata().round().tolist() == [0, 1, 2]
    assert large_ax.yaxis_inverted()
    large_ax.figure.draw_without_rendering()
    label, legend = large_ax.xaxis.label.get_window_extent(), large_ax.get_legend().get_window_extent()
    assert 0 < label.y0 - legend.y1 < 15  # distance in dots
    with pytest.raises(ValueError, match="small"):
        plot.stage_recall(large_ax, STAGES, {"small": np.zeros(2)})


# ---- the page


def pages(num_classes, count, seed=0):
    """Return detections and targets of a mostly correct detector."""
    rng = np.random.default_rng(seed)
    detections, targets = [], []
    for _ in range(count):
        g = rng.integers(1, 9)
        corner = rng.uniform(0, 400, (g, 2))
        boxes = np.concatenate([corner, corner + rng.uniform(20, 90, (g, 2))], axis=1)
        labels = rng.integers(1, num_classes, g)
        predicted = np.where(rng.random(g) < 0.7, labels, rng.integers(1, num_classes, g))
        detections.append({"boxes": boxes + rng.choice([1, 20], (g, 1)), "scores": rng.random(g), "labels": predicted})
        targets.append({"boxes": boxes, "labels": labels})
    return detections, targets


@pytest.mark.parametrize(
    "names, count",
    [
        (("background", "pedestrian"), 5),
        (("background", "cat", "dog", "a class with a very long name indeed"), 20),
        (COCO_NAMES[:21], 200),
        (COCO_NAMES, 200),
        (NAMES, 0),
    ],
    ids=["one", "long", "twenty", "ninety", "nothing"],
)
def test_evaluation_page_is_legible(names, count):
    detections, targets = pages(len(names), count)
    measures = (detections, targets, len(names))
    objects = sum(len(target["labels"]) for target in targets)
    stages = StageRecall(
        STAGES, np.linspace(0, 1, 3 * objects).reshape(objects, 3), np.ones(objects, int), np.arange(objects) + 8.0, 100
    )
    errors = error_kinds(*measures)
    page = plot.evaluation_page(evaluate_detections(*measures), confusion(*measures), errors, stages, names)
    panels = {ax.get_title(loc="left"): ax for ax in page.axes}
    assert list(panels) == [
        "Average precision",
        "Precision and recall",
        "Confusion",
        "Kinds of error",
        "Recall by stage",
    ]
    assert_nothing_is_clipped(page)
    gains = {kind: ap - errors.mean_ap for kind, ap in errors.repaired.items()}
    if objects:
        assert bars(panels["Kinds of error"]) == pytest.approx(gains)


def test_evaluation_page_accepts_any_object_with_the_attributes():
    errors = SimpleNamespace(
        repaired={"class": 0.75, "missed": 0.5},
        mean_ap=0.5,
        examples={"right": [], "class": [], "missed": []},
        detections=np.array([[0, 5], [0, 2], [0, 0]]),
        objects=np.array([[0, 5], [0, 1], [0, 4]]),
    )
    evaluation = SimpleNamespace(
        ap=np.array([np.nan, 0.5]),
        mean_ap=0.5,
        num_objects=np.array([0, 10]),
        recall=[np.zeros(0), np.array([0.5])],
        precision=[np.zeros(0), np.array([1.0])],
    )
    stages = StageRecall(STAGES, np.ones((2, 3)), np.ones(2, int), np.ones(2), 7)
    page = plot.evaluation_page(evaluation, np.eye(2, dtype=int), errors, stages)
    texts = {text.get_text() for ax in page.axes for text in ax.texts}
    assert {"+0.250   2 detections, 1 object", "+0.000   4 objects"} <= texts


# ---- findings


def test_findings_are_darker_the_more_they_differ(small_ax):
    values = [[1, 200], [0.5, 100], [np.nan, -100], [2, 0]]
    assert plot.findings(small_ax, values, list("ABCD"), ["deviation", "boxes"], [1, 100]) is small_ax
    shown = small_ax.images[0].get_array()
    white, half, full = (np.array(c) for c in (shown[0, 0], shown[2, 0], shown[4, 1]))
    np.testing.assert_array_equal(white[:3], 1)
    for row, column, color in ((1, 0, white), (1, 1, half), (2, 1, white), (3, 0, full), (3, 1, full), (4, 0, half)):
        np.testing.assert_allclose(shown[row, column], color, err_msg=f"{row}, {column}")
    assert not np.array_equal(half, white) and not np.array_equal(half, full)
    texts = [text.get_text() for text in small_ax.texts]
    assert texts == ["1.00", "100", "1.00", "200", "0.50", "100", "none", "-100", "2.00", "0.00"]
    assert [tick.get_text() for tick in small_ax.get_yticklabels()] == ["reference", *"ABCD"]
    assert_nothing_is_clipped(small_ax.figure)


def test_findings_treat_two_nans_as_equal(small_ax):
    plot.findings(small_ax, [[np.nan, 1]], ["A"], ["a", "b"], [np.nan, np.nan])
    shown = small_ax.images[0].get_array()[1]
    np.testing.assert_array_equal(shown[0, :3], 1)
    assert (shown[1, :3] < 1).any()


def test_findings_ignore_differences_within_the_tolerance(small_ax):
    plot.findings(small_ax, [[75, 50, 20]], ["A"], ["a", "b", "c"], [100, 100, 100], tolerance=0.5)
    expected, found = small_ax.images[0].get_array()
    np.testing.assert_array_equal(found[:2], expected[:2])
    assert not np.array_equal(found[2], expected[2])
    assert_nothing_is_clipped(small_ax.figure)


# ---- empty and invalid input


@pytest.mark.parametrize(
    "draw",
    [
        lambda ax: plot.precision_recall(ax, [], []),
    ],
)
@pytest.mark.filterwarnings("error")
def test_empty_input_is_drawn(ax, draw):
    assert draw(ax) is ax
    ax.figure.draw_without_rendering()


@pytest.mark.parametrize(
    "call, message",
    [
        (
            lambda ax: plot.ranking(ax, [0.1, 0.2], [True, True]),
            "scores must be descending, got 0.1 before 0.2 at index 0",
        ),
        (lambda ax: plot.ranking(ax, [0.2, 0.1], [True]), r"correct must have shape .*, got \(1,\)"),
        (lambda ax: plot.ranked_curve(ax, [0.5, 0.2], [1, 1], [True, True]), "recall must be ascending and in .*, got"),
        (lambda ax: plot.ranked_curve(ax, [np.nan], [1], [True]), "recall must be ascending and in .*, got"),
        (lambda ax: plot.interpolation(ax, [0.5, 1.5], [1, 1]), "recall must be ascending and in .*, got"),
        (lambda ax: plot.interpolation(ax, [0.5], [1, 1]), r"precision must have shape .*, got \(2,\)"),
        (lambda ax: plot.precision_recall(ax, [0, 1], [1]), r"precision must have shape"),
        (
            lambda ax: plot.findings(ax, np.zeros((1, 2)), ["A"], ["a", "b"], [0]),
            r"reference must have shape .*, got \(1,\)",
        ),
        (
            lambda ax: plot.findings(ax, np.zeros((2, 2)), ["A"], ["a", "b"], [0, 0]),
            r"values must have shape .*, got \(2, 2\)",
        ),
    ],
)
def test_invalid_input_is_reported(ax, call, message):
    with pytest.raises(ValueError, match=message):
        call(ax)

"""Pictures of measures: what is drawn where, and that nothing is cut off or too small to read."""

from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest
from legible import assert_nothing_is_clipped

from rcnn import plot
from rcnn.evaluate import StageRecall, confusion, error_kinds, evaluate_detections
from rcnn.zoo.classes import COCO_NAMES

matplotlib.use("agg")

NAMES = ("background", "cat", "dog")
COUNTS = np.array([[0, 4, 0], [2, 7, 1], [0, 3, 5]])
STAGES = ("anchors", "best 10 proposals", "detections")


@pytest.fixture
def ax():
    return plot.figure(6, 5).subplots()


def words(ax):
    return {text.get_text(): text for text in ax.texts}


def tick_names(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


def bars(ax):
    """The bars' lengths by the name of their row."""
    rows = {round(at): name for at, name in zip(ax.get_yticks(), tick_names(ax.yaxis), strict=True)}
    return {rows[round(bar.get_y() + bar.get_height() / 2)]: bar.get_width() for bar in ax.patches}


# ---- confusion


def test_confusion_matrix_draws_the_background_last(ax):
    assert plot.confusion_matrix(ax, COUNTS, NAMES) is ax
    cells = {(text.get_position()): text.get_text() for text in ax.texts}  # (column, row)
    assert cells == {(0, 0): "7", (1, 0): "1", (2, 0): "2", (0, 1): "3", (1, 1): "5", (0, 2): "4"}
    assert tick_names(ax.yaxis) == ["cat", "dog", "nothing, or taken"]
    assert tick_names(ax.xaxis) == ["cat", "dog", "missed"]


def test_confusion_matrix_tells_right_from_wrong_and_much_from_little(ax):
    plot.confusion_matrix(ax, COUNTS, NAMES)
    red, green, blue = np.moveaxis(np.asarray(ax.images[0].get_array())[:, :, :3], 2, 0)
    assert (blue > red)[[0, 1], [0, 1]].all()  # blue what is right
    wrong = [(0, 1), (0, 2), (1, 0), (2, 0)]
    assert all(red[cell] > blue[cell] for cell in wrong)  # orange what is wrong
    assert [tuple(cell) for cell in np.argwhere(red * green * blue == 1)] == [(1, 2), (2, 1), (2, 2)]  # white the rest
    assert blue[0, 1] > blue[1, 0]  # one cat of ten is paler than three dogs of eight
    assert red[0, 0] > 0.1  # seven of ten are not the whole
    assert green[2, 0] > 0.5  # nor are four of fourteen detections that say cat, though all of their row


@pytest.mark.parametrize("classes, numbers", [(24, True), (25, False)])
def test_confusion_matrix_of_many_classes_has_no_numbers(ax, classes, numbers):
    plot.confusion_matrix(ax, np.eye(classes + 1, dtype=int))
    assert (len(ax.texts) > 0) == numbers


@pytest.mark.parametrize("counts, message", [
    (np.zeros((2, 3)), r"\(2, 3\); wanted is \(L, L\)"), (np.zeros((1, 1)), r"\(L, L\)"), (np.zeros(4), "counts"),
    (np.zeros((4, 4)), "3 names for 4 classes")])
def test_confusion_matrix_refuses(ax, counts, message):
    with pytest.raises(ValueError, match=message):
        plot.confusion_matrix(ax, counts, NAMES)


# ---- classes


def test_ap_bars_begin_with_the_best_and_leave_out_what_has_no_objects(ax):
    assert plot.ap_bars(ax, np.array([np.nan, 0.25, np.nan, 0.75]), (*NAMES, "fox")) is ax
    assert tick_names(ax.yaxis) == ["fox", "cat"]
    assert bars(ax) == {"fox": 0.75, "cat": 0.25}
    assert {"0.750", "0.250"} == set(words(ax))


def test_long_names_are_cut(ax):
    plot.ap_bars(ax, np.array([np.nan, 0.5, 0.4]), ("background", "exactly 18 letters", "no more than eighteen"))
    assert tick_names(ax.yaxis) == ["exactly 18 letters", "no more than eigh\u2026"]


def test_ap_bars_of_many_classes_are_the_best_and_the_worst(ax):
    plot.ap_bars(ax, np.append(np.nan, np.arange(30) / 30), most=6)
    assert tick_names(ax.yaxis) == ["30", "29", "28", "3", "2", "1"]
    assert " 24 more" in words(ax)


def test_precision_recall_of_few_classes_names_each(ax):
    curve = [np.zeros(0), np.array([0.5, 1.0]), np.array([1.0])]
    plot.precision_recall_classes(ax, curve, [np.zeros(0), np.array([1.0, 0.8]), np.array([0.5])],
                                  np.array([np.nan, 0.9, 0.5]), NAMES)
    assert [line.get_label() for line in ax.get_lines()] == ["cat  AP 0.900", "dog  AP 0.500"]


def test_precision_recall_of_many_classes_draws_their_mean(ax):
    # Of 11 classes ten reach every recall with precision 1, one half of them with 0.12: 1, then 10/11.
    recalls = [np.zeros(0), *[np.array([1.0])] * 10, np.array([0.0, 0.5])]
    precisions = [np.zeros(0), *[np.array([1.0])] * 10, np.array([0.0, 0.12])]
    plot.precision_recall_classes(ax, recalls, precisions, np.array([np.nan, *[1.0] * 10, 0.06]))
    mean = ax.get_lines()[-1]
    assert mean.get_label() == "mean of 11 classes"
    np.testing.assert_allclose(mean.get_ydata()[[0, 50, 51, 100]], [10.12 / 11, 10.12 / 11, 10 / 11, 10 / 11])


# ---- errors and stages


def test_error_kinds_begin_with_the_costliest(ax):
    assert plot.error_kinds(ax, ["class", "missed"], np.array([0.01, 0.2]), np.array([1, 0]), np.array([1, 30])) is ax
    assert bars(ax) == {"missed": 0.2, "class": 0.01}
    assert tick_names(ax.yaxis) == ["missed", "class"]
    assert set(words(ax)) == {"+0.200   30 objects", "+0.010   1 detection, 1 object"}


def test_stage_recall(ax):
    assert plot.stage_recall(ax, STAGES, {"IoU 0.5": np.array([1, 0.5, 0.25]), "small": np.array([0.5, 0.5, 0])}) is ax
    assert bars(ax) == {"anchors": 1, "best 10 proposals": 0.5, "detections": 0.25}
    assert list(words(ax)) == ["1.000", "0.500", "0.250"]
    (marks,) = ax.get_lines()
    assert marks.get_xdata().tolist() == [0.5, 0.5, 0]
    assert marks.get_ydata().round().tolist() == [0, 1, 2]
    assert ax.yaxis_inverted()
    ax.figure.draw_without_rendering()
    label, legend = ax.xaxis.label.get_window_extent(), ax.get_legend().get_window_extent()
    assert 0 < label.y0 - legend.y1 < 12  # dots from one to the other
    with pytest.raises(ValueError, match="small"):
        plot.stage_recall(ax, STAGES, {"small": np.zeros(2)})


# ---- the page


def pages(num_classes, count, seed=0):
    """Detections and targets of a detector that is right in most cases."""
    rng = np.random.default_rng(seed)
    detections, targets = [], []
    for _ in range(count):
        g = rng.integers(1, 9)
        corner = rng.uniform(0, 400, (g, 2))
        boxes = np.concatenate([corner, corner + rng.uniform(20, 90, (g, 2))], axis=1)
        labels = rng.integers(1, num_classes, g)
        said = np.where(rng.random(g) < 0.7, labels, rng.integers(1, num_classes, g))
        detections.append({"boxes": boxes + rng.choice([1, 20], (g, 1)), "scores": rng.random(g), "labels": said})
        targets.append({"boxes": boxes, "labels": labels})
    return detections, targets


@pytest.mark.parametrize("names, count", [
    (("background", "pedestrian"), 5),
    (("background", "cat", "dog", "a class with a very long name indeed"), 20),
    (COCO_NAMES[:21], 200), (COCO_NAMES, 200), (NAMES, 0),
], ids=["one", "long", "twenty", "ninety", "nothing"])
def test_evaluation_page_is_legible(names, count):
    detections, targets = pages(len(names), count)
    measures = (detections, targets, len(names))
    objects = sum(len(target["labels"]) for target in targets)
    stages = StageRecall(STAGES, np.linspace(0, 1, 3 * objects).reshape(objects, 3), np.ones(objects, int),
                         np.arange(objects) + 8.0, 100)
    errors = error_kinds(*measures)
    page = plot.evaluation_page(evaluate_detections(*measures), confusion(*measures), errors, stages, names)
    panels = {ax.get_title(loc="left"): ax for ax in page.axes}
    assert list(panels) == ["Average precision", "Precision and recall", "Confusion", "Kinds of error",
                            "Objects that each stage reaches"]
    assert_nothing_is_clipped(page)
    gains = {kind: ap - errors.mean_ap for kind, ap in errors.repaired.items()}
    if objects:
        assert bars(panels["Kinds of error"]) == pytest.approx(gains)


def test_evaluation_page_takes_anything_with_these_attributes():
    errors = SimpleNamespace(repaired={"class": 0.75, "missed": 0.5}, mean_ap=0.5, examples={"right": [], "class": [],
                             "missed": []}, detections=np.array([[0, 5], [0, 2], [0, 0]]),
                             objects=np.array([[0, 5], [0, 1], [0, 4]]))
    evaluation = SimpleNamespace(ap=np.array([np.nan, 0.5]), mean_ap=0.5, num_objects=np.array([0, 10]),
                                 recall=[np.zeros(0), np.array([0.5])], precision=[np.zeros(0), np.array([1.0])])
    stages = StageRecall(STAGES, np.ones((2, 3)), np.ones(2, int), np.ones(2), 7)
    page = plot.evaluation_page(evaluation, np.eye(2, dtype=int), errors, stages)
    texts = {text.get_text() for ax in page.axes for text in ax.texts}
    assert {"+0.250   2 detections, 1 object", "+0.000   4 objects"} <= texts

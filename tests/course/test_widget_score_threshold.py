"""Explorer of the score threshold: detections above it, and their point on the curve."""

import numpy as np
import pytest

from rcnn import plot
from rcnn.course import widgets

A, B, C = [0, 0, 10, 10], [20, 0, 30, 10], [20, 20, 30, 30]
IMAGES = [np.zeros((40, 40, 3))] * 2


def page(*rows):
    """Return detections from (box, score, label)."""
    return {
        "boxes": np.array([row[0] for row in rows], float).reshape(-1, 4),
        "scores": np.array([row[1] for row in rows]),
        "labels": np.array([row[2] for row in rows], int),
    }


# Class 2 by descending score: correct on image 1, a duplicate there, wrong and correct on image 0; three objects.
DETECTIONS = [page((A, 0.3, 2), (B, 0.95, 1), (C, 0.4, 2)), page((B, 0.8, 2), (B, 0.6, 2))]
TARGETS = [
    {"boxes": np.array([A, B], float), "labels": np.array([2, 2])},
    {"boxes": np.array([A, B], float), "labels": np.array([1, 2])},
]


@pytest.fixture
def shown(monkeypatch):
    calls = []
    monkeypatch.setattr(
        plot,
        "ranked_boxes",
        lambda ax, image, boxes, correct, objects, names: (
            calls.append((boxes.tolist(), correct.tolist(), objects.tolist(), names)) or ax
        ),
    )
    monkeypatch.setattr(
        plot,
        "ranked_curve",
        lambda ax, recall, precision, correct, admitted: (
            calls.append((recall.tolist(), precision.tolist(), correct.tolist(), admitted)) or ax
        ),
    )
    return calls


@pytest.mark.parametrize(
    "threshold, number, boxes, admitted",
    [
        (0.5, 1, ([B, B], [True, False], [B], ["0.80", "0.60"]), 2),
        (0.6, 1, ([B], [True], [B], ["0.80"]), 1),  # a score must exceed the threshold
        (0.1, 0, ([C, A], [False, True], [A, B], ["0.40", "0.30"]), 4),
        (0.9, 0, ([], [], [A, B], []), 0),
    ],
)
def test_detections_above_the_threshold_are_shown(shown, threshold, number, boxes, admitted):
    widgets.score_threshold(IMAGES, DETECTIONS, TARGETS, 2).png(threshold=threshold, index=number)
    assert shown[0] == boxes
    recall, precision, correct, where = shown[1]
    np.testing.assert_allclose(recall, np.array([1, 1, 1, 2]) / 3)
    np.testing.assert_allclose(precision, [1, 1 / 2, 1 / 3, 1 / 2])
    assert (correct, where) == ([True, False, False, True], admitted)


@pytest.mark.parametrize(
    "threshold, text",
    [
        (0.7, "precision 1.00, recall 0.33; 3 objects"),
        (0.1, "precision 0.50, recall 0.67; 3 objects"),
        (0.9, "no detection above the threshold; 3 objects"),
    ],
)
def test_title_contains_precision_and_recall(monkeypatch, threshold, text):
    titles = []
    monkeypatch.setattr(plot, "title", lambda ax, title, subtitle="": titles.append(subtitle))
    widgets.score_threshold(IMAGES, DETECTIONS, TARGETS, 2).png(threshold=threshold)
    assert titles[-1] == text


def test_ring_at_precision_1_does_not_touch_the_caption(monkeypatch):
    drawn, curve = [], plot.ranked_curve
    monkeypatch.setattr(plot, "ranked_curve", lambda *arguments: drawn.append(curve(*arguments)) or drawn[-1])
    widgets.score_threshold(IMAGES, DETECTIONS, TARGETS, 2).png(threshold=0.7)
    ax = drawn[-1]
    (ring,) = (line for line in ax.lines if line.get_markerfacecolor() == "none")
    (caption,) = (text for text in ax.texts if text.get_text().startswith("precision"))
    assert ring.get_ydata()[0] == 1
    radius = ring.get_markersize() / 2 * ax.figure.dpi / 72  # in pixels
    assert ax.transData.transform((0, 1))[1] + radius < caption.get_window_extent().y0


def test_stills_differ():
    explorer = widgets.score_threshold(IMAGES, DETECTIONS, TARGETS, 2, "two", index=1)
    assert explorer.still().startswith(b"\x89PNG")
    assert explorer.png(threshold=0.7) != explorer.png(threshold=0.5)


@pytest.mark.parametrize(
    "targets, label, message",
    [
        (TARGETS, 3, "label 3 must .*, got 0 detections and 0 objects"),
        (
            [{"boxes": np.zeros((0, 4)), "labels": np.zeros(0, int)}] * 2,
            2,
            "label 2 must .*, got 4 detections and 0 objects",
        ),
        ([{**target, "crowd": np.array([True, False])} for target in TARGETS], 2, "no difficult objects and no crowds"),
    ],
)
def test_input_without_a_curve_is_rejected(targets, label, message):
    with pytest.raises(ValueError, match=message):
        widgets.score_threshold(IMAGES, DETECTIONS, targets, label)

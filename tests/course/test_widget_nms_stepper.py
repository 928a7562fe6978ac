"""Explorer of suppression: it agrees with nms at every threshold."""

import numpy as np
import pytest

from rcnn import plot
from rcnn.boxes import iou
from rcnn.course import widgets
from rcnn.course.widgets.nms_stepper import _states
from rcnn.nms import nms

# Boxes 20 wide that start at 0, 8, 16 and 100. Neighbours have an IoU of 3/7, the first and third 1/9.
ROW = np.array([[x, 0, x + 20, 10] for x in (0, 8, 16, 100)], float)
OVERLAPS = iou(ROW, ROW)


@pytest.mark.parametrize(
    "threshold, done, states",
    [
        (0.4, 0, ["waiting", "waiting", "waiting", "waiting"]),
        (0.4, 1, ["kept now", "removed now", "waiting", "waiting"]),
        (0.4, 2, ["kept before", "removed before", "kept now", "waiting"]),
        (0.4, 3, ["kept before", "removed before", "kept before", "kept now"]),
        (0.1, 1, ["kept now", "removed now", "removed now", "waiting"]),
        (0.5, 4, ["kept before", "kept before", "kept before", "kept now"]),
    ],
)
def test_states_computed_by_hand(threshold, done, states):
    assert _states(OVERLAPS, nms(ROW, [4, 3, 2, 1], threshold), done, threshold) == states


def test_box_is_removed_once_by_the_first_overlapping_box():
    boxes = np.array([[0, 0, 20, 10], [10, 0, 30, 10], [5, 0, 25, 10]], float)  # the third overlaps both by 3/5
    kept = nms(boxes, [3, 2, 1], 0.5)
    assert kept.tolist() == [0, 1]
    assert _states(iou(boxes, boxes), kept, 1, 0.5) == ["kept now", "waiting", "removed now"]
    assert _states(iou(boxes, boxes), kept, 2, 0.5) == ["kept before", "kept now", "removed before"]


def test_iou_equal_to_the_threshold_removes_no_box():
    boxes = np.array([[0, 0, 20, 10], [0, 0, 40, 10]], float)
    assert _states(iou(boxes, boxes), nms(boxes, [2, 1], 0.5), 1, 0.5) == ["kept now", "waiting"]


def test_last_step_keeps_the_result_of_nms():
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 30, (30, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(10, 20, (30, 2))], axis=1)
    for threshold in (0.1, 0.3, 0.5, 0.7):
        kept = nms(boxes, -np.arange(30), threshold)
        states = np.array(_states(iou(boxes, boxes), kept, len(kept), threshold))
        assert np.flatnonzero(np.char.startswith(states, "kept")).tolist() == sorted(kept.tolist())
        assert not (states == "waiting").any()


def test_stills_show_the_start_the_first_steps_and_the_end(monkeypatch):
    shown = []
    monkeypatch.setattr(plot, "suppression_step", lambda ax, boxes, states, image: shown.append((boxes, states)))
    explorer = widgets.nms_stepper(ROW[::-1], [0.1, 0.2, 0.3, 0.4], 0.4)  # the best box is last
    explorer.still()
    assert [states.count("waiting") for _, states in shown] == [4, 2, 1, 0]
    np.testing.assert_array_equal(shown[0][0], ROW)  # by descending score
    explorer.png(steps=9, threshold=0.5)  # more steps than boxes
    assert shown[-1][1].count("waiting") == 0


def test_list_shows_the_iou_with_the_box_kept_now(monkeypatch):
    shown = []
    monkeypatch.setattr(plot, "suppression_queue", lambda ax, scores, states, overlaps: shown.append(overlaps))
    explorer = widgets.nms_stepper(ROW, [0.4, 0.3, 0.2, 0.1], 0.4)
    for steps in (0, 1, 2):
        explorer.png(steps=steps)
    np.testing.assert_allclose(shown, [[0, 0, 0, 0], [1, 3 / 7, 1 / 9, 0], [1 / 9, 3 / 7, 1, 0]], rtol=1e-6)


def test_draws_over_an_image_and_rejects_empty_boxes():
    explorer = widgets.nms_stepper(ROW, [0.4, 0.3, 0.2, 0.1], 0.4, np.zeros((20, 128, 3)))
    assert explorer.still().startswith(b"\x89PNG")
    assert explorer.png(steps=1) != explorer.png(steps=2)
    assert widgets.nms_stepper(ROW[:1], [0.5]).still().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="boxes must have at least one row"):
        widgets.nms_stepper(np.zeros((0, 4)), [])

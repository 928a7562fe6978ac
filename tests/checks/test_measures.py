"""The reference functions of `rcnn.checks.measures` agree with `rcnn.evaluate` on whole pages."""

import numpy as np
import pytest

from rcnn import evaluate
from rcnn.checks import measures


def page(rng):
    """Return (detections, target) of one class: boxes near overlapping objects, with many equal scores."""
    corner = rng.uniform(0, 40, (5, 2))
    objects = np.concatenate([corner, corner + rng.uniform(15, 25, (5, 2))], axis=1)
    found = objects[rng.integers(0, 5, 14)] + rng.uniform(-5, 5, (14, 4))
    return (
        {"boxes": found, "scores": rng.integers(0, 8, 14) / 8, "labels": np.ones(14, int)},
        {"boxes": objects, "labels": np.ones(5, int)},
    )


@pytest.mark.parametrize("seed", range(5))
def test_assignment_agrees_with_the_evaluation(seed):
    found, wanted = page(np.random.default_rng(seed))
    right = measures._assign(found["boxes"], found["scores"], wanted["boxes"], 0.5)
    result = evaluate.evaluate_detections([found], [wanted], 2)
    by_score = right[np.argsort(-found["scores"], kind="stable")]
    assert 0 < right.sum() < len(right)
    np.testing.assert_array_equal(by_score, np.diff(result.recall[1], prepend=0) > 0)


@pytest.mark.parametrize("seed", range(5))
def test_average_precision_is_that_of_coco_if_the_assignments_agree(seed):
    rng = np.random.default_rng(seed)
    offset = 50.0 * np.arange(12)  # apart, so that a detection overlaps one object at most
    boxes = np.stack([offset, offset, offset + 20, offset + 20], axis=1)
    found = {"boxes": boxes[rng.integers(0, 12, 30)], "scores": rng.random(30), "labels": np.ones(30, int)}
    wanted = {"boxes": boxes[:7], "labels": np.ones(7, int)}
    curve = evaluate.evaluate_detections([found], [wanted], 2)
    result = measures._average_precision(curve.recall[1], curve.precision[1], "coco")
    assert 0 < result < 1
    assert result == pytest.approx(evaluate.evaluate_coco([found], [wanted], 2).ap50[1], abs=1e-12)

"""Matching and sampling: comparison with torchvision, ties, and empty input."""

import numpy as np
import pytest

from rcnn.boxes import iou
from rcnn.matching import match, sample


@pytest.mark.parametrize("case", range(3))
@pytest.mark.parametrize("stage, high, low, force_best", [("rpn", 0.7, 0.3, True), ("roi", 0.5, 0.5, False)])
def test_matching_of_small_matrices_agrees_with_torchvision(golden, case, stage, high, low, force_best):
    expected = golden("boxes")[f"match_hand{case}/{stage}"]
    matches = match(golden("boxes")[f"match_hand{case}/iou"], high, low, force_best)
    assert matches.dtype == np.int64
    np.testing.assert_array_equal(matches, expected)


@pytest.mark.parametrize("stage, force_best", [("rpn", True), ("roi", False)])
def test_matching_of_random_boxes_agrees_with_torchvision(golden, stage, force_best):
    case = {key: golden("boxes")[f"match_{stage}/{key}"] for key in ("gt", "proposals", "high", "low", "matches")}
    matches = match(iou(case["proposals"], case["gt"]), float(case["high"]), float(case["low"]), force_best)
    np.testing.assert_array_equal(matches, case["matches"])


@pytest.mark.parametrize(
    "row, expected",
    [
        ([0.7, 0.2], 0),
        ([0.2, 0.9], 1),
        ([0.8, 0.8], 0),  # at the upper threshold; the better one; ties keep the first
        ([0.69, 0.1], -2),
        ([0.1, 0.3], -2),
        ([0.29, 0.1], -1),
        ([0.0, 0.0], -1),
    ],
)
def test_thresholds(row, expected):
    assert match([row], high=0.7, low=0.3).tolist() == [expected]


def test_thresholds_are_compared_in_the_dtype_of_the_iou():
    just_at = np.float32(0.7)  # 0.69999999, below the double 0.7
    assert match(np.array([[just_at]], np.float32), 0.7, 0.3).tolist() == [0]
    assert match(np.array([[just_at]], np.float64), 0.7, 0.3).tolist() == [-2]


@pytest.mark.parametrize(
    "overlaps, expected",
    [
        # The highest IoU of object 1 is 0.4, with boxes 1 and 2: both become positive.
        # Box 2 is matched to object 0, which it overlaps most.
        ([[0.9, 0.1], [0.2, 0.4], [0.5, 0.4]], [0, 1, 0]),
        # Object 1 overlaps nothing and forces nothing.
        ([[0.4, 0.0], [0.1, 0.0]], [0, -1]),
        ([[0.0], [0.0]], [-1, -1]),
    ],
)
def test_force_best(overlaps, expected):
    assert match(overlaps, 0.7, 0.3, force_best=True).tolist() == expected


def test_without_force_best_nothing_is_forced():
    assert match([[0.9, 0.1], [0.2, 0.4], [0.5, 0.4]], 0.7, 0.3).tolist() == [0, -2, -2]


@pytest.mark.parametrize("force_best", [False, True])
@pytest.mark.parametrize("shape", [(3, 0), (0, 2), (0, 0)])
def test_matching_without_anchors_or_objects(shape, force_best):
    matches = match(np.zeros(shape, np.float32), 0.7, 0.3, force_best)
    assert matches.dtype == np.int64
    assert matches.tolist() == [-1] * shape[0]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (([0.5, 0.2], 0.7, 0.3), r"iou must have shape \(A, G\), got \(2,\)"),
        (([[0.5]], 0.3, 0.7), r"low must be at most high \(0.3\), got 0.7"),
        (([[0.5]], 1.5, 0.3), "high must be"),
        (([[0.5, 0.1], [0.2, np.nan]], 0.7, 0.3), r"iou\[1\] contains NaN"),
    ],
)
def test_invalid_iou_is_reported(arguments, message):
    with pytest.raises(ValueError, match=message):
        match(*arguments)


LABELS = np.array([1, 0, -1, 3, 0, -2, 0, 2, 0, 0, 1], np.int64)  # positive 0, 3, 7, 10; negative 1, 4, 6, 8, 9


@pytest.mark.parametrize(
    "size, fraction, positives, negatives",
    [
        (4, 0.5, 2, 2),
        (6, 0.25, 1, 5),  # int(6 * 0.25) = 1
        (8, 0.75, 4, 4),  # 6 positives allowed, 4 exist: negatives fill the rest
        (20, 0.1, 2, 5),  # too few negatives: positives do not replace them
        (0, 0.5, 0, 0),
        (4, 0.0, 0, 4),
        (3, 1.0, 3, 0),
    ],
)
def test_sample_counts(size, fraction, positives, negatives):
    positive, negative = sample(LABELS, size, fraction, np.random.default_rng(0))
    assert (len(positive), len(negative)) == (positives, negatives)
    for chosen, allowed in ((positive, {0, 3, 7, 10}), (negative, {1, 4, 6, 8, 9})):
        assert chosen.dtype == np.int64
        assert chosen.tolist() == sorted(set(chosen.tolist()) & allowed)


def test_sample_depends_on_its_generator_and_can_choose_every_element():
    draws = [sample(LABELS, 4, 0.5, np.random.default_rng(seed)) for seed in (*range(60), 0)]
    np.testing.assert_array_equal(draws[0], draws[-1])
    assert {int(i) for positive, _ in draws for i in positive} == {0, 3, 7, 10}
    assert {int(i) for _, negative in draws for i in negative} == {1, 4, 6, 8, 9}


@pytest.mark.parametrize("labels", [[], [-1, -2]])
def test_sample_of_no_elements(labels):
    for chosen in sample(labels, 4, 0.5, np.random.default_rng(0)):
        assert chosen.dtype == np.int64
        assert chosen.shape == (0,)


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ((LABELS, -1, 0.5, np.random.default_rng(0)), ValueError, "size must be an integer of at least 0"),
        (
            (LABELS, 4, 1.5, np.random.default_rng(0)),
            ValueError,
            r"positive_fraction must be a number in \[0, 1\], got 1.5",
        ),
        ((LABELS, 4, 0.5, None), TypeError, "rng must be a np.random.Generator .*, got None"),
        ((LABELS[:, None], 4, 0.5, np.random.default_rng(0)), ValueError, "labels"),
        (([0.5, 1.0], 4, 0.5, np.random.default_rng(0)), TypeError, "labels"),
    ],
)
def test_invalid_arguments_of_sample_are_reported(arguments, error, message):
    with pytest.raises(error, match=message):
        sample(*arguments)

"""The region proposal network: the order of its outputs, proposals, targets and losses."""

from dataclasses import replace

import numpy as np
import pytest

from rcnn import boxes, nn, rpn
from rcnn.anchors import AnchorGenerator
from rcnn.nn import Tensor

pytestmark = pytest.mark.usefixtures("impl")


def logit(score):
    return np.log(score / (1 - score))


# ---------------------------------------------------------------------- the head


def test_outputs_have_the_order_of_the_anchors():
    generator = AnchorGenerator((8, 16), (1.0, 4.0))  # four anchors per cell, of different widths and heights
    (anchors,) = generator((40, 60), [(5, 6)])  # strides 8 and 10
    head = rpn.RPNHead(1, 4)
    for name, array in head.state_dict().items():
        array[...] = 0
        if name == "conv.0.0.weight":
            array[0, 0, 1, 1] = 1  # the identity
    head.cls_logits.weight.data[...] = 1
    head.cls_logits.bias.data[...] = [0, 0.1, 0.2, 0.3]  # by cell anchor
    head.bbox_pred.weight.data[...] = 1
    head.bbox_pred.bias.data[...] = np.arange(16) / 100  # by cell anchor, then coordinate
    cells = np.arange(30, dtype=np.float32).reshape(1, 1, 5, 6)  # 6 * row + column
    (objectness,), (deltas,) = head([Tensor(np.concatenate([cells, cells + 100]))])
    assert objectness.shape == (2, 120)
    assert deltas.shape == (2, 120, 4)

    x, y = (anchors[:, 0] + anchors[:, 2]) / 2, (anchors[:, 1] + anchors[:, 3]) / 2
    shape = np.argmin(np.abs((anchors - np.stack([x, y, x, y], 1))[:, None] - generator.cells[0]).sum(2), axis=1)
    assert np.bincount(shape).tolist() == [30] * 4
    cell = 6 * (y / 8) + x / 10
    np.testing.assert_allclose(objectness.data[0], cell + shape / 10, rtol=1e-5)
    np.testing.assert_allclose(objectness.data[1], cell + shape / 10 + 100, rtol=1e-5)
    expected = cell[:, None] + (4 * shape[:, None] + np.arange(4)) / 100
    np.testing.assert_allclose(deltas.data[0], expected, rtol=1e-5, atol=1e-6)


def test_one_head_serves_every_level():
    head = rpn.RPNHead(4, 3)
    maps = [
        Tensor(np.random.default_rng(i).standard_normal((2, 4, *size)).astype(np.float32))
        for i, size in enumerate([(8, 6), (4, 3), (1, 1)])
    ]
    objectness, deltas = head(maps)
    assert [level.shape for level in objectness] == [(2, 144), (2, 36), (2, 3)]
    assert [level.shape for level in deltas] == [(2, 144, 4), (2, 36, 4), (2, 3, 4)]
    alone, _ = head([maps[1]])
    np.testing.assert_array_equal(objectness[1].data, alone[0].data)


def test_parameters_match_torchvision_and_start_near_zero():
    state = rpn.RPN(4, num_anchors=9).state_dict()
    assert {name: array.shape for name, array in state.items()} == {
        "head.conv.0.0.weight": (4, 4, 3, 3),
        "head.conv.0.0.bias": (4,),
        "head.cls_logits.weight": (9, 4, 1, 1),
        "head.cls_logits.bias": (9,),
        "head.bbox_pred.weight": (36, 4, 1, 1),
        "head.bbox_pred.bias": (36,),
    }
    for name, array in rpn.RPNHead(64, 9).state_dict().items():
        np.testing.assert_allclose(array.std(), 0 if name.endswith("bias") else 0.01, rtol=0.2)


def test_a_head_can_have_more_convolutions():
    head = rpn.RPNHead(4, 3, num_convs=2)
    assert [name for name in head.state_dict() if name.startswith("conv")] == [
        "conv.0.0.weight",
        "conv.0.0.bias",
        "conv.1.0.weight",
        "conv.1.0.bias",
    ]
    x = Tensor(np.random.default_rng(0).standard_normal((1, 4, 5, 6)).astype(np.float32))
    hidden = x
    for block in head.conv:
        hidden = nn.functional.relu(block[0](hidden))
    expected = head.cls_logits(hidden).data.transpose(0, 2, 3, 1).reshape(1, -1)
    np.testing.assert_allclose(head([x])[0][0].data, expected, rtol=1e-5, atol=1e-9)
    with pytest.raises(ValueError, match="num_convs must be an integer of at least 1 and at most 16, got 0"):
        rpn.RPNHead(4, 3, num_convs=0)


# ---------------------------------------------------------------------- proposals


def propose(levels, size=(100, 100), pre=1000, post=1000, nms_thresh=0.5, score_thresh=0.0):
    """Return the proposals of levels given as lists of (score, anchor) or (score, anchor, deltas)."""
    scores = [np.array([row[0] for row in level], np.float64) for level in levels]
    anchors = [np.array([row[1] for row in level], np.float64).reshape(-1, 4) for level in levels]
    deltas = [
        np.array([row[2] if len(row) > 2 else [0] * 4 for row in level], np.float64).reshape(-1, 4) for level in levels
    ]
    options = {"pre_nms_top_n": pre, "post_nms_top_n": post, "nms_thresh": nms_thresh, "score_thresh": score_thresh}
    return rpn.propose([logit(level) for level in scores], deltas, anchors, size, **options)


A, B, C = [0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]  # far from one another


def test_proposals_are_sorted_by_descending_score_and_have_probabilities():
    found = propose([[(0.2, A), (0.9, B)], [(0.6, C)]])
    np.testing.assert_allclose(found.boxes, [B, C, A])
    np.testing.assert_allclose(found.scores, [0.9, 0.6, 0.2])
    np.testing.assert_allclose(found.candidates, [B, A, C])  # level by level
    np.testing.assert_allclose(found.candidate_scores, [0.9, 0.2, 0.6])
    assert found.num_after_nms == 3


def test_the_best_k_of_each_level_are_decoded():
    found = propose([[(0.9, A), (0.8, B)], [(0.1, C)]], pre=1)
    np.testing.assert_allclose(found.boxes, [A, C])


def test_the_best_n_of_all_levels_remain():
    found = propose([[(0.5, A), (0.8, B)], [(0.6, C)]], post=2)
    np.testing.assert_allclose(found.boxes, [B, C])
    assert len(found.candidates) == found.num_after_nms == 3


def test_suppression_runs_within_a_level_only():
    found = propose([[(0.9, A), (0.8, A)], [(0.7, A)]])
    np.testing.assert_allclose(found.scores, [0.9, 0.7])
    assert (len(found.candidates), found.num_after_nms) == (3, 2)


def test_suppression_requires_more_than_the_threshold():
    overlapping = [0, 0, 10, 5]  # IoU 0.5 with A
    assert len(propose([[(0.9, A), (0.8, overlapping)]], nms_thresh=0.5).boxes) == 2
    assert len(propose([[(0.9, A), (0.8, overlapping)]], nms_thresh=0.49).boxes) == 1


def test_ties_keep_the_first():
    shifted = [1, 0, 11, 10]
    np.testing.assert_allclose(propose([[(0.5, A), (0.5, shifted)]]).boxes, [A])
    np.testing.assert_allclose(propose([[(0.5, shifted), (0.5, A)]]).boxes, [shifted])


def test_anchors_are_moved_by_their_deltas_and_clipped():
    moved = [0.5, -0.2, np.log(2), 0]  # centre (5, 5) to (10, 3), twice as wide
    found = propose([[(0.9, A, moved), (0.8, [90, 70, 110, 90])]], size=(80, 100))
    np.testing.assert_allclose(found.boxes, [[0, 0, 20, 8], [90, 70, 100, 80]], atol=1e-12)


@pytest.mark.parametrize("side, kept", [(1e-3, 1), (0.9e-3, 0)])
def test_small_sides_are_dropped(side, kept):
    assert len(propose([[(0.9, [0, 0, side, 10])]]).boxes) == kept
    assert len(propose([[(0.9, [0, 0, 10, side])]]).boxes) == kept


def test_boxes_outside_the_image_are_dropped():
    found = propose([[(0.9, [100, 0, 120, 10]), (0.8, [-9, 0, 0, 10]), (0.7, A)]])
    np.testing.assert_allclose(found.boxes, [A])


def test_a_score_at_the_threshold_is_kept():
    levels = [[(0.5, A), (0.49, B)]]  # a logit of 0 is 0.5 exactly
    np.testing.assert_allclose(propose(levels, score_thresh=0.5).boxes, [A])


def test_empty_proposals_have_the_right_shapes():
    found = propose([[(0.5, A)], [(0.5, B)]], score_thresh=0.9)
    assert found.boxes.shape == found.candidates.shape == (0, 4)
    assert found.scores.shape == found.candidate_scores.shape == (0,)
    assert found.num_after_nms == 0


def test_non_finite_boxes_are_not_proposed():
    wild = [[(0.9, A, [np.inf, 0, 0, 0]), (0.8, B, [0, np.nan, 0, 0]), (0.7, C)]]
    with np.errstate(invalid="ignore"):
        np.testing.assert_allclose(propose(wild).boxes, [C])


def test_float32_stays_float32():
    found = rpn.propose([np.zeros(1, np.float32)], [np.zeros((1, 4), np.float32)], [np.array([A], np.float32)], (9, 9))
    assert {a.dtype.name for a in (found.boxes, found.scores, found.candidates, found.candidate_scores)} == {"float32"}


@pytest.mark.parametrize(
    "scores, k, expected",
    [
        ([1, 3, 2], 2, [1, 2]),
        ([1, 3, 2], 5, [1, 2, 0]),
        ([5, 5, 5, 5], 2, [0, 1]),
        ([1, 7, 7, 9, 7], 3, [3, 1, 2]),
        ([7, 7, 1, 7], 4, [0, 1, 3, 2]),
        ([], 3, []),
    ],
)
def test_top_k_keeps_the_first_of_ties(scores, k, expected):
    assert rpn.top_k(np.array(scores, np.float32), k).tolist() == expected


@pytest.mark.parametrize("seed", range(5))
def test_top_k_is_the_head_of_a_stable_sort(seed):
    scores = np.random.default_rng(seed).integers(0, 6, 40).astype(np.float32)  # many ties
    for k in range(1, 42):
        np.testing.assert_array_equal(rpn.top_k(scores, k), np.argsort(-scores, kind="stable")[:k])


# ---------------------------------------------------------------------- targets

ANCHORS = np.array([[0, 0, 10, 10], [0, 0, 10, 8], [0, 5, 10, 15], [50, 50, 60, 60], [70, 0, 80, 10]], np.float64)
GT = np.array([[0, 0, 10, 10], [68, 0, 80, 30]], np.float64)  # IoU with the second: 100 / 360 at best, forced


def test_targets_by_hand():
    options = {"batch_size": 4, "positive_fraction": 1.0, "rng": np.random.default_rng(0)}
    targets = rpn.find_targets(ANCHORS, GT, **options)
    assert targets.matches.tolist() == [0, 0, -2, -1, 1]  # IoU 1, 0.8, 1/3 (ignored), 0, best of its object
    assert targets.positive.tolist() == [0, 1, 4]
    assert targets.negative.tolist() == [3]
    expected = [[0, 0, 0, 0], [0, 1 / 8, 0, np.log(10 / 8)], [-1 / 10, 1, np.log(1.2), np.log(3)]]
    np.testing.assert_allclose(targets.deltas, expected, atol=1e-12)
    np.testing.assert_allclose(boxes.decode(targets.deltas, ANCHORS[targets.positive]), GT[[0, 0, 1]], atol=1e-12)


def test_without_objects_all_anchors_are_background():
    targets = rpn.find_targets(ANCHORS, np.zeros((0, 4)), rng=np.random.default_rng(0))
    assert targets.matches.tolist() == [-1] * 5
    assert targets.positive.shape == (0,)
    assert targets.negative.tolist() == [0, 1, 2, 3, 4]
    assert targets.deltas.shape == (0, 4)


@pytest.mark.parametrize("size, fraction, positives, negatives", [(4, 0.5, 2, 1), (2, 0.5, 1, 1), (1, 0.5, 0, 1)])
def test_samples_follow_settings_and_generator(size, fraction, positives, negatives):
    options = {"batch_size": size, "positive_fraction": fraction}
    generators = [np.random.default_rng(seed) for seed in (0, 0, *range(20))]
    draws = [rpn.find_targets(ANCHORS, GT, **options, rng=generator) for generator in generators]
    assert {(len(t.positive), len(t.negative)) for t in draws} == {(positives, negatives)}
    assert all((t.matches[t.positive] >= 0).all() and (t.matches[t.negative] == -1).all() for t in draws)
    np.testing.assert_array_equal(draws[0].positive, draws[1].positive)
    assert positives == 0 or len({tuple(t.positive) for t in draws}) == 3  # every choice occurs


# ---------------------------------------------------------------------- losses


def targets_of(positive, negative, deltas=()):
    return rpn.AnchorTargets(
        np.zeros(0, np.int64),
        np.array(positive, np.int64),
        np.array(negative, np.int64),
        np.array(deltas, np.float64).reshape(-1, 4),
    )


def outputs():
    """Return logits and deltas of two images on two levels with 3 and 2 anchors."""
    logits = [
        nn.Parameter(np.array([[0.0, 2.0, 9.0], [9.0, 9.0, -1.0]])),
        nn.Parameter(np.array([[9.0, -3.0], [9.0, 9.0]])),
    ]
    deltas = [nn.Parameter(np.full((2, 3, 4), 9.0)), nn.Parameter(np.full((2, 2, 4), 9.0))]
    deltas[0].data[0, 0] = [0.05, 0, 0, -1]
    deltas[0].data[1, 2] = [0, 0, 2, 0]
    return logits, deltas


def test_losses_by_hand():
    logits, deltas = outputs()
    targets = [targets_of([0], [1, 4], [[0, 0, 0, 0]]), targets_of([2], [], [[0, 0, 0, 0]])]
    cls_loss, reg_loss = rpn.loss(logits, deltas, targets)
    # Image 0: anchor 0 positive at logit 0, anchors 1 and 4 negative at 2 and -3; image 1: anchor 2 positive at -1.
    terms = np.log(2), np.log1p(np.exp(2.0)), np.log1p(np.exp(-3.0)), np.log1p(np.exp(1.0))
    np.testing.assert_allclose(cls_loss.item(), sum(terms) / 4, rtol=1e-12)
    # 0.05 is below beta = 1/9: 0.05^2 * 9 / 2; 1 and 2 are above: 1 - 1/18 and 2 - 1/18; four anchors were sampled.
    np.testing.assert_allclose(reg_loss.item(), (0.01125 + (1 - 1 / 18) + (2 - 1 / 18)) / 4, rtol=1e-12)


def test_gradients_reach_only_the_sampled_anchors():
    logits, deltas = outputs()
    targets = [targets_of([0], [1, 4], [[0, 0, 0, 0]]), targets_of([2], [], [[0, 0, 0, 0]])]
    cls_loss, reg_loss = rpn.loss(logits, deltas, targets)
    (cls_loss + reg_loss).backward()
    np.testing.assert_array_equal(logits[0].grad != 0, [[True, True, False], [False, False, True]])
    np.testing.assert_array_equal(logits[1].grad != 0, [[False, True], [False, False]])
    np.testing.assert_allclose(logits[0].grad[0, 0], -0.5 / 4)
    np.testing.assert_allclose(deltas[0].grad[0, 0], [0.05 * 9 / 4, 0, 0, -1 / 4])
    assert np.argwhere(deltas[0].grad.any(axis=2)).tolist() == [[0, 0], [1, 2]]
    assert not deltas[1].grad.any()


@pytest.mark.parametrize("negative", [[], [1, 2]])
def test_the_loss_of_no_samples_is_zero(negative):
    logits, deltas = outputs()
    cls_loss, reg_loss = rpn.loss(logits, deltas, [targets_of([], negative), targets_of([], negative)])
    assert (cls_loss.item() == 0) == (not negative)
    assert reg_loss.item() == 0
    (cls_loss + reg_loss).backward()
    assert all(np.isfinite(p.grad).all() for p in logits + deltas)
    assert not any(p.grad.any() for p in deltas)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"positive": [0.0]}, r"targets\[0\].positive must contain integers"),
        ({"negative": np.broadcast_to(1.0, (2**20, 2**20))}, r"targets\[0\].negative must contain integers"),
        ({"deltas": None}, r"targets\[0\].deltas must contain real numbers"),
        ({"deltas": np.zeros((2, 4))}, r"targets\[0\].deltas must have shape \(1, 4\)"),
        ({"negative": [9]}, r"targets\[0\]: the indices of anchors must be in 0 .. 4, got 9 .. 9"),
    ],
)
def test_invalid_targets_are_reported(changes, message):
    logits, deltas = outputs()
    valid = targets_of([0], [1], [[0, 0, 0, 0]])
    with pytest.raises((TypeError, ValueError), match=message):
        rpn.loss(logits, deltas, [replace(valid, **changes), valid])

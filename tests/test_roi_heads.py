"""The second stage: pooling, head, targets, losses and detections."""

from dataclasses import replace

import numpy as np
import pytest

from rcnn import boxes, nn, roi, roi_heads
from rcnn.nn import Tensor
from rcnn.nn.random import drawing_from

pytestmark = pytest.mark.usefixtures("impl")


def make_heads(**options):
    return roi_heads.RoIHeads(4, 3, **{"hidden_dim": 8, **options})


# ---------------------------------------------------------------------- pooling


def test_pooling_over_levels_matches_torchvision(golden, impl):
    case = golden("roi")
    features = [Tensor(case[f"multiscale/feature{i}"]) for i in range(4)]
    rois, levels = case["multiscale/boxes"], case["multiscale/levels"]
    scales = [1 / 4, 1 / 8, 1 / 16, 1 / 32]
    pooled = roi_heads.pool(features, rois, np.zeros(len(rois), np.int64), levels, scales)
    error = np.abs(pooled.data - case["multiscale/out"]).max() / np.abs(case["multiscale/out"]).max()
    assert error < (2e-6 if impl == "numpy" else 1e-6)


def pyramid(dtype=np.float64):
    """Return two levels of two images of 64 x 96, and six RoIs on each level, in mixed order."""
    rng = np.random.default_rng(0)
    features = [nn.Parameter(rng.standard_normal((2, 3, 64 // s, 96 // s)).astype(dtype)) for s in (4, 8)]
    corner = rng.uniform(0, 40, (6, 2))
    rois = np.concatenate([corner, corner + rng.uniform(5, 40, (6, 2))], axis=1).astype(dtype)
    return features, rois, np.array([1, 0, 0, 1, 1, 0]), np.array([0, 1, 1, 0, 1, 0]), [1 / 4, 1 / 8]


@pytest.mark.parametrize("options", [{}, {"sampling_ratio": 0}, {"aligned": True}, {"output_size": (2, 5)}])
def test_every_roi_is_pooled_from_its_level(options):
    options = {"output_size": (3, 3), **options}
    features, rois, images, levels, scales = pyramid()
    pooled = roi_heads.pool(features, rois, images, levels, scales, **options)
    assert pooled.shape == (6, 3, *options["output_size"])
    for r in range(6):
        one, maps = slice(r, r + 1), features[levels[r]].data
        alone = roi.roi_align(maps, rois[one], images[one], spatial_scale=scales[levels[r]], **options)
        np.testing.assert_array_equal(pooled.data[r], alone[0])


@pytest.mark.parametrize("options", [{}, {"sampling_ratio": 0, "aligned": True}])
def test_gradient_of_pooling_by_finite_differences(options):
    features, rois, images, levels, scales = pyramid()
    rng = np.random.default_rng(1)

    def loss():
        pooled = roi_heads.pool(features, rois, images, levels, scales, output_size=(3, 2), **options)
        return (pooled * pooled * weights).sum()

    weights = rng.standard_normal((6, 3, 3, 2))
    loss().backward()
    for level in features:
        direction, value = rng.standard_normal(level.shape), level.data
        level.data = value + 1e-5 * direction
        above = loss().item()
        level.data = value - 1e-5 * direction
        slope = (above - loss().item()) / 2e-5
        level.data = value
        np.testing.assert_allclose(slope, (level.grad * direction).sum(), rtol=1e-7)


def test_a_level_without_rois_gets_no_gradient():
    features, rois, images, levels, scales = pyramid()
    roi_heads.pool(features, rois, images, np.zeros_like(levels), scales).sum().backward()
    assert features[0].grad is not None
    assert features[1].grad is None


def test_pooling_of_no_rois_is_empty():
    features, _, _, _, scales = pyramid(np.float32)
    none = np.zeros(0, np.int64)
    pooled = roi_heads.pool(features, np.zeros((0, 4), np.float32), none, none, scales)
    assert pooled.shape == (0, 3, 7, 7)
    assert pooled.dtype == np.float32
    pooled.sum().backward()


# ---------------------------------------------------------------------- the head


def test_head_by_hand():
    heads = make_heads(pool_size=(2, 2))
    pooled = np.random.default_rng(0).standard_normal((2, 2, 5, 4)).transpose(1, 3, 0, 2)[:2, :, :, :2]  # strided
    pooled = pooled.astype(np.float32)  # (2, 4, 2, 2)
    state = heads.state_dict()
    hidden = np.ascontiguousarray(pooled).reshape(2, 16)  # channel, row, column
    for name in ("fc6", "fc7"):
        weight, bias = state[f"box_head.{name}.weight"], state[f"box_head.{name}.bias"]
        hidden = np.maximum(hidden @ weight.T + bias, 0)
    logits = hidden @ state["box_predictor.cls_score.weight"].T + state["box_predictor.cls_score.bias"]
    deltas = hidden @ state["box_predictor.bbox_pred.weight"].T + state["box_predictor.bbox_pred.bias"]
    class_logits, box_deltas = heads(Tensor(pooled))
    np.testing.assert_allclose(class_logits.data, logits, atol=1e-6)
    np.testing.assert_allclose(box_deltas.data, deltas.reshape(2, 3, 4), atol=1e-6)  # class, then coordinate


def test_parameters_match_torchvision():
    state = make_heads(pool_size=(2, 3)).state_dict()
    assert {name: array.shape for name, array in state.items()} == {
        "box_head.fc6.weight": (8, 24),
        "box_head.fc6.bias": (8,),
        "box_head.fc7.weight": (8, 8),
        "box_head.fc7.bias": (8,),
        "box_predictor.cls_score.weight": (3, 8),
        "box_predictor.cls_score.bias": (3,),
        "box_predictor.bbox_pred.weight": (12, 8),
        "box_predictor.bbox_pred.bias": (12,),
    }


def test_head_with_convolutions_by_hand():
    heads = make_heads(pool_size=(2, 3), num_convs=2)
    state = heads.state_dict()
    assert {name: array.shape for name, array in state.items() if "box_head" in name and "running" not in name} == {
        "box_head.0.0.weight": (4, 4, 3, 3),
        "box_head.0.1.weight": (4,),
        "box_head.0.1.bias": (4,),
        "box_head.1.0.weight": (4, 4, 3, 3),
        "box_head.1.1.weight": (4,),
        "box_head.1.1.bias": (4,),
        "box_head.3.weight": (8, 24),
        "box_head.3.bias": (8,),
    }
    pooled = Tensor(np.random.default_rng(0).standard_normal((5, 4, 2, 3)).astype(np.float32))
    hidden = pooled
    for block in list(heads.box_head)[:2]:
        hidden = nn.functional.relu(block[1](nn.functional.conv2d(hidden, block[0].weight, padding=1)))
    flat = hidden.data.reshape(5, 24)  # channel, row, column
    expected = np.maximum(flat @ state["box_head.3.weight"].T + state["box_head.3.bias"], 0)
    np.testing.assert_allclose(heads.box_head(pooled).data, expected, rtol=1e-5, atol=1e-6)


def test_head_with_convolutions_accepts_no_rois_in_training():
    heads = make_heads(num_convs=1)
    class_logits, box_deltas = heads(Tensor(np.zeros((0, 4, 7, 7), np.float32)))
    assert class_logits.shape == (0, 3) and box_deltas.shape == (0, 3, 4)
    (class_logits.sum() + box_deltas.sum()).backward()
    assert not heads.state_dict()["box_head.0.1.running_mean"].any()
    assert not heads.box_head[0][0].weight.grad.any()


def test_dropout_is_drawn_from_the_generator_and_only_in_training():
    heads = make_heads(hidden_dim=64, dropout=0.5)
    pooled = Tensor(np.ones((3, 4, 7, 7), np.float32))

    def logits(seed):
        with drawing_from(np.random.default_rng(seed)):
            return heads(pooled)[0].data

    np.testing.assert_array_equal(logits(0), logits(0))
    assert (logits(0) != logits(1)).any()
    heads.eval()
    np.testing.assert_array_equal(logits(0), logits(1))


# ---------------------------------------------------------------------- targets

GT, GT_LABELS = np.array([[0.0, 0, 10, 10], [50, 50, 70, 90]]), np.array([2, 1])
PROPOSALS = np.array([[1.0, 0, 11, 10], [80, 0, 90, 10], [50, 50, 70, 76], [0, 4, 10, 14]])  # IoU .82, 0, .65, .43


def find_targets(proposals=PROPOSALS, gt=GT, labels=GT_LABELS, seed=0, **options):
    options = {"positive_fraction": 1.0, **options}
    return roi_heads.find_targets(proposals, gt, labels, rng=np.random.default_rng(seed), **options)


def test_targets_by_hand():
    targets = find_targets()
    np.testing.assert_array_equal(targets.rois, np.concatenate([PROPOSALS, GT]))  # the ground truth is added
    assert targets.labels.tolist() == [2, 0, 1, 0, 2, 1]
    # The first is one pixel to the right of its object: dx = -1/10 of its width, times 10. The third has its centre at
    # 63 and its object at 70: dy = 7/26 of its height, times 10; its height is too small: dh = log(40/26), times 5.
    expected = [[-1, 0, 0, 0], [0] * 4, [0, 70 / 26, 0, 5 * np.log(40 / 26)], [0] * 4, [0] * 4, [0] * 4]
    np.testing.assert_allclose(targets.deltas, expected, atol=1e-12)


@pytest.mark.parametrize("weights", [(10, 10, 5, 5), (1, 2, 3, 4)])
def test_deltas_are_divided_by_the_weights_in_decoding(weights):
    targets = find_targets(weights=weights)
    objects = targets.labels > 0
    decoded = boxes.decode(targets.deltas[objects], targets.rois[objects], weights)
    np.testing.assert_allclose(decoded, GT[[0, 1, 0, 1]], atol=1e-12)


def test_rois_between_the_thresholds_are_ignored():
    targets = find_targets(fg_iou_thresh=0.7, bg_iou_thresh=0.5)
    np.testing.assert_array_equal(targets.rois, np.concatenate([PROPOSALS[[0, 1, 3]], GT]))
    assert targets.labels.tolist() == [2, 0, 0, 2, 1]


def test_without_proposals_the_ground_truth_is_sampled():
    targets = find_targets(np.zeros((0, 4), np.float32))
    assert targets.rois.dtype == np.float32
    np.testing.assert_array_equal(targets.rois, GT)
    assert targets.labels.tolist() == [2, 1]
    assert not targets.deltas.any()


@pytest.mark.parametrize("proposals", [PROPOSALS, np.zeros((0, 4))])
def test_without_objects_every_roi_is_background(proposals):
    targets = find_targets(proposals, np.zeros((0, 4)), np.zeros(0, np.int64))
    np.testing.assert_array_equal(targets.rois, proposals)
    assert not targets.labels.any()
    assert targets.deltas.shape == (len(proposals), 4)


def test_samples_follow_settings_and_generator():
    sizes = {"batch_size": 4, "positive_fraction": 0.25}
    draws = [find_targets(seed=seed, **sizes) for seed in (0, 0, *range(20))]
    assert {(t.labels > 0).sum() for t in draws} == {1}  # int(4 * 0.25)
    assert {len(t.labels) for t in draws} == {3}  # plus both background RoIs
    np.testing.assert_array_equal(draws[0].rois, draws[1].rois)
    assert {tuple(t.rois[t.labels > 0][0]) for t in draws} == {tuple(r) for r in (*PROPOSALS[[0, 2]], *GT)}


# ---------------------------------------------------------------------- losses


def targets_of(labels, deltas):
    return roi_heads.RoITargets(
        np.zeros((len(labels), 4)), np.array(labels, np.int64), np.array(deltas, np.float64).reshape(-1, 4)
    )


def test_losses_by_hand():
    logits = nn.Parameter(np.array([[0.0, 0, 0], [2, 0, 0], [0, 0, 1]]))
    deltas = nn.Parameter(np.full((3, 3, 4), 9.0))
    deltas.data[0, 2] = [1, 1, 1, 1]  # the true class of RoI 0
    deltas.data[2, 1] = [0, 0.1, 0, 0]  # of RoI 2
    targets = [targets_of([2, 0], [[1, 1, 1, 3], [0] * 4]), targets_of([1], [[0, 0, 0, 0]])]
    cls_loss, reg_loss = roi_heads.loss(logits, deltas, targets)
    terms = np.log(3), np.log(np.exp(2) + 2) - 2, np.log(2 + np.e)
    np.testing.assert_allclose(cls_loss.item(), sum(terms) / 3, rtol=1e-12)
    # 2 is above beta = 1/9: 2 - 1/18; 0.1 is below: 0.1^2 * 9 / 2; three RoIs were sampled.
    np.testing.assert_allclose(reg_loss.item(), (2 - 1 / 18 + 0.045) / 3, rtol=1e-12)
    (cls_loss + reg_loss).backward()
    np.testing.assert_allclose(logits.grad[0], [1 / 9, 1 / 9, -2 / 9])
    assert np.argwhere(deltas.grad).tolist() == [[0, 2, 3], [2, 1, 1]]  # of the true classes alone
    np.testing.assert_allclose(deltas.grad[[0, 2], [2, 1], [3, 1]], [-1 / 3, 0.9 / 3])


def test_class_weights_count_only_in_the_classification_loss():
    logits, deltas = nn.Parameter(np.array([[0.0, 0, 0], [2, 0, 0]])), nn.Parameter(np.ones((2, 3, 4)))
    targets = [targets_of([2, 0], np.zeros((2, 4)))]
    cls_loss, reg_loss = roi_heads.loss(logits, deltas, targets, class_weights=(1, 5, 3))
    np.testing.assert_allclose(cls_loss.item(), (3 * np.log(3) + np.log(np.exp(2) + 2) - 2) / 4, rtol=1e-12)
    assert reg_loss.item() == roi_heads.loss(logits, deltas, targets)[1].item()


@pytest.mark.parametrize("labels", [[], [0, 0]])
def test_the_loss_of_no_samples_is_zero(labels):
    logits, deltas = nn.Parameter(np.ones((len(labels), 3))), nn.Parameter(np.ones((len(labels), 3, 4)))
    cls_loss, reg_loss = roi_heads.loss(logits, deltas, [targets_of(labels, np.zeros((len(labels), 4)))])
    np.testing.assert_allclose(cls_loss.item(), np.log(3) if labels else 0)
    assert reg_loss.item() == 0
    (cls_loss + reg_loss).backward()
    assert np.isfinite(logits.grad).all()
    assert not deltas.grad.any()


# ---------------------------------------------------------------------- detection


def detect(probabilities, rois, deltas=None, size=(100, 100), score_thresh=0.05, **options):
    probabilities = np.array(probabilities, np.float64).reshape(len(rois), -1)
    deltas = np.zeros((*probabilities.shape, 4)) if deltas is None else np.array(deltas, np.float64)
    rois = np.array(rois, np.float64)
    return roi_heads.detect(np.log(probabilities), deltas, rois, size, score_thresh=score_thresh, **options)


A, B = [0, 0, 10, 10], [20, 0, 30, 10]  # far from each other


def test_each_roi_may_become_a_box_of_every_class():
    found = detect([[0.1, 0.6, 0.3], [0.5, 0.1, 0.4]], [A, B])
    np.testing.assert_allclose(found["scores"], [0.6, 0.4, 0.3, 0.1])
    assert found["labels"].tolist() == [1, 2, 2, 1]
    assert found["labels"].dtype == np.int64
    np.testing.assert_allclose(found["boxes"], [A, B, A, B])


def test_background_is_never_detected():
    found = detect([[0.98, 0.01, 0.01]], [A], score_thresh=0.0)
    assert sorted(found["labels"].tolist()) == [1, 2]
    assert detect([[0.98, 0.01, 0.01]], [A])["labels"].shape == (0,)


def test_a_score_must_exceed_its_threshold():
    halves = [[1, 1, 1e-30]]  # 0.5 exactly
    assert len(detect(halves, [A], score_thresh=0.5)["scores"]) == 0
    assert detect(halves, [A], score_thresh=0.4999)["scores"].tolist() == [0.5]


def test_every_class_has_its_own_deltas_with_the_weights_of_the_second_stage():
    deltas = [[[9] * 4, [5, 0, 0, 0], [0, 0, 0, 5 * np.log(2)]]]  # half a width to the right; twice as high
    found = detect([[0.1, 0.6, 0.3]], [[20, 20, 30, 30]], deltas)
    np.testing.assert_allclose(found["boxes"], [[25, 20, 35, 30], [20, 15, 30, 35]])


def test_suppression_runs_within_a_class_only():
    overlapping = [0, 0, 10, 6]  # IoU 0.6
    found = detect([[0.1, 0.6, 0.3], [0.4, 0.1, 0.5]], [A, overlapping])
    assert found["labels"].tolist() == [1, 2]
    np.testing.assert_allclose(found["scores"], [0.6, 0.5])
    np.testing.assert_allclose(found["boxes"], [A, overlapping])
    assert len(detect([[0.1, 0.6, 0.3], [0.4, 0.1, 0.5]], [A, overlapping], nms_thresh=0.6)["boxes"]) == 4


def test_suppression_runs_across_classes_if_it_is_class_agnostic():
    overlapping = [0, 0, 10, 6]  # IoU 0.6
    found = detect([[0.1, 0.6, 0.3], [0.4, 0.1, 0.5]], [A, overlapping], class_agnostic=True)
    assert found["labels"].tolist() == [1]
    np.testing.assert_allclose(found["boxes"], [A])


def test_soft_suppression_lowers_scores():
    probabilities, rois = [[0.1, 0.9], [0.4, 0.6], [0.2, 0.8]], [A, [0, 0, 10, 6], B]
    found = detect(probabilities, rois, soft_nms="linear")
    np.testing.assert_allclose(found["boxes"], [A, B, [0, 0, 10, 6]])
    np.testing.assert_allclose(found["scores"], [0.9, 0.8, 0.6 * 0.4])
    assert len(detect(probabilities, rois, soft_nms="linear", top_k=2)["scores"]) == 2
    assert len(detect(probabilities, rois, soft_nms="linear", score_thresh=0.3)["scores"]) == 2


def test_top_k_counts_all_classes():
    found = detect([[0.1, 0.6, 0.3], [0.2, 0.35, 0.45]], [A, B], top_k=3)
    assert found["labels"].tolist() == [1, 2, 1]
    np.testing.assert_allclose(found["scores"], [0.6, 0.45, 0.35])


def test_boxes_are_clipped_and_small_ones_dropped():
    rois = [[90, 70, 110, 90], [100, 0, 120, 10], [0, 0, 0.0099, 10], [50, 0, 50.0101, 10]]
    found = detect([[0.1, 0.9, 1e-9]] * 4, rois, size=(80, 100))
    np.testing.assert_allclose(found["boxes"], [[90, 70, 100, 80], [50, 0, 50.0101, 10]])


def test_no_rois_give_no_detections():
    none = np.zeros((0, 3, 4), np.float32)
    found = roi_heads.detect(none[..., 0], none, none[:, 0], (9, 9))
    assert {key: (array.shape, array.dtype.name) for key, array in found.items()} == {
        "boxes": ((0, 4), "float32"),
        "scores": ((0,), "float32"),
        "labels": ((0,), "int64"),
    }


def test_a_user_can_replace_a_layer_of_the_head():
    class Halved(nn.Linear):
        def forward(self, x):
            return super().forward(x) * 0.5

    head = roi_heads.TwoMLPHead(2 * 3 * 3, 5, 0.0)
    pooled = nn.Tensor(np.random.default_rng(0).standard_normal((4, 2, 3, 3)))
    head.astype(np.float64)
    flat = pooled.data.reshape(4, 18)
    first = np.maximum(flat @ head.fc6.weight.data.T + head.fc6.bias.data, 0)
    np.testing.assert_allclose(
        head(pooled).data, np.maximum(first @ head.fc7.weight.data.T + head.fc7.bias.data, 0), rtol=1e-10
    )
    halved = Halved(18, 5)
    halved.weight, halved.bias = head.fc6.weight, head.fc6.bias
    head.fc6 = halved
    np.testing.assert_allclose(
        head(pooled).data, np.maximum(0.5 * first @ head.fc7.weight.data.T + head.fc7.bias.data, 0), rtol=1e-10
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": [0.0]}, r"targets\[0\].labels must contain integers"),
        ({"deltas": None}, r"targets\[0\].deltas must contain real numbers"),
        ({"deltas": np.zeros((2, 4))}, r"targets\[0\].deltas must have shape \(1, 4\)"),
    ],
)
def test_invalid_targets_are_reported(changes, message):
    logits, deltas = nn.Parameter(np.zeros((1, 3))), nn.Parameter(np.zeros((1, 3, 4)))
    with pytest.raises((TypeError, ValueError), match=message):
        roi_heads.loss(logits, deltas, [replace(targets_of([1], [[0] * 4]), **changes)])

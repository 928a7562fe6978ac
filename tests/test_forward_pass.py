"""The three steps of the forward pass, their observers, and threads that share one model."""

import threading

import numpy as np
import pytest

import rcnn
from rcnn import nn, roi_heads, rpn
from rcnn.model import FirstStage, SecondStage

BATCH = np.random.default_rng(0).standard_normal((2, 3, 64, 96)).astype(np.float32)
TARGETS = [{"boxes": [[8, 8, 40, 40]], "labels": [1]}, {"boxes": [], "labels": []}]


@pytest.fixture
def model():
    rcnn.seed(3)
    return rcnn.faster_rcnn_small(("background", "a", "b"), box_score_thresh=0.01)


def assert_same(found, wanted):
    for one, other in zip(found, wanted, strict=True):
        for key in ("boxes", "scores", "labels"):
            np.testing.assert_array_equal(one[key], other[key])


# ---------------------------------------------------------------------- steps


def test_predict_runs_the_steps(model):
    batch = model.make_batch(BATCH)
    with nn.evaluation(), nn.no_grad():
        first = model.first_stage(batch)
        second = model.second_stage(batch, first.features, *first.rois())
        found = model.detections(batch, second)
    assert isinstance(first, FirstStage) and isinstance(second, SecondStage)
    assert_same(model.predict(BATCH), found)


def test_a_step_accepts_other_inputs(model):
    model.eval()
    batch = model.make_batch(BATCH)
    first = model.first_stage(batch, pre_nms_top_n=7, post_nms_top_n=4)
    assert [len(proposals.boxes) for proposals in first.proposals] == [4, 4]
    assert all(len(proposals.candidates) <= 7 for proposals in first.proposals)
    rois, roi_images = np.array([[0, 0, 32, 32], [8, 8, 60, 50]], np.float32), np.array([1, 0])
    second = model.second_stage(batch, first.features, rois, roi_images)
    class_logits, box_deltas = model(BATCH, rois, roi_images)
    np.testing.assert_array_equal(second.class_logits.data, class_logits.data)
    np.testing.assert_array_equal(second.box_deltas.data, box_deltas.data)
    assert second.class_logits.requires_grad


def test_rois_of_the_first_stage_are_the_proposals_image_by_image(model):
    first = model.eval().first_stage(model.make_batch(BATCH), post_nms_top_n=3)
    rois, roi_images = first.rois()
    np.testing.assert_array_equal(rois, np.concatenate([proposals.boxes for proposals in first.proposals]))
    assert roi_images.tolist() == [0, 0, 0, 1, 1, 1]


def test_thresholds_of_detections_are_those_of_predict(model):
    batch = model.make_batch(BATCH)
    with nn.evaluation(), nn.no_grad():
        first = model.first_stage(batch)
        second = model.second_stage(batch, first.features, *first.rois())
    assert_same(model.predict(BATCH, 0.2, 0.3, 5), model.detections(batch, second, 0.2, 0.3, 5))
    with pytest.raises(ValueError, match="top_k must be an integer of at least 1"):
        model.detections(batch, second, top_k=0)


# ---------------------------------------------------------------------- observers


def test_an_observer_sees_every_stage_in_order_with_its_arrays(model):
    seen = {}
    model.get_loss(BATCH, TARGETS, np.random.default_rng(0), watch=lambda stage, **values: seen.update({stage: values}))
    assert {stage: list(values) for stage, values in seen.items()} == {
        "backbone": ["features"],
        "anchors": ["anchors"],
        "RPN head": ["objectness", "deltas"],
        "proposals": ["proposals"],
        "RoIAlign": ["pooled"],
        "head": ["class_logits", "box_deltas"],
        "losses": ["rpn_cls_loss", "rpn_reg_loss", "roi_cls_loss", "roi_reg_loss", "total_loss"],
    }
    assert [level.shape for level in seen["backbone"]["features"]] == [(2, 64, 8, 12)]
    assert seen["head"]["class_logits"].shape[1] == 3
    traced = model.trace(BATCH)
    assert list(traced.times) == ["backbone", "anchors", "RPN head", "proposals", "RoIAlign", "head", "detections"]
    assert all(seconds > 0 for seconds in traced.times.values())


def test_an_exception_of_an_observer_stops_the_pass(model, monkeypatch):
    def stop(stage, **values):
        if stage == "proposals":
            raise InterruptedError(stage)

    monkeypatch.setattr(roi_heads, "pool", lambda *given, **options: pytest.fail("the pass went on"))
    with pytest.raises(InterruptedError, match="proposals"):
        model.get_loss(BATCH, TARGETS, watch=stop)


# ---------------------------------------------------------------------- threads


def test_eight_threads_and_one_thread_predict_the_same(model):
    assert model.training
    wanted, wrong = model.predict(BATCH[:1]), []

    def work():
        for _ in range(10):
            try:
                assert_same(model.predict(BATCH[:1]), wanted)
            except Exception as error:  # otherwise it would be lost in the thread
                wrong.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert all(module.training for module in model.modules())


def test_a_thread_predicts_while_another_takes_losses(model):
    """`predict` must neither run in training mode nor switch it off for the other thread."""
    model.backbone.requires_grad_(False)
    statistics = {name: array.copy() for name, array in model.state_dict().items() if "running" in name}
    done, modes = threading.Event(), []

    def forward(module, arguments, result):
        modes.append((threading.current_thread() is main, module.training))

    main = threading.current_thread()
    handle = model.rpn.head.register_forward_hook(forward)
    thread = threading.Thread(target=lambda: [model.predict(BATCH[:1]) for _ in range(20)] and done.set())
    thread.start()
    while not done.is_set():
        model.get_loss(BATCH, TARGETS, np.random.default_rng(0))
    thread.join()
    handle.remove()
    assert set(modes) == {(True, True), (False, False)}
    assert any((model.state_dict()[name] != array).any() for name, array in statistics.items())


# ---------------------------------------------------------------------- stages without a model


def test_the_stages_work_on_arrays_alone():
    """A course can use the stages without a config or a model."""
    anchors = np.array([[0, 0, 20, 20], [30, 30, 60, 60], [0, 30, 20, 60]], np.float32)
    objects = np.array([[1, 1, 20, 20]], np.float32)
    found = rpn.propose([np.array([2.0, 0, -3])], [np.zeros((3, 4))], [anchors], (64, 64))
    np.testing.assert_allclose(found.boxes, anchors)
    targets = rpn.find_targets(anchors, objects, batch_size=2, rng=np.random.default_rng(0))
    assert (targets.positive.tolist(), len(targets.negative)) == ([0], 1)
    sampled = roi_heads.find_targets(found.boxes, objects, np.array([4]), rng=np.random.default_rng(0))
    assert sorted(sampled.labels.tolist()) == [0, 0, 4, 4]
    logits = np.array([[0, 5.0], [5, 0], [5, 0]])
    detections = roi_heads.detect(logits, np.zeros((3, 2, 4)), anchors, (64, 64), score_thresh=0.5)
    np.testing.assert_allclose(detections["boxes"], anchors[:1])


def test_stages_take_lists_and_name_what_is_wrong():
    found = rpn.propose([[2, 0]], [[[0, 0, 0, 0]] * 2], [[[0, 0, 20, 20], [30, 30, 60, 60]]], (64, 64))
    assert found.boxes.tolist() == [[0, 0, 20, 20], [30, 30, 60, 60]]
    sampled = roi_heads.find_targets(
        [[2, 2, 12, 13], [30, 30, 40, 40]], [[2.5, 2, 12, 13]], [3], batch_size=4, positive_fraction=0.5
    )
    assert sampled.deltas.dtype == np.float64 and (3 in sampled.labels)
    detections = roi_heads.detect([[0.0, 5]], [[[0, 0, 0, 0]] * 2], [[0, 0, 20, 20]], (64, 64))
    assert detections["boxes"].tolist() == [[0, 0, 20, 20]]
    with pytest.raises(ValueError, match=r"objectness\[0\] must have shape \(1,\), with one score per box, got \(2,\)"):
        rpn.propose([[2, 0]], [[[0, 0, 0, 0]]], [[[0, 0, 20, 20]]], (64, 64))
    with pytest.raises(ValueError, match="pre_nms_top_n must be an integer of at least 1 and at most 1048576, got 0"):
        rpn.propose([[2]], [[[0, 0, 0, 0]]], [[[0, 0, 20, 20]]], (64, 64), pre_nms_top_n=0)
    with pytest.raises(ValueError, match="gt_labels must be at least 1"):
        roi_heads.find_targets([[0, 0, 9, 9]], [[0, 0, 9, 9]], [0])
    with pytest.raises(ValueError, match="class_logits and box_deltas must have shapes"):
        roi_heads.detect([[0.0, 5]], [[[0, 0, 0, 0]]], [[0, 0, 20, 20]], (64, 64))
    with pytest.raises(TypeError, match=r"pool: features\[0\] must be a Tensor, got ndarray"):
        roi_heads.pool([np.zeros((1, 1, 4, 4))], np.zeros((0, 4)), [], [], [1.0])

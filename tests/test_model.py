"""The whole detector: public methods, gradients, modes, and unusual input."""

import itertools

import numpy as np
import pytest
from PIL import Image

import rcnn
from rcnn import FasterRCNN, FasterRCNNConfig, nms, nn, roi_heads, rpn, views
from rcnn.fpn import BackboneWithFPN
from rcnn.zoo.detectors import faster_rcnn_small

LOSSES = ["rpn_cls_loss", "rpn_reg_loss", "roi_cls_loss", "roi_reg_loss"]
CHANNELS = 6


class Single(nn.Module):
    """A backbone of stride 8 with batch norm and dropout, so that training and evaluation differ."""

    def __init__(self):
        self.net = nn.Sequential(
            nn.Conv2d(3, 5, 3, stride=4, padding=1, bias=False),
            nn.BatchNorm2d(5),
            nn.Sigmoid(),
            nn.Dropout(0.0),
            nn.Conv2d(5, CHANNELS, 3, stride=2, padding=1),
        )

    def forward(self, x):
        return self.net(x)


class Levels(nn.Module):
    """A backbone that returns a plain list of two maps, of strides 4 and 8."""

    def __init__(self):
        self.first = nn.Conv2d(3, CHANNELS, 3, stride=4, padding=1)
        self.second = nn.Conv2d(CHANNELS, CHANNELS, 3, stride=2, padding=1)

    def forward(self, x):
        fine = self.first(x)
        return [fine, self.second(nn.functional.sigmoid(fine))]


def single(**fields):
    return Single(), {"use_fpn": False, **fields}


def plain_list(**fields):
    return Levels(), {"use_fpn": True, **fields}


def pyramid(**fields):
    return BackboneWithFPN(Levels(), (CHANNELS, CHANNELS), CHANNELS), {"use_fpn": True, **fields}


KINDS = {"single": single, "list": plain_list, "pyramid": pyramid}


def make(kind="single", seed=0, **fields):
    """Return a detector with a few thousand parameters; the large weights of its RPN make scores differ."""
    rcnn.seed(seed)
    backbone, fields = KINDS[kind](**fields)
    settings = {
        "anchor_sizes": (12, 24),
        "aspect_ratios": (1.0, 2.0),
        "pool_size": (3, 3),
        "hidden_dim": 12,
        "dropout": 0.0,
        "min_size": 64,
        "max_size": 96,
        "rpn_pre_nms_top_n_train": 70,
        "rpn_pre_nms_top_n_test": 60,
        "rpn_post_nms_top_n_train": 50,
        "rpn_post_nms_top_n_test": 40,
        "rpn_batch_size_per_image": 32,
        "box_batch_size_per_image": 16,
        "canonical_size": 32,
        "canonical_level": 3,
        "box_score_thresh": 0.2,
        **fields,
    }
    model = FasterRCNN(FasterRCNNConfig(backbone, CHANNELS, 4, **settings))
    for parameter in model.rpn.parameters():
        parameter.data *= 10
    return model


def image(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def batch(n=2, height=64, width=96, seed=0):
    return np.random.default_rng(seed).standard_normal((n, 3, height, width)).astype(np.float32)


OBJECTS = {"boxes": [[5, 8, 30, 35], [40, 20, 64, 46]], "labels": [1, 3]}
EMPTY = {"boxes": np.zeros((0, 4)), "labels": np.zeros(0, np.int64)}


def rng(seed=0):
    return np.random.default_rng(seed)


def test_class_weights_of_the_config_change_only_the_classification_loss():
    losses = [
        make(box_class_weights=weights).eval().get_loss(batch(), [OBJECTS, EMPTY], rng())
        for weights in (None, (1, 1, 1, 1), (1, 5, 5, 5))
    ]
    plain, equal, weighted = ({name: loss.item() for name, loss in one.items()} for one in losses)
    assert plain == equal
    assert {name for name in LOSSES if weighted[name] != plain[name]} == {"roi_cls_loss"}


def values(losses):
    return {name: loss.item() for name, loss in losses.items()}


def assert_same_detections(found, expected, **tolerance):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert set(one) == {"boxes", "scores", "labels"}
        np.testing.assert_array_equal(one["labels"], other["labels"])
        for key in ("boxes", "scores"):
            np.testing.assert_allclose(one[key], other[key], **{"rtol": 0, "atol": 0, **tolerance})


# ---------------------------------------------------------------------- public methods


def test_the_example_of_the_readme():
    class SimpleBackbone(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Sequential(
                nn.Conv2d(3, 64, kernel_size=3, stride=2, padding=1),
                nn.ReLU(),
                nn.Conv2d(64, 128, kernel_size=3, stride=2, padding=1),
                nn.ReLU(),
            )

        def forward(self, x):
            return self.conv(x)

    config = rcnn.FasterRCNNConfig(
        backbone=SimpleBackbone(),
        feat_channels=128,
        num_classes=5,
        anchor_sizes=(64, 128, 256),
        aspect_ratios=(0.5, 1.0),
        pool_size=(5, 5),
        hidden_dim=2048,
        dropout=0.4,
    )
    model = rcnn.FasterRCNN(config)
    (found,) = model.predict(np.random.randn(1, 3, 384, 384).astype("float32"))
    assert found["boxes"].shape == (len(found["scores"]), 4)
    assert found["labels"].shape == found["scores"].shape
    assert len(found["scores"]) <= 100
    losses = model.get_loss(batch(1, 128, 128), [{"boxes": [[10, 10, 70, 80]], "labels": [4]}])
    assert {name: loss.shape for name, loss in losses.items()} == dict.fromkeys([*LOSSES, "total_loss"], ())
    losses["total_loss"].backward()
    assert all(p.grad is not None and np.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_total_loss_is_the_sum_of_the_four_losses(kind):
    losses = make(kind).get_loss(batch(), [OBJECTS, EMPTY], rng())
    assert list(losses) == [*LOSSES, "total_loss"]
    assert all(loss.item() > 0 for loss in losses.values())
    assert losses["total_loss"].dtype == np.float32
    np.testing.assert_allclose(losses["total_loss"].item(), sum(losses[name].item() for name in LOSSES), rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_detections_are_inside_the_image_and_sorted_by_score(kind):
    images = [image(64, 80), image(50, 90, seed=1), image(200, 100, seed=2)]
    found = make(kind).predict(images, score_thresh=0.1)
    assert len(found) == 3
    for detections, (height, width, _) in zip(found, [p.shape for p in images], strict=True):
        boxes, scores, labels = (detections[key] for key in ("boxes", "scores", "labels"))
        assert len(boxes) == len(scores) == len(labels) > 0
        assert (boxes.dtype, scores.dtype, labels.dtype) == (np.float32, np.float32, np.int64)
        assert (boxes >= 0).all()
        assert (boxes <= np.array([width, height, width, height]) * (1 + 1e-6)).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()
        assert (np.diff(scores) <= 0).all()
        assert (scores > 0.1).all()
        assert set(labels.tolist()) <= {1, 2, 3}


@pytest.mark.parametrize("kind", KINDS)
def test_predict_and_forward_agree_with_trace(kind):
    model, images = make(kind), [image(64, 80), image(50, 90, seed=1)]
    traced = model.trace(images)
    assert_same_detections(model.predict(images), traced.outputs)
    model.eval()
    for rois in ((), (traced.rois, traced.roi_images), (traced.rois.tolist(), traced.roi_images.tolist())):
        class_logits, box_deltas = model(images, *rois)
        np.testing.assert_array_equal(class_logits.data, traced.class_logits)
        np.testing.assert_array_equal(box_deltas.data, traced.box_deltas)
        assert class_logits.requires_grad
    class_logits, box_deltas = model(images, [], [])
    assert (class_logits.shape, box_deltas.shape) == ((0, 4), (0, 4, 4))


def test_both_backends_agree():
    model, answers, losses = make("pyramid"), [], []
    for name in ("numpy", "cython"):
        with rcnn.use_backend(name):
            answers.append(model.predict(batch()))
            losses.append(values(model.get_loss(batch(), [OBJECTS, EMPTY], rng())))
    assert_same_detections(*answers, atol=1e-3)
    np.testing.assert_allclose(list(losses[0].values()), list(losses[1].values()), rtol=1e-5)


def test_thresholds_of_predict_override_those_of_the_config():
    model = make(box_score_thresh=0.25, box_nms_thresh=0.3, box_detections_per_img=7)
    few = model.predict(batch(1))
    assert 0 < len(few[0]["scores"]) <= 7
    assert_same_detections(make().predict(batch(1), 0.25, 0.3, 7), few)
    many = model.predict(batch(1), score_thresh=0.0, nms_thresh=1.0, top_k=1000)[0]
    assert len(many["scores"]) == 3 * len(model.trace(batch(1)).rois)  # every RoI as a box of every class
    assert_same_detections(model.predict(batch(1), 0.0, 1.0, 5), [{key: array[:5] for key, array in many.items()}])


# ---------------------------------------------------------------------- other suppression, and several views


def test_options_of_predict_that_are_off_change_no_bit():
    model, images = make(), [image(64, 80), image(50, 90, seed=1)]
    options = {"class_agnostic": False, "soft_nms": None, "flip": False, "scales": (1.0,)}
    for given in (images, batch()):
        assert_same_detections(model.predict(given, **options), model.predict(given))
        assert_same_detections(model.predict(given, flip=np.False_, scales=[1]), model.predict(given))


@pytest.mark.parametrize("options", [{"class_agnostic": True}, {"soft_nms": "linear"}, {"soft_nms": "gaussian"}])
def test_suppression_of_predict_is_that_of_the_candidates(options):
    model, one = make(box_score_thresh=0.1), batch(1)
    candidates = model.predict(one, nms_thresh=1.0, top_k=1000)[0]
    keep, scores = nms.suppress(*candidates.values(), score_thresh=0.1, **options)
    expected = {"boxes": candidates["boxes"][keep], "scores": scores, "labels": candidates["labels"][keep]}
    assert 0 < len(keep) != len(model.predict(one)[0]["scores"])
    assert_same_detections(model.predict(one, nms_thresh=0.5, top_k=1000, **options), [expected])


def test_equal_views_give_the_detections_of_one():
    model, images = make(), [image(64, 96), image(50, 90, seed=1)]
    assert_same_detections(model.predict(images, scales=(1, 1.0)), model.predict(images), atol=1e-4)


def test_detections_of_a_mirrored_image_are_mirrored():
    model, one = make(), image(64, 96)
    (found,), (mirrored,) = (model.predict([view], flip=True) for view in (one, one[:, ::-1]))
    assert len(found["scores"]) > 1
    np.testing.assert_array_equal(found["scores"], mirrored["scores"])
    back = views.mirror(mirrored["boxes"], 96)
    np.testing.assert_allclose(back, found["boxes"], atol=1e-4)
    assert not np.array_equal(found["scores"], model.predict([one])[0]["scores"])


def test_a_scale_resizes_the_image(monkeypatch):
    model, sizes = make(), []
    run = model.backbone.forward
    monkeypatch.setattr(model.backbone, "forward", lambda x: sizes.append(x.shape[2:]) or run(x))
    (found,) = model.predict([image(64, 96)], scales=(0.5, 1, 2), flip=True)
    assert sizes == [(32, 64), (32, 64), (64, 96), (64, 96), (128, 192), (128, 192)]
    assert (found["boxes"] <= np.array([96, 64, 96, 64]) + 1e-4).all() and len(found["boxes"])


def test_the_score_threshold_and_top_k_apply_to_merged_views():
    model, images = make(), [image(64, 96)]
    (many,) = model.predict(images, flip=True)
    (few,) = model.predict(images, score_thresh=float(many["scores"][2]), flip=True)
    assert_same_detections([few], [{key: values[:2] for key, values in many.items()}])
    assert_same_detections(model.predict(images, top_k=2, flip=True), [few])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"soft_nms": "hard"}, ValueError, "soft_nms must be one of linear, gaussian, got 'hard'"),
        ({"class_agnostic": "yes"}, TypeError, "class_agnostic must be True or False"),
        ({"flip": 2}, TypeError, "flip must be True or False"),
        ({"scales": 2}, TypeError, "scales must be a sequence"),
        ({"scales": ()}, ValueError, "scales must contain 1 to 64 numbers, got 0"),
        ({"scales": (1, -1)}, ValueError, r"scales\[1\] must be a number in \[0.001, 1000\], got -1"),
    ],
)
def test_invalid_options_of_predict_are_reported(options, error, message):
    with pytest.raises(error, match=message):
        make().predict([image(64, 96)], **options)


def test_views_require_a_list_of_images():
    with pytest.raises(TypeError, match="flip and scales require a list of images, because a batch has a fixed size"):
        make().predict(batch(1), flip=True)
    assert make().predict([], flip=True) == []


# ---------------------------------------------------------------------- gradients


def freeze_proposals(monkeypatch, num_images):
    """Keep the proposals of the first pass for all later passes.

    `get_loss` treats proposals as constants, so they must be constant when its derivative is measured. All random
    choices (anchors, RoIs, dropout) then depend on the generator alone.
    """
    kept, calls, real = [], itertools.count(), rpn.propose

    def propose(*arguments, **options):
        image = next(calls) % num_images
        if image == len(kept):
            kept.append(real(*arguments, **options))
        return kept[image]

    monkeypatch.setattr(rpn, "propose", propose)


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_of_the_whole_loss_by_finite_differences(kind, monkeypatch):
    """In float64, along directions that mix each parameter's gradient with noise; relative error below 1e-6."""
    model = make(kind, dropout=0.3, seed=1).astype(np.float64)
    images, targets = batch(2, 48, 60).astype(np.float64), [OBJECTS, EMPTY]
    draws = rng(5)

    def loss(name):
        return model.get_loss(images, targets, rng(3))[name]

    freeze_proposals(monkeypatch, len(images))
    for name in ("total_loss", *LOSSES):
        model.zero_grad()
        loss(name).backward()
        reached = {n: p for n, p in model.named_parameters() if p.grad is not None and p.grad.any()}
        assert name != "total_loss" or len(reached) == len(list(model.parameters()))
        for parameter_name, parameter in reached.items():
            value, grad = parameter.data, parameter.grad
            chance = draws.standard_normal(grad.shape)
            direction = grad / np.linalg.norm(grad) + chance / np.linalg.norm(chance)
            parameter.data = value + 1e-6 * direction
            above = loss(name).item()
            parameter.data = value - 1e-6 * direction
            slope = (above - loss(name).item()) / 2e-6
            parameter.data = value
            assert abs(slope / (grad * direction).sum() - 1) < 1e-6, (name, parameter_name)


def test_no_gradient_flows_through_proposals():
    model = make()
    losses = model.get_loss(batch(), [OBJECTS, EMPTY], rng())
    (losses["roi_cls_loss"] + losses["roi_reg_loss"]).backward()
    assert all(p.grad is None for p in model.rpn.parameters())
    assert all(p.grad is not None for part in (model.backbone, model.roi_heads) for p in part.parameters())
    model.zero_grad()
    losses = model.get_loss(batch(), [OBJECTS, EMPTY], rng())
    (losses["rpn_cls_loss"] + losses["rpn_reg_loss"]).backward()
    assert all(p.grad is None for p in model.roi_heads.parameters())
    assert all(p.grad is not None for part in (model.backbone, model.rpn) for p in part.parameters())


def test_frozen_parameters_get_no_gradient():
    model = make("pyramid")
    model.backbone.body.requires_grad_(False)
    model.get_loss(batch(), [OBJECTS, EMPTY], rng())["total_loss"].backward()
    frozen = set(map(id, model.backbone.body.parameters()))
    assert len(frozen) == 4
    assert all((p.grad is None) == (id(p) in frozen) for p in model.parameters())


def test_a_few_steps_of_descent_lower_the_loss():
    model = make("pyramid", seed=2)
    optimizer = nn.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    history = []
    for _ in range(20):
        losses = model.get_loss(batch(), [OBJECTS, EMPTY], rng())
        optimizer.zero_grad()
        losses["total_loss"].backward()
        optimizer.step()
        history.append(losses["total_loss"].item())
    assert history[-1] < 0.6 * history[0]


# ---------------------------------------------------------------------- training


@pytest.mark.parametrize("kind", KINDS)
def test_images_without_objects_train(kind):
    model = make(kind)
    losses = model.get_loss(batch(), [EMPTY, EMPTY], rng())
    assert losses["rpn_reg_loss"].item() == losses["roi_reg_loss"].item() == 0
    assert losses["rpn_cls_loss"].item() > 0 < losses["roi_cls_loss"].item()
    losses["total_loss"].backward()
    assert all(np.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize("targets, learns", [([OBJECTS, EMPTY], True), ([EMPTY, EMPTY], False)])
def test_without_proposals_the_ground_truth_is_still_sampled(targets, learns):
    model = make(rpn_score_thresh=1.0)
    losses = model.get_loss(batch(), targets, rng())
    assert (losses["roi_cls_loss"].item() > 0) == learns
    losses["total_loss"].backward()
    for found in model.predict(batch()):
        assert {key: array.shape for key, array in found.items()} == {"boxes": (0, 4), "scores": (0,), "labels": (0,)}


def test_images_of_different_sizes_train_with_targets_in_their_own_pixels():
    model = make("pyramid")
    small, large = image(64, 80), image(64, 90, seed=1)
    twice = large.repeat(2, axis=0).repeat(2, axis=1)  # resizing halves it again, to the same pixels
    doubled = {"boxes": np.array(OBJECTS["boxes"]) * 2, "labels": OBJECTS["labels"]}
    losses = values(model.get_loss([small, large], [OBJECTS, OBJECTS], rng()))
    assert values(model.get_loss([small, twice], [OBJECTS, doubled], rng())) == pytest.approx(losses, rel=1e-5)
    assert values(model.get_loss([small, twice], [OBJECTS, OBJECTS], rng())) != pytest.approx(losses, rel=1e-2)


def test_the_generator_determines_every_random_choice():
    model = make(dropout=0.5)
    model.eval().roi_heads.train()  # batch norm in evaluation mode, dropout in training mode

    def losses(generator):
        return values(model.get_loss(batch(), [OBJECTS, EMPTY], generator))

    assert losses(rng(0)) == losses(rng(0))
    assert losses(rng(0)) != losses(rng(1))
    rcnn.seed(7)
    first = losses(None)
    assert losses(None) != first
    rcnn.seed(7)
    assert losses(None) == first
    with pytest.raises(TypeError, match="rng must be a np.random.Generator"):
        losses(0)


def test_get_loss_works_in_either_mode():
    model = make(dropout=0.5).eval()
    before = {name: array.copy() for name, array in model.state_dict().items()}
    losses = model.get_loss(batch(), [OBJECTS, EMPTY], rng())
    losses["total_loss"].backward()
    assert not any(module.training for module in model.modules())
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])  # the running statistics among them
    model.train()
    assert values(model.get_loss(batch(), [OBJECTS, EMPTY], rng())) != values(losses)
    assert (model.state_dict()["backbone.net.1.running_mean"] != before["backbone.net.1.running_mean"]).any()


def test_input_is_not_modified():
    model, images = make(), [image(64, 80), batch(1)]
    target = {key: np.array(value) for key, value in OBJECTS.items()}
    for array in (*images, *target.values()):
        array.flags.writeable = False
    for given in ([images[0]], images[1], [images[0][::-1, :, ::-1]]):
        model.get_loss(given, [target], rng())
        model.predict(given)


# ---------------------------------------------------------------------- modes and counts


@pytest.mark.parametrize("method", ["predict", "trace"])
def test_predict_and_trace_evaluate_without_gradients_and_restore_every_mode(method, monkeypatch):
    model, seen = make("single", dropout=0.5), []
    model.backbone.net.eval()
    model.roi_heads.box_head.eval()
    modes = [module.training for module in model.modules()]
    assert set(modes) == {True, False}
    forward = Single.forward

    def spy(self, x):
        seen.append([module.training for module in model.modules()])
        features = forward(self, x)
        assert not features.requires_grad
        return features

    monkeypatch.setattr(Single, "forward", spy)
    before = {name: array.copy() for name, array in model.state_dict().items()}
    getattr(model, method)(batch())
    assert seen == [[False] * len(modes)]
    assert [module.training for module in model.modules()] == modes
    assert all(p.grad is None for p in model.parameters())
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])

    def broken(self, x):
        raise RuntimeError("broken")

    monkeypatch.setattr(Single, "forward", broken)
    with pytest.raises(RuntimeError, match="broken"):
        getattr(model, method)(batch())
    assert [module.training for module in model.modules()] == modes
    assert nn.Parameter(np.ones(1)).sum().requires_grad  # recording is on again


@pytest.mark.parametrize("training", [True, False])
def test_counts_depend_on_the_method_and_not_on_the_mode(training, monkeypatch):
    model, counts, real = make().train(training), [], rpn.propose

    def spy(*arguments, **options):
        counts.append((options["pre_nms_top_n"], options["post_nms_top_n"]))
        return real(*arguments, **options)

    monkeypatch.setattr(rpn, "propose", spy)
    model.get_loss(batch(1), [OBJECTS], rng())
    assert counts == [(70, 50)]
    model.predict(batch(1))
    model.trace(batch(1))
    model(batch(1))
    assert counts[1:] == [(60, 40)] * 3


# ---------------------------------------------------------------------- levels


@pytest.mark.parametrize("kind, rpn_levels, roi_levels", [("single", 1, 1), ("list", 2, 2), ("pyramid", 3, 2)])
def test_levels_read_by_the_rpn_and_the_head(kind, rpn_levels, roi_levels, monkeypatch):
    model, pooled_from, real = make(kind), [], roi_heads.pool

    def spy(features, *arguments, **options):
        pooled_from.append(features)
        return real(features, *arguments, **options)

    monkeypatch.setattr(roi_heads, "pool", spy)
    traced = model.trace(batch(), [OBJECTS, EMPTY])
    model.get_loss(batch(), [OBJECTS, EMPTY], rng())
    assert [len(features) for features in pooled_from] == [roi_levels] * 2
    assert len(traced.features) == len(traced.anchors) == len(traced.objectness) == rpn_levels
    strides = [4, 8, 16] if kind != "single" else [8]
    cells = [(64 // stride) * (96 // stride) for stride in strides[:rpn_levels]]
    per_cell = 2 if kind == "list" else 4  # one of the two sizes per level, or both
    assert [len(level) for level in traced.anchors] == [per_cell * count for count in cells]


@pytest.mark.parametrize(
    "kind, sizes, per_level",
    [
        ("single", (12, 24), [(12, 24)]),
        ("single", (12,), [(12,)]),
        ("list", (12, 24), [(12,), (24,)]),
        ("list", ((12, 16), (24, 32)), [(12, 16), (24, 32)]),
        ("pyramid", (12, 24), [(12, 24)] * 3),
        ("pyramid", (12, 24, 48), [(12,), (24,), (48,)]),
    ],
)
def test_each_level_gets_one_size_if_there_are_as_many_sizes_as_levels(kind, sizes, per_level):
    model = make(kind, anchor_sizes=sizes, aspect_ratios=(1.0,))
    anchors = model.trace(batch(1)).anchors
    assert [tuple(dict.fromkeys((level[:, 2] - level[:, 0]).tolist())) for level in anchors] == per_level


def test_every_level_has_the_same_number_of_anchors_per_cell():
    with pytest.raises(ValueError, match=r"same number of anchors per cell, .* got \[1, 2\]"):
        make("list", anchor_sizes=((12,), (24, 48)), aspect_ratios=(1.0,))


def test_anchors_cover_the_padded_size_and_boxes_are_clipped_to_the_image():
    traced = make(anchor_sizes=(24,), aspect_ratios=(1.0,)).trace(batch(1, 40, 70))
    assert traced.batch.shape == (1, 3, 64, 96)
    assert traced.image_sizes == [(40, 70)]
    assert traced.anchors[0].shape == (8 * 12, 4)
    assert traced.anchors[0][-1].tolist() == [88 - 12, 56 - 12, 88 + 12, 56 + 12]
    assert (traced.proposals[0] <= [70, 40, 70, 40]).all()


@pytest.mark.parametrize(
    "kind, stride",
    [("single", 8), ("single", 8.0), ("single", (8,)), ("list", (4, 8)), ("pyramid", (4, 8, 16)), ("single", None)],
)
def test_a_correct_stride_is_accepted(kind, stride):
    assert len(make(kind, anchor_stride=stride).predict(batch(1))) == 1


@pytest.mark.parametrize(
    "kind, stride, measured",
    [
        ("single", 16, r"\[\(8, 8\)\]"),
        ("list", 8, r"\[\(4, 4\), \(8, 8\)\]"),
        ("list", (4,), r"\[\(4, 4\), \(8, 8\)\]"),
    ],
)
def test_a_wrong_stride_is_rejected(kind, stride, measured):
    model = make(kind, anchor_stride=stride)
    for call in (model.predict, model.trace, model, lambda images: model.get_loss(images, [EMPTY])):
        with pytest.raises(
            ValueError, match=rf"for a batch of 64 x 96 pixels, their strides \(rows, columns\) are {measured};"
        ) as caught:
            call(batch(1))
        assert str(caught.value).startswith(f"anchor_stride={stride} does not match the feature maps")


def test_a_stride_must_hold_for_rows_and_columns():
    backbone = nn.Conv2d(3, CHANNELS, 3, stride=(8, 4), padding=1)
    config = FasterRCNNConfig(backbone, CHANNELS, 3, anchor_stride=8, hidden_dim=4)
    with pytest.raises(ValueError, match=r"anchor_stride=8 .* a batch of 32 x 32 pixels, .* \[\(8, 4\)\];"):
        FasterRCNN(config).predict(batch(1, 32, 32))


class Wrong(nn.Module):
    def __init__(self, answer):
        self.answer = answer

    def forward(self, x):
        return self.answer(x)


def pooled_map(x, channels=CHANNELS):
    return nn.Tensor(np.zeros((x.shape[0], channels, 4, 4), np.float32))


@pytest.mark.parametrize(
    "use_fpn, answer, error, message",
    [
        (False, lambda x: [pooled_map(x)], ValueError, r"must return one map \(use_fpn=False\), got list"),
        (True, pooled_map, ValueError, r"must return a list of feature maps \(use_fpn=True\), got Tensor"),
        (False, lambda x: {"0": pooled_map(x)}, TypeError, "level 0 of the backbone must be a Tensor, got dict"),
        (False, lambda x: x.data[:, :, ::8, ::8], TypeError, "level 0 of the backbone must be a Tensor, got ndarray"),
        (
            True,
            lambda x: [pooled_map(x), pooled_map(x, 7)],
            ValueError,
            r"level 1 of the backbone must have shape \(1, feat_channels=6, H, W\), got \(1, 7, 4, 4\)",
        ),
        (
            False,
            lambda x: pooled_map(x).reshape(x.shape[0], -1),
            ValueError,
            r"level 0 .* must have shape .* got \(1, 96\)",
        ),
    ],
)
def test_a_wrong_result_of_the_backbone_is_reported(use_fpn, answer, error, message):
    model = FasterRCNN(FasterRCNNConfig(Wrong(answer), CHANNELS, 3, use_fpn, hidden_dim=4))
    with pytest.raises(error, match=message):
        model.predict(batch(1, 32, 32))


# ---------------------------------------------------------------------- images


def test_a_batch_and_a_list_of_images_agree_if_nothing_is_resized():
    model = make(image_mean=(0.5, 0.4, 0.3), image_std=(0.5, 0.6, 0.7))
    images = [image(64, 96), image(64, 96, seed=1)]
    normalised = (np.stack(images) / 255 - (0.5, 0.4, 0.3)) / (0.5, 0.6, 0.7)
    found = model.predict(images)
    assert_same_detections(model.predict(normalised.transpose(0, 3, 1, 2)), found, atol=1e-4)
    assert_same_detections(model.predict(nn.Tensor(normalised.transpose(0, 3, 1, 2))), found, atol=1e-4)
    assert_same_detections(model.predict([Image.fromarray(images[0]), images[1] / 255]), found, atol=1e-4)


def test_images_of_a_batch_do_not_affect_each_other():
    model, images = make("pyramid"), [image(64, 90), image(60, 80, seed=1), image(64, 64, seed=2)]
    for one, found in zip(images, model.predict(images), strict=True):
        padded = [one, np.zeros((64, 96, 3), np.uint8)]  # to the same size
        assert_same_detections(model.predict(padded)[:1], [found], atol=1e-4)


def test_boxes_are_returned_in_pixels_of_the_original_image():
    model, one = make("pyramid"), image(64, 80)
    twice = one.repeat(2, axis=0).repeat(2, axis=1)  # resizing halves it again, to the same pixels
    small, large = model.predict([one])[0], model.predict([twice])[0]
    assert len(small["scores"]) > 0
    assert_same_detections([{**large, "boxes": large["boxes"] / 2}], [small], atol=1e-4)


@pytest.mark.parametrize("nothing", [[], (), np.zeros((0, 3, 32, 32), np.float32)])
def test_no_images_give_no_detections(nothing):
    assert make().predict(nothing) == []


@pytest.mark.parametrize(
    "images, error, message",
    [
        (image(8, 9), ValueError, r"got an array of shape \(8, 9, 3\); pass a single image as \[image\]"),
        (batch(1)[0], ValueError, r"of shape \(3, 64, 96\); pass a single image as"),
        (np.stack([image(8, 9)] * 2), ValueError, r"\(2, 8, 9, 3\); .*: list\(images\)"),
        (list(batch(1)), ValueError, r"image 0 must have shape \(H, W, 3\).* use image.transpose\(1, 2, 0\)"),
        (np.zeros((1, 3, 8, 8), np.uint8), TypeError, r"must be float and normalised, got uint8; .* in a list"),
        (np.zeros((1, 1, 8, 8)), ValueError, r"must have shape \(N, 3, H, W\), got \(1, 1, 8, 8\)"),
        (np.zeros((1, 3, 0, 8)), ValueError, r"must have shape \(N, 3, H, W\), got \(1, 3, 0, 8\)"),
        (np.zeros(()), ValueError, r"must have shape \(N, 3, H, W\), got \(\)"),
        (Image.new("RGB", (8, 8)), TypeError, r"got Image; pass a single image as \[image\]"),
        ("page.png", TypeError, r"got str; pass a single image as"),
        (None, TypeError, "got NoneType"),
    ],
)
def test_errors_of_invalid_images_say_what_to_do(images, error, message):
    model = make()
    for call in (model.predict, model.trace, model, lambda given: model.get_loss(given, [EMPTY])):
        with pytest.raises(error, match=message):
            call(images)


def test_no_images_to_train_or_trace_is_an_error():
    for call in (make().trace, make(), lambda images: make().get_loss(images, [])):
        with pytest.raises(ValueError, match="at least one image, got none"):
            call([])


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        (([[0, 0, 9, 9]],), ValueError, "pass both rois and roi_images .* or neither"),
        ((None, [0]), ValueError, "pass both rois and roi_images .* or neither"),
        (
            ([[0, 0, 9, 9]] * 2 + [[0, 0, 60, 60]], [0, 1, 2]),
            ValueError,  # the only one on its level
            r"roi_images\[2\] must be in 0 .. 1 \(number of images: 2\), got 2",
        ),
        (([[0, 0, 9, 9]], [-1]), ValueError, r"roi_images\[0\] must be .* got -1"),
        (([[0, 0, 9, 9]], [0, 1]), ValueError, r"roi_images must have shape \(1,\)"),
        (([[0, 0, 9, 9]], [0.0]), TypeError, "roi_images must contain integers"),
        (([0, 0, 9, 9], [0]), ValueError, r"rois must have shape \(N, 4\)"),
        (([[0, 0, 9, 9], [0, 0, np.nan, 9]], [0, 1]), ValueError, r"rois\[1\] must be finite, got .*nan"),
    ],
)
def test_invalid_rois_are_reported(arguments, error, message):
    with pytest.raises(error, match=message):
        make("list")(batch(), *arguments)


@pytest.mark.parametrize(
    "thresholds, message",
    [
        ({"score_thresh": 1.5}, r"score_thresh must be a number in \[0, 1\], got 1.5"),
        ({"nms_thresh": -0.1}, r"nms_thresh must be a number in \[0, 1\], got -0.1"),
        ({"score_thresh": "0.5"}, "score_thresh must be a number"),
        ({"nms_thresh": float("nan")}, "nms_thresh must be"),
        ({"top_k": -1}, "top_k must be an integer of at least 1 and at most 1048576, got -1"),
        ({"top_k": 2.5}, "top_k must be an integer"),
    ],
)
def test_invalid_thresholds_are_reported(thresholds, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make().predict(batch(1), **thresholds)


def test_invalid_targets_are_reported():
    with pytest.raises(ValueError, match=r"targets\[1\]: box 0 must have .*, got \[5.0, 5.0, 4.0, 9.0\]"):
        make().get_loss(batch(), [OBJECTS, {"boxes": [[5, 5, 4, 9]], "labels": [1]}])
    with pytest.raises(ValueError, match="a list of 2 dicts, one per image, got 1"):
        make().trace(batch(), [OBJECTS])
    with pytest.raises(TypeError, match="a list of 2 dicts, one per image, got NoneType"):
        make().get_loss(batch(), None)


# ---------------------------------------------------------------------- modules and parameters


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_a_batch_that_is_not_finite_is_refused(value, impl):
    model, images = make(), batch(3).astype(np.float64)
    images[1, 2, 3, 4] = value
    for method in (model.predict, model.trace, model.forward, lambda given: model.get_loss(given, [EMPTY] * 3)):
        with pytest.raises(ValueError, match=r"images\[1\] contains NaN or infinity"):
            method(images)
    with pytest.raises(ValueError, match=r"image 0 is a float image and must be in \[0, 1\]"):
        model.predict([np.full((64, 64, 3), value)])


@pytest.mark.parametrize(
    ("name", "stage"), [("rpn.head.cls_logits", "RPN head"), ("roi_heads.box_predictor.bbox_pred", "head")]
)
def test_weights_that_are_not_finite_are_reported(name, stage, impl):
    model = make()
    model.state_dict()[f"{name}.bias"][...] = np.nan
    for method in (model.predict, model.trace):
        with pytest.raises(ValueError, match=f"contains NaN or infinity after the stage {stage}, because weights"):
            method(batch(1))
    assert not np.isfinite(model.get_loss(batch(1), [OBJECTS])["total_loss"].item())  # training looks for the stage


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ([-50, -50, -4, -4], r"must overlap the image, which has size \(64, 96\)"),
        ([96, 5, 99, 9], "must overlap the image"),
        ([5, 64, 9, 70], "must overlap the image"),
        ([5, 5, 1e30, 1e30], "coordinates of at most 1048576 pixels"),
        ([-1e30, -1e30, 9, 9], "coordinates of at most"),
        ([5, 5, 1e300, 9], "must be finite"),
    ],
)
def test_targets_outside_their_image_are_refused(box, message):
    model = make()
    for method in (model.get_loss, model.trace):
        with pytest.raises(ValueError, match=rf"targets\[1\]: box 1 .*{message}.*, got \["):
            method([image(64, 96)] * 2, [OBJECTS, {"boxes": [[5, 5, 9, 9], box], "labels": [1, 2]}])


def test_targets_that_reach_beyond_their_image_are_accepted():
    assert np.isfinite(
        make().get_loss([image(64, 96)], [{"boxes": [[-9, -9, 200, 5]], "labels": [1]}])["total_loss"].data
    )


def test_a_target_that_vanishes_in_the_resized_image_is_refused():
    scale = np.float32(65 / 1010)  # of the columns
    low = np.arange(990, 1009, dtype=np.float32)
    high = np.nextafter(low, np.float32(2000))
    vanishing = low * scale == high * scale
    box = [low[vanishing][0], 5, high[vanishing][0], 9]
    with pytest.raises(ValueError, match=r"targets\[0\]: box 0 is too thin, .* is rounded to 0; got \["):
        make().get_loss([image(992, 1010)], [{"boxes": [box], "labels": [1]}])


@pytest.mark.parametrize("size", [(70, 100), (64, 70), (70, 64)])
@pytest.mark.parametrize("kind", KINDS)
def test_no_detection_in_the_padding_is_left_as_a_sliver(kind, size, impl):
    model, sizes = make(kind, box_detections_per_img=1000, box_nms_thresh=1.0), np.array(size)
    for given in (batch(1, *size), [image(*size)]):
        trace = model.trace(given)
        found = model.predict(given, score_thresh=0.0)[0]["boxes"]
        at_border = np.isclose(found[:, [3, 2]], sizes)  # (D, 2) bottom, right
        sides = found[:, [3, 2]] - found[:, [1, 0]]
        padded = np.array(trace.batch.shape[2:]) > trace.image_sizes[0]
        assert len(found) and not (at_border & padded & (sides < 0.999)).any()


def test_a_batch_is_checked_when_it_is_made():
    images = np.zeros((2, 3, 64, 96), np.float32)
    sizes = [(64, 90), (60, 96)]
    assert rcnn.transform.Batch(images, sizes, sizes).images is images
    for arguments, message in (
        ((images[0], sizes, sizes), "images must have shape"),
        ((images[:, :, :-1], sizes, sizes), "multiples of 32"),
        ((images.tolist(), sizes, sizes), "images must be an array"),
        ((images, sizes[:1], sizes), "image_sizes must have length 2, got 1"),
        ((images, sizes, [(0, 1), (1, 1)]), r"original_sizes\[0\] must be two integers"),
        ((images, [(64, 97), (1, 1)], sizes), r"image_sizes\[0\] must be at most \(64, 96\)"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            rcnn.transform.Batch(*arguments)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("hidden_dim", 10**9),
        ("feat_channels", 10**9),
        ("num_classes", 10**9),
        ("pool_size", (10**5, 7)),
        ("sampling_ratio", 10**9),
        ("max_size", 10**6),
        ("rpn_pre_nms_top_n_test", 10**9),
        ("box_detections_per_img", 10**9),
        ("canonical_level", 10**9),
        ("anchor_sizes", [32.0] * 5000),
        ("anchor_sizes", itertools.count(2)),
        ("class_names", ("background", "a" * 20000, "b", "c")),
    ],
)
def test_every_number_of_a_config_is_bounded(field, value):
    settings = {"backbone": Single(), "feat_channels": CHANNELS, "num_classes": 4, field: value}
    with pytest.raises(ValueError, match=f"^{field} must be") as error:
        FasterRCNNConfig(**settings)
    assert len(str(error.value)) < 300


def test_the_weights_of_a_layer_are_bounded():
    with pytest.raises(ValueError, match="hidden_dim must be smaller .* gives a layer 1073774592 weights.*, got 32768"):
        FasterRCNNConfig(Single(), 32769, 2, pool_size=(1, 1), hidden_dim=32768)
    with pytest.raises(ValueError, match="in_features and out_features must be smaller"):
        nn.Linear(2**16, 2**15)
    with pytest.raises(ValueError, match="depth must be at most 14 for out_channels=2048"):
        rcnn.backbones.SmallBackbone(2048, 15)
    with pytest.raises(ValueError, match="depth must be an integer of at least 0 and at most 256, got 10000000"):
        rcnn.backbones.SmallBackbone(8, 10**7)


def test_models_of_one_config_share_only_its_backbone():
    config = make().config
    one, other = FasterRCNN(config), FasterRCNN(config)
    assert one.backbone is other.backbone is config.backbone
    shared = set(map(id, one.parameters())) & set(map(id, other.parameters()))
    assert shared == set(map(id, config.backbone.parameters()))


def test_dtype_is_float32_until_it_is_changed():
    model = make("pyramid")
    assert model.dtype == np.float32
    model.astype(np.float64)
    assert model.dtype == np.float64
    traced = model.trace([image(64, 80)])
    for array in (
        traced.batch,
        *traced.features,
        *traced.anchors,
        traced.rois,
        traced.pooled,
        traced.class_logits,
        traced.outputs[0]["boxes"],
        traced.outputs[0]["scores"],
    ):
        assert array.dtype == np.float64
    assert model.get_loss([image(64, 80)], [OBJECTS], rng())["total_loss"].dtype == np.float64


def test_float64_agrees_with_float32():
    model = make("pyramid")
    single = values(model.get_loss(batch(), [OBJECTS, EMPTY], rng()))
    double = values(model.astype(np.float64).get_loss(batch(), [OBJECTS, EMPTY], rng()))
    assert single == pytest.approx(double, rel=1e-4)


def test_parameters_are_named_as_in_torchvision():
    names = [name for name in make("pyramid").state_dict() if not name.startswith("backbone.body")]
    assert names == [
        *(
            f"backbone.fpn.{part}.{level}.0.{kind}"
            for part in ("inner_blocks", "layer_blocks")
            for level in (0, 1)
            for kind in ("weight", "bias")
        ),
        *(f"rpn.head.{part}.{kind}" for part in ("conv.0.0", "cls_logits", "bbox_pred") for kind in ("weight", "bias")),
        *(
            f"roi_heads.{part}.{kind}"
            for part in ("box_head.fc6", "box_head.fc7", "box_predictor.cls_score", "box_predictor.bbox_pred")
            for kind in ("weight", "bias")
        ),
    ]


def test_the_small_detector():
    model = faster_rcnn_small(("background", "circle", "square"), box_score_thresh=0.3)
    assert (model.config.num_classes, model.config.class_names) == (3, ("background", "circle", "square"))
    assert (model.config.box_score_thresh, model.config.hidden_dim) == (0.3, 128)
    assert 480_000 < sum(p.size for p in model.parameters()) < 520_000
    assert len(model.predict([image(128, 128)])) == 1

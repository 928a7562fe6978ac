"""ResNet-50-FPN, compared stage by stage with torchvision's results in golden/detector.npz.

Both use the same random weights: the name of each parameter gives its seed (see seeded.py).

Continuous stages agree to within 2e-5 of the largest value. Discrete stages get torchvision's own inputs, and must
return the same boxes in the same order.
"""

import numpy as np
import pytest
from seeded import seeded_image, seeded_state

import rcnn
from rcnn import roi, roi_heads, rpn, transform
from rcnn.backbones import ResNetFPN
from rcnn.nn import Tensor, no_grad

pytestmark = pytest.mark.usefixtures("impl")

IMAGES = range(4)
LOSSES = {
    "roi_cls_loss": "loss_classifier",
    "roi_reg_loss": "loss_box_reg",
    "rpn_cls_loss": "loss_objectness",
    "rpn_reg_loss": "loss_rpn_box_reg",
}
EVERYTHING = 10**6  # sample all anchors and RoIs, so that the losses are deterministic
TOLERANCES = {np.float64: 1e-6, np.float32: 5e-3}


@pytest.fixture(scope="module")
def model():
    """Return the detector of the golden file, in float32 and evaluation mode."""
    made = rcnn.faster_rcnn_resnet_50_fpn(
        5,
        min_size=160,
        max_size=256,
        rpn_pre_nms_top_n_test=300,
        rpn_post_nms_top_n_test=120,
        rpn_pre_nms_top_n_train=300,
        rpn_post_nms_top_n_train=120,
        rpn_batch_size_per_image=EVERYTHING,
        box_batch_size_per_image=EVERYTHING,
    )
    made.load_state_dict(seeded_state({name: array.shape for name, array in made.state_dict().items()}))
    return made.eval()


@pytest.fixture(scope="module")
def images():
    sizes = [(150, 210), (180, 128), (100, 400), (154, 200)]
    return [seeded_image(height, width, i).transpose(1, 2, 0) for i, (height, width) in enumerate(sizes)]


@pytest.fixture
def detector(golden):
    return golden("detector")


@pytest.fixture(scope="module")
def traces():
    return {}


@pytest.fixture
def trace(model, images, traces, impl):
    """Return the trace of this backend, computed once for all tests."""
    if impl not in traces:
        traces[impl] = model.trace(images)
    return traces[impl]


def assert_close(ours, theirs, relative=2e-5):
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max(initial=0) <= relative * np.abs(theirs).max(initial=0)


def by_anchor(head_output, per_anchor):
    """Return an output (N, A * n, H, W) of the RPN as (N, H * W * A, n)."""
    n, channels, height, width = head_output.shape
    split = head_output.reshape(n, channels // per_anchor, per_anchor, height, width)
    return split.transpose(0, 3, 4, 1, 2).reshape(n, -1, per_anchor)


def rpn_outputs(detector):
    """Return torchvision's objectness [(N, A_l)] and deltas [(N, A_l, 4)]."""
    return (
        [by_anchor(detector[f"eval/rpn_logits_{level}"], 1)[..., 0] for level in range(5)],
        [by_anchor(detector[f"eval/rpn_deltas_{level}"], 4) for level in range(5)],
    )


# ---------------------------------------------------------------------- names and continuous stages


def test_state_has_torchvisions_names_and_shapes_in_order(model, detector):
    state = model.state_dict()
    assert list(state) == detector["state/names"].tolist()
    assert [",".join(map(str, array.shape)) for array in state.values()] == detector["state/shapes"].tolist()


def test_transform(trace, detector):
    np.testing.assert_array_equal(trace.image_sizes, detector["eval/image_sizes"])
    assert_close(trace.batch, detector["eval/batch"])


def test_features(trace, detector):
    for level, name in enumerate(("0", "1", "2", "3", "pool")):
        assert_close(trace.features[level][:, ::64], detector[f"eval/feature_{name}"])


def test_rpn_head(trace, detector):
    for ours, theirs in zip((trace.objectness, trace.rpn_deltas), rpn_outputs(detector), strict=True):
        for a, b in zip(ours, theirs, strict=True):
            assert_close(a, b)


def test_second_stage_on_proposals_of_every_level(model, trace, detector):
    rois = [detector[f"eval/fixed_proposals_{i}"] for i in IMAGES]
    levels, pooled, class_logits, box_deltas = second_stage(model, trace, rois)
    assert set(levels) == {0, 1, 2, 3}
    assert_close(pooled[::6, ::32], detector["eval/fixed_pooled"])
    assert_close(class_logits, detector["eval/fixed_class_logits"])
    assert_close(box_deltas.reshape(len(pooled), -1), detector["eval/fixed_box_regression"])


def second_stage(model, trace, rois):
    """Return (levels, pooled, class_logits, box_deltas) of the RoIs of each image, on the features of a trace."""
    features = [Tensor(level) for level in trace.features[:4]]
    boxes, images = np.concatenate(rois), np.repeat(IMAGES, [len(r) for r in rois])
    levels = roi.roi_levels(boxes, trace.roi_scales)
    with no_grad():
        pooled = roi_heads.pool(features, boxes, images, levels, trace.roi_scales)
        class_logits, box_deltas = model.roi_heads(pooled)
    return levels, pooled.data, class_logits.data, box_deltas.data


def test_head(model, trace, detector):
    _, _, class_logits, box_deltas = second_stage(model, trace, [detector[f"eval/proposals_{i}"] for i in IMAGES])
    assert_close(class_logits, detector["eval/class_logits"])
    assert_close(box_deltas.reshape(len(class_logits), -1), detector["eval/box_regression"])


# ---------------------------------------------------------------------- discrete stages, on torchvision's inputs


def test_proposals_are_the_same_in_the_same_order(model, trace, detector):
    objectness, deltas = rpn_outputs(detector)
    for image in IMAGES:
        size = tuple(detector["eval/image_sizes"][image].tolist())
        found = rpn.propose(
            [level[image] for level in objectness],
            [level[image] for level in deltas],
            trace.anchors,
            size,
            pre_nms_top_n=300,
            post_nms_top_n=120,
            nms_thresh=model.config.rpn_nms_thresh,
            score_thresh=model.config.rpn_score_thresh,
        )
        assert_close(found.boxes, detector[f"eval/proposals_{image}"], 1e-6)


@pytest.mark.parametrize(
    ("case", "proposals", "head"),
    [
        ("detections", "proposals", ("class_logits", "box_regression")),
        ("fixed_detections", "fixed_proposals", ("fixed_class_logits", "fixed_box_regression")),
    ],
)
def test_detections_are_the_same_in_the_same_order(model, detector, case, proposals, head):
    rois = [detector[f"eval/{proposals}_{image}"] for image in IMAGES]
    ends = np.cumsum([len(r) for r in rois])[:-1]
    class_logits = np.split(detector[f"eval/{head[0]}"], ends)
    box_deltas = np.split(detector[f"eval/{head[1]}"].reshape(-1, 5, 4), ends)
    for image in IMAGES:
        size, original = (tuple(detector[f"eval/{name}_sizes"][image].tolist()) for name in ("image", "picture"))
        found = roi_heads.detect(
            class_logits[image],
            box_deltas[image],
            rois[image],
            size,
            score_thresh=0.05,
            nms_thresh=0.5,
            top_k=100,
        )
        boxes = found["boxes"] if case.startswith("fixed") else transform.scale_boxes(found["boxes"], size, original)
        np.testing.assert_array_equal(found["labels"], detector[f"eval/{case}_{image}_labels"])
        assert_close(found["scores"], detector[f"eval/{case}_{image}_scores"], 1e-6)
        assert_close(boxes, detector[f"eval/{case}_{image}_boxes"], 1e-6)


# ---------------------------------------------------------------------- end to end


def nearest(ours, theirs):
    """For each box of rcnn, return the index of torchvision's nearest box, and the distance in pixels."""
    distance = np.abs(ours[:, None] - theirs[None]).max(axis=2)
    return distance.argmin(axis=1), distance.min(axis=1)


def test_proposals_end_to_end(trace, detector):
    for image in IMAGES:
        theirs = detector[f"eval/proposals_{image}"]
        index, distance = nearest(trace.proposals[image], theirs)
        assert len(set(index)) == len(index) == len(theirs)
        assert distance.max() <= 0.02


def test_detections_end_to_end(trace, detector):
    for image in IMAGES:
        ours = trace.outputs[image]
        theirs = {key: detector[f"eval/detections_{image}_{key}"] for key in ("boxes", "scores", "labels")}
        index, distance = nearest(ours["boxes"], theirs["boxes"])
        assert len(set(index)) == len(index) == len(theirs["boxes"])
        assert distance.max() <= 0.05
        np.testing.assert_array_equal(ours["labels"], theirs["labels"][index])
        assert np.abs(ours["scores"] - theirs["scores"][index]).max() <= 1e-4
        behind = theirs["scores"][index]  # descending in our order, except for differences of up to 1e-4
        assert (np.diff(behind) <= 1e-4).all()


# ---------------------------------------------------------------------- training


def targets(detector):
    return [{"boxes": detector[f"train/gt_boxes_{i}"], "labels": detector[f"train/gt_labels_{i}"]} for i in IMAGES]


@pytest.fixture(params=[np.float64, np.float32])
def trainee(request, model):
    """Return (the model in training mode, its dtype, the tolerance of losses and gradient norms)."""
    yield model.astype(request.param).train(), request.param, TOLERANCES[request.param]
    model.astype(np.float32).eval().zero_grad()


def assert_losses(losses, detector, case, tolerance):
    for ours, theirs in LOSSES.items():
        if ours in losses:
            assert losses[ours].item() == pytest.approx(detector[f"{case}/{theirs}"].item(), rel=tolerance)


def assert_gradient_norms(module, detector, case, tolerance):
    """Assert that every parameter's gradient has torchvision's norm."""
    ours = {name: np.linalg.norm(p.grad.ravel().astype(np.float64)) for name, p in module.named_parameters()}
    theirs = zip(detector[f"{case}/grad_names"].tolist(), detector[f"{case}/grad_norms"].tolist(), strict=True)
    assert ours == {name: pytest.approx(norm, rel=tolerance) for name, norm in theirs}


@pytest.mark.slow
def test_losses_and_every_gradient(trainee, images, detector):
    model, dtype, tolerance = trainee
    losses = model.get_loss([image.astype(dtype) for image in images], targets(detector))
    assert_losses(losses, detector, "train", tolerance)
    losses["total_loss"].backward()
    assert_gradient_norms(model, detector, "train", tolerance)
    parameters = dict(model.named_parameters())
    for name in (
        "rpn.head.bbox_pred.weight",
        "roi_heads.box_predictor.cls_score.weight",
        "backbone.fpn.inner_blocks.0.0.weight",
        "backbone.body.conv1.weight",
    ):
        assert_close(
            parameters[name].grad.reshape(-1)[:4096],
            detector[f"train/grad/{name}"],
            1e-6 if dtype == np.float64 else 5e-3,
        )


def test_second_stage_in_training(trainee, images, detector):
    """Losses and gradients of the RoI heads for given proposals of every level, many of them near an object."""
    model, dtype, tolerance = trainee
    c = model.config
    batch = transform.make_batch(
        [p.astype(dtype) for p in images], c.min_size, c.max_size, c.image_mean, c.image_std, dtype
    )
    with no_grad():
        levels = model.backbone(Tensor(batch.images))[:4]
    features = [Tensor(level.data, requires_grad=True) for level in levels]
    rng = np.random.default_rng(0)
    sampled = []
    for image, target in enumerate(targets(detector)):
        gt = transform.scale_boxes(target["boxes"].astype(dtype), batch.original_sizes[image], batch.image_sizes[image])
        proposals = detector[f"second/proposals_{image}"].astype(dtype)
        options = {"batch_size": c.box_batch_size_per_image, "positive_fraction": c.box_positive_fraction, "rng": rng}
        sampled.append(roi_heads.find_targets(proposals, gt, target["labels"], **options))
    rois = np.concatenate([s.rois for s in sampled])
    roi_images = np.repeat(IMAGES, [len(s.rois) for s in sampled])
    scales = roi.level_scales([level.shape[2] for level in features], batch.images.shape[2])
    pooled = roi_heads.pool(features, rois, roi_images, roi.roi_levels(rois, scales), scales)
    cls_loss, reg_loss = roi_heads.loss(*model.roi_heads(pooled), sampled)
    assert_losses({"roi_cls_loss": cls_loss, "roi_reg_loss": reg_loss}, detector, "second", tolerance)
    (cls_loss + reg_loss).backward()
    assert_gradient_norms(model.roi_heads, detector, "second", tolerance)
    for level, feature in enumerate(features):
        grad = np.zeros(feature.shape) if feature.grad is None else feature.grad  # a level that no RoI reads
        norm = np.linalg.norm(grad.ravel().astype(np.float64))
        assert norm == pytest.approx(detector[f"second/grad_feature_{level}_norm"].item(), rel=tolerance)
        assert_close(grad[:, ::64], detector[f"second/grad_feature_{level}"], max(tolerance, 2e-5))


def test_resnet_fpn_has_five_levels_of_decreasing_size():
    with no_grad():
        pyramid = ResNetFPN(18)(Tensor(np.zeros((1, 3, 64, 96), np.float32)))
    assert [level.shape for level in pyramid] == [(1, 256, 64 // s, 96 // s) for s in (4, 8, 16, 32)] + [(1, 256, 1, 2)]
    assert pyramid.num_extra == 1

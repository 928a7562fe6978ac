"""Detectors in ONNX files: ONNX Runtime returns the detections of `FasterRCNN.predict`."""

import json
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
from seeded import seeded_image, seeded_state

import rcnn
from rcnn import nms, nn, roi_heads, rpn
from rcnn.backbones import ResNetFPN
from rcnn.fpn import BackboneWithFPN
from rcnn.nn import functional as F
from rcnn.zoo.onnx import OPSET, detector, export
from rcnn.zoo.onnx.graph import Graph

PIXELS, SCORE = 5e-4, 1e-5
SHAPES = ((150, 210), (180, 128), (100, 400), (31, 17), (128, 128))
SMALL = {"min_size": 96, "max_size": 160, "rpn_pre_nms_top_n_test": 200, "rpn_post_nms_top_n_test": 60}


def photo(height, width, seed=0):
    """Return a random image (H, W, 3). Its noise avoids plain surfaces, where many scores are equal up to rounding."""
    image = seeded_image(max(height, 40), max(width, 40), seed).transpose(1, 2, 0)[:height, :width]
    grain = np.random.default_rng(seed).normal(0, 0.08, image.shape)
    return (np.clip(image + grain, 0, 1) * 255).round().astype(np.uint8)


def session_of(path_or_bytes):
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    return onnxruntime.InferenceSession(path_or_bytes, options, providers=["CPUExecutionProvider"])


def seeded(model, seed=2):
    model.load_state_dict(seeded_state({name: array.shape for name, array in model.state_dict().items()}, seed))
    return model.eval()


def assert_same(model, path, images, least=1, **rules):
    """Compare the detections in each image, with at least `least` of them in every image."""
    export(model, path, **rules)
    onnx.checker.check_model(str(path), full_check=True)
    session = session_of(str(path))
    worst = np.zeros(2)
    for image in images:
        (expected,) = model.predict([image], **rules)
        found_boxes, scores, labels = session.run(["boxes", "scores", "labels"], {"image": image})
        assert len(expected["boxes"]) >= least
        assert (found_boxes.dtype, scores.dtype, labels.dtype) == (np.float32, np.float32, np.int64)
        np.testing.assert_array_equal(labels, expected["labels"])
        np.testing.assert_allclose(found_boxes, expected["boxes"], rtol=0, atol=PIXELS)
        np.testing.assert_allclose(scores, expected["scores"], rtol=0, atol=SCORE)
        worst = np.maximum(
            worst,
            [
                np.abs(found_boxes - expected["boxes"]).max(initial=0),
                np.abs(scores - expected["scores"]).max(initial=0),
            ],
        )
    return worst


# ---------------------------------------------------------------------- whole detectors


def test_the_digit_detector(tmp_path):
    pages = [page for page, _ in rcnn.data.Digits(4, split="val")]
    wide = np.concatenate(pages[:2], axis=1)
    assert_same(
        rcnn.load_digits(), tmp_path / "d.onnx", [*pages, wide, wide.transpose(1, 0, 2).copy(), pages[0][:57, :75]]
    )


def test_a_resnet_with_pyramid(tmp_path):
    model = seeded(rcnn.faster_rcnn_resnet_fpn(5, backbone="resnet18", hidden_dim=64, **SMALL))
    assert_same(model, tmp_path / "d.onnx", [photo(*shape) for shape in SHAPES[:2]])


def test_a_resnet_with_pyramid_of_version_2(tmp_path):
    heads = {"rpn_num_convs": 2, "box_num_convs": 4, "anchor_sizes": (32, 64, 128, 256, 512), "hidden_dim": 64}
    config = rcnn.FasterRCNNConfig(ResNetFPN(18, 32, batch_norm=True), 32, 5, True, **heads, **SMALL)
    assert_same(seeded(rcnn.FasterRCNN(config)), tmp_path / "d.onnx", [photo(*shape) for shape in SHAPES[:2]])


class Body(nn.Module):
    """Three levels with strides 4, 8 and 16."""

    def __init__(self):
        self.stages = [nn.Sequential(nn.Conv2d(3, 8, 7, 4, 3), nn.BatchNorm2d(8), nn.ReLU())]
        self.stages += [nn.Sequential(nn.Conv2d(8, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU()) for _ in range(2)]

    def forward(self, x):
        levels = []
        for stage in self.stages:
            levels.append(x := stage(x))
        return levels


def small_pyramid(**settings):
    """Return a detector with a pyramid of four levels, from three of which RoIs are pooled."""
    backbone = BackboneWithFPN(Body(), (8, 8, 8), 16)
    settings = SMALL | {"anchor_sizes": (16, 32, 64, 96), "hidden_dim": 32, "pool_size": (5, 5)} | settings
    return seeded(rcnn.FasterRCNN(rcnn.FasterRCNNConfig(backbone, 16, 5, use_fpn=True, **settings)))


@pytest.mark.parametrize(
    "settings",
    [
        {"aligned": True, "sampling_ratio": 0},
        {"anchor_offset": 0.5, "sampling_ratio": 3, "pool_size": (4, 6)},
        {"bbox_reg_weights": (8, 9, 4, 5), "image_mean": (0.1, 0.2, 0.3), "image_std": (0.5, 0.4, 0.3)},
        {"rpn_score_thresh": 0.4, "box_score_thresh": 0.2, "box_nms_thresh": 0.3, "rpn_nms_thresh": 0.4},
        {"canonical_size": 32, "canonical_level": 3, "box_detections_per_img": 7},
        {"min_size": 64, "max_size": 64, "rpn_pre_nms_top_n_test": 5, "rpn_post_nms_top_n_test": 9},
    ],
)
def test_every_setting_is_in_the_file(tmp_path, settings):
    assert_same(small_pyramid(**settings), tmp_path / "d.onnx", [photo(*shape) for shape in SHAPES[:2]])


@pytest.mark.parametrize(
    "rules",
    [{"class_agnostic": True}, {"score_thresh": 0.0, "nms_thresh": 1.0, "top_k": 40}, {"nms_thresh": 0.0}],
)
def test_the_arguments_of_predict_are_in_the_file(tmp_path, rules):
    assert_same(small_pyramid(), tmp_path / "d.onnx", [photo(*shape) for shape in SHAPES[:2]], **rules)


def test_nothing_is_found(tmp_path):
    model = rcnn.load_digits()
    assert_same(model, tmp_path / "d.onnx", [np.full((40, 90, 3), 255, np.uint8)], least=0, score_thresh=1.0)
    assert_same(
        small_pyramid(rpn_score_thresh=1.0), tmp_path / "d.onnx", [photo(50, 70)], least=0
    )  # not even a proposal


class Branches(nn.Module):
    """A backbone of the user: two levels, squeeze-and-excitation, and a branch of another resolution."""

    def __init__(self):
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 4, 1), nn.BatchNorm2d(16), nn.LeakyReLU(0.1))
        self.squeeze = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(16, 16, 1), nn.Sigmoid())
        self.down = nn.Sequential(nn.Conv2d(16, 16, 3, 2, 1, groups=16), nn.ReLU(), nn.Dropout())
        self.up = nn.Upsample(2, "bilinear")

    def forward(self, x):
        x = self.stem(x)
        x = x * self.squeeze(x)
        fine = F.concatenate([x[:, :8], self.up(self.down(x))[:, 8:]], axis=1)
        return [fine, F.avg_pool2d(fine, 3, 2, 1)]


def test_a_backbone_of_the_user(tmp_path):
    config = rcnn.FasterRCNNConfig(
        Branches(), 16, 4, use_fpn=True, anchor_sizes=((16, 32), (48, 64)), hidden_dim=32, pool_size=(3, 3), **SMALL
    )
    model = seeded(rcnn.FasterRCNN(config))
    assert_same(model, tmp_path / "d.onnx", [photo(*shape) for shape in SHAPES])


@pytest.mark.proof
@pytest.mark.parametrize("make", [rcnn.faster_rcnn_resnet_50_fpn, rcnn.faster_rcnn_resnet_50_fpn_v2])
def test_resnet_50_at_full_size(tmp_path, make):
    model = seeded(make(91))
    sizes = ((480, 640), (375, 500), (640, 427), (333, 1000), (300, 300), (512, 384))
    worst = assert_same(model, tmp_path / "d.onnx", [photo(*size, 31 + i) for i, size in enumerate(sizes)], least=100)
    print(f"\nboxes {worst[0]:.1e} px, scores {worst[1]:.1e} on six images")


@pytest.mark.proof
def test_openvino_returns_the_same_detections(tmp_path):
    import openvino

    path = tmp_path / "d.onnx"
    pages = [page for page, _ in rcnn.data.Digits(4, split="val")]
    for model, images in (rcnn.load_digits(), pages), (small_pyramid(), [photo(*shape) for shape in SHAPES]):
        export(model, path)
        run = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        for image in images:
            (expected,) = model.predict([image])
            found = run(image)
            np.testing.assert_array_equal(found["labels"], expected["labels"])
            np.testing.assert_allclose(found["boxes"], expected["boxes"], rtol=0, atol=PIXELS)
            np.testing.assert_allclose(found["scores"], expected["scores"], rtol=0, atol=SCORE)


# ---------------------------------------------------------------------- stages, with equal scores and at thresholds


def run(graph, **outputs):
    model = graph.finish({name: (value, [None] * 2) for name, value in outputs.items()})
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    return session_of(model.SerializeToString()).run(list(outputs), {})


@pytest.mark.parametrize("thresh", [0.0, 0.3, 0.5, 0.7, 1 / 3, 1.0])
def test_suppression_at_the_threshold_and_of_equal_scores(thresh):
    rng = np.random.default_rng(0)
    corners = rng.integers(0, 8, (3, 90, 2))  # small integers: many overlaps are exactly 1/2, 1/3 or 3/10
    given = np.concatenate([corners, corners + rng.integers(1, 6, (3, 90, 2))], axis=2).astype(np.float32)
    scores = rng.integers(0, 6, (3, 90)).astype(np.float32)
    graph = Graph()
    (kept,) = run(graph, kept=detector._suppress(graph, graph.constant(given), graph.constant(scores), thresh))
    for group in range(3):
        some = np.flatnonzero(scores[group] > 0)
        expected = some[nms.nms(given[group, some], scores[group, some], thresh)]
        np.testing.assert_array_equal(np.flatnonzero(kept[group] >= 0), np.sort(expected))
        np.testing.assert_array_equal(kept[group, expected], scores[group, expected])


def sizes_of(graph, original, resized, padded):
    return detector.Sizes(*(graph.constant(np.array(size, np.int64)) for size in (original, resized, padded)))


def test_proposals_with_equal_scores():
    rng = np.random.default_rng(1)
    counts, size = (300, 90), (60, 80)
    logits = [rng.integers(-3, 3, n).astype(np.float32) for n in counts]
    deltas = [rng.normal(0, 0.3, (n, 4)).astype(np.float32) for n in counts]
    anchors = [rng.uniform(-30, 60, (n, 4)).astype(np.float32) for n in counts]
    for one in anchors:
        one[:, 2:] = one[:, :2] + np.abs(one[:, 2:])
    settings = {"pre_nms_top_n": 100, "post_nms_top_n": 50, "nms_thresh": 0.6, "score_thresh": 0.1}
    expected = rpn.propose(logits, deltas, anchors, size, **settings)
    config = rcnn.faster_rcnn_small(
        ("a", "b"), rpn_pre_nms_top_n_test=100, rpn_post_nms_top_n_test=50, rpn_nms_thresh=0.6, rpn_score_thresh=0.1
    ).config
    graph = Graph()
    values = ([graph.constant(array) for array in arrays] for arrays in (logits, deltas, anchors))
    (found,) = run(graph, rois=detector._propose(graph, *values, sizes_of(graph, size, size, (64, 96)), config))
    assert len(expected.boxes) == 50
    np.testing.assert_allclose(found, expected.boxes, rtol=0, atol=1e-4)


@pytest.mark.parametrize("class_agnostic", [False, True])
def test_detections_with_equal_scores_and_in_the_padding(class_agnostic):
    rng = np.random.default_rng(2)
    original, resized, padded = (30, 40), (60, 80), (64, 96)
    rois = rng.uniform(0, 60, (200, 4)).astype(np.float32)
    rois[:, 2:] = rois[:, :2] + rng.uniform(0, 30, (200, 2)).astype(np.float32)
    rois[:20, 1], rois[:20, 3] = 59, 70  # only a part of a pixel of the original image remains
    rows = np.array([[0, 2, 2, -1], [0.5, 1, -2, 2.3], [-1, 0.3, 1.7, 1.7]], np.float32)
    logits = rows[rng.integers(0, 3, 200)]  # with few different scores
    deltas = rng.normal(0, 1, (200, 4, 4)).astype(np.float32)
    rules = {"score_thresh": 0.1, "nms_thresh": 0.4, "top_k": 60, "class_agnostic": class_agnostic}
    expected = roi_heads.detect(logits, deltas, rois, resized, **rules, visible=(2.0, 2.0))
    graph = Graph()
    config = rcnn.faster_rcnn_small(("a", "b", "c", "d")).config
    values = [graph.constant(array) for array in (logits, deltas, rois)]
    sizes = sizes_of(graph, original, resized, padded)
    found = run(graph, **dict(zip("bsl", detector._detect(graph, *values, sizes, config, **rules), strict=True)))
    np.testing.assert_array_equal(found[2], expected["labels"])
    np.testing.assert_allclose(found[0] * 2, expected["boxes"], rtol=0, atol=1e-4)
    np.testing.assert_allclose(found[1], expected["scores"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (480, 640), (641, 427), (100, 3000), (3000, 99), (800, 800)])
def test_the_batch_is_that_of_the_transform(size):
    config = rcnn.faster_rcnn_small(("a", "b"), min_size=50, max_size=83).config
    image = photo(*size)
    expected = rcnn.transform.make_batch([image], 50, 83, config.image_mean, config.image_std)
    graph = Graph()
    batch, sizes = detector._make_batch(graph, graph.constant(image), config)
    found, *found_sizes = run(graph, batch=batch, original=sizes.original, resized=sizes.resized, padded=sizes.padded)
    assert [tuple(one) for one in found_sizes] == [size, *expected.image_sizes, expected.images.shape[2:]]
    np.testing.assert_allclose(found, expected.images, rtol=0, atol=1e-6)


# ---------------------------------------------------------------------- the file and the errors


def test_the_file_describes_itself(tmp_path):
    path = tmp_path / "d.onnx"
    model = rcnn.load_digits()
    export(model, path, score_thresh=0.25)
    session = session_of(str(path))
    about = session.get_modelmeta()
    entries = about.custom_metadata_map
    assert about.producer_name == "rcnn" and entries["rcnn"] == rcnn.__version__
    assert json.loads(entries["class_names"]) == list(model.config.class_names)
    settings = json.loads(entries["settings"])
    assert settings["box_score_thresh"] == 0.25 and settings["min_size"] == 128 and not settings["class_agnostic"]
    assert entries["opset"] == str(OPSET) == "17"
    (opset,) = onnx.load(path).opset_import
    assert (opset.domain, opset.version) == ("", OPSET)
    assert [(one.name, one.type, one.shape) for one in session.get_inputs()] == [
        ("image", "tensor(uint8)", ["height", "width", 3])
    ]
    assert [one.name for one in session.get_outputs()] == ["boxes", "scores", "labels"]


def test_the_model_is_not_changed(tmp_path):
    model = rcnn.faster_rcnn_small(("a", "b"))
    before = {name: array.copy() for name, array in model.state_dict().items()}
    export(model, tmp_path / "d.onnx")
    assert model.training and not list(tmp_path.glob(".*"))
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


class Unpadded(nn.Module):
    def __init__(self):
        self.conv = nn.Conv2d(3, 8, 9, 10)

    def forward(self, x):
        return self.conv(x)


def test_models_that_cannot_be_exported(tmp_path, monkeypatch):
    path = tmp_path / "d.onnx"
    config = rcnn.FasterRCNNConfig(Unpadded(), 8, 3, anchor_sizes=(32,), hidden_dim=8)
    with pytest.raises(ValueError, match="a stride that depends on the size of the image.*pad their input"):
        export(rcnn.FasterRCNN(config), path)
    small = rcnn.faster_rcnn_small(("a", "b"))
    with pytest.raises(ValueError, match=r"float32 to be exported, got float64; use model.astype\(np.float32\)"):
        export(rcnn.faster_rcnn_small(("a", "b")).astype(np.float64), path)
    broken = rcnn.faster_rcnn_small(("a", "b"))
    broken.roi_heads.box_predictor.cls_score.bias.data[1] = np.nan
    with pytest.raises(ValueError, match="class_logits contains NaN or infinity after the stage head"):
        export(broken, path)
    with pytest.raises(ValueError, match="score_thresh"):
        export(small, path, score_thresh=2)
    with pytest.raises(TypeError, match="model must be a FasterRCNN, got dict"):
        export({}, path)
    monkeypatch.setattr("rcnn.zoo.onnx.MOST_BYTES", 1000)
    with pytest.raises(ValueError, match="the weights have .* bytes, but an ONNX file can have at most 1,000"):
        export(small, path)
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r"the package onnx, which is not installed; run: pip install 'rcnn\[onnx\]'"):
        export(small, path)
    assert not path.exists()

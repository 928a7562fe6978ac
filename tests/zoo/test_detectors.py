"""Ready-made detectors: shapes and defaults, weights from files, trainable stages."""

import itertools

import numpy as np
import pytest
import safetensors.numpy
from pthfiles import archive, dict_of, tensor, text

import rcnn
from rcnn import nn
from rcnn.backbones import MobileNetFPN, MobileNetMap, ResNetFPN
from rcnn.config import FasterRCNNConfig
from rcnn.zoo import checkpoint, download
from rcnn.zoo.classes import COCO_NAMES

TINY = {"hidden_dim": 8, "min_size": 64, "max_size": 96, "rpn_post_nms_top_n_test": 20}


def make(num_classes=4, **options):
    return rcnn.faster_rcnn_resnet_fpn(num_classes, **{"backbone": "resnet18", **TINY, **options})


@pytest.fixture(scope="module")
def public_file(tmp_path_factory):
    """File of an 18-layer detector with four classes, like torchvision's: only names and arrays, under old names."""
    rcnn.seed(7)
    old = {name.replace("rpn.head.conv.0.0.", "rpn.head.conv."): array for name, array in make().state_dict().items()}
    old = {
        name.replace("blocks.0.0.", "blocks.0.").replace("blocks.3.0.", "blocks.3."): array
        for name, array in old.items()
    }
    path = tmp_path_factory.mktemp("public") / "detector.pth"
    path.write_bytes(safetensors.numpy.save({name: np.ascontiguousarray(array) for name, array in old.items()}))
    return path


def make_any(backbone):
    return (make_mobile if "mobilenet" in backbone else make)(backbone=backbone)


def fetched(monkeypatch, path, published=True):
    """Let `fetch` return `path`, and return the list of requested names; `published`: treat it as the COCO file."""
    requested = []
    monkeypatch.setattr(download, "fetch", lambda name: requested.append(name) or path)
    if published:
        publish(monkeypatch, path, "coco")
    return requested


def publish(monkeypatch, path, name):
    """Let a file be the published one with a name."""
    monkeypatch.setitem(download.HASHES, name, download.digest(path))
    monkeypatch.setitem(download.SIZES, name, path.stat().st_size / 2**20)


def test_defaults_match_torchvision():
    model = rcnn.faster_rcnn_resnet_50_fpn()
    c = model.config
    assert (c.num_classes, c.hidden_dim, c.dropout, c.use_fpn) == (21, 1024, 0.0, True)
    assert c.anchor_sizes == (32, 64, 128, 256, 512) and c.class_names is None
    assert [len(cell) for cell in model.anchor_generator.cells] == [3] * 5  # one size a level
    assert model.backbone.eps == 1e-5
    assert all(p.requires_grad for p in model.parameters())


def test_101_layers_have_23_blocks_in_the_third_stage():
    names = rcnn.faster_rcnn_resnet_101_fpn(3, **TINY).state_dict()
    assert "backbone.body.layer3.22.conv3.weight" in names
    assert not any(name.startswith("backbone.body.layer3.23.") for name in names)


@pytest.mark.parametrize(
    ("stages", "learning"),
    [
        (0, set()),
        (2, {"layer4", "layer3"}),
        (3, {"layer4", "layer3", "layer2"}),
        (5, {"layer4", "layer3", "layer2", "layer1", "conv1"}),
    ],
)
def test_trainable_backbone_layers_counts_from_the_last(stages, learning):
    model = make(trainable_backbone_layers=stages)
    parts = {
        name.split(".")[2]
        for name, p in model.named_parameters()
        if name.startswith("backbone.body.") and p.requires_grad
    }
    assert parts == learning
    assert all(p.requires_grad for name, p in model.named_parameters() if not name.startswith("backbone.body."))


def test_trainable_backbone_layers_is_checked():
    with pytest.raises(ValueError, match=r"trainable_layers must be .*, (not|got) 6"):
        make(trainable_backbone_layers=6)


def test_number_of_classes_and_old_names_come_from_the_file(public_file):
    model = make(None, weights=public_file)
    assert model.config.num_classes == 4
    rcnn.seed(7)
    for name, array in make().state_dict().items():
        np.testing.assert_array_equal(model.state_dict()[name], array, err_msg=name)
    stages = {
        name.split(".")[2]
        for name, p in model.named_parameters()
        if name.startswith("backbone.body.") and p.requires_grad
    }
    assert stages == {"layer4", "layer3", "layer2"}  # the early stages of pretrained weights are frozen


def test_number_of_classes_that_differs_from_the_file_is_an_error(public_file):
    with pytest.raises(ValueError, match=r"num_classes=5, but .*detector.pth has weights for 4 classes; .*load_into"):
        make(5, weights=public_file)


def test_error_of_a_file_of_another_depth_names_the_parameters(public_file):
    with pytest.raises(rcnn.CheckpointError, match=r"missing: .*layer1.2.conv1.weight"):
        rcnn.faster_rcnn_resnet_fpn(backbone="resnet34", weights=public_file, **TINY)


def test_backbone_is_one_of_four():
    assert make(backbone="resnet34").backbone.layers == 34
    with pytest.raises(ValueError, match="one of resnet18, resnet34, resnet50, resnet101, got 'vgg16'"):
        make(backbone="vgg16")


def test_load_detector_finds_depth_classes_and_width_in_the_file(public_file):
    model = rcnn.load_detector(public_file)
    assert (model.backbone.layers, model.config.num_classes, model.config.hidden_dim) == (18, 4, 8)
    assert not model.training


OTHER_MODELS = {
    "Detectron2": ["backbone.bottom_up.stem.conv1.weight", "roi_heads.box_predictor.cls_score.weight"],
    "MMDetection": ["backbone.layer1.0.conv1.weight", "neck.lateral_convs.0.conv.weight", "roi_head.bbox_head.fc_cls"],
    "maskrcnn-benchmark": ["backbone.body.stem.conv1.weight", "roi_heads.box.predictor.cls_score.weight"],
    "a YOLO": ["model.model.0.conv.weight", "model.model.2.cv1.conv.weight"],
    "Hugging Face": ["model.backbone.conv_encoder.model.conv1.weight"],
    "DETR": ["transformer.encoder.layers.0.linear1.weight", "class_embed.weight", "backbone.0.body.conv1.weight"],
    "a RetinaNet, an FCOS or an SSD": ["backbone.body.conv1.weight", "head.classification_head.cls_logits.weight"],
    "faster-rcnn.pytorch": ["RCNN_base.0.weight"],
    "another backbone": ["backbone.body.features.0.weight", "roi_heads.box_predictor.cls_score.weight"],
    "a MobileNet without a detector": ["features.1.block.0.0.weight", "classifier.0.weight"],
    "segmentation": ["classifier.4.weight", "backbone.conv1.weight"],
    "weights_backbone=PATH": ["conv1.weight", "layer1.0.conv1.weight"],
    "state of an optimiser": ["momentum_buffer"],
    "unknown names, such as weight": ["weight"],
}


@pytest.mark.parametrize("model", OTHER_MODELS)
def test_load_detector_describes_other_models(tmp_path, model):
    path = tmp_path / "other.safetensors"
    path.write_bytes(safetensors.numpy.save({name: np.zeros((3, 3), np.float32) for name in OTHER_MODELS[model]}))
    for read in (rcnn.load_detector, lambda path: make(None, weights=path)):
        with pytest.raises(
            rcnn.CheckpointError, match=f"{model}.*; rcnn reads .* ResNet of 18, 34, 50 or 101"
        ) as error:
            read(path)
        assert len(str(error.value).replace(str(path), "")) < 300


def test_checkpoint_of_lightning_without_a_detector(tmp_path):
    path = tmp_path / "last.ckpt"
    path.write_bytes(
        archive(dict_of({"pytorch-lightning_version": text("2.4"), "state_dict": dict_of({"net.a": tensor()})}))
    )
    with pytest.raises(rcnn.CheckpointError, match="is a PyTorch Lightning checkpoint, and .* such as net.a;"):
        rcnn.load_detector(path)


@pytest.mark.parametrize(
    "source, remedy",
    [
        ("https://example.org/a.pth", "download the file, then pass its path"),
        ("imagenet", 'weights_backbone="imagenet"'),
    ],
)
def test_sources_that_are_not_detector_files(source, remedy):
    with pytest.raises(ValueError, match=remedy):
        rcnn.load_detector(source)


def saved(path, state):
    path.write_bytes(safetensors.numpy.save({name: np.ascontiguousarray(array) for name, array in state.items()}))
    return path


@pytest.fixture(scope="module")
def version_2():
    """Return a detector like fasterrcnn_resnet50_fpn_v2 with 18 layers and four classes."""
    heads = {"rpn_num_convs": 2, "box_num_convs": 4, "anchor_sizes": (32, 64, 128, 256, 512), "dropout": 0}
    rcnn.seed(8)
    return rcnn.FasterRCNN(rcnn.FasterRCNNConfig(ResNetFPN(18, batch_norm=True), 256, 4, True, **heads, **TINY))


def test_load_detector_finds_version_2_in_the_file(tmp_path, version_2):
    model = rcnn.load_detector(saved(tmp_path / "v2.safetensors", version_2.state_dict()))
    assert model.backbone.batch_norm and not model.training
    assert (model.config.num_classes, model.config.rpn_num_convs, model.config.box_num_convs) == (4, 2, 4)
    state = version_2.state_dict()
    assert all(np.array_equal(array, state[name]) for name, array in model.state_dict().items())


def test_version_2_is_rebuilt_from_its_checkpoint(tmp_path, version_2):
    rcnn.save(tmp_path / "model.safetensors", version_2)
    again = rcnn.load(tmp_path / "model.safetensors")
    image = np.random.default_rng(0).random((60, 80, 3))
    for found, expected in zip(again.predict([image]), version_2.predict([image]), strict=True):
        np.testing.assert_array_equal(found["boxes"], expected["boxes"])


def test_file_of_another_detector_is_an_error(tmp_path, version_2, public_file, mobile_file):
    v2_file = saved(tmp_path / "v2.safetensors", version_2.state_dict())
    files = {
        "faster_rcnn_resnet_fpn": public_file,
        "faster_rcnn_resnet_50_fpn_v2": v2_file,
        "faster_rcnn_mobilenet_fpn": mobile_file,
    }
    for function, other in itertools.permutations(files, 2):
        message = rf"contains another detector; pass it to rcnn.load_detector or to rcnn.{other}\("
        with pytest.raises(rcnn.CheckpointError, match=message):
            getattr(rcnn, function)(weights=files[other])


@pytest.mark.parametrize(
    "function, options, name",
    [
        ("faster_rcnn_resnet_50_fpn", {}, "resnet50_fpn_v2"),
        ("faster_rcnn_resnet_50_fpn_v2", {}, "mobilenet_v3_large_fpn"),
        ("faster_rcnn_mobilenet_v3_large_320_fpn", {}, "resnet50_fpn_v2"),
        ("faster_rcnn_resnet_fpn", {"backbone": "resnet101"}, "coco"),
        ("faster_rcnn_mobilenet_fpn", {"backbone": "mobilenet_v2"}, "coco"),
    ],
)
def test_name_of_another_detector_is_an_error(function, options, name):
    message = f"weights={name!r} belong to rcnn.{download.DETECTORS[name]}; use this function instead"
    with pytest.raises(ValueError, match=message):
        getattr(rcnn, function)(weights=name, **options)


def test_coco_weights_of_version_2_have_a_name(tmp_path, monkeypatch):
    requested = fetched(monkeypatch, tmp_path / "absent", published=False)
    for name in ("coco", "resnet50_fpn_v2"):
        with pytest.raises(FileNotFoundError):
            rcnn.faster_rcnn_resnet_50_fpn_v2(weights=name)
    assert requested == ["resnet50_fpn_v2"] * 2


def test_published_detectors_are_loaded_by_name(public_file, monkeypatch):
    requested = fetched(monkeypatch, public_file, published=False)
    for name, function in download.DETECTORS.items():
        assert rcnn.load_detector(name).config.num_classes == 4
        assert callable(getattr(rcnn, function))
    assert requested == list(download.DETECTORS)


def test_other_anchors_are_named(tmp_path):
    sizes = ((16, 32, 64),) * 5
    path = saved(tmp_path / "anchors.safetensors", make(anchor_sizes=sizes).state_dict())
    with pytest.raises(
        rcnn.CheckpointError, match="9 anchors per cell, but this detector has 3; .* anchor_sizes="
    ) as error:
        rcnn.load_detector(path)
    assert len(str(error.value).replace(str(path), "")) < 300
    assert len(make(None, weights=path, anchor_sizes=sizes).anchor_generator.cells[0]) == 9


@pytest.mark.parametrize(
    "rename",
    [
        lambda name: f"module.{name}",
        lambda name: f"_orig_mod.{name}",
        lambda name: f"module._orig_mod.{name}",
        lambda name: f"model.module.{name}",
        lambda name: f"my_detector.{name}",
        lambda name: name.replace("backbone.", "backbone._orig_mod."),
        lambda name: name.replace(".body.", "._fsdp_wrapped_module._checkpoint_wrapped_module.body."),
    ],
)
def test_prefixes_are_removed(tmp_path, rename):
    model = make()
    state = {rename(name): array for name, array in model.state_dict().items()}
    path = saved(tmp_path / "wrapped.safetensors", state)
    again = rcnn.load_detector(path)
    assert all(np.array_equal(array, model.state_dict()[name]) for name, array in again.state_dict().items())
    report = checkpoint.load_into(make(7), path, skip_mismatched=True)
    assert len(report.left_out) == 4


def test_tensors_without_the_prefix_are_skipped(tmp_path):
    state = {f"module.{name}": array for name, array in make().state_dict().items()}
    path = saved(tmp_path / "averaged.safetensors", {"n_averaged": np.array(7), **state})  # as AveragedModel has it
    assert rcnn.load_detector(path).config.num_classes == 4


def test_prefix_of_a_backbone_is_removed(tmp_path):
    body = rcnn.backbones.resnet18(num_classes=10)
    path = saved(tmp_path / "body.safetensors", {f"encoder.{name}": a for name, a in body.state_dict().items()})
    again = rcnn.backbones.resnet18(num_classes=10)
    checkpoint.load_into(again, path)
    assert all(np.array_equal(array, body.state_dict()[name]) for name, array in again.state_dict().items())


@pytest.mark.parametrize("head", ["mask_head.0.0", "mask_predictor.conv5_mask", "keypoint_head.0"])
def test_heads_for_masks_and_keypoints_are_skipped(tmp_path, head):
    state = make().state_dict() | {f"roi_heads.{head}.weight": np.zeros((8, 8, 3, 3), np.float32)}
    assert rcnn.load_detector(saved(tmp_path / "mask.safetensors", state)).config.num_classes == 4


@pytest.mark.parametrize("with_config", [True, False])
@pytest.mark.parametrize("backbone", ["resnet18", "mobilenet_v2", "mobilenet_v3_large"])
def test_loading_draws_no_weights(tmp_path, backbone, with_config):
    path, model = tmp_path / "model.safetensors", make_any(backbone)
    if with_config:
        rcnn.save(path, model)
    else:
        saved(path, model.state_dict())
    rcnn.seed(1)
    first = rcnn.nn.random.generator().random()
    rcnn.seed(1)
    again = rcnn.load_detector(path)
    assert rcnn.nn.random.generator().random() == first
    for name, array in again.state_dict().items():
        assert array.flags.writeable and array.flags.c_contiguous
        np.testing.assert_array_equal(array, model.state_dict()[name])


def test_random_weights_do_not_depend_on_loading(public_file):
    rcnn.seed(3)
    expected = make(7).state_dict()
    rcnn.load_detector(public_file)
    rcnn.seed(3)
    assert all(np.array_equal(array, expected[name]) for name, array in make(7).state_dict().items())


def test_load_detector_reads_files_of_save(tmp_path):
    model = rcnn.load_digits()
    rcnn.save(tmp_path / "digits.safetensors", model)
    assert rcnn.load_detector(tmp_path / "digits.safetensors").config.class_names == model.config.class_names


def test_coco_by_name_has_its_eps_its_classes_and_its_names(tmp_path, monkeypatch):
    source = rcnn.faster_rcnn_resnet_50_fpn(91, hidden_dim=8)
    path = tmp_path / "coco.pth"
    path.write_bytes(safetensors.numpy.save(source.state_dict()))
    requested = fetched(monkeypatch, path)
    model = rcnn.faster_rcnn_resnet_50_fpn(weights="coco")
    assert requested == ["coco"]
    assert model.config.num_classes == 91 and model.config.class_names == COCO_NAMES
    norms = [m for m in model.modules() if isinstance(m, nn.FrozenBatchNorm2d)]
    assert len(norms) == 53 and {m.eps for m in norms} == {0.0}
    rcnn.save(tmp_path / "saved.safetensors", model)
    assert rcnn.load(tmp_path / "saved.safetensors").backbone.eps == 0.0
    assert rcnn.faster_rcnn_resnet_50_fpn(weights=path).backbone.eps == 0.0  # by its hash
    monkeypatch.setitem(download.HASHES, "coco", "")
    assert rcnn.faster_rcnn_resnet_50_fpn(weights=path).backbone.eps == 1e-5
    assert rcnn.faster_rcnn_resnet_50_fpn(weights=tmp_path / "saved.safetensors").backbone.eps == 0.0


def test_coco_weights_initialise_a_detector_for_other_classes(public_file, monkeypatch):
    fetched(monkeypatch, public_file)
    model = make(7)
    report = checkpoint.load_into(model, "coco", skip_mismatched=True)
    assert report.left_out == {
        "roi_heads.box_predictor.cls_score.weight": ((4, 8), (7, 8)),
        "roi_heads.box_predictor.cls_score.bias": ((4,), (7,)),
        "roi_heads.box_predictor.bbox_pred.weight": ((16, 8), (28, 8)),
        "roi_heads.box_predictor.bbox_pred.bias": ((16,), (28,)),
    }
    assert set(report.names) | set(report.left_out) == set(model.state_dict())
    state, source = model.state_dict(), make(None, weights=public_file).state_dict()
    assert all(np.array_equal(state[name], source[name]) for name in report.names)
    assert model.backbone.eps == 0.0


def test_without_skipping_every_mismatch_is_named_and_nothing_changed(public_file):
    model = make(7)
    before = {name: array.copy() for name, array in model.state_dict().items()}
    with pytest.raises(rcnn.CheckpointError, match=r"cls_score.weight has shape \(4, 8\) .* and 3 more") as error:
        checkpoint.load_into(model, public_file)
    (details,) = error.value.details
    assert details.startswith("wrong shape: ") and all(
        f"box_predictor.{part}" in details for part in ("cls_score.bias", "bbox_pred.weight", "bbox_pred.bias")
    )
    assert all(np.array_equal(array, before[name]) for name, array in model.state_dict().items())


def test_message_about_hundreds_of_names_is_short(tmp_path):
    state = {name.replace("layer2", "second_layer"): array for name, array in make().state_dict().items()}
    state["backbone.body.conv1.weight"] = np.zeros((1, 1, 1, 1), np.float32)
    path = saved(tmp_path / "renamed.safetensors", state)
    with pytest.raises(rcnn.CheckpointError, match="missing: .* more. unexpected: .* more. wrong shape: ") as error:
        checkpoint.load_into(make(), path)
    assert len(str(error.value).replace(str(path), "")) < 300
    assert "backbone.body.layer2.1.bn2.running_var" in error.value.details[0]


def test_imagenet_weights_go_into_the_backbone(tmp_path, monkeypatch):
    classifier = rcnn.backbones.resnet18(num_classes=10)
    state = {**classifier.state_dict(), "bn1.num_batches_tracked": np.array(7, np.int64)}
    path = tmp_path / "resnet18.pth"
    path.write_bytes(safetensors.numpy.save({name: np.ascontiguousarray(array) for name, array in state.items()}))
    requested = fetched(monkeypatch, path, published=False)
    model = make(weights_backbone="imagenet")
    assert requested == ["resnet18"]
    np.testing.assert_array_equal(
        model.backbone.body.layer4.state_dict()["1.bn2.weight"], classifier.layer4.state_dict()["1.bn2.weight"]
    )
    other = rcnn.backbones.resnet18(num_classes=10)
    checkpoint.load_into(other, "imagenet")
    x = nn.Tensor(np.random.default_rng(0).standard_normal((1, 3, 32, 32)).astype(np.float32))
    np.testing.assert_array_equal(other.eval()(x).data, classifier.eval()(x).data)
    with pytest.raises(ValueError, match="require a ResNet or a MobileNet, got SmallBackbone"):
        checkpoint.load_into(rcnn.backbones.SmallBackbone(), "imagenet")


def test_resnet_fpn_is_rebuilt_from_its_checkpoint(tmp_path):
    model = make(class_names=("background", "a", "b", "c"))
    model.backbone.eps = 3e-4
    rcnn.save(tmp_path / "model.safetensors", model)
    again = rcnn.load(tmp_path / "model.safetensors")
    assert isinstance(again.backbone, ResNetFPN) and again.backbone.layers == 18 and again.backbone.eps == 3e-4
    image = np.random.default_rng(0).random((60, 80, 3))
    for found, expected in zip(again.predict([image]), model.predict([image]), strict=True):
        np.testing.assert_array_equal(found["boxes"], expected["boxes"])


@pytest.mark.parametrize(
    "metadata",
    [
        {"backbone": "resnet"},
        {"backbone": {"arguments": {"eps": "small"}}},
        {"settings": {"class_names": 3}},
        {"settings": None},
    ],
)
def test_unexpected_metadata_is_ignored(metadata, tmp_path):
    path = tmp_path / "odd.safetensors"
    checkpoint.write_tensors(path, make().state_dict(), metadata)
    model = make(None, weights=path)
    assert model.backbone.eps == 1e-5 and model.config.class_names is None


@pytest.mark.parametrize("names", ["ab", None, 3])
def test_class_names_must_be_a_sequence_of_names(names):
    with pytest.raises(TypeError, match="class_names must be a sequence, got"):
        rcnn.faster_rcnn_small(names)


# ---------------------------------------------------------------------- MobileNets


def make_mobile(num_classes=4, **options):
    return rcnn.faster_rcnn_mobilenet_fpn(num_classes, **{**TINY, **options})


@pytest.fixture(scope="module")
def mobile_file(tmp_path_factory):
    """File of a MobileNetV3-Large detector with four classes, like torchvision's."""
    rcnn.seed(7)
    state = {**make_mobile().state_dict(), "backbone.body.0.1.num_batches_tracked": np.array(7)}
    return saved(tmp_path_factory.mktemp("public") / "mobile.safetensors", state)


def test_defaults_of_the_mobilenets_match_torchvision():
    large, small = rcnn.faster_rcnn_mobilenet_v3_large_fpn(3), rcnn.faster_rcnn_mobilenet_v3_large_320_fpn(3)
    for model in (large, small):
        c = model.config
        assert (c.hidden_dim, c.dropout, c.use_fpn, c.rpn_score_thresh) == (1024, 0.0, True, 0.05)
        assert c.anchor_sizes == ((32, 64, 128, 256, 512),) * 3 and c.aspect_ratios == (0.5, 1.0, 2.0)
        assert [len(cell) for cell in model.anchor_generator.cells] == [15] * 3
        assert [stride for stride, _ in model.strides()] == [32, 32, 64]
        assert not model.backbone.frozen and all(p.requires_grad for p in model.parameters())
    names = ("min_size", "max_size", "rpn_pre_nms_top_n_test", "rpn_post_nms_top_n_test")
    assert [getattr(large.config, name) for name in names] == [800, 1333, 1000, 1000]
    assert [getattr(small.config, name) for name in names] == [320, 640, 150, 150]
    assert rcnn.faster_rcnn_mobilenet_v3_large_320_fpn(3, min_size=200).config.min_size == 200


def test_load_detector_finds_the_mobilenet_in_the_file(mobile_file, tmp_path):
    model = rcnn.load_detector(mobile_file)
    assert model.backbone.name == "mobilenet_v3_large" and model.backbone.frozen and not model.training
    assert (model.config.num_classes, model.config.hidden_dim, model.config.min_size) == (4, 8, 800)
    path = saved(tmp_path / "v2.safetensors", make_mobile(backbone="mobilenet_v2").state_dict())
    assert rcnn.load_detector(path).backbone.name == "mobilenet_v2"


def test_pretrained_mobilenet_trains_its_last_three_stages(mobile_file):
    model = make_mobile(None, weights=mobile_file)
    learned = {name.split(".")[2] for name, p in model.named_parameters() if "body" in name and p.requires_grad}
    assert learned == {"7", "8", "9", "10", "11", "12", "13", "14", "15", "16"}
    assert not any(".block.0.1." in name for name, _ in model.named_parameters())  # the norms are frozen
    with pytest.raises(ValueError, match=r"trainable_layers must be .*, got 7"):
        make_mobile(trainable_backbone_layers=7)
    with pytest.raises(ValueError, match="one of mobilenet_v2, mobilenet_v3_large, got 'vgg16'"):
        make_mobile(backbone="vgg16")


@pytest.mark.parametrize("variant", ["", "_320"])
def test_coco_weights_of_the_mobilenets_have_names(mobile_file, monkeypatch, variant):
    name, make = f"mobilenet_v3_large{variant}_fpn", getattr(rcnn, f"faster_rcnn_mobilenet_v3_large{variant}_fpn")
    requested = fetched(monkeypatch, mobile_file, published=False)
    publish(monkeypatch, mobile_file, name)
    models = [make(weights="coco"), make(weights=name), rcnn.load_detector(name), rcnn.load_detector(mobile_file)]
    assert requested == [name] * 3
    for model in models:  # the last is a copy of the file under another name
        assert model.config.min_size == (320 if variant else 800)
        assert model.config.rpn_score_thresh == 0.05


def test_mobilenet_has_a_pyramid_from_finer_stages():
    model = make_mobile(3, returned_layers=(2, 3, 5), out_channels=32)
    assert [stride for stride, _ in model.strides()] == [8, 16, 32, 64]
    assert model.config.feat_channels == 32 and len(model.config.anchor_sizes) == 4


def test_anchors_of_a_mobilenet_are_named(tmp_path):
    path = saved(tmp_path / "anchors.safetensors", make_mobile(anchor_sizes=((32, 64),) * 3).state_dict())
    with pytest.raises(rcnn.CheckpointError, match=r"6 anchors .* has 15; .*rcnn.faster_rcnn_mobilenet_fpn\("):
        rcnn.load_detector(path)


@pytest.mark.parametrize("name", ["mobilenet_v2", "mobilenet_v3_large"])
def test_imagenet_weights_go_into_a_mobilenet(tmp_path, monkeypatch, name):
    body = rcnn.backbones.MobileNet(name)
    state = {f"features.{key}": array for key, array in body.state_dict().items()}
    state |= {"classifier.1.weight": np.zeros((10, 8), np.float32), "features.0.1.num_batches_tracked": np.array(7)}
    path = saved(tmp_path / "classifier.safetensors", state)
    requested = fetched(monkeypatch, path, published=False)
    for source in ("imagenet", path):
        model = make_mobile(backbone=name, weights_backbone=source)
        assert model.backbone.frozen
        for key, array in model.backbone.body.state_dict().items():
            np.testing.assert_array_equal(array, body.state_dict()[key])
    assert requested == [name]
    other = "mobilenet_v3_large" if name == "mobilenet_v2" else "mobilenet_v2"
    with pytest.raises(rcnn.CheckpointError, match="MobileNet"):
        make_mobile(backbone=other, weights_backbone=path)


@pytest.mark.parametrize("pyramid", [True, False])
def test_mobilenets_are_rebuilt_from_their_checkpoints(tmp_path, pyramid):
    if pyramid:
        backbone = MobileNetFPN("mobilenet_v2", 16, (2, 3, 5), eps=1e-3)
        config = FasterRCNNConfig(backbone, 16, 3, True, anchor_sizes=(16, 32, 64, 128), pool_size=(3, 3), **TINY)
    else:
        backbone = MobileNetMap("mobilenet_v3_large", 16, frozen=True)
        config = FasterRCNNConfig(backbone, 16, 3, pool_size=(3, 3), **TINY)
    model = rcnn.FasterRCNN(config).eval()
    rcnn.save(tmp_path / "model.safetensors", model)
    again = rcnn.load(tmp_path / "model.safetensors")
    assert again.backbone.frozen is not pyramid and again.backbone.eps == (1e-3 if pyramid else 1e-5)
    image = np.random.default_rng(0).random((60, 80, 3))
    for found, expected in zip(again.predict([image]), model.predict([image]), strict=True):
        np.testing.assert_array_equal(found["boxes"], expected["boxes"])

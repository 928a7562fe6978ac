"""Comparison of rcnn with torchvision, if installed: `pytest -m proof tests/benchmarks/test_torchvision.py -s`."""

import numpy as np
import pytest

import rcnn
from rcnn.zoo import checkpoint

pytestmark = pytest.mark.proof

SHAPES = [[(480, 640), (375, 500)], [(640, 427), (333, 1000)], [(300, 300), (512, 384), (96, 700)]]
SMALL = {"min_size": 128, "max_size": 224, "rpn_pre_nms_top_n_train": 300, "rpn_post_nms_top_n_train": 120}


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
    import torch

    everything = {"rpn_batch_size_per_image": 10**6, "box_batch_size_per_image": 10**6}
    ours, theirs = stages.pair(seed, 1e-5, trainable_backbone_layers=5, **SMALL, **everything)
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
    worst_loss = max(abs(losses[a].item() / expected[b].item() - 1) for a, b in names.items())
    norms = {name: np.linalg.norm(p.grad.astype(np.float64)) for name, p in ours.named_parameters()}
    others = {name: p.grad.double().norm().item() for name, p in theirs.named_parameters()}
    assert list(norms) == list(others)
    worst_norm = max(abs(norms[name] / others[name] - 1) for name in norms)
    print(f"\nseed {seed}, {dtype.__name__}: losses {worst_loss:.1e}, gradient norms {worst_norm:.1e} relative")
    assert worst_loss <= tolerance
    assert worst_norm <= tolerance


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy stream"])
def test_file_of_torch_has_the_same_detections(stages, tmp_path, zipped):
    """A state dict of fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None) with 91 classes, in both formats."""
    import torch
    from torchvision.models.detection import fasterrcnn_resnet50_fpn

    theirs = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None).eval()  # its batch norms are not frozen
    seeded = stages.seeded_state({name: tuple(value.shape) for name, value in theirs.state_dict().items()}, 31)
    theirs.load_state_dict({name: torch.from_numpy(array) for name, array in seeded.items()}, strict=False)
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


def old_names(state):
    """Return the state dict under the names of torchvision before 0.13."""
    renamed = {}
    for name, value in state.items():
        name = name.replace("rpn.head.conv.0.0.", "rpn.head.conv.")
        if ".inner_blocks." in name or ".layer_blocks." in name:
            name = name.replace(".0.weight", ".weight").replace(".0.bias", ".bias")
        renamed[name] = value
    return renamed

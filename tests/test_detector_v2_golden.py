"""The more accurate ResNet-50-FPN, compared stage by stage with torchvision's results in golden/detector_v2.npz.

Both use the same random weights: the name of each parameter gives its seed (see seeded.py). In training, all batch
norms use the statistics of the batch.
"""

import numpy as np
import pytest
from seeded import seeded_image, seeded_state
from test_detector_golden import EVERYTHING, LOSSES, assert_close, by_anchor, nearest

import rcnn

SIZES = [(120, 170), (150, 100)]


@pytest.fixture
def detector(golden):
    return golden("detector_v2")


@pytest.fixture(scope="module")
def images():
    return [seeded_image(*size, index).transpose(1, 2, 0) for index, size in enumerate(SIZES)]


@pytest.fixture(scope="module")
def made():
    """Return the detector of the golden file and its weights. Training changes the running statistics."""
    detector = rcnn.faster_rcnn_resnet_50_fpn_v2(
        5,
        min_size=96,
        max_size=160,
        rpn_pre_nms_top_n_test=200,
        rpn_post_nms_top_n_test=60,
        rpn_pre_nms_top_n_train=200,
        rpn_post_nms_top_n_train=60,
        rpn_batch_size_per_image=EVERYTHING,
        box_batch_size_per_image=EVERYTHING,
    )
    return detector, seeded_state({name: array.shape for name, array in detector.state_dict().items()})


@pytest.fixture
def model(made):
    detector, state = made
    detector.astype(np.float32).load_state_dict(state)
    return detector.eval()


def test_state_has_torchvisions_names_and_shapes_in_order(model, detector):
    state = model.state_dict()
    assert list(state) == detector["state/names"].tolist()
    assert [",".join(map(str, array.shape)) for array in state.values()] == detector["state/shapes"].tolist()


def test_every_stage(model, images, detector, impl):
    trace = model.trace(images)
    for level, name in enumerate(("0", "1", "2", "3", "pool")):
        assert_close(trace.features[level][:, ::64], detector[f"eval/feature_{name}"])
        assert_close(trace.objectness[level], by_anchor(detector[f"eval/rpn_logits_{level}"], 1)[..., 0])
        assert_close(trace.rpn_deltas[level], by_anchor(detector[f"eval/rpn_deltas_{level}"], 4))
    proposals = np.concatenate([detector[f"eval/proposals_{image}"] for image in range(2)])
    index, distance = nearest(trace.rois, proposals)
    assert len(set(index)) == len(index) == len(proposals) and distance.max() <= 5e-4
    assert_close(trace.class_logits, detector["eval/class_logits"][index])
    assert_close(trace.box_deltas.reshape(len(index), -1), detector["eval/box_regression"][index])
    for image, found in enumerate(trace.outputs):
        theirs = {key: detector[f"eval/detections_{image}_{key}"] for key in ("boxes", "scores", "labels")}
        index, distance = nearest(found["boxes"], theirs["boxes"])
        assert len(set(index)) == len(index) == len(theirs["boxes"]) and distance.max() <= 5e-4
        np.testing.assert_array_equal(found["labels"], theirs["labels"][index])
        assert np.abs(found["scores"] - theirs["scores"][index]).max() <= 1e-5


@pytest.mark.slow
def test_losses_gradients_and_running_statistics(model, images, detector):
    targets = [{key: detector[f"train/gt_{key}_{i}"] for key in ("boxes", "labels")} for i in range(2)]
    model.astype(np.float64).train()
    losses = model.get_loss([image.astype(np.float64) for image in images], targets)
    for ours, theirs in LOSSES.items():
        assert losses[ours].item() == pytest.approx(detector[f"train/{theirs}"].item(), rel=1e-6)
    losses["total_loss"].backward()
    norms = {name: np.linalg.norm(p.grad) for name, p in model.named_parameters()}
    expected = zip(detector["train/grad_names"].tolist(), detector["train/grad_norms"].tolist(), strict=True)
    assert norms == {name: pytest.approx(norm, rel=1e-6) for name, norm in expected}
    running = {name: np.linalg.norm(array) for name, array in model.state_dict().items() if "running" in name}
    expected = zip(detector["train/running_names"].tolist(), detector["train/running_norms"].tolist(), strict=True)
    assert running == {name: pytest.approx(norm, rel=1e-7) for name, norm in expected}

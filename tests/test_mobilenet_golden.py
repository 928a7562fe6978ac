"""MobileNets, compared with torchvision's results in golden/mobilenet.npz.

Both use the same random weights: the name of each parameter gives its seed (see seeded.py).
"""

import numpy as np
import pytest
from seeded import seeded_image, seeded_state

import rcnn
from rcnn.backbones import mobilenet_backbone
from rcnn.nn import Tensor, no_grad

pytestmark = pytest.mark.usefixtures("impl")

IMAGE = seeded_image(96, 128, 3)  # (3, 96, 128)


@pytest.fixture
def results(golden):
    return golden("mobilenet")


def load_seeded(module, results, case):
    """Give a module the weights of torchvision's, after a comparison of all names and shapes, in order."""
    state = module.state_dict()
    assert list(state) == results[f"{case}/names"].tolist()
    assert [",".join(map(str, array.shape)) for array in state.values()] == results[f"{case}/shapes"].tolist()
    module.load_state_dict(seeded_state({name: array.shape for name, array in state.items()}))
    return module.eval()


@pytest.mark.parametrize("name", ["mobilenet_v2", "mobilenet_v3_large"])
def test_feature_map(results, name):
    backbone = load_seeded(mobilenet_backbone(name, fpn=False), results, name)
    expected = results[f"{name}/map"]
    recorded = backbone(Tensor(IMAGE[None])).data
    with no_grad():  # more is fused
        fused = backbone(Tensor(IMAGE[None])).data
    for found in (recorded, fused):
        assert np.abs(found - expected).max() <= 2e-5 * np.abs(expected).max()


def test_detections(results):
    model = rcnn.faster_rcnn_mobilenet_v3_large_320_fpn(5, min_size=96, max_size=160)
    (found,) = load_seeded(model, results, "detector").predict([IMAGE.transpose(1, 2, 0)])
    boxes, scores, labels = (results[f"detector/{key}"] for key in ("boxes", "scores", "labels"))
    assert len(found["boxes"]) == len(boxes) == 100
    distance = np.abs(found["boxes"][:, None] - boxes).max(axis=2) + 1e6 * (found["labels"][:, None] != labels)
    nearest = distance.argmin(axis=1)
    assert len(set(nearest)) == 100 and distance.min(axis=1).max() <= 5e-4
    assert np.abs(found["scores"] - scores[nearest]).max() <= 1e-5

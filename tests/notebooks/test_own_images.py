"""The cell of the last notebook that needs a download, run with a file that stands in for it."""

import numpy as np
import pytest
import safetensors.numpy

import rcnn
from rcnn import plot
from rcnn.course import sources
from rcnn.zoo.classes import COCO_NAMES


@pytest.fixture
def cell():
    path = next(path for path in sources.paths() if path.name.startswith("14_"))
    return next(cell.source for cell in sources.read(path).cells if cell.id == "coco-shown")


def test_without_weights_it_says_so(cell, capsys):
    names = {"COCO_WEIGHTS": None}
    exec(cell, names)
    assert names["figure"] is None and "COCO_WEIGHTS is None" in capsys.readouterr().out


@pytest.mark.slow
def test_with_a_file_of_cocos_form_it_detects_and_names(cell, tmp_path, monkeypatch):
    """Random weights that are sure of one class: what is drawn must be what the detector says, under COCO's name."""
    rcnn.seed(14)
    state = rcnn.faster_rcnn_resnet_50_fpn(91, hidden_dim=8).state_dict()
    state["roi_heads.box_predictor.cls_score.bias"] = np.where(np.arange(91) == COCO_NAMES.index("boat"), 9, 0).astype(
        np.float32
    )
    path = tmp_path / "coco.pth"
    path.write_bytes(safetensors.numpy.save({name: np.ascontiguousarray(array) for name, array in state.items()}))
    load = rcnn.faster_rcnn_resnet_50_fpn
    monkeypatch.setattr(
        rcnn, "faster_rcnn_resnet_50_fpn", lambda weights: load(weights=weights, min_size=64, max_size=96)
    )

    photo = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    names = {"COCO_WEIGHTS": str(path), "rcnn": rcnn, "plot": plot, "photo": photo}
    exec(cell, names)
    found = names["one"]
    assert len(found["boxes"]) and set(found["labels"].tolist()) == {COCO_NAMES.index("boat")}
    assert names["detector"].config.class_names == COCO_NAMES
    (ax,) = names["figure"].axes
    assert f"{len(found['boxes'])} detections" in " ".join(text.get_text() for text in ax.texts)

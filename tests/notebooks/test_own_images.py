"""The cell of notebook 14 that requires a download, run with a substitute file."""

import numpy as np
import pytest
import safetensors.numpy

import rcnn
from rcnn import course, plot
from rcnn.course import sources
from rcnn.zoo.classes import COCO_NAMES


@pytest.fixture
def cell():
    path = next(path for path in sources.paths() if path.name.startswith("14_"))
    return next(cell.source for cell in sources.read(path).cells if cell.id == "coco-shown")


def test_cell_without_weights_prints_a_message(cell, capsys):
    names = {"COCO_WEIGHTS": None}
    exec(cell, names)
    assert names["figure"] is None and "COCO_WEIGHTS is None" in capsys.readouterr().out


@pytest.mark.slow
def test_cell_with_coco_weights_draws_named_detections(cell, tmp_path, monkeypatch):
    """Random weights that always predict one class: the figure must show the detections under COCO's class name."""
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
    names = {"COCO_WEIGHTS": str(path), "rcnn": rcnn, "plot": plot, "course": course, "photo": photo}
    exec(cell, names)
    found = names["one"]
    assert len(found["boxes"]) and set(found["labels"].tolist()) == {COCO_NAMES.index("boat")}
    assert names["detector"].config.class_names == COCO_NAMES
    (ax,) = names["figure"].axes
    assert f"{len(found['boxes'])} detections" in " ".join(text.get_text() for text in ax.texts)

"""`rcnn export`: a detector as an ONNX file, complete or not at all."""

import sys

import numpy as np
import onnxruntime
import pytest

import rcnn
from rcnn import cli


@pytest.fixture
def weights(tmp_path):
    rcnn.save(tmp_path / "digits.safetensors", rcnn.load_digits())
    return str(tmp_path / "digits.safetensors")


def run(path, image):
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, {"image": image})


def test_the_file_has_the_options_of_the_command(weights, tmp_path, capsys):
    path = tmp_path / "digits.onnx"
    options = ["--score", "0.001", "--nms-thresh", "0.9", "--class-agnostic"]
    assert cli.main(["export", weights, str(path), *options]) == 0
    assert capsys.readouterr().out == f"{path}: ONNX, opset 17\n"
    image = rcnn.data.Digits(1, split="val")[0][0]
    (expected,) = rcnn.load_digits().predict([image], 0.001, 0.9, class_agnostic=True)
    boxes, scores, labels = run(path, image)
    np.testing.assert_array_equal(labels, expected["labels"])
    np.testing.assert_allclose(boxes, expected["boxes"], rtol=0, atol=5e-4)
    assert scores.min() < 0.05  # below the threshold of the model


def test_the_best_weights_of_a_run(weights, tmp_path):
    (tmp_path / "run").mkdir()
    rcnn.save(tmp_path / "run" / "best.safetensors", rcnn.load_digits())
    assert cli.main(["--quiet", "export", str(tmp_path / "run"), str(tmp_path / "out.ONNX")]) == 0
    assert len(run(tmp_path / "out.ONNX", np.zeros((9, 9, 3), np.uint8))) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["{weights}", "{folder}/out.safetensors"],
            "OUT must name a file that ends in .onnx, got {folder}/out.safetensors",
        ),
        (["{weights}", "{folder}/no/out.onnx"], "OUT {folder}/no/out.onnx: folder {folder}/no not found"),
        (
            ["{folder}/model.onnx", "{folder}/model.onnx"],
            "OUT {folder}/model.onnx would replace WEIGHTS; choose another file",
        ),
        (["{folder}/none.pth", "{folder}/out.onnx"], "{folder}/none.pth: file not found"),
        (["{weights}", "{folder}/out.onnx", "--score", "2"], "--score must be between 0 and 1, got 2.0"),
        (["{weights}", "{folder}/out.onnx", "--nms-thresh", "-1"], "--nms-thresh must be "),
    ],
)
def test_a_mistake_is_one_line(weights, tmp_path, capsys, arguments, message):
    (tmp_path / "model.onnx").write_bytes(b"weights")
    names = {"weights": weights, "folder": tmp_path}
    assert cli.main(["export", *(argument.format(**names) for argument in arguments)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"rcnn: {message.format(**names)}") and error.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["digits.safetensors", "model.onnx"]
    assert (tmp_path / "model.onnx").read_bytes() == b"weights"


def test_a_missing_package_is_one_line_before_anything_is_loaded(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert cli.main(["export", "coco", str(tmp_path / "out.onnx")]) == 2
    expected = "rcnn: export requires the package onnx, which is not installed; run: pip install 'rcnn[onnx]'\n"
    assert capsys.readouterr().err == expected

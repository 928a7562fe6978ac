"""The scripts in examples/, run from the command line."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import rcnn
from rcnn import data

EXAMPLES = Path(__file__).parent.parent / "examples"
DIGITS = Path(rcnn.__file__).parent / "zoo" / "weights" / "digits.safetensors"


def run(name, *arguments, folder):
    """Return the output of a script that runs in a folder."""
    command = [sys.executable, str(EXAMPLES / name), *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("script", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_a_script_has_fewer_than_40_lines(script):
    assert len(script.read_text(encoding="utf-8").splitlines()) < 40


def test_detect_on_a_photo(tmp_path):
    page, target = data.Digits(1, split="val")[0]
    Image.fromarray(page).save(tmp_path / "page.png")
    printed = run("detect_on_a_photo.py", "page.png", "--weights", DIGITS, folder=tmp_path)
    *objects, summary = printed.splitlines()
    assert re.match(rf"{len(objects)} objects, drawing: detections\.png", summary)
    assert abs(len(objects) - len(target["labels"])) <= 2
    assert re.fullmatch(r"\d +[01]\.\d\d   x1, y1, x2, y2 = \d+, \d+, \d+, \d+", objects[0])
    with Image.open(tmp_path / "detections.png") as drawing:
        assert min(drawing.size) >= 128


def test_train_on_a_folder(tmp_path):
    for split, count in (("train", 6), ("val", 3)):
        data.write_voc(data.Shapes(count, split=split), tmp_path / "photos", split, progress=False)
    printed = run("train_on_a_folder.py", "voc:photos", "--steps", 3, "--out", "run", folder=tmp_path)
    assert "6 training images, 3 validation images; classes: " in printed
    assert re.search(r"average precision at an IoU of 0\.5: \d\.\d{3}; weights: run/model\.safetensors", printed)
    assert rcnn.load(tmp_path / "run" / "model.safetensors").config.num_classes == len(data.Shapes.classes)


def test_replace_a_stage(tmp_path):
    printed = run("replace_a_stage.py", folder=tmp_path)
    ours, yours = re.findall(r"(\d\.\d{4}) with", printed)
    assert ours == yours and float(ours) > 0.95
    assert printed.endswith("checks.nms: correct\n")

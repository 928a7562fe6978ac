"""The guide docs/annotating.md: its commands, run one after the other on photos that labelme has annotated."""

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
from PIL import Image

from rcnn import cli, data, images
from rcnn.cli import view
from rcnn.train import run_folder

GUIDE = (Path(__file__).parents[1] / "docs" / "annotating.md").read_text("utf-8")
NAMES = {1: "cat", 2: "dog"}


def commands() -> list[list[str]]:
    """Return the words of every command in the guide."""
    blocks = re.findall(r"^```sh\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
    return [shlex.split(line) for block in blocks for line in block.splitlines()]


def annotate(folder: Path, pages: data.Shapes, first: int = 0) -> None:
    """Write pages as photos, with the JSON files that labelme 7 writes."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(len(pages)):
        image, target = pages[index]
        name = f"photo {first + index}.png"
        (folder / name).write_bytes(images.as_png(image))
        shapes = [
            {
                "label": NAMES[1 + label % 2],
                "points": [box[:2], box[2:]],
                "group_id": None,
                "description": "",
                "shape_type": "rectangle",
                "flags": {},
                "mask": None,
            }
            for box, label in zip(target["boxes"].tolist(), target["labels"].tolist(), strict=True)
        ]
        height, width = image.shape[:2]
        sheet = {"version": "7.9.1", "flags": {}, "shapes": shapes, "imagePath": name, "imageData": None}
        sheet |= {"imageHeight": height, "imageWidth": width}
        (folder / f"photo {first + index}.json").write_text(json.dumps(sheet, indent=2))


def test_every_command_of_the_guide_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    opened: list[str] = []
    monkeypatch.setattr(view.webbrowser, "open", opened.append)
    size = (64, 64)
    annotate(tmp_path / "my-photos", data.Shapes(12, size=size))
    for folder in ("new-photos", "more-photos"):
        (tmp_path / folder).mkdir()
        Image.new("RGB", size).save(tmp_path / folder / "new.png")
    run = []
    for words in commands():
        name = Path(words[0]).name
        if name == "rcnn":
            short = ["--steps", "2"] if words[1] == "train" else []
            assert cli.main([*words[1:], *short]) == 0, words
            run.append(words[1])
        elif name == "mv":
            for path in Path().glob(words[1]):
                shutil.move(path, words[2])
        else:
            assert name in ("python3", "pip", "labelme"), words
    assert set(run) == {"check", "view", "train", "detect"}
    assert "labelme:my-photos" in capsys.readouterr().err and len(opened) == 2
    for name in ("my-photos", "second"):
        assert (tmp_path / "runs" / name / "report.html").exists()
    assert run_folder.open_run("runs/second").model.config.class_names == ("background", "cat", "dog")
    assert len(data.Labelme("my-photos", progress=False)) == 13  # twelve, and the one that the detector annotated
    assert len(data.load("voc:pre-annotated-voc", None)) == 1  # type: ignore[arg-type]
    assert len(data.YOLO("pre-annotated-yolo", progress=False)) == 1
    assert (tmp_path / "rcnn-detections" / "new.png").exists()

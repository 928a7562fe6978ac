"""`rcnn view`: its splits, messages and errors."""

import json
import re
import shutil
from pathlib import Path

import pytest
from annotated import save_image, voc_folder, voc_object, voc_xml

import rcnn
from rcnn import cli
from rcnn.cli import view as view_command

DIGITS = Path(rcnn.__file__).parent / "zoo" / "weights" / "digits.safetensors"


def content(path="rcnn-view.html"):
    """Return the data in a viewer."""
    return json.loads(re.search(r'id="data">(.*?)</script>', Path(path).read_text("ascii"), re.DOTALL)[1])


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """A VOC folder with the splits train and test, in the current folder."""
    monkeypatch.chdir(tmp_path)
    sheets = {f"s{i}": voc_xml(voc_object(), filename=f"s{i}.png") for i in range(6)}
    return voc_folder(tmp_path / "photos", sheets, {"train": "s0\ns1\ns2\ns3\ns4\n", "test": "s5\n"})


def splits(path="rcnn-view.html"):
    return [image["split"] for image in content(path)["images"]]


def test_all_splits_are_shown(photos, capsys):
    assert cli.main(["view", "photos"]) == 0
    captured = capsys.readouterr()
    assert captured.out == "6 images: rcnn-view.html\n" and "photos is read as voc:photos" in captured.err
    assert splits() == ["train"] * 4 + ["val", "test"]  # a fifth of train is held out
    assert cli.main(["view", "voc:photos", "--split", "test", "--out", "a.html"]) == 0
    assert splits("a.html") == ["test"]


def test_a_single_image_can_be_viewed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    voc_folder(tmp_path / "photos", {"s": voc_xml(voc_object(), filename="s.png")})
    assert cli.main(["view", "photos"]) == 0
    assert splits() == ["all"]


def test_a_run_and_its_plan(photos):
    Path("run.toml").write_text('[data]\ntrain = "voc:photos"\n')
    assert cli.main(["view", "run.toml"]) == 0
    assert set(splits()) == {"train", "val", "test"}


def test_detections_are_compared_with_the_objects(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    opened = []
    monkeypatch.setattr(view_command.webbrowser, "open", opened.append)
    assert cli.main(["view", "digits", "--weights", str(DIGITS), "--images", "2", "--out", "d.html", "--open"]) == 0
    images = content("d.html")["images"]
    assert [image["split"] for image in images] == ["val", "val"]
    assert sum(box["kind"] == "right" for image in images for box in image["detections"]) >= 5
    assert capsys.readouterr().out == "2 images: d.html\n" and opened == [(tmp_path / "d.html").as_uri()]


def test_invalid_images_are_left_out_and_listed(photos):
    (photos / "JPEGImages" / "s5.png").unlink()
    shutil.copy(photos / "JPEGImages" / "s0.png", photos / "JPEGImages" / "new.png")
    save_image(photos / "JPEGImages" / "s1.png", size=(80, 10))
    assert cli.main(["view", "photos", "--split", "train"]) == 0
    assert "train: left out: Annotations/s1.xml" in Path("rcnn-view.html").read_text()
    assert len(splits()) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--score", "2"), "--score must be between 0 and 1, got 2.0"),
        (("--images", "0"), "--images must be at least 1, got 0"),
        (("--out", "view.png"), "--out must name a file that ends in .html, got view.png"),
        (("--out", "missing/view.html"), "folder missing not found"),
        (("--weights", str(DIGITS)), "the detector does not know these classes of the data set: cat"),
        (("--split", "dev2"), "has no split 'dev2'"),
    ],
)
def test_wrong_arguments(photos, capsys, arguments, message):
    assert cli.main(["view", "voc:photos", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not Path("rcnn-view.html").exists()

"""The viewer: its content, its files, and data that tries to become HTML."""

import json
import re
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest
from annotated import record, save_image

from rcnn import data
from rcnn.cli import html
from rcnn.cli.html import viewer

HOSTILE = "</script><img src=x onerror=alert(1)>\"'{{script}}"


class Parsed(HTMLParser):
    """The elements of a page, and the text inside the last script with data."""

    def __init__(self, content):
        super().__init__()
        self.tags, self.attributes, self.data, self.inside = [], [], "", False
        self.feed(content)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]
        self.inside = ("id", "data") in attrs

    def handle_endtag(self, tag):
        self.inside = False

    def handle_data(self, text):
        self.data += text if self.inside else ""


def read(path):
    """Return the parsed page and its data."""
    page = Parsed(path.read_text("ascii"))
    return page, json.loads(page.data)


class Model:
    """A detector that finds every object of the drawn pages, and one more on the background."""

    config = SimpleNamespace(class_names=data.Shapes.classes, num_classes=5)

    def __init__(self, pages):
        self.targets = iter([pages[i][1] for i in range(len(pages))])

    def predict(self, images):
        (target,) = [next(self.targets) for _ in images]
        boxes = np.concatenate([target["boxes"], [[0, 0, 2, 2], [0, 0, 3, 3]]])
        scores = np.linspace(0.9, 0.6, len(boxes))
        scores[-1] = 0.2
        return [{"boxes": boxes, "scores": scores, "labels": np.append(target["labels"], [1, 1])}]


def test_objects_of_every_split(tmp_path):
    splits = {"train": data.Shapes(3), "val": data.Shapes(2, split="val")}
    assert html.write_viewer(tmp_path / "view.html", "shapes", splits, progress=False) is None
    page, content = read(tmp_path / "view.html")
    assert content["classes"] == list(data.Shapes.classes) and content["kinds"] == []
    assert [image["split"] for image in content["images"]] == ["train"] * 3 + ["val"] * 2
    image, target = splits["val"][1]
    shown = content["images"][4]
    assert (shown["height"], shown["width"]) == image.shape[:2]
    assert np.allclose([box["corners"] for box in shown["objects"]], target["boxes"], atol=0.05)
    assert [box["label"] for box in shown["objects"]] == target["labels"].tolist()
    assert shown["address"].startswith("data:image/jpeg;base64,") and page.tags.count("script") == 2


def test_detections_and_errors(tmp_path):
    pages = data.Shapes(3, split="val")
    html.write_viewer(tmp_path / "a.html", "shapes", {"val": pages}, Model(pages), "mine", progress=False)
    _, content = read(tmp_path / "a.html")
    assert content["kinds"] == ["localisation", "class", "both", "duplicate", "background", "missed"]
    for image in content["images"]:
        assert image["errors"] == 1 and {box["kind"] for box in image["objects"]} <= {"found"}
        assert [box["kind"] for box in image["detections"] if box["wrong"]] == ["background"]
        assert all(box["score"] > 0.5 for box in image["detections"])
    assert "val: 3 images, AP50 1.000; detections of mine above a score of 0.5" in (tmp_path / "a.html").read_text()


def test_many_images_are_files_beside_the_page(tmp_path, monkeypatch):
    monkeypatch.setattr(viewer, "MAX_EMBEDDED", 2)
    path, folder = tmp_path / "my #1 view.html", tmp_path / "my #1 view_files"
    for count in (5, 4):  # the second time, a file of the first time is too much
        assert html.write_viewer(path, "shapes", {"val": data.Shapes(count)}, progress=False) == folder
        _, content = read(path)
        names = [f"{i:06}.jpg" for i in range(count)]
        assert [image["address"] for image in content["images"]] == [f"my%20%231%20view_files/{name}" for name in names]
        assert sorted(file.name for file in folder.iterdir()) == names


def test_number_of_images_is_bounded(tmp_path):
    html.write_viewer(tmp_path / "a.html", "shapes", {"val": data.Shapes(5)}, max_images=2, progress=False)
    page, content = read(tmp_path / "a.html")
    assert len(content["images"]) == 2 and "val: 2 of 5 images" in (tmp_path / "a.html").read_text()


@pytest.mark.parametrize("name", [HOSTILE.replace("/", ""), "\udcff猫"])
def test_names_do_not_become_html(tmp_path, name):
    try:
        image = save_image(tmp_path / f"{name}.png")
    except OSError:
        pytest.xfail("this file system does not allow the name")
    annotations = data.Annotations(("background", HOSTILE), [record(image, names=(HOSTILE,))], [])
    dataset = data.AnnotatedImages(annotations)
    html.write_viewer(tmp_path / "a.html", HOSTILE, {HOSTILE: dataset}, notes=[HOSTILE], progress=False)
    page, content = read(tmp_path / "a.html")
    html.write_viewer(tmp_path / "b.html", "", {"val": data.Shapes(1)}, notes=[""], progress=False)
    plain, _ = read(tmp_path / "b.html")
    assert (page.tags, page.attributes) == (plain.tags, plain.attributes)
    assert content["classes"][1] == content["images"][0]["split"] == HOSTILE
    assert content["images"][0]["name"] == f"{name}.png".replace("\udcff", "\\udcff")


def test_script_never_writes_html():
    script = viewer.read_file("viewer.js")
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|fetch|XMLHttp|import", script)

"""Annotations that are pipes, devices or links, or that are too large: each is named, and none is waited for."""

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rcnn import data
from rcnn._validate import MAX_NAME
from rcnn.data import coco, formats, reading, table, voc

XML = (
    "<annotation><object><name>cat</name><bndbox><xmin>2</xmin><ymin>2</ymin><xmax>20</xmax><ymax>20</ymax></bndbox>"
    "</object></annotation>"
)
ROWS = "image,x1,y1,x2,y2,label\nimages/a.png,1,1,9,9,cat\nimages/b.png,1,1,9,9,cat\n"
KINDS = ("pipe", "device", "link outside", "link to itself", "link to nothing")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with images and annotations in three formats."""
    root = tmp_path / "set"
    for name in ("JPEGImages", "images"):
        (root / name).mkdir(parents=True)
        for i, stem in enumerate("ab"):
            Image.fromarray(np.full((40, 60, 3), 99 * i, np.uint8)).save(root / name / f"{stem}.png")
    (root / "Annotations").mkdir()
    (root / "ImageSets" / "Main").mkdir(parents=True)
    for stem in "ab":
        (root / "Annotations" / f"{stem}.xml").write_text(XML)
    (root / "annotations.csv").write_text(ROWS)
    return root


def put(path: Path, kind: str) -> None:
    """Put a special file at `path`."""
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "link outside":
        outside = next(parent for parent in path.parents if parent.name == "set").parent / "outside"
        outside.write_text(XML if path.suffix == ".xml" else "cat\n")
        path.symlink_to(outside)
    else:
        path.symlink_to(path if kind == "link to itself" else path.parent / "nothing")


@pytest.mark.parametrize("kind", KINDS)
def test_other_annotations_are_read(folder: Path, kind: str) -> None:
    put(folder / "Annotations" / "c.xml", kind)
    found = data.read_voc(folder)
    assert [record.image.name for record in found.records] == ["a.png", "b.png"]
    assert [broken.source for broken in found.broken] == ["Annotations/c.xml"]
    assert "c.xml" in found.broken[0].reason


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "name, read",
    [
        ("classes.txt", data.read_voc),
        ("classes.txt", data.read_csv),
        ("ImageSets/Main/train.txt", lambda folder: data.read_voc(folder, "train")),
        ("all.json", data.read_coco),
        ("train.json", lambda folder: data.read_coco(folder, "train")),
        ("train.csv", data.read_csv),
        ("annotations.csv", data.read_csv),
    ],
)
def test_error_names_the_file(folder: Path, name: str, read: Callable[[Path], object], kind: str) -> None:
    put(folder / name, kind)
    with pytest.raises((OSError, ValueError), match=Path(name).name):
        read(folder)


@pytest.mark.parametrize("read", [data.read_voc, data.read_coco, data.read_csv, data.read_masks])
def test_special_file_in_place_of_the_folder(tmp_path: Path, read: Callable[[Path], object]) -> None:
    put(tmp_path / "fifo", "pipe")
    with pytest.raises(NotADirectoryError, match="fifo must be a folder, got a special file"):
        read(tmp_path / "fifo")


@pytest.mark.parametrize("kind", ["pipe", "device", "link outside"])
def test_images_are_regular_files_of_the_folder(folder: Path, kind: str) -> None:
    put(folder / "JPEGImages" / "a.png", kind)
    report = data.validate(data.read_voc(folder), progress=False)
    assert {"unreadable-image", "unreadable-annotation", "missing-image"} & {p.kind for p in report.problems}


def test_links_inside_the_folder_are_followed(folder: Path) -> None:
    os.rename(folder / "annotations.csv", folder / "real.csv")
    (folder / "annotations.csv").symlink_to("real.csv")
    assert len(data.read_csv(folder).records) == 2


def test_file_that_the_user_typed_may_be_a_link(folder: Path) -> None:
    (folder.parent / "link.csv").symlink_to(folder / "annotations.csv")
    assert len(data.read_csv(folder.parent / "link.csv", images=folder).records) == 2
    content = {"images": [], "annotations": [], "categories": []}
    (folder / "all.json").write_text(json.dumps(content))
    (folder.parent / "link.json").symlink_to(folder / "all.json")
    with pytest.raises(ValueError, match="has no images"):
        data.read_coco(folder.parent / "link.json", images=folder)


def test_image_folder_that_is_a_link_is_followed_and_reported(folder: Path) -> None:
    os.rename(folder / "JPEGImages", folder.parent / "photos")
    (folder / "JPEGImages").symlink_to(folder.parent / "photos")
    report = data.validate(data.read_voc(folder), progress=False)
    found = {problem.kind: problem for problem in report.problems}
    assert report.ok and found["linked-folder"].count == 1
    assert str(folder.parent / "photos") in str(found["linked-folder"])


# ---------------------------------------------------------------------- sizes


def test_large_annotations_are_refused(folder: Path) -> None:
    with open(folder / "Annotations" / "c.xml", "wb") as file:
        file.truncate(1 << 40)
    found = data.read_voc(folder)
    assert len(found.records) == 2 and f"the limit is {voc.MAX_XML:,} bytes" in found.broken[0].reason
    with open(folder / "all.json", "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ValueError, match="all.json has 1,099,511,627,776 bytes, but the limit"):
        data.read_coco(folder)


def test_number_of_objects_is_bounded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MAX_OBJECTS", 2)
    (folder / "Annotations" / "a.xml").write_text(XML.replace("<annotation>", f"<annotation>{XML[12:-13] * 2}"))
    found = data.read_voc(folder)
    assert [broken.reason for broken in found.broken] == ["an image can have at most 2 objects, got 3"]


@pytest.mark.parametrize("name", ["x" * 257, "x" * 20_000, "a\x00b", "a\nb", "\x1b[31m", "\ud800", "a\u2028b"])
def test_class_names_are_short_and_have_no_control_characters(folder: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"classes\[1\] must be a class name of 1 to 256 characters"):
        data.read_voc(folder, classes=[name])
    content = {"images": [], "annotations": [], "categories": [{"id": 1, "name": name}]}
    (folder / "all.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="the name must be a class name of 1 to 256 characters") as error:
        data.read_coco(folder)
    assert len(str(error.value)) < 400


def test_class_names_may_have_256_characters(folder: Path) -> None:
    (folder / "Annotations" / "a.xml").write_text(XML.replace("cat", "x" * 256))
    (folder / "Annotations" / "b.xml").write_text(XML.replace("cat", "x" * 257))
    found = data.read_voc(folder)
    assert found.classes == ("background", "x" * 256) and len(found.unreadable()) == 1


def test_many_class_names_are_checked_quickly(folder: Path) -> None:
    (folder / "classes.txt").write_text("".join(f"class {i}\n" for i in range(65_535)))
    assert len(data.read_voc(folder).classes) == 65_536
    with open(folder / "classes.txt", "a") as file:
        file.write("one more\n")
    with pytest.raises(ValueError, match="classes can contain at most 65,536 names, got 65,537"):
        data.read_voc(folder)


@pytest.mark.parametrize("name", ["a" * 256, "b/" * 500 + "c", "ä" * 128, "\ud800.png", "a\0b"])
def test_impossible_paths_are_broken(folder: Path, name: str) -> None:
    rows = [{"image": name, "x1": 1, "y1": 1, "x2": 9, "y2": 9, "label": "cat"}]
    found = data.read_table(rows, folder)
    assert not found.records and len(found.broken[0].reason) < 300


@pytest.mark.parametrize("number", [10**300, 2**63, "x" * 1_001])
def test_ids_are_bounded(folder: Path, number: int | str) -> None:
    content = {"images": [{"id": number, "file_name": "a.png"}], "annotations": [], "categories": []}
    (folder / "all.json").write_text(json.dumps(content))
    found = data.read_coco(folder)
    assert (
        "its id must be an integer of at most 64 bits or" in found.broken[0].reason
        and len(found.broken[0].reason) < 300
    )


def test_many_equal_boxes_are_checked_quickly() -> None:
    boxes = np.tile([1.0, 1, 9, 9], (20_000, 1))
    rows = [{"image": "a.png", "x1": x1, "y1": y1, "x2": x2, "y2": y2, "label": "cat"} for x1, y1, x2, y2 in boxes]
    found = data.read_table(rows, Path(__file__).parent)
    report = data.validate(found, progress=False)
    assert {problem.kind: problem.count for problem in report.problems}["duplicate-box"] == 19_999


def test_the_guide_states_the_limits() -> None:
    guide = " ".join((Path(__file__).parents[2] / "docs" / "your_own_images.md").read_text(encoding="utf-8").split())
    assert f"{voc.MAX_XML >> 20} MiB for an XML file" in guide
    assert coco.MAX_JSON == table.MAX_CSV and f"{table.MAX_CSV >> 30} GiB for a JSON or CSV file" in guide
    assert f"{reading.MAX_OBJECTS:,} objects for an image" in guide
    assert f"{MAX_NAME} characters for the name of a class" in guide


@pytest.mark.parametrize("read", [data.read_voc, data.find_formats])
def test_folder_of_annotations_that_cannot_be_read_is_an_error(
    folder: Path, read: Callable[[Path], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    scandir = os.scandir

    def denied(path: str | Path = ".") -> object:
        if Path(path).name == "Annotations":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(PermissionError, match="Permission denied: .*Annotations"):
        read(folder)


def test_file_that_cannot_be_read_has_no_format(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: Path) -> object:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(formats, "open_regular", denied)
    with pytest.raises(PermissionError, match="Permission denied: "):
        data.find_formats(folder)

"""Reader of labelme's folders: shapes, layouts and invalid files."""

import json
import re

import pytest
from annotated import save_image, write

from rcnn.data import Labelme, read_coco, read_labelme


def shape(label="cat", points=((30, 25), (10, 5)), shape_type="rectangle", **extra):
    return {"label": label, "points": [list(point) for point in points], "shape_type": shape_type, **extra}


def content(*shapes, path="a.png", **extra):
    sides = {"imageHeight": 40, "imageWidth": 60}
    return json.dumps(
        {"version": "5.4.1", "shapes": list(shapes), "imagePath": path, "imageData": None, **sides, **extra}
    )


def one(folder, *shapes, **extra):
    """Return the record of a folder with one image."""
    save_image(folder / "a.png")
    write(folder / "a.json", content(*shapes, **extra))
    return read_labelme(folder, progress=False).records[0]


@pytest.mark.parametrize(
    "given, box",
    [
        (shape(), [10, 5, 30, 25]),
        (shape(points=((10, 5), (30, 5), (30, 25), (10, 25))), [10, 5, 30, 25]),  # labelme 6
        (shape(points=((10, 5), (30, 7.5), (20, 25)), shape_type="polygon"), [10, 5, 30, 25]),
        (shape(points=((20, 15), (23, 19)), shape_type="circle"), [15, 10, 25, 20]),
        (shape(points=((10, 5), (30, 25)), shape_type="mask", mask="iVBORw0"), [10, 5, 30, 25]),
        ({"label": "cat", "points": [[10, 5], [30, 25]]}, [10, 5, 30, 25]),  # labelme 3
    ],
)
def test_the_box_is_the_smallest_around_the_shape(tmp_path, given, box):
    record = one(tmp_path, given)
    assert record.boxes.tolist() == [box] and record.names == ("cat",) and record.size == (40, 60)
    assert not record.faults and len(Labelme(tmp_path, progress=False)[0][1]["boxes"]) == 1


def test_shapes_of_a_group_are_one_object(tmp_path):
    groups = [("cat", 1), ("cat", 1), ("cat", 2), ("dog", 1), ("cat", None), ("cat", "")]
    shapes = [shape(name, ((i, i), (i + 9, i + 9)), group_id=group) for i, (name, group) in enumerate(groups)]
    record = one(tmp_path, shape(points=((1, 1),), shape_type="point"), *shapes)
    assert record.names == ("cat", "cat", "dog", "cat", "cat") and record.boxes[0].tolist() == [0, 0, 10, 10]
    assert len(record.faults) == 1


@pytest.mark.parametrize(
    "extra, expected", [({}, False), ({"difficult": True}, True), ({"flags": {"difficult": 1}}, True)]
)
def test_difficult_objects(tmp_path, extra, expected):
    assert one(tmp_path, shape(**extra)).difficult.tolist() == [expected]


@pytest.mark.parametrize(
    "given, reason",
    [
        (shape(points=((1, 2),)), "must have at least two points, got 1"),
        (shape(points=((1, 2),), shape_type="point"), r"shapes\[1\] is a point, which has no box; draw a rectangle"),
        (shape(shape_type="line"), "is a line, which has no box"),
        (shape(shape_type="linestrip"), "is a linestrip, which has no box"),
        (shape(points=((1, "a"), (2, 3))), r"points of shapes\[1\] must be a number, got 'a'"),
        ({"label": "cat"}, r"shapes\[1\] has no list 'points'"),
        ("cat", r"shapes\[1\] has no list 'points'"),
        (shape(label=None), r"label of shapes\[1\] must be a class name"),
        ({"label": "cat", "points": [1, 2]}, r"points of shapes\[1\] must be \[x, y\], got 1"),
    ],
)
def test_one_invalid_shape_does_not_affect_the_others(tmp_path, given, reason):
    record = one(tmp_path, shape(), given)
    assert len(record.boxes) == 1 and re.search(reason, record.faults[0].reason)


@pytest.mark.parametrize(
    "text, reason",
    [
        ("", "Expecting value"),
        ("[]", "no list 'shapes'"),
        ('{"images": []}', "no list 'shapes'"),
        ("[" * 99_999, "deeply"),
    ],
)
def test_an_invalid_file_is_broken(tmp_path, text, reason):
    one(tmp_path, shape())
    write(tmp_path / "b.json", text)
    found = read_labelme(tmp_path, progress=False)
    assert [entry.source for entry in found.broken] == ["b.json"] and reason in found.broken[0].reason


@pytest.mark.parametrize("layout", ["{}/{}.json {}/{}.png", "annots/{}/{}.json images/{}/{}.png"])
def test_folders_of_splits(tmp_path, layout):
    for split, stem in (("train", "a"), ("val", "b")):
        label, image = layout.replace("{}/{}", f"{split}/{stem}").split()
        save_image(tmp_path / image)
        write(tmp_path / label, content(shape(), path=f"..\\images\\{stem}.png"))
    assert [record.image.name for record in read_labelme(tmp_path, "val").records] == ["b.png"]


def test_the_image_may_have_another_name(tmp_path):
    save_image(tmp_path / "photo.jpg")
    write(tmp_path / "a.json", content(shape(), path="..\\photos\\photo.jpg"))
    assert read_labelme(tmp_path).records[0].image.name == "photo.jpg"


@pytest.mark.parametrize("count", [1, 3])
def test_the_reader_of_coco_recognises_labelme(tmp_path, count):
    for i in range(count):
        write(tmp_path / f"{i}.json", content(shape()))
    with pytest.raises(ValueError, match="is not in COCO format: .* labelme:"):
        read_coco(tmp_path)


def test_a_list_that_names_a_missing_file_says_which(tmp_path):
    one(tmp_path / "Annotations", shape())
    lists = tmp_path / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("a\nb\n")
    (lists / "val.txt").write_text("a\n")
    (broken,) = read_labelme(tmp_path, "train", progress=False).broken
    assert broken.reason == "Annotations/b.json: file not found"


def test_an_image_that_is_only_in_the_json_file_is_reported(tmp_path):
    write(tmp_path / "a.json", content(shape(), imageData="iVBORw0"))
    (broken,) = read_labelme(tmp_path, progress=False).broken
    assert "a.png: file not found; the JSON file contains it as imageData" in broken.reason


def test_the_second_file_of_an_image_is_reported(tmp_path):
    one(tmp_path, shape())
    write(tmp_path / "b.json", content(shape("dog")))
    found = read_labelme(tmp_path, progress=False)
    assert len(found.records) == 1 and found.broken[0].source == "b.json"
    assert "it describes the same image as a.json" in found.broken[0].reason

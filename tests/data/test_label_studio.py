"""Reader of Label Studio's JSON: regions, names of images, tasks without annotations and invalid files."""

import json
import re

import numpy as np
import pytest
from annotated import save_image, write

from rcnn.data import LabelStudio, read_label_studio

RECTANGLE = {"x": 50.0, "y": 25, "width": 25, "height": 50, "rotation": 0, "rectanglelabels": ["cat"]}


def region(value=RECTANGLE, **extra):
    return {"type": "rectanglelabels", "value": value, "original_width": 60, "original_height": 40, **extra}


def task(*regions, image="/data/upload/1/1a2b3c4d-a.png", **extra):
    return {"id": 7, "data": {"image": image}, "annotations": [{"result": list(regions)}], "predictions": [], **extra}


def read(folder, *tasks, **options):
    save_image(folder / "images" / "a.png")
    write(folder / "project-1.json", json.dumps(tasks))
    return read_label_studio(folder, **options)


@pytest.mark.parametrize(
    "value, box",
    [
        (RECTANGLE, [30, 10, 45, 30]),
        (RECTANGLE | {"rotation": 90}, [10, 10, 30, 25]),
        ({"points": [[50, 25], [75, 50], [60, 75]], "polygonlabels": ["cat"]}, [30, 10, 45, 30]),
        ({"x": 50, "y": 50, "radiusX": 10, "radiusY": 25, "ellipselabels": ["cat"]}, [24, 10, 36, 30]),
        ({"x": 50, "y": 50, "radiusX": 10, "radiusY": 25, "rotation": 90, "ellipselabels": ["cat"]}, [20, 14, 40, 26]),
    ],
)
def test_the_box_of_a_region(tmp_path, value, box):
    choice = {"type": "choices", "value": {"choices": ["day"]}}
    record = read(tmp_path, task(choice, region(value))).records[0]
    np.testing.assert_allclose(record.boxes, [box], atol=1e-9)
    assert record.names == ("cat",) and record.size == (40, 60) and record.image_id == 7 and not record.faults
    assert LabelStudio(tmp_path)[0][1]["labels"].tolist() == [1]


def test_the_short_form(tmp_path):
    value = RECTANGLE | {"original_width": 60, "original_height": 40}
    record = read(tmp_path, {"image": "a.png", "id": 3, "label": [value], "annotator": 1}).records[0]
    assert record.boxes.tolist() == [[30, 10, 45, 30]]


@pytest.mark.parametrize(
    "image",
    [
        "a.png",
        "s3://bucket/photos/a.png",
        "/data/local-files/?d=photos/a.png",
        "http://localhost/data/upload/1a2b3c4d-a.png",
    ],
)
def test_names_of_images(tmp_path, image):
    assert read(tmp_path, task(region(), image=image)).records[0].image == tmp_path / "images" / "a.png"


def test_tasks_without_an_annotation_are_counted(tmp_path):
    save_image(tmp_path / "images" / "b.png")
    cancelled = task(image="b.png") | {"annotations": [{"result": [], "was_cancelled": True}]}
    found = read(tmp_path, task(region()), cancelled)
    assert len(found.records) == len(found.unannotated) == 1
    assert len(read(tmp_path, task(region()), cancelled, unannotated="empty").records) == 2
    assert len(read(tmp_path, task(region()), task(image="b.png")).records) == 2  # annotated as empty


@pytest.mark.parametrize(
    "wrong, reason",
    [
        (task(region()) | {"annotations": [{"result": []}] * 2}, "it has 2 annotations; keep one of them"),
        ("a.png", "it must be a JSON object, got 'a.png'"),
        ({"data": {"text": 3}, "annotations": []}, "it names no image"),
        (task(region(), image="/etc/passwd"), "is not a path inside"),
    ],
)
def test_an_invalid_task_is_broken(tmp_path, wrong, reason):
    found = read(tmp_path, task(region()), wrong)
    assert [entry.source for entry in found.broken] == ["project-1.json, task 1"]
    assert re.search(reason, found.broken[0].reason)


@pytest.mark.parametrize("points", [None, [], [1, 2], [[1, 2, 3]], [["a", 1]], "ab"])
def test_invalid_points(tmp_path, points):
    record = read(tmp_path, task(region({"points": points, "polygonlabels": ["cat"]}))).records[0]
    assert not len(record.boxes) and "point" in record.faults[0].reason


def test_one_invalid_region_does_not_affect_the_others(tmp_path):
    record = read(tmp_path, task(region(), region(RECTANGLE | {"x": "left"}))).records[0]
    assert len(record.boxes) == 1 and record.faults[0].reason == "x of region 1 must be a number, got 'left'"


CREATE_ML = '[{"image": "a.png", "annotations": [{"label": "cat", "coordinates": {"x": 3, "y": 3}}]}]'


@pytest.mark.parametrize(
    "text, message",
    [
        ("{}", "must be a list of tasks"),
        ("[", "is not JSON"),
        ("[]", "has no images"),
        (CREATE_ML, "is in CreateML's format, which rcnn does not read; export the data set as COCO"),
    ],
)
def test_an_invalid_file_is_an_error(tmp_path, text, message):
    write(tmp_path / "a.json", text)
    with pytest.raises(ValueError, match=message):
        read_label_studio(tmp_path)


@pytest.mark.parametrize(
    "value",
    [
        {key: RECTANGLE[key] for key in ("x", "y", "width", "height")},
        RECTANGLE | {"rectanglelabels": []},
        RECTANGLE | {"rectanglelabels": "cat"},
        {"format": "rle", "rle": [1, 2], "brushlabels": ["cat"]},
        {"format": "rle", "rle": [1, 2], "labels": ["cat"]},
        {"x": 1, "y": 2, "keypointlabels": ["cat"]},
    ],
)
def test_a_shape_without_a_class_name_is_reported(tmp_path, value):
    record = read(tmp_path, task(region(), region(value, id="r2", type="shape"))).records[0]
    assert len(record.boxes) == 1
    assert "region 1 of type 'shape' has no class name for a box" in record.faults[0].reason


@pytest.mark.parametrize("number", [{"id": "r1"}, {}])
def test_a_label_in_a_region_of_its_own(tmp_path, number):
    place = {key: RECTANGLE[key] for key in ("x", "y", "width", "height")}
    regions = [region(place, **number), region(place | {"labels": ["cat"]}, **number)]
    text = region(place | {"text": ["hello"]}, type="textarea", **number)
    record = read(tmp_path, task(*regions, text)).records[0]
    assert record.boxes.tolist() == [[30, 10, 45, 30]] and not record.faults


@pytest.mark.parametrize(
    "annotations, reason",
    [
        (5, "its annotations must be a list, got 5"),
        ({"result": []}, "its annotations must be a list"),
        ([{"result": {"a": 1}}], "result of its annotation must be a list, got {'a': 1}"),
    ],
)
def test_annotations_of_a_wrong_type_are_reported(tmp_path, annotations, reason):
    found = read(tmp_path, task(region()), {**task(), "annotations": annotations})
    assert reason in found.broken[0].reason


def test_the_image_is_found_among_other_texts(tmp_path):
    data = {"title": "hello", "photo": "http://localhost/data/upload/1/1a2b3c4d-a.png?token=x.y"}
    assert read(tmp_path, task(region()) | {"data": data}).records[0].image == tmp_path / "images" / "a.png"


def test_the_second_annotation_of_an_image_is_reported(tmp_path):
    """The format JSON-MIN has one entry for each annotator."""
    value = RECTANGLE | {"original_width": 60, "original_height": 40}
    found = read(tmp_path, *({"image": "a.png", "id": 3, "label": [value], "annotator": i} for i in (1, 2)))
    assert len(found.records) == 1 and not found.unannotated
    assert "project-1.json, task 0; combine the two" in found.broken[0].reason

"""Reader of CVAT's annotations.xml: shapes, subsets and invalid files."""

import re

import numpy as np
import pytest
from annotated import save_image, write

from rcnn.data import CVAT, read_cvat

BOX = '<box label="cat" xtl="10" ytl="5" xbr="30" ybr="25" occluded="0"/>'


def image(*shapes, name="a.png", extra=""):
    return f'<image id="0" name="{name}" width="60" height="40" {extra}>{"".join(shapes)}</image>'


def cvat(*images):
    return f"<?xml version='1.0' encoding='utf-8'?><annotations><version>1.1</version>{''.join(images)}</annotations>"


def one(folder, *shapes):
    """Return the record of a file with one image."""
    save_image(folder / "images" / "a.png")
    write(folder / "annotations.xml", cvat(image(*shapes)))
    return read_cvat(folder).records[0]


@pytest.mark.parametrize(
    "shape, box",
    [
        (BOX, [10, 5, 30, 25]),
        (BOX.replace("<box ", '<box rotation="90.0" '), [10, 5, 30, 25]),
        ('<box label="cat" xtl="10" ytl="10" xbr="30" ybr="14" rotation="270"/>', [18, 2, 22, 22]),
        ('<polygon label="cat" points="10.0,5.0;30,7;20,25"/>', [10, 5, 30, 25]),
        ('<ellipse label="cat" cx="20" cy="15" rx="10" ry="5"/>', [10, 10, 30, 20]),
        ('<ellipse label="cat" cx="20" cy="15" rx="10" ry="5" rotation="90"/>', [15, 5, 25, 25]),
        ('<mask label="cat" rle="1" left="10" top="5" width="20" height="20"/>', [10, 5, 30, 25]),
    ],
)
def test_the_box_of_a_shape(tmp_path, shape, box):
    record = one(tmp_path, '<tag label="day"/>', shape)
    np.testing.assert_allclose(record.boxes, [box], atol=1e-9)
    assert record.names == ("cat",) and record.size == (40, 60) and not record.faults
    assert len(CVAT(tmp_path)[0][1]["labels"]) == 1


@pytest.mark.parametrize(
    "shape, reason",
    [
        ('<points label="cat" points="1,2"/>', "shape 1 is a <points>, which has no box"),
        ('<polygon label="cat" points="1,2;3"/>', "points of shape 1 must be a number, got None"),
        (
            BOX.replace("<box ", '<box rotation="inf" '),
            "rotation of shape 1 must be a finite number",
        ),
        (BOX.replace('xtl="10"', ""), "xtl of shape 1 must be a number, got None"),
        (BOX.replace('label="cat"', ""), "label of shape 1 must be a class name"),
    ],
)
def test_one_invalid_shape_does_not_affect_the_others(tmp_path, shape, reason):
    record = one(tmp_path, BOX, shape)
    assert len(record.boxes) == 1 and re.search(reason, record.faults[0].reason)


def test_subsets_are_splits(tmp_path):
    for subset in ("Train", "Validation"):
        save_image(tmp_path / "images" / subset / "cam1" / "a.png")
    images = [image(BOX, name="cam1/a.png", extra=f'subset="{subset}"') for subset in ("Train", "Validation")]
    write(tmp_path / "annotations.xml", cvat(*images))
    for split, subset in (("train", "Train"), ("val", "Validation")):
        (record,) = read_cvat(tmp_path, split).records
        assert record.image == tmp_path / "images" / subset / "cam1" / "a.png"
    assert len(read_cvat(tmp_path / "annotations.xml").records) == 2


def test_without_subsets_images_are_held_out(tmp_path):
    for i in range(5):
        save_image(tmp_path / "images" / "default" / f"{i}.png")
    write(
        tmp_path / "annotations.xml", cvat(*(image(BOX, name=f"{i}.png", extra='subset="default"') for i in range(5)))
    )
    assert [len(read_cvat(tmp_path, split).records) for split in ("train", "val")] == [4, 1]


@pytest.mark.parametrize(
    "text, message",
    [
        ("<annotation/>", "must begin with <annotations>, got 'annotation'"),
        ("no", "is not XML"),
        (
            '<!DOCTYPE a [<!ENTITY x "y">]><annotations>&x;</annotations>',
            "is not XML .*EntitiesForbidden",
        ),
        ('<?xml version="1.0" encoding="idna"?><annotations/>', "annotations.xml is not XML .*idna"),
        (cvat(), "has no images"),
        (cvat('<track id="0" label="cat"/>'), "describes a video; .* 'CVAT for images 1.1'"),
        (cvat(image(BOX), '<track id="0" label="cat"/>'), "describes a video; .* 'CVAT for images 1.1'"),
    ],
)
def test_an_invalid_file_is_an_error(tmp_path, text, message):
    write(tmp_path / "annotations.xml", text)
    with pytest.raises(ValueError, match=message):
        read_cvat(tmp_path)


def test_the_file_may_have_another_name(tmp_path):
    save_image(tmp_path / "task" / "images" / "a.png")
    path = write(tmp_path / "task" / "task_7.xml", cvat(image(BOX)))
    assert len(read_cvat(tmp_path / "task").records) == 1
    with pytest.raises(FileNotFoundError, match=f"pass the path of the file, such as {path}"):
        read_cvat(tmp_path)
    write(tmp_path / "task" / "other.xml", cvat(image(BOX)))
    with pytest.raises(ValueError, match="has 2 XML files, none of which is annotations.xml; pass the path of one"):
        read_cvat(tmp_path / "task")
    write(tmp_path / "task" / "annotations.xml", cvat(image(BOX, BOX)))
    assert len(read_cvat(tmp_path / "task").records[0].boxes) == 2


def test_an_image_outside_the_folder_is_broken(tmp_path):
    one(tmp_path, BOX)
    write(tmp_path / "annotations.xml", cvat(image(BOX), image(BOX, name="/etc/passwd")))
    found = read_cvat(tmp_path)
    assert len(found.records) == 1 and "is not a path inside" in found.broken[0].reason


@pytest.mark.parametrize("subset", ["..", "../..", "{folder}", "x" * 5000])
def test_a_subset_is_never_a_folder_outside(tmp_path, subset):
    save_image(tmp_path / "outside.png")
    save_image(tmp_path / "set" / "images" / "a.png")
    extra = f'subset="{subset.format(folder=tmp_path)}"'
    write(tmp_path / "set" / "annotations.xml", cvat(image(BOX, name="outside.png", extra=extra), image(BOX)))
    inside, outside = read_cvat(tmp_path / "set").records[::-1]
    assert inside.image.is_file() and not outside.image.exists()


def test_the_second_entry_of_an_image_is_reported(tmp_path):
    save_image(tmp_path / "images" / "a.png")
    write(tmp_path / "annotations.xml", cvat(image(BOX), image(BOX.replace("cat", "dog"))))
    found = read_cvat(tmp_path)
    assert [record.names for record in found.records] == [("cat",)]
    assert "describes the same image as annotations.xml, image 'a.png'" in found.broken[0].reason

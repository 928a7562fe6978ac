"""Reader of YOLO folders: layouts, classes, lines, images without text files and text files without images."""

from itertools import pairwise

import numpy as np
import pytest
from annotated import save_image, write

from rcnn.data import YOLO, read_yolo

# nested lists that would be 100 million entries as text
BOMB = "a: &a [x]\n" + "".join(f"{b}: &{b} [{','.join([f'*{a}'] * 10)}]\n" for a, b in pairwise("abcdefghi"))
pytestmark = pytest.mark.filterwarnings("ignore:.*the classes have no names")
LINE = "0 0.5 0.25 0.5 0.25\n"  # in an image of 60 x 40 (width, height): 15, 5, 45, 15


FRACTIONS = "but coordinates must be fractions of the image's width or height; divide pixels by the width or the height"


def read(folder, *arguments, **options):
    return read_yolo(folder, *arguments, progress=False, **options)


def yolo_folder(root, labels, layout="images/{}.png labels/{}.txt", **files):
    """Create a folder with an image for each text; `files` are further files, by name without suffix."""
    for stem, text in labels.items():
        split, _, name = stem.rpartition("/")
        image, label = (path.replace("{split}", split).format(name) for path in layout.split())
        save_image(root / image)
        if text is not None:
            write(root / label, text)
    for name, text in files.items():
        write(root / f"{name}.{'yaml' if name == 'data' else 'txt'}", text)
    return root


def names(annotations):
    return [record.image.name for record in annotations.records]


# ---------------------------------------------------------------------- lines


@pytest.mark.parametrize(
    "line, boxes",
    [
        (LINE, [[15, 5, 45, 15]]),
        ("0.0\t0.5 0.25 0.5 0.25 0.87\r\n\n", [[15, 5, 45, 15]]),  # with a confidence
        ("1 0.25 0.125 0.75 0.125 0.75 0.375", [[15, 5, 45, 15]]),  # a polygon
        ("cat 0.5 0.25 0.5 0.25", [[15, 5, 45, 15]]),
        (LINE.strip() + " 0.9 0.9 2 0.8 0.1 1 0 0 0", [[15, 5, 45, 15]]),  # with three keypoints
        (LINE.encode("utf-16"), [[15, 5, 45, 15]]),
        ("0 0.05 0.05 0.1 0.1", [[0, 0, 6, 4]]),
        ("", []),
    ],
)
def test_boxes_are_fractions_of_the_image(tmp_path, line, boxes):
    record = read(yolo_folder(tmp_path, {"a": line}, classes="cat\ndog\n")).records[0]
    np.testing.assert_allclose(record.boxes.reshape(-1, 4), np.reshape(boxes, (-1, 4)), atol=1e-12)
    assert record.size == (40, 60) and not record.faults and (record.boxes != -0.5).all()


def test_keypoints_are_ignored(tmp_path):
    settings = "names: [cat, dog]\nkpt_shape: [3, 2]\n"
    record = read(yolo_folder(tmp_path, {"a": LINE.strip() + " 0.9 0.9 0.9 0.9 0.1 0.1"}, data=settings)).records[0]
    assert record.boxes.tolist() == [[15, 5, 45, 15]]


def test_boxes_lie_in_the_upright_image(tmp_path):
    save_image(tmp_path / "images" / "a.jpg", orientation=6)
    write(tmp_path / "labels" / "a.txt", LINE)
    image, target = YOLO(tmp_path, progress=False)[0]
    assert image.shape == (60, 40, 3) and target["boxes"].tolist() == [[10, 7.5, 30, 22.5]]


@pytest.mark.parametrize(
    "line, reason",
    [
        ("0 0.5 0.5 0.5", "line 2 must have a class and x, y, width and height, got '0 0.5 0.5 0.5'"),
        ("0 0.5 0.5 20 10", f"line 2 has the coordinate 20, {FRACTIONS}"),
        ("0 1 1 3 1 3 -40", f"line 2 has the coordinate -40, {FRACTIONS}"),
        ("0 a 0.5 0.5 0.5", "value 2 of line 2 must be a number, got 'a'"),
        (
            "0 0.1 0.1 0.5 0.1 0.5 0.5 0.7",  # a polygon with a confidence, or without its last number
            "line 2 has 7 numbers after the class, but a box has 4, or 5 with a confidence, and a polygon has an even "
            "number; if they are keypoints, add kpt_shape to the YAML file",
        ),
        ("zebra 0.5 0.5 0.5 0.5", "class of line 2 must be a number, got 'zebra'"),
        ("-1 0.5 0.5 0.5 0.5", "class of line 2 must be a whole number of at least 0, got '-1'"),
        ("1.5 0.5 0.5 0.5 0.5", "class of line 2 must be a whole number of at least 0, got '1.5'"),
    ],
)
def test_one_invalid_line_does_not_affect_the_others(tmp_path, line, reason):
    found = read(yolo_folder(tmp_path, {"a": LINE + line}, classes="cat\n"))
    assert len(found.records[0].boxes) == 1
    assert [(fault.source, fault.reason) for fault in found.unreadable()] == [("labels/a.txt", reason)]


# ---------------------------------------------------------------------- classes


@pytest.mark.parametrize(
    "files, expected",
    [
        ({"data": "names: [cat, dog]\nnc: 2"}, ("cat", "dog")),
        ({"data": "names:\n  1: dog\n  0: cat\n"}, ("cat", "dog")),
        ({"data": "names: {0: yes, 1: no}\n"}, ("yes", "no")),
        ({"classes": "cat\r\ndog\r\n"}, ("cat", "dog")),
        ({"data": "names: [cat, dog]", "classes": "cat\ndog"}, ("cat", "dog")),
        ({"labels/classes": "cat\ndog"}, ("cat", "dog")),
        ({}, ("0", "1")),
    ],
)
def test_the_names_of_the_classes(tmp_path, files, expected):
    found = read(yolo_folder(tmp_path, {"a": LINE, "b": LINE.replace("0 ", "1 ", 1)}, **files))
    assert found.classes == ("background", *expected)
    assert [record.labels.tolist() for record in found.records] == [[1], [2]] and not found.broken


def test_a_list_of_classes_from_darknet(tmp_path):
    write(yolo_folder(tmp_path, {"a": LINE}) / "obj.names", "cat\ndog\n")
    assert read(tmp_path).classes == ("background", "cat", "dog")


def test_names_that_are_numbers_do_not_replace_the_numbers_of_the_classes(tmp_path):
    assert read(yolo_folder(tmp_path, {"a": LINE}, classes="7\n0\n")).records[0].names == ("7",)


def test_a_number_without_a_name_is_an_unknown_class(tmp_path):
    record = read(yolo_folder(tmp_path, {"a": "3" + LINE[1:]}, classes="cat\n")).records[0]
    assert record.names == ("class 3",) and record.labels.tolist() == [-1]


def test_missing_names_of_classes_are_a_warning(tmp_path):
    root = yolo_folder(tmp_path / "train", {"a": LINE})
    with pytest.warns(UserWarning, match=r"train: the classes have no names, .* each line of .*train.classes.txt$"):
        assert read(root).classes == ("background", "0")
    write(tmp_path / "data.yaml", "names: [cat]\n")
    with pytest.warns(UserWarning, match=r"classes.txt, or pass .*, if its data.yaml belongs to this data set$"):
        read(root)


def test_numbers_of_classes_that_begin_with_1_are_explained(tmp_path):
    layout = "images/{split}/{}.png labels/{split}/{}.txt"
    yolo_folder(tmp_path, {"train/a": "1" + LINE[1:], "val/b": "2" + LINE[1:]}, layout, classes="cat\ndog\n")
    with pytest.raises(
        ValueError, match=r"class 2 has no name, and class 0 \('cat'\) has no object, but YOLO counts .* 0"
    ):
        YOLO(tmp_path, "train", progress=False)
    assert "subtract 1" in read(tmp_path, "val").broken[0].reason
    yolo_folder(tmp_path, {"train/c": LINE}, layout)
    assert not read(tmp_path).broken


def test_classes_can_be_given(tmp_path):
    found = read(yolo_folder(tmp_path, {"a": LINE}, classes="cat\ndog\n"), classes=("dog", "cat"))
    assert found.classes == ("background", "dog", "cat") and found.records[0].labels.tolist() == [2]


@pytest.mark.parametrize(
    "files, message",
    [
        (
            {"data": "names: [cat, dog]", "classes": "dog\ncat"},
            "data.yaml and the list of classes beside it must list",
        ),
        ({"data": "names: [cat, dog]\nnc: 3"}, r"nc must be the number of names \(2\), got '3'"),
        ({"data": "names: [cat, cat]"}, r"classes\[2\] is 'cat'; names must be unique"),
        ({"data": "names: [cat"}, r"data\.yaml is not YAML: "),
        ({"data": "names: cat"}, "names must be a list or a mapping from numbers to names, got 'cat'"),
        ({"data": "names: {a: cat}"}, "a number in .*data.yaml: names must be a number, got 'a'"),
        ({"data": "names: {inf: cat}"}, "names must map whole numbers from 0, each once, to names, got {'inf': 'cat'}"),
        ({"data": "names: {-1: cat}"}, "names must map whole numbers from 0"),
        ({"data": "names: {0: cat, 0.0: dog}"}, "names must map whole numbers from 0, each once"),
        ({"data": "names: [[cat]]"}, r"names must map .* to names, got {0: \['cat'\]}"),
        ({"data": BOMB + "names: *i"}, "names must map whole numbers"),
        ({"data": BOMB + "names: [cat]\nnc: *i"}, "nc must be the number of names"),
        ({"data": BOMB + "names: [cat]\ntrain: *i"}, "path and train must be paths"),
    ],
)
def test_contradictory_classes_are_errors(tmp_path, files, message):
    with pytest.raises(ValueError, match=message):
        read(yolo_folder(tmp_path, {"a": LINE}, **files))


# ---------------------------------------------------------------------- layouts and splits

SPLITS = {"train/a": LINE, "val/b": LINE}


@pytest.mark.parametrize(
    "layout, places",
    [
        ("images/{split}/{}.png labels/{split}/{}.txt", None),
        ("images/{split}/{}.png labels/{split}/{}.txt", "train: images/train\nval: images/val\n"),
        (
            "images/{split}/{}.png labels/{split}/{}.txt",
            "path: ../datasets/set\ntrain: [images/train]\nval: images/val\n",
        ),
        ("{split}/images/{}.png {split}/labels/{}.txt", None),
        (
            "{split}/images/{}.png {split}/labels/{}.txt",
            "train: ../train/images\nval: ../val/images\ntest: ../test/images",
        ),
        ("{split}/{}.png {split}/{}.txt", None),
        ("images/{split}/{}.png images/{split}/{}.txt", None),
    ],
)
def test_layouts_with_splits(tmp_path, layout, places):
    files = {} if places is None else {"data": f"{places}\nnames: [cat]"}
    yolo_folder(tmp_path, SPLITS, layout, **files)
    for split, expected in (("train", ["a.png"]), ("val", ["b.png"]), (None, ["a.png", "b.png"])):
        found = read(tmp_path, split)
        assert names(found) == expected and not found.broken and len(found.records[0].boxes) == 1
    if places:
        assert names(read(tmp_path / "data.yaml", "val")) == ["b.png"]
    with pytest.raises(ValueError, match="has no split 'test'"):
        read(tmp_path, "test")


@pytest.mark.parametrize(
    "layout", ["images/{}.png labels/{}.txt", "{}.png {}.txt", "obj_train_data/{}.png obj_train_data/{}.txt"]
)
def test_layouts_without_splits(tmp_path, layout):
    yolo_folder(tmp_path, dict.fromkeys("abcde", LINE), layout)
    assert names(read(tmp_path)) == [f"{name}.png" for name in "abcde"] and not read(tmp_path).broken
    assert [len(read(tmp_path, split).records) for split in ("train", "val")] == [4, 1]


def test_lists_of_images_state_the_splits(tmp_path):
    lists = {"Train": "data/images/a.png\n", "valid": "C:\\set\\images\\b.png\n./images/c.png\nimages/gone.png\n"}
    yolo_folder(tmp_path, dict.fromkeys("abcd", LINE), **lists)
    assert names(read(tmp_path, "train")) == ["a.png"]
    found = read(tmp_path, "val")
    assert names(found) == ["b.png", "c.png"]
    assert [(entry.source, entry.reason) for entry in found.broken] == [
        ("valid.txt, line 3", "images/gone.png: file not found")
    ]


def test_a_missing_folder_in_the_yaml_file_is_an_error(tmp_path):
    yolo_folder(tmp_path, {"a": LINE}, data="train: images\nval: valid/images\nnames: [cat]")
    with pytest.raises(
        FileNotFoundError, match="lists for the split val; correct the path, or remove it to hold out images"
    ):
        read(tmp_path)


def test_a_folder_without_images_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="has no images; looked for images/"):
        read(tmp_path)


# ---------------------------------------------------------------------- images without a text file, and the reverse


def test_images_without_a_text_file_have_no_objects_or_are_left_out(tmp_path):
    yolo_folder(
        tmp_path,
        {"train/a": LINE, "train/b": None, "val/c": LINE, "val/d": ""},
        "images/{split}/{}.png labels/{split}/{}.txt",
    )
    for split, expected in (("train", ["a.png", "b.png"]), ("val", ["c.png", "d.png"])):
        found = read(tmp_path, split)
        assert names(found) == expected and [len(record.boxes) for record in found.records] == [1, 0]
        assert [entry.source for entry in found.unannotated] == [str(tmp_path / "images/train/b.png")]
        assert found.unannotated[0].reason == "it has no annotation and is treated as an image without objects"
    assert names(read(tmp_path, "train", unannotated="skip")) == ["a.png"]
    assert names(read(tmp_path, "val", unannotated="skip")) == ["c.png", "d.png"]


KITTI = "Car 0.00 0 -1.57 10 5 30 25 1.5 1.6 3.9 1.8 1.5 8.4 0.01\n"
DOTA = "imagesource:GoogleEarth\ngsd:0.1\n10 5 30 5 30 25 10 25 small-vehicle 0\n"
EXPORT = "which rcnn does not read; export YOLO, COCO or PASCAL VOC instead"


@pytest.mark.parametrize(
    "layout, text, message",
    [
        ("image_2/{}.png label_2/{}.txt", KITTI, f"label_2 has text files .* in the format of KITTI, {EXPORT}"),
        (
            "train/images/{}.png train/labelTxt/{}.txt",
            DOTA,
            f"labelTxt has text files .* in the format of DOTA .*{EXPORT}",
        ),
        (
            "images/{}.png boxes/{}.txt",
            LINE,
            "boxes has text files with their names; if these are in YOLO's format, move",
        ),
        ("images/{}.png other/x{}.txt", LINE, "none of the images has a text file; add the folder labels"),
    ],
)
def test_a_set_without_any_text_file_is_an_error(tmp_path, layout, text, message):
    yolo_folder(tmp_path, dict.fromkeys("abc", text), layout, data="names: [cat]")
    for unannotated in ("empty", "skip"):
        with pytest.raises(ValueError, match=message):
            read(tmp_path, "train", unannotated=unannotated)


def test_a_split_whose_text_files_are_in_another_folder_is_an_error(tmp_path):
    yolo_folder(tmp_path, {"train/a": LINE, "val/b": LINE}, "{split}/images/{}.png {split}/labels/{}.txt")
    yolo_folder(tmp_path, {"test/c": LINE}, "{split}/images/{}.png {split}/gt/{}.txt")
    assert len(read(tmp_path, "train").records) == 1
    with pytest.raises(ValueError, match="none of the images of test has a text file in .*test/gt has"):
        read(tmp_path, "test")
    (tmp_path / "test" / "gt" / "c.txt").unlink()
    assert [len(record.boxes) for record in read(tmp_path, "test").records] == [0]


def test_a_text_file_without_an_image_is_broken(tmp_path):
    yolo_folder(tmp_path, {"a": LINE, "b": LINE})
    (tmp_path / "images" / "b.png").unlink()
    found = read(tmp_path)
    assert [(entry.source, entry.reason) for entry in found.broken] == [
        ("labels/b.txt", "there is no image for this file")
    ]


def test_an_unreadable_image_is_broken(tmp_path):
    write(yolo_folder(tmp_path, {"a": LINE, "b": LINE}) / "images" / "b.png", b"")
    found = read(tmp_path)
    assert names(found) == ["a.png"] and "b.png" in found.broken[0].reason


def test_files_outside_the_folder_are_never_opened(tmp_path):
    secret = save_image(tmp_path / "secret.png")
    root = yolo_folder(tmp_path / "set", {"a": LINE}, data="train: /etc\nval: ../..\nnames: [cat]")
    with pytest.raises(FileNotFoundError, match="has no etc, which its YAML file lists for the split train"):
        read(root)
    (root / "data.yaml").unlink()
    (root / "images" / "link.png").symlink_to(secret)
    found = read(root)
    assert names(found) == ["a.png"] and "which is outside" in found.broken[0].reason

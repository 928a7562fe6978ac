"""Data sets that are written as VOC, COCO and CSV are read back bit for bit."""

import json
import os

import numpy as np
import pytest
from annotated import record, save_image
from hypothesis import given, settings
from hypothesis import strategies as st

from rcnn import data
from rcnn.data import AnnotatedImages, Annotations

WRITERS = {"voc": data.write_voc, "coco": data.write_coco, "csv": data.write_csv, "yolo": data.write_yolo}
IMAGE = np.arange(40 * 60 * 3, dtype=np.uint8).reshape(40, 60, 3)


class Pages:
    """A user's data set."""

    def __init__(self, *targets, classes=("background", "cat", "dog"), image=IMAGE):
        self.targets, self.classes, self.image = targets, classes, image

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, index):
        return self.image, self.targets[index]


def target(boxes=((10, 5, 30, 25),), labels=(1,), **more):
    return {"boxes": np.array(boxes, np.float32).reshape(-1, 4), "labels": np.array(labels, np.int64), **more}


@pytest.fixture(params=sorted(WRITERS))
def kind(request):
    return request.param


def written(kind, dataset, folder, split="train"):
    WRITERS[kind](dataset, folder, split, progress=False)
    return (
        data.load(f"{kind}:{folder}", split)
        if split == "val"
        else AnnotatedImages(data.read_annotations(f"{kind}:{folder}", None))
    )


def same(page, other):
    np.testing.assert_array_equal(page[0], other[0], strict=True)
    for key in ("boxes", "labels"):
        np.testing.assert_array_equal(page[1][key], other[1][key], strict=True)


@pytest.mark.parametrize("pages", [data.Digits, data.Shapes])
def test_drawn_pages_are_read_back_bit_for_bit(tmp_path, kind, pages):
    sources = {split: pages(5, split=split) for split in ("train", "val")}
    for split, source in sources.items():
        WRITERS[kind](source, tmp_path, split, progress=False)
    for split, source in sources.items():
        back = data.load(f"{kind}:{tmp_path}", split)
        assert len(back) == 5 and back.classes == source.classes  # even classes without objects
        for page, other in zip(back, source, strict=True):
            same(page, other)
            assert page[1]["areas"].tolist() == np.diff(other[1]["boxes"][:, [[0, 2], [1, 3]]])[..., 0].prod(1).tolist()


def test_every_format_has_the_same_images_in_the_same_order_and_splits(tmp_path):
    parts = {}
    for kind, write in WRITERS.items():
        write(data.Shapes(12), tmp_path / kind, "train", progress=False)
        found = [data.load(f"{kind}:{tmp_path / kind}", split) for split in ("train", "val")]
        parts[kind] = [[record.image.name for record in pages.records] for pages in found]
    assert parts["voc"] == parts["coco"] == parts["csv"]
    train, val = parts["voc"]
    assert (len(train), len(val)) == (10, 2) and not set(train) & set(val)
    assert train == sorted(train) and train + val != sorted(train + val)


COORDINATES = st.one_of(st.integers(0, 60).map(float), st.floats(2**-20, 60, width=32))
BOXES = (
    st.tuples(*[COORDINATES] * 4)
    .map(lambda c: (*np.minimum(c[:2], c[2:]), *np.maximum(c[:2], c[2:])))
    .filter(lambda box: box[0] < box[2] and box[1] < box[3] <= 40)
)


@given(boxes=st.lists(BOXES, max_size=4))
@settings(max_examples=40, deadline=None)
@pytest.mark.parametrize("form", sorted(WRITERS))
def test_boxes_are_read_back_bit_for_bit(tmp_path_factory, form, boxes):
    page = target(boxes, [1] * len(boxes))
    back = written(form, Pages(page), tmp_path_factory.mktemp("set"))
    np.testing.assert_array_equal(back[0][1]["boxes"], page["boxes"], strict=True)


def test_difficult_objects_crowds_and_areas(tmp_path, kind):
    page = target(
        [(1, 2, 30, 40), (0, 0, 9, 9), (5, 5, 6, 6)],
        [2, 1, 2],
        difficult=np.array([False, True, False]),
        crowd=np.array([False, False, True]),
        truncated=np.array([True, False, False]),
        areas=np.array([3.25, 81.0, 1.0]),
    )
    back = written(kind, Pages(page), tmp_path)[0][1]
    assert back["labels"].tolist() == [2, 1, 2]
    if kind == "yolo":  # which has only ordinary objects
        assert not any(back[flag].any() for flag in ("difficult", "crowd", "truncated"))
        return
    if kind == "voc":  # which has no crowds
        assert back["difficult"].tolist() == [False, True, True] and not back["crowd"].any()
    else:
        assert back["difficult"].tolist() == [False, True, False]
        assert back["crowd"].tolist() == [False, False, True]
    assert back["truncated"].tolist() == [kind != "coco", False, False]
    assert back["areas"].tolist() == ([3.25, 81, 1] if kind == "coco" else [29 * 38, 81, 1])


def test_an_image_without_objects_is_kept(tmp_path, kind):
    back = written(kind, Pages(target((), ()), target()), tmp_path)
    assert [len(page["boxes"]) for _, page in back] == [0, 1]


@pytest.mark.parametrize("name", ["dog & <cat>", 'the "best", one', "Katze (groß)", "42", "a'b;c", "a_b"])
def test_names_of_classes_are_read_back(tmp_path, kind, name):
    back = written(kind, Pages(target(), classes=("background", name)), tmp_path)
    assert back.classes == ("background", name) and back.records[0].names == (name,)


def test_a_data_set_can_be_converted_to_another_format(tmp_path, kind):
    image = save_image(tmp_path / "a.jpg", orientation=6)
    source = AnnotatedImages(Annotations(("background", "cat"), [record(image)], (), (-1, 44)))
    back = written(kind, source, tmp_path / "set")
    same(back[0], source[0])
    assert back.category_ids == ((-1, 44) if kind == "coco" else ())


def test_images_are_written_whole_and_readable_by_others(tmp_path, kind):
    written(kind, Pages(target()), tmp_path)
    umask = os.umask(0)
    os.umask(umask)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in files if path.name.startswith(".")]
    assert {path.stat().st_mode & 0o777 for path in files} == {0o666 & ~umask}


def test_pycocotools_reads_coco_files(tmp_path):
    from pycocotools.coco import COCO

    written("coco", Pages(target(), target([(0, 0, 1.5, 2)], [2])), tmp_path)
    coco = COCO(str(tmp_path / "annotations" / "instances_train.json"))
    assert [coco.cats[i]["name"] for i in coco.getCatIds()] == ["cat", "dog"]
    assert coco.loadAnns(coco.getAnnIds(imgIds=[2]))[0] == {
        "id": 2,
        "image_id": 2,
        "category_id": 2,
        "bbox": [0, 0, 1.5, 2],
        "area": 3,
        "iscrowd": 0,
    }
    assert coco.loadImgs([1]) == [{"id": 1, "file_name": "train_000000.png", "width": 60, "height": 40}]


def test_whole_numbers_are_written_as_integers(tmp_path):
    pages = Pages(target([(10, 5, 30, 25.5)]))
    for kind, write in WRITERS.items():
        write(pages, tmp_path / kind, "train", progress=False)
    assert "<xmin>11</xmin>" in (tmp_path / "voc" / "Annotations" / "train_000000.xml").read_text()
    assert "<ymax>25.5</ymax>" in (tmp_path / "voc" / "Annotations" / "train_000000.xml").read_text()
    assert json.loads((tmp_path / "coco" / "annotations" / "instances_train.json").read_text())["annotations"][0][
        "bbox"
    ] == [10, 5, 20, 20.5]
    assert "images/train_000000.png,10,5,30,25.5,cat,0,0,0,60,40\n" in (tmp_path / "csv" / "train.csv").read_text()


def test_a_split_is_not_written_twice(tmp_path, kind):
    written(kind, Pages(target()), tmp_path)
    with pytest.raises(FileExistsError, match=r"train.*already exists"):
        written(kind, Pages(target()), tmp_path)


@pytest.mark.parametrize("form", ["voc", "csv"])
def test_splits_of_one_folder_have_the_same_classes(tmp_path, form):
    written(form, Pages(target()), tmp_path)
    with pytest.raises(ValueError, match=r"classes must be those of .* \(cat, dog\), got dog, cat"):
        written(form, Pages(target(), classes=("background", "dog", "cat")), tmp_path, "val")


@pytest.mark.parametrize(
    "pages, split, message",
    [
        (
            Pages(target()),
            "../train",
            "split must be a name of letters, digits, - and _, .*, got '../train'",
        ),
        (Pages(target()), "", "split must be a name of letters"),
        (
            Pages(target(), classes=("background", " cat")),
            "train",
            "class names must be printable and have no surrounding blanks, got ' cat'",
        ),
        (Pages(target(), classes=("background", "a\nb")), "train", r"class names must be printable .* got 'a\\nb'"),
        (Pages(target(), classes=("background", "a\0")), "train", "class names must be printable"),
        (Pages(target(), classes=("cat", "dog")), "train", "must begin with the background"),
        (Pages(target(), target(labels=[0])), "train", r"labels of image 1 must be from 1 to 2, got \[0\]"),
        (Pages(target(labels=[3])), "train", r"labels of image 0 must be from 1 to 2, got \[3\]"),
        (Pages(target([(1, 2, np.nan, 4)])), "train", r"boxes of image 0\[0\] must be finite, got .*nan"),
        (Pages(target(), image=IMAGE / 255), "train", r"image 0 must be an \(H, W, 3\) array of uint8 .* float64"),
    ],
)
def test_invalid_data_sets_are_errors(tmp_path, kind, pages, split, message):
    with pytest.raises(ValueError, match=message):
        WRITERS[kind](pages, tmp_path, split, progress=False)
    listings = {"train.txt", "instances_train.json", "train.csv"}
    assert not listings & {path.name for path in tmp_path.rglob("*")}

"""Annotated image files: upright images with their boxes, decoded on access, and errors that name the file."""

import dataclasses
import pickle
import re

import numpy as np
import pytest
from annotated import SIZE, record, save_image
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from test_images import held

from rcnn import images
from rcnn.data import AnnotatedImages, Annotations, Broken, turn_boxes
from rcnn.images import Header

CLASSES = ("background", "cat", "dog")


def dataset(*records, broken=(), **options):
    return AnnotatedImages(Annotations(CLASSES, records, broken), progress=False, **options)


@pytest.fixture
def image(tmp_path):
    return save_image(tmp_path / "a.png")


# ---------------------------------------------------------------------- images and targets


def test_an_image_comes_with_its_target(image):
    pages = dataset(record(image, [(10, 5, 30, 25), (0, 0, 60, 40)], [2, 1]), record(image, [], []))
    array, target = pages[0]
    assert (array.shape, array.dtype) == ((*SIZE, 3), np.uint8)
    expected = {
        "boxes": np.array([[10, 5, 30, 25], [0, 0, 60, 40]], np.float32),
        "labels": np.array([2, 1]),
        "difficult": np.zeros(2, bool),
        "crowd": np.zeros(2, bool),
        "truncated": np.zeros(2, bool),
        "areas": np.array([400.0, 2400.0]),
    }
    assert target.keys() == expected.keys()
    for key, values in expected.items():
        np.testing.assert_array_equal(target[key], values, strict=True)
    shapes = {key: (values.shape, values.dtype) for key, values in pages[1][1].items()}
    assert shapes == {
        "boxes": ((0, 4), np.float32),
        "labels": ((0,), np.int64),
        "difficult": ((0,), bool),
        "crowd": ((0,), bool),
        "truncated": ((0,), bool),
        "areas": ((0,), np.float64),
    }


def test_a_target_can_be_changed_without_effect_on_the_data_set(image):
    pages = dataset(record(image))
    for values in pages[0][1].values():
        values[:] = 0
    assert pages[0][1]["boxes"].tolist() == [[10, 5, 30, 25]]
    assert pages[0][1]["labels"].tolist() == [1] and pages[0][1]["areas"].tolist() == [400]


def test_indices_work_as_those_of_a_list_and_the_set_can_be_pickled(tmp_path):
    pages = dataset(*(record(save_image(tmp_path / f"{i}.png", value=i)) for i in range(3)))
    assert len(pages) == 3 and [image[0, 0, 0] for image, _ in pages] == [0, 1, 2]
    assert pages[-1][0][0, 0, 0] == pages[np.int64(2)][0][0, 0, 0] == 2
    assert pickle.loads(pickle.dumps(pages))[1][0][0, 0, 0] == 1
    assert [image[0, 0, 0] for image, _ in pages.subset([2, 0])] == [2, 0] and len(pages) == 3
    for beyond in (3, -4):
        with pytest.raises(IndexError, match=f"image index {beyond} is out of range; the data set has 3 images"):
            pages[beyond]
    with pytest.raises(TypeError, match=r"must be an integer, got slice\(None, 2, None\); for several images, use "):
        pages[:2]


def test_repr_has_the_number_of_images_and_the_classes(image):
    assert repr(dataset(record(image))) == "<AnnotatedImages: 1 image of cat, dog>"


def test_an_annotation_needs_no_decoding(tmp_path):
    path = save_image(tmp_path / "a.jpg")
    path.write_bytes(path.read_bytes()[:-10])
    pages = dataset(record(path))
    size, target = pages.annotation(0)
    assert size == SIZE and target["boxes"].tolist() == [[10, 5, 30, 25]]
    with pytest.raises(OSError, match=r"a\.jpg.*truncated"):
        pages[0]


# ---------------------------------------------------------------------- boxes outside of their image


@pytest.mark.parametrize(
    "box, cut",
    [((-1, -1, 61, 41), (0, 0, 60, 40)), ((-0.5, 3, 5, 40.5), (0, 3, 5, 40)), ((0, 0, 60, 40), (0, 0, 60, 40))],
)
def test_a_box_up_to_one_pixel_beyond_the_image_is_clipped(image, box, cut):
    assert dataset(record(image, [box]))[0][1]["boxes"].tolist() == [list(cut)]


@pytest.mark.parametrize(
    "box, reason",
    [
        ((30, 5, 10, 25), "x2 > x1 and y2 > y1 are required"),
        ((10, 5, 30, 5), "x2 > x1 and y2 > y1 are required"),
        ((10, float("nan"), 30, 25), "every coordinate must be finite"),
        ((10, 5, float("inf"), 25), "every coordinate must be finite"),
        ((-1.01, 5, 30, 25), r"it must lie in the image \(60 pixels wide, 40 high\)"),
        ((10, 5, 30, 41.01), r"it must lie in the image \(60 pixels wide, 40 high\)"),
        ((70, 5, 90, 25), r"it must lie in the image \(60 pixels wide, 40 high\)"),
        ((60.2, 5, 60.8, 25), "it has no area in the image"),
        ((20, 5, 20 + 1e-9, 25), "it has no area in the image"),
    ],
)
def test_an_invalid_box_is_an_error(image, box, reason):
    pages = dataset(record(image, [(1, 1, 2, 2), box], [1, 2], ("cat", "dog")))
    where = rf"a\.png \(notes\.txt\): box 1, 'dog', is {re.escape(str([float(x) for x in box]))} .*; {reason}"
    for ask in (pages.annotation, pages.__getitem__):
        with pytest.raises(ValueError, match=where):
            ask(0)


@pytest.mark.parametrize("label", [-1, 0, 3])
def test_an_unknown_class_is_an_error(image, label):
    with pytest.raises(ValueError, match=r"a\.png \(notes\.txt\): box 0 is of class 'cow', .* among .*: cat, dog"):
        dataset(record(image, labels=[label], names=("cow",)))[0]


@pytest.mark.parametrize("size", [(60, 40), (80, 120)])
def test_an_annotation_of_another_image_size_is_an_error(image, size):
    message = r"a\.png \(notes\.txt\) is 60 pixels wide and 40 high, but the annotation states {} and {}"
    with pytest.raises(ValueError, match=message.format(*size[::-1])):
        dataset(record(image, [(1, 1, 2, 2)], size=size))[0]


# ---------------------------------------------------------------------- rotated photos

BLOCK = (16, 8, 40, 24)  # x1, y1, x2, y2 of a bright block in the stored image, away from its middle


def surrounded(page, box):
    """Return whether exactly the pixels in the box are bright."""
    x1, y1, x2, y2 = box.astype(int)
    bright = page.mean(axis=2) > 128
    return bright[y1:y2, x1:x2].all() and bright.sum() == (x2 - x1) * (y2 - y1)


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("stated", [None, (48, 80)])
def test_boxes_drawn_on_the_stored_image_are_rotated_with_it(tmp_path, orientation, stated, suffix):
    x1, y1, x2, y2 = BLOCK
    stored = np.zeros((48, 80, 3), np.uint8)
    stored[y1:y2, x1:x2] = 255
    path = tmp_path / f"photo.{suffix}"
    Image.fromarray(stored).save(path, exif=held(orientation))
    pages = dataset(record(path, [BLOCK], size=stated))
    page, target = pages[0]
    assert page.shape[:2] == pages.annotation(0)[0] == ((80, 48) if orientation >= 5 else (48, 80))
    assert surrounded(page, target["boxes"][0])


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
@pytest.mark.parametrize("orientation", range(5, 9))
def test_boxes_drawn_on_the_upright_image_are_not_rotated(tmp_path, orientation, suffix):
    x1, y1, x2, y2 = BLOCK
    seen = np.zeros((80, 48, 3), np.uint8)
    seen[y1:y2, x1:x2] = 255
    back = {
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]  # from the upright image to the stored one
    path = tmp_path / f"photo.{suffix}"
    Image.fromarray(seen).transpose(back).save(path, exif=held(orientation))
    page, target = dataset(record(path, [BLOCK], size=(80, 48)))[0]
    assert page.shape == (80, 48, 3)
    assert surrounded(page, target["boxes"][0])


def test_boxes_of_a_square_photo_are_rotated(tmp_path):
    path = save_image(
        tmp_path / "a.png", (40, 40), orientation=6
    )  # stored (x, y) is at (40 - y, x) in the upright image
    assert dataset(record(path, size=(40, 40)))[0][1]["boxes"].tolist() == [[15, 10, 35, 30]]


def test_a_box_is_checked_in_the_image_that_it_was_drawn_on(tmp_path):
    path = save_image(tmp_path / "a.png", orientation=8)  # 60 x 40 pixels stored, 40 x 60 upright
    assert dataset(record(path, [(0, 0, 60, 40)]))[0][1]["boxes"].tolist() == [[0, 0, 40, 60]]
    assert dataset(record(path, [(0, 0, 40, 60)], size=(60, 40)))[0][1]["boxes"].tolist() == [[0, 0, 40, 60]]
    with pytest.raises(
        ValueError, match=r"is \[0.0, 0.0, 40.0, 60.0\] .*; it must lie in the image \(60 pixels wide, 40 high\)"
    ):
        dataset(record(path, [(0, 0, 40, 60)]))[0]


BACK = {6: 8, 8: 6}  # the inverse orientations; all others are their own inverse


@given(
    orientation=st.integers(1, 8),
    size=st.tuples(st.integers(1, 99), st.integers(1, 99)),
    boxes=st.lists(st.tuples(*[st.integers(-9, 99)] * 4), max_size=3),
)
@settings(max_examples=60)
def test_rotating_and_rotating_back_changes_nothing(orientation, size, boxes):
    given_boxes = np.array(boxes, np.float64).reshape(-1, 4)
    header = Header(size, orientation)
    turned = turn_boxes(given_boxes, header)
    back = turn_boxes(turned, Header(header.upright_size, BACK.get(orientation, orientation)))
    np.testing.assert_array_equal(back, given_boxes)
    np.testing.assert_array_equal(
        turned[:, 2:] - turned[:, :2], (given_boxes[:, 2:] - given_boxes[:, :2])[:, :: -1 if orientation >= 5 else 1]
    )


# ---------------------------------------------------------------------- unreadable files


def test_an_unreadable_annotation_is_an_error_at_once(image):
    broken = [Broken("b.xml", "no element found"), Broken("c.xml", "it is empty")]
    message = r'^b\.xml cannot be read: no element found; unreadable entries besides this one: 1; .*on_error="skip"'
    with pytest.raises(ValueError, match=message):
        dataset(record(image), broken=broken)


def test_a_missing_image_is_an_error_on_access(tmp_path):
    pages = dataset(record(tmp_path / "absent.png"))
    for ask in (pages.annotation, pages.__getitem__):
        with pytest.raises(FileNotFoundError, match=r"absent\.png"):
            ask(0)


def test_skipping_leaves_out_invalid_images_and_lists_them(tmp_path, image):
    damaged = save_image(tmp_path / "damaged.jpg")
    damaged.write_bytes(damaged.read_bytes()[:-10])
    pages = dataset(
        record(tmp_path / "absent.png"),
        record(image),
        record(damaged),
        record(image, [(5, 5, 4, 9)]),
        record(image, labels=[2]),
        broken=[Broken("b.xml", "it is empty")],
        on_error="skip",
    )
    assert len(pages) == 2 and [target["labels"].tolist() for _, target in pages] == [[1], [2]]
    reasons = [skipped.reason for skipped in pages.skipped]
    assert [skipped.source for skipped in pages.skipped] == ["b.xml", "notes.txt", "notes.txt", "notes.txt"]
    for reason, expected in zip(
        reasons,
        ("it is empty", r"absent\.png", r"damaged\.jpg", r"a\.png \(notes\.txt\): no object is valid: box 0"),
        strict=True,
    ):
        assert re.search(expected, reason)


def test_skipping_everything_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"no valid image is left; unusable entries: 1; .* notes\.txt: .*absent\.png"):
        dataset(record(tmp_path / "absent.png"), on_error="skip")


BOXES = [(10, 5, 30, 25), (20, 20, 20, 30), (50, 10, 70, 20), (70, 10, 90, 20), (np.nan, 5, 30, 25), (59, 30, 61, 40)]


@pytest.mark.parametrize(
    "on_error, kept, fixed",
    [
        ("skip", [[10, 5, 30, 25], [59, 30, 60, 40]], []),
        ("fix", [[10, 5, 30, 25], [50, 10, 60, 20], [59, 30, 60, 40]], [2]),
    ],
)
def test_one_invalid_object_does_not_affect_the_others(image, on_error, kept, fixed):
    pages = dataset(record(image, BOXES, [1, 2, 1, 2, 1, 2]), on_error=on_error)
    _, target = pages[0]
    assert target["boxes"].tolist() == kept and len(target["labels"]) == len(kept)
    left_out = [i for i in (1, 2, 3, 4) if i not in fixed]
    assert [skipped.reason.split(",")[0] for skipped in pages.skipped] == [f"box {i}" for i in left_out]
    assert [entry.reason.split(",")[0] for entry in pages.fixed] == [f"box {i}" for i in fixed]
    assert all(entry.reason.endswith("cut at the border to [50.0, 10.0, 60.0, 20.0]") for entry in pages.fixed)
    if fixed:
        assert target["areas"][1] == 100


def test_an_object_of_another_class_does_not_affect_the_others(image):
    pages = dataset(record(image, BOXES[:1] * 2, labels=(1, -1), names=("class 1", "zebra")), on_error="skip")
    assert pages[0][1]["labels"].tolist() == [1]
    assert "'zebra', which is not among the classes" in pages.skipped[0].reason


def test_unreadable_objects_are_errors_or_left_out(image):
    faulty = dataclasses.replace(record(image), faults=(Broken("notes.txt, line 2", "xmin of object 1"),))
    with pytest.raises(ValueError, match=r"notes\.txt, line 2 cannot be read: xmin of object 1"):
        dataset(faulty)
    pages = dataset(faulty, on_error="skip")
    assert len(pages[0][1]["boxes"]) == 1
    assert pages.skipped == list(faulty.faults)


def test_an_image_whose_objects_are_all_invalid_is_left_out(image):
    nothing = dataclasses.replace(record(image, [], []), faults=(Broken("notes.txt", "xmin of object 0"),))
    pages = dataset(record(image), nothing, record(image, [(5, 5, 4, 9)]), record(image, [], []), on_error="fix")
    assert [len(target["boxes"]) for _, target in pages] == [1, 0]
    assert all("no object is valid" in skipped.reason for skipped in pages.skipped) and len(pages.skipped) == 2


def test_on_error_is_one_of_three_words():
    with pytest.raises(ValueError, match="on_error must be one of raise, skip, fix, got 'ignore'"):
        dataset(on_error="ignore")


def test_every_image_is_decoded_once_when_skipping(image, monkeypatch):
    seen = []
    monkeypatch.setattr(images, "read", lambda path: seen.append(path) or np.zeros((*SIZE, 3), np.uint8))
    dataset(record(image), record(image), on_error="skip")
    assert len(seen) == 2


@pytest.mark.parametrize("annotations", [None, [], "voc:photos"], ids=repr)
def test_annotated_images_need_annotations(annotations):
    with pytest.raises(TypeError, match="^annotations must be Annotations, got "):
        AnnotatedImages(annotations)

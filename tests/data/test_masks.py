"""Reader of masks: each value is an object, and its box fits tightly around its pixels."""

import re

import numpy as np
import pytest
from annotated import SIZE, save_image
from PIL import Image
from test_images import held

from rcnn.data import Masks, read_masks


def save_mask(path, values, mode="L", **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.asarray(values)
    if mode == "P":
        image = Image.fromarray(values.astype(np.uint8)).convert("L")
        image.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    elif mode == "1":
        image = Image.fromarray(values.astype(bool))
    else:
        image = Image.fromarray(values.astype(np.uint8 if mode == "L" else np.uint16))
    image.save(path, **options)


def two_objects():
    """Return a mask: object 1 is an L of 24 pixels in rows 5 to 14 and columns 10 to 17, object 2 a single pixel."""
    values = np.zeros(SIZE, np.int64)
    values[5:15, 10:12] = 1
    values[13:15, 12:14] = 1
    values[39, 59] = 2
    return values


def penn_fudan(root, values=None, mode="L"):
    save_image(root / "PNGImages" / "a.png")
    save_mask(root / "PedMasks" / "a_mask.png", two_objects() if values is None else values, mode)
    return root


@pytest.mark.parametrize("mode", ["L", "P", "I;16"])
def test_boxes_are_tight_around_the_pixels_of_a_value(tmp_path, mode):
    pages = Masks(penn_fudan(tmp_path, mode=mode), progress=False)
    assert pages.classes == ("background", "pedestrian")
    assert pages.records[0].source == "PedMasks/a_mask.png" and pages.records[0].image_id == "a.png"
    target = pages[0][1]
    assert target["boxes"].tolist() == [[10, 5, 14, 15], [59, 39, 60, 40]]
    assert target["labels"].tolist() == [1, 1] and target["areas"].tolist() == [24, 1]


def test_values_may_leave_gaps_and_be_large(tmp_path):
    values = two_objects()
    values[values == 2] = 65535
    values[values == 1] = 300
    pages = Masks(penn_fudan(tmp_path, values, "I;16"), progress=False)
    assert pages[0][1]["boxes"].tolist() == [[10, 5, 14, 15], [59, 39, 60, 40]]


@pytest.mark.parametrize("mode", ["1", "L"])
def test_one_value_is_one_object(tmp_path, mode):
    pages = Masks(penn_fudan(tmp_path, 255 * (two_objects() == 1), mode), progress=False)
    assert pages[0][1]["boxes"].tolist() == [[10, 5, 14, 15]]


def test_an_empty_mask_is_an_image_without_objects(tmp_path):
    assert Masks(penn_fudan(tmp_path, np.zeros(SIZE)), progress=False)[0][1]["boxes"].shape == (0, 4)


@pytest.mark.parametrize(
    "options, folders, expected",
    [
        ({}, ("images", "masks"), "object"),
        ({"class_name": "cell"}, ("images", "masks"), "cell"),
        ({"images": "photos", "masks": "truth"}, ("photos", "truth"), "object"),
    ],
)
def test_folders_and_class_can_be_given(tmp_path, options, folders, expected):
    save_image(tmp_path / folders[0] / "a.jpg")
    save_image(tmp_path / folders[0] / ".b.jpg")
    save_mask(tmp_path / folders[1] / "a.png", two_objects())
    pages = Masks(tmp_path, progress=False, **options)
    assert pages.classes == ("background", expected) and len(pages[0][1]["boxes"]) == 2


def test_splits_are_held_out(tmp_path):
    for i in range(10):
        save_image(tmp_path / "images" / f"{i}.png")
        save_mask(tmp_path / "masks" / f"{i}.png", two_objects())
    sizes = [len(Masks(tmp_path, split, progress=False)) for split in ("train", "val", None)]
    assert sizes == [8, 2, 10]
    with pytest.raises(ValueError, match="has no split 'test'; it has no splits of its own, so use train or val"):
        Masks(tmp_path, "test")


def test_a_mask_of_the_stored_photo_is_rotated_with_it(tmp_path):
    save_image(tmp_path / "images" / "a.jpg", orientation=6)
    save_mask(tmp_path / "masks" / "a.png", two_objects())
    assert Masks(tmp_path, progress=False)[0][1]["boxes"].tolist() == [[25, 10, 35, 14], [0, 59, 1, 60]]


def test_a_mask_of_the_upright_photo_is_not_rotated(tmp_path):
    save_image(tmp_path / "images" / "a.jpg", SIZE[::-1], orientation=6)
    save_mask(tmp_path / "masks" / "a.png", two_objects(), exif=held(1))
    page, target = Masks(tmp_path, progress=False)[0]
    assert page.shape[:2] == SIZE and target["boxes"].tolist() == [[10, 5, 14, 15], [59, 39, 60, 40]]


def test_a_mask_of_another_size_than_its_image_is_an_error(tmp_path):
    penn_fudan(tmp_path, np.ones((20, 30)))
    with pytest.raises(ValueError, match=r"a\.png \(PedMasks/a_mask\.png\) is 60 .* 40 high, .* states 30 and 20"):
        Masks(tmp_path, progress=False)[0]


@pytest.mark.parametrize(
    "files, source, reason",
    [
        (("PNGImages/b.png",), "PNGImages/b.png", r"has no mask for it; looked for b_mask\.png and b\.png"),
        (("PedMasks/b_mask.png",), "PedMasks/b_mask.png", "there is no image for this mask"),
        (
            ("PNGImages/b.png", "PedMasks/b.png", "PedMasks/b_mask.png"),
            "PNGImages/b.png",
            "more than one mask: b_mask.png, b.png",
        ),
        (("PNGImages/b.png", "PedMasks/b.png"), "PedMasks/b.png", "RGB"),
    ],
)
def test_images_and_masks_without_a_partner_are_broken(tmp_path, files, source, reason):
    penn_fudan(tmp_path)
    for name in files:
        save_image(tmp_path / name)  # in colour
    found = read_masks(tmp_path, progress=False)
    assert len(found.records) == 1 and [broken.source for broken in found.broken] == [source]
    assert re.search(reason, found.broken[0].reason)


def test_a_damaged_mask_is_broken(tmp_path):
    path = penn_fudan(tmp_path) / "PedMasks" / "a_mask.png"
    path.write_bytes(path.read_bytes()[:60])
    found = read_masks(tmp_path, progress=False)
    assert not found.records and re.search(r"a_mask\.png", found.broken[0].reason)


def test_links_that_lead_outside_are_broken(tmp_path):
    secret = save_image(tmp_path / "secret.png")
    root = penn_fudan(tmp_path / "set")
    (root / "PNGImages" / "b.png").symlink_to(secret)
    save_mask(root / "PedMasks" / "b_mask.png", two_objects())
    found = read_masks(root, progress=False)
    assert [broken.source for broken in found.broken] == ["PedMasks/b_mask.png"]
    assert "is a link to" in found.broken[0].reason


@pytest.mark.parametrize(
    "folders, error, message",
    [
        ((), FileNotFoundError, "looked for the folders PNGImages and PedMasks, or images and masks"),
        (("PNGImages",), FileNotFoundError, "no folder .*PedMasks"),
        (("images", "masks"), ValueError, "images has no images"),
    ],
)
def test_unknown_folder_layouts_are_errors(tmp_path, folders, error, message):
    for name in folders:
        (tmp_path / name).mkdir()
    with pytest.raises(error, match=message):
        read_masks(tmp_path)

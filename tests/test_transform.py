"""Conversion of images to a batch, and of boxes: sizes, resampling, padding, kinds of images, invalid input."""

import numpy as np
import pytest
from PIL import Image

from rcnn import transform
from rcnn.nn import Tensor
from rcnn.nn import functional as F
from rcnn.transform import resized_size

MEAN, STD = (0.5, 0.25, 0.0), (0.5, 0.25, 2.0)


def image(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


# ---------------------------------------------------------------------- sizes and resampling


@pytest.mark.parametrize(
    "size, min_size, max_size, expected",
    [
        ((480, 640), 800, 1333, (800, 1066)),  # 640 * 800 / 480 = 1066.7, rounded down
        ((640, 480), 800, 1333, (1066, 800)),
        ((100, 400), 160, 256, (64, 256)),  # the longer side decides
        (
            (97, 100),
            800,
            1333,
            (799, 824),
        ),  # 97 * (800 / 97) is 799.9999999999999 in float64, and so it is in torchvision
        ((161, 170), 800, 1333, (799, 844)),
        ((154, 200), 160, 256, (159, 207)),
        ((882, 900), 800, 1333, (800, 816)),  # 799 in float32
        ((64, 96), 64, 96, (64, 96)),
        ((1, 5000), 800, 1333, (1, 1333)),  # at least one pixel
    ],
)
def test_resized_size(size, min_size, max_size, expected):
    assert resized_size(size, min_size, max_size) == expected


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "row, expected",
    [
        ([0, 1], [0, 0.25, 0.75, 1]),  # centres at -0.25 (the border's value), 0.25, 0.75, 1.25
        ([0, 1, 2, 3], [0.5, 2.5]),
        ([0, 0, 0, 0, 0, 0, 0, 8], [0, 0]),  # centres at 1.5 and 5.5: without antialiasing the 8 is skipped
        ([3], [3, 3, 3]),
    ],
)
def test_resizing_by_hand(impl, dtype, row, expected):
    line = np.array(row, dtype)[None, :, None]  # (1, W, 1)
    np.testing.assert_array_equal(transform.resize(line, (1, len(expected)))[0, :, 0], expected)
    np.testing.assert_array_equal(transform.resize(line.swapaxes(0, 1), (len(expected), 1))[:, 0, 0], expected)


@pytest.mark.parametrize("size", [(13, 9), (4, 3), (7, 11), (1, 1), (7, 5)])
@pytest.mark.parametrize("dtype, tolerance", [(np.float32, 1e-6), (np.float64, 1e-14)])
def test_resizing_is_bilinear_interpolation(impl, size, dtype, tolerance):
    given = np.random.default_rng(0).random((7, 5, 3)).astype(dtype)
    resized = transform.resize(given, size)
    expected = F.interpolate(Tensor(given.transpose(2, 0, 1)[None]), size, "bilinear").data[0].transpose(1, 2, 0)
    assert resized.dtype == dtype
    np.testing.assert_allclose(resized, expected, rtol=0, atol=tolerance)


# ---------------------------------------------------------------------- the batch


def test_batch_is_resized_normalised_then_padded_at_right_and_bottom():
    images = [image(20, 30), image(33, 20, seed=1)]
    batch = transform.make_batch(images, 20, 40, MEAN, STD)
    assert batch.original_sizes == [(20, 30), (33, 20)]
    assert batch.image_sizes == [(20, 30), (33, 20)]
    assert batch.images.shape == (2, 3, 64, 32)
    assert batch.images.dtype == np.float32
    for planes, given, (height, width) in zip(batch.images, images, batch.image_sizes, strict=True):
        expected = (given / 255.0 - MEAN) / STD
        np.testing.assert_allclose(planes[:, :height, :width].transpose(1, 2, 0), expected, rtol=0, atol=1e-6)
        assert not planes[:, height:].any()
        assert not planes[:, :, width:].any()


def test_batch_of_images_that_need_resizing():
    batch = transform.make_batch([image(40, 60), image(100, 50, seed=1)], 20, 30, MEAN, STD, np.float64)
    assert batch.original_sizes == [(40, 60), (100, 50)]
    assert batch.image_sizes == [(20, 30), (30, 15)]
    assert batch.images.shape == (2, 3, 32, 32)
    assert batch.images.dtype == np.float64
    corner = image(40, 60)[:2, :2] / 255.0  # halved: a pixel is the mean of four
    np.testing.assert_allclose(batch.images[0, :, 0, 0], (corner.mean(axis=(0, 1)) - MEAN) / STD, rtol=1e-12)


@pytest.mark.parametrize("size, padded", [((33, 64), (64, 64)), ((64, 32), (64, 32)), ((1, 1), (32, 32))])
def test_pad_batch_only_pads(size, padded):
    images = np.random.default_rng(0).standard_normal((2, 3, *size)).astype(np.float32)
    batch = transform.pad_batch(images)
    assert batch.images.shape == (2, 3, *padded)
    assert batch.image_sizes == batch.original_sizes == [size, size]
    np.testing.assert_array_equal(batch.images[:, :, : size[0], : size[1]], images)
    assert np.count_nonzero(batch.images) == images.size


@pytest.mark.filterwarnings("error")
def test_extreme_deviations_give_no_warnings():
    white = [np.full((4, 5, 3), 255, np.uint8)]
    with pytest.raises(ValueError, match="NaN or infinity"):
        transform.make_batch(white, 4, 5, MEAN, (1e-45, 1, 1))
    batch = transform.make_batch(white, 4, 5, MEAN, (1e-9, 1, 1))
    assert transform.to_images(batch, MEAN, (3e38, 1, 1))[0].shape == (4, 5, 3)


def test_to_images_removes_the_padding():
    given = [image(20, 30), image(30, 25, seed=1)]
    batch = transform.make_batch(given, 20, 64, MEAN, STD)
    back = transform.to_images(batch, MEAN, STD)
    assert [p.shape for p in back] == [(20, 30, 3), (24, 20, 3)]
    np.testing.assert_allclose(back[0], given[0] / 255.0, rtol=0, atol=1e-6)
    assert 0 <= min(p.min() for p in back) <= max(p.max() for p in back) <= 1


def test_boxes_are_scaled_there_and_back():
    boxes = np.array([[10.0, 20, 30, 60], [0, 0, 50, 100]])
    scaled = transform.scale_boxes(boxes, (100, 50), (50, 100))  # half as high, twice as wide
    np.testing.assert_array_equal(scaled, [[20, 10, 60, 30], [0, 0, 100, 50]])
    np.testing.assert_array_equal(transform.scale_boxes(scaled, (50, 100), (100, 50)), boxes)
    assert transform.scale_boxes(boxes.astype(np.float32), (3, 7), (5, 11)).dtype == np.float32
    assert transform.scale_boxes(np.zeros((0, 4)), (3, 7), (5, 11)).shape == (0, 4)


# ---------------------------------------------------------------------- kinds of images


def test_arrays_images_and_paths_are_the_same_image(tmp_path):
    given = image(4, 5)
    Image.fromarray(given).save(tmp_path / "image.png")
    expected = given.astype(np.float32) / np.float32(255)
    read_only = given.copy()
    read_only.flags.writeable = False
    for kind in (
        given,
        read_only,
        given[:, ::-1][:, ::-1],
        given / 255.0,
        expected,
        Image.fromarray(given),
        tmp_path / "image.png",
        str(tmp_path / "image.png"),
    ):
        array = transform.as_image(kind)
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, expected)
    assert transform.as_image(given, dtype=np.float64).dtype == np.float64
    np.testing.assert_allclose(transform.as_image((given / 255.0).astype(np.float16)), expected, atol=1e-3)


@pytest.mark.parametrize(
    "mode, colour, expected",
    [
        ("1", 1, (255, 255, 255)),
        ("L", 90, (90, 90, 90)),
        ("LA", (90, 0), (255, 255, 255)),
        ("RGBA", (1, 2, 3, 0), (255, 255, 255)),
        ("RGBA", (1, 2, 3, 255), (1, 2, 3)),
        ("I;16", 257 * 90, (90, 90, 90)),
        ("CMYK", (0, 255, 255, 0), (255, 0, 0)),
        ("HSV", (0, 255, 255), (255, 0, 0)),
    ],
)
def test_modes_of_pil_become_rgb(mode, colour, expected):
    array = transform.as_image(Image.new(mode, (3, 2), colour))
    np.testing.assert_array_equal(array * 255, np.full((2, 3, 3), expected))


def test_a_palette_becomes_rgb():
    given = Image.fromarray(np.array([[[255, 0, 0], [0, 0, 255]]], np.uint8)).convert("P")
    np.testing.assert_array_equal(transform.as_image(given), [[[1, 0, 0], [0, 0, 1]]])


@pytest.mark.parametrize("mode", ["I", "F"])
def test_more_than_eight_bits_are_rejected(mode):
    with pytest.raises(ValueError, match=rf"image 1 has more than 8 bits .*mode {mode}\): scale it to \[0, 1\]"):
        transform.make_batch([image(2, 2), Image.new(mode, (3, 2))], 8, 8, MEAN, STD)


def test_an_image_is_turned_upright(tmp_path):
    given = image(2, 3)
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: a quarter turn clockwise makes it upright
    Image.fromarray(given).save(tmp_path / "turned.png", exif=exif)
    array = transform.as_image(tmp_path / "turned.png")
    np.testing.assert_array_equal(array * 255, np.rot90(given, -1))
    with Image.open(tmp_path / "turned.png") as opened:
        np.testing.assert_array_equal(transform.as_image(opened), array)


@pytest.mark.parametrize(
    "wrong, error, message",
    [
        (np.zeros((3, 8, 9), np.uint8), ValueError, r"got \(3, 8, 9\); .* use image.transpose\(1, 2, 0\)"),
        (
            np.zeros((8, 9), np.uint8),
            ValueError,
            r"got \(8, 9\); a grey image .* np.stack\(\[image\] \* 3, axis=2\)",
        ),
        (np.zeros((8, 9, 4), np.uint8), ValueError, r"shape \(H, W, 3\), got \(8, 9, 4\)"),
        (np.zeros((1, 8, 9, 3), np.uint8), ValueError, r"shape \(H, W, 3\), got \(1, 8, 9, 3\)"),
        (np.zeros((0, 9, 3), np.uint8), ValueError, r"has no pixels: its shape is \(0, 9, 3\)"),
        (Image.new("RGB", (0, 4)), ValueError, "has no pixels"),
        (np.full((2, 2, 3), np.nan), ValueError, r"must be in \[0, 1\], got values in nan .. nan"),
        (np.full((2, 2, 3), 255.0), ValueError, r"must be in \[0, 1\], got values in 255.0 .. 255.0"),
        (np.full((2, 2, 3), -0.1), ValueError, r"must be in \[0, 1\], got values in -0.1 .. -0.1"),
        (np.zeros((2, 2, 3), np.int64), TypeError, r"must be uint8, or float in \[0, 1\], got int64"),
        (np.zeros((2, 2, 3), bool), TypeError, "must be uint8, or float"),
        ([[[0, 0, 0]]], TypeError, r"must be an array \(H, W, 3\), a PIL image or a path, got list"),
        (None, TypeError, "got NoneType"),
    ],
)
def test_invalid_images_are_reported(wrong, error, message):
    with pytest.raises(error, match=f"^image 1 .*{message}"):
        transform.make_batch([image(4, 4), wrong], 4, 8, MEAN, STD)


def test_unreadable_paths_are_reported(tmp_path):
    (tmp_path / "text.png").write_text("not an image")
    for name in ("text.png", "absent.png"):
        with pytest.raises(OSError, match=name):
            transform.as_image(tmp_path / name)


# ---------------------------------------------------------------------- targets


def test_targets_are_normalised():
    targets = transform.check_targets(
        [
            {"boxes": [[1, 2, 3, 4]], "labels": [2], "area": 4},
            {"boxes": [], "labels": []},
            {"boxes": np.zeros((0, 4), np.float32), "labels": np.zeros(0)},
            {"boxes": np.array([[0, 0, 9, 9], [0, 0, 1, 1]], ">f8")[::-1], "labels": np.array([1, 2], np.uint8)},
        ],
        4,
        3,
    )
    assert [t["boxes"].shape for t in targets] == [(1, 4), (0, 4), (0, 4), (2, 4)]
    for target in targets:
        assert set(target) == {"boxes", "labels"}
        assert target["boxes"].dtype == np.float32
        assert target["labels"].dtype == np.int64
    np.testing.assert_array_equal(targets[3]["boxes"], [[0, 0, 1, 1], [0, 0, 9, 9]])
    assert targets[3]["labels"].tolist() == [1, 2]


BOX = [0.0, 0.0, 4.0, 4.0]


@pytest.mark.parametrize(
    "target, error, message",
    [
        ({"labels": [1]}, ValueError, r"targets\[1\] must be a dict with 'boxes' and 'labels'; 'boxes' is missing"),
        ({"boxes": [BOX]}, ValueError, r"targets\[1\] .* 'labels' is missing"),
        ([BOX], ValueError, r"targets\[1\] must be a dict"),
        ({"boxes": BOX, "labels": [1]}, ValueError, r"targets\[1\]\['boxes'\] .*\(4,\)"),
        (
            {"boxes": [BOX, [1, 2, 3]], "labels": [1, 1]},
            ValueError,
            r"targets\[1\]\['boxes'\] .* rows differ in length",
        ),
        ({"boxes": "box", "labels": [1]}, TypeError, r"targets\[1\]\['boxes'\]"),
        ({"boxes": [BOX], "labels": [1, 2]}, ValueError, r"targets\[1\]\['labels'\] .*\(1,\).*\(2,\)"),
        ({"boxes": [BOX], "labels": [1.0]}, TypeError, r"targets\[1\]\['labels'\] must contain integers"),
        (
            {"boxes": [BOX, [3, 0, 3, 4]], "labels": [1, 1]},
            ValueError,
            r"targets\[1\]: box 1 must have x2 > x1 and y2 > y1, got \[3.0, 0.0, 3.0, 4.0\]",
        ),
        (
            {"boxes": [[0, 5, 4, 4]], "labels": [1]},
            ValueError,
            r"targets\[1\]: box 0 must have .*, got \[0.0, 5.0, 4.0, 4.0\]",
        ),
        ({"boxes": [BOX, [0, 0, np.nan, 4]], "labels": [1, 1]}, ValueError, r"box 1 must be finite, got .*nan"),
        ({"boxes": [[0, 0, np.inf, 4]], "labels": [1]}, ValueError, r"box 0 must be finite, got .*inf"),
        (
            {"boxes": [BOX, BOX], "labels": [1, 0]},
            ValueError,
            r"targets\[1\]: the label of box 1 is 0; labels must be in 1 .. 2 \(0 is the background\)",
        ),
        ({"boxes": [BOX], "labels": [3]}, ValueError, "label of box 0 is 3"),
    ],
)
def test_invalid_targets_are_reported_with_image_box_and_value(target, error, message):
    with pytest.raises(error, match=message):
        transform.check_targets([{"boxes": [BOX], "labels": [1]}, target], 2, 3)


@pytest.mark.parametrize(
    "targets, error, got",
    [({"boxes": [BOX], "labels": [1]}, TypeError, "dict"), (None, TypeError, "NoneType"), ([], ValueError, "0")],
)
def test_targets_and_images_have_the_same_number(targets, error, got):
    with pytest.raises(error, match=f"targets must be a list of 1 dicts, one per image, got {got}"):
        transform.check_targets(targets, 1, 3)


def test_an_image_whose_height_alone_is_too_large_is_refused(impl):
    with pytest.raises(ValueError, match="size and the width of image must be smaller"):
        transform.resize(np.zeros((1, 2**20, 3), np.float32), (2**20, 1))


@pytest.mark.parametrize(
    ("mean", "error", "message"),
    [
        ((np.nan, 0, 0), ValueError, "image_mean must be 3 finite numbers"),
        ((), ValueError, "image_mean must be 3 finite numbers"),
        (("a", 0, 0), TypeError, "image_mean must contain real numbers"),
        ((1j, 0, 0), TypeError, "image_mean must contain real numbers"),
        (np.broadcast_to(1.0, (2**20, 2**20)), ValueError, "image_mean must be 3 finite numbers"),
    ],
)
def test_images_for_display_need_a_batch_and_three_numbers(mean, error, message):
    batch = transform.pad_batch(np.zeros((1, 3, 32, 32), np.float32))
    with pytest.raises(error, match=message):
        transform.to_images(batch, mean, (1, 1, 1))
    with pytest.raises(TypeError, match="batch must be a Batch, got None"):
        transform.to_images(None, (0, 0, 0), (1, 1, 1))

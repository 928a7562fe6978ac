"""The annotated photographs of scikit-image and scikit-learn, and the data set of coins."""

import importlib.util

import numpy as np
import pytest

from rcnn import boxes, course, data
from rcnn.course import photos
from rcnn.data import validate

SIZES = {
    "astronaut": (512, 512),
    "camera": (512, 512),
    "chelsea": (300, 451),
    "china": (427, 640),
    "coffee": (400, 600),
    "coins": (303, 384),
    "flower": (427, 640),
    "motorcycle": (500, 741),
    "rocket": (427, 640),
}


# ---------------------------------------------------------------------- photographs


@pytest.mark.parametrize("name", photos.NAMES)
def test_photo_and_target_are_valid(name):
    image, target = course.photos.load(name)
    assert (image.shape, image.dtype) == ((*SIZES[name], 3), np.uint8)
    assert set(target) == {"boxes", "labels"}
    found, labels = target["boxes"], target["labels"]
    assert (found.shape, found.dtype, labels.dtype) == ((len(labels), 4), np.float32, np.int64)
    assert len(labels) and labels.min() >= 1 and labels.max() < len(photos.CLASSES)
    np.testing.assert_array_equal(boxes.clip(found, image.shape[:2]), found)
    assert (found[:, 2:] - found[:, :2]).min() > 20


def test_every_class_occurs_and_the_first_is_the_background():
    labels = np.concatenate([photos.load(name)[1]["labels"] for name in photos.NAMES])
    assert photos.CLASSES[0] == "background"
    assert set(labels.tolist()) == set(range(1, len(photos.CLASSES)))


def test_a_second_call_returns_new_arrays():
    image, target = photos.load("rocket")
    image[:], target["boxes"][:] = 0, 0
    again, other = photos.load("rocket")
    assert again.max() > 0 and other["boxes"].min() > 0


def contrast(gray, box):
    """Return how much brighter the ellipse in a box is than the corners of the box and a ring around it."""
    x1, y1, x2, y2 = (int(value) for value in box)
    margin = 3
    rows, columns = np.mgrid[y1 - margin : y2 + margin, x1 - margin : x2 + margin]
    inside = (2 * (columns + 0.5 - (x1 + x2) / 2) / (x2 - x1)) ** 2 + (
        2 * (rows + 0.5 - (y1 + y2) / 2) / (y2 - y1)
    ) ** 2 <= 1
    values = gray[rows.clip(0, gray.shape[0] - 1), columns.clip(0, gray.shape[1] - 1)]
    return values[inside].mean() - values[~inside].mean()


@pytest.mark.parametrize("move", [(4, 0, 4, 0), (-4, 0, -4, 0), (0, 4, 0, 4), (0, -4, 0, -4), (5, 5, -5, -5)])
def test_boxes_of_coins_fit_better_than_moved_boxes(move):
    image, target = photos.load("coins")
    gray = image[:, :, 0].astype(float)
    assert len(target["boxes"]) == 24
    for box in target["boxes"]:
        assert contrast(gray, box) > max(25, contrast(gray, box + np.array(move))), box


def test_hidden_objects_overlap_what_hides_them():
    _, target = photos.load("motorcycle")
    motorcycle, bench = target["boxes"]
    assert [photos.CLASSES[label] for label in target["labels"]] == ["motorcycle", "bench"]
    assert boxes.iou(motorcycle[None], bench[None])[0, 0] > 0.1


def test_unknown_photo_is_an_error():
    with pytest.raises(ValueError, match="name must be one of astronaut, camera, .* got 'dog'"):
        photos.load("dog")


@pytest.mark.parametrize(
    ("name", "package", "distribution"), [("coins", "skimage", "scikit-image"), ("china", "sklearn", "scikit-learn")]
)
def test_missing_package_is_named(name, package, distribution, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(photos, "find_spec", lambda wanted: None if wanted == package else find(wanted))
    with pytest.raises(ImportError, match=f"{name}.* is part of {distribution}; run pip install {distribution}"):
        photos.load(name)


def test_missing_file_is_named(monkeypatch):
    monkeypatch.setitem(photos.FILES, "coins", (photos.SKIMAGE, "no_such.png"))
    with pytest.raises(FileNotFoundError, match="no_such.png: the installed scikit-image does not contain this photo"):
        photos.load("coins")


# ---------------------------------------------------------------------- coins


@pytest.mark.parametrize("split", ["train", "val"])
def test_coins_are_a_valid_data_set(split):
    coins = photos.Coins(20, split)
    assert len(coins) == 20 and coins.classes == ("background", "coin")
    report = validate(coins, progress=False)
    assert report.ok and not report.problems
    for index in range(len(coins)):
        image, target = coins[index]
        assert (image.shape, image.dtype) == ((96, 128, 3), np.uint8)
        assert (target["boxes"].dtype, target["labels"].dtype) == (np.float32, np.int64)
        assert (target["labels"] == 1).all()
        np.testing.assert_array_equal(boxes.clip(target["boxes"], (96, 128)), target["boxes"])


def test_image_depends_only_on_seed_split_and_index():
    (image, target), (again, same) = photos.Coins(5)[3], photos.Coins(9)[-6]
    np.testing.assert_array_equal(image, again)
    np.testing.assert_array_equal(target["boxes"], same["boxes"])
    others = photos.Coins(5, seed=1)[3], photos.Coins(5, "val")[3], photos.Coins(5)[2]
    assert all((image != other).any() for other, _ in others)


def test_the_splits_have_no_coin_in_common():
    _, target = photos.load("coins")
    train, val = photos.Coins(1, "train"), photos.Coins(1, "val")
    assert len(train._boxes) == len(val._boxes) == 12
    np.testing.assert_array_equal(np.concatenate([train._boxes, val._boxes]), target["boxes"])
    for coins in (train, val):
        first, last = photos.ROWS[coins.split]
        assert (coins._boxes[:, 1] >= first).all() and (coins._boxes[:, 3] <= last).all()
    assert photos.ROWS["train"][1] == photos.ROWS["val"][0]  # crops stay between these rows


def test_boxes_follow_the_coins_through_scale_and_flips():
    """In every image, the box of a whole coin is brighter than its surroundings."""
    seen = 0
    for split in ("train", "val"):
        coins = photos.Coins(60, split, seed=5)
        for image, target in (coins[index] for index in range(len(coins))):
            whole = (target["boxes"][:, :2] > 6).all(axis=1) & (target["boxes"][:, 2:] < [122, 90]).all(axis=1)
            for box in target["boxes"][whole].round():
                assert contrast(image[:, :, 0].astype(float), box) > 20
                seen += 1
    assert seen > 50


def test_coins_vary_in_size_and_side():
    coins = photos.Coins(100)
    sizes = np.concatenate([np.sqrt(boxes.area(coins[index][1]["boxes"])) for index in range(100)])
    assert sizes.max() / sizes.min() > 3
    counts = {len(coins[index][1]["boxes"]) for index in range(100)}
    assert len(counts) > 3 and min(counts) >= 1


@pytest.mark.parametrize("size", [(64, 64), (105, 210)])
def test_smallest_and_largest_images(size):
    coins = photos.Coins(20, "train", size=size)
    assert {coins[index][0].shape for index in range(20)} == {(*size, 3)}


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"n": -1}, ValueError, "n must be"),
        ({"n": 1.5}, TypeError, "n must be"),
        ({"split": "test"}, ValueError, "split must be one of train, val"),
        ({"seed": -1}, ValueError, "seed must be"),
        ({"size": (106, 128)}, ValueError, "size must be .* height of 64 to 105 pixels .* got \\(106, 128\\)"),
        ({"size": (64, 129)}, ValueError, "twice the height, got \\(64, 129\\)"),
        ({"size": (63, 64)}, ValueError, "got \\(63, 64\\)"),
        ({"size": 96}, ValueError, "size must be two integers"),
    ],
)
def test_wrong_arguments_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        photos.Coins(**arguments)


def test_index_out_of_range_ends_a_loop():
    assert len(list(photos.Coins(3))) == 3
    with pytest.raises(IndexError, match="image index 3 is out of range; the data set has 3 images"):
        photos.Coins(3)[3]


def test_coins_can_be_written_and_read_back(tmp_path):
    coins = photos.Coins(4, "val")
    data.write_voc(coins, tmp_path / "coins", "val", progress=False)
    read = data.load(f"voc:{tmp_path / 'coins'}", "val")
    for index in range(4):
        np.testing.assert_array_equal(read[index][0], coins[index][0])
        np.testing.assert_array_equal(read[index][1]["boxes"], coins[index][1]["boxes"])

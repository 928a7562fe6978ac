"""Augmentation: values by hand, and boxes compared with the pixels of drawn objects."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rcnn.train import Recipe, augment
from rcnn.train.augment import Target

SIZE = (60, 90)
BOXES = np.array([[5, 8, 25, 20], [40, 10, 60, 50], [70, 30, 90, 60]], float)  # the last one touches two borders
TARGET = {"boxes": BOXES, "labels": np.array([1, 2, 3])}


def drawn(shape: str) -> np.ndarray:
    """Return a black image with one object in each of BOXES. Object i has the value 1 in channel i."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    image = np.zeros((*SIZE, 3), np.float32)
    for channel, (x1, y1, x2, y2) in enumerate(BOXES):
        across, along = (2 * x - x1 - x2) / (x2 - x1), (2 * y - y1 - y2) / (y2 - y1)  # from -1 to 1 in the box
        inside = np.maximum(abs(across), abs(along)) if shape == "rectangle" else np.hypot(across, along)
        image[..., channel] = inside <= 1
    return image


def box_of(mask: np.ndarray) -> np.ndarray:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])


def assert_boxes_enclose_the_pixels(
    change: Callable[..., tuple[np.ndarray, Target]], setting: float, shape: str, tolerance: float
) -> None:
    """Apply the change with 50 seeds; each box must differ from that of the object's pixels by at most `tolerance`."""
    image, seen = drawn(shape), []
    for seed in range(50):
        changed, target = change(image, TARGET, np.random.default_rng(seed), setting)
        background = changed[..., :].min(axis=2, keepdims=True)  # the grey that fills an empty border
        seen += target["labels"].tolist()
        assert set(target) == {"boxes", "labels"} and len(target["boxes"]) == len(target["labels"])
        for box, label in zip(target["boxes"], target["labels"], strict=True):
            mask = (changed - background)[..., label - 1] > 0.5
            np.testing.assert_allclose(box, box_of(mask), atol=tolerance)
    assert set(seen) == {1, 2, 3}
    np.testing.assert_array_equal(image, drawn(shape))  # the arguments do not change
    np.testing.assert_array_equal(TARGET["boxes"], BOXES)


@pytest.mark.parametrize("change", [augment.flip, augment.flip_vertically, augment.crop, augment.translate])
def test_boxes_enclose_the_pixels_of_the_objects(change: Callable[..., Any]) -> None:
    assert_boxes_enclose_the_pixels(change, 0.5, "rectangle", 0)


def test_boxes_enclose_rotated_ellipses() -> None:
    assert_boxes_enclose_the_pixels(augment.rotate, 20, "ellipse", 1)


def test_rotated_box_by_hand() -> None:
    """A quarter turn moves the point right of the centre to above the centre, and exchanges the sides of a box."""
    rng = type("Fixed", (), {"uniform": lambda self, low, high: 90.0})()
    image = np.zeros((100, 100, 3), np.float32)
    image[45:55, 70:90] = 1
    changed, target = augment.rotate(image, {"boxes": np.array([[70.0, 45, 90, 55]]), "labels": np.array([1])}, rng, 90)
    np.testing.assert_allclose(target["boxes"], [[45, 10, 55, 30]], atol=1e-9)
    np.testing.assert_array_equal(box_of(changed[..., 0] > 0.5), [45, 10, 55, 30])


# ---------------------------------------------------------------------- flips


def test_boxes_of_a_mirrored_image_by_hand() -> None:
    image = np.arange(2 * 10 * 3, dtype=np.uint8).reshape(2, 10, 3)
    target = {"boxes": np.array([[0, 0, 10, 2], [1, 0, 4.5, 1], [9, 1, 10, 2]]), "labels": np.array([1, 2, 3])}
    mirrored, moved = augment.flip(image, target, np.random.default_rng(0), 1)
    np.testing.assert_array_equal(moved["boxes"], [[0, 0, 10, 2], [5.5, 0, 9, 1], [0, 1, 1, 2]])
    np.testing.assert_array_equal(target["boxes"][1], [1, 0, 4.5, 1])  # the data set's own array does not change
    np.testing.assert_array_equal(mirrored[:, 0], image[:, 9])


@pytest.mark.parametrize("change", [augment.flip, augment.flip_vertically])
def test_two_flips_change_nothing(change: Callable[..., Any]) -> None:
    rng = np.random.default_rng(0)
    image, target = change(*change(drawn("ellipse"), TARGET, rng, 1), rng, 1)
    np.testing.assert_array_equal(image, drawn("ellipse"))
    np.testing.assert_array_equal(target["boxes"], BOXES)


def test_no_boxes_and_images_of_other_kinds() -> None:
    image = Image.fromarray(np.arange(24, dtype=np.uint8).reshape(2, 4, 3))
    nothing = {"boxes": np.zeros((0, 4)), "labels": np.zeros(0, np.int64)}
    mirrored, target = augment.flip(image, nothing, np.random.default_rng(0), 1)
    np.testing.assert_allclose(mirrored * 255, np.asarray(image)[:, ::-1], rtol=1e-6)
    assert target["boxes"].shape == (0, 4)
    recipe = Recipe(vertical_flip=1, crop=0.5, translate=0.5, rotate=10, colour_jitter=0.5)
    _, (target,), _ = augment.augment([image], [nothing], recipe, 0)
    assert target["boxes"].shape == (0, 4) and target["labels"].shape == (0,)


@pytest.mark.parametrize(("flip", "flipped"), [(0.0, 0), (1.0, 1000), (0.25, 250)])
@pytest.mark.parametrize("change", [augment.flip, augment.flip_vertically])
def test_flip_is_a_probability(change: Callable[..., Any], flip: float, flipped: int) -> None:
    rng, image = np.random.default_rng(0), drawn("ellipse")
    changed = [change(image, TARGET, rng, flip)[0] is not image for _ in range(1000)]
    assert sum(changed) == pytest.approx(flipped, abs=50 * (0 < flip < 1))


# ---------------------------------------------------------------------- positions


def test_crop_keeps_a_whole_object_and_the_shape_of_the_image() -> None:
    image, sizes = drawn("rectangle"), []
    for seed in range(100):
        window, target = augment.crop(image, TARGET, np.random.default_rng(seed), 0.7)
        height, width = window.shape[:2]
        whole = [(target["boxes"][i, 2:] - target["boxes"][i, :2]).prod() for i in range(len(target["boxes"]))]
        original = {label: (box[2:] - box[:2]).prod() for label, box in zip(TARGET["labels"], BOXES, strict=True)}
        assert any(area == original[label] for area, label in zip(whole, target["labels"], strict=True))
        assert height / SIZE[0] == pytest.approx(width / SIZE[1], abs=0.02)
        sizes.append(height / SIZE[0])
    assert 0.3 <= min(sizes) < 0.5 and 0.97 < max(sizes) <= 1  # the second object needs two thirds of the height


def test_crop_of_an_object_that_fills_the_image_is_the_whole_image() -> None:
    target = {"boxes": np.array([[-0.25, 0, 90, 60]]), "labels": np.array([1])}
    window, changed = augment.crop(drawn("rectangle"), target, np.random.default_rng(3), 0.9)
    assert window.shape == (*SIZE, 3) and changed["boxes"].tolist() == [[0, 0, 90, 60]]


def test_objects_that_are_almost_invisible_are_left_out() -> None:
    rng = type("Fixed", (), {"uniform": lambda self, low, high, size: np.array([0.0, -0.5])})()  # 45 pixels to the left
    _, target = augment.translate(drawn("rectangle"), TARGET, rng, 0.5)
    np.testing.assert_array_equal(target["boxes"], [[0, 10, 15, 50], [25, 30, 45, 60]])
    np.testing.assert_array_equal(target["labels"], [2, 3])


# ---------------------------------------------------------------------- colours and sizes


def test_colours_by_hand() -> None:
    image = np.array([[[0.2, 0.4, 0.6], [0.4, 0.4, 0.4]]], np.float32)
    rng = type("Fixed", (), {"uniform": lambda self, low, high, size: np.array([1.1, 0.5, 0.0])})()
    changed, target = augment.jitter_colours(image, TARGET, rng, 1)
    grey = image @ np.array([0.299, 0.587, 0.114])  # without saturation, every pixel is grey
    expected = 1.1 * (grey.mean() + 0.5 * (grey - grey.mean()))
    np.testing.assert_allclose(changed, np.repeat(expected[..., None], 3, axis=2), rtol=1e-5)
    assert target is TARGET and changed.dtype == np.float32


def test_colours_stay_in_range_and_differ() -> None:
    image = np.random.default_rng(0).random((6, 7, 3), np.float32)
    changed = [augment.jitter_colours(image, TARGET, np.random.default_rng(seed), 1)[0] for seed in range(50)]
    assert min(array.min() for array in changed) == 0 and max(array.max() for array in changed) == 1
    assert len({array.tobytes() for array in changed}) == 50


def test_scales_are_log_uniform() -> None:
    rng = np.random.default_rng(1)
    scales = np.array([augment.draw_scale(rng, 0.5, 2.0) for _ in range(2000)])
    assert 0.5 <= scales.min() < 0.51 and 1.96 < scales.max() <= 2.0
    assert np.mean(scales < 1) == pytest.approx(0.5, abs=0.04)  # uniform factors would give a third


# ---------------------------------------------------------------------- all of them

ALL = Recipe(flip=0.5, vertical_flip=0.5, crop=0.4, translate=0.1, rotate=5, colour_jitter=0.3, scale_jitter=(0.5, 2.0))


def batch(recipe: Recipe, step: int, count: int = 3) -> tuple[list[Any], list[Target], list[float]]:
    return augment.augment([drawn("ellipse")] * count, [TARGET] * count, recipe, step)


def test_changes_depend_only_on_seed_and_step() -> None:
    (first, targets, scales), (again, same_targets, same_scales) = batch(ALL, 5), batch(ALL, 5)
    assert scales == same_scales and len(set(scales)) == 3
    for a, b in zip(
        (*first, *(t["boxes"] for t in targets)), (*again, *(t["boxes"] for t in same_targets)), strict=True
    ):
        np.testing.assert_array_equal(a, b)
    others = [batch(ALL, 6)[0][0], batch(ALL.replace(seed=1), 5)[0][0], first[1], first[2]]
    assert not any(np.array_equal(first[0], other) for other in others)


def test_flips_and_scales_do_not_depend_on_the_other_changes() -> None:
    """Recipes from before the other changes existed give the same images. The expected numbers are of that time."""
    images, _, scales = batch(Recipe(flip=0.5, scale_jitter=(0.5, 2.0), seed=1), 5, 4)
    np.testing.assert_allclose(
        scales, [1.2976125153036506, 1.0505189930194148, 0.5768131276962228, 1.1830484623135324], rtol=1e-12
    )
    flipped = [bool((image == drawn("ellipse")[:, ::-1]).all()) for image in images]
    assert flipped == [True, True, True, False]
    _, _, with_colours = batch(Recipe(flip=0.5, scale_jitter=(0.5, 2.0), seed=1, colour_jitter=0.5), 5, 4)
    assert with_colours == scales


def test_without_changes_images_are_not_read() -> None:
    images = ["a.jpg", "b.jpg"]
    changed, targets, scales = augment.augment(images, [TARGET, TARGET], Recipe(), 0)
    assert changed == images and targets[0] is TARGET and scales == [1.0, 1.0]


def test_crop_does_not_enlarge_the_objects() -> None:
    images, _, scales = batch(Recipe(crop=0.6), 0)
    assert scales == [image.shape[0] / SIZE[0] for image in images] and min(scales) < 1

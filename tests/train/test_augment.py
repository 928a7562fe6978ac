"""Flips and scales of images and boxes: values by hand, and the pixels inside the boxes."""

import numpy as np
import pytest
from PIL import Image

from rcnn.train import loader
from rcnn.train.loader import Change


def test_boxes_of_a_mirrored_image_by_hand() -> None:
    image = np.arange(2 * 10 * 3, dtype=np.uint8).reshape(2, 10, 3)
    boxes = np.array([[0, 0, 10, 2], [1, 0, 4.5, 1], [9, 1, 10, 2]])
    mirrored, moved = loader.flip(image, boxes)
    np.testing.assert_array_equal(moved, [[0, 0, 10, 2], [5.5, 0, 9, 1], [0, 1, 1, 2]])
    np.testing.assert_array_equal(boxes[1], [1, 0, 4.5, 1])  # the data set's own array is left alone
    np.testing.assert_array_equal(mirrored[:, 0], image[:, 9])
    back, home = loader.flip(mirrored, moved)
    np.testing.assert_array_equal(back, image)
    np.testing.assert_array_equal(home, boxes)


def test_mirrored_box_encloses_the_same_object() -> None:
    image = np.zeros((8, 12, 3), np.uint8)
    image[2:5, 7:11] = 200
    mirrored, (box,) = loader.flip(image, np.array([[7, 2, 11, 5]]))
    x1, y1, x2, y2 = box
    assert (mirrored[y1:y2, x1:x2] == 200).all() and mirrored.sum() == mirrored[y1:y2, x1:x2].sum()


def test_no_boxes_and_images_of_other_kinds() -> None:
    image = Image.fromarray(np.arange(24, dtype=np.uint8).reshape(2, 4, 3))
    mirrored, boxes = loader.flip(image, np.zeros((0, 4)))
    np.testing.assert_allclose(mirrored * 255, np.asarray(image)[:, ::-1], rtol=1e-6)
    assert boxes.shape == (0, 4)


@pytest.mark.parametrize(("flip", "flipped"), [(0.0, 0), (1.0, 1000), (0.25, 250)])
def test_flip_is_a_probability(flip: float, flipped: int) -> None:
    rng = np.random.default_rng(0)
    changes = [loader.draw_change(rng, flip, (1.0, 1.0)) for _ in range(1000)]
    assert sum(change.flipped for change in changes) == pytest.approx(flipped, abs=50 * (0 < flip < 1))
    assert all(change.scale == 1.0 for change in changes)


def test_scales_are_log_uniform() -> None:
    rng = np.random.default_rng(1)
    scales = np.array([loader.draw_change(rng, 0, (0.5, 2.0)).scale for _ in range(2000)])
    assert 0.5 <= scales.min() < 0.51 and 1.96 < scales.max() <= 2.0
    assert np.mean(scales < 1) == pytest.approx(0.5, abs=0.04)  # uniform factors would give a third


def test_scales_do_not_depend_on_flips() -> None:
    with_flips, without = (
        [loader.draw_change(np.random.default_rng(3), flip, (0.5, 2.0)).scale] for flip in (1.0, 0.0)
    )
    assert with_flips == without
    assert loader.draw_change(np.random.default_rng(3), 0, (1.0, 1.0)) == Change()

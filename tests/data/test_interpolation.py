"""`rcnn.data.interpolation` gives Pillow's bits, so that drawn pages are the same with and without Pillow."""

import sys

import numpy as np
from PIL import Image

from rcnn.data import interpolation, overlay


def test_resize_gives_the_bits_of_pillow():
    rng = np.random.default_rng(0)
    for _ in range(200):
        cells, size = rng.integers(1, 13, 2), tuple(rng.integers(12, 200, 2).tolist())
        image = rng.uniform(-1, 1, cells).astype(np.float32)
        expected = Image.fromarray(image).resize(size[::-1], Image.Resampling.BICUBIC)
        np.testing.assert_array_equal(interpolation.resize(image, size), expected)


def test_transform_gives_the_bits_of_pillow():
    rng = np.random.default_rng(1)
    for _ in range(200):
        image = rng.uniform(0, 1, rng.integers(2, 14, 2)).astype(np.float32)
        affine, size = rng.uniform(-0.5, 0.8, 6) * (1, 1, 4, 1, 1, 4), tuple(rng.integers(1, 60, 2).tolist())
        expected = Image.fromarray(image).transform(
            size[::-1], Image.Transform.AFFINE, tuple(affine), Image.Resampling.BICUBIC
        )
        np.testing.assert_array_equal(interpolation.transform(image, size, tuple(affine)), expected)


def test_resize_by_hand():
    # rows 1 and 2 have the centres 0.75 and 1.25; the kernel is 111/128 at the distance 1/4, and 29/128 at 3/4
    near, far = 111 / 140, 29 / 140
    found = interpolation.resize(np.array([[0.0], [1.0]], np.float32), (4, 1))
    centre = np.array([[far], [near]], np.float32)
    np.testing.assert_allclose(found[1:3], centre, rtol=1e-6)


def test_shrink_gives_the_values_of_pillow_within_rounding():
    rng = np.random.default_rng(2)
    for side in (1, 16, 32, 64):
        for _ in range(10):
            image = rng.integers(0, 256, (*rng.integers(40, 200, 2), 3), np.uint8)
            expected = Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR)
            found = interpolation.shrink(image, side)
            np.testing.assert_allclose(found.astype(int), np.asarray(expected, int), rtol=0, atol=1)


def test_the_thumbnail_of_the_overlay_does_not_need_pillow(monkeypatch):
    image = np.random.default_rng(3).integers(0, 256, (90, 130, 3), np.uint8)
    with_pillow = overlay.reduce_image(0, image, np.zeros((0, 4))).thumbnail
    monkeypatch.setitem(sys.modules, "PIL", None)
    without = overlay.reduce_image(0, image, np.zeros((0, 4))).thumbnail
    np.testing.assert_allclose(without.astype(int), with_pillow.astype(int), rtol=0, atol=1)

"""The pages of `checks.find_faults` that are made for one mistake lie clearly on one side of its limits."""

import numpy as np

from rcnn.checks import faults


def contrast(page):
    return faults.ink(page.image, np.maximum(page.boxes, 0)).mean()


def test_small_pages_without_a_fault_lie_on_ink():
    rng = np.random.default_rng(0)
    for sketch in faults._SKETCHES.values():
        for number in range(4):
            page = sketch(rng, number)
            assert page.kind is None and contrast(page) >= faults.INK + 10


def test_a_frame_of_ink_is_not_inside_its_boxes():
    page = faults._framed(np.random.default_rng(0))
    assert page.kind == "elsewhere" and abs(contrast(page)) < 2


def test_boxes_that_cover_most_of_a_page_are_elsewhere():
    for page in map(faults._covered, faults._pool()):
        inside = faults._inside(page.image, page.boxes)
        grey = page.image.mean(axis=2)
        assert page.kind == "elsewhere" and inside.mean() > 0.5 and contrast(page) <= faults.NO_INK
        assert np.median(grey[~inside]) - grey[inside].mean() >= faults.INK

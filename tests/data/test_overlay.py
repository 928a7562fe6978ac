"""Check of boxes against the pixels of their images: the fit of each box, and faults that all boxes share."""

import numpy as np
import pytest

from rcnn import data
from rcnn.data import overlay
from rcnn.data.pages import clouds, grain


def unchanged(boxes, size):
    return boxes


def reduced(pages):
    return [overlay.reduce_image(i, image, boxes) for i, (image, boxes) in enumerate(pages)]


def drawn(dataset):
    return [(image, target["boxes"].astype(float)) for image, target in (dataset[i] for i in range(len(dataset)))]


def kind(pages):
    verdict = overlay.examine(reduced(pages))
    return verdict and verdict.kind


def painted(n, contrast, place, seed=0, size=(96, 96)):
    """Return pages of cloudy noise with 1 to 4 ellipses in boxes from place(rng), lighter or darker by `contrast`."""
    rng, pages = np.random.default_rng(seed), []
    for _ in range(n):
        page = 128 + 30 * clouds(rng, size, 6)[:, :, None] + grain(rng, size, 4)
        boxes = [place(rng) for _ in range(rng.integers(1, 5))]
        for x1, y1, x2, y2 in boxes:
            y, x = np.mgrid[y1:y2, x1:x2] + 0.5
            inside = ((2 * x - x1 - x2) / (x2 - x1)) ** 2 + ((2 * y - y1 - y2) / (y2 - y1)) ** 2 < 1
            page[y1:y2, x1:x2] += contrast * rng.choice([-1, 1]) * inside[:, :, None]
        pages.append((np.clip(page, 0, 255).astype(np.uint8), np.array(boxes, float)))
    return pages


def anywhere(rng):
    (width, height), (x, y) = rng.integers(10, 40, 2), rng.integers(0, 56, 2)
    return x, y, x + width, y + height


@pytest.fixture(scope="module", params=["digits", "shapes", "wide digits", "high shapes"])
def clean(request):
    return drawn(
        {
            "digits": lambda: data.Digits(50),
            "shapes": lambda: data.Shapes(50),
            "wide digits": lambda: data.Digits(50, size=(64, 200)),
            "high shapes": lambda: data.Shapes(50, size=(200, 80)),
        }[request.param]()
    )


def test_the_fit_of_a_box_is_its_rank_among_the_images():
    images = np.full((3, 128, 128, 3), 255, np.uint8)
    images[0, 40:60, 30:80] = 0  # the object, on the first image alone
    entries = reduced([(image, np.array([[30.0, 40, 80, 60]])) for image in images])
    fits, owners = overlay.box_fits(entries[:2], entries, unchanged)
    # Of three contrasts the first is the largest, the other two are equal: ranks 2.5, 1 and 1 of 3.
    np.testing.assert_allclose(fits, [[5 / 6, 2 / 6, 2 / 6]] * 2)
    np.testing.assert_array_equal(owners, [0, 1])
    fit = overlay.mean_fit(fits[[0, 1], [0, 1]], owners)
    assert (fit.mean, fit.images, fit.objects) == (pytest.approx(7 / 12), 2, 2)
    assert not fit.is_clear()


def test_boxes_without_contrast_are_left_out():
    boxes = np.array([[10, 10, 50, 50], [0, 0, 128, 128], [10, 10, 11, 60], [100, 20, 140, 60]], float)
    entry = overlay.reduce_image(0, np.zeros((128, 128, 3), np.uint8), boxes)
    fits, _ = overlay.box_fits([entry], [entry], unchanged)
    assert len(fits) == 1  # the others fill the image, are too thin, leave it


def test_number_of_images_that_fit_by_chance():
    # One box with fit 0.9 fits a tenth of images; of two boxes, -log 0.1 - log 0.1 = s is exceeded by e^-s (1 + s).
    assert overlay.by_chance(np.full((1, 10), 0.9)) == pytest.approx(np.full(10, 1.0))
    s = -2 * np.log(0.1)
    assert overlay.by_chance(np.full((2, 5), 0.9)) == pytest.approx(np.full(5, 5 * 0.01 * (1 + s)))


def test_boxes_that_fit_give_no_verdict(clean):
    assert kind(clean) is None


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (overlay.swapped_axes, "swapped-axes"),
        (overlay.upside_down, "upside-down"),
        (lambda boxes, size: boxes / 2, "wrong-scale"),
        (lambda boxes, size: 2 * boxes, "wrong-scale"),
    ],
)
def test_wrong_coordinates_are_found(clean, change, expected):
    verdict = overlay.examine(reduced([(image, change(boxes, image.shape[:2])) for image, boxes in clean]))
    assert verdict.kind == expected and verdict.count >= 50 and " % of the images as they are" in verdict.numbers


@pytest.mark.parametrize("slip", [1, 7])
def test_boxes_of_another_image_are_found_with_that_image(clean, slip):
    n = len(clean)
    verdict = overlay.examine(reduced([(clean[i][0], clean[(i + slip) % n][1]) for i in range(n)]))
    assert verdict.kind == "shuffled" and verdict.count == len(verdict.pairs) >= n / 3
    right = [j == (i + slip) % n for i, j in verdict.pairs]
    assert np.mean(right) > 0.9


def test_a_few_images_give_no_verdict(clean):
    assert kind([(image, overlay.swapped_axes(boxes, (0, 0))) for image, boxes in clean[:11]]) is None
    assert kind([(image, boxes[:0]) for image, boxes in clean]) is None
    assert kind([]) is None


@pytest.mark.parametrize("change", ["none", "swapped", "slipped"])
@pytest.mark.parametrize(
    "case",
    ["objects that look like their surroundings", "the same position in every image", "boxes that fill the image"],
)
def test_images_without_evidence_give_no_verdict(case, change):
    pages = {
        "objects that look like their surroundings": lambda: painted(40, 0, anywhere),
        "the same position in every image": lambda: painted(40, 60, lambda rng: (30, 30, 60, 60)),
        "boxes that fill the image": lambda: painted(40, 60, lambda rng: (2, 3, 95, 94)),
    }[case]()
    if change == "swapped":
        pages = [(image, overlay.swapped_axes(boxes, (96, 96))) for image, boxes in pages]
    if change == "slipped":
        pages = [(image, pages[i - 1][1]) for i, (image, _) in enumerate(pages)]
    assert kind(pages) is None


def test_faint_objects_are_enough():
    pages = painted(50, 20, anywhere)
    assert kind(pages) is None
    assert kind([(image, overlay.swapped_axes(boxes, (96, 96))) for image, boxes in pages]) == "swapped-axes"


def test_an_image_that_all_boxes_fit_gives_no_verdict():
    pages = painted(40, 0, anywhere)
    blocks = np.random.default_rng(1).integers(0, 256, (8, 8, 3), np.uint8)
    pages[7] = (blocks.repeat(12, axis=0).repeat(12, axis=1), pages[7][1])
    fits, _ = overlay.box_fits(reduced(pages), reduced(pages), unchanged)
    assert fits[:, 7].mean() > 0.8
    assert kind(pages) is None


def test_boxes_that_also_fit_a_neighbour_give_no_verdict():
    """Two frames of a video may be nearly the same."""
    pages = [
        (np.clip(image.astype(int) + step, 0, 255).astype(np.uint8), boxes)
        for image, boxes in painted(30, 60, anywhere)
        for step in (0, 1)
    ]
    assert kind(pages) is None


def test_changes_of_coordinates():
    boxes = np.array([[1.0, 2, 5, 9]])
    assert overlay.swapped_axes(boxes, (10, 20)).tolist() == [[2, 1, 9, 5]]
    assert overlay.upside_down(boxes, (10, 20)).tolist() == [[1, 1, 5, 8]]


def test_a_sample_of_many_images_has_runs_of_neighbours():
    assert overlay.sample(5).tolist() == [0, 1, 2, 3, 4]
    chosen = overlay.sample(100_000)
    assert len(chosen) == overlay.MAX_IMAGES and chosen[0] == 0 and chosen[-1] == 99_999
    assert (np.diff(chosen) == 1).mean() > 0.8 and (np.diff(chosen) >= 1).all()

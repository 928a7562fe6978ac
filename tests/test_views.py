"""Detection in tiles, mirrored and resized images: one view finds what another misses, and no object counts twice."""

import numpy as np
import pytest

import rcnn
from rcnn import data
from rcnn.boxes import iou
from rcnn.views import detect_in_tiles, detect_in_views, merge, mirror, tile_boxes

GREY = 90


def canvas(*boxes, size=(300, 400)):
    """Return a grey image with red boxes."""
    image = np.full((*size, 3), GREY, np.uint8)
    for x1, y1, x2, y2 in boxes:
        image[y1:y2, x1:x2] = (255, 0, 0)
    return image


class Finder:
    """Detector of separate red boxes, which it finds exactly; it records the sizes of the images."""

    def __init__(self, smallest=0, largest=10**9):
        self.smallest, self.largest, self.sizes = smallest, largest, []

    def __call__(self, images):
        self.sizes.append([image.shape[:2] for image in images])
        return [self.find(image[:, :, 0] > 200) for image in images]

    def find(self, red):
        boxes = []
        red = red.copy()
        while red.any():
            y1, x1 = (int(k[0]) for k in np.nonzero(red))
            x2 = x1 + int(np.argmin([*red[y1, x1:], False]))
            y2 = y1 + int(np.argmin([*red[y1:, x1], False]))
            red[y1:y2, x1:x2] = False
            if self.smallest <= max(x2 - x1, y2 - y1) <= self.largest:
                boxes.append([x1, y1, x2, y2])
        count = len(boxes)
        scores = 0.9 - 0.01 * np.arange(count)
        return {"boxes": np.array(boxes, np.float32).reshape(-1, 4), "scores": scores, "labels": np.ones(count, int)}


def sorted_boxes(found):
    return sorted(found["boxes"].tolist())


# ---------------------------------------------------------------------- tiles


@pytest.mark.parametrize(
    ("size", "tile", "overlap", "columns", "rows"),
    [
        ((100, 250), 100, 20, [0, 75, 150], [0]),
        ((100, 250), 100, 0.2, [0, 75, 150], [0]),
        ((100, 100), 100, 0.5, [0], [0]),
        ((30, 50), 64, 0, [0], [0]),
        ((200, 101), 100, 0, [0, 1], [0, 100]),
        ((100, 180), 100, 20, [0, 80], [0]),
        ((100, 181), 100, 20, [0, 40, 81], [0]),
    ],
)
def test_tiles_lie_at_equal_distances(size, tile, overlap, columns, rows):
    tiles = tile_boxes(size, tile, overlap)
    height, width = min(size[0], tile), min(size[1], tile)
    assert tiles.tolist() == [[x, y, x + width, y + height] for y in rows for x in columns]


@pytest.mark.parametrize("side", [100, 101, 159, 160, 161, 1000, 1234])
@pytest.mark.parametrize("overlap", [0, 1, 33, 0.3, 50])
def test_tiles_cover_the_image_and_overlap(side, overlap):
    starts = tile_boxes((100, side), 100, overlap)[:, 0]
    shared = 100 - np.diff(starts)
    assert starts[0] == 0 and starts[-1] == side - 100
    assert (shared >= (30 if overlap == 0.3 else overlap)).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((100, 100), 31), "tile must be an integer of at least 32"),
        (((100, 100), 100, 51), "overlap must be at most half of the tile, 50 pixels, got 51"),
        (((100, 100), 100, 0.6), "overlap must be at most half of the tile, 50 pixels, got 0.6"),
        (((100, 100), 100, -1), r"overlap must be a number in \[0, 1.04858e\+06\], got -1"),
    ],
)
def test_invalid_tiles_are_reported(arguments, message):
    with pytest.raises(ValueError, match=message):
        tile_boxes(*arguments)


def test_an_image_no_larger_than_a_tile_is_one_view():
    image, find = canvas([10, 20, 30, 50]), Finder()
    found = detect_in_tiles(find, image, 400)
    assert find.sizes == [[(300, 400)]]
    for key, values in find([image])[0].items():
        np.testing.assert_array_equal(found[key], values)


def test_tiles_are_detected_in_batches_after_the_whole_image():
    find = Finder()
    detect_in_tiles(find, canvas(size=(100, 400)), 100, 0, batch_size=3)
    assert find.sizes == [[(100, 400)], [(100, 100)] * 3, [(100, 100)]]


@pytest.mark.parametrize("x", range(0, 361, 7))
def test_an_object_at_any_place_is_found_once(x):
    """Tiles of 160 pixels start every 120 pixels; the object is as large as their overlap, or smaller."""
    box = [x, (3 * x) % 260, x + 40, (3 * x) % 260 + 35]
    found = detect_in_tiles(Finder(largest=60), canvas(box, size=(300, 400)), 160, 40)
    assert sorted_boxes(found) == [box]


def test_small_objects_are_found_in_tiles_and_large_ones_in_the_whole_image():
    boxes = [[5, 5, 300, 200], [320, 10, 330, 20], [150, 230, 162, 240], [118, 270, 130, 280]]

    def find(images):
        """Find objects of at least a twentieth of the image, as a detector that resizes all images to one size."""
        return [Finder(smallest=max(image.shape) / 20)([image])[0] for image in images]

    image = canvas(*boxes)
    assert sorted_boxes(find([image])[0]) == [boxes[0]]
    assert sorted_boxes(detect_in_tiles(find, image, 150, 30)) == sorted(boxes)


def test_small_boxes_of_the_whole_image_are_dropped():
    """The detector finds a small object only in the whole image, where it is a false positive, and a large one."""
    find = Finder()
    find_in_whole = lambda images: find(images) if images[0].shape == (300, 400, 3) else find([images[0] * 0])  # noqa: E731
    found = detect_in_tiles(find_in_whole, canvas([5, 5, 35, 35], [100, 100, 131, 110]), 150, 30)
    assert sorted_boxes(found) == [[100, 100, 131, 110]]


def test_parts_of_an_object_that_is_nowhere_whole_are_counted_once():
    """The whole image yields nothing. Both tiles contain a part of the object; the larger part remains."""
    found = detect_in_tiles(Finder(largest=99), canvas([100, 40, 200, 90], size=(160, 280)), 160, 40)
    assert sorted_boxes(found) in ([[100, 40, 160, 90]], [[120, 40, 200, 90]])
    assert len(found["boxes"]) == 1


def test_a_part_is_dropped_whatever_its_class():
    whole = {"boxes": np.array([[130.0, 10, 150, 30]]), "scores": np.array([0.5]), "labels": np.array([2])}
    part = {"boxes": np.array([[130.0, 10, 140, 30]]), "scores": np.array([0.9]), "labels": np.array([1])}
    nothing = {key: values[:0] for key, values in whole.items()}
    answers = iter([nothing, part, {**whole, "boxes": whole["boxes"] - [100, 0, 100, 0]}])
    found = detect_in_tiles(lambda images: [next(answers) for _ in images], canvas(size=(140, 240)), 140, 40)
    assert found["labels"].tolist() == [2] and sorted_boxes(found) == [[130, 10, 150, 30]]


def test_tiles_are_merged_within_classes_unless_class_agnostic():
    one = {"boxes": np.array([[40.0, 40, 60, 60], [40, 40, 60, 61]]), "scores": np.array([0.9, 0.8])}
    for options, expected in (({}, [1, 2]), ({"class_agnostic": True}, [1]), ({"top_k": 1}, [1])):
        found = detect_in_tiles(
            lambda images: [{**one, "labels": np.array([1, 2])} for _ in images], canvas(), 400, **options
        )
        assert found["labels"].tolist() == expected


def test_a_page_of_digits_is_found_whole_as_in_tiles():
    """Pages beside each other are a large image; in tiles, the detector finds what it finds on each page."""
    model = rcnn.load_digits()
    pages = [data.Digits(split="val")[index] for index in range(4)]
    side = pages[0][0].shape[0]
    image = np.concatenate([np.concatenate([pages[k][0] for k in row], axis=1) for row in ((0, 1), (2, 3))])
    offsets = np.array([[0, 0], [side, 0], [0, side], [side, side]])
    targets = np.concatenate(
        [target["boxes"] + np.tile(offset, 2) for (_, target), offset in zip(pages, offsets, strict=True)]
    )
    labels = np.concatenate([target["labels"] for _, target in pages])
    found = detect_in_tiles(model.predict, image, side, 0.5, batch_size=4)
    sure = found["scores"] > 0.5
    overlaps = iou(found["boxes"][sure], targets)
    assert sure.sum() == len(targets) and (overlaps.max(axis=0) > 0.5).all()
    np.testing.assert_array_equal(found["labels"][sure], labels[overlaps.argmax(axis=1)])
    (whole,) = model.predict([image])
    assert (iou(whole["boxes"][whole["scores"] > 0.5], targets).max(axis=0) > 0.5).mean() < 0.8


def test_invalid_images_and_results_are_reported():
    with pytest.raises(TypeError, match="image must be an array"):
        detect_in_tiles(Finder(), "photo.jpg", 100)
    with pytest.raises(TypeError, match="predict must be callable"):
        detect_in_tiles(None, canvas(), 100)
    with pytest.raises(ValueError, match="the result of predict must have length 1, got 0"):
        detect_in_tiles(lambda images: [], canvas(), 100)


# ---------------------------------------------------------------------- mirrored and resized images


def test_mirror():
    boxes = np.array([[10, 20, 30, 40]], np.float32)
    mirrored = mirror(boxes, 100)
    assert mirrored.tolist() == [[70, 20, 90, 40]] and mirrored.dtype == np.float32
    np.testing.assert_array_equal(mirror(mirrored, 100), boxes)


def test_views_are_detected_and_moved_back():
    image, calls = canvas([10, 20, 30, 50]), []

    def detect(images, scale):
        calls.append((scale, bool(images[0][30, 20, 0] > 200)))
        return Finder()(images)

    (found,) = detect_in_views(detect, [image], True, [1.0, 2.0], nms_thresh=0.5)
    assert calls == [(1.0, True), (1.0, False), (2.0, True), (2.0, False)]
    assert sorted_boxes(found) == [[10, 20, 30, 50]]
    assert len(detect_in_views(detect, [image], True, [1.0], nms_thresh=1.0)[0]["boxes"]) == 2


def test_an_object_of_one_view_is_kept():
    left, right = (Finder()([canvas(box)])[0] for box in ([10, 20, 30, 50], [200, 20, 230, 50]))
    assert sorted_boxes(merge([left, right], nms_thresh=0.5)) == [[10, 20, 30, 50], [200, 20, 230, 50]]

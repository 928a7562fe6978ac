"""Photos with detections drawn in them: where the lines are, that tags can be read, and that any size does."""

import sys

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from rcnn import plot
from rcnn.plot import style
from rcnn.plot.tags import place

photo = sys.modules["rcnn.plot.photo"]

NAMES = ("background", "cat", "dog", "hair drier")
GROUNDS = {"black": 0, "white": 255, "grey": 128}
COLOURS = [np.round(255 * np.array(to_rgb(style.label_color(label)))).astype(int) for label in range(4)]


def ground(height, width, kind="grey"):
    if kind == "noise":
        return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return np.full((height, width, 3), GROUNDS[kind], np.uint8)


def crowd(count, height, width, seed=0):
    """Boxes (count, 4) of every size, falling scores, labels."""
    rng = np.random.default_rng(seed)
    centers, sides = rng.random((count, 2)), np.exp(rng.uniform(np.log(0.02), np.log(0.5), (count, 2)))
    boxes = np.concatenate([centers - sides / 2, centers + sides / 2], axis=1).clip(0, 1)
    return boxes * (width, height, width, height), np.sort(rng.random(count))[::-1], rng.integers(1, 4, count)


@pytest.fixture
def tags(monkeypatch):
    """The fields (D, 4) of the tags that were placed last, and the window."""
    seen = {}

    def spy(sizes, boxes, window):
        corners = place(sizes, boxes, window)
        seen.update(fields=np.concatenate([corners, corners + sizes], axis=1), window=window, sizes=sizes)
        return corners

    monkeypatch.setattr(photo, "place", spy)
    return seen


def overlaps(fields):
    """The part (D,) of each field that the one which hides most of it hides."""
    low = np.maximum(fields[:, None, :2], fields[None, :, :2])
    high = np.minimum(fields[:, None, 2:], fields[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    np.fill_diagonal(shared, 0)
    return shared.max(axis=1) / (fields[:, 2:] - fields[:, :2]).prod(axis=1)


@pytest.mark.parametrize("kind", ["black", "white", "grey", "noise"])
def test_a_line_has_its_colour_and_black_edges_on_any_ground(kind):
    given = ground(480, 640, kind)
    drawn = plot.annotate(given, [[200, 100, 400, 300]], [0.5], [2], NAMES)
    assert drawn.shape == given.shape and drawn.dtype == np.uint8
    line = drawn[200, 190:211].astype(int)  # across the left side: x from 190 to 210
    expected = given[200, 190:211].astype(int)
    expected[8:13] = 0  # 3 pixels of colour, 1 of black on either side, around x = 200
    expected[9:12] = COLOURS[2]
    np.testing.assert_array_equal(line, expected)
    for y, x in ((200, 400), (100, 350), (300, 250)):
        np.testing.assert_array_equal(drawn[y, x], COLOURS[2])
    np.testing.assert_array_equal(drawn[110:290, 210:390], given[110:290, 210:390])
    np.testing.assert_array_equal(drawn[310:], given[310:])


def test_lines_and_text_grow_with_the_photo(tags):
    widths, heights = [], []
    for scale in (1, 6):
        drawn = plot.annotate(ground(480 * scale, 640 * scale), np.array([[200, 100, 400, 300]]) * scale, [0.5], [1])
        widths.append(int((drawn[200 * scale, 150 * scale:250 * scale] == COLOURS[1]).all(axis=1).sum()))
        heights.append(tags["sizes"][0, 1])
    assert widths == [3, 9]
    assert 3 < heights[1] / heights[0] < 5


def test_no_line_lies_outside():
    """A box around everything, one beyond it, and one that is nearly nothing in a corner have all their lines."""
    for box in ([0, 0, 640, 480], [-50, -50, 700, 500]):
        drawn = plot.annotate(ground(480, 640), [box], [0.5], [1])
        for side in (drawn[1:4, 300], drawn[-4:-1, 300], drawn[240, 1:4], drawn[240, -4:-1]):
            np.testing.assert_array_equal(side, [COLOURS[1]] * 3)
    drawn = plot.annotate(ground(480, 640), [[639.9, 479.9, 640, 480]], [0.5], [1])
    np.testing.assert_array_equal(drawn[-4:-1, -4:-1].reshape(-1, 3), [COLOURS[1]] * 9)


@pytest.mark.parametrize("size, expected", [
    ((480, 640), (480, 640)), ((3000, 4000), (3000, 4000)), ((500, 5000), (500, 5000)),
    ((48, 64), (384, 512)), ((64, 640), (192, 1920)), ((640, 64), (1920, 192)), ((1, 1), (400, 400)),
    ((1, 2000), (2, 4000)), ((5000, 6000), (4472, 5366))])
def test_sizes(size, expected, tags):
    height, width = size
    box = [0.25 * width, 0.25 * height, 0.75 * width, 0.75 * height]
    drawn = plot.annotate(ground(*size), [box], [0.5], [1])
    assert drawn.shape == (*expected, 3)
    if min(expected) > 100:
        for y, x in ((0.5, 0.25), (0.5, 0.75), (0.75, 0.5)):  # the box has grown or shrunk with the photo
            np.testing.assert_array_equal(drawn[int(y * expected[0]), int(x * expected[1])], COLOURS[1])
        left, bottom, right, top = tags["fields"][0]
        assert 0 <= left < right <= expected[1] and 0 <= bottom < top <= expected[0]


def test_enlarged_photos_are_the_same_photo():
    given = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8).repeat(4, 0).repeat(4, 1)
    drawn = plot.annotate(given, [], [], [])
    assert drawn.shape == (384, 512, 3)  # twice 192 x 256
    middles = drawn.reshape(48, 8, 64, 8, 3)[:, 3:5, :, 3:5]  # of the blocks of one colour
    np.testing.assert_array_equal(middles, np.broadcast_to(given[::4, None, ::4, None], middles.shape))


@pytest.mark.parametrize("size", [(480, 640), (48, 64), (3000, 4000), (300, 3000), (3000, 300)])
@pytest.mark.parametrize("count", [1, 5, 20])
def test_tags_are_whole_and_apart(size, count, tags):
    for seed in range(2):
        plot.annotate(ground(*size), *crowd(count, *size, seed), NAMES)
        fields, window = tags["fields"], tags["window"]
        assert (fields >= 0).all() and (fields <= np.tile(window[2:], 2)).all()
        assert overlaps(fields).max() < 1e-6


@pytest.mark.parametrize("same", [False, True])
def test_a_hundred_tags_can_be_read(same, tags):
    boxes, scores, labels = crowd(100, 480, 640)
    if same:  # one object that is taken for many, as detectors do
        boxes = boxes[np.arange(100) % 20]
    drawn = plot.annotate(ground(480, 640), boxes, scores, labels, NAMES)
    assert drawn.shape == (960, 1280, 3)  # twice as large, to have room for them
    assert np.median(overlaps(tags["fields"])) == 0
    assert np.mean(overlaps(tags["fields"]) > 0.1) <= 0.15


def test_better_detections_lie_over_worse_ones():
    boxes = [[200, 100, 400, 300]] * 2
    for scores in ([0.9, 0.2], [0.2, 0.9]):
        drawn = plot.annotate(ground(480, 640), boxes, scores, [1, 2])
        np.testing.assert_array_equal(drawn[200, 200], COLOURS[1 + int(np.argmax(scores))])


def test_tags_say_class_and_score(monkeypatch):
    said = []
    monkeypatch.setattr(photo.ImageDraw.ImageDraw, "text", lambda pen, at, text, *args, **kw: said.append(text))
    plot.annotate(ground(480, 640), [[9, 9, 99, 99]] * 2, [0.25, 0.876], [3, 1], NAMES)
    plot.annotate(ground(480, 640), [[9, 9, 99, 99]], [0.5], [3])
    plot.annotate(ground(480, 640), [[9, 9, 99, 99]], [0.5], [1], ("background", "two\n lines"))
    assert said == ["hair drier 0.25", "cat 0.88", "3 0.50", "two lines 0.50"]  # the best last, on top
    said.clear()
    plot.annotate(ground(480, 640), [[9, 9, 99, 99]], [0.5], [1], ("background", "name" * 100))
    assert said[0].startswith("namename") and said[0].endswith("\u2026 0.50") and len(said[0]) > 40


def test_anything_can_be_drawn():
    rng = np.random.default_rng(0)
    for _ in range(60):
        height, width = np.exp(rng.uniform(0, np.log(300), 2)).astype(int)
        boxes = rng.normal(0.5, 1, (4, 4)) * (width, height, width, height)  # turned over, outside, without area
        boxes[0, 2:] = boxes[0, :2]
        drawn = plot.annotate(ground(height, width, "noise"), boxes, rng.random(4), rng.integers(0, 4, 4), NAMES)
        assert drawn.shape[0] % height == 0 and drawn.shape[1] % width == 0


def test_no_detections_leave_the_photo_alone():
    given = ground(480, 640, "noise")
    before = given.copy()
    np.testing.assert_array_equal(plot.annotate(given, np.zeros((0, 4)), [], []), given)
    plot.annotate(given, [[9, 9, 99, 99]], [0.5], [1])
    np.testing.assert_array_equal(given, before)


@pytest.mark.parametrize("changed, message", [
    ({"picture": np.zeros((9, 9, 3))}, r"picture is float64 of shape \(9, 9, 3\); it must be uint8"),
    ({"picture": np.zeros((0, 9, 3), np.uint8)}, r"picture is uint8 of shape \(0, 9, 3\); it must .* have a pixel"),
    ({"picture": np.zeros((9, 9), np.uint8)}, r"picture has the shape \(9, 9\)"),
    ({"boxes": [[1, 2, np.nan, 4]]}, r"boxes\[0\] is \[1.0, 2.0, nan, 4.0\]"),
    ({"scores": [0.5, 0.6]}, r"scores has the shape \(2,\)"),
    ({"labels": []}, r"labels has the shape"),
    ({"labels": [4]}, r"labels\[0\] is 4; class_names has the labels 0 to 3"),
])
def test_errors_name_the_argument(changed, message):
    given = {"picture": ground(9, 9), "boxes": [[1, 2, 3, 4]], "scores": [0.5], "labels": [1], "class_names": NAMES}
    with pytest.raises(ValueError, match=message):
        plot.annotate(**{**given, **changed})

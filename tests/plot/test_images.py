"""Annotated photos and contact sheets: legible lines and tags at any size, valid and invalid boxes."""

import io

import numpy as np
import pytest
from matplotlib.colors import to_hex, to_rgb
from matplotlib.patches import Rectangle

from rcnn import plot
from rcnn.plot import images, style
from rcnn.plot.tags import Tags, place

PHOTO_NAMES = ("background", "cat", "dog", "hair drier")
GROUNDS = {"black": 0, "white": 255, "grey": 128}
COLOURS = [np.round(255 * np.array(to_rgb(style.label_color(label)))).astype(int) for label in range(4)]
NAMES = ("background", "cat", "dog", "a very long name indeed")

# ---- an annotated photo


def ground(height, width, kind="grey"):
    if kind == "noise":
        return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return np.full((height, width, 3), GROUNDS[kind], np.uint8)


def crowd(count, height, width, seed=0):
    """Return boxes (count, 4) of every size, descending scores, and labels."""
    rng = np.random.default_rng(seed)
    centers, sides = rng.random((count, 2)), np.exp(rng.uniform(np.log(0.02), np.log(0.5), (count, 2)))
    boxes = np.concatenate([centers - sides / 2, centers + sides / 2], axis=1).clip(0, 1)
    return boxes * (width, height, width, height), np.sort(rng.random(count))[::-1], rng.integers(1, 4, count)


@pytest.fixture
def tags(monkeypatch):
    """Return the fields (D, 4) and the window of the tags placed last."""
    seen = {}

    def spy(sizes, boxes, window):
        corners = place(sizes, boxes, window)
        seen.update(fields=np.concatenate([corners, corners + sizes], axis=1), window=window, sizes=sizes)
        return corners

    monkeypatch.setattr(images, "place", spy)
    return seen


def overlaps(fields):
    """Return the largest share (D,) of each field that another field covers."""
    low = np.maximum(fields[:, None, :2], fields[None, :, :2])
    high = np.minimum(fields[:, None, 2:], fields[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    np.fill_diagonal(shared, 0)
    return shared.max(axis=1) / (fields[:, 2:] - fields[:, :2]).prod(axis=1)


@pytest.mark.parametrize("kind", ["black", "white", "grey", "noise"])
def test_lines_have_black_edges_on_any_background(kind):
    given = ground(480, 640, kind)
    drawn = plot.annotate(given, [[200, 100, 400, 300]], [0.5], [2], PHOTO_NAMES)
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
        widths.append(int((drawn[200 * scale, 150 * scale : 250 * scale] == COLOURS[1]).all(axis=1).sum()))
        heights.append(tags["sizes"][0, 1])
    assert widths == [3, 9]
    assert 3 < heights[1] / heights[0] < 5


def test_lines_stay_inside_the_drawing():
    """Check a box around the image, one outside it, and a tiny one in a corner."""
    for box in ([0, 0, 640, 480], [-50, -50, 700, 500]):
        drawn = plot.annotate(ground(480, 640), [box], [0.5], [1])
        for side in (drawn[1:4, 300], drawn[-4:-1, 300], drawn[240, 1:4], drawn[240, -4:-1]):
            np.testing.assert_array_equal(side, [COLOURS[1]] * 3)
    drawn = plot.annotate(ground(480, 640), [[639.9, 479.9, 640, 480]], [0.5], [1])
    np.testing.assert_array_equal(drawn[-4:-1, -4:-1].reshape(-1, 3), [COLOURS[1]] * 9)


@pytest.mark.parametrize(
    "size, expected",
    [
        ((480, 640), (480, 640)),
        ((3000, 4000), (3000, 4000)),
        ((500, 5000), (500, 5000)),
        ((48, 64), (384, 512)),
        ((64, 640), (192, 1920)),
        ((640, 64), (1920, 192)),
        ((1, 1), (400, 400)),
        ((1, 2000), (2, 4000)),
        ((5000, 6000), (4472, 5366)),
    ],
)
def test_drawing_sizes(size, expected, tags):
    height, width = size
    box = [0.25 * width, 0.25 * height, 0.75 * width, 0.75 * height]
    drawn = plot.annotate(ground(*size), [box], [0.5], [1])
    assert drawn.shape == (*expected, 3)
    if min(expected) > 100:
        for y, x in ((0.5, 0.25), (0.5, 0.75), (0.75, 0.5)):  # the box has grown or shrunk with the photo
            np.testing.assert_array_equal(drawn[int(y * expected[0]), int(x * expected[1])], COLOURS[1])
        left, bottom, right, top = tags["fields"][0]
        assert 0 <= left < right <= expected[1] and 0 <= bottom < top <= expected[0]


def test_enlarged_photos_keep_their_content():
    given = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8).repeat(4, 0).repeat(4, 1)
    drawn = plot.annotate(given, [], [], [])
    assert drawn.shape == (384, 512, 3)  # twice 192 x 256
    middles = drawn.reshape(48, 8, 64, 8, 3)[:, 3:5, :, 3:5]  # of the blocks of one colour
    np.testing.assert_array_equal(middles, np.broadcast_to(given[::4, None, ::4, None], middles.shape))


@pytest.mark.parametrize("size", [(480, 640), (48, 64), (3000, 4000), (300, 3000), (3000, 300)])
@pytest.mark.parametrize("count", [1, 5, 20])
def test_tags_stay_inside_and_apart_at_any_size(size, count, tags):
    for seed in range(2):
        plot.annotate(ground(*size), *crowd(count, *size, seed), PHOTO_NAMES)
        fields, window = tags["fields"], tags["window"]
        assert (fields >= 0).all() and (fields <= np.tile(window[2:], 2)).all()
        assert overlaps(fields).max() < 1e-6


@pytest.mark.parametrize("same", [False, True])
def test_a_hundred_tags_are_legible(same, tags):
    boxes, scores, labels = crowd(100, 480, 640)
    if same:  # many detections of one object
        boxes = boxes[np.arange(100) % 20]
    drawn = plot.annotate(ground(480, 640), boxes, scores, labels, PHOTO_NAMES)
    assert drawn.shape == (960, 1280, 3)  # twice as large, to make room for the tags
    assert np.median(overlaps(tags["fields"])) == 0
    assert np.mean(overlaps(tags["fields"]) > 0.1) <= 0.15


def test_better_detections_are_drawn_on_top():
    boxes = [[200, 100, 400, 300]] * 2
    for scores in ([0.9, 0.2], [0.2, 0.9]):
        drawn = plot.annotate(ground(480, 640), boxes, scores, [1, 2])
        np.testing.assert_array_equal(drawn[200, 200], COLOURS[1 + int(np.argmax(scores))])


def test_tags_contain_class_and_score(monkeypatch):
    written = []
    monkeypatch.setattr(images.ImageDraw.ImageDraw, "text", lambda pen, at, text, *args, **kw: written.append(text))
    plot.annotate(ground(480, 640), [[9, 9, 99, 99]] * 2, [0.25, 0.876], [3, 1], PHOTO_NAMES)
    plot.annotate(ground(480, 640), [[9, 9, 99, 99]], [0.5], [3])
    plot.annotate(ground(480, 640), [[9, 9, 99, 99]], [0.5], [1], ("background", "two\n lines"))
    assert written == ["hair drier 0.25", "cat 0.88", "3 0.50", "two lines 0.50"]  # the best last, on top
    written.clear()
    plot.annotate(ground(480, 640), [[9, 9, 99, 99]], [0.5], [1], ("background", "name" * 100))
    assert written[0].startswith("namename") and written[0].endswith("\u2026 0.50") and len(written[0]) > 40


def test_unusual_sizes_and_boxes_are_drawn():
    rng = np.random.default_rng(0)
    for _ in range(60):
        height, width = np.exp(rng.uniform(0, np.log(300), 2)).astype(int)
        boxes = rng.normal(0.5, 1, (4, 4)) * (width, height, width, height)  # inverted, outside, without area
        boxes[0, 2:] = boxes[0, :2]
        drawn = plot.annotate(ground(height, width, "noise"), boxes, rng.random(4), rng.integers(0, 4, 4), PHOTO_NAMES)
        assert drawn.shape[0] % height == 0 and drawn.shape[1] % width == 0


def test_photo_without_detections_is_unchanged():
    given = ground(480, 640, "noise")
    before = given.copy()
    np.testing.assert_array_equal(plot.annotate(given, np.zeros((0, 4)), [], []), given)
    plot.annotate(given, [[9, 9, 99, 99]], [0.5], [1])
    np.testing.assert_array_equal(given, before)


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"image": np.zeros((9, 9, 3))}, r"image must be uint8 .*, got float64 of shape \(9, 9, 3\)"),
        ({"image": np.zeros((0, 9, 3), np.uint8)}, r"image must .* at least one pixel, got uint8 of shape \(0, 9, 3\)"),
        ({"image": np.zeros((9, 9), np.uint8)}, r"image must have shape .*, got \(9, 9\)"),
        ({"boxes": [[1, 2, np.nan, 4]]}, r"boxes\[0\] must have four finite coordinates, got \[1.0, 2.0, nan, 4.0\]"),
        ({"scores": [0.5, 0.6]}, r"scores must have shape .*, got \(2,\)"),
        ({"labels": []}, r"labels must have shape"),
        ({"labels": [4]}, r"labels\[0\] must be in 0 .. 3, the range of class_names, got 4"),
    ],
)
def test_errors_name_the_argument(changed, message):
    given = {
        "image": ground(9, 9),
        "boxes": [[1, 2, 3, 4]],
        "scores": [0.5],
        "labels": [1],
        "class_names": PHOTO_NAMES,
    }
    with pytest.raises(ValueError, match=message):
        plot.annotate(**{**given, **changed})


# ---- a contact sheet


def image(height=60, width=80):
    return np.full((height, width, 3), 200, np.uint8)


def drawn(figure):
    """Return the boxes of each tile as (x1, y1, x2, y2, colour, line) and the texts of its tags."""
    tiles = []
    for ax in figure.axes:
        boxes = [
            (*patch.get_bbox().extents, to_hex(patch.get_edgecolor()), patch.get_linestyle())
            for patch in ax.patches
            if isinstance(patch, Rectangle)
        ]
        tags = [text.get_text() for child in ax.get_children() if isinstance(child, Tags) for text in child.texts]
        tiles.append((boxes, tags))
    return tiles


def one(boxes, labels, page=None):
    page = image() if page is None else page
    figure = plot.contact_sheet([page], [np.array(boxes, float)], [np.array(labels)], NAMES)
    return figure, *drawn(figure)[0]


def test_valid_boxes_have_the_colours_and_names_of_their_classes():
    figure, boxes, tags = one([[0, 0, 80, 60], [5, 6, 20, 30], [-1, 2, 81, 9]], [1, 2, 3])
    first, second, third = (style.label_color(label).lower() for label in (1, 2, 3))
    assert boxes == [(0, 0, 80, 60, first, "-"), (5, 6, 20, 30, second, "-"), (-1, 2, 81, 9, third, "-")]
    assert tags == ["cat", "dog", "a ver\u2026e indeed"] and max(map(len, tags)) == images.TAG_LENGTH
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["cat", "dog", "a very long name indeed"]


@pytest.mark.parametrize(
    ("box", "label", "corners", "tag"),
    [
        ([70, 10, 95, 20], 1, (70, 10, 95, 20), "cat"),
        ([-3, 10, 9, 20], 1, (-3, 10, 9, 20), "cat"),
        ([30, 10, 20, 40], 2, (20, 10, 30, 40), "dog"),
        ([10, 10, 20, 40], 0, (10, 10, 20, 40), "label 0"),
        ([10, 10, 20, 40], 7, (10, 10, 20, 40), "label 7"),
        ([10, 10, 20, 40], -1, (10, 10, 20, 40), "unknown"),
    ],
)
def test_invalid_boxes_are_red_and_dashed(box, label, corners, tag):
    figure, boxes, tags = one([[5, 6, 20, 30], box], [1, label])
    assert boxes[0][4:] == (style.label_color(1).lower(), "-")
    assert boxes[1] == (*corners, images.BROKEN, "--") and tags[1] == tag
    assert figure.legends[0].get_texts()[-1].get_text() == "invalid box"
    ax = figure.axes[0]
    assert ax.get_xlim()[0] < min(corners[0], 0) and ax.get_xlim()[1] > max(corners[2], 80)


def test_distant_boxes_do_not_shrink_the_image():
    figure, _, _ = one([[5000, 10, 6000, 20]], [1])
    low, high = figure.axes[0].get_xlim()
    assert high - low < 80 * 1.4


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("x", [1e308, -1e308, 1e39, 1e10])
def test_extremely_distant_boxes_can_be_drawn(x):
    figure, boxes, tags = one([[x, 10, 6000, 20], [-1e308, -1e308, 1e308, 1e308]], [1, 2])
    figure.canvas.draw()
    assert len(boxes) == len(tags) == 2


def test_non_finite_boxes_are_counted():
    figure, boxes, tags = one([[np.nan, 1, 2, 3], [5, 6, 20, 30], [1, 1, np.inf, 3]], [1, 2, 1])
    assert len(boxes) == 1 and tags == ["dog"]
    assert [text.get_text() for text in figure.axes[0].texts] == ["2 not drawn (not finite)"]


def test_only_some_of_very_many_boxes_are_drawn_and_the_invalid_ones_first():
    boxes = np.tile([[5.0, 6, 20, 30]], (20_000, 1))
    boxes[-1, 2], boxes[0, 0] = 4, np.nan
    figure, drawn_boxes, _ = one(boxes, [1] * len(boxes))
    assert len(drawn_boxes) == images.MAX_BOXES and drawn_boxes[-1][5] == "--"
    (note,) = figure.axes[0].texts
    assert note.get_text() == "1 not drawn (not finite)\n19,499 more boxes not drawn"


def test_large_images_and_their_boxes_are_scaled_down():
    figure, boxes, _ = one([[400, 300, 800, 1500]], [1], image(1500, 4000))
    shown = figure.axes[0].images[0].get_array().shape
    assert shown[:2] == (270, images.MAX_TILE_SIDE)
    np.testing.assert_allclose(boxes[0][:4], np.array([400, 300, 800, 1500]) * 0.18)
    assert boxes[0][5] == "-"


def test_many_boxes_have_colours_but_no_tags():
    boxes = np.tile([[5.0, 6, 20, 30]], (41, 1))
    assert len(one(boxes[:40], [1] * 40)[2]) == 40
    figure, drawn_boxes, tags = one(boxes, [1] * 41)
    assert len(drawn_boxes) == 41 and tags == [] and figure.legends[0].get_texts()[0].get_text() == "cat"


def test_no_legend_if_classes_share_colours():
    names = ("background", *(f"class {i}" for i in range(11)))
    figure = plot.contact_sheet([image()], [[[5, 6, 20, 30]]], [[1]], names)
    assert figure.legends == [] and drawn(figure)[0][1] == ["class 0"]


@pytest.mark.parametrize(("count", "grid"), [(1, (1, 1)), (2, (1, 2)), (5, (2, 3)), (16, (4, 4))])
def test_tiles_are_squares_of_equal_size(count, grid):
    shapes = [(80, 80), (300, 40), (30, 500), (7, 7)]
    pages = [None if i == 3 else image(*shapes[i % 4]) for i in range(count)]
    figure = plot.contact_sheet(
        pages, [np.zeros((0, 4))] * count, [[]] * count, NAMES, [f"{i}.png\nwords" for i in range(count)]
    )
    figure.savefig(io.BytesIO(), format="png")
    shown = [ax for ax in figure.axes if ax.axison]
    assert len(shown) == count and figure.axes[0].get_gridspec().get_geometry() == grid
    extents = np.array([ax.get_window_extent().bounds for ax in shown])
    np.testing.assert_allclose(extents[:, 2:], extents[0, 2], rtol=0.02)
    assert [ax.get_title(loc="left") for ax in shown] == [f"{i}.png" for i in range(count)]
    assert all(ax.texts[-1].get_text() == "words" for ax in shown)
    if count > 3:
        assert "unreadable" in [text.get_text() for text in shown[3].texts]


@pytest.mark.parametrize("height, share", [(60, 0.75), (30, 0.5), (20, 0.5), (200, 1)])
def test_tiles_are_as_high_as_the_highest_image_of_their_row(height, share):
    pages = [image(30, 80), image(height, 80), image(80, 80)]
    figure = plot.contact_sheet(pages, [[]] * 3, [[]] * 3, NAMES, columns=2)
    figure.savefig(io.BytesIO(), format="png")
    bounds = np.array([ax.get_window_extent().bounds for ax in figure.axes])[:3]
    np.testing.assert_allclose(bounds[:, 3] / bounds[:, 2], (share, share, 1), rtol=0.02)
    np.testing.assert_allclose(bounds[:, 2], bounds[0, 2], rtol=0.02)
    (left, right), (bottom, top) = figure.axes[0].get_xlim(), figure.axes[0].get_ylim()
    assert left < 0 and right > 80 and top < 0 and bottom > 30  # the whole first image is visible


def test_fewer_columns_make_larger_tiles():
    widths = []
    for columns in (2, 3, None):
        figure = plot.contact_sheet([image()] * 6, [[]] * 6, [[]] * 6, NAMES, columns=columns)
        figure.savefig(io.BytesIO(), format="png")
        assert figure.axes[0].get_gridspec().get_geometry() == ((3, 2) if columns == 2 else (2, 3))
        widths.append(figure.axes[0].get_window_extent().width)
    assert widths[0] > 1.4 * widths[1] and widths[1] == widths[2]


def test_long_captions_keep_their_ends():
    figure = plot.contact_sheet([image()], [[]], [[]], NAMES, ["folder/" * 9 + "IMG_1234.jpg"])
    heading = figure.axes[0].get_title(loc="left")
    assert heading.startswith("folder/") and heading.endswith("IMG_1234.jpg") and len(heading) == images.HEADING_LENGTH


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (([], [], [], NAMES), "images must have 1 to 16 entries, got 0"),
        (([image()] * 17, [[]] * 17, [[]] * 17, NAMES), "got 17"),
        (([image()], [], [[]], NAMES), "boxes_list must have one entry per image .1., got 0"),
        (([image()], [[]], [[1]], NAMES), r"labels_list\[0\] must have shape .*, got \(1,\)"),
        (([image()], [[]], [[]], NAMES, None, 5), "columns must be in 1 .. 4, got 5"),
        (([image()], [[]], [[]], NAMES, []), "captions must have one entry per image .1., got 0"),
    ],
)
def test_inconsistent_arguments_are_reported(arguments, words):
    with pytest.raises(ValueError, match=words):
        plot.contact_sheet(*arguments)

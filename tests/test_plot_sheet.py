"""The contact sheet: what is drawn for right and for wrong boxes, and that pictures of any size share its squares."""

import io

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from rcnn import plot
from rcnn.plot import sheet, style
from rcnn.plot.tags import Tags

NAMES = ("background", "cat", "dog", "a very long name indeed")


def picture(height=60, width=80):
    return np.full((height, width, 3), 200, np.uint8)


def drawn(figure):
    """Per tile its boxes as (x1, y1, x2, y2, colour, line) and the texts of its tags."""
    tiles = []
    for ax in figure.axes:
        boxes = [(*patch.get_bbox().extents, to_hex(patch.get_edgecolor()), patch.get_linestyle())
                 for patch in ax.patches if isinstance(patch, Rectangle)]  # fmt: skip
        tags = [text.get_text() for child in ax.get_children() if isinstance(child, Tags) for text in child.texts]
        tiles.append((boxes, tags))
    return tiles


def one(boxes, labels, page=None):
    page = picture() if page is None else page
    figure = plot.contact_sheet([page], [np.array(boxes, float)], [np.array(labels)], NAMES)
    return figure, *drawn(figure)[0]


def test_right_boxes_have_the_colours_and_names_of_their_classes():
    figure, boxes, tags = one([[0, 0, 80, 60], [5, 6, 20, 30], [-1, 2, 81, 9]], [1, 2, 3])
    first, second, third = (style.label_color(label).lower() for label in (1, 2, 3))
    assert boxes == [(0, 0, 80, 60, first, "-"), (5, 6, 20, 30, second, "-"), (-1, 2, 81, 9, third, "-")]
    assert tags == ["cat", "dog", "a ver\u2026e indeed"] and max(map(len, tags)) == sheet.TAG_LENGTH
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["cat", "dog", "a very long name indeed"]


@pytest.mark.parametrize(("box", "label", "corners", "tag"), [
    ([70, 10, 95, 20], 1, (70, 10, 95, 20), "cat"), ([-3, 10, 9, 20], 1, (-3, 10, 9, 20), "cat"),
    ([30, 10, 20, 40], 2, (20, 10, 30, 40), "dog"), ([10, 10, 20, 40], 0, (10, 10, 20, 40), "label 0"),
    ([10, 10, 20, 40], 7, (10, 10, 20, 40), "label 7"), ([10, 10, 20, 40], -1, (10, 10, 20, 40), "unknown"),
])  # fmt: skip
def test_a_broken_box_is_red_and_dashed(box, label, corners, tag):
    figure, boxes, tags = one([[5, 6, 20, 30], box], [1, label])
    assert boxes[0][4:] == (style.label_color(1).lower(), "-")
    assert boxes[1] == (*corners, sheet.BROKEN, "--") and tags[1] == tag
    assert figure.legends[0].get_texts()[-1].get_text() == "cannot be right"
    ax = figure.axes[0]
    assert ax.get_xlim()[0] < min(corners[0], 0) and ax.get_xlim()[1] > max(corners[2], 80)


def test_far_away_boxes_do_not_shrink_the_picture():
    figure, _, _ = one([[5000, 10, 6000, 20]], [1])
    low, high = figure.axes[0].get_xlim()
    assert high - low < 80 * 1.3


def test_what_is_not_finite_is_counted():
    figure, boxes, tags = one([[np.nan, 1, 2, 3], [5, 6, 20, 30], [1, 1, np.inf, 3]], [1, 2, 1])
    assert len(boxes) == 1 and tags == ["dog"]
    assert [text.get_text() for text in figure.axes[0].texts] == ["not drawn: 2 not finite"]


def test_a_large_picture_is_drawn_smaller_with_its_boxes():
    figure, boxes, _ = one([[400, 300, 800, 1500]], [1], picture(1500, 4000))
    shown = figure.axes[0].images[0].get_array().shape
    assert shown[:2] == (270, sheet.MAX_PIXELS)
    np.testing.assert_allclose(boxes[0][:4], np.array([400, 300, 800, 1500]) * 0.18)
    assert boxes[0][5] == "-"


def test_a_crowd_has_colours_and_no_tags():
    boxes = np.tile([[5.0, 6, 20, 30]], (41, 1))
    assert len(one(boxes[:40], [1] * 40)[2]) == 40
    figure, drawn_boxes, tags = one(boxes, [1] * 41)
    assert len(drawn_boxes) == 41 and tags == [] and figure.legends[0].get_texts()[0].get_text() == "cat"


def test_no_legend_where_classes_share_colours():
    names = ("background", *(f"class {i}" for i in range(9)))
    figure = plot.contact_sheet([picture()], [[[5, 6, 20, 30]]], [[1]], names)
    assert figure.legends == [] and drawn(figure)[0][1] == ["class 0"]


@pytest.mark.parametrize(("count", "grid"), [(1, (1, 1)), (2, (1, 2)), (5, (2, 3)), (16, (4, 4))])
def test_all_tiles_are_squares_of_one_size(count, grid):
    shapes = [(60, 80), (300, 40), (30, 500), (7, 7)]
    pages = [None if i == 3 else picture(*shapes[i % 4]) for i in range(count)]
    figure = plot.contact_sheet(pages, [np.zeros((0, 4))] * count, [[]] * count, NAMES,
                                [f"{i}.png\nwords" for i in range(count)])  # fmt: skip
    figure.savefig(io.BytesIO(), format="png")
    shown = [ax for ax in figure.axes if ax.axison]
    assert len(shown) == count and figure.axes[0].get_gridspec().get_geometry() == grid
    extents = np.array([ax.get_window_extent().bounds for ax in shown])
    np.testing.assert_allclose(extents[:, 2:], extents[0, 2], rtol=0.02)
    assert [ax.get_title(loc="left") for ax in shown] == [f"{i}.png" for i in range(count)]
    assert all(ax.texts[-1].get_text() == "words" for ax in shown)
    if count > 3:
        assert "cannot be read" in [text.get_text() for text in shown[3].texts]


def test_long_captions_keep_their_ends():
    figure = plot.contact_sheet([picture()], [[]], [[]], NAMES, ["folder/" * 9 + "IMG_1234.jpg"])
    heading = figure.axes[0].get_title(loc="left")
    assert heading.startswith("folder/") and heading.endswith("IMG_1234.jpg") and len(heading) == sheet.HEADING_LENGTH


@pytest.mark.parametrize(("arguments", "words"), [
    (([], [], [], NAMES), "room for 1 to 16 pictures, got 0"),
    (([picture()] * 17, [[]] * 17, [[]] * 17, NAMES), "got 17"),
    (([picture()], [], [[]], NAMES), "boxes_list has 0 entries for 1 pictures"),
    (([picture()], [[]], [[1]], NAMES), r"labels_list\[0\] has the shape \(1,\)"),
    (([picture()], [[]], [[]], NAMES, []), "captions has 0 entries for 1 pictures"),
])  # fmt: skip
def test_what_does_not_fit_together(arguments, words):
    with pytest.raises(ValueError, match=words):
        plot.contact_sheet(*arguments)

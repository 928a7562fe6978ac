"""The anchor painter follows its controls and agrees with the anchors of the library."""

import re

import numpy as np
import pytest

from rcnn import anchors, boxes, plot
from rcnn.course import widgets
from rcnn.course.widgets.anchor_painter import RATIOS, SMALLEST


class Pages:
    """Three images of one size; the last is blank."""

    classes = ("background", "box")
    targets = ([[10, 10, 30, 40], [40, 20, 60, 50]], [[16, 16, 48, 48]], np.zeros((0, 4)))

    def __len__(self):
        return 3

    def __getitem__(self, index):
        objects = np.array(self.targets[index], np.float32)
        return np.full((64, 96, 3), 180, np.uint8), {"boxes": objects, "labels": np.ones(len(objects), int)}


def panels(explorer, **values):
    """Return the three axes for given values of the controls."""
    figure = plot.figure(10.5, 4)
    explorer._draw(figure, **explorer._at(values))
    figure.draw_without_rendering()
    return figure.axes[:3]


def captions(ax):
    return [text.get_text() for text in ax.texts]


def test_panels_follow_the_controls():
    explorer = widgets.anchor_painter(Pages())
    left, middle, right = panels(explorer, smallest_size=10, number_of_sizes=2, ratios="1 and 1.7", stride=16)
    assert left.get_title(loc="left") == "4 anchors per cell, stride 16"
    assert "sizes 10, 20" in captions(left)
    assert "of 96 anchors" in captions(middle)  # 4 rows, 6 columns, 4 of a cell
    assert "ratios 1, 1.7" in captions(right)


@pytest.mark.parametrize("name", ["0.5, 1 and 2", "1.4"])
def test_best_anchors_and_recall_match_the_library(name):
    _, middle, right = panels(widgets.anchor_painter(Pages()), ratios=name)
    laid = anchors.AnchorGenerator((16, 32, 64), RATIOS[name])((64, 96), [(8, 12)])[0]
    iou = [boxes.iou(laid, np.array(objects)) for objects in Pages.targets[:2]]
    corners = [(*patch.get_xy(), patch.get_width(), patch.get_height()) for patch in middle.patches]
    expected = boxes.convert(laid[iou[0].argmax(axis=0)], "xyxy", "xywh")
    np.testing.assert_allclose(corners[2:], expected)  # the two objects come first
    best = [each.max(axis=0) for each in iou]
    tags = next(artist for artist in middle.artists if hasattr(artist, "texts"))
    assert [text.get_text() for text in tags.texts] == [f"{value:.2f}" for value in best[0]]
    expected = plot.coverage_histogram(plot.figure().subplots(), np.concatenate(best))
    assert [bar.get_height() for bar in right.patches] == [bar.get_height() for bar in expected.patches]
    assert [text.get_text() for text in right.get_legend().get_texts()] == [
        text.get_text() for text in expected.get_legend().get_texts()
    ]


def test_blank_page_is_drawn():
    middle = panels(widgets.anchor_painter(Pages(), index=2))[1]
    assert not middle.patches


def test_all_choices_are_drawn_at_the_smallest_size():
    explorer = widgets.anchor_painter(Pages())
    for name in RATIOS:
        left = panels(explorer, smallest_size=SMALLEST[0], ratios=name)[0]
        assert left.get_title(loc="left").startswith(f"{3 * len(re.findall('[0-9.]+', name))} anchors")


def test_still_is_a_png():
    assert widgets.anchor_painter(Pages()).still().startswith(b"\x89PNG")


def test_images_of_different_sizes_are_rejected():
    class Mixed(Pages):
        def __getitem__(self, index):
            image, target = super().__getitem__(index)
            return image[: 64 - 32 * (index == 1)], target

    with pytest.raises(ValueError, match=r"the same size.*\(32, 96\), \(64, 96\)"):
        widgets.anchor_painter(Mixed())


def test_empty_dataset_is_rejected():
    class Empty(Pages):
        def __len__(self):
            return 0

    with pytest.raises(ValueError, match="the same size, got no images"):
        widgets.anchor_painter(Empty())

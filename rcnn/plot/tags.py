"""Small labels beside boxes, which keep inside the axes and out of each other's way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.backend_bases import RendererBase
from matplotlib.text import Text
from matplotlib.transforms import Bbox, IdentityTransform

from rcnn.plot.style import TEXT_SIZE, contrasting

_PADDING = 0.18  # of the font size, around a tag's text


class Tags(Artist):
    """One tag per box: its text on a field of the box's colour.

    Where a tag goes is decided each time the axes are drawn, for only then are the sizes of the text and of the axes
    known. `boxes` are (N, 4) in the data coordinates of the axes.
    """

    def __init__(self, boxes: np.ndarray, texts: Sequence[str], colors: Sequence[str]) -> None:
        super().__init__()
        self.boxes = boxes
        self.texts = [_tag_text(text, color) for text, color in zip(texts, colors, strict=True)]
        self.set_zorder(5)
        self.set_in_layout(False)  # tags lie inside the axes and must not push them

    def get_children(self) -> list[Artist]:
        """The texts, in the order of the boxes."""
        return list(self.texts)

    def set_figure(self, fig: Any) -> None:
        """Tells the texts, too, which figure they belong to."""
        super().set_figure(fig)
        for text in self.texts:
            text.set_figure(fig)

    def get_window_extent(self, renderer: RendererBase | None = None) -> Bbox:
        """The region that all tags together cover, in dots."""
        visible = [text.get_window_extent(renderer) for text in self.texts]
        return Bbox.union(visible) if visible else Bbox.null()

    def draw(self, renderer: RendererBase) -> None:
        """Places the tags and draws them."""
        if not self.get_visible() or self.axes is None or not self.texts:
            return
        padding = np.asarray(renderer.points_to_pixels(_PADDING * TEXT_SIZE))
        extents = [text.get_window_extent(renderer) for text in self.texts]
        sizes = np.array([(extent.width, extent.height) for extent in extents]) + 2 * padding  # (N, 2)
        corners = self.axes.transData.transform(self.boxes.reshape(-1, 2)).reshape(-1, 2, 2)  # (N, 2, 2)
        fields = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)  # (N, 4), y pointing up
        window = np.asarray(self.axes.get_window_extent(renderer).extents)
        for text, corner in zip(self.texts, place(sizes, fields, window), strict=True):
            text.set_position(tuple(corner + padding))
            text.draw(renderer)


def place(sizes: np.ndarray, boxes: np.ndarray, window: np.ndarray) -> np.ndarray:
    """The lower left corners (N, 2) of tags of `sizes` (N, 2) for `boxes` (N, 4) inside `window` (4,).

    Coordinates are dots with y pointing up. Each tag in turn takes, of eight places around its box, the one where it
    hides least: other tags count most, boxes less, and of equals the earlier wins, which is above the box at its left.
    """
    placed = np.empty((0, 4))
    for size, box in zip(list(sizes), list(boxes), strict=True):
        corners = np.clip(_places_around(box, size), window[:2], np.maximum(window[2:] - size, window[:2]))  # (8, 2)
        fields = np.concatenate([corners, corners + size], axis=1)  # (8, 4)
        hidden = 4.0 * _overlap(fields, placed) + _overlap(fields, boxes)  # (8,)
        # A hundredth of the tag per place down the list: order decides between places that hide about as little.
        cost = hidden + 0.01 * size.prod() * np.arange(len(corners))
        placed = np.concatenate([placed, fields[[cost.argmin()]]])
    return placed[:, :2]


def _places_around(box: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Lower left corners (8, 2) for a tag: above the box, below, beside it, and in its upper corners."""
    (left, bottom, right, top), (width, height) = box, size
    return np.array([
        (left, top), (right - width, top), (left, bottom - height), (right - width, bottom - height),
        (right, top - height), (left - width, top - height), (left, top - height), (right - width, top - height),
    ])  # fmt: skip


def _overlap(fields: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """The area (N,) that each of `fields` (N, 4) shares with `boxes` (M, 4), summed over the boxes."""
    low = np.maximum(fields[:, None, :2], boxes[None, :, :2])  # (N, M, 2)
    high = np.minimum(fields[:, None, 2:], boxes[None, :, 2:])  # (N, M, 2)
    return np.asarray(np.clip(high - low, 0, None).prod(axis=2).sum(axis=1))


def _tag_text(text: str, color: str) -> Text:
    box = {"boxstyle": f"square,pad={_PADDING}", "facecolor": color, "edgecolor": "none"}
    return Text(0, 0, text, fontsize=TEXT_SIZE, color=contrasting(color), ha="left", va="bottom", bbox=box,
                parse_math=False, transform=IdentityTransform())  # fmt: skip

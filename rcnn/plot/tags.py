"""Small labels beside boxes that stay inside the axes and avoid each other."""

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
_TAG_ON_TAG = 20.0  # how much worse it is to hide a part of a tag than a part of a box
_APART = 3.0  # how many times its own area a tag would hide before it leaves its box


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

    Coordinates are dots with y pointing up. Each tag in turn takes, of the places at its box, the one where it hides
    least: other tags count most, boxes less, and of equals the earlier wins, which is above the box at its left.
    """
    placed = np.empty((0, 4))
    for size, box in zip(list(sizes), list(boxes), strict=True):
        corners, apart = _positions_around(box, size)  # (K, 2), (K,)
        corners = np.clip(corners, window[:2], np.maximum(window[2:] - size, window[:2]))
        fields = np.concatenate([corners, corners + size], axis=1)  # (K, 4)
        area = size.prod()
        on_tags, on_boxes = _overlap(fields, placed), _overlap(fields, boxes)  # (K,), (K,)
        on_tags[on_tags > 1e-6 * area] += area / 20  # a sliver is to be avoided, too; a touch is none
        # Within many boxes is no worse than within two: a crowd must not drive tags onto each other.
        cost = _TAG_ON_TAG * on_tags + np.minimum(on_boxes, 2 * area)  # (K,)
        # A hundredth of the tag per place down the list: order decides between places that hide about as little.
        cost += area * (0.01 * np.arange(len(corners)) + _APART * apart)
        placed = np.concatenate([placed, fields[[cost.argmin()]]])
    return placed[:, :2]


def _positions_around(box: np.ndarray, size: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lower left corners (K, 2) for a tag, the usual ones first, and which (K,) lie apart from the box.

    The first eight are above the box, below, beside it, and in its upper corners. Then come places further along its
    sides, and at last those one to three lines above and below it.
    """
    (left, bottom, right, top), (width, height) = box, size
    usual = [
        (left, top),
        (right - width, top),
        (left, bottom - height),
        (right - width, bottom - height),
        (right, top - height),
        (left - width, top - height),
        (left, top - height),
        (right - width, top - height),
    ]
    lines = [(x, top - (line + 1) * height) for line in range(1, 5) for x in (left, right, right - width, left - width)]
    along = [corner for corner in lines if corner[1] >= bottom - height]
    along += [
        (left + share * (right - left - width), y)
        for y in (top, bottom - height, top - height, bottom)
        for share in (0.5, 0.25, 0.75)
    ]
    apart = [
        (x, y)
        for line in (1, 2, 3)
        for y in (top + line * height, bottom - (line + 1) * height)
        for x in (left, right - width, right, left - width)
    ]
    corners = np.array(usual + along + apart)
    return corners, np.arange(len(corners)) >= len(usual) + len(along)


def _overlap(fields: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """The area (N,) that each of `fields` (N, 4) shares with `boxes` (M, 4), summed over the boxes."""
    low = np.maximum(fields[:, None, :2], boxes[None, :, :2])  # (N, M, 2)
    high = np.minimum(fields[:, None, 2:], boxes[None, :, 2:])  # (N, M, 2)
    return np.asarray(np.clip(high - low, 0, None).prod(axis=2).sum(axis=1))


def tag_texts(
    count: int, labels: np.ndarray | None, scores: np.ndarray | None, class_names: Sequence[str] | None
) -> list[str]:
    """What the tags of `count` boxes say: class, score, or both. Raises ValueError for a label without a name."""
    words: list[list[str]] = [[] for _ in range(count)]
    if labels is not None:
        for i, label in enumerate(labels):
            if class_names is not None and not 0 <= label < len(class_names):
                raise ValueError(f"labels[{i}] is {label}; class_names has the labels 0 to {len(class_names) - 1}")
            words[i].append(str(label) if class_names is None else class_names[label])
    if scores is not None:
        for i, score in enumerate(scores):
            words[i].append(f"{score:.2f}")
    return [" ".join(each) for each in words]


def _tag_text(text: str, color: str) -> Text:
    box = {"boxstyle": f"square,pad={_PADDING}", "facecolor": color, "edgecolor": "none"}
    return Text(
        0,
        0,
        text,
        fontsize=TEXT_SIZE,
        color=contrasting(color),
        ha="left",
        va="bottom",
        bbox=box,
        parse_math=False,
        transform=IdentityTransform(),
    )

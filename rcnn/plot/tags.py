"""Tags (text labels) of boxes, placed inside the axes and apart from each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.backend_bases import RendererBase
from matplotlib.text import Text
from matplotlib.transforms import Bbox, IdentityTransform

from rcnn.plot.style import TEXT_SIZE, clean, contrasting

_PADDING = 0.18  # space around the text of a tag, as a fraction of the font size
_TAG_ON_TAG = 20.0  # cost of hiding a part of a tag, relative to the cost of hiding an equal area of a box
_APART = 3.0  # extra cost of a position that does not touch the box, as a multiple of the tag's area


class Tags(Artist):
    """Artist with one tag per box: text on a background in the colour of the box.

    The positions are chosen each time the axes are drawn, because the sizes of texts and axes are known only then.

    Parameters
    ----------
    boxes : (N, 4) array
        N boxes, in data coordinates.
    texts : sequence of str
        Text of each of the N tags.
    colors : sequence of str
        Colour of each of the N tags.
    """

    def __init__(self, boxes: np.ndarray, texts: Sequence[str], colors: Sequence[str]) -> None:
        super().__init__()
        self.boxes = boxes
        self.texts = [_tag_text(text, color) for text, color in zip(texts, colors, strict=True)]
        self.set_zorder(5)
        self.set_in_layout(False)  # tags lie inside the axes and must not affect the layout

    def get_children(self) -> list[Artist]:
        """Return the text artists.

        Returns
        -------
        list of Artist
            Texts, in the order of the boxes.
        """
        return list(self.texts)

    def set_figure(self, fig: Any) -> None:
        """Set the figure of this artist and of its texts.

        Parameters
        ----------
        fig : Figure
            Figure that contains the artist.
        """
        super().set_figure(fig)
        for text in self.texts:
            text.set_figure(fig)

    def get_window_extent(self, renderer: RendererBase | None = None) -> Bbox:
        """Return the region that all tags cover together.

        Parameters
        ----------
        renderer : RendererBase, optional
            Renderer that measures the texts.

        Returns
        -------
        Bbox
            Region in dots; `Bbox.null()` if there are no tags.
        """
        visible = [text.get_window_extent(renderer) for text in self.texts]
        return Bbox.union(visible) if visible else Bbox.null()

    def draw(self, renderer: RendererBase) -> None:
        """Place the tags and draw them.

        Parameters
        ----------
        renderer : RendererBase
            Renderer to draw with.
        """
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
    """Choose the positions of tags near their boxes.

    Tags are placed one after the other. There are several candidate positions near each box. The cost of a position
    depends on the area of boxes and other tags that the tag would hide there. Hiding another tag costs more than hiding
    a box. The candidate with the lowest cost is chosen; in a tie, the first of them. The first candidate is above the
    box, aligned with its left side.

    Parameters
    ----------
    sizes : (N, 2) array
        Width and height of each tag, in dots.
    boxes : (N, 4) array
        Boxes in dots, with y pointing up.
    window : (4,) array
        Region that must contain the tags, in dots.

    Returns
    -------
    (N, 2) array
        Lower left corner of each tag, in dots.
    """
    placed = np.empty((0, 4))
    for size, box in zip(list(sizes), list(boxes), strict=True):
        corners, apart = _positions_around(box, size)  # (K, 2), (K,)
        corners = np.clip(corners, window[:2], np.maximum(window[2:] - size, window[:2]))
        fields = np.concatenate([corners, corners + size], axis=1)  # (K, 4)
        area = size.prod()
        on_tags, on_boxes = _overlap(fields, placed), _overlap(fields, boxes)  # (K,), (K,)
        on_tags[on_tags > 1e-6 * area] += area / 20  # even a narrow overlap is costly; touching is not
        # The cost of hiding boxes has a limit. Otherwise, in a crowd of boxes, tags would hide each other instead.
        cost = _TAG_ON_TAG * on_tags + np.minimum(on_boxes, 2 * area)  # (K,)
        # Each later candidate costs another hundredth of the tag's area, so the first of similar candidates is chosen.
        cost += area * (0.01 * np.arange(len(corners)) + _APART * apart)
        placed = np.concatenate([placed, fields[[cost.argmin()]]])
    return placed[:, :2]


def _positions_around(box: np.ndarray, size: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return K possible positions of a tag, (K, 2), the best one first, and a mask (K,).

    A position is the corner of the tag with the lowest x and y. The mask is True if the tag does not touch the box. The
    first eight positions are above, below and beside the box, and in its upper corners. The next ones are along its
    sides. The last ones are one to three lines above and below the box.
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
    """Return, for each of N `fields` (N, 4), the sum (N,) of its intersections with the M `boxes` (M, 4)."""
    low = np.maximum(fields[:, None, :2], boxes[None, :, :2])  # (N, M, 2)
    high = np.minimum(fields[:, None, 2:], boxes[None, :, 2:])  # (N, M, 2)
    return np.asarray(np.clip(high - low, 0, None).prod(axis=2).sum(axis=1))


def tag_texts(
    count: int, labels: np.ndarray | None, scores: np.ndarray | None, class_names: Sequence[str] | None
) -> list[str]:
    """Return the texts of tags: class, score, or both.

    Parameters
    ----------
    count : int
        Number of boxes, N.
    labels : (N,) array or None
        Label of each box; None leaves out the class.
    scores : (N,) array or None
        Score of each box; None leaves out the score.
    class_names : sequence of str or None
        Class names, indexed by label; with None, labels are shown as numbers.

    Returns
    -------
    list of str
        One text per box.

    Raises
    ------
    ValueError
        If a label has no name.
    """
    words: list[list[str]] = [[] for _ in range(count)]
    if labels is not None:
        for i, label in enumerate(labels):
            if class_names is not None and not 0 <= label < len(class_names):
                raise ValueError(
                    f"labels[{i}] must be in 0 .. {len(class_names) - 1}, the range of class_names, got {label}"
                )
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
        clean(text),
        fontsize=TEXT_SIZE,
        color=contrasting(color),
        ha="left",
        va="bottom",
        bbox=box,
        parse_math=False,
        transform=IdentityTransform(),
    )

"""Widget for anchors: choose sizes, ratios and a stride, and see how well the anchors cover the objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rcnn import anchors, boxes, evaluate, plot
from rcnn.course.widgets._explorer import Choice, Explorer, Range
from rcnn.data import Dataset

RATIOS: Mapping[str, tuple[float, ...]] = {
    "1": (1.0,),
    "1.4": (1.4,),
    "1 and 1.7": (1.0, 1.7),
    "1.2 and 1.6": (1.2, 1.6),
    "0.5, 1 and 2": (0.5, 1.0, 2.0),
}
STRIDES = (4, 8, 16)
SMALLEST = (6, 40)  # range of the smallest size, in pixels; with size 6 and ratio 2, an anchor is still 4 pixels wide


class _Items:
    """The items of a data set, kept in memory: sizes and targets for `evaluate.coverage`, and images to draw."""

    def __init__(self, dataset: Dataset) -> None:
        self.items = [dataset[i] for i in range(len(dataset))]
        shapes = {image.shape[:2] for image, _ in self.items}
        if len(shapes) != 1:
            raise ValueError(f"all images of dataset must have the same size, got {sorted(shapes) or 'no images'}")
        self.size: tuple[int, int] = shapes.pop()

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> tuple[np.ndarray, Mapping[str, np.ndarray]]:
        return self.items[index]

    def annotation(self, index: int) -> tuple[tuple[int, int], Mapping[str, np.ndarray]]:
        return self.size, self.items[index][1]


def anchor_painter(dataset: Dataset, index: int = 0) -> Explorer:
    """Return an explorer of anchors on the images of a data set.

    The left plot shows the anchors of one cell. The middle plot shows the best anchor of each object with its IoU. The
    right plot is a histogram of the best IoU of every object in all images. The images are not resized.

    Parameters
    ----------
    dataset : Dataset
        Data set with images of equal size.
    index : int, optional
        Index of the image to show first.

    Returns
    -------
    Explorer
        The explorer.

    Raises
    ------
    ValueError
        If there are no images or their sizes differ.
    """
    items = _Items(dataset)

    def _draw_at(
        figure: Any, index: int, smallest_size: float, number_of_sizes: int, factor: float, ratios: str, stride: int
    ) -> None:
        sizes = [smallest_size * factor**i for i in range(int(number_of_sizes))]
        _draw(figure, items, int(index), sizes, RATIOS[ratios], stride)

    controls: dict[str, Range | Choice] = {
        "index": Range(0, len(items) - 1, index),
        "smallest_size": Range(*SMALLEST, 16),
        "number_of_sizes": Range(1, 6, 3),
        "factor": Range(1.1, 2.5, 2.0, 0.1),
        "ratios": Choice(list(RATIOS), "0.5, 1 and 2"),
        "stride": Choice(STRIDES, 8),
    }
    fitted = {"smallest_size": 12, "factor": 1.5, "ratios": "1.4"}
    alt = (
        "Three rows: anchors with sizes 16, 32 and 64 and ratios 0.5, 1 and 2; anchors with sizes 12, 18 and 27 and "
        "ratio 1.4; the same anchors at stride 4. Each row shows the anchors of one cell, the best anchor of each "
        "object with its IoU, and a histogram of the best IoU of all objects."
    )
    return Explorer(_draw_at, controls, [{}, fitted, {**fitted, "stride": 4}], alt, size=(10.5, 4.0))


def _draw(figure: Any, items: _Items, index: int, sizes: Sequence[float], ratios: Sequence[float], stride: int) -> None:
    """Draw the three plots."""
    image, target = items[index]
    objects = target["boxes"]  # (G, 4)
    cell = anchors.cell_anchors(sizes, ratios)  # (k, 4)
    feature_size = (-(-items.size[0] // stride), -(-items.size[1] // stride))
    grid = anchors.grid_anchors(cell, feature_size, (stride, stride))  # (A, 4)
    iou = boxes.iou(grid, objects)  # (A, G)
    best = grid[iou.argmax(axis=0)] if len(objects) else objects  # (G, 4)
    covered = evaluate.coverage(
        items,
        anchors.AnchorGenerator(tuple(sizes), tuple(ratios)),
        [(stride, stride)],
        min(items.size),
        max(items.size),
        progress=False,
    )
    left, middle, right = figure.subplots(1, 3)
    plot.title(
        plot.anchor_level(left, image, grid),
        f"{len(cell)} anchors per cell, stride {stride}",
        f"sizes {', '.join(f'{size:.3g}' for size in sizes)}",
    )
    plot.title(
        plot.best_anchors(middle, image, objects, best, iou.max(axis=0, initial=0)),
        "Best anchor of each object",
        f"of {len(grid):,} anchors",
    )
    plot.title(
        plot.coverage_histogram(right, covered.best_iou),
        "Best IoU, all images",
        f"ratios {', '.join(f'{ratio:g}' for ratio in ratios)}",
    )

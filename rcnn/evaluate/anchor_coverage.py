"""How well anchors cover the objects of a data set: what the RPN has to start from.

An RPN moves anchors onto objects, and learns to from the anchors that overlap an object well (Ren et al., "Faster
R-CNN", 2015, section 3.1.2). An object that no anchor overlaps by half is hard to learn and hard to find.

No anchor is laid here. The anchors of one shape differ in their places alone, and the overlap of two intervals never
grows with the distance of their centres. Rows and columns are chosen apart from each other, so the anchor at the row
and the column nearest to an object's centre has the highest intersection with it, and thereby the highest IoU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rcnn._validate import check_pair
from rcnn.anchors import AnchorGenerator
from rcnn.evaluate.anchor_objects import Images, Objects, collect

NONE = -1  # the level and the cell anchor of an object that no anchor overlaps
THRESHOLDS = (0.5, 0.7)
RATIO_EDGES = (0.125, 0.25, 0.5, 0.8, 1.25, 2.0, 4.0, 8.0)
ROUNDING = 1e-9  # an IoU below a threshold by no more than this equals it


@dataclass(frozen=True)
class CoverageRow:
    """The objects within a range of sizes or of ratios, `low` <= value < `high`; inf where it has no end."""

    low: float
    high: float
    num_objects: int
    mean_iou: float
    """The mean of their best IoU."""
    recall: tuple[float, ...]
    """The share with a best IoU of at least 0.5, and of at least 0.7."""
    num_positive: float
    """The mean number of anchors per object with an IoU of at least `fg_iou_thresh`."""


@dataclass(frozen=True, eq=False)
class Coverage:
    """How well the anchors overlap each object; sizes in pixels of the batch. `str()` of it is a report."""

    best_iou: np.ndarray
    """(G,) the highest IoU that an anchor has with each object."""
    levels: np.ndarray
    """(G,) int64, the level of that anchor, the first of equals; -1 where no anchor overlaps the object."""
    cells: np.ndarray
    """(G,) int64, which of its level's cell anchors it is; -1 likewise."""
    num_positive: np.ndarray
    """(G,) int64, how many anchors have an IoU of at least `fg_iou_thresh` with each object."""
    sizes: np.ndarray
    """(G,) square root of each object's area."""
    ratios: np.ndarray
    """(G,) height / width of each object."""
    images: np.ndarray
    """(G,) int64, the index of each object's image in the data set."""
    num_images: int
    fg_iou_thresh: float

    def recall(self, threshold: float) -> float:
        """The share of the objects whose best IoU is at least `threshold`; NaN if there is no object."""
        if not 0 <= threshold <= 1:
            raise ValueError(f"threshold must be between 0 and 1, got {threshold!r}")
        return _mean(self.best_iou >= threshold - ROUNDING)

    @property
    def mean_iou(self) -> float:
        """The mean of `best_iou`; NaN if there is no object."""
        return _mean(self.best_iou)

    def by_size(self) -> list[CoverageRow]:
        """A row for every doubling of the size that holds objects, by rising size."""
        return self._rows(self.sizes, 2.0 ** np.arange(-10, 31))

    def by_ratio(self) -> list[CoverageRow]:
        """A row for every range of the ratio that holds objects, by rising ratio; the middle one is about square."""
        return self._rows(self.ratios, np.array(RATIO_EDGES))

    def __str__(self) -> str:
        if not len(self.best_iou):
            return f"no objects in {self.num_images:,} images"
        recalls = ", ".join(f"of at least {t:g} for {self.recall(t):.1%}" for t in THRESHOLDS)
        return "\n".join(
            [
                f"{len(self.best_iou):,} objects in {self.num_images:,} images",
                f"best IoU with an anchor: {self.mean_iou:.2f} on average, {recalls} of the objects",
                f"anchors with an IoU of at least {self.fg_iou_thresh:g}: {_mean(self.num_positive):.1f} per object",
                "",
                _table("size (pixels)", self.by_size(), self.fg_iou_thresh),
                "",
                _table("height / width", self.by_ratio(), self.fg_iou_thresh),
            ]
        )

    def _rows(self, values: np.ndarray, edges: np.ndarray) -> list[CoverageRow]:
        """The rows of the ranges that `edges` (E,) divide `values` (G,) into, but for those without objects."""
        ends = np.concatenate([[0.0], edges, [np.inf]])
        ranges = np.searchsorted(edges, values, side="right")  # (G,)
        return [self._row(float(ends[i]), float(ends[i + 1]), ranges == i) for i in np.unique(ranges)]

    def _row(self, low: float, high: float, members: np.ndarray) -> CoverageRow:
        best = self.best_iou[members]
        return CoverageRow(
            low,
            high,
            len(best),
            _mean(best),
            tuple(_mean(best >= t - ROUNDING) for t in THRESHOLDS),
            _mean(self.num_positive[members]),
        )


def coverage(
    dataset: Images,
    generator: AnchorGenerator,
    strides: Sequence[Sequence[int]],
    min_size: int,
    max_size: int,
    fg_iou_thresh: float = 0.7,
    progress: bool = True,
) -> Coverage:
    """How well the anchors that `generator` would lay on the images of `dataset` overlap their objects.

    Objects marked "difficult" or "crowd" do not count. Every image is taken as a batch of its own; together with a
    larger one it would be padded further, which adds anchors at its right and bottom.

    Args:
        dataset: a `Dataset`; where it has `annotation(i) -> ((height, width), target)`, no image is decoded.
        generator: the anchors, such as `model.anchor_generator`.
        strides: (rows, columns) of every level, as from `model.strides()`; ceil(side / stride) positions lie along a
            padded side.
        min_size, max_size: of the config; they decide how an image is resized.
        fg_iou_thresh: the IoU from which an anchor is positive, the config's `rpn_fg_iou_thresh`.
        progress: whether to show a bar.

    Raises ValueError for another number of levels than the generator's, and as `collect`.
    """
    generator.cells_of(len(strides), "strides")  # what does not fit shall fail before the images are read
    return measure(collect(dataset, min_size, max_size, progress), generator, strides, fg_iou_thresh)


def measure(
    objects: Objects, generator: AnchorGenerator, strides: Sequence[Sequence[int]], fg_iou_thresh: float = 0.7
) -> Coverage:
    """The coverage of `objects`; see `coverage`."""
    if not 0 < fg_iou_thresh <= 1:
        raise ValueError(f"fg_iou_thresh must be above 0 and at most 1, got {fg_iou_thresh!r}")
    best_iou = np.zeros(len(objects))
    levels, cells, num_positive = (np.full(len(objects), fill, np.int64) for fill in (NONE, NONE, 0))
    for level, (cell, stride) in enumerate(zip(generator.cells_of(len(strides), "strides"), strides, strict=True)):
        grid = lay_grid(objects, stride, generator.offset)
        for index, sides in enumerate(anchor_sides(cell).T):
            iou = nearest_iou(objects.sides, sides, grid.distances)  # (G,)
            better = iou > best_iou
            best_iou[better], levels[better], cells[better] = iou[better], level, index
            covered = np.flatnonzero(iou >= fg_iou_thresh - ROUNDING)  # (C,)
            num_positive[covered] += _count_positive(objects, sides, grid, covered, fg_iou_thresh)
    return Coverage(
        best_iou,
        levels,
        cells,
        num_positive,
        objects.sizes,
        objects.ratios,
        objects.images,
        objects.num_images,
        fg_iou_thresh,
    )


# ---------------------------------------------------------------------- the arithmetic of one grid

# Arrays of two rows hold heights and widths, or what lies along y and along x.


@dataclass(frozen=True, eq=False)
class Grid:
    """The positions of one level on the image of each object: (index + offset) * stride, index < count.

    strides, counts: (2, G) int64.
    offset: as of the anchor generator.
    distances: (2, G) from each object's centre to the nearest position.
    """

    strides: np.ndarray
    counts: np.ndarray
    offset: float
    distances: np.ndarray


def lay_grid(objects: Objects, stride: Sequence[int], offset: float) -> Grid:
    """The grid of the level with this (rows, columns) stride.

    The anchors' stride is measured as the generator does, for the positions of a map that does not divide its image
    evenly lie closer than its nominal stride: 13 positions of stride 64 on 800 pixels are 61 apart.
    """
    counts = -(-objects.padded // np.array(check_pair(stride, "stride"))[:, None])  # (2, G)
    strides = objects.padded // counts  # (2, G)
    nearest = np.clip(np.rint(objects.centres / strides - offset), 0, counts - 1)  # (2, G)
    return Grid(strides, counts, offset, np.abs(objects.centres - (nearest + offset) * strides))


def anchor_sides(cell: np.ndarray) -> np.ndarray:
    """The heights and widths of cell anchors (A, 4), (2, A) float64; they are centred on the origin."""
    corners = cell.T.astype(np.float64)
    return corners[[3, 2]] - corners[[1, 0]]


def nearest_iou(object_sides: np.ndarray, sides: np.ndarray, distances: np.ndarray) -> np.ndarray:
    """IoU (..., G) of each object with the nearest anchor of each of some shapes.

    object_sides: (2, G). sides: (2, ...) of the anchors. distances: (2, ..., G) between the two centres.
    """
    intersection: np.ndarray | float = 1.0
    for of_objects, of_anchors, distance in zip(object_sides, sides[..., None], distances, strict=True):
        overlap = np.minimum(np.minimum(of_objects, of_anchors), (of_objects + of_anchors) / 2 - distance)
        intersection = intersection * np.maximum(overlap, 0)  # (..., G)
    return intersection / (object_sides.prod(axis=0) + sides.prod(axis=0)[..., None] - intersection)


def _count_positive(
    objects: Objects, sides: np.ndarray, grid: Grid, chosen: np.ndarray, threshold: float
) -> np.ndarray:
    """How many anchors of `sides` (2,) overlap each of the `chosen` (C,) objects by at least `threshold`, (C,).

    An IoU of t needs an intersection of t / (1 + t) of the summed areas. Row by row, that says how much of the width
    must overlap, and so how far from the object's centre a column may lie.
    """
    t = threshold - ROUNDING
    object_sides = objects.sides[:, chosen]  # (2, C)
    shorter = np.minimum(object_sides, sides[:, None])  # (2, C)
    touching = (object_sides + sides[:, None]) / 2  # (2, C), between the centres
    needed = t / (1 + t) * (object_sides.prod(axis=0) + sides.prod())  # (C,) of intersection
    first, last = _positions(objects, grid, chosen, 0, touching[0] - needed / shorter[1])
    num_rows = last - first + 1  # (C,)
    total = np.zeros(len(chosen), np.int64)
    for row in range(int(num_rows.max(initial=0))):
        y = (first + row + grid.offset) * grid.strides[0, chosen]
        overlap = np.minimum(shorter[0], touching[0] - np.abs(y - objects.centres[0, chosen]))  # (C,)
        overlap = np.maximum(overlap, needed / shorter[1])  # is less only below the last row, where it may be 0
        left, right = _positions(objects, grid, chosen, 1, touching[1] - needed / overlap)
        total += np.where(row < num_rows, np.maximum(right - left + 1, 0), 0)
    return total


def _positions(
    objects: Objects, grid: Grid, chosen: np.ndarray, axis: int, reach: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(first, last), (C,) int64 each: the positions along an axis no farther than `reach` (C,) from the centres."""
    centres, strides = objects.centres[axis, chosen], grid.strides[axis, chosen]
    first = np.ceil((centres - reach) / strides - grid.offset)
    last = np.floor((centres + reach) / strides - grid.offset)
    return (np.maximum(first, 0).astype(np.int64), np.minimum(last, grid.counts[axis, chosen] - 1).astype(np.int64))


# ---------------------------------------------------------------------- text


def _mean(values: np.ndarray) -> float:
    """The mean; NaN, without NumPy's warning, of nothing."""
    return float(values.mean()) if len(values) else float("nan")


def _table(heading: str, rows: Sequence[CoverageRow], fg_iou_thresh: float) -> str:
    """The rows as text, a line each under a line of headings."""
    titles = (heading, "objects", "mean IoU", *(f"recall {t:g}" for t in THRESHOLDS), f"anchors >= {fg_iou_thresh:g}")
    lines = [titles]
    for row in rows:
        lines.append(
            (
                _range_text(row.low, row.high),
                f"{row.num_objects:,}",
                f"{row.mean_iou:.2f}",
                *(f"{share:.3f}" for share in row.recall),
                f"{row.num_positive:.1f}",
            )
        )
    return "\n".join(
        f"{line[0]:16}" + "".join(f"{cell:>{len(title) + 3}}" for cell, title in zip(line[1:], titles[1:], strict=True))
        for line in lines
    )


def _range_text(low: float, high: float) -> str:
    if low == 0:
        return f"below {high:g}"
    return f"{low:g} and above" if np.isinf(high) else f"{low:g} to {high:g}"

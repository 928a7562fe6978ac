"""Anchor coverage: the overlap of a data set's objects with the anchors from which the RPN starts.

An RPN moves anchors onto objects. It is trained on the anchors that overlap an object well (Ren et al., "Faster R-CNN",
2015, section 3.1.2). An object that no anchor overlaps by half is hard to learn and hard to find.

No anchor is computed here. The anchors of one shape differ only in their positions, and the overlap of two intervals
never grows with the distance of their centres. Rows and columns are independent. So the anchor at the row and column
nearest to an object's centre has the largest intersection with it, and thereby the highest IoU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rcnn._validate import check_pair
from rcnn.anchors import AnchorGenerator
from rcnn.evaluate.anchor_objects import Images, Objects, collect

NONE = -1  # level and cell anchor of an object that no anchor overlaps
THRESHOLDS = (0.5, 0.7)
RATIO_EDGES = (0.125, 0.25, 0.5, 0.8, 1.25, 2.0, 4.0, 8.0)
ROUNDING = 1e-9  # an IoU that is below a threshold by at most this counts as equal


@dataclass(frozen=True)
class CoverageRow:
    """The coverage of the objects in one range of sizes or ratios.

    Attributes
    ----------
    low, high : float
        The range, `low` <= value < `high`; `high` is inf for the last one.
    num_objects : int
        Objects in the range.
    mean_iou : float
        The mean of their best IoU.
    recall : tuple of float
        The fraction with a best IoU of at least 0.5, and of at least 0.7.
    num_positive : float
        The mean number of anchors per object with an IoU of at least `fg_iou_thresh`.
    """

    low: float
    high: float
    num_objects: int
    mean_iou: float
    recall: tuple[float, ...]
    num_positive: float


@dataclass(frozen=True, eq=False)
class Coverage:
    """The overlap of each object with the anchors. `str()` returns a report; sizes are in pixels of the batch.

    Attributes
    ----------
    best_iou : (G,) array
        The highest IoU of each object with an anchor.
    levels : (G,) int64 array
        The level of that anchor; ties keep the first, -1 if no anchor overlaps the object.
    cells : (G,) int64 array
        The index of that anchor among its level's cell anchors; -1 likewise.
    num_positive : (G,) int64 array
        The number of anchors with an IoU of at least `fg_iou_thresh` with each object.
    sizes : (G,) array
        The square root of each object's area.
    ratios : (G,) array
        height / width of each object.
    images : (G,) int64 array
        The index of each object's image in the data set.
    num_images : int
        Images in the data set.
    fg_iou_thresh : float
        The IoU from which an anchor is positive.
    """

    best_iou: np.ndarray
    levels: np.ndarray
    cells: np.ndarray
    num_positive: np.ndarray
    sizes: np.ndarray
    ratios: np.ndarray
    images: np.ndarray
    num_images: int
    fg_iou_thresh: float

    def recall(self, threshold: float) -> float:
        """Return the fraction of the objects whose best IoU is at least `threshold`.

        Parameters
        ----------
        threshold : float
            The IoU, in [0, 1].

        Returns
        -------
        float
            In [0, 1]; NaN without objects.

        Raises
        ------
        ValueError
            If the threshold is not in [0, 1].
        """
        if not 0 <= threshold <= 1:
            raise ValueError(f"threshold must be between 0 and 1, got {threshold!r}")
        return _mean(self.best_iou >= threshold - ROUNDING)

    @property
    def mean_iou(self) -> float:
        """The mean of `best_iou`.

        Returns
        -------
        float
            In [0, 1]; NaN without objects.
        """
        return _mean(self.best_iou)

    def by_size(self) -> list[CoverageRow]:
        """Return the coverage by size, a row for every factor of 2.

        Returns
        -------
        list of CoverageRow
            In ascending order, without ranges that have no objects.
        """
        return self._rows(self.sizes, 2.0 ** np.arange(-10, 31))

    def by_ratio(self) -> list[CoverageRow]:
        """Return the coverage by height / width, in the ranges between `RATIO_EDGES`.

        The middle range holds nearly square objects.

        Returns
        -------
        list of CoverageRow
            In ascending order, without ranges that have no objects.
        """
        return self._rows(self.ratios, np.array(RATIO_EDGES))

    def __str__(self) -> str:
        if not len(self.best_iou):
            return f"no objects in {self.num_images:,} images"
        recalls = " and ".join(f">= {t:g} for {self.recall(t):.1%}" for t in THRESHOLDS)
        return "\n".join(
            [
                f"{len(self.best_iou):,} objects in {self.num_images:,} images",
                f"best IoU with an anchor: {self.mean_iou:.2f} on average; {recalls} of the objects",
                f"anchors with an IoU of at least {self.fg_iou_thresh:g}: {_mean(self.num_positive):.1f} per object",
                "",
                _table("size (pixels)", self.by_size(), self.fg_iou_thresh),
                "",
                _table("height / width", self.by_ratio(), self.fg_iou_thresh),
            ]
        )

    def _rows(self, values: np.ndarray, edges: np.ndarray) -> list[CoverageRow]:
        """Return the rows of the ranges between `edges` (E,) that contain some of `values` (G,)."""
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
    """Return the overlap of the objects of a data set with the anchors of their images.

    Objects marked "difficult" or "crowd" do not count. Every image is taken as a batch of its own. In a batch with a
    larger image it would be padded further, which adds anchors at its right and bottom.

    Parameters
    ----------
    dataset : Dataset
        If it has `annotation(i) -> ((height, width), target)`, no image is decoded.
    generator : AnchorGenerator
        The anchors, such as `model.anchor_generator`.
    strides : sequence of (rows, columns)
        The stride of every level in pixels, such as `model.strides()`; a padded side has ceil(side / stride) positions.
    min_size, max_size : int
        Those of the config: the limits of the short and of the long side of a resized image, in pixels.
    fg_iou_thresh : float
        The IoU from which an anchor is positive, the config's `rpn_fg_iou_thresh`.
    progress : bool
        If True, a progress bar is shown.

    Returns
    -------
    Coverage
        One entry per object.

    Raises
    ------
    ValueError
        If the number of levels is not that of the generator, `fg_iou_thresh` is not in (0, 1], sizes are invalid, or a
        box is not finite or is empty; the message names image and box.
    """
    generator.cells_of(len(strides), "strides")  # fail before the images are read
    return measure(collect(dataset, min_size, max_size, progress), generator, strides, fg_iou_thresh)


def measure(
    objects: Objects, generator: AnchorGenerator, strides: Sequence[Sequence[int]], fg_iou_thresh: float = 0.7
) -> Coverage:
    """Return the coverage of objects that have been collected; see `coverage`.

    Parameters
    ----------
    objects : Objects
        The objects, from `collect`.
    generator : AnchorGenerator
        The anchors.
    strides : sequence of (rows, columns)
        The stride of every level, in pixels.
    fg_iou_thresh : float
        The IoU from which an anchor is positive, in (0, 1].

    Returns
    -------
    Coverage
        One entry per object.

    Raises
    ------
    ValueError
        If the number of levels is not that of the generator, or `fg_iou_thresh` is not in (0, 1].
    """
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


# ---------------------------------------------------------------------- arithmetic of one grid

# Arrays of two rows hold heights and widths, or values along y and along x.


@dataclass(frozen=True, eq=False)
class Grid:
    """The anchor positions of one level on the image of each object: (index + offset) * stride, index < count.

    Attributes
    ----------
    strides, counts : (2, G) int64 array
        Step in pixels, and number of positions, along y and along x.
    offset : float
        That of the anchor generator.
    distances : (2, G) array
        From each object's centre to the nearest position, in pixels.
    """

    strides: np.ndarray
    counts: np.ndarray
    offset: float
    distances: np.ndarray


def lay_grid(objects: Objects, stride: Sequence[int], offset: float) -> Grid:
    """Return the anchor positions of one level.

    The stride is measured as the generator measures it. On a map that does not divide its image evenly, positions are
    closer than the nominal stride: 13 positions of stride 64 on 800 pixels are 61 apart.

    Parameters
    ----------
    objects : Objects
        The objects and the sizes of their images.
    stride : (rows, columns)
        The nominal stride of the level, in pixels.
    offset : float
        That of the anchor generator.

    Returns
    -------
    Grid
        One entry per object.
    """
    counts = -(-objects.padded // np.array(check_pair(stride, "stride"))[:, None])  # (2, G)
    strides = objects.padded // counts  # (2, G)
    nearest = np.clip(np.rint(objects.centres / strides - offset), 0, counts - 1)  # (2, G)
    return Grid(strides, counts, offset, np.abs(objects.centres - (nearest + offset) * strides))


def anchor_sides(cell: np.ndarray) -> np.ndarray:
    """Return the heights and widths of cell anchors.

    Parameters
    ----------
    cell : (A, 4) array
        Boxes centred on the origin, in pixels.

    Returns
    -------
    (2, A) float64 array
        Heights and widths.
    """
    corners = cell.T.astype(np.float64)
    return corners[[3, 2]] - corners[[1, 0]]


def nearest_iou(object_sides: np.ndarray, sides: np.ndarray, distances: np.ndarray) -> np.ndarray:
    """Return the IoU of each object with the nearest anchor of each shape.

    Parameters
    ----------
    object_sides : (2, G) array
        Heights and widths of the objects, in pixels.
    sides : (2, ...) array
        Heights and widths of the anchors.
    distances : (2, ..., G) array
        Distances between the centres of object and anchor, along y and along x.

    Returns
    -------
    (..., G) array
        The IoUs.
    """
    intersection: np.ndarray | float = 1.0
    for of_objects, of_anchors, distance in zip(object_sides, sides[..., None], distances, strict=True):
        overlap = np.minimum(np.minimum(of_objects, of_anchors), (of_objects + of_anchors) / 2 - distance)
        intersection = intersection * np.maximum(overlap, 0)  # (..., G)
    return intersection / (object_sides.prod(axis=0) + sides.prod(axis=0)[..., None] - intersection)


def _count_positive(
    objects: Objects, sides: np.ndarray, grid: Grid, chosen: np.ndarray, threshold: float
) -> np.ndarray:
    """Return, for each `chosen` (C,) object, the number of anchors of `sides` (2,) with an IoU of `threshold`, (C,).

    An IoU of t requires an intersection of t / (1 + t) of the summed areas. For a given row, that determines how much
    of the width must overlap, and so how far from the object's centre a column may be.
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
        overlap = np.maximum(overlap, needed / shorter[1])  # smaller only below the last row, where it may be 0
        left, right = _positions(objects, grid, chosen, 1, touching[1] - needed / overlap)
        total += np.where(row < num_rows, np.maximum(right - left + 1, 0), 0)
    return total


def _positions(
    objects: Objects, grid: Grid, chosen: np.ndarray, axis: int, reach: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the first and the last position (C,) int64 along an axis within `reach` (C,) of the centres."""
    centres, strides = objects.centres[axis, chosen], grid.strides[axis, chosen]
    first = np.ceil((centres - reach) / strides - grid.offset)
    last = np.floor((centres + reach) / strides - grid.offset)
    return (np.maximum(first, 0).astype(np.int64), np.minimum(last, grid.counts[axis, chosen] - 1).astype(np.int64))


# ---------------------------------------------------------------------- text


def _mean(values: np.ndarray) -> float:
    """Return the mean; NaN, without NumPy's warning, of an empty array."""
    return float(values.mean()) if len(values) else float("nan")


def _table(heading: str, rows: Sequence[CoverageRow], fg_iou_thresh: float) -> str:
    """Return the rows as a text table with a line of headings."""
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

"""Anchor coverage: how well the anchors of the RPN overlap the objects of a data set.

An RPN moves anchors onto objects. It is trained on the anchors that overlap an object well (Ren et al., "Faster R-CNN",
2015, section 3.1.2). An object is hard to learn and hard to find if no anchor has an IoU of at least 0.5 with it.

This module does not compute the anchors one by one. The anchors of one shape differ only in their positions. Their
overlap with an object in height depends only on the row, and their overlap in width depends only on the column. Neither
overlap grows if the distance between the two centres grows. Therefore, the anchor in the row and the column that are
nearest to the object's centre has the largest intersection with the object, and also the highest IoU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rcnn._validate import FRACTION, MOST_LEVELS, check_pair, check_sequence, integer, shown
from rcnn.anchors import AnchorGenerator
from rcnn.evaluate.anchor_objects import Images, Objects, collect
from rcnn.evaluate.voc import IOU_THRESHOLD

NONE = -1  # the level and the cell anchor of an object that no anchor overlaps
THRESHOLDS = (0.5, 0.7)
RATIO_EDGES = (0.125, 0.25, 0.5, 0.8, 1.25, 2.0, 4.0, 8.0)
ROUNDING = 1e-9  # an IoU that is lower than a threshold by at most this much still reaches it


@dataclass(frozen=True)
class CoverageRow:
    """The coverage of the objects in one range of sizes or ratios.

    Attributes
    ----------
    low, high : float
        The range, `low` <= value < `high`. In the last range, `high` is inf.
    num_objects : int
        The number of objects in the range.
    mean_iou : float
        The mean, over the objects, of each object's highest IoU with an anchor.
    recall : tuple of float
        The fraction of the objects whose best IoU is at least 0.5, and the fraction whose best IoU is at least 0.7.
    num_positive : float
        The mean, over the objects, of the number of anchors whose IoU with the object is at least `fg_iou_thresh`.
    """

    low: float
    high: float
    num_objects: int
    mean_iou: float
    recall: tuple[float, ...]
    num_positive: float


@dataclass(frozen=True, eq=False)
class Coverage:
    """The overlap of each of G objects with the anchors. `str()` returns a report.

    Attributes
    ----------
    best_iou : (G,) array
        The highest IoU of each object with an anchor.
    levels : (G,) int64 array
        The level of the anchor with the highest IoU. In a tie, it is the first level; without any overlap, it is -1.
    cells : (G,) int64 array
        The index of the same anchor among the cell anchors of its level; -1 if no anchor overlaps the object.
    num_positive : (G,) int64 array
        For each object, the number of anchors whose IoU with it is at least `fg_iou_thresh`.
    sizes : (G,) array
        The square root of each object's area, in pixels of the resized images.
    ratios : (G,) array
        The height of each object divided by its width.
    images : (G,) int64 array
        The index of each object's image in the data set.
    num_images : int
        The number of images in the data set.
    fg_iou_thresh : float
        The lowest IoU at which an anchor is positive.
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
            The IoU threshold, in [0, 1].

        Returns
        -------
        float
            A value in [0, 1]; NaN if there are no objects.

        Raises
        ------
        TypeError, ValueError
            If the threshold is not a number in [0, 1].
        """
        threshold = FRACTION.check("threshold", threshold)
        return _mean(self.best_iou >= threshold - ROUNDING)

    @property
    def mean_iou(self) -> float:
        """The mean of `best_iou`.

        Returns
        -------
        float
            A value in [0, 1]; NaN if there are no objects.
        """
        return _mean(self.best_iou)

    def by_size(self) -> list[CoverageRow]:
        """Return the coverage by size. In each row, the sizes span a factor of 2.

        Returns
        -------
        list of CoverageRow
            The rows in ascending order, without ranges that contain no objects.
        """
        return self._rows(self.sizes, 2.0 ** np.arange(-10, 31))

    def by_ratio(self) -> list[CoverageRow]:
        """Return the coverage by height / width, with one row for each range between `RATIO_EDGES`.

        The middle range contains objects that are nearly square.

        Returns
        -------
        list of CoverageRow
            The rows in ascending order, without ranges that contain no objects.
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
        """Return a row for each range between `edges` (E,) that contains at least one of the `values` (G,)."""
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

    Objects marked "difficult" or "crowd" do not count. Every image is treated as a separate batch. In a batch with a
    larger image, an image would have more padding, and therefore more anchors at the right and at the bottom.

    Parameters
    ----------
    dataset : Dataset
        The data set. If it has an `annotation(i)` method, which returns ((height, width), target), its images are not
        decoded.
    generator : AnchorGenerator
        The anchor generator, such as `model.anchor_generator`.
    strides : sequence of (rows, columns)
        The stride of each level in pixels, from 1 to 2^20, for example `model.strides()`. The number of anchor
        positions along a side of the padded image is ceil(side / stride).
    min_size, max_size : int
        The config fields of these names: the upper limits of the shorter and of the longer side of a resized image, in
        pixels, from 1 to 2^14.
    fg_iou_thresh : float
        The lowest IoU at which an anchor is positive; the config field is `rpn_fg_iou_thresh`.
    progress : bool
        If True, show a progress bar.

    Returns
    -------
    Coverage
        The coverage of each object.

    Raises
    ------
    TypeError, ValueError
        If the strides or the sizes are invalid, if the generator has another number of levels, if `fg_iou_thresh` is
        not in (0, 1], or if a box is not finite or is empty. For a box, the message names the image and the box.
    """
    check_generator(generator)
    check_strides(strides)
    generator.cells_of(len(strides), "strides")  # check the number of levels before the images are read
    IOU_THRESHOLD.check("fg_iou_thresh", fg_iou_thresh)
    return measure(collect(dataset, min_size, max_size, progress), generator, strides, fg_iou_thresh)


def measure(
    objects: Objects, generator: AnchorGenerator, strides: Sequence[Sequence[int]], fg_iou_thresh: float = 0.7
) -> Coverage:
    """Return the coverage of objects that `collect` returned.

    Parameters
    ----------
    objects : Objects
        The objects, from `collect`.
    generator : AnchorGenerator
        The anchor generator.
    strides : sequence of (rows, columns)
        The stride of each level in pixels, from 1 to 2^20.
    fg_iou_thresh : float
        The lowest IoU at which an anchor is positive, in (0, 1].

    Returns
    -------
    Coverage
        The coverage of each object.

    Raises
    ------
    TypeError, ValueError
        If the strides or `fg_iou_thresh` are invalid, or if the generator has another number of levels.
    """
    fg_iou_thresh = IOU_THRESHOLD.check("fg_iou_thresh", fg_iou_thresh)
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


def check_generator(generator: AnchorGenerator) -> None:
    """Raise TypeError unless the argument is an anchor generator.

    Parameters
    ----------
    generator : AnchorGenerator
        The anchor generator.

    Raises
    ------
    TypeError
        If `generator` is something else.
    """
    if not isinstance(generator, AnchorGenerator):
        raise TypeError(f"generator must be an AnchorGenerator, got {shown(generator)}")


def check_strides(strides: Sequence[Sequence[int]]) -> None:
    """Raise TypeError or ValueError unless the strides are 1 to 64 pairs (rows, columns), one for each level.

    Parameters
    ----------
    strides : sequence of (rows, columns)
        The stride of each level in pixels, from 1 to 2^20.

    Raises
    ------
    TypeError, ValueError
        If the strides are invalid.
    """
    check_sequence(strides, "strides")
    integer(1, MOST_LEVELS).check("the number of levels in strides", len(strides))
    for level, stride in enumerate(strides):
        check_pair(stride, f"strides[{level}]")


# ---------------------------------------------------------------------- arithmetic of one grid

# An array with two rows contains heights and widths, or values along y and along x.


@dataclass(frozen=True, eq=False)
class Grid:
    """The anchor positions of one level, in the images that contain the G objects.

    The positions along an axis are (index + offset) * stride, with index = 0, ..., count - 1.

    Attributes
    ----------
    strides, counts : (2, G) int64 array
        The step between positions in pixels, and the number of positions, along y and along x.
    offset : float
        The offset of the anchor generator.
    distances : (2, G) array
        The distance from each object's centre to the nearest position along y and along x, in pixels.
    """

    strides: np.ndarray
    counts: np.ndarray
    offset: float
    distances: np.ndarray


def lay_grid(objects: Objects, stride: Sequence[int], offset: float) -> Grid:
    """Return, for each object, the grid of anchor positions of one level in the image that contains the object.

    The step between positions is measured as in the anchor generator: it is the side of the padded image divided by the
    number of positions, rounded down. It can be smaller than the nominal stride. For example, a level with stride 64
    has 13 positions along 800 pixels, and they are 61 pixels apart.

    Parameters
    ----------
    objects : Objects
        The objects and the sizes of their images.
    stride : (rows, columns)
        The nominal stride of the level, in pixels.
    offset : float
        The offset of the anchor generator.

    Returns
    -------
    Grid
        The positions, with one entry for each object.
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
        The A cell anchors of a level: boxes centred on the origin, in pixels.

    Returns
    -------
    (2, A) float64 array
        The heights, then the widths.
    """
    corners = cell.T.astype(np.float64)
    return corners[[3, 2]] - corners[[1, 0]]


def nearest_iou(object_sides: np.ndarray, sides: np.ndarray, distances: np.ndarray) -> np.ndarray:
    """Return the IoU of each object with the nearest anchor of each shape.

    Parameters
    ----------
    object_sides : (2, G) array
        The heights and widths of G objects, in pixels.
    sides : (2, ...) array
        The heights and widths of the anchor shapes, in pixels.
    distances : (2, ..., G) array
        The distance between the centre of each object and the centre of the anchor, along y and along x.

    Returns
    -------
    (..., G) array
        The IoU for each anchor shape and object.
    """
    intersection: np.ndarray | float = 1.0
    for of_objects, of_anchors, distance in zip(object_sides, sides[..., None], distances, strict=True):
        overlap = np.minimum(np.minimum(of_objects, of_anchors), (of_objects + of_anchors) / 2 - distance)
        intersection = intersection * np.maximum(overlap, 0)  # (..., G)
    return intersection / (object_sides.prod(axis=0) + sides.prod(axis=0)[..., None] - intersection)


def _count_positive(
    objects: Objects, sides: np.ndarray, grid: Grid, chosen: np.ndarray, threshold: float
) -> np.ndarray:
    """Return how many anchors of one shape have an IoU of at least `threshold` with each of C `chosen` objects, (C,).

    The anchors have the sides `sides` (2,). To reach an IoU of t, the intersection must be at least t / (1 + t) times
    the sum of the two areas. In a given row, this determines the smallest overlap in width, and therefore the largest
    distance between a column and the object's centre.
    """
    t = max(threshold - ROUNDING, ROUNDING)
    object_sides = objects.sides[:, chosen]  # (2, C)
    shorter = np.minimum(object_sides, sides[:, None])  # (2, C)
    touching = (object_sides + sides[:, None]) / 2  # (2, C): distance of the centres if the boxes touch
    needed = t / (1 + t) * (object_sides.prod(axis=0) + sides.prod())  # (C,): smallest intersection
    first, last = _positions(objects, grid, chosen, 0, touching[0] - needed / shorter[1])
    num_rows = last - first + 1  # (C,)
    total = np.zeros(len(chosen), np.int64)
    for row in range(int(num_rows.max(initial=0))):
        y = (first + row + grid.offset) * grid.strides[0, chosen]
        overlap = np.minimum(shorter[0], touching[0] - np.abs(y - objects.centres[0, chosen]))  # (C,)
        overlap = np.maximum(overlap, needed / shorter[1])  # changes only rows after the last one, where it may be 0
        left, right = _positions(objects, grid, chosen, 1, touching[1] - needed / overlap)
        total += np.where(row < num_rows, np.maximum(right - left + 1, 0), 0)
    return total


def _positions(
    objects: Objects, grid: Grid, chosen: np.ndarray, axis: int, reach: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return two arrays (C,): the indices of the first and the last position within `reach` (C,) of each centre."""
    centres, strides = objects.centres[axis, chosen], grid.strides[axis, chosen]
    first = np.ceil((centres - reach) / strides - grid.offset)
    last = np.floor((centres + reach) / strides - grid.offset)
    return (np.maximum(first, 0).astype(np.int64), np.minimum(last, grid.counts[axis, chosen] - 1).astype(np.int64))


# ---------------------------------------------------------------------- text


def _mean(values: np.ndarray) -> float:
    """Return the mean, or NaN for an empty array, without NumPy's warning."""
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

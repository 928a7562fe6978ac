"""A search for anchor sizes and ratios that fit a data set.

Redmon and Farhadi choose the shapes of anchors by their IoU with the objects, not by hand ("YOLO9000", 2017, section 2,
"Dimension clusters"). Here, the choice is limited to the anchors of a Faster R-CNN, which combine every size with every
ratio. The search measures the real coverage: it uses the resized images, the anchor positions of each level and the
rounding of the anchors.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from rcnn._validate import FRACTION, integer
from rcnn.anchors import MIN_SIZE, AnchorGenerator, cell_anchors
from rcnn.evaluate.anchor_coverage import (
    ROUNDING,
    THRESHOLDS,
    Coverage,
    anchor_sides,
    check_generator,
    check_strides,
    lay_grid,
    measure,
    nearest_iou,
)
from rcnn.evaluate.anchor_objects import Images, Objects, collect

NUM_SIZES = 3  # on a single feature map, as in the Faster R-CNN paper
MOST_NUMBERS = 64  # sizes or ratios to search for
MOST_OBJECTS = 10_000  # in a search; thousands of objects are enough to choose about six numbers
LEAST_GAIN = 1e-4  # a change is made only if the quality increases by more than this
LEAST_FACTOR = 1.15  # smallest factor between neighbouring sizes or ratios of a starting point
NUM_CANDIDATES = 24  # over the whole range of the objects, and the same number around the current value
NEARBY = 1.25  # factor between the current value and the farthest candidate around it
MOST_ROUNDS = 20
PENALTY = 10.0  # subtracted from the quality if a recall is below its floor; larger than any quality
SIZES, RATIOS = 0, 1  # the two rows of numbers that a search changes

Numbers = tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Suggestion:
    """Anchors for a data set. `str()` returns their sizes, their ratios and their recall.

    Attributes
    ----------
    sizes : sequence of float, or sequence of such sequences
        A value for the config field `anchor_sizes`: the sizes in whole pixels of the resized images, in ascending
        order. For a pyramid, there is one size, or one sequence of sizes, for each level.
    ratios : sequence of float, or sequence of such sequences
        A value for the config field `aspect_ratios`: the ratios height / width, in ascending order, or one sequence of
        ratios for each level.
    generator : AnchorGenerator
        A generator of anchors with these sizes and ratios.
    after : Coverage
        The coverage of the objects by these anchors.
    before : Coverage or None
        The coverage of the objects by the anchors of the given generator; None if no generator was given.
    """

    sizes: Sequence[float] | Sequence[Sequence[float]]
    ratios: Sequence[float] | Sequence[Sequence[float]]
    generator: AnchorGenerator
    after: Coverage
    before: Coverage | None

    def __str__(self) -> str:
        lines = [f"anchor_sizes = {_in_brackets(self.sizes)}", f"aspect_ratios = {_in_brackets(self.ratios)}"]
        for threshold in THRESHOLDS:
            earlier = "" if self.before is None else f"{self.before.recall(threshold):.3f} -> "
            lines.append(
                f"share of objects with an anchor of IoU {threshold:g} or more: "
                f"{earlier}{self.after.recall(threshold):.3f}"
            )
        if self.after is self.before:
            lines.append("(unchanged: no better anchors were found)")
        return "\n".join(lines)


def suggest(
    dataset: Images,
    strides: Sequence[Sequence[int]],
    min_size: int,
    max_size: int,
    num_sizes: int | None = None,
    num_ratios: int = 3,
    generator: AnchorGenerator | None = None,
    offset: float | None = None,
    progress: bool = True,
) -> Suggestion:
    """Search for anchor sizes and ratios that have a high recall at IoU 0.5 and 0.7 on a data set.

    The search is deterministic. Without `generator`, the result is the best that the search finds. With `generator`,
    the result has at least the recall of the generator, both at IoU 0.5 and at IoU 0.7. If the search finds nothing
    better, the result is the generator itself.

    Parameters
    ----------
    dataset : Dataset
        The data set. If it has an `annotation(i)` method, which returns ((height, width), target), its images are not
        decoded.
    strides : sequence of (rows, columns)
        The stride of each level in pixels, from 1 to 2^20, for example `model.strides()`.
    min_size, max_size : int
        The config fields of these names: the upper limits of the shorter and of the longer side of a resized image, in
        pixels, from 1 to 2^14.
    num_sizes : int, optional
        The number of sizes on a single feature map, from 1 to 64; by default, 3. A pyramid always has one size for each
        level.
    num_ratios : int
        The number of ratios, from 1 to 64.
    generator : AnchorGenerator, optional
        The current anchors, which the search tries to improve.
    offset : float, optional
        The offset of the anchor generator, in [0, 1]. The default is the offset of `generator`, or 0 without
        `generator`.
    progress : bool
        If True, show a progress bar.

    Returns
    -------
    Suggestion
        The anchors, with their coverage.

    Raises
    ------
    TypeError, ValueError
        If there is no object, if `num_sizes` is not the number of levels of a pyramid, or if a number is out of range.
        The errors of `coverage` are also raised.

    References
    ----------
    Redmon and Farhadi, "YOLO9000", 2017, section 2.
    """
    check_strides(strides)
    num_sizes = _check_counts(len(strides), num_sizes, num_ratios)
    if generator is not None:
        check_generator(generator)
        generator.cells_of(len(strides), "strides")
    if offset is None:
        offset = 0.0 if generator is None else generator.offset
    offset = FRACTION.check("offset", offset)
    objects = collect(dataset, min_size, max_size, progress)
    if not len(objects):
        raise ValueError(
            f"the {objects.num_images} images contain no objects; anchors cannot be fitted without objects"
        )
    before = None if generator is None else measure(objects, generator, strides)
    sample = objects.thinned(MOST_OBJECTS)
    floors = [0.0 for _ in THRESHOLDS] if before is None else _floors(before, sampled=len(sample) < len(objects))
    search = _Search(sample, strides, offset, floors)
    ends = [search.climb(*start) for start in _starts(sample, num_sizes, num_ratios)]
    sizes, ratios = max(ends, key=search.quality)  # in a tie, the first one
    found = AnchorGenerator([(size,) for size in sizes] if len(strides) > 1 else sizes, ratios, offset)
    after = measure(objects, found, strides)
    if generator is None or before is None or _is_better(after, before):
        return Suggestion(sizes, ratios, found, after, before)
    return Suggestion(generator.sizes, generator.ratios, generator, before, before)


def _check_counts(num_levels: int, num_sizes: int | None, num_ratios: int) -> int:
    """Return the number of sizes. Raise ValueError if one of the three arguments is invalid."""
    default = num_levels if num_levels > 1 else NUM_SIZES
    num_sizes = integer(1, MOST_NUMBERS).check("num_sizes", default if num_sizes is None else num_sizes)
    integer(1, MOST_NUMBERS).check("num_ratios", num_ratios)
    if num_levels > 1 and num_sizes != num_levels:
        raise ValueError(
            f"num_sizes must be None or {num_levels} (one size for each level of the pyramid), got {num_sizes}"
        )
    return num_sizes


def _quality(best_iou: np.ndarray) -> float:
    """Return the sum of the recall at 0.5, the recall at 0.7, and the mean of `best_iou` (G,).

    If two results have equal recalls, the mean decides which one is better.
    """
    return sum(_recall(best_iou, threshold) for threshold in THRESHOLDS) + float(best_iou.mean())


def _recall(best_iou: np.ndarray, threshold: float) -> float:
    return float(np.mean(best_iou >= threshold - ROUNDING))


def _floors(before: Coverage, sampled: bool) -> list[float]:
    """Return, for each of the `THRESHOLDS`, the lowest recall at which a result is not worse than `before`.

    A recall p that is measured on a sample of G objects has the standard error sqrt(p (1 - p) / G). Two standard errors
    are added as a margin.
    """
    recalls = np.array([before.recall(threshold) for threshold in THRESHOLDS])
    errors = np.sqrt(recalls * (1 - recalls) / MOST_OBJECTS) if sampled else np.zeros(len(recalls))
    return list(recalls + 2 * errors)


def _is_better(after: Coverage, before: Coverage) -> bool:
    """Return True if `after` has a higher quality than `before`, and no lower recall at any threshold."""
    if any(after.recall(threshold) < before.recall(threshold) for threshold in THRESHOLDS):
        return False
    return _quality(after.best_iou) > _quality(before.best_iou)


class _Search:
    """Coordinate ascent on the quality of the coverage: it changes one size or one ratio at a time.

    With more than one stride, each size has its own level. `floors` are the lowest recalls at `THRESHOLDS` that a
    result should have.
    """

    def __init__(
        self, objects: Objects, strides: Sequence[Sequence[int]], offset: float, floors: Sequence[float]
    ) -> None:
        self.objects, self.pyramid, self.floors = objects, len(strides) > 1, floors
        grids = [lay_grid(objects, stride, offset) for stride in strides]
        self._distances = np.stack([grid.distances for grid in grids], axis=1)  # (2, L, G)

    def climb(self, sizes: Sequence[float], ratios: Sequence[float]) -> tuple[Numbers, Numbers]:
        """Improve the sizes and ratios until no single change gains enough. Return both in ascending order."""
        values = [list(sizes), list(ratios)]
        quality = self.quality(values)
        numbers = [(axis, index) for axis in (SIZES, RATIOS) for index in range(len(values[axis]))]
        for _ in range(MOST_ROUNDS):
            before = quality
            for axis, index in numbers:
                quality = self._improve(values, axis, index, quality)
            if quality == before:
                break
        return tuple(sorted(values[SIZES])), tuple(sorted(values[RATIOS]))

    def quality(self, values: Sequence[Sequence[float]]) -> float:
        """Return the quality of these sizes and ratios."""
        return self._judge(self._best_iou(values[SIZES], values[RATIOS], range(len(values[SIZES]))))

    def _improve(self, values: list[list[float]], axis: int, index: int, quality: float) -> float:
        """Replace `values[axis][index]` by the best candidate if this gains enough. Return the resulting quality."""
        rest = self._covered_by_rest(values, axis, index)  # (G,)
        for value in self._candidates(values, axis, index):
            if axis == SIZES:
                best = self._best_iou([value], values[RATIOS], [index])
            else:
                best = self._best_iou(values[SIZES], [value], range(len(values[SIZES])))
            reached = self._judge(np.maximum(rest, best))
            if reached > quality + LEAST_GAIN:
                quality, values[axis][index] = reached, value
        return quality

    def _covered_by_rest(self, values: Sequence[Sequence[float]], axis: int, index: int) -> np.ndarray:
        """Return each object's best IoU (G,) if `values[axis][index]` is removed; 0 if no anchors remain."""
        rows = [range(len(row)) for row in values]
        sizes, ratios = ([i for i in row if (which, i) != (axis, index)] for which, row in enumerate(rows))
        if not sizes or not ratios:
            return np.zeros(len(self.objects))
        return self._best_iou([values[SIZES][i] for i in sizes], [values[RATIOS][i] for i in ratios], sizes)

    def _candidates(self, values: Sequence[Sequence[float]], axis: int, index: int) -> Iterator[float]:
        """Yield ascending candidates for `values[axis][index]`, over the range of the objects and near this value."""
        row, given = values[axis], self.objects.sizes if axis == SIZES else self.objects.ratios
        spans = [(given.min(), given.max()), (row[index] / NEARBY, row[index] * NEARBY)]
        numbers = {_rounded(axis, x) for span in spans for x in np.geomspace(*span, NUM_CANDIDATES)}
        low, high = 0.0, math.inf
        if axis == SIZES and self.pyramid:  # sizes must increase from level to level
            low, high = max(row[:index], default=low), min(row[index + 1 :], default=high)
        for number in sorted(numbers):
            smallest, ratios = (number, values[RATIOS]) if axis == SIZES else (min(values[SIZES]), [number])
            if low < number < high and smallest >= _least_size(ratios):
                yield number

    def _best_iou(self, sizes: Sequence[float], ratios: Sequence[float], indices: Sequence[int]) -> np.ndarray:
        """Return each object's best IoU (G,) with the anchors of these sizes and ratios on the levels `indices`."""
        sides = anchor_sides(cell_anchors(sizes, ratios)).reshape(2, len(ratios), len(sizes))  # (2, R, S)
        distances = self._distances[:, list(indices)] if self.pyramid else self._distances  # (2, S, G) or (2, 1, G)
        distances = distances[:, None]  # (2, 1, S or 1, G)
        return nearest_iou(self.objects.sides, sides, distances).max(axis=(0, 1))  # (G,) from (R, S, G)

    def _judge(self, best_iou: np.ndarray) -> float:
        """Return the quality of `best_iou` (G,), minus a large penalty if a recall is below its floor."""
        short = sum(
            max(floor - _recall(best_iou, threshold), 0.0)
            for floor, threshold in zip(self.floors, THRESHOLDS, strict=True)
        )
        return _quality(best_iou) - (PENALTY * (1 + short) if short else 0.0)


# ---------------------------------------------------------------------- starting points


def _starts(objects: Objects, num_sizes: int, num_ratios: int) -> list[tuple[Numbers, Numbers]]:
    """Return two starting points (sizes, ratios): one contains geometric sequences, the other contains quantiles."""
    return [
        _start(spaced(objects.sizes, num_sizes), spaced(objects.ratios, num_ratios))
        for spaced in (_evenly, _by_quantiles)
    ]


def _evenly(values: np.ndarray, count: int) -> np.ndarray:
    """Return a geometric sequence of `count` numbers between the 5 % and the 95 % quantile of `values` (G,)."""
    low, high = np.quantile(values, (0.05, 0.95))
    return np.geomspace(low, high, 2 * count + 1)[1::2]


def _by_quantiles(values: np.ndarray, count: int) -> np.ndarray:
    """Divide the sorted `values` (G,) into `count` equal parts, and return the median of each part."""
    return np.quantile(values, (np.arange(count) + 0.5) / count)


def _start(sizes: np.ndarray, ratios: np.ndarray) -> tuple[Numbers, Numbers]:
    """Spread and round ascending sizes and ratios, and return them. The sizes are large enough for all ratios."""
    some_ratios = [_rounded(RATIOS, ratio) for ratio in _spread(ratios)]
    some_sizes: list[float] = []
    for size in _spread(sizes):
        least = max(_least_size(some_ratios), some_sizes[-1] + 1 if some_sizes else 0)
        some_sizes.append(max(_rounded(SIZES, size), least))
    return tuple(some_sizes), tuple(some_ratios)


def _spread(values: np.ndarray) -> np.ndarray:
    """Return ascending `values` (N,), spread so that neighbours differ by a factor of at least `LEAST_FACTOR`.

    The geometric mean of the values does not change.
    """
    logs, steps = np.log(values), np.arange(len(values)) * math.log(LEAST_FACTOR)
    apart = np.maximum.accumulate(logs - steps) + steps
    return np.exp(apart - apart.mean() + logs.mean())


def _rounded(axis: int, value: float) -> float:
    """Return a size rounded to whole pixels, or a ratio rounded to two significant digits."""
    return max(round(value), math.ceil(MIN_SIZE)) if axis == SIZES else float(f"{value:.2g}")


def _least_size(ratios: Sequence[float]) -> int:
    """Return the smallest whole size whose anchors have sides of more than one pixel at all these ratios."""
    longest = math.sqrt(max(max(ratios), 1 / min(ratios)))
    return max(math.floor(longest * (1 + ROUNDING)) + 1, math.ceil(MIN_SIZE))


def _in_brackets(values: Sequence[float] | Sequence[Sequence[float]]) -> str:
    """Return numbers, or rows of numbers, as text that is valid in both Python and TOML."""
    words = [_in_brackets(v) if isinstance(v, (Sequence, np.ndarray)) else f"{v:g}" for v in values]
    return f"[{', '.join(words)}]"

"""Checks of the two steps of RoIPool and RoIAlign along one axis: the bounds of the bins, and the weights of cells."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from rcnn import roi
from rcnn._ext.dispatch import original
from rcnn.checks._engine import Case, Failure, Function, as_array, check_callable, generator_of, run

LENGTHS = (4, 6, 9)  # numbers of cells along an axis


# ---------------------------------------------------------------------- RoIPool


@original
def bin_bounds(function: Function, seed: int | None = None) -> None:
    """Raise CheckFailed unless `function` returns where the bins of RoIPool begin and end along an axis.

    Parameters
    ----------
    function : callable
        ``function(low, high, bins, pixels)``. `low` and `high` are the ends of a RoI along an axis of the map, in
        cells, not rounded. `pixels` is the number of cells of the map along this axis. The function returns one pair
        (start, stop) of integers in 0 .. pixels for each bin; `stop` is exclusive. Both ends are rounded; halves are
        rounded away from zero. The cells at both ends belong to the RoI. A RoI has at least one cell. The bins divide
        the RoI evenly. Each bin extends from the floor of its start to the ceiling of its end, clipped to the map. If a
        bin contains no cell, `stop` is not greater than `start`.
    seed : int, optional
        Seed for the random inputs. Without it, every call uses new inputs.

    Raises
    ------
    CheckFailed
        If any result is wrong. The message shows a hint and the smallest failing input that was found.
    TypeError
        If `function` is not callable.

    References
    ----------
    Girshick, "Fast R-CNN", 2015, section 2.1.
    """
    check_callable("bin_bounds", function)
    cases = _bounds_cases(generator_of(seed))
    run("bin_bounds", _with_empty_bins_alike(function), _with_empty_bins_alike(_bounds), cases, explain=_explained)


def _bounds(low: float, high: float, bins: int, pixels: int) -> np.ndarray:
    return _edges(low, high, bins, pixels)


def _edges(low: float, high: float, bins: int, pixels: int, moved: bool = True, number: int = 0) -> np.ndarray:
    """Return the bounds (bins, 2). Without `moved`, the RoI begins at 0; the first bin has this `number`."""
    first, last = (math.copysign(math.floor(abs(end) + 0.5), end) for end in (low, high))
    length = int(max(last - first + 1, 1))
    edges = [(i * length // bins, -(-(i + 1) * length // bins)) for i in range(number, bins + number)]
    return np.clip(np.array(edges, np.int64) + int(first) * moved, 0, pixels)


def _with_empty_bins_alike(function: Function) -> Callable[..., Any]:
    """Return a function that returns (0, 0) for each empty bin, wherever `function` says that it begins and ends."""

    def bounds(low: float, high: float, bins: int, pixels: int) -> Any:
        got = function(low, high, bins, pixels)
        array, failure = as_array(got)
        if failure is not None or array.shape != (bins, 2) or array.dtype.kind not in "iu":
            return got
        right = _bounds(low, high, bins, pixels)
        inside = ((array >= 0) & (array <= pixels)).all(axis=1)
        empty = (array[:, 0] >= array[:, 1]) & (right[:, 0] >= right[:, 1]) & inside
        return np.where(empty[:, None], 0, array)

    return bounds


def _explained(function: Function, case: Case, failure: Failure) -> Failure:
    """Return the failure with another hint if the bounds are those of a common mistake."""
    given = case.arguments
    low, high, bins, pixels = (given[name] for name in ("low", "high", "bins", "pixels"))
    if not isinstance(failure.got, np.ndarray) or failure.got.shape != (bins, 2):
        return failure
    right = _bounds(low, high, bins, pixels)
    full = right[:, 0] < right[:, 1]
    cut_off = np.minimum(right, [pixels, pixels - 1])
    truncated, half_up = (_bounds(cut(low + 0.5), cut(high + 0.5), bins, pixels) for cut in (int, math.floor))
    to_even = _bounds(round(low), round(high), bins, pixels)
    for mistaken, hint in (
        (
            _edges(low, high, bins, pixels, moved=False),
            "These are the bounds for a RoI that begins at cell 0. Add the first cell of the RoI to each bound.",
        ),
        (
            _edges(low, high, bins, pixels, number=1),
            "Each bin begins where it should end. The first bin has the number 0: it begins at the first cell of the "
            "RoI.",
        ),
        (
            to_even,
            "Python's `round` and NumPy's `round` and `rint` round a half to the *even* number: 2.5 becomes 2. Here, "
            "halves are rounded away from zero: 2.5 becomes 3.",
        ),
        (
            truncated,
            "`int` removes the digits after the point, so int(-3 + 0.5) is -2. Round negative numbers correctly.",
        ),
        (cut_off, "`stop` is exclusive, so the largest `stop` is `pixels`, not `pixels - 1`."),
    ):
        if mistaken is truncated and np.array_equal(truncated, half_up):
            continue
        if mistaken is to_even and np.array_equal(to_even, half_up):
            continue
        if (mistaken[full] == failure.got[full]).all() and (mistaken[full] != right[full]).any():
            return replace(failure, hint=hint)
    return failure


def _bounds_cases(rng: np.random.Generator) -> Iterator[Case]:
    def case(low: float, high: float, bins: int, pixels: int, hint: str) -> Case:
        return Case({"low": float(low), "high": float(high), "bins": bins, "pixels": pixels}, hint)

    x = int(rng.integers(1, 3))
    yield case(x, x + 2, 1, 9, "The cells at both ends belong to the RoI: 3 to 5 are three cells. `stop` is exclusive.")
    yield case(x, x + 3, 2, 9, "Four cells in two bins are two per bin. A bin begins where the one before it ends.")
    yield case(
        x,
        x + 4,
        2,
        9,
        "Five cells in two bins are 2.5 cells per bin. A bin extends from the floor of its start to the ceiling of "
        "its end, so neighbouring bins may share a cell.",
    )
    yield case(x, x + 1, 3, 9, "There are fewer cells than bins. Each bin still contains the cell that it lies on.")
    yield case(x + 0.25, x + 2.75, 1, 9, "The ends are rounded to the nearest whole number: 2.75 becomes 3.")
    yield case(x + 0.75, x + 2.25, 1, 9, "The ends are rounded to the nearest whole number: 2.25 becomes 2.")
    even = 2 * x + 0.5
    yield case(even, even + 3, 1, 12, "A half is rounded away from zero, so 2.5 becomes 3, and 3.5 becomes 4.")
    yield case(0, 0, 1, 9, "The RoI begins and ends in the first cell. 0 is an ordinary position.")
    yield case(-3, 3, 2, 6, "The RoI begins before the map. Divide the whole RoI into bins first, then clip the bins.")
    yield case(4, 9, 3, 7, "The RoI ends beyond the map. Divide the whole RoI into bins first, then clip the bins.")
    yield case(-6, 2, 4, 6, "Bins before the map contain no cell: their `stop` is not greater than their `start`.")
    yield case(5, 13, 4, 6, "Bins beyond the map contain no cell: their `stop` is not greater than their `start`.")
    yield case(-0.5, 2, 2, 9, "Negative halves are rounded away from zero, too: -0.5 becomes -1.")
    yield case(-20, 30, 3, 6, "The RoI extends beyond the map on both sides.")
    yield case(4, 2, 2, 9, "A RoI is at least one cell long.")
    for _ in range(6):
        first, length, bins = _long(rng)
        yield case(
            first,
            first + length - 1,
            bins,
            500,
            "This RoI is hundreds of cells long. The bins divide it evenly, and the floor and the ceiling are exact: "
            "compute them with integers, or with floats of full precision.",
        )
    for _ in range(12):
        low = int(rng.integers(-20, 40)) / 4
        yield case(
            low,
            low + int(rng.integers(0, 50)) / 4,
            int(rng.integers(1, 7)),
            int(rng.choice(LENGTHS)),
            "These ends are random. Round both, count the cells of the RoI, and divide them by hand.",
        )
    yield case(x + 0.5, x + 5, 1, 9, "Round both ends first, then count the cells between them. Do not round a length.")


def _long(rng: np.random.Generator) -> tuple[int, int, int]:
    """Draw (first cell, length, number of bins) for which an error of a float16 moves a bin, and none of a float64."""
    while True:
        first, length, bins = (int(v) for v in rng.integers((0, 90, 5), (80, 400, 15)))
        edges = np.arange(bins + 1)
        exact = edges * length // bins, -(-edges * length // bins)
        steps = edges * (length / bins), first + edges * (length / bins) - first, edges / bins * length
        coarse = (first + edges * np.float64(np.float16(length / bins))).astype(np.float16) - first
        if np.array_equal((np.floor(coarse), np.ceil(coarse)), exact):
            continue
        if all(np.array_equal((np.floor(step), np.ceil(step)), exact) for step in steps):
            return first, length, bins


# ---------------------------------------------------------------------- RoIAlign


@original
def bin_weights(function: Function, seed: int | None = None) -> None:
    """Raise CheckFailed unless `function` returns how much each cell counts in each bin of RoIAlign along an axis.

    Parameters
    ----------
    function : callable
        ``function(low, high, bins, pixels, sampling_ratio, aligned)``. `low` and `high` are the ends of a RoI along an
        axis of the map, in cells. `pixels` is the number of cells of the map along this axis. The function returns the
        weights, (bins, pixels). Row i contains the mean of the weights of the points of bin i. The rules for points are
        the same as in `checks.roi_align`.
    seed : int, optional
        Seed for the random inputs. Without it, every call uses new inputs.

    Raises
    ------
    CheckFailed
        If any result is wrong. The message shows a hint and the smallest failing input that was found.
    TypeError
        If `function` is not callable.

    References
    ----------
    He et al., "Mask R-CNN", 2017, section 3.
    """
    run("bin_weights", function, _weights, _weights_cases(generator_of(seed)))


def _weights(low: float, high: float, bins: int, pixels: int, sampling_ratio: int, aligned: bool) -> np.ndarray:
    """Pool maps with a single row: map k is 1 in column k and 0 elsewhere."""
    maps = np.eye(pixels)[None, :, None]  # (1, pixels, 1, pixels)
    pooled = roi.roi_align(maps, [[low, 0.0, high, 1.0]], [0], (1, bins), 1.0, sampling_ratio, aligned)
    return np.asarray(pooled)[0, :, 0].T  # (bins, pixels)


def _weights_cases(rng: np.random.Generator) -> Iterator[Case]:
    def case(
        low: float, high: float, bins: int, pixels: int, sampling_ratio: int, hint: str, aligned: bool = False
    ) -> Case:
        return Case(
            {
                "low": float(low),
                "high": float(high),
                "bins": bins,
                "pixels": pixels,
                "sampling_ratio": sampling_ratio,
                "aligned": aligned,
            },
            hint,
        )

    x = int(rng.integers(1, 3))
    yield case(x, x + 2, 1, 6, 1, "The only point is in the middle of the RoI, on a cell. This cell counts in full.")
    yield case(
        x + 0.25,
        x + 2.25,
        1,
        6,
        1,
        "The point lies between two cells. The nearer one counts more. Both weights add up to 1.",
    )
    yield case(
        x, x + 3, 3, 6, 1, "The bins divide the RoI evenly, with a point in the middle of each. Each bin is a row."
    )
    yield case(
        x, x + 2, 1, 6, 2, "The bin has two points, in the middle of its halves. The row is the mean of their weights."
    )
    yield case(
        x,
        x + 1,
        1,
        6,
        2,
        "Both points of the bin lie between the same two cells. Their weights add up. None replaces another.",
    )
    yield case(
        x,
        x + 4,
        2,
        9,
        2,
        "The points of a bin are neighbours: with two points per bin, the first two belong to the first bin.",
    )
    yield case(x, x + 0.5, 1, 6, 1, "Without `aligned`, a RoI is at least one cell long. Its start stays.")
    yield case(
        0, 0, 1, 6, 1, "The RoI begins and ends at 0. It is an ordinary RoI: without `aligned`, it is one cell long."
    )
    yield case(x, x + 2, 1, 6, 1, "With `aligned`, both ends move by half a cell to the left.", aligned=True)
    yield case(x, x + 0.5, 2, 6, 1, "With `aligned`, a small RoI is not enlarged.", aligned=True)
    yield case(-1, 1, 1, 5, 2, "A point at -0.5 lies before the first cell, which then counts in full.")
    yield case(4, 6, 2, 6, 2, "A point at 5.5 lies beyond the last cell, which then counts in full.")
    yield case(-2, 2, 1, 5, 2, "A point at -1 is exactly one cell outside, which is not *more* than one cell.")
    yield case(3.5, 5.5, 1, 5, 2, "A point at the number of cells is exactly one cell outside, so it counts.")
    yield case(-6, 2, 1, 5, 2, "A point more than one cell outside has no weights, but it is still part of the mean.")
    yield case(2, 10, 1, 5, 2, "A point more than one cell outside has no weights, but it is still part of the mean.")
    yield case(-9, -5, 2, 5, 2, "All points are more than one cell outside, so all weights are 0.")
    for _ in range(6):
        for aligned in (False, True):
            low = int(rng.integers(-12, 20)) / 4
            yield case(
                low,
                low + int(rng.integers(1, 40)) / 4,
                int(rng.choice([1, 2, 4])),
                int(rng.choice(LENGTHS)),
                int(rng.choice([1, 2, 4])),
                "These ends are random. List the positions of all points, then the two cells around each of them.",
                aligned,
            )
    for _ in range(3):
        low = round(float(rng.uniform(0, 3)), 4)
        yield case(
            low,
            low + round(float(rng.uniform(1, 5)), 4),
            int(rng.integers(1, 5)),
            9,
            int(rng.integers(1, 4)),
            "These ends are random. Do not round them, and do not compute in half precision.",
        )
    yield case(
        x + 0.25,
        x + 0.25,
        2,
        6,
        2,
        "With `aligned`, a RoI without a length is not enlarged: all its points are at the same place.",
        aligned=True,
    )
    for low in (-0.5, 4.5):
        yield case(
            low,
            low + 1,
            1,
            5,
            2,
            "With `aligned`, the ends move by half a cell. The limits do not move: a point may be one cell outside.",
            aligned=True,
        )
    for low in (-0.5, 0):
        yield case(low, low + 1, 1, 1, 2, "The map has a single cell along this axis. It has no neighbour.")

"""Checks of the anchors: the shapes of one position, and their copies over a feature map."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from rcnn import anchors
from rcnn.checks._engine import Case, Function, run

CLEAR = 0.01  # pixels: so far from a half is every side that is not exactly one, and the precision rounds no answer off


def cell_anchors(function: Function, seed: int | None = None) -> None:
    """Nothing where `function(sizes, ratios)`, (S,) and (R,), gives the anchors of one position, (R * S, 4).

    Corners x1, y1, x2, y2 about the origin; a ratio is height / width, and the area is the size squared whatever the
    ratio. Corners are rounded to whole pixels, half to even as NumPy and Python do. All sizes of the first ratio come
    first. Raises CheckFailed, which says what is wrong.
    """
    run(
        "cell_anchors",
        function,
        anchors.cell_anchors,
        _cell_cases(np.random.default_rng(seed)),
        rows=(("sizes",), ("ratios",)),
    )


def grid_anchors(function: Function, seed: int | None = None) -> None:
    """Nothing where `function(cell, feature_size, stride, offset=0.0)` gives every position's anchors, (H * W * A, 4).

    `cell` (A, 4) are the anchors of one position, `feature_size` (H, W), `stride` (rows, columns) in pixels; the
    anchors of row i and column j are centred (i + offset) and (j + offset) strides from the origin. Order: row, column,
    then cell anchor. Raises CheckFailed, which says what is wrong.
    """
    run("grid_anchors", function, anchors.grid_anchors, _grid_cases(np.random.default_rng(seed)), rows=(("cell",),))


def _cell_cases(rng: np.random.Generator) -> Iterator[Case]:
    def shapes(sizes: list[float], ratios: list[float], hint: str) -> Case:
        return Case({"sizes": np.array(sizes, float), "ratios": np.array(ratios, float)}, hint)

    whole = int(rng.integers(3, 20))
    yield shapes(
        [4 * whole + 2],
        [1],
        "a square whose side is the size, centred on the origin: half of it lies left "
        "of 0 and half right of it, and coordinates are continuous, with nothing to add or to take off; a row "
        "of four numbers for each anchor",
    )
    yield shapes(
        [4 * whole],
        [4],
        "a ratio is height / width, so this anchor is higher than wide; and its area is "
        "still the size squared: what one side gains, the other must lose",
    )
    yield shapes(
        [4 * whole],
        [0.25],
        "a ratio is height / width, so this anchor is wider than high; and its area is still the size squared",
    )
    for side in ("width", "height"):
        sizes, ratios = _to_be_rounded(rng, side)
        yield shapes(
            sizes.tolist(),
            ratios.tolist(),
            "sides are seldom whole: the corners are rounded, each to the "
            "whole number nearest to it, whether that is above or below, and only at the end",
        )
    yield shapes(
        [4 * whole + 1],
        [1],
        "half of an odd side lies halfway between two whole numbers, and goes to the "
        "even one, on either side of 0; `+ 0.5` and rounding down treats the two sides differently",
    )
    yield shapes(
        [4 * whole + 3],
        [1],
        "half of an odd side lies halfway between two whole numbers, and goes to the "
        "even one, on either side of 0; `+ 0.5` and rounding down treats the two sides differently",
    )
    yield shapes(
        [4 * whole, 8 * whole],
        [1, 4],
        "every size with every ratio, not the first with the first; and the "
        "order is all sizes of the first ratio, then all of the second",
    )
    yield shapes(
        [4 * whole, 8 * whole, 16 * whole],
        [0.25, 1],
        "every size with every ratio; the order is all sizes of the first ratio, then all of the second",
    )
    yield Case(
        {"sizes": np.array([4 * whole + 1, 4 * whole + 3]), "ratios": np.array([1, 4])},
        "whole numbers are numbers, too; a quotient or a root of them is not whole",
    )
    sizes, ratios = _clear(rng, 2, 3)
    yield Case(
        {"sizes": sizes.astype(np.float32), "ratios": ratios.astype(np.float32)},
        "float32 is as good as any other; the numbers are the same",
    )
    for count in (1, 2, 3, 5):
        sizes, ratios = _clear(rng, count, count + 1)
        yield shapes(
            sizes.tolist(),
            ratios.tolist(),
            "take one size and one ratio of these, work out width and height "
            "by hand, and then where that anchor comes in the order",
        )


def _to_be_rounded(rng: np.random.Generator, side: str) -> tuple[np.ndarray, np.ndarray]:
    """A size (1,) and a ratio (1,) half of whose `side` is rounded up, and half of whose other side is rounded down."""
    while True:
        sizes, ratios = _clear(rng, 1, 1)
        width, height = (sizes / np.sqrt(ratios)).item(), (sizes * np.sqrt(ratios)).item()
        up, down = (width, height) if side == "width" else (height, width)
        if 0.55 < up / 2 % 1 < 0.7 and 0.3 < down / 2 % 1 < 0.45:
            return sizes, ratios


def _clear(rng: np.random.Generator, sizes: int, ratios: int) -> tuple[np.ndarray, np.ndarray]:
    """(S,) sizes of 10 to 300 pixels and (R,) ratios of 1/3 to 3, no half of a side near to a half."""
    while True:
        size, ratio = rng.integers(10, 300, sizes).astype(float), rng.uniform(1 / 3, 3, ratios).round(2)
        halves = np.concatenate([np.outer(1 / np.sqrt(ratio), size), np.outer(np.sqrt(ratio), size)]) / 2
        if (np.abs(halves % 1 - 0.5) > CLEAR).all():
            return size, ratio


def _grid_cases(rng: np.random.Generator) -> Iterator[Case]:
    def grid(cell: np.ndarray, feature_size: tuple[int, int], hint: str, offset: float | None = None) -> Case:
        rest = {} if offset is None else {"offset": offset}
        return Case({"cell": cell, "feature_size": feature_size, "stride": stride, **rest}, hint)

    stride = (2 * int(rng.integers(2, 6)) + 1, 2 * int(rng.integers(7, 12)) + 1)  # odd, and not alike
    one, two = _cell(rng, 1), _cell(rng, 2)
    yield grid(
        one,
        (1, 1),
        "a single position, in row 0 and column 0: with no offset nothing is added to the cell "
        "anchor; a row of four numbers for each anchor",
    )
    yield grid(
        one,
        (1, 3),
        "sizes are (rows, columns), and so is the stride. From one column to the next an anchor "
        "moves to the right, by the stride of the columns and by nothing else; both its corners move",
    )
    yield grid(
        one,
        (3, 1),
        "sizes are (rows, columns), and so is the stride. From one row to the next an anchor "
        "moves down, by the stride of the rows and by nothing else; both its corners move",
    )
    yield grid(
        one,
        (2, 3),
        "the order is that in which one reads: all columns of the first row, then all of the "
        "second; each of the rows with each of the columns",
    )
    yield grid(
        two,
        (1, 2),
        "the order within a position: all cell anchors of the first position come before those of the second",
    )
    yield grid(two, (2, 3), "the order is row, then column, then cell anchor: the last changes fastest")
    yield grid(
        one,
        (1, 1),
        "an offset is a part of a stride: 0.5 moves the anchors by half a stride, to the middle of "
        "their cell, which may lie between two pixels; along y that is half the stride of the rows",
        0.5,
    )
    yield grid(two, (2, 3), "an offset is a part of a stride, and moves all positions alike", 0.25)
    yield grid(
        two.astype(np.int64),
        (2, 2),
        "whole numbers are numbers, too; half a stride added to them need not be whole",
        0.5,
    )
    yield grid(two.astype(np.float32), (2, 2), "float32 is as good as any other; the numbers are the same")
    for rows, columns, count in ((2, 2, 1), (3, 4, 2), (5, 3, 3), (7, 9, 4)):
        yield grid(
            _cell(rng, count),
            (rows, columns),
            "take one row, one column and one cell anchor, work out its box "
            "by hand, and then how many boxes come before it",
            float(rng.choice([0, 0.5])),
        )


def _cell(rng: np.random.Generator, count: int) -> np.ndarray:
    """Anchors (count, 4) about the origin, float64 of whole pixels, no two sides alike."""
    half = rng.permutation(np.arange(5, 60))[: 2 * count].reshape(count, 2).astype(float)
    return np.concatenate([-half, half], axis=1)

"""Checks of anchors: the anchors at one position, and their copies at every position of a feature map."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from rcnn import anchors
from rcnn._ext.dispatch import original
from rcnn.checks import _inputs
from rcnn.checks._engine import Case, Function, generator_of, run

CLEAR = 0.01  # minimum distance from a rounding tie, in pixels, so that float32 rounds in the same way


@original
def cell_anchors(function: Function, seed: int | None = None) -> None:
    """Raise CheckFailed unless `function` returns the anchors of one position.

    Parameters
    ----------
    function : callable
        ``function(sizes, ratios)``. `sizes` contains S anchor sizes in pixels, (S,), and `ratios` contains R aspect
        ratios (height / width), (R,). The function returns an (R * S, 4) array: the corners x1, y1, x2, y2 of R * S
        anchors around the origin. The area of an anchor is its size squared, whatever its ratio is. The corners are
        rounded to whole pixels, and halves are rounded to even, as in NumPy and Python. The anchors with the first
        ratio come first, one for each size.
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
    Ren et al., "Faster R-CNN", 2015, section 3.1.1.
    """
    run(
        "cell_anchors",
        function,
        anchors.cell_anchors,
        _cell_cases(generator_of(seed)),
        rows=(("sizes",), ("ratios",)),
    )


@original
def grid_anchors(function: Function, seed: int | None = None) -> None:
    """Raise CheckFailed unless `function` returns the anchors of every position.

    Parameters
    ----------
    function : callable
        ``function(cell, feature_size, stride, offset=0.0)``. `cell` is an (A, 4) array: the A anchors of one position.
        `feature_size` is the size (H, W) of the feature map, and `stride` is a pair (rows, columns) in pixels. The
        function returns an (H * W * A, 4) array of boxes. The centre of the anchors in row i and column j is at x = (j
        + offset) * stride[1] and y = (i + offset) * stride[0]. The boxes are sorted by row,
        then by column, and then by their index in `cell`.
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
    Ren et al., "Faster R-CNN", 2015, section 3.1.1.
    """
    run("grid_anchors", function, anchors.grid_anchors, _grid_cases(generator_of(seed)), rows=(("cell",),))


def _cell_cases(rng: np.random.Generator) -> Iterator[Case]:
    def shapes(sizes: list[float], ratios: list[float], hint: str) -> Case:
        return Case({"sizes": np.array(sizes, float), "ratios": np.array(ratios, float)}, hint)

    whole = int(rng.integers(3, 20))
    yield shapes(
        [4 * whole + 2],
        [1],
        "This anchor is a square with side `size`, centred on the origin: half of it lies to the left of 0, and half "
        "to the right. Coordinates are continuous, so do not add or subtract 1. Each anchor is a row of four numbers.",
    )
    yield shapes(
        [4 * whole],
        [4],
        "A ratio is height / width, so this anchor is taller than it is wide. Its area is still the size squared: "
        "when one side grows, the other must shrink.",
    )
    yield shapes(
        [4 * whole],
        [0.25],
        "A ratio is height / width, so this anchor is wider than it is tall. Its area is still the size squared.",
    )
    for side in ("width", "height"):
        sizes, ratios = _to_be_rounded(rng, side)
        yield shapes(
            sizes.tolist(),
            ratios.tolist(),
            "Sides are rarely whole numbers. Round each corner to the nearest whole number, up or down, and only at "
            "the end.",
        )
    yield shapes(
        [4 * whole + 1],
        [1],
        "Half of an odd side lies halfway between two whole numbers. It is rounded to the even one of the two, "
        "for negative and for positive coordinates. Adding 0.5 and rounding down treats the two signs differently.",
    )
    yield shapes(
        [4 * whole + 3],
        [1],
        "Half of an odd side lies halfway between two whole numbers. It is rounded to the even one of the two, "
        "for negative and for positive coordinates. Adding 0.5 and rounding down treats the two signs differently.",
    )
    yield shapes(
        [4 * whole, 8 * whole],
        [1, 4],
        "Combine every size with every ratio, not only the first size with the first ratio. All sizes of the first "
        "ratio come first, then all sizes of the second ratio.",
    )
    yield shapes(
        [4 * whole, 8 * whole, 16 * whole],
        [0.25, 1],
        "Combine every size with every ratio. All sizes of the first ratio come first, then all sizes of the second "
        "ratio.",
    )
    yield Case(
        {"sizes": np.array([4 * whole + 1, 4 * whole + 3]), "ratios": np.array([1, 4])},
        "Integers are valid input, but their quotients and square roots need not be integers.",
    )
    yield Case(
        {"sizes": np.array([4 * whole + 2, 8 * whole]), "ratios": np.array([0.25, 1.0])},
        "The sizes are integers here, but the ratios are not.",
    )
    sizes, ratios = _clear(rng, 2, 3)
    yield Case(
        {"sizes": sizes.astype(np.float32), "ratios": ratios.astype(np.float32)},
        "float32 is valid input and must give the same result. Keep the order of the sizes and of the ratios.",
    )
    for count in (2, 3):
        sizes, ratios = _clear(rng, count, count)
        yield shapes(
            sizes.tolist(),
            ratios.tolist(),
            "There are as many sizes as ratios, in any order. All sizes of the first ratio come first, in the given "
            "order, then all sizes of the second ratio.",
        )
    yield shapes(
        [8 * whole, 4 * whole, 16 * whole],
        [4, 0.25, 1],
        "The sizes and the ratios are not sorted. Keep their order: do not sort them.",
    )
    yield shapes(
        [4 * whole + 1.5, 4 * whole + 2.875, 8 * whole + 3.75],
        [1, 4],
        "A size need not be a whole number. Round the corners, not the sizes.",
    )
    yield shapes([1024 * whole], [0.25, 4], "Anchors may be large, and extend far beyond an image.")
    for count in (1, 2, 3, 5):
        sizes, ratios = _clear(rng, count, count + 1)
        yield shapes(
            sizes.tolist(),
            ratios.tolist(),
            "Choose one of these sizes and one of these ratios. Work out the width and the height of that anchor by "
            "hand, and then its index in the result.",
        )
    sizes, ratios = _clear(rng, 2, 1)
    for repeated in ((sizes.tolist(), ratios.tolist() * 2), (sizes.tolist()[:1] * 2, ratios.tolist())):
        yield shapes(
            *repeated,
            "A size or a ratio occurs twice. Each pair of a size and a ratio has its own anchor.",
        )


def _to_be_rounded(rng: np.random.Generator, side: str) -> tuple[np.ndarray, np.ndarray]:
    """Draw a size (1,) and a ratio (1,) for which rounding makes `side` longer and the other side shorter."""
    while True:
        sizes, ratios = _clear(rng, 1, 1)
        width, height = (sizes / np.sqrt(ratios)).item(), (sizes * np.sqrt(ratios)).item()
        up, down = (width, height) if side == "width" else (height, width)
        if 0.55 < up / 2 % 1 < 0.7 and 0.3 < down / 2 % 1 < 0.45:
            return sizes, ratios


def _clear(rng: np.random.Generator, sizes: int, ratios: int) -> tuple[np.ndarray, np.ndarray]:
    """Choose S sizes of 10 to 300 pixels and R ratios of 1/3 to 3 for which no corner is near a rounding tie."""
    while True:
        size, ratio = rng.integers(10, 300, sizes).astype(float), rng.uniform(1 / 3, 3, ratios).round(2)
        halves = np.concatenate([np.outer(1 / np.sqrt(ratio), size), np.outer(np.sqrt(ratio), size)]) / 2
        if (np.abs(halves % 1 - 0.5) > CLEAR).all():
            return size, ratio


def _grid_cases(rng: np.random.Generator) -> Iterator[Case]:
    def grid(cell: np.ndarray, feature_size: tuple[int, int], hint: str, offset: float | None = None) -> Case:
        rest = {} if offset is None else {"offset": offset}
        return Case({"cell": cell, "feature_size": feature_size, "stride": stride, **rest}, hint)

    stride = (2 * int(rng.integers(2, 6)) + 1, 2 * int(rng.integers(7, 12)) + 1)  # odd, and different
    one, two = _cell(rng, 1), _cell(rng, 2)
    yield grid(
        one,
        (1, 1),
        "There is a single position, in row 0 and column 0. With offset 0, nothing is added to the cell anchor. Each "
        "anchor is a row of four numbers.",
    )
    yield grid(
        one,
        (1, 3),
        "Sizes and strides are (rows, columns). From one column to the next, an anchor moves only to the right, by "
        "the column stride. Both of its corners move.",
    )
    yield grid(
        one,
        (3, 1),
        "Sizes and strides are (rows, columns). From one row to the next, an anchor moves only down, by the row "
        "stride. Both of its corners move.",
    )
    yield grid(
        one,
        (2, 3),
        "The boxes are in reading order: all columns of the first row, then all columns of the second row. Combine "
        "each row with each column.",
    )
    yield grid(
        two,
        (1, 2),
        "At each position, the cell anchors keep their order: all cell anchors of the first position come before "
        "those of the second.",
    )
    yield grid(two, (2, 3), "The order is row, then column, then cell anchor. The cell anchor changes fastest.")
    yield grid(
        one,
        (1, 1),
        "The offset is a fraction of the stride: 0.5 moves the anchors by half a stride, to the middle of their cell, "
        "which may lie between two pixels. Along y, they move by half of the row stride.",
        0.5,
    )
    yield grid(
        two,
        (2, 3),
        "The offset is a fraction of the stride. It moves the anchors of all positions by the same amount.",
        0.25,
    )
    yield grid(
        two.astype(np.int64),
        (2, 2),
        "Integers are valid input, but the sum of an integer and half a stride need not be an integer.",
        0.5,
    )
    yield grid(two.astype(np.float32), (2, 2), "float32 is valid input and must give the same result.")
    for size, offset in (((2, 3), None), ((3, 3), 0.5), ((4, 2), 0.25)):
        yield grid(
            rng.permutation(np.arange(-30.0, 30))[:8].reshape(2, 4),
            size,
            "A cell anchor need not be symmetric around the origin: its corners are rounded. Add the position to each "
            "of the four coordinates.",
            offset,
        )
    yield grid(
        _cell(rng, 2) + rng.integers(1, 8, (2, 4)) / 8,
        (2, 3),
        "A cell anchor need not have whole coordinates. Do not round it, and do not convert it to integers.",
    )
    yield grid(
        np.zeros((1, 4)),
        (2, 2),
        f"This cell anchor is a point, so each box is the centre of its cell. {_inputs.ZEROS}",
        0.5,
    )
    even = Case(
        {"cell": _cell(rng, 3), "feature_size": (3, 3), "stride": (8, 8), "offset": 1.0},
        "With an offset of 1, the anchors of the first position lie one stride to the right and one stride below.",
    )
    yield even
    yield Case(
        {"cell": _cell(rng, 1), "feature_size": (9, 2), "stride": (4, 32)},
        "The map may be tall, and its strides may be very different. Rows belong to y, and columns to x.",
    )
    yield Case(
        {"cell": _cell(rng, 2), "feature_size": (2, 3), "stride": (1203, 2407), "offset": 0.5},
        "The anchors lie thousands of pixels from the origin. Half precision (float16) has only about three digits.",
    )
    for rows, columns, count in ((2, 2, 1), (3, 4, 2), (5, 3, 3), (7, 9, 4)):
        yield grid(
            _cell(rng, count),
            (rows, columns),
            "Choose one row, one column and one cell anchor. Work out its box by hand, then count the boxes that come "
            "before it.",
            float(rng.choice([0, 0.5])),
        )


def _cell(rng: np.random.Generator, count: int) -> np.ndarray:
    """Draw float64 anchors (count, 4) around the origin, in whole pixels. All their sides have different lengths."""
    half = rng.permutation(np.arange(5, 60))[: 2 * count].reshape(count, 2).astype(float)
    return np.concatenate([-half, half], axis=1)

"""Check of the anchors of a whole image: one grid per level of a pyramid."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from rcnn import anchors
from rcnn.checks._engine import Case, Function, run

Size = tuple[int, int]


def anchor_generator(function: Function, seed: int | None = None) -> None:
    """Nothing where `function(image_size, feature_sizes, sizes, ratios, offset=0.0)` gives the anchors of each level.

    image_size (height, width) of the image with its padding; feature_sizes a (rows, columns) for each level; sizes a
    tuple for each level; ratios one tuple, for all levels. The answer is a list with an array (H_l * W_l * A_l, 4) for
    each level. The stride of a level is measured along each axis, image side // feature side. Raises CheckFailed, which
    says what is wrong.
    """
    run("anchor_generator", function, _reference, _cases(np.random.default_rng(seed)))


def _reference(
    image_size: Size,
    feature_sizes: Sequence[Size],
    sizes: Sequence[Sequence[float]],
    ratios: Sequence[float],
    offset: float = 0.0,
) -> tuple[np.ndarray, ...]:
    return tuple(anchors.AnchorGenerator(sizes, ratios, offset)(image_size, feature_sizes))


def _cases(rng: np.random.Generator) -> Iterator[Case]:
    def levels(
        strides: Sequence[Size], counts: Sequence[int], hint: str, rest: Size = (0, 0), offset: float | None = None
    ) -> Case:
        """An image of 2 x 3 of the last level's cells; `rest` pixels more, which make no further cell."""
        height, width = 2 * strides[-1][0], 3 * strides[-1][1]
        feature_sizes = [(height // rows, width // columns) for rows, columns in strides]
        drawn = iter((2 * rng.permutation(np.arange(4, 40))).tolist())  # no two alike
        sizes = tuple(tuple(next(drawn) for _ in range(count)) for count in counts)
        ratios = tuple(float(4.0**power) for power in rng.permutation([-1, 0, 1])[:2])
        more = {} if offset is None else {"offset": offset}
        return Case(
            {
                "image_size": (height + rest[0], width + rest[1]),
                "feature_sizes": feature_sizes,
                "sizes": sizes,
                "ratios": ratios,
                **more,
            },
            hint,
        )

    rows, columns = int(rng.integers(4, 7)), int(rng.integers(8, 12))
    yield levels(
        [(rows, rows)],
        [1],
        "a single level still is a list of one array, of the anchors of every position; "
        "the stride is image side // feature side",
    )
    yield levels(
        [(rows, columns)],
        [2],
        "the stride is measured along each axis by itself, (rows, columns): "
        "image height // rows of the map, image width // columns of the map",
    )
    yield levels(
        [(rows, columns)],
        [1],
        "a map need not divide its image without a rest: the stride is a whole number, rounded down",
        rest=(1, 2),
    )
    yield levels(
        [(rows, rows), (2 * rows, 2 * rows)],
        [1, 1],
        "a level has a stride and a size of its own: the first "
        "entry of `sizes` belongs to the first of `feature_sizes`, and every level has all ratios",
    )
    yield levels(
        [(rows, columns), (2 * rows, 2 * columns)],
        [2, 1],
        "levels may have different numbers of sizes, and each level's anchors are an array of their own",
        offset=None,
    )
    yield levels(
        [(rows, columns), (2 * rows, 2 * columns)],
        [1, 2],
        "the offset is a part of a level's own stride, so it moves the anchors of a deeper level farther",
        offset=0.5,
    )
    for count in (1, 3, 4):
        strides = [(2**level * rows, 2**level * columns) for level in range(count)]
        yield levels(
            strides,
            rng.integers(1, 3, count).tolist(),
            "take one level of these and work out its stride, its cell anchors and its first and last box by hand",
            rest=(3, 1),
            offset=float(rng.choice([0, 0.5])),
        )

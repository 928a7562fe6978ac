"""Check of the anchors of a whole image: one grid per pyramid level."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from rcnn import anchors
from rcnn._ext.dispatch import original
from rcnn.checks._engine import Case, Function, generator_of, run

Size = tuple[int, int]


@original
def anchor_generator(function: Function, seed: int | None = None) -> None:
    """Raise CheckFailed unless `function` returns the anchors of every pyramid level.

    Parameters
    ----------
    function : callable
        ``function(image_size, feature_sizes, sizes, ratios, offset=0.0)``. `image_size` is the (height, width) of the
        padded image. For each level, `feature_sizes` contains the (rows, columns) of the feature map, and `sizes`
        contains a tuple of anchor sizes. `ratios` is one tuple for all levels. `offset` moves the anchor centres by
        this fraction of the stride. The function returns a list with one array per level. If the feature map of a level
        has H x W positions with A anchors each, its array has shape (H * W * A, 4). The stride of a level is computed
        separately for each axis: image side // side of the feature map.
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
    Lin et al., "Feature Pyramid Networks for Object Detection", 2017, section 4.1.
    """
    run("anchor_generator", function, _reference, _cases(generator_of(seed)))


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
        """Return a case with 2 x 3 cells on the last level. The image has `rest` more rows and columns of pixels."""
        height, width = 2 * strides[-1][0], 3 * strides[-1][1]
        feature_sizes = [(height // rows, width // columns) for rows, columns in strides]
        drawn = iter((2 * rng.permutation(np.arange(4, 40))).tolist())  # all different
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
    even = 2 * (rows // 2)
    yield levels(
        [(even, even)],
        [1],
        "Return a list even for a single level. It contains one array with the anchors of every position. The stride "
        "is image side // feature side.",
    )
    yield levels(
        [(even, even)],
        [2],
        "Every size of the level is combined with every ratio. At each position, the anchors are in the order of "
        "`cell_anchors(sizes, ratios)`: all sizes with the first ratio, then all sizes with the second ratio.",
    )
    yield Case(
        {"image_size": (14, 21), "feature_sizes": [(2, 3)], "sizes": ((4.0 * rows + 2,),), "ratios": (4.0, 0.25)},
        "The cell anchors are rounded first, and then moved by the stride. Rounding after the move gives other corners "
        "here, because halves are rounded to even numbers.",
    )
    yield levels(
        [(rows, columns)],
        [2],
        "The stride is measured along each axis separately: it is (image height // rows of the map, image width // "
        "columns of the map).",
    )
    yield levels(
        [(rows, columns)],
        [1],
        "The image side need not be a multiple of the map side. The stride is a whole number, rounded down.",
        rest=(1, 2),
    )
    yield levels(
        [(rows, rows), (2 * rows, 2 * rows)],
        [1, 1],
        "Each level has its own stride and its own sizes: entry 0 of `sizes` belongs to entry 0 of `feature_sizes`. "
        "Every level uses all ratios.",
    )
    yield levels(
        [(rows, columns), (2 * rows, 2 * columns)],
        [2, 1],
        "Levels may have different numbers of sizes. Return a separate array for each level.",
        offset=None,
    )
    yield levels(
        [(rows, columns), (2 * rows, 2 * columns)],
        [1, 2],
        "The offset is a fraction of the level's own stride, so it moves the anchors of a deeper level farther.",
        offset=0.5,
    )
    offsets = rng.permutation([0, 0.25, 1]).tolist()
    for image_size, feature_sizes in (
        ((96, 32), [(12, 4), (6, 2), (3, 1)]),
        ((64, 64), [(8, 8), (4, 4)]),
        ((75, 130), [(19, 33), (10, 17), (5, 9)]),
    ):
        yield Case(
            {
                "image_size": image_size,
                "feature_sizes": feature_sizes,
                "sizes": tuple((float(12 * 2**level),) for level in range(len(feature_sizes))),
                "ratios": (4.0, 0.25),
                "offset": offsets.pop(),
            },
            "The image may be tall, wide or square, and its side need not be a multiple of the stride. The stride of "
            "each level is image side // side of the feature map, separately for each axis.",
        )
    for count in (1, 3, 4):
        strides = [(2**level * rows, 2**level * columns) for level in range(count)]
        yield levels(
            strides,
            rng.integers(1, 3, count).tolist(),
            "Choose one of these levels. Work out its stride, its cell anchors, and its first and last box by hand.",
            rest=(3, 1),
            offset=float(rng.choice([0, 0.5])),
        )

"""Checks of RoIPool and RoIAlign, forward and backward."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from rcnn import roi
from rcnn._ext.dispatch import original
from rcnn.checks._engine import Case, Failure, Function, answer, failed, generator_of, judging, run

SIZE = (6, 9)  # rows and columns of the feature maps, small enough to print and to process in loops
PRECISE = "These values have more digits than half precision (float16). Keep the precision of the features."
EMPTY = "The value of an empty bin is 0"
EMPTY_BACKWARD = "The gradient of an empty bin goes nowhere."
SMALL = (4, 5)  # rows and columns if there are several maps
SQUARE = 6  # both sides of a square map


@original
def roi_pool(function: Function, seed: int | None = None) -> None:
    """Raise CheckFailed unless `function` computes RoIPool.

    Parameters
    ----------
    function : callable
        ``function(features, rois, roi_images, output_size, spatial_scale)``. `features` contains the maps of N images
        with C channels, (N, C, H, W). `rois` contains R boxes in pixels, (R, 4), and `roi_images` contains the index of
        the image of each RoI, (R,). `output_size` is (ph, pw), the numbers of rows and columns of bins. `spatial_scale`
        is the factor that converts pixels to cells. The function returns one value for each channel and bin of each
        RoI, (R, C, ph, pw). The corners of a RoI are multiplied by the scale and rounded; halves are rounded away from
        zero. The cells at both corners belong to the RoI. The bins divide the RoI evenly. Each bin extends from the
        floor of its start to the ceiling of its end, clipped to the map. The value of a bin is the maximum of its
        cells, or 0 if it contains no cell.
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
    run("roi_pool", function, roi.roi_pool, _pool_cases(generator_of(seed)), rows=(("rois", "roi_images"),))


@original
def roi_pool_backward(function: Function, seed: int | None = None) -> None:
    """Raise CheckFailed unless `function` computes the gradient of RoIPool.

    Parameters
    ----------
    function : callable
        ``function(grad, features, rois, roi_images, spatial_scale)``. The first argument is the gradient of a loss with
        respect to the output of RoIPool, (R, C, ph, pw). The function returns the gradient with respect to `features`,
        (N, C, H, W). The conventions are the same as in `checks.roi_pool`. If several cells of a bin are the largest,
        the first of them, by row and then by column, receives the gradient.
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
    Girshick, "Fast R-CNN", 2015, section 2.3.
    """
    rng = generator_of(seed)
    run(
        "roi_pool_backward",
        function,
        roi.roi_pool_backward,
        _pool_backward_cases(rng),
        rows=(("grad", "rois", "roi_images"),),
        explain=_explained_factor,
    )
    with judging("roi_pool_backward"):
        _check_floats(function, rng)


def _check_floats(function: Function, rng: np.random.Generator) -> None:
    """Raise CheckFailed if `function` returns an array of integers for a gradient of integers."""
    case = _pooled(_maps(rng), [1, 1, 4, 4], (1, 2), "")
    names = ("features", "rois", "roi_images", "spatial_scale")
    arguments = {"grad": np.array([[[[3, -2]]]]), **{name: case.arguments[name] for name in names}}
    case = Case(arguments, "")
    got, failure = answer(function, case)
    if failure is None and isinstance(got, np.ndarray) and got.dtype.kind in "iu":
        failure = Failure(
            f"returns {got.dtype} values; expected floats",
            got,
            got.astype(float),
            "The given gradient may consist of integers, but the result is an array of floats. Which dtype has the "
            "array that you create?",
        )
    if failure is not None:
        raise failed("roi_pool_backward", case, failure)


@original
def roi_align(function: Function, seed: int | None = None) -> None:
    """Raise CheckFailed unless `function` computes RoIAlign, the mean of interpolated values in each bin.

    Parameters
    ----------
    function : callable
        ``function(features, rois, roi_images, output_size, spatial_scale, sampling_ratio, aligned)``. The first five
        arguments and the shape of the result, (R, C, ph, pw), are the same as in `checks.roi_pool`. Each bin has
        `sampling_ratio` x `sampling_ratio` points, at least 1 x 1. A point that lies at most one cell outside the map
        (y from -1 to H, x from -1 to W) is moved to the nearest position inside. The value of a point farther outside
        is zero. With `aligned`, coordinates shift by half a cell after scaling. Without `aligned`, a RoI is at least
        one cell wide and high.
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
    run("roi_align", function, roi.roi_align, _align_cases(generator_of(seed)), rows=(("rois", "roi_images"),))


@original
def roi_align_backward(function: Function, seed: int | None = None) -> None:
    """Raise CheckFailed unless `function` computes the gradient of RoIAlign.

    Parameters
    ----------
    function : callable
        ``function(grad, rois, roi_images, features_shape, spatial_scale, sampling_ratio, aligned)``. `grad` is the
        gradient of a loss with respect to the output of RoIAlign, (R, C, ph, pw), and `features_shape` is the shape (N,
        C, H, W) of the features. The function returns the gradient with respect to the features, (N, C, H, W). The
        conventions are the same as in `checks.roi_align`.
    seed : int, optional
        Seed for the random inputs. Without it, every call uses new inputs.

    Raises
    ------
    CheckFailed
        If any result is wrong. The message shows a hint and the smallest failing input that was found.
    TypeError
        If `function` is not callable.
    """
    run(
        "roi_align_backward",
        function,
        roi.roi_align_backward,
        _align_backward_cases(generator_of(seed)),
        rows=(("grad", "rois", "roi_images"),),
        explain=_explained_factor,
    )


def _explained_factor(function: Function, case: Case, failure: Failure) -> Failure:
    """Return the failure with another hint if the gradient is right but for a factor that an argument explains."""
    given, factor = case.arguments, _factor(failure)
    height, width = (given["features_shape"] if "features_shape" in given else given["features"].shape)[2:]
    cells = given["rois"] * given["spatial_scale"]
    if factor is None or (cells < 0).any() or (cells > [width - 1, height - 1] * 2).any():
        return failure
    scale, points = given["spatial_scale"], given.get("sampling_ratio", 1) ** 2
    count = int(np.prod(given["grad"].shape[2:]))
    of_scale = "`spatial_scale` only converts coordinates, from pixels to cells. Do not {} the gradient by it."
    meanings = (
        (scale, of_scale.format("multiply")),
        (scale**2, of_scale.format("multiply")),
        (1 / scale, of_scale.format("divide")),
        (1 / points, f"The gradient is divided by the number of points of a bin, {points}, once too often."),
        (1 / count, f"The gradient is divided by the number of bins, {count}. Each bin has a gradient of its own."),
    )
    hint = next((hint for value, hint in meanings if value != 1 and np.isclose(factor, value)), None)
    note = f"Your result is {factor:.4g} times the expected result."
    return failure if hint is None else replace(failure, hint=hint, note=note)


def _factor(failure: Failure) -> float | None:
    """Return the number by which an expected result was multiplied, or None if there is no such number."""
    got, expected = failure.got, failure.expected
    if not isinstance(got, np.ndarray) or not isinstance(expected, np.ndarray) or got.shape != expected.shape:
        return None
    largest = np.abs(expected).argmax() if expected.size else 0
    if not expected.size or expected.flat[largest] == 0 or got.dtype.kind not in "fiu":
        return None
    factor = float(got.flat[largest] / expected.flat[largest])
    return factor if factor and np.allclose(got, factor * expected, rtol=1e-5, atol=1e-6) else None


# ---------------------------------------------------------------------- RoIPool
#
# Coordinates are multiples of 1/8 of a cell, and scales are powers of two, so float32 represents every corner
# exactly. There are at most 6 bins in a row, so rounding errors of the division cannot change a floor or a ceiling.


def _pool_cases(rng: np.random.Generator) -> Iterator[Case]:
    height, width = SIZE
    x, y = int(rng.integers(5, 7)), int(rng.integers(0, 3))
    yield _pooled(
        _peak(_maps(rng), y + 1, x + 1),
        [x, y, x + 2, y + 2],
        (1, 1),
        "A map is indexed as [y, x]: first the row, then the column. The value of a bin is its largest cell.",
    )
    yield _pooled(
        _peak(_maps(rng), y + 2, x + 2),
        [x, y, x + 2, y + 2],
        (1, 1),
        "The cells at both corners belong to a RoI. A RoI from column 3 to column 5 has three columns.",
    )
    beyond = _peak(_peak(_maps(rng), y + 1, x + 2), y + 2, x + 1)
    yield _pooled(
        beyond,
        [x - 1, y, x + 1, y + 1],
        (1, 1),
        "The cells just behind the last row and the last column do not belong to the RoI. A RoI from column 3 to "
        "column 5 has three columns. In a slice, the stop is exclusive.",
    )
    yield _pooled(
        _maps(rng) - 2000,
        [x, y, x + 2, y + 2],
        (1, 1),
        "Every value here is negative, so the maximum is negative, too. What is the initial value of your maximum?",
    )
    yield _pooled(
        _peak(_maps(rng) - 2000, y, x),
        [x, y, x, y],
        (1, 1),
        "This RoI begins and ends in the same cell, whose value is negative.",
    )
    yield _pooled(
        _maps(rng),
        [[0, 0, 3, 1], [5, 0, 6, 3], [2, 3, 4, 5]],
        (1, 1),
        "There are several RoIs, and most of them are not square. Treat every RoI, not only the first one, with its "
        "own rows and columns. A region has as many columns as the RoI is wide.",
    )
    yield _pooled(
        _peak(_maps(rng), 0, 0),
        [0, 0, 0, 0],
        (1, 1),
        "All coordinates of this RoI are 0: it consists of the first cell. It is an ordinary RoI.",
    )
    yield _pooled(
        _maps(rng, 3, 1, SMALL),
        [[0, 0, 1, 1], [3, 0, 4, 1], [0, 2, 1, 3], [2, 2, 4, 3]],
        (1, 1),
        "Each channel has its own maximum.",
    )
    yield _pooled(
        _maps(rng),
        [1, y, 6, y + 3],
        (2, 3),
        "There are ph rows and pw columns of bins. The rows divide the height, and the columns divide the width.",
    )
    shared = _peak(_peak(_maps(rng), y, 4), y + 3, 4)
    yield _pooled(
        shared,
        [2, y, 6, y + 3],
        (2, 2),
        "Five columns in two bins are 2.5 columns per bin. A bin contains every cell that it touches, from the floor "
        "of its start to the ceiling of its end, so neighbouring bins may share a cell.",
    )
    yield _pooled(
        _maps(rng),
        [x, y, x, y + 1],
        (3, 3),
        "There are fewer cells than bins. A bin is narrower than a cell here, but it still contains the cell that "
        "it lies on. Several bins therefore have the same value.",
    )
    yield _pooled(
        _maps(rng),
        [8, 4 * y, 24, 4 * y + 12],
        (2, 2),
        "RoIs are in pixels. Multiply them by spatial_scale to convert them to cells.",
        0.25,
    )
    left, top = 2 * int(rng.integers(0, 2)), 2 * int(rng.integers(0, 2))
    cornered = _peak(_maps(rng), top, left)
    yield _pooled(
        cornered,
        [4 * left + 3, 4 * top + 3, 4 * left + 13, 4 * top + 11],
        (1, 1),
        "Corners are rounded to the nearest whole cell, after scaling: 2.75 becomes 3 and 3.25 becomes 3.",
        0.25,
    )
    yield _pooled(
        cornered,
        [left + 0.5, top + 0.5, left + 2.5, top + 2.5],
        (1, 1),
        "A coordinate halfway between two whole numbers is rounded away from zero, so 2.5 becomes 3. What does your "
        "rounding function return for 2.5?",
    )
    over = [
        [-2, -1, 3, 2],
        [width - 4, height - 3, width + 1, height],
        [-2, height - 3, 3, height],
        [width - 4, -1, width + 1, 2],
    ]
    yield _pooled(
        _maps(rng),
        over,
        (2, 2),
        "This RoI extends beyond the edge of the map. Divide the whole RoI into bins first. Then clip the bins to the "
        "map.",
    )
    yield _pooled(
        _maps(rng),
        [[-5, 1, -3, 3], [width + 1, 1, width + 3, 3], [1, height + 2, 4, height + 4]],
        (1, 2),
        f"These bins contain no cell of the map. {EMPTY}.",
    )
    yield _pooled(
        _maps(rng) - 2000,
        [[-6, -4, 2, 3], [width - 2, height - 3, width + 6, height + 4], [-6, height - 2, 1, height + 5]],
        (4, 4),
        f"Some bins of this RoI contain no cell of the map, and others do. {EMPTY}, even if all cells are negative.",
    )
    yield _pooled(
        _peak(_maps(rng), 2, 1),
        [-0.5, 1, 2, 3],
        (1, 2),
        "Negative halves are rounded away from zero, too: -0.5 becomes -1.",
    )
    yield _pooled(
        _maps(rng) - 2000,
        np.array([[-40, -30, 60, 50], [-3.25, -2.5, width + 2.75, height + 3.5]]),
        (3, 2),
        "This RoI extends beyond the map on every side. Divide the whole RoI into bins first. Then clip the bins.",
    )
    yield _pooled(
        _maps(rng, 1, 3, SMALL),
        [[1, 0, 3, 2]] * 3,
        (1, 2),
        "For each RoI, roi_images contains the index of its image.",
        images=[2, 0, 1],
    )
    yield _pooled(
        _maps(rng),
        np.zeros((0, 4)),
        (2, 3),
        "Zero RoIs are valid input: the result has no rows.",
    )
    yield _pooled(
        _maps(rng).astype(np.int64), np.array([[0, 1, 4, 3], [2, 2, 2, 2]]), (2, 2), "Integers are valid input."
    )
    yield _pooled(
        _maps(rng) / 8,
        np.array([[0, 1, 4, 3], [2, 2, 2, 2]]),
        (2, 2),
        "RoIs may be integers, but the features are not. The result has their precision, not that of the RoIs.",
    )
    yield _pooled(
        _maps(rng).astype(np.float32), [[0, 1, 4, 3]], (2, 2), "float32 is valid input: networks compute in float32."
    )
    for size in ((9, 4), (4, 9)):
        yield _pooled(
            _maps(rng, 2, 2, size) - 500,
            _reaching_out(rng, 4, size),
            (3, 2),
            "The map may be tall or wide. Rows belong to y and to the height, and columns to x and to the width.",
            images=[0, 1, 1, 0],
        )
    yield _pooled(
        _maps(rng) * 37.7,
        [0, 0, width - 1, height - 1],
        (2, 3),
        f"{PRECISE} Return the largest cell as it is.",
    )
    for channels, count in ((1, 1), (1, 4), (3, 8), (2, 2)):
        yield _pooled(
            _maps(rng, channels, 2, SMALL) - 500,
            _drawn(rng, count, 0.5),
            _bins(rng),
            "These RoIs are random. For this one, write down the corners after scaling and rounding, then where each "
            "bin starts and ends.",
            0.5,
            rng.integers(0, 2, count),
        )
    of_channels = _maps(rng, 2)
    yield _pooled(
        of_channels - of_channels.max(axis=(2, 3), keepdims=True),
        [0, 0, width - 1, height - 1],
        (2, 3),
        "A cell may be 0, or below 0. It is an ordinary value, and the largest value of a bin may be 0.",
    )
    edge = 512 * (width - 4) + 255  # float16 rounds it up, to half a cell
    yield _pooled(
        _maps(rng),
        [edge, 0, edge, 512],
        (1, 1),
        "RoIs are in pixels of a large image. Their coordinates need full precision: float16 changes how they are "
        "rounded.",
        1 / 512,
    )


def _pooled(
    features: np.ndarray,
    rois: ArrayLike,
    output_size: tuple[int, int],
    hint: str,
    scale: float = 1.0,
    images: ArrayLike | None = None,
) -> Case:
    boxes = _boxes(rois)
    return Case(
        {
            "features": features,
            "rois": boxes,
            "roi_images": _images(images, boxes),
            "output_size": output_size,
            "spatial_scale": scale,
        },
        hint,
    )


def _pool_backward_cases(rng: np.random.Generator) -> Iterator[Case]:
    def backward(case: Case) -> Case:
        given = case.arguments
        grad = _grad(rng, given["rois"], given["features"].shape[1], given["output_size"])
        names = ("features", "rois", "roi_images", "spatial_scale")
        before, empty, _ = case.hint.partition(EMPTY)
        return Case(
            {"grad": grad, **{name: given[name] for name in names}}, before + EMPTY_BACKWARD if empty else case.hint
        )

    x, y = int(rng.integers(5, 7)), int(rng.integers(0, 3))
    peak = _peak(_maps(rng), y + 1, x + 1)
    yield backward(
        _pooled(
            peak,
            [x, y, x + 2, y + 2],
            (1, 1),
            "The output changes only if the largest cell of a bin changes. The whole gradient of the bin therefore "
            "goes to that cell. The other cells receive none.",
        )
    )
    _, corner, *others = _pool_cases(rng)
    yield backward(corner)
    yield backward(
        _pooled(
            peak,
            [x - 3, y, x + 2, y + 1],
            (1, 1),
            "This RoI is wider than high. `argmax` of a region counts along its rows: index = row * width + column. "
            "Divide by the number of columns.",
        )
    )
    yield backward(
        _pooled(
            _maps(rng),
            [1, y, 6, y + 3],
            (2, 3),
            "The gradient has ph rows and pw columns, one element for each bin: the rows divide the height, and the "
            "columns divide the width.",
        )
    )
    yield backward(
        _pooled(
            peak,
            [x + 1, y + 1, x + 1, y + 1],
            (1, 2),
            "One cell may be the maximum of several bins. It then receives a gradient from each bin, and these "
            "gradients add up.",
        )
    )
    yield backward(
        _pooled(
            peak,
            [[x, y, x + 1, y + 1], [x + 1, y + 1, x + 2, y + 2]],
            (1, 1),
            "Two RoIs that overlap may have the same maximum. The gradients of all RoIs add up. None replaces another.",
        )
    )
    yield backward(
        _pooled(
            _maps(rng),
            np.zeros((0, 4)),
            (2, 3),
            "Without RoIs, no output depends on the features. The gradient has the shape of the features and is 0 "
            "everywhere.",
        )
    )
    yield backward(
        _pooled(
            _maps(rng).astype(np.int64),
            [x, y, x, y],
            (1, 1),
            "The gradient of integer features need not be an integer. What is the dtype of your result?",
        )
    )
    yield backward(
        _pooled(
            np.full((1, 1, *SMALL), 3.0),
            [0, 0, 2, 2],
            (1, 1),
            "All cells of this bin are equal. Only the first cell, by row and then by column, receives the gradient, "
            "and it receives the whole gradient.",
        )
    )
    yield backward(
        _pooled(
            np.zeros((1, 1, *SMALL)),
            [1, 0, 2, 3],
            (1, 1),
            "All features are 0, as they may be after ReLU. 0 is an ordinary value, and the first cell receives the "
            "gradient. Only a bin without cells sends nothing: test its size, not its values.",
        )
    )
    yield from map(backward, others)
    for size in (SMALL, SMALL[::-1]):
        yield backward(
            _pooled(
                rng.integers(-2, 1, (2, 2, *size)).astype(float),
                [[0, 0, size[1] - 1, size[0] - 1], [1, 0, size[1] - 1, 2]],
                (2, 2),
                "Several cells of a bin are the largest. The first of them, by row and then by column, receives the "
                "whole gradient. The others receive none.",
                images=[0, 1],
            )
        )
    two = backward(
        _pooled(
            _maps(rng, 2),
            [[x, y, x + 2, y + 2]] * 2,
            (2, 2),
            "The same RoI occurs twice. The gradients of both add up.",
        )
    )
    yield two
    yield from _other_gradients(two)


# ---------------------------------------------------------------------- RoIAlign
#
# The value jumps where a point begins to count as 0. Near that limit, float32 represents the coordinates of all
# points exactly.


def _align_cases(rng: np.random.Generator) -> Iterator[Case]:
    height, width = SIZE
    x, y = int(rng.integers(5, 7)), int(rng.integers(2, 4))
    on_pixel = np.array([[x - 1.0, y - 2, x + 1, y + 2], [x - 3.0, y - 2, x - 1, y + 2]])
    yield _aligned(
        _numbered(),
        on_pixel,
        (1, 1),
        1,
        "The only point of the only bin is in the middle of the RoI. Do not add 1 to the sides of the RoI. Here the "
        "point is exactly on a cell, so the result is the value of that cell. The map contains 10 * row + column, "
        "so your result shows which cell you have read.",
    )
    yield _aligned(
        _numbered(),
        on_pixel + [0.25, 0.75, 0.25, 0.75],
        (1, 1),
        1,
        "Here the point lies between four cells, because coordinates are not rounded. The nearer a cell is, along "
        "x and along y, the more it counts.",
    )
    yield _aligned(
        _maps(rng),
        on_pixel + [0, 1, 0, -1],
        (1, 1),
        2,
        "The bin has four points. Divide it into 2 x 2 parts, with a point in the middle of each part. The result "
        "is the average of the points.",
    )
    for sampling_ratio in (1, 3):
        yield _aligned(
            _maps(rng),
            [x - 3, y - 2, x + 1, y + 2],
            (1, 1),
            sampling_ratio,
            "The number of points is an argument: each bin has sampling_ratio x sampling_ratio points, here "
            f"{sampling_ratio} x {sampling_ratio}.",
        )
    yield _aligned(
        _maps(rng),
        [1, 0.5, 7, 4.5],
        (2, 3),
        2,
        "There are ph rows and pw columns of bins. The rows divide the height, and the columns divide the width. "
        "Every bin has its own points.",
    )
    yield _aligned(
        _maps(rng),
        [9, 5, 25, 15],
        (2, 2),
        2,
        "RoIs are in pixels. Multiply them by spatial_scale to convert them to cells.",
        scale=0.25,
    )
    small = [x + 0.25, y + 0.5, x + 0.5, y + 0.75]
    yield _aligned(
        _maps(rng),
        small,
        (1, 2),
        2,
        "This RoI is narrower than one cell. Without `aligned`, it is enlarged to a width and a height of "
        "one cell. Its top left corner stays.",
    )
    yield _aligned(
        _maps(rng),
        [9, 5, 25, 15],
        (2, 2),
        2,
        "With `aligned`, coordinates shift by half a cell. Do you shift them before or after scaling? And in "
        "which direction?",
        scale=0.25,
        aligned=True,
    )
    yield _aligned(_maps(rng), small, (1, 2), 2, "With `aligned`, a small RoI is not enlarged.", aligned=True)
    yield _aligned(
        _maps(rng),
        [width - 1.5, height - 1.5, width, height],
        (1, 1),
        2,
        "Some points lie beyond the middle of the last cell, where there is no next cell. There, the value of the "
        "border cell counts in full.",
    )
    yield _aligned(
        _maps(rng),
        [[-1, -1, 1, 1], [-1, 1, 1, 3]],
        (1, 1),
        2,
        "A point may lie before the first cell, at -0.5. There, the value of the border cell counts in full. "
        "Remember what a negative index means in Python.",
    )
    yield _aligned(
        _maps(rng),
        [[-4, -4, 4, 4], [width - 3, height - 3, width + 5, height + 5]],
        (1, 1),
        2,
        "A point more than one cell outside the map counts as 0. It is still part of the average, which is over all "
        "points of a bin.",
    )
    yield _aligned(
        _maps(rng),
        [
            [-2.0, 1, 2, 3],
            [width - 1.5, 1, width + 0.5, 3],
            [1.0, -2, 3, 2],
            [1.0, height - 1.5, 3, height + 0.5],
            [width - 1.5, height - 1.5, width + 0.5, height + 0.5],
        ],
        (1, 1),
        2,
        "These points are exactly one cell outside the map, at -1 or at the width or height of the map. That is not "
        "*more* than one cell.",
    )
    yield _aligned(
        _maps(rng, 3, 1, SMALL),
        [0.25, 0.5, 3.25, 2.5],
        (1, 2),
        2,
        "Each channel is read separately, at the same positions.",
    )
    yield _aligned(
        _maps(rng, 1, 3, SMALL),
        [[1, 0, 3, 2]] * 3,
        (1, 2),
        2,
        "For each RoI, roi_images contains the index of its image.",
        images=[2, 0, 1],
    )
    yield _aligned(
        _maps(rng),
        np.zeros((0, 4)),
        (2, 3),
        2,
        "Zero RoIs are valid input: the result has no rows.",
    )
    yield _aligned(
        _maps(rng).astype(np.int64),
        np.array([[0, 1, 5, 4]]),
        (2, 2),
        1,
        "Integers are valid input, but their average need not be an integer.",
    )
    yield _aligned(
        _maps(rng) / 1024,
        np.array([[0, 1, 5, 4]]),
        (2, 2),
        2,
        "RoIs may be integers, but the features are fractions here. Do not convert them to integers.",
    )
    yield _aligned(
        _maps(rng).astype(np.float32),
        [0, 1, 5, 4],
        (2, 2),
        3,
        "The number of points is an argument: each bin has sampling_ratio x sampling_ratio points.",
    )
    for size in ((9, 4), (4, 9)):
        for aligned, ratio in ((False, 2), (True, 1)):
            yield _aligned(
                _maps(rng, 2, 2, size),
                _reaching_out(rng, 4, size),
                (2, 4) if aligned else (4, 1),
                ratio,
                "The map may be tall or wide, and a RoI may extend beyond it on any side. Rows belong to y and to the "
                "height, and columns to x and to the width. For each point, decide along each axis: is it more than "
                "one cell outside?",
                aligned=aligned,
                images=[0, 1, 1, 0],
            )
    yield _aligned(_maps(rng) * 37.7, [1, 0.5, 7, 4.5], (2, 3), 2, PRECISE)
    low = rng.uniform(0.5, 2, (3, 2))
    inside = np.concatenate([low, low + rng.uniform(1.2, 2.5, (3, 2))], axis=1).round(3)
    yield _aligned(_maps(rng), inside, (2, 3), 2, "These RoIs end at fractions of a cell. Do not round any coordinate.")
    for aligned in (False, True):
        yield _aligned(
            _maps(rng) - 2000,
            np.array([[-40, -30, 56, 50], [-3.25, -2.5, width + 2.75, height + 3.5]]),
            (2, 4),
            4,
            "This RoI extends beyond the map on every side. Only its points outside the map count as 0.",
            aligned=aligned,
        )
    for channels, count in ((1, 1), (1, 4), (3, 8), (2, 2)):
        for aligned in (False, True):
            yield _aligned(
                _maps(rng, channels, 2, SMALL),
                _drawn(rng, count, 0.5),
                _bins(rng),
                int(rng.integers(1, 4)),
                "These RoIs are random. For this one, write down where the points of the first and of the last bin "
                "lie.",
                scale=0.5,
                aligned=aligned,
                images=rng.integers(0, 2, count),
            )
    for sampling_ratio in (1, 2):
        yield _aligned(
            _maps(rng, 2, size=(SQUARE, SQUARE)),
            [1.25, 2.5, 3.75, 4.25],
            (2, 2),
            sampling_ratio,
            "The map and the output are square, but the RoI is not. The rows follow y, and the columns follow x.",
        )
    yield from _at_the_edge_cases(rng)


def _at_the_edge_cases(rng: np.random.Generator) -> Iterator[Case]:
    """Yield RoIs that begin in the last cell or behind it, that end before the first cell, or that have no area."""
    height, width = SIZE
    beyond = "Decide for each point, not for the whole RoI, whether it is more than one cell outside the map."
    outside: list[list[list[float]]] = [
        [[width - 0.75, 1, width + 1, 3], [1, height - 0.75, 3, height + 1]],
        [[-1.5, 1, -0.25, 3], [1, -1.5, 3, -0.25]],
        [
            [width + 1.5, 1, width + 4, 3],
            [1, height + 1.5, 3, height + 4],
            [width + 2, height + 2, width + 5, height + 3],
        ],
    ]
    for rois in outside:
        for aligned in (False, True):
            yield _aligned(
                _maps(rng),
                rois,
                (2, 2),
                2,
                f"This RoI lies at the border of the map or outside. {beyond}",
                aligned=aligned,
            )
    for aligned in (False, True):
        yield _aligned(
            _maps(rng),
            [0, 0, 0, 0],
            (1, 1),
            1,
            "All coordinates of this RoI are 0. It is an ordinary RoI at the first cell.",
            aligned=aligned,
        )
    yield _aligned(
        _maps(rng),
        [[2, 1, 2, 1], [3, 2, 3, 4], [4, 3, 6, 3]],
        (2, 2),
        2,
        "A RoI may have no area. Without `aligned`, its sides are at least one cell long, and it is an ordinary RoI.",
    )
    yield _aligned(
        _maps(rng),
        [8, 4, 16, 14],
        (2, 2),
        2,
        "`spatial_scale` is any positive number: multiply by it. 1 / spatial_scale need not be an integer.",
        scale=0.375,
    )


def _aligned(
    features: np.ndarray,
    rois: ArrayLike,
    output_size: tuple[int, int],
    sampling_ratio: int,
    hint: str,
    scale: float = 1.0,
    aligned: bool = False,
    images: ArrayLike | None = None,
) -> Case:
    boxes = _boxes(rois)
    return Case(
        {
            "features": features,
            "rois": boxes,
            "roi_images": _images(images, boxes),
            "output_size": output_size,
            "spatial_scale": scale,
            "sampling_ratio": sampling_ratio,
            "aligned": aligned,
        },
        hint,
    )


def _align_backward_cases(rng: np.random.Generator) -> Iterator[Case]:
    def backward(case: Case) -> Case:
        given = case.arguments
        shape = given["features"].shape
        grad = _grad(rng, given["rois"], shape[1], given["output_size"])
        return Case(
            {
                "grad": grad,
                "rois": given["rois"],
                "roi_images": given["roi_images"],
                "features_shape": shape,
                **{name: given[name] for name in ("spatial_scale", "sampling_ratio", "aligned")},
            },
            case.hint,
        )

    x, y = int(rng.integers(5, 7)), int(rng.integers(2, 4))
    features = _maps(rng)
    yield backward(
        _aligned(
            features,
            [x - 1, y - 2, x + 1, y + 2],
            (1, 1),
            1,
            "The only point is in the middle of the RoI, exactly on a cell. The whole gradient goes to that cell, "
            "and the gradient of every other cell is 0.",
        )
    )
    yield backward(
        _aligned(
            features,
            [x - 0.75, y - 1.25, x + 1.25, y + 2.75],
            (1, 1),
            1,
            "The value at the point is a weighted sum of four cells. Each cell receives the gradient times its own "
            "weight in this sum.",
        )
    )
    yield backward(
        _aligned(
            features,
            [x - 2, y - 2, x + 2, y + 2],
            (1, 1),
            2,
            "The output is the average of four points, so each point receives a quarter of the gradient.",
        )
    )
    yield backward(
        _aligned(
            features,
            [x - 1, y - 1, x + 1, y + 1],
            (1, 1),
            2,
            "Several points of a bin read the same cell. Their gradients add up. None replaces another.",
        )
    )
    yield backward(
        _aligned(
            features,
            [[x - 1, y - 2, x + 1, y + 2]] * 2,
            (1, 1),
            1,
            "Two RoIs read the same cell. The gradients of all RoIs add up. None replaces another.",
        )
    )
    yield backward(
        _aligned(
            features,
            np.zeros((0, 4)),
            (2, 3),
            2,
            "Without RoIs, no output depends on the features. The gradient has the shape of the features and is 0 "
            "everywhere.",
        )
    )
    yield from map(backward, _align_cases(rng))
    yield from _other_gradients(
        backward(_aligned(_maps(rng, 2), [[x - 2, y - 2, x + 2, y + 1], [x - 1, y, x + 1, y + 2]], (2, 2), 2, ""))
    )


def _other_gradients(case: Case) -> Iterator[Case]:
    """Yield the case of a backward pass again, with integer gradients and with gradients that are 0."""
    grad = case.arguments["grad"]
    yield Case(
        {**case.arguments, "grad": np.rint(4 * grad).astype(np.int64)},
        "The given gradient consists of integers. The result need not be an integer.",
    )
    for nothing in (np.s_[:1], np.s_[:, :1]):
        partly = grad.copy()
        partly[nothing] = 0
        yield Case(
            {**case.arguments, "grad": partly},
            "The given gradient is 0 for the first RoI, or for the first channel. All others still count.",
        )


# ---------------------------------------------------------------------- drawn inputs


def _maps(rng: np.random.Generator, channels: int = 1, images: int = 1, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Generate random feature maps (N, C, H, W) of whole numbers from 1 to 1000, all different."""
    shape = (images, channels, *size)
    return rng.choice(np.arange(1.0, 1001), shape, replace=False)


def _numbered() -> np.ndarray:
    """Return a feature map whose values are 10 * row + column, so that a value shows where it was read."""
    rows, columns = np.indices(SIZE)
    return (10.0 * rows + columns)[None, None]


def _peak(features: np.ndarray, row: int, column: int) -> np.ndarray:
    """Return a copy of the maps in which this position is larger than all others."""
    higher = features.copy()
    higher[:, :, row, column] = features.max() + 1 + np.arange(features.shape[1])
    return higher


def _boxes(rois: ArrayLike) -> np.ndarray:
    """Return RoIs as an array (R, 4). A list becomes an array of floats, and may be flat if there is only one RoI."""
    return rois if isinstance(rois, np.ndarray) else np.array(rois, float).reshape(-1, 4)


def _images(images: ArrayLike | None, boxes: np.ndarray) -> np.ndarray:
    return np.zeros(len(boxes), np.int64) if images is None else np.asarray(images, np.int64)


def _drawn(rng: np.random.Generator, count: int, scale: float) -> np.ndarray:
    """Generate RoIs (count, 4) within small maps, in pixels. Their corners are multiples of 1/4 cell."""
    height, width = SMALL
    left, top = rng.integers(0, 4 * (width - 1), count), rng.integers(0, 4 * (height - 1), count)
    right, bottom = rng.integers(left, 4 * width) + 1, rng.integers(top, 4 * height) + 1
    return np.stack([left, top, right, bottom], axis=1) / (4 * scale)


def _reaching_out(rng: np.random.Generator, count: int, size: tuple[int, int]) -> np.ndarray:
    """Generate RoIs (count, 4) that extend beyond maps of this size: to the left, right, top and bottom in turn."""
    height, width = size
    rois = np.tile([0.5, 0.5, width - 1.5, height - 1.5], (count, 1))
    edge = rng.permutation(count) % 4
    rois[np.arange(count), edge] += np.where(edge < 2, -1, 1) * rng.integers(6, 17, count) / 4
    return rois


def _bins(rng: np.random.Generator) -> tuple[int, int]:
    high, wide = rng.integers(1, 5, 2).tolist()
    return high, wide


def _grad(rng: np.random.Generator, rois: np.ndarray, channels: int, output_size: tuple[int, int]) -> np.ndarray:
    """Generate a random gradient (R, C, ph, pw) without whole numbers. The sum of two of its elements is never 0."""
    shape = (len(rois), channels, *output_size)
    sizes = rng.permutation(int(np.prod(shape))).reshape(shape) + 0.25
    return sizes * rng.choice([-1.0, 1.0], shape)

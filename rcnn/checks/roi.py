"""Checks of RoIPool and RoIAlign, forward and backward."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike

from rcnn import roi
from rcnn._ext.dispatch import original
from rcnn.checks._engine import Case, Function, run

SIZE = (6, 9)  # rows and columns of the feature maps: small enough to print, and fast enough for loops
SMALL = (4, 5)  # if there are several maps


@original
def roi_pool(function: Function, seed: int | None = None) -> None:
    """Raise CheckFailed unless `function` computes RoIPool.

    Parameters
    ----------
    function : callable
        ``function(features, rois, roi_images, output_size, spatial_scale)``. Takes feature maps (N, C, H, W), RoIs (R,
        4) in image pixels, the index of each RoI's image (R,), and (ph, pw). Returns (R, C, ph, pw). Corners are
        multiplied by the scale and rounded, halves away from zero; both corner pixels belong to the RoI. The bins
        divide the RoI evenly: each goes from the floor of its start to the ceiling of its end, clipped to the map. The
        value of a bin is its maximum, or 0 if it has no pixel.
    seed : int, optional
        Seed for the random inputs. Without it, every call uses new inputs.

    Raises
    ------
    CheckFailed
        If any answer is wrong. The message shows the smallest failing input found and a hint.
    TypeError
        If `function` is not callable.

    References
    ----------
    Girshick, "Fast R-CNN", 2015, section 2.1.
    """
    run("roi_pool", function, roi.roi_pool, _pool_cases(np.random.default_rng(seed)), rows=(("rois", "roi_images"),))


@original
def roi_pool_backward(function: Function, seed: int | None = None) -> None:
    """Raise CheckFailed unless `function` computes the gradient of RoIPool.

    Parameters
    ----------
    function : callable
        ``function(grad, features, rois, roi_images, spatial_scale)``. Takes the gradient with respect to RoIPool's
        output, (R, C, ph, pw), and returns the gradient with respect to `features`, (N, C, H, W). The conventions are
        those of `checks.roi_pool`. No two pixels of a map are equal.
    seed : int, optional
        Seed for the random inputs. Without it, every call uses new inputs.

    Raises
    ------
    CheckFailed
        If any answer is wrong. The message shows the smallest failing input found and a hint.
    TypeError
        If `function` is not callable.

    References
    ----------
    Girshick, "Fast R-CNN", 2015, section 2.3.
    """
    run(
        "roi_pool_backward",
        function,
        roi.roi_pool_backward,
        _pool_backward_cases(np.random.default_rng(seed)),
        rows=(("grad", "rois", "roi_images"),),
    )


@original
def roi_align(function: Function, seed: int | None = None) -> None:
    """Raise CheckFailed unless `function` computes RoIAlign, averages of bilinear samples.

    Parameters
    ----------
    function : callable
        ``function(features, rois, roi_images, output_size, spatial_scale, sampling_ratio, aligned)``. Takes the first
        five arguments as in `checks.roi_pool` and returns (R, C, ph, pw). Each bin has `sampling_ratio` x
        `sampling_ratio` samples, at least 1 x 1. A sample up to one pixel outside the map, from -1 to H or W, moves to
        the nearest position inside; one farther outside counts as 0. With `aligned`, coordinates shift by half a
        feature pixel after scaling. Without it, a RoI is at least one feature pixel wide and high.
    seed : int, optional
        Seed for the random inputs. Without it, every call uses new inputs.

    Raises
    ------
    CheckFailed
        If any answer is wrong. The message shows the smallest failing input found and a hint.
    TypeError
        If `function` is not callable.

    References
    ----------
    He et al., "Mask R-CNN", 2017, section 3.
    """
    run("roi_align", function, roi.roi_align, _align_cases(np.random.default_rng(seed)), rows=(("rois", "roi_images"),))


@original
def roi_align_backward(function: Function, seed: int | None = None) -> None:
    """Raise CheckFailed unless `function` computes the gradient of RoIAlign.

    Parameters
    ----------
    function : callable
        ``function(grad, rois, roi_images, features_shape, spatial_scale, sampling_ratio, aligned)``. Takes the gradient
        with respect to RoIAlign's output, (R, C, ph, pw), and the shape (N, C, H, W) of the features. Returns the
        gradient with respect to the features, in that shape. The conventions are those of `checks.roi_align`.
    seed : int, optional
        Seed for the random inputs. Without it, every call uses new inputs.

    Raises
    ------
    CheckFailed
        If any answer is wrong. The message shows the smallest failing input found and a hint.
    TypeError
        If `function` is not callable.
    """
    run(
        "roi_align_backward",
        function,
        roi.roi_align_backward,
        _align_backward_cases(np.random.default_rng(seed)),
        rows=(("grad", "rois", "roi_images"),),
    )


# ---------------------------------------------------------------------- RoIPool
#
# Coordinates are multiples of 1/8 of a feature pixel, and scales are powers of two, so every corner is exact, also in
# float32. At most 6 bins in a row divide without a rounding error that would change a floor or a ceiling.


def _pool_cases(rng: np.random.Generator) -> Iterator[Case]:
    height, width = SIZE
    x, y = int(rng.integers(5, 7)), int(rng.integers(0, 3))
    yield _pooled(
        _peak(_maps(rng), y + 1, x + 1),
        [x, y, x + 2, y + 2],
        (1, 1),
        "A map is indexed by row, then column, as [y, x]. A bin returns its largest value.",
    )
    yield _pooled(
        _peak(_maps(rng), y + 2, x + 2),
        [x, y, x + 2, y + 2],
        (1, 1),
        "Both corner pixels belong to a RoI: one from column 3 to column 5 has three columns.",
    )
    yield _pooled(
        _maps(rng) - 2000,
        [x, y, x + 2, y + 2],
        (1, 1),
        "Every value here is negative, so the maximum is negative, too: what does your maximum start from?",
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
        "There is a row of bins for each ph and a column for each pw: the first of the two divides the height.",
    )
    shared = _peak(_peak(_maps(rng), y, 4), y + 3, 4)
    yield _pooled(
        shared,
        [2, y, 6, y + 3],
        (2, 2),
        "Five columns in two bins are 2.5 each. A bin contains every pixel that it touches, from the floor of its "
        "start to the ceiling of its end, so neighbours may share one.",
    )
    yield _pooled(
        _maps(rng),
        [x, y, x, y + 1],
        (3, 3),
        "There are fewer pixels than bins. A bin is narrower than a pixel here, but still contains the one it lies "
        "on, so several bins have the same value.",
    )
    yield _pooled(
        _maps(rng),
        [8, 4 * y, 24, 4 * y + 12],
        (2, 2),
        "RoIs are in pixels of the image. Multiplied by spatial_scale, they are in pixels of the features.",
        0.25,
    )
    left, top = 2 * int(rng.integers(0, 2)), 2 * int(rng.integers(0, 2))
    cornered = _peak(_maps(rng), top, left)
    yield _pooled(
        cornered,
        [4 * left + 3, 4 * top + 3, 4 * left + 13, 4 * top + 11],
        (1, 1),
        "Corners are rounded to the nearest whole pixel, after scaling: 2.75 becomes 3 and 3.25 becomes 3.",
        0.25,
    )
    yield _pooled(
        cornered,
        [left + 0.5, top + 0.5, left + 2.5, top + 2.5],
        (1, 1),
        "A corner halfway between two pixels rounds away from zero, so 2.5 becomes 3. What does your rounding "
        "function do with it?",
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
        "This RoI reaches over the edge of the map. The bins divide all of it, and are clipped to the map only then.",
    )
    yield _pooled(
        _maps(rng),
        [[-5, 1, -3, 3], [width + 1, 1, width + 3, 3], [1, height + 2, 4, height + 4]],
        (1, 2),
        "No pixel of the map lies in these bins. The value of such a bin is 0.",
    )
    yield _pooled(
        _peak(_maps(rng), 2, 1),
        [-0.5, 1, 2, 3],
        (1, 2),
        "Halves round away from zero on both sides of it: -0.5 becomes -1.",
    )
    yield _pooled(
        _maps(rng, 1, 3, SMALL),
        [[1, 0, 3, 2]] * 3,
        (1, 2),
        "Each RoI lies on the image whose index is its entry in roi_images.",
        images=[2, 0, 1],
    )
    yield _pooled(
        _maps(rng),
        np.zeros((0, 4)),
        (2, 3),
        "Zero RoIs are valid input: the answer has no rows.",
    )
    yield _pooled(
        _maps(rng).astype(np.int64), np.array([[0, 1, 4, 3], [2, 2, 2, 2]]), (2, 2), "Integers are valid input."
    )
    yield _pooled(
        _maps(rng).astype(np.float32), [[0, 1, 4, 3]], (2, 2), "float32 is valid input: networks compute in float32."
    )
    for channels, count in ((1, 1), (1, 4), (3, 8)):
        yield _pooled(
            _maps(rng, channels, 2, SMALL) - 500,
            _drawn(rng, count, 0.5),
            _bins(rng),
            "These RoIs are random. For this one, write down the corners after scaling and rounding, then where each "
            "bin starts and ends.",
            0.5,
            rng.integers(0, 2, count),
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
        return Case({"grad": grad, **{name: given[name] for name in names}}, case.hint)

    x, y = int(rng.integers(5, 7)), int(rng.integers(0, 3))
    peak = _peak(_maps(rng), y + 1, x + 1)
    yield backward(
        _pooled(
            peak,
            [x, y, x + 2, y + 2],
            (1, 1),
            "A small change of any pixel but the largest does not change the output. So all of a bin's gradient goes "
            "to the pixel that was its maximum, and none to the others.",
        )
    )
    _, corner, *others = _pool_cases(rng)
    yield backward(corner)
    yield backward(
        _pooled(
            peak,
            [x + 1, y + 1, x + 1, y + 1],
            (1, 2),
            "One pixel may be the maximum of several bins, and then receives a gradient from each: gradients add up.",
        )
    )
    yield backward(
        _pooled(
            peak,
            [[x, y, x + 1, y + 1], [x + 1, y + 1, x + 2, y + 2]],
            (1, 1),
            "Two RoIs that overlap may have the same maximum. The gradients of all RoIs add up, none replaces another.",
        )
    )
    yield backward(
        _pooled(
            _maps(rng),
            np.zeros((0, 4)),
            (2, 3),
            "Without RoIs no output depends on the features: the gradient is 0 everywhere, in the shape of the "
            "features.",
        )
    )
    yield backward(
        _pooled(
            _maps(rng).astype(np.int64),
            [x, y, x, y],
            (1, 1),
            "Integer features have a gradient that is not an integer: what type does your result have?",
        )
    )
    yield from map(backward, others)


# ---------------------------------------------------------------------- RoIAlign
#
# The value jumps where a sample begins to count as 0. Samples near that limit have coordinates that float32 represents
# exactly.


def _align_cases(rng: np.random.Generator) -> Iterator[Case]:
    height, width = SIZE
    x, y = int(rng.integers(5, 7)), int(rng.integers(2, 4))
    on_pixel = np.array([[x - 1.0, y - 2, x + 1, y + 2], [x - 3.0, y - 2, x - 1, y + 2]])
    yield _aligned(
        _maps(rng),
        on_pixel,
        (1, 1),
        1,
        "The single sample of a single bin is in the middle of the RoI, which goes from corner to corner with nothing "
        "added. Here that is exactly on a pixel, whose value is the answer.",
    )
    yield _aligned(
        _maps(rng),
        on_pixel + [0.25, 0.75, 0.25, 0.75],
        (1, 1),
        1,
        "Here the sample is between four pixels, because nothing is rounded. The nearer a pixel, the more it counts, "
        "along x and along y.",
    )
    yield _aligned(
        _maps(rng),
        on_pixel + [0, 1, 0, -1],
        (1, 1),
        2,
        "A bin has four samples: cut it into two by two parts, with a sample in the middle of each. Their average is "
        "the answer.",
    )
    yield _aligned(
        _maps(rng),
        [1, 0.5, 7, 4.5],
        (2, 3),
        2,
        "There is a row of bins for each ph and a column for each pw: the first of the two divides the height. Every "
        "bin has its own samples.",
    )
    yield _aligned(
        _maps(rng),
        [9, 5, 25, 15],
        (2, 2),
        2,
        "RoIs are in pixels of the image. Multiplied by spatial_scale, they are in pixels of the features.",
        scale=0.25,
    )
    small = [x + 0.25, y + 0.5, x + 0.5, y + 0.75]
    yield _aligned(
        _maps(rng),
        small,
        (1, 2),
        2,
        "This RoI is narrower than one feature pixel. Without `aligned`, it is enlarged to one feature pixel, in "
        "width and in height, from where it starts.",
    )
    yield _aligned(
        _maps(rng),
        [9, 5, 25, 15],
        (2, 2),
        2,
        "With `aligned`, coordinates move by half a feature pixel. Half of which pixel, so before or after scaling? "
        "And which way?",
        scale=0.25,
        aligned=True,
    )
    yield _aligned(_maps(rng), small, (1, 2), 2, "With `aligned`, a small RoI stays as small as it is.", aligned=True)
    yield _aligned(
        _maps(rng),
        [width - 1.5, height - 1.5, width, height],
        (1, 1),
        2,
        "Some samples lie beyond the middle of the last pixel, where there is no next one. There the border's value "
        "counts in full.",
    )
    yield _aligned(
        _maps(rng),
        [[-1, -1, 1, 1], [-1, 1, 1, 3]],
        (1, 1),
        2,
        "A sample may lie before the first pixel, at -0.5. There the border's value counts in full. Remember what a "
        "negative index means in Python.",
    )
    yield _aligned(
        _maps(rng),
        [[-4, -4, 4, 4], [width - 3, height - 3, width + 5, height + 5]],
        (1, 1),
        2,
        "A sample more than one pixel outside the map counts as 0, and it is part of the average: the average is over "
        "all samples of a bin.",
    )
    yield _aligned(
        _maps(rng),
        [[-2.0, 1, 2, 3], [width - 1.5, 1, width + 0.5, 3], [1.0, -2, 3, 2]],
        (1, 1),
        2,
        "Exactly one pixel outside, at -1 or at the map's width or height, is not more than one pixel.",
    )
    yield _aligned(
        _maps(rng, 3, 1, SMALL),
        [0.25, 0.5, 3.25, 2.5],
        (1, 2),
        2,
        "Each channel is sampled separately, at the same positions.",
    )
    yield _aligned(
        _maps(rng, 1, 3, SMALL),
        [[1, 0, 3, 2]] * 3,
        (1, 2),
        2,
        "Each RoI lies on the image whose index is its entry in roi_images.",
        images=[2, 0, 1],
    )
    yield _aligned(
        _maps(rng),
        np.zeros((0, 4)),
        (2, 3),
        2,
        "Zero RoIs are valid input: the answer has no rows.",
    )
    yield _aligned(
        _maps(rng).astype(np.int64),
        np.array([[0, 1, 5, 4]]),
        (2, 2),
        1,
        "Integers are valid input, but an average of them is not an integer.",
    )
    yield _aligned(
        _maps(rng).astype(np.float32),
        [0, 1, 5, 4],
        (2, 2),
        3,
        "The number of samples is an argument: sampling_ratio by sampling_ratio in each bin.",
    )
    for channels, count in ((1, 1), (1, 4), (3, 8)):
        for aligned in (False, True):
            yield _aligned(
                _maps(rng, channels, 2, SMALL),
                _drawn(rng, count, 0.5),
                _bins(rng),
                int(rng.integers(1, 4)),
                "These RoIs are random. For this one, write down where the samples of the first and of the last bin "
                "lie.",
                scale=0.5,
                aligned=aligned,
                images=rng.integers(0, 2, count),
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
            "The single sample is in the middle of the RoI, exactly on a pixel: the whole gradient goes there, and "
            "every other pixel has 0.",
        )
    )
    yield backward(
        _aligned(
            features,
            [x - 0.75, y - 1.25, x + 1.25, y + 2.75],
            (1, 1),
            1,
            "The sample is a weighted sum of four pixels. Each receives the gradient times the same weight.",
        )
    )
    yield backward(
        _aligned(
            features,
            [x - 2, y - 2, x + 2, y + 2],
            (1, 1),
            2,
            "The answer is the average of the four samples, so each receives a quarter of the gradient.",
        )
    )
    yield backward(
        _aligned(
            features,
            [x - 1, y - 1, x + 1, y + 1],
            (1, 1),
            2,
            "Several samples of a bin read the same pixel. Their gradients add up, none replaces another.",
        )
    )
    yield backward(
        _aligned(
            features,
            [[x - 1, y - 2, x + 1, y + 2]] * 2,
            (1, 1),
            1,
            "Two RoIs read the same pixel. The gradients of all RoIs add up, none replaces another.",
        )
    )
    yield backward(
        _aligned(
            features,
            np.zeros((0, 4)),
            (2, 3),
            2,
            "Without RoIs no output depends on the features: the gradient is 0 everywhere, in the shape of the "
            "features.",
        )
    )
    yield from map(backward, _align_cases(rng))


# ---------------------------------------------------------------------- drawn inputs


def _maps(rng: np.random.Generator, channels: int = 1, images: int = 1, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Draw feature maps (N, C, H, W) of whole numbers from 1 to 1000, all different."""
    shape = (images, channels, *size)
    return rng.choice(np.arange(1.0, 1001), shape, replace=False)


def _peak(features: np.ndarray, row: int, column: int) -> np.ndarray:
    """Return a copy of the maps in which this position is larger than all others."""
    higher = features.copy()
    higher[:, :, row, column] = features.max() + 1 + np.arange(features.shape[1])
    return higher


def _boxes(rois: ArrayLike) -> np.ndarray:
    """Return RoIs (R, 4), as floats unless they are an array already; a single RoI may be a flat list."""
    return rois if isinstance(rois, np.ndarray) else np.array(rois, float).reshape(-1, 4)


def _images(images: ArrayLike | None, boxes: np.ndarray) -> np.ndarray:
    return np.zeros(len(boxes), np.int64) if images is None else np.asarray(images, np.int64)


def _drawn(rng: np.random.Generator, count: int, scale: float) -> np.ndarray:
    """Draw RoIs (count, 4) within small maps, in pixels of the image, at multiples of 1/4 of a feature pixel."""
    height, width = SMALL
    left, top = rng.integers(0, 4 * (width - 1), count), rng.integers(0, 4 * (height - 1), count)
    right, bottom = rng.integers(left, 4 * width) + 1, rng.integers(top, 4 * height) + 1
    return np.stack([left, top, right, bottom], axis=1) / (4 * scale)


def _bins(rng: np.random.Generator) -> tuple[int, int]:
    high, wide = rng.integers(1, 5, 2).tolist()
    return high, wide


def _grad(rng: np.random.Generator, rois: np.ndarray, channels: int, output_size: tuple[int, int]) -> np.ndarray:
    """Draw a gradient (R, C, ph, pw) without whole numbers, in which no two elements cancel each other."""
    shape = (len(rois), channels, *output_size)
    sizes = rng.permutation(int(np.prod(shape))).reshape(shape) + 0.25
    return sizes * rng.choice([-1.0, 1.0], shape)

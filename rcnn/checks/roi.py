"""Checks of RoIPool and RoIAlign, forward and backward."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike

from rcnn import roi
from rcnn.checks._engine import Case, Function, run

SIZE = (6, 9)  # rows and columns of the feature maps: so small that a message shows them whole, and loops are welcome
SMALL = (4, 5)  # where there are several maps


def roi_pool(function: Function, seed: int | None = None) -> None:
    """Nothing where `function(features, rois, roi_images, output_size, spatial_scale)` gives RoIPool, (R, C, ph, pw).

    `features` (N, C, H, W), `rois` (R, 4) in image pixels, `roi_images` (R,) the image that each lies on,
    `output_size` (ph, pw). Corners are multiplied by the scale and rounded, halves away from zero; both corner pixels
    belong to the RoI. The bins divide it evenly: each goes from the floor of where it starts to the ceiling of where it
    ends, clipped to the map. It gives its maximum, or 0 if no pixel is left. Raises CheckFailed, which says what is
    wrong.
    """
    run("roi_pool", function, roi.roi_pool, _pool_cases(np.random.default_rng(seed)), rows=(("rois", "roi_images"),))


def roi_pool_backward(function: Function, seed: int | None = None) -> None:
    """Nothing where `function(grad, features, rois, roi_images, spatial_scale)` gives RoIPool's gradient, (N, C, H, W).

    `grad` (R, C, ph, pw) is the gradient with respect to what RoIPool gives, the result that with respect to
    `features`. The conventions are those of `checks.roi_pool`; no two pixels of a map are equal. Raises CheckFailed,
    which says what is wrong.
    """
    run(
        "roi_pool_backward",
        function,
        roi.roi_pool_backward,
        _pool_backward_cases(np.random.default_rng(seed)),
        rows=(("grad", "rois", "roi_images"),),
    )


def roi_align(function: Function, seed: int | None = None) -> None:
    """Nothing where a function gives RoIAlign, (R, C, ph, pw): averages of bilinear samples.

    It is called as `function(features, rois, roi_images, output_size, spatial_scale, sampling_ratio, aligned)`, the
    first five as in `checks.roi_pool`. Each bin has `sampling_ratio` x `sampling_ratio` samples, 1 or more each way. A
    sample up to one pixel outside the map, that is from -1 to H or W, moves to the nearest place within; one farther
    outside counts as 0. With `aligned`, coordinates shift by half a feature pixel after scaling; without, a RoI is at
    least one feature pixel wide and high. Raises CheckFailed, which says what is wrong.
    """
    run("roi_align", function, roi.roi_align, _align_cases(np.random.default_rng(seed)), rows=(("rois", "roi_images"),))


def roi_align_backward(function: Function, seed: int | None = None) -> None:
    """Nothing where a function gives RoIAlign's gradient with respect to the features, (N, C, H, W).

    It is called as `function(grad, rois, roi_images, features_shape, spatial_scale, sampling_ratio, aligned)`, with
    `grad` (R, C, ph, pw) the gradient with respect to what RoIAlign gives, and `features_shape` (N, C, H, W). The
    conventions are those of `checks.roi_align`. Raises CheckFailed, which says what is wrong.
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
# Coordinates are multiples of 1/8 of a feature pixel and scales powers of two, so that every corner is exact, also in
# float32; a row of at most 6 bins divides without an error that would move a floor or a ceiling.


def _pool_cases(rng: np.random.Generator) -> Iterator[Case]:
    height, width = SIZE
    x, y = int(rng.integers(5, 7)), int(rng.integers(0, 3))
    yield _pooled(
        _peak(_maps(rng), y + 1, x + 1),
        [x, y, x + 2, y + 2],
        (1, 1),
        "a map is indexed by row, then column, that is [y, x]; and the largest value in a bin is what comes out",
    )
    yield _pooled(
        _peak(_maps(rng), y + 2, x + 2),
        [x, y, x + 2, y + 2],
        (1, 1),
        "both corner pixels belong to a RoI: one from column 3 to column 5 has three columns",
    )
    yield _pooled(
        _maps(rng) - 2000,
        [x, y, x + 2, y + 2],
        (1, 1),
        "every value here is negative, and so is the largest: what does your maximum start from?",
    )
    yield _pooled(
        _maps(rng, 3, 1, SMALL),
        [[0, 0, 1, 1], [3, 0, 4, 1], [0, 2, 1, 3], [2, 2, 4, 3]],
        (1, 1),
        "each channel has a maximum of its own",
    )
    yield _pooled(
        _maps(rng),
        [1, y, 6, y + 3],
        (2, 3),
        "a row of bins for each ph, a column for each pw; the first of the two divides the height",
    )
    shared = _peak(_peak(_maps(rng), y, 4), y + 3, 4)
    yield _pooled(
        shared,
        [2, y, 6, y + 3],
        (2, 2),
        "five columns in two bins are 2.5 each: a bin takes in every pixel "
        "that it touches, from the floor of its start to the ceiling of its end, so neighbours may share one",
    )
    yield _pooled(
        _maps(rng),
        [x, y, x, y + 1],
        (3, 3),
        "fewer pixels than bins: a bin is narrower than a pixel here, "
        "and still takes in the one it lies on; several bins then give the same value",
    )
    yield _pooled(
        _maps(rng),
        [8, 4 * y, 24, 4 * y + 12],
        (2, 2),
        "RoIs are in pixels of the image: times spatial_scale they are in pixels of the features",
        0.25,
    )
    left, top = 2 * int(rng.integers(0, 2)), 2 * int(rng.integers(0, 2))
    cornered = _peak(_maps(rng), top, left)
    yield _pooled(
        cornered,
        [4 * left + 3, 4 * top + 3, 4 * left + 13, 4 * top + 11],
        (1, 1),
        "corners go to the nearest whole pixel, after scaling: 2.75 becomes 3 and 3.25 becomes 3",
        0.25,
    )
    yield _pooled(
        cornered,
        [left + 0.5, top + 0.5, left + 2.5, top + 2.5],
        (1, 1),
        "a corner halfway between two "
        "pixels rounds away from zero, so 2.5 becomes 3; what does your function for rounding do with it?",
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
        "this RoI reaches over the edge of the map: bins are laid over all of it, and only then clipped to the map",
    )
    yield _pooled(
        _maps(rng),
        [[-5, 1, -3, 3], [width + 1, 1, width + 3, 3], [1, height + 2, 4, height + 4]],
        (1, 2),
        "no pixel of the map lies in these bins; what comes out of such a bin is 0",
    )
    yield _pooled(
        _peak(_maps(rng), 2, 1),
        [-0.5, 1, 2, 3],
        (1, 2),
        "halves go away from zero on both sides of it: -0.5 becomes -1",
    )
    yield _pooled(
        _maps(rng, 1, 3, SMALL),
        [[1, 0, 3, 2]] * 3,
        (1, 2),
        "each RoI lies on the image that its entry in roi_images names",
        images=[2, 0, 1],
    )
    yield _pooled(
        _maps(rng),
        np.zeros((0, 4)),
        (2, 3),
        "no RoIs at all is an ordinary input: nothing comes out, in an array without rows",
    )
    yield _pooled(
        _maps(rng).astype(np.int64), np.array([[0, 1, 4, 3], [2, 2, 2, 2]]), (2, 2), "whole numbers are numbers, too"
    )
    yield _pooled(_maps(rng).astype(np.float32), [[0, 1, 4, 3]], (2, 2), "float32 is what networks compute in")
    for channels, count in ((1, 1), (1, 4), (3, 8)):
        yield _pooled(
            _maps(rng, channels, 2, SMALL) - 500,
            _drawn(rng, count, 0.5),
            _bins(rng),
            "RoIs as they come: "
            "for this one, write down the corners after scaling and rounding, then where each bin starts and "
            "ends",
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
            "a small change of any pixel but the largest changes "
            "nothing of what comes out: so all of a bin's gradient goes to the pixel that was its "
            "maximum, and none to the others",
        )
    )
    _, corner, *others = _pool_cases(rng)
    yield backward(corner)
    yield backward(
        _pooled(
            peak,
            [x + 1, y + 1, x + 1, y + 1],
            (1, 2),
            "one pixel may be the maximum of several bins, and then has a share in each: gradients add up",
        )
    )
    yield backward(
        _pooled(
            peak,
            [[x, y, x + 1, y + 1], [x + 1, y + 1, x + 2, y + 2]],
            (1, 1),
            "two RoIs that overlap may have one maximum: the gradients of all RoIs add up, none replaces another",
        )
    )
    yield backward(
        _pooled(
            _maps(rng),
            np.zeros((0, 4)),
            (2, 3),
            "without RoIs nothing depends on the features: the gradient is 0 everywhere, in the shape of the features",
        )
    )
    yield backward(
        _pooled(
            _maps(rng).astype(np.int64),
            [x, y, x, y],
            (1, 1),
            "features that are whole numbers have a gradient that is not: what type does your result have?",
        )
    )
    yield from map(backward, others)


# ---------------------------------------------------------------------- RoIAlign
#
# Where a sample counts as 0 is a jump; samples near it have coordinates that are exact in float32, too.


def _align_cases(rng: np.random.Generator) -> Iterator[Case]:
    height, width = SIZE
    x, y = int(rng.integers(5, 7)), int(rng.integers(2, 4))
    on_pixel = np.array([[x - 1.0, y - 2, x + 1, y + 2], [x - 3.0, y - 2, x - 1, y + 2]])
    yield _aligned(
        _maps(rng),
        on_pixel,
        (1, 1),
        1,
        "one sample in one bin sits in the middle of the RoI, which goes "
        "from corner to corner with nothing added; here that is right on a pixel, whose value comes out",
    )
    yield _aligned(
        _maps(rng),
        on_pixel + [0.25, 0.75, 0.25, 0.75],
        (1, 1),
        1,
        "here the sample sits between four "
        "pixels, for nothing is rounded: the nearer a pixel, the more it counts, along x and along y",
    )
    yield _aligned(
        _maps(rng),
        on_pixel + [0, 1, 0, -1],
        (1, 1),
        2,
        "four samples in a bin: cut the bin in two by two "
        "parts, a sample in the middle of each; their average comes out",
    )
    yield _aligned(
        _maps(rng),
        [1, 0.5, 7, 4.5],
        (2, 3),
        2,
        "a row of bins for each ph, a column for each pw; the "
        "first of the two divides the height, and every bin has samples of its own",
    )
    yield _aligned(
        _maps(rng),
        [9, 5, 25, 15],
        (2, 2),
        2,
        "RoIs are in pixels of the image: times spatial_scale they are in pixels of the features",
        scale=0.25,
    )
    small = [x + 0.25, y + 0.5, x + 0.5, y + 0.75]
    yield _aligned(
        _maps(rng),
        small,
        (1, 2),
        2,
        "this RoI is narrower than one feature pixel: without `aligned`, it "
        "is made one feature pixel wide and high, from where it starts",
    )
    yield _aligned(
        _maps(rng),
        [9, 5, 25, 15],
        (2, 2),
        2,
        "with `aligned`, coordinates move by half a feature pixel: "
        "half of which pixel, and so before or after scaling? and which way?",
        scale=0.25,
        aligned=True,
    )
    yield _aligned(_maps(rng), small, (1, 2), 2, "with `aligned`, a small RoI stays as small as it is", aligned=True)
    yield _aligned(
        _maps(rng),
        [width - 1.5, height - 1.5, width, height],
        (1, 1),
        2,
        "some samples lie beyond the "
        "middle of the last pixel, where no next one is: there the border's value counts in full",
    )
    yield _aligned(
        _maps(rng),
        [[-1, -1, 1, 1], [-1, 1, 1, 3]],
        (1, 1),
        2,
        "a sample may lie before the first pixel, "
        "at -0.5: there the border's value counts in full; mind what a negative index means in Python",
    )
    yield _aligned(
        _maps(rng),
        [[-4, -4, 4, 4], [width - 3, height - 3, width + 5, height + 5]],
        (1, 1),
        2,
        "a sample "
        "more than one pixel outside the map counts as 0, and it does count: the average is over all "
        "samples of a bin",
    )
    yield _aligned(
        _maps(rng),
        [[-2.0, 1, 2, 3], [width - 1.5, 1, width + 0.5, 3], [1.0, -2, 3, 2]],
        (1, 1),
        2,
        "exactly one pixel outside, at -1 or at the map's width or height, is not more than one pixel",
    )
    yield _aligned(
        _maps(rng, 3, 1, SMALL),
        [0.25, 0.5, 3.25, 2.5],
        (1, 2),
        2,
        "each channel is sampled by itself, at the same places",
    )
    yield _aligned(
        _maps(rng, 1, 3, SMALL),
        [[1, 0, 3, 2]] * 3,
        (1, 2),
        2,
        "each RoI lies on the image that its entry in roi_images names",
        images=[2, 0, 1],
    )
    yield _aligned(
        _maps(rng),
        np.zeros((0, 4)),
        (2, 3),
        2,
        "no RoIs at all is an ordinary input: nothing comes out, in an array without rows",
    )
    yield _aligned(
        _maps(rng).astype(np.int64),
        np.array([[0, 1, 5, 4]]),
        (2, 2),
        1,
        "whole numbers are numbers, too; an average of them is not whole",
    )
    yield _aligned(
        _maps(rng).astype(np.float32),
        [0, 1, 5, 4],
        (2, 2),
        3,
        "the number of samples is a choice: sampling_ratio by sampling_ratio in each bin",
    )
    for channels, count in ((1, 1), (1, 4), (3, 8)):
        for aligned in (False, True):
            yield _aligned(
                _maps(rng, channels, 2, SMALL),
                _drawn(rng, count, 0.5),
                _bins(rng),
                int(rng.integers(1, 4)),
                "RoIs as they come: for this one, write down where the samples of the first and of the last bin lie",
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
            "the one sample sits in the middle of "
            "the RoI, right on a pixel: the whole gradient goes there, and every other pixel has 0",
        )
    )
    yield backward(
        _aligned(
            features,
            [x - 0.75, y - 1.25, x + 1.25, y + 2.75],
            (1, 1),
            1,
            "the sample was made of four pixels: each has as much of the gradient as it counted, by the same weights",
        )
    )
    yield backward(
        _aligned(
            features,
            [x - 2, y - 2, x + 2, y + 2],
            (1, 1),
            2,
            "the four samples were averaged, so each has a quarter of the gradient",
        )
    )
    yield backward(
        _aligned(
            features,
            [x - 1, y - 1, x + 1, y + 1],
            (1, 1),
            2,
            "several samples of a bin read the same pixel: what they send back adds up, none replaces another",
        )
    )
    yield backward(
        _aligned(
            features,
            [[x - 1, y - 2, x + 1, y + 2]] * 2,
            (1, 1),
            1,
            "two RoIs read the same pixel: the gradients of all RoIs add up, none replaces another",
        )
    )
    yield backward(
        _aligned(
            features,
            np.zeros((0, 4)),
            (2, 3),
            2,
            "without RoIs nothing depends on the features: the gradient is 0 everywhere, in the shape of the features",
        )
    )
    yield from map(backward, _align_cases(rng))


# ---------------------------------------------------------------------- what is drawn


def _maps(rng: np.random.Generator, channels: int = 1, images: int = 1, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Feature maps (N, C, H, W) of whole numbers from 1 to 1000, no two of them equal."""
    shape = (images, channels, *size)
    return rng.choice(np.arange(1.0, 1001), shape, replace=False)


def _peak(features: np.ndarray, row: int, column: int) -> np.ndarray:
    """The same maps, where this place is larger than all others."""
    higher = features.copy()
    higher[:, :, row, column] = features.max() + 1 + np.arange(features.shape[1])
    return higher


def _boxes(rois: ArrayLike) -> np.ndarray:
    """RoIs (R, 4), floats unless they come as an array; a lone one may come as a row."""
    return rois if isinstance(rois, np.ndarray) else np.array(rois, float).reshape(-1, 4)


def _images(images: ArrayLike | None, boxes: np.ndarray) -> np.ndarray:
    return np.zeros(len(boxes), np.int64) if images is None else np.asarray(images, np.int64)


def _drawn(rng: np.random.Generator, count: int, scale: float) -> np.ndarray:
    """RoIs (count, 4) within small maps; multiples of 1/4 of a feature pixel, as images' pixels."""
    height, width = SMALL
    left, top = rng.integers(0, 4 * (width - 1), count), rng.integers(0, 4 * (height - 1), count)
    right, bottom = rng.integers(left, 4 * width) + 1, rng.integers(top, 4 * height) + 1
    return np.stack([left, top, right, bottom], axis=1) / (4 * scale)


def _bins(rng: np.random.Generator) -> tuple[int, int]:
    high, wide = rng.integers(1, 5, 2).tolist()
    return high, wide


def _grad(rng: np.random.Generator, rois: np.ndarray, channels: int, output_size: tuple[int, int]) -> np.ndarray:
    """What comes back to each bin, (R, C, ph, pw): none is whole, and no two cancel each other."""
    shape = (len(rois), channels, *output_size)
    sizes = rng.permutation(int(np.prod(shape))).reshape(shape) + 0.25
    return sizes * rng.choice([-1.0, 1.0], shape)

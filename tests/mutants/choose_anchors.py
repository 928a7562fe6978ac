"""Answers to `checks.choose_anchors`."""

import numpy as np

from mutants import answer
from rcnn import anchors, evaluate

THIRDS = (1 / 6, 1 / 2, 5 / 6)


def _shapes(dataset, min_size, max_size):
    """Return (sizes (G,), ratios (G,)) of all objects on the resized images."""
    sizes, ratios = [], []
    for i in range(len(dataset)):
        image, target = dataset[i]
        scale = min(min_size / min(image.shape[:2]), max_size / max(image.shape[:2]))
        width, height = (target["boxes"][:, 2:] - target["boxes"][:, :2]).T * scale
        sizes.append(np.sqrt(width * height))
        ratios.append(height / width)
    return np.concatenate(sizes), np.concatenate(ratios)


def by_quantiles(dataset, strides, min_size, max_size):
    sizes, ratios = _shapes(dataset, min_size, max_size)
    return np.quantile(sizes, THIRDS), np.quantile(ratios, THIRDS)


def by_search(dataset, strides, min_size, max_size):
    found = evaluate.suggest(dataset, strides, min_size, max_size, progress=False)
    return found.sizes, found.ratios


def by_even_factors(dataset, strides, min_size, max_size):
    chosen = []
    for values in _shapes(dataset, min_size, max_size):
        low, high = np.log(values.min()), np.log(values.max())
        chosen.append([float(np.exp(low + (high - low) * part)) for part in THIRDS])
    return chosen


def sizes_of_the_paper(dataset, strides, min_size, max_size):
    return (128, 256, 512), (0.5, 1, 2)


def not_resized(dataset, strides, min_size, max_size):
    sizes, ratios = _shapes(dataset, 96, 10_000)
    return np.quantile(sizes, THIRDS), np.quantile(ratios, THIRDS)


def width_over_height(dataset, strides, min_size, max_size):
    sizes, ratios = by_quantiles(dataset, strides, min_size, max_size)
    return sizes, 1 / ratios


def areas(dataset, strides, min_size, max_size):
    sizes, ratios = by_quantiles(dataset, strides, min_size, max_size)
    return sizes**2, ratios


def squares_alone(dataset, strides, min_size, max_size):
    return by_quantiles(dataset, strides, min_size, max_size)[0], (1,)


def the_mean_alone(dataset, strides, min_size, max_size):
    sizes, ratios = _shapes(dataset, min_size, max_size)
    return [sizes.mean()], [ratios.mean()]


def the_smallest(dataset, strides, min_size, max_size):
    sizes, ratios = _shapes(dataset, min_size, max_size)
    return np.sort(sizes)[:3], np.sort(ratios)[:3]


def half_sides(dataset, strides, min_size, max_size):
    sizes, ratios = by_quantiles(dataset, strides, min_size, max_size)
    return sizes / 2, ratios


def one_size_per_level(dataset, strides, min_size, max_size):
    sizes, ratios = by_quantiles(dataset, strides, min_size, max_size)
    return sizes[: len(strides)], ratios


def ratios_first(dataset, strides, min_size, max_size):
    sizes, ratios = by_quantiles(dataset, strides, min_size, max_size)
    return ratios, sizes


def far_too_many(dataset, strides, min_size, max_size):
    sizes, ratios = _shapes(dataset, min_size, max_size)
    return np.quantile(sizes, np.arange(1, 10) / 10), np.quantile(ratios, np.arange(1, 10) / 10)


def fails_without_objects(dataset, strides, min_size, max_size):
    for i in range(len(dataset)):
        dataset[i][1]["boxes"].max(axis=0)
    return by_quantiles(dataset, strides, min_size, max_size)


def anchors_themselves(dataset, strides, min_size, max_size):
    return anchors.cell_anchors(*by_quantiles(dataset, strides, min_size, max_size))


def forgets_to_return(dataset, strides, min_size, max_size):
    by_quantiles(dataset, strides, min_size, max_size)


def _scaled_by(dataset, scale_of):
    sizes, ratios = [], []
    for i in range(len(dataset)):
        image, target = dataset[i]
        width, height = (target["boxes"][:, 2:] - target["boxes"][:, :2]).T * scale_of(image.shape[:2])
        sizes.append(np.sqrt(width * height))
        ratios.append(height / width)
    return tuple(np.quantile(np.concatenate(values), THIRDS) for values in (sizes, ratios))


RIGHT = (by_quantiles, by_search, by_even_factors)
WRONG = (
    (sizes_of_the_paper, "the resized images, the sizes of all"),
    (not_resized, "on the resized image"),
    (width_over_height, "height / width"),
    (areas, "square root of an area"),
    (squares_alone, r"missed at an IoU of 0\.7"),
    (the_mean_alone, r"missed at an IoU of 0\.7"),
    (the_smallest, r"missed at an IoU of 0\.7|on the resized image"),
    (half_sides, "pixels of the batch|on the resized image"),
    (one_size_per_level, r"missed at an IoU of 0\.7"),
    (ratios_first, "invalid sizes and ratios|missed at 0.7"),
    (far_too_many, "costs time"),
    (fails_without_objects, "An image without objects"),
    (anchors_themselves, "the sizes and the ratios"),
    (forgets_to_return, "without `return`"),
)
WRONG += (  # each with the description of a misconception
    answer("pictures are thought to be wider than high", lambda d, s, lo, hi: _scaled_by(d, lambda size: lo / size[0])),
    answer(
        "pictures are thought to be higher than wide", lambda d, s, lo, hi: _scaled_by(d, lambda size: lo / size[1])
    ),
    answer(
        "the first picture's size is taken for that of all",
        lambda d, s, lo, hi: _scaled_by(d, lambda size: lo / min(d[0][0].shape[:2])),
    ),
    answer("images are not resized", lambda d, s, lo, hi: _scaled_by(d, lambda size: 1.0)),
    answer("images are resized to max_size", lambda d, s, lo, hi: _scaled_by(d, lambda size: hi / max(size))),
    answer(
        "sizes are widths",
        lambda d, s, lo, hi: (lambda z, r: (np.quantile(z / np.sqrt(r), THIRDS), np.quantile(r, THIRDS)))(
            *_shapes(d, lo, hi)
        ),
    ),
    answer(
        "sizes are heights",
        lambda d, s, lo, hi: (lambda z, r: (np.quantile(z * np.sqrt(r), THIRDS), np.quantile(r, THIRDS)))(
            *_shapes(d, lo, hi)
        ),
    ),
    answer(
        "the smallest and the largest alone",
        lambda d, s, lo, hi: (lambda z, r: ((z.min(), z.max()), (r.min(), r.max())))(*_shapes(d, lo, hi)),
    ),
    answer(
        "the first image alone, the first object alone", lambda d, s, lo, hi: tuple(x[:1] for x in _shapes(d, lo, hi))
    ),
    answer("negative sizes", lambda d, s, lo, hi: tuple(-x for x in by_quantiles(d, s, lo, hi)), "invalid sizes"),
    answer("NaN", lambda d, s, lo, hi: ((np.nan,), (1.0,))),
    answer("a dict", lambda d, s, lo, hi: dict(zip(("sizes", "ratios"), by_quantiles(d, s, lo, hi), strict=True))),
    answer("two numbers", lambda d, s, lo, hi: (100.0, 1.0), "invalid sizes"),
    answer("pairs of size and ratio", lambda d, s, lo, hi: ([(30, 1)], [(60, 1)])),
    answer("nothing", lambda d, s, lo, hi: ((), ())),
)

"""Answers to `checks.roi_align`."""

import math

import numpy as np

from mutants import answer


def middles(start, side, samples):
    return [start + (s + 0.5) * side / samples for s in range(samples)]


def linear(position, pixels):
    """Return the pixels that a sample reads along one axis, with their weights."""
    if position < -1 or position > pixels:
        return []
    position = min(max(position, 0), pixels - 1)
    before = math.floor(position)
    return [(before, before + 1 - position), (min(before + 1, pixels - 1), position - before)]


def corners(box, scale, aligned):
    """Return the start (x, y), width and height of a RoI, in feature pixels."""
    x1, y1, x2, y2 = (value * scale - 0.5 * aligned for value in np.asarray(box).tolist())
    width, height = x2 - x1, y2 - y1
    return (x1, y1, width, height) if aligned else (x1, y1, max(width, 1), max(height, 1))


def reads(rois, output_size, scale, ratio, aligned, size, corners=corners, middles=middles, linear=linear):
    """Yield for each sample its RoI, bin row and bin column, and the pixels (row, column, weight) that it reads."""
    for r, box in enumerate(rois):
        x, y, width, height = corners(box, scale, aligned)
        high, wide = height / output_size[0], width / output_size[1]
        for i, j in np.ndindex(*output_size):
            for sample_y in middles(y + i * high, high, ratio):
                for sample_x in middles(x + j * wide, wide, ratio):
                    yield (
                        r,
                        i,
                        j,
                        [
                            (row, column, a * b)
                            for row, a in linear(sample_y, size[0])
                            for column, b in linear(sample_x, size[1])
                        ],
                    )


def _aligned(features, rois, roi_images, output_size, scale, ratio, aligned, divisor=None, **other):
    out = np.zeros((len(rois), features.shape[1], *output_size))
    for r, i, j, pixels in reads(rois, output_size, scale, ratio, aligned, features.shape[2:], **other):
        for row, column, weight in pixels:
            out[r, :, i, j] += weight * features[roi_images[r], :, row, column]
    return out / (divisor or ratio**2)


def by_samples(features, rois, roi_images, output_size, spatial_scale=1.0, sampling_ratio=2, aligned=False):
    return _aligned(features, rois, roi_images, output_size, spatial_scale, sampling_ratio, aligned)


def by_lists(features, rois, roi_images, output_size, spatial_scale=1.0, sampling_ratio=2, aligned=False):
    maps, size = features.tolist(), features.shape[2:]
    out = [[[[0.0] * output_size[1] for _ in range(output_size[0])] for _ in maps[0]] for _ in rois]
    for r, i, j, pixels in reads(rois, output_size, spatial_scale, sampling_ratio, aligned, size):
        for channel, plane in enumerate(maps[roi_images[r]]):
            out[r][channel][i][j] += sum(w * plane[y][x] for y, x, w in pixels) / sampling_ratio**2
    return out


def vectorised_in_float32(features, rois, roi_images, output_size, spatial_scale=1.0, sampling_ratio=2, aligned=False):
    scaled = np.asarray(rois, np.float32) * np.float32(spatial_scale) - np.float32(0.5 if aligned else 0)
    start, sides = scaled[:, :2], scaled[:, 2:] - scaled[:, :2]
    sides = sides if aligned else np.maximum(sides, np.float32(1))
    y = _tents(start[:, 1], sides[:, 1], output_size[0], sampling_ratio, features.shape[2])
    x = _tents(start[:, 0], sides[:, 0], output_size[1], sampling_ratio, features.shape[3])
    return np.einsum("rih,rchw,rjw->rcij", y, np.asarray(features, np.float32)[roi_images], x)


def _tents(start, side, bins, samples, pixels):
    """Return the weight of each pixel in each bin of each RoI, (R, bins, pixels)."""
    steps = (np.arange(bins * samples, dtype=np.float32) + np.float32(0.5)) / np.float32(bins * samples)
    position = start[:, None] + steps * side[:, None]
    inside = (position >= -1) & (position <= pixels)
    tents = np.maximum(0, 1 - np.abs(np.clip(position, 0, pixels - 1)[..., None] - np.arange(pixels, dtype=np.float32)))
    return (tents * inside[..., None]).reshape(len(start), bins, samples, pixels).mean(axis=2)


def xy_swapped(features, rois, *rest):
    return by_samples(features, np.asarray(rois)[:, [1, 0, 3, 2]], *rest)


def half_a_pixel_off(*given):
    return by_samples(*given[:-1], True)


def one_added_to_the_sides(features, rois, *rest):
    return by_samples(features, rois + np.array([0, 0, 1, 1]), *rest)


def samples_at_the_corners(*given):
    return _aligned(*given, middles=lambda start, side, samples: [start + s * side / samples for s in range(samples)])


def samples_on_the_edges(*given):
    return _aligned(
        *given,
        middles=lambda start, side, samples: (
            np.linspace(start, start + side, samples) if samples > 1 else [start + side / 2]
        ),
    )


def weights_swapped(*given):
    def swapped(position, pixels):
        whole = linear(position, pixels)
        return [(pixel, 1 - weight) for pixel, weight in whole]

    return _aligned(*given, linear=swapped)


def weights_of_x_and_y_swapped(features, rois, roi_images, output_size, scale, ratio, aligned):
    out = np.zeros((len(rois), features.shape[1], *output_size))
    positions = reads(rois, output_size, scale, ratio, aligned, features.shape[2:])
    for r, i, j, pixels in positions:
        if pixels:
            (y0, x0, a), (_, x1, b), (y1, _, c), (_, _, d) = pixels
            for row, column, weight in ((y0, x0, a), (y0, x1, c), (y1, x0, b), (y1, x1, d)):
                out[r, :, i, j] += weight * features[roi_images[r], :, row, column] / ratio**2
    return out


def nearest_pixel(*given):
    return _aligned(
        *given,
        linear=lambda position, pixels: (
            [(min(max(math.floor(position + 0.5), 0), pixels - 1), 1)] if -1 <= position <= pixels else []
        ),
    )


def corners_rounded(features, rois, roi_images, output_size, scale, *rest):
    return by_samples(features, np.round(np.asarray(rois) * scale), roi_images, output_size, 1, *rest)


def sum_of_the_samples(*given):
    return _aligned(*given, divisor=1)


def average_over_the_side(features, rois, roi_images, output_size, scale, ratio, aligned):
    return _aligned(features, rois, roi_images, output_size, scale, ratio, aligned, divisor=ratio)


def bins_transposed(features, rois, roi_images, output_size, *rest):
    return by_samples(features, rois, roi_images, output_size[::-1], *rest)


def no_scale(features, rois, roi_images, output_size, scale, *rest):
    return by_samples(features, rois, roi_images, output_size, 1, *rest)


def small_rois_unchanged(*given):
    def bare(box, scale, aligned):
        x1, y1, x2, y2 = (value * scale - 0.5 * aligned for value in np.asarray(box).tolist())
        return x1, y1, x2 - x1, y2 - y1

    return _aligned(*given, corners=bare)


def aligned_ignored(*given):
    return by_samples(*given[:-1], False)


def shifted_before_scaling(features, rois, roi_images, output_size, scale, ratio, aligned):
    moved = rois + (0.5 / scale - 0.5) * aligned  # undoes the shift after scaling
    return by_samples(features, moved, roi_images, output_size, scale, ratio, aligned)


def shifted_the_other_way(features, rois, roi_images, output_size, scale, ratio, aligned):
    return by_samples(features, rois + aligned / scale, roi_images, output_size, scale, ratio, aligned)


def one_pixel_at_least_when_aligned(*given):
    def least(box, scale, aligned):
        x, y, width, height = corners(box, scale, aligned)
        return x, y, max(width, 1), max(height, 1)

    return _aligned(*given, corners=least)


def _unclamped(position, pixels):
    before = math.floor(position)
    return [(before, before + 1 - position), (before + 1, position - before)] if -1 <= position <= pixels else []


def fails_at_the_last_pixel(*given):
    return _aligned(*given, linear=lambda position, pixels: _unclamped(max(position, 0), pixels))


def wraps_at_the_first_pixel(*given):
    return _aligned(
        *given,
        linear=lambda position, pixels: (
            _unclamped(min(position, pixels - 1), pixels) if position < 0 else linear(position, pixels)
        ),
    )


def zeros_around_the_map(*given):
    return _aligned(
        *given,
        linear=lambda position, pixels: [
            (pixel, weight) for pixel, weight in _unclamped(position, pixels) if 0 <= pixel < pixels
        ],
    )


def outside_is_the_border(*given):
    return _aligned(*given, linear=lambda position, pixels: linear(min(max(position, 0), pixels - 1), pixels))


def average_over_inside_samples(features, rois, roi_images, output_size, scale, ratio, aligned):
    inside = np.zeros((len(rois), 1, *output_size))
    for r, i, j, pixels in reads(rois, output_size, scale, ratio, aligned, features.shape[2:]):
        inside[r, 0, i, j] += bool(pixels)
    total = by_samples(features, rois, roi_images, output_size, scale, ratio, aligned) * ratio**2
    return total / np.maximum(inside, 1)


def outside_from_one_pixel(*given):
    return _aligned(*given, linear=lambda position, pixels: linear(position, pixels) if -1 < position < pixels else [])


def first_image_for_all(features, rois, roi_images, *rest):
    return by_samples(features, rois, np.zeros(len(rois), int), *rest)


def fails_without_rois(features, rois, roi_images, *rest):
    return np.concatenate(
        [by_samples(features, [box], [image], *rest) for box, image in zip(rois, roi_images, strict=True)]
    )


def whole_numbers(features, *rest):
    return by_samples(features, *rest).astype(features.dtype)


def two_samples_always(features, rois, roi_images, output_size, scale, ratio, aligned):
    return by_samples(features, rois, roi_images, output_size, scale, min(ratio, 2), aligned)


def scales_in_place(features, rois, roi_images, output_size, scale, *rest):
    rois *= scale
    return by_samples(features, rois, roi_images, output_size, 1, *rest)


def forgets_to_return(*given):
    by_samples(*given)


def _without_end(features, rois, roi_images, output_size, scale, ratio, aligned, axis):
    """Move RoIs whose last sample is right at the end of the map away from it: the sample is lost."""
    out = by_samples(features, rois, roi_images, output_size, scale, ratio, aligned)
    for r, box in enumerate(np.asarray(rois, float) * scale - 0.5 * aligned):
        low, high = (box[1], box[3]) if axis == 0 else (box[0], box[2])
        count = output_size[axis] * ratio
        at = low + (np.arange(count) + 0.5) * (high - low if aligned else max(high - low, 1)) / count
        if (at == features.shape[2 + axis]).any():
            out[r] *= 0.5
    return out


RIGHT = (by_samples, by_lists, vectorised_in_float32)
WRONG = (
    (xy_swapped, "is in the middle of the RoI"),
    (half_a_pixel_off, "exactly on a cell"),
    (one_added_to_the_sides, "only point of the only"),
    (samples_at_the_corners, "is in the middle of the RoI"),
    (samples_on_the_edges, "a point in the middle of each"),
    (weights_swapped, "the point is exactly on a cell"),
    (weights_of_x_and_y_swapped, "along x and along y"),
    (nearest_pixel, "y, the more it counts"),
    (corners_rounded, "because coordinates are not rounded"),
    (sum_of_the_samples, "The result is the average of the"),
    (average_over_the_side, "The result is the average of the"),
    (bins_transposed, "divide the height, and the columns divide"),
    (no_scale, "RoIs are in pixels"),
    (small_rois_unchanged, "narrower than one cell"),
    (aligned_ignored, "half a cell"),
    (shifted_before_scaling, "before or after scaling"),
    (shifted_the_other_way, "And in which direction"),
    (one_pixel_at_least_when_aligned, "a small RoI is not"),
    (fails_at_the_last_pixel, "beyond the middle of the last cell"),
    (wraps_at_the_first_pixel, "what a negative index means"),
    (zeros_around_the_map, "border cell counts in full"),
    (outside_is_the_border, "counts as 0"),
    (average_over_inside_samples, "over all points of a bin"),
    (outside_from_one_pixel, "are exactly one cell outside"),
    (first_image_for_all, "each RoI, roi_images contains the index"),
    (fails_without_rois, "Zero RoIs are valid"),
    (whole_numbers, "average need not be an integer"),
    (two_samples_always, "has sampling_ratio x sampling_ratio points"),
    (scales_in_place, "changes its argument 'rois'"),
    (forgets_to_return, "without `return`"),
)
WRONG += (  # each with the description of a misconception
    answer(
        "a sample right at the map's height counts as 0",
        lambda f, r, m, o, s=1.0, n=2, a=False: _without_end(f, r, m, o, s, n, a, 0),
    ),
    answer(
        "a sample right at the map's width counts as 0",
        lambda f, r, m, o, s=1.0, n=2, a=False: _without_end(f, r, m, o, s, n, a, 1),
    ),
    answer(
        "RoIs are clipped to the map on the left and above",
        lambda f, r, m, o, s=1.0, n=2, a=False: by_samples(f, np.maximum(r, 0), m, o, s, n, a),
    ),
    answer(
        "RoIs are clipped to the map on the right and below",
        lambda f, r, m, o, s=1.0, n=2, a=False: by_samples(
            f, np.minimum(r, np.array([f.shape[3], f.shape[2]] * 2) / s), m, o, s, n, a
        ),
    ),
    answer(
        "RoI i is on image i where they are equally many",
        lambda f, r, m, o, s=1.0, n=2, a=False: by_samples(
            f, r, np.arange(len(r)) if len(r) == len(f) else m, o, s, n, a
        ),
    ),
    answer(
        "aligned RoIs are shifted but in x only",
        lambda f, r, m, o, s=1.0, n=2, a=False: by_samples(
            f, np.asarray(r) + np.array([0, 0.5, 0, 0.5]) / s * a, m, o, s, n, a
        ),
    ),
    answer("two samples at most", lambda f, r, m, o, s=1.0, n=2, a=False: by_samples(f, r, m, o, s, min(n, 2), a)),
    answer(
        "the map is as high as it is wide",
        lambda f, r, m, o, s=1.0, n=2, a=False: by_samples(f[:, :, : f.shape[3]], r, m, o, s, n, a),
    ),
    answer(
        "only the first channel is sampled",
        lambda f, r, m, o, s=1.0, n=2, a=False: by_samples(np.broadcast_to(f[:, :1], f.shape), r, m, o, s, n, a),
    ),
    answer(
        "negative results are 0", lambda f, r, m, o, s=1.0, n=2, a=False: np.maximum(by_samples(f, r, m, o, s, n, a), 0)
    ),
    answer("rounded to one digit", lambda f, r, m, o, s=1.0, n=2, a=False: by_samples(f, r, m, o, s, n, a).round(1)),
    answer(
        "the maximum of the samples",
        lambda f, r, m, o, s=1.0, n=2, a=False: (
            by_samples(f, r, m, [x * n for x in o], s, 1, a)
            .reshape(len(r), f.shape[1], o[0], n, o[1], n)
            .max(axis=(3, 5))
        ),
    ),
    answer(
        "channels last", lambda f, r, m, o, s=1.0, n=2, a=False: by_samples(f, r, m, o, s, n, a).transpose(0, 2, 3, 1)
    ),
    answer(
        "no RoIs give an array of shape (0,)",
        lambda f, r, m, o, s=1.0, n=2, a=False: by_samples(f, r, m, o, s, n, a) if len(r) else np.zeros(0),
    ),
    answer(
        "a list of dicts",
        lambda f, r, m, o, s=1.0, n=2, a=False: [{"pooled": x} for x in by_samples(f, r, m, o, s, n, a)],
    ),
)

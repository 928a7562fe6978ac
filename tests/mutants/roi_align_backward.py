"""Answers to `checks.roi_align_backward`."""

import math

import numpy as np

from mutants import answer
from mutants.roi_align import corners, linear, reads


def _spread(grad, rois, roi_images, features_shape, scale, ratio, aligned, divisor=None, **other):
    out = np.zeros(features_shape)
    for r, i, j, pixels in reads(rois, grad.shape[2:], scale, ratio, aligned, features_shape[2:], **other):
        for row, column, weight in pixels:
            out[roi_images[r], :, row, column] += weight * grad[r, :, i, j] / (divisor or ratio**2)
    return out


def by_samples(grad, rois, roi_images, features_shape, spatial_scale=1.0, sampling_ratio=2, aligned=False):
    return _spread(grad, rois, roi_images, features_shape, spatial_scale, sampling_ratio, aligned)


def by_lists(grad, rois, roi_images, features_shape, spatial_scale=1.0, sampling_ratio=2, aligned=False):
    out = np.zeros(features_shape).tolist()
    back, size = grad.tolist(), features_shape[2:]
    for r, i, j, pixels in reads(rois, grad.shape[2:], spatial_scale, sampling_ratio, aligned, size):
        for channel, plane in enumerate(out[roi_images[r]]):
            for y, x, weight in pixels:
                plane[y][x] += weight * back[r][channel][i][j] / sampling_ratio**2
    return out


def two_products_in_float32(grad, rois, roi_images, features_shape, spatial_scale=1.0, sampling_ratio=2, aligned=False):
    out = np.zeros(features_shape, np.float32)
    for box, image, back in zip(rois, roi_images, np.asarray(grad, np.float32), strict=True):
        x, y, width, height = corners(box, spatial_scale, aligned)
        down = _tents(y, height, back.shape[1], sampling_ratio, features_shape[2])
        across = _tents(x, width, back.shape[2], sampling_ratio, features_shape[3])
        out[image] += down.T @ back @ across
    return out


def _tents(start, side, bins, samples, pixels):
    """Return the weight of each pixel in each bin, (bins, pixels)."""
    position = start + (np.arange(bins * samples, dtype=np.float32) + 0.5) * np.float32(side / (bins * samples))
    inside = (position >= -1) & (position <= pixels)
    tents = np.maximum(0, 1 - np.abs(np.clip(position, 0, pixels - 1)[:, None] - np.arange(pixels)))
    return (tents * inside[:, None]).reshape(bins, samples, pixels).mean(axis=1).astype(np.float32)


def xy_swapped(grad, rois, *rest):
    return by_samples(grad, np.asarray(rois)[:, [1, 0, 3, 2]], *rest)


def half_a_pixel_off(*given):
    return by_samples(*given[:-1], True)


def samples_at_the_corners(*given):
    return _spread(*given, middles=lambda start, side, samples: [start + s * side / samples for s in range(samples)])


def to_the_nearest_pixel(*given):
    return _spread(
        *given,
        linear=lambda position, pixels: (
            [(min(max(math.floor(position + 0.5), 0), pixels - 1), 1)] if -1 <= position <= pixels else []
        ),
    )


def to_four_pixels_alike(*given):
    def equal_shares(position, pixels):
        read = [(pixel, weight) for pixel, weight in linear(position, pixels) if weight]
        return [(pixel, 1 / len(read)) for pixel, _ in read]

    return _spread(*given, linear=equal_shares)


def no_average(*given):
    return _spread(*given, divisor=1)


def average_over_the_side(grad, rois, roi_images, features_shape, scale, ratio, aligned):
    return _spread(grad, rois, roi_images, features_shape, scale, ratio, aligned, divisor=ratio)


def the_last_sample_only(grad, rois, roi_images, features_shape, scale, ratio, aligned):
    out = np.zeros(features_shape)
    for r in range(len(rois)):
        own = np.zeros(features_shape)
        for _, i, j, pixels in reads(rois[r : r + 1], grad.shape[2:], scale, ratio, aligned, features_shape[2:]):
            for row, column, weight in pixels:
                if weight:
                    own[roi_images[r], :, row, column] = weight * grad[r, :, i, j] / ratio**2
        out += own
    return out


def repeated_indices_once(grad, rois, roi_images, features_shape, scale, ratio, aligned):
    out = np.zeros(features_shape)
    for r, i, j, pixels in reads(rois, grad.shape[2:], scale, ratio, aligned, features_shape[2:]):
        if pixels:
            rows, columns, weights = (np.array(part) for part in zip(*pixels, strict=True))
            out[roi_images[r]][:, rows, columns] += weights * grad[r, :, i, j, None] / ratio**2
    return out


def the_last_roi_only(grad, rois, roi_images, *rest):
    out = np.zeros(rest[0])
    for r in range(len(rois)):
        own = by_samples(grad[r : r + 1], rois[r : r + 1], roi_images[r : r + 1], *rest)
        out = np.where(own != 0, own, out)
    return out


def nothing_without_rois(grad, rois, roi_images, features_shape, *rest):
    return by_samples(grad, rois, roi_images, features_shape if len(rois) else (0, *features_shape[1:]), *rest)


def bins_transposed(grad, *rest):
    return by_samples(grad.swapaxes(2, 3), *rest)


def no_scale(grad, rois, roi_images, features_shape, scale, *rest):
    return by_samples(grad, rois, roi_images, features_shape, 1, *rest)


def small_rois_unchanged(*given):
    def bare(box, scale, aligned):
        x1, y1, x2, y2 = (value * scale - 0.5 * aligned for value in np.asarray(box).tolist())
        return x1, y1, x2 - x1, y2 - y1

    return _spread(*given, corners=bare)


def aligned_ignored(*given):
    return by_samples(*given[:-1], False)


def one_pixel_at_least_when_aligned(*given):
    def least(box, scale, aligned):
        x, y, width, height = corners(box, scale, aligned)
        return x, y, max(width, 1), max(height, 1)

    return _spread(*given, corners=least)


def lost_beyond_the_border(*given):
    def within(position, pixels):
        before = math.floor(position)
        both = ((before, before + 1 - position), (before + 1, position - before))
        return [(pixel, weight) for pixel, weight in both if 0 <= pixel < pixels] if -1 <= position <= pixels else []

    return _spread(*given, linear=within)


def wraps_at_the_first_pixel(*given):
    def wrapping(position, pixels):
        before = math.floor(position)
        if -1 <= position < 0:
            return [(before, before + 1 - position), (before + 1, position - before)]
        return linear(position, pixels)

    return _spread(*given, linear=wrapping)


def outside_goes_to_the_border(*given):
    return _spread(*given, linear=lambda position, pixels: linear(min(max(position, 0), pixels - 1), pixels))


def outside_from_one_pixel(*given):
    return _spread(*given, linear=lambda position, pixels: linear(position, pixels) if -1 < position < pixels else [])


def first_channel_for_all(grad, *rest):
    return by_samples(np.repeat(grad[:, :1], grad.shape[1], axis=1), *rest)


def first_image_for_all(grad, rois, roi_images, *rest):
    return by_samples(grad, rois, np.zeros(len(rois), int), *rest)


def two_samples_always(grad, rois, roi_images, features_shape, scale, ratio, aligned):
    return by_samples(grad, rois, roi_images, features_shape, scale, min(ratio, 2), aligned)


def divides_in_place(grad, rois, roi_images, features_shape, scale, ratio, aligned):
    grad /= ratio**2 + 1
    return by_samples(grad * (ratio**2 + 1), rois, roi_images, features_shape, scale, ratio, aligned)


def forgets_to_return(*given):
    by_samples(*given)


def _without_end(grad, rois, roi_images, features_shape, scale, ratio, aligned, axis):
    """Send no gradient back for RoIs with a sample right at the end of the map."""
    grad = np.array(grad, float)
    for r, box in enumerate(np.asarray(rois, float) * scale - 0.5 * aligned):
        low, high = (box[1], box[3]) if axis == 0 else (box[0], box[2])
        count = grad.shape[2 + axis] * ratio
        at = low + (np.arange(count) + 0.5) * (high - low if aligned else max(high - low, 1)) / count
        grad[r] *= not (at == features_shape[2 + axis]).any()
    return by_samples(grad, rois, roi_images, features_shape, scale, ratio, aligned)


RIGHT = (by_samples, by_lists, two_products_in_float32)
WRONG = (
    (xy_swapped, "The whole gradient goes"),
    (half_a_pixel_off, "exactly on a cell"),
    (samples_at_the_corners, "in the middle of the RoI"),
    (to_the_nearest_pixel, "the gradient times its own weight"),
    (to_four_pixels_alike, "the gradient times its own weight"),
    (no_average, "each point receives a quarter"),
    (average_over_the_side, "each point receives a quarter"),
    (the_last_sample_only, "Several points of a bin read the same cell"),
    (repeated_indices_once, "border cell counts in full"),
    (the_last_roi_only, "Two RoIs read the same cell"),
    (nothing_without_rois, "has the shape of the features"),
    (bins_transposed, "divide the height, and the columns divide"),
    (no_scale, "RoIs are in pixels"),
    (small_rois_unchanged, "narrower than one cell"),
    (aligned_ignored, "half a cell"),
    (one_pixel_at_least_when_aligned, "a small RoI is not"),
    (lost_beyond_the_border, "border cell counts in full"),
    (wraps_at_the_first_pixel, "what a negative index means"),
    (outside_goes_to_the_border, "counts as 0"),
    (outside_from_one_pixel, "are exactly one cell outside"),
    (first_channel_for_all, "Each channel is read separately"),
    (first_image_for_all, "each RoI, roi_images contains the index"),
    (two_samples_always, "has sampling_ratio x sampling_ratio points"),
    (divides_in_place, "changes its argument 'grad'"),
    (forgets_to_return, "without `return`"),
)
WRONG += (  # each with the description of a misconception
    answer(
        "a sample right at the map's height sends nothing back",
        lambda g, r, m, f, s=1.0, n=2, a=False: _without_end(g, r, m, f, s, n, a, 0),
    ),
    answer(
        "a sample right at the map's width sends nothing back",
        lambda g, r, m, f, s=1.0, n=2, a=False: _without_end(g, r, m, f, s, n, a, 1),
    ),
    answer(
        "RoIs are clipped to the map on the left and above",
        lambda g, r, m, f, s=1.0, n=2, a=False: by_samples(g, np.maximum(r, 0), m, f, s, n, a),
    ),
    answer(
        "RoIs are clipped to the map on the right and below",
        lambda g, r, m, f, s=1.0, n=2, a=False: by_samples(
            g, np.minimum(r, np.array([f[3], f[2]] * 2) / s), m, f, s, n, a
        ),
    ),
    answer(
        "RoI i is on image i where they are equally many",
        lambda g, r, m, f, s=1.0, n=2, a=False: by_samples(
            g, r, np.arange(len(r)) if len(r) == f[0] else m, f, s, n, a
        ),
    ),
    answer(
        "bins transposed where they are square",
        lambda g, r, m, f, s=1.0, n=2, a=False: by_samples(
            g.swapaxes(2, 3) if g.shape[2] == g.shape[3] else g, r, m, f, s, n, a
        ),
    ),
    answer("two samples at most", lambda g, r, m, f, s=1.0, n=2, a=False: by_samples(g, r, m, f, s, min(n, 2), a)),
    answer(
        "negative gradients are lost",
        lambda g, r, m, f, s=1.0, n=2, a=False: by_samples(np.maximum(g, 0), r, m, f, s, n, a),
    ),
    answer(
        "divided by the number of RoIs",
        lambda g, r, m, f, s=1.0, n=2, a=False: by_samples(g, r, m, f, s, n, a) / max(len(r), 1),
    ),
    answer("channels in reverse", lambda g, r, m, f, s=1.0, n=2, a=False: by_samples(g[:, ::-1], r, m, f, s, n, a)),
    answer("times the scale", lambda g, r, m, f, s=1.0, n=2, a=False: by_samples(g, r, m, f, s, n, a) * s),
    answer(
        "the border receives nothing",
        lambda g, r, m, f, s=1.0, n=2, a=False: np.pad(
            by_samples(g, r, m, f, s, n, a)[:, :, 1:-1, 1:-1], [(0, 0), (0, 0), (1, 1), (1, 1)]
        ),
    ),
    answer(
        "None without RoIs", lambda g, r, m, f, s=1.0, n=2, a=False: by_samples(g, r, m, f, s, n, a) if len(r) else None
    ),
)

"""Answers to `checks.roi_pool_backward`."""

import numpy as np

from mutants import answer
from mutants.roi_pool import away, bins_of, edges


def winners(features, rois, roi_images, output_size, scale, **other):
    """Yield for each bin with pixels its RoI, row and column, and the row and column of each channel's maximum."""
    for r, box in enumerate(rois):
        for i, j, rows, columns in bins_of(box, output_size, scale, features.shape[2:], **other):
            region = features[roi_images[r]][:, rows, columns]
            if region.size:
                place = region.reshape(len(region), -1).argmax(axis=1)
                y, x = np.divmod(place, region.shape[2])
                yield r, i, j, rows.start + y, columns.start + x


def _spread(grad, features, rois, roi_images, scale, **other):
    out, channels = np.zeros(features.shape), np.arange(features.shape[1])
    for r, i, j, y, x in winners(features, rois, roi_images, grad.shape[2:], scale, **other):
        out[roi_images[r], channels, y, x] += grad[r, :, i, j]
    return out


def by_winners(grad, features, rois, roi_images, spatial_scale=1.0):
    return _spread(grad, features, rois, roi_images, spatial_scale)


def by_pixels(grad, features, rois, roi_images, spatial_scale=1.0):
    out = np.zeros(features.shape).tolist()
    size = features.shape[2:]
    for box, image, back in zip(rois, roi_images, grad, strict=True):
        for i, j, rows, columns in bins_of(box, grad.shape[2:], spatial_scale, size):
            for channel, plane in enumerate(features[image].tolist()):
                pixels = [
                    (plane[y][x], y, x)
                    for y in range(rows.start, rows.stop)
                    for x in range(columns.start, columns.stop)
                ]
                if pixels:
                    _, y, x = max(pixels, key=lambda pixel: pixel[0])
                    out[image][channel][y][x] += back[channel][i][j]
    return out


def masked_in_float32(grad, features, rois, roi_images, spatial_scale=1.0):
    out = np.zeros(features.shape, np.float32)
    maps = np.asarray(features, np.float32)
    for r, image in enumerate(roi_images):
        for i, j, rows, columns in bins_of(rois[r], grad.shape[2:], spatial_scale, maps.shape[2:]):
            region = maps[image, :, rows, columns]
            is_largest = region == region.max(axis=(1, 2), keepdims=True, initial=-np.inf)
            is_largest &= is_largest.reshape(len(region), -1).cumsum(axis=1).reshape(region.shape) == 1
            out[image, :, rows, columns] += is_largest * np.asarray(grad, np.float32)[r, :, i, j, None, None]
    return out


def to_every_pixel(grad, features, rois, roi_images, scale, share=lambda pixels: 1):
    out = np.zeros(features.shape)
    for r, box in enumerate(rois):
        for i, j, rows, columns in bins_of(box, grad.shape[2:], scale, features.shape[2:]):
            region = out[roi_images[r], :, rows, columns]
            region += grad[r, :, i, j, None, None] * share(max(region[0].size, 1))
    return out


def shared_out_evenly(*given):
    return to_every_pixel(*given, share=lambda pixels: 1 / pixels)


def times_the_maximum(grad, features, *rest):
    return by_winners(grad, features, *rest) * features


def position_within_the_bin(grad, features, rois, roi_images, scale):
    out, channels = np.zeros(features.shape), np.arange(features.shape[1])
    for r, box in enumerate(rois):
        for i, j, rows, columns in bins_of(box, grad.shape[2:], scale, features.shape[2:]):
            region = features[roi_images[r]][:, rows, columns]
            if region.size:
                y, x = np.divmod(region.reshape(len(region), -1).argmax(axis=1), region.shape[2])
                out[roi_images[r], channels, y, x] += grad[r, :, i, j]
    return out


def the_last_bin_only(grad, features, rois, roi_images, scale):
    out, channels = np.zeros(features.shape), np.arange(features.shape[1])
    for r in range(len(rois)):
        own = np.zeros(features.shape)
        for _, i, j, y, x in winners(features, rois[r : r + 1], roi_images[r : r + 1], grad.shape[2:], scale):
            own[roi_images[r], channels, y, x] = grad[r, :, i, j]
        out += own
    return out


def the_last_roi_only(grad, features, rois, roi_images, scale):
    out = np.zeros(features.shape)
    for r in range(len(rois)):
        own = by_winners(grad[r : r + 1], features, rois[r : r + 1], roi_images[r : r + 1], scale)
        out = np.where(own != 0, own, out)
    return out


def average_over_the_rois(grad, features, rois, *rest):
    return by_winners(grad, features, rois, *rest) / max(len(rois), 1)


def nothing_without_rois(grad, features, rois, *rest):
    return by_winners(grad, features, rois, *rest) if len(rois) else np.zeros((0, *features.shape[1:]))


def type_of_the_features(grad, features, *rest):
    return by_winners(grad, features, *rest).astype(features.dtype)


def last_pixel_left_out(*given):
    return _spread(*given, edges=lambda first, last, bins, pixels: edges(first, last - 1, bins, pixels))


def channels_share_a_maximum(grad, features, *rest):
    return by_winners(grad, np.repeat(features.max(axis=1, keepdims=True), features.shape[1], axis=1), *rest)


def no_scale(grad, features, rois, roi_images, scale):
    return by_winners(grad, features, rois, roi_images)


def truncates(*given):
    return _spread(*given, rounded=int)


def halves_to_even(*given):
    return _spread(*given, rounded=round)


def roi_clipped_first(*given):
    return _spread(
        *given,
        edges=lambda first, last, bins, pixels: (
            edges(max(first, 0), min(last, pixels - 1), bins, pixels)
            if first < pixels and last >= 0
            else [(0, 0)] * bins
        ),
    )


def empty_bins_at_the_border(*given):
    def at_least_one(first, last, bins, pixels):
        return [(min(start, pixels - 1), max(stop, 1)) for start, stop in edges(first, last, bins, pixels)]

    return _spread(*given, edges=at_least_one)


def first_image_for_all(grad, features, rois, roi_images, scale):
    return by_winners(grad, features, rois, np.zeros(len(rois), int), scale)


def rounds_in_place(grad, features, rois, roi_images, scale):
    for box in rois:
        box[:] = [away(value * scale) for value in box.tolist()]
    return by_winners(grad, features, rois, roi_images)


def forgets_to_return(*given):
    by_winners(*given)


def _cut_rois(features, rois, scale, side):
    rois = np.array(rois, float)
    limit = features.shape[2 if side % 2 else 3] / scale
    rois[:, side] = np.minimum(rois[:, side], limit) if side >= 2 else np.maximum(rois[:, side], 0)
    return rois


RIGHT = (by_winners, by_pixels, masked_in_float32)
WRONG = (
    (to_every_pixel, "The other cells receive none"),
    (shared_out_evenly, "The other cells receive none"),
    (times_the_maximum, "gradient of the bin therefore goes to"),
    (position_within_the_bin, "the bin therefore goes to that cell"),
    (the_last_bin_only, "maximum of several bins"),
    (the_last_roi_only, "Two RoIs that overlap"),
    (average_over_the_rois, "Two RoIs that overlap"),
    (nothing_without_rois, "has the shape of the features"),
    (type_of_the_features, "What is the dtype of your result"),
    (last_pixel_left_out, "cells at both corners belong to a"),
    (channels_share_a_maximum, "Each channel has its own maximum"),
    (no_scale, "RoIs are in pixels"),
    (truncates, "nearest whole cell"),
    (halves_to_even, "A coordinate halfway between two"),
    (roi_clipped_first, "Then clip the bins to the map"),
    (empty_bins_at_the_border, "bins contain no cell of the map"),
    (first_image_for_all, "each RoI, roi_images contains the index"),
    (rounds_in_place, "changes its argument 'rois'"),
    (forgets_to_return, "without `return`"),
)
WRONG += (  # each with the description of a misconception
    answer(
        "RoIs that reach out at the bottom are cut",
        lambda g, f, r, m, s=1.0: by_winners(g, f, _cut_rois(f, r, s, 3), m, s),
    ),
    answer(
        "RoIs that reach out on the left are cut",
        lambda g, f, r, m, s=1.0: by_winners(g, f, _cut_rois(f, r, s, 0), m, s),
    ),
    answer(
        "RoI i is on image i where they are equally many",
        lambda g, f, r, m, s=1.0: by_winners(g, f, r, np.arange(len(r)) if len(r) == len(f) else m, s),
    ),
    answer("the gradient of the absolute maximum", lambda g, f, r, m, s=1.0: by_winners(g, np.abs(f), r, m, s)),
    answer("the gradient of the minimum", lambda g, f, r, m, s=1.0: by_winners(g, -np.asarray(f, float), r, m, s)),
    answer("negative gradients are lost", lambda g, f, r, m, s=1.0: by_winners(np.maximum(g, 0), f, r, m, s)),
    answer("divided by the number of RoIs", lambda g, f, r, m, s=1.0: by_winners(g, f, r, m, s) / max(len(r), 1)),
    answer(
        "divided by the number of bins",
        lambda g, f, r, m, s=1.0: by_winners(g, f, r, m, s) / max(g.shape[2] * g.shape[3], 1),
    ),
    answer(
        "bins transposed where they are square",
        lambda g, f, r, m, s=1.0: by_winners(g.swapaxes(2, 3) if g.shape[2] == g.shape[3] else g, f, r, m, s),
    ),
    answer("channels in reverse", lambda g, f, r, m, s=1.0: by_winners(g[:, ::-1], f, r, m, s)),
    answer(
        "negative maxima receive nothing", lambda g, f, r, m, s=1.0: by_winners(g, f, r, m, s) * (np.asarray(f) > 0)
    ),
    answer(
        "the gradient of RoIs only, one for each",
        lambda g, f, r, m, s=1.0: np.array(
            [by_winners(g[i : i + 1], f, r[i : i + 1], m[i : i + 1], s) for i in range(len(r))]
        ),
    ),
    answer("a dict of positions", lambda g, f, r, m, s=1.0: {(0, 0): 1.0}),
)

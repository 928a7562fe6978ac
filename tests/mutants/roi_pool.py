"""Answers to `checks.roi_pool`."""

import math

import numpy as np

from mutants import answer


def away(value):
    return int(math.copysign(math.floor(abs(value) + 0.5), value))


def edges(first, last, bins, pixels):
    """Return the clipped start and end of each bin."""
    step = max(last - first + 1, 1) / bins
    return [
        (min(max(first + math.floor(i * step), 0), pixels), min(max(first + math.ceil((i + 1) * step), 0), pixels))
        for i in range(bins)
    ]


def bins_of(box, output_size, scale, size, rounded=away, edges=edges):
    """Yield for each bin of a RoI its row and column, and the rows and columns of the map in it."""
    x1, y1, x2, y2 = (rounded(value * scale) for value in np.asarray(box).tolist())
    for i, (top, bottom) in enumerate(edges(y1, y2, output_size[0], size[0])):
        for j, (left, right) in enumerate(edges(x1, x2, output_size[1], size[1])):
            yield i, j, slice(top, bottom), slice(left, right)


def _largest(region):
    return region.max(axis=(1, 2)) if region.size else 0


def _pooled(features, rois, roi_images, output_size, scale, largest=_largest, **other):
    out = np.zeros((len(rois), features.shape[1], *output_size))
    for r, box in enumerate(rois):
        for i, j, rows, columns in bins_of(box, output_size, scale, features.shape[2:], **other):
            out[r, :, i, j] = largest(features[roi_images[r]][:, rows, columns])
    return out


def by_bins(features, rois, roi_images, output_size, spatial_scale=1.0):
    return _pooled(features, rois, roi_images, output_size, spatial_scale)


def by_pixels(features, rois, roi_images, output_size, spatial_scale=1.0):
    maps, (high, wide) = features.tolist(), output_size
    height, width = features.shape[2:]
    out = []
    for (x1, y1, x2, y2), image in zip(rois, roi_images, strict=True):
        x1, y1, x2, y2 = (away(value * spatial_scale) for value in (x1, y1, x2, y2))
        tall, broad = max(y2 - y1 + 1, 1), max(x2 - x1 + 1, 1)
        channels = []
        for channel in maps[image]:
            grid = [[None] * wide for _ in range(high)]
            for i in range(high):
                for j in range(wide):
                    for row in range(y1 + i * tall // high, y1 - (-(i + 1) * tall // high)):
                        for column in range(x1 + j * broad // wide, x1 - (-(j + 1) * broad // wide)):
                            if 0 <= row < height and 0 <= column < width:
                                value = channel[row][column]
                                grid[i][j] = value if grid[i][j] is None else max(value, grid[i][j])
            channels.append([[0 if value is None else value for value in line] for line in grid])
        out.append(channels)
    return out


def masked_in_float32(features, rois, roi_images, output_size, spatial_scale=1.0):
    scaled = np.asarray(rois, np.float32) * np.float32(spatial_scale)
    corners = np.sign(scaled) * np.floor(np.abs(scaled) + np.float32(0.5))
    rows = _inside(corners[:, 1], corners[:, 3], output_size[0], features.shape[2])
    columns = _inside(corners[:, 0], corners[:, 2], output_size[1], features.shape[3])
    inside = rows[:, None, :, None, :, None] & columns[:, None, None, :, None, :]
    maps = np.asarray(features, np.float32)[roi_images][:, :, None, None]
    largest = np.where(inside, maps, -np.inf).max(axis=(4, 5))
    return np.where(np.isfinite(largest), largest, 0).astype(np.float32)


def _inside(first, last, bins, pixels):
    """Return whether each bin of each RoI contains a pixel, (R, bins, pixels)."""
    step = np.maximum(last - first + 1, 1)[:, None, None] / np.float32(bins)
    index, pixel = np.arange(bins, dtype=np.float32)[:, None], np.arange(pixels, dtype=np.float32)
    start = first[:, None, None] + np.floor(index * step)
    return (pixel >= start) & (pixel < first[:, None, None] + np.ceil((index + 1) * step))


def rows_and_columns_swapped(features, rois, roi_images, output_size, spatial_scale):
    return by_bins(features, np.asarray(rois)[:, [1, 0, 3, 2]], roi_images, output_size, spatial_scale)


def average(*given):
    return _pooled(*given, largest=lambda region: region.mean(axis=(1, 2)) if region.size else 0)


def last_pixel_left_out(*given):
    return _pooled(*given, edges=lambda first, last, bins, pixels: edges(first, last - 1, bins, pixels))


def maximum_from_zero(*given):
    return np.maximum(by_bins(*given), 0)


def one_maximum_of_all_channels(*given):
    return _pooled(*given, largest=lambda region: region.max() if region.size else 0)


def bins_transposed(*given):
    return by_bins(*given).swapaxes(2, 3)


def whole_steps(*given):
    def divided(first, last, bins, pixels):
        step = (last - first + 1) // bins
        return [(max(first + i * step, 0), max(first + (i + 1) * step, 0)) for i in range(bins)]

    return _pooled(*given, edges=divided)


def no_pixel_shared(*given):
    def split(first, last, bins, pixels):
        step = (last - first + 1) / bins
        return [(max(first + math.floor(i * step), 0), max(first + math.floor((i + 1) * step), 0)) for i in range(bins)]

    return _pooled(*given, edges=split)


def no_scale(features, rois, roi_images, output_size, spatial_scale):
    return by_bins(features, rois, roi_images, output_size, 1.0)


def divides_by_the_scale(features, rois, roi_images, output_size, spatial_scale):
    return by_bins(features, rois, roi_images, output_size, 1 / spatial_scale)


def truncates(*given):
    return _pooled(*given, rounded=int)


def halves_to_even(*given):
    return _pooled(*given, rounded=round)


def halves_up(*given):
    return _pooled(*given, rounded=lambda value: math.floor(value + 0.5))


def negative_slices(*given):
    def unclipped(first, last, bins, pixels):
        step = max(last - first + 1, 1) / bins
        return [(first + math.floor(i * step), first + math.ceil((i + 1) * step)) for i in range(bins)]

    return _pooled(*given, edges=unclipped)


def roi_clipped_first(*given):
    return _pooled(
        *given,
        edges=lambda first, last, bins, pixels: (
            edges(max(first, 0), min(last, pixels - 1), bins, pixels)
            if first < pixels and last >= 0
            else [(0, 0)] * bins
        ),
    )


def fails_without_pixels(*given):
    return _pooled(*given, largest=lambda region: region.max(axis=(1, 2)))


def infinity_without_pixels(*given):
    return _pooled(*given, largest=lambda region: region.max(axis=(1, 2), initial=-np.inf))


def first_image_for_all(features, rois, roi_images, output_size, spatial_scale):
    return by_bins(features, rois, np.zeros(len(rois), int), output_size, spatial_scale)


def fails_without_rois(features, rois, roi_images, output_size, spatial_scale):
    return np.stack(
        [
            by_bins(features, [box], [image], output_size, spatial_scale)[0]
            for box, image in zip(rois, roi_images, strict=True)
        ]
    )


def scales_in_place(features, rois, roi_images, output_size, spatial_scale):
    rois[:] = rois * spatial_scale
    return by_bins(features, rois, roi_images, output_size)


def forgets_to_return(*given):
    by_bins(*given)


def _is_empty(features, rois, roi_images, output_size, scale):
    return by_bins(np.ones(features.shape), rois, roi_images, output_size, scale) == 0


def _empty_bins(features, rois, roi_images, output_size, scale):
    empty = _is_empty(features, rois, roi_images, output_size, scale)
    some = ~empty.all(axis=(1, 2, 3), keepdims=True)
    return np.where(empty & some, -np.inf, by_bins(features, rois, roi_images, output_size, scale))


def _cut_rois(features, rois, scale, side):
    rois = np.array(rois, float)
    limit = features.shape[2 if side % 2 else 3] / scale
    rois[:, side] = np.minimum(rois[:, side], limit) if side >= 2 else np.maximum(rois[:, side], 0)
    return rois


RIGHT = (by_bins, by_pixels, masked_in_float32)
WRONG = (
    (rows_and_columns_swapped, "the row, then the column"),
    (average, "value of a bin is its largest"),
    (last_pixel_left_out, "cells at both corners belong to a"),
    (maximum_from_zero, "initial value of your maximum"),
    (one_maximum_of_all_channels, "Each channel has its own maximum"),
    (bins_transposed, "divide the height, and the columns divide"),
    (whole_steps, "so neighbouring bins may share"),
    (no_pixel_shared, "so neighbouring bins may share"),
    (no_scale, "RoIs are in pixels"),
    (divides_by_the_scale, "RoIs are in pixels"),
    (truncates, "nearest whole cell"),
    (halves_to_even, "A coordinate halfway between two"),
    (halves_up, "-0.5 becomes -1"),
    (negative_slices, "the edge of the map"),
    (roi_clipped_first, "Then clip the bins to the map"),
    (fails_without_pixels, "bins contain no cell of the map"),
    (infinity_without_pixels, "bins contain no cell of the map"),
    (first_image_for_all, "each RoI, roi_images contains the index"),
    (fails_without_rois, "Zero RoIs are valid"),
    (scales_in_place, "changes its argument 'rois'"),
    (forgets_to_return, "without `return`"),
)
WRONG += (  # each with the description of a misconception
    answer(
        "a RoI wholly outside gives 0, an empty bin of another one -inf",
        lambda f, r, m, o, s=1.0: _empty_bins(f, r, m, o, s),
    ),
    answer(
        "an empty bin has the smallest value of the map",
        lambda f, r, m, o, s=1.0: np.where(_is_empty(f, r, m, o, s), f.min(), by_bins(f, r, m, o, s)),
    ),
    answer(
        "RoIs that reach out at the bottom are cut",
        lambda f, r, m, o, s=1.0: by_bins(f, _cut_rois(f, r, s, 3), m, o, s),
    ),
    answer(
        "RoIs that reach out at the top are cut", lambda f, r, m, o, s=1.0: by_bins(f, _cut_rois(f, r, s, 1), m, o, s)
    ),
    answer(
        "RoIs that reach out on the left are cut", lambda f, r, m, o, s=1.0: by_bins(f, _cut_rois(f, r, s, 0), m, o, s)
    ),
    answer(
        "RoIs that reach out on the right are cut", lambda f, r, m, o, s=1.0: by_bins(f, _cut_rois(f, r, s, 2), m, o, s)
    ),
    answer(
        "the map is as high as it is wide",
        lambda f, r, m, o, s=1.0: by_bins(
            f[:, :, : f.shape[3], : f.shape[2]] if f.shape[2] > f.shape[3] else f, r, m, o, s
        ),
    ),
    answer("images count backwards", lambda f, r, m, o, s=1.0: by_bins(f[::-1], r, m, o, s)),
    answer(
        "RoI i is on image i where they are equally many",
        lambda f, r, m, o, s=1.0: by_bins(f, r, np.arange(len(r)) if len(r) == len(f) else m, o, s),
    ),
    answer(
        "only the first channel is pooled",
        lambda f, r, m, o, s=1.0: by_bins(np.broadcast_to(f[:, :1], f.shape), r, m, o, s),
    ),
    answer("the maximum of absolute values", lambda f, r, m, o, s=1.0: by_bins(np.abs(f), r, m, o, s)),
    answer("channels last", lambda f, r, m, o, s=1.0: by_bins(f, r, m, o, s).transpose(0, 2, 3, 1)),
    answer("one row for each RoI", lambda f, r, m, o, s=1.0: by_bins(f, r, m, o, s).reshape(len(r), -1)),
    answer(
        "no RoIs give an array of shape (0,)",
        lambda f, r, m, o, s=1.0: by_bins(f, r, m, o, s) if len(r) else np.zeros(0),
    ),
    answer(
        "a list for each image", lambda f, r, m, o, s=1.0: {i: by_bins(f, r, m, o, s)[m == i] for i in range(len(f))}
    ),
)

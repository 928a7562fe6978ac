"""Regions of interest: a fixed grid of features for boxes of any size, by RoIAlign or RoIPool, and the gradients.

`features` has the shape (N, C, H, W) and lies in memory channels last, ideally; any other layout is copied first.
`rois` (R, 4) are boxes in picture pixels, `roi_images` (R,) says which of the N images each lies on, `spatial_scale` is
feature pixels per picture pixel. What comes out has the features' dtype and lies channels last, too.

RoIAlign: He et al., "Mask R-CNN", 2017, section 3. RoIPool: Girshick, "Fast R-CNN", 2015, section 2.1.
"""

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike

from rcnn._ext import backend, taps
from rcnn._ext.memory import empty
from rcnn._validate import as_float_array, as_index_array, check_boxes, check_finite, check_pair

FARTHEST = 2**20  # feature pixels; a RoI beyond that is a mistake, and its adaptive samples would be too many to count


def roi_align(
    features: ArrayLike,
    rois: ArrayLike,
    roi_images: ArrayLike,
    output_size: tuple[int, int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = 2,
    aligned: bool = False,
) -> np.ndarray:
    """The average of bilinear samples in each bin of each RoI, (R, C, ph, pw) with (ph, pw) = `output_size`.

    Each bin has `sampling_ratio` x `sampling_ratio` samples, or with 0 about one for each feature pixel. A sample more
    than one pixel outside the features counts as 0. With `aligned`, coordinates shift by half a feature pixel so that a
    pixel's value sits at its centre; without, a RoI is at least one feature pixel wide and high.

    Raises ValueError for a RoI that is not finite, or whose image is not there.
    """
    maps = _channels_last(features, "features")  # (N, H, W, C)
    boxes, images = _check_rois(rois, roi_images, maps, spatial_scale)
    height, width = check_pair(output_size, "output_size")
    _check_sampling(sampling_ratio)
    out = empty((len(boxes), height, width, maps.shape[3]), maps.dtype)  # (R, ph, pw, C)
    _align(maps, boxes, images, out, np.arange(len(boxes)), spatial_scale, sampling_ratio, aligned)
    return out.transpose(0, 3, 1, 2)  # (R, C, ph, pw)


def roi_align_into(
    out: np.ndarray,
    places: ArrayLike,
    features: ArrayLike,
    rois: ArrayLike,
    roi_images: ArrayLike,
    spatial_scale: float = 1.0,
    sampling_ratio: int = 2,
    aligned: bool = False,
) -> None:
    """Puts into `out` at `places` what `roi_align` gives; so RoIs on several feature maps come together uncopied.

    `out` (P, C, ph, pw) lies channels last in memory and has the features' dtype, `places` (R,) are different indices.

    Raises as `roi_align`, and ValueError for an `out` that is not so, or a place that is not there or given twice.
    """
    maps = _channels_last(features, "features")  # (N, H, W, C)
    boxes, images = _check_rois(rois, roi_images, maps, spatial_scale)
    _check_sampling(sampling_ratio)
    pooled = out.transpose(0, 2, 3, 1)  # (P, ph, pw, C)
    fits = pooled.flags.c_contiguous and pooled.dtype == maps.dtype and pooled.shape[3] == maps.shape[3]
    if not fits:
        raise ValueError(
            f"out must have {maps.shape[3]} channels of {maps.dtype} and lie channels last in memory, "
            f"got {out.dtype} of shape {out.shape} and strides {out.strides}"
        )
    where = as_index_array(places, "places", len(boxes))
    if len(where) and not (where.min() >= 0 and where.max() < len(out)):
        raise ValueError(f"places must lie in 0 .. {len(out) - 1}, got {where.min()} .. {where.max()}")
    if len(np.unique(where)) < len(where):
        raise ValueError(f"places must differ, got {len(where)} of which {len(np.unique(where))} are different")
    _align(maps, boxes, images, pooled, where, spatial_scale, sampling_ratio, aligned)


def roi_align_backward(
    grad: ArrayLike,
    rois: ArrayLike,
    roi_images: ArrayLike,
    features_shape: tuple[int, ...],
    spatial_scale: float = 1.0,
    sampling_ratio: int = 2,
    aligned: bool = False,
) -> np.ndarray:
    """The gradient of `roi_align` with respect to its features, (N, C, H, W) = `features_shape`.

    `grad` (R, C, ph, pw) is the gradient with respect to what `roi_align` gave for the same arguments. The result is
    the same to the bit for every number of threads.
    """
    upstream = _channels_last(grad, "grad")  # (R, ph, pw, C)
    out = _empty_features(features_shape, upstream.dtype)  # (N, H, W, C)
    boxes, images = _check_rois(rois, roi_images, out, spatial_scale, upstream)
    _check_sampling(sampling_ratio)
    if backend.runs_kernels():
        threads = backend.threads_for(4 * max(sampling_ratio, 2) ** 2 * upstream.size)
        rows, columns = taps.find(boxes, out, upstream, spatial_scale, sampling_ratio, aligned)
        band = taps.band_rows(out, threads)
        backend.roi_kernels.roi_align_backward(upstream, images, *rows, *columns, band, out, threads)
    else:
        out[...] = 0
        _roi_align_backward(upstream, boxes, images, out, spatial_scale, sampling_ratio, aligned)
    return out.transpose(0, 3, 1, 2)  # (N, C, H, W)


def roi_pool(
    features: ArrayLike,
    rois: ArrayLike,
    roi_images: ArrayLike,
    output_size: tuple[int, int],
    spatial_scale: float = 1.0,
) -> np.ndarray:
    """The maximum in each bin of each RoI, (R, C, ph, pw) with (ph, pw) = `output_size`; 0 for a bin without a pixel.

    A RoI's corners round to whole feature pixels, halves away from zero, and both corner pixels belong to it.

    Raises as `roi_align`.
    """
    maps = _channels_last(features, "features")  # (N, H, W, C)
    boxes, images = _check_rois(rois, roi_images, maps, spatial_scale)
    out, _ = _pool(maps, boxes, images, check_pair(output_size, "output_size"), spatial_scale)
    return out.transpose(0, 3, 1, 2)  # (R, C, ph, pw)


def roi_pool_backward(
    grad: ArrayLike,
    features: ArrayLike,
    rois: ArrayLike,
    roi_images: ArrayLike,
    spatial_scale: float = 1.0,
) -> np.ndarray:
    """The gradient of `roi_pool` with respect to its features, (N, C, H, W).

    `grad` (R, C, ph, pw) is the gradient with respect to what `roi_pool` gave for the same `features`, `rois` and
    scale; it goes to the pixel that was the maximum, to the first of several. The result is the same to the bit for
    every number of threads.
    """
    maps = _channels_last(features, "features")  # (N, H, W, C)
    upstream = _channels_last(grad, "grad").astype(maps.dtype, copy=False)  # (R, ph, pw, C)
    boxes, images = _check_rois(rois, roi_images, maps, spatial_scale, upstream)
    _, winners = _pool(maps, boxes, images, upstream.shape[1:3], spatial_scale)  # (R, ph, pw, C)
    out = np.zeros(maps.shape, maps.dtype)  # (N, H, W, C)
    if backend.runs_kernels():
        threads = backend.threads_for(upstream.size)
        backend.roi_kernels.roi_pool_backward(upstream, images, winners, out, threads)
    else:
        _roi_pool_backward(upstream, images, winners, out)
    return out.transpose(0, 3, 1, 2)  # (N, C, H, W)


def assign_levels(
    rois: ArrayLike, min_level: int, max_level: int, canonical_size: float = 224, canonical_level: int = 4
) -> np.ndarray:
    """The pyramid level that each RoI (R, 4) is pooled from, (R,) int64 in `min_level` .. `max_level`.

    `floor(canonical_level + log2(sqrt(area) / canonical_size) + 1e-6)`, clipped: a RoI of the canonical size belongs to
    the canonical level, one half as large to the level below. Lin et al., "Feature Pyramid Networks", 2017, equation 1.
    """
    boxes = check_boxes(rois, "rois")
    if min_level > max_level:
        raise ValueError(f"min_level must not be above max_level, got {min_level} and {max_level}")
    if not canonical_size > 0:
        raise ValueError(f"canonical_size must be positive, got {canonical_size}")
    check_finite(boxes, "rois")
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])  # (R,)
    with np.errstate(divide="ignore"):  # an empty RoI has level -inf, clipped to the lowest
        exact = canonical_level + np.log2(np.sqrt(np.maximum(areas, 0)) / boxes.dtype.type(canonical_size))
    return np.clip(np.floor(exact + boxes.dtype.type(1e-6)), min_level, max_level).astype(np.int64)


# ---------------------------------------------------------------- the door


def _channels_last(values: ArrayLike, name: str) -> np.ndarray:
    """A C-contiguous (N, H, W, C) array of what has the shape (N, C, H, W); not copied if it lies so already."""
    array = values if isinstance(values, np.ndarray) else np.asarray(values)
    if array.ndim != 4:
        raise ValueError(f"{name} must have four dimensions, got shape {array.shape}")
    return as_float_array(array.transpose(0, 2, 3, 1), name)


def _check_rois(
    rois: ArrayLike, roi_images: ArrayLike, maps: np.ndarray, spatial_scale: float, grad: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """RoIs (R, 4) in the dtype of `maps` (N, H, W, C) and their images (R,), fit to be trusted by a kernel."""
    boxes = check_boxes(rois, "rois").astype(maps.dtype, copy=False)
    images = as_index_array(roi_images, "roi_images", len(boxes))
    if not (math.isfinite(spatial_scale) and spatial_scale > 0):
        raise ValueError(f"spatial_scale must be positive and finite, got {spatial_scale}")
    check_finite(boxes, "rois")
    far = (np.abs(boxes) > FARTHEST / spatial_scale).any(axis=1)  # (R,)
    if far.any():
        row = int(np.argmax(far))
        raise ValueError(
            f"rois[{row}] is {boxes[row].tolist()}; at spatial_scale {spatial_scale} a coordinate may not exceed "
            f"{FARTHEST / spatial_scale:g}"
        )
    absent = (images < 0) | (images >= len(maps))  # (R,)
    if absent.any():
        row = int(np.argmax(absent))
        raise ValueError(f"roi_images[{row}] is {images[row]}, but there are {len(maps)} images (0 .. {len(maps) - 1})")
    if grad is not None and (len(grad) != len(boxes) or grad.shape[3] != maps.shape[3]):
        raise ValueError(
            f"grad must have shape ({len(boxes)}, {maps.shape[3]}, height, width), a row for each RoI, "
            f"got {grad.transpose(0, 3, 1, 2).shape}"
        )
    if len(boxes) and 0 in maps.shape[1:3]:
        raise ValueError(f"features must have at least one pixel, got {maps.shape[1]} x {maps.shape[2]}")
    return boxes, images


def _check_sampling(sampling_ratio: int) -> None:
    if not isinstance(sampling_ratio, (int, np.integer)) or sampling_ratio < 0:
        raise ValueError(f"sampling_ratio must be 0 (adaptive) or a positive integer, got {sampling_ratio!r}")


def _empty_features(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    if len(shape) != 4:
        raise ValueError(f"features_shape must be (N, C, H, W), got {tuple(shape)}")
    images, channels, height, width = shape
    return empty((images, height, width, channels), dtype)  # (N, H, W, C)


def _align(
    maps: np.ndarray,
    rois: np.ndarray,
    images: np.ndarray,
    out: np.ndarray,
    places: np.ndarray,
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
) -> None:
    """Fills `out` (P, ph, pw, C) at `places` (R,)."""
    if backend.runs_kernels():
        threads = backend.threads_for(4 * max(sampling_ratio, 2) ** 2 * len(rois) * math.prod(out.shape[1:]))
        rows, columns = taps.find(rois, maps, out, spatial_scale, sampling_ratio, aligned)
        order = taps.nearest_next(rois, images, spatial_scale)
        backend.roi_kernels.roi_align(maps, images, order, *rows, *columns, places, out, threads)
    else:
        _roi_align(maps, rois, images, out, places, spatial_scale, sampling_ratio, aligned)


def _pool(
    maps: np.ndarray, rois: np.ndarray, images: np.ndarray, output_size: tuple[int, ...], spatial_scale: float
) -> tuple[np.ndarray, np.ndarray]:
    """The maxima (R, ph, pw, C) and their places: row * W + column on the RoI's image, -1 for a bin without pixels."""
    shape = (len(rois), *output_size, maps.shape[3])  # (R, ph, pw, C)
    out, winners = np.zeros(shape, maps.dtype), np.full(shape, -1, np.int32)
    bounds = _pool_bounds(rois, output_size, maps.shape[1:3], spatial_scale)
    if backend.runs_kernels():
        backend.roi_kernels.roi_pool(maps, images, *bounds, out, winners, backend.threads_for(4 * out.size))
    else:
        _roi_pool(maps, images, *bounds, out, winners)
    return out, winners


# ---------------------------------------------------------------- RoIAlign, the reference
#
# Bilinear interpolation is separable, and so is an average over a grid of samples: what a RoI gives is Y @ F @ X.T for
# every channel F (H, W), where row i of Y (ph, H) says how much each feature row counts in the i-th row of bins, and X
# (pw, W) the same for columns. The gradient follows from the product: Y.T @ G @ X.


def _roi_align(
    maps: np.ndarray,
    rois: np.ndarray,
    images: np.ndarray,
    out: np.ndarray,
    places: np.ndarray,
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
) -> None:
    """Fills `out` (P, ph, pw, C) at `places` (R,)."""
    for r, (rows, columns, y, x) in enumerate(_averages(rois, out, maps, spatial_scale, sampling_ratio, aligned)):
        region = maps[images[r], rows[:, None], columns]  # (h, w, C)
        bands = np.tensordot(y, region, axes=(1, 0))  # (ph, w, C)
        out[places[r]] = x @ bands  # (ph, pw, C)


def _roi_align_backward(
    grad: np.ndarray,
    rois: np.ndarray,
    images: np.ndarray,
    out: np.ndarray,
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
) -> None:
    """Adds to `out` (N, H, W, C)."""
    for r, (rows, columns, y, x) in enumerate(_averages(rois, grad, out, spatial_scale, sampling_ratio, aligned)):
        bands = x.T @ grad[r]  # (ph, w, C)
        out[images[r], rows[:, None], columns] += np.tensordot(y, bands, axes=(0, 0))  # (h, w, C)


def _averages(
    rois: np.ndarray, pooled: np.ndarray, maps: np.ndarray, spatial_scale: float, sampling_ratio: int, aligned: bool
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """For each RoI the feature rows (h,) and columns (w,) that it reads, and the averages Y (ph, h) and X (pw, w)."""
    _, height, width, _ = maps.shape
    _, ph, pw, _ = pooled.shape
    for x1, y1, x2, y2 in rois:
        rows, y = _average(y1, y2, ph, height, spatial_scale, sampling_ratio, aligned)
        columns, x = _average(x1, x2, pw, width, spatial_scale, sampling_ratio, aligned)
        yield rows, columns, y, x


def _average(
    low: np.floating,
    high: np.floating,
    bins: int,
    pixels: int,
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Along one axis: which of `pixels` the interval low .. high reads, (k,), and their weights in each bin, (bins, k).

    All arithmetic is in the dtype of `low` and `high`: the answer to be matched was computed in float32.
    """
    real = type(low)
    shift = real(0.5 if aligned else 0)
    start, stop = low * real(spatial_scale) - shift, high * real(spatial_scale) - shift
    side = stop - start if aligned else max(stop - start, real(1))
    step = side / real(bins)  # the side of a bin
    samples = sampling_ratio or max(math.ceil(step), 0)  # per bin; none if the RoI is upside down
    weights = np.zeros((bins, pixels), real)
    if samples:
        bin_start = start + np.arange(bins, dtype=real)[:, None] * step  # (bins, 1)
        position = bin_start + (np.arange(samples, dtype=real) + real(0.5)) * step / real(samples)  # (bins, s)
        share = ((position >= -1) & (position <= pixels)) / real(samples)  # (bins, samples); 0 for one too far outside
        position = np.clip(position, 0, pixels - 1)  # within a pixel of the border: the border's value
        before = np.floor(position).astype(np.int64)  # (bins, samples)
        after = np.minimum(before + 1, pixels - 1)
        bin_index = np.arange(bins)[:, None]  # (bins, 1)
        np.add.at(weights, (bin_index, before), share * (1 - (position - before.astype(real))))
        np.add.at(weights, (bin_index, after), share * (position - before.astype(real)))
    read = np.flatnonzero(weights.any(axis=0))  # (k,)
    return read, weights[:, read]


# ---------------------------------------------------------------- RoIPool, bounds and reference


def _pool_bounds(
    rois: np.ndarray, output_size: tuple[int, ...], feature_size: tuple[int, ...], spatial_scale: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The pixels of each bin: rows top .. bottom (R, ph), columns left .. right (R, pw); the ends are exclusive.

    Neighbouring bins may share a pixel, and a bin outside the features is empty.
    """
    corners = _round_away(rois * rois.dtype.type(spatial_scale))  # (R, 4)
    top, bottom = _bin_bounds(corners[:, 1], corners[:, 3], output_size[0], feature_size[0])
    left, right = _bin_bounds(corners[:, 0], corners[:, 2], output_size[1], feature_size[1])
    return top, bottom, left, right


def _bin_bounds(first: np.ndarray, last: np.ndarray, bins: int, pixels: int) -> tuple[np.ndarray, np.ndarray]:
    """Along one axis: where the bins of pixels first .. last (R,), both included, begin and end, (R, bins) int64."""
    step = (np.maximum(last - first + 1, 1) / first.dtype.type(bins))[:, None]  # (R, 1)
    index = np.arange(bins).astype(first.dtype)  # (bins,)
    start = np.clip(np.floor(index * step) + first[:, None], 0, pixels)  # (R, bins)
    stop = np.clip(np.ceil((index + 1) * step) + first[:, None], 0, pixels)  # (R, bins)
    return start.astype(np.int64), stop.astype(np.int64)


def _round_away(values: np.ndarray) -> np.ndarray:
    """The nearest whole numbers, halves away from zero as C's round(); NumPy's own goes to even."""
    whole = np.trunc(values)
    return whole + np.where(np.abs(values - whole) >= 0.5, np.sign(values), 0).astype(values.dtype)


def _roi_pool(
    maps: np.ndarray,
    images: np.ndarray,
    top: np.ndarray,
    bottom: np.ndarray,
    left: np.ndarray,
    right: np.ndarray,
    out: np.ndarray,
    winners: np.ndarray,
) -> None:
    """Fills `out` and `winners` (R, ph, pw, C), which come holding 0 and -1."""
    width = maps.shape[2]
    for r, i, j in np.ndindex(out.shape[:3]):
        region = maps[images[r], top[r, i] : bottom[r, i], left[r, j] : right[r, j]]  # (h, w, C)
        if region.size:
            pixels = region.reshape(-1, maps.shape[3])  # (h * w, C)
            row, column = np.divmod(pixels.argmax(axis=0), region.shape[1])  # (C,), (C,)
            out[r, i, j] = pixels.max(axis=0)
            winners[r, i, j] = (top[r, i] + row) * width + left[r, j] + column


def _roi_pool_backward(grad: np.ndarray, images: np.ndarray, winners: np.ndarray, out: np.ndarray) -> None:
    """Adds to `out` (N, H, W, C)."""
    r, _, _, channel = np.nonzero(winners >= 0)
    chosen = winners[winners >= 0]
    flat = out.reshape(len(out), -1, out.shape[3])  # (N, H * W, C), a view
    np.add.at(flat, (images[r], chosen, channel), grad[winners >= 0])

"""Regions of interest: a fixed grid of features for boxes of any size, by RoIAlign or RoIPool, and the gradients.

`features` have the shape (N, C, H, W) and lie in memory channels last, ideally; any other layout is copied first.
`rois` (R, 4) are boxes in pixels of the batch, `roi_images` (R,) the index of the image that each lies on, and
`spatial_scale` is feature pixels per image pixel. Results have the features' dtype and lie channels last, too.

RoIAlign: He et al., "Mask R-CNN", 2017, section 3. RoIPool: Girshick, "Fast R-CNN", 2015, section 2.1. Levels: Lin et
al., "Feature Pyramid Networks for Object Detection", 2017, section 4.2.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike

from rcnn._ext.dispatch import Result, compiled, floats, replaceable
from rcnn._validate import as_float_array, as_index_array, check_boxes, check_finite, check_pair

FARTHEST = 2**20  # feature pixels; a RoI beyond that is a mistake, and its adaptive samples would be too many to count
REAL = (np.float32, np.float64)


# ---------------------------------------------------------------- RoIAlign


def _pooled_shape(features: ArrayLike, rois: ArrayLike, output_size: tuple[int, int], **_: object) -> Result:
    maps = np.asarray(features)
    return floats((len(np.asarray(rois)), maps.shape[1], *output_size), maps)


@replaceable(_pooled_shape)
def roi_align(
    features: ArrayLike,
    rois: ArrayLike,
    roi_images: ArrayLike,
    output_size: tuple[int, int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = 2,
    aligned: bool = False,
) -> np.ndarray:
    """Return the average of bilinear samples in each bin of each RoI, (R, C, ph, pw) with (ph, pw) = `output_size`.

    Each bin has `sampling_ratio` x `sampling_ratio` samples, or with 0 about one for each feature pixel. A sample more
    than one pixel outside the features counts as 0. With `aligned`, coordinates shift by half a feature pixel so that a
    pixel's value sits at its centre; without, a RoI is at least one feature pixel wide and high.

    Raises ValueError for a RoI that is not finite, or whose image does not exist.
    """
    maps = _channels_last(features, "features")  # (N, H, W, C)
    boxes, images = _check_rois(rois, roi_images, maps.shape, maps.dtype, spatial_scale)
    size = check_pair(output_size, "output_size")
    _check_sampling(sampling_ratio)
    out = _roi_align(maps, boxes, images, size, spatial_scale, sampling_ratio, aligned)  # (R, ph, pw, C)
    return out.transpose(0, 3, 1, 2)  # (R, C, ph, pw)


@replaceable(lambda grad, features_shape, **_: floats(tuple(features_shape), grad))
def roi_align_backward(
    grad: ArrayLike,
    rois: ArrayLike,
    roi_images: ArrayLike,
    features_shape: tuple[int, ...],
    spatial_scale: float = 1.0,
    sampling_ratio: int = 2,
    aligned: bool = False,
) -> np.ndarray:
    """Return the gradient of `roi_align` with respect to its features, (N, C, H, W) = `features_shape`.

    `grad` (R, C, ph, pw) is the gradient with respect to the result of `roi_align` for the same arguments. The bits do
    not depend on the number of threads.
    """
    upstream = _channels_last(grad, "grad")  # (R, ph, pw, C)
    shape = _check_shape(features_shape)  # (N, H, W, C)
    boxes, images = _check_rois(rois, roi_images, shape, upstream.dtype, spatial_scale)
    _check_grad(upstream, len(boxes), shape)
    _check_sampling(sampling_ratio)
    out = _roi_align_backward(upstream, boxes, images, shape, spatial_scale, sampling_ratio, aligned)
    return out.transpose(0, 3, 1, 2)  # (N, C, H, W)


def multiscale_roi_align(
    features: Sequence[ArrayLike],
    rois: ArrayLike,
    roi_images: ArrayLike,
    levels: ArrayLike,
    output_size: tuple[int, int],
    spatial_scales: Sequence[float],
    sampling_ratio: int = 2,
    aligned: bool = False,
) -> np.ndarray:
    """Return `roi_align` of each RoI on the pyramid level that it belongs to, (R, C, ph, pw).

    Parameters
    ----------
    features : sequence of arrays, (N, C, H_l, W_l) each
    rois, roi_images, output_size, sampling_ratio, aligned
        As in `roi_align`.
    levels : (R,) integers
        Index in `features` of each RoI's level, as from `roi_levels`.
    spatial_scales : sequence of floats
        Feature pixels per image pixel, level by level, as from `level_scales`.

    Raises
    ------
    ValueError
        As `roi_align`, and for a level that does not exist, or levels of different dtypes or numbers of channels.
    """
    maps = [_channels_last(level, f"features[{index}]") for index, level in enumerate(features)]
    _check_alike(maps)
    boxes, images, owners = _check_multiscale(
        rois, roi_images, levels, [level.shape for level in maps], spatial_scales, maps[0].dtype
    )
    size = check_pair(output_size, "output_size")
    _check_sampling(sampling_ratio)
    out = _multiscale_roi_align(maps, boxes, images, owners, size, list(spatial_scales), sampling_ratio, aligned)
    return out.transpose(0, 3, 1, 2)  # (R, C, ph, pw)


def multiscale_roi_align_backward(
    grad: ArrayLike,
    rois: ArrayLike,
    roi_images: ArrayLike,
    levels: ArrayLike,
    features_shapes: Sequence[tuple[int, ...]],
    spatial_scales: Sequence[float],
    sampling_ratio: int = 2,
    aligned: bool = False,
) -> list[np.ndarray | None]:
    """Return the gradient of `multiscale_roi_align` for each level, (N, C, H_l, W_l); None where no RoI belongs to it.

    `grad` (R, C, ph, pw) is the gradient with respect to its result, `features_shapes` are the shapes of its features,
    and the other arguments are its own.
    """
    upstream = _channels_last(grad, "grad")  # (R, ph, pw, C)
    shapes = [_check_shape(shape) for shape in features_shapes]  # (N, H_l, W_l, C) each
    boxes, images, owners = _check_multiscale(rois, roi_images, levels, shapes, spatial_scales, upstream.dtype)
    for shape in shapes:
        _check_grad(upstream, len(boxes), shape)
    _check_sampling(sampling_ratio)
    gradients = _multiscale_roi_align_backward(
        upstream, boxes, images, owners, shapes, list(spatial_scales), sampling_ratio, aligned
    )
    return [None if level is None else level.transpose(0, 3, 1, 2) for level in gradients]  # (N, C, H_l, W_l)


# The reference. Bilinear interpolation is separable, and so is an average over a grid of samples: the result for a RoI
# is Y @ F @ X.T for every channel F (H, W), where row i of Y (ph, H) says how much each feature row counts in the i-th
# row of bins, and X (pw, W) the same for columns. The gradient follows from the product: Y.T @ G @ X.


@compiled("roi.align", REAL)
def _roi_align(
    maps: np.ndarray,
    rois: np.ndarray,
    images: np.ndarray,
    size: tuple[int, int],
    scale: float,
    sampling_ratio: int,
    aligned: bool,
) -> np.ndarray:
    """Return the features (N, H, W, C) averaged in the bins of each RoI, (R, ph, pw, C)."""
    out = np.zeros((len(rois), *size, maps.shape[3]), maps.dtype)
    averages = _averages(rois, size, maps.shape[1:3], scale, sampling_ratio, aligned)
    for r, (rows, columns, y, x) in enumerate(averages):
        region = maps[images[r], rows[:, None], columns]  # (h, w, C)
        out[r] = x @ np.tensordot(y, region, axes=(1, 0))  # (ph, pw, C)
    return out


@compiled("roi.align_backward", REAL)
def _roi_align_backward(
    grad: np.ndarray,
    rois: np.ndarray,
    images: np.ndarray,
    shape: tuple[int, ...],
    scale: float,
    sampling_ratio: int,
    aligned: bool,
) -> np.ndarray:
    """Return the gradient for the features, of their `shape` (N, H, W, C)."""
    out = np.zeros(shape, grad.dtype)
    averages = _averages(rois, grad.shape[1:3], shape[1:3], scale, sampling_ratio, aligned)
    for r, (rows, columns, y, x) in enumerate(averages):
        bands = x.T @ grad[r]  # (ph, w, C)
        out[images[r], rows[:, None], columns] += np.tensordot(y, bands, axes=(0, 0))  # (h, w, C)
    return out


@compiled("roi.multiscale_align", REAL, uses=("roi_align",))
def _multiscale_roi_align(
    maps: Sequence[np.ndarray],
    rois: np.ndarray,
    images: np.ndarray,
    levels: np.ndarray,
    size: tuple[int, int],
    scales: Sequence[float],
    sampling_ratio: int,
    aligned: bool,
) -> np.ndarray:
    """Return each RoI pooled from its own level, (R, ph, pw, C), level by level."""
    out = np.zeros((len(rois), *size, maps[0].shape[3]), maps[0].dtype)
    for level, (features, scale) in enumerate(zip(maps, scales, strict=True)):
        members = np.flatnonzero(levels == level)  # (M,)
        if len(members):
            channels_first = features.transpose(0, 3, 1, 2)  # (N, C, H, W)
            pooled = roi_align(channels_first, rois[members], images[members], size, scale, sampling_ratio, aligned)
            out[members] = pooled.transpose(0, 2, 3, 1)  # (M, ph, pw, C)
    return out


@compiled("roi.multiscale_align_backward", REAL, uses=("roi_align_backward",))
def _multiscale_roi_align_backward(
    grad: np.ndarray,
    rois: np.ndarray,
    images: np.ndarray,
    levels: np.ndarray,
    shapes: Sequence[tuple[int, ...]],
    scales: Sequence[float],
    sampling_ratio: int,
    aligned: bool,
) -> list[np.ndarray | None]:
    """Return the gradient for the features of each level, (N, H_l, W_l, C), or None for a level without RoIs."""
    gradients: list[np.ndarray | None] = []
    for level, ((n, height, width, channels), scale) in enumerate(zip(shapes, scales, strict=True)):
        members = np.flatnonzero(levels == level)  # (M,)
        if not len(members):
            gradients.append(None)
            continue
        upstream, shape = grad[members].transpose(0, 3, 1, 2), (n, channels, height, width)  # (M, C, ph, pw)
        of_level = roi_align_backward(upstream, rois[members], images[members], shape, scale, sampling_ratio, aligned)
        gradients.append(of_level.transpose(0, 2, 3, 1))  # (N, H_l, W_l, C)
    return gradients


def _averages(
    rois: np.ndarray,
    output_size: tuple[int, ...],
    feature_size: tuple[int, ...],
    scale: float,
    sampling_ratio: int,
    aligned: bool,
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Yield for each RoI the feature rows (h,) and columns (w,) that it reads, the matrices Y (ph, h), X (pw, w)."""
    (ph, pw), (height, width) = output_size, feature_size
    for x1, y1, x2, y2 in rois:
        rows, y = _average(y1, y2, ph, height, scale, sampling_ratio, aligned)
        columns, x = _average(x1, x2, pw, width, scale, sampling_ratio, aligned)
        yield rows, columns, y, x


def _average(
    low: np.floating,
    high: np.floating,
    bins: int,
    pixels: int,
    scale: float,
    sampling_ratio: int,
    aligned: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Return which of `pixels` along an axis the interval low .. high reads, (k,), and their weights, (bins, k).

    All arithmetic is in the dtype of `low` and `high`: the answer to be matched was computed in float32.
    """
    real = type(low)
    shift = real(0.5 if aligned else 0)
    start, stop = low * real(scale) - shift, high * real(scale) - shift
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


# ---------------------------------------------------------------- RoIPool


@replaceable(_pooled_shape)
def roi_pool(
    features: ArrayLike,
    rois: ArrayLike,
    roi_images: ArrayLike,
    output_size: tuple[int, int],
    spatial_scale: float = 1.0,
) -> np.ndarray:
    """Return the largest value of each bin of each RoI, (R, C, ph, pw) with (ph, pw) = `output_size`.

    A RoI's corners round to whole feature pixels, halves away from zero, and both corner pixels belong to it. A bin
    without pixels has 0.

    Raises as `roi_align`.
    """
    maps = _channels_last(features, "features")  # (N, H, W, C)
    boxes, images = _check_rois(rois, roi_images, maps.shape, maps.dtype, spatial_scale)
    bounds = _pool_bounds(boxes, check_pair(output_size, "output_size"), maps.shape[1:3], spatial_scale)
    out, _ = _roi_pool(maps, images, bounds)  # (R, ph, pw, C)
    return out.transpose(0, 3, 1, 2)  # (R, C, ph, pw)


def roi_pool_backward(
    grad: ArrayLike,
    features: ArrayLike,
    rois: ArrayLike,
    roi_images: ArrayLike,
    spatial_scale: float = 1.0,
) -> np.ndarray:
    """Return the gradient of `roi_pool` with respect to its features, (N, C, H, W).

    `grad` (R, C, ph, pw) is the gradient with respect to the result of `roi_pool` for the same `features`, `rois` and
    scale; it goes to the pixel that was the maximum, to the first of several. The bits do not depend on the number of
    threads.
    """
    maps = _channels_last(features, "features")  # (N, H, W, C)
    upstream = _channels_last(grad, "grad").astype(maps.dtype, copy=False)  # (R, ph, pw, C)
    boxes, images = _check_rois(rois, roi_images, maps.shape, maps.dtype, spatial_scale)
    _check_grad(upstream, len(boxes), maps.shape)
    bounds = _pool_bounds(boxes, upstream.shape[1:3], maps.shape[1:3], spatial_scale)
    _, winners = _roi_pool(maps, images, bounds)  # (R, ph, pw, C)
    return _roi_pool_backward(upstream, images, winners, maps.shape).transpose(0, 3, 1, 2)  # (N, C, H, W)


def _pool_bounds(
    rois: np.ndarray, output_size: tuple[int, ...], feature_size: tuple[int, ...], spatial_scale: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the pixels of each bin: rows top .. bottom (R, ph), columns left .. right (R, pw); the ends are exclusive.

    Neighbouring bins may share a pixel, and a bin outside the features is empty.
    """
    corners = _round_away(rois * rois.dtype.type(spatial_scale))  # (R, 4)
    top, bottom = _bin_bounds(corners[:, 1], corners[:, 3], output_size[0], feature_size[0])
    left, right = _bin_bounds(corners[:, 0], corners[:, 2], output_size[1], feature_size[1])
    return top, bottom, left, right


def _bin_bounds(first: np.ndarray, last: np.ndarray, bins: int, pixels: int) -> tuple[np.ndarray, np.ndarray]:
    """Return where the bins of pixels first .. last (R,), both included, begin and end along an axis, (R, bins)."""
    step = (np.maximum(last - first + 1, 1) / first.dtype.type(bins))[:, None]  # (R, 1)
    index = np.arange(bins).astype(first.dtype)  # (bins,)
    start = np.clip(np.floor(index * step) + first[:, None], 0, pixels)  # (R, bins)
    stop = np.clip(np.ceil((index + 1) * step) + first[:, None], 0, pixels)  # (R, bins)
    return start.astype(np.int64), stop.astype(np.int64)


def _round_away(values: np.ndarray) -> np.ndarray:
    """Round to the nearest whole number, halves away from zero as C's round(); NumPy's own goes to even."""
    whole = np.trunc(values)
    return whole + np.where(np.abs(values - whole) >= 0.5, np.sign(values), 0).astype(values.dtype)


Bounds = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@compiled("roi.pool", REAL)
def _roi_pool(maps: np.ndarray, images: np.ndarray, bounds: Bounds) -> tuple[np.ndarray, np.ndarray]:
    """Return the maxima (R, ph, pw, C) and their pixels: row * W + column, -1 for a bin without pixels."""
    top, bottom, left, right = bounds
    width = maps.shape[2]
    shape = (*top.shape, left.shape[1], maps.shape[3])  # (R, ph, pw, C)
    out, winners = np.zeros(shape, maps.dtype), np.full(shape, -1, np.int32)
    for r, i, j in np.ndindex(shape[:3]):
        region = maps[images[r], top[r, i] : bottom[r, i], left[r, j] : right[r, j]]  # (h, w, C)
        if region.size:
            pixels = region.reshape(-1, maps.shape[3])  # (h * w, C)
            row, column = np.divmod(pixels.argmax(axis=0), region.shape[1])  # (C,), (C,)
            out[r, i, j] = pixels.max(axis=0)
            winners[r, i, j] = (top[r, i] + row) * width + left[r, j] + column
    return out, winners


@compiled("roi.pool_backward", REAL)
def _roi_pool_backward(grad: np.ndarray, images: np.ndarray, winners: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return the gradient for the features, of their `shape` (N, H, W, C)."""
    out = np.zeros(shape, grad.dtype)
    r, _, _, channel = np.nonzero(winners >= 0)
    chosen = winners[winners >= 0]
    flat = out.reshape(len(out), -1, out.shape[3])  # (N, H * W, C), a view
    np.add.at(flat, (images[r], chosen, channel), grad[winners >= 0])
    return out


# ---------------------------------------------------------------- which level


def level_scales(feature_heights: Sequence[int], padded_height: int) -> list[float]:
    """Return for each level the factor that turns a coordinate of the batch into one of the level.

    It is the power of two nearest to feature height / padded height where that explains the height to within a row,
    else the ratio itself.
    """
    scales = []
    for height in feature_heights:
        ratio = height / padded_height
        power = 2.0 ** round(math.log2(ratio))
        scales.append(power if abs(power * padded_height - height) <= 1 else ratio)
    return scales


def roi_levels(
    rois: ArrayLike, spatial_scales: Sequence[float], *, canonical_size: float = 224, canonical_level: int = 4
) -> np.ndarray:
    """Return the index in `spatial_scales` of the level that each RoI (R, 4) is pooled from, (R,) int64.

    Large RoIs belong to coarse levels; see `assign_levels`.
    """
    finest, coarsest = (round(-math.log2(scale)) for scale in (spatial_scales[0], spatial_scales[-1]))
    levels = assign_levels(rois, finest, coarsest, canonical_size, canonical_level)
    return np.minimum(levels - finest, len(spatial_scales) - 1)


def assign_levels(
    rois: ArrayLike, min_level: int, max_level: int, canonical_size: float = 224, canonical_level: int = 4
) -> np.ndarray:
    """Return the pyramid level that each RoI (R, 4) is pooled from, (R,) int64 in `min_level` .. `max_level`.

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


# ---------------------------------------------------------------- validation


def _channels_last(values: ArrayLike, name: str) -> np.ndarray:
    """Return (N, C, H, W) values as a C-contiguous (N, H, W, C) array, uncopied where they lie so already."""
    array = values if isinstance(values, np.ndarray) else np.asarray(values)
    if array.ndim != 4:
        raise ValueError(f"{name} must have four dimensions, got shape {array.shape}")
    return as_float_array(array.transpose(0, 2, 3, 1), name)


def _check_rois(
    rois: ArrayLike, roi_images: ArrayLike, shape: tuple[int, ...], dtype: np.dtype, spatial_scale: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return RoIs (R, 4) in `dtype` and their images (R,), checked against features of `shape` (N, H, W, C)."""
    boxes = check_boxes(rois, "rois").astype(dtype, copy=False)
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
    absent = (images < 0) | (images >= shape[0])  # (R,)
    if absent.any():
        row = int(np.argmax(absent))
        raise ValueError(f"roi_images[{row}] is {images[row]}, but there are {shape[0]} images (0 .. {shape[0] - 1})")
    if len(boxes) and 0 in shape[1:3]:
        raise ValueError(f"features must have at least one pixel, got {shape[1]} x {shape[2]}")
    return boxes, images


def _check_sampling(sampling_ratio: int) -> None:
    if not isinstance(sampling_ratio, (int, np.integer)) or sampling_ratio < 0:
        raise ValueError(f"sampling_ratio must be 0 (adaptive) or a positive integer, got {sampling_ratio!r}")


def _check_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape (N, C, H, W) of features as (N, H, W, C)."""
    if len(shape) != 4:
        raise ValueError(f"features_shape must be (N, C, H, W), got {tuple(shape)}")
    images, channels, height, width = shape
    return images, height, width, channels


def _check_grad(grad: np.ndarray, count: int, shape: tuple[int, ...]) -> None:
    """Raise ValueError unless `grad` (R, ph, pw, C) has a row per RoI and the channels of features of this `shape`."""
    if len(grad) != count or grad.shape[3] != shape[3]:
        raise ValueError(
            f"grad must have shape ({count}, {shape[3]}, height, width), a row for each RoI, "
            f"got {grad.transpose(0, 3, 1, 2).shape}"
        )


def _check_alike(maps: Sequence[np.ndarray]) -> None:
    """Raise ValueError unless there is a level, and all have as many images and channels and one dtype."""
    if not maps:
        raise ValueError("features must be a sequence of at least one map (N, C, H, W)")
    for index, level in enumerate(maps):
        if (level.shape[0], level.shape[3], level.dtype) != (maps[0].shape[0], maps[0].shape[3], maps[0].dtype):
            raise ValueError(
                f"features[{index}] has {level.shape[0]} images and {level.shape[3]} channels of {level.dtype}, "
                f"features[0] has {maps[0].shape[0]} and {maps[0].shape[3]} of {maps[0].dtype}"
            )


def _check_multiscale(
    rois: ArrayLike,
    roi_images: ArrayLike,
    levels: ArrayLike,
    shapes: Sequence[tuple[int, ...]],
    scales: Sequence[float],
    dtype: np.dtype,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return RoIs (R, 4), their images (R,) and their levels (R,), checked for features of `shapes` (N, H, W, C)."""
    if not shapes or len(scales) != len(shapes):
        raise ValueError(f"spatial_scales must be {len(shapes)}, one for each level, got {len(scales)}")
    if len({shape[0] for shape in shapes}) > 1:
        raise ValueError(f"every level must have as many images, got {[shape[0] for shape in shapes]}")
    boxes, images = _check_rois(rois, roi_images, shapes[0], dtype, min(scales))
    owners = as_index_array(levels, "levels", len(boxes))
    absent = np.flatnonzero((owners < 0) | (owners >= len(shapes)))
    if len(absent):
        raise ValueError(
            f"levels[{absent[0]}] is {owners[absent[0]]}, but there are {len(shapes)} levels (0 .. {len(shapes) - 1})"
        )
    for level, (shape, scale) in enumerate(zip(shapes, scales, strict=True)):
        members = owners == level
        _check_rois(boxes[members], images[members], shape, dtype, scale)
    return boxes, images, owners

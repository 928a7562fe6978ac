"""RoIAlign and RoIPool, which turn regions of interest (RoIs) of any size into feature grids of a fixed size.

RoIAlign and RoIPool divide a RoI into a grid of *bins*, and compute one number per channel from each bin.

`features` are feature maps of N images with C channels, (N, C, H, W). The functions are fastest if the features have
the channels-last memory layout; any other layout is copied first. `rois` (R, 4) are R boxes in pixel coordinates of the
padded images. For each RoI, `roi_images` (R,) contains the index of its image. `spatial_scale` is the number of feature
pixels per image pixel. Results have the dtype of the features and the channels-last memory layout. The functions whose
names end in `_backward` return gradients.

RoIAlign is described in He et al., "Mask R-CNN", 2017, section 3. RoIPool is described in Girshick, "Fast R-CNN", 2015,
section 2.1. The choice of the pyramid level is described in Lin et al., "Feature Pyramid Networks for Object
Detection", 2017, section 4.2.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike

from rcnn._ext.dispatch import Result, compiled, floats, replaceable
from rcnn._validate import (
    FLAG,
    MOST_LEVELS,
    MOST_SIDE,
    as_array,
    as_dtype,
    as_float_array,
    as_index_array,
    check_boxes,
    check_finite,
    check_pair,
    check_sequence,
    check_size,
    integer,
    number,
    shown,
)

FARTHEST = 2**20  # in feature pixels; larger coordinates are mistakes, and adaptive sampling would take too long
MOST_BINS = 1024  # bins along an axis of a RoI
MOST_SAMPLES = 128  # samples per bin along an axis
SCALES = (1e-6, 1e6)  # the smallest and the largest spatial scale
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
    """Return the average of bilinearly interpolated samples in each bin of each RoI.

    A sample that lies more than one pixel outside the feature map has the value 0.

    Parameters
    ----------
    features : (N, C, H, W) array_like
        The feature maps of N images, with C channels.
    rois : (R, 4) array_like
        R boxes, in pixel coordinates of the padded images.
    roi_images : (R,) array_like of int
        For each RoI, the index of its image.
    output_size : (height, width)
        The number of bins along each axis, in 1 .. 1024.
    spatial_scale : float
        The number of feature pixels per image pixel, in [1e-6, 1e6].
    sampling_ratio : int
        The number of samples per bin along each axis, in 0 .. 128; 0 means about one sample per feature pixel.
    aligned : bool
        If True, coordinates are shifted by half a feature pixel, so that the value of a pixel is located at its centre.
        If False, coordinates are not shifted, but each side of a RoI is extended to at least one feature pixel.

    Returns
    -------
    (R, C, height, width) array
        The pooled features.

    Raises
    ------
    TypeError, ValueError
        If a coordinate of a RoI is not finite or exceeds 2^20 feature pixels, if an index in `roi_images` is out of
        range, if another argument is invalid, or if the result would have more than 2^30 elements.

    References
    ----------
    He et al., "Mask R-CNN", 2017, section 3.

    Examples
    --------
    >>> columns = np.arange(8.0) * np.ones((1, 1, 8, 1))  # each pixel contains its column
    >>> roi_align(columns, [[1, 1, 5, 5]], [0], output_size=(1, 2))
    array([[[[2., 4.]]]])
    """
    maps = _channels_last(features, "features")  # (N, H, W, C)
    boxes, images = _check_rois(rois, roi_images, len(maps), maps.dtype)
    spatial_scale = _check_level(boxes, maps.shape, spatial_scale)
    size = _check_bins(output_size, len(boxes), maps.shape[3])
    sampling_ratio, aligned = _check_sampling(sampling_ratio, aligned)
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
    """Return the gradient with respect to the features of `roi_align`.

    The result is bit-identical for any number of threads.

    Parameters
    ----------
    grad : (R, C, ph, pw) array_like
        The gradient with respect to the result of `roi_align`, which has ph x pw bins for each of R RoIs.
    rois : (R, 4) array_like
        R boxes, in pixel coordinates of the padded images.
    roi_images : (R,) array_like of int
        For each RoI, the index of its image.
    features_shape : (N, C, H, W)
        The shape of the features.
    spatial_scale : float
        The same value as for `roi_align`.
    sampling_ratio : int
        The same value as for `roi_align`.
    aligned : bool
        The same value as for `roi_align`.

    Returns
    -------
    (N, C, H, W) array
        The gradient.
    """
    upstream = _channels_last(grad, "grad")  # (R, ph, pw, C)
    shape = _check_shape(features_shape, "features_shape")  # (N, H, W, C)
    boxes, images = _check_rois(rois, roi_images, shape[0], upstream.dtype)
    spatial_scale = _check_level(boxes, shape, spatial_scale)
    _check_grad(upstream, len(boxes), shape)
    sampling_ratio, aligned = _check_sampling(sampling_ratio, aligned)
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
    """Apply `roi_align` to each RoI, on the pyramid level to which the RoI belongs.

    Parameters
    ----------
    features : sequence of (N, C, H_l, W_l) array_like
        The feature maps of N images, with C channels: one array per level l of the pyramid.
    rois : (R, 4) array_like
        R boxes, in pixel coordinates of the padded images.
    roi_images : (R,) array_like of int
        For each RoI, the index of its image.
    levels : (R,) array_like of int
        For each RoI, the index of its level in `features`, as returned by `roi_levels`.
    output_size : (height, width)
        The number of bins along each axis, in 1 .. 1024.
    spatial_scales : sequence of floats
        For each level, the number of feature pixels per image pixel, in [1e-6, 1e6], as returned by `level_scales`.
    sampling_ratio : int
        See `roi_align`.
    aligned : bool
        See `roi_align`.

    Returns
    -------
    (R, C, height, width) array
        The pooled features.

    Raises
    ------
    TypeError, ValueError
        For the same reasons as in `roi_align`, if an index in `levels` is out of range, or if the levels differ in
        dtype or in the number of channels.
    """
    check_sequence(features, "features")
    maps = [_channels_last(level, f"features[{index}]") for index, level in enumerate(features)]
    _check_alike(maps)
    boxes, images, level_index, scales = _check_multiscale(
        rois, roi_images, levels, [level.shape for level in maps], spatial_scales, maps[0].dtype
    )
    size = _check_bins(output_size, len(boxes), maps[0].shape[3])
    sampling_ratio, aligned = _check_sampling(sampling_ratio, aligned)
    out = _multiscale_roi_align(maps, boxes, images, level_index, size, scales, sampling_ratio, aligned)
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
    """Return the gradient of `multiscale_roi_align` with respect to each level.

    Parameters
    ----------
    grad : (R, C, ph, pw) array_like
        The gradient with respect to the result of `multiscale_roi_align`, which has ph x pw bins for each of R RoIs.
    rois : (R, 4) array_like
        R boxes, in pixel coordinates of the padded images.
    roi_images : (R,) array_like of int
        For each RoI, the index of its image.
    levels : (R,) array_like of int
        For each RoI, the index of its level.
    features_shapes : sequence of (N, C, H_l, W_l)
        The shape of each level l.
    spatial_scales : sequence of floats
        For each level, the number of feature pixels per image pixel, in [1e-6, 1e6].
    sampling_ratio : int
        The same value as for `multiscale_roi_align`.
    aligned : bool
        The same value as for `multiscale_roi_align`.

    Returns
    -------
    list of (N, C, H_l, W_l) arrays or None
        The gradient of each level, or None if a level has no RoIs.
    """
    upstream = _channels_last(grad, "grad")  # (R, ph, pw, C)
    check_sequence(features_shapes, "features_shapes")
    shapes = [_check_shape(shape, f"features_shapes[{level}]") for level, shape in enumerate(features_shapes)]
    boxes, images, level_index, scales = _check_multiscale(
        rois, roi_images, levels, shapes, spatial_scales, upstream.dtype
    )
    for shape in shapes:  # (N, H_l, W_l, C)
        _check_grad(upstream, len(boxes), shape)
    sampling_ratio, aligned = _check_sampling(sampling_ratio, aligned)
    gradients = _multiscale_roi_align_backward(
        upstream, boxes, images, level_index, shapes, scales, sampling_ratio, aligned
    )
    return [None if level is None else level.transpose(0, 3, 1, 2) for level in gradients]  # (N, C, H_l, W_l)


# The reference implementation. Bilinear interpolation is separable, and so is the average over a grid of samples. For
# each RoI and each channel F (H, W), the result is therefore the matrix product Y @ F @ X.T. Row i of Y (ph, H)
# contains the weights of the feature rows in the i-th row of bins. Row j of X (pw, W) contains the weights of the
# feature columns in the j-th column of bins. If G (ph, pw) is the gradient with respect to the result, the gradient
# with respect to F is Y.T @ G @ X.


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
    """Return the averages (R, ph, pw, C) of the features (N, H, W, C) in the bins of each RoI."""
    out = np.zeros((len(rois), *size, maps.shape[3]), maps.dtype)
    averages = _averages(rois, size, maps.shape[1:3], scale, sampling_ratio, aligned)
    for r, (rows, columns, y, x) in enumerate(averages):
        region = maps[images[r], rows[:, None], columns]  # (h, w, C)
        if np.isfinite(region).all():
            out[r] = x @ np.tensordot(y, region, axes=(1, 0))  # (ph, pw, C)
            continue
        for i, j in np.ndindex(*size):  # bin by bin, without pixels of weight 0, because 0 * inf is NaN
            h, w = np.flatnonzero(y[i]), np.flatnonzero(x[j])
            out[r, i, j] = x[j, w] @ np.tensordot(y[i, h], region[h][:, w], axes=(0, 0))  # (C,)
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
    """Return the gradient with respect to the features, whose shape is `shape` (N, H, W, C)."""
    out = np.zeros(shape, grad.dtype)
    averages = _averages(rois, grad.shape[1:3], shape[1:3], scale, sampling_ratio, aligned)
    for r, (rows, columns, y, x) in enumerate(averages):
        if np.isfinite(grad[r]).all():
            bands = x.T @ grad[r]  # (ph, w, C)
            out[images[r], rows[:, None], columns] += np.tensordot(y, bands, axes=(0, 0))  # (h, w, C)
            continue
        for i, j in np.ndindex(*grad.shape[1:3]):  # bin by bin, because 0 * inf is NaN
            h, w = np.flatnonzero(y[i]), np.flatnonzero(x[j])
            weights = y[i, h][:, None, None] * x[j, w][:, None]  # (h, w, 1)
            out[images[r], rows[h][:, None], columns[w]] += weights * grad[r, i, j]
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
    """Return the features (R, ph, pw, C) of the RoIs, each pooled from the level to which the RoI belongs."""
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
    """Return the gradient (N, H_l, W_l, C) of each level, or None for a level without RoIs."""
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
    """For each RoI, yield its rows (h,) and columns (w,) of the feature map, and their weights (ph, h) and (pw, w)."""
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
    """Return the indices (k,) of the feature pixels that a RoI uses along one axis, and their weights (bins, k).

    Along this axis, the RoI extends from `low` to `high`, and the feature map has `pixels` pixels.
    All arithmetic uses the dtype of `low` and `high`, because torchvision computes in float32.
    """
    real = type(low)
    shift = real(0.5 if aligned else 0)
    start, stop = low * real(scale) - shift, high * real(scale) - shift
    side = stop - start if aligned else max(stop - start, real(1))
    step = side / real(bins)  # the side of a bin
    samples = sampling_ratio or max(math.ceil(step), 0)  # per bin; 0 if high < low
    weights = np.zeros((bins, pixels), real)
    if samples:
        bin_start = start + np.arange(bins, dtype=real)[:, None] * step  # (bins, 1)
        position = bin_start + (np.arange(samples, dtype=real) + real(0.5)) * step / real(samples)  # (bins, s)
        share = ((position >= -1) & (position <= pixels)) / real(samples)  # (bins, samples); 0 if too far outside
        position = np.clip(position, 0, pixels - 1)  # up to one pixel outside, use the value at the border
        before = np.floor(position).astype(np.int64)  # (bins, samples)
        after = np.minimum(before + 1, pixels - 1)
        bin_index = np.arange(bins)[:, None]  # (bins, 1)
        np.add.at(weights, (bin_index, before), share * (1 - (position - before.astype(real))))
        np.add.at(weights, (bin_index, after), share * (position - before.astype(real)))
    used = np.flatnonzero(weights.any(axis=0))  # (k,)
    return used, weights[:, used]


# ---------------------------------------------------------------- RoIPool


@replaceable(_pooled_shape)
def roi_pool(
    features: ArrayLike,
    rois: ArrayLike,
    roi_images: ArrayLike,
    output_size: tuple[int, int],
    spatial_scale: float = 1.0,
) -> np.ndarray:
    """Return the maximum of each bin of each RoI. The maximum of a bin without pixels is 0.

    The corners of a RoI are rounded to whole feature pixels, with halves rounded away from zero. Both corner pixels
    belong to the RoI.

    Parameters
    ----------
    features : (N, C, H, W) array_like
        The feature maps of N images, with C channels.
    rois : (R, 4) array_like
        R boxes, in pixel coordinates of the padded images.
    roi_images : (R,) array_like of int
        For each RoI, the index of its image.
    output_size : (height, width)
        The number of bins along each axis, in 1 .. 1024.
    spatial_scale : float
        The number of feature pixels per image pixel, in [1e-6, 1e6].

    Returns
    -------
    (R, C, height, width) array
        The pooled features.

    Raises
    ------
    TypeError, ValueError
        For the same reasons as in `roi_align`.

    References
    ----------
    Girshick, "Fast R-CNN", 2015, section 2.1.

    Examples
    --------
    >>> columns = np.arange(8.0) * np.ones((1, 1, 8, 1))  # each pixel contains its column
    >>> roi_pool(columns, [[1, 1, 4, 4]], [0], output_size=(1, 2))
    array([[[[2., 4.]]]])
    """
    maps = _channels_last(features, "features")  # (N, H, W, C)
    boxes, images = _check_rois(rois, roi_images, len(maps), maps.dtype)
    spatial_scale = _check_level(boxes, maps.shape, spatial_scale)
    size = _check_bins(output_size, len(boxes), maps.shape[3])
    bounds = _pool_bounds(boxes, size, maps.shape[1:3], spatial_scale)
    out, _ = _roi_pool(maps, images, bounds)  # (R, ph, pw, C)
    return out.transpose(0, 3, 1, 2)  # (R, C, ph, pw)


def roi_pool_backward(
    grad: ArrayLike,
    features: ArrayLike,
    rois: ArrayLike,
    roi_images: ArrayLike,
    spatial_scale: float = 1.0,
) -> np.ndarray:
    """Return the gradient with respect to the features of `roi_pool`.

    The gradient of a bin goes to the pixel with the maximum. If there are several such pixels, it goes to the first
    one. The result is bit-identical for any number of threads.

    Parameters
    ----------
    grad : (R, C, ph, pw) array_like
        The gradient with respect to the result of `roi_pool`, which has ph x pw bins for each of R RoIs.
    features : (N, C, H, W) array_like
        The feature maps of N images, with C channels.
    rois : (R, 4) array_like
        R boxes, in pixel coordinates of the padded images.
    roi_images : (R,) array_like of int
        For each RoI, the index of its image.
    spatial_scale : float
        The number of feature pixels per image pixel, in [1e-6, 1e6].

    Returns
    -------
    (N, C, H, W) array
        The gradient.
    """
    maps = _channels_last(features, "features")  # (N, H, W, C)
    upstream = as_dtype(_channels_last(grad, "grad"), maps.dtype, "grad")  # (R, ph, pw, C)
    boxes, images = _check_rois(rois, roi_images, len(maps), maps.dtype)
    spatial_scale = _check_level(boxes, maps.shape, spatial_scale)
    _check_grad(upstream, len(boxes), maps.shape)
    bounds = _pool_bounds(boxes, upstream.shape[1:3], maps.shape[1:3], spatial_scale)
    _, winners = _roi_pool(maps, images, bounds)  # (R, ph, pw, C)
    return _roi_pool_backward(upstream, images, winners, maps.shape).transpose(0, 3, 1, 2)  # (N, C, H, W)


def _pool_bounds(
    rois: np.ndarray, output_size: tuple[int, ...], feature_size: tuple[int, ...], spatial_scale: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the bounds of the bins: top and bottom of shape (R, ph), and left and right of shape (R, pw).

    A bin contains the rows from top to bottom - 1 and the columns from left to right - 1. Neighbouring bins can share a
    pixel. A bin outside the feature map is empty.
    """
    corners = _round_away(rois * rois.dtype.type(spatial_scale))  # (R, 4)
    top, bottom = _bin_bounds(corners[:, 1], corners[:, 3], output_size[0], feature_size[0])
    left, right = _bin_bounds(corners[:, 0], corners[:, 2], output_size[1], feature_size[1])
    return top, bottom, left, right


def _bin_bounds(first: np.ndarray, last: np.ndarray, bins: int, pixels: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the start and the stop (R, bins) of each bin along an axis. RoIs include the pixels `first` and `last`."""
    step = (np.maximum(last - first + 1, 1) / first.dtype.type(bins))[:, None]  # (R, 1)
    index = np.arange(bins).astype(first.dtype)  # (bins,)
    start = np.clip(np.floor(index * step) + first[:, None], 0, pixels)  # (R, bins)
    stop = np.clip(np.ceil((index + 1) * step) + first[:, None], 0, pixels)  # (R, bins)
    return start.astype(np.int64), stop.astype(np.int64)


def _round_away(values: np.ndarray) -> np.ndarray:
    """Return the nearest integers. Halves are rounded away from zero, as in C; NumPy rounds them to even integers."""
    whole = np.trunc(values)
    return whole + np.where(np.abs(values - whole) >= 0.5, np.sign(values), 0).astype(values.dtype)


Bounds = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@compiled("roi.pool", REAL)
def _roi_pool(maps: np.ndarray, images: np.ndarray, bounds: Bounds) -> tuple[np.ndarray, np.ndarray]:
    """Return the maximum of each bin (R, ph, pw, C) and its position row * W + column, which is -1 for an empty bin."""
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
    """Return the gradient with respect to the features, whose shape is `shape` (N, H, W, C)."""
    out = np.zeros(shape, grad.dtype)
    r, _, _, channel = np.nonzero(winners >= 0)
    chosen = winners[winners >= 0]
    n, height, width, channels = shape
    flat = out.reshape(n, height * width, channels)  # (N, H * W, C), a view
    np.add.at(flat, (images[r], chosen, channel), grad[winners >= 0])
    return out


# ---------------------------------------------------------------- choice of the level


def level_scales(feature_heights: Sequence[int], padded_height: int) -> list[float]:
    """Return, for each level, the factor that converts image coordinates to feature-map coordinates.

    Let r be the ratio feature height / padded height. The factor is the power of two nearest to r, if the padded height
    times this power differs from the feature height by at most one row. Otherwise, the factor is r. As in torchvision,
    the factor is computed from the heights alone and is used for both axes.

    Parameters
    ----------
    feature_heights : sequence of int
        The height of the feature map of each level, in 1 .. 2^20. There are 1 to 64 levels.
    padded_height : int
        The height of the padded images, in pixels, in 1 .. 2^20.

    Returns
    -------
    list of float
        For each level, the number of feature pixels per image pixel.

    Examples
    --------
    >>> level_scales([200, 100, 13], 800)
    [0.25, 0.125, 0.015625]
    """
    check_sequence(feature_heights, "feature_heights")
    integer(1, MOST_LEVELS).check("the number of feature_heights", len(feature_heights))
    integer(1, MOST_SIDE).check("padded_height", padded_height)
    scales = []
    for level, height in enumerate(feature_heights):
        ratio = integer(1, MOST_SIDE).check(f"feature_heights[{level}]", height) / padded_height
        power = 2.0 ** round(math.log2(ratio))
        scales.append(power if abs(power * padded_height - height) <= 1 else ratio)
    return scales


def roi_levels(
    rois: ArrayLike, spatial_scales: Sequence[float], *, canonical_size: float = 224, canonical_level: int = 4
) -> np.ndarray:
    """Return the index of the level from which each RoI is pooled; large RoIs belong to coarse levels.

    Parameters
    ----------
    rois : (R, 4) array_like
        R boxes, in pixel coordinates of the padded images.
    spatial_scales : sequence of floats
        For each level, finest first, the number of feature pixels per image pixel, in [1e-6, 1e6].
    canonical_size : float
        See `assign_levels`.
    canonical_level : int
        See `assign_levels`.

    Returns
    -------
    (R,) int64 array
        One index into `spatial_scales` per RoI.
    """
    check_sequence(spatial_scales, "spatial_scales")
    integer(1, MOST_LEVELS).check("the number of spatial_scales", len(spatial_scales))
    scales = [number(*SCALES).check("spatial_scales", spatial_scales[index]) for index in (0, -1)]
    if scales[0] < scales[-1]:
        raise ValueError(
            f"spatial_scales must be in descending order, with the finest level first, got {shown(spatial_scales)}"
        )
    finest, coarsest = (round(-math.log2(scale)) for scale in scales)
    levels = assign_levels(rois, finest, coarsest, canonical_size, canonical_level)
    return np.minimum(levels - finest, len(spatial_scales) - 1)


def assign_levels(
    rois: ArrayLike, min_level: int, max_level: int, canonical_size: float = 224, canonical_level: int = 4
) -> np.ndarray:
    """Return the pyramid level k from which each RoI is pooled; level k has stride 2^k.

    The level is `floor(canonical_level + log2(sqrt(area) / canonical_size) + 1e-6)`, clipped to `min_level` ..
    `max_level`. A square RoI with a side of `canonical_size` pixels belongs to `canonical_level`. If its side is
    halved, it belongs to the next finer level.

    Parameters
    ----------
    rois : (R, 4) array_like
        R boxes, in pixel coordinates of the padded images.
    min_level, max_level : int
        The finest and the coarsest level, in -64 .. 64.
    canonical_size : float
        The side of a square RoI that belongs to `canonical_level`, in pixels, in [1e-6, 1e6].
    canonical_level : int
        The level of a square RoI with this side, in -64 .. 64.

    Returns
    -------
    (R,) int64 array
        One level per RoI, in `min_level` .. `max_level`.

    References
    ----------
    Lin et al., "Feature Pyramid Networks for Object Detection", 2017, equation 1.

    Examples
    --------
    >>> assign_levels([[0, 0, 224, 224], [0, 0, 112, 112]], min_level=2, max_level=5)
    array([4, 3])
    """
    boxes = check_boxes(rois, "rois")
    levels = {"min_level": min_level, "max_level": max_level, "canonical_level": canonical_level}
    for name, level in levels.items():
        integer(-MOST_LEVELS, MOST_LEVELS).check(name, level)
    if min_level > max_level:
        raise ValueError(f"min_level must be at most max_level, got {min_level} and {max_level}")
    canonical_size = number(*SCALES).check("canonical_size", canonical_size)
    check_finite(boxes, "rois")
    farthest = FARTHEST / SCALES[0]
    if (np.abs(boxes) > farthest).any():
        raise ValueError(f"rois must have coordinates of at most {farthest:g} pixels, got {np.abs(boxes).max():g}")
    with np.errstate(divide="ignore"):  # an empty RoI has level -inf, which is clipped to min_level
        areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])  # (R,)
        exact = canonical_level + np.log2(np.sqrt(np.maximum(areas, 0)) / boxes.dtype.type(canonical_size))
    return np.clip(np.floor(exact + boxes.dtype.type(1e-6)), min_level, max_level).astype(np.int64)


# ---------------------------------------------------------------- validation


def _channels_last(values: ArrayLike, name: str) -> np.ndarray:
    """Return values (N, C, H, W) as a C-contiguous array (N, H, W, C). A channels-last layout is not copied."""
    array = as_array(values, name)
    if array.ndim != 4:
        raise ValueError(f"{name} must have four axes, got shape {array.shape}")
    return as_float_array(array.transpose(0, 2, 3, 1), name)


def _check_rois(
    rois: ArrayLike, roi_images: ArrayLike, num_images: int, dtype: np.dtype
) -> tuple[np.ndarray, np.ndarray]:
    """Check and return the RoIs (R, 4), converted to `dtype`, and the indices of their images (R,)."""
    boxes = as_dtype(check_boxes(rois, "rois"), dtype, "rois")
    images = as_index_array(roi_images, "roi_images", len(boxes))
    check_finite(boxes, "rois")
    absent = (images < 0) | (images >= num_images)  # (R,)
    if absent.any():
        row = int(np.argmax(absent))
        if num_images == 0:
            raise ValueError(f"rois must be empty, because the features contain no image; got {len(boxes)} RoIs")
        raise ValueError(
            f"roi_images[{row}] must be in 0 .. {num_images - 1} (number of images: {num_images}), got {images[row]}"
        )
    return boxes, images


def _check_level(
    rois: np.ndarray,
    shape: tuple[int, ...],
    spatial_scale: float,
    members: np.ndarray | bool = True,
    name: str = "spatial_scale",
) -> float:
    """Return the checked scale. Raise ValueError if a RoI that the mask `members` (R,) selects cannot be pooled.

    `shape` is the shape of the features, (N, H, W, C).
    """
    scale: float = number(*SCALES).check(name, spatial_scale)
    far = (np.abs(rois) > FARTHEST / scale).any(axis=1) & members  # (R,)
    if far.any():
        row = int(np.argmax(far))
        raise ValueError(
            f"rois[{row}] must have coordinates of at most {FARTHEST / scale:g} pixels, because {name} is {scale:g}; "
            f"got {rois[row].tolist()}"
        )
    if 0 in shape[1:3] and len(rois) and np.any(members):
        raise ValueError(f"the features (features_shape) must have at least one pixel, got {shape[1]} x {shape[2]}")
    return scale


def _check_bins(output_size: tuple[int, int], num_rois: int, channels: int) -> tuple[int, int]:
    size = check_pair(output_size, "output_size", MOST_BINS)
    check_size((num_rois, channels, *size), "output_size and the number of rois")
    return size


def _check_sampling(sampling_ratio: int, aligned: bool) -> tuple[int, bool]:
    return integer(0, MOST_SAMPLES).check("sampling_ratio", sampling_ratio), FLAG.check("aligned", aligned)


def _check_shape(shape: tuple[int, ...], name: str) -> tuple[int, ...]:
    """Return the shape (N, C, H, W) of features as (N, H, W, C)."""
    check_sequence(shape, name)
    if len(shape) != 4:
        raise ValueError(f"{name} must have the four elements (N, C, H, W), got {shown(shape)}")
    images, channels, height, width = (integer(0, 2**30).check(name, side) for side in shape)
    check_size((images, channels, height, width), name)
    return images, height, width, channels


def _check_grad(grad: np.ndarray, count: int, shape: tuple[int, ...]) -> None:
    """Raise ValueError unless the shape of `grad` (R, ph, pw, C) fits `count` RoIs and features of `shape`."""
    if not (1 <= grad.shape[1] <= MOST_BINS and 1 <= grad.shape[2] <= MOST_BINS):
        raise ValueError(f"grad must have 1 to {MOST_BINS} bins along each axis, got {grad.shape[1:3]}")
    if len(grad) != count or grad.shape[3] != shape[3]:
        raise ValueError(
            f"grad must have shape ({count}, {shape[3]}, height, width), with one row per RoI, "
            f"got {grad.transpose(0, 3, 1, 2).shape}"
        )


def _check_alike(maps: Sequence[np.ndarray]) -> None:
    """Raise ValueError if there are no levels, or if they differ in dtype or in the number of images or channels."""
    if not 1 <= len(maps) <= MOST_LEVELS:
        raise ValueError(f"features must be a sequence of 1 to {MOST_LEVELS} maps (N, C, H, W), got {len(maps)}")
    for index, level in enumerate(maps):
        if (level.shape[0], level.shape[3], level.dtype) != (maps[0].shape[0], maps[0].shape[3], maps[0].dtype):
            raise ValueError(
                f"features[{index}] has {level.shape[0]} images and {level.shape[3]} channels of {level.dtype}, "
                f"but features[0] has {maps[0].shape[0]} images and {maps[0].shape[3]} channels of {maps[0].dtype}"
            )


def _check_multiscale(
    rois: ArrayLike,
    roi_images: ArrayLike,
    levels: ArrayLike,
    shapes: Sequence[tuple[int, ...]],
    scales: Sequence[float],
    dtype: np.dtype,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[float]]:
    """Check and return RoIs (R, 4), the indices of their images (R,) and of their levels (R,), and the scales.

    `shapes` contains the shape of the features of each level.
    """
    check_sequence(scales, "spatial_scales")
    if not shapes or len(scales) != len(shapes):
        raise ValueError(f"spatial_scales must have {len(shapes)} numbers, one per level, got {len(scales)}")
    if len({shape[0] for shape in shapes}) > 1:
        raise ValueError(f"every level must have the same number of images, got {[shape[0] for shape in shapes]}")
    boxes, images = _check_rois(rois, roi_images, shapes[0][0], dtype)
    level_index = as_index_array(levels, "levels", len(boxes))
    absent = np.flatnonzero((level_index < 0) | (level_index >= len(shapes)))
    if len(absent):
        raise ValueError(
            f"levels[{absent[0]}] must be in 0 .. {len(shapes) - 1} (number of levels: {len(shapes)}), "
            f"got {level_index[absent[0]]}"
        )
    checked = [
        _check_level(boxes, shape, scale, level_index == level, f"spatial_scales[{level}]")
        for level, (shape, scale) in enumerate(zip(shapes, scales, strict=True))
    ]
    return boxes, images, level_index, checked

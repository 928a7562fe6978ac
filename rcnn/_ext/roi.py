"""The drivers of the kernels of `rcnn.roi`.

The driver of RoIAlign computes which pixels each bin reads, and with which weights. The samples of a bin form a grid,
and bilinear interpolation is separable. Two short lists are therefore enough: the rows with a weight for each row, and
the columns with a weight for each column. The entries of these lists are called *taps*. The weight of a pixel is the
weight of its row times the weight of its column.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from rcnn._ext import backend, load
from rcnn._ext.memory import empty

if TYPE_CHECKING:
    from rcnn._ext import _passes as passes
    from rcnn._ext import _roi as kernels
else:
    kernels, passes = load("_roi"), load("_passes")

ORDER_ROWS = 32  # feature rows per band; RoIs are pooled band by band
BAND_BYTES = 2**20  # bytes of features; half of a usual second-level cache

Size = tuple[int, int]
Bounds = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


# ---------------------------------------------------------------- RoIAlign


def align(
    maps: np.ndarray,
    rois: np.ndarray,
    images: np.ndarray,
    size: Size,
    scale: float,
    sampling_ratio: int,
    aligned: bool,
) -> np.ndarray:
    """Return the mean (R, ph, pw, C) of maps (N, H, W, C) in each bin of each RoI."""
    levels = np.zeros(len(rois), np.int64)
    return multiscale_align([maps], rois, images, levels, size, [scale], sampling_ratio, aligned)


def align_backward(
    grad: np.ndarray,
    rois: np.ndarray,
    images: np.ndarray,
    shape: tuple[int, ...],
    scale: float,
    sampling_ratio: int,
    aligned: bool,
) -> np.ndarray:
    """Return the gradient with respect to the maps of `align`, whose shape is `shape` (N, H, W, C)."""
    out = empty(shape, grad.dtype)  # (N, H, W, C)
    threads = backend.threads_for(4 * max(sampling_ratio, 2) ** 2 * grad.size)
    rows, columns = _find_taps(rois, shape[1:3], grad.shape[1:3], scale, sampling_ratio, aligned)
    kernels.roi_align_backward(grad, images, *rows, *columns, _band_rows(out, threads), out, threads)
    return out


def multiscale_align(
    maps: Sequence[np.ndarray],
    rois: np.ndarray,
    images: np.ndarray,
    levels: np.ndarray,
    size: Size,
    scales: Sequence[float],
    sampling_ratio: int,
    aligned: bool,
) -> np.ndarray:
    """Return the pooled features (R, ph, pw, C) of all RoIs: `align`, applied to each RoI on its level."""
    out = empty((len(rois), *size, maps[0].shape[3]), maps[0].dtype)  # (R, ph, pw, C)
    for level, (features, scale) in enumerate(zip(maps, scales, strict=True)):
        members = np.flatnonzero(levels == level)  # (M,)
        if len(members):
            boxes = rois[members]  # (M, 4)
            threads = backend.threads_for(4 * max(sampling_ratio, 2) ** 2 * len(boxes) * out[0].size)
            rows, columns = _find_taps(boxes, features.shape[1:3], size, scale, sampling_ratio, aligned)
            order = _nearest_next(boxes, images[members], scale)
            zeros = np.zeros(out.shape[3], out.dtype)
            kernels.roi_align(features, images[members], order, *rows, *columns, members, zeros, out, threads)
    return out


def multiscale_align_backward(
    grad: np.ndarray,
    rois: np.ndarray,
    images: np.ndarray,
    levels: np.ndarray,
    shapes: Sequence[tuple[int, ...]],
    scales: Sequence[float],
    sampling_ratio: int,
    aligned: bool,
) -> list[np.ndarray | None]:
    """Return the gradient of `multiscale_align` for each level, or None for a level without RoIs."""
    gradients: list[np.ndarray | None] = []
    for level, (shape, scale) in enumerate(zip(shapes, scales, strict=True)):
        members = np.flatnonzero(levels == level)  # (M,)
        if not len(members):
            gradients.append(None)
            continue
        of_level = _take(grad, members)  # (M, ph, pw, C)
        gradients.append(
            align_backward(of_level, rois[members], images[members], shape, scale, sampling_ratio, aligned)
        )
    return gradients


def _find_taps(
    rois: np.ndarray,
    feature_size: tuple[int, ...],
    output_size: tuple[int, ...],
    scale: float,
    sampling_ratio: int,
    aligned: bool,
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield the taps along the rows of a feature map, then the taps along the columns.

    Three arrays describe the taps along an axis: where the taps of each bin start (R, bins + 1), the row or column of
    each tap (R, most), and the weight of each tap (R, most).
    """
    for axis in (1, 0):  # of a box: y, x
        bins, pixels = output_size[1 - axis], feature_size[1 - axis]
        # There are at most two taps per sample. Because taps on the same pixel are merged, there are also at most two
        # taps per pixel of a bin.
        most = min(2 * bins * (sampling_ratio or pixels), 2 * (pixels + 2 * bins))
        starts, indices = np.empty((len(rois), bins + 1), np.int32), np.empty((len(rois), most), np.int32)
        weights = np.empty((len(rois), most), rois.dtype)
        low, high = np.ascontiguousarray(rois[:, axis]), np.ascontiguousarray(rois[:, axis + 2])  # (R,), (R,)
        kernels.find_taps(low, high, pixels, scale, sampling_ratio, aligned, starts, indices, weights)
        yield starts, indices, weights


def _nearest_next(rois: np.ndarray, images: np.ndarray, scale: float) -> np.ndarray:
    """Sort R RoIs by image, then by horizontal band, then from left to right, and return their order (R,).

    In this order, successive RoIs are close to each other, so the features that they share are still in the cache.
    """
    middle = (rois[:, :2] + rois[:, 2:]) * (scale / 2)  # (R, 2) in feature pixels
    return np.lexsort((middle[:, 0], middle[:, 1] // ORDER_ROWS, images))


def _band_rows(maps: np.ndarray, threads: int) -> int:
    """Return how many rows of `maps` (N, H, W, C) to give to a task: few enough for the cache and for all threads."""
    images, height, width, channels = maps.shape
    fit = BAND_BYTES // max(width * channels * maps.itemsize, 1)
    return max(1, min(fit, images * height // (4 * threads)))


def _take(grad: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Return grad[members] of shape (M, ph, pw, C). If all elements are members, return `grad` itself, not a copy."""
    if len(members) == len(grad):
        return grad
    if grad.dtype != np.float32:
        return grad[members]
    out, size = empty((len(members), *grad.shape[1:])), grad[0].size
    passes.take_rows(grad.reshape(-1, size), members, out.reshape(-1, size), backend.threads_for(out.size))
    return out


# ---------------------------------------------------------------- RoIPool


def pool(maps: np.ndarray, images: np.ndarray, bounds: Bounds) -> tuple[np.ndarray, np.ndarray]:
    """Return the maximum (R, ph, pw, C) of each bin, and its position row * W + column (-1 if the bin is empty)."""
    top, _, left, _ = bounds
    shape = (*top.shape, left.shape[1], maps.shape[3])  # (R, ph, pw, C)
    out, winners = np.zeros(shape, maps.dtype), np.full(shape, -1, np.int32)
    kernels.roi_pool(maps, images, *bounds, out, winners, backend.threads_for(4 * out.size))
    return out, winners


def pool_backward(grad: np.ndarray, images: np.ndarray, winners: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return the gradient with respect to the maps of `pool`, whose shape is `shape` (N, H, W, C)."""
    out = np.zeros(shape, grad.dtype)
    kernels.roi_pool_backward(grad, images, winners, out, backend.threads_for(grad.size))
    return out

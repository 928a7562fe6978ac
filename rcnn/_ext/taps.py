"""What RoIAlign's kernel is given: which pixels each bin reads, and in which order RoIs and features are gone through.

The samples of a bin form a grid, and bilinear interpolation is separable. So what a bin reads is a product of two short
lists, of feature rows and of columns, each with weights: its taps. `rcnn.roi` says the same in two matrices.
"""

from collections.abc import Iterator

import numpy as np

from rcnn._ext import backend

ORDER_ROWS = 32  # of features; a band of the order in which RoIs are pooled
BAND_BYTES = 2**20  # of features; half of a usual second-level cache


def find(
    rois: np.ndarray, maps: np.ndarray, pooled: np.ndarray, spatial_scale: float, sampling_ratio: int, aligned: bool
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """The taps of the rows, then of the columns of `maps` (N, H, W, C) in bins of `pooled` (any, ph, pw, C).

    For each axis: where the taps of each bin start (R, bins + 1), which pixels they are and how much they count, both
    (R, most).
    """
    for axis in (1, 0):  # of a box: y, x
        bins, pixels = pooled.shape[2 - axis], maps.shape[2 - axis]
        # Two taps for each sample; or, those of a bin on one pixel being one, two for each pixel that a bin lies on.
        most = min(2 * bins * (sampling_ratio or pixels), 2 * (pixels + 2 * bins))
        starts, places = np.empty((len(rois), bins + 1), np.int32), np.empty((len(rois), most), np.int32)
        weights = np.empty((len(rois), most), rois.dtype)
        low, high = np.ascontiguousarray(rois[:, axis]), np.ascontiguousarray(rois[:, axis + 2])  # (R,), (R,)
        taps = starts, places, weights
        backend.roi_kernels.find_taps(low, high, pixels, spatial_scale, sampling_ratio, aligned, *taps)
        yield taps


def nearest_next(rois: np.ndarray, images: np.ndarray, spatial_scale: float) -> np.ndarray:
    """The RoIs in an order in which the next is near, (R,): from left to right in one band of an image, then the next.

    So a RoI finds in the cache what it shares with those before it.
    """
    middle = (rois[:, :2] + rois[:, 2:]) * (spatial_scale / 2)  # (R, 2) in feature pixels
    return np.lexsort((middle[:, 0], middle[:, 1] // ORDER_ROWS, images))


def band_rows(maps: np.ndarray, threads: int) -> int:
    """How many rows of `maps` (N, H, W, C) a thread should take at a time: what fits the cache, and a share for all."""
    images, height, width, channels = maps.shape
    fit = BAND_BYTES // max(width * channels * maps.itemsize, 1)
    return max(1, min(fit, images * height // (4 * threads)))

"""Feature maps of another size: by the nearest value, bilinearly, or by averages, with the gradients.

All three are separable: every column of a map is resampled, then every row. As matrices: rows @ F @ columns^T, where
row i of `rows` says how much of each source output i takes. The gradient is, as of every linear map, the transposed:
rows^T @ G @ columns. For the nearest value these matrices pick single sources, which the kernels copy instead.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rcnn._ext import backend
from rcnn._ext.layout import pixels
from rcnn._ext.memory import empty_maps
from rcnn.nn import elementwise
from rcnn.nn.tensor import Tensor, record
from rcnn.nn.windows import check_pixels, pair


def adaptive_avg_pool2d(x: Tensor, output_size: int | tuple[int, int]) -> Tensor:
    """The mean over the whole map for output_size 1; in general over a grid of that many rows and columns of cells.

    Cell i of k along a side n covers floor(i n / k) to ceil((i + 1) n / k), as in PyTorch.
    """
    check_pixels("adaptive_avg_pool2d", x)
    rows, columns = pair("output_size", output_size, 1)
    return _separable(x, _averaging(rows, x.shape[2]), _averaging(columns, x.shape[3]))


def interpolate(x: Tensor, size: tuple[int, int], mode: str = "nearest") -> Tensor:
    """The maps resampled to `size` (height, width), (N, C, *size). mode: "nearest" or "bilinear".

    Pixel centres lie at half positions (PyTorch's align_corners=False); there is no antialiasing. Raises TypeError for
    what is no tensor, ValueError for maps without pixels, another mode, or a size below 1.
    """
    if mode not in ("nearest", "bilinear"):
        raise ValueError(f"mode must be 'nearest' or 'bilinear', not {mode!r}")
    check_pixels("interpolate", x)
    height, width = pair("size", size, 1)
    if mode == "nearest":
        out, shape = _nearest(x.data, (height, width), None), x.shape
        return record(out, (x,), lambda g: (_nearest_gradient(g, shape),))
    return _separable(x, bilinear_matrix(height, x.shape[2]), bilinear_matrix(width, x.shape[3]))


def upsample_add(lateral: Tensor, top: Tensor) -> Tensor:
    """lateral + interpolate(top, lateral's size), (N, C, H, W), in one pass: a step down a feature pyramid.

    lateral: (N, C, H, W); top: (N, C, h, w). Raises TypeError for what is no tensor, ValueError for maps without pixels
    or of other numbers of images or channels.
    """
    check_pixels("upsample_add", lateral)
    check_pixels("upsample_add", top)
    if lateral.shape[:2] != top.shape[:2]:
        raise ValueError(f"upsample_add takes maps of as many images and channels, not {lateral.shape} and {top.shape}")
    shape = top.shape
    out = _nearest(top.data, (lateral.shape[2], lateral.shape[3]), lateral.data)
    wanted = top.requires_grad
    return record(out, (lateral, top), lambda g: (g, _nearest_gradient(g, shape) if wanted else None))


# ---------------------------------------------------------------------- the nearest value


def nearest_sources(out: int, size: int) -> np.ndarray:
    """For each of `out` places spread over `size` sources the one that it shows, floor(i * size / out), (out,)."""
    scale = np.float32(size) / np.float32(out)  # PyTorch's own arithmetic decides which one where it is close
    return np.minimum(np.floor(np.arange(out, dtype=np.float32) * scale).astype(np.intp), size - 1)


def _nearest(x: np.ndarray, size: tuple[int, int], lateral: np.ndarray | None) -> np.ndarray:
    """x (N, C, h, w) resampled to `size`, plus `lateral` (N, C, *size) if there is one."""
    rows, columns = nearest_sources(size[0], x.shape[2]), nearest_sources(size[1], x.shape[3])
    if not elementwise.is_fast(x, lateral):
        taken = pixels(x).take(rows, axis=1).take(columns, axis=2).transpose(0, 3, 1, 2)
        return taken if lateral is None else taken + lateral
    out = empty_maps((x.shape[0], x.shape[1], *size))
    rest = None if lateral is None else pixels(lateral)
    backend.resampling_kernels.enlarge(pixels(x), rows, columns, rest, pixels(out), backend.threads_for(out.size))
    return out


def _nearest_gradient(g: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The gradient of `_nearest` for its x, of this shape: the sum over the places that show a source.

    They are neighbours, for sources are shown in order.
    """
    rows, columns = nearest_sources(g.shape[2], shape[2]), nearest_sources(g.shape[3], shape[3])
    if not elementwise.is_fast(g):
        return _apply_separable(g, _picking(rows, shape[2], g.dtype).T, _picking(columns, shape[3], g.dtype).T)
    out = empty_maps(shape)
    row_starts, column_starts = (
        np.searchsorted(sources, np.arange(n + 1)) for sources, n in ((rows, shape[2]), (columns, shape[3]))
    )
    backend.resampling_kernels.gather(pixels(g), row_starts, column_starts, pixels(out), backend.threads_for(g.size))
    return out


# ---------------------------------------------------------------------- matrices


def _picking(sources: np.ndarray, size: int, dtype: Any) -> np.ndarray:
    """(out, size): row i picks source number sources[i]."""
    return np.eye(size, dtype=dtype)[sources]


def bilinear_matrix(out: int, size: int) -> np.ndarray:
    """(out, size): row i weighs the two sources on either side of output i's centre."""
    before, after, weight = bilinear_taps(out, size)
    matrix = np.zeros((out, size))
    matrix[np.arange(out), before] += 1 - weight
    matrix[np.arange(out), after] += weight
    return matrix


def bilinear_taps(out: int, size: int, dtype: Any = np.float64) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each of `out` places spread over `size` sources: the source before it, the one after it, and the latter's
    weight, each (out,). At the ends both are the outermost source.

    In float32 the step is rounded, and so is each place, once: places far along are off by some 1e-5 of a source, and
    PyTorch's, whose compiler fuses the multiplication and the subtraction, are off by the same.
    """
    step = float(np.asarray(size, dtype) / np.asarray(out, dtype))
    centre = np.maximum((np.arange(out) + 0.5) * step - 0.5, 0).astype(dtype)
    before = np.minimum(np.floor(centre).astype(np.int64), size - 1)
    after = np.minimum(before + 1, size - 1)
    return before, after, centre - before.astype(dtype)


def _averaging(out: int, size: int) -> np.ndarray:
    """(out, size): row i averages the sources of cell i."""
    matrix = np.zeros((out, size))
    for i in range(out):
        start, stop = i * size // out, -(-(i + 1) * size // out)
        matrix[i, start:stop] = 1 / (stop - start)
    return matrix


def _separable(x: Tensor, rows: np.ndarray, columns: np.ndarray) -> Tensor:
    """rows @ F @ columns^T for every map F, (N, C, H', W'), and its gradient rows^T @ G @ columns."""
    rows, columns = rows.astype(x.dtype), columns.astype(x.dtype)
    return record(_apply_separable(x.data, rows, columns), (x,), lambda g: (_apply_separable(g, rows.T, columns.T),))


def _apply_separable(features: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    n, channels, height, width = features.shape
    maps = pixels(features).reshape(n, height, width * channels)
    maps = rows @ maps  # (N, H', W * C)
    maps = columns @ maps.reshape(n * len(rows), width, channels)  # (N * H', W', C)
    return maps.reshape(n, len(rows), len(columns), channels).transpose(0, 3, 1, 2)

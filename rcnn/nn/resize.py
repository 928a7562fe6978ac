"""Feature maps resampled to another size: by the nearest value, bilinearly, or by averages, with the gradients.

All three are separable: every column of a map is resampled, then every row. As matrices: rows @ F @ columns^T, where
row i of `rows` holds the weight of each source in output i. The gradient is, as of every linear map, the transposed:
rows^T @ G @ columns. For the nearest value these matrices pick single sources, which can be copied instead.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rcnn._ext.dispatch import compiled
from rcnn._ext.layout import pixels
from rcnn.nn.tensor import Tensor, record
from rcnn.nn.windows import check_pixels, pair


def adaptive_avg_pool2d(x: Tensor, output_size: int | tuple[int, int]) -> Tensor:
    """Return the means over a grid of cells, (N, C, rows, columns): over the whole map for output_size 1.

    Cell i of k along a side n covers floor(i n / k) to ceil((i + 1) n / k), as in PyTorch.

    Parameters
    ----------
    x : Tensor, (N, C, H, W)
        The maps, of at least one pixel.
    output_size : int or (int, int)
        The rows and columns of the grid.

    Raises
    ------
    TypeError
        Where x is not a tensor.
    ValueError
        Where x has no pixels, or `output_size` is below 1.
    """
    check_pixels("adaptive_avg_pool2d", x)
    rows, columns = pair("output_size", output_size, 1)
    return _separable(x, _averaging(rows, x.shape[2]), _averaging(columns, x.shape[3]))


def interpolate(x: Tensor, size: tuple[int, int], mode: str = "nearest") -> Tensor:
    """Return the maps resampled to `size`, (N, C, *size).

    Pixel centres lie at half positions (PyTorch's align_corners=False); there is no antialiasing.

    Parameters
    ----------
    x : Tensor, (N, C, H, W)
        The maps, of at least one pixel.
    size : (int, int)
        The height and the width of the result.
    mode : str
        "nearest" or "bilinear".

    Raises
    ------
    TypeError
        Where x is not a tensor.
    ValueError
        Where x has no pixels, for another mode, or for a size below 1.
    """
    if mode not in ("nearest", "bilinear"):
        raise ValueError(f"mode must be 'nearest' or 'bilinear', not {mode!r}")
    check_pixels("interpolate", x)
    height, width = pair("size", size, 1)
    if mode == "bilinear":
        return _separable(x, bilinear_matrix(height, x.shape[2]), bilinear_matrix(width, x.shape[3]))
    rows, columns, shape = nearest_sources(height, x.shape[2]), nearest_sources(width, x.shape[3]), x.shape
    return record(_nearest(x.data, rows, columns, None), (x,), lambda g: (_nearest_gradient(g, rows, columns, shape),))


def upsample_add(lateral: Tensor, top: Tensor) -> Tensor:
    """Return lateral + interpolate(top, lateral's size), (N, C, H, W): one step down a feature pyramid.

    Parameters
    ----------
    lateral : Tensor, (N, C, H, W)
        The maps of the finer level, of at least one pixel.
    top : Tensor, (N, C, h, w)
        The maps of the coarser level.

    Raises
    ------
    TypeError
        Where one of them is not a tensor.
    ValueError
        Where maps have no pixels, or the numbers of images or channels differ.
    """
    check_pixels("upsample_add", lateral)
    check_pixels("upsample_add", top)
    if lateral.shape[:2] != top.shape[:2]:
        raise ValueError(f"upsample_add takes maps of as many images and channels, not {lateral.shape} and {top.shape}")
    rows, columns = (nearest_sources(lateral.shape[axis], top.shape[axis]) for axis in (2, 3))
    out, shape, top_is_required = _nearest(top.data, rows, columns, lateral.data), top.shape, top.requires_grad
    return record(
        out, (lateral, top), lambda g: (g, _nearest_gradient(g, rows, columns, shape) if top_is_required else None)
    )


# ---------------------------------------------------------------------- the nearest value


def nearest_sources(out: int, size: int) -> np.ndarray:
    """Return the source, of `size`, that each of `out` elements shows, floor(i * size / out), ascending, (out,)."""
    scale = np.float32(size) / np.float32(out)  # as PyTorch computes it, which decides close cases
    return np.minimum(np.floor(np.arange(out, dtype=np.float32) * scale).astype(np.intp), size - 1)


@compiled("resize.nearest")
def _nearest(x: np.ndarray, rows: np.ndarray, columns: np.ndarray, lateral: np.ndarray | None) -> np.ndarray:
    """Return the given rows and columns of maps x (N, C, h, w), plus `lateral` of the result's shape unless None.

    rows: (H,) indices of rows of x; columns: (W,). The result is (N, C, H, W).
    """
    taken = pixels(x).take(rows, axis=1).take(columns, axis=2).transpose(0, 3, 1, 2)  # (N, C, H, W)
    return taken if lateral is None else taken + lateral


@compiled("resize.nearest_gradient")
def _nearest_gradient(g: np.ndarray, rows: np.ndarray, columns: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return the gradient of `_nearest` with respect to x, of its `shape` (N, C, h, w).

    Each source collects the gradients g (N, C, H, W) of all elements that show it.
    """
    return _apply_separable(g, _picking(rows, shape[2], g.dtype).T, _picking(columns, shape[3], g.dtype).T)


# ---------------------------------------------------------------------- matrices


def _picking(sources: np.ndarray, size: int, dtype: Any) -> np.ndarray:
    """Return the matrix (out, size) whose row i picks sources[i]."""
    return np.eye(size, dtype=dtype)[sources]


def bilinear_matrix(out: int, size: int) -> np.ndarray:
    """Return the matrix (out, size) whose row i weighs the two sources on either side of output i's centre."""
    before, after, weight = bilinear_taps(out, size)
    matrix = np.zeros((out, size))
    matrix[np.arange(out), before] += 1 - weight
    matrix[np.arange(out), after] += weight
    return matrix


def bilinear_taps(out: int, size: int, dtype: Any = np.float64) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the sources before and after each of `out` elements, and the weight of the latter, each (out,).

    The elements are spread evenly over `size` sources; at the ends both sources are the outermost one. In float32 the
    step is rounded, and each centre once: at the far end a centre is off by some 1e-5 of a source, as PyTorch's is,
    whose compiler fuses the multiplication and the subtraction.
    """
    step = float(np.asarray(size, dtype) / np.asarray(out, dtype))
    centre = np.maximum((np.arange(out) + 0.5) * step - 0.5, 0).astype(dtype)
    before = np.minimum(np.floor(centre).astype(np.int64), size - 1)
    after = np.minimum(before + 1, size - 1)
    return before, after, centre - before.astype(dtype)


def _averaging(out: int, size: int) -> np.ndarray:
    """Return the matrix (out, size) whose row i averages the sources of cell i."""
    matrix = np.zeros((out, size))
    for i in range(out):
        start, stop = i * size // out, -(-(i + 1) * size // out)
        matrix[i, start:stop] = 1 / (stop - start)
    return matrix


def _separable(x: Tensor, rows: np.ndarray, columns: np.ndarray) -> Tensor:
    """Return rows @ F @ columns^T for every map F, (N, C, H', W'), with the gradient rows^T @ G @ columns."""
    rows, columns = rows.astype(x.dtype), columns.astype(x.dtype)
    return record(_apply_separable(x.data, rows, columns), (x,), lambda g: (_apply_separable(g, rows.T, columns.T),))


def _apply_separable(features: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return rows @ F @ columns^T for every map F of the features (N, C, H, W), (N, C, H', W')."""
    n, channels, height, width = features.shape
    maps = pixels(features).reshape(n, height, width * channels)
    maps = rows @ maps  # (N, H', W * C)
    maps = columns @ maps.reshape(n * len(rows), width, channels)  # (N * H', W', C)
    return maps.reshape(n, len(rows), len(columns), channels).transpose(0, 3, 1, 2)

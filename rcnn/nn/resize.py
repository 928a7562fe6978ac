"""Feature maps resampled to another size: by the nearest value, bilinearly, or by averages, with the gradients.

All three are separable: every column of a map is resampled, then every row. As matrices that is rows @ F @ columns^T,
where row i of `rows` holds the weight of each source in output i. The gradient of a linear map is its transpose:
rows^T @ G @ columns. For the nearest value these matrices select single sources, which can be copied instead.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rcnn._ext.dispatch import compiled
from rcnn._ext.layout import pixels
from rcnn.nn.tensor import Tensor, record
from rcnn.nn.windows import check_pixels, pair


def adaptive_avg_pool2d(x: Tensor, output_size: int | tuple[int, int]) -> Tensor:
    """Return the means over a grid of cells; over the whole map for output_size 1.

    Cell i of k along a side n covers floor(i n / k) to ceil((i + 1) n / k), as in PyTorch.

    Parameters
    ----------
    x : (N, C, H, W) Tensor
        The maps, of at least one pixel.
    output_size : int or (rows, columns)
        Cells of the grid.

    Returns
    -------
    (N, C, rows, columns) Tensor
        One mean per cell.

    Raises
    ------
    TypeError
        If x is not a tensor.
    ValueError
        If x has no pixels, or `output_size` is below 1.
    """
    check_pixels("adaptive_avg_pool2d", x)
    rows, columns = pair("output_size", output_size, 1)
    return _separable(x, _averaging(rows, x.shape[2]), _averaging(columns, x.shape[3]))


def interpolate(x: Tensor, size: tuple[int, int], mode: str = "nearest") -> Tensor:
    """Return the maps resampled to another size.

    Pixel centres lie at half positions (PyTorch's align_corners=False). There is no antialiasing.

    Parameters
    ----------
    x : (N, C, H, W) Tensor
        The maps, of at least one pixel.
    size : (int, int)
        Height and width of the result, in pixels.
    mode : str
        "nearest" or "bilinear".

    Returns
    -------
    (N, C, *size) Tensor
        The resampled maps.

    Raises
    ------
    TypeError
        If x is not a tensor.
    ValueError
        If x has no pixels, the mode is another, or the size is below 1.
    """
    if mode not in ("nearest", "bilinear"):
        raise ValueError(f"mode must be 'nearest' or 'bilinear', got {mode!r}")
    check_pixels("interpolate", x)
    height, width = pair("size", size, 1)
    if mode == "bilinear":
        return _separable(x, bilinear_matrix(height, x.shape[2]), bilinear_matrix(width, x.shape[3]))
    rows, columns, shape = nearest_sources(height, x.shape[2]), nearest_sources(width, x.shape[3]), x.shape
    return record(_nearest(x.data, rows, columns, None), (x,), lambda g: (_nearest_gradient(g, rows, columns, shape),))


def upsample_add(lateral: Tensor, top: Tensor) -> Tensor:
    """Return lateral + interpolate(top, size of lateral): one step down a feature pyramid.

    Parameters
    ----------
    lateral : (N, C, H, W) Tensor
        The maps of the finer level, of at least one pixel.
    top : (N, C, h, w) Tensor
        The maps of the coarser level.

    Returns
    -------
    (N, C, H, W) Tensor
        The sum.

    Raises
    ------
    TypeError
        If one of them is not a tensor.
    ValueError
        If maps have no pixels, or the numbers of images or channels differ.

    References
    ----------
    Lin et al., "Feature pyramid networks for object detection", 2017, section 3.
    """
    check_pixels("upsample_add", lateral)
    check_pixels("upsample_add", top)
    if lateral.shape[:2] != top.shape[:2]:
        raise ValueError(
            f"upsample_add: both maps must have the same N and C, got shapes {lateral.shape} and {top.shape}"
        )
    rows, columns = (nearest_sources(lateral.shape[axis], top.shape[axis]) for axis in (2, 3))
    out, shape, top_is_required = _nearest(top.data, rows, columns, lateral.data), top.shape, top.requires_grad
    return record(
        out, (lateral, top), lambda g: (g, _nearest_gradient(g, rows, columns, shape) if top_is_required else None)
    )


# ---------------------------------------------------------------------- the nearest value


def nearest_sources(out: int, size: int) -> np.ndarray:
    """Return the index of the source that each output element shows, floor(i * size / out).

    Parameters
    ----------
    out : int
        Elements of the output.
    size : int
        Elements of the source.

    Returns
    -------
    (out,) integer array
        Ascending indices, from 0 to size - 1.
    """
    scale = np.float32(size) / np.float32(out)  # as PyTorch computes it, which decides close cases
    return np.minimum(np.floor(np.arange(out, dtype=np.float32) * scale).astype(np.intp), size - 1)


@compiled("resize.nearest")
def _nearest(x: np.ndarray, rows: np.ndarray, columns: np.ndarray, lateral: np.ndarray | None) -> np.ndarray:
    """Return the given rows and columns of maps x (N, C, h, w), plus `lateral` of the result's shape unless None.

    rows: (H,) indices of rows of x; columns: (W,) of columns. The result is (N, C, H, W).
    """
    taken = pixels(x).take(rows, axis=1).take(columns, axis=2).transpose(0, 3, 1, 2)  # (N, C, H, W)
    return taken if lateral is None else taken + lateral


@compiled("resize.nearest_gradient")
def _nearest_gradient(g: np.ndarray, rows: np.ndarray, columns: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return the gradient of `_nearest` with respect to x, of its `shape` (N, C, h, w).

    Each source sums the gradients g (N, C, H, W) of all elements that show it.
    """
    return _apply_separable(g, _picking(rows, shape[2], g.dtype).T, _picking(columns, shape[3], g.dtype).T)


# ---------------------------------------------------------------------- matrices


def _picking(sources: np.ndarray, size: int, dtype: Any) -> np.ndarray:
    """Return the matrix (out, size) whose row i picks sources[i]."""
    return np.eye(size, dtype=dtype)[sources]


def bilinear_matrix(out: int, size: int) -> np.ndarray:
    """Return the matrix whose row i holds the weights of the two sources around output element i.

    Parameters
    ----------
    out : int
        Elements of the output.
    size : int
        Elements of the source.

    Returns
    -------
    (out, size) float64 array
        The rows sum to 1.

    Examples
    --------
    >>> bilinear_matrix(4, 2).tolist()
    [[1.0, 0.0], [0.75, 0.25], [0.25, 0.75], [0.0, 1.0]]
    """
    before, after, weight = bilinear_taps(out, size)
    matrix = np.zeros((out, size))
    matrix[np.arange(out), before] += 1 - weight
    matrix[np.arange(out), after] += weight
    return matrix


def bilinear_taps(out: int, size: int, dtype: Any = np.float64) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the two sources around each output element, and the weight of the second.

    The elements are spread evenly over the sources. At the ends both sources are the outermost one.

    In float32 the step and each centre are rounded once. At the far end a centre is then off by some 1e-5 of a source,
    as in PyTorch, whose compiler fuses the multiplication and the subtraction.

    Parameters
    ----------
    out : int
        Elements of the output.
    size : int
        Elements of the source.
    dtype : dtype
        float64 or float32, of the arithmetic.

    Returns
    -------
    before, after : (out,) int64 array
        Indices of the sources.
    weight : (out,) array
        Weight of `after`, in [0, 1]; that of `before` is 1 - weight.
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

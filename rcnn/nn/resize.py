"""Resampling of feature maps to another size, with gradients: nearest value, bilinear interpolation or averages.

All three methods are separable: every column of a map is resampled, then every row. For a map F, the result is the
matrix product rows @ F @ columns^T. Row i of `rows` contains the weight of each row of F in row i of the result, and
`columns` contains the weights of the columns. If G is the gradient with respect to the result, the gradient with
respect to F is rows^T @ G @ columns. With the nearest value, each row of these matrices selects a single element of F,
so the elements are copied instead.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rcnn._ext.dispatch import compiled
from rcnn._ext.layout import pixels
from rcnn._validate import MOST_SIDE, check_dtype, check_size, integer, one_of
from rcnn.nn.tape import taped
from rcnn.nn.tensor import Tensor, record
from rcnn.nn.windows import check_pixels, pair

MODES = ("nearest", "bilinear")
MOST_RESIZED = 2**16  # pixels along a side of a resampled map


@taped
def adaptive_avg_pool2d(x: Tensor, output_size: int | tuple[int, int]) -> Tensor:
    """Return the mean in each cell of a grid that covers the map.

    If a side of n pixels has k cells, cell i extends from floor(i n / k) to ceil((i + 1) n / k), as in PyTorch. With
    output size 1, the result is the mean of the whole map.

    Parameters
    ----------
    x : (N, C, H, W) Tensor
        The feature maps of N images, with C channels and at least one pixel.
    output_size : int or (rows, columns)
        The number of cells along each axis, in 1 .. 4096.

    Returns
    -------
    (N, C, rows, columns) Tensor
        The means.

    Raises
    ------
    TypeError
        If x is not a tensor.
    ValueError
        If x has no pixels, or if `output_size` is out of range.
    """
    check_pixels("adaptive_avg_pool2d", x)
    rows, columns = pair("output_size", output_size, 1)
    check_size((*x.shape[:2], rows, columns), "x and output_size")
    return _separable(x, _averaging(rows, x.shape[2]), _averaging(columns, x.shape[3]))


@taped
def interpolate(x: Tensor, size: tuple[int, int], mode: str = "nearest") -> Tensor:
    """Return the maps, resampled to another size.

    The centre of pixel i has the coordinate i + 0.5, as in PyTorch with align_corners=False. There is no antialiasing.

    Parameters
    ----------
    x : (N, C, H, W) Tensor
        The feature maps of N images, with C channels and at least one pixel.
    size : (int, int)
        The height and width of the result, in pixels, in 1 .. 2^16.
    mode : str
        "nearest" or "bilinear".

    Returns
    -------
    (N, C, height, width) Tensor
        The resampled maps.

    Raises
    ------
    TypeError
        If x is not a tensor.
    ValueError
        If x has no pixels, if the mode is unknown, if the size is out of range, or if the result has more than 2^30
        elements.
    """
    one_of(MODES).check("mode", mode)
    check_pixels("interpolate", x)
    height, width = pair("size", size, 1, MOST_RESIZED)
    check_size((*x.shape[:2], height, width), "x and size")
    if mode == "bilinear":
        return _separable(x, bilinear_matrix(height, x.shape[2]), bilinear_matrix(width, x.shape[3]))
    rows, columns, shape = nearest_sources(height, x.shape[2]), nearest_sources(width, x.shape[3]), x.shape
    return record(_nearest(x.data, rows, columns, None), (x,), lambda g: (_nearest_gradient(g, rows, columns, shape),))


@taped
def upsample_add(lateral: Tensor, top: Tensor) -> Tensor:
    """Return lateral + interpolate(top, size of lateral), which is one step from coarse to fine in a feature pyramid.

    Parameters
    ----------
    lateral : (N, C, H, W) Tensor
        The maps of the finer level: N images, C channels, and at least one pixel.
    top : (N, C, h, w) Tensor
        The maps of the coarser level, with at least one pixel.

    Returns
    -------
    (N, C, H, W) Tensor
        The sum.

    Raises
    ------
    TypeError
        If one of the arguments is not a tensor.
    ValueError
        If `lateral` or `top` has no pixels, or if their numbers of images or channels differ.

    References
    ----------
    Lin et al., "Feature pyramid networks for object detection", 2017, section 3.
    """
    check_pixels("upsample_add", lateral, "lateral")
    check_pixels("upsample_add", top, "top")
    if lateral.shape[:2] != top.shape[:2]:
        raise ValueError(
            "upsample_add: lateral and top must have the same number of images and channels, "
            f"got shapes {lateral.shape} and {top.shape}"
        )
    rows, columns = (nearest_sources(lateral.shape[axis], top.shape[axis]) for axis in (2, 3))
    out, shape, top_is_required = _nearest(top.data, rows, columns, lateral.data), top.shape, top.requires_grad
    return record(
        out, (lateral, top), lambda g: (g, _nearest_gradient(g, rows, columns, shape) if top_is_required else None)
    )


# ---------------------------------------------------------------------- the nearest value


def nearest_sources(out: int, size: int) -> np.ndarray:
    """For each output element i, return the index of the input element that is copied to it: floor(i * size / out).

    Parameters
    ----------
    out : int
        The number of output elements, in 1 .. 2^20.
    size : int
        The number of input elements, in 1 .. 2^20.

    Returns
    -------
    (out,) integer array
        The indices, in ascending order.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range.
    """
    _check_counts(out, size)
    scale = np.float32(size) / np.float32(out)  # rounded as in PyTorch, which can change an index
    return np.minimum(np.floor(np.arange(out, dtype=np.float32) * scale).astype(np.intp), size - 1)


@compiled("resize.nearest")
def _nearest(x: np.ndarray, rows: np.ndarray, columns: np.ndarray, lateral: np.ndarray | None) -> np.ndarray:
    """Return selected rows and columns of the maps x (N, C, h, w), plus `lateral` unless it is None.

    `rows` (H,) and `columns` (W,) are indices of rows and columns of x. The result and `lateral` have the shape
    (N, C, H, W).
    """
    taken = pixels(x).take(rows, axis=1).take(columns, axis=2).transpose(0, 3, 1, 2)  # (N, C, H, W)
    return taken if lateral is None else taken + lateral


@compiled("resize.nearest_gradient")
def _nearest_gradient(g: np.ndarray, rows: np.ndarray, columns: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return the gradient with respect to the input x of `_nearest`. Its shape is `shape`, (N, C, h, w).

    The gradient of an element of x is the sum of the gradients g (N, C, H, W) of its copies.
    """
    return _apply_separable(g, _picking(rows, shape[2], g.dtype).T, _picking(columns, shape[3], g.dtype).T)


# ---------------------------------------------------------------------- matrices


def _picking(sources: np.ndarray, size: int, dtype: Any) -> np.ndarray:
    """Return a matrix (out, size) that has a 1 in column sources[i] of each row i, and 0 elsewhere."""
    return np.eye(size, dtype=dtype)[sources]


def bilinear_matrix(out: int, size: int) -> np.ndarray:
    """Return the matrix whose row i contains the weights of the two input elements around output element i.

    Parameters
    ----------
    out : int
        The number of output elements, in 1 .. 2^20.
    size : int
        The number of input elements, in 1 .. 2^20. The matrix may have at most 2^30 elements.

    Returns
    -------
    (out, size) float64 array
        The matrix. Each row sums to 1.

    Raises
    ------
    TypeError, ValueError
        If a number is out of range, or if the matrix is too large.

    Examples
    --------
    >>> bilinear_matrix(4, 2).tolist()
    [[1.0, 0.0], [0.75, 0.25], [0.25, 0.75], [0.0, 1.0]]
    """
    _check_counts(out, size)
    check_size((out, size), "out and size")
    before, after, weight = bilinear_taps(out, size)
    matrix = np.zeros((out, size))
    matrix[np.arange(out), before] += 1 - weight
    matrix[np.arange(out), after] += weight
    return matrix


def bilinear_taps(out: int, size: int, dtype: Any = np.float64) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the indices of the two input elements around each output element, and the weight of the second one.

    The output elements are spread evenly over the input. An output element that lies before the centre of the first
    input element, or after the centre of the last one, has the value of this input element.

    In float32, the distance between output elements is rounded once, and the position of each output element is rounded
    once. The last positions are then wrong by about 1e-5 input elements. PyTorch makes the same error, because its
    compiler fuses the multiplication and the subtraction.

    Parameters
    ----------
    out : int
        The number of output elements, in 1 .. 2^20.
    size : int
        The number of input elements, in 1 .. 2^20.
    dtype : dtype
        The dtype of the arithmetic, float64 or float32.

    Returns
    -------
    before, after : (out,) intp array
        The indices of the two input elements.
    weight : (out,) array
        The weight of `after`, in [0, 1]. The weight of `before` is 1 - weight.

    Raises
    ------
    TypeError, ValueError
        If an argument is invalid.
    """
    _check_counts(out, size)
    dtype = check_dtype(dtype)
    step = float(np.asarray(size, dtype) / np.asarray(out, dtype))
    centre = np.maximum((np.arange(out) + 0.5) * step - 0.5, 0).astype(dtype)
    before = np.minimum(np.floor(centre).astype(np.intp), size - 1)
    after = np.minimum(before + 1, size - 1)
    return before, after, centre - before.astype(dtype)


def _check_counts(out: int, size: int) -> None:
    integer(1, MOST_SIDE).check("out", out)
    integer(1, MOST_SIDE).check("size", size)


def _averaging(out: int, size: int) -> np.ndarray:
    """Return the matrix (out, size) whose row i averages the input elements of cell i."""
    matrix = np.zeros((out, size))
    for i in range(out):
        start, stop = i * size // out, -(-(i + 1) * size // out)
        matrix[i, start:stop] = 1 / (stop - start)
    return matrix


def _separable(x: Tensor, rows: np.ndarray, columns: np.ndarray) -> Tensor:
    """Return rows @ F @ columns^T (N, C, H', W') for every map F of x, and record the operation."""
    rows, columns = rows.astype(x.dtype), columns.astype(x.dtype)
    return record(_apply_separable(x.data, rows, columns), (x,), lambda g: (_apply_separable(g, rows.T, columns.T),))


def _apply_separable(features: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return rows @ F @ columns^T (N, C, H', W') for every map F of the features (N, C, H, W)."""
    n, channels, height, width = features.shape
    maps = pixels(features).reshape(n, height, width * channels)
    with np.errstate(all="ignore"):  # 0 * inf is NaN
        maps = rows @ maps  # (N, H', W * C)
        maps = columns @ maps.reshape(n * len(rows), width, channels)  # (N * H', W', C)
    return maps.reshape(n, len(rows), len(columns), channels).transpose(0, 3, 1, 2)

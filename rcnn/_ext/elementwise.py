"""The drivers of the kernels of `rcnn.nn.elementwise`.

These operations compute little per element, so they are memory-bound. Each kernel makes a single pass over memory,
while the reference makes several passes.

A driver passes maps (N, C, H, W) to its kernel as *rows*: a matrix (M, C) with one row for each of the M = N * H * W
pixels. If the maps are stored channels last, this matrix is a view; otherwise it is a copy. For arrays of other shapes,
the rows run along the last axis. The innermost loop of a kernel runs along a row and is fast if the row is long. If
there are few channels, a row therefore contains several pixels, and per-channel values are repeated along the row.

A kernel divides the rows into blocks. It computes the sum of each block in float32, and adds these sums in float64. The
blocks do not depend on the number of threads, so the results do not depend on it either.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from rcnn._ext import backend, load
from rcnn._ext.layout import pixels
from rcnn._ext.memory import empty, empty_maps

if TYPE_CHECKING:
    from rcnn._ext import _passes as kernels
else:
    kernels = load("_passes")

MANY = 1 << 14  # elements; for fewer, NumPy is faster than starting a kernel
LONG = 128  # elements; for shorter rows, starting and ending the loops takes most of the time
ACTIVATIONS = (None, "relu", "relu6", "hardswish")  # the kernels number them in this order


# ---------------------------------------------------------------------- activations


def relu(x: np.ndarray, slope: float = 0.0) -> np.ndarray:
    """Return x where x > 0, and slope * x elsewhere. x may have any shape."""
    out = _empty(x.shape)
    kernels.relu(_flat(x), slope, _flat(out), backend.threads_for(x.size))
    return out


def leaky_relu_gradient(g: np.ndarray, x: np.ndarray, slope: float) -> np.ndarray:
    """Return g where x > 0, and slope * g elsewhere. The arrays may have any shape."""
    out = _empty(x.shape)
    kernels.leaky_relu_gradient(_flat(g), _flat(x), slope, _flat(out), backend.threads_for(x.size))
    return out


def activate(x: np.ndarray, activation: str) -> np.ndarray:
    """Return the activation of x: "relu", "relu6" or "hardswish". x may have any shape."""
    if activation == "relu":
        return relu(x)
    out = _empty(x.shape)
    kernels.activate(_flat(x), ACTIVATIONS.index(activation), _flat(out), backend.threads_for(x.size))
    return out


def activation_gradient(g: np.ndarray, x: np.ndarray, activation: str) -> np.ndarray:
    """Return the gradient with respect to x, given the gradient g with respect to the result of `activate`."""
    if activation == "relu":
        return leaky_relu_gradient(g, x, 0.0)
    out = _empty(x.shape)
    code = ACTIVATIONS.index(activation)
    kernels.activation_gradient(_flat(g), _flat(x), code, _flat(out), backend.threads_for(x.size))
    return out


def relu_gradient(
    g: np.ndarray, out: np.ndarray, scale: np.ndarray | None = None, plain: bool = True
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Return the gradient with respect to the input of a ReLU, and this gradient multiplied by `scale`.

    The gradient is g where `out` > 0, and 0 elsewhere. The first result is None if `plain` is False, and the second one
    is None without `scale`.
    """
    if scale is None and not plain:
        return NotImplemented
    passed, scaled = _empty(g.shape) if plain else None, None if scale is None else _empty(g.shape)
    k = _pixels_per_row(g)
    kernels.relu_gradient(
        _rows(g, k),
        _rows(out, k),
        None if scale is None else _tiled(scale, k),
        _optional_rows(passed, k),
        _optional_rows(scaled, k),
        backend.threads_for(g.size),
    )
    return passed, scaled


# ---------------------------------------------------------------------- sums of arrays


def add(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return a + b for two large arrays of the same shape."""
    if a.size < MANY or a.shape != b.shape:
        return NotImplemented
    out = _empty(a.shape)
    _add(a, b, out)
    return out


def add_to(a: np.ndarray, b: np.ndarray) -> Any:
    """Add `b` to `a` in place, for two large arrays of the same shape. The rows of `a` must be a view of it."""
    if a.size < MANY or a.shape != b.shape or not _lies_in_rows(a):
        return NotImplemented
    _add(a, b, a)
    return None


def _add(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
    """Write a + b into `out`. The rows of `out` must be a view of `out`, not a copy."""
    kernels.add(_flat(a), _flat(b), _flat(out), backend.threads_for(a.size))


# ---------------------------------------------------------------------- sums over images and pixels


def sum_per_channel(g: np.ndarray) -> np.ndarray:
    """Return the sum (C,) of maps (N, C, H, W) over all images and pixels."""
    rows = _rows(g, _pixels_per_row(g))
    (sums,) = _empty_sums(rows, 1)
    kernels.block_sums(rows, sums, backend.threads_for(g.size))
    with np.errstate(all="ignore"):  # the maps can be infinite, and a sum can be too large for float32
        return _add_blocks(sums, g.shape[1]).astype(np.float32)


def batch_statistics(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean (C,) and the biased variance (C,) of maps (N, C, H, W) over all images and pixels.

    Both are computed from the means and variances of blocks of pixels: Chan, Golub and LeVeque, "Updating formulae and
    a pairwise algorithm for computing sample variances", 1979.
    """
    channels = x.shape[1]
    rows = _rows(x, _pixels_per_row(x))
    sums, squares = _empty_sums(rows, 2)
    kernels.block_moments(rows, sums, squares, backend.threads_for(x.size))
    size, per_block = x.size // channels, kernels.block_rows(rows.shape[1])
    count = np.full((len(sums), 1), per_block, np.float64)  # the rows of each block
    count[-1] = len(rows) - per_block * (len(sums) - 1)
    with np.errstate(all="ignore"):  # the maps can be infinite, and a sum can be too large for float32
        mean = _add_blocks(sums, channels) / size
        deviations = (sums / count).reshape(-1, channels) - mean  # deviations of the blocks' means from the mean of all
        between = np.repeat(count, rows.shape[1] // channels) @ (deviations * deviations)
        var = (_add_blocks(squares, channels) + between) / size
        return mean.astype(np.float32), var.astype(np.float32)


def _empty_sums(rows: np.ndarray, count: int) -> np.ndarray:
    """Return an uninitialised array (count, blocks, C) for `count` sums over each block of `rows` (M, C)."""
    blocks = -(-len(rows) // kernels.block_rows(rows.shape[1]))
    return np.empty((count, blocks, rows.shape[1]), np.float32)


def _add_blocks(sums: np.ndarray, channels: int) -> np.ndarray:
    """Add the sums of all blocks (blocks, k * C), and return a float64 array (C,) with one sum per channel."""
    return sums.reshape(-1, channels).sum(axis=0, dtype=np.float64)


# ---------------------------------------------------------------------- normalisation


def normalise(
    x: np.ndarray,
    mean: np.ndarray,
    gain: np.ndarray,
    bias: np.ndarray,
    residual: np.ndarray | None = None,
    relu: bool = False,
) -> np.ndarray:
    """Return (x - mean) * gain + bias + residual, of shape (N, C, H, W). If `relu` is True, apply a ReLU to it."""
    out, k = _empty(x.shape), _pixels_per_row(x)
    kernels.normalise(
        _rows(x, k),
        _tiled(mean, k),
        _tiled(gain, k),
        _tiled(bias, k),
        _optional_rows(residual, k),
        relu,
        _rows(out, k),
        backend.threads_for(x.size),
    )
    return out


def normalise_sums(
    g: np.ndarray, x: np.ndarray, mean: np.ndarray, out: np.ndarray | None = None, keep: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Return the sums (C,) of g and of g * (x - mean), and also g if `keep` is True.

    If `out` is given, g is first set to 0 unless out > 0.
    """
    k, passed = _pixels_per_row(g), _empty(g.shape) if keep else None
    rows = _rows(g, k)
    sums, products = _empty_sums(rows, 2)
    kernels.normalise_sums(
        rows,
        _rows(x, k),
        _tiled(mean, k),
        _optional_rows(out, k),
        _optional_rows(passed, k),
        sums,
        products,
        backend.threads_for(g.size),
    )
    channels = g.shape[1]
    with np.errstate(all="ignore"):  # the maps can be infinite, and a sum can be too large for float32
        sums, products = (_add_blocks(blocks, channels).astype(np.float32) for blocks in (sums, products))
    return sums, products, passed


def normalise_gradient(
    g: np.ndarray,
    x: np.ndarray,
    mean: np.ndarray,
    out: np.ndarray | None,
    gain: np.ndarray,
    shift: np.ndarray,
    slope: np.ndarray,
) -> np.ndarray:
    """Return (g - shift - (x - mean) * slope) * gain, of shape (N, C, H, W).

    If `out` is given, g is first set to 0 unless out > 0.
    """
    g_x, k = _empty(g.shape), _pixels_per_row(g)
    kernels.normalise_gradient(
        _rows(g, k),
        _rows(x, k),
        _tiled(mean, k),
        _optional_rows(out, k),
        _tiled(gain, k),
        _tiled(shift, k),
        _tiled(slope, k),
        _rows(g_x, k),
        backend.threads_for(g.size),
    )
    return g_x


# ---------------------------------------------------------------------- arrays as rows


def _empty(shape: tuple[int, ...]) -> np.ndarray:
    """Return an uninitialised array of this shape. Its rows are a view of the array, not a copy."""
    return empty_maps(shape) if len(shape) == 4 else empty(shape)


def _rows(values: np.ndarray, k: int = 1) -> np.ndarray:
    """Return an array as a contiguous matrix (M / k, k * C). Each row of the matrix contains k pixels of the maps."""
    last = pixels(values) if values.ndim == 4 else np.ascontiguousarray(np.atleast_1d(values))
    return last.reshape(math.prod(last.shape[:-1]) // k, k * last.shape[-1])


def _optional_rows(values: np.ndarray | None, k: int) -> np.ndarray | None:
    return None if values is None else _rows(values, k)


def _lies_in_rows(values: np.ndarray) -> bool:
    """Return whether the rows of an array are a view of the array, not a copy."""
    return bool((values.transpose(0, 2, 3, 1) if values.ndim == 4 else values).flags.c_contiguous)


def _flat(values: np.ndarray) -> np.ndarray:
    """Return the elements of an array, row by row."""
    return _rows(values).reshape(-1)


def _tiled(vector: np.ndarray, k: int) -> np.ndarray:
    """Return an array (k * C,) that contains the per-channel values (C,) once for each of the k pixels of a row."""
    return np.concatenate([vector] * k)


def _pixels_per_row(maps: np.ndarray) -> int:
    """Return how many pixels of maps (N, C, H, W) a row contains: a power of two, which is 1 unless C is small."""
    count, k = maps.size // max(maps.shape[1], 1), 1
    while k * maps.shape[1] < LONG and count % (2 * k) == 0 < count:
        k *= 2
    return k

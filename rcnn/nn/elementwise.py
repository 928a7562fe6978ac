"""What passes over whole feature maps: activations, batch statistics, sums over places. Arrays in, arrays out.

These operations do little with each number, so they take the time in which the numbers come from memory and go back to
it. The kernels do in one pass what follows on each other, and on all threads; the references beside them, in NumPy, say
what is computed. float32 goes to the kernels, where they run, anything else to the references.

Maps have the shape (N, C, H, W). A pass sees them as *rows*, (M, C), a row for each place of each image: a view of maps
that lie in memory channels last; others are copied first. Arrays of other shapes are rows along their last axis.
"""

from __future__ import annotations

import math

import numpy as np

from rcnn._ext import backend
from rcnn._ext.layout import pixels
from rcnn._ext.memory import empty, empty_maps

MANY = 1 << 14  # numbers; a sum of fewer is done before a kernel has begun
LONG = 128  # numbers; a kernel's loops over shorter rows would mostly begin and end


# ---------------------------------------------------------------------- activations


def relu(x: np.ndarray, slope: float = 0.0) -> np.ndarray:
    """x where it is above 0, slope * x elsewhere (for a slope of 0 that is 0); of any shape. NaN stays NaN."""
    if not is_fast(x):
        return _relu(x, slope)
    out = _new(x.shape)
    backend.passes_kernels.relu(_rows(x).reshape(-1), slope, _rows(out).reshape(-1), backend.threads_for(x.size))
    return out


def _relu(x: np.ndarray, slope: float) -> np.ndarray:
    return np.where(x > 0, x, x * slope) if slope else np.maximum(x, 0)


def leaky_relu_gradient(g: np.ndarray, x: np.ndarray, slope: float) -> np.ndarray:
    """g where x is above 0, slope * g elsewhere; of any shape."""
    if not is_fast(g, x):
        return np.where(x > 0, g, g * slope)
    out = _new(x.shape)
    backend.passes_kernels.leaky_relu_gradient(
        _rows(g).reshape(-1), _rows(x).reshape(-1), slope, _rows(out).reshape(-1), backend.threads_for(x.size)
    )
    return out


def relu_gradient(
    g: np.ndarray, out: np.ndarray, scale: np.ndarray | None = None, plain: bool = True
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """g where out is above 0 and 0 elsewhere, and the same times scale (C,), channel by channel; None without scale.

    g and out: (N, C, H, W). With plain=False, which wants a scale, the first is not made, but None.
    """
    if not is_fast(g, out, scale) or (scale is None and not plain):
        return _relu_gradient(g, out, scale, plain)
    first, second = _new(g.shape) if plain else None, None if scale is None else _new(g.shape)
    k = _places_per_row(g)
    backend.passes_kernels.relu_gradient(
        _rows(g, k),
        _rows(out, k),
        None if scale is None else _tiled(scale, k),
        _rows_of(first, k),
        _rows_of(second, k),
        backend.threads_for(g.size),
    )
    return first, second


def _relu_gradient(
    g: np.ndarray, out: np.ndarray, scale: np.ndarray | None, plain: bool
) -> tuple[np.ndarray | None, np.ndarray | None]:
    first = np.where(out > 0, g, 0)
    return first if plain else None, None if scale is None else first * scale[:, None, None]


# ---------------------------------------------------------------------- sums of arrays


def add(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a + b."""
    if not (is_fast(a, b) and a.shape == b.shape and a.size >= MANY):
        return a + b
    out = _new(a.shape)
    _add(a, b, out)
    return out


def add_to(a: np.ndarray, b: np.ndarray) -> None:
    """Adds b to a, in place; both of one shape."""
    if is_fast(a, b) and a.shape == b.shape and a.size >= MANY and _lies_as_rows(a):
        _add(a, b, a)
    else:
        a += b


def _add(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
    """Fills out, which lies as `_rows` has it, with a + b."""
    backend.passes_kernels.add(
        _rows(a).reshape(-1), _rows(b).reshape(-1), _rows(out).reshape(-1), backend.threads_for(a.size)
    )


# ---------------------------------------------------------------------- some maps of many


def take(maps: np.ndarray, places: np.ndarray) -> np.ndarray:
    """maps[places], of maps (N, C, H, W), with channels last in memory; places (M,) int64 indices."""
    if not is_fast(maps):
        return maps[places]
    out, size = _new((len(places), *maps.shape[1:])), math.prod(maps.shape[1:])
    backend.passes_kernels.take_rows(
        pixels(maps).reshape(-1, size), places, pixels(out).reshape(-1, size), backend.threads_for(out.size)
    )
    return out


# ---------------------------------------------------------------------- sums over places


def sum_over_places(g: np.ndarray) -> np.ndarray:
    """The sum of maps (N, C, H, W) over images and places, (C,)."""
    if not is_fast(g):
        return _sum_over_places(g)
    rows = _rows(g, _places_per_row(g))
    (sums,) = _block_sums(rows, 1)
    backend.passes_kernels.block_sums(rows, sums, backend.threads_for(g.size))
    return _gathered(sums, g.shape[1])


def _sum_over_places(g: np.ndarray) -> np.ndarray:
    """As a matrix product, for which BLAS adds up several sums at a time: quicker and more accurate than one."""
    rows = _rows(g)
    return np.ones(len(rows), rows.dtype) @ rows


def batch_statistics(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean and the variance (not Bessel's) of maps (N, C, H, W) over images and places, (C,) each."""
    if not is_fast(x):
        return _batch_statistics(x)
    rows, channels = _rows(x, _places_per_row(x)), x.shape[1]
    sums, squares = _block_sums(rows, 2)
    backend.passes_kernels.block_moments(rows, sums, squares, backend.threads_for(x.size))
    # The blocks' own, of `count` values each, make the whole's. Chan et al., "Updating formulae and a pairwise
    # algorithm for computing sample variances", 1979.
    size, per_block = x.size // channels, backend.passes_kernels.block_rows(rows.shape[1])
    count = np.full((len(sums), 1), per_block, np.float64)
    count[-1] = len(rows) - per_block * (len(sums) - 1)
    mean = _gathered(sums, channels, np.float64) / size
    apart = (sums / count).reshape(-1, channels) - mean  # of the blocks' means from the whole's
    between = np.repeat(count, rows.shape[1] // channels) @ (apart * apart)
    var = (_gathered(squares, channels, np.float64) + between) / size
    return mean.astype(x.dtype), var.astype(x.dtype)


def _batch_statistics(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rows = _rows(x)
    average = np.full(len(rows), 1 / len(rows), x.dtype)  # a mean as a matrix product, as in `_sum_over_places`
    mean = average @ rows
    return mean, average @ (rows - mean) ** 2


# ---------------------------------------------------------------------- normalisation


def normalise(
    x: np.ndarray,
    mean: np.ndarray,
    gain: np.ndarray,
    bias: np.ndarray,
    residual: np.ndarray | None = None,
    relu: bool = False,
) -> np.ndarray:
    """(x - mean) * gain + bias + residual, channel by channel, or with `relu` its positive part, (N, C, H, W).

    x and residual: (N, C, H, W); mean, gain, bias: (C,).
    """
    if not is_fast(x, mean, gain, bias, residual):
        return _normalise(x, mean, gain, bias, residual, relu)
    out, k = _new(x.shape), _places_per_row(x)
    backend.passes_kernels.normalise(
        _rows(x, k),
        _tiled(mean, k),
        _tiled(gain, k),
        _tiled(bias, k),
        _rows_of(residual, k),
        relu,
        _rows(out, k),
        backend.threads_for(x.size),
    )
    return out


def _normalise(
    x: np.ndarray, mean: np.ndarray, gain: np.ndarray, bias: np.ndarray, residual: np.ndarray | None, relu: bool
) -> np.ndarray:
    out = _rows(x) - mean
    out *= gain
    out += bias
    if residual is not None:
        out += _rows(residual)
    if relu:
        np.maximum(out, 0, out=out)
    return _as_maps(out, x.shape)


def normalise_sums(
    g: np.ndarray, x: np.ndarray, mean: np.ndarray, out: np.ndarray | None = None, keep: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Over images and places the sums of g and of g * (x - mean), (C,) each, for the gradients of `normalise`.

    g, x, out: (N, C, H, W); mean: (C,). With `out`, what `normalise` gave with `relu`, g counts only where it is above
    0; that is the third result, (N, C, H, W), if it shall be kept, else None.
    """
    if not is_fast(g, x, mean, out):
        return _normalise_sums(g, x, mean, out, keep)
    k, passed = _places_per_row(g), _new(g.shape) if keep else None
    rows = _rows(g, k)
    sums, products = _block_sums(rows, 2)
    backend.passes_kernels.normalise_sums(
        rows,
        _rows(x, k),
        _tiled(mean, k),
        _rows_of(out, k),
        _rows_of(passed, k),
        sums,
        products,
        backend.threads_for(g.size),
    )
    return _gathered(sums, g.shape[1]), _gathered(products, g.shape[1]), passed


def _normalise_sums(
    g: np.ndarray, x: np.ndarray, mean: np.ndarray, out: np.ndarray | None, keep: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    passed = g if out is None else np.where(out > 0, g, 0)
    rows = _rows(passed)
    ones = np.ones(len(rows), rows.dtype)
    return ones @ rows, ones @ (rows * (_rows(x) - mean)), passed if keep else None


def normalise_gradient(
    g: np.ndarray,
    x: np.ndarray,
    mean: np.ndarray,
    out: np.ndarray | None,
    gain: np.ndarray,
    shift: np.ndarray,
    slope: np.ndarray,
) -> np.ndarray:
    """(g - shift - (x - mean) * slope) * gain, channel by channel, (N, C, H, W).

    g, x, out: (N, C, H, W), of which g counts only where `out`, if it is given, is above 0; the others (C,).
    """
    if not is_fast(g, x, mean, out, gain, shift, slope):
        return _normalise_gradient(g, x, mean, out, gain, shift, slope)
    g_x, k = _new(g.shape), _places_per_row(g)
    backend.passes_kernels.normalise_gradient(
        _rows(g, k),
        _rows(x, k),
        _tiled(mean, k),
        _rows_of(out, k),
        _tiled(gain, k),
        _tiled(shift, k),
        _tiled(slope, k),
        _rows(g_x, k),
        backend.threads_for(g.size),
    )
    return g_x


def _normalise_gradient(
    g: np.ndarray,
    x: np.ndarray,
    mean: np.ndarray,
    out: np.ndarray | None,
    gain: np.ndarray,
    shift: np.ndarray,
    slope: np.ndarray,
) -> np.ndarray:
    passed = g if out is None else np.where(out > 0, g, 0)
    g_x = _rows(passed) - shift
    g_x -= (_rows(x) - mean) * slope
    g_x *= gain
    return _as_maps(g_x, g.shape)


# ---------------------------------------------------------------------- arrays as rows


def is_fast(*arrays: np.ndarray | None) -> bool:
    """Whether the kernels take these arrays: they run, and know float32 only."""
    return backend.runs_kernels() and all(array is None or array.dtype == np.float32 for array in arrays)


def _new(shape: tuple[int, ...]) -> np.ndarray:
    """An array of float32 of this shape, maps channels last, holding whatever was there."""
    return empty_maps(shape) if len(shape) == 4 else empty(shape)


def _rows(values: np.ndarray, k: int = 1) -> np.ndarray:
    """(M / k, k * C), contiguous: for maps (N, C, H, W) a row per k places, else along the last axis."""
    last = pixels(values) if values.ndim == 4 else np.ascontiguousarray(np.atleast_1d(values))
    return last.reshape(math.prod(last.shape[:-1]) // k, k * last.shape[-1])


def _rows_of(values: np.ndarray | None, k: int) -> np.ndarray | None:
    return None if values is None else _rows(values, k)


def _lies_as_rows(values: np.ndarray) -> bool:
    """Whether `_rows` makes a view of this array, not a copy."""
    return bool((values.transpose(0, 2, 3, 1) if values.ndim == 4 else values).flags.c_contiguous)


def _tiled(vector: np.ndarray, k: int) -> np.ndarray:
    """The numbers (C,) for each channel, as often as a row has places, (k * C,)."""
    return np.concatenate([vector] * k)


def _places_per_row(maps: np.ndarray) -> int:
    """How many places make one row of maps (N, C, H, W): several where there are few channels."""
    places, k = maps.size // max(maps.shape[1], 1), 1
    while k * maps.shape[1] < LONG and places % (2 * k) == 0 < places:
        k *= 2
    return k


def _as_maps(rows: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Rows (M, C) as the maps of `shape` (N, C, H, W) that they are."""
    return rows.reshape(shape[0], shape[2], shape[3], shape[1]).transpose(0, 3, 1, 2)


def _block_sums(rows: np.ndarray, many: int) -> np.ndarray:
    """Room for `many` sums over the rows (M, C) of each block that the kernels cut them into, (many, blocks, C)."""
    blocks = -(-len(rows) // backend.passes_kernels.block_rows(rows.shape[1]))
    return np.empty((many, blocks, rows.shape[1]), np.float32)


def _gathered(sums: np.ndarray, channels: int, dtype: type = np.float32) -> np.ndarray:
    """The sums of blocks (blocks, k * C) added up to those of channels, (C,)."""
    return sums.reshape(-1, channels).sum(axis=0, dtype=np.float64).astype(dtype)

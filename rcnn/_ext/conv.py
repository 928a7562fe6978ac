"""The drivers of the convolution kernels: the same functions as the references in `rcnn.nn.conv`, in float32.

Two algorithms compute a convolution. The *direct* algorithm sums over each window as in the definition, and can compute
every convolution. *Winograd's* algorithm can compute convolutions with 3x3 filters and stride 1. It reduces the number
of multiplications by a factor of 4 (`winograd4`) or 2.25 (`winograd2`); docs/speed.md explains how.
`rcnn.set_conv_algorithm` chooses the algorithm. "auto" uses winograd4 if there are enough channels: the smaller number
of multiplications then saves more time than the transforms cost.

The gradient with respect to the maps is also a convolution: the gradient of the result is convolved with the filters,
rotated by 180 degrees. If the stride is s, the elements of the maps form s x s groups (*phases*). Elements of different
phases use different weights, so there is one convolution for each phase. The gradient with respect to the weights is a
sum over all positions: the window at each position times the gradient at this position.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from rcnn._ext import backend, load
from rcnn._ext.layout import pixels
from rcnn._ext.memory import empty, empty_maps

if TYPE_CHECKING:
    from rcnn._ext import _conv as kernels
    from rcnn._ext import _winograd as winograd
else:
    kernels, winograd = load("_conv"), load("_winograd")

Pair = tuple[int, int]

WORTH_WINOGRAD = 16  # channels and filters; with fewer of them, the transforms take more time than they save
TASKS = 32  # parts of a weight gradient: enough for many threads, and independent of the number of threads
TILES = 192  # tiles that a weight gradient by Winograd's algorithm processes at a time


def convolve(
    x: np.ndarray,
    weight: np.ndarray,
    scale: np.ndarray | None,
    bias: np.ndarray | None,
    residual: np.ndarray | None,
    relu: bool,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    size: Pair,
) -> np.ndarray:
    """Return relu(convolution * scale + bias + residual) of shape (N, O, *size), where `size` is (H', W').

    If the input has no channels, return NotImplemented, so that the reference runs.
    """
    if weight.shape[1] == 0:
        return NotImplemented
    out = empty_maps((len(x), len(weight), *size))
    added = None if residual is None else pixels(residual)
    side = _winograd_side(weight.shape, stride, padding, dilation)
    after = (None if scale is None else _vector(scale), None if bias is None else _vector(bias), added, relu)
    if out.size == 0:
        return out
    if side:
        _winograd(pixels(x), weight, pixels(out), padding, after, side)
    else:
        _direct(_padded(x, padding), weight, pixels(out), stride, dilation, after)
    return out


def input_gradient(
    g: np.ndarray, weight: np.ndarray, shape: tuple[int, ...], stride: Pair, padding: Pair, dilation: Pair
) -> np.ndarray:
    """Return the gradient with respect to the maps, whose shape is `shape` (N, C, H, W)."""
    if weight.shape[1] == 0:
        return NotImplemented
    if 0 in shape:
        return empty_maps(shape)
    rotated = weight[:, :, ::-1, ::-1].transpose(1, 0, 2, 3)  # (C, O, kernel height, kernel width)
    reach = [d * (k - 1) - p for d, k, p in zip(dilation, weight.shape[2:], padding, strict=True)]
    if stride == (1, 1) and min(reach) >= 0:
        size = (shape[2], shape[3])
        return convolve(g, rotated, None, None, None, False, stride, (reach[0], reach[1]), dilation, size)
    if dilation != (1, 1):
        return _input_gradient_spread(g, rotated, shape, stride, padding, dilation)
    return _input_gradient_by_phase(g, weight, shape, stride, padding)


def weight_gradient(
    g: np.ndarray, x: np.ndarray, shape: tuple[int, ...], stride: Pair, padding: Pair, dilation: Pair
) -> np.ndarray:
    """Return the gradient with respect to the filters, whose shape is `shape` (O, C, kernel height, kernel width)."""
    outs, channels, height, width = shape
    if channels == 0:
        return NotImplemented
    out = empty(shape)
    side = _winograd_side(shape, stride, padding, dilation)
    if g.size == 0:
        out[...] = 0
        return out
    grad = pixels(g)
    threads = backend.threads_for(g.size * channels * height * width)
    if side:
        tiles = min(TILES, _count_tiles(g.shape, side))
        scratch = empty((winograd.weight_gradient_scratch_size(tiles, channels, outs, side),))
        winograd.weight_gradient(pixels(x), grad, out, _pair(padding), side, tiles, scratch, threads)
        return out
    positions = g.size // max(outs, 1)
    tasks = kernels.gradient_tasks(outs, height, width * channels)
    parts = empty((max(1, min(TASKS // tasks, positions // 1024)), outs, height * width * channels))
    kernels.weight_gradient(_padded(x, padding), grad, parts, height, width, _pair(stride), _pair(dilation), threads)
    kernels.gather_weights(parts, out, backend.threads_for(parts.size))
    return out


def _winograd_side(weight_shape: tuple[int, ...], stride: Pair, padding: Pair, dilation: Pair) -> int:
    """Return the side of Winograd's tiles for this convolution, or 0 for the direct algorithm."""
    outs, channels, *kernel = weight_shape
    algorithm = backend.get_conv_algorithm()
    if kernel != [3, 3] or stride != (1, 1) or dilation != (1, 1) or max(padding) > 2 or algorithm == "direct":
        return 0
    if algorithm == "auto":
        return 4 if min(outs, channels) >= WORTH_WINOGRAD else 0
    return 4 if algorithm == "winograd4" else 2


def _direct(
    maps: np.ndarray,
    weight: np.ndarray,
    out: np.ndarray,
    stride: Pair,
    dilation: Pair,
    after: tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None, bool],
) -> None:
    """Convolve padded maps (N, H, W, C), and write the result into `out` (N, H', W', O), which may be part of a map."""
    work = math.prod(weight.shape[1:])
    packed = empty((max(kernels.padded_panels(len(weight)) * work, 1),))
    kernels.convolve(
        maps, weight, out, _pair(stride), _pair(dilation), *after, packed, backend.threads_for(out.size * work)
    )


def _winograd(
    maps: np.ndarray,
    weight: np.ndarray,
    out: np.ndarray,
    padding: Pair,
    after: tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None, bool],
    side: int,
) -> None:
    """Convolve maps (N, H, W, C) with Winograd's algorithm, and write the result into `out` (N, H', W', O)."""
    outs, channels = weight.shape[:2]
    threads = backend.threads_for(out.size * channels * 9)
    tiles = _count_tiles((len(out), outs, *out.shape[1:3]), side)
    scratch = empty((winograd.scratch_size(tiles, channels, outs, side, threads),))
    winograd.convolve(maps, weight, out, _pair(padding), *after, side, scratch, threads)


def _count_tiles(shape: tuple[int, ...], side: int) -> int:
    return shape[0] * -(-shape[2] // side) * -(-shape[3] // side)


def _input_gradient_by_phase(
    g: np.ndarray, weight: np.ndarray, shape: tuple[int, ...], stride: Pair, padding: Pair
) -> np.ndarray:
    """Return the gradient with respect to the maps, computed with one convolution for each phase.

    Along an axis, element p is multiplied by weight k in the window that begins at p + padding - k, if this number is a
    multiple of the stride. All elements with the same value of (p + padding) % stride therefore use the same weights.
    They form a phase.
    """
    out = empty_maps(shape)
    positions = pixels(out)
    for phase_y in range(stride[0]):
        for phase_x in range(stride[1]):
            phase_weights = weight[:, :, phase_y :: stride[0], phase_x :: stride[1]]
            first_y, first_x = (phase_y - padding[0]) % stride[0], (phase_x - padding[1]) % stride[1]
            part = positions[:, first_y :: stride[0], first_x :: stride[1]]
            if phase_weights.size == 0:
                part[...] = 0
            elif part.size:
                _fill_phase(
                    g, phase_weights, part, ((first_y + padding[0]) // stride[0], (first_x + padding[1]) // stride[1])
                )
    return out


def _fill_phase(g: np.ndarray, weight: np.ndarray, part: np.ndarray, first: Pair) -> None:
    """Compute the elements `part` (N, rows, columns, C) of one phase. The first element belongs to window `first`.

    `weight` (O, C, kernel height, kernel width) contains the weights of this phase.
    """
    rotated = weight[:, :, ::-1, ::-1].transpose(1, 0, 2, 3)
    before = [k - 1 - f for k, f in zip(weight.shape[2:], first, strict=True)]  # windows before the very first one
    after = [f + n - s for f, n, s in zip(first, part.shape[1:3], g.shape[2:], strict=True)]
    maps = pixels(g)
    pad = max(*before, *after, 0)
    maps = _padded(g, (pad, pad))[:, pad - before[0] :, pad - before[1] :]
    maps = np.ascontiguousarray(maps) if pad != before[0] or pad != before[1] else maps
    _direct(maps, rotated, part, (1, 1), (1, 1), (None, None, None, False))


def _input_gradient_spread(
    g: np.ndarray, rotated: np.ndarray, shape: tuple[int, ...], stride: Pair, padding: Pair, dilation: Pair
) -> np.ndarray:
    """Return the gradient of the maps: insert zeros into the upstream gradient `g`, convolve with `rotated` filters."""
    reach = [d * (k - 1) for d, k in zip(dilation, rotated.shape[2:], strict=True)]
    size = [s + 2 * p for s, p in zip(shape[2:], padding, strict=True)]  # of the padded maps
    spread = np.zeros((shape[0], size[0] + reach[0], size[1] + reach[1], g.shape[1]), g.dtype)
    spread[
        :,
        reach[0] : reach[0] + stride[0] * g.shape[2] : stride[0],
        reach[1] : reach[1] + stride[1] * g.shape[3] : stride[1],
    ] = pixels(g)
    out = empty_maps((shape[0], shape[1], size[0], size[1]))
    _direct(spread, rotated, pixels(out), (1, 1), dilation, (None, None, None, False))
    return out[:, :, padding[0] : padding[0] + shape[2], padding[1] : padding[1] + shape[3]]


def _padded(x: np.ndarray, padding: Pair) -> np.ndarray:
    """Return x, padded with zeros, as a contiguous (N, H + 2 * padding, W + 2 * padding, C) array."""
    if padding == (0, 0):
        return pixels(x)
    n, channels, height, width = x.shape
    out = empty((n, height + 2 * padding[0], width + 2 * padding[1], channels))
    kernels.pad(x.transpose(0, 2, 3, 1), _pair(padding), out, backend.threads_for(out.size))
    return out


def _vector(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values, np.float32)


def _pair(values: Pair) -> np.ndarray:
    return np.array(values, np.intp)

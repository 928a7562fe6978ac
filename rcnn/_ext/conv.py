"""Convolutions by the kernels: the functions of `rcnn.nn.conv`'s reference, in float32.

Two algorithms compute a convolution. The *direct* one sums over the window as it is written; it does every convolution.
*Winograd's* does those with 3x3 filters and stride 1, with 4 (`winograd4`) or 2.25 (`winograd2`) times fewer
multiplications; docs/speed.md explains how. `rcnn.set_conv_algorithm` chooses; "auto" takes winograd4 where it is
faster, which is where there are channels enough to pay for the transforms.

A gradient for the maps is itself a convolution, of the gradient with the filters turned round; with a stride s, one for
each of the s x s kinds of places that differ in which weights reach them. A gradient for the weights multiplies windows
with gradients and sums over all places.
"""

from __future__ import annotations

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

WORTH_WINOGRAD = 16  # channels and filters; with fewer, the transforms cost more than they save
TASKS = 32  # of a weights' gradient: enough for many threads, and the same number for any
TILES = 192  # that a weights' gradient by Winograd's algorithm takes at a time


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
    """Return relu(convolution * scale + bias + residual), (N, O, *size); `size` is (H', W').

    Declines a sum of no terms.
    """
    if weight.shape[1] == 0:
        return NotImplemented
    out = empty_maps((len(x), len(weight), *size))
    rest = None if residual is None else pixels(residual)
    side = _winograd_side(weight.shape, stride, padding, dilation)
    after = (None if scale is None else _vector(scale), None if bias is None else _vector(bias), rest, relu)
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
    """Return the gradient for the maps, of their `shape` (N, C, H, W)."""
    if weight.shape[1] == 0:
        return NotImplemented
    if 0 in shape:
        return empty_maps(shape)
    turned = weight[:, :, ::-1, ::-1].transpose(1, 0, 2, 3)  # (C, O, kernel height, kernel width)
    reach = [d * (k - 1) - p for d, k, p in zip(dilation, weight.shape[2:], padding, strict=True)]
    if stride == (1, 1) and min(reach) >= 0:
        size = (shape[2], shape[3])
        return convolve(g, turned, None, None, None, False, stride, (reach[0], reach[1]), dilation, size)
    if dilation != (1, 1):
        return _input_gradient_spread(g, turned, shape, stride, padding, dilation)
    return _input_gradient_by_kind(g, weight, shape, stride, padding)


def weight_gradient(
    g: np.ndarray, x: np.ndarray, shape: tuple[int, ...], stride: Pair, padding: Pair, dilation: Pair
) -> np.ndarray:
    """Return the gradient for the filters, of their `shape` (O, C, kernel height, kernel width)."""
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
    """The side of the tiles with which Winograd's algorithm computes this convolution, or 0: directly."""
    outs, channels, *kernel = weight_shape
    wanted = backend.get_conv_algorithm()
    if kernel != [3, 3] or stride != (1, 1) or dilation != (1, 1) or max(padding) > 2 or wanted == "direct":
        return 0
    if wanted == "auto":
        return 4 if min(outs, channels) >= WORTH_WINOGRAD else 0
    return 4 if wanted == "winograd4" else 2


def _direct(
    maps: np.ndarray,
    weight: np.ndarray,
    out: np.ndarray,
    stride: Pair,
    dilation: Pair,
    after: tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None, bool],
) -> None:
    """Fills out (N, H', W', O), any places of a map, from maps (N, H, W, C) that are padded already."""
    work = weight[0].size if len(weight) else 0
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
    """Fills out (N, H', W', O) from maps (N, H, W, C)."""
    outs, channels = weight.shape[:2]
    threads = backend.threads_for(out.size * channels * 9)
    tiles = _count_tiles((len(out), outs, *out.shape[1:3]), side)
    scratch = empty((winograd.scratch_size(tiles, channels, outs, side, threads),))
    winograd.convolve(maps, weight, out, _pair(padding), *after, side, scratch, threads)


def _count_tiles(shape: tuple[int, ...], side: int) -> int:
    return shape[0] * -(-shape[2] // side) * -(-shape[3] // side)


def _input_gradient_by_kind(
    g: np.ndarray, weight: np.ndarray, shape: tuple[int, ...], stride: Pair, padding: Pair
) -> np.ndarray:
    """The gradient for the maps, one convolution for each kind of places: those reached by the same weights.

    Along an axis, place p is under weight k of the window that begins at p + padding - k, if that is a multiple of the
    stride. So all places with the same (p + padding) % stride see the same weights, every stride-th.
    """
    out = empty_maps(shape)
    positions = pixels(out)
    for phase_y in range(stride[0]):
        for phase_x in range(stride[1]):
            some = weight[:, :, phase_y :: stride[0], phase_x :: stride[1]]
            first_y, first_x = (phase_y - padding[0]) % stride[0], (phase_x - padding[1]) % stride[1]
            part = positions[:, first_y :: stride[0], first_x :: stride[1]]
            if some.size == 0:
                part[...] = 0
            elif part.size:
                _fill_kind(g, some, part, ((first_y + padding[0]) // stride[0], (first_x + padding[1]) // stride[1]))
    return out


def _fill_kind(g: np.ndarray, some: np.ndarray, part: np.ndarray, first: Pair) -> None:
    """Fills `part` (N, rows, columns, C), places of one kind, of which the first is under window `first`.

    some: the weights that reach them, (O, C, kernel height, kernel width).
    """
    turned = some[:, :, ::-1, ::-1].transpose(1, 0, 2, 3)
    before = [k - 1 - f for k, f in zip(some.shape[2:], first, strict=True)]  # windows before the first of all
    after = [f + n - s for f, n, s in zip(first, part.shape[1:3], g.shape[2:], strict=True)]
    maps = pixels(g)
    pad = max(*before, *after, 0)
    maps = _padded(g, (pad, pad))[:, pad - before[0] :, pad - before[1] :]
    maps = np.ascontiguousarray(maps) if pad != before[0] or pad != before[1] else maps
    _direct(maps, turned, part, (1, 1), (1, 1), (None, None, None, False))


def _input_gradient_spread(
    g: np.ndarray, turned: np.ndarray, shape: tuple[int, ...], stride: Pair, padding: Pair, dilation: Pair
) -> np.ndarray:
    """The gradient for the maps: the places' gradients spread out by the stride, convolved with the filters turned."""
    reach = [d * (k - 1) for d, k in zip(dilation, turned.shape[2:], strict=True)]
    size = [s + 2 * p for s, p in zip(shape[2:], padding, strict=True)]  # of the padded maps
    spread = np.zeros((shape[0], size[0] + reach[0], size[1] + reach[1], g.shape[1]), g.dtype)
    spread[
        :,
        reach[0] : reach[0] + stride[0] * g.shape[2] : stride[0],
        reach[1] : reach[1] + stride[1] * g.shape[3] : stride[1],
    ] = pixels(g)
    out = empty_maps((shape[0], shape[1], size[0], size[1]))
    _direct(spread, turned, pixels(out), (1, 1), dilation, (None, None, None, False))
    return out[:, :, padding[0] : padding[0] + shape[2], padding[1] : padding[1] + shape[3]]


def _padded(x: np.ndarray, padding: Pair) -> np.ndarray:
    """(N, H + 2 * padding, W + 2 * padding, C), contiguous, with zeros around."""
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

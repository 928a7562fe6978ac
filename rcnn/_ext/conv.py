"""The drivers of the convolution kernels: the same functions as the references in `rcnn.nn.conv`, in float32.

Two algorithms compute a convolution. The *direct* algorithm sums over each window as in the definition, and can compute
every convolution. *Winograd's* algorithm can compute convolutions with 3x3 filters, stride 1 and one group of channels.
It reduces the number of multiplications by a factor of 4 (`winograd4`) or 2.25 (`winograd2`); docs/speed.md explains
how. `rcnn.set_conv_algorithm` chooses the algorithm. "auto" uses winograd4 if there are enough channels and pixels:
the smaller number of multiplications then saves more time than the transforms cost. A *depthwise* convolution, which
has one filter per channel, has kernels of its own.

The gradient with respect to the maps is also a convolution: the gradient of the result is convolved with the filters,
rotated by 180 degrees. If the stride is s, the elements of the maps form s x s groups (*phases*). Elements of different
phases use different weights, so there is one convolution for each phase. The gradient with respect to the weights is a
sum over all positions: the window at each position times the gradient at this position.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING

import numpy as np

from rcnn._ext import backend, load
from rcnn._ext.elementwise import ACTIVATIONS, activate
from rcnn._ext.layout import pixels
from rcnn._ext.memory import empty, empty_filters, empty_maps

if TYPE_CHECKING:
    from rcnn._ext import _conv as kernels
    from rcnn._ext import _depthwise as depthwise
    from rcnn._ext import _winograd as winograd
else:
    kernels, depthwise, winograd = load("_conv"), load("_depthwise"), load("_winograd")

Pair = tuple[int, int]
After = tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None, int]  # scale, shift, residual, activation
NOTHING: After = (None, None, None, 0)

WORTH_WINOGRAD = 16  # channels and filters; with fewer of them, the transforms take more time than they save
WORTH_TRANSFORM = 256  # pixels; for fewer, transforming the filters takes longer than the direct algorithm
LARGE = 1 << 20  # weights; if there are more, they do not fit into the second-level cache, so packing them takes long
TASKS = 32  # parts of a weight gradient: enough for many threads, and independent of the number of threads
TILES = 192  # tiles that a weight gradient by Winograd's algorithm processes at a time


def convolve(
    x: np.ndarray,
    weight: np.ndarray,
    scale: np.ndarray | None,
    bias: np.ndarray | None,
    residual: np.ndarray | None,
    activation: str | None,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
    size: Pair,
) -> np.ndarray:
    """Return activation(convolution * scale + bias + residual) of shape (N, O, *size), where `size` is (H', W').

    If the input has no channels, return NotImplemented, so that the reference runs.
    """
    if weight.shape[1] == 0:
        return NotImplemented
    out = empty_maps((len(x), len(weight), *size))
    added = None if residual is None else pixels(residual)
    side = _winograd_side(weight.shape, stride, padding, dilation, groups, len(x) * math.prod(size))
    code = ACTIVATIONS.index(activation)
    after = (None if scale is None else _vector(scale), None if bias is None else _vector(bias), added, code)
    if out.size == 0:
        return out
    is_whole = x.shape[1:] == weight.shape[1:] and padding == (0, 0)  # whether the window is the whole map
    if scale is residual is None and is_whole and _has_few_rows(x, weight):
        _multiply_filters(x, weight, bias, activation, pixels(out))
    elif _is_depthwise(weight.shape, groups):
        _depthwise(pixels(x), weight, pixels(out), stride, padding, dilation, after)
    elif side:
        _winograd(pixels(x), weight, pixels(out), padding, after, side)
    else:
        _direct(_padded(x, padding), weight, pixels(out), stride, dilation, groups, after)
    return out


def input_gradient(
    g: np.ndarray,
    weight: np.ndarray,
    shape: tuple[int, ...],
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
) -> np.ndarray:
    """Return the gradient with respect to the maps, whose shape is `shape` (N, C, H, W)."""
    if weight.shape[1] == 0:
        return NotImplemented
    if 0 in shape:
        return empty_maps(shape)
    if _is_depthwise(weight.shape, groups):
        return _depthwise_input_gradient(g, weight, shape, stride, padding, dilation)
    if g.shape[2:] == (1, 1) and weight.shape[2:] == shape[2:] and padding == (0, 0) and groups == 1:
        return _input_gradient_of_vectors(g, weight, shape)
    rotated = _rotated(weight, groups)
    reach = [d * (k - 1) - p for d, k, p in zip(dilation, weight.shape[2:], padding, strict=True)]
    if stride == (1, 1) and min(reach) >= 0:
        size = (shape[2], shape[3])
        return convolve(g, rotated, None, None, None, None, stride, (reach[0], reach[1]), dilation, groups, size)
    if dilation != (1, 1):
        return _input_gradient_spread(g, rotated, shape, stride, padding, dilation, groups)
    return _input_gradient_by_phase(g, weight, shape, stride, padding, groups)


def weight_gradient(
    g: np.ndarray,
    x: np.ndarray,
    shape: tuple[int, ...],
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
) -> np.ndarray:
    """Return the gradient with respect to the filters, whose shape is `shape` (O, C / groups, kh, kw)."""
    outs, channels, height, width = shape
    if channels == 0:
        return NotImplemented
    out = empty(shape)
    side = _winograd_side(shape, stride, padding, dilation, groups)
    if g.size == 0:
        out[...] = 0
        return out
    grad = pixels(g)
    threads = backend.threads_for(g.size * channels * height * width)
    if _is_depthwise(shape, groups):
        parts = empty((min(TASKS, len(grad) * grad.shape[1]), height, width, outs))
        depthwise.weight_gradient(pixels(x), grad, parts, _pair(stride), _pair(padding), _pair(dilation), threads)
        out[:, 0] = parts.sum(axis=0, dtype=np.float64).transpose(2, 0, 1)
        return out
    if side:
        tiles = min(TILES, _count_tiles(g.shape, side))
        scratch = empty((winograd.weight_gradient_scratch_size(tiles, channels, outs, side),))
        winograd.weight_gradient(pixels(x), grad, out, _pair(padding), side, tiles, scratch, threads)
        return out
    positions = g.size // max(outs, 1)
    runs = (height, width * channels) if groups == 1 else (height * width, channels)
    tasks = kernels.gradient_tasks(outs, groups, *runs)
    parts = empty((max(1, min(TASKS // tasks, positions // 1024)), outs, height * width * channels))
    steps = (_pair(stride), _pair(dilation))
    kernels.weight_gradient(_padded(x, padding), grad, parts, height, width, *steps, groups, threads)
    kernels.gather_weights(parts, out, backend.threads_for(parts.size))
    return out


def _is_depthwise(weight_shape: tuple[int, ...], groups: int) -> bool:
    """Return whether every channel has one filter of its own. Filters (O, 1, kh, kw) with O > groups are not enough."""
    return groups > 1 and weight_shape[:2] == (groups, 1)


def _rotated(weight: np.ndarray, groups: int) -> np.ndarray:
    """Return filters (O, C / G, kh, kw), rotated by 180 degrees, as the filters (C, O / G, kh, kw) of a gradient."""
    outs, channels, *kernel = weight.shape
    split = weight[:, :, ::-1, ::-1].reshape(groups, outs // groups, channels, *kernel)
    return split.transpose(0, 2, 1, 3, 4).reshape(groups * channels, outs // groups, *kernel)


def _winograd_side(
    weight_shape: tuple[int, ...], stride: Pair, padding: Pair, dilation: Pair, groups: int, positions: float = math.inf
) -> int:
    """Return the side of Winograd's tiles for this convolution, or 0 for the direct algorithm.

    `positions` is the number of pixels of the result, if the filters are transformed.
    """
    outs, channels, *kernel = weight_shape
    algorithm = backend.get_conv_algorithm()
    if kernel != [3, 3] or stride != (1, 1) or dilation != (1, 1) or max(padding) > 2 or groups > 1:
        return 0
    if algorithm == "direct":
        return 0
    if algorithm == "auto":
        return 4 if min(outs, channels) >= WORTH_WINOGRAD and positions >= WORTH_TRANSFORM else 0
    return 4 if algorithm == "winograd4" else 2


def _direct(
    maps: np.ndarray,
    weight: np.ndarray,
    out: np.ndarray,
    stride: Pair,
    dilation: Pair,
    groups: int,
    after: After,
) -> None:
    """Convolve padded maps (N, H, W, C), and write the result into `out` (N, H', W', O), which may be part of a map."""
    work = math.prod(weight.shape[1:])
    size = kernels.padded_panels(len(weight), groups) * work
    packed, is_packed = empty_filters(weight, max(size, 1), f"packed in {groups} groups")
    threads = backend.threads_for(out.size * work)
    kernels.convolve(maps, weight, out, _pair(stride), _pair(dilation), *after, groups, packed, is_packed, threads)


def _has_few_rows(x: np.ndarray, weight: np.ndarray) -> bool:
    """Return whether it is faster to read filters (O, C, H, W) as they are, and to pack the maps (N, C, H, W)."""
    return len(x) == 1 or (weight.size > LARGE and 2 * len(x) <= len(weight))


def _multiply_filters(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, activation: str | None, out: np.ndarray
) -> None:
    """Write activation(weight x^T + bias)^T into `out` (N, 1, 1, O), for N maps that are as large as the O filters.

    The maps and the filters change places: the maps, which are smaller, are packed into panels, and the filters are
    read once, in the order in which they are stored. BLAS multiplies a single vector.
    """
    n, outs, length = len(x), len(weight), math.prod(weight.shape[1:])
    packable = empty(x.shape)  # in the order (C, H, W) of the filters
    kernels.gather_weights(pixels(x).reshape(1, n, length), packable, backend.threads_for(x.size))
    rows, products = np.ascontiguousarray(weight).reshape(1, outs, 1, length), empty((1, outs, 1, n))
    out = out.reshape(n, outs)
    with np.errstate(all="ignore"):  # the values can be infinite
        if n == 1:
            np.matmul(rows[0, :, 0], packable.reshape(length), out=products[0, :, 0, 0])
        else:
            _direct(rows, packable.reshape(n, length, 1, 1), products, (1, 1), (1, 1), 1, NOTHING)
        np.add(products.reshape(outs, n).T, 0 if bias is None else bias, out=out)
    if activation is not None:
        out[...] = activate(out, activation)


def _depthwise(
    maps: np.ndarray,
    weight: np.ndarray,
    out: np.ndarray,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    after: After,
) -> None:
    """Convolve each channel of maps (N, H, W, C) with its filter, and write the result into `out` (N, H', W', C)."""
    places = np.ascontiguousarray(weight[:, 0].transpose(1, 2, 0))  # (kh, kw, C)
    threads = backend.threads_for(out.size * weight.shape[2] * weight.shape[3])
    depthwise.convolve(maps, places, out, _pair(stride), _pair(padding), _pair(dilation), *after, threads)


def _winograd(
    maps: np.ndarray,
    weight: np.ndarray,
    out: np.ndarray,
    padding: Pair,
    after: After,
    side: int,
) -> None:
    """Convolve maps (N, H, W, C) with Winograd's algorithm, and write the result into `out` (N, H', W', O)."""
    outs, channels = weight.shape[:2]
    threads = backend.threads_for(out.size * channels * 9)
    tiles = _count_tiles((len(out), outs, *out.shape[1:3]), side)
    size = winograd.transformed_size(channels, outs, side)
    transformed, is_transformed = empty_filters(weight, size, f"transformed for side {side}")
    scratch = empty((winograd.scratch_size(tiles, channels, outs, side, threads),))
    winograd.convolve(maps, weight, out, _pair(padding), *after, side, transformed, is_transformed, scratch, threads)


def _count_tiles(shape: tuple[int, ...], side: int) -> int:
    return shape[0] * -(-shape[2] // side) * -(-shape[3] // side)


def _depthwise_input_gradient(
    g: np.ndarray, weight: np.ndarray, shape: tuple[int, ...], stride: Pair, padding: Pair, dilation: Pair
) -> np.ndarray:
    """Return the gradient with respect to the maps of a depthwise convolution, with one convolution for each phase."""
    out, maps = empty_maps(shape), pixels(g)
    positions = pixels(out)
    rows, columns = (_phases(weight.shape[2 + axis], stride[axis], padding[axis], dilation[axis]) for axis in (0, 1))
    for first_y, (weights_y, pad_y, dilation_y) in enumerate(rows):
        for first_x, (weights_x, pad_x, dilation_x) in enumerate(columns):
            part = positions[:, first_y :: stride[0], first_x :: stride[1]]
            phase_weights = weight[:, :, weights_y, weights_x][:, :, ::-1, ::-1]
            if phase_weights.size == 0:
                part[...] = 0
            elif part.size:
                _depthwise(maps, phase_weights, part, (1, 1), (pad_y, pad_x), (dilation_y, dilation_x), NOTHING)
    return out


def _phases(kernel: int, stride: int, padding: int, dilation: int) -> list[tuple[slice, int, int]]:
    """Return the weights of each phase along an axis, and the padding and the dilation of the phase's convolution.

    Element p is multiplied by weight k in window (p + padding - k * dilation) / stride, if this number is whole. The
    elements p = first, first + stride, ... therefore use the same weights, which are `step` apart. The padding of their
    convolution can be negative.
    """
    common = math.gcd(stride, dilation)
    step = stride // common
    phases = []
    for first in range(stride):
        use = [k for k in range(min(kernel, step)) if (first + padding - k * dilation) % stride == 0]
        if not use:
            phases.append((slice(0, 0), 0, 1))
            continue
        weights, window = slice(use[0], None, step), (first + padding - use[0] * dilation) // stride
        reach = (len(range(use[0], kernel, step)) - 1) * (dilation // common)
        phases.append((weights, reach - window, dilation // common))
    return phases


def _input_gradient_of_vectors(g: np.ndarray, weight: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return the gradient with respect to maps that are as large as the window: a product of two matrices."""
    out = empty_maps(shape)
    matrix = np.ascontiguousarray(weight.transpose(0, 2, 3, 1)).reshape(len(weight), -1)  # (O, kh * kw * C)
    rows = pixels(out).reshape(len(out), 1, 1, -1)  # (N, 1, 1, kh * kw * C)
    _direct(pixels(g), matrix.T[:, :, None, None], rows, (1, 1), (1, 1), 1, NOTHING)
    return out


def _input_gradient_by_phase(
    g: np.ndarray, weight: np.ndarray, shape: tuple[int, ...], stride: Pair, padding: Pair, groups: int
) -> np.ndarray:
    """Return the gradient with respect to the maps, computed with one convolution for each phase.

    Along an axis, element p is multiplied by weight k in the window that begins at p + padding - k, if this number is a
    multiple of the stride. All elements with the same value of (p + padding) % stride therefore use the same weights.
    They form a phase.
    """
    out = empty_maps(shape)
    positions = pixels(out)
    phases = []  # for each phase: its weights, its part of the result, and the first window of the convolution
    for phase_y in range(stride[0]):
        for phase_x in range(stride[1]):
            phase_weights = weight[:, :, phase_y :: stride[0], phase_x :: stride[1]]
            first_y, first_x = (phase_y - padding[0]) % stride[0], (phase_x - padding[1]) % stride[1]
            part = positions[:, first_y :: stride[0], first_x :: stride[1]]
            if phase_weights.size == 0:
                part[...] = 0
            elif part.size:
                top = (first_y + padding[0]) // stride[0] - phase_weights.shape[2] + 1
                left = (first_x + padding[1]) // stride[1] - phase_weights.shape[3] + 1
                phases.append((phase_weights, part, top, left))
    maps, before = _padded_for(g, phases)
    for phase_weights, part, top, left in phases:
        own = maps[:, before[0] + top :, before[1] + left :]
        _direct(own, _rotated(phase_weights, groups), part, (1, 1), (1, 1), groups, NOTHING)
    return out


def _padded_for(g: np.ndarray, phases: list[tuple[np.ndarray, np.ndarray, int, int]]) -> tuple[np.ndarray, Pair]:
    """Return `g`, padded with zeros so that it contains the windows of all phases, and the padding."""
    pads = []
    for axis in (0, 1):
        before = [-first[axis] for _, _, *first in phases]
        after = [
            first[axis] + part.shape[1 + axis] + weights.shape[2 + axis] - 1 - g.shape[2 + axis]
            for weights, part, *first in phases
        ]
        pads.append(max([0, *before, *after]))
    return _padded(g, (pads[0], pads[1])), (pads[0], pads[1])


def _input_gradient_spread(
    g: np.ndarray,
    rotated: np.ndarray,
    shape: tuple[int, ...],
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
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
    _direct(spread, rotated, pixels(out), (1, 1), dilation, groups, NOTHING)
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


@functools.lru_cache(256)
def _pair(values: Pair) -> np.ndarray:
    return np.array(values, np.intp)

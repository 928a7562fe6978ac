"""Operations on tensors, each with its gradient written out.

Convolution and pooling are in `rcnn.nn.convolution`; they are offered here too, so that `functional` is the one place
to look. Losses of nothing (no rows, no samples) are 0, not NaN.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rcnn.nn.convolution import avg_pool2d, channels_last, check_maps, conv2d, max_pool2d, pair
from rcnn.nn.random import generator
from rcnn.nn.tensor import Tensor, as_tensor, check_tensor, concatenate, record

__all__ = [
    "adaptive_avg_pool2d", "avg_pool2d", "batch_norm", "binary_cross_entropy_with_logits", "channels_last",
    "concatenate", "conv2d", "cross_entropy", "dropout", "interpolate", "leaky_relu", "linear", "log_softmax",
    "max_pool2d", "relu", "sigmoid", "smooth_l1_loss", "softmax",
]


# ---------------------------------------------------------------------- layers

def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x W^T + b, (N, O). x: (N, I); weight: (O, I), as in PyTorch; bias: (O,) or None."""
    check_tensor("linear", x)
    if x.ndim != 2 or x.shape[1] != weight.shape[1]:
        raise ValueError(f"linear takes (N, {weight.shape[1]}), not {x.shape}")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"bias must have the shape {weight.shape[:1]}, a value per output, not {bias.shape}")
    out = x.data @ weight.data.T
    if bias is not None:
        out += bias.data

    def vjp(g: np.ndarray) -> tuple[np.ndarray | None, ...]:
        g_x = g @ weight.data if x.requires_grad else None
        g_weight = g.T @ x.data if weight.requires_grad else None
        return (g_x, g_weight) if bias is None else (g_x, g_weight, g.sum(axis=0))

    return record(out, (x, weight) if bias is None else (x, weight, bias), vjp)


def relu(x: Tensor) -> Tensor:
    """max(x, 0); the gradient at 0 is 0."""
    out = np.maximum(x.data, 0)
    return record(out, (x,), lambda g: (g * (out > 0),))


def leaky_relu(x: Tensor, negative_slope: float = 0.01) -> Tensor:
    """x where it is positive, `negative_slope` times x elsewhere."""
    slope = np.where(x.data > 0, x.dtype.type(1), x.dtype.type(negative_slope))
    return record(x.data * slope, (x,), lambda g: (g * slope,))


def dropout(x: Tensor, p: float = 0.5, training: bool = True, rng: np.random.Generator | None = None) -> Tensor:
    """x with each element set to 0 with probability p and the others divided by 1 - p; x itself when not training.

    Srivastava et al., "Dropout", JMLR 2014.
    """
    if not 0 <= p < 1:
        raise ValueError(f"p must be in [0, 1), not {p}")
    if not training or p == 0:
        return x
    kept = generator(rng).random(x.shape, dtype=np.float32) >= p
    scale = kept * x.dtype.type(1 / (1 - p))
    return record(x.data * scale, (x,), lambda g: (g * scale,))


def batch_norm(x: Tensor, running_mean: np.ndarray, running_var: np.ndarray, weight: Tensor, bias: Tensor,
               training: bool = False, momentum: float = 0.1, eps: float = 1e-5) -> Tensor:
    """(x - mean) / sqrt(var + eps) * weight + bias per channel, (N, C, H, W).

    In training, mean and variance are the batch's, and `running_mean` and `running_var` (C,) move towards them by
    `momentum`, in place (the variance with Bessel's correction, as in PyTorch); else they are the running ones.
    Ioffe and Szegedy, "Batch normalization", 2015.
    """
    check_maps("batch_norm", x)
    n, channels, height, width = x.shape
    if weight.shape != (channels,):
        raise ValueError(f"batch_norm of {weight.size} channels was given maps of {channels}: {x.shape}")
    values = np.ascontiguousarray(x.data.transpose(0, 2, 3, 1)).reshape(-1, channels)  # (M, C)
    count = len(values)
    if training:
        if count < 2:
            raise ValueError(f"batch_norm in training needs more than one value per channel, not a map of {x.shape}")
        average = np.full(count, 1 / count, x.dtype)
        mean = average @ values
        centred = values - mean
        var = average @ (centred * centred)
        running_mean += momentum * (mean - running_mean)
        running_var += momentum * (var * (count / (count - 1)) - running_var)
    else:
        mean, var = running_mean, running_var
        centred = values - mean
    scale = 1 / np.sqrt(var + x.dtype.type(eps))  # (C,)
    normal = centred
    normal *= scale
    gain = weight.data
    out = normal * gain
    out += bias.data

    def vjp(g: np.ndarray) -> tuple[np.ndarray, ...]:
        g = np.ascontiguousarray(g.transpose(0, 2, 3, 1)).reshape(-1, channels)
        ones = np.ones(count, g.dtype)
        g_bias = ones @ g
        g_weight = ones @ (g * normal)
        g_x = g
        if training:  # the mean and the variance depend on x as well
            g_x = g - normal * (g_weight / count)
            g_x -= g_bias / count
        g_x = g_x * (gain * scale)
        return g_x.reshape(n, height, width, channels).transpose(0, 3, 1, 2), g_weight, g_bias

    return record(out.reshape(n, height, width, channels).transpose(0, 3, 1, 2), (x, weight, bias), vjp)


def adaptive_avg_pool2d(x: Tensor, output_size: int | tuple[int, int]) -> Tensor:
    """The mean over the whole map for output_size 1; in general over a grid of that many rows and columns of cells.

    Cell i of k along a side n covers floor(i n / k) to ceil((i + 1) n / k), as in PyTorch.
    """
    check_maps("adaptive_avg_pool2d", x)
    rows, columns = pair("output_size", output_size, 1)
    return _separable(x, _averaging(rows, x.shape[2]), _averaging(columns, x.shape[3]))


def interpolate(x: Tensor, size: tuple[int, int], mode: str = "nearest") -> Tensor:
    """The maps resampled to `size` (height, width), (N, C, *size). mode: "nearest" or "bilinear".

    Pixel centres lie at half positions (PyTorch's align_corners=False); there is no antialiasing.
    """
    if mode not in ("nearest", "bilinear"):
        raise ValueError(f"mode must be 'nearest' or 'bilinear', not {mode!r}")
    check_maps("interpolate", x)
    height, width = pair("size", size, 1)
    matrix = nearest_matrix if mode == "nearest" else bilinear_matrix
    return _separable(x, matrix(height, x.shape[2]), matrix(width, x.shape[3]))


def nearest_matrix(out: int, size: int) -> np.ndarray:
    """(out, size): row i picks the source that output i shows, floor(i * size / out)."""
    matrix = np.zeros((out, size))
    scale = np.float32(size) / np.float32(out)  # PyTorch's own arithmetic decides which one where it is close
    source = np.minimum(np.floor(np.arange(out, dtype=np.float32) * scale).astype(np.int64), size - 1)
    matrix[np.arange(out), source] = 1
    return matrix


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
    return record(_apply_separable(x.data, rows, columns), (x,),
                  lambda g: (_apply_separable(g, rows.T, columns.T),))


def _apply_separable(features: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    n, channels, height, width = features.shape
    maps = np.ascontiguousarray(features.transpose(0, 2, 3, 1)).reshape(n, height, width * channels)
    maps = rows @ maps  # (N, H', W * C)
    maps = columns @ maps.reshape(n * len(rows), width, channels)  # (N * H', W', C)
    return maps.reshape(n, len(rows), len(columns), channels).transpose(0, 3, 1, 2)


# ---------------------------------------------------------------------- probabilities

def sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + exp(-x)), without overflow at either end."""
    out = sigmoid_of(x.data)
    return record(out, (x,), lambda g: (g * out * (1 - out),))


def softmax(x: Tensor, axis: int = -1) -> Tensor:
    """exp(x) / sum(exp(x)) along an axis, without overflow."""
    out = softmax_of(x.data, axis)
    return record(out, (x,), lambda g: (out * (g - (g * out).sum(axis, keepdims=True)),))


def log_softmax(x: Tensor, axis: int = -1) -> Tensor:
    """The logarithm of the softmax along an axis."""
    out = _log_softmax_of(x.data, axis)
    return record(out, (x,), lambda g: (g - np.exp(out) * g.sum(axis, keepdims=True),))


def sigmoid_of(x: np.ndarray) -> np.ndarray:
    """The sigmoid of an array, as an array."""
    small = np.exp(-np.abs(x))  # in (0, 1]: nothing overflows
    return np.where(x >= 0, 1 / (1 + small), small / (1 + small))


def softmax_of(x: np.ndarray, axis: int = -1) -> np.ndarray:
    """The softmax of an array, as an array."""
    e = np.exp(x - x.max(axis, keepdims=True, initial=-np.inf))
    return e / e.sum(axis, keepdims=True)


def _log_softmax_of(x: np.ndarray, axis: int) -> np.ndarray:
    shifted = x - x.max(axis, keepdims=True, initial=-np.inf)
    return shifted - np.log(np.exp(shifted).sum(axis, keepdims=True))


# ---------------------------------------------------------------------- losses

def cross_entropy(logits: Tensor, labels: np.ndarray) -> Tensor:
    """The mean of -log softmax(logits)[label], a scalar. logits: (R, L); labels: (R,) integers in 0 .. L-1."""
    if logits.ndim != 2:
        raise ValueError(f"cross_entropy takes logits of shape (R, L), not {logits.shape}")
    count, classes = logits.shape
    labels = np.asarray(labels)
    if labels.size and labels.dtype.kind not in "iu":
        raise TypeError(f"labels must be integers, not {labels.dtype}")
    labels = labels.astype(np.int64)  # an empty list came as floats
    if labels.shape != (count,):
        raise ValueError(f"cross_entropy takes one label per row: {count} rows, labels of shape {labels.shape}")
    if count and not 0 <= labels.min() <= labels.max() < classes:
        raise ValueError(f"labels must be in 0 .. {classes - 1}, not {labels.min()} .. {labels.max()}")
    rows, count = np.arange(count), max(count, 1)
    log_p = _log_softmax_of(logits.data, -1)

    def vjp(g: np.ndarray) -> tuple[np.ndarray]:
        g_logits = np.exp(log_p)
        g_logits[rows, labels] -= 1
        return (g_logits * (g / count),)

    return record(-log_p[rows, labels].sum() / count, (logits,), vjp)


def binary_cross_entropy_with_logits(logits: Tensor, targets: np.ndarray) -> Tensor:
    """The mean of -(t log p + (1 - t) log(1 - p)) with p = sigmoid(logits), a scalar. Both of one shape."""
    z, t = logits.data, np.asarray(targets, logits.dtype)
    if z.shape != t.shape:
        raise ValueError(f"logits have shape {z.shape}, targets {t.shape}")
    count = max(z.size, 1)
    loss = np.maximum(z, 0) - z * t + np.log1p(np.exp(-np.abs(z)))  # the same, written so that nothing overflows
    return record(loss.sum() / count, (logits,), lambda g: ((sigmoid_of(z) - t) * (g / count),))


def smooth_l1_loss(prediction: Tensor, target: Tensor | np.ndarray, beta: float = 1.0) -> Tensor:
    """The *sum* of d^2 / (2 beta) where |d| < beta and of |d| - beta / 2 elsewhere, d = prediction - target, a scalar.

    Girshick, "Fast R-CNN", 2015, equation 3 (there beta is 1).
    """
    target = as_tensor(target, prediction.dtype)
    if prediction.shape != target.shape:
        raise ValueError(f"prediction has shape {prediction.shape}, target {target.shape}")
    if beta <= 0:
        raise ValueError(f"beta must be above 0, not {beta}")
    beta = float(beta)  # a NumPy number would carry its own dtype into the result
    d = prediction.data - target.data
    size = np.abs(d)
    loss = np.where(size < beta, d * d * (0.5 / beta), size - 0.5 * beta)

    def vjp(g: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        slope = np.clip(d / beta, -1, 1) * g
        return slope, -slope if target.requires_grad else None

    return record(loss.sum(), (prediction, target), vjp)

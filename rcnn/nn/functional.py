"""Operations on tensors, each with its gradient written out.

Convolution is in `rcnn.nn.conv`, pooling in `rcnn.nn.pooling`, resampling in `rcnn.nn.resize`; they are
offered here too, so that `functional` is the one place to look. Losses of nothing (no rows, no samples) are 0, not NaN.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rcnn.nn import elementwise
from rcnn.nn.conv import conv2d, matrix_product
from rcnn.nn.fusion import extend, result_of
from rcnn.nn.pooling import avg_pool2d, max_pool2d
from rcnn.nn.random import generator
from rcnn.nn.resize import adaptive_avg_pool2d, interpolate, upsample_add
from rcnn.nn.tensor import Tensor, as_tensor, check_tensor, concatenate, is_recording, record
from rcnn.nn.windows import channels_last, check_maps

__all__ = [
    "adaptive_avg_pool2d",
    "avg_pool2d",
    "batch_norm",
    "binary_cross_entropy_with_logits",
    "channels_last",
    "concatenate",
    "conv2d",
    "cross_entropy",
    "dropout",
    "interpolate",
    "leaky_relu",
    "linear",
    "log_softmax",
    "max_pool2d",
    "relu",
    "scale_and_shift",
    "sigmoid",
    "smooth_l1_loss",
    "softmax",
    "upsample_add",
]


# ---------------------------------------------------------------------- layers


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return x W^T + b, (N, O).

    Parameters
    ----------
    x : (N, I), or maps (N, C, H, W) with C * H * W = I
        Maps are taken as `x.flatten(start_dim=1)`, without a copy: they lie channels last in memory, and a product with
        all of a map is a convolution whose window is the whole map.
    weight : (O, I)
        As in PyTorch.
    bias : (O,), optional

    Raises TypeError for what is not a tensor, ValueError for shapes that do not match.
    """
    check_tensor("linear", x)
    if x.ndim == 4:
        maps = x
    elif x.ndim == 2:
        maps = x.reshape(*x.shape, 1, 1)
    else:
        raise ValueError(f"linear takes (N, {weight.shape[1]}) or maps (N, C, H, W), not {x.shape}")
    columns = math.prod(maps.shape[1:])
    if weight.ndim != 2 or weight.shape[1] != columns:
        raise ValueError(f"linear takes (N, {weight.shape[-1]}), not {x.shape}")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"bias must have the shape {weight.shape[:1]}, a value per output, not {bias.shape}")
    return matrix_product(maps, weight, bias)


def relu(x: Tensor) -> Tensor:
    """max(x, 0); the gradient at 0 is 0."""
    extended = extend(x, "rectified")
    if extended is not None:
        return extended.computed()  # nothing more can join the pass
    out = elementwise.relu(x.data)
    return record(out, (x,), lambda g: (elementwise.leaky_relu_gradient(g, out, 0.0),))


def leaky_relu(x: Tensor, negative_slope: float = 0.01) -> Tensor:
    """X where it is positive, `negative_slope` times x elsewhere."""
    slope = float(negative_slope)  # a NumPy number would carry its own dtype into the result
    return record(elementwise.relu(x.data, slope), (x,), lambda g: (elementwise.leaky_relu_gradient(g, x.data, slope),))


def dropout(x: Tensor, p: float = 0.5, training: bool = True, rng: np.random.Generator | None = None) -> Tensor:
    """X with each element set to 0 with probability p and the others divided by 1 - p; x itself when not training.

    Srivastava et al., "Dropout", JMLR 2014.
    """
    if not 0 <= p < 1:
        raise ValueError(f"p must be in [0, 1), not {p}")
    if not training or p == 0:
        return x
    kept = generator(rng).random(x.shape, dtype=np.float32) >= p
    scale = kept * x.dtype.type(1 / (1 - p))
    return record(x.data * scale, (x,), lambda g: (g * scale,))


def scale_and_shift(x: Tensor, scale: np.ndarray, shift: np.ndarray) -> Tensor:
    """Return x * scale + shift with constants (C,) for each channel, (N, C, H, W)."""
    check_maps("scale_and_shift", x)
    if not scale.shape == shift.shape == x.shape[1:2]:
        raise ValueError(f"scale and shift must have the shape {x.shape[1:2]}, got {scale.shape} and {shift.shape}")
    extended = extend(x, "scaled", scale, shift)
    return x * scale[:, None, None] + shift[:, None, None] if extended is None else extended


def batch_norm(
    x: Tensor,
    running_mean: np.ndarray,
    running_var: np.ndarray,
    weight: Tensor,
    bias: Tensor,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Return (x - mean) / sqrt(var + eps) * weight + bias per channel, (N, C, H, W).

    In training, mean and variance are the batch's, and `running_mean` and `running_var` (C,) move towards them by
    `momentum`, in place (the variance with Bessel's correction, as in PyTorch); else they are the running ones.
    Ioffe and Szegedy, "Batch normalization", 2015.

    Raises TypeError for what is not a tensor, ValueError for shapes that do not match, or in training for a single
    value per channel.
    """
    check_maps("batch_norm", x)
    channels, count = x.shape[1], x.size // max(x.shape[1], 1)
    for values in (weight, bias, running_mean, running_var):
        if values.shape != (channels,):
            raise ValueError(f"batch_norm of {values.size} channels was given maps of {channels}: {x.shape}")
    if not training and not is_recording():
        scale = weight.data / np.sqrt(running_var + running_var.dtype.type(eps))  # (C,)
        extended = extend(x, "scaled", scale, bias.data - running_mean * scale)
        if extended is not None:
            return extended
    if training:
        if count < 2:
            raise ValueError(f"batch_norm in training needs more than one value per channel, not a map of {x.shape}")
        mean, var = elementwise.batch_statistics(x.data)
        running_mean += momentum * (mean - running_mean)
        running_var += momentum * (var * (count / (count - 1)) - running_var)
    else:
        mean, var = running_mean.copy(), running_var  # a copy: they may move on before the gradient is asked for
    scale = 1 / np.sqrt(var + x.dtype.type(eps))  # (C,)
    return result_of(Normalisation(x.computed(), weight, bias, mean, scale, training))


@dataclass(frozen=True)
class Normalisation:
    """relu((x - mean) * scale * weight + bias + residual), per channel; see `rcnn.nn.fusion`.

    depends: whether mean and scale are those of x itself, as in training, so that the gradient flows through them too.
    """

    x: Tensor
    weight: Tensor
    bias: Tensor
    mean: np.ndarray
    scale: np.ndarray
    depends: bool
    residual: Tensor | None = None
    relu: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        return self.x.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.x.dtype

    @property
    def parents(self) -> tuple[Tensor, ...]:
        own = (self.x, self.weight, self.bias)
        return own if self.residual is None else (*own, self.residual)

    def scaled(self, scale: np.ndarray, shift: np.ndarray) -> None:
        return None

    def added(self, residual: Tensor) -> Normalisation | None:
        if self.relu or self.residual is not None or (residual.shape, residual.dtype) != (self.shape, self.dtype):
            return None
        return replace(self, residual=residual)

    def rectified(self) -> Normalisation:
        return replace(self, relu=True)

    def compute(self) -> np.ndarray:
        gain, residual = self.weight.data * self.scale, None if self.residual is None else self.residual.data
        return elementwise.normalise(self.x.data, self.mean, gain, self.bias.data, residual, self.relu)

    def gradient(self, out: np.ndarray, g: np.ndarray) -> tuple[np.ndarray | None, ...]:
        x, mean, scale = self.x, self.mean, self.scale
        mask = out if self.relu else None
        keep = self.relu and self.residual is not None and self.residual.requires_grad
        g_bias, g_weight, passed = elementwise.normalise_sums(g, x.data, mean, mask, keep)
        if passed is not None:  # g where it went through the ReLU: the residual's gradient
            g, mask = passed, None
        g_weight *= scale
        g_x = None
        if x.requires_grad:
            count = x.size // x.shape[1]
            shift, slope = (g_bias / count, g_weight * scale / count) if self.depends else (0 * g_bias, 0 * g_weight)
            g_x = elementwise.normalise_gradient(g, x.data, mean, mask, self.weight.data * scale, shift, slope)
        return (g_x, g_weight, g_bias) if self.residual is None else (g_x, g_weight, g_bias, g)


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

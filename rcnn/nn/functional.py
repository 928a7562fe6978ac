"""Operations on tensors, each with the formula of its gradient.

Convolution is defined in `rcnn.nn.conv`, pooling in `rcnn.nn.pooling`, and resampling in `rcnn.nn.resize`. This module
also exports them, so that it contains every operation. The loss of an empty batch is 0, not NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from rcnn._validate import (
    BELOW_ONE,
    FLAG,
    NUMBER,
    POSITIVE,
    as_array,
    as_dtype,
    as_float_array,
    integer,
    number,
    shown,
)
from rcnn.nn import elementwise, parallel
from rcnn.nn.conv import conv2d, matrix_product
from rcnn.nn.fusion import Operation, extend, result_of
from rcnn.nn.pooling import avg_pool2d, max_pool2d
from rcnn.nn.random import uniform
from rcnn.nn.resize import adaptive_avg_pool2d, interpolate, upsample_add
from rcnn.nn.tape import taped
from rcnn.nn.tensor import Tensor, check_tensor, concatenate, is_recording, record
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
    "hardsigmoid",
    "hardswish",
    "interpolate",
    "leaky_relu",
    "linear",
    "log_softmax",
    "max_pool2d",
    "relu",
    "relu6",
    "scale_and_shift",
    "scale_channels",
    "sigmoid",
    "smooth_l1_loss",
    "softmax",
    "upsample_add",
]


NORM_ARGUMENTS = ("weight", "bias", "running_mean", "running_var")
MOMENTUM, EPS = number(0, 1), number(0, 1e6)


# ---------------------------------------------------------------------- layers


@taped
def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return x W^T + b.

    Parameters
    ----------
    x : (N, I) Tensor, or (N, C, H, W) Tensor with C * H * W = I
        N inputs with I elements each. Feature maps are treated like `x.flatten(start_dim=1)`, but they are not copied,
        because the product is computed as a convolution whose window is the whole map.
    weight : (O, I) Tensor
        The matrix W for O outputs, as in PyTorch.
    bias : (O,) Tensor, optional
        The vector b.

    Returns
    -------
    (N, O) Tensor
        The result, with one row per input.

    Raises
    ------
    TypeError
        If x is not a tensor.
    ValueError
        If the shapes do not match.

    Examples
    --------
    >>> from rcnn.nn import Tensor
    >>> linear(Tensor([[1.0, 2.0]]), Tensor([[3.0, 4.0], [5.0, 6.0]]), Tensor([0.0, 1.0])).data.tolist()
    [[11.0, 18.0]]
    """
    check_tensor("linear", x)
    check_tensor("linear", weight, "weight")
    if bias is not None:
        check_tensor("linear", bias, "bias")
    if weight.ndim != 2:
        raise ValueError(f"linear: weight must have shape (O, I), got {weight.shape}")
    if x.ndim == 4:
        maps = x
    elif x.ndim == 2:
        maps = x.reshape(*x.shape, 1, 1)
    else:
        raise ValueError(f"linear: x must have shape (N, {weight.shape[1]}) or (N, C, H, W), got {x.shape}")
    columns = math.prod(maps.shape[1:])
    if weight.shape[1] != columns:
        raise ValueError(f"linear: x must have shape (N, {weight.shape[-1]}) for weight {weight.shape}, got {x.shape}")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"bias must have shape {weight.shape[:1]}, with one value per output, got {bias.shape}")
    return matrix_product(maps, weight, bias)


@taped
def relu(x: Tensor) -> Tensor:
    """Return max(x, 0).

    Parameters
    ----------
    x : Tensor of any shape
        The input.

    Returns
    -------
    Tensor
        The result, with the same shape as x. The gradient at 0 is 0.
    """
    check_tensor("relu", x)
    return _activated(x, "relu")


@taped
def relu6(x: Tensor) -> Tensor:
    """Return min(max(x, 0), 6).

    Parameters
    ----------
    x : Tensor of any shape
        The input.

    Returns
    -------
    Tensor
        The result, with the same shape as x. The gradients at 0 and at 6 are 0.

    References
    ----------
    Sandler et al., "MobileNetV2: Inverted residuals and linear bottlenecks", 2018.
    """
    check_tensor("relu6", x)
    return _activated(x, "relu6")


@taped
def hardswish(x: Tensor) -> Tensor:
    """Return x * relu6(x + 3) / 6, an approximation of x * sigmoid(x) without an exponential.

    Parameters
    ----------
    x : Tensor of any shape
        The input.

    Returns
    -------
    Tensor
        The result, with the same shape as x. The gradient is 0 at -3 and 1 at 3.

    References
    ----------
    Howard et al., "Searching for MobileNetV3", 2019, section 5.2.
    """
    check_tensor("hardswish", x)
    return _activated(x, "hardswish")


def _activated(x: Tensor, activation: str) -> Tensor:
    """Return an activation of x. Only the ReLU is fused if gradients are recorded: the others need their input then."""
    extended = extend(x, "activated", activation) if activation == "relu" or not x.requires_grad else None
    if extended is not None:
        return extended.computed()  # no further step can be fused
    data = x.data
    out = elementwise.activate(data, activation)
    known = out if activation == "relu" else data
    return record(out, (x,), lambda g: (elementwise.activation_gradient(g, known, activation),))


@taped
def hardsigmoid(x: Tensor) -> Tensor:
    """Return relu6(x + 3) / 6, an approximation of the sigmoid without an exponential.

    Parameters
    ----------
    x : Tensor of any shape
        The input.

    Returns
    -------
    Tensor
        The result, with the same shape as x. The gradients at -3 and at 3 are 0.
    """
    check_tensor("hardsigmoid", x)
    with np.errstate(all="ignore"):  # an input can be infinite
        out = np.clip(x.data + 3, 0, 6) / 6
    return record(out, (x,), lambda g: (np.where((out > 0) & (out < 1), g / 6, 0),))


@taped
def leaky_relu(x: Tensor, negative_slope: float = 0.01) -> Tensor:
    """Return x where x > 0, and negative_slope * x elsewhere.

    Parameters
    ----------
    x : Tensor of any shape
        The input.
    negative_slope : float
        The factor for negative elements.

    Returns
    -------
    Tensor
        The result, with the same shape as x.
    """
    check_tensor("leaky_relu", x)
    slope = NUMBER.check("negative_slope", negative_slope)  # a NumPy number could change the dtype of the result
    return record(elementwise.relu(x.data, slope), (x,), lambda g: (elementwise.leaky_relu_gradient(g, x.data, slope),))


@taped
def dropout(x: Tensor, p: float = 0.5, training: bool = True, rng: np.random.Generator | None = None) -> Tensor:
    """Return x with random elements set to 0 and the others divided by 1 - p.

    Parameters
    ----------
    x : Tensor of any shape
        The input.
    p : float
        The probability that an element is set to 0, in [0, 1).
    training : bool
        If False, x is returned unchanged.
    rng : np.random.Generator, optional
        The random generator; by default, the library's own.

    Returns
    -------
    Tensor
        The result, with the same shape as x.

    Raises
    ------
    TypeError, ValueError
        If p is not in [0, 1), or if another argument has the wrong type.

    References
    ----------
    Srivastava et al., "Dropout", JMLR 2014.
    """
    check_tensor("dropout", x)
    p = BELOW_ONE.check("p", p)
    if not FLAG.check("training", training) or p == 0:
        return x
    kept = uniform(x.shape, rng) >= p
    scale = kept * x.dtype.type(1 / (1 - p))
    with np.errstate(all="ignore"):  # an infinite element that is set to 0 becomes NaN
        return record(x.data * scale, (x,), lambda g: (g * scale,))


@taped
def scale_and_shift(x: Tensor, scale: np.ndarray, shift: np.ndarray) -> Tensor:
    """Return x * scale + shift, with one scale and shift per channel.

    Parameters
    ----------
    x : (N, C, H, W) Tensor
        The feature maps of N images, with C channels.
    scale, shift : (C,) array
        One constant per channel.

    Returns
    -------
    (N, C, H, W) Tensor
        The result. Gradients flow only to x.
    """
    check_maps("scale_and_shift", x)
    scale, shift = as_float_array(scale, "scale"), as_float_array(shift, "shift")
    if not scale.shape == shift.shape == x.shape[1:2]:
        raise ValueError(f"scale and shift must have shape {x.shape[1:2]}, got {scale.shape} and {shift.shape}")
    extended = extend(x, "scaled", scale, shift)
    with np.errstate(all="ignore"):  # the maps can be infinite
        return x * scale[:, None, None] + shift[:, None, None] if extended is None else extended


@taped
def scale_channels(x: Tensor, scale: Tensor) -> Tensor:
    """Return x * scale, with one factor per image and channel.

    Parameters
    ----------
    x : (N, C, H, W) Tensor
        The feature maps of N images, with C channels.
    scale : (N, C, 1, 1) Tensor
        The factors.

    Returns
    -------
    (N, C, H, W) Tensor
        The product.

    Raises
    ------
    TypeError, ValueError
        If an argument is not a tensor, or if the shapes do not match.
    """
    check_maps("scale_channels", x)
    check_maps("scale_channels", scale, "scale")
    if scale.shape != (*x.shape[:2], 1, 1):
        raise ValueError(f"scale_channels: scale must have shape {(*x.shape[:2], 1, 1)}, got {scale.shape}")
    return result_of(ChannelProduct(x.computed(), scale.computed()))


@dataclass(eq=False)
class ChannelProduct(Operation):
    """The operation x * scale, with one factor per image and channel; see `rcnn.nn.fusion`.

    A convolution of the product is the convolution of x with filters that are multiplied by the factors of their
    channels. For one image, this avoids a pass over the maps. Gradients would need the product itself.

    Attributes
    ----------
    x : (N, C, H, W) Tensor
        The feature maps of N images, with C channels.
    scale : (N, C, 1, 1) Tensor
        The factors.
    """

    x: Tensor
    scale: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        return self.x.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.result_type(self.x.dtype, self.scale.dtype)

    @property
    def parents(self) -> tuple[Tensor, ...]:
        return self.x, self.scale

    def added(self, residual: Tensor) -> Operation | None:
        return None

    def activated(self, activation: str) -> Operation | None:
        return None

    def convolved(self, weight: Tensor, convolution: Callable[[Tensor, Tensor], Operation]) -> Operation | None:
        if len(self.x) != 1 or is_recording():
            return None
        return convolution(self.x, Tensor(weight.data * self.scale.data))

    def compute(self) -> np.ndarray:
        with np.errstate(all="ignore"):  # the maps can be infinite
            return self.x.data * self.scale.data

    def gradient(self, out: np.ndarray, g: np.ndarray) -> tuple[np.ndarray | None, ...]:
        x, scale = self.x, self.scale
        g_scale = (g * x.data).sum((2, 3), keepdims=True) if scale.requires_grad else None
        return g * scale.data if x.requires_grad else None, g_scale


@taped
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
    """Return (x - mean) / sqrt(var + eps) * weight + bias, computed for each channel.

    In training, the mean and the variance are those of the batch. The running statistics are then updated in place:
    running += momentum * (batch - running). This update uses the unbiased variance, as in PyTorch. In evaluation, the
    mean and the variance are the running statistics. An empty batch has no statistics, so it changes nothing. If
    several processes share a batch (see `rcnn.nn.parallel`), the statistics are those of the whole batch.

    Parameters
    ----------
    x : (N, C, H, W) Tensor
        The feature maps of N images, with C channels.
    running_mean, running_var : (C,) array
        The running statistics, which are changed in training.
    weight, bias : (C,) Tensor
        The learned factor and the learned constant of each channel.
    training : bool
        If True, the statistics of the batch are used.
    momentum : float
        The weight of the batch in the new running statistics, in [0, 1].
    eps : float
        A small number that is added to the variance, in [0, 1e6].

    Returns
    -------
    (N, C, H, W) Tensor
        The normalised maps.

    Raises
    ------
    TypeError
        If an argument has the wrong type.
    ValueError
        If shapes do not match, if `momentum` or `eps` is out of range, or if there is only one value per channel in
        training.

    References
    ----------
    Ioffe and Szegedy, "Batch normalization", 2015.
    """
    check_maps("batch_norm", x)
    _check_norm(weight, bias, running_mean, running_var)
    training = FLAG.check("training", training)
    momentum, eps = MOMENTUM.check("momentum", momentum), EPS.check("eps", eps)
    shape = x.shape
    channels, count = shape[1], math.prod(shape) // max(shape[1], 1)
    if not weight.shape == bias.shape == running_mean.shape == running_var.shape == (channels,):
        given: tuple[Tensor | np.ndarray, ...] = (weight, bias, running_mean, running_var)
        name, wrong = next(pair for pair in zip(NORM_ARGUMENTS, given, strict=True) if pair[1].shape != (channels,))
        raise ValueError(
            f"batch_norm: x must have {wrong.size} channels, because {name} has shape {wrong.shape}; "
            f"got {channels} channels (shape {shape})"
        )
    if training:
        count, batch_mean, batch_var = _batch_statistics(x, count, running_mean)
    training = training and count > 0
    if not training and not is_recording():
        with np.errstate(all="ignore"):
            scale = weight.data / np.sqrt(running_var + running_var.dtype.type(eps))  # (C,)
            shift = bias.data - running_mean * scale
        extended = extend(x, "scaled", scale, shift)
        if extended is not None:
            return extended
    if training:
        if not (running_mean.flags.writeable and running_var.flags.writeable):
            raise ValueError("batch_norm: running_mean and running_var must be writable arrays during training")
        if count < 2:
            raise ValueError(f"batch_norm: training needs more than one value per channel, got x of shape {x.shape}")
        mean, var = batch_mean, batch_var
    else:
        mean, var = running_mean.copy(), running_var  # copied: training may change it before the backward pass
    with np.errstate(all="ignore"):  # a variance can be infinite, or 0 with eps=0
        if training:
            running_mean += momentum * (mean - running_mean)
            running_var += momentum * (var * (count / (count - 1)) - running_var)
        scale = 1 / np.sqrt(var + x.dtype.type(eps))  # (C,)
    return result_of(Normalisation(x.computed(), weight, bias, mean, scale, count if training else 0))


def _batch_statistics(x: Tensor, count: int, pivot: np.ndarray) -> tuple[int, np.ndarray, np.ndarray]:
    """Return the number of values, their mean and their biased variance for each channel, over all processes.

    `count` is the number of values in this process. `pivot` (C,) contains numbers near the mean.
    """
    mean = var = np.zeros(x.shape[1], x.dtype)  # (C,)
    if count:
        mean, var = elementwise.batch_statistics(x.data)
    return parallel.pooled(count, mean, var, pivot) if parallel.is_summing() else (count, mean, var)


def _check_norm(weight: Any, bias: Any, running_mean: Any, running_var: Any) -> None:
    """Raise TypeError unless the arguments of `batch_norm` are two tensors and two arrays of floats."""
    check_tensor("batch_norm", weight, "weight")
    check_tensor("batch_norm", bias, "bias")
    for name, values in (("running_mean", running_mean), ("running_var", running_var)):
        if not isinstance(values, np.ndarray) or values.dtype.char not in "fd":
            raise TypeError(f"batch_norm: {name} must be an array of float32 or float64, got {type(values).__name__}")


@dataclass(eq=False)
class Normalisation(Operation):
    """The operation activation((x - mean) * scale * weight + bias + residual); see `rcnn.nn.fusion`.

    The activation is a ReLU or None.

    Attributes
    ----------
    x : (N, C, H, W) Tensor
        The feature maps of N images, with C channels.
    weight, bias : (C,) Tensor
        The learned factor and the learned constant of each channel.
    mean, scale : (C,) array
        The mean of each channel, and 1 / standard deviation of each channel.
    count : int
        In training, the number of values per channel from which `mean` and `scale` were computed. Gradients then flow
        through them as well. Otherwise 0.
    """

    x: Tensor
    weight: Tensor
    bias: Tensor
    mean: np.ndarray
    scale: np.ndarray
    count: int

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

    def activated(self, activation: str) -> Operation | None:
        return super().activated(activation) if activation == "relu" else None

    def compute(self) -> np.ndarray:
        gain, residual = self.weight.data * self.scale, None if self.residual is None else self.residual.data
        return elementwise.normalise(self.x.data, self.mean, gain, self.bias.data, residual, self.activation == "relu")

    def gradient(self, out: np.ndarray, g: np.ndarray) -> tuple[np.ndarray | None, ...]:
        x, mean, scale = self.x, self.mean, self.scale
        mask = out if self.activation else None
        keep = bool(self.activation) and self.residual is not None and self.residual.requires_grad
        g_bias, g_weight, passed = elementwise.normalise_sums(g, x.data, mean, mask, keep)
        if passed is not None:  # the gradient after the ReLU, which is the gradient of the residual
            g, mask = passed, None
        g_weight *= scale
        g_x = None
        if x.requires_grad:
            shift, slope = 0 * g_bias, 0 * g_weight
            if self.count:
                sums = parallel.sum_of(np.stack([g_bias, g_weight]))  # (2, C)
                shift, slope = sums[0] / self.count, sums[1] * scale / self.count
            g_x = elementwise.normalise_gradient(g, x.data, mean, mask, self.weight.data * scale, shift, slope)
        return (g_x, g_weight, g_bias) if self.residual is None else (g_x, g_weight, g_bias, g)


# ---------------------------------------------------------------------- probabilities


@taped
def sigmoid(x: Tensor) -> Tensor:
    """Return 1 / (1 + exp(-x)), without overflow.

    Parameters
    ----------
    x : Tensor of any shape
        The logits.

    Returns
    -------
    Tensor
        The probabilities, with the same shape as x.
    """
    check_tensor("sigmoid", x)
    out = sigmoid_of(x.data)
    return record(out, (x,), lambda g: (g * out * (1 - out),))


@taped
def softmax(x: Tensor, axis: int = -1) -> Tensor:
    """Return exp(x) / sum(exp(x)) along an axis, without overflow.

    Parameters
    ----------
    x : Tensor of any shape
        The logits.
    axis : int
        The axis along which the probabilities sum to 1.

    Returns
    -------
    Tensor
        The probabilities, with the same shape as x.
    """
    check_tensor("softmax", x)
    out = softmax_of(x.data, axis)
    return record(out, (x,), lambda g: (out * (g - (g * out).sum(axis, keepdims=True)),))


@taped
def log_softmax(x: Tensor, axis: int = -1) -> Tensor:
    """Return the logarithm of the softmax along an axis, without overflow.

    Parameters
    ----------
    x : Tensor of any shape
        The logits.
    axis : int
        The axis along which the probabilities sum to 1.

    Returns
    -------
    Tensor
        The logarithms of the probabilities, with the same shape as x.
    """
    check_tensor("log_softmax", x)
    out = _log_softmax_of(x.data, _check_axis(axis, x.ndim))
    return record(out, (x,), lambda g: (g - np.exp(out) * g.sum(axis, keepdims=True),))


def sigmoid_of(x: np.ndarray) -> np.ndarray:
    """Return the sigmoid of an array.

    Parameters
    ----------
    x : array of any shape
        The logits.

    Returns
    -------
    array
        The probabilities, with the same shape as x.
    """
    x = as_float_array(x, "x")
    small = np.exp(-np.abs(x))  # in (0, 1], so nothing overflows
    return np.where(x >= 0, 1 / (1 + small), small / (1 + small))


def softmax_of(x: np.ndarray, axis: int = -1) -> np.ndarray:
    """Return the softmax of an array along an axis.

    Parameters
    ----------
    x : array of any shape
        The logits.
    axis : int
        The axis along which the probabilities sum to 1.

    Returns
    -------
    array
        The probabilities, with the same shape as x.
    """
    x = as_float_array(x, "x")
    axis = _check_axis(axis, x.ndim)
    with np.errstate(invalid="ignore"):  # infinite logits give NaN
        e = np.exp(x - x.max(axis, keepdims=True, initial=-np.inf))
        return e / e.sum(axis, keepdims=True)


def _check_axis(axis: int, ndim: int) -> int:
    if ndim == 0:
        raise ValueError("x must have at least one axis")
    return int(integer(-ndim, ndim - 1).check("axis", axis))


def _log_softmax_of(x: np.ndarray, axis: int) -> np.ndarray:
    with np.errstate(all="ignore"):  # infinite logits give NaN
        shifted = x - x.max(axis, keepdims=True, initial=-np.inf)
        return shifted - np.log(np.exp(shifted).sum(axis, keepdims=True))


# ---------------------------------------------------------------------- losses


def cross_entropy(logits: Tensor, labels: np.ndarray, weight: ArrayLike | None = None) -> Tensor:
    """Return the mean of -log softmax(logits)[label] over all samples, weighted by class.

    Parameters
    ----------
    logits : (R, L) Tensor
        The logits of R samples for L classes.
    labels : (R,) integer array
        The correct class of each sample, in 0 .. L-1.
    weight : (L,) array, optional
        The weight of each class, at least 0: the sum of weight[label] * loss is divided by the sum of weight[label]. By
        default, all weights are 1.

    Returns
    -------
    scalar Tensor
        The loss; 0 if there are no samples, or if their weights are all 0.

    Raises
    ------
    TypeError
        If the labels are not integers.
    ValueError
        If the shapes do not match, or if a label is out of range.

    Examples
    --------
    >>> from rcnn.nn import Tensor
    >>> round(cross_entropy(Tensor([[0.0, 0.0], [0.0, 0.0]]), [0, 1]).item(), 4)  # log 2
    0.6931
    """
    check_tensor("cross_entropy", logits, "logits")
    if logits.ndim != 2:
        raise ValueError(f"cross_entropy: logits must have shape (R, L), got {logits.shape}")
    count, classes = logits.shape
    labels = as_array(labels, "labels")
    if labels.size and labels.dtype.kind not in "iu":
        raise TypeError(f"cross_entropy: labels must be integers, got {labels.dtype}")
    if labels.shape != (count,):
        raise ValueError(
            f"cross_entropy: labels must have shape ({count},), with one label per row of logits, got {labels.shape}"
        )
    labels = labels.astype(np.int64)  # an empty list becomes a float array
    if count and not 0 <= labels.min() <= labels.max() < classes:
        raise ValueError(f"cross_entropy: labels must be in 0 .. {classes - 1}, got {labels.min()} .. {labels.max()}")
    rows = np.arange(count)
    log_p = _log_softmax_of(logits.data, -1)
    if weight is None:
        weights, total = np.ones((), log_p.dtype), max(count, 1)
    else:
        weights = _class_weights(weight, classes)[labels].astype(log_p.dtype)  # (R,)
        total = weights.sum() or 1

    def vjp(g: np.ndarray) -> tuple[np.ndarray]:
        g_logits = np.exp(log_p)
        g_logits[rows, labels] -= 1
        return (g_logits * (weights[..., None] * (g / total)),)

    with np.errstate(all="ignore"):  # infinite logits give NaN
        loss = -(weights * log_p[rows, labels]).sum() / total
    return record(loss, (logits,), vjp)


def _class_weights(weight: ArrayLike, classes: int) -> np.ndarray:
    """Return the weights of all classes, (L,). Raise ValueError unless they are finite and at least 0."""
    weights = as_float_array(weight, "weight")
    if weights.shape != (classes,) or not (np.isfinite(weights) & (weights >= 0)).all():
        raise ValueError(
            f"cross_entropy: weight must be {classes} finite numbers of at least 0, one per class, got {shown(weight)}"
        )
    return weights


def binary_cross_entropy_with_logits(logits: Tensor, targets: np.ndarray) -> Tensor:
    """Return the mean of -(t log p + (1 - t) log(1 - p)), where p = sigmoid(logits).

    Parameters
    ----------
    logits : Tensor of any shape
        The logits.
    targets : array of the same shape
        The targets t, in [0, 1].

    Returns
    -------
    scalar Tensor
        The loss; 0 if there are no elements.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    check_tensor("binary_cross_entropy_with_logits", logits, "logits")
    z, t = logits.data, as_dtype(as_float_array(targets, "targets"), logits.dtype, "targets")
    if z.shape != t.shape:
        raise ValueError(f"logits and targets must have the same shape, got {z.shape} and {t.shape}")
    count = max(z.size, 1)
    with np.errstate(all="ignore"):  # infinite logits give NaN
        loss = np.maximum(z, 0) - z * t + np.log1p(np.exp(-np.abs(z)))  # the same function, without overflow
        total = loss.sum() / count
    return record(total, (logits,), lambda g: ((sigmoid_of(z) - t) * (g / count),))


def smooth_l1_loss(prediction: Tensor, target: Tensor | np.ndarray, beta: float = 1.0) -> Tensor:
    """Return the *sum* of d^2 / (2 beta) where abs(d) < beta, and of abs(d) - beta / 2 elsewhere.

    Parameters
    ----------
    prediction : Tensor of any shape
        The predictions; d = prediction - target.
    target : Tensor or array of the same shape
        The targets.
    beta : float
        The value of abs(d) at which the quadratic part ends; it must be above 0.

    Returns
    -------
    scalar Tensor
        The loss; 0 if there are no elements.

    Raises
    ------
    ValueError
        If the shapes differ, or if beta is not above 0.

    References
    ----------
    Girshick, "Fast R-CNN", 2015, equation 3 (where beta is 1).

    Examples
    --------
    >>> from rcnn.nn import Tensor
    >>> smooth_l1_loss(Tensor([0.5, 3.0]), [0.0, 0.0]).item()  # 0.125 + 2.5
    2.625
    """
    check_tensor("smooth_l1_loss", prediction, "prediction")
    if not isinstance(target, Tensor):
        target = Tensor(as_dtype(as_float_array(target, "target"), prediction.dtype, "target"))
    if prediction.shape != target.shape:
        raise ValueError(f"prediction and target must have the same shape, got {prediction.shape} and {target.shape}")
    beta = POSITIVE.check("beta", beta)  # as a float: a NumPy number could change the dtype of the result
    with np.errstate(all="ignore"):
        d = prediction.data - target.data
        size = np.abs(d)
        loss = np.where(size < beta, d * d * (0.5 / beta), size - 0.5 * beta).sum()

    def vjp(g: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        slope = np.clip(d / beta, -1, 1) * g
        return slope, -slope if target.requires_grad else None

    return record(loss, (prediction, target), vjp)

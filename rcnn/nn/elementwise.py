"""Elementwise operations on arrays and sums over the pixels of feature maps: activations, statistics, normalisation.

The functions take and return arrays. Operations on tensors call these functions and define the gradients. Feature maps
of N images with C channels have the shape (N, C, H, W). Vectors with one value per channel have the shape (C,). Every
function here is a reference implementation in NumPy. For float32, `rcnn._ext.elementwise` runs kernels that compute the
same values in one pass over memory.
"""

from __future__ import annotations

import numpy as np

from rcnn._ext.dispatch import compiled
from rcnn._ext.layout import pixels

# ---------------------------------------------------------------------- activations


@compiled("elementwise.relu")
def relu(x: np.ndarray, slope: float = 0.0) -> np.ndarray:
    """Return x where x > 0, and slope * x elsewhere.

    Parameters
    ----------
    x : array of any shape
        The input; NaN stays NaN.
    slope : float
        The factor for negative elements.

    Returns
    -------
    array
        The result, with the same shape as x.
    """
    return np.where(x > 0, x, x * slope) if slope else np.maximum(x, 0)


@compiled("elementwise.leaky_relu_gradient")
def leaky_relu_gradient(g: np.ndarray, x: np.ndarray, slope: float) -> np.ndarray:
    """Return g where x > 0, and slope * g elsewhere.

    Parameters
    ----------
    g : array of any shape
        The gradient with respect to the result of `relu`.
    x : array of the same shape
        The input of `relu`. If the slope is 0, it can also be the result of `relu`.
    slope : float
        The factor for negative elements.

    Returns
    -------
    array
        The gradient with respect to the input of `relu`, with the same shape.
    """
    return np.where(x > 0, g, g * slope)


@compiled("elementwise.activate")
def activate(x: np.ndarray, activation: str) -> np.ndarray:
    """Return an activation of x.

    Parameters
    ----------
    x : array of any shape
        The input; NaN stays NaN.
    activation : {"relu", "relu6", "hardswish"}
        "relu" is max(x, 0), "relu6" is min(max(x, 0), 6), and "hardswish" is x * relu6(x + 3) / 6.

    Returns
    -------
    array
        The result, with the same shape as x.
    """
    if activation == "relu":
        return np.maximum(x, 0)
    if activation == "relu6":
        return np.clip(x, 0, 6)
    return x * np.clip(x + 3, 0, 6) / 6


@compiled("elementwise.activation_gradient")
def activation_gradient(g: np.ndarray, x: np.ndarray, activation: str) -> np.ndarray:
    """Return the gradient with respect to the input of `activate`.

    Parameters
    ----------
    g : array of any shape
        The gradient with respect to the result of `activate`.
    x : array of the same shape
        The input of `activate`. For "relu" and "relu6", it can also be the result.
    activation : {"relu", "relu6", "hardswish"}
        The activation.

    Returns
    -------
    array
        The gradient with respect to x, with the same shape. At the ends of the sloping part, it is that of the flat or
        of the straight part, as in PyTorch.
    """
    if activation == "relu":
        return np.where(x > 0, g, 0)
    if activation == "relu6":
        return np.where((x > 0) & (x < 6), g, 0)
    return g * np.where(x <= -3, 0, np.where(x >= 3, 1, x / 3 + x.dtype.type(0.5)))


@compiled("elementwise.relu_gradient")
def relu_gradient(
    g: np.ndarray, out: np.ndarray, scale: np.ndarray | None = None, plain: bool = True
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Return the gradient with respect to the input of a ReLU, and this gradient multiplied by `scale`.

    The gradient is g where `out` > 0, and 0 elsewhere.

    Parameters
    ----------
    g : (N, C, H, W) array
        The gradient with respect to the result of the ReLU.
    out : (N, C, H, W) array
        The result of the ReLU.
    scale : (C,) array, optional
        One factor per channel.
    plain : bool
        Whether to return the gradient that is not multiplied by `scale`.

    Returns
    -------
    passed : (N, C, H, W) array or None
        The gradient with respect to the input of the ReLU, or None if `plain` is False.
    scaled : (N, C, H, W) array or None
        The same gradient multiplied by `scale`, or None if there is no scale.
    """
    passed = np.where(out > 0, g, 0)
    return passed if plain else None, None if scale is None else passed * scale[:, None, None]


# ---------------------------------------------------------------------- sums of arrays


@compiled("elementwise.add")
def add(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return a + b.

    Parameters
    ----------
    a, b : arrays
        Two arrays whose shapes can be broadcast.

    Returns
    -------
    array
        The sum.
    """
    return a + b


@compiled("elementwise.add_to")
def add_to(a: np.ndarray, b: np.ndarray) -> None:
    """Add `b` to `a`, in place.

    Parameters
    ----------
    a, b : arrays of the same shape
        The array a, which is changed, and the array b.
    """
    a += b


# ---------------------------------------------------------------------- sums over images and pixels


@compiled("elementwise.sum_per_channel")
def sum_per_channel(g: np.ndarray) -> np.ndarray:
    """Return the sum of each channel over all images and pixels.

    Parameters
    ----------
    g : (N, C, H, W) array
        The feature maps of N images.

    Returns
    -------
    (C,) array
        One sum per channel.
    """
    rows = _rows(g)  # (N * H * W, C)
    return _ones_like(rows) @ rows


@compiled("elementwise.batch_statistics")
def batch_statistics(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and the biased variance of each channel over all images and pixels.

    Parameters
    ----------
    x : (N, C, H, W) array
        The feature maps of N images, with at least one pixel.

    Returns
    -------
    mean, var : (C,) array
        One value per channel.
    """
    rows = _rows(x)  # (N * H * W, C)
    average = np.full(len(rows), 1 / len(rows), x.dtype)
    mean = average @ rows
    return mean, average @ (rows - mean) ** 2


def _rows(maps: np.ndarray) -> np.ndarray:
    """Return maps (N, C, H, W) as a matrix (N * H * W, C) with one row per pixel."""
    n, channels, height, width = maps.shape
    return pixels(maps).reshape(n * height * width, channels)


def _ones_like(rows: np.ndarray) -> np.ndarray:
    """Return a vector of ones (M,). Its product with `rows` (M, C) is the sum (C,) of the rows.

    A matrix product is faster and more accurate than a single running sum, because BLAS adds several partial sums.
    """
    return np.ones(len(rows), rows.dtype)


# ---------------------------------------------------------------------- normalisation


@compiled("elementwise.normalise")
def normalise(
    x: np.ndarray,
    mean: np.ndarray,
    gain: np.ndarray,
    bias: np.ndarray,
    residual: np.ndarray | None = None,
    relu: bool = False,
) -> np.ndarray:
    """Return (x - mean) * gain + bias + residual, with one mean, gain and bias per channel.

    Parameters
    ----------
    x : (N, C, H, W) array
        The feature maps of N images.
    mean, gain, bias : (C,) array
        One value per channel.
    residual : (N, C, H, W) array, optional
        An array that is added to the normalised maps.
    relu : bool
        Whether to set negative elements of the result to 0.

    Returns
    -------
    (N, C, H, W) array
        The normalised maps.
    """
    out = pixels(x) - mean  # (N, H, W, C)
    out *= gain
    out += bias
    if residual is not None:
        out += pixels(residual)
    if relu:
        np.maximum(out, 0, out=out)
    return out.transpose(0, 3, 1, 2)  # (N, C, H, W)


@compiled("elementwise.normalise_sums")
def normalise_sums(
    g: np.ndarray, x: np.ndarray, mean: np.ndarray, out: np.ndarray | None = None, keep: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Return the sums of g and of g * (x - mean) for each channel, which the gradients of `normalise` need.

    Parameters
    ----------
    g : (N, C, H, W) array
        The gradient with respect to the result of `normalise`.
    x : (N, C, H, W) array
        The feature maps of N images.
    mean : (C,) array
        The mean of each channel.
    out : (N, C, H, W) array, optional
        The result of `normalise` if it applied a ReLU. Elements of g are then replaced with 0 unless `out` > 0.
    keep : bool
        Whether to also return g after this replacement.

    Returns
    -------
    g_sum, weighted_sum : (C,) array
        The sums over all images and pixels.
    passed : (N, C, H, W) array or None
        g where `out` > 0, and 0 elsewhere; None if `keep` is False.
    """
    passed = _passed(g, out)
    rows = _rows(passed)  # (N * H * W, C)
    ones = _ones_like(rows)
    return ones @ rows, ones @ (rows * (_rows(x) - mean)), passed if keep else None


@compiled("elementwise.normalise_gradient")
def normalise_gradient(
    g: np.ndarray,
    x: np.ndarray,
    mean: np.ndarray,
    out: np.ndarray | None,
    gain: np.ndarray,
    shift: np.ndarray,
    slope: np.ndarray,
) -> np.ndarray:
    """Return (g - shift - (x - mean) * slope) * gain, with one mean, gain, shift and slope per channel.

    Parameters
    ----------
    g : (N, C, H, W) array
        The gradient with respect to the result of `normalise`.
    x : (N, C, H, W) array
        The feature maps of N images.
    mean : (C,) array
        The mean of each channel.
    out : (N, C, H, W) array or None
        The result of `normalise` if it applied a ReLU. Elements of g are then replaced with 0 unless `out` > 0.
    gain, shift, slope : (C,) array
        One value per channel.

    Returns
    -------
    (N, C, H, W) array
        The gradient with respect to x.
    """
    g_x = pixels(_passed(g, out)) - shift  # (N, H, W, C)
    g_x -= (pixels(x) - mean) * slope
    g_x *= gain
    return g_x.transpose(0, 3, 1, 2)  # (N, C, H, W)


def _passed(g: np.ndarray, out: np.ndarray | None) -> np.ndarray:
    """Pass the gradient `g` (N, C, H, W) back through the ReLU whose output is `out`. If `out` is None, return `g`."""
    return g if out is None else np.where(out > 0, g, 0)

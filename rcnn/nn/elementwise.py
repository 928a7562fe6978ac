"""Elementwise operations on arrays and sums over the pixels of feature maps: activations, statistics, normalisation.

The functions take and return arrays. The operations on tensors that call them write out the gradients. Maps have the
shape (N, C, H, W), vectors of their channels (C,). Every function is a reference in NumPy. For float32,
`rcnn._ext.elementwise` runs kernels that compute the same in one pass over memory.
"""

from __future__ import annotations

import numpy as np

from rcnn._ext.dispatch import compiled
from rcnn._ext.layout import pixels

# ---------------------------------------------------------------------- activations


@compiled("elementwise.relu")
def relu(x: np.ndarray, slope: float = 0.0) -> np.ndarray:
    """Return x where it is above 0, and slope * x elsewhere.

    Parameters
    ----------
    x : array of any shape
        The input; NaN stays NaN.
    slope : float
        Factor of the negative elements.

    Returns
    -------
    array
        Of the shape of x.
    """
    return np.where(x > 0, x, x * slope) if slope else np.maximum(x, 0)


@compiled("elementwise.leaky_relu_gradient")
def leaky_relu_gradient(g: np.ndarray, x: np.ndarray, slope: float) -> np.ndarray:
    """Return g where x is above 0, and slope * g elsewhere.

    Parameters
    ----------
    g : array of any shape
        The gradient of the result of `relu`.
    x : array of the same shape
        Its input, or its result if the slope is 0.
    slope : float
        Factor of the negative elements.

    Returns
    -------
    array
        The gradient of x, of its shape.
    """
    return np.where(x > 0, g, g * slope)


@compiled("elementwise.relu_gradient")
def relu_gradient(
    g: np.ndarray, out: np.ndarray, scale: np.ndarray | None = None, plain: bool = True
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Return g where `out` is above 0 and 0 elsewhere, and the same times `scale`.

    Parameters
    ----------
    g : (N, C, H, W) array
        The gradient of the result of a ReLU.
    out : (N, C, H, W) array
        That result.
    scale : (C,) array, optional
        A factor for each channel.
    plain : bool
        If True, the gradient without the factor is returned, too.

    Returns
    -------
    passed : (N, C, H, W) array or None
        The gradient that the ReLU passes on; None unless `plain`.
    scaled : (N, C, H, W) array or None
        The same times `scale`; None without a scale.
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
        Their shapes may be broadcast.

    Returns
    -------
    array
        The sum.
    """
    return a + b


@compiled("elementwise.add_to")
def add_to(a: np.ndarray, b: np.ndarray) -> None:
    """Add b to a, in place.

    Parameters
    ----------
    a, b : arrays of the same shape
        The first is changed.
    """
    a += b


# ---------------------------------------------------------------------- sums over images and pixels


@compiled("elementwise.sum_per_channel")
def sum_per_channel(g: np.ndarray) -> np.ndarray:
    """Return the sum over images and pixels.

    Parameters
    ----------
    g : (N, C, H, W) array
        The maps.

    Returns
    -------
    (C,) array
        One sum per channel.
    """
    rows = _rows(g)  # (N * H * W, C)
    return _ones_like(rows) @ rows


@compiled("elementwise.batch_statistics")
def batch_statistics(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and the biased variance over images and pixels.

    Parameters
    ----------
    x : (N, C, H, W) array
        The maps, with at least one pixel.

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
    """Return maps (N, C, H, W) as a matrix (N * H * W, C), one row per pixel."""
    n, channels, height, width = maps.shape
    return pixels(maps).reshape(n * height * width, channels)


def _ones_like(rows: np.ndarray) -> np.ndarray:
    """Return the vector (M,) whose product with rows (M, C) is their sum, (C,).

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
    """Return (x - mean) * gain + bias + residual per channel, or its positive part.

    Parameters
    ----------
    x : (N, C, H, W) array
        The maps.
    mean, gain, bias : (C,) array
        One value per channel.
    residual : (N, C, H, W) array, optional
        A term that is added.
    relu : bool
        If True, negative elements become 0.

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
    """Return the sums of g and of g * (x - mean) per channel, which the gradients of `normalise` need.

    Parameters
    ----------
    g : (N, C, H, W) array
        The gradient of the result of `normalise`.
    x : (N, C, H, W) array
        The maps.
    mean : (C,) array
        The mean of each channel.
    out : (N, C, H, W) array, optional
        The result of `normalise` with `relu`; g counts as 0 where `out` is not above 0.
    keep : bool
        If True, that g is returned, too.

    Returns
    -------
    g_sum, weighted_sum : (C,) array
        The sums over images and pixels.
    passed : (N, C, H, W) array or None
        g where `out` is above 0 and 0 elsewhere; None unless `keep`.
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
    """Return (g - shift - (x - mean) * slope) * gain per channel.

    Parameters
    ----------
    g : (N, C, H, W) array
        The gradient of the result of `normalise`.
    x : (N, C, H, W) array
        The maps.
    mean : (C,) array
        The mean of each channel.
    out : (N, C, H, W) array or None
        The result of `normalise` with `relu`; g counts as 0 where `out` is not above 0.
    gain, shift, slope : (C,) array
        One value per channel.

    Returns
    -------
    (N, C, H, W) array
        The gradient of x.
    """
    g_x = pixels(_passed(g, out)) - shift  # (N, H, W, C)
    g_x -= (pixels(x) - mean) * slope
    g_x *= gain
    return g_x.transpose(0, 3, 1, 2)  # (N, C, H, W)


def _passed(g: np.ndarray, out: np.ndarray | None) -> np.ndarray:
    """Return the gradient (N, C, H, W) that a ReLU with the result `out` passes on, or all of g without `out`."""
    return g if out is None else np.where(out > 0, g, 0)

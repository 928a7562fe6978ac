"""The drivers of the kernels of `rcnn.nn.optim`.

An update computes little per element, but it reads and writes parameters, gradients and averages. Each kernel makes a
single pass over these arrays, without intermediate arrays. It updates the arrays in place, so they must be contiguous.
For other arrays, the drivers return NotImplemented, and the reference runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rcnn._ext import backend, load

if TYPE_CHECKING:
    from rcnn._ext import _optim as kernels
else:
    kernels = load("_optim")


def sgd(
    values: np.ndarray, grad: np.ndarray, velocity: np.ndarray, lr: float, momentum: float, weight_decay: float
) -> Any:
    """Update `values` and `velocity` in place, with one step of SGD."""
    if not _fit(values, grad, velocity):
        return NotImplemented
    threads = backend.threads_for(values.size)
    kernels.sgd(values.reshape(-1), grad.reshape(-1), velocity.reshape(-1), lr, momentum, weight_decay, threads)
    return None


def adam(
    values: np.ndarray,
    grad: np.ndarray,
    mean: np.ndarray,
    square: np.ndarray,
    step: int,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
) -> Any:
    """Update `values`, `mean` and `square` in place, with step number `step` of Adam (the first step is 1)."""
    if not _fit(values, grad, mean, square):
        return NotImplemented
    beta1, beta2 = betas
    kernels.adam(
        values.reshape(-1),
        grad.reshape(-1),
        mean.reshape(-1),
        square.reshape(-1),
        lr / (1 - beta1**step),
        beta1,
        beta2,
        1 - beta2**step,
        eps,
        weight_decay,
        backend.threads_for(values.size),
    )
    return None


def square_sum(grad: np.ndarray) -> float:
    """Return the sum of squares, added in float64. The result is bit-identical for any number of threads."""
    if not _fit(grad):
        return NotImplemented
    sums = np.empty(-(-grad.size // kernels.block_size))
    kernels.square_sums(grad.reshape(-1), sums, backend.threads_for(grad.size))
    return float(sums.sum())


def scale(grad: np.ndarray, factor: float) -> Any:
    """Multiply the gradient by a factor, in place."""
    if not _fit(grad):
        return NotImplemented
    kernels.scale(grad.reshape(-1), factor, backend.threads_for(grad.size))
    return None


def average(mean: np.ndarray, values: np.ndarray, weight: float) -> Any:
    """Add weight * (values - mean) to `mean`, in place."""
    if not _fit(mean, values):
        return NotImplemented
    kernels.average(mean.reshape(-1), values.reshape(-1), weight, backend.threads_for(mean.size))
    return None


def _fit(*arrays: np.ndarray) -> bool:
    """Return whether the kernels can update these arrays, which must be float32, contiguous and of equal shape."""
    shape = arrays[0].shape
    return all(array.dtype == np.float32 and array.flags.c_contiguous and array.shape == shape for array in arrays)

"""Sums over several processes that each compute a share of one batch.

Two parts of a training step need numbers of the whole batch: the losses are divided by the number of all sampled boxes,
and batch norm uses the statistics of all images. Within a `summing_over` block, both add their numbers over all
processes. The function that adds them belongs to the caller (see `rcnn.train.parallel`), so that this package needs no
library for messages between processes. Without such a block, a process computes alone.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable, Iterator

import numpy as np

Total = Callable[[np.ndarray], np.ndarray]

_total: contextvars.ContextVar[Total | None] = contextvars.ContextVar("total", default=None)


@contextlib.contextmanager
def summing_over(total: Total) -> Iterator[None]:
    """Add the numbers of a batch over several processes within this block.

    All processes must run the same layers in the same order, because each of them waits for the others. Like
    `no_grad`, the block applies only to the current context. Run `backward` within the block, too.

    Parameters
    ----------
    total : callable
        Function that takes an array of floats, and returns the sum of the arrays that all processes passed to it.

    Yields
    ------
    None
        The block adds over all processes.

    Examples
    --------
    >>> with summing_over(lambda values: 2 * values):  # as if another process had the same numbers
    ...     shares([3.0, 0.0])
    [0.5, 0.0]
    """
    token = _total.set(total)
    try:
        yield
    finally:
        _total.reset(token)


def is_summing() -> bool:
    """Return whether the current context is a `summing_over` block.

    Returns
    -------
    bool
        False by default.
    """
    return _total.get() is not None


def sum_of(values: np.ndarray) -> np.ndarray:
    """Return the sum of an array over all processes.

    Parameters
    ----------
    values : float array
        The numbers of this process.

    Returns
    -------
    array
        The sum, with the same shape. Outside a `summing_over` block, it is `values` itself.
    """
    total = _total.get()
    return values if total is None else total(values)


def shares(counts: list[float]) -> list[float]:
    """Return the share of this process in each of several counts.

    Parameters
    ----------
    counts : list of float
        The counts of this process, at least 0.

    Returns
    -------
    list of float
        Each count divided by its sum over all processes. If the sum is 0, the share is 0.
    """
    totals = sum_of(np.array(counts, np.float64)).tolist()
    return [count / total if total else 0.0 for count, total in zip(counts, totals, strict=True)]


def pooled(count: int, mean: np.ndarray, var: np.ndarray, pivot: np.ndarray) -> tuple[int, np.ndarray, np.ndarray]:
    """Return the number of values, their mean and their biased variance over all processes, for each channel.

    Parameters
    ----------
    count : int
        The number of values per channel in this process.
    mean, var : (C,) array
        The mean and the biased variance of these values.
    pivot : (C,) array
        Numbers that are the same in all processes and near the mean. Subtracting them avoids rounding errors.

    Returns
    -------
    count : int
        The number of values per channel in all processes.
    mean, var : (C,) array
        Their mean and their biased variance, in the dtype of the argument `mean`.
    """
    centre = pivot.astype(np.float64)
    offset = mean - centre
    moments = np.stack([np.full(len(mean), count), count * offset, count * (var + offset**2)])  # (3, C)
    counts, first, second = sum_of(moments)
    count = int(counts[0])
    offset = first / max(count, 1)
    variance = np.maximum(second / max(count, 1) - offset**2, 0)
    return count, (centre + offset).astype(mean.dtype), variance.astype(mean.dtype)

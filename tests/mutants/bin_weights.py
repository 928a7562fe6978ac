"""Answers to `checks.bin_weights`."""

import math

import numpy as np

from mutants import answer


def with_tents(low, high, bins, pixels, sampling_ratio, aligned):
    return _tents(low, high, bins, pixels, sampling_ratio, aligned)


def by_loops(low, high, bins, pixels, sampling_ratio, aligned):
    weights = [[0.0] * pixels for _ in range(bins)]
    start, side = (low - 0.5, high - low) if aligned else (low, max(high - low, 1))
    for m in range(bins * sampling_ratio):
        position = start + (m + 0.5) * side / (bins * sampling_ratio)
        if position < -1 or position > pixels:
            continue
        position = min(max(position, 0), pixels - 1)
        before = math.floor(position)
        part = position - before
        row = weights[m // sampling_ratio]
        row[before] += (1 - part) / sampling_ratio
        if part:
            row[before + 1] += part / sampling_ratio
    return weights


def by_interpolation_in_float32(low, high, bins, pixels, sampling_ratio, aligned):
    start, side = (low - 0.5, high - low) if aligned else (low, max(high - low, 1))
    position = start + (np.arange(bins * sampling_ratio) + 0.5) * side / (bins * sampling_ratio)
    inside = (position >= -1) & (position <= pixels)
    columns = [np.interp(position, np.arange(pixels), one) * inside for one in np.eye(pixels)]
    return np.array(columns, np.float32).T.reshape(bins, sampling_ratio, pixels).mean(axis=1)


def _tents(
    low,
    high,
    bins,
    pixels,
    ratio,
    aligned,
    ends=lambda low, high, aligned: (low - 0.5, high - low) if aligned else (low, max(high - low, 1)),
    inside=lambda position, pixels: (position >= -1) & (position <= pixels),
    offset=0.5,
    clip=True,
    tent=lambda distance: np.maximum(0, 1 - distance),
    mean=lambda weights: weights.mean(axis=1),
):
    """Return the weights; any step can be replaced."""
    start, side = ends(low, high, aligned)
    position = start + (np.arange(bins * ratio) + offset) * side / (bins * ratio)
    nearest = np.clip(position, 0, pixels - 1) if clip else position
    weights = tent(np.abs(nearest[:, None] - np.arange(pixels))) * inside(position, pixels)[:, None]
    return mean(weights.reshape(bins, ratio, pixels))


def _over_inside(weights):
    return weights.sum(axis=1) / np.maximum((weights.sum(axis=2) > 0).sum(axis=1), 1)[:, None]


RIGHT = (with_tents, by_loops, by_interpolation_in_float32)
WRONG = (
    answer("samples at the starts of their parts", lambda *a: _tents(*a, offset=0), "in the middle"),
    answer("the nearest pixel", lambda *a: _tents(*a, tent=lambda d: (d < 0.5) * 1.0), "nearer one counts"),
    answer(
        "weights swapped", lambda *a: _tents(*a, tent=lambda d: np.where(d < 1, np.where(d > 0, d, 1), 0)), "nearer"
    ),
    answer("the sum of the samples", lambda *a: _tents(*a, mean=lambda w: w.sum(axis=1)), "mean of their weights"),
    answer("a small RoI stays small", lambda *a: _tents(*a, ends=lambda x, y, al: (x - 0.5 * al, y - x)), "at least"),
    answer(
        "a small RoI grows with aligned, too",
        lambda *a: _tents(*a, ends=lambda x, y, al: (x - 0.5 * al, max(y - x, 1))),
        "not enlarged",
    ),
    answer("aligned is ignored", lambda *a: _tents(*a[:5], False), "half a cell"),
    answer("always aligned", lambda *a: _tents(*a[:5], True)),
    answer(
        "aligned the other way",
        lambda *a: _tents(*a, ends=lambda x, y, al: (x + 0.5, y - x) if al else (x, max(y - x, 1))),
    ),
    answer("zeros around the map", lambda *a: _tents(*a, clip=False), "in full"),
    answer("every sample outside counts as 0", lambda *a: _tents(*a, inside=lambda p, n: (p >= 0) & (p <= n - 1))),
    answer("no sample counts as 0", lambda *a: _tents(*a, inside=lambda p, n: p == p), "more than one cell outside"),
    answer("a sample at -1 counts as 0", lambda *a: _tents(*a, inside=lambda p, n: (p > -1) & (p <= n)), "exactly one"),
    answer(
        "a sample at the end counts as 0", lambda *a: _tents(*a, inside=lambda p, n: (p >= -1) & (p < n)), "exactly"
    ),
    answer("the mean of the samples inside", lambda *a: _tents(*a, mean=_over_inside), "still part of the mean"),
    answer("two samples always", lambda low, high, b, n, r, al: _tents(low, high, b, n, 2, al)),
    answer("transposed", lambda *a: _tents(*a).T, "transpose|shape"),
    answer(
        "rows add up to 1 again", lambda *a: (lambda w: w / np.maximum(w.sum(axis=1, keepdims=True), 1e-9))(_tents(*a))
    ),
    answer(
        "the positions of the samples", lambda low, high, b, n, r, al: low + np.arange(b * r) * (high - low) / (b * r)
    ),
    answer("the last element takes what is left", lambda *a: np.cumsum(_tents(*a), axis=1)),
)

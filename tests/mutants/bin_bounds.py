"""Answers to `checks.bin_bounds`."""

import math

import numpy as np

from mutants import answer


def with_integers(low, high, bins, pixels, away=None, length_of=None, stop_of=None):
    away = away or _away
    first, last = away(low), away(high)
    length = (length_of or _length)(first, last)
    stops = [first + (stop_of or _stop)(i, length, bins) for i in range(bins)]
    return [
        (min(max(first + i * length // bins, 0), pixels), min(max(stop, 0), pixels)) for i, stop in enumerate(stops)
    ]


def with_fractions(low, high, bins, pixels):
    first, last = _away(low), _away(high)
    step = max(last - first + 1, 1) / bins
    index = np.arange(bins)
    starts, stops = first + np.floor(index * step), first + np.ceil((index + 1) * step)
    return np.clip(np.stack([starts, stops], axis=1), 0, pixels).astype(np.int32)


def by_listing_pixels(low, high, bins, pixels):
    first, last = _away(low), _away(high)
    length, bounds = _length(first, last), []
    for i in range(bins):
        stop = first + math.ceil((i + 1) * length / bins)
        inside = [pixel for pixel in range(pixels) if first + i * length // bins <= pixel < stop]
        bounds.append([inside[0], inside[-1] + 1] if inside else [pixels, pixels])
    return bounds


def _away(end):
    return int(math.copysign(math.floor(abs(end) + 0.5), end))


def _length(first, last):
    return max(last - first + 1, 1)


def _stop(i, length, bins):
    return -(-(i + 1) * length // bins)


def _clipped_first(low, high, bins, pixels):
    return with_integers(min(max(low, 0), pixels - 1), min(max(high, 0), pixels - 1), bins, pixels)


RIGHT = (with_integers, with_fractions, by_listing_pixels)
WRONG = (
    answer("halves go to the even number", lambda *a: with_integers(*a, away=round), "away from zero"),
    answer("cut off after adding a half", lambda *a: with_integers(*a, away=lambda end: int(end + 0.5)), "is -2"),
    answer("halves go up", lambda *a: with_integers(*a, away=lambda end: math.floor(end + 0.5)), "-0.5 becomes -1"),
    answer("ends are cut", lambda *a: with_integers(*a, away=int), "rounded to the nearest"),
    answer("ends are rounded outwards", lambda *a: with_integers(*a, away=math.ceil), "nearest|away"),
    answer("the last pixel is left out", lambda *a: with_integers(*a, length_of=lambda f, t: max(t - f, 1)), "three"),
    answer(
        "no pixel is shared",
        lambda *a: with_integers(*a, stop_of=lambda i, n, bins: (i + 1) * n // bins),
        "share a cell",
    ),
    answer("the last pixel is included", lambda *a: [(s, t - 1) for s, t in with_integers(*a)], "exclusive"),
    answer("start and length", lambda *a: [(s, t - s) for s, t in with_integers(*a)]),
    answer("the RoI is clipped before it is divided", _clipped_first, "first, then clip"),
    answer("not clipped", lambda low, high, bins, pixels: with_integers(low + 99, high + 99, bins, pixels + 999)),
    answer(
        "clipped below only", lambda low, high, bins, pixels: with_integers(low, high, bins, 10**6), "beyond the map"
    ),
    answer("clipped to the last pixel", lambda low, high, b, n: with_integers(low, high, b, n - 1), "exclusive"),
    answer("bins of whole steps", lambda low, high, b, n: with_integers(low, high - (high - low + 1) % b, b, n)),
    answer("as floats", lambda *a: np.array(with_integers(*a), float), "floats"),
    answer("two lists", lambda *a: tuple(zip(*with_integers(*a), strict=True)), "shape|wrong"),
    answer("slices", lambda *a: [slice(*pair) for pair in with_integers(*a)], "does not contain numbers"),
    answer("None for an empty bin", lambda *a: [p if p[0] < p[1] else None for p in with_integers(*a)]),
)

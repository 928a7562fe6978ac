"""Descriptions of wrong outputs: a wrong output is compared with transformed versions of the expected output.

A learner who has swapped x and y returns the expected boxes with swapped columns. The message of the check then says
so, in addition to its hint.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np

Groups = Callable[[Mapping[str, Any]], Mapping[str, np.ndarray]]
Pair = tuple[np.ndarray, np.ndarray]  # an output and the expected output

FACTORS = {2.0: "twice", 0.5: "half of", 4.0: "four times", 0.25: "a quarter of"}
OFFSETS = {1.0: "1 more than", -1.0: "1 less than", 0.5: "0.5 more than", -0.5: "0.5 less than"}
COLUMNS = {  # other orders of the four numbers of a box
    (1, 0, 3, 2): "is the expected result with x and y swapped",
    (2, 3, 0, 1): "is the expected result with its first two columns and its last two columns swapped",
    (0, 1, 3, 2): "is the expected result with its last two columns swapped",
    (1, 0, 2, 3): "is the expected result with its first two columns swapped",
    (0, 2, 1, 3): "is the expected result with its two middle columns swapped",
}
NEARLY = 2e-3  # relative error that suggests a rounding, and not another mistake
ENOUGH = 3  # elements that must agree before an output is called a transformed one
SAME = 1e-4  # relative difference of two factors that count as equal


@dataclass(frozen=True)
class Found:
    """A description of the wrong outputs of a function.

    Attributes
    ----------
    sentence : str
        The description.
    kind : str
        "scaled" if every output is too small or too large by a factor of its own, "rounded" if the outputs are rounded,
        or "".
    """

    sentence: str
    kind: str = ""


@dataclass(frozen=True)
class Difference:
    """The first element at which two arrays differ.

    Attributes
    ----------
    index : tuple of int
        Index of the element; empty for a single number.
    got, expected : float
        The two numbers.
    """

    index: tuple[int, ...]
    got: float
    expected: float


def first_difference(got: Any, expected: Any, close: float) -> Difference | None:
    """Return the first element at which two arrays of the same shape differ, or None.

    Parameters
    ----------
    got, expected : Any
        An output and the expected output. The result is None unless both are arrays of numbers of the same shape.
    close : float
        Tolerance, relative to the largest expected number.

    Returns
    -------
    Difference or None
        The first difference in reading order.
    """
    if not isinstance(got, np.ndarray) or not isinstance(expected, np.ndarray) or got.shape != expected.shape:
        return None
    if got.dtype.kind not in "fiub" or not got.size:
        return None
    wrong = ~_close(got, expected, close)
    if not wrong.any():
        return None
    index = tuple(int(i) for i in np.argwhere(wrong)[0])
    return Difference(index, got[index].item(), expected[index].item())


def recognise(
    pairs: Sequence[Pair],
    masks: Sequence[Mapping[str, np.ndarray]],
    numbers: Sequence[Mapping[str, float]],
    close: float,
) -> Found | None:
    """Return a description of all wrong outputs of a function, or None.

    Parameters
    ----------
    pairs : sequence of (got, expected)
        The wrong outputs and the expected outputs.
    masks : sequence of mappings
        For each pair, named groups of elements of the result: boolean arrays of the result's shape.
    numbers : sequence of mappings
        For each pair, named numbers by which a function may multiply or divide, such as a number of rows.
    close : float
        Tolerance, relative to the largest expected number.

    Returns
    -------
    Found or None
        The description. It is None if no description fits all pairs.
    """
    if sum(expected.size for _, expected in pairs) < ENOUGH:
        return None
    for found, transformed in _transformations(pairs):
        if all(_same(got, transformed(expected), close) for got, expected in pairs):
            known = found.kind != "scaled" or _scaled(pairs, numbers, close) is not None
            return Found(f"Your result {found.sentence}.", found.kind if known else "")
    if (scaled := _scaled(pairs, numbers, close)) is not None:
        return scaled
    if all(_nearly(got, expected) for got, expected in pairs):
        return Found(
            f"Your result is right to within {NEARLY:.1%}. Do you round, use half precision, or add a small constant?"
        )
    sentence_of_part = _partly_right(pairs, masks, close)
    return None if sentence_of_part is None else Found(sentence_of_part)


def _scaled(pairs: Sequence[Pair], numbers: Sequence[Mapping[str, float]], close: float) -> Found | None:
    """Return a description if each output is a multiple of the expected output, or None."""
    ratios: list[float] = []
    named: list[Mapping[str, float]] = []
    elements = rows = 0
    for (got, expected), values in zip(pairs, numbers, strict=True):
        if got.shape != expected.shape:
            return None
        ours, theirs = _numbers(expected), got.astype(float)
        counted = np.abs(ours) > close * np.abs(ours).max(initial=0)
        if not counted.any():  # such an output may be 0 / 0
            if np.nan_to_num(theirs).any():
                return None
            continue
        ratio = float((theirs[counted] / ours[counted]).mean())
        if not 0 < ratio < np.inf or not _same(theirs, ratio * ours, close):
            return None
        ratios.append(ratio)
        named.append(values)
        elements += int(counted.sum())
        rows += int(counted.sum() > 1)
    if min(len(ratios), elements) < ENOUGH or abs(ratios[0] - 1) < NEARLY:
        return None
    if _alike(ratios, ratios[:1] * len(ratios)):
        words = f"multiplied by {ratios[0]:.4g}" if ratios[0] > 1 else f"divided by {1 / ratios[0]:.4g}"
        return Found(f"Your result is the expected result, {words}.", "scaled")
    for name in named[0]:
        factors = [values.get(name, 0.0) for values in named]
        for words, others in (("multiplied", ratios), ("divided", [1 / ratio for ratio in ratios])):
            if min(factors) > 0 and _alike(others, factors):
                kind = "" if name.startswith("`") else "scaled"  # a hint of the case is about such an argument
                return Found(f"Your result is the expected result, {words} by {name}.", kind)
    if rows < 2:
        return None
    return Found("Your result is the expected result, multiplied by a number that differs between calls.", "scaled")


def _alike(factors: Sequence[float], others: Sequence[float]) -> bool:
    return bool(np.allclose(factors, others, rtol=SAME, atol=0))


def _nearly(got: np.ndarray, expected: np.ndarray) -> bool:
    """Return True if every element of an output has only a small relative error."""
    return got.shape == expected.shape and bool(
        np.isclose(got.astype(float), _numbers(expected), rtol=NEARLY, atol=0, equal_nan=True).all()
    )


def _close(got: np.ndarray, expected: np.ndarray, close: float) -> np.ndarray:
    finite = np.abs(expected[np.isfinite(expected)]) if expected.dtype.kind == "f" else np.abs(expected.astype(float))
    largest = float(finite.max(initial=0))
    return np.isclose(got.astype(float), expected.astype(float), rtol=close, atol=close * largest, equal_nan=True)


def _same(got: np.ndarray, expected: np.ndarray | None, close: float) -> bool:
    return expected is not None and got.shape == expected.shape and bool(_close(got, expected, close).all())


def _transformations(pairs: Sequence[Pair]) -> Iterator[tuple[Found, Callable[[np.ndarray], np.ndarray | None]]]:
    """Yield descriptions with the transformation of the expected output that each describes."""
    shapes = [expected.shape for _, expected in pairs]
    axes = len(shapes[0])
    if any(len(shape) != axes for shape in shapes):
        return
    if axes == 2:
        yield Found("is the transpose of the expected result"), lambda expected: expected.T
    for order in permutations(range(axes)) if axes in (3, 4) else ():
        if order != tuple(range(axes)):
            yield Found(f"is the expected result with its axes in the order {order}"), _transposed(order)
    yield Found("has an axis of length 1 too many"), _with_the_shape_of(pairs)
    if axes and all(shape[-1] == 4 for shape in shapes):
        for columns, sentence in COLUMNS.items():
            yield Found(sentence), _reordered(columns)
    yield Found("is the expected result with the opposite sign"), lambda expected: -_numbers(expected)
    yield Found("is the expected result without its signs"), lambda expected: np.abs(_numbers(expected))
    for factor, words in FACTORS.items():
        yield Found(f"is {words} the expected result", "scaled"), _times(factor)
    for offset, words in OFFSETS.items():
        yield Found(f"is {words} the expected result"), _plus(offset)
    if any(len(np.unique(got)) > 2 for got, _ in pairs):  # 0 and 1 alone do not suggest a rounding
        for words, cut in (("rounded", np.round), ("rounded down", np.floor), ("rounded up", np.ceil)):
            yield Found(f"is the expected result, {words} to whole numbers", "rounded"), cut
        yield Found("is the expected result without the digits after the point", "rounded"), np.trunc
        for digits in range(1, 5):
            yield (
                Found(f"is the expected result, rounded to {digits} digit{'s' * (digits > 1)}", "rounded"),
                _rounded(digits),
            )
    yield Found("is the expected result with 0 in place of negative numbers"), lambda expected: np.maximum(expected, 0)
    if all(expected.dtype.kind == "b" for _, expected in pairs):
        yield Found("is right with True and False exchanged"), np.logical_not
    yield Found("is 1 minus the expected result"), lambda expected: 1 - _numbers(expected)
    if axes:
        yield Found("is the expected result in reverse order"), lambda expected: expected[::-1]
        yield Found("is the expected result, moved by one row"), lambda expected: np.roll(expected, 1, axis=0)
        yield Found("is the expected result, moved by one row"), lambda expected: np.roll(expected, -1, axis=0)
    if axes > 1:
        yield Found("is the expected result with its last axis reversed"), lambda expected: expected[..., ::-1]
        yield Found("is the expected result, moved by one column"), lambda expected: np.roll(expected, 1, axis=-1)
        yield Found("is the expected result, moved by one column"), lambda expected: np.roll(expected, -1, axis=-1)
    yield Found("contains zeros only"), lambda expected: np.zeros_like(expected)
    if axes:
        yield Found("contains the expected rows in another order"), _sorted_like(pairs)


def _transposed(order: tuple[int, ...]) -> Callable[[np.ndarray], np.ndarray]:
    return lambda expected: expected.transpose(order)


def _reordered(columns: tuple[int, ...]) -> Callable[[np.ndarray], np.ndarray]:
    return lambda expected: expected[..., list(columns)]


def _times(factor: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda expected: factor * _numbers(expected)


def _plus(offset: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda expected: _numbers(expected) + offset


def _rounded(digits: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda expected: np.round(_numbers(expected), digits)


def _numbers(expected: np.ndarray) -> np.ndarray:
    return expected.astype(float)


def _with_the_shape_of(pairs: Sequence[Pair]) -> Callable[[np.ndarray], np.ndarray | None]:
    shapes = {id(expected): got.shape for got, expected in pairs}

    def reshaped(expected: np.ndarray) -> np.ndarray | None:
        shape = shapes[id(expected)]
        longer = len(shape) > expected.ndim and [n for n in shape if n != 1] == [n for n in expected.shape if n != 1]
        return expected.reshape(shape) if longer else None

    return reshaped


def _sorted_like(pairs: Sequence[Pair]) -> Callable[[np.ndarray], np.ndarray | None]:
    """Return a function that puts the rows of an expected output into the order of the output, if they are the same."""
    outputs = {id(expected): got for got, expected in pairs}

    def reordered(expected: np.ndarray) -> np.ndarray | None:
        got = outputs[id(expected)]
        if got.shape != expected.shape or len(got) < 2:
            return None
        theirs, ours = (np.lexsort(_numbers(rows).reshape(len(rows), -1).round(6).T) for rows in (got, expected))
        out = np.empty_like(expected)
        out[theirs] = expected[ours]
        return out

    return reordered


def _partly_right(pairs: Sequence[Pair], masks: Sequence[Mapping[str, np.ndarray]], close: float) -> str | None:
    """Return a sentence that says where the outputs are wrong, if they are right elsewhere."""
    if any(got.shape != expected.shape for got, expected in pairs):
        return None
    if all(not np.isfinite(got[~_close(got, expected, close)].astype(float)).any() for got, expected in pairs):
        return "Your result is right, except for elements that are NaN or infinite."
    wrong = [~_close(got, expected, close) for got, expected in pairs]
    if all(bad.all() for bad in wrong):
        return None
    for name in masks[0]:
        inside = [mask.get(name) for mask in masks]
        if all(mask is not None and not (bad & ~mask).any() for mask, bad in zip(inside, wrong, strict=True)):
            return f"Your result is right, except for {name}."
    if wrong[0].ndim >= 2 and all(bad.ndim >= 2 for bad in wrong):
        if all(not bad[1:].any() for bad in wrong) and all(len(bad) > 1 for bad in wrong):
            return "Only the first row of your result is wrong."
        if all(not bad[:1].any() for bad in wrong) and any(len(bad) > 1 for bad in wrong):
            return "The first row of your result is right, but other rows are wrong."
        columns = {tuple(np.flatnonzero(bad.any(axis=tuple(range(bad.ndim - 1))))) for bad in wrong}
        if len(columns) == 1 and len(next(iter(columns))) == 1 and all(bad.shape[-1] == 4 for bad in wrong):
            return f"Only column {next(iter(columns))[0]} of your result is wrong."
        inner = [bad[..., 1:-1, 1:-1] for bad in wrong if bad.ndim == 4]
        if len(inner) == len(wrong) and all(part.size and not part.any() for part in inner):
            return "Your result is right, except at the border."
    return None

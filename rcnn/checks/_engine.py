"""Shared code of all checks: it calls a learner's function, compares the output and builds the message.

A check tries its cases in order, from the simplest to the most complex. When a case fails, the check removes rows from
the input as long as the case still fails. The message then shows the input, the output, the expected output and a hint.
It never shows the solution.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rcnn._validate import integer, optional

Function = Callable[..., Any]
Arguments = Mapping[str, Any]

CLOSE = 1e-5  # tolerance for float32, relative to the largest expected number
MOST_TRIALS = 300  # maximum number of calls that are used to shrink a failing case
ROUNDED = 4  # digits after the decimal point in a message
NOT_WRITTEN = "is not written yet: it raises NotImplementedError"


class CheckFailed(AssertionError):
    """Error for a wrong function. Its message shows a failing input and a hint."""


@dataclass(frozen=True)
class Case:
    """One call of the function to check.

    Attributes
    ----------
    arguments : mapping of str to Any
        Maps the name of each argument to its value, in the order of the function's parameters.
    hint : str
        Hint to show if the result is wrong.
    named : tuple of str
        Names of the arguments that are passed by keyword.
    """

    arguments: Arguments
    hint: str
    named: tuple[str, ...] = ()

    def call(self, function: Function) -> Any:
        """Call a function with the arguments of this case, without copying them.

        Parameters
        ----------
        function : callable
            The function.

        Returns
        -------
        Any
            The result of `function`.
        """
        positional = [value for name, value in self.arguments.items() if name not in self.named]
        return function(*positional, **{name: self.arguments[name] for name in self.named})


@dataclass(frozen=True)
class Failure:
    """One mistake that a function makes in a case.

    Attributes
    ----------
    sentence : str
        Description of the mistake, such as "returns None". It completes a sentence that begins with "your function".
    got : Any
        The output to show in the message, or None to show no output.
    expected : Any
        The expected output to show in the message, or None to show none.
    hint : str or None
        Hint that replaces the hint of the case; None keeps the hint of the case.
    """

    sentence: str
    got: Any = None
    expected: Any = None
    hint: str | None = None  # replaces the hint of the case


def run(
    name: str, function: Function, reference: Function, cases: Iterable[Case], rows: Sequence[Sequence[str]] = ()
) -> None:
    """Raise CheckFailed unless `function` agrees with `reference` in every case.

    Parameters
    ----------
    name : str
        Name of the check.
    function, reference : callable
        The function to check, and a correct function.
    cases : iterable of Case
        The cases, simplest first.
    rows : sequence of sequences of str, optional
        Groups of argument names. To shrink a failing case, the check removes rows from the arguments of a group. All
        arguments of a group lose the same rows.

    Raises
    ------
    CheckFailed
        If the output for a case is wrong. The message shows the first failing case, made as small as possible.
    TypeError
        If `function` is not callable.
    """
    check_callable(name, function)
    for case in cases:
        failure = examine(function, reference, case)
        if failure is not None:
            case, failure = _smallest(function, reference, case, failure, rows)
            raise CheckFailed(message(name, case, failure))


def examine(function: Function, reference: Function, case: Case) -> Failure | None:
    """Return what is wrong with a function's output for a case, or None.

    Parameters
    ----------
    function, reference : callable
        The function to check, and a correct function.
    case : Case
        The case.

    Returns
    -------
    Failure or None
        None if the output is right.
    """
    expected = copied(case).call(reference)
    got, failure = answer(function, case)
    return replace(failure, expected=expected) if failure is not None else compare(got, expected)


def answer(function: Function, case: Case, **live: Any) -> tuple[Any, Failure | None]:
    """Call a function with copies of a case's arguments.

    Parameters
    ----------
    function : callable
        The function to check.
    case : Case
        The case.
    **live : Any
        Arguments to pass instead of the arguments of the case, for example a random generator. They are not copied.

    Returns
    -------
    got : Any
        The output; None if the call failed.
    failure : Failure or None
        The failure if the function raised an error or changed an argument, otherwise None.
    """
    own = copied(case)
    own = replace(own, arguments={**own.arguments, **live})
    got, failure = attempt(own.call, function)
    if failure is not None:
        return None, failure
    for argument, before in case.arguments.items():
        if argument not in live and not _unchanged(before, own.arguments[argument]):
            return got, Failure(
                f"changes its argument {argument!r}",
                hint="Work on a copy, because the caller may still need the original.",
            )
    return got, None


def attempt(function: Function, *arguments: Any) -> tuple[Any, Failure | None]:
    """Call a function and catch its errors.

    Parameters
    ----------
    function : callable
        The function to check.
    *arguments : Any
        Arguments of the function.

    Returns
    -------
    got : Any
        The output; None if the function raised an error.
    failure : Failure or None
        The failure if the function raised an error, otherwise None.
    """
    try:
        return function(*arguments), None
    except NotImplementedError:
        return None, Failure(NOT_WRITTEN)
    except Exception as error:
        return None, Failure(f"raises {type(error).__name__}: {error}")


def check_callable(name: str, function: Any) -> None:
    """Raise TypeError unless `function` is callable.

    Parameters
    ----------
    name : str
        Name of the check, for the message.
    function : Any
        The object that should be a function.

    Raises
    ------
    TypeError
        If `function` is not callable.
    """
    if not callable(function):
        raise TypeError(
            f"checks.{name} takes a function, got {type(function).__name__}; pass the function without calling it"
        )


def generator_of(seed: int | None) -> np.random.Generator:
    """Return the random generator of a check.

    Parameters
    ----------
    seed : int or None
        The seed, in 0 .. 2^128 - 1; with None, the numbers are different in every call.

    Returns
    -------
    np.random.Generator
        The generator.

    Raises
    ------
    TypeError, ValueError
        If `seed` is neither None nor an integer in this range.
    """
    return np.random.default_rng(optional(integer(0, 2**128 - 1)).check("seed", seed))


def compare(got: Any, expected: Any) -> Failure | None:
    """Return what is wrong with an output, or None.

    Parameters
    ----------
    got : Any
        The output: an array, nested lists, a scalar or a tuple of them.
    expected : Any
        The expected output.

    Returns
    -------
    Failure or None
        None if the output equals the expected output. Floats only need to be close to the expected ones.
    """
    if got is None and expected is not None:
        return Failure("returns None", None, expected, "A function without `return` returns None.")
    if isinstance(expected, tuple):
        return _compare_parts(got, expected)
    try:
        array = np.asarray(got)
    except ValueError:
        return Failure("returns rows of different lengths", got, expected)
    wanted = np.asarray(expected)
    if array.dtype.kind not in "fiub":
        return Failure(f"returns a value of type {type(got).__name__}, which does not contain numbers", got, expected)
    if array.shape != wanted.shape and not array.size == wanted.size == 0:
        return Failure(f"returns an array of shape {array.shape}; expected {wanted.shape}", array, wanted)
    if not _equal(array.reshape(wanted.shape), wanted):
        return Failure("returns wrong numbers", array, wanted)
    return None


def _compare_parts(got: Any, expected: tuple[Any, ...]) -> Failure | None:
    if not isinstance(got, (tuple, list)) or len(got) != len(expected):
        return Failure(f"must return a tuple of {len(expected)} values", got, expected)
    for number, (part, wanted) in enumerate(zip(got, expected, strict=True)):
        failure = compare(part, wanted)
        if failure is not None:
            return replace(failure, sentence=f"{failure.sentence} (in the {_ordinal(number)} return value)")
    return None


def _equal(got: np.ndarray, expected: np.ndarray) -> bool:
    if expected.dtype.kind in "iub":
        return bool((got == expected).all())
    finite = np.abs(expected[np.isfinite(expected)])
    return bool(np.allclose(got, expected, rtol=CLOSE, atol=CLOSE * float(finite.max(initial=0)), equal_nan=True))


def copied(case: Case) -> Case:
    """Return a copy of a case with deep copies of its arguments.

    Parameters
    ----------
    case : Case
        The case.

    Returns
    -------
    Case
        The copy.
    """
    return replace(case, arguments={name: copy.deepcopy(value) for name, value in case.arguments.items()})


def _unchanged(before: Any, after: Any) -> bool:
    if isinstance(before, (list, tuple)):
        return (
            isinstance(after, type(before))
            and len(before) == len(after)
            and all(_unchanged(b, a) for b, a in zip(before, after, strict=True))
        )
    if isinstance(before, np.ndarray):
        return np.array_equal(before, after, equal_nan=before.dtype.kind == "f")
    return isinstance(before, np.random.Generator) or bool(before == after)  # drawing from a generator is allowed


# ---------------------------------------------------------------------- a smaller case


def _smallest(
    function: Function, reference: Function, case: Case, failure: Failure, rows: Sequence[Sequence[str]]
) -> tuple[Case, Failure]:
    """Remove rows from a failing case as long as it still fails. Return the smaller case and its mistake."""
    trials = 0
    shrinking = True
    while shrinking:
        shrinking = False
        for smaller in _shortened(case, rows):
            trials += 1
            if trials > MOST_TRIALS:
                return case, failure
            if (found := examine(function, reference, smaller)) is not None:
                case, failure, shrinking = smaller, found, True
                break
    return case, failure


def _shortened(case: Case, rows: Sequence[Sequence[str]]) -> Iterator[Case]:
    """Yield the case with half of the rows of a group removed, then with one row removed. One row always remains."""
    for group in rows:
        length = len(case.arguments[group[0]])
        halves = [range(length // 2, length), range(length // 2)] if length > 2 else []
        singles = [[i for i in range(length) if i != left_out] for left_out in range(length)] if length > 1 else []
        for kept in (*halves, *singles):
            shorter = {name: np.asarray(case.arguments[name])[list(kept)] for name in group}
            yield replace(case, arguments={**case.arguments, **shorter})


# ---------------------------------------------------------------------- the message


def message(name: str, case: Case, failure: Failure) -> str:
    """Return the text of a CheckFailed.

    Parameters
    ----------
    name : str
        Name of the check.
    case : Case
        The failing case.
    failure : Failure
        The mistake.

    Returns
    -------
    str
        The mistake, the input, the output, the expected output and a hint, on separate lines.
    """
    lines = [f"{name}: your function {failure.sentence}", "for"]
    lines += [_assigned(argument, value) for argument, value in case.arguments.items()]
    if failure.got is not None:
        lines.append(_assigned("got", failure.got))
    if failure.expected is not None:
        lines.append(_assigned("expected", failure.expected))
    return "\n".join([*lines, f"Hint: {failure.hint or case.hint}"])


def _assigned(name: str, value: Any) -> str:
    """Return a line, or several lines for a matrix, that show a value and its name."""
    heading = f"  {name} = "
    if isinstance(value, tuple):
        if not any(isinstance(part, (tuple, list, np.ndarray)) for part in value):
            return heading + repr(value)
        return "\n".join(_assigned(f"{name}[{i}]", part) for i, part in enumerate(value))
    try:
        array = np.asarray(value)
    except ValueError:  # rows of different lengths
        return heading + repr(value)
    if array.dtype.kind not in "fiub":
        return heading + repr(value)
    if array.ndim == 0:
        return heading + repr(array.item())
    text = np.array2string(
        array, precision=ROUNDED, suppress_small=True, separator=", ", threshold=60, prefix=heading, max_line_width=120
    )
    return heading + text + (f"  shape {array.shape}" if array.size == 0 else "")


def _ordinal(number: int) -> str:
    words = ("first", "second", "third")
    return words[number] if number < len(words) else f"{number + 1}th"

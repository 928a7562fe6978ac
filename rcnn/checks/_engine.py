"""What all checks share: calling a learner's function, comparing, and saying what is wrong so that it helps.

A check goes through cases from the simplest to the most tangled. The first that fails is made as small as it can be
while it still fails, and is then told: what went in, what came out, what was expected, and what to think about. The
answer itself is never told.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

Function = Callable[..., Any]
Arguments = Mapping[str, Any]

CLOSE = 1e-5  # of the largest number expected: what float32 may differ by
MOST_TRIALS = 300  # calls that are spent on making a failing case smaller
ROUNDED = 4  # digits of a number in a message
NOT_WRITTEN = "is not written yet: it raises NotImplementedError"


class CheckFailed(AssertionError):
    """A function does not do what it should; the message says for which input, and what to think about."""


@dataclass(frozen=True)
class Case:
    """One call of the function under check.

    arguments: by name, in the order in which the function takes them; those in `named` are passed by their names.
    hint: what to think about if this is wrong.
    """

    arguments: Arguments
    hint: str
    named: tuple[str, ...] = ()

    def call(self, function: Function) -> Any:
        """What `function` gives for arguments of its own; they may be looked at afterwards in `arguments`."""
        positional = [value for name, value in self.arguments.items() if name not in self.named]
        return function(*positional, **{name: self.arguments[name] for name in self.named})


@dataclass(frozen=True)
class Failure:
    """What is wrong with one case: a sentence, and what came out, if that helps."""

    sentence: str
    got: Any = None
    expected: Any = None
    hint: str | None = None  # in place of the case's own


def run(
    name: str, function: Function, reference: Function, cases: Iterable[Case], rows: Sequence[Sequence[str]] = ()
) -> None:
    """Nothing where `function` gives what `reference` gives for every case; else CheckFailed for the simplest.

    rows: names of arguments that may be shortened to make a failing case smaller; those in one group have a row for
        each other's rows and are shortened together.
    """
    check_callable(name, function)
    for case in cases:
        failure = examine(function, reference, case)
        if failure is not None:
            case, failure = _smallest(function, reference, case, failure, rows)
            raise CheckFailed(message(name, case, failure))


def examine(function: Function, reference: Function, case: Case) -> Failure | None:
    """What is wrong with `function` for a case; None if nothing is."""
    expected = copied(case).call(reference)
    got, failure = answer(function, case)
    return replace(failure, expected=expected) if failure is not None else compare(got, expected)


def answer(function: Function, case: Case, **live: Any) -> tuple[Any, Failure | None]:
    """(what `function` gives for arguments of its own, what is wrong with how it came by that or None).

    live: arguments that are passed in the place of the case's and not copied, such as a generator that is drawn from.
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
                hint="work on a copy: whoever calls a function may still need what was passed",
            )
    return got, None


def attempt(function: Function, *arguments: Any) -> tuple[Any, Failure | None]:
    """(what `function` gives, None), or (None, why it gives nothing)."""
    try:
        return function(*arguments), None
    except NotImplementedError:
        return None, Failure(NOT_WRITTEN)
    except Exception as error:
        return None, Failure(f"raises {type(error).__name__}: {error}")


def check_callable(name: str, function: Any) -> None:
    """TypeError for what is no function."""
    if not callable(function):
        raise TypeError(f"checks.{name} takes a function, not {type(function).__name__}; pass it without calling it")


def compare(got: Any, expected: Any) -> Failure | None:
    """What is wrong with what came out; None if nothing is. Numbers may be given as arrays, lists or scalars."""
    if got is None and expected is not None:
        return Failure("gives None", None, expected, "a function without `return` gives None")
    if isinstance(expected, tuple):
        return _compare_parts(got, expected)
    try:
        array = np.asarray(got)
    except ValueError:
        return Failure("gives rows of different lengths", got, expected)
    wanted = np.asarray(expected)
    if array.dtype.kind not in "fiub":
        return Failure(f"gives {type(got).__name__}, which does not hold numbers", got, expected)
    if array.shape != wanted.shape and not array.size == wanted.size == 0:
        return Failure(f"gives an array of shape {array.shape}; {wanted.shape} is expected", array, wanted)
    if not _equal(array.reshape(wanted.shape), wanted):
        return Failure("gives wrong numbers", array, wanted)
    return None


def _compare_parts(got: Any, expected: tuple[Any, ...]) -> Failure | None:
    if not isinstance(got, (tuple, list)) or len(got) != len(expected):
        return Failure(f"must give {len(expected)} things, in a tuple", got, expected)
    for number, (part, wanted) in enumerate(zip(got, expected, strict=True)):
        failure = compare(part, wanted)
        if failure is not None:
            return replace(failure, sentence=f"{failure.sentence} (the {_ordinal(number)} of what it gives)")
    return None


def _equal(got: np.ndarray, expected: np.ndarray) -> bool:
    if expected.dtype.kind in "iub":
        return bool((got == expected).all())
    finite = np.abs(expected[np.isfinite(expected)])
    return bool(np.allclose(got, expected, rtol=CLOSE, atol=CLOSE * float(finite.max(initial=0)), equal_nan=True))


def copied(case: Case) -> Case:
    """The same case with arguments of its own."""
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
    return isinstance(before, np.random.Generator) or bool(before == after)  # a generator is there to be drawn from


# ---------------------------------------------------------------------- a smaller case


def _smallest(
    function: Function, reference: Function, case: Case, failure: Failure, rows: Sequence[Sequence[str]]
) -> tuple[Case, Failure]:
    """A case that fails as well, none of whose rows can be left out, and what is wrong with it."""
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
    """The same case with half of a group's rows, then with one row less; a group keeps at least one."""
    for group in rows:
        length = len(case.arguments[group[0]])
        halves = [range(length // 2, length), range(length // 2)] if length > 2 else []
        singles = [[i for i in range(length) if i != left_out] for left_out in range(length)] if length > 1 else []
        for kept in (*halves, *singles):
            shorter = {name: np.asarray(case.arguments[name])[list(kept)] for name in group}
            yield replace(case, arguments={**case.arguments, **shorter})


# ---------------------------------------------------------------------- the message


def message(name: str, case: Case, failure: Failure) -> str:
    """What a learner is told."""
    lines = [f"{name}: your function {failure.sentence}", "for"]
    lines += [_assigned(argument, value) for argument, value in case.arguments.items()]
    if failure.got is not None:
        lines.append(_assigned("came out", failure.got))
    if failure.expected is not None:
        lines.append(_assigned("expected", failure.expected))
    return "\n".join([*lines, f"Think about it: {failure.hint or case.hint}"])


def _assigned(name: str, value: Any) -> str:
    """A line, or several for a matrix, that shows a value and what it is called."""
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

"""Shared code of all checks: it calls a learner's function, compares the output and builds the message.

A check tries its cases in order, from the simplest to the most complex. When a case fails, the check removes rows from
the input as long as the case still fails. The message then shows the input, the output, the expected output and a hint.
It never shows the solution. If the output is a known transformation of the expected output, such as its transpose, the
message says so.

After the last case, the check repeats some calls, also with arrays that are read-only or not contiguous. This finds
functions whose result depends on earlier calls or on the memory layout of their input.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from time import process_time
from typing import Any

import numpy as np

from rcnn._validate import integer, optional
from rcnn.checks import _hints
from rcnn.checks._recognise import Found, Groups, first_difference, recognise

Function = Callable[..., Any]
Arguments = Mapping[str, Any]
Explain = Callable[["Function", "Case", "Failure"], "Failure"]

CLOSE = 1e-5  # tolerance for float32, relative to the largest expected number
MOST_TRIALS = 300  # maximum number of calls that are used to shrink a failing case
MOST_SECONDS = 2.0  # maximum processor time of these calls, because a learner's function may be slow
TINY = 1e-35  # smaller numbers may be 0, as in float32
REPEATED = 8  # number of cases that are repeated with another memory layout
CACHED = 8  # number of arrays of one size whose memory NumPy keeps, and one more
COMPARED = 12  # number of further cases that are used to recognise a mistake
ROUNDED, MOST_ROUNDED = 4, 12  # digits after the decimal point in a message
LONGEST = 300  # characters of a value that is not an array
OF_SHAPES = re.compile(  # errors of NumPy for arrays whose shapes do not fit together
    r"core dimension|broadcast|not aligned|boolean index did not match|too many indices|out of bounds"
    r"|setting an array element with a sequence|must match exactly|cannot reshape|doesn't match array|out of range"
)
ABOUT_DIGITS = re.compile(r"round|integer|whole|digit|fraction|pixel|precision|no number changes")
NOT_WRITTEN = "is not written yet: it raises NotImplementedError"


class CheckFailed(AssertionError):
    """Error for a wrong function. Its message shows a failing input and a hint.

    In a notebook, only the message is shown, without the traceback.
    """

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)
        _hints.forget()  # `failed` and other functions of this package then remember the check

    def _render_traceback_(self) -> list[str]:
        """Return the lines that IPython shows for this error."""
        return str(self).splitlines()


class BrokenCheck(RuntimeError):
    """Error in a check itself."""


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
    layout : str
        Memory layout of the arrays among the arguments, a key of `LAYOUTS`.
    """

    arguments: Arguments
    hint: str
    named: tuple[str, ...] = ()
    layout: str = "plain"

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
    note : str or None
        Sentence about the output, such as "Your result is the transpose of the expected result."
    """

    sentence: str
    got: Any = None
    expected: Any = None
    hint: str | None = None
    note: str | None = None


def run(
    name: str,
    function: Function,
    reference: Function,
    cases: Iterable[Case],
    rows: Sequence[Sequence[str]] = (),
    groups: Groups | None = None,
    parts: Sequence[str] = (),
    explain: Explain | None = None,
    about_shapes: bool = False,
    mistakes: Sequence[tuple[Function, str]] = (),
    of_factor: str | None = None,
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
    groups : callable, optional
        Function that takes the arguments of a case and returns named groups of elements of the result, such as "boxes
        that touch". The message names a group if the result is wrong only there.
    parts : sequence of str, optional
        If a check measures what `function` does, the places of these measurements, such as "in the weights". The
        message shows them instead of the number of a return value.
    explain : callable, optional
        Function that takes `function`, the failing case and the failure. It returns the failure, with another note or
        hint if it recognises the mistake.
    about_shapes : bool, default: False
        True if the exercise is about shapes. An error about shapes then gets the hint of the case.
    mistakes : sequence of (callable, str), optional
        Functions that make a common mistake, each with its hint. If `function` agrees with one of them, the message
        shows this hint.
    of_factor : str, optional
        Hint to show if the result is the expected result, multiplied or divided by a number.

    Raises
    ------
    CheckFailed
        If the output for a case is wrong. The message shows the first failing case, made as small as possible.
    TypeError
        If `function` is not callable.
    """
    check_callable(name, function)
    try:
        with judging(name):
            _run(name, function, reference, cases, rows, groups, explain, about_shapes, mistakes, of_factor)
    except CheckFailed as error:
        if not parts:
            raise
        raise with_hints(name, CheckFailed(_with_places(str(error), parts))) from error


def _with_places(text: str, parts: Sequence[str]) -> str:
    for number, place in enumerate(parts):
        text = text.replace(f"(in the {_ordinal(number)} return value)", f"({place})")
    return text


def _run(
    name: str,
    function: Function,
    reference: Function,
    cases: Iterable[Case],
    rows: Sequence[Sequence[str]],
    groups: Groups | None,
    explain: Explain | None,
    about_shapes: bool,
    mistakes: Sequence[tuple[Function, str]],
    of_factor: str | None,
) -> None:
    remaining = _generated(cases)
    passed: list[tuple[Case, Any, Any]] = []
    for case in remaining:
        got, failure = _examined(function, reference, case)
        if failure is not None:
            others = [case, *(other for other, _ in zip(remaining, range(COMPARED - 1), strict=False))]
            found = _recognised(function, reference, others, groups)
            common = (hint for mistaken, hint in mistakes if _agrees(function, mistaken, others))
            case, failure = _smallest(function, reference, case, failure, rows)
            if explain is not None:
                failure = explain(function, case, failure)
            hint = failure.hint or next(common, None)
            hint = hint or (None if about_shapes else _hint_about_shapes(case, failure, first=not passed))
            if found is not None and found.kind == "scaled":
                hint = hint or of_factor
            if found is not None and found.kind == "rounded" and not ABOUT_DIGITS.search(case.hint):
                hint = hint or NOT_ROUNDED
            note = failure.note or (None if found is None else found.sentence)
            raise failed(name, case, replace(failure, hint=hint, note=note))
        passed.append((case, got, _snapshot(got)))
    for case, got, before in passed[-REPEATED:]:
        if got is not None and _snapshot(got) != before:
            raise failed(name, case, Failure("changes the result of an earlier call", hint=FRESH))
    layouts = [layout for layout in LAYOUTS if layout != "plain"]
    for number, (case, _, _) in enumerate(passed[:2] + passed[-REPEATED:]):
        laid_out = replace(case, layout=layouts[number % len(layouts)])
        failure = examine(function, reference, laid_out)
        if failure is not None:
            again = examine(function, reference, case)
            hint = LAYOUTS[laid_out.layout] if again is None else ANOTHER_RESULT
            raise failed(name, laid_out, replace(failure, hint=hint))


def _hint_about_shapes(case: Case, failure: Failure, first: bool) -> str | None:
    """Return a hint about the shapes of the arguments, if the function raises an error about shapes, or None.

    After the first case, only errors of arithmetic count. A wrong index may be the mistake that the case reveals, and
    so may any error if an argument is empty.
    """
    shapes = {name: np.shape(value) for name, value in case.arguments.items() if isinstance(value, np.ndarray)}
    found = OF_SHAPES.search(failure.sentence) if failure.sentence.startswith("raises ") else None
    if found is None or any(0 in shape for shape in shapes.values()):
        return None
    if not first and failure.sentence.startswith("raises IndexError"):
        return None
    listed = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
    given = f" The shapes of the arguments are: {listed}." if listed else ""
    return (
        f"The shapes of two arrays do not fit, or an index is too large.{given} Print the shapes of your own arrays "
        "before the line that raises the error."
    )


def _generated(cases: Iterable[Case]) -> Iterator[Case]:
    """Yield the cases. Raise BrokenCheck for an error in a check itself, which is not the learner's."""
    try:
        yield from cases
    except Exception as error:
        raise BrokenCheck("this check cannot generate its inputs; please report this error") from error


def failed(name: str, case: Case, failure: Failure) -> CheckFailed:
    """Return the error for a mistake, and prepare the further hints that `checks.hint()` gives.

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
    CheckFailed
        The error.
    """
    return with_hints(name, CheckFailed(message(name, case, failure)))


def with_hints(name: str, error: CheckFailed) -> CheckFailed:
    """Return the error of a check of this package, so that `checks.hint()` refers to that check.

    Parameters
    ----------
    name : str
        Name of the check.
    error : CheckFailed
        The error, which is about to be raised.

    Returns
    -------
    CheckFailed
        The same error.
    """
    _hints.remember(name)
    return error


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
    return _examined(function, reference, case)[1]


def _examined(function: Function, reference: Function, case: Case) -> tuple[Any, Failure | None]:
    """Return the output of a function for a case, and what is wrong with it."""
    expected = copied(replace(case, layout="plain")).call(reference)
    _fill_free_memory(expected)
    got, failure = answer(function, case)
    return got, replace(failure, expected=expected) if failure is not None else compare(got, expected)


def _fill_free_memory(expected: Any) -> None:
    """Allocate and free arrays of NaN as large as a result, because free memory often contains zeros.

    A function that leaves elements of its result unwritten, for example after `np.empty`, then returns NaN.
    """
    for part in expected if isinstance(expected, tuple) else (expected,):
        if isinstance(part, np.ndarray):
            filled = [np.full(part.shape, np.nan, dtype) for dtype in (np.float64, np.float32) for _ in range(CACHED)]
            del filled


def _agrees(function: Function, mistaken: Function, cases: Sequence[Case]) -> bool:
    """Return True if a function returns what another function returns, in all of these cases."""
    try:
        return all(examine(function, mistaken, case) is None for case in cases)
    except Exception:  # a function with a mistake may raise an error
        return False


def _numbers_of(case: Case) -> dict[str, float]:
    """Return named numbers by which a wrong function may multiply or divide its result."""
    numbers: dict[str, float] = {}
    for name, value in case.arguments.items():
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            numbers[f"`{name}`"] = value
        elif isinstance(value, np.ndarray) and value.ndim:
            numbers[f"the number of rows of `{name}`"] = len(value)
            numbers[f"the number of elements of `{name}`"] = value.size
    return numbers


def _recognised(function: Function, reference: Function, cases: Iterable[Case], groups: Groups | None) -> Found | None:
    """Return a description that fits the wrong outputs of a function in all of these cases, or None."""
    wrong: list[tuple[np.ndarray, np.ndarray]] = []
    masks: list[Mapping[str, np.ndarray]] = []
    numbers: list[Mapping[str, float]] = []
    for case in cases:
        failure = examine(function, reference, case)
        if failure is None:
            continue
        if not isinstance(failure.got, np.ndarray) or not isinstance(failure.expected, np.ndarray):
            return None
        if failure.hint in (NOT_FLOATS, NOT_A_MASK):  # the numbers are right
            return None
        if failure.got.dtype.kind not in "fiub" or not failure.got.size:
            continue
        wrong.append((failure.got, failure.expected))
        masks.append({} if groups is None else groups(case.arguments))
        numbers.append(_numbers_of(case))
    return recognise(wrong, masks, numbers, CLOSE)


def _snapshot(got: Any) -> Any:
    """Return the contents of an array, or of a tuple or list of arrays, as a value that can be compared."""
    if isinstance(got, (tuple, list)):
        return tuple(_snapshot(part) for part in got if isinstance(part, np.ndarray))
    return got.tobytes() if isinstance(got, np.ndarray) else None


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
    except (Exception, SystemExit) as error:  # a learner's function may call exit()
        hint = READ_ONLY if "read-only" in str(error) else None
        return None, Failure(f"raises {type(error).__name__}: {error}", hint=hint)


@contextmanager
def judging(name: str) -> Iterator[None]:
    """Raise CheckFailed for errors in a block that reads a learner's output, which may be of any type.

    Parameters
    ----------
    name : str
        Name of the check.

    Yields
    ------
    None

    Raises
    ------
    CheckFailed
        If the block raises an error. The message shows this error.
    """
    try:
        yield
    except (CheckFailed, BrokenCheck):
        raise
    except Exception as error:
        raise with_hints(
            name,
            CheckFailed(
                f"{name}: your function returns a value that cannot be read ({type(error).__name__}: {error})\n"
                "Hint: Compare the types and the shapes of your result with the description in the exercise."
            ),
        ) from error


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
    array, failure = as_array(got)
    if failure is not None:
        return replace(failure, got=got, expected=expected)
    wanted = np.asarray(expected)
    if array.shape != wanted.shape and not _is_empty_list(got, array, wanted):
        return Failure(f"returns an array of shape {array.shape}; expected {wanted.shape}", array, wanted)
    if not _equal(array.reshape(wanted.shape), wanted):
        return Failure("returns wrong numbers", array, wanted)
    if wanted.dtype.kind in "iub" and wanted.ndim and array.dtype.kind not in "iub" and has_dtype(got, wanted):
        values = f"returns {array.dtype} values" if array.size else f"returns an empty array of {array.dtype}"
        return Failure(f"{values}; expected {_kind(wanted)}", array, wanted, NOT_FLOATS)
    if wanted.dtype.kind == "b" and wanted.ndim and array.dtype.kind in "iu" and isinstance(got, np.ndarray):
        return Failure(f"returns {array.dtype} values; expected {_kind(wanted)}", array, wanted, NOT_A_MASK)
    if wanted.dtype.kind in "iu" and wanted.size and wanted.ndim and array.dtype.kind == "b":
        return Failure(f"returns a mask; expected {_kind(wanted)}", array, wanted)
    return None


def as_array(got: Any) -> tuple[np.ndarray, Failure | None]:
    """Convert an output of any type to an array of numbers.

    Parameters
    ----------
    got : Any
        The output.

    Returns
    -------
    array : np.ndarray
        The array; it is empty if the output cannot be converted.
    failure : Failure or None
        The failure if the output does not consist of numbers, otherwise None.
    """
    try:
        array = np.asarray(got.filled(np.nan) if isinstance(got, np.ma.MaskedArray) else got)
    except Exception:  # rows of different lengths, or an error in the output's own conversion
        kind = "rows of different lengths" if isinstance(got, (list, tuple)) else f"a {type(got).__name__}"
        return np.zeros(0), Failure(f"returns {kind}", got)
    if array.dtype.kind in "fiub":
        return array, None
    if array.dtype.kind == "c":
        return np.zeros(0), Failure("returns complex numbers", got)
    if isinstance(got, np.ndarray):
        return np.zeros(0), Failure(f"returns an array of dtype {array.dtype}, which does not contain numbers", got)
    return np.zeros(0), Failure(f"returns a value of type {type(got).__name__}, which does not contain numbers", got)


def _is_empty_list(got: Any, array: np.ndarray, wanted: np.ndarray) -> bool:
    """Return True for an empty list where an array without elements is expected: a list cannot have shape (0, 4)."""
    return array.size == wanted.size == 0 and isinstance(got, (list, tuple)) and array.shape[0] == wanted.shape[0]


def has_dtype(got: Any, numbers: np.ndarray) -> bool:
    """Return True if the dtype of an output matters. An empty list has no dtype.

    Parameters
    ----------
    got : object
        Output of a function.
    numbers : array
        Numbers that the output contains, or should contain.

    Returns
    -------
    bool
        True unless the output is an empty list or tuple, or another object without a dtype.
    """
    return bool(numbers.size) or isinstance(got, np.ndarray)


def _kind(wanted: np.ndarray) -> str:
    return "bools" if wanted.dtype.kind == "b" else "integers"


def _compare_parts(got: Any, expected: tuple[Any, ...]) -> Failure | None:
    scalars = not any(isinstance(part, (tuple, list, np.ndarray)) for part in expected)
    if isinstance(got, np.ndarray) and got.ndim == 1 and scalars:
        got = got.tolist()
    if not isinstance(got, (tuple, list)) or len(got) != len(expected):
        many = "a list or a tuple of one value" if len(expected) == 1 else f"a tuple of {len(expected)} values"
        return Failure(f"must return {many}", got, expected)
    for number, (part, wanted) in enumerate(zip(got, expected, strict=True)):
        failure = compare(part, wanted)
        if failure is not None:
            inner, of = failure.sentence, f"(in the {_ordinal(number)} return value)"
            sentence = (
                inner.replace("return value)", f"number of the {of[8:]}") if inner.endswith(")") else f"{inner} {of}"
            )
            return replace(failure, sentence=sentence)
    return None


def _equal(got: np.ndarray, expected: np.ndarray) -> bool:
    if expected.dtype.kind in "iub":
        return bool((got == expected).all())
    finite = np.abs(expected[np.isfinite(expected)])
    atol = CLOSE * float(finite.max(initial=0)) + TINY
    return bool(np.allclose(got, expected, rtol=CLOSE, atol=atol, equal_nan=True))


# ---------------------------------------------------------------------- copies of arguments

READ_ONLY = "The argument is read-only here. Work on a copy, because the caller may still need the original."
FRESH = "Create a new array in each call. An array that all calls share is overwritten by the next call."
ANOTHER_RESULT = (
    "The same input passed before. The result must depend on the arguments alone, not on earlier calls or on random "
    "numbers."
)
NOT_FLOATS = "An array of floats cannot be used as an index or as a mask. Convert the array, or create it with a dtype."
NOT_ROUNDED = "Return the numbers as they are computed. Do not round them, and do not convert them to integers."
NOT_A_MASK = (
    "An array of 0 and 1 is not a mask: as an index, it selects rows 0 and 1. Create the array with dtype bool."
)
LAYOUTS = {  # each layout with a hint
    "plain": "",
    "read-only": READ_ONLY,
    "apart": "The same numbers passed before. Here the array is a part of a larger one (a slice with a step), so its "
    "elements are not next to each other in memory. Use its shape and its indices, not its memory.",
    "by columns": "The same numbers passed before. Here the columns of the array, not its rows, are contiguous in "
    "memory. Use its shape and its indices, not its memory.",
}


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
    return replace(case, arguments={name: _laid_out(value, case.layout) for name, value in case.arguments.items()})


def _laid_out(value: Any, layout: str) -> Any:
    """Return a deep copy of a value. If it is an array with an axis, it gets this memory layout."""
    own = copy.deepcopy(value)
    if not isinstance(own, np.ndarray) or own.ndim == 0 or layout == "plain":
        return own
    if layout == "by columns":
        return np.asfortranarray(own)
    if layout == "apart":
        wider = np.zeros((*own.shape[:-1], 2 * own.shape[-1]), own.dtype)
        wider[..., ::2] = own
        return wider[..., ::2]
    own.setflags(write=False)
    return own


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
    trials, stop = 0, process_time() + MOST_SECONDS
    shrinking = True
    while shrinking:
        shrinking = False
        for smaller in _shortened(case, rows):
            trials += 1
            if trials > MOST_TRIALS or process_time() > stop:
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
    different = first_difference(failure.got, failure.expected, CLOSE)
    digits = ROUNDED if different is None else _digits(different.got, different.expected)
    if failure.got is not None:
        lines.append(_assigned("got", failure.got, digits))
    if failure.expected is not None:
        lines.append(_assigned("expected", failure.expected, digits))
    if different is not None and different.index:
        where = ", ".join(map(str, different.index))
        got, expected = (_number(value, digits) for value in (different.got, different.expected))
        lines.append(f"The first difference is at [{where}]: got {got}, expected {expected}.")
    if failure.note is not None:
        lines.append(failure.note)
    return "\n".join([*lines, f"Hint: {failure.hint or case.hint}"])


def _digits(got: float, expected: float) -> int:
    """Return how many digits after the decimal point show the difference between two numbers."""
    if not (np.isfinite(got) and np.isfinite(expected)):
        return ROUNDED
    shown = (digits for digits in range(ROUNDED, MOST_ROUNDED) if round(got, digits) != round(expected, digits))
    return next(shown, MOST_ROUNDED)


def _number(value: float, digits: int) -> str:
    return str(value) if isinstance(value, (bool, int)) else f"{value:.{digits}f}".rstrip("0").rstrip(".")


def _assigned(name: str, value: Any, digits: int = ROUNDED) -> str:
    """Return a line, or several lines for a matrix, that show a value and its name."""
    heading = f"  {name} = "
    if isinstance(value, tuple):
        if not any(isinstance(part, (tuple, list, np.ndarray)) for part in value):
            return heading + _shown(value)
        return "\n".join(_assigned(f"{name}[{i}]", part, digits) for i, part in enumerate(value))
    array, failure = as_array(value)
    if failure is not None:
        return heading + _shown(value)
    if array.ndim == 0:
        return heading + repr(array.item())
    largest = float(np.abs(array[np.isfinite(array)]).max(initial=0)) if array.dtype.kind == "f" else 1.0
    text = np.array2string(
        array,
        precision=digits,
        suppress_small=largest >= 10.0**-digits,
        separator=", ",
        threshold=60,
        prefix=heading,
        max_line_width=120,
    )
    return heading + text + (f"  shape {array.shape}" if array.size == 0 else "")


def _shown(value: Any) -> str:
    """Return the repr of a value, shortened."""
    try:
        text = repr(value)
    except Exception:
        text = f"<{type(value).__name__}>"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."


def _ordinal(number: int) -> str:
    words = ("first", "second", "third", "fourth", "fifth")
    return words[number] if number < len(words) else f"{number + 1}th"

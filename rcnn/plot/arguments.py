"""Validation of the arguments of all drawing functions, based on their type annotations.

matplotlib accepts almost any value and fails much later, when it draws. Therefore, the decorator `checked` compares
each argument with its type annotation first. The functions themselves check what a type annotation cannot express, such
as shapes and ranges. A check takes the name and the value of an argument. It returns the value, or raises TypeError or
ValueError.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import is_color_like
from matplotlib.figure import Figure

from rcnn._validate import FLAG, Rule, as_array, as_float, check_pair, check_sequence, integer, is_sequence, shown

P = ParamSpec("P")
R = TypeVar("R")

LARGEST = 1e15  # matplotlib draws larger numbers at wrong positions
MOST_ELEMENTS = 2**26  # in an array
MOST_BYTES = 2**30  # in a photo
MOST = 2**20  # the largest absolute value of an integer
MOST_CHARACTERS = 10_000  # in a text
UNCHECKED = ("boxes_list",)  # arguments that may contain invalid boxes, which are marked in the drawing
NUMBER = Rule(f"a finite number in [{-LARGEST:g}, {LARGEST:g}]", as_float, lambda x: abs(x) <= LARGEST)
COLORS = ("color", "colors")  # arguments that are colours
WHOLE = ("labels", "labels_list", "matches", "color_of")  # arguments that contain indices


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function so that its arguments are compared with their type annotations.

    Parameters
    ----------
    function : callable
        A function with type annotations, in a module with `from __future__ import annotations`.

    Returns
    -------
    callable
        The decorated function. It raises TypeError or ValueError, with the name of the argument.
    """
    signature = inspect.signature(function)
    checks = {
        name: CHECKS[str(parameter.annotation)]
        for name, parameter in signature.parameters.items()
        if str(parameter.annotation) in CHECKS
    }

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        given = signature.bind(*args, **kwargs)
        for name, value in given.arguments.items():
            if name in checks:
                given.arguments[name] = checks[name](name, value)
        return function(*given.args, **given.kwargs)

    return run


Check = Callable[[str, Any], Any]


def _check_axes(name: str, value: Any) -> Axes:
    if not isinstance(value, Axes):
        raise TypeError(f"{name} must be matplotlib Axes, got {shown(value)}")
    return value


def _check_figure(name: str, value: Any) -> Figure:
    if not isinstance(value, Figure):
        raise TypeError(f"{name} must be a matplotlib Figure, got {shown(value)}")
    return value


def _check_array(name: str, value: Any) -> Any:
    """Return the value unchanged if it is an array of real numbers that matplotlib can draw. NaN is allowed."""
    array = as_array(value, name)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name} must contain real numbers, got {shown(value)}")
    most = MOST_BYTES if array.dtype == np.uint8 else MOST_ELEMENTS
    if array.size > most:
        raise ValueError(f"{name} must have at most {most} elements, got shape {array.shape}")
    if array.dtype.itemsize == 1 or name.split("[")[0] in UNCHECKED:
        return value
    if (np.abs(array.astype(np.float64)) > LARGEST).any():
        raise ValueError(f"{name} must contain numbers in [{-LARGEST:g}, {LARGEST:g}], got {shown(value)}")
    if name.split("[")[0] in WHOLE and array.dtype.kind == "f" and not (array == np.rint(array)).all():
        raise ValueError(f"{name} must contain integers, got {shown(value)}")
    return value


def _check_row(name: str, value: Any) -> Any:
    """Return the value unchanged if it is a sequence of real numbers that matplotlib can draw."""
    check_sequence(value, name)
    return _check_array(name, value)


def _check_two(name: str, value: Any) -> tuple[float, float]:
    check_sequence(value, name, 2)
    return _check_number(f"{name}[0]", value[0]), _check_number(f"{name}[1]", value[1])


def _check_text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string, got {shown(value)}")
    if len(value) > MOST_CHARACTERS:
        raise ValueError(f"{name} must have at most {MOST_CHARACTERS} characters, got {len(value)}")
    if name.split("[")[0] in COLORS and not is_color_like(value):
        raise ValueError(f"{name} must be a colour, such as #56B4E9, got {shown(value)}")
    return value


def _check_number(name: str, value: Any) -> float:
    return float(NUMBER.check(name, value))


def _check_integer(name: str, value: Any) -> int:
    return int(integer(-MOST, MOST).check(name, value))


def _check_flag(name: str, value: Any) -> bool:
    return bool(FLAG.check(name, value))


def _check_layer(name: str, value: Any) -> tuple[int, int, int]:
    check_sequence(value, name, 3)
    kernel, stride, padding = value
    return (
        integer(1, MOST).check(f"the kernel of {name}", kernel),
        integer(1, MOST).check(f"the stride of {name}", stride),
        integer(0, MOST).check(f"the padding of {name}", padding),
    )


def _check_pair(name: str, value: Any) -> tuple[int, int]:
    return check_pair(value, name)


def _each(check: Check) -> Check:
    """Return a check that applies `check` to every element of a sequence."""

    def check_all(name: str, value: Any) -> list[Any]:
        check_sequence(value, name)
        return [check(f"{name}[{index}]", element) for index, element in enumerate(value)]

    return check_all


def _each_value(check: Check) -> Check:
    """Return a check that applies `check` to every value of a mapping whose keys are strings."""

    def check_all(name: str, value: Any) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise TypeError(f"{name} must be a mapping, got {shown(value)}")
        return {
            _check_text(f"the keys of {name}", key): check(f"{name}[{shown(key)}]", element)
            for key, element in value.items()
        }

    return check_all


def _or_none(check: Check) -> Check:
    """Return a check that also allows None."""
    return lambda name, value: None if value is None else check(name, value)


_PLAIN: dict[str, Check] = {
    "Axes": _check_axes,
    "np.ndarray": _check_array,
    "Values": _check_array,
    "str": _check_text,
    "float": _check_number,
    "int": _check_integer,
    "bool": _check_flag,
    "tuple[int, int]": _check_pair,
    "Figure": _check_figure,
    "tuple[float, float]": _check_two,
    "Sequence[float]": _check_row,
    "Sequence[int]": _check_row,
    "Sequence[float] | np.ndarray": _check_row,
    "Sequence[int] | np.ndarray": _check_row,
    "float | tuple[float, float]": lambda name, value: (_check_two if is_sequence(value) else _check_number)(
        name, value
    ),
    "Sequence[str]": _each(_check_text),
    "Sequence[Layer]": _each(_check_layer),
    "tuple[str, str]": _each(_check_text),
    "Sequence[np.ndarray]": _each(_check_array),
    "Sequence[np.ndarray | None]": _each(_or_none(_check_array)),
    "Mapping[str, np.ndarray]": _each_value(_check_array),
    "Mapping[str, Values]": _each_value(_check_array),
    "Mapping[str, Sequence[float]]": _each_value(_check_array),
    "Mapping[str, Sequence[float] | np.ndarray]": _each_value(_check_array),
    "Mapping[str, float]": _each_value(_check_number),
    "Mapping[str, int]": _each_value(_check_integer),
    "Norms": _each_value(_each_value(_check_number)),
}
CHECKS = {**_PLAIN, **{f"{annotation} | None": _or_none(check) for annotation, check in _PLAIN.items()}}

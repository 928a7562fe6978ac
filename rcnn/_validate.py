"""Validation of input: arrays that users pass to public functions, and settings of configs, recipes and plans."""

import math
import re
import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike

T = TypeVar("T")


def as_float_array(values: ArrayLike, name: str) -> np.ndarray:
    """Return `values` as a C-contiguous, native-endian float array of the same shape.

    float16 and float32 become float32; float64, integers, booleans and lists become float64. An array that already has
    this form is not copied. Error messages contain `name`, the name of the argument.

    Raises TypeError if the values are not real numbers, and ValueError if the rows differ in length.
    """
    array = _as_array(values, name)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name} must hold real numbers, got {_describe(values, array)}")
    single = array.dtype.kind == "f" and array.dtype.itemsize <= 4
    return np.asarray(array, dtype=np.float32 if single else np.float64, order="C")


def as_index_array(values: ArrayLike, name: str, length: int | None = None) -> np.ndarray:
    """Return `values` as a C-contiguous int64 array of shape (length,); an empty list becomes an empty array.

    Raises TypeError if the values are not integers, and ValueError if the shape is wrong.
    """
    array = _as_array(values, name)
    if array.size == 0 and array.ndim == 1:
        array = array.astype(np.int64)
    if array.dtype.kind not in "iub":
        raise TypeError(f"{name} must hold integers, got {_describe(values, array)}")
    if array.ndim != 1 or (length is not None and len(array) != length):
        raise ValueError(f"{name} must have shape ({'N' if length is None else length},), got {array.shape}")
    return np.asarray(array, dtype=np.int64, order="C")


def check_boxes(values: ArrayLike, name: str = "boxes") -> np.ndarray:
    """Return `values` as a float array of N boxes, (N, 4); an empty list becomes an array of shape (0, 4).

    The coordinates are not checked. Raises the errors of `as_float_array`, and ValueError if the shape is wrong.
    """
    boxes = as_float_array(values, name)
    if boxes.ndim == 1 and boxes.size == 0:
        return boxes.reshape(0, 4)  # (0, 4)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        hint = "; pass one box as [box], of shape (1, 4)" if boxes.shape == (4,) else ""
        raise ValueError(f"{name} must have shape (N, 4), got {boxes.shape}{hint}")
    return boxes


def check_scores(values: ArrayLike, length: int, name: str = "scores") -> np.ndarray:
    """Return `values` as a float array of shape (length,), one score per box."""
    scores = as_float_array(values, name)
    if scores.shape != (length,):
        raise ValueError(f"{name} must have shape ({length},), one per box, got {scores.shape}")
    return scores


def check_finite(array: np.ndarray, name: str) -> None:
    """Raise ValueError if `array` (N, ...) contains NaN or infinity; the message shows the first such row."""
    finite = np.isfinite(array)
    if not finite.all():
        row = int(np.argmin(finite.reshape(len(array), -1).all(axis=1)))
        raise ValueError(f"{name}[{row}] is {array[row].tolist()}; all coordinates must be finite")


def check_flags(target: Mapping[str, ArrayLike], key: str, length: int, name: str) -> np.ndarray:
    """Return `target[key]` as a bool array (length,), one flag per object; if the key is missing, all flags are False.

    `name` is the name of the target in error messages. Raises ValueError if the shape is wrong.
    """
    flags = np.asarray(target.get(key, np.zeros(length)), np.bool_)
    if flags.shape != (length,):
        raise ValueError(f"{name}['{key}'] must have shape ({length},), one per box, got {flags.shape}")
    return flags


def counted(target: Mapping[str, ArrayLike], length: int, name: str) -> np.ndarray:
    """Return a bool mask (length,) of the objects of a target that are neither difficult (VOC) nor crowd (COCO).

    All other objects are ignored in training and in evaluation. Raises the errors of `check_flags`.
    """
    return ~(check_flags(target, "difficult", length, name) | check_flags(target, "crowd", length, name))


def check_pair(values: Sequence[int] | np.ndarray, name: str) -> tuple[int, int]:
    """Return `values` as two integers (rows, columns); raise ValueError unless both are at least 1."""
    pair = tuple(values) if isinstance(values, (Sequence, np.ndarray)) else ()
    if len(pair) != 2 or not all(isinstance(v, (int, np.integer)) and v >= 1 for v in pair):
        raise ValueError(f"{name} must be two whole numbers of at least 1 (height and width), got {values!r}")
    return int(pair[0]), int(pair[1])


def in_common_dtype(*arrays: np.ndarray) -> list[np.ndarray]:
    """Return the float arrays, converted to the widest dtype among them."""
    dtype = np.result_type(*arrays)
    return [array.astype(dtype, copy=False) for array in arrays]


def _as_array(values: ArrayLike, name: str) -> np.ndarray:
    try:
        return np.asarray(values)
    except ValueError as error:
        raise ValueError(f"{name} must be an array, but its rows differ in length") from error


def _describe(values: ArrayLike, array: np.ndarray) -> str:
    return f"{type(values).__name__} of dtype {array.dtype}" if array.dtype != object else type(values).__name__


def shown(value: Any, limit: int = 80) -> str:
    """Return a value as one short line for an error message, whatever it is."""
    if isinstance(value, np.ndarray) and (value.size > 8 or value.dtype.kind not in "fiub"):
        return f"an array of shape {value.shape} and dtype {value.dtype}"
    try:
        text = " ".join(_SHORT.repr(value).split())
    except Exception:  # a huge integer, or an object whose repr() fails
        return f"a value of type {type(value).__name__}"
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 80
_SHORT.maxlist = _SHORT.maxtuple = 8


# ---------------------------------------------------------------------- settings


@dataclass(frozen=True)
class Rule:
    """A rule for the values that a setting may have.

    Attributes
    ----------
    allowed : str
        A description of the allowed values, for error messages.
    convert : callable
        Function that returns the normalised value. It raises TypeError for a wrong type and ValueError for a wrong
        value.
    accepts : callable
        Function that returns whether a normalised value is in the allowed range.
    """

    allowed: str
    convert: Callable[[Any], Any]
    accepts: Callable[[Any], bool] = lambda value: True

    def check(self, name: str, value: Any) -> Any:
        """Return the normalised value; raise TypeError or ValueError if the value is not allowed."""
        try:
            normalised = self.convert(value)
        except TypeError:
            raise wrong_type(name, value, self.allowed) from None
        except (ValueError, OverflowError):
            raise wrong_value(name, value, self.allowed) from None
        if not self.accepts(normalised):
            raise wrong_value(name, value, self.allowed)
        return normalised


def normalise_fields(instance: object, rules: Mapping[str, Rule], prefix: str = "") -> None:
    """Replace the fields of a frozen dataclass instance with their normalised values.

    In messages, `prefix` precedes the name of the field. Raises the errors of `Rule.check`.
    """
    for name, rule in rules.items():
        object.__setattr__(instance, name, rule.check(f"{prefix}{name}", getattr(instance, name)))


def check_keys(table: Iterable[str], allowed: Sequence[str], name: str) -> None:
    """Raise ValueError unless every key of the table called `name` is allowed; the message lists the allowed keys."""
    for key in table:
        if key not in allowed:
            raise ValueError(f"{name}: unknown key {shown(key)}; allowed keys are {', '.join(allowed)}")


def wrong_type(name: str, value: Any, allowed: str) -> TypeError:
    """Return the error for a value of the wrong type."""
    return TypeError(f"{name} must be {allowed}, got {shown(value)} ({type(value).__name__})")


def wrong_value(name: str, value: Any, allowed: str) -> ValueError:
    """Return the error for a value outside the allowed range."""
    return ValueError(f"{name} must be {allowed}, got {shown(value)}")


def is_number(value: Any) -> bool:
    """Return whether the value is a real number other than True and False."""
    return isinstance(value, Real) and not isinstance(value, bool)


def as_flag(value: Any) -> bool:
    """Return the value if it is True or False; raise TypeError for anything else."""
    return _instance(value, bool)


def as_string(value: Any) -> str:
    """Return the value if it is a string; raise TypeError for anything else."""
    return _instance(value, str)


def as_integer(value: Any) -> int:
    """Return an integer of any type as an int; raise TypeError for anything else, including True and False."""
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise TypeError
    return int(value)


def as_number(value: Any) -> int | float:
    """Return an integer as an int and any other number as a float.

    Raises TypeError if the value is not a number, and ValueError if it is NaN or infinite.
    """
    if not is_number(value):
        raise TypeError
    if not math.isfinite(value):
        raise ValueError
    return int(value) if isinstance(value, Integral) else float(value)


def as_float(value: Any) -> float:
    """Return a number as a float; raise the errors of `as_number`."""
    return float(as_number(value))


def as_table(value: Any) -> dict[str, Any]:
    """Return a mapping as a dict; raise TypeError for anything else."""
    if not isinstance(value, Mapping):
        raise TypeError
    return dict(value)


def as_tuple(values: Any) -> tuple[Any, ...]:
    """Return an iterable as a tuple; raise TypeError for anything else, and also for strings and mappings."""
    if isinstance(values, (str, bytes, Mapping)):
        raise TypeError
    return tuple(values)


def tuple_of(convert: Callable[[Any], Any]) -> Callable[[Any], tuple[Any, ...]]:
    """Return a function that turns an iterable into a tuple and applies `convert` to each element."""
    return lambda values: tuple(map(convert, as_tuple(values)))


FLAG = Rule("True or False", as_flag)
STRING = Rule("a string", as_string)
FRACTION = Rule("a number in [0, 1]", as_float, lambda x: 0 <= x <= 1)
POSITIVE = Rule("a number above 0", as_float, lambda x: x > 0)


def integer(least: int, most: int | None = None) -> Rule:
    """Return the rule that allows integers of at least `least` and, if `most` is given, at most `most`."""
    if most is None:
        return Rule(f"an integer of at least {least}", as_integer, lambda x: x >= least)
    return Rule(f"an integer of at least {least} and at most {most}", as_integer, lambda x: least <= x <= most)


def one_of(values: Sequence[str]) -> Rule:
    """Return the rule that allows one of these strings."""
    return Rule(f"one of {', '.join(values)}", as_string, lambda value: value in values)


def optional(rule: Rule) -> Rule:
    """Return a rule that allows None and every value that `rule` allows."""
    return Rule(
        rule.allowed,
        lambda value: None if value is None else rule.convert(value),
        lambda value: value is None or rule.accepts(value),
    )


def _instance(value: Any, kind: type[T]) -> T:
    if not isinstance(value, kind):
        raise TypeError
    return value


# ---------------------------------------------------------------------- class names

MAX_NAME = 256  # characters of a class name; a longer name would take minutes to draw
MAX_CLASSES = 2**16  # names of classes, including the background
MAX_LISTED = 20  # names that a message lists
# Control characters, line breaks, and halves of surrogate pairs, which no encoding can represent.
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
NAME = Rule(
    f"a class name of 1 to {MAX_NAME} characters without control characters",
    as_string,
    lambda name: 0 < len(name) <= MAX_NAME and not UNPRINTABLE.search(name),
)


def listed(names: Sequence[str]) -> str:
    """Return names as a list for a message; after 20 names, the list ends with dots."""
    return ", ".join(names[:MAX_LISTED]) + ", ..." * (len(names) > MAX_LISTED)

"""Validation of input: arrays that users pass to public functions, and settings of configs, recipes and plans."""

import difflib
import functools
import math
import re
import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from numbers import Integral, Real
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike

T = TypeVar("T")

MOST_CONVS = 16  # convolutions in a head of the detector
MOST_LEVELS = 64  # levels of a pyramid; each level halves the resolution
MOST_BOXES = 2**20  # anchors, proposals or detections that are kept or sampled
MOST_SIDE = 2**20  # pixels along a side of an image or feature map; a larger number is a mistake
MOST_ENTRIES = 2**16  # entries of a sequence of settings, such as class names
MOST_SEQUENCE = 2**20  # elements of a sequence that is read one by one, such as images or targets
NO_NUMBERS = (bool, np.timedelta64)  # Python and NumPy count them among the integers
MOST_ELEMENTS = 2**30  # elements of an array whose shape is computed from the arguments


def as_float_array(values: ArrayLike, name: str) -> np.ndarray:
    """Return `values` as a C-contiguous, native-endian float array of the same shape.

    float16 and float32 become float32; float64, integers, booleans and lists become float64. An array that already has
    this form is not copied. Error messages contain `name`, the name of the argument.

    Raises TypeError if the values are not real numbers, and ValueError if the rows differ in length or memory is too
    small for a copy.
    """
    array = as_array(values, name)
    if array.dtype.char in "fd" and array.dtype.isnative and array.flags.c_contiguous:
        return array
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name} must contain real numbers, got {_describe(values, array)}")
    single = array.dtype.kind == "f" and array.dtype.itemsize <= 4
    return as_dtype(array, np.float32 if single else np.float64, name)


def as_dtype(array: np.ndarray, dtype: Any, name: str) -> np.ndarray:
    """Return an array of numbers as a C-contiguous array of another dtype; numbers that are too large become infinite.

    An array that already has this form is not copied. Raises ValueError if memory is too small for a copy.
    """
    if array.dtype == dtype and array.flags.c_contiguous and array.dtype.isnative:
        return array
    try:
        if array.dtype.itemsize <= np.dtype(dtype).itemsize:
            return np.asarray(array, dtype=dtype, order="C")
        with np.errstate(over="ignore", invalid="ignore"):
            return np.asarray(array, dtype=dtype, order="C")
    except MemoryError:
        raise ValueError(f"{name} must fit into memory, got shape {array.shape}") from None


def as_index_array(values: ArrayLike, name: str, length: int | None = None) -> np.ndarray:
    """Return `values` as a C-contiguous int64 array of shape (length,). An empty list becomes an empty array.

    Raises TypeError if the values are not integers, and ValueError if the shape is wrong.
    """
    array = as_array(values, name)
    if array.size == 0 and array.ndim == 1:
        array = np.zeros(0, np.int64)
    if array.dtype.kind not in "iub":
        raise TypeError(f"{name} must contain integers, got {_describe(values, array)}")
    if array.ndim != 1 or (length is not None and len(array) != length):
        raise ValueError(f"{name} must have shape ({'N' if length is None else length},), got {array.shape}")
    if array.dtype.kind == "u" and array.dtype.itemsize == 8 and array.max(initial=0) > np.iinfo(np.int64).max:
        raise ValueError(f"{name} must contain integers below 2^63, got {array.max()}")
    return as_dtype(array, np.int64, name)


def check_boxes(values: ArrayLike, name: str = "boxes") -> np.ndarray:
    """Return `values` as a float array (N, 4) of N boxes. An empty list becomes an array of shape (0, 4).

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
    """Return `values` as a float array of shape (length,) with one score per box."""
    scores = as_float_array(values, name)
    if scores.shape != (length,):
        raise ValueError(f"{name} must have shape ({length},), with one score per box, got {scores.shape}")
    return scores


def check_finite(array: np.ndarray, name: str) -> None:
    """Raise ValueError if `array` (N, ...) contains NaN or infinity. The message shows the first such row."""
    finite = np.isfinite(array)
    if not finite.all():
        row = int(np.argmin(finite.reshape(len(array), -1).all(axis=1)))
        raise ValueError(f"{name}[{row}] must be finite, got {array[row].tolist()}")


def is_finite(array: np.ndarray) -> bool:
    """Return whether all elements of a float array are finite. One pass over the memory is usually enough."""
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(array.sum())) or bool(np.isfinite(array).all())


def check_flags(target: Mapping[str, ArrayLike], key: str, length: int, name: str) -> np.ndarray:
    """Return `target[key]` as a bool array (length,) with one flag per object. Without this key, all flags are False.

    `name` is the name of the target in error messages. Raises ValueError if the shape is wrong, or if a flag is not
    True, False, 1 or 0.
    """
    if key not in target:
        return np.zeros(length, np.bool_)
    flags = as_array(target[key], f"{name}['{key}']")
    if flags.dtype.kind not in "biuf" and flags.size:
        raise TypeError(f"{name}['{key}'] must contain only True and False, got {_describe(target[key], flags)}")
    if flags.shape != (length,):
        raise ValueError(f"{name}['{key}'] must have shape ({length},), with one value per box, got {flags.shape}")
    if flags.dtype.kind != "b" and flags.size and (wrong := (flags != 0) & (flags != 1)).any():
        i = int(wrong.argmax())
        raise wrong_value(f"{name}['{key}'][{i}]", flags[i].item(), "True, False, 1 or 0")
    return flags.astype(np.bool_)


def counted(target: Mapping[str, ArrayLike], length: int, name: str) -> np.ndarray:
    """Return a bool mask (length,) of the objects of a target that are neither difficult (VOC) nor crowd (COCO).

    All other objects are ignored in training and in evaluation. Raises the errors of `check_flags`.
    """
    return ~(check_flags(target, "difficult", length, name) | check_flags(target, "crowd", length, name))


def check_pair(values: Sequence[int] | np.ndarray, name: str, most: int = MOST_SIDE) -> tuple[int, int]:
    """Return `values` as two integers (rows, columns). Raise ValueError unless both are in 1 .. `most`."""
    pair: Any = values if is_sequence(values) and len(values) == 2 else (None, None)
    if not all(is_whole(v) and 1 <= v <= most for v in pair):
        allowed = f"two integers of at least 1 and at most {most} (height and width)"
        raise ValueError(f"{name} must be {allowed}, got {shown(values)}")
    return int(pair[0]), int(pair[1])


def check_sides(values: Sequence[float], name: str) -> tuple[float, float]:
    """Return the (height, width) of an image as two floats. Raise an error unless both are in [0, 2^20]."""
    if isinstance(values, tuple) and len(values) == 2 and all(type(v) is int and 0 <= v <= MOST_SIDE for v in values):
        return float(values[0]), float(values[1])
    sides = as_float_array(values, name)
    if sides.shape != (2,) or not ((sides >= 0) & (sides <= MOST_SIDE)).all():
        raise ValueError(f"{name} must be two numbers in [0, {MOST_SIDE}] (height and width), got {shown(values)}")
    return float(sides[0]), float(sides[1])


def check_size(shape: Sequence[int], names: str) -> None:
    """Raise ValueError, with `names` in the message, if an array of this shape has more than 2^30 elements."""
    if math.prod(shape) > MOST_ELEMENTS:
        raise ValueError(
            f"{names} must be smaller: an array of shape {shown(tuple(shape), 200)} has more than {MOST_ELEMENTS} "
            "elements"
        )


def check_sequence(values: Any, name: str, length: int | None = None) -> None:
    """Raise TypeError if `values` is a string or not a sequence, and ValueError if its length is not `length`.

    A sequence may have at most 2^20 elements.
    """
    if not is_sequence(values):
        raise TypeError(f"{name} must be a sequence, got {shown(values)}")
    if len(values) > MOST_SEQUENCE:
        raise ValueError(f"{name} must have at most {MOST_SEQUENCE} elements, got {len(values)}")
    if length is not None and len(values) != length:
        raise ValueError(f"{name} must have length {length}, got {len(values)}")


def is_sequence(values: Any) -> bool:
    """Return whether `values` is a list, a tuple, an array or another sequence, but not a string."""
    if isinstance(values, np.ndarray):
        return values.ndim > 0
    if isinstance(values, (list, tuple)):
        return True
    return isinstance(values, Sequence) and not isinstance(values, (str, bytes, memoryview))


def check_generator(rng: Any, name: str = "rng") -> np.random.Generator:
    """Return `rng`. Raise TypeError unless it is a NumPy random generator."""
    if not isinstance(rng, np.random.Generator):
        raise TypeError(f"{name} must be a np.random.Generator (see np.random.default_rng), got {shown(rng)}")
    return rng


def check_dtype(dtype: Any, name: str = "dtype") -> np.dtype[Any]:
    """Return float32 or float64 as a dtype. Raise TypeError for anything else."""
    try:
        found = np.dtype(dtype if isinstance(dtype, (str, type, np.dtype)) else object)
    except (TypeError, ValueError):
        found = np.dtype(object)
    if found not in (np.float32, np.float64):
        raise TypeError(f"{name} must be float32 or float64, got {shown(dtype)}")
    return found.newbyteorder("=")


def in_common_dtype(*arrays: np.ndarray) -> list[np.ndarray]:
    """Return the float arrays, converted to the widest dtype among them."""
    dtype = np.result_type(*arrays)
    return [array.astype(dtype, copy=False) for array in arrays]


def as_array(values: ArrayLike, name: str) -> np.ndarray:
    """Return `values` as an array of any dtype.

    Raises ValueError if the rows differ in length, and TypeError if the conversion fails for any other reason.
    """
    if type(values) is np.ndarray:
        return values
    try:
        return np.asarray(values)
    except ValueError as error:
        raise ValueError(f"{name} must be an array, but its rows differ in length") from error
    except Exception as error:  # conversion calls methods of the object, which can raise anything
        raise TypeError(f"{name} cannot be converted to an array: {shown(str(error))}") from error


def is_whole(value: Any) -> bool:
    """Return whether the value is an integer other than True and False."""
    return type(value) is int or isinstance(value, (int, np.integer)) and not isinstance(value, NO_NUMBERS)


def _describe(values: ArrayLike, array: np.ndarray) -> str:
    return f"{type(values).__name__} of dtype {array.dtype}" if array.dtype != object else type(values).__name__


def shown(value: Any, limit: int = 80) -> str:
    """Return any value as one short line for an error message."""
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
        Function that takes a value and returns it in a normalised form, such as 3 for np.int64(3). It raises TypeError
        for a wrong type and ValueError for a wrong value.
    accepts : callable
        Function that returns whether a normalised value is in the allowed range.
    """

    allowed: str
    convert: Callable[[Any], Any]
    accepts: Callable[[Any], bool] = lambda value: True

    def check(self, name: str, value: Any) -> Any:
        """Return the normalised value. Raise TypeError or ValueError if the value is not allowed."""
        try:
            normalised = self.convert(value)
        except TypeError:
            raise wrong_type(name, value, self.allowed) from None
        except (ValueError, OverflowError):
            raise wrong_value(name, value, self.allowed) from None
        except Exception as error:  # conversion calls methods of the value, which can raise anything
            raise wrong_type(name, value, self.allowed) from error
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
    """Raise ValueError unless every key of the table called `name` is allowed.

    The message lists the allowed keys, the most similar ones first.
    """
    for key in table:
        if key not in allowed:
            similar = difflib.get_close_matches(str(key)[:100], allowed)
            names = [*similar, *(other for other in allowed if other not in similar)]
            raise ValueError(f"{name}: unknown key {shown(key)}; allowed keys are {listed(names)}")


def wrong_type(name: str, value: Any, allowed: str) -> TypeError:
    """Return the error for a value of the wrong type."""
    return TypeError(f"{name} must be {allowed}, got {shown(value)} ({type(value).__name__})")


def wrong_value(name: str, value: Any, allowed: str) -> ValueError:
    """Return the error for a value outside the allowed range."""
    return ValueError(f"{name} must be {allowed}, got {shown(value)}")


def is_number(value: Any) -> bool:
    """Return whether the value is a real number other than True and False."""
    return isinstance(value, Real) and not isinstance(value, NO_NUMBERS)


def _scalar(value: Any) -> Any:
    """Return the element of a zero-dimensional array, such as np.array(3). Return any other value unchanged."""
    return value[()] if isinstance(value, np.ndarray) and value.ndim == 0 else value


def as_flag(value: Any) -> bool:
    """Return the value if it is True or False. Raise TypeError for anything else."""
    if value is True or value is False:
        return value
    value = _scalar(value)
    return bool(value) if isinstance(value, np.bool_) else _instance(value, bool)


def as_string(value: Any) -> str:
    """Return the value if it is a string. Raise TypeError for anything else."""
    return _instance(value, str)


def as_integer(value: Any) -> int:
    """Return an integer of any type as an int. Raise TypeError for anything else, including True and False."""
    if type(value) is int:  # the usual case, without the slow tests for abstract classes
        return value
    value = _scalar(value)
    if not isinstance(value, Integral) or isinstance(value, NO_NUMBERS):
        raise TypeError
    return int(value)


def as_number(value: Any) -> int | float:
    """Return an integer as an int and any other number as a float.

    Raises TypeError if the value is not a number, and ValueError if it is NaN or infinite.
    """
    if type(value) is float and math.isfinite(value):  # the usual case, without the slow tests for abstract classes
        return value
    value = _scalar(value)
    if not is_number(value):
        raise TypeError
    if not math.isfinite(value):
        raise ValueError
    return int(value) if isinstance(value, Integral) else float(value)


def as_float(value: Any) -> float:
    """Return a number as a float. Raise the errors of `as_number`."""
    return float(as_number(value))


def as_table(value: Any) -> dict[str, Any]:
    """Return a mapping as a dict. Raise TypeError for anything else."""
    if not isinstance(value, Mapping):
        raise TypeError
    return dict(value)


def as_tuple(values: Any) -> tuple[Any, ...]:
    """Return an iterable as a tuple.

    Raises TypeError for strings, mappings and objects that are not iterable. Raises ValueError for more than 2^16
    elements.
    """
    if isinstance(values, (str, bytes, Mapping)):
        raise TypeError
    elements = tuple(islice(values, MOST_ENTRIES + 1))  # an iterator may be endless
    if len(elements) > MOST_ENTRIES:
        raise ValueError
    return elements


def tuple_of(convert: Callable[[Any], Any]) -> Callable[[Any], tuple[Any, ...]]:
    """Return a function that turns an iterable into a tuple and applies `convert` to each element."""
    return lambda values: tuple(map(convert, as_tuple(values)))


FLAG = Rule("True or False", as_flag)
STRING = Rule("a string", as_string)
FRACTION = Rule("a number in [0, 1]", as_float, lambda x: 0 <= x <= 1)
BELOW_ONE = Rule("a number in [0, 1)", as_float, lambda x: 0 <= x < 1)
POSITIVE = Rule("a number above 0", as_float, lambda x: x > 0)
NUMBER = Rule("a finite number", as_float)


@functools.lru_cache(256)
def integer(least: int, most: int | None = None) -> Rule:
    """Return a rule that allows the integers from `least` to `most`; without `most`, there is no upper limit."""
    if most is None:
        return Rule(f"an integer of at least {least}", as_integer, lambda x: x >= least)
    return Rule(f"an integer of at least {least} and at most {most}", as_integer, lambda x: least <= x <= most)


@functools.lru_cache(256)
def number(least: float, most: float) -> Rule:
    """Return a rule that allows the numbers from `least` to `most`."""
    return Rule(f"a number in [{least:g}, {most:g}]", as_float, lambda x: least <= x <= most)


@functools.lru_cache(256)
def one_of(values: tuple[str, ...]) -> Rule:
    """Return a rule that allows only these strings."""
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
MAX_CLASSES = 2**16  # classes, including the background
MAX_LISTED = 80  # characters of the names in a message
# Control characters, line breaks, and halves of surrogate pairs, which no encoding can represent.
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
NAME = Rule(
    f"a class name of 1 to {MAX_NAME} characters without control characters",
    as_string,
    lambda name: 0 < len(name) <= MAX_NAME and not UNPRINTABLE.search(name),
)


def listed(names: Sequence[str], most: int = MAX_LISTED) -> str:
    """Return text such as "a, b and 3 more": as many names as fit into about `most` characters, then a count."""
    shown: list[str] = []
    for name in names:
        if shown and len(", ".join([*shown, name])) > most:
            break
        shown.append(name if len(name) <= most else f"{name[:most]}...")
    return ", ".join(shown) + f" and {len(names) - len(shown)} more" * (len(shown) < len(names))

"""The door: what NumPy users pass becomes a checked array, or an error that says what was wrong."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike


def as_float_array(values: ArrayLike, name: str) -> np.ndarray:
    """`values` as a C-contiguous, native-endian float array of the same shape.

    float16 and float32 become float32; float64, integers, booleans and lists become float64. What already is such an
    array comes back as it is, uncopied. `name` is the argument's name, for the message.

    Raises TypeError for anything but real numbers, ValueError for rows of different lengths.
    """
    array = _as_array(values, name)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name} must hold real numbers, got {_what(values, array)}")
    single = array.dtype.kind == "f" and array.dtype.itemsize <= 4
    return np.asarray(array, dtype=np.float32 if single else np.float64, order="C")


def as_index_array(values: ArrayLike, name: str, length: int | None = None) -> np.ndarray:
    """`values` as a C-contiguous int64 array of shape (length,); an empty list is an empty array.

    Raises TypeError for anything but integers, ValueError for a wrong shape.
    """
    array = _as_array(values, name)
    if array.size == 0 and array.ndim == 1:
        array = array.astype(np.int64)
    if array.dtype.kind not in "iub":
        raise TypeError(f"{name} must hold integers, got {_what(values, array)}")
    if array.ndim != 1 or (length is not None and len(array) != length):
        raise ValueError(f"{name} must have shape ({'N' if length is None else length},), got {array.shape}")
    return np.asarray(array, dtype=np.int64, order="C")


def check_boxes(values: ArrayLike, name: str = "boxes") -> np.ndarray:
    """`values` as a float array of boxes, (N, 4); an empty list is (0, 4). Coordinates are not judged.

    Raises TypeError and ValueError as `as_float_array`, and ValueError for another shape.
    """
    boxes = as_float_array(values, name)
    if boxes.ndim == 1 and boxes.size == 0:
        return boxes.reshape(0, 4)  # (0, 4)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        hint = "; one box is (1, 4), a list of one" if boxes.shape == (4,) else ""
        raise ValueError(f"{name} must have shape (N, 4), got {boxes.shape}{hint}")
    return boxes


def check_scores(values: ArrayLike, length: int, name: str = "scores") -> np.ndarray:
    """`values` as a float array of shape (length,), a score for each box."""
    scores = as_float_array(values, name)
    if scores.shape != (length,):
        raise ValueError(f"{name} must have shape ({length},), one for each box, got {scores.shape}")
    return scores


def check_finite(array: np.ndarray, name: str) -> None:
    """Nothing, or a ValueError that names the first row of `array` (N, ...) that holds NaN or infinity."""
    finite = np.isfinite(array)
    if not finite.all():
        row = int(np.argmin(finite.reshape(len(array), -1).all(axis=1)))
        raise ValueError(f"{name}[{row}] is {array[row].tolist()}; every coordinate must be finite")


def check_flags(target: Mapping[str, ArrayLike], key: str, length: int, name: str) -> np.ndarray:
    """(length,) bool, what a target says of each of its objects under `key`; False where it does not say it.

    Raises ValueError for another shape; `name` is the target's.
    """
    flags = np.asarray(target.get(key, np.zeros(length)), np.bool_)
    if flags.shape != (length,):
        raise ValueError(f"{name}['{key}'] must have shape ({length},), one for each box, got {flags.shape}")
    return flags


def counted(target: Mapping[str, ArrayLike], length: int, name: str) -> np.ndarray:
    """(length,) bool, whether each object of a target counts: is neither marked difficult (VOC) nor a crowd (COCO).

    Those that do not are neither learned nor asked for. Raises ValueError as `check_flags`.
    """
    return ~(check_flags(target, "difficult", length, name) | check_flags(target, "crowd", length, name))


def check_pair(values: Sequence[int] | np.ndarray, name: str) -> tuple[int, int]:
    """`values` as (rows, columns), two whole numbers of at least 1."""
    pair = tuple(values) if isinstance(values, (Sequence, np.ndarray)) else ()
    if len(pair) != 2 or not all(isinstance(v, (int, np.integer)) and v >= 1 for v in pair):
        raise ValueError(f"{name} must be two whole numbers of at least 1, (height, width), got {values!r}")
    return int(pair[0]), int(pair[1])


def in_common_dtype(*arrays: np.ndarray) -> list[np.ndarray]:
    """The float arrays, all of the widest dtype among them."""
    dtype = np.result_type(*arrays)
    return [array.astype(dtype, copy=False) for array in arrays]


def _as_array(values: ArrayLike, name: str) -> np.ndarray:
    try:
        return np.asarray(values)
    except ValueError as error:
        raise ValueError(f"{name} is not an array: its rows differ in length") from error


def _what(values: ArrayLike, array: np.ndarray) -> str:
    return f"{type(values).__name__} of dtype {array.dtype}" if array.dtype != object else type(values).__name__

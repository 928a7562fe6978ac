"""Choice of the function that a call runs: a kernel, the NumPy reference, or a user's own function.

Two decorators make this choice:

    @replaceable(lambda boxes1, boxes2: floats(len(boxes1), len(boxes2)))
    def iou(boxes1, boxes2):           # the public function validates its input and makes one call
        return _iou(...)

    @compiled("boxes.iou", dtypes=(np.float32, np.float64))
    def _iou(boxes1, boxes2):          # the reference; rcnn/_ext/boxes.py has the driver `iou` with the same arguments
        ...
"""

from __future__ import annotations

import contextvars
import functools
import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

import numpy as np

from rcnn._ext import backend
from rcnn._validate import one_of

P = ParamSpec("P")
R = TypeVar("R")

REPLACEABLE = (
    "anchor_generator",
    "area",
    "batched_nms",
    "cell_anchors",
    "clip",
    "decode",
    "encode",
    "grid_anchors",
    "iou",
    "match",
    "nms",
    "remove_small",
    "roi_align",
    "roi_align_backward",
    "roi_pool",
    "roi_targets",
    "sample",
    "top_down",
)
"""The functions that `replace` accepts."""

_NONE: Mapping[str, Callable[..., Any]] = {}
_replacements = contextvars.ContextVar("replacements", default=_NONE)


# ---------------------------------------------------------------- kernel or reference


def compiled(
    driver: str, dtypes: tuple[type[np.floating], ...] = (np.float32,), uses: tuple[str, ...] = ()
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return a decorator that makes a reference call its kernel's driver if possible.

    The driver runs if kernels are switched on, if every float array among the arguments has one of `dtypes`, and if
    none of `uses` is replaced. A driver can decline by returning NotImplemented; then the reference runs. Neither the
    driver nor the reference warns about infinite values and NaN.

    Parameters
    ----------
    driver : str
        "module.function" in `rcnn._ext`; the function has the arguments and the results of the reference.
    dtypes : tuple of types
        The dtypes that the kernel was compiled for.
    uses : tuple of str
        The replaceable functions that the reference calls. The kernel contains its own code for them.

    Returns
    -------
    callable
        The decorator.
    """
    module, name = driver.split(".")

    def decorate(reference: Callable[P, R]) -> Callable[P, R]:
        load = functools.cache(functools.partial(importlib.import_module, f"rcnn._ext.{module}"))
        refused = frozenset(np.dtype(kind).num for kind in _FLOATS if kind not in dtypes)

        @functools.wraps(reference)
        def run(*args: P.args, **kwargs: P.kwargs) -> R:
            given = (*args, *kwargs.values()) if kwargs else args
            if backend.runs_kernels() and not _any_of(refused, given) and not (uses and any(map(is_replaced, uses))):
                result: R = getattr(load(), name)(*args, **kwargs)
                if result is not NotImplemented:
                    return result
            with np.errstate(all="ignore"):
                return reference(*args, **kwargs)

        return run

    return decorate


_FLOATS = (np.float16, np.float32, np.float64, np.longdouble)


def _any_of(dtype_numbers: frozenset[int], values: Any) -> bool:
    """Return True if any array in `values`, or in a list or tuple in `values`, has one of these dtype numbers."""
    for value in values:
        kind = type(value)
        if kind is np.ndarray:
            if value.dtype.num in dtype_numbers:
                return True
        elif (kind is tuple or kind is list) and value and type(value[0]) is not int and _any_of(dtype_numbers, value):
            return True
    return False


# ---------------------------------------------------------------- replacements


@dataclass(frozen=True)
class Result:
    """The description of a result that a user's own function must return.

    Attributes
    ----------
    shape : tuple
        The shape; None allows any size.
    dtype : dtype or None
        The dtype to which floats are converted. If it is None, the result must contain indices.
    least, most : int
        The range of indices.
    distinct : bool
        Whether all indices must be different.
    among : bool array, optional
        True for the indices that are allowed.
    scores : array, optional
        A score for each index. The returned indices must be in descending order of score.
    """

    shape: tuple[int | None, ...]
    dtype: Any = None
    least: int = 0
    most: int = 0
    distinct: bool = False
    among: np.ndarray | None = None
    scores: np.ndarray | None = None


def floats(shape: tuple[int | None, ...], like: Any) -> Result:
    """Describe a required result: floats of this shape. They are converted to the dtype of `like` if it is a float."""
    dtype = np.asarray(like).dtype
    return Result(shape, dtype if dtype.kind == "f" else np.dtype(np.float64))


def indices(count: int | None, least: int, most: int, **more: Any) -> Result:
    """Describe a required result: `count` indices from `least` to `most`. For `more`, see `Result`."""
    return Result((count,), None, least, most, **more)


def replaceable(
    returns: Callable[..., Result | tuple[Result, ...]],
    name: str | None = None,
    gather: Callable[..., Any] = tuple,
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return a decorator that allows `replace` to replace a public function.

    Parameters
    ----------
    returns : callable
        Function that takes the arguments of a call, by name, and describes the result that the call must return. If the
        result consists of several arrays, there is one description for each.
    name : str, optional
        The name that `replace` uses; by default, the name of the function.
    gather : callable
        Function that takes the list of these arrays and returns what the replaced function returns.

    Returns
    -------
    callable
        The decorator.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        stage, signature = name or function.__name__, inspect.signature(function)
        if stage not in REPLACEABLE:
            raise ValueError(f"{stage} is missing from REPLACEABLE")

        @functools.wraps(function)
        def run(*args: P.args, **kwargs: P.kwargs) -> R:
            replacement = _replacements.get().get(stage)
            if replacement is None:
                return function(*args, **kwargs)
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            try:
                required: Any = returns(**bound.arguments)
            except Exception:
                function(*args, **kwargs)  # the library's function reports invalid arguments
                raise
            result = _call(stage, replacement, signature, bound.arguments)
            if not isinstance(required, tuple):
                return _check(stage, result, required)  # type: ignore[return-value]
            if not isinstance(result, (tuple, list)) or len(result) != len(required):
                raise TypeError(f"your {stage} must return {_counted(len(required))}, got {_kind(result)}")
            gathered: Any = gather([_check(stage, part, one) for part, one in zip(result, required, strict=True)])
            return gathered

        return run

    return decorate


@contextmanager
def replace(name: str, function: Callable[..., Any]) -> Iterator[None]:
    """Run `function` instead of the library's function of this name, inside the block and in the current context.

    The whole detector uses your function: `predict`, `trace` and `get_loss` call it with the arguments of the replaced
    function and check its results. Inside your function, the name still refers to the library's own function. Checks
    and metrics (`rcnn.checks`, `rcnn.evaluate`) always use the library's own functions. Blocks can be nested, and the
    innermost block of a name applies. Threads that are started inside the block do not use your function.

    Parameters
    ----------
    name : str
        One of these functions: anchor_generator, area, batched_nms, cell_anchors, clip, decode, encode, grid_anchors,
        iou, match, nms, remove_small, roi_align, roi_align_backward, roi_pool, roi_targets, sample or top_down.
        `rcnn.checks` describes the arguments of anchor_generator, roi_targets and top_down, which replace
        `rcnn.anchors.all_anchors`, `rcnn.roi_heads.find_targets` and `rcnn.fpn.top_down`. The detector pools with
        RoIAlign, so a replaced roi_pool takes effect only where you call it directly. To train with your own roi_align,
        also replace roi_align_backward, and call `backward` in the same block. The gradient of top_down is always the
        library's.
    function : callable
        Your function. It takes the arguments of the library's function in the same order, by position; it takes
        keyword-only arguments by name. Arrays are read-only. Your function may omit the last arguments if they have
        default values. It returns arrays of the same shapes.

    Raises
    ------
    TypeError
        If `name` is not a string, or if `function` is not callable. Also raised inside the block, if the function takes
        other arguments or does not return an array of the right kind.
    ValueError
        If `name` is unknown. Also raised inside the block, if the function returns a wrong shape or a wrong index.

    Examples
    --------
    >>> from rcnn import boxes
    >>> with replace("iou", lambda boxes1, boxes2: np.ones((len(boxes1), len(boxes2)))):
    ...     boxes.iou([[0, 0, 2, 2]], [[4, 4, 5, 5]])
    array([[1.]])
    """
    one_of(REPLACEABLE).check("name", name)
    if not callable(function):
        raise TypeError(f"function must be callable, got {_kind(function)}")
    with _replacing({**_replacements.get(), name: function}):
        yield


@contextmanager
def _replacing(replacements: Mapping[str, Callable[..., Any]]) -> Iterator[None]:
    """Use exactly these replacements inside the block."""
    token = _replacements.set(replacements)
    try:
        yield
    finally:
        _replacements.reset(token)


def is_replaced(name: str) -> bool:
    """Return True if the library's function called `name` is replaced in the current context."""
    return name in _replacements.get()


def original(function: Callable[P, R]) -> Callable[P, R]:
    """Return a version of the function that always uses the library's own functions, for checks and metrics."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        with _replacing(_NONE):
            return function(*args, **kwargs)

    return run


def _call(name: str, function: Callable[..., Any], signature: inspect.Signature, arguments: Mapping[str, Any]) -> Any:
    """Call the user's function and return its result. During the call, the name refers to the library's function."""
    given = {
        argument: read_only(value) if isinstance(value, np.ndarray) else value
        for argument, value in _accepted(name, function, signature, arguments).items()
    }
    args, kwargs = _split(given, signature)
    with _replacing({other: value for other, value in _replacements.get().items() if other != name}):
        try:
            return function(*args, **kwargs)
        except Exception as error:
            error.add_note(f"This was raised by the function that replaces {name}.")
            raise


def read_only(array: np.ndarray) -> np.ndarray:
    """Return a read-only view of the array."""
    view = array.view()
    view.flags.writeable = False
    return view


def _split(arguments: Mapping[str, Any], signature: inspect.Signature) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments that are passed by position, and the keyword-only arguments."""
    by_name = {name for name, given in signature.parameters.items() if given.kind is inspect.Parameter.KEYWORD_ONLY}
    return (
        [value for name, value in arguments.items() if name not in by_name],
        {name: value for name, value in arguments.items() if name in by_name},
    )


def _accepted(
    name: str, function: Callable[..., Any], signature: inspect.Signature, arguments: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Return the arguments that the user's function takes. It may omit the last arguments if these have defaults."""
    try:
        own = inspect.signature(function)
    except (TypeError, ValueError):  # a builtin without a signature
        return arguments
    given = dict(arguments)
    while True:
        args, kwargs = _split(given, signature)
        try:
            own.bind(*args, **kwargs)
            return given
        except TypeError as error:
            last = next(reversed(given), None)
            if last is None or given[last] is not signature.parameters[last].default:
                raise TypeError(
                    f"your {name} must take the arguments ({', '.join(arguments)}), but it takes {own}"
                ) from error
            del given[last]


def _check(name: str, result: Any, required: Result) -> np.ndarray:
    """Convert the result of a user's function to the required array. If that fails, raise an error with `name`."""
    try:
        array = np.asarray(result)
    except ValueError as error:
        raise TypeError(f"your {name} must return an array, but it returned rows of different lengths") from error
    shape = ", ".join("any" if side is None else str(side) for side in required.shape)
    shape = f"({shape},)" if len(required.shape) == 1 else f"({shape})"
    kind = "integers" if required.dtype is None else "real numbers"
    if array.dtype.kind not in ("iu" if required.dtype is None else "fiub") and array.size:
        raise TypeError(f"your {name} must return {kind} of shape {shape}, got {_kind(result)}")
    fits = array.ndim == len(required.shape) and all(
        side is None or side == found for side, found in zip(required.shape, array.shape, strict=True)
    )
    if not fits:
        raise ValueError(f"your {name} must return an array of shape {shape}, got {array.shape}")
    if required.dtype is not None:
        return array.astype(required.dtype, copy=False)
    array = array.astype(np.int64, copy=False)
    outside = (array < required.least) | (array > required.most)
    if outside.any():
        raise ValueError(
            f"your {name} must return indices in {required.least} .. {required.most}, got {array[outside][0]}"
        )
    values, counts = np.unique(array, return_counts=True)
    if required.distinct and (counts > 1).any():
        raise ValueError(f"your {name} must return distinct indices, got {values[counts > 1][0]} more than once")
    if required.among is not None and not required.among[array].all():
        raise ValueError(f"your {name} returned the index {array[~required.among[array]][0]}, which is not allowed")
    if required.scores is not None and (np.diff(required.scores[array]) > 0).any():
        raise ValueError(f"your {name} must return indices in descending order of score")
    return array


def _kind(value: Any) -> str:
    """Return a description of the value's type for an error message."""
    if isinstance(value, np.ndarray):
        return f"an array of dtype {value.dtype}"
    return "None (is `return` missing?)" if value is None else type(value).__name__


def _counted(arrays: int) -> str:
    return f"{arrays} array{'s' * (arrays != 1)}"

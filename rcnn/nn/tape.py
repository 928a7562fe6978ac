"""A tape: the list of the operations that a network calls, with their names, their arguments and their results.

`backward` needs only the parents of a tensor and the function that computes their gradients (see `rcnn.nn.tensor`). To
write a network in another form, for example as an ONNX file, the names and the arguments are needed as well.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ParamSpec

if TYPE_CHECKING:  # rcnn.nn.tensor imports this module
    from rcnn.nn.tensor import Tensor

P = ParamSpec("P")


@dataclass(frozen=True, eq=False)
class Call:
    """A call of an operation.

    Attributes
    ----------
    name : str
        The name of the operation, such as "conv2d" or "Tensor.__add__".
    arguments : dict of str to object
        All arguments, with the default values of those that were not passed.
    result : Tensor
        The result.
    """

    name: str
    arguments: dict[str, Any]
    result: Tensor


_tape: contextvars.ContextVar[list[Call] | None] = contextvars.ContextVar("tape", default=None)


@contextlib.contextmanager
def taping() -> Iterator[list[Call]]:
    """Record every call of an operation within this block, in the order of the results.

    An operation that is called by another operation is not recorded. Operations are not fused within the block (see
    `rcnn.nn.fusion`). The block applies only to the current context, like that of `no_grad`.

    Yields
    ------
    list of Call
        The tape, which is empty at first.

    Examples
    --------
    >>> from rcnn.nn import Tensor
    >>> with taping() as calls:
    ...     y = (Tensor([1.0, 2.0]) * 3).mean()
    >>> [call.name for call in calls]
    ['Tensor.__mul__', 'Tensor.mean']
    """
    calls: list[Call] = []
    with _using(calls):
        yield calls


@contextlib.contextmanager
def _using(tape: list[Call] | None) -> Iterator[None]:
    token = _tape.set(tape)
    try:
        yield
    finally:
        _tape.reset(token)


def taped(function: Callable[P, Tensor]) -> Callable[P, Tensor]:
    """Decorate an operation, so that its calls are recorded within a `taping` block.

    Parameters
    ----------
    function : callable
        A function or a method that returns a tensor.

    Returns
    -------
    callable
        The decorated operation.
    """

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> Tensor:
        calls = _tape.get()
        if calls is None:
            return function(*args, **kwargs)
        with _using(None):
            result = function(*args, **kwargs).computed()
        bound = inspect.signature(function).bind(*args, **kwargs)
        bound.apply_defaults()
        calls.append(Call(function.__qualname__, bound.arguments, result))
        return result

    return run

"""Deferred results, so that what follows a convolution is computed in the same pass over its result.

A convolution is often followed by a norm, a sum and a ReLU. Each of them would read and write the whole map once more,
which takes longer than its arithmetic. In a function that is decorated with `fused`, a convolution therefore returns a
tensor whose value is not computed yet, and a norm, a sum or a ReLU returns another one that describes all of them
together. The value is computed when something else reads it, or when the outermost decorated function returns. So

    @fused
    def forward(self, x):
        return F.relu(self.bn(self.conv(x)) + x)

reads as in the paper and takes one pass. A forward hook that reads the value of `self.conv` gets the convolution's own.
"""

from __future__ import annotations

import contextvars
import functools
from collections.abc import Callable
from typing import Any, ParamSpec, Protocol, TypeVar

import numpy as np

from rcnn.nn.tensor import Tensor, is_recording, record

P = ParamSpec("P")
R = TypeVar("R")

_defers: contextvars.ContextVar[bool] = contextvars.ContextVar("defers", default=False)


class Operation(Protocol):
    """An operation that has not been computed, and the steps that it can take up. A step returns None where it cannot.

    The steps are `scaled(scale, shift)`, by constants (C,) for each channel; `added(residual)`; and `rectified()`.
    """

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    @property
    def parents(self) -> tuple[Tensor, ...]: ...
    def compute(self) -> np.ndarray: ...
    def gradient(self, out: np.ndarray, g: np.ndarray) -> tuple[np.ndarray | None, ...]: ...
    def scaled(self, scale: np.ndarray, shift: np.ndarray) -> Operation | None: ...
    def added(self, residual: Tensor) -> Operation | None: ...
    def rectified(self) -> Operation | None: ...


class Deferred(Tensor):
    """The tensor of an operation that is computed when its value is first read."""

    __slots__ = ("_computed", "_operation")

    def __init__(self, operation: Operation) -> None:
        self.grad = None
        self.requires_grad = is_recording() and any(parent.requires_grad for parent in operation.parents)
        self._parents, self._vjp = (), None
        self._operation = operation
        self._computed: Tensor | None = None

    @property
    def data(self) -> np.ndarray:  # type: ignore[override]
        return self.computed().data

    @property
    def shape(self) -> tuple[int, ...]:
        return self._operation.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._operation.dtype

    def computed(self) -> Tensor:
        if self._computed is None:
            operation = self._operation
            out = operation.compute()
            self._computed = record(out, operation.parents, functools.partial(operation.gradient, out))
        return self._computed

    def extended(self, step: str, *args: Any) -> Tensor | None:
        """Return the tensor of this operation with another step, or None where it must be computed first."""
        operation = getattr(self._operation, step)(*args)
        return None if operation is None else Deferred(operation)

    def backward(self, grad: Any = None) -> None:
        self.computed().backward(grad)

    def __add__(self, other: Any) -> Tensor:
        total = self.extended("added", other.computed()) if isinstance(other, Tensor) else None
        return self.computed() + other if total is None else total


def result_of(operation: Operation) -> Tensor:
    """Return the tensor of an operation: deferred in a `fused` function, else computed."""
    deferred = Deferred(operation)
    return deferred if _defers.get() else deferred.computed()


def extend(x: Tensor, step: str, *args: Any) -> Tensor | None:
    """Return x with another step of its operation, or None where x is not deferred or cannot take it up."""
    return x.extended(step, *args) if isinstance(x, Deferred) else None


def fused(function: Callable[P, R]) -> Callable[P, R]:
    """Return the function with convolutions in it deferred, so that what follows them joins the same pass.

    Decorates a `forward`. The result has the value of the steps one after the other, up to rounding.
    """

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        if _defers.get():
            return function(*args, **kwargs)
        token = _defers.set(True)
        try:
            result: R = _computed(function(*args, **kwargs))
            return result
        finally:
            _defers.reset(token)

    return run


def compute_all(value: Any) -> None:
    """Compute every deferred tensor in a value: a tensor, or sequences and dicts of them."""
    if isinstance(value, Tensor):
        value.computed()
    elif isinstance(value, (list, tuple)):
        for item in value:
            compute_all(item)
    elif isinstance(value, dict):
        compute_all(list(value.values()))


def _computed(value: Any) -> Any:
    """Return the value with every deferred tensor in it replaced by its computed one; lists and dicts in place."""
    if isinstance(value, Tensor):
        return value.computed()
    if isinstance(value, list):
        value[:] = map(_computed, value)
    elif isinstance(value, dict):
        value.update({key: _computed(item) for key, item in value.items()})
    elif type(value) is tuple:
        return tuple(map(_computed, value))
    return value

"""A `Tensor`: an array that remembers how it was computed, so that gradients can flow back through it.

Every operation makes a new tensor that holds three things: its value, the tensors it was made from (its *parents*) and
one function, the *vector-Jacobian product* (vjp), which turns the gradient of the result into the gradients of the
parents. `backward` walks this graph once, from the result to the leaves. That is reverse-mode differentiation, and
there is nothing else to it.

Three rules keep the graph light:

* a vjp may look at its inputs, never at the tensor that it belongs to. A graph therefore has no cycles, and it is freed
  at the moment when its last tensor goes out of scope, without the garbage collector;
* the walk is a loop over an explicit stack, so a chain of any depth is differentiated;
* `backward` drops each node's history as soon as it has been used.
"""

from __future__ import annotations

import contextlib
import contextvars
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from rcnn._ext import backend
from rcnn.nn import elementwise

Vjp = Callable[[np.ndarray], "tuple[np.ndarray | None, ...]"]


_recording: contextvars.ContextVar[bool] = contextvars.ContextVar("recording", default=True)


@contextlib.contextmanager
def recording(on: bool) -> Iterator[None]:
    """Record what is computed in this block, or not."""
    token = _recording.set(on)
    try:
        yield
    finally:
        _recording.reset(token)


@contextlib.contextmanager
def no_grad() -> Iterator[None]:
    """Record nothing that is computed in this block: results have no parents and need less memory.

    The block holds for its context; threads that are started in it do not inherit it. Also works as a decorator.
    """
    with recording(False):
        yield


def is_recording() -> bool:
    """Return whether operations are recorded for `backward`, as they are everywhere but under `no_grad`."""
    return _recording.get()


class Tensor:
    """An array with a gradient.

    `data` is the value, an `np.ndarray` of float32 or float64 (float16 becomes float32; integers and lists float64).
    `grad` is None, or an array like `data` after `backward`. Only leaves (tensors that were not computed) keep one.
    `requires_grad` says whether anything that depends on this tensor is recorded.
    """

    __slots__ = ("__weakref__", "_parents", "_vjp", "data", "grad", "requires_grad")
    __array_ufunc__ = None  # `array * tensor` asks the tensor, instead of making an array of objects

    def __init__(self, data: Any, requires_grad: bool = False) -> None:
        self.data: np.ndarray = _float_array(data)
        self.grad: np.ndarray | None = None
        self.requires_grad = bool(requires_grad)
        self._parents: tuple[Tensor, ...] = ()
        self._vjp: Vjp | None = None

    # ------------------------------------------------------------------ what it is

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.data.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        what = ", requires_grad=True" if self.requires_grad else ""
        return f"Tensor({np.array2string(self.data, threshold=20, precision=4)}, shape={self.shape}{what})"

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """The value, so that `np.asarray(tensor)` works where no gradient could be lost by it."""
        if self.requires_grad:
            raise TypeError("a tensor that requires a gradient does not turn into an array by itself: use tensor.data")
        return np.array(self.data, dtype=dtype, copy=copy)

    def numpy(self) -> np.ndarray:
        """The value as an array, shared with the tensor."""
        return self.data

    def item(self) -> float:
        """The value of a tensor with one element, as a Python float."""
        return float(self.data.item())

    def computed(self) -> Tensor:
        """Return this tensor itself; a deferred one (see `rcnn.nn.fusion`) is computed."""
        return self

    def detach(self) -> Tensor:
        """A leaf with the same data (shared), through which no gradient flows."""
        return Tensor(self.data)

    # ------------------------------------------------------------------ the walk back

    def backward(self, grad: Any = None) -> None:
        """Adds to the `grad` of every leaf below this tensor the gradient of this tensor with respect to that leaf.

        `grad` is the gradient of whatever follows with respect to this tensor, of this tensor's shape; it may be left
        out for a scalar, where it is 1. The graph is freed on the way: a second call raises RuntimeError.
        """
        if not self.requires_grad:
            raise RuntimeError("backward() of a tensor that does not require a gradient")
        if grad is None:
            if self.size != 1:
                raise RuntimeError(f"backward() without a gradient needs a scalar, not a tensor of shape {self.shape}")
            grad = np.ones_like(self.data)
        grad = np.asarray(grad, dtype=self.dtype)
        if grad.shape != self.shape:
            raise ValueError(f"the gradient has shape {grad.shape}, the tensor {self.shape}")
        waiting = {id(self): (grad, False)}  # gradients on their way to tensors that have not been visited
        order = _topological_order(self)
        with backend.one_pool():
            while order:
                _visit(order.pop(), waiting)

    # ------------------------------------------------------------------ arithmetic

    def __add__(self, other: Any) -> Tensor:
        a, b = self, as_tensor(other, self.dtype)
        return _record_pair(elementwise.add(a.data, b.data), a, b, lambda g: g, lambda g: g)

    def __sub__(self, other: Any) -> Tensor:
        a, b = self, as_tensor(other, self.dtype)
        return _record_pair(a.data - b.data, a, b, lambda g: g, lambda g: -g)

    def __mul__(self, other: Any) -> Tensor:
        a, b = self, as_tensor(other, self.dtype)
        return _record_pair(a.data * b.data, a, b, lambda g: g * b.data, lambda g: g * a.data)

    def __truediv__(self, other: Any) -> Tensor:
        a, b = self, as_tensor(other, self.dtype)
        return _record_pair(a.data / b.data, a, b, lambda g: g / b.data, lambda g: -g * a.data / b.data**2)

    def __matmul__(self, other: Any) -> Tensor:
        a, b = self, as_tensor(other, self.dtype)
        if a.ndim != 2 or b.ndim != 2:
            raise ValueError(f"@ multiplies two matrices, not tensors of shapes {a.shape} and {b.shape}")
        return _record_pair(a.data @ b.data, a, b, lambda g: g @ b.data.T, lambda g: a.data.T @ g)

    def __pow__(self, exponent: float) -> Tensor:
        x, n = self, float(exponent)  # a NumPy number would carry its own dtype into the result
        return record(x.data**n, (x,), lambda g: (g * n * x.data ** (n - 1),))

    def __neg__(self) -> Tensor:
        return record(-self.data, (self,), lambda g: (-g,))

    def __radd__(self, other: Any) -> Tensor:
        return as_tensor(other, self.dtype) + self

    def __rsub__(self, other: Any) -> Tensor:
        return as_tensor(other, self.dtype) - self

    def __rmul__(self, other: Any) -> Tensor:
        return as_tensor(other, self.dtype) * self

    def __rtruediv__(self, other: Any) -> Tensor:
        return as_tensor(other, self.dtype) / self

    def __rmatmul__(self, other: Any) -> Tensor:
        return as_tensor(other, self.dtype) @ self

    def exp(self) -> Tensor:
        out = np.exp(self.data)
        return record(out, (self,), lambda g: (g * out,))

    def log(self) -> Tensor:
        x = self
        return record(np.log(x.data), (x,), lambda g: (g / x.data,))

    def sqrt(self) -> Tensor:
        out = np.sqrt(self.data)
        return record(out, (self,), lambda g: (g / (2 * out),))

    def tanh(self) -> Tensor:
        out = np.tanh(self.data)
        return record(out, (self,), lambda g: (g * (1 - out * out),))

    # ------------------------------------------------------------------ sums

    def sum(self, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Tensor:
        x = self

        def vjp(g: np.ndarray) -> tuple[np.ndarray]:
            if axis is not None and not keepdims:
                g = np.expand_dims(g, axis)
            return (np.broadcast_to(g, x.shape),)

        return record(x.data.sum(axis=axis, keepdims=keepdims), (x,), vjp)

    def mean(self, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Tensor:
        """The mean; of nothing it is 0."""
        total = self.sum(axis, keepdims)
        count = self.size // max(total.size, 1)  # how many elements each sum has
        return total * (1 / max(count, 1))

    # ------------------------------------------------------------------ shape

    def reshape(self, *shape: Any) -> Tensor:
        x = self
        new_shape = shape[0] if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape
        return record(x.data.reshape(new_shape), (x,), lambda g: (g.reshape(x.shape),))

    def transpose(self, *axes: int) -> Tensor:
        order = np.arange(self.ndim).take(axes) if axes else np.arange(self.ndim)[::-1]  # negative axes become positive
        inverse = np.argsort(order)
        return record(self.data.transpose(order), (self,), lambda g: (g.transpose(inverse),))

    @property
    def T(self) -> Tensor:
        return self.transpose()

    def flatten(self, start_dim: int = 0) -> Tensor:
        """All axes from `start_dim` on become one: (R, C, H, W) with start_dim=1 gives (R, C*H*W)."""
        kept = self.shape[:start_dim]
        return self.reshape(*kept, int(np.prod(self.shape[start_dim:])))

    def __getitem__(self, index: Any) -> Tensor:
        x = self

        def vjp(g: np.ndarray) -> tuple[np.ndarray]:
            gx = np.zeros_like(x.data)
            if _takes_each_once(index):
                gx[index] = g
            else:
                np.add.at(gx, index, g)  # elements that were taken twice add up their gradients, which is slower
            return (gx,)

        return record(x.data[index], (x,), vjp)


class Parameter(Tensor):
    """A tensor that is learned: a leaf that requires a gradient, found by `Module.parameters`."""

    __slots__ = ()

    def __init__(self, data: Any, requires_grad: bool = True) -> None:
        super().__init__(data, requires_grad)


def record(data: np.ndarray, parents: Sequence[Tensor], vjp: Vjp) -> Tensor:
    """The tensor of `data`, made from `parents`.

    `vjp` takes the gradient with respect to the result and gives one with respect to each parent, in their order and
    shapes (None where there is none or the parent requires none). It must not change the array that it takes, which may
    be read-only, and gives this array, views of it, or new ones that nobody else holds. It is kept only if anything is
    recorded now and some parent requires a gradient.
    """
    out = Tensor(data)
    if is_recording() and any(parent.requires_grad for parent in parents):
        out.requires_grad = True
        out._parents = tuple(parent.computed() for parent in parents)
        out._vjp = vjp
    return out


def _record_pair(
    data: np.ndarray,
    a: Tensor,
    b: Tensor,
    to_a: Callable[[np.ndarray], np.ndarray],
    to_b: Callable[[np.ndarray], np.ndarray],
) -> Tensor:
    """The tensor of `data`, made from `a` and `b`, which broadcasting may have stretched.

    `to_a` and `to_b` turn the gradient of the result into that of the stretched operand; only what is required is
    computed.
    """

    def vjp(g: np.ndarray) -> tuple[np.ndarray | None, ...]:
        return (
            _sum_to(to_a(g), a.shape) if a.requires_grad else None,
            _sum_to(to_b(g), b.shape) if b.requires_grad else None,
        )

    return record(data, (a, b), vjp)


def concatenate(tensors: Sequence[Tensor], axis: int = 0) -> Tensor:
    """The tensors one after the other along `axis`."""
    ends = np.cumsum([t.shape[axis] for t in tensors])[:-1]
    return record(
        np.concatenate([t.data for t in tensors], axis=axis), tensors, lambda g: tuple(np.split(g, ends, axis=axis))
    )


def as_tensor(value: Any, dtype: Any = None) -> Tensor:
    """The value as a tensor: tensors as they are, anything else as a constant of `dtype` (its own without one)."""
    return value if isinstance(value, Tensor) else Tensor(_float_array(value, dtype))


def check_tensor(operation: str, x: Any) -> None:
    """Raises TypeError where an operation was given something else than a tensor."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{operation} takes a Tensor, not {type(x).__name__}; Tensor(array) makes one")


def _float_array(data: Any, dtype: Any = None) -> np.ndarray:
    """The data as an array of `dtype`; without one, of float32 if it is as narrow a float, else of float64."""
    array = np.asarray(data)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"a tensor holds real numbers, not {type(data).__name__} of dtype {array.dtype}")
    if dtype is None:
        dtype = np.float32 if array.dtype.kind == "f" and array.dtype.itemsize <= 4 else np.float64
    return np.asarray(array, dtype=dtype)


def _visit(tensor: Tensor, waiting: dict[int, tuple[np.ndarray, bool]]) -> None:
    """A leaf keeps the gradient that has arrived at it; any other tensor passes it on to its parents.

    waiting: by the id of a tensor the gradient that has arrived so far, and whether nobody else holds it. Then it may
    be written to: gradients that meet are added in place, and a leaf need not copy its own.
    """
    if id(tensor) not in waiting:
        return
    arrived, own = waiting.pop(id(tensor))
    if arrived.shape != tensor.shape:  # what kernels could not survive
        raise ValueError(f"a vjp gave a gradient of shape {arrived.shape} for a tensor of shape {tensor.shape}")
    arrived = arrived.astype(tensor.dtype, copy=False)
    if tensor._vjp is None:
        if tensor.grad is not None:
            arrived, own = np.asarray(tensor.grad + arrived, tensor.dtype), True
        tensor.grad = arrived if own and arrived.flags.c_contiguous else np.array(arrived, order="C")
        return
    passed = _pass_on(tensor, tensor._vjp, arrived)
    for index, (parent, grad) in enumerate(passed):
        others = [other for _, other in passed[:index] + passed[index + 1 :]] + ([] if own else [arrived])
        is_own = grad.flags.writeable and not any(np.may_share_memory(grad, other) for other in others)
        before = waiting.get(id(parent))
        waiting[id(parent)] = _joined(*before, grad, is_own) if before else (grad, is_own)


def _pass_on(tensor: Tensor, vjp: Vjp, arrived: np.ndarray) -> list[tuple[Tensor, np.ndarray]]:
    """The parents that require a gradient, each with its own. The tensor's history is freed when this returns."""
    parents, tensor._parents, tensor._vjp = tensor._parents, (), _freed
    return [
        (parent, np.asarray(grad))
        for parent, grad in zip(parents, vjp(arrived), strict=True)
        if grad is not None and parent.requires_grad
    ]


def _joined(a: np.ndarray, own_a: bool, b: np.ndarray, own_b: bool) -> tuple[np.ndarray, bool]:
    """The sum of two gradients of one tensor, in one of their arrays if the walk may write there, else a new one."""
    if own_b and not own_a:
        a, b = b, a
    if not (own_a or own_b) or a.dtype != b.dtype:
        return elementwise.add(a, b), True
    elementwise.add_to(a, b)
    return a, True


def _topological_order(root: Tensor) -> list[Tensor]:
    """Every tensor that `root` was computed from, parents before children, `root` last (depth first, with a stack)."""
    order: list[Tensor] = []
    seen: set[int] = set()
    stack = [(root, False)]
    while stack:
        tensor, parents_are_done = stack.pop()
        if parents_are_done:
            order.append(tensor)
        elif id(tensor) not in seen:
            seen.add(id(tensor))
            stack.append((tensor, True))
            stack.extend((parent, False) for parent in tensor._parents if parent.requires_grad)
    return order


def _sum_to(grad: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The gradient of an operand of this shape that broadcasting stretched: summed over the stretched axes."""
    if grad.shape == shape:
        return grad
    added = grad.ndim - len(shape)  # axes that the operand does not have at all
    stretched = (*range(added), *(added + axis for axis, side in enumerate(shape) if side == 1))
    return grad.sum(axis=stretched, keepdims=True).reshape(shape)


def _takes_each_once(index: Any) -> bool:
    """True for integers, slices, None and the ellipsis, which take no element twice; arrays and lists may."""
    parts = index if isinstance(index, tuple) else (index,)
    return all(part is None or part is Ellipsis or isinstance(part, (int, np.integer, slice)) for part in parts)


def _freed(_: np.ndarray) -> tuple[np.ndarray | None, ...]:
    raise RuntimeError("this graph was freed by an earlier backward(): compute the result again to differentiate again")

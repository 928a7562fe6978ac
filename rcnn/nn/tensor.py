"""A `Tensor`: an array that records how it was computed, so that gradients can flow back through it.

Every operation makes a new tensor that holds three things: its value, the tensors it was made from (its *parents*) and
one function, the *vector-Jacobian product* (vjp), which turns the gradient of the result into the gradients of the
parents. `backward` visits this graph once, from the result to the leaves. This is reverse-mode differentiation.

Three rules keep the graph light:

* a vjp may read its inputs, but never the tensor that it belongs to. A graph therefore has no cycles. It is freed when
  its last tensor goes out of scope, without the garbage collector;
* the traversal is a loop over an explicit stack, so a chain of any depth can be differentiated;
* `backward` drops the history of each node as soon as it has been used.
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
    """Record what is computed in this block, or not.

    Parameters
    ----------
    on : bool
        Whether operations are recorded.
    """
    token = _recording.set(on)
    try:
        yield
    finally:
        _recording.reset(token)


@contextlib.contextmanager
def no_grad() -> Iterator[None]:
    """Record nothing that is computed in this block: results have no parents and need less memory.

    The block holds for its context. Threads that are started in it do not inherit it. It also works as a decorator.

    Yields
    ------
    None
        The block runs without recording.

    Examples
    --------
    >>> x = Tensor([1.0, 2.0], requires_grad=True)
    >>> with no_grad():
    ...     y = x * 2
    >>> y.requires_grad
    False
    """
    with recording(False):
        yield


def is_recording() -> bool:
    """Return True if operations are recorded for `backward`, and False under `no_grad`.

    Returns
    -------
    bool
        The state of this context.
    """
    return _recording.get()


class Tensor:
    """An array with a gradient.

    Parameters
    ----------
    data : array-like of real numbers
        The value. float16 becomes float32; integers and lists become float64.
    requires_grad : bool
        If True, operations on this tensor are recorded for `backward`.

    Attributes
    ----------
    data : float32 or float64 array
        The value.
    grad : array or None
        The gradient, like `data`, after `backward`. Only leaves (tensors that were not computed) keep one.
    requires_grad : bool
        True for a leaf that was made so, and for everything that was computed from it.

    Examples
    --------
    >>> x = Tensor([1.0, 2.0], requires_grad=True)
    >>> (x * x).sum().backward()
    >>> x.grad.tolist()
    [2.0, 4.0]
    """

    __slots__ = ("__weakref__", "_parents", "_vjp", "data", "grad", "requires_grad")
    __array_ufunc__ = None  # `array * tensor` calls the tensor's method, instead of making an array of objects

    def __init__(self, data: Any, requires_grad: bool = False) -> None:
        self.data: np.ndarray = _float_array(data)
        self.grad: np.ndarray | None = None
        self.requires_grad = bool(requires_grad)
        self._parents: tuple[Tensor, ...] = ()
        self._vjp: Vjp | None = None

    # ------------------------------------------------------------------ properties and conversions

    @property
    def shape(self) -> tuple[int, ...]:
        """The sides of the array.

        Returns
        -------
        tuple of int
            One side per axis.
        """
        return self.data.shape

    @property
    def ndim(self) -> int:
        """The number of axes.

        Returns
        -------
        int
            The length of `shape`.
        """
        return len(self.shape)

    @property
    def size(self) -> int:
        """The number of elements.

        Returns
        -------
        int
            The product of `shape`.
        """
        return math.prod(self.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the elements.

        Returns
        -------
        np.dtype
            float32 or float64.
        """
        return self.data.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        suffix = ", requires_grad=True" if self.requires_grad else ""
        return f"Tensor({np.array2string(self.data, threshold=20, precision=4)}, shape={self.shape}{suffix})"

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Return the value for `np.asarray(tensor)`, unless a gradient could be lost by it."""
        if self.requires_grad:
            raise TypeError("a tensor that requires a gradient is not converted to an array; use tensor.data")
        return np.array(self.data, dtype=dtype, copy=copy)

    def numpy(self) -> np.ndarray:
        """Return the value.

        Returns
        -------
        array
            Shared with the tensor.
        """
        return self.data

    def item(self) -> float:
        """Return the value of a tensor with one element.

        Returns
        -------
        float
            A Python number.
        """
        return float(self.data.item())

    def computed(self) -> Tensor:
        """Return this tensor; a deferred one (see `rcnn.nn.fusion`) is computed first.

        Returns
        -------
        Tensor
            The computed tensor.
        """
        return self

    def detach(self) -> Tensor:
        """Return a leaf with the same data, through which no gradient flows.

        Returns
        -------
        Tensor
            It shares the array with this tensor.
        """
        return Tensor(self.data)

    # ------------------------------------------------------------------ backward pass

    def backward(self, grad: Any = None) -> None:
        """Add the gradient of this tensor with respect to every leaf it was computed from to the `grad` of that leaf.

        The graph is freed during the pass.

        Parameters
        ----------
        grad : array, optional
            The gradient of the final result with respect to this tensor, of its shape; 1 by default for a scalar.

        Raises
        ------
        RuntimeError
            If this tensor requires no gradient, if `grad` is missing and it is not a scalar, or if the graph was freed
            by an earlier call.
        ValueError
            If `grad` has another shape.
        """
        if not self.requires_grad:
            raise RuntimeError("backward() needs a tensor that requires a gradient; see requires_grad")
        if grad is None:
            if self.size != 1:
                raise RuntimeError(f"backward() without `grad` needs a scalar, got a tensor of shape {self.shape}")
            grad = np.ones_like(self.data)
        grad = np.asarray(grad, dtype=self.dtype)
        if grad.shape != self.shape:
            raise ValueError(f"grad must have the tensor's shape {self.shape}, got {grad.shape}")
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
            raise ValueError(f"@ multiplies two matrices, got tensors of shapes {a.shape} and {b.shape}")
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
        """Return e to the power of each element.

        Returns
        -------
        Tensor
            Of the same shape.
        """
        out = np.exp(self.data)
        return record(out, (self,), lambda g: (g * out,))

    def log(self) -> Tensor:
        """Return the natural logarithm of each element.

        Returns
        -------
        Tensor
            Of the same shape.
        """
        x = self
        return record(np.log(x.data), (x,), lambda g: (g / x.data,))

    def sqrt(self) -> Tensor:
        """Return the square root of each element.

        Returns
        -------
        Tensor
            Of the same shape.
        """
        out = np.sqrt(self.data)
        return record(out, (self,), lambda g: (g / (2 * out),))

    def tanh(self) -> Tensor:
        """Return the hyperbolic tangent of each element.

        Returns
        -------
        Tensor
            Of the same shape.
        """
        out = np.tanh(self.data)
        return record(out, (self,), lambda g: (g * (1 - out * out),))

    # ------------------------------------------------------------------ sums

    def sum(self, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Tensor:
        """Return the sum over some axes.

        Parameters
        ----------
        axis : int or tuple of int, optional
            The axes; all by default.
        keepdims : bool
            If True, these axes remain, with side 1.

        Returns
        -------
        Tensor
            The sums.
        """
        x = self

        def vjp(g: np.ndarray) -> tuple[np.ndarray]:
            if axis is not None and not keepdims:
                g = np.expand_dims(g, axis)
            return (np.broadcast_to(g, x.shape),)

        return record(x.data.sum(axis=axis, keepdims=keepdims), (x,), vjp)

    def mean(self, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Tensor:
        """Return the mean over some axes; the mean of no elements is 0.

        Parameters
        ----------
        axis : int or tuple of int, optional
            The axes; all by default.
        keepdims : bool
            If True, these axes remain, with side 1.

        Returns
        -------
        Tensor
            The means.
        """
        total = self.sum(axis, keepdims)
        count = self.size // max(total.size, 1)  # elements per sum
        return total * (1 / max(count, 1))

    # ------------------------------------------------------------------ shape

    def reshape(self, *shape: Any) -> Tensor:
        """Return the elements in another shape.

        Parameters
        ----------
        *shape : ints, or one tuple or list
            The new shape; one side may be -1.

        Returns
        -------
        Tensor
            It shares memory with this tensor where NumPy's `reshape` does.
        """
        x = self
        new_shape = shape[0] if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape
        return record(x.data.reshape(new_shape), (x,), lambda g: (g.reshape(x.shape),))

    def transpose(self, *axes: int) -> Tensor:
        """Return the tensor with its axes in another order.

        Parameters
        ----------
        *axes : int
            The new order; reversed by default.

        Returns
        -------
        Tensor
            A view of this tensor's data.
        """
        order = np.arange(self.ndim).take(axes) if axes else np.arange(self.ndim)[::-1]  # negative axes become positive
        inverse = np.argsort(order)
        return record(self.data.transpose(order), (self,), lambda g: (g.transpose(inverse),))

    @property
    def T(self) -> Tensor:
        """The tensor with its axes reversed.

        Returns
        -------
        Tensor
            A view of this tensor's data.
        """
        return self.transpose()

    def flatten(self, start_dim: int = 0) -> Tensor:
        """Return the tensor with all axes from `start_dim` on joined into one.

        Parameters
        ----------
        start_dim : int
            The first axis to join: with 1, (R, C, H, W) becomes (R, C * H * W).

        Returns
        -------
        Tensor
            Of start_dim + 1 axes.
        """
        kept = self.shape[:start_dim]
        return self.reshape(*kept, int(np.prod(self.shape[start_dim:])))

    def __getitem__(self, index: Any) -> Tensor:
        x = self

        def vjp(g: np.ndarray) -> tuple[np.ndarray]:
            gx = np.zeros_like(x.data)
            if _takes_each_once(index):
                gx[index] = g
            else:
                np.add.at(gx, index, g)  # an element may be taken twice, and then its gradients add up; slower
            return (gx,)

        return record(x.data[index], (x,), vjp)


class Parameter(Tensor):
    """A tensor that is learned: a leaf that requires a gradient, found by `Module.parameters`.

    Parameters
    ----------
    data : array-like of real numbers
        The initial value.
    requires_grad : bool
        If False, the parameter is frozen.
    """

    __slots__ = ()

    def __init__(self, data: Any, requires_grad: bool = True) -> None:
        super().__init__(data, requires_grad)


def record(data: np.ndarray, parents: Sequence[Tensor], vjp: Vjp) -> Tensor:
    """Return a tensor of `data` that was computed from `parents`.

    Parameters
    ----------
    data : array
        The value.
    parents : sequence of Tensor
        The inputs of the operation.
    vjp : callable
        Takes the gradient of the result and returns a tuple: the gradient of each parent, in their order and shapes, or
        None where there is none or the parent requires none. It must not change the array that it takes, which may be
        read-only. It returns this array, views of it, or new arrays that nothing else uses.

    Returns
    -------
    Tensor
        It keeps parents and `vjp` only if operations are recorded and some parent requires a gradient.

    Examples
    --------
    >>> x = Tensor([0.0, 1.0], requires_grad=True)
    >>> y = record(np.sin(x.data), (x,), lambda g: (g * np.cos(x.data),))
    >>> y.backward([1.0, 0.0])
    >>> x.grad.tolist()
    [1.0, 0.0]
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
    """Return the tensor of `data`, computed from `a` and `b`, which may have been broadcast.

    `to_a` and `to_b` turn the gradient of the result into that of the broadcast operand. They are called only if it is
    required.
    """

    def vjp(g: np.ndarray) -> tuple[np.ndarray | None, ...]:
        return (
            _sum_to(to_a(g), a.shape) if a.requires_grad else None,
            _sum_to(to_b(g), b.shape) if b.requires_grad else None,
        )

    return record(data, (a, b), vjp)


def concatenate(tensors: Sequence[Tensor], axis: int = 0) -> Tensor:
    """Return the tensors joined along an axis.

    Parameters
    ----------
    tensors : sequence of Tensor
        Their shapes differ only along `axis`.
    axis : int
        The axis.

    Returns
    -------
    Tensor
        Its side along the axis is the sum of theirs.
    """
    ends = np.cumsum([t.shape[axis] for t in tensors])[:-1]
    return record(
        np.concatenate([t.data for t in tensors], axis=axis), tensors, lambda g: tuple(np.split(g, ends, axis=axis))
    )


def as_tensor(value: Any, dtype: Any = None) -> Tensor:
    """Return a value as a tensor.

    Parameters
    ----------
    value : Tensor or array-like
        A tensor is returned as it is, anything else as a constant.
    dtype : dtype, optional
        The dtype of the constant; its own by default.

    Returns
    -------
    Tensor
        The tensor.
    """
    return value if isinstance(value, Tensor) else Tensor(_float_array(value, dtype))


def check_tensor(operation: str, x: Any) -> None:
    """Raise TypeError unless x is a tensor.

    Parameters
    ----------
    operation : str
        The name in the message.
    x : object
        The argument of the operation.

    Raises
    ------
    TypeError
        If x is something else.
    """
    if not isinstance(x, Tensor):
        raise TypeError(f"{operation} takes a Tensor, got {type(x).__name__}; use Tensor(array)")


def _float_array(data: Any, dtype: Any = None) -> np.ndarray:
    """Return the data as an array of `dtype`; by default float32 for float16 and float32, and float64 for all else."""
    array = np.asarray(data)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"a tensor holds real numbers, got {type(data).__name__} of dtype {array.dtype}")
    if dtype is None:
        dtype = np.float32 if array.dtype.kind == "f" and array.dtype.itemsize <= 4 else np.float64
    return np.asarray(array, dtype=dtype)


def _visit(tensor: Tensor, waiting: dict[int, tuple[np.ndarray, bool]]) -> None:
    """Store the gradient that has arrived at a leaf, or pass that of any other tensor on to its parents.

    `waiting` maps the id of a tensor to the gradient that has arrived so far, and to True if nothing else uses this
    array. Then it may be written to: gradients that meet are added in place, and a leaf need not copy its own.
    """
    if id(tensor) not in waiting:
        return
    arrived, own = waiting.pop(id(tensor))
    if arrived.shape != tensor.shape:  # a kernel would read past its end
        raise ValueError(f"a vjp must return a gradient of its parent's shape {tensor.shape}, got {arrived.shape}")
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
    """Return the parents that require a gradient, each with its own, and free the history of the tensor."""
    parents, tensor._parents, tensor._vjp = tensor._parents, (), _freed
    return [
        (parent, np.asarray(grad))
        for parent, grad in zip(parents, vjp(arrived), strict=True)
        if grad is not None and parent.requires_grad
    ]


def _joined(a: np.ndarray, own_a: bool, b: np.ndarray, own_b: bool) -> tuple[np.ndarray, bool]:
    """Return (sum, True): two gradients of a tensor added, in place if nothing else uses one of them."""
    if own_b and not own_a:
        a, b = b, a
    if not (own_a or own_b) or a.dtype != b.dtype:
        return elementwise.add(a, b), True
    elementwise.add_to(a, b)
    return a, True


def _topological_order(root: Tensor) -> list[Tensor]:
    """Return every tensor that `root` was computed from, parents before children (depth first, with a stack)."""
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
    """Return the gradient of an operand of this shape, summed over the axes along which it was broadcast."""
    if grad.shape == shape:
        return grad
    added = grad.ndim - len(shape)  # axes that the operand does not have at all
    stretched = (*range(added), *(added + axis for axis, side in enumerate(shape) if side == 1))
    return grad.sum(axis=stretched, keepdims=True).reshape(shape)


def _takes_each_once(index: Any) -> bool:
    """Return True for integers, slices, None and the ellipsis, which take no element twice; arrays and lists may."""
    parts = index if isinstance(index, tuple) else (index,)
    return all(part is None or part is Ellipsis or isinstance(part, (int, np.integer, slice)) for part in parts)


def _freed(_: np.ndarray) -> tuple[np.ndarray | None, ...]:
    raise RuntimeError("this graph was freed by an earlier backward(); compute the result again")

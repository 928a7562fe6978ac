"""`Tensor`: an array that records how it was computed, so that gradients can be computed from the record.

Every operation creates a new tensor. The tensor stores its value, the tensors from which it was computed (its
*parents*), and a function, the *vector-Jacobian product* (vjp). The vjp turns the gradient of the tensor into the
gradients of its parents. The tensors and their parents form a graph. `backward` visits this graph once, from the result
to the leaves (the tensors without parents). This is reverse-mode differentiation.

Three rules limit the cost of the graph:

* A vjp may refer to the parents, but never to the tensor to which it belongs. Therefore, the graph has no reference
  cycles. It is freed when its last tensor goes out of scope, without the garbage collector.
* `backward` visits the graph in a loop with its own stack, not by recursion. The graph can therefore be of any depth.
* `backward` deletes the parents and the vjp of each tensor as soon as they are no longer needed.
"""

from __future__ import annotations

import contextlib
import contextvars
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from rcnn._ext import backend
from rcnn._validate import FLAG, MOST_ELEMENTS, NUMBER, as_array, as_dtype, check_dtype, check_sequence, integer, shown
from rcnn.nn import elementwise
from rcnn.nn.tape import taped

Vjp = Callable[[np.ndarray], "tuple[np.ndarray | None, ...]"]


_recording: contextvars.ContextVar[bool] = contextvars.ContextVar("recording", default=True)


@contextlib.contextmanager
def recording(on: bool) -> Iterator[None]:
    """Switch the recording of operations on or off within this block.

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
    """Do not record operations within this block; the results have no parents and need less memory.

    The block applies only to the current context. Threads that are started within the block do not inherit it. You can
    also use `no_grad` as a decorator.

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


_at_leaf: contextvars.ContextVar[Callable[[Tensor], None] | None] = contextvars.ContextVar("at_leaf", default=None)


@contextlib.contextmanager
def watching_leaves(at_leaf: Callable[[Tensor], None]) -> Iterator[None]:
    """Call a function for each leaf as soon as `backward` has completed its gradient within this block.

    A process can then send the gradients of the last layers while `backward` computes those of the first layers.

    Parameters
    ----------
    at_leaf : callable
        Function that takes the leaf.

    Yields
    ------
    None
        The block calls the function. It applies only to the current context.

    Examples
    --------
    >>> x = Tensor([1.0, 2.0], requires_grad=True)
    >>> with watching_leaves(lambda leaf: print(leaf.grad)):
    ...     (x * x).sum().backward()
    [2. 4.]
    """
    token = _at_leaf.set(at_leaf)
    try:
        yield
    finally:
        _at_leaf.reset(token)


def is_recording() -> bool:
    """Return whether operations are recorded for `backward`.

    Returns
    -------
    bool
        True by default; False within a `no_grad` block.
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
        The gradient after `backward`, with the shape and the dtype of `data`. Only leaves (tensors that were not
        computed from other tensors) store their gradient.
    requires_grad : bool
        True for a leaf that was created with requires_grad=True, and for all tensors that were computed from it.

    Raises
    ------
    TypeError, ValueError
        If the data are not real numbers, if the rows differ in length, or if there are more than 2^30 elements.

    Examples
    --------
    >>> x = Tensor([1.0, 2.0], requires_grad=True)
    >>> (x * x).sum().backward()
    >>> x.grad.tolist()
    [2.0, 4.0]
    """

    __slots__ = ("__weakref__", "_parents", "_vjp", "data", "grad", "requires_grad")
    __array_ufunc__ = None  # so that `array * tensor` calls the method of the tensor

    def __init__(self, data: Any, requires_grad: bool = False) -> None:
        self.data: np.ndarray = _float_array(data)
        self.grad: np.ndarray | None = None
        self.requires_grad = requires_grad is True or (
            requires_grad is not False and bool(FLAG.check("requires_grad", requires_grad))
        )
        self._parents: tuple[Tensor, ...] = ()
        self._vjp: Vjp | None = None

    # ------------------------------------------------------------------ properties and conversions

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the array.

        Returns
        -------
        tuple of int
            The length of each axis.
        """
        return self.data.shape

    @property
    def ndim(self) -> int:
        """The number of axes.

        Returns
        -------
        int
            The number of axes.
        """
        return len(self.shape)

    @property
    def size(self) -> int:
        """The number of elements.

        Returns
        -------
        int
            The product of the lengths of all axes.
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
        """Return the value for `np.asarray(tensor)`. Raise TypeError if a gradient would be lost."""
        if self.requires_grad:
            raise TypeError("a tensor that requires a gradient cannot be converted to an array; use tensor.data")
        return np.array(self.data, dtype=dtype, copy=copy)

    def numpy(self) -> np.ndarray:
        """Return the value as an array.

        Returns
        -------
        array
            The array of the tensor itself, not a copy.
        """
        return self.data

    def item(self) -> float:
        """Return the value of a tensor with one element.

        Returns
        -------
        float
            A Python number.

        Raises
        ------
        ValueError
            If the tensor does not have exactly one element.
        """
        if self.size != 1:
            raise ValueError(f"item() needs a tensor with one element, got a tensor of shape {self.shape}")
        return float(self.data.item())

    def computed(self) -> Tensor:
        """Return this tensor. A deferred tensor (see `rcnn.nn.fusion`) is computed first.

        Returns
        -------
        Tensor
            The computed tensor.
        """
        return self

    def detach(self) -> Tensor:
        """Return a leaf with the same value; gradients do not flow from the leaf to this tensor.

        Returns
        -------
        Tensor
            The leaf, which shares its array with this tensor.
        """
        return Tensor(self.data)

    # ------------------------------------------------------------------ backward pass

    def backward(self, grad: Any = None) -> None:
        """Compute the gradient of this tensor with respect to each leaf, and add it to the `grad` of the leaf.

        The graph is freed at the same time.

        Parameters
        ----------
        grad : array, optional
            The gradient of the final result with respect to this tensor, with the same shape as this tensor. For a
            scalar, it is 1 by default.

        Raises
        ------
        RuntimeError
            If this tensor requires no gradient, if `grad` is missing and this tensor is not a scalar, or if an earlier
            call freed the graph.
        ValueError
            If `grad` does not have the shape of this tensor.
        """
        if not self.requires_grad:
            raise RuntimeError(
                "backward() needs a tensor that requires a gradient; "
                "create the inputs of the graph with requires_grad=True"
            )
        if grad is None:
            if self.size != 1:
                raise RuntimeError(f"backward() without `grad` needs a scalar, got a tensor of shape {self.shape}")
            grad = np.ones_like(self.data)
        grad = _float_array(grad, self.dtype, "grad")
        if grad.shape != self.shape:
            raise ValueError(f"grad must have the tensor's shape {self.shape}, got {grad.shape}")
        waiting = {id(self): (grad, False)}  # gradients of tensors that have not been visited yet
        order = _topological_order(self, leaves_early=_at_leaf.get() is not None)
        with backend.one_pool(), np.errstate(all="ignore"):  # a gradient can be infinite or NaN
            while order:
                _visit(order.pop(), waiting)

    # ------------------------------------------------------------------ arithmetic

    @taped
    def __add__(self, other: Any) -> Tensor:
        a, b = self, as_tensor(other, self.dtype)
        return _record_pair(elementwise.add(a.data, b.data), a, b, lambda g: g, lambda g: g)

    @taped
    def __sub__(self, other: Any) -> Tensor:
        a, b = self, as_tensor(other, self.dtype)
        return _record_pair(a.data - b.data, a, b, lambda g: g, lambda g: -g)

    @taped
    def __mul__(self, other: Any) -> Tensor:
        a, b = self, as_tensor(other, self.dtype)
        return _record_pair(a.data * b.data, a, b, lambda g: g * b.data, lambda g: g * a.data)

    @taped
    def __truediv__(self, other: Any) -> Tensor:
        a, b = self, as_tensor(other, self.dtype)
        return _record_pair(a.data / b.data, a, b, lambda g: g / b.data, lambda g: -g * a.data / b.data**2)

    @taped
    def __matmul__(self, other: Any) -> Tensor:
        a, b = self, as_tensor(other, self.dtype)
        if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[0]:
            raise ValueError(
                f"@ multiplies two matrices of shapes (N, M) and (M, K), got tensors of shapes {a.shape} and {b.shape}"
            )
        return _record_pair(a.data @ b.data, a, b, lambda g: g @ b.data.T, lambda g: a.data.T @ g)

    @taped
    def __pow__(self, exponent: float) -> Tensor:
        x, n = self, NUMBER.check("exponent", exponent)  # a NumPy number could change the dtype of the result
        return record(x.data**n, (x,), lambda g: (g * n * x.data ** (n - 1),))

    @taped
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

    @taped
    def exp(self) -> Tensor:
        """Return e to the power of each element.

        Returns
        -------
        Tensor
            The result, with the same shape.
        """
        out = np.exp(self.data)
        return record(out, (self,), lambda g: (g * out,))

    @taped
    def log(self) -> Tensor:
        """Return the natural logarithm of each element.

        Returns
        -------
        Tensor
            The result, with the same shape.
        """
        x = self
        return record(np.log(x.data), (x,), lambda g: (g / x.data,))

    @taped
    def sqrt(self) -> Tensor:
        """Return the square root of each element.

        Returns
        -------
        Tensor
            The result, with the same shape.
        """
        out = np.sqrt(self.data)
        return record(out, (self,), lambda g: (g / (2 * out),))

    @taped
    def tanh(self) -> Tensor:
        """Return the hyperbolic tangent of each element.

        Returns
        -------
        Tensor
            The result, with the same shape.
        """
        out = np.tanh(self.data)
        return record(out, (self,), lambda g: (g * (1 - out * out),))

    # ------------------------------------------------------------------ sums

    @taped
    def sum(self, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Tensor:
        """Return the sum over some axes.

        Parameters
        ----------
        axis : int or tuple of int, optional
            The axes; by default, all axes.
        keepdims : bool
            If True, the result keeps these axes, with length 1.

        Returns
        -------
        Tensor
            The sums.
        """
        x, axis, keepdims = self, _check_axes(axis, self.ndim), FLAG.check("keepdims", keepdims)

        def vjp(g: np.ndarray) -> tuple[np.ndarray]:
            if axis is not None and not keepdims:
                g = np.expand_dims(g, axis)
            return (np.broadcast_to(g, x.shape),)

        return record(x.data.sum(axis=axis, keepdims=keepdims), (x,), vjp)

    @taped
    def mean(self, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Tensor:
        """Return the mean over some axes. The mean of no elements is 0.

        Parameters
        ----------
        axis : int or tuple of int, optional
            The axes; by default, all axes.
        keepdims : bool
            If True, the result keeps these axes, with length 1.

        Returns
        -------
        Tensor
            The means.
        """
        total = self.sum(axis, keepdims)
        count = self.size // max(total.size, 1)  # elements per sum
        return total * (1 / max(count, 1))

    # ------------------------------------------------------------------ shape

    @taped
    def reshape(self, *shape: Any) -> Tensor:
        """Return the elements in another shape.

        Parameters
        ----------
        *shape : ints, or one tuple or list
            The new shape. One length may be -1; it is then computed from the others.

        Returns
        -------
        Tensor
            The reshaped tensor. It shares memory with this tensor if NumPy's `reshape` returns a view.
        """
        x = self
        new_shape = shape[0] if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape
        try:
            reshaped = x.data.reshape(new_shape)
        except Exception:  # NumPy raises a TypeError, a ValueError or an OverflowError
            raise ValueError(
                f"shape must contain integers whose product is {self.size}, because the tensor has shape "
                f"{self.shape}; got {shown(new_shape)}"
            ) from None
        return record(reshaped, (x,), lambda g: (g.reshape(x.shape),))

    @taped
    def transpose(self, *axes: int) -> Tensor:
        """Return the tensor with its axes in another order.

        Parameters
        ----------
        *axes : int
            The new order of the axes; by default, the reversed order.

        Returns
        -------
        Tensor
            A view of this tensor's data.
        """
        every = range(self.ndim)
        try:
            order = [every[axis] for axis in axes] if axes else every[::-1]  # negative axes become positive
        except (TypeError, IndexError, OverflowError):
            order = []
        if sorted(order) != list(every):
            raise ValueError(f"axes must contain each of the {self.ndim} axes once, got {shown(axes)}")
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

    @taped
    def flatten(self, start_dim: int = 0) -> Tensor:
        """Return the tensor with the axis `start_dim` and all later axes joined into one axis.

        Parameters
        ----------
        start_dim : int
            The first axis to join. If it is 1, the shape (R, C, H, W) becomes (R, C * H * W).

        Returns
        -------
        Tensor
            The result, which has start_dim + 1 axes.

        Raises
        ------
        TypeError, ValueError
            If `start_dim` is not in -ndim .. ndim.
        """
        start_dim = integer(-self.ndim, self.ndim).check("start_dim", start_dim)
        kept = self.shape[:start_dim]
        return self.reshape(*kept, int(np.prod(self.shape[start_dim:])))

    @taped
    def __getitem__(self, index: Any) -> Tensor:
        x = self

        def vjp(g: np.ndarray) -> tuple[np.ndarray]:
            gx = np.zeros_like(x.data)
            if _takes_each_once(index):
                gx[index] = g
            else:
                np.add.at(gx, index, g)  # slower, but it adds the gradients of an element that was taken twice
            return (gx,)

        return record(x.data[index], (x,), vjp)


class Parameter(Tensor):
    """A learned tensor: a leaf that requires a gradient and that `Module.parameters` finds.

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
    """Return a tensor with the value `data`, which was computed from `parents`.

    Parameters
    ----------
    data : array
        The value.
    parents : sequence of Tensor
        The inputs of the operation.
    vjp : callable
        Function that takes the gradient of the result and returns a tuple with the gradient of each parent. A gradient
        has the shape of its parent. It can be None if the parent has no gradient or requires none. The function must
        not change its argument, which may be read-only. It may return the argument, views of it, or new arrays that
        nothing else uses.

    Returns
    -------
    Tensor
        The tensor. It stores `parents` and `vjp` only if operations are recorded and a parent requires a gradient.

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
        out._parents = tuple([parent.computed() for parent in parents])
        out._vjp = vjp
    return out


def _record_pair(
    data: np.ndarray,
    a: Tensor,
    b: Tensor,
    to_a: Callable[[np.ndarray], np.ndarray],
    to_b: Callable[[np.ndarray], np.ndarray],
) -> Tensor:
    """Return a tensor with the value `data`, computed from `a` and `b`. These operands may have been broadcast.

    `to_a` and `to_b` turn the gradient of the result into the gradient of the broadcast operand. Each of them is called
    only if its operand requires a gradient.
    """

    def vjp(g: np.ndarray) -> tuple[np.ndarray | None, ...]:
        return (
            _sum_to(to_a(g), a.shape) if a.requires_grad else None,
            _sum_to(to_b(g), b.shape) if b.requires_grad else None,
        )

    return record(data, (a, b), vjp)


@taped
def concatenate(tensors: Sequence[Tensor], axis: int = 0) -> Tensor:
    """Return the tensors joined along an axis.

    Parameters
    ----------
    tensors : sequence of Tensor
        The tensors. Their shapes may differ only along `axis`.
    axis : int
        The axis along which the tensors are joined.

    Returns
    -------
    Tensor
        The joined tensor.

    Raises
    ------
    TypeError, ValueError
        If `tensors` is empty, if `axis` is out of range, or if the shapes do not match.
    """
    check_sequence(tensors, "tensors")
    for index, tensor in enumerate(tensors):
        check_tensor("concatenate", tensor, f"tensors[{index}]")
    if not len(tensors):
        raise ValueError("tensors must contain at least one tensor, got none")
    axis = integer(-tensors[0].ndim, tensors[0].ndim - 1).check("axis", axis)
    others = {(*t.shape[:axis], *t.shape[axis:][1:]) for t in tensors}
    if len(others) > 1 or len({t.ndim for t in tensors}) > 1:
        raise ValueError(f"tensors must have the same shape except along axis {axis}, got {[t.shape for t in tensors]}")
    ends = np.cumsum([t.shape[axis] for t in tensors])[:-1]
    return record(
        np.concatenate([t.data for t in tensors], axis=axis), tensors, lambda g: tuple(np.split(g, ends, axis=axis))
    )


def as_tensor(value: Any, dtype: Any = None) -> Tensor:
    """Return a value as a tensor.

    Parameters
    ----------
    value : Tensor or array-like
        The value. A tensor is returned unchanged; any other value becomes a constant.
    dtype : dtype, optional
        The dtype of the constant. By default, float16 and float32 values become float32, and all others become float64.

    Returns
    -------
    Tensor
        The tensor.

    Raises
    ------
    TypeError, ValueError
        If the value is not an array of real numbers.
    """
    dtype = None if dtype is None else check_dtype(dtype)
    return value if isinstance(value, Tensor) else Tensor(_float_array(value, dtype, "the operand"))


def check_tensor(operation: str, x: Any, name: str = "x") -> None:
    """Raise TypeError unless x is a tensor.

    Parameters
    ----------
    operation : str
        The name of the operation, for the message.
    x : object
        The argument of the operation.
    name : str
        The name of the argument; the message contains it.

    Raises
    ------
    TypeError
        If x is not a tensor.
    """
    if not isinstance(x, Tensor):
        raise TypeError(f"{operation}: {name} must be a Tensor, got {type(x).__name__}; use Tensor(array)")


def _float_array(data: Any, dtype: Any = None, name: str = "data") -> np.ndarray:
    """Return data as an array of `dtype`. By default, float16 and float32 become float32; all others become float64."""
    array = as_array(data, name)
    if array.dtype.char in "fd" and dtype is None and array.dtype.isnative and array.size <= MOST_ELEMENTS:
        return array  # the usual case, tested first because it occurs hundreds of times in a training step
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name} must contain real numbers, got {type(data).__name__} of dtype {array.dtype}")
    if array.size > MOST_ELEMENTS:
        raise ValueError(f"{name} must have at most {MOST_ELEMENTS} elements, got shape {array.shape}")
    if dtype is None:
        dtype = np.float32 if array.dtype.kind == "f" and array.dtype.itemsize <= 4 else np.float64
    return array if array.dtype == dtype and array.dtype.isnative else as_dtype(array, dtype, name)


def _check_axes(axes: Any, ndim: int) -> tuple[int, ...] | None:
    """Return `axes` as distinct numbers in 0 .. ndim - 1, or None if `axes` is None."""
    if axes is None:
        return None
    given = axes if isinstance(axes, (tuple, list)) else (axes,)
    found = tuple(integer(-ndim, ndim - 1).check("axis", axis) % ndim for axis in given)
    if len(set(found)) != len(found):
        raise ValueError(f"axis must not contain duplicates, got {shown(axes)}")
    return found


def _visit(tensor: Tensor, waiting: dict[int, tuple[np.ndarray, bool]]) -> None:
    """Store the gradient of a leaf, or pass the gradient of any other tensor on to its parents.

    `waiting` maps the id of a tensor to a pair: the sum of the gradients so far, and whether nothing else uses this
    array. If nothing else uses it, further gradients are added to it in place, and a leaf stores it without a copy.
    """
    if id(tensor) not in waiting:
        return
    arrived, own = waiting.pop(id(tensor))
    if arrived.shape != tensor.shape:  # otherwise, a kernel could read past the end of the array
        raise ValueError(
            f"a vjp (vector-Jacobian product) must return a gradient with the same shape as its parent, "
            f"{tensor.shape}, got {arrived.shape}"
        )
    arrived = arrived.astype(tensor.dtype, copy=False)
    if tensor._vjp is None:
        if tensor.grad is not None:
            arrived, own = np.asarray(tensor.grad + arrived, tensor.dtype), True
        tensor.grad = arrived if own and arrived.flags.c_contiguous else np.array(arrived, order="C")
        if (at_leaf := _at_leaf.get()) is not None:
            at_leaf(tensor)
        return
    passed = _pass_on(tensor, tensor._vjp, arrived)
    for index, (parent, grad) in enumerate(passed):
        others = [other for _, other in passed[:index] + passed[index + 1 :]] + ([] if own else [arrived])
        is_own = grad.flags.writeable and not any(np.may_share_memory(grad, other) for other in others)
        before = waiting.get(id(parent))
        waiting[id(parent)] = _joined(*before, grad, is_own) if before else (grad, is_own)


def _pass_on(tensor: Tensor, vjp: Vjp, arrived: np.ndarray) -> list[tuple[Tensor, np.ndarray]]:
    """Return the parents that require a gradient, with their gradients, and delete the tensor's parents and vjp."""
    parents, tensor._parents, tensor._vjp = tensor._parents, (), _freed
    return [
        (parent, np.asarray(grad))
        for parent, grad in zip(parents, vjp(arrived), strict=True)
        if grad is not None and parent.requires_grad
    ]


def _joined(a: np.ndarray, own_a: bool, b: np.ndarray, own_b: bool) -> tuple[np.ndarray, bool]:
    """Return (a + b, True) for two gradients of a tensor. The sum is stored in one of them if nothing else uses it."""
    if own_b and not own_a:
        a, b = b, a
    if not (own_a or own_b) or a.dtype != b.dtype:
        return elementwise.add(a, b), True
    elementwise.add_to(a, b)
    return a, True


def _topological_order(root: Tensor, leaves_early: bool = False) -> list[Tensor]:
    """Return `root` and the tensors from which it was computed, with every parent before its children.

    `backward` visits them from the last to the first. It visits all weights at the end, because an operation has its
    input before its weights. With `leaves_early`, it visits the weights of a layer before the input of the layer. The
    gradients then differ only in rounding.
    """
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
            parents = reversed(tensor._parents) if leaves_early else tensor._parents
            stack.extend((parent, False) for parent in parents if parent.requires_grad)
    return order


def _sum_to(grad: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Sum a gradient over the axes along which the operand was broadcast. The result has the operand's `shape`."""
    if grad.shape == shape:
        return grad
    added = grad.ndim - len(shape)  # axes that the operand does not have at all
    stretched = (*range(added), *(added + axis for axis, side in enumerate(shape) if side == 1))
    return grad.sum(axis=stretched, keepdims=True).reshape(shape)


def _takes_each_once(index: Any) -> bool:
    """Return whether the index consists of integers, slices, None and `...`, which never take an element twice.

    Arrays and lists in an index can take an element twice.
    """
    parts = index if isinstance(index, tuple) else (index,)
    return all(part is None or part is Ellipsis or isinstance(part, (int, np.integer, slice)) for part in parts)


def _freed(_: np.ndarray) -> tuple[np.ndarray | None, ...]:
    raise RuntimeError("this graph was freed by an earlier backward(); compute the result again")

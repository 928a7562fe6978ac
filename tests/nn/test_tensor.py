"""Tensors: the gradient of every operation, the accumulation of gradients, and the memory of a graph."""

import copy
import gc
import operator
import pickle
import threading
import weakref

import numpy as np
import pytest
from gradcheck import LAYOUTS, check_gradients, in_layouts

from rcnn.nn import Parameter, Tensor, concatenate, no_grad
from rcnn.nn.tensor import _topological_order, record

RNG = np.random.default_rng(0)
A, B, MAPS = RNG.normal(size=(3, 4)), RNG.normal(size=(3, 4)), RNG.normal(size=(2, 3, 2, 4))
POSITIVE = RNG.uniform(0.5, 2, (3, 4))  # away from where a division or a root breaks
MATRIX = RNG.normal(size=(4, 2))

# Some uses of every operation of a tensor: a function, and the arrays with respect to which it is differentiated.
OPERATIONS = {
    "__add__": [(lambda a, b: a + b, A, B), (lambda a: a + 3, A), (lambda a: a + a, A)],
    "__sub__": [(lambda a, b: a - b, A, B), (lambda a: a - 3, A)],
    "__mul__": [(lambda a, b: a * b, A, B), (lambda a: a * 3, A), (lambda a: a * a, A)],
    "__truediv__": [(lambda a, b: a / b, A, POSITIVE), (lambda a: a / 3, A)],
    "__matmul__": [(lambda a, b: a @ b, A, MATRIX), (lambda a: a @ MATRIX, A)],
    "__pow__": [
        (lambda a: a**2, A),
        (lambda a: a**3, A),
        (lambda a: a**0.5, POSITIVE),
        (lambda a: a**-1, POSITIVE),
        (lambda a: a**1, A),
        (lambda a: a**0 * a, A),
    ],
    "__neg__": [(lambda a: -a, A)],
    "__radd__": [(lambda a: 3 + a, A), (lambda a: B + a, A)],
    "__rsub__": [(lambda a: 3 - a, A), (lambda a: B - a, A)],
    "__rmul__": [(lambda a: 3 * a, A), (lambda a: B * a, A)],
    "__rtruediv__": [(lambda a: 3 / a, POSITIVE), (lambda a: B / a, POSITIVE)],
    "__rmatmul__": [(lambda b: A @ b, MATRIX)],
    "exp": [(Tensor.exp, A)],
    "log": [(Tensor.log, POSITIVE)],
    "sqrt": [(Tensor.sqrt, POSITIVE)],
    "tanh": [(Tensor.tanh, A)],
    "sum": [
        (lambda a: a.sum(), MAPS),
        (lambda a: a.sum(1), MAPS),
        (lambda a: a.sum((0, -1)), MAPS),
        (lambda a: a.sum(-2, keepdims=True), MAPS),
    ],
    "mean": [(lambda a: a.mean(), MAPS), (lambda a: a.mean((2, 3)), MAPS), (lambda a: a.mean(-1, keepdims=True), MAPS)],
    "reshape": [(lambda a: a.reshape(2, 6), A), (lambda a: a.reshape((4, -1)), A)],
    "transpose": [
        (lambda a: a.transpose(0, 2, 3, 1), MAPS),
        (lambda a: a.transpose(-2, 0, -1, 1), MAPS),
        (lambda a: a.transpose(), MAPS),
    ],
    "T": [(lambda a: a.T, A)],
    "flatten": [
        (lambda a: a.flatten(), MAPS),
        (lambda a: a.flatten(start_dim=1), MAPS),
        (lambda a: a.flatten(start_dim=-2), MAPS),
    ],
    "__getitem__": [
        (lambda a: a[1], A),
        (lambda a: a[:, -1], A),
        (lambda a: a[::-2, None, 1:3], A),
        (lambda a: a[..., 0], MAPS),
        (lambda a: a[[0, 2, 0]], A),
        (lambda a: a[[0, 0, 2], [1, 1, 3]], A),
        (lambda a: a[A > 0], A),
        (lambda a: a[np.array([[0, 1], [1, 0]])], A),
        (lambda a: a[1, [3, 3]], A),
    ],
}
NOT_OPERATIONS = {
    "__init__",
    "__repr__",
    "__len__",
    "__array__",
    "shape",
    "ndim",
    "size",
    "dtype",
    "numpy",
    "item",
    "computed",
    "detach",
    "backward",
}
USES = [
    pytest.param(function, arrays, id=f"{name}-{index}")
    for name, uses in OPERATIONS.items()
    for index, (function, *arrays) in enumerate(uses)
]


def leaf(data):
    return Tensor(data, requires_grad=True)


# ---------------------------------------------------------------------- gradients of the operations


def test_every_operation_is_in_the_table():
    members = {name for name, member in vars(Tensor).items() if callable(member) or isinstance(member, property)}
    assert members - NOT_OPERATIONS == set(OPERATIONS)


@pytest.mark.parametrize("function, arrays", USES)
def test_gradients_agree_with_finite_differences(function, arrays):
    check_gradients(function, *arrays)


@pytest.mark.parametrize("operation", [operator.add, operator.sub, operator.mul, operator.truediv])
@pytest.mark.parametrize(
    "shapes",
    [
        ((3, 4), (4,)),
        ((3, 1), (1, 4)),
        ((2, 3, 4), ()),
        ((), (2, 3)),
        ((3, 4), (1, 1)),
        ((1,), (2, 3)),
        ((2, 3, 4), (3, 1)),
        ((0, 3), (1, 3)),
        ((2, 1), (2, 0)),
        ((1, 4), (4,)),
        ((), (1,)),
    ],
    ids=str,
)
def test_broadcasting(operation, shapes):
    a, b = (np.random.default_rng(1).uniform(0.5, 2, shape) for shape in shapes)
    check_gradients(operation, a, b)


@pytest.mark.parametrize("operation", [operator.add, operator.sub, operator.mul, operator.truediv, operator.matmul])
def test_only_required_gradients_are_computed(operation):
    x, constant, upstream = leaf(np.ones((2, 2))), np.ones((2, 2)), np.ones((2, 2))
    for out, required in ((operation(x, constant), 0), (operation(constant, x), 1)):
        grads = out._vjp(upstream)
        assert [grad is not None for grad in grads] == [required == 0, required == 1]


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_concatenate(axis):
    others = [np.moveaxis(np.moveaxis(MAPS, axis, 0)[:count], 0, axis) for count in (2, 1)]
    check_gradients(lambda *tensors: concatenate(tensors, axis), *others, others[0])
    np.testing.assert_array_equal(
        concatenate([Tensor(other) for other in others], axis).data, np.concatenate(others, axis)
    )


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("function, arrays", USES)
def test_memory_layout_does_not_matter(function, arrays, layout):
    def upstream(size):
        return np.arange(size, dtype=float)

    for plain, arranged in in_layouts(function, arrays, LAYOUTS[layout], upstream):
        np.testing.assert_allclose(arranged, plain, rtol=1e-13)


# ---------------------------------------------------------------------- accumulation of gradients


def test_a_gradient_by_hand():
    a, b = leaf(2.0), leaf(3.0)
    out = (a * b + a) ** 2  # (6 + 2)^2
    out.backward()
    assert out.item() == 64
    assert a.grad == 2 * 8 * (3 + 1)
    assert b.grad == 2 * 8 * 2


def test_a_tensor_used_twice_adds_its_gradients():
    x = leaf(3.0)
    y = x * 2
    (y * y + y).backward()  # 2 y + 1 = 13, times 2
    assert x.grad == 26


def test_paths_of_different_lengths_are_joined_before_the_gradient_moves_on():
    visits = []
    x = leaf([1.0, 2.0])
    shared = x * 3
    inner = shared._vjp

    def counted(g):
        visits.append(g.tolist())
        return inner(g)

    shared._vjp = counted
    deep = shared
    for _ in range(5):
        deep = deep + 1
    (shared + deep * shared).sum().backward()
    assert len(visits) == 1
    np.testing.assert_array_equal(x.grad, 3 * (1 + (x.data * 3 + 5) + x.data * 3))


def test_gradients_add_up_over_calls_until_they_are_cleared():
    x = leaf([1.0, 2.0])
    for times in (1, 2, 3):
        (x * 5).sum().backward()
        assert x.grad.tolist() == [5 * times, 5 * times]
    x.grad = None
    x.sum().backward()
    assert x.grad.tolist() == [1, 1]


def test_only_leaves_that_require_it_get_a_gradient():
    x, constant = leaf([1.0]), Tensor([2.0])
    y = x * constant
    y.backward()
    assert (x.grad, y.grad, constant.grad) == ([2.0], None, None)


def test_a_leaf_is_its_own_gradient():
    x = leaf([[7.0]])
    x.backward()
    assert x.grad.tolist() == [[1.0]]


ALIASING = {
    "add": lambda a, b: a + b,
    "add, then one again": lambda a, b: (a + b) + a,
    "reshape": lambda a, b: a.reshape(2, 2) + b.reshape(2, 2),
    "transpose": lambda a, b: a.T + b.T,
    "concatenate": lambda a, b: concatenate([a, b]),
    "slices": lambda a, b: a[:] + b[:],
    "sum": lambda a, b: a.sum() + b.sum(),
}


@pytest.mark.parametrize("function", ALIASING.values(), ids=ALIASING)
def test_gradients_never_share_memory(function):
    a, b = leaf([1.0, 2.0, 3.0, 4.0]), leaf([5.0, 6.0, 7.0, 8.0])
    for times in (1, 2):
        out = function(a, b)
        upstream = np.ones(out.shape)
        out.backward(upstream)
        assert np.array_equal(b.grad, np.full(4, times))
        arrays = [a.grad, b.grad, a.data, b.data, upstream]
        assert not any(np.shares_memory(x, y) for i, x in enumerate(arrays) for y in arrays[:i])
        a.grad.flat[0] += 0  # writeable: clipping scales gradients in place


def test_a_leaf_keeps_an_array_that_nothing_else_uses():
    made = []

    def vjp(g):
        grad = g * 2
        made.append(weakref.ref(grad))
        return (grad,)

    x = leaf([1.0, 2.0])
    record(x.data, (x,), vjp).reshape(2, 1).backward(np.ones((2, 1)))
    assert made[0]() is x.grad
    y = leaf([[1.0, 2.0]])
    record(y.data[0], (y.reshape(2),), vjp).backward(np.ones(2))  # through a view of an array that nothing else uses
    assert np.shares_memory(made[1](), y.grad)


def naive_gradients(out, upstream, leaves):
    """Return the gradients of `backward`, with a new array for every sum and every gradient."""
    waiting = {id(out): upstream}
    for tensor in reversed(_topological_order(out)):
        grads = tensor._vjp(waiting[id(tensor)].copy()) if tensor._vjp else ()
        for parent, grad in zip(tensor._parents, grads, strict=True):
            if grad is not None:
                waiting[id(parent)] = waiting.get(id(parent), 0) + grad
    return [waiting.get(id(x), np.zeros(x.shape)) for x in leaves]


def random_graph(seed, shape):
    """Return (leaves, result) of some thirty operations on two matrices; many pass on views of their gradients."""
    rng = np.random.default_rng(seed)
    leaves = [leaf(rng.integers(-2, 3, shape).astype(np.float32)) for _ in range(2)]
    tensors = list(leaves)
    for _ in range(30):
        a, b = (tensors[index] for index in rng.integers(max(0, len(tensors) - 4), len(tensors), 2))
        half = len(a) // 2
        tensors.append(
            [
                lambda a=a, b=b: a + b,
                lambda a=a: a + a,
                lambda a=a, b=b: a - b,
                lambda a=a: a[::-1],
                lambda a=a: a.T.T,
                lambda a=a: a.reshape(-1).reshape(a.shape),
                lambda a=a: a * 0.5,
                lambda a=a, b=b, half=half: concatenate([a[half:], b[:half]]),
                lambda a=a, b=b: concatenate([a.T, b.T], axis=0)[: a.shape[1]].T,
            ][rng.integers(9)]()
        )
    return leaves, tensors[-1] + tensors[-2] + tensors[-1]


@pytest.mark.parametrize("shape", [(4, 2), (256, 128)])
@pytest.mark.parametrize("seed", range(15))
def test_sums_in_place_change_no_array_that_is_still_used(impl, seed, shape):
    upstream = np.random.default_rng([seed, 1]).integers(-2, 3, shape).astype(np.float32)
    leaves, out = random_graph(seed, shape)
    expected = naive_gradients(out, upstream, leaves)
    leaves, out = random_graph(seed, shape)
    given = upstream.copy()
    out.backward(given)
    np.testing.assert_array_equal(given, upstream)
    for x, grad in zip(leaves, expected, strict=True):
        np.testing.assert_array_equal(0 if x.grad is None else x.grad, grad)


# ---------------------------------------------------------------------- errors of backward


def test_a_second_backward_is_an_error():
    x = leaf([1.0, 2.0])
    out = (x * x).sum()
    out.backward()
    with pytest.raises(RuntimeError, match="freed by an earlier backward"):
        out.backward()
    assert x.grad.tolist() == [2.0, 4.0]


def test_a_shared_part_of_a_freed_graph_is_an_error():
    shared = leaf([1.0, 2.0]) * 2
    first, second = shared.sum(), (shared * shared).sum()
    first.backward()
    with pytest.raises(RuntimeError, match="freed by an earlier backward"):
        second.backward()


@pytest.mark.parametrize(
    "tensor, grad, error, message",
    [
        (Tensor([1.0]), None, RuntimeError, "needs a tensor that requires a gradient"),
        (leaf([1.0, 2.0]), None, RuntimeError, r"needs a scalar, got a tensor of shape \(2,\)"),
        (leaf([1.0, 2.0]), [1.0], ValueError, r"grad must have the tensor's shape \(2,\), got \(1,\)"),
    ],
)
def test_errors_of_backward(tensor, grad, error, message):
    with pytest.raises(error, match=message):
        tensor.backward(grad)


def test_a_vjp_of_the_wrong_shape_is_an_error():
    x = leaf([1.0, 2.0])
    inner = x * 2
    out = record(inner.data, (inner,), lambda g: (g[:1],))
    with pytest.raises(ValueError, match=r"the same shape as its parent, \(2,\), got \(1,\)"):
        out.backward(np.ones(2))


# ---------------------------------------------------------------------- the cost of a graph


@pytest.fixture
def no_collector():
    """Run a test without the garbage collector, so that reference counts alone free memory."""
    gc.disable()
    yield
    gc.enable()


def chain(x, length):
    """Return the end of a chain of operations on x, and weak references to some of its tensors and arrays."""
    inner = []
    for index in range(length):
        x = x + 1.0 if index % 2 else -x
        if index % (length // 5) == 1:
            inner += [weakref.ref(x), weakref.ref(x.data)]
    return x, inner


@pytest.mark.parametrize("length", [5_000, 100_000])
def test_a_deep_chain_is_differentiated_and_freed(no_collector, length):
    x = leaf([1.0])
    out, inner = chain(x, length)
    assert all(reference() is not None for reference in inner)
    out.backward()
    assert x.grad.tolist() == [1.0]  # an even number of signs
    assert all(reference() is None for reference in inner)  # although its end still exists


@pytest.mark.parametrize("length", [5_000, 100_000])
def test_a_deep_chain_that_is_never_differentiated_is_freed(no_collector, length):
    out, inner = chain(leaf([1.0]), length)
    del out
    assert all(reference() is None for reference in inner)


def test_a_gradient_is_freed_when_it_has_been_passed_on(no_collector):
    alive, most = [], []

    def double(x):
        def vjp(g):
            alive.append(weakref.ref(g))
            most.append(sum(reference() is not None for reference in alive))
            return (g * 2,)

        return record(x.data * 2, (x,), vjp)

    x = leaf(np.ones(3))
    out = x
    for _ in range(10):
        out = double(out)
    out.sum().backward()
    assert x.grad.tolist() == [1024] * 3
    assert max(most) == 1


def test_an_input_is_freed_with_the_operation_that_needed_it(no_collector):
    alive = []
    x = leaf(np.ones(3))

    def vjp(g):
        alive.append([reference() is not None for reference in references])
        return (g,)

    first = record(x.data * 1, (x,), vjp)  # visited last
    inner = first * 2
    out = (inner * inner).sum()  # its gradient needs `inner`, and nothing after it does
    references = [weakref.ref(inner), weakref.ref(inner.data)]
    del inner, first
    out.backward()
    assert alive == [[False, False]]


def test_without_gradients_a_chain_keeps_no_tensors(no_collector):
    out, inner = chain(Tensor([1.0]), 100)
    assert all(reference() is None for reference in inner)
    assert out._parents == ()


@pytest.mark.parametrize("function, arrays", USES)
def test_no_operation_creates_a_reference_cycle(no_collector, function, arrays):
    out = function(*map(leaf, arrays))
    reference = weakref.ref(out)
    del out
    assert reference() is None


# ---------------------------------------------------------------------- recording


def test_no_grad_records_nothing_until_its_block_ends():
    x = leaf([1.0])
    with no_grad():
        with no_grad():
            pass
        assert not (x * 2).requires_grad
    assert (x * 2).requires_grad


def test_no_grad_ends_with_an_exception():
    with pytest.raises(KeyError), no_grad():
        raise KeyError
    assert (leaf([1.0]) * 2).requires_grad


def test_no_grad_is_a_decorator():
    @no_grad()
    def double(x):
        return x * 2

    assert not double(leaf([1.0])).requires_grad
    assert not double(leaf([1.0])).requires_grad
    assert (leaf([1.0]) * 2).requires_grad


def test_no_grad_affects_only_its_own_thread():
    x, inside, leave, found = leaf([1.0]), threading.Event(), threading.Event(), []

    def work():
        found.append((x * 2).requires_grad)  # the main thread does not record
        with no_grad():
            inside.set()
            leave.wait(10)
            found.append((x * 2).requires_grad)

    thread = threading.Thread(target=work)
    with no_grad():
        thread.start()
        assert inside.wait(10)
        assert not (x * 2).requires_grad
    assert (x * 2).requires_grad  # the other thread does not record
    leave.set()
    thread.join()
    assert found == [True, False]


# ---------------------------------------------------------------------- values, dtypes, NumPy


@pytest.mark.parametrize(
    "data, dtype",
    [
        (np.zeros(2, np.float16), np.float32),
        (np.zeros(2, np.float32), np.float32),
        (np.zeros(2), np.float64),
        (np.zeros(2, ">f4"), np.float32),
        (np.zeros(2, ">f8"), np.float64),
        (np.zeros(2, np.uint8), np.float64),
        (np.zeros(2, bool), np.float64),
        ([1, 2], np.float64),
        (3, np.float64),
        (np.float32(3), np.float32),
    ],
    ids=repr,
)
def test_dtypes(data, dtype):
    tensor = Tensor(data)
    assert tensor.dtype == dtype
    assert tensor.dtype.isnative
    assert isinstance(tensor.data, np.ndarray)
    np.testing.assert_array_equal(tensor.data, np.asarray(data))


@pytest.mark.parametrize("data", [None, "3", [1j], object(), ["a"], {}], ids=lambda data: type(data).__name__)
def test_only_real_numbers_are_accepted(data):
    with pytest.raises(TypeError, match="data must contain real numbers"):
        Tensor(data)
    with pytest.raises(TypeError, match="the operand must contain real numbers"):
        Tensor([1.0]) + data


@pytest.mark.parametrize(
    "other", [2, 2.0, np.float64(2), np.array(2.0), np.full((2, 2), 2), np.full((2, 2), 2.0)], ids=repr
)
@pytest.mark.parametrize(
    "operation",
    [
        lambda a, b: a + b,
        lambda a, b: b + a,
        lambda a, b: a - b,
        lambda a, b: b - a,
        lambda a, b: a * b,
        lambda a, b: b * a,
        lambda a, b: a / b,
        lambda a, b: b / a,
    ],
)
def test_other_operands_take_the_tensors_dtype(operation, other):
    out = operation(Parameter(np.full((2, 2), 4, np.float32)), other)
    assert isinstance(out, Tensor)
    assert out.dtype == np.float32
    np.testing.assert_array_equal(out.data, operation(np.full((2, 2), 4.0), other))


@pytest.mark.parametrize(
    "operation",
    [
        lambda x: x ** np.float64(2),
        lambda x: x.mean(),
        lambda x: x.mean(0),
        Tensor.exp,
        Tensor.sqrt,
        lambda x: np.ones((2, 2)) @ x,
        lambda x: x @ np.ones((2, 2)),
    ],
)
def test_float32_stays_float32(operation):
    x = Parameter(np.full((2, 2), 4, np.float32))
    out = operation(x)
    out.backward(np.ones(out.shape))
    assert out.dtype == x.grad.dtype == np.float32


def test_a_gradient_has_the_dtype_of_its_leaf():
    x = Parameter(np.array([1.0, 2.0], np.float32))
    for _ in range(2):
        (x * Tensor([3.0, 4.0])).sum().backward()  # in float64
        assert x.grad.dtype == np.float32
    assert x.grad.tolist() == [6.0, 8.0]


def test_an_operation_receives_its_gradient_in_its_own_dtype():
    seen, x = [], Parameter(np.ones(2, np.float32))
    inner = record(x.data * 1, (x,), lambda g: (seen.append(g.dtype), g)[1:])
    (inner * Tensor([3.0, 4.0])).sum().backward()  # in float64
    assert seen == [np.float32]


def test_a_gradient_of_a_scalar_is_an_array():
    x = leaf(2.0)
    for expected in (4.0, 8.0):
        (x * x).backward()
        assert isinstance(x.grad, np.ndarray)
        assert x.grad == expected


def test_properties_and_repr():
    x = leaf([[1.0, 2.0, 3.0]])
    assert (x.shape, x.ndim, x.size, len(x)) == ((1, 3), 2, 3, 1)
    assert repr(x) == "Tensor([[1. 2. 3.]], shape=(1, 3), requires_grad=True)"
    assert [row.data.tolist() for row in x[0]] == [1.0, 2.0, 3.0]
    assert x[0, 1].item() == 2.0
    with pytest.raises(ValueError):
        x.item()


def test_numpy_converts_a_tensor_unless_a_gradient_is_lost():
    x = leaf([1.0, 2.0])
    with pytest.raises(TypeError, match=r"use tensor\.data"):
        np.asarray(x)
    assert np.shares_memory(np.asarray(x.detach()), x.data)
    assert np.asarray(x.detach(), dtype=np.float32).dtype == np.float32
    assert not np.shares_memory(np.array(x.detach()), x.data)
    assert x.numpy() is x.data
    assert not x.detach().requires_grad


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda p: pickle.loads(pickle.dumps(p))])
def test_parameters_can_be_copied(duplicate):
    parameter = Parameter([1.0, 2.0])
    twin = duplicate(parameter)
    assert type(twin) is Parameter
    assert twin.requires_grad
    twin.data += 1
    assert parameter.data.tolist() == [1.0, 2.0]


@pytest.mark.parametrize("axis", [None, 0, 1])
def test_sum_and_mean_of_no_elements(axis):
    x = leaf(np.zeros((0, 3)))
    for out in (x.sum(axis), x.mean(axis)):
        assert out.shape == np.zeros((0, 3)).sum(axis).shape
        assert not out.data.any()
        out.sum().backward()
        assert x.grad.shape == (0, 3)


@pytest.mark.parametrize(
    "function, message",
    [
        (lambda x: x @ Tensor([1.0, 2.0]), r"got tensors of shapes \(2, 2\) and \(2,\)"),
        (lambda x: x.reshape(3), "shape must contain integers whose product"),
        (lambda x: x + Tensor([1.0, 2.0, 3.0]), "could not be broadcast"),
        (lambda x: x.transpose(0, 0), "axes must contain each of"),
    ],
)
def test_shape_errors(function, message):
    with pytest.raises(ValueError, match=message):
        function(leaf(np.ones((2, 2))))

"""Elementwise functions: float32 kernels and references, compared with float64 and with values worked out by hand."""

import numpy as np
import pytest
from gradcheck import LAYOUTS

import rcnn
from rcnn.nn import elementwise

# (N, C, H, W): few channels and many, pixels that divide into long rows and that do not, blocks that are not full
SHAPES = [(2, 3, 5, 7), (1, 24, 33, 40), (3, 64, 16, 16), (4, 24, 64, 64), (1, 2048, 2, 3), (2, 5, 1, 1), (0, 3, 4, 4)]
EACH = pytest.mark.parametrize("shape", SHAPES, ids=str)


def draw(shape, count):
    """Return `count` seeded maps, channels last, and three vectors for their channels, all float32."""
    rng = np.random.default_rng(shape)
    maps = rng.standard_normal((count, shape[0], *shape[2:], shape[1]), np.float32).transpose(0, 1, 4, 2, 3)
    return [*maps, *rng.standard_normal((3, shape[1]), np.float32)]


def relu_gradient(g, out, *vectors):
    return elementwise.relu_gradient(g, out, vectors[0])


# Functions of maps and of three vectors, with the number of maps each takes.
FUNCTIONS = {
    "relu": (lambda x, *_: elementwise.relu(x), 1),
    "leaky relu": (lambda x, *_: elementwise.relu(x, 0.3), 1),
    "leaky relu's gradient": (lambda g, x, *_: elementwise.leaky_relu_gradient(g, x, 0.3), 2),
    "relu6": (lambda x, *_: elementwise.activate(x, "relu6"), 1),
    "relu6's gradient": (lambda g, x, *_: elementwise.activation_gradient(g, x, "relu6"), 2),
    "hardswish": (lambda x, *_: elementwise.activate(x, "hardswish"), 1),
    "hardswish's gradient": (lambda g, x, *_: elementwise.activation_gradient(g, x, "hardswish"), 2),
    "relu's gradient": (lambda g, out, *_: elementwise.relu_gradient(g, out)[0], 2),
    "relu's gradient and scaled": (relu_gradient, 2),
    "relu's gradient, only scaled": (lambda g, out, a, *_: elementwise.relu_gradient(g, out, a, plain=False)[1], 2),
    "add": (lambda a, b, *_: elementwise.add(a, b), 2),
    "sum per channel": (lambda x, *_: elementwise.sum_per_channel(x), 1),
    "normalise": (lambda x, *vectors: elementwise.normalise(x, *vectors), 1),
    "normalise and relu": (lambda x, *vectors: elementwise.normalise(x, *vectors, None, True), 1),
    "normalise with residual": (lambda x, rest, *vectors: elementwise.normalise(x, *vectors, rest), 2),
    "normalise with both": (lambda x, rest, *vectors: elementwise.normalise(x, *vectors, rest, True), 2),
    "normalise's sums": (lambda g, x, a, *_: elementwise.normalise_sums(g, x, a)[:2], 2),
    "normalise's sums with relu": (lambda g, x, out, a, *_: elementwise.normalise_sums(g, x, a, out)[:2], 3),
    "normalise's sums, kept": (lambda g, x, out, a, *_: elementwise.normalise_sums(g, x, a, out, keep=True), 3),
    "normalise's gradient": (lambda g, x, a, b, c: elementwise.normalise_gradient(g, x, a, None, b, c, a), 2),
    "normalise's gradient with relu": (
        lambda g, x, out, a, b, c: elementwise.normalise_gradient(g, x, a, out, b, c, a),
        3,
    ),
}
ALL = pytest.mark.parametrize("name", FUNCTIONS)


def run(name, arrays):
    out = FUNCTIONS[name][0](*arrays)
    return out if isinstance(out, tuple) else (out,)


@EACH
@ALL
def test_float32_agrees_with_the_reference_in_float64(impl, name, shape):
    arrays = draw(shape, FUNCTIONS[name][1])
    before = [array.copy() for array in arrays]
    exact = run(name, [array.astype(np.float64) for array in arrays])
    for found, expected in zip(run(name, arrays), exact, strict=True):
        assert found.dtype == np.float32 and expected.dtype == np.float64
        assert found.shape == expected.shape
        assert np.max(np.abs(found - expected), initial=0) <= 2e-6 * np.max(np.abs(expected), initial=0)
        assert found.ndim < 4 or found.transpose(0, 2, 3, 1).flags.c_contiguous
        assert not any(np.shares_memory(found, array) for array in arrays)
    for array, copy in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(array, copy)


@pytest.mark.parametrize("layout", LAYOUTS)
@ALL
def test_memory_layout_does_not_matter(impl, name, layout):
    arrays = draw((2, 3, 6, 8), FUNCTIONS[name][1])
    for found, expected in zip(run(name, map(LAYOUTS[layout], arrays)), run(name, arrays), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@ALL
def test_threads_do_not_change_a_bit(name):
    arrays, found = draw((2, 24, 90, 100), FUNCTIONS[name][1]), []
    for threads in (1, 2, 3):
        with rcnn.use_backend("cython"), rcnn.set_num_threads(threads):
            found.append([array.tobytes() for array in run(name, arrays)])
    assert found[0] == found[1] == found[2]


# ---------------------------------------------------------------------- activations


def test_activations_by_hand(impl):
    x = np.array([-np.inf, -2, 0, 3, np.inf, np.nan], np.float32)
    np.testing.assert_array_equal(elementwise.relu(x), [0, 0, 0, 3, np.inf, np.nan])
    np.testing.assert_array_equal(elementwise.relu(x, 0.5), [-np.inf, -1, 0, 3, np.inf, np.nan])
    np.testing.assert_array_equal(
        elementwise.leaky_relu_gradient(np.full(6, 4, np.float32), x, 0.5), [2, 2, 2, 4, 4, 2]
    )


def test_relu_gradient_by_hand(impl):
    g = np.array([[1, 2], [3, 4]], np.float32).reshape(1, 2, 1, 2)
    out = np.array([[0, 5], [6, -1]], np.float32).reshape(1, 2, 1, 2)
    scale = np.array([10, 100], np.float32)
    plain, scaled = elementwise.relu_gradient(g, out, scale)
    assert plain.ravel().tolist() == [0, 2, 3, 0]
    assert scaled.ravel().tolist() == [0, 20, 300, 0]
    assert elementwise.relu_gradient(g, out)[1] is None
    assert elementwise.relu_gradient(g, out, scale, plain=False)[0] is None


@pytest.mark.parametrize("shape", [(), (0,), (7,), (5, 3), (2, 3, 4)])
def test_activations_of_any_shape(impl, shape):
    x = np.random.default_rng(0).standard_normal(shape, np.float32) * np.ones(shape, np.float32)
    np.testing.assert_array_equal(elementwise.relu(np.asarray(x)), np.maximum(x, 0))


# ---------------------------------------------------------------------- sums


def test_long_sums_stay_accurate(impl):
    x = np.full((1, 1, 1000, 1001), 0.1, np.float32)  # a plain running sum would be off by a percent
    rtol = {"cython": 1e-6, "numpy": 1e-3}[impl]
    np.testing.assert_allclose(elementwise.sum_per_channel(x), [1001000 * float(np.float32(0.1))], rtol=rtol)


@pytest.mark.parametrize("shape", [(64, 200), (2, 30, 40, 50)])
@pytest.mark.parametrize("layout", ["C order", "channels last", "reversed", "Fortran order"])
def test_adding_in_place(impl, shape, layout):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, *shape), np.float32)
    total = LAYOUTS[layout](a.copy())
    elementwise.add_to(total, b)
    np.testing.assert_array_equal(total, a + b)


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape[0] > 0])
def test_statistics_of_a_batch(impl, shape):
    x = draw(shape, 1)[0] * 0.5 + np.linspace(-100, 100, shape[1], dtype=np.float32)[:, None, None]
    mean, var = elementwise.batch_statistics(x)
    assert mean.dtype == var.dtype == np.float32
    np.testing.assert_allclose(mean, x.mean((0, 2, 3), np.float64), rtol=1e-5)
    np.testing.assert_allclose(var, x.var((0, 2, 3), np.float64), rtol=1e-4, atol=1e-9)


def test_statistics_by_hand_and_for_any_number_of_threads():
    with rcnn.use_backend("cython"):
        mean, var = elementwise.batch_statistics(np.array([[1, 3], [8, 8]], np.float32).reshape(2, 1, 1, 2))
        assert (mean.tolist(), var.tolist()) == ([5], [9.5])  # of 1, 3, 8, 8: deviations -4, -2, 3, 3
        x, found = draw((2, 24, 90, 100), 1)[0], []
        for threads in (1, 3):
            with rcnn.set_num_threads(threads):
                found.append([array.tobytes() for array in elementwise.batch_statistics(x)])
    assert found[0] == found[1]


# ---------------------------------------------------------------- kernel or reference


def test_a_float64_argument_selects_the_reference(impl):
    x, *vectors = draw((2, 3, 5, 7), 1)
    residual = np.zeros(x.shape)  # float64, which no kernel takes
    exact = elementwise.normalise(x.astype(np.float64), *vectors, residual)
    np.testing.assert_allclose(elementwise.normalise(x, *vectors, residual), exact, rtol=1e-5, atol=1e-6)


def test_empty_arrays(impl):
    g, out, *_ = draw((2, 3, 5, 7), 2)
    assert elementwise.relu_gradient(g, out, plain=False) == (None, None)

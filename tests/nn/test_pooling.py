"""Pooling: comparison with its definition, memory layouts, and edge cases. float64 runs only the reference."""

import itertools
import re
from types import SimpleNamespace

import numpy as np
import pytest
from gradcheck import LAYOUTS, check_gradients

import rcnn
from rcnn._ext import pooling as driver
from rcnn.nn import Tensor
from rcnn.nn.pooling import avg_pool2d, max_pool2d
from rcnn.nn.windows import pair

MAPS = np.random.default_rng(0).normal(size=(2, 4, 7, 6))
POOLS = [(2, None, 0), (3, 2, 1), (3, 1, 1), ((2, 3), (1, 2), (1, 0)), (1, 2, 0), (1, 1, 0), (3, 4, 0)]
BOTH = pytest.mark.parametrize("pool", [max_pool2d, avg_pool2d])
EACH = pytest.mark.parametrize("kernel, stride, padding", POOLS, ids=str)


def leaf(data):
    return Tensor(data, requires_grad=True)


def upstream(shape, dtype=np.float64):
    return np.cos(np.arange(np.prod(shape), dtype=dtype)).reshape(shape)


def windows(x, kernel, stride, padding, fill):
    """Return every window of the maps, (N, C, H', W', kernel height, kernel width)."""
    x = np.pad(x, [(0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2], constant_values=fill)
    rows, columns = ((x.shape[2 + a] - kernel[a]) // stride[a] + 1 for a in (0, 1))
    out = np.empty((*x.shape[:2], rows, columns, *kernel))
    for row, column in np.ndindex(rows, columns):
        top, left = row * stride[0], column * stride[1]
        out[:, :, row, column] = x[:, :, top : top + kernel[0], left : left + kernel[1]]
    return out


# ---------------------------------------------------------------------- values and gradients


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@EACH
def test_pooling_agrees_with_its_definition(impl, kernel, stride, padding, dtype):
    maps = MAPS.astype(dtype)
    sides = pair("", kernel, 1), pair("", kernel if stride is None else stride, 1), pair("", padding, 0)
    for x in (Tensor(maps), leaf(maps)):
        largest, mean = max_pool2d(x, kernel, stride, padding).data, avg_pool2d(x, kernel, stride, padding).data
        assert largest.dtype == mean.dtype == dtype
        np.testing.assert_array_equal(largest, windows(maps, *sides, -np.inf).max((4, 5)))
        np.testing.assert_allclose(mean, windows(maps, *sides, 0).mean((4, 5)), atol=1e-6 if dtype == np.float32 else 0)


@BOTH
@EACH
def test_gradients_agree_with_finite_differences(pool, kernel, stride, padding):
    check_gradients(lambda x: pool(x, kernel, stride, padding), MAPS)


@BOTH
@EACH
@pytest.mark.parametrize("channels", [1, 40])
def test_gradients_in_float32_agree_with_float64(impl, pool, kernel, stride, padding, channels):
    maps = np.random.default_rng(1).integers(0, 5, (2, channels, 9, 11))  # many ties, which keep the first
    grads = []
    for dtype in (np.float32, np.float64):
        x = leaf(maps.astype(dtype))
        out = pool(x, kernel, stride, padding)
        out.backward(upstream(out.shape, dtype))
        grads.append(x.grad)
    assert grads[0].dtype == np.float32
    np.testing.assert_allclose(*grads, atol=1e-6)


def test_ties_keep_the_first(impl):
    x = leaf(np.array([[1, 5, 5, 2], [5, 5, 2, 2]], np.float32).reshape(1, 1, 2, 4))
    max_pool2d(x, 2).backward(np.array([1.0, 10.0]).reshape(1, 1, 1, 2))
    assert x.grad.tolist() == [[[[0, 1, 10, 0], [0, 0, 0, 0]]]]


def test_overlapping_windows_add_up(impl):
    x = leaf(np.array([1, 3, 2], np.float32).reshape(1, 1, 1, 3))
    max_pool2d(x, (1, 2), 1).backward(np.array([1.0, 10.0]).reshape(1, 1, 1, 2))
    assert x.grad.ravel().tolist() == [0, 11, 0]
    x.grad = None
    avg_pool2d(x, (1, 2), 1).backward(np.array([1.0, 10.0]).reshape(1, 1, 1, 2))
    assert x.grad.ravel().tolist() == [0.5, 5.5, 5]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_padding_is_minus_infinity_for_max_and_0_for_mean(impl, dtype):
    x = Tensor(np.full((1, 1, 2, 2), -4, dtype))
    assert max_pool2d(x, 2, 2, 1).data.ravel().tolist() == [-4] * 4
    assert avg_pool2d(x, 2, 2, 1).data.ravel().tolist() == [-1] * 4
    assert avg_pool2d(x, 1, 1, 1).data.ravel().tolist() == [0, 0, 0, 0, 0, -4, -4, 0, 0, -4, -4, 0, 0, 0, 0, 0]


def test_max_pooling_keeps_nan_and_passes_it_no_gradient(impl):
    for order in itertools.permutations([1, np.nan, 3, 2]):
        x = leaf(np.array([[*order[:2], 7, 8], [*order[2:], 9, 0]], np.float32).reshape(1, 1, 2, 4))
        out = max_pool2d(x, 2)
        out.backward(np.ones(out.shape))
        np.testing.assert_array_equal(out.data.ravel(), [np.nan, 9])
        assert x.grad.tolist() == [[[[0, 0, 0, 0], [0, 0, 1, 0]]]]


# ---------------------------------------------------------------------- memory and threads


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("layout", LAYOUTS)
@BOTH
@EACH
def test_memory_layout_does_not_matter(impl, pool, kernel, stride, padding, layout, dtype):
    results = []
    for arrange in (np.array, LAYOUTS[layout]):
        x = leaf(arrange(MAPS.astype(dtype)))
        out = pool(x, kernel, stride, padding)
        out.backward(arrange(upstream(out.shape, dtype)))
        results.append((out.data, x.grad))
    assert out.data.transpose(0, 2, 3, 1).flags.c_contiguous
    for plain, arranged in zip(*results, strict=True):
        np.testing.assert_allclose(arranged, plain, rtol=1e-12 if dtype == np.float64 else 1e-5, atol=1e-6)


@BOTH
def test_results_do_not_share_memory(impl, pool):
    x = leaf(LAYOUTS["channels last"](MAPS.astype(np.float32)))
    out = pool(x, 1)
    g = LAYOUTS["channels last"](np.ones(out.shape, np.float32))
    out.backward(g)
    np.testing.assert_array_equal(out.data, x.data)
    assert not np.shares_memory(out.data, x.data)
    assert not np.shares_memory(x.grad, g)


@BOTH
def test_threads_do_not_change_a_bit(pool):
    maps, found = np.random.default_rng(2).normal(size=(2, 24, 70, 90)).astype(np.float32), []
    for threads in (1, 3):
        with rcnn.use_backend("cython"), rcnn.set_num_threads(threads):
            x = leaf(maps)
            out = pool(x, 3, 2, 1)
            out.backward(upstream(out.shape, np.float32))
            found.append((out.data.tobytes(), x.grad.tobytes()))
    assert found[0] == found[1]


@BOTH
def test_the_backward_pass_reads_the_thread_count_again(monkeypatch, pool):
    """A forked child, for example, does not have its parent's threads."""
    requested, pool_gradient = [], driver.kernels.pool_gradient

    def spy(*arguments):
        requested.append(arguments[-1])
        pool_gradient(*arguments)

    monkeypatch.setattr(driver, "kernels", SimpleNamespace(pool=driver.kernels.pool, pool_gradient=spy))
    x = leaf(np.zeros((2, 24, 70, 90), np.float32))
    with rcnn.use_backend("cython"):
        with rcnn.set_num_threads(3):
            out = pool(x, 3, 2, 1)
        with rcnn.set_num_threads(1):
            out.backward(upstream(out.shape, np.float32))
    assert requested == [1]


@BOTH
@EACH
@pytest.mark.parametrize("backends", [("numpy", "cython"), ("cython", "numpy")], ids=" then ".join)
def test_the_gradient_may_run_on_the_other_backend(pool, kernel, stride, padding, backends):
    maps, grads = np.random.default_rng(1).integers(0, 5, (2, 4, 9, 11)).astype(np.float32), []
    for forward, backward in (backends, ("numpy", "numpy")):
        x = leaf(maps)
        with rcnn.use_backend(forward):
            out = pool(x, kernel, stride, padding)
        with rcnn.use_backend(backward):
            out.backward(upstream(out.shape, np.float32))
        grads.append(x.grad)
    np.testing.assert_allclose(*grads, atol=1e-6)


@BOTH
@EACH
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_empty_batch(impl, pool, kernel, stride, padding, dtype):
    x = leaf(np.zeros((0, *MAPS.shape[1:]), dtype))
    out = pool(x, kernel, stride, padding)
    assert out.shape == (0, *pool(Tensor(MAPS), kernel, stride, padding).shape[1:])
    out.sum().backward()
    assert x.grad.shape == x.shape


# ---------------------------------------------------------------------- errors

X = Tensor(MAPS)


@pytest.mark.parametrize(
    "function, error, message",
    [
        (lambda: max_pool2d(MAPS, 2), TypeError, "max_pool2d: x must be a Tensor"),
        (lambda: avg_pool2d(Tensor(MAPS[0]), 2), ValueError, "avg_pool2d: x must be feature maps"),
        (
            lambda: max_pool2d(X, 9, padding=1),
            ValueError,
            "9 x 9 pixels does not fit into x, which has 7 x 6 pixels and a padding of (1, 1)",
        ),
        (lambda: max_pool2d(X[:, :, :0], 2, padding=1), ValueError, "with at least one pixel, got (2, 4, 0, 6)"),
        (
            lambda: max_pool2d(X, 2, padding=2),
            ValueError,
            "padding must be at most half of kernel_size=(2, 2), got (2, 2)",
        ),
        (
            lambda: avg_pool2d(X, 0),
            ValueError,
            "kernel_size must be one or two whole numbers of at least 1 and at most 4096, got 0",
        ),
    ],
)
def test_error_messages(function, error, message):
    with pytest.raises(error, match=re.escape(message)):
        function()

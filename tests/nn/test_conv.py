"""Convolution: comparison with plain loops, memory layouts, and edge cases."""

import re

import numpy as np
import pytest
from gradcheck import LAYOUTS, check_gradients

from rcnn.nn import Parameter, Tensor, fused
from rcnn.nn import functional as F
from rcnn.nn.conv import conv2d
from rcnn.nn.windows import channels_last, output_size, pair

RNG = np.random.default_rng(0)
MAPS = RNG.normal(size=(2, 4, 7, 6))
WEIGHT, BIAS = RNG.normal(size=(6, 4, 3, 3)), RNG.normal(size=6)
KERNEL_2X3 = RNG.normal(size=(6, 4, 2, 3))
POINTWISE = RNG.normal(size=(6, 4, 1, 1))

# Ways to convolve MAPS: filters, stride, padding, dilation, groups.
CONVOLUTIONS = {
    "plain": (WEIGHT, 1, 0, 1, 1),
    "padded": (WEIGHT, 1, 1, 1, 1),
    "stride 2": (WEIGHT, 2, 1, 1, 1),
    "stride 2 that leaves a rest": (WEIGHT, 2, 0, 1, 1),
    "stride above the kernel": (WEIGHT, 4, 1, 1, 1),
    "dilation": (WEIGHT, 1, 2, 2, 1),
    "dilation and stride": (WEIGHT, (2, 1), (2, 3), (2, 3), 1),
    "padding above the kernel": (WEIGHT, 1, 4, 1, 1),
    "unequal sides": (KERNEL_2X3, (1, 2), (0, 1), 1, 1),
    "pointwise": (POINTWISE, 1, 0, 1, 1),
    "pointwise, padded": (POINTWISE, 1, 1, 1, 1),
    "pointwise, stride 2": (POINTWISE, 2, 0, 1, 1),
    "as large as the map": (RNG.normal(size=(6, 4, 7, 6)), 1, 0, 1, 1),
    "two groups": (WEIGHT[:, :2], 1, 1, 1, 2),
    "groups, stride and dilation": (WEIGHT[:, :2], 2, 2, 2, 2),
    "two filters per channel": (RNG.normal(size=(8, 1, 3, 3)), 1, 1, 1, 4),
    "depthwise": (WEIGHT[:4, :1], 1, 1, 1, 4),
    "depthwise, stride and dilation": (KERNEL_2X3[:4, :1], (2, 3), (1, 2), (2, 1), 4),
}


def leaf(data):
    return Tensor(data, requires_grad=True)


def in_loops(x, weight, bias, stride, padding, dilation, groups):
    """Return the convolution by its definition, one output value at a time."""
    stride, padding, dilation = (pair("", value, 0) for value in (stride, padding, dilation))
    x = np.pad(x, [(0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2])
    outs, ins, *kernel = weight.shape
    rows, columns = ((x.shape[2 + a] - dilation[a] * (kernel[a] - 1) - 1) // stride[a] + 1 for a in (0, 1))
    out = np.empty((len(x), outs, rows, columns))
    for n, o, row, column in np.ndindex(out.shape):
        first = o // (outs // groups) * ins  # of the channels of this filter's group
        total = bias[o]
        for c, i, j in np.ndindex(ins, *kernel):
            total += (
                weight[o, c, i, j]
                * x[n, first + c, row * stride[0] + i * dilation[0], column * stride[1] + j * dilation[1]]
            )
        out[n, o, row, column] = total
    return out


# ---------------------------------------------------------------------- convolution


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolution_agrees_with_its_definition(name):
    weight, *geometry = CONVOLUTIONS[name]
    bias = RNG.normal(size=len(weight))
    expected = in_loops(MAPS, weight, bias, *geometry)
    np.testing.assert_allclose(conv2d(Tensor(MAPS), Tensor(weight), Tensor(bias), *geometry).data, expected, atol=1e-12)
    expected -= bias[:, None, None]
    np.testing.assert_allclose(conv2d(Tensor(MAPS), Tensor(weight), None, *geometry).data, expected, atol=1e-12)


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_gradients_of_convolution(name):
    weight, *geometry = CONVOLUTIONS[name]
    check_gradients(lambda x, w, b: conv2d(x, w, b, *geometry), MAPS[:1], weight, RNG.normal(size=len(weight)))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_fused_steps_have_the_gradients_of_separate_steps(name, bias):
    """Compare the same network in one pass and step by step, each with its own gradient."""
    weight, *geometry = CONVOLUTIONS[name]
    plain = conv2d(Tensor(MAPS[:1]), Tensor(weight), None, *geometry)
    scale, shift, rest = RNG.normal(size=len(weight)), RNG.normal(size=len(weight)), RNG.normal(size=plain.shape)

    def steps(x, w, b, r):
        out = conv2d(x, w, b if bias else None, *geometry)
        return F.relu((out if bias else F.scale_and_shift(out, scale, shift)) + r)

    found = []
    for function in (fused(steps), steps):
        leaves = [leaf(array) for array in (MAPS[:1], weight, np.zeros(len(weight)), rest)]
        out = function(*leaves)
        out.backward(np.cos(np.arange(out.size)).reshape(out.shape))
        found.append([out.data, *(one.grad for one in leaves if one.grad is not None)])
    assert (found[0][0] == 0).any() and (found[0][0] > 0).any()
    assert len(found[0]) == (5 if bias else 4)
    for got, expected in zip(*found, strict=True):
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12)


def test_convolution_by_hand():
    x = leaf(np.arange(9.0).reshape(1, 1, 3, 3))
    weight = leaf(np.array([[1.0, 2.0], [3.0, 4.0]]).reshape(1, 1, 2, 2))
    bias = leaf([10.0])
    out = conv2d(x, weight, bias)
    out.backward(np.array([[1.0, 0.0], [0.0, 2.0]]).reshape(1, 1, 2, 2))
    assert out.data.tolist() == [[[[37, 47], [67, 77]]]]  # the first is 0 + 2 + 9 + 16 + 10: the filter is not flipped
    assert x.grad.tolist() == [[[[1, 2, 0], [3, 6, 4], [0, 6, 8]]]]
    assert weight.grad.tolist() == [[[[0 + 2 * 4, 1 + 2 * 5], [3 + 2 * 7, 4 + 2 * 8]]]]
    assert bias.grad.tolist() == [3]


# ---------------------------------------------------------------------- memory

OPERATIONS = {
    name: (lambda x, w, b, geometry=geometry: conv2d(x, w, b, *geometry), MAPS, weight, RNG.normal(size=len(weight)))
    for name, (weight, *geometry) in CONVOLUTIONS.items()
}


def run(name, arrange, dtype=np.float64):
    """Return the output and all gradients of an operation on arrays in one memory layout."""
    function, *arrays = OPERATIONS[name]
    tensors = [leaf(arrange(array.astype(dtype))) for array in arrays]
    out = function(*tensors)
    out.backward(arrange(np.cos(np.arange(out.size, dtype=dtype)).reshape(out.shape)))
    return out, [out.data, *(tensor.grad for tensor in tensors)]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", OPERATIONS)
def test_memory_layout_does_not_matter(name, layout):
    _, plain = run(name, np.array)
    out, arranged = run(name, LAYOUTS[layout])
    for expected, found in zip(plain, arranged, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
    assert out.data.transpose(0, 2, 3, 1).flags.c_contiguous


@pytest.mark.parametrize("name", OPERATIONS)
def test_results_are_reproducible_and_stay_float32(name):
    first, second = (run(name, np.array, np.float32)[1] for _ in range(2))
    assert {array.dtype for array in first} == {np.dtype(np.float32)}
    assert [array.tobytes() for array in first] == [array.tobytes() for array in second]


def test_results_do_not_share_memory():
    x = leaf(LAYOUTS["channels last"](MAPS))
    out = conv2d(x, Tensor(np.eye(4)[:, :, None, None]))
    upstream = LAYOUTS["channels last"](np.ones(out.shape))
    out.backward(upstream)
    np.testing.assert_array_equal(out.data, x.data)
    assert not np.shares_memory(out.data, x.data)
    assert not np.shares_memory(x.grad, upstream)


def test_channels_last_copies_only_if_the_layout_changes():
    first = channels_last(MAPS)
    np.testing.assert_array_equal(first, MAPS)
    assert first.transpose(0, 2, 3, 1).flags.c_contiguous
    assert not np.shares_memory(first, MAPS)
    assert np.shares_memory(channels_last(first), first)


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_empty_batch(name):
    function, x, *others = OPERATIONS[name]
    tensors = [leaf(x[:0]), *map(leaf, others)]
    out = function(*tensors)
    assert out.shape == (0, *function(*map(Tensor, [x, *others])).shape[1:])
    out.sum().backward()
    assert tensors[0].grad.shape == (0, *x.shape[1:])
    assert all(tensor.grad.shape == tensor.shape and not tensor.grad.any() for tensor in tensors)


# ---------------------------------------------------------------------- sizes and errors


@pytest.mark.parametrize(
    "size, kernel, stride, padding, dilation, expected",
    [
        ((7, 6), (3, 3), (1, 1), (0, 0), (1, 1), (5, 4)),
        ((7, 6), (3, 3), (2, 2), (1, 1), (1, 1), (4, 3)),
        ((7, 6), (3, 3), (1, 1), (2, 2), (2, 2), (7, 6)),
        ((224, 224), (7, 7), (2, 2), (3, 3), (1, 1), (112, 112)),
        ((3, 3), (3, 3), (5, 5), (0, 0), (1, 1), (1, 1)),
        ((5, 7), (1, 1), (2, 2), (0, 0), (1, 1), (3, 4)),
    ],
)
def test_output_size(size, kernel, stride, padding, dilation, expected):
    assert output_size(size, kernel, stride, padding, dilation) == expected


@pytest.mark.parametrize("value, expected", [(3, (3, 3)), ((1, 2), (1, 2)), ([1, 2], (1, 2)), (np.int64(2), (2, 2))])
def test_pair(value, expected):
    assert pair("stride", value, 1) == expected


X, W = Tensor(MAPS), Tensor(WEIGHT)


@pytest.mark.parametrize(
    "function, error, message",
    [
        (lambda: conv2d(MAPS, W), TypeError, "conv2d: x must be a Tensor, got ndarray; use Tensor(array)"),
        (lambda: conv2d(Tensor(MAPS[0]), W), ValueError, "feature maps of shape (N, C, H, W), got (4, 7, 6)"),
        (
            lambda: conv2d(X, W[:, :3]),
            ValueError,
            "conv2d: x must have 3 channels for weight (6, 3, 3, 3) and groups=1, got 4 (shape (2, 4, 7, 6))",
        ),
        (lambda: conv2d(X, W, groups=2), ValueError, "x must have 8 channels"),
        (lambda: conv2d(X, W[:5, :2], groups=2), ValueError, "groups must divide the number of filters (5), got 2"),
        (
            lambda: conv2d(X, W, Tensor([1.0])),
            ValueError,
            "bias must have shape (6,), with one value per filter, got (1,)",
        ),
        (
            lambda: conv2d(X, W, dilation=3),
            ValueError,
            "a window of 7 x 7 pixels does not fit into x, which has 7 x 6 pixels and a padding of (0, 0)",
        ),
        (
            lambda: conv2d(X, W, stride=0),
            ValueError,
            "stride must be one or two whole numbers of at least 1 and at most 4096, got 0",
        ),
        (
            lambda: conv2d(X, W, padding=-1),
            ValueError,
            "padding must be one or two whole numbers of at least 0 and at most 4096, got -1",
        ),
        (
            lambda: conv2d(X, W, stride=1.5),
            ValueError,
            "stride must be one or two whole numbers of at least 1 and at most 4096, got 1.5",
        ),
        (lambda: conv2d(X, W, stride=(1, 2, 3)), ValueError, "stride must be one or two whole numbers"),
        (lambda: conv2d(X, W, padding="same"), ValueError, "padding must be one or two whole numbers of at least 0"),
    ],
)
def test_error_messages(function, error, message):
    with pytest.raises(error, match=re.escape(message)):
        function()


def test_only_required_gradients_are_computed():
    x, weight = Tensor(MAPS), Parameter(WEIGHT)
    assert conv2d(x, weight)._vjp(np.ones((2, 6, 5, 4)))[0] is None
    x.requires_grad, weight.requires_grad = True, False
    assert conv2d(x, weight)._vjp(np.ones((2, 6, 5, 4)))[1] is None

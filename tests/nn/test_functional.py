"""Operations on tensors: comparisons with PyTorch, finite differences, and values worked out by hand."""

import math
import re
import threading

import numpy as np
import pytest
from gradcheck import LAYOUTS, check_gradients, in_layouts

import rcnn
from rcnn.nn import Parameter, Tensor, fused
from rcnn.nn import functional as F
from rcnn.nn.random import drawing_from

RNG = np.random.default_rng(0)
MAPS = RNG.normal(size=(2, 3, 5, 4))
ROWS = RNG.normal(size=(4, 3)) * 2
MEAN, VAR = RNG.normal(size=3), RNG.uniform(0.5, 2, 3)
LABELS = np.array([0, 2, 1, 2])


def leaf(data):
    return Tensor(data, requires_grad=True)


# ---------------------------------------------------------------------- PyTorch's results


def conv(case, x, weight, bias):
    settings = [
        tuple(case[name].tolist()) if case[name].ndim else int(case[name]) for name in ("stride", "padding", "dilation")
    ]
    return F.conv2d(x, weight, bias, *settings)


def batch_norm(case, x, weight, bias, training):
    mean, var = case["running_mean"].copy(), case["running_var"].copy()
    out = F.batch_norm(x, mean, var, weight, bias, training, 0.1, 1e-5)
    expected = ("new_mean", "new_var") if training else ("running_mean", "running_var")
    for found, name in zip((mean, var), expected, strict=True):
        np.testing.assert_allclose(found, case[name], rtol=1e-5)
    return out


# Every case of layers.npz: the function of the case's arrays and its differentiable inputs.
GOLDEN_CASES = {
    **dict.fromkeys(["conv1x1", "conv3x3", "conv3x3s2", "conv7x7s2", "conv1x1s2", "conv3x3d2", "conv2x3"], conv),
    "max_pool": lambda case, x: F.max_pool2d(x, 3, 2, 1),
    "max_pool_last_level": lambda case, x: F.max_pool2d(x, 1, 2, 0),
    "avg_pool_global": lambda case, x: F.adaptive_avg_pool2d(x, 1),
    "nearest": lambda case, x: F.interpolate(x, (13, 9), "nearest"),
    "bilinear": lambda case, x: F.interpolate(x, (13, 9), "bilinear"),
    "linear": lambda case, x, weight, bias: F.linear(x, weight, bias),
    "batch_norm_train": lambda case, *inputs: batch_norm(case, *inputs, training=True),
    "batch_norm_eval": lambda case, *inputs: batch_norm(case, *inputs, training=False),
    "cross_entropy": lambda case, logits: F.cross_entropy(logits, case["in1"]),
    "bce_logits": lambda case, logits: F.binary_cross_entropy_with_logits(logits, case["in1"]),
    "smooth_l1": lambda case, prediction, target: F.smooth_l1_loss(prediction, target, 1 / 9),
    "softmax": lambda case, x: F.softmax(x),
    "sigmoid": lambda case, x: F.sigmoid(x),
}


def test_every_golden_case_is_run(golden):
    assert {key.split("/")[0] for key in golden("layers")} == set(GOLDEN_CASES)


@pytest.mark.parametrize("layout", ["C order", "channels last"])
@pytest.mark.parametrize("name", GOLDEN_CASES)
def test_outputs_and_gradients_match_pytorch(golden, impl, name, layout):
    case = {key.split("/")[1]: array for key, array in golden("layers").items() if key.split("/")[0] == name}
    differentiable = [key.replace("grad", "in") for key in sorted(case) if key.startswith("grad")]
    assert all(case[key].dtype != np.float32 for key in case if key[:2] == "in" and key not in differentiable)
    inputs = [Parameter(LAYOUTS[layout](case[key])) for key in differentiable]
    out = GOLDEN_CASES[name](case, *inputs)
    out.backward(np.cos(np.arange(out.size, dtype=np.float32)).reshape(out.shape))
    assert_close(out.data, case["out"])
    for key, tensor in zip(differentiable, inputs, strict=True):
        assert_close(tensor.grad, case[key.replace("in", "grad")])


def assert_close(found, expected):
    assert found.dtype == expected.dtype == np.float32
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


# ---------------------------------------------------------------------- gradients


def normalise(training, relu=False):
    @fused
    def function(x, weight, bias, residual=None):
        mean, var = MEAN.astype(x.dtype), VAR.astype(x.dtype)
        out = F.batch_norm(x, mean, var, weight, bias, training)
        out = out if residual is None else out + residual
        return F.relu(out) if relu else out

    return function


AWAY_FROM_0 = np.where(np.abs(MAPS) < 0.01, 0.5, MAPS)
WEIGHT, BIAS = RNG.normal(size=(4, 3, 3, 2)), RNG.normal(size=4)

# Some uses of every operation: a function, and the arrays with respect to which it is differentiated.
OPERATIONS = {
    "conv2d": [(F.conv2d, MAPS, WEIGHT, BIAS), (F.conv2d, MAPS, WEIGHT)],  # more in test_convolution
    "max_pool2d": [(lambda x: F.max_pool2d(x, 2), MAPS)],
    "avg_pool2d": [(lambda x: F.avg_pool2d(x, 2), MAPS)],
    "linear": [
        (F.linear, ROWS, RNG.normal(size=(2, 3)), RNG.normal(size=2)),
        (F.linear, ROWS, ROWS[:2]),
        (F.linear, MAPS, RNG.normal(size=(2, 60)), RNG.normal(size=2)),
    ],
    "scale_and_shift": [(lambda x: F.scale_and_shift(x, MEAN, VAR), MAPS)],
    "relu": [(F.relu, AWAY_FROM_0)],
    "relu6": [(F.relu6, AWAY_FROM_0 * 5)],
    "hardswish": [(F.hardswish, MAPS * 3)],
    "scale_channels": [(F.scale_channels, MAPS, RNG.normal(size=(2, 3, 1, 1)))],
    "hardsigmoid": [(F.hardsigmoid, MAPS * 3)],
    "leaky_relu": [(F.leaky_relu, AWAY_FROM_0), (lambda x: F.leaky_relu(x, 0.3), AWAY_FROM_0)],
    "dropout": [(lambda x: F.dropout(x, 0.3, rng=np.random.default_rng(0)), MAPS)],
    "batch_norm": [
        (normalise(training, relu), MAPS, *RNG.normal(size=(2, 3)), *residual)
        for training in (True, False)
        for relu in (False, True)
        for residual in ([], [RNG.normal(size=MAPS.shape)])
    ],
    "adaptive_avg_pool2d": [(lambda x, s=size: F.adaptive_avg_pool2d(x, s), MAPS) for size in (1, (2, 3), (5, 6))],
    "interpolate": [
        (lambda x, size=size, mode=mode: F.interpolate(x, size, mode), MAPS)
        for size in ((10, 8), (3, 7), (1, 1))
        for mode in ("nearest", "bilinear")
    ],
    "upsample_add": [(F.upsample_add, MAPS, MAPS[:, :, :height, :width]) for height, width in ((2, 2), (3, 4), (1, 3))],
    "sigmoid": [(F.sigmoid, MAPS * 3)],
    "softmax": [(F.softmax, ROWS), (lambda x: F.softmax(x, 0), ROWS), (lambda x: F.softmax(x, 1), MAPS)],
    "log_softmax": [
        (F.log_softmax, ROWS),
        (lambda x: F.log_softmax(x, 0), ROWS),
        (lambda x: F.log_softmax(x, 1), MAPS),
    ],
    "concatenate": [(lambda a, b: F.concatenate([a, b], axis=1), MAPS, MAPS[:, :2])],
    "cross_entropy": [(lambda x, w=w: F.cross_entropy(x, LABELS, w), ROWS) for w in (None, [1, 0.5, 3])],
    "binary_cross_entropy_with_logits": [
        (lambda x, t=t: F.binary_cross_entropy_with_logits(x, t), ROWS) for t in (ROWS > 1, np.full(ROWS.shape, 0.3))
    ],
    "smooth_l1_loss": [
        (lambda p, t, beta=beta: F.smooth_l1_loss(p, t, beta), ROWS, ROWS[::-1]) for beta in (0.1, 1, 3)
    ],
}
USES = [
    pytest.param(function, arrays, id=f"{name}-{index}")
    for name, uses in OPERATIONS.items()
    for index, (function, *arrays) in enumerate(uses)
]


def test_every_operation_is_in_the_table():
    assert set(F.__all__) - set(OPERATIONS) == {"channels_last"}  # it takes an array


@pytest.mark.parametrize("function, arrays", USES)
def test_gradients_agree_with_finite_differences(function, arrays):
    check_gradients(function, *arrays)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("function, arrays", USES)
def test_memory_layout_does_not_matter(function, arrays, layout):
    def upstream(size):
        return np.cos(np.arange(size))

    for plain, arranged in in_layouts(function, arrays, LAYOUTS[layout], upstream):
        np.testing.assert_allclose(arranged, plain, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("function, arrays", USES)
def test_results_are_reproducible_to_the_bit(function, arrays):
    results = []
    for _ in range(2):
        tensors = [Parameter(array.astype(np.float32)) for array in arrays]
        out = function(*tensors)
        out.backward(np.ones(out.shape))
        results.append([out.data.tobytes(), *(tensor.grad.tobytes() for tensor in tensors)])
    assert results[0] == results[1]


@pytest.mark.parametrize("function, arrays", USES)
def test_float32_agrees_with_float64(impl, function, arrays):
    found, expected = [], []
    for dtype, results in ((np.float32, found), (np.float64, expected)):
        tensors = [Parameter(array.astype(dtype)) for array in arrays]
        out = function(*tensors)
        out.backward(np.cos(np.arange(out.size, dtype=dtype)).reshape(out.shape))
        results += [out.data, *(tensor.grad for tensor in tensors)]
    for single, double in zip(found, expected, strict=True):
        assert single.dtype == np.float32
        np.testing.assert_allclose(single, double, rtol=0, atol=3e-6 * np.abs(double).max())


# ---------------------------------------------------------------------- activations and probabilities


def test_relu_at_the_kink():
    x = leaf([-1.0, 0.0, 2.0])
    out = F.relu(x)
    out.backward([1.0, 1.0, 1.0])
    assert out.data.tolist() == [0, 0, 2]
    assert x.grad.tolist() == [0, 0, 1]
    assert F.leaky_relu(x, 0.1).data.tolist() == [-0.1, 0, 2]


def test_other_activations_by_hand(impl):
    """At the kinks, the gradients are those of PyTorch."""
    values = np.array([-4, -3, 0, 3, 6, 7], np.float32)
    for function, outputs, slopes in (
        (F.relu6, [0, 0, 0, 3, 6, 6], [0, 0, 0, 1, 0, 0]),
        (F.hardswish, [0, 0, 0, 3, 6, 7], [0, 0, 0.5, 1, 1, 1]),
        (F.hardsigmoid, [0, 0, 0.5, 1, 1, 1], [0, 0, 1 / 6, 0, 0, 0]),
    ):
        x = leaf(np.tile(values, 10))
        out = function(x)
        out.backward(np.ones(60, np.float32))
        np.testing.assert_allclose(out.data, np.tile(outputs, 10), rtol=1e-6)
        np.testing.assert_allclose(x.grad, np.tile(slopes, 10), rtol=1e-6)
        assert np.isnan(function(Tensor([np.nan])).data)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "function",
    [
        F.sigmoid,
        F.softmax,
        F.dropout,
        lambda x: F.scale_and_shift(x, np.full(1, 9), np.ones(1)),
        lambda x: F.scale_channels(x, Tensor(np.full((1, 1, 1, 1), 9.0))),
        F.relu6,
        F.hardswish,
        F.hardsigmoid,
        lambda x: F.smooth_l1_loss(x, np.zeros(x.shape)),
        lambda x: F.binary_cross_entropy_with_logits(x, np.zeros(x.shape)),
        lambda x: F.cross_entropy(x.reshape(6, 2), np.ones(6, int)),
    ],
)
def test_extreme_numbers_give_no_warnings(function):
    x = leaf(np.tile([1e308, -1e308, np.inf], 4).reshape(1, 1, 4, 3))
    out = function(x)
    out.backward(np.full(out.shape, 1e308))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nothing_overflows(dtype):
    extreme = np.array([-1e4, -100, 0, 100, 1e4], dtype)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        for function in (F.sigmoid, F.softmax, F.log_softmax):
            x = leaf(extreme)
            out = function(x)
            out.backward(np.ones(5))
            assert out.dtype == dtype
            assert np.isfinite(out.data).all()
            assert np.isfinite(x.grad).all()
    assert F.sigmoid(Tensor(extreme)).data[[0, 2, 4]].tolist() == [0, 0.5, 1]
    assert F.softmax(Tensor(extreme)).data.tolist() == [0, 0, 0, 0, 1]
    assert F.log_softmax(Tensor(extreme)).data[0] == dtype(-2e4)


def test_softmax_by_hand():
    x = np.log([[1.0, 3.0], [2.0, 2.0]])
    np.testing.assert_allclose(F.softmax(Tensor(x)).data, [[0.25, 0.75], [0.5, 0.5]])
    np.testing.assert_allclose(F.softmax(Tensor(x), axis=0).data, [[1 / 3, 0.6], [2 / 3, 0.4]])
    np.testing.assert_allclose(F.log_softmax(Tensor(x)).data, np.log([[0.25, 0.75], [0.5, 0.5]]))


# ---------------------------------------------------------------------- losses


def test_cross_entropy_by_hand():
    logits = leaf(np.log([[1.0, 3.0], [1.0, 1.0]]))
    loss = F.cross_entropy(logits, [1, 0])
    loss.backward()
    assert loss.item() == pytest.approx((np.log(4 / 3) + np.log(2)) / 2)
    np.testing.assert_allclose(logits.grad, [[0.125, -0.125], [-0.25, 0.25]])


def test_weighted_cross_entropy_by_hand():
    """A weight of 3 counts as three samples."""
    logits = leaf(np.log([[1.0, 3.0], [1.0, 1.0]]))
    loss = F.cross_entropy(logits, [1, 0], [1, 3])
    loss.backward()
    assert loss.item() == pytest.approx((3 * np.log(4 / 3) + np.log(2)) / 4)
    np.testing.assert_allclose(logits.grad, [[0.1875, -0.1875], [-0.125, 0.125]])
    assert F.cross_entropy(logits, [0, 0], [0, 1]).item() == 0
    assert F.cross_entropy(logits, [1, 0], [1, 1]).item() == F.cross_entropy(logits, [1, 0]).item()


@pytest.mark.parametrize(
    "logit, target, loss, slope",
    [
        (0, 1, np.log(2), -0.5),
        (0, 0, np.log(2), 0.5),
        (0, 0.25, np.log(2), 0.25),
        (1000, 1, 0, 0),
        (1000, 0, 1000, 1),
        (-1000, 1, 1000, -1),
        (-1000, 0, 0, 0),
    ],
)
def test_binary_cross_entropy_by_hand(logit, target, loss, slope):
    logits = leaf([[logit, 0.0]])
    out = F.binary_cross_entropy_with_logits(logits, [[target, 0.5]])
    out.backward()
    assert out.item() == pytest.approx((loss + np.log(2)) / 2)
    np.testing.assert_allclose(logits.grad, [[slope / 2, 0]])


@pytest.mark.parametrize(
    "beta, difference, loss, slope",
    [
        (1, 0.5, 0.125, 0.5),
        (1, -0.5, 0.125, -0.5),
        (1, 1, 0.5, 1),
        (1, 3, 2.5, 1),
        (1, -3, 2.5, -1),
        (0.5, 0.25, 0.0625, 0.5),
        (0.5, 1, 0.75, 1),
        (np.float64(0.5), 1, 0.75, 1),
    ],
)
def test_smooth_l1_by_hand(beta, difference, loss, slope):
    prediction, target = (Parameter(np.array(values, np.float32)) for values in ([2 + difference, 7], [2, 7]))
    out = F.smooth_l1_loss(prediction, target, beta)
    out.backward()
    assert out.dtype == np.float32
    assert out.item() == loss  # the sum
    assert prediction.grad.tolist() == [slope, 0]
    assert target.grad.tolist() == [-slope, 0]


@pytest.mark.parametrize(
    "loss, shape",
    [
        (lambda x: F.cross_entropy(x, []), (0, 5)),
        (lambda x: F.cross_entropy(x, np.zeros(0, np.int64)), (0, 5)),
        (lambda x: F.binary_cross_entropy_with_logits(x, np.zeros(0)), (0,)),
        (lambda x: F.smooth_l1_loss(x, np.zeros((0, 4))), (0, 4)),
    ],
)
def test_an_empty_loss_is_0(loss, shape):
    x = Parameter(np.zeros(shape, np.float32))
    out = loss(x)
    out.backward()
    assert (out.shape, out.dtype, out.item()) == ((), np.float32, 0)
    assert (x.grad.shape, x.grad.dtype) == (shape, np.float32)


# ---------------------------------------------------------------------- dropout


def test_dropout_keeps_the_mean():
    n, p = 200_000, 0.3
    x = leaf(np.full(n, 2.0))
    out = F.dropout(x, p, rng=np.random.default_rng(0))
    out.sum().backward()
    kept = out.data != 0
    np.testing.assert_allclose(out.data[kept], 2 / (1 - p), rtol=1e-6)
    np.testing.assert_allclose(x.grad, kept / (1 - p), rtol=1e-6)
    deviation = np.sqrt(p * (1 - p) / n)
    assert abs(kept.mean() - (1 - p)) < 5 * deviation
    neighbours = kept[1:].astype(float) * kept[:-1]
    assert abs(neighbours.mean() - (1 - p) ** 2) < 5 * deviation  # elements are drawn independently


def test_dropout_is_drawn_from_its_rng():
    x = Tensor(np.ones(1000, np.float32))
    first, again, other = (F.dropout(x, rng=np.random.default_rng(seed)).data for seed in (0, 0, 1))
    assert first.dtype == np.float32
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    rng = np.random.default_rng(0)
    F.dropout(x, rng=rng)
    assert not np.array_equal(F.dropout(x, rng=rng).data, first)


def test_dropout_without_an_rng_follows_the_library_seed():
    x, drawn = Tensor(np.ones(1000)), []
    for seed in (3, 3, 4):
        rcnn.seed(seed)
        drawn.append(F.dropout(x).data)
    assert np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])


def test_dropout_in_a_drawing_from_block_uses_the_given_rng():
    x = Tensor(np.ones(1000))

    def drawn(seed):
        return F.dropout(x, rng=np.random.default_rng(seed)).data

    elsewhere = []
    rcnn.seed(7)
    with pytest.raises(KeyError), drawing_from(np.random.default_rng(1)):
        with drawing_from(np.random.default_rng(2)):
            assert np.array_equal(F.dropout(x).data, drawn(2))
            assert np.array_equal(drawn(3), drawn(3))  # an rng that is passed takes precedence
        assert np.array_equal(F.dropout(x).data, drawn(1))
        thread = threading.Thread(target=lambda: elsewhere.append(F.dropout(x).data))
        thread.start()
        thread.join()
        raise KeyError
    rcnn.seed(7)
    assert np.array_equal(F.dropout(x).data, elsewhere[0])  # another thread draws from the library's own generator


def test_dropout_returns_its_input_if_nothing_drops():
    x = leaf([1.0, 2.0])
    assert F.dropout(x, 0.5, training=False) is x
    assert F.dropout(x, 0) is x


# ---------------------------------------------------------------------- batch norm


def test_batch_norm_by_hand():
    x = np.array([1.0, 3.0, 5.0, 7.0]).reshape(2, 1, 1, 2)  # mean 4, variance 5, unbiased 20 / 3
    mean, var = np.array([10.0]), np.array([1.0])
    out = F.batch_norm(Tensor(x), mean, var, Tensor([2.0]), Tensor([0.5]), training=True, momentum=0.5, eps=0)
    np.testing.assert_allclose(out.data, (x - 4) / np.sqrt(5) * 2 + 0.5)
    np.testing.assert_allclose(mean, [(10 + 4) / 2])
    np.testing.assert_allclose(var, [(1 + 20 / 3) / 2])
    fixed = F.batch_norm(Tensor(x), mean, var, Tensor([2.0]), Tensor([0.5]), training=False, eps=1.0)
    np.testing.assert_allclose(fixed.data, (x - 7) / np.sqrt(23 / 6 + 1) * 2 + 0.5)
    assert mean.tolist() == [7.0]  # evaluation does not change the statistics


def test_running_statistics_converge_to_the_statistics_of_the_data():
    rng = np.random.default_rng(0)
    mean, var = np.zeros(2, np.float32), np.ones(2, np.float32)
    one, zero = Tensor(np.ones(2, np.float32)), Tensor(np.zeros(2, np.float32))
    for _ in range(150):
        x = rng.normal([5, -3], [2, 0.5], (8, 6, 6, 2)).transpose(0, 3, 1, 2).astype(np.float32)
        out = F.batch_norm(Tensor(x), mean, var, one, zero, training=True)
        np.testing.assert_allclose(out.data.mean((0, 2, 3)), 0, atol=1e-5)
        np.testing.assert_allclose(out.data.std((0, 2, 3)), 1, atol=1e-4)
    assert (mean.dtype, var.dtype, out.dtype) == (np.float32,) * 3
    np.testing.assert_allclose(mean, [5, -3], rtol=0.02)
    np.testing.assert_allclose(var, [4, 0.25], rtol=0.1)


def test_batch_norm_of_a_constant_is_its_bias():
    x = Tensor(np.full((2, 1, 3, 3), 7.0))
    out = F.batch_norm(x, np.zeros(1), np.ones(1), Tensor([1.0]), Tensor([0.25]), training=True)
    np.testing.assert_allclose(out.data, 0.25)


def test_batch_norm_with_residual_and_relu(impl):
    x, residual = (leaf(np.array(values, np.float32).reshape(1, 1, 1, 4)) for values in ([1, 3, 5, 7], [0, 0, -9, 1]))
    one, zero = leaf(np.ones(1, np.float32)), leaf(np.zeros(1, np.float32))
    mean, var = np.array([3], np.float32), np.array([4], np.float32)
    out = fused(lambda: F.relu(F.batch_norm(x, mean, var, one, zero, eps=0) + residual))()  # (x - 3) / 2 + residual
    assert out.data.ravel().tolist() == [0, 0, 0, 3]
    mean[:], var[:] = 100, 100  # a later change of the statistics does not affect the result
    out.backward(np.array([1, 10, 100, 1000]).reshape(out.shape))
    assert residual.grad.ravel().tolist() == [0, 0, 0, 1000]
    assert x.grad.ravel().tolist() == [0, 0, 0, 500]
    assert (one.grad.tolist(), zero.grad.tolist()) == ([2000], [1000])


# ---------------------------------------------------------------------- resampling


@pytest.mark.parametrize(
    "mode, size, source, expected",
    [
        ("nearest", 4, [1, 2], [1, 1, 2, 2]),
        ("nearest", 3, [1, 2], [1, 1, 2]),
        ("nearest", 2, [1, 2, 3, 4], [1, 3]),
        ("nearest", 2, [1, 2, 3], [1, 2]),
        ("bilinear", 4, [0, 1], [0, 0.25, 0.75, 1]),
        ("bilinear", 1, [0, 1], [0.5]),
        ("bilinear", 2, [0, 1, 2, 3], [0.5, 2.5]),
        ("bilinear", 3, [0, 3, 6], [0, 3, 6]),
        ("bilinear", 3, [5], [5, 5, 5]),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_resampling_by_hand(impl, mode, size, source, expected, dtype):
    row, column = (np.array(source, dtype).reshape(shape) for shape in ((1, 1, 1, -1), (1, 1, -1, 1)))
    np.testing.assert_allclose(F.interpolate(Tensor(row), (1, size), mode).data.ravel(), expected)
    np.testing.assert_allclose(F.interpolate(Tensor(column), (size, 1), mode).data.ravel(), expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_upsample_add_by_hand(impl, dtype):
    lateral, top = (leaf(np.array([[rows]], dtype)) for rows in ([[0, 0, 5], [0, 1, 0]], [[10], [20]]))
    out = F.upsample_add(lateral, top)
    out.backward(np.array([[1, 2, 3], [4, 5, 6]]).reshape(out.shape))
    assert out.data.tolist() == [[[[10, 10, 15], [20, 21, 20]]]]
    assert lateral.grad.tolist() == [[[[1, 2, 3], [4, 5, 6]]]]
    assert top.grad.tolist() == [[[[6], [15]]]]


@pytest.mark.parametrize("size", [1, 2, (2, 3), (4, 4), (5, 7), np.int64(2)], ids=str)
def test_adaptive_average_agrees_with_its_definition(size):
    rows, columns = np.broadcast_to(size, 2)
    height, width = MAPS.shape[2:]
    expected = np.empty((2, 3, rows, columns))
    for i, j in np.ndindex(rows, columns):
        top, bottom = math.floor(i * height / rows), math.ceil((i + 1) * height / rows)
        left, right = math.floor(j * width / columns), math.ceil((j + 1) * width / columns)
        expected[:, :, i, j] = MAPS[:, :, top:bottom, left:right].mean((2, 3))
    found = F.adaptive_avg_pool2d(Tensor(MAPS), size).data
    np.testing.assert_allclose(found, expected)


# ---------------------------------------------------------------------- empty input and errors


@pytest.mark.parametrize(
    "function, shape",
    [
        (lambda x: F.linear(x, leaf(np.ones((2, 3))), leaf(np.ones(2))), (0, 3)),
        (lambda x: F.batch_norm(x, MEAN, VAR, leaf(np.ones(3)), leaf(np.ones(3))), (0, 3, 4, 4)),
        (lambda x: F.adaptive_avg_pool2d(x, (2, 3)), (0, 3, 4, 4)),
        (lambda x: F.interpolate(x, (8, 8), "bilinear"), (0, 3, 4, 4)),
        (F.softmax, (0, 3)),
        (F.log_softmax, (0, 3)),
        (F.relu, (0, 3)),
        (F.sigmoid, (0, 3)),
        (F.dropout, (0, 3)),
    ],
)
def test_an_empty_batch(function, shape):
    x = leaf(np.zeros(shape))
    out = function(x)
    out.sum().backward()
    assert len(out) == 0
    assert x.grad.shape == shape


ONES = Tensor(np.ones(3))
X = Tensor(MAPS)


@pytest.mark.parametrize(
    "function, error, message",
    [
        (lambda: F.linear(ROWS, Tensor(np.ones((2, 3)))), TypeError, "linear: x must be a Tensor, got ndarray"),
        (
            lambda: F.linear(X, Tensor(np.ones((2, 3)))),
            ValueError,
            "linear: x must have shape (N, 3) for weight (2, 3), got (2, 3, 5, 4)",
        ),
        (
            lambda: F.linear(Tensor(ROWS), Tensor(np.ones((2, 4)))),
            ValueError,
            "linear: x must have shape (N, 4) for weight (2, 4), got (4, 3)",
        ),
        (lambda: F.linear(Tensor(ROWS), Tensor(np.ones((2, 3))), ONES), ValueError, "bias must have shape (2,)"),
        (lambda: F.dropout(X, 1.0), ValueError, "p must be a number in [0, 1), got 1.0"),
        (lambda: F.dropout(X, -0.1), ValueError, "p must be a number in [0, 1), got -0.1"),
        (lambda: F.dropout(X, rng=0), TypeError, "rng must be a np.random.Generator"),
        (lambda: F.batch_norm(Tensor(ROWS), MEAN, VAR, ONES, ONES), ValueError, "shape (N, C, H, W), got (4, 3)"),
        (
            lambda: F.batch_norm(X, MEAN, VAR, Tensor([1.0]), Tensor([1.0])),
            ValueError,
            "x must have 1 channels, because weight has shape (1,); got 3",
        ),
        (lambda: F.batch_norm(X, MEAN, VAR, ONES, Tensor([1.0])), ValueError, "because bias has shape (1,); got 3"),
        (
            lambda: F.batch_norm(X, MEAN[:2], VAR, ONES, ONES),
            ValueError,
            "x must have 2 channels, because running_mean",
        ),
        (lambda: F.batch_norm(X[:1, :, :1, :1], MEAN, VAR, ONES, ONES, True), ValueError, "more than one value per"),
        (
            lambda: F.upsample_add(X, X[:1]),
            ValueError,
            "must have the same number of images and channels, got shapes (2, 3, 5, 4) and (1, 3, 5, 4)",
        ),
        (lambda: F.upsample_add(X, ONES), ValueError, "feature maps of shape (N, C, H, W), got (3,)"),
        (lambda: F.adaptive_avg_pool2d(X, 0), ValueError, "output_size must be one or two whole numbers of at least 1"),
        (
            lambda: F.interpolate(Tensor(np.zeros((1, 4, 0, 3))), (2, 2)),
            ValueError,
            "interpolate: x must be feature maps (N, C, H, W) with at least one pixel, got (1, 4, 0, 3)",
        ),
        (
            lambda: F.upsample_add(X, Tensor(np.zeros((2, 3, 2, 0)))),
            ValueError,
            "with at least one pixel, got (2, 3, 2, 0)",
        ),
        (lambda: F.interpolate(X, (2, 2), "cubic"), ValueError, "mode must be one of nearest, bilinear, got 'cubic'"),
        (lambda: F.interpolate(X, (2, 2.5)), ValueError, "size must be one or two whole numbers of at least 1"),
        (lambda: F.interpolate(MAPS, (2, 2)), TypeError, ": x must be a Tensor, got ndarray; use Tensor(array)"),
        (lambda: F.cross_entropy(X, LABELS), ValueError, "logits must have shape (R, L), got (2, 3, 5, 4)"),
        (
            lambda: F.cross_entropy(Tensor(ROWS), [0, 1]),
            ValueError,
            "labels must have shape (4,), with one label per row of logits, got (2,)",
        ),
        (lambda: F.cross_entropy(Tensor(ROWS), [0, 1, 2, 3]), ValueError, "labels must be in 0 .. 2, got 0 .. 3"),
        (lambda: F.cross_entropy(Tensor(ROWS), [0, 1, 2, -1]), ValueError, "labels must be in 0 .. 2, got -1 .. 2"),
        (
            lambda: F.cross_entropy(Tensor(ROWS), LABELS, [1, 2]),
            ValueError,
            "weight must be 3 finite numbers of at least 0, one per class, got [1, 2]",
        ),
        (lambda: F.cross_entropy(Tensor(ROWS), [0.0, 1, 2, 1]), TypeError, "labels must be integers, got float64"),
        (
            lambda: F.binary_cross_entropy_with_logits(Tensor(ROWS), LABELS),
            ValueError,
            "logits and targets must have the same shape, got (4, 3) and (4,)",
        ),
        (
            lambda: F.smooth_l1_loss(Tensor(ROWS), ROWS[0]),
            ValueError,
            "prediction and target must have the same shape, got (4, 3) and (3,)",
        ),
        (lambda: F.smooth_l1_loss(Tensor(ROWS), ROWS, 0), ValueError, "beta must be a number above 0, got 0"),
    ],
)
def test_error_messages(function, error, message):
    with pytest.raises(error, match=re.escape(message)):
        function()

"""Optimisers and schedules: values worked out by hand, and PyTorch's values after five steps."""

import math
import re

import numpy as np
import pytest

import rcnn
from rcnn.nn import Parameter
from rcnn.nn.optim import (
    SGD,
    Adam,
    Optimizer,
    clip_grad_norm,
    cosine,
    linear_warmup,
    multi_step,
    product,
    update_average,
)


def parameter(*values):
    return Parameter(np.array(values))


def steps(optimizer, grads):
    """Return the first parameter's value after each step."""
    values = []
    for grad in grads:
        optimizer.parameters[0].grad = np.array([grad])
        optimizer.step()
        values.append(optimizer.parameters[0].data.item())
    return values


# ---------------------------------------------------------------------- optimisers


@pytest.mark.parametrize(
    "settings, expected",
    [
        ({}, [0.9, 0.8]),  # 1 - 0.1 g
        ({"momentum": 0.9}, [0.9, 0.71]),  # velocity 1, then 0.9 + 1
        ({"weight_decay": 0.5}, [0.85, 0.7075]),  # gradient 1 + 0.5 * 1, then 1 + 0.5 * 0.85
        ({"momentum": 0.9, "weight_decay": 0.5}, [0.85, 0.5725]),  # velocity 1.5, then 1.35 + 1.425
    ],
)
def test_sgd_by_hand(settings, expected):
    assert steps(SGD([parameter(1.0)], lr=0.1, **settings), [1.0, 1.0]) == pytest.approx(expected, rel=1e-12)


def test_adam_by_hand():
    # With both betas 1/2: mean 2 and square 8, corrected 4 and 16; then 1 and 4, corrected 4/3 and 16/3.
    values = steps(Adam([parameter(1.0)], lr=0.1, betas=(0.5, 0.5), eps=0), [4.0, 0.0])
    assert values == pytest.approx([0.9, 0.9 - 0.1 / math.sqrt(3)], rel=1e-12)


def test_adams_first_step_has_the_length_of_the_learning_rate():
    for grad in (1e-3, -5.0, 1e4):
        (value,) = steps(Adam([parameter(1.0)], lr=0.01), [grad])
        assert value == pytest.approx(1 - math.copysign(0.01, grad), rel=1e-6)


# The values that PyTorch 2.13 computes from [1, -2] (float64) in five steps. Gradients: [cos(k), 0.1 k], k = 0 .. 4.
PYTORCH = [
    (SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}, [0.7597518428962, -2.1591675376872]),
    (Adam, {"lr": 0.1, "weight_decay": 0.1}, [0.7625001302476, -1.7514729418572]),
    (Adam, {"lr": 0.05, "betas": (0.8, 0.9), "eps": 1e-3}, [0.9136186119323, -2.1712063166733]),
]


@pytest.mark.parametrize("kind, settings, expected", PYTORCH)
def test_five_steps_match_pytorch(kind, settings, expected):
    moved = parameter(1.0, -2.0)
    optimizer = kind([moved], **settings)
    for k in range(5):
        moved.grad = np.array([math.cos(k), 0.1 * k])
        optimizer.step()
    np.testing.assert_allclose(moved.data, expected, rtol=1e-10)


KINDS = [
    lambda parameters: SGD(parameters, 0.1, momentum=0.9, weight_decay=0.01),
    lambda parameters: Adam(parameters, 0.1, weight_decay=0.01),
]


def train(optimizer, first, last):
    for step in range(first, last):
        for index, moved in enumerate(optimizer.parameters):
            moved.grad = np.random.default_rng([step, index]).normal(size=moved.shape).astype(moved.dtype)
        optimizer.step()


@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_run_is_bit_identical(kind):
    def fresh():
        return [Parameter(np.ones((3, 2), np.float32)), Parameter(np.ones((), np.float32))]

    whole = kind(fresh())
    train(whole, 0, 5)
    interrupted = kind(fresh())
    train(interrupted, 0, 3)
    resumed = kind([Parameter(moved.data.copy()) for moved in interrupted.parameters])
    state = interrupted.state_dict()
    resumed.load_state_dict(state)
    train(resumed, 3, 5)
    assert resumed.steps == 5
    for expected, found in zip(whole.parameters, resumed.parameters, strict=True):
        assert found.dtype == np.float32
        assert found.data.tobytes() == expected.data.tobytes()
    assert all(not np.shares_memory(array, state[name]) for name, array in resumed.state_dict().items())


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_move_in_place_and_only_with_a_gradient(kind):
    moved, still, frozen = parameter(1.0), parameter(1.0), Parameter(np.ones(1), requires_grad=False)
    array = moved.data
    optimizer = kind([moved, still, frozen])
    moved.grad, frozen.grad = np.ones(1), np.ones(1)
    optimizer.step()
    assert moved.data is array
    assert array[0] < 1
    assert (still.data[0], frozen.data[0]) == (1, 1)
    assert moved.grad.tolist() == [1]  # the gradient is unchanged
    optimizer.zero_grad()
    assert moved.grad is None


LARGE = 300_000  # numbers: several blocks of a kernel, and worth several threads


@pytest.mark.parametrize("shape", [(), (5, 3), (LARGE,)])
@pytest.mark.parametrize("kind", KINDS)
def test_steps_in_float32_and_float64_agree(impl, kind, shape):
    single, double = (Parameter(np.ones(shape, dtype)) for dtype in (np.float32, np.float64))
    for optimizer in (kind([single]), kind([double])):
        train(optimizer, 0, 3)
    assert single.dtype == np.float32
    np.testing.assert_allclose(single.data, double.data, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_parameter_of_any_layout_moves_in_place(impl, kind):
    plain = Parameter(np.ones((2, 3), np.float32))
    turned = Parameter(np.ones((3, 2), np.float32).T)
    for moved in (plain, turned):
        array = moved.data
        train(kind([moved]), 0, 2)
        assert moved.data is array
    np.testing.assert_allclose(turned.data, plain.data, rtol=1e-6)


@pytest.mark.parametrize("shape", [(), (0,), (5, 3), (LARGE,)])
def test_average_moves_towards_the_values(impl, shape):
    mean, values = np.full(shape, 2, np.float32), np.full(shape, 7, np.float32)
    update_average(mean, values, 0.2)
    np.testing.assert_allclose(mean, np.full(shape, 3), rtol=1e-6)
    turned = np.zeros((3, 2), np.float32).T
    update_average(turned, np.ones((2, 3), np.float32), 0.5)
    assert (turned == 0.5).all() and (values == 7).all()


@pytest.mark.parametrize("kind", KINDS)
def test_threads_do_not_change_a_bit(kind):
    found = []
    for threads in (1, 3):
        with rcnn.use_backend("cython"), rcnn.set_num_threads(threads):
            moved = Parameter(np.ones(LARGE, np.float32))
            train(kind([moved]), 0, 2)
            found.append((moved.data.tobytes(), clip_grad_norm([moved], 1.0), moved.grad.tobytes()))
    assert found[0] == found[1]


@pytest.mark.parametrize("kind", KINDS)
def test_a_gradient_of_another_shape_is_an_error(impl, kind):
    moved = Parameter(np.ones(3, np.float32))
    moved.grad = np.ones(4, np.float32)
    with pytest.raises(ValueError, match="shape"):
        kind([moved]).step()


def test_an_optimizer_defines_only_its_update():
    class Signs(Optimizer):
        def _update(self, values, grad, *state):
            values -= self.lr * np.sign(grad)

    moved = Parameter(np.array([1, 1], np.float32))
    moved.grad = np.array([5, -7], np.float32)
    Signs([moved], 0.5).step()
    assert moved.data.tolist() == [0.5, 1.5]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "grad",
    [np.array([1, 2]), np.array([1, 2], ">f4"), np.array([1.0, 2.0]), np.array([1, 9, 2], np.float32)[::2]],
    ids=["integers", "big-endian", "float64", "strided"],
)
def test_a_user_can_set_a_gradient_of_any_type(impl, kind, grad):
    plain, moved = (Parameter(np.ones(2, np.float32)) for _ in range(2))
    plain.grad, moved.grad = np.array([1, 2], np.float32), grad
    for one in (plain, moved):
        assert clip_grad_norm([one], 10.0) == pytest.approx(math.sqrt(5))
        kind([one]).step()
    np.testing.assert_allclose(moved.data, plain.data, rtol=1e-6)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: SGD([], 0.1), "pass parameters that are not frozen"),
        (lambda: Adam([Parameter([1.0], requires_grad=False)]), "no parameter requires a gradient"),
        (lambda: SGD([parameter(1.0)], -0.1), "lr must be a number of at least 0, got -0.1"),
        (lambda: Adam([parameter(1.0)], weight_decay=-1), "weight_decay must be a number of at least 0, got -1"),
        (
            lambda: SGD([parameter(1.0)], 0.1).load_state_dict(Adam([parameter(1.0)]).state_dict()),
            "do not fit this SGD: mean.0, momentum.0, square.0",
        ),
        (
            lambda: SGD([parameter(1.0)], 0.1).load_state_dict(SGD([parameter(1.0, 2.0)], 0.1).state_dict()),
            "do not fit this SGD: momentum.0",
        ),
        (
            lambda: SGD([parameter(1.0)], 0.1).load_state_dict(SGD([parameter(1.0)] * 2, 0.1).state_dict()),
            "do not fit this SGD: momentum.1",
        ),
    ],
)
def test_error_messages(make, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make()


# ---------------------------------------------------------------------- clipping


def test_gradients_are_clipped_by_their_joint_norm(impl):
    parameters = [parameter(0.0, 0.0), Parameter(np.float32(0)), parameter(0.0)]
    parameters[0].grad, parameters[1].grad = np.array([0.0, 3.0]), np.array(4, np.float32)
    assert clip_grad_norm(parameters, max_norm=1) == 5
    assert parameters[0].grad == pytest.approx([0, 0.6])
    assert parameters[1].grad == pytest.approx(0.8)
    assert parameters[1].grad.dtype == np.float32
    assert parameters[2].grad is None
    assert clip_grad_norm(parameters, max_norm=1) == pytest.approx(1)
    before = parameters[0].grad.copy()
    assert clip_grad_norm(parameters, max_norm=2) == pytest.approx(1)
    assert np.array_equal(parameters[0].grad, before)  # a small gradient is not scaled up


def test_the_norm_of_many_numbers_is_accurate(impl):
    moved = Parameter(np.zeros(LARGE, np.float32))
    moved.grad = np.random.default_rng(0).standard_normal(LARGE, np.float32) * np.float32(1e-3)
    moved.grad[0] = 1e3  # so large that the other squares vanish in float32
    exact = np.linalg.norm(moved.grad.astype(np.float64))
    assert clip_grad_norm([moved], 1.0) == pytest.approx(exact, rel=1e-14)
    assert np.linalg.norm(moved.grad.astype(np.float64)) == pytest.approx(1, rel=1e-6)


def test_a_scalar_parameters_gradient_is_clipped_too():
    scalar = Parameter(np.float32(3))
    (scalar * scalar).backward()
    assert clip_grad_norm([scalar], max_norm=1.5) == 6
    assert scalar.grad == 1.5


def test_without_gradients_the_norm_is_0():
    assert clip_grad_norm([parameter(1.0)], max_norm=1) == 0


# ---------------------------------------------------------------------- schedules

HALF = math.sqrt(0.5)


@pytest.mark.parametrize(
    "schedule, expected",
    [
        (linear_warmup(4, start=0), [0, 0.25, 0.5, 0.75, 1, 1, 1]),
        (linear_warmup(2, start=0.5), [0.5, 0.75, 1, 1]),
        (linear_warmup(0), [1, 1]),
        (multi_step([2, 4]), [1, 1, 0.1, 0.1, 0.01, 0.01]),
        (multi_step([1], gamma=0.5), [1, 0.5, 0.5]),
        (multi_step([]), [1, 1]),
        (cosine(4), [1, (1 + HALF) / 2, 0.5, (1 - HALF) / 2, 0, 0, 0]),
        (cosine(2, end=0.2), [1, 0.6, 0.2, 0.2]),
        (product(linear_warmup(2, start=0), multi_step([3])), [0, 0.5, 1, 0.1]),
        (product(), [1, 1]),
    ],
)
def test_schedules(schedule, expected):
    assert [schedule(step) for step in range(len(expected))] == pytest.approx(expected, abs=1e-15)

"""Modules: their parts, state and modes, the initialisation of layers, and their results."""

import copy
import math
import pickle
import re
from functools import partial

import numpy as np
import pytest

import rcnn
from rcnn import nn
from rcnn.nn import functional as F
from rcnn.nn.layers import kaiming_uniform, normal, same_conv2d, without_drawing
from rcnn.nn.random import drawing_from, generator


class Tree(nn.Module):
    """Parts and parameters in attributes, lists, tuples and dicts."""

    def __init__(self):
        self.name = "a tree"
        self.numbers = [1, 2, (3, {"four": 4})]
        self.weight = nn.Parameter(np.zeros(1))
        self.first = nn.Linear(2, 3)
        self.listed = [nn.ReLU(), nn.Linear(3, 2, bias=False)]
        self.nested = {"a": (nn.Linear(2, 2), [nn.Linear(2, 1)]), "b": nn.Dropout(0.5)}
        self.scales = [nn.Parameter(np.ones(1)), {"last": nn.Parameter(np.ones(2))}]
        self.absent = None
        self.register_buffer("offset", np.zeros(3))
        self.bias = nn.Parameter(np.zeros(1))


NAMES = [
    "weight",
    "scales.0",
    "scales.1.last",
    "bias",
    "offset",
    "first.weight",
    "first.bias",
    "listed.1.weight",
    "nested.a.0.weight",
    "nested.a.0.bias",
    "nested.a.1.0.weight",
    "nested.a.1.0.bias",
]


class Plain(nn.Module):
    def __init__(self):
        self.conv = nn.Conv2d(2, 3, 1)

    def forward(self, x):
        return self.conv(x)


class CallsSuper(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 1)

    def forward(self, x):
        return self.conv(x)


class Shared(nn.Module):
    def __init__(self):
        self.one = nn.Linear(2, 2)
        self.other = self.one
        self.tied = self.one.weight


# ---------------------------------------------------------------------- parts of a module


def test_names_include_parts_in_attributes_lists_tuples_and_dicts():
    tree = Tree()
    assert list(tree.state_dict()) == NAMES
    assert [name for name, _ in tree.named_parameters()] == [name for name in NAMES if name != "offset"]
    assert [name for name, _ in tree.named_parameters("model.")][:2] == ["model.weight", "model.scales.0"]
    assert [parameter for _, parameter in tree.named_parameters()] == list(tree.parameters())
    tree.nested["b"] = nn.BatchNorm2d(2)
    assert [name for name, _ in tree.named_buffers()] == ["offset", "nested.b.running_mean", "nested.b.running_var"]
    assert all(buffer is tree.state_dict()[name] for name, buffer in tree.named_buffers())
    assert all(isinstance(parameter, nn.Parameter) for parameter in tree.parameters())


def test_children_and_modules():
    tree = Tree()
    assert [name for name, _ in tree.children()] == [
        "first",
        "listed.0",
        "listed.1",
        "nested.a.0",
        "nested.a.1.0",
        "nested.b",
    ]
    assert list(tree.modules()) == [tree, *(child for _, child in tree.children())]


@pytest.mark.parametrize("kind", [Plain, CallsSuper])
def test_a_users_module_works_with_and_without_super_init(kind):
    module = kind()
    assert list(module.state_dict()) == ["conv.weight", "conv.bias"]
    assert module.training
    assert module(nn.Tensor(np.zeros((1, 2, 4, 4)))).shape == (1, 3, 4, 4)
    module.register_buffer("mean", np.zeros(2))
    assert list(module.state_dict()) == ["mean", "conv.weight", "conv.bias"]


def test_shared_parameters_are_listed_once():
    shared = Shared()
    assert [name for name, _ in shared.named_parameters()] == ["tied", "one.bias"]
    assert set(shared.state_dict()) == {"tied", "one.weight", "one.bias", "other.weight", "other.bias"}


def test_a_replaced_or_deleted_part_is_gone():
    module = CallsSuper()
    module.conv = nn.Linear(2, 2)
    assert module.state_dict()["conv.weight"].shape == (2, 2)
    del module.conv
    assert module.state_dict() == {}


def test_forward_must_be_defined():
    with pytest.raises(NotImplementedError, match="Tree does not define forward"):
        Tree()(1)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
def test_a_copy_is_independent_of_the_original(duplicate):
    module = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    twin = duplicate(module)
    for name, array in twin.state_dict().items():
        assert np.array_equal(array, module.state_dict()[name])
        array += 1
        assert not np.array_equal(array, module.state_dict()[name])


# ---------------------------------------------------------------------- state


def test_the_state_of_one_module_can_be_loaded_into_another():
    source, target = (nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)) for _ in range(2))
    source[1].running_mean[...] = 5
    weight = target[0].weight.data
    assert target.load_state_dict(source.state_dict()) == ([], [])
    assert list(target.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var"]
    for name, array in target.state_dict().items():
        assert np.array_equal(array, source.state_dict()[name])
        assert not np.shares_memory(array, source.state_dict()[name])
    assert target[0].weight.data is weight  # in place, so that an optimiser keeps its parameters


def test_loading_converts_to_the_dtype_of_the_module():
    linear = nn.Linear(2, 1)
    linear.load_state_dict({"weight": np.array([[1, 2]]), "bias": np.array([0.5])})
    assert linear.weight.dtype == np.float32
    assert linear.weight.data.tolist() == [[1, 2]]


def test_a_wrong_state_is_an_error_that_lists_everything_and_changes_nothing():
    linear = nn.Linear(2, 1)
    before = linear.weight.data.copy()
    with pytest.raises(ValueError) as error:
        linear.load_state_dict({"weight": np.ones((1, 2)), "scale": np.ones(1), "shift": np.ones(1)})
    assert str(error.value) == "the state does not fit Linear. missing: bias. unexpected: scale, shift"
    with pytest.raises(
        ValueError, match=re.escape("wrong shape: bias has shape (3,) in the state, but (1,) in the model")
    ):
        linear.load_state_dict({"weight": np.ones((1, 2)), "bias": np.ones(3)}, strict=False)
    assert np.array_equal(linear.weight.data, before)


def test_loading_without_strict_reports_missing_and_unexpected_names():
    linear = nn.Linear(2, 1)
    bias = linear.bias.data.copy()
    found = linear.load_state_dict({"weight": np.ones((1, 2)), "scale": np.ones(1)}, strict=False)
    assert found == (["bias"], ["scale"])
    assert linear.weight.data.tolist() == [[1, 1]]
    assert np.array_equal(linear.bias.data, bias)


def test_buffers_are_saved_but_not_trained():
    norm = nn.BatchNorm2d(2)
    assert [name for name, _ in norm.named_parameters()] == ["weight", "bias"]
    norm.register_buffer("running_mean", np.full(2, 3.0, np.float32))  # again: replaces it
    assert list(norm.state_dict()) == ["weight", "bias", "running_mean", "running_var"]
    norm.running_mean = np.full(2, 4.0, np.float32)
    assert norm.state_dict()["running_mean"].tolist() == [4, 4]


def test_astype_converts_floating_point_arrays():
    tree = Tree()
    tree.register_buffer("count", np.zeros(1, np.int64))
    tree.norm = nn.BatchNorm2d(2)
    next(tree.parameters()).grad = np.ones(1)
    for dtype in (np.float64, np.float32):
        assert tree.astype(dtype) is tree
        state = tree.state_dict()
        assert state.pop("count").dtype == np.int64
        assert {array.dtype for array in state.values()} == {np.dtype(dtype)}
    assert all(parameter.grad is None for parameter in tree.parameters())
    assert all(parameter.requires_grad for parameter in tree.parameters())


# ---------------------------------------------------------------------- modes


def test_train_and_eval_reach_every_module():
    tree = Tree()
    assert all(module.training for module in tree.modules())
    assert tree.eval() is tree
    assert not any(module.training for module in tree.modules())
    assert tree.train() is tree
    assert all(module.training for module in tree.modules())
    assert nn.Module.training  # of the class, untouched


def test_requires_grad_and_zero_grad_reach_every_parameter():
    tree = Tree()
    for parameter in tree.parameters():
        parameter.grad = np.ones(parameter.shape)
    tree.zero_grad()
    assert all(parameter.grad is None for parameter in tree.parameters())
    assert tree.requires_grad_(False) is tree
    assert not any(parameter.requires_grad for parameter in tree.parameters())
    assert not tree.first(nn.Tensor(np.ones((1, 2)))).requires_grad
    assert all(parameter.requires_grad for parameter in tree.requires_grad_().parameters())


# ---------------------------------------------------------------------- initialisation


@pytest.mark.parametrize(
    "layer, fan_in",
    [
        (lambda: nn.Conv2d(64, 64, 3), 576),
        (lambda: nn.Conv2d(64, 256, (1, 5), groups=4), 80),
        (lambda: nn.Linear(100, 500), 100),
    ],
)
def test_layers_are_initialised_as_in_pytorch(layer, fan_in):
    rcnn.seed(0)
    made = layer()
    bound = 1 / math.sqrt(fan_in)
    assert_uniform(made.weight.data, bound)
    assert made.bias.dtype == np.float32
    assert np.abs(made.bias.data).max() <= bound
    assert np.abs(made.bias.data).max() > 0.9 * bound


def test_kaiming_uniform_with_a_equal_to_1():
    assert_uniform(kaiming_uniform((64, 32, 3, 3), a=1, rng=np.random.default_rng(0)), math.sqrt(3 / 288))


def test_normal():
    drawn = normal((200, 100), std=0.01, rng=np.random.default_rng(0))
    assert drawn.dtype == np.float32
    assert drawn.std() == pytest.approx(0.01, rel=0.03)
    assert abs(drawn.mean()) < 5 * 0.01 / math.sqrt(drawn.size)
    assert np.mean(np.abs(drawn) > 0.02) == pytest.approx(0.0455, abs=0.01)  # beyond two deviations


def assert_uniform(values, bound):
    assert values.dtype == np.float32
    assert 0.999 * bound < np.abs(values).max() <= np.float32(bound)
    assert values.std() == pytest.approx(bound / math.sqrt(3), rel=0.03)
    assert abs(values.mean()) < 5 * bound / math.sqrt(3 * values.size)


def test_the_seed_determines_the_initialisation():
    states = []
    for seed in (0, 0, 1):
        rcnn.seed(seed)
        states.append(nn.Sequential(nn.Conv2d(2, 3, 3), nn.Linear(4, 5)).state_dict())
    assert all(np.array_equal(states[0][name], states[1][name]) for name in states[0])
    assert not any(np.array_equal(states[0][name], states[2][name]) for name in states[0])


def test_norms_are_initialised_as_the_identity():
    x = nn.Tensor(np.random.default_rng(0).normal(size=(2, 3, 4, 4)).astype(np.float32))
    for norm in (nn.BatchNorm2d(3, eps=0).eval(), nn.FrozenBatchNorm2d(3, eps=0)):
        np.testing.assert_array_equal(norm(x).data, x.data)


# ---------------------------------------------------------------------- forward passes

MAPS = np.random.default_rng(0).normal(size=(2, 4, 6, 8)).astype(np.float32)


@pytest.mark.parametrize(
    "layer, function",
    [
        (
            nn.Conv2d(4, 6, (3, 2), (1, 2), 1, 1, 2),
            lambda x, layer: F.conv2d(x, layer.weight, layer.bias, (1, 2), 1, 1, 2),
        ),
        (
            nn.Conv2d(4, 6, 3, padding=2, dilation=2, bias=False),
            lambda x, layer: F.conv2d(x, layer.weight, None, 1, 2, 2),
        ),
        (nn.ReLU(), lambda x, layer: F.relu(x)),
        (nn.ReLU(inplace=True), lambda x, layer: F.relu(x)),
        (nn.LeakyReLU(0.2), lambda x, layer: F.leaky_relu(x, 0.2)),
        (nn.Sigmoid(), lambda x, layer: F.sigmoid(x)),
        (nn.ReLU6(), lambda x, layer: F.relu6(x)),
        (nn.ReLU6(inplace=True), lambda x, layer: F.relu6(x)),
        (nn.Hardswish(), lambda x, layer: F.hardswish(x)),
        (nn.Hardswish(inplace=True), lambda x, layer: F.hardswish(x)),
        (nn.Hardsigmoid(), lambda x, layer: F.hardsigmoid(x)),
        (nn.Hardsigmoid(inplace=True), lambda x, layer: F.hardsigmoid(x)),
        (nn.MaxPool2d(3, 2, 1), lambda x, layer: F.max_pool2d(x, 3, 2, 1)),
        (nn.MaxPool2d(2), lambda x, layer: F.max_pool2d(x, 2)),
        (nn.AvgPool2d(3, 2, 1), lambda x, layer: F.avg_pool2d(x, 3, 2, 1)),
        (nn.AdaptiveAvgPool2d((2, 3)), lambda x, layer: F.adaptive_avg_pool2d(x, (2, 3))),
        (nn.Upsample(2), lambda x, layer: F.interpolate(x, (12, 16), "nearest")),
        (nn.Upsample(3, "bilinear"), lambda x, layer: F.interpolate(x, (18, 24), "bilinear")),
        (nn.Flatten(), lambda x, layer: x.reshape(2, -1)),
        (nn.Identity(), lambda x, layer: x),
        (
            nn.Sequential(nn.Flatten(), nn.Linear(192, 3)),
            lambda x, layer: F.linear(x.reshape(2, -1), layer[1].weight, layer[1].bias),
        ),
        (nn.Sequential(), lambda x, layer: x),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_a_layer_computes_its_function(layer, function):
    x = nn.Tensor(MAPS)
    out = layer(x)
    assert out.dtype == np.float32
    np.testing.assert_array_equal(out.data, function(x, layer).data)


def test_every_layer_is_exported():
    layers = {
        name for name, value in vars(nn.layers).items() if isinstance(value, type) and issubclass(value, nn.Module)
    }
    assert layers <= set(nn.__all__)
    assert all(hasattr(nn, name) for name in nn.__all__)


def test_batch_norm_follows_its_mode():
    norm, x = nn.BatchNorm2d(4, momentum=0.5), nn.Tensor(MAPS)
    out = norm(x).data
    mean, var = MAPS.mean((0, 2, 3)), MAPS.var((0, 2, 3), ddof=1)
    np.testing.assert_allclose(out.mean((0, 2, 3)), 0, atol=1e-6)
    np.testing.assert_allclose(norm.running_mean, mean / 2, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(norm.running_var, (1 + var) / 2, rtol=1e-5)
    before = norm.running_mean.copy()
    out = norm.eval()(x).data
    assert np.array_equal(norm.running_mean, before)
    expected = (MAPS - before[:, None, None]) / np.sqrt(norm.running_var[:, None, None] + 1e-5)
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-6)


def test_frozen_batch_norm_by_hand():
    norm = nn.FrozenBatchNorm2d(1, eps=1.0)
    norm.load_state_dict({"weight": [6.0], "bias": [1.0], "running_mean": [2.0], "running_var": [8.0]})
    x = nn.Tensor(np.array([2.0, 5.0], np.float32).reshape(1, 1, 1, 2), requires_grad=True)
    for out in (norm(x), norm.eval()(x)):  # the mode changes nothing
        assert out.dtype == np.float32
        assert out.data.ravel().tolist() == [1, 7]
    out.sum().backward()
    assert x.grad.ravel().tolist() == [2, 2]
    assert list(norm.parameters()) == []


def test_squeeze_and_excitation_by_hand():
    block = nn.SqueezeExcitation(2, 1, nn.Hardswish, nn.Hardsigmoid).astype(np.float64)
    weights = {"fc1.weight": np.full((1, 2, 1, 1), 0.5), "fc2.weight": np.reshape([1.0, -9.0], (2, 1, 1, 1))}
    block.load_state_dict({**weights, "fc1.bias": [1.0], "fc2.bias": [-4.0, 30.0]})
    x = np.array([[1.0, 3.0], [5.0, 7.0]]).reshape(1, 2, 1, 2)  # means 2 and 6, fc1 5, hard swish 5, fc2 1 and -15
    out = block(nn.Tensor(x))
    np.testing.assert_allclose(out.data.ravel(), [4 / 6, 2, 0, 0])  # hard sigmoid of 1 is 4 / 6
    assert [name for name, _ in block.named_parameters()] == ["fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"]


def test_dropout_follows_its_mode_and_its_rng():
    dropout, x = nn.Dropout(0.25), nn.Tensor(MAPS)
    drawn = []
    for seed in (0, 0, 1):
        with drawing_from(np.random.default_rng(seed)):
            drawn.append(dropout(x).data)
    first, again, other = drawn
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert np.mean(first == 0) == pytest.approx(0.25, abs=0.1)
    assert dropout.eval()(x) is x


def test_sequential_behaves_like_a_list():
    parts = [nn.ReLU(), nn.Flatten(), nn.Identity()]
    sequence = nn.Sequential(*parts)
    assert len(sequence) == 3
    assert list(sequence) == parts
    assert sequence[-1] is parts[-1]
    assert sequence[1:] == parts[1:]


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: nn.Conv2d(4, 6, 3, groups=4), "groups=4 must divide in_channels=4 and out_channels=6"),
        (lambda: nn.Conv2d(4, 6, 3, groups=0), "groups must be an integer of at least 1"),
        (
            lambda: nn.Conv2d(4, 6, 0),
            "kernel_size must be one or two whole numbers of at least 1 and at most 4096, got 0",
        ),
        (lambda: nn.Dropout(1), "p must be a number in [0, 1), got 1"),
        (
            lambda: nn.Linear(3, 2)(nn.Tensor(np.ones((1, 4)))),
            "linear: x must have shape (N, 3) for weight (2, 3), got (1, 4)",
        ),
    ],
)
def test_error_messages(make, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make()


@pytest.mark.parametrize("norm", [nn.BatchNorm2d, nn.FrozenBatchNorm2d])
def test_pytorchs_batch_counter_is_ignored(norm):
    model = nn.Sequential(nn.Conv2d(3, 4, 1), norm(4))
    state = {name: array + 1 for name, array in model.state_dict().items()}
    assert model.load_state_dict(state) == ([], [])
    assert model.load_state_dict({**state, "1.num_batches_tracked": np.array(5)}) == ([], [])
    with pytest.raises(ValueError, match="unexpected: 0.num_batches_tracked"):
        model.load_state_dict({**state, "0.num_batches_tracked": np.array(5)})


# ---------------------------------------------------------------------- placeholders


def test_without_drawing_makes_placeholders_that_take_no_memory():
    before = generator().bit_generator.state
    with without_drawing():
        layers = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Linear(8, 4), same_conv2d(2, 3, 3, partial(normal, std=1.0)))
    assert generator().bit_generator.state == before
    for array in layers.state_dict().values():
        assert not array.any() and (not array.flags.writeable or array.base is None)
    assert layers[0].weight.data.strides == (0, 0, 0, 0)
    with pytest.raises(ValueError, match="read-only"):
        layers.load_state_dict(layers.state_dict())
    drawn = nn.Conv2d(3, 8, 3)
    assert layers[0].load_state_dict(drawn.state_dict(), assign=True) == ([], [])
    np.testing.assert_array_equal(layers[0].weight.data, drawn.weight.data)

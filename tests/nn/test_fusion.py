"""Layers that are fused into one pass: results, gradients and statistics equal those of separate layers."""

import copy
import itertools
import pickle

import numpy as np
import pytest

from rcnn import nn
from rcnn.backbones import resnet
from rcnn.nn import Tensor, fused, no_grad
from rcnn.nn import functional as F
from rcnn.nn.fusion import Deferred

RNG = np.random.default_rng(0)
MAPS = RNG.normal(size=(2, 5, 6, 7))
REST = RNG.normal(size=(2, 8, 6, 7))


def norm_layer(kind):
    """Return a norm layer of 8 channels with random parameters, or None."""
    if kind == "none":
        return None
    norm = (nn.FrozenBatchNorm2d if kind == "frozen" else nn.BatchNorm2d)(8).astype(np.float64)
    rng = np.random.default_rng(1)
    for name, array in norm.state_dict().items():
        array[...] = rng.uniform(0.5, 2, array.shape) if "var" in name else rng.normal(size=array.shape)
    return norm.train() if kind == "training" else norm.eval()


def layers(kind, bias):
    """Return (convolution, norm) with the same parameters every time."""
    conv = nn.Conv2d(5, 8, 3, padding=1, bias=bias).astype(np.float64)
    rng = np.random.default_rng(2)
    for parameter in conv.parameters():
        parameter.data[...] = rng.normal(size=parameter.shape)
    return conv, norm_layer(kind)


def one_by_one(x, conv, norm, residual, relu):
    x = conv(x)
    x = x if norm is None else norm(x)
    x = x if residual is None else x + residual
    return x if relu is None else relu(x)


def step(function, kind, bias, with_residual, with_relu):
    """Return the results of a forward and a backward pass: the output, all gradients, the norm's state."""
    conv, norm = layers(kind, bias)
    x, residual = Tensor(MAPS, requires_grad=True), Tensor(REST, requires_grad=True) if with_residual else None
    out = function(x, conv, norm, residual, nn.ReLU() if with_relu else None)
    out.backward(np.cos(np.arange(out.size)).reshape(out.shape))
    learned = [*conv.parameters(), *([] if norm is None else norm.parameters()), x, *([residual] if residual else [])]
    return [out.data, *(one.grad for one in learned), *([] if norm is None else norm.state_dict().values())]


@pytest.mark.parametrize("kind", ["none", "frozen", "training", "evaluation"])
@pytest.mark.parametrize(("bias", "residual", "relu"), list(itertools.product((False, True), repeat=3)))
def test_fused_and_separate_layers_give_the_same_result(impl, kind, bias, residual, relu):
    at_once, in_turn = (step(function, kind, bias, residual, relu) for function in (fused(one_by_one), one_by_one))
    assert len(at_once) == len(in_turn)
    for got, expected in zip(at_once, in_turn, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-11)


@pytest.mark.parametrize("kind", ["none", "frozen", "training", "evaluation"])
def test_fused_and_separate_layers_give_the_same_result_without_gradients(impl, kind):
    found = []
    for function in (fused(one_by_one), one_by_one):
        conv, norm = layers(kind, bias=False)
        with no_grad():
            found.append(function(Tensor(MAPS), conv, norm, Tensor(REST), nn.ReLU()).data)
    np.testing.assert_allclose(*found, rtol=1e-12, atol=1e-12)


def test_a_sequential_applies_its_modules_in_order():
    conv, norm = layers("frozen", bias=False)
    last = nn.Conv2d(8, 3, 1).astype(np.float64)
    net = nn.Sequential(nn.Sequential(conv, norm, nn.ReLU()), nn.MaxPool2d(2), nn.ReLU(), last)
    expected = last(nn.ReLU()(nn.MaxPool2d(2)(nn.ReLU()(norm(conv(Tensor(MAPS)))))))
    np.testing.assert_allclose(net(Tensor(MAPS)).data, expected.data, rtol=1e-12, atol=1e-12)


# ---------------------------------------------------------------------- deferred results


@pytest.fixture
def passes(monkeypatch):
    """Record the steps fused into each pass of a convolution, in the order of the passes."""
    seen, compute = [], nn.conv.Convolution.compute

    def spy(self):
        names = ("scale", "residual", self.activation)
        values = (self.scale is not None, self.residual is not None, self.activation)
        seen.append(" ".join(name for name, value in zip(names, values, strict=True) if value))
        return compute(self)

    monkeypatch.setattr(nn.conv.Convolution, "compute", spy)
    return seen


def block():
    return resnet.Bottleneck(16, 4, 1, nn.FrozenBatchNorm2d)


X = Tensor(np.random.default_rng(3).normal(size=(1, 16, 5, 6)).astype(np.float32))


def test_a_block_takes_one_pass_per_convolution(passes):
    block()(X)
    assert passes == ["scale relu", "scale relu", "scale residual relu"]


@pytest.mark.parametrize(("activation", "name"), [(nn.ReLU6, "relu6"), (nn.Hardswish, "hardswish")])
def test_other_activations_are_fused_if_no_gradient_is_recorded(passes, activation, name):
    net = nn.Sequential(*layers("evaluation", bias=False), activation())
    with no_grad():
        at_once = net(Tensor(MAPS)).data
    assert passes == [f"scale {name}"]
    np.testing.assert_allclose(net(Tensor(MAPS)).data, at_once, rtol=1e-12, atol=1e-12)
    net[0].requires_grad_(False)
    net[1].requires_grad_(False)
    frozen = nn.Sequential(net[0], norm_layer("frozen"), activation())
    passes.clear()
    frozen(Tensor(MAPS))
    frozen(Tensor(MAPS, requires_grad=True))
    assert passes == [f"scale {name}", "scale"]


@pytest.mark.parametrize("images", [1, 2])
def test_factors_of_channels_are_fused_into_the_filters_of_the_next_convolution(impl, passes, images):
    block = nn.SqueezeExcitation(5, 3).astype(np.float64)
    conv, norm = layers("frozen", bias=False)
    net = nn.Sequential(block, conv, norm, nn.ReLU())
    x = Tensor(MAPS[:images])
    expected = net(x).data
    passes.clear()
    seen = []
    with no_grad():
        np.testing.assert_allclose(net(x).data, expected, rtol=1e-12, atol=1e-12)
        assert passes == ["relu", "", "scale relu"]
        net[0].register_forward_hook(lambda module, args, result: seen.append(result.data))
        net(x)
    np.testing.assert_allclose(seen[0], block(x).data, rtol=1e-12)


def test_hooks_get_the_value_of_each_layer_and_leave_the_result_bit_identical(passes):
    network, outputs = block(), {}
    expected = network(X).data
    for name in ("conv1", "bn1", "conv3"):
        module = getattr(network, name)
        module.register_forward_hook(lambda m, args, result, name=name: outputs.update({name: (args[0], result)}))
    passes.clear()
    np.testing.assert_array_equal(network(X).data, expected)
    assert passes == ["", "scale", "scale relu", "scale relu", "", "scale residual relu"]
    (x, convolved), (given, normed) = outputs["conv1"], outputs["bn1"]
    np.testing.assert_array_equal(x.data, X.data)
    np.testing.assert_array_equal(convolved.data, F.conv2d(X, network.conv1.weight).data)
    np.testing.assert_array_equal(given.data, convolved.data)
    scale = network.bn1.weight / np.sqrt(network.bn1.running_var + np.float32(network.bn1.eps))
    np.testing.assert_allclose(normed.data, convolved.data * scale[:, None, None], rtol=1e-5, atol=1e-6)


def test_nothing_is_deferred_outside_or_after_a_fused_function(passes):
    conv, _ = layers("none", bias=True)
    x = Tensor(MAPS)
    assert not isinstance(conv(x), Deferred) and passes == [""]
    results = fused(lambda: {"one": conv(x), "more": [conv(x), (conv(x), "text")], "none": None})()
    one, (second, (third, text)) = results["one"], results["more"]
    assert not any(isinstance(tensor, Deferred) for tensor in (one, second, third)) and text == "text"
    assert len(passes) == 4


def test_the_inner_of_two_fused_functions_defers_to_the_outer(passes):
    conv, _ = layers("none", bias=True)
    inner = fused(lambda: conv(Tensor(MAPS)))
    fused(lambda: F.relu(inner()))()
    assert passes == ["relu"]


def test_a_value_read_between_layers_is_the_layers_own(passes):
    conv, norm = layers("frozen", bias=False)

    @fused
    def forward(x):
        out = conv(x)
        return F.relu(norm(out)), out.data.mean(), out * 2.0

    activated, mean, doubled = forward(Tensor(MAPS))
    plain = conv(Tensor(MAPS)).data
    np.testing.assert_allclose(activated.data, np.maximum(norm(Tensor(plain)).data, 0), rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(doubled.data, plain * 2)
    assert mean == plain.mean()
    assert passes == ["scale relu", "", ""]  # the last is of the comparison


def test_gradients_flow_through_a_value_that_is_read_twice():
    """In relu(conv(x)) + conv(x), the ReLU is fused into one convolution, and the other one is computed separately."""
    conv, _ = layers("none", bias=True)

    def forward(x):
        out = conv(x)
        return F.relu(out) + out

    gradients = []
    for function in (fused(forward), forward):
        x = Tensor(MAPS, requires_grad=True)
        function(x).sum().backward()
        gradients.append(x.grad)
    np.testing.assert_allclose(*gradients, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("where", ["outside", "inside"])
def test_no_grad_counts_when_a_layer_is_called_and_not_when_its_value_is_read(where):
    """A value that is only read under no_grad keeps its gradient; a value that is computed there gets none."""
    conv, _ = layers("none", bias=True)

    @fused
    def forward(x):
        if where == "outside":
            out = conv(x)
            with no_grad():
                out.data.mean()
        else:
            with no_grad():
                out = conv(x)
        return F.relu(out)

    out = forward(Tensor(MAPS, requires_grad=True))
    assert out.requires_grad == (where == "outside")
    if out.requires_grad:
        out.sum().backward()
        assert conv.weight.grad is not None


def test_a_deferred_value_is_read_only():
    conv, _ = layers("none", bias=True)

    @fused
    def forward(x):
        out = conv(x)
        out.data[:] = 0
        return out

    with pytest.raises(ValueError, match="read-only"):
        forward(Tensor(MAPS))


def test_a_value_that_is_still_referenced_is_computed_at_the_end_of_the_block():
    conv, _ = layers("none", bias=True)
    kept = []

    @fused
    def forward(x):
        kept.append(conv(x))
        return F.relu(kept[0])

    wanted = forward(Tensor(MAPS)).data
    conv.weight.data[...] = 0
    np.testing.assert_array_equal(np.maximum(kept[0].data, 0), wanted)
    twin = pickle.loads(pickle.dumps(copy.deepcopy(kept[0])))
    assert not isinstance(twin, Deferred)
    np.testing.assert_array_equal(twin.data, kept[0].data)


def test_channels_are_checked_as_in_separate_layers():
    network = nn.Sequential(nn.Conv2d(5, 8, 3, bias=False), nn.FrozenBatchNorm2d(2))
    with pytest.raises(ValueError, match=r"scale and shift must have shape \(8,\), got \(2,\) and \(2,\)"):
        network(Tensor(MAPS.astype(np.float32)))


def test_an_error_leaves_nothing_deferred():
    conv, _ = layers("none", bias=True)

    @fused
    def broken():
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        broken()
    assert not isinstance(conv(Tensor(MAPS)), Deferred)


# ---------------------------------------------------------------------- custom layers


class Doubled(nn.Conv2d):
    """A custom convolution."""

    def forward(self, x):
        return super().forward(x) * 2.0


class Above(nn.ReLU):
    """A custom activation."""

    def forward(self, x):
        return super().forward(x) + 1.0


class Halved(nn.FrozenBatchNorm2d):
    """A custom norm."""

    def forward(self, x):
        return super().forward(x) * 0.5


@pytest.mark.parametrize("layer", ["conv", "norm", "relu"])
@pytest.mark.parametrize("change", ["subclass", "replaced forward"])
def test_a_changed_layer_is_called(layer, change):
    plain = {"conv": nn.Conv2d(5, 8, 3, padding=1, bias=False), "norm": nn.FrozenBatchNorm2d(8), "relu": nn.ReLU()}
    if change == "subclass":
        changed = {"conv": Doubled(5, 8, 3, padding=1, bias=False), "norm": Halved(8), "relu": Above()}[layer]
        changed.load_state_dict(plain[layer].state_dict())
    else:
        changed = type(plain[layer])(*{"conv": (5, 8, 3, 1, 1), "norm": (8,), "relu": ()}[layer])
        changed.forward = lambda x: Tensor(np.full((2, 8, 6, 7), 3.0, np.float32))
    modules = {**plain, layer: changed}
    x = Tensor(MAPS.astype(np.float32))
    expected = modules["relu"].forward(modules["norm"].forward(modules["conv"].forward(x))).data
    for net in (nn.Sequential(*modules.values()), nn.Sequential(nn.Sequential(*modules.values()))):
        with no_grad():
            np.testing.assert_allclose(net(x).data, expected, rtol=1e-5, atol=1e-5)
    unchanged = plain["relu"](plain["norm"](plain["conv"](x))).data
    assert np.abs(expected - unchanged).max() > 0.1

"""Layers that are computed in one pass give what they give one after the other, gradients and statistics included."""

import itertools

import numpy as np
import pytest

from rcnn import nn
from rcnn.nn import Tensor, no_grad
from rcnn.nn.layers import conv_norm_relu

RNG = np.random.default_rng(0)
MAPS = RNG.normal(size=(2, 5, 6, 7))
REST = RNG.normal(size=(2, 8, 6, 7))


def norm_layer(kind):
    """A norm of 8 channels with numbers of its own, or None."""
    if kind == "none":
        return None
    norm = (nn.FrozenBatchNorm2d if kind == "frozen" else nn.BatchNorm2d)(8).astype(np.float64)
    rng = np.random.default_rng(1)
    for name, array in norm.state_dict().items():
        array[...] = rng.uniform(0.5, 2, array.shape) if "var" in name else rng.normal(size=array.shape)
    return norm.train() if kind == "training" else norm.eval()


def layers(kind, bias):
    """(convolution, norm) of the same numbers every time."""
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
    """What a forward and a backward pass give and leave: the result, all gradients, the norm's state."""
    conv, norm = layers(kind, bias)
    x, residual = Tensor(MAPS, requires_grad=True), Tensor(REST, requires_grad=True) if with_residual else None
    out = function(x, conv, norm, residual, nn.ReLU() if with_relu else None)
    out.backward(np.cos(np.arange(out.size)).reshape(out.shape))
    learned = [*conv.parameters(), *([] if norm is None else norm.parameters()), x, *([residual] if residual else [])]
    return [out.data, *(one.grad for one in learned), *([] if norm is None else norm.state_dict().values())]


@pytest.mark.parametrize("kind", ["none", "frozen", "training", "evaluation"])
@pytest.mark.parametrize(("bias", "residual", "relu"), list(itertools.product((False, True), repeat=3)))
def test_a_step_is_the_same_at_once_and_one_by_one(kind, bias, residual, relu):
    at_once, in_turn = (step(function, kind, bias, residual, relu) for function in (conv_norm_relu, one_by_one))
    assert len(at_once) == len(in_turn)
    for got, wanted in zip(at_once, in_turn, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-11)


@pytest.mark.parametrize("kind", ["none", "frozen", "training", "evaluation"])
def test_without_gradients_it_is_the_same(kind):
    found = []
    for function in (conv_norm_relu, one_by_one):
        conv, norm = layers(kind, bias=False)
        with no_grad():
            found.append(function(Tensor(MAPS), conv, norm, Tensor(REST), nn.ReLU()).data)
    np.testing.assert_allclose(*found, rtol=1e-12, atol=1e-12)


def test_a_sequential_is_its_modules_one_after_the_other():
    conv, norm = layers("frozen", bias=False)
    last = nn.Conv2d(8, 3, 1).astype(np.float64)
    net = nn.Sequential(nn.Sequential(conv, norm, nn.ReLU()), nn.MaxPool2d(2), nn.ReLU(), last)
    wanted = last(nn.ReLU()(nn.MaxPool2d(2)(nn.ReLU()(norm(conv(Tensor(MAPS)))))))
    np.testing.assert_allclose(net(Tensor(MAPS)).data, wanted.data, rtol=1e-12, atol=1e-12)


class Doubled(nn.Conv2d):
    """Somebody's own convolution."""

    def forward(self, x):
        return super().forward(x) * 2.0


class Above(nn.ReLU):
    """Somebody's own activation."""

    def forward(self, x):
        return super().forward(x) + 1.0


class Halved(nn.FrozenBatchNorm2d):
    """Somebody's own norm."""

    def forward(self, x):
        return super().forward(x) * 0.5


@pytest.mark.parametrize("which", ["conv", "norm", "relu"])
@pytest.mark.parametrize("how", ["subclass", "replaced forward"])
def test_what_somebody_changed_is_called_as_it_is(which, how):
    plain = {"conv": nn.Conv2d(5, 8, 3, padding=1, bias=False), "norm": nn.FrozenBatchNorm2d(8), "relu": nn.ReLU()}
    if how == "subclass":
        changed = {"conv": Doubled(5, 8, 3, padding=1, bias=False), "norm": Halved(8), "relu": Above()}[which]
        changed.load_state_dict(plain[which].state_dict())
    else:
        changed = type(plain[which])(*{"conv": (5, 8, 3, 1, 1), "norm": (8,), "relu": ()}[which])
        changed.forward = lambda x: Tensor(np.full((2, 8, 6, 7), 3.0, np.float32))
    modules = {**plain, which: changed}
    x = Tensor(MAPS.astype(np.float32))
    wanted = modules["relu"].forward(modules["norm"].forward(modules["conv"].forward(x))).data
    for net in (nn.Sequential(*modules.values()), nn.Sequential(nn.Sequential(*modules.values()))):
        with no_grad():
            np.testing.assert_allclose(net(x).data, wanted, rtol=1e-5, atol=1e-5)
    unchanged = plain["relu"](plain["norm"](plain["conv"](x))).data
    assert np.abs(wanted - unchanged).max() > 0.1

"""The `evaluation` block, and forward hooks."""

import copy
import pickle
import threading

import numpy as np
import pytest

from rcnn import nn
from rcnn.nn import Tensor


class Net(nn.Module):
    def __init__(self):
        self.parts = {"first": [nn.Dropout(0.5)], "norm": nn.BatchNorm2d(2)}

    def forward(self, x):
        return self.parts["norm"](self.parts["first"][0](x))


X = Tensor(np.random.default_rng(0).normal(size=(2, 2, 3, 4)).astype(np.float32))


def modes(net):
    return [module.training for module in net.modules()]


# ---------------------------------------------------------------------- evaluation


def test_evaluation_lasts_for_its_block_and_changes_no_module():
    net = Net()
    net.parts["norm"].eval()
    assert modes(net) == [True, True, False]
    before = copy.deepcopy(vars(net.parts["norm"]))
    with nn.evaluation():
        assert modes(net) == [False] * 3
        with nn.evaluation():
            assert modes(net) == [False] * 3
        assert modes(net) == [False] * 3
        net(X)
    assert modes(net) == [True, True, False]
    assert {name: value for name, value in vars(net.parts["norm"]).items() if name == "_training"} == {
        "_training": before["_training"]
    }
    np.testing.assert_array_equal(net.parts["norm"].running_mean, before["running_mean"])


def test_evaluation_ends_after_an_error_and_works_as_a_decorator():
    net = Net()
    with pytest.raises(KeyError), nn.evaluation():
        raise KeyError
    assert modes(net) == [True] * 3
    assert nn.evaluation()(modes)(net) == [False] * 3


def test_modes_that_are_set_inside_the_block_last_after_it():
    net = Net().eval()
    with nn.evaluation():
        net.train()
        assert modes(net) == [False] * 3
    assert modes(net) == [True] * 3


@pytest.mark.parametrize("block", [nn.evaluation, nn.no_grad])
def test_other_threads_do_not_inherit_the_block(block):
    net, seen = Net(), []

    def record():
        seen.append((modes(net), (nn.Parameter(np.ones(1)) * 2).requires_grad))

    with block():
        thread = threading.Thread(target=record)
        thread.start()
        thread.join()
    assert seen == [([True] * 3, True)]


# ---------------------------------------------------------------------- hooks


def test_a_hook_gets_the_module_its_arguments_and_its_result():
    net, seen = Net().eval(), []
    handle = net.register_forward_hook(lambda module, args, result: seen.append((module, args, result)))
    out = net(X)
    ((module, (x,), result),) = seen
    assert module is net and x is X and result is out
    handle.remove()
    handle.remove()
    net(X)
    assert len(seen) == 1


def test_hooks_run_in_order_and_may_replace_the_result():
    net = nn.Identity()
    with net.register_forward_hook(lambda m, a, result: result + 1.0):
        with net.register_forward_hook(lambda m, a, result: result * 10.0):
            np.testing.assert_array_equal(net(X).data, (X.data + 1) * 10)
        np.testing.assert_array_equal(net(X).data, X.data + 1)
    assert net(X) is X


def test_a_hook_may_remove_itself():
    net, calls = nn.Identity(), []

    def once(module, args, result):
        calls.append(1)
        handle.remove()

    handle = net.register_forward_hook(once)
    net(X)
    net(X)
    assert calls == [1]


def test_an_error_in_a_hook_is_raised():
    net = nn.Identity()
    net.register_forward_hook(lambda m, a, r: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        net(X)


def test_a_hook_is_not_in_the_state_but_is_copied_with_its_module():
    net = Net().eval()
    names = list(net.state_dict())
    net.register_forward_hook(doubled)
    assert list(net.state_dict()) == names and len(list(net.modules())) == 3
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        np.testing.assert_array_equal(twin(X).data, net(X).data)


def test_a_module_can_be_a_hook_without_becoming_a_child():
    net = nn.Sequential(nn.Identity())
    net.register_forward_hook(lambda *given: None)
    net.register_forward_hook(nn.Linear(2, 2).forward)
    assert len(net) == 1 and list(net.state_dict()) == []
    with pytest.raises(TypeError, match="hook must be callable, got int"):
        net.register_forward_hook(3)


def doubled(module, args, result):
    return result * 2.0


# ---------------------------------------------------------------------- assigned arrays


def test_assigned_arrays_are_not_copied():
    norm = nn.BatchNorm2d(3)
    state = {name: np.arange(3, dtype=np.float32) + i for i, name in enumerate(norm.state_dict())}
    norm.load_state_dict(state, assign=True)
    assert all(array is state[name] for name, array in norm.state_dict().items())
    norm.load_state_dict({name: array + 1 for name, array in state.items()})
    assert state["weight"].tolist() == [1, 2, 3]  # without `assign`, the arrays stay and their elements change


@pytest.mark.parametrize(
    "convert",
    [
        lambda x: x.astype(np.float64),
        lambda x: x.astype(">f4"),
        lambda x: np.stack([x, x], axis=1)[:, 0],
        lambda x: np.broadcast_to(x, (1, *x.shape))[0],
        lambda x: x.tolist(),
    ],
)
def test_assigned_arrays_are_copied_where_they_do_not_fit(convert):
    linear = nn.Linear(2, 3)
    state = {"weight": np.ones((3, 2), np.float32), "bias": np.arange(3, dtype=np.float32)}
    linear.load_state_dict({name: convert(array) for name, array in state.items()}, assign=True)
    for name, array in linear.state_dict().items():
        assert array.dtype == np.float32 and array.dtype.isnative
        assert array.flags.c_contiguous and array.flags.writeable
        np.testing.assert_array_equal(array, state[name])
        array += 1
    assert state["bias"].tolist() == [0, 1, 2]


def test_parameters_do_not_share_an_assigned_array():
    norm, shared = nn.BatchNorm2d(3), np.zeros(6, np.float32)
    norm.load_state_dict(dict.fromkeys(norm.state_dict(), shared[:3]), assign=True)
    norm.weight.data += 1
    assert not norm.bias.data.any() and not norm.running_mean.any()
    pair = nn.Sequential(nn.BatchNorm2d(3), nn.BatchNorm2d(3))
    pair[1].weight = pair[0].weight  # a parameter with two names stays one parameter
    pair.load_state_dict({name: np.full(3, i, np.float32) for i, name in enumerate(pair.state_dict())}, assign=True)
    assert pair[1].weight is pair[0].weight and pair[0].weight.data.tolist() == [4, 4, 4]

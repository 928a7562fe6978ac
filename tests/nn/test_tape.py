"""The tape: which operations it lists, and with which arguments."""

import threading

import numpy as np
import pytest

from rcnn import nn
from rcnn.nn import Tensor
from rcnn.nn import functional as F
from rcnn.nn.tape import taping


def test_a_call_has_its_name_all_arguments_and_its_result():
    x = Tensor(np.ones((1, 2, 4, 4), np.float32))
    with taping() as calls:
        y = F.max_pool2d(x, 2, padding=1)
    (call,) = calls
    assert call.name == "max_pool2d" and call.result is y
    assert call.arguments == {"x": x, "kernel_size": 2, "stride": None, "padding": 1}


def test_an_operation_within_an_operation_is_not_listed():
    x = Tensor(np.ones((1, 4, 3, 3), np.float32))
    with taping() as calls:
        F.conv2d(x, Tensor(np.ones((4, 2, 1, 1), np.float32)), groups=2)
        x.flatten(1).mean()
        1 - x
    assert [call.name for call in calls] == ["conv2d", "Tensor.flatten", "Tensor.mean", "Tensor.__sub__"]


def test_fused_layers_are_listed_one_by_one_with_the_same_result():
    rng = np.random.default_rng(0)
    layers = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()).eval()
    x = Tensor(rng.standard_normal((1, 3, 9, 9), dtype=np.float32))
    with nn.no_grad(), taping() as calls:
        found = layers(x)
    assert [call.name for call in calls] == ["conv2d", "batch_norm", "relu"]
    assert calls[1].arguments["x"] is calls[0].result and calls[2].result is found
    with nn.no_grad():
        np.testing.assert_allclose(found.data, layers(x).data, rtol=0, atol=1e-6)


def test_gradients_are_those_without_a_tape():
    x, y = (Tensor([1.0, 2.0], requires_grad=True) for _ in range(2))
    with taping():
        (x * x + x.exp()).sum().backward()
    (y * y + y.exp()).sum().backward()
    np.testing.assert_array_equal(x.grad, y.grad)


def test_a_tape_ends_with_its_block_and_belongs_to_its_thread():
    x = Tensor([1.0])
    with taping() as outer:
        x + 1
        with taping() as inner:
            x * 2
        thread = threading.Thread(target=lambda: x / 2)
        thread.start()
        thread.join()
        with pytest.raises(ValueError), taping():
            x.reshape(3)
        x - 1
    x.exp()
    assert [call.name for call in outer] == ["Tensor.__add__", "Tensor.__sub__"]
    assert [call.name for call in inner] == ["Tensor.__mul__"]

"""Layers as ONNX operators: each operation gives the same numbers in ONNX Runtime, also for inputs of other sizes."""

import numpy as np
import onnxruntime
import pytest

from rcnn import nn
from rcnn.nn import functional as F
from rcnn.nn.tape import taping
from rcnn.zoo.onnx import network
from rcnn.zoo.onnx.graph import Graph

CHANNELS = 6
RECORDED, OTHERS = ((8, 12), (12, 10)), ((8, 12), (16, 20), (10, 14))
LOSSES = {"binary_cross_entropy_with_logits", "cross_entropy", "smooth_l1_loss"}
NO_OPERATIONS = {"channels_last"}


def maps(height, width, channels=CHANNELS):
    return np.random.default_rng(height).standard_normal((1, channels, height, width), dtype=np.float32)


class Layers(nn.Module):
    """A module that calls a function of the module and the input."""

    def __init__(self, function):
        self.function = function
        self.conv = nn.Conv2d(CHANNELS, 4, 3, padding=1)
        self.half = nn.Conv2d(CHANNELS, CHANNELS, 3, stride=2, padding=1)
        self.grouped = nn.Conv2d(
            CHANNELS, 12, (3, 1), stride=(2, 1), padding=(2, 1), dilation=(2, 1), groups=3, bias=False
        )
        self.norm = nn.BatchNorm2d(CHANNELS)
        self.norm.running_mean[...] = np.arange(CHANNELS) / 4
        self.norm.running_var[...] = 1 + np.arange(CHANNELS)
        self.frozen = nn.FrozenBatchNorm2d(CHANNELS, eps=0.1)
        self.frozen.running_mean[...] = np.arange(CHANNELS) / 4
        self.linear = nn.Linear(CHANNELS, 5)
        self.dropout = nn.Dropout()

    def forward(self, x):
        return self.function(self, x)


def exported(module, sizes=RECORDED, known=()):
    """Return the module as a function that runs in ONNX Runtime."""
    inputs = [nn.Tensor(maps(*size)) for size in sizes]
    tapes, results = [], []
    for x in inputs:
        with nn.evaluation(), nn.no_grad(), taping() as calls:
            results.append(module(x))
        tapes.append(calls)
    graph = Graph()
    image = graph.input("x", np.float32, (1, CHANNELS, "height", "width"))
    made = network.Network(graph, module, (inputs[0].data, inputs[1].data), image)
    made.add(*tapes)
    model = graph.finish({"y": (made.value(*results), [None] * results[0].ndim)})
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda x: session.run(None, {"x": x})[0]


OPERATIONS = {
    "conv2d": lambda m, x: m.conv(x),
    "conv2d with groups": lambda m, x: m.grouped(x),
    "batch_norm": lambda m, x: m.norm(x),
    "scale_and_shift": lambda m, x: m.frozen(x),
    "fused": nn.fused(lambda m, x: F.relu(m.frozen(m.half(x)))),
    "linear": lambda m, x: m.linear(F.adaptive_avg_pool2d(x, 1)),
    "relu": lambda m, x: F.relu(x),
    "leaky_relu": lambda m, x: F.leaky_relu(x, 0.2),
    "relu6": lambda m, x: F.relu6(x * 8),
    "hardswish": lambda m, x: F.hardswish(x * 4),
    "hardsigmoid": lambda m, x: F.hardsigmoid(x * 4),
    "scale_channels": lambda m, x: F.scale_channels(x, F.adaptive_avg_pool2d(x, 1)),
    "sigmoid": lambda m, x: F.sigmoid(x),
    "softmax": lambda m, x: F.softmax(x, 1),
    "log_softmax": lambda m, x: F.log_softmax(x),
    "dropout": lambda m, x: m.dropout(m.dropout(x) + 1),
    "max_pool2d": lambda m, x: F.max_pool2d(x, 3, stride=2, padding=1),
    "max_pool2d without stride": lambda m, x: F.max_pool2d(x, (2, 1)),
    "avg_pool2d": lambda m, x: F.avg_pool2d(x, 3, stride=(2, 1), padding=1),
    "interpolate by a factor": lambda m, x: F.interpolate(x, (x.shape[2] * 2, x.shape[3] * 3)),
    "bilinear": lambda m, x: F.interpolate(x, (x.shape[2] * 2, x.shape[3] * 2), "bilinear"),
    "interpolate to a level": lambda m, x: F.interpolate(F.relu(m.half(m.half(x))), m.half(x).shape[2:]),
    "interpolate to a constant": lambda m, x: F.interpolate(x, (7, 5)),
    "upsample_add": lambda m, x: F.upsample_add(x, m.half(x)),
    "concatenate": lambda m, x: F.concatenate([x, x * 2, m.conv(x)], axis=1),
    "add": lambda m, x: 1 + x + m.half(x).mean() + np.arange(CHANNELS, dtype=np.float32)[:, None, None],
    "sub": lambda m, x: (1 - x) - x * x - 3,
    "div": lambda m, x: x / 3 + 1 / (x * x + 1),
    "matmul": lambda m, x: x.reshape(CHANNELS, -1) @ x.reshape(CHANNELS, -1).T,
    "power, root, exponential and logarithm": lambda m, x: ((x**2 + 1).sqrt().log() - x).exp().tanh() * -x,
    "sum": lambda m, x: x.sum() + x.sum(-1).sum(axis=(0, 1), keepdims=True),
    "mean": lambda m, x: x.mean(axis=(2, 3), keepdims=True) * x,
    "reshape": lambda m, x: x.transpose(0, 2, 3, 1).reshape(1, -1, 3),
    "channel shuffle": lambda m, x: x.reshape(1, 2, 3, *x.shape[2:]).transpose(0, 2, 1, 3, 4).reshape(*x.shape),
    "transpose": lambda m, x: x.transpose(0, 3, -2, 1).T,
    "flatten": lambda m, x: x.flatten(start_dim=-2) * x.flatten(1).sum(),
    "slices": lambda m, x: x[:, 1::2, 2:-1, ::-1],
    "indices": lambda m, x: x[0, ..., -1] + x[..., 3, 1][0, 2],
    "detached": lambda m, x: F.relu(x * 2).detach() + nn.Tensor(m.conv(x).data).sum(),
    "constant": lambda m, x: x * nn.Tensor(np.full((CHANNELS, 1, 1), 3, np.float32)),
    "a number of float64": lambda m, x: x * np.float64(0.1),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_gives_the_same_numbers(name):
    module = Layers(OPERATIONS[name])
    run = exported(module)
    for size in OTHERS:
        with nn.evaluation():
            expected = module(nn.Tensor(maps(*size))).data
        found = run(maps(*size))
        assert found.shape == expected.shape and found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=2e-5 * max(1, np.abs(expected).max()))


def test_every_operation_is_recorded_and_exported():
    """Also for operations that are added later."""
    functions = {name for name in F.__all__ if getattr(F, name).__module__.startswith("rcnn.nn")}
    names = functions - LOSSES - NO_OPERATIONS
    assert names - {"dropout"} <= set(network.OPERATORS)  # in evaluation, dropout returns its input
    recorded = set()
    for function in OPERATIONS.values():
        with nn.evaluation(), taping() as calls:
            Layers(function)(nn.Tensor(maps(8, 12)))
        recorded |= {call.name for call in calls}
    assert recorded - {"dropout"} == set(network.OPERATORS)


def test_weights_have_their_names_and_are_stored_once():
    module = Layers(lambda m, x: m.half(m.half(x)) + m.half.weight.sum())
    with nn.evaluation(), taping() as calls:
        result = module(x := nn.Tensor(maps(8, 12)))
    graph = Graph()
    made = network.Network(graph, module, (x.data, x.data), graph.input("x", np.float32, (1, CHANNELS, 8, 12)))
    made.add(calls, calls)
    stored = graph.finish({"y": (made.value(result, result), [None] * 4)}).graph.initializer
    assert sorted(one.name for one in stored if "half" in one.name) == ["half.bias", "half.weight"]


REFUSED = {
    "computes a tensor from the image without the operations of rcnn.nn": lambda m, x: F.relu(
        nn.Tensor(np.sin(x.data))
    ),
    "computes the argument other of Tensor.__mul__": lambda m, x: x * float(x.data.mean()),
    "uses other operations for images of another size": lambda m, x: F.relu(x) if x.shape[2] == 8 else x,
    "computes the argument stride of max_pool2d": lambda m, x: F.max_pool2d(x, 2, x.shape[2] // 4),
    "computes the argument index of Tensor.__getitem__": lambda m, x: x[:, :, : x.shape[2] // 2],
    "computes the size of interpolate": lambda m, x: F.interpolate(x, (x.shape[2] + 1, x.shape[3] + 2)),
    "computes the shape of reshape": lambda m, x: x.reshape(x.shape[2] // 2, 2, x.shape[3] // 2, 2, CHANNELS),
    "adaptive_avg_pool2d with an output_size other than 1": lambda m, x: F.adaptive_avg_pool2d(x, 2),
    "with something else than slices": lambda m, x: x[:, [0, 2]],
    "calls batch_norm with training=True": lambda m, x: F.batch_norm(
        x, m.norm.running_mean, m.norm.running_var, m.norm.weight, m.norm.bias, training=True
    ),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_would_be_wrong_for_other_sizes_is_refused(message):
    with pytest.raises(ValueError, match=message) as error:
        exported(Layers(REFUSED[message]))
    assert str(error.value).startswith("this model cannot be exported, because it ") and "\n" not in str(error.value)

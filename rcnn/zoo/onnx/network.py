"""Networks as ONNX operators: every operation on a tape (see `rcnn.nn.tape`) becomes one operator or a few.

A network is recorded twice, for inputs of two sizes. What is equal in both tapes, such as a weight or a stride, becomes
a constant of the file. What differs depends on the size of the image, so the graph must compute it. This works for the
shapes of `reshape`, `interpolate` and `upsample_add`. If anything else differs, the network is refused, because the
file would be wrong for images of other sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rcnn.nn import Module, Tensor
from rcnn.nn.tape import Call
from rcnn.nn.windows import pair
from rcnn.zoo.onnx.graph import Graph, Value

REFUSED = "this model cannot be exported, because it"
SHAPES = ("shape", "size")  # arguments that may depend on the size of the image
Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True, eq=False)
class Step:
    """A call of an operation in both recordings.

    Attributes
    ----------
    arguments : dict of str to object
        The arguments. Tensors are already values of the graph.
    given : tuple of Tensor
        The first tensor among the arguments, in both recordings.
    result : tuple of Tensor
        The result in both recordings.
    """

    arguments: dict[str, Any]
    given: Pair
    result: Pair

    def __getitem__(self, name: str) -> Any:
        return self.arguments[name]


class Network:
    """The part of a graph that a network becomes.

    Parameters
    ----------
    graph : Graph
        The graph.
    module : Module
        The module that contains the weights.
    inputs : (array, array)
        The data of the tensor that is the input of the network, in both recordings.
    value : Value
        The input of the network in the graph.
    """

    def __init__(self, graph: Graph, module: Module, inputs: tuple[np.ndarray, np.ndarray], value: Value) -> None:
        self.graph = graph
        self._names = {id(array): name for name, array in module.state_dict().items()}
        # Tensors are found by their array, because a tensor can share its array with another one. All arrays are kept
        # here, so that no other array gets the same id.
        self._known = [(*inputs, value)]
        self._values = {id(inputs[0]): value}

    def add(self, first: Sequence[Call], second: Sequence[Call]) -> None:
        """Add the operations of the network to the graph.

        Parameters
        ----------
        first, second : sequences of Call
            The tapes of both recordings.

        Raises
        ------
        ValueError
            If the network cannot be exported.
        """
        if [call.name for call in first] != [call.name for call in second]:
            raise ValueError(f"{REFUSED} uses other operations for images of another size")
        for one, other in zip(first, second, strict=True):
            if id(one.result.data) in self._values:  # dropout returns its input
                continue
            if one.name not in OPERATORS:
                raise ValueError(f"{REFUSED} uses {one.name}, for which ONNX export has no operator")
            tensors = [name for name, value in one.arguments.items() if isinstance(value, Tensor)]
            given = (one.arguments[tensors[0]], other.arguments[tensors[0]]) if tensors else (one.result, other.result)
            arguments = {
                name: self._argument(one.name, name, value, other.arguments[name])
                for name, value in one.arguments.items()
            }
            made = OPERATORS[one.name](self, Step(arguments, given, (one.result, other.result)))
            self._known.append((one.result.data, other.result.data, made))
            self._values[id(one.result.data)] = made

    def value(self, first: Tensor, second: Tensor) -> Value:
        """Return a tensor as a value of the graph.

        Parameters
        ----------
        first, second : Tensor
            The tensor in both recordings.

        Returns
        -------
        Value
            The result of an operation, a weight or another constant.

        Raises
        ------
        ValueError
            If the tensor is not the result of an operation and differs in the two recordings.
        """
        if id(first.data) in self._values:
            return self._values[id(first.data)]
        if not _equal(first.data, second.data):
            raise ValueError(
                f"{REFUSED} computes a tensor from the image without the operations of rcnn.nn, for example with NumPy"
            )
        return self.constant(first.data)

    def constant(self, array: np.ndarray) -> Value:
        """Return an array as a constant, in float32. A parameter or a buffer of the module keeps its name.

        Parameters
        ----------
        array : array
            The array.

        Returns
        -------
        Value
            The constant.
        """
        return self.graph.constant(np.asarray(array, np.float32, order="C"), self._names.get(id(array)))

    def length(self, given: Pair, result: Pair, axis: int) -> int | Value | None:
        """Return the length of an axis of a result: a constant, a value of the graph, or None if it is unknown.

        Parameters
        ----------
        given : pair of Tensor
            The input of the operation.
        result : pair of Tensor
            Its result.
        axis : int
            The axis of the result.

        Returns
        -------
        int, Value or None
            The length. A value has one element. It is taken from the input if possible, or else from any other tensor.
        """
        lengths = tuple(tensor.shape[axis] for tensor in result)
        if lengths[0] == lengths[1]:
            return lengths[0]
        for first, second, value in [(given[0].data, given[1].data, self.value(*given)), *reversed(self._known)]:
            for source, pair_of_lengths in enumerate(zip(first.shape, second.shape, strict=False)):
                if pair_of_lengths == lengths:
                    return value.shape.slice(source, source + 1)
        return None

    def _argument(self, operation: str, name: str, first: Any, second: Any) -> Any:
        """Return an argument, with tensors as values. Raise ValueError if it depends on the size of the image."""
        if isinstance(first, Tensor):
            return self.value(first, second)
        if isinstance(first, (list, tuple)) and any(isinstance(item, Tensor) for item in first):
            return [self._argument(operation, name, *items) for items in zip(first, second, strict=True)]
        if name not in SHAPES and not _equal(first, second):
            raise ValueError(f"{REFUSED} computes the argument {name} of {operation} from the image")
        return first


def _equal(first: Any, second: Any) -> bool:
    """Return whether two arguments are equal; they may be arrays, or contain arrays."""
    if isinstance(first, np.ndarray) or isinstance(second, np.ndarray):
        return first is second or np.array_equal(first, second)
    if isinstance(first, (list, tuple)) and isinstance(second, (list, tuple)):
        return len(first) == len(second) and all(map(_equal, first, second))
    return bool(first == second)


# ---------------------------------------------------------------------- the operations


def _conv2d(network: Network, step: Step) -> Value:
    return network.graph.apply(
        "Conv",
        step["x"],
        step["weight"],
        step["bias"],
        strides=pair("stride", step["stride"], 1),
        pads=pair("padding", step["padding"], 0) * 2,
        dilations=pair("dilation", step["dilation"], 1),
        group=step["groups"],
    )


def _linear(network: Network, step: Step) -> Value:
    rows = network.graph.apply("Flatten", step["x"], axis=1)
    return network.graph.apply("Gemm", rows, step["weight"], step["bias"], transB=1)


def _batch_norm(network: Network, step: Step) -> Value:
    if step["training"]:
        raise ValueError(f"{REFUSED} calls batch_norm with training=True")
    mean, var = network.constant(step["running_mean"]), network.constant(step["running_var"])
    return network.graph.apply(
        "BatchNormalization", step["x"], step["weight"], step["bias"], mean, var, epsilon=step["eps"]
    )


def _scale_and_shift(network: Network, step: Step) -> Value:
    scale, shift = (network.constant(np.asarray(step[name])[:, None, None]) for name in ("scale", "shift"))
    return step["x"] * scale + shift


def _max_pool2d(network: Network, step: Step) -> Value:
    return network.graph.apply("MaxPool", step["x"], **_window(step))


def _avg_pool2d(network: Network, step: Step) -> Value:
    return network.graph.apply("AveragePool", step["x"], **_window(step), count_include_pad=1)


def _window(step: Step) -> dict[str, tuple[int, ...]]:
    kernel = pair("kernel_size", step["kernel_size"], 1)
    stride = kernel if step["stride"] is None else pair("stride", step["stride"], 1)
    return {"kernel_shape": kernel, "strides": stride, "pads": pair("padding", step["padding"], 0) * 2}


def _adaptive_avg_pool2d(network: Network, step: Step) -> Value:
    if pair("output_size", step["output_size"], 1) != (1, 1):
        raise ValueError(
            f"{REFUSED} uses adaptive_avg_pool2d with an output_size other than 1, which ONNX does not have"
        )
    return network.graph.apply("GlobalAveragePool", step["x"])


def _upsample_add(network: Network, step: Step) -> Value:
    lateral = step["lateral"]
    return lateral + _resized(network, step["top"], "nearest", sizes=lateral.shape)


def _interpolate(network: Network, step: Step) -> Value:
    """Resize by constant factors if both recordings have the same ones, or else to the size of another tensor."""
    x, mode = step["x"], step["mode"]
    factors = {
        tuple(target / source for source, target in zip(before.shape, after.shape, strict=True))
        for before, after in zip(step.given, step.result, strict=True)
    }
    if len(factors) == 1 and all(factor.is_integer() for factor in next(iter(factors))):
        return _resized(network, x, mode, scales=network.constant(np.array(factors.pop())))
    lengths = [network.length(step.given, step.result, axis) for axis in range(4)]
    if None in lengths:
        raise ValueError(f"{REFUSED} computes the size of interpolate from the size of the image")
    return _resized(network, x, mode, sizes=_joined(network, lengths))


def _resized(network: Network, x: Value, mode: str, scales: Value | None = None, sizes: Value | None = None) -> Value:
    if mode == "bilinear":
        options = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
    else:
        options = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    return network.graph.apply("Resize", x, None, scales, sizes, **options)


def _joined(network: Network, lengths: Sequence[Any]) -> Value:
    """Return lengths, which are numbers or values with one element, as a vector."""
    return network.graph.concatenate(
        [length if isinstance(length, Value) else network.graph.as_value([length], np.int64) for length in lengths]
    )


def _reshape(network: Network, step: Step) -> Value:
    lengths = [network.length(step.given, step.result, axis) for axis in range(step.result[0].ndim)]
    variable = [axis for axis, length in enumerate(lengths) if not isinstance(length, int)]
    remaining = variable if len(variable) == 1 else [axis for axis in variable if lengths[axis] is None]
    if len(remaining) > 1:
        raise ValueError(f"{REFUSED} computes the shape of reshape from the size of the image")
    for axis in remaining:
        lengths[axis] = -1
    return network.graph.apply("Reshape", step["self"], _joined(network, lengths))


def _transpose(network: Network, step: Step) -> Value:
    ndim = step.given[0].ndim
    return step["self"].transpose(*([axis % ndim for axis in step["axes"]] or range(ndim)[::-1]))


def _getitem(network: Network, step: Step) -> Value:
    """Take the elements axis by axis: first all slices, and then the integers, which remove their axes, backwards."""
    index = step["index"] if isinstance(step["index"], tuple) else (step["index"],)
    if not all(part is Ellipsis or type(part) is int or isinstance(part, (np.integer, slice)) for part in index):
        raise ValueError(f"{REFUSED} indexes a tensor with something else than slices")
    ndim = step.given[0].ndim
    if Ellipsis in index:
        at = index.index(Ellipsis)
        index = (*index[:at], *[slice(None)] * (ndim - len(index) + 1), *index[at + 1 :])
    out, end = step["self"], np.iinfo(np.int64)
    for axis, part in enumerate(index):
        if isinstance(part, slice) and part != slice(None):
            by = 1 if part.step is None else part.step
            first, last = (0, end.max) if by > 0 else (end.max, end.min)
            out = out.slice(
                first if part.start is None else part.start, last if part.stop is None else part.stop, axis, by
            )
    for axis, part in reversed(list(enumerate(index))):
        if not isinstance(part, slice):
            out = out.take(int(part), axis)
    return out


def _concatenate(network: Network, step: Step) -> Value:
    return network.graph.concatenate(step["tensors"], axis=step["axis"])


def _sum(network: Network, step: Step) -> Value:
    axes = _axes(step)
    return network.graph.apply("ReduceSum", step["self"], np.array(axes, np.int64), keepdims=int(step["keepdims"]))


def _mean(network: Network, step: Step) -> Value:
    return network.graph.apply("ReduceMean", step["self"], axes=_axes(step), keepdims=int(step["keepdims"]))


def _axes(step: Step) -> list[int]:
    ndim, axis = step.given[0].ndim, step["axis"]
    if axis is None:
        return list(range(ndim))
    return [one % ndim for one in (axis if isinstance(axis, (tuple, list)) else (axis,))]


def _binary(operator: str, argument: str = "other") -> Callable[[Network, Step], Value]:
    """Return a function for an operation on a tensor and another argument, which may be a number or an array."""

    def convert(network: Network, step: Step) -> Value:
        other = step[argument]
        other = other if isinstance(other, Value) else network.constant(np.asarray(other))
        return network.graph.apply(operator, _operand(step), other)

    return convert


def _unary(operator: str, **attributes: str) -> Callable[[Network, Step], Value]:
    """Return a function for an operation on one tensor; `attributes` maps those of ONNX to the arguments."""

    def convert(network: Network, step: Step) -> Value:
        return network.graph.apply(operator, _operand(step), **{name: step[own] for name, own in attributes.items()})

    return convert


def _operand(step: Step) -> Value:
    """Return the tensor of a function or of a method."""
    operand: Value = step["x"] if "x" in step.arguments else step["self"]
    return operand


def _relu6(network: Network, step: Step) -> Value:
    zero, six = (network.constant(np.asarray(bound)) for bound in (0, 6))
    return network.graph.apply("Clip", step["x"], zero, six)


def _hardsigmoid(network: Network, step: Step) -> Value:
    return network.graph.apply("HardSigmoid", step["x"], alpha=1 / 6, beta=0.5)


OPERATORS: Mapping[str, Callable[[Network, Step], Value]] = {
    "conv2d": _conv2d,
    "linear": _linear,
    "batch_norm": _batch_norm,
    "scale_and_shift": _scale_and_shift,
    "max_pool2d": _max_pool2d,
    "avg_pool2d": _avg_pool2d,
    "adaptive_avg_pool2d": _adaptive_avg_pool2d,
    "interpolate": _interpolate,
    "upsample_add": _upsample_add,
    "concatenate": _concatenate,
    "relu": _unary("Relu"),
    "leaky_relu": _unary("LeakyRelu", alpha="negative_slope"),
    "relu6": _relu6,
    "hardswish": _unary("HardSwish"),
    "hardsigmoid": _hardsigmoid,
    "scale_channels": _binary("Mul", "scale"),
    "sigmoid": _unary("Sigmoid"),
    "softmax": _unary("Softmax", axis="axis"),
    "log_softmax": _unary("LogSoftmax", axis="axis"),
    "Tensor.__add__": _binary("Add"),
    "Tensor.__sub__": _binary("Sub"),
    "Tensor.__mul__": _binary("Mul"),
    "Tensor.__truediv__": _binary("Div"),
    "Tensor.__matmul__": _binary("MatMul"),
    "Tensor.__pow__": _binary("Pow", "exponent"),
    "Tensor.__neg__": _unary("Neg"),
    "Tensor.exp": _unary("Exp"),
    "Tensor.log": _unary("Log"),
    "Tensor.sqrt": _unary("Sqrt"),
    "Tensor.tanh": _unary("Tanh"),
    "Tensor.sum": _sum,
    "Tensor.mean": _mean,
    "Tensor.reshape": _reshape,
    "Tensor.flatten": _reshape,
    "Tensor.transpose": _transpose,
    "Tensor.__getitem__": _getitem,
}

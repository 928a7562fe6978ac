"""A graph of ONNX operators, and values with which formulas are written as in NumPy.

An ONNX graph is a list of nodes. Each node applies an operator to named values and gives names to its results. The
names are of no interest to a reader, so `Value` hides them: `a + b` adds a node to the graph and returns its result.
The operators are described at https://onnx.ai/onnx/operators.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx

from rcnn.zoo.onnx import OPSET

IR_VERSION = 8  # the version of the file format that belongs to this opset
END = np.iinfo(np.int64).max  # "to the end" of an axis


class Value:
    """A value in a graph: an input, a constant or the result of a node.

    Parameters
    ----------
    graph : Graph
        The graph.
    name : str
        The name of the value.
    dtype : dtype
        The type of its elements.
    """

    __array_ufunc__ = None  # so that `array * value` calls the method of the value

    def __init__(self, graph: Graph, name: str, dtype: Any) -> None:
        self.graph, self.name, self.dtype = graph, name, np.dtype(dtype)

    def _with(self, operator: str, other: Any, dtype: Any = None) -> Value:
        """Apply an operator to this value and another one; a number or an array gets the dtype of this value."""
        return self.graph.apply(operator, self, self.graph.as_value(other, self.dtype), dtype=dtype)

    def __add__(self, other: Any) -> Value:
        return self._with("Add", other)

    def __sub__(self, other: Any) -> Value:
        return self._with("Sub", other)

    def __mul__(self, other: Any) -> Value:
        return self._with("Mul", other)

    def __truediv__(self, other: Any) -> Value:
        return self._with("Div", other)

    def __floordiv__(self, other: Any) -> Value:
        """Divide integers of at least 0, and round down."""
        return self._with("Div", other)

    def __rmul__(self, other: Any) -> Value:
        return self.graph.as_value(other, self.dtype) * self

    def __rsub__(self, other: Any) -> Value:
        return self.graph.as_value(other, self.dtype) - self

    def __rtruediv__(self, other: Any) -> Value:
        return self.graph.as_value(other, self.dtype) / self

    def __gt__(self, other: Any) -> Value:
        return self._with("Greater", other, dtype=bool)

    def __ge__(self, other: Any) -> Value:
        return self._with("GreaterOrEqual", other, dtype=bool)

    def __lt__(self, other: Any) -> Value:
        return self._with("Less", other, dtype=bool)

    def __and__(self, other: Value) -> Value:
        return self._with("And", other)

    def equals(self, other: Any) -> Value:
        """Return whether the elements are equal.

        Parameters
        ----------
        other : Value, array or number
            The other value.

        Returns
        -------
        Value
            The bools.
        """
        return self._with("Equal", other, dtype=bool)

    def minimum(self, other: Any) -> Value:
        """Return the smaller of two elements, for each pair.

        Parameters
        ----------
        other : Value, array or number
            The other value.

        Returns
        -------
        Value
            The smaller elements.
        """
        return self._with("Min", other)

    def maximum(self, other: Any) -> Value:
        """Return the larger of two elements, for each pair.

        Parameters
        ----------
        other : Value, array or number
            The other value.

        Returns
        -------
        Value
            The larger elements.
        """
        return self._with("Max", other)

    def astype(self, dtype: Any) -> Value:
        """Return the value with another dtype.

        Parameters
        ----------
        dtype : dtype
            The dtype.

        Returns
        -------
        Value
            The converted value. Real numbers are rounded towards 0 if `dtype` is an integer type.
        """
        if self.dtype == dtype:
            return self
        return self.graph.apply("Cast", self, dtype=dtype, to=onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def reshape(self, *shape: int) -> Value:
        """Return the elements in another shape.

        Parameters
        ----------
        *shape : ints
            The shape. One length may be -1; it follows from the others.

        Returns
        -------
        Value
            The reshaped value.
        """
        return self.graph.apply("Reshape", self, np.array(shape, np.int64))

    def transpose(self, *axes: int) -> Value:
        """Return the value with its axes in another order.

        Parameters
        ----------
        *axes : ints
            The order.

        Returns
        -------
        Value
            The transposed value.
        """
        return self.graph.apply("Transpose", self, perm=list(axes))

    def take(self, indices: Any, axis: int = 0) -> Value:
        """Return the elements with the given indices along an axis.

        Parameters
        ----------
        indices : Value, array or int
            The indices. If it is a single index, the result does not have the axis.
        axis : int
            The axis.

        Returns
        -------
        Value
            The elements.
        """
        return self.graph.apply("Gather", self, self.graph.as_value(indices, np.int64), axis=axis)

    def slice(self, start: int, stop: int = END, axis: int = -1, step: int = 1) -> Value:
        """Return the elements start, start + step, ... along an axis, up to `stop`.

        Parameters
        ----------
        start, stop : int
            The first index, and the index before which the elements end.
        axis : int
            The axis.
        step : int
            The step.

        Returns
        -------
        Value
            The elements.
        """
        bounds = (np.array([number], np.int64) for number in (start, stop, axis, step))
        return self.graph.apply("Slice", self, *bounds)

    @property
    def shape(self) -> Value:
        """The lengths of the axes.

        Returns
        -------
        Value
            An int64 vector.
        """
        return self.graph.apply("Shape", self, dtype=np.int64)


class Graph:
    """A graph to which nodes are added."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._initializers: dict[str, np.ndarray] = {}
        self._constants: dict[tuple[Any, ...], Value] = {}

    def input(self, name: str, dtype: Any, shape: Sequence[int | str]) -> Value:
        """Add an input.

        Parameters
        ----------
        name : str
            The name.
        dtype : dtype
            The type of the elements.
        shape : sequence of int or str
            For each axis, its length, or a name for a length that is not constant.

        Returns
        -------
        Value
            The input.
        """
        self._inputs.append(_described(name, dtype, shape))
        return Value(self, name, dtype)

    def constant(self, array: np.ndarray, name: str | None = None) -> Value:
        """Return an array as a value. Equal arrays are stored once.

        Parameters
        ----------
        array : array
            The array.
        name : str, optional
            The name of a weight; by default, a number.

        Returns
        -------
        Value
            The constant.
        """
        key = (name,) if name is not None else (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            name = f"constant_{len(self._constants)}" if name is None else name
            self._initializers[name] = array
            self._constants[key] = Value(self, name, array.dtype)
        return self._constants[key]

    def as_value(self, given: Any, dtype: Any) -> Value:
        """Return a value unchanged, and a number or an array as a constant.

        Parameters
        ----------
        given : Value, array or number
            The value.
        dtype : dtype
            The dtype of a constant.

        Returns
        -------
        Value
            The value.
        """
        return given if isinstance(given, Value) else self.constant(np.asarray(given, dtype))

    def apply(self, operator: str, *inputs: Value | np.ndarray | None, dtype: Any = None, **attributes: Any) -> Value:
        """Add a node with one result.

        Parameters
        ----------
        operator : str
            The name of the ONNX operator.
        *inputs : Value, array or None
            The inputs; an array becomes a constant, and None stands for an optional input that is left out.
        dtype : dtype, optional
            The dtype of the result; by default, that of the first input.
        **attributes
            The attributes of the operator.

        Returns
        -------
        Value
            The result.
        """
        return self.apply_many(operator, inputs, (dtype,), **attributes)[0]

    def apply_many(
        self, operator: str, inputs: Iterable[Value | np.ndarray | None], dtypes: Sequence[Any], **attributes: Any
    ) -> tuple[Value, ...]:
        """Add a node with several results.

        Parameters
        ----------
        operator : str
            The name of the ONNX operator.
        inputs : iterable of Value, array or None
            See `apply`.
        dtypes : sequence of dtype or None
            The dtype of each result; None stands for that of the first input.
        **attributes
            The attributes of the operator.

        Returns
        -------
        tuple of Value
            The results.
        """
        values = [self.constant(one) if isinstance(one, np.ndarray) else one for one in inputs]
        first = next((value.dtype for value in values if value is not None), None)
        names = [f"{operator}_{len(self._nodes)}" + (f"_{index}" if index else "") for index in range(len(dtypes))]
        arguments = ["" if value is None else value.name for value in values]
        self._nodes.append(onnx.helper.make_node(operator, arguments, names, name=names[0], **attributes))
        return tuple(
            Value(self, name, first if dtype is None else dtype) for name, dtype in zip(names, dtypes, strict=True)
        )

    def concatenate(self, values: Sequence[Value], axis: int = 0) -> Value:
        """Join values along an axis.

        Parameters
        ----------
        values : sequence of Value
            The values.
        axis : int
            The axis.

        Returns
        -------
        Value
            The joined value.
        """
        return values[0] if len(values) == 1 else self.apply("Concat", *values, axis=axis)

    def arange(self, count: Value) -> Value:
        """Return the numbers 0 .. count - 1.

        Parameters
        ----------
        count : Value
            An int64 number (a scalar).

        Returns
        -------
        Value
            An int64 vector.
        """
        return self.apply("Range", np.array(0, np.int64), count, np.array(1, np.int64))

    def where(self, condition: Value, a: Any, b: Any, dtype: Any) -> Value:
        """Return the elements of `a` where the condition is true, and those of `b` elsewhere.

        Parameters
        ----------
        condition : Value
            The bools.
        a, b : Value, array or number
            The elements.
        dtype : dtype
            The dtype of the elements.

        Returns
        -------
        Value
            The chosen elements.
        """
        return self.apply("Where", condition, self.as_value(a, dtype), self.as_value(b, dtype), dtype=dtype)

    def finish(self, outputs: Mapping[str, tuple[Value, Sequence[int | str]]]) -> onnx.ModelProto:
        """Return the finished model.

        Parameters
        ----------
        outputs : mapping of str to (Value, shape)
            The name of each output, its value, and its shape as in `input`.

        Returns
        -------
        onnx.ModelProto
            The model.
        """
        renamed = [onnx.helper.make_node("Identity", [value.name], [name]) for name, (value, _) in outputs.items()]
        graph = onnx.helper.make_graph(
            [*self._nodes, *renamed],
            "detector",
            self._inputs,
            [_described(name, value.dtype, shape) for name, (value, shape) in outputs.items()],
            [onnx.numpy_helper.from_array(array, name) for name, array in self._initializers.items()],
        )
        return onnx.helper.make_model(
            graph, opset_imports=[onnx.helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="rcnn"
        )


def _described(name: str, dtype: Any, shape: Sequence[int | str]) -> onnx.ValueInfoProto:
    return onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape)

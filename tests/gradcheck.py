"""A check of gradients against finite differences, and the memory layouts that an array can have."""

from collections.abc import Callable

import numpy as np

from rcnn.nn import Tensor

STEP = 1e-6
TOLERANCE = 1e-6  # of the largest value


def check_gradients(function: Callable[..., Tensor], *arrays: np.ndarray) -> None:
    """Assert that the gradient of `function` with respect to each array equals central differences, in float64.

    The result is weighted with fixed random numbers, so that errors cannot cancel. Each gradient must also be the same
    when only its own array requires one.
    """
    arrays = tuple(np.array(array, np.float64) for array in arrays)
    weights = np.random.default_rng(99).normal(size=function(*map(Tensor, arrays)).shape)
    together = gradients(function, weights, arrays, range(len(arrays)))
    for index, found in enumerate(together):
        expected = central_differences(function, weights, arrays, index)
        assert found.shape == expected.shape
        assert found.dtype == np.float64
        worst, largest = (np.max(np.abs(x), initial=0) for x in (found - expected, expected))
        assert worst <= TOLERANCE * largest, f"gradient {index} is wrong by {worst:.1e}; its largest is {largest:.1e}"
        alone = gradients(function, weights, arrays, [index])
        assert [grad is None for grad in alone] == [other != index for other in range(len(arrays))]
        np.testing.assert_array_equal(alone[index], found)


def gradients(function: Callable[..., Tensor], weights, arrays, required):
    """Return the gradient with respect to each array, or None if the index of the array is not in `required`."""
    tensors = [Tensor(array, requires_grad=index in required) for index, array in enumerate(arrays)]
    function(*tensors).backward(weights)
    return [tensor.grad for tensor in tensors]


def in_layouts(function: Callable[..., Tensor], arrays, arrange, upstream):
    """Return the value and each gradient as pairs: from arrays in C order, and from arrays in the layout of `arrange`.

    `upstream(size)` returns the gradient with respect to the result, as a vector.
    """

    def run(layout):
        tensors = [Tensor(layout(array), requires_grad=True) for array in arrays]
        out = function(*tensors)
        out.backward(layout(upstream(out.size).reshape(out.shape)) if out.ndim else np.array(2.0))
        return [out.data, *(tensor.grad for tensor in tensors)]

    return zip(run(np.array), run(arrange), strict=True)


def central_differences(function: Callable[..., Tensor], weights, arrays, index: int) -> np.ndarray:
    """Return the gradient, measured by moving each element by a small step in both directions."""
    moved = [array.copy() for array in arrays]
    out = np.zeros_like(arrays[index])
    for element in np.ndindex(out.shape):
        ends = []
        for step in (STEP, -STEP):
            moved[index][element] = arrays[index][element] + step
            ends.append(function(*map(Tensor, moved)).data.copy())  # a copy: it may be a view of the array that changes
        moved[index][element] = arrays[index][element]
        out[element] = np.sum((ends[0] - ends[1]) * weights) / (2 * STEP)
    return out


def _read_only(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array.flags.writeable = False
    return array


def _channels_last(array: np.ndarray) -> np.ndarray:
    axis = min(1, array.ndim - 1)
    return np.moveaxis(np.moveaxis(array, axis, -1).copy(), -1, axis)


def _sliced(array: np.ndarray) -> np.ndarray:
    padded = np.full([2 * side for side in array.shape], np.nan, array.dtype)
    inner = padded[tuple(slice(None, 2 * side, 2) for side in array.shape)]
    inner[...] = array
    return inner


LAYOUTS = {
    "C order": np.ascontiguousarray,
    "Fortran order": np.asfortranarray,
    "channels last": _channels_last,
    "sliced": _sliced,
    "reversed": lambda a: np.flip(np.flip(a).copy()),
    "read-only": _read_only,
}

"""Checks of backbone operations: the gradients of a convolution, and the top-down sum of the pyramid."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from rcnn._ext.dispatch import original
from rcnn.checks._engine import Case, Function, run
from rcnn.nn import Tensor
from rcnn.nn import functional as F

# ---------------------------------------------------------------------- convolution


@original
def conv2d_backward(function: Function, seed: int | None = None) -> None:
    """Raise CheckFailed unless `function` returns the three gradients of a convolution.

    Parameters
    ----------
    function : callable
        ``function(grad_out, x, weight, stride, padding)``. Takes the gradient of a loss with respect to the output, (N,
        O, H', W'), the input (N, C, H, W), the filters (O, C, kh, kw), and two integers that hold for both axes.
        Returns the gradients with respect to x, weight and bias, in their shapes. The convolution does not flip its
        filters (it is a cross-correlation), pads with zeros and adds a bias (O,): H' = (H + 2 padding - kh) // stride +
        1.
    seed : int, optional
        Seed for the random inputs. Without it, every call uses new inputs.

    Raises
    ------
    CheckFailed
        If any answer is wrong. The message shows the smallest failing input found and a hint.
    TypeError
        If `function` is not callable.
    """
    run(
        "conv2d_backward",
        function,
        _conv2d_gradients,
        _conv2d_cases(np.random.default_rng(seed)),
        rows=(("grad_out", "x"),),
    )


def _conv2d_gradients(
    grad_out: np.ndarray, x: np.ndarray, weight: np.ndarray, stride: int, padding: int
) -> tuple[np.ndarray, ...]:
    maps, filters, bias = (
        Tensor(np.asarray(values, np.float64), requires_grad=True) for values in (x, weight, np.zeros(len(weight)))
    )
    F.conv2d(maps, filters, bias, stride, padding).backward(grad_out)
    return tuple(np.asarray(tensor.grad) for tensor in (maps, filters, bias))


def _conv2d_cases(rng: np.random.Generator) -> Iterator[Case]:
    yield _conv2d(
        rng,
        (1, 1, 1, 1),
        (1, 1, 1),
        "One element in, one weight, one element out: out = weight * x + bias. What is its derivative with respect to "
        "each of the three, multiplied by the incoming gradient?",
    )
    yield _conv2d(
        rng,
        (1, 1, 2, 3),
        (1, 1, 1),
        "The same weight and bias are used at every position of the map, so their gradients are sums over all "
        "positions.",
    )
    yield _conv2d(
        rng,
        (1, 2, 1, 1),
        (3, 1, 1),
        "Every channel of the input goes into every filter, so its gradient is a sum over the filters. weight[o, c] "
        "belongs to filter o and channel c.",
    )
    yield _conv2d(
        rng,
        (3, 2, 2, 1),
        (2, 1, 1),
        "All images of the batch share the filters, so the filters' gradients are sums over the images. Each image "
        "has its own gradient.",
    )
    yield _conv2d(
        rng,
        (1, 1, 3, 3),
        (1, 3, 3),
        "Here the filter covers the whole map, and is not flipped: x[i, j] was multiplied by weight[i, j]. So x[i, j] "
        "receives its gradient through weight[i, j], and weight[i, j] through x[i, j].",
    )
    yield _conv2d(
        rng,
        (1, 1, 4, 5),
        (1, 3, 3),
        "Windows overlap: an element that lies in several windows receives a gradient from each, and these add up.",
    )
    yield _conv2d(
        rng,
        (1, 2, 4, 6),
        (2, 2, 3),
        "Neither map nor filter is square here: rows go with the filter's height, columns with its width.",
    )
    yield _conv2d(
        rng,
        (1, 1, 3, 3),
        (1, 3, 3),
        "With padding, windows extend over the border. The gradient of the zeros outside is dropped, and the result "
        "has the shape of x.",
        padding=1,
    )
    yield _conv2d(
        rng,
        (1, 1, 3, 4),
        (2, 1, 1),
        "Padding may be wider than the filter needs. The zeros have no gradient, but the bias receives one from "
        "there, too.",
        padding=2,
    )
    yield _conv2d(
        rng,
        (1, 1, 4, 6),
        (1, 2, 2),
        "With a stride, window (i, j) begins at row i * stride, column j * stride.",
        stride=2,
    )
    yield _conv2d(
        rng,
        (1, 1, 6, 5),
        (1, 3, 3),
        "The last rows or columns lie in no window, because the stride steps over them. Their gradient is 0, and the "
        "gradient still has the shape of x.",
        stride=2,
    )
    yield _conv2d(
        rng,
        (2, 2, 6, 7),
        (2, 3, 3),
        "Stride and padding together: windows begin at i * stride - padding.",
        stride=2,
        padding=1,
    )
    whole = _conv2d(
        rng,
        (1, 2, 3, 3),
        (2, 2, 2),
        "Integers are valid input, but a gradient of integer maps need not be an integer.",
    )
    yield Case(
        {**whole.arguments, "x": rng.integers(-4, 5, (1, 2, 3, 3)), "weight": rng.integers(-4, 5, (2, 2, 2, 2))},
        whole.hint,
    )
    single = _conv2d(rng, (1, 2, 4, 4), (2, 3, 3), "Maps come as float32 from a network.", padding=1)
    yield Case(
        {
            name: value.astype(np.float32) if isinstance(value, np.ndarray) else value
            for name, value in single.arguments.items()
        },
        single.hint,
    )
    for _ in range(4):
        n, channels, filters = rng.integers(1, 4, 3).tolist()
        height, width = rng.integers(4, 8, 2).tolist()
        kernel = rng.integers(1, 4, 2).tolist()
        yield _conv2d(
            rng,
            (n, channels, height, width),
            (filters, *kernel),
            "These maps are random. Choose one wrong element of the gradient, and list the windows that contain its "
            "position.",
            stride=int(rng.integers(1, 4)),
            padding=int(rng.integers(0, 3)),
        )


def _conv2d(
    rng: np.random.Generator,
    shape: tuple[int, ...],
    filters: tuple[int, ...],
    hint: str,
    stride: int = 1,
    padding: int = 0,
) -> Case:
    """Return maps of `shape` (N, C, H, W) and `filters` (O, kh, kw)."""
    n, channels, *sides = shape
    count, *kernel = filters
    out = [(side + 2 * padding - k) // stride + 1 for side, k in zip(sides, kernel, strict=True)]
    return Case(
        {
            "grad_out": _eighths(rng, (n, count, *out)),
            "x": _eighths(rng, shape),
            "weight": _eighths(rng, (count, channels, *kernel)),
            "stride": stride,
            "padding": padding,
        },
        hint,
    )


# ---------------------------------------------------------------------- feature pyramid


@original
def top_down(function: Function, seed: int | None = None) -> None:
    """Raise CheckFailed unless `function` adds the enlarged coarser level to the finer one.

    Parameters
    ----------
    function : callable
        ``function(finer, coarser)``. Takes (N, C, H, W) and (N, C, h, w) maps, where h and w are about half of H and W,
        which may be odd. Returns an array in the shape of `finer`. The coarser level is enlarged by nearest neighbours:
        row i of H shows row floor(i * h / H), and columns alike.
    seed : int, optional
        Seed for the random inputs. Without it, every call uses new inputs.

    Raises
    ------
    CheckFailed
        If any answer is wrong. The message shows the smallest failing input found and a hint.
    TypeError
        If `function` is not callable.

    References
    ----------
    Lin et al., "Feature Pyramid Networks for Object Detection", 2017, section 3.
    """
    run("top_down", function, _top_down_of, _top_down_cases(np.random.default_rng(seed)), rows=(("finer", "coarser"),))


def _top_down_of(finer: np.ndarray, coarser: np.ndarray) -> np.ndarray:
    height, width = finer.shape[2:]
    return finer + F.interpolate(Tensor(np.asarray(coarser, np.float64)), (height, width)).data


def _top_down_cases(rng: np.random.Generator) -> Iterator[Case]:
    yield _levels(
        rng, (1, 1), (1, 1), (1, 1), "Both levels have one position each: nothing is enlarged, and the two are added."
    )
    yield _levels(
        rng, (1, 1), (2, 2), (1, 1), "The single element of the coarser level goes to every position of the finer one."
    )
    yield _levels(
        rng,
        (1, 1),
        (4, 4),
        (2, 2),
        "Each element of the coarser level covers two by two neighbours of the finer one, unchanged: nothing is "
        "blended, and no position is left out.",
    )
    yield _levels(
        rng, (1, 1), (4, 6), (2, 3), "The levels need not be square: rows go with rows, columns with columns."
    )
    yield _levels(
        rng, (2, 3), (4, 2), (2, 1), "Each channel of each image is enlarged separately, along its last two axes."
    )
    yield _levels(
        rng,
        (1, 1),
        (3, 4),
        (2, 2),
        "An odd height: the coarser level was rounded up, so twice its height is one row too many. The result has the "
        "finer level's size.",
    )
    yield _levels(
        rng,
        (1, 1),
        (4, 5),
        (2, 3),
        "An odd width: the coarser level was rounded up, so twice its width is one column too many. The result has "
        "the finer level's size.",
    )
    height, width = (2 * rng.integers(3, 6, 2) - 1).tolist()
    yield _levels(
        rng,
        (1, 1),
        (height, width),
        ((height + 1) // 2, (width + 1) // 2),
        "Odd sides: row i shows row floor(i * h / H). Write these down for every i. Nothing is rounded up or shifted "
        "by half a row.",
    )
    yield _levels(
        rng,
        (1, 1),
        (5, 7),
        (2, 3),
        "Odd sides, and the coarser level was rounded down, so twice its side is too short here. Row i still shows "
        "row floor(i * h / H): use the ratio of the sides, not the number 2.",
    )
    yield Case(
        {"finer": rng.integers(0, 9, (1, 2, 4, 4)), "coarser": _eighths(rng, (1, 2, 2, 2)) + 0.125},
        "Integers are valid input, but the sum with floats is not an integer.",
    )
    yield Case(
        {
            "finer": _eighths(rng, (1, 2, 3, 3)).astype(np.float32),
            "coarser": _eighths(rng, (1, 2, 2, 2)).astype(np.float32),
        },
        "Maps come as float32 from a network.",
    )
    yield _levels(
        rng,
        (0, 2),
        (3, 4),
        (2, 2),
        "Zero images are valid input: the answer is empty, in the shape of the finer level.",
    )
    for _ in range(5):
        n, channels, h, w = rng.integers(1, 5, 4).tolist()
        size = (2 * h + int(rng.integers(-1, 2)), 2 * w + int(rng.integers(-1, 2)))
        yield _levels(
            rng,
            (n, channels),
            size,
            (h, w),
            "These levels are random. Write down the row and the column of the coarser level that every position of "
            "the finer one shows.",
        )


def _levels(
    rng: np.random.Generator, images: tuple[int, int], finer: tuple[int, int], coarser: tuple[int, int], hint: str
) -> Case:
    """Return two levels of the same (N, C) `images`, each with its own size; no sum of their elements is 0."""
    between_eighths = _eighths(rng, (*images, *coarser)) + 1 / 16
    return Case({"finer": _eighths(rng, (*images, *finer)), "coarser": between_eighths}, hint)


def _eighths(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Draw different sizes of either sign, none of them 0 or 1, which float32 represents exactly."""
    count = int(np.prod(shape))
    sizes = rng.permutation(np.delete(np.arange(max(count, 40) + 2), [0, 8]))[:count]
    return (sizes * rng.choice([-1, 1], count) / 8).reshape(shape)

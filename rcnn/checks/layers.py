"""Checks of what the layers of a backbone do: a convolution's gradients, and the pyramid's sum from the top down."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from rcnn.checks._engine import Case, Function, run
from rcnn.nn import Tensor
from rcnn.nn import functional as F

# ---------------------------------------------------------------------- convolution


def conv2d_backward(function: Function, seed: int | None = None) -> None:
    """Nothing where `function(grad_out, x, weight, stride, padding)` gives a convolution's three gradients.

    The convolution does not turn its filters round (it is a cross-correlation) and adds a bias (O,) to each filter's
    map. x: (N, C, H, W); weight: (O, C, kh, kw); stride, padding: whole numbers, the same along both sides, zeros for
    padding; grad_out (N, O, H', W'): the gradient of a loss with respect to what came out, H' = (H + 2 padding - kh) //
    stride + 1. Expected are the gradients with respect to x, weight and bias, each of the shape of its own. Raises
    CheckFailed, which says what is wrong.
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
        "one number in, one weight, one number out: out = weight * x + bias; "
        "what is its derivative with respect to each of the three, times what comes from above?",
    )
    yield _conv2d(
        rng,
        (1, 1, 2, 3),
        (1, 1, 1),
        "the same weight and the same bias were used at every place of the "
        "map: their gradients are sums over all places",
    )
    yield _conv2d(
        rng,
        (1, 2, 1, 1),
        (3, 1, 1),
        "every channel of the input goes into every filter: its gradient is a "
        "sum over the filters, and weight[o, c] belongs to filter o and channel c",
    )
    yield _conv2d(
        rng,
        (3, 2, 2, 1),
        (2, 1, 1),
        "the filters are shared by all images of the batch: their gradients "
        "are sums over the images, while each image has a gradient of its own",
    )
    yield _conv2d(
        rng,
        (1, 1, 3, 3),
        (1, 3, 3),
        "here the filter lies on the whole map, and does not get turned round: "
        "x[i, j] met weight[i, j], so x[i, j] hears from weight[i, j], and weight[i, j] from x[i, j]",
    )
    yield _conv2d(
        rng,
        (1, 1, 4, 5),
        (1, 3, 3),
        "windows overlap: a number that lies in several of them hears from each, and what it hears adds up",
    )
    yield _conv2d(
        rng,
        (1, 2, 4, 6),
        (2, 2, 3),
        "neither map nor filter is square here: rows go with the filter's height, columns with its width",
    )
    yield _conv2d(
        rng,
        (1, 1, 3, 3),
        (1, 3, 3),
        "with padding, windows reach over the border: what they send to the "
        "zeros out there is lost, and the gradient has the shape of x",
        padding=1,
    )
    yield _conv2d(
        rng,
        (1, 1, 3, 4),
        (2, 1, 1),
        "padding may be wider than the filter needs: the zeros have no gradient, but the bias has one from there, too",
        padding=2,
    )
    yield _conv2d(
        rng,
        (1, 1, 4, 6),
        (1, 2, 2),
        "with a stride, window (i, j) begins at row i * stride, column j * stride",
        stride=2,
    )
    yield _conv2d(
        rng,
        (1, 1, 6, 5),
        (1, 3, 3),
        "the last rows or columns lie in no window, for the stride steps over "
        "them: their gradient is 0, and the gradient still has the shape of x",
        stride=2,
    )
    yield _conv2d(
        rng,
        (2, 2, 6, 7),
        (2, 3, 3),
        "stride and padding together: windows begin at i * stride - padding",
        stride=2,
        padding=1,
    )
    whole = _conv2d(
        rng,
        (1, 2, 3, 3),
        (2, 2, 2),
        "whole numbers are numbers, too; a gradient of maps that are whole need not be whole",
    )
    yield Case(
        {**whole.arguments, "x": rng.integers(-4, 5, (1, 2, 3, 3)), "weight": rng.integers(-4, 5, (2, 2, 2, 2))},
        whole.hint,
    )
    single = _conv2d(rng, (1, 2, 4, 4), (2, 3, 3), "maps come as float32 from a net", padding=1)
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
            "maps as they come: choose one number of "
            "the gradient that is wrong, and list the windows that its place lies in",
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
    """Maps of a shape (N, C, H, W), and `filters` (O, kh, kw)."""
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


def top_down(function: Function, seed: int | None = None) -> None:
    """Nothing where `function(finer, coarser)` gives the finer level plus the coarser one, enlarged to its size.

    finer: (N, C, H, W); coarser: (N, C, h, w), half as large, where H and W may be odd. It is enlarged by nearest
    neighbours: row i of H shows row floor(i * h / H) of the coarser level, and columns alike. What comes out has the
    shape of the finer level. Raises CheckFailed, which says what is wrong.
    """
    run("top_down", function, _top_down_of, _top_down_cases(np.random.default_rng(seed)), rows=(("finer", "coarser"),))


def _top_down_of(finer: np.ndarray, coarser: np.ndarray) -> np.ndarray:
    height, width = finer.shape[2:]
    return finer + F.interpolate(Tensor(np.asarray(coarser, np.float64)), (height, width)).data


def _top_down_cases(rng: np.random.Generator) -> Iterator[Case]:
    yield _levels(
        rng, (1, 1), (1, 1), (1, 1), "both levels have one place each: nothing is enlarged, and the two are added"
    )
    yield _levels(rng, (1, 1), (2, 2), (1, 1), "the coarser level's one number goes to every place of the finer one")
    yield _levels(
        rng,
        (1, 1),
        (4, 4),
        (2, 2),
        "each number of the coarser level covers two by two neighbours of the "
        "finer one, unchanged: nothing is blended, and no place is left out",
    )
    yield _levels(rng, (1, 1), (4, 6), (2, 3), "the levels need not be square: rows go with rows, columns with columns")
    yield _levels(
        rng, (2, 3), (4, 2), (2, 1), "each channel of each image is enlarged for itself, along its last two axes"
    )
    yield _levels(
        rng,
        (1, 1),
        (3, 4),
        (2, 2),
        "an odd height: the coarser level was rounded up, so twice its height "
        "is one row more than the finer has; and what comes out has the finer level's size",
    )
    yield _levels(
        rng,
        (1, 1),
        (4, 5),
        (2, 3),
        "an odd width: the coarser level was rounded up, so twice its width is "
        "one column more than the finer has; and what comes out has the finer level's size",
    )
    height, width = (2 * rng.integers(3, 6, 2) - 1).tolist()
    yield _levels(
        rng,
        (1, 1),
        (height, width),
        ((height + 1) // 2, (width + 1) // 2),
        "odd sides: row i shows row "
        "floor(i * h / H); write these down for every i, and mind that nothing is rounded up, nor moved by "
        "half a row",
    )
    yield _levels(
        rng,
        (1, 1),
        (5, 7),
        (2, 3),
        "odd sides of which the coarser level was rounded down: here twice its "
        "side is too short, and row i shows row floor(i * h / H) all the same, for which the ratio of the "
        "sides counts and not the number 2",
    )
    yield Case(
        {"finer": rng.integers(0, 9, (1, 2, 4, 4)), "coarser": _eighths(rng, (1, 2, 2, 2)) + 0.125},
        "whole numbers are numbers, too; the sum with others is not whole",
    )
    yield Case(
        {
            "finer": _eighths(rng, (1, 2, 3, 3)).astype(np.float32),
            "coarser": _eighths(rng, (1, 2, 2, 2)).astype(np.float32),
        },
        "maps come as float32 from a net",
    )
    yield _levels(
        rng,
        (0, 2),
        (3, 4),
        (2, 2),
        "no images at all are an ordinary input: nothing comes out, in the shape of the finer level",
    )
    for _ in range(5):
        n, channels, h, w = rng.integers(1, 5, 4).tolist()
        size = (2 * h + int(rng.integers(-1, 2)), 2 * w + int(rng.integers(-1, 2)))
        yield _levels(
            rng,
            (n, channels),
            size,
            (h, w),
            "levels as they come: write down which row and which column of "
            "the coarser level every place of the finer one shows",
        )


def _levels(
    rng: np.random.Generator, images: tuple[int, int], finer: tuple[int, int], coarser: tuple[int, int], hint: str
) -> Case:
    """Two levels of the same (N, C) `images`, each of its own size; no sum of their numbers is 0."""
    between_eighths = _eighths(rng, (*images, *coarser)) + 1 / 16
    return Case({"finer": _eighths(rng, (*images, *finer)), "coarser": between_eighths}, hint)


def _eighths(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Numbers of either sign that float32 holds exactly, none of them 0, 1 or -1; sizes are distinct."""
    count = int(np.prod(shape))
    sizes = rng.permutation(np.delete(np.arange(max(count, 40) + 2), [0, 8]))[:count]
    return (sizes * rng.choice([-1, 1], count) / 8).reshape(shape)

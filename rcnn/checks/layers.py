"""Checks of backbone operations: the gradients of a convolution, and the top-down sum of the pyramid."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from rcnn._ext.dispatch import original
from rcnn.checks import _inputs
from rcnn.checks._engine import Case, Function, generator_of, run
from rcnn.nn import Tensor
from rcnn.nn import functional as F

# sides of a finer and a coarser map, where i * (h / H) or i / (H / h) is slightly too small
UNEVEN = (((46, 36), (26, 28)), ((36, 46), (28, 26)))

NEAREST = (
    "The number i * h / H need not be a whole number. Row i of the enlarged map is row floor(i * h / H) of the coarser "
    "level: round down, not up and not to the nearest whole number."
)
ONE_FACTOR = (
    "The two axes have different factors, because the sides may be odd. Row i of the enlarged map is row floor(i * h / "
    "H), and column j is column floor(j * w / W)."
)
Index = Callable[[np.ndarray, int, int, int, int], np.ndarray]  # from i, h, H, w, W to rows of the coarser level

# ---------------------------------------------------------------------- convolution


@original
def conv2d_backward(function: Function, seed: int | None = None) -> None:
    """Raise CheckFailed unless `function` returns the three gradients of a convolution.

    Parameters
    ----------
    function : callable
        ``function(grad_out, x, weight, stride, padding)``. `x` (N, C, H, W) is the input: N images with C channels.
        `weight` (O, C, kh, kw) contains the O filters. `grad_out` (N, O, H', W') is the gradient of a loss with respect
        to the output. `stride` and `padding` are integers that apply to both axes. The function returns the gradients
        with respect to x, weight and bias, each with the shape of that array. The convolution does not flip its filters
        (it is a cross-correlation). It pads with zeros and adds a bias of shape (O,). The output height is H' = (H + 2
        padding - kh) // stride + 1, and the output width is computed in the same way.
    seed : int, optional
        Seed for the random inputs. Without it, every call uses new inputs.

    Raises
    ------
    CheckFailed
        If any result is wrong. The message shows a hint and the smallest failing input that was found.
    TypeError
        If `function` is not callable.
    """
    run(
        "conv2d_backward",
        function,
        _conv2d_gradients,
        _conv2d_cases(generator_of(seed)),
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
        "There is one input element, one weight and one output element: out = weight * x + bias. What is the "
        "derivative of out with respect to x, to weight and to bias? Multiply each of them by the incoming gradient.",
    )
    yield _conv2d(
        rng,
        (1, 1, 2, 3),
        (1, 1, 1),
        "The map has H rows and W columns, also a last row and a last column. The same weight and bias are used at "
        "every position of the map, so their gradients are sums over all positions.",
    )
    yield _conv2d(
        rng,
        (1, 2, 1, 1),
        (3, 1, 1),
        "Every filter reads every channel of the input, so the gradient of a channel is a sum over the filters. "
        "weight[o, c] belongs to filter o and channel c.",
    )
    yield _conv2d(
        rng,
        (3, 2, 2, 1),
        (2, 1, 1),
        "All images of the batch share the filters, so the gradients of the filters are sums over the images. The "
        "gradient of x is separate for each image.",
    )
    yield _conv2d(
        rng,
        (1, 1, 3, 3),
        (1, 3, 3),
        "Here the filter covers the whole map and is not flipped: x[i, j] is multiplied by weight[i, j] and by no "
        "other weight. The gradient of x[i, j] therefore contains weight[i, j] alone, and the gradient of weight[i, j] "
        "contains x[i, j] alone. If you use slices, look at both of their ends.",
    )
    yield _conv2d(
        rng,
        (1, 1, 4, 5),
        (1, 3, 3),
        "Windows overlap. An element that lies in several windows receives a gradient from each of them, and these "
        "gradients add up.",
    )
    yield _conv2d(
        rng,
        (1, 2, 4, 6),
        (2, 2, 3),
        "Neither the map nor the filter is square here. The height of the filter belongs to the rows, and its width "
        "to the columns.",
    )
    yield _conv2d(
        rng,
        (1, 1, 3, 3),
        (1, 3, 3),
        "With padding, windows extend beyond the border. Drop the gradient of the padded zeros, so that the result "
        "has the shape of x.",
        padding=1,
    )
    yield _conv2d(
        rng,
        (1, 1, 3, 4),
        (2, 1, 1),
        "The padding may be wider than the filter needs. The padded zeros have no gradient, but the bias receives a "
        "gradient from their positions, too.",
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
        "The last rows or columns lie in no window, because the stride skips them. Their gradient is 0, and the "
        "result still has the shape of x.",
        stride=2,
    )
    yield _conv2d(
        rng,
        (2, 2, 6, 7),
        (2, 3, 3),
        "With a stride and padding, window (i, j) begins at row i * stride - padding, column j * stride - padding.",
        stride=2,
        padding=1,
    )
    whole = _conv2d(
        rng,
        (1, 2, 3, 3),
        (2, 2, 2),
        "Integers are valid input, but their gradient need not be an integer.",
    )
    yield Case(
        {**whole.arguments, "x": rng.integers(-4, 5, (1, 2, 3, 3)), "weight": rng.integers(-4, 5, (2, 2, 2, 2))},
        whole.hint,
    )
    for name in ("x", "grad_out", "weight"):
        zeros = _conv2d(
            rng,
            (1, 2, 3, 3),
            (2, 2, 2),
            f"All elements of `{name}` are 0. The gradients that are multiplied by it are 0, too, but not the others. "
            f"{_inputs.ZEROS}",
        )
        yield Case({**zeros.arguments, name: np.zeros_like(zeros.arguments[name])}, zeros.hint)
    single = _conv2d(rng, (1, 2, 4, 4), (2, 3, 3), "A network returns feature maps as float32.", padding=1)
    yield Case(
        {
            name: value.astype(np.float32) if isinstance(value, np.ndarray) else value
            for name, value in single.arguments.items()
        },
        single.hint,
    )
    for n, channels, filters, size, kernel in (
        (2, 2, 2, (5, 5), (2, 2)),
        (2, 3, 2, (7, 4), (3, 2)),
        (3, 2, 3, (4, 8), (1, 3)),
    ):
        for stride, padding in ((1, 1), (2, 0), (3, 2)):
            yield _conv2d(
                rng,
                (n, channels, *size),
                (filters, *kernel),
                "There are several images, channels and filters, and their numbers may be equal. Look at each axis: "
                "grad_out is (image, filter, row, column), weight is (filter, channel, row, column).",
                stride=stride,
                padding=padding,
            )
    for _ in range(2):
        yield _conv2d(
            rng,
            (1, 2, 5, 4),
            (3, 2, 2),
            "Maps and filters have the shapes of an earlier call, but other numbers. Do not keep an earlier result.",
            stride=2,
            padding=1,
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
    """Return a case with maps of `shape` (N, C, H, W) and filters of size `filters` (O, kh, kw)."""
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
    """Raise CheckFailed unless `function` enlarges the coarser level and adds it to the finer level.

    Parameters
    ----------
    function : callable
        ``function(finer, coarser)``. The arguments are two pyramid levels of N images with C channels: `finer` has
        shape (N, C, H, W), and `coarser` has shape (N, C, h, w). The sides h and w are about half of H and W, which may
        be odd. The function enlarges the coarser level to H rows and W columns, and returns its sum with the finer
        level, (N, C, H, W). The coarser level is enlarged by nearest-neighbour interpolation: row i of the enlarged map
        is row floor(i * h / H) of the coarser level, and its columns are chosen in the same way.
    seed : int, optional
        Seed for the random inputs. Without it, every call uses new inputs.

    Raises
    ------
    CheckFailed
        If any result is wrong. The message shows a hint and the smallest failing input that was found.
    TypeError
        If `function` is not callable.

    References
    ----------
    Lin et al., "Feature Pyramid Networks for Object Detection", 2017, section 3.
    """
    run(
        "top_down",
        function,
        _top_down_of,
        _top_down_cases(generator_of(seed)),
        rows=(("finer", "coarser"),),
        about_shapes=True,
        mistakes=[
            (_enlarged(lambda i, h, H, w, W: np.rint(i * h / H)), NEAREST),
            (_enlarged(lambda i, h, H, w, W: np.floor(i * h / H + 0.5)), NEAREST),
            (_enlarged(lambda i, h, H, w, W: np.ceil(i * h / H)), NEAREST),
            (_enlarged(lambda i, h, H, w, W: i * h // H, lambda j, h, H, w, W: j * h // H), ONE_FACTOR),
            (_enlarged(lambda i, h, H, w, W: i * w // W, lambda j, h, H, w, W: j * w // W), ONE_FACTOR),
        ],
    )


def _enlarged(rows: Index, columns: Index | None = None) -> Function:
    """Return a function like `top_down` with these rows and columns, as far as the coarser level has them.

    Without `columns`, a column has the same rule as a row.
    """

    def top_down(finer: np.ndarray, coarser: np.ndarray) -> np.ndarray:
        (height, width), (h, w) = finer.shape[2:], coarser.shape[2:]
        below = rows(np.arange(height), h, height, w, width)
        if columns is None:
            across = rows(np.arange(width), w, width, h, height)
        else:
            across = columns(np.arange(width), h, height, w, width)
        i, j = np.clip(below, 0, h - 1).astype(int), np.clip(across, 0, w - 1).astype(int)
        return np.asarray(finer + coarser[:, :, i[:, None], j])

    return top_down


def _top_down_of(finer: np.ndarray, coarser: np.ndarray) -> np.ndarray:
    height, width = finer.shape[2:]
    return finer + F.interpolate(Tensor(np.asarray(coarser, np.float64)), (height, width)).data


def _top_down_cases(rng: np.random.Generator) -> Iterator[Case]:
    yield _levels(
        rng, (1, 1), (1, 1), (1, 1), "Both levels have one position, so nothing is enlarged. Add the two levels."
    )
    yield _levels(
        rng,
        (1, 1),
        (2, 2),
        (1, 1),
        "The single element of the coarser level is added to every position of the finer level.",
    )
    yield _levels(
        rng,
        (1, 1),
        (4, 4),
        (2, 2),
        "Each element of the coarser level is added, unchanged, to 2 x 2 positions of the finer level. No elements "
        "are averaged, and no position is left out.",
    )
    yield _levels(
        rng, (1, 1), (4, 6), (2, 3), "The levels need not be square: rows belong to rows, and columns to columns."
    )
    yield _levels(
        rng, (2, 3), (4, 2), (2, 1), "Each channel of each image is enlarged separately, along its last two axes."
    )
    yield _levels(
        rng,
        (1, 1),
        (3, 4),
        (2, 2),
        "The height of the finer level is odd. The coarser level was rounded up, so twice its height is one row too "
        "many. The result has the size of the finer level.",
    )
    yield _levels(
        rng,
        (1, 1),
        (4, 5),
        (2, 3),
        "The width of the finer level is odd. The coarser level was rounded up, so twice its width is one column too "
        "many. The result has the size of the finer level.",
    )
    height, width = (2 * rng.integers(3, 6, 2) - 1).tolist()
    yield _levels(
        rng,
        (1, 1),
        (height, width),
        ((height + 1) // 2, (width + 1) // 2),
        "The sides are odd. Row i of the enlarged map is row floor(i * h / H) of the coarser level. Write down this "
        "index for every i. Do not round it up, and do not shift it by half a row.",
    )
    yield _levels(
        rng,
        (1, 1),
        (5, 7),
        (2, 3),
        "The sides are odd, and the coarser level was rounded down, so twice its side is too short here. Row i of the "
        "enlarged map is still row floor(i * h / H) of the coarser level: use the ratio of the sides, not the number "
        "2.",
    )
    yield Case(
        {"finer": rng.integers(0, 9, (1, 2, 4, 4)), "coarser": _eighths(rng, (1, 2, 2, 2)) + 0.125},
        "Integers are valid input, but their sum with floats need not be an integer.",
    )
    yield Case(
        {
            "finer": _eighths(rng, (1, 2, 3, 3)).astype(np.float32),
            "coarser": _eighths(rng, (1, 2, 2, 2)).astype(np.float32),
        },
        "A network returns feature maps as float32.",
    )
    for name in ("finer", "coarser"):
        zeros = _levels(rng, (1, 2), (4, 4), (2, 2), f"One of the levels contains zeros only. {_inputs.ZEROS}")
        yield Case({**zeros.arguments, name: np.zeros_like(zeros.arguments[name])}, zeros.hint)
    yield _levels(
        rng,
        (0, 2),
        (3, 4),
        (2, 2),
        "Zero images are valid input: the result is an empty array with the shape of the finer level.",
    )
    for images, finer, coarser in (((2, 2), (5, 9), (3, 5)), ((3, 2), (8, 3), (4, 2)), ((2, 4), (7, 7), (4, 4))):
        yield _levels(
            rng,
            images,
            finer,
            coarser,
            "There are several images and channels, and the sides may be equal. Enlarge the last two axes only.",
        )
    yield _levels(
        rng,
        (1, 2),
        (7, 10),
        (2, 3),
        "The sides are more than twice as long here. Row i of the enlarged map is row floor(i * h / H) of the coarser "
        "level: use the ratio of the sides, not the number 2.",
    )
    for _ in range(5):
        n, channels, h, w = rng.integers(1, 5, 4).tolist()
        size = (2 * h + int(rng.integers(-1, 2)), 2 * w + int(rng.integers(-1, 2)))
        yield _levels(
            rng,
            (n, channels),
            size,
            (h, w),
            "These levels are random. For every position of the finer level, write down the row and the column of the "
            "coarser level that are added to it.",
        )
    for finer, coarser in UNEVEN:
        yield _levels(
            rng,
            (1, 1),
            finer,
            coarser,
            "Compute floor(i * h / H) with integers. A quotient of floats, such as h / H, is rounded, and its product "
            "with i may be slightly below a whole number.",
        )
    for finer, coarser in (((2, 300), (1, 150)), ((300, 2), (150, 1))):
        yield _levels(
            rng, (1, 1), finer, coarser, "A side may be longer than 255. An index needs a larger type than uint8."
        )


def _levels(
    rng: np.random.Generator, images: tuple[int, int], finer: tuple[int, int], coarser: tuple[int, int], hint: str
) -> Case:
    """Return a case of two levels for `images` (N, C). No two elements of the two levels have the sum 0."""
    between_eighths = _eighths(rng, (*images, *coarser)) + 1 / 16
    return Case({"finer": _eighths(rng, (*images, *finer)), "coarser": between_eighths}, hint)


def _eighths(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Generate random numbers that float32 represents exactly. Their absolute values differ, and none is 0 or 1."""
    count = int(np.prod(shape))
    sizes = rng.permutation(np.delete(np.arange(max(count, 40) + 2), [0, 8]))[:count]
    return (sizes * rng.choice([-1, 1], count) / 8).reshape(shape)

"""Measure the speed-up of each optimisation separately, and print the smaller tables of docs/speed.md.

    python benchmarks/tricks.py

Each line of the first table compares the same work without and with one technique (a "trick"). The two versions run
alternately in one process, on one core unless the line states otherwise. The line shows the time of the fastest call of
each version and the ratio of the two times; roofline.py explains why the fastest call counts. The script also prints
the rounding errors of Winograd's algorithms and the peak speed at each SIMD level. It requires only rcnn.
"""

from __future__ import annotations

import argparse
import math
import mmap
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from speed import convolutions, inputs, machine, record
from speed.inputs import Convolution
from speed.processors import processors
from speed.report import number, table
from speed.timing import Contestant, race

import rcnn
from rcnn import _ext
from rcnn._ext import backend, memory
from rcnn.nn import Parameter, Tensor, functional, fused, no_grad

Work = Callable[[], Any]

PLACES = 4096  # the number of pixels to read from a feature map
FINEST, MIDDLE = (200, 304), (50, 76)  # (height, width) of two levels of a feature pyramid
CUSTOMARY = (0.0, 1.0, -1.0, 2.0, -2.0)  # points of F(4x4, 3x3) in the paper of Lavin and Gray
OURS = (0.0, 0.5**0.5, -(0.5**0.5), 2**0.5, -(2**0.5))  # points of F(4x4, 3x3) in rcnn
PEAK = "import roofline; print(roofline.peak(1))"


@dataclass(frozen=True)
class Trick:
    """A piece of work without and with a technique, as two functions, and its name in the table."""

    name: str
    without: Work
    with_it: Work


# ---------------------------------------------------------------- the tricks


def tricks() -> Iterator[Trick]:
    """Yield the tricks one by one, because the arrays of each trick need hundreds of megabytes."""
    yield picking_pixels()
    yield from feeding_convolutions()
    yield leaving_windows()
    yield from fewer_multiplications()
    yield finishing_in_the_same_pass()
    yield from using_memory_again()
    yield one_pool_at_a_time()


def picking_pixels() -> Trick:
    """Return the trick of reading all channels of random pixels, as RoIAlign does for its samples."""
    last = np.ascontiguousarray(features(*FINEST)[0].transpose(1, 2, 0))  # (H, W, C)
    first = np.ascontiguousarray(last.transpose(2, 0, 1))  # (C, H, W)
    rng = np.random.default_rng(0)
    y, x = rng.integers(FINEST[0], size=PLACES), rng.integers(FINEST[1], size=PLACES)
    return Trick(
        f"256 channels of {PLACES:,} pixels, channels last instead of channels first",
        lambda: first[:, y, x],
        lambda: last[y, x],
    )


def feeding_convolutions() -> Iterator[Trick]:
    """Yield convolutions of feature maps in both memory layouts; channels-first maps must first be copied."""
    for kernel in (1, 3):
        layer = Convolution(256, 64, kernel, 1, *FINEST)
        x, weight = convolutions.arrays(layer)
        yield Trick(
            f"convolution {layer}, channels last instead of channels first",
            convolution(layer, np.ascontiguousarray(x), weight),
            convolution(layer, x, weight),
        )


def leaving_windows() -> Trick:
    """Return the trick of a convolution without copies: the reference copies the windows, and the kernel does not."""
    layer = Convolution(256, 256, 3, 1, *MIDDLE)
    work = convolution(layer, *convolutions.arrays(layer))
    return Trick(
        f"convolution {layer}, direct kernel instead of im2col and BLAS",
        inside(partial(rcnn.use_backend, "numpy"), work),
        inside(partial(rcnn.set_conv_algorithm, "direct"), work),
    )


def fewer_multiplications() -> Iterator[Trick]:
    """Yield a convolution with each of Winograd's algorithms instead of the direct algorithm."""
    layer = Convolution(256, 256, 3, 1, *FINEST)
    work = convolution(layer, *convolutions.arrays(layer))
    for name in ("winograd2", "winograd4"):
        yield Trick(
            f"convolution {layer}, {name} instead of direct",
            inside(partial(rcnn.set_conv_algorithm, "direct"), work),
            inside(partial(rcnn.set_conv_algorithm, name), work),
        )


def finishing_in_the_same_pass() -> Trick:
    """Return the trick of fusing the end of a bottleneck block: batch norm, shortcut and ReLU."""
    layer = Convolution(64, 256, 1, 1, *FINEST)
    x, weight = convolutions.arrays(layer)
    maps, filters, shortcut = Tensor(x), Parameter(weight), Tensor(features(*FINEST, seed=1))
    scale, bias = np.full(256, 0.5, np.float32), Tensor(np.ones(256, np.float32))

    def separately() -> Tensor:
        out = functional.conv2d(maps, filters)
        out = functional.batch_norm(out, zeros, ones, Tensor(scale), bias, eps=0.0)
        return functional.relu(out + shortcut)

    zeros, ones = np.zeros(256, np.float32), np.ones(256, np.float32)
    return Trick(
        f"convolution {layer}, with batch norm, shortcut and ReLU in one pass",
        inside(no_grad, separately),
        inside(no_grad, fused(separately)),
    )


def using_memory_again() -> Iterator[Trick]:
    """Yield the filling of feature maps with zeros, in reused memory instead of two kinds of new memory.

    Linux has pages of 4 KiB by default. NumPy requests pages of 2 MiB, which Linux provides if its settings allow it.
    """
    shape = (1, *FINEST, 256)
    size = 4 * math.prod(shape)

    def fill_again() -> None:
        memory.empty(shape).fill(0)

    yield Trick(
        f"zeros written to {size / 1e6:.0f} MB, reused memory instead of np.empty",
        lambda: np.empty(shape, np.float32).fill(0),
        fill_again,
    )
    yield Trick(
        f"zeros written to {size / 1e6:.0f} MB, reused memory instead of new pages of 4 KiB",
        lambda: np.frombuffer(small_pages(size), np.float32).fill(0),
        fill_again,
    )


def small_pages(size: int) -> mmap.mmap:
    """Return new private memory, as `np.empty` does, but on pages of the default size."""
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_NOHUGEPAGE"):  # on Linux
        memory.madvise(mmap.MADV_NOHUGEPAGE)
    return memory


def one_pool_at_a_time() -> Trick:
    """Return the trick of using one thread pool at a time when a kernel and a BLAS matrix product alternate."""
    layer = Convolution(256, 256, 3, 1, *MIDDLE)
    work, matrix = convolution(layer, *convolutions.arrays(layer)), np.ones((256, 256), np.float32)

    def by_turns() -> None:
        for _ in range(4):
            work()
            matrix @ matrix

    on_all = partial(rcnn.set_num_threads, processors())
    return Trick(
        f"kernels and BLAS alternately on {processors()} cores, one thread pool instead of two",
        inside(on_all, by_turns),
        inside(on_all, inside(backend.one_pool, by_turns)),
    )


def features(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Return random features (1, 256, height, width), stored channels last."""
    return inputs.feature_maps(1, 256, height, width, seed)


def convolution(layer: Convolution, x: np.ndarray, weight: np.ndarray) -> Work:
    """Return a function that computes the convolution `layer` of `x` with `weight`."""
    return partial(convolutions.convolving(layer, x, weight).call, None)


def inside(block: Callable[[], Any], work: Work) -> Work:
    """Return a function that runs `work` inside `with block():`."""

    def within() -> Any:
        with block():
            return work()

    return within


# ---------------------------------------------------------------- rounding


def winograd_matrices(points: Sequence[float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return Winograd's matrices for n - 1 points and infinity: inputs (n, n), weights (n, 3), outputs (n - 2, n).

    Let d be n inputs and g be 3 weights. Then element i of outputs @ ((weights @ g) * (inputs @ d)) is the sum of
    d[i + k] * g[k] over k, for i = 0 .. n - 3. rcnn/_ext/_winograd.h explains the rows of the matrices.
    """
    n = len(points) + 1
    inputs_, weights, outputs = np.zeros((n, n)), np.zeros((n, 3)), np.zeros((n - 2, n))
    for row, point in enumerate(points):
        others = [other for other in points if other != point]
        inputs_[row, : n - 1] = np.poly(others)[::-1]  # coefficients, starting with the constant
        weights[row] = np.power(point, range(3)) / np.prod(np.subtract(point, others))
        outputs[:, row] = np.power(point, range(n - 2))
    inputs_[-1] = np.poly(points)[::-1]
    weights[-1, 2] = outputs[-1, -1] = 1
    return inputs_, weights, outputs


def by_matrices(x: np.ndarray, weight: np.ndarray, points: Sequence[float], dtype: Any = np.float32) -> np.ndarray:
    """Return the zero-padded 3x3 convolution (O, H, W) of x (C, H, W) with weight (O, C, 3, 3), computed in `dtype`.

    C and O are the numbers of channels and filters. H and W must be multiples of the tile size, `len(points) - 1`.
    """
    into, of_weights, back = (matrix.astype(dtype) for matrix in winograd_matrices(points))
    side, size = back.shape
    channels, height, width = x.shape
    padded = np.pad(x.astype(dtype), ((0, 0), (1, 1), (1, 1)))
    tiles = np.lib.stride_tricks.sliding_window_view(padded, (size, size), (1, 2))[:, ::side, ::side]
    tiles = into @ tiles @ into.T  # (C, rows, columns, size, size)
    filters = of_weights @ weight.astype(dtype) @ of_weights.T  # (O, C, size, size)
    products = filters.transpose(2, 3, 0, 1) @ tiles.transpose(3, 4, 0, 1, 2).reshape(size, size, channels, -1)
    sums = products.transpose(2, 3, 0, 1)  # (O, rows * columns, size, size)
    out = (back @ sums @ back.T).reshape(len(weight), height // side, width // side, side, side)
    return out.transpose(0, 1, 3, 2, 4).reshape(len(weight), height, width)


def errors(height: int = 48, width: int = 76, channels: int = 256) -> dict[str, tuple[float, float]]:
    """Return {algorithm: (largest, root mean square) error}, relative to the largest value of the float64 result."""
    layer = Convolution(channels, channels, 3, 1, height, width)
    x, weight = convolutions.arrays(layer)
    exact = convolution(layer, x.astype(np.float64), weight.astype(np.float64))().data[0]
    found = {
        name: inside(partial(rcnn.set_conv_algorithm, name), convolution(layer, x, weight))().data[0]
        for name in ("direct", "winograd2", "winograd4")
    }
    found["F(4x4, 3x3) in NumPy, points of winograd4"] = by_matrices(x[0], weight, OURS)
    found["F(4x4, 3x3) in NumPy, points 0, +-1, +-2"] = by_matrices(x[0], weight, CUSTOMARY)
    return {name: difference(out, exact) for name, out in found.items()}


def difference(out: np.ndarray, exact: np.ndarray) -> tuple[float, float]:
    """Return the (largest, root mean square) difference, relative to the largest value of `exact`."""
    apart, largest = np.abs(out - exact), np.abs(exact).max()
    return float(apart.max() / largest), float(np.sqrt((apart**2).mean()) / largest)


# ---------------------------------------------------------------- threads and levels


def same_on_any_threads(most: int) -> bool:
    """Return True if every convolution algorithm gives bit-identical results on 1 to `most` threads."""
    layer = Convolution(64, 64, 3, 1, *MIDDLE)
    work = convolution(layer, *convolutions.arrays(layer))
    for name in ("direct", "winograd2", "winograd4"):
        with rcnn.set_conv_algorithm(name):
            answers = [inside(partial(rcnn.set_num_threads, n), work)().data for n in range(1, most + 1)]
        if not all(np.array_equal(answer, answers[0]) for answer in answers):
            return False
    return True


def peaks_by_level() -> dict[str, float]:
    """Return {SIMD level: peak FLOP/s of one core with the kernels of this level}; each level runs in a new process."""
    found = {}
    for level in _ext.usable_levels():
        output = subprocess.run(
            [sys.executable, "-c", PEAK],
            cwd=Path(__file__).parent,
            check=True,
            text=True,
            capture_output=True,
            env={**os.environ, "RCNN_SIMD": level},
        ).stdout
        found[level] = float(output)
    return found


# ---------------------------------------------------------------- the command


def compare(trick: Trick, budget: float) -> tuple[float, float]:
    """Return the seconds of the fastest call without the trick and of the fastest call with it."""
    contestants = [Contestant("without", lambda _: trick.without()), Contestant("with", lambda _: trick.with_it())]
    samples, _ = race(contestants, budget, 8)
    return min(samples["without"]), min(samples["with"])


def tricks_table(found: Mapping[str, tuple[float, float]]) -> str:
    """Return a Markdown table with a line for each trick, from its seconds (without, with)."""
    rows = [["work and technique", "without it, ms", "with it, ms", "speed-up"]]
    rows += [
        [name, number(1000 * without), number(1000 * with_it), f"{without / with_it:.2f}"]
        for name, (without, with_it) in found.items()
    ]
    return table(rows, right=(1, 2, 3))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print all tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1, help="unless the line states another number (default: 1)")
    parser.add_argument("--budget", type=float, default=3.0, metavar="SECONDS", help="time per trick (default: 3)")
    parser.add_argument("--results", action="store_true", help="write the tables to docs/results.json")
    options = parser.parse_args(arguments)
    tables: dict[str, str] = {}
    with rcnn.set_num_threads(options.threads):
        tables["tricks"] = tricks_table({trick.name: compare(trick, options.budget) for trick in tricks()})
    print(tables["tricks"])
    rows = [[name, f"{most:.1e}", f"{usual:.1e}"] for name, (most, usual) in errors().items()]
    tables["rounding"] = table([["algorithm", "largest error", "root mean square error"], *rows], right=(1, 2))
    print("\n" + tables["rounding"])
    same = "equal to the last bit" if same_on_any_threads(processors()) else "not equal"
    print(f"\nResults of the convolutions on 1 to {processors()} threads: {same}.\n")
    levels = [[level, f"{found / 1e9:.0f}"] for level, found in peaks_by_level().items()]
    tables["levels"] = table([["level", "peak of one core, GFLOP/s"], *levels], right=(1,))
    print(tables["levels"])
    if options.results:
        entries = {name: record.table(text, "python benchmarks/tricks.py") for name, text in tables.items()}
        record.update("tricks", entries, machine.line())


if __name__ == "__main__":
    main()

"""Measure whether arithmetic or memory limits each layer of the detector, and print the tables of docs/speed.md.

    python benchmarks/roofline.py                             all tables
    python benchmarks/roofline.py --only profile              only this table
    python benchmarks/roofline.py --plot docs/roofline.png    all tables and the plot

A roofline (Williams, Waterman and Patterson, "Roofline: an insightful visual performance model", 2009) compares the
speed of a layer with two limits of the machine: its peak operations per second and its memory bandwidth. The limits
show what is possible, and other processes slow some calls down. Therefore every number comes from the fastest of many
calls, and the layers run on one core by default. (run.py, which compares rcnn with other libraries, uses medians.) The
script requires only rcnn.
"""

from __future__ import annotations

import argparse
import math
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from speed import convolutions, detector, inputs, machine, record
from speed.inputs import Convolution
from speed.processors import processors
from speed.report import number, table
from speed.rows import Settings
from speed.timing import Contestant, seconds

import rcnn
from rcnn import _ext, nms, roi, rpn
from rcnn._ext import conv as conv_kernels
from rcnn.nn import Parameter, Tensor, functional, no_grad
from rcnn.plot import style

FLOAT = 4  # bytes
KIB, MIB = 1 << 10, 1 << 20
SIZES = tuple(8 * KIB * 2**k for k in range(17))  # bytes, 8 KiB to 512 MiB
SHOWN = (32 * KIB, MIB, 16 * MIB, 512 * MIB)  # usually fit into the first, second, third cache; into none
LARGE = SHOWN[-1]
BRIEF = 256 * KIB  # bytes; for arrays up to this size, the overhead of a call would be measurable
TOGETHER = 4 * MIB  # bytes that one call processes for these arrays
PRODUCTS = (
    (2016, 512, 256),
    (4032, 640, 64),
    (8064, 256, 256),
)  # (rows, terms, columns); the blocks fit into the caches
PATIENCE = 1.0  # seconds in which calls are repeated; the fastest call counts
PASSES = 15  # the number of passes of the profile
TABLES = ("profile", "roofs", "layers")

Bytes = Mapping[int, float]  # maps the size of a working set in bytes to a bandwidth in bytes per second


# ---------------------------------------------------------------- roofs


def best(work: Callable[[], object], patience: float = PATIENCE) -> float:
    """Return the seconds of the fastest call of `work`.

    Calls are repeated until `patience` seconds have passed. The first call does not count.
    """
    contestant = Contestant("", lambda _: work())
    start, fastest = time.perf_counter(), math.inf
    seconds(contestant)  # wakes up the threads
    while math.isinf(fastest) or time.perf_counter() - start < patience:
        fastest = min(fastest, seconds(contestant))
    return fastest


def peak(threads: int, patience: float = PATIENCE) -> float:
    """Return the operations per second of a matrix product in the caches; a multiply-add counts as two operations."""
    rng = np.random.default_rng(0)
    found = 0.0
    with rcnn.set_num_threads(threads), no_grad():
        for rows, terms, columns in PRODUCTS:
            x = Tensor(rng.standard_normal((rows * threads, terms), np.float32))
            weight = Parameter(rng.standard_normal((columns, terms), np.float32))
            found = max(found, 2 * x.size * columns / best(partial(functional.linear, x, weight), patience))
    return found


def bandwidth(size: int, threads: int, patience: float = PATIENCE / 4) -> float:
    """Return the bytes per second that b += a moves (two reads, one write) if a and b together have `size` bytes."""
    count = size // (2 * FLOAT)
    total, term = np.zeros(count, np.float32), np.ones(count, np.float32)
    if size <= BRIEF and threads == 1:  # repeat the addition within one NumPy call
        rows = TOGETHER // size
        terms = np.broadcast_to(term, (rows, count))
        return 3 * FLOAT * count * (rows - 1) / best(partial(np.add.reduce, terms, axis=0, out=total), patience)
    work = partial(_ext.load("_passes").add, total, term, total, threads)
    return 3 * FLOAT * count / best(work, patience)


def bandwidths(threads: int, sizes: Sequence[int] = SIZES) -> Bytes:
    """Return {size in bytes: bandwidth in bytes per second} for the given number of threads.

    With several threads, sizes that fit into the private caches of the cores are left out.
    """
    return {size: bandwidth(size, threads) for size in sizes if threads == 1 or size >= 16 * MIB}


# ---------------------------------------------------------------- layers


def bytes_moved(layer: Convolution) -> int:
    """Return the minimum number of bytes that a layer moves: each input value, weight and output value once."""
    out = math.prod(layer.output_size)
    read = out if layer.kernel == 1 else layer.height * layer.width  # a 1x1 filter with a stride skips pixels
    return FLOAT * (
        read * layer.in_channels + out * layer.out_channels + layer.in_channels * layer.out_channels * layer.kernel**2
    )


def intensity(layer: Convolution) -> float:
    """Return the arithmetic intensity of a layer: the operations of the direct algorithm per byte moved."""
    return layer.flop / bytes_moved(layer)


def attainable(of: float, peak: float, bandwidth: float) -> float:
    """Return the operations per second that both limits allow for a layer of arithmetic intensity `of`."""
    return min(peak, of * bandwidth)


@dataclass(frozen=True)
class Point:
    """The measurement of one layer with one algorithm.

    times: how often the layer occurs in the detector. seconds: the time of one call.
    """

    layer: Convolution
    algorithm: str
    times: int
    seconds: float

    @property
    def speed(self) -> float:
        """Operations of the direct algorithm per second, even if `algorithm` needs fewer operations."""
        return self.layer.flop / self.seconds


def layer_points(threads: int, budget: float) -> list[Point]:
    """Measure each distinct convolution of the detector, directly and, if possible, with Winograd's algorithm."""
    points = []
    with rcnn.set_num_threads(threads):
        for layer, times in convolutions.SHAPES.items():
            names = ["direct", "winograd4"] if (layer.kernel, layer.stride) == (3, 1) else ["direct"]
            x, weight = convolutions.arrays(layer)
            work = partial(convolutions.convolving(layer, x, weight).call, None)
            points += [Point(layer, name, times, best(partial(by, name, work), budget)) for name in names]
    return points


def by(algorithm: str, work: Callable[[], object]) -> object:
    """Return the result of `work`, computed with the convolution algorithm `algorithm`."""
    with rcnn.set_conv_algorithm(algorithm):
        return work()


# ---------------------------------------------------------------- the profile


@dataclass
class Spent:
    """Totals over all calls of one kind of work: number, time, operations and bytes."""

    calls: int = 0
    seconds: float = 0.0
    flop: int = 0
    bytes: int = 0


class Clocks:
    """Timers for the functions that a forward pass calls, with totals for each kind of work."""

    def __init__(self) -> None:
        self.spent: dict[str, Spent] = defaultdict(Spent)

    def around(self, function: Callable[..., Any], judge: Callable[..., tuple[str, int, int]]) -> Callable[..., Any]:
        """Return `function` with a timer; `judge(result, *arguments)` returns (kind, operations, bytes) of a call."""

        def timed(*arguments: Any, **options: Any) -> Any:
            start = time.perf_counter()
            out = function(*arguments, **options)
            elapsed = time.perf_counter() - start
            kind, flop, size = judge(out, *arguments)
            spent = self.spent[kind]
            spent.calls, spent.seconds = spent.calls + 1, spent.seconds + elapsed
            spent.flop, spent.bytes = spent.flop + flop, spent.bytes + size
            return out

        return timed


def judge_convolution(
    out: np.ndarray,
    x: np.ndarray,
    weight: np.ndarray,
    scale: object,
    bias: object,
    residual: np.ndarray | None,
    relu: bool,
    stride: tuple[int, int],
    *rest: object,
) -> tuple[str, int, int]:
    """Return (kind, operations, bytes) of one call of `conv_kernels.convolve`."""
    kernel = weight.shape[2:]
    read = out[0, 0].size * len(x) * x.shape[1] if kernel == (1, 1) else x.size
    size = FLOAT * (read + weight.size + out.size + (0 if residual is None else residual.size))
    if out.shape[2:] == (1, 1):
        kind = "fully connected layers"
    else:
        kind = f"{kernel[0]}x{kernel[1]} convolutions" + (f", stride {stride[0]}" if stride != (1, 1) else "")
    return kind, 2 * out.size * weight[0].size, size


def judge_other(kind: str, *_: object) -> tuple[str, int, int]:
    """Return (kind, 0, 0): operations and bytes of these functions are not counted."""
    return kind, 0, 0


WATCHED = (  # the module that calls the function, the name of the function, and its kind of work
    (functional, "max_pool2d", "max pooling"),
    (functional, "upsample_add", "sums of pyramid levels"),
    (roi, "multiscale_roi_align", "RoIAlign"),
    (rpn, "batched_nms", "NMS"),
    (nms, "batched_nms", "NMS"),
)


def profile(model: rcnn.FasterRCNN, image: np.ndarray) -> dict[str, Spent]:
    """Run one pass from an image to its detections; return the time of each kind of work, and of "the rest"."""
    clocks = Clocks()
    with ExitStack() as stack:
        timed = clocks.around(conv_kernels.convolve, judge_convolution)
        stack.enter_context(mock.patch.object(conv_kernels, "convolve", timed))
        for module, name, kind in WATCHED:
            timed = clocks.around(getattr(module, name), partial(judge_other, kind))
            stack.enter_context(mock.patch.object(module, name, timed))
        start = time.perf_counter()
        model.predict([image])
        total = time.perf_counter() - start
    rest = total - sum(spent.seconds for spent in clocks.spent.values())
    return {**clocks.spent, "the rest": Spent(1, rest)}


def fastest(passes: Sequence[Mapping[str, Spent]]) -> dict[str, Spent]:
    """Return the fastest pass, with the kinds of work in descending order of time."""
    of = min(passes, key=lambda one: sum(spent.seconds for spent in one.values()))
    return dict(sorted(of.items(), key=lambda item: -item[1].seconds))


# ---------------------------------------------------------------- tables and plots


def profile_table(spent: Mapping[str, Spent]) -> str:
    """Return a table with a line for each kind of work and a line for the total."""
    total = sum(one.seconds for one in spent.values())
    everything = Spent(
        sum(one.calls for one in spent.values()),
        total,
        sum(one.flop for one in spent.values()),
        sum(one.bytes for one in spent.values()),
    )
    rows = [["work", "calls", "multiply-adds, 10^9", "MB", "ms", "share of the time", "GFLOP/s"]]
    for kind, one in [*spent.items(), ("all", everything)]:
        counted = [f"{one.flop / 2e9:.1f}", f"{one.bytes / 1e6:.0f}"] if one.flop else ["", ""]
        speed = f"{one.flop / one.seconds / 1e9:.0f}" if one.flop else ""
        rows.append([kind, str(one.calls), *counted, number(1000 * one.seconds), f"{one.seconds / total:.1%}", speed])
    return table(rows, right=range(1, 7))


def roofs_table(peaks: Mapping[int, float], moved: Mapping[int, Bytes]) -> str:
    """Return a table of the limits, with a line for each number of threads."""
    rows = [
        ["threads", "peak, GFLOP/s", *(f"{human(size)}, GB/s" for size in SHOWN), "FLOP/byte where the limits meet"]
    ]
    for threads, found in peaks.items():
        cells = [f"{moved[threads][size] / 1e9:.0f}" if size in moved[threads] else "" for size in SHOWN]
        rows.append([str(threads), f"{found / 1e9:.0f}", *cells, f"{found / moved[threads][LARGE]:.1f}"])
    return table(rows, right=range(7))


def layers_table(points: Sequence[Point], peak: float, bandwidth: float) -> str:
    """Return a table with a line for each layer: its limit (for the direct algorithm) and its measured speeds."""
    rows = [["layer", "times", "FLOP/byte", "limit", "direct", "of the limit", "winograd4", "share of the time"]]
    found = {(point.layer, point.algorithm): point for point in points}
    used = {point.layer: point for point in points}  # the last point of each layer: Winograd's if there is one
    total = sum(point.times * point.seconds for point in used.values())
    for layer, point in used.items():
        roof, direct = attainable(intensity(layer), peak, bandwidth), found[layer, "direct"].speed
        fewer = found.get((layer, "winograd4"))
        rows.append(
            [
                str(layer),
                str(point.times),
                number(intensity(layer)),
                f"{roof / 1e9:.0f}",
                f"{direct / 1e9:.0f}",
                f"{direct / roof:.0%}",
                f"{fewer.speed / 1e9:.0f}" if fewer else "",
                f"{point.times * point.seconds / total:.1%}",
            ]
        )
    return table(rows, right=range(1, 8))


def human(size: int) -> str:
    """Return a size in bytes as text, in KiB or MiB."""
    return f"{size // KIB} KiB" if size < MIB else f"{size // MIB} MiB"


def draw(
    points: Sequence[Point], threads: int, peaks: Mapping[int, float], moved: Mapping[int, Bytes], caption: str = ""
) -> Figure:
    """Draw the roofline with the layers below it, and the bandwidth against the size of the arrays."""
    figure = style.figure(10, 4.9)
    left, right = figure.subplots(1, 2, width_ratios=(1.5, 1))
    draw_roofline(left, points, threads, peaks, moved)
    draw_bandwidths(right, moved)
    figure.supxlabel(caption, fontsize=style.TEXT_SIZE, color=style.GREY)
    return figure


def cores(threads: int) -> str:
    """Return "one core", or "2 cores", "3 cores", ..."""
    return "one core" if threads == 1 else f"{threads} cores"


LOOKS = {
    "1x1, direct": (style.ORANGE, "s"),
    "others, direct": (style.BLUE, "o"),
    "3x3, Winograd's F(4x4, 3x3)": (style.VERMILION, "^"),
}


def look(point: Point) -> str:
    """Return the key in `LOOKS` for the marker of a point."""
    if point.algorithm != "direct":
        return "3x3, Winograd's F(4x4, 3x3)"
    return "1x1, direct" if point.layer.kernel == 1 else "others, direct"


def draw_roofline(
    ax: Axes, points: Sequence[Point], threads: int, peaks: Mapping[int, float], moved: Mapping[int, Bytes]
) -> Axes:
    """Draw the layers, and the limits for each number of threads; the limits for `threads` are solid lines."""
    style.graph(ax, "arithmetic intensity, FLOP/byte", "GFLOP/s, operations of the direct algorithm")
    ax.set(xscale="log", yscale="log")
    at = np.geomspace(0.7, 700, 400)
    for count, found in peaks.items():
        roof = [attainable(one, found, moved[count][LARGE]) / 1e9 for one in at]
        ax.plot(at, roof, color=style.INK, linewidth=style.LINE_WIDTH, linestyle="-" if count == threads else "--")
        ax.annotate(
            f"{cores(count)}: {found / 1e9:.0f}",
            (found / moved[count][LARGE], found / 1e9),
            (4, 3 if count == threads else -3),
            textcoords="offset points",
            va="bottom" if count == threads else "top",
            fontsize=style.TEXT_SIZE,
            color=style.INK,
        )
    most = 4 * peaks[threads] / 1e9
    ax.plot((at[0], at[-1]), (most, most), color=style.VERMILION, linewidth=style.THIN_LINE, linestyle=":")
    for name, (color, marker) in LOOKS.items():
        mine = [point for point in points if look(point) == name]
        ax.scatter(
            [intensity(point.layer) for point in mine],
            [point.speed / 1e9 for point in mine],
            color=color,
            marker=marker,
            s=26,
            edgecolor="white",
            linewidth=0.6,
            zorder=3,
            label=name,
        )
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())
    ax.set(xlim=(at[0], at[-1]))
    style.title(
        ax,
        f"Roofline, layers on {cores(threads)}",
        "each mark is a layer of ResNet-50-FPN; dotted: the limit for 1/4 of the operations",
    )
    style.legend_inside(ax, ax.get_legend_handles_labels()[0], "lower right")
    return ax


def draw_bandwidths(ax: Axes, moved: Mapping[int, Bytes]) -> Axes:
    """Draw the bandwidth against the size of the working set."""
    style.graph(ax, "size of both arrays together", "GB/s")
    ax.set_xscale("log", base=2)
    looks = (style.BLUE, "o"), (style.ORANGE, "s"), (style.VERMILION, "^")
    for (threads, of), (color, marker) in zip(moved.items(), looks, strict=False):
        ax.plot(
            list(of),
            [value / 1e9 for value in of.values()],
            color=color,
            marker=marker,
            markersize=4,
            linewidth=style.LINE_WIDTH,
            label=cores(threads),
        )
    marks = SIZES[::4]
    ax.set_xticks(marks, [human(size) for size in marks])
    ax.minorticks_off()
    ax.set_ylim(bottom=0)
    style.title(ax, "Caches and memory", "bytes moved by b += a")
    style.legend_inside(ax, ax.get_legend_handles_labels()[0], "upper right")
    return ax


# ---------------------------------------------------------------- the command


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the selected measurements and print their tables."""
    options = make_parser().parse_args(arguments)
    facts = machine.facts(Settings(frozenset(), options.threads, 0.0, 1, Path()))
    print("\n".join(f"- {name}: {value}" for name, value in facts.items()))
    found: dict[str, str] = {}
    if "profile" in options.only:
        model, image = detector.detector(detector.RESNET), inputs.textured_image(*inputs.IMAGE)
        with rcnn.set_num_threads(options.threads):
            model.predict([image])
            passes = [profile(model, image) for _ in range(PASSES)]
        found["profile"] = profile_table(fastest(passes))
        print(f"\n{found['profile']}")
    if {"roofs", "layers"} & set(options.only) or options.plot:
        found["roofs"] = measure_layers(options, facts)
    if options.results:
        command = "python benchmarks/roofline.py --only"
        entries = {name: record.table(text, f"{command} {name}") for name, text in found.items()}
        record.update("roofline", entries, machine.line())


def measure_layers(options: argparse.Namespace, facts: Mapping[str, str]) -> str:
    """Measure the limits and the layers, print and draw them, and return the table of the limits."""
    counts = sorted({1, options.threads, processors()})
    peaks = {threads: peak(threads) for threads in counts}
    moved = {threads: bandwidths(threads) for threads in counts}
    points = layer_points(options.threads, options.budget) if "layers" in options.only or options.plot else []
    for threads in counts:  # measure again, because the clock rate of the CPU changes over time
        peaks[threads] = max(peaks[threads], peak(threads))
    roofs = roofs_table(peaks, moved)
    print(f"\n{roofs}")
    if points:
        print(f"\n{layers_table(points, peaks[options.threads], moved[options.threads][LARGE])}")
    if options.plot:
        caption = f"{facts['processor']}, kernels of level {facts['kernels'].split()[0]}; {facts['date'][:10]}"
        draw(points, options.threads, peaks, moved, caption).savefig(options.plot)
    return roofs


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=TABLES, default=list(TABLES), help="print only these tables")
    parser.add_argument("--threads", type=int, default=1, help="threads for the profile and the layers (default: 1)")
    parser.add_argument("--budget", type=float, default=0.5, metavar="SECONDS", help="for each layer (default: 0.5)")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the limits and the layers into this file")
    parser.add_argument(
        "--results", action="store_true", help="write the tables profile and roofs to docs/results.json"
    )
    return parser


if __name__ == "__main__":
    main()

"""Rows that measure the time for growing numbers of threads, pixels, images and RoIs, and their plot."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rcnn.plot import style
from speed import detector, kernels
from speed.processors import processors
from speed.rows import Result, Row
from speed.timing import summary

SIDE = 640  # pixels; the side of the square images in the sweeps in which the image size is fixed
SIDES = (320, 480, 640, 800, 1066, 1333)
BATCHES = (1, 2, 4, 8)
SHARE = 0.5  # the fraction of the budget of a row for each point of a curve
ROIS = (100, 250, 500, 1000, 2000, 4000)

# The names of the tables, which are also the labels of the x axes, and the titles of the panels.
THREADS, PIXELS, IMAGES, REGIONS = "threads", "side of the image, pixels", "images in a batch", "RoIs"
TITLES = {
    THREADS: f"Detector, {SIDE} x {SIDE} pixels",
    PIXELS: "Detector, square images",
    IMAGES: f"Detector, {SIDE} x {SIDE} pixels each",
    REGIONS: kernels.align_work(),
}
LOOKS = {
    "rcnn": (style.INK, "o", "-"),
    "torchvision": (style.VERMILION, "s", "-"),
    "torchvision, channels last": (style.ORANGE, "D", "--"),
    "ONNX Runtime": (style.BLUE, "^", "-"),
    "OpenVINO": (style.GREEN, "v", "-"),
}


def thread_counts(most: int) -> list[int]:
    """Return the powers of two below `most` (1, 2, 4, ...), followed by `most`."""
    powers = [2**power for power in range(most.bit_length()) if 2**power < most]
    return [*powers, most]


ROWS = [
    *(
        Row(
            f"sweep-threads-{n}",
            f"detector, {SIDE} x {SIDE}, {n} threads",
            threads=n,
            table=THREADS,
            share=SHARE,
            x=n,
            make=functools.partial(detector.contest, size=(SIDE, SIDE)),
        )
        for n in thread_counts(processors())
    ),
    *(
        Row(
            f"sweep-batch-{n}",
            f"detector, {n} x 3 x {SIDE} x {SIDE}",
            table=IMAGES,
            share=SHARE,
            x=n,
            make=functools.partial(detector.batch_contest, size=(SIDE, SIDE), batch=n),
        )
        for n in BATCHES
    ),
    *(
        Row(
            f"sweep-size-{side}",
            f"detector, {side} x {side}",
            table=PIXELS,
            share=SHARE,
            x=side,
            make=functools.partial(detector.contest, size=(side, side)),
        )
        for side in SIDES
    ),
    *(
        Row(
            f"sweep-rois-{n}",
            f"{kernels.align_work()}, {n:,} RoIs",
            table=REGIONS,
            share=SHARE,
            x=n,
            make=functools.partial(kernels.align_contest, count=n),
        )
        for n in ROIS
    ),
]


def draw(results: Sequence[Result], caption: str = "") -> Figure:
    """Draw a panel for each sweep in the results, and a caption that describes the machine.

    Both axes are logarithmic. If the time is proportional to the work, the curve is a line with slope 1. Raise
    ValueError if no result belongs to a sweep.
    """
    tables = [table for table in TITLES if any(result.table == table for result in results)]
    if not tables:
        raise ValueError("none of the results belong to a sweep: run the sweeps with --sweeps")
    figure = style.figure(10, 3.9 * -(-len(tables) // 2) + 0.6)
    panels = figure.subplots(-(-len(tables) // 2), 2, squeeze=False).ravel()
    for ax, table in zip(panels, tables, strict=False):
        curves(ax, [result for result in results if result.table == table], table)
    for ax in panels[len(tables) :]:
        ax.set_visible(False)
    handles = {name: handle for ax in panels for handle, name in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend(
        handles.values(),
        handles,
        loc="outside lower center",
        ncols=len(handles),
        frameon=False,
        fontsize=style.TEXT_SIZE + 1,
        labelcolor=style.INK,
        title=caption,
        title_fontsize=style.TEXT_SIZE,
    )
    return figure


def ticks(low: float, high: float) -> list[float]:
    """Return consecutive numbers from ..., 1, 2, 5, 10, 20, ... for an axis that contains `low` and `high`."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    every = [digit * 10.0**power for power in powers for digit in (1, 2, 5)]
    return [tick for tick in every if max(t for t in every if t <= low) <= tick <= min(t for t in every if t >= high)]


def curves(ax: Axes, results: Sequence[Result], table: str) -> Axes:
    """Draw the median time of each contestant against the amount of work, with bars between the quartiles."""
    for name in dict.fromkeys(name for result in results for name in result.samples):
        color, marker, line = LOOKS[name]
        there = [result for result in results if name in result.samples]
        of = [summary(result.samples[name]) for result in there]
        middle = [1000 * one.median for one in of]
        bars = ([1000 * (one.median - one.lower) for one in of], [1000 * (one.upper - one.median) for one in of])
        ax.errorbar(
            [result.x for result in there],
            middle,
            yerr=bars,
            color=color,
            marker=marker,
            linestyle=line,
            markersize=4,
            linewidth=style.LINE_WIDTH,
            label=name,
        )
    style.graph(ax, table, "milliseconds")
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xticks([result.x for result in results], [f"{result.x:g}" for result in results])
    ax.minorticks_off()
    marks = ticks(*ax.dataLim.intervaly)
    ax.set_yticks(marks, [f"{mark:g}" for mark in marks])
    ax.set_ylim(marks[0], marks[-1])
    style.title(ax, TITLES[table])
    return ax

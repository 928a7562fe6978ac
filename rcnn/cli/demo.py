"""What `rcnn demo` does: one unseen page, stage by stage, and 200 more evaluated."""

from __future__ import annotations

import argparse
import os
import webbrowser
from pathlib import Path

from rcnn import data, evaluate
from rcnn.cli.shared import write_figure
from rcnn.trace import Trace
from rcnn.zoo import checkpoint

VAL_PAGES = 200
PAGE = 7  # of the val split: squared paper with ten digits of every size


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds `rcnn demo` to the commands."""
    parser = commands.add_parser(
        "demo",
        help="detect digits on an unseen page, stage by stage, and evaluate 200 more",
        description="Detects the digits on a page that the detector has not seen, writes a figure of each stage, "
        "prints how many boxes it leaves and how long it takes, and evaluates 200 more pages.",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("rcnn-demo"),
        metavar="DIR",
        help="folder for the figures (default: %(default)s)",
    )
    parser.add_argument("--open", action="store_true", help="show the strip of all stages when done")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Detects, draws, evaluates; 0."""
    from rcnn import plot

    model = checkpoint.load_digits()
    pages = data.load("digits", "val", VAL_PAGES)
    names = model.config.class_names
    image, _ = pages[PAGE]
    model.predict([image])  # the first pass finds memory and threads; the times below are of the second
    trace = model.trace([image])
    print(f"An unseen page of handwritten digits, {image.shape[0]} x {image.shape[1]} pixels:")
    _print_funnel(trace)
    found = trace.detections[0]
    reading = ", ".join(
        f"{names[label] if names else label} ({score:.2f})"
        for label, score in zip(found["labels"], found["scores"], strict=True)
    )
    print(f"found: {reading or 'nothing'}\n")

    options.out.mkdir(parents=True, exist_ok=True)
    for number, (name, figure) in enumerate(plot.stage_figures(trace, class_names=names), start=1):
        write_figure(options.out / f"{number}_{name.lower().replace(' ', '_')}.png", figure)
    strip = options.out / "strip.png"
    write_figure(strip, plot.trace_strip(trace, class_names=names))

    result = evaluate.evaluate(model, pages)
    print(f"AP50 on {VAL_PAGES} unseen pages: {result.mean_ap:.3f}")
    print(f"figures of every stage: {options.out.resolve()}{os.sep}, all on one: {strip.name}")
    if options.open:
        webbrowser.open(strip.resolve().as_uri())
    return 0


def _print_funnel(trace: Trace) -> None:
    """Prints how many boxes each step leaves, and how long each stage takes."""
    for name, count in trace.counts().items():
        print(f"  {name:<20} {count:>6,}")
    times = ", ".join(f"{name} {1000 * seconds:.1f}" for name, seconds in trace.times.items())
    print(f"  milliseconds: {times}; together {1000 * sum(trace.times.values()):.1f}")

"""The command `rcnn demo`: one unseen page, stage by stage, and 200 more evaluated."""

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
MIN_SCORE = 0.5  # of a detection that is shown
NEXT = """\
Try next:
  rcnn detect PHOTO.jpg --weights coco     find 80 kinds of objects on a photo (downloads 160 MB once)
  rcnn train shapes                        train a detector from random weights, in about a minute
  rcnn course export my-course             copy the fifteen notebooks, and open them with jupyter lab"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `rcnn demo` to the commands."""
    parser = commands.add_parser(
        "demo",
        help="detect digits on an unseen page, stage by stage, and evaluate 200 more",
        description="Detects the digits on a page that the detector has not seen, draws each stage, prints the number "
        "of boxes after each step and the time that it takes, and evaluates 200 more pages.",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("rcnn-demo"),
        metavar="DIR",
        help="folder for the figures (default: %(default)s)",
    )
    parser.add_argument("--open", action="store_true", help="open the figure of all stages at the end")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Detect, draw and evaluate; return 0."""
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
    digits = [
        f"{names[label] if names else label} ({score:.2f})"
        for label, score in zip(found["labels"], found["scores"], strict=True)
        if score > MIN_SCORE
    ]
    print(f"found with a score above {MIN_SCORE}: {', '.join(digits) or 'nothing'}\n")

    options.out.mkdir(parents=True, exist_ok=True)
    for number, (name, figure) in enumerate(plot.stage_figures(trace, class_names=names, min_score=MIN_SCORE), start=1):
        write_figure(options.out / f"{number}_{name.lower().replace(' ', '_')}.png", figure)
    strip = options.out / "strip.png"
    write_figure(strip, plot.trace_strip(trace, class_names=names, min_score=MIN_SCORE))

    result = evaluate.evaluate(model, pages)
    print(f"AP50 on {VAL_PAGES} unseen pages: {result.mean_ap:.3f}")
    print(f"All stages in one figure: {strip.resolve()}; a figure of each: {options.out.resolve()}{os.sep}\n")
    print(NEXT)
    if options.open:
        webbrowser.open(strip.resolve().as_uri())
    return 0


def _print_funnel(trace: Trace) -> None:
    """Print how many boxes are left after each step, and the time of each stage."""
    for name, count in trace.counts().items():
        print(f"  {name:<20} {count:>6,}")
    times = ", ".join(f"{name} {1000 * seconds:.1f}" for name, seconds in trace.times.items())
    print(f"  milliseconds: {times}; together {1000 * sum(trace.times.values()):.1f}")

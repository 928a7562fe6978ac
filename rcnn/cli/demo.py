"""The command `rcnn demo`, which shows every stage on one unseen page and evaluates 200 unseen pages."""

from __future__ import annotations

import argparse
import os
import webbrowser
from pathlib import Path

from rcnn import data, evaluate
from rcnn.cli.process import say
from rcnn.cli.shared import write_figure
from rcnn.trace import Trace
from rcnn.zoo import checkpoint

VAL_PAGES = 200
PAGE = 7  # index in the val split: a page of squared paper with ten digits of many sizes
MIN_SCORE = 0.5  # the demo shows detections above this score
NEXT = """\
Try next:
  rcnn detect PHOTO.jpg --weights coco     find objects of 80 classes in a photo (downloads 160 MB once)
  rcnn train shapes                        train a detector from random weights in about a minute
  rcnn course export my-course             write the sixteen notebooks to a folder; open it with jupyter lab"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `rcnn demo` to the commands."""
    parser = commands.add_parser(
        "demo",
        help="show every stage of the detector on an unseen page of digits, and evaluate the detector on 200 pages",
        description="Detect the digits on a page that was not used for training, draw each stage, print the number of "
        "boxes after each step and the time of each stage, and evaluate the detector on 200 such pages.",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("rcnn-demo"),
        metavar="DIR",
        help="folder for the figures (default: %(default)s)",
    )
    parser.add_argument("--open", action="store_true", help="at the end, open the figure of all stages")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Detect the digits, draw every stage and evaluate the detector; return 0."""
    from rcnn import plot

    model = checkpoint.load_digits()
    pages = data.load("digits", "val", VAL_PAGES)
    names = model.config.class_names
    image, _ = pages[PAGE]
    model.predict([image])  # the first pass allocates memory and starts threads, so only the second is timed
    trace = model.trace([image])
    say(f"An unseen page of handwritten digits, {image.shape[0]} x {image.shape[1]} pixels:")
    _print_funnel(trace)
    found = trace.detections[0]
    digits = [
        f"{names[label] if names else label} ({score:.2f})"
        for label, score in zip(found["labels"], found["scores"], strict=True)
        if score > MIN_SCORE
    ]
    say(f"detections with a score above {MIN_SCORE}: {', '.join(digits) or 'none'}\n")

    options.out.mkdir(parents=True, exist_ok=True)
    for number, (name, figure) in enumerate(plot.stage_figures(trace, class_names=names, min_score=MIN_SCORE), start=1):
        write_figure(options.out / f"{number}_{name.lower().replace(' ', '_')}.png", figure)
    strip = options.out / "strip.png"
    write_figure(strip, plot.trace_strip(trace, class_names=names, min_score=MIN_SCORE))

    result = evaluate.evaluate(model, pages)
    say(f"AP50 on {VAL_PAGES} unseen pages: {result.mean_ap:.3f}")
    say(f"Figure of all stages: {strip.resolve()}; one figure for each stage: {options.out.resolve()}{os.sep}\n")
    say(NEXT)
    if options.open:
        webbrowser.open(strip.resolve().as_uri())
    return 0


def _print_funnel(trace: Trace) -> None:
    """Print the number of boxes that remain after each step, and the time of each stage."""
    for name, count in trace.counts().items():
        say(f"  {name:<20} {count:>6,}")
    times = ", ".join(f"{name} {1000 * seconds:.1f}" for name, seconds in trace.times.items())
    say(f"  milliseconds: {times}; in total {1000 * sum(trace.times.values()):.1f}")

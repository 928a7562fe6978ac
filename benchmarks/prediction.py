"""Measure the effect of the options for suppression and views on average precision.

    python benchmarks/prediction.py                             the digits, with the weights from the package
    python benchmarks/prediction.py --name bccd --data bccd --split test --weights runs/bccd

Each line of the table is the result of one command: `rcnn eval DATA --weights WEIGHTS --measure coco` with the options
in the line. With --results, the table is written to docs/results.json, under the name of --name.
"""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import accuracy
from speed import machine, record
from speed.report import table

OPTIONS = (
    "",
    "--class-agnostic",
    "--soft-nms linear",
    "--soft-nms gaussian",
    "--flip",
    "--scales 0.8,1,1.25",
    "--flip --scales 0.8,1,1.25",
)
DIGITS = accuracy.ROOT / "rcnn" / "zoo" / "weights" / "digits.safetensors"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every option, print the table and, with --results, write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", default="digits", help="name of the table in docs/results.json (default: digits)")
    parser.add_argument("--data", default="digits", help="the data set (default: digits)")
    parser.add_argument("--split", default="val", help="the split of the data set (default: val)")
    parser.add_argument("--weights", default=str(DIGITS), help="the detector (default: the weights from the package)")
    parser.add_argument("--results", action="store_true", help="write the table to docs/results.json")
    options = parser.parse_args(arguments)
    command = ["eval", options.data, "--split", options.split, "--weights", options.weights, "--measure", "coco"]
    lines = [["options of `rcnn eval`", "AP at an IoU of 0.5", "AP (COCO)"]]
    for chosen in OPTIONS:
        points = measured(accuracy.rcnn(Path.cwd(), *command, *chosen.split()))
        lines.append([f"`{chosen}`" if chosen else "none", *(f"{point:.3f}" for point in points)])
    text = table(lines, right=(1, 2))
    print(text)
    if options.results:
        given = [word for word in (sys.argv[1:] if arguments is None else arguments) if word != "--results"]
        command = ["python", "benchmarks/prediction.py", *given]
        record.update("prediction", {options.name: record.table(text, shlex.join(command))}, machine.line())


def measured(printed: str) -> tuple[float, float]:
    """Return AP50 and AP from the twelve numbers that `rcnn eval --measure coco` prints."""
    found = dict(re.findall(r"^(AP50|AP) +([\d.]+)$", printed, re.MULTILINE))
    return float(found["AP50"]), float(found["AP"])


if __name__ == "__main__":
    main()

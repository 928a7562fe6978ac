"""Measure the effect of each augmentation on average precision.

    python benchmarks/augmentation.py bccd                     the default plan for the folder "bccd", and its variants
    python benchmarks/augmentation.py voc:digits-voc --name digits --results    also write docs/results.json

Each line of the table belongs to one change of the default plan. The detector is trained from random weights once per
seed; the numbers are the AP50 on the val split after the last step. A run that is already complete in the folder --runs
is not repeated, so the measurement can be stopped and continued.
"""

from __future__ import annotations

import argparse
import dataclasses
import shlex
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import accuracy
from speed import machine, record
from speed.report import table

from rcnn.cli.shared import known_format
from rcnn.train import defaults, plan, run_folder
from rcnn.train.plan import Plan
from rcnn.train.recipe import Recipe

ON: Mapping[str, Any] = {  # the values that turn the augmentations on; a recipe has them off by default
    "flip": 0.5,
    "vertical_flip": 0.5,
    "scale_jitter": defaults.SCALE_JITTER,
    "crop": 0.2,
    "translate": 0.1,
    "rotate": 10.0,
    "colour_jitter": 0.2,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Train every variant with every seed, print the table and, with --results, write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="the data set, such as bccd or voc:bccd")
    parser.add_argument("--name", help="name of the table in docs/results.json (default: the data set)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="one run for each (default: 0 1 2)")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the runs (default: runs)")
    parser.add_argument("--results", action="store_true", help="write the table to docs/results.json")
    options = parser.parse_args(arguments)
    default = defaults.for_dataset(known_format(options.data))
    several = len(options.seeds) > 1
    lines = [["change of the default plan", *(f"seed {seed}" for seed in options.seeds), *["mean"] * several]]
    for name, change in variants(default.recipe).items():
        points = [measured(default, name, change, seed, options.runs) for seed in options.seeds]
        points += [statistics.mean(points)] * several
        lines.append([setting(change), *(f"{point:.3f}" for point in points)])
        print(" ".join(lines[-1]), flush=True)
    text = table(lines, right=range(1, len(lines[0])))
    print(text)
    if options.results:
        given = [word for word in (sys.argv[1:] if arguments is None else arguments) if word != "--results"]
        command = ["python", "benchmarks/augmentation.py", *given]
        entry = record.table(text, shlex.join(command))
        record.update("augmentation", {options.name or options.data: entry}, machine.line())


def variants(recipe: Recipe) -> dict[str, dict[str, Any]]:
    """Return the changes to measure: none, then each augmentation, turned off if the recipe has it and on if not."""
    changes: dict[str, dict[str, Any]] = {"default": {}}
    for name, value in ON.items():
        off = getattr(Recipe(), name)
        changes[name] = {name: value if getattr(recipe, name) == off else off}
    return changes


def setting(change: Mapping[str, Any]) -> str:
    """Return a change as a line of a plan, such as "`flip = 0.5`"."""
    return ", ".join(f"`{name} = {shown(value)}`" for name, value in change.items()) or "none"


def shown(value: Any) -> str:
    """Return a value as in a plan, such as "[0.8, 1.25]"."""
    return f"[{', '.join(f'{bound:g}' for bound in value)}]" if isinstance(value, tuple) else f"{value:g}"


def measured(default: Plan, name: str, change: Mapping[str, Any], seed: int, runs: Path) -> float:
    """Train one variant with one seed unless its run is complete, and return the AP50 after the last step."""
    recipe = dataclasses.replace(default.recipe, seed=seed, **change)
    folder = runs / f"{name}-{seed}"
    if not _is_complete(folder, recipe.steps):
        runs.mkdir(parents=True, exist_ok=True)
        plan.write(folder.with_suffix(".toml"), dataclasses.replace(default, recipe=recipe))
        accuracy.rcnn(Path.cwd(), "train", str(folder.with_suffix(".toml")), "--out", str(folder))
    return run_folder.open_run(folder).validation["ap50"][-1]


def _is_complete(folder: Path, steps: int) -> bool:
    return (folder / run_folder.STATE).exists() and run_folder.open_run(folder).run.steps == steps


if __name__ == "__main__":
    main()

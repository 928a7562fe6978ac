"""Measure two kinds of figures in the docs: the average precision of detectors, and the time of the notebooks.

    python benchmarks/accuracy.py                        print the results; takes 15 minutes on two cores
    python benchmarks/accuracy.py --results              also write docs/results.json
    python benchmarks/accuracy.py --only course          only one of: shipped, digits, shapes, folder, course
    python benchmarks/accuracy.py --bccd bccd            only BCCD, the data set in the folder "bccd"; 30 minutes
    python benchmarks/accuracy.py --bccd bccd --model mobilenet --weights-backbone mobilenet_v2-b0353104.pth
                                                         the same, from torchvision's ImageNet weights; 50 minutes
    python benchmarks/accuracy.py --bccd bccd --model resnet18
                                                         the same, with a ResNet-18, one seed and few steps; 10 minutes

Every number comes from a command that a user can type: `rcnn demo`, `rcnn train`, `rcnn eval`, or
`python notebooks/build.py`, which runs all notebooks and overwrites them. Detectors are trained with one thread, and
their training time is processor time, so that other programs hardly change it.
"""

from __future__ import annotations

import argparse
import functools
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from speed import machine, record
from speed.record import Entry

from rcnn.train.run_folder import VALIDATION, read_table

ROOT = Path(__file__).parents[1]
SEEDS = (1, 2, 3)
BCCD_RUNS = {  # for each network: the key in docs/results.json, the seeds, and options of `rcnn train`
    "small": ("bccd", (0, 1, 2, 3, 4), []),
    "mobilenet": ("bccd_mobilenet", (0, 1, 2, 3, 4), ["--model", "mobilenet"]),
    "resnet18": ("bccd_resnet18", (0,), ["--model", "resnet18", "--steps", "90"]),
}
UNIT = "AP50"
ONE_THREAD = "OMP_NUM_THREADS=1"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the selected measurements."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=MEASUREMENTS, default=list(MEASUREMENTS), help="run only these")
    parser.add_argument("--bccd", type=Path, help="measure only BCCD, the data set in this folder")
    parser.add_argument("--model", choices=BCCD_RUNS, default="small", help="with --bccd: the network")
    parser.add_argument("--weights-backbone", type=Path, help="with --bccd: initial weights of the backbone")
    parser.add_argument("--results", action="store_true", help="write the results to docs/results.json")
    options = parser.parse_args(arguments)
    if not options.bccd and (options.model, options.weights_backbone) != ("small", None):
        parser.error("--model and --weights-backbone require --bccd")
    chosen = [MEASUREMENTS[name] for name in options.only]
    if options.bccd:
        chosen = [
            ("accuracy", functools.partial(bccd, options.bccd.resolve(), options.model, options.weights_backbone))
        ]
    for section, measure in chosen:
        with tempfile.TemporaryDirectory() as folder:
            entries = measure(Path(folder))
        for key, one in entries.items():
            print(f"{section}.{key}: {one['value']} {one['unit']} {one.get('seconds', '')}", flush=True)
        if options.results:
            record.update(section, entries, machine.line())


def shipped(folder: Path) -> dict[str, Entry]:
    """Return the average precision of the digit detector with the weights in the package."""
    printed = rcnn(folder, "demo")
    found = re.search(r"^AP50 .*: ([\d.]+)$", printed, re.MULTILINE)
    assert found, f"rcnn demo printed no line with AP50:\n{printed}"
    return {"digits_shipped": record.entry(float(found[1]), UNIT, "rcnn demo")}


def trained(name: str) -> Callable[[Path], dict[str, Entry]]:
    """Return a function that trains on the data set `name` once for each seed and measures the average precision."""

    def measure(folder: Path) -> dict[str, Entry]:
        points, seconds = [], []
        for seed in SEEDS:
            start = processor_time()
            rcnn(folder, "train", name, "--seed", str(seed), "--out", f"{name}-{seed}")
            seconds.append(round(processor_time() - start))
            points.append(evaluate(folder, name, f"{name}-{seed}/model.safetensors"))
        command = f"{ONE_THREAD} rcnn train {name} --seed {', '.join(map(str, SEEDS))}"
        return {name: record.entry(points, UNIT, command, seconds=[min(seconds), max(seconds)])}

    return measure


def bccd(data: Path, model: str, weights: Path | None, folder: Path) -> dict[str, Entry]:
    """Train on BCCD once for each seed; return the test results."""
    points, seconds, last = [], [], []
    key, seeds, chosen = BCCD_RUNS[model]
    given = [] if weights is None else ["--weights-backbone", str(weights.resolve())]
    for seed in seeds:
        start = processor_time()
        printed = rcnn(folder, "train", str(data), *chosen, *given, "--seed", str(seed), "--out", f"bccd-{seed}")
        seconds.append(round(processor_time() - start))
        found = re.search(r"^AP50 on test \(72 images\): ([\d.]+)$", printed, re.MULTILINE)
        assert found, f"rcnn train printed no result for the test split:\n{printed}"
        points.append(float(found[1]))
        last.append(round(read_table(folder / f"bccd-{seed}" / VALIDATION)["ap50"][-1], 3))
    shown = [] if weights is None else ["--weights-backbone", weights.name]
    command = " ".join([f"{ONE_THREAD} rcnn train bccd", *chosen, *shown, "--seed", ", ".join(map(str, seeds))])
    more = {"mean": round(statistics.mean(points), 3), "val": [min(last), max(last)]}
    return {key: record.entry(points, UNIT, command, seconds=[min(seconds), max(seconds)], **more)}


def own_folder(folder: Path) -> dict[str, Entry]:
    """Run the example in docs/your_own_images.md and return its average precision."""
    rcnn(folder, "convert", "digits", "voc:digits-voc", "--train", "800", "--val", "200")
    rcnn(folder, "train", "voc:digits-voc")
    point = evaluate(folder, "voc:digits-voc", "runs/digits-voc")
    return {"folder": record.entry(point, UNIT, "the commands in your_own_images.md")}


def course(folder: Path) -> dict[str, Entry]:
    """Return the running time of all notebooks, and of notebook 11, which trains a detector."""
    del folder
    printed = run([sys.executable, "notebooks/build.py"], ROOT)
    seconds = {number: float(found) for number, found in re.findall(r"^(\d\d)_\S+ +([\d.]+) s", printed, re.MULTILINE)}
    command = "python notebooks/build.py"
    return {
        "all": record.entry(round(sum(seconds.values())), "s", command),
        "11": record.entry(round(seconds["11"]), "s", f"{command} 11"),
    }


MEASUREMENTS: dict[str, tuple[str, Callable[[Path], dict[str, Entry]]]] = {
    "shipped": ("accuracy", shipped),
    "digits": ("accuracy", trained("digits")),
    "shapes": ("accuracy", trained("shapes")),
    "folder": ("accuracy", own_folder),
    "course": ("course", course),
}


def evaluate(folder: Path, dataset: str, weights: str) -> float:
    """Evaluate weights with `rcnn eval` and return the mean average precision."""
    printed = rcnn(folder, "eval", dataset, "--weights", weights)
    return mean_of(printed)


def mean_of(printed: str) -> float:
    """Return the mean average precision from the table that `rcnn eval` prints."""
    found = re.search(r"^\s*mean\b.*?([\d.]+)$", printed, re.MULTILINE)
    assert found, f"rcnn eval printed no line with the mean:\n{printed}"
    return float(found[1])


def rcnn(folder: Path, *arguments: str) -> str:
    """Run the command `rcnn` with one thread in a folder and return its output."""
    return run(["env", ONE_THREAD, sys.executable, "-m", "rcnn", *arguments], folder)


def processor_time() -> float:
    """Return the processor time of all programs that this script has run, in seconds."""
    times = os.times()
    return times.children_user + times.children_system


def run(command: Sequence[str], folder: Path) -> str:
    """Run a program in a folder and return its output."""
    return subprocess.run(command, cwd=folder, check=True, text=True, stdout=subprocess.PIPE).stdout


if __name__ == "__main__":
    main()

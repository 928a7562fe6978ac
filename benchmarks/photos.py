"""Compare `rcnn detect` on a folder of photos with a loop over torchvision: photos per second, from files to drawings.

    python benchmarks/photos.py                          500 photos, on all CPUs; takes some minutes
    python benchmarks/photos.py --photos 40 --threads 1  fewer photos, on one thread
    python benchmarks/photos.py --threads 1 --cpu-time   on a machine that does other work
    python benchmarks/photos.py --results                also write the section "photos" of docs/results.json

The photos are JPEG files of the usual sizes of COCO, cut from the two photos of scikit-learn. The detector is
MobileNetV3-Large-FPN 320 with random weights, which finds about seven objects with a score above 0.5 in a photo. Both
programs read the files, detect, draw the boxes and write PNG files. Each runs in its own process, in turn. If their
detections differ, the exit status is 1.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images
from speed import detector, machine, record
from speed.agreement import Agreement, Detections, same_detections
from speed.photos_probe import FOUND, LOOPS
from speed.processors import processors
from speed.rows import Goal
from speed.timing import CLOCK

import rcnn

BENCHMARKS = Path(__file__).parent
PHOTOS, ROUNDS = 500, 2
GOAL = Goal(3, 4)  # of the ratio, on all CPUs
SIZES = ((640, 480), (480, 640), (640, 427), (500, 375), (427, 640))  # (width, height)
LEAST, MOST = 0.6, 1.0  # a photo shows this part of the largest possible section
PACKAGES = ("torch", "torchvision", "pillow")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure both programs, print the photos per second, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=PHOTOS, help="number of photos (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="runs of each program (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=processors(), help="of each program (default: all CPUs)")
    parser.add_argument("--cpu-time", action="store_true", help="measure CPU time instead of time; for one thread")
    parser.add_argument("--only", nargs="+", choices=LOOPS, default=list(LOOPS), help="run only these programs")
    parser.add_argument("--results", action="store_true", help="write the results to docs/results.json")
    options = parser.parse_args(arguments)
    if options.cpu_time and options.threads != 1:
        parser.error("--cpu-time requires --threads 1")
    clock = "process_time" if options.cpu_time else CLOCK
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_photos(folder / "photos", options.photos)
        rcnn.save(folder / "detector.safetensors", detector.detector(detector.MOBILENET))
        seconds: dict[str, list[float]] = {who: [] for who in options.only}
        for number in range(options.rounds):
            for who in options.only[:: -1 if number % 2 else 1]:
                seconds[who].append(measured(who, folder, options.threads, clock))
        found = {who: detections(folder / who / FOUND) for who in options.only}
    speeds = {who: options.photos / statistics.median(values) for who, values in seconds.items()}
    for who, speed in speeds.items():
        print(f"{who}: {speed:.2f} photos per second")
    if set(speeds) != set(LOOPS):
        return 0
    agreement = same_detections(found["rcnn"], found["torchvision"])
    ratio = speeds["rcnn"] / speeds["torchvision"]
    print(f"ratio: {ratio:.2f} (goal {GOAL.least:g}, aim {GOAL.aim:g}: {GOAL.verdict(ratio)})")
    print(f"agreement: {agreement.text}{'' if agreement.holds else ' (!)'}")
    if options.results and agreement.holds:
        command = f"python benchmarks/photos.py --photos {options.photos} --threads {options.threads}"
        entries = entries_of(speeds, agreement, options.threads, command + " --cpu-time" * options.cpu_time)
        record.update("photos", entries, machine.line(PACKAGES))
    return 0 if agreement.holds else 1


def write_photos(folder: Path, count: int) -> None:
    """Write `count` JPEG files: sections of two photos, of different sizes, mirrored in half of the cases."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    sources = [Image.fromarray(image) for image in load_sample_images().images]
    for number in range(count):
        source, (width, height) = sources[number % len(sources)], SIZES[number % len(SIZES)]
        scale = rng.uniform(LEAST, MOST) * min(source.width / width, source.height / height)
        extent = np.array([scale * width, scale * height])
        corner = rng.uniform(0, 1, 2) * (source.size - extent)
        box = (*corner, *(corner + extent))
        photo = source.resize((width, height), Image.Resampling.BICUBIC, box)
        if rng.random() < 0.5:
            photo = photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        photo.save(folder / f"{number:04}.jpg", quality=90)


def measured(who: str, folder: Path, threads: int, clock: str) -> float:
    """Run a program on all photos in a new process and return its time in seconds."""
    (folder / who).mkdir(exist_ok=True)
    paths = [str(folder / name) for name in ("photos", "detector.safetensors", who)]
    environment = os.pathsep.join([str(BENCHMARKS), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-m", "speed.photos_probe", who, *paths, str(threads), clock],
        check=True,
        env={**os.environ, "PYTHONPATH": environment},
        stdout=subprocess.PIPE,
        text=True,
    )
    seconds: float = json.loads(done.stdout.splitlines()[-1])["seconds"]
    return seconds


def detections(file: Path) -> list[Detections]:
    """Read the detections in all photos, in the order of their files."""
    return [_arrays(entry) for entry in json.loads(file.read_text())]


def _arrays(entry: Mapping[str, Any]) -> Detections:
    """Return the arrays of a photo, which rcnn writes as a list of detections, and torchvision as three lists."""
    if "detections" in entry:
        keys = {"boxes": "box", "scores": "score", "labels": "label"}
        entry = {name: [found[key] for found in entry["detections"]] for name, key in keys.items()}
    return {
        "boxes": np.array(entry["boxes"], np.float64).reshape(-1, 4),
        "scores": np.array(entry["scores"], np.float64),
        "labels": np.array(entry["labels"], np.int64),
    }


def entries_of(
    speeds: Mapping[str, float], agreement: Agreement, threads: int, command: str
) -> dict[str, record.Entry]:
    """Return the entries for docs/results.json."""
    entries = {who: record.entry(float(f"{speed:.3g}"), "photos per second", command) for who, speed in speeds.items()}
    ratio = round(speeds["rcnn"] / speeds["torchvision"], 2)
    entries["ratio"] = record.entry(ratio, "ratio", command, threads=threads, answers=agreement.text)
    return entries


if __name__ == "__main__":
    sys.exit(main())

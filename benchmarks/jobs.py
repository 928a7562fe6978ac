"""Measure how much faster `rcnn detect --jobs 2` is than one process, each process with one thread.

    python benchmarks/jobs.py               2,000 photos; takes ten minutes
    python benchmarks/jobs.py --photos 200  fewer photos, of whose time the start of the processes is a larger part
    python benchmarks/jobs.py --results     also write the section "jobs" of docs/results.json

The photos and the detector are those of photos.py. The command reads the files, detects, and writes the drawings and
JSON. Both numbers of processes are measured in turn. The machine should have an idle processor for each process. If the
two JSON files differ, the exit status is 1.
"""

from __future__ import annotations

import argparse
import filecmp
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from photos import write_photos
from speed import detector, machine, record

import rcnn

PHOTOS, ROUNDS = 2000, 2
JOBS = (1, 2)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the seconds and the ratio, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=PHOTOS, help="number of photos (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="runs of each kind (default: %(default)s)")
    parser.add_argument("--results", action="store_true", help="write the results to docs/results.json")
    options = parser.parse_args(arguments)
    seconds: dict[int, list[float]] = {jobs: [] for jobs in JOBS}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_photos(folder / "photos", options.photos)
        rcnn.save(folder / "detector.safetensors", detector.detector(detector.MOBILENET))
        for number in range(options.rounds):
            for jobs in JOBS[:: -1 if number % 2 else 1]:
                seconds[jobs].append(measured(folder, jobs))
                print(f"{jobs} process{'es' * (jobs > 1)}: {seconds[jobs][-1]:.1f} s", flush=True)
        equal = filecmp.cmp(*(folder / f"{jobs}.json" for jobs in JOBS), shallow=False)
    medians = {jobs: statistics.median(times) for jobs, times in seconds.items()}
    ratio = medians[1] / medians[2]
    print(f"{options.photos:,} photos: {medians[1]:.1f} s, with two processes {medians[2]:.1f} s, ratio {ratio:.2f}")
    print(f"the JSON files {'are equal' if equal else 'differ'}")
    if options.results and equal:
        command = f"python benchmarks/jobs.py --photos {options.photos}"
        entries = {
            "photos": record.entry(options.photos, "photos", command),
            "ratio": record.entry(round(ratio, 2), "ratio", command),
            **{f"seconds_{jobs}": record.entry(round(one, 1), "s", command) for jobs, one in medians.items()},
        }
        record.update("jobs", entries, machine.line(("joblib", "pillow")))
    return 0 if equal else 1


def measured(folder: Path, jobs: int) -> float:
    """Run `rcnn detect` on all photos and return its time in seconds."""
    command = [sys.executable, "-m", "rcnn", "detect", "photos", "--weights", "detector.safetensors", "--quiet"]
    command += ["--jobs", str(jobs), "--out", "drawings", "--json", f"{jobs}.json"]
    shutil.rmtree(folder / "drawings", ignore_errors=True)
    start = time.perf_counter()
    subprocess.run(command, check=True, cwd=folder, env={**os.environ, "OMP_NUM_THREADS": "1"})
    return time.perf_counter() - start


if __name__ == "__main__":
    sys.exit(main())

"""Rows with other work on the machine: the time with all threads, relative to the time with one thread.

Each contestant runs in its own process, which executes `speed/busy_probe.py`. A ratio above 1 means that more threads
make the work slower. Two runs with one thread, the control, show how far ratios differ from 1 by chance.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from speed.rows import Result, Row, Settings

BENCHMARKS = Path(__file__).parents[1]
LEVELS = (0, 1, 2, 4, 8)  # busy processes
ORDERS = {"never": "no", "first": "before rcnn", "later": "after rcnn"}  # when the process imports PyTorch
WORKS = {"step": "training step", "predict": "predict"}
PEERS = {"torchvision": "torchvision", "onnxruntime": "ONNX Runtime"}
REPEATS = 8
KINDS = ("one", "many", "control")


def run(row: Row, settings: Settings, order: str, work: str, busy: int) -> Result:
    """Measure one kind of work with one number of busy processes, and return the result of the row."""
    samples = _samples("rcnn", measured("rcnn", order, settings.folder, settings.threads, settings.rounds)[work][busy])
    for peer, name in PEERS.items():
        if peer in settings.peers and order == "never":
            found = measured(peer, order, settings.folder, settings.threads, settings.rounds)
            samples |= _samples(name, found[work][busy]) if work in found else {}
    return Result(row.name, row.work, row.table, settings.threads, samples)


def _samples(name: str, seconds: dict[str, float]) -> dict[str, list[float]]:
    return {f"{name}, {kind}": [seconds[kind]] for kind in KINDS}


@functools.lru_cache(maxsize=8)
def measured(
    library: str, order: str, folder: Path, threads: int, rounds: int
) -> dict[str, dict[int, dict[str, float]]]:
    """Run one contestant in a new process and return {work: {busy: {"one", "many" and "control": seconds}}}."""
    file = ["--file", str(_exported(folder))] if library == "onnxruntime" else []
    repeats = REPEATS if rounds > 2 else rounds
    paths = os.pathsep.join([str(BENCHMARKS), *filter(None, [os.environ.get("PYTHONPATH")])])
    numbers = [str(number) for number in (threads, repeats, *LEVELS)]
    done = subprocess.run(
        [sys.executable, "-m", "speed.busy_probe", library, order, *numbers, *file],
        check=True,
        env={**os.environ, "PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        text=True,
    )
    found = json.loads(done.stdout.splitlines()[-1])
    return {work: {int(busy): seconds for busy, seconds in levels.items()} for work, levels in found.items()}


def _exported(folder: Path) -> Path:
    """Write the detector of digits as an ONNX file, for pages of its size."""
    import rcnn
    from rcnn import data
    from speed import onnx_peer, torch_peer

    image, _ = data.Digits(split="val")[0]
    return onnx_peer.export(torch_peer.small_detector(rcnn.load_digits()).eval(), image.shape[:2], folder / "busy.onnx")


def table(results: Sequence[Result]) -> list[list[str]]:
    """Return the rows of the table, with the header: the times of rcnn, and the ratios of all contestants."""
    peers = [name for name in PEERS.values() if any(f"{name}, one" in result.samples for result in results)]
    head = ["work", "PyTorch imported", "busy processes", "1 thread, ms", f"{results[0].threads} threads, ms", "ratio"]
    rows = [[*head, "control", *(f"{name}, ratio" for name in peers)]]
    for result in results:
        seconds = {name: values[0] for name, values in result.samples.items()}
        work, order, busy = result.work.split("; ")
        rows.append(
            [
                work,
                order,
                busy,
                f"{1000 * seconds['rcnn, one']:.1f}",
                f"{1000 * seconds['rcnn, many']:.1f}",
                f"{seconds['rcnn, many'] / seconds['rcnn, one']:.2f}",
                f"{seconds['rcnn, control'] / seconds['rcnn, one']:.2f}",
                *(
                    f"{seconds[f'{name}, many'] / seconds[f'{name}, one']:.2f}" if f"{name}, one" in seconds else ""
                    for name in peers
                ),
            ]
        )
    return rows


ROWS = [
    Row(
        f"busy-{order}-{busy}-{work}",
        f"{WORKS[work]}; {ORDERS[order]}; {busy}",
        table="busy",
        run=functools.partial(run, order=order, work=work, busy=busy),
    )
    for order in ORDERS
    for work in WORKS
    for busy in LEVELS
]

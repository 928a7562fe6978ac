"""Rows that measure memory: the peak memory of a process that loads the detector and runs it on one image.

Each contestant runs in its own process, which executes `speed/memory_probe.py`.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import rcnn
from speed import inputs, memory_probe
from speed.rows import Result, Row, Settings

BENCHMARKS = Path(__file__).parents[1]
# The names of the peers in the table.
NAMES = {"torchvision": "torchvision", "onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}


def measure(settings: Settings, kind: str) -> dict[str, list[float]]:
    """Return {contestant: [peak bytes]}, where `kind` is "process" or "beyond", as in `memory_probe`."""
    names = {"rcnn": "rcnn", **{peer: name for peer, name in NAMES.items() if peer in settings.peers}}
    return {name: [float(_measured(who, settings.folder, settings.threads)[kind])] for who, name in names.items()}


def run(row: Row, settings: Settings, kind: str) -> Result:
    """Measure one kind of memory and return the result of the row."""
    return Result(row.name, row.work, row.table, settings.threads, measure(settings, kind))


@functools.lru_cache(maxsize=8)
def _measured(who: str, folder: Path, threads: int) -> dict[str, int]:
    """Run one contestant in a new process and return {"process": bytes, "beyond": bytes}."""
    path = WRITERS[who](folder)
    paths = os.pathsep.join([str(BENCHMARKS), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-m", "speed.memory_probe", who, str(path), str(threads)],
        check=True,
        env={**os.environ, "PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        text=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


# ---------------------------------------------------------------- files that the contestants load


def _write_rcnn(folder: Path) -> Path:
    from speed import detector

    path = folder / "detector.safetensors"
    rcnn.save(path, detector.detector(detector.RESNET))
    return path


def _write_torch(folder: Path) -> Path:
    import torch

    from speed import detector

    path = folder / "detector.pth"
    torch.save(detector.torch_detector(detector.RESNET).state_dict(), path)
    return path


def _write_onnx(folder: Path) -> Path:
    from speed import detector

    return detector.exported(detector.RESNET, folder)


WRITERS = {"rcnn": _write_rcnn, "torchvision": _write_torch, "onnxruntime": _write_onnx, "openvino": _write_onnx}


_WORK = f"1 x 3 x {inputs.IMAGE[0]} x {inputs.IMAGE[1]}"
ROWS = (
    [
        Row(
            "memory-process",
            f"peak of the process, {_WORK}",
            table="memory",
            run=functools.partial(run, kind="process"),
        ),
        Row(
            "memory-beyond",
            f"peak minus the memory of the loaded detector, {_WORK}",
            table="memory",
            run=functools.partial(run, kind="beyond"),
        ),
    ]
    if memory_probe.RESET.exists()
    else []
)

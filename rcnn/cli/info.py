"""The command `rcnn info`, which prints the versions, the machine and the settings, for bug reports."""

from __future__ import annotations

import argparse
import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import rcnn
from rcnn._ext import backend
from rcnn.cli.process import say
from rcnn.zoo import download

PACKAGES = (
    *("matplotlib", "pillow", "safetensors", "tqdm", "threadpoolctl", "defusedxml", "pyyaml"),
    *("av", "onnx", "argcomplete"),
)
VARIABLES = ("RCNN_", "OMP_", "OPENBLAS_", "MKL_")  # beginnings of the names of environment variables


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `rcnn info` to the commands."""
    parser = commands.add_parser(
        "info",
        help="print the facts that belong in a bug report: versions, machine and settings",
        description="Print the versions of rcnn and of the packages that it uses, the machine, the backend, the number "
        "of threads, the kernels, the compiler, the folders, and the environment variables that change how rcnn works. "
        "If you report a bug, copy this output into your report.",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the facts, one on each line; return 0."""
    del options
    facts = backend.info() | {
        "system": platform.platform(),
        "processor": f"{_processor()}, {os.cpu_count()} logical processors",
        **{package: _version(package) for package in PACKAGES},
        "folder": str(Path(rcnn.__file__).parent),
        "executable": sys.executable,
        "cache": str(download.cache_folder()),
        **{name: value for name, value in sorted(os.environ.items()) if name.startswith(VARIABLES)},
    }
    width = max(map(len, facts))
    for name, value in facts.items():
        say(f"{name:<{width}} {value}")
    return 0


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    """Return the name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()

"""Information about a run: the machine, the versions and the date."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

from rcnn._ext import backend
from speed.processors import processors
from speed.rows import PEERS, Settings

CPU_INFO = Path("/proc/cpuinfo")


def facts(settings: Settings) -> dict[str, str]:
    """Return the information about a run, as {name: text} in the order of printing."""
    packages = dict.fromkeys(package for peer in PEERS if peer in settings.peers for package in PEERS[peer])
    info = backend.info()
    return {
        "date": datetime.now().astimezone().isoformat(timespec="minutes"),
        "processor": f"{processor()}, {processors()} of {os.cpu_count()} processors",
        "threads": str(settings.threads),
        "kernels": f"{info.get('simd', 'none')}, {info.get('compiler', 'NumPy alone')}",
        "blas": str(info["blas"]),
        "versions": ", ".join(f"{name} {number}" for name, number in versions(packages).items()),
    }


def versions(packages: Mapping[str, object]) -> dict[str, str]:
    """Return the versions of Python, rcnn, NumPy and the given packages, as {name: version}."""
    return {
        "Python": platform.python_version(),
        "rcnn": str(backend.info()["rcnn"]),
        **{name: version(name) for name in ("numpy", *packages)},
    }


def processor() -> str:
    """Return the name of the processor as reported by the operating system."""
    if CPU_INFO.exists():
        for line in CPU_INFO.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def line(packages: Mapping[str, object] | tuple[str, ...] = ()) -> str:
    """Return the machine and the versions in one line, for docs/results.json."""
    level = str(backend.info().get("simd", "none")).split()[0]
    found = ", ".join(f"{name} {number}" for name, number in versions(dict.fromkeys(packages)).items())
    name = re.sub(r"\((R|TM)\)", "", processor())
    count = processors()
    return f"{count} processor{'s' * (count > 1)} ({name}), kernels of level {level}, {found}"

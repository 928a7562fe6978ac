"""The CPUs that this process may use, and how much of them other processes use."""

from __future__ import annotations

import os
import time
from pathlib import Path

TIMES = Path("/proc/stat")
IDLE = (3, 4)  # its columns for idle time and for time spent waiting for a disk


def processors() -> int:
    """Return the number of CPUs that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # does not exist on macOS and Windows
    return len(affinity(0)) if affinity else os.cpu_count() or 1


class Others:
    """A meter of the CPU time that other processes use on the CPUs of this process, because they disturb the timing."""

    def __init__(self) -> None:
        self._start = time.perf_counter(), _busy(), _own()

    def share(self) -> float:
        """Return the fraction of the CPU time that other processes used since this object was created; 0 if unknown.

        It is known only on Linux.
        """
        start, busy, own = self._start
        had = (_busy() - busy) - (_own() - own)
        return max(had, 0.0) / ((time.perf_counter() - start) * processors())


def _busy() -> float:
    """Return the seconds for which all processes together have used the CPUs of this process."""
    if not TIMES.exists():
        return 0.0
    ticks = 0
    for line in TIMES.read_text().splitlines():
        name, *columns = line.split()
        if name.startswith("cpu") and name[3:].isdigit() and int(name[3:]) in os.sched_getaffinity(0):
            ticks += sum(int(column) for i, column in enumerate(columns[:8]) if i not in IDLE)
    return ticks / os.sysconf("SC_CLK_TCK")


def _own() -> float:
    """Return the CPU time of this process and its children, in seconds."""
    return time.process_time() + sum(os.times()[2:4])

"""The Cython kernels, and everything about running them.

table       which kernels there are
backend     whether they run, or the NumPy references, and on how many threads
dispatch    how a function of a stage comes to its kernel, to its reference, or to a replacement
memory, layout   where arrays lie
others      the drivers: each prepares what one module's kernels need and calls them

From one source, `_roi.pyx`, come `_roi`, which every processor can run, `_roi_v3` and `_roi_v4` (see the table). The
kernels of a process are all of one level. A kernel is loaded when its driver is first used.
"""

import functools
import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from rcnn._ext.table import KERNELS

WAITS = {"GOMP_SPINCOUNT": "20000", "KMP_BLOCKTIME": "1"}  # rounds for GCC's OpenMP, milliseconds for Clang's


def usable_levels() -> list[str]:
    """Return the levels that this processor can run and that every kernel was compiled for, lowest first.

    Raises ImportError where none of the kernels' files can be loaded.
    """
    with short_waits():
        from rcnn._ext import _build

        _build.start_openmp()
    return [level for level in _build.levels() if all(find_spec(_module(kernel, level)) for kernel in KERNELS)]


@functools.cache
def level() -> str:
    """Return the level of the kernels: RCNN_SIMD where it is set, else the highest usable one.

    Raises ImportError where that level is not usable, or none is.
    """
    wanted = os.environ.get("RCNN_SIMD")
    try:
        usable = usable_levels()
    except ImportError as error:
        if not wanted:
            raise
        usable, reason = [], f": {error}"
    else:
        reason = ""
    if wanted and wanted not in usable:
        usable_names = ", ".join(usable) or f"none, because the kernels were not compiled{reason}"
        raise ImportError(f"RCNN_SIMD is {wanted!r}; usable here with these kernels and this processor: {usable_names}")
    if not usable:
        raise ImportError("some of them are missing")
    return wanted or usable[-1]


def load(kernel: str) -> Any:
    """Return the module of a kernel, compiled for this process's level.

    Raises ImportError where its file is damaged.
    """
    try:
        return importlib.import_module(_module(kernel, level()))
    except ImportError as error:
        raise ImportError(
            f"the kernel {kernel} cannot be loaded ({error}); install rcnn again, or set RCNN_BACKEND=numpy"
        ) from error


@contextmanager
def short_waits() -> Iterator[None]:
    """A block in which OpenMP, if it is loaded and first used in it, is told not to spin for long while it waits.

    By default its threads spin for many milliseconds at the end of a loop. As soon as anything else runs on the machine
    they spin where the one thread that still has work would run, and everything takes several times as long. A
    millisecond bridges the time to the next kernel. What the user's environment says about waiting is left alone.
    """
    if "OMP_WAIT_POLICY" in os.environ:
        yield
        return
    added = {name: value for name, value in WAITS.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


def _module(kernel: str, level: str) -> str:
    return f"{__name__}.{kernel}" if level == "baseline" else f"{__name__}.{kernel}_{level}"

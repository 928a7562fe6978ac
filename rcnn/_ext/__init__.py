"""The Cython kernels, each named after the module that holds its NumPy reference; `rcnn._ext.backend` loads them.

From one source, `_roi.pyx`, come `_roi`, which every processor can run, `_roi_v3` with vectors of 8 float32 (AVX2) and
`_roi_v4` with vectors of 16 (AVX-512), as far as the compiler knows them. These are levels, named after x86-64-v3 and
x86-64-v4 of the System V ABI. The kernels of a process are all of one level.
"""

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

KERNELS = ("_boxes", "_conv", "_memory", "_nms", "_optim", "_passes", "_pooling", "_resampling", "_roi", "_winograd")
WAITS = {"GOMP_SPINCOUNT": "20000", "KMP_BLOCKTIME": "1"}  # rounds for GCC's OpenMP, milliseconds for Clang's


def usable_levels() -> list[str]:
    """The levels that this processor can run and that every kernel was compiled for, lowest first."""
    try:
        from rcnn._ext import _build
    except ImportError:
        return []
    return [level for level in _build.levels() if all(find_spec(_module(kernel, level)) for kernel in KERNELS)]


def choose_level(wanted: str | None) -> str:
    """The level to load: `wanted`, or the highest usable one.

    Raises ImportError if `wanted` is not usable.
    """
    usable = usable_levels()
    if wanted and wanted not in usable:
        possible = ", ".join(usable) or "none, for the kernels were not compiled"
        raise ImportError(f"RCNN_SIMD is {wanted!r}; possible here with these kernels and this processor: {possible}")
    return wanted or (usable or ["baseline"])[-1]


def load(kernel: str, level: str) -> Any:
    """The module of a kernel, compiled for `level`; to be called for usable levels only."""
    return importlib.import_module(_module(kernel, level))


@contextmanager
def short_waits() -> Iterator[None]:
    """A block in which OpenMP, if it is loaded and first used now, is told not to wait long for work with open eyes.

    By default its threads spin for many milliseconds at the end of a loop. As soon as anything else runs on the machine
    they spin where the one thread that still has work would run, and everything takes several times as long. A
    millisecond bridges the time to the next kernel. What the user's environment says about waiting is left alone.
    """
    if "OMP_WAIT_POLICY" in os.environ:
        yield
        return
    mine = {name: value for name, value in WAITS.items() if name not in os.environ}
    os.environ.update(mine)
    try:
        yield
    finally:
        for name in mine:
            del os.environ[name]


def _module(kernel: str, level: str) -> str:
    return f"{__name__}.{kernel}" if level == "baseline" else f"{__name__}.{kernel}_{level}"

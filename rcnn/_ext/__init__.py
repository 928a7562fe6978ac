"""The Cython kernels, and everything about running them.

table            the list of kernels
backend          whether kernels or NumPy references run, and on how many threads
dispatch         how a function of a stage calls its kernel, its reference, or a replacement
memory, layout   how arrays lie in memory
other modules    the drivers: each prepares the arguments of one module's kernels and calls them

One source, `_roi.pyx`, is compiled to `_roi`, which every processor can run, and to `_roi_v3` and `_roi_v4` (see the
table). All kernels of a process are of the same level; one that is not faster at this level than at a lower one is
compiled for the lower one alone. A kernel is loaded when its driver is first used.
"""

import functools
import importlib
import os
from importlib.util import find_spec
from typing import Any

from rcnn._ext.table import GAINS, KERNELS, LEVELS


def usable_levels() -> list[str]:
    """Return the levels that this processor can run and that every kernel was compiled for, lowest first.

    Raises ImportError if no kernel can be loaded.
    """
    from rcnn._ext import _build

    return [level for level in _build.levels() if all(find_spec(_module(kernel, level)) for kernel in KERNELS)]


@functools.cache
def level() -> str:
    """Return the level of the kernels: RCNN_SIMD if it is set, otherwise the highest usable one.

    Raises ImportError if that level, or every level, is unusable.
    """
    requested = os.environ.get("RCNN_SIMD")
    try:
        usable = usable_levels()
    except ImportError as error:
        if not requested:
            raise
        usable, reason = [], f": {error}"
    else:
        reason = ""
    if requested and requested not in usable:
        usable_names = ", ".join(usable) or f"none, because the kernels were not compiled{reason}"
        raise ImportError(
            f"RCNN_SIMD must be a usable level, got {requested!r}; "
            f"usable with these kernels and this processor: {usable_names}"
        )
    if not usable:
        raise ImportError("some kernels are missing")
    return requested or usable[-1]


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


def _module(kernel: str, level: str) -> str:
    """Return the module of a kernel for a level: the highest up to this level that the kernel is compiled for."""
    compiled = [name for name in LEVELS if name in GAINS.get(kernel, {})]
    suitable = [name for name in compiled if list(LEVELS).index(name) <= list(LEVELS).index(level)]
    return f"{__name__}.{kernel}_{suitable[-1]}" if suitable else f"{__name__}.{kernel}"

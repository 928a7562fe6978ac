"""The Cython kernels, and all code that loads and calls them.

table            the list of kernels
backend          whether kernels or NumPy references run, and on how many threads
dispatch         how a function of a stage calls its kernel, its reference, or a replacement
memory, layout   arrays whose memory is reused, and the order of their elements in memory
other modules    the drivers: functions that prepare the arguments of the kernels and call them

Each source is compiled for several levels: sets of instructions that a processor can run (see the table). For example,
`_roi.pyx` is compiled to `_roi`, which every processor can run, and to `_roi_v3` and `_roi_v4`. A process chooses one
level for all kernels. If a kernel is not faster at this level than at a lower level, it is compiled only for the lower
level, and this version runs. A kernel is loaded when its driver is first used.
"""

import functools
import importlib
import os
import sys
from importlib.util import find_spec
from typing import Any

from rcnn._ext.table import GAINS, KERNELS, LEVELS


def usable_levels() -> list[str]:
    """Return the levels that this processor can run and for which all kernels were compiled, in ascending order.

    Raises ImportError if no kernel can be loaded.
    """
    check_file(f"{__name__}._build")
    from rcnn._ext import _build

    return [level for level in _build.levels() if all(find_spec(_module(kernel, level)) for kernel in KERNELS)]


@functools.cache
def level() -> str:
    """Return the level of the kernels: RCNN_SIMD if it is set, otherwise the highest usable one.

    Raises ImportError if this level cannot be used, or if no level can be used.
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
            f"RCNN_SIMD is {requested!r}, but these kernels and this processor do not support this level; "
            f"supported levels: {usable_names}"
        )
    if not usable:
        raise ImportError("some kernels are missing")
    return requested or usable[-1]


def check_files() -> None:
    """Raise ImportError if a kernel of this process's level is missing or incomplete, without loading the kernels."""
    for name in [f"{__name__}._threads", *(_module(kernel, level()) for kernel in KERNELS)]:
        check_file(name)


def check_file(module: str) -> None:
    """Raise ImportError if the file of a compiled module is missing or incomplete, as after a broken installation.

    On Linux, loading an incomplete file can end the process without a message. A file is complete if it contains its
    table of sections, which is at the end.
    """
    if module in sys.modules:
        return
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise ImportError(f"{module} was not compiled")
    if sys.platform != "linux":
        return
    with open(spec.origin, "rb") as file:
        header = file.read(64)
        size = os.fstat(file.fileno()).st_size
    start, entry, count = (int.from_bytes(header[i:j], sys.byteorder) for i, j in ((40, 48), (58, 60), (60, 62)))
    if header[:4] != b"\x7fELF" or (header[4] == 2 and size < start + entry * count):  # 2: a 64-bit file
        raise ImportError(f"{spec.origin} is incomplete")


def load(kernel: str) -> Any:
    """Return the module of a kernel, compiled for this process's level.

    Raises ImportError if the file of the kernel is damaged.
    """
    try:
        return importlib.import_module(_module(kernel, level()))
    except ImportError as error:
        raise ImportError(
            f"the kernel {kernel} cannot be loaded ({error}); install rcnn again, or set RCNN_BACKEND=numpy"
        ) from error


def _module(kernel: str, level: str) -> str:
    """Return the module name of a kernel at `level`. If there is none, use the next lower level that has one."""
    compiled = [name for name in LEVELS if name in GAINS.get(kernel, {})]
    suitable = [name for name in compiled if list(LEVELS).index(name) <= list(LEVELS).index(level)]
    return f"{__name__}.{kernel}_{suitable[-1]}" if suitable else f"{__name__}.{kernel}"

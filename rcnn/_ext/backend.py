"""Which implementation runs, and on how many threads; nothing else knows.

Every kernel has a reference in NumPy. `rcnn._ext.dispatch` asks `runs_kernels()` which of the two to call, and a driver
asks `threads_for(work)` how many threads its kernel may have.

Two libraries can bring threads: OpenMP for the kernels, BLAS for NumPy's matrix products. When both keep a pool awake
they fight for the same processors and cost several times the work itself. Inside `one_pool()` (a pass through a
network) only one of them does: the kernels where they run, and BLAS, left with little, has one thread; on NumPy alone
BLAS has them all.

Environment, read at import:
    RCNN_BACKEND        "cython" or "numpy"; the kernels if left out and present
    RCNN_REQUIRE_EXT    1 makes missing kernels an ImportError, whichever backend is asked for
    RCNN_SIMD           "baseline", "v3" or "v4": which of the compiled kernels; the best for this processor if left out
    OMP_NUM_THREADS     the number of threads to begin with, as for every OpenMP program
"""

import functools
import os
import platform
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import threadpoolctl

from rcnn import _ext
from rcnn._ext.table import KERNELS

BACKENDS = ("cython", "numpy")
CONV_ALGORITHMS = ("auto", "direct", "winograd2", "winograd4")
MOST_THREADS = 16  # by default; beyond that the kernels wait for memory
WORTH_THREADS = 200_000  # multiply-adds; below that, waking the threads takes longer than the work


class Setting:
    """A setting that has been made; leaving its `with` block puts the former one back."""

    def __init__(self, undo: Callable[[], None]) -> None:
        self._undo = undo

    def __enter__(self) -> None:
        return None

    def __exit__(self, *exception: object) -> None:
        self._undo()


class _State:
    """What is set at the moment, for the whole process."""

    def __init__(self, backend: str, num_threads: int) -> None:
        self.backend = backend
        self.num_threads = num_threads
        self.forked = False
        self.lock = threading.RLock()
        self.conv_algorithm = "auto"
        self.pool_depth = 0  # how many `one_pool()` blocks are open, over all threads
        self.blas_before: list[int] = []  # what each BLAS library had before the first of them


# ---------------------------------------------------------------- which implementation


def use_backend(name: str) -> Setting:
    """The setting that every stage runs its Cython kernels ("cython") or its NumPy reference ("numpy").

    A plain call lasts; `with use_backend(...)` lasts as long as the block. It holds for the whole process.

    Raises ValueError for another name, ImportError for "cython" without compiled kernels.
    """
    _check_backend(name, "name")
    former, _state.backend = _state.backend, name
    return Setting(lambda: setattr(_state, "backend", former))


def get_backend() -> str:
    """The implementation that runs: "cython" or "numpy"."""
    return _state.backend


def has_kernels() -> bool:
    """Return whether the kernels were compiled and can be loaded here."""
    return _MISSING is None


def runs_kernels() -> bool:
    """Whether the Cython kernels run, rather than the NumPy references."""
    return _state.backend == "cython"


def _find_kernels() -> ImportError | None:
    """Return why the kernels cannot run here, or None; a level that the user asked for must be usable."""
    try:
        _ext.level()
        if os.environ.get("RCNN_REQUIRE_EXT") == "1":
            for kernel in KERNELS:
                _ext.load(kernel)
    except ImportError as error:
        if os.environ.get("RCNN_SIMD"):
            raise
        return error
    return None


def _check_backend(name: str, argument: str) -> None:
    if name not in BACKENDS:
        raise ValueError(f"{argument} must be one of {', '.join(BACKENDS)}, got {name!r}")
    if name == "cython" and _MISSING is not None:
        raise ImportError(f"the kernels of rcnn were not compiled or cannot be loaded: {_MISSING}") from _MISSING


def _choose_backend() -> str:
    """The backend to begin with; warns once when the kernels are missing and nobody asked for NumPy."""
    wanted = os.environ.get("RCNN_BACKEND")
    if os.environ.get("RCNN_REQUIRE_EXT") == "1":
        _check_backend("cython", "RCNN_REQUIRE_EXT")
    if wanted:
        _check_backend(wanted, "RCNN_BACKEND")
        return wanted
    if _MISSING is None:
        return "cython"
    warnings.warn(
        f"rcnn runs on NumPy alone, which is slower: its kernels were not compiled or cannot be loaded ({_MISSING}). "
        "Installing again where there is a C compiler builds them; RCNN_BACKEND=numpy silences this warning.",
        RuntimeWarning,
        stacklevel=2,
    )
    return "numpy"


def set_conv_algorithm(name: str) -> Setting:
    """The setting by which algorithm kernels compute the convolutions that have a choice: 3x3 filters with stride 1.

    "direct" multiplies as the sum is written. "winograd2" and "winograd4" (Lavin and Gray, 2016) need 2.25 and 4 times
    fewer multiplications; winograd2 rounds about as much as direct, winograd4 some four times more, to 3e-6 of the
    largest value. "auto", the default, is winograd4 where that is faster. A plain call lasts;
    `with set_conv_algorithm(...)` lasts as long as the block. It holds for the whole process, and for nothing on NumPy
    alone.

    Raises ValueError for another name.
    """
    if name not in CONV_ALGORITHMS:
        raise ValueError(f"name must be one of {', '.join(CONV_ALGORITHMS)}, got {name!r}")
    former, _state.conv_algorithm = _state.conv_algorithm, name
    return Setting(lambda: setattr(_state, "conv_algorithm", former))


def get_conv_algorithm() -> str:
    """The algorithm for convolutions: "auto", "direct", "winograd2" or "winograd4"."""
    return _state.conv_algorithm


# ---------------------------------------------------------------- how many threads


def set_num_threads(n: int) -> Setting:
    """The setting that kernels and BLAS use up to `n` threads; results do not depend on it, but for BLAS's rounding.

    A plain call lasts; `with set_num_threads(...)` lasts as long as the block. It holds for the whole process. In a
    forked child the kernels stay on one thread, for OpenMP does not survive a fork; BLAS follows.

    Raises TypeError unless `n` is an integer, ValueError unless it is at least 1.
    """
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)):
        raise TypeError(f"n must be an integer, got {n!r}")
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    with _state.lock:
        former, former_blas = _state.num_threads, _state.blas_before if _state.pool_depth else _blas_counts()
        _put_threads(int(n), [int(n)] * len(former_blas))
    return Setting(lambda: _put_threads(former, former_blas))


def get_num_threads() -> int:
    """The number of threads that kernels and BLAS may use."""
    return _state.num_threads


def threads_for(work: int) -> int:
    """The number of threads for a kernel with `work` multiply-adds to do."""
    return 1 if work < WORTH_THREADS or _state.forked else _state.num_threads


@contextmanager
def one_pool() -> Iterator[None]:
    """A block in which one pool of threads works: the kernels' where they run, else BLAS's.

    BLAS runs one thread beside kernels; on NumPy alone at most the set number, and no more than it was already limited
    to. Blocks nest, and may be open in several Python threads at once: the first to enter sets the limit, the last to
    leave lifts it.
    """
    with _state.lock:
        if _state.pool_depth == 0:
            _state.blas_before = _blas_counts()
            _put_blas(_blas_beside_kernels(_state.blas_before))
        _state.pool_depth += 1
    try:
        yield
    finally:
        with _state.lock:
            _state.pool_depth = max(_state.pool_depth - 1, 0)  # a fork inside the block has reset it
            if _state.pool_depth == 0:
                _put_blas(_state.blas_before)


def _blas_beside_kernels(counts: list[int]) -> list[int]:
    """What BLAS libraries that may have `counts` threads have inside `one_pool()`."""
    return [1 if runs_kernels() else min(count, _state.num_threads) for count in counts]


def _put_threads(num_threads: int, blas: list[int]) -> None:
    with _state.lock:
        _state.num_threads = num_threads
        _put_blas(_blas_beside_kernels(blas) if _state.pool_depth else blas)
        _state.blas_before = blas  # an open `one_pool()` block must not undo this


@functools.cache
def _blas_libraries() -> list[Any]:
    """The loaded BLAS libraries whose threads can be counted and limited; found once, for searching takes 0.1 ms."""
    controller = threadpoolctl.ThreadpoolController().select(user_api="blas")
    return list(controller.lib_controllers)


def _blas_counts() -> list[int]:
    return [library.num_threads for library in _blas_libraries()]


def _put_blas(counts: list[int]) -> None:
    """Sets the threads of each BLAS library; the caller holds the lock.

    A recent threadpoolctl lets only the thread that first set OpenBLAS's limit set it again, and ignores the others.
    The lock orders our calls already, and the thread that leaves last need not be the one that entered first; so that
    hold is released after each call.
    """
    for library, count in zip(_blas_libraries(), counts, strict=True):
        if library.num_threads != count:
            library.set_num_threads(count)
            if hasattr(library, "clear_controlling_thread"):
                library.clear_controlling_thread()


def _default_num_threads() -> int:
    """OMP_NUM_THREADS if it is set, else the processors that this process may use, at most 16."""
    wanted = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    if wanted.isdecimal() and int(wanted) >= 1:
        return int(wanted)
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS or Windows
    processors = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, min(processors, _container_quota(processors), MOST_THREADS))


def _container_quota(otherwise: int) -> int:
    """The processors that a Linux container's quota amounts to, rounded up, or `otherwise`."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return -(-int(quota) // int(period))
    except (OSError, ValueError):  # no such file, or "max"
        return otherwise


def _after_fork() -> None:
    """One thread in the child: the pools of the parent are gone, and libgomp would wait for them for ever."""
    _state.forked = True
    _state.num_threads = 1
    _state.lock = threading.RLock()  # another thread of the parent may have held it
    _state.pool_depth = 0


# ---------------------------------------------------------------- what is there


def info() -> dict[str, str | int | bool]:
    """What runs here: versions, backend, threads, and how the kernels were compiled; for `rcnn info`."""
    facts: dict[str, str | int | bool] = {
        "rcnn": _version(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "platform": f"{platform.system()} {platform.machine()}",
        "backend": get_backend(),
        "threads": get_num_threads(),
        "kernels": _MISSING is None,
    }
    if _MISSING is None:
        from rcnn._ext import _build

        facts |= {
            "openmp": _build.openmp(),
            "simd": f"{_ext.level()} (of {', '.join(_ext.usable_levels())})",
            "compiler": _build.compiler(),
        }
    return facts | {"blas": _blas_name()}


def _version() -> str:
    try:
        return version("rcnn")
    except PackageNotFoundError:  # run from a checkout that was never installed
        return "unknown"


def _blas_name() -> str:
    """The BLAS that NumPy calls, as far as it tells: "openblas 0.3.30 (Haswell)"."""
    for library in _blas_libraries():
        architecture = getattr(library, "architecture", None)
        return f"{library.internal_api} {library.version}" + (f" ({architecture})" if architecture else "")
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return f"{blas['name']} {blas['version']}"


_MISSING = _find_kernels()
_state = _State(_choose_backend(), _default_num_threads())
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

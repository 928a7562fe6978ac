"""The choice between kernels and NumPy references, and the number of threads; no other module decides these.

Every kernel has a reference in NumPy. `rcnn._ext.dispatch` calls `runs_kernels()` to choose between the two, and a
driver calls `threads_for(work)` for the number of threads of its kernel.

Two libraries have their own threads: OpenMP for the kernels, and BLAS for NumPy's matrix products. If both keep a pool
awake, they compete for the same processors, and this costs several times the work itself. Inside `one_pool()` (a
forward or backward pass) only one of them does. If kernels run, BLAS has little to do and gets one thread; on NumPy
alone, BLAS gets all threads.

Environment variables, read at import:
    RCNN_BACKEND        "cython" or "numpy"; by default the kernels, if they are compiled
    RCNN_REQUIRE_EXT    1 makes missing kernels an ImportError, for either backend
    RCNN_SIMD           "baseline", "v3" or "v4", the level of the kernels; by default the best for this processor
    OMP_NUM_THREADS     the initial number of threads, as for every OpenMP program
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
MOST_THREADS = 16  # by default; with more, the kernels are memory-bound
WORTH_THREADS = 200_000  # multiply-adds; for less work, waking the threads takes longer than the work itself


class Setting:
    """A setting that has been made; leaving its `with` block restores the previous value.

    Parameters
    ----------
    undo : callable
        Restores the previous value.
    """

    def __init__(self, undo: Callable[[], None]) -> None:
        self._undo = undo

    def __enter__(self) -> None:
        return None

    def __exit__(self, *exception: object) -> None:
        self._undo()


class _State:
    """The current settings of the process."""

    def __init__(self, backend: str, num_threads: int) -> None:
        self.backend = backend
        self.num_threads = num_threads
        self.forked = False
        self.lock = threading.RLock()
        self.conv_algorithm = "auto"
        self.pool_depth = 0  # the number of open `one_pool()` blocks, over all threads
        self.blas_before: list[int] = []  # threads of each BLAS library before the first of these blocks


# ---------------------------------------------------------------- the implementation


def use_backend(name: str) -> Setting:
    """Choose between the Cython kernels ("cython") and the NumPy references ("numpy"), for the whole process.

    Parameters
    ----------
    name : {"cython", "numpy"}
        The backend.

    Returns
    -------
    Setting
        The previous value is restored at the end of a `with` block; without `with`, the setting stays.

    Raises
    ------
    ValueError
        If the name is unknown.
    ImportError
        If "cython" is chosen and the kernels are not compiled.
    """
    _check_backend(name, "name")
    former, _state.backend = _state.backend, name
    return Setting(lambda: setattr(_state, "backend", former))


def get_backend() -> str:
    """Return the current backend.

    Returns
    -------
    str
        "cython" or "numpy".
    """
    return _state.backend


def runs_kernels() -> bool:
    """Return whether the Cython kernels run, rather than the NumPy references."""
    return _state.backend == "cython"


def _find_kernels() -> ImportError | None:
    """Return the reason why the kernels cannot run, or None; raise it if the user asked for a level (RCNN_SIMD)."""
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
        raise ImportError(f"rcnn's kernels were not compiled or cannot be loaded: {_MISSING}") from _MISSING


def _choose_backend() -> str:
    """Return the initial backend; warn if the kernels are missing and RCNN_BACKEND is not set."""
    requested = os.environ.get("RCNN_BACKEND")
    if os.environ.get("RCNN_REQUIRE_EXT") == "1":
        _check_backend("cython", "RCNN_REQUIRE_EXT")
    if requested:
        _check_backend(requested, "RCNN_BACKEND")
        return requested
    if _MISSING is None:
        return "cython"
    warnings.warn(
        f"rcnn runs on NumPy alone, which is slower: its kernels were not compiled or cannot be loaded ({_MISSING}). "
        "To build them, reinstall rcnn with a C compiler; RCNN_BACKEND=numpy silences this warning.",
        RuntimeWarning,
        stacklevel=2,
    )
    return "numpy"


def set_conv_algorithm(name: str) -> Setting:
    """Choose the kernels' algorithm for 3x3 convolutions of stride 1, for the whole process.

    "direct" sums over each window as in the definition. "winograd2" and "winograd4" need 2.25 and 4 times fewer
    multiplications. Rounding errors of winograd2 are about as large as those of direct; those of winograd4 are about
    four times larger, up to 3e-6 of the largest value. "auto", the default, is winograd4 if that is faster. NumPy
    references ignore this setting.

    Parameters
    ----------
    name : {"auto", "direct", "winograd2", "winograd4"}
        The algorithm.

    Returns
    -------
    Setting
        The previous value is restored at the end of a `with` block; without `with`, the setting stays.

    Raises
    ------
    ValueError
        If the name is unknown.

    References
    ----------
    Lavin and Gray, "Fast algorithms for convolutional neural networks", 2016.
    """
    if name not in CONV_ALGORITHMS:
        raise ValueError(f"name must be one of {', '.join(CONV_ALGORITHMS)}, got {name!r}")
    former, _state.conv_algorithm = _state.conv_algorithm, name
    return Setting(lambda: setattr(_state, "conv_algorithm", former))


def get_conv_algorithm() -> str:
    """Return the current algorithm for 3x3 convolutions of stride 1.

    Returns
    -------
    str
        "auto", "direct", "winograd2" or "winograd4".
    """
    return _state.conv_algorithm


# ---------------------------------------------------------------- the number of threads


def set_num_threads(n: int) -> Setting:
    """Set the largest number of threads of the kernels and of BLAS, for the whole process.

    Results do not depend on it, except for the rounding of BLAS. In a forked child process the kernels always run on
    one thread, because OpenMP does not survive a fork; BLAS follows this setting.

    Parameters
    ----------
    n : int
        The number of threads, at least 1.

    Returns
    -------
    Setting
        The previous value is restored at the end of a `with` block; without `with`, the setting stays.

    Raises
    ------
    TypeError
        If `n` is not an integer.
    ValueError
        If `n` is less than 1.
    """
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)):
        raise TypeError(f"n must be an integer, got {n!r}")
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    with _state.lock:
        former, former_blas = _state.num_threads, _state.blas_before if _state.pool_depth else _blas_counts()
        _apply_threads(int(n), [int(n)] * len(former_blas))
    return Setting(lambda: _apply_threads(former, former_blas))


def get_num_threads() -> int:
    """Return the largest number of threads of the kernels and of BLAS.

    Returns
    -------
    int
        The number of threads.
    """
    return _state.num_threads


def threads_for(work: int) -> int:
    """Return the number of threads for a kernel that performs `work` multiply-adds."""
    return 1 if work < WORTH_THREADS or _state.forked else _state.num_threads


@contextmanager
def one_pool() -> Iterator[None]:
    """Let only one pool of threads work inside the block: the kernels' if kernels run, otherwise BLAS's.

    If kernels run, BLAS has one thread. On NumPy alone, BLAS has at most the set number of threads, and no more than it
    was already limited to. Blocks can be nested, and can be open in several Python threads at once: the first to enter
    sets the limit, the last to leave lifts it.
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
    """Return the number of threads of each BLAS library inside `one_pool()`, at most its `counts`."""
    return [1 if runs_kernels() else min(count, _state.num_threads) for count in counts]


def _apply_threads(num_threads: int, blas: list[int]) -> None:
    with _state.lock:
        _state.num_threads = num_threads
        _put_blas(_blas_beside_kernels(blas) if _state.pool_depth else blas)
        _state.blas_before = blas  # the end of an open `one_pool()` block must not undo this


@functools.cache
def _blas_libraries() -> list[Any]:
    """Return the loaded BLAS libraries whose threads can be limited; cached because the search takes 0.1 ms."""
    controller = threadpoolctl.ThreadpoolController().select(user_api="blas")
    return list(controller.lib_controllers)


def _blas_counts() -> list[int]:
    return [library.num_threads for library in _blas_libraries()]


def _put_blas(counts: list[int]) -> None:
    """Set the threads of each BLAS library; the caller holds the lock.

    In recent versions of threadpoolctl, only the thread that first set OpenBLAS's limit can set it again. Here the
    thread that leaves last need not be the one that entered first, and the lock already orders the calls. So the claim
    is released after each call.
    """
    for library, count in zip(_blas_libraries(), counts, strict=True):
        if library.num_threads != count:
            library.set_num_threads(count)
            if hasattr(library, "clear_controlling_thread"):
                library.clear_controlling_thread()


def _default_num_threads() -> int:
    """Return OMP_NUM_THREADS if it is set, otherwise the processors that this process may use, at most 16."""
    requested = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    if requested.isdecimal() and int(requested) >= 1:
        return int(requested)
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS or Windows
    processors = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, min(processors, _container_quota(processors), MOST_THREADS))


def _container_quota(otherwise: int) -> int:
    """Return the CPU quota of a Linux container in processors, rounded up, or `otherwise` if there is none."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return -(-int(quota) // int(period))
    except (OSError, ValueError):  # no such file, or "max"
        return otherwise


def _after_fork() -> None:
    """Switch the child to one thread: the parent's pools are gone, and libgomp would wait for them forever."""
    _state.forked = True
    _state.num_threads = 1
    _state.lock = threading.RLock()  # another thread of the parent may have held it
    _state.pool_depth = 0


# ---------------------------------------------------------------- information


def info() -> dict[str, str | int | bool]:
    """Return versions, backend, threads and compiler options; `rcnn info` prints them.

    Returns
    -------
    dict
        Values by name.
    """
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
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "unknown"


def _blas_name() -> str:
    """Return the name of the BLAS that NumPy calls, if known: "openblas 0.3.30 (Haswell)"."""
    for library in _blas_libraries():
        architecture = getattr(library, "architecture", None)
        return f"{library.internal_api} {library.version}" + (f" ({architecture})" if architecture else "")
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return f"{blas['name']} {blas['version']}"


_MISSING = _find_kernels()
_state = _State(_choose_backend(), _default_num_threads())
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

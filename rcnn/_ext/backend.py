"""Settings: whether kernels or NumPy references run, and on how many threads. Only this module makes these decisions.

Every kernel has a reference in NumPy. `rcnn._ext.dispatch` calls `runs_kernels()` to choose between the two, and a
driver calls `threads_for(work)` for the number of threads of its kernel.

There are two pools of threads: the pool in `_threads.pyx` for the kernels, and the pool of BLAS for NumPy's matrix
products. If both pools are active, they compete for the same processors, and the work takes several times as long.
Inside `one_pool()` (a forward or backward pass), only one pool is active. If kernels run, BLAS has little to do and
gets one thread. If only NumPy runs, BLAS gets all threads.

Environment variables, read at import:
    RCNN_BACKEND        "cython" or "numpy"; by default the kernels, if they are compiled
    RCNN_REQUIRE_EXT    if it is 1, missing kernels raise ImportError, for either backend
    RCNN_SIMD           "baseline", "v3" or "v4", the level of the kernels; by default the best for this processor
    OMP_NUM_THREADS     the initial number of threads, as for OpenMP programs; at most 256
"""

import contextvars
import functools
import os
import platform
import re
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import threadpoolctl

from rcnn import _ext
from rcnn._ext.table import KERNELS
from rcnn._validate import integer, one_of

T = TypeVar("T")

BACKENDS = ("cython", "numpy")
CONV_ALGORITHMS = ("auto", "direct", "winograd2", "winograd4")
MOST_THREADS = 256
DEFAULT_THREADS = 16  # at most, by default; with more, the kernels are memory-bound
WORTH_THREADS = 200_000  # multiply-adds; for less work, waking the threads takes longer than the work itself


class Choice(Generic[T]):
    """The value of a setting: a default for the whole process, which each context (see `contextvars`) can override.

    A new `Setting` is pending. A `with` statement may enter it, so only the thread that made it sees its value. If it
    is deleted or printed first, or if this thread reads the value, then it was a plain call, and its value becomes the
    default.

    Parameters
    ----------
    name : str
        The name of the setting.
    value : object
        The initial default.
    """

    def __init__(self, name: str, value: T) -> None:
        self.here: contextvars.ContextVar[T | None] = contextvars.ContextVar(f"rcnn_{name}", default=None)
        self.default = value
        self.changes = 0  # how often the default was changed
        self._pending: dict[int, tuple[threading.Thread, T]] = {}  # the maker and the value, by the id of the setting

    def get(self) -> T:
        """Return the value in the current context."""
        if self._pending:
            self._settle_pending()
        here = self.here.get()
        return self.default if here is None else here

    def changed_default(self) -> T | None:
        """Return the default of the process, or None if it has not been changed."""
        return self.default if self.changes else None

    def add(self, setting: "Setting[T]", value: T) -> None:
        """Make `value` the pending value of a new setting."""
        self._settle_pending()
        with _state.lock:
            self._pending[id(setting)] = threading.current_thread(), value

    def remove(self, setting: "Setting[T]") -> bool:
        """Forget the value of a setting. Return False if the setting was no longer pending."""
        with _state.lock:
            return self._pending.pop(id(setting), None) is not None

    def settle(self, key: int) -> None:
        """Make the value of the setting with this id the default, if it is pending."""
        with _state.lock:
            if key in self._pending:
                self.set_default(self._pending.pop(key)[1])

    def set_default(self, value: T) -> None:
        """Change the default. The caller must hold the lock."""
        self.default = value
        self.changes += 1

    def _settle_pending(self) -> None:
        """Settle what this thread has made, and what threads have made that have ended."""
        with _state.lock:
            for key, (maker, _) in list(self._pending.items()):
                if maker is threading.current_thread() or not maker.is_alive():
                    self.settle(key)

    def reset(self, value: T | None = None) -> None:
        """In a forked child, make `value`, or else the value of this thread, the initial default."""
        own = threading.current_thread()
        self._pending = {key: entry for key, entry in self._pending.items() if entry[0] is own}
        self.default, self.changes = self.get() if value is None else value, 0
        self._pending.clear()


class ThreadChoice(Choice[int]):
    """The number of threads. A new default also limits the threads of BLAS."""

    def set_default(self, value: int) -> None:
        """Change the default and the limit of BLAS."""
        _limit_blas()  # first notes changes by other libraries, which the new default overrides
        super().set_default(value)
        _limit_blas()


class Setting(Generic[T]):
    """A new value of a setting. It applies to the whole process or, in a `with` statement, to the current context.

    Parameters
    ----------
    choice : Choice
        The setting to change.
    value : object
        The new value.
    """

    def __init__(self, choice: Choice[T], value: T) -> None:
        self._choice, self._value = choice, value
        self._outside = choice.here.get()
        self._former: list[T | None] = []  # one value for each open `with` block
        choice.add(self, value)
        if self._outside is not None:  # inside a `with` block, whose value would hide the new default
            choice.here.set(value)

    def __enter__(self) -> None:
        if self._choice.remove(self):
            self._choice.here.set(self._outside)
        self._former.append(self._choice.here.get())
        self._choice.here.set(self._value)

    def __exit__(self, *exception: object) -> None:
        self._choice.here.set(self._former.pop())

    def __del__(self) -> None:
        self._choice.settle(id(self))

    def __repr__(self) -> str:  # an interactive session prints the result of a plain call, and keeps it
        self._choice.settle(id(self))
        return f"<setting {self._value!r}>"


class ThreadSetting(Setting[int]):
    """A new number of threads, which also limits the threads of BLAS."""

    def __enter__(self) -> None:
        super().__enter__()
        with _state.lock:
            _state.limits.append(self._value)
            _limit_blas()

    def __exit__(self, *exception: object) -> None:
        super().__exit__(*exception)
        with _state.lock:
            if self._value in _state.limits:  # a fork inside the block has emptied the list
                _state.limits.remove(self._value)
            _limit_blas()


class _State:
    """The settings, and the data that are needed to limit the threads of BLAS.

    BLAS has one number of threads for the whole process, so all contexts share this number. The `with` block
    that was entered last sets this number.
    """

    def __init__(self, backend: str, num_threads: int) -> None:
        self.backend = Choice("backend", backend)
        self.conv_algorithm = Choice("conv_algorithm", "auto")
        self.num_threads = ThreadChoice("num_threads", num_threads)
        self.forked = False
        self.lock = threading.RLock()  # protects the defaults, and the attributes below
        self.passes: list[bool] = []  # for each open `one_pool()` block, whether kernels run in it
        self.limits: list[int] = []  # one number for each open `with set_num_threads(...)` block
        self.blas_applied: list[int] | None = None  # limits of the BLAS libraries that rcnn set, or None
        self.blas_before: list[int] = []  # threads of each BLAS library without these limits
        self.overridden = -1  # the count of changes of the default that another library's setting of BLAS replaces


# ---------------------------------------------------------------- the implementation


def use_backend(name: str) -> Setting[str]:
    """Choose between the Cython kernels ("cython") and the NumPy references ("numpy").

    Parameters
    ----------
    name : {"cython", "numpy"}
        The backend.

    Returns
    -------
    Setting
        As a plain call, this sets the default of the process. In a `with` statement, the new value applies only inside
        the block and in the current context: not in other threads, and not in threads that are started inside the
        block. Do not store the result of a plain call: other threads see the new default when the result is deleted or
        printed, or when the calling thread next uses rcnn.

    Raises
    ------
    TypeError, ValueError
        If the name is unknown.
    ImportError
        If "cython" is chosen and the kernels are not compiled.
    """
    _check_backend(name, "name")
    return Setting(_state.backend, name)


def get_backend() -> str:
    """Return the current backend.

    Returns
    -------
    str
        "cython" or "numpy".
    """
    return _state.backend.get()


def runs_kernels() -> bool:
    """Return True if the Cython kernels run, and False if the NumPy references run."""
    return _state.backend.get() == "cython"


def _find_kernels() -> ImportError | OSError | None:
    """Return the error that prevents kernels from running, or None. If the user set RCNN_SIMD, raise the error."""
    try:
        _ext.level()
        _ext.check_files()
        if os.environ.get("RCNN_REQUIRE_EXT") == "1":
            for kernel in KERNELS:
                _ext.load(kernel)
    except (ImportError, OSError) as error:
        if os.environ.get("RCNN_SIMD"):
            raise
        return error
    return None


def _check_backend(name: str, argument: str) -> None:
    one_of(BACKENDS).check(argument, name)
    if name == "cython" and _MISSING is not None:
        raise ImportError(f"rcnn's kernels were not compiled or cannot be loaded: {_MISSING}") from _MISSING


def _choose_backend() -> str:
    """Return the initial backend. Warn if the kernels are missing and RCNN_BACKEND is not set."""
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


def set_conv_algorithm(name: str) -> Setting[str]:
    """Choose the kernels' algorithm for 3x3 convolutions of stride 1.

    "direct" sums over each window as in the definition. "winograd2" and "winograd4" reduce the number of
    multiplications by factors of 2.25 and 4. The rounding errors of winograd2 are about as large as the errors of
    direct. The errors of winograd4 are about four times as large, up to 3e-6 of the largest value. "auto", the default,
    uses winograd4 where it is faster, and otherwise direct. The NumPy references ignore this setting.

    Parameters
    ----------
    name : {"auto", "direct", "winograd2", "winograd4"}
        The algorithm.

    Returns
    -------
    Setting
        As a plain call, this sets the default of the process. In a `with` statement, the new value applies only inside
        the block and in the current context: not in other threads, and not in threads that are started inside the
        block. Do not store the result of a plain call: other threads see the new default when the result is deleted or
        printed, or when the calling thread next uses rcnn.

    Raises
    ------
    TypeError, ValueError
        If the name is unknown.

    References
    ----------
    Lavin and Gray, "Fast algorithms for convolutional neural networks", 2016.
    """
    one_of(CONV_ALGORITHMS).check("name", name)
    return Setting(_state.conv_algorithm, name)


def get_conv_algorithm() -> str:
    """Return the current algorithm for 3x3 convolutions of stride 1.

    Returns
    -------
    str
        "auto", "direct", "winograd2" or "winograd4".
    """
    return _state.conv_algorithm.get()


# ---------------------------------------------------------------- the number of threads


def set_num_threads(n: int) -> Setting[int]:
    """Set the largest number of threads of the kernels and of BLAS.

    Results do not depend on this number, except for the rounding of BLAS. If other programs use the processors, the
    kernels sometimes run on fewer threads, because waiting for a thread that has no processor takes longer than doing
    its work. In a forked child process, the kernels always run on one thread, but BLAS follows this setting. BLAS has
    one number of threads for the whole process: the `with` block that was entered last determines it for all threads.

    Parameters
    ----------
    n : int
        The number of threads, in 1 .. 256.

    Returns
    -------
    Setting
        As a plain call, this sets the default of the process. In a `with` statement, the new value applies only inside
        the block and in the current context: not in other threads, and not in threads that are started inside the
        block. Do not store the result of a plain call: other threads see the new default when the result is deleted or
        printed, or when the calling thread next uses rcnn.

    Raises
    ------
    TypeError
        If `n` is not an integer.
    ValueError
        If `n` is not in 1 .. 256.
    """
    return ThreadSetting(_state.num_threads, integer(1, MOST_THREADS).check("n", n))


def get_num_threads() -> int:
    """Return the largest number of threads of the kernels and of BLAS.

    Returns
    -------
    int
        The number of threads.
    """
    return _state.num_threads.get()


def threads_for(work: int) -> int:
    """Return the number of threads for a kernel that performs `work` multiply-adds."""
    return 1 if work < WORTH_THREADS or _state.forked else _state.num_threads.get()


@contextmanager
def one_pool() -> Iterator[None]:
    """Use only one pool of threads inside the block: the kernels' pool if kernels run, otherwise BLAS's pool.

    If kernels run, BLAS has one thread. If only NumPy runs, BLAS has at most the configured number of threads, or fewer
    if an earlier limit is lower. Blocks can be nested, and several Python threads can be in a block at once. The first
    thread that enters sets the limit, and the last thread that leaves removes it.
    """
    kernels = runs_kernels()
    with _state.lock:
        _state.passes.append(kernels)
        _limit_blas()
    try:
        yield
    finally:
        with _state.lock:
            if kernels in _state.passes:  # a fork inside the block has emptied the list
                _state.passes.remove(kernels)
            _limit_blas()


def _limit_blas() -> None:
    """Limit the threads of BLAS as the open blocks and the default require, or restore the original number."""
    with _state.lock:
        num_threads = _state.num_threads.get()  # may change the default
        current = _blas_counts()
        if current != _state.blas_applied:  # rcnn set no limits, or another library has changed them
            _state.blas_before = current
            if _state.blas_applied is not None:
                _state.overridden = _state.num_threads.changes
        before = _state.blas_before
        is_overridden = _state.num_threads.changes == _state.overridden
        default = None if is_overridden else _state.num_threads.changed_default()
        limit = _state.limits[-1] if _state.limits else default
        if any(_state.passes):
            counts = [1] * len(before)
        elif limit is not None:
            counts = [limit] * len(before)
        elif _state.passes:
            counts = [min(count, num_threads) for count in before]
        else:
            counts = before
        _put_blas(counts)
        _state.blas_applied = None if counts is before else counts


@functools.cache
def _blas_libraries() -> list[Any]:
    """Return the loaded BLAS libraries whose threads can be limited. The result is cached: a search takes 0.1 ms."""
    if sys.platform == "emscripten":  # one thread; the search would print a warning in notebooks
        return []
    controller = threadpoolctl.ThreadpoolController().select(user_api="blas")
    return list(controller.lib_controllers)


def _blas_counts() -> list[int]:
    return [library.num_threads for library in _blas_libraries()]


def _put_blas(counts: list[int]) -> None:
    """Set the number of threads of each BLAS library. The caller must hold the lock.

    In recent versions of threadpoolctl, only the thread that first set the limit of OpenBLAS can set it again. Here,
    another thread may remove the limit, and the lock already prevents simultaneous calls. Therefore, this restriction
    is reset after each call.
    """
    for library, count in zip(_blas_libraries(), counts, strict=True):
        if library.num_threads != count:
            library.set_num_threads(count)
            if hasattr(library, "clear_controlling_thread"):
                library.clear_controlling_thread()


def _default_num_threads() -> int:
    """Return OMP_NUM_THREADS or, if it is not set, the number of processors that this process may use, at most 16."""
    requested = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if re.fullmatch("[0-9]{1,9}", requested) and int(requested) >= 1:
        return min(int(requested), MOST_THREADS)
    count = len(processors())
    return max(1, min(count, container_quota(count), DEFAULT_THREADS))


def processors() -> set[int]:
    """Return the numbers of the processors that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS or Windows
    return affinity(0) if affinity else set(range(os.cpu_count() or 1))


def container_quota(otherwise: int) -> int:
    """Return how many processors a Linux container may use, rounded up, or `otherwise` if it has no limit."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return -(-int(quota) // int(period))
    except (OSError, ValueError):  # no such file, or "max"
        return otherwise


def _after_fork() -> None:
    """Set a forked child process to one thread, because it often shares the processors with other child processes."""
    _state.forked = True
    _state.lock = threading.RLock()  # another thread of the parent may have held it
    _state.backend.reset()
    _state.conv_algorithm.reset()
    _state.num_threads.reset(1)
    _state.num_threads.here.set(None)
    _state.passes, _state.limits = [], []


# ---------------------------------------------------------------- information


def info() -> dict[str, str | int | bool]:
    """Return versions, backend, threads and compiler options; `rcnn info` prints them.

    Returns
    -------
    dict
        Maps the name of each value, such as "backend", to the value.
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
    """Return the name of NumPy's BLAS library if it is known, for example "openblas 0.3.30 (Haswell)"."""
    for library in _blas_libraries():
        architecture = getattr(library, "architecture", None)
        return f"{library.internal_api} {library.version}" + (f" ({architecture})" if architecture else "")
    blas = np.show_config(mode="dicts").get("Build Dependencies", {}).get("blas", {})  # no version if NumPy has no BLAS
    return f"{blas.get('name', 'unknown')} {blas.get('version', '')}".strip()


_MISSING = _find_kernels()
_state = _State(_choose_backend(), _default_num_threads())
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

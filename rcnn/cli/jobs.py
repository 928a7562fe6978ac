"""Work on many items in other processes: on this computer or in a Dask cluster, through joblib.

The results come in the order of the items, and only a few items are in memory. If a process dies, for example because
the memory is full, its items are tried once more.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import logging
import re
import secrets
import signal
import threading
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from PIL import Image

from rcnn._ext import backend
from rcnn._validate import MOST_SEQUENCE
from rcnn.cli.process import tell

T = TypeVar("T")
U = TypeVar("U")
EXIT_CODES = re.compile(r"The exit codes of the workers are \{(.*?)\}")  # in the error of loky, joblib's process pool
IDLE = 30  # seconds after which a process without work ends, also if the command was killed
MOST_WAITING = 500  # for each process: items that were given to the processes, and whose results were not yielded yet
MOST_LOST = 5  # if this many items in a row are lost, the items are not the reason
MOST_NAMES = 20  # items to name in a message
LOADING = threading.Lock()  # so that only one thread of a Dask worker loads the files of a command
MISSING_DASK = "--dask requires the package distributed, which is not installed; run: pip install 'rcnn[dask]'"


@dataclass(frozen=True)
class Lost(Generic[T]):
    """An item without a result, because two processes died while they worked on it.

    Attributes
    ----------
    item : object
        The item.
    reason : str
        How the second process died.
    """

    item: T
    reason: str


@dataclass(frozen=True)
class Command:
    """The settings of a command that its other processes need. They are hashable; see `_load_once`.

    Attributes
    ----------
    items : tuple
        The names and the values of the options.
    threads : int
        The number of threads of each process.
    max_pixels : int or None
        The largest number of pixels of an image.
    identity : str
        A different text for each command. The workers of a Dask cluster serve many commands, and the weights file may
        change from one command to the next.
    """

    items: tuple[tuple[str, Any], ...]
    threads: int
    max_pixels: int | None = field(default_factory=lambda: Image.MAX_IMAGE_PIXELS)
    identity: str = field(default_factory=lambda: secrets.token_hex(8))

    @property
    def options(self) -> argparse.Namespace:
        """The options by name."""
        return argparse.Namespace(**dict(self.items))

    @contextlib.contextmanager
    def loaded(self, load: Callable[[argparse.Namespace], T]) -> Iterator[T]:
        """Yield load(options) in a block with the settings of the command; each process calls `load` once."""
        Image.MAX_IMAGE_PIXELS = self.max_pixels  # not restored, because other threads of a Dask worker use it, too
        with backend.set_num_threads(self.threads):
            with LOADING:
                value = _load_once(self, load)
            yield value


@functools.lru_cache(maxsize=1)
def _load_once(command: Command, load: Callable[[argparse.Namespace], Any]) -> Any:
    return load(command.options)


class Pool:
    """Processes that work on items in order.

    Parameters
    ----------
    jobs : int
        The number of processes on this computer.
    cluster : str, optional
        The address of the scheduler of a Dask cluster, such as "tcp://10.0.0.1:8786". Its workers are then used
        instead of processes on this computer.

    Raises
    ------
    OSError
        If there is no cluster at this address, if the cluster has no workers, or, from `map`, if the scheduler ends.
    ImportError
        If `cluster` is not None, and Dask is not installed.
    """

    def __init__(self, jobs: int, cluster: str | None = None) -> None:
        self.jobs = jobs
        self.threads = max(1, backend.get_num_threads() // jobs) if cluster is None else 1
        self.client = None if cluster is None else _connect(cluster)
        processes = jobs if self.client is None else sum(self.client.ncores().values())
        self.most_waiting = MOST_WAITING * processes

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *error: object) -> None:
        if self.client is not None:
            self.client.close()

    def map(self, work: Callable[[T], U], items: Iterable[T], describe: Callable[[T], str]) -> Generator[U | Lost[T]]:
        """Yield work(item) for each item, in order.

        If a process dies, the items that were not finished are tried once more, one at a time.

        Parameters
        ----------
        work : callable
            A function that other processes can import. It receives an item, and the result must be small.
        items : iterable
            The items.
        describe : callable
            Function that returns the name of an item for a message.

        Yields
        ------
        object
            A result, or `Lost` for an item during which a process died twice.

        Raises
        ------
        RuntimeError
            If `MOST_LOST` items in a row are lost, for example because the memory is too small for the processes.
        """
        source = iter(items)
        call = _Recorded(work)
        lost = 0  # items in a row
        while True:
            with contextlib.closing(_Run(self, call, source)) as run:
                try:
                    for result in run.results():
                        lost = 0
                        yield result
                    return
                except Exception as error:
                    if (reason := _death(error)) is None:
                        raise
            unfinished = [*run.waiting]
            names = ", ".join(map(describe, unfinished[:MOST_NAMES]))
            more = f" and {len(unfinished) - MOST_NAMES} more" if len(unfinished) > MOST_NAMES else ""
            tell(f"a worker process died ({reason}); trying again: {names}{more}")
            for item in unfinished:
                again = self._once_more(call, item)
                lost = lost + 1 if isinstance(again, Lost) else 0
                if isinstance(again, Lost) and lost == MOST_LOST:
                    raise RuntimeError(
                        f"worker processes died again and again ({again.reason}), also during {describe(item)}; if the "
                        "memory is full, use fewer processes"
                    )
                yield again

    def _once_more(self, call: _Recorded[T, U], item: T) -> U | Lost[T]:
        with contextlib.closing(_Run(self, call, iter([item]))) as run:
            try:
                return next(run.results())
            except Exception as error:
                if (reason := _death(error)) is None:
                    raise
                return Lost(item, reason)

    def command(self, options: argparse.Namespace, needed: Sequence[str]) -> Command:
        """Return the settings of a command for the processes, with the options whose names are in `needed`."""
        return Command(tuple((name, getattr(options, name)) for name in needed), self.threads)

    def settings(self) -> contextlib.AbstractContextManager[Any]:
        """Return the context in which joblib uses these processes."""
        from joblib import parallel_config

        if self.client is None:
            return parallel_config(
                "loky",
                n_jobs=max(2, self.jobs),
                inner_max_num_threads=self.threads,
                idle_worker_timeout=IDLE,
                initializer=signal.signal,  # Ctrl-C reaches all processes, but only the command acts on it
                initargs=(signal.SIGINT, signal.SIG_IGN),
            )
        return parallel_config(_dask_backend()(client=self.client), n_jobs=-1)


@dataclass(frozen=True)
class _Recorded(Generic[T, U]):
    """A function for another process; it also returns its warnings, so that this process can show them."""

    work: Callable[[T], U]

    def __call__(self, item: T) -> tuple[U, list[str]]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("default")
            warnings.filterwarnings("ignore", module="PIL")  # about unusual metadata
            result = self.work(item)
        return result, [str(warning.message) for warning in caught]


class _Run(Generic[T, U]):
    """The work of a pool until it ends or a process dies.

    Attributes
    ----------
    waiting : deque
        The items that were given to the processes, and whose results were not yielded yet.
    """

    def __init__(self, pool: Pool, call: _Recorded[T, U], items: Iterator[T]) -> None:
        self.pool, self.call, self.items = pool, call, items
        self.waiting: deque[T] = deque()
        self.ended, self.lock = False, threading.Lock()

    def results(self) -> Generator[U]:
        """Yield the results in order. A thread of joblib takes the next item whenever a process has finished one.

        joblib keeps all results that are not yielded yet. There may be many: one item may take long, or the results
        may be written to a full pipe. If `most_waiting` items are waiting, `_calls` therefore ends, as if there were no
        more items. After their results, another `Parallel` continues with the next items.
        """
        from joblib import Parallel

        with warnings.catch_warnings(), self.pool.settings():
            # joblib warns about processes that end, and about unused results.
            warnings.filterwarnings("ignore", module="joblib")
            while not self.ended:
                with contextlib.ExitStack() as stack:
                    with _without_interrupts():
                        results = Parallel(return_as="generator", batch_size="auto")(self._calls())
                        stack.enter_context(contextlib.closing(results))
                    for result, messages in _connected(results):
                        self.waiting.popleft()
                        for text in messages:
                            warnings.warn(text, stacklevel=1)
                        yield result

    def _calls(self) -> Iterator[Any]:
        """Yield the calls for the next items, until there are no more items or too many of them are waiting."""
        from joblib import delayed

        while True:
            with self.lock:
                if self.ended or len(self.waiting) >= self.pool.most_waiting:
                    return
                try:
                    item = next(self.items)
                except StopIteration:
                    self.ended = True
                    return
                self.waiting.append(item)
            yield delayed(self.call)(item)

    def close(self) -> None:
        """Take no more items."""
        with self.lock:
            self.ended = True


def add_jobs(parser: argparse._ActionsContainer) -> None:
    """Add the options --jobs and --dask to a command."""
    parser.add_argument(
        "--jobs",
        type=int,
        default=1,
        metavar="N",
        help="work on different images in N processes, which is faster if there are many images (default: %(default)s)",
    )
    parser.add_argument(
        "--dask",
        metavar="URL",
        help="work on different images in the workers of a Dask cluster; URL is the address of its scheduler, such as "
        "tcp://10.0.0.1:8786",
    )


def make_pool(options: argparse.Namespace) -> Pool | None:
    """Return the processes that the options ask for, or None to work in this process."""
    if not 1 <= options.jobs <= MOST_SEQUENCE:
        raise ValueError(f"--jobs must be at least 1, got {options.jobs}")
    if options.dask is not None and options.jobs > 1:
        raise ValueError("--jobs cannot be combined with --dask, because the cluster decides the number of processes")
    if options.dask is None and options.jobs == 1:
        return None
    return Pool(options.jobs, options.dask)


def _connect(address: str) -> Any:
    """Return a client of the Dask cluster whose scheduler has this address."""
    try:
        from distributed import Client
    except ImportError as error:
        raise ImportError(MISSING_DASK) from error
    try:
        client = Client(address, set_as_default=False, timeout=5)
    except (OSError, ValueError) as error:
        raise ConnectionError(f"--dask {address}: no scheduler of a Dask cluster answers at this address") from error
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)  # the command reports a lost connection
    if not client.ncores():
        client.close()
        raise ConnectionError(f"--dask {address}: the cluster has no workers; start some with: dask worker {address}")
    return client


def _dask_backend() -> Any:
    """Return joblib's backend for Dask, with corrections of two faults of joblib 1.6.

    joblib waits forever for a task whose workers died. If the cluster has only one processor, for example because
    another worker has just died, joblib does the work in this process.
    """
    from joblib._dask import DaskDistributedBackend

    class Backend(DaskDistributedBackend):  # type: ignore[misc]
        def submit(self, func: Any, callback: Any = None) -> Any:
            future = super().submit(func, callback)
            future.add_done_callback(lambda done: done.exception() is not None and callback(done))
            return future

        def retrieve_result_callback(self, out: Any) -> Any:
            if hasattr(out, "exception"):
                raise out.exception()
            return super().retrieve_result_callback(out)

        def effective_n_jobs(self, n_jobs: int) -> int:
            return max(2, super().effective_n_jobs(n_jobs))

    return Backend


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """Block Ctrl-C, so that processes that start in this block ignore it even before their initializer runs.

    Processes and threads inherit the blocked signal. In this process, a signal that arrives in the block is delivered
    after it.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # a helper of joblib; in Python 3.11, its start unblocks the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _connected(results: Iterator[T]) -> Iterator[T]:
    """Yield the results; raise ConnectionError if the scheduler of a Dask cluster ends."""
    try:
        yield from results
    except Exception as error:
        if type(error).__name__ == "FutureCancelledError":
            raise ConnectionError("--dask: the connection to the scheduler was lost") from error
        raise


def _death(error: BaseException) -> str | None:
    """Return how a process died, or None if the error has another cause."""
    if type(error).__name__ == "TerminatedWorkerError":
        found = EXIT_CODES.search(str(error))
        return found[1] if found else "unknown exit code"
    if type(error).__name__ == "KilledWorker":
        worker = getattr(error, "last_worker", None)
        return f"Dask worker {getattr(worker, 'address', worker)}"
    return None

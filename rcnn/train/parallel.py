"""Data-parallel training: a group of processes that share every batch, and the sums that they exchange.

Each process of a group computes the losses and the gradients of its share of the images. The sums over the group are
the losses and the gradients of the whole batch, so all processes update their weights in the same way. `mpiexec -n 4
rcnn train FOLDER` or Slurm's `srun -n 4 rcnn train FOLDER` starts a group of four processes, which use MPI (mpi4py). A
process that was started by itself is a group of one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from rcnn import transform
from rcnn._ext import backend
from rcnn.nn import Parameter, Tensor, parallel
from rcnn.nn.tensor import watching_leaves

T = TypeVar("T")

# The environment variables with the number of a process and with the number of processes, for each kind of launcher:
# mpiexec of Open MPI; launchers with the protocol PMI (mpiexec of MPICH and Intel MPI, srun --mpi=pmi2); and srun
# --mpi=pmix. The first kind of which both variables are set counts: mpiexec may itself run inside a step of srun.
# Without srun, a batch script of Slurm is one process, and PMIX_RANK is not set.
LAUNCHERS = (
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("PMI_RANK", "PMI_SIZE"),
    ("PMIX_RANK", "SLURM_STEP_NUM_TASKS"),
)
BUCKET = 4 << 20  # bytes; gradients are added in arrays of about this size
POLL = 0.001  # seconds between two calls of MPI while gradients are on their way

Wait = Callable[[], object]


class Group:
    """Processes that share every batch. This class is the group of a single process.

    A subclass for several processes sets the attributes, and defines the first methods below, up to `abort`. All
    processes of a group must call the methods in the same order.

    Attributes
    ----------
    rank : int
        The number of this process, in 0 .. size - 1. Process 0 writes the files and shows the progress.
    size : int
        The number of processes.
    neighbours : int
        The number of processes of the group on this machine, including this one.
    """

    rank = 0
    size = 1
    neighbours = 1

    # ------------------------------------------------------------------ methods that a subclass defines

    def exchange(self, value: T) -> list[T]:
        """Return the values that all processes passed.

        Parameters
        ----------
        value : object
            A value that pickle can store.

        Returns
        -------
        list
            One value per process, in the order of their numbers.
        """
        return [value]

    def add(self, values: np.ndarray) -> Wait:
        """Start to replace an array by its sum over all processes, and return while the sum is computed.

        Parameters
        ----------
        values : contiguous float array
            The numbers of this process. Do not use the array until the returned function has been called.

        Returns
        -------
        callable
            Function without arguments that waits for the sum.
        """
        del values
        return lambda: None

    def progressing(self) -> contextlib.AbstractContextManager[None]:
        """Return a context for `backward`, in which the sums that `add` starts are computed at the same time.

        Returns
        -------
        context manager
            The context.
        """
        return contextlib.nullcontext()

    def fail_together(self, seconds: float) -> bool:
        """Return whether all processes call this method within some seconds, because all of them have failed.

        Parameters
        ----------
        seconds : float
            How long to wait for the others.

        Returns
        -------
        bool
            False if another process still works. It would wait for this process forever.
        """
        del seconds
        return True

    def abort(self, status: int) -> None:
        """End all processes of the group at once; a group of one process goes on.

        Parameters
        ----------
        status : int
            The exit status.
        """

    # ------------------------------------------------------------------ methods that use those above

    def share(self, items: Sequence[T]) -> tuple[int, Sequence[T]]:
        """Return this process's share of the images of a batch.

        Parameters
        ----------
        items : sequence
            The whole batch.

        Returns
        -------
        first : int
            The position of the first item of the share in the batch.
        share : sequence
            Neighbouring items. The shares of two processes differ by at most one item in length.
        """
        first, end = (len(items) * rank // self.size for rank in (self.rank, self.rank + 1))
        return first, items[first:end]

    def total(self, values: np.ndarray) -> np.ndarray:
        """Return the sum of an array over all processes.

        Parameters
        ----------
        values : float array
            The numbers of this process.

        Returns
        -------
        array
            The sum.
        """
        if self.size == 1:
            return values
        summed = np.array(values, order="C")
        self.add(summed)()
        return summed

    def broadcast(self, value: T) -> T:
        """Return the value that process 0 passed.

        Parameters
        ----------
        value : object
            A value that pickle can store. Only that of process 0 counts.

        Returns
        -------
        object
            The value.
        """
        return value if self.size == 1 else self.exchange(value if self.rank == 0 else None)[0]  # type: ignore[return-value]

    def any(self, flag: bool) -> bool:
        """Return whether any process passed True.

        Parameters
        ----------
        flag : bool
            The flag of this process.

        Returns
        -------
        bool
            True if one of the flags is True.
        """
        return flag if self.size == 1 else any(self.exchange(flag))

    def padded(self, batch: transform.Batch) -> transform.Batch:
        """Return the images of a share, padded to the size of the whole batch.

        Parameters
        ----------
        batch : rcnn.transform.Batch
            The images of this process.

        Returns
        -------
        rcnn.transform.Batch
            The same images with as much padding as in a batch with the images of all processes.
        """
        if self.size == 1:
            return batch
        sizes = self.exchange(batch.images.shape[2:])
        height, width = (max(sides) for sides in zip(*sizes, strict=True))
        if (height, width) == batch.images.shape[2:]:
            return batch
        n, channels, rows, columns = batch.images.shape
        padded = np.zeros((n, height, width, channels), batch.images.dtype)
        padded[:, :rows, :columns] = batch.images.transpose(0, 2, 3, 1)
        return dataclasses.replace(batch, images=padded.transpose(0, 3, 1, 2))

    def sharing(self) -> contextlib.AbstractContextManager[None]:
        """Return a context in which losses and batch norms use the numbers of the whole batch.

        Returns
        -------
        context manager
            The context, for `get_loss` and `backward`; see `rcnn.nn.parallel`.
        """
        return contextlib.nullcontext() if self.size == 1 else parallel.summing_over(self.total)

    def adding_gradients(self, parameters: Sequence[Parameter]) -> contextlib.AbstractContextManager[None]:
        """Return a context for `backward`, after which each gradient is the sum over all processes.

        Parameters
        ----------
        parameters : sequence of Parameter
            The parameters, in the order of the layers.

        Returns
        -------
        context manager
            The context. A gradient is sent while `backward` computes the next gradients.
        """
        return contextlib.nullcontext() if self.size == 1 else self._adding(parameters)

    @contextlib.contextmanager
    def _adding(self, parameters: Sequence[Parameter]) -> Iterator[None]:
        buckets = Buckets(parameters)
        with self.progressing(), watching_leaves(lambda leaf: buckets.collect(leaf, self)):
            yield
        buckets.finish(self)


ALONE = Group()


class Buckets:
    """Arrays that collect the gradients of several parameters, so that few messages are needed.

    `backward` computes the gradients of the last layers first. Bucket 0 therefore contains those of the last
    parameters. A bucket is sent when it is complete and all buckets before it have been sent. In this way, all
    processes send the buckets in the same order. After the gradients, a bucket contains one number per parameter: 1 if
    the parameter has a gradient, else 0. If the sum of these numbers over all processes is 0, the parameter gets no
    gradient, and is not updated.

    Parameters
    ----------
    parameters : sequence of Parameter
        The parameters, in the order of the layers.
    nbytes : int
        The size of a bucket. A bucket ends with the parameter that reaches this size.
    """

    def __init__(self, parameters: Sequence[Parameter], nbytes: int = BUCKET) -> None:
        self.groups: list[list[Parameter]] = [[]]
        for parameter in reversed(parameters):
            last = self.groups[-1]
            if last and (last[0].dtype != parameter.dtype or sum(p.data.nbytes for p in last) >= nbytes):
                self.groups.append([])
            self.groups[-1].append(parameter)
        self.bucket_of = {id(p): index for index, group in enumerate(self.groups) for p in group}
        self.missing = [{id(p) for p in group} for group in self.groups]
        self.sent: list[tuple[np.ndarray, Wait]] = []

    def collect(self, leaf: Tensor, group: Group) -> None:
        """Record that a gradient is complete, and send all buckets that are now complete.

        Parameters
        ----------
        leaf : Tensor
            A leaf of the graph, with its gradient. A leaf that is not a parameter is ignored.
        group : Group
            The processes.
        """
        index = self.bucket_of.get(id(leaf))
        if index is None:
            return
        self.missing[index].discard(id(leaf))
        while len(self.sent) < len(self.groups) and not self.missing[len(self.sent)]:
            self._send(group)

    def finish(self, group: Group) -> None:
        """Send the other buckets, wait for all sums, and store the sums as the gradients of the parameters.

        Parameters
        ----------
        group : Group
            The processes.
        """
        while len(self.sent) < len(self.groups):
            self._send(group)
        for members, (values, wait) in zip(self.groups, self.sent, strict=True):
            wait()
            start, flags = 0, values[len(values) - len(members) :]
            for parameter, flag in zip(members, flags, strict=True):
                part = values[start : start + parameter.size].reshape(parameter.shape)
                parameter.grad = part if flag else None
                start += parameter.size

    def _send(self, group: Group) -> None:
        """Start to add the next bucket over all processes."""
        members = self.groups[len(self.sent)]
        values = np.empty(sum(p.size for p in members) + len(members), members[0].dtype)
        start = 0
        for parameter in members:
            into = values[start : start + parameter.size].reshape(parameter.shape)
            into[...] = 0 if parameter.grad is None else parameter.grad
            start += parameter.size
        values[start:] = [p.grad is not None for p in members]
        self.sent.append((values, group.add(values)))


# ---------------------------------------------------------------------- MPI


class _MPIGroup(Group):
    """The processes that mpiexec or srun has started.

    Gradients have their own communicator, because they are sent while batch norms add other numbers. A third
    communicator is for processes that fail while others exchange numbers.
    """

    def __init__(self) -> None:
        from mpi4py import MPI  # an optional dependency, which a single process does not need

        self._mpi = MPI
        self._world = MPI.COMM_WORLD.Dup()
        self._gradients = MPI.COMM_WORLD.Dup()
        self._failures = MPI.COMM_WORLD.Dup()
        self._requests: queue.SimpleQueue[Any] | None = None  # those that the thread in `progressing` completes
        self.rank, self.size = self._world.Get_rank(), self._world.Get_size()
        machine = self._world.Split_type(MPI.COMM_TYPE_SHARED)
        processors = set().union(*machine.allgather(backend.processors()))  # mpiexec may pin processes to processors
        self.neighbours = machine.Get_size()
        self.threads = max(1, min(len(processors), backend.container_quota(len(processors))) // self.neighbours)
        machine.Free()

    def exchange(self, value: T) -> list[T]:
        return list(self._world.allgather(value))

    def total(self, values: np.ndarray) -> np.ndarray:
        summed = np.array(values, order="C")
        self._world.Allreduce(self._mpi.IN_PLACE, summed)
        return summed

    def add(self, values: np.ndarray) -> Wait:
        request = self._gradients.Iallreduce(self._mpi.IN_PLACE, values)
        if self._requests is not None:
            self._requests.put(request)
        return request.Wait

    @contextlib.contextmanager
    def progressing(self) -> Iterator[None]:
        if self._mpi.Query_thread() < self._mpi.THREAD_MULTIPLE:  # only one thread may call this library
            yield
            return
        requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        done = threading.Event()

        def work() -> None:  # MPI adds only while it is called, and a layer of `backward` can take long
            while (request := requests.get()) is not None:
                while not request.Test():
                    if done.wait(POLL):
                        return

        thread = threading.Thread(target=work, name="gradients", daemon=True)
        thread.start()
        self._requests = requests
        try:
            yield
        finally:
            self._requests = None
            done.set()
            requests.put(None)
            thread.join()

    def fail_together(self, seconds: float) -> bool:
        request, end = self._failures.Ibarrier(), time.monotonic() + seconds
        while not (together := request.Test()) and time.monotonic() < end:
            time.sleep(0.01)
        return bool(together)

    def abort(self, status: int) -> None:
        self._mpi.COMM_WORLD.Abort(status)


def launched(environment: Mapping[str, str] = os.environ) -> tuple[int, int]:
    """Return the number of this process, and the number of processes that mpiexec or srun has started.

    This function reads only environment variables, so it works without mpi4py.

    Parameters
    ----------
    environment : mapping of str to str
        The environment variables.

    Returns
    -------
    rank : int
        The number of this process, starting from 0.
    size : int
        The number of processes; 1 if this process was started by itself.
    """
    for names in LAUNCHERS:
        rank, size = (environment.get(name, "") for name in names)
        if rank.isdecimal() and size.isdecimal():
            return int(rank), int(size)
    return 0, 1


@functools.cache
def group() -> Group:
    """Return the group of all processes that mpiexec or srun has started, or the group of this process alone.

    In a group of several processes, each process uses its part of the processors of its machine, unless the environment
    variable OMP_NUM_THREADS sets another number of threads.

    Returns
    -------
    Group
        The group.

    Raises
    ------
    ImportError
        If there are several processes, but mpi4py is not installed.
    RuntimeError
        If mpi4py uses another MPI library than mpiexec or srun, so that the processes do not find each other.
    """
    _, size = launched()
    if size == 1:
        return ALONE
    try:
        found = _MPIGroup()
    except ImportError as error:
        raise ImportError(
            f"this is one of {size} processes, which need mpi4py: pip install 'rcnn[mpi]' ({error})"
        ) from error
    if found.size != size:
        raise RuntimeError(
            f"this is one of {size} processes, but mpi4py finds {found.size}; start them with the mpiexec of the MPI "
            "library that mpi4py uses, or with srun --mpi=pmix if this library supports PMIx"
        )
    if "OMP_NUM_THREADS" not in os.environ:
        backend.set_num_threads(min(found.threads, backend.DEFAULT_THREADS))
    return found

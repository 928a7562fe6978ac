"""Measure how fast training is with several processes, and compare it with a model of its cost.

    python benchmarks/scaling.py               measure one and two processes on this machine
    python benchmarks/scaling.py --networks    also measure two processes that a network connects (requires root)
    python benchmarks/scaling.py --networks --results    also write the section "scaling" of docs/results.json

The script requires the extra mpi with MPICH. For --networks, two network namespaces of Linux stand for two hosts. `tc`
limits the bandwidth and, if the kernel has the module netem, adds a delay. Each process runs one thread. The machine
should have an idle processor for each process.

The model of the cost of a step (`Cost.seconds`) has three measured parts: the computation, as a function of the images
per process; the messages, whose time is a latency plus the number of bytes divided by the bandwidth; and the reading of
the images. The script prints the measured time of a step beside the predicted one.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import itertools
import json
import os
import shutil
import stat
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from speed import machine, record
from speed.report import number, table

import rcnn
from rcnn import data
from rcnn.nn.tensor import watching_leaves
from rcnn.train import Recipe, train_step
from rcnn.train.loader import Loader, TrainingBatch
from rcnn.train.parallel import BUCKET, Group, group
from rcnn.zoo.detectors import faster_rcnn_resnet_fpn, faster_rcnn_small

COMMAND = "python benchmarks/scaling.py --networks"
SIZES = (1 << 10, 1 << 14, 1 << 18, 1 << 20, BUCKET, 1 << 24, 1 << 27)  # bytes that are added over the processes
PROCESSES = (1, 2, 4, 8, 16, 64, 256)  # for the predictions
SPEEDS = (1, 16)  # for the predictions: how much faster each process computes, for example with 16 threads
ENOUGH = 0.8  # the efficiency below which more processes are hardly worth their cost
ROUNDS = 7


# ---------------------------------------------------------------- the model of the cost


@dataclass(frozen=True)
class Link:
    """What connects the processes: seconds per message, bytes per second, and whether messages need the processors."""

    name: str
    latency: float
    bandwidth: float
    is_network: bool

    def seconds(self, nbytes: float, processes: int) -> float:
        """Return the time to add an array over the processes: each sends and receives 2 (n - 1) / n of it."""
        if processes == 1:
            return 0.0
        rounds = (processes - 1).bit_length()  # messages go along a tree
        return rounds * self.latency + 2 * (processes - 1) / processes * nbytes / self.bandwidth


@dataclass(frozen=True)
class Cost:
    """The measured parts of a training step of one detector.

    Attributes
    ----------
    fixed, per_image : float
        Seconds of computation for a step, and for each image in it.
    backward : float
        Fraction of the computation during which gradients can be sent.
    nbytes : int
        Bytes of all gradients.
    exchanges : int
        Number of small messages for which all processes wait: those of batch norms, counts and losses.
    read : float
        Seconds to read and augment an image. A thread reads while the step computes.
    """

    fixed: float
    per_image: float
    backward: float
    nbytes: int
    exchanges: int
    read: float

    def faster(self, speed: float) -> Cost:
        """Return the cost for processes that compute, and read images, faster by this factor."""
        times = {name: getattr(self, name) / speed for name in ("fixed", "per_image", "read")}
        return dataclasses.replace(self, **times)

    def seconds(self, batch: int, processes: int, link: Link) -> float:
        """Return the predicted time of a step with this number of images in all processes together."""
        share = -(-batch // processes)  # the process with most images determines the time
        compute = self.fixed + self.per_image * share
        small = self.exchanges * link.seconds(64, processes)
        bulk = link.seconds(self.nbytes, processes)
        if link.is_network:  # the last bucket is complete when the backward pass ends
            bulk = max(bulk - self.backward * compute, link.seconds(min(BUCKET, self.nbytes), processes))
        return max(compute + small + bulk, self.read * share)


def fit_line(xs: Sequence[float], ys: Sequence[float]) -> tuple[float, float]:
    """Return (a, b), at least 0, so that a + b * x is near y. Relative errors count."""
    weights = 1 / np.asarray(ys, float)
    columns = np.stack([np.ones(len(xs)), np.asarray(xs, float)], axis=1)  # (N, 2)
    a, b = np.linalg.lstsq(columns * weights[:, None], np.ones(len(xs)), rcond=None)[0]
    return max(float(a), 0.0), max(float(b), 0.0)


# ---------------------------------------------------------------- what is measured


@dataclass(frozen=True)
class Work:
    """A detector and the images with which it is trained."""

    title: str
    make: Callable[[], rcnn.FasterRCNN]
    pages: Callable[[int], data.Dataset]
    batch: int
    shares: tuple[int, ...]  # the numbers of images for which one process is measured


WORKS = {
    "small": Work(
        "small detector, pages of digits", lambda: faster_rcnn_small(data.Digits.classes), data.Digits, 8, (1, 2, 4, 8)
    ),
    "resnet50": Work(
        "ResNet-50-FPN, 512 x 512 pixels",
        lambda: faster_rcnn_resnet_fpn(len(data.Shapes.classes), min_size=512, max_size=512),
        lambda count: data.Shapes(count, size=(512, 512)),
        4,
        (1, 2, 4),
    ),
}


class Counting(Group):
    """A group of one process that counts the messages which several processes would exchange."""

    def __init__(self) -> None:
        self.calls = 0
        self.size = 2  # the second process exists only for the code that counts

    def exchange(self, value: Any) -> list[Any]:
        self.calls += 1
        return [value, value]

    def total(self, values: np.ndarray) -> np.ndarray:
        self.calls += 1
        return values

    def add(self, values: np.ndarray) -> Callable[[], None]:
        return lambda: None


def load(work: Work, count: int, first: int = 0) -> tuple[rcnn.FasterRCNN, TrainingBatch]:
    """Return the detector in training mode, and a batch."""
    rcnn.seed(0)
    model = work.make().train()
    loader = Loader(work.pages(first + count), model.make_batch)
    return model, dataclasses.replace(loader.load(range(first, first + count)), first=first)


def steps_of(work: Work, count: int, of: Group | None = None, rounds: int = ROUNDS) -> float:
    """Return the median seconds of a training step with `count` images in this process."""
    of = Group() if of is None else of
    model, batch = load(work, count, of.rank * count)
    recipe = Recipe(batch_size=count * of.size, warmup_steps=0, lr=1e-5)
    optimizer = recipe.make_optimizer(model)
    seconds = []
    for step in range(rounds + 1):
        of.exchange(None)  # all processes start at the same time
        start = time.perf_counter()
        train_step(model, optimizer, [batch], recipe, step, of)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])


def backward_fraction(work: Work) -> float:
    """Return the fraction of a step that remains when the first gradient of a parameter is complete."""
    model, batch = load(work, work.shares[0])
    times: list[float] = []
    start = time.perf_counter()
    loss = model.get_loss(batch.images, batch.targets, np.random.default_rng(0))["total_loss"]
    with watching_leaves(lambda leaf: times.append(time.perf_counter())):
        loss.backward()
    return (times[-1] - times[0]) / (times[-1] - start)


def read_seconds(work: Work, count: int = 20) -> float:
    """Return the seconds to read, augment and resize an image that is stored as a file."""
    model = work.make()
    with tempfile.TemporaryDirectory() as folder:
        data.write_voc(work.pages(count), folder, "train", progress=False)
        photos = data.VOC(folder, "train", progress=False)  # pages without objects are left out
        start = time.perf_counter()
        Loader(photos, model.make_batch).load(range(len(photos)), Recipe(flip=0.5, scale_jitter=(0.8, 1.25)), 0)
        return (time.perf_counter() - start) / len(photos)


def cost_of(work: Work) -> Cost:
    """Measure the parts of the cost of a detector in this process."""
    fixed, per_image = fit_line(work.shares, [steps_of(work, count) for count in work.shares])
    model, batch = load(work, 1)
    counting = Counting()
    recipe = Recipe(batch_size=2, warmup_steps=0)
    train_step(model, recipe.make_optimizer(model), [batch], recipe, 0, counting)
    nbytes = sum(parameter.data.nbytes for parameter in model.parameters() if parameter.requires_grad)
    return Cost(fixed, per_image, backward_fraction(work), nbytes, counting.calls, read_seconds(work))


def allreduce_seconds(of: Group) -> dict[int, float]:
    """Return, for each size in bytes, the median seconds to add an array over the processes."""
    found = {}
    for nbytes in SIZES:
        values, seconds = np.ones(nbytes // 4, np.float32), []
        for _ in range(ROUNDS if nbytes > BUCKET else 10 * ROUNDS):
            of.exchange(None)
            start = time.perf_counter()
            of.add(values)()
            seconds.append(time.perf_counter() - start)
        found[nbytes] = statistics.median(seconds)
    return found


# ---------------------------------------------------------------- processes


def worker(kind: str, *arguments: str) -> None:
    """Measure in a process that mpiexec has started. Process 0 prints the result as JSON."""
    of = group()
    if kind == "allreduce":
        result: Any = list(allreduce_seconds(of).items())
    else:
        result = steps_of(WORKS[arguments[0]], WORKS[arguments[0]].batch // of.size, of)
    if of.rank == 0:
        print(json.dumps(result))


def in_processes(size: int, prefix: Sequence[str], options: Sequence[str], *arguments: str) -> Any:
    """Run `worker` in several processes, and return its result. `options` are those of mpiexec."""
    mpiexec = shutil.which("mpiexec", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    if mpiexec is None:
        raise SystemExit("mpiexec not found: pip install 'rcnn[mpi]'")
    command = [*prefix, mpiexec, *options, "-n", str(size), sys.executable, __file__, "--worker", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    if prefix:
        environment["UCX_TLS"] = "tcp,self"  # otherwise, MPICH notices that both hosts share a memory
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if result.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{result.stderr}")
    return json.loads(result.stdout)


HOSTS = ("10.77.0.1", "10.77.0.2")
LAUNCHER = """#!/bin/sh
# Start a command "on a host", in place of ssh: run it in the network namespace of the host.
while [ "${1#-}" != "$1" ]; do shift; done
case $1 in 10.77.0.1) space=rcnn-a;; *) space=rcnn-b;; esac
shift
exec ip netns exec $space sh -c "$*"
"""


def wait_for_link(space: str, device: str, seconds: float = 10.0) -> None:
    """Wait until a network device is ready; before that, MPI does not find it."""
    end = time.monotonic() + seconds
    command = ["ip", "-n", space, "-oneline", "link", "show", device]
    while "state UP" not in subprocess.run(command, check=True, capture_output=True, text=True).stdout:
        if time.monotonic() > end:
            raise SystemExit(f"{device} in the network namespace {space} is not ready after {seconds:g} s")
        time.sleep(0.05)


@contextlib.contextmanager
def network(delay: str, rate: str) -> Iterator[tuple[list[str], list[str], bool]]:
    """Connect two network namespaces by a link; yield a prefix, options of mpiexec, and whether there is a delay."""

    def ip(*arguments: str) -> None:
        subprocess.run(["ip", *arguments], check=True, capture_output=True)

    spaces = ("rcnn-a", "rcnn-b")
    with contextlib.ExitStack() as stack:
        for space in spaces:
            ip("netns", "add", space)
            stack.callback(ip, "netns", "delete", space)
        ip("link", "add", "veth-a", "netns", "rcnn-a", "type", "veth", "peer", "name", "veth-b", "netns", "rcnn-b")
        has_delay = True
        for space, host in zip(spaces, HOSTS, strict=True):
            device = f"veth-{space[-1]}"
            ip("-n", space, "address", "add", f"{host}/24", "dev", device)
            ip("-n", space, "link", "set", device, "up")
            ip("-n", space, "link", "set", "lo", "up")
            tc = ["ip", "netns", "exec", space, "tc", "qdisc", "replace", "dev", device, "root"]
            netem = [*tc, "netem", "delay", delay, "rate", rate, "limit", "100000"]
            if subprocess.run(netem, capture_output=True, check=False).returncode:  # this kernel has no netem
                has_delay = False
                subprocess.run([*tc, "tbf", "rate", rate, "burst", "256kb", "latency", "50ms"], check=True)
        for space in spaces:
            wait_for_link(space, f"veth-{space[-1]}")
        launcher = Path(stack.enter_context(tempfile.TemporaryDirectory()), "launcher")
        launcher.write_text(LAUNCHER)
        launcher.chmod(launcher.stat().st_mode | stat.S_IXUSR)
        options = ["-launcher", "ssh", "-launcher-exec", str(launcher), "-localhost", HOSTS[0], "-hosts"]
        yield ["ip", "netns", "exec", spaces[0]], [*options, ",".join(HOSTS), "-ppn", "1"], has_delay


# ---------------------------------------------------------------- the report


@dataclass(frozen=True)
class Measured:
    """The link between two processes, and the seconds of a step of each detector."""

    link: Link
    steps: dict[str, float]


def measure_link(name: str, names: Sequence[str], prefix: Sequence[str] = (), options: Sequence[str] = ()) -> Measured:
    """Measure two processes, and print the times of sums."""
    times = dict(in_processes(2, prefix, options, "allreduce"))
    latency, per_byte = fit_line(list(times), list(times.values()))
    print(f"\n{name}: " + ", ".join(f"{int(size):,} bytes {1e3 * seconds:.3f} ms" for size, seconds in times.items()))
    link = Link(name, latency, 1 / per_byte, bool(prefix))
    return Measured(link, {key: in_processes(2, prefix, options, "steps", key) for key in names})


def compared(works: dict[str, Cost], alone: dict[str, float], links: Sequence[Measured]) -> tuple[str, float]:
    """Return the table of measured and predicted seconds, and the largest relative error."""
    lines = [["training", "processes", "link", "measured, s", "predicted, s", "error"]]
    errors = []

    def add(key: str, processes: int, link: Link, measured: float) -> None:
        predicted = works[key].seconds(WORKS[key].batch, processes, link)
        name = link.name if processes > 1 else ""
        errors.append(predicted / measured - 1)
        seconds = [f"{one:.3g}" for one in (measured, predicted)]
        lines.append([WORKS[key].title, str(processes), name, *seconds, f"{errors[-1]:+.0%}"])

    for key in works:
        add(key, 1, links[0].link, alone[key])
        for found in links:
            add(key, 2, found.link, found.steps[key])
    return table(lines, right=(1, 3, 4, 5)), max(map(abs, errors))


def predicted(works: dict[str, Cost], links: Sequence[Measured], images: int) -> str:
    """Return the table of predicted images per second through a network.

    The batch grows with the number of processes: each process has `images` images. The last column is the number of
    processes from which on the network costs more than a fifth of the time. Processes of one machine share its memory,
    so the model says nothing about hundreds of them.
    """
    lines = [["training", "speed", "link", *(f"{count}" for count in PROCESSES), "efficiency below 80 % from"]]
    networks = [found.link for found in links if found.link.is_network]
    for key, speed, link in itertools.product(works, SPEEDS, networks):
        cost = works[key].faster(speed)
        seconds = [cost.seconds(images * count, count, link) for count in PROCESSES]
        breaks = [count for count, one in zip(PROCESSES, seconds, strict=True) if seconds[0] / one < ENOUGH]
        cells = [number(images * count / one) for count, one in zip(PROCESSES, seconds, strict=True)]
        lines.append([WORKS[key].title, f"{speed}", link.name, *cells, str(breaks[0]) if breaks else "more"])
    return table(lines, right=(1, *range(3, len(PROCESSES) + 4)))


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print the tables; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=WORKS, nargs="+", default=list(WORKS), help="measure only these detectors")
    parser.add_argument("--images", type=int, default=2, help="images per process in the predictions (default: 2)")
    parser.add_argument("--networks", action="store_true", help="also measure two network namespaces")
    parser.add_argument("--results", action="store_true", help="write the results to docs/results.json")
    parser.add_argument("--worker", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.results and not options.networks:
        parser.error("--results requires --networks, because the pages show all links")
    if options.worker:
        worker(*options.worker)
        return 0
    rcnn.set_num_threads(1)
    works = {key: cost_of(WORKS[key]) for key in options.only}
    for key, cost in works.items():
        print(f"{WORKS[key].title}: {cost}")
    alone = {key: steps_of(WORKS[key], WORKS[key].batch) for key in options.only}
    links = [measure_link("one machine", options.only)]
    for delay, rate in (("0.05ms", "10gbit"), ("0.1ms", "1gbit")) if options.networks else ():
        with network(delay, rate) as (prefix, flags, has_delay):
            name = f"{rate.removesuffix('gbit')} Gbit/s" + (f", {delay.removesuffix('ms')} ms" if has_delay else "")
            links.append(measure_link(name, options.only, prefix, flags))
    check, error = compared(works, alone, links)
    tables = {"check": check, "images_per_second": predicted(works, links, options.images)}
    for text in tables.values():
        print(f"\n{text}")
    if options.results:
        entries = {name: record.table(text, COMMAND) for name, text in tables.items()}
        entries["error"] = record.entry(round(100 * error), "%", COMMAND)
        for found in links:
            key = found.link.name.replace(" ", "_")
            entries[f"latency_{key}"] = record.entry(round(1e6 * found.link.latency, 1), "us", COMMAND)
            entries[f"bandwidth_{key}"] = record.entry(round(found.link.bandwidth / 1e9, 2), "GB/s", COMMAND)
        record.update("scaling", entries, machine.line())
    return 0


if __name__ == "__main__":
    sys.exit(main())

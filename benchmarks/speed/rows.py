"""The rows of the tables, the function that runs them, and their goals."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import rcnn
from speed.agreement import Agreement
from speed.processors import processors
from speed.timing import CLOCK, Contestant, race

# The packages that each peer requires. torchvision writes the ONNX file for two of the peers.
PEERS = {
    "torchvision": ("torch", "torchvision"),
    "onnxruntime": ("onnxruntime", "onnx", "torch", "torchvision"),
    "openvino": ("openvino", "onnx", "torch", "torchvision"),
}


@dataclass(frozen=True)
class Settings:
    """The settings of a benchmark run.

    peers: the selected keys of `PEERS`. threads: the number of threads of each contestant. budget: the seconds for each
    row. rounds: the minimum number of rounds. folder: the folder for temporary files. clock: see `timing.race`.
    """

    peers: frozenset[str]
    threads: int
    budget: float
    rounds: int
    folder: Path
    clock: str = CLOCK


@dataclass(frozen=True)
class Contest:
    """The contestants of a row, starting with rcnn, and a function that returns {peer: agreement with rcnn}."""

    contestants: Sequence[Contestant]
    agreements: Callable[[], dict[str, Agreement]]


@dataclass(frozen=True)
class Row:
    """A piece of work that is measured.

    name: the name, by which users select the row. work: the description in the table. make: creates the contest when
    the row runs. threads: the number of threads, or None for the number in the settings. table: the table that contains
    the row. flop: the number of multiplications and additions, or 0 if the table does not show the speed. times: how
    often this work occurs in one forward pass. run: a function that runs the row, if it does not measure time. share:
    the fraction of the budget that the row may use. x: the position on the x axis of a sweep.
    """

    name: str
    work: str
    make: Callable[[Settings], Contest] | None = None
    threads: int | None = None
    table: str = "work"
    flop: int = 0
    times: int = 1
    run: Callable[[Row, Settings], Result] | None = None
    share: float = 1.0
    x: float = 0.0


@dataclass(frozen=True)
class Result:
    """The result of a row.

    samples: the seconds of all calls, or the bytes, for each contestant. agreements: the agreement of each peer with
    rcnn. others: the fraction of the CPU time that other processes used during the measurement. The other fields are
    copied from the row.
    """

    name: str
    work: str
    table: str
    threads: int
    samples: dict[str, list[float]]
    agreements: dict[str, Agreement] = field(default_factory=dict)
    flop: int = 0
    times: int = 1
    x: float = 0.0
    others: float = 0.0

    @property
    def holds(self) -> bool:
        """True if the results of all peers agree with those of rcnn."""
        return all(agreement.holds for agreement in self.agreements.values())


@dataclass(frozen=True)
class Goal:
    """A goal for a ratio, with a limit `least` that must be met and a more ambitious limit `aim`.

    The ratio of times (peer / rcnn) must be at least the limit. With `most`, the ratio of memory (rcnn / peer) must be
    at most the limit.
    """

    least: float
    aim: float
    most: bool = False

    def verdict(self, ratio: float) -> str:
        """Return "aim" if the ratio meets `aim`, "yes" if it meets only `least`, otherwise "no"."""
        sign = -1 if self.most else 1
        if sign * ratio >= sign * self.aim:
            return "aim"
        return "yes" if sign * ratio >= sign * self.least else "no"


GOALS = {
    ("detector", "torchvision"): Goal(2.8, 3.6),
    ("detector", "ONNX Runtime"): Goal(1.7, 2.2),
    ("detector", "OpenVINO"): Goal(1.4, 1.8),
    ("detector-1", "torchvision"): Goal(2.0, 2.5),
    ("version-2", "torchvision"): Goal(2.8, 3.5),
    ("mobilenet", "torchvision"): Goal(3, 4),
    ("mobilenet", "ONNX Runtime"): Goal(1.2, 1.5),
    ("mobilenet", "OpenVINO"): Goal(1.1, 1.3),
    ("roi-align-512", "torchvision"): Goal(40, 65),
    ("roi-align-1000", "torchvision"): Goal(40, 65),
    ("roi-align-backward-512", "torchvision"): Goal(30, 60),
    ("roi-align-backward-1000", "torchvision"): Goal(30, 60),
    ("nms-1000", "torchvision"): Goal(4, 5),
    ("nms-6000", "torchvision"): Goal(10, 15),
    ("nms-20000", "torchvision"): Goal(20, 40),
    ("nms-batched", "torchvision"): Goal(8, 15),
    ("iou-square", "torchvision"): Goal(10, 25),
    ("iou-tall", "torchvision"): Goal(10, 25),
    ("train-resnet", "torchvision"): Goal(1.5, 3.0),
    ("train-digits", "torchvision"): Goal(1.5, 3.0),
    ("memory-process", "torchvision"): Goal(0.85, 0.65, most=True),
}


def run(row: Row, settings: Settings) -> Result:
    """Run a row: compare one result of each contestant, then time the contestants alternately.

    All contestants have the same number of threads.
    """
    settings = dataclasses.replace(
        settings, threads=row.threads or settings.threads, budget=settings.budget * row.share
    )
    if row.run is not None:
        return row.run(row, settings)
    assert row.make is not None, f"row {row.name} has neither `make` nor `run`"
    with threads_of_all(settings):
        contest = row.make(settings)
        agreements = contest.agreements()
        samples, others = race(
            contest.contestants,
            settings.budget,
            settings.rounds,
            spare=max(1 - settings.threads / processors(), 0.0),
            clock=settings.clock,
        )
    return Result(
        row.name, row.work, row.table, settings.threads, samples, agreements, row.flop, row.times, row.x, others
    )


def by_answer(contestants: Sequence[Contestant], compare: Callable[[Any, Any], Agreement]) -> Contest:
    """Return a contest that compares the result of each peer with that of rcnn, the first contestant."""

    def agreements() -> dict[str, Agreement]:
        ours, *peers = contestants
        answer = ours.answer()
        return {peer.name: compare(answer, peer.answer()) for peer in peers}

    return Contest(contestants, agreements)


def threads_of_all(settings: Settings) -> AbstractContextManager[object]:
    """Return a context that sets the threads of rcnn and PyTorch; the other peers get theirs when they are created."""
    stack = ExitStack()
    stack.enter_context(rcnn.set_num_threads(settings.threads))
    if "torchvision" in settings.peers:
        import torch

        before = torch.get_num_threads()
        torch.set_num_threads(settings.threads)
        stack.callback(torch.set_num_threads, before)
    return stack


def installed() -> list[str]:
    """Return the peers whose packages are all installed."""
    return [peer for peer, packages in PEERS.items() if all(find_spec(package) for package in packages)]


def chosen(rows: Sequence[Row], wanted: Sequence[str]) -> list[Row]:
    """Return the rows whose names start with an element of `wanted`, or all rows if it is empty.

    Raise ValueError if an element of `wanted` matches no row.
    """
    for name in wanted:
        if not any(row.name.startswith(name) for row in rows):
            raise ValueError(f"no row starts with {name!r}; the rows are: {', '.join(row.name for row in rows)}")
    return [row for row in rows if not wanted or any(row.name.startswith(name) for name in wanted)]

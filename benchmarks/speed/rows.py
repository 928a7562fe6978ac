"""Rows of the table, how they run, and their goals."""

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
from speed.timing import Contestant, race

# The packages that each peer requires. torchvision writes the ONNX file that two of them run.
PEERS = {
    "torchvision": ("torch", "torchvision"),
    "onnxruntime": ("onnxruntime", "onnx", "torch", "torchvision"),
    "openvino": ("openvino", "onnx", "torch", "torchvision"),
}


@dataclass(frozen=True)
class Settings:
    """Settings of a run.

    peers: the selected keys of `PEERS`. threads: per contestant. budget: seconds for a row. rounds: the minimum number.
    folder: for files that a row needs.
    """

    peers: frozenset[str]
    threads: int
    budget: float
    rounds: int
    folder: Path


@dataclass(frozen=True)
class Contest:
    """The contestants of a row, rcnn first, and a function that returns the agreement by peer."""

    contestants: Sequence[Contestant]
    agreements: Callable[[], dict[str, Agreement]]


@dataclass(frozen=True)
class Row:
    """A piece of work that is measured.

    name: selects the row. work: its description. make: creates the contest when the row runs. threads: per contestant,
    if the row sets its own number. table: the table it belongs to. flop: multiplications and additions, if the table
    shows the speed. times: the number of repetitions in one forward pass, if it is part of a network. run: a function
    that measures something other than time. share: its fraction of the budget for a row. x: its position on the axis of
    a sweep.
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
    """The result of a row: the seconds of the calls, or the bytes, by contestant; the agreement with rcnn by peer.

    `others` is the fraction of CPU time that other processes used meanwhile. The other fields come from the row.
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
        """True if every answer agrees with rcnn's."""
        return all(agreement.holds for agreement in self.agreements.values())


@dataclass(frozen=True)
class Goal:
    """A goal for a ratio: a minimum of a peer's time over rcnn's, or a maximum of rcnn's memory over a peer's."""

    least: float
    aim: float
    most: bool = False

    def verdict(self, ratio: float) -> str:
        """Return "aim" or "yes" if the ratio meets the goal, otherwise "no"."""
        sign = -1 if self.most else 1
        if sign * ratio >= sign * self.aim:
            return "aim"
        return "yes" if sign * ratio >= sign * self.least else "no"


GOALS = {
    ("detector", "torchvision"): Goal(2.8, 3.6),
    ("detector", "ONNX Runtime"): Goal(1.7, 2.2),
    ("detector", "OpenVINO"): Goal(1.4, 1.8),
    ("detector-1", "torchvision"): Goal(2.0, 2.5),
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
    """Run a row with equal threads for all: compare one answer of each contestant, then time them in turn."""
    settings = dataclasses.replace(
        settings, threads=row.threads or settings.threads, budget=settings.budget * row.share
    )
    if row.run is not None:
        return row.run(row, settings)
    assert row.make is not None, f"the row {row.name} has neither `make` nor `run`"
    with threads_of_all(settings):
        contest = row.make(settings)
        agreements = contest.agreements()
        samples, others = race(
            contest.contestants, settings.budget, settings.rounds, spare=max(1 - settings.threads / processors(), 0.0)
        )
    return Result(
        row.name, row.work, row.table, settings.threads, samples, agreements, row.flop, row.times, row.x, others
    )


def by_answer(contestants: Sequence[Contestant], compare: Callable[[Any, Any], Agreement]) -> Contest:
    """Return a contest that compares each peer's answer with rcnn's."""

    def agreements() -> dict[str, Agreement]:
        ours, *peers = contestants
        answer = ours.answer()
        return {peer.name: compare(answer, peer.answer()) for peer in peers}

    return Contest(contestants, agreements)


def threads_of_all(settings: Settings) -> AbstractContextManager[object]:
    """Return a context that sets the threads of rcnn and PyTorch; the other peers are created with theirs."""
    stack = ExitStack()
    stack.enter_context(rcnn.set_num_threads(settings.threads))
    if "torchvision" in settings.peers:
        import torch

        before = torch.get_num_threads()
        torch.set_num_threads(settings.threads)
        stack.callback(torch.set_num_threads, before)
    return stack


def installed() -> list[str]:
    """Return the installed peers."""
    return [peer for peer, packages in PEERS.items() if all(find_spec(package) for package in packages)]


def chosen(rows: Sequence[Row], wanted: Sequence[str]) -> list[Row]:
    """Return the rows whose names start with one of `wanted`, or all. Raise ValueError for a prefix of no row."""
    for name in wanted:
        if not any(row.name.startswith(name) for row in rows):
            raise ValueError(f"no row is or begins with {name!r}; there are {', '.join(row.name for row in rows)}")
    return [row for row in rows if not wanted or any(row.name.startswith(name) for name in wanted)]

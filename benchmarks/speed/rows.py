"""What a row of the table is, how it is run, and what is hoped for."""

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

# What a peer needs. The ONNX file that two of them run is written by torchvision.
PEERS = {
    "torchvision": ("torch", "torchvision"),
    "onnxruntime": ("onnxruntime", "onnx", "torch", "torchvision"),
    "openvino": ("openvino", "onnx", "torch", "torchvision"),
}


@dataclass(frozen=True)
class Settings:
    """How the rows are run.

    peers: those to run, of `PEERS`. threads: for each of them. budget: seconds for a row. rounds: at least.
    folder: for files that a row needs.
    """

    peers: frozenset[str]
    threads: int
    budget: float
    rounds: int
    folder: Path


@dataclass(frozen=True)
class Contest:
    """The contestants of a row, rcnn first, and what says whether their answers agree: by peer."""

    contestants: Sequence[Contestant]
    agreements: Callable[[], dict[str, Agreement]]


@dataclass(frozen=True)
class Row:
    """A piece of work that is measured.

    name: by which it is chosen. work: what it is. make: the contest, made when it is its turn. threads: of everyone,
    where the row has a number of its own. table: which it belongs to. flop: multiplications and additions, where the
    speed is worth stating. times: how often the work is done in a pass through the network, where it is a part of one.
    run: what measures it, where that is not time. share: of the budget for a row that it gets. x: where it
    lies in its table, if that shows how cost grows.
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
    """What came of a row: by contestant the seconds of its calls, or its bytes; by peer the agreement with rcnn.

    The rest is the row's, and `others` the part of the processors' time that other processes had meanwhile.
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
        """Whether every answer agrees with rcnn's."""
        return all(agreement.holds for agreement in self.agreements.values())


@dataclass(frozen=True)
class Goal:
    """What a ratio is to be. Of times, a peer's by rcnn's, at least; of memory, rcnn's by a peer's, at most."""

    least: float
    aim: float
    most: bool = False

    def verdict(self, ratio: float) -> str:
        """Whether the ratio meets it."""
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
    """The row's contestants, all on as many threads: each answers once, the answers are compared, then they race."""
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
    """A contest in which the answers themselves are compared, each peer's with rcnn's."""

    def agreements() -> dict[str, Agreement]:
        ours, *peers = contestants
        answer = ours.answer()
        return {peer.name: compare(answer, peer.answer()) for peer in peers}

    return Contest(contestants, agreements)


def threads_of_all(settings: Settings) -> AbstractContextManager[object]:
    """A block in which rcnn and PyTorch, if it takes part, have the threads; the others are told when they are made."""
    stack = ExitStack()
    stack.enter_context(rcnn.set_num_threads(settings.threads))
    if "torchvision" in settings.peers:
        import torch

        before = torch.get_num_threads()
        torch.set_num_threads(settings.threads)
        stack.callback(torch.set_num_threads, before)
    return stack


def installed() -> list[str]:
    """The peers that can be run here."""
    return [peer for peer, packages in PEERS.items() if all(find_spec(package) for package in packages)]


def chosen(rows: Sequence[Row], wanted: Sequence[str]) -> list[Row]:
    """The rows whose names begin with one of `wanted`; all without any. ValueError for one that is no row's."""
    for name in wanted:
        if not any(row.name.startswith(name) for row in rows):
            raise ValueError(f"no row is or begins with {name!r}; there are {', '.join(row.name for row in rows)}")
    return [row for row in rows if not wanted or any(row.name.startswith(name) for name in wanted)]

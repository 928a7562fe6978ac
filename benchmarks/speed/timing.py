"""How two programs are timed fairly beside each other in one process.

They take turns, A B A B ..., so that whatever slows the machine down for a while slows them all, and each is judged by
the median of its calls. What stands between them is their threads: a pool that has finished its work keeps spinning
for a while, in case there is more, and whoever comes next has to share the processors with it. How long, shows in the
processor time that a process goes on spending when it sleeps after a call, on every thread of the pool: OpenBLAS
100 ms, ONNX Runtime 28 ms, the OpenMP of GCC 4 ms, or 1 ms where rcnn has loaded it, oneTBB (in OpenVINO) none. A
convolution of 2.6 ms in PyTorch took 30 ms right after a product of matrices in NumPy. Less spinning can be asked for
by environment variables (OPENBLAS_THREAD_TIMEOUT, OMP_WAIT_POLICY, GOMP_SPINCOUNT), but then nobody runs as their users
run them. So everything stays as it is by default. (PyTorch and rcnn, being in one process, share the OpenMP library of
the one that was imported first, here rcnn's with its shorter waits. It makes no difference that could be measured: in
three runs with either order, PyTorch's detector took 3.2 to 3.4 and 3.1 to 3.4 times as long as rcnn's.) And

- every turn begins with a pause, in which the others' threads fall asleep;
- then come calls that are not counted: they wake the own threads, and bring back to the caches what the others
  displaced. Two calls and 10 ms are enough; a call that is long itself is counted from the first;
- then calls are counted until the turn is over.

Other processes do more harm than these. A program whose threads each have a fixed part of the work, as with OpenMP,
waits for the one whose processor is shared: where others had a fifth of the processors, its calls took up to twenty
times as long, and those of ONNX Runtime and OpenVINO twice. So a round in which others had more than 5 % does not
count, as long as there are calm ones to count.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from speed.processors import Others

PAUSE = 0.12  # seconds before each turn
WAKING = 0.01  # seconds of calls that are not counted, then
TURN = 0.04  # seconds of calls that are
MOST = 200  # calls in either
CALM = 0.05  # of the processors that others may have in a round that counts
PATIENCE = 3  # times the budget
LONG = 0.2  # seconds of a call of which waking up is less than a hundredth


def nothing() -> None:
    """What a contestant does before a call by default."""


@dataclass(frozen=True)
class Contestant:
    """One way to do a piece of work.

    call: what is timed; it gets what `before` gave, which is called each time and not timed.
    read: what `call` gave, as arrays that can be compared.
    """

    name: str
    call: Callable[[Any], Any]
    before: Callable[[], Any] = nothing
    read: Callable[[Any], Any] = lambda answer: answer

    def answer(self) -> Any:
        """What the work gives, read."""
        return self.read(self.call(self.before()))


@dataclass(frozen=True)
class Summary:
    """The middle of some samples, in their unit."""

    median: float
    lower: float
    upper: float
    count: int


def summary(samples: Sequence[float]) -> Summary:
    """The median and the quartiles; those of a single sample are the sample."""
    if len(samples) == 1:
        return Summary(samples[0], samples[0], samples[0], 1)
    lower, median, upper = statistics.quantiles(samples, n=4, method="inclusive")
    return Summary(median, lower, upper, len(samples))


def race(
    contestants: Sequence[Contestant], budget: float, rounds: int, pause: float = PAUSE, spare: float = 0.0
) -> tuple[dict[str, list[float]], float]:
    """(the seconds of every counted call by contestant, the part of the processors that other processes had meanwhile).

    spare: the part of the processors that the contestants leave to others, who do no harm there and are not counted.

    In each round everyone has a turn, in every second one from the last to the first, so that nobody always follows
    the same. There are at least so many `rounds`, and more until `budget` seconds have passed, or `PATIENCE` times as
    many where too few have been calm. The calm rounds count; where they are too few, so do the calmest of the others.
    """
    start, done = time.perf_counter(), list[tuple[float, dict[str, list[float]]]]()
    while True:
        others = Others()
        times = {contestant.name: turn(contestant, pause) for contestant in contestants[:: -1 if len(done) % 2 else 1]}
        done.append((max(others.share() - spare, 0.0), times))
        calm = sum(share <= CALM for share, _ in done)
        patience = 1 if calm >= rounds else PATIENCE
        if len(done) >= rounds and time.perf_counter() - start >= patience * budget:
            break
    done.sort(key=lambda entry: entry[0])
    counting = done[: max(calm, rounds)]
    joined = {one.name: [second for _, times in counting for second in times[one.name]] for one in contestants}
    return joined, statistics.mean(share for share, _ in counting)


def turn(contestant: Contestant, pause: float = PAUSE) -> list[float]:
    """The seconds of the counted calls of one turn; at least one."""
    time.sleep(pause)
    waking = seconds(contestant)
    if waking >= LONG:
        return [waking]
    calls(contestant, WAKING - waking)
    return calls(contestant, TURN)


def calls(contestant: Contestant, time_to_spend: float) -> list[float]:
    """The seconds of calls, one at least, that together take so long, or of `MOST` calls."""
    counted: list[float] = []
    spent = 0.0
    while not counted or (spent < time_to_spend and len(counted) < MOST):
        counted.append(seconds(contestant))
        spent += counted[-1]
    return counted


def seconds(contestant: Contestant) -> float:
    """How long one call takes; what it gives is thrown away after the clock has stopped."""
    given = contestant.before()
    start = time.perf_counter()
    answer = contestant.call(given)
    end = time.perf_counter()
    del answer
    return end - start

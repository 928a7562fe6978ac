"""Fair timing of several programs in one process.

The programs take turns, A B A B ..., so that a temporary slowdown of the machine affects all of them. The result of
each is the median of its calls. Their thread pools can disturb each other: after its work a pool keeps spinning for a
while, waiting for more, and the next program shares the processors with it. A process that sleeps after a call shows
the duration: every thread of the pool keeps using CPU time, 100 ms with OpenBLAS, 28 ms with ONNX Runtime, 4 ms with
GCC's OpenMP (1 ms if rcnn loaded it) and 0 ms with oneTBB (in OpenVINO). A convolution of 2.6 ms in PyTorch took 30 ms
right after a matrix product in NumPy. Environment variables can shorten the spinning (OPENBLAS_THREAD_TIMEOUT,
OMP_WAIT_POLICY, GOMP_SPINCOUNT), but users run these programs without them, so the defaults stay. (PyTorch and rcnn
share one OpenMP library in a process, that of the first import, here rcnn's with its shorter waits. The order makes no
measurable difference: in three runs with either order, PyTorch's detector took 3.2 to 3.4 and 3.1 to 3.4 times as long
as rcnn's.) Therefore each turn has three parts:

- a pause, in which the threads of the other programs go to sleep;
- uncounted calls, which wake the program's own threads and refill the caches. Two calls and 10 ms are enough; long
  calls are counted from the first;
- counted calls until the turn is over.

Other processes disturb more. A program that gives each thread a fixed part of the work, as with OpenMP, waits for the
thread whose processor is shared. When other processes used a fifth of the CPU, its calls took up to twenty times as
long, and those of ONNX Runtime and OpenVINO twice as long. Therefore a round in which other processes used more than
5 % is dropped, as long as there are enough calm rounds.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from speed.processors import Others

PAUSE = 0.12  # seconds before each turn
WAKING = 0.01  # seconds of uncounted calls after the pause
TURN = 0.04  # seconds of counted calls
MOST = 200  # calls at most, in either part
CALM = 0.05  # largest fraction of CPU time that other processes may use in a calm round
PATIENCE = 3  # times the budget, at most, while waiting for calm rounds
LONG = 0.2  # seconds: the wake-up time is less than 1 % of such a call


def nothing() -> None:
    """Do nothing: the default of `Contestant.before`."""


@dataclass(frozen=True)
class Contestant:
    """One way to do a piece of work.

    before: called before each call, not timed. call: timed; receives the result of `before`.
    read: converts the result of `call` to arrays that can be compared.
    """

    name: str
    call: Callable[[Any], Any]
    before: Callable[[], Any] = nothing
    read: Callable[[Any], Any] = lambda answer: answer

    def answer(self) -> Any:
        """Return the result of one call, converted by `read`."""
        return self.read(self.call(self.before()))


@dataclass(frozen=True)
class Summary:
    """The median and the quartiles of some samples, in their unit."""

    median: float
    lower: float
    upper: float
    count: int


def summary(samples: Sequence[float]) -> Summary:
    """Return the median and the quartiles; for a single sample all are the sample."""
    if len(samples) == 1:
        return Summary(samples[0], samples[0], samples[0], 1)
    lower, median, upper = statistics.quantiles(samples, n=4, method="inclusive")
    return Summary(median, lower, upper, len(samples))


def race(
    contestants: Sequence[Contestant], budget: float, rounds: int, pause: float = PAUSE, spare: float = 0.0
) -> tuple[dict[str, list[float]], float]:
    """Return the seconds of every counted call by contestant, and the fraction of CPU time used by other processes.

    spare: the fraction of the CPU that the contestants leave free; its use by other processes does not count.

    Every contestant has one turn in a round. Every second round runs in reverse order, so that no contestant always
    follows the same one. There are at least `rounds` rounds, and more until `budget` seconds have passed, or `PATIENCE`
    times as many if too few rounds are calm. Only calm rounds count; if they are too few, the calmest others do too.
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
    """Return the seconds of the counted calls of one turn, at least one."""
    time.sleep(pause)
    waking = seconds(contestant)
    if waking >= LONG:
        return [waking]
    calls(contestant, WAKING - waking)
    return calls(contestant, TURN)


def calls(contestant: Contestant, time_to_spend: float) -> list[float]:
    """Return the seconds of 1 to `MOST` calls that together take about `time_to_spend` seconds."""
    counted: list[float] = []
    spent = 0.0
    while not counted or (spent < time_to_spend and len(counted) < MOST):
        counted.append(seconds(contestant))
        spent += counted[-1]
    return counted


def seconds(contestant: Contestant) -> float:
    """Return the seconds of one call; its result is freed after the clock has stopped."""
    given = contestant.before()
    start = time.perf_counter()
    answer = contestant.call(given)
    end = time.perf_counter()
    del answer
    return end - start

"""Timing of several contestants (libraries) in one process, under the same conditions.

The contestants take turns, A B A B ..., so that a temporary slowdown of the machine affects all of them. The result of
a contestant is the median time of its calls.

The thread pools of the contestants can disturb each other. When a pool has finished its work, its threads keep running
in a loop for a while and wait for more work (*spinning*). The next contestant then has to share the CPUs with them. We
measured the duration of the spinning as the CPU time that a process uses while it sleeps after a call. For each
thread, it was 100 ms with OpenBLAS, 28 ms with ONNX Runtime, 4 ms with GCC's OpenMP and 0 ms
with oneTBB (in OpenVINO). A convolution that takes 2.6 ms in PyTorch took 30 ms right after a matrix product in NumPy.
Environment variables can shorten the spinning (OPENBLAS_THREAD_TIMEOUT, OMP_WAIT_POLICY, GOMP_SPINCOUNT). But users run
these libraries without them, so the benchmark does not set them either. Therefore each turn has three parts:

- a pause, in which the threads of the other contestants go to sleep;
- uncounted calls, which wake up the contestant's own threads and refill the caches. Two calls and 10 ms are enough. If
  the first call is long, it is counted, and the turn ends;
- counted calls until the turn is over.

Other processes disturb the timing even more. With OpenMP, for example, each thread has a fixed part of the work. All
threads then wait for the thread that has to share its CPU. When other processes used a fifth of the CPU, calls of such
libraries took up to twenty times as long, and calls of ONNX Runtime and OpenVINO took twice as long. Therefore a round
is dropped if other processes used more than 5 % of the CPU, as long as enough calm rounds remain.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from speed.processors import Others

PAUSE = 0.12  # seconds of pause before each turn
WAKING = 0.01  # seconds of uncounted calls after the pause
TURN = 0.04  # seconds of counted calls
MOST = 200  # the largest number of calls in each part of a turn
CALM = 0.05  # a round is calm if other processes use at most this fraction of the CPU time
PATIENCE = 3  # a race takes at most this many times its budget if it waits for calm rounds
CLOCK = "perf_counter"  # "process_time", the CPU time, is hardly disturbed by other processes; it is for one thread
LONG = 0.2  # seconds; the wake-up time is less than 1 % of a call that takes this long


def nothing() -> None:
    """Do nothing. This is the default of `Contestant.before`."""


@dataclass(frozen=True)
class Contestant:
    """One way to do a piece of work.

    before: a function that is called before each call and is not timed. call: the timed function, which receives the
    result of `before`. read: a function that converts the result of `call` to arrays that can be compared.
    """

    name: str
    call: Callable[[Any], Any]
    before: Callable[[], Any] = nothing
    read: Callable[[Any], Any] = lambda answer: answer

    def answer(self) -> Any:
        """Call the contestant once and return its result, converted by `read`."""
        return self.read(self.call(self.before()))


@dataclass(frozen=True)
class Summary:
    """The median, the lower and the upper quartile, and the number of samples, in the unit of the samples."""

    median: float
    lower: float
    upper: float
    count: int


def summary(samples: Sequence[float]) -> Summary:
    """Return the median and the quartiles of the samples; all three are equal to a single sample."""
    if len(samples) == 1:
        return Summary(samples[0], samples[0], samples[0], 1)
    lower, median, upper = statistics.quantiles(samples, n=4, method="inclusive")
    return Summary(median, lower, upper, len(samples))


def race(
    contestants: Sequence[Contestant],
    budget: float,
    rounds: int,
    pause: float = PAUSE,
    spare: float = 0.0,
    clock: str = CLOCK,
) -> tuple[dict[str, list[float]], float]:
    """Return the seconds of all counted calls of each contestant, and the fraction of CPU time of other processes.

    spare: the fraction of the CPU that the contestants do not use. Other processes may use it without disturbing them.
    clock: the function of the module `time` that times the calls.

    In each round, every contestant has one turn. Every second round runs in reverse order, so that no contestant always
    follows the same one. There are at least `rounds` rounds. Further rounds run until `budget` seconds have passed, or
    `PATIENCE * budget` seconds if fewer than `rounds` rounds were calm. Only calm rounds count. If there are fewer than
    `rounds` of them, the rounds with the least disturbance also count.
    """
    start, done = time.perf_counter(), list[tuple[float, dict[str, list[float]]]]()
    while True:
        others = Others()
        times = {one.name: turn(one, pause, clock) for one in contestants[:: -1 if len(done) % 2 else 1]}
        done.append((max(others.share() - spare, 0.0), times))
        calm = sum(share <= CALM for share, _ in done)
        patience = 1 if calm >= rounds else PATIENCE
        if len(done) >= rounds and time.perf_counter() - start >= patience * budget:
            break
    done.sort(key=lambda entry: entry[0])
    counting = done[: max(calm, rounds)]
    joined = {one.name: [second for _, times in counting for second in times[one.name]] for one in contestants}
    return joined, statistics.mean(share for share, _ in counting)


def turn(contestant: Contestant, pause: float = PAUSE, clock: str = CLOCK) -> list[float]:
    """Run one turn and return the seconds of its counted calls, at least one."""
    time.sleep(pause)
    waking = seconds(contestant, clock)
    if waking >= LONG:
        return [waking]
    calls(contestant, WAKING - waking, clock)
    return calls(contestant, TURN, clock)


def calls(contestant: Contestant, time_to_spend: float, clock: str) -> list[float]:
    """Make between 1 and `MOST` calls, for about `time_to_spend` seconds, and return the seconds of each call."""
    counted: list[float] = []
    spent = 0.0
    while not counted or (spent < time_to_spend and len(counted) < MOST):
        counted.append(seconds(contestant, clock))
        spent += counted[-1]
    return counted


def seconds(contestant: Contestant, clock: str = CLOCK) -> float:
    """Return the seconds of one call; the time to free its result does not count."""
    now: Callable[[], float] = getattr(time, clock)
    given = contestant.before()
    start = now()
    answer = contestant.call(given)
    end = now()
    del answer
    return end - start

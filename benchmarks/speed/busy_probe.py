"""Measure a library while other processes keep the CPUs busy; `speed/busy.py` runs this program.

    python -m speed.busy_probe LIBRARY ORDER THREADS REPEATS BUSY... [--file FILE]

LIBRARY is rcnn, torchvision or onnxruntime. ORDER says when a process of rcnn imports PyTorch: "never", "first" (before
rcnn) or "later" (after it). The program starts BUSY other processes, each of which runs an endless loop. Then it
measures two kinds of work on 4 pages of handwritten digits: predict, and a training step (losses and backward). ONNX
Runtime reads the detector from FILE, and only detects, on one page. For each number of BUSY processes, the program
repeats three turns REPEATS times: with one thread, with THREADS threads, and, as a control, with one thread again.

The program prints {work: {busy: {"one": seconds, "many": seconds, "control": seconds}}} as JSON. The seconds are means
over all calls: a median would hide the rare calls that wait for a thread without a CPU.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

TURN = 0.25  # seconds per turn
LEAST = 2  # calls per turn
PAGES = 4

Work = Callable[[], object]


def main() -> None:
    """Measure the library with each number of busy processes on the command line, and print the means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("library", choices=LIBRARIES)
    parser.add_argument("order", choices=("never", "first", "later"))
    parser.add_argument("threads", type=int)
    parser.add_argument("repeats", type=int)
    parser.add_argument("busy", type=int, nargs="+")
    parser.add_argument("--file", type=Path)
    options = parser.parse_args()
    if options.order == "first":
        import torch  # noqa: F401
    works, set_threads = LIBRARIES[options.library](options)
    if options.order == "later":
        import torch  # noqa: F401
    answer: dict[str, dict[str, dict[str, float]]] = {work: {} for work in works}
    for busy in options.busy:
        with busy_processes(busy):
            for work, call in works.items():
                answer[work][str(busy)] = measure(call, set_threads, options.threads, options.repeats)
    print(json.dumps(answer))


@contextlib.contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """Within the `with` block, run `count` other processes, each with an endless loop."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        time.sleep(0.3)  # until they have started
        yield
    finally:
        for loop in loops:
            loop.kill()
        for loop in loops:
            loop.wait()


def measure(call: Work, set_threads: Callable[[int], object], threads: int, repeats: int) -> dict[str, float]:
    """Return the mean seconds of a call with one thread, with `threads` threads, and with one thread again."""
    numbers = {"one": 1, "many": threads, "control": 1}
    seconds, calls = dict.fromkeys(numbers, 0.0), dict.fromkeys(numbers, 0)
    for repeat in range(repeats):
        for name in sorted(numbers, reverse=repeat % 2 == 1):
            set_threads(numbers[name])
            spent, made = turn(call)
            seconds[name] += spent
            calls[name] += made
    return {name: seconds[name] / calls[name] for name in numbers}


def turn(call: Work) -> tuple[float, int]:
    """Run one turn; return the seconds of its calls and the number of calls. The first call wakes up the threads.

    The first call counts only if it takes as long as a turn.
    """
    start = time.perf_counter()
    call()
    if time.perf_counter() - start >= TURN:
        return time.perf_counter() - start, 1
    start, made = time.perf_counter(), 0
    while made < LEAST or time.perf_counter() - start < TURN:
        call()
        made += 1
    return time.perf_counter() - start, made


# ---------------------------------------------------------------- the libraries


def with_rcnn(options: argparse.Namespace) -> tuple[dict[str, Work], Callable[[int], object]]:
    """Return {name: function} for each kind of work in rcnn, and the function that sets the number of threads."""
    import numpy as np

    import rcnn
    from rcnn import data

    model = rcnn.load_digits()
    images, targets = pages(data)

    def step() -> None:
        model.zero_grad()
        model.get_loss(images, targets, rng=np.random.default_rng(0))["total_loss"].backward()

    return {"predict": lambda: model.predict(images), "step": step}, rcnn.set_num_threads


def with_torchvision(options: argparse.Namespace) -> tuple[dict[str, Work], Callable[[int], object]]:
    """Return {name: function} for torchvision with the weights of rcnn, and the function that sets its threads."""
    import torch

    import rcnn
    from rcnn import data
    from speed import torch_peer

    model = rcnn.load_digits()
    images, targets = pages(data)
    detector, learner = torch_peer.small_detector(model).eval(), torch_peer.small_detector(model).train()
    given = torch_peer.tensors(images)
    objects = [{name: torch.from_numpy(value) for name, value in target.items()} for target in targets]

    def predict() -> object:
        with torch.inference_mode():
            return detector(given)

    def step() -> None:
        learner.zero_grad()
        sum(learner(given, objects).values()).backward()

    return {"predict": predict, "step": step}, torch.set_num_threads


def with_onnxruntime(options: argparse.Namespace) -> tuple[dict[str, Work], Callable[[int], object]]:
    """Return {"predict": function} for ONNX Runtime on one page, and the function that selects a number of threads."""
    import numpy as np

    from rcnn import data
    from speed import onnx_peer

    image = pages(data)[0][0] / np.float32(255)
    sessions = {n: onnx_peer.with_onnxruntime(options.file, image, n) for n in (1, options.threads)}
    current = [sessions[1]]
    return {"predict": lambda: current[0].call(None)}, lambda n: current.__setitem__(0, sessions[n])


LIBRARIES = {"rcnn": with_rcnn, "torchvision": with_torchvision, "onnxruntime": with_onnxruntime}


def pages(data: object) -> tuple[list, list]:
    """Return pages of digits as images, and their targets."""
    drawn = data.Digits(split="val")  # type: ignore[attr-defined]
    chosen = [drawn[index] for index in range(PAGES)]
    return [image for image, _ in chosen], [target for _, target in chosen]


if __name__ == "__main__":
    main()

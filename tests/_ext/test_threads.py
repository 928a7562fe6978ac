"""The pool of threads: it visits every element once, gives the same results as one thread, and survives forks."""

import contextvars
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import rcnn
from rcnn import _ext
from rcnn.boxes import iou

HERE = Path(__file__).parent


@pytest.mark.parametrize("governed", [True, False])
@pytest.mark.parametrize("sanitizer", ["thread", "address,undefined"])
@pytest.mark.slow
def test_loops_of_several_callers_visit_every_element_once(tmp_path, sanitizer, governed):
    compiler = shutil.which("cc") or shutil.which("gcc")
    assert compiler, "this test requires a C compiler, as the kernels do"
    flags = ["-O1", "-g", "-pthread", "-D_GNU_SOURCE", f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all"]
    flags += [] if governed else ["-DRCNN_MOST_REST=0"]
    program = tmp_path / "stress"
    sources = [HERE / "pool_stress.c", "-I", Path(_ext.__file__).parent]
    subprocess.run([compiler, *flags, *sources, "-o", program], check=True)
    run = subprocess.run([program], capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""


def some_boxes(count):
    corner = np.random.default_rng(count).uniform(0, 500, (count, 2))
    return np.concatenate([corner, corner + 40], axis=1).astype(np.float32)


def test_callers_in_several_python_threads_get_the_results_of_one():
    inputs = [some_boxes(900 + i) for i in range(6)]
    with rcnn.use_backend("cython"), rcnn.set_num_threads(3):
        expected = [iou(boxes, boxes) for boxes in inputs]
        wrong = []

        def work():
            for _ in range(20):
                for boxes, right in zip(inputs, expected, strict=True):
                    if not np.array_equal(iou(boxes, boxes), right):
                        wrong.append(len(boxes))

        threads = [threading.Thread(target=contextvars.copy_context().run, args=(work,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


INTERRUPTED = """
import signal, numpy as np, rcnn
from rcnn.nn import Tensor, functional as F

def stop(number, frame):
    raise KeyError("stopped")

signal.signal(signal.SIGALRM, stop)
x, weight = np.ones((2, 512, 96, 96), "float32"), np.ones((512, 512, 5, 5), "float32")
rcnn.set_num_threads({threads})
calls = 0
signal.setitimer(signal.ITIMER_REAL, 0.3)
try:
    while True:
        calls += 1
        F.conv2d(Tensor(x), Tensor(weight))
except KeyError as error:
    print(error, calls)
x, weight = Tensor(x[:1, :64]), Tensor(weight[:64, :64])
small = F.conv2d(x, weight).data
with rcnn.set_num_threads(1):
    print(np.array_equal(small, F.conv2d(x, weight).data))
"""


@pytest.mark.parametrize("threads", [1, 2])
def test_a_signal_ends_a_long_loop_and_the_pool_remains_usable(threads):
    environment = {**os.environ, "RCNN_BACKEND": "cython", "RCNN_SIMD": "baseline"}
    program = [sys.executable, "-c", INTERRUPTED.format(threads=threads)]
    run = subprocess.run(program, capture_output=True, text=True, env=environment, timeout=120)
    assert run.stdout == "'stopped' 1\nTrue\n", run.stderr  # the first call alone takes several seconds


def test_workers_leave_signals_to_python():
    boxes = some_boxes(2000)
    caught = []
    before = signal.signal(signal.SIGUSR1, lambda *_: caught.append(threading.current_thread()))
    try:
        with rcnn.use_backend("cython"), rcnn.set_num_threads(2):
            for _ in range(20):
                os.kill(os.getpid(), signal.SIGUSR1)
                iou(boxes, boxes)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert len(caught) == 20


def test_a_child_of_a_fork_uses_the_kernels_while_another_thread_uses_the_pool():
    boxes = some_boxes(1500)
    with rcnn.use_backend("cython"), rcnn.set_num_threads(2):
        expected, done = iou(boxes, boxes), threading.Event()

        def keep_busy():
            while not done.is_set():
                iou(boxes, boxes)

        thread = threading.Thread(target=contextvars.copy_context().run, args=(keep_busy,))
        thread.start()
        try:
            statuses = []
            for _ in range(10):
                child = os.fork()
                if child == 0:
                    signal.alarm(60)
                    os._exit(0 if np.array_equal(iou(boxes, boxes), expected) else 1)
                statuses.append(os.waitpid(child, 0)[1])
        finally:
            done.set()
            thread.join()
    assert statuses == [0] * 10

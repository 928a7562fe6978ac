"""Fixtures for all test files.

RCNN_TEST_WITHOUT=fcntl,ssl,threads runs the tests as on platforms that lack these: modules cannot be imported, and rcnn
cannot start a Python thread. Tests can start threads, because some of them check what users do with threads.
"""

import functools
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

start_thread = threading.Thread.start


def start_thread_unless_rcnn(thread: threading.Thread) -> None:
    """Start a thread. If a function of rcnn is among the callers, raise the error of a platform without threads."""
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_globals.get("__name__", "").partition(".")[0] == "rcnn":
            raise RuntimeError("can't start new thread")
        frame = frame.f_back
    start_thread(thread)


for name in filter(None, os.environ.get("RCNN_TEST_WITHOUT", "").split(",")):
    if name == "threads":
        threading.Thread.start = start_thread_unless_rcnn
    else:
        sys.modules[name] = None  # importing it then fails

import rcnn  # noqa: E402 (after the modules are hidden)

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(params=["numpy", "cython"])
def impl(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run the test on the NumPy reference and on the kernels. It fails if kernels are missing; tests never skip."""
    try:
        setting = rcnn.use_backend(request.param)
    except ImportError as error:
        pytest.fail(
            f"this test requires the compiled kernels; build them with RCNN_REQUIRE_EXT=1 pip install -e . ({error})"
        )
    with setting:
        yield request.param


@pytest.fixture(scope="session")
def golden() -> Callable[[str], Mapping[str, np.ndarray]]:
    """Return golden(name), the arrays of golden/NAME.npz: torchvision's results, named CASE/INPUT and CASE/OUTPUT."""

    @functools.cache
    def load(name: str) -> Mapping[str, np.ndarray]:
        with np.load(GOLDEN / f"{name}.npz") as file:
            return dict(file)

    return load

"""Fixtures that every test file may use."""

import functools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

import rcnn

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(params=["numpy", "cython"])
def impl(request: pytest.FixtureRequest) -> Iterator[str]:
    """Runs the test on the NumPy reference and on the kernels; missing kernels fail it, for tests do not skip them."""
    try:
        setting = rcnn.use_backend(request.param)
    except ImportError as error:
        pytest.fail(f"this test needs the compiled kernels; RCNN_REQUIRE_EXT=1 pip install -e . builds them ({error})")
    with setting:
        yield request.param


@pytest.fixture(scope="session")
def golden() -> Callable[[str], Mapping[str, np.ndarray]]:
    """`golden(name)` gives the arrays of golden/NAME.npz: torchvision's answers, named CASE/INPUT and CASE/OUTPUT."""

    @functools.cache
    def load(name: str) -> Mapping[str, np.ndarray]:
        with np.load(GOLDEN / f"{name}.npz") as file:
            return dict(file)

    return load

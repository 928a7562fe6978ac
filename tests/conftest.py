"""Fixtures for all test files."""

import functools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

import rcnn

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(params=["numpy", "cython"])
def impl(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run the test on the NumPy reference and on the kernels; missing kernels fail it, because tests never skip."""
    try:
        setting = rcnn.use_backend(request.param)
    except ImportError as error:
        pytest.fail(
            f"this test requires the compiled kernels; build them by RCNN_REQUIRE_EXT=1 pip install -e . ({error})"
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

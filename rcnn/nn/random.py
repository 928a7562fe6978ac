"""The library's own random numbers: what is used wherever a caller passes no `rng=`."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator

import numpy as np

_own = np.random.default_rng()
_in_force: contextvars.ContextVar[np.random.Generator | None] = contextvars.ContextVar("in_force", default=None)


def seed(n: int) -> None:
    """Resets the library's own generator: the same seed gives the same weights, the same dropout, the same samples."""
    global _own
    _own = np.random.default_rng(n)


def generator(rng: np.random.Generator | None = None) -> np.random.Generator:
    """`rng` itself; where it is None, the generator of the `drawing_from` block around, else the library's own."""
    if rng is None:
        return _in_force.get() or _own
    if not isinstance(rng, np.random.Generator):
        raise TypeError(f"rng must be a np.random.Generator (see np.random.default_rng), not {type(rng).__name__}")
    return rng


@contextlib.contextmanager
def drawing_from(rng: np.random.Generator) -> Iterator[None]:
    """In this block (in this thread) everything draws from `rng`: the dropout in a user's backbone, too."""
    before = _in_force.set(rng)
    try:
        yield
    finally:
        _in_force.reset(before)

"""The library's own random numbers, which are used if a caller passes no `rng=`."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator

import numpy as np

_own = np.random.default_rng()
_in_force: contextvars.ContextVar[np.random.Generator | None] = contextvars.ContextVar("in_force", default=None)


def seed(n: int) -> None:
    """Reset the library's own generator: the same seed gives the same weights, dropout and samples.

    Parameters
    ----------
    n : int
        The seed.
    """
    global _own
    _own = np.random.default_rng(n)


def generator(rng: np.random.Generator | None = None) -> np.random.Generator:
    """Return `rng`, or the generator in use if it is None.

    Parameters
    ----------
    rng : np.random.Generator, optional
        A caller's generator.

    Returns
    -------
    np.random.Generator
        `rng` itself; if None, the generator of the enclosing `drawing_from` block, or else the library's own.

    Raises
    ------
    TypeError
        If `rng` is something else.
    """
    if rng is None:
        return _in_force.get() or _own
    if not isinstance(rng, np.random.Generator):
        raise TypeError(f"rng must be a np.random.Generator (see np.random.default_rng), got {type(rng).__name__}")
    return rng


@contextlib.contextmanager
def drawing_from(rng: np.random.Generator) -> Iterator[None]:
    """Draw all random numbers of this block from `rng`, also the dropout in a user's backbone.

    Parameters
    ----------
    rng : np.random.Generator
        The generator, in this thread.

    Yields
    ------
    None
        The block draws from `rng`.
    """
    before = _in_force.set(rng)
    try:
        yield
    finally:
        _in_force.reset(before)

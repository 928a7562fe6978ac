"""The library's own random generator, which is used if a caller passes no `rng=`."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator

import numpy as np

from rcnn._validate import check_generator, integer

_own = np.random.default_rng()
_in_force: contextvars.ContextVar[np.random.Generator | None] = contextvars.ContextVar("in_force", default=None)


def seed(n: int) -> None:
    """Reset the library's own random generator. The same seed gives the same weights, dropout and samples.

    Parameters
    ----------
    n : int
        The seed, in 0 .. 2^128 - 1.

    Raises
    ------
    TypeError, ValueError
        If `n` is not an integer in this range.
    """
    global _own
    _own = np.random.default_rng(integer(0, 2**128 - 1).check("n", n))


def generator(rng: np.random.Generator | None = None) -> np.random.Generator:
    """Return `rng`, or the current random generator if `rng` is None.

    Parameters
    ----------
    rng : np.random.Generator, optional
        The generator of the caller.

    Returns
    -------
    np.random.Generator
        The generator `rng` if it is given. Otherwise, the result is the generator of the enclosing `drawing_from` block
        or, outside such a block, the library's own generator.

    Raises
    ------
    TypeError
        If `rng` is neither None nor a generator.
    """
    return _in_force.get() or _own if rng is None else check_generator(rng)


@contextlib.contextmanager
def drawing_from(rng: np.random.Generator) -> Iterator[None]:
    """Use `rng` instead of the library's own generator within this block, for example for dropout in a backbone.

    Parameters
    ----------
    rng : np.random.Generator
        The generator. It is used only in the current context.

    Yields
    ------
    None
        The block uses `rng`.

    Raises
    ------
    TypeError
        If `rng` is not a generator.
    """
    check_generator(rng)
    before = _in_force.set(rng)
    try:
        yield
    finally:
        _in_force.reset(before)

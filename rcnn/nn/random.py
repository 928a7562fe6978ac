"""The random generators in force: the library's own, which is used if a caller passes no `rng=`, or those of images."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from rcnn._validate import check_generator, check_sequence, integer

_own = np.random.default_rng()


@dataclass(frozen=True)
class _Draws:
    """The generators of the images of a batch; generator i draws the next `rows[i]` rows of an array."""

    generators: Sequence[np.random.Generator]
    rows: Sequence[int]


_in_force: contextvars.ContextVar[_Draws | None] = contextvars.ContextVar("in_force", default=None)


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
        (the first one, if the block has several) or, outside such a block, the library's own generator.

    Raises
    ------
    TypeError
        If `rng` is neither None nor a generator.
    """
    if rng is not None:
        return check_generator(rng)
    draws = _in_force.get()
    return _own if draws is None else draws.generators[0]


def per_image(rng: np.random.Generator | Sequence[np.random.Generator] | None, count: int) -> list[np.random.Generator]:
    """Return the generator of each image of a batch.

    Parameters
    ----------
    rng : np.random.Generator or sequence of generators, optional
        One generator per image, or one generator for all images; by default, that of `generator`.
    count : int
        The number of images.

    Returns
    -------
    list of generators
        The generator of each image.

    Raises
    ------
    TypeError, ValueError
        If an element is not a generator, or if their number is not `count`.
    """
    if rng is None or isinstance(rng, np.random.Generator):
        return [generator(rng)] * count
    if not isinstance(rng, (list, tuple)):
        return [check_generator(rng)]  # raises the error
    check_sequence(rng, "rng", count)
    return [check_generator(element) for element in rng]


def uniform(shape: tuple[int, ...], rng: np.random.Generator | None = None) -> np.ndarray:
    """Return random numbers that are uniformly distributed in [0, 1).

    Within a `drawing_from` block that has a generator for each image, each image draws its own rows of the array. Then
    the numbers of an image do not depend on the other images of its batch. The rows must be in the order of the images.

    Parameters
    ----------
    shape : tuple of int
        The shape of the array.
    rng : np.random.Generator, optional
        The generator; by default, those of the enclosing `drawing_from` block, or the library's own.

    Returns
    -------
    float32 array
        The numbers.
    """
    draws = _in_force.get()
    if rng is not None or draws is None or draws.generators.count(draws.generators[0]) == len(draws.generators):
        return generator(rng).random(shape, dtype=np.float32)
    total = sum(draws.rows)
    if not total or not shape or shape[0] % total:  # the rows do not belong to images
        return draws.generators[0].random(shape, dtype=np.float32)
    sizes = [rows * (shape[0] // total) for rows in draws.rows]
    pairs = zip(draws.generators, sizes, strict=True)
    return np.concatenate([own.random((rows, *shape[1:]), dtype=np.float32) for own, rows in pairs])


@contextlib.contextmanager
def drawing_from(
    rng: np.random.Generator | Sequence[np.random.Generator], rows: Sequence[int] | None = None
) -> Iterator[None]:
    """Use `rng` instead of the library's own generator within this block, for example for dropout in a backbone.

    Parameters
    ----------
    rng : np.random.Generator or sequence of generators
        The generator, or one generator for each image of a batch. It is used only in the current context.
    rows : sequence of int, optional
        For each generator, the number of rows of an array that belong to its image; by default, 1. See `uniform`.

    Yields
    ------
    None
        The block uses `rng`.

    Raises
    ------
    TypeError
        If `rng` contains something other than generators.
    """
    generators = per_image(rng, len(rng) if isinstance(rng, (list, tuple)) else 1)
    before = _in_force.set(_Draws(generators, [1] * len(generators) if rows is None else rows))
    try:
        yield
    finally:
        _in_force.reset(before)

"""Shared parts of the checks of random choices: generators that a message can show, and a test against chance."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass

import numpy as np

from rcnn.checks._engine import Failure

DRAWS = 400  # choices from the same candidates, to count how often each is chosen
DEVIATIONS = 6  # standard deviations; a right answer exceeds them less than once in 1e7


@dataclass(frozen=True)
class Seeded:
    """A random generator as a message shows it: the call that makes another with the same draws.

    Attributes
    ----------
    seed : int
        Seed of the generator.
    """

    seed: int

    def __repr__(self) -> str:
        return f"np.random.default_rng({self.seed})"

    def made(self) -> np.random.Generator:
        """Return a new generator with this seed.

        Returns
        -------
        np.random.Generator
            The generator, with nothing drawn yet.
        """
        return np.random.default_rng(self.seed)


def unrepeated(choose: Callable[[np.random.Generator], Hashable], seeded: Seeded, what: str) -> Failure | None:
    """Return a failure if generators with equal draws lead to different choices.

    Parameters
    ----------
    choose : callable
        Takes a generator and returns the choice, hashable.
    seeded : Seeded
        The generator.
    what : str
        Plural noun for the chosen elements, as in "boxes".

    Returns
    -------
    Failure or None
        None if three runs agree.
    """
    if len({choose(seeded.made()) for _ in range(3)}) == 1:
        return None
    return Failure(
        f"chooses other {what} when `rng` draws the same numbers again",
        hint="Take every random number from `rng`. NumPy's and Python's global generators are not `rng`, and with "
        "them nobody could repeat the choice.",
    )


def unlike_chance(counts: np.ndarray, share: float) -> np.ndarray:
    """Return which counts chance does not explain.

    Parameters
    ----------
    counts : (A,) array of int
        How often each candidate was chosen in `DRAWS` choices.
    share : float
        Probability of each candidate in one choice.

    Returns
    -------
    (A,) array of bool
        True where a count is more than `DEVIATIONS` standard deviations from its expectation.
    """
    return np.abs(counts - DRAWS * share) > DEVIATIONS * np.sqrt(DRAWS * share * (1 - share))

"""Helpers for checks of random choices: random generators with a known seed, and a test for equal probabilities."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass

import numpy as np

from rcnn.checks._engine import Failure

DRAWS = 400  # number of choices from the same candidates, to count how often each candidate is chosen
DEVIATIONS = 6  # standard deviations; a count is this far off by chance less than once in 1e7


@dataclass(frozen=True)
class Seeded:
    """Seed of a random generator, shown in messages as the call that creates the generator.

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
            The generator; no number has been drawn from it.
        """
        return np.random.default_rng(self.seed)


def unrepeated(choose: Callable[[np.random.Generator], Hashable], seeded: Seeded, what: str) -> Failure | None:
    """Return a failure if `choose` makes different choices with generators of the same seed.

    Parameters
    ----------
    choose : callable
        Function that takes a generator and returns its choice as a hashable object.
    seeded : Seeded
        The seed for the generators.
    what : str
        Plural noun for the chosen elements, such as "boxes".

    Returns
    -------
    Failure or None
        None if three calls make the same choice.
    """
    if len({choose(seeded.made()) for _ in range(3)}) == 1:
        return None
    return Failure(
        f"chooses different {what} when it is called again with an `rng` of the same seed",
        hint="Take every random number from `rng`, not from the global generators of NumPy or Python. Otherwise, the "
        "choice cannot be repeated.",
    )


def unlike_chance(counts: np.ndarray, share: float) -> np.ndarray:
    """Return which counts are too far from the expected count to be explained by chance.

    Parameters
    ----------
    counts : (A,) array of int
        Number of times that each of the A candidates was chosen in `DRAWS` choices.
    share : float
        Probability that one choice contains a given candidate.

    Returns
    -------
    (A,) array of bool
        True for each count that is more than `DEVIATIONS` standard deviations from the expected count.
    """
    return np.abs(counts - DRAWS * share) > DEVIATIONS * np.sqrt(DRAWS * share * (1 - share))

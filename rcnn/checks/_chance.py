"""Helpers for checks of random choices: random generators with a known seed, and a test for equal probabilities."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from rcnn.checks._engine import Failure

DEVIATIONS = 6  # standard deviations; a count is this far off by chance less than once in 1e8


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


def unlike_chance(counts: np.ndarray, share: float, draws: int) -> np.ndarray:
    """Return which counts are too far from the expected count to be explained by chance.

    Parameters
    ----------
    counts : (A,) array of int
        Number of times that each of the A candidates was chosen.
    share : float
        Probability that one choice contains a given candidate.
    draws : int
        Number of choices.

    Returns
    -------
    (A,) array of bool
        True for each count that is more than `DEVIATIONS` standard deviations from the expected count.
    """
    return np.abs(counts - draws * share) > DEVIATIONS * np.sqrt(draws * share * (1 - share))


def uneven(counts: Sequence[int], kinds: int) -> bool:
    """Return True if equally likely outcomes have counts that chance does not explain.

    The statistic is Pearson's chi-squared, compared with its distribution by the Wilson-Hilferty approximation.

    Parameters
    ----------
    counts : sequence of int
        Number of times that each outcome occurred. Outcomes that did not occur may be left out.
    kinds : int
        Number of possible outcomes.

    Returns
    -------
    bool
        True if the statistic is more than `DEVIATIONS` standard deviations above its mean.
    """
    if kinds < 2:
        return False
    expected = sum(counts) / kinds
    squared = sum((count - expected) ** 2 for count in counts) + (kinds - len(counts)) * expected**2
    free = kinds - 1
    variance = 2 / (9 * free)
    return ((squared / expected / free) ** (1 / 3) - (1 - variance)) / variance**0.5 > DEVIATIONS

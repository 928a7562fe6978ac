"""What checks of a random choice share: generators that a message can show, and whether chance explains a count."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass

import numpy as np

from rcnn.checks._engine import Failure

DRAWS = 400  # of the same candidates, to see how often each is chosen
DEVIATIONS = 6  # standard deviations that a right answer stays within, but for once in 1e7


@dataclass(frozen=True)
class Seeded:
    """What a message shows for a generator: how to make another that draws the same."""

    seed: int

    def __repr__(self) -> str:
        return f"np.random.default_rng({self.seed})"

    def made(self) -> np.random.Generator:
        return np.random.default_rng(self.seed)


def unrepeated(choose: Callable[[np.random.Generator], Hashable], seeded: Seeded, what: str) -> Failure | None:
    """A failure if generators that draw the same lead to several choices of `what`."""
    if len({choose(seeded.made()) for _ in range(3)}) == 1:
        return None
    return Failure(
        f"does not choose the same {what} again where `rng` draws the same again",
        hint="all chance must "
        "come from `rng`; what NumPy and Python draw by themselves comes from elsewhere, and nobody could "
        "repeat the choice",
    )


def unlike_chance(counts: np.ndarray, share: float) -> np.ndarray:
    """Which of the `counts` (A,), of `DRAWS` choices with the probability `share`, chance does not explain, (A,)."""
    return np.abs(counts - DRAWS * share) > DEVIATIONS * np.sqrt(DRAWS * share * (1 - share))

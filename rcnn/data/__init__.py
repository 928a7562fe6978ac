"""Data sets: pictures with the boxes and labels of what is in them.

Everything that trains or evaluates asks for the `Dataset` protocol alone, so a list-like class of one's own serves as
well as those of this package.
"""
from typing import Protocol

import numpy as np

from rcnn.data.digits import Digits
from rcnn.data.shapes import Shapes

__all__ = ["Dataset", "Digits", "Shapes", "load"]


class Dataset(Protocol):
    """Pictures with their targets, by index."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the labels; index 0 is "background"."""
        ...

    def __len__(self) -> int:
        """The number of pictures."""
        ...

    def __getitem__(self, index: int, /) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """(picture (H, W, 3) uint8, {"boxes": (G, 4) float32, "labels": (G,) int64}); IndexError beyond the end."""
        ...


def load(name: str, split: str, n: int | None = None, seed: int = 0) -> Dataset:
    """The data set that `name` stands for in every command: "shapes" or "digits".

    Args:
        name: what to load.
        split: "train" or "val".
        n: number of pages; None means the split's own number.
        seed: of the drawn pages.

    Raises ValueError for an unknown name, listing those that exist.
    """
    if name == "shapes":
        return Shapes(n, split=split, seed=seed)
    if name == "digits":
        return Digits(n, split=split, seed=seed)
    raise ValueError(f"there is no data set {name!r}; there are: shapes, digits")

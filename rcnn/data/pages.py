"""What the drawn data sets share: pages that are drawn anew whenever they are asked for.

A page depends on the seed, the split and its index alone, so nothing is stored, any process draws the same page 17,
and a data set of a million pages costs no memory.
"""

import abc
import operator

import numpy as np
from PIL import Image

from rcnn.data.indexing import place_of

SPLITS = ("train", "val")
DEFAULT_LENGTHS = {"train": 20_000, "val": 200}
MIN_SIDE = 64  # pixels; the largest objects need about this much room


class DrawnPages(abc.ABC):
    """A `Dataset` whose pages come out of a random generator; a subclass says in `draw` what is on them.

    Args:
        n: number of pages; None means 20,000 for the train split and 200 for the val split.
        split: "train" or "val"; the same index shows different pages in the two.
        seed: non-negative integer; another seed is another data set.
        size: (height, width) of every page in pixels.
    """

    classes: tuple[str, ...]

    def __init__(self, n: int | None, split: str, seed: int, size: tuple[int, int]) -> None:
        if split not in SPLITS:
            raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
        n = DEFAULT_LENGTHS[split] if n is None else operator.index(n)
        if n < 0:
            raise ValueError(f"n must not be negative, got {n}")
        if operator.index(seed) < 0:
            raise ValueError(f"seed must not be negative, got {seed}")
        if len(size) != 2 or min(size) < MIN_SIDE:
            raise ValueError(f"size must be (height, width) of at least {MIN_SIDE} pixels each, got {size}")
        self.n, self.split, self.seed, self.size = n, split, operator.index(seed), (int(size[0]), int(size[1]))

    @abc.abstractmethod
    def draw(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(image (H, W, 3) float in 0 .. 255, coverage (G, H, W) float in 0 .. 1, labels (G,)) of one page.

        `coverage[g]` is how much of each pixel object g covers, whether or not a later object lies over it.
        """

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """(image (H, W, 3) uint8, {"boxes": (G, 4) float32, "labels": (G,) int64}) of a page; -1 is the last one."""
        image, coverage, labels = self.draw(self.rng(index))
        target = {"boxes": tight_boxes(coverage), "labels": labels.astype(np.int64)}
        return np.clip(np.rint(image), 0, 255).astype(np.uint8), target

    def rng(self, index: int) -> np.random.Generator:
        """The generator that draws page `index`; IndexError if there is no such page."""
        key = (SPLITS.index(self.split), place_of(index, self.n, "page"))
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=key))


def tight_boxes(coverage: np.ndarray) -> np.ndarray:
    """Boxes (G, 4) float32 around the pixels that each layer of `coverage` (G, H, W) covers by more than half.

    Coordinates are continuous: pixel (row, column) fills the square from (column, row) to (column + 1, row + 1).
    A layer without such a pixel is a ValueError.
    """
    rows: np.ndarray = coverage.max(axis=2) > 0.5  # (G, H)
    columns: np.ndarray = coverage.max(axis=1) > 0.5  # (G, W)
    if not rows.any(axis=1).all():
        raise ValueError(f"layer {int(np.argmin(rows.any(axis=1)))} of coverage covers no pixel by more than half")
    height, width = coverage.shape[1:]
    x1, x2 = columns.argmax(axis=1), width - columns[:, ::-1].argmax(axis=1)  # (G,)
    y1, y2 = rows.argmax(axis=1), height - rows[:, ::-1].argmax(axis=1)  # (G,)
    return np.stack([x1, y1, x2, y2], axis=1).astype(np.float32)  # (G, 4)


def extent(layer: np.ndarray) -> tuple[slice, slice]:
    """The rows and the columns of `layer` (H, W) that its pixels other than 0 span; there must be one."""
    rows, columns = np.flatnonzero(layer.any(axis=1)), np.flatnonzero(layer.any(axis=0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def blend(image: np.ndarray, colour: np.ndarray, coverage: np.ndarray) -> None:
    """Nothing; mixes `colour` (3,) or (H, W, 3) into `image` (H, W, 3) in place, `coverage` (H, W) of it."""
    image += (colour - image) * coverage[:, :, None]


def clouds(rng: np.random.Generator, size: tuple[int, ...], cells: int) -> np.ndarray:
    """A smooth random field (H, W) float32, about -1 .. 1, with `cells` blobs along each side."""
    coarse = rng.uniform(-1, 1, (cells, cells)).astype(np.float32)
    return np.asarray(Image.fromarray(coarse).resize((size[1], size[0]), Image.Resampling.BICUBIC))


def grain(rng: np.random.Generator, size: tuple[int, ...], strength: float) -> np.ndarray:
    """Pixel noise (H, W, 3) float32, normal, of standard deviation `strength`."""
    return rng.standard_normal((*size, 3), dtype=np.float32) * np.float32(strength)

"""Base class of the drawn data sets, and tools to draw pages.

A page depends only on the seed, the split and the index of the page. It is drawn again at each access, so a data set of
a million pages needs no memory. Every process draws the same page for the same index.
"""

import abc

import numpy as np

from rcnn._validate import check_pair, integer, one_of, shown
from rcnn.data.indexing import normalise_index
from rcnn.data.interpolation import resize

SPLITS = ("train", "val")
DEFAULT_LENGTHS = {"train": 20_000, "val": 200}
MAX_LENGTH = 10_000_000  # pages; training shuffles a list of their indices
MIN_SIDE, MAX_SIDE = 64, 10_000  # pixels; the largest objects have about 64


class DrawnPages(abc.ABC):
    """A `Dataset` of random pages; a subclass defines `draw`.

    Parameters
    ----------
    n : int or None
        Number of pages, at most 10,000,000; None means 20,000 for train and 200 for val.
    split : {"train", "val"}
        The two splits contain different pages.
    seed : int
        A non-negative integer. Each seed gives a different data set.
    size : (int, int)
        (height, width) of every page, in pixels; 64 to 10,000 each.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type or is out of range.
    """

    classes: tuple[str, ...]

    def __init__(self, n: int | None, split: str, seed: int, size: tuple[int, int]) -> None:
        one_of(SPLITS).check("split", split)
        n = DEFAULT_LENGTHS[split] if n is None else integer(0, MAX_LENGTH).check("n", n)
        seed = integer(0).check("seed", seed)
        height, width = check_pair(size, "size")
        if not MIN_SIDE <= min(height, width) <= max(height, width) <= MAX_SIDE:
            raise ValueError(
                f"size must be (height, width) of {MIN_SIDE} to {MAX_SIDE:,} pixels each, got {shown(size)}"
            )
        self.n, self.split, self.seed, self.size = n, split, seed, (height, width)

    @abc.abstractmethod
    def draw(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Draw one page.

        Parameters
        ----------
        rng : Generator
            Random generator for everything on the page.

        Returns
        -------
        image : (H, W, 3) float array
            Colours from 0 to 255.
        coverage : (G, H, W) float array
            Fraction of each pixel that each of the G objects covers, from 0 to 1. The parts of an object that later
            objects hide are included.
        labels : (G,) int array
            Label of each object.
        """

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Return an image (H, W, 3) uint8 and {"boxes": (G, 4) float32, "labels": (G,) int64} for its G objects."""
        image, coverage, labels = self.draw(self.rng(index))
        target = {"boxes": tight_boxes(coverage), "labels": labels.astype(np.int64)}
        return np.clip(np.rint(image), 0, 255).astype(np.uint8), target

    def rng(self, index: int) -> np.random.Generator:
        """Return the random generator of a page.

        Parameters
        ----------
        index : int
            Index of the page; negative indices count from the end.

        Returns
        -------
        Generator
            A new generator, which depends only on the seed, the split and the index.

        Raises
        ------
        IndexError
            If there is no page with this index.
        """
        key = (SPLITS.index(self.split), normalise_index(index, self.n, "page"))
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=key))


def tight_boxes(coverage: np.ndarray) -> np.ndarray:
    """Return the smallest box of each object: the box around all pixels whose coverage is above 0.5.

    Coordinates are continuous: pixel (row, column) is the square from (column, row) to (column + 1, row + 1).

    Parameters
    ----------
    coverage : (G, H, W) array
        Fraction of each pixel that each of the G objects covers.

    Returns
    -------
    (G, 4) float32 array
        Boxes in pixels.

    Raises
    ------
    ValueError
        If an object has no pixel whose coverage is above 0.5.

    Examples
    --------
    >>> coverage = np.zeros((1, 4, 6))
    >>> coverage[0, 1:3, 2:5] = 1
    >>> tight_boxes(coverage).tolist()
    [[2.0, 1.0, 5.0, 3.0]]
    """
    rows: np.ndarray = coverage.max(axis=2) > 0.5  # (G, H)
    columns: np.ndarray = coverage.max(axis=1) > 0.5  # (G, W)
    if not rows.any(axis=1).all():
        raise ValueError(f"layer {int(np.argmin(rows.any(axis=1)))} of coverage has no value above 0.5")
    height, width = coverage.shape[1:]
    x1, x2 = columns.argmax(axis=1), width - columns[:, ::-1].argmax(axis=1)  # (G,)
    y1, y2 = rows.argmax(axis=1), height - rows[:, ::-1].argmax(axis=1)  # (G,)
    return np.stack([x1, y1, x2, y2], axis=1).astype(np.float32)  # (G, 4)


def extent(layer: np.ndarray) -> tuple[slice, slice]:
    """Return the range of rows and the range of columns that contain all non-zero pixels.

    Parameters
    ----------
    layer : (H, W) array
        At least one pixel must be non-zero.

    Returns
    -------
    rows, columns : slice
        `layer[rows, columns]` contains all non-zero pixels.
    """
    rows, columns = np.flatnonzero(layer.any(axis=1)), np.flatnonzero(layer.any(axis=0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def blend(image: np.ndarray, colour: np.ndarray, coverage: np.ndarray) -> None:
    """Blend a colour into an image in place: image += coverage * (colour - image).

    Parameters
    ----------
    image : (H, W, 3) float array
        The image, which is changed in place.
    colour : (3,) or (H, W, 3) array
        One colour, or one for each pixel.
    coverage : (H, W) array
        Weight of the colour at each pixel, from 0 to 1.
    """
    image += (colour - image) * coverage[:, :, None]


def clouds(rng: np.random.Generator, size: tuple[int, ...], cells: int) -> np.ndarray:
    """Generate a smooth random field.

    Parameters
    ----------
    rng : Generator
        Random generator.
    size : (int, int)
        (height, width) in pixels.
    cells : int
        Number of random values along each side. Values between them are interpolated.

    Returns
    -------
    (H, W) float32 array
        Values from about -1 to 1.
    """
    return resize(rng.uniform(-1, 1, (cells, cells)).astype(np.float32), size)


def grain(rng: np.random.Generator, size: tuple[int, ...], strength: float) -> np.ndarray:
    """Generate pixel noise.

    Parameters
    ----------
    rng : Generator
        Random generator.
    size : (int, int)
        (height, width) in pixels.
    strength : float
        Standard deviation of the noise.

    Returns
    -------
    (H, W, 3) float32 array
        Normally distributed values with mean 0.
    """
    return rng.standard_normal((*size, 3), dtype=np.float32) * np.float32(strength)

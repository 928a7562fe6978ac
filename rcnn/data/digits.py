"""Pages with real handwriting: 1,797 handwritten digits, placed at random on drawn paper.

A glyph is the image of one digit. It is an 8 x 8 grid; each of its values, from 0 to 16, is the number of pixels with
ink in a block of 4 x 4 scanned pixels. A glyph is enlarged smoothly, rotated and sheared a little, sharpened into
strokes, and drawn onto the page.

References
----------
E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits" (test part), UCI Machine Learning Repository,
1998, doi:10.24432/C50P49, CC BY 4.0. The package contains it as digits.npz.
"""

import functools
import math
from pathlib import Path

import numpy as np

from rcnn.data.interpolation import transform
from rcnn.data.pages import DrawnPages, blend, clouds, extent, grain

GLYPHS = Path(__file__).with_name("digits.npz")
TRAIN_SHARE = 0.78  # fraction of each class for training: 1,402 glyphs; the other 395 are for validation
SPLIT_SEED = 1998  # the split of the glyphs is fixed; it does not depend on the seed of the pages
MARGIN = 2  # blank pixels around an 8 by 8 glyph, so that rotation cuts off no stroke
HEIGHTS = (12.0, 44.0)  # approximate heights of the smallest and the largest digit, in pixels
MAX_OVERLAP = 0.05  # intersection of two digits' boxes, as a fraction of the area of the smaller box
POSITIONS_TRIED = 24


class Digits(DrawnPages):
    """Pages with 3 to 10 handwritten digits (sometimes one or none); the label of digit d is d + 1.

    The splits "train" and "val" have no glyph in common.

    Parameters
    ----------
    n, split, seed, size : int, str, int, (int, int)
        See `DrawnPages`.

    Examples
    --------
    >>> image, target = Digits(1)[0]
    >>> image.shape, sorted(target)
    ((128, 128, 3), ['boxes', 'labels'])
    """

    classes = ("background", *"0123456789")

    def __init__(
        self, n: int | None = None, split: str = "train", seed: int = 0, size: tuple[int, int] = (128, 128)
    ) -> None:
        super().__init__(n, split, seed, size)
        glyphs, digits = load_glyphs()
        chosen = split_glyphs(digits)[split]
        self.glyphs, self.digits = glyphs[chosen], digits[chosen]

    def draw(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Draw one page.

        Parameters
        ----------
        rng : Generator
            Random generator for everything on the page.

        Returns
        -------
        tuple of array
            The image, the coverage and the labels, as in `DrawnPages.draw`.
        """
        image, ink = draw_paper(rng, self.size)
        taken = np.zeros((0, 4))
        layers, labels = [], []
        for glyph in rng.integers(len(self.glyphs), size=draw_count(rng)):
            stamp = draw_glyph(rng, self.glyphs[glyph])
            box = find_place(rng, stamp.shape, self.size, taken)
            if box is None:  # the page is full
                continue
            x1, y1, x2, y2 = box
            blend(image[y1:y2, x1:x2], ink, stamp * np.float32(rng.uniform(0.6, 1.0)))
            layer = np.zeros(self.size, np.float32)
            layer[y1:y2, x1:x2] = stamp
            taken = np.vstack([taken, box])
            layers.append(layer)
            labels.append(self.digits[glyph] + 1)
        return image, np.array(layers).reshape(-1, *self.size), np.array(labels, np.int64)


@functools.cache
def load_glyphs() -> tuple[np.ndarray, np.ndarray]:
    """Return the glyphs and the digits that they show, as read-only arrays.

    Returns
    -------
    glyphs : (1797, 12, 12) float32 array
        Amount of ink in each pixel, from 0 to 1; the margin is blank.
    digits : (1797,) int64 array
        The digit that each glyph shows.
    """
    with np.load(GLYPHS) as file:
        images, digits = file["images"], file["labels"].astype(np.int64)  # (1797, 8, 8) uint8, 0 .. 16
    glyphs = np.pad(images / 16, ((0, 0), (MARGIN, MARGIN), (MARGIN, MARGIN))).astype(np.float32)
    glyphs.setflags(write=False)
    digits.setflags(write=False)
    return glyphs, digits


def split_glyphs(digits: np.ndarray) -> dict[str, np.ndarray]:
    """Split the glyphs into a training part and a validation part, in the same proportion for each class.

    Parameters
    ----------
    digits : (N,) int array
        The digit that each of the N glyphs shows.

    Returns
    -------
    dict
        Maps "train" and "val" to the sorted indices, (K,) int64, of the K glyphs in this split. Every call returns the
        same indices.
    """
    rng = np.random.default_rng(SPLIT_SEED)
    train, val = [], []
    for digit in range(10):
        order = rng.permutation(np.flatnonzero(digits == digit))
        cut = round(TRAIN_SHARE * len(order))
        train.append(order[:cut])
        val.append(order[cut:])
    return {"train": np.sort(np.concatenate(train)), "val": np.sort(np.concatenate(val))}


def draw_count(rng: np.random.Generator) -> int:
    """Choose at random how many digits a page has.

    Parameters
    ----------
    rng : Generator
        Random generator.

    Returns
    -------
    int
        0 with probability 0.02, 1 with probability 0.03, and otherwise 3 to 10 with equal probabilities.
    """
    chance = rng.uniform()
    if chance < 0.05:
        return int(chance >= 0.02)
    return int(rng.integers(3, 11))


def draw_paper(rng: np.random.Generator, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Draw an empty page.

    Parameters
    ----------
    rng : Generator
        Random generator.
    size : (int, int)
        (height, width) in pixels.

    Returns
    -------
    paper : (H, W, 3) float32 array
        The page, with colours from about 0 to 255.
    ink : (3,) float32 array
        Colour of the digits on this page.
    """
    tone = rng.uniform(165, 245) + rng.uniform(-12, 8, 3)  # (3,)
    shade = clouds(rng, size, cells=int(rng.integers(2, 7))) * rng.uniform(0, 18)  # (H, W)
    paper = (tone + shade[:, :, None]).astype(np.float32) + grain(rng, size, rng.uniform(1, 7))  # (H, W, 3)
    if rng.uniform() < 0.35:
        rule_lines(rng, paper)
    ink = rng.uniform(10, 70) + rng.uniform(-10, 25, 3)
    return paper, ink.astype(np.float32)


def rule_lines(rng: np.random.Generator, paper: np.ndarray) -> None:
    """Draw faint horizontal lines or a grid of squares on the page, in place.

    Parameters
    ----------
    rng : Generator
        Random generator.
    paper : (H, W, 3) float32 array
        The page, which is changed in place.
    """
    spacing = int(rng.integers(14, 30))
    strength = np.float32(rng.uniform(8, 30))
    paper[int(rng.integers(spacing)) :: spacing] -= strength
    if rng.uniform() < 0.4:
        paper[:, int(rng.integers(spacing)) :: spacing] -= strength


def draw_glyph(rng: np.random.Generator, glyph: np.ndarray) -> np.ndarray:
    """Draw a glyph with a random size, slant and thickness, and remove its blank margin.

    Parameters
    ----------
    rng : Generator
        Random generator.
    glyph : (12, 12) float32 array
        Amount of ink in each pixel, from 0 to 1; the margin is blank.

    Returns
    -------
    (h, w) array
        Fraction of each pixel that the strokes cover, from 0 to 1; h and w are the height and width of the digit.
    """
    scale = math.exp(rng.uniform(*np.log(HEIGHTS))) / (len(glyph) - 2 * MARGIN)  # page pixels per glyph pixel
    strokes = enlarge(
        glyph, scale, angle=rng.uniform(-0.17, 0.17), shear=rng.uniform(-0.2, 0.2), stretch=rng.uniform(0.85, 1.15)
    )
    # Convert the blurred enlargement to strokes whose edges are about 1.5 pixels wide. The coverage rises steeply where
    # the ink is near the level `rim`, and is 0 where the ink is well below this level.
    rim = rng.uniform(0.32, 0.48)
    coverage = np.clip(0.5 + (strokes - rim) * max(0.8 * scale, 0.6 / rim), 0, 1)
    return coverage[extent(coverage)]


def enlarge(glyph: np.ndarray, scale: float, angle: float, shear: float, stretch: float) -> np.ndarray:
    """Enlarge, stretch, shear and rotate a glyph about its centre, in this order.

    Parameters
    ----------
    glyph : (N, N) float32 array
        Amount of ink in each pixel, from 0 to 1.
    scale : float
        Factor by which both sides are multiplied.
    angle : float
        Rotation in radians.
    shear : float
        Shift of x in glyph pixels per glyph pixel of y.
    stretch : float
        Additional factor for the width.

    Returns
    -------
    (M, M) float32 array
        The enlarged glyph, computed with bicubic interpolation. M is ceil(N * scale * max(stretch, 1)).
    """
    side = math.ceil(len(glyph) * scale * max(stretch, 1))
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    slant = np.array([[stretch, shear], [0, 1]])
    back = np.linalg.inv(scale * turn @ slant)  # from page to glyph coordinates, relative to the two centres
    shift = len(glyph) / 2 - back @ (side / 2, side / 2)
    return transform(glyph, (side, side), (*back[0], shift[0], *back[1], shift[1]))


def find_place(
    rng: np.random.Generator, shape: tuple[int, ...], size: tuple[int, int], taken: np.ndarray
) -> np.ndarray | None:
    """Find a random free position on a page.

    Parameters
    ----------
    rng : Generator
        Random generator.
    shape : (int, int)
        (height, width) of the digit, in pixels.
    size : (int, int)
        (height, width) of the page, in pixels.
    taken : (K, 4) array
        The K boxes that are already on the page. The new box may overlap each of them by at most `MAX_OVERLAP`.

    Returns
    -------
    (4,) int array or None
        A box inside the page. None if the digit is larger than the page, or if none of `POSITIONS_TRIED` random
        positions is free.
    """
    (h, w), (height, width) = shape, size
    if h > height or w > width:
        return None
    x1 = rng.integers(0, width - w + 1, POSITIONS_TRIED)
    y1 = rng.integers(0, height - h + 1, POSITIONS_TRIED)
    candidates = np.stack([x1, y1, x1 + w, y1 + h], axis=1)  # (P, 4)
    overlap = np.minimum(candidates[:, None, 2:], taken[:, 2:]) - np.maximum(candidates[:, None, :2], taken[:, :2])
    shared = np.clip(overlap, 0, None).prod(axis=2)  # (P, K)
    smaller = np.minimum(h * w, (taken[:, 2:] - taken[:, :2]).prod(axis=1))  # (K,)
    free = np.flatnonzero((shared <= MAX_OVERLAP * smaller).all(axis=1))
    return candidates[free[0]] if len(free) else None

"""Whether boxes lie on what is in the images, told from the images alone: no detector, no training.

An object differs from what is around it, in colour or in how much there is to see. So a box that was drawn round an
object has more contrast between its inside and its surroundings on its own image than the same box has on other
images. The share of images on which it has less is its *fit*: near 1 for a box that belongs to its image, and
1/2 on average for one that does not, whatever the images and wherever in them objects tend to lie.

- Boxes that do not fit, but would with x and y swapped, with y counted from the bottom, or at another scale, are
  written so (kinds "swapped-axes", "upside-down", "wrong-scale").
- Boxes that do not fit their image, but all of which fit another one, belong to that one ("shuffled").

Both need the fit of the true boxes to be seen. Where objects look as their surroundings do, where every image has
them at the same place, or where boxes fill their images, nothing fits anything, and there is no verdict.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

Size = tuple[int, int]
Change = Callable[[np.ndarray, Size], np.ndarray]

SIDE = 128  # pixels of the square that each image is reduced to
MAX_IMAGES, RUN = 1536, 8  # how many images are looked at, in runs of neighbours, for a list may slip by one
MAX_QUERIES, MAX_BOXES = 160, 8  # of how many of them the boxes are tried on the others, and how many of each
MARGIN = 0.25  # width of a box's surroundings, in sides of the box
MIN_SIDE = 2  # reduced pixels; a smaller box shows nothing
MIN_SURROUNDINGS = 0.3  # of the box's area; a box that fills its image has none

MIN_IMAGES, MIN_OBJECTS = 12, 20  # below these there is no verdict
MAX_MISFIT = 0.75  # a mean fit above this is that of boxes which belong where they are
MIN_GAIN = 0.15  # of the mean fit, for a change to be what was wrong
MIN_Z = 5.0  # standard errors by which the changed boxes fit better than chance,
MIN_GAIN_Z = 4.0  # and better than the boxes as they are
LEAST_SPREAD = 0.15  # of the images' mean fits: a few that agree by chance must not seem certain
ODD_REACH = (0.75, 1.25)  # boxes that all end before or well beyond this share of their images have another scale

MAX_OWN_FIT = 0.75  # of an image's boxes, where they are said to belong to another image
MAX_CHANCE = 0.1  # that boxes which fit by chance alone fit any of the images as well
MIN_STRAYS, MIN_STRAY_SHARE = 8, 0.2  # images whose boxes belong elsewhere, and their share, for a verdict


@dataclass(frozen=True, eq=False)
class Reduced:
    """What is kept of an annotated image."""

    index: int
    thumbnail: np.ndarray  # (SIDE, SIDE, 3) uint8
    size: Size  # (height, width) of the image
    boxes: np.ndarray  # (G, 4) float64, in the image's pixels


@dataclass(frozen=True)
class Verdict:
    """What the boxes suffer from; of how many boxes that was seen, and the numbers that say so.

    pairs: where boxes belong to another image, (index, index of the image that they fit) of each.
    """

    kind: str
    count: int
    numbers: str
    pairs: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Fit:
    """How well boxes fit their images: the mean over images (NaN for none), its standard error, the counts."""

    mean: float
    error: float
    images: int
    objects: int

    def is_clear(self) -> bool:
        """Whether boxes and images are enough, and chance does not explain how well they fit."""
        enough = self.images >= MIN_IMAGES and self.objects >= MIN_OBJECTS
        return enough and self.mean - 0.5 >= MIN_Z * self.error


def sample(length: int) -> np.ndarray:
    """Which of `length` images are looked at, rising: all, or runs of neighbours spread evenly over them."""
    if length <= MAX_IMAGES:
        return np.arange(length)
    starts = np.linspace(0, length - RUN, MAX_IMAGES // RUN).astype(np.int64)
    return np.unique(starts[:, None] + np.arange(RUN))


def reduce_image(index: int, image: np.ndarray, boxes: np.ndarray) -> Reduced:
    """`image` (H, W, 3) uint8 and its `boxes` (G, 4), small enough to be kept by the thousand."""
    shrunk = Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BILINEAR)  # averages where it shrinks
    return Reduced(index, np.asarray(shrunk), (image.shape[0], image.shape[1]), boxes)


def examine(images: Sequence[Reduced]) -> Verdict | None:
    """What the boxes of `images` suffer from as a whole; None where they are well or it cannot be told."""
    annotated = np.flatnonzero([len(image.boxes) > 0 for image in images])
    if len(annotated) < MIN_IMAGES:
        return None
    chosen = annotated[np.unique(np.linspace(0, len(annotated) - 1, MAX_QUERIES).astype(np.int64))]  # (Q,)
    queries = [images[i] for i in chosen]
    fits, owners = box_fits(queries, images, _unchanged)  # (B, P), (B,)
    own = mean_fit(fits[np.arange(len(owners)), chosen[owners]], owners)
    return _wrong_coordinates(queries, own) or _shuffled(images, chosen, fits, owners)


def box_fits(queries: Sequence[Reduced], images: Sequence[Reduced], change: Change) -> tuple[np.ndarray, np.ndarray]:
    """How well each box of `queries`, changed, fits each image: (fits (B, P) in 0 .. 1, owners (B,)).

    A row is the rank of the box's contrasts among those that it has on all images, equal ones sharing their mean
    rank, so that its mean is 1/2. `owners[b]` is the query that box b is from; boxes that show nothing are left out.
    """
    areas = [_areas(_some(change(query.boxes, query.size)), query.size) for query in queries]
    owners = np.repeat(np.arange(len(areas)), [len(inner) for inner, _ in areas])  # (B,)
    inner, outer = (np.concatenate([np.zeros((0, 4), np.int64), *(pair[i] for pair in areas)]) for i in (0, 1))
    contrasts = np.zeros((2, len(owners), len(images)), np.float32)
    for column, image in enumerate(images):
        contrasts[:, :, column] = _contrasts(image.thumbnail, inner, outer)
    fits = np.zeros(contrasts.shape[1:])  # (B, P)
    for of_kind in contrasts:
        for row, values in enumerate(of_kind):
            ordered = np.sort(values)
            fits[row] += np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")
    return fits / (4 * max(len(images), 1)), owners


def mean_fit(fits: np.ndarray, owners: np.ndarray) -> Fit:
    """The fit of a set of boxes, from the fit (B,) of each to its own image; images count alike."""
    images = np.unique(owners)
    means = np.array([fits[owners == image].mean() for image in images])
    if len(means) == 0:
        return Fit(math.nan, math.inf, 0, 0)
    spread = max(float(means.std(ddof=1)) if len(means) > 1 else 0.0, LEAST_SPREAD)
    return Fit(float(means.mean()), spread / math.sqrt(len(means)), len(means), len(fits))


# ---------------------------------------------------------------------- wrong coordinates


def swapped_axes(boxes: np.ndarray, size: Size) -> np.ndarray:
    """Boxes (G, 4) of which x and y have changed places."""
    del size
    return boxes[:, [1, 0, 3, 2]]


def upside_down(boxes: np.ndarray, size: Size) -> np.ndarray:
    """Boxes (G, 4) whose y was counted from the bottom of an image of `size`, counted from the top."""
    x1, y1, x2, y2 = boxes.T
    return np.stack([x1, size[0] - y2, x2, size[0] - y1], axis=1)


def _unchanged(boxes: np.ndarray, size: Size) -> np.ndarray:
    del size
    return boxes


def _rescaled(queries: Sequence[Reduced]) -> tuple[Change, str] | None:
    """The change that makes all boxes together reach to the images' edges, where they are far from it; and words."""
    corners = np.concatenate([query.boxes[:, 2:] / query.size[::-1] for query in queries])  # (G, 2)
    reach = corners.max(axis=0)  # (2,) of x and y
    if len(corners) < MIN_OBJECTS or not ((reach <= ODD_REACH[0]).all() or (reach >= ODD_REACH[1]).all()):
        return None
    words = f"with another scale: together they reach to {reach[0]:.2f} of the width and {reach[1]:.2f} of the height"
    return (lambda boxes, size: boxes / np.tile(reach, 2)), words


def _wrong_coordinates(queries: Sequence[Reduced], own: Fit) -> Verdict | None:
    """The change of coordinates with which the boxes would fit as well as they should, if there is one."""
    if own.mean > MAX_MISFIT:
        return None
    changes: dict[str, tuple[Change, str]] = {
        "swapped-axes": (swapped_axes, "with x and y swapped"),
        "upside-down": (upside_down, "with y from the bottom"),
    }
    rescaled = _rescaled(queries)
    if rescaled:
        changes["wrong-scale"] = rescaled
    verdicts = []
    for kind, (change, words) in changes.items():
        fits, owners = box_fits(queries, queries, change)
        fit = mean_fit(fits[np.arange(len(owners)), owners], owners)
        if fit.is_clear() and _gains(own, fit):
            verdicts.append((fit.mean, Verdict(kind, fit.objects, _numbers(own, fit, words))))
    return max(verdicts, key=lambda pair: pair[0])[1] if verdicts else None


def _gains(own: Fit, changed: Fit) -> bool:
    """Whether the change makes boxes fit clearly better; of the boxes as they are, none may show anything."""
    gain = changed.mean - own.mean
    return own.objects == 0 or gain >= max(MIN_GAIN, MIN_GAIN_Z * math.hypot(own.error, changed.error))


def _numbers(own: Fit, changed: Fit, words: str) -> str:
    as_they_are = f"{own.mean:.0%} of the images as they are" if own.objects else "no image as they are"
    return f"boxes fit their own image better than {as_they_are}, and than {changed.mean:.0%} {words}"


# ---------------------------------------------------------------------- boxes of other images


def _shuffled(images: Sequence[Reduced], chosen: np.ndarray, fits: np.ndarray, owners: np.ndarray) -> Verdict | None:
    """Whether many images have boxes that fit another image instead.

    An image counts where its boxes fit it no better than chance would have it, fit one other image better than
    chance could have it among so many (Fisher's method on the boxes' ranks, times the number of images), and fit
    that image better than the boxes of any other of the `chosen` do.
    """
    tried = [query for query in range(len(chosen)) if (owners == query).sum() >= 2]
    if len(tried) < MIN_STRAYS:
        return None
    chances = np.stack([by_chance(fits[owners == query]) for query in tried])  # (Q, P)
    best, best_query = chances.argmin(axis=1), chances.argmin(axis=0)  # (Q,), (P,)
    strays = [
        (int(chosen[query]), int(best[row]))
        for row, query in enumerate(tried)
        if fits[owners == query, chosen[query]].mean() <= MAX_OWN_FIT
        and chances[row, best[row]] <= MAX_CHANCE
        and best_query[best[row]] == row
    ]
    if len(strays) < max(MIN_STRAYS, MIN_STRAY_SHARE * len(tried)):
        return None
    pairs = tuple((images[i].index, images[j].index) for i, j in strays)
    return Verdict("shuffled", len(strays), f"{len(strays)} of {len(tried)} images that were tried", pairs)


def by_chance(fits: np.ndarray) -> np.ndarray:
    """How many of P images boxes without an object would fit as well as each one, (P,), from `fits` (k, P).

    -log(1 - fit) of a box that fits by chance is exponentially distributed; of k boxes the sum is a Gamma variable.
    The fits are means of two contrasts' ranks, which spread less: the true number is smaller.
    """
    sums = -np.log1p(-fits).sum(axis=0)  # (P,)
    terms = [np.exp(-sums)]
    for k in range(1, len(fits)):
        terms.append(terms[-1] * sums / k)
    return np.sum(terms, axis=0) * fits.shape[1]


# ---------------------------------------------------------------------- contrast


def _some(boxes: np.ndarray) -> np.ndarray:
    """At most `MAX_BOXES` of the boxes, evenly spread over the list."""
    if len(boxes) <= MAX_BOXES:
        return boxes
    return boxes[np.linspace(0, len(boxes) - 1, MAX_BOXES).astype(np.int64)]


def _areas(boxes: np.ndarray, size: Size) -> tuple[np.ndarray, np.ndarray]:
    """The boxes (K, 4) that can show contrast and, for each, itself with its surroundings, in whole reduced pixels.

    Those that leave the image, are too small or have hardly any surroundings in it cannot.
    """
    height, width = size
    scaled = boxes * (SIDE / np.array([width, height, width, height]))  # (G, 4)
    margin = np.maximum(MARGIN * (scaled[:, 2:] - scaled[:, :2]), 1.5)
    inner = np.rint(np.clip(scaled, 0, SIDE)).astype(np.int64)
    grown = np.concatenate([scaled[:, :2] - margin, scaled[:, 2:] + margin], axis=1)
    outer = np.rint(np.clip(grown, 0, SIDE)).astype(np.int64)
    sides = inner[:, 2:] - inner[:, :2]  # (G, 2)
    around = (outer[:, 2:] - outer[:, :2]).prod(axis=1) - sides.prod(axis=1)  # (G,)
    inside = ((scaled > -0.01 * SIDE) & (scaled < 1.01 * SIDE)).all(axis=1)
    shows = inside & (sides >= MIN_SIDE).all(axis=1) & (around >= MIN_SURROUNDINGS * sides.prod(axis=1))
    return inner[shows], outer[shows]


def _contrasts(thumbnail: np.ndarray, inner: np.ndarray, outer: np.ndarray) -> np.ndarray:
    """Between the areas `inner` (B, 4) and what of `outer` is around them: of colour and of edges, (2, B).

    The sums are of whole numbers and so exact: areas that show nothing have equal contrasts on all blank images.
    """
    colours = thumbnail.transpose(2, 0, 1).astype(np.int32)  # (3, SIDE, SIDE)
    light = colours.sum(axis=0, dtype=np.int32)
    edges = np.zeros_like(light)  # (SIDE, SIDE)
    edges[1:-1] += np.abs(light[2:] - light[:-2])
    edges[:, 1:-1] += np.abs(light[:, 2:] - light[:, :-2])
    sums = np.zeros((4, SIDE + 1, SIDE + 1), np.int32)  # up to each pixel
    sums[:, 1:, 1:] = np.concatenate([colours, edges[None]])
    np.cumsum(sums, axis=2, out=sums)
    np.cumsum(sums, axis=1, out=sums)
    inside, pixels_inside = _sum_over(sums, inner)  # (4, B), (B,)
    everything, pixels = _sum_over(sums, outer)
    difference = inside / pixels_inside - (everything - inside) / (pixels - pixels_inside)  # (4, B)
    return np.stack([np.linalg.norm(difference[:3], axis=0), np.abs(difference[3])])  # (2, B)


def _sum_over(sums: np.ndarray, areas: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(sums (C, B) over `areas` (B, 4), their pixels (B,)), from `sums` (C, SIDE + 1, SIDE + 1) up to each pixel."""
    x1, y1, x2, y2 = areas.T
    return sums[:, y2, x2] - sums[:, y1, x2] - sums[:, y2, x1] + sums[:, y1, x1], (x2 - x1) * (y2 - y1)

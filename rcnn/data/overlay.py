"""A test that decides whether boxes lie on objects. It uses only the images, without a detector or training.

An object differs from its surroundings in colour or in the strength of its edges. A box around an object therefore has
high contrast between its inside and its surroundings. On other images, the same box usually has a lower contrast. The
*fit* of a box measures this: it is the fraction of all images on which the box has a lower contrast than on its own
image. The fit is near 1 if the box belongs to its image. Otherwise, the fit is 1/2 on average. This is true for all
kinds of images, even if the objects are usually in the same part of the image.

- If the boxes fit only after a change of their coordinates, the coordinates of all boxes are wrong. Three changes are
  tried: x and y are swapped (kind "swapped-axes"), y is counted from the bottom ("upside-down"), and the
  coordinates are multiplied by a factor ("wrong-scale").
- If the boxes of an image do not fit this image, but all fit one other image, they belong to the other image (kind
  "shuffled").

Both tests work only if correct boxes have a high fit. There is no verdict if objects look like their surroundings, if
they are at the same position in every image, or if boxes fill their images.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from rcnn.data.interpolation import shrink

Size = tuple[int, int]
Change = Callable[[np.ndarray, Size], np.ndarray]

SIDE = 128  # pixels; each image is reduced to a square with sides of this length
MAX_IMAGES, RUN = 1536, 8  # at most this many images, in runs of neighbours: boxes may be shifted by one image
MAX_QUERIES, MAX_BOXES = 160, 8  # images whose boxes are tried on all images, and boxes per image
MARGIN = 0.25  # width of the surroundings of a box, as a fraction of its side
MIN_SIDE = 2  # pixels of the reduced image; a smaller box shows no contrast
MIN_SURROUNDINGS = 0.3  # minimum area of the surroundings inside the image, as a fraction of the area of the box

MIN_IMAGES, MIN_OBJECTS = 12, 20  # if there are fewer images or objects, there is no verdict
MAX_MISFIT = 0.75  # boxes with a mean fit above this are correct as they are
MIN_GAIN = 0.15  # minimum increase of the mean fit from a change of coordinates
MIN_Z = 5.0  # standard errors by which the changed boxes must fit better than chance
MIN_GAIN_Z = 4.0  # standard errors by which the changed boxes must fit better than the unchanged boxes
LEAST_SPREAD = 0.15  # lower bound of the standard deviation over images; a few images may agree by chance
ODD_REACH = (0.75, 1.25)  # the scale may be wrong if the largest x2 and y2 are outside this range (1 is the image size)

MAX_OWN_FIT = 0.75  # boxes with a mean fit above this belong to their own image
MAX_CHANCE = 0.1  # boxes fit another image if at most this many images are expected to fit as well by chance
MIN_STRAYS, MIN_STRAY_SHARE = 8, 0.2  # for a verdict: minimum number and fraction of images whose boxes fit another


@dataclass(frozen=True, eq=False)
class Reduced:
    """An annotated image that was reduced to a thumbnail.

    Attributes
    ----------
    index : int
        Index in the data set.
    thumbnail : (SIDE, SIDE, 3) uint8 array
        The reduced image.
    size : (int, int)
        (height, width) of the image, in pixels.
    boxes : (G, 4) float64 array
        Boxes of the G objects, in pixel coordinates of the image, not of the thumbnail.
    """

    index: int
    thumbnail: np.ndarray
    size: Size
    boxes: np.ndarray


@dataclass(frozen=True)
class Verdict:
    """A fault that all boxes have in common.

    Attributes
    ----------
    kind : str
        A key of `rcnn.data.report.KINDS`.
    count : int
        Number of boxes that have the fault. If the kind is "shuffled", number of images.
    numbers : str
        The evidence, as text, such as "12 of the 40 images that were tested".
    pairs : tuple of (int, int)
        If the kind is "shuffled", pairs of (index of an image, index of the image that its boxes fit).
    """

    kind: str
    count: int
    numbers: str
    pairs: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Fit:
    """Mean fit of a set of boxes; the docstring of this module defines the fit of a box.

    Attributes
    ----------
    mean : float
        Mean over the images; NaN if there are no images.
    error : float
        Standard error of `mean`.
    images, objects : int
        Number of images, and number of boxes.
    """

    mean: float
    error: float
    images: int
    objects: int

    def is_clear(self) -> bool:
        """Return True if there are enough boxes and images, and the fit is clearly better than by chance.

        Returns
        -------
        bool
            The fit is clearly better than by chance if the mean exceeds 1/2 by at least `MIN_Z` standard errors.
        """
        enough = self.images >= MIN_IMAGES and self.objects >= MIN_OBJECTS
        return enough and self.mean - 0.5 >= MIN_Z * self.error


def sample(length: int) -> np.ndarray:
    """Choose the images to examine.

    Parameters
    ----------
    length : int
        Number of images.

    Returns
    -------
    (N,) int64 array
        Indices of N images in ascending order: all images, or at most `MAX_IMAGES` in evenly spaced runs of neighbours.
    """
    if length <= MAX_IMAGES:
        return np.arange(length)
    starts = np.linspace(0, length - RUN, MAX_IMAGES // RUN).astype(np.int64)
    return np.unique(starts[:, None] + np.arange(RUN))


def reduce_image(index: int, image: np.ndarray, boxes: np.ndarray) -> Reduced:
    """Reduce an image to a thumbnail, so that thousands of images fit in memory.

    Parameters
    ----------
    index : int
        Index in the data set.
    image : (H, W, 3) uint8 array
        The image.
    boxes : (G, 4) array
        Boxes of the image, in pixels.

    Returns
    -------
    Reduced
        The thumbnail and the boxes.
    """
    return Reduced(index, _thumbnail(image), (image.shape[0], image.shape[1]), boxes)


def _thumbnail(image: np.ndarray) -> np.ndarray:
    """Return the image with `SIDE` rows and columns. Each pixel is a mean over an area."""
    try:
        from PIL import Image
    except ImportError:  # in a browser without Pillow
        return shrink(image, SIDE)
    return np.asarray(Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BILINEAR))  # much faster


def examine(images: Sequence[Reduced]) -> Verdict | None:
    """Look for a fault that all boxes have in common.

    Parameters
    ----------
    images : sequence of Reduced
        Images with their boxes.

    Returns
    -------
    Verdict or None
        The fault; None if the boxes are correct, or if the images do not show whether the boxes are correct.
    """
    annotated = np.flatnonzero([len(image.boxes) > 0 for image in images])
    if len(annotated) < MIN_IMAGES:
        return None
    chosen = annotated[np.unique(np.linspace(0, len(annotated) - 1, MAX_QUERIES).astype(np.int64))]  # (Q,)
    queries = [images[i] for i in chosen]
    fits, owners = box_fits(queries, images, _unchanged)  # (B, P), (B,)
    own = mean_fit(fits[np.arange(len(owners)), chosen[owners]], owners)
    return _wrong_coordinates(queries, own) or _shuffled(images, chosen, fits, owners)


def box_fits(queries: Sequence[Reduced], images: Sequence[Reduced], change: Change) -> tuple[np.ndarray, np.ndarray]:
    """Compute how well each box fits each image.

    Each row of `fits` belongs to one box, and each column to one image. To compute a row, the images are ranked by the
    contrast that the box has on them, and the ranks are divided by the number of images. Images with equal contrasts
    get their mean rank, so the mean of a row is 1/2.

    Parameters
    ----------
    queries : sequence of Reduced
        Images whose boxes are tried.
    images : sequence of Reduced
        The P images on which the boxes are tried.
    change : callable
        Function such as `swapped_axes`: change(boxes, size) takes the boxes (G, 4) of a query and the size of its
        image, and returns the boxes (G, 4) to try.

    Returns
    -------
    fits : (B, P) array
        Fit of each of B boxes to each image, from 0 to 1: the mean of the fit in colour and the fit in edges.
    owners : (B,) int array
        Index, in `queries`, of the image to which each box belongs. Boxes that cannot show a contrast, such as very
        small boxes, are left out.
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
    """Return the mean fit of a set of boxes; every image has the same weight.

    Parameters
    ----------
    fits : (B,) array
        Fit of each of B boxes to its own image.
    owners : (B,) int array
        Index of the image to which each box belongs.

    Returns
    -------
    Fit
        The mean fit, averaged first over the boxes of each image and then over the images.
    """
    images = np.unique(owners)
    means = np.array([fits[owners == image].mean() for image in images])
    if len(means) == 0:
        return Fit(math.nan, math.inf, 0, 0)
    spread = max(float(means.std(ddof=1)) if len(means) > 1 else 0.0, LEAST_SPREAD)
    return Fit(float(means.mean()), spread / math.sqrt(len(means)), len(means), len(fits))


# ---------------------------------------------------------------------- wrong coordinates


def swapped_axes(boxes: np.ndarray, size: Size) -> np.ndarray:
    """Swap x and y of boxes.

    Parameters
    ----------
    boxes : (G, 4) array
        Boxes in pixels.
    size : (int, int)
        Not used.

    Returns
    -------
    (G, 4) array
        For each box, y1, x1, y2, x2.

    Examples
    --------
    >>> swapped_axes(np.array([[1, 2, 5, 9]]), (10, 20)).tolist()
    [[2, 1, 9, 5]]
    """
    del size
    return boxes[:, [1, 0, 3, 2]]


def upside_down(boxes: np.ndarray, size: Size) -> np.ndarray:
    """Convert boxes whose y is counted from the bottom of the image to boxes whose y is counted from the top.

    Parameters
    ----------
    boxes : (G, 4) array
        Boxes in pixels.
    size : (int, int)
        (height, width) of the image, in pixels.

    Returns
    -------
    (G, 4) array
        For each box, x1, height - y2, x2, height - y1.

    Examples
    --------
    >>> upside_down(np.array([[1, 2, 5, 9]]), (10, 20)).tolist()
    [[1, 1, 5, 8]]
    """
    x1, y1, x2, y2 = boxes.T
    return np.stack([x1, size[0] - y2, x2, size[0] - y1], axis=1)


def _unchanged(boxes: np.ndarray, size: Size) -> np.ndarray:
    del size
    return boxes


def _rescaled(queries: Sequence[Reduced]) -> tuple[Change, str] | None:
    """Return a change that scales the boxes to the image edges, and its description; None if the scale seems right."""
    corners = np.concatenate([query.boxes[:, 2:] / query.size[::-1] for query in queries])  # (G, 2)
    reach = corners.max(axis=0)  # (2,) of x and y
    if len(corners) < MIN_OBJECTS or not ((reach <= ODD_REACH[0]).all() or (reach >= ODD_REACH[1]).all()):
        return None
    words = f"with another scale (they reach {reach[0]:.2f} of the image width and {reach[1]:.2f} of its height)"
    return (lambda boxes, size: boxes / np.tile(reach, 2)), words


def _wrong_coordinates(queries: Sequence[Reduced], own: Fit) -> Verdict | None:
    """Return the verdict on the change of coordinates with the best fit; None if no change clearly improves the fit."""
    if own.mean > MAX_MISFIT:
        return None
    changes: dict[str, tuple[Change, str]] = {
        "swapped-axes": (swapped_axes, "with x and y swapped"),
        "upside-down": (upside_down, "with y counted from the bottom"),
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
    """Return True if a change makes the boxes fit clearly better."""
    gain = changed.mean - own.mean  # NaN if no unchanged box can show a contrast
    return own.objects == 0 or gain >= max(MIN_GAIN, MIN_GAIN_Z * math.hypot(own.error, changed.error))


def _numbers(own: Fit, changed: Fit, words: str) -> str:
    as_they_are = f"{100 * own.mean:.0f} %" if own.objects else "none"
    return (
        f"boxes fit their own image better than they fit {as_they_are} of the images as they are (50 % is chance), and "
        f"better than they fit {100 * changed.mean:.0f} % {words}"
    )


# ---------------------------------------------------------------------- boxes of other images


def _shuffled(images: Sequence[Reduced], chosen: np.ndarray, fits: np.ndarray, owners: np.ndarray) -> Verdict | None:
    """Return the verdict "shuffled" if many images have boxes that fit another image instead.

    An image counts if it meets three conditions. Its boxes fit the image itself no better than by chance. They fit a
    second image so well that chance does not explain it (Fisher's method on the ranks of the boxes, times the number
    of images). No other image among `chosen` has boxes that fit the second image better.
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
    return Verdict("shuffled", len(strays), f"{len(strays)} of the {len(tried)} images that were tested", pairs)


def by_chance(fits: np.ndarray) -> np.ndarray:
    """Return, for each image, the number of images that would by chance fit the k boxes at least as well.

    For a box that fits by chance, -log(1 - fit) is exponentially distributed. The sum S of k such values therefore
    follows a gamma distribution: Prob(S >= s) = exp(-s) * sum(s**i / i! for i < k). The real expected number is
    smaller, because a fit is the mean of two ranks, and this mean varies less than a single rank.

    Parameters
    ----------
    fits : (k, P) array
        Fit of the k boxes of one image to each of P images.

    Returns
    -------
    (P,) array
        P * Prob(S >= s) for each image, where s is the sum of -log(1 - fit) over the k boxes.

    References
    ----------
    Fisher, "Statistical Methods for Research Workers", 4th edition, 1932, section 21.1.
    """
    sums = -np.log1p(-fits).sum(axis=0)  # (P,)
    terms = [np.exp(-sums)]
    for k in range(1, len(fits)):
        terms.append(terms[-1] * sums / k)
    return np.sum(terms, axis=0) * fits.shape[1]


# ---------------------------------------------------------------------- contrast


def _some(boxes: np.ndarray) -> np.ndarray:
    """Return at most `MAX_BOXES` of the boxes, evenly spread over the list."""
    if len(boxes) <= MAX_BOXES:
        return boxes
    return boxes[np.linspace(0, len(boxes) - 1, MAX_BOXES).astype(np.int64)]


def _areas(boxes: np.ndarray, size: Size) -> tuple[np.ndarray, np.ndarray]:
    """Return the boxes that can show a contrast, and larger boxes that include their surroundings.

    Both arrays are (K, 4), in thumbnail pixels. A box is left out if it extends beyond the image, if it is too small,
    or if too little of its surroundings lies inside the image.
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
    """Return the contrasts of colour and of edges, (2, B), between `inner` (B, 4) and the rest of `outer` (B, 4).

    Sums of integers are exact, so a box has exactly the same contrast on all blank images.
    """
    colours = thumbnail.transpose(2, 0, 1).astype(np.int32)  # (3, SIDE, SIDE)
    light = colours.sum(axis=0, dtype=np.int32)
    edges = np.zeros_like(light)  # (SIDE, SIDE)
    edges[1:-1] += np.abs(light[2:] - light[:-2])
    edges[:, 1:-1] += np.abs(light[:, 2:] - light[:, :-2])
    sums = np.zeros((4, SIDE + 1, SIDE + 1), np.int32)  # integral images
    sums[:, 1:, 1:] = np.concatenate([colours, edges[None]])
    np.cumsum(sums, axis=2, out=sums)
    np.cumsum(sums, axis=1, out=sums)
    inside, pixels_inside = _sum_over(sums, inner)  # (4, B), (B,)
    everything, pixels = _sum_over(sums, outer)
    difference = inside / pixels_inside - (everything - inside) / (pixels - pixels_inside)  # (4, B)
    return np.stack([np.linalg.norm(difference[:3], axis=0), np.abs(difference[3])])  # (2, B)


def _sum_over(sums: np.ndarray, areas: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the sums (C, B) of the pixels in `areas` (B, 4), from C integral images, and the pixel counts (B,)."""
    x1, y1, x2, y2 = areas.T
    return sums[:, y2, x2] - sums[:, y1, x2] - sums[:, y2, x1] + sums[:, y1, x1], (x2 - x1) * (y2 - y1)

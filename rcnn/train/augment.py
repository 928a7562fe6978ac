"""Augmentation: random changes of the training images and of their boxes.

Each change is a function of an image, its target, a random generator and a setting of the recipe. It returns the new
image and the new target, and leaves its arguments unchanged. The random numbers depend only on the seed, the step and
the position of the image in its batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rcnn import transform
from rcnn.boxes import area, clip
from rcnn.train.recipe import Recipe
from rcnn.views import mirror

Target = dict[str, np.ndarray]  # {"boxes": (G, 4), "labels": (G,)}; the boxes are in pixels of the image
Change = Callable[[np.ndarray, Target, np.random.Generator, float], tuple[np.ndarray, Target]]

_FLIPS, _CHANGES = 2, 4  # numbers of the random streams; loader.py, step.py and loop.py use other numbers
LEAST_VISIBLE = 0.3  # fraction of the area of a box; if less is inside the image, the object is left out
GREY = np.array([0.299, 0.587, 0.114], np.float32)  # weights of red, green and blue in the brightness of a pixel


def augment(
    images: Sequence[Any], targets: Sequence[Target], recipe: Recipe, step: int, first: int = 0
) -> tuple[list[Any], list[Target], list[float]]:
    """Return the randomly changed images and targets of a batch, and the factor of the size of each image.

    Parameters
    ----------
    images : sequence of images
        N images in any form that `rcnn.transform.as_image` accepts.
    targets : sequence of dict
        For each image with G objects, {"boxes": (G, 4), "labels": (G,)}.
    recipe : Recipe
        The recipe, which contains the seed and the settings of all changes.
    step : int
        Number of the batch, starting from 0.
    first : int
        Position of the first image in its batch. It is above 0 if the images are only a part of the batch.

    Returns
    -------
    images : list of images
        The changed images. If all changes are turned off, these are the given images.
    targets : list of dict
        The changed targets.
    scales : list of float
        For each image, the factor that multiplies the target size of the image; see `rcnn.transform.make_batch`.

    Raises
    ------
    TypeError, ValueError
        If an image is invalid.
    """
    flips = np.random.default_rng([recipe.seed, _FLIPS, step])
    flips.random(2 * first)  # the numbers of the images before the first one: each has a flip and a scale
    changed = []
    for index, (image, target) in enumerate(zip(images, targets, strict=True), start=first):
        scale = 1.0
        if any(_settings(recipe)):
            rng = np.random.default_rng([recipe.seed, _CHANGES, step, index])
            array = transform.as_image(image)
            image, target = _change(array, target, rng, recipe)
            scale = min(image.shape[:2]) / min(array.shape[:2])  # a crop does not enlarge the objects
        image, target = flip(image, target, flips, recipe.flip)
        changed.append((image, target, scale * draw_scale(flips, *recipe.scale_jitter)))
    return [image for image, _, _ in changed], [target for _, target, _ in changed], [scale for _, _, scale in changed]


def _settings(recipe: Recipe) -> tuple[float, ...]:
    """Return the settings of the changes in CHANGES; 0 turns a change off."""
    return recipe.colour_jitter, recipe.crop, recipe.rotate, recipe.translate, recipe.vertical_flip


def _change(image: np.ndarray, target: Target, rng: np.random.Generator, recipe: Recipe) -> tuple[np.ndarray, Target]:
    """Return the image and the target after all changes that the recipe turns on."""
    for change, setting in zip(CHANGES, _settings(recipe), strict=True):
        if setting:
            image, target = change(image, target, rng, setting)
    return image, target


# ---------------------------------------------------------------------- flips


def flip(image: Any, target: Target, rng: np.random.Generator, probability: float) -> tuple[Any, Target]:
    """Mirror an image horizontally with a given probability.

    Parameters
    ----------
    image : array, PIL image or path
        An image in any form that `rcnn.transform.as_image` accepts.
    target : dict
        {"boxes": (G, 4), "labels": (G,)} of G objects.
    rng : numpy.random.Generator
        Random generator; one number is drawn.
    probability : float
        Probability of the flip.

    Returns
    -------
    image : image
        The mirrored image, an array, which is a view if `image` is an array; or `image` itself if it is not mirrored.
    target : dict
        The target of this image.

    Raises
    ------
    TypeError, ValueError
        If `image` is not an image.
    """
    if rng.random() >= probability:
        return image, target
    is_array = isinstance(image, np.ndarray) and image.ndim == 3
    array = image if is_array else transform.as_image(image)
    return array[:, ::-1], {**target, "boxes": mirror(target["boxes"], array.shape[1])}


def flip_vertically(
    image: np.ndarray, target: Target, rng: np.random.Generator, probability: float
) -> tuple[np.ndarray, Target]:
    """Turn an image upside down, as in a horizontal mirror, with a given probability.

    Parameters
    ----------
    image : (H, W, 3) array
        An image.
    target : dict
        {"boxes": (G, 4), "labels": (G,)} of G objects.
    rng : numpy.random.Generator
        Random generator; one number is drawn.
    probability : float
        Probability of the flip.

    Returns
    -------
    image : (H, W, 3) array
        The mirrored image, a view, or `image` itself if it is not mirrored.
    target : dict
        The target of this image.
    """
    if rng.random() >= probability:
        return image, target
    x1, y1, x2, y2 = target["boxes"].T
    height = len(image)
    return image[::-1], {**target, "boxes": np.stack([x1, height - y2, x2, height - y1], axis=1)}


# ---------------------------------------------------------------------- positions


def crop(image: np.ndarray, target: Target, rng: np.random.Generator, most: float) -> tuple[np.ndarray, Target]:
    """Cut a random window out of an image. The window contains at least one whole object, if there is any.

    The window has the shape of the image. It is enlarged where this is necessary to contain a randomly chosen object.

    Parameters
    ----------
    image : (H, W, 3) array
        An image.
    target : dict
        {"boxes": (G, 4), "labels": (G,)} of G objects.
    rng : numpy.random.Generator
        Random generator; four numbers are drawn.
    most : float
        Largest fraction of the height and of the width that is cut away. The fraction is uniformly distributed.

    Returns
    -------
    image : (H', W', 3) array
        The window, a view.
    target : dict
        The boxes in pixels of the window, cut at its borders, without the objects of which less than 30 % is visible.
    """
    cut, chosen, vertical, horizontal = rng.random(4)
    size, boxes = np.array(image.shape[1::-1]), target["boxes"]  # (width, height)
    low, high = size, np.zeros(2)  # corners of the area that must be in the window; these corners restrict nothing
    if len(boxes):
        box = clip(boxes, (image.shape[0], image.shape[1]))[int(chosen * len(boxes))]
        low, high = np.floor(box[:2]), np.ceil(box[2:])
    fraction = max(1 - most * cut, *(high - low) / size)
    window = np.ceil(fraction * size)
    first, last = np.maximum(high - window, 0), np.minimum(low, size - window)  # the possible positions
    x, y = np.round(first + np.array([horizontal, vertical]) * (last - first)).astype(int)
    width, height = window.astype(int)
    return image[y : y + height, x : x + width], _visible(target, boxes - [x, y, x, y], (height, width))


def translate(image: np.ndarray, target: Target, rng: np.random.Generator, most: float) -> tuple[np.ndarray, Target]:
    """Shift an image by a random number of whole pixels. The mean colour of the image fills the empty border.

    Parameters
    ----------
    image : (H, W, 3) array
        An image.
    target : dict
        {"boxes": (G, 4), "labels": (G,)} of G objects.
    rng : numpy.random.Generator
        Random generator; two numbers are drawn.
    most : float
        Largest shift, as a fraction of the height and of the width. The shift is uniformly distributed.

    Returns
    -------
    image : (H, W, 3) array
        The shifted image.
    target : dict
        The shifted boxes, cut at the borders, without the objects of which less than 30 % is visible.
    """
    height, width = image.shape[:2]
    y, x = np.round(rng.uniform(-most, most, 2) * (height, width)).astype(int)
    shifted = np.empty_like(image)
    shifted[...] = _mean_colour(image)
    shifted[max(y, 0) : height + y, max(x, 0) : width + x] = image[max(-y, 0) : height - y, max(-x, 0) : width - x]
    return shifted, _visible(target, target["boxes"] + [x, y, x, y], (height, width))


def rotate(image: np.ndarray, target: Target, rng: np.random.Generator, most: float) -> tuple[np.ndarray, Target]:
    """Rotate an image around its centre by a small random angle. The mean colour of the image fills the corners.

    Each object is treated as the largest ellipse in its box, and the new box encloses the rotated ellipse. A box around
    the rotated corners would be too large for most objects.

    Parameters
    ----------
    image : (H, W, 3) float array
        An image with values in [0, 1].
    target : dict
        {"boxes": (G, 4), "labels": (G,)} of G objects.
    rng : numpy.random.Generator
        Random generator; one number is drawn.
    most : float
        Largest angle in degrees, in both directions. The angle is uniformly distributed.

    Returns
    -------
    image : (H, W, 3) float array
        The rotated image, rounded to 8 bits.
    target : dict
        The new boxes, cut at the borders, without the objects of which less than 30 % is visible.

    References
    ----------
    Kalra, Stoppi, Brown, Agarwal and Kadambi, "Towards Rotation Invariance in Object Detection", 2021, section 3.
    """
    from PIL import Image  # slow to import, and not needed without rotations

    angle = rng.uniform(-most, most)
    pixels = Image.fromarray(np.round(image * 255).astype(np.uint8))
    fill = tuple(np.round(_mean_colour(image) * 255).astype(int).tolist())
    rotated = pixels.rotate(angle, Image.Resampling.BILINEAR, fillcolor=fill)  # counter-clockwise
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    centre, boxes = np.array(image.shape[1::-1]) / 2, target["boxes"]
    x, y = ((boxes[:, :2] + boxes[:, 2:]) / 2 - centre).T
    half_width, half_height = (boxes[:, 2:] - boxes[:, :2]).T / 2
    centres = centre + np.stack([cos * x + sin * y, cos * y - sin * x], axis=1)  # (G, 2)
    halves = np.stack(
        [np.hypot(cos * half_width, sin * half_height), np.hypot(sin * half_width, cos * half_height)], axis=1
    )  # (G, 2)
    moved = np.concatenate([centres - halves, centres + halves], axis=1)  # (G, 4)
    return np.asarray(rotated, image.dtype) / 255, _visible(target, moved, image.shape[:2])


def _mean_colour(image: np.ndarray) -> np.ndarray:
    """Return the mean colour of an image, (3,). In this order of axes, NumPy is twenty times faster than at once."""
    colour: np.ndarray = image.mean(axis=0).mean(axis=0)
    return colour


def _visible(target: Target, boxes: np.ndarray, size: tuple[int, ...]) -> Target:
    """Return the target with these boxes cut at the borders, without the objects that are almost invisible."""
    clipped = clip(boxes, (size[0], size[1]))
    kept = area(clipped) >= LEAST_VISIBLE * area(boxes)  # (G,)
    return {**{name: values[kept] for name, values in target.items()}, "boxes": clipped[kept]}


# ---------------------------------------------------------------------- colours and sizes


def jitter_colours(
    image: np.ndarray, target: Target, rng: np.random.Generator, most: float
) -> tuple[np.ndarray, Target]:
    """Change the brightness, the contrast and the saturation of an image by random factors.

    Parameters
    ----------
    image : (H, W, 3) float array
        An image with values in [0, 1].
    target : dict
        The target, which does not change.
    rng : numpy.random.Generator
        Random generator; three numbers are drawn.
    most : float
        Each factor is uniformly distributed from 1 - `most` to 1 + `most`.

    Returns
    -------
    image : (H, W, 3) float array
        The changed image, with values in [0, 1].
    target : dict
        The given target.
    """
    brightness, contrast, saturation = rng.uniform(1 - most, 1 + most, 3)
    saturate = saturation * np.eye(3) + (1 - saturation) * GREY  # (3, 3): a mixture of each channel with the grey value
    grey = _mean_colour(image) @ GREY
    colours = brightness * contrast * saturate.T
    changed = image @ colours.astype(image.dtype) + image.dtype.type(brightness * (1 - contrast) * grey)
    return np.clip(changed, 0, 1, out=changed), target


def draw_scale(rng: np.random.Generator, lowest: float, highest: float) -> float:
    """Return a random factor for the size of an image.

    The logarithm of the factor is uniformly distributed: for example, 1/2 is as likely as 2.

    Parameters
    ----------
    rng : numpy.random.Generator
        Random generator; one number is drawn.
    lowest, highest : float
        The range of the factor.

    Returns
    -------
    float
        The factor.
    """
    low, high = math.log(lowest), math.log(highest)
    return math.exp(low + rng.random() * (high - low))


CHANGES: tuple[Change, ...] = (jitter_colours, crop, rotate, translate, flip_vertically)  # in the order of _settings

"""Images to a padded batch, and boxes from one image size to another.

An *image* is (H, W, 3) uint8 RGB, or float in [0, 1], or a PIL image, or a path. A *batch* is (N, 3, H, W) float:
resized, normalised, and padded with zeros at right and bottom to a common size whose sides are multiples of 32.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from rcnn._ext.dispatch import compiled
from rcnn._ext.memory import empty
from rcnn._validate import as_index_array, check_boxes
from rcnn.images import read, to_rgb
from rcnn.nn.resize import bilinear_taps

Size = tuple[int, int]  # (height, width) in pixels, always
Taps = tuple[np.ndarray, np.ndarray, np.ndarray]  # see rcnn.nn.resize.bilinear_taps
SIZE_DIVISOR = 32  # both sides of a batch are multiples of this, and so of every usual stride


@dataclass(frozen=True)
class Batch:
    """Images ready for the network.

    Attributes
    ----------
    images : (N, 3, H, W) float array
        Normalised pixels, zeros at right and bottom; H and W are multiples of 32.
    image_sizes : list of (height, width)
        The size of each image within the batch, without the padding.
    original_sizes : list of (height, width)
        The size of each image before it was resized.
    """

    images: np.ndarray
    image_sizes: list[Size]
    original_sizes: list[Size]


def make_batch(
    images: Sequence[Any],
    min_size: int,
    max_size: int,
    image_mean: Sequence[float],
    image_std: Sequence[float],
    dtype: Any = np.float32,
    scales: Sequence[float] | None = None,
) -> Batch:
    """Return the images as one batch: each is read, resized and normalised; then all are padded to a common size.

    Parameters
    ----------
    images : sequence of images
        Arrays (H, W, 3), PIL images or paths.
    min_size, max_size : int
        The shorter side after resizing, and the limit of the longer side, in pixels; see `resized_size`.
    image_mean, image_std : sequences of 3 floats
        Subtracted from, and divided into, the channels of pixels in [0, 1].
    dtype : dtype
        The dtype of the batch.
    scales : sequence of floats, optional
        A factor per image by which its resized size is multiplied; the longer side may then exceed `max_size`.

    Returns
    -------
    Batch
        The batch.

    Raises
    ------
    TypeError, ValueError
        If something is not a valid image; the message names it by its index.
    """
    resized, original_sizes = [], []
    mean, std = np.asarray(image_mean, dtype), np.asarray(image_std, dtype)
    for index, (image, scale) in enumerate(zip(images, scales or [1.0] * len(images), strict=True)):
        array = as_image(image, f"image {index}", dtype)  # (H, W, 3)
        original_sizes.append((array.shape[0], array.shape[1]))
        height, width = resized_size(original_sizes[-1], min_size, max_size)
        array = resize(array, (max(round(height * scale), 1), max(round(width * scale), 1)))
        resized.append(array)
    sizes = [(array.shape[0], array.shape[1]) for array in resized]
    out = _blank(sizes, dtype)
    for array, (height, width), into in zip(resized, sizes, out.reshape(*out.shape[:2], -1), strict=True):
        # Work on rows of 3 * width numbers: NumPy is slow if the last axis has only three.
        rows = into[:height, : 3 * width]
        np.subtract(array.reshape(height, -1), np.tile(mean, width), out=rows)
        np.divide(rows, np.tile(std, width), out=rows)
    return Batch(out.transpose(0, 3, 1, 2), sizes, original_sizes)


def pad_batch(images: np.ndarray) -> Batch:
    """Return a normalised array of images as a batch, padded to multiples of 32; no copy if its sides already are.

    Parameters
    ----------
    images : (N, 3, H, W) float array
        Normalised images of one size.

    Returns
    -------
    Batch
        The batch.
    """
    size = (images.shape[2], images.shape[3])
    sizes, padded = [size] * len(images), images
    if not is_padded(size):
        out = _blank(sizes, images.dtype)
        out[:, : size[0], : size[1]] = images.transpose(0, 2, 3, 1)
        padded = out.transpose(0, 3, 1, 2)
    return Batch(padded, sizes, list(sizes))


def as_image(image: Any, name: str = "image", dtype: Any = np.float32) -> np.ndarray:
    """Return an image as a float array in [0, 1]; see `rcnn.images` for files and PIL images.

    A float array of the right dtype is returned itself, not a copy.

    Parameters
    ----------
    image : array (H, W, 3), PIL image or path
        uint8, or float in [0, 1].
    name : str
        The name of the image, for error messages.
    dtype : dtype
        The dtype of the result.

    Returns
    -------
    (H, W, 3) float array
        The image in RGB.

    Raises
    ------
    TypeError
        If it is not an image.
    ValueError
        If the shape is wrong, there are no pixels, values are out of range, or `rcnn.images.read` rejects the file.
    OSError
        If a path cannot be read.
    """
    if isinstance(image, (str, os.PathLike)):
        image = read(image)
    elif isinstance(image, Image.Image):
        image = to_rgb(image, name)
    if not isinstance(image, np.ndarray):
        raise TypeError(f"{name} must be an array (H, W, 3), a PIL image or a path, got {type(image).__name__}")
    if image.ndim != 3 or image.shape[2] != 3:
        hint = ""
        if image.ndim == 3 and image.shape[0] == 3:
            hint = "; channels must be last: use image.transpose(1, 2, 0)"
        elif image.ndim == 2:
            hint = "; a grey image needs three channels: use np.stack([image] * 3, axis=2)"
        raise ValueError(f"{name} must have the shape (H, W, 3), got {image.shape}{hint}")
    if image.size == 0:
        raise ValueError(f"{name} has no pixels: its shape is {image.shape}")
    if image.dtype == np.uint8:
        return np.divide(image, np.asarray(255, dtype), dtype=dtype)
    if image.dtype.kind != "f":
        raise TypeError(f"{name} must be uint8, or float in [0, 1], got {image.dtype}")
    low, high = image.min(), image.max()
    if not (low >= 0 and high <= 1):  # NaN fails this test too
        raise ValueError(f"{name} is a float image and must be in [0, 1], got values in {low} .. {high}")
    return image.astype(dtype, copy=False)


def resize(image: np.ndarray, size: Size) -> np.ndarray:
    """Return the image resampled to another size: bilinearly, without antialiasing.

    Parameters
    ----------
    image : (H, W, C) float array
        An image.
    size : (height, width)
        The size of the result, in pixels.

    Returns
    -------
    (height, width, C) array
        The resized image.
    """
    if image.shape[:2] == size:
        return image
    rows = bilinear_taps(size[0], image.shape[0], image.dtype)
    columns = bilinear_taps(size[1], image.shape[1], image.dtype)
    return _resample(image, rows, columns)


@compiled("transform.resample")
def _resample(image: np.ndarray, rows: Taps, columns: Taps) -> np.ndarray:
    """Return the image interpolated linearly between two rows, then between two columns."""
    (above, below, down), (left, right, across) = rows, columns
    mixed = image[above] * (1 - down)[:, None, None] + image[below] * down[:, None, None]  # (H', W, C)
    return mixed[:, left] * (1 - across)[:, None] + mixed[:, right] * across[:, None]  # (H', W', C)


def resized_size(size: Size, min_size: int, max_size: int) -> Size:
    """Return the size of an image after resizing: shorter side `min_size`, longer side at most `max_size`.

    The scale is `min(min_size / shorter side, max_size / longer side)`, computed in float64; sides are rounded down.

    Parameters
    ----------
    size : (height, width)
        The size of the image, in pixels.
    min_size, max_size : int
        In pixels.

    Returns
    -------
    (int, int)
        The new (height, width), each at least 1.

    Examples
    --------
    >>> resized_size((480, 640), min_size=800, max_size=1333)
    (800, 1066)
    """
    scale = min(min_size / min(size), max_size / max(size))
    return max(int(size[0] * scale), 1), max(int(size[1] * scale), 1)


def padded_size(sizes: Sequence[Size]) -> Size:
    """Return the size of a batch of images of these sizes: the largest height and width, rounded up to multiples of 32.

    Parameters
    ----------
    sizes : sequence of (height, width)
        The size of each image, in pixels.

    Returns
    -------
    (int, int)
        The (height, width) of the batch.

    Examples
    --------
    >>> padded_size([(800, 1066), (750, 1200)])
    (800, 1216)
    """
    height, width = (max(size[side] for size in sizes) for side in (0, 1))
    return -(-height // SIZE_DIVISOR) * SIZE_DIVISOR, -(-width // SIZE_DIVISOR) * SIZE_DIVISOR


def is_padded(size: Size) -> bool:
    """Return whether both sides are multiples of 32, so that a batch of this size needs no padding.

    Parameters
    ----------
    size : (height, width)
        The size of a batch, in pixels.

    Returns
    -------
    bool
        True if no padding is needed.
    """
    return padded_size([size]) == size


def scale_boxes(boxes: np.ndarray, source: Size, target: Size) -> np.ndarray:
    """Return boxes in pixels of an image of size `source` as boxes in pixels of the same image at size `target`.

    Parameters
    ----------
    boxes : (N, 4) array
        Boxes in pixels.
    source, target : (height, width)
        The two sizes of the image.

    Returns
    -------
    (N, 4) array
        The scaled boxes.
    """
    y, x = target[0] / source[0], target[1] / source[1]
    return boxes * np.array([x, y, x, y], boxes.dtype)


def to_images(batch: Batch, image_mean: Sequence[float], image_std: Sequence[float]) -> list[np.ndarray]:
    """Return the images of a batch for display: not normalised, without the padding.

    Parameters
    ----------
    batch : Batch
        N images.
    image_mean, image_std : sequences of 3 floats
        The values that the batch was normalised with.

    Returns
    -------
    list of (h, w, 3) float arrays
        Pixels in [0, 1].
    """
    mean, std = np.asarray(image_mean, batch.images.dtype), np.asarray(image_std, batch.images.dtype)
    images = []
    for planes, (height, width) in zip(batch.images, batch.image_sizes, strict=True):
        image = planes.transpose(1, 2, 0)[:height, :width] * std + mean  # (h, w, 3)
        images.append(np.clip(image, 0, 1))
    return images


def check_targets(
    targets: Sequence[Any], num_images: int, num_classes: int, dtype: Any = np.float32
) -> list[dict[str, np.ndarray]]:
    """Return the validated targets of a batch.

    Parameters
    ----------
    targets : list of dicts
        Per image {"boxes": (G, 4), "labels": (G,)}; images without objects (G = 0) are allowed.
    num_images : int
        The number of images.
    num_classes : int
        The number of classes, the background included.
    dtype : dtype
        The dtype of the boxes.

    Returns
    -------
    list of dicts
        Per image {"boxes": (G, 4) of `dtype`, "labels": (G,) int64}.

    Raises
    ------
    TypeError, ValueError
        For a missing key, a wrong shape, a coordinate that is not finite, x2 <= x1 or y2 <= y1, or a label outside
        1 .. num_classes - 1. The message names the image and the box.
    """
    required = f"targets must be a list of {num_images} dicts, one per image"
    if not isinstance(targets, (list, tuple)):
        raise TypeError(f"{required}, got {type(targets).__name__}")
    if len(targets) != num_images:
        raise ValueError(f"{required}, got {len(targets)}")
    return [check_target(target, f"targets[{index}]", num_classes, dtype) for index, target in enumerate(targets)]


def check_target(target: Any, name: str, num_classes: int, dtype: Any = np.float32) -> dict[str, np.ndarray]:
    """Return the validated target of one image; see `check_targets`.

    Parameters
    ----------
    target : dict
        {"boxes": (G, 4), "labels": (G,)}.
    name : str
        The name of the target, for error messages.
    num_classes : int
        The number of classes, the background included.
    dtype : dtype
        The dtype of the boxes.

    Returns
    -------
    dict
        {"boxes": (G, 4) of `dtype`, "labels": (G,) int64}.
    """
    for key in ("boxes", "labels"):
        if not isinstance(target, dict) or key not in target:
            raise ValueError(f"{name} must be a dict with 'boxes' and 'labels'; {key!r} is missing")
    boxes = check_boxes(target["boxes"], f"{name}['boxes']").astype(dtype)  # (G, 4)
    labels = as_index_array(target["labels"], f"{name}['labels']", len(boxes))  # (G,)
    for index, (box, label) in enumerate(zip(boxes.tolist(), labels.tolist(), strict=True)):
        x1, y1, x2, y2 = box
        if not np.isfinite(box).all():
            raise ValueError(f"{name}: box {index} is {box}; all coordinates must be finite")
        if x2 <= x1 or y2 <= y1:
            raise ValueError(f"{name}: box {index} is {box}; x1, y1, x2, y2 must satisfy x2 > x1 and y2 > y1")
        if not 1 <= label < num_classes:
            raise ValueError(
                f"{name}: the label of box {index} is {label}; labels must be in 1 .. {num_classes - 1} "
                "(0 is the background)"
            )
    return {"boxes": boxes, "labels": labels}


def _blank(sizes: Sequence[Size], dtype: Any) -> np.ndarray:
    """Return an array (N, H, W, 3) for images of these sizes: zeros in the padding, uninitialised elsewhere."""
    out = empty((len(sizes), *padded_size(sizes), 3), dtype)
    for (height, width), into in zip(sizes, out, strict=True):
        into[height:] = 0
        into[:height, width:] = 0
    return out

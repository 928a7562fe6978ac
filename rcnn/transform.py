"""From images to a batch, and boxes there and back.

An *image* is what people have: (H, W, 3) uint8 RGB, or float in [0, 1], or a PIL image, or a path. A *batch* is what
networks want: (N, 3, H, W), resized, normalised, and padded with zeros at right and bottom to one size for all.
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
SIZE_DIVISOR = 32  # both sides of a batch are multiples of this, so that strides up to it come out even


@dataclass(frozen=True)
class Batch:
    """Images ready for the network.

    images: (N, 3, H, W) float, normalised, zeros at right and bottom.
    image_sizes: (height, width) of each image within the batch.
    original_sizes: (height, width) of each image before it was resized.
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
    """The images as one batch: each read, resized, normalised; then all padded to a common size.

    scales: a factor per image, with which the size that it is resized to is multiplied (it may then exceed max_size);
    1 without it. Raises TypeError or ValueError that names the image by its index.
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
        # Rows of all columns' channels: NumPy is slow where the last axis is three numbers long.
        rows = into[:height, : 3 * width]
        np.subtract(array.reshape(height, -1), np.tile(mean, width), out=rows)
        np.divide(rows, np.tile(std, width), out=rows)
    return Batch(out.transpose(0, 3, 1, 2), sizes, original_sizes)


def pad_batch(images: np.ndarray) -> Batch:
    """A batch that is one already, (N, 3, H, W) and normalised, padded to the sides that the network wants; not copied
    where it has them.
    """
    size = (images.shape[2], images.shape[3])
    sizes, padded = [size] * len(images), images
    if not is_padded(size):
        out = _blank(sizes, images.dtype)
        out[:, : size[0], : size[1]] = images.transpose(0, 2, 3, 1)
        padded = out.transpose(0, 3, 1, 2)
    return Batch(padded, sizes, list(sizes))


def as_image(image: Any, name: str = "image", dtype: Any = np.float32) -> np.ndarray:
    """An image as (H, W, 3) float in [0, 1], of `dtype`; `rcnn.images` says how a file or a PIL image becomes RGB.

    An array that is so already is given back itself.

    Raises TypeError for what is no image, ValueError for a wrong shape, no pixels, values out of range or a file that
    is refused, and OSError for a path that cannot be read.
    """
    if isinstance(image, (str, os.PathLike)):
        image = read(image)
    elif isinstance(image, Image.Image):
        image = to_rgb(image, name)
    if not isinstance(image, np.ndarray):
        raise TypeError(f"{name} must be an array (H, W, 3), a PIL image or a path, not {type(image).__name__}")
    if image.ndim != 3 or image.shape[2] != 3:
        hint = ""
        if image.ndim == 3 and image.shape[0] == 3:
            hint = "; channels come last here: use image.transpose(1, 2, 0)"
        elif image.ndim == 2:
            hint = "; a grey image needs three channels: use np.stack([image] * 3, axis=2)"
        raise ValueError(f"{name} must have the shape (H, W, 3), not {image.shape}{hint}")
    if image.size == 0:
        raise ValueError(f"{name} has no pixels: its shape is {image.shape}")
    if image.dtype == np.uint8:
        return np.divide(image, np.asarray(255, dtype), dtype=dtype)
    if image.dtype.kind != "f":
        raise TypeError(f"{name} must be uint8, or float in [0, 1], not {image.dtype}")
    low, high = image.min(), image.max()
    if not (low >= 0 and high <= 1):  # NaN fails this, too
        raise ValueError(f"{name} is a float image and must lie in [0, 1], but spans {low} .. {high}")
    return image.astype(dtype, copy=False)


def resize(image: np.ndarray, size: Size) -> np.ndarray:
    """Return the image (H, W, C) resampled bilinearly, without antialiasing, to (*size, C)."""
    if image.shape[:2] == size:
        return image
    rows = bilinear_taps(size[0], image.shape[0], image.dtype)
    columns = bilinear_taps(size[1], image.shape[1], image.dtype)
    return _resample(image, rows, columns)


@compiled("transform.resample")
def _resample(image: np.ndarray, rows: Taps, columns: Taps) -> np.ndarray:
    """Return the image with each row, then each column, mixed of the two next to it, by the weight of the second."""
    (above, below, down), (left, right, across) = rows, columns
    mixed = image[above] * (1 - down)[:, None, None] + image[below] * down[:, None, None]  # (H', W, C)
    return mixed[:, left] * (1 - across)[:, None] + mixed[:, right] * across[:, None]  # (H', W', C)


def resized_size(size: Size, min_size: int, max_size: int) -> Size:
    """The (height, width) of an image of `size` after resizing: shorter side min_size, longer one at most max_size."""
    scale = min(min_size / min(size), max_size / max(size))
    return max(int(size[0] * scale), 1), max(int(size[1] * scale), 1)


def padded_size(sizes: Sequence[Size]) -> Size:
    """The (height, width) of a batch that holds images of these sizes."""
    height, width = (max(size[side] for size in sizes) for side in (0, 1))
    return -(-height // SIZE_DIVISOR) * SIZE_DIVISOR, -(-width // SIZE_DIVISOR) * SIZE_DIVISOR


def is_padded(size: Size) -> bool:
    """Whether a batch may have this (height, width) as it is."""
    return padded_size([size]) == size


def scale_boxes(boxes: np.ndarray, source: Size, target: Size) -> np.ndarray:
    """Boxes (N, 4) in pixels of an image of size `source`, as pixels of the same image at size `target`."""
    y, x = target[0] / source[0], target[1] / source[1]
    return boxes * np.array([x, y, x, y], boxes.dtype)


def to_images(batch: Batch, image_mean: Sequence[float], image_std: Sequence[float]) -> list[np.ndarray]:
    """The images of a batch as one can look at them: a list of (h, w, 3) float in [0, 1], without the padding."""
    mean, std = np.asarray(image_mean, batch.images.dtype), np.asarray(image_std, batch.images.dtype)
    images = []
    for planes, (height, width) in zip(batch.images, batch.image_sizes, strict=True):
        image = planes.transpose(1, 2, 0)[:height, :width] * std + mean  # (h, w, 3)
        images.append(np.clip(image, 0, 1))
    return images


def check_targets(
    targets: Sequence[Any], num_images: int, num_classes: int, dtype: Any = np.float32
) -> list[dict[str, np.ndarray]]:
    """The targets as {"boxes": (G, 4) of `dtype`, "labels": (G,) int64}, one per image; G = 0 is an ordinary image.

    Raises TypeError or ValueError that names the image and the box: a missing key, a wrong shape, a coordinate that is
    not finite, x2 <= x1 or y2 <= y1, a label outside 1 .. num_classes - 1.
    """
    wanted = f"targets must be a list with one dict per image, {num_images} of them"
    if not isinstance(targets, (list, tuple)):
        raise TypeError(f"{wanted}, not {type(targets).__name__}")
    if len(targets) != num_images:
        raise ValueError(f"{wanted}, not {len(targets)}")
    return [check_target(target, f"targets[{index}]", num_classes, dtype) for index, target in enumerate(targets)]


def check_target(target: Any, name: str, num_classes: int, dtype: Any = np.float32) -> dict[str, np.ndarray]:
    """One target as `check_targets` gives it; `name` begins the messages."""
    for key in ("boxes", "labels"):
        if not isinstance(target, dict) or key not in target:
            raise ValueError(f"{name} must be a dict with 'boxes' and 'labels'; {key!r} is missing")
    boxes = check_boxes(target["boxes"], f"{name}['boxes']").astype(dtype)  # (G, 4)
    labels = as_index_array(target["labels"], f"{name}['labels']", len(boxes))  # (G,)
    for index, (box, label) in enumerate(zip(boxes.tolist(), labels.tolist(), strict=True)):
        x1, y1, x2, y2 = box
        if not np.isfinite(box).all():
            raise ValueError(f"{name}: box {index} is {box}; every coordinate must be finite")
        if x2 <= x1 or y2 <= y1:
            raise ValueError(f"{name}: box {index} is {box}; x1, y1, x2, y2 need x2 > x1 and y2 > y1")
        if not 1 <= label < num_classes:
            raise ValueError(
                f"{name}: the label of box {index} is {label}; labels are 1 .. {num_classes - 1} (0 is the background)"
            )
    return {"boxes": boxes, "labels": labels}


def _blank(sizes: Sequence[Size], dtype: Any) -> np.ndarray:
    """(N, H, W, 3) for images of these sizes: zeros at right and bottom of each, and no matter what in its place."""
    out = empty((len(sizes), *padded_size(sizes), 3), dtype)
    for (height, width), into in zip(sizes, out, strict=True):
        into[height:] = 0
        into[:height, width:] = 0
    return out

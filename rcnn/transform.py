"""Conversion of images to a padded batch, and of boxes from one image size to another.

An *image* is a PIL image, a path, or an RGB array (H, W, 3), which is uint8, or float in [0, 1]. A *batch* is a float
array (N, 3, H, W) of N images. The images are resized, normalised, and padded with zeros on the right and at the bottom
to a common size. The height and width of a batch are multiples of 32.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rcnn._ext.dispatch import compiled
from rcnn._ext.memory import empty
from rcnn._validate import (
    MOST_SEQUENCE,
    MOST_SIDE,
    as_array,
    as_dtype,
    as_float_array,
    as_index_array,
    check_boxes,
    check_dtype,
    check_pair,
    check_sequence,
    check_size,
    integer,
    is_finite,
    number,
    shown,
)
from rcnn.images import is_pil_image, read, to_rgb
from rcnn.nn.resize import bilinear_taps

Size = tuple[int, int]  # always (height, width), in pixels
Taps = tuple[np.ndarray, np.ndarray, np.ndarray]  # see rcnn.nn.resize.bilinear_taps
SIZE_DIVISOR = 32  # both sides of a batch are multiples of 32, and therefore also of all common strides


@dataclass(frozen=True)
class Batch:
    """Images ready for the network.

    Attributes
    ----------
    images : (N, 3, H, W) float array
        N normalised images, padded with zeros on the right and at the bottom. H and W are multiples of 32.
    image_sizes : list of (height, width)
        The size of each image after resizing, without the padding.
    original_sizes : list of (height, width)
        The size of each image before resizing.

    Raises
    ------
    TypeError, ValueError
        If `images` has another dtype or shape, if a number is NaN or infinite, or if the sizes do not match.
    """

    images: np.ndarray
    image_sizes: list[Size]
    original_sizes: list[Size]

    def __post_init__(self) -> None:
        if not isinstance(self.images, np.ndarray) or self.images.dtype not in (np.float32, np.float64):
            raise TypeError(f"images must be an array (N, 3, H, W) of float32 or float64, got {shown(self.images)}")
        shape = self.images.shape
        check_size(shape, "images")
        if len(shape) != 4 or shape[1] != 3 or 0 in shape or shape[2] % SIZE_DIVISOR or shape[3] % SIZE_DIVISOR:
            raise ValueError(f"images must have shape (N, 3, H, W), where H and W are multiples of 32, got {shape}")
        if not is_finite(self.images):
            index = next(i for i, image in enumerate(self.images) if not is_finite(image))
            raise ValueError(f"images[{index}] contains NaN or infinity; a batch must be finite")
        for name, sizes in (("image_sizes", self.image_sizes), ("original_sizes", self.original_sizes)):
            check_sequence(sizes, name, len(self.images))
            for index, size in enumerate(sizes):
                check_pair(size, f"{name}[{index}]")
        for index, size in enumerate(self.image_sizes):
            if size[0] > shape[2] or size[1] > shape[3]:
                raise ValueError(f"image_sizes[{index}] must be at most {shape[2:]}, the size of the batch, got {size}")


def make_batch(
    images: Sequence[Any],
    min_size: int,
    max_size: int,
    image_mean: Sequence[float],
    image_std: Sequence[float],
    dtype: Any = np.float32,
    scales: Sequence[float] | None = None,
) -> Batch:
    """Read, resize and normalise images, pad them to a common size, and return them as a batch.

    Parameters
    ----------
    images : sequence of images
        N arrays (H, W, 3), PIL images or paths.
    min_size, max_size : int
        The shorter side after resizing, and the maximum of the longer side, in pixels, in 1 .. 2^20; see
        `resized_size`.
    image_mean, image_std : sequences of 3 floats
        The mean and the standard deviation of each colour channel, for pixels in [0, 1]. The standard deviations are
        above 0.
    dtype : dtype
        The dtype of the batch, float32 or float64.
    scales : sequence of floats, optional
        One factor per image, in [0.001, 1000]. The size of the resized image is multiplied by this factor. The longer
        side may then exceed `max_size`.

    Returns
    -------
    Batch
        The batch.

    Raises
    ------
    TypeError, ValueError
        If an image or another argument is invalid, or if the batch would have more than 2^30 elements. If an image is
        invalid, the message contains its index.
    """
    dtype = check_dtype(dtype)
    check_sequence(images, "images")
    if not len(images):
        raise ValueError("images must contain at least one image, got none")
    factors = _check_scales(scales, len(images))
    mean, std = _per_channel(image_mean, "image_mean", dtype), _per_channel(image_std, "image_std", dtype)
    if not (std > 0).all():
        raise ValueError(f"image_std must be above 0, got {shown(image_std)}")
    resized, original_sizes = [], []
    for index, (image, scale) in enumerate(zip(images, factors, strict=True)):
        array = as_image(image, f"image {index}", dtype)  # (H, W, 3)
        original_sizes.append((array.shape[0], array.shape[1]))
        height, width = resized_size(original_sizes[-1], min_size, max_size)
        array = resize(array, (max(round(height * scale), 1), max(round(width * scale), 1)))
        resized.append(array)
    sizes = [(array.shape[0], array.shape[1]) for array in resized]
    check_size((len(sizes), 3, *padded_size(sizes)), "min_size, max_size and the number of images")
    out = _blank(sizes, dtype)
    for array, (height, width), into in zip(resized, sizes, out.reshape(*out.shape[:2], -1), strict=True):
        # Use rows of 3 * width numbers, because NumPy is slow if the last axis has only three elements.
        rows = into[:height, : 3 * width]
        with np.errstate(all="ignore"):  # a tiny `image_std` gives infinite values
            np.subtract(array.reshape(height, -1), np.tile(mean, width), out=rows)
            np.divide(rows, np.tile(std, width), out=rows)
    return Batch(out.transpose(0, 3, 1, 2), sizes, original_sizes)


def _check_scales(scales: Sequence[float] | None, count: int) -> list[float]:
    """Return a list with one factor for each of `count` images; all factors are 1 if `scales` is None."""
    if scales is None:
        return [1.0] * count
    check_sequence(scales, "scales", count)
    return [number(1e-3, 1e3).check(f"scales[{index}]", scale) for index, scale in enumerate(scales)]


def _per_channel(values: Sequence[float], name: str, dtype: Any) -> np.ndarray:
    """Return one finite number per colour channel, (3,)."""
    numbers = as_array(values, name)
    if numbers.shape == (3,):
        numbers = as_dtype(as_float_array(numbers, name), dtype, name)
    if numbers.shape != (3,) or not np.isfinite(numbers).all():
        raise ValueError(f"{name} must be 3 finite numbers, one per colour channel, got {shown(values)}")
    return numbers


def pad_batch(images: np.ndarray) -> Batch:
    """Return normalised images as a batch, padded until both sides are multiples of 32.

    If the sides are already multiples of 32, the images are not copied.

    Parameters
    ----------
    images : (N, 3, H, W) float array
        N normalised images of the same size.

    Returns
    -------
    Batch
        The batch.

    Raises
    ------
    TypeError, ValueError
        If `images` has another dtype or shape, or if a number is NaN or infinite.
    """
    images = check_batch(images)
    size = (images.shape[2], images.shape[3])
    sizes, padded = [size] * len(images), images
    if not is_padded(size):
        out = _blank(sizes, images.dtype)
        out[:, : size[0], : size[1]] = images.transpose(0, 2, 3, 1)
        padded = out.transpose(0, 3, 1, 2)
    return Batch(padded, sizes, list(sizes))


def as_image(image: Any, name: str = "image", dtype: Any = np.float32) -> np.ndarray:
    """Return an image as a float array in [0, 1]; see `rcnn.images` for files and PIL images.

    A float array that already has the right dtype is not copied.

    Parameters
    ----------
    image : array (H, W, 3), PIL image or path
        An image. An array is uint8, or float in [0, 1].
    name : str
        The name of the image, for error messages.
    dtype : dtype
        The dtype of the result, float32 or float64.

    Returns
    -------
    (H, W, 3) float array
        The image in RGB.

    Raises
    ------
    TypeError
        If `image` is not an image, or is an array with another dtype; or if `dtype` is not float32 or float64.
    ValueError
        If the shape is wrong, there are no pixels, values are out of range, or `rcnn.images.read` rejects the file.
    OSError
        If a path cannot be read.
    """
    dtype = check_dtype(dtype)
    if isinstance(image, (str, os.PathLike)):
        image = read(image)
    elif is_pil_image(image):
        image = to_rgb(image, name)
    if not isinstance(image, np.ndarray):
        raise TypeError(f"{name} must be an array (H, W, 3), a PIL image or a path, got {type(image).__name__}")
    if image.ndim != 3 or image.shape[2] != 3:
        hint = ""
        if image.ndim == 3 and image.shape[0] == 3:
            hint = "; channels must be last: use image.transpose(1, 2, 0)"
        elif image.ndim == 2:
            hint = "; a grey image needs three channels: use np.stack([image] * 3, axis=2)"
        raise ValueError(f"{name} must have shape (H, W, 3), got {image.shape}{hint}")
    if image.size == 0:
        raise ValueError(f"{name} has no pixels: its shape is {image.shape}")
    check_size(image.shape, name)
    if image.dtype == np.uint8:
        return np.divide(image, np.asarray(255, dtype), dtype=dtype)
    if image.dtype.kind != "f":
        raise TypeError(f"{name} must be uint8, or float in [0, 1], got {image.dtype}")
    low, high = image.min(), image.max()
    if not (low >= 0 and high <= 1):  # NaN fails this test too
        raise ValueError(f"{name} is a float image and must be in [0, 1], got values in {low} .. {high}")
    return image.astype(dtype, copy=False)


def resize(image: np.ndarray, size: Size) -> np.ndarray:
    """Return the image resized to another size, with bilinear interpolation and without antialiasing.

    Parameters
    ----------
    image : (H, W, C) float array
        An image with at least one pixel.
    size : (height, width)
        The size of the result, in pixels, in 1 .. 2^20. The height is changed first, and then the width. After each of
        these steps, the image may have at most 2^30 elements.

    Returns
    -------
    (height, width, C) array
        The resized image.

    Raises
    ------
    TypeError, ValueError
        If an argument is invalid.
    """
    image, size = as_float_array(image, "image"), check_pair(size, "size")
    if image.ndim != 3 or 0 in image.shape:
        raise ValueError(f"image must have shape (H, W, C), with at least one pixel, got {image.shape}")
    check_size((size[0], max(size[1], image.shape[1]), image.shape[2]), "size and the width of image")
    if image.shape[:2] == size:
        return image
    rows = bilinear_taps(size[0], image.shape[0], image.dtype)
    columns = bilinear_taps(size[1], image.shape[1], image.dtype)
    return _resample(image, rows, columns)


@compiled("transform.resample")
def _resample(image: np.ndarray, rows: Taps, columns: Taps) -> np.ndarray:
    """Resample the image: interpolate linearly between pairs of rows, then between pairs of columns."""
    (above, below, down), (left, right, across) = rows, columns
    mixed = image[above] * (1 - down)[:, None, None] + image[below] * down[:, None, None]  # (H', W, C)
    return mixed[:, left] * (1 - across)[:, None] + mixed[:, right] * across[:, None]  # (H', W', C)


def resized_size(size: Size, min_size: int, max_size: int) -> Size:
    """Return the size of an image after resizing.

    Both sides are multiplied by the scale `min(min_size / shorter side, max_size / longer side)` and rounded down. The
    scale is computed in float64.

    Parameters
    ----------
    size : (height, width)
        The size of the image, in pixels, in 1 .. 2^20.
    min_size, max_size : int
        The shorter side after resizing, and the maximum of the longer side, in pixels, in 1 .. 2^20. If the maximum
        limits the size, the shorter side is smaller than `min_size`.

    Returns
    -------
    (int, int)
        The new (height, width), each at least 1.

    Raises
    ------
    TypeError, ValueError
        If an argument is invalid.

    Examples
    --------
    >>> resized_size((480, 640), min_size=800, max_size=1333)
    (800, 1066)
    """
    size = check_pair(size, "size")
    integer(1, MOST_SIDE).check("min_size", min_size)
    integer(1, MOST_SIDE).check("max_size", max_size)
    scale = min(min_size / min(size), max_size / max(size))
    return max(int(size[0] * scale), 1), max(int(size[1] * scale), 1)


def padded_size(sizes: Sequence[Size]) -> Size:
    """Return the size of a batch: the largest height and width of its images, rounded up to multiples of 32.

    Parameters
    ----------
    sizes : sequence of (height, width)
        The size of each image, in pixels, in 1 .. 2^20; at least one.

    Returns
    -------
    (int, int)
        The (height, width) of the batch.

    Examples
    --------
    >>> padded_size([(800, 1066), (750, 1200)])
    (800, 1216)
    """
    check_sequence(sizes, "sizes")
    if not len(sizes):
        raise ValueError("sizes must contain at least one size, got none")
    pairs = [check_pair(size, f"sizes[{index}]") for index, size in enumerate(sizes)]
    height, width = (max(size[side] for size in pairs) for side in (0, 1))
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
    height, width = check_pair(size, "size")
    return height % SIZE_DIVISOR == 0 == width % SIZE_DIVISOR


def scale_boxes(boxes: np.ndarray, source: Size, target: Size) -> np.ndarray:
    """Return the boxes of an image after the image was resized from size `source` to size `target`.

    Parameters
    ----------
    boxes : (N, 4) array
        N boxes, in pixels of the image of size `source`.
    source, target : (height, width)
        The sizes of the image before and after resizing, in pixels, in 1 .. 2^20.

    Returns
    -------
    (N, 4) array
        The boxes in pixels of the resized image.

    Raises
    ------
    TypeError, ValueError
        If an argument is invalid.
    """
    given, before, after = check_boxes(boxes), check_pair(source, "source"), check_pair(target, "target")
    y, x = after[0] / before[0], after[1] / before[1]
    with np.errstate(over="ignore"):
        return given * np.array([x, y, x, y], given.dtype)


def to_images(batch: Batch, image_mean: Sequence[float], image_std: Sequence[float]) -> list[np.ndarray]:
    """Return the images of a batch for display, without normalisation and padding.

    Parameters
    ----------
    batch : Batch
        N images.
    image_mean, image_std : sequences of 3 floats
        The values with which the batch was normalised.

    Returns
    -------
    list of (h, w, 3) float arrays
        The images, each with its own size h x w, and with values in [0, 1].

    Raises
    ------
    TypeError, ValueError
        If an argument is invalid.
    """
    if not isinstance(batch, Batch):
        raise TypeError(f"batch must be a Batch, got {shown(batch)}")
    mean = _per_channel(image_mean, "image_mean", batch.images.dtype)
    std = _per_channel(image_std, "image_std", batch.images.dtype)
    images = []
    for planes, (height, width) in zip(batch.images, batch.image_sizes, strict=True):
        with np.errstate(all="ignore"):  # the batch can contain infinite values
            image = planes.transpose(1, 2, 0)[:height, :width] * std + mean  # (h, w, 3)
        images.append(np.clip(image, 0, 1))
    return images


def check_targets(
    targets: Sequence[Any],
    num_images: int,
    num_classes: int,
    dtype: Any = np.float32,
    sizes: Sequence[Size] | None = None,
) -> list[dict[str, np.ndarray]]:
    """Return the validated targets of a batch.

    Parameters
    ----------
    targets : list of dicts
        For each image, {"boxes": (G, 4), "labels": (G,)} of its G objects. An image may have no objects (G = 0).
    num_images : int
        The number of images, in 0 .. 2^20.
    num_classes : int
        The number of classes, including the background, at least 1.
    dtype : dtype
        The dtype of the boxes, float32 or float64.
    sizes : sequence of (height, width), optional
        The size of each image, in pixels, in 1 .. 2^20. If it is given, each box must overlap its image.

    Returns
    -------
    list of dicts
        For each image, {"boxes": (G, 4) of `dtype`, "labels": (G,) int64}.

    Raises
    ------
    TypeError, ValueError
        If a key is missing, a shape is wrong, a coordinate is not finite or exceeds 2^20, a box has x2 <= x1 or
        y2 <= y1 or lies outside its image, or a label is outside 1 .. num_classes - 1. The message contains the index
        of the image and, if a box is invalid, the index of the box.
    """
    num_images = integer(0, MOST_SEQUENCE).check("num_images", num_images)
    required = f"targets must be a list of {num_images} dicts, one per image"
    if not isinstance(targets, (list, tuple)):
        raise TypeError(f"{required}, got {type(targets).__name__}")
    if len(targets) != num_images:
        raise ValueError(f"{required}, got {len(targets)}")
    if sizes is not None:
        check_sequence(sizes, "sizes", num_images)
    return [
        check_target(target, f"targets[{index}]", num_classes, dtype, None if sizes is None else sizes[index])
        for index, target in enumerate(targets)
    ]


def check_target(
    target: Any, name: str, num_classes: int, dtype: Any = np.float32, size: Size | None = None
) -> dict[str, np.ndarray]:
    """Return the validated target of one image; see `check_targets`.

    Parameters
    ----------
    target : dict
        {"boxes": (G, 4), "labels": (G,)} of G objects.
    name : str
        The name of the target, for error messages.
    num_classes : int
        The number of classes, including the background, at least 1.
    dtype : dtype
        The dtype of the boxes, float32 or float64.
    size : (height, width), optional
        The size of the image, in pixels, in 1 .. 2^20. If it is given, each box must overlap the image.

    Returns
    -------
    dict
        {"boxes": (G, 4) of `dtype`, "labels": (G,) int64}.

    Raises
    ------
    TypeError, ValueError
        For the same reasons as in `check_targets`.
    """
    if not isinstance(name, str):
        raise TypeError(f"name must be a string, got {shown(name)}")
    num_classes = integer(1).check("num_classes", num_classes)
    for key in ("boxes", "labels"):
        if not isinstance(target, dict) or key not in target:
            raise ValueError(f"{name} must be a dict with 'boxes' and 'labels'; {key!r} is missing")
    given = check_boxes(target["boxes"], f"{name}['boxes']")
    boxes = as_dtype(given, check_dtype(dtype), f"{name}['boxes']")  # (G, 4)
    labels = as_index_array(target["labels"], f"{name}['labels']", len(boxes))  # (G,)
    height, width = (0, 0) if size is None else check_pair(size, "size")
    for index, (box, label) in enumerate(zip(boxes.tolist(), labels.tolist(), strict=True)):
        x1, y1, x2, y2 = box
        if not np.isfinite(box).all():
            raise ValueError(f"{name}: box {index} must be finite, got {box}")
        if x2 <= x1 or y2 <= y1:
            raise ValueError(f"{name}: box {index} must have x2 > x1 and y2 > y1, got {box}")
        if max(map(abs, box)) > MOST_SIDE:
            raise ValueError(f"{name}: box {index} must have coordinates of at most {MOST_SIDE} pixels, got {box}")
        if size is not None and (x2 <= 0 or y2 <= 0 or x1 >= width or y1 >= height):
            raise ValueError(
                f"{name}: box {index} must overlap the image, which has size ({height}, {width}), got {box}"
            )
        if not 1 <= label < num_classes:
            raise ValueError(
                f"{name}: the label of box {index} is {label}; labels must be in 1 .. {num_classes - 1} "
                "(0 is the background)"
            )
    return {"boxes": boxes, "labels": labels}


def check_batch(images: Any) -> np.ndarray:
    """Return a valid batch as float32 or float64. For anything else, raise an error that says what to do.

    Parameters
    ----------
    images : (N, 3, H, W) float array
        N normalised images of the same size.

    Returns
    -------
    (N, 3, H, W) array
        The same images, converted to float32 or float64 if necessary.

    Raises
    ------
    TypeError, ValueError
        If `images` has another form.
    """
    images = as_array(images, "images")
    if images.ndim == 3 and 3 in (images.shape[0], images.shape[2]):
        raise ValueError(
            f"images must be a batch (N, 3, H, W) or a list of images, got an array of shape {images.shape}; "
            "pass a single image as [image]"
        )
    if images.ndim == 4 and images.shape[1] != 3 and images.shape[3] == 3:
        raise ValueError(
            f"images must be a batch (N, 3, H, W) or a list of images, got an array of shape {images.shape}; "
            "pass images (H, W, 3) as a list: list(images)"
        )
    if images.ndim != 4 or images.shape[1] != 3 or 0 in images.shape:
        raise ValueError(f"images: a batch must have shape (N, 3, H, W), got {images.shape}")
    if images.dtype.kind != "f":
        raise TypeError(
            f"images: a batch must be float and normalised, got {images.dtype}; pass images (H, W, 3) in a list"
        )
    check_size(images.shape, "images")
    if images.dtype.isnative and images.dtype in (np.float32, np.float64):
        return images
    return as_float_array(images, "images")


def _blank(sizes: Sequence[Size], dtype: Any) -> np.ndarray:
    """Return an array (N, H, W, 3) for images of these sizes. It is 0 in the padding and uninitialised elsewhere."""
    out = empty((len(sizes), *padded_size(sizes), 3), dtype)
    for (height, width), into in zip(sizes, out, strict=True):
        into[height:] = 0
        into[:height, width:] = 0
    return out

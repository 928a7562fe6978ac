"""The objects of a data set, in pixels of the resized images. Every image is treated as a separate batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike
from tqdm import tqdm

from rcnn._validate import FLAG, check_boxes, counted
from rcnn.config import check_settings
from rcnn.data.protocol import annotation_of, check_dataset
from rcnn.evaluate._inputs import FARTHEST
from rcnn.transform import padded_size, resized_size


class Images(Protocol):
    """A data set. Its images are not decoded if it has an `annotation` method.

    `annotation(i)` returns ((height, width), target) of image i.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> tuple[np.ndarray, Mapping[str, np.ndarray]]: ...


@dataclass(frozen=True, eq=False)
class Objects:
    """The G objects of some images, in pixels of the resized images.

    Attributes
    ----------
    boxes : (G, 4) float64 array
        The boxes, x1, y1, x2, y2.
    padded : (2, G) int64 array
        The height and the width of each object's image, including the padding.
    images : (G,) int64 array
        The index of each object's image.
    num_images : int
        The number of all images, including those without objects.
    """

    boxes: np.ndarray
    padded: np.ndarray
    images: np.ndarray
    num_images: int

    def __len__(self) -> int:
        return len(self.boxes)

    @cached_property
    def centres(self) -> np.ndarray:
        """The centres of the objects.

        Returns
        -------
        (2, G) array
            The y coordinates, then the x coordinates.
        """
        return (self.boxes.T[[1, 0]] + self.boxes.T[[3, 2]]) / 2

    @cached_property
    def sides(self) -> np.ndarray:
        """The sides of the objects.

        Returns
        -------
        (2, G) array
            The heights, then the widths.
        """
        return self.boxes.T[[3, 2]] - self.boxes.T[[1, 0]]

    @property
    def sizes(self) -> np.ndarray:
        """The square root of each object's area. The size of an anchor is defined in the same way.

        Returns
        -------
        (G,) array
            The sizes, in pixels.
        """
        return np.sqrt(self.sides[0] * self.sides[1])

    @property
    def ratios(self) -> np.ndarray:
        """The aspect ratio of each object.

        Returns
        -------
        (G,) array
            The ratios, height / width.
        """
        return self.sides[0] / self.sides[1]

    def thinned(self, most: int) -> Objects:
        """Return a sample of objects with evenly spaced indices.

        Parameters
        ----------
        most : int
            The largest number of objects in the sample.

        Returns
        -------
        Objects
            The sample; all objects if there are no more than `most`.
        """
        if len(self) <= most:
            return self
        kept = np.arange(most) * len(self) // most  # (most,)
        return Objects(self.boxes[kept], self.padded[:, kept], self.images[kept], self.num_images)


def collect(dataset: Images, min_size: int, max_size: int, progress: bool = True) -> Objects:
    """Return the objects of a data set that are neither difficult nor crowds.

    Parameters
    ----------
    dataset : Images
        The data set.
    min_size, max_size : int
        The upper limits of the shorter and of the longer side of a resized image, in pixels, from 1 to 2^14; see
        `rcnn.transform.resized_size`.
    progress : bool
        If True, show a progress bar.

    Returns
    -------
    Objects
        The objects, in the order of the data set.

    Raises
    ------
    TypeError, ValueError
        If a size is out of range, if `min_size` is larger than `max_size`, or if a box is not finite or has x2 <= x1 or
        y2 <= y1. For a box, the message names the image and the box.
    """
    check_sizes(min_size, max_size)
    check_dataset(dataset, needs=() if hasattr(dataset, "annotation") else ("__getitem__",))
    FLAG.check("progress", progress)
    boxes, padded = [np.zeros((0, 4))], [(0, 0)]  # begin with an empty entry, because the data set may be empty
    for index in tqdm(range(len(dataset)), desc="anchors", unit="image", disable=None if progress else True):
        size, target = annotation_of(dataset, index)
        resized = resized_size(size, min_size, max_size)
        y, x = resized[0] / size[0], resized[1] / size[1]
        boxes.append(_counted_boxes(target, f"image {index}") * (x, y, x, y))  # (G_i, 4)
        padded.append(padded_size([resized]))
    counts = [len(of_image) for of_image in boxes]
    return Objects(
        np.concatenate(boxes),
        np.repeat(np.array(padded, np.int64).T, counts, axis=1),
        np.repeat(np.arange(-1, len(dataset)), counts),
        len(dataset),
    )


def check_sizes(min_size: int, max_size: int) -> None:
    """Raise TypeError or ValueError unless 1 <= min_size <= max_size <= 2^14.

    Parameters
    ----------
    min_size, max_size : int
        The upper limits of the shorter and of the longer side of a resized image, in pixels, from 1 to 2^14.

    Raises
    ------
    TypeError, ValueError
        If a size is not an integer in this range, or if `min_size` is larger than `max_size`.
    """
    check_settings({"min_size": min_size, "max_size": max_size})


def _counted_boxes(target: Mapping[str, ArrayLike], name: str) -> np.ndarray:
    """Return the boxes (G, 4) of the objects in `target` that are neither difficult nor crowds, as float64."""
    boxes = check_boxes(target["boxes"], f"the boxes of {name}").astype(np.float64)
    impossible = ~((np.abs(boxes) <= FARTHEST).all(axis=1) & (boxes[:, 2:] > boxes[:, :2]).all(axis=1))
    if impossible.any():
        row = int(impossible.argmax())
        raise ValueError(f"{name}: box {row} must be finite, with x2 > x1 and y2 > y1, got {boxes[row].tolist()}")
    return boxes[counted(target, len(boxes), name)]

"""The objects of a data set as anchors meet them: resized with their images, on a batch of known size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike
from tqdm import tqdm

from rcnn._validate import check_boxes, check_pair, counted
from rcnn.transform import Size, padded_size, resized_size


class Images(Protocol):
    """What is asked of a data set. Where it has `annotation(i) -> ((height, width), target)`, no image is decoded."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> tuple[np.ndarray, Mapping[str, np.ndarray]]: ...


@dataclass(frozen=True, eq=False)
class Objects:
    """The objects of some images, in pixels of the batch.

    boxes: (G, 4) float64.
    padded: (2, G) int64, the heights and the widths of the objects' images with their padding.
    images: (G,) int64, the index of each object's image.
    num_images: how many images were looked at, those without objects included.
    """

    boxes: np.ndarray
    padded: np.ndarray
    images: np.ndarray
    num_images: int

    def __len__(self) -> int:
        return len(self.boxes)

    @cached_property
    def centres(self) -> np.ndarray:
        """(2, G) y and x."""
        return (self.boxes.T[[1, 0]] + self.boxes.T[[3, 2]]) / 2

    @cached_property
    def sides(self) -> np.ndarray:
        """(2, G) heights and widths."""
        return self.boxes.T[[3, 2]] - self.boxes.T[[1, 0]]

    @property
    def sizes(self) -> np.ndarray:
        """(G,) square root of the area, as of an anchor."""
        return np.sqrt(self.sides[0] * self.sides[1])

    @property
    def ratios(self) -> np.ndarray:
        """(G,) height / width."""
        return self.sides[0] / self.sides[1]

    def thinned(self, most: int) -> Objects:
        """At most so many of the objects, at even distances in their order."""
        if len(self) <= most:
            return self
        kept = np.arange(most) * len(self) // most  # (most,)
        return Objects(self.boxes[kept], self.padded[:, kept], self.images[kept], self.num_images)


def collect(dataset: Images, min_size: int, max_size: int, progress: bool = True) -> Objects:
    """The objects of `dataset` that count: those that are neither difficult nor crowds.

    Args:
        dataset: as `Images`.
        min_size, max_size: images are resized as `rcnn.transform.resized_size` says, and padded each for itself.
        progress: whether to show a bar.

    Raises ValueError, naming the image and the box, for a box that is not finite or has x2 <= x1 or y2 <= y1.
    """
    if not 1 <= min_size <= max_size:
        raise ValueError(f"min_size and max_size must be 1 <= min_size <= max_size, got {min_size!r} and {max_size!r}")
    boxes, padded = [np.zeros((0, 4))], [(0, 0)]  # of no image, so that a data set may be empty
    for index in tqdm(range(len(dataset)), desc="anchors", unit="image", disable=not progress):
        size, target = _annotation(dataset, index)
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


def _annotation(dataset: Any, index: int) -> tuple[Size, Mapping[str, ArrayLike]]:
    """((height, width), target) of an image, without decoding it where the data set can tell."""
    if hasattr(dataset, "annotation"):
        size, target = dataset.annotation(index)
    else:
        image, target = dataset[index]
        size = image.shape[:2]
    return check_pair(size, f"the size of image {index}"), target


def _counted_boxes(target: Mapping[str, ArrayLike], name: str) -> np.ndarray:
    """The boxes (G, 4) float64 of the objects of `target` that count."""
    boxes = check_boxes(target["boxes"], f"the boxes of {name}").astype(np.float64)
    impossible = ~(np.isfinite(boxes).all(axis=1) & (boxes[:, 2:] > boxes[:, :2]).all(axis=1))
    if impossible.any():
        row = int(impossible.argmax())
        raise ValueError(
            f"{name}: box {row} is {boxes[row].tolist()}; x1, y1, x2, y2 must be finite, with x2 > x1 and y2 > y1"
        )
    return boxes[counted(target, len(boxes), name)]

"""The order of the training images: which images each batch contains, and how often rare classes are repeated."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence

import numpy as np
from tqdm import tqdm

from rcnn._validate import counted
from rcnn.data import Dataset
from rcnn.data.protocol import annotation_of

_ORDER = 0  # number of the random stream; step.py, augment.py and loop.py use other numbers


class Order:
    """Order of the training images. Each epoch contains all images, and has its own random order.

    If `groups` is given, all images in a batch belong to the same group, with two exceptions. At the end of an epoch,
    the remaining images of a group may be too few for a batch; then a batch mixes images of several groups. If the
    batch size does not divide the number of images, a batch may contain the last images of one epoch and the first
    images of the next epoch.

    Parameters
    ----------
    length : int
        Number of images.
    batch_size : int
        Number of images in a step.
    seed : int
        Seed for the random order.
    groups : (length,) array, optional
        Group of each image. By default, there are no groups, and all images are shuffled together.
    repeats : (length,) array, optional
        How often each image appears in an epoch, on average; at least 1. For example, with 1.5 an image appears once or
        twice. By default, each image appears once.
    """

    def __init__(
        self,
        length: int,
        batch_size: int,
        seed: int,
        groups: np.ndarray | None = None,
        repeats: np.ndarray | None = None,
    ) -> None:
        ends = np.cumsum(np.ones(length) if repeats is None else repeats)
        self.length = math.ceil(ends[-1])  # of an epoch
        self.ends = ends * (self.length / ends[-1])
        self.batch_size, self.seed, self.groups = batch_size, seed, groups
        self._epoch = functools.lru_cache(maxsize=2)(self._draw_epoch)

    def batch(self, step: int) -> list[int]:
        """Return the indices of the images of a step.

        Parameters
        ----------
        step : int
            Number of the step, starting from 0.

        Returns
        -------
        list of int
            `batch_size` indices into the data set.
        """
        positions = range(step * self.batch_size, (step + 1) * self.batch_size)
        return [self._epoch(position // self.length)[position % self.length] for position in positions]

    def _draw_epoch(self, epoch: int) -> list[int]:
        """Return the indices of the images in the order of an epoch."""
        rng = np.random.default_rng([self.seed, _ORDER, epoch])
        places = rng.permutation(self.length) + rng.random()  # image i is chosen between ends[i - 1] and ends[i]
        order = np.searchsorted(self.ends, np.minimum(places, self.ends[-1]), side="right").tolist()
        if self.groups is None:
            return order
        start = -epoch * self.length % self.batch_size  # the first images complete a batch of the previous epoch
        return order[:start] + _group_batches(order[start:], self.groups, self.batch_size)


def _group_batches(order: Sequence[int], groups: np.ndarray, batch_size: int) -> list[int]:
    """Rearrange `order` so that each batch contains images of only one group. Incomplete batches come last."""
    full: list[int] = []
    incomplete: dict[int, list[int]] = {}
    for index in order:
        batch = incomplete.setdefault(int(groups[index]), [])
        batch.append(index)
        if len(batch) == batch_size:
            full += batch
            batch.clear()
    return full + [index for batch in incomplete.values() for index in batch]


def aspect_groups(dataset: Dataset, progress: bool = True) -> np.ndarray | None:
    """Return, for each image, whether its height is larger than its width. No image is decoded.

    Parameters
    ----------
    dataset : Dataset
        The images.
    progress : bool
        If True, show a progress bar.

    Returns
    -------
    (length,) bool array or None
        True for each image whose height is larger than its width. The result is None if the data set does not know the
        image sizes without decoding the images.
    """
    if not hasattr(dataset, "annotation"):
        return None
    sizes = [annotation_of(dataset, index, keys=())[0] for index in _bar(dataset, "sizes", progress)]
    return np.array([height > width for height, width in sizes])


def repeat_factors(dataset: Dataset, thresh: float, progress: bool = True) -> np.ndarray:
    """Return how often each image should appear in an epoch, so that rare classes are seen more often.

    The factor of a class is max(1, sqrt(thresh / f)), where f is the fraction of the images that contain the class. The
    factor of an image is the largest factor of its classes. Difficult objects and crowds do not count. No image is
    decoded if the data set knows the annotations without this.

    Parameters
    ----------
    dataset : Dataset
        The images and their targets.
    thresh : float
        Classes in a smaller fraction of the images are repeated.
    progress : bool
        If True, show a progress bar.

    Returns
    -------
    (length,) array
        The factor of each image, at least 1.

    References
    ----------
    Gupta, Dollar and Girshick, "LVIS: A Dataset for Large Vocabulary Instance Segmentation", 2019, appendix B.
    """
    contains = np.zeros((len(dataset), len(dataset.classes)), bool)
    for index in _bar(dataset, "classes", progress):
        _, target = annotation_of(dataset, index, keys=("labels",))
        labels = np.asarray(target["labels"], np.int64)
        contains[index, labels[counted(target, len(labels), f"the target of image {index}")]] = True
    share = contains.mean(axis=0)  # (L,)
    factors = np.sqrt(np.maximum(thresh / np.where(share > 0, share, np.inf), 1))  # (L,)
    return np.where(contains, factors, 1).max(axis=1)  # (length,)


def _bar(dataset: Dataset, title: str, progress: bool) -> Iterable[int]:
    """Return the indices of the images, with a progress bar."""
    bar: Iterable[int] = tqdm(
        range(len(dataset)),
        desc=title,
        unit="image",
        leave=False,
        disable=None if progress else True,
        dynamic_ncols=True,
    )
    return bar

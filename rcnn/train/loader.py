"""From a data set to the batches of a training run: which images a step sees, and threads that read them ahead.

Which images, and how they are changed, depends on the seed and the step alone, not on the threads that read them.
"""

from __future__ import annotations

import functools
import math
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from tqdm import tqdm

from rcnn import transform
from rcnn._validate import counted
from rcnn.data import AnnotatedImages, Dataset

_ORDER, _CHANGES = 0, 2  # streams of random numbers; step.py has 1 and loop.py 3
T = TypeVar("T")
U = TypeVar("U")
Target = dict[str, np.ndarray]


# ---------------------------------------------------------------------- which images


class Order:
    """Which images each step sees. Every image comes once per epoch, in an order of the epoch's own.

    length: how many images there are. groups: (length,) of each image, where those of a group shall share batches;
    without it, or where all are of one group, the order of an epoch is a plain permutation.

    Batches run on from one epoch into the next where their size does not divide the length. Such a batch may hold
    images of several groups, and so may one more of each epoch: what is left over of its groups.
    """

    def __init__(self, length: int, batch_size: int, seed: int, groups: np.ndarray | None = None) -> None:
        self.length, self.batch_size, self.seed, self.groups = length, batch_size, seed, groups
        self._epoch = functools.lru_cache(maxsize=2)(self._draw_epoch)

    def batch(self, step: int) -> list[int]:
        """Indices of the images of a step."""
        positions = range(step * self.batch_size, (step + 1) * self.batch_size)
        return [self._epoch(position // self.length)[position % self.length] for position in positions]

    def _draw_epoch(self, epoch: int) -> list[int]:
        """Indices of the images of an epoch, in order."""
        order = np.random.default_rng([self.seed, _ORDER, epoch]).permutation(self.length).tolist()
        if self.groups is None:
            return order
        start = -epoch * self.length % self.batch_size  # the images before it complete the last epoch's last batch
        return order[:start] + _group_batches(order[start:], self.groups, self.batch_size)


def _group_batches(order: Sequence[int], groups: np.ndarray, batch_size: int) -> list[int]:
    """Return the indices `order` in batches of one group each, as these become full; incomplete batches come last."""
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
    """(length,) bool, whether each image is higher than wide; None where the data set would have to decode them."""
    annotation = getattr(dataset, "annotation", None)
    if annotation is None:
        return None
    sizes = [
        annotation(index)[0]
        for index in tqdm(
            range(len(dataset)),
            desc="sizes",
            unit="image",
            leave=False,
            disable=None if progress else True,
            dynamic_ncols=True,
        )
    ]
    return np.array([height > width for height, width in sizes])


# ---------------------------------------------------------------------- augmentation


@dataclass(frozen=True)
class Change:
    """What is done to one image: whether it is mirrored, and by how much its size after resizing is multiplied."""

    flipped: bool = False
    scale: float = 1.0


def draw_change(rng: np.random.Generator, flip: float, scale_jitter: tuple[float, float]) -> Change:
    """A change drawn from `rng`: mirrored with probability `flip`, scaled by a factor between those of `scale_jitter`.

    The factor is uniform in its logarithm, so that half the size is as likely as twice the size. Two numbers are drawn
    whatever the settings are.
    """
    mirrored, position = rng.random(2)
    low, high = map(math.log, scale_jitter)
    return Change(bool(mirrored < flip), math.exp(low + position * (high - low)))


def flip(image: Any, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(the image (H, W, 3) mirrored left for right, its boxes (G, 4) where they are then).

    image: whatever `transform.as_image` takes, which raises ValueError or TypeError for what is none. The image's
        array is a view where it was an array already.
    """
    is_array = isinstance(image, np.ndarray) and image.ndim == 3
    array = image if is_array else transform.as_image(image)
    width = array.shape[1]
    mirrored = boxes.copy()
    mirrored[:, 0], mirrored[:, 2] = width - boxes[:, 2], width - boxes[:, 0]
    return array[:, ::-1], mirrored


# ---------------------------------------------------------------------- reading them


@dataclass(frozen=True)
class TrainingBatch:
    """Images ready for the network, with their targets.

    indices: of the images in their data set. images: resized, normalised and padded. targets: per image what it is
    learned from, {"boxes": (G, 4), "labels": (G,)}, in the pixels of the image before it was resized. complete: per
    image the target as the data set has it.
    """

    indices: list[int]
    images: transform.Batch
    targets: list[Target]
    complete: list[Target]


@dataclass(frozen=True)
class Loader:
    """Reader of training batches from a data set.

    make_batch: (images, scales) to a batch, as `FasterRCNN.make_batch`. num_classes: the background included.
    """

    dataset: Dataset
    make_batch: Callable[[Sequence[Any], Sequence[float]], transform.Batch]
    num_classes: int

    def load(self, indices: Sequence[int], changes: Sequence[Change] | None = None) -> TrainingBatch:
        """Return the images of these indices, each with its change applied.

        Raises what the data set raises, with a note that names the image, and ValueError or TypeError that begins
        with the image for a target or an image that cannot be right.
        """
        changes = changes or [Change()] * len(indices)
        read = [self._read(index) for index in indices]
        images, complete = [image for image, _ in read], [target for _, target in read]
        targets = [self._learned(index, target) for index, target in zip(indices, complete, strict=True)]
        try:
            for i, change in enumerate(changes):
                if change.flipped:
                    images[i], targets[i]["boxes"] = flip(images[i], targets[i]["boxes"])
            batch = self.make_batch(images, [change.scale for change in changes])
        except (ValueError, TypeError):
            for index, (image, _) in zip(indices, read, strict=True):  # says which of the data set's it is
                transform.as_image(image, describe(self.dataset, index))
            raise
        return TrainingBatch(list(indices), batch, targets, complete)

    def _read(self, index: int) -> tuple[Any, Target]:
        try:
            image, target = self.dataset[index]
        except Exception as error:
            error.add_note(f"This came of {describe(self.dataset, index)}.")
            raise
        return image, target

    def _learned(self, index: int, target: Target) -> Target:
        """The checked target without the objects that are marked difficult, and without boxes round a crowd."""
        try:
            checked = transform.check_target(target, "target", self.num_classes, np.float64)
            kept = counted(target, len(checked["boxes"]), "target")  # (G,)
            return {name: array[kept] for name, array in checked.items()}
        except (ValueError, TypeError) as error:
            raise type(error)(f"{describe(self.dataset, index)}: {error}") from error


def draw_changes(seed: int, step: int, count: int, flip: float, scale_jitter: tuple[float, float]) -> list[Change]:
    """How each of the `count` images of a step is changed."""
    rng = np.random.default_rng([seed, _CHANGES, step])
    return [draw_change(rng, flip, scale_jitter) for _ in range(count)]


def describe(dataset: Dataset, index: int) -> str:
    """How messages name an image: "image 17", with its file where the data set has one."""
    if not isinstance(dataset, AnnotatedImages):
        return f"image {index}"
    return f"image {index} ({dataset.records[index].image})"


# ---------------------------------------------------------------------- ahead of time


def prefetch(make: Callable[[T], U], items: Iterable[T], workers: int) -> Generator[U]:
    """`make` of each item, in order; `workers` threads make the next ones meanwhile, at most one more than they are.

    With 0 workers each is made when it is asked for. What `make` raises is raised when its turn comes. Close the
    iterator (`contextlib.closing`) where it may be left early: then the threads end.
    """
    if workers == 0:
        yield from map(make, items)
        return
    pool = ThreadPoolExecutor(workers, "rcnn-loader")  # made here, so that a forked child has threads of its own
    ahead: deque[Future[U]] = deque()
    try:
        for item in items:
            ahead.append(pool.submit(make, item))
            if len(ahead) > workers:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)

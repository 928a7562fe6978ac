"""The data loader for training: it reads and augments the images of each step, and prefetches them in threads.

The images of a step and their augmentation depend only on the seed and the step, not on the number of threads.
"""

from __future__ import annotations

import contextvars
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from rcnn import transform
from rcnn._validate import counted
from rcnn.data import AnnotatedImages, Dataset
from rcnn.data.protocol import pair_of
from rcnn.train.augment import Target, augment
from rcnn.train.recipe import Recipe

T = TypeVar("T")
U = TypeVar("U")


# ---------------------------------------------------------------------- reading


@dataclass(frozen=True)
class TrainingBatch:
    """Images ready for the network, with their targets.

    Attributes
    ----------
    indices : list of int
        Indices of the images in the data set.
    images : rcnn.transform.Batch
        The images, resized, normalised and padded.
    targets : list of dict
        For each image with G objects, the training target {"boxes": (G, 4), "labels": (G,)}. The boxes are in pixel
        coordinates of the augmented image before resizing.
    complete : list of dict
        For each image, the unchanged target of the data set, including difficult objects and crowds.
    first : int
        Position of the first image in the batch of all processes; see `rcnn.train.parallel`. In a single process, it is
        0.
    """

    indices: list[int]
    images: transform.Batch
    targets: list[Target]
    complete: list[Target]
    first: int = 0


@dataclass(frozen=True)
class Loader:
    """Reader of training batches from a data set.

    Attributes
    ----------
    dataset : Dataset
        The images and their targets.
    make_batch : callable
        Function (images, scales) -> `rcnn.transform.Batch`, such as `FasterRCNN.make_batch`.
    """

    dataset: Dataset
    make_batch: Callable[[Sequence[Any], Sequence[float]], transform.Batch]

    def load(
        self, indices: Sequence[int], recipe: Recipe | None = None, step: int = 0, first: int = 0
    ) -> TrainingBatch:
        """Read and augment images, and return them as a batch.

        Parameters
        ----------
        indices : sequence of int
            Indices of the images in the data set.
        recipe : Recipe, optional
            The recipe, which contains the seed and the settings of the augmentation. By default, images are not
            changed.
        step : int
            Number of the batch, starting from 0. It determines the random numbers of the augmentation.
        first : int
            Position of the first image in its batch, if `indices` is only a part of the batch.

        Returns
        -------
        TrainingBatch
            The images and their targets.

        Raises
        ------
        TypeError, ValueError
            If an image or a target is invalid. The message names the image.
        Exception
            Any error that the data set raises while it reads an image, with an added note that names the image.
        """
        read = [read_image(self.dataset, index) for index in indices]
        images, complete = [image for image, _ in read], [target for _, target in read]
        targets = [
            training_target(self.dataset, index, target) for index, target in zip(indices, complete, strict=True)
        ]
        try:
            scales = [1.0] * len(indices)
            if recipe is not None:
                images, targets, scales = augment(images, targets, recipe, step, first)
            batch = self.make_batch(images, scales)
        except (ValueError, TypeError):
            for index, (image, _) in zip(indices, read, strict=True):  # name the invalid image
                transform.as_image(image, describe(self.dataset, index))
            raise
        return TrainingBatch(list(indices), batch, targets, complete, first)


def read_image(dataset: Dataset, index: int) -> tuple[Any, Target]:
    """Return an image of a data set and its target.

    Parameters
    ----------
    dataset : Dataset
        The data set.
    index : int
        Index of the image.

    Returns
    -------
    image : image
        The image, in any form that `rcnn.transform.as_image` accepts.
    target : dict
        Its target.

    Raises
    ------
    Exception
        Any error that the data set raises, with an added note that names the image.
    """
    try:
        return pair_of(dataset, index)
    except Exception as error:
        error.add_note(f"The error occurred while reading {describe(dataset, index)}.")
        raise


def training_target(dataset: Dataset, index: int, target: Target) -> Target:
    """Return the validated target of an image, without difficult objects and crowds.

    Parameters
    ----------
    dataset : Dataset
        The data set.
    index : int
        Index of the image.
    target : dict
        The target of the image.

    Returns
    -------
    dict
        {"boxes": (G, 4), "labels": (G,)} of G objects.

    Raises
    ------
    TypeError, ValueError
        If the target is invalid. The message names the image.
    """
    try:
        checked = transform.check_target(target, "target", len(dataset.classes), np.float64)
        kept = counted(target, len(checked["boxes"]), "target")  # (G,)
        return {name: array[kept] for name, array in checked.items()}
    except (ValueError, TypeError) as error:
        raise type(error)(f"{describe(dataset, index)}: {error}") from error


def describe(dataset: Dataset, index: int) -> str:
    """Return a description of an image for messages: its index, and its file if the data set has files.

    Parameters
    ----------
    dataset : Dataset
        The data set.
    index : int
        Index of the image.

    Returns
    -------
    str
        For example, "image 17 (photos/cat.jpg)".
    """
    if not isinstance(dataset, AnnotatedImages):
        return f"image {index}"
    return f"image {index} ({dataset.records[index].image})"


# ---------------------------------------------------------------------- prefetching


def prefetch(make: Callable[[T], U], items: Iterable[T], workers: int) -> Generator[U]:
    """Yield `make(item)` for each item, in order, while threads compute the next results.

    At most `workers` + 1 results are waiting or being computed. The threads run in copies of the caller's context, so
    that `with use_backend(...)` applies to them, too. If `make` raises an error for an item, the caller receives this
    error when it requests the result of the item. If `items` raises an error, the results of the items before it come
    first, as without threads. If you may leave the loop early, close the iterator (`contextlib.closing`), so that the
    threads stop.

    Parameters
    ----------
    make : callable
        Function that takes one item.
    items : iterable
        The items.
    workers : int
        Number of threads. With 0, or on a platform without threads, each result is computed when it is requested.

    Yields
    ------
    object
        The results, in the order of the items.
    """
    if workers == 0 or not _can_start_threads():
        yield from map(make, items)
        return
    pool = ThreadPoolExecutor(workers, "rcnn-loader")  # created here, so that a forked process gets its own threads
    ahead: deque[Future[U]] = deque()
    rest, stop = iter(items), None
    try:
        while stop is None:
            try:
                ahead.append(pool.submit(contextvars.copy_context().run, make, next(rest)))
            except BaseException as error:  # also StopIteration, and KeyboardInterrupt after Ctrl-C
                stop = error
            while len(ahead) > (workers if stop is None else 0):
                yield ahead.popleft().result()
        if not isinstance(stop, StopIteration):
            raise stop
    finally:
        pool.shutdown(cancel_futures=True)


def _can_start_threads() -> bool:
    """Return whether this platform can start threads. A browser cannot."""
    try:
        thread = threading.Thread(target=int)
        thread.start()
    except RuntimeError:
        return False
    thread.join()
    return True

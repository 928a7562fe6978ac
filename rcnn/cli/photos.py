"""Detection in groups of image files: threads or other processes read the images, detect objects, and draw them."""

from __future__ import annotations

import argparse
import os
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from rcnn import images
from rcnn._ext import backend
from rcnn._files import write_whole
from rcnn.cli.annotations import Entry, describe
from rcnn.cli.jobs import Command, Lost, Pool
from rcnn.cli.prediction import OPTIONS, with_options
from rcnn.cli.process import message
from rcnn.cli.shared import load_weights
from rcnn.data.items import DARK
from rcnn.data.report import KINDS
from rcnn.train.loader import prefetch

MIN_SCORE = 0.5  # detections above this score are drawn and counted
WORKERS = 2  # threads that draw; one more reads
DETECTORS = 2  # threads that detect in different groups; each uses its share of the processors
ERRORS = (OSError, ValueError, MemoryError)  # errors of one image; the command still processes the others
# The options that change the detections in an image. All images of a batch are padded to the same size, which changes
# their detections a little. --max-pixels only determines which images are read.
DETECTION_OPTIONS = ("score", "batch", *OPTIONS)
TASK_OPTIONS = ("weights", *DETECTION_OPTIONS)
Outcome = tuple[Entry, list[Entry]] | str  # the entry and the detections of an image, or an error message


@dataclass(frozen=True)
class Photo:
    """An image file, and the path of its drawing, or None if it is not drawn."""

    file: Path
    drawing: Path | None = None


@dataclass
class Result:
    """The result for a group of files.

    Attributes
    ----------
    outcomes : list
        For each file, in order, the file and its `Outcome`.
    warnings : list of str
        Warnings about the files.
    """

    outcomes: list[tuple[Path, Outcome]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Task:
    """Detection in groups of image files, as a function that other processes can call.

    Attributes
    ----------
    command : Command
        The command, with the options in `TASK_OPTIONS`.
    """

    command: Command

    def __call__(self, photos: Sequence[Photo]) -> Result:
        """Return the result for a group of files."""
        with self.command.loaded(_load) as detector:
            return _process(detector, self.command.options.score, photos)


class Names:
    """Names of drawings in a folder.

    Parameters
    ----------
    folder : Path
        The folder.
    taken : iterable of Path
        Files that a drawing must not replace.
    """

    def __init__(self, folder: Path, taken: Iterable[Path]) -> None:
        self.folder = folder
        self.taken = set(map(_identity, taken))
        self.last: dict[str, int] = {}  # the last number that was tried for each name

    def new(self, stem: str, suffix: str = ".png") -> Path:
        """Return the path of a new drawing, and reserve it. If the name is taken, add a number to it."""
        key = f"{stem}{suffix}".casefold()
        number = self.last.get(key, 0)
        while True:
            number += 1
            path = self.folder / (f"{stem}{suffix}" if number == 1 else f"{stem}-{number}{suffix}")
            if (identity := _identity(path)) not in self.taken:
                break
        self.last[key] = number
        self.taken.add(identity)
        return path


def detect_groups(
    model: Any, groups: Iterable[Sequence[Photo]], score: float | None = None, workers: int = 0
) -> Generator[Result]:
    """Yield the result for each group of files, in order.

    The keys of an entry are "file", "drawing" (the path of the PNG, if the image is drawn), "size" ("width" and
    "height" of the image after its EXIF rotation) and "detections". The keys of a detection are "box" (x1, y1, x2, y2
    in pixel coordinates of this image), "score", "label" and, if the model has class names, "name". Without `score`,
    the entry has all detections of the model, and those above `MIN_SCORE` are drawn and are in the second part of the
    outcome.

    The images of a group are processed together. With `workers`, this many threads draw, one more thread reads, and up
    to `DETECTORS` threads detect in different groups. Without `workers`, there is only one group in memory.
    """
    detecting = min(workers, DETECTORS)
    detect = partial(_detect, model, score, max(1, backend.get_num_threads() // max(1, detecting)))
    with ExitStack() as stack:
        read = stack.enter_context(closing(prefetch(_read, groups, min(workers, 1))))
        detected = stack.enter_context(closing(prefetch(detect, read, detecting)))
        yield from stack.enter_context(closing(prefetch(partial(_finish, model, score), detected, workers)))


def detect_in_pool(pool: Pool, options: argparse.Namespace, groups: Iterable[Sequence[Photo]]) -> Generator[Result]:
    """Yield the result for each group of files, in order, from other processes; see `detect_groups`."""
    task = Task(pool.command(options, TASK_OPTIONS))
    for result in pool.map(task, groups, lambda group: ", ".join(str(photo.file) for photo in group)):
        if isinstance(result, Lost):
            reason = f"two worker processes died while they worked on it ({result.reason})"
            result = Result([(photo.file, f"{photo.file}: {reason}") for photo in result.item])
        yield result


def _load(options: argparse.Namespace) -> Any:
    return with_options(load_weights(options.weights), options)


@dataclass
class _Image:
    """An image file with its pixels and detections, or with an error."""

    photo: Photo
    image: np.ndarray | None = None
    found: Mapping[str, np.ndarray] = field(default_factory=dict)
    error: str = ""


@dataclass
class _Group:
    """The images of a group, and warnings about them."""

    images: list[_Image] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def _process(model: Any, score: float | None, photos: Sequence[Photo]) -> Result:
    return _finish(model, score, _detect(model, score, backend.get_num_threads(), _read(photos)))


def _read(photos: Sequence[Photo]) -> _Group:
    """Read the images of a group."""
    group = _Group()
    for photo in photos:
        try:
            image = images.read(photo.file)  # (H, W, 3)
            if image.max() <= DARK and images.header(photo.file).sixteen_bit:
                dark = KINDS["dark-image"]
                group.warnings.append(f"{photo.file}: {dark.sentence}; {dark.remedy}")
        except ERRORS as error:
            group.images.append(_Image(photo, error=error_text(photo.file, error)))
        else:
            group.images.append(_Image(photo, image))
    return group


def _detect(model: Any, score: float | None, threads: int, group: _Group) -> _Group:
    """Detect objects in the images of a group, on a given number of threads; return the group."""
    readable = [one for one in group.images if one.image is not None]
    with backend.set_num_threads(threads):
        for one, found in zip(readable, _predict(model, [one.image for one in readable], score), strict=True):
            if isinstance(found, Exception):
                one.image, one.error = None, error_text(one.photo.file, found)
            else:
                one.found = found
    return group


def _predict(
    model: Any, images_: list[np.ndarray | None], score: float | None
) -> list[Mapping[str, np.ndarray] | Exception]:
    """Return the detections in each image; after an error in a group, process its images one by one."""
    if not images_:
        return []
    try:
        return list(model.predict(images_, score_thresh=score))
    except ERRORS as error:
        if len(images_) == 1:
            return [error]
    return [found for image in images_ for found in _predict(model, [image], score)]


def _finish(model: Any, score: float | None, group: _Group) -> Result:
    """Draw the detections above `score` in the images of a group to files; return the result for the group."""
    result = Result(warnings=group.warnings)
    group.images.reverse()
    while group.images:  # an image that was drawn is not kept in memory
        one = group.images.pop()
        result.outcomes.append((one.photo.file, _outcome(model, score, one)))
    return result


def _outcome(model: Any, score: float | None, one: _Image) -> Outcome:
    """Draw the detections of an image to a file; return its entry and the detections above `score`, or an error."""
    if one.image is None:
        return one.error
    entry: Entry = {"file": str(one.photo.file)}
    try:
        if one.photo.drawing is not None:
            entry["drawing"] = str(one.photo.drawing)
            drawing = draw(model, one.image, one.found, score)
            write_whole(one.photo.drawing, images.as_png(drawing), flush=False)
    except ERRORS as error:
        return error_text(one.photo.file, error)
    size_and_detections, shown = summarize(model, one.image, one.found, score)
    return {**entry, **size_and_detections}, shown


def draw(model: Any, image: np.ndarray, found: Mapping[str, np.ndarray], score: float | None) -> np.ndarray:
    """Return an image with the boxes of its detections above `score`."""
    from rcnn import plot  # imports matplotlib, which is slow

    shown = _above(found, score)  # (D,)
    names = model.config.class_names
    return plot.annotate(image, found["boxes"][shown], found["scores"][shown], found["labels"][shown], names)


def summarize(
    model: Any, image: np.ndarray, found: Mapping[str, np.ndarray], score: float | None
) -> tuple[Entry, list[Entry]]:
    """Return an entry with the size of an image and all its detections, and a list of those above `score`."""
    height, width = image.shape[:2]
    detections = describe(found, model.config.class_names)
    entry = {"size": {"width": width, "height": height}, "detections": detections}
    return entry, [one for one, above in zip(detections, _above(found, score), strict=True) if above]


def _above(found: Mapping[str, np.ndarray], score: float | None) -> np.ndarray:
    return found["scores"] > (MIN_SCORE if score is None else score)  # (D,)


def error_text(file: Path, error: Exception) -> str:
    """Return the message of an error, which starts with the path of the file, as in the errors of `images.read`."""
    text = message(error)
    return text if text.startswith((f"{file} ", f"{file}:")) else f"{file}: {text}"


def _identity(path: Path) -> str:
    """Return a text that is equal for all paths of a file, even if the file system does not distinguish A from a."""
    return os.path.realpath(path).casefold()

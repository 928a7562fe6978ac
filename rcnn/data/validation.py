"""Validation of a data set before training.

`validate` reads every image once. It lists every kind of problem that it finds, with the number of occurrences and the
first examples. (A data set itself raises an error at the first problem.) A problem with severity "error" must be fixed
before training; a "warning" is worth checking. `rcnn.data.report.KINDS` lists all kinds of problems.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from tqdm import tqdm

from rcnn._validate import FLAG, as_index_array, integer, shown
from rcnn.data import faults, overlay
from rcnn.data.items import Item, Items
from rcnn.data.protocol import check_dataset
from rcnn.data.records import Annotations
from rcnn.data.report import Counts, Notes, Problem, Report


@np.errstate(all="ignore")  # a coordinate can be infinite, or too large for the dtype of a result
def validate(
    dataset: Any, examples: int = 5, progress: bool = True, to_learn: bool = True, only: Sequence[int] | None = None
) -> Report:
    """Count the images and objects of a data set, and list its problems.

    Parameters
    ----------
    dataset : Dataset or Annotations
        A data set, or the annotations that a reader such as `read_voc` returned. For `AnnotatedImages` and
        `Annotations`, the original values of the files are checked, so that one invalid box does not hide other
        problems.
    examples : int
        Number of examples to list for each problem.
    progress : bool
        Show a progress bar.
    to_learn : bool
        True if the data set is for training. Classes with few objects are then reported as a problem.
    only : sequence of int, optional
        Ascending indices of the images to check. By default, all images are checked.

    Returns
    -------
    Report
        Counts and problems. Its `ok` is True if there are no errors.

    Raises
    ------
    TypeError, ValueError
        If `dataset` is not a data set, `examples` is below 1, or `only` contains an index without an image.

    Examples
    --------
    >>> from rcnn import data
    >>> report = data.validate(data.Shapes(20), progress=False)
    >>> report.ok, report.problems
    (True, ())
    """
    examples = integer(1).check("examples", examples)
    FLAG.check("progress", progress)
    if not isinstance(dataset, Annotations):
        check_dataset(dataset)
    items, notes = Items(dataset), Notes(examples)
    faults.note_broken(dataset, notes)
    chosen = np.arange(len(items)) if only is None else as_index_array(only, "only")
    if len(chosen) and not 0 <= chosen.min() <= chosen.max() < len(items):
        raise ValueError(f"only must contain indices from 0 to {len(items) - 1}, got {shown(chosen)}")
    looked_at = set(chosen[overlay.sample(len(chosen))].tolist())
    seen: list[Item] = []
    reduced: list[overlay.Reduced] = []
    digests: list[bytes | None] = []  # one for each element of `seen`
    for index in tqdm(chosen.tolist(), desc="check", unit="image", disable=None if progress else True):
        item = items.read(index, notes)
        if item is None:
            continue
        faults.check_item(item, items.classes, notes)
        digests.append(None if item.image is None else _digest(item.image))
        if index in looked_at and item.image is not None and item.upright is not None:
            reduced.append(overlay.reduce_image(index, item.image, faults.with_area(item.upright)))
        seen.append(replace(item, image=None))  # drop the image, because all images together would fill the memory

    counts = _count(seen, items.classes, len(chosen))
    faults.check_coordinates(seen, overlay.examine(reduced), notes)
    faults.check_classes(items.classes, counts, to_learn, notes)
    faults.note_linked_folders(seen, notes)
    first = faults.check_copies(seen, digests, notes)
    return Report(counts, notes.problems(), first)


def shared_images(first: tuple[str, Report], second: tuple[str, Report], examples: int = 5) -> tuple[Problem, ...]:
    """Find images of a split that are also in another split, by comparing all pixels.

    Parameters
    ----------
    first, second : (str, Report)
        Name and report of the two splits. Examples are images of the second split.
    examples : int
        Number of examples to list.

    Returns
    -------
    tuple of Problem
        One problem of the kind "shared-image", or an empty tuple.
    """
    (name, report), notes = first, Notes(examples)
    for digest, example in second[1].digests.items():
        if digest in report.digests:
            notes.add("shared-image", replace(example, detail=f"same as {report.digests[digest].place} of {name}"))
    return notes.problems()


def _digest(image: np.ndarray) -> bytes:
    """Return a 16-byte hash of an image (H, W, 3) uint8; in practice, only equal images have equal hashes."""
    shape = repr(image.shape).encode()
    return hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16, key=shape).digest()


def _count(seen: list[Item], classes: tuple[str, ...], images: int) -> Counts:
    """Count images and objects; an object whose label has no class is counted only in `objects`."""
    labels = np.concatenate([np.zeros(0, np.int64), *(item.labels[item.counted] for item in seen)])  # (N,)
    known = labels[(labels > 0) & (labels < len(classes))]
    numbers = np.bincount(known, minlength=len(classes)).tolist()  # (L,)
    per_class = dict(zip(classes[1:], numbers[1:], strict=True))
    boxes = sum(len(item.boxes) for item in seen)
    return Counts(images, sum(len(item.boxes) == 0 for item in seen), len(labels), boxes - len(labels), per_class)

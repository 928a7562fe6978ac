"""What is wrong with a data set, said before training shows it in its own obscure way.

`validate` reads every image once and lists every problem with its count and its first examples, where a data set by
itself raises an error at the first. Problems of severity "error" must be mended before training starts; a "warning"
is worth a look. `rcnn.data.report.KINDS` has all that are looked for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from tqdm import tqdm

from rcnn.data import faults, overlay
from rcnn.data.items import Item, Items
from rcnn.data.report import Counts, Notes, Problem, Report


def validate(
    dataset: Any, examples: int = 5, progress: bool = True, to_learn: bool = True, only: Sequence[int] | None = None
) -> Report:
    """What `dataset` has, and what is wrong with it.

    Args:
        dataset: any `Dataset`. `AnnotatedImages` and the `Annotations` of a reader are looked at as they are written,
            so that one wrong box does not hide the next.
        examples: how many of each problem are described.
        progress: whether to show a bar.
        to_learn: whether it is to train with; few objects of a class are nothing wrong in a set to measure with.
        only: the indices of the images to look at, rising; None for all.
    """
    if examples < 1:
        raise ValueError(f"examples must be at least 1, got {examples!r}")
    items, notes = Items(dataset), Notes(examples)
    faults.note_broken(dataset, notes)
    chosen = np.arange(len(items)) if only is None else np.asarray(only, np.int64)
    looked_at = set(chosen[overlay.sample(len(chosen))].tolist())
    seen: list[Item] = []
    reduced: list[overlay.Reduced] = []
    digests: list[bytes | None] = []  # of each that was seen
    for index in tqdm(chosen.tolist(), desc="check", unit="image", disable=not progress):
        item = items.read(index, notes)
        if item is None:
            continue
        faults.check_item(item, items.classes, notes)
        digests.append(None if item.image is None else _digest(item.image))
        if index in looked_at and item.image is not None and item.upright is not None:
            reduced.append(overlay.reduce_image(index, item.image, faults.with_area(item.upright)))
        seen.append(replace(item, image=None))  # which would fill the memory

    counts = _count(seen, items.classes, len(chosen))
    faults.check_coordinates(seen, overlay.examine(reduced), notes)
    faults.check_classes(items.classes, counts, to_learn, notes)
    first = faults.check_copies(seen, digests, notes)
    return Report(counts, notes.problems(), first)


def shared_images(train: Report, val: Report, examples: int = 5) -> tuple[Problem, ...]:
    """The problem that images of `val` are in `train`, too, pixel by pixel; nothing where none is."""
    notes = Notes(examples)
    for digest, example in val.digests.items():
        if digest in train.digests:
            notes.add("shared-image", replace(example, detail=f"is {train.digests[digest].place} of train"))
    return notes.problems()


def _digest(image: np.ndarray) -> bytes:
    """The same 16 bytes for images (H, W, 3) uint8 that are equal, and for no others."""
    shape = repr(image.shape).encode()
    return hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16, key=shape).digest()


def _count(seen: list[Item], classes: tuple[str, ...], images: int) -> Counts:
    """How much there is; objects whose label has no class are in `objects` and in no class."""
    labels = np.concatenate([np.zeros(0, np.int64), *(item.labels[item.counted] for item in seen)])  # (N,)
    per_class = {name: int((labels == label).sum()) for label, name in enumerate(classes) if label}
    boxes = sum(len(item.boxes) for item in seen)
    return Counts(images, sum(len(item.boxes) == 0 for item in seen), len(labels), boxes - len(labels), per_class)

"""Faults that `rcnn.data.validate` looks for, in each image and in the data set as a whole."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rcnn.boxes import clip
from rcnn.data.items import Item
from rcnn.data.overlay import Verdict
from rcnn.data.records import UNKNOWN, Annotations
from rcnn.data.report import WHOLE, Counts, Example, Notes
from rcnn.transform import Size

BACKGROUND = "background"
MAX_EXCESS = 1.0  # pixels that a box may extend beyond its image, because annotation programs round coordinates

# A class has few objects if it has fewer than HANDFUL. It also has few objects if it has fewer than FEW and the median
# over all classes is at least MANY_TIMES its number.
FEW, HANDFUL = 10, 5
MANY_TIMES = 4
MOSTLY = 0.5  # a larger fraction of images without objects is reported

# A wrong format of all boxes is reported if enough boxes support this conclusion and almost none contradict it.
MIN_EVIDENCE, MIN_SHARE = 5, 0.1  # minimum number and minimum fraction of supporting boxes
MAX_AGAINST = 0.02  # maximum ratio of contradicting boxes to supporting boxes


def note_broken(dataset: Any, notes: Notes) -> None:
    """Add a problem to `notes` for each entry that is unreadable or missing, or was skipped or fixed.

    Parameters
    ----------
    dataset : Dataset or Annotations
        The data set. A problem is added for each entry of its lists `skipped` and `fixed`, or for each unreadable entry
        of annotations.
    notes : Notes
        Collector to which the problems are added.
    """
    skipped, fixed = getattr(dataset, "skipped", ()), getattr(dataset, "fixed", ())
    unreadable = dataset.unreadable() if isinstance(dataset, Annotations) else ()
    for kind, entries in (
        ("left-out", skipped),
        ("cut-box", fixed),
        ("unreadable-annotation", unreadable),
        ("unannotated-image", getattr(dataset, "unannotated", ())),
    ):
        for broken in entries:
            notes.add(kind, Example(str(broken.source), detail=str(broken.reason)))


def note_linked_folders(seen: Sequence[Item], notes: Notes) -> None:
    """Add a problem for each image folder that is a link, because its images may be outside the data set.

    Parameters
    ----------
    seen : sequence of Item
        The images that could be read.
    notes : Notes
        Collector to which the problems are added.
    """
    for folder in sorted({item.file.parent for item in seen if item.file is not None}):
        if folder.is_symlink():
            notes.add("linked-folder", Example(str(folder), detail=f"link to {os.path.realpath(folder)}"))


# ---------------------------------------------------------------------- one image


def check_item(item: Item, classes: Sequence[str], notes: Notes) -> None:
    """Add a problem for each invalid box, each label without a class, and each duplicate box of an image.

    Parameters
    ----------
    item : Item
        The image.
    classes : sequence of str
        Class names in the order of their labels, starting with the background.
    notes : Notes
        Collector to which the problems are added.
    """
    _check_boxes(item, notes)
    _check_labels(item, classes, notes)
    _check_duplicates(item, notes)


def with_area(boxes: np.ndarray) -> np.ndarray:
    """Return the boxes that are finite and have a positive width and height.

    Parameters
    ----------
    boxes : (G, 4) array
        Boxes in pixels.

    Returns
    -------
    (K, 4) array
        The K boxes that remain, in the same order.
    """
    return boxes[np.isfinite(boxes).all(axis=1) & (boxes[:, 2:] > boxes[:, :2]).all(axis=1)]


def _check_boxes(item: Item, notes: Notes) -> None:
    finite = np.isfinite(item.boxes).all(axis=1)  # (G,)
    with np.errstate(over="ignore"):
        single = item.boxes.astype(np.float32)  # as in training, where the sides of a very thin box round to 0
    full = (single[:, 2:] > single[:, :2]).all(axis=1)  # (G,)
    outside = np.zeros(len(item.boxes), np.bool_) if item.size is None else ~_fits(item.boxes, item.size)
    faults = {"not-finite": ~finite, "empty-box": finite & ~full, "box-outside": finite & full & outside}
    for kind, wrong in faults.items():
        for i in np.flatnonzero(wrong):
            notes.add(kind, item.example(_box_words(item, int(i), kind == "box-outside"), int(i)))


def _fits(boxes: np.ndarray, size: Size) -> np.ndarray:
    """Return a (G,) mask of boxes that exceed the image by at most `MAX_EXCESS` and are not empty after clipping."""
    cut = clip(boxes, size)
    single = cut.astype(np.float32)  # as in training
    with np.errstate(invalid="ignore"):  # infinity minus infinity
        near = (np.abs(boxes - cut) <= MAX_EXCESS).all(axis=1)
    return np.asarray(near & (single[:, 2:] > single[:, :2]).all(axis=1))


def _box_words(item: Item, i: int, with_size: bool = False) -> str:
    """Describe a box by its coordinates and its class."""
    numbers = ", ".join(f"{x:.10g}" for x in item.boxes[i].tolist())
    size = f" in an image {item.size[1]} pixels wide and {item.size[0]} high" if with_size and item.size else ""
    name = f" {item.names[i]!r}" if item.names else ""
    return f"({numbers}){name}{size}"


def _check_labels(item: Item, classes: Sequence[str], notes: Notes) -> None:
    for i, label in enumerate(item.labels.tolist()):
        if 1 <= label < len(classes):
            continue
        if item.names is not None and label == UNKNOWN:
            notes.add("unknown-class", item.example(repr(item.names[i]), i))
        elif label == 0:
            notes.add("background-label", item.example(_box_words(item, i), i))
        else:
            notes.add("label-range", item.example(f"label {label}; labels are 1 to {len(classes) - 1}", i))


def _check_duplicates(item: Item, notes: Notes) -> None:
    first: dict[tuple[float, ...], int] = {}
    for i, (box, label) in enumerate(zip(item.boxes.tolist(), item.labels.tolist(), strict=True)):
        twin = first.setdefault((*box, label), i)
        if twin != i:
            notes.add("duplicate-box", item.example(f"{_box_words(item, i)} repeats box {twin}", i))


# ---------------------------------------------------------------------- the format of all boxes


def check_coordinates(seen: Sequence[Item], verdict: Verdict | None, notes: Notes) -> None:
    """Add a problem for each fault that all boxes of the data set have in common.

    Parameters
    ----------
    seen : sequence of Item
        The images that could be read.
    verdict : Verdict or None
        Result of `overlay.examine`. It is reported if the coordinates alone show no fault.
    notes : Notes
        Collector to which the problems are added.
    """
    sized = [item for item in seen if item.size is not None]
    owners = np.repeat(np.arange(len(sized)), [len(item.boxes) for item in sized])  # (N,)
    boxes = np.concatenate([np.zeros((0, 4)), *(item.boxes for item in sized)])  # (N, 4)
    finite = np.isfinite(boxes).all(axis=1)
    numbers = np.concatenate([np.zeros(0, np.int64), *(np.arange(len(item.boxes)) for item in sized)])  # (N,)
    boxes, owners, numbers = boxes[finite], owners[finite], numbers[finite]
    sizes = np.array([item.size for item in sized], np.float64).reshape(-1, 2)[owners]  # (N, 2)
    if len(boxes) == 0:
        return
    by_numbers = _relative(boxes) or _widths_and_heights(boxes, sizes) or _swapped(boxes, sizes)
    if by_numbers:
        kind, words = by_numbers
        notes.add(kind, Example(WHOLE, detail=words), len(boxes))
    elif verdict is not None:
        _note_verdict(verdict, {item.index: item for item in seen}, notes)
    for i in _before_the_image(boxes, sizes):
        item, number = sized[owners[i]], int(numbers[i])
        notes.add("counts-from-0", item.example(_box_words(item, number), number))


def _note_verdict(verdict: Verdict, items: Mapping[int, Item], notes: Notes) -> None:
    """Add a verdict to `notes`, with an example for each pair of images or for the whole data set."""
    if not verdict.pairs:
        notes.add(verdict.kind, Example(WHOLE, detail=verdict.numbers), verdict.count)
    for index, other in verdict.pairs:
        notes.add(verdict.kind, items[index].example(f"its boxes fit {items[other].place}"))


def _relative(boxes: np.ndarray) -> tuple[str, str] | None:
    """Return (kind, detail) of a problem if all coordinates of `boxes` (N, 4) are fractions of the image size."""
    whole = boxes.min() >= 0 and boxes.max() <= 1
    return ("relative-boxes", "every coordinate lies between 0 and 1") if whole else None


def _widths_and_heights(boxes: np.ndarray, sizes: np.ndarray) -> tuple[str, str] | None:
    """Return (kind, detail) of a problem if many of the boxes (N, 4) seem to be written as x, y, width, height."""
    empty = (boxes[:, 2:] <= boxes[:, :2]).any(axis=1)  # (N,)
    as_corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
    fit = _inside(as_corners, sizes) & (boxes[:, 2:] > 0).all(axis=1)
    if not _is_evident(empty & fit, ~fit):
        return None
    words = "boxes have x2 <= x1 or y2 <= y1; if read as x, y, width, height, they lie in their images"
    return "width-height", f"{(empty & fit).sum()} of {len(boxes)} {words}"


def _swapped(boxes: np.ndarray, sizes: np.ndarray) -> tuple[str, str] | None:
    """Return (kind, detail) of a problem if x and y seem to be swapped in many of the boxes (N, 4)."""
    fit, fit_swapped = _inside(boxes, sizes), _inside(boxes[:, [1, 0, 3, 2]], sizes)
    leave = ~fit & fit_swapped
    if not _is_evident(leave, fit & ~fit_swapped):
        return None
    words = "boxes extend beyond their images; with x and y swapped, they lie inside"
    return "swapped-axes", f"{leave.sum()} of {len(boxes)} {words}"


def _is_evident(supporting: np.ndarray, contradicting: np.ndarray) -> bool:
    """Return True if enough of N boxes support a conclusion and almost none contradict it; both masks are (N,)."""
    count = supporting.sum()
    return bool(count >= max(MIN_EVIDENCE, MIN_SHARE * len(supporting)) and contradicting.sum() <= MAX_AGAINST * count)


def _inside(boxes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Return an (N,) mask of boxes (N, 4) that exceed images of `sizes` (N, 2) by at most `MAX_EXCESS`."""
    low = (boxes[:, :2] >= -MAX_EXCESS).all(axis=1) & (boxes[:, 2:] >= -MAX_EXCESS).all(axis=1)
    limits = sizes[:, ::-1] + MAX_EXCESS  # (N, 2) of x and y
    return np.asarray(low & (boxes[:, :2] <= limits).all(axis=1) & (boxes[:, 2:] <= limits).all(axis=1))


def _before_the_image(boxes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Return the indices of the boxes (N, 4) that begin at -1.

    Such boxes show that the annotations count pixels from 0, but were read as if they counted from 1. If any negative
    x1 or y1 is not -1, or any box ends beyond its image, there is another cause and the result is empty.
    """
    early = (boxes[:, :2] == -1).any(axis=1)  # (N,)
    if boxes[:, :2].min() < -1 or (boxes[:, :2][boxes[:, :2] < 0] != -1).any() or (boxes[:, 2:] > sizes[:, ::-1]).any():
        return np.zeros(0, np.int64)
    return np.flatnonzero(early)


# ---------------------------------------------------------------------- classes


def check_classes(classes: Sequence[str], counts: Counts, to_learn: bool, notes: Notes) -> None:
    """Add a problem for each class with few or no objects, for similar class names, and for many empty images.

    Parameters
    ----------
    classes : sequence of str
        Class names in the order of their labels, starting with the background.
    counts : Counts
        Numbers of images and objects in the data set.
    to_learn : bool
        True if the data set is for training. If False, classes with few objects are not a problem.
    notes : Notes
        Collector to which the problems are added.
    """
    if not counts.images:
        notes.add("no-images", Example(WHOLE))
        return
    if classes[:1] != (BACKGROUND,):
        notes.add("no-background", Example("classes", detail=", ".join(map(repr, classes))))
    _check_names(classes, notes)
    if counts.objects == 0:
        ignored = f"{counts.ignored} objects are difficult or crowds" if counts.ignored else ""
        notes.add("no-objects", Example(WHOLE, detail=ignored))
        return
    if counts.empty > MOSTLY * counts.images:
        notes.add("mostly-empty", Example(WHOLE, detail=f"{counts.empty} of {counts.images} images"), counts.empty)
    median = float(np.median([count for count in counts.per_class.values() if count] or [0]))
    for label, (name, count) in enumerate(counts.per_class.items(), start=1):
        if count == 0:
            notes.add("unused-class", Example(repr(name), detail=f"label {label}"))
        elif to_learn and (count < HANDFUL or (count < FEW and MANY_TIMES * count <= median)):
            notes.add("few-examples", Example(repr(name), detail=f"{count}"))


def _check_names(classes: Sequence[str], notes: Notes) -> None:
    plain: dict[str, str] = {}
    for name in classes:
        other = plain.setdefault(re.sub(r"[\s_-]+", "", name).casefold(), name)
        if other is not name:
            notes.add("similar-names", Example(f"{other!r} and {name!r}"))


# ---------------------------------------------------------------------- copies


def check_copies(seen: Sequence[Item], digests: Sequence[bytes | None], notes: Notes) -> dict[bytes, Example]:
    """Add a problem for each file that is listed twice, and for each image that has the same pixels as another.

    Parameters
    ----------
    seen : sequence of Item
        The images that could be read.
    digests : sequence of bytes or None
        Digest (a hash) of the pixels of each image; None if the image cannot be read.
    notes : Notes
        Collector to which the problems are added.

    Returns
    -------
    dict from bytes to Example
        Maps each digest to the first image that has it.
    """
    files: dict[str, Item] = {}
    first: dict[bytes, Item] = {}
    for item, digest in zip(seen, digests, strict=True):
        if item.file is not None:
            same_file = files.setdefault(os.path.realpath(item.file), item)
            if same_file is not item:
                notes.add("listed-twice", item.example(f"same file as {same_file.place}{_difference(item, same_file)}"))
                continue
        if digest is not None:
            twin = first.setdefault(digest, item)
            if twin is not item:
                notes.add("identical-images", item.example(f"same as {twin.place}{_difference(item, twin)}"))
    return {digest: item.example() for digest, item in first.items()}


def _difference(item: Item, other: Item) -> str:
    equal = np.array_equal(item.boxes, other.boxes) and np.array_equal(item.labels, other.labels)
    return "" if equal else ", with other boxes"

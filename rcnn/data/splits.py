"""Splits into training and validation images: from the data set, or chosen at random."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from rcnn._validate import Rule, as_float, integer, shown
from rcnn.data.reading import gather_classes, make_record, with_labels
from rcnn.data.records import AnnotatedImages, Annotations, Broken, Record
from rcnn.images import SUFFIXES

TRAIN, VAL = "train", "val"
HELD_OUT = 0.2  # fraction of the images for "val"
BETWEEN = Rule("between 0 and 1", as_float, lambda x: 0 < x < 1)
SHOWN = 10  # number of splits that a message lists
TEST = "test"
OTHER_NAMES = {  # names that some programs use, in lower case
    **dict.fromkeys(("train", "training"), TRAIN),
    **dict.fromkeys(("val", "valid", "validation", "dev"), VAL),
    **dict.fromkeys(("test", "testing"), TEST),
}
WHOLE = "default"  # CVAT's name for a data set without splits

SKIP, EMPTY = UNANNOTATED = ("skip", "empty")  # what happens to images without an annotation

Entry = Record | Broken
T = TypeVar("T", Annotations, AnnotatedImages)


def split(images: T, share: float = HELD_OUT, seed: int = 0) -> tuple[T, T]:
    """Hold out a random part of the images.

    The images are sorted by file name before the random choice, so the result does not depend on the order or the
    format of the annotations. Both parts keep the order of `images`.

    Parameters
    ----------
    images : Annotations or AnnotatedImages
        The images; there must be at least two.
    share : float
        Fraction of the images to hold out, between 0 and 1. The resulting number of images is rounded, and each part
        gets at least one image.
    seed : int
        Seed of the random choice.

    Returns
    -------
    train, val : same type as `images`
        The images for training, and the images that are held out for validation.

    Raises
    ------
    TypeError, ValueError
        If there are fewer than two images, `share` is not between 0 and 1, or an argument has the wrong type.
    """
    if not isinstance(images, (Annotations, AnnotatedImages)):
        raise TypeError(f"images must be Annotations or AnnotatedImages, got {shown(images)}")
    share = BETWEEN.check("share", share)
    seed = integer(0).check("seed", seed)
    count = len(images.records)
    if count < 2:
        raise ValueError(f"at least two images are needed to hold one out, got {count}")
    by_name = sorted(range(count), key=lambda i: _name(images.records[i].image))
    held_out = min(max(math.floor(share * count + 0.5), 1), count - 1)
    chosen = {by_name[i] for i in np.random.default_rng(seed).permutation(count)[:held_out]}
    return images.subset([i for i in range(count) if i not in chosen]), images.subset(sorted(chosen))


def _name(image: Path) -> tuple[str, str]:
    return image.name, image.as_posix()


def source_of(split_name: str | None, known: Collection[str], place: str) -> tuple[str | None, bool]:
    """Choose which images to read for a split.

    If the data set has a split "val", its splits are used unchanged. Otherwise, a fifth of the images is held out for
    "val". These images are taken from "train" if it exists, else from "trainval" if it exists, and else from all images
    if the data set has no splits.

    Parameters
    ----------
    split_name : str or None
        The requested split; None means every image.
    known : collection of str
        The splits of the data set.
    place : str
        Name of the data set, for error messages.

    Returns
    -------
    source : str or None
        The split to read; None means every image.
    hold_out : bool
        True if images must be held out from this split.

    Raises
    ------
    ValueError
        If there is no such split.

    Examples
    --------
    >>> source_of("val", ["train", "test"], "photos")
    ('train', True)
    """
    if split_name is None:
        return None, False
    if split_name in known and (split_name != TRAIN or VAL in known):
        return split_name, False
    if split_name in (TRAIN, VAL) and VAL not in known:
        source = next((name for name in (TRAIN, "trainval") if name in known), None)
        if source or not known:
            return source, True
    held_out = {TRAIN, VAL} if VAL not in known and {TRAIN, "trainval"} & set(known) else set()
    # The long names of VOC's splits for single classes come last.
    names = sorted({*known, *held_out}, key=lambda name: (len(name), name))
    hint = (
        f"it has {', '.join(names[:SHOWN])}{', ...' * (len(names) > SHOWN)}"
        if known
        else f"it has no splits of its own, so use {TRAIN} or {VAL}"
    )
    raise ValueError(f"{place} has no split {shown(split_name)}; {hint}")


def part_of(annotations: Annotations, split_name: str | None, hold_out: bool, place: str) -> Annotations:
    """Return the annotations of the requested split, given the annotations of the split that was read.

    Parameters
    ----------
    annotations : Annotations
        Annotations of the split that `source_of` returned as `source`.
    split_name : str or None
        The requested split.
    hold_out : bool
        The value that `source_of` returned.
    place : str
        Name of the data set, for error messages.

    Returns
    -------
    Annotations
        All annotations, or one of the two parts that `split` returns.

    Raises
    ------
    ValueError
        If there are no images, or if images must be held out and there is only one.
    """
    count, broken = len(annotations.records), annotations.broken
    if count < 1 + hold_out and (hold_out or not broken):
        required = f"; at least two are needed to hold one out for {VAL}" if hold_out else ""
        first = (
            f"; unreadable entries: {len(broken)}; the first is {broken[0].source}: {broken[0].reason}"
            if broken
            else ""
        )
        raise ValueError(f"{place} has {count or 'no'} image{'s' * (count != 1)}{required}{first}")
    return split(annotations)[split_name == VAL] if hold_out else annotations


def by_split(paths: Iterable[Path], name_of: Callable[[Path], str]) -> dict[str, Path]:
    """Return a dict from the names of splits, such as "train", to their paths.

    Parameters
    ----------
    paths : iterable of Path
        Files or folders, one for each split.
    name_of : callable
        Function that takes a path and returns the name of the split that the path contains.

    Returns
    -------
    dict from str to Path
        Maps the name that this package uses for a split (see `plain_name`) to the path of the split.

    Raises
    ------
    ValueError
        If two paths belong to the same split.
    """
    parts: dict[str, Path] = {}
    for path in paths:
        name = plain_name(name_of(path))
        other = parts.setdefault(name, path)
        if other != path:
            raise ValueError(
                f"{other} and {path} both contain the split {name!r}; remove one of these, or pass the path of one"
            )
    return parts


def plain_name(name: str) -> str:
    """Return the name that this package uses for a split.

    Parameters
    ----------
    name : str
        A name from a file or folder.

    Returns
    -------
    str
        "train", "val" or "test" if `name` is a synonym of one of them, in capital or small letters, else `name`.

    Examples
    --------
    >>> plain_name("Valid")
    'val'
    """
    return OTHER_NAMES.get(name.strip().lower(), name)


def split_folders(folder: Path) -> dict[str, Path]:
    """Return the subfolders of a folder that are named after a split.

    Parameters
    ----------
    folder : Path
        A folder, which need not exist.

    Returns
    -------
    dict from str to Path
        Maps "train", "val" and "test" to their folders; splits without a folder are left out.

    Raises
    ------
    ValueError
        If two subfolders belong to the same split.
    """
    children = sorted(folder.iterdir()) if folder.is_dir() else []
    named = [child for child in children if child.name.strip().lower() in OTHER_NAMES and child.is_dir()]
    return by_split(named, lambda path: path.name)


def choose(
    everything: Sequence[Entry],
    parts: Mapping[str, Callable[[], Iterable[Entry]]],
    split_name: str | None,
    place: str,
    classes: tuple[str, ...] | None,
    unannotated: str = SKIP,
    category_ids: tuple[int, ...] = (),
) -> Annotations:
    """Return the annotations of a split, given the entries of all images.

    Parameters
    ----------
    everything : sequence of Record or Broken
        Entries of all images.
    parts : mapping from str to callable
        For each split, a function that returns its entries. An image without an annotation also belongs to a split if
        all other images in its folder do.
    split_name : str or None
        The requested split; None means every image.
    place : str
        Name of the data set, for error messages.
    classes : tuple of str or None
        Class names in the order of their labels, starting with the background; None means the class names of all
        objects.
    unannotated : {"skip", "empty"}
        "skip" leaves out images without an annotation; "empty" keeps them as images without objects.
    category_ids : tuple of int
        As in `Annotations`.

    Returns
    -------
    Annotations
        The annotations of the split.

    Raises
    ------
    ValueError
        If there is no such split, the split has no images, or `unannotated` is another word.
    """
    if unannotated not in UNANNOTATED:
        raise ValueError(f"unannotated must be one of {', '.join(UNANNOTATED)}, got {shown(unannotated)}")
    wanted_split = split_name if split_name is None else plain_name(split_name)
    source, hold_out = source_of(wanted_split, parts, place)
    wanted = list(everything if source is None else parts[source]())
    spare = [entry for entry in everything if isinstance(entry, Record) and not entry.annotated]
    if source is not None:
        wanted += _of_same_folders(spare, wanted, everything)
    if unannotated == SKIP:
        wanted = [entry for entry in wanted if isinstance(entry, Broken) or entry.annotated]
    treatment = "left out" if unannotated == SKIP else "treated as an image without objects"
    annotations = replace(
        with_labels(wanted, classes or gather_classes(everything), category_ids),
        unannotated=[Broken(str(record.image), f"it has no annotation and is {treatment}") for record in spare],
        splits=tuple(parts),
    )
    return part_of(annotations, wanted_split, hold_out, place)


def _of_same_folders(spare: Sequence[Record], chosen: Sequence[Entry], everything: Sequence[Entry]) -> list[Record]:
    """Return the images without annotation (`spare`) in the folders whose annotated images are all in `chosen`."""
    images = {entry.image for entry in chosen if isinstance(entry, Record)}
    others = {
        entry.image.parent
        for entry in everything
        if isinstance(entry, Record) and entry.annotated and entry.image not in images
    }
    folders = {image.parent for image in images} - others
    return [record for record in spare if record.image not in images and record.image.parent in folders]


def without_repeats(entries: Iterable[Entry]) -> list[Entry]:
    """Return the entries; each record whose image already belongs to an earlier record becomes a `Broken`.

    Parameters
    ----------
    entries : iterable of Record or Broken
        Entries of all annotations.

    Returns
    -------
    list of Record or Broken
        The entries, in the same order.
    """
    first: dict[Path, Record] = {}
    return [
        Broken(
            entry.source,
            f"it describes the same image as {first[entry.image].source}; combine the two, or remove one of them",
            entry.image.name,
        )
        if isinstance(entry, Record) and first.setdefault(entry.image, entry) is not entry
        else entry
        for entry in entries
    ]


def without_annotation(entries: Iterable[Entry]) -> list[Record]:
    """Return records without objects for images that have no annotation, but are in the folder of an annotated image.

    Parameters
    ----------
    entries : iterable of Record or Broken
        Entries of all annotations.

    Returns
    -------
    list of Record
        The records, sorted by path; their attribute `annotated` is False.
    """
    known = list(entries)
    used = {entry.image for entry in known if isinstance(entry, Record)}
    named = {Path(entry.image.replace("\\", "/")).stem for entry in known if isinstance(entry, Broken)}
    found = [
        folder / name
        for folder in sorted({image.parent for image in used})
        for name in sorted(os.listdir(folder) if folder.is_dir() else ())
        if name.lower().endswith(SUFFIXES) and not name.startswith(".")
    ]
    spare = [path for path in found if path not in used and path.stem not in named and not path.is_dir()]
    return [replace(make_record(path, path.name, (), None, path.stem), annotated=False) for path in spare]

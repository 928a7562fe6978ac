"""Which images are learned from and which are measured on, where a folder says so and where it does not."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import TypeVar

import numpy as np

from rcnn.data.records import AnnotatedImages, Annotations

TRAIN, VAL = "train", "val"
HELD_OUT = 0.2  # of the images, for "val"
SHOWN = 10  # splits, in a message
OTHER_NAMES = {"valid": VAL, "validation": VAL, "training": TRAIN}  # what some programs call the two

T = TypeVar("T", Annotations, AnnotatedImages)


def split(images: T, share: float = HELD_OUT, seed: int = 0) -> tuple[T, T]:
    """(those to train on, those held out): `share` of the images, rounded, but at least one on each side.

    Which are held out is drawn from `seed` over the images sorted by their files' names, so that it does not depend
    on the order or the format of the annotations. Both parts keep the order that the images have.

    ValueError for fewer than two images, and for a share that is not between 0 and 1.
    """
    if not 0 < share < 1:
        raise ValueError(f"share must be between 0 and 1, got {share!r}")
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
    """(which of the `known` splits of a folder to read, None for all of it; whether to hold images out of that).

    A folder that has both "train" and "val" is taken at its word, and so is a "val" on its own. Without a "val", a
    fifth of "train" is held out for it, else of "trainval", else, where the folder knows no splits, of everything.

    place: what the splits are of, for messages. Raises ValueError for a split that is not there.
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
    names = sorted({*known, *held_out}, key=lambda name: (len(name), name))  # VOC has long ones for its classes besides
    there = (
        f"there is: {', '.join(names[:SHOWN])}{', ...' * (len(names) > SHOWN)}"
        if known
        else f"it knows no splits, so there is {TRAIN} and {VAL}"
    )
    raise ValueError(f"{place} has no split {split_name!r}; {there}")


def part_of(annotations: Annotations, split_name: str | None, hold_out: bool, place: str) -> Annotations:
    """The annotations of a split, after `source_of` has said what was read for it; ValueError where there are none."""
    count, broken = len(annotations.records), annotations.broken
    if count < 1 + hold_out and (hold_out or not broken):
        wanted = f"at least two are needed to hold one out for {VAL}" if hold_out else "nothing can be done with that"
        first = f"; {len(broken)} cannot be read, the first: {broken[0].source}: {broken[0].reason}" if broken else ""
        raise ValueError(f"{place} has {count or 'no'} image{'s' * (count != 1)}; {wanted}{first}")
    return split(annotations)[split_name == VAL] if hold_out else annotations


def by_split(paths: Iterable[Path], name_of: Callable[[Path], str]) -> dict[str, Path]:
    """The paths by the names of their splits as this package says them; ValueError where two are of one split."""
    parts: dict[str, Path] = {}
    for path in paths:
        name = plain_name(name_of(path))
        other = parts.setdefault(name, path)
        if other != path:
            raise ValueError(f"{other} and {path} are both of the split {name!r}; take one of them away, or name it")
    return parts


def plain_name(name: str) -> str:
    """The name of a split as this package says it: "valid" is "val"."""
    return OTHER_NAMES.get(name, name)

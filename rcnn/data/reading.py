"""What every reader does with what it finds: names inside a folder, numbers, names of classes, records.

What these functions cannot make sense of is a ValueError whose message is the reason that a `Broken` gives.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import reprlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from rcnn.data.records import UNKNOWN, Annotations, Broken, Record
from rcnn.transform import Size

BACKGROUND = "background"
CLASSES_FILE = "classes.txt"  # beside annotations: the names of the classes in the order of their labels
FLAG_NAMES = ("difficult", "crowd", "truncated")  # of an object
FLAGS = {"": False, "0": False, "1": True, "false": False, "true": True}


@dataclass(frozen=True)
class Thing:
    """An object of an image, as a reader finds it."""

    box: tuple[float, float, float, float]
    name: str
    difficult: bool = False
    crowd: bool = False
    truncated: bool = False
    area: float | None = None


def make_record(image: Path, source: str, things: Sequence[Thing], size: Size | None, image_id: int | str) -> Record:
    """The record of an image whose labels are still UNKNOWN, for the classes may come from all images."""
    boxes = np.array([thing.box for thing in things], np.float64).reshape(-1, 4)  # (G, 4)
    with np.errstate(all="ignore"):  # a box may be infinite; that is said when it is asked for
        own_areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])  # (G,)
    areas = [own if thing.area is None else thing.area for own, thing in zip(own_areas, things, strict=True)]
    flags = {flag: np.array([getattr(thing, flag) for thing in things], np.bool_) for flag in FLAG_NAMES}
    return Record(
        image,
        source,
        boxes,
        tuple(thing.name for thing in things),
        np.full(len(things), UNKNOWN, np.int64),
        areas=np.array(areas, np.float64),
        size=size,
        image_id=image_id,
        **flags,
    )


def with_labels(
    entries: Iterable[Record | Broken], classes: tuple[str, ...], category_ids: tuple[int, ...] = ()
) -> Annotations:
    """The annotations whose labels are the places of the objects' names in `classes`, the background first."""
    records: list[Record] = []
    broken: list[Broken] = []
    label_of = {name: label for label, name in enumerate(classes) if label}
    for entry in entries:
        if isinstance(entry, Broken):
            broken.append(entry)
        else:
            labels = np.array([label_of.get(name, UNKNOWN) for name in entry.names], np.int64)  # (G,)
            records.append(replace(entry, labels=labels))
    return Annotations(classes, records, broken, category_ids)


# ---------------------------------------------------------------------- classes


def check_classes(classes: Sequence[str]) -> tuple[str, ...]:
    """The names of the classes with the background first, where it need not have been named.

    Raises TypeError for a string in place of a list, ValueError for no name, an empty one, or one that comes twice.
    """
    if isinstance(classes, str) or not all(isinstance(name, str) for name in classes):
        raise TypeError(f"classes must be a list of names, got {classes!r}")
    names = tuple(name.strip() for name in classes)
    names = names if names[:1] == (BACKGROUND,) else (BACKGROUND, *names)
    if len(names) < 2:
        raise ValueError("classes must name at least one class beside the background")
    for i, name in enumerate(names):
        if not name or name in names[:i]:
            raise ValueError(
                f"classes[{i}] is {name!r}; every class needs a name of its own"
                + (", and the background comes first" if name == BACKGROUND else "")
            )
    return names


def gather_classes(entries: Iterable[Record | Broken]) -> tuple[str, ...]:
    """The background and the names of all objects, sorted; by value if all are whole numbers."""
    names = {name for entry in entries if isinstance(entry, Record) for name in entry.names} - {BACKGROUND}
    numbers = all(re.fullmatch(r"\d{1,18}", name, re.ASCII) for name in names)
    return BACKGROUND, *sorted(names, key=(lambda name: (int(name), name)) if numbers else None)


def stated_classes(folder: Path) -> tuple[str, ...] | None:
    """The classes that a file classes.txt in the folder lists, a name per line; None where there is none."""
    path = folder / CLASSES_FILE
    if not path.is_file():
        return None
    try:
        return check_classes([line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()])
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def clean_name(value: object, what: str) -> str:
    """The name of a class, without blanks around it; ValueError where there is none."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{what} is {reprlib.repr(value)}, not the name of a class")
    return value.strip()


# ---------------------------------------------------------------------- numbers


def as_number(value: object, what: str) -> float:
    """`value`, a number or the text of one, as a float; NaN and infinity are numbers here, and judged later."""
    odd = isinstance(value, bool) or (isinstance(value, str) and "_" in value)  # which float() takes for numbers
    if not odd and isinstance(value, (str, int, float, np.integer, np.floating)):
        with contextlib.suppress(ValueError, OverflowError):  # of other text, and of integers beyond the range of float
            return float(value)
    raise ValueError(f"{what} is {reprlib.repr(value)}, not a number")


def as_flag(value: object, what: str) -> bool:
    """`value`, 0 or 1, true or false, or the text of these, as a bool; None and nothing are False."""
    text = "" if value is None else str(value).strip().lower()
    text = text.removesuffix(".0")  # a column of numbers in which some are missing is one of floats
    if text not in FLAGS:
        raise ValueError(f"{what} is {reprlib.repr(value)}; 0 or 1 is expected")
    return FLAGS[text]


def as_size(width: object, height: object) -> Size | None:
    """(height, width) of an image as an annotation states it; None where it states neither, or 0."""
    sides = []
    for value, what in ((height, "height"), (width, "width")):
        empty = value is None or (isinstance(value, str) and not value.strip())
        side = 0.0 if empty else as_number(value, what)
        if not 0 <= side < math.inf or side != int(side):
            raise ValueError(f"{what} is {reprlib.repr(value)}, not a number of pixels")
        sides.append(int(side))
    return None if 0 in sides else (sides[0], sides[1])


# ---------------------------------------------------------------------- files


def existing_folder(path: str | os.PathLike[str]) -> Path:
    """The path of a folder that is there; OSError for what is not, and for a file."""
    folder = Path(path).expanduser()
    if not folder.exists():
        raise FileNotFoundError(f"there is no folder {folder}")
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file; a folder is expected")
    return folder


def inside(folder: Path, name: object) -> Path:
    """The path of the file that an annotation calls `name`, which may not lead out of `folder`; it need not be there.

    A backslash counts as a slash. Raises ValueError for an absolute path, a drive, "..", a link that leads outside.
    """
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"the name of its image is {reprlib.repr(name)}")
    plain = name.strip().replace("\\", "/")
    if plain.startswith("/") or re.match("[A-Za-z]:", plain) or ".." in plain.split("/"):
        raise ValueError(
            f"{reprlib.repr(name)} is not a path inside {folder}, and is not opened; a path begins at "
            "that folder, without / or a drive in front, and without .."
        )
    path = folder / plain
    real = os.path.realpath(path)
    if not Path(real).is_relative_to(os.path.realpath(folder)):
        raise ValueError(f"{reprlib.repr(name)} is a link to {real}, outside {folder}, and is not opened")
    return path

"""Tools that all readers share: paths inside a folder, numbers, class names, records.

These functions raise ValueError for invalid input. A reader stores the message as the reason of a `Broken`.
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
CLASSES_FILE = "classes.txt"  # in the folder of the annotations: the class names in the order of their labels
FLAG_NAMES = ("difficult", "crowd", "truncated")  # flags of an object
FLAGS = {"": False, "0": False, "1": True, "false": False, "true": True}


@dataclass(frozen=True)
class Thing:
    """An object of an image, as it is written.

    Attributes
    ----------
    box : tuple of float
        x1, y1, x2, y2 in pixels, continuous.
    name : str
        Class of the object.
    difficult, crowd, truncated : bool
        As in `Record`.
    area : float or None
        Pixels that the object covers; None if not stated.
    """

    box: tuple[float, float, float, float]
    name: str
    difficult: bool = False
    crowd: bool = False
    truncated: bool = False
    area: float | None = None


def make_record(image: Path, source: str, things: Sequence[Thing], size: Size | None, image_id: int | str) -> Record:
    """Return the record of an image, with labels still UNKNOWN, because the classes may depend on all images.

    Parameters
    ----------
    image : Path
        File of the image.
    source : str
        Position of the annotation, for messages.
    things : sequence of Thing
        Objects of the image.
    size : (int, int) or None
        (height, width) that the annotation states, in pixels.
    image_id : int or str
        Number or name of the image in results.

    Returns
    -------
    Record
        An object without a stated area has the area of its box.
    """
    boxes = np.array([thing.box for thing in things], np.float64).reshape(-1, 4)  # (G, 4)
    with np.errstate(all="ignore"):  # a box may be infinite; access to the image reports that
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
    """Return the annotations with a label for each object: the index of its name in `classes`.

    Parameters
    ----------
    entries : iterable of Record or Broken
        What a reader found.
    classes : tuple of str
        Class names by label, the background first.
    category_ids : tuple of int
        As in `Annotations`.

    Returns
    -------
    Annotations
        Objects of other classes, and of the background, have the label UNKNOWN.
    """
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
    """Return the class names without surrounding blanks, with the background first.

    Parameters
    ----------
    classes : sequence of str
        Names of the labels 1, 2, ..., with or without a leading "background".

    Returns
    -------
    tuple of str
        "background", then the names.

    Raises
    ------
    TypeError
        If `classes` is a string, or has an element that is no string.
    ValueError
        If there is no name, an empty name or a repeated name.

    Examples
    --------
    >>> check_classes(["cat", "dog"])
    ('background', 'cat', 'dog')
    """
    if isinstance(classes, str) or not all(isinstance(name, str) for name in classes):
        raise TypeError(f"classes must be a list of names, got {classes!r}")
    names = tuple(name.strip() for name in classes)
    names = names if names[:1] == (BACKGROUND,) else (BACKGROUND, *names)
    if len(names) < 2:
        raise ValueError("classes must have at least one class other than the background")
    for i, name in enumerate(names):
        if not name or name in names[:i]:
            raise ValueError(
                f"classes[{i}] is {name!r}; names must be unique and not empty"
                + (", and the background comes first" if name == BACKGROUND else "")
            )
    return names


def gather_classes(entries: Iterable[Record | Broken]) -> tuple[str, ...]:
    """Return the class names of all objects, sorted, with the background first.

    Parameters
    ----------
    entries : iterable of Record or Broken
        What a reader found.

    Returns
    -------
    tuple of str
        Sorted by value if all names are whole numbers.
    """
    names = {name for entry in entries if isinstance(entry, Record) for name in entry.names} - {BACKGROUND}
    numbers = all(re.fullmatch(r"\d{1,18}", name, re.ASCII) for name in names)
    return BACKGROUND, *sorted(names, key=(lambda name: (int(name), name)) if numbers else None)


def stated_classes(folder: Path) -> tuple[str, ...] | None:
    """Read the class names from the file classes.txt of a folder, one name per line.

    Parameters
    ----------
    folder : Path
        Folder of the annotations.

    Returns
    -------
    tuple of str or None
        The names with the background first; None if there is no such file.

    Raises
    ------
    ValueError
        If the names are invalid (see `check_classes`).
    """
    path = folder / CLASSES_FILE
    if not path.is_file():
        return None
    try:
        return check_classes([line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()])
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def clean_name(value: object, what: str) -> str:
    """Return a class name without surrounding blanks.

    Parameters
    ----------
    value : object
        Value from a file.
    what : str
        Name of the value in messages.

    Returns
    -------
    str
        The name.

    Raises
    ------
    ValueError
        If `value` is no string, or blank.
    """
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{what} must be a class name, got {reprlib.repr(value)}")
    return value.strip()


# ---------------------------------------------------------------------- numbers


def as_number(value: object, what: str) -> float:
    """Return a number, or a string that represents one, as a float.

    Parameters
    ----------
    value : object
        Value from a file. NaN and infinity are accepted here; later checks report them.
    what : str
        Name of the value in messages.

    Returns
    -------
    float
        The number.

    Raises
    ------
    ValueError
        If `value` is no number, is a bool, or is beyond the range of float.
    """
    refused = isinstance(value, bool) or (isinstance(value, str) and "_" in value)  # float() would accept both
    if not refused and isinstance(value, (str, int, float, np.integer, np.floating)):
        with contextlib.suppress(ValueError, OverflowError):  # other text, and integers beyond the range of float
            return float(value)
    raise ValueError(f"{what} must be a number, got {reprlib.repr(value)}")


def as_flag(value: object, what: str) -> bool:
    """Return a flag as a bool.

    Parameters
    ----------
    value : object
        0 or 1, true or false, or a string of these; None and "" are False.
    what : str
        Name of the value in messages.

    Returns
    -------
    bool
        The flag.

    Raises
    ------
    ValueError
        If `value` is anything else.

    Examples
    --------
    >>> as_flag("1", "difficult"), as_flag(None, "difficult")
    (True, False)
    """
    text = "" if value is None else str(value).strip().lower()
    text = text.removesuffix(".0")  # pandas makes a column of integers float if some are missing
    if text not in FLAGS:
        raise ValueError(f"{what} must be 0 or 1, got {reprlib.repr(value)}")
    return FLAGS[text]


def as_size(width: object, height: object) -> Size | None:
    """Return the image size that an annotation states.

    Parameters
    ----------
    width, height : object
        Values from a file, in pixels.

    Returns
    -------
    (int, int) or None
        (height, width); None if either is missing or 0.

    Raises
    ------
    ValueError
        If either is no non-negative whole number.
    """
    sides = []
    for value, what in ((height, "height"), (width, "width")):
        empty = value is None or (isinstance(value, str) and not value.strip())
        side = 0.0 if empty else as_number(value, what)
        if not 0 <= side < math.inf or side != int(side):
            raise ValueError(f"{what} must be a whole number of pixels, got {reprlib.repr(value)}")
        sides.append(int(side))
    return None if 0 in sides else (sides[0], sides[1])


# ---------------------------------------------------------------------- files


def existing_folder(path: str | os.PathLike[str]) -> Path:
    """Return the path of an existing folder, with ~ expanded.

    Parameters
    ----------
    path : path
        Path of the folder.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    OSError
        If `path` is not found, or is a file.
    """
    folder = Path(path).expanduser()
    if not folder.exists():
        raise FileNotFoundError(f"there is no folder {folder}")
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} must be a folder, got a file")
    return folder


def inside(folder: Path, name: object) -> Path:
    """Return the path of a file that an annotation names, and check that it is inside a folder.

    Parameters
    ----------
    folder : Path
        The folder that `name` is relative to.
    name : object
        Name from a file; a backslash counts as a slash.

    Returns
    -------
    Path
        The path of the file, which need not exist.

    Raises
    ------
    ValueError
        If `name` is no string, blank, an absolute path, has a drive or "..", or is a link to the outside.
    """
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"its image name must be a non-empty string, got {reprlib.repr(name)}")
    plain = name.strip().replace("\\", "/")
    if plain.startswith("/") or re.match("[A-Za-z]:", plain) or ".." in plain.split("/"):
        raise ValueError(
            f"{reprlib.repr(name)} is not a path inside {folder}, and is not opened; write it relative to "
            "that folder, without a leading / or drive, and without .."
        )
    path = folder / plain
    real = os.path.realpath(path)
    if not Path(real).is_relative_to(os.path.realpath(folder)):
        raise ValueError(f"{reprlib.repr(name)} is a link to {real}, outside {folder}, and is not opened")
    return path

"""Tools that all readers share: paths inside a folder, numbers, class names, records.

These functions raise ValueError for invalid input. A reader stores the message of the error as the `reason` of a
`Broken` entry.
"""

from __future__ import annotations

import contextlib
import fnmatch
import functools
import math
import os
import re
import reprlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from rcnn._files import check_path, exists, read_text, read_whole
from rcnn._validate import MAX_CLASSES, NAME, shown
from rcnn.data.records import UNKNOWN, Annotations, Broken, Record
from rcnn.transform import Size

T = TypeVar("T")
BACKGROUND = "background"
IMAGE_FOLDERS = ("jpegimages", "images", "image", "imgs", "img")  # names of folders, in lower case
ANNOTATION_FOLDERS = ("annotations", "annotation", "annots", "annot", "labels", "label", "xmls", "xml", "json", "jsons")
CLASSES_FILE = "classes.txt"  # in the annotation folder; this file lists the class names in the order of their labels
FLAG_NAMES = ("difficult", "crowd", "truncated")  # flags of an object
MAX_LIST = 1 << 26  # bytes of a list of names, such as classes.txt; more than a million lines
MAX_OBJECTS = 100_000  # objects of one image
MAX_SIDE = (1 << 31) - 1  # pixels; no image format has longer sides
MAX_PATH, MAX_PART = 1_000, 255  # bytes of a path in an annotation, and of one of its parts
MAX_ID, MAX_ID_LENGTH = 1 << 63, 1_000  # an id is an integer below this, or a string of at most this many characters
YES = ("true", "yes", "t", "y")
NO = ("", "false", "no", "f", "n", "none", "null", "na", "n/a", "nan", "unknown", "unspecified")


Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Thing:
    """An object in an image, read from an annotation.

    Attributes
    ----------
    box : tuple of float
        Continuous coordinates x1, y1, x2, y2, in pixels.
    name : str
        Class name of the object.
    difficult, crowd, truncated : bool
        As in `Record`.
    area : float or None
        Number of pixels that the object covers; None if the annotation does not contain this number.
    """

    box: Box
    name: str
    difficult: bool = False
    crowd: bool = False
    truncated: bool = False
    area: float | None = None


def make_record(
    image: Path,
    source: str,
    things: Sequence[Thing],
    size: Size | None,
    image_id: int | str,
    faults: Sequence[Broken] = (),
) -> Record:
    """Return the record of an image. All labels are UNKNOWN, because the classes are not known yet.

    Parameters
    ----------
    image : Path
        File of the image.
    source : str
        Position of the annotation, for messages, such as "train.csv, line 3".
    things : sequence of Thing
        Objects in the image.
    size : (int, int) or None
        (height, width) in pixels, from the annotation.
    image_id : int or str
        Number or name that identifies the image in results.
    faults : sequence of Broken
        As in `Record`.

    Returns
    -------
    Record
        The record. If the annotation does not contain the area of an object, the area of its box is used.

    Raises
    ------
    ValueError
        If there are more than 100,000 objects.
    """
    if len(things) > MAX_OBJECTS:
        raise ValueError(f"an image can have at most {MAX_OBJECTS:,} objects, got {len(things):,}")
    boxes = np.array([thing.box for thing in things], np.float64).reshape(-1, 4)  # (G, 4)
    with np.errstate(all="ignore"):  # a box may be infinite; this is reported on access to the image
        own_areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])  # (G,)
    areas = [own if thing.area is None else thing.area for own, thing in zip(own_areas, things, strict=True)]
    difficult, crowd, truncated = (
        np.array([getattr(thing, flag) for thing in things], np.bool_) for flag in FLAG_NAMES
    )  # (G,) each
    return Record(
        image,
        source,
        boxes,
        tuple(thing.name for thing in things),
        np.full(len(things), UNKNOWN, np.int64),
        areas=np.array(areas, np.float64),
        size=size,
        image_id=image_id,
        faults=tuple(faults),
        difficult=difficult,
        crowd=crowd,
        truncated=truncated,
    )


def read_each(
    read: Callable[[T, int], Sequence[Thing]], entries: Iterable[T], source: str
) -> tuple[list[Thing], list[Broken]]:
    """Read the objects of an image one by one, so that the valid ones are read even if others are invalid.

    Parameters
    ----------
    read : callable
        Function that takes an entry and its index, and returns the objects that the entry describes.
    entries : iterable
        Entries of one image.
    source : str
        Position of the annotation, for messages.

    Returns
    -------
    things : list of Thing
        The valid objects.
    faults : list of Broken
        The entries for which `read` raised a ValueError.
    """
    things: list[Thing] = []
    faults: list[Broken] = []
    for i, entry in enumerate(entries):
        try:
            things += read(entry, i)
        except ValueError as error:
            faults.append(Broken(source, str(error)))
    return things, faults


def with_labels(
    entries: Iterable[Record | Broken], classes: tuple[str, ...], category_ids: tuple[int, ...] = ()
) -> Annotations:
    """Return the annotations with a label for each object: the index of its name in `classes`.

    Parameters
    ----------
    entries : iterable of Record or Broken
        Records and broken entries from a reader.
    classes : tuple of str
        Class names in the order of their labels, starting with the background.
    category_ids : tuple of int
        As in `Annotations`.

    Returns
    -------
    Annotations
        The annotations. An object has the label UNKNOWN if its class is "background" or is not in `classes`.
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
    """Return the class names without surrounding blanks, starting with the background.

    Parameters
    ----------
    classes : sequence of str
        Class names for the labels 1, 2, ..., with or without a leading "background".

    Returns
    -------
    tuple of str
        "background", followed by the names.

    Raises
    ------
    TypeError
        If `classes` is a string, or has an element that is not a string.
    ValueError
        If `classes` contains no name, an empty name, a repeated name, a name of more than 256 characters, a name with
        control characters, or more than 65,536 names.

    Examples
    --------
    >>> check_classes(["cat", "dog"])
    ('background', 'cat', 'dog')
    """
    if isinstance(classes, str) or not all(isinstance(name, str) for name in classes):
        raise TypeError(f"classes must be a list of names, got {reprlib.repr(classes)}")
    names = tuple(name.strip() for name in classes)
    names = names if names[:1] == (BACKGROUND,) else (BACKGROUND, *names)
    if len(names) < 2:
        raise ValueError("classes must contain at least one class other than the background")
    if len(names) > MAX_CLASSES:
        raise ValueError(f"classes can contain at most {MAX_CLASSES:,} names, got {len(names):,}")
    seen: set[str] = set()
    for i, name in enumerate(names):
        NAME.check(f"classes[{i}]", name)
        if name in seen:
            raise ValueError(
                f"classes[{i}] is {name!r}; names must be unique"
                + (", and the background comes first" if name == BACKGROUND else "")
            )
        seen.add(name)
    return names


def gather_classes(entries: Iterable[Record | Broken]) -> tuple[str, ...]:
    """Return the sorted class names of all objects, starting with the background.

    Parameters
    ----------
    entries : iterable of Record or Broken
        Records and broken entries from a reader.

    Returns
    -------
    tuple of str
        The names. If all names are whole numbers, they are sorted by value.

    Raises
    ------
    ValueError
        If there are more than 65,536 names.
    """
    names = {name for entry in entries if isinstance(entry, Record) for name in entry.names} - {BACKGROUND}
    if len(names) >= MAX_CLASSES:
        raise ValueError(
            f"the objects have {len(names):,} different class names; at most {MAX_CLASSES - 1:,} are allowed"
        )
    numbers = all(re.fullmatch(r"\d{1,18}", name, re.ASCII) for name in names)
    return BACKGROUND, *sorted(names, key=(lambda name: (int(name), name)) if numbers else None)


def stated_classes(folder: Path) -> tuple[str, ...] | None:
    """Read the class names from the file classes.txt of a folder, one name per line; at most 64 MiB.

    Parameters
    ----------
    folder : Path
        Folder of the annotations.

    Returns
    -------
    tuple of str or None
        The names, starting with the background; None if there is no such file.

    Raises
    ------
    OSError
        If the file is not a regular file, or cannot be read.
    ValueError
        If the names are invalid (see `check_classes`), or the file is a link to a file outside the folder.
    """
    path = folder / CLASSES_FILE
    if not is_entry(path):
        return None
    check_link(path, folder)
    lines = read_text(path, MAX_LIST).splitlines()
    try:
        return check_classes([line for line in lines if line.strip()])
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def clean_name(value: object, what: str) -> str:
    """Return a class name without surrounding blanks.

    Parameters
    ----------
    value : object
        Value from a file.
    what : str
        Name of the value, for error messages.

    Returns
    -------
    str
        The name.

    Raises
    ------
    ValueError
        If `value` is not a string, is blank, has more than 256 characters, or contains control characters.
    """
    name = value.strip() if isinstance(value, str) else value
    if not isinstance(name, str) or not NAME.accepts(name):
        raise ValueError(f"{what} must be {NAME.allowed}, got {reprlib.repr(value)}")
    return name


def as_id(value: object) -> int | str | None:
    """Return the id of an image or of a category; whole numbers become integers, even if they are written as text.

    Parameters
    ----------
    value : object
        Value from a file.

    Returns
    -------
    int, str or None
        An integer of at most 64 bits, or a string of at most 1,000 characters; None for other values.

    Examples
    --------
    >>> as_id("17"), as_id(17.0), as_id("a17"), as_id(None)
    (17, 17, 'a17', None)
    """
    if isinstance(value, str) and re.fullmatch(r"(0|-?[1-9]\d{0,17})(\.0+)?", value.strip(), re.ASCII):
        value = float(value) if "." in value else int(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < MAX_ID:
        value = int(value)
    if isinstance(value, str):
        return value if len(value) <= MAX_ID_LENGTH else None
    return value if isinstance(value, int) and not isinstance(value, bool) and -MAX_ID <= value < MAX_ID else None


# ---------------------------------------------------------------------- numbers


def as_number(value: object, what: str) -> float:
    """Convert a number, or a string that represents a number, to a float.

    Parameters
    ----------
    value : object
        Value from a file. NaN and infinity are accepted here; later checks report them.
    what : str
        Name of the value, for error messages.

    Returns
    -------
    float
        The number.

    Raises
    ------
    ValueError
        If `value` is not a number, is a bool, or is too large for a float.
    """
    refused = isinstance(value, bool) or (isinstance(value, str) and "_" in value)  # float() would accept both
    if not refused and isinstance(value, (str, int, float, np.integer, np.floating)):
        with contextlib.suppress(ValueError, OverflowError):  # other text, and integers that are too large for a float
            return float(value)
    raise ValueError(f"{what} must be a number, got {reprlib.repr(value)}")


def around_ellipse(x: float, y: float, rx: float, ry: float, degrees: float) -> Box:
    """Return the smallest unrotated box around a rotated ellipse.

    Parameters
    ----------
    x, y : float
        The centre.
    rx, ry : float
        The radii before the rotation.
    degrees : float
        Angle of the rotation around the centre.

    Returns
    -------
    tuple of float
        Coordinates x1, y1, x2, y2 of the box.

    Examples
    --------
    >>> around_ellipse(20, 15, 10, 5, 0.0)
    (10.0, 10.0, 30.0, 20.0)
    """
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    half_width, half_height = math.hypot(rx * cos, ry * sin), math.hypot(rx * sin, ry * cos)
    return x - half_width, y - half_height, x + half_width, y + half_height


def as_degrees(value: object, what: str) -> float:
    """Convert the angle of a rotation to a float.

    Parameters
    ----------
    value : object
        Value from a file. None and "" mean 0.
    what : str
        Name of the value, for error messages.

    Returns
    -------
    float
        The angle.

    Raises
    ------
    ValueError
        If `value` is not a finite number.
    """
    degrees = as_number(value, what) if value not in (None, "") else 0.0
    if not math.isfinite(degrees):
        raise ValueError(f"{what} must be a finite number of degrees, got {value!r}")
    return degrees


def as_flag(value: object, what: str) -> bool:
    """Convert a flag to a bool.

    Parameters
    ----------
    value : object
        A bool, a word such as "yes" or "Unspecified", a number, or a string that represents a number. A positive number
        means True. For example, KITTI states the truncated fraction of an object. None and "" mean False.
    what : str
        Name of the value, for error messages.

    Returns
    -------
    bool
        The flag.

    Raises
    ------
    ValueError
        If `value` is any other word, or has another type.

    Examples
    --------
    >>> as_flag("1", "difficult"), as_flag("0.0597", "truncated"), as_flag("Unspecified", "truncated")
    (True, True, False)
    """
    word = "" if value is None else str(value).strip().lower()
    if word in YES or word in NO:
        return word in YES
    try:
        return as_number(value, what) > 0
    except ValueError as error:
        raise ValueError(f"{what} must be a number, yes or no, got {reprlib.repr(value)}") from error


def as_size(width: object, height: object) -> Size | None:
    """Return the image size that an annotation contains.

    Parameters
    ----------
    width, height : object
        Values from a file, in pixels.

    Returns
    -------
    (int, int) or None
        (height, width); None if one of them is missing or 0.

    Raises
    ------
    ValueError
        If one of them is not a whole number from 0 to 2 ** 31 - 1.
    """
    sides = []
    for value, what in ((height, "height"), (width, "width")):
        empty = value is None or (isinstance(value, str) and not value.strip())
        side = 0.0 if empty else as_number(value, what)
        if not 0 <= side <= MAX_SIDE or side != int(side):
            raise ValueError(f"{what} must be a whole number of pixels up to {MAX_SIDE}, got {reprlib.repr(value)}")
        sides.append(int(side))
    return None if 0 in sides else (sides[0], sides[1])


# ---------------------------------------------------------------------- files


def given_path(path: str | os.PathLike[str], name: str = "path") -> Path:
    """Return the path that a user passed, with ~ expanded.

    Parameters
    ----------
    path : path
        The path.
    name : str
        Name of the argument, for error messages.

    Returns
    -------
    Path
        The path, which need not exist.

    Raises
    ------
    TypeError
        If `path` is not a path.
    ValueError
        If the path, or the name between two slashes, is longer than the system allows.
    """
    text = os.path.expanduser(check_path(path, name))
    if max(len(part.encode("utf-8", "surrogatepass")) for part in text.split(os.sep)) > MAX_PART:
        raise ValueError(f"{name} must have at most {MAX_PART} bytes between two slashes, got {shown(text)}")
    return Path(text)


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
    TypeError, ValueError
        If `path` is not a path.
    OSError
        If `path` does not exist, or is a file.
    """
    folder = given_path(path, "folder")
    if not folder.exists():
        raise FileNotFoundError(f"there is no folder {folder}")
    if not folder.is_dir():
        kind = "a file" if folder.is_file() else "a special file, such as a pipe"
        raise NotADirectoryError(f"{folder} must be a folder, got {kind}")
    return folder


def named_folders(folder: Path, names: Sequence[str]) -> list[Path]:
    """Return the subfolders of a folder that have one of the names.

    Parameters
    ----------
    folder : Path
        The folder.
    names : sequence of str
        Names in lower case; the subfolders may have capital letters.

    Returns
    -------
    list of Path
        The subfolders, in the order of `names`.
    """
    children = [child for child in sorted(folder.iterdir()) if child.name.lower() in names and child.is_dir()]
    return sorted(children, key=lambda child: names.index(child.name.lower()))


def annotated_folder(path: str | os.PathLike[str], beside: Sequence[str]) -> Path:
    """Return the folder of a data set, given this folder or the folder of its annotations.

    Parameters
    ----------
    path : path
        The folder of the data set, or a subfolder such as `annots`.
    beside : sequence of str
        Names, in lower case, of the folders that are beside the folder of the annotations.

    Returns
    -------
    Path
        The folder above `path` if `path` is named like a folder of annotations and a folder of images is beside it,
        else `path`.

    Raises
    ------
    OSError
        If `path` does not exist, or is a file.
    """
    folder = existing_folder(path)
    above = Path(os.path.abspath(folder)).parent
    is_part = folder.name.lower() in ANNOTATION_FOLDERS and not named_folders(folder, beside)
    return above if is_part and named_folders(above, beside) else folder


def is_entry(path: Path) -> bool:
    """Return True if a path is a file of any type, such as a pipe or a broken link, but not a folder.

    Readers search for files with this function. A file that cannot be read therefore causes an error later, and is not
    silently ignored.

    Parameters
    ----------
    path : Path
        Path of the file.

    Returns
    -------
    bool
        False if nothing exists at the path, or if the path is a folder.

    Raises
    ------
    OSError
        If the folder of the file cannot be searched.
    """
    return exists(path) and not path.is_dir()


def matching(folder: Path, pattern: str, deep: bool = False) -> list[Path]:
    """Return the entries of a folder whose names match a pattern.

    Path.glob and Path.rglob silently ignore a folder that cannot be read, so its annotations would be missing.

    Parameters
    ----------
    folder : Path
        The folder, which need not exist.
    pattern : str
        A pattern such as "*.xml".
    deep : bool
        If True, also search all folders below, except behind links.

    Returns
    -------
    list of Path
        The files and folders, sorted by path.

    Raises
    ------
    OSError
        If a folder cannot be read.
    """
    found: list[Path] = []
    for above, folders, files in os.walk(folder, onerror=fail) if folder.is_dir() else ():
        found += [Path(above, name) for name in fnmatch.filter([*folders, *files], pattern)]
        if not deep:
            break
    return sorted(found)


def fail(error: OSError) -> None:
    """Raise the error; `os.walk` calls this function for a folder that cannot be read.

    Parameters
    ----------
    error : OSError
        The error.

    Raises
    ------
    OSError
        The error.
    """
    raise error


def read_inside(path: Path, folder: Path, most: int) -> bytes:
    """Read an annotation file that was found in a folder.

    Parameters
    ----------
    path : Path
        Path of the file.
    folder : Path
        The folder that the user named.
    most : int
        Maximum size of the file, in bytes.

    Returns
    -------
    bytes
        The content.

    Raises
    ------
    OSError
        If the file is not a regular file, or cannot be read.
    ValueError
        If the file is a link to a file outside the folder, or is too large.
    """
    check_link(path, folder)
    return read_whole(path, most)


def check_link(path: Path, folder: Path) -> None:
    """Check that a path is inside a folder after all links have been followed.

    Parameters
    ----------
    path : Path
        Path of a file.
    folder : Path
        The folder.

    Raises
    ------
    ValueError
        If the file is outside the folder.
    """
    real = os.path.realpath(path)
    if not (_is_below(real, _real_folder(str(folder))) or _is_below(real, os.path.realpath(folder))):
        raise ValueError(f"{path} is a link to {real}, which is outside {folder}; it is not opened")


@functools.lru_cache(maxsize=16)
def _real_folder(folder: str) -> str:
    """Return the path of a folder with all links followed; cache it, because thousands of files may need it."""
    return os.path.realpath(folder)


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def inside(folder: Path, name: object) -> Path:
    """Return the path of a file that an annotation names, and check that it is inside a folder.

    Parameters
    ----------
    folder : Path
        The folder to which `name` is relative.
    name : object
        File name from an annotation. A backslash counts as a slash.

    Returns
    -------
    Path
        The path of the file, which need not exist.

    Raises
    ------
    ValueError
        If `name` is not a string, is blank, has more than 1,000 bytes or more than 255 bytes between two slashes, is an
        absolute path, contains a drive or "..", or is a link to a file outside the folder.
    """
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"its image name must be a non-empty string, got {reprlib.repr(name)}")
    plain = name.strip().replace("\\", "/")
    encoded = os.fsencode(plain)
    if len(encoded) > MAX_PATH or max(map(len, encoded.split(b"/"))) > MAX_PART:
        raise ValueError(
            f"its image name must have at most {MAX_PATH:,} bytes, and at most {MAX_PART} between two slashes, got "
            f"{reprlib.repr(name)}"
        )
    if plain.startswith("/") or re.match("[A-Za-z]:", plain) or ".." in plain.split("/"):
        raise ValueError(
            f"{reprlib.repr(name)} is not a path inside {folder} and is not opened; write a path relative to "
            "that folder, without a leading /, a drive or .."
        )
    check_link(folder / plain, folder)
    return folder / plain

"""Readers of tables with one box per row: a CSV file, or rows in memory such as a DataFrame."""

from __future__ import annotations

import csv
import io
import os
import re
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from rcnn._files import read_text
from rcnn._validate import listed
from rcnn.data.reading import (
    FLAG_NAMES,
    Thing,
    as_flag,
    as_number,
    as_size,
    check_classes,
    check_link,
    clean_name,
    existing_folder,
    gather_classes,
    inside,
    is_entry,
    make_record,
    stated_classes,
    with_labels,
)
from rcnn.data.records import AnnotatedImages, Annotations, Broken, Record
from rcnn.data.splits import by_split, part_of, plain_name, source_of

BOX = ("x1", "y1", "x2", "y2")
COLUMNS = ("image", *BOX, "label")
OPTIONAL_COLUMNS = ("split", *FLAG_NAMES, "width", "height")
SPLIT_FILES = ("train", "valid", "val", "test")
WHOLE = "annotations.csv"
MAX_CSV = 1 << 31  # bytes of a CSV file
MAX_SPLIT = 100  # characters of the name of a split


class Frame(Protocol):
    """The part of a DataFrame that `Table` uses."""

    def to_dict(self, orient: str, /) -> list[dict[str, Any]]:
        """Return one mapping for each row.

        Parameters
        ----------
        orient : str
            Always "records".

        Returns
        -------
        list of dict
            Mappings from column names to values.
        """
        ...


class CSV(AnnotatedImages):
    """Images whose boxes are rows of a CSV file with the columns `image`, `x1`, `y1`, `x2`, `y2` and `label`.

    The file uses UTF-8 and separates columns with commas. Coordinates are in pixels and continuous: the left edge of
    the image is at 0. For an image without objects, write a row in which only the column `image` has a value. The
    columns may be in any order. These columns are optional: `split`; `difficult`, `crowd` and `truncated` (0 or 1);
    `width` and `height` (of the image, in pixels). All other columns are ignored. A file can be at most 2 GiB in size.

    Parameters
    ----------
    path : path
        The file, or a folder that contains train.csv and val.csv, or annotations.csv.
    split : str, optional
        The split, such as "train" or "val": either a value in the column `split`, or the name of a CSV file without
        .csv. If no images belong to "val", some of the other images are held out for validation (see
        `rcnn.data.split`). By default, every image is read.
    images : path, optional
        Folder that contains the images; the values in the column `image` are paths relative to it. The default is the
        folder of the CSV file.
    classes : sequence of str, optional
        Class names for the labels 1, 2, ..., with or without a leading "background". By default, the names are read
        from the file classes.txt in the folder of the CSV file, one name per line. If there is no such file, the
        classes are all names that occur in the CSV file, sorted.
    on_error, progress : str, bool
        See `AnnotatedImages`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        split: str | None = None,
        images: str | os.PathLike[str] | None = None,
        classes: Sequence[str] | None = None,
        on_error: str = "raise",
        progress: bool = True,
    ) -> None:
        super().__init__(read_csv(path, split, images, classes), on_error, progress)


class Table(AnnotatedImages):
    """Images whose boxes are rows in memory: a DataFrame, or mappings whose keys are the columns of `CSV`.

    NaN and None count as empty. If you pass `classes`, an integer in the column `label` is the label of a class: 1 is
    the first class. If you do not pass `classes`, such an integer is treated as a class name.

    Parameters
    ----------
    rows : iterable of mapping, or DataFrame
        One mapping for each box.
    images : path
        Folder that contains the images; the values in the column `image` are paths relative to it.
    split, classes : str, sequence of str
        See `CSV`, but no file classes.txt is read.
    on_error, progress : str, bool
        See `AnnotatedImages`.
    """

    def __init__(
        self,
        rows: Iterable[Mapping[str, Any]] | Frame,
        images: str | os.PathLike[str],
        split: str | None = None,
        classes: Sequence[str] | None = None,
        on_error: str = "raise",
        progress: bool = True,
    ) -> None:
        super().__init__(read_table(rows, images, split, classes), on_error, progress)


@dataclass(frozen=True)
class Row:
    """A row of a table."""

    source: str  # position of the row, for messages
    cells: Mapping[str, Any]
    fault: str = ""  # the error, if the whole row is invalid


Entry = tuple[str | None, Record | Broken]  # the split that the rows of an image state, and the image


def read_csv(
    path: str | os.PathLike[str],
    split: str | None = None,
    images: str | os.PathLike[str] | None = None,
    classes: Sequence[str] | None = None,
) -> Annotations:
    """Read the annotations of a CSV file, or of a folder of CSV files.

    Parameters
    ----------
    path, split, images, classes : path, str, path, sequence of str
        See `CSV`.

    Returns
    -------
    Annotations
        The annotations. Their attribute `broken` lists the images with an invalid row.

    Raises
    ------
    OSError
        If the path is not found, or the folder has none of the expected files.
    ValueError
        If a column is missing, or the split does not exist.
    """
    files, one_per_split = _find_files(path)
    folder = files[0].parent
    names = stated_classes(folder) if classes is None else check_classes(classes)
    image_folder = existing_folder(folder if images is None else images)
    entries: list[Entry] = []
    for file in files:
        found = _read_images(_read_rows(file), image_folder, names)
        entries += [(plain_name(file.stem), entry) for _, entry in found] if one_per_split else found
    return _choose(entries, split, names, str(path))


def read_table(
    rows: Iterable[Mapping[str, Any]] | Frame,
    images: str | os.PathLike[str],
    split: str | None = None,
    classes: Sequence[str] | None = None,
) -> Annotations:
    """Read annotations from rows in memory.

    Parameters
    ----------
    rows, images, split, classes : iterable, path, str, sequence of str
        See `Table`.

    Returns
    -------
    Annotations
        The annotations. Their attribute `broken` lists the images with an invalid row.

    Raises
    ------
    TypeError
        If the rows are not mappings.
    OSError, ValueError
        As in `read_csv`.
    """
    names = None if classes is None else check_classes(classes)
    if hasattr(rows, "to_dict"):
        mappings = rows.to_dict("records")
    else:
        mappings = list(rows) if isinstance(rows, Iterable) else [rows]  # refused below
    if not all(isinstance(row, Mapping) for row in mappings):
        raise TypeError(f"rows must be mappings, such as {{'image': ..., 'x1': ...}}, got {reprlib.repr(rows)}")
    if mappings:
        _check_columns(list(dict.fromkeys(key for row in mappings for key in row)), "the table")
    numbered = [Row(f"row {i}", row) for i, row in enumerate(mappings)]
    return _choose(_read_images(numbered, existing_folder(images), names), split, names, "the table")


def _choose(entries: Sequence[Entry], split: str | None, classes: tuple[str, ...] | None, place: str) -> Annotations:
    """Return the annotations of a split; a broken entry without a split belongs to every split."""
    known = {own for own, _ in entries if own is not None}
    source, hold_out = source_of(split, known, place)
    wanted = [entry for own, entry in entries if source is None or own in (source, None)]
    classes = classes or gather_classes(entry for _, entry in entries)
    return part_of(with_labels(wanted, classes), split, hold_out, place)


# ---------------------------------------------------------------------- files


def _find_files(path: str | os.PathLike[str]) -> tuple[list[Path], bool]:
    """Return the CSV files of a path, and True if each file contains one split."""
    given = Path(path).expanduser()
    if given.is_file():
        return [given], False
    folder = existing_folder(given)
    files = [folder / f"{name}.csv" for name in SPLIT_FILES if is_entry(folder / f"{name}.csv")]
    whole = [folder / WHOLE] if is_entry(folder / WHOLE) and not files else []
    for file in files or whole:
        check_link(file, folder)
    if files:
        return list(by_split(files, lambda file: file.stem).values()), True
    if whole:
        return whole, False
    raise FileNotFoundError(
        f"{folder} has no CSV annotations; looked for {', '.join(f'{name}.csv' for name in SPLIT_FILES)}, {WHOLE}"
    )


def _read_rows(path: Path) -> list[Row]:
    """Read the rows of a CSV file; raise ValueError if the file is invalid or lacks a required column."""
    reader = csv.reader(io.StringIO(read_text(path, MAX_CSV), newline=""), skipinitialspace=True, strict=True)
    try:
        lines = [(reader.line_num, cells) for cells in reader]
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: {error}") from error
    header = [name.strip() for name in lines[0][1]] if lines else []
    _check_columns(header, str(path), in_file=True)
    return [
        Row(
            f"{path.name}, line {number}",
            dict(zip(header, cells, strict=False)),
            "" if len(cells) == len(header) else f"it must have {len(header)} cells, like the header, got {len(cells)}",
        )
        for number, cells in lines[1:]
        if any(cell.strip() for cell in cells)
    ]


def _check_columns(names: Sequence[Any], place: str, in_file: bool = False) -> None:
    missing = [name for name in COLUMNS if name not in names]
    if missing:
        hint = ""
        if len(names) == 1 and re.search("[;\t]", str(names[0])):
            hint = "; separate the columns with commas"
        elif len(missing) == len(COLUMNS):
            hint = f"; the first line must name the columns: {','.join(COLUMNS)}" if in_file else ""
        raise ValueError(
            f"{place} lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)}; it has "
            f"{listed([str(name)[:50] for name in names]) or 'none'}{hint}"
        )
    twice = [name for name in (*COLUMNS, *OPTIONAL_COLUMNS) if names.count(name) > 1]
    if twice:
        raise ValueError(f"{place} has the column {twice[0]} more than once")


# ---------------------------------------------------------------------- rows


def _read_images(rows: Iterable[Row], images: Path, classes: tuple[str, ...] | None) -> list[Entry]:
    """Return the images in the order of their first rows."""
    groups: dict[str, list[Row]] = {}
    entries: list[Entry] = []
    for row in rows:
        name = _cell(row, "image")
        name = str(name).strip() if isinstance(name, (str, os.PathLike)) else ""
        if name:
            groups.setdefault(name, []).append(row)
        else:
            reason = row.fault or f"its image must be a file name, got {reprlib.repr(row.cells.get('image'))}"
            entries.append((None, Broken(row.source, reason)))
    return [*(_read_image(name, group, images, classes) for name, group in groups.items()), *entries]


def _read_image(name: str, rows: Sequence[Row], images: Path, classes: tuple[str, ...] | None) -> Entry:
    """Return the image of a group of rows, and its split."""
    things: list[Thing] = []
    sizes, splits = set(), set()
    try:
        image = inside(images, name)
    except ValueError as error:
        return None, Broken(rows[0].source, str(error))
    for row in rows:
        try:
            things += _read_thing(row, classes)
            size = as_size(_cell(row, "width"), _cell(row, "height"))
            sizes |= {size} - {None}
            splits.add(_split(row))
            if len(sizes) > 1 or len(splits) > 1:
                what = "width and height" if len(sizes) > 1 else "split"
                raise ValueError(f"{what} of {reprlib.repr(name)} must be the same in all rows")
        except ValueError as error:
            return None, Broken(row.source, str(error))
    return splits.pop(), make_record(image, rows[0].source, things, sizes.pop() if sizes else None, name)


def _read_thing(row: Row, classes: tuple[str, ...] | None) -> list[Thing]:
    """Return a list with the object of a row; the list is empty if the box and the label are empty."""
    if row.fault:
        raise ValueError(row.fault)
    if all(_cell(row, column) == "" for column in (*BOX, "label")):
        return []
    x1, y1, x2, y2 = (as_number(_cell(row, column), column) for column in BOX)
    name = _class_name(_cell(row, "label"), classes)
    flags = {column: as_flag(_cell(row, column), column) for column in FLAG_NAMES}
    return [Thing((x1, y1, x2, y2), name, **flags)]


def _split(row: Row) -> str | None:
    """Return the split that a row names; None if the table has no column `split`."""
    if "split" not in row.cells:
        return None
    name = str(_cell(row, "split")).strip()
    if not 0 < len(name) <= MAX_SPLIT:
        raise ValueError(f"its split must have 1 to {MAX_SPLIT} characters, got {reprlib.repr(name)}")
    return plain_name(name)


def _class_name(value: Any, classes: tuple[str, ...] | None) -> str:
    """Return the class name that a cell states, either as a name or as a label."""
    number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    if number and float(value).is_integer():
        label = int(value)
        if classes is None:
            return str(label)
        return classes[label] if 1 <= label < len(classes) else f"label {label}"
    return clean_name(value, "label")


def _cell(row: Row, column: str) -> Any:
    """Return the value in a column, or "" if the value is missing: None, NaN, NA of pandas, or blank."""
    value = row.cells.get(column)
    missing = (
        value is None
        or type(value).__name__ in ("NAType", "NaTType")
        or (isinstance(value, (float, np.floating)) and value != value)
    )
    return "" if missing or (isinstance(value, str) and not value.strip()) else value

"""Boxes as rows: a CSV file, or rows in memory, such as a DataFrame's."""

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

from rcnn.data.reading import (
    FLAG_NAMES,
    Thing,
    as_flag,
    as_number,
    as_size,
    check_classes,
    clean_name,
    existing_folder,
    gather_classes,
    inside,
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


class Frame(Protocol):
    """What a DataFrame has."""

    def to_dict(self, orient: str, /) -> list[dict[str, Any]]:
        """With "records": a mapping for every row."""
        ...


class CSV(AnnotatedImages):
    """Images whose boxes are rows of a CSV file (UTF-8, commas) with the columns image, x1, y1, x2, y2, label.

    Coordinates are continuous: the image's left edge is 0. A row with nothing but an image is an image without
    objects. The columns may stand in any order; split, difficult, crowd and truncated (0 or 1), width and height (of
    the image) are used where they are there, others are not looked at.

    path: the file; or a folder with train.csv and val.csv, or with annotations.csv.
    split: "train" or "val", or another of these files or of the column split; images are held out where there is none
        for "val" (see `rcnn.data.split`). None means every image.
    images: the folder in which the column image names files. None is the folder of the CSV file.
    classes: the names of the labels 1, 2, ..., with or without "background" in front. None means those that a file
        classes.txt beside the CSV file lists, a name per line; without one, the names of all rows, sorted.
    on_error, progress: as in `AnnotatedImages`.
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
    """Images whose boxes are rows in memory: mappings from the columns of `CSV` to values, or a DataFrame.

    NaN and None count as empty. With `classes`, a label that is an integer is the label itself, 1 for the first of
    them; without, it is a name as any other.

    rows: the rows; images: the folder in which they name files. The other arguments are as in `CSV`.
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
    """A row, what messages call it, and what is wrong with it as a whole."""

    source: str
    cells: Mapping[str, Any]
    fault: str = ""


Entry = tuple[str | None, Record | Broken]  # an image, and the split that its rows name


def read_csv(
    path: str | os.PathLike[str],
    split: str | None = None,
    images: str | os.PathLike[str] | None = None,
    classes: Sequence[str] | None = None,
) -> Annotations:
    """What a CSV file, or a folder of them, says; arguments as in `CSV`.

    Raises OSError for what is not there, ValueError for a folder without such files, a file without the columns, and a
    split that it does not have; an image with a row that makes no sense is among the `broken`.
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
    """What rows in memory say; arguments as in `Table`, errors as in `read_csv`."""
    names = None if classes is None else check_classes(classes)
    if hasattr(rows, "to_dict"):
        mappings = rows.to_dict("records")
    else:
        mappings = list(rows) if isinstance(rows, Iterable) else [rows]  # which is refused
    if not all(isinstance(row, Mapping) for row in mappings):
        raise TypeError(f"rows must be mappings, such as {{'image': ..., 'x1': ...}}, got {reprlib.repr(rows)}")
    if mappings:
        _check_columns(list(dict.fromkeys(key for row in mappings for key in row)), "the table")
    numbered = [Row(f"row {i}", row) for i, row in enumerate(mappings)]
    return _choose(_read_images(numbered, existing_folder(images), names), split, names, "the table")


def _choose(entries: Sequence[Entry], split: str | None, classes: tuple[str, ...] | None, place: str) -> Annotations:
    """The annotations of a split; what cannot be read and names no split is in all of them."""
    known = {own for own, _ in entries if own is not None}
    source, hold_out = source_of(split, known, place)
    wanted = [entry for own, entry in entries if source is None or own in (source, None)]
    classes = classes or gather_classes(entry for _, entry in entries)
    return part_of(with_labels(wanted, classes), split, hold_out, place)


# ---------------------------------------------------------------------- files


def _find_files(path: str | os.PathLike[str]) -> tuple[list[Path], bool]:
    """(the CSV files, whether there is one for each split)."""
    given = Path(path).expanduser()
    if given.is_file():
        return [given], False
    folder = existing_folder(given)
    files = [folder / f"{name}.csv" for name in SPLIT_FILES if (folder / f"{name}.csv").is_file()]
    if files:
        return list(by_split(files, lambda file: file.stem).values()), True
    if (folder / WHOLE).is_file():
        return [folder / WHOLE], False
    raise FileNotFoundError(
        f"{folder} holds no annotations in CSV; looked for {', '.join(f'{name}.csv' for name in SPLIT_FILES)}, {WHOLE}"
    )


def _read_rows(path: Path) -> list[Row]:
    """The rows of a CSV file; ValueError, naming the file and the line, where it is none or lacks a column."""
    try:
        reader = csv.reader(
            io.StringIO(path.read_text(encoding="utf-8-sig"), newline=""), skipinitialspace=True, strict=True
        )
        lines = [(reader.line_num, cells) for cells in reader]
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not a text in UTF-8: {error}") from error
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: {error}") from error
    header = [name.strip() for name in lines[0][1]] if lines else []
    _check_columns(header, str(path), in_file=True)
    return [
        Row(
            f"{path.name}, line {number}",
            dict(zip(header, cells, strict=False)),
            "" if len(cells) == len(header) else f"it has {len(cells)} cells, the header has {len(header)}",
        )
        for number, cells in lines[1:]
        if any(cell.strip() for cell in cells)
    ]


def _check_columns(names: Sequence[Any], place: str, in_file: bool = False) -> None:
    missing = [name for name in COLUMNS if name not in names]
    if missing:
        hint = ""
        if len(names) == 1 and re.search("[;\t]", str(names[0])):
            hint = "; separate them by commas"
        elif len(missing) == len(COLUMNS):
            hint = f"; the first line names the columns: {','.join(COLUMNS)}" if in_file else ""
        raise ValueError(
            f"{place} lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)}; it has "
            f"{', '.join(map(str, names)) or 'none'}{hint}"
        )
    twice = [name for name in (*COLUMNS, *OPTIONAL_COLUMNS) if names.count(name) > 1]
    if twice:
        raise ValueError(f"{place} has the column {twice[0]} twice")


# ---------------------------------------------------------------------- rows


def _read_images(rows: Iterable[Row], images: Path, classes: tuple[str, ...] | None) -> list[Entry]:
    """The images in the order in which the rows name them first."""
    groups: dict[str, list[Row]] = {}
    entries: list[Entry] = []
    for row in rows:
        name = _cell(row, "image")
        name = str(name).strip() if isinstance(name, (str, os.PathLike)) else ""
        if name:
            groups.setdefault(name, []).append(row)
        else:
            reason = row.fault or f"its image is {reprlib.repr(row.cells.get('image'))}, not the name of a file"
            entries.append((None, Broken(row.source, reason)))
    return [*(_read_image(name, group, images, classes) for name, group in groups.items()), *entries]


def _read_image(name: str, rows: Sequence[Row], images: Path, classes: tuple[str, ...] | None) -> Entry:
    """The image that some rows are about."""
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
                raise ValueError(f"another row has another {what} for {name}")
        except ValueError as error:
            return None, Broken(row.source, str(error))
    return splits.pop(), make_record(image, rows[0].source, things, sizes.pop() if sizes else None, name)


def _read_thing(row: Row, classes: tuple[str, ...] | None) -> list[Thing]:
    """The object of a row; none, if box and label are empty."""
    if row.fault:
        raise ValueError(row.fault)
    if all(_cell(row, column) == "" for column in (*BOX, "label")):
        return []
    x1, y1, x2, y2 = (as_number(_cell(row, column), column) for column in BOX)
    name = _class_name(_cell(row, "label"), classes)
    flags = {column: as_flag(_cell(row, column), column) for column in FLAG_NAMES}
    return [Thing((x1, y1, x2, y2), name, **flags)]


def _split(row: Row) -> str | None:
    """The split that a row names; None in a table without such a column."""
    if "split" not in row.cells:
        return None
    name = str(_cell(row, "split")).strip()
    if not name:
        raise ValueError("its split is empty")
    return plain_name(name)


def _class_name(value: Any, classes: tuple[str, ...] | None) -> str:
    """The name of the class that a cell means: the name itself, or a label."""
    number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    if number and float(value).is_integer():
        label = int(value)
        if classes is None:
            return str(label)
        return classes[label] if 1 <= label < len(classes) else f"label {label}"
    return clean_name(value, "label")


def _cell(row: Row, column: str) -> Any:
    """The value in a column; "" where there is none, as None, NaN and pandas' NA say."""
    value = row.cells.get(column)
    missing = (
        value is None
        or type(value).__name__ in ("NAType", "NaTType")
        or (isinstance(value, (float, np.floating)) and value != value)
    )
    return "" if missing or (isinstance(value, str) and not value.strip()) else value

"""Readers of tables with one box per row: a CSV file, or rows in memory such as a DataFrame."""

from __future__ import annotations

import csv
import io
import os
import re
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from rcnn._files import read_text
from rcnn._validate import listed, shown
from rcnn.data.reading import (
    ANNOTATION_FOLDERS,
    FLAG_NAMES,
    IMAGE_FOLDERS,
    MAX_LIST,
    Thing,
    as_flag,
    as_number,
    as_size,
    check_classes,
    check_link,
    clean_name,
    existing_folder,
    given_path,
    inside,
    is_entry,
    make_record,
    matching,
    named_folders,
    read_each,
    stated_classes,
)
from rcnn.data.records import AnnotatedImages, Annotations, Broken, Record
from rcnn.data.search import Search
from rcnn.data.splits import SKIP, TEST, TRAIN, VAL, by_split, choose, plain_name, split_folders, without_annotation

BOX = ("x1", "y1", "x2", "y2")
COLUMNS = ("image", *BOX, "label")
OPTIONAL_COLUMNS = ("split", *FLAG_NAMES, "width", "height")
OTHER_NAMES = {  # names that programs use for a column, in lower case and without blanks, dashes and underscores
    "image": ("filename", "imagefilename", "imagepath", "filepath", "path", "imagename", "imageid", "file", "img"),
    "x1": ("xmin", "left"),
    "y1": ("ymin", "top"),
    "x2": ("xmax", "right"),
    "y2": ("ymax", "bottom"),
    "label": ("class", "classname", "labelname", "category", "categoryname", "name"),
    "split": ("subset",),
    "difficult": ("isdifficult",),
    "crowd": ("iscrowd", "isgroupof"),
    "truncated": ("istruncated",),
    "width": ("imagewidth", "imgwidth"),
    "height": ("imageheight", "imgheight"),
}
SIDES = ("x1", "y1", "w", "h")  # instead of BOX: the upper left corner, and the width and height of the box
SIDE_NAMES = {  # names of these columns, in a table without x2 and y2
    "x1": ("x1", "x", *OTHER_NAMES["x1"], "bboxx"),
    "y1": ("y1", "y", *OTHER_NAMES["y1"], "bboxy"),
    "w": ("w", "boxwidth", "bboxwidth", "bboxw", "width"),
    "h": ("h", "boxheight", "bboxheight", "bboxh", "height"),
}
EXPECTED = f"{','.join(COLUMNS)} or image,x,y,w,h,label"
NUMBERS = (*BOX, *SIDES[2:], "truncated", "width", "height")  # columns that may have a decimal comma
DELIMITERS = ",;\t|"
WHOLE = "annotations"
CLASS_FILES = ("classes.csv", "_classes.csv")  # keras-retinanet's list of class names and their numbers
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

    The columns may be in any order, and may have other common names, such as `filename`, `xmin` and `class` in files
    from TensorFlow's tutorials. A box may also be written as `x`, `y`, `w` and `h` (or `width` and `height`): its upper
    left corner, width and height. If the first line of a file does not contain the names of the columns, the file has
    the six columns in the order above, as in keras-retinanet. These columns are optional: `split`, `difficult`,
    `crowd`, `truncated`, and the `width` and `height` of the image in pixels. All other columns are ignored.

    Coordinates are in pixels and continuous: the left edge of the image is at 0. For an image without objects, write a
    row in which the four coordinates and the label are empty. Columns are separated by commas, semicolons, tabs or
    vertical bars. Unless commas separate them, numbers may have a decimal comma. The file uses UTF-8, or UTF-16 with a
    byte order mark. It can be at most 2 GiB in size.

    Parameters
    ----------
    path : path
        The file, or a folder in one of three layouts. (1) It contains train.csv and val.csv. Their names may have
        further words, as in train_labels.csv. (2) It contains folders `train` and `val` with one CSV file each. (3) It
        contains a single CSV file.
    split : str, optional
        The split, such as "train" or "val": either a value in the column `split`, or the name of a CSV file without
        .csv. If no images belong to "val", some of the other images are held out for validation (see
        `rcnn.data.split`). By default, every image is read.
    images : path, optional
        Folder that contains the images; the values in the column `image` are paths relative to it. By default, rcnn
        looks in the folder of the CSV file, and in folders such as `images` inside or beside it.
    classes : sequence of str, optional
        Class names for the labels 1, 2, ..., with or without a leading "background". By default, the names are read
        from the file classes.txt in the folder of the CSV file, one name per line, or from the file classes.csv, one
        name and its number per line. If there is no such file, the classes are all names that occur in the CSV file,
        sorted.
    unannotated : {"skip", "empty"}
        "skip" leaves out images without a row; "empty" reads them as images without objects. `rcnn check` lists these
        images.
    on_error, progress : str, bool
        See `AnnotatedImages`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        split: str | None = None,
        images: str | os.PathLike[str] | None = None,
        classes: Sequence[str] | None = None,
        unannotated: str = SKIP,
        on_error: str = "raise",
        progress: bool = True,
    ) -> None:
        super().__init__(read_csv(path, split, images, classes, unannotated), on_error, progress)


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
    split, classes, unannotated : str, sequence of str, str
        See `CSV`. No file with class names is read.
    on_error, progress : str, bool
        See `AnnotatedImages`.
    """

    def __init__(
        self,
        rows: Iterable[Mapping[str, Any]] | Frame,
        images: str | os.PathLike[str],
        split: str | None = None,
        classes: Sequence[str] | None = None,
        unannotated: str = SKIP,
        on_error: str = "raise",
        progress: bool = True,
    ) -> None:
        super().__init__(read_table(rows, images, split, classes, unannotated), on_error, progress)


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
    unannotated: str = SKIP,
) -> Annotations:
    """Read the annotations of a CSV file, or of a folder of CSV files.

    Parameters
    ----------
    path, split, images, classes, unannotated : path, str, path, sequence of str, str
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
    files, parts = _find_files(path)
    folder = files[0].parent
    names = _stated_classes(folder) if classes is None else check_classes(classes)
    split_of = {file: name for name, file in parts.items()}
    entries: list[Entry] = []
    for file in files:
        folders = _image_folders(file, split_of.get(file)) if images is None else [existing_folder(images)]
        found = _read_images(_read_rows(file), Search(folders), names)
        entries += [(split_of[file], entry) for _, entry in found] if parts else found
    return _choose(entries, split, names, unannotated, str(path))


def read_table(
    rows: Iterable[Mapping[str, Any]] | Frame,
    images: str | os.PathLike[str],
    split: str | None = None,
    classes: Sequence[str] | None = None,
    unannotated: str = SKIP,
) -> Annotations:
    """Read annotations from rows in memory.

    Parameters
    ----------
    rows, images, split, classes, unannotated : iterable, path, str, sequence of str, str
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
        columns = _columns(list(dict.fromkeys(key for row in mappings for key in row)), "the table")
        mappings = [{column: row.get(name) for column, name in columns.items()} for row in mappings]
    numbered = [Row(f"row {i}", row) for i, row in enumerate(mappings)]
    return _choose(
        _read_images(numbered, Search([existing_folder(images)]), names), split, names, unannotated, "the table"
    )


def _choose(
    entries: Sequence[Entry], split: str | None, classes: tuple[str, ...] | None, unannotated: str, place: str
) -> Annotations:
    """Return the annotations of a split; a broken entry without a split belongs to every split."""

    def part(name: str) -> list[Record | Broken]:
        return [entry for own, entry in entries if own in (name, None)]

    known = {own: partial(part, own) for own, _ in entries if own is not None}
    found = [entry for _, entry in entries]
    return choose([*found, *without_annotation(found)], known, split, place, classes, unannotated)


# ---------------------------------------------------------------------- files


def _find_files(path: str | os.PathLike[str]) -> tuple[list[Path], dict[str, Path]]:
    """Return the CSV files of a path and, if each of them contains one split, also a dict from splits to files."""
    given = given_path(path)
    if given.is_file():
        return [given], {}
    root = existing_folder(given)
    tables = [file for file in matching(root, "[!.]*.csv") if is_entry(file) and file.name not in CLASS_FILES]
    named = {file: split for file in tables if (split := _split_of(file.stem))}
    inside_splits = {
        name: [file for file in matching(folder, "[!.]*.csv") if file.name not in CLASS_FILES]
        for name, folder in split_folders(root).items()
    }
    if named:
        files = by_split(named, lambda file: named[file])
    elif inside_splits and all(len(found) == 1 for found in inside_splits.values()):
        files = {name: found[0] for name, found in inside_splits.items()}
    else:
        whole = tables if len(tables) == 1 else [file for file in tables if file.stem == WHOLE]
        files = dict(zip([""], whole, strict=False))
    for file in files.values():
        check_link(file, root)
    if not files:
        count = f"{len(tables)} CSV files, none of which is named after a split" if tables else "no CSV annotations"
        remedy = "; rename the files, or pass the path of one" if tables else ""
        raise FileNotFoundError(
            f"{root} has {count}; looked for train.csv, val.csv, {WHOLE}.csv, train/*.csv, val/*.csv{remedy}"
        )
    return list(files.values()), {name: file for name, file in files.items() if name}


def _split_of(stem: str) -> str | None:
    """Return the split whose name is a word of a file name, such as "train" for "train_labels", or None."""
    splits = {plain_name(word) for word in re.split(r"[\W_]", stem)} & {TRAIN, VAL, TEST}
    return splits.pop() if len(splits) == 1 else None


def _image_folders(file: Path, split: str | None) -> list[Path]:
    """Return the folders in which to look for the images of a CSV file."""
    near = [file.parent]
    if file.parent.name.lower() in (*ANNOTATION_FOLDERS, "data", "csv"):
        near += named_folders(Path(os.path.abspath(file.parent)).parent, IMAGE_FOLDERS)
    near += named_folders(file.parent, IMAGE_FOLDERS)
    own = [split_folders(folder).get(split) for folder in near] if split else []
    return [*(folder for folder in own if folder), *near]


def _stated_classes(folder: Path) -> tuple[str, ...] | None:
    """Return the class names of classes.txt or classes.csv, or None if there is no such file."""
    for name in CLASS_FILES if stated_classes(folder) is None else ():
        if is_entry(folder / name):
            check_link(folder / name, folder)
            try:
                return _numbered_classes(read_text(folder / name, MAX_LIST))
            except (csv.Error, ValueError) as error:
                raise ValueError(f"{folder / name}: {error}") from error
    return stated_classes(folder)


def _numbered_classes(text: str) -> tuple[str, ...]:
    """Return the class names of a file with one name and its number per line, in the order of the numbers."""
    names: dict[float, str] = {}
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text), skipinitialspace=True, strict=True)
    for row in reader:
        cells = [cell.strip() for cell in row if cell.strip()]
        number = as_number(cells[-1], f"number of line {reader.line_num}") if cells else 0
        if cells and (len(cells) != 2 or number in names):
            problem = "a name and a number that no other line has"
            raise ValueError(f"line {reader.line_num} must have {problem}, got {shown(row)}")
        names |= {number: cells[0]} if cells else {}
    return check_classes([name for _, name in sorted(names.items())])


def _read_rows(path: Path) -> list[Row]:
    """Read the rows of a CSV file; raise ValueError if the file is invalid or lacks a required column."""
    text = read_text(path, MAX_CSV)
    stated = re.match(r"sep=(.)\r?\n", text)  # Excel's first line
    text = text[stated.end() :] if stated else text
    delimiter = stated[1] if stated else _delimiter(text)
    file = io.StringIO(text, newline="")
    reader = csv.reader(file, delimiter=delimiter, skipinitialspace=True, strict=True)
    try:
        lines = [(reader.line_num + bool(stated), cells) for cells in reader if any(cell.strip() for cell in cells)]
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: {error}") from error
    header = [name.strip() for name in lines[0][1]] if lines else []
    if _is_row(header):
        columns: dict[str, int] = dict(zip(COLUMNS, range(len(COLUMNS)), strict=True))
    else:
        columns = {column: header.index(name) for column, name in _columns(header, str(path), in_file=True).items()}
        del lines[0]
    rows = []
    for number, cells in lines:
        fault = f"it must have {len(header)} cells, like the first line, got {len(cells)}"
        values = {column: cells[i] for column, i in columns.items() if i < len(cells)}
        if delimiter != ",":
            values |= {column: values[column].replace(",", ".") for column in NUMBERS if column in values}
        rows.append(Row(f"{path.name}, line {number}", values, fault if len(cells) != len(header) else ""))
    return rows


def has_columns(text: str) -> bool:
    """Return True if a file begins like a table that `CSV` reads.

    Parameters
    ----------
    text : str
        The beginning of a file.

    Returns
    -------
    bool
        True if the first line names the columns, or describes an object.
    """
    text = re.sub(r"^sep=.\r?\n", "", text)
    first = _first_line(text)
    cells = next(csv.reader([first], delimiter=_delimiter(text), skipinitialspace=True), [])
    names = [cell.strip() for cell in cells]
    return _is_row(names) or not _missing(_find_columns(names))


def _delimiter(text: str) -> str:
    """Return the character that separates the columns: the most frequent one in the first line."""
    return max(DELIMITERS, key=_first_line(text).count)


def _first_line(text: str) -> str:
    """Return the first line that is not blank; a line may also end with a carriage return alone."""
    return next((line for line in io.StringIO(text, newline=None) if line.strip()), "")


def _is_row(cells: Sequence[str]) -> bool:
    """Return True if the first line of a file describes an object, or an image without objects."""
    if len(cells) != len(COLUMNS) or _find_columns(cells):
        return False
    numbers = [cell for cell in cells[1:5] if re.fullmatch(r"[-+]?[\d.,]+(e[-+]?\d+)?", cell)]
    return len(numbers) == 4 or not any(cells[1:])


def _find_columns(names: Sequence[Any]) -> dict[str, Any]:
    """Return a dict from the columns that the reader knows to their names in a table."""
    plain = {re.sub(r"[\s_#-]", "", str(name)).lower(): name for name in reversed(names)}
    others = {column: (column, *OTHER_NAMES[column]) for column in (*COLUMNS, *OPTIONAL_COLUMNS)}
    found, sides = (
        {column: plain[known[0]] for column, wanted in names.items() if (known := [n for n in wanted if n in plain])}
        for names in (others, SIDE_NAMES)
    )
    if not {"x2", "y2"} & found.keys() and len(sides) == len(SIDES):
        own = {column: name for column, name in found.items() if name not in sides.values()}
        return own | sides
    return found


def _missing(columns: Iterable[str]) -> list[str]:
    """Return the required columns that are not among `columns`."""
    known = set(columns)
    return [name for name in COLUMNS if name not in known and not (name in BOX and known >= {*SIDES})]


def _columns(names: Sequence[Any], place: str, in_file: bool = False) -> dict[str, Any]:
    """Return a dict from columns to their names in a table; raise ValueError if a required column is missing."""
    columns = _find_columns(names)
    missing = _missing(columns)
    if missing:
        hint = f"; the first line must name the columns {EXPECTED}" if in_file else ""
        raise ValueError(
            f"{place} lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)}; it has "
            f"{listed([str(name)[:50] for name in names]) or 'none'}{hint}"
        )
    twice = [name for name in columns.values() if names.count(name) > 1]
    if twice:
        raise ValueError(f"{place} has the column {twice[0]} more than once")
    return columns


# ---------------------------------------------------------------------- rows


def _read_images(rows: Iterable[Row], search: Search, classes: tuple[str, ...] | None) -> list[Entry]:
    """Return the entries of the images in the order of their first rows, then those of rows without a valid image."""
    groups: dict[Path, list[Row]] = {}
    entries: list[Entry] = []
    for row in rows:
        try:
            if row.fault:
                raise ValueError(row.fault)
            groups.setdefault(_image_of(row, search), []).append(row)
        except ValueError as error:
            entries.append((None, Broken(row.source, str(error), str(_cell(row, "image")))))
    return [*(_read_image(image, group, classes) for image, group in groups.items()), *entries]


def _image_of(row: Row, search: Search) -> Path:
    """Return the path of the image that a row names; the file need not exist."""
    name = _cell(row, "image")
    if not isinstance(name, (str, os.PathLike)) or not str(name).strip():
        raise ValueError(f"its image must be a file name, got {reprlib.repr(row.cells.get('image'))}")
    return search.find(str(name)) or inside(search.folders[0], str(name))


def _read_image(image: Path, rows: Sequence[Row], classes: tuple[str, ...] | None) -> Entry:
    """Return the split and the record of an image, given its rows. If a row is invalid, return None and a `Broken`."""
    things: list[Thing] = []
    faults: list[Broken] = []
    sizes, splits = set(), set()
    name = str(_cell(rows[0], "image")).strip()
    for row in rows:
        try:
            size = as_size(_cell(row, "width"), _cell(row, "height"))
            sizes |= {size} - {None}
            splits.add(_split(row))
            if len(sizes) > 1 or len(splits) > 1:
                what = "width and height" if len(sizes) > 1 else "split"
                raise ValueError(f"{what} of {reprlib.repr(name)} must be the same in all rows")
        except ValueError as error:
            return None, Broken(row.source, str(error), name)
        found, wrong = read_each(partial(_read_thing, classes=classes), [row], row.source)
        things += found
        faults += wrong
    return splits.pop(), make_record(image, rows[0].source, things, sizes.pop() if sizes else None, name, faults)


def _read_thing(row: Row, number: int, classes: tuple[str, ...] | None) -> list[Thing]:
    """Return a list with the object of a row; the list is empty if the box and the label are empty."""
    del number
    box = SIDES if "w" in row.cells else BOX
    if all(_cell(row, column) == "" for column in (*box, "label")):
        return []
    x1, y1, x2, y2 = (as_number(_cell(row, column), column) for column in box)
    if box == SIDES:
        x2, y2 = x1 + x2, y1 + y2
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
    """Return the class name in a cell, which contains either the name or the label."""
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

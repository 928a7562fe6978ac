"""Functions for folders with one annotation file for each image; `voc` and `labelme` share them.

In this code, a `Sheet` is the annotation file of one image. A list is a text file that lists the images of a split.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from xml.etree.ElementTree import ParseError

from tqdm import tqdm

from rcnn._files import read_text
from rcnn.data.reading import (
    ANNOTATION_FOLDERS,
    IMAGE_FOLDERS,
    MAX_LIST,
    annotated_folder,
    check_classes,
    check_link,
    inside,
    matching,
    named_folders,
    stated_classes,
)
from rcnn.data.records import Annotations, Broken, Record
from rcnn.data.search import Search
from rcnn.data.splits import (
    TEST,
    TRAIN,
    VAL,
    WHOLE,
    Entry,
    by_split,
    choose,
    plain_name,
    split_folders,
    without_annotation,
    without_repeats,
)
from rcnn.images import SUFFIXES

IMAGE_SETS = (Path("ImageSets", "Main"), Path("ImageSets"))
MARK = re.compile(r"\s(-1|0|1)$")  # in the lists of VOC for one class, a mark follows each name


@dataclass(frozen=True)
class Sheet:
    """The annotation file of an image.

    Attributes
    ----------
    path : Path
        Path of the file.
    root : Path
        The folder that the user named.
    stem : str
        Path of the file relative to the folder of all annotation files, without its suffix.
    images : Search
        Finds the image that belongs to the file.
    """

    path: Path
    root: Path
    stem: str
    images: Search

    @property
    def source(self) -> str:  # numpydoc ignore=RT01
        """Name of the file in messages."""
        return self.path.relative_to(self.root).as_posix()

    def image(self, filename: str) -> Path:
        """Return the path of the image, which need not exist.

        Parameters
        ----------
        filename : str
            File name that the annotation file contains, or "".

        Returns
        -------
        Path
            The image with the same name as the annotation file or, if there is none, the image with the stated name.

        Raises
        ------
        ValueError
            If several images match, or if there is no image and `filename` is not a path inside the folder.
        """
        beside = PurePosixPath(self.stem).parent
        names = [self.stem, (beside / filename).as_posix()] if filename else [self.stem]
        if PurePosixPath(filename.replace("\\", "/")).stem == PurePosixPath(self.stem).name:
            names.reverse()  # the suffix of the stated name decides
        for name in names:
            if found := self.images.find(name):
                return found
        return inside(self.images.folders[0], filename or self.stem)


def read_sheets(
    folder: str | os.PathLike[str],
    suffix: str,
    read: Callable[[Sheet], Record],
    split: str | None,
    classes: Sequence[str] | None,
    unannotated: str,
    progress: bool,
) -> Annotations:
    """Read the annotations of a folder with one annotation file for each image.

    Parameters
    ----------
    folder : path
        The folder; see `VOC` for the layouts.
    suffix : str
        Suffix of the annotation files, such as ".xml".
    read : callable
        Function that reads an annotation file. If the file is invalid, the function raises OSError, ValueError,
        LookupError or ParseError.
    split, classes, unannotated, progress : str, sequence of str, str, bool
        See `VOC`.

    Returns
    -------
    Annotations
        The annotations. Their attribute `broken` lists the invalid files.

    Raises
    ------
    OSError
        If the folder is not found, or a list of image names, such as train.txt, is not a regular file.
    ValueError
        If the folder has none of the layouts, if the split does not exist, or if a list of image names is a link to a
        file outside the folder.
    """
    root = annotated_folder(folder, IMAGE_FOLDERS)
    names = stated_classes(root) if classes is None else check_classes(classes)
    sheets, parts = _find_sheets(root, suffix)
    bar = tqdm(sheets, desc="annotations", unit="file", disable=None if progress else True, delay=1)
    found = without_repeats([_read_sheet(sheet, read) for sheet in bar])
    entries = {sheet.path: entry for sheet, entry in zip(sheets, found, strict=True)}
    members = {name: partial(_members, part, root, entries, suffix) for name, part in parts.items()}
    everything = [*entries.values(), *without_annotation(entries.values())]
    return choose(everything, members, split, str(root), names, unannotated)


def _read_sheet(sheet: Sheet, read: Callable[[Sheet], Record]) -> Entry:
    try:
        return read(sheet)
    except (OSError, ValueError, LookupError, ParseError) as error:  # an unknown encoding raises LookupError
        return Broken(sheet.source, " ".join(str(error).split()) or type(error).__name__, f"{sheet.stem}.xml")


# ---------------------------------------------------------------------- layouts


def _find_sheets(root: Path, suffix: str) -> tuple[list[Sheet], dict[str, list[Sheet] | Path]]:
    """Return all annotation files and, for each split, its annotation files or the text file that lists their names."""
    everything = _sheets_of(root, root, suffix)
    if everything:
        lists = {} if everything[0].path.parent == root else _image_sets(root)
        return everything, dict(lists or _by_subfolder(everything))
    parts = {name: _sheets_of(root, folder, suffix) for name, folder in split_folders(root).items()}
    parts = {name: sheets for name, sheets in parts.items() if sheets}
    everything = [sheet for sheets in parts.values() for sheet in sheets] or _below(root, root, [root], suffix)
    if not everything:
        raise ValueError(
            f"{root} has no annotations in {suffix} files; looked for Annotations/*{suffix}, annots/*{suffix}, "
            f"*{suffix}, train/*{suffix}, val/*{suffix}"
        )
    return everything, dict(parts)


def _sheets_of(root: Path, folder: Path, suffix: str) -> list[Sheet]:
    """Return the annotation files in a folder or, if there are none, in its subfolder for annotations."""
    image_folders = named_folders(folder, IMAGE_FOLDERS)
    if paths := matching(folder, f"[!.]*{suffix}"):  # no hidden files; archives made on macOS contain some
        search = Search([folder, *image_folders] if _has_images(folder) else [*image_folders, folder])
        return [Sheet(path, root, path.stem, search) for path in paths]
    for sheet_folder in named_folders(folder, ANNOTATION_FOLDERS):
        if sheets := _below(root, sheet_folder, [*image_folders, folder, sheet_folder], suffix):
            return sheets
    return []


def _below(root: Path, folder: Path, images: Sequence[Path], suffix: str) -> list[Sheet]:
    """Return the annotation files in a folder and its subfolders, sorted by path."""
    search = Search(images)
    paths = matching(folder, f"[!.]*{suffix}", deep=True)
    return [Sheet(path, root, path.relative_to(folder).with_suffix("").as_posix(), search) for path in paths]


def _has_images(folder: Path) -> bool:
    return any(path.suffix.lower() in SUFFIXES for path in folder.iterdir())


def _by_subfolder(sheets: Sequence[Sheet]) -> dict[str, list[Sheet]]:
    """Return the annotation files of each split if all are in subfolders named after splits, else an empty dict."""
    parts: dict[str, list[Sheet]] = {}
    for sheet in sheets:
        parts.setdefault(plain_name(sheet.stem.partition("/")[0]) if "/" in sheet.stem else "", []).append(sheet)
    return parts if set(parts) <= {TRAIN, VAL, TEST} else {}


# ---------------------------------------------------------------------- text files that list names


def _image_sets(root: Path) -> dict[str, Path]:
    """Return a dict from splits to files that list names; empty if the only list is for the whole data set."""
    for folder in IMAGE_SETS:
        if lists := by_split(matching(root / folder, "[!.]*.txt"), lambda path: path.stem):
            return {} if set(lists) == {WHOLE} else lists
    return {}


def _members(part: Sequence[Sheet] | Path, root: Path, entries: Mapping[Path, Entry], suffix: str) -> list[Entry]:
    """Return the entries of a split, from its annotation files or from the text file that lists their names."""
    if not isinstance(part, Path):
        return [entries[sheet.path] for sheet in part]
    check_link(part, root)
    folder = Path(os.path.commonpath([path.parent for path in entries]))
    search = Search([folder], (suffix,))
    lines = enumerate(read_text(part, MAX_LIST).splitlines(), start=1)
    source = part.relative_to(root).as_posix()
    return [
        _listed(line.strip(), f"{source}, line {i}", search, root, entries, suffix) for i, line in lines if line.strip()
    ]


def _listed(line: str, source: str, search: Search, root: Path, entries: Mapping[Path, Entry], suffix: str) -> Entry:
    """Return the entry that a line names. The line "photo 1" means "photo 1", or "photo" followed by the mark 1."""
    name = MARK.sub("", line).strip()
    try:
        sheet = search.find(line) or search.find(name)
    except ValueError as error:
        return Broken(source, str(error))
    wanted = f"{search.folders[0].relative_to(root).as_posix()}/{name}{suffix}".removeprefix("./")
    return entries[sheet] if sheet is not None and sheet in entries else Broken(source, f"{wanted}: file not found")

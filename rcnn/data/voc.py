"""Reader of the format of the PASCAL VOC challenges: one XML file for each image.

VOC counts pixels from 1, and the last pixel belongs to the box: xmin=1, xmax=4 are four pixels, from 0 to 4 in
continuous coordinates.

References
----------
Everingham et al., "The PASCAL Visual Object Classes (VOC) Challenge", IJCV 2010, and the VOC development kits.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

from defusedxml import ElementTree
from tqdm import tqdm

from rcnn import images
from rcnn.data.reading import (
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
from rcnn.data.splits import by_split, part_of, source_of

LAYOUTS = (("Annotations", "JPEGImages"), ("annotations", "images"))
IMAGE_SETS = Path("ImageSets", "Main")
SPLIT_FOLDERS = ("train", "valid", "val", "test")
CORNERS = ("xmin", "ymin", "xmax", "ymax")


class VOC(AnnotatedImages):
    """Images with one XML file for each, in the format of the PASCAL VOC challenges and of labelImg.

    The image of an XML file has the same name, or else the name in its <filename>, with or without a suffix. An image
    without an XML file is not part of the data set. Truncated objects are marked in the targets; they count like all
    others, as in the challenges.

    Parameters
    ----------
    folder : path
        A folder in one of these layouts: Annotations and JPEGImages (or annotations and images), with or without lists
        of names in ImageSets/Main; images and XML files in the same folder; the same in each of the folders train,
        valid and test.
    split : str, optional
        "train", "val" or the name of another list in ImageSets/Main. Without a list for "val", images are held out
        (see `rcnn.data.split`). By default every image.
    classes : sequence of str, optional
        Names of the labels 1, 2, ..., with or without a leading "background". By default the names in classes.txt in
        the folder, one per line; without that file, the names of the objects of all splits, sorted.
    first_pixel : {1, 0}
        Number of the first pixel: 1 in VOC, 0 in some other programs.
    on_error, progress : str, bool
        As in `AnnotatedImages`.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        split: str | None = None,
        classes: Sequence[str] | None = None,
        first_pixel: int = 1,
        on_error: str = "raise",
        progress: bool = True,
    ) -> None:
        super().__init__(read_voc(folder, split, classes, first_pixel, progress), on_error, progress)


@dataclass(frozen=True)
class Sheet:
    """An XML file."""

    path: Path
    images: Path  # folder of its image
    source: str  # its name in messages


Sheets = list[Sheet | Broken]


def read_voc(
    folder: str | os.PathLike[str],
    split: str | None = None,
    classes: Sequence[str] | None = None,
    first_pixel: int = 1,
    progress: bool = True,
) -> Annotations:
    """Read the annotations of a folder.

    Parameters
    ----------
    folder, split, classes, first_pixel, progress : path, str, sequence of str, int, bool
        As in `VOC`.

    Returns
    -------
    Annotations
        Invalid XML files are in `broken`.

    Raises
    ------
    OSError
        If the folder is not found.
    ValueError
        If the folder has none of the layouts, the split does not exist, or `first_pixel` is neither 0 nor 1.
    """
    if first_pixel not in (0, 1):
        raise ValueError(f"first_pixel must be 0 or 1, got {first_pixel!r}")
    root = existing_folder(folder)
    everything, parts = _find_sheets(root)
    source, hold_out = source_of(split, parts, str(root))
    wanted = everything if source is None else parts[source]()
    names = stated_classes(root) if classes is None else check_classes(classes)
    needed = wanted if names else [*everything, *wanted]
    files = _ImageFolders()
    entries = {
        sheet: _read_sheet(sheet, files, first_pixel)
        for sheet in tqdm(
            dict.fromkeys(needed), desc="annotations", unit="file", disable=None if progress else True, delay=1
        )
    }
    annotations = with_labels([entries[sheet] for sheet in wanted], names or gather_classes(entries.values()))
    return part_of(annotations, split, hold_out, str(root))


# ---------------------------------------------------------------------- the XML files


def _find_sheets(root: Path) -> tuple[Sheets, dict[str, Callable[[], Sheets]]]:
    """Return (the XML files of all images, for each split a function that returns its XML files).

    VOC also has four lists for each class, so a list is read only on request.
    """
    for xml_folder, image_folder in LAYOUTS:
        if everything := _sheets_of(root, root / xml_folder, root / image_folder):
            lists = by_split(sorted((root / IMAGE_SETS).glob("[!.]*.txt")), lambda path: path.stem)
            return everything, {
                name: partial(_listed, root, path, root / xml_folder, root / image_folder)
                for name, path in lists.items()
            }
    if everything := _sheets_of(root, root, root):
        return everything, {}
    folders = [root / name for name in SPLIT_FOLDERS if any((root / name).glob("[!.]*.xml"))]
    if not folders:
        looked_for = ", ".join(f"{xml_folder}/*.xml" for xml_folder, _ in LAYOUTS)
        raise ValueError(
            f"{root} has no VOC annotations; looked for {looked_for}, *.xml, "
            + ", ".join(f"{name}/*.xml" for name in SPLIT_FOLDERS)
        )
    parts = by_split(folders, lambda path: path.name)
    return (
        [sheet for folder in parts.values() for sheet in _sheets_of(root, folder, folder)],
        {name: partial(_sheets_of, root, folder, folder) for name, folder in parts.items()},
    )


def _sheets_of(root: Path, xml_folder: Path, image_folder: Path) -> Sheets:
    """Return the XML files of a folder, sorted by name, without hidden files (archives made on macOS contain some)."""
    paths = sorted(xml_folder.glob("[!.]*.xml"))
    return [Sheet(path, image_folder, path.relative_to(root).as_posix()) for path in paths]


def _listed(root: Path, path: Path, xml_folder: Path, image_folder: Path) -> Sheets:
    """Return the XML files that a list names: one name per line, optionally followed by 1, 0 or -1."""
    found: Sheets = []
    list_name = path.relative_to(root).as_posix()
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text: {error}") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        name = line.strip()
        words = name.rsplit(None, 1)
        if len(words) == 2 and words[1] in ("-1", "0", "1"):
            name = words[0]
        try:
            sheet = inside(xml_folder, f"{name}.xml")
        except ValueError as error:
            found.append(Broken(f"{list_name}, line {number}", str(error)))
            continue
        source = sheet.relative_to(root).as_posix()
        found.append(
            Sheet(sheet, image_folder, source)
            if sheet.is_file()
            else Broken(f"{list_name}, line {number}", f"{source}: file not found")
        )
    return found


class _ImageFolders:
    """Image files of folders; each folder is listed only once."""

    def __init__(self) -> None:
        self._listed: dict[Path, dict[str, list[str]]] = {}

    def find(self, folder: Path, stem: str, filename: str) -> Path:
        """Return the path of the image of the XML file `stem`.xml with <filename> `filename`; it need not exist.

        Raise ValueError if the file name leads out of the folder, or if several images match.
        """
        stated = inside(folder, filename or stem)
        if stated.stem == stem and stated.is_file():
            return stated
        listed = self._by_stem(folder)
        if stem in listed:
            return _only(folder, listed[stem])
        if filename in listed and not stated.is_file():
            return _only(folder, listed[filename])
        return stated

    def _by_stem(self, folder: Path) -> dict[str, list[str]]:
        if folder not in self._listed:
            by_stem: dict[str, list[str]] = {}
            for name in sorted(os.listdir(folder)) if folder.is_dir() else ():
                stem, suffix = os.path.splitext(name)
                if suffix.lower() in images.SUFFIXES:
                    by_stem.setdefault(stem, []).append(name)
            self._listed[folder] = by_stem
        return self._listed[folder]


def _only(folder: Path, names: Sequence[str]) -> Path:
    if len(names) > 1:
        raise ValueError(f"several images match: {', '.join(names)}")
    return inside(folder, names[0])


# ---------------------------------------------------------------------- one file


def _read_sheet(sheet: Sheet | Broken, files: _ImageFolders, first_pixel: int) -> Record | Broken:
    if isinstance(sheet, Broken):
        return sheet
    try:
        return _read_annotation(ElementTree.fromstring(sheet.path.read_bytes()), sheet, files, first_pixel)
    except (OSError, ValueError, LookupError, ParseError) as error:  # LookupError: an unknown encoding
        return Broken(sheet.source, " ".join(str(error).split()) or type(error).__name__)


def _read_annotation(root: Element, sheet: Sheet, files: _ImageFolders, first_pixel: int) -> Record:
    """Return the record of an <annotation>; raise ValueError if it is invalid."""
    if root.tag != "annotation":
        raise ValueError(f"it must begin with <annotation>, got <{root.tag}>")
    image = files.find(sheet.images, sheet.path.stem, (root.findtext("filename") or "").strip())
    things = [_read_object(element, i, first_pixel) for i, element in enumerate(root.findall("object"))]
    size = as_size(root.findtext("size/width"), root.findtext("size/height"))
    return make_record(image, sheet.source, things, size, sheet.path.stem)


def _read_object(element: Element, number: int, first_pixel: int) -> Thing:
    """Return an <object>; its <part>s are ignored."""
    name = clean_name(element.findtext("name"), f"name of object {number}")
    corners = [as_number(element.findtext(f"bndbox/{corner}"), f"{corner} of object {number}") for corner in CORNERS]
    x1, y1 = (corner - first_pixel for corner in corners[:2])
    x2, y2 = (corner + (1 - first_pixel) for corner in corners[2:])  # the last pixel belongs to the box
    difficult = as_flag(element.findtext("difficult"), f"difficult of object {number}")
    truncated = as_flag(element.findtext("truncated"), f"truncated of object {number}")
    return Thing((x1, y1, x2, y2), name, difficult, truncated=truncated)

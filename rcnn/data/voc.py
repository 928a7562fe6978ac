"""Reader of the format of the PASCAL VOC challenges: one XML file for each image.

VOC counts pixels from 1, and the last pixel belongs to the box. For example, xmin=1 and xmax=4 describe four pixels,
which extend from 0 to 4 in continuous coordinates.

References
----------
Everingham et al., "The PASCAL Visual Object Classes (VOC) Challenge", IJCV 2010, and the VOC development kits.
"""

from __future__ import annotations

import os
import reprlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

from defusedxml import ElementTree
from tqdm import tqdm

from rcnn import images
from rcnn._files import read_text
from rcnn.data.reading import (
    MAX_LIST,
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
    read_inside,
    stated_classes,
    with_labels,
)
from rcnn.data.records import AnnotatedImages, Annotations, Broken, Record
from rcnn.data.splits import by_split, part_of, source_of

LAYOUTS = (("Annotations", "JPEGImages"), ("annotations", "images"))
IMAGE_SETS = Path("ImageSets", "Main")
SPLIT_FOLDERS = ("train", "valid", "val", "test")
MAX_XML = 1 << 23  # bytes of an XML file, enough for 20,000 objects
CORNERS = ("xmin", "ymin", "xmax", "ymax")


class VOC(AnnotatedImages):
    """Images with one XML file per image, in the format of the PASCAL VOC challenges and of labelImg.

    An XML file belongs to the image with the same name: a.xml belongs to a.jpg. If there is no such image, the XML file
    belongs to the image that its <filename> element names, with or without a suffix. An image without an XML file is
    not part of the data set. Targets mark truncated objects, which count like all other objects, as in the challenges.
    An XML file can be at most 8 MiB in size, and a list of names at most 64 MiB.

    Parameters
    ----------
    folder : path
        A folder in one of three layouts. (1) It contains the folders `Annotations` and `JPEGImages` (or `annotations`
        and `images`), and may contain lists of names in `ImageSets/Main`. (2) It contains images and XML files
        together. (3) Its folders `train`, `valid` and `test` contain images and XML files together.
    split : str, optional
        "train", "val" or the name of another list in ImageSets/Main. If there is no list for "val", some of the other
        images are held out for validation (see `rcnn.data.split`). By default, every image is read.
    classes : sequence of str, optional
        Class names for the labels 1, 2, ..., with or without a leading "background". By default, the names are read
        from the file classes.txt in the folder, one name per line. If there is no such file, they are the sorted class
        names of the objects in all splits.
    first_pixel : {1, 0}
        Number of the first pixel: 1 in VOC, 0 in some other programs.
    on_error, progress : str, bool
        See `AnnotatedImages`.
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
    root: Path  # folder that the user named
    images: Path  # folder of its image
    source: str  # name of the XML file in messages


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
        See `VOC`.

    Returns
    -------
    Annotations
        The annotations. Their attribute `broken` lists the invalid XML files.

    Raises
    ------
    OSError
        If the folder is not found, or a list of names is not a regular file.
    ValueError
        If the folder has none of the layouts, the split does not exist, a list of names is a link to a file outside the
        folder, or `first_pixel` is neither 0 nor 1.
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
    """Return the XML files of all images and, for each split, a function that returns the XML files of the split.

    A list is read only if its function is called, because VOC also has four lists for each class.
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
    return [Sheet(path, root, image_folder, path.relative_to(root).as_posix()) for path in paths]


def _listed(root: Path, path: Path, xml_folder: Path, image_folder: Path) -> Sheets:
    """Return the XML files that a list names; a line contains a name, optionally followed by 1, 0 or -1."""
    found: Sheets = []
    list_name = path.relative_to(root).as_posix()
    check_link(path, root)
    for number, line in enumerate(read_text(path, MAX_LIST).splitlines(), start=1):
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
            Sheet(sheet, root, image_folder, source)
            if is_entry(sheet)
            else Broken(f"{list_name}, line {number}", f"{source}: file not found")
        )
    return found


class _ImageFolders:
    """Search for image files in folders; each folder is listed only once."""

    def __init__(self) -> None:
        self._listed: dict[Path, dict[str, list[str]]] = {}

    def find(self, folder: Path, stem: str, filename: str) -> Path:
        """Return the path of the image that belongs to `stem`.xml, whose <filename> is `filename`.

        The image need not exist. Raise ValueError if the file name points outside the folder, or if several images
        match.
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
        content = read_inside(sheet.path, sheet.root, MAX_XML)
        return _read_annotation(ElementTree.fromstring(content), sheet, files, first_pixel)
    except (OSError, ValueError, LookupError, ParseError) as error:  # an unknown encoding raises LookupError
        return Broken(sheet.source, " ".join(str(error).split()) or type(error).__name__)


def _read_annotation(root: Element, sheet: Sheet, files: _ImageFolders, first_pixel: int) -> Record:
    """Return the record of an <annotation>; raise ValueError if it is invalid."""
    if root.tag != "annotation":
        raise ValueError(f"it must begin with <annotation>, got {reprlib.repr(root.tag)}")
    image = files.find(sheet.images, sheet.path.stem, (root.findtext("filename") or "").strip())
    things = [_read_object(element, i, first_pixel) for i, element in enumerate(root.findall("object"))]
    size = as_size(root.findtext("size/width"), root.findtext("size/height"))
    return make_record(image, sheet.source, things, size, sheet.path.stem)


def _read_object(element: Element, number: int, first_pixel: int) -> Thing:
    """Return the object that an <object> element describes; its <part> elements are ignored."""
    name = clean_name(element.findtext("name"), f"name of object {number}")
    corners = [as_number(element.findtext(f"bndbox/{corner}"), f"{corner} of object {number}") for corner in CORNERS]
    x1, y1 = (corner - first_pixel for corner in corners[:2])
    x2, y2 = (corner + (1 - first_pixel) for corner in corners[2:])  # the last pixel belongs to the box
    difficult = as_flag(element.findtext("difficult"), f"difficult of object {number}")
    truncated = as_flag(element.findtext("truncated"), f"truncated of object {number}")
    return Thing((x1, y1, x2, y2), name, difficult, truncated=truncated)

"""Reader of the format of the PASCAL VOC challenges: one XML file for each image.

VOC counts pixels from 1, and the last pixel belongs to the box. For example, xmin=1 and xmax=4 describe four pixels,
which extend from 0 to 4 in continuous coordinates.

References
----------
Everingham et al., "The PASCAL Visual Object Classes (VOC) Challenge", IJCV 2010, and the VOC development kits.
"""

from __future__ import annotations

import os
import re
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from xml.etree.ElementTree import Element, ParseError

from defusedxml import ElementTree
from tqdm import tqdm

from rcnn._files import read_text
from rcnn.data.reading import (
    ANNOTATION_FOLDERS,
    IMAGE_FOLDERS,
    MAX_LIST,
    Box,
    Thing,
    annotated_folder,
    as_flag,
    as_number,
    as_size,
    check_classes,
    check_link,
    clean_name,
    inside,
    make_record,
    named_folders,
    read_each,
    read_inside,
    stated_classes,
)
from rcnn.data.records import AnnotatedImages, Annotations, Broken, Record
from rcnn.data.search import Search
from rcnn.data.splits import (
    SKIP,
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
)
from rcnn.images import SUFFIXES

IMAGE_SETS = (Path("ImageSets", "Main"), Path("ImageSets"))
MAX_XML = 1 << 23  # bytes of an XML file, enough for 20,000 objects
CORNERS = ("xmin", "ymin", "xmax", "ymax")
MARK = re.compile(r"\s(-1|0|1)$")  # in the lists of VOC for one class, a mark follows each name
SLOW_ENCODINGS = ("idna", "punycode")  # decoding takes a time that grows with the square of the length


class VOC(AnnotatedImages):
    """Images with one XML file per image, in the format of the PASCAL VOC challenges and of labelImg.

    An XML file belongs to the image with the same name: a.xml belongs to a.jpg. If there is no such image, the XML file
    belongs to the image that its <filename> element names, with or without a suffix. Targets mark truncated objects,
    which count like all other objects, as in the challenges. An XML file can be at most 8 MiB in size, and a list of
    names at most 64 MiB.

    Parameters
    ----------
    folder : path
        A folder in one of four layouts. (1) It contains a folder of XML files, such as `Annotations` or `annots`, and a
        folder of images, such as `JPEGImages` or `images`, and may contain lists of names in `ImageSets/Main`. (2) It
        contains images and XML files together. (3) Its folders `train`, `val` and `test` have layout 1 or 2. (4) As
        layout 1, with folders `train`, `val` and `test` inside the two folders. The XML files may be in subfolders,
        such as `Annotations/cam1/x.xml` for the image `JPEGImages/cam1/x.jpg`.
    split : str, optional
        "train", "val" or the name of another list in ImageSets/Main. If there is no list for "val", some of the other
        images are held out for validation (see `rcnn.data.split`). By default, every image is read.
    classes : sequence of str, optional
        Class names for the labels 1, 2, ..., with or without a leading "background". By default, the names are read
        from the file classes.txt in the folder, one name per line. If there is no such file, they are the sorted class
        names of the objects in all splits.
    first_pixel : {1, 0}
        Number of the first pixel: 1 in VOC, 0 in some other programs.
    unannotated : {"skip", "empty"}
        "skip" leaves out images without an XML file; "empty" reads them as images without objects. `rcnn check`
        lists them.
    on_error, progress : str, bool
        See `AnnotatedImages`.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        split: str | None = None,
        classes: Sequence[str] | None = None,
        first_pixel: int = 1,
        unannotated: str = SKIP,
        on_error: str = "raise",
        progress: bool = True,
    ) -> None:
        super().__init__(read_voc(folder, split, classes, first_pixel, unannotated, progress), on_error, progress)


@dataclass(frozen=True)
class Sheet:
    """An XML file."""

    path: Path
    root: Path  # folder that the user named
    stem: str  # path of the XML file in the folder of XML files, without suffix
    images: Search  # search for its image

    @property
    def source(self) -> str:
        """Name of the XML file in messages."""
        return self.path.relative_to(self.root).as_posix()


def read_voc(
    folder: str | os.PathLike[str],
    split: str | None = None,
    classes: Sequence[str] | None = None,
    first_pixel: int = 1,
    unannotated: str = SKIP,
    progress: bool = True,
) -> Annotations:
    """Read the annotations of a folder.

    Parameters
    ----------
    folder, split, classes, first_pixel, unannotated, progress : path, str, sequence of str, int, str, bool
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
    root = annotated_folder(folder, IMAGE_FOLDERS)
    names = stated_classes(root) if classes is None else check_classes(classes)
    sheets, parts = _find_sheets(root)
    bar = tqdm(sheets, desc="annotations", unit="file", disable=None if progress else True, delay=1)
    entries = {sheet.path: _read_sheet(sheet, first_pixel) for sheet in bar}
    members = {name: partial(_members, part, root, entries) for name, part in parts.items()}
    everything = [*entries.values(), *without_annotation(entries.values())]
    return choose(everything, members, split, str(root), names, unannotated)


# ---------------------------------------------------------------------- the XML files


def _find_sheets(root: Path) -> tuple[list[Sheet], dict[str, list[Sheet] | Path]]:
    """Return the XML files of all images and, for each split, its XML files or the list of their names."""
    everything = _sheets_of(root, root)
    if everything:
        lists = {} if everything[0].path.parent == root else _image_sets(root)
        return everything, dict(lists or _by_subfolder(everything))
    parts = {name: _sheets_of(root, folder) for name, folder in split_folders(root).items()}
    parts = {name: sheets for name, sheets in parts.items() if sheets}
    if not parts:
        raise ValueError(
            f"{root} has no VOC annotations; looked for Annotations/*.xml, annots/*.xml, *.xml, train/*.xml, val/*.xml"
        )
    return [sheet for sheets in parts.values() for sheet in sheets], dict(parts)


def _sheets_of(root: Path, folder: Path) -> list[Sheet]:
    """Return the XML files of a folder, sorted by path, without hidden files (archives made on macOS contain some)."""
    image_folders = named_folders(folder, IMAGE_FOLDERS)
    if any(folder.glob("[!.]*.xml")):
        search = Search([*image_folders, folder] if not _has_images(folder) else [folder, *image_folders])
        return [Sheet(path, root, path.stem, search) for path in sorted(folder.glob("[!.]*.xml"))]
    for xml_folder in named_folders(folder, ANNOTATION_FOLDERS):
        if paths := sorted(xml_folder.rglob("[!.]*.xml")):
            search = Search([*image_folders, folder, xml_folder])
            return [Sheet(path, root, _stem(path, xml_folder), search) for path in paths]
    return []


def _stem(path: Path, folder: Path) -> str:
    return path.relative_to(folder).with_suffix("").as_posix()


def _has_images(folder: Path) -> bool:
    return any(path.suffix.lower() in SUFFIXES for path in folder.iterdir())


def _image_sets(root: Path) -> dict[str, Path]:
    """Return the lists of names by split, or an empty dict if there is only a list for the whole data set."""
    for folder in IMAGE_SETS:
        if lists := by_split(sorted((root / folder).glob("[!.]*.txt")), lambda path: path.stem):
            return {} if set(lists) == {WHOLE} else lists
    return {}


def _by_subfolder(sheets: Sequence[Sheet]) -> dict[str, list[Sheet]]:
    """Return the XML files of each split if all of them are in subfolders named after splits, else an empty dict."""
    parts: dict[str, list[Sheet]] = {}
    for sheet in sheets:
        parts.setdefault(plain_name(sheet.stem.partition("/")[0]) if "/" in sheet.stem else "", []).append(sheet)
    return parts if set(parts) <= {TRAIN, VAL, TEST} else {}


def _members(part: Sequence[Sheet] | Path, root: Path, entries: Mapping[Path, Entry]) -> list[Entry]:
    """Return the entries of a split, which is stated by a list of names or by the folders of the XML files."""
    if not isinstance(part, Path):
        return [entries[sheet.path] for sheet in part]
    check_link(part, root)
    folder = Path(os.path.commonpath([path.parent for path in entries]))
    search = Search([folder], (".xml",))
    lines = enumerate(read_text(part, MAX_LIST).splitlines(), start=1)
    source = part.relative_to(root).as_posix()
    return [_listed(line.strip(), f"{source}, line {i}", search, root, entries) for i, line in lines if line.strip()]


def _listed(line: str, source: str, search: Search, root: Path, entries: Mapping[Path, Entry]) -> Entry:
    """Return the entry that a line of a list names; the name may end like a mark, as in "photo 1"."""
    name = MARK.sub("", line).strip()
    try:
        sheet = search.find(line) or search.find(name)
    except ValueError as error:
        return Broken(source, str(error))
    wanted = f"{search.folders[0].relative_to(root).as_posix()}/{name}.xml".removeprefix("./")
    return entries[sheet] if sheet is not None and sheet in entries else Broken(source, f"{wanted}: file not found")


# ---------------------------------------------------------------------- one file


def _read_sheet(sheet: Sheet, first_pixel: int) -> Record | Broken:
    try:
        root = _parse(read_inside(sheet.path, sheet.root, MAX_XML))
        return _read_annotation(root, sheet, first_pixel)
    except (OSError, ValueError, LookupError, ParseError) as error:  # an unknown encoding raises LookupError
        return Broken(sheet.source, " ".join(str(error).split()) or type(error).__name__, f"{sheet.stem}.xml")


def _parse(content: bytes) -> Element:
    """Return the root of an XML file; namespaces are removed from the tags, which become lower case.

    The XML parser knows few encodings. If a file states another one, Python decodes the file.
    """
    stated = re.match(rb"\s*<\?xml[^>]*encoding\s*=\s*[\"']([\w.:-]+)", content)
    encoding = stated[1].decode().lower() if stated else "utf-8"
    try:
        root = ElementTree.fromstring(content)
    except (ParseError, ValueError, LookupError):
        if encoding.startswith("utf") or encoding in SLOW_ENCODINGS:
            raise
        root = ElementTree.fromstring(content.decode(encoding))
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2].lower()
    return root


def _read_annotation(root: Element, sheet: Sheet, first_pixel: int) -> Record:
    """Return the record of an <annotation>; raise ValueError if it is invalid."""
    if root.tag != "annotation":
        raise ValueError(f"it must begin with <annotation>, got {reprlib.repr(root.tag)}")
    image = _image_of(sheet, (root.findtext("filename") or "").strip())
    things, faults = read_each(partial(_read_object, first_pixel=first_pixel), root.iter("object"), sheet.source)
    size = as_size(root.findtext("size/width"), root.findtext("size/height"))
    return make_record(image, sheet.source, things, size, sheet.stem, faults)


def _image_of(sheet: Sheet, filename: str) -> Path:
    """Return the path of the image of an XML file, which need not exist; raise ValueError if several images match."""
    beside = PurePosixPath(sheet.stem).parent
    names = [sheet.stem, (beside / filename).as_posix()] if filename else [sheet.stem]
    if PurePosixPath(filename.replace("\\", "/")).stem == PurePosixPath(sheet.stem).name:
        names.reverse()  # the suffix in <filename> decides
    for name in names:
        if found := sheet.images.find(name):
            return found
    return inside(sheet.images.folders[0], filename or sheet.stem)


def _read_object(element: Element, number: int, first_pixel: int) -> list[Thing]:
    """Return the objects that an <object> element describes, one for each box; its <part> elements are ignored."""
    name = clean_name(element.findtext("name"), f"name of object {number}")
    difficult = as_flag(element.findtext("difficult"), f"difficult of object {number}")
    truncated = as_flag(element.findtext("truncated"), f"truncated of object {number}")
    boxes = element.findall("bndbox") or [Element("bndbox")]  # without a box, the message names the missing corner
    return [
        Thing(_read_box(box, f"object {number}", first_pixel), name, difficult, truncated=truncated) for box in boxes
    ]


def _read_box(element: Element, what: str, first_pixel: int) -> Box:
    """Return the box of a <bndbox> element in continuous coordinates; the last pixel belongs to the box."""
    for corner in CORNERS:
        if len(element.findall(corner)) > 1:
            raise ValueError(f"{what} has a box with several {corner}; write a <bndbox> for each box")
    x1, y1, x2, y2 = (as_number(element.findtext(corner), f"{corner} of {what}") for corner in CORNERS)
    return x1 - first_pixel, y1 - first_pixel, x2 + (1 - first_pixel), y2 + (1 - first_pixel)

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
from collections.abc import Sequence
from functools import partial
from xml.etree.ElementTree import Element, ParseError

from defusedxml import ElementTree

from rcnn.data.reading import Box, Thing, as_flag, as_number, as_size, clean_name, make_record, read_each, read_inside
from rcnn.data.records import AnnotatedImages, Annotations, Record
from rcnn.data.sheets import Sheet, read_sheets
from rcnn.data.splits import SKIP

MAX_XML = 1 << 23  # bytes of an XML file, enough for 20,000 objects
CORNERS = ("xmin", "ymin", "xmax", "ymax")
SLOW_ENCODINGS = ("idna", "punycode")  # the time for decoding grows with the square of the length


class VOC(AnnotatedImages):
    """Images with one XML file per image, in the format of the PASCAL VOC challenges and of labelImg.

    An XML file belongs to the image with the same name: a.xml belongs to a.jpg. If there is no such image, the XML file
    belongs to the image that its <filename> element names, with or without a suffix. Targets mark truncated objects,
    which count like all other objects, as in the challenges. An XML file can be at most 8 MiB in size, and a text
    file that lists image names can be at most 64 MiB.

    Parameters
    ----------
    folder : path
        A folder in one of four layouts. (1) It contains a folder of XML files, such as `Annotations` or `annots`, and a
        folder of images, such as `JPEGImages` or `images`. It may also contain lists of image names, such as
        `ImageSets/Main/train.txt`. (2) It contains images and XML files together. (3) Its folders `train`, `val` and
        `test` have layout 1 or 2. (4) It has layout 1, with folders `train`, `val` and `test` inside the folder of XML
        files and the folder of images. The XML files may be in subfolders, such as `Annotations/cam1/x.xml` for the
        image `JPEGImages/cam1/x.jpg`.
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
        "skip" leaves out images without an XML file; "empty" reads them as images without objects. `rcnn check` lists
        these images.
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
        If the folder is not found, or if a list of image names, such as train.txt, is not a regular file.
    ValueError
        If the folder has none of the layouts, if the split does not exist, if a list of image names is a link to a file
        outside the folder, or if `first_pixel` is neither 0 nor 1.
    """
    if first_pixel not in (0, 1):
        raise ValueError(f"first_pixel must be 0 or 1, got {first_pixel!r}")
    return read_sheets(
        folder, ".xml", partial(_read_sheet, first_pixel=first_pixel), split, classes, unannotated, progress
    )


def _read_sheet(sheet: Sheet, first_pixel: int) -> Record:
    """Return the record of an XML file; raise ValueError, LookupError or ParseError if it is invalid."""
    root = parse_xml(read_inside(sheet.path, sheet.root, MAX_XML))
    if root.tag != "annotation":
        raise ValueError(f"it must begin with <annotation>, got {reprlib.repr(root.tag)}")
    image = sheet.image((root.findtext("filename") or "").strip())
    things, faults = read_each(partial(_read_object, first_pixel=first_pixel), root.iter("object"), sheet.source)
    size = as_size(root.findtext("size/width"), root.findtext("size/height"))
    return make_record(image, sheet.source, things, size, sheet.stem, faults)


def parse_xml(content: bytes) -> Element:
    """Return the root of an XML file; namespaces are removed from the tags, which become lower case.

    The XML parser knows few encodings. If a file declares another one, Python decodes the file.

    Parameters
    ----------
    content : bytes
        Content of the file.

    Returns
    -------
    Element
        The root.

    Raises
    ------
    ParseError, ValueError, LookupError
        If the content is not XML, or its encoding is unknown.
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
    """Return the box of a <bndbox> element in continuous coordinates; xmax and ymax are the last pixels inside it."""
    for corner in CORNERS:
        if len(element.findall(corner)) > 1:
            raise ValueError(f"{what} has a box with several {corner}; write a <bndbox> for each box")
    x1, y1, x2, y2 = (as_number(element.findtext(corner), f"{corner} of {what}") for corner in CORNERS)
    return x1 - first_pixel, y1 - first_pixel, x2 + (1 - first_pixel), y2 + (1 - first_pixel)

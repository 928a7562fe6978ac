"""Recognition of the format of a data set by its files."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from rcnn._files import open_regular
from rcnn.data.masks import LAYOUTS
from rcnn.data.reading import ANNOTATION_FOLDERS, fail, given_path
from rcnn.data.search import image_files
from rcnn.data.table import EXPECTED, has_columns

HEAD = 1 << 16  # bytes to read from the beginning of a file
MOST_FILES = 20  # number of files with each suffix to read
SUFFIXES = (".xml", ".json", ".csv", ".txt", ".yaml", ".yml", ".names")


def find_formats(path: str | os.PathLike[str]) -> list[str]:
    """Return the formats of the annotations of a folder, or of an annotation file.

    Parameters
    ----------
    path : path
        A folder or a file. At most twenty files with each suffix are opened.

    Returns
    -------
    list of str
        Names such as "voc" and "csv", the most probable format first.

    Raises
    ------
    ValueError
        If no known annotations are found.
    OSError
        If the path is not found, or a folder or file cannot be read.
    """
    given = given_path(path)
    if not given.exists():
        raise FileNotFoundError(f"{given}: file or folder not found")
    files = [given] if given.is_file() else list(_annotation_files(given))
    heads = [(file, _head(file)) for file in files]
    found = [name for name, matches in SIGNS.items() if any(matches(file, head) for file, head in heads)]
    if any(
        (given / image_folder).is_dir() and (given / mask_folder).is_dir() for image_folder, mask_folder, _ in LAYOUTS
    ):
        found.append("masks")
    if not found:
        for program, sign in OTHER_SIGNS.items():
            file = next((file for file, head in heads if file.suffix.lower() in DATA and re.search(sign, head)), None)
            if file is not None:
                raise ValueError(
                    f"{given} has annotations from {program} ({file.name}), which rcnn does not read; export them as "
                    "COCO, YOLO or PASCAL VOC"
                )
        if given.is_dir() and not files and (photos := image_files(given)):
            count = f"{len(photos)} image{'s' * (len(photos) != 1)}"
            raise ValueError(
                f"{given} has {count}, but no annotations; docs/annotating.md explains how to draw boxes with labelme"
            )
        table = next((file for file in files if file.suffix.lower() == ".csv"), None)
        hint = f"; a CSV file such as {table.name} must have the columns {EXPECTED}" if table else ""
        raise ValueError(
            f"{given} has no annotations in a known format: {', '.join(dict.fromkeys((*SIGNS, 'masks')))}; to choose "
            f"a format yourself, write it in front of the path, for example voc:PATH{hint}"
        )
    return found


def _annotation_files(folder: Path) -> Iterator[Path]:
    """Yield the first files with each suffix in a folder and its subfolders; leave out hidden files and folders."""
    counts = dict.fromkeys(SUFFIXES, 0)
    for above, folders, names in os.walk(folder, onerror=fail):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            suffix = os.path.splitext(name)[1].lower()
            if counts.get(suffix, MOST_FILES) < MOST_FILES and not name.startswith("."):
                counts[suffix] += 1
                yield Path(above, name)


def _head(file: Path) -> str:
    """Return the beginning of a file; "" if it is not a regular file. Raise PermissionError if it cannot be read."""
    try:
        with open_regular(file) as opened:
            content = opened.read(HEAD)
    except PermissionError:
        raise
    except OSError:
        return ""
    wide = content[:2] in (b"\xff\xfe", b"\xfe\xff")
    return content.decode("utf-16" if wide else "utf-8-sig", "ignore").lstrip()


# ---------------------------------------------------------------------- the signs of each format


def _is_voc(file: Path, head: str) -> bool:
    return file.suffix.lower() == ".xml" and re.search(r"<annotation[\s>]", head, re.IGNORECASE) is not None


def _is_coco(file: Path, head: str) -> bool:
    keys = re.search(r'"(images|annotations|licenses)"\s*:', head)
    return file.suffix.lower() == ".json" and head.startswith("{") and keys is not None and not _is_labelme(file, head)


def _is_labelme(file: Path, head: str) -> bool:
    return file.suffix.lower() == ".json" and re.search(r'"(shapes|imageData)"\s*:', head) is not None


def _is_cvat(file: Path, head: str) -> bool:
    return file.suffix.lower() == ".xml" and re.search(r"<annotations[\s>]", head) is not None


def _is_label_studio(file: Path, head: str) -> bool:
    keys = re.search(r'"(annotations|completions|original_width)"\s*:', head)
    create_ml = re.search(OTHER_SIGNS["CreateML"], head)
    return file.suffix.lower() == ".json" and head.startswith("[") and keys is not None and create_ml is None


def _is_yolo(file: Path, head: str) -> bool:
    if file.suffix.lower() in (".yaml", ".yml"):
        return re.search(r"^names\s*:", head, re.MULTILINE) is not None
    lines = list(islice((line for line in head.splitlines() if line.strip()), MOST_FILES))
    rows = [re.fullmatch(r"\S+(\s+[-+.\de]+){4,}\s*", line) for line in lines[: max(len(lines) - 1, 1)]]
    empty_label = not lines and file.parent.name.lower() in ANNOTATION_FOLDERS
    return file.suffix.lower() == ".txt" and (empty_label or (bool(rows) and all(rows)))


def _is_csv(file: Path, head: str) -> bool:
    return file.suffix.lower() == ".csv" and has_columns(head)


SIGNS: dict[str, Callable[[Path, str], bool]] = {
    "voc": _is_voc,
    "coco": _is_coco,
    "yolo": _is_yolo,
    "labelme": _is_labelme,
    "cvat": _is_cvat,
    "labelstudio": _is_label_studio,
    "csv": _is_csv,
}

DATA = (".json", ".csv")  # the files that OTHER_SIGNS describes
OTHER_SIGNS = {  # what the files of formats contain that rcnn does not read, by program
    "VIA": r"\bregion_shape_attributes\b|\"shape_attributes\"|\"_via_",
    "CreateML": r'"coordinates"\s*:\s*\{',
    "Supervisely": r'"classTitle"\s*:',
    "VoTT": r'"vottVersion"|"assets"\s*:',
}

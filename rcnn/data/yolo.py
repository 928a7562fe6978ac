"""Reader of the YOLO format: one text file for each image, with one line for each object.

A line contains the number of the class and the centre, width and height of the box, as fractions of the size of the
upright image. Numbers of classes start at 0. In files for segmentation, the number of the class is followed by the
corners of a polygon.

References
----------
Redmon et al., "You Only Look Once: Unified, Real-Time Object Detection", CVPR 2016; for the format, see
docs.ultralytics.com/datasets.
"""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from tqdm import tqdm

from rcnn import images
from rcnn._files import decode_text, read_text
from rcnn._validate import shown
from rcnn.data.reading import (
    ANNOTATION_FOLDERS,
    CLASSES_FILE,
    IMAGE_FOLDERS,
    MAX_LIST,
    Box,
    Thing,
    annotated_folder,
    as_number,
    check_classes,
    check_link,
    existing_folder,
    given_path,
    make_record,
    matching,
    named_folders,
    read_each,
    read_inside,
    stated_classes,
)
from rcnn.data.records import AnnotatedImages, Annotations, Broken, Record
from rcnn.data.search import Search, image_files, path_parts
from rcnn.data.splits import OTHER_NAMES, TEST, TRAIN, VAL, by_split, choose, plain_name, split_folders
from rcnn.transform import Size

MAX_TXT = 1 << 24  # bytes of the annotation of one image
MAX_YAML = 1 << 20
MAX_FRACTION = 2  # a larger coordinate is a number of pixels
BORDER = 1e-9  # pixels; a coordinate this close to 0 is 0, because fractions are rounded
UNNAMED = "class {}"  # for a number that is not in the list of names
SPLIT_LISTS = ("train.txt", "val.txt", "valid.txt", "validation.txt", "test.txt")


class YOLO(AnnotatedImages):
    """Images with one text file per image, in the format of YOLO.

    The text file of images/train/a.jpg is labels/train/a.txt, or a.txt beside the image. Polygons become the boxes
    around them. A confidence or keypoints after a box are ignored; if the number of values does not show that they are
    keypoints, the YAML file must contain kpt_shape. A text file can be at most 16 MiB in size.

    Parameters
    ----------
    folder : path
        A folder with images and text files, or the YAML file in such a folder. The YAML file, such as data.yaml, lists
        the splits and the names of the classes. Without it, the splits are folders, such as images/train or
        train/images, or lists of images, such as train.txt.
    split : str, optional
        "train", "val" or "test". If the data set has no "val", some of the other images are held out for validation
        (see `rcnn.data.split`). By default, every image is read.
    classes : sequence of str, optional
        Class names for the labels 1, 2, ..., with or without a leading "background". By default, these are the names in
        the YAML file, or in classes.txt or a file such as obj.names. If there is no such file, the numbers of the
        classes are their names, with a warning.
    unannotated : {"empty", "skip"}
        "empty": an image without a text file has no objects, as is usual in this format. "skip": it is left out. If no
        image has a text file, an error is raised.
    on_error, progress : str, bool
        See `AnnotatedImages`.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        split: str | None = None,
        classes: Sequence[str] | None = None,
        unannotated: str = "empty",
        on_error: str = "raise",
        progress: bool = True,
    ) -> None:
        super().__init__(read_yolo(folder, split, classes, unannotated, progress), on_error, progress)


@dataclass(frozen=True)
class Settings:
    """Settings from the YAML file of a data set."""

    names: Mapping[int, str]
    places: Mapping[str, Sequence[str]]  # for each split, paths of folders or of lists of images
    keypoints: bool = False


def read_yolo(
    folder: str | os.PathLike[str],
    split: str | None = None,
    classes: Sequence[str] | None = None,
    unannotated: str = "empty",
    progress: bool = True,
) -> Annotations:
    """Read the annotations of a folder.

    Parameters
    ----------
    folder, split, classes, unannotated, progress : path, str, sequence of str, str, bool
        See `YOLO`.

    Returns
    -------
    Annotations
        The annotations. Their attribute `broken` lists unreadable images, and text files without an image.

    Raises
    ------
    OSError
        If the folder is not found, or a path for "train" or "val" in the YAML file.
    ValueError
        If the folder has no images, none of them has a text file, the split does not exist, or two files list different
        classes.
    """
    given = given_path(folder, "folder")
    root = given.parent if given.is_file() else annotated_folder(given, IMAGE_FOLDERS)
    settings = _read_settings(root, given if given.is_file() else None)
    names = check_classes(classes) if classes is not None else _class_names(settings.names)
    if names is None:
        _warn_of_missing_names(root)
    everything, parts = _find_images(root, settings)
    labels = _Labels(root)
    bar = tqdm(dict.fromkeys(everything), desc="annotations", unit="file", disable=None if progress else True, delay=1)
    entries = {image: _read_image(image, labels, settings) for image in bar}
    members = {name: partial(map, entries.__getitem__, part) for name, part in parts.items()}
    without_image = labels.without_image()
    if not without_image:  # otherwise, the text files are in the right folder, but their names are wrong
        _check_annotated(root, entries.values(), "the images", required=True)
    annotations = choose([*entries.values(), *without_image], members, split, str(root), names, unannotated)
    _check_annotated(root, annotations.records, f"the images of {split or root.name}", required=False)
    return replace(annotations, broken=[*_numbered_from_1(root, entries.values(), settings.names), *annotations.broken])


def _check_annotated(root: Path, entries: Iterable[Record | Broken], what: str, required: bool) -> None:
    """Raise ValueError if no image has a text file, and if these are `required` or lie in an unknown folder."""
    known = list(entries)
    stems = {entry.image.stem for entry in known if isinstance(entry, Record)}
    if not stems or any(isinstance(entry, Broken) or entry.annotated for entry in known):
        return
    paths = [path for path in matching(root, "[!.]*.txt", deep=True) if path.stem in stems]
    problem = f"{root}: none of {what} has a text file"
    if paths:
        folder, _ = Counter(path.parent for path in paths).most_common(1)[0]
        first = next(path for path in paths if path.parent == folder)
        program = _other_format(read_inside(first, root, MAX_TXT).decode("utf-8", "replace"))
        raise ValueError(
            f"{problem} in a folder such as labels, but {folder} has text files with their names"
            + (
                f" in the format of {program}, which rcnn does not read; export YOLO, COCO or PASCAL VOC instead"
                if program
                else "; if these are in YOLO's format, move them to the folder labels"
            )
        )
    if required:
        raise ValueError(
            f"{problem}; add the folder labels, with a text file for each image (an image without objects may have an "
            "empty one)"
        )


def _other_format(text: str) -> str | None:
    """Return the name of the format if the lines of a text file are in the format of KITTI or DOTA, else None."""
    for words in map(str.split, text.splitlines()):
        numbers = [_is_number(word) for word in words]
        if len(words) in (15, 16) and not numbers[0] and all(numbers[1:]):
            return "KITTI"
        if len(words) in (9, 10) and all(numbers[:8]) and not numbers[8]:
            return "DOTA (labelTxt, rotated boxes)"
    return None


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


# ---------------------------------------------------------------------- classes and splits


def _read_settings(root: Path, given: Path | None) -> Settings:
    """Return the settings of a folder from its YAML file. If it has no class names, read them from another file."""
    content: Mapping[str, Any] = {}
    for path in [given] if given else [*matching(root, "[!.]*.yaml"), *matching(root, "[!.]*.yml")]:
        found = _read_yaml(path, root)
        if "names" in found and not content:
            content, source = found, path.name
    listed = _listed_names(root)
    names = _numbered(content["names"], f"{root / source}: names") if content else {}
    if names and listed and names != listed:
        raise ValueError(
            f"{root}: {source} and the list of classes beside it must list the same classes, got "
            f"({', '.join(names.values())}) and ({', '.join(listed.values())}); remove one of them, or pass classes"
        )
    if "nc" in content and content["nc"] not in (str(len(names)), f"{len(names)}.0", ""):
        raise ValueError(f"{root / source}: nc must be the number of names ({len(names)}), got {shown(content['nc'])}")
    above = content.get("path", "")
    places: dict[str, list[str]] = {}
    for key, value in content.items():
        if isinstance(key, str) and plain_name(key) in (TRAIN, VAL, TEST) and value:
            own = [value] if isinstance(value, str) else value
            if not isinstance(own, list) or not all(isinstance(place, str) for place in (*own, above)):
                given_paths = f"{shown(above)} and {shown(value)}"
                raise ValueError(f"{root / source}: path and {key} must be paths, got {given_paths}")
            places[plain_name(key)] = [f"{above}/{place}" for place in own]
    return Settings(names or listed, places, "kpt_shape" in content)


def _read_yaml(path: Path, root: Path) -> Mapping[str, Any]:
    """Return the content of a YAML file, in which all values are strings; an empty dict if it is not a mapping."""
    import yaml

    check_link(path, root)
    try:
        content = yaml.load(read_text(path, MAX_YAML), Loader=yaml.BaseLoader)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"{path} is not YAML: {' '.join(str(error).split())[:200]}") from error
    return content if isinstance(content, dict) else {}


def _warn_of_missing_names(root: Path) -> None:
    """Warn that the classes have no names, and say where to write or find them."""
    above = Path(os.path.abspath(root)).parent
    files = [*matching(above, "[!.]*.yaml"), *matching(above, "[!.]*.yml")]
    remedy = f"to give them names, write one name on each line of {root / CLASSES_FILE}"
    if files:
        remedy += f", or pass {above}, if its {files[0].name} belongs to this data set"
    warnings.warn(f"{root}: the classes have no names, only numbers; {remedy}", stacklevel=4)


def _numbered_from_1(root: Path, entries: Iterable[Record | Broken], names: Mapping[int, str]) -> list[Broken]:
    """Return a list with an error if the numbers of the classes seem to begin with 1; else an empty list."""
    used = {name for entry in entries if isinstance(entry, Record) for name in entry.names}
    count = len(names)
    if list(names) != [*range(count)] or UNNAMED.format(count) not in used or names.get(0) in used:
        return []
    problem = f"class {count} has no name, and class 0 ({names[0]!r}) has no object, but YOLO counts classes from 0"
    return [Broken(root.name, f"{problem}; if yours are 1 to {count}, subtract 1 from the first number of each line")]


def _numbered(names: Any, what: str) -> dict[int, str]:
    """Return a dict from numbers to class names, given the list or the mapping in a YAML file."""
    if not isinstance(names, (dict, list)):
        raise ValueError(f"{what} must be a list or a mapping from numbers to names, got {shown(names)}")
    numbered: dict[int, str] = {}
    for key, name in names.items() if isinstance(names, dict) else enumerate(names):
        number = as_number(key, f"a number in {what}")
        if not number.is_integer() or number < 0 or number in numbered or not isinstance(name, str):
            raise ValueError(f"{what} must map whole numbers from 0, each once, to names, got {shown({key: name})}")
        numbered[int(number)] = name.strip()
    return dict(sorted(numbered.items()))


def _listed_names(root: Path) -> dict[int, str]:
    """Return the class names of classes.txt or of a file such as obj.names, in the folder or beside the text files."""
    for folder in (root, *named_folders(root, ANNOTATION_FOLDERS)):
        if names := stated_classes(folder):
            return dict(enumerate(names[1:]))
        for path in matching(folder, "[!.]*.names"):
            check_link(path, root)
            lines = [line.strip() for line in read_text(path, MAX_LIST).splitlines()]
            return dict(enumerate(check_classes([line for line in lines if line])[1:]))
    return {}


def _class_names(names: Mapping[int, str]) -> tuple[str, ...] | None:
    return check_classes([*names.values()]) if names else None


def _find_images(root: Path, settings: Settings) -> tuple[list[Path | Broken], dict[str, list[Path | Broken]]]:
    """Return all images, and a dict from splits to their images; a missing image is listed as a `Broken`."""
    parts = {split: _images_at(root, split, places) for split, places in settings.places.items()}
    if not any(parts.values()):
        lists = by_split(
            [path for name in SPLIT_LISTS for path in matching(root, _any_case(name))], lambda path: path.stem
        )
        parts = {split: _images_in_list(path, root) for split, path in lists.items()}
    for folder in (*named_folders(root, IMAGE_FOLDERS), root):
        if not any(parts.values()):
            parts = {split: [*image_files(below)] for split, below in split_folders(folder).items()}
    parts = {split: found for split, found in parts.items() if found}
    everything = [image for found in parts.values() for image in found]
    for folder in (*named_folders(root, IMAGE_FOLDERS), root):
        everything = everything or [*image_files(folder)]
    if not everything:
        raise ValueError(f"{root} has no images; looked for images/, train/images/, train.txt and data.yaml")
    return everything, parts


def _any_case(name: str) -> str:
    return "".join(f"[{c}{c.upper()}]" if c.isalpha() else c for c in name)


def _images_at(root: Path, split: str, places: Sequence[str]) -> list[Path | Broken]:
    """Return the images of a split, given its folders or lists from the YAML file."""
    found: list[Path | Broken] = []
    for place in places:
        parts = path_parts(place)
        named = [i for i, part in enumerate(parts) if part.lower() in OTHER_NAMES]  # a split is never ignored
        last = named[0] if named else max(len(parts) - 1, 0)
        candidates = [root.joinpath(*parts[start:]) for start in range(last + 1)]
        path = next((path for path in candidates if path.exists()), None)
        if path is None:
            if split in (TRAIN, VAL):
                remedy = "correct the path" if split == TRAIN else "correct the path, or remove it to hold out images"
                raise FileNotFoundError(
                    f"{root} has no {place.strip('/')}, which its YAML file lists for the split {split}; {remedy}"
                )
            continue
        check_link(path, root)
        found += image_files(existing_folder(path)) if path.is_dir() else _images_in_list(path, root)
    return found


def _images_in_list(path: Path, root: Path) -> list[Path | Broken]:
    """Return the images that a text file lists, one path per line."""
    check_link(path, root)
    search = Search([path.parent, root])
    images: list[Path | Broken] = []
    for number, line in enumerate(read_text(path, MAX_LIST).splitlines(), start=1):
        if line.strip():
            place = f"{path.relative_to(root).as_posix()}, line {number}"
            images.append(search.find(line) or Broken(place, f"{line.strip()}: file not found"))
    return images


# ---------------------------------------------------------------------- one image


class _Labels:
    """The text files of a data set, found by the paths of their images."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._searches: dict[Path, Search] = {}
        self._used: set[Path] = set()

    def find(self, image: Path) -> Path | None:
        """Return the text file of an image, or None."""
        for folder, path in self._candidates(image):
            found = self._searches.setdefault(folder, Search([folder], (".txt",))).find(path.as_posix())
            if found is not None and found.name != CLASSES_FILE:
                self._used.add(found)
                return found
        return None

    def _candidates(self, image: Path) -> list[tuple[Path, PurePosixPath]]:
        """Return the folders that may contain an image's text file, and its path in each folder, without suffix."""
        stem = PurePosixPath(image.relative_to(self.root).with_suffix(""))
        candidates = []
        for i, part in reversed([*enumerate(stem.parts[:-1])]):
            if part.lower() in IMAGE_FOLDERS:
                above = self.root.joinpath(*stem.parts[:i])
                rest = PurePosixPath(*stem.parts[i + 1 :])
                candidates += [(folder, rest) for folder in named_folders(above, ANNOTATION_FOLDERS)]
        candidates += [(folder, stem) for folder in named_folders(self.root, ANNOTATION_FOLDERS)]
        return [*candidates, (image.parent, PurePosixPath(stem.name))]

    def without_image(self) -> list[Broken]:
        """Return the text files in folders such as `labels` that belong to no image."""
        folders = [folder for folder in self._searches if folder.name.lower() in ANNOTATION_FOLDERS]
        files = {
            path for folder in folders for path in matching(folder, "[!.]*.txt", deep=True) if path.name != CLASSES_FILE
        }
        return [
            Broken(path.relative_to(self.root).as_posix(), "there is no image for this file")
            for path in sorted(files - self._used)
        ]


def _read_image(image: Path | Broken, labels: _Labels, settings: Settings) -> Record | Broken:
    if isinstance(image, Broken):
        return image
    source = image.relative_to(labels.root).as_posix()
    try:
        check_link(image, labels.root)
        size = images.header(image).upright_size
        file = labels.find(image)
        lines: list[str] = []
        if file is not None:
            source = file.relative_to(labels.root).as_posix()
            lines = decode_text(read_inside(file, labels.root, MAX_TXT), source).splitlines()
        read = partial(_read_line, settings=settings, size=size)
        things, faults = read_each(read, lines, source)
        return replace(make_record(image, source, things, size, image.stem, faults), annotated=file is not None)
    except (OSError, ValueError) as error:
        return Broken(source, str(error))


def _read_line(line: str, index: int, settings: Settings, size: Size) -> list[Thing]:
    """Return a list with the object of a line; the list is empty if the line is empty."""
    words = line.split()
    if not words:
        return []
    what = f"line {index + 1}"
    numbers = [as_number(word, f"value {i} of {what}") for i, word in enumerate(words[1:], start=2)]
    if len(numbers) < 4:
        raise ValueError(f"{what} must have a class and x, y, width and height, got {shown(line.strip())}")
    is_polygon = len(numbers) >= 6 and len(numbers) % 2 == 0 and not settings.keypoints
    if len(numbers) >= 7 and not is_polygon and not settings.keypoints and not _are_keypoints(numbers[4:]):
        raise ValueError(
            f"{what} has {len(numbers)} numbers after the class, but a box has 4, or 5 with a confidence, and a "
            "polygon has an even number; if they are keypoints, add kpt_shape to the YAML file"
        )
    largest = max(numbers if is_polygon else numbers[:4], key=abs)
    if abs(largest) > MAX_FRACTION:
        raise ValueError(
            f"{what} has the coordinate {largest:g}, but coordinates must be fractions of the image's width or height; "
            "divide pixels by the width or the height"
        )
    box = _around_polygon(numbers) if is_polygon else _around_centre(*numbers[:4])
    height, width = size
    pixels = tuple(value * side for value, side in zip(box, (width, height, width, height), strict=True))
    x1, y1, x2, y2 = (0.0 if abs(value) < BORDER else value for value in pixels)
    return [Thing((x1, y1, x2, y2), _name(words[0], settings.names, what))]


def _are_keypoints(numbers: Sequence[float]) -> bool:
    """Return whether the numbers after a box can be keypoints: triples of x, y and a visibility of 0, 1 or 2."""
    return len(numbers) % 3 == 0 and {*numbers[2::3]} <= {0, 1, 2}


def _name(word: str, names: Mapping[int, str], what: str) -> str:
    """Return the name of a class, given its number in a line; if the classes have no names, return the number."""
    try:
        number = as_number(word, f"class of {what}")
    except ValueError:
        if word in names.values():
            return word
        raise
    if not number.is_integer() or number < 0:
        raise ValueError(f"class of {what} must be a whole number of at least 0, got {shown(word)}")
    return names.get(int(number), UNNAMED.format(int(number))) if names else str(int(number))


def _around_centre(x: float, y: float, width: float, height: float) -> Box:
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def _around_polygon(numbers: Sequence[float]) -> Box:
    return min(numbers[::2]), min(numbers[1::2]), max(numbers[::2]), max(numbers[1::2])

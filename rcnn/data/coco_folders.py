"""Layouts of folders in COCO format; different programs put JSON files and images into different folders."""

from __future__ import annotations

import os
import re
import reprlib
from collections.abc import Sequence
from pathlib import Path

from rcnn.data.reading import existing_folder, inside, is_entry
from rcnn.data.splits import by_split

SPLITS = ("train", "val", "valid", "validation", "test")
PREFIX = "instances_"
IN_ITS_FOLDER = "_annotations.coco.json"  # Roboflow's file, which is in the same folder as the images of a split
WHOLE = "default"  # CVAT's name for a data set without splits
LOOKED_FOR = (
    f"annotations/{PREFIX}SPLIT.json",
    "annotations/SPLIT.json",
    "SPLIT.json",
    f"SPLIT/{IN_ITS_FOLDER}",
    "a single *.json",
)


def find_files(annotations: str | os.PathLike[str]) -> tuple[list[Path], dict[str, Path]]:
    """Find the JSON files of a folder.

    Parameters
    ----------
    annotations : path
        A folder, or the path of a JSON file, which is returned unchanged.

    Returns
    -------
    files : list of Path
        The JSON files that together describe all images.
    parts : dict from str to Path
        The JSON file of each split; empty for a folder without splits.

    Raises
    ------
    OSError
        If the folder is not found.
    ValueError
        If the folder has no JSON file, or several JSON files whose names do not state their splits.
    """
    given = Path(annotations).expanduser()
    if given.is_file():
        return [given], {}
    root = existing_folder(given)
    for paths in (
        root.glob(f"annotations/{PREFIX}*.json"),
        [folder / f"{split}.json" for folder in (root / "annotations", root) for split in SPLITS],
        [root / split / IN_ITS_FOLDER for split in SPLITS],
    ):
        parts = by_split(sorted(filter(is_entry, paths)), _split_of)
        if parts and set(parts) != {WHOLE}:
            return list(parts.values()), parts
        if parts:
            return list(parts.values()), {}
    alone = [*filter(is_entry, (*root.glob("[!.]*.json"), *root.glob("annotations/[!.]*.json")))]
    if len(alone) != 1:
        count = (
            f"{len(alone)} JSON files whose names do not state their splits; pass one of the files, or rename them"
            if alone
            else "no JSON files"
        )
        raise ValueError(
            f"{root} has {count}; looked for {', '.join(LOOKED_FOR)} (SPLIT is one of {', '.join(SPLITS)})"
        )
    return alone, {}


def find_images(path: Path, images: str | os.PathLike[str] | None, names: Sequence[object]) -> Path:
    """Find the folder that contains the images of a JSON file.

    Parameters
    ----------
    path : Path
        The JSON file.
    images : path or None
        The folder that the user named. If it is None, folders near the JSON file are searched.
    names : sequence of object
        File names of the images, as they are written in the JSON file.

    Returns
    -------
    Path
        `images`, or the first folder that contains one of `names`.

    Raises
    ------
    OSError
        If no folder contains any of the images.
    """
    if images is not None:
        return existing_folder(images)
    root = path.parent.parent if path.parent.name == "annotations" else path.parent
    whole = path.stem.removeprefix(PREFIX)  # such as "train2017"
    named = (
        [root / "images", root]
        if path.name == IN_ITS_FOLDER
        else [
            *(folder / name for folder in (root, root / "images") for name in dict.fromkeys((whole, _split_of(path)))),
            root / "images",
            root,
        ]
    )
    for folder in named:
        if folder.is_dir() and (not names or any(_holds(folder, name) for name in names)):
            return folder
    raise FileNotFoundError(
        f"none of the {len(names)} images of {path} ({reprlib.repr(names[0])}, ...) is in "
        f"{', '.join(str(folder) for folder in named)}; pass their folder as the argument or option 'images'"
    )


def _split_of(path: Path) -> str:
    """Return the split that the name of a JSON file states, such as "train" for "instances_train2017.json"."""
    name = path.parent.name if path.name == IN_ITS_FOLDER else path.stem.removeprefix(PREFIX)
    return re.sub(r"\d+$", "", name)


def _holds(folder: Path, name: object) -> bool:
    try:
        return inside(folder, name).is_file()
    except ValueError:
        return False

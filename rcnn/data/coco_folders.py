"""Layouts of folders in COCO format; different programs put JSON files and images into different folders."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from rcnn._files import read_whole
from rcnn.data.labelme import MAX_JSON
from rcnn.data.reading import (
    ANNOTATION_FOLDERS,
    IMAGE_FOLDERS,
    annotated_folder,
    existing_folder,
    given_path,
    is_entry,
    matching,
    named_folders,
)
from rcnn.data.splits import TEST, TRAIN, VAL, WHOLE, by_split, plain_name, split_folders

PREFIX = "instances_"
IN_ITS_FOLDER = "_annotations.coco.json"  # Roboflow's file, which is in the same folder as the images of a split
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
        If the folder has no JSON file, or several JSON files whose names do not contain their splits.
    """
    given = given_path(annotations, "annotations")
    if given.is_file():
        return [given], {}
    root = annotated_folder(given, IMAGE_FOLDERS)
    folders = [*named_folders(root, ANNOTATION_FOLDERS), root]
    jsons = [path for folder in folders for path in matching(folder, "[!.]*.json") if is_entry(path)]
    beside_images = [
        path for folder in split_folders(root).values() for path in matching(folder, "*.json") if is_entry(path)
    ]
    for paths in (
        [path for path in jsons if path.stem.startswith(PREFIX)],
        [path for path in jsons if plain_name(split_of(path)) in (TRAIN, VAL, TEST)],
        [path for path in beside_images if path.name == IN_ITS_FOLDER],
    ):
        parts = by_split(paths, split_of)
        if parts:
            return list(parts.values()), {} if set(parts) == {WHOLE} else parts
    if len(jsons) > 1 and is_labelme(jsons[0]):
        raise ValueError(
            f"{root} is not in COCO format: its JSON files are in the format of labelme; use labelme:{root}"
        )
    if len(jsons) != 1:
        count = (
            f"{len(jsons)} JSON files whose names do not state their splits; pass one of the files, or rename them"
            if jsons
            else "no JSON files"
        )
        raise ValueError(
            f"{root} has {count}; looked for {', '.join(LOOKED_FOR)} (SPLIT is a name such as train, val or test)"
        )
    return jsons, {}


def is_labelme(path: Path) -> bool:
    """Return True if a JSON file is in the format of labelme.

    Parameters
    ----------
    path : Path
        The JSON file.

    Returns
    -------
    bool
        True if the file is a JSON object with a list of shapes.
    """
    try:
        content = json.loads(read_whole(path, MAX_JSON))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and isinstance(content.get("shapes"), list)


def image_folders(path: Path, images: str | os.PathLike[str] | None) -> list[Path]:
    """Return the folders in which to look for the images of a JSON file.

    Parameters
    ----------
    path : Path
        The JSON file.
    images : path or None
        The folder that the user named. If it is None, the result contains folders near the JSON file.

    Returns
    -------
    list of Path
        Folders, in the order in which to search them.

    Raises
    ------
    OSError
        If the folder `images` is not found.
    """
    if images is not None:
        return [existing_folder(images)]
    above = Path(os.path.abspath(path)).parent
    root = above.parent if above.name.lower() in ANNOTATION_FOLDERS else above
    if path.name == IN_ITS_FOLDER:
        return [*named_folders(root, IMAGE_FOLDERS), root]
    whole = path.stem.removeprefix(PREFIX)  # such as "train2017"
    bases = [root, *named_folders(root, IMAGE_FOLDERS)]
    named = [base / name for base in bases for name in dict.fromkeys((whole, split_of(path)))]
    own = [folder for base in bases if (folder := split_folders(base).get(plain_name(split_of(path))))]
    return [folder for folder in (*named, *own, *bases[1:], root) if folder.is_dir()]


def split_of(path: Path) -> str:
    """Return the split that the name of a JSON file contains.

    Parameters
    ----------
    path : Path
        The JSON file.

    Returns
    -------
    str
        The split, such as "train" for "instances_train2017.json" or "train/_annotations.coco.json".
    """
    name = path.parent.name if path.name == IN_ITS_FOLDER else path.stem.removeprefix(PREFIX)
    return re.sub(r"\d+$", "", name)

"""Layouts of folders in COCO's format: the paths of the JSON files and of the images differ between programs."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from rcnn.data.reading import existing_folder, inside
from rcnn.data.splits import by_split

SPLITS = ("train", "val", "valid", "validation", "test")
PREFIX = "instances_"
IN_ITS_FOLDER = "_annotations.coco.json"  # Roboflow's, in the same folder as the images of a split
WHOLE = "default"  # CVAT's name for a data set without splits
LOOKED_FOR = (
    f"annotations/{PREFIX}SPLIT.json",
    "annotations/SPLIT.json",
    "SPLIT.json",
    f"SPLIT/{IN_ITS_FOLDER}",
    "one *.json alone",
)


def find_files(annotations: str | os.PathLike[str]) -> tuple[list[Path], dict[str, Path]]:
    """Find the JSON files of a folder.

    Parameters
    ----------
    annotations : path
        A folder, or a JSON file, which is returned as it is.

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
        If the folder has no JSON file, or several whose names do not tell their splits.
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
        parts = by_split(sorted(path for path in paths if path.is_file()), _split_of)
        if parts and set(parts) != {WHOLE}:
            return list(parts.values()), parts
        if parts:
            return list(parts.values()), {}
    alone = [*root.glob("[!.]*.json"), *root.glob("annotations/[!.]*.json")]
    if len(alone) != 1:
        count = (
            f"{len(alone)} JSON files whose names do not tell their splits; pass one of the files, or rename them"
            if alone
            else "no JSON files"
        )
        raise ValueError(
            f"{root} has {count}; looked for {', '.join(LOOKED_FOR)} (SPLIT is one of {', '.join(SPLITS)})"
        )
    return alone, {}


def find_images(path: Path, images: str | os.PathLike[str] | None, names: Sequence[object]) -> Path:
    """Find the folder of the images of a JSON file.

    Parameters
    ----------
    path : Path
        The JSON file.
    images : path or None
        The folder, if the user named it; None searches near the JSON file.
    names : sequence of object
        File names of the images, as they are written in the JSON file.

    Returns
    -------
    Path
        `images`, or the first folder that holds one of `names`.

    Raises
    ------
    OSError
        If there is no such folder.
    """
    if images is not None:
        return existing_folder(images)
    root = path.parent.parent if path.parent.name == "annotations" else path.parent
    whole = path.stem.removeprefix(PREFIX)  # "train2017"
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
        f"none of the {len(names)} images of {path} ({names[0]!r}, ...) is in "
        f"{', '.join(str(folder) for folder in named)}; name their folder by images= or the option images"
    )


def _split_of(path: Path) -> str:
    """Return the split that a JSON file's name stands for: "train" for "instances_train2017.json"."""
    name = path.parent.name if path.name == IN_ITS_FOLDER else path.stem.removeprefix(PREFIX)
    return re.sub(r"\d+$", "", name)


def _holds(folder: Path, name: object) -> bool:
    try:
        return inside(folder, name).is_file()
    except ValueError:
        return False

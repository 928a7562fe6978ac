"""Where a folder in COCO's form keeps its JSON files and its images; the programs that write such folders differ."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from rcnn.data.reading import existing_folder, inside
from rcnn.data.splits import by_split

SPLITS = ("train", "val", "valid", "validation", "test")
PREFIX = "instances_"
IN_ITS_FOLDER = "_annotations.coco.json"  # Roboflow's, beside the images of a split
WHOLE = "default"  # what CVAT calls a set without splits
LOOKED_FOR = (
    f"annotations/{PREFIX}SPLIT.json",
    "annotations/SPLIT.json",
    "SPLIT.json",
    f"SPLIT/{IN_ITS_FOLDER}",
    "one *.json alone",
)


def find_files(annotations: str | os.PathLike[str]) -> tuple[list[Path], dict[str, Path]]:
    """(the JSON files of all images, the one of each split that the folder knows); a file stands for itself.

    Raises OSError for what is not there, ValueError where a folder's files cannot be told apart.
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
        there = (
            f"{len(alone)} JSON files whose names do not say their splits; name one of the files, or rename them"
            if alone
            else "no JSON files"
        )
        raise ValueError(
            f"{root} holds {there}; looked for {', '.join(LOOKED_FOR)} (SPLIT is one of {', '.join(SPLITS)})"
        )
    return alone, {}


def find_images(path: Path, images: str | os.PathLike[str] | None, names: Sequence[object]) -> Path:
    """The folder of the images that a JSON file calls `names`: `images`, or the first that holds one of them.

    Raises OSError where there is none.
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
        f"{', '.join(str(folder) for folder in named)}; images= or the option images says where"
    )


def _split_of(path: Path) -> str:
    """The split that a JSON file's name stands for: "instances_train2017.json" for "train"."""
    name = path.parent.name if path.name == IN_ITS_FOLDER else path.stem.removeprefix(PREFIX)
    return re.sub(r"\d+$", "", name)


def _holds(folder: Path, name: object) -> bool:
    try:
        return inside(folder, name).is_file()
    except ValueError:
        return False

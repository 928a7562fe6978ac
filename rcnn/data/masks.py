"""Reader of images with instance masks, in which every object has its own pixel value.

References
----------
Wang et al., "Object Detection Combining Recognition and Segmentation", ACCV 2007 (the Penn-Fudan pedestrians).
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

import numpy as np
from tqdm import tqdm

from rcnn.data.reading import Thing, check_classes, existing_folder, inside, make_record, with_labels
from rcnn.data.records import AnnotatedImages, Annotations, Broken, Record
from rcnn.data.splits import part_of, source_of
from rcnn.images import SUFFIXES, read_values

LAYOUTS = (("PNGImages", "PedMasks", "pedestrian"), ("images", "masks", "object"))  # Penn-Fudan's comes first
MASK_NAMES = ("{}_mask.png", "{}.png")


class Masks(AnnotatedImages):
    """Images with masks: grey or palette PNGs in which 0 is the background and each object has its own value.

    The mask of x.jpg is x_mask.png or x.png. The box of an object is the smallest box around all pixels that have the
    object's value, and the area of the object is the number of these pixels. The constructor reads all masks and shows
    a progress bar. Images are decoded on access.

    Parameters
    ----------
    folder : path
        Folder that contains the image folder and the mask folder.
    split : {"train", "val"}, optional
        Split to read. "val" contains images that are held out at random (see `rcnn.data.split`), and "train" contains
        the others. By default, every image is read.
    images, masks : str, optional
        Names of the image folder and of the mask folder. The default is `PNGImages` and `PedMasks` (Penn-Fudan) if
        `PNGImages` exists, and otherwise `images` and `masks`.
    class_name : str, optional
        Class name of the objects. The default is "pedestrian" for Penn-Fudan, and otherwise "object".
    on_error, progress : str, bool
        See `AnnotatedImages`.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        split: str | None = None,
        images: str | None = None,
        masks: str | None = None,
        class_name: str | None = None,
        on_error: str = "raise",
        progress: bool = True,
    ) -> None:
        super().__init__(read_masks(folder, split, images, masks, class_name, progress), on_error, progress)


def read_masks(
    folder: str | os.PathLike[str],
    split: str | None = None,
    images: str | None = None,
    masks: str | None = None,
    class_name: str | None = None,
    progress: bool = True,
) -> Annotations:
    """Read the masks of a folder.

    Parameters
    ----------
    folder, split, images, masks, class_name, progress : path, str, str, str, str, bool
        See `Masks`.

    Returns
    -------
    Annotations
        The annotations. Their attribute `broken` lists images without a mask, masks without an image, and unreadable
        masks.

    Raises
    ------
    OSError
        If a folder is not found.
    ValueError
        If the folder has no images, or the split does not exist.
    """
    root = existing_folder(folder)
    default = next((layout for layout in LAYOUTS if (root / layout[0]).is_dir()), LAYOUTS[-1])
    if images is None and not (root / default[0]).is_dir():
        looked_for = ", or ".join(f"{image_folder} and {mask_folder}" for image_folder, mask_folder, _ in LAYOUTS)
        raise FileNotFoundError(f"{root} has no images with masks; looked for the folders {looked_for}")
    image_folder = existing_folder(root / (images or default[0]))
    mask_folder = existing_folder(root / (masks or default[1]))
    name = class_name or default[2]
    _, hold_out = source_of(split, (), str(root))
    image_files, mask_files = _list(image_folder, SUFFIXES), _list(mask_folder, (".png",))
    if not image_files:
        raise ValueError(f"{image_folder} has no images")
    known = frozenset(mask_files)
    bar = tqdm(image_files, desc="masks", unit="file", disable=None if progress else True, delay=1)
    entries = [_read_image(image_folder, file, mask_folder, known, name) for file in bar]
    entries += _without_image(mask_folder, mask_files, image_files)
    return part_of(with_labels(entries, check_classes([name])), split, hold_out, str(root))


def _list(folder: Path, suffixes: tuple[str, ...]) -> list[str]:
    """Return the sorted names of a folder's files that have one of the suffixes, without hidden files."""
    return sorted(name for name in os.listdir(folder) if name.lower().endswith(suffixes) and not name.startswith("."))


def _masks_of(image: str) -> tuple[str, ...]:
    """Return the allowed names for the mask of an image."""
    return tuple(form.format(os.path.splitext(image)[0]) for form in MASK_NAMES)


def _read_image(
    folder: Path, file: str, mask_folder: Path, mask_files: Collection[str], class_name: str
) -> Record | Broken:
    source = f"{folder.name}/{file}"
    found = [name for name in _masks_of(file) if name in mask_files]
    if len(found) != 1:
        return Broken(
            source,
            f"it has more than one mask: {', '.join(found)}"
            if found
            else f"{mask_folder} has no mask for it; looked for {' and '.join(_masks_of(file))}",
        )
    source = f"{mask_folder.name}/{found[0]}"
    try:
        values = read_values(inside(mask_folder, found[0]))  # (H, W)
        things = _things(values, class_name)
        return make_record(inside(folder, file), source, things, (values.shape[0], values.shape[1]), file)
    except (OSError, ValueError) as error:
        return Broken(source, str(error))


def _things(values: np.ndarray, class_name: str) -> list[Thing]:
    """Return an object for each non-zero value of `values` (H, W), in ascending order of the values."""
    rows, columns = np.nonzero(values)  # (P,), (P,)
    order = np.argsort(values[rows, columns])  # (P,) order that sorts the P pixels by object
    rows, columns = rows[order], columns[order]
    starts = np.flatnonzero(np.diff(values[rows, columns], prepend=0))  # (G,) no object has the value 0
    if not len(starts):
        return []
    x1, y1 = np.minimum.reduceat(columns, starts), np.minimum.reduceat(rows, starts)  # (G,), (G,)
    x2, y2 = np.maximum.reduceat(columns, starts) + 1, np.maximum.reduceat(rows, starts) + 1  # (G,), (G,)
    areas = np.diff(starts, append=len(rows))  # (G,)
    return [
        Thing((float(box[0]), float(box[1]), float(box[2]), float(box[3])), class_name, area=float(area))
        for box, area in zip(np.stack([x1, y1, x2, y2], axis=1), areas, strict=True)
    ]


def _without_image(folder: Path, mask_files: Collection[str], image_files: Collection[str]) -> list[Broken]:
    known = {name for image in image_files for name in _masks_of(image)}
    return [
        Broken(f"{folder.name}/{name}", "there is no image for this mask") for name in mask_files if name not in known
    ]

"""Checks that an object follows the `Dataset` protocol: it has classes and a length, and its items are valid pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rcnn._validate import MAX_CLASSES, as_float_array, check_pair, is_sequence, shown
from rcnn.boxes import area
from rcnn.transform import Size

Target = Mapping[str, np.ndarray]


def check_dataset(dataset: Any, name: str = "dataset", needs: Sequence[str] = ("__getitem__", "classes")) -> None:
    """Check that an object is a data set.

    Parameters
    ----------
    dataset : object
        The object.
    name : str
        Name of the argument, for error messages.
    needs : sequence of str
        Attributes that the object must have. If "classes" is one of them, its class names are also checked.

    Raises
    ------
    TypeError
        If the object lacks a length or an attribute, if it is a mapping, or if `classes` is not a sequence of strings.
    ValueError
        If there are more than 65,536 classes.
    """
    missing = [attribute for attribute in needs if not hasattr(dataset, attribute)]
    if missing or isinstance(dataset, Mapping) or _length(dataset) is None:
        raise TypeError(
            f"{name} must be a data set with `classes`, a length and (image, target) items; got {shown(dataset)}"
        )
    if "classes" in needs:
        class_names(dataset, name)


def _length(dataset: Any) -> int | None:
    try:
        return len(dataset)
    except TypeError:
        return None


def class_names(dataset: Any, name: str = "dataset") -> tuple[str, ...]:
    """Return the class names of a data set, in the order of their labels.

    Parameters
    ----------
    dataset : object
        An object with the attribute `classes`.
    name : str
        Name of the argument, for error messages.

    Returns
    -------
    tuple of str
        The names.

    Raises
    ------
    TypeError, ValueError
        See `check_dataset`.
    """
    classes = dataset.classes
    if not is_sequence(classes):
        raise TypeError(f"{name}.classes must be a sequence of class names, got {shown(classes)}")
    if len(classes) > MAX_CLASSES:
        raise ValueError(f"{name}.classes must have at most {MAX_CLASSES:,} names, got {len(classes):,}")
    for index, class_name in enumerate(classes):
        if not isinstance(class_name, str):
            raise TypeError(f"{name}.classes[{index}] must be a class name, got {shown(class_name)}")
    return tuple(classes)


def pair_of(dataset: Any, index: int, name: str = "dataset") -> tuple[Any, Any]:
    """Return the image and the target at an index; neither of them is checked.

    Parameters
    ----------
    dataset : Dataset
        The data set.
    index : int
        Index of the image.
    name : str
        Name of the argument, for error messages.

    Returns
    -------
    image, target : object
        The two parts of the item.

    Raises
    ------
    TypeError
        If the item is not a pair.
    """
    return _pair(dataset[index], f"{name}[{index}]", "image")


def _pair(item: Any, name: str, first: str) -> tuple[Any, Any]:
    if not isinstance(item, (tuple, list)) or len(item) != 2:
        raise TypeError(f"{name} must be a pair ({first}, target), got {shown(item)}")
    return item[0], item[1]


def item_of(
    dataset: Any, index: int, name: str = "dataset", keys: Sequence[str] = ("boxes", "labels")
) -> tuple[np.ndarray, Target]:
    """Return the image and the target at an index.

    Parameters
    ----------
    dataset : Dataset
        The data set.
    index : int
        Index of the image.
    name : str
        Name of the argument, for error messages.
    keys : sequence of str
        The keys that the target must have.

    Returns
    -------
    image : (H, W, C) array
        The image.
    target : mapping of str to array
        The target; its values are not checked.

    Raises
    ------
    TypeError
        If the item is not a pair of an array with three axes and a mapping with these keys.
    """
    image, target = pair_of(dataset, index, name)
    if not isinstance(image, np.ndarray) or image.ndim != 3:
        raise TypeError(f"the image of {name}[{index}] must be an array (H, W, 3), got {shown(image)}")
    return image, check_keys(target, f"the target of {name}[{index}]", keys)


def check_keys(target: Any, name: str, keys: Sequence[str] = ("boxes", "labels")) -> Target:
    """Return a target unchanged. Raise TypeError unless it is a mapping that has all `keys`.

    Parameters
    ----------
    target : object
        The target of an image.
    name : str
        Name of the target, for error messages.
    keys : sequence of str
        The keys that the target must have.

    Returns
    -------
    mapping
        The target.

    Raises
    ------
    TypeError
        If it is not a mapping, or lacks a key.
    """
    if not isinstance(target, Mapping) or any(key not in target for key in keys):
        raise TypeError(f"{name} must be a dict with {' and '.join(keys)}, got {shown(target)}")
    return target


def annotation_of(dataset: Any, index: int, keys: Sequence[str] = ("boxes",)) -> tuple[Size, Target]:
    """Return the size and the target of an image; do not decode the image if `dataset.annotation` exists.

    Parameters
    ----------
    dataset : Dataset
        The data set.
    index : int
        Index of the image.
    keys : sequence of str
        The keys that the target must have.

    Returns
    -------
    size : (int, int)
        (height, width) in pixels.
    target : mapping of str to array
        The target; its values are not checked.

    Raises
    ------
    TypeError, ValueError
        If the item is malformed, as in `item_of`, or if the size is not two positive integers.
    """
    if not hasattr(dataset, "annotation"):
        image, target = item_of(dataset, index, keys=keys)
        return check_pair(image.shape[:2], f"the size of dataset[{index}]"), target
    name = f"dataset.annotation({index})"
    size, target = _pair(dataset.annotation(index), name, "size")
    return check_pair(size, f"the size of {name}"), check_keys(target, f"the target of {name}", keys)


def check_areas(target: Mapping[str, Any], boxes: np.ndarray, name: str) -> np.ndarray:
    """Return the areas of the objects of a target, or of their boxes if the target has no key "areas".

    Parameters
    ----------
    target : mapping of str to array
        The target of an image with G objects.
    boxes : (G, 4) array
        Its boxes.
    name : str
        Name of the target, for error messages.

    Returns
    -------
    (G,) float64 array
        The areas, in square pixels.

    Raises
    ------
    TypeError, ValueError
        If the areas are not G finite numbers of at least 0.
    """
    if "areas" not in target:
        return area(boxes)
    areas = as_float_array(target["areas"], f"{name}['areas']").astype(np.float64)
    if areas.shape != (len(boxes),):
        raise ValueError(f"{name}['areas'] must have shape ({len(boxes)},), got {areas.shape}")
    wrong = ~((areas >= 0) & np.isfinite(areas))
    if wrong.any():
        i = int(wrong.argmax())
        raise ValueError(f"{name}['areas'][{i}] must be finite and at least 0, got {areas[i]}")
    return areas

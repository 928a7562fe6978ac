"""Functions that write and read COCO result files. Every tool that computes the COCO metrics can read such a file.

A file is a JSON list with an entry for each detection: {"image_id", "category_id", "bbox": [x, y, w, h], "score"}.
"""

import json
import math
import reprlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np

from rcnn._files import read_text
from rcnn._validate import check_sequence, integer, shown
from rcnn.boxes import convert
from rcnn.evaluate._inputs import Found, PerImage, check_detections

Id = int | str
ID = integer(-(2**63), 2**63 - 1)
MAX_JSON = 1 << 31  # bytes of a result file


def results_json(detections: Sequence[PerImage], image_ids: Sequence[Id], category_ids: Sequence[Id]) -> str:
    """Return the text of a result file that contains all detections, with all numbers at full precision.

    Parameters
    ----------
    detections : sequence of dict
        For each image with D detections, {"boxes": (D, 4), "scores": (D,), "labels": (D,)}; boxes are in pixels.
    image_ids : sequence of int or str
        The id of each image in the COCO annotations.
    category_ids : sequence of int or str
        The id of each class in the COCO annotations, in the order of the labels. The first id is that of the
        background, and is not used.

    Returns
    -------
    str
        JSON, with one entry per line.

    Raises
    ------
    TypeError, ValueError
        If `detections` and `image_ids` have different lengths, if an id is neither a string nor an integer of 64 bits
        or occurs twice, or if a detection is invalid.
    """
    check_sequence(detections, "detections")
    images, categories = _check_ids(image_ids, "image_ids"), _check_categories(category_ids)
    if len(images) != len(detections):
        raise ValueError(f"detections and image_ids must have the same length, got {len(detections)} and {len(images)}")
    pairs = zip(images, check_detections(detections, len(category_ids)), strict=True)
    entries = (json.dumps(entry) for image_id, detected in pairs for entry in _entries(detected, image_id, categories))
    return "[" + ",\n".join(entries) + "]\n"


def read_results(path: str | Path, image_ids: Sequence[Id], category_ids: Sequence[Id]) -> list[dict[str, np.ndarray]]:
    """Return the detections in a result file, for each image in `image_ids`.

    Only the four fields that `results_json` writes are used; all other fields of an entry are ignored.

    Parameters
    ----------
    path : str or Path
        The result file.
    image_ids, category_ids : sequence of int or str
        The ids of the images and of the classes, as in `results_json`.

    Returns
    -------
    list of dict
        For each image with D detections, {"boxes": (D, 4), "scores": (D,), "labels": (D,)}, in the order of the file.
        Boxes are in pixels.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If the file is not a list of detections, or if it contains an unknown image or class id. The message names the
        file and the entry.
    """
    rows: dict[Id, list[list[float]]] = {image_id: [] for image_id in _check_ids(image_ids, "image_ids")}
    categories = _check_categories(category_ids)
    labels = dict(zip(categories, range(1, len(category_ids)), strict=True))
    for k, entry in enumerate(_read_list(path)):
        try:
            image_id, label = _known(entry, "image_id", rows), labels[_known(entry, "category_id", labels)]
            rows[image_id].append([*_numbers(entry, "bbox", 4), *_numbers(entry, "score", 1), label])
        except ValueError as error:
            raise ValueError(f"{path}, entry {k}: {error}") from error
    return [_detections(np.array(of_image, np.float64).reshape(-1, 6)) for of_image in rows.values()]


def _entries(detected: Found, image_id: Id, categories: Sequence[Id]) -> Iterator[dict[str, object]]:
    """Yield the file entry of each detection in an image. `categories[k]` is the class id for the label k + 1."""
    corners_and_sides = convert(detected.boxes, "xyxy", "xywh")  # (D, 4)
    rows = zip(corners_and_sides.tolist(), detected.scores.tolist(), detected.labels.tolist(), strict=True)
    for k, (box, score, label) in enumerate(rows):
        if not math.isfinite(score):
            raise ValueError(f"image {image_id!r}: the score of detection {k} must be finite, got {score}")
        yield {"image_id": image_id, "category_id": categories[label - 1], "bbox": box, "score": score}


def _detections(rows: np.ndarray) -> dict[str, np.ndarray]:
    """Return the detections in an image from their `rows` (D, 6): x, y, w, h, score, label."""
    return {"boxes": convert(rows[:, :4], "xywh", "xyxy"), "scores": rows[:, 4], "labels": rows[:, 5].astype(np.int64)}


def _read_list(path: str | Path) -> list[Any]:
    try:
        content = json.loads(read_text(path, MAX_JSON))
    except (ValueError, RecursionError) as error:  # too large, not UTF-8, not JSON, or nested too deeply
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, list):
        raise ValueError(f"{path} must contain a list of detections, got {type(content).__name__}")
    return content


def _field(entry: Any, key: str) -> Any:
    if not isinstance(entry, dict) or key not in entry:
        raise ValueError(f"{key!r} is missing from {reprlib.repr(entry)}")
    return entry[key]


def _known(entry: Any, key: str, ids: Mapping[Id, object]) -> Id:
    """Return the id that is stored as `entry[key]`. Raise ValueError if it is not one of `ids`."""
    value = _field(entry, key)
    if not isinstance(value, int | str) or value not in ids:
        raise ValueError(f"{key} must be one of the ids in the annotations, got {reprlib.repr(value)}")
    return value


def _numbers(entry: Any, key: str, count: int) -> list[float]:
    """Return the finite numbers in `entry[key]`, which is a list of `count` numbers, or a number if `count` is 1."""
    value = _field(entry, key)
    values = value if count > 1 and isinstance(value, list) else [value]
    if len(values) != count or not all(isinstance(v, int | float) and abs(v) <= sys.float_info.max for v in values):
        raise ValueError(f"{key} must be {count} finite number{'s' * (count > 1)}, got {reprlib.repr(value)}")
    return [float(v) for v in values]


def _check_ids(ids: Sequence[Id], name: str) -> list[Id]:
    """Return the ids as Python integers and strings. Raise ValueError if an id occurs twice."""
    check_sequence(ids, name)
    plain: list[Id] = []
    seen: set[Id] = set()
    for index, value in enumerate(ids):
        if not isinstance(value, (str, Integral)) or isinstance(value, bool):
            raise TypeError(f"{name}[{index}] must be an integer or a string, got {shown(value)}")
        plain.append(str(value) if isinstance(value, str) else ID.check(f"{name}[{index}]", value))
        if plain[-1] in seen:
            raise ValueError(f"{name} must be unique, but {shown(plain[-1])} occurs more than once")
        seen.add(plain[-1])
    return plain


def _check_categories(category_ids: Sequence[Id]) -> list[Id]:
    """Check the ids with `_check_ids`, and return those of all classes except the background."""
    check_sequence(category_ids, "category_ids")
    if not len(category_ids):
        raise ValueError(
            "category_ids must have at least one element, because its first element is the background; got none"
        )
    return _check_ids(category_ids[1:], "category_ids[1:]")

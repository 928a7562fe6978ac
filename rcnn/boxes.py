"""Boxes: formats, area, intersection over union, clipping, and the deltas in which a network states a box.

A box is `x1, y1, x2, y2` in pixels, in continuous coordinates: the side is `x2 - x1`, with no `+1` anywhere.
Every function takes what NumPy users pass and returns arrays: float32 for float16 and float32, else float64.
"""

import math

import numpy as np
from numpy.typing import ArrayLike

from rcnn._ext.dispatch import compiled, floats, indices, replaceable
from rcnn._validate import as_float_array, check_boxes, in_common_dtype

MAX_LOG_SCALE = math.log(1000 / 16)  # a delta may not enlarge a side by more than this; exp() would overflow
FORMATS = ("xyxy", "xywh", "cxcywh")


def convert(boxes: ArrayLike, source: str, target: str) -> np.ndarray:
    """Return the same boxes in another format, (N, 4).

    Formats: "xyxy" two corners; "xywh" top left corner and sides (COCO); "cxcywh" centre and sides.

    Raises ValueError for an unknown format.
    """
    for argument, value in (("source", source), ("target", target)):
        if value not in FORMATS:
            raise ValueError(f"{argument} must be one of {', '.join(FORMATS)}, got {value!r}")
    given = check_boxes(boxes)
    if source == target:
        return given.copy()
    first, second = given[:, :2], given[:, 2:]  # (N, 2), (N, 2)
    if source == "xyxy":
        corner, sides = first, second - first
    elif source == "xywh":
        corner, sides = first, second
    else:
        corner, sides = first - second / 2, second
    if target == "xyxy":
        return np.concatenate([corner, corner + sides], axis=1)
    if target == "xywh":
        return np.concatenate([corner, sides], axis=1)
    return np.concatenate([corner + sides / 2, sides], axis=1)


@replaceable(lambda boxes: floats((len(boxes),), boxes))
def area(boxes: ArrayLike) -> np.ndarray:
    """Return the area of each box in square pixels, (N,); negative if exactly one side is."""
    checked = check_boxes(boxes)
    return (checked[:, 2] - checked[:, 0]) * (checked[:, 3] - checked[:, 1])  # (N,)


@replaceable(lambda boxes1, boxes2: floats((len(boxes1), len(boxes2)), boxes1))
def iou(boxes1: ArrayLike, boxes2: ArrayLike) -> np.ndarray:
    """Return the intersection over union of every box of `boxes1` (N, 4) with every box of `boxes2` (M, 4), (N, M).

    Boxes that only touch have 0, and so have two boxes without area (0/0). In float32 the values are bit-identical to
    those of torchvision's `box_iou`, but for 0/0, which is NaN there.
    """
    first, second = in_common_dtype(check_boxes(boxes1, "boxes1"), check_boxes(boxes2, "boxes2"))
    return _iou(first, second)


@compiled("boxes.iou", (np.float32, np.float64), uses=("area",))
def _iou(boxes1: np.ndarray, boxes2: np.ndarray) -> np.ndarray:
    """Return the overlap of the sides along each axis, multiplied, divided by the area of the union."""
    top_left = np.maximum(boxes1[:, None, :2], boxes2[:, :2])  # (N, M, 2)
    bottom_right = np.minimum(boxes1[:, None, 2:], boxes2[:, 2:])  # (N, M, 2)
    sides = np.maximum(bottom_right - top_left, 0)  # (N, M, 2)
    intersection = sides[..., 0] * sides[..., 1]  # (N, M)
    union = area(boxes1)[:, None] + area(boxes2) - intersection  # (N, M)
    return np.divide(intersection, union, out=np.zeros_like(union), where=union != 0)


@replaceable(lambda boxes, size: floats(np.shape(boxes), boxes))
def clip(boxes: ArrayLike, size: tuple[float, float]) -> np.ndarray:
    """Return the boxes, (..., 4), cut at the border of an image of `size` (height, width)."""
    given = as_float_array(boxes, "boxes")
    if given.size == 0 and given.ndim == 1:
        return given.reshape(0, 4)
    if given.ndim == 0 or given.shape[-1] != 4:
        raise ValueError(f"boxes must have shape (..., 4), got {given.shape}")
    height, width = size
    return np.clip(given, 0, np.array([width, height, width, height], given.dtype))


@replaceable(lambda boxes, min_size: indices(None, 0, len(boxes) - 1, distinct=True))
def remove_small(boxes: ArrayLike, min_size: float) -> np.ndarray:
    """Return the indices of the boxes whose sides are both at least `min_size` pixels, (K,) int64, ascending."""
    checked = check_boxes(boxes)
    wide, high = (checked[:, 2:] - checked[:, :2] >= float(min_size)).T  # (N,), (N,)
    return np.flatnonzero(wide & high)  # (K,)


@replaceable(lambda gt_boxes, boxes, weights: floats((len(boxes), 4), boxes))
def encode(gt_boxes: ArrayLike, boxes: ArrayLike, weights: ArrayLike = (1, 1, 1, 1)) -> np.ndarray:
    """Return the deltas that turn `boxes` (N, 4) into `gt_boxes` (N, 4), (N, 4): dx, dy, dw, dh.

    The centre moves in units of the box's sides, the sides change by a logarithm (Girshick et al., "Rich feature
    hierarchies", 2014, appendix C); each delta is multiplied by its weight.

    Raises ValueError for a box whose sides are not both positive, for it has no deltas.
    """
    wanted, given = in_common_dtype(check_boxes(gt_boxes, "gt_boxes"), check_boxes(boxes))
    if len(wanted) != len(given):
        raise ValueError(f"gt_boxes and boxes must be as many, got {len(wanted)} and {len(given)}")
    _check_sides(wanted, "gt_boxes")
    _check_sides(given, "boxes")
    gt_centre, gt_sides = _centre_and_sides(wanted)  # (N, 2), (N, 2)
    centre, sides = _centre_and_sides(given)  # (N, 2), (N, 2)
    scale = _as_weights(weights, given.dtype)  # (4,)
    shift = scale[:2] * (gt_centre - centre) / sides  # (N, 2)
    stretch = scale[2:] * np.log(gt_sides / sides)  # (N, 2)
    return np.concatenate([shift, stretch], axis=1)  # (N, 4)


@replaceable(lambda deltas, boxes, weights: floats(np.shape(deltas), boxes))
def decode(deltas: ArrayLike, boxes: ArrayLike, weights: ArrayLike = (1, 1, 1, 1)) -> np.ndarray:
    """Return the boxes that `deltas`, (N, 4) or (N, L, 4), make of `boxes` (N, 4), in the shape of `deltas`.

    The inverse of `encode` with the same weights. dw and dh are capped at log(1000/16), before which a network that is
    still learning would overflow exp().
    """
    given_deltas, given = in_common_dtype(as_float_array(deltas, "deltas"), check_boxes(boxes))
    if given_deltas.size == 0 and given_deltas.ndim == 1:
        given_deltas = given_deltas.reshape(0, 4)
    if given_deltas.ndim not in (2, 3) or given_deltas.shape[-1] != 4 or len(given_deltas) != len(given):
        raise ValueError(
            f"deltas must have shape ({len(given)}, 4) or ({len(given)}, L, 4) for {len(given)} boxes, "
            f"got {given_deltas.shape}"
        )
    centre, sides = _centre_and_sides(given)  # (N, 2), (N, 2)
    if given_deltas.ndim == 3:
        centre, sides = centre[:, None], sides[:, None]  # (N, 1, 2), (N, 1, 2)
    unit = given_deltas / _as_weights(weights, given.dtype)
    new_centre = unit[..., :2] * sides + centre
    half = 0.5 * (np.exp(np.minimum(unit[..., 2:], given.dtype.type(MAX_LOG_SCALE))) * sides)
    return np.concatenate([new_centre - half, new_centre + half], axis=-1)


def _centre_and_sides(boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    sides = boxes[:, 2:] - boxes[:, :2]  # (N, 2)
    return boxes[:, :2] + 0.5 * sides, sides


def _check_sides(boxes: np.ndarray, name: str) -> None:
    positive = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)  # (N,)
    if not positive.all():
        row = int(np.argmin(positive))
        raise ValueError(f"{name}[{row}] is {boxes[row].tolist()}; x2 > x1 and y2 > y1 are needed to encode")


def _as_weights(weights: ArrayLike, dtype: np.dtype) -> np.ndarray:
    array = as_float_array(weights, "weights").astype(dtype)
    if array.shape != (4,) or not (array > 0).all():
        raise ValueError(f"weights must be four positive numbers (dx, dy, dw, dh), got {weights!r}")
    return array

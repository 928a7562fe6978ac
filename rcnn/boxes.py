"""Boxes: formats, area, intersection over union, clipping, and the deltas by which the network refines a box.

A box is `x1, y1, x2, y2` in pixels, in continuous coordinates: a side is `x2 - x1`, with no `+1` anywhere.
Every function accepts lists and arrays. It returns float32 for float16 and float32 input, and float64 otherwise.
"""

import math

import numpy as np
from numpy.typing import ArrayLike

from rcnn._ext.dispatch import compiled, floats, indices, replaceable
from rcnn._validate import as_float_array, check_boxes, in_common_dtype

MAX_LOG_SCALE = math.log(1000 / 16)  # the cap of dw and dh; without it exp() would overflow
FORMATS = ("xyxy", "xywh", "cxcywh")


def convert(boxes: ArrayLike, source: str, target: str) -> np.ndarray:
    """Return the same boxes in another format.

    Parameters
    ----------
    boxes : (N, 4) array_like
        Boxes in the format `source`.
    source, target : {"xyxy", "xywh", "cxcywh"}
        "xyxy" is two corners, "xywh" the top left corner and the sides (COCO), "cxcywh" the centre and the sides.

    Returns
    -------
    (N, 4) array
        Boxes in the format `target`.

    Raises
    ------
    ValueError
        If a format is unknown.

    Examples
    --------
    >>> convert([[10, 20, 40, 60]], "xyxy", "xywh")
    array([[10., 20., 30., 40.]])
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
    """Return the area of each box; it is negative if exactly one side is.

    Parameters
    ----------
    boxes : (N, 4) array_like
        Boxes in pixels.

    Returns
    -------
    (N,) array
        Areas in square pixels.
    """
    checked = check_boxes(boxes)
    return (checked[:, 2] - checked[:, 0]) * (checked[:, 3] - checked[:, 1])  # (N,)


@replaceable(lambda boxes1, boxes2: floats((len(boxes1), len(boxes2)), boxes1))
def iou(boxes1: ArrayLike, boxes2: ArrayLike) -> np.ndarray:
    """Return the intersection over union (IoU) of every box of `boxes1` with every box of `boxes2`.

    Boxes that only touch have IoU 0. Two boxes without area (0 / 0) have IoU 0, where torchvision returns NaN. All
    other values are bit-identical to torchvision's `box_iou` in float32.

    Parameters
    ----------
    boxes1 : (N, 4) array_like
        Boxes in pixels.
    boxes2 : (M, 4) array_like
        Boxes in pixels.

    Returns
    -------
    (N, M) array
        IoU in [0, 1]; rows belong to `boxes1`, columns to `boxes2`.

    Examples
    --------
    >>> iou([[0, 0, 2, 2]], [[0, 0, 2, 2], [0, 0, 2, 4], [2, 2, 3, 3]])
    array([[1. , 0.5, 0. ]])
    """
    first, second = in_common_dtype(check_boxes(boxes1, "boxes1"), check_boxes(boxes2, "boxes2"))
    return _iou(first, second)


@compiled("boxes.iou", (np.float32, np.float64), uses=("area",))
def _iou(boxes1: np.ndarray, boxes2: np.ndarray) -> np.ndarray:
    """Return the product of the overlaps along x and y, divided by the area of the union."""
    top_left = np.maximum(boxes1[:, None, :2], boxes2[:, :2])  # (N, M, 2)
    bottom_right = np.minimum(boxes1[:, None, 2:], boxes2[:, 2:])  # (N, M, 2)
    sides = np.maximum(bottom_right - top_left, 0)  # (N, M, 2)
    intersection = sides[..., 0] * sides[..., 1]  # (N, M)
    union = area(boxes1)[:, None] + area(boxes2) - intersection  # (N, M)
    return np.divide(intersection, union, out=np.zeros_like(union), where=union != 0)


@replaceable(lambda boxes, size: floats(np.shape(boxes), boxes))
def clip(boxes: ArrayLike, size: tuple[float, float]) -> np.ndarray:
    """Return the boxes clipped to the image.

    Parameters
    ----------
    boxes : (..., 4) array_like
        Boxes in pixels.
    size : (height, width)
        The size of the image, in pixels.

    Returns
    -------
    (..., 4) array
        Boxes with x in [0, width] and y in [0, height].
    """
    given = as_float_array(boxes, "boxes")
    if given.size == 0 and given.ndim == 1:
        return given.reshape(0, 4)
    if given.ndim == 0 or given.shape[-1] != 4:
        raise ValueError(f"boxes must have shape (..., 4), got {given.shape}")
    height, width = size
    return np.clip(given, 0, np.array([width, height, width, height], given.dtype))


@replaceable(lambda boxes, min_size: indices(None, 0, len(boxes) - 1, distinct=True))
def remove_small(boxes: ArrayLike, min_size: float) -> np.ndarray:
    """Return the indices of the boxes whose sides are both at least `min_size`.

    Parameters
    ----------
    boxes : (N, 4) array_like
        Boxes in pixels.
    min_size : float
        The smallest side to keep, in pixels.

    Returns
    -------
    (K,) int64 array
        Indices, ascending.
    """
    checked = check_boxes(boxes)
    wide, high = (checked[:, 2:] - checked[:, :2] >= float(min_size)).T  # (N,), (N,)
    return np.flatnonzero(wide & high)  # (K,)


@replaceable(lambda gt_boxes, boxes, weights: floats((len(boxes), 4), boxes))
def encode(gt_boxes: ArrayLike, boxes: ArrayLike, weights: ArrayLike = (1, 1, 1, 1)) -> np.ndarray:
    """Return the deltas (dx, dy, dw, dh) that transform `boxes` into `gt_boxes`.

    With centres (x, y) and sides (w, h), where primed values belong to `gt_boxes`::

        dx = wx * (x' - x) / w        dw = ww * log(w' / w)
        dy = wy * (y' - y) / h        dh = wh * log(h' / h)

    Parameters
    ----------
    gt_boxes : (N, 4) array_like
        The boxes to reach, in pixels.
    boxes : (N, 4) array_like
        The boxes to start from, in pixels.
    weights : four floats
        The factors (wx, wy, ww, wh).

    Returns
    -------
    (N, 4) array
        Deltas.

    Raises
    ------
    ValueError
        If a side of a box is not positive: such a box has no deltas.

    References
    ----------
    Girshick et al., "Rich feature hierarchies for accurate object detection", 2014, appendix C.

    Examples
    --------
    >>> encode([[5, 0, 15, 10]], [[0, 0, 10, 10]])
    array([[0.5, 0. , 0. , 0. ]])
    """
    gt, given = in_common_dtype(check_boxes(gt_boxes, "gt_boxes"), check_boxes(boxes))
    if len(gt) != len(given):
        raise ValueError(f"gt_boxes and boxes must have the same length, got {len(gt)} and {len(given)}")
    _check_sides(gt, "gt_boxes")
    _check_sides(given, "boxes")
    gt_centre, gt_sides = _centre_and_sides(gt)  # (N, 2), (N, 2)
    centre, sides = _centre_and_sides(given)  # (N, 2), (N, 2)
    scale = _as_weights(weights, given.dtype)  # (4,)
    shift = scale[:2] * (gt_centre - centre) / sides  # (N, 2)
    stretch = scale[2:] * np.log(gt_sides / sides)  # (N, 2)
    return np.concatenate([shift, stretch], axis=1)  # (N, 4)


@replaceable(lambda deltas, boxes, weights: floats(np.shape(deltas), boxes))
def decode(deltas: ArrayLike, boxes: ArrayLike, weights: ArrayLike = (1, 1, 1, 1)) -> np.ndarray:
    """Return the boxes that `deltas` make of `boxes`: the inverse of `encode` with the same weights.

    dw and dh are capped at log(1000 / 16). Without the cap, exp() would overflow early in training.

    Parameters
    ----------
    deltas : (N, 4) or (N, L, 4) array_like
        Deltas (dx, dy, dw, dh) of each box, or of each box and class.
    boxes : (N, 4) array_like
        The boxes to start from, in pixels.
    weights : four floats
        The weights that the deltas were encoded with.

    Returns
    -------
    array of the shape of `deltas`
        Boxes in pixels.

    Examples
    --------
    >>> decode([[0.5, 0, 0, 0]], [[0, 0, 10, 10]])
    array([[ 5.,  0., 15., 10.]])
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
        raise ValueError(f"{name}[{row}] is {boxes[row].tolist()}; encode requires x2 > x1 and y2 > y1")


def _as_weights(weights: ArrayLike, dtype: np.dtype) -> np.ndarray:
    array = as_float_array(weights, "weights").astype(dtype)
    if array.shape != (4,) or not (array > 0).all():
        raise ValueError(f"weights must be four positive numbers (dx, dy, dw, dh), got {weights!r}")
    return array

"""Boxes: formats, area, intersection over union, clipping, and the deltas with which the network refines a box.

A box is `x1, y1, x2, y2`, in pixels. Coordinates are real numbers, and the width is `x2 - x1`, without `+1`. Every
function accepts lists and arrays. Float results are float32 for float16 and float32 input, and float64 for all other
input.
"""

import math

import numpy as np
from numpy.typing import ArrayLike

from rcnn._ext.dispatch import compiled, floats, indices, replaceable
from rcnn._validate import (
    NUMBER,
    as_dtype,
    as_float_array,
    check_boxes,
    check_sides,
    check_size,
    in_common_dtype,
    one_of,
    shown,
)

MAX_LOG_SCALE = math.log(1000 / 16)  # the upper limit of dw and dh; without it, exp() would overflow
FORMATS = ("xyxy", "xywh", "cxcywh")


def convert(boxes: ArrayLike, source: str, target: str) -> np.ndarray:
    """Return the same boxes in another format.

    Parameters
    ----------
    boxes : (N, 4) array_like
        N boxes in the format `source`.
    source, target : {"xyxy", "xywh", "cxcywh"}
        The formats: "xyxy" (two corners), "xywh" (top left corner, width and height, as in COCO) or "cxcywh" (centre,
        width and height).

    Returns
    -------
    (N, 4) array
        The boxes in the format `target`.

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
        one_of(FORMATS).check(argument, value)
    given = check_boxes(boxes)
    if source == target:
        return given.copy()
    with np.errstate(all="ignore"):  # infinite coordinates follow the rules of IEEE 754
        return _convert(given, source, target)


def _convert(given: np.ndarray, source: str, target: str) -> np.ndarray:
    """Convert boxes (N, 4) from the format `source` to the format `target`; the two formats differ."""
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
    """Return the area of each box, which is negative if exactly one side is negative.

    Parameters
    ----------
    boxes : (N, 4) array_like
        N boxes, in pixels.

    Returns
    -------
    (N,) array
        Areas in square pixels.
    """
    checked = check_boxes(boxes)
    with np.errstate(all="ignore"):  # infinite coordinates follow the rules of IEEE 754
        return (checked[:, 2] - checked[:, 0]) * (checked[:, 3] - checked[:, 1])  # (N,)


@replaceable(lambda boxes1, boxes2: floats((len(boxes1), len(boxes2)), boxes1))
def iou(boxes1: ArrayLike, boxes2: ArrayLike) -> np.ndarray:
    """Return the intersection over union (IoU) of every box of `boxes1` with every box of `boxes2`.

    The IoU of boxes that only touch is 0. If both boxes have area 0, the formula is 0 / 0. Their IoU is then 0, whereas
    torchvision returns NaN. In float32, all other values are bit-identical to those of torchvision's `box_iou`.

    Parameters
    ----------
    boxes1 : (N, 4) array_like
        N boxes, in pixels.
    boxes2 : (M, 4) array_like
        M boxes, in pixels.

    Returns
    -------
    (N, M) array
        The IoUs, in [0, 1]. There is one row per box of `boxes1` and one column per box of `boxes2`.

    Raises
    ------
    ValueError
        If a shape is wrong, or if N * M is more than 2^30.

    Examples
    --------
    >>> iou([[0, 0, 2, 2]], [[0, 0, 2, 2], [0, 0, 2, 4], [2, 2, 3, 3]])
    array([[1. , 0.5, 0. ]])
    """
    first, second = in_common_dtype(check_boxes(boxes1, "boxes1"), check_boxes(boxes2, "boxes2"))
    check_size((len(first), len(second)), "boxes1 and boxes2")
    return _iou(first, second)


@compiled("boxes.iou", (np.float32, np.float64), uses=("area",))
def _iou(boxes1: np.ndarray, boxes2: np.ndarray) -> np.ndarray:
    """Return the IoU matrix (N, M): the product of the overlaps along x and y, divided by the area of the union."""
    top_left = np.maximum(boxes1[:, None, :2], boxes2[:, :2])  # (N, M, 2)
    bottom_right = np.minimum(boxes1[:, None, 2:], boxes2[:, 2:])  # (N, M, 2)
    sides = np.maximum(bottom_right - top_left, 0)  # (N, M, 2)
    intersection = sides[..., 0] * sides[..., 1]  # (N, M)
    union = area(boxes1)[:, None] + area(boxes2) - intersection  # (N, M)
    return np.divide(intersection, union, out=np.zeros_like(union), where=union != 0)


def share_inside(boxes: ArrayLike, regions: ArrayLike) -> np.ndarray:
    """Return the fraction of each box that is inside each region.

    Parameters
    ----------
    boxes : (N, 4) array_like
        N boxes, in pixels.
    regions : (M, 4) array_like
        M boxes, in pixels.

    Returns
    -------
    (N, M) array
        Fractions of the areas of the boxes, in [0, 1]; 0 for a box without area.

    Raises
    ------
    ValueError
        If a shape is wrong, or if N * M is more than 2^30.

    Examples
    --------
    >>> share_inside([[0, 0, 2, 2]], [[1, 0, 9, 9], [0, 0, 2, 4], [2, 2, 3, 3]])
    array([[0.5, 1. , 0. ]])
    """
    given, around = in_common_dtype(check_boxes(boxes), check_boxes(regions, "regions"))
    check_size((len(given), len(around)), "boxes and regions")
    low, high = np.maximum(given[:, None, :2], around[:, :2]), np.minimum(given[:, None, 2:], around[:, 2:])
    inside = np.maximum(high - low, 0).prod(axis=2)  # (N, M)
    areas = area(given)[:, None]  # (N, 1)
    return np.divide(inside, areas, out=np.zeros_like(inside), where=areas > 0)


@replaceable(lambda boxes, size: floats(np.shape(boxes), boxes))
def clip(boxes: ArrayLike, size: tuple[float, float]) -> np.ndarray:
    """Return the boxes clipped to the image.

    Parameters
    ----------
    boxes : (..., 4) array_like
        Boxes, in pixels.
    size : (height, width)
        The size of the image, in pixels, in [0, 2^20].

    Returns
    -------
    (..., 4) array
        The clipped boxes, with x in [0, width] and y in [0, height]; NaN stays NaN.
    """
    given = as_float_array(boxes, "boxes")
    if given.size == 0 and given.ndim == 1:
        return given.reshape(0, 4)
    if given.ndim == 0 or given.shape[-1] != 4:
        raise ValueError(f"boxes must have shape (..., 4), got {given.shape}")
    height, width = check_sides(size, "size")
    return np.clip(given, 0, np.array([width, height, width, height], given.dtype))


@replaceable(lambda boxes, min_size: indices(None, 0, len(boxes) - 1, distinct=True))
def remove_small(boxes: ArrayLike, min_size: float) -> np.ndarray:
    """Return the indices of the boxes whose sides are both at least `min_size`.

    Parameters
    ----------
    boxes : (N, 4) array_like
        N boxes, in pixels.
    min_size : float
        The shortest allowed side, in pixels. It must be finite.

    Returns
    -------
    (K,) int64 array
        The indices of K boxes, in ascending order. A box whose coordinates contain NaN is never among them.
    """
    checked = check_boxes(boxes)
    shortest = NUMBER.check("min_size", min_size)
    with np.errstate(invalid="ignore"):  # inf - inf is NaN, which is not at least `min_size`
        wide, high = (checked[:, 2:] - checked[:, :2] >= shortest).T  # (N,), (N,)
    return np.flatnonzero(wide & high).astype(np.int64, copy=False)  # (K,); 32-bit systems have int32 indices


@replaceable(lambda gt_boxes, boxes, weights: floats((len(boxes), 4), boxes))
def encode(gt_boxes: ArrayLike, boxes: ArrayLike, weights: ArrayLike = (1, 1, 1, 1)) -> np.ndarray:
    """Return the deltas (dx, dy, dw, dh) that transform `boxes` into `gt_boxes`.

    A box with centre (x, y), width w and height h is moved to the box in `gt_boxes` with centre (x', y'), width w' and
    height h'::

        dx = wx * (x' - x) / w        dw = ww * log(w' / w)
        dy = wy * (y' - y) / h        dh = wh * log(h' / h)

    Parameters
    ----------
    gt_boxes : (N, 4) array_like
        The N boxes to which `boxes` are moved, in pixels.
    boxes : (N, 4) array_like
        N boxes, in pixels.
    weights : four floats
        The factors (wx, wy, ww, wh) of the formulas.

    Returns
    -------
    (N, 4) array
        The deltas (dx, dy, dw, dh) of each box.

    Raises
    ------
    ValueError
        If `gt_boxes` and `boxes` differ in length, if a weight is not positive and finite, or if a coordinate is not
        finite or a side of a box is not positive, because the deltas are then undefined.

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
    with np.errstate(all="ignore"):  # for sides near the limits of the dtype
        shift = scale[:2] * (gt_centre - centre) / sides  # (N, 2)
        stretch = scale[2:] * np.log(gt_sides / sides)  # (N, 2)
    return np.concatenate([shift, stretch], axis=1)  # (N, 4)


@replaceable(lambda deltas, boxes, weights: floats(np.shape(deltas), boxes))
def decode(deltas: ArrayLike, boxes: ArrayLike, weights: ArrayLike = (1, 1, 1, 1)) -> np.ndarray:
    """Return `boxes` moved by `deltas`. This is the inverse of `encode` with the same weights.

    dw and dh are limited to at most log(1000 / 16). Without this limit, exp() would overflow early in training.

    Parameters
    ----------
    deltas : (N, 4) or (N, L, 4) array_like
        The deltas (dx, dy, dw, dh): one row per box, or one row per box and class, for L classes.
    boxes : (N, 4) array_like
        N boxes, in pixels.
    weights : four floats
        The weights with which the deltas were encoded.

    Returns
    -------
    array with the shape of `deltas`
        The moved boxes, in pixels. If a delta or a coordinate of a box is not finite, the moved box is not finite.

    Raises
    ------
    ValueError
        If a shape is wrong, or a weight is not positive and finite.

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
    scale = _as_weights(weights, given.dtype)  # (4,)
    with np.errstate(all="ignore"):  # the deltas of an untrained network can be of any size
        centre, sides = _centre_and_sides(given)  # (N, 2), (N, 2)
        if given_deltas.ndim == 3:
            centre, sides = centre[:, None], sides[:, None]  # (N, 1, 2), (N, 1, 2)
        unit = given_deltas / scale
        new_centre = unit[..., :2] * sides + centre
        half = 0.5 * (np.exp(np.minimum(unit[..., 2:], given.dtype.type(MAX_LOG_SCALE))) * sides)
        return np.concatenate([new_centre - half, new_centre + half], axis=-1)


def _centre_and_sides(boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    sides = boxes[:, 2:] - boxes[:, :2]  # (N, 2)
    return boxes[:, :2] + 0.5 * sides, sides


def _check_sides(boxes: np.ndarray, name: str) -> None:
    positive, finite = boxes[:, 2:] > boxes[:, :2], np.isfinite(boxes)  # (N, 2), (N, 4)
    if not (positive.all() and finite.all()):
        row = int(np.argmin(positive.all(axis=1) & finite.all(axis=1)))
        raise ValueError(
            f"{name}[{row}] is {boxes[row].tolist()}; encode requires finite coordinates with x2 > x1 and y2 > y1"
        )


def _as_weights(weights: ArrayLike, dtype: np.dtype) -> np.ndarray:
    array = as_dtype(as_float_array(weights, "weights"), dtype, "weights")
    if array.shape != (4,) or not ((array > 0) & (array < np.inf)).all():
        raise ValueError(f"weights must be four positive numbers, for dx, dy, dw and dh, got {shown(weights)}")
    return array

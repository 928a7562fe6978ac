"""Checks of box functions: formats, IoU, encoding and decoding of deltas."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np

from rcnn import boxes
from rcnn._ext.dispatch import original
from rcnn.checks import _inputs
from rcnn.checks._engine import (
    Case,
    Failure,
    Function,
    answer,
    as_array,
    attempt,
    failed,
    generator_of,
    judging,
    run,
)

EVERY_PAIR = (
    "Compare every box of `boxes1` with every box of `boxes2`, not only boxes of the same row. The result has one row "
    "for each box of `boxes1` and one column for each box of `boxes2`."
)
MIXED_AXES = (
    "The intersection mixes x and y. Its width is the overlap along x (columns 0 and 2 of the boxes), and its height "
    "is the overlap along y (columns 1 and 3)."
)
FORMATS = ("xyxy", "xywh", "cxcywh")


@original
def iou(function: Function, seed: int | None = None) -> None:
    """Raise CheckFailed unless `function` returns the IoU of every pair of boxes.

    Parameters
    ----------
    function : callable
        ``function(boxes1, boxes2)``. `boxes1` is an (N, 4) array and `boxes2` an (M, 4) array of boxes in pixels. The
        function returns an (N, M) array: the IoU of every pair. The IoU is 0 for boxes that only touch, and for two
        boxes without area.
    seed : int, optional
        Seed for the random inputs. Without it, every call uses new inputs.

    Raises
    ------
    CheckFailed
        If any result is wrong. The message shows a hint and the smallest failing input that was found.
    TypeError
        If `function` is not callable.

    Examples
    --------
    >>> from rcnn import boxes, checks
    >>> checks.iou(boxes.iou)
    >>> try:
    ...     checks.iou(lambda boxes1, boxes2: boxes.iou(boxes2, boxes1))
    ... except checks.CheckFailed as failed:
    ...     print(str(failed).splitlines()[0])
    iou: your function returns an array of shape (2, 1); expected (1, 2)
    """
    run(
        "iou",
        function,
        boxes.iou,
        _iou_cases(generator_of(seed)),
        rows=(("boxes1",), ("boxes2",)),
        groups=_pairs_of_boxes,
        explain=_explained_iou,
    )


def _explained_iou(function: Function, case: Case, failure: Failure) -> Failure:
    """Return the failure with another hint if the shape is wrong, or if the intersection mixes x and y."""
    got, expected = failure.got, failure.expected
    if isinstance(got, np.ndarray) and isinstance(expected, np.ndarray) and expected.size and got.ndim < 2:
        return replace(failure, hint=EVERY_PAIR)
    one, other = np.array([0.0, 1, 8, 14]), np.array([2.0, 4, 13, 25])  # two boxes whose sides all differ
    answer, error = attempt(function, one[None].copy(), other[None].copy())
    array, no_numbers = as_array(answer)
    if error is not None or no_numbers is not None or array.size != 1:
        return failure
    areas = (one[2:] - one[:2]).prod() + (other[2:] - other[:2]).prod()
    sides = [min(one[end], other[end]) - max(one[start], other[start]) for end in (2, 3) for start in (0, 1)]
    mixed = [w * h for w, h in product(sides, repeat=2) if {w, h} != {sides[0], sides[3]}]
    if any(np.isclose(array.item(), shared / (areas - shared)) for shared in mixed):
        return replace(failure, hint=MIXED_AXES)
    return failure


def _pairs_of_boxes(arguments: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return groups of pairs (N, M) that wrong functions treat in another way."""
    one, other = (np.asarray(arguments[name], float) for name in ("boxes1", "boxes2"))
    sides = np.minimum(one[:, None, 2:], other[:, 2:]) - np.maximum(one[:, None, :2], other[:, :2])  # (N, M, 2)
    areas, other_areas = ((array[:, 2:] - array[:, :2]).prod(axis=1) for array in (one, other))
    below, other_below = ((array < 0).any(axis=1) for array in (one, other))
    return {
        "boxes that touch": (sides == 0).any(axis=2),
        "boxes without area": np.asarray(areas == 0)[:, None] | np.asarray(other_areas == 0),
        "boxes that do not overlap": (sides <= 0).any(axis=2),
        "boxes that overlap": (sides > 0).all(axis=2),
        "boxes with negative coordinates": np.asarray(below)[:, None] | other_below,
    }


def _iou_cases(rng: np.random.Generator) -> Iterator[Case]:
    def pair(first: list[float], second: list[float], hint: str) -> Case:
        return Case({"boxes1": np.array([first], float), "boxes2": np.array([second], float)}, hint)

    x, y, w, h = rng.integers(3, 30, 4).tolist()
    box = [x, y, x + w, y + h]
    yield pair(
        box,
        box,
        "The two boxes are the same, so both areas, the intersection and the union are equal. The union counts the "
        "shared part only once.",
    )
    yield pair(
        box,
        [x + w / 2, y, x + 1.5 * w, y + h],
        "Coordinates are continuous: a box from 3 to 8 is 5 pixels wide, so do not add 1. The shared part belongs to "
        "both areas, but counts only once in the union.",
    )
    yield pair(
        box,
        [x + w / 4, y + h / 3, x + w / 2, y + h / 2],
        "The second box lies inside the first, so the intersection is the whole second box. It extends from the "
        "larger of the two left edges to the smaller of the two right edges.",
    )
    yield pair(
        box,
        [x + 2 * w, y, x + 3 * w, y + h],
        "These boxes do not overlap along x. How wide is an intersection whose right edge lies to the left of its "
        "left edge?",
    )
    yield pair(
        box,
        [x, y + 2 * h, x + w, y + 3 * h],
        "One of these boxes is above the other, so they do not overlap along y. Check the height of the intersection "
        "as well as its width.",
    )
    yield pair(
        box,
        [x + 2 * w, y + 2 * h, x + 3 * w, y + 3 * h],
        "These boxes do not overlap, neither along x nor along y. The width and the height of the intersection are "
        "both negative, but their product is positive. Check each side before you multiply.",
    )
    yield pair(box, [x + w, y, x + 2 * w, y + h], "These boxes share an edge, but no area.")
    yield pair(
        [x, y, x, y + h],
        [x, y, x, y + h],
        "These boxes have no area: the union is 0, and 0/0 is NaN. The IoU is defined as 0 here. `np.divide` with "
        "`where=` also needs `out=`; otherwise, the other elements are not initialised.",
    )
    yield pair(box, [x + w, y + h, x + 2 * w, y + 2 * h], "These boxes share a corner, but no area.")
    yield pair([x, y, x, y], box, "A point has no area, so its intersection with a box is 0.")
    yield pair(
        [x + w / 2, y, x + w / 2, y + h], box, "A line inside a box has no area, so the intersection is 0 as well."
    )
    yield Case(
        {"boxes1": _drawn(rng, 2), "boxes2": _drawn(rng, 3)},
        "Compare every box of `boxes1` with every box of `boxes2`. The result has one row for each box of `boxes1` "
        "and one column for each box of `boxes2`.",
    )
    yield Case(
        {"boxes1": np.zeros((0, 4)), "boxes2": _drawn(rng, 2)},
        "Zero boxes are valid input: the result has no rows, and one column for each box of `boxes2`.",
    )
    yield Case(
        {"boxes1": _drawn(rng, 2), "boxes2": np.zeros((0, 4))},
        "Zero boxes are valid input: the result has one row for each box of `boxes1`, and no columns.",
    )
    whole = np.array([[x, y, x + w, y + h]])
    yield Case(
        {"boxes1": whole, "boxes2": whole + [1, 0, 1, 0]},
        "Integers are valid input, but their quotient need not be an integer.",
    )
    yield Case(
        {"boxes1": _inputs.integers(rng, 3), "boxes2": _inputs.integers(rng, 3)},
        "Integers are valid input, but their quotient need not be an integer. Coordinates may be negative: do not clip "
        "them at 0.",
    )
    for kind, (rows, columns) in _inputs.box_kinds():
        boxes1 = kind.draw(rng, rows)
        yield Case({"boxes1": boxes1, "boxes2": kind.draw(rng, columns, boxes1)}, kind.hint)
    lines = np.array([[x, y, x, y + h], [x, y, x + w, y], [x, y, x, y]], float)
    yield Case(
        {"boxes1": lines, "boxes2": lines[::-1] + [w, h, w, h]},
        "None of these boxes has an area, and they lie at different places. The union of each pair is 0, and 0/0 is "
        "NaN. The IoU is defined as 0 here.",
    )
    zero = np.zeros((1, 4))
    for boxes1, boxes2 in ((zero, _drawn(rng, 2)), (_drawn(rng, 2), zero)):
        hint = f"One of these boxes is a point at the origin. {_inputs.ZEROS}"
        yield Case({"boxes1": boxes1, "boxes2": boxes2}, hint)
    tiny = _inputs.BOX_KINDS[1].draw(rng, 4) / 256
    yield Case(
        {"boxes1": tiny, "boxes2": tiny[::-1].copy()},
        "The areas of these boxes are far below 1. Do not add a constant to the union, and compare it with 0 only.",
    )
    many = _drawn(rng, 300)
    for boxes1, boxes2 in ((many, many[:2].copy()), (many[:2].copy(), many)):
        yield Case(
            {"boxes1": boxes1, "boxes2": boxes2},
            "There are hundreds of boxes. If you work in blocks, the last block may be shorter.",
        )
    some = _drawn(rng, 4)
    yield Case(
        {"boxes1": some, "boxes2": some[::-1].copy()},
        "There are as many boxes in `boxes1` as in `boxes2`. Compare every pair, not only boxes of the same row.",
    )
    for count in (1, 2, 4, 30):
        yield Case(
            {"boxes1": _drawn(rng, count), "boxes2": _drawn(rng, count + 1)},
            "These boxes are random. Work out this pair by hand: the overlap along x, the overlap along y, the two "
            "areas, and the union.",
        )


@original
def convert(function: Function, seed: int | None = None) -> None:
    """Raise CheckFailed unless `function` converts boxes between formats.

    Parameters
    ----------
    function : callable
        ``function(boxes, source, target)``. `boxes` is an (N, 4) array in the format `source`. The function returns the
        same boxes in the format `target`, (N, 4). The formats are "xyxy" (two corners), "xywh" (top left corner and
        sides) and "cxcywh" (centre and sides). The width is x2 - x1, and the height is y2 - y1. A centre need not be a
        whole number.
    seed : int, optional
        Seed for the random inputs. Without it, every call uses new inputs.

    Raises
    ------
    CheckFailed
        If any result is wrong. The message shows a hint and the smallest failing input that was found.
    TypeError
        If `function` is not callable.
    """
    rng = generator_of(seed)
    run("convert", function, boxes.convert, _convert_cases(rng), rows=(("boxes",),))
    with judging("convert"):
        _check_floats(function, _inputs.integers(rng, 3))


def _check_floats(function: Function, whole: np.ndarray) -> None:
    """Raise CheckFailed if `function` returns an array of integers for boxes (N, 4) of integers."""
    for source in FORMATS:
        for target in (source, *FORMATS):
            case = Case({"boxes": whole, "source": source, "target": target}, "")
            got, failure = answer(function, case)
            if failure is None and isinstance(got, np.ndarray) and got.dtype.kind in "iu":
                failure = Failure(
                    f"returns {got.dtype} values; expected floats",
                    got,
                    got.astype(float),
                    "The boxes may be integers, but the result is an array of floats, whatever the formats are. "
                    "Convert the boxes first, also if the source and target formats are the same.",
                )
            if failure is not None:
                raise failed("convert", case, failure)


def _convert_cases(rng: np.random.Generator) -> Iterator[Case]:
    x, y, w, h = _unlike(rng)
    same = {"xyxy": [x, y, x + w, y + h], "xywh": [x, y, w, h], "cxcywh": [x + w / 2, y + h / 2, w, h]}

    def case(given: np.ndarray, source: str, target: str, hint: str) -> Case:
        return Case({"boxes": given, "source": source, "target": target}, hint)

    for source, target, hint in (
        (
            "xyxy",
            "xywh",
            "The top left corner stays. The width is the distance between the left and the right edge, and the height "
            "is the distance between the top and the bottom edge. Coordinates are continuous: a box from 3 to 8 is 5 "
            "pixels wide, so do not add 1.",
        ),
        (
            "xywh",
            "xyxy",
            "The top left corner stays. The other corner lies one width to the right and one height below, so do not "
            "subtract 1.",
        ),
        ("xyxy", "cxcywh", "The centre is halfway between the corners. It may be at half a pixel."),
        (
            "cxcywh",
            "xyxy",
            "From its centre, the box extends half a width to the left and to the right, and half a height up and "
            "down.",
        ),
        (
            "xywh",
            "cxcywh",
            "The centre lies half a width to the right of the corner and half a height below it. The sides stay.",
        ),
        (
            "cxcywh",
            "xywh",
            "The corner lies half a width to the left of the centre and half a height above it. The sides stay.",
        ),
    ):
        yield case(np.array([same[source]], float), source, target, hint)
    for name in FORMATS:
        yield case(
            np.array([same[name]], float),
            name,
            name,
            "The source and target formats are the same, so no number changes. The function must still return the "
            "boxes.",
        )
    for target in FORMATS[1:]:
        yield case(
            _drawn(rng, 3),
            "xyxy",
            target,
            "The result has one row for each box. Compute it from the four numbers of that box.",
        )
    yield case(np.zeros((0, 4)), "xyxy", "cxcywh", "Zero boxes are valid input: the result has no rows.")
    yield case(
        np.array([[x, y, x, y]], float), "xyxy", "cxcywh", "A point is a box whose sides are 0. It is its own centre."
    )
    yield case(
        np.array([[-x, -y, w, h]], float),
        "xyxy",
        "xywh",
        "A box may start to the left of the image or above it, so negative coordinates are valid.",
    )
    yield case(
        boxes.convert(np.array([[-x, -y, w, h]], float), "xyxy", "cxcywh"),
        "cxcywh",
        "xyxy",
        "The centre of this box is close to the border, so the box begins outside the image. Do not clip it.",
    )
    for source, target in zip(FORMATS, (*FORMATS[1:], FORMATS[0]), strict=True):
        yield case(np.zeros((1, 4)), source, target, f"This box is a point at the origin. {_inputs.ZEROS}")
    whole = _inputs.integers(rng, 3)
    for source in FORMATS:
        for target in FORMATS:
            yield case(
                np.concatenate([whole[:, :2], whole[:, 2:] - whole[:, :2]], axis=1) if source != "xyxy" else whole,
                source,
                target,
                "Integers are valid input, but half of an integer need not be an integer.",
            )
    for number, (kind, (count, _)) in enumerate(_inputs.box_kinds()):
        for source in FORMATS:
            target = FORMATS[(FORMATS.index(source) + 1 + number) % len(FORMATS)]
            given = boxes.convert(kind.draw(rng, count), "xyxy", source)
            yield case(given.astype(kind.dtype), source, target, kind.hint)
    for count in (1, 2, 4, 30):
        given = _drawn(rng, count)
        for source in FORMATS:
            for target in FORMATS:
                yield case(
                    boxes.convert(given, "xyxy", source).astype(np.float32),
                    source,
                    target,
                    "These boxes are random. For this one, work out the corner, the width and the height by hand, and "
                    "then the centre.",
                )


@original
def encode(function: Function, seed: int | None = None) -> None:
    """Raise CheckFailed unless `function` returns the deltas from boxes to ground truth.

    Parameters
    ----------
    function : callable
        ``function(gt_boxes, boxes, weights=(1, 1, 1, 1))``. `gt_boxes` (N, 4) contains ground-truth boxes, and `boxes`
        (N, 4) contains other boxes; all sides are above 0. The function returns an (N, 4) array: the deltas dx, dy, dw,
        dh that lead from boxes[i] to gt_boxes[i]. dx is the shift of the centre along x divided by the width of
        boxes[i], and dy is the shift along y divided by its height. dw and dh are the natural logarithms of two ratios:
        width of gt_boxes[i] / width of boxes[i], and the same for the heights. Each delta is multiplied by its weight.
        The deltas are not limited to a range.
    seed : int, optional
        Seed for the random inputs. Without it, every call uses new inputs.

    Raises
    ------
    CheckFailed
        If any result is wrong. The message shows a hint and the smallest failing input that was found.
    TypeError
        If `function` is not callable.

    Notes
    -----
    The check compares the deltas with the expected deltas. It does not decode them, because an encoder and a decoder
    may contain the same mistake.

    References
    ----------
    Girshick et al., "Rich feature hierarchies for accurate object detection", 2014, appendix C.
    """
    run("encode", function, boxes.encode, _encode_cases(generator_of(seed)), rows=(("gt_boxes", "boxes"),))


def _encode_cases(rng: np.random.Generator) -> Iterator[Case]:
    x, y, w, h = _unlike(rng)

    def case(centre: tuple[float, float], sides: tuple[float, float], hint: str, *weights: float) -> Case:
        """Return a case. The ground truth has these sides, and its centre is shifted by `centre` times (w, h)."""
        dx, dy, gt_w, gt_h = centre[0] * w, centre[1] * h, *sides
        middle = [x + w / 2 + dx, y + h / 2 + dy]
        gt_box = [middle[0] - gt_w / 2, middle[1] - gt_h / 2, middle[0] + gt_w / 2, middle[1] + gt_h / 2]
        arguments = {"gt_boxes": np.array([gt_box]), "boxes": np.array([[x, y, x + w, y + h]])}
        return Case({**arguments, "weights": weights} if weights else arguments, hint)

    yield case((0, 0), (w, h), "This box already fits its object. There is no shift, and the logarithm of 1 is 0.")
    yield case(
        (0.5, 0),
        (w, h),
        "Deltas lead from `boxes` to `gt_boxes`. A shift is measured in widths of the box: a shift to the right by "
        "half of the width is 0.5, however many pixels that is (a box from 3 to 8 is 5 pixels wide).",
    )
    yield case(
        (0, -0.25),
        (w, h),
        "A shift along y is measured in heights of the box. A shift upwards is negative. The order is dx, dy, dw, dh.",
    )
    yield case(
        (0, 0),
        (2 * w, h),
        "The two boxes have the same centre, so dx and dy are 0, although the corners differ. The width doubles, so "
        "dw is the natural logarithm of 2.",
    )
    yield case(
        (0, 0),
        (w, h / 2),
        "Width and height change independently, and dh comes last. Half the height gives the natural logarithm of "
        "1/2, which is as far below 0 as the logarithm of 2 is above 0.",
    )
    yield case(
        (0.5, 0.25),
        (4 * w, 2 * h),
        "The box moves and grows. The shift is measured in sides of the box from `boxes`, because the ground truth is "
        "unknown when deltas are decoded.",
    )
    yield case(
        (0.25, -0.5),
        (100 * w, h),
        "The box must become 100 times as wide. `decode` limits the deltas that a network predicts, but `encode` must "
        "not limit its targets.",
    )
    yield case(
        (0.25, -0.5),
        (w / 128, h / 256),
        "The box must become 128 times as narrow and 256 times as low. A logarithm has no lower limit, and `encode` "
        "must not limit its targets.",
    )
    order = rng.permutation([2.0, 4.0, 5.0, 10.0]).tolist()
    yield case(
        (0.5, -0.25),
        (2 * w, h / 2),
        "Multiply each of dx, dy, dw, dh by its own weight, after taking the logarithm. The weights are in the same "
        "order.",
        *order,
    )
    yield case(
        (-0.5, 0.25),
        (w / 2, 2 * h),
        "The second stage multiplies its deltas by 10, 10, 5, 5. This scales its targets to roughly unit standard "
        "deviation.",
        10.0,
        10.0,
        5.0,
        5.0,
    )
    yield Case(
        {"gt_boxes": _quarters(rng, 3), "boxes": _quarters(rng, 3)},
        "The result has one row for each pair: row i belongs to gt_boxes[i] and boxes[i].",
    )
    yield Case(
        {"gt_boxes": np.zeros((0, 4)), "boxes": np.zeros((0, 4))},
        "Zero boxes are valid input: the result has no rows.",
    )
    yield Case(
        {
            "gt_boxes": np.array([[x, y, x + 2 * w, y + h]]).astype(np.int64),
            "boxes": np.array([[x, y, x + w, y + h]]).astype(np.int64),
        },
        "Integers are valid input, but their deltas need not be integers.",
    )
    for number, (kind, counts) in enumerate(_inputs.box_kinds()):
        given = kind.draw(rng, max(counts))
        weights = {"weights": _inputs.different(rng)} if number % 2 else {}
        yield Case({"gt_boxes": kind.draw(rng, len(given), given), "boxes": given, **weights}, kind.hint)
    for count in (2, 3, 4):
        yield Case(
            {"gt_boxes": _quarters(rng, count), "boxes": _quarters(rng, count), "weights": _inputs.different(rng)},
            "The four weights belong to the four columns dx, dy, dw, dh. Every row is multiplied by them.",
        )
    whole = _inputs.integers(rng, 3)
    yield Case(
        {"gt_boxes": whole + [1, 2, 5, 4], "boxes": whole, "weights": (10, 10, 5, 5)},
        "Integers are valid input, also negative ones, but their deltas need not be integers.",
    )
    for dtype in (np.float64, np.float32):
        for count in (1, 2, 4, 30):
            yield Case(
                {"gt_boxes": _quarters(rng, count).astype(dtype), "boxes": _quarters(rng, count).astype(dtype)},
                "These boxes are random. Write down the centre and the sides of both boxes, then work out the four "
                "deltas by hand.",
            )


@original
def decode(function: Function, seed: int | None = None) -> None:
    """Raise CheckFailed unless `function` applies deltas to boxes.

    Parameters
    ----------
    function : callable
        ``function(deltas, boxes, weights=(1, 1, 1, 1))``. `boxes` is an (N, 4) array. `deltas` has shape (N, 4), or
        shape (N, L, 4) if there are deltas for each of L classes. The function returns an array of boxes that has the
        same shape as `deltas`. It reverses `encode`: it divides the deltas by their weights, then caps dw and dh (but
        not dx and dy) at log(1000/16). The resulting boxes may extend beyond the image.
    seed : int, optional
        Seed for the random inputs. Without it, every call uses new inputs.

    Raises
    ------
    CheckFailed
        If any result is wrong. The message shows a hint and the smallest failing input that was found.
    TypeError
        If `function` is not callable.

    References
    ----------
    Girshick et al., "Rich feature hierarchies for accurate object detection", 2014, appendix C.
    """
    run("decode", function, boxes.decode, _decode_cases(generator_of(seed)), rows=(("deltas", "boxes"),))


def _decode_cases(rng: np.random.Generator) -> Iterator[Case]:
    x, y, w, h = _unlike(rng)
    x, y = x + 30, y + 30  # so that a box extends beyond the image in only one case
    box = [x, y, x + w, y + h]

    def case(deltas: list[float], hint: str, *weights: float) -> Case:
        arguments = {"deltas": np.array([deltas], float), "boxes": np.array([box])}
        return Case({**arguments, "weights": weights} if weights else arguments, hint)

    yield case(
        [0, 0, 0, 0],
        "Deltas of 0 leave the box unchanged: the logarithm of which factor is 0? Each edge is half a side away from "
        "the centre, so do not add 1 (a box from 3 to 8 is 5 pixels wide).",
    )
    yield case(
        [0.5, 0, 0, 0],
        "A shift is measured in widths of the box: 0.5 moves both edges to the right by half of its width.",
    )
    yield case(
        [0, -0.25, 0, 0],
        "A shift along y is measured in heights of the box. A negative shift goes upwards. The order is dx, dy, dw, "
        "dh.",
    )
    yield case(
        [0, 0, float(np.log(2)), 0],
        "dw is the natural logarithm of new width / old width. The centre stays, so the box grows equally on both "
        "sides.",
    )
    yield case(
        [0, 0, 0, -float(np.log(2))],
        "dh is the natural logarithm of new height / old height. If dh is negative, the height decreases. The centre "
        "stays.",
    )
    yield case(
        [0.5, 0.25, 0.75, -0.5],
        "The box moves, and its sides change. The shift is measured in the old sides.",
    )
    yield case(
        [-9, -9, 0.5, 0.5], "A box may extend beyond the image, and a shift has no limit. Clipping is a separate step."
    )
    order = rng.permutation([2.0, 4.0, 5.0, 10.0]).tolist()
    yield case(
        [3, -2, 2.5, -1.5],
        "Encoding multiplied each delta by its own weight. Undo this multiplication first, before exp.",
        *order,
    )
    yield case([0, 0, 4.1, 4.05], "The cap is log(1000/16), about 4.135. It does not change smaller deltas.")
    yield case([0, 0, -6, -8], "The cap is only an upper limit: a side may become arbitrarily small.")
    yield case([0.5, 0.5, 5, 0], "dw is capped at log(1000/16), so that the width becomes at most 62.5 times as large.")
    yield case(
        [0.5, 0.5, 0, 6],
        "dh is capped at log(1000/16), like dw, so that the height becomes at most 62.5 times as large.",
    )
    yield case([5, -7, 5, 5], "dw and dh are capped at log(1000/16), but dx and dy are not.")
    yield case(
        [0, 0, 12, 30],
        "The cap applies to the argument of exp, so divide by the weights first. Here 12 becomes 2.4, which is below "
        "the cap, and 30 becomes 6, which is above it.",
        10.0,
        10.0,
        5.0,
        5.0,
    )
    yield case(
        [0, 0, 1000, 0],
        "An untrained network may predict 1000, and exp(1000) is infinite. Apply the cap before exp.",
    )
    yield Case(
        {"deltas": _deltas(rng, 3), "boxes": _quarters(rng, 3)},
        "The result has one row for each box. Each box is moved by its own deltas.",
    )
    yield Case(
        {"deltas": np.zeros((0, 4)), "boxes": np.zeros((0, 4))},
        "Zero boxes are valid input: the result has no rows.",
    )
    yield Case(
        {"deltas": _deltas(rng, 1), "boxes": np.zeros((1, 4))},
        f"This box is a point at the origin, and it stays there. {_inputs.ZEROS}",
    )
    yield Case(
        {"deltas": np.array([[1, -1, 1, 0]]), "boxes": np.array([box]).astype(np.int64)},
        "Integers are valid input, but exp of an integer need not be an integer.",
    )
    for count, classes in ((1, 2), (2, 3), (4, 4)):
        yield Case(
            {"deltas": _deltas(rng, count, classes), "boxes": _quarters(rng, count)},
            "Deltas of shape (N, L, 4) contain L rows for each of the N boxes, one row for each class. All L rows "
            "start from the same box.",
        )
    yield Case(
        {"deltas": np.zeros((0, 3, 4)), "boxes": np.zeros((0, 4))},
        "Zero boxes are valid input, even if there are several classes.",
    )
    for count, classes in ((1, 2), (4, 4), (3, 1), (2, 5)):
        large = _deltas(rng, count, classes)
        large[..., 2:] += rng.choice([0, 4, 6], large[..., 2:].shape)
        large[..., :2] *= rng.choice([1, 8], large[..., :2].shape)
        yield Case(
            {"deltas": large, "boxes": _quarters(rng, count)},
            "The cap applies to dw and dh of every class: they are the last two numbers of the last axis.",
        )
        yield Case(
            {"deltas": 5 * large, "boxes": _quarters(rng, count), "weights": _inputs.different(rng)},
            "The four weights belong to the last axis: dx, dy, dw, dh. Every class is divided by them, then capped.",
        )
    for number, (kind, (count, _)) in enumerate(_inputs.box_kinds()):
        weights = {"weights": _inputs.different(rng)} if number % 2 else {}
        deltas = _deltas(rng, count) if number % 3 else _deltas(rng, count, 3)
        yield Case({"deltas": deltas.astype(kind.dtype), "boxes": kind.draw(rng, count), **weights}, kind.hint)
    for count in (2, 3, 4):
        yield Case(
            {"deltas": _deltas(rng, count), "boxes": _quarters(rng, count), "weights": _inputs.different(rng)},
            "The four weights belong to the four columns dx, dy, dw, dh. Every row is divided by them.",
        )
    yield Case(
        {"deltas": np.array([[-200, 100, 200, 300]], np.float32), "boxes": np.array([box], np.float32)},
        "exp(200) is infinite in float32. Apply the cap before exp.",
    )
    for dtype in (np.float64, np.float32):
        for count in (1, 2, 4, 30):
            yield Case(
                {"deltas": _deltas(rng, count).astype(dtype), "boxes": _quarters(rng, count).astype(dtype)},
                "These boxes and deltas are random. Write down the centre and the sides of the box, then the new "
                "centre and sides, and only then the new edges.",
            )


def _unlike(rng: np.random.Generator) -> list[float]:
    """Generate a random box (x, y, w, h), which consists of four different odd numbers."""
    numbers: list[float] = (2.0 * rng.choice(np.arange(2, 15), 4, replace=False) + 1).tolist()
    return numbers


def _drawn(rng: np.random.Generator, count: int) -> np.ndarray:
    """Draw boxes (count, 4) with coordinates from 0 to 100. Many of them overlap."""
    corner, sides = rng.uniform(0, 60, (count, 2)), rng.uniform(5, 40, (count, 2))
    return np.concatenate([corner, corner + sides], axis=1).round(1)


def _quarters(rng: np.random.Generator, count: int) -> np.ndarray:
    """Draw boxes (count, 4) like `_drawn`. Round them to quarters of a pixel, which float32 represents exactly."""
    return np.asarray((4 * _drawn(rng, count)).round() / 4)


def _deltas(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Draw deltas between -1 and 1, of shape (*shape, 4)."""
    return rng.uniform(-1, 1, (*shape, 4)).round(2)

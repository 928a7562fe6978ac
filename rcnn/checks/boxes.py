"""Checks of what is done to boxes: formats, IoU, deltas there and back."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from rcnn import boxes
from rcnn.checks._engine import Case, Function, run

FORMATS = ("xyxy", "xywh", "cxcywh")


def iou(function: Function, seed: int | None = None) -> None:
    """Nothing where `function(boxes1, boxes2)`, (N, 4) and (M, 4), gives the IoU of each with each, (N, M).

    Boxes that only touch have 0, and so have two boxes without area. Raises CheckFailed, which says what is wrong.
    """
    run("iou", function, boxes.iou, _iou_cases(np.random.default_rng(seed)), rows=(("boxes1",), ("boxes2",)))


def _iou_cases(rng: np.random.Generator) -> Iterator[Case]:
    def pair(first: list[float], second: list[float], hint: str) -> Case:
        return Case({"boxes1": np.array([first], float), "boxes2": np.array([second], float)}, hint)

    x, y, w, h = rng.integers(3, 30, 4).tolist()
    box = [x, y, x + w, y + h]
    yield pair(
        box,
        box,
        "a box and itself: both areas, the intersection and the union are the same number; a union "
        "counts what the two share once",
    )
    yield pair(
        box,
        [x + w / 2, y, x + 1.5 * w, y + h],
        "coordinates are continuous: a box from 3 to 8 is 5 wide, with "
        "nothing to add; and what the two share is in both areas, but only once in the union",
    )
    yield pair(
        box,
        [x + w / 4, y + h / 3, x + w / 2, y + h / 2],
        "the second box lies inside the first, so the "
        "intersection is all of it; its sides go from the larger of the left edges to the smaller of the right",
    )
    yield pair(
        box,
        [x + 2 * w, y, x + 3 * w, y + h],
        "these boxes are apart, and overlap by nothing: how wide is an "
        "intersection whose right edge is left of its left edge?",
    )
    yield pair(
        box,
        [x, y + 2 * h, x + w, y + 3 * h],
        "one of these boxes is above the other, and they overlap by "
        "nothing; look at the height of the intersection as well as at its width",
    )
    yield pair(
        box,
        [x + 2 * w, y + 2 * h, x + 3 * w, y + 3 * h],
        "these boxes are apart both ways: width and height "
        "are both negative, and their product is not; so each must be looked at before they are multiplied",
    )
    yield pair(box, [x + w, y, x + 2 * w, y + h], "boxes that share an edge touch, and share no area")
    yield pair(
        [x, y, x, y + h],
        [x, y, x, y + h],
        "boxes without area: the union is 0, and 0/0 is no number; here the IoU of nothing is 0",
    )
    yield pair([x, y, x, y], box, "a point has no area, and overlaps nothing")
    yield Case(
        {"boxes1": _drawn(rng, 2), "boxes2": _drawn(rng, 3)},
        "every box of the first with every box of the "
        "second: a row for each of the first, a column for each of the second",
    )
    yield Case(
        {"boxes1": np.zeros((0, 4)), "boxes2": _drawn(rng, 2)},
        "no boxes at all is an ordinary input: the answer has no rows, and a column for each of the others",
    )
    yield Case(
        {"boxes1": _drawn(rng, 2), "boxes2": np.zeros((0, 4))},
        "no boxes at all is an ordinary input: the answer has a row for each of the first, and no columns",
    )
    whole = np.array([[x, y, x + w, y + h]])
    yield Case(
        {"boxes1": whole, "boxes2": whole + [1, 0, 1, 0]},
        "whole numbers are numbers, too; a quotient of them is not whole",
    )
    for count in (1, 2, 4, 30):
        yield Case(
            {"boxes1": _drawn(rng, count), "boxes2": _drawn(rng, count + 1)},
            "boxes as they come: go through "
            "the overlap along x and the one along y, the two areas, and the union, for this pair by hand",
        )


def convert(function: Function, seed: int | None = None) -> None:
    """Nothing where `function(boxes, source, target)`, (N, 4) and two formats, gives the boxes in the other, (N, 4).

    Formats: "xyxy" two corners, "xywh" top left corner and sides, "cxcywh" centre and sides; a side is x2 - x1, with
    nothing added, and a centre need not be whole. Raises CheckFailed, which says what is wrong.
    """
    run("convert", function, boxes.convert, _convert_cases(np.random.default_rng(seed)), rows=(("boxes",),))


def _convert_cases(rng: np.random.Generator) -> Iterator[Case]:
    x, y, w, h = _unlike(rng)
    same = {"xyxy": [x, y, x + w, y + h], "xywh": [x, y, w, h], "cxcywh": [x + w / 2, y + h / 2, w, h]}

    def case(given: np.ndarray, source: str, target: str, hint: str) -> Case:
        return Case({"boxes": given, "source": source, "target": target}, hint)

    for source, target, hint in (
        (
            "xyxy",
            "xywh",
            "the corner stays, and the sides are what lies between the edges, first along x, then along "
            "y; coordinates are continuous: a box from 3 to 8 is 5 wide, with nothing to add",
        ),
        (
            "xywh",
            "xyxy",
            "the corner stays, and the other corner is one width to the right of it and one height below "
            "it, with nothing to take off",
        ),
        ("xyxy", "cxcywh", "the centre is halfway between the corners, which may be half a pixel"),
        ("cxcywh", "xyxy", "the centre has half of the width on either side of it, and half of the height"),
        ("xywh", "cxcywh", "from a corner to the centre it is half a side, along x and along y; the sides stay"),
        ("cxcywh", "xywh", "from the centre back to the corner it is half a side, along x and along y; the sides stay"),
    ):
        yield case(np.array([same[source]], float), source, target, hint)
    for name in FORMATS:
        yield case(
            np.array([same[name]], float),
            name,
            name,
            "source and target are the same format, so nothing has to be done, but there is an answer all the same",
        )
    for target in FORMATS[1:]:
        yield case(_drawn(rng, 3), "xyxy", target, "a row for each box, and each from its own four numbers")
    yield case(np.zeros((0, 4)), "xyxy", "cxcywh", "no boxes at all is an ordinary input: the answer has no rows")
    yield case(
        np.array([[x, y, x, y]], float), "xyxy", "cxcywh", "a point is a box with sides of 0, and is its own centre"
    )
    yield case(
        np.array([[-x, -y, w, h]], float),
        "xyxy",
        "xywh",
        "a box may begin left of the image or above it; coordinates below 0 are numbers like the others",
    )
    for source, target in (("xyxy", "cxcywh"), ("xywh", "cxcywh")):
        yield case(
            np.array([same[source]]).astype(np.int64),
            source,
            target,
            "whole numbers are numbers, too; half of one need not be whole",
        )
    for count in (1, 2, 4, 30):
        given = _drawn(rng, count)
        for source in FORMATS:
            for target in FORMATS:
                yield case(
                    boxes.convert(given, "xyxy", source).astype(np.float32),
                    source,
                    target,
                    "boxes as they "
                    "come: say by hand where the corner of this one is, how wide and how high it is, and then "
                    "where its centre is",
                )


def encode(function: Function, seed: int | None = None) -> None:
    """Nothing where `function(gt_boxes, boxes, weights=(1, 1, 1, 1))`, (N, 4) twice, gives the deltas, (N, 4).

    The deltas dx, dy, dw, dh lead from boxes[i] to gt_boxes[i]: the shift of the centre in widths and heights of
    boxes[i], and the natural logarithm of how much wider and higher it becomes, each multiplied by its weight, without
    a limit. All boxes have sides above 0. The numbers themselves are compared, for an encoder and a decoder may be
    wrong in the same way. Raises CheckFailed, which says what is wrong.
    """
    run("encode", function, boxes.encode, _encode_cases(np.random.default_rng(seed)), rows=(("gt_boxes", "boxes"),))


def _encode_cases(rng: np.random.Generator) -> Iterator[Case]:
    x, y, w, h = _unlike(rng)

    def case(centre: tuple[float, float], sides: tuple[float, float], hint: str, *weights: float) -> Case:
        """A box of sides w and h to one whose centre lies so many w and h further, and whose sides are so long."""
        dx, dy, gt_w, gt_h = centre[0] * w, centre[1] * h, *sides
        middle = [x + w / 2 + dx, y + h / 2 + dy]
        gt_box = [middle[0] - gt_w / 2, middle[1] - gt_h / 2, middle[0] + gt_w / 2, middle[1] + gt_h / 2]
        arguments = {"gt_boxes": np.array([gt_box]), "boxes": np.array([[x, y, x + w, y + h]])}
        return Case({**arguments, "weights": weights} if weights else arguments, hint)

    yield case((0, 0), (w, h), "this box is where it should be already: no shift, and the logarithm of 1 is 0")
    yield case(
        (0.5, 0),
        (w, h),
        "deltas lead from `boxes` to `gt_boxes`, and say a shift in widths of the box: to the "
        "right by half of its width is 0.5, however many pixels that is (a box from 3 to 8 is 5 wide)",
    )
    yield case(
        (0, -0.25),
        (w, h),
        "a shift along y is said in heights of the box, upwards is negative, and it comes second: dx, dy, dw, dh",
    )
    yield case(
        (0, 0),
        (2 * w, h),
        "the two boxes have the same centre, so dx and dy are 0, whatever their corners do; "
        "and a side that doubles has the natural logarithm of 2",
    )
    yield case(
        (0, 0),
        (w, h / 2),
        "height and width change each for itself, and dh comes last; half as high is the "
        "natural logarithm of a half, as far below 0 as twice as high is above",
    )
    yield case(
        (0.5, 0.25),
        (4 * w, 2 * h),
        "the box moves and grows: a shift is said in sides of the box one starts "
        "from, for when it is decoded, the other is not known yet",
    )
    yield case(
        (0.25, -0.5),
        (100 * w, h),
        "a box may have to grow a hundredfold: a limit is for what a network says, "
        "when it is decoded; what it should have said has none",
    )
    order = rng.permutation([2.0, 4.0, 5.0, 10.0]).tolist()
    yield case(
        (0.5, -0.25),
        (2 * w, h / 2),
        "each of dx, dy, dw, dh is multiplied by a weight of its own, in this order, after the logarithm",
        *order,
    )
    yield case(
        (-0.5, 0.25),
        (w / 2, 2 * h),
        "the second stage multiplies its deltas by 10, 10, 5, 5, so that they are about as large as its other numbers",
        10.0,
        10.0,
        5.0,
        5.0,
    )
    yield Case(
        {"gt_boxes": _quarters(rng, 3), "boxes": _quarters(rng, 3)},
        "a row for each pair: the first of one with the first of the other, and so on",
    )
    yield Case(
        {"gt_boxes": np.zeros((0, 4)), "boxes": np.zeros((0, 4))},
        "no boxes at all is an ordinary input: the answer has no rows",
    )
    yield Case(
        {
            "gt_boxes": np.array([[x, y, x + 2 * w, y + h]]).astype(np.int64),
            "boxes": np.array([[x, y, x + w, y + h]]).astype(np.int64),
        },
        "whole numbers are numbers, too; deltas of them are not whole",
    )
    for dtype in (np.float64, np.float32):
        for count in (1, 2, 4, 30):
            yield Case(
                {"gt_boxes": _quarters(rng, count).astype(dtype), "boxes": _quarters(rng, count).astype(dtype)},
                "boxes as they come: write down centre and sides of both, and go through the four deltas by hand",
            )


def decode(function: Function, seed: int | None = None) -> None:
    """Nothing where `function(deltas, boxes, weights=(1, 1, 1, 1))` gives the boxes that the deltas make of `boxes`.

    `boxes` are (N, 4), `deltas` (N, 4), or (N, L, 4) for L boxes made of each; the answer has the shape of `deltas`. It
    undoes `encode`: deltas are divided by their weights; then dw and dh, and only they, are capped at log(1000/16).
    Boxes may leave the image. Raises CheckFailed, which says what is wrong.
    """
    run("decode", function, boxes.decode, _decode_cases(np.random.default_rng(seed)), rows=(("deltas", "boxes"),))


def _decode_cases(rng: np.random.Generator) -> Iterator[Case]:
    x, y, w, h = _unlike(rng)
    x, y = x + 30, y + 30  # so that only one case leaves the image
    box = [x, y, x + w, y + h]

    def case(deltas: list[float], hint: str, *weights: float) -> Case:
        arguments = {"deltas": np.array([deltas], float), "boxes": np.array([box])}
        return Case({**arguments, "weights": weights} if weights else arguments, hint)

    yield case(
        [0, 0, 0, 0],
        "deltas of 0 leave the box as it is: what is the factor whose logarithm is 0? From the "
        "centre it is half a side to each edge, with nothing to add (a box from 3 to 8 is 5 wide)",
    )
    yield case(
        [0.5, 0, 0, 0], "a shift is said in widths of the box: 0.5 moves both edges to the right by half of its width"
    )
    yield case(
        [0, -0.25, 0, 0],
        "a shift along y is said in heights of the box, negative is upwards, and it comes second: dx, dy, dw, dh",
    )
    yield case(
        [0, 0, float(np.log(2)), 0],
        "dw is the natural logarithm of how much wider the box becomes, and it "
        "grows to both sides of a centre that stays",
    )
    yield case(
        [0, 0, 0, -float(np.log(2))],
        "dh is the natural logarithm of how much higher the box becomes, and "
        "below 0 it becomes lower, around a centre that stays",
    )
    yield case(
        [0.5, 0.25, 0.75, -0.5],
        "the box moves and changes its sides: the shift is said in the sides that it had before",
    )
    yield case([-9, -9, 0.5, 0.5], "a box may leave the image, and a shift has no limit; clipping is another step")
    order = rng.permutation([2.0, 4.0, 5.0, 10.0]).tolist()
    yield case(
        [3, -2, 2.5, -1.5],
        "encoding has multiplied each delta by a weight of its own; that is undone first, before exp",
        *order,
    )
    yield case([0, 0, 4.1, 4.05], "a cap at log(1000/16), about 4.135, leaves alone what is below it")
    yield case([0, 0, -6, -8], "the cap is one from above: a side may become as small as it likes")
    yield case([0.5, 0.5, 5, 0], "dw is capped at log(1000/16), so that no side grows more than 62.5 times")
    yield case([0.5, 0.5, 0, 6], "dh is capped at log(1000/16) as dw is, so that no side grows more than 62.5 times")
    yield case([5, -7, 5, 5], "dw and dh are capped at log(1000/16), dx and dy are not")
    yield case(
        [0, 0, 12, 30],
        "the cap is on what exp is taken of, so the weights come first: 12 may be 2.4 by then, "
        "which is not capped, and 30 is 6, which is",
        10.0,
        10.0,
        5.0,
        5.0,
    )
    yield case(
        [0, 0, 1000, 0],
        "a network that is still learning may say 1000: exp of it is no number any more, so the cap comes before",
    )
    yield Case(
        {"deltas": _deltas(rng, 3), "boxes": _quarters(rng, 3)}, "a row for each box, and each by its own deltas"
    )
    yield Case(
        {"deltas": np.zeros((0, 4)), "boxes": np.zeros((0, 4))},
        "no boxes at all is an ordinary input: the answer has no rows",
    )
    yield Case(
        {"deltas": np.array([[1, -1, 1, 0]]), "boxes": np.array([box]).astype(np.int64)},
        "whole numbers are numbers, too; what exp makes of them is not whole",
    )
    for count, classes in ((1, 2), (2, 3), (4, 4)):
        yield Case(
            {"deltas": _deltas(rng, count, classes), "boxes": _quarters(rng, count)},
            "deltas (N, L, 4) are L "
            "rows of deltas, one for each class, for each of the N boxes: every one starts from the same box",
        )
    yield Case(
        {"deltas": np.zeros((0, 3, 4)), "boxes": np.zeros((0, 4))},
        "no boxes at all is an ordinary input, for several classes as well",
    )
    for dtype in (np.float64, np.float32):
        for count in (1, 2, 4, 30):
            yield Case(
                {"deltas": _deltas(rng, count).astype(dtype), "boxes": _quarters(rng, count).astype(dtype)},
                "boxes and deltas as they come: write down the box's centre and sides, then the new ones, and "
                "only then the edges",
            )


def _unlike(rng: np.random.Generator) -> list[float]:
    """A corner and two sides, x, y, w, h: four odd numbers, none of which is another."""
    numbers: list[float] = (2.0 * rng.choice(np.arange(2, 15), 4, replace=False) + 1).tolist()
    return numbers


def _drawn(rng: np.random.Generator, count: int) -> np.ndarray:
    """Boxes (count, 4) on a page of 100 pixels, many of which overlap."""
    corner, sides = rng.uniform(0, 60, (count, 2)), rng.uniform(5, 40, (count, 2))
    return np.concatenate([corner, corner + sides], axis=1).round(1)


def _quarters(rng: np.random.Generator, count: int) -> np.ndarray:
    """Boxes (count, 4) as `_drawn`, on quarters of a pixel, which float32 holds exactly."""
    return np.asarray((4 * _drawn(rng, count)).round() / 4)


def _deltas(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Deltas (*shape, 4) between -1 and 1."""
    return rng.uniform(-1, 1, (*shape, 4)).round(2)

"""Checks of box functions: formats, IoU, encoding and decoding of deltas."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from rcnn import boxes
from rcnn._ext.dispatch import original
from rcnn.checks._engine import Case, Function, run

FORMATS = ("xyxy", "xywh", "cxcywh")


@original
def iou(function: Function, seed: int | None = None) -> None:
    """Raise CheckFailed unless `function` returns the IoU of every pair of boxes.

    Parameters
    ----------
    function : callable
        ``function(boxes1, boxes2)``. Takes (N, 4) and (M, 4) boxes in pixels and returns their IoUs, (N, M). The IoU is
        0 for boxes that only touch, and for two boxes without area.
    seed : int, optional
        Seed for the random inputs. Without it, every call uses new inputs.

    Raises
    ------
    CheckFailed
        If any answer is wrong. The message shows the smallest failing input found and a hint.
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
    run("iou", function, boxes.iou, _iou_cases(np.random.default_rng(seed)), rows=(("boxes1",), ("boxes2",)))


def _iou_cases(rng: np.random.Generator) -> Iterator[Case]:
    def pair(first: list[float], second: list[float], hint: str) -> Case:
        return Case({"boxes1": np.array([first], float), "boxes2": np.array([second], float)}, hint)

    x, y, w, h = rng.integers(3, 30, 4).tolist()
    box = [x, y, x + w, y + h]
    yield pair(
        box,
        box,
        "A box and itself: both areas, the intersection and the union are the same number. A union counts the shared "
        "part once.",
    )
    yield pair(
        box,
        [x + w / 2, y, x + 1.5 * w, y + h],
        "Coordinates are continuous: a box from 3 to 8 is 5 wide, with nothing to add. The shared part lies in both "
        "areas, but counts only once in the union.",
    )
    yield pair(
        box,
        [x + w / 4, y + h / 3, x + w / 2, y + h / 2],
        "The second box lies inside the first, so the intersection is the whole second box. It goes from the larger "
        "of the left edges to the smaller of the right edges.",
    )
    yield pair(
        box,
        [x + 2 * w, y, x + 3 * w, y + h],
        "These boxes are apart, and overlap by nothing. How wide is an intersection whose right edge is left of its "
        "left edge?",
    )
    yield pair(
        box,
        [x, y + 2 * h, x + w, y + 3 * h],
        "One of these boxes is above the other, and they overlap by nothing. Look at the height of the intersection "
        "as well as at its width.",
    )
    yield pair(
        box,
        [x + 2 * w, y + 2 * h, x + 3 * w, y + 3 * h],
        "These boxes are apart both ways: width and height are both negative, but their product is positive. Look at "
        "each side before you multiply.",
    )
    yield pair(box, [x + w, y, x + 2 * w, y + h], "Boxes that share an edge touch, and share no area.")
    yield pair(
        [x, y, x, y + h],
        [x, y, x, y + h],
        "These boxes have no area: the union is 0, and 0/0 is NaN. The IoU is defined as 0 here.",
    )
    yield pair([x, y, x, y], box, "A point has no area, and overlaps nothing.")
    yield Case(
        {"boxes1": _drawn(rng, 2), "boxes2": _drawn(rng, 3)},
        "Pair every box of the first array with every box of the second: a row for each of the first, a column for "
        "each of the second.",
    )
    yield Case(
        {"boxes1": np.zeros((0, 4)), "boxes2": _drawn(rng, 2)},
        "Zero boxes are valid input: the answer has no rows, and a column for each box of the other array.",
    )
    yield Case(
        {"boxes1": _drawn(rng, 2), "boxes2": np.zeros((0, 4))},
        "Zero boxes are valid input: the answer has a row for each of the first, and no columns.",
    )
    whole = np.array([[x, y, x + w, y + h]])
    yield Case(
        {"boxes1": whole, "boxes2": whole + [1, 0, 1, 0]},
        "Integers are valid input, but a quotient of them is not an integer.",
    )
    for count in (1, 2, 4, 30):
        yield Case(
            {"boxes1": _drawn(rng, count), "boxes2": _drawn(rng, count + 1)},
            "These boxes are random. Work this pair out by hand: the overlap along x, the overlap along y, the two "
            "areas, and the union.",
        )


@original
def convert(function: Function, seed: int | None = None) -> None:
    """Raise CheckFailed unless `function` converts boxes between formats.

    Parameters
    ----------
    function : callable
        ``function(boxes, source, target)``. Takes (N, 4) boxes and two formats, and returns the boxes in the second
        format, (N, 4). Formats: "xyxy" two corners, "xywh" top left corner and sides, "cxcywh" centre and sides. A side
        is x2 - x1, with nothing added. A centre need not be a whole number.
    seed : int, optional
        Seed for the random inputs. Without it, every call uses new inputs.

    Raises
    ------
    CheckFailed
        If any answer is wrong. The message shows the smallest failing input found and a hint.
    TypeError
        If `function` is not callable.
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
            "The corner stays. The sides are the distances between the edges, first along x, then along y. "
            "Coordinates are continuous: a box from 3 to 8 is 5 wide, with nothing to add.",
        ),
        (
            "xywh",
            "xyxy",
            "The corner stays. The other corner is one width to the right and one height below, with nothing to "
            "subtract.",
        ),
        ("xyxy", "cxcywh", "The centre is halfway between the corners, which may be at half a pixel."),
        ("cxcywh", "xyxy", "The box reaches half of the width to either side of the centre, and half of the height."),
        ("xywh", "cxcywh", "From a corner to the centre it is half a side, along x and along y. The sides stay."),
        (
            "cxcywh",
            "xywh",
            "From the centre back to the corner it is half a side, along x and along y. The sides stay.",
        ),
    ):
        yield case(np.array([same[source]], float), source, target, hint)
    for name in FORMATS:
        yield case(
            np.array([same[name]], float),
            name,
            name,
            "Source and target are the same format, so nothing changes, but the boxes must still be returned.",
        )
    for target in FORMATS[1:]:
        yield case(
            _drawn(rng, 3), "xyxy", target, "The answer has a row for each box, computed from its own four numbers."
        )
    yield case(np.zeros((0, 4)), "xyxy", "cxcywh", "Zero boxes are valid input: the answer has no rows.")
    yield case(
        np.array([[x, y, x, y]], float), "xyxy", "cxcywh", "A point is a box with sides of 0, and is its own centre."
    )
    yield case(
        np.array([[-x, -y, w, h]], float),
        "xyxy",
        "xywh",
        "A box may begin left of the image or above it, so coordinates below 0 are valid.",
    )
    for source, target in (("xyxy", "cxcywh"), ("xywh", "cxcywh")):
        yield case(
            np.array([same[source]]).astype(np.int64),
            source,
            target,
            "Integers are valid input, but half of one need not be an integer.",
        )
    for count in (1, 2, 4, 30):
        given = _drawn(rng, count)
        for source in FORMATS:
            for target in FORMATS:
                yield case(
                    boxes.convert(given, "xyxy", source).astype(np.float32),
                    source,
                    target,
                    "These boxes are random. Work out by hand the corner of this one, its width and height, and then "
                    "its centre.",
                )


@original
def encode(function: Function, seed: int | None = None) -> None:
    """Raise CheckFailed unless `function` returns the deltas from boxes to ground truth.

    Parameters
    ----------
    function : callable
        ``function(gt_boxes, boxes, weights=(1, 1, 1, 1))``. Takes (N, 4) ground truth and (N, 4) boxes, both with sides
        above 0, and returns the deltas dx, dy, dw, dh that lead from boxes[i] to gt_boxes[i], (N, 4). dx and dy are the
        shift of the centre in widths and heights of boxes[i]; dw and dh are the natural logarithms of the ratios of the
        sides. Each is multiplied by its weight, and has no limit.
    seed : int, optional
        Seed for the random inputs. Without it, every call uses new inputs.

    Raises
    ------
    CheckFailed
        If any answer is wrong. The message shows the smallest failing input found and a hint.
    TypeError
        If `function` is not callable.

    Notes
    -----
    The deltas themselves are compared, because an encoder and a decoder may have the same mistake.

    References
    ----------
    Girshick et al., "Rich feature hierarchies for accurate object detection", 2014, appendix C.
    """
    run("encode", function, boxes.encode, _encode_cases(np.random.default_rng(seed)), rows=(("gt_boxes", "boxes"),))


def _encode_cases(rng: np.random.Generator) -> Iterator[Case]:
    x, y, w, h = _unlike(rng)

    def case(centre: tuple[float, float], sides: tuple[float, float], hint: str, *weights: float) -> Case:
        """Return a case: the ground truth has its centre `centre` (in w and h) away from the box's, and these sides."""
        dx, dy, gt_w, gt_h = centre[0] * w, centre[1] * h, *sides
        middle = [x + w / 2 + dx, y + h / 2 + dy]
        gt_box = [middle[0] - gt_w / 2, middle[1] - gt_h / 2, middle[0] + gt_w / 2, middle[1] + gt_h / 2]
        arguments = {"gt_boxes": np.array([gt_box]), "boxes": np.array([[x, y, x + w, y + h]])}
        return Case({**arguments, "weights": weights} if weights else arguments, hint)

    yield case((0, 0), (w, h), "This box already fits: there is no shift, and the logarithm of 1 is 0.")
    yield case(
        (0.5, 0),
        (w, h),
        "Deltas lead from `boxes` to `gt_boxes`, and measure a shift in widths of the box. A shift to the right by "
        "half of the width is 0.5, however many pixels that is (a box from 3 to 8 is 5 wide).",
    )
    yield case(
        (0, -0.25),
        (w, h),
        "A shift along y is measured in heights of the box. Upwards is negative. The order is dx, dy, dw, dh.",
    )
    yield case(
        (0, 0),
        (2 * w, h),
        "The two boxes have the same centre, so dx and dy are 0, wherever their corners are. A side that doubles has "
        "the natural logarithm of 2.",
    )
    yield case(
        (0, 0),
        (w, h / 2),
        "Height and width change independently, and dh comes last. Half the height is the natural logarithm of a "
        "half: as far below 0 as the logarithm of 2 is above.",
    )
    yield case(
        (0.5, 0.25),
        (4 * w, 2 * h),
        "The box moves and grows. A shift is measured in sides of `boxes`, because the other box is unknown when "
        "deltas are decoded.",
    )
    yield case(
        (0.25, -0.5),
        (100 * w, h),
        "A box may have to grow a hundredfold. Decoding limits the deltas that a network predicts; the encoded target "
        "has no limit.",
    )
    order = rng.permutation([2.0, 4.0, 5.0, 10.0]).tolist()
    yield case(
        (0.5, -0.25),
        (2 * w, h / 2),
        "Each of dx, dy, dw, dh is multiplied by its own weight, in this order, after the logarithm.",
        *order,
    )
    yield case(
        (-0.5, 0.25),
        (w / 2, 2 * h),
        "The second stage multiplies its deltas by 10, 10, 5, 5, so that targets are scaled to roughly unit standard "
        "deviation.",
        10.0,
        10.0,
        5.0,
        5.0,
    )
    yield Case(
        {"gt_boxes": _quarters(rng, 3), "boxes": _quarters(rng, 3)},
        "The answer has a row for each pair: the first of one array with the first of the other, and so on.",
    )
    yield Case(
        {"gt_boxes": np.zeros((0, 4)), "boxes": np.zeros((0, 4))},
        "Zero boxes are valid input: the answer has no rows.",
    )
    yield Case(
        {
            "gt_boxes": np.array([[x, y, x + 2 * w, y + h]]).astype(np.int64),
            "boxes": np.array([[x, y, x + w, y + h]]).astype(np.int64),
        },
        "Integers are valid input, but deltas of them are not integers.",
    )
    for dtype in (np.float64, np.float32):
        for count in (1, 2, 4, 30):
            yield Case(
                {"gt_boxes": _quarters(rng, count).astype(dtype), "boxes": _quarters(rng, count).astype(dtype)},
                "These boxes are random. Write down the centre and sides of both, and work out the four deltas by "
                "hand.",
            )


@original
def decode(function: Function, seed: int | None = None) -> None:
    """Raise CheckFailed unless `function` applies deltas to boxes.

    Parameters
    ----------
    function : callable
        ``function(deltas, boxes, weights=(1, 1, 1, 1))``. Takes deltas (N, 4), or (N, L, 4) for L boxes from each, and
        boxes (N, 4). Returns boxes in the shape of `deltas`. It undoes `encode`: deltas are divided by their weights,
        then dw and dh (and only they) are capped at log(1000/16). Boxes may leave the image.
    seed : int, optional
        Seed for the random inputs. Without it, every call uses new inputs.

    Raises
    ------
    CheckFailed
        If any answer is wrong. The message shows the smallest failing input found and a hint.
    TypeError
        If `function` is not callable.

    References
    ----------
    Girshick et al., "Rich feature hierarchies for accurate object detection", 2014, appendix C.
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
        "Deltas of 0 leave the box unchanged: which factor has the logarithm 0? From the centre it is half a side to "
        "each edge, with nothing to add (a box from 3 to 8 is 5 wide).",
    )
    yield case(
        [0.5, 0, 0, 0],
        "A shift is measured in widths of the box: 0.5 moves both edges to the right by half of its width.",
    )
    yield case(
        [0, -0.25, 0, 0],
        "A shift along y is measured in heights of the box. Negative is upwards. The order is dx, dy, dw, dh.",
    )
    yield case(
        [0, 0, float(np.log(2)), 0],
        "dw is the natural logarithm of the new width over the old. The box grows to both sides of a centre that "
        "stays.",
    )
    yield case(
        [0, 0, 0, -float(np.log(2))],
        "dh is the natural logarithm of the new height over the old. Below 0 the box becomes lower, around a centre "
        "that stays.",
    )
    yield case(
        [0.5, 0.25, 0.75, -0.5],
        "The box moves and changes its sides. The shift is measured in the old sides.",
    )
    yield case([-9, -9, 0.5, 0.5], "A box may leave the image, and a shift has no limit. Clipping is a separate step.")
    order = rng.permutation([2.0, 4.0, 5.0, 10.0]).tolist()
    yield case(
        [3, -2, 2.5, -1.5],
        "Encoding multiplied each delta by its own weight. Undo that first, before exp.",
        *order,
    )
    yield case([0, 0, 4.1, 4.05], "A cap at log(1000/16), about 4.135, does not change deltas below it.")
    yield case([0, 0, -6, -8], "The cap is an upper limit: a side may become as small as it likes.")
    yield case([0.5, 0.5, 5, 0], "dw is capped at log(1000/16), so that no side grows more than 62.5 times.")
    yield case([0.5, 0.5, 0, 6], "dh is capped at log(1000/16) as dw is, so that no side grows more than 62.5 times.")
    yield case([5, -7, 5, 5], "dw and dh are capped at log(1000/16), dx and dy are not.")
    yield case(
        [0, 0, 12, 30],
        "The cap applies to the argument of exp, so the weights come first: 12 becomes 2.4 here, which is below the "
        "cap, and 30 becomes 6, which is above.",
        10.0,
        10.0,
        5.0,
        5.0,
    )
    yield case(
        [0, 0, 1000, 0],
        "An untrained network may predict 1000, and exp(1000) is infinite. So the cap comes first.",
    )
    yield Case(
        {"deltas": _deltas(rng, 3), "boxes": _quarters(rng, 3)},
        "The answer has a row for each box, moved by its own deltas.",
    )
    yield Case(
        {"deltas": np.zeros((0, 4)), "boxes": np.zeros((0, 4))},
        "Zero boxes are valid input: the answer has no rows.",
    )
    yield Case(
        {"deltas": np.array([[1, -1, 1, 0]]), "boxes": np.array([box]).astype(np.int64)},
        "Integers are valid input, but exp of them is not an integer.",
    )
    for count, classes in ((1, 2), (2, 3), (4, 4)):
        yield Case(
            {"deltas": _deltas(rng, count, classes), "boxes": _quarters(rng, count)},
            "Deltas (N, L, 4) hold L rows for each of the N boxes, one for each class. All L start from the same box.",
        )
    yield Case(
        {"deltas": np.zeros((0, 3, 4)), "boxes": np.zeros((0, 4))},
        "Zero boxes are valid input, for several classes as well.",
    )
    for dtype in (np.float64, np.float32):
        for count in (1, 2, 4, 30):
            yield Case(
                {"deltas": _deltas(rng, count).astype(dtype), "boxes": _quarters(rng, count).astype(dtype)},
                "These boxes and deltas are random. Write down the box's centre and sides, then the new ones, and "
                "only then the edges.",
            )


def _unlike(rng: np.random.Generator) -> list[float]:
    """Draw a corner and two sides, x, y, w, h: four different odd numbers."""
    numbers: list[float] = (2.0 * rng.choice(np.arange(2, 15), 4, replace=False) + 1).tolist()
    return numbers


def _drawn(rng: np.random.Generator, count: int) -> np.ndarray:
    """Draw boxes (count, 4) within 100 pixels, many of which overlap."""
    corner, sides = rng.uniform(0, 60, (count, 2)), rng.uniform(5, 40, (count, 2))
    return np.concatenate([corner, corner + sides], axis=1).round(1)


def _quarters(rng: np.random.Generator, count: int) -> np.ndarray:
    """Draw boxes (count, 4) as `_drawn`, in quarters of a pixel, which float32 represents exactly."""
    return np.asarray((4 * _drawn(rng, count)).round() / 4)


def _deltas(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Draw deltas (*shape, 4) between -1 and 1."""
    return rng.uniform(-1, 1, (*shape, 4)).round(2)

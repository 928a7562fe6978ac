"""Answers to `checks.convert`."""

import numpy as np

from mutants import answer


def vectorised(boxes, source, target):
    boxes = np.asarray(boxes, float)
    first, second = boxes[:, :2], boxes[:, 2:]
    corner = first - second / 2 if source == "cxcywh" else first
    sides = second - first if source == "xyxy" else second
    return np.hstack(
        [corner + sides / 2 if target == "cxcywh" else corner, corner + sides if target == "xyxy" else sides]
    )


def by_loops(boxes, source, target):
    return [_to(target, *_from(source, *box)) for box in boxes]


def column_by_column(boxes, source, target):
    out = np.empty((len(boxes), 4), np.float32)
    for row, box in enumerate(boxes):
        x, y, w, h = _from(source, *map(float, box))
        out[row] = _to(target, x, y, w, h)
    return out


def _from(source, a, b, c, d):
    """Return corner and sides of one box."""
    if source == "xyxy":
        return a, b, c - a, d - b
    if source == "xywh":
        return a, b, c, d
    return a - c / 2, b - d / 2, c, d


def _to(target, x, y, w, h):
    if target == "xyxy":
        return [x, y, x + w, y + h]
    if target == "xywh":
        return [x, y, w, h]
    return [x + w / 2, y + h / 2, w, h]


def _as_array(rows):
    return np.array(rows, float).reshape(-1, 4)


def plus_one(boxes, source, target):
    out = []
    for box in boxes:
        x, y, w, h = _from(source, *box)
        out.append(
            _to(target, x, y, w + (source == "xyxy") - (target == "xyxy"), h + (source == "xyxy") - (target == "xyxy"))
        )
    return _as_array(out)


def minus_one_at_the_far_corner(boxes, source, target):
    out = vectorised(boxes, source, target)
    if target == "xyxy" != source:
        out[:, 2:] -= 1
    return out


def height_before_width(boxes, source, target):
    out = vectorised(boxes, source, target)
    return out[:, [0, 1, 3, 2]] if target != "xyxy" else out


def axes_mixed(boxes, source, target):
    out = []
    for box in boxes:
        x, y, w, h = _from(source, *box)
        out.append([x, y, x + h, y + w] if target == "xyxy" else _to(target, x, y, w, h))
    return _as_array(out)


def centre_is_half_the_side(boxes, source, target):
    out = vectorised(boxes, source, target)
    if target == "cxcywh" != source:
        out[:, :2] = out[:, 2:] / 2
    return out


def centre_on_whole_pixels(boxes, source, target):
    out = vectorised(boxes, source, target)
    if target == "cxcywh" != source:
        out[:, :2] = np.floor(out[:, :2])
    return out


def whole_side_around_the_centre(boxes, source, target):
    if source == "cxcywh" and target == "xyxy":
        boxes = np.asarray(boxes, float)
        return np.hstack([boxes[:, :2] - boxes[:, 2:], boxes[:, :2] + boxes[:, 2:]])
    return vectorised(boxes, source, target)


def corner_taken_for_the_centre(boxes, source, target):
    return vectorised(boxes, "xywh" if source == "cxcywh" else source, target)


def corners_on_the_way_only_for_xyxy(boxes, source, target):
    if {source, target} == {"xywh", "cxcywh"}:
        return np.array(boxes, float)
    return vectorised(boxes, source, target)


def centre_shifted_the_wrong_way(boxes, source, target):
    if source == "cxcywh" and target == "xywh":
        return vectorised(boxes, "xywh", "cxcywh")
    return vectorised(boxes, source, target)


def source_and_target_mixed_up(boxes, source, target):
    return vectorised(boxes, target, source)


def no_answer_for_the_same_format(boxes, source, target):
    if source == target:
        raise ValueError("nothing to do")
    return vectorised(boxes, source, target)


def every_row_from_the_first(boxes, source, target):
    out = vectorised(boxes, source, target)
    if target != "xyxy" and len(out):
        out[:, 2:] = out[0, 2:]
    return out


def fails_without_boxes(boxes, source, target):
    return np.stack([_to(target, *_from(source, *box)) for box in boxes])


def nothing_below_zero(boxes, source, target):
    return np.maximum(vectorised(boxes, source, target), 0)


def whole_numbers(boxes, source, target):
    out = np.zeros_like(boxes)
    out[:] = vectorised(boxes, source, target)
    return out


def in_place(boxes, source, target):
    boxes[:] = vectorised(boxes, source, target)
    return boxes


def forgets_to_return(boxes, source, target):
    vectorised(boxes, source, target)


def _whole_halves(boxes, source, target):
    boxes = np.asarray(boxes)
    if source != "cxcywh" or boxes.dtype.kind != "i":
        return vectorised(boxes, source, target)
    corners = np.concatenate(
        [boxes[:, :2] - boxes[:, 2:] // 2, boxes[:, :2] - boxes[:, 2:] // 2 + boxes[:, 2:]], axis=1
    )
    return vectorised(corners, "xyxy", target)


def _sides_at_least(boxes, source, target, least):
    given = vectorised(boxes, source, "xywh")
    given[:, 2:] = np.maximum(given[:, 2:], least)
    return vectorised(given, "xywh", target)


def _first_sides(boxes, source, target):
    given = vectorised(boxes, source, "xywh")
    given[:, 2:] = given[:1, 2:]
    return vectorised(given, "xywh", target)


RIGHT = (vectorised, by_loops, column_by_column)
WRONG = (
    (plus_one, "wide, so do not add"),
    (minus_one_at_the_far_corner, "one width to the right"),
    (height_before_width, "The width is the distance"),
    (axes_mixed, "one width to the right"),
    (centre_is_half_the_side, "halfway between the corners"),
    (centre_on_whole_pixels, "half a pixel"),
    (whole_side_around_the_centre, "width to the left and to the"),
    (corner_taken_for_the_centre, "width to the left and to the"),
    (corners_on_the_way_only_for_xyxy, "to the right of the corner"),
    (centre_shifted_the_wrong_way, "to the left of the centre"),
    (source_and_target_mixed_up, "The width is the distance between the"),
    (no_answer_for_the_same_format, "The function must still return"),
    (every_row_from_the_first, "it from the four numbers"),
    (fails_without_boxes, "Zero boxes"),
    (nothing_below_zero, "above it, so negative coordinates"),
    (whole_numbers, "half of an integer need not be"),
    (in_place, "changes its argument 'boxes'"),
    (forgets_to_return, "without `return`"),
)
WRONG += (  # each with the description of a misconception
    answer("corners are clipped at 0", lambda b, s, t: np.maximum(vectorised(b, s, t), 0)),
    answer("corners are clipped at 0 before converting", lambda b, s, t: vectorised(np.maximum(b, 0), s, t)),
    answer("whole numbers stay whole from a centre back", lambda b, s, t: _whole_halves(b, s, t)),
    answer("a side is 1 at least", lambda b, s, t: _sides_at_least(b, s, t, 1)),
    answer(
        "a centre is rounded to a pixel",
        lambda b, s, t: np.round(vectorised(b, s, t)) if t == "cxcywh" else vectorised(b, s, t),
    ),
    answer("sides are absolute values, so a corner on the left is lost", lambda b, s, t: np.abs(vectorised(b, s, t))),
    answer("rounded to one digit", lambda b, s, t: vectorised(b, s, t).round(1)),
    answer(
        "from cxcywh to xywh by way of nothing",
        lambda b, s, t: np.asarray(b, float) if (s, t) == ("cxcywh", "xywh") else vectorised(b, s, t),
    ),
    answer(
        "only the first row is converted",
        lambda b, s, t: np.concatenate([vectorised(b[:1], s, t), np.asarray(b, float)[1:]]),
    ),
    answer("all rows have the sides of the first", lambda b, s, t: _first_sides(b, s, t)),
    answer("in half precision", lambda b, s, t: vectorised(b, s, t).astype(np.float16)),
    answer("transposed", lambda b, s, t: vectorised(b, s, t).T),
    answer(
        "a single box is returned as four numbers",
        lambda b, s, t: vectorised(b, s, t)[0] if len(b) == 1 else vectorised(b, s, t),
    ),
    answer("no boxes give an array of shape (0,)", lambda b, s, t: vectorised(b, s, t) if len(b) else np.zeros(0)),
    answer("an array of objects", lambda b, s, t: vectorised(b, s, t).astype(object)),
    answer("a dict", lambda b, s, t: dict(enumerate(vectorised(b, s, t)))),
)

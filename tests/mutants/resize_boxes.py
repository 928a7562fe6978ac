"""Answers to `checks.resize_boxes`."""

import math

import numpy as np

from mutants import answer


def by_ratios(boxes, size, min_size, max_size):
    scale = min(min_size / min(size), max_size / max(size))
    height, width = int(size[0] * scale), int(size[1] * scale)
    y, x = height / size[0], width / size[1]
    return np.asarray(boxes, float).reshape(-1, 4) * [x, y, x, y], (height, width)


def by_loops(boxes, size, min_size, max_size):
    scale = min_size / min(size)
    if scale * max(size) > max_size:
        scale = max_size / max(size)
    new = [math.floor(side * scale) for side in size]
    rows = []
    for box in boxes:
        rows.append([coordinate * new[1 - i % 2] / size[1 - i % 2] for i, coordinate in enumerate(box)])
    return rows, new


def corner_by_corner(boxes, size, min_size, max_size):
    height, width = size
    scale = min(min_size / min(height, width), max_size / max(height, width))
    new = np.floor(np.array(size) * scale)
    out = np.array(boxes, np.float64).reshape(-1, 2, 2)  # (G, corner, x and y)
    out *= new[::-1] / (width, height)
    return out.reshape(-1, 4), tuple(new)


def _new(size, scale, cut=int):
    return cut(size[0] * scale), cut(size[1] * scale)


def _scale(size, min_size, max_size):
    return min(min_size / min(size), max_size / max(size))


def _along(boxes, size, new):
    y, x = new[0] / size[0], new[1] / size[1]
    return np.asarray(boxes, float).reshape(-1, 4) * [x, y, x, y], new


def boxes_unchanged(boxes, size, min_size, max_size):
    return boxes, _new(size, _scale(size, min_size, max_size))


def inverse_ratio(boxes, size, min_size, max_size):
    new = _new(size, _scale(size, min_size, max_size))
    return _along(boxes, new, size)[0], new


def boxes_alone(boxes, size, min_size, max_size):
    return by_ratios(boxes, size, min_size, max_size)[0]


def width_first(boxes, size, min_size, max_size):
    rows, (height, width) = by_ratios(boxes, size, min_size, max_size)
    return rows, (width, height)


def height_is_the_short_side(boxes, size, min_size, max_size):
    return _along(boxes, size, _new(size, min(min_size / size[0], max_size / size[1])))


def never_enlarges(boxes, size, min_size, max_size):
    return _along(boxes, size, _new(size, min(1, _scale(size, min_size, max_size))))


def never_shrinks(boxes, size, min_size, max_size):
    return _along(boxes, size, _new(size, max(1, _scale(size, min_size, max_size))))


def no_upper_limit(boxes, size, min_size, max_size):
    return _along(boxes, size, _new(size, min_size / min(size)))


def each_side_by_its_own(boxes, size, min_size, max_size):
    new = _new(size, min_size / min(size))
    return _along(boxes, size, (min(new[0], max_size), min(new[1], max_size)))


def rounded_up(boxes, size, min_size, max_size):
    return _along(boxes, size, _new(size, _scale(size, min_size, max_size), round))


def one_scale_for_both_axes(boxes, size, min_size, max_size):
    scale = _scale(size, min_size, max_size)
    return np.asarray(boxes, float).reshape(-1, 4) * scale, _new(size, scale)


def x_by_the_height(boxes, size, min_size, max_size):
    new = _new(size, _scale(size, min_size, max_size))
    return np.asarray(boxes, float).reshape(-1, 4) * np.tile(np.divide(new, size), 2), new


def whole_numbers(boxes, size, min_size, max_size):
    rows, new = by_ratios(boxes, size, min_size, max_size)
    return rows.astype(np.asarray(boxes).dtype), new


def in_place(boxes, size, min_size, max_size):
    new = _new(size, _scale(size, min_size, max_size))
    boxes[:, [0, 2]] *= new[1] / size[1]
    boxes[:, [1, 3]] *= new[0] / size[0]
    return boxes, new


def fails_without_boxes(boxes, size, min_size, max_size):
    return np.stack([by_ratios(box[None], size, min_size, max_size)[0][0] for box in boxes]), by_ratios(
        boxes, size, min_size, max_size
    )[1]


def forgets_to_return(boxes, size, min_size, max_size):
    by_ratios(boxes, size, min_size, max_size)


def _clipped(boxes, size, min_size, max_size):
    rows, (height, width) = by_ratios(boxes, size, min_size, max_size)
    return np.clip(rows, 0, [width, height, width, height]), (height, width)


def _wide(boxes, size, min_size, max_size):
    rows, new = by_ratios(boxes, size, min_size, max_size)
    rows[:, 2:] = np.maximum(rows[:, 2:], rows[:, :2] + 1)
    return rows, new


RIGHT = (by_ratios, by_loops, corner_by_corner)
WRONG = (
    (boxes_unchanged, "twice as large"),
    (inverse_ratio, "twice as large"),
    (boxes_alone, "must return a tuple of 2 values"),
    (width_first, r"\(height, width\)"),
    (height_is_the_short_side, "whether it is the height or the width"),
    (never_enlarges, "twice as large"),
    (never_shrinks, "may also be too large"),
    (no_upper_limit, "would exceed `max_size`"),
    (each_side_by_its_own, "determines the scale of both"),
    (rounded_up, "rounded down to whole pixels, not up"),
    (one_scale_for_both_axes, "the boxes by the ratios of the"),
    (x_by_the_height, "x by the ratio of the widths"),
    (whole_numbers, "scaled boxes need not be integers"),
    (in_place, "changes its argument 'boxes'"),
    (fails_without_boxes, "Zero boxes"),
    (forgets_to_return, "without `return`"),
)
WRONG += (  # each with the description of a misconception
    answer("boxes are clipped to the image", lambda b, s, lo, hi: _clipped(b, s, lo, hi)),
    answer(
        "negative coordinates become 0",
        lambda b, s, lo, hi: (np.maximum(by_ratios(b, s, lo, hi)[0], 0), by_ratios(b, s, lo, hi)[1]),
    ),
    answer("a side is a pixel at least", lambda b, s, lo, hi: _wide(b, s, lo, hi)),
    answer("max_size limits the width only", lambda b, s, lo, hi: _along(b, s, _new(s, min(lo / min(s), hi / s[1])))),
    answer("max_size limits the height only", lambda b, s, lo, hi: _along(b, s, _new(s, min(lo / min(s), hi / s[0])))),
    answer(
        "the longer side is cut to max_size, the shorter one stays min_size",
        lambda b, s, lo, hi: _along(b, s, tuple(min(x, hi) for x in _new(s, lo / min(s)))),
    ),
    answer("sides are rounded to the nearest", lambda b, s, lo, hi: _along(b, s, _new(s, _scale(s, lo, hi), round))),
    answer(
        "sides are multiples of 32",
        lambda b, s, lo, hi: _along(b, s, _new(s, _scale(s, lo, hi), lambda x: 32 * int(x / 32 + 1))),
    ),
    answer("sides are not rounded at all", lambda b, s, lo, hi: _along(b, s, _new(s, _scale(s, lo, hi), float))),
    answer(
        "both ratios are exchanged on tall images",
        lambda b, s, lo, hi: (
            _along(b, s[::-1], _new(s, _scale(s, lo, hi))[::-1])[0] if s[0] > s[1] else by_ratios(b, s, lo, hi)
        ),
    ),
    answer(
        "one box for all that are the same",
        lambda b, s, lo, hi: (np.unique(by_ratios(b, s, lo, hi)[0], axis=0), by_ratios(b, s, lo, hi)[1]),
    ),
    answer(
        "the boxes in half precision",
        lambda b, s, lo, hi: (by_ratios(b, s, lo, hi)[0].astype(np.float16), by_ratios(b, s, lo, hi)[1]),
    ),
    answer("the size first", lambda b, s, lo, hi: by_ratios(b, s, lo, hi)[::-1]),
    answer("a dict", lambda b, s, lo, hi: dict(zip(("boxes", "size"), by_ratios(b, s, lo, hi), strict=True))),
    answer(
        "no boxes give an array of shape (0,)",
        lambda b, s, lo, hi: (np.array(by_ratios(b, s, lo, hi)[0].tolist()), by_ratios(b, s, lo, hi)[1]),
    ),
)

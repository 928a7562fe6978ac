"""Answers to `checks.decode`."""

import math

import numpy as np

from mutants import answer

ONES = (1, 1, 1, 1)
CAP = math.log(1000 / 16)


def vectorised(deltas, boxes, weights=ONES):
    deltas = np.asarray(deltas, float) / weights
    centre, sides = _spread(deltas, *_centre_and_sides(boxes))
    return _edges(centre + deltas[..., :2] * sides, sides * np.exp(np.minimum(deltas[..., 2:], CAP)))


def by_loops(deltas, boxes, weights=ONES):
    return [
        _one(row, box, weights) if np.ndim(row) == 1 else [_one(part, box, weights) for part in row]
        for row, box in zip(deltas, boxes, strict=True)
    ]


def in_float32(deltas, boxes, weights=ONES):
    rows = np.asarray(deltas, np.float32).reshape(-1, 4) / np.array(weights, np.float32)
    per_box = len(rows) // max(len(boxes), 1)
    boxes = np.repeat(np.asarray(boxes, np.float32), per_box, axis=0)
    w, h = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    x, y = boxes[:, 0] + w / 2 + rows[:, 0] * w, boxes[:, 1] + h / 2 + rows[:, 1] * h
    w, h = (side * np.exp(np.minimum(column, np.float32(CAP))) for side, column in ((w, rows[:, 2]), (h, rows[:, 3])))
    return np.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], axis=1).reshape(deltas.shape)


def _one(deltas, box, weights):
    dx, dy, dw, dh = (float(d) / w for d, w in zip(deltas, weights, strict=True))
    w, h = float(box[2] - box[0]), float(box[3] - box[1])
    x, y = box[0] + (dx + 0.5) * w, box[1] + (dy + 0.5) * h
    w, h = w * math.exp(min(dw, CAP)), h * math.exp(min(dh, CAP))
    return [x - w / 2, y - h / 2, x + w / 2, y + h / 2]


def _centre_and_sides(boxes, extra=0):
    boxes = np.asarray(boxes, float)
    sides = boxes[:, 2:] - boxes[:, :2] + extra
    return boxes[:, :2] + sides / 2, sides


def _spread(deltas, centre, sides):
    return (centre, sides) if deltas.ndim == 2 else (centre[:, None], sides[:, None])


def _edges(centre, sides):
    return np.concatenate([centre - sides / 2, centre + sides / 2], axis=-1)


def _wrong(
    centre_of=lambda d, centre, sides, new: centre + d * sides,
    factor=lambda d: np.exp(np.minimum(d, CAP)),
    edges=_edges,
    units=lambda deltas, weights: deltas / weights,
    extra=0,
):
    """Return a decoder with one step replaced."""

    def function(deltas, boxes, weights=ONES):
        unit = units(np.asarray(deltas, float), np.array(weights, float))
        centre, sides = _spread(unit, *_centre_and_sides(boxes, extra))
        with np.errstate(all="ignore"):
            new = sides * factor(unit[..., 2:])
            return edges(centre_of(unit[..., :2], centre, sides, new), new)

    return function


def _named(**functions):
    for name, function in functions.items():
        function.__name__ = name
    return functions


STEPS = _named(
    plus_one=_wrong(extra=1),
    no_exponential=_wrong(factor=lambda d: np.minimum(d, CAP)),
    one_and_the_delta=_wrong(factor=lambda d: 1 + np.minimum(d, CAP)),
    power_of_two=_wrong(factor=lambda d: 2 ** np.minimum(d, CAP)),
    whole_side_around_the_centre=_wrong(edges=lambda c, s: np.concatenate([c - s, c + s], axis=-1)),
    centre_taken_for_the_corner=_wrong(edges=lambda c, s: np.concatenate([c, c + s], axis=-1)),
    centre_and_sides_given=_wrong(edges=lambda c, s: np.concatenate([c, s], axis=-1)),
    grows_from_the_corner=_wrong(lambda d, c, s, new: c - s / 2 + d * s + new / 2),
    shift_the_wrong_way=_wrong(lambda d, c, s, new: c - d * s),
    shift_in_pixels=_wrong(lambda d, c, s, new: c + d),
    shift_in_the_new_sides=_wrong(lambda d, c, s, new: c + d * new),
    both_shifts_in_widths=_wrong(lambda d, c, s, new: c + d * s[..., :1]),
    height_before_width=_wrong(factor=lambda d: np.exp(np.minimum(d[..., ::-1], CAP))),
    never_smaller=_wrong(factor=lambda d: np.exp(np.clip(d, 0, CAP))),
    nothing_below_zero=_wrong(edges=lambda c, s: np.maximum(_edges(c, s), 0)),
    shift_capped=_wrong(lambda d, c, s, new: c + np.minimum(d, CAP) * s),
    capped_from_below=_wrong(factor=lambda d: np.exp(np.clip(d, -CAP, CAP))),
    capped_too_early=_wrong(factor=lambda d: np.exp(np.minimum(d, 4))),
    capped_at_the_factor_itself=_wrong(factor=lambda d: np.exp(np.minimum(d, 1000 / 16))),
    not_capped=_wrong(factor=np.exp),
    only_the_width_capped=_wrong(factor=lambda d: np.exp(np.minimum(d, (CAP, np.inf)))),
    zero_beyond_the_cap=_wrong(factor=lambda d: np.exp(np.where(d > CAP, 0, d))),
    weights_ignored=_wrong(units=lambda deltas, weights: deltas),
    weights_multiply=_wrong(units=lambda deltas, weights: deltas * weights),
    weights_after_the_exponential=_wrong(
        lambda d, c, s, new: c + d * s,
        units=lambda deltas, weights: np.concatenate([deltas[..., :2] / weights[:2], deltas[..., 2:]], axis=-1),
    ),
    capped_before_the_weights=_wrong(
        units=lambda deltas, weights: np.minimum(deltas, (np.inf, np.inf, CAP, CAP)) / weights
    ),
)


def one_row_of_deltas_only(deltas, boxes, weights=ONES):
    if deltas.ndim == 3:
        deltas = deltas[:, 0]
    return vectorised(deltas, boxes, weights)


def classes_before_boxes(deltas, boxes, weights=ONES):
    if deltas.ndim == 2:
        return vectorised(deltas, boxes, weights)
    flat = deltas.reshape(-1, 4)
    return vectorised(flat, np.tile(boxes, (deltas.shape[1], 1)), weights).reshape(deltas.shape)


def all_from_the_first(deltas, boxes, weights=ONES):
    return vectorised(deltas, boxes[:1].repeat(len(boxes), axis=0), weights)


def fails_without_boxes(deltas, boxes, weights=ONES):
    return np.stack([vectorised(d[None], b[None], weights)[0] for d, b in zip(deltas, boxes, strict=True)])


def whole_numbers(deltas, boxes, weights=ONES):
    return vectorised(deltas, boxes, weights).astype(boxes.dtype)


def caps_in_place(deltas, boxes, weights=ONES):
    deltas[..., 2:] = np.minimum(deltas[..., 2:], CAP * np.array(weights[2:]))
    return vectorised(deltas, boxes, weights)


def forgets_to_return(deltas, boxes, weights=ONES):
    vectorised(deltas, boxes, weights)


def _uncapped(deltas, boxes, weights):
    unit = np.asarray(deltas, float) / weights
    centre, sides = _spread(unit, *_centre_and_sides(boxes))
    with np.errstate(all="ignore"):
        new = sides * np.exp(unit[..., 2:])
        return _edges(centre + unit[..., :2] * sides, new)


def _capped_columns(deltas, boxes, weights):
    unit = np.asarray(deltas, float) / weights
    unit[:, 2:] = np.minimum(unit[:, 2:], CAP)
    return _uncapped(unit, boxes, ONES)


def _wide_results(deltas, boxes, weights):
    out = vectorised(deltas, boxes, weights)
    out[..., 2:] = np.maximum(out[..., 2:], out[..., :2] + 1)
    return out


RIGHT = (vectorised, by_loops, in_float32)
WRONG = (
    (STEPS["plus_one"], "centre, so do not add"),
    (STEPS["no_exponential"], "the logarithm of which factor is 0"),
    (STEPS["one_and_the_delta"], "the natural logarithm of new width"),
    (STEPS["power_of_two"], "the natural logarithm of new width"),
    (STEPS["whole_side_around_the_centre"], "Each edge is half a side"),
    (STEPS["centre_taken_for_the_corner"], "Each edge is half a side"),
    (STEPS["centre_and_sides_given"], "Each edge is half a side"),
    (STEPS["grows_from_the_corner"], "centre stays, so the box"),
    (STEPS["shift_the_wrong_way"], "to the right by half of its"),
    (STEPS["shift_in_pixels"], "in widths of the box"),
    (STEPS["shift_in_the_new_sides"], "in the old sides"),
    (STEPS["both_shifts_in_widths"], "in heights of the box"),
    (STEPS["height_before_width"], "new width / old width"),
    (STEPS["never_smaller"], "dh is the natural logarithm"),
    (STEPS["nothing_below_zero"], "box may extend beyond the image"),
    (STEPS["shift_capped"], "dx and dy are not"),
    (STEPS["capped_from_below"], "an upper limit"),
    (STEPS["capped_too_early"], "It does not change smaller deltas"),
    (STEPS["capped_at_the_factor_itself"], r"dw is capped at log\(1000/16\)"),
    (STEPS["not_capped"], r"dw is capped at log\(1000/16\)"),
    (STEPS["only_the_width_capped"], "dh is capped"),
    (STEPS["zero_beyond_the_cap"], "62.5 times"),
    (STEPS["weights_ignored"], "Undo this multiplication first, before"),
    (STEPS["weights_multiply"], "Undo this multiplication first, before"),
    (STEPS["weights_after_the_exponential"], "before exp"),
    (STEPS["capped_before_the_weights"], "divide by the weights first"),
    (one_row_of_deltas_only, "one row for each class"),
    (classes_before_boxes, "start from the same box"),
    (all_from_the_first, "moved by its own deltas"),
    (fails_without_boxes, "Zero boxes"),
    (whole_numbers, "exp of an integer need not"),
    (caps_in_place, "changes its argument 'deltas'"),
    (forgets_to_return, "without `return`"),
)
WRONG += (  # each with the description of a misconception
    answer(
        "the cap is on [:, 2:], which are classes where there are several",
        lambda d, b, w=ONES: _capped_columns(d, b, w),
    ),
    answer(
        "several classes: the cap is forgotten",
        lambda d, b, w=ONES: _uncapped(d, b, w) if d.ndim == 3 else vectorised(d, b, w),
    ),
    answer(
        "boxes are a pixel wide at least",
        lambda d, b, w=ONES: vectorised(d, np.concatenate([b[:, :2], np.maximum(b[:, 2:], b[:, :2] + 1)], axis=1), w),
    ),
    answer("new boxes are a pixel wide at least", lambda d, b, w=ONES: _wide_results(d, b, w)),
    answer(
        "boxes with negative coordinates are clipped first", lambda d, b, w=ONES: vectorised(d, np.maximum(b, 0), w)
    ),
    answer("results are clipped at 1000", lambda d, b, w=ONES: np.minimum(vectorised(d, b, w), 1000)),
    answer(
        "weights are left out where there are several classes",
        lambda d, b, w=ONES: vectorised(d, b) if d.ndim == 3 else vectorised(d, b, w),
    ),
    answer("weights of x and y swapped", lambda d, b, w=ONES: vectorised(d, b, (w[1], w[0], w[3], w[2]))),
    answer(
        "weights repeated along the rows",
        lambda d, b, w=ONES: vectorised(np.asarray(d) / np.resize(w, len(b)).reshape(-1, *(1,) * (d.ndim - 1)), b),
    ),
    answer(
        "only the first class has its own deltas",
        lambda d, b, w=ONES: (
            vectorised(np.broadcast_to(d[:, :1], d.shape), b, w) if d.ndim == 3 else vectorised(d, b, w)
        ),
    ),
    answer(
        "classes and boxes exchanged where they are equally many",
        lambda d, b, w=ONES: (
            vectorised(d.transpose(1, 0, 2), b, w).transpose(1, 0, 2)
            if d.ndim == 3 and len(d) == d.shape[1]
            else vectorised(d, b, w)
        ),
    ),
    answer(
        "the cap of the logarithm to base 10",
        lambda d, b, w=ONES: vectorised(np.minimum(d, np.multiply([np.inf, np.inf, 1.8, 1.8], w)), b, w),
    ),
    answer(
        "shifts are capped at 1 below zero",
        lambda d, b, w=ONES: vectorised(np.maximum(d, [-np.inf, -np.inf, -5, -5]), b, w),
    ),
    answer("rounded to whole pixels", lambda d, b, w=ONES: vectorised(d, b, w).round()),
    answer("in half precision", lambda d, b, w=ONES: vectorised(d, b, w).astype(np.float16)),
    answer("corners and sides mixed up with negative zeros", lambda d, b, w=ONES: np.abs(vectorised(d, b, w))),
    answer("no boxes give an array of shape (0,)", lambda d, b, w=ONES: vectorised(d, b, w) if len(b) else np.zeros(0)),
    answer("a generator of rows", lambda d, b, w=ONES: (row for row in vectorised(d, b, w))),
)

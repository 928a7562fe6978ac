"""Answers to `checks.encode`. Most wrong answers pass a round trip with a decoder that has the same mistake."""

import math

import numpy as np

from mutants import answer

ONES = (1, 1, 1, 1)


def vectorised(gt_boxes, boxes, weights=ONES):
    shift, growth = _parts(gt_boxes, boxes)
    return np.hstack([shift, np.log(growth)]) * weights


def by_loops(gt_boxes, boxes, weights=ONES):
    out = []
    for (gx1, gy1, gx2, gy2), (x1, y1, x2, y2) in zip(gt_boxes, boxes, strict=True):
        w, h = float(x2 - x1), float(y2 - y1)
        out.append(
            [
                weights[0] * ((gx1 + gx2) / 2 - (x1 + x2) / 2) / w,
                weights[1] * ((gy1 + gy2) / 2 - (y1 + y2) / 2) / h,
                weights[2] * math.log((gx2 - gx1) / w),
                weights[3] * math.log((gy2 - gy1) / h),
            ]
        )
    return out


def in_float32(gt_boxes, boxes, weights=ONES):
    to = [np.asarray(gt_boxes, np.float32), np.asarray(boxes, np.float32)]
    (gx, gy, gw, gh), (x, y, w, h) = (
        (b[:, 0] + (b[:, 2] - b[:, 0]) / 2, b[:, 1] + (b[:, 3] - b[:, 1]) / 2, b[:, 2] - b[:, 0], b[:, 3] - b[:, 1])
        for b in to
    )
    deltas = np.stack([(gx - x) / w, (gy - y) / h, np.log(gw) - np.log(w), np.log(gh) - np.log(h)], axis=1)
    return deltas * np.array(weights, np.float32)


def _parts(gt_boxes, boxes, extra=0):
    """Return the centre shifts in sides of the box, (N, 2), and the ratios of the sides, (N, 2)."""
    gt_centre, gt_sides = _centre_and_sides(gt_boxes, extra)
    centre, sides = _centre_and_sides(boxes, extra)
    return (gt_centre - centre) / sides, gt_sides / sides


def _centre_and_sides(boxes, extra=0):
    boxes = np.asarray(boxes, float).reshape(-1, 4)
    sides = boxes[:, 2:] - boxes[:, :2] + extra
    return boxes[:, :2] + sides / 2, sides


def plus_one(gt_boxes, boxes, weights=ONES):
    shift, growth = _parts(gt_boxes, boxes, extra=1)
    return np.hstack([shift, np.log(growth)]) * weights


def no_logarithm(gt_boxes, boxes, weights=ONES):
    return np.hstack(_parts(gt_boxes, boxes)) * weights


def growth_less_one(gt_boxes, boxes, weights=ONES):
    shift, growth = _parts(gt_boxes, boxes)
    return np.hstack([shift, growth - 1]) * weights


def logarithm_to_base_2(gt_boxes, boxes, weights=ONES):
    shift, growth = _parts(gt_boxes, boxes)
    return np.hstack([shift, np.log2(growth)]) * weights


def the_wrong_way_round(gt_boxes, boxes, weights=ONES):
    return vectorised(boxes, gt_boxes, weights)


def only_the_shift_the_wrong_way(gt_boxes, boxes, weights=ONES):
    return vectorised(gt_boxes, boxes, weights) * (-1, -1, 1, 1)


def growth_upside_down(gt_boxes, boxes, weights=ONES):
    return vectorised(gt_boxes, boxes, weights) * (1, 1, -1, -1)


def shift_in_pixels(gt_boxes, boxes, weights=ONES):
    sides = _centre_and_sides(boxes)[1]
    return vectorised(gt_boxes, boxes, weights) * np.hstack([sides, np.ones_like(sides)])


def shift_of_the_corner(gt_boxes, boxes, weights=ONES):
    _, growth = _parts(gt_boxes, boxes)
    shift = (np.asarray(gt_boxes)[:, :2] - boxes[:, :2]) / _centre_and_sides(boxes)[1]
    return np.hstack([shift, np.log(growth)]) * weights


def shift_in_sides_of_the_other(gt_boxes, boxes, weights=ONES):
    shift, growth = _parts(gt_boxes, boxes)
    return np.hstack([shift / growth, np.log(growth)]) * weights


def both_shifts_in_widths(gt_boxes, boxes, weights=ONES):
    out, sides = vectorised(gt_boxes, boxes, weights), _centre_and_sides(boxes)[1]
    out[:, 1] *= sides[:, 1] / sides[:, 0]
    return out


def in_pairs_of_an_axis(gt_boxes, boxes, weights=ONES):
    return vectorised(gt_boxes, boxes, weights)[:, [0, 2, 1, 3]]


def height_before_width(gt_boxes, boxes, weights=ONES):
    return vectorised(gt_boxes, boxes, weights)[:, [0, 1, 3, 2]]


def only_the_width_in_logarithm_of_growth(gt_boxes, boxes, weights=ONES):
    out = vectorised(gt_boxes, boxes, weights)
    out[:, 3] = out[:, 2]
    return out


def never_smaller(gt_boxes, boxes, weights=ONES):
    shift, growth = _parts(gt_boxes, boxes)
    return np.hstack([shift, np.log(np.maximum(growth, 1))]) * weights


def capped(gt_boxes, boxes, weights=ONES):
    shift, growth = _parts(gt_boxes, boxes)
    return np.hstack([shift, np.minimum(np.log(growth), math.log(1000 / 16))]) * weights


def weights_ignored(gt_boxes, boxes, weights=ONES):
    return vectorised(gt_boxes, boxes)


def weights_divide(gt_boxes, boxes, weights=ONES):
    return vectorised(gt_boxes, boxes) / weights


def weights_inside_the_logarithm(gt_boxes, boxes, weights=ONES):
    return np.hstack(
        [_parts(gt_boxes, boxes)[0] * weights[:2], np.log(_parts(gt_boxes, boxes)[1] * np.array(weights[2:]))]
    )


def one_weight_for_each_pair(gt_boxes, boxes, weights=ONES):
    return vectorised(gt_boxes, boxes) * (weights[0], weights[0], weights[2], weights[2])


def second_stage_weights_always(gt_boxes, boxes, weights=(10, 10, 5, 5)):
    return vectorised(gt_boxes, boxes, weights)


def every_pair_of_boxes(gt_boxes, boxes, weights=ONES):
    return np.stack([vectorised(np.repeat(row[None], len(boxes), axis=0), boxes, weights) for row in gt_boxes])


def all_to_the_first(gt_boxes, boxes, weights=ONES):
    return vectorised(gt_boxes[:1].repeat(len(boxes), axis=0), boxes, weights)


def fails_without_boxes(gt_boxes, boxes, weights=ONES):
    return np.stack([vectorised(a[None], b[None], weights)[0] for a, b in zip(gt_boxes, boxes, strict=True)])


def whole_numbers(gt_boxes, boxes, weights=ONES):
    out = np.zeros_like(boxes)
    out[:] = vectorised(gt_boxes, boxes, weights)
    return out


def in_place(gt_boxes, boxes, weights=ONES):
    out = vectorised(gt_boxes, boxes, weights)
    boxes[:, :2] = (boxes[:, :2] + boxes[:, 2:]) / 2
    return out


def forgets_to_return(gt_boxes, boxes, weights=ONES):
    vectorised(gt_boxes, boxes, weights)


def _padded_sides(gt_boxes, boxes, weights, more):
    gt_centre, gt_sides = _centre_and_sides(gt_boxes)
    centre, sides = _centre_and_sides(boxes)
    return np.hstack([(gt_centre - centre) / (sides + more), np.log(gt_sides / (sides + more))]) * weights


def _with_first_sides(gt_boxes, boxes, weights):
    gt_centre, gt_sides = _centre_and_sides(gt_boxes)
    centre, sides = _centre_and_sides(boxes)
    return np.hstack([(gt_centre - centre) / sides[:1], np.log(gt_sides / sides[:1])]) * weights


RIGHT = (vectorised, by_loops, in_float32)
WRONG = (
    (plus_one, r"is \(a box from 3 to 8"),
    (no_logarithm, "the logarithm of 1 is 0"),
    (growth_less_one, "natural logarithm of 2"),
    (logarithm_to_base_2, "natural logarithm of 2"),
    (the_wrong_way_round, "from `boxes` to `gt_boxes`"),
    (only_the_shift_the_wrong_way, "from `boxes` to `gt_boxes`"),
    (growth_upside_down, "The width doubles, so dw"),
    (shift_in_pixels, "however many pixels"),
    (shift_of_the_corner, "are 0, although the corners"),
    (shift_in_sides_of_the_other, "in sides of the box from `boxes`"),
    (both_shifts_in_widths, "in heights of the box"),
    (in_pairs_of_an_axis, "dx, dy, dw, dh"),
    (height_before_width, "The width doubles, so dw"),
    (only_the_width_in_logarithm_of_growth, "The width doubles, so dw"),
    (never_smaller, "the natural logarithm of 1/2"),
    (capped, "`decode` limits the deltas that"),
    (weights_ignored, "its own weight"),
    (weights_divide, "dh by its own weight"),
    (weights_inside_the_logarithm, "weight, after taking the logarithm"),
    (one_weight_for_each_pair, "its own weight"),
    (second_stage_weights_always, "0.5, however many pixels"),
    (every_pair_of_boxes, r"expected \(1, 4\)"),
    (all_to_the_first, "row for each pair: row"),
    (fails_without_boxes, "Zero boxes"),
    (whole_numbers, "deltas need not be integers"),
    (in_place, "changes its argument 'boxes'"),
    (forgets_to_return, "without `return`"),
)
WRONG += (  # each with the description of a misconception
    answer(
        "weights are repeated along the wrong axis",
        lambda g, b, w=ONES: vectorised(g, b) * np.resize(w, len(b))[:, None],
    ),
    answer(
        "only the first row is multiplied by the weights",
        lambda g, b, w=ONES: np.concatenate([vectorised(g[:1], b[:1], w), vectorised(g[1:], b[1:])]),
    ),
    answer(
        "sides are a pixel at least",
        lambda g, b, w=ONES: vectorised(
            *(np.concatenate([x[:, :2], np.maximum(x[:, 2:], x[:, :2] + 1)], axis=1) for x in (g, b)), w
        ),
    ),
    answer("negative coordinates are clipped", lambda g, b, w=ONES: vectorised(np.maximum(g, 0), np.maximum(b, 0), w)),
    answer("1e-2 is added to sides against a division by 0", lambda g, b, w=ONES: _padded_sides(g, b, w, 1e-2)),
    answer("deltas are limited to 10", lambda g, b, w=ONES: np.clip(vectorised(g, b, w), -10, 10)),
    answer(
        "shifts are limited to 1",
        lambda g, b, w=ONES: (
            np.concatenate([np.clip(vectorised(g, b)[:, :2], -1, 1), vectorised(g, b)[:, 2:]], axis=1) * w
        ),
    ),
    answer(
        "weights of the second stage where any are given",
        lambda g, b, w=ONES: vectorised(g, b) * (ONES if w == ONES else (10, 10, 5, 5)),
    ),
    answer("weights in the order dw, dh, dx, dy", lambda g, b, w=ONES: vectorised(g, b, (w[2], w[3], w[0], w[1]))),
    answer("weights of x and y swapped", lambda g, b, w=ONES: vectorised(g, b, (w[1], w[0], w[3], w[2]))),
    answer("the largest weight for all", lambda g, b, w=ONES: vectorised(g, b) * max(w)),
    answer("the sides of the first box for all", lambda g, b, w=ONES: _with_first_sides(g, b, w)),
    answer("rounded to three digits", lambda g, b, w=ONES: vectorised(g, b, w).round(3)),
    answer("in half precision", lambda g, b, w=ONES: vectorised(g, b, w).astype(np.float16)),
    answer("no boxes give an array of shape (0,)", lambda g, b, w=ONES: np.array(by_loops(g, b, w))),
    answer("a tuple of four columns", lambda g, b, w=ONES: tuple(vectorised(g, b, w).T)),
    answer("boxes are integers", lambda g, b, w=ONES: vectorised(np.asarray(g).astype(int), b, w)),
)

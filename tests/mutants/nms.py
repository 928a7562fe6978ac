"""Answers to `checks.nms`."""

import numpy as np

from mutants import answer


def by_crossing_off(boxes, scores, iou_threshold):
    remaining = np.argsort(-np.asarray(scores), kind="stable")
    kept = []
    while len(remaining):
        kept.append(remaining[0])
        overlaps = _overlaps(boxes[remaining[0]], boxes[remaining[1:]])
        remaining = remaining[1:][overlaps <= iou_threshold]
    return np.array(kept, np.int64)


def by_loops(boxes, scores, iou_threshold):
    kept = []
    for i in sorted(range(len(boxes)), key=lambda i: -scores[i]):
        if all(_iou(boxes[i], boxes[k]) <= iou_threshold for k in kept):
            kept.append(i)
    return kept


def with_a_matrix_in_float32(boxes, scores, iou_threshold):
    order = np.lexsort((np.arange(len(scores)), -scores))
    ordered = np.asarray(boxes, np.float32)[order]
    overlaps = np.array([_overlaps(box, ordered) for box in ordered]).reshape(len(order), len(order))
    removes = np.triu(overlaps > iou_threshold, 1)
    stays = np.ones(len(order), bool)
    for place in range(len(order)):
        if stays[place]:
            stays[removes[place]] = False
    return order[stays]


def _overlaps(box, boxes, extra=0, of_nothing=0):
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    intersection = np.clip(high - low + extra, 0, None).prod(axis=1)
    areas = (boxes[:, 2:] - boxes[:, :2] + extra).prod(axis=1)
    union = (box[2:] - box[:2] + extra).prod() + areas - intersection
    return np.divide(intersection, union, out=np.full(union.shape, of_nothing, float), where=union != 0)


def _iou(a, b):
    return float(_overlaps(np.asarray(a, float), np.asarray(b, float)[None])[0])


def _wrong(
    order=lambda scores: np.argsort(-scores, kind="stable"),
    removes=lambda overlaps, threshold: overlaps > threshold,
    overlap=_overlaps,
):
    """Return a suppression with one step replaced."""

    def function(boxes, scores, iou_threshold):
        remaining, kept = order(scores), []
        while len(remaining):
            kept.append(remaining[0])
            gone = removes(overlap(boxes[remaining[0]], boxes[remaining[1:]]), iou_threshold)
            remaining = remaining[1:][~gone]
        return np.array(kept, np.int64)

    return function


def _over_the_smaller_area(box, boxes):
    sides = np.clip(np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2]), 0, None)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    return sides.prod(axis=1) / np.maximum(np.minimum((box[2:] - box[:2]).prod(), areas), 1e-9)


def _without_clamp(box, boxes):
    sides = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    return np.abs(sides.prod(axis=1)) / np.maximum((box[2:] - box[:2]).prod() + areas - np.abs(sides.prod(axis=1)), 1)


def _named(**functions):
    for name, function in functions.items():
        function.__name__ = name
    return functions


STEPS = _named(
    worst_first=_wrong(order=lambda scores: np.argsort(scores, kind="stable")),
    not_sorted=_wrong(order=lambda scores: np.arange(len(scores))),
    later_of_equals=_wrong(order=lambda scores: np.argsort(scores, kind="stable")[::-1]),
    not_stable=_wrong(order=lambda scores: np.lexsort((np.arange(len(scores)) * 7 % 40, -scores))),
    at_the_threshold_too=_wrong(removes=lambda overlaps, threshold: overlaps >= threshold),
    keeps_overlapping_boxes=_wrong(removes=lambda overlaps, threshold: overlaps <= threshold),
    any_overlap=_wrong(removes=lambda overlaps, threshold: overlaps > 0),
    a_threshold_of_its_own=_wrong(removes=lambda overlaps, threshold: overlaps > 0.5),
    only_the_next=_wrong(removes=lambda overlaps, threshold: (overlaps > threshold) & (np.arange(len(overlaps)) == 0)),
    only_until_the_first_kept=_wrong(
        removes=lambda overlaps, threshold: np.logical_and.accumulate(overlaps > threshold)
    ),
    plus_one=_wrong(overlap=lambda box, boxes: _overlaps(box, boxes, extra=1)),
    over_the_smaller_area=_wrong(overlap=_over_the_smaller_area),
    no_clamp=_wrong(overlap=_without_clamp),
    zero_area_boxes_overlap=_wrong(overlap=lambda box, boxes: _overlaps(box, boxes, of_nothing=1)),
    whole_number_iou=_wrong(overlap=lambda box, boxes: _overlaps(box, boxes).astype(boxes.dtype)),
)


def no_suppression(boxes, scores, iou_threshold):
    return np.argsort(-scores, kind="stable")


def removed_boxes_remove(boxes, scores, iou_threshold):
    order = np.argsort(-scores, kind="stable")
    return [i for place, i in enumerate(order) if not (_overlaps(boxes[i], boxes[order[:place]]) > iou_threshold).any()]


def only_the_best_removes(boxes, scores, iou_threshold):
    order = np.argsort(-scores, kind="stable")
    if len(order) == 0:
        return order
    gone = _overlaps(boxes[order[0]], boxes[order]) > iou_threshold
    gone[0] = False
    return order[~gone]


def all_kept_must_overlap(boxes, scores, iou_threshold):
    kept = []
    for i in np.argsort(-scores, kind="stable"):
        if not kept or any(_iou(boxes[i], boxes[k]) <= iou_threshold for k in kept):
            kept.append(i)
    return kept


def only_the_last_kept_removes(boxes, scores, iou_threshold):
    kept = []
    for i in np.argsort(-scores, kind="stable"):
        if not kept or _iou(boxes[i], boxes[kept[-1]]) <= iou_threshold:
            kept.append(i)
    return kept


def equals_do_not_remove(boxes, scores, iou_threshold):
    kept = []
    for i in np.argsort(-scores, kind="stable"):
        if not any(scores[k] > scores[i] and _iou(boxes[i], boxes[k]) > iou_threshold for k in kept):
            kept.append(i)
    return kept


def zero_marks_removed(boxes, scores, iou_threshold):
    scores, kept = np.array(scores, float), []
    while len(scores) and scores.max() > 0:
        best = int(scores.argmax())
        kept.append(best)
        scores[best] = 0
        scores[_overlaps(boxes[best], boxes) > iou_threshold] = 0
    return kept


def a_mask(boxes, scores, iou_threshold):
    return np.isin(np.arange(len(boxes)), by_loops(boxes, scores, iou_threshold))


def the_boxes_themselves(boxes, scores, iou_threshold):
    return boxes[by_loops(boxes, scores, iou_threshold)]


def removed_indices(boxes, scores, iou_threshold):
    return np.setdiff1d(np.arange(len(boxes)), by_loops(boxes, scores, iou_threshold))


def sorted_indices(boxes, scores, iou_threshold):
    return sorted(by_loops(boxes, scores, iou_threshold))


def indices_of_the_sorted(boxes, scores, iou_threshold):
    order = np.argsort(-scores, kind="stable")
    return by_loops(boxes[order], scores[order], iou_threshold)


def fails_without_boxes(boxes, scores, iou_threshold):
    scores.max()
    return by_loops(boxes, scores, iou_threshold)


def sorts_in_place(boxes, scores, iou_threshold):
    out = by_loops(boxes, scores, iou_threshold)
    scores.sort()
    return out


def crosses_off_in_place(boxes, scores, iou_threshold):
    out = by_loops(boxes, scores, iou_threshold)
    scores[out] = -1
    return out


def forgets_to_return(boxes, scores, iou_threshold):
    by_loops(boxes, scores, iou_threshold)


def _passes(boxes, scores, iou_threshold, count):
    """Suppress with the whole matrix at once: what is kept after a pass removes in the next one."""
    order = np.argsort(-scores, kind="stable")
    overlaps = np.array([_overlaps(boxes[i], boxes[order]) for i in order]).reshape(len(order), len(order))
    removes = np.triu(overlaps > iou_threshold, 1)
    stays = np.ones(len(order), bool)
    for _ in range(count):
        stays = ~(removes & stays[:, None]).any(axis=0)
    return order[stays]


def _share_of_union(box, boxes, more):
    union = (box[2:] - box[:2]).prod() + (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    return union / (union + more)


def _window(boxes, scores, iou_threshold, count):
    kept = []
    order = np.argsort(-scores, kind="stable").tolist()
    for place, i in enumerate(order):
        before = [k for k in kept if order.index(k) >= place - count]
        if all(_iou(boxes[i], boxes[k]) <= iou_threshold for k in before):
            kept.append(i)
    return kept


def _after_sorting(boxes, scores, iou_threshold, order):
    return [order[i] for i in by_loops(boxes[order], -np.arange(len(order)), iou_threshold)]


def _connected(boxes, scores, iou_threshold):
    kept, group = [], {}
    for i in np.argsort(-scores, kind="stable").tolist():
        near = [k for k in group if _iou(boxes[i], boxes[k]) > iou_threshold]
        group[i] = group[near[0]] if near else i
        if not near:
            kept.append(i)
    return kept


RIGHT = (by_crossing_off, by_loops, with_a_matrix_in_float32)
WRONG = (
    (STEPS["worst_first"], "Both are kept, and the box"),
    (STEPS["not_sorted"], "in order of descending score"),
    (STEPS["later_of_equals"], "scores are equal, the box"),
    (STEPS["not_stable"], "change the order of ties"),
    (STEPS["at_the_threshold_too"], "Only a greater IoU removes a box"),
    (STEPS["keeps_overlapping_boxes"], "do not overlap do not remove each"),
    (STEPS["any_overlap"], "is 1/3, which is below the threshold"),
    (STEPS["a_threshold_of_its_own"], "The threshold is an argument"),
    (STEPS["only_the_next"], "with all boxes after it"),
    (STEPS["only_until_the_first_kept"], "with all boxes after it"),
    (STEPS["plus_one"], "box from 3 to 7 is 4"),
    (STEPS["over_the_smaller_area"], "divides by the union"),
    (STEPS["no_clamp"], "do not overlap do not remove each"),
    (STEPS["zero_area_boxes_overlap"], "defined as 0 here"),
    (STEPS["whole_number_iou"], "IoU need not be an integer"),
    (no_suppression, "one with the higher score is kept"),
    (removed_boxes_remove, "A removed box does not remove"),
    (only_the_best_removes, "the best of the remaining boxes"),
    (all_kept_must_overlap, "One kept box is enough"),
    (only_the_last_kept_removes, "with all boxes after it"),
    (equals_do_not_remove, "with the same score"),
    (zero_marks_removed, "A score may be 0 or"),
    (a_mask, "The result contains its index"),
    (the_boxes_themselves, r"expected \(1,\)"),
    (removed_indices, "A single box is kept"),
    (sorted_indices, "in order of descending score"),
    (indices_of_the_sorted, "as given, not to the sorted"),
    (fails_without_boxes, "Zero boxes"),
    (sorts_in_place, "changes its argument 'scores'"),
    (crosses_off_in_place, "changes its argument 'scores'"),
    (forgets_to_return, "without `return`"),
)
WRONG += (  # each with the description of a misconception
    answer("an intersection begins at 0 at the earliest", lambda b, s, t: by_loops(np.maximum(b, 0), s, t)),
    answer("two passes of a matrix in place of one box after the other", lambda b, s, t: _passes(b, s, t, 2)),
    answer("four passes of a matrix in place of one box after the other", lambda b, s, t: _passes(b, s, t, 4)),
    answer("coordinates are rounded to pixels", lambda b, s, t: by_loops(np.round(b), s, t)),
    answer(
        "a side is a pixel at least",
        lambda b, s, t: by_loops(np.concatenate([b[:, :2], np.maximum(b[:, 2:], b[:, :2] + 1)], axis=1), s, t),
    ),
    answer(
        "0.1 is added to the union against 0/0",
        _wrong(overlap=lambda box, boxes: _overlaps(box, boxes) * _share_of_union(box, boxes, 0.1)),
    ),
    answer("boxes with a score of 0 or below are left out", lambda b, s, t: [i for i in by_loops(b, s, t) if s[i] > 0]),
    answer("at most ten boxes are kept", lambda b, s, t: by_loops(b, s, t)[:10]),
    answer("scores are rounded to one digit", lambda b, s, t: by_loops(b, np.round(s, 1), t)),
    answer("scores are compared by their absolute values", lambda b, s, t: by_loops(b, np.abs(s), t)),
    answer("a threshold of 0.5 at least", lambda b, s, t: by_loops(b, s, max(t, 0.5))),
    answer("a threshold of 0.5 at most", lambda b, s, t: by_loops(b, s, min(t, 0.5))),
    answer("a box removes only the ten after it", lambda b, s, t: _window(b, s, t, 10)),
    answer("a box removes only the three after it", lambda b, s, t: _window(b, s, t, 3)),
    answer(
        "sorted with an unstable sort",
        lambda b, s, t: _after_sorting(b, s, t, np.argsort(-np.asarray(s, float) + 1e-12 * np.sin(np.arange(len(s))))),
    ),
    answer("indices as floats", lambda b, s, t: np.array(by_loops(b, s, t), float), "floats|returns float64"),
    answer("scores in place of indices", lambda b, s, t: np.asarray(s)[by_loops(b, s, t)]),
    answer("a column of indices", lambda b, s, t: np.array(by_loops(b, s, t))[:, None]),
    answer("a set", lambda b, s, t: set(by_loops(b, s, t))),
    answer("a tuple of boxes and scores", lambda b, s, t: (b[by_loops(b, s, t)], np.asarray(s)[by_loops(b, s, t)])),
    answer("the highest score of each group, found by connected overlaps", lambda b, s, t: _connected(b, s, t)),
)

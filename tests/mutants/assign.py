"""Answers to `checks.assign`."""

import numpy as np

from mutants import answer


def by_turns(boxes, scores, gt_boxes, iou_threshold):
    right, taken = np.zeros(len(boxes), bool), np.zeros(len(gt_boxes), bool)
    overlaps = _overlaps(boxes, gt_boxes)
    for d in np.argsort(-np.asarray(scores), kind="stable"):
        if len(gt_boxes) and overlaps[d].max() >= iou_threshold and not taken[overlaps[d].argmax()]:
            right[d] = taken[overlaps[d].argmax()] = True
    return right


def by_loops(boxes, scores, gt_boxes, iou_threshold):
    answer, claimed = [0] * len(boxes), []
    for d in sorted(range(len(boxes)), key=lambda d: -scores[d]):
        best, object_ = max(((_iou(boxes[d], gt), -g) for g, gt in enumerate(gt_boxes)), default=(-1, 0))
        if best >= iou_threshold and object_ not in claimed:
            claimed.append(object_)
            answer[d] = 1
    return answer


def first_of_each_object(boxes, scores, gt_boxes, iou_threshold):
    if not len(boxes) or not len(gt_boxes):
        return np.zeros(len(boxes), bool)
    order = np.lexsort((np.arange(len(scores)), -scores))
    overlaps = _overlaps(boxes[order], gt_boxes)
    of = np.where(overlaps.max(axis=1) >= iou_threshold, overlaps.argmax(axis=1), -1)
    objects, first = np.unique(of, return_index=True)
    right = np.zeros(len(boxes), bool)
    right[order[first[objects >= 0]]] = True
    return right


def _overlaps(boxes, others, extra=0):
    boxes, others = np.asarray(boxes, float), np.asarray(others, float)
    low, high = np.maximum(boxes[:, None, :2], others[:, :2]), np.minimum(boxes[:, None, 2:], others[:, 2:])
    shared = np.clip(high - low + extra, 0, None).prod(axis=2)
    areas, other_areas = ((b[:, 2:] - b[:, :2] + extra).prod(axis=1) for b in (boxes, others))
    return shared / (areas[:, None] + other_areas - shared)


def _iou(a, b):
    return float(_overlaps([a], [b])[0, 0])


def _wrong(
    order=lambda scores: np.argsort(-scores, kind="stable"),
    enough=np.greater_equal,
    extra=0,
    claims_anyway=False,
    claims=True,
):
    """Return the answer with one step replaced."""

    def function(boxes, scores, gt_boxes, iou_threshold):
        right, taken = np.zeros(len(boxes), bool), np.zeros(len(gt_boxes), bool)
        overlaps = _overlaps(boxes, gt_boxes, extra)
        for d in order(np.asarray(scores)) if len(gt_boxes) else ():
            g = overlaps[d].argmax()
            right[d] = enough(overlaps[d, g], iou_threshold) and not taken[g]
            taken[g] |= claims and (right[d] or claims_anyway)
        return right

    return function


def _named(**functions):
    for name, function in functions.items():
        function.__name__ = name
    return functions


STEPS = _named(
    not_sorted=_wrong(order=lambda scores: np.arange(len(scores))),
    worst_first=_wrong(order=lambda scores: np.argsort(scores, kind="stable")),
    later_of_equals=_wrong(order=lambda scores: np.argsort(scores, kind="stable")[::-1]),
    not_stable=_wrong(order=lambda scores: np.lexsort((np.arange(len(scores)) * 7 % 40, -scores))),
    only_greater=_wrong(enough=np.greater),
    a_threshold_of_its_own=_wrong(enough=lambda overlap, threshold: overlap >= 0.5),
    any_overlap=_wrong(enough=lambda overlap, threshold: overlap > 0),
    plus_one=_wrong(extra=1),
    duplicates_are_right=_wrong(claims=False),
    wrong_detections_claim=_wrong(claims_anyway=True),
    positive_scores_only=_wrong(order=lambda scores: [d for d in np.argsort(-scores, kind="stable") if scores[d] > 0]),
)


def another_object_will_do(boxes, scores, gt_boxes, iou_threshold):
    right, taken = np.zeros(len(boxes), bool), np.zeros(len(gt_boxes), bool)
    overlaps = _overlaps(boxes, gt_boxes)
    for d in np.argsort(-scores, kind="stable") if len(gt_boxes) else ():
        free = np.where(taken, -1, overlaps[d])
        if free.max() >= iou_threshold:
            right[d] = taken[free.argmax()] = True
    return right


def the_first_object_that_fits(boxes, scores, gt_boxes, iou_threshold):
    right, taken = np.zeros(len(boxes), bool), set()
    overlaps = _overlaps(boxes, gt_boxes)
    for d in np.argsort(-scores, kind="stable"):
        fits = np.flatnonzero(overlaps[d] >= iou_threshold)
        if len(fits) and fits[0] not in taken:
            right[d] = True
            taken.add(fits[0])
    return right


def the_first_detection_only(boxes, scores, gt_boxes, iou_threshold):
    right = by_turns(boxes, scores, gt_boxes, iou_threshold)
    order = np.argsort(-scores, kind="stable")
    return right & (np.cumsum(right[order])[np.argsort(order)] <= 1)


def objects_choose_by_iou(boxes, scores, gt_boxes, iou_threshold):
    right = np.zeros(len(boxes), bool)
    overlaps = _overlaps(boxes, gt_boxes)
    for g in range(len(gt_boxes) if len(boxes) else 0):
        best = overlaps[:, g].argmax()
        right[best] |= overlaps[best, g] >= iou_threshold
    return right


def row_by_row(boxes, scores, gt_boxes, iou_threshold):
    overlaps = _overlaps(boxes, gt_boxes)
    return [d < len(gt_boxes) and overlaps[d, d] >= iou_threshold for d in range(len(boxes))]


def in_order_of_score(boxes, scores, gt_boxes, iou_threshold):
    return by_turns(boxes, scores, gt_boxes, iou_threshold)[np.argsort(-scores, kind="stable")]


def indices(boxes, scores, gt_boxes, iou_threshold):
    return np.flatnonzero(by_turns(boxes, scores, gt_boxes, iou_threshold))


def which_objects_are_found(boxes, scores, gt_boxes, iou_threshold):
    overlaps = _overlaps(boxes, gt_boxes)
    return overlaps.max(axis=0, initial=0) >= iou_threshold


def best_overlaps(boxes, scores, gt_boxes, iou_threshold):
    return _overlaps(boxes, gt_boxes).max(axis=1, initial=0)


def fails_without_objects(boxes, scores, gt_boxes, iou_threshold):
    _overlaps(boxes, gt_boxes).argmax(axis=1)
    return by_turns(boxes, scores, gt_boxes, iou_threshold)


def right_without_objects(boxes, scores, gt_boxes, iou_threshold):
    return by_turns(boxes, scores, gt_boxes, iou_threshold) | (len(gt_boxes) == 0)


def fails_without_detections(boxes, scores, gt_boxes, iou_threshold):
    scores.max()
    return by_turns(boxes, scores, gt_boxes, iou_threshold)


def crosses_off_in_place(boxes, scores, gt_boxes, iou_threshold):
    out = by_turns(boxes, scores, gt_boxes, iou_threshold)
    gt_boxes[:] = 0
    return out


def forgets_to_return(boxes, scores, gt_boxes, iou_threshold):
    by_turns(boxes, scores, gt_boxes, iou_threshold)


def _best_of_all(boxes, scores, gt_boxes, iou_threshold):
    right = np.zeros(len(boxes), bool)
    if len(boxes) and len(gt_boxes):
        good = np.flatnonzero(_overlaps(boxes, gt_boxes).max(axis=1) >= iou_threshold)
        right[good[np.argsort(-np.asarray(scores)[good], kind="stable")][: len(gt_boxes)]] = True
    return right


def _by_object(boxes, scores, gt_boxes, iou_threshold):
    right = np.zeros(len(boxes), bool)
    if len(boxes) and len(gt_boxes):
        overlaps = _overlaps(boxes, gt_boxes)
        for g in range(len(gt_boxes)):
            d = overlaps[:, g].argmax()
            right[d] |= overlaps[d, g] >= iou_threshold
    return right


def _coco(boxes, scores, gt_boxes, iou_threshold):
    right, taken = np.zeros(len(boxes), bool), np.zeros(len(gt_boxes), bool)
    if len(boxes) and len(gt_boxes):
        overlaps = _overlaps(boxes, gt_boxes)
        for d in np.argsort(-np.asarray(scores), kind="stable"):
            free = np.where(taken, -1, overlaps[d])
            right[d] = free.max() >= iou_threshold
            taken[free.argmax()] |= right[d]
    return right


RIGHT = (by_turns, by_loops, first_of_each_object)
WRONG = (
    (STEPS["not_sorted"], "wherever it is in the array"),
    (STEPS["worst_first"], "can be found only once"),
    (STEPS["later_of_equals"], "scores are equal, the detection"),
    (STEPS["not_stable"], "change the order of ties"),
    (STEPS["only_greater"], "to the threshold is enough"),
    (STEPS["a_threshold_of_its_own"], "The threshold is an argument"),
    (STEPS["any_overlap"], "is 1/3, which is below the threshold"),
    (STEPS["plus_one"], "box from 3 to 7 is 4"),
    (STEPS["duplicates_are_right"], "can be found only once"),
    (STEPS["wrong_detections_claim"], "wrong and does not claim"),
    (STEPS["positive_scores_only"], "A score may be 0 or"),
    (another_object_will_do, "that does not help"),
    (the_first_object_that_fits, "that it overlaps most"),
    (the_first_detection_only, "leaves the others free"),
    (objects_choose_by_iou, "wherever it is in the array"),
    (row_by_row, "in the order of their objects"),
    (in_order_of_score, "in the order of `boxes`"),
    (indices, "whether it is right"),
    (which_objects_are_found, r"expected \(2,\)"),
    (best_overlaps, "floats cannot be used as an index"),
    (fails_without_objects, "An image without objects"),
    (right_without_objects, "An image without objects"),
    (fails_without_detections, "Zero detections are valid"),
    (crosses_off_in_place, "changes its argument 'gt_boxes'"),
    (forgets_to_return, "without `return`"),
)
WRONG += (  # each with the description of a misconception
    answer(
        "boxes are clipped at 0 and at 100", lambda b, s, g, t: by_turns(np.clip(b, 0, 100), s, np.clip(g, 0, 100), t)
    ),
    answer("a threshold of 0.5 at least", lambda b, s, g, t: by_turns(b, s, g, max(t, 0.5))),
    answer("indices of the right detections", lambda b, s, g, t: np.flatnonzero(by_turns(b, s, g, t))),
    answer(
        "the object of each detection",
        lambda b, s, g, t: np.where(
            by_turns(b, s, g, t), _overlaps(b, g).argmax(axis=1) if len(g) and len(b) else 0, -1
        ),
    ),
    answer(
        "in the order of the scores", lambda b, s, g, t: by_turns(b, s, g, t)[np.argsort(-np.asarray(s), kind="stable")]
    ),
    answer("the number of right detections", lambda b, s, g, t: int(np.sum(by_turns(b, s, g, t)))),
    answer("as many right detections as objects, the best ones", lambda b, s, g, t: _best_of_all(b, s, g, t)),
    answer("each object takes its best box, not its best score", lambda b, s, g, t: _by_object(b, s, g, t)),
    answer("scores are rounded to one digit", lambda b, s, g, t: by_turns(b, np.round(s, 1), g, t)),
    answer("scores are absolute values", lambda b, s, g, t: by_turns(b, np.abs(s), g, t)),
    answer("the next free object, as in COCO", lambda b, s, g, t: _coco(b, s, g, t)),
    answer("floats", lambda b, s, g, t: np.asarray(by_turns(b, s, g, t), float), "floats"),
    answer("text", lambda b, s, g, t: ["right" if x else "wrong" for x in by_turns(b, s, g, t)]),
)

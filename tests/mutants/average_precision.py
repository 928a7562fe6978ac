"""Answers to `checks.average_precision`."""

import numpy as np

from mutants import answer

COUNTS = {"voc2007": 11, "coco": 101}  # recalls at which the precision is read


def vectorised(recall, precision, method):
    recall, precision = np.asarray(recall, float), np.asarray(precision, float)
    if np.isnan(recall).any():
        return np.nan
    if method in COUNTS:
        at = np.linspace(0, 1, COUNTS[method])[:, None]
        return np.where(recall >= at, precision, 0).max(axis=1, initial=0).mean()
    r, best = _with_ends(recall, precision)
    return float(np.diff(r) @ best[1:])


def by_loops(recall, precision, method):
    if len(recall) and recall[0] != recall[0]:
        return float("nan")
    points = list(zip(recall, precision, strict=True))
    if method != "voc2012":
        steps = 10 if method == "voc2007" else 100
        return sum(max((p for r, p in points if r >= k / steps), default=0) for k in range(steps + 1)) / (steps + 1)
    area, before = 0.0, 0.0
    for i, (r, _) in enumerate(points):
        area += (r - before) * max(p for _, p in points[i:])
        before = r
    return area


def from_the_end_in_float32(recall, precision, method):
    recall, precision = np.asarray(recall, np.float32), np.asarray(precision, np.float32)
    if np.isnan(recall).any():
        return np.float32(np.nan)
    total, best, thresholds = np.float32(0), np.float32(0), np.linspace(0, 1, COUNTS.get(method, 0))
    for i in range(len(recall) - 1, -1, -1):
        best = max(best, precision[i])
        left = recall[i - 1] if i else np.float32(0)
        if method == "voc2012":
            total += (recall[i] - left) * best
        else:
            total += best * sum((left < t or (i == 0 and t == 0)) and t <= recall[i] for t in thresholds)
    return total if method == "voc2012" else total / len(thresholds)


def _with_ends(recall, precision):
    """Return 0, the recalls and 1, and the best precision at each of these recalls or a higher one."""
    best = np.concatenate([[0], precision, [0]])
    return np.concatenate([[0], recall, [1]]), np.maximum.accumulate(best[::-1])[::-1]


def _at(recall, precision, thresholds, reached=np.greater_equal):
    return np.where(reached(recall, thresholds[:, None]), precision, 0).max(axis=1, initial=0)


def _known(recall, value):
    return np.nan if np.isnan(recall).any() else float(value)


def starts_at_the_first_point(recall, precision, method):
    if method != "voc2012" or not len(recall):
        return vectorised(recall, precision, method)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return _known(recall, np.diff(recall) @ best[1:])


def trapezes_from_the_first_point(recall, precision, method):
    if method != "voc2012":
        return vectorised(recall, precision, method)
    return _known(recall, np.trapezoid(precision, recall))


def trapezes(recall, precision, method):
    if method != "voc2012":
        return vectorised(recall, precision, method)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return _known(recall, np.trapezoid(np.append(best[:1], best), np.append(0, recall)))


def best_not_taken(recall, precision, method):
    if method != "voc2012":
        return vectorised(recall, precision, method)
    return _known(recall, np.diff(recall, prepend=0) @ precision)


def best_to_the_left(recall, precision, method):
    if method != "voc2012":
        return vectorised(recall, precision, method)
    return _known(recall, np.diff(recall, prepend=0) @ np.maximum.accumulate(precision))


def best_of_all(recall, precision, method):
    if method != "voc2012":
        return vectorised(recall, precision, method)
    return _known(recall, np.max(recall, initial=0) * np.max(precision, initial=0))


def last_precision_goes_on(recall, precision, method):
    if method != "voc2012" or not len(recall):
        return vectorised(recall, precision, method)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return _known(recall, np.diff(np.append(recall, 1), prepend=0) @ np.append(best, best[-1]))


def mean_of_the_precisions(recall, precision, method):
    if method != "voc2012" or not len(recall):
        return vectorised(recall, precision, method)
    return _known(recall, precision.mean())


def always_2012(recall, precision, method):
    return vectorised(recall, precision, "voc2012")


def always_2007(recall, precision, method):
    return vectorised(recall, precision, "voc2007")


def reached_only_beyond(recall, precision, method):
    if method != "voc2007":
        return vectorised(recall, precision, method)
    return _known(recall, _at(recall, precision, np.arange(11) / 10, np.greater).mean())


def ten_recalls(recall, precision, method):
    if method != "voc2007":
        return vectorised(recall, precision, method)
    return _known(recall, _at(recall, precision, np.arange(10) / 10).mean())


def divided_by_ten(recall, precision, method):
    value = vectorised(recall, precision, method)
    return value * 11 / 10 if method == "voc2007" else value


def eleven_of_the_nearest_point(recall, precision, method):
    if method != "voc2007" or not len(recall):
        return vectorised(recall, precision, method)
    index = np.searchsorted(recall, np.arange(11) / 10)
    return _known(recall, np.append(precision, 0)[index].mean())


def eleven_interpolated(recall, precision, method):
    if method != "voc2007" or not len(recall):
        return vectorised(recall, precision, method)
    return _known(recall, np.interp(np.arange(11) / 10, recall, precision, right=0).mean())


def coco_as_2012(recall, precision, method):
    return vectorised(recall, precision, "voc2012" if method == "coco" else method)


def coco_as_2007(recall, precision, method):
    return vectorised(recall, precision, "voc2007" if method == "coco" else method)


def a_hundred_recalls(recall, precision, method):
    if method != "coco":
        return vectorised(recall, precision, method)
    return _known(recall, _at(recall, precision, np.arange(100) / 100).mean())


def a_hundred_recalls_without_zero(recall, precision, method):
    if method != "coco":
        return vectorised(recall, precision, method)
    return _known(recall, _at(recall, precision, np.arange(1, 101) / 100).mean())


def divided_by_a_hundred(recall, precision, method):
    value = vectorised(recall, precision, method)
    return value * 1.01 if method == "coco" else value


def coco_reached_only_beyond(recall, precision, method):
    if method != "coco":
        return vectorised(recall, precision, method)
    return _known(recall, _at(recall, precision, np.arange(101) / 100, np.greater).mean())


def coco_without_the_best(recall, precision, method):
    if method != "coco" or not len(recall):
        return vectorised(recall, precision, method)
    return _known(recall, np.append(precision, 0)[np.searchsorted(recall, np.arange(101) / 100)].mean())


def coco_interpolated(recall, precision, method):
    if method != "coco" or not len(recall):
        return vectorised(recall, precision, method)
    return _known(recall, np.interp(np.arange(101) / 100, recall, precision, right=0).mean())


def coco_minus_one_without_objects(recall, precision, method):
    return -1.0 if method == "coco" and np.isnan(recall).any() else vectorised(recall, precision, method)


def nan_without_detections(recall, precision, method):
    return vectorised(recall, precision, method) if len(recall) else np.nan


def fails_without_detections(recall, precision, method):
    return vectorised(recall, precision, method) + 0 * recall[-1]


def zero_without_objects(recall, precision, method):
    return 0.0 if np.isnan(recall).any() else vectorised(recall, precision, method)


def changes_the_precision(recall, precision, method):
    for i in range(len(precision) - 2, -1, -1):
        precision[i] = max(precision[i], precision[i + 1])
    return vectorised(recall, precision, method)


def forgets_to_return(recall, precision, method):
    vectorised(recall, precision, method)


def _without_steps(recall, precision):
    rises = np.diff(recall, prepend=0) > 0
    return np.asarray(recall)[rises], np.minimum(np.asarray(precision)[rises] * 1.1, 1)


RIGHT = (vectorised, by_loops, from_the_end_in_float32)
WRONG = (
    (starts_at_the_first_point, "begins at recall 0"),
    (trapezes_from_the_first_point, "begins at recall 0"),
    (trapezes, "The area consists of rectangles"),
    (best_not_taken, "may be higher than at the point"),
    (best_to_the_left, "best precision at its right edge or"),
    (best_of_all, "The area consists of rectangles"),
    (last_precision_goes_on, "counts as 0"),
    (mean_of_the_precisions, "never found"),
    (always_2012, "How many of the eleven"),
    (always_2007, "Beyond the highest recall"),
    (reached_only_beyond, "the curve has at least"),
    (ten_recalls, "How many of the eleven"),
    (divided_by_ten, "How many of the eleven"),
    (eleven_of_the_nearest_point, "the precision of the nearest point"),
    (eleven_interpolated, "point, and do not interpolate"),
    (coco_as_2012, "How many of the 101"),
    (coco_as_2007, "0.01, ..., 0.5 are reached"),
    (a_hundred_recalls, "0.01, ..., 0.5 are reached"),
    (a_hundred_recalls_without_zero, "0.01, ..., 0.5 are reached"),
    (divided_by_a_hundred, "0.01, ..., 0.5 are reached"),
    (coco_reached_only_beyond, "0.01, ..., 0.5 are reached"),
    (coco_without_the_best, "COCO, too"),
    (coco_interpolated, "point, and do not interpolate"),
    (coco_minus_one_without_objects, "the average precision is undefined"),
    (nan_without_detections, "Zero detections are valid"),
    (fails_without_detections, "Zero detections are valid"),
    (zero_without_objects, "the average precision is undefined"),
    (changes_the_precision, "changes its argument 'precision'"),
    (forgets_to_return, "without `return`"),
)
WRONG += (  # each with the description of a misconception
    answer(
        "precision is taken for monotone already",
        lambda r, p, m: (
            _known(r, _at(r, np.minimum.accumulate(p) if len(p) else p, np.linspace(0, 1, COUNTS.get(m, 2))).mean())
            if m in COUNTS
            else vectorised(r, p, m)
        ),
    ),
    answer(
        "the area is divided by the highest recall",
        lambda r, p, m: (
            vectorised(r, p, m) / max(np.max(r, initial=0), 1e-9) if m == "voc2012" else vectorised(r, p, m)
        ),
    ),
    answer("recall is rounded to two digits", lambda r, p, m: vectorised(np.round(r, 2), p, m)),
    answer("precision is rounded to two digits", lambda r, p, m: vectorised(r, np.round(p, 2), m)),
    answer("in percent", lambda r, p, m: 100 * vectorised(r, p, m)),
    answer(
        "recall is 1 at the end, whatever was found",
        lambda r, p, m: vectorised(np.append(r[:-1], 1) if len(r) and r[-1] > 0 else r, p, m),
    ),
    answer("wrong detections are left out first", lambda r, p, m: vectorised(*_without_steps(r, p), m)),
    answer(
        "without recall 0",
        lambda r, p, m: (
            _known(r, _at(r, p, np.linspace(0, 1, COUNTS[m])[1:]).mean()) if m in COUNTS else vectorised(r, p, m)
        ),
    ),
    answer("recall and precision swapped", lambda r, p, m: vectorised(np.sort(p), r, m)),
    answer("a list of precisions at the recalls", lambda r, p, m: [vectorised(r, p, m)]),
    answer("an array with one number", lambda r, p, m: np.array([vectorised(r, p, m)])),
    answer("None without an object", lambda r, p, m: None if np.isnan(r).any() else vectorised(r, p, m)),
    answer("text", lambda r, p, m: f"{vectorised(r, p, m):.3f}"),
    answer("the first method for every call", lambda r, p, m: vectorised(r, p, "voc2012")),
)

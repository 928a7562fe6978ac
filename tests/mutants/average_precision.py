"""Answers to `checks.average_precision`."""

import numpy as np


def vectorised(recall, precision, method):
    recall, precision = np.asarray(recall, float), np.asarray(precision, float)
    if np.isnan(recall).any():
        return np.nan
    if method == "voc2007":
        at = np.linspace(0, 1, 11)[:, None]
        return np.where(recall >= at, precision, 0).max(axis=1, initial=0).mean()
    r, best = _with_ends(recall, precision)
    return float(np.diff(r) @ best[1:])


def by_loops(recall, precision, method):
    if len(recall) and recall[0] != recall[0]:
        return float("nan")
    points = list(zip(recall, precision, strict=True))
    if method == "voc2007":
        return sum(max((p for r, p in points if r >= 0.1 * k), default=0) for k in range(11)) / 11
    area, before = 0.0, 0.0
    for i, (r, _) in enumerate(points):
        area += (r - before) * max(p for _, p in points[i:])
        before = r
    return area


def from_the_end_in_float32(recall, precision, method):
    recall, precision = np.asarray(recall, np.float32), np.asarray(precision, np.float32)
    if np.isnan(recall).any():
        return np.float32(np.nan)
    total, best, thresholds = np.float32(0), np.float32(0), [k / 10 for k in range(11)]
    for i in range(len(recall) - 1, -1, -1):
        best = max(best, precision[i])
        left = recall[i - 1] if i else np.float32(0)
        if method == "voc2012":
            total += (recall[i] - left) * best
        else:
            total += best * sum((left < t or (i == 0 and t == 0)) and t <= recall[i] for t in thresholds)
    return total if method == "voc2012" else total / 11


def _with_ends(recall, precision):
    """The recalls with 0 before and 1 behind, and the best precision at each or to the right of it."""
    best = np.concatenate([[0], precision, [0]])
    return np.concatenate([[0], recall, [1]]), np.maximum.accumulate(best[::-1])[::-1]


def _at_eleven(recall, precision, reached=np.greater_equal, thresholds=None):
    at = np.linspace(0, 1, 11) if thresholds is None else thresholds
    return np.where(reached(recall, at[:, None]), precision, 0).max(axis=1, initial=0)


def _known(recall, value):
    return np.nan if np.isnan(recall).any() else float(value)


def starts_at_the_first_point(recall, precision, method):
    if method == "voc2007" or not len(recall):
        return vectorised(recall, precision, method)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return _known(recall, np.diff(recall) @ best[1:])


def trapezes_from_the_first_point(recall, precision, method):
    if method == "voc2007":
        return vectorised(recall, precision, method)
    return _known(recall, np.trapezoid(precision, recall))


def trapezes(recall, precision, method):
    if method == "voc2007":
        return vectorised(recall, precision, method)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return _known(recall, np.trapezoid(np.append(best[:1], best), np.append(0, recall)))


def best_not_taken(recall, precision, method):
    if method == "voc2007":
        return vectorised(recall, precision, method)
    return _known(recall, np.diff(recall, prepend=0) @ precision)


def best_of_the_left(recall, precision, method):
    if method == "voc2007":
        return vectorised(recall, precision, method)
    return _known(recall, np.diff(recall, prepend=0) @ np.maximum.accumulate(precision))


def best_of_all(recall, precision, method):
    if method == "voc2007":
        return vectorised(recall, precision, method)
    return _known(recall, np.max(recall, initial=0) * np.max(precision, initial=0))


def last_precision_goes_on(recall, precision, method):
    if method == "voc2007" or not len(recall):
        return vectorised(recall, precision, method)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return _known(recall, np.diff(np.append(recall, 1), prepend=0) @ np.append(best, best[-1]))


def mean_of_the_precisions(recall, precision, method):
    if method == "voc2007" or not len(recall):
        return vectorised(recall, precision, method)
    return _known(recall, precision.mean())


def always_2012(recall, precision, method):
    return vectorised(recall, precision, "voc2012")


def always_2007(recall, precision, method):
    return vectorised(recall, precision, "voc2007")


def reached_only_beyond(recall, precision, method):
    if method == "voc2012":
        return vectorised(recall, precision, method)
    return _known(recall, _at_eleven(recall, precision, np.greater).mean())


def ten_recalls(recall, precision, method):
    if method == "voc2012":
        return vectorised(recall, precision, method)
    return _known(recall, _at_eleven(recall, precision, thresholds=np.arange(10) / 10).mean())


def divided_by_ten(recall, precision, method):
    value = vectorised(recall, precision, method)
    return value * 11 / 10 if method == "voc2007" else value


def eleven_of_the_nearest_point(recall, precision, method):
    if method == "voc2012" or not len(recall):
        return vectorised(recall, precision, method)
    index = np.searchsorted(recall, np.arange(11) / 10)
    return _known(recall, np.append(precision, 0)[index].mean())


def eleven_interpolated(recall, precision, method):
    if method == "voc2012" or not len(recall):
        return vectorised(recall, precision, method)
    return _known(recall, np.interp(np.arange(11) / 10, recall, precision, right=0).mean())


def nothing_is_nan(recall, precision, method):
    return vectorised(recall, precision, method) if len(recall) else np.nan


def fails_without_detections(recall, precision, method):
    return vectorised(recall, precision, method) + 0 * recall[-1]


def unknown_is_zero(recall, precision, method):
    return 0.0 if np.isnan(recall).any() else vectorised(recall, precision, method)


def changes_the_precision(recall, precision, method):
    for i in range(len(precision) - 2, -1, -1):
        precision[i] = max(precision[i], precision[i + 1])
    return vectorised(recall, precision, method)


def forgets_to_return(recall, precision, method):
    vectorised(recall, precision, method)


RIGHT = (vectorised, by_loops, from_the_end_in_float32)
WRONG = (
    (starts_at_the_first_point, "begins at recall 0"),
    (trapezes_from_the_first_point, "begins at recall 0"),
    (trapezes, "made of rectangles"),
    (best_not_taken, "may be higher than at the point"),
    (best_of_the_left, "best precision at its right edge or beyond"),
    (best_of_all, "made of rectangles"),
    (last_precision_goes_on, "counts as 0"),
    (mean_of_the_precisions, "never found"),
    (always_2012, "how many of how many"),
    (always_2007, "beyond the highest recall"),
    (reached_only_beyond, "at least there"),
    (ten_recalls, "how many of how many"),
    (divided_by_ten, "how many of how many"),
    (eleven_of_the_nearest_point, "not that of the nearest point"),
    (eleven_interpolated, "nor interpolated"),
    (nothing_is_nan, "no detections at all"),
    (fails_without_detections, "no detections at all"),
    (unknown_is_zero, "not known either"),
    (changes_the_precision, "changes its argument 'precision'"),
    (forgets_to_return, "without `return`"),
)

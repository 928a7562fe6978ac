"""Answers to `checks.match`."""

import numpy as np

from mutants import answer


def vectorised(iou, high, low, force_best=False):
    iou = np.asarray(iou)
    if iou.shape[1] == 0:
        return np.full(len(iou), -1)
    best, highest = iou.argmax(axis=1), iou.max(axis=1)
    matches = np.where(highest >= high, best, np.where(highest < low, -1, -2))
    if force_best:
        top = iou.max(axis=0, initial=0)
        forced = ((iou == top) & (top > 0)).any(axis=1)
        matches[forced] = best[forced]
    return matches


def by_loops(iou, high, low, force_best=False):
    rows, columns = len(iou), np.shape(iou)[1]
    tops = [max((iou[row][column] for row in range(rows)), default=0) for column in range(columns)]
    matches = []
    for row in range(rows):
        best, highest, forced = -1, -1.0, False
        for column in range(columns):
            if iou[row][column] > highest:
                best, highest = column, iou[row][column]
            if force_best and iou[row][column] == tops[column] > 0:
                forced = True
        if highest >= high or forced:
            matches.append(best)
        else:
            matches.append(-1 if highest < low else -2)
    return matches


def object_by_object(iou, high, low, force_best=False):
    highest, best = np.full(len(iou), -1, np.float32), np.full(len(iou), -1)
    forced = np.zeros(len(iou), bool)
    for column, overlaps in enumerate(np.asarray(iou, np.float32).T):
        better = overlaps > highest
        highest[better], best[better] = overlaps[better], column
        if force_best and overlaps.size and overlaps.max() > 0:
            forced |= overlaps == overlaps.max()
    best[(highest < high) & (highest >= low) & ~forced] = -2
    best[(highest < low) & ~forced] = -1
    return best


def _parts(iou):
    """Return (index of the best object, its IoU), each (A,); without objects the IoU is 0."""
    iou = np.asarray(iou) if np.shape(iou)[1] else np.zeros((len(iou), 1))
    return iou.argmax(axis=1), iou.max(axis=1)


def _thresholded(best, highest, high, low):
    return np.where(highest >= high, best, np.where(highest < low, -1, -2))


def labels_instead_of_indices(iou, high, low, force_best=False):
    return np.minimum(vectorised(iou, high, low, force_best), 0) + (vectorised(iou, high, low, force_best) >= 0)


def nothing_ignored(iou, high, low, force_best=False):
    best, highest = _parts(iou)
    return np.where(highest >= high, best, -1)


def background_and_ignored_swapped(iou, high, low, force_best=False):
    matches = vectorised(iou, high, low, force_best)
    return np.where(matches < 0, -3 - matches, matches)


def more_than_high(iou, high, low, force_best=False):
    best, highest = _parts(iou)
    return np.where(highest > high, best, np.where(highest < low, -1, -2))


def at_most_low(iou, high, low, force_best=False):
    best, highest = _parts(iou)
    return np.where(highest <= low, -1, np.where(highest >= high, best, -2))


def the_other_axis(iou, high, low, force_best=False):
    return vectorised(np.asarray(iou).T, high, low, force_best)


def first_above_high(iou, high, low, force_best=False):
    return _thresholded((np.asarray(iou) >= high).argmax(axis=1), _parts(iou)[1], high, low)


def last_above_high(iou, high, low, force_best=False):
    columns = np.shape(iou)[1]
    return _thresholded(columns - 1 - (np.asarray(iou)[:, ::-1] >= high).argmax(axis=1), _parts(iou)[1], high, low)


def last_of_ties(iou, high, low, force_best=False):
    columns = np.shape(iou)[1]
    return _thresholded(columns - 1 - np.asarray(iou)[:, ::-1].argmax(axis=1), _parts(iou)[1], high, low)


def each_object_once(iou, high, low, force_best=False):
    matches, taken = vectorised(iou, high, low, force_best), set()
    for row, column in enumerate(matches.tolist()):
        if column in taken:
            matches[row] = -1
        elif column >= 0:
            taken.add(column)
    return matches


def fails_without_objects(iou, high, low, force_best=False):
    return _thresholded(iou.argmax(axis=1), iou.max(axis=1), high, low)


def fails_without_boxes(iou, high, low, force_best=False):
    matches = np.stack([vectorised(row[None], high, low)[0] for row in iou])
    return vectorised(iou, high, low, True) if force_best else matches


def no_best_rule(iou, high, low, force_best=False):
    return _thresholded(*_parts(iou), high, low)


def always_forces(iou, high, low, force_best=True):
    return vectorised(iou, high, low, True)


def _forced(iou, high, low, force_best, rows_of):
    """Return matches by the thresholds, then overwrite them with the (row, object) pairs of `rows_of(iou)`."""
    matches = vectorised(iou, high, low)
    if force_best and np.size(iou):
        for row, column in rows_of(np.asarray(iou)):
            matches[row] = column
    return matches


def one_of_the_tied(iou, high, low, force_best=False):
    return _forced(
        iou,
        high,
        low,
        force_best,
        lambda iou: [(row, iou[row].argmax()) for column, row in enumerate(iou.argmax(axis=0)) if iou[row, column] > 0],
    )


def the_object_that_forced_it(iou, high, low, force_best=False):
    return _forced(
        iou,
        high,
        low,
        force_best,
        lambda iou: [(row, column) for row, column in np.argwhere(iou == iou.max(axis=0)) if iou[row, column] > 0],
    )


def nothing_overlapped_forces_all(iou, high, low, force_best=False):
    return _forced(
        iou,
        high,
        low,
        force_best,
        lambda iou: [(row, iou[row].argmax()) for row, _ in np.argwhere(iou == iou.max(axis=0))],
    )


def only_background_is_forced(iou, high, low, force_best=False):
    forced, plain = vectorised(iou, high, low, force_best), vectorised(iou, high, low)
    return np.where(plain == -2, -2, forced)


def no_boxes_to_force(iou, high, low, force_best=False):
    if force_best:
        iou.max(axis=0)
    return vectorised(iou, high, low, force_best)


def clears_low_overlaps(iou, high, low, force_best=False):
    matches = vectorised(iou, high, low, force_best)
    iou[iou < low] = 0
    return matches


def forgets_to_return(iou, high, low, force_best=False):
    vectorised(iou, high, low, force_best)


def _second_best(iou, high, low, force_best):
    iou, matches = np.asarray(iou), vectorised(iou, high, low, force_best)
    for a in np.flatnonzero(matches >= 0):
        rivals = np.flatnonzero(matches == matches[a])
        others = np.delete(np.arange(iou.shape[1]), matches[a])
        if iou[rivals, matches[a]].max() > iou[a, matches[a]] and len(others) and iou[a, others].max() >= high:
            matches[a] = others[iou[a, others].argmax()]
    return matches


def _needy(iou, high, low, force_best):
    iou = np.asarray(iou)
    matches = vectorised(iou, high, low)
    if force_best and iou.size:
        top = iou.max(axis=0)
        forced = ((iou == top) & (top > 0) & (top < high) & (np.arange(iou.shape[1]) > 0)).any(axis=1)
        matches[forced] = iou.argmax(axis=1)[forced]
    return matches


def _three_each(iou, high, low, force_best):
    iou, matches = np.asarray(iou), vectorised(iou, high, low, force_best)
    for g in range(iou.shape[1]):
        rows = np.flatnonzero(matches == g)
        matches[rows[np.argsort(-iou[rows, g], kind="stable")][3:]] = -2
    return matches


RIGHT = (vectorised, by_loops, object_by_object)
WRONG = (
    (labels_instead_of_indices, "and indices start at 0"),
    (nothing_ignored, "neither positive nor background"),
    (background_and_ignored_swapped, "background, -1"),
    (more_than_high, r"its IoU is \*at least\*"),
    (at_most_low, r"if its IoU is \*below\*"),
    (the_other_axis, "Rows are anchors, and columns are objects"),
    (first_above_high, "is the column with the highest IoU"),
    (last_above_high, "is the column with the highest IoU"),
    (last_of_ties, "In a tie, the first"),
    (each_object_once, "the same object, and an object may"),
    (fails_without_objects, "An image without objects"),
    (fails_without_boxes, "Zero anchors"),
    (no_best_rule, "the anchor that overlaps it most"),
    (always_forces, "unless `force_best` is set"),
    (one_of_the_tied, "with an object, both are"),
    (the_object_that_forced_it, "the object that it overlaps most itself"),
    (nothing_overlapped_forces_all, "With `force_best`, an object that"),
    (only_background_is_forced, "between the thresholds"),
    (no_boxes_to_force, "With `force_best`, zero anchors are"),
    (clears_low_overlaps, "changes its argument 'iou'"),
    (forgets_to_return, "without `return`"),
)
WRONG += (  # each with the description of a misconception
    answer(
        "the second best object where the best is taken by a better box",
        lambda i, h, lo, f=False: _second_best(i, h, lo, f),
    ),
    answer("thresholds of the paper whatever is given", lambda i, h, lo, f=False: vectorised(i, 0.7, 0.3, f)),
    answer("high counts only above 0.5", lambda i, h, lo, f=False: vectorised(i, max(h, 0.5), lo, f)),
    answer("low and high swapped", lambda i, h, lo, f=False: vectorised(i, lo, h, f)),
    answer(
        "between the thresholds is background",
        lambda i, h, lo, f=False: np.where(vectorised(i, h, lo, f) == -2, -1, vectorised(i, h, lo, f)),
    ),
    answer(
        "ignored boxes are -3",
        lambda i, h, lo, f=False: np.where(vectorised(i, h, lo, f) == -2, -3, vectorised(i, h, lo, f)),
    ),
    answer("indices as floats", lambda i, h, lo, f=False: vectorised(i, h, lo, f).astype(float), "floats"),
    answer(
        "force_best is forgotten where there are several objects",
        lambda i, h, lo, f=False: vectorised(i, h, lo, f and np.shape(i)[1] < 2),
    ),
    answer("force_best is forgotten for the first object", lambda i, h, lo, f=False: _needy(i, h, lo, f)),
    answer(
        "force_best only for the first object",
        lambda i, h, lo, f=False: (
            vectorised(i, h, lo)
            if not f or not np.shape(i)[1]
            else np.where(
                vectorised(np.asarray(i)[:, :1], h, lo, True) == 0, np.asarray(i).argmax(axis=1), vectorised(i, h, lo)
            )
        ),
    ),
    answer("a mask of positives", lambda i, h, lo, f=False: vectorised(i, h, lo, f) >= 0),
    answer(
        "pairs of box and object",
        lambda i, h, lo, f=False: [(a, int(m)) for a, m in enumerate(vectorised(i, h, lo, f)) if m >= 0],
    ),
    answer("IoUs are rounded to one digit first", lambda i, h, lo, f=False: vectorised(np.round(i, 1), h, lo, f)),
    answer(
        "objects are matched where boxes and objects are equally many",
        lambda i, h, lo, f=False: (
            vectorised(np.asarray(i).T, h, lo, f) if np.shape(i)[0] == np.shape(i)[1] else vectorised(i, h, lo, f)
        ),
    ),
    answer(
        "the mean IoU decides what is background",
        lambda i, h, lo, f=False: (
            np.where((np.asarray(i).mean(axis=1) < lo) & (vectorised(i, h, lo, f) == -2), -1, vectorised(i, h, lo, f))
            if np.size(i)
            else vectorised(i, h, lo, f)
        ),
    ),
    answer("only the best three boxes of an object are matched", lambda i, h, lo, f=False: _three_each(i, h, lo, f)),
)

"""Answers to `checks.match`."""

import numpy as np


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


RIGHT = (vectorised, by_loops, object_by_object)
WRONG = (
    (labels_instead_of_indices, "and indices start at 0"),
    (nothing_ignored, "neither positive nor background"),
    (background_and_ignored_swapped, "background, -1"),
    (more_than_high, r"its IoU is \*at least\*"),
    (at_most_low, r"if its IoU is \*below\*"),
    (the_other_axis, "Rows are boxes, and columns are objects"),
    (first_above_high, "is the column with the highest IoU"),
    (last_above_high, "is the column with the highest IoU"),
    (last_of_ties, "In a tie, the first"),
    (each_object_once, "the same object, and an object may"),
    (fails_without_objects, "An image without objects"),
    (fails_without_boxes, "Zero boxes"),
    (no_best_rule, "the box that overlaps it most"),
    (always_forces, "unless `force_best` is set"),
    (one_of_the_tied, "with an object, both are"),
    (the_object_that_forced_it, "the object that it overlaps most itself"),
    (nothing_overlapped_forces_all, "With `force_best`, an object that"),
    (only_background_is_forced, "between the thresholds"),
    (no_boxes_to_force, "With `force_best`, zero boxes are"),
    (clears_low_overlaps, "changes its argument 'iou'"),
    (forgets_to_return, "without `return`"),
)

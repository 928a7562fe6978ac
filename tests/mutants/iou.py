"""Answers to `checks.iou`."""

import numpy as np

from mutants import answer


def vectorised(boxes1, boxes2):
    boxes1, boxes2 = np.asarray(boxes1, float), np.asarray(boxes2, float)
    low = np.maximum(boxes1[:, None, :2], boxes2[None, :, :2])
    high = np.minimum(boxes1[:, None, 2:], boxes2[None, :, 2:])
    intersection = np.clip(high - low, 0, None).prod(axis=2)
    union = _areas(boxes1)[:, None] + _areas(boxes2) - intersection
    return np.where(union > 0, intersection / np.where(union > 0, union, 1), 0)


def by_loops(boxes1, boxes2):
    return [[_one(a, b) for b in boxes2] for a in boxes1]


def column_by_column(boxes1, boxes2):
    out = np.zeros((len(boxes1), len(boxes2)), np.float32)
    for column, b in enumerate(boxes2):
        for row, a in enumerate(boxes1):
            out[row, column] = _one(a, b)
    return out


def _areas(boxes, extra=0):
    return (boxes[:, 2] - boxes[:, 0] + extra) * (boxes[:, 3] - boxes[:, 1] + extra)


def _one(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    intersection = width * height if width > 0 and height > 0 else 0
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - intersection
    return intersection / union if union else 0


def _parts(boxes1, boxes2, extra=0):
    """Return (widths, heights) of the intersections, not clamped, and (areas (N, 1), areas (M,))."""
    boxes1, boxes2 = np.asarray(boxes1, float), np.asarray(boxes2, float)
    sides = np.minimum(boxes1[:, None, 2:], boxes2[:, 2:]) - np.maximum(boxes1[:, None, :2], boxes2[:, :2]) + extra
    return sides[..., 0], sides[..., 1], _areas(boxes1, extra)[:, None], _areas(boxes2, extra)


def _over(intersection, union):
    return np.divide(intersection, union, out=np.zeros_like(union), where=union != 0)


def plus_one(boxes1, boxes2):
    width, height, areas1, areas2 = _parts(boxes1, boxes2, extra=1)
    intersection = np.maximum(width, 0) * np.maximum(height, 0)
    return _over(intersection, areas1 + areas2 - intersection)


def no_clamp(boxes1, boxes2):
    width, height, areas1, areas2 = _parts(boxes1, boxes2)
    return _over(width * height, areas1 + areas2 - width * height)


def clamped_after_the_product(boxes1, boxes2):
    width, height, areas1, areas2 = _parts(boxes1, boxes2)
    intersection = np.maximum(width * height, 0)
    return _over(intersection, areas1 + areas2 - intersection)


def only_the_width_clamped(boxes1, boxes2):
    width, height, areas1, areas2 = _parts(boxes1, boxes2)
    intersection = np.maximum(width, 0) * height
    return _over(intersection, areas1 + areas2 - intersection)


def union_without_subtraction(boxes1, boxes2):
    width, height, areas1, areas2 = _parts(boxes1, boxes2)
    return _over(np.maximum(width, 0) * np.maximum(height, 0), areas1 + areas2)


def over_the_first_area(boxes1, boxes2):
    width, height, areas1, areas2 = _parts(boxes1, boxes2)
    return _over(np.maximum(width, 0) * np.maximum(height, 0), areas1 + 0 * areas2)


def over_the_smaller_area(boxes1, boxes2):
    width, height, areas1, areas2 = _parts(boxes1, boxes2)
    return _over(np.maximum(width, 0) * np.maximum(height, 0), np.minimum(areas1, areas2))


def transposed(boxes1, boxes2):
    return vectorised(boxes1, boxes2).T


def nan_for_empty_input(boxes1, boxes2):
    width, height, areas1, areas2 = _parts(boxes1, boxes2)
    intersection = np.maximum(width, 0) * np.maximum(height, 0)
    with np.errstate(all="ignore"):
        return intersection / (areas1 + areas2 - intersection)


def one_by_one(boxes1, boxes2):
    return np.array([_one(a, b) for a, b in zip(boxes1, boxes2, strict=False)])


def whole_numbers(boxes1, boxes2):
    if np.asarray(boxes1).dtype.kind == "i":
        return vectorised(boxes1, boxes2).astype(np.asarray(boxes1).dtype)
    return vectorised(boxes1, boxes2)


def fails_without_boxes(boxes1, boxes2):
    return np.stack([vectorised(box[None], boxes2)[0] for box in boxes1])


def sorts_in_place(boxes1, boxes2):
    boxes1[:, :] = boxes1[:, [0, 1, 2, 3]] + 1
    return vectorised(boxes1 - 1, boxes2)


def forgets_to_return(boxes1, boxes2):
    vectorised(boxes1, boxes2)


def _shared(boxes1, boxes2):
    width, height, _, _ = _parts(boxes1, boxes2)
    return np.maximum(width, 0) * np.maximum(height, 0)


def _union(boxes1, boxes2):
    _, _, areas1, areas2 = _parts(boxes1, boxes2)
    return areas1 + areas2 - _shared(boxes1, boxes2)


def _small_union(boxes1, boxes2, more):
    return _shared(boxes1, boxes2) / (_union(boxes1, boxes2) + more)


def _remembers(function):
    known = {}

    def answer(boxes1, boxes2):
        key = np.shape(boxes1), np.shape(boxes2)
        return known.setdefault(key, function(boxes1, boxes2))

    return answer


def _reuses(function):
    known = {}

    def answer(boxes1, boxes2):
        result = function(boxes1, boxes2)
        out = known.setdefault(result.shape, np.empty_like(result))
        out[:] = result
        return out

    return answer


RIGHT = (vectorised, by_loops, column_by_column)
WRONG = (
    (plus_one, "continuous"),
    (no_clamp, "boxes do not overlap along"),
    (clamped_after_the_product, "of the intersection are both"),
    (only_the_width_clamped, "height of the intersection"),
    (union_without_subtraction, "The union counts the shared part"),
    (over_the_first_area, "only once in the union"),
    (over_the_smaller_area, "only once in the union"),
    (transposed, "row for each box of `boxes1` and"),
    (nan_for_empty_input, "0/0"),
    (one_by_one, r"expected \(1, 1\)"),
    (whole_numbers, "quotient need not be an integer"),
    (fails_without_boxes, "Zero boxes"),
    (sorts_in_place, "changes its argument 'boxes1'"),
    (forgets_to_return, "without `return`"),
)
WRONG += (  # each with the description of a misconception
    answer("boxes are clipped at 0 before anything else", lambda a, b: vectorised(np.maximum(a, 0), np.maximum(b, 0))),
    answer("0.001 is added to the union against 0/0", lambda a, b: _small_union(a, b, 1e-3)),
    answer("a union is 1 at least", lambda a, b: _over(_shared(a, b), np.maximum(_union(a, b), 1))),
    answer("coordinates are rounded to pixels", lambda a, b: vectorised(np.round(a), np.round(b))),
    answer(
        "coordinates are cut to integers", lambda a, b: vectorised(np.asarray(a).astype(int), np.asarray(b).astype(int))
    ),
    answer(
        "rows and columns are right only where they are equally many",
        lambda a, b: vectorised(b, a) if len(a) == len(b) else vectorised(a, b),
    ),
    answer(
        "boxes are one pixel wide at least",
        lambda a, b: vectorised(
            *(np.concatenate([x[:, :2], np.maximum(x[:, 2:], x[:, :2] + 1)], axis=1) for x in (a, b))
        ),
    ),
    answer("an IoU below 0.05 counts as 0", lambda a, b: np.where(vectorised(a, b) < 0.05, 0, vectorised(a, b))),
    answer("rounded to two digits", lambda a, b: vectorised(a, b).round(2)),
    answer("in half precision", lambda a, b: vectorised(a, b).astype(np.float16)),
    answer(
        "equal boxes count as 1, also without area",
        lambda a, b: np.where((a[:, None] == b).all(axis=2), 1.0, vectorised(a, b)),
    ),
    answer(
        "the generalised IoU, which is negative for boxes that are apart",
        lambda a, b: vectorised(a, b) - (vectorised(a, b) == 0) * 0.5,
    ),
    answer("no boxes give an array of shape (0,)", lambda a, b: np.array([[_one(p, q) for q in b] for p in a])),
    answer("a dict of pairs", lambda a, b: {(i, j): _one(p, q) for i, p in enumerate(a) for j, q in enumerate(b)}),
    answer("text in place of numbers", lambda a, b: vectorised(a, b).astype(str)),
    answer("the result of the first call for every call of its shape", _remembers(vectorised)),
    answer("the same array for every call of its shape", _reuses(vectorised)),
)

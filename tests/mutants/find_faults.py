"""Answers to `checks.find_faults`."""

import numpy as np

from mutants import answer

KINDS = ("label", "empty", "outside", "twice", "elsewhere")


def by_masks(dataset):
    found = {}
    for index in range(len(dataset)):
        image, target = dataset[index]
        boxes, labels = target["boxes"], target["labels"]
        height, width = image.shape[:2]
        if ((labels < 1) | (labels >= len(dataset.classes))).any():
            found[index] = "label"
        elif not (boxes[:, 2:] > boxes[:, :2]).all():
            found[index] = "empty"
        elif (boxes[:, :2] < -1).any() or (boxes[:, 2:] > (width + 1, height + 1)).any():
            found[index] = "outside"
        elif len(np.unique(np.column_stack([boxes, labels]), axis=0)) < len(boxes):
            found[index] = "twice"
        elif len(boxes) and _ink(image, boxes) < 15:
            found[index] = "elsewhere"
    return found


def by_loops(dataset):
    found = {}
    for i in range(len(dataset)):
        kinds = list(_kinds(*dataset[i], len(dataset.classes)))
        if kinds:
            found[np.int64(i)] = min(kinds, key=KINDS.index)
    return found


def kind_by_kind(dataset):
    tests = {
        kind: [kind in set(_kinds(*dataset[i], len(dataset.classes))) for i in range(len(dataset))] for kind in KINDS
    }
    found = {}
    for kind in reversed(KINDS):  # the first kind is written last
        found.update({i: kind for i, wrong in enumerate(tests[kind]) if wrong})
    return dict(sorted(found.items(), reverse=True))


def _kinds(image, target, num_classes):
    height, width, _ = image.shape
    rows = list(zip(target["boxes"].tolist(), target["labels"].tolist(), strict=True))
    for (x1, y1, x2, y2), label in rows:
        if not 0 < label < num_classes:
            yield "label"
        if not (x1 < x2 and y1 < y2):
            yield "empty"
        if x1 < -1 or y1 < -1 or x2 > width + 1 or y2 > height + 1:
            yield "outside"
        if rows.count(([x1, y1, x2, y2], label)) > 1:
            yield "twice"
    if rows and _ink(image, target["boxes"]) < 15:
        yield "elsewhere"


def _ink(image, boxes):
    grey, inside = image.mean(axis=2), []
    for x1, y1, x2, y2 in np.nan_to_num(boxes):
        patch = grey[max(int(y1), 0) : int(np.ceil(y2)), max(int(x1), 0) : int(np.ceil(x2))]
        if patch.size:
            inside.append(patch.mean())
    return np.median(grey) - np.mean(inside) if inside else 0.0


def _without(kind):
    """Return a function that finds all kinds but one."""

    def function(dataset):
        return {i: found for i, found in by_masks(dataset).items() if found != kind}

    function.__name__ = f"not_{kind}"
    return function


def _changed(change):
    """Return `by_masks` on a data set whose boxes and labels are changed by `change`."""

    class Changed:
        def __init__(self, dataset):
            self.dataset, self.classes = dataset, dataset.classes

        def __len__(self):
            return len(self.dataset)

        def __getitem__(self, i):
            image, target = self.dataset[i]
            boxes, labels = change(target["boxes"].copy(), target["labels"].copy(), image)
            return image, {"boxes": boxes, "labels": labels}

    return lambda dataset: by_masks(Changed(dataset))


def zero_is_a_label(dataset):
    return _changed(lambda boxes, labels, image: (boxes, np.where(labels == 0, 1, labels)))(dataset)


def as_many_labels_as_classes(dataset):
    return _changed(lambda boxes, labels, image: (boxes, np.where(labels == len(dataset.classes), 1, labels)))(dataset)


def last_label_is_wrong(dataset):
    found = by_masks(dataset)
    for i in range(len(dataset)):
        if (dataset[i][1]["labels"] >= len(dataset.classes) - 1).any():
            found[i] = "label"
    return found


def a_line_is_a_box(dataset):
    def change(boxes, labels, image):
        boxes[:, 2] += boxes[:, 2] == boxes[:, 0]
        return boxes, labels

    return _changed(change)(dataset)


def nan_is_not_seen(dataset):
    found = by_masks(dataset)
    for i in range(len(dataset)):
        boxes = dataset[i][1]["boxes"]
        if found.get(i) == "empty" and not (boxes[:, 2:] <= boxes[:, :2]).any():
            del found[i]
    return found


def height_for_width(dataset):
    found = by_masks(dataset)
    for i in range(len(dataset)):
        image, target = dataset[i]
        if i not in found and (target["boxes"][:, 2:] > np.array(image.shape[:2]) + 1).any():
            found[i] = "outside"
    return found


def nothing_before_zero(dataset):
    def change(boxes, labels, image):
        boxes[:, :2] = np.maximum(boxes[:, :2], 0)
        return boxes, labels

    return _changed(change)(dataset)


def to_the_pixel(dataset):
    found = by_masks(dataset)
    for i in range(len(dataset)):
        image, target = dataset[i]
        if i not in found and (target["boxes"][:, 2:] > image.shape[1::-1]).any():
            found[i] = "outside"
    return found


def same_box_with_another_label(dataset):
    found = by_masks(dataset)
    for i in range(len(dataset)):
        boxes = dataset[i][1]["boxes"]
        if found.get(i) in (None, "elsewhere") and len(np.unique(boxes, axis=0)) < len(boxes):
            found[i] = "twice"
    return found


def only_neighbours_are_compared(dataset):
    found = by_masks(dataset)
    for i in range(len(dataset)):
        boxes = dataset[i][1]["boxes"]
        if found.get(i) == "twice" and not (boxes[1:] == boxes[:-1]).all(axis=1).any():
            del found[i]
    return found


def no_objects_are_a_fault(dataset):
    return {i: "empty" for i in range(len(dataset)) if len(dataset[i][1]["boxes"]) == 0} | by_masks(dataset)


def fails_without_objects(dataset):
    for i in range(len(dataset)):
        dataset[i][1]["boxes"].max()
    return by_masks(dataset)


def last_kind_first(dataset):
    found = {}
    for i in range(len(dataset)):
        kinds = set(_kinds(*dataset[i], len(dataset.classes)))
        if kinds:
            found[i] = max(kinds, key=KINDS.index)
    return found


def everything_is_elsewhere(dataset):
    return dict.fromkeys(range(len(dataset)), "elsewhere") | by_masks(dataset)


def only_the_indices(dataset):
    return sorted(by_masks(dataset))


def counts_from_one(dataset):
    return {i + 1: kind for i, kind in by_masks(dataset).items()}


def repairs_instead(dataset):
    found = by_masks(dataset)
    for i in found:
        dataset[i][1]["labels"][:] = np.clip(dataset[i][1]["labels"], 1, len(dataset.classes) - 1)
    return found


def forgets_to_return(dataset):
    by_masks(dataset)


class _Seen:
    """A data set of pages that are seen in another way."""

    def __init__(self, dataset, classes=None, see=lambda image: image):
        self.dataset, self.classes, self.see = dataset, classes or dataset.classes, see

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, i):
        image, target = self.dataset[i]
        return self.see(image), target


def _with_classes(dataset, count):
    return by_masks(_Seen(dataset, classes=("class",) * count))


def _changed_pages(dataset):
    def turned(image):
        return image.swapaxes(0, 1) if image.shape[0] > image.shape[1] else image

    return by_masks(_Seen(dataset, see=turned))


def _first_size(dataset):
    height, width = dataset[0][0].shape[:2]
    found = {}
    for i in range(len(dataset)):
        image, target = dataset[i]
        for kind in _kinds(np.resize(image, (height, width, 3)), target, len(dataset.classes)):
            if i not in found or KINDS.index(kind) < KINDS.index(found[i]):
                found[i] = kind
    return found


RIGHT = (by_masks, by_loops, kind_by_kind)
WRONG = (
    (_without("label"), "the label of the background"),
    (_without("empty"), "x2 > x1 and y2 > y1"),
    (_without("outside"), "four edges"),
    (_without("twice"), "The same four numbers"),
    (_without("elsewhere"), "Ink is dark"),
    (zero_is_a_label, "0 is the label of the background"),
    (as_many_labels_as_classes, "last valid label is L-1"),
    (last_label_is_wrong, "labels are 1 to L-1"),
    (a_line_is_a_box, "box is only a line"),
    (nan_is_not_seen, "the condition that must hold"),
    (height_for_width, "x with the width"),
    (nothing_before_zero, "four edges"),
    (to_the_pixel, "allow up to one pixel more"),
    (same_box_with_another_label, "with \\*another\\* label"),
    (only_neighbours_are_compared, "need not be neighbours"),
    (no_objects_are_a_fault, "A page without objects"),
    (fails_without_objects, "A page without objects"),
    (last_kind_first, "the first kind in the list"),
    (everything_is_elsewhere, "which has no fault"),
    (only_the_indices, r"expected a dict \{index: kind\}"),
    (counts_from_one, "reports"),
    (repairs_instead, "find faults, not repair them"),
    (forgets_to_return, "without `return`"),
)
WRONG += (  # each with the description of a misconception
    answer(
        "a box thinner than a pixel is called empty",
        lambda d: _changed(lambda b, y, i: (np.where((b[:, 2:] - b[:, :2] < 1).any(axis=1, keepdims=True), 0, b), y))(
            d
        ),
    ),
    answer("ten classes by heart", lambda d: _with_classes(d, 11)),
    answer("twenty classes by heart", lambda d: _with_classes(d, 21)),
    answer(
        "an entry for every page, None where nothing is wrong",
        lambda d: {i: by_masks(d).get(i) for i in range(len(d))},
        "NoneType for page",
    ),
    answer(
        "an entry for every page, the empty string where nothing is wrong",
        lambda d: {i: by_masks(d).get(i, "") for i in range(len(d))},
    ),
    answer(
        "a dict of the kinds, each with its pages",
        lambda d: {kind: [i for i, k in by_masks(d).items() if k == kind] for kind in KINDS},
        "the key 'label'",
    ),
    answer("a list of kinds for every page", lambda d: {i: [kind] for i, kind in by_masks(d).items()}, "list for page"),
    answer("a set of kinds for every page", lambda d: {i: {kind} for i, kind in by_masks(d).items()}, "set for page"),
    answer(
        "pages are called by a name",
        lambda d: {f"page {i}": kind for i, kind in by_masks(d).items()},
        "expected the index of a page",
    ),
    answer("pages are called by a number as text", lambda d: {str(i): kind for i, kind in by_masks(d).items()}),
    answer("pages as floats", lambda d: {i + 0.0: kind for i, kind in by_masks(d).items()}),
    answer("kinds as numbers", lambda d: {i: KINDS.index(kind) for i, kind in by_masks(d).items()}),
    answer("kinds in capitals", lambda d: {i: kind.upper() for i, kind in by_masks(d).items()}),
    answer("pairs in a list", lambda d: list(by_masks(d).items())),
    answer("pages are thought to be wider than high", lambda d: _changed_pages(d)),
    answer("the first page's size for all", lambda d: _first_size(d)),
    answer("five faults at most", lambda d: dict(list(by_masks(d).items())[:4])),
    answer("an entry for a page that is not there", lambda d: {**by_masks(d), len(d): "label"}),
)

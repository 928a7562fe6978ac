"""Answers to `checks.repair`."""

from dataclasses import replace

import numpy as np
from PIL import Image

from mutants import answer
from rcnn.data import Annotations, Record

ARRAYS = ("boxes", "labels", "difficult", "crowd", "truncated", "areas")


def step_by_step(annotations, skip="", scale_last=False):
    records = []
    for record in annotations.records:
        if not record.image.exists() and skip != "missing":
            continue
        if skip != "capitals":
            record = _spelled(record, annotations.classes)
        if skip != "exchanged":
            record = replace(record, boxes=_ordered(record.boxes))
        steps = [_rescaled, _cut]
        for step in reversed(steps) if scale_last else steps:
            if step.__name__ != skip and record.image.exists():
                record = step(record)
        if skip != "twice":
            record = _rows(record, _first_of_each(record))
        records.append(record)
    return replace(annotations, records=records)


def in_one_go(annotations):
    label_of = {name.lower(): label for label, name in enumerate(annotations.classes)}
    records = []
    for r in annotations.records:
        try:
            with Image.open(r.image) as file:
                width, height = file.size
        except FileNotFoundError:
            continue
        stated = r.size or (height, width)
        factor = np.array([width / stated[1], height / stated[0]] * 2)
        things = {}
        marks_of = zip(r.difficult, r.crowd, r.truncated, strict=True)
        for box, name, marks in zip((r.boxes * factor).tolist(), r.names, marks_of, strict=True):
            x1, x2 = sorted(min(max(x, 0), width) for x in box[::2])
            y1, y2 = sorted(min(max(y, 0), height) for y in box[1::2])
            things.setdefault((x1, y1, x2, y2, label_of[name.lower()]), marks)
        boxes = np.array([thing[:4] for thing in things]).reshape(-1, 4)
        labels = np.array([thing[4] for thing in things], np.int64)
        difficult, crowd, truncated = np.array(list(things.values()), bool).reshape(-1, 3).T  # (G,) each
        names = tuple(annotations.classes[i] for i in labels)
        records.append(
            Record(
                r.image,
                r.source,
                boxes,
                names,
                labels,
                difficult,
                crowd,
                truncated,
                (boxes[:, 2:] - boxes[:, :2]).prod(axis=1),
                (height, width),
                r.image_id,
            )
        )
    return Annotations(annotations.classes, records)


def the_first_of_each(annotations):
    fixed = step_by_step(annotations, skip="twice")
    records = []
    for r in fixed.records:
        rows = list(enumerate(zip(r.boxes.tolist(), r.labels.tolist(), strict=True)))
        first = {(*box, label): i for i, (box, label) in reversed(rows)}
        records.append(_rows(r, sorted(first.values(), reverse=True)))
    return replace(fixed, records=records[::-1])


def _spelled(record, classes):
    lower = [name.lower() for name in classes]
    labels = np.array([lower.index(name.lower()) for name in record.names], np.int64)
    return replace(record, labels=labels, names=tuple(classes[label] for label in labels))


def _ordered(boxes):
    return np.concatenate([np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])], axis=1)


def _size(record):
    with Image.open(record.image) as file:
        return file.height, file.width


def _rescaled(record):
    height, width = _size(record)
    stated = record.size or (height, width)
    factor = np.tile([width / stated[1], height / stated[0]], 2)
    return replace(record, boxes=record.boxes * factor, size=(height, width))


def _cut(record):
    height, width = _size(record)
    return replace(record, boxes=np.clip(record.boxes, 0, [width, height] * 2))


def _first_of_each(record):
    rows = [(*box, label) for box, label in zip(record.boxes.tolist(), record.labels.tolist(), strict=True)]
    return [i for i, row in enumerate(rows) if row not in rows[:i]]


def _rows(record, rows):
    return replace(
        record, names=tuple(record.names[i] for i in rows), **{name: getattr(record, name)[rows] for name in ARRAYS}
    )


def _with_repair(function):
    """Return an answer that passes every repaired record through `function`; None drops the record."""

    def answer(annotations):
        fixed = step_by_step(annotations)
        given = {(record.image.name, record.image_id): record for record in annotations.records}
        changed = [function(record, given[record.image.name, record.image_id]) for record in fixed.records]
        return replace(fixed, records=[record for record in changed if record is not None])

    answer.__name__ = function.__name__
    return answer


def keeps_missing_images(annotations):
    return step_by_step(annotations, "missing")


def capitals_stay(annotations):
    return step_by_step(annotations, "capitals")


def name_without_label(fixed, given):
    same_rows = len(fixed.labels) == len(given.labels)
    return replace(fixed, labels=given.labels) if same_rows and (given.labels < 0).any() else fixed


def label_of_the_first_class(fixed, given):
    return (
        replace(fixed, labels=np.where(given.labels < 0, 1 + fixed.labels % 4, fixed.labels))
        if len(fixed.labels) == len(given.labels)
        else fixed
    )


def label_without_name(fixed, given):
    return replace(fixed, names=given.names) if (given.labels < 0).any() else fixed


def exchanged_stay(annotations):
    return step_by_step(annotations, "exchanged")


def drops_exchanged_boxes(fixed, given):
    if len(fixed.boxes) == len(given.boxes):
        return _rows(fixed, np.flatnonzero((given.boxes[:, 2:] > given.boxes[:, :2]).all(axis=1)))
    return fixed


def boxes_stay_beyond(annotations):
    return step_by_step(annotations, "_cut")


def drops_boxes_beyond(fixed, given):
    beyond = (given.boxes < 0).any(axis=1) | (given.boxes[:, 2:] > (given.size or fixed.size)[::-1]).any(axis=1)
    return _rows(fixed, np.flatnonzero(~beyond)) if len(fixed.boxes) == len(given.boxes) else fixed


def pushes_boxes_in(fixed, given):
    low, high = np.minimum(given.boxes[:, :1], 0), np.maximum(given.boxes[:, 2:3] - fixed.size[1], 0)
    if given.size != fixed.size or len(fixed.boxes) != len(given.boxes) or not (low.any() or high.any()):
        return fixed
    boxes = fixed.boxes.copy()
    boxes[:, [0]] -= high + low
    boxes[:, [2]] -= low
    return replace(fixed, boxes=np.clip(_ordered(boxes), 0, 96))


def other_size_stays(annotations):
    return step_by_step(annotations, "_rescaled")


def size_without_boxes(annotations):
    records = [replace(r, size=_size(r)) if r.image.exists() else r for r in annotations.records]
    return step_by_step(replace(annotations, records=records))


def boxes_without_size(fixed, given):
    return replace(fixed, size=None) if fixed.size != given.size else fixed


def size_in_pillow_order(fixed, given):
    return replace(fixed, size=fixed.size[::-1]) if fixed.size != given.size else fixed


def cuts_before_it_scales(annotations):
    return step_by_step(annotations, scale_last=True)


def leaves_out_other_sizes(fixed, given):
    return fixed if fixed.size == given.size else None


def twice_stays(annotations):
    return step_by_step(annotations, "twice")


def drops_both(fixed, given):
    rows = [(*box, label) for box, label in zip(given.boxes.tolist(), given.labels.tolist(), strict=True)]
    alone = [i for i, row in enumerate(rows) if rows.count(row) == 1]
    return fixed if len(alone) == len(rows) else _rows(given, alone)


def boxes_alone_are_shortened(fixed, given):
    return fixed if len(fixed.boxes) == len(given.boxes) else replace(given, boxes=fixed.boxes)


def marks_stay_long(fixed, given):
    return fixed if len(fixed.boxes) == len(given.boxes) else replace(fixed, truncated=given.truncated)


def forgets_marks(fixed, given):
    return replace(fixed, truncated=np.zeros(len(fixed.boxes), bool))


def keeps_one_object(fixed, given):
    return _rows(fixed, [0][: len(fixed.boxes)])


def leaves_out_faulty_records(fixed, given):
    same = fixed.boxes.shape == given.boxes.shape and np.array_equal(fixed.boxes, given.boxes)
    return fixed if same and fixed.names == given.names else None


def does_nothing(annotations):
    return annotations


def writes_into_the_boxes(annotations):
    for record in annotations.records:
        np.clip(record.boxes, 0, None, out=record.boxes)
    return step_by_step(annotations)


def gives_a_list(annotations):
    return step_by_step(annotations).records


def opens_missing_images(annotations):
    for record in annotations.records:
        _size(record)
    return step_by_step(annotations)


def forgets_to_return(annotations):
    step_by_step(annotations)


def _uncut(record, old, columns):
    """Return the repaired record, with these columns as they were if the damaged box was in order."""
    if old.size != record.size or len(old.boxes) != len(record.boxes):
        return record
    boxes = record.boxes.copy()
    wrong = (old.boxes[:, :2] > old.boxes[:, 2:]).any(axis=1)
    for column in columns:
        boxes[~wrong, column] = old.boxes[~wrong, column]
    return replace(record, boxes=boxes)


RIGHT = (step_by_step, in_one_go, the_first_of_each)
WRONG = (
    (keeps_missing_images, "missing.*\n(.*\n)*.*cannot be repaired"),
    (capitals_stay, "name is written in capital"),
    (_with_repair(name_without_label), "both the name and the label"),
    (_with_repair(label_without_name), "both the name and the label|`names` with a wrong row"),
    (_with_repair(label_of_the_first_class), "returns the labels(.*\n)*.*both the name and the label"),
    (exchanged_stay, "Coordinates were swapped, x1"),
    (_with_repair(drops_exchanged_boxes), r"cannot find a missing record or object(.*\n)*.*Coordinates were swapped"),
    (boxes_stay_beyond, "must end at the border"),
    (_with_repair(drops_boxes_beyond), "cannot find a missing record or object"),
    (_with_repair(pushes_boxes_in), "must end at the border"),
    (other_size_stays, "Store the size of the image"),
    (size_without_boxes, "the same ratio of the heights"),
    (_with_repair(boxes_without_size), "returns the size None(.*\n)*.*Store the size of the image"),
    (_with_repair(size_in_pillow_order), "Pillow image is"),
    (cuts_before_it_scales, "Clip the boxes only after"),
    (_with_repair(leaves_out_other_sizes), "a record whose image file exists"),
    (twice_stays, "Keep only one of the two"),
    (_with_repair(drops_both), "Keep only one of the two"),
    (_with_repair(boxes_alone_are_shortened), "one row for each object"),
    (_with_repair(marks_stay_long), "rows of `truncated`(.*\n)*.*one row for each object"),
    (_with_repair(forgets_marks), "`truncated` with a wrong row"),
    (_with_repair(keeps_one_object), "cannot find a missing record or object"),
    (_with_repair(leaves_out_faulty_records), "a record whose image file exists"),
    (does_nothing, "leaves a problem that the validator finds"),
    (writes_into_the_boxes, "changes the annotations"),
    (gives_a_list, "expected Annotations"),
    (opens_missing_images, "raises FileNotFoundError"),
    (forgets_to_return, "without `return`"),
)
WRONG += (  # each with the description of a misconception
    answer("boxes are cut to the left and to the right only", _with_repair(lambda r, old: _uncut(r, old, (1, 3)))),
    answer("boxes are cut above and below only", _with_repair(lambda r, old: _uncut(r, old, (0, 2)))),
    answer("y is cut at the width, too", _with_repair(lambda r, old: _uncut(r, old, (3,)))),
    answer(
        "boxes that are the same are the same object, whatever their class",
        _with_repair(
            lambda r, old: _rows(r, [i for i, box in enumerate(r.boxes.tolist()) if box not in r.boxes.tolist()[:i]])
        ),
    ),
    answer(
        "marks are made anew: nothing is difficult, nothing a crowd",
        _with_repair(lambda r, old: replace(r, difficult=r.difficult & False, crowd=r.crowd & False)),
    ),
    answer("nothing is difficult", _with_repair(lambda r, old: replace(r, difficult=r.difficult & False))),
    answer("nothing is a crowd", _with_repair(lambda r, old: replace(r, crowd=r.crowd & False))),
    answer("nothing is truncated", _with_repair(lambda r, old: replace(r, truncated=r.truncated & False))),
    answer("areas are made 0", _with_repair(lambda r, old: replace(r, areas=0 * r.areas))),
    answer("areas are NaN", _with_repair(lambda r, old: replace(r, areas=np.nan * r.areas))),
    answer(
        "names in small letters, whatever the class is called",
        _with_repair(lambda r, old: replace(r, names=tuple(name.lower() for name in r.names))),
    ),
    answer(
        "names with a capital, whatever the class is called",
        _with_repair(lambda r, old: replace(r, names=tuple(name.title() for name in r.names))),
    ),
    answer(
        "None for a record whose picture is missing",
        lambda a: replace(
            a,
            records=[r if r.image.exists() else None for r in a.records[:0]]
            + [next((x for x in step_by_step(a).records if x.image == r.image), None) for r in a.records],
        ),
        "NoneType among the records",
    ),
    answer("every record has the name of the first image", _with_repair(lambda r, old: replace(r, image_id="first"))),
    answer("the source is lost", _with_repair(lambda r, old: replace(r, source=""))),
    answer(
        "dicts in place of records",
        lambda a: replace(a, records=[vars(r) for r in step_by_step(a).records]),
        "dict among the records",
    ),
    answer(
        "boxes as lists of different lengths",
        _with_repair(lambda r, old: replace(r, boxes=[row[: i + 2] for i, row in enumerate(r.boxes.tolist())])),
    ),
    answer("labels as text", _with_repair(lambda r, old: replace(r, labels=np.array(r.names)))),
    answer(
        "classes in small letters",
        lambda a: replace(step_by_step(a), classes=tuple(name.lower() for name in a.classes)),
    ),
)

"""Checks of two functions for a learner's own images: one repairs annotations, the other chooses anchors."""

from __future__ import annotations

import copy
import functools
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rcnn import anchors, evaluate
from rcnn._ext.dispatch import original
from rcnn.checks._engine import (
    NOT_WRITTEN,
    Case,
    CheckFailed,
    Failure,
    Function,
    attempt,
    check_callable,
    failed,
    generator_of,
    judging,
)
from rcnn.data import Annotations, Record, Shapes, read_annotations, validate, write_voc
from rcnn.transform import Size, resized_size

PAGES, POOL, PAGE_SIZE = 36, 60, (64, 96)
LARGER = (PAGE_SIZE[0] + 32, PAGE_SIZE[1] + 16)  # (height, width) of some of the images
SWAPPED = (PAGE_SIZE[::-1], LARGER[::-1])
OF_ALL = ("no-images", "no-objects", "unused-class", "mostly-empty")  # problems of the whole set
LISTED_TWICE = "listed-twice"  # a problem that the learner's function must leave
SECOND = "-second"  # end of the id of the second record of an image
ARRAYS = ("boxes", "labels", "difficult", "crowd", "truncated", "areas")  # arrays of a record, with one row per object
A_ROW_EACH = "In a record, every array needs one row for each object, and `names` needs one entry for each object."
AREA = 10.0  # factor by which an area may differ from the area of the box
NEAR = 0.5  # pixels by which a repaired box may differ from the correct one: it may be rounded
STRIDE, IMAGES_TO_FIT, OBJECTS, SPREAD = 8, 40, 6, (2.4, 2.0)  # SPREAD: largest / smallest size, and ratio
SHORT = 96  # shorter side of most images
SHAPES: tuple[tuple[Size, ...], ...] = (  # sizes (height, width) of the images of a data set: wide, tall and mixed
    ((96, 144), (144, 216), (48, 72)),
    ((144, 96), (216, 144), (72, 48)),
    ((96, 144), (144, 96), (60, 60), (80, 240)),
)
MOST = 3  # maximum number of sizes, and of ratios
ASKED = {0.5: 0.99, 0.7: 0.90}  # required recall of the anchors at each IoU threshold


PLANTED = (  # the faults of the records, in this order, each with its variant
    ("missing", 0),
    ("capitals", 0),
    ("exchanged", 0),
    ("exchanged", 1),
    ("beyond", 0),
    ("beyond", 1),
    ("beyond", 2),
    ("beyond", 3),
    ("other-size", 0),
    ("other-size", 1),
    ("other-size", 2),
    ("other-size", 3),
    ("other-size", 4),
    ("twice", 0),
    ("missing", 0),
    ("exchanged", 2),
    ("twice", 1),
    ("twice", 2),
    ("equal after", 0),
    ("equal names", 0),
    ("nearly", 0),
    ("nearly", 1),
    ("nearly", 2),
    ("second", 0),
    ("same box", 0),
    ("same capitals", 0),
    ("no objects", 0),
    ("no size", 0),
    ("no size", 1),
    ("no size", 2),
    ("no size", 3),
)


@original
def repair(function: Function, seed: int | None = None) -> None:
    """Raise CheckFailed unless `function` repairs annotations with the faults in `FAULTS`.

    Parameters
    ----------
    function : callable
        ``function(annotations)``. The argument is a damaged `rcnn.data.Annotations`, and the function returns a
        repaired one. The validator must find no problem in the result. The result must contain every record whose image
        file exists, and every object in these records, with the right boxes (to within half a pixel), labels, names,
        flags and image size. Of objects with equal boxes and labels, only the first is kept. Two records may have the
        same image file: the validator's problem "listed-twice" is allowed, and both records are kept. The function must
        not change its argument.
    seed : int, optional
        Seed for the random inputs. Without it, every call uses new inputs.

    Raises
    ------
    CheckFailed
        If any result is wrong. The message shows a hint and an input for which the function fails.
    TypeError
        If `function` is not callable.
    """
    check_callable("repair", function)
    damaged, truth, planted = _damaged(generator_of(seed))
    before = copy.deepcopy(damaged)
    got, failure = attempt(function, damaged)
    with judging("repair"):
        if failure is not None:
            raise _raised(function, failure, before, planted)
        _check_repaired(got, before, damaged, truth, planted)


def _raised(
    function: Function, failure: Failure, annotations: Annotations, planted: Mapping[str, tuple[str, Record]]
) -> CheckFailed:
    """Return the error for a function that raises one. It shows the simplest record that alone causes an error."""
    general = (
        "Repair one kind of fault after another, in one record at a time. The validator reports the faults that are "
        "left, and the notebook shows an example of each."
    )
    if failure.sentence == NOT_WRITTEN:
        return _failed(None, failure.sentence, general)
    for record in sorted(annotations.records, key=lambda record: _difficulty(record, planted)):
        _, alone = attempt(function, replace(annotations, records=[copy.deepcopy(record)]))
        if alone is not None:
            fault, _ = planted.get(_key(record), ("", record))
            call = f"{NO_FAULT} Call your function with this record alone. Which of its values does it not expect?"
            return _failed(record, alone.sentence, FAULTS.get(fault, call))
    return _failed(None, failure.sentence, general)


def _difficulty(record: Record, planted: Mapping[str, tuple[str, Record]]) -> int:
    """Return the place of a record in the order of `PLANTED`. Records without a fault come first."""
    return [*planted].index(_key(record)) + 1 if _key(record) in planted else 0


def _check_repaired(
    got: Any,
    before: Annotations,
    damaged: Annotations,
    truth: Mapping[str, Record],
    planted: Mapping[str, tuple[str, Record]],
) -> None:
    """Raise CheckFailed unless `got` is right. `damaged` are the annotations after the call, and `before` a copy."""
    if got is None:
        raise _failed(None, "returns None", "A function without `return` returns None.")
    if not isinstance(got, Annotations):
        raise _failed(
            None,
            f"returns {type(got).__name__}; expected Annotations",
            "`dataclasses.replace(annotations, records=[...])` creates new Annotations from new records.",
        )
    for old, new in zip(before.records, damaged.records, strict=False):
        if len(before.records) != len(damaged.records) or not _equal(old, new):
            raise _failed(
                old,
                "changes the annotations that were passed",
                "Work on copies. If a new record shares an array with the original record, writing into that array "
                "also changes the original.",
            )
    if not all(isinstance(record, Record) for record in got.records):
        odd = next(record for record in got.records if not isinstance(record, Record))
        raise _failed(
            None,
            f"returns a {type(odd).__name__} among the records",
            "`records` contains one Record for each image file that exists, and nothing else. Leave a record out; do "
            "not replace it with None.",
        )
    if tuple(got.classes) != before.classes:
        raise _failed(None, "returns other classes", "The classes are right. Their names may contain capital letters.")
    _check_order_of_sizes(got)
    _check_end(got, before, truth)
    without = {name: record for name, record in truth.items() if name not in planted}
    _check_truth(got, without, planted)
    _check_problems(got, truth, planted)
    _check_truth(got, truth, planted)
    if len(got.records) != len(truth):
        raise _failed(
            None,
            f"returns {len(got.records)} records; expected {len(truth)}",
            "Return exactly one record for each image file that exists.",
        )


@original
def choose_anchors(function: Function, seed: int | None = None) -> None:
    """Raise CheckFailed unless `function` chooses anchors that also fit new images.

    Parameters
    ----------
    function : callable
        ``function(dataset, strides, min_size, max_size)``. The function returns (sizes, ratios): at most `MOST` anchor
        sizes, in pixels of the resized images, and at most `MOST` ratios (height / width). The check uses these anchors
        on new images of the same kind. The recall of the anchors at an IoU threshold is the fraction of objects that
        have at least this IoU with an anchor. At the thresholds 0.5 and 0.7, it must be at least the value in `ASKED`.
    seed : int, optional
        Seed for the random inputs. Without it, every call uses new inputs.

    Raises
    ------
    CheckFailed
        If any result is wrong. The message shows a hint and an input for which the function fails.
    TypeError
        If `function` is not callable.
    """
    check_callable("choose_anchors", function)
    rng = generator_of(seed)
    for sizes, ratio in zip(SHAPES, rng.permutation([0.25, 1.0, 2.2]), strict=True):
        factor = int(rng.integers(2, 4))
        kind = _Kind(sizes, factor * SHORT, factor * float(rng.uniform(20, 24)), float(ratio))
        dataset, others = kind.images(rng), kind.images(rng)
        with judging("choose_anchors"):
            _check_choice(function, dataset, others, kind.min_size)


# ---------------------------------------------------------------------- repaired annotations

NO_FAULT = "This image has no fault: its record must stay unchanged."
CAPITALS = (
    "The class name is written in capital letters, so the object has the label -1. Give the object both the name and "
    "the label of the class."
)
FAULTS: Mapping[str, str] = {  # faults that the learner's function must repair, each with a hint
    "missing": "The image file is missing. A record without an image file cannot be repaired, so leave it "
    "out. Keep all other records.",
    "capitals": CAPITALS,
    "exchanged": "Coordinates were swapped, x1 with x2 or y1 with y2, or both. The object is still there: its box "
    "extends from the smaller number to the larger.",
    "beyond": "The box extends beyond its image. It must end at the border.",
    "other-size": "The annotation was made for an image of another size. Multiply x by the ratio (width of the file / "
    "width in the record), and y by the same ratio of the heights. Store the size of the image file in the "
    "record. Clip the boxes only after that.",
    "same box": "This record has no fault. Two objects with the same box but different classes are different objects, "
    "so keep both.",
    "same capitals": f"{CAPITALS} Two objects have the same box here, but different classes. Compare the repaired "
    "labels, and keep both objects.",
    "equal names": f"{CAPITALS} Two objects become equal only when their names are repaired. Compare repaired names or "
    "labels. Keep only one of the two: the first.",
    "no objects": "This record has no objects and no fault. Its image is an ordinary image, so keep the record.",
    "no size": "The annotation states no size: `record.size` is None. The boxes are in pixels of the image file, so do "
    "not scale them. Store the size of the image file in the record. Repair all other faults: swapped corners, boxes "
    "beyond the border, and objects that appear twice.",
    "equal after": "Two objects become equal only when their boxes and names are repaired. Compare repaired boxes and "
    "repaired labels. Keep only one of the two: the first.",
    "nearly": "This record has no fault. Two boxes differ by less than a pixel, so they are different objects. Compare "
    "the numbers as they are: do not round them, and keep both.",
    "second": "This record has no fault. Two records have the same image file, but each has its own objects, "
    "although one object is equal to one of the other record. Compare the objects of one record only. Leave out "
    "records only if the image file is missing.",
    "twice": "The same box appears twice with the same class. Keep only one of the two in boxes, names, labels and "
    "all other arrays of the record: the first one, whatever its flags are.",
}


def _failed(record: Record | None, sentence: str, hint: str) -> CheckFailed:
    shown: dict[str, Any] = {"annotations": f"{PAGES} records of pages with shapes, most of them damaged"}
    if record is not None:
        shown = {
            "record.image.name": record.image.name,
            "record.size": record.size,
            "record.boxes": record.boxes,
            "record.names": record.names,
            "record.labels": record.labels,
        }
    return failed("repair", Case(shown, hint), Failure(sentence))


def _check_order_of_sizes(got: Annotations) -> None:
    """Raise CheckFailed if a size is (width, height), as in Pillow. The validator would report another fault."""
    for record in got.records:
        if record.size is not None and tuple(record.size) in SWAPPED:
            raise _failed(
                record,
                "returns a record whose size is (width, height)",
                "The `size` of a record is (height, width), but the `size` of a Pillow image is (width, height).",
            )


def _check_end(got: Annotations, before: Annotations, truth: Mapping[str, Record]) -> None:
    """Raise CheckFailed if the first records are there, and the others are missing."""
    expected = [_key(record) for record in before.records if _key(record) in truth]
    found = [_key(record) for record in got.records]
    if len(found) < len(expected) - 2 and found == expected[: len(found)]:
        raise _failed(
            None,
            f"returns {f'only the first {len(found)}' if found else 'none'} of the {len(expected)} records whose image "
            "file exists",
            "All other records are missing. Does your loop end too early? `return` ends the function, and "
            "`break` ends the loop. `continue` only leaves out one record.",
        )


def _check_problems(got: Annotations, truth: Mapping[str, Record], planted: Mapping[str, tuple[str, Record]]) -> None:
    """Raise CheckFailed for problems that the validator finds."""
    try:
        found = validate(got, examples=PAGES, progress=False, to_learn=False).problems
    except Exception as error:
        raise _failed(
            None, f"returns records that cannot be read ({type(error).__name__}: {error})", A_ROW_EACH
        ) from error
    problems = [problem for problem in found if problem.kind not in (*OF_ALL, LISTED_TWICE)]
    if problems:
        numbers = [one.image for one in problems[0].examples if one.image is not None]
        records = sorted((got.records[i] for i in numbers), key=lambda record: _difficulty(record, planted))
        name = _key(records[0]) if records else ""
        fault, record = planted.get(name, ("", truth.get(name)))
        remedy = f"{problems[0].remedy[:1].upper()}{problems[0].remedy[1:]}."
        without = remedy if record is None else f"{NO_FAULT} {remedy}"
        raise _failed(
            record,
            f"leaves a problem that the validator finds: {problems[0].sentence} ({problems[0].kind})",
            FAULTS.get(fault, without),
        )


def _check_truth(got: Annotations, truth: Mapping[str, Record], planted: Mapping[str, tuple[str, Record]]) -> None:
    """Raise CheckFailed for missing records, missing objects or changed boxes: the validator cannot find these."""
    found = {_key(record): record for record in got.records}
    for true in sorted(truth.values(), key=lambda record: _difficulty(record, planted)):
        name = _key(true)
        fault, record = planted.get(name, ("", true))
        hint = FAULTS.get(fault, NO_FAULT)
        if name not in found:
            raise _failed(
                record,
                "leaves out a record whose image file exists",
                f"The validator cannot find a missing record or object. {hint}",
            )
        given = found[name]
        _check_lengths(given, record)
        if len(given.boxes) != len(true.boxes):
            raise _failed(
                record,
                f"returns the wrong number of objects for this record: {len(given.boxes)}; expected {len(true.boxes)}",
                f"The validator cannot find a missing record or object. {hint}"
                f"{'' if fault else ' Compare objects of the same record only.'}",
            )
        pairs = _same_objects(given, true)
        if pairs is None:
            sentence, reason = _wrong_objects(given, true)
            raise _failed(record, sentence, hint if fault else f"{hint} {reason}")
        if given.size is None or tuple(given.size) != true.size:
            raise _failed(
                record, f"returns the size {given.size} for this record; the image file has {true.size}", hint
            )
        if not isinstance(given.names, tuple):
            raise _failed(
                record,
                f"returns {type(given.names).__name__} as `names`; expected a tuple",
                "The `names` of a record are a tuple of str. `tuple(...)` converts a list.",
            )
        if wrong := _wrong_row(given, true, pairs):
            raise _failed(
                record,
                f"returns `{wrong}` with a wrong row",
                f"In `names` and in every array of a record, the rows must be in the order of `boxes`. {hint}",
            )
        for name_of, value in (("source", true.source), ("image_id", true.image_id)):
            if getattr(given, name_of) != value:
                raise _failed(
                    record,
                    f"returns another `{name_of}` for this record",
                    "`dataclasses.replace(record, boxes=...)` copies all other fields of a record.",
                )


def _key(record: Record) -> str:
    """Return the name of the image, with an ending for the second record of the same image."""
    return record.image.name + (SECOND if str(record.image_id).endswith(SECOND) else "")


def _check_lengths(given: Record, record: Record) -> None:
    """Raise CheckFailed unless each array of `given`, a repaired record, has one row for each of its boxes."""
    for name in ("names", *ARRAYS):
        if len(getattr(given, name)) != len(given.boxes):
            raise _failed(
                record, f"returns {len(getattr(given, name))} rows of `{name}` for {len(given.boxes)} boxes", A_ROW_EACH
            )


def _same_objects(given: Record, true: Record) -> list[int] | None:
    """Return the index in `given` of each correct object, or None if one is missing. `given` may be in any order."""
    rest, found = list(range(len(given.boxes))), []
    for box, label in zip(true.boxes, true.labels, strict=True):
        near = [i for i in rest if given.labels[i] == label and np.abs(given.boxes[i] - box).max() <= NEAR]
        if not near:
            return None
        found.append(near[0])
        rest.remove(near[0])
    return found


def _wrong_objects(given: Record, true: Record) -> tuple[str, str]:
    """Return a sentence that says whether the boxes or the labels of a record are wrong, and a hint."""
    labels = np.asarray(given.labels)
    of_labels = "A label is an index into `classes`, in which the background comes first."
    if sorted(labels.tolist()) != sorted(true.labels.tolist()):
        return f"returns the labels {labels.tolist()} for this record; expected {true.labels.tolist()}", of_labels
    near = [np.abs(given.boxes - box).max(axis=1).min() <= NEAR for box in true.boxes]
    if all(near):
        return (
            "returns the boxes of this record with the labels of other objects",
            "Row i of `boxes` and of `labels` describes the same object.",
        )
    boxes, missing = np.asarray(given.boxes).round(2).tolist(), true.boxes[near.index(False)].round(2).tolist()
    return (
        f"returns the boxes {boxes} for this record; {missing} is missing",
        "A size is (height, width): x is at most the width, and y is at most the height.",
    )


def _wrong_row(given: Record, true: Record, pairs: Sequence[int]) -> str | None:
    """Return the name of an array with a wrong row, or None. Row i of `true` belongs to row pairs[i] of `given`.

    Areas may be measured in different ways, so they only need to be within a factor of `AREA` of the box's area.
    """
    if [given.names[i] for i in pairs] != list(true.names):
        return "names"
    marks = ("difficult", "crowd", "truncated")
    of_boxes = (true.boxes[:, 2:] - true.boxes[:, :2]).prod(axis=1)
    ratios = np.asarray(given.areas, float)[list(pairs)] / of_boxes
    if not ((ratios > 1 / AREA) & (ratios < AREA)).all():
        return "areas"
    return next(
        (
            name
            for name in marks
            if not np.array_equal(np.asarray(getattr(given, name))[list(pairs)], getattr(true, name))
        ),
        None,
    )


def _equal(one: Record, other: Record) -> bool:
    return (
        one.names == other.names
        and one.size == other.size
        and all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ARRAYS)
    )


@functools.cache
def _folder() -> tuple[tempfile.TemporaryDirectory[str], Annotations]:
    """Return a folder with pages of shapes, and its annotations. The folder is deleted when the process ends."""
    folder = tempfile.TemporaryDirectory()
    write_voc(Shapes(POOL, seed=14, size=PAGE_SIZE), folder.name, "train", progress=False)
    annotations = read_annotations(f"voc:{folder.name}", None)
    records = [_as_bitmap(record) if i % 3 == 0 else record for i, record in enumerate(annotations.records)]
    records = [_enlarged(record) if i % 4 == 1 else record for i, record in enumerate(records)]
    return folder, replace(annotations, records=records)


def _as_bitmap(record: Record) -> Record:
    """Save the image of a record in another format. Return the record of the new file."""
    from PIL import Image  # not at the top: the other checks also run in a browser without Pillow

    path = record.image.with_suffix(".bmp")
    with Image.open(record.image) as file:
        file.save(path)
    return replace(record, image=path)


def _enlarged(record: Record) -> Record:
    """Add empty space below the image of a record and to its right. Return the record with the new size."""
    from PIL import Image  # not at the top: the other checks also run in a browser without Pillow

    height, width = LARGER
    with Image.open(record.image) as file:
        page = file.convert("RGB")
    larger = Image.new("RGB", (width, height), page.getpixel((0, 0)))
    larger.paste(page)
    larger.save(record.image)
    return replace(record, size=(height, width))


def _damaged(rng: np.random.Generator) -> tuple[Annotations, dict[str, Record], dict[str, tuple[str, Record]]]:
    """Return annotations with every fault, and dicts: key to correct record, and key to (fault, damaged record)."""
    everything = _with_capitals(rng, _folder()[1])
    several = [record for record in everything.records if len(record.boxes) >= 2]
    planned = [*PLANTED, *[("", 0)] * (PAGES - len(PLANTED))]
    while True:
        chosen = [_marked(rng, several[i]) for i in rng.choice(len(several), PAGES, replace=False)]
        left_out = ("missing", "no objects", "second")
        kept = [record for record, (fault, _) in zip(chosen, planned, strict=True) if fault not in left_out]
        labels = {label for record in kept for label in record.labels.tolist()}
        if len(labels) == len(everything.classes) - 1:  # the validator reports a class without objects
            break
    truth, planted, records = {}, {}, []
    for record, (fault, variant) in zip(chosen, planned, strict=True):
        true, wrong = _plant(rng, record, fault, variant, everything.classes)
        if fault != "missing":
            if fault == "second":  # the other record of this image has no fault
                true = wrong = _second(true, chosen[-1])
            truth[_key(true)] = true
        if fault:
            planted[_key(wrong)] = fault, wrong
        records.append(wrong)
    order = rng.permutation(np.arange(1, len(records)))
    order = np.append(0, order)  # the first image is missing
    return replace(everything, records=[records[i] for i in order]), truth, planted


def _second(record: Record, other: Record) -> Record:
    """Return the record as a second one of the image of `other`. Their first objects are equal."""
    arrays = {name: getattr(record, name).copy() for name in ("boxes", "labels", "areas")}
    for name, array in arrays.items():
        array[0] = getattr(other, name)[0]
    names = (other.names[0], *record.names[1:])
    return replace(
        record, image=other.image, size=other.size, image_id=f"{record.image_id}{SECOND}", names=names, **arrays
    )


def _with_capitals(rng: np.random.Generator, annotations: Annotations) -> Annotations:
    """Return a copy of the annotations in which some class names begin with a capital letter."""
    capital = rng.permutation(len(annotations.classes)) % 2 == 0
    classes = tuple(name.title() if capital[i] and i else name for i, name in enumerate(annotations.classes))
    records = [
        replace(record, names=tuple(classes[label] for label in record.labels)) for record in annotations.records
    ]
    return replace(annotations, classes=classes, records=records)


def _marked(rng: np.random.Generator, record: Record) -> Record:
    """Return the record with one of its objects marked as truncated, and sometimes one as difficult or as a crowd."""
    objects = np.arange(len(record.boxes))
    one, other, third = rng.integers(len(objects), size=3)
    marks = {"truncated": objects == one, "difficult": objects == other, "crowd": objects == third}
    del marks[str(rng.choice(["difficult", "crowd"]))]
    return replace(record, **marks)


def _plant(
    rng: np.random.Generator, record: Record, fault: str, variant: int, classes: Sequence[str]
) -> tuple[Record, Record]:
    """Return the correct record, and the record with the fault, in one of its variants."""
    boxes, i = record.boxes.copy(), int(rng.integers(len(record.boxes)))
    first = variant == 0
    if fault == "missing":
        return record, replace(record, image=record.image.with_name(f"lost-{record.image.name}"))
    if fault == "capitals":
        names, labels = list(record.names), record.labels.copy()
        names[i], labels[i] = names[i].swapcase(), -1
        return record, replace(record, names=tuple(names), labels=labels)
    if fault == "exchanged":
        boxes[i] = boxes[i][([2, 1, 0, 3], [0, 3, 2, 1], [2, 3, 0, 1])[variant]]
        return record, replace(record, boxes=boxes)
    if fault == "beyond":
        height, width = record.size or PAGE_SIZE
        column, edge = ((2, float(width)), (0, 0.0), (3, float(height)), (1, 0.0))[variant]
        side = int(boxes[:, column].argmax()) if edge else int(boxes[:, column].argmin())
        true, boxes = boxes.copy(), boxes.copy()
        true[side, column] = edge
        boxes[side, column] = edge + float(rng.integers(4, 30)) * (1 if edge else -1)
        return replace(record, boxes=true), replace(record, boxes=boxes)
    if fault == "other-size":
        factors = ((2.0, 2.0), (1.5, 0.5), (0.75, 1.25), (1.0, 1.5), (0.5, 1.0))[variant]  # also one side only
        height, width = record.size or PAGE_SIZE
        size = (int(height * factors[0]), int(width * factors[1]))
        return record, replace(record, boxes=boxes * np.tile(factors[::-1], 2), size=size)
    if fault in ("same box", "same capitals"):  # two objects of different classes may have the same box
        both = _rows(record, [*range(len(boxes)), i])
        labels = both.labels.copy()
        labels[-1] = labels[-1] % (len(classes) - 1) + 1
        different = replace(both, labels=labels, names=(*record.names, classes[labels[-1]]))
        if fault == "same box":
            return different, different
        names, labels = list(different.names), labels.copy()
        for row in (i, -1):
            names[row], labels[row] = names[row].swapcase(), -1
        return different, replace(different, names=tuple(names), labels=labels)
    if fault == "twice":  # the next object alone has these marks, so a mark of another row is a wrong mark
        once = _rows(record, [i, *np.delete(np.arange(len(boxes)), i)])
        of_next, of_first = np.arange(len(boxes)) == 1, np.arange(len(boxes)) == 0
        once = replace(once, truncated=of_next, difficult=of_next, crowd=of_next if first else of_first)
        both = _rows(once, [0, *range(len(boxes))])
        if variant == 1:  # the two are not neighbours
            both = _rows(once, [*range(len(boxes)), 0])
        if variant == 2:  # the second of the two has other marks
            row = np.arange(len(both.boxes)) == 1
            both = replace(both, difficult=both.difficult ^ row, truncated=both.truncated ^ row, crowd=both.crowd ^ row)
        return once, both
    if fault == "equal after":
        return _equal_after(record)
    if fault == "equal names":
        return _equal_names(record)
    if fault == "nearly":
        both = _rows(record, [*range(len(boxes)), i])
        boxes = both.boxes.copy()
        boxes[-1, (2, 2, 0)[variant]] += (-0.25, -1 / 64, 0.25)[variant]
        both = replace(both, boxes=boxes)
        return both, both
    if fault == "no objects":
        nothing = _rows(record, [])
        return nothing, nothing
    if fault == "no size":
        repaired, wrong = _plant(
            rng, record, *(("exchanged", 0), ("beyond", 0), ("beyond", 3), ("twice", 0))[variant], classes
        )
        return repaired, replace(wrong, size=None)  # the other faults remain to be repaired, too
    return record, record


def _equal_names(record: Record) -> tuple[Record, Record]:
    """Return the correct record, and one whose first object appears twice, once with other capital letters."""
    both = _rows(record, [0, *range(len(record.boxes))])
    names, labels = list(both.names), both.labels.copy()
    names[1], labels[1] = names[1].swapcase(), -1
    return record, replace(both, names=tuple(names), labels=labels)


def _equal_after(record: Record) -> tuple[Record, Record]:
    """Return the correct record, and one whose first object appears twice, but only after the repair.

    Both boxes extend beyond the right border, but not equally far.
    """
    both = _rows(record, [0, *range(len(record.boxes))])
    boxes, true = both.boxes.copy(), record.boxes.copy()
    width = (record.size or PAGE_SIZE)[1]
    boxes[:2, 2] = width + np.array([3.0, 9.0])
    true[0, 2] = width
    return replace(record, boxes=true), replace(both, boxes=boxes)


def _rows(record: Record, rows: Sequence[int]) -> Record:
    """Return a copy of the record with the objects in these rows."""
    arrays = {name: getattr(record, name)[rows] for name in ARRAYS}
    return replace(record, names=tuple(record.names[i] for i in rows), **arrays)


# ---------------------------------------------------------------------- fitted anchors


class _Boxes:
    """A data set of blank images, with boxes."""

    classes = ("background", "thing")

    def __init__(self, sizes: list[Size], boxes_list: list[np.ndarray]) -> None:
        self._sizes, self._boxes = sizes, boxes_list

    def __len__(self) -> int:
        return len(self._boxes)

    def annotation(self, index: int) -> tuple[Size, dict[str, np.ndarray]]:
        boxes = self._boxes[index]  # an IndexError ends a loop over the images
        return self._sizes[index], {"boxes": boxes.copy(), "labels": np.ones(len(boxes), np.int64)}

    def __getitem__(self, index: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        return np.full((*self._sizes[index], 3), 200, np.uint8), self.annotation(index)[1]


@dataclass(frozen=True)
class _Kind:
    """A kind of image: the `sizes` of images, `min_size`, and the `smallest` size and `lowest` ratio of the objects.

    The smallest size is in pixels of the resized image.
    """

    sizes: tuple[Size, ...]
    min_size: int
    smallest: float
    lowest: float

    def images(self, rng: np.random.Generator) -> _Boxes:
        """Draw images of this kind. The last image has no object."""
        images = [self.sizes[i % len(self.sizes)] for i in range(IMAGES_TO_FIT)]
        drawn = []
        for size in images:
            longer = self.smallest * SPREAD[0] ** rng.uniform(size=OBJECTS) / _scale(size, self.min_size)
            ratios = self.lowest * SPREAD[1] ** rng.uniform(size=OBJECTS)
            sides = np.stack([longer / np.sqrt(ratios), longer * np.sqrt(ratios)], axis=1)  # (G, 2), width and height
            corner = rng.uniform(size=(OBJECTS, 2)) * np.maximum(np.array(size[::-1]) - sides, 0)
            drawn.append(np.concatenate([corner, corner + sides], axis=1).astype(np.float32))
        return _Boxes([*images, images[0]], [*drawn, np.zeros((0, 4), np.float32)])


def _scale(size: Size, min_size: int) -> float:
    """Return the factor by which an image of this size is enlarged."""
    return resized_size(size, min_size, 2 * min_size)[0] / size[0]


def _check_choice(function: Function, dataset: _Boxes, others: _Boxes, min_size: int) -> None:
    """Raise CheckFailed if the anchors that `function` chooses for `dataset` do not cover `others`."""
    strides, max_size = [(STRIDE, STRIDE)], 2 * min_size
    case = Case(
        {
            "(height, width) of the first images": tuple(dataset.annotation(i)[0] for i in range(3)),
            "min_size": min_size,
            "strides": strides,
            "boxes of the first image": dataset.annotation(0)[1]["boxes"],
        },
        "",
    )
    got, failure = attempt(function, dataset, list(strides), min_size, max_size)
    if failure is not None:
        raise _no_choice(
            case,
            failure.sentence,
            "Begin with the sizes of all objects in the resized images. An image without objects is valid. Its boxes "
            "have shape (0, 4).",
        )
    if got is None:
        raise _no_choice(case, "returns None", "A function without `return` returns None.")
    if not isinstance(got, (tuple, list)) or len(got) != 2:
        raise _no_choice(case, "must return a tuple of 2 values", "Return the sizes and the ratios.", got)
    try:
        sizes, ratios = (tuple(float(x) for x in numbers) for numbers in got)
        generator = anchors.AnchorGenerator(sizes, ratios)
    except Exception as error:
        raise _no_choice(
            case, f"returns invalid sizes and ratios: {error}", "Return two sequences of positive numbers.", got
        ) from error
    if max(len(sizes), len(ratios)) > MOST:
        raise _no_choice(
            case,
            f"returns {len(sizes)} sizes and {len(ratios)} ratios; at most {MOST} of each are allowed",
            "With enough anchors, every object is covered, but every anchor costs time.",
            (sizes, ratios),
        )
    reached = evaluate.coverage(others, generator, strides, min_size, max_size, progress=False)
    for threshold, asked in ASKED.items():
        if (recall := reached.recall(threshold)) < asked:
            raise _no_choice(
                case,
                f"returns anchors that cover {recall:.1%} of the objects in new images at an IoU of "
                f"{threshold:g}; at least {asked:.0%} are required",
                _what_is_missed(reached, sizes, ratios, dataset, min_size),
                (sizes, ratios),
            )


def _what_is_missed(
    reached: evaluate.Coverage, sizes: Sequence[float], ratios: Sequence[float], dataset: _Boxes, min_size: int
) -> str:
    """Return a hint that explains why anchors of these sizes and ratios do not cover enough objects."""
    scale = float(np.median([_scale(dataset.annotation(i)[0], min_size) for i in range(len(dataset))]))
    middle, of_anchors = float(np.median(reached.sizes)), float(np.median(sizes))
    shape, of_shapes = float(np.median(reached.ratios)), float(np.median(ratios))
    near = 1.25
    if _apart(shape, of_shapes) > near and _apart(shape, 1 / of_shapes) < near:
        return "A ratio is height / width."
    if _apart(middle, of_anchors) > near and _apart(middle, of_anchors * scale) < near:
        return "Anchors lie on the resized image. Measure the objects on the resized image, too."
    if _apart(middle, of_anchors) > near and _apart(middle, of_anchors**0.5) < near * scale:
        return "A size is a length: it is the square root of an area."
    missed = reached.best_iou < 0.7
    return (
        f"In the resized images, the sizes of all objects are {reached.sizes.min():.0f} to {reached.sizes.max():.0f} "
        f"pixels, and their ratios are {reached.ratios.min():.2g} to {reached.ratios.max():.2g}. "
        f"Objects missed at an IoU of 0.7 have a median size of {np.median(reached.sizes[missed]):.0f} pixels "
        f"and a median ratio of {np.median(reached.ratios[missed]):.2g}. Images may be wide or tall, and each has its "
        "own size."
    )


def _apart(one: float, other: float) -> float:
    """Return the ratio of the larger to the smaller of two positive numbers."""
    return max(one / other, other / one)


def _no_choice(case: Case, sentence: str, hint: str, got: Any = None) -> CheckFailed:
    return failed("choose_anchors", replace(case, hint=hint), Failure(sentence, got))

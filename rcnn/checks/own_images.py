"""Checks of what is done with a folder of one's own: faulty annotations that are mended, anchors that are fitted."""

from __future__ import annotations

import copy
import functools
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rcnn import anchors, evaluate
from rcnn.checks._engine import Case, CheckFailed, Failure, Function, attempt, check_callable, message
from rcnn.data import Annotations, Record, Shapes, read_annotations, validate, write_voc
from rcnn.transform import Size, resized_size

PAGES, POOL, PAGE_SIZE = 11, 40, (64, 96)
OF_ALL = ("no-images", "no-objects", "unused-class", "mostly-empty")  # what follows where too much was left out
ARRAYS = ("boxes", "labels", "difficult", "crowd", "truncated", "areas")  # of a record, a row per object
A_ROW_EACH = "every array of a record has a row for each of its objects, and `names` an entry"
NEAR = 1.0  # pixels by which a mended box may differ from the true one
STRIDE, IMAGES_TO_FIT, OBJECTS, SPREAD = 8, 40, 6, (2.4, 2.0)  # of sizes, of ratios: the largest over the smallest
MOST = 3  # sizes, and ratios
ASKED = {0.5: 0.99, 0.7: 0.90}  # recall of the anchors by IoU


def repair(function: Function, seed: int | None = None) -> None:
    """Nothing where `function(annotations)` gives `rcnn.data.Annotations` that are mended: see `FAULTS`.

    The validator must find nothing in them, and what could be saved must be there: boxes to within a pixel, labels,
    names, marks and the image's size. What was passed must stay as it was. Raises CheckFailed, which says what is
    wrong.
    """
    check_callable("repair", function)
    damaged, truth, planted = _damaged(np.random.default_rng(seed))
    before = copy.deepcopy(damaged)
    got, failure = attempt(function, damaged)
    if failure is not None:
        raise _failed(
            None,
            failure.sentence,
            "one fault after another, on one record at a time: the validator tells "
            "which are left, and the notebook what each looks like",
        )
    if got is None:
        raise _failed(None, "gives None", "a function without `return` gives None")
    if not isinstance(got, Annotations):
        raise _failed(
            None,
            f"gives {type(got).__name__}; Annotations are expected",
            "`dataclasses.replace(annotations, records=[...])` makes new Annotations of new records",
        )
    for old, new in zip(before.records, damaged.records, strict=False):
        if len(before.records) != len(damaged.records) or not _equal(old, new):
            raise _failed(
                old,
                "changes the annotations that it was given",
                "work on copies: an array that is written into is the same array in the record that it came from",
            )
    _check_order_of_sizes(got)
    _check_problems(got, planted)
    _check_truth(got, truth, planted)


def choose_anchors(function: Function, seed: int | None = None) -> None:
    """Nothing where `function(dataset, strides, min_size, max_size)` gives (sizes, ratios) that cover more images.

    At most `MOST` sizes, in pixels of the batch, and as many ratios, height / width. On images of the same kind that
    the function has not seen, the share of objects with an anchor of an IoU of 0.5, and of 0.7, must reach `ASKED`.
    Raises CheckFailed, which says what is wrong.
    """
    check_callable("choose_anchors", function)
    rng = np.random.default_rng(seed)
    for ratio in rng.permutation([0.25, 1.0, 2.2]):
        kind = _Kind((96, 144), int(rng.integers(2, 4)) * 96, float(rng.uniform(20, 24)), float(ratio))
        dataset, others = kind.images(rng), kind.images(rng)
        _check_choice(function, dataset, others, kind.min_size)


# ---------------------------------------------------------------------- annotations that are mended

FAULTS: Mapping[str, str] = {  # what a learner's function has to mend, and what to think about
    "missing": "the image's file is not there: such a record cannot be saved, so it is left out; all others can be",
    "capitals": "the class is written with other capitals, so the object has the label -1; both its name and its label "
    "are to be those of the class",
    "exchanged": "two corners were exchanged, x1 with x2 or y1 with y2: the object is still there, between the smaller "
    "and the larger",
    "beyond": "the box reaches beyond its image: it is to end at the border",
    "other-size": "the annotation was made for an image of another size: boxes are to be multiplied by the file's "
    "width or height over the stated one, and the record is to state the file's; cut boxes only then",
    "twice": "the same box of the same class is there twice: one of the two remains, in boxes, names, labels and all "
    "the other arrays of the record",
}


def _failed(record: Record | None, sentence: str, hint: str) -> CheckFailed:
    shown: dict[str, Any] = {"annotations": f"{PAGES} records of pages with shapes, of which most are damaged"}
    if record is not None:
        shown = {
            "record.image.name": record.image.name,
            "record.size": record.size,
            "record.boxes": record.boxes,
            "record.names": record.names,
            "record.labels": record.labels,
        }
    return CheckFailed(message("repair", Case(shown, hint), Failure(sentence)))


def _check_order_of_sizes(got: Annotations) -> None:
    """CheckFailed for sizes as Pillow gives them, which the validator would call another fault."""
    for record in got.records:
        if record.size is not None and tuple(record.size) == PAGE_SIZE[::-1]:
            raise _failed(
                record,
                "gives an image whose width stands where its height belongs",
                "a record's `size` is (height, width); that of a Pillow image is (width, height)",
            )


def _check_problems(got: Annotations, planted: Mapping[str, tuple[str, Record]]) -> None:
    """CheckFailed for what the validator finds."""
    try:
        found = validate(got, progress=False, to_learn=False).problems
    except Exception as error:
        raise _failed(
            None, f"gives records that cannot be read ({type(error).__name__}: {error})", A_ROW_EACH
        ) from error
    problems = [problem for problem in found if problem.kind not in OF_ALL]
    if problems:
        index = problems[0].examples[0].image
        name = "" if index is None else got.records[index].image.name
        fault, record = planted.get(name, ("", None))
        raise _failed(
            record,
            f"leaves what the validator finds: {problems[0].sentence} ({problems[0].kind})",
            FAULTS.get(fault, problems[0].remedy),
        )


def _check_truth(got: Annotations, truth: Mapping[str, Record], planted: Mapping[str, tuple[str, Record]]) -> None:
    """CheckFailed for what the validator cannot know: records and objects that are gone, and boxes that are others."""
    found = {record.image.name: record for record in got.records}
    for name, true in truth.items():
        fault, record = planted.get(name, ("", true))
        hint = FAULTS.get(fault, "nothing is wrong with this image: it must come out as it went in")
        if name not in found:
            raise _failed(
                record,
                "leaves out an image that can be saved",
                f"the validator is silent, for it does not know what is gone; {hint}",
            )
        given = found[name]
        _check_lengths(given, record)
        if len(given.boxes) != len(true.boxes):
            raise _failed(
                record,
                f"gives {len(given.boxes)} objects for this record; {len(true.boxes)} are expected",
                f"the validator is silent, for it does not know what is gone; {hint}",
            )
        pairs = _same_objects(given, true)
        if pairs is None:
            raise _failed(record, "gives other objects than there are on this image", hint)
        if given.size is None or tuple(given.size) != true.size:
            raise _failed(record, f"gives the size {given.size} for this record, whose file is {true.size}", hint)
        if wrong := _wrong_row(given, true, pairs):
            raise _failed(
                record,
                f"gives `{wrong}` of which a row is not that of its object",
                f"every array of a record, and `names`, has the row of an object where `boxes` has it; {hint}",
            )
    if len(got.records) != len(truth):
        raise _failed(None, f"gives {len(got.records)} records; {len(truth)} are expected", "a record for each image")


def _check_lengths(given: Record, record: Record) -> None:
    """CheckFailed where an array of a mended record has more or fewer rows than it has boxes."""
    for name in ("names", *ARRAYS):
        if len(getattr(given, name)) != len(given.boxes):
            raise _failed(
                record, f"gives {len(getattr(given, name))} rows of `{name}` for {len(given.boxes)} boxes", A_ROW_EACH
            )


def _same_objects(given: Record, true: Record) -> list[int] | None:
    """Where each true object stands in `given`, in any order; None if not each is there."""
    rest, found = list(range(len(given.boxes))), []
    for box, label in zip(true.boxes, true.labels, strict=True):
        near = [i for i in rest if given.labels[i] == label and np.abs(given.boxes[i] - box).max() <= NEAR]
        if not near:
            return None
        found.append(near[0])
        rest.remove(near[0])
    return found


def _wrong_row(given: Record, true: Record, pairs: Sequence[int]) -> str | None:
    """Which of the further arrays differs from the true one, whose row i is row pairs[i] of `given`; None for none."""
    if [given.names[i] for i in pairs] != list(true.names):
        return "names"
    marks = ("difficult", "crowd", "truncated")
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
    """A folder of pages of shapes, which goes with the process, and what is in it."""
    folder = tempfile.TemporaryDirectory()
    write_voc(Shapes(POOL, seed=14, size=PAGE_SIZE), folder.name, "train", progress=False)
    return folder, read_annotations(f"voc:{folder.name}", None)


def _damaged(rng: np.random.Generator) -> tuple[Annotations, dict[str, Record], dict[str, tuple[str, Record]]]:
    """(annotations with every fault, what they should be by the image's name, (fault, record) by the same)."""
    everything = _folder()[1]
    several = [record for record in everything.records if len(record.boxes) >= 2]
    while True:
        chosen = [_marked(rng, several[i]) for i in rng.choice(len(several), PAGES, replace=False)]
        labels = {label for record in chosen[1:] for label in record.labels.tolist()}
        if len(labels) == len(everything.classes) - 1:  # a class without objects would be a problem of its own
            break
    truth, planted, records = {}, {}, []
    faults = ["missing", "capitals", "exchanged", "exchanged", "beyond", "beyond", "other-size", "other-size", "twice"]
    for number, record in enumerate(chosen):
        fault = faults[number] if number < len(faults) else ""
        true, wrong = _plant(rng, record, fault, first=number % 2 == 0)
        if fault != "missing":
            truth[true.image.name] = true
        if fault:
            planted[wrong.image.name] = fault, wrong
        records.append(wrong)
    order = rng.permutation(len(records))
    return replace(everything, records=[records[i] for i in order]), truth, planted


def _marked(rng: np.random.Generator, record: Record) -> Record:
    """The record with one of its objects said to be truncated."""
    return replace(record, truncated=np.arange(len(record.boxes)) == rng.integers(len(record.boxes)))


def _plant(rng: np.random.Generator, record: Record, fault: str, first: bool) -> tuple[Record, Record]:
    """(what the record should be, the record with the fault); `first` chooses between two forms of it."""
    boxes, i = record.boxes.copy(), int(rng.integers(len(record.boxes)))
    if fault == "missing":
        return record, replace(record, image=record.image.with_name(f"lost-{record.image.name}"))
    if fault == "capitals":
        names, labels = list(record.names), record.labels.copy()
        names[i], labels[i] = names[i].upper(), -1
        return record, replace(record, names=tuple(names), labels=labels)
    if fault == "exchanged":
        boxes[i] = boxes[i][[2, 1, 0, 3] if first else [0, 3, 2, 1]]
        return record, replace(record, boxes=boxes)
    if fault == "beyond":
        side = int(boxes[:, 2].argmax()) if first else int(boxes[:, 0].argmin())
        column, edge = (2, float(PAGE_SIZE[1])) if first else (0, 0.0)
        true, boxes = boxes.copy(), boxes.copy()
        true[side, column] = edge
        boxes[side, column] = edge + float(rng.integers(4, 30)) * (1 if first else -1)
        return replace(record, boxes=true), replace(record, boxes=boxes)
    if fault == "other-size":
        factors = (2.0, 2.0) if first else (1.5, 0.5)
        size = (int(PAGE_SIZE[0] * factors[0]), int(PAGE_SIZE[1] * factors[1]))
        return record, replace(record, boxes=boxes * np.tile(factors[::-1], 2), size=size)
    if fault == "twice":
        return record, _rows(record, [*range(len(boxes)), i])
    return record, record


def _rows(record: Record, rows: Sequence[int]) -> Record:
    """The record with these of its objects."""
    arrays = {name: getattr(record, name)[rows] for name in ARRAYS}
    return replace(record, names=tuple(record.names[i] for i in rows), **arrays)


# ---------------------------------------------------------------------- anchors that are fitted


class _Boxes:
    """A data set of blank images of one size with these boxes."""

    classes = ("background", "thing")

    def __init__(self, size: Size, boxes_list: list[np.ndarray]) -> None:
        self._size, self._boxes = size, boxes_list

    def __len__(self) -> int:
        return len(self._boxes)

    def annotation(self, index: int) -> tuple[Size, dict[str, np.ndarray]]:
        boxes = self._boxes[index]  # an IndexError ends a loop over the images
        return self._size, {"boxes": boxes.copy(), "labels": np.ones(len(boxes), np.int64)}

    def __getitem__(self, index: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        return np.full((*self._size, 3), 200, np.uint8), self.annotation(index)[1]


@dataclass(frozen=True)
class _Kind:
    """What images of one kind have in common: the objects' smallest size, in their pixels, and their smallest ratio."""

    size: Size
    min_size: int
    smallest: float
    lowest: float

    def images(self, rng: np.random.Generator) -> _Boxes:
        """Images of this kind; the last of them has no object."""
        count = (IMAGES_TO_FIT, OBJECTS)
        sizes = self.smallest * SPREAD[0] ** rng.uniform(size=count)
        ratios = self.lowest * SPREAD[1] ** rng.uniform(size=count)
        sides = np.stack([sizes / np.sqrt(ratios), sizes * np.sqrt(ratios)], axis=2)  # (P, G, 2), width and height
        corner = rng.uniform(size=(*count, 2)) * np.maximum(np.array(self.size[::-1]) - sides, 0)
        boxes = np.concatenate([corner, corner + sides], axis=2).astype(np.float32)
        return _Boxes(self.size, [*boxes, np.zeros((0, 4), np.float32)])


def _check_choice(function: Function, dataset: _Boxes, others: _Boxes, min_size: int) -> None:
    """CheckFailed where the anchors that `function` chooses for `dataset` do not cover `others`."""
    strides, max_size = [(STRIDE, STRIDE)], 2 * min_size
    case = Case(
        {
            "the images' (height, width)": dataset.annotation(0)[0],
            "min_size": min_size,
            "strides": strides,
            "the boxes of the first": dataset.annotation(0)[1]["boxes"],
        },
        "",
    )
    got, failure = attempt(function, dataset, list(strides), min_size, max_size)
    if failure is not None:
        raise _no_choice(
            case,
            failure.sentence,
            "begin with the sizes of all objects on the resized images; a "
            "image without objects is an ordinary one, with boxes of the shape (0, 4)",
        )
    if got is None:
        raise _no_choice(case, "gives None", "a function without `return` gives None")
    if not isinstance(got, (tuple, list)) or len(got) != 2:
        raise _no_choice(case, "must give 2 things, in a tuple", "the sizes, and the ratios", got)
    try:
        sizes, ratios = (tuple(float(x) for x in numbers) for numbers in got)
        generator = anchors.AnchorGenerator(sizes, ratios)
    except (TypeError, ValueError) as error:
        raise _no_choice(
            case, f"gives what is no sizes and ratios: {error}", "two sequences of positive numbers", got
        ) from error
    if max(len(sizes), len(ratios)) > MOST:
        raise _no_choice(
            case,
            f"gives {len(sizes)} sizes and {len(ratios)} ratios; {MOST} of each are the most",
            "with enough anchors everything is covered, and every one of them costs time",
            (sizes, ratios),
        )
    reached = evaluate.coverage(others, generator, strides, min_size, max_size, progress=False)
    for threshold, asked in ASKED.items():
        if (recall := reached.recall(threshold)) < asked:
            raise _no_choice(
                case,
                f"gives anchors that reach {recall:.1%} of the objects of other images at an IoU of "
                f"{threshold:g}; {asked:.0%} are asked for",
                _what_is_missed(reached, sizes, ratios, dataset.annotation(0)[0], min_size),
                (sizes, ratios),
            )


def _what_is_missed(
    reached: evaluate.Coverage, sizes: Sequence[float], ratios: Sequence[float], size: Size, min_size: int
) -> str:
    """What to think about where anchors of these sizes and ratios do not cover the objects."""
    scale = resized_size(size, min_size, 2 * min_size)[0] / size[0]
    middle, of_anchors = float(np.median(reached.sizes)), float(np.median(sizes))
    shape, of_shapes = float(np.median(reached.ratios)), float(np.median(ratios))
    near = 1.25
    if _apart(shape, of_shapes) > near and _apart(shape, 1 / of_shapes) < near:
        return "a ratio is height / width"
    if _apart(middle, of_anchors) > near and _apart(middle, of_anchors * scale) < near:
        return "anchors lie on the resized image, and so do the objects that they are held against"
    if _apart(middle, of_anchors) > near and _apart(middle, of_anchors**0.5) < near * scale:
        return "a size is a length: the square root of an area"
    missed = reached.best_iou < 0.7
    return (
        f"the sizes of all objects go from {reached.sizes.min():.0f} to {reached.sizes.max():.0f} pixels of the "
        f"batch, their ratios from {reached.ratios.min():.2g} to {reached.ratios.max():.2g}; those that are missed "
        f"at 0.7 have about {np.median(reached.sizes[missed]):.0f} and {np.median(reached.ratios[missed]):.2g}"
    )


def _apart(one: float, other: float) -> float:
    """The factor, at least 1, between two positive numbers."""
    return max(one / other, other / one)


def _no_choice(case: Case, sentence: str, hint: str, got: Any = None) -> CheckFailed:
    return CheckFailed(message("choose_anchors", replace(case, hint=hint), Failure(sentence, got)))

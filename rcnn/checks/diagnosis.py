"""Detectors with one planted fault each, for a learner's diagnosis, and the check of what the learner calls them.

    for patient in diagnosis.ward(seed=1):
        print(patient.name, diagnose(patient))
    diagnosis.check(diagnose)
    diagnosis.check_recalls(recalls)  # a measurement on the way to it

Every patient is the shipped digit detector with pages of its own. What is wrong lies in the detector's settings, in
its weights or in the annotations of the pages; one patient of a ward is sound.
"""

from __future__ import annotations

import copy
import string
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from rcnn.boxes import iou
from rcnn.checks._engine import NOT_WRITTEN, Case, CheckFailed, Function, attempt, check_callable, run
from rcnn.config import FasterRCNNConfig
from rcnn.data import Digits
from rcnn.model import FasterRCNN
from rcnn.nn.random import drawing_from
from rcnn.roi_heads import RoIHeads
from rcnn.zoo.checkpoint import load_digits

Page = tuple[np.ndarray, dict[str, np.ndarray]]

SOUND = "sound"
"""What a detector without a fault is called."""
PAGES = 16  # of a patient
LARGE = 4.0  # times as large as they should be: the sides of the anchors
WRONG_PIXELS: tuple[dict[str, Any], ...] = (  # each is right for pixels in another range, or takes half of the step
    {"image_mean": (127.5,) * 3, "image_std": (63.75,) * 3},
    {"image_mean": (0.0,) * 3, "image_std": (63.75,) * 3},
    {"image_std": (1 / 255,) * 3},
)


@dataclass(frozen=True, eq=False)
class Pages:
    """Images with their targets, as a data set."""

    items: list[Page]
    classes: tuple[str, ...] = Digits.classes

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Page:
        return self.items[index]


@dataclass(frozen=True, eq=False)
class Patient:
    """A detector and annotated pages: what there is to examine.

    name: a letter. model: the detector. pages: images and targets, (G, 4) boxes and (G,) labels each.
    """

    name: str
    model: FasterRCNN
    pages: Pages


# ---------------------------------------------------------------------- faults


def sound(rng: np.random.Generator) -> tuple[FasterRCNN, Pages]:
    """The shipped detector and pages that it has not seen, without empty ones."""
    drawn = Digits(2 * PAGES, split="val", seed=int(rng.integers(1, 2**31)))  # one in twenty has fewer than two digits
    full = [page for page in map(drawn.__getitem__, range(len(drawn))) if len(page[1]["boxes"]) >= 2]
    return load_digits(), Pages(full[:PAGES])


def swapped_axes(rng: np.random.Generator) -> tuple[FasterRCNN, Pages]:
    """The boxes of the pages are y1, x1, y2, x2."""
    model, pages = sound(rng)
    return model, Pages(
        [(image, {**target, "boxes": target["boxes"][:, [1, 0, 3, 2]]}) for image, target in pages.items]
    )


def shuffled_boxes(rng: np.random.Generator) -> tuple[FasterRCNN, Pages]:
    """Every page has the target of a page some places further on."""
    model, pages = sound(rng)
    by = int(rng.integers(1, len(pages)))
    return model, Pages([(pages[i][0], pages[(i + by) % len(pages)][1]) for i in range(len(pages))])


def labels_from_0(rng: np.random.Generator) -> tuple[FasterRCNN, Pages]:
    """The digit 0 has the label 0, the digit 1 the label 1, and so on: the background has been forgotten."""
    model, pages = sound(rng)
    return model, Pages([(image, {**target, "labels": target["labels"] - 1}) for image, target in pages.items])


def large_anchors(rng: np.random.Generator) -> tuple[FasterRCNN, Pages]:
    """The anchors of the detector are four times as large as those that it was trained with."""
    model, pages = sound(rng)
    return _with_settings(model, anchor_sizes=tuple(LARGE * np.array(model.config.anchor_sizes))), pages


def wrong_normalisation(rng: np.random.Generator) -> tuple[FasterRCNN, Pages]:
    """The detector subtracts a mean, or divides by a deviation, of pixels in another range than 0 .. 1."""
    model, pages = sound(rng)
    return _with_settings(model, **WRONG_PIXELS[rng.integers(len(WRONG_PIXELS))]), pages


def untrained_head(rng: np.random.Generator) -> tuple[FasterRCNN, Pages]:
    """The second stage has the weights with which a training begins, and none of them requires a gradient."""
    model, pages = sound(rng)
    with drawing_from(rng):
        c = model.config
        model.roi_heads = RoIHeads(
            c.feat_channels, c.num_classes, pool_size=c.pool_size, hidden_dim=c.hidden_dim, dropout=c.dropout
        )
    for parameter in model.roi_heads.parameters():
        parameter.requires_grad = False
    return model, pages


PLANTED: dict[str, Callable[[np.random.Generator], tuple[FasterRCNN, Pages]]] = {
    SOUND: sound,
    "swapped axes": swapped_axes,
    "shuffled boxes": shuffled_boxes,
    "labels from 0": labels_from_0,
    "large anchors": large_anchors,
    "wrong normalisation": wrong_normalisation,
    "untrained head": untrained_head,
}
NAMES = tuple(PLANTED)
"""What a patient may be called."""

HINTS = {
    SOUND: "this detector finds and names its objects: who finds a fault in everybody is no help to anybody",
    "swapped axes": "its detections lie well on the digits. Do the annotated boxes? Which exchange of columns would "
    "lay them there?",
    "shuffled boxes": "its detections lie well on the digits, but the annotated boxes do not, whichever way their "
    "columns are exchanged. Are they the boxes of some other page?",
    "labels from 0": "its boxes lie where they should. Subtract the annotated label from the detected one, digit by "
    "digit",
    "large anchors": "look at the first thing that is held against the objects: how well does the best anchor overlap "
    "each?",
    "wrong normalisation": "begin where the images enter the network: which mean and which deviation has the batch?",
    "untrained head": "the proposals are good and what comes of them is not: how certain is the head of any class, and "
    "does any of its weights learn?",
}


def _with_settings(model: FasterRCNN, **changes: Any) -> FasterRCNN:
    """The same detector, the same weights included, with other settings."""
    changed = FasterRCNN(FasterRCNNConfig(model.backbone, **{**model.config.settings(), **changes}))
    changed.load_state_dict(model.state_dict())
    return changed.eval()


# ---------------------------------------------------------------------- patients


def ward(seed: int) -> list[Patient]:
    """Seven patients in an order that the seed draws: six have a fault each, one is sound. Their names are letters."""
    return [patient for patient, _ in _admitted(seed)]


def reference(seed: int) -> Patient:
    """One that is known to be sound, to compare with."""
    return Patient("sound", *sound(np.random.default_rng([seed, 1])))


def check(function: Callable[[Patient], str], seed: int | None = None) -> None:
    """Nothing where `function(patient)` gives the right one of `NAMES` for each patient of a ward; else CheckFailed.

    Without a seed the ward is a new one each time.
    """
    check_callable("diagnosis.check", function)
    for patient, fault in _admitted(int(np.random.default_rng(seed).integers(2**31))):
        answer = _answer(function, patient)
        if not isinstance(answer, str) or answer not in PLANTED:
            without = "; a function without `return` gives None" if answer is None else ""
            raise CheckFailed(
                f"patient {patient.name}: your function says {answer!r}{without}; a patient is one of "
                f"{', '.join(map(repr, PLANTED))}"
            )
        if answer != fault:
            raise CheckFailed(
                f"patient {patient.name}: your function says {answer!r}, which it is not\n"
                f"Think about it: {HINTS[fault]}"
            )


def _answer(function: Callable[[Patient], Any], patient: Patient) -> Any:
    """What the function says of a patient; CheckFailed where it says nothing, or does something to the patient."""
    before = copy.deepcopy([target for _, target in patient.pages.items])
    answer, failure = attempt(function, patient)
    if failure is not None and failure.sentence == NOT_WRITTEN:
        raise CheckFailed(
            f"diagnosis: your function, or one that it calls, {NOT_WRITTEN}\n"
            "Think about it: begin with the first number of the walk and the one fault that it tells, "
            "and call all others 'sound'; what comes here then is the next hint"
        )
    if failure is not None:
        raise CheckFailed(
            f"patient {patient.name}: your function {failure.sentence}\n"
            "Think about it: on some pages a patient finds nothing, and nothing has no largest number"
        )
    for old, (_, new) in zip(before, patient.pages.items, strict=True):
        if old.keys() != new.keys() or not all(np.array_equal(old[name], new[name]) for name in old):
            raise CheckFailed(
                f"patient {patient.name}: your function changes the annotations\n"
                "Think about it: work on a copy; what has been changed cannot be measured any more"
            )
    return answer


def _admitted(seed: int) -> Iterator[tuple[Patient, str]]:
    """The patients of a ward one after the other, and what each has."""
    rng = np.random.default_rng([seed, 0])
    order = [NAMES[i] for i in rng.permutation(len(NAMES))]
    for letter, fault in zip(string.ascii_uppercase, order, strict=False):
        yield Patient(letter, *PLANTED[fault](rng)), fault


# ---------------------------------------------------------------------- hypotheses about annotations


def check_recalls(function: Function, seed: int | None = None) -> None:
    """Nothing where `function(found, wanted)` gives the recall as annotated and after two faults have been undone.

    found and wanted: of each of N pages, N >= 2, the boxes that are detected, (D, 4), and annotated, (G, 4). The three
    numbers: the share of all annotated boxes that some box found on their page overlaps by an IoU of at least 0.5; the
    same with the annotated boxes read as y1, x1, y2, x2; and the best share where page i has the annotated boxes of
    page (i + k) % N, of k = 1 .. N - 1. Raises CheckFailed, which says what is wrong.
    """
    check_callable("diagnosis.check_recalls", function)
    run("recalls", function, _recalls, _recall_cases(np.random.default_rng(seed)))


def _recalls(found: list[np.ndarray], wanted: list[np.ndarray]) -> tuple[float, float, float]:
    turned = [page[:, [1, 0, 3, 2]] for page in wanted]
    moved = [wanted[k:] + wanted[:k] for k in range(1, len(wanted))]
    return _recall(found, wanted), _recall(found, turned), max(_recall(found, pages) for pages in moved)


def _recall(found: list[np.ndarray], wanted: list[np.ndarray]) -> float:
    best = [iou(boxes, objects).max(axis=0, initial=0) for boxes, objects in zip(found, wanted, strict=True)]
    return float((np.concatenate(best) >= 0.5).mean())


def _recall_cases(rng: np.random.Generator) -> Iterator[Case]:
    one, few, many = _drawn(rng, (1, 1)), _drawn(rng, (1, 3)), _drawn(rng, (2, 1, 3, 2, 1))
    half = [page - [0, 0, 0, 10] for page in few]  # every box is 20 high: an IoU of 0.5
    less = [page - [0, 0, 0, 10.5] for page in few]
    yield Case(
        {"found": one, "wanted": one},
        "every object has a box that lies on it, so the first number is 1; the "
        "other two are recalls as well, for two other readings of the annotations",
    )
    yield Case({"found": half, "wanted": few}, "an IoU of 0.5 is enough")
    yield Case({"found": less, "wanted": few}, "an IoU below 0.5 is not enough")
    yield Case(
        {"found": [few[0][:0], few[1]], "wanted": few},
        "all objects of all pages count alike, those of a page on which nothing is found, too",
    )
    yield Case(
        {"found": [few[0], np.tile(few[1], (4, 1))], "wanted": few},
        "recall asks each object for a box, not each box for an object",
    )
    yield Case(
        {"found": many, "wanted": [page[:, [1, 0, 3, 2]] for page in many]},
        "the second number: x1, y1, x2, y2 have come as y1, x1, y2, x2; which exchange of columns undoes that?",
    )
    for wanted in (*(many[by:] + many[:by] for by in (2, 1, 4)), many[::-1]):
        yield Case(
            {"found": many, "wanted": wanted},
            "the third number: try every k from 1 to N - 1, with the same k "
            "for all pages, and go round at the end; the best counts",
        )
    yield Case(
        {"found": many, "wanted": many}, "for the third number k = 0 is none of the moves: it is the first number"
    )
    for _ in range(3):
        mixed = _drawn(rng, (2, 0, 3, 1))
        kept = [page[: rng.integers(0, 3)] for page in mixed]
        yield Case(
            {"found": kept, "wanted": mixed},
            "three recalls over all objects, each for one reading of the "
            "annotations; a page may be without objects, or without boxes",
        )


def _drawn(rng: np.random.Generator, counts: tuple[int, ...]) -> list[np.ndarray]:
    """Pages with so many boxes, (G, 4) each, 20 high, none of which touches another, nor any with x and y exchanged."""
    columns = rng.permutation(np.arange(sum(counts)))
    left, top = 50.0 * columns, 600.0 + 30.0 * rng.permutation(columns)
    boxes = np.stack([left, top, left + rng.integers(24, 40, len(columns)), top + 20.0], axis=1)
    return np.split(boxes, np.cumsum(counts)[:-1])

"""Detectors with one planted fault each, and the check of a learner's diagnosis of them.

    for patient in diagnosis.ward(seed=1):
        print(patient.name, diagnose(patient))
    diagnosis.check(diagnose)
    diagnosis.check_recalls(recalls)  # a measurement that the diagnosis needs

Every patient is the shipped digit detector with its own pages. The fault is in the detector's settings, in its weights
or in the annotations of the pages. One patient of a ward has no fault.
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
"The name for a detector without a fault."
PAGES = 16  # per patient
LARGE = 4.0  # factor by which the anchors are too large
WRONG_PIXELS: tuple[dict[str, Any], ...] = (  # right for pixels in another range, or only half of the conversion
    {"image_mean": (127.5,) * 3, "image_std": (63.75,) * 3},
    {"image_mean": (0.0,) * 3, "image_std": (63.75,) * 3},
    {"image_std": (1 / 255,) * 3},
)


@dataclass(frozen=True, eq=False)
class Pages:
    """Images with their targets, as a data set.

    Attributes
    ----------
    items : list of (image, target)
        Images (H, W, 3) and targets with "boxes" (G, 4) and "labels" (G,).
    classes : tuple of str
        Class names, with the background first.
    """

    items: list[Page]
    classes: tuple[str, ...] = Digits.classes

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Page:
        return self.items[index]


@dataclass(frozen=True, eq=False)
class Patient:
    """A detector and annotated pages to examine.

    Attributes
    ----------
    name : str
        A letter.
    model : FasterRCNN
        The detector.
    pages : Pages
        Images and targets, with (G, 4) boxes and (G,) labels each.
    """

    name: str
    model: FasterRCNN
    pages: Pages


# ---------------------------------------------------------------------- faults


def sound(rng: np.random.Generator) -> tuple[FasterRCNN, Pages]:
    """Return the shipped detector and pages that it has not seen, with at least two objects each.

    Parameters
    ----------
    rng : np.random.Generator
        Draws the pages and the fault's variant.

    Returns
    -------
    FasterRCNN
        The detector.
    Pages
        Its annotated pages.
    """
    drawn = Digits(2 * PAGES, split="val", seed=int(rng.integers(1, 2**31)))  # 1 in 20 has fewer than two digits
    full = [page for page in map(drawn.__getitem__, range(len(drawn))) if len(page[1]["boxes"]) >= 2]
    return load_digits(), Pages(full[:PAGES])


def swapped_axes(rng: np.random.Generator) -> tuple[FasterRCNN, Pages]:
    """Return a patient whose annotated boxes are y1, x1, y2, x2.

    Parameters
    ----------
    rng : np.random.Generator
        Draws the pages and the fault's variant.

    Returns
    -------
    FasterRCNN
        The detector.
    Pages
        Its annotated pages.
    """
    model, pages = sound(rng)
    return model, Pages(
        [(image, {**target, "boxes": target["boxes"][:, [1, 0, 3, 2]]}) for image, target in pages.items]
    )


def shuffled_boxes(rng: np.random.Generator) -> tuple[FasterRCNN, Pages]:
    """Return a patient whose pages have the targets of other pages, shifted by a constant index.

    Parameters
    ----------
    rng : np.random.Generator
        Draws the pages and the fault's variant.

    Returns
    -------
    FasterRCNN
        The detector.
    Pages
        Its annotated pages.
    """
    model, pages = sound(rng)
    by = int(rng.integers(1, len(pages)))
    return model, Pages([(pages[i][0], pages[(i + by) % len(pages)][1]) for i in range(len(pages))])


def labels_from_0(rng: np.random.Generator) -> tuple[FasterRCNN, Pages]:
    """Return a patient whose labels start at 0 instead of 1: digit 0 has the background's label.

    Parameters
    ----------
    rng : np.random.Generator
        Draws the pages and the fault's variant.

    Returns
    -------
    FasterRCNN
        The detector.
    Pages
        Its annotated pages.
    """
    model, pages = sound(rng)
    return model, Pages([(image, {**target, "labels": target["labels"] - 1}) for image, target in pages.items])


def large_anchors(rng: np.random.Generator) -> tuple[FasterRCNN, Pages]:
    """Return a patient whose anchors are four times as large as in training.

    Parameters
    ----------
    rng : np.random.Generator
        Draws the pages and the fault's variant.

    Returns
    -------
    FasterRCNN
        The detector.
    Pages
        Its annotated pages.
    """
    model, pages = sound(rng)
    return _with_settings(model, anchor_sizes=tuple(LARGE * np.array(model.config.anchor_sizes))), pages


def wrong_normalisation(rng: np.random.Generator) -> tuple[FasterRCNN, Pages]:
    """Return a patient whose image mean or standard deviation is for pixels in another range than 0 .. 1.

    Parameters
    ----------
    rng : np.random.Generator
        Draws the pages and the fault's variant.

    Returns
    -------
    FasterRCNN
        The detector.
    Pages
        Its annotated pages.
    """
    model, pages = sound(rng)
    return _with_settings(model, **WRONG_PIXELS[rng.integers(len(WRONG_PIXELS))]), pages


def untrained_head(rng: np.random.Generator) -> tuple[FasterRCNN, Pages]:
    """Return a patient whose second stage is randomly initialised and frozen.

    Parameters
    ----------
    rng : np.random.Generator
        Draws the pages and the fault's variant.

    Returns
    -------
    FasterRCNN
        The detector.
    Pages
        Its annotated pages.
    """
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
"The possible answers for a patient."

HINTS = {
    SOUND: "This detector finds and classifies its objects. Not every patient has a fault.",
    "swapped axes": "Its detections lie on the digits. Do the annotated boxes? Which exchange of columns would move "
    "them there?",
    "shuffled boxes": "Its detections lie on the digits, but the annotated boxes do not, for any exchange of their "
    "columns. Are they the boxes of another page?",
    "labels from 0": "Its boxes are right. Subtract the annotated label from the detected one, digit by digit.",
    "large anchors": "Look at the first stage that is compared with the objects: how well does the best anchor "
    "overlap each?",
    "wrong normalisation": "Begin where the images enter the network: which mean and which standard deviation has the "
    "batch?",
    "untrained head": "The proposals are good and the detections are not. How certain is the head of any class, and "
    "do any of its weights learn?",
}


def _with_settings(model: FasterRCNN, **changes: Any) -> FasterRCNN:
    """Return the same detector, with the same weights and other settings."""
    changed = FasterRCNN(FasterRCNNConfig(model.backbone, **{**model.config.settings(), **changes}))
    changed.load_state_dict(model.state_dict())
    return changed.eval()


# ---------------------------------------------------------------------- patients


def ward(seed: int) -> list[Patient]:
    """Return seven patients in random order: six have one fault each, one has none.

    Parameters
    ----------
    seed : int
        Seed of the order, the pages and the faults.

    Returns
    -------
    list of Patient
        The patients, named A to G.
    """
    return [patient for patient, _ in _admitted(seed)]


def reference(seed: int) -> Patient:
    """Return a patient without a fault, to compare with.

    Parameters
    ----------
    seed : int
        Seed of its pages.

    Returns
    -------
    Patient
        The patient, named "sound".
    """
    return Patient("sound", *sound(np.random.default_rng([seed, 1])))


def check(function: Callable[[Patient], str], seed: int | None = None) -> None:
    """Raise CheckFailed unless `function` diagnoses every patient of a ward.

    Parameters
    ----------
    function : callable
        ``function(patient)``. Takes a `Patient` and returns one of `NAMES`.
    seed : int, optional
        Seed of the ward. Without a seed, every call draws a new ward.

    Raises
    ------
    CheckFailed
        For the first patient with a wrong answer. The message has a hint.
    TypeError
        If `function` is not callable.
    """
    check_callable("diagnosis.check", function)
    for patient, fault in _admitted(int(np.random.default_rng(seed).integers(2**31))):
        answer = _answer(function, patient)
        if not isinstance(answer, str) or answer not in PLANTED:
            without = " (a function without `return` returns None)" if answer is None else ""
            raise CheckFailed(
                f"patient {patient.name}: your function returns {answer!r}{without}; must be one of "
                f"{', '.join(map(repr, PLANTED))}"
            )
        if answer != fault:
            raise CheckFailed(
                f"patient {patient.name}: your function returns {answer!r}, which is wrong\nHint: {HINTS[fault]}"
            )


def _answer(function: Callable[[Patient], Any], patient: Patient) -> Any:
    """Return the answer for a patient; raise CheckFailed if there is none or if an annotation changed."""
    before = copy.deepcopy([target for _, target in patient.pages.items])
    answer, failure = attempt(function, patient)
    if failure is not None and failure.sentence == NOT_WRITTEN:
        raise CheckFailed(
            f"diagnosis: your function, or one that it calls, {NOT_WRITTEN}\n"
            "Hint: Begin with the first measurement and the one fault that it reveals, and call all others "
            "'sound'. Then run the check again for the next hint."
        )
    if failure is not None:
        raise CheckFailed(
            f"patient {patient.name}: your function {failure.sentence}\n"
            "Hint: Some pages have no detections, and `max` of an empty array is an error."
        )
    for old, (_, new) in zip(before, patient.pages.items, strict=True):
        if old.keys() != new.keys() or not all(np.array_equal(old[name], new[name]) for name in old):
            raise CheckFailed(
                f"patient {patient.name}: your function changes the annotations\n"
                "Hint: Work on a copy. Changed annotations cannot be measured again."
            )
    return answer


def _admitted(seed: int) -> Iterator[tuple[Patient, str]]:
    """Yield the patients of a ward, each with its fault."""
    rng = np.random.default_rng([seed, 0])
    order = [NAMES[i] for i in rng.permutation(len(NAMES))]
    for letter, fault in zip(string.ascii_uppercase, order, strict=False):
        yield Patient(letter, *PLANTED[fault](rng)), fault


# ---------------------------------------------------------------------- hypotheses about annotations


def check_recalls(function: Function, seed: int | None = None) -> None:
    """Raise CheckFailed unless `function` returns the recall for three readings of the annotations.

    Parameters
    ----------
    function : callable
        ``function(found, wanted)``. Takes the detected boxes (D, 4) and the annotated boxes (G, 4) of each of N >= 2
        pages. Returns three numbers: the share of all annotated boxes that some box detected on their page overlaps
        with an IoU of at least 0.5; the same with the annotated boxes read as y1, x1, y2, x2; and the best share if
        page i has the annotated boxes of page (i + k) % N, over k = 1 .. N - 1.
    seed : int, optional
        Seed for the random inputs. Without it, every call uses new inputs.

    Raises
    ------
    CheckFailed
        If any answer is wrong. The message shows the smallest failing input found and a hint.
    TypeError
        If `function` is not callable.
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
    half = [page - [0, 0, 0, 10] for page in few]  # boxes are 20 high, so the IoU is 0.5
    less = [page - [0, 0, 0, 10.5] for page in few]
    yield Case(
        {"found": one, "wanted": one},
        "Every object has a box that lies on it, so the first number is 1. The other two are recalls as well, for two "
        "other readings of the annotations.",
    )
    yield Case({"found": half, "wanted": few}, "An IoU of 0.5 is enough.")
    yield Case({"found": less, "wanted": few}, "An IoU below 0.5 is not enough.")
    yield Case(
        {"found": [few[0][:0], few[1]], "wanted": few},
        "All objects of all pages count alike, including those of a page without detections.",
    )
    yield Case(
        {"found": [few[0], np.tile(few[1], (4, 1))], "wanted": few},
        "Recall looks for a box for each object, not for an object for each box.",
    )
    yield Case(
        {"found": many, "wanted": [page[:, [1, 0, 3, 2]] for page in many]},
        "The second number: x1, y1, x2, y2 are stored as y1, x1, y2, x2. Which exchange of columns undoes that?",
    )
    for wanted in (*(many[by:] + many[:by] for by in (2, 1, 4)), many[::-1]):
        yield Case(
            {"found": many, "wanted": wanted},
            "The third number: try every k from 1 to N - 1, with the same k for all pages, and continue with page 0 "
            "after the last. The best counts.",
        )
    yield Case({"found": many, "wanted": many}, "For the third number, do not try k = 0: that is the first number.")
    for _ in range(3):
        mixed = _drawn(rng, (2, 0, 3, 1))
        kept = [page[: rng.integers(0, 3)] for page in mixed]
        yield Case(
            {"found": kept, "wanted": mixed},
            "Three recalls over all objects, each for one reading of the annotations. A page may have no objects, or "
            "no boxes.",
        )


def _drawn(rng: np.random.Generator, counts: tuple[int, ...]) -> list[np.ndarray]:
    """Draw pages with these numbers of boxes, (G, 4), 20 high; none touches another, even with x and y exchanged."""
    columns = rng.permutation(np.arange(sum(counts)))
    left, top = 50.0 * columns, 600.0 + 30.0 * rng.permutation(columns)
    boxes = np.stack([left, top, left + rng.integers(24, 40, len(columns)), top + 20.0], axis=1)
    return np.split(boxes, np.cumsum(counts)[:-1])

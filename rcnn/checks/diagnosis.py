"""Detectors with planted faults, and checks of functions that diagnose them.

    for patient in diagnosis.ward(seed=1):
        print(patient.name, diagnose(patient))
    diagnosis.check(diagnose)
    diagnosis.check_recalls(recalls)  # recalls that help with the diagnosis

In this module, a `Patient` is a detector to diagnose: a copy of the digit detector that is part of rcnn, together with
annotated pages (images of digits). Its fault is in the detector's settings, in the detector's weights or in the
annotations. A ward is a list of seven patients; six have one fault each, and one has no fault.
"""

from __future__ import annotations

import copy
import string
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from rcnn._validate import integer
from rcnn.boxes import iou
from rcnn.checks._engine import NOT_WRITTEN, Case, CheckFailed, Function, attempt, check_callable, generator_of, run
from rcnn.config import FasterRCNNConfig
from rcnn.data import Digits
from rcnn.model import FasterRCNN
from rcnn.nn.random import drawing_from
from rcnn.roi_heads import RoIHeads
from rcnn.zoo.checkpoint import load_digits

Page = tuple[np.ndarray, dict[str, np.ndarray]]

SOUND = "sound"
"The diagnosis for a detector without a fault."
PAGES = 16  # number of pages for each detector
LARGE = 4.0  # factor by which the anchors are too large
WRONG_PIXELS: tuple[
    dict[str, Any], ...
] = (  # mean and std for pixels in another range, or only one of the two converted to it
    {"image_mean": (127.5,) * 3, "image_std": (63.75,) * 3},
    {"image_mean": (0.0,) * 3, "image_std": (63.75,) * 3},
    {"image_std": (1 / 255,) * 3},
)


@dataclass(frozen=True, eq=False)
class Pages:
    """A data set of images and their targets.

    Attributes
    ----------
    items : list of (image, target)
        Images (H, W, 3), each with a target: a dictionary with the "boxes" (G, 4) and "labels" (G,) of its G objects.
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
        Letter that identifies the detector.
    model : FasterRCNN
        The detector.
    pages : Pages
        The annotated pages.
    """

    name: str
    model: FasterRCNN
    pages: Pages


# ---------------------------------------------------------------------- faults


def sound(rng: np.random.Generator) -> tuple[FasterRCNN, Pages]:
    """Return the digit detector, and pages that it was not trained on, with at least two objects each.

    Parameters
    ----------
    rng : np.random.Generator
        Random generator for the pages and the variant of the fault.

    Returns
    -------
    FasterRCNN
        The detector.
    Pages
        The annotated pages.
    """
    drawn = Digits(2 * PAGES, split="val", seed=int(rng.integers(1, 2**31)))  # 1 page in 20 has fewer than two digits
    full = [page for page in map(drawn.__getitem__, range(len(drawn))) if len(page[1]["boxes"]) >= 2]
    return load_digits(), Pages(full[:PAGES])


def swapped_axes(rng: np.random.Generator) -> tuple[FasterRCNN, Pages]:
    """Return a detector, and pages whose annotated boxes are stored as y1, x1, y2, x2.

    Parameters
    ----------
    rng : np.random.Generator
        Random generator for the pages and the variant of the fault.

    Returns
    -------
    FasterRCNN
        The detector.
    Pages
        The annotated pages.
    """
    model, pages = sound(rng)
    return model, Pages(
        [(image, {**target, "boxes": target["boxes"][:, [1, 0, 3, 2]]}) for image, target in pages.items]
    )


def shuffled_boxes(rng: np.random.Generator) -> tuple[FasterRCNN, Pages]:
    """Return a detector, and pages with the targets of other pages: page i has the targets of page i + k (cyclic).

    Parameters
    ----------
    rng : np.random.Generator
        Random generator for the pages and the variant of the fault.

    Returns
    -------
    FasterRCNN
        The detector.
    Pages
        The annotated pages.
    """
    model, pages = sound(rng)
    by = int(rng.integers(1, len(pages)))
    return model, Pages([(pages[i][0], pages[(i + by) % len(pages)][1]) for i in range(len(pages))])


def labels_from_0(rng: np.random.Generator) -> tuple[FasterRCNN, Pages]:
    """Return a detector, and pages whose labels start at 0, so that digit 0 has the label of the background.

    Parameters
    ----------
    rng : np.random.Generator
        Random generator for the pages and the variant of the fault.

    Returns
    -------
    FasterRCNN
        The detector.
    Pages
        The annotated pages.
    """
    model, pages = sound(rng)
    return model, Pages([(image, {**target, "labels": target["labels"] - 1}) for image, target in pages.items])


def large_anchors(rng: np.random.Generator) -> tuple[FasterRCNN, Pages]:
    """Return pages, and a detector whose anchors are four times as large as in training.

    Parameters
    ----------
    rng : np.random.Generator
        Random generator for the pages and the variant of the fault.

    Returns
    -------
    FasterRCNN
        The detector.
    Pages
        The annotated pages.
    """
    model, pages = sound(rng)
    return _with_settings(model, anchor_sizes=tuple(LARGE * np.array(model.config.anchor_sizes))), pages


def wrong_normalisation(rng: np.random.Generator) -> tuple[FasterRCNN, Pages]:
    """Return pages, and a detector whose image mean or standard deviation is wrong for pixels from 0 to 1.

    Parameters
    ----------
    rng : np.random.Generator
        Random generator for the pages and the variant of the fault.

    Returns
    -------
    FasterRCNN
        The detector.
    Pages
        The annotated pages.
    """
    model, pages = sound(rng)
    return _with_settings(model, **WRONG_PIXELS[rng.integers(len(WRONG_PIXELS))]), pages


def untrained_head(rng: np.random.Generator) -> tuple[FasterRCNN, Pages]:
    """Return pages, and a detector whose second stage is randomly initialised and frozen.

    Parameters
    ----------
    rng : np.random.Generator
        Random generator for the pages and the variant of the fault.

    Returns
    -------
    FasterRCNN
        The detector.
    Pages
        The annotated pages.
    """
    model, pages = sound(rng)
    with drawing_from(rng):
        c = model.config
        model.roi_heads = RoIHeads(
            c.feat_channels,
            c.num_classes,
            pool_size=c.pool_size,
            hidden_dim=c.hidden_dim,
            dropout=c.dropout,
            num_convs=c.box_num_convs,
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
"The possible diagnoses."

HINTS = {
    SOUND: "This detector finds its objects and classifies them correctly. Not every detector has a fault.",
    "swapped axes": "Its detections lie on the digits. Do the annotated boxes lie there, too? Which swap of columns "
    "would move them there?",
    "shuffled boxes": "Its detections lie on the digits, but the annotated boxes do not, whichever columns you swap. "
    "Do these boxes belong to another page?",
    "labels from 0": "Its boxes are right. For each digit, subtract the annotated label from the detected label.",
    "large anchors": "Anchors are the first boxes that are compared with the objects. How well does the best "
    "anchor overlap each object?",
    "wrong normalisation": "Begin where the images enter the network: what are the mean and the standard deviation of "
    "the batch?",
    "untrained head": "The proposals are good, but the detections are not. How certain is the second stage of any "
    "class? Can any of its weights learn?",
}


def _with_settings(model: FasterRCNN, **changes: Any) -> FasterRCNN:
    """Return a copy of a detector with the same weights and changed settings."""
    changed = FasterRCNN(FasterRCNNConfig(model.backbone, **{**model.config.settings(), **changes}))
    changed.load_state_dict(model.state_dict())
    return changed.eval()


# ---------------------------------------------------------------------- the detectors to diagnose


def ward(seed: int) -> list[Patient]:
    """Return seven detectors in random order: six have one fault each, one has none.

    Parameters
    ----------
    seed : int
        Seed for the order of the detectors, their pages and the variants of their faults.

    Returns
    -------
    list of Patient
        The detectors with their pages, named A to G.
    """
    return [patient for patient, _ in _admitted(seed)]


def reference(seed: int) -> Patient:
    """Return a detector without a fault, for comparison.

    Parameters
    ----------
    seed : int
        Seed for the pages.

    Returns
    -------
    Patient
        The detector with its pages, named "reference".
    """
    return Patient("reference", *sound(np.random.default_rng([_check_seed(seed), 1])))


def check(function: Callable[[Patient], str], seed: int | None = None) -> None:
    """Raise CheckFailed unless `function` gives the right diagnosis for each of ten detectors.

    Seven of them are a ward. The others have a wrong normalisation, each of another kind.

    Parameters
    ----------
    function : callable
        ``function(patient)``. The argument is a `Patient`. The function returns one of `NAMES`.
    seed : int, optional
        Seed for the detectors, as in `ward`. Without it, every call uses new detectors.

    Raises
    ------
    CheckFailed
        If the diagnosis of a detector is wrong. The message shows the first wrong diagnosis and a hint.
    TypeError
        If `function` is not callable.
    """
    check_callable("diagnosis.check", function)
    number = int(generator_of(seed).integers(2**31))
    for patient, fault in chain(_admitted(number), _with_every_normalisation(number)):
        answer = _answer(function, patient)
        if not isinstance(answer, str) or answer not in PLANTED:
            without = " (a function without `return` returns None)" if answer is None else ""
            raise CheckFailed(
                f"detector {patient.name}: your function returns {answer!r}{without}; the diagnosis must be one of "
                f"{', '.join(map(repr, PLANTED))}"
            )
        if answer != fault:
            raise CheckFailed(
                f"detector {patient.name}: your function returns {answer!r}, which is wrong\nHint: {HINTS[fault]}"
            )


def _answer(function: Callable[[Patient], Any], patient: Patient) -> Any:
    """Return the diagnosis by `function`. Raise CheckFailed if it is invalid, or if an annotation was changed."""
    before = copy.deepcopy([target for _, target in patient.pages.items])
    answer, failure = attempt(function, patient)
    if failure is not None and failure.sentence == NOT_WRITTEN:
        raise CheckFailed(
            f"diagnosis: your function, or one that it calls, {NOT_WRITTEN}\n"
            "Hint: Begin with the first measurement and the fault that it reveals. Return 'sound' for all other "
            "detectors. Then run the check again to get the next hint."
        )
    if failure is not None:
        raise CheckFailed(
            f"detector {patient.name}: your function {failure.sentence}\n"
            "Hint: Some pages have no detections, and `max` of an empty array is an error."
        )
    for old, (_, new) in zip(before, patient.pages.items, strict=True):
        if old.keys() != new.keys() or not all(np.array_equal(old[name], new[name]) for name in old):
            raise CheckFailed(
                f"detector {patient.name}: your function changes the annotations\n"
                "Hint: Work on a copy, because changed annotations cannot be measured again."
            )
    return answer


def _check_seed(seed: int) -> int:
    return int(integer(0, 2**63 - 1).check("seed", seed))


def _admitted(seed: int) -> Iterator[tuple[Patient, str]]:
    """Yield each detector of a ward with its fault."""
    rng = np.random.default_rng([_check_seed(seed), 0])
    order = [NAMES[i] for i in rng.permutation(len(NAMES))]
    for letter, fault in zip(string.ascii_uppercase, order, strict=False):
        yield Patient(letter, *PLANTED[fault](rng)), fault


def _with_every_normalisation(seed: int) -> Iterator[tuple[Patient, str]]:
    """Yield a detector with each wrong normalisation, and the name of this fault. A ward has only one of them."""
    rng = np.random.default_rng([_check_seed(seed), 2])
    for letter, settings in zip(string.ascii_uppercase[len(NAMES) :], WRONG_PIXELS, strict=False):
        model, pages = sound(rng)
        yield Patient(letter, _with_settings(model, **settings), pages), "wrong normalisation"


# ---------------------------------------------------------------------- interpretations of the annotations


def check_recalls(function: Function, seed: int | None = None) -> None:
    """Raise CheckFailed unless `function` returns the recall for three interpretations of the annotations.

    Parameters
    ----------
    function : callable
        ``function(found, wanted)``. For each of N >= 2 pages, `found` contains the D detected boxes, (D, 4), and
        `wanted` contains the G annotated boxes, (G, 4). An annotated box is found if a detected box on its page
        overlaps it with an IoU of at least 0.5. The recall is the fraction of all annotated boxes that are found. The
        function returns three recalls. For the first one, the annotations are used as they are. For the second one, the
        annotated boxes are read as y1, x1, y2, x2. For the third one, page i is paired with the annotated boxes of page
        (i + k) % N, with the k in 1 .. N - 1 that gives the highest recall.
    seed : int, optional
        Seed for the random inputs. Without it, every call uses new inputs.

    Raises
    ------
    CheckFailed
        If any result is wrong. The message shows a hint and the smallest failing input that was found.
    TypeError
        If `function` is not callable.
    """
    check_callable("diagnosis.check_recalls", function)
    run("recalls", function, _recalls, _recall_cases(generator_of(seed)))


def _recalls(found: list[np.ndarray], wanted: list[np.ndarray]) -> tuple[float, float, float]:
    turned = [page[:, [1, 0, 3, 2]] for page in wanted]
    moved = [wanted[k:] + wanted[:k] for k in range(1, len(wanted))]
    return _recall(found, wanted), _recall(found, turned), max(_recall(found, pages) for pages in moved)


def _recall(found: list[np.ndarray], wanted: list[np.ndarray]) -> float:
    best = [iou(boxes, objects).max(axis=0, initial=0) for boxes, objects in zip(found, wanted, strict=True)]
    return float((np.concatenate(best) >= 0.5).mean())


def _recall_cases(rng: np.random.Generator) -> Iterator[Case]:
    one, few, many = _drawn(rng, (1, 1)), _drawn(rng, (1, 3)), _drawn(rng, (2, 1, 3, 2, 1))
    half = [page - [0, 0, 0, 10] for page in few]  # boxes are 20 pixels high, so the IoU is 0.5
    less = [page - [0, 0, 0, 10.5] for page in few]
    yield Case(
        {"found": one, "wanted": one},
        "Every object has a detected box, so the first number is 1. The other two numbers are also recalls, for two "
        "other interpretations of the annotations.",
    )
    yield Case({"found": half, "wanted": few}, "An IoU of 0.5 is enough.")
    yield Case({"found": less, "wanted": few}, "An IoU below 0.5 is not enough.")
    yield Case(
        {"found": [few[0][:0], few[1]], "wanted": few},
        "All objects of all pages count equally, including those of a page without detections.",
    )
    yield Case(
        {"found": [few[0], np.tile(few[1], (4, 1))], "wanted": few},
        "For the recall, look for a detected box for each object, not for an object for each detected box.",
    )
    yield Case(
        {"found": many, "wanted": [page[:, [1, 0, 3, 2]] for page in many]},
        "For the second number, assume that x1, y1, x2, y2 were stored as y1, x1, y2, x2. Which swap of columns "
        "reverses that?",
    )
    for wanted in (*(many[by:] + many[:by] for by in (2, 1, 4)), many[::-1]):
        yield Case(
            {"found": many, "wanted": wanted},
            "For the third number, try every k from 1 to N - 1, with the same k for all pages. Page 0 follows the "
            "last page. The best recall counts.",
        )
    yield Case(
        {"found": many, "wanted": many}, "For the third number, do not try k = 0, because that is the first number."
    )
    yield Case(
        {"found": [few[0], few[1][2:]], "wanted": few},
        "The second page has three objects and one detected box, which lies on the last object. Compare each object "
        "with all detected boxes of its page: their order has no meaning.",
    )
    for _ in range(3):
        mixed = _drawn(rng, (2, 0, 3, 1))
        kept = [rng.permutation(page)[: rng.integers(0, 3)] for page in mixed]
        yield Case(
            {"found": kept, "wanted": mixed},
            "Return three recalls over all objects, one for each interpretation of the annotations. A page may have "
            "no objects or no detected boxes.",
        )


def _drawn(rng: np.random.Generator, counts: tuple[int, ...]) -> list[np.ndarray]:
    """For each G in `counts`, draw a page with G boxes. They do not touch each other, even if x and y are swapped."""
    columns = rng.permutation(np.arange(sum(counts)))
    left, top = 50.0 * columns, 600.0 + 30.0 * rng.permutation(columns)
    boxes = np.stack([left, top, left + rng.integers(24, 40, len(columns)), top + 20.0], axis=1)
    return np.split(boxes, np.cumsum(counts)[:-1])

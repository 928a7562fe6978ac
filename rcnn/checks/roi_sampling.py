"""Check of the RoIs that the second stage learns from: how they are chosen, their labels and their deltas."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from rcnn import boxes
from rcnn._ext.dispatch import original
from rcnn.checks._chance import Seeded, unlike_chance, unrepeated
from rcnn.checks._engine import (
    Case,
    Failure,
    Function,
    answer,
    as_array,
    attempt,
    check_callable,
    copied,
    failed,
    generator_of,
    judging,
)
from rcnn.matching import IGNORED, match
from rcnn.roi_heads import RoITargets

DRAWS = 1500  # number of choices from the same candidates
FEW_DRAWS = 200  # the same, if all candidates are background
FRACTIONS = (0.25, 0.5)  # usual values of `positive_fraction`
NO_OBJECTS = (
    "The image has no objects, and more proposals than `batch_size`. An image without objects is no exception: draw "
    "`batch_size` of its proposals with `rng`, as background."
)
ONLY_OBJECTS = "All candidates are on objects. Draw as many of them as the fraction allows. The sample is smaller then."
SIDE = 40  # pixels: side of the objects
APART = 100  # pixels from one object to the next
SAME = 1e-3  # tolerance for float32, in pixels and for deltas
A_LABEL_IS_AN_INDEX = "A label is the index of a class, and the loss uses it as an index, so its dtype is an integer."

SETTINGS = {
    "fg_iou_thresh": 0.5,
    "bg_iou_thresh": 0.5,
    "batch_size": 8,
    "positive_fraction": 0.5,
    "weights": (10.0, 10.0, 5.0, 5.0),
}  # default settings of a case


@dataclass(frozen=True)
class _Truth:
    """Expected values for all candidates of a case: P proposals and the boxes of G objects.

    Attributes
    ----------
    rois : (P + G, 4) array
        Boxes.
    labels : (P + G,) array of int
        Label of each candidate: 0 for background, -1 for an ignored candidate.
    deltas : (P + G, 4) array
        Deltas of each candidate: 0 for background.
    matches : (P + G,) array of int
        Index of the object of each candidate; negative for background and ignored candidates.
    """

    rois: np.ndarray
    labels: np.ndarray
    deltas: np.ndarray
    matches: np.ndarray


@original
def roi_targets(function: Function, seed: int | None = None) -> None:
    """Raise CheckFailed unless `function` returns the RoIs that the second stage learns from.

    Parameters
    ----------
    function : callable
        ``function(proposals, gt_boxes, gt_labels, fg_iou_thresh=, bg_iou_thresh=, batch_size=, positive_fraction=,
        weights=, rng=)``, as for `rcnn.roi_heads.find_targets`. The first three arguments are P proposals, (P, 4), and
        the boxes, (G, 4), and labels, (G,), of G objects. The function returns R chosen RoIs, (R, 4), their labels,
        (R,), and their deltas, (R, 4), with rows in any order. The candidates are the proposals and the object boxes.
        Each candidate is compared with the object that it overlaps most. It is on this object if the IoU is at least
        `fg_iou_thresh`, it is background if the IoU is below `bg_iou_thresh`, and otherwise it is ignored. At most
        `batch_size` candidates are drawn with `rng`, without replacement. At most `int(batch_size * positive_fraction)`
        of them are on objects, and the rest are background. A label is the class of the object, or 0 for background.
        Deltas lead from the RoI to its object and are multiplied by `weights`. They are 0 for background.
    seed : int, optional
        Seed for the random inputs. Without it, every call uses new inputs.

    Raises
    ------
    CheckFailed
        If any result is wrong. The message shows a hint and an input for which the function fails.
    TypeError
        If `function` is not callable.

    References
    ----------
    Girshick, "Fast R-CNN", 2015, section 2.3.
    """
    check_callable("roi_targets", function)
    seeds = generator_of(seed)
    with judging("roi_targets"):
        _check_choices(function, seeds)


def _check_choices(function: Function, seeds: np.random.Generator) -> None:
    """Raise CheckFailed unless every choice is valid, repeatable, and as random as it should be."""
    for case in _roi_cases(seeds):
        _choice(function, case, case.arguments["rng"].made())
    hint = "Your function worked with other random numbers from `rng`. How does it handle unlikely ones?"
    many = _crowd(seeds, 12, hint)
    _raise_if(unrepeated(partial(_choice, function, many), many.arguments["rng"], "RoIs"), many)
    for count, examine in ((12, _unmoved), (3, _unequal)):
        case = _crowd(seeds, count, hint)
        _raise_if(examine(function, case), case)
    case = _only_background(seeds, 16, 6)
    _raise_if(_unmoved(function, case) or _unequal(function, case, FEW_DRAWS), case)
    case = _scene(seeds, 2, 12, 0, ONLY_OBJECTS, batch_size=8)
    _raise_if(_unmoved(function, case), case)


def _roi_cases(rng: np.random.Generator) -> Iterator[Case]:
    x, y = rng.integers(3, 60, 2).tolist()
    one, other = rng.choice(np.arange(2, 9), 2, replace=False).tolist()
    on, off = [x, y, x + SIDE, y + SIDE], [x + 300, y, x + 300 + SIDE, y + SIDE]
    near, half = [x + 4, y + 2, x + SIDE + 9, y + SIDE], [x, y, x + SIDE // 2, y + SIDE]
    beside = [x + 30, y, x + 30 + SIDE, y + SIDE]
    yield _rois(
        [near, np.add(near, 300), np.add(near, 600)],
        [on, np.add(on, 300), np.add(on, 600)],
        [one, other, one],
        rng,
        "One proposal is on each object. The candidates are all proposals and all true boxes. There are few of them, "
        "so all are chosen. Each candidate has the class of the object that it overlaps most.",
        batch_size=24,
    )
    yield _rois(
        [off],
        [on],
        [one],
        rng,
        "No proposal is on the object here, but the true box is a candidate, too. The proposal is background and has "
        "label 0. A match of -1 is not the index of an object.",
    )
    yield _rois(
        [near],
        [on],
        [one],
        rng,
        "The proposal lies on the object: the IoU is at least `fg_iou_thresh`. The proposal and the true box are both "
        "RoIs of that object.",
    )
    yield _rois(
        [near],
        [on, beside],
        [one, other],
        rng,
        "The proposal overlaps both objects. It belongs to the object that it overlaps most.",
    )
    yield _rois(
        [near],
        [beside, on],
        [one, other],
        rng,
        "The proposal overlaps both objects. It belongs to the object that it overlaps most.",
    )
    yield _rois(
        [half],
        [on],
        [one],
        rng,
        "The proposal covers exactly half of the object. The IoU is 0.5, which is *at least* `fg_iou_thresh`.",
    )
    yield _rois(
        [[x, y, x + 19, y + SIDE]],
        [on],
        [one],
        rng,
        "The IoU of the proposal is below `bg_iou_thresh`, so the proposal is background. It does not matter that it "
        "shows a part of the object, or that no other proposal is better. The second stage does not force matches.",
    )
    yield _rois(
        [[x, y, x + 15, y + SIDE]],
        [on],
        [one],
        rng,
        "The IoU lies between the two thresholds. This proposal is neither object nor background, so it is not chosen.",
        bg_iou_thresh=0.25,
    )
    yield _rois(
        [half],
        [on],
        [one],
        rng,
        "The IoU is exactly `bg_iou_thresh`. A proposal is background only if its IoU is *below* this threshold.",
        fg_iou_thresh=0.75,
    )
    for objects in ([on, beside], [beside, on]):
        yield _rois(
            [near],
            objects,
            [one, other],
            rng,
            "The proposal overlaps both objects by more than `fg_iou_thresh`. It belongs to the object that it "
            "overlaps most, not to the first one above the threshold.",
            fg_iou_thresh=0.125,
            bg_iou_thresh=0.125,
        )
    yield _rois(
        [[x, y, x + 8, y + SIDE]],
        [on],
        [one],
        rng,
        "The IoU is below `bg_iou_thresh`, so the proposal is background.",
        bg_iou_thresh=0.25,
    )
    yield _rois(
        [near, off],
        [on],
        [one],
        rng,
        "Each delta is multiplied by its own weight.",
        weights=(1.0, 2.0, 4.0, 8.0),
    )
    yield from _counted_cases(rng)
    yield _rois(
        [near, off],
        [on],
        [one],
        rng,
        "The IoU with the object is 0.76. The thresholds are arguments, and need not be 0.5.",
        fg_iou_thresh=0.8,
        bg_iou_thresh=0.8,
    )
    yield _rois(
        np.subtract([near, off, half], 300).tolist(),
        np.subtract([on, beside], 300).tolist(),
        [one, other],
        rng,
        "Boxes may lie to the left of the image or above it, so coordinates may be negative.",
        weights=(10.0, 4.0, 2.0, 5.0),
    )
    yield _rois(
        np.divide([near, off, [x + 8, y - 4, x + SIDE, y + SIDE]], 64).tolist(),
        np.divide([on], 64).tolist(),
        [one],
        rng,
        "These boxes are smaller than a pixel. Do not add a constant, and do not enlarge a box.",
    )
    yield _rois(
        [near, [x + 304, y, x + 336, y + 44], [x + 900, y, x + 940, y + 20]],
        [on, off, [x + 600, y, x + 640, y + 30]],
        [one, one, 90],
        rng,
        "Two objects may have the same class, and a class may have any number. Each RoI has the deltas of its own "
        "object.",
        weights=(1.0, 2.0, 4.0, 8.0),
        batch_size=16,
    )
    yield _rois([on, off], [], [], rng, "An image without objects is valid input: every RoI is background.")
    yield _only_background(rng, 12, 8)
    yield _rois([], [on], [one], rng, "There are no proposals, so the true box is the only candidate.")
    yield _rois([], [], [], rng, "There are no candidates, so the result has no rows.")
    wide, given = (
        _rois(
            [near, off],
            [on],
            [one],
            rng,
            "Proposals come from a network as float32, and true boxes come from a file as float64.",
        ),
        np.float32,
    )
    yield replace(wide, arguments={**wide.arguments, "proposals": wide.arguments["proposals"].astype(given)})
    for count in (1, 2, 4, 8):
        yield _crowd(
            rng,
            count,
            "These candidates are random. Find the IoU of each candidate with each object. Then count the candidates "
            "on objects and the background candidates. How many of each do the settings allow?",
        )
    yield _rois(
        [on, near, on],
        [on],
        [one],
        rng,
        "Two proposals equal the true box. The candidates are all proposals and all true boxes, so do not remove "
        "equal ones.",
        batch_size=16,
    )


def _counted_cases(rng: np.random.Generator) -> Iterator[Case]:
    def counted(objects: int, on: int, off: int, size: int, fraction: float, hint: str) -> Case:
        return _scene(rng, objects, on, off, hint, batch_size=size, positive_fraction=fraction)

    yield counted(
        1,
        7,
        12,
        8,
        0.25,
        "There are enough candidates of both kinds. `positive_fraction` is the fraction of RoIs on objects in a "
        "sample of `batch_size`. True boxes count as RoIs on objects.",
    )
    yield counted(
        2,
        5,
        9,
        7,
        0.5,
        "*At most* this fraction is on objects: half of 7 is not a whole number, so it is rounded down. Background "
        "fills the rest of the sample.",
    )
    yield counted(
        1, 0, 12, 8, 0.5, "There are fewer RoIs on objects than the fraction allows. Fill the sample with background."
    )
    yield counted(
        1,
        9,
        2,
        8,
        0.5,
        "There is too little background to fill the sample. The sample is smaller then. Do not choose more RoIs on "
        "objects than the fraction allows.",
    )
    yield counted(3, 9, 0, 8, 0.5, ONLY_OBJECTS)
    yield counted(9, 0, 0, 6, 0.5, ONLY_OBJECTS)
    yield counted(2, 2, 3, 100, 0.5, "There are fewer candidates than `batch_size`, so choose each of them once.")
    yield counted(
        5,
        0,
        9,
        8,
        0.25,
        "The fraction allows fewer RoIs on objects than there are true boxes. A true box is an ordinary candidate, so "
        "it is not always chosen.",
    )


def _rois(
    proposals: Any, gt_boxes: Any, gt_labels: Sequence[int], rng: np.random.Generator, hint: str, **settings: Any
) -> Case:
    return Case(
        {
            "proposals": np.array(proposals, float).reshape(-1, 4),
            "gt_boxes": np.array(gt_boxes, float).reshape(-1, 4),
            "gt_labels": np.array(gt_labels, np.int64),
            **SETTINGS,
            **settings,
            "rng": Seeded(int(rng.integers(1000))),
        },
        hint,
        named=(*SETTINGS, "rng"),
    )


def _scene(rng: np.random.Generator, objects: int, on: int, off: int, hint: str, **settings: Any) -> Case:
    """Return objects in a row, with `on` proposals on objects (IoU above 0.6) and `off` others (IoU below 0.3).

    If there are objects, every third of the other proposals overlaps one of them a little.
    """
    corner = np.array([[APART * i, 10] for i in range(objects)]) + rng.integers(0, 20, (objects, 2))  # (G, 2)
    gt_boxes = np.concatenate([corner, corner + SIDE], axis=1)
    moved = _apart(rng, on, 4)  # an IoU of at least 0.68
    good = gt_boxes[rng.integers(0, objects, on)] + moved
    a_little = off // 3 if objects else 0
    below = gt_boxes[rng.integers(0, objects, a_little)] + [0, 26, 0, 26] + _apart(rng, a_little, 4)
    nowhere = [0, 200, SIDE, 200 + SIDE] + _apart(rng, off - a_little, 9)
    proposals = rng.permutation(np.concatenate([good, below, nowhere]))
    return _rois(proposals, gt_boxes, rng.integers(1, 9, objects).tolist(), rng, hint, **settings)


def _only_background(rng: np.random.Generator, off: int, size: int) -> Case:
    """Return `off` proposals without an object, more than the `size` of the sample."""
    return _rois([0, 200, SIDE, 200 + SIDE] + _apart(rng, off, 9), [], [], rng, NO_OBJECTS, batch_size=size)


def _apart(rng: np.random.Generator, count: int, most: int) -> np.ndarray:
    """Generate shifts (count, 4) of up to `most` pixels, in eighths. All numbers in the first column differ."""
    eighths = rng.integers(-8 * most, 8 * most + 1, (count, 4))
    eighths[:, 0] = rng.choice(np.delete(np.arange(-8 * most, 8 * most + 1), 8 * most), count, replace=False)
    return eighths / 8


def _crowd(rng: np.random.Generator, count: int, hint: str) -> Case:
    """Return `count` objects, with more proposals on them and beside them than the sample can contain."""
    return _scene(rng, count, 2 * count, 3 * count + 4, hint, batch_size=6 + 2 * count, positive_fraction=0.5)


# ---------------------------------------------------------------------- the choice


def _raise_if(failure: Failure | None, case: Case) -> None:
    if failure is not None:
        raise failed("roi_targets", case, failure)


def _choice(function: Function, case: Case, rng: np.random.Generator) -> tuple[int, ...]:
    """Return the indices of the candidates that `function` chooses. Raise CheckFailed if its result is wrong."""
    got, failure = answer(function, case, rng=rng)
    _raise_if(failure, case)
    if isinstance(got, RoITargets):
        got = (got.rois, got.labels, got.deltas)
    _raise_if(_malformed(got), case)
    truth = _truth(case)
    rois, labels, deltas = (np.asarray(part) for part in got)
    chosen: list[int | None] = []
    for roi in rois.reshape(-1, 4):
        chosen.append(_index(roi, truth.rois, chosen))
    _raise_if(_wrong_choice(rois, chosen, truth, case) or _wrong_answers(labels, deltas, chosen, truth), case)
    return tuple(sorted(index for index in chosen if index is not None))


def _truth(case: Case) -> _Truth:
    arguments = case.arguments
    gt_boxes = arguments["gt_boxes"]
    rois = np.concatenate([arguments["proposals"].astype(float), gt_boxes])  # (P + G, 4)
    matches = match(boxes.iou(rois, gt_boxes), arguments["fg_iou_thresh"], arguments["bg_iou_thresh"])
    positive = matches >= 0
    labels = np.where(matches == IGNORED, -1, 0)
    labels[positive] = arguments["gt_labels"][matches[positive]]
    deltas = np.zeros((len(rois), 4))
    deltas[positive] = boxes.encode(gt_boxes[matches[positive]], rois[positive], arguments["weights"])
    return _Truth(rois, labels, deltas, matches)


def _malformed(got: Any) -> Failure | None:
    """Return what is wrong with the form of the result, or None."""
    if got is None:
        return Failure("returns None", hint="A function without `return` returns None.")
    if not isinstance(got, (tuple, list)) or len(got) != 3:
        return Failure("must return a tuple of three arrays, (rois, labels, deltas)", got)
    parts = [as_array(part) for part in got]
    for _, failure in parts:
        if failure is not None:
            return failure
    rois, labels, deltas = (part for part, _ in parts)
    if labels.size and labels.dtype.kind not in "iu":
        return Failure(f"returns labels of dtype {labels.dtype}; expected integers", labels, hint=A_LABEL_IS_AN_INDEX)
    rows = len(rois) if rois.ndim else 0
    for name, part, shape in (("rois", rois, (rows, 4)), ("labels", labels, (rows,)), ("deltas", deltas, (rows, 4))):
        if part.shape != shape and not (part.size == 0 and rows == 0):
            return Failure(
                f"returns {name} of shape {part.shape}; expected {shape}",
                got,
                hint="rois (R, 4), labels (R,) and deltas (R, 4) have one row for each chosen RoI, including "
                "background, in the same order.",
            )
    return None


def _index(roi: np.ndarray, candidates: np.ndarray, used: Sequence[int | None]) -> int | None:
    """Return the index of a RoI (4,) in `candidates` (K, 4), or None. Of equal candidates, it is one not yet `used`."""
    distance = np.abs(candidates - roi).max(axis=1, initial=0)  # (K,)
    if not len(distance) or distance.min() >= SAME:
        return None
    nearest = np.flatnonzero(distance == distance.min()).tolist()
    return next((index for index in nearest if index not in used), nearest[0])


def _wrong_choice(rois: np.ndarray, chosen: Sequence[int | None], truth: _Truth, case: Case) -> Failure | None:
    """Return what is wrong with a single choice of candidates, or None."""
    if None in chosen:
        return Failure(
            "returns a RoI that is neither a proposal nor a true box",
            rois[chosen.index(None)],
            hint="RoIs are chosen, but not moved: each is an unchanged row of the proposals or of the true boxes. The "
            "deltas describe where they should move.",
        )
    if len(set(chosen)) < len(chosen):
        return Failure(
            "chooses a RoI more than once",
            rois,
            hint="Draw RoIs without replacement, so that no RoI is drawn twice. Add the true boxes to the proposals "
            "only once.",
        )
    labels = truth.labels[[index for index in chosen if index is not None]]  # (R,)
    size = case.arguments["batch_size"]
    most = int(size * case.arguments["positive_fraction"])
    objects = min(int((truth.labels > 0).sum()), most)
    background = min(int((truth.labels == 0).sum()), size - objects)
    if (labels < 0).any():
        return Failure("chooses a RoI that is ignored", rois[int((labels < 0).argmax())])
    for name, count, wanted in (
        ("on objects", (labels > 0).sum(), objects),
        ("on background", (labels == 0).sum(), background),
    ):
        if count != wanted:
            limits = "The limits are `batch_size` and int(batch_size * positive_fraction), and both are arguments."
            hint = _count_hint(chosen, truth, case) if name == "on objects" else None
            return Failure(f"chooses {count} RoIs {name}; expected {wanted}", rois, hint=hint, note=limits)
    return None


def _count_hint(chosen: Sequence[int | None], truth: _Truth, case: Case) -> str | None:
    """Return a hint for a wrong number of RoIs on objects, or None if the hint of the case is better."""
    size, fraction = case.arguments["batch_size"], case.arguments["positive_fraction"]
    on_objects = set(np.flatnonzero(truth.labels > 0).tolist())
    used, most = on_objects & set(chosen), int(size * fraction)
    missing = on_objects - used
    if len(on_objects) <= most and len(set(truth.matches[list(on_objects)].tolist())) > 2:
        if missing == set(np.flatnonzero(truth.matches == 0).tolist()):
            return "All RoIs on the first object are missing. Its index is 0. Only a negative match is background."
        if missing == {index for index in on_objects if index >= len(case.arguments["proposals"])}:
            return "The true boxes are missing. The candidates are the proposals *and* the true boxes."
        if missing == {index for index in on_objects if index < len(case.arguments["proposals"])}:
            return "The proposals are missing. The candidates are the proposals *and* the true boxes."
    limits = {other: min(len(on_objects), int(size * other)) for other in FRACTIONS if other != fraction}
    if len(used) in limits.values():
        return f"`positive_fraction` is an argument. It is {fraction} here, so at most {most} RoIs are on objects."
    return None


def _wrong_answers(
    labels: np.ndarray, deltas: np.ndarray, chosen: Sequence[int | None], truth: _Truth
) -> Failure | None:
    """Return what is wrong with the labels and deltas of the chosen candidates, or None."""
    rows = [index for index in chosen if index is not None]
    wanted, moves = truth.labels[rows], truth.deltas[rows]
    if not np.array_equal(labels.reshape(-1), wanted):
        return Failure(
            "returns wrong labels", labels, wanted, _label_hint(labels.reshape(-1), wanted, truth.matches[rows])
        )
    wrong = ~np.isclose(deltas.reshape(-1, 4), moves, rtol=0, atol=SAME).all(axis=1)  # (R,)
    if (wrong & (wanted == 0)).any():
        return Failure(
            "returns deltas for background that are not 0",
            deltas,
            moves,
            "A background RoI has no object to move to, so its row contains zeros.",
        )
    if wrong.any():
        return Failure(
            "returns wrong deltas",
            deltas,
            moves,
            "Deltas lead from the RoI to its matched object, not from the object to the RoI. They are measured in "
            "sides of the RoI and multiplied by `weights`. The deltas of a true box are 0, because it is the box of "
            "its own object.",
        )
    return None


def _label_hint(labels: np.ndarray, wanted: np.ndarray, matches: np.ndarray) -> str | None:
    """Return a hint for wrong labels, or None if the hint of the case is better."""
    if sorted(labels.tolist()) == sorted(wanted.tolist()):
        return (
            "These labels are right, but they belong to other rows. Row i of rois, labels and deltas must describe "
            "the same RoI."
        )
    indices = (labels == matches)[wanted > 0].all()
    if ((labels > 0) != (wanted > 0)).any() and not indices:
        return None
    return (
        "The label of a RoI is the class of the object that it overlaps most. Take it from `gt_labels`. It is not "
        "the index of the object. Label 0 is background."
    )


# ---------------------------------------------------------------------- the probabilities


def _unmoved(function: Function, case: Case) -> Failure | None:
    """Return a failure if the chosen RoIs on objects, or those on background, are the same for all generators."""
    labels, first = _truth(case).labels, case.arguments["rng"].seed
    choices = [_choice(function, case, np.random.default_rng(first + i)) for i in range(5)]
    for name, of_kind in (("on objects", labels > 0), ("on background", labels == 0)):
        kinds = {tuple(index for index in choice if of_kind[index]) for choice in choices}
        if len(kinds) == 1 and of_kind.any():
            return Failure(
                f"chooses the same RoIs {name} for different random numbers from `rng`",
                hint="The choice must depend on the random numbers from `rng`, not on the order of the candidates or "
                "on a generator of your own.",
            )
    return None


def _unequal(function: Function, case: Case, draws: int = DRAWS) -> Failure | None:
    """Return a failure if some candidate is chosen more often, or less often, than chance explains."""
    truth, rng = _truth(case), case.arguments["rng"].made()
    own, rows = copied(case), {tuple(roi): index for index, roi in enumerate(truth.rois.round(3).tolist())}
    choices = []
    for _ in range(draws):
        got, failure = attempt(lambda: replace(own, arguments={**own.arguments, "rng": rng}).call(function))
        _raise_if(failure, case)
        rois = np.asarray(got.rois if isinstance(got, RoITargets) else got[0], float)
        choices += [rows[tuple(roi)] for roi in rois.round(3).tolist() if tuple(roi) in rows]
    counts = np.bincount(np.array(choices, int), minlength=len(truth.rois))  # (P + G,)
    for name, of_kind in (("on objects", truth.labels > 0), ("on background", truth.labels == 0)):
        share = counts[of_kind].sum() / draws / max(of_kind.sum(), 1)
        unlike = unlike_chance(counts, share, draws)
        if (unlike & of_kind).any():
            index = int((unlike & of_kind).argmax())
            return Failure(
                f"chooses the candidate {truth.rois[index].tolist()}, one of the candidates {name}, {counts[index]} "
                f"times in {draws} calls; expected about {draws * share:.0f}",
                hint="All candidates on objects must have the same probability, including true boxes. All background "
                "candidates must have the same probability, including those that overlap an object a little.",
            )
    return None

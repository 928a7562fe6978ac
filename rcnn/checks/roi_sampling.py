"""The check of the RoIs that the second stage learns from: which are chosen, and what it should say about them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from rcnn import boxes
from rcnn.checks._chance import DRAWS, Seeded, unlike_chance, unrepeated
from rcnn.checks._engine import Case, CheckFailed, Failure, Function, answer, check_callable, message
from rcnn.matching import IGNORED, match
from rcnn.roi_heads import RoITargets

SIDE = 40  # pixels, of the objects in the cases
APART = 100  # pixels from one object to the next
SAME = 1e-3  # pixels and deltas: what float32 may differ by


SETTINGS = {
    "fg_iou_thresh": 0.5,
    "bg_iou_thresh": 0.5,
    "batch_size": 8,
    "positive_fraction": 0.5,
    "weights": (10.0, 10.0, 5.0, 5.0),
}  # of a case that says nothing else


@dataclass(frozen=True)
class _Truth:
    """What is right about every candidate (P + G) of a case: its box, its label (-1 if ignored) and its deltas."""

    rois: np.ndarray
    labels: np.ndarray
    deltas: np.ndarray


def roi_targets(function: Function, seed: int | None = None) -> None:
    """Raise CheckFailed unless `function` returns the RoIs that the second stage learns from.

    It is called as `function(proposals, gt_boxes, gt_labels, fg_iou_thresh=, bg_iou_thresh=, batch_size=,
    positive_fraction=, weights=, rng=)`, as `rcnn.roi_heads.find_targets`, with (P, 4), (G, 4) and (G,), and returns
    rois (R, 4), labels (R,) and deltas (R, 4), in any order of rows.
    Candidates are the proposals and the true boxes. Each is matched to the object that it overlaps most, by
    `fg_iou_thresh` and `bg_iou_thresh`. At most `batch_size` are drawn from `rng`, without
    repetition, at most the share `positive_fraction` of them on objects, and background in the rest of the places.
    A label is the object's class, 0 for background. Deltas lead from the RoI to its object, multiplied by
    `weights`; they are 0 for background.
    """
    check_callable("roi_targets", function)
    seeds = np.random.default_rng(seed)
    for case in _roi_cases(seeds):
        _choice(function, case, case.arguments["rng"].made())
    hint = "this went well with other numbers from `rng`: what does your function do with an unlikely one?"
    many = _crowd(seeds, 12, hint)
    _raise_if(unrepeated(partial(_choice, function, many), many.arguments["rng"], "RoIs"), many)
    for count, examine in ((12, _unmoved), (3, _unequal)):
        case = _crowd(seeds, count, hint)
        _raise_if(examine(function, case), case)


def _roi_cases(rng: np.random.Generator) -> Iterator[Case]:
    x, y = rng.integers(3, 60, 2).tolist()
    one, other = rng.choice(np.arange(2, 9), 2, replace=False).tolist()
    on, off = [x, y, x + SIDE, y + SIDE], [x + 300, y, x + 300 + SIDE, y + SIDE]
    near, half = [x + 4, y + 2, x + SIDE + 9, y + SIDE], [x, y, x + SIDE // 2, y + SIDE]
    beside = [x + 30, y, x + 30 + SIDE, y + SIDE]
    yield _rois(
        [off],
        [on],
        [one],
        rng,
        "no proposal is on the object here, and yet something must be learned about "
        "it: the true boxes join the proposals. The proposal is background, label 0; a match of -1 is no index "
        "of an object",
    )
    yield _rois(
        [near],
        [on],
        [one],
        rng,
        "the proposal lies on the object: the IoU is at least `fg_iou_thresh`, "
        "and both it and the true box are RoIs of that object",
    )
    yield _rois(
        [near],
        [on, beside],
        [one, other],
        rng,
        "the proposal overlaps both objects: it belongs to the one that it overlaps most",
    )
    yield _rois(
        [near],
        [beside, on],
        [one, other],
        rng,
        "the proposal overlaps both objects: it belongs to the one that it overlaps most",
    )
    yield _rois(
        [half],
        [on],
        [one],
        rng,
        "the proposal is exactly half of the object, an IoU of 0.5: that is *at least* `fg_iou_thresh`",
    )
    yield _rois(
        [[x, y, x + 19, y + SIDE]],
        [on],
        [one],
        rng,
        "the proposal overlaps the object by less than "
        "`bg_iou_thresh`: it is background, though it shows a part of the object, and though no other "
        "proposal is better: nothing is forced in the second stage",
    )
    yield _rois(
        [[x, y, x + 15, y + SIDE]],
        [on],
        [one],
        rng,
        "the IoU lies between the two thresholds: this proposal is neither object nor background, and is not chosen",
        bg_iou_thresh=0.25,
    )
    yield _rois(
        [[x, y, x + 8, y + SIDE]],
        [on],
        [one],
        rng,
        "the IoU lies below `bg_iou_thresh`: the proposal is background",
        bg_iou_thresh=0.25,
    )
    yield _rois(
        [near, off],
        [on],
        [one],
        rng,
        "the deltas are in the units that `weights` make of them",
        weights=(1.0, 2.0, 4.0, 8.0),
    )
    yield from _counted_cases(rng)
    yield _rois([on, off], [], [], rng, "an image without objects is an ordinary input: every RoI is background")
    yield _rois([], [on], [one], rng, "there are no proposals: the true box is the only candidate")
    yield _rois([], [], [], rng, "there is nothing to choose from: no rows come out")
    wide, given = (
        _rois([near, off], [on], [one], rng, "proposals come as float32 from a net, true boxes as float64 from a file"),
        np.float32,
    )
    yield replace(wide, arguments={**wide.arguments, "proposals": wide.arguments["proposals"].astype(given)})
    for count in (1, 2, 4, 8):
        yield _crowd(
            rng,
            count,
            "candidates as they come: find the IoU of each with each object, then count how many "
            "of either kind there are, and how many the settings allow",
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
        "there are plenty of both: the fraction is that of the RoIs on objects, and of "
        "`batch_size`; true boxes count among them",
    )
    yield counted(
        2,
        5,
        9,
        7,
        0.5,
        "*at most* the fraction is on objects: half of 7 is not whole, and is rounded down; "
        "background has all the other places",
    )
    yield counted(1, 0, 12, 8, 0.5, "fewer RoIs on objects than the fraction allows: background fills the batch up")
    yield counted(
        1,
        9,
        2,
        8,
        0.5,
        "less background than there is room for: the batch is smaller, for no more RoIs on "
        "objects than the fraction allows take its place",
    )
    yield counted(2, 2, 3, 100, 0.5, "fewer candidates than `batch_size`: all of them are chosen, once")
    yield counted(
        5,
        0,
        9,
        8,
        0.25,
        "there are more true boxes than the fraction allows RoIs on objects: a true box "
        "is a candidate as any other, and none is sure of its place",
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
    """Objects in a row, so many proposals on some of them (IoU above 0.6), and so many off all (below 0.3).

    Where there are objects, every third of the latter overlaps one of them a little.
    """
    corner = np.array([[APART * i, 10] for i in range(objects)]) + rng.integers(0, 20, (objects, 2))  # (G, 2)
    gt_boxes = np.concatenate([corner, corner + SIDE], axis=1)
    moved = _apart(rng, on, 4)  # a step of 4 pixels either way leaves an IoU of 0.68 at least
    good = gt_boxes[rng.integers(0, objects, on)] + moved
    a_little = off // 3 if objects else 0
    below = gt_boxes[rng.integers(0, objects, a_little)] + [0, 26, 0, 26] + _apart(rng, a_little, 4)
    nowhere = [0, 200, SIDE, 200 + SIDE] + _apart(rng, off - a_little, 9)
    proposals = rng.permutation(np.concatenate([good, below, nowhere]))
    return _rois(proposals, gt_boxes, rng.integers(1, 9, objects).tolist(), rng, hint, **settings)


def _apart(rng: np.random.Generator, count: int, most: int) -> np.ndarray:
    """Steps (count, 4) of up to `most` pixels, whole eighths, the first of which differ from row to row."""
    eighths = rng.integers(-8 * most, 8 * most + 1, (count, 4))
    eighths[:, 0] = rng.choice(np.delete(np.arange(-8 * most, 8 * most + 1), 8 * most), count, replace=False)
    return eighths / 8


def _crowd(rng: np.random.Generator, count: int, hint: str) -> Case:
    """`count` objects with proposals on them and beside them, more than the batch holds of either kind."""
    return _scene(rng, count, 2 * count, 3 * count + 4, hint, batch_size=6 + 2 * count, positive_fraction=0.5)


# ---------------------------------------------------------------------- judging what was chosen


def _raise_if(failure: Failure | None, case: Case) -> None:
    if failure is not None:
        raise CheckFailed(message("roi_targets", case, failure))


def _choice(function: Function, case: Case, rng: np.random.Generator) -> tuple[int, ...]:
    """The indices of the candidates that `function` chooses; raises CheckFailed for what is wrong with the answer."""
    got, failure = answer(function, case, rng=rng)
    _raise_if(failure, case)
    if isinstance(got, RoITargets):
        got = (got.rois, got.labels, got.deltas)
    _raise_if(_malformed(got), case)
    truth = _truth(case)
    rois, labels, deltas = (np.asarray(part) for part in got)
    chosen = [_index(roi, truth.rois) for roi in rois.reshape(-1, 4)]
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
    return _Truth(rois, labels, deltas)


def _malformed(got: Any) -> Failure | None:
    """What is wrong with the form of the answer; None if nothing is."""
    if got is None:
        return Failure("gives None", hint="a function without `return` gives None")
    if not isinstance(got, (tuple, list)) or len(got) != 3:
        return Failure("must give three things, (rois, labels, deltas)", got)
    try:
        rois, labels, deltas = (np.asarray(part) for part in got)
    except ValueError:  # rows of different lengths
        return Failure("gives rows of different lengths", got)
    if any(part.size and part.dtype.kind not in "fiu" for part in (rois, labels, deltas)):
        return Failure("gives what are not numbers", got)
    rows = len(rois) if rois.ndim else 0
    for name, part, shape in (("rois", rois, (rows, 4)), ("labels", labels, (rows,)), ("deltas", deltas, (rows, 4))):
        if part.shape != shape and not (part.size == 0 and rows == 0):
            return Failure(
                f"gives {name} of shape {part.shape}; {shape} is expected",
                got,
                hint="rois (R, 4), labels "
                "(R,) and deltas (R, 4) have a row for each chosen RoI, background as well, in one order",
            )
    return None


def _index(roi: np.ndarray, candidates: np.ndarray) -> int | None:
    """Which of `candidates` (K, 4) a RoI (4,) is; None if it is none of them."""
    distance = np.abs(candidates - roi).max(axis=1, initial=0)  # (K,)
    return int(distance.argmin()) if len(distance) and distance.min() < SAME else None


def _wrong_choice(rois: np.ndarray, chosen: Sequence[int | None], truth: _Truth, case: Case) -> Failure | None:
    """What is wrong with which candidates were chosen, leaving aside how likely that was; None if nothing is."""
    if None in chosen:
        return Failure(
            "gives a RoI that is neither a proposal nor a true box",
            rois[chosen.index(None)],
            hint="RoIs "
            "are chosen, not moved: they are rows of the proposals and of the true boxes as they are, and "
            "where they ought to lie is what the deltas say",
        )
    if len(set(chosen)) < len(chosen):
        return Failure(
            "chooses a RoI more than once",
            rois,
            hint="RoIs are drawn without repetition: what was drawn "
            "is not put back, and the true boxes join the proposals once",
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
        ("of background", (labels == 0).sum(), background),
    ):
        if count != wanted:
            return Failure(f"chooses {count} RoIs {name}; {wanted} are expected", rois)
    return None


def _wrong_answers(
    labels: np.ndarray, deltas: np.ndarray, chosen: Sequence[int | None], truth: _Truth
) -> Failure | None:
    """What is wrong with the labels and deltas of the chosen candidates; None if nothing is."""
    rows = [index for index in chosen if index is not None]
    wanted, moves = truth.labels[rows], truth.deltas[rows]
    if not np.array_equal(labels.reshape(-1), wanted):
        return Failure("gives wrong labels", labels, wanted, _label_hint(labels.reshape(-1), wanted))
    wrong = ~np.isclose(deltas.reshape(-1, 4), moves, rtol=0, atol=SAME).all(axis=1)  # (R,)
    if (wrong & (wanted == 0)).any():
        return Failure(
            "gives deltas to background",
            deltas,
            moves,
            "a RoI of background has no object to move to: its row holds zeros",
        )
    if wrong.any():
        return Failure(
            "gives wrong deltas",
            deltas,
            moves,
            "deltas lead from the RoI to the object that it was "
            "matched to, not back; they are in units of the RoI's own sides, and multiplied by "
            "`weights`; a true box that stands for itself has zeros",
        )
    return None


def _label_hint(labels: np.ndarray, wanted: np.ndarray) -> str | None:
    """What to think about where labels are wrong; None where the case's own hint is nearer."""
    if sorted(labels.tolist()) == sorted(wanted.tolist()):
        return "these are the right labels of other rows: the rows of rois, labels and deltas belong together"
    if ((labels > 0) != (wanted > 0)).any():
        return None
    return (
        "the label of a RoI is the class of the object that it overlaps most, which stands in `gt_labels`, and is "
        "not the object's index; 0 is background"
    )


# ---------------------------------------------------------------------- judging how it was drawn


def _unmoved(function: Function, case: Case) -> Failure | None:
    """A failure if generators that draw differently all lead to one choice of either kind."""
    labels, first = _truth(case).labels, case.arguments["rng"].seed
    choices = [_choice(function, case, np.random.default_rng(first + i)) for i in range(5)]
    for name, of_kind in (("on objects", labels > 0), ("of background", labels == 0)):
        kinds = {tuple(index for index in choice if of_kind[index]) for choice in choices}
        if len(kinds) == 1:
            return Failure(
                f"chooses the same RoIs {name} whatever `rng` draws",
                hint="which of the candidates are "
                "chosen is left to chance, and chance comes from `rng`: not from their order, nor from a "
                "generator of your own",
            )
    return None


def _unequal(function: Function, case: Case) -> Failure | None:
    """A failure if some candidate is chosen more or less often than chance explains."""
    truth, rng = _truth(case), case.arguments["rng"].made()
    choices = np.concatenate([_choice(function, case, rng) for _ in range(DRAWS)]).astype(int)
    counts = np.bincount(choices, minlength=len(truth.rois))  # (P + G,)
    for name, of_kind in (("on objects", truth.labels > 0), ("of background", truth.labels == 0)):
        share = counts[of_kind].sum() / DRAWS / of_kind.sum()
        unlike = unlike_chance(counts, share)
        if (unlike & of_kind).any():
            index = int((unlike & of_kind).argmax())
            return Failure(
                f"chooses the candidate {truth.rois[index].tolist()}, one of those {name}, {counts[index]} "
                f"times in {DRAWS}; about {DRAWS * share:.0f} are expected",
                hint="every candidate must be "
                "as likely to be chosen as every other of its kind; a true box is one of them, no more and "
                "no less, and the background that overlaps an object a little is as good as any other",
            )
    return None

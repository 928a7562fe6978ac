"""Checks of what each box is to learn: the object it is matched to, and the random minibatch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from rcnn import matching
from rcnn.checks._chance import DRAWS, Seeded, unlike_chance, unrepeated
from rcnn.checks._engine import Case, CheckFailed, Failure, Function, answer, check_callable, message, run

HIGH, LOW = 0.75, 0.25  # exact in every precision
Choice = tuple[tuple[int, ...], tuple[int, ...]]  # positive, negative


def match(function: Function, seed: int | None = None) -> None:
    """Nothing where `function(iou, high, low, force_best=False)`, `iou` (A, G), gives each box's object, (A,).

    The index of the object that a box overlaps most, the first of equals, if that IoU is at least `high`; -1 where it
    is below `low`; -2 in between. With `force_best`, every box that has the highest IoU with some object, ties
    included, is matched to its own best object, too; an object that no box overlaps forces nothing. Raises CheckFailed,
    which says what is wrong.
    """
    run("match", function, matching.match, _match_cases(np.random.default_rng(seed)), rows=(("iou",),))


def _match_cases(rng: np.random.Generator) -> Iterator[Case]:
    def boxes(iou: Any, hint: str, force_best: bool | None = None, high: float = HIGH, low: float = LOW) -> Case:
        rest = {} if force_best is None else {"force_best": force_best}
        return Case({"iou": np.array(iou, float), "high": high, "low": low, **rest}, hint)

    above, more = (0.8 + 0.15 * rng.random(2)).round(3).tolist()
    above, more = min(above, more), max(above, more) + 0.02
    middle, below, least = (round(float(rng.uniform(*span)), 3) for span in ((0.4, 0.7), (0.12, 0.2), (0.02, 0.1)))
    yield boxes(
        [[above]],
        "a box that overlaps the only object well: what is asked for is the object's index, and indices count from 0",
    )
    yield boxes(
        [[below]],
        "an IoU below `low` makes a box background, -1, whatever the other boxes have, unless "
        "`force_best` is asked for",
    )
    yield boxes([[middle]], "an IoU between `low` and `high` is neither one nor the other: such a box is ignored, -2")
    yield boxes([[HIGH]], "an IoU of exactly `high`: a box is matched if its IoU is *at least* that")
    yield boxes([[LOW]], "an IoU of exactly `low`: a box is background if its IoU is *below* that")
    yield boxes([[0.5]], "where `high` and `low` are the same nothing lies in between", high=0.5, low=0.5)
    for row in ([above, more], [more, above]):
        yield boxes(
            [row], "rows are boxes, columns are objects: one answer for the row, the column where the IoU is highest"
        )
    yield boxes([[below, above, above]], "two objects which the box overlaps alike: the first of them is taken")
    yield boxes(
        [[below, above], [middle, below], [least, more], [below, least]],
        "each box by itself: several boxes may have the same object, and an object may have none",
    )
    yield boxes(np.zeros((3, 0)), "an image without objects is an ordinary input: every box is background")
    yield boxes(np.zeros((0, 2)), "no boxes at all is an ordinary input: the answer is empty")
    yield boxes(
        [[below], [least]],
        "`force_best`: an object that no box overlaps by `high` still is learned, from the box that overlaps it most",
        True,
    )
    yield boxes(
        [[least], [middle]],
        "`force_best`: an object that no box overlaps by `high` still is learned, from "
        "the box that overlaps it most, though the box lies between the thresholds",
        True,
    )
    yield boxes(
        [[below], [least], [below]],
        "`force_best`: two boxes tie for the best IoU with the object, and both are forced",
        True,
    )
    yield boxes(
        [[middle, below], [above, least]],
        "`force_best`: the first box is the best that the second object "
        "has, and so becomes positive; but it is matched to the object that it overlaps most itself",
        True,
    )
    yield boxes(
        [[more, 0], [below, 0]],
        "`force_best`: no box overlaps the second object, so all of them tie at 0; such an object forces nothing",
        True,
    )
    yield boxes(np.zeros((2, 0)), "`force_best` without objects: nothing is forced", True)
    yield boxes(np.zeros((0, 2)), "`force_best` without boxes: there is no best one, and the answer is empty", True)
    yield boxes([[below], [least]], "`force_best=False`: nothing is forced", False)
    for count, dtype in ((3, np.float32), (2, np.float64), (5, np.float64), (12, np.float64)):
        for force_best in (False, True):
            yield Case(
                {
                    "iou": _overlaps(rng, count, 1 + count // 2).astype(dtype),
                    "high": 0.7,
                    "low": 0.3,
                    "force_best": force_best,
                },
                "go through this by hand: each row's best object and its IoU; then, "
                "with `force_best`, each column's highest IoU and the rows that have it",
            )


def _overlaps(rng: np.random.Generator, boxes: int, objects: int) -> np.ndarray:
    """IoUs (A, G) with ties and zeros, none within 0.02 of 0.7 or 0.3."""
    return np.asarray(rng.choice([0, 0, 0.04, 0.08, 0.15, 0.22, 0.35, 0.45, 0.5, 0.6, 0.75, 0.9], (boxes, objects)))


# ---------------------------------------------------------------------- a random minibatch


def sample(function: Function, seed: int | None = None) -> None:
    """Nothing where `function(labels, size, positive_fraction, rng)`, (A,), chooses as `rcnn.matching.sample` does.

    It gives (positive, negative), two sorted rows of indices of `labels`: at most `int(size * positive_fraction)` of
    those with a label of 1 and above, and of those with label 0 as many as make the two `size` together. Where either
    kind runs short, all of it is chosen. The choice is drawn from `rng` alone, without repetition, every candidate with
    the same probability. Raises CheckFailed, which says what is wrong.
    """
    check_callable("sample", function)
    seeds = np.random.default_rng(seed)
    for case in _sample_cases(seeds):
        _choice(function, case, case.arguments["rng"].made())
    hint = "this went well with other numbers from `rng`: what does your function do with an unlikely one?"
    many = _sample_case(_labels(seeds, 26, 26, 5), 12, 0.5, seeds, hint)
    _raise_if(
        unrepeated(partial(_choice, function, many), many.arguments["rng"], "boxes") or _unmoved(function, many), many
    )
    few = _sample_case(_labels(seeds, 6, 6, 3), 6, 0.5, seeds, hint)
    _raise_if(_unequal(function, few), few)


def _raise_if(failure: Failure | None, case: Case) -> None:
    if failure is not None:
        raise CheckFailed(message("sample", case, failure))


def _sample_cases(rng: np.random.Generator) -> Iterator[Case]:
    def boxes(positive: int, negative: int, ignored: int, size: int, fraction: float, hint: str) -> Case:
        return _sample_case(_labels(rng, positive, negative, ignored), size, fraction, rng, hint)

    yield boxes(
        9,
        9,
        0,
        8,
        0.5,
        "there are plenty of both: `size` boxes in all, the fraction of them positive and the "
        "rest negative; too many of one kind leave no room for the other",
    )
    yield boxes(15, 15, 0, 8, 0.25, "the fraction is that of the positives, and of `size`, not of the candidates")
    yield boxes(9, 9, 0, 7, 0.5, "*at most* the fraction is positive: half of 7 is not whole, and is rounded down")
    yield boxes(9, 9, 6, 8, 0.5, "boxes labelled below 0 are ignored, and never chosen")
    labels = _labels(rng, 6, 9, 0)
    yield _sample_case(
        np.where(labels == 1, rng.integers(2, 6, labels.shape), labels),
        8,
        0.5,
        rng,
        "labels of 1 and above are classes of objects: all of them are positive",
    )
    yield boxes(1, 12, 2, 8, 0.5, "there are fewer positives than the fraction allows: negatives fill the batch up")
    yield boxes(0, 9, 2, 4, 0.5, "there are no positives: the whole batch is negative")
    yield boxes(
        9,
        2,
        2,
        8,
        0.5,
        "there are fewer negatives than room for them: all of them are chosen, and no more "
        "positives than the fraction allows in their place",
    )
    yield boxes(3, 0, 2, 8, 0.5, "there are no negatives: the batch is smaller than `size`")
    yield boxes(2, 2, 2, 20, 0.5, "there are fewer candidates than `size`: all of them are chosen")
    yield boxes(0, 0, 3, 4, 0.5, "nothing can be chosen: both rows are empty")
    yield boxes(0, 0, 0, 4, 0.5, "no boxes at all is an ordinary input: both rows are empty")
    yield boxes(5, 5, 0, 0, 0.5, "a batch of 0 boxes has none of either")
    yield boxes(5, 5, 0, 4, 0.0, "a fraction of 0 allows no positives")
    yield boxes(5, 5, 0, 4, 1.0, "a fraction of 1 leaves room for negatives only where positives run short")
    for count in (4, 16, 64):
        positive, negative, ignored = rng.integers(0, count, 3).tolist()
        yield boxes(
            positive,
            negative,
            ignored,
            count,
            0.25,
            "count the positives and the negatives among `labels`: how many of each does the batch hold?",
        )


def _sample_case(labels: np.ndarray, size: int, fraction: float, rng: np.random.Generator, hint: str) -> Case:
    return Case(
        {"labels": labels, "size": size, "positive_fraction": fraction, "rng": Seeded(int(rng.integers(1000)))}, hint
    )


def _labels(rng: np.random.Generator, positive: int, negative: int, ignored: int) -> np.ndarray:
    """So many labels of 1, 0 and -1, mixed."""
    return rng.permutation(np.repeat([1, 0, -1], [positive, negative, ignored]))


def _choice(function: Function, case: Case, rng: np.random.Generator) -> Choice:
    """What `function` chooses with `rng`; raises CheckFailed for what is wrong with it whatever `rng` draws."""
    labels, size, fraction, _ = case.arguments.values()
    got, failure = answer(function, case, rng=rng)
    _raise_if(failure, case)
    _raise_if(_judge(got, labels, size, fraction), case)
    positive, negative = got
    return tuple(map(int, positive)), tuple(map(int, negative))


def _judge(got: Any, labels: np.ndarray, size: int, fraction: float) -> Failure | None:
    """What is wrong with the choice `got`, leaving aside how likely it was; None if nothing is."""
    if got is None:
        return Failure("gives None", hint="a function without `return` gives None")
    if not isinstance(got, (tuple, list)) or len(got) != 2:
        return Failure("must give two things, (positive, negative)", got)
    positives = min(int((labels >= 1).sum()), int(size * fraction))
    counts = (positives, min(int((labels == 0).sum()), size - positives))
    for part, kind, allowed, count in zip(
        got, ("positive", "negative"), (labels >= 1, labels == 0), counts, strict=True
    ):
        failure = _examine_part(part, kind, allowed, count)
        if failure is not None:
            return failure
    return None


def _examine_part(part: Any, kind: str, allowed: np.ndarray, count: int) -> Failure | None:
    """What is wrong with the indices of one kind; `allowed` (A,) says which boxes are of it."""
    try:
        indices = np.asarray(part)
    except ValueError:  # rows of different lengths
        indices = np.zeros((0, 0))
    if indices.ndim != 1 or indices.size and indices.dtype.kind not in "iu":
        return Failure(
            f"must give the {kind} boxes as a row of whole numbers",
            part,
            hint="indices are asked for, the "
            "places where the chosen boxes stand among `labels`; not a mask, and not the labels",
        )
    if not all(0 <= index < len(allowed) and allowed[index] for index in indices.tolist()):
        return Failure(
            f"chooses boxes as {kind} that are not",
            part,
            hint="look up the label of each index: positive "
            "is 1 and above, negative is 0, and what lies below 0 is ignored; and a place among the "
            "candidates is not yet an index of `labels`",
        )
    if len(set(indices.tolist())) < len(indices):
        return Failure(
            f"chooses a {kind} box more than once",
            part,
            hint="the boxes are drawn without repetition: what was drawn is not put back",
        )
    if len(indices) != count:
        return Failure(f"chooses {len(indices)} {kind} boxes; {count} are expected", part)
    if indices.tolist() != sorted(indices.tolist()):
        return Failure(
            f"gives the {kind} boxes out of order",
            part,
            hint="which boxes are chosen is left to chance, the order in which they are given is not: it rises",
        )
    return None


def _unmoved(function: Function, case: Case) -> Failure | None:
    """A failure if generators that draw differently all lead to one choice of either kind."""
    first = case.arguments["rng"].seed
    choices = [_choice(function, case, np.random.default_rng(first + i)) for i in range(5)]
    for number, kind in enumerate(("positive", "negative")):
        if len({choice[number] for choice in choices}) == 1:
            return Failure(
                f"chooses the same {kind} boxes whatever `rng` draws",
                np.array(choices[0][number]),
                hint="which of the candidates are chosen is left to chance, and chance comes from `rng`: "
                "not from the order of the boxes, nor from a generator of your own",
            )
    return None


def _unequal(function: Function, case: Case) -> Failure | None:
    """A failure if some candidates, or some sets of them, are chosen more often than chance explains."""
    labels, rng = case.arguments["labels"], case.arguments["rng"].made()
    choices = [_choice(function, case, rng) for _ in range(DRAWS)]
    for number, (kind, candidates) in enumerate((("positive", labels >= 1), ("negative", labels == 0))):
        drawn = [choice[number] for choice in choices]
        share = len(drawn[0]) / candidates.sum()
        counts = np.bincount(np.concatenate(drawn).astype(int), minlength=len(labels))  # (A,)
        unlike = unlike_chance(counts, share)
        if (unlike & candidates).any():
            index = int((unlike & candidates).argmax())
            return Failure(
                f"chooses box {index}, which is {kind}, {counts[index]} times in {DRAWS}; about "
                f"{DRAWS * share:.0f} are expected",
                hint="every candidate must be as likely to be chosen "
                "as every other, wherever it stands; look at the first and the last",
            )
        if len(set(drawn)) < math.comb(int(candidates.sum()), len(drawn[0])):
            return Failure(
                f"never chooses some sets of {kind} boxes in {DRAWS} draws",
                hint="each box is as likely as every other, but not each set of them: do neighbours come together?",
            )
    return None

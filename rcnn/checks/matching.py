"""Checks of training targets: matching anchors to objects, and choosing a random sample."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from rcnn import matching
from rcnn._ext.dispatch import original
from rcnn.checks import _inputs
from rcnn.checks._chance import DEVIATIONS, Seeded, uneven, unlike_chance, unrepeated
from rcnn.checks._engine import (
    Case,
    Failure,
    Function,
    answer,
    as_array,
    attempt,
    check_callable,
    failed,
    generator_of,
    has_dtype,
    judging,
    run,
)

DRAWS = 4000  # number of choices from the same candidates, enough to reveal a shuffle that is not uniform
CROWD, CROWD_DRAWS = 400, 300  # number of candidates of each kind, and of choices from them
MANY_OBJECTS = 160  # more objects than an index of 8 bits can count
HIGH, LOW = 0.75, 0.25  # thresholds that every float type represents exactly
Choice = tuple[tuple[int, ...], tuple[int, ...]]  # positive, negative


@original
def match(function: Function, seed: int | None = None) -> None:
    """Raise CheckFailed unless `function` matches each anchor to its object.

    Parameters
    ----------
    function : callable
        ``function(iou, high, low, force_best=False)``. `iou` (A, G) contains the IoU of each of A anchors with each of
        G objects. The function returns an (A,) array with one integer per anchor. If the highest IoU of an anchor is at
        least `high`, the integer is the index of the object with that IoU (in a tie, of the first one). If the highest
        IoU is below `low`, the integer is -1. If it lies between `low` and `high`, the integer is -2. With
        `force_best`, every anchor that has the highest IoU with some object is matched, too. If several anchors have
        the same highest IoU with an object, all of them are matched. Such an anchor is matched to the object that it
        overlaps most itself. If no anchor overlaps an object, this object forces no match.
    seed : int, optional
        Seed for the random inputs. Without it, every call uses new inputs.

    Raises
    ------
    CheckFailed
        If any result is wrong. The message shows a hint and the smallest failing input that was found.
    TypeError
        If `function` is not callable.

    References
    ----------
    Ren et al., "Faster R-CNN", 2015, section 3.1.2.
    """
    run("match", function, matching.match, _match_cases(generator_of(seed)), rows=(("iou",),))


def _match_cases(rng: np.random.Generator) -> Iterator[Case]:
    def boxes(iou: Any, hint: str, force_best: bool | None = None, high: float = HIGH, low: float = LOW) -> Case:
        rest = {} if force_best is None else {"force_best": force_best}
        return Case({"iou": np.array(iou, float), "high": high, "low": low, **rest}, hint)

    above, more = (0.8 + 0.15 * rng.random(2)).round(3).tolist()
    above, more = min(above, more), max(above, more) + 0.02
    middle, below, least = (round(float(rng.uniform(*span)), 3) for span in ((0.4, 0.7), (0.12, 0.2), (0.02, 0.1)))
    yield boxes(
        [[above]],
        "The anchor overlaps the only object well. The result is the index of the object, and indices start at 0.",
    )
    yield boxes(
        [[below]],
        "An anchor whose IoU is below `low` is background, -1, unless `force_best` is set. The IoUs of the other "
        "anchors do not matter.",
    )
    yield boxes(
        [[middle]], "An IoU between `low` and `high` is neither positive nor background: such an anchor is ignored, -2."
    )
    yield boxes([[HIGH]], "The IoU is exactly `high`. An anchor is matched if its IoU is *at least* `high`.")
    yield boxes([[LOW]], "The IoU is exactly `low`. An anchor is background only if its IoU is *below* `low`.")
    yield boxes([[0.5]], "If `high` and `low` are equal, no IoU lies between them.", high=0.5, low=0.5)
    yield boxes(
        [[HIGH - 1e-4]],
        "The IoU is slightly below `high`. Compare it as it is: half precision (float16) rounds it to `high`.",
    )
    for row in ([above, more], [more, above]):
        yield boxes(
            [row], "Rows are anchors, and columns are objects. The answer for a row is the column with the highest IoU."
        )
    yield boxes([[below, above, above]], "The anchor overlaps two objects equally. In a tie, the first object wins.")
    yield boxes(
        [[below, above], [middle, below], [least, more], [below, least]],
        "Match each anchor separately. Several anchors may be matched to the same object, and an object may have no "
        "anchor.",
    )
    yield boxes(np.zeros((3, 0)), "An image without objects is valid input: every anchor is background.")
    yield boxes(np.zeros((0, 2)), "Zero anchors are valid input: the result is empty.")
    yield boxes(
        [[below], [least]],
        "With `force_best`, an object is matched even if all its IoUs are below `high`. It is matched to the anchor "
        "that overlaps it most.",
        True,
    )
    yield boxes(
        [[least], [middle]],
        "With `force_best`, an object is matched even if all its IoUs are below `high`. It is matched to the anchor "
        "that overlaps it most, although the IoU of that anchor lies between the thresholds.",
        True,
    )
    yield boxes(
        [[below], [least], [below]],
        "With `force_best`, if two anchors tie for the highest IoU with an object, both are matched.",
        True,
    )
    yield boxes(
        [[middle, below], [above, least]],
        "With `force_best`, an anchor that has the highest IoU with some object becomes positive. But it is matched to "
        "the object that it overlaps most itself, which may be another object.",
        True,
    )
    yield boxes(
        [[more, 0], [below, 0]],
        "With `force_best`, an object that no anchor overlaps forces no match. All anchors tie here, with an IoU of 0.",
        True,
    )
    yield boxes(np.zeros((2, 0)), "With `force_best`, an image without objects forces no match.", True)
    yield boxes(np.zeros((0, 2)), "With `force_best`, zero anchors are valid input, too: the result is empty.", True)
    yield boxes([[below], [least]], "With `force_best=False`, no match is forced.", False)
    yield boxes(
        [[above, middle], [more, above], [above, least]],
        "Several anchors may be matched to the same object. An anchor is matched to the object that it overlaps most, "
        "even if another anchor overlaps this object more.",
    )
    yield boxes(
        [[0.0, 0.0], [below, 0.0]],
        "An anchor that overlaps no object is background, and its column of highest IoU does not matter.",
    )
    yield boxes([[middle, above]], "The thresholds are arguments.", high=1.0, low=middle)
    yield boxes(
        [[middle, least], [middle, below], [least, middle], [below, middle]],
        "With `force_best`, if several anchors tie for the highest IoU with an object, all of them are matched. This "
        "holds for every object.",
        True,
    )
    yield boxes(
        [[0.9 * middle, 0.9 * middle + 0.05], [least, 0.9 * middle + 0.1]],
        "With `force_best`, the first anchor has the highest IoU with object 0, but it is matched to object 1. Object "
        "1 still forces the anchor that it overlaps most. Find the highest IoU of every object, even of a matched one.",
        True,
    )
    yield boxes(
        [[middle], [middle - 0.004], [middle - 1e-5]],
        "With `force_best`, only an anchor that has exactly the highest IoU with an object is forced. A slightly lower "
        "IoU is not a tie.",
        True,
    )
    yield boxes(
        [[middle], [middle - 4e-7]],
        "With `force_best`, these IoUs are nearly equal, but not equal, so they are no tie. Compare them with `==`, "
        "without a tolerance.",
        True,
    )
    crowded = np.round(rng.uniform(0, 0.2, (3, MANY_OBJECTS)), 3)
    crowded[np.arange(3), MANY_OBJECTS - 1 - rng.permutation(20)[:3]] = above
    yield boxes(
        crowded,
        f"There are {MANY_OBJECTS} objects. An index may be larger than 127, so int8 is too small for it.",
    )
    for count, objects, dtype in (
        (3, 2, np.float32),
        (2, 2, np.float64),
        (3, 3, np.float64),
        (5, 3, np.float64),
        (4, 7, np.float32),
        (12, 5, np.float64),
    ):
        for force_best in (False, True):
            for high, low in ((0.7, 0.3), (0.55, 0.55), (0.4, 0.1)):
                yield Case(
                    {
                        "iou": _overlaps(rng, count, objects).astype(dtype),
                        "high": high,
                        "low": low,
                        "force_best": force_best,
                    },
                    "Work this out by hand. Find the best object of each row and its IoU. With `force_best`, also find "
                    "the highest IoU of each column, and the rows that have it.",
                )
    yield boxes(
        [[least]],
        "With `force_best`, the only anchor has the highest IoU with the only object, so it is matched, however low "
        "that IoU is.",
        True,
    )
    for force_best in (False, True):
        yield boxes(
            np.zeros((2, 0)),
            "An image without objects is valid input: every anchor is background, also if `low` is 0.",
            force_best,
            low=0.0,
        )
        yield boxes(
            np.zeros((2, 2)),
            "No anchor overlaps an object, but `low` is 0, and 0 is not below 0. An IoU between `low` and `high` is "
            f"neither positive nor background. {_inputs.ZEROS}",
            force_best,
            low=0.0,
        )
        yield boxes(
            np.zeros((2, 2)),
            "`high` is 0 here, and an IoU of 0 is at least 0. A threshold of 0 is a threshold, too.",
            force_best,
            high=0.0,
            low=0.0,
        )
    for rows in ([[0, below]], [[below, 0]], [[0, below], [0, least]]):
        yield boxes(
            rows,
            "With `force_best`, no anchor overlaps one of the objects, so this object forces no match. The other "
            "object still forces its own.",
            True,
        )
    yield boxes(
        [[least, middle], [middle, below], [least, middle + 0.04]],
        "With `force_best`, an anchor is forced if its IoU with an object is the highest of *this* object. Compare "
        "each column with its own highest IoU, not with those of the other columns.",
        True,
    )


def _overlaps(rng: np.random.Generator, boxes: int, objects: int) -> np.ndarray:
    """Draw IoUs (A, G) with ties and zeros, many of them low or many of them high. None is close to a threshold."""
    low, high = [0, 0, 0.04, 0.08, 0.15, 0.22, 0.35, 0.45, 0.5, 0.6, 0.75, 0.9], [0, 0.15, 0.5, 0.6, 0.75, 0.8, 0.9, 1]
    return np.asarray(rng.choice(low if rng.integers(2) else high, (boxes, objects)))


# ---------------------------------------------------------------------- a random sample


@original
def sample(function: Function, seed: int | None = None) -> None:
    """Raise CheckFailed unless `function` samples in the same way as `rcnn.matching.sample`.

    Parameters
    ----------
    function : callable
        ``function(labels, size, positive_fraction, rng)``. `labels` (A,) contains the labels of A anchors. The function
        returns (positive, negative), two sorted arrays of indices into `labels`. At most `int(size *
        positive_fraction)` of the chosen anchors are positive (label 1 or above). Negative anchors (label 0) fill the
        sample up to `size`. If there are too few anchors of one kind, all of them are chosen. Every random number comes
        from `rng`. Anchors are drawn without replacement, and every candidate has the same probability.
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
    Ren et al., "Faster R-CNN", 2015, section 3.1.3.
    """
    check_callable("sample", function)
    seeds = generator_of(seed)
    with judging("sample"):
        _check_choices(function, seeds)


def _check_choices(function: Function, seeds: np.random.Generator) -> None:
    """Raise CheckFailed unless every choice is valid, repeatable, and as random as it should be."""
    for case in _sample_cases(seeds):
        _choice(function, case, case.arguments["rng"].made())
    hint = "Your function worked with other random numbers from `rng`. How does it handle unlikely ones?"
    many = _sample_case(_labels(seeds, 26, 26, 5), 12, 0.5, seeds, hint)
    _raise_if(
        unrepeated(partial(_choice, function, many), many.arguments["rng"], "anchors") or _unmoved(function, many), many
    )
    labels = _labels(seeds, 8, 8, 3)
    few = _sample_case(labels * np.where(labels > 0, seeds.integers(1, 90, labels.shape), 1), 6, 0.5, seeds, hint)
    _raise_if(_unequal(function, few), few)
    large = _sample_case(_labels(seeds, CROWD, CROWD, 0), CROWD, 0.5, seeds, hint)
    _raise_if(_early_or_late(function, large), large)
    single = _sample_case(_labels(seeds, 4, 4, 1), 2, 0.5, seeds, hint)
    _raise_if(_unequal(function, single), single)


def _raise_if(failure: Failure | None, case: Case) -> None:
    if failure is not None:
        raise failed("sample", case, failure)


def _sample_cases(rng: np.random.Generator) -> Iterator[Case]:
    def boxes(positive: int, negative: int, ignored: int, size: int, fraction: float, hint: str) -> Case:
        return _sample_case(_labels(rng, positive, negative, ignored), size, fraction, rng, hint)

    yield boxes(
        9,
        9,
        0,
        8,
        0.5,
        "There are enough anchors of both kinds. Choose `size` anchors in total: `positive_fraction` of them positive, "
        "and the rest negative.",
    )
    yield boxes(
        15,
        15,
        0,
        8,
        0.25,
        "`positive_fraction` is the fraction of positives in a sample of `size` anchors, not among the candidates.",
    )
    yield boxes(
        9, 9, 0, 7, 0.5, "*At most* this fraction is positive: half of 7 is not a whole number, so it is rounded down."
    )
    yield boxes(9, 9, 6, 8, 0.5, "Anchors with a label below 0 are ignored. Never choose them.")
    labels = _labels(rng, 6, 9, 0)
    yield _sample_case(
        np.where(labels == 1, rng.integers(2, 6, labels.shape), labels),
        8,
        0.5,
        rng,
        "Labels of 1 and above are classes of objects, so all anchors with such a label are positive.",
    )
    yield boxes(1, 12, 2, 8, 0.5, "There are fewer positives than the fraction allows. Fill the sample with negatives.")
    yield boxes(0, 9, 2, 4, 0.5, "There are no positives, so the whole sample is negative.")
    yield boxes(0, 9, 0, 4, 0.5, f"All labels are 0, so the whole sample is negative. {_inputs.ZEROS}")
    yield boxes(
        9,
        2,
        2,
        8,
        0.5,
        "There are too few negatives to fill the sample. Choose all of them, but no more positives than the fraction "
        "allows.",
    )
    yield boxes(
        4,
        4,
        2,
        8,
        0.5,
        "There are exactly as many anchors of each kind as the sample may contain. Choose all of them, except the "
        "ignored ones.",
    )
    yield boxes(3, 0, 2, 8, 0.5, "There are no negatives, so the sample is smaller than `size`.")
    yield boxes(2, 2, 2, 20, 0.5, "There are fewer candidates than `size`, so choose all of them.")
    yield boxes(0, 0, 3, 4, 0.5, "There are no candidates, so both arrays are empty.")
    yield boxes(0, 0, 0, 4, 0.5, "Zero anchors are valid input: both arrays are empty.")
    yield boxes(5, 5, 0, 0, 0.5, "A sample of 0 anchors contains no positives and no negatives.")
    yield boxes(5, 5, 0, 4, 0.0, "A fraction of 0 allows no positives.")
    yield boxes(5, 5, 0, 4, 1.0, "A fraction of 1 leaves room for negatives only if there are too few positives.")
    labels = _labels(rng, 7, 9, 6)
    yield _sample_case(
        np.where(labels == -1, rng.choice([-1, -2, -5], labels.shape), labels * rng.integers(1, 90, labels.shape)),
        10,
        0.3,
        rng,
        "A label below 0 is ignored, whatever it is (`match` uses -2). A label of 1 or above is positive.",
    )
    yield _sample_case(
        _labels(rng, 9, 9, 2).astype(np.int32), 8, 0.75, rng, "`positive_fraction` is an argument. It may be above 1/2."
    )
    yield _sample_case(
        np.repeat([-1, 1, 0], [3, 6, 6]), 5, 0.6, rng, "The labels may be sorted. An index refers to `labels`."
    )
    for count in (4, 16, 64):
        positive, negative, ignored = rng.integers(0, count, 3).tolist()
        yield boxes(
            positive,
            negative,
            ignored,
            count,
            0.25,
            "Count the positives and the negatives in `labels`. How many of each must the sample contain?",
        )


def _sample_case(labels: np.ndarray, size: int, fraction: float, rng: np.random.Generator, hint: str) -> Case:
    return Case(
        {"labels": labels, "size": size, "positive_fraction": fraction, "rng": Seeded(int(rng.integers(1000)))}, hint
    )


def _labels(rng: np.random.Generator, positive: int, negative: int, ignored: int) -> np.ndarray:
    """Return `positive` labels 1, `negative` labels 0 and `ignored` labels -1, in random order."""
    return rng.permutation(np.repeat([1, 0, -1], [positive, negative, ignored]))


def _choice(function: Function, case: Case, rng: np.random.Generator) -> Choice:
    """Return the choice that `function` makes with `rng`. Raise CheckFailed if the choice is invalid."""
    labels, size, fraction, _ = case.arguments.values()
    got, failure = answer(function, case, rng=rng)
    _raise_if(failure, case)
    _raise_if(_judge(got, labels, size, fraction), case)
    positive, negative = got
    return tuple(map(int, positive)), tuple(map(int, negative))


def _judge(got: Any, labels: np.ndarray, size: int, fraction: float) -> Failure | None:
    """Return what is wrong with a single choice, or None."""
    if got is None:
        return Failure("returns None", hint="A function without `return` returns None.")
    if not isinstance(got, (tuple, list)) or len(got) != 2:
        return Failure("must return a tuple of two arrays, (positive, negative)", got)
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
    """Return what is wrong with the indices of one kind, or None. `allowed` (A,): the anchors of this kind."""
    indices, failure = as_array(part)
    if failure is not None or indices.ndim != 1 or has_dtype(part, indices) and indices.dtype.kind not in "iu":
        return Failure(
            f"must return the {kind} anchors as a 1-D array of integers",
            part,
            hint="Return the indices of the chosen anchors in `labels`, not a mask and not the labels. An empty array "
            "must have an integer dtype, too, because an array of floats cannot be used as an index.",
        )
    if not all(0 <= index < len(allowed) and allowed[index] for index in indices.tolist()):
        return Failure(
            f"returns anchors as {kind} that are not {kind}",
            part,
            hint="Look up the label of each index: 1 and above is positive, 0 is negative, and a label below 0 is "
            "ignored. An index into the candidates is not an index into `labels`.",
        )
    if len(set(indices.tolist())) < len(indices):
        return Failure(
            f"chooses a {kind} anchor more than once",
            part,
            hint="Draw the anchors without replacement, so that no anchor is drawn twice.",
        )
    if len(indices) != count:
        return Failure(f"chooses {len(indices)} {kind} anchors; expected {count}", part)
    if indices.tolist() != sorted(indices.tolist()):
        return Failure(
            f"returns the {kind} anchors out of order",
            part,
            hint="The choice is random, but the order of the indices is not. Return them in ascending order.",
        )
    return None


def _unmoved(function: Function, case: Case) -> Failure | None:
    """Return a failure if the positives, or the negatives, are the same for all generators."""
    first = case.arguments["rng"].seed
    choices = [_choice(function, case, np.random.default_rng(first + i)) for i in range(5)]
    for number, kind in enumerate(("positive", "negative")):
        if len({choice[number] for choice in choices}) == 1:
            return Failure(
                f"chooses the same {kind} anchors for different random numbers from `rng`",
                np.array(choices[0][number]),
                hint="The choice must depend on the random numbers from `rng`, not on the order of the anchors or on a "
                "generator of your own.",
            )
    return None


def _early_or_late(function: Function, case: Case) -> Failure | None:
    """Return a failure if early candidates are preferred to late ones, or the other way round.

    If random keys are equal, a sort prefers the earlier candidate. The mean rank of the chosen candidates reveals this.
    """
    labels, rng = case.arguments["labels"], case.arguments["rng"].made()
    choices = [_choice(function, case, rng)]
    for _ in range(CROWD_DRAWS - 1):
        (positive, negative), failure = attempt(
            lambda: function(labels.copy(), CROWD, 0.5, rng)  # without the tests of a single choice
        )
        _raise_if(failure, case)
        choices.append((positive, negative))
    for number, (kind, candidates) in enumerate((("positive", labels >= 1), ("negative", labels == 0))):
        ranks = np.cumsum(candidates) - 1  # (A,)
        means = [ranks[np.asarray(choice[number], int)].mean() for choice in choices]
        expected, chosen = (CROWD - 1) / 2, CROWD // 2
        deviation = math.sqrt((CROWD + 1) * (CROWD - chosen) / 12 / chosen / len(means))
        if abs(np.mean(means) - expected) > DEVIATIONS * deviation:
            which = "early" if np.mean(means) < expected else "late"
            return Failure(
                f"prefers {kind} anchors that are {which} in the array",
                hint="Every candidate must have the same probability. Do two candidates often get the same random key? "
                "Then the sort decides, and not chance.",
            )
    return None


def _unequal(function: Function, case: Case) -> Failure | None:
    """Return a failure if candidates are chosen too often or too rarely, or if a set of candidates is never chosen."""
    labels, rng = case.arguments["labels"], case.arguments["rng"].made()
    choices = [_choice(function, case, rng) for _ in range(DRAWS)]
    for number, (kind, candidates) in enumerate((("positive", labels >= 1), ("negative", labels == 0))):
        drawn = [choice[number] for choice in choices]
        share = len(drawn[0]) / candidates.sum()
        counts = np.bincount(np.concatenate(drawn).astype(int), minlength=len(labels))  # (A,)
        unlike = unlike_chance(counts, share, DRAWS)
        if (unlike & candidates).any():
            index = int((unlike & candidates).argmax())
            return Failure(
                f"chooses anchor {index}, which is {kind}, {counts[index]} times in {DRAWS} calls; "
                f"expected about {DRAWS * share:.0f}",
                hint="Every candidate must have the same probability, wherever it is in the array, and whatever its "
                "label is. Look at the first and the last candidate.",
            )
        sets = Counter(drawn)
        possible = math.comb(int(candidates.sum()), len(drawn[0]))
        if len(sets) < possible:
            return Failure(
                f"never chooses some sets of {kind} anchors in {DRAWS} calls",
                hint="Each anchor is equally likely, but not each set of anchors. Does your function choose neighbours "
                "together?",
            )
        if uneven(list(sets.values()), possible):
            often, times = sets.most_common(1)[0]
            return Failure(
                f"chooses the {kind} anchors {list(often)} together {times} times in {DRAWS} calls; expected about "
                f"{DRAWS / possible:.0f}",
                hint="Every set of anchors must have the same probability. A shuffle that exchanges each element with "
                "any other is not uniform, and random keys must be so many that no two are equal.",
            )
    return None

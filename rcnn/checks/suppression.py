"""Check of non-maximum suppression."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from rcnn import boxes
from rcnn import nms as reference
from rcnn._ext.dispatch import original
from rcnn.checks import _inputs
from rcnn.checks._engine import Case, Failure, Function, generator_of, run

PLENTY = 40  # number of boxes that is large enough to reveal an unstable sort
MANY, COPIES = 104, 24  # number of boxes that are kept, and of copies of the last ones
HUNDREDS = 330  # boxes that are all kept: more than the usual limits of 100, 256 and 300
CHAINS = (4, 6, 9, 14)  # numbers of boxes that each overlap the next one


@original
def nms(function: Function, seed: int | None = None) -> None:
    """Raise CheckFailed unless `function` returns the indices of the kept boxes.

    Parameters
    ----------
    function : callable
        ``function(boxes, scores, iou_threshold)``. `boxes` is an (N, 4) array, and `scores` is an (N,) array. The
        function returns a (K,) array: the indices of the K boxes that are kept, by descending score; in a tie, in the
        order of `boxes`. A kept box removes every later box in this order if the IoU of the two is *greater than* the
        threshold. The IoU of two boxes without area is 0.
    seed : int, optional
        Seed for the random inputs. Without it, every call uses new inputs.

    Raises
    ------
    CheckFailed
        If any result is wrong. The message shows a hint and the smallest failing input that was found.
    TypeError
        If `function` is not callable.
    """
    cases = _cases(generator_of(seed))
    run("nms", function, reference.nms, cases, rows=(("boxes", "scores"),), explain=_explained)


def _explained(function: Function, case: Case, failure: Failure) -> Failure:
    """Return the failure with a note that says whether the kept boxes or their order are wrong."""
    got, expected = failure.got, failure.expected
    if not isinstance(got, np.ndarray) or got.ndim != 1 or got.dtype.kind not in "iu" or failure.hint is not None:
        return failure
    kept, right = got.tolist(), expected.tolist()
    if sorted(kept) == sorted(right):
        return replace(failure, note="The kept boxes are right, but their order is wrong.")
    for those, words in (
        (sorted({*kept} - {*right}), "kept, but should be removed"),
        (sorted({*right} - {*kept}), "removed, but should be kept"),
    ):
        if those and len(those) == abs(len(kept) - len(right)):
            named = f"Box {those[0]} is" if len(those) == 1 else f"Boxes {', '.join(map(str, those))} are"
            return replace(failure, note=f"{named} {words}.")
    return replace(failure, note="The kept boxes are wrong.")


def _cases(rng: np.random.Generator) -> Iterator[Case]:
    """Yield cases, simplest first.

    Boxes in a row have the same height and are 20 pixels wide. If they begin s pixels apart, their IoU is (20 - s) /
    (20 + s): 3/5 for s = 5, 1/3 for s = 10, and 1/7 for s = 15.
    """
    x, y, h = rng.integers(3, 30, 3).tolist()

    def row(steps: list[float], scores: list[float], threshold: float, hint: str) -> Case:
        """Return a case with boxes in a row. Box i begins at x = steps[i], in pixels."""
        return _case([[x + step, y, x + step + 20, y + h] for step in steps], scores, threshold, hint)

    high, middle, low = _descending(rng, 3)
    yield row(
        [0],
        [high],
        0.5,
        "A single box is kept. The result contains its index, 0, not the box and not a mask.",
    )
    yield row(
        [0, 50],
        [high, low],
        0.5,
        "Boxes that do not overlap do not remove each other. Both are kept, and the box "
        "with the higher score comes first.",
    )
    yield row(
        [0, 50, 100],
        [middle, low, high],
        0.5,
        "The result is in order of descending score. Its indices refer to `boxes` as given, not to the sorted boxes.",
    )
    yield row(
        [0, 0],
        [low, high],
        0.5,
        "The same box appears twice. The one with the higher score is kept, wherever it is in the array.",
    )
    yield row(
        [0, 10], [high, low], 0.5, "The IoU of these boxes is 1/3, which is below the threshold, so both are kept."
    )
    yield row(
        [0, 10],
        [high, low],
        0.25,
        "The IoU of these boxes is 1/3, which is above the threshold, so only one is kept. The threshold is an "
        "argument.",
    )
    yield _case(
        [[x, y, x + 40, y + 40], [x + 10, y + 10, x + 20, y + 20]],
        [high, low],
        0.5,
        "The small box lies inside the large one, but covers only a small part of it. The IoU divides by the union.",
    )
    yield _case(
        [[x, y, x + 4, y + 4], [x + 2, y, x + 6, y + 4]],
        [high, low],
        0.4,
        "The IoU of these small boxes is 1/3. Coordinates are continuous: a box from 3 to 7 is 4 pixels wide.",
    )
    for threshold in (0.32, 0.35):
        yield row(
            [0, 10],
            [high, low],
            threshold,
            "The IoU of these boxes is 1/3. Compare it with the threshold as it is: do not round either of them.",
        )
    yield row(
        [0, 100, 5],
        [high, middle, low],
        0.5,
        "The two boxes that overlap are not neighbours, neither in the array nor in the order of scores. Compare each "
        "kept box with all boxes after it. One kept box is enough to remove a box.",
    )
    yield row(
        [0, 100, 5],
        [middle, low, high],
        0.5,
        "The last box removes the first. If you sort the boxes, keep their scores and their IoUs in the same order: an "
        "index into the sorted boxes is not an index into `boxes`.",
    )
    yield row(
        [0, 2, 4],
        [high, middle, low],
        0.5,
        "The best box removes both other boxes. If a box stays, does your loop skip it? Do not remove elements from a "
        "list, or from an array, while a loop goes through it.",
    )
    yield row(
        [0, 5, 100, 105],
        [high, middle, low, low / 2],
        0.5,
        "There are two groups of boxes. When the best box has removed its neighbours, continue with the best of the "
        "remaining boxes.",
    )
    yield row(
        [0, 8, 16],
        [high, middle, low],
        0.4,
        "The first box removes the second. A removed box does not remove other boxes, so the third is kept.",
    )
    yield _case(
        [[x, y, x + 20, y + h], [x, y, x + 40, y + h]],
        [high, low],
        0.5,
        "The IoU is exactly the threshold. Only a greater IoU removes a box.",
    )
    yield row(
        [0, 20], [high, low], 0.0, "Boxes that touch have an IoU of 0, which is not greater than a threshold of 0."
    )
    yield row(
        [0, 10],
        [high, low],
        0.0,
        "The IoU of these boxes is 1/3, which is greater than a threshold of 0. A threshold of 0 is a threshold, too.",
    )
    yield row(
        [0, 0],
        [high, low],
        1.0,
        "No IoU is greater than 1. With this threshold, even two identical boxes are both kept.",
    )
    yield row([0, 50], [middle, middle], 0.5, "If scores are equal, the box that is first in the array comes first.")
    yield row(
        [50, 100, 0],
        [middle] * 3,
        0.5,
        "If scores are equal, the box that is first in the array comes first, wherever it lies in the image.",
    )
    yield row(
        [0, 0],
        [middle, middle],
        0.5,
        "The same box appears twice with the same score. The first one is kept, and it removes the other.",
    )
    yield row(
        [0, 2, 4],
        [middle, middle + 1e-5, middle - 1e-3],
        0.5,
        "The scores are nearly equal, but not equal. Do not round them.",
    )
    yield row(
        [0, 5, 50, 55],
        [-low, -high, 0, -middle],
        0.5,
        "A score may be 0 or negative, for example a logit. Compare scores only with each other, and do not use a "
        "special score to mark removed boxes.",
    )
    for scale in (1, 1e4, 1e12):
        for sign in (-1, 1):
            yield row(
                [0, 5, 50, 55],
                [sign * scale * score for score in (2, 1, 9, 4)],
                0.5,
                "All scores may be -1 or below, or above 1, because a score may be any number. Compare scores only "
                "with each other, and do not use a special score to mark removed boxes.",
            )
    yield row([0, 50], [0, 0], 0.5, f"All scores are 0, which is a score like any other. {_inputs.ZEROS}")
    yield _case(
        np.zeros((1, 4)), [high], 0.5, f"This box is a point at the origin. It is a box and is kept. {_inputs.ZEROS}"
    )
    yield _case(np.zeros((0, 4)), [], 0.5, "Zero boxes are valid input: nothing is kept.")
    yield _case(
        [[x, y, x, y], [x, y, x, y]],
        [low, high],
        0.5,
        "These boxes have no area: the union is 0, and 0/0 is NaN. The IoU is defined as 0 here, so both are kept.",
    )
    yield Case(
        {
            "boxes": np.array([[x, y, x + 20, y + h], [x + 5, y, x + 25, y + h]], np.int64),
            "scores": np.array([1, 2]),
            "iou_threshold": 0.5,
        },
        "Integers are valid input, but their IoU need not be an integer.",
    )
    yield _case(
        [[x + 50 * i, y, x + 50 * i + 20, y + h] for i in range(PLENTY)],
        rng.integers(0, 2, PLENTY),
        0.5,
        "If many scores are equal, their boxes must keep their order. Some sorting algorithms change the order of "
        "ties.",
    )
    for length in CHAINS:
        order = rng.permutation(length)
        yield row(
            (8.0 * order).tolist(),
            (1 - order / length).tolist(),
            0.4,
            "In this chain, each box overlaps the next one too much. The first removes the second, so the third is "
            "kept and removes the fourth, and so on. Decide for one box after the other, from the highest score down.",
        )
    yield row(
        (8.0 * np.arange(8)).tolist(),
        [middle] * 8,
        0.4,
        "In this chain, each box overlaps the next one too much, and all scores are equal. Go through the boxes in the "
        "order of the array.",
    )
    for scale, shift, hint in (
        (
            1.0,
            -500,
            "These boxes lie to the left of the image and above it: their coordinates are negative. Do not clip them "
            "at 0.",
        ),
        (
            1 / 128,
            0,
            "These boxes are smaller than a pixel, as on a feature map. Do not add a constant, and do not enlarge a "
            "box.",
        ),
        (256.0, 0, "These boxes are thousands of pixels large."),
    ):
        order = rng.permutation(6)
        corners = [[8 * place + shift, y + shift, 8 * place + shift + 20, y + shift + h] for place in order]
        yield _case(np.array(corners) * scale, 1 - order / 6, 0.4, hint)
    yield row(
        [0, *(50.0 * np.arange(2, PLENTY)), 5],
        np.linspace(0.9, 0.1, PLENTY).tolist(),
        0.5,
        "The first box overlaps only the last one. Compare each kept box with all boxes after it, however many there "
        "are.",
    )
    places = [50.0 * i for i in [*range(MANY), *range(MANY - COPIES, MANY)]]
    yield row(
        places,
        np.linspace(0.9, 0.1, len(places)).tolist(),
        0.5,
        "Many boxes are kept here, and some of them remove their own copies. The number of kept boxes has no limit. "
        "Compare each box with all kept boxes.",
    )
    for kind, counts in _inputs.box_kinds():
        yield _drawn_crowd(rng, kind.draw(rng, 2 * sum(counts)), kind.hint)
    for count in (2, 3, 5, 8, 12, 40):
        for dtype in (np.float64, np.float32):
            yield _crowd(rng, count, dtype)
    for step in (1e-7, 1e-9):
        yield row(
            [0, 2, 4],
            [middle, middle + step, middle - step],
            0.5,
            "The scores are nearly equal, but not equal. Compare them as they are, in their own precision.",
        )
    for threshold in (1 / 3 - 1e-4, 1 / 3 + 1e-4):
        yield row(
            [0, 10],
            [high, low],
            threshold,
            "The IoU of these boxes is 1/3, close to the threshold. Compare it with the threshold as it is, without a "
            "tolerance.",
        )
    scores = rng.permutation(np.linspace(0.1, 0.9, HUNDREDS))
    best = np.argsort(-scores)[:COPIES]
    yield row(
        [50.0 * i for i in [*range(HUNDREDS), *best.tolist()]],
        [*scores.tolist(), *[0.01 * (i + 1) for i in range(COPIES)]],
        0.5,
        "Hundreds of boxes are kept here, and the best ones remove their own copies, which have the lowest scores. The "
        "number of kept boxes has no limit. Compare each kept box with all boxes after it.",
    )


def _case(rows: object, scores: object, threshold: float, hint: str) -> Case:
    return Case({"boxes": np.array(rows, float), "scores": np.array(scores, float), "iou_threshold": threshold}, hint)


def _crowd(rng: np.random.Generator, count: int, dtype: type[np.floating]) -> Case:
    """Draw boxes around a few centres, and a threshold that is not close to any IoU. Some boxes have equal scores."""
    centres = rng.uniform(10, 60, (1 + count // 4, 2))
    corner = centres[rng.integers(0, len(centres), count)] + rng.uniform(-8, 8, (count, 2))  # (count, 2)
    drawn = np.concatenate([corner, corner + rng.uniform(15, 30, (count, 2))], axis=1).round(1).astype(dtype)
    return _drawn_crowd(
        rng,
        drawn,
        "These boxes are random. Write down the IoU of each pair. Then go through the boxes by hand, from the highest "
        "score down, and cross off the boxes that are removed.",
    )


def _drawn_crowd(rng: np.random.Generator, drawn: np.ndarray, hint: str) -> Case:
    """Draw scores for boxes, some equal or negative, and a threshold between the IoUs of the boxes."""
    count = len(drawn)
    scores = (rng.integers(1, 2 * count + 1, count) / (2 * count + 1) - rng.choice([0, 1])).astype(drawn.dtype)
    overlaps = boxes.iou(drawn, drawn)
    threshold = _inputs.threshold_between(rng, overlaps[np.triu_indices(count, 1)])
    return Case({"boxes": drawn, "scores": scores, "iou_threshold": threshold}, hint)


def _descending(rng: np.random.Generator, count: int) -> list[float]:
    """Draw different scores between 0 and 1, in descending order."""
    drawn: list[float] = (np.sort(rng.choice(np.arange(1, 100), count, replace=False))[::-1] / 100).tolist()
    return drawn

"""Checks of two functions that process annotations: one resizes boxes with their image, the other finds faults."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np

from rcnn._ext.dispatch import original
from rcnn.checks._engine import (
    NOT_WRITTEN,
    Case,
    Failure,
    Function,
    attempt,
    check_callable,
    failed,
    generator_of,
    judging,
    run,
)
from rcnn.data import Digits
from rcnn.transform import Size, resized_size, scale_boxes

KINDS = ("label", "empty", "outside", "twice", "elsewhere")  # if a page has several kinds, the first one counts
INK, NO_INK = 20, 10  # grey values: boxes on ink are at least INK darker than the page, other boxes at most NO_INK
FALSE_ALARMS = {  # hints for pages that are reported with this fault but do not have it
    "label": "Valid labels are 1 to L-1, both included. L is the number of classes, which includes the background.",
    "empty": "A box with x2 > x1 and y2 > y1 is not empty, however thin it is.",
    "outside": "Compare x with the width and y with the height, and allow up to one pixel more.",
    "twice": "An object appears twice only if both the four numbers *and* the label are the same.",
    "elsewhere": "These boxes lie on ink. Compare the median of the page with the mean inside each box, and average "
    "over the boxes of the page.",
}
ALONE = (
    "For this page alone, your result is right, so it must not depend on the other pages. Several pages may have the "
    "same kind of fault, and there may be a kind that no page has."
)
A_DICT = "Return a dict {index: kind} with the faulty pages only: each key is the index of a page, each value one kind."
CLASSES = (11, 14, 7, 11, 20, 5, 9, 12, 6, 16, 13)  # number of classes in each round
PAGES, ROUNDS = 12, len(CLASSES)
SIMPLE = 6  # number of rounds of pages in grey values; most pages with several kinds of fault come later
REPEATS = ROUNDS - 1  # the round in which several pages have the same kind of fault
MARGIN = 0.7  # grey values: distance of the faintest boxes from INK and NO_INK, because pixels are whole numbers
ALL_ZERO, COVERED = 9, SIMPLE - 1  # rounds with a page whose labels are 0, and with boxes that cover most of a page
LIGHT, DARK = 245, 60  # medians of the lightest and of the darkest page
POOL, PAGE_SIZE = 60, (96, 144)
SUITING = 12  # pages of the pool for a fault that suits only some of them
Page = tuple[np.ndarray, dict[str, np.ndarray]]


@original
def resize_boxes(function: Function, seed: int | None = None) -> None:
    """Raise CheckFailed unless `function` resizes boxes with their image.

    Parameters
    ----------
    function : callable
        ``function(boxes, size, min_size, max_size)``. `boxes` (G, 4) contains the boxes of the G objects of an image,
        `size` is the image's (height, width), and the other arguments are side lengths in pixels. The function returns
        the resized boxes, (G, 4), and the new (height, width). The shorter side becomes `min_size`, unless the longer
        side would then exceed `max_size`; in that case, the longer side becomes `max_size`. Sides are rounded down to
        whole pixels. Boxes are scaled by the ratios of the rounded sides to the old sides.
    seed : int, optional
        Seed for the random inputs. Without it, every call uses new inputs.

    Raises
    ------
    CheckFailed
        If any result is wrong. The message shows a hint and the smallest failing input that was found.
    TypeError
        If `function` is not callable.
    """
    run("resize_boxes", function, _resize_boxes, _resize_cases(generator_of(seed)), rows=(("boxes",),))


@original
def find_faults(function: Function, seed: int | None = None) -> None:
    """Raise CheckFailed unless `function` finds exactly the faulty pages.

    Parameters
    ----------
    function : callable
        ``function(dataset)``. The function returns a dictionary {index: kind} with the pages that have a fault. If a
        page has several kinds of fault, the first of `KINDS` counts. A data set consists of pages (images of digits).
        Five pages have a fault. There are five kinds: a label outside 1 .. L-1, where L is the number of classes,
        including the background ("label"); a box without x2 > x1 and y2 > y1 ("empty"); a box that extends more than
        one pixel beyond its page ("outside"); two equal boxes with the same label ("twice"); and boxes that do not lie
        on ink ("elsewhere"). To find the last kind, average the grey values inside each box, and average these means
        over the boxes of the page. A pixel is inside a box if the box covers any part of it. If the boxes lie on ink,
        the result is at least `INK` below the median grey value of the page. If they do not, it is at most `NO_INK`
        below.
    seed : int, optional
        Seed for the random inputs. Without it, every call uses new inputs.

    Raises
    ------
    CheckFailed
        If any result is wrong. The message shows a hint and an input for which the function fails.
    TypeError
        If `function` is not callable.
    """
    check_callable("find_faults", function)
    rng = generator_of(seed)
    for number in range(ROUNDS):
        pages = _planted_set(rng, number)
        with judging("find_faults"):
            found = _examine(function, pages)
            if found is None:
                continue
            index, failure = found
            alone = None if index is None else _examine(function, [pages[index]])
            if alone is not None:
                failure = alone[1]
            elif index is not None:
                failure = replace(failure, hint=ALONE)
            shown = pages[index or 0]
            raise failed(
                "find_faults", Case(shown.arguments(), shown.hint or "Work through this page by hand."), failure
            )


# ---------------------------------------------------------------------- boxes resized with their image


def _resize_boxes(boxes: np.ndarray, size: Size, min_size: int, max_size: int) -> tuple[np.ndarray, Size]:
    resized = resized_size((int(size[0]), int(size[1])), int(min_size), int(max_size))
    boxes = np.asarray(boxes)
    return scale_boxes(boxes if boxes.dtype.kind == "f" else boxes.astype(np.float64), size, resized), resized


def _resize_cases(rng: np.random.Generator) -> Iterator[Case]:
    h, w, x, y = (int(v) for v in rng.integers((20, 60, 2, 2), (30, 80, 9, 9)))
    box = [[x, y, x + 7, y + 4]]

    def case(rows: object, size: Size, min_size: int, max_size: int, hint: str, dtype: Any = np.float64) -> Case:
        return Case(
            {"boxes": np.array(rows, dtype).reshape(-1, 4), "size": size, "min_size": min_size, "max_size": max_size},
            hint,
        )

    yield case(
        box,
        (h, w),
        2 * h,
        20 * w,
        "The image becomes twice as large, so every coordinate of its boxes doubles. Return a pair: the boxes, then "
        "(height, width).",
    )
    yield case(
        box,
        (w, h),
        2 * h,
        20 * w,
        "The shorter side determines the scale, whether it is the height or the width. A size is (height, width).",
    )
    yield case(
        np.multiply(box, 2),
        (2 * h, 2 * w),
        h,
        20 * w,
        "An image may also be too large. Then the image shrinks, and so do its boxes.",
    )
    yield case(
        box,
        (h, w),
        8 * h,
        3 * w,
        "The longer side would exceed `max_size`. In that case, the longer side determines the scale of both sides.",
    )
    yield case(
        box,
        (w, h),
        8 * h,
        3 * w,
        "The longer side would exceed `max_size`. In that case, the longer side determines the scale of both sides.",
    )
    for tall in (False, True):
        size, least = _uneven(rng, tall)
        yield case(
            box,
            size,
            least,
            10 * least,
            "The longer side is rounded down to whole pixels, not up. Scale the boxes by the ratios of the rounded "
            "sides to the old sides: x by the ratio of the widths and y by the ratio of the heights.",
        )
    yield case(
        np.zeros((0, 4)),
        (h, w),
        2 * h,
        20 * w,
        "Zero boxes are valid input: an image without objects is resized, too.",
    )
    yield case(
        [[0, 0, 0, 0]],
        (h, w),
        2 * h,
        20 * w,
        "There is one box, and all its coordinates are 0. Return one row for each box: the number of boxes is the "
        "length of the array, whatever its values are.",
    )
    yield case(
        box,
        (h, w),
        3 * h // 2 + 1,
        20 * w,
        "Integers are valid input, but scaled boxes need not be integers.",
        np.int64,
    )
    for tall in (False, True):
        (height, width), least = _uneven(rng, tall)
        yield case(
            [[-9, -4, 12, 30], [x, y, width + 8, height + 5], [0.25, 0.5, 0.75, 0.625]],
            (height, width),
            least,
            10 * least,
            "A box may extend beyond its image, and a side may be shorter than a pixel. Boxes are scaled, not clipped.",
        )
        size, most = _limited(rng, tall)
        yield case(
            [[x, y, x + 7, y + 4], [x, y, x + 3, y + 20]],
            size,
            2 * most,
            most,
            "The longer side would exceed `max_size`, so it becomes `max_size`. The shorter side is scaled by the same "
            "factor and rounded down.",
        )
    yield case(
        [[x, y, x + 7, y + 4]] * 4,
        (64, 64),
        96,
        512,
        "The image may be a square, and an object may be annotated several times. Return one row for each box.",
    )
    yield case(
        [[x, y, x + 7, y + 4]],
        (64, 64),
        96,
        80,
        "The image is a square, and its side must not exceed `max_size`, which is smaller than `min_size` here.",
    )
    for tall in (False, True):
        size, most = _limited(rng, tall)
        yield case(
            [[x, y, x + 7, y + 4]],
            size,
            int(min(size) * (most / max(size))) + 1,
            most,
            "With `min_size`, the longer side would exceed `max_size` by a few pixels only. It becomes `max_size`, and "
            "the shorter side stays below `min_size`.",
        )
    for size in ((525, 190), (190, 525)):
        yield case(
            [[x, y, x + 7, y + 4]],
            size,
            102,
            281,
            "With `min_size`, the longer side would exceed `max_size` by less than a pixel. Choose the factor before "
            "you round any side.",
        )
    for size in ((524, 190), (190, 524)):
        yield case(
            [[x, y, x + 7, y + 4]],
            size,
            102,
            281,
            "With `min_size`, the longer side would exceed `max_size` by a fraction of a pixel. Do not round it before "
            "you compare it.",
        )
    for size in ((75, 100), (100, 75)):
        yield case(
            [[x, y, x + 7, y + 4]],
            size,
            96,
            160,
            "With `min_size`, the longer side stays below `max_size`, so `max_size` plays no role. If you compare "
            "ratios of sides, do not round them.",
        )
    for count in (1, 3, 8):
        size, least = _uneven(rng, bool(rng.integers(2)))
        corner = rng.uniform(0, np.array(size[::-1]) / 2, (count, 2))
        rows = np.concatenate([corner, corner + rng.uniform(1, np.array(size[::-1]) / 2, (count, 2))], axis=1)
        yield case(
            rows,
            size,
            least,
            10 * least,
            "These boxes are random. Work out the new sides of the image first, then the ratio new / old for each "
            "side.",
            np.float32,
        )


def _uneven(rng: np.random.Generator, tall: bool) -> tuple[Size, int]:
    """Draw (size, min_size). The fractional part of the resized longer side, before rounding, is clearly above 1/2."""
    while True:
        short, long, least = (int(v) for v in rng.integers((60, 150, 30), (100, 240, 90)))
        exact = Fraction(long * least, short)
        size = (long, short) if tall else (short, long)
        if exact % 1 > Fraction(6, 10) and min(resized_size(size, least, 10 * least)) == least != short:
            return size, least


def _limited(rng: np.random.Generator, tall: bool) -> tuple[Size, int]:
    """Draw (size, max_size) for which max_size decides, and no rounding error of a float changes a side."""
    while True:
        short, long, most = (int(v) for v in rng.integers((60, 150, 30), (100, 240, 90)))
        part = Fraction(short * most, long) % 1
        if Fraction(3, 10) < part < Fraction(9, 10) and int(long * (most / long)) == most:
            return ((long, short) if tall else (short, long)), most


# ---------------------------------------------------------------------- finding faults


@dataclass(frozen=True)
class _Planted:
    """A page, the kind of its fault (None if it has no fault), and a hint."""

    image: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    kind: str | None
    hint: str
    classes: tuple[str, ...] = Digits.classes

    def page(self) -> Page:
        return self.image.copy(), {"boxes": self.boxes.copy(), "labels": self.labels.copy()}

    def arguments(self) -> dict[str, Any]:
        """Return the values that a message shows for this page."""
        return {
            "image.shape": self.image.shape,
            "len(dataset.classes)": len(self.classes),
            "boxes": self.boxes,
            "labels": self.labels,
        }


class _Pages:
    """A data set of pages in memory."""

    def __init__(self, pages: list[_Planted]) -> None:
        self.classes = pages[0].classes
        self._pages = [page.page() for page in pages]

    def __len__(self) -> int:
        return len(self._pages)

    def __getitem__(self, index: int) -> Page:
        return self._pages[index]


def _examine(function: Function, pages: list[_Planted]) -> tuple[int | None, Failure] | None:
    """Return (page index, mistake); None if there is no mistake. The index is None if no single page is responsible."""
    dataset = _Pages(pages)
    before = copy.deepcopy([dataset[i] for i in range(len(dataset))])
    expected = {i: page.kind for i, page in enumerate(pages) if page.kind is not None}
    got, failure = attempt(function, dataset)
    if failure is not None:
        page = None if failure.sentence == NOT_WRITTEN else _first_failing(function, pages)
        return page, replace(failure, expected=expected)
    for i, (image, target) in enumerate(before):
        same = dataset[i][0] is not None and np.array_equal(image, dataset[i][0])
        if not same or any(
            not np.array_equal(target[name], dataset[i][1][name], equal_nan=name == "boxes") for name in target
        ):
            return i, Failure(
                "changes the data set", hint="Work on a copy. The function should find faults, not repair them."
            )
    if got is None:
        return None, Failure("returns None", None, expected, "A function without `return` returns None.")
    if not isinstance(got, Mapping):
        return None, Failure(f"returns {type(got).__name__}; expected a dict {{index: kind}}", got, expected, A_DICT)
    answer: dict[int, Any] = {}
    for key, kind in got.items():
        if not isinstance(key, (int, np.integer)) or isinstance(key, bool):
            return None, Failure(
                f"returns a dict with the key {key!r}; expected the index of a page", dict(got), expected, A_DICT
            )
        if not isinstance(kind, str):
            return None, Failure(
                f"returns {type(kind).__name__} for page {key}; expected one kind, as a string",
                dict(got),
                expected,
                A_DICT,
            )
        answer[int(key)] = str(kind)
    for i in sorted({*answer, *expected}):
        if answer.get(i) != expected.get(i):
            if not 0 <= i < len(pages):
                return None, Failure(
                    f"reports page {i}, but the page indices are 0 to {len(pages) - 1}",
                    answer,
                    expected,
                    "Indices start at 0.",
                )
            return i, _difference(i, answer, expected, pages[i])
    return None


def _difference(i: int, answer: Mapping[int, Any], expected: Mapping[int, str | None], page: _Planted) -> Failure:
    """Return how the fault that was reported for page `i` differs from the true one."""
    shown = (dict(answer), dict(expected))
    if i not in answer:
        return Failure(f"reports no fault for page {i}, which has one", *shown, page.hint)
    alarm = FALSE_ALARMS.get(answer[i], f"The kinds of fault are {', '.join(map(repr, KINDS))}.")
    if i not in expected:
        hint = f"{alarm} {page.hint}" if page.hint else alarm
        return Failure(f"reports {answer[i]!r} for page {i}, which has no fault", *shown, hint)
    later = answer[i] in KINDS and KINDS.index(answer[i]) > KINDS.index(str(expected[i]))
    hint = (
        f"{page.hint} If a page has several kinds of fault, the first kind in the list of kinds counts."
        if later
        else alarm
    )
    return Failure(f"reports {answer[i]!r} for page {i}, which has another fault", *shown, hint)


def _first_failing(function: Function, pages: list[_Planted]) -> int | None:
    """Call `function` with one page at a time. Return the index of the first page that causes an error, or None."""
    return next((i for i, page in enumerate(pages) if attempt(function, _Pages([page]))[1] is not None), None)


def _planted_set(rng: np.random.Generator, number: int) -> list[_Planted]:
    """Draw pages in random order: five with faults, in their variant `number`, and others without a fault.

    There is one for each kind of fault. In the last round, there are only two kinds.
    """
    classes = tuple([*Digits.classes, *map(str, range(10, 30))][: CLASSES[number]])
    chosen = [_relabelled(_pool()[i], len(classes)) for i in rng.choice(len(_pool()), PAGES, replace=False)]
    kinds = rng.permutation([*["elsewhere"] * 2, *[rng.choice(KINDS[:4])] * 3]).tolist() if number == REPEATS else KINDS
    makers = [_PLANT[kind] for kind in kinds]
    pages = [maker(rng, page, number, len(classes)) for maker, page in zip(makers, chosen, strict=False)]
    others = chosen[len(pages) :]
    loose = _loose(first=bool(len(classes) % 2))
    others[-1] = _relabelled(loose[rng.integers(len(loose))], len(classes))
    pages += [_harmless(rng, page, i, len(classes)) for i, page in enumerate(others)]
    if number == REPEATS:
        pages[kinds.index("elsewhere")] = _framed(rng)
    pages += [sketch(rng, number) for first, sketch in _SKETCHES.items() if number in first]
    if number >= SIMPLE:
        pages += [_coloured(chosen[-2], number), _nearly_twice(chosen[-3], number), _faint(chosen[-4])]
        enlarged = _mostly_loose()
        pages.append(enlarged[rng.integers(len(enlarged))])
        pages[-1] = replace(pages[-1], labels=(pages[-1].labels - 1) % (len(classes) - 1) + 1)
    return [replace(pages[i], classes=classes) for i in rng.permutation(len(pages))]


@functools.cache
def _loose(first: bool) -> list[Page]:
    """Return the pages of the pool whose first box, or last box, can be enlarged until it contains little ink."""
    return [page for page in _pool() if _widened(page[0], page[1]["boxes"], first) is not page[1]["boxes"]]


def _relabelled(page: Page, classes: int) -> Page:
    """Return the page with labels that are valid for this number of classes."""
    image, target = page
    return image, {**target, "labels": (target["labels"] - 1) % (classes - 1) + 1}


@functools.cache
def _pool() -> list[Page]:
    """Return the pages into which faults can be planted: they have three or more digits, dark ink, and empty space."""
    drawn = Digits(20 * POOL, split="val", seed=14, size=PAGE_SIZE)
    pages: list[Page] = []
    for i in range(len(drawn)):
        image, target = drawn[i]
        if i % 3 == 0:  # a tall page
            image = np.ascontiguousarray(image.swapaxes(0, 1))
            target = {**target, "boxes": target["boxes"][:, [1, 0, 3, 2]]}
        boxes = target["boxes"]
        if len(boxes) >= 3 and ink(image, boxes).min() >= INK and _moved(image, boxes, i) is not None:
            pages.append((image, target))
        if len(pages) == POOL:
            break
    return pages


def ink(image: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Return how much darker the inside of each box is than the page.

    Parameters
    ----------
    image : (H, W, 3) array
        The page, in grey values 0 .. 255.
    boxes : (G, 4) array
        The boxes of G objects, in pixels.

    Returns
    -------
    (G,) array
        For each box, the median of the page minus the mean inside the box, in grey values.
    """
    grey = image.mean(axis=2)  # (H, W)
    corners = [(slice(int(y1), int(np.ceil(y2))), slice(int(x1), int(np.ceil(x2)))) for x1, y1, x2, y2 in boxes]
    return np.median(grey) - np.array([grey[corner].mean() for corner in corners])


def _moved(image: np.ndarray, boxes: np.ndarray, first: int) -> tuple[np.ndarray, str] | None:
    """Move G boxes (G, 4) off the ink in one of several ways, beginning with way `first`.

    Return the moved boxes and the reason why they are wrong, or None if no way moves them off the ink.
    """
    height, width = image.shape[:2]
    x1, y1, x2, y2 = boxes.T
    ways = (
        (np.stack([width - x2, y1, width - x1, y2], axis=1), "the image was mirrored, but its boxes were not"),
        (np.stack([x1, height - y2, x2, height - y1], axis=1), "y was measured from the bottom of the page"),
        (boxes[:, [1, 0, 3, 2]], "x and y were swapped, and the boxes still fit into this page"),
        (boxes / 2, "the boxes belong to a copy of the page at half the size"),
        (
            np.stack([width - x2, height - y2, width - x1, height - y1], axis=1),
            "the page was rotated by 180 degrees, but its boxes were not",
        ),
    )
    for k in range(len(ways)):
        moved, reason = ways[(first + k) % len(ways)]
        if (moved[:, 2:] <= (width, height)).all() and ink(image, moved).mean() <= NO_INK:
            return moved.astype(np.float32), reason
    return None


def _harmless(rng: np.random.Generator, page: Page, number: int, classes: int) -> _Planted:
    """Return a page that may look faulty but has no fault."""
    image, target = page
    boxes, labels = target["boxes"].copy(), target["labels"].copy()
    if number == 0:
        blank = np.full_like(image, int(rng.integers(170, 240)))
        return _Planted(
            blank,
            np.zeros((0, 4), np.float32),
            np.zeros(0, np.int64),
            None,
            "A page without objects is valid: it has no fault.",
        )
    if number == 1:
        right, bottom = (int(side) for side in boxes[:, 2:].max(axis=0))
        image = np.ascontiguousarray(image[:bottom, :right])
        boxes[boxes[:, 3].argmax(), 3] = bottom + 1
        if classes % 2:
            top = int(boxes[:, 1].min())
            image = np.ascontiguousarray(image[top:])
            boxes -= np.array([0, top, 0, top], boxes.dtype)
            boxes[boxes[:, 1].argmin(), 1] = -1
        return _Planted(
            image,
            boxes,
            labels,
            None,
            "Coordinates are continuous, so a box may end exactly at the width or the height of the page. Annotators "
            "round, so up to one pixel more is allowed. If a box begins outside, remember that a negative index counts "
            "from the end.",
        )
    if number == 2:
        boxes, labels = np.concatenate([boxes, boxes[:1]]), np.append(labels, labels[0] % (classes - 1) + 1)
        return _Planted(
            image,
            boxes,
            labels,
            None,
            "The same box with *another* label is a doubtful annotation, not the same object twice.",
        )
    if number == 3:
        labels[:] = classes - 1
        return _Planted(
            image,
            boxes,
            labels,
            None,
            "A page may have many objects with the same label. Here it is the last valid label, L-1.",
        )
    if number == 4:
        x1, y1, x2, y2 = boxes[int(rng.integers(len(boxes)))]
        grey = image.mean(axis=2)[int(y1) : int(np.ceil(y2)), int(x1) : int(np.ceil(x2))]
        column, row = int(x1) + grey.mean(axis=0).argmin(), int(y1) + grey.mean(axis=1).argmin()  # the darkest
        thin = [[column + 0.25, y1, column + 0.5, y2], [x1, row + 0.25, x2, row + 0.75]]
        return _Planted(
            image,
            np.concatenate([boxes, thin]).astype(np.float32),
            np.append(labels, [1, 2]),
            None,
            "A box with x2 > x1 and y2 > y1 is not empty, even if it is thinner than a pixel.",
        )
    if number == 5:
        return _Planted(
            _with_dark_edge(image, boxes),
            boxes,
            labels,
            None,
            "A part of this page is dark, but no box lies there. Use the median of the page: a dark edge changes it "
            "less than the mean.",
        )
    return _Planted(
        image,
        _widened(image, boxes, first=bool(classes % 2)),
        labels,
        None,
        "One box is much larger than its digit, so it contains little ink. Average over all boxes of the page.",
    )


def _coloured(page: Page, number: int) -> _Planted:
    """Return a page without a fault, in which one of the channels does not show the ink."""
    image, target = page
    hidden = number % 3
    grey = image.mean(axis=2)
    paper = np.median(grey)
    coloured = np.repeat((grey - (paper - grey) / 2)[..., None], 3, axis=2)  # the other two channels are darker
    coloured[..., hidden] = paper
    painted = np.clip(coloured, 0, 255).round().astype(np.uint8)
    weights = np.array([0.299, 0.587, 0.114])  # of the luminance, a grey value that Pillow computes
    luminance = np.repeat((painted @ weights)[..., None], 3, axis=2)
    suits = min(ink(one, target["boxes"]).mean() for one in (painted, luminance)) >= INK
    return _Planted(
        painted if suits else image,
        target["boxes"],
        target["labels"],
        None,
        "This page has coloured ink, so one channel does not show it. The grey value of a pixel is the mean of its "
        "three channels.",
    )


def _faint(page: Page) -> _Planted:
    """Return a light page without a fault, whose boxes are only just dark enough."""
    image, target = page
    grey = image.mean(axis=2)
    paper = np.median(grey)
    factor = (INK + MARGIN) / ink(image, target["boxes"]).mean()
    faint = np.clip(LIGHT - (paper - grey) * factor, 0, 255).round().astype(np.uint8)  # (H, W)
    painted = np.repeat(faint[..., None], 3, axis=2)
    suits = ink(painted, target["boxes"]).mean() >= INK
    return _Planted(
        painted if suits else image,
        target["boxes"],
        target["labels"],
        None,
        f"The page is light and its ink is faint, but the boxes are at least {INK} darker than the page. This limit "
        "is a number of grey values. It does not depend on the page.",
    )


@functools.cache
def _mostly_loose() -> list[_Planted]:
    """Return pages without a fault, in which most boxes contain little ink, but the mean of all boxes does not.

    On a page, boxes are enlarged one after the other, the lightest first.
    """
    pages: list[_Planted] = []
    for image, target in _pool():
        grey = image.mean(axis=2, keepdims=True)
        height, width = grey.shape[:2]
        boxes = target["boxes"].copy()
        for i in ink(grey, boxes).argsort():
            for margin in range(4, 60, 4):
                wider = boxes.copy()
                wider[i] = np.clip(target["boxes"][i] + [-margin, -margin, margin, margin], 0, [width, height] * 2)
                if ink(grey, wider).mean() < INK + MARGIN:
                    break
                boxes = wider
        values, areas = ink(grey, boxes), (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
        if max(np.median(values), np.average(values, weights=areas)) < (INK + NO_INK) / 2 - 1:
            hint = (
                "Some boxes are much larger than their digits, so they contain little ink. Take the mean inside each "
                "box first, and then the mean, not the median, of these numbers. A large box does not count more than "
                "a small one."
            )
            pages.append(_Planted(image, boxes, target["labels"], None, hint))
        if len(pages) == SUITING:
            break
    return pages


def _nearly_twice(page: Page, number: int) -> _Planted:
    """Return a page without a fault, in which two boxes with the same label differ by less than a pixel."""
    image, target = page
    boxes = np.concatenate([target["boxes"], target["boxes"][:1]])
    column = (2, 3, 0, 1)[number % 4]
    boxes[-1, column] += (0.25 if number % 2 else 1 / 64) * (1 if column < 2 else -1)
    return _Planted(
        image,
        boxes,
        np.append(target["labels"], target["labels"][0]),
        None,
        "Two boxes differ by less than a pixel, so they are not the same box. Compare the numbers as they are: do not "
        "round them.",
    )


# Small pages with strokes of ink instead of digits. A mistake of one pixel decides there.

SKETCH = (20, 28)  # rows and columns


def _sketch(
    rng: np.random.Generator, boxes: Sequence[Sequence[float]], strokes: list[tuple[slice, slice]], hint: str
) -> _Planted:
    """Return a page without a fault with these boxes, and with ink in the strokes (rows, columns)."""
    grey = rng.integers(205, 210, SKETCH)
    for rows, columns in strokes:
        grey[rows, columns] -= 150
    image = np.repeat(grey[..., None], 3, axis=2).astype(np.uint8)
    return _Planted(image, np.array(boxes, np.float32), np.arange(1, 1 + len(boxes)), None, hint)


def _partly_covered(rng: np.random.Generator, number: int) -> _Planted:
    """Return a page whose ink lies in pixels that the boxes cover only in part, on one side of each box."""
    boxes, strokes = [], []
    for left, top in ((3, 2), (16, 10)):  # boxes of 4 x 4 pixels
        boxes.append([left + 0.5, top + 0.5, left + 3.5, top + 3.5])
        rows, columns = slice(top, top + 4), slice(left, left + 4)
        line = 3 * (number % 2)  # the first or the last row or column
        if number % 4 < 2:
            strokes.append((rows, slice(left + line, left + line + 1)))
        else:
            strokes.append((slice(top + line, top + line + 1), columns))
    return _sketch(
        rng,
        boxes,
        strokes,
        "The ink lies in pixels that the boxes cover only in part. A pixel is inside a box if the box covers any part "
        "of it: the columns from the floor of x1 to the ceiling of x2, without the column after it.",
    )


def _thin(rng: np.random.Generator, number: int) -> _Planted:
    """Return a page with thin strokes: most pixels inside each box are paper."""
    return _sketch(
        rng,
        [[3, 2, 8, 8], [16, 9, 22, 14]],
        [(slice(2, 8), slice(5, 7)), (slice(11, 13), slice(16, 22))],
        "The strokes are thin, so most of the pixels inside a box are paper, and their median shows no ink. Take the "
        "mean of the pixels inside a box.",
    )


def _across(rng: np.random.Generator, number: int) -> _Planted:
    """Return a page with boxes that extend one pixel beyond it on two opposite sides."""
    height, width = SKETCH
    return _sketch(
        rng,
        [[-1, 5, width + 1, 11], [9, -1, 15, height + 1]],
        [(slice(6, 10), slice(None)), (slice(None), slice(10, 14))],
        "A box extends one pixel beyond the page on two opposite sides. Up to one pixel more is allowed on each side, "
        "so do not add them.",
    )


def _at_the_start(rng: np.random.Generator, number: int) -> _Planted:
    """Return a page with a single box, which begins up to a pixel outside, to the left of the page or above it."""
    box = [-0.5, 3, 6, 9] if number % 2 else [3, -0.5, 9, 6]
    return _sketch(
        rng,
        [box],
        [(slice(0, 9), slice(0, 9))],
        "The only box begins up to a pixel outside the page. In Python, a negative index counts from the end, so a "
        "slice that begins at -1 is wrong.",
    )


_SKETCHES = {  # rounds in which these pages occur
    (2, 3): _at_the_start,
    (4,): _across,
    (COVERED,): _thin,
    tuple(range(SIMPLE, ROUNDS)): _partly_covered,
}


def _framed(rng: np.random.Generator) -> _Planted:
    """Return a page with the fault "elsewhere": a frame of ink is around each box, but none is inside."""
    boxes, frames = [], []
    for left, top in ((3, 2), (16, 10)):  # boxes of 4 x 4 pixels
        boxes.append([left, top, left + 4, top + 4])
        frames += [(slice(top - 1, top + 5), column) for column in (slice(left - 1, left), slice(left + 4, left + 5))]
        frames += [(row, slice(left, left + 4)) for row in (slice(top - 1, top), slice(top + 4, top + 5))]
    page = _sketch(
        rng,
        boxes,
        frames,
        "All numbers are plausible here, but the ink is just outside the boxes. A box with x2 = 7 ends before column "
        "7. Do not include a row or a column too many.",
    )
    return replace(page, kind="elsewhere")


def _with_dark_edge(image: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Darken columns from the right, outside the boxes, until the mean of the page is as dark as the boxes.

    Return the page unchanged if the boxes would then be less than `INK` darker than the median of the page.
    """
    free = np.ones(image.shape[:2], bool)
    for x1, y1, x2, y2 in boxes:
        free[int(y1) : int(np.ceil(y2)), int(x1) : int(np.ceil(x2))] = False
    dark = image.copy()
    for column in range(image.shape[1] - 1, -1, -1):
        dark[free[:, column], column] = 10
        values = ink(dark, boxes)
        if values.mean() < INK:
            break
        if dark.mean() - np.median(dark.mean(axis=2)) + values.mean() < NO_INK:  # the mean of the page, less the boxes
            return dark
    return image


def _widened(image: np.ndarray, boxes: np.ndarray, first: bool) -> np.ndarray:
    """Enlarge the first box, or the last box, until it contains little ink. The page must still look right.

    Return the boxes unchanged if no margin suits.
    """
    height, width = image.shape[:2]
    i = 0 if first else len(boxes) - 1
    for margin in range(2, 60, 2):
        wider = boxes.copy()
        wider[i] = np.clip(boxes[i] + [-margin, -margin, margin, margin], 0, [width, height, width, height])
        values = ink(image, wider)
        if values.mean() < INK + 1:
            break
        if values[i] < NO_INK:
            return wider
    return boxes


def _plant_label(rng: np.random.Generator, page: Page, number: int, classes: int) -> _Planted:
    image, target = page
    labels, i = target["labels"].copy(), int(rng.integers(len(target["labels"])))
    value, hint = (
        (0, "0 is the label of the background, so no object may have it."),
        (classes, "The last valid label is L-1, because `classes` includes the background."),
        (-1, "Labels start at 1. Code that reads annotation files uses -1 for an unknown class."),
    )[number % 3]
    labels[i], boxes = value, target["boxes"].copy()
    if number == ALL_ZERO:
        labels[:] = 0
        hint = (
            "All labels of this page are 0, which no object may have. Only a page without boxes has no objects: test "
            "the length of the array, not its values."
        )
    if number == 3:  # two kinds of fault
        boxes[i] = boxes[i, [2, 1, 0, 3]]
    elif number == SIMPLE:
        boxes[i, 2] = image.shape[1] + 9
    elif number > SIMPLE:
        boxes, labels = _repeated(boxes, i), _repeated(labels, i)
    return _Planted(image, boxes, labels, "label", hint)


def _repeated(rows: np.ndarray, i: int) -> np.ndarray:
    """Return the rows (G, ...) with a copy of row `i` at the end."""
    return np.concatenate([rows, rows[i : i + 1]])


def _plant_empty(rng: np.random.Generator, page: Page, number: int, classes: int) -> _Planted:
    image, target = page
    boxes, labels, i = target["boxes"].copy(), target["labels"], int(rng.integers(len(target["boxes"])))
    hint = "Every box must have both x2 > x1 and y2 > y1."
    if number == 0:
        boxes[i] = boxes[i, [2, 1, 0, 3]]
    elif number == 1:
        boxes[i] = boxes[i, [0, 3, 2, 1]]
    elif number == 2:
        boxes[i, 2], hint = boxes[i, 0], "If x2 equals x1, the box is only a line, and its area is 0."
    elif number == 3:
        boxes[i, 3], hint = (
            np.nan,
            "NaN is neither greater nor less than a number. Test the condition that must hold, and negate the result.",
        )
    elif number == 5:
        boxes[i, [1, 3]], hint = boxes[i, 3], "If y2 equals y1, the box is only a line, and its area is 0."
    elif number == 6:
        boxes[i], hint = (
            boxes[i, [2, 3, 0, 1]],
            "x1 and x2 are exchanged, and so are y1 and y2, so the area is positive. Test each side.",
        )
    elif number == 7:  # also outside, in the same box and in another one
        boxes[i, [1, 3]] = -5
        boxes[i - 1, 2] = image.shape[1] + 9
    elif number == 8:  # also twice
        boxes[i, 3] = boxes[i, 1] - 1
        boxes, labels = _repeated(boxes, i), _repeated(labels, i)
    elif number == ALL_ZERO:  # also twice
        boxes[:], labels = 0, np.full_like(labels, labels[0])
        hint = (
            "All coordinates of this page are 0, so its boxes are points, and empty. Only a page without boxes has no "
            "objects: test the length of the array, not its values."
        )
    else:  # x, y, width, height; the width of the rightmost box is at most its x1
        i = int(boxes[:, 0].argmax())
        boxes[:, 2:] -= boxes[:, :2]
        boxes[i, 2] = min(boxes[i, 2], boxes[i, 0])
        hint = (
            "The numbers are x, y, width and height. If a page has several kinds of fault, the first kind in the list "
            "of kinds counts."
        )
    return _Planted(image, boxes, labels, "empty", hint)


def _plant_outside(rng: np.random.Generator, page: Page, number: int, classes: int) -> _Planted:
    image, target = page
    boxes, i = target["boxes"].copy(), int(rng.integers(len(target["boxes"])))
    excess = float(rng.uniform(1.125, 1.45) if number < 4 else rng.uniform(1.5, 4))
    height, width = image.shape[:2]
    edge = (
        (2, width + excess),
        (3, height + excess),
        (0, -excess),
        (1, -excess),
        (2, width + 20),
        (3, height + 20),
    )[number % 6]
    boxes[i, edge[0]] = edge[1]
    labels = target["labels"]
    if number >= SIMPLE:  # also twice: the box beyond the page, or another one
        again = (i + number) % len(boxes)
        boxes, labels = _repeated(boxes, again), _repeated(labels, again)
    return _Planted(
        image,
        boxes,
        labels,
        "outside",
        "A page has four edges: 0 on the left and at the top, the width on the right, and the height at the bottom. "
        "Width and height differ here. A shape is (height, width, 3). One pixel more is allowed, but not a fraction "
        "of the next one.",
    )


def _plant_twice(rng: np.random.Generator, page: Page, number: int, classes: int) -> _Planted:
    image, target = page
    i = 0 if number == 0 else int(rng.integers(len(target["boxes"])))
    position = len(target["boxes"]) if number % 2 else int(rng.integers(len(target["boxes"]) + 1))
    boxes, moved = target["boxes"], _moved(image, target["boxes"], number)
    if number >= SIMPLE and moved is not None:  # also elsewhere
        boxes = moved[0]
    boxes = np.insert(boxes, position, boxes[i], axis=0)
    labels = np.insert(target["labels"], position, target["labels"][i])
    return _Planted(
        image,
        boxes,
        labels,
        "twice",
        "The same four numbers and the same label appear in two rows. These rows need not be neighbours.",
    )


def _plant_elsewhere(rng: np.random.Generator, page: Page, number: int, classes: int) -> _Planted:
    if number == 9:  # the boxes must be so light that one channel can be much darker
        page = _relabelled(_tintable()[rng.integers(len(_tintable()))], classes)
    image, target = page
    if number == COVERED:
        return _covered(page)
    moved = _moved(image, target["boxes"], number)
    if moved is None:
        raise RuntimeError("a page of the pool has no region without ink")
    boxes, reason = moved
    if number in (6, 8):
        boxes = _beginning_outside(image, boxes)
        reason += ", and a box begins up to a pixel outside the page (a negative index counts from the end)"
    elif number == 9:
        image = _tinted(image, boxes)
        reason += ", and the paper inside the boxes is tinted: one of the three channels is darker than their mean"
    elif number == REPEATS:
        image = _darkened(image, boxes)
        reason += f", and the boxes are at most {NO_INK} darker than a dark page"
    elif number > SIMPLE:
        image = _with_light_boxes(image, boxes)
        reason = "the boxes lie on parts of the page that are lighter than its median, so the difference is negative"
    labels = target["labels"]
    if number == 4:
        alone = int(ink(image, boxes).argmin())
        boxes, labels = boxes[alone : alone + 1], labels[alone : alone + 1]
        reason += ", and the page has a single box"
    return _Planted(
        image,
        boxes,
        labels,
        "elsewhere",
        f"All numbers are plausible here, but {reason}. "
        "Ink is dark, so the inside of a box that lies on its digit is darker than the page.",
    )


def _covered(page: Page) -> _Planted:
    """Return a page whose boxes cover more than half of it. There, its paper is darker, without ink."""
    image, target = page
    height, width = image.shape[:2]
    x1, x2 = round(0.1 * width), round(0.9 * width)
    ends = np.linspace(0.1 * height, 0.9 * height, 4).round().tolist()
    boxes = np.array([[x1, top, x2, bottom] for top, bottom in zip(ends[:-1], ends[1:], strict=True)], np.float32)
    covered = image.copy()
    covered[_inside(image, boxes)] = int(np.median(image.mean(axis=2))) - INK - NO_INK
    return _Planted(
        covered,
        boxes,
        target["labels"][: len(boxes)],
        "elsewhere",
        "All numbers are plausible here, but the boxes cover most of a page whose paper is darker there, and they "
        "contain no ink. The median is that of *all* pixels of the page, also of those inside the boxes.",
    )


def _beginning_outside(image: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Return boxes off the ink (G, 4), one of which is extended to begin at -1. Unchanged if all would lie on ink."""
    for i, column in [(i, k) for k in (0, 1) for i in boxes[:, k].argsort()]:
        longer = boxes.copy()
        longer[i, column] = -1
        if ink(image, np.maximum(longer, 0)).mean() <= NO_INK:
            return longer
    return boxes


def _inside(image: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Return a mask (H, W) of the pixels inside any of the boxes (G, 4)."""
    mask = np.zeros(image.shape[:2], bool)
    for x1, y1, x2, y2 in boxes:
        mask[int(y1) : int(np.ceil(y2)), int(x1) : int(np.ceil(x2))] = True
    return mask


def _tinted(image: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Darken one channel inside the boxes (G, 4), which lie off the ink, as far as they still lie off it."""
    depth = int(3 * (NO_INK - ink(image, boxes).mean()))
    tinted = image.astype(int)
    tinted[_inside(image, boxes), 1] -= max(depth, 0)
    return np.clip(tinted, 0, 255).astype(np.uint8)


@functools.cache
def _tintable() -> list[Page]:
    """Return the pages of the pool in which one channel of the tinted boxes (`_plant_elsewhere`) is as dark as ink."""
    pages = []
    for image, target in _pool():
        moved = _moved(image, target["boxes"], 9)
        if moved is not None:
            darkest = _tinted(image, moved[0]).min(axis=2, keepdims=True)
            if ink(darkest, moved[0]).mean() >= INK:
                pages.append((image, target))
        if len(pages) == SUITING:
            break
    return pages


def _darkened(image: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Darken the page, and its boxes (G, 4), which lie off the ink, a little more."""
    median = np.median(image.mean(axis=2))
    dark = image * (DARK / median)
    depth = NO_INK - MARGIN - ink(dark, boxes).mean()
    dark[_inside(image, boxes)] -= max(depth, 0)
    rounded = np.clip(dark, 0, 255).round().astype(np.uint8)
    return rounded if ink(rounded, boxes).mean() <= NO_INK else image


def _with_light_boxes(image: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Darken the page, and brighten it inside the boxes (G, 4). Unchanged if the boxes are too large."""
    light = (image * 0.5).astype(np.uint8)
    for x1, y1, x2, y2 in boxes:
        light[int(y1) : int(np.ceil(y2)), int(x1) : int(np.ceil(x2))] = 240
    return light if ink(light, boxes).mean() <= -INK else image


_PLANT = {
    "label": _plant_label,
    "empty": _plant_empty,
    "outside": _plant_outside,
    "twice": _plant_twice,
    "elsewhere": _plant_elsewhere,
}

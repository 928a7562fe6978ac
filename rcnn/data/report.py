"""What `rcnn.data.validate` says about a data set: how much there is of what, and a list of problems."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

ERROR, WARNING = "error", "warning"
WHOLE = "the set as a whole"  # the place of a problem that is not one of single images


@dataclass(frozen=True)
class Kind:
    """A kind of problem: whether training must not start (an error), what it is, and what to do, in a line each."""

    severity: str
    sentence: str
    remedy: str


# In the order in which they are reported: of the set as a whole, which may be the cause of others; of images;
# of boxes and labels; of classes and copies.
KINDS: Mapping[str, Kind] = {
    "no-images": Kind(ERROR, "the set has no images", "look whether the folder and the split are the right ones"),
    "no-objects": Kind(ERROR, "no image has an object to learn from", "annotate some, or mend what else is wrong"),
    "swapped-axes": Kind(ERROR, "x and y of the boxes are swapped", "exchange x1 with y1 and x2 with y2"),
    "upside-down": Kind(
        ERROR,
        "y of the boxes is counted from the bottom of the image",
        "replace y1 by height - y2, and y2 by height - y1",
    ),
    "relative-boxes": Kind(
        ERROR,
        "boxes are given as shares of the image, not in pixels",
        "multiply x by the image's width and y by its height",
    ),
    "width-height": Kind(
        ERROR, "the boxes' numbers seem to be x, y, width, height", "replace x2 by x + width, and y2 by y + height"
    ),
    "wrong-scale": Kind(
        ERROR,
        "boxes seem to be drawn on copies of the images in another size",
        "multiply the boxes by the size of these images over the size of those",
    ),
    "shuffled": Kind(
        ERROR,
        "the boxes of an image belong to another image",
        "look where images and annotations were put together: names or rows may have slipped",
    ),
    "unreadable-annotation": Kind(ERROR, "an annotation cannot be read", 'mend it, or leave it out: on_error="skip"'),
    "missing-image": Kind(
        ERROR, "the file of an annotated image is missing", 'put it there, or leave it out: on_error="skip"'
    ),
    "unreadable-image": Kind(ERROR, "an image cannot be read", 'replace the file, or leave it out: on_error="skip"'),
    "failing-item": Kind(
        ERROR,
        "the data set raises an error when it is asked for an image",
        "ask for this index alone to see where the error comes from",
    ),
    "malformed-item": Kind(
        ERROR,
        "an image or its target is not of the right form",
        'give (H, W, 3) uint8 and {"boxes": (G, 4) numbers, "labels": (G,) integers}',
    ),
    "size-mismatch": Kind(
        ERROR,
        "the annotation is of an image of another size than the file",
        "put the annotated file back, or multiply the boxes by the ratio of the sizes",
    ),
    "left-out": Kind(WARNING, 'something was wrong and left out (on_error="skip")', "mend it to train with it"),
    "not-finite": Kind(ERROR, "a box has a coordinate that is not finite", "correct or remove the box"),
    "empty-box": Kind(ERROR, "a box has x2 <= x1 or y2 <= y1", "exchange its corners, or remove the box"),
    "box-outside": Kind(
        ERROR, "a box reaches more than a pixel beyond its image", "cut the box at the border, or correct it"
    ),
    "counts-from-0": Kind(
        WARNING,
        "a box begins exactly one pixel before its image",
        "annotations in VOC's form that count pixels from 0 are read with first_pixel=0",
    ),
    "background-label": Kind(
        ERROR, "an object has the label 0, which is the background", "add 1 to all labels if they count from 0"
    ),
    "label-range": Kind(ERROR, "an object has a label that no class has", "name all classes, or correct the label"),
    "unknown-class": Kind(
        ERROR, "an object's class is not among the classes", "correct the name, or add it to the classes"
    ),
    "duplicate-box": Kind(WARNING, "an image has the same box of the same class twice", "remove one of them"),
    "no-background": Kind(
        WARNING,
        "the first of the classes is not the background",
        'begin the classes with "background"; the labels of objects begin with 1',
    ),
    "similar-names": Kind(
        WARNING,
        "names of classes differ in capitals, blanks or dashes alone",
        "give the class one name in all annotations",
    ),
    "unused-class": Kind(WARNING, "a class has no object", "annotate some, or leave the class out"),
    "few-examples": Kind(
        WARNING, "a class has no more than a handful of objects", "annotate more, or leave the class out"
    ),
    "mostly-empty": Kind(
        WARNING,
        "more than half of the images have no object",
        "look whether annotations are missing; if not, leave some of these images out",
    ),
    "listed-twice": Kind(WARNING, "an image's file is listed more than once", "put its boxes into one annotation"),
    "identical-images": Kind(WARNING, "an image is the same as another, pixel by pixel", "leave one of them out"),
    "shared-image": Kind(
        WARNING,
        "an image of val is in train, too",
        "leave it out of one of them: on such images a detector seems better than it is",
    ),
}


@dataclass(frozen=True)
class Example:
    """Where a problem was seen: words for the place, the image's index and the box's where there is one, details."""

    place: str
    image: int | None = None
    box: int | None = None
    detail: str = ""

    def __str__(self) -> str:
        place = self.place if self.box is None else f"{self.place}, box {self.box}"
        return f"{place}: {self.detail}" if self.detail else place


@dataclass(frozen=True)
class Problem:
    """A kind of problem, how often it was seen, and where first."""

    kind: str
    count: int
    examples: tuple[Example, ...]

    @property
    def severity(self) -> str:
        """ "error" where training must not start, else "warning"."""
        return KINDS[self.kind].severity

    @property
    def sentence(self) -> str:
        """What the problem is."""
        return KINDS[self.kind].sentence

    @property
    def remedy(self) -> str:
        """What to do about it."""
        return KINDS[self.kind].remedy

    def as_dict(self) -> dict[str, Any]:
        """The problem as JSON can hold it."""
        return {
            "kind": self.kind,
            "severity": self.severity,
            "problem": self.sentence,
            "count": self.count,
            "remedy": self.remedy,
            "examples": [vars(example) for example in self.examples],
        }

    def __str__(self) -> str:
        lines = [f"{self.count:>7}  {self.severity}: {self.sentence} ({self.kind})"]
        lines += [f"{'':>12} {example}" for example in self.examples]
        if self.count > len(self.examples) and self.examples[0].place != WHOLE:
            lines.append(f"{'':>12} and {self.count - len(self.examples):,} more")
        return "\n".join([*lines, f"{'':>9}to do: {self.remedy}"])


@dataclass(frozen=True)
class Counts:
    """How much there is. Objects that are difficult or crowds are `ignored`: training does not learn from them."""

    images: int
    empty: int  # images without any object
    objects: int
    ignored: int
    per_class: Mapping[str, int]  # objects by the name of their class, in the order of the labels


@dataclass(frozen=True)
class Report:
    """What was found: `counts`, and `problems`, errors first."""

    counts: Counts
    problems: tuple[Problem, ...]
    digests: Mapping[bytes, Example] = field(repr=False, compare=False)
    """The images by a digest of their pixels: what tells whether another set has the same."""

    @property
    def ok(self) -> bool:
        """Whether training may start: there is no error; there may be warnings."""
        return not any(problem.severity == ERROR for problem in self.problems)

    def __str__(self) -> str:
        return "\n".join([counts_table({"objects": self.counts}), "", problems_text(self.problems)])

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON can hold it."""
        counts = {
            "images": self.counts.images,
            "empty": self.counts.empty,
            "objects": self.counts.objects,
            "ignored": self.counts.ignored,
            "per_class": dict(self.counts.per_class),
        }
        return {"ok": self.ok, "counts": counts, "problems": [problem.as_dict() for problem in self.problems]}


class Notes:
    """Problems as they are seen, one by one; the first `examples` of each kind are kept."""

    def __init__(self, examples: int) -> None:
        self._limit = examples
        self._counts: dict[str, int] = {}
        self._examples: dict[str, list[Example]] = {}

    def add(self, kind: str, example: Example, count: int = 1) -> None:
        """Notes that a problem of this kind was seen once more, or `count` times of which one is an example."""
        self._counts[kind] = self._counts.get(kind, 0) + count
        kept = self._examples.setdefault(kind, [])
        if len(kept) < self._limit:
            kept.append(example)

    def problems(self) -> tuple[Problem, ...]:
        """All kinds that were seen, errors before warnings."""
        kinds = [kind for kind in KINDS if kind in self._counts]
        seen = [Problem(kind, self._counts[kind], tuple(self._examples[kind])) for kind in kinds]
        return tuple(sorted(seen, key=lambda problem: problem.severity))  # stable; "error" < "warning"


def problems_text(problems: Sequence[Problem]) -> str:
    """The problems with their examples and remedies, or that there is none."""
    if not problems:
        return "no problems found"
    errors = sum(problem.severity == ERROR for problem in problems)
    heading = f"{_number(errors, 'error')}, {_number(len(problems) - errors, 'warning')}"
    return "\n".join([heading, *(str(problem) for problem in problems)])


def counts_table(counts: Mapping[str, Counts]) -> str:
    """A table of the objects of each class, with a column for each of the named counts."""
    names = list(dict.fromkeys(name for each in counts.values() for name in each.per_class))
    width = max(map(len, ["images without objects", *names]))
    rows = [(name, [each.per_class.get(name, 0) for each in counts.values()]) for name in names]
    rows += [("all objects", [each.objects for each in counts.values()])]
    if any(each.ignored for each in counts.values()):
        rows += [("difficult or crowds", [each.ignored for each in counts.values()])]
    rows += [
        ("images", [each.images for each in counts.values()]),
        ("images without objects", [each.empty for each in counts.values()]),
    ]
    lines = [f"{'class':<{width}} " + " ".join(f"{column:>9}" for column in counts)]
    return "\n".join(lines + [f"{name:<{width}} " + " ".join(f"{value:>9,}" for value in row) for name, row in rows])


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"

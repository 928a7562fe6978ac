"""Report of `rcnn.data.validate` on a data set: counts of images and objects, and a list of problems."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

ERROR, WARNING = "error", "warning"
WHOLE = "the whole data set"  # place of a problem that concerns the data set as a whole


@dataclass(frozen=True)
class Kind:
    """A kind of problem.

    Attributes
    ----------
    severity : str
        "error" if training must not start, else "warning".
    sentence : str
        The problem, in one line.
    remedy : str
        How to fix the problem, in one line.
    """

    severity: str
    sentence: str
    remedy: str


# A report lists the kinds in this order. Faults of the whole data set come first, because they may cause other
# problems. Faults of images come next, then those of boxes and labels, and finally those of classes and copies.
KINDS: Mapping[str, Kind] = {
    "no-images": Kind(ERROR, "the data set has no images", "check the path of the folder and the name of the split"),
    "no-objects": Kind(
        ERROR, "no image has an object to learn from", "annotate objects, or fix the other errors first"
    ),
    "swapped-axes": Kind(ERROR, "x and y of the boxes are swapped", "swap x1 with y1 and x2 with y2"),
    "upside-down": Kind(
        ERROR,
        "y of the boxes is counted from the bottom of the image",
        "replace y1 by height - y2, and y2 by height - y1",
    ),
    "relative-boxes": Kind(
        ERROR,
        "boxes are fractions of the image size, not pixels",
        "multiply x by the image's width and y by its height",
    ),
    "width-height": Kind(
        ERROR, "boxes seem to be written as x, y, width, height", "replace x2 by x + width, and y2 by y + height"
    ),
    "wrong-scale": Kind(
        ERROR,
        "boxes seem to refer to resized copies of the images",
        "divide the boxes by the size of the copies, and multiply them by the size of the images",
    ),
    "shuffled": Kind(
        ERROR,
        "the boxes of an image belong to another image",
        "check the code that pairs images and annotations: names or rows may be shifted",
    ),
    "unreadable-annotation": Kind(ERROR, "an annotation cannot be read", 'fix it, or skip it with on_error="skip"'),
    "unannotated-image": Kind(
        WARNING,
        "an image has no annotation",
        'annotate the image, or choose its treatment with the option unannotated="empty" or unannotated="skip"',
    ),
    "missing-image": Kind(
        ERROR, "the file of an annotated image is missing", 'add the file, or skip the image with on_error="skip"'
    ),
    "unreadable-image": Kind(
        ERROR, "an image cannot be read", 'replace the file, or skip the image with on_error="skip"'
    ),
    "dark-image": Kind(
        WARNING,
        "a 16-bit image is almost black, because its values do not use all bits",
        "multiply its values, for example by 16 if they have 12 bits",
    ),
    "failing-item": Kind(
        ERROR,
        "the data set raises an error for an index",
        "evaluate dataset[index] for this index to see the traceback",
    ),
    "malformed-item": Kind(
        ERROR,
        "an image or its target has the wrong type or shape",
        'return an (H, W, 3) uint8 array and {"boxes": (G, 4) numbers, "labels": (G,) integers}',
    ),
    "linked-folder": Kind(
        WARNING,
        "a folder of images is a link; the images behind the link are read",
        "check that the images are yours, or copy them into the folder of the data set",
    ),
    "size-mismatch": Kind(
        ERROR,
        "the image size in the annotation differs from the size of the image file",
        "use the image file that was annotated, or multiply the boxes by the ratio of the sizes",
    ),
    "left-out": Kind(WARNING, "an invalid image or object was skipped", "fix the entry if you want to use it"),
    "cut-box": Kind(
        WARNING, 'a box was cut at the border of its image (on_error="fix")', "check that the box still fits its object"
    ),
    "not-finite": Kind(ERROR, "a box has a coordinate that is not finite", "correct or remove the box"),
    "empty-box": Kind(
        ERROR, "a box has x2 <= x1 or y2 <= y1", 'swap its corners, or remove the box with on_error="skip"'
    ),
    "box-outside": Kind(
        ERROR,
        "a box extends more than one pixel beyond its image",
        'cut the box at the border with on_error="fix", or correct it',
    ),
    "counts-from-0": Kind(
        WARNING,
        "a box begins at -1, which is one pixel outside the image",
        "if annotations in VOC format count pixels from 0, read them with first_pixel=0",
    ),
    "background-label": Kind(
        ERROR, "an object has the label 0, which is the background", "add 1 to all labels if they count from 0"
    ),
    "label-range": Kind(ERROR, "an object has a label without a class", "list all classes, or correct the label"),
    "unknown-class": Kind(
        ERROR, "an object's class is not among the classes", "correct the name, or add it to the classes"
    ),
    "duplicate-box": Kind(WARNING, "an image has the same box of the same class twice", "remove one of them"),
    "no-background": Kind(
        WARNING,
        "the first class is not the background",
        'put "background" first; the labels of objects begin with 1',
    ),
    "similar-names": Kind(
        WARNING,
        "names of classes differ only in capitals, blanks or dashes",
        "use one name for the class in all annotations",
    ),
    "unused-class": Kind(WARNING, "a class has no object", "annotate some objects, or remove the class"),
    "few-examples": Kind(WARNING, "a class has few objects", "annotate more objects, or remove the class"),
    "mostly-empty": Kind(
        WARNING,
        "more than half of the images have no object",
        "check whether annotations are missing; if not, remove some of these images",
    ),
    "listed-twice": Kind(WARNING, "an image file is listed more than once", "put all of its boxes into one annotation"),
    "identical-images": Kind(WARNING, "an image has the same pixels as another image", "remove one of them"),
    "shared-image": Kind(
        WARNING,
        "an image is in two splits",
        "remove it from one split; on its training images, a detector seems better than it is",
    ),
}


@dataclass(frozen=True)
class Example:
    """An example of a problem.

    Attributes
    ----------
    place : str
        Name of the image, or of the part of the data set, such as "the whole data set".
    image : int or None
        Index of the image, if the problem belongs to one image.
    box : int or None
        Index of the box in the image, if the problem belongs to one box.
    detail : str
        Description of the problem.
    """

    place: str
    image: int | None = None
    box: int | None = None
    detail: str = ""

    def __str__(self) -> str:
        place = self.place if self.box is None else f"{self.place}, box {self.box}"
        text = f"{place}: {self.detail}" if self.detail else place
        return text.replace("\r", "\\r").replace("\n", "\\n")  # a name with a line break must not look like a line


@dataclass(frozen=True)
class Problem:
    """A kind of problem that a data set has.

    Attributes
    ----------
    kind : str
        A key of `KINDS`.
    count : int
        Number of occurrences.
    examples : tuple of Example
        The first occurrences.
    """

    kind: str
    count: int
    examples: tuple[Example, ...]

    @property
    def severity(self) -> str:
        """Severity of the kind: "error" if training must not start, else "warning".

        Returns
        -------
        str
            The severity.
        """
        return KINDS[self.kind].severity

    @property
    def sentence(self) -> str:
        """The problem in one line.

        Returns
        -------
        str
            The sentence of the kind.
        """
        return KINDS[self.kind].sentence

    @property
    def remedy(self) -> str:
        """The remedy in one line.

        Returns
        -------
        str
            The remedy of the kind.
        """
        return KINDS[self.kind].remedy

    def as_dict(self) -> dict[str, Any]:
        """Return the problem as values that JSON can represent.

        Returns
        -------
        dict
            Keys "kind", "severity", "problem", "count", "remedy" and "examples".
        """
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
    """Numbers of images and objects.

    Attributes
    ----------
    images : int
        Number of images.
    empty : int
        Number of images without objects.
    objects : int
        Number of objects, without the ignored objects.
    ignored : int
        Number of difficult objects and crowds, which are not used in training.
    per_class : mapping from str to int
        Number of objects of each class, in the order of the labels.
    """

    images: int
    empty: int
    objects: int
    ignored: int
    per_class: Mapping[str, int]


@dataclass(frozen=True)
class Report:
    """Result of `rcnn.data.validate`.

    Attributes
    ----------
    counts : Counts
        Numbers of images and objects.
    problems : tuple of Problem
        All problems, errors first.
    digests : mapping from bytes to Example
        Maps the digest (a hash) of the pixels of each image to the image. `shared_images` uses the digests to find
        images that are in two data sets.
    """

    counts: Counts
    problems: tuple[Problem, ...]
    digests: Mapping[bytes, Example] = field(repr=False, compare=False)

    @property
    def ok(self) -> bool:
        """True if training may start.

        Returns
        -------
        bool
            False if there is an error. Warnings do not matter.
        """
        return not any(problem.severity == ERROR for problem in self.problems)

    def __str__(self) -> str:
        return "\n".join([counts_table({"objects": self.counts}), "", problems_text(self.problems)])

    def as_dict(self) -> dict[str, Any]:
        """Return the report as values that JSON can represent.

        Returns
        -------
        dict
            Keys "ok", "counts" and "problems"; the digests are left out.
        """
        counts = {
            "images": self.counts.images,
            "empty": self.counts.empty,
            "objects": self.counts.objects,
            "ignored": self.counts.ignored,
            "per_class": dict(self.counts.per_class),
        }
        return {"ok": self.ok, "counts": counts, "problems": [problem.as_dict() for problem in self.problems]}


class Notes:
    """Collector of problems.

    Parameters
    ----------
    examples : int
        Number of examples to keep for each kind of problem. The first examples are kept.
    """

    def __init__(self, examples: int) -> None:
        self._limit = examples
        self._counts: dict[str, int] = {}
        self._examples: dict[str, list[Example]] = {}

    def add(self, kind: str, example: Example, count: int = 1) -> None:
        """Add an occurrence of a problem.

        Parameters
        ----------
        kind : str
            A key of `KINDS`.
        example : Example
            The occurrence.
        count : int
            Number of occurrences that the example stands for.
        """
        self._counts[kind] = self._counts.get(kind, 0) + count
        kept = self._examples.setdefault(kind, [])
        if len(kept) < self._limit:
            kept.append(example)

    def problems(self) -> tuple[Problem, ...]:
        """Return all problems that were added so far.

        Returns
        -------
        tuple of Problem
            Errors come before warnings; both are in the order of `KINDS`.
        """
        kinds = [kind for kind in KINDS if kind in self._counts]
        seen = [Problem(kind, self._counts[kind], tuple(self._examples[kind])) for kind in kinds]
        return tuple(sorted(seen, key=lambda problem: problem.severity))  # stable; "error" < "warning"


def problems_text(problems: Sequence[Problem]) -> str:
    """Format problems with their examples and remedies.

    Parameters
    ----------
    problems : sequence of Problem
        Problems, in the order in which they appear in the text.

    Returns
    -------
    str
        Several lines, or "no problems found".
    """
    if not problems:
        return "no problems found"
    errors = sum(problem.severity == ERROR for problem in problems)
    heading = f"{_number(errors, 'error')}, {_number(len(problems) - errors, 'warning')}"
    return "\n".join([heading, *(str(problem) for problem in problems)])


def counts_table(counts: Mapping[str, Counts]) -> str:
    """Format a table of the number of objects of each class.

    Parameters
    ----------
    counts : mapping from str to Counts
        Maps the heading of each column to its counts.

    Returns
    -------
    str
        Several lines.
    """
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

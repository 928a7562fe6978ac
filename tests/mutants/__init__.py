"""Answers to the checks of `rcnn.checks`, right and wrong: one module per check, with `RIGHT` and `WRONG`.

RIGHT: at least three functions in different styles that pass the check. WRONG: pairs of a function with a plausible
mistake and a regular expression that its failure message must match.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple


def answer(description: str, function: Callable[..., Any], hint: str = "") -> tuple[Callable[..., Any], str]:
    """Return a short wrong answer, named after the misconception, and the hint that its message must match."""

    def wrong(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    wrong.__name__ = re.sub(r"\W+", "_", description).strip("_")[:70]
    wrong.__doc__ = description
    return wrong, hint


# ---------------------------------------------------------------------- answers as text

TEXTS = Path(__file__).parent / "texts"
CELLS = Path(__file__).parent / "cells"  # answers to exercises whose check is code in the notebook
HEAD = """
import dataclasses, math
import numpy as np
from PIL import Image
from rcnn import anchors, boxes, matching, nms, transform
from rcnn.nn import optim
"""


class Text(NamedTuple):
    """An answer to a check: right or wrong, what is special about it, the hint that it must get, and its code."""

    check: str
    right: bool
    description: str
    hint: str
    code: str

    def function(self) -> Callable[..., Any]:
        """Return the last function that the code defines."""
        names: dict[str, Any] = {}
        exec(HEAD, names)
        given = set(names)
        exec(self.code, names)
        return [value for name, value in names.items() if name not in given and callable(value)][-1]


def texts(folder: Path = TEXTS) -> Iterator[Text]:
    """Yield the answers in a folder, by default tests/mutants/texts. Each file belongs to one check.

    A line "== wrong: description | hint" or "== right: description" begins an answer. It consists of code, or of
    changes of the answer "== base": lines that begin with "-" are replaced by the next lines that begin with "+".
    """
    for path in sorted(folder.glob("*.txt")):
        _, *parts = re.split(r"^== ", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
        base = parts[0].split("\n", 1)[1]
        yield Text(path.stem, True, "base", "", base)
        for part in parts[1:]:
            title, body = part.split("\n", 1)
            kind, description = title.split(": ", 1)
            description, _, hint = description.partition(" | ")
            code = _changed(base, body) if body.startswith("-") else body
            yield Text(path.stem, kind == "right", description, hint, code)


def _changed(base: str, body: str) -> str:
    """Return the code with some lines replaced."""
    for old, new in re.findall(r"((?:^-.*\n)+)((?:^\+.*\n)+)", body, flags=re.MULTILINE):
        before, after = (re.sub("^.", "", lines[:-1], flags=re.MULTILINE) for lines in (old, new))
        if before not in base:
            raise ValueError(f"the code does not contain {before!r}")
        base = base.replace(before, after)
    return base

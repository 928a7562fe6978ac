"""Answers to the checks of `rcnn.checks`, right and wrong: one module per check, with `RIGHT` and `WRONG`.

RIGHT: at least three functions in different styles that pass the check. WRONG: pairs of a function with a plausible
mistake and a regular expression that its failure message must match.
"""

import re
from collections.abc import Callable
from typing import Any


def answer(description: str, function: Callable[..., Any], hint: str = "") -> tuple[Callable[..., Any], str]:
    """Return a short wrong answer, named after the misconception, and the hint that its message must match."""

    def wrong(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    wrong.__name__ = re.sub(r"\W+", "_", description).strip("_")[:70]
    wrong.__doc__ = description
    return wrong, hint

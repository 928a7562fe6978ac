"""Variants of exercises: a seed selects other numbers and rules, which need other answers.

The file variants.toml contains the variants as replaced texts, so a source of a notebook contains only the original.
"""

from __future__ import annotations

import functools
import hashlib
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILE = Path(__file__).parent / "variants.toml"
LONGEST_SEED = 100


@dataclass(frozen=True)
class Exercise:
    """An exercise that has variants.

    Attributes
    ----------
    notebook : str
        Name of the notebook, such as "01_boxes_and_iou".
    name : str
        Name of the function that the learner writes.
    cells : tuple of str
        Ids of the cells that change.
    original : tuple of str
        Texts in these cells.
    others : tuple of tuples of str
        For each variant, the texts that replace the original ones.
    """

    notebook: str
    name: str
    cells: tuple[str, ...]
    original: tuple[str, ...]
    others: tuple[tuple[str, ...], ...]


@functools.cache
def exercises() -> tuple[Exercise, ...]:
    """Return all exercises that have variants, in the order of the course.

    Returns
    -------
    tuple of Exercise
        The exercises.

    Raises
    ------
    ValueError
        If an exercise has no variants, or if a variant has not as many texts as the original.
    """
    found = []
    for notebook, tables in sorted(tomllib.loads(FILE.read_text(encoding="utf-8")).items()):
        for name, table in tables.items():
            others = tuple(map(tuple, table["others"]))
            if not others or any(len(texts) != len(table["original"]) for texts in others):
                raise ValueError(f"{FILE.name}, {notebook}.{name}: each variant must replace all of the original texts")
            found.append(Exercise(notebook, name, tuple(table["cells"]), tuple(table["original"]), others))
    return tuple(found)


def check_seed(seed: str) -> str:
    """Return a seed; raise an error if it cannot be one.

    Parameters
    ----------
    seed : str
        Text of one line, with at most 100 characters.

    Returns
    -------
    str
        The seed.

    Raises
    ------
    TypeError
        If the seed is not a string.
    ValueError
        If the seed is empty or too long, if it begins or ends with a space, or if it has more than one line.
    """
    if not isinstance(seed, str):
        raise TypeError(f"seed must be a string, got {seed!r}")
    if not seed.isprintable() or seed != seed.strip() or not 1 <= len(seed) <= LONGEST_SEED:
        raise ValueError(
            f"seed must be one line of 1 to {LONGEST_SEED} characters, such as a student's name, got {seed[:60]!r}"
        )
    return seed


def chosen(exercise: Exercise, seed: str) -> int:
    """Return which variant of an exercise a seed selects.

    Parameters
    ----------
    exercise : Exercise
        The exercise.
    seed : str
        The seed. The same seed always selects the same variants. The choices for several exercises are independent.

    Returns
    -------
    int
        Index of the variant in `exercise.others`.
    """
    digest = hashlib.sha256(f"{seed}\n{exercise.notebook}\n{exercise.name}".encode()).digest()
    return int.from_bytes(digest[:8]) % len(exercise.others)


def apply(cells: Sequence[Any], exercise: Exercise, index: int) -> None:
    """Change the cells of a notebook to a variant of an exercise.

    Parameters
    ----------
    cells : sequence of NotebookNode
        Cells with an `id` and a `source`; the sources change.
    exercise : Exercise
        The exercise.
    index : int
        Index of the variant in `exercise.others`.

    Raises
    ------
    ValueError
        If one of the original texts is in none of the cells of the exercise.
    """
    changed = [cell for cell in cells if cell.id in exercise.cells]
    for old, new in zip(exercise.original, exercise.others[index], strict=True):
        if not any(old in cell.source for cell in changed):
            raise ValueError(
                f"{FILE.name}, {exercise.notebook}.{exercise.name}: the text {old!r} is in none of the cells "
                f"{', '.join(exercise.cells)}"
            )
        for cell in changed:
            cell.source = cell.source.replace(old, new)

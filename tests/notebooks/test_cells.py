"""The checks that are code in the notebooks accept right answers, and reject wrong ones with a fitting message.

The answers are in tests/mutants/cells, one file for each exercise. The docstring of `mutants.texts` describes their
format.
"""

import ast

import mutants
import numpy as np
import pytest

from rcnn.checks import CheckFailed
from rcnn.course import sources

ANSWERS = list(mutants.texts(mutants.CELLS))
NOTEBOOKS = [[cell for cell in sources.read(path).cells if cell.cell_type == "code"] for path in sources.paths()]
SETUP = {  # values of earlier cells, which a check needs
    "slip": "rng = np.random.default_rng()",
    "anchor_labels": "all_anchors = anchors.AnchorGenerator((14, 24, 40), (1, 1.7))((128, 128), [(16, 16)])[0]",
}


def exercise_and_check(name):
    """Return all code cells of a notebook, the cell of an exercise, and the check that follows it."""
    for cells in NOTEBOOKS:
        for i, cell in enumerate(cells):
            if sources.is_exercise(cell) and f"def {name}(" in cell.source:
                return cells, cell, next(cell for cell in cells[i:] if sources.is_check(cell))
    raise AssertionError(f"tests/mutants/cells/{name}.txt: no notebook has an exercise of this name")


def definitions(cells, used):
    """Return the imports of cells, and the functions that the code `used` calls, as code."""
    nodes = [node for cell in cells for node in ast.parse(cell.source).body]
    imports = [node for node in nodes if isinstance(node, (ast.Import, ast.ImportFrom))]
    functions = [node for node in nodes if isinstance(node, ast.FunctionDef) and f"{node.name}(" in used]
    return "\n".join(map(ast.unparse, imports + functions))


def run(answer):
    """Run a check with an answer and always the same random numbers. Return the names of the notebook."""
    cells, exercise, check = exercise_and_check(answer.check)
    names = {}
    exec(definitions(cells, exercise.source + check.source), names)
    exec(SETUP.get(answer.check, ""), names)
    exec(answer.code, names)
    code = check.source.replace("default_rng()", "default_rng(0)")
    if answer.check == "find_leaks":  # the rest of the cell reads the photos of the learner
        code = code[: code.index("every = data.")]
    exec(code, names)
    return names


def named(right):
    return [
        pytest.param(answer, id=f"{answer.check}-{answer.description}") for answer in ANSWERS if answer.right == right
    ]


@pytest.mark.parametrize("answer", named(right=True))
def test_a_right_answer_passes_its_cell(answer):
    assert answer.check in run(answer)


@pytest.mark.parametrize("answer", named(right=False))
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_wrong_answer_fails_in_its_cell_with_a_hint(answer):
    with pytest.raises((CheckFailed, AssertionError)) as failed:
        run(answer)
    assert answer.hint in str(failed.value)


@pytest.mark.parametrize("name", sorted({answer.check for answer in ANSWERS}))
def test_the_published_solution_passes_its_cell(name):
    solution = exercise_and_check(name)[1].source
    assert name in run(mutants.Text(name, True, "solution", "", solution))


def test_patterns_have_the_correlations_of_the_hint():
    base = next(answer for answer in ANSWERS if answer.check == "find_leaks" and answer.right)
    names = run(base)
    first, *others = map(names["thumbnail"], names["patterns"])
    assert [f"{np.corrcoef(first, other)[0, 1]:.3f}" for other in others] == ["0.981", "0.976"]

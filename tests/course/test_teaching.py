"""Statements of docs/teaching.md about the notebooks, the variants and the rubric, compared with the sources."""

import ast
import math
import re
from pathlib import Path

import pytest

from rcnn import checks
from rcnn.course import contents, sources, variants

PAGE = (Path(__file__).parents[2] / "docs" / "teaching.md").read_text(encoding="utf-8")
NOTEBOOKS = {path.name[:2]: sources.read(path) for path in sources.paths()}
WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


def between(start, end):
    """Return the part of the page from one text to another, in one line."""
    (part,) = re.findall(f"{re.escape(start)}(.*?){re.escape(end)}", PAGE, re.DOTALL)
    return " ".join(part.split())


def by_notebook(text):
    """Return {"02": {"resize_boxes"}, ...} for "`resize_boxes` in 02, `match` and `sample` in 05"."""
    return {part[-2:]: set(re.findall(r"`(\w+)`", part)) for part in re.findall(r".*?`[^`]* in \d\d", text)}


def names_in(code):
    return {node.id for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Name)}


def written_in(cell):
    """Return the names of the functions that an exercise asks for."""
    return {node.name for node in ast.parse(cell.source).body if isinstance(node, ast.FunctionDef)}


def exercises_of(notebook):
    return [cell for cell in notebook.cells if sources.is_exercise(cell)]


def check_names(notebook):
    """Return {id of a check: its name in the table of progress}."""
    return {check.id: check.name for check in contents._checks(notebook.cells)}


def test_checks_that_draw_a_figure():
    drawing = {
        number: {
            check_names(notebook)[cell.id]
            for cell in notebook.cells
            if sources.is_check(cell) and "plot.figure(" in cell.source
        }
        for number, notebook in NOTEBOOKS.items()
    }
    drawing = {number: names for number, names in drawing.items() if names}
    number, listed = between("Only the figures in ", ".\n\nA notebook never").split(" checks ", 1)
    assert by_notebook(listed) == drawing
    assert number == WORDS[sum(map(len, drawing.values()))]


def test_notebooks_whose_exercises_use_earlier_exercises():
    building = []
    for number, notebook in NOTEBOOKS.items():
        cells, earlier = exercises_of(notebook), set()
        for cell in cells:
            if number not in building and names_in(cell.source) & (earlier - written_in(cell)):
                building.append(number)
            earlier |= written_in(cell)
    assert re.findall(r"\d\d", between("a wrong answer affects both. This is so in ", ". Three checks")) == building


def test_checks_of_earlier_exercises_only():
    found = {
        number: names
        for number, notebook in NOTEBOOKS.items()
        if (names := {check.name for check in contents._checks(notebook.cells) if not check.functions})
    }
    number, listed = re.findall(
        r"(\w+) checks test only functions from earlier exercises: (.*?)\.", " ".join(PAGE.split())
    )[0]
    assert by_notebook(listed) == found and number.lower() == WORDS[sum(map(len, found.values()))]


def test_check_is_below_its_exercise_except_in_notebook_00():
    for number, notebook in NOTEBOOKS.items():
        apart = [
            cell.id
            for cell, following in zip(notebook.cells, notebook.cells[1:], strict=False)
            if sources.is_exercise(cell) and not (sources.is_check(following) or sources.is_exercise(following))
        ]
        assert apart == (["predictions"] if number == "00" else [])


def test_other_cells_use_learners_functions_only_in_comparisons():
    for number, notebook in NOTEBOOKS.items():
        functions = set().union(*map(written_in, exercises_of(notebook)))
        for cell in notebook.cells:
            other = cell.cell_type == "code" and not sources.is_exercise(cell) and not sources.is_check(cell)
            if other and names_in(cell.source) & functions:
                assert "with_and_without(" in cell.source, (number, cell.id)


def test_most_notebooks_show_code_of_the_library():
    shown = [any("course.source(" in cell.source for cell in notebook.cells) for notebook in NOTEBOOKS.values()]
    assert sum(shown) > 0.75 * len(shown)


def test_stated_times_of_learners():
    assert "from one and a half to three hours" in " ".join(PAGE.split())
    hours = {"90 minutes": 1.5, "two hours": 2, "2 hours": 2, "two to three hours": 2.5, "three hours": 3, "3 hours": 3}
    times = [
        re.match(r"(?:about )?([\w ]*?(?:hours|minutes))", each.time.lower()) for each in contents.course_contents()
    ]
    stated = [hours[time[1]] for time in times]
    assert min(stated) == 1.5 and max(stated) == 3


def test_every_notebook_asks_for_predictions():
    assert all(any("predict" in cell.source.lower() for cell in notebook.cells) for notebook in NOTEBOOKS.values())


def test_table_of_variants():
    rows = re.findall(r"^\| (\d\d) \| `(\w+)` \| [^|]+ \|$", PAGE, re.MULTILINE)
    assert rows == [(each.notebook[:2], each.name) for each in variants.exercises()]
    counts = [len(each.others) for each in variants.exercises()]
    assert set(counts) == {3, 4} and f"there are {math.prod(counts):,} combinations" in PAGE


def test_table_of_checks_is_complete():
    table = between("| topic | checks |", "- The two checks of notebook 13")
    listed = re.findall(r"`(\w+)`", table)
    assert sorted(listed) == sorted(set(checks.__all__) - {"CheckFailed", "hint"})


def test_rubric_has_five_criteria_with_four_levels():
    rows = re.findall(r"^\| \*\*([\w ]+)\*\* \|(.*)\|$", PAGE, re.MULTILINE)
    assert [name for name, _ in rows] == ["Data", "Training", "Evaluation", "Error analysis", "Report"]
    assert all(len(levels.split(" | ")) == 4 and all(map(str.strip, levels.split("|"))) for _, levels in rows)


@pytest.mark.parametrize("number", NOTEBOOKS)
def test_a_notebook_needs_no_function_of_another_notebook(number):
    """Each name that an exercise or a check uses is defined in the same notebook, imported or built in."""
    everywhere = {
        name: n for n, notebook in NOTEBOOKS.items() for cell in exercises_of(notebook) for name in written_in(cell)
    }
    notebook = NOTEBOOKS[number]
    code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    tree = ast.parse(code)
    stored = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    stored |= {node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    stored |= {argument.arg for node in ast.walk(tree) if isinstance(node, ast.arguments) for argument in node.args}
    stored |= {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for alias in node.names
    }
    assert not {name for name in names_in(code) - stored if name in everywhere}

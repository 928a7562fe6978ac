"""Sources of the course, the notebooks made from them, and the functions that the notebooks use."""

import ast
import inspect
import re
import time
from html import unescape

import nbformat
import numpy as np
import pytest

from rcnn import boxes, cli, course
from rcnn._ext import backend
from rcnn.course import contents, sources, variants

HEADER = (
    "# ---\n# jupyter:\n#   jupytext:\n#     notebook_metadata_filter: rcnn\n#   rcnn:\n#     seconds: 7\n# ---\n\n"
)
CELLS = '''# %% question [markdown]
# # A heading

# %% twice-yours
def twice(x):
    """Two times x."""
    ### BEGIN SOLUTION
    return 2 * x
    ### END SOLUTION

# %% twice-check points=3
assert twice(2) == 4
'''


@pytest.fixture
def source(tmp_path):
    def write(cells=CELLS, header=HEADER):
        path = tmp_path / "07_twice.py"
        path.write_text(header + cells)
        return path

    return write


# ---------------------------------------------------------------------- notebooks made from a source


def test_source_becomes_an_nbgrader_notebook(source):
    notebook = sources.read(source())
    nbformat.validate(notebook)
    assert [(cell.id, cell.cell_type) for cell in notebook.cells] == [
        ("question", "markdown"),
        ("twice-yours", "code"),
        ("twice-check", "code"),
    ]
    text, exercise, check = notebook.cells
    same = {"schema_version": 3, "task": False}
    assert text.metadata == {}
    assert exercise.metadata == {
        "nbgrader": {"grade": False, "grade_id": "twice-yours", "locked": False, "solution": True, **same}
    }
    assert check.metadata == {
        "nbgrader": {"grade": True, "grade_id": "twice-check", "locked": True, "points": 3, "solution": False, **same}
    }
    assert [sources.is_exercise(cell) for cell in notebook.cells] == [False, True, False]
    assert [sources.is_check(cell) for cell in notebook.cells] == [False, False, True]
    assert notebook.metadata.rcnn.seconds == 7 and notebook.metadata.kernelspec.name == "python3"


def test_student_copy_has_no_solutions_or_outputs(source):
    notebook = sources.read(source())
    notebook.cells[2].outputs = [nbformat.v4.new_output("stream", text="4")]
    notebook.cells[2].execution_count = 5
    copy = sources.student(notebook)
    assert copy.cells[1].source == (
        'def twice(x):\n    """Two times x."""\n    # YOUR CODE HERE\n    raise '
        'NotImplementedError("Replace this line with your code.")'
    )
    assert copy.cells[2].outputs == [] and copy.cells[2].execution_count is None
    assert copy.cells[1].metadata == {**notebook.cells[1].metadata, "deletable": False}
    assert copy.cells[2].metadata.tags == ["raises-exception"] and "tags" not in notebook.cells[2].metadata
    assert copy.cells[2].metadata.editable is False and copy.cells[2].metadata.deletable is False
    assert "return 2 * x" in notebook.cells[1].source and notebook.cells[2].outputs


def test_two_solutions_in_a_cell_become_two_stubs():
    code = "a\n### BEGIN SOLUTION\nb\n### END SOLUTION\nc\n  ### BEGIN SOLUTION\n  d\n  ### END SOLUTION"
    stub, error = sources.STUB
    assert sources.without_solutions(code) == f"a\n{stub}\n{error}\nc\n  {stub}\n  {error}"
    assert sources.without_solutions("a\nb") == "a\nb"


@pytest.mark.parametrize(
    "change, message",
    [
        (("    ### END SOLUTION\n", ""), "cell twice-yours: '### BEGIN SOLUTION' has no matching marker"),
        (
            ("    ### BEGIN SOLUTION\n    return 2 * x\n    ### END", "    ### END SOLUTION\n    ### BEGIN"),
            "cell twice-yours: '### END SOLUTION' has no matching marker",
        ),
        (("twice-check", "twice-yours"), "must be unique .*, got 'twice-yours'"),
        (("twice-check", "Twice"), "got 'Twice' for the cell that starts with 'assert twice"),
        (("question [markdown]", "[markdown]"), "got '' for the cell that starts with '# A heading'"),
        (("twice-yours", "twice-yours points=1"), "a cell must not be both an exercise and a check"),
    ],
)
def test_malformed_source_is_reported(source, change, message):
    with pytest.raises(ValueError, match=message) as failed:
        sources.read(source(CELLS.replace(*change)))
    assert str(failed.value).startswith("07_twice.py")


def test_source_must_state_its_time_limit(source):
    with pytest.raises(ValueError, match="07_twice.py: the header must set rcnn.seconds"):
        sources.read(source(header=""))


# ---------------------------------------------------------------------- the course in a folder


def test_export_for_students_has_only_notebooks_and_the_index(tmp_path, capsys):
    folder = tmp_path / "my course"
    assert cli.main(["course", "export", str(folder)]) == 0
    count = len(sources.paths())
    assert capsys.readouterr().out == f"{count} notebooks in {folder}\njupyter lab '{folder / 'index.ipynb'}'\n"
    written = sorted(folder.iterdir())
    assert [path.name for path in written] == [*(f"{path.stem}.ipynb" for path in sources.paths()), "index.ipynb"]
    for path in written:
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
        assert sources.BEGIN not in path.read_text()
        assert not any(cell.get("outputs") for cell in notebook.cells)


def test_export_with_solutions_is_an_nbgrader_course(tmp_path, capsys):
    assert cli.main(["course", "export", str(tmp_path), "--solution"]) == 0
    assert "nbgrader generate_assignment 00_" in capsys.readouterr().out
    names = [path.stem for path in sources.paths()]
    assert sorted(path.name for path in (tmp_path / "source").iterdir()) == names
    for name in names:
        assert sources.BEGIN in (tmp_path / "source" / name / f"{name}.ipynb").read_text()
    settings = _NbgraderSettings()
    exec((tmp_path / "nbgrader_config.py").read_text(), {"get_config": lambda: settings})
    assert settings.ClearSolutions.code_stub == {"python": "\n".join(sources.STUB)}


class _NbgraderSettings:
    """Stand-in for `c` in a settings file: c.Anything.name = value."""

    def __getattr__(self, name):
        self.__dict__[name] = _NbgraderSettings()
        return self.__dict__[name]


def solution_lines(notebook):
    """Return the lines of all solutions of a notebook, stripped, and all other lines."""
    inside, solution, other = False, set(), set()
    for line in "\n".join(cell.source for cell in notebook.cells).split("\n"):
        if line.strip() in (sources.BEGIN, sources.END):
            inside = line.strip() == sources.BEGIN
        elif line.strip():
            (solution if inside else other).add(line.strip())
    return solution, other


@pytest.mark.parametrize("seed", [None, "ada", "blaise"])
def test_students_folder_has_no_line_of_a_solution(tmp_path, seed):
    """A few short lines, such as `return out`, are also in cells that are not exercises. All others are absent."""
    students, apart = tmp_path / "students", tmp_path / "solutions"
    written = course.export(students, solutions_to=apart, seed=seed)
    handed_out = {line.strip() for path in students.iterdir() for line in _texts(path)}
    pairs = [solution_lines(sources.read(path, seed)) for path in sources.paths()]
    solutions, others = (set().union(*lines) for lines in zip(*pairs, strict=True))
    assert len(solutions - others) > 250 and len(solutions & others) < 20
    assert not handed_out & (solutions - others)
    graded = {line.strip() for path in apart.rglob("*.ipynb") for line in _texts(path)}
    assert solutions <= graded
    assert [path.name for path in written] == [f"{path.stem}.ipynb" for path in sources.paths()]
    assert {path.name for path in apart.iterdir()} == {"source", "nbgrader_config.py"}


def _texts(path):
    return [line for cell in nbformat.read(path, as_version=4).cells for line in cell.source.split("\n")]


def test_students_folder_does_not_depend_on_the_solutions(tmp_path, monkeypatch):
    """With another text in place of every line of every solution, the students' folder has the same bytes."""
    course.export(tmp_path / "before", solutions_to=tmp_path / "solutions")
    read = sources.read

    def with_other_solutions(path, seed=None):
        notebook, inside = read(path, seed), False
        for cell in notebook.cells:
            lines = cell.source.split("\n")
            for i, line in enumerate(lines):
                if line.strip() in (sources.BEGIN, sources.END):
                    inside = line.strip() == sources.BEGIN
                elif inside:
                    lines[i] = "    SECRET = 1"
            cell.source = "\n".join(lines)
        return notebook

    monkeypatch.setattr(sources, "read", with_other_solutions)
    contents._contents.cache_clear()
    course.export(tmp_path / "after", solutions_to=tmp_path / "other solutions")
    contents._contents.cache_clear()
    for path in (tmp_path / "before").iterdir():
        assert path.read_bytes() == (tmp_path / "after" / path.name).read_bytes(), path.name
    assert "SECRET" in (tmp_path / "other solutions/source/01_boxes_and_iou/01_boxes_and_iou.ipynb").read_text()


def test_students_folder_has_no_text_of_another_variant(tmp_path):
    course.export(tmp_path, seed="ada")
    handed_out = "\n".join(line for path in tmp_path.iterdir() for line in _texts(path))
    for exercise in variants.exercises():
        mine = variants.chosen(exercise, "ada")
        for texts in zip(*exercise.others, strict=True):
            for text in set(texts) - {texts[mine]}:
                assert len(text) < 40 or text in exercise.original or text not in handed_out, text
        assert '"seed": "ada"' in (tmp_path / f"{exercise.notebook}.ipynb").read_text()


def test_export_to_two_folders_prints_both(tmp_path, capsys):
    students, apart = tmp_path / "students", tmp_path / "solutions"
    assert cli.main(["course", "export", str(students), "--solutions-to", str(apart), "--seed", "ada"]) == 0
    count = len(sources.paths())
    assert capsys.readouterr().out.splitlines() == [
        f"{count} notebooks in {students}",
        f"{count} notebooks with solutions in {apart}",
        f"cd {apart} && nbgrader generate_assignment {sources.paths()[0].stem}",
    ]


@pytest.mark.parametrize("students, solutions", [("a", "a"), ("a", "a/b"), ("a/b", "a"), ("a", "c/../a/b")])
def test_solutions_inside_the_students_folder_are_refused(tmp_path, capsys, students, solutions):
    command = ["course", "export", str(tmp_path / students), "--solutions-to", str(tmp_path / solutions)]
    assert cli.main(command) == 2
    assert "the folder of the solutions must be apart from the students' folder, got" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_nothing_is_written_if_the_second_folder_is_not_empty(tmp_path, capsys):
    (tmp_path / "solutions").mkdir()
    (tmp_path / "solutions" / "notes.txt").write_text("notes")
    command = ["course", "export", str(tmp_path / "students"), "--solutions-to", str(tmp_path / "solutions")]
    assert cli.main(command) == 2
    assert "is not empty" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["solutions"]


def test_solutions_twice_are_refused(tmp_path):
    with pytest.raises(ValueError, match="solutions and solutions_to must not be given together"):
        course.export(tmp_path / "a", solutions=True, solutions_to=tmp_path / "b")


def test_invalid_seed_is_one_line(tmp_path, capsys):
    assert cli.main(["course", "export", str(tmp_path / "a"), "--seed", " "]) == 2
    assert capsys.readouterr().err.splitlines()[0].startswith("rcnn: seed must be one line of 1 to 100 characters")
    assert not list(tmp_path.iterdir())


def test_non_empty_folder_is_not_changed(tmp_path, capsys):
    (tmp_path / "course.txt").write_text("course")
    assert cli.main(["course", "export", str(tmp_path)]) == 2
    assert "is not empty; choose a new folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["course.txt"]
    assert cli.main(["course", "export", str(tmp_path / "course.txt")]) == 2
    assert "course.txt is a file" in capsys.readouterr().err


@pytest.mark.parametrize("versions", [["--student", "--solution"], ["--solution", "--solutions-to", "b"]])
def test_two_versions_for_one_folder_are_rejected(tmp_path, versions):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["course", "export", str(tmp_path), *versions])
    assert stopped.value.code == 2


# ---------------------------------------------------------------------- aids


def test_source_is_the_text_of_the_library():
    shown = course.source(boxes.area, boxes.clip)
    text = repr(shown)
    assert text.startswith("def area(") and "\n\n\ndef clip(" in text and not text.endswith("\n")
    page = shown._repr_html_()
    assert "<pre" in page and 'aria-label="Source code of area, clip"' in page
    assert unescape(re.sub("<style>.*?</style>|<[^>]+>", "", page, flags=re.DOTALL)).strip() == text


def test_source_has_the_first_line_of_each_docstring():
    assert repr(course.source(boxes.area)).split("\n")[1:3] == [
        f'    """{boxes.area.__doc__.partition(chr(10))[0]}"""',
        "    " + inspect.getsource(boxes.area).split('"""')[2].strip().partition("\n")[0],
    ]
    shown = repr(course.source(course.aids.Source))
    assert '"""Source code that a notebook shows with syntax highlighting."""\n\n    def __init__' in shown
    assert "Parameters" not in shown and "self.text, self.name = text, name" in shown
    ast.parse(shown)


def contrast(*colors):
    """Return the contrast ratio of two colours (WCAG 2.2)."""
    channels = np.array([[int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)] for color in colors])
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    low, high = sorted(linear @ (0.2126, 0.7152, 0.0722))
    return (high + 0.05) / (low + 0.05)


def test_source_is_legible_in_light_and_dark():
    style = course.aids.STYLE
    light, dark = (re.findall(r"--\w+: (#\w{6})", block) for block in style.split("}")[:2])
    assert len(light) == len(dark) == 5
    assert all(contrast(color, "#ffffff") >= 4.5 for color in light)
    assert all(contrast(color, "#222222") >= 4.5 for color in dark)
    assert not re.search(r'color: #|style="', course.source(boxes.area)._repr_html_().replace(style, ""))


def test_source_of_a_method_is_not_indented():
    assert repr(course.source(course.aids.Source.__repr__)).startswith("def __repr__(self)")


def test_compare_alternates_and_prints_medians_and_their_ratio(capsys, monkeypatch):
    clock = iter(np.cumsum([0, 9, 0, 9, *(0, 0.012, 0, 0.000_3) * 3]))
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    asked = []

    def function(x):
        asked.append(backend.get_backend())
        return x

    with backend.set_num_threads(2):
        course.compare(function, np.ones(3), repeat=3)
    assert asked == ["numpy", "cython"] * 4
    assert capsys.readouterr().out == (
        "NumPy reference      12 ms\nCython kernel       300 µs   at most 2 threads\nratio                 40.0\n"
    )


def test_compare_reports_different_results():
    def function(x):
        return x, x + (backend.get_backend() == "numpy")

    with pytest.raises(AssertionError, match="function: the two backends return different results"):
        course.compare(function, np.ones(3), repeat=1)


def test_compare_without_kernels_is_noted(capsys, monkeypatch):
    monkeypatch.setattr(backend, "info", lambda: {"kernels": False})
    course.compare(boxes.iou, np.ones((1, 4)), np.ones((1, 4)), repeat=1)
    assert "not compiled on this machine" in capsys.readouterr().out

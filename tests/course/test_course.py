"""Sources of the course, the notebooks made from them, and the functions that the notebooks use."""

import re
import time
from html import unescape

import nbformat
import numpy as np
import pytest

from rcnn import boxes, cli, course
from rcnn._ext import backend
from rcnn.course import sources

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
    assert copy.cells[1].metadata == notebook.cells[1].metadata
    assert copy.cells[2].metadata.tags == ["raises-exception"] and "tags" not in notebook.cells[2].metadata
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


def test_export_for_students_has_only_notebooks(tmp_path, capsys):
    assert cli.main(["course", "export", str(tmp_path / "course")]) == 0
    assert capsys.readouterr().out.startswith(f"{len(sources.paths())} notebooks in {tmp_path / 'course'}\n")
    written = sorted((tmp_path / "course").iterdir())
    assert [path.name for path in written] == [f"{path.stem}.ipynb" for path in sources.paths()]
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


def test_non_empty_folder_is_not_changed(tmp_path, capsys):
    (tmp_path / "course.txt").write_text("course")
    assert cli.main(["course", "export", str(tmp_path)]) == 2
    assert "is not empty; choose a new folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["course.txt"]
    assert cli.main(["course", "export", str(tmp_path / "course.txt")]) == 2
    assert "course.txt is a file" in capsys.readouterr().err


def test_both_versions_at_once_are_rejected(tmp_path):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["course", "export", str(tmp_path), "--student", "--solution"])
    assert stopped.value.code == 2


# ---------------------------------------------------------------------- aids


def test_source_is_the_text_of_the_library():
    shown = course.source(boxes.area, boxes.clip)
    text = repr(shown)
    assert text.startswith("def area(") and "\n\n\ndef clip(" in text and not text.endswith("\n")
    page = shown._repr_html_()
    assert "<pre" in page and "<code>" in page and "color: #" in page
    assert unescape(re.sub("<[^>]+>", "", page)).strip() == text


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

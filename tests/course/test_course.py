"""The course's sources, what is made of them, and the aids that the notebooks use."""

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


# ---------------------------------------------------------------------- what is made of a source


def test_a_source_becomes_a_notebook_that_nbgrader_knows(source):
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


def test_a_learners_copy_has_neither_solutions_nor_outputs_and_leaves_the_original(source):
    notebook = sources.read(source())
    notebook.cells[2].outputs = [nbformat.v4.new_output("stream", text="4")]
    notebook.cells[2].execution_count = 5
    copy = sources.student(notebook)
    assert copy.cells[1].source == (
        'def twice(x):\n    """Two times x."""\n    # YOUR CODE HERE\n    raise '
        'NotImplementedError("your own code goes in the place of this line")'
    )
    assert copy.cells[2].outputs == [] and copy.cells[2].execution_count is None
    assert copy.cells[1].metadata == notebook.cells[1].metadata
    assert "return 2 * x" in notebook.cells[1].source and notebook.cells[2].outputs


def test_two_solutions_in_a_cell_are_two_stubs():
    code = "a\n### BEGIN SOLUTION\nb\n### END SOLUTION\nc\n  ### BEGIN SOLUTION\n  d\n  ### END SOLUTION"
    stub, error = sources.STUB
    assert sources.without_solutions(code) == f"a\n{stub}\n{error}\nc\n  {stub}\n  {error}"
    assert sources.without_solutions("a\nb") == "a\nb"


@pytest.mark.parametrize(
    "change, message",
    [
        (("    ### END SOLUTION\n", ""), "cell twice-yours: '### BEGIN SOLUTION' without its partner"),
        (
            ("    ### BEGIN SOLUTION\n    return 2 * x\n    ### END", "    ### END SOLUTION\n    ### BEGIN"),
            "cell twice-yours: '### END SOLUTION' without its partner",
        ),
        (("twice-check", "twice-yours"), "its own; 'twice-yours' is not"),
        (("twice-check", "Twice"), "'Twice' is not, before 'assert twice"),
        (("question [markdown]", "[markdown]"), "'' is not, before '# A heading'"),
        (("twice-yours", "twice-yours points=1"), "an exercise and its check are two cells"),
    ],
)
def test_a_source_that_is_not_well_formed_is_named(source, change, message):
    with pytest.raises(ValueError, match=message) as failed:
        sources.read(source(CELLS.replace(*change)))
    assert str(failed.value).startswith("07_twice.py")


def test_a_source_says_how_long_it_may_take(source):
    with pytest.raises(ValueError, match="07_twice.py must say in its header how many seconds it may take"):
        sources.read(source(header=""))


# ---------------------------------------------------------------------- the course in a folder


def test_learners_get_the_notebooks_alone(tmp_path, capsys):
    assert cli.main(["course", "export", str(tmp_path / "mine")]) == 0
    assert capsys.readouterr().out.startswith(f"{len(sources.paths())} notebooks in {tmp_path / 'mine'}\n")
    written = sorted((tmp_path / "mine").iterdir())
    assert [path.name for path in written] == [f"{path.stem}.ipynb" for path in sources.paths()]
    for path in written:
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
        assert sources.BEGIN not in path.read_text()
        assert not any(cell.get("outputs") for cell in notebook.cells)


def test_lecturers_get_a_course_of_nbgrader(tmp_path, capsys):
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
    """What `c` is in a file of settings: c.Anything.name = value."""

    def __getattr__(self, name):
        self.__dict__[name] = _NbgraderSettings()
        return self.__dict__[name]


def test_a_folder_that_holds_something_is_left_alone(tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("mine")
    assert cli.main(["course", "export", str(tmp_path)]) == 2
    assert "is not empty; name a new folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    assert cli.main(["course", "export", str(tmp_path / "mine.txt")]) == 2
    assert "mine.txt is a file" in capsys.readouterr().err


def test_both_versions_at_once_are_an_error(tmp_path):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["course", "export", str(tmp_path), "--student", "--solution"])
    assert stopped.value.code == 2


# ---------------------------------------------------------------------- aids


def test_source_is_the_librarys_own_text():
    shown = course.source(boxes.area, boxes.clip)
    text = repr(shown)
    assert text.startswith("def area(") and "\n\n\ndef clip(" in text and not text.endswith("\n")
    page = shown._repr_html_()
    assert "<pre" in page and "<code>" in page and "color: #" in page
    assert unescape(re.sub("<[^>]+>", "", page)).strip() == text


def test_source_of_a_method_is_not_indented():
    assert repr(course.source(course.aids.Source.__repr__)).startswith("def __repr__(self)")


def test_compare_takes_turns_and_prints_medians_and_their_ratio(capsys, monkeypatch):
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


def test_compare_tells_answers_that_differ():
    def function(x):
        return x, x + (backend.get_backend() == "numpy")

    with pytest.raises(AssertionError, match="the two backends give different answers for function"):
        course.compare(function, np.ones(3), repeat=1)


def test_compare_without_kernels_says_so(capsys, monkeypatch):
    monkeypatch.setattr(backend, "info", lambda: {"kernels": False})
    course.compare(boxes.iou, np.ones((1, 4)), np.ones((1, 4)), repeat=1)
    assert "none was compiled on this machine" in capsys.readouterr().out

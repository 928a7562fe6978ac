"""Progress: which checks have passed in saved notebooks, the index of the exported folder, and the command."""

import json

import nbclient
import nbformat
import pytest

from rcnn import cli, course
from rcnn.course import contents, sources

FIRST, SECOND = "00_one_image_end_to_end", "01_boxes_and_iou"
OUTPUT = nbformat.v4.new_output("stream", text="right\n")
ERROR = nbformat.v4.new_output("error", ename="CheckFailed", evalue="iou: your function returns None", traceback=[])
MOST = sum(each.points for each in contents.course_contents())


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("course") / "ada"
    course.export(folder)
    return folder


@pytest.fixture
def folder(tmp_path, exported):
    """Return a folder with notebooks 00 and 01 and the index, as exported."""
    target = tmp_path / "ada"
    target.mkdir()
    for name in (f"{FIRST}.ipynb", f"{SECOND}.ipynb", "index.ipynb"):
        (target / name).write_bytes((exported / name).read_bytes())
    return target


def change(folder, stem, cell_id, **values):
    """Set attributes of a cell of a saved notebook, such as `outputs`."""
    path = folder / f"{stem}.ipynb"
    notebook = nbformat.read(path, as_version=4)
    cell = next(cell for cell in notebook.cells if cell.get("id") == cell_id)
    cell.update(values)
    nbformat.write(notebook, path)


def run_cell(folder, cell_id, *outputs):
    change(folder, SECOND, cell_id, outputs=list(outputs), execution_count=4)


def row(table, start):
    """Return the line of a table that begins with a text, with single spaces."""
    return " ".join(next(line for line in str(table).splitlines() if line.startswith(start)).split())


# ---------------------------------------------------------------------- one learner


def test_nothing_has_passed_after_the_export(folder):
    table = course.progress(folder)
    assert row(table, "01") == "01 Boxes and IoU 0 of 4 ○ convert ○ iou ○ slip"
    assert row(table, "02") == "02 Data and its lies 0 of 9 file not found"
    assert row(table, "total") == f"total 0 of {MOST} ✓ passed, ✗ failed, ○ not run"
    assert len(str(table).splitlines()) == 2 + len(sources.paths())


def test_checks_that_passed_and_failed(folder):
    run_cell(folder, "convert-check", OUTPUT)
    run_cell(folder, "iou-check", OUTPUT, ERROR)
    run_cell(folder, "slip-check")  # without output
    table = course.progress(folder)
    assert row(table, "01") == "01 Boxes and IoU 2 of 4 ✓ convert ✗ iou ✓ slip"
    assert row(table, "total").startswith(f"total 2 of {MOST} ")
    run_cell(folder, "iou-check", OUTPUT)
    assert row(course.progress(folder), "01") == "01 Boxes and IoU 4 of 4 ✓ convert ✓ iou ✓ slip"


def test_changed_and_deleted_checks_give_no_points(folder):
    run_cell(folder, "convert-check", OUTPUT)
    change(folder, SECOND, "convert-check", source="print('convert: right')")
    run_cell(folder, "iou-check", OUTPUT)
    path = folder / f"{SECOND}.ipynb"
    notebook = nbformat.read(path, as_version=4)
    notebook.cells = [cell for cell in notebook.cells if cell.id != "slip-check"]
    nbformat.write(notebook, path)
    table = course.progress(folder)
    assert row(table, "01") == "01 Boxes and IoU 2 of 4 ! convert ✓ iou ! slip"
    assert str(table).splitlines()[-1].startswith("! changed: the code of this check is not the code of the course")


def test_spaces_at_the_end_and_a_list_of_lines_do_not_change_a_check(folder):
    path = folder / f"{SECOND}.ipynb"
    saved = json.loads(path.read_text())
    cell = next(cell for cell in saved["cells"] if cell["id"] == "iou-check")
    cell.update(execution_count=4, source=[*"".join(cell["source"]).splitlines(keepends=True), "\n"])
    path.write_text(json.dumps(saved))
    assert row(course.progress(folder), "01") == "01 Boxes and IoU 2 of 4 ○ convert ✓ iou ○ slip"


def test_check_of_another_variant_counts_as_changed(folder, tmp_path):
    """Two folders with variants: the seed in the metadata decides which check is expected."""
    course.export(tmp_path / "varied", seed="ada")
    run_cell(tmp_path / "varied", "slip-check", OUTPUT)
    assert row(course.progress(tmp_path / "varied"), "01") == "01 Boxes and IoU 1 of 4 ○ convert ○ iou ✓ slip"
    notebook = nbformat.read(tmp_path / "varied" / f"{SECOND}.ipynb", as_version=4)
    del notebook.metadata["rcnn"]["seed"]
    nbformat.write(notebook, folder / f"{SECOND}.ipynb")
    assert row(course.progress(folder), "01") == "01 Boxes and IoU 0 of 4 ○ convert ○ iou ! slip"


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "7",
        '{"cells": 3}',
        '{"metadata": {}}',
        "[" * 100_000,
        b"\xff\xfe\xfa",
        '{"nbformat": 3, "worksheets": []}',
    ],
)
def test_file_that_is_not_a_notebook_is_reported(folder, content):
    (folder / f"{SECOND}.ipynb").write_bytes(content if isinstance(content, bytes) else content.encode())
    assert row(course.progress(folder), "01") == f"01 Boxes and IoU 0 of 4 {SECOND}.ipynb is not a readable notebook"


@pytest.mark.parametrize("seed", [7, "", [], {"a": 1}])
def test_invalid_seed_in_a_notebook_is_reported(folder, seed):
    path = folder / f"{SECOND}.ipynb"
    saved = json.loads(path.read_text())
    saved["metadata"]["rcnn"]["seed"] = seed
    path.write_text(json.dumps(saved))
    assert row(course.progress(folder), "01").endswith(f"{SECOND}.ipynb has an invalid seed in its metadata")


def test_odd_values_in_a_notebook_are_no_error(folder):
    odd = [None, 3, {}, {"metadata": []}, {"metadata": {"nbgrader": {"grade_id": []}}}]
    check = {"metadata": {"nbgrader": {"grade_id": "iou-check"}}, "source": 3, "outputs": 3, "execution_count": True}
    (folder / f"{SECOND}.ipynb").write_text(json.dumps({"cells": [*odd, check], "metadata": 3}))
    assert row(course.progress(folder), "01") == "01 Boxes and IoU 0 of 4 ! convert ! iou ! slip"


def test_table_in_a_notebook_has_links_to_existing_notebooks(folder, monkeypatch):
    run_cell(folder, "iou-check", OUTPUT)
    monkeypatch.chdir(folder)
    page = course.progress()._repr_html_()
    assert f'<a href="{SECOND}.ipynb">01 Boxes and IoU</a>' in page and "✓\u00a0iou" in page
    assert "02_data_and_its_lies.ipynb" not in page and page.count("<a ") == 2
    assert "<p>" not in page


def test_html_is_escaped(folder):
    (folder.parent / "<b>ada").mkdir()
    (folder / f"{SECOND}.ipynb").rename(folder.parent / "<b>ada" / f"{SECOND}.ipynb")
    page = course.progress(folder.parent)._repr_html_()
    assert "&lt;b&gt;ada" in page and "<b>" not in page


# ---------------------------------------------------------------------- several learners


def test_folder_of_submissions_has_a_row_for_each_learner(folder, tmp_path):
    run_cell(folder, "iou-check", OUTPUT)
    graded = tmp_path / "blaise" / SECOND  # as in nbgrader's folder "submitted"
    graded.mkdir(parents=True)
    (graded / f"{SECOND}.ipynb").write_bytes((folder / f"{SECOND}.ipynb").read_bytes())
    change(graded, SECOND, "slip-check", source="pass")
    (tmp_path / "notes").mkdir()
    (folder / f"{FIRST}.ipynb").write_text("broken")
    lines = str(course.progress(tmp_path)).splitlines()
    numbers = [source.name[:2] for source in sources.paths()]
    absent = ["-"] * (len(numbers) - 2)
    assert lines[0].split() == [*numbers, "total"]
    assert lines[1].split() == ["ada", "-", "2", *absent, "2", "of", str(MOST)]
    assert lines[2].split() == ["blaise", "-", "2*", *absent, "2", "of", str(MOST)]
    assert lines[3].startswith("* changed: ")
    assert lines[4:] == [f"ada: {FIRST}.ipynb is not a readable notebook"]


def test_seeds_of_the_submissions_are_shown(tmp_path):
    for name, seed in (("ada", "ada"), ("blaise", "ada"), ("carla", None)):
        course.export(tmp_path / name, seed=seed)
    lines = str(course.progress(tmp_path)).splitlines()
    assert [line.split()[:2] for line in lines] == [["seed", "00"], ["ada", "ada"], ["blaise", "ada"], ["carla", "0"]]


# ---------------------------------------------------------------------- the command and the index


def test_command_prints_the_table(folder, capsys, monkeypatch):
    assert cli.main(["course", "progress", str(folder)]) == 0
    printed = capsys.readouterr().out
    assert printed == f"{course.progress(folder)}\n"
    monkeypatch.chdir(folder)
    assert cli.main(["course", "progress"]) == 0
    assert capsys.readouterr().out == printed


@pytest.mark.parametrize("name, message", [("nowhere", "folder not found"), (".", "nor its folders contain notebooks")])
def test_folder_without_notebooks_is_one_line(tmp_path, capsys, name, message):
    assert cli.main(["course", "progress", str(tmp_path / name)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("rcnn: ") and message in line


def test_index_lists_every_notebook(exported):
    notebook = nbformat.read(exported / "index.ipynb", as_version=4)
    text = notebook.cells[-1].source
    for each in contents.course_contents():
        assert f"[{each.stem[:2]} {each.title}]({each.stem}.ipynb)" in text
        assert each.question in text and f"*Time:* {each.time}." in text and f"*Points:* {each.points}." in text
        assert all(f"`{name}`" in text for check in each.checks for name in check.functions)
    assert "`iou`" in text and text.count(".ipynb)") == len(sources.paths())
    assert "seed" not in notebook.cells[0].source and "seed" not in notebook.metadata.rcnn


def test_index_names_the_seed():
    notebook = contents.index("ada")
    assert "variants for the seed `ada`" in notebook.cells[0].source and notebook.metadata.rcnn.seed == "ada"


def test_index_shows_the_progress_when_its_cell_is_run_again(folder):
    notebook = nbformat.read(folder / "index.ipynb", as_version=4)
    client = nbclient.NotebookClient(notebook, resources={"metadata": {"path": str(folder)}})
    with client.setup_kernel():
        client.execute_cell(notebook.cells[1], 1)
        assert "○\u00a0iou" in notebook.cells[1].outputs[0].data["text/html"]
        run_cell(folder, "iou-check", OUTPUT)
        client.execute_cell(notebook.cells[1], 1)
    assert "✓\u00a0iou" in notebook.cells[1].outputs[0].data["text/html"]
    assert "✓ iou" in notebook.cells[1].outputs[0].data["text/plain"]


def test_source_without_a_question_is_reported(tmp_path):
    header = (
        "# ---\n# jupyter:\n#   jupytext:\n#     notebook_metadata_filter: rcnn\n#   rcnn:\n#     seconds: 7\n# ---\n\n"
    )
    path = tmp_path / "07_twice.py"
    path.write_text(header + "# %% question [markdown]\n# # A heading\n#\n# *Time.* An hour.\n")
    with pytest.raises(ValueError, match="07_twice.py: the first cell must have a heading, .* '.*The question"):
        contents._contents(path, None)

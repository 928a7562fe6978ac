"""Variants of exercises: each seed selects them, and each variant needs an answer of its own."""

import ast
import itertools

import nbformat
import pytest

import build
from rcnn import checks
from rcnn.course import sources, variants

PATHS = {path.stem: path for path in sources.paths()}
EXERCISES = {exercise.name: exercise for exercise in variants.exercises()}
SETUP = {  # values of earlier cells, which the check of each exercise needs
    "predict_shapes": "model, pages = rcnn.load_digits(), data.Digits(split='val')\nimage = pages[178][0]\n"
    "trace = model.trace([image])",
    "slip": "rng = np.random.default_rng()",
    "receptive_field": "",
    "anchor_labels": "all_anchors = anchors.AnchorGenerator((14, 24, 40), (1, 1.7))((128, 128), [(16, 16)])[0]",
    "suppress_in_groups": "",
    "by_hand": "",
}
LONGEST_LINE = 108  # as in the notebooks
every_exercise = pytest.mark.parametrize("exercise", EXERCISES.values(), ids=EXERCISES)


def notebook_of(exercise, index=None):
    """Return the notebook with one variant of an exercise, or with the original."""
    notebook = sources.read(PATHS[exercise.notebook])
    if index is not None:
        variants.apply(notebook.cells, exercise, index)
    return notebook


def definitions(notebook, used):
    """Return the imports of a notebook, and the functions whose names occur in the code `used`, as code."""
    nodes = [node for cell in notebook.cells if cell.cell_type == "code" for node in ast.parse(cell.source).body]
    imports = [node for node in nodes if isinstance(node, (ast.Import, ast.ImportFrom))]
    functions = [node for node in nodes if isinstance(node, ast.FunctionDef) and f"{node.name}(" in used]
    return "\n".join(map(ast.unparse, imports + functions))


def exercise_and_check(exercise, notebook):
    """Return the cell with the function of an exercise, and the check that follows it."""
    cells = iter(notebook.cells)
    written = next(cell for cell in cells if sources.is_exercise(cell) and f"def {exercise.name}(" in cell.source)
    return written, next(cell for cell in cells if sources.is_check(cell))


@pytest.mark.parametrize("name", EXERCISES)
def test_each_answer_passes_its_own_check_and_no_other(name):
    exercise = EXERCISES[name]
    versions = [None, *range(len(exercise.others))]
    notebooks = [notebook_of(exercise, version) for version in versions]
    parts = [exercise_and_check(exercise, notebook) for notebook in notebooks]
    stubs = [sources.without_solutions(cell.source) for cell, _ in parts]
    names = {}
    exec(definitions(notebooks[0], parts[0][0].source + parts[0][1].source) + "\n" + SETUP[name], names)
    for (i, (answer, _)), (j, (_, check)) in itertools.product(enumerate(parts), enumerate(parts)):
        exec(answer.source, names)
        if i == j:
            exec(check.source, names)
        else:
            with pytest.raises((AssertionError, checks.CheckFailed)):
                exec(check.source, names)
    for stub, (_, check) in zip(stubs, parts, strict=True):
        exec(stub, names)
        with pytest.raises(NotImplementedError):
            exec(check.source, names)


def test_an_error_for_zero_boxes_fails_with_a_message():
    exercise = EXERCISES["suppress_in_groups"]
    notebook = notebook_of(exercise)
    answer, check = exercise_and_check(exercise, notebook)
    names = {}
    exec(definitions(notebook, answer.source + check.source), names)
    names["suppress_in_groups"] = lambda box_array, *given: box_array.max()
    with pytest.raises(checks.CheckFailed, match="ValueError for 0 boxes.*\nHint: N may be 0"):
        exec(check.source, names)


def test_at_least_five_notebooks_have_variants():
    assert len({exercise.notebook for exercise in EXERCISES.values()}) >= 5
    assert all(len(exercise.others) >= 3 for exercise in EXERCISES.values())


@every_exercise
def test_variant_changes_only_its_cells_and_leaves_the_grading(exercise):
    original = notebook_of(exercise)
    for index in range(len(exercise.others)):
        varied = notebook_of(exercise, index)
        nbformat.validate(varied)
        changed = {a.id for a, b in zip(original.cells, varied.cells, strict=True) if a.source != b.source}
        assert changed == set(exercise.cells)
        assert [cell.metadata for cell in varied.cells] == [cell.metadata for cell in original.cells]
        lines = [line for cell in varied.cells if cell.cell_type == "code" for line in cell.source.split("\n")]
        assert max(map(len, lines)) <= LONGEST_LINE
        answer, _ = exercise_and_check(exercise, varied)
        assert sources.without_solutions(answer.source) != sources.without_solutions(
            exercise_and_check(exercise, original)[0].source
        ), "the description must tell the learner what is asked"


def test_seed_selects_all_variants_and_never_the_original():
    for exercise in EXERCISES.values():
        seen = {variants.chosen(exercise, f"student {number}") for number in range(100)}
        assert seen == set(range(len(exercise.others)))
        assert exercise.original not in exercise.others and len(set(exercise.others)) == len(exercise.others)
    together = {tuple(variants.chosen(each, f"student {n}") for each in EXERCISES.values()) for n in range(100)}
    assert len(together) > 90  # the exercises vary independently


def test_same_seed_gives_the_same_notebook():
    path = PATHS["01_boxes_and_iou"]
    assert sources.read(path, "ada") == sources.read(path, "ada")
    assert sources.read(path, "ada").metadata.rcnn.seed == "ada" and "seed" not in sources.read(path).metadata.rcnn
    read = {sources.read(path, f"student {number}").cells[-10].source for number in range(20)}
    assert read == {sources.read(path).cells[-10].source}  # a cell without a variant


@pytest.mark.parametrize("seed", ["", " ada", "a\nb", "a" * 101])
def test_invalid_seed_is_reported(seed):
    with pytest.raises(ValueError, match="seed must be one line of 1 to 100 characters, such as a student's name, got"):
        sources.read(PATHS["01_boxes_and_iou"], seed)


def test_seed_of_another_type_is_reported():
    with pytest.raises(TypeError, match="seed must be a string, got 7"):
        variants.check_seed(7)


def test_text_that_a_source_no_longer_contains_is_reported():
    exercise = variants.Exercise("01_boxes_and_iou", "slip", ("slip-yours",), ("no such text",), (("other",),))
    with pytest.raises(ValueError, match=r"01_boxes_and_iou.slip: the text 'no such text' is in none of the cells"):
        variants.apply(sources.read(PATHS["01_boxes_and_iou"]).cells, exercise, 0)


def test_table_with_a_missing_text_is_reported(tmp_path, monkeypatch):
    path = tmp_path / "variants.toml"
    path.write_text('[01_x.f]\ncells = ["a"]\noriginal = ["one", "two"]\nothers = [["three"]]\n')
    monkeypatch.setattr(variants, "FILE", path)
    with pytest.raises(ValueError, match="variants.toml, 01_x.f: each variant must replace all of the original texts"):
        variants.exercises.__wrapped__()


@pytest.mark.slow
@pytest.mark.parametrize("stem", sorted({exercise.notebook for exercise in EXERCISES.values()}))
def test_notebooks_with_variants_run(stem):
    """With solutions, no cell fails. In the students' copy, only the checks fail."""
    solved = sources.read(PATHS[stem], "ada")
    build.execute(solved)
    unsolved = sources.student(sources.read(PATHS[stem], "ada"))
    build.execute(unsolved, allow_errors=True)
    failed = {cell.id for cell in unsolved.cells if any(out.output_type == "error" for out in cell.get("outputs", []))}
    assert failed == {cell.id for cell in unsolved.cells if sources.is_check(cell)}

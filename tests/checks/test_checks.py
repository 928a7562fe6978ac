"""The checks accept right answers in every style, and reject plausible mistakes with a fitting hint."""

import importlib
import pkgutil

import mutants
import numpy as np
import pytest

import rcnn
from rcnn import checks
from rcnn.boxes import iou
from rcnn.checks import CheckFailed
from rcnn.checks._engine import MOST_TRIALS, Case, run

ANSWERS = {name: importlib.import_module(f"mutants.{name}") for _, name, _ in pkgutil.iter_modules(mutants.__path__)}
LEAST_WRONG = 8  # per check


def named(pairs):
    return [pytest.param(name, *rest, id=f"{name}-{rest[0].__name__}") for name, *rest in pairs]


def test_every_check_has_its_answers():
    assert set(checks.__all__) - {"CheckFailed", "hint"} == set(ANSWERS)
    assert all(len(module.RIGHT) >= 3 and len(module.WRONG) >= LEAST_WRONG for module in ANSWERS.values())


@pytest.mark.parametrize(
    "name, answer", named((name, right) for name, module in ANSWERS.items() for right in module.RIGHT)
)
def test_a_right_answer_passes(name, answer, impl):
    for seed in range(3):
        assert getattr(checks, name)(answer, seed=seed) is None


def in_form(value, form):
    """Return an output with its arrays in another form."""
    if isinstance(value, tuple):
        parts = [in_form(part, form) for part in value]
        return parts if form is FORMS["lists"] else tuple(parts)
    return form(value) if isinstance(value, np.ndarray) else value


def as_float32(array):
    return array.astype(np.float32) if array.dtype.kind == "f" else array


def read_only(array):
    array = array.copy()
    array.setflags(write=False)
    return array


FORMS = {
    "lists": lambda array: array.tolist(),
    "float32": as_float32,
    "columns first": np.asfortranarray,
    "read-only": read_only,
    "int32": lambda array: array.astype(np.int32) if array.dtype.kind == "i" else array,
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", sorted(set(ANSWERS) - {"find_faults", "repair", "roi_targets", "sample"}))
def test_a_right_answer_in_another_form_passes(name, form):
    right = ANSWERS[name].RIGHT[0]
    checks_of = getattr(checks, name)
    for seed in range(2):
        assert checks_of(lambda *given: in_form(right(*given), FORMS[form]), seed=seed) is None


@pytest.mark.parametrize(
    "name, answer, hint", named((name, wrong, hint) for name, module in ANSWERS.items() for wrong, hint in module.WRONG)
)
def test_a_wrong_answer_is_rejected_with_a_fitting_hint(name, answer, hint, impl):
    for seed in range(2):
        with pytest.raises(CheckFailed, match=hint) as failed:
            getattr(checks, name)(answer, seed=seed)
        assert str(failed.value).startswith(f"{name}: your function ")


# ---------------------------------------------------------------------- what all checks have in common

ROWS = np.arange(20.0)
DOUBLE = [Case({"rows": ROWS}, "think")]


def double(rows):
    return 2 * rows


def test_the_message_shows_the_smallest_failing_input():
    def wrong(rows):
        return np.where(np.asarray(rows) == 13, 0, double(np.asarray(rows)))

    with pytest.raises(CheckFailed) as failed:
        run("double", wrong, double, DOUBLE, rows=(("rows",),))
    assert str(failed.value) == (
        "double: your function returns wrong numbers\nfor\n  rows = [13.]\n  got = [0.]\n"
        "  expected = [26.]\nThe first difference is at [0]: got 0, expected 26.\nHint: think"
    )


@pytest.mark.parametrize(
    "wrong, message",
    [
        (lambda rows: None, "returns None"),
        (lambda rows: "many", "returns a value of type str, which does not contain numbers"),
        (lambda rows: [[1], [2, 3]], "returns rows of different lengths"),
        (lambda rows: double(rows)[None], r"returns an array of shape \(1, 1\); expected \(1,\)"),
        (lambda rows: rows / 0 * np.nan, "returns wrong numbers"),
        (lambda rows: rows.sort_values(), "raises AttributeError"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
def test_the_message_describes_the_output(wrong, message):
    with pytest.raises(CheckFailed, match=message):
        run("double", wrong, double, DOUBLE, rows=(("rows",),))


def test_an_unwritten_function_is_reported_as_such():
    def unwritten(rows):
        raise NotImplementedError

    with pytest.raises(CheckFailed, match=r"your function is not written yet[^$]*expected[^$]*Hint: think"):
        run("double", unwritten, double, DOUBLE)


def test_a_function_that_changes_its_arguments_fails():
    def changing(rows):
        rows *= 2
        return rows

    with pytest.raises(CheckFailed, match="changes its argument 'rows'"):
        run("double", changing, double, DOUBLE)


def test_shrinking_limits_the_number_of_calls():
    calls = []

    def wrong(rows):
        calls.append(len(rows))
        return double(rows) + 1

    with pytest.raises(CheckFailed):
        run("double", wrong, double, [Case({"rows": np.arange(4000.0)}, "think")], rows=(("rows",),))
    assert calls[-1] == 1 and len(calls) <= MOST_TRIALS + 1


def test_inputs_differ_from_call_to_call_without_a_seed():
    def recording(boxes1, boxes2):
        seen.append(boxes1.tobytes())
        return iou(boxes1, boxes2)

    seen: list[bytes] = []
    for seed in (None, None, 5, 5):
        seen.append(b"next call")
        checks.iou(recording, seed=seed)
    first, second, third, fourth = b"".join(seen).split(b"next call")[1:]
    assert first != second and third == fourth


def test_a_result_instead_of_a_function_is_an_error():
    with pytest.raises(TypeError, match="pass the function without calling it"):
        checks.iou(np.zeros((1, 1)))


def test_a_check_compares_with_the_librarys_own_functions():
    """A wrong function is rejected even if it also replaces the library's function."""

    def everything(boxes1, boxes2):
        return np.ones((len(boxes1), len(boxes2)))

    with rcnn.replace("iou", everything), pytest.raises(checks.CheckFailed):
        checks.iou(everything)

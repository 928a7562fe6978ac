"""The checks let right answers of every style pass, and reject what people get wrong with a hint that fits."""

import importlib
import pkgutil

import mutants
import numpy as np
import pytest

from rcnn import checks
from rcnn.boxes import iou
from rcnn.checks import CheckFailed
from rcnn.checks._engine import MOST_TRIALS, Case, run

ANSWERS = {name: importlib.import_module(f"mutants.{name}") for _, name, _ in pkgutil.iter_modules(mutants.__path__)}
LEAST_WRONG = 8  # of each check


def named(pairs):
    return [pytest.param(name, *rest, id=f"{name}-{rest[0].__name__}") for name, *rest in pairs]


def test_every_check_has_its_answers():
    assert set(checks.__all__) - {"CheckFailed"} == set(ANSWERS)
    assert all(len(module.RIGHT) >= 3 and len(module.WRONG) >= LEAST_WRONG for module in ANSWERS.values())


@pytest.mark.parametrize(
    "name, answer", named((name, right) for name, module in ANSWERS.items() for right in module.RIGHT)
)
def test_a_right_answer_passes(name, answer, impl):
    for seed in range(4):
        assert getattr(checks, name)(answer, seed=seed) is None


@pytest.mark.parametrize(
    "name, answer, hint", named((name, wrong, hint) for name, module in ANSWERS.items() for wrong, hint in module.WRONG)
)
def test_a_wrong_answer_is_rejected_with_a_hint_that_fits(name, answer, hint, impl):
    for seed in range(3):
        with pytest.raises(CheckFailed, match=hint) as failed:
            getattr(checks, name)(answer, seed=seed)
        assert str(failed.value).startswith(f"{name}: your function ")


# ---------------------------------------------------------------------- what all checks share

ROWS = np.arange(20.0)
DOUBLE = [Case({"rows": ROWS}, "think")]


def double(rows):
    return 2 * rows


def test_the_smallest_failing_input_is_told():
    def wrong(rows):
        return np.where(np.asarray(rows) == 13, 0, double(np.asarray(rows)))

    with pytest.raises(CheckFailed) as failed:
        run("double", wrong, double, DOUBLE, rows=(("rows",),))
    assert str(failed.value) == (
        "double: your function gives wrong numbers\nfor\n  rows = [13.]\n  came out = [0.]\n"
        "  expected = [26.]\nThink about it: think"
    )


@pytest.mark.parametrize(
    "wrong, message",
    [
        (lambda rows: None, "gives None"),
        (lambda rows: "many", "gives str, which does not hold numbers"),
        (lambda rows: [[1], [2, 3]], "gives rows of different lengths"),
        (lambda rows: double(rows)[None], r"gives an array of shape \(1, 1\); \(1,\) is expected"),
        (lambda rows: rows / 0 * np.nan, "gives wrong numbers"),
        (lambda rows: rows.sort_values(), "raises AttributeError"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
def test_what_came_out_is_named(wrong, message):
    with pytest.raises(CheckFailed, match=message):
        run("double", wrong, double, DOUBLE, rows=(("rows",),))


def test_a_function_that_is_still_to_be_written_is_called_that():
    def unwritten(rows):
        raise NotImplementedError

    with pytest.raises(CheckFailed, match=r"your function is not written yet[^$]*expected[^$]*Think about it: think"):
        run("double", unwritten, double, DOUBLE)


def test_a_function_that_changes_its_arguments_does_not_pass():
    def changing(rows):
        rows *= 2
        return rows

    with pytest.raises(CheckFailed, match="changes its argument 'rows'"):
        run("double", changing, double, DOUBLE)


def test_a_slow_answer_is_asked_no_more_often_than_it_must():
    calls = []

    def wrong(rows):
        calls.append(len(rows))
        return double(rows) + 1

    with pytest.raises(CheckFailed):
        run("double", wrong, double, [Case({"rows": np.arange(4000.0)}, "think")], rows=(("rows",),))
    assert calls[-1] == 1 and len(calls) <= MOST_TRIALS + 1


def test_without_a_seed_the_inputs_are_others_each_time():
    def recording(boxes1, boxes2):
        seen.append(boxes1.tobytes())
        return iou(boxes1, boxes2)

    seen: list[bytes] = []
    for seed in (None, None, 5, 5):
        seen.append(b"from here")
        checks.iou(recording, seed=seed)
    first, second, third, fourth = b"".join(seen).split(b"from here")[1:]
    assert first != second and third == fourth


def test_what_is_called_already_is_no_function():
    with pytest.raises(TypeError, match="pass it without calling it"):
        checks.iou(np.zeros((1, 1)))

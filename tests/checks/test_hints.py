"""Messages say what is wrong in general, and further hints lead to the course."""

import re
from pathlib import Path

import numpy as np
import pytest

import rcnn
from rcnn import checks
from rcnn.boxes import convert, decode, iou
from rcnn.checks import CheckFailed, _engine, _hints, roi_axis
from rcnn.checks._engine import Case, run
from rcnn.nms import nms
from rcnn.roi import roi_pool_backward

UNUSED = {"cross_entropy_gradient"}  # checks that no notebook calls
CHECKS = sorted(set(checks.__all__) - {"CheckFailed", "hint"})
SOURCES = Path(rcnn.__file__).parent / "course" / "src"


def message_of(check, function):
    with pytest.raises(CheckFailed) as failed:
        check(function, seed=0)
    return str(failed.value)


@pytest.mark.parametrize(
    "wrong, sentence",
    [
        (lambda rows: -2 * rows, "Your result is the expected result with the opposite sign."),
        (lambda rows: 4 * rows, "Your result is twice the expected result."),
        (lambda rows: rows, "Your result is half of the expected result."),
        (lambda rows: 2 * rows + 1, "Your result is 1 more than the expected result."),
        (lambda rows: 2 * rows - 0.5, "Your result is 0.5 less than the expected result."),
        (lambda rows: 2 * rows[::-1], "Your result is the expected result in reverse order."),
        (lambda rows: 2 * rows.T, "Your result is the transpose of the expected result."),
        (lambda rows: 2 * rows[:, [1, 0, 3, 2]], "Your result is the expected result with x and y swapped."),
        (
            lambda rows: np.maximum(2 * rows, 0),
            "Your result is the expected result with 0 in place of negative numbers.",
        ),
        (lambda rows: np.floor(2 * rows), "Your result is the expected result, rounded down to whole numbers."),
        (lambda rows: np.roll(2 * rows, 1, axis=0), "Your result is the expected result, moved by one row."),
        (lambda rows: 2 * rows[[2, 0, 3, 1]], "Your result contains the expected rows in another order."),
        (lambda rows: 2 * rows * (1, 1, 1, 3), "Only column 3 of your result is wrong."),
        (lambda rows: 2 * rows[None], "Your result has an axis of length 1 too many."),
        (lambda rows: np.where(rows < 0, np.nan, 2 * rows), "right, except for elements that are NaN or infinite."),
    ],
)
def test_the_message_names_the_kind_of_mistake(wrong, sentence):
    rows = np.random.default_rng(0).normal(size=(4, 4))
    with pytest.raises(CheckFailed, match=re.escape(sentence)):
        run("double", wrong, lambda rows: 2 * rows, [Case({"rows": rows}, "think")], rows=(("rows",),))


@pytest.mark.parametrize(
    "wrong, words, hint",
    [
        (lambda rows, share: rows / 7, "divided by 7.", "divide"),
        (lambda rows, share: rows * 1.25, "multiplied by 1.25.", "divide"),
        (lambda rows, share: rows / len(rows), "divided by the number of rows of `rows`.", "divide"),
        (lambda rows, share: rows * rows.size, "multiplied by the number of elements of `rows`.", "divide"),
        (lambda rows, share: rows / rows.sum() ** 2, "multiplied by a number that differs between calls.", "divide"),
        (lambda rows, share: rows * share, "multiplied by `share`.", "think"),
        (lambda rows, share: rows / 7 + 1e-2, None, "think"),
        (lambda rows, share: np.round(rows, 1), "rounded to 1 digit.", "Do not round them"),
    ],
)
def test_a_wrong_factor_or_a_rounding_has_its_own_hint(wrong, words, hint):
    rng = np.random.default_rng(0)
    cases = [Case({"rows": rng.normal(size=(3 + i, 4)), "share": 0.3 + 0.1 * i}, "think") for i in range(4)]
    with pytest.raises(CheckFailed) as failed:
        run("same", wrong, lambda rows, share: rows, cases, rows=(("rows",),), of_factor="divide")
    if words is not None:
        assert f"Your result is the expected result, {words}\n" in str(failed.value)
    assert hint in str(failed.value).split("Hint: ")[1]


def test_a_hint_about_digits_stays():
    with pytest.raises(CheckFailed, match="Hint: This number is not whole."):
        run("same", np.round, lambda rows: rows, [Case({"rows": np.arange(9) / 4}, "This number is not whole.")])


def test_a_common_mistake_has_its_own_hint():
    def cut(rows):
        return rows[:2]

    def unfit(rows):
        raise ValueError

    cases = [Case({"rows": np.arange(count)}, "think") for count in (2, 3, 5)]
    mistakes = [(unfit, "unfit"), (lambda rows: rows[:1], "one"), (cut, "two")]
    for wrong, hint in ((cut, "two"), (lambda rows: rows[:1], "one"), (lambda rows: rows[:3], "think")):
        with pytest.raises(CheckFailed, match=f"Hint: {hint}"):
            run("same", wrong, lambda rows: rows, cases, mistakes=mistakes)


def test_the_message_names_the_boxes_for_which_a_function_is_wrong():
    def wrong(boxes1, boxes2):
        low, high = np.maximum(boxes1[:, None, :2], boxes2[:, :2]), np.minimum(boxes1[:, None, 2:], boxes2[:, 2:])
        return np.where((high - low == 0).any(axis=2), 0.1, iou(boxes1, boxes2))

    assert "Your result is right, except for boxes that touch." in message_of(checks.iou, wrong)


def test_numbers_are_shown_to_the_digit_where_they_differ():
    rows = np.array([1.0, 0.123456])
    with pytest.raises(CheckFailed) as failed:
        run("same", lambda rows: rows * (1, 1.0001), lambda rows: rows, [Case({"rows": rows}, "think")])
    assert "The first difference is at [1]: got 0.12347, expected 0.12346." in str(failed.value)


def test_a_result_that_depends_on_earlier_calls_fails():
    known = {}

    def remembering(boxes1, boxes2):
        return known.setdefault(np.shape(boxes1) + np.shape(boxes2), iou(boxes1, boxes2))

    def reusing(boxes1, boxes2):
        result = iou(boxes1, boxes2)
        out = known.setdefault(result.shape, np.empty_like(result))
        out[:] = result
        return out

    assert "Hint" in message_of(checks.iou, remembering)
    known.clear()
    assert "changes the result of an earlier call" in message_of(checks.iou, reusing)


def test_a_function_that_reads_the_memory_of_its_argument_fails():
    def reading(deltas, boxes, weights=(1, 1, 1, 1)):
        flat = np.frombuffer(np.asarray(boxes).tobytes(order="A"), np.asarray(boxes).dtype).reshape(-1, 4)
        return decode(deltas, flat, weights)

    assert "Use its shape and its indices, not its memory" in message_of(checks.decode, reading)


def test_float_indices_fail():
    assert "returns float64 values; expected integers" in message_of(checks.nms, lambda *given: nms(*given) * 1.0)


@pytest.mark.parametrize("odd", [None, {}, "text", 1j, [[1], [2, 3]], object(), np.array([None]), (None, None), set()])
@pytest.mark.parametrize("name", CHECKS)
def test_an_answer_of_an_odd_type_fails_with_a_message(name, odd):
    assert message_of(getattr(checks, name), lambda *given, **named: odd).startswith(f"{name}: your function")


def test_a_function_that_exits_fails():
    def leaving(boxes1, boxes2):
        raise SystemExit(1)

    assert "raises SystemExit" in message_of(checks.iou, leaving)


def test_a_notebook_shows_the_message_without_a_traceback():
    assert CheckFailed("one\ntwo")._render_traceback_() == ["one", "two"]


@pytest.mark.parametrize("name", sorted(set(CHECKS) - UNUSED))
def test_every_check_has_further_hints(name, capsys):
    _hints.remember(name)
    for _ in range(3):
        checks.hint()
    steps, section, end = capsys.readouterr().out.splitlines()
    assert len(steps) > 60
    found = re.fullmatch(r"Read the section “(.+)” of notebook (\d\d), just above the exercise, once more\.", section)
    assert found is not None
    text = next(SOURCES.glob(f"{found[2]}_*.py")).read_text(encoding="utf-8")
    assert f" {found[1]}\n" in text and f"checks.{name}(" in text
    assert end == _hints.NO_MORE


def test_a_hint_refers_to_the_check_that_failed_last(capsys):
    message_of(checks.nms, lambda *given: None)
    message_of(checks.iou, lambda *given: None)
    checks.hint()
    assert capsys.readouterr().out.strip() == _hints.STEPS["iou"]


def test_a_check_that_stands_in_a_notebook_has_no_further_hints(capsys):
    message_of(checks.iou, lambda *given: None)
    with pytest.raises(CheckFailed, match="slip"):
        raise CheckFailed("slip: wrong")
    checks.hint()
    assert capsys.readouterr().out.strip() == _hints.ELSEWHERE
    message_of(checks.learning_rate, lambda *given: None)
    checks.hint()
    assert capsys.readouterr().out.strip() == _hints.STEPS["learning_rate"]


def test_hints_of_a_value_that_cannot_be_read_refer_to_its_check(capsys):
    with pytest.raises(CheckFailed), _engine.judging("sample"):
        raise TypeError
    checks.hint()
    assert capsys.readouterr().out.strip() == _hints.STEPS["sample"]


def test_errors_about_shapes_name_the_shapes_of_the_arguments():
    message = message_of(checks.roi_align, lambda features, *given: features[0, 0] @ features[0, 0])
    assert message.startswith("roi_align: your function raises ValueError: matmul")
    assert "The shapes of the arguments are: features (1, 1, 6, 9), rois (1, 4), roi_images (1,)." in message
    assert "in the middle of the RoI" not in message
    assert "shapes" in message_of(checks.iou, lambda boxes1, boxes2: boxes1[0, 4])


def test_errors_that_a_case_provokes_get_the_hint_of_the_case():
    def without_rows(boxes1, boxes2):
        return iou(boxes1, boxes2) if boxes1[0].any() or len(boxes2) else np.zeros((len(boxes1), 0))

    assert "Zero boxes are valid input" in message_of(checks.iou, without_rows)


def test_nms_tells_wrong_boxes_from_a_wrong_order():
    def skipping(boxes, scores, iou_threshold):
        rest, kept = np.argsort(-scores, kind="stable").tolist(), []
        while rest:
            kept.append(rest.pop(0))
            for j in rest:
                if iou(boxes[kept[-1:]], boxes[[j]])[0, 0] > iou_threshold:
                    rest.remove(j)
        return np.array(kept, np.int64)

    message = message_of(checks.nms, skipping)
    assert "Box 2 is kept, but should be removed." in message and "does your loop skip it?" in message
    for ordered in (np.sort, np.flip):
        message = message_of(checks.nms, lambda *given, ordered=ordered: ordered(nms(*given)))
        assert "The kept boxes are right, but their order is wrong." in message and "moved" not in message


def test_bounds_are_shown_as_they_were_returned():
    def inclusive(low, high, bins, pixels):
        return np.minimum(roi_axis._bounds(low, high, bins, pixels), pixels - 1)

    message = message_of(checks.bin_bounds, inclusive)
    assert "[6, 6]" in message and "not `pixels - 1`" in message


def test_the_gradient_of_an_empty_bin_has_its_own_hint():
    def failing(grad, features, rois, roi_images, spatial_scale):
        if ((rois[:, 2] < -1) | (rois[:, 0] > 9)).any():
            return np.ones_like(features)
        return roi_pool_backward(grad, features, rois, roi_images, spatial_scale)

    message = message_of(checks.roi_pool_backward, failing)
    assert "The gradient of an empty bin goes nowhere." in message and "value of an empty bin" not in message


def test_the_hint_about_integers_does_not_speak_of_signs():
    def whole(boxes, source, target):
        converted = convert(boxes, source, target)
        return converted.astype(int) if np.asarray(boxes).dtype.kind == "i" else converted

    hint = message_of(checks.convert, whole).split("Hint: ")[1]
    assert hint == "Integers are valid input, but half of an integer need not be an integer."


def test_iou_of_another_shape_or_with_mixed_axes_has_its_own_hint():
    def row_by_row(boxes1, boxes2):
        return np.array([iou(one[None], other[None])[0, 0] for one, other in zip(boxes1, boxes2, strict=False)])

    def mixed(boxes1, boxes2):
        low, high = (
            np.maximum(boxes1[:, None, [0, 0]], boxes2[:, [0, 0]]),
            np.minimum(boxes1[:, None, 2:], boxes2[:, 2:]),
        )
        shared = np.maximum(high - low, 0).prod(axis=2)
        areas1, areas2 = (((boxes[:, 2:] - boxes[:, :2]).prod(axis=1)) for boxes in (boxes1, boxes2))
        return shared / np.maximum(areas1[:, None] + areas2 - shared, 1e-9)

    assert "Compare every box of `boxes1`" in message_of(checks.iou, row_by_row).split("Hint: ")[1]
    assert "The intersection mixes x and y." in message_of(checks.iou, mixed)


def test_elements_that_a_function_leaves_unwritten_are_wrong():
    def unwritten(boxes1, boxes2):
        out, overlaps = np.empty((len(boxes1), len(boxes2))), iou(boxes1, boxes2).tolist()
        for i, row in enumerate(overlaps):
            for j, value in enumerate(row):
                if value > 0:
                    out[i, j] = value
        return out

    assert "got = [[nan]]" in message_of(checks.iou, unwritten)

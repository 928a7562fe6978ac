"""The rules that check the settings of configs, recipes and plans."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from rcnn._validate import (
    FLAG,
    FRACTION,
    POSITIVE,
    STRING,
    Rule,
    as_integer,
    as_number,
    as_table,
    as_tuple,
    check_flags,
    check_keys,
    check_sequence,
    integer,
    normalise_fields,
    one_of,
    optional,
    tuple_of,
)

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("rule", "value", "expected"),
    [
        (FLAG, True, True),
        (STRING, "a", "a"),
        (FRACTION, 1, 1.0),
        (POSITIVE, np.float32(0.5), 0.5),
        (integer(1), np.int64(1), 1),
        (one_of(("a", "b")), "b", "b"),
        (optional(integer(1)), None, None),
        (optional(integer(1)), 2, 2),
    ],
)
def test_values_are_normalised(rule: Rule, value: Any, expected: Any) -> None:
    normalised = rule.check("x", value)
    assert normalised == expected and type(normalised) is type(expected)


@pytest.mark.parametrize(
    ("rule", "value", "message"),
    [
        (FLAG, 1, r"True or False, got 1 \(int\)"),
        (STRING, None, r"a string, got None \(NoneType\)"),
        (FRACTION, "1", r"a number in \[0, 1\], got '1' \(str\)"),
        (POSITIVE, True, r"a number above 0, got True \(bool\)"),
        (integer(1), 1.0, r"an integer of at least 1, got 1.0 \(float\)"),
        (integer(1), np.timedelta64(2, "s"), r"an integer of at least 1, got .*timedelta64.* \(timedelta64\)"),
        (FRACTION, np.timedelta64(1, "s"), r"a number in \[0, 1\], got .*timedelta64.*"),
        (one_of(("a", "b")), 3, r"one of a, b, got 3 \(int\)"),
        (optional(integer(1)), "2", r"an integer of at least 1, got '2' \(str\)"),
    ],
)
def test_wrong_types(rule: Rule, value: Any, message: str) -> None:
    with pytest.raises(TypeError, match=rf"^x must be {message}$"):
        rule.check("x", value)


@pytest.mark.parametrize(
    ("rule", "value", "message"),
    [
        (FRACTION, 1.5, r"a number in \[0, 1\], got 1.5"),
        (FRACTION, NAN, r"a number in \[0, 1\], got nan"),
        (POSITIVE, INF, "a number above 0, got inf"),
        (POSITIVE, 10**400, r"a number above 0, got 10+\.\.\.0+"),
        (integer(1), 0, "an integer of at least 1, got 0"),
        (one_of(("a", "b")), "c", "one of a, b, got 'c'"),
        (optional(integer(1)), 0, "an integer of at least 1, got 0"),
    ],
)
def test_wrong_values(rule: Rule, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=rf"^x must be {message}$"):
        rule.check("x", value)


def test_as_number_keeps_integers_as_int() -> None:
    assert [type(as_number(x)) for x in (np.int32(2), np.float32(2), 2, 2.0)] == [int, float, int, float]


@pytest.mark.parametrize("values", [[1, 2], (1, 2), np.array([1, 2]), (x for x in (1, 2))])
def test_any_iterable_of_integers_is_a_sequence_of_them(values: Any) -> None:
    assert tuple_of(as_integer)(values) == (1, 2)


@pytest.mark.parametrize("convert", [as_tuple, as_table])
@pytest.mark.parametrize("value", ["ab", b"ab", 3, np.array(3)])
def test_a_string_or_a_number_is_neither_a_sequence_nor_a_table(convert: Callable[[Any], Any], value: Any) -> None:
    with pytest.raises(TypeError):
        convert(value)
    with pytest.raises(TypeError):
        as_tuple({1: 2})


def test_fields_of_a_frozen_dataclass_are_normalised() -> None:
    @dataclass(frozen=True)
    class Settings:
        steps: int
        rate: float

    settings = Settings(np.int64(3), 1)
    normalise_fields(settings, {"steps": integer(1), "rate": POSITIVE})
    assert (type(settings.steps), type(settings.rate)) == (int, float)
    with pytest.raises(ValueError, match=r"^\[recipe\] steps must be an integer of at least 4, got 3$"):
        normalise_fields(settings, {"steps": integer(4)}, "[recipe] ")


def test_unknown_keys_are_reported_with_the_allowed_ones() -> None:
    check_keys({"a": 1}, ("a", "b"), "[model]")
    with pytest.raises(ValueError, match=r"^\[model\]: unknown key 'c'; allowed keys are a, b$"):
        check_keys({"a": 1, "c": 1}, ("a", "b"), "[model]")


@pytest.mark.parametrize("value", ["ab", b"ab", 3, memoryview(np.ones((1, 2)))])
def test_values_that_are_not_sequences_are_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="^x must be a sequence, got "):
        check_sequence(value, "x")


@pytest.mark.parametrize("flags", [[True, False], [1, 0], [1.0, 0.0], np.array([1, 0], np.uint8)])
def test_flags_are_true_or_false(flags: Any) -> None:
    checked = check_flags({"crowd": flags}, "crowd", 2, "target")
    assert checked.tolist() == [True, False] and checked.dtype == np.bool_
    assert check_flags({"crowd": []}, "crowd", 0, "target").shape == (0,)


@pytest.mark.parametrize(("value", "shown"), [(NAN, "nan"), (0.5, "0.5"), (7, "7"), (-1, "-1"), (INF, "inf")])
def test_other_numbers_are_not_flags(value: float, shown: str) -> None:
    with pytest.raises(ValueError, match=rf"^target\['difficult'\]\[1\] must be True, False, 1 or 0, got {shown}$"):
        check_flags({"difficult": [0, value]}, "difficult", 2, "target")

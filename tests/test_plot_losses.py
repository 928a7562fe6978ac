"""Pictures of how far numerical gradients are off: what is drawn where, and that nothing is cut off."""

import numpy as np
import pytest
from legible import assert_nothing_is_clipped

from rcnn import plot

STEPS = [1e-6, 1e-4, 1e-2]


@pytest.fixture
def ax():
    return plot.figure(6, 4).subplots()


def test_the_smallest_error_is_marked_and_named(ax):
    assert plot.gradient_errors(ax, STEPS, {"float64": [1e-9, 1e-11, 1e-5], "float32": [1e-2, 1e-3, 1e-4]}) is ax
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    curves, marks = ax.lines[::2], ax.lines[1::2]
    np.testing.assert_array_equal(curves[0].get_ydata(), [1e-9, 1e-11, 1e-5])
    assert [tuple(mark.get_xydata()[0]) for mark in marks] == [(1e-4, 1e-11), (1e-2, 1e-4)]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "float64: best 1e-11 at a step of 1e-04", "float32: best 1e-04 at a step of 1e-02"]
    assert len({line.get_linestyle() for line in curves}) == len({line.get_color() for line in curves}) == 2
    assert_nothing_is_clipped(ax.figure)


def test_an_error_of_nothing_has_a_place(ax):
    plot.gradient_errors(ax, STEPS, {"exact": [0, 1e-3, 1e-2]})
    assert ax.lines[0].get_ydata()[0] == ax.lines[1].get_ydata()[0] == 1e-17
    assert ax.get_legend().get_texts()[0].get_text().startswith("exact: best 0e+00")
    assert_nothing_is_clipped(ax.figure)


def test_no_curves_have_no_legend(ax):
    plot.gradient_errors(ax, STEPS, {})
    assert ax.get_legend() is None
    assert_nothing_is_clipped(ax.figure)


@pytest.mark.parametrize("steps, errors, message", [
    ([0, 1, 2], {}, r"steps\[0\] is 0; it must be finite and above 0"),
    (STEPS, {"a": [1, np.nan, 1]}, r"errors\['a'\]\[1\] is nan"),
    (STEPS, {"a": [1, 1, -1]}, r"errors\['a'\]\[2\] is -1; it must be finite and at least 0"),
    (STEPS, {"a": [1, 1]}, r"errors\['a'\] has the shape \(2,\)"),
    (STEPS, {name: [1, 1, 1] for name in "abcde"}, "5 curves; at most 4"),
])
def test_bad_input_is_named(ax, steps, errors, message):
    with pytest.raises(ValueError, match=message):
        plot.gradient_errors(ax, steps, errors)

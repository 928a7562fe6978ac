"""Explorer of RoIPool and RoIAlign: it draws the outputs of both."""

import importlib
import re

import matplotlib
import numpy as np
import pytest
from legible import assert_nothing_is_clipped

from rcnn import plot, roi
from rcnn.course import widgets

matplotlib.use("agg")

module = importlib.import_module("rcnn.course.widgets.pool_compare")  # the function of the same name hides it
MAP = np.random.default_rng(1).random((8, 9))
FIRST = np.array(module.FIRST)


def drawn(shift, samples=2, aligned=False, values=MAP):
    """Return the panels of the explorer: bins, their outputs, points, their outputs, curve."""
    figure = plot.figure(10, 5)
    module._draw(figure, values, shift, samples, aligned)
    panels = [ax for ax in figure.axes if ax.get_title(loc="left") or ax.lines]
    return figure, panels


def numbers(ax):
    return [float(text.get_text()) for text in ax.texts if re.fullmatch(r"\d\.\d\d", text.get_text())]


@pytest.mark.parametrize("shift, samples, aligned", [(0.0, 2, False), (1.35, 1, False), (2.0, 4, True)])
def test_values_match_roi_pool_and_roi_align(shift, samples, aligned):
    figure, panels = drawn(shift, samples, aligned)
    box = (FIRST + (shift, 0, shift, 0))[None]
    pooled = roi.roi_pool(MAP[None, None], box, [0], (2, 2)).ravel()
    at_points = roi.roi_align(MAP[None, None], box, [0], (2, 2), 1.0, samples, aligned).ravel()
    outputs = {ax.get_title(loc="left"): numbers(ax) for ax in panels}
    np.testing.assert_allclose(outputs["largest cell"], pooled, atol=0.0051)
    np.testing.assert_allclose(outputs["mean of points"], at_points, atol=0.0051)
    assert_nothing_is_clipped(figure)


def test_drawn_points_are_the_sampled_points(monkeypatch):
    drawn_with = []
    monkeypatch.setattr(plot, "sample_points", lambda *args, **options: drawn_with.append(args[2:] + (options,)))
    drawn(0.5, samples=4, aligned=True)
    ((box, *others),) = drawn_with
    np.testing.assert_array_equal(box, FIRST + (0.5, 0, 0.5, 0))
    assert others == [1.0, (2, 2), 4, True, {"margin": None}]


def test_roi_pool_jumps_and_roi_align_changes_smoothly():
    figure, panels = drawn(0.2, values=module.hills())
    (curve,) = (ax for ax in panels if ax.get_xlabel())
    steps = [np.abs(np.diff(line.get_ydata())) for line in curve.lines if len(line.get_xdata()) > 2]
    pool, align = steps
    assert (pool == 0).mean() > 0.9
    assert pool.max() > 0.1
    assert 0 < align.max() < 0.02


def test_stills_are_on_both_sides_of_a_jump():
    explorer = widgets.pool_compare()
    shifts = [still["shift_in_cells"] for still in explorer._stills]
    before, after = (module._outputs(module.hills(), np.array([shift]), 2, False) for shift in shifts)
    assert abs(after[0][0, 0, 0] - before[0][0, 0, 0]) > 0.2
    assert abs(after[1][0, 0, 0] - before[1][0, 0, 0]) < 0.05


def test_pool_compare_is_an_explorer():
    explorer = widgets.pool_compare(MAP)
    assert explorer.still()[:4] == b"\x89PNG"
    drawings = {
        explorer.png(),
        explorer.png(shift_in_cells=0.5),
        explorer.png(aligned=True),
        explorer.png(samples_per_side=4),
    }
    assert len(drawings) == 4


def test_default_map_is_reproducible():
    np.testing.assert_array_equal(module.hills(), module.hills())
    assert (module.hills().shape, module.hills().max()) == ((7, 8), 1)


def test_small_map_is_rejected():
    with pytest.raises(ValueError, match=r"at least 7 x 8 cells, got shape \(6, 8\)"):
        widgets.pool_compare(np.zeros((6, 8)))
    with pytest.raises(ValueError, match=r"got shape \(7, 7\)"):
        widgets.pool_compare(np.zeros((7, 7)))
    with pytest.raises(ValueError, match=r"got shape \(8,\)"):
        widgets.pool_compare(np.zeros(8))

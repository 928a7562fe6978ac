"""The page of a run's curves: what is on it, with validations and without."""

import numpy as np
import pytest

from rcnn import plot

LOSSES = ("rpn_cls_loss", "total_loss")
HISTORY = {name: [4.0, 2.0, 1.0, 0.5] for name in LOSSES}
LR = [0.1, 0.3, 0.2, 0.1]


def validated(*scores: float) -> dict[str, list[float]]:
    steps = [float(2 * (i + 1)) for i in range(len(scores))]
    return {"step": steps, "ap50": list(scores), **{name: [1.0] * len(scores) for name in LOSSES}}


def texts(ax):
    return [text.get_text() for text in ax.texts]


def test_every_curve_is_there():
    losses, on_val, ap50, lr = plot.training_curves(HISTORY, LR, validated(0.5, 0.25)).axes
    np.testing.assert_array_equal(losses.get_lines()[0].get_xydata(), [[1, 4], [2, 2], [3, 1], [4, 0.5]])
    assert [line.get_label() for line in on_val.get_lines()] == list(LOSSES)
    np.testing.assert_array_equal(on_val.get_lines()[0].get_xdata(), [2, 4])
    np.testing.assert_array_equal(ap50.get_lines()[0].get_xydata(), [[2, 0.5], [4, 0.25]])
    np.testing.assert_array_equal(ap50.get_lines()[1].get_xydata(), [[2, 0.5]])
    assert any("0.500, after step 2" in text for text in texts(ap50))
    np.testing.assert_array_equal(lr.get_lines()[0].get_ydata(), LR)


@pytest.mark.parametrize(("validation", "said"), [
    (validated(), "there was no validation"), (validated(np.nan), "there is no object to find")])
def test_what_is_not_known_is_said(tmp_path, validation, said):
    page = plot.training_curves(HISTORY, LR, validation)
    page.savefig(tmp_path / "curves.png")
    assert any(said in text for text in texts(page.axes[2]))


def test_a_run_of_no_step(tmp_path):
    plot.training_curves({name: [] for name in LOSSES}, [], validated()).savefig(tmp_path / "curves.png")


def test_long_runs_are_smoothed():
    history = {"total_loss": np.linspace(2, 1, 400)}
    losses = plot.training_curves(history, np.full(400, 0.1), validated()).axes[0]
    assert len(losses.get_lines()) == 2 and any("mean of 10 steps" in text for text in texts(losses))

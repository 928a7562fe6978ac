"""Widget that compares RoIPool and RoIAlign: if a RoI moves, the output of only one of them changes smoothly."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from rcnn import plot, roi
from rcnn.course.widgets._explorer import Choice, Control, Explorer, Range

OUTPUT_SIZE = (2, 2)
MOST = 2.0  # largest shift of the RoI, in cells
STEP = 0.05  # step of the slider, in cells
CURVE = np.arange(0, MOST + STEP / 8, STEP / 4)  # shifts of the curves, in cells; small steps make jumps look steep
FIRST = (1.25, 1.5, 4.0, 4.75)  # the RoI before it is shifted, in cells
READ = 6  # the RoI stays within this number of cells in each direction


def pool_compare(feature_map: ArrayLike | None = None) -> Explorer:
    """Return an explorer that shifts a RoI by fractions of a cell and shows the outputs of RoIPool and RoIAlign.

    The upper row shows RoIPool with its rounded bins. The lower row shows RoIAlign with its sample points. Each row
    also shows the outputs of the 2 x 2 bins. The plot on the right shows the output of the first bin for every shift.

    Parameters
    ----------
    feature_map : (H, W) array, optional
        Feature map of at least 7 x 8 cells. The default is a smooth map with a little noise.

    Returns
    -------
    Explorer
        The explorer.

    Raises
    ------
    ValueError
        If `feature_map` is not 2-D or is too small.
    """
    values = hills() if feature_map is None else np.asarray(feature_map, float)
    if values.ndim != 2 or values.shape[0] < READ + 1 or values.shape[1] < READ + 2:
        raise ValueError(
            f"feature_map must be 2-D with at least {READ + 1} x {READ + 2} cells, got shape {values.shape}"
        )
    controls: dict[str, Control] = {
        "shift_in_cells": Range(0, MOST, 0.2, STEP),
        "samples_per_side": Choice((1, 2, 4), 2),
        "aligned": Choice((False, True), False),
    }

    def _draw_at(figure: Any, shift_in_cells: float, samples_per_side: int, aligned: bool) -> None:
        _draw(figure, values, shift_in_cells, samples_per_side, aligned)

    alt = (
        "A RoI on a feature map, shifted by 0.2 cells and by 0.3 cells. The bins of RoIPool are rounded to whole "
        "cells. The sample points of RoIAlign move with the RoI. On the right, the output of the first bin as a "
        "function of the shift: RoIPool jumps from one constant value to the next, RoIAlign changes smoothly."
    )
    return Explorer(_draw_at, controls, [{"shift_in_cells": 0.2}, {"shift_in_cells": 0.3}], alt, size=(10.0, 6.2))


def _draw(figure: Any, values: np.ndarray, shift: float, samples: int, aligned: bool) -> None:
    parts = figure.subplot_mosaic(
        [["bins", "pooled", "curve"], ["points", "aligned", "curve"]], width_ratios=(1.3, 0.8, 1.4)
    )
    box = _moved([shift])[0]  # (4,)
    limits = float(values.min()), float(values.max())
    pooled, at_points = _outputs(values, np.array([shift]), samples, aligned)  # two arrays of shape (1, 2, 2)
    plot.quantised_bins(parts["bins"], values, box, 1.0, OUTPUT_SIZE, margin=None)
    plot.sample_points(parts["points"], values, box, 1.0, OUTPUT_SIZE, samples, aligned, margin=None)
    plot.bin_values(parts["pooled"], pooled[0], limits)
    plot.bin_values(parts["aligned"], at_points[0], limits)
    plot.title(parts["bins"], "RoIPool", f"dashed: RoI, shifted by {shift:.2f} cells")
    plot.title(parts["points"], "RoIAlign", f"{samples} \u00d7 {samples} points in each bin")
    plot.title(parts["pooled"], "largest cell", "of each bin")
    plot.title(parts["aligned"], "mean of points", "of each bin")
    pooled, at_points = _outputs(values, CURVE, samples, aligned)  # two arrays of shape (S, 2, 2)
    plot.shift_curves(
        parts["curve"],
        CURVE,
        {"RoIPool": pooled[:, 0, 0], "RoIAlign": at_points[:, 0, 0]},
        "RoI shift, cells",
        "output of the first bin",
        at=shift,
    )


def _moved(shifts: ArrayLike) -> np.ndarray:
    """Return the RoI after each of S shifts to the right, (S, 4) in cells."""
    return np.array(FIRST) + np.asarray(shifts, float)[:, None] * (1, 0, 1, 0)


def _outputs(values: np.ndarray, shifts: np.ndarray, samples: int, aligned: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return two arrays (S, 2, 2), the outputs of RoIPool and of RoIAlign for each of S shifts."""
    rois, images = _moved(shifts), np.zeros(len(shifts), np.int64)
    maps = values[None, None]  # (1, 1, H, W)
    return (
        roi.roi_pool(maps, rois, images, OUTPUT_SIZE)[:, 0],
        roi.roi_align(maps, rois, images, OUTPUT_SIZE, 1.0, samples, aligned)[:, 0],
    )


def hills() -> np.ndarray:
    """Return a feature map with one hill and a little noise from a fixed seed.

    Returns
    -------
    (7, 8) array
        The feature map; its values are in [0, 1].
    """
    y, x = np.mgrid[: READ + 1, : READ + 2]
    hill = np.exp(-((x - 5.2) ** 2 + (y - 2.8) ** 2) / 7)
    hill += 0.12 * np.random.default_rng(3).random(hill.shape)
    return np.asarray(hill / hill.max())

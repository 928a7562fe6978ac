"""A RoI that moves by fractions of a cell, read by RoIPool and by RoIAlign: the one jumps, the other glides."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from rcnn import plot, roi
from rcnn.course.widgets._explorer import Choice, Control, Explorer, Range

OUTPUT_SIZE = (2, 2)
MOST = 2.0  # cells that the RoI can move
STEP = 0.05  # cells
CURVE = np.arange(0, MOST + STEP / 8, STEP / 4)  # cells; finer than the slider, so that a jump is steep
FIRST = (1.25, 1.5, 4.0, 4.75)  # cells; where the RoI stands before it is moved
READ = 6  # cells in both directions of the map that the RoI can reach


def pool_compare(feature_map: ArrayLike | None = None) -> Explorer:
    """An explorer in which a RoI moves over a map by fractions of a cell, with what RoIPool and RoIAlign answer.

    feature_map: (H, W), at least 7 x 8 cells; without it a smooth one with a little noise. Above is RoIPool with its
    rounded bins, below RoIAlign with its sample points; beside them the answers of the 2 x 2 bins, and how that of the
    first bin changes with the shift. Raises ValueError for a map that is too small.
    """
    values = _hills() if feature_map is None else np.asarray(feature_map, float)
    if values.ndim != 2 or values.shape[0] < READ + 1 or values.shape[1] < READ + 2:
        raise ValueError(
            f"feature_map must have two axes of at least {READ + 1} and {READ + 2} cells, not the shape {values.shape}"
        )
    controls: dict[str, Control] = {
        "shift_in_cells": Range(0, MOST, 0.2, STEP),
        "samples_per_side": Choice((1, 2, 4), 2),
        "aligned": Choice((False, True), False),
    }

    def draw(figure: Any, shift_in_cells: float, samples_per_side: int, aligned: bool) -> None:
        _draw(figure, values, shift_in_cells, samples_per_side, aligned)

    return Explorer(draw, controls, [{"shift_in_cells": 0.2}, {"shift_in_cells": 0.3}], size=(10.0, 5.0))


def _draw(figure: Any, values: np.ndarray, shift: float, samples: int, aligned: bool) -> None:
    parts = figure.subplot_mosaic(
        [["bins", "pooled", "curve"], ["points", "aligned", "curve"]], width_ratios=(1.1, 0.8, 1.6)
    )
    box = _moved([shift])[0]  # (4,)
    limits = float(values.min()), float(values.max())
    pooled, at_points = _answers(values, np.array([shift]), samples, aligned)  # (1, 2, 2) each
    plot.quantised_bins(parts["bins"], values, box, 1.0, OUTPUT_SIZE, margin=None)
    plot.sample_points(parts["points"], values, box, 1.0, OUTPUT_SIZE, samples, aligned, margin=None)
    plot.bin_values(parts["pooled"], pooled[0], limits)
    plot.bin_values(parts["aligned"], at_points[0], limits)
    plot.title(parts["bins"], "RoIPool", f"dashed: the RoI, moved by {shift:.2f} cells")
    plot.title(parts["points"], "RoIAlign", f"{samples} \u00d7 {samples} points in each bin")
    plot.title(parts["pooled"], "largest cell", "of each bin")
    plot.title(parts["aligned"], "mean of the points", "of each bin")
    pooled, at_points = _answers(values, CURVE, samples, aligned)  # (S, 2, 2) each
    plot.shift_curves(
        parts["curve"],
        CURVE,
        {"RoIPool": pooled[:, 0, 0], "RoIAlign": at_points[:, 0, 0]},
        "shift of the RoI, cells",
        "answer of the first bin",
        at=shift,
    )


def _moved(shifts: ArrayLike) -> np.ndarray:
    """The RoI moved to the right by each of `shifts` (S,), (S, 4), in cells."""
    return np.array(FIRST) + np.asarray(shifts, float)[:, None] * (1, 0, 1, 0)


def _answers(values: np.ndarray, shifts: np.ndarray, samples: int, aligned: bool) -> tuple[np.ndarray, np.ndarray]:
    """What RoIPool and RoIAlign answer for each of `shifts` (S,), (S, 2, 2) each."""
    rois, images = _moved(shifts), np.zeros(len(shifts), np.int64)
    maps = values[None, None]  # (1, 1, H, W)
    return (
        roi.roi_pool(maps, rois, images, OUTPUT_SIZE)[:, 0],
        roi.roi_align(maps, rois, images, OUTPUT_SIZE, 1.0, samples, aligned)[:, 0],
    )


def _hills() -> np.ndarray:
    """A map (7, 8) of 0 to 1 with one hill, and a little noise that is always the same."""
    y, x = np.mgrid[: READ + 1, : READ + 2]
    hill = np.exp(-((x - 5.2) ** 2 + (y - 2.8) ** 2) / 7)
    hill += 0.12 * np.random.default_rng(3).random(hill.shape)
    return np.asarray(hill / hill.max())

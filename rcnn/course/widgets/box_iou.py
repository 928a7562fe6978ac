"""Widget for IoU: a box moves over another box and changes its size."""

from __future__ import annotations

from typing import Any

import numpy as np

from rcnn import boxes, plot
from rcnn.course.widgets._explorer import Explorer, Range

REACH = 1.25  # largest shift of B, as a multiple of the side of A
GROWTH = 2.0  # largest scale of B; the smallest is its inverse


def box_iou(side: int = 20) -> Explorer:
    """Return an explorer of the IoU of a fixed square A and a square B that moves and changes its size.

    The still plots show B in six positions: exactly on A, shifted by a quarter of the side, shifted in both directions,
    with sides twice as long, with sides half as long, and completely outside A.

    Parameters
    ----------
    side : int, optional
        Side of A in pixels; at least 4.

    Returns
    -------
    Explorer
        The explorer.

    Raises
    ------
    ValueError
        If `side` is below 4.
    """
    if side < 4:
        raise ValueError(f"side must be at least 4 pixels, got {side}")
    fixed = np.array([[0, 0, side, side]], float)  # (1, 4)
    margin = side * (REACH + (GROWTH - 1) / 2) + 1
    limits = (-margin, -margin, side + margin, side + margin)

    def _draw_at(figure: Any, dx: float, dy: float, scale: float) -> None:
        moved = _moved(fixed, dx, dy, scale)  # (1, 4)
        value = float(boxes.iou(fixed, moved)[0, 0])
        ax = plot.overlap(figure.subplots(), fixed[0], moved[0], limits=limits)
        plot.title(ax, f"IoU {value:.2f}", f"dx = {dx:g}, dy = {dy:g} pixels; sides \u00d7 {scale:g}")

    reach = round(REACH * side)
    controls = {
        "dx": Range(-reach, reach, side // 4),
        "dy": Range(-reach, reach, 0),
        "scale": Range(1 / GROWTH, GROWTH, 1, 0.05),
    }
    half = side // 2
    stills: list[dict[str, float]] = [
        {"dx": 0},
        {"dx": side // 4},
        {"dx": half, "dy": half},
        {"dx": 0, "scale": GROWTH},
        {"dx": 0, "scale": 1 / GROWTH},
        {"dx": reach, "dy": -half},
    ]
    moved = [_moved(fixed, **({"dy": 0, "scale": 1} | still)) for still in stills]
    values = [float(boxes.iou(fixed, box)[0, 0]) for box in moved]
    alt = (
        "Six plots of a fixed square A and a square B: B exactly on A, shifted by a quarter of the side, shifted by "
        "half the side in both directions, twice as large, half as large, and outside A. "
        f"The IoU is {', '.join(f'{value:.2f}' for value in values)}."
    )
    return Explorer(_draw_at, controls, stills, alt, size=(3.2, 3.7), columns=3)


def _moved(box: np.ndarray, dx: float, dy: float, scale: float) -> np.ndarray:
    """Return `box` (1, 4) with its centre shifted by dx, dy pixels and its sides multiplied by `scale`, (1, 4)."""
    centred = boxes.convert(box, "xyxy", "cxcywh")
    return boxes.convert((centred + (dx, dy, 0, 0)) * (1, 1, scale, scale), "cxcywh", "xyxy")

"""The explorer of IoU: a box that slides over another and grows."""

from __future__ import annotations

from typing import Any

import numpy as np

from rcnn import boxes, plot
from rcnn.course.widgets._explorer import Explorer, Range

REACH = 1.25  # sides of the still box that the other slides to either side
GROWTH = 2.0  # times as long as the still box's that the other's sides may become, or as short


def box_iou(side: int = 20) -> Explorer:
    """A square A of `side` pixels, and a box B that slides over it and grows: their overlap, and its IoU.

    Where nothing can move: B in place, slid by a quarter, slid both ways, twice and half as large, and apart.

    Raises ValueError for a side below 4.
    """
    if side < 4:
        raise ValueError(f"side is {side}; it must be at least 4 pixels")
    still = np.array([[0, 0, side, side]], float)  # (1, 4)
    margin = side * (REACH + (GROWTH - 1) / 2) + 1
    limits = (-margin, -margin, side + margin, side + margin)

    def draw(figure: Any, dx: float, dy: float, scale: float) -> None:
        moved = _moved(still, dx, dy, scale)  # (1, 4)
        value = float(boxes.iou(still, moved)[0, 0])
        ax = plot.overlap(figure.subplots(), still[0], moved[0], limits=limits)
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
    return Explorer(draw, controls, stills, size=(3.2, 3.7), columns=3)


def _moved(box: np.ndarray, dx: float, dy: float, scale: float) -> np.ndarray:
    """`box` (1, 4) with its centre moved by dx, dy pixels and its sides `scale` times as long, (1, 4)."""
    formed = boxes.convert(box, "xyxy", "cxcywh")
    return boxes.convert((formed + (dx, dy, 0, 0)) * (1, 1, scale, scale), "cxcywh", "xyxy")

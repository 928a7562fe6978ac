"""Explorers: plots that move when a slider does, for what is understood by moving it.

    widgets.box_iou()

At the end of a notebook's cell each shows sliders and a plot that follows them. Where no kernel runs (a web page,
a printout) or ipywidgets is not installed, it shows plots of a few chosen positions, which say the same.
"""

from rcnn.course.widgets.anchor_painter import anchor_painter
from rcnn.course.widgets.box_iou import box_iou
from rcnn.course.widgets.nms_stepper import nms_stepper
from rcnn.course.widgets.pool_compare import pool_compare
from rcnn.course.widgets.score_threshold import score_threshold

__all__ = [
    "anchor_painter",
    "box_iou",
    "nms_stepper",
    "pool_compare",
    "score_threshold",
]

"""Explorers: interactive plots with sliders.

    widgets.box_iou()

If an explorer is the last line of a notebook cell, Jupyter shows its sliders and its plot. The plot changes when you
move a slider. If no kernel is running (on a web page or in print), or if ipywidgets is not installed, the explorer
shows plots for a few fixed values instead.
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

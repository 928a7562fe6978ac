"""Explorers: plots with sliders, for ideas that are easier to understand by moving something.

    widgets.box_iou()

As the last line of a notebook cell, an explorer shows sliders and a plot that follows them. Without a running kernel
(on a web page or in print) or without ipywidgets, it shows plots for a few chosen values instead.
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

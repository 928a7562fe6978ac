"""Checks of functions that learners have written.

    from rcnn import checks

    checks.iou(my_iou)

Each check takes a function. The docstring of the check describes the arguments and the result of that function. If
every result is right, the check returns None. Otherwise, it raises `CheckFailed`, whose message shows a failing input,
the function's output, the expected output and a hint. The input is as small as possible. Every call uses new random
inputs, unless you pass `seed=`. The check does not measure speed. It fails if the function changes its arguments.
After a check has failed, `checks.hint()` prints a second hint, and then where the course explains the exercise.
"""

from rcnn.checks._engine import CheckFailed
from rcnn.checks._hints import hint
from rcnn.checks.anchor_levels import anchor_generator
from rcnn.checks.anchors import cell_anchors, grid_anchors
from rcnn.checks.boxes import convert, decode, encode, iou
from rcnn.checks.faults import find_faults, resize_boxes
from rcnn.checks.heads import head_loss_gradient
from rcnn.checks.layers import conv2d_backward, top_down
from rcnn.checks.losses import (
    binary_cross_entropy,
    cross_entropy_gradient,
    rpn_loss_gradient,
    smooth_l1,
    smooth_l1_gradient,
)
from rcnn.checks.matching import match, sample
from rcnn.checks.measures import assign, average_precision
from rcnn.checks.own_images import choose_anchors, repair
from rcnn.checks.roi import roi_align, roi_align_backward, roi_pool, roi_pool_backward
from rcnn.checks.roi_axis import bin_bounds, bin_weights
from rcnn.checks.roi_sampling import roi_targets
from rcnn.checks.suppression import nms
from rcnn.checks.training import learning_rate, training_step

__all__ = [
    "CheckFailed",
    "anchor_generator",
    "assign",
    "average_precision",
    "bin_bounds",
    "bin_weights",
    "binary_cross_entropy",
    "cell_anchors",
    "choose_anchors",
    "conv2d_backward",
    "convert",
    "cross_entropy_gradient",
    "decode",
    "encode",
    "find_faults",
    "grid_anchors",
    "head_loss_gradient",
    "hint",
    "iou",
    "learning_rate",
    "match",
    "nms",
    "repair",
    "resize_boxes",
    "roi_align",
    "roi_align_backward",
    "roi_pool",
    "roi_pool_backward",
    "roi_targets",
    "rpn_loss_gradient",
    "sample",
    "smooth_l1",
    "smooth_l1_gradient",
    "top_down",
    "training_step",
]

"""Anchors: the boxes that the RPN refines, how well they cover the objects of a data set, and which cover them better.

    c = model.config
    print(anchors.coverage(dataset, model.anchor_generator, model.strides(), c.min_size, c.max_size))
    print(anchors.suggest(dataset, model.strides(), c.min_size, c.max_size))
"""

from rcnn.anchors._coverage import Coverage, CoverageRow, coverage
from rcnn.anchors._suggest import Suggestion, suggest
from rcnn.anchors.generator import AnchorGenerator, cell_anchors, grid_anchors, measure_stride

__all__ = [
    "AnchorGenerator",
    "Coverage",
    "CoverageRow",
    "Suggestion",
    "cell_anchors",
    "coverage",
    "grid_anchors",
    "measure_stride",
    "suggest",
]

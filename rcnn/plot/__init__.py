"""Pictures: every function takes axes and arrays and returns the axes, `(ax, arrays..., options) -> ax`.

    figure = plot.figure()
    plot.detections(figure.subplots(), picture, boxes, scores, labels, class_names)

`trace_strip` and `stage_pictures` draw a whole pass through the detector and return figures. One style serves all
(`style`); colours are safe for colour-blind readers. `annotate` alone takes and returns a picture, without axes, for
detections are drawn in a photo's own pixels.
"""

from rcnn.plot.curves import funnel, loss_curves, precision_recall
from rcnn.plot.features import feature_map, pooled_features, sample_points
from rcnn.plot.photo import annotate
from rcnn.plot.stages import (
    anchor_level,
    boxes,
    cell_anchors,
    detections,
    image,
    matched_anchors,
    objectness,
    proposals,
)
from rcnn.plot.strip import stage_pictures, trace_strip
from rcnn.plot.style import figure, title

__all__ = [
    "anchor_level",
    "annotate",
    "boxes",
    "cell_anchors",
    "detections",
    "feature_map",
    "figure",
    "funnel",
    "image",
    "loss_curves",
    "matched_anchors",
    "objectness",
    "pooled_features",
    "precision_recall",
    "proposals",
    "sample_points",
    "stage_pictures",
    "title",
    "trace_strip",
]

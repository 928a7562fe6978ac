"""Pictures: every function takes axes and arrays and returns the axes, `(ax, arrays..., options) -> ax`.

    figure = plot.figure()
    plot.detections(figure.subplots(), picture, boxes, scores, labels, class_names)

`trace_strip` and `stage_pictures` draw a whole pass through the detector and return figures. One style serves all
(`style`); colours are safe for colour-blind readers. `annotate` alone takes and returns a picture, without axes, for
detections are drawn in a photo's own pixels.
"""

from rcnn.plot.coverage import coverage, coverage_histogram
from rcnn.plot.curves import funnel, loss_curves, precision_recall, training_curves
from rcnn.plot.features import feature_map, pooled_features, sample_points
from rcnn.plot.measures import (
    ap_bars,
    confusion_matrix,
    error_kinds,
    evaluation_page,
    precision_recall_classes,
    stage_recall,
)
from rcnn.plot.photo import annotate
from rcnn.plot.sheet import contact_sheet
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
from rcnn.plot.style import figure, png, title

__all__ = [
    "anchor_level",
    "annotate",
    "ap_bars",
    "boxes",
    "cell_anchors",
    "confusion_matrix",
    "contact_sheet",
    "coverage",
    "coverage_histogram",
    "detections",
    "error_kinds",
    "evaluation_page",
    "feature_map",
    "figure",
    "funnel",
    "image",
    "loss_curves",
    "matched_anchors",
    "objectness",
    "png",
    "pooled_features",
    "precision_recall",
    "precision_recall_classes",
    "proposals",
    "sample_points",
    "stage_recall",
    "stage_pictures",
    "title",
    "trace_strip",
    "training_curves",
]

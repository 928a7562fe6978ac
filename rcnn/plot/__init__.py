"""Plots of every stage of a detector.

Most functions draw on axes and return these axes. The axes are the first argument. Arrays come next, and options come
last:

    figure = plot.figure()
    plot.detections(figure.subplots(), image, boxes, scores, labels, class_names)

`trace_strip`, `training_curves`, `evaluation_page` and `contact_sheet` return a whole figure, and `stage_figures`
yields one figure for each stage. `annotate` takes a photo as an array, draws detections into a copy of it, and returns
the new array.

The module `style` defines the common style of all plots. Its colours are safe for colour-blind readers. The other
modules group the plots by topic, as in the course.
"""

from rcnn.plot.anchors import (
    anchor_order,
    best_anchors,
    coverage,
    coverage_histogram,
    coverage_map,
    match_bands,
    match_shares,
)
from rcnn.plot.evaluation import (
    ap_bars,
    confusion_matrix,
    error_kinds,
    evaluation_page,
    findings,
    interpolation,
    precision_recall,
    precision_recall_classes,
    ranked_boxes,
    ranked_curve,
    ranking,
    stage_recall,
)
from rcnn.plot.features import cells_and_pixels, feature_map, influence, sliding_windows, windows_legend
from rcnn.plot.geometry import (
    box_formats,
    delta_histograms,
    fit_histogram,
    iou_surface,
    moves,
    overlap,
    pixel_boxes,
    pixel_grid,
)
from rcnn.plot.images import annotate, contact_sheet
from rcnn.plot.overview import (
    anchor_level,
    boxes,
    cell_anchors,
    detections,
    funnel,
    matched_anchors,
    objectness,
    proposals,
    stage_figures,
    trace_strip,
)
from rcnn.plot.pooling import (
    bin_values,
    bins_legend,
    pooled_features,
    quantised_bins,
    roi_batch,
    sample_points,
    shift_curves,
)
from rcnn.plot.style import figure, image, png, title
from rcnn.plot.suppression import growth, recall_steps, suppression_legend, suppression_queue, suppression_step
from rcnn.plot.training import (
    gradient_by_class,
    gradient_errors,
    gradient_flow,
    gradient_table,
    levels,
    lines,
    loss_curves,
    nearest_proposals,
    settling,
    training_curves,
)

__all__ = [
    "anchor_level",
    "anchor_order",
    "annotate",
    "ap_bars",
    "best_anchors",
    "bin_values",
    "bins_legend",
    "box_formats",
    "boxes",
    "cell_anchors",
    "cells_and_pixels",
    "confusion_matrix",
    "contact_sheet",
    "coverage",
    "coverage_histogram",
    "coverage_map",
    "delta_histograms",
    "detections",
    "error_kinds",
    "evaluation_page",
    "feature_map",
    "figure",
    "findings",
    "fit_histogram",
    "funnel",
    "gradient_by_class",
    "gradient_errors",
    "gradient_flow",
    "gradient_table",
    "growth",
    "image",
    "influence",
    "interpolation",
    "iou_surface",
    "levels",
    "lines",
    "loss_curves",
    "match_bands",
    "match_shares",
    "matched_anchors",
    "moves",
    "nearest_proposals",
    "objectness",
    "overlap",
    "pixel_boxes",
    "pixel_grid",
    "png",
    "pooled_features",
    "precision_recall",
    "precision_recall_classes",
    "proposals",
    "quantised_bins",
    "ranked_boxes",
    "ranked_curve",
    "ranking",
    "recall_steps",
    "roi_batch",
    "sample_points",
    "settling",
    "shift_curves",
    "sliding_windows",
    "stage_figures",
    "stage_recall",
    "suppression_legend",
    "suppression_queue",
    "suppression_step",
    "title",
    "trace_strip",
    "training_curves",
    "windows_legend",
]

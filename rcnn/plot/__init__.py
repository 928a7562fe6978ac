"""Pictures: every function takes axes and arrays and returns the axes, `(ax, arrays..., options) -> ax`.

    figure = plot.figure()
    plot.detections(figure.subplots(), picture, boxes, scores, labels, class_names)

`trace_strip` and `stage_pictures` draw a whole pass through the detector and return figures. One style serves all
(`style`); colours are safe for colour-blind readers. `annotate` alone takes and returns a picture, without axes, for
detections are drawn in a photo's own pixels.
"""

from rcnn.plot.anchor_maps import anchor_order, best_anchors, coverage_map, match_bands, match_shares
from rcnn.plot.bins import bin_values, bins_legend, quantised_bins, shift_curves
from rcnn.plot.coverage import coverage, coverage_histogram
from rcnn.plot.curves import funnel, loss_curves, precision_recall, training_curves
from rcnn.plot.features import feature_map, pooled_features, sample_points
from rcnn.plot.gallery import fit_histogram, pixel_boxes
from rcnn.plot.geometry import box_formats, delta_histograms, iou_surface, lines, moves, overlap, pixel_grid
from rcnn.plot.gradients import gradient_by_class, gradient_flow, gradient_table
from rcnn.plot.losses import gradient_errors
from rcnn.plot.measures import (
    ap_bars,
    confusion_matrix,
    error_kinds,
    evaluation_page,
    precision_recall_classes,
    stage_recall,
)
from rcnn.plot.photo import annotate
from rcnn.plot.ranking import interpolation, ranked_boxes, ranked_curve, ranking
from rcnn.plot.receptive import cells_and_pixels, influence, sliding_windows, windows_legend
from rcnn.plot.roi_batch import roi_batch
from rcnn.plot.settling import findings, levels, nearest_proposals, settling
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
from rcnn.plot.suppression import growth, recall_steps, suppression_legend, suppression_queue, suppression_step

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
    "stage_pictures",
    "stage_recall",
    "suppression_legend",
    "suppression_queue",
    "suppression_step",
    "title",
    "trace_strip",
    "training_curves",
    "windows_legend",
]

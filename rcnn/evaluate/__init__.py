"""Metrics of a detector and of its anchors: average precision, kinds of error, recall by stage, anchor coverage.

For example:

    result = evaluate.evaluate(model, dataset)
    print(result.mean_ap)
    c = model.config
    print(evaluate.coverage(dataset, model.anchor_generator, model.strides(), c.min_size, c.max_size))
    print(evaluate.suggest(dataset, model.strides(), c.min_size, c.max_size))
"""

from rcnn.evaluate.anchor_coverage import Coverage, CoverageRow, coverage
from rcnn.evaluate.anchor_suggestion import Suggestion, suggest
from rcnn.evaluate.classes import match_classes, rename
from rcnn.evaluate.coco import CocoEvaluation, evaluate_coco
from rcnn.evaluate.errors import KINDS, Errors, confusion, error_kinds
from rcnn.evaluate.results import read_results, results_json
from rcnn.evaluate.stages import StageRecall, join_stages, recall_by_stage, trace_dataset
from rcnn.evaluate.voc import (
    METHODS,
    Detector,
    Evaluation,
    average_precision,
    evaluate,
    evaluate_detections,
    precision_recall,
    predictions,
)

__all__ = [
    "KINDS",
    "METHODS",
    "CocoEvaluation",
    "Coverage",
    "CoverageRow",
    "Detector",
    "Errors",
    "Evaluation",
    "StageRecall",
    "Suggestion",
    "average_precision",
    "confusion",
    "coverage",
    "error_kinds",
    "evaluate",
    "evaluate_coco",
    "evaluate_detections",
    "join_stages",
    "match_classes",
    "precision_recall",
    "predictions",
    "read_results",
    "recall_by_stage",
    "rename",
    "results_json",
    "suggest",
    "trace_dataset",
]

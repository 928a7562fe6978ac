"""How good a detector is: average precision as PASCAL VOC and COCO define it, and which stage loses what.

    result = evaluate.evaluate(model, dataset)
    print(result.mean_ap)
"""

from rcnn.evaluate.classes import match_classes, rename
from rcnn.evaluate.coco import CocoEvaluation, evaluate_coco
from rcnn.evaluate.errors import KINDS, Errors, confusion, error_kinds
from rcnn.evaluate.results import read_results, results_json
from rcnn.evaluate.stages import StageRecall, recall_by_stage, trace_dataset
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
    "Detector",
    "Errors",
    "Evaluation",
    "StageRecall",
    "average_precision",
    "confusion",
    "error_kinds",
    "evaluate",
    "evaluate_coco",
    "evaluate_detections",
    "match_classes",
    "precision_recall",
    "predictions",
    "read_results",
    "recall_by_stage",
    "rename",
    "results_json",
    "trace_dataset",
]

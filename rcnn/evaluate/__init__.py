"""How good a detector is: average precision as PASCAL VOC and COCO define it, and which stage loses what.

    result = evaluate.evaluate(model, dataset)
    print(result.mean_ap)
"""

from rcnn.evaluate.voc import (
    METHODS,
    Detector,
    Evaluation,
    average_precision,
    evaluate,
    evaluate_detections,
    precision_recall,
)

__all__ = [
    "METHODS",
    "Detector",
    "Evaluation",
    "average_precision",
    "evaluate",
    "evaluate_detections",
    "precision_recall",
]

"""Ready-made detectors, their class names, and their weights: checkpoints, downloads and a reader of .pth files."""

from rcnn.zoo.checkpoint import CheckpointError, load, load_digits, load_into, save
from rcnn.zoo.classes import COCO_NAMES
from rcnn.zoo.detectors import (
    faster_rcnn_mobilenet_fpn,
    faster_rcnn_mobilenet_v3_large_320_fpn,
    faster_rcnn_mobilenet_v3_large_fpn,
    faster_rcnn_resnet_50_fpn,
    faster_rcnn_resnet_50_fpn_v2,
    faster_rcnn_resnet_101_fpn,
    faster_rcnn_resnet_fpn,
    faster_rcnn_small,
    load_detector,
)

__all__ = [
    "COCO_NAMES",
    "CheckpointError",
    "faster_rcnn_mobilenet_fpn",
    "faster_rcnn_mobilenet_v3_large_320_fpn",
    "faster_rcnn_mobilenet_v3_large_fpn",
    "faster_rcnn_resnet_101_fpn",
    "faster_rcnn_resnet_50_fpn",
    "faster_rcnn_resnet_50_fpn_v2",
    "faster_rcnn_resnet_fpn",
    "faster_rcnn_small",
    "load",
    "load_detector",
    "load_digits",
    "load_into",
    "save",
]

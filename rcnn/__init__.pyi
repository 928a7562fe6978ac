from . import anchors as anchors
from . import backbones as backbones
from . import boxes as boxes
from . import checks as checks
from . import course as course
from . import data as data
from . import doctor as doctor
from . import evaluate as evaluate
from . import fpn as fpn
from . import images as images
from . import matching as matching
from . import nms as nms
from . import nn as nn
from . import plot as plot
from . import roi as roi
from . import roi_heads as roi_heads
from . import rpn as rpn
from . import train as train
from . import transform as transform
from . import views as views
from . import zoo as zoo
from ._ext.backend import set_conv_algorithm, set_num_threads, use_backend
from ._ext.dispatch import replace
from .config import FasterRCNNConfig
from .model import FasterRCNN
from .nn.random import seed
from .trace import Trace
from .zoo.checkpoint import CheckpointError, load, load_digits, save
from .zoo.detectors import (
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

__version__: str

__all__ = [
    "CheckpointError",
    "FasterRCNN",
    "FasterRCNNConfig",
    "Trace",
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
    "replace",
    "save",
    "seed",
    "set_conv_algorithm",
    "set_num_threads",
    "use_backend",
]

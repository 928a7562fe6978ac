"""rcnn: a Faster R-CNN to read, to take apart and to use. NumPy, with Cython kernels."""

from rcnn._backend import set_conv_algorithm, set_num_threads, use_backend
from rcnn.checkpoint import CheckpointError, load, load_digits, save
from rcnn.config import FasterRCNNConfig
from rcnn.factories import (
    faster_rcnn_resnet_50_fpn,
    faster_rcnn_resnet_101_fpn,
    faster_rcnn_resnet_fpn,
    faster_rcnn_small,
    load_detector,
)
from rcnn.model import FasterRCNN
from rcnn.nn.random import seed
from rcnn.trace import Trace

__version__ = "0.1.0"

__all__ = [
    "CheckpointError", "FasterRCNN", "FasterRCNNConfig", "Trace", "faster_rcnn_resnet_101_fpn",
    "faster_rcnn_resnet_50_fpn", "faster_rcnn_resnet_fpn", "faster_rcnn_small", "load", "load_detector", "load_digits",
    "save", "seed", "set_conv_algorithm", "set_num_threads", "use_backend",
]

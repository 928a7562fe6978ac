"""rcnn: a Faster R-CNN to read, to take apart and to use. NumPy, with Cython kernels."""

from rcnn._backend import set_num_threads, use_backend
from rcnn.nn.random import seed

__version__ = "0.1.0"

__all__ = ["seed", "set_num_threads", "use_backend"]

"""A Faster R-CNN to read, to take apart and to use, written in NumPy with Cython kernels.

The public names are listed in `__init__.pyi`. Each name is imported when it is first used. For example,
`from rcnn.boxes import iou` loads little more than NumPy.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

"""A program for Pyodide without NumPy: it loads every kernel, and compares the IoU of two boxes with its value."""

import array

from rcnn import _ext
from rcnn._ext.table import KERNELS

for name in KERNELS:
    _ext.load(name)


def floats(*values, shape):
    return memoryview(array.array("f", values)).cast("B").cast("f", shape)


boxes, columns, out = floats(0, 0, 2, 2, shape=[1, 4]), floats(0, 0, 2, 1, shape=[4, 1]), floats(0, shape=[1, 1])
_ext.load("_boxes").iou(boxes, columns, out, 2)
print(f"{len(KERNELS)} kernels of {_ext._build.compiler()}, of the levels {_ext.usable_levels()}; iou {out[0, 0]}")

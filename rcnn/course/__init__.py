"""Course: functions for the notebooks, and the export of the notebooks to a folder.

In a notebook:

    from rcnn import course

    course.source(boxes.iou)               # shows the source code of a function of the library
    course.compare(boxes.iou, a, b)        # runs it with NumPy and with the compiled kernels, and prints both times

Lecturers use `export` to write the notebooks to a folder, either without solutions or as an nbgrader course. The
command `rcnn course export` does the same.
"""

from rcnn.course.aids import compare, source
from rcnn.course.export import export

__all__ = ["compare", "export", "source"]

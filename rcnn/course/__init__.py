"""The course: its notebooks, their export, and the functions that they use.

In a notebook:

    from rcnn import course

    course.source(boxes.iou)               # shows the code of a function of the library
    course.compare(boxes.iou, a, b)        # runs it on NumPy and on the kernels, and prints both times

Lecturers use `export` to write the course into a folder, either without solutions or as an nbgrader course. The command
`rcnn course export` does the same.
"""

from rcnn.course.aids import compare, source
from rcnn.course.export import export

__all__ = ["compare", "export", "source"]

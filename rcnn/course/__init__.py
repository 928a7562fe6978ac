"""The course: its notebooks as they are written, what a learner gets of them, and what they use themselves.

In a notebook:

    from rcnn import course

    course.source(boxes.iou)               # shows a function as it stands in the library
    course.compare(boxes.iou, a, b)        # runs it on NumPy and on the kernels, and prints both times

For lecturers, `export` writes the course into a folder: for learners without the solutions, or whole, as a course of
nbgrader. `rcnn course export` does the same from a terminal.
"""

from rcnn.course.aids import compare, source
from rcnn.course.export import export

__all__ = ["compare", "export", "source"]

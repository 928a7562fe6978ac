"""Course: functions for the notebooks, and the export of the notebooks to a folder.

In a notebook:

    from rcnn import course

    course.source(boxes.iou)               # shows the source code of a function of the library
    course.compare(boxes.iou, a, b)        # runs it with NumPy and with the compiled kernels, and prints both times
    course.with_and_without("nms", mine)   # runs the digit detector with the library's stage and with your function
    course.show(figure, "Two boxes ...")   # shows a figure with alternative text
    course.player(draw, ["Step 1 ...", ])  # shows a figure in steps, with buttons and a slider
    course.quiz("Which box ...")           # asks questions, and shows at once whether an answer is right
    course.photos.load("coffee")           # returns a real photograph with annotated objects

Lecturers use `export` to write the notebooks to a folder, without solutions, as an nbgrader course, or both, and with
variants of exercises for a seed. `export_lite` writes a web site in which the notebooks run in the browser. `progress`
shows which checks have passed. The commands `rcnn course export` and `rcnn course progress` do the same.
"""

import sys

from tqdm import tqdm

from rcnn.course import photos
from rcnn.course.aids import compare, source
from rcnn.course.animation import player
from rcnn.course.export import export
from rcnn.course.figures import show
from rcnn.course.lite import export_lite
from rcnn.course.progress import progress
from rcnn.course.questions import quiz
from rcnn.course.replacement import with_and_without

__all__ = [
    "compare",
    "export",
    "export_lite",
    "photos",
    "player",
    "progress",
    "quiz",
    "show",
    "source",
    "with_and_without",
]

if sys.platform == "emscripten":  # a browser, which has no threads; tqdm would print a warning
    tqdm.monitor_interval = 0

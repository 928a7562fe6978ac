"""HTML files for a web browser: a viewer for a data set with its detections, and the report of a training run.

Each file works without a network and without a server. Everything that comes from a data set, such as the names of
files and classes, is escaped.
"""

from rcnn.cli.html.entries import Entry, FirstImages, make_entries
from rcnn.cli.html.report import Measured, measure, write_report
from rcnn.cli.html.viewer import write_viewer

__all__ = ["Entry", "FirstImages", "Measured", "make_entries", "measure", "write_report", "write_viewer"]

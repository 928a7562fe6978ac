"""Draw docs/history.png: which parts of the detectors in docs/history.md are designed by hand, and which are learned.

    python benchmarks/history.py [--plot docs/history.png]

The script requires only rcnn.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from rcnn import plot
from rcnn.plot import style

COLUMNS = ("where to look", "features", "class and box", "duplicates")
HAND, LEARNED = "#f6cd8b", "#a9d5f2"  # pale orange and pale blue, on which black text is legible
COURSE = "Faster R-CNN"  # the detector of the course
WIDTH, ROW = 7.0, 0.34  # inches
LEFT, CELL, GAP = 2.72, 2.0, 0.05  # widths of the names, of a cell, and of the gap between two cells, in one unit


@dataclass(frozen=True)
class Detector:
    """A published detector; each of the four columns lists its parts, and "*" marks a part that is learned."""

    year: int
    name: str
    parts: tuple[str, str, str, str]


# In a column, "anchors + *RPN" stands for two parts: anchors, designed by hand, and a learned RPN.
DETECTORS = (
    Detector(2001, "Viola and Jones", ("every window", "Haar + *choice", "*boosting", "merging")),
    Detector(2005, "HOG", ("every window", "HOG", "*linear SVM", "NMS")),
    Detector(2010, "DPM", ("every window", "HOG", "*SVM with parts", "NMS")),
    Detector(2013, "Selective Search", ("segmentation", "SIFT words", "*SVM", "NMS")),
    Detector(2014, "R-CNN", ("segmentation", "*CNN per region", "*SVM, boxes", "NMS")),
    Detector(2014, "SPPnet", ("segmentation", "*CNN per image", "*SVM, boxes", "NMS")),
    Detector(2015, "Fast R-CNN", ("segmentation", "*CNN per image", "*one head", "NMS")),
    Detector(2015, "Faster R-CNN", ("anchors + *RPN", "*CNN per image", "*one head", "NMS")),
    Detector(2016, "YOLO", ("grid of cells", "*CNN per image", "*one stage", "NMS")),
    Detector(2016, "SSD", ("anchors", "*CNN, 6 maps", "*one stage", "NMS")),
    Detector(2016, "R-FCN", ("anchors + *RPN", "*CNN per image", "*score maps", "NMS")),
    Detector(2017, "FPN", ("anchors + *RPN", "*pyramid", "*one head", "NMS")),
    Detector(2017, "Mask R-CNN", ("anchors + *RPN", "*pyramid", "*head, masks", "NMS")),
    Detector(2017, "RetinaNet", ("anchors", "*pyramid", "*one stage", "NMS")),
    Detector(2018, "Cascade R-CNN", ("anchors + *RPN", "*pyramid", "*three heads", "NMS")),
    Detector(2019, "FCOS", ("every location", "*pyramid", "*one stage", "NMS")),
    Detector(2020, "DETR", ("*queries", "*transformer", "*one stage", "*set loss")),
    Detector(2021, "Deformable DETR", ("*queries", "*transformer", "*one stage", "*set loss")),
    Detector(2024, "RT-DETR", ("*queries", "*transformer", "*one stage", "*set loss")),
)


def draw() -> Figure:
    """Return the figure: one row for each detector, by year, and one column for each part of a detector."""
    figure = plot.figure(WIDTH, ROW * (len(DETECTORS) + 2.6))
    figure.set_layout_engine("none")
    ax = figure.add_axes((0.005, 0.005, 0.99, 0.99))
    ax.set(xlim=(0, LEFT + len(COLUMNS) * CELL + GAP), ylim=(len(DETECTORS) + 0.15, -2.45))
    ax.set_axis_off()
    _legend(ax)
    for column, name in enumerate(COLUMNS):
        _text(ax, LEFT + (column + 0.5) * CELL, -0.5, name, weight="bold", align="center")
    ax.plot([0.72, 0.72], [0.1, len(DETECTORS) - 0.1], color=style.FAINT, linewidth=2, zorder=1)
    for row, detector in enumerate(DETECTORS):
        first = row == 0 or DETECTORS[row - 1].year != detector.year
        ours = detector.name == COURSE
        _text(ax, 0.58, row + 0.5, str(detector.year) if first else "", color=style.GREY, align="right")
        ax.plot(0.72, row + 0.5, "o", color=style.INK if ours else style.NEUTRAL, markersize=5)
        _text(ax, 0.88, row + 0.5, detector.name, weight="bold" if ours else "normal")
        for column, parts in enumerate(detector.parts):
            _cell(ax, LEFT + column * CELL, row, parts.split(" + "))
        if ours:
            ax.add_patch(
                Rectangle(
                    (LEFT - GAP, row), len(COLUMNS) * CELL + GAP, 1, fill=False, edgecolor=style.INK, linewidth=1.8
                )
            )
    return figure


def _legend(ax: Axes) -> None:
    """Draw the colours and the frame with their meanings above the table."""
    for x, color, text in (
        (0.1, HAND, "designed by hand"),
        (2.9, LEARNED, "learned from data"),
        (5.8, "white", "the detector of the course"),
    ):
        edge = style.INK if color == "white" else "none"
        ax.add_patch(Rectangle((x, -2.05), 0.35, 0.7, facecolor=color, edgecolor=edge, linewidth=1.8))
        _text(ax, x + 0.5, -1.7, text)


def _cell(ax: Axes, x: float, row: int, parts: list[str]) -> None:
    """Draw the parts of one cell side by side; a part is wide in proportion to its text."""
    lengths = [len(part.lstrip("*")) + 2 for part in parts]
    for part, length in zip(parts, lengths, strict=True):
        width = (CELL - GAP) * length / sum(lengths)
        color = LEARNED if part.startswith("*") else HAND
        ax.add_patch(Rectangle((x, row + 0.07), width, 0.86, facecolor=color, edgecolor="none", zorder=2))
        _text(ax, x + width / 2, row + 0.5, part.lstrip("*"), align="center")
        x += width


def _text(
    ax: Axes, x: float, y: float, text: str, weight: str = "normal", align: str = "left", color: str = style.INK
) -> None:
    """Write text, vertically centred."""
    ax.text(x, y, text, ha=align, va="center", fontsize=style.TEXT_SIZE + 0.5, fontweight=weight, color=color, zorder=3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--plot", type=Path, metavar="FILE", default=Path("docs/history.png"), help="default: %(default)s"
    )
    draw().savefig(parser.parse_args().plot, dpi=200)


if __name__ == "__main__":
    main()

"""The RoIs that the second stage learns from, cut out and sorted by class: `(ax, arrays..., options) -> ax`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from rcnn.plot import style
from rcnn.plot.style import as_array, as_boxes

_ROOM = 0.08  # between two cut-outs, of their side


def roi_batch(
    ax: Axes,
    picture: np.ndarray,
    rois: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[str] | None = None,
    most: int = 12,
) -> Axes:
    """What the `rois` (R, 4) show of `picture`, a row for each class of `labels` (R,), with how many there are of it.

    Each RoI is stretched to a square, as pooling does. Of each class the first `most` are shown.
    """
    shown = np.asarray(picture)
    shown = shown / 255.0 if shown.dtype == np.uint8 else np.clip(shown.astype(float), 0, 1)
    corners = as_boxes("rois", rois)
    classes = as_array("labels", labels, (len(corners),)).astype(int)
    style.frame(ax)
    present = np.unique(classes)
    if len(present) == 0:
        return style.note(ax, "no RoIs")
    names = []
    for row, label in enumerate(present):
        mine = corners[classes == label]
        names.append(f"{class_names[label] if class_names is not None else label}: {len(mine)}")
        for column, corner in enumerate(mine[:most]):
            _cut_out(ax, shown, corner, column, row, style.label_color(int(label)))
        if len(mine) > most:
            ax.text(most + 0.1, row + 0.5, "...", va="center", fontsize=style.TEXT_SIZE + 1, color=style.GREY)
    columns = min(most, int(np.bincount(classes).max()))
    ax.set(xlim=(-_ROOM, columns + 0.5), ylim=(len(present), -_ROOM))
    ax.set_yticks(np.arange(len(present)) + 0.5, names)
    style.ticks(ax)
    ax.tick_params(length=0)
    ax.set_facecolor("white")
    ax.spines[:].set_visible(False)
    return ax


def _cut_out(ax: Axes, picture: np.ndarray, corner: np.ndarray, column: int, row: int, color: str) -> None:
    """The pixels under a box, at least one, in the cell of this column and row."""
    height, width = picture.shape[:2]
    left, top = (int(np.clip(np.floor(at), 0, side - 1)) for at, side in zip(corner[:2], (width, height), strict=True))
    right, bottom = (int(np.clip(np.ceil(at), low + 1, side))
                     for at, low, side in zip(corner[2:], (left, top), (width, height), strict=True))  # fmt: skip
    side = 1 - _ROOM
    ax.imshow(picture[top:bottom, left:right], extent=(column, column + side, row + side, row), aspect="equal")
    ax.add_patch(Rectangle((column, row), side, side, fill=False, edgecolor=color, linewidth=style.LINE_WIDTH))

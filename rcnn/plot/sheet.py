"""A contact sheet: up to sixteen annotated pictures on one page, to see at a glance whether the boxes are right."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from PIL import Image

from rcnn.plot import style
from rcnn.plot.stages import image
from rcnn.plot.style import as_array
from rcnn.plot.tags import Tags

MOST = 16  # pictures on a sheet
COLUMNS = 4
TILE, CAPTION, LEGEND = 3.2, 0.4, 0.4  # inches: a side of the square that shows a picture, the heights of the rest
MAX_PIXELS = 720  # of a picture's longer side; a tile has half as many
TAG_LENGTH, HEADING_LENGTH, CAPTION_LENGTH = 14, 34, 50  # characters
MAX_TAG_LENGTH = 160  # characters of all tags of a picture; beyond these it has none, and the colours tell the classes
MAX_EXCESS = 1.0  # pixels by which a box may reach beyond its picture
BEYOND = 0.25  # of a picture's sides, that is shown around it where boxes leave it
EDGE = 0.02  # of the square, left free around a picture, for the lines of boxes along its border
BROKEN = "#ff2a2a"  # no class has this colour


def contact_sheet(
    pictures: Sequence[np.ndarray | None],
    boxes_list: Sequence[np.ndarray],
    labels_list: Sequence[np.ndarray],
    class_names: Sequence[str],
    captions: Sequence[str] | None = None,
) -> Figure:
    """Up to sixteen `pictures` (H, W, 3), each with its boxes (G, 4), coloured and tagged by class.

    A box that is empty, reaches beyond its picture or has a label without a name is red and dashed; one that is not
    finite cannot be drawn, and is counted under the picture. None stands for a picture that cannot be read. The first
    line of a caption is bold, the second small.
    """
    if not 1 <= len(pictures) <= MOST:
        raise ValueError(f"a sheet has room for 1 to {MOST} pictures, got {len(pictures)}")
    words = [""] * len(pictures) if captions is None else captions
    for name, values in (("boxes_list", boxes_list), ("labels_list", labels_list), ("captions", words)):
        if len(values) != len(pictures):
            raise ValueError(f"{name} has {len(values)} entries for {len(pictures)} pictures")
    columns = min(COLUMNS, math.ceil(math.sqrt(len(pictures))))
    rows = math.ceil(len(pictures) / columns)
    side = TILE * max(1.0, 2 / columns)
    page = style.figure(columns * side, rows * (side + CAPTION) + LEGEND)
    tiles = page.subplots(rows, columns, squeeze=False).ravel()
    for ax in tiles[len(pictures) :]:
        ax.set_axis_off()
    two_lines = any("\n" in text for text in words)
    marked = False
    for i, (ax, picture) in enumerate(zip(tiles, pictures, strict=False)):
        boxes = as_array(f"boxes_list[{i}]", boxes_list[i], (None, 4)).astype(np.float64)
        labels = as_array(f"labels_list[{i}]", labels_list[i], (len(boxes),)).astype(np.int64)
        marked |= _tile(ax, picture, boxes, labels, class_names)
        heading, _, rest = words[i].partition("\n")
        style.title(ax, _shortened(heading, HEADING_LENGTH), _shortened(rest, CAPTION_LENGTH) or " " * two_lines)
    _legend(page, class_names, labels_list, marked, max(2 * columns, COLUMNS))
    return page


def _tile(
    ax: Axes, picture: np.ndarray | None, boxes: np.ndarray, labels: np.ndarray, class_names: Sequence[str]
) -> bool:
    """Whether one of the boxes (G, 4) is marked as broken; draws the picture and its boxes on a square."""
    if picture is None:
        ax.set(xlim=(0, 1), ylim=(1, 0))
        style.note(style.frame(ax), "cannot be read")
        return False
    size = np.array(np.asarray(picture).shape[1::-1])  # width, height
    finite = np.isfinite(boxes).all(axis=1)  # (G,)
    boxes, labels = boxes[finite], labels[finite]
    broken = (boxes[:, 2:] <= boxes[:, :2]).any(axis=1) | (labels < 1) | (labels >= len(class_names))
    broken |= (boxes[:, :2] < -MAX_EXCESS).any(axis=1) | (boxes[:, 2:] > size + MAX_EXCESS).any(axis=1)
    shown = _reduced(np.asarray(picture))
    image(ax, shown)
    corners = boxes * np.tile(shown.shape[1::-1] / size, 2)
    corners = np.concatenate([np.minimum(corners[:, :2], corners[:, 2:]),
                              np.maximum(corners[:, :2], corners[:, 2:])], axis=1)  # fmt: skip
    colors = [BROKEN if wrong else style.label_color(label) for wrong, label in zip(broken, labels, strict=True)]
    for corner, color, wrong in zip(corners, colors, broken, strict=True):
        _rectangle(ax, corner, color, "--" if wrong else "-")
    texts = [_shortened(class_names[label], TAG_LENGTH) if 1 <= label < len(class_names) else _unnamed(label)
             for label in labels.tolist()]  # fmt: skip
    if sum(len(text) + 1 for text in texts) <= MAX_TAG_LENGTH:
        ax.add_artist(Tags(corners, texts, colors))
    _make_square(ax, corners, np.array(shown.shape[1::-1]))
    if not finite.all():
        ax.annotate(f"not drawn: {(~finite).sum()} not finite", (0, 0), (4, 5), xycoords="axes fraction", zorder=6,
                    textcoords="offset points", fontsize=style.TEXT_SIZE, color="black",
                    bbox={"facecolor": BROKEN, "edgecolor": "none", "pad": 2})  # fmt: skip
    return bool(broken.any() or not finite.all())


def _unnamed(label: int) -> str:
    """What the tag of a label without a name says; readers give -1 to an object whose class they do not know."""
    return f"label {label}" if label >= 0 else "unknown"


def _reduced(picture: np.ndarray) -> np.ndarray:
    """The picture, made smaller where it has more pixels than a tile shows."""
    scale = MAX_PIXELS / max(picture.shape[:2])
    if scale >= 1 or picture.dtype != np.uint8:
        return picture
    size = (max(round(picture.shape[1] * scale), 1), max(round(picture.shape[0] * scale), 1))
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BOX))


def _rectangle(ax: Axes, corner: np.ndarray, color: str, linestyle: str) -> None:
    x1, y1, x2, y2 = corner
    ax.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=color, linestyle=linestyle,
                           linewidth=style.LINE_WIDTH, joinstyle="miter",
                           path_effects=style.outline(style.LINE_WIDTH), zorder=3))  # fmt: skip


def _make_square(ax: Axes, corners: np.ndarray, size: np.ndarray) -> None:
    """Makes `ax` show a square with a picture of `size` (width, height) in it, and some more where boxes leave it."""
    low = np.clip(corners[:, :2].min(axis=0, initial=0), -BEYOND * size, 0)
    high = np.clip(corners[:, 2:].max(axis=0, initial=0), size, (1 + BEYOND) * size)
    middle, half = (low + high) / 2, (1 + EDGE) * (high - low).max() / 2
    ax.set(xlim=(middle[0] - half, middle[0] + half), ylim=(middle[1] + half, middle[1] - half))
    ax.spines[:].set_visible(False)


def _legend(
    page: Figure, class_names: Sequence[str], labels_list: Sequence[np.ndarray], marked: bool, columns: int
) -> None:
    """Names the colours of the classes on `page`, unless classes share them, and that of broken boxes if `marked`."""
    labels = np.unique(np.concatenate([np.asarray(labels, np.int64).ravel() for labels in labels_list])).tolist()
    handles = []
    if len(class_names) - 1 <= len(style.PALETTE):
        handles = [Line2D([], [], color=style.label_color(label), linewidth=4,
                          label=_shortened(class_names[label], 2 * TAG_LENGTH))
                   for label in labels if 1 <= label < len(class_names)]  # fmt: skip
    if marked:
        handles.append(Line2D([], [], color=BROKEN, linestyle="--", linewidth=2, label="cannot be right"))
    if handles:
        page.legend(handles=handles, loc="outside lower left", ncols=columns, frameon=False, labelcolor=style.INK,
                    fontsize=style.TEXT_SIZE, handlelength=2.2, columnspacing=1.4)  # fmt: skip


def _shortened(text: str, length: int) -> str:
    """The text, or where it is longer than `length` its two ends, more of the second, around an ellipsis."""
    if len(text) <= length:
        return text
    end = 2 * (length - 1) // 3
    return f"{text[: length - 1 - end]}\u2026{text[len(text) - end :]}"

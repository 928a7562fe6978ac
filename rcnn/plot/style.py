"""The style that all plots share: colours, sizes, axes, legends, images and boxes, and the checks of arguments.

Nothing here changes matplotlib's global settings. Every drawing function styles the axes that it is given, so a plot
looks the same on axes from `figure()` and on axes from `pyplot.subplots()`.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.cm import ScalarMappable
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.patches import Rectangle
from matplotlib.patheffects import Normal, Stroke
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from matplotlib.transforms import ScaledTranslation
from PIL import Image

# Okabe and Ito, "Color Universal Design" (2008): eight colours that people with any colour vision tell apart. Their
# black is grey here, for black is what the boxes' outlines are made of.
PALETTE = ("#56B4E9", "#E69F00", "#009E73", "#F0E442", "#CC79A7", "#D55E00", "#0072B2", "#999999")
SKY, ORANGE, GREEN, YELLOW, PURPLE, VERMILION, BLUE, NEUTRAL = PALETTE
VALUES = "viridis"  # scores and probabilities, on images
ACTIVATIONS = "cividis"  # feature maps
INK, GREY, FAINT, PAPER = "#222222", "#6b6b6b", "#d9d9d9", "#f2f2f2"

# For curves: on white paper the darker half of the palette comes first.
CURVE_COLORS = (BLUE, ORANGE, GREEN, PURPLE, VERMILION, SKY, NEUTRAL)

Dashes = Literal["-", "--", "-.", ":"]
Corner = Literal["upper left", "upper right", "lower right", "best"]  # where a legend lies

TITLE_SIZE, TEXT_SIZE = 10.0, 8.0  # points; nothing is smaller than TEXT_SIZE
LINE_WIDTH, THIN_LINE = 1.6, 1.0  # points
DIMMED = (0.10, 0.48)  # what black and white become in an image under a drawing that matters more than it


class _NotebookFigure(Figure):
    """A figure that a notebook shows by itself, though pyplot does not know of it."""

    def _repr_png_(self) -> bytes:
        return png(self)


def png(figure: Figure) -> bytes:
    """A PNG of 256 colours: a third of the bytes, for a notebook carries its plots along with it.

    Maximum coverage finds the colours of thin lines, which an average over pixels would lose; one round of k-means
    then makes colour bars smoother.
    """
    drawn, packed = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png")
    with Image.open(drawn) as image:
        few = image.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=1, dither=Image.Dither.NONE)
    few.save(packed, format="png", optimize=True)
    return packed.getvalue()


def figure(width: float = 10.0, height: float = 5.0) -> Figure:
    """An empty figure of `width` by `height` inches at 100 dots per inch, on which nothing is clipped.

    It needs no display and is not kept in pyplot's list, so it is freed with its last reference. As the last line of a
    notebook's cell it shows itself. Axes come from its own method: `figure().subplots(1, 2)`.
    """
    empty = _NotebookFigure(figsize=(width, height), dpi=100, facecolor="white")
    empty.set_layout_engine("constrained", w_pad=0.08, h_pad=0.08)
    return empty


def label_color(label: int) -> str:
    """The colour of class `label`; the background (0) is grey, and the ninth class has the first one's colour again."""
    return NEUTRAL if label == 0 else PALETTE[(label - 1) % len(PALETTE)]


def contrasting(color: str) -> str:
    """Black or white: whichever has the higher contrast with `color` (WCAG 2.2, relative luminance)."""
    channels = np.asarray(to_rgb(color))
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return "black" if linear @ (0.2126, 0.7152, 0.0722) > 0.179 else "white"


def outline(width: float, color: str = "black") -> list[Stroke | Normal]:
    """Path effects that edge a line of `width` points, so that it is seen on a background of its own colour.

    The edge is solid under a dashed line, too: white dashes on black are seen everywhere.
    """
    solid = {"dash_offset": 0, "dash_list": None}
    return [Stroke(linewidth=width + 1.2, foreground=color, alpha=0.75, dashes=solid), Normal()]


def frame(ax: Axes) -> Axes:
    """`ax` in pixels: y pointing down, square pixels, no ticks, a faint border."""
    ax.set_aspect("equal")
    if not ax.yaxis_inverted():
        ax.invert_yaxis()
    ax.set_xticks([])
    ax.set_yticks([])
    ax.set_facecolor(PAPER)
    for spine in ax.spines.values():
        spine.set(color=FAINT, linewidth=0.8)
    return ax


def graph(ax: Axes, xlabel: str, ylabel: str) -> Axes:
    """`ax` for curves: two spines, small ticks, a faint grid, named axes."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["bottom", "left"]].set(color=GREY, linewidth=0.8)
    ax.grid(True, color=FAINT, linewidth=0.6)
    ax.set_axisbelow(True)
    ticks(ax)
    ax.set_xlabel(xlabel, fontsize=TEXT_SIZE + 1, color=INK)
    ax.set_ylabel(ylabel, fontsize=TEXT_SIZE + 1, color=INK)
    return ax


def ticks(ax: Axes) -> None:
    """Small grey ticks with legible numbers on `ax`."""
    ax.tick_params(which="major", labelsize=TEXT_SIZE, length=2.5, width=0.6, color=GREY, labelcolor=INK)
    ax.tick_params(which="minor", length=0, labelsize=TEXT_SIZE, labelcolor=INK)


def whole_number_ticks(ax: Axes) -> None:
    """Puts about six ticks at whole numbers on both axes of `ax`."""
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(6, integer=True))
    ticks(ax)


def powers_of_two(axis: Axis) -> None:
    """Puts the marks of a logarithmic axis at powers of two, written out."""
    axis.set_major_locator(LogLocator(base=2))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def name_pixels(ax: Axes) -> None:
    """Writes to both axes of an image that they count pixels."""
    ax.set_xlabel("x, pixels", fontsize=TEXT_SIZE + 1, color=INK)
    ax.set_ylabel("y, pixels", fontsize=TEXT_SIZE + 1, color=INK)


def image(ax: Axes, image: np.ndarray, dimmed: bool = False) -> Axes:
    """`image` (H, W, 3) or (H, W), uint8 or float in [0, 1]; `dimmed` where other drawings on it matter more."""
    array = np.asarray(image)
    if array.ndim == 2:
        array = np.repeat(array[:, :, None], 3, axis=2)  # (H, W, 3)
    array = as_array("image", array, (None, None, 3))
    if array.size == 0:
        raise ValueError(f"image has the shape {array.shape}; it must have at least one pixel")
    shown = array / 255.0 if array.dtype == np.uint8 else array.astype(np.float64)
    low, high = shown.min(), shown.max()
    if not (low >= -1e-6 and high <= 1 + 1e-6):
        raise ValueError(f"image has values from {low:g} to {high:g}; floats lie between 0 and 1, else it is uint8")
    height, width = shown.shape[:2]
    black, white = DIMMED if dimmed else (0.0, 1.0)
    ax.imshow(np.clip(black + (white - black) * shown, 0, 1), extent=(0, width, height, 0))
    ax.set(xlim=(0, width), ylim=(height, 0))
    return frame(ax)


def title(ax: Axes, heading: str, caption: str = "") -> Axes:
    """`ax` with a bold heading and, under it, a caption for shapes and counts."""
    ax.set_title(heading, loc="left", fontsize=TITLE_SIZE, fontweight="bold", color=INK, pad=16 if caption else 5)
    if caption:
        ax.annotate(
            caption,
            (0, 1),
            (0, 4),
            xycoords="axes fraction",
            textcoords="offset points",
            ha="left",
            va="bottom",
            fontsize=TEXT_SIZE,
            color=GREY,
            annotation_clip=False,
        )
    return ax


def note(ax: Axes, text: str) -> Axes:
    """`ax` with `text` in its middle: what is said where there is nothing to draw."""
    ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", va="center", fontsize=TEXT_SIZE + 1, color=GREY)
    return ax


def color_bar(ax: Axes, mappable: ScalarMappable, label: str = "") -> None:
    """Draws the scale of `mappable` along the right edge of `ax`, as high as its image."""
    bar = ax.figure.colorbar(mappable, cax=ax.inset_axes((1.03, 0.0, 0.045, 1.0)))
    bar.locator = MaxNLocator(nbins=4, steps=[1, 2, 2.5, 5, 10])
    bar.formatter = FuncFormatter(lambda value, _: f"{value:g}")
    bar.update_ticks()
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=TEXT_SIZE, length=2, width=0.6, color=GREY, labelcolor=INK, pad=2)
    bar.set_label(label, fontsize=TEXT_SIZE, color=INK)


def legend_below(ax: Axes, handles: Sequence[Artist], columns: int) -> Legend:
    """A legend under `ax`, in so many columns."""
    return _legend(ax, handles, loc="upper left", bbox_to_anchor=(0.0, -0.02), ncols=columns)


def legend_right(ax: Axes, handles: Sequence[Artist]) -> Legend:
    """A legend without a border to the right of `ax`."""
    return _legend(ax, handles, loc="upper left", bbox_to_anchor=(1.02, 1.0))


def legend_inside(ax: Axes, handles: Sequence[Artist], where: Corner, length: float = 2.0) -> Legend:
    """A legend on paper of its own inside `ax`; the lines in it are `length` letters long."""
    return ax.legend(
        handles=list(handles),
        loc=where,
        fontsize=TEXT_SIZE,
        labelcolor=INK,
        framealpha=0.9,
        edgecolor=FAINT,
        handlelength=length,
    )


def legend_under_name(ax: Axes, handles: Sequence[Artist]) -> Legend:
    """A legend in one row under the name of the horizontal axis."""
    below = ax.transAxes + ScaledTranslation(0, -36 / 72, ax.figure.dpi_scale_trans)  # points
    return ax.legend(
        handles=list(handles),
        loc="upper center",
        bbox_to_anchor=(0.5, 0),
        bbox_transform=below,
        ncols=max(len(handles), 1),
        frameon=False,
        borderpad=0,
        borderaxespad=0,
        fontsize=TEXT_SIZE,
        labelcolor=INK,
        handlelength=1.2,
        columnspacing=1.4,
    )


def _legend(ax: Axes, handles: Sequence[Artist], **where: Any) -> Legend:
    return ax.legend(
        handles=list(handles),
        borderpad=0.2,
        borderaxespad=0.0,
        frameon=False,
        fontsize=TEXT_SIZE,
        labelcolor=INK,
        handlelength=2.2,
        columnspacing=1.4,
        **where,
    )


def as_array(name: str, value: object, shape: Sequence[int | None]) -> np.ndarray:
    """`value` as an array of `shape`, None standing for any length; what is empty fits where a length may be 0.

    Raises ValueError naming the argument, the shape it has and the shape that is wanted.
    """
    array = np.asarray(value)
    if array.size == 0 and array.ndim < len(shape) and shape[0] is None:
        return np.zeros([length or 0 for length in shape])
    fits = array.ndim == len(shape) and all(want in (None, have) for want, have in zip(shape, array.shape, strict=True))
    if not fits:
        wanted = ", ".join("any" if length is None else str(length) for length in shape)
        raise ValueError(f"{name} has the shape {array.shape}; wanted is ({wanted})")
    return array


def as_boxes(name: str, value: object) -> np.ndarray:
    """`value` as float64 boxes (N, 4) or a ValueError that names the argument and the box that is not finite."""
    boxes = as_array(name, value, (None, 4)).astype(np.float64)
    bad = np.flatnonzero(~np.isfinite(boxes).all(axis=1))
    if bad.size:
        raise ValueError(f"{name}[{bad[0]}] is {boxes[bad[0]].tolist()}; a box has four finite coordinates")
    return boxes


def outlines(corners: np.ndarray) -> list[np.ndarray]:
    """The closed outlines, each (5, 2), of boxes (N, 4)."""
    return list(corners[:, [[0, 1], [2, 1], [2, 3], [0, 3], [0, 1]]])


def edged_box(ax: Axes, corner: np.ndarray, color: str, linestyle: str = "-", width: float = LINE_WIDTH) -> None:
    """Draws one box (4,) on `ax` as a line with dark edges."""
    x1, y1, x2, y2 = corner
    ax.add_patch(
        Rectangle(
            (x1, y1),
            x2 - x1,
            y2 - y1,
            fill=False,
            edgecolor=color,
            linestyle=linestyle,
            linewidth=width,
            joinstyle="miter",
            path_effects=outline(width),
            zorder=3,
        )
    )

"""Shared style of all plots: colours, sizes, axes, legends, images, boxes and argument checks.

This module does not change matplotlib's global settings. Every drawing function sets the style of its axes, so a plot
looks the same on axes from `figure()` and on axes from `pyplot.subplots()`.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal
from unicodedata import category

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager, get_font
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.patheffects import Normal, Stroke
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from matplotlib.transforms import ScaledTranslation
from PIL import Image

from rcnn.plot.arguments import checked

# Okabe and Ito, "Color Universal Design" (2008): eight colours that people with any colour vision can distinguish.
# Grey replaces the black of their palette, because the edges of boxes are black.
PALETTE = ("#56B4E9", "#E69F00", "#009E73", "#F0E442", "#CC79A7", "#D55E00", "#0072B2", "#999999")
SKY, ORANGE, GREEN, YELLOW, PURPLE, VERMILION, BLUE, NEUTRAL = PALETTE
CLASS_COLORS = (*PALETTE, "#6600CC", "#B3FF99")  # ten, one for each digit; the last two also differ from all others
VALUES = "viridis"  # colour map of scores, probabilities and IoU
ACTIVATIONS = "cividis"  # colour map of feature maps
INK, GREY, FAINT, PAPER = "#222222", "#6b6b6b", "#d9d9d9", "#f2f2f2"

# Colours of curves. Darker colours come first, because the background is white.
CURVE_COLORS = (BLUE, ORANGE, GREEN, PURPLE, VERMILION, SKY, NEUTRAL)

Dashes = Literal["-", "--", "-.", ":"]
Corner = Literal["upper left", "upper right", "lower right", "best"]  # position of a legend

TITLE_SIZE, TEXT_SIZE = 10.0, 8.0  # points; no text is smaller than TEXT_SIZE
LINE_WIDTH, THIN_LINE = 1.6, 1.0  # points
NO_FONT = "Last Resort"  # a font that has boxes for all characters
MISSING_CHARACTERS = (  # a warning
    "no installed font has all characters of the names in the image, so some are drawn as boxes; install a font that "
    "has them"
)
FARTHEST = 2.0**24  # largest coordinate that is drawn; matplotlib cannot draw much larger ones
DIMMED = (0.02, 0.62)  # values of black and white in a dimmed image, in [0, 1]


class _NotebookFigure(Figure):
    """A figure that a notebook can display, although pyplot does not manage it."""

    def _repr_png_(self) -> bytes:
        return png(self)


@checked
def png(figure: Figure, colors: int = 256) -> bytes:
    """Return a figure as a PNG image with at most 256 colours.

    The file is about a third as large as a full-colour PNG, which keeps notebooks small. Pillow's method `MAXCOVERAGE`
    chooses the colours, because methods that average over many pixels would lose the colours of thin lines. One round
    of k-means then makes colour bars smooth.

    Parameters
    ----------
    figure : Figure
        Figure to draw.
    colors : int, optional
        Number of colours, in 2 .. 256. A file with 64 colours is less than half as large as one with 256.

    Returns
    -------
    bytes
        Content of the PNG file.

    Raises
    ------
    ValueError
        If `colors` is out of range.
    """
    if not 2 <= colors <= 256:
        raise ValueError(f"colors must be in 2 .. 256, got {colors}")
    drawn, packed = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png")
    with Image.open(drawn) as image:
        few = image.convert("RGB").quantize(colors, Image.Quantize.MAXCOVERAGE, kmeans=1, dither=Image.Dither.NONE)
    few.save(packed, format="png", optimize=True)
    return packed.getvalue()


@checked
def figure(width: float = 10.0, height: float = 5.0) -> Figure:
    """Return an empty figure whose layout keeps all titles, labels and legends visible.

    The figure needs no display. pyplot does not store the figure, so its memory is freed when no reference to it is
    left. A notebook displays the figure if the last line of a cell evaluates to it. Create axes with a method of the
    figure, for example `figure().subplots(1, 2)`.

    Parameters
    ----------
    width, height : float
        Size in inches, in [0.05, 200]. There are 100 dots per inch.

    Returns
    -------
    Figure
        New figure with a white background.

    Raises
    ------
    ValueError
        If `width` or `height` is out of range.
    """
    for name, side in (("width", width), ("height", height)):
        if not 0.05 <= side <= 200:
            raise ValueError(f"{name} must be in [0.05, 200] inches, got {side:g}")
    empty = _NotebookFigure(figsize=(width, height), dpi=100, facecolor="white")
    empty.set_layout_engine("constrained", w_pad=0.08, h_pad=0.08)
    return empty


def label_color(label: int) -> str:
    """Return the colour of a class.

    Parameters
    ----------
    label : int
        Label of the class; 0 is the background.

    Returns
    -------
    str
        Colour as "#RRGGBB"; grey for the background. Colours repeat after ten classes.
    """
    return NEUTRAL if label == 0 else CLASS_COLORS[(label - 1) % len(CLASS_COLORS)]


def contrasting(color: str) -> str:
    """Return black or white, whichever has the higher contrast with a colour.

    Parameters
    ----------
    color : str
        Colour in any form that matplotlib accepts.

    Returns
    -------
    str
        "black" or "white".

    References
    ----------
    WCAG 2.2, definitions of relative luminance and contrast ratio.
    """
    channels = np.asarray(to_rgb(color))
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return "black" if linear @ (0.2126, 0.7152, 0.0722) > 0.179 else "white"


def outline(width: float, color: str = "black") -> list[Stroke | Normal]:
    """Return path effects that draw an edge around a line, so that the line is visible on any background.

    The edge of a dashed line is solid, so that white dashes are visible on a white background.

    Parameters
    ----------
    width : float
        Width of the line in points.
    color : str, optional
        Colour of the edge.

    Returns
    -------
    list of path effects
        Value for the argument `path_effects` of an artist.
    """
    solid = {"dash_offset": 0, "dash_list": None}
    return [Stroke(linewidth=width + 1.2, foreground=color, alpha=0.75, dashes=solid), Normal()]


def clean(text: str) -> str:
    """Return text that can be drawn: control characters and lone surrogates are replaced by U+FFFD.

    Parameters
    ----------
    text : str
        Any text; line breaks are kept.

    Returns
    -------
    str
        Text of the same length.
    """
    if text.isprintable():
        return text
    return "".join("\ufffd" if category(c) in ("Cc", "Cs") and c != "\n" else c for c in text)


def literal(text: str) -> str:
    """Escape text so that matplotlib draws it literally, and not as a formula.

    matplotlib draws text between two dollar signs as a formula. Every name that a user chooses, such as a class name or
    a file name, passes through this function before it is drawn.

    Parameters
    ----------
    text : str
        Any text.

    Returns
    -------
    str
        The result of `clean(text)`, with a backslash before each dollar sign.
    """
    return clean(text).replace("$", r"\$")


def literals(texts: Iterable[str]) -> list[str]:
    """Apply `literal` to each text.

    Parameters
    ----------
    texts : iterable of str
        Texts, for example labels of ticks.

    Returns
    -------
    list of str
        Texts for matplotlib.
    """
    return [literal(str(text)) for text in texts]


def shown_label(text: str) -> str:
    """Return a legend label that matplotlib shows even if the text begins with an underscore.

    Parameters
    ----------
    text : str
        Label of a curve.

    Returns
    -------
    str
        The label. If `text` begins with an underscore, an invisible character comes before it.
    """
    return f"\u200b{text}" if text.startswith("_") else text


@functools.cache
def font_with(letters: frozenset[str]) -> tuple[str, str]:
    """Return the family and the file of a font that has `letters`.

    Parameters
    ----------
    letters : frozenset of str
        The characters to draw.

    Returns
    -------
    family, file : str
        DejaVu Sans, the font of the figures, which is installed with matplotlib. If it does not have all letters, the
        installed font that has the most of them.
    """
    own = ("DejaVu Sans", str(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")))
    if glyph_count(own[1], letters) == len(letters):
        return own
    others = [
        (entry.name, entry.fname)
        for entry in fontManager.ttflist
        if entry.style == "normal" and entry.weight == 400 and not entry.name.startswith(NO_FONT)
    ]
    return max([own, *others], key=lambda font: glyph_count(font[1], letters))


def glyph_count(file: str, letters: frozenset[str]) -> int:
    """Return how many of the letters a font has.

    Parameters
    ----------
    file : str
        The file of the font.
    letters : frozenset of str
        The characters.

    Returns
    -------
    int
        The number of letters; 0 if the file cannot be read.
    """
    try:
        font = get_font(file)
    except (OSError, RuntimeError):
        return 0
    return sum(font.get_char_index(ord(letter)) > 0 for letter in letters)


def use_installed_fonts(figure: Figure) -> None:
    """Change the font of the texts in a figure that contain characters which are missing in DejaVu Sans.

    Parameters
    ----------
    figure : Figure
        The figure, which is changed in place.
    """
    own = font_with(frozenset())
    letters = {text: frozenset(filter(str.isprintable, text.get_text())) for text in figure.findobj(Text)}
    foreign = [text for text, used in letters.items() if glyph_count(own[1], used) < len(used)]
    other = font_with(frozenset().union(*(letters[text] for text in foreign)))
    for text in foreign:
        text.set_fontfamily([own[0], other[0]])  # matplotlib takes each character from the first font that has it
        text.set_fontweight("normal")  # a bold font may have fewer characters


def frame(ax: Axes) -> Axes:
    """Style axes for pixels: y points down, pixels are square, there are no ticks, and the border is faint.

    Parameters
    ----------
    ax : Axes
        Axes to draw on.

    Returns
    -------
    Axes
        The axes `ax`.
    """
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
    """Style axes for curves: two spines, small ticks, a faint grid and axis labels.

    Parameters
    ----------
    ax : Axes
        Axes to draw on.
    xlabel, ylabel : str
        Axis labels.

    Returns
    -------
    Axes
        The axes `ax`.
    """
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["bottom", "left"]].set(color=GREY, linewidth=0.8)
    ax.grid(True, color=FAINT, linewidth=0.6)
    ax.set_axisbelow(True)
    ticks(ax)
    ax.set_xlabel(literal(xlabel), fontsize=TEXT_SIZE + 1, color=INK)
    ax.set_ylabel(literal(ylabel), fontsize=TEXT_SIZE + 1, color=INK)
    return ax


def ticks(ax: Axes) -> None:
    """Draw small grey ticks with legible numbers.

    Parameters
    ----------
    ax : Axes
        Axes to draw on.
    """
    ax.tick_params(which="major", labelsize=TEXT_SIZE, length=2.5, width=0.6, color=GREY, labelcolor=INK)
    ax.tick_params(which="minor", length=0, labelsize=TEXT_SIZE, labelcolor=INK)


def whole_number_ticks(ax: Axes) -> None:
    """Place about six ticks at whole numbers on each axis.

    Parameters
    ----------
    ax : Axes
        Axes to draw on.
    """
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(6, integer=True))
    ticks(ax)


def powers_of_two(axis: Axis) -> None:
    """Place the ticks of a logarithmic axis at powers of two, written without exponents.

    Parameters
    ----------
    axis : Axis
        The x or y axis to change.
    """
    axis.set_major_locator(LogLocator(base=2))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def name_pixels(ax: Axes) -> None:
    """Label both axes as pixel coordinates.

    Parameters
    ----------
    ax : Axes
        Axes to draw on.
    """
    ax.set_xlabel("x, pixels", fontsize=TEXT_SIZE + 1, color=INK)
    ax.set_ylabel("y, pixels", fontsize=TEXT_SIZE + 1, color=INK)


def check_image(name: str, image: np.ndarray) -> np.ndarray:
    """Return an RGB or grey image as an RGB image.

    Parameters
    ----------
    name : str
        Name of the argument; the error message contains it.
    image : (H, W, 3) or (H, W) array
        The image.

    Returns
    -------
    (H, W, 3) array
        The image.

    Raises
    ------
    ValueError
        If the shape is wrong or the image is empty.
    """
    array = np.asarray(image)
    if array.ndim == 2:
        array = np.repeat(array[:, :, None], 3, axis=2)  # (H, W, 3)
    array = as_array(name, array, (None, None, 3))
    if array.size == 0:
        raise ValueError(f"{name} must have at least one pixel, got shape {array.shape}")
    return array


@checked
def image(ax: Axes, image: np.ndarray, dimmed: bool = False) -> Axes:
    """Draw an image so that one unit of the axes is one pixel.

    Parameters
    ----------
    ax : Axes
        Axes to draw on.
    image : (H, W, 3) or (H, W) array
        RGB or grey image, uint8 or float in [0, 1].
    dimmed : bool, optional
        Reduce the contrast of the image, so that anything drawn on it stands out.

    Returns
    -------
    Axes
        The axes `ax`.

    Raises
    ------
    ValueError
        If the shape is wrong, if the image is empty, or if a floating-point value is outside [0, 1].
    """
    array = check_image("image", image)
    shown = array / 255.0 if array.dtype == np.uint8 else array.astype(np.float64)
    low, high = shown.min(), shown.max()
    if not (low >= -1e-6 and high <= 1 + 1e-6):
        raise ValueError(f"image must be uint8 or float in [0, 1], got floats from {low:g} to {high:g}")
    height, width = shown.shape[:2]
    black, white = DIMMED if dimmed else (0.0, 1.0)
    ax.imshow(np.clip(black + (white - black) * shown, 0, 1), extent=(0, width, height, 0))
    ax.set(xlim=(0, width), ylim=(height, 0))
    return frame(ax)


@checked
def title(ax: Axes, heading: str, caption: str = "") -> Axes:
    """Set a bold title and, under it, a small caption.

    Parameters
    ----------
    ax : Axes
        Axes to draw on.
    heading : str
        Title.
    caption : str, optional
        Caption, such as shapes and counts.

    Returns
    -------
    Axes
        The axes `ax`.
    """
    heading, caption = literals([heading, caption])
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


@checked
def note(ax: Axes, text: str) -> Axes:
    """Write text in the middle of axes that show no data.

    Parameters
    ----------
    ax : Axes
        Axes to draw on.
    text : str
        Text to write.

    Returns
    -------
    Axes
        The axes `ax`.
    """
    ax.text(
        0.5, 0.5, literal(text), transform=ax.transAxes, ha="center", va="center", fontsize=TEXT_SIZE + 1, color=GREY
    )
    return ax


def color_bar(ax: Axes, mappable: ScalarMappable, label: str = "") -> None:
    """Draw a colour bar along the right edge, as high as the axes.

    Parameters
    ----------
    ax : Axes
        Axes to draw on.
    mappable : ScalarMappable
        Drawn artist whose colours the colour bar explains.
    label : str, optional
        Label of the colour bar.
    """
    bar = ax.figure.colorbar(mappable, cax=ax.inset_axes((1.03, 0.0, 0.045, 1.0)))
    bar.locator = MaxNLocator(nbins=4, steps=[1, 2, 2.5, 5, 10])
    bar.formatter = FuncFormatter(lambda value, _: f"{value:g}")
    bar.update_ticks()
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=TEXT_SIZE, length=2, width=0.6, color=GREY, labelcolor=INK, pad=2)
    bar.set_label(literal(label), fontsize=TEXT_SIZE, color=INK)


def legend_below(ax: Axes, handles: Sequence[Artist], columns: int) -> Legend:
    """Draw a legend under the axes.

    Parameters
    ----------
    ax : Axes
        Axes to draw on.
    handles : sequence of Artist
        Legend entries.
    columns : int
        Number of columns.

    Returns
    -------
    Legend
        The new legend.
    """
    return _legend(ax, handles, loc="upper left", bbox_to_anchor=(0.0, -0.02), ncols=columns)


def legend_right(ax: Axes, handles: Sequence[Artist]) -> Legend:
    """Draw a legend without a border to the right of the axes.

    Parameters
    ----------
    ax : Axes
        Axes to draw on.
    handles : sequence of Artist
        Legend entries.

    Returns
    -------
    Legend
        The new legend.
    """
    return _legend(ax, handles, loc="upper left", bbox_to_anchor=(1.02, 1.0))


def legend_inside(ax: Axes, handles: Sequence[Artist], where: Corner, length: float = 2.0) -> Legend:
    """Draw a legend with its own background inside the axes.

    Parameters
    ----------
    ax : Axes
        Axes to draw on.
    handles : sequence of Artist
        Legend entries.
    where : str
        Location, such as "upper left", or "best".
    length : float, optional
        Length of the lines in the legend, in font sizes.

    Returns
    -------
    Legend
        The new legend.
    """
    return ax.legend(
        handles=list(handles),
        labels=_legend_labels(handles),
        loc=where,
        fontsize=TEXT_SIZE,
        labelcolor=INK,
        framealpha=0.9,
        edgecolor=FAINT,
        handlelength=length,
    )


def legend_under_name(ax: Axes, handles: Sequence[Artist]) -> Legend:
    """Draw a legend in one row under the label of the x axis.

    Parameters
    ----------
    ax : Axes
        Axes to draw on.
    handles : sequence of Artist
        Legend entries.

    Returns
    -------
    Legend
        The new legend.
    """
    below = ax.transAxes + ScaledTranslation(0, -36 / 72, ax.figure.dpi_scale_trans)  # points
    return ax.legend(
        handles=list(handles),
        labels=_legend_labels(handles),
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


def _legend_labels(handles: Sequence[Artist]) -> list[str]:
    return literals(shown_label(str(handle.get_label())) for handle in handles)


def _legend(ax: Axes, handles: Sequence[Artist], **where: Any) -> Legend:
    return ax.legend(
        handles=list(handles),
        labels=_legend_labels(handles),
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
    """Return a value as an array of the given shape.

    Parameters
    ----------
    name : str
        Name of the argument; the error message contains it.
    value : array_like
        Value to convert. An empty list is accepted for any shape whose first length is None.
    shape : sequence of int or None
        Required length of each axis; None allows any length.

    Returns
    -------
    array
        The value as an array with this shape.

    Raises
    ------
    ValueError
        If the value has another shape. The message contains `name` and both shapes.
    """
    array = np.asarray(value)
    if array.size == 0 and array.ndim < len(shape) and shape[0] is None:
        return np.zeros([length or 0 for length in shape])
    fits = array.ndim == len(shape) and all(length in (None, n) for length, n in zip(shape, array.shape, strict=True))
    if not fits:
        required = ", ".join("any" if length is None else str(length) for length in shape)
        raise ValueError(f"{name} must have shape ({required}), got {array.shape}")
    return array


def check_descending(name: str, values: np.ndarray) -> None:
    """Raise ValueError unless values are in descending order.

    Parameters
    ----------
    name : str
        Name of the argument; the error message contains it.
    values : (N,) array
        Values to check; ties are allowed.
    """
    ascending = np.flatnonzero(np.diff(values) > 0)
    if ascending.size:
        i = ascending[0]
        raise ValueError(f"{name} must be descending, got {values[i]:g} before {values[i + 1]:g} at index {i}")


def as_boxes(name: str, value: object) -> np.ndarray:
    """Return a value as an array of boxes.

    Parameters
    ----------
    name : str
        Name of the argument; the error message contains it.
    value : (N, 4) array_like
        Boxes `x1, y1, x2, y2` in pixels.

    Returns
    -------
    (N, 4) float64 array
        The boxes. Coordinates are clipped to -2^24 .. 2^24.

    Raises
    ------
    ValueError
        If the shape is not (N, 4) or a coordinate is not finite. The message contains `name`. For a coordinate, it also
        contains the index of the box.
    """
    boxes = as_array(name, value, (None, 4)).astype(np.float64)
    bad = np.flatnonzero(~np.isfinite(boxes).all(axis=1))
    if bad.size:
        raise ValueError(f"{name}[{bad[0]}] must have four finite coordinates, got {boxes[bad[0]].tolist()}")
    return boxes.clip(-FARTHEST, FARTHEST)


def outlines(corners: np.ndarray) -> list[np.ndarray]:
    """Return the closed outlines of boxes, in the form that a `LineCollection` requires.

    Parameters
    ----------
    corners : (N, 4) array
        N boxes, in pixels.

    Returns
    -------
    list of (5, 2) array
        Five points (x, y) for each box; the last point repeats the first.
    """
    return list(corners[:, [[0, 1], [2, 1], [2, 3], [0, 3], [0, 1]]])


def add_outlines(ax: Axes, corners: np.ndarray, color: str) -> None:
    """Draw many boxes of one colour as lines with dark edges, without changing the limits of the axes.

    Parameters
    ----------
    ax : Axes
        Axes to draw on.
    corners : (N, 4) array
        N boxes, in pixels.
    color : str
        Colour of the lines.
    """
    lines = LineCollection(outlines(corners), colors=color, linewidths=LINE_WIDTH, path_effects=outline(LINE_WIDTH))
    ax.add_collection(lines, autolim=False)


def outline_key(color: str, label: str) -> Line2D:
    """Return the legend entry of boxes that `add_outlines` draws.

    Parameters
    ----------
    color : str
        Colour of the lines.
    label : str
        Text of the legend entry.

    Returns
    -------
    Line2D
        The legend entry.
    """
    return Line2D([], [], color=color, linewidth=LINE_WIDTH, path_effects=outline(LINE_WIDTH), label=label)


def edged_box(ax: Axes, corner: np.ndarray, color: str, linestyle: str = "-", width: float = LINE_WIDTH) -> None:
    """Draw one box as a line with dark edges.

    Parameters
    ----------
    ax : Axes
        Axes to draw on.
    corner : (4,) array
        Box in pixels.
    color : str
        Colour of the line.
    linestyle : str, optional
        Line style, as in matplotlib.
    width : float, optional
        Line width in points.
    """
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

"""Images with their boxes: annotated photos, and contact sheets, which are figures with many small images.

`annotate` draws detections into the pixels of a photo. The command `rcnn detect` saves such photos. `contact_sheet`
shows up to sixteen images with their boxes, so that you can check annotations at a glance.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image, ImageDraw, ImageFont

from rcnn.plot import style
from rcnn.plot.arguments import checked
from rcnn.plot.style import as_array, as_boxes
from rcnn.plot.tags import Tags, place, tag_texts

# An annotated photo
MAX_PHOTO_PIXELS = 24_000_000  # a larger photo is scaled down
MIN_SIDE, MIN_SHORT_SIDE = 400, 160  # pixels: square root of the area, and shorter side; a smaller photo is enlarged
MAX_TAG_SHARE = 0.25  # a photo is enlarged if its tags would cover a larger fraction of it
MAX_LONG_SIDE = 4096  # pixels; a photo is not enlarged beyond this
# Font size: the minimum in pixels, and the usual size as a fraction of the square root of the drawing's area.
MIN_TEXT, TEXT_PER_SIDE = 12, 1 / 60
_LINE_SHARE, _EDGE_SHARE = 1 / 6, 1 / 18  # widths of a box's line and of its black edges, per font size
_TAG_PADDING = np.array([0.3, 0.1])  # horizontal and vertical padding of a tag, as fractions of the font size

# A contact sheet
MOST_TILES = 16  # largest number of images in the figure
COLUMNS = 4
SHEET = 9.6  # inches; width of a sheet with up to three columns
TILE, CAPTION, LEGEND = 3.2, 0.4, 0.4  # inches: smallest width of a tile, heights of a caption and of the legend
FLATTEST = 0.5  # smallest height of a tile, as a fraction of its width
SECOND_LINE = 0.15  # inches: additional height of a caption with two lines
MAX_TILE_SIDE = 720  # pixels; a larger image is scaled down to this side, about twice that of a tile
TAG_LENGTH, HEADING_LENGTH, CAPTION_LENGTH = 14, 34, 50  # largest numbers of characters
MAX_TAG_LENGTH = 160  # characters; if the tags of an image have more in total, only colours show the classes
MAX_BOXES = 500  # boxes that are drawn on an image; with more of them, drawing takes long and shows nothing
MAX_EXCESS = 1.0  # pixels; a valid box may extend beyond its image by this much
BEYOND = 0.35  # largest margin shown around an image, as a fraction of the image's side
BORDER = 0.02  # free border of a tile, as a fraction of its side; it keeps lines along the image border visible
BROKEN = "#ff2a2a"  # colour of invalid boxes; no class has this colour

_ELLIPSIS = "\u2026"


# ---- an annotated photo


@checked
def annotate(
    image: np.ndarray,
    boxes: np.ndarray,
    scores: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[str] | None = None,
) -> np.ndarray:
    """Draw detections on a photo, tagged with class and score.

    The result has the size of the photo, with two exceptions. A photo of more than `MAX_PHOTO_PIXELS` pixels is scaled
    down. A photo that is small, or has too little space for its tags, is enlarged by an integer factor. Line width and
    font size grow with the photo. Lines have black edges, so that they are visible on any background. Detections with a
    higher score are drawn on top.

    Parameters
    ----------
    image : (H, W, 3) uint8 array
        Photo.
    boxes : (D, 4) array
        Boxes of D detections, in pixels of `image`.
    scores : (D,) array
        Score of each detection.
    labels : (D,) array
        Label of each detection.
    class_names : sequence of str, optional
        Class names, indexed by label; if omitted, labels are shown as numbers.

    Returns
    -------
    (H', W', 3) uint8 array
        The annotated photo, with height H' and width W'.

    Raises
    ------
    ValueError
        If `image` is empty or not uint8, if a shape is wrong, or if a label has no name.

    Warns
    -----
    UserWarning
        If no installed font has all characters of the class names.
    """
    photo = as_array("image", image, (None, None, 3))
    if photo.dtype != np.uint8 or photo.size == 0:
        raise ValueError(f"image must be uint8 with at least one pixel, got {photo.dtype} of shape {photo.shape}")
    corners = as_boxes("boxes", boxes)
    numbers = as_array("labels", labels, (len(corners),)).astype(int)
    values = as_array("scores", scores, (len(corners),)).astype(float)
    best = np.argsort(-values, kind="stable")
    texts = [style.clean(" ".join(text.split())) for text in tag_texts(len(corners), numbers, values, class_names)]
    texts = [texts[i] for i in best]
    _warn_of_missing_glyphs(texts)
    colors = [style.label_color(numbers[i]) for i in best]

    canvas = _canvas(photo, texts)
    font = _font(_text_height(canvas.size, texts), texts)
    scale = np.divide(canvas.size, (photo.shape[1], photo.shape[0]))  # x, y
    scaled = corners[best] * np.tile(scale, 2)  # (D, 4)
    pen = ImageDraw.Draw(canvas)
    for box, color in reversed(list(zip(scaled, colors, strict=True))):
        _draw_box(pen, box, color, canvas.size, font.size)
    _draw_tags(pen, scaled, texts, colors, canvas.size, font)
    return np.asarray(canvas)


def _canvas(photo: np.ndarray, texts: Sequence[str]) -> Image.Image:
    """Return the photo, an (H', W', 3) array, resized to the size at which `annotate` draws on it."""
    whole = Image.fromarray(photo)
    pixels = whole.width * whole.height
    if pixels > MAX_PHOTO_PIXELS:
        shrink = math.sqrt(MAX_PHOTO_PIXELS / pixels)
        size = (max(int(whole.width * shrink), 1), max(int(whole.height * shrink), 1))
        return whole.resize(size, Image.Resampling.BOX)
    tags = _tag_sizes(texts, _font(MIN_TEXT, texts)).prod(axis=1).sum()  # pixels
    needed = max(math.sqrt(max(MIN_SIDE**2, tags / MAX_TAG_SHARE) / pixels), MIN_SHORT_SIDE / min(whole.size))
    factor = max(min(math.ceil(needed), MAX_LONG_SIDE // max(whole.size)), 1)
    return whole.resize((whole.width * factor, whole.height * factor), Image.Resampling.BICUBIC)


def _text_height(size: tuple[int, int], texts: Sequence[str]) -> float:
    """Return the font size for a drawing of `size` (width, height), reduced if the tags need more space."""
    pixels = size[0] * size[1]
    tags = _tag_sizes(texts, _font(MIN_TEXT, texts))  # (D, 2)
    room = min(
        math.sqrt(MAX_TAG_SHARE * pixels / max(tags.prod(axis=1).sum(), 1)), size[0] / max(tags[:, 0].max(initial=0), 1)
    )
    return max(MIN_TEXT, min(TEXT_PER_SIDE * math.sqrt(pixels), MIN_TEXT * room))


def _draw_box(pen: ImageDraw.ImageDraw, box: np.ndarray, color: str, size: tuple[int, int], text_height: float) -> None:
    """Draw the border of a box as a line with black edges, moved inside the drawing if necessary."""
    line, edge = _line_widths(text_height)
    half = line / 2 + edge
    outer = np.round(np.concatenate([box[:2] - half, box[2:] + half]))  # (4,)
    least = np.minimum(2 * half, size)  # a line that would lie partly outside is moved inside
    low = np.clip(outer[:2], 0, size - least)
    high = np.clip(outer[2:], low + least, size)
    for inset, width, ink in ((0, line + 2 * edge, "black"), (edge, line, color)):
        (x1, y1), (x2, y2) = low + inset, high - inset - 1  # Pillow includes the last pixel
        if x2 >= x1 and y2 >= y1:
            pen.rectangle((x1, y1, x2, y2), outline=ink, width=width)


def _draw_tags(
    pen: ImageDraw.ImageDraw,
    boxes: np.ndarray,
    texts: Sequence[str],
    colors: Sequence[str],
    size: tuple[int, int],
    font: ImageFont.FreeTypeFont,
) -> None:
    """Draw the tags of `boxes` (D, 4) at the positions that `place` chooses. The best box comes first."""
    edge = _line_widths(font.size)[1]
    texts = [_fitted_text(text, font, size[0]) for text in texts]
    sizes = _tag_sizes(texts, font)  # (D, 2)
    upward = np.array([0, size[1], 0, size[1]]) + boxes[:, [0, 3, 2, 1]] * (1, -1, 1, -1)  # y pointing up
    corners = place(sizes, upward, np.array([0, 0, *size]))  # (D, 2)
    tops = size[1] - corners[:, 1] - sizes[:, 1]
    for i in reversed(range(len(texts))):
        x, y = round(corners[i, 0]), round(tops[i])
        pen.rectangle((x, y, x + sizes[i, 0] - 1, y + sizes[i, 1] - 1), fill=colors[i], outline="black", width=edge)
        pen.text(
            np.array([x, y]) + edge + _tag_padding(font), texts[i], style.contrasting(colors[i]), font, anchor="la"
        )


def _tag_sizes(texts: Sequence[str], font: ImageFont.FreeTypeFont) -> np.ndarray:
    """Return the width and the height of each tag in whole pixels (D, 2)."""
    height = sum(font.getmetrics())
    around = 2 * (_line_widths(font.size)[1] + _tag_padding(font))  # (2,)
    return np.array([np.ceil((font.getlength(text), height)) + around for text in texts]).reshape(-1, 2)


def _fitted_text(text: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    """Return the text, with the class name shortened so that the tag is at most `width` pixels wide."""
    name, _, score = text.rpartition(" ")
    while name and _tag_sizes([text], font)[0, 0] > width:
        name = name[:-1]
        text = f"{name}{_ELLIPSIS} {score}"
    return text


def _line_widths(text_height: float) -> tuple[int, int]:
    """Return the width of a box's line and the width of each of its black edges, in pixels."""
    return max(round(_LINE_SHARE * text_height), 3), max(round(_EDGE_SHARE * text_height), 1)


def _tag_padding(font: ImageFont.FreeTypeFont) -> np.ndarray:
    """Return the horizontal and vertical padding (2,) of a tag's text, in pixels."""
    return np.maximum(np.round(_TAG_PADDING * font.size), 1)


def _font(height: float, texts: Sequence[str]) -> ImageFont.FreeTypeFont:
    """Return the font of all plots, or an installed font that has more of the characters in `texts`."""
    return ImageFont.truetype(style.font_with(frozenset("".join(texts)))[1], height)


def _warn_of_missing_glyphs(texts: Sequence[str]) -> None:
    """Warn if no font has all characters of `texts`, because Pillow silently draws empty boxes for missing ones."""
    letters = frozenset("".join(texts))
    if style.glyph_count(style.font_with(letters)[1], letters) < len(letters):
        warnings.warn(style.MISSING_CHARACTERS, stacklevel=3)


# ---- a contact sheet


@checked
def contact_sheet(
    images: Sequence[np.ndarray | None],
    boxes_list: Sequence[np.ndarray],
    labels_list: Sequence[np.ndarray],
    class_names: Sequence[str],
    captions: Sequence[str] | None = None,
    columns: int | None = None,
) -> Figure:
    """Draw up to sixteen images with their boxes, coloured and tagged by class.

    The tiles of a row have the same size. They are squares, or lower if all their images are wider than high.

    A box is invalid if it is empty, extends beyond its image, or has a label without a name. Invalid boxes are red and
    dashed. Boxes with non-finite coordinates are not drawn. Of all other boxes, at most 500 are drawn for each image,
    the invalid ones first. The number of boxes that are not drawn is written on the image.

    Parameters
    ----------
    images : sequence of (H, W, 3) array or None
        One to sixteen images; None stands for an unreadable image.
    boxes_list : sequence of (G, 4) array
        For each image, the boxes of its G objects, in pixels.
    labels_list : sequence of (G,) array
        For each image, the labels of its G objects.
    class_names : sequence of str
        Class names, indexed by label.
    captions : sequence of str, optional
        Caption of each image. Its first line is bold, and its second line is small.
    columns : int, optional
        Number of columns, in 1 .. 4. With fewer columns, the images are larger. By default, there are about as many
        columns as rows.

    Returns
    -------
    Figure
        The figure.

    Raises
    ------
    ValueError
        If there are no images or more than sixteen, if an image is invalid, or if the sequences differ in length, or
        if `columns` is out of range.
    """
    if not 1 <= len(images) <= MOST_TILES:
        raise ValueError(f"images must have 1 to {MOST_TILES} entries, got {len(images)}")
    words = [""] * len(images) if captions is None else captions
    for name, values in (("boxes_list", boxes_list), ("labels_list", labels_list), ("captions", words)):
        if len(values) != len(images):
            raise ValueError(f"{name} must have one entry per image ({len(images)}), got {len(values)}")
    if columns is None:
        columns = min(COLUMNS, math.ceil(math.sqrt(len(images))))
    elif not 1 <= columns <= COLUMNS:
        raise ValueError(f"columns must be in 1 .. {COLUMNS}, got {columns}")
    rows = math.ceil(len(images) / columns)
    checked_boxes, extents = [], []
    for i, image in enumerate(images):
        size = np.array([1, 1] if image is None else style.check_image(f"images[{i}]", image).shape[1::-1])
        checked_boxes.append(as_array(f"boxes_list[{i}]", boxes_list[i], (None, 4)).astype(np.float64))
        extents.append(_extent(checked_boxes[i], size))
    highest = np.zeros(rows)  # height / width of the highest image in each row
    for i, (low, high) in enumerate(extents):
        highest[i // columns] = max(highest[i // columns], (high - low)[1] / (high - low)[0])
    shares = highest.clip(FLATTEST, 1)  # height / width of the tiles
    width = max(TILE, SHEET / columns) if columns > 1 else 2 * TILE
    two_lines = any("\n" in text for text in words)
    captions_height = rows * (CAPTION + SECOND_LINE * two_lines)
    sheet = style.figure(columns * width, shares.sum() * width + captions_height + LEGEND)
    tiles = sheet.subplots(rows, columns, squeeze=False, height_ratios=shares.tolist()).ravel()
    for ax in tiles[len(images) :]:
        ax.set_axis_off()
    marked = False
    for i, (ax, image) in enumerate(zip(tiles, images, strict=False)):
        labels = as_array(f"labels_list[{i}]", labels_list[i], (len(checked_boxes[i]),)).astype(np.int64)
        marked |= _draw_tile(ax, image, checked_boxes[i], labels, class_names, shares[i // columns])
        heading, _, rest = words[i].partition("\n")
        style.title(
            ax, _shortened_middle(heading, HEADING_LENGTH), _shortened_middle(rest, CAPTION_LENGTH) or " " * two_lines
        )
    _draw_sheet_legend(sheet, class_names, labels_list, marked, max(2 * columns, COLUMNS))
    return sheet


def _draw_tile(
    ax: Axes,
    image: np.ndarray | None,
    boxes: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[str],
    share: float,
) -> bool:
    """Draw an image and its boxes (G, 4) in a tile whose height is `share` times its width.

    The result is True if any box is invalid.
    """
    if image is None:
        ax.set(xlim=(0, 1), ylim=(share, 0))
        style.note(style.frame(ax), "unreadable")
        return False
    size = np.array(np.asarray(image).shape[1::-1])  # width, height
    finite = np.isfinite(boxes).all(axis=1)  # (G,)
    boxes, labels = boxes[finite].clip(-style.FARTHEST, style.FARTHEST), labels[finite]
    broken = (boxes[:, 2:] <= boxes[:, :2]).any(axis=1) | (labels < 1) | (labels >= len(class_names))
    broken |= (boxes[:, :2] < -MAX_EXCESS).any(axis=1) | (boxes[:, 2:] > size + MAX_EXCESS).any(axis=1)
    drawn = np.sort(np.argsort(~broken, kind="stable")[:MAX_BOXES])  # (D,)
    missing = [f"{(~finite).sum():,} not drawn (not finite)"] if not finite.all() else []
    missing += [f"{len(boxes) - MAX_BOXES:,} more boxes not drawn"] if len(boxes) > MAX_BOXES else []
    is_marked = bool(broken.any() or not finite.all())
    boxes, labels, broken = boxes[drawn], labels[drawn], broken[drawn]
    shown = _reduced(np.asarray(image))
    style.image(ax, shown)
    corners = boxes * np.tile(shown.shape[1::-1] / size, 2)
    corners = np.concatenate(
        [np.minimum(corners[:, :2], corners[:, 2:]), np.maximum(corners[:, :2], corners[:, 2:])], axis=1
    )
    colors = [
        BROKEN if is_broken else style.label_color(label) for is_broken, label in zip(broken, labels, strict=True)
    ]
    for corner, color, is_broken in zip(corners, colors, broken, strict=True):
        style.edged_box(ax, corner, color, "--" if is_broken else "-")
    texts = [
        _shortened_middle(class_names[label], TAG_LENGTH) if 1 <= label < len(class_names) else _unnamed_label(label)
        for label in labels.tolist()
    ]
    if sum(len(text) + 1 for text in texts) <= MAX_TAG_LENGTH:
        ax.add_artist(Tags(corners, texts, colors))
    _show_tile(ax, corners, np.array(shown.shape[1::-1]), share)
    if missing:
        ax.annotate(
            "\n".join(missing),
            (0, 0),
            (4, 5),
            xycoords="axes fraction",
            zorder=6,
            textcoords="offset points",
            fontsize=style.TEXT_SIZE,
            color="black",
            bbox={"facecolor": BROKEN, "edgecolor": "none", "pad": 2},
        )
    return is_marked


def _unnamed_label(label: int) -> str:
    """Return the tag of a label without a name. The data set readers use -1 for an unknown class."""
    return f"label {label}" if label >= 0 else "unknown"


def _reduced(image: np.ndarray) -> np.ndarray:
    """Return the image, scaled down if it has more pixels than a tile shows."""
    scale = MAX_TILE_SIDE / max(image.shape[:2])
    if scale >= 1 or image.dtype != np.uint8:
        return image
    size = (max(round(image.shape[1] * scale), 1), max(round(image.shape[0] * scale), 1))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX))


def _extent(boxes: np.ndarray, size: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the corners, (x, y) each, around an image of `size` (width, height) and boxes that extend beyond it."""
    finite = boxes[np.isfinite(boxes).all(axis=1)].reshape(-1, 2)  # the corners of a wrong box may be in any order
    low = np.clip(finite.min(axis=0, initial=0), -BEYOND * size, 0)
    high = np.clip(finite.max(axis=0, initial=0), size, (1 + BEYOND) * size)
    return low, high


def _show_tile(ax: Axes, corners: np.ndarray, size: np.ndarray, share: float) -> None:
    """Set the limits around an image of `size` (width, height) and its boxes; height / width is `share`."""
    low, high = _extent(corners, size)
    middle = (low + high) / 2
    across = (1 + BORDER) * ((high - low) / (1, share)).max() / 2  # half of the width of the tile
    ax.set(
        xlim=(middle[0] - across, middle[0] + across),
        ylim=(middle[1] + share * across, middle[1] - share * across),
    )
    ax.spines[:].set_visible(False)


def _draw_sheet_legend(
    sheet: Figure, class_names: Sequence[str], labels_list: Sequence[np.ndarray], marked: bool, columns: int
) -> None:
    """Draw a legend of the class colours, if they are unique, and of the invalid boxes, if `marked` is True."""
    labels = np.unique(np.concatenate([np.asarray(labels, np.int64).ravel() for labels in labels_list])).tolist()
    handles = []
    if len(class_names) - 1 <= len(style.CLASS_COLORS):
        handles = [
            Line2D(
                [],
                [],
                color=style.label_color(label),
                linewidth=4,
                label=style.literal(style.shown_label(_shortened_middle(class_names[label], 2 * TAG_LENGTH))),
            )
            for label in labels
            if 1 <= label < len(class_names)
        ]
    if marked:
        handles.append(Line2D([], [], color=BROKEN, linestyle="--", linewidth=2, label="invalid box"))
    if handles:
        sheet.legend(
            handles=handles,
            loc="outside lower left",
            ncols=columns,
            frameon=False,
            labelcolor=style.INK,
            fontsize=style.TEXT_SIZE,
            handlelength=2.2,
            columnspacing=1.4,
        )


def _shortened_middle(text: str, length: int) -> str:
    """Return the text. If it is longer than `length`, replace its middle by an ellipsis."""
    if len(text) <= length:
        return text
    end = 2 * (length - 1) // 3
    return f"{text[: length - 1 - end]}\u2026{text[len(text) - end :]}"

"""A photo with its detections drawn in it, pixel by pixel: what `rcnn detect` writes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from rcnn.plot import style
from rcnn.plot.style import as_array, as_boxes
from rcnn.plot.tags import place, tag_texts

MAX_PIXELS = 24_000_000  # a photo with more is drawn smaller
MIN_SIDE, MIN_SHORT_SIDE = 400, 160  # pixels; a photo with less is drawn larger,
MAX_TAG_SHARE = 0.25  # and so is one of which legible tags would cover more than this,
MAX_LONG_SIDE = 4096  # but not beyond this
MIN_TEXT, TEXT_PER_SIDE = 12, 1 / 60  # pixels; of the side of a square that has as many pixels as the drawing

_LINE, _EDGE = 1 / 6, 1 / 18  # widths of a box's line and of the black on either side of it, in heights of the text
_PADDING = np.array([0.3, 0.1])  # at the sides of a tag's text, and above and below it
_ELLIPSIS = "\u2026"


def annotate(
    picture: np.ndarray,
    boxes: np.ndarray,
    scores: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[str] | None = None,
) -> np.ndarray:
    """`picture` (H, W, 3) uint8 with its `boxes` (D, 4), tagged with class and score, as an array of the same kind.

    It has the photo's own pixels, with two exceptions: more than `MAX_PIXELS` are scaled down; a small photo, or one
    with more tags than it has room for, is enlarged by a whole number. Boxes are in the pixels of `picture` all the
    same. Lines and text grow with the photo. Lines have black edges, and so are seen on any ground; better detections
    lie over worse ones. `class_names[label]` is what a tag calls the class; without names it is the number.
    """
    photo = as_array("picture", picture, (None, None, 3))
    if photo.dtype != np.uint8 or photo.size == 0:
        raise ValueError(f"picture is {photo.dtype} of shape {photo.shape}; it must be uint8 and have a pixel")
    corners = as_boxes("boxes", boxes)
    numbers = as_array("labels", labels, (len(corners),)).astype(int)
    values = as_array("scores", scores, (len(corners),)).astype(float)
    best = np.argsort(-values, kind="stable")
    texts = [" ".join(text.split()) for text in tag_texts(len(corners), numbers, values, class_names)]
    texts = [texts[i] for i in best]
    colors = [style.label_color(numbers[i]) for i in best]

    canvas = _canvas(photo, texts)
    font = _font(_text_height(canvas.size, texts))
    scale = np.divide(canvas.size, (photo.shape[1], photo.shape[0]))  # x, y
    scaled = corners[best] * np.tile(scale, 2)  # (D, 4)
    pen = ImageDraw.Draw(canvas)
    for box, color in reversed(list(zip(scaled, colors, strict=True))):
        _draw_box(pen, box, color, canvas.size, font.size)
    _draw_tags(pen, scaled, texts, colors, canvas.size, font)
    return np.asarray(canvas)


def _canvas(photo: np.ndarray, texts: Sequence[str]) -> Image.Image:
    """The photo (H, W, 3) in the size that it is drawn in, see `annotate`."""
    image = Image.fromarray(photo)
    pixels = image.width * image.height
    if pixels > MAX_PIXELS:
        shrink = math.sqrt(MAX_PIXELS / pixels)
        size = (max(int(image.width * shrink), 1), max(int(image.height * shrink), 1))
        return image.resize(size, Image.Resampling.BOX)
    tags = _tag_sizes(texts, _font(MIN_TEXT)).prod(axis=1).sum()  # pixels
    wanted = max(math.sqrt(max(MIN_SIDE**2, tags / MAX_TAG_SHARE) / pixels), MIN_SHORT_SIDE / min(image.size))
    factor = max(min(math.ceil(wanted), MAX_LONG_SIDE // max(image.size)), 1)
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.BICUBIC)


def _text_height(size: tuple[int, int], texts: Sequence[str]) -> float:
    """How high the text is on a drawing of `size` (width, height): in proportion, unless that crowds the drawing."""
    pixels = size[0] * size[1]
    tags = _tag_sizes(texts, _font(MIN_TEXT))  # (D, 2)
    room = min(math.sqrt(MAX_TAG_SHARE * pixels / max(tags.prod(axis=1).sum(), 1)),
               size[0] / max(tags[:, 0].max(initial=0), 1))
    return max(MIN_TEXT, min(TEXT_PER_SIDE * math.sqrt(pixels), MIN_TEXT * room))


def _draw_box(
    pen: ImageDraw.ImageDraw, box: np.ndarray, color: str, size: tuple[int, int], text_height: float
) -> None:
    """Draws a box's line, edged with black, along the middle of its border but never outside of the drawing."""
    line, edge = _widths(text_height)
    half = line / 2 + edge
    outer = np.round(np.concatenate([box[:2] - half, box[2:] + half]))  # (4,)
    least = np.minimum(2 * half, size)  # a line that lies half outside is pushed in
    low = np.clip(outer[:2], 0, size - least)
    high = np.clip(outer[2:], low + least, size)
    for inset, width, ink in ((0, line + 2 * edge, "black"), (edge, line, color)):
        (x1, y1), (x2, y2) = low + inset, high - inset - 1  # Pillow counts the last pixel in
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
    """Draws the tags of `boxes` (D, 4), the best first, where `place` finds room for them."""
    edge = _widths(font.size)[1]
    texts = [_shortened(text, font, size[0]) for text in texts]
    sizes = _tag_sizes(texts, font)  # (D, 2)
    upward = np.array([0, size[1], 0, size[1]]) + boxes[:, [0, 3, 2, 1]] * (1, -1, 1, -1)  # y pointing up
    corners = place(sizes, upward, np.array([0, 0, *size]))  # (D, 2)
    tops = size[1] - corners[:, 1] - sizes[:, 1]
    for i in reversed(range(len(texts))):
        x, y = round(corners[i, 0]), round(tops[i])
        pen.rectangle((x, y, x + sizes[i, 0] - 1, y + sizes[i, 1] - 1), fill=colors[i], outline="black", width=edge)
        pen.text(np.array([x, y]) + edge + _padding(font), texts[i], style.contrasting(colors[i]), font, anchor="la")


def _tag_sizes(texts: Sequence[str], font: ImageFont.FreeTypeFont) -> np.ndarray:
    """Widths and heights (D, 2) of tags in whole pixels."""
    height = sum(font.getmetrics())
    around = 2 * (_widths(font.size)[1] + _padding(font))  # (2,)
    return np.array([np.ceil((font.getlength(text), height)) + around for text in texts]).reshape(-1, 2)


def _shortened(text: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    """The text, or as much of the class's name as fits in a tag of `width`, with the score."""
    name, _, score = text.rpartition(" ")
    while name and _tag_sizes([text], font)[0, 0] > width:
        name = name[:-1]
        text = f"{name}{_ELLIPSIS} {score}"
    return text


def _widths(text_height: float) -> tuple[int, int]:
    """Widths of a box's line and of the black on either side of it, in pixels."""
    return max(round(_LINE * text_height), 3), max(round(_EDGE * text_height), 1)


def _padding(font: ImageFont.FreeTypeFont) -> np.ndarray:
    """Pixels (2,) beside a tag's text, and above and below it."""
    return np.maximum(np.round(_PADDING * font.size), 1)


def _font(height: float) -> ImageFont.FreeTypeFont:
    """The font of all pictures, which comes with matplotlib."""
    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"), height)

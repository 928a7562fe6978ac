"""Figures of the notebooks, with alternative text for readers who cannot see them."""

from __future__ import annotations

import base64
import html
import re
from typing import Any

SHORTEST, LONGEST = 30, 600  # characters of an alternative text
EMPTY_START = re.compile(
    r"(an? |the )?(image|picture|figure|plot|graph|photo)s? (of|that|showing|with)\b", re.IGNORECASE
)
IMAGE = re.compile(r"<img\b[^>]*>")
DESCRIBED = re.compile(r"\balt=\"[^\"]+\"")
LEGIBLE = 640  # pixels; a figure that is at least as wide is never shown narrower, because its texts would be too small
WIDE = '<div class="rcnn-wide" tabindex="0" role="group" aria-label="Wide figure" style="overflow-x: auto">'


class DescribedFigure:
    """A figure with alternative text, which a notebook displays if it is the last line of a cell.

    Parameters
    ----------
    png : bytes
        Content of a PNG file.
    alt : str
        Alternative text.
    """

    def __init__(self, png: bytes, alt: str) -> None:
        self.png, self.alt = png, check_text("alt", alt)

    def _repr_html_(self) -> str:
        return as_html(self.png, self.alt)

    def __repr__(self) -> str:
        return f"Figure: {self.alt}"


def show(figure: Any, alt: str) -> DescribedFigure:
    """Return a figure with alternative text. Call this function in the last line of a notebook cell.

    A screen reader reads the alternative text aloud. It is also shown if a program displays no images. Say what the
    reader is supposed to see in the figure, with the most important numbers. Do not repeat the title, and do not begin
    with "Image of".

    Parameters
    ----------
    figure : Figure
        Figure to show.
    alt : str
        Alternative text of 30 to 600 characters.

    Returns
    -------
    DescribedFigure
        The figure. Jupyter displays it as HTML, because Jupyter ignores the alternative texts of other images.

    Raises
    ------
    TypeError
        If `alt` is not a string.
    ValueError
        If `alt` is too short or too long, or begins with a phrase such as "Image of".

    Examples
    --------
    >>> from rcnn import plot
    >>> show(plot.figure(), "Two boxes overlap by a third of their area.")
    Figure: Two boxes overlap by a third of their area.
    """
    from rcnn import plot  # imports matplotlib, which is slow

    return DescribedFigure(plot.png(figure), alt)


def check_text(name: str, text: Any) -> str:
    """Return an alternative text on one line.

    Parameters
    ----------
    name : str
        Name of the argument, for error messages.
    text : str
        Alternative text. Line breaks and repeated spaces become single spaces.

    Returns
    -------
    str
        The text.

    Raises
    ------
    TypeError
        If `text` is not a string.
    ValueError
        If `text` is too short or too long, or begins with a phrase such as "Image of".
    """
    if not isinstance(text, str):
        raise TypeError(f"{name} must be a string, got {type(text).__name__}")
    line = " ".join(text.split())
    if not SHORTEST <= len(line) <= LONGEST:
        raise ValueError(
            f"{name} must have {SHORTEST} to {LONGEST} characters and say what the figure shows, "
            f"got {len(line)} characters: {line[:60]!r}"
        )
    if start := EMPTY_START.match(line):
        raise ValueError(f"{name} must say at once what the figure shows; remove {start.group()!r}")
    return line


def as_html(png: bytes, alt: str) -> str:
    """Return an image as HTML. It is at most as wide as its container, but at least 640 pixels if it is that wide.

    In a narrower container, as on a phone, a wide image scrolls sideways, also with the arrow keys.

    Parameters
    ----------
    png : bytes
        Content of a PNG file.
    alt : str
        Alternative text.

    Returns
    -------
    str
        An element `img` that contains the image; if the image is wide, inside a box that scrolls.
    """
    width, height = (int.from_bytes(png[start : start + 4]) for start in (16, 20))  # in the header of every PNG file
    content = base64.b64encode(png).decode()
    wide = width >= LEGIBLE
    style = f"max-width: 100%; {f'min-width: {LEGIBLE}px; ' if wide else ''}height: auto"
    image = (
        f'<img src="data:image/png;base64,{content}" alt="{html.escape(alt)}" width="{width}" height="{height}" '
        f'style="{style}">'
    )
    return f"{WIDE}{image}</div>" if wide else image


def images_without_text(notebook: Any) -> list[str]:
    """Return the ids of the cells of an executed notebook that show an image without alternative text.

    Parameters
    ----------
    notebook : NotebookNode
        Notebook with outputs.

    Returns
    -------
    list of str
        Ids of cells, in order. An id occurs once for each image without alternative text.
    """
    found = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            found += [cell.id for kind in data if kind.startswith("image/")]
            page = "".join(data.get("text/html", ""))
            found += [cell.id for image in IMAGE.findall(page) if not DESCRIBED.search(image)]
    return found

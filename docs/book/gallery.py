"""The gallery: pages of plots with their code, which are run while the book is built."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import jupytext
import nbclient
import nbformat

KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python 3"}, "language_info": {"name": "python"}}
SOURCES = Path(__file__).parent / "gallery"
INTRODUCTION = """# Gallery

The functions of `rcnn.plot`, with the code that makes each picture. Almost all of them take the axes of a figure and
NumPy arrays, so you can use them with your own detector, too.
"""


def write(folder: Path, run: bool = True) -> None:
    """Write a page for each source, and a page with one picture of each.

    Parameters
    ----------
    folder : Path
        Folder to write to.
    run : bool, optional
        If False, the code is not run, and the pages have no pictures.
    """
    folder.mkdir()
    cards, names = [], []
    for source in sorted(SOURCES.glob("*.py")):
        notebook = nbformat.from_dict(jupytext.read(source, fmt="py:percent"))
        notebook.metadata = nbformat.from_dict(KERNEL)
        if run:
            nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
        describe_pictures(notebook)
        nbformat.write(notebook, folder / f"{source.stem}.ipynb")
        title, text = notebook.cells[0].source.removeprefix("# ").split("\n", 1)
        picture = write_thumbnail(notebook, folder / f"{source.stem}.png")
        cards.append(card(source.stem, title, text.strip(), picture))
        names.append(source.stem)
    grid = "::::{grid} 1 2 2 3\n:gutter: 3\n\n" + "\n".join(cards) + "::::\n"
    contents = "```{toctree}\n:hidden:\n\n" + "\n".join(names) + "\n```\n"
    (folder / "index.md").write_text("\n".join([INTRODUCTION, grid, contents]))


def describe_pictures(notebook: Any) -> None:
    """Give each picture an alternative text: the text above its code, without marks of code."""
    text = ""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            text = " ".join(cell.source.split("\n\n")[-1].replace("`", "").split())
        else:
            cell.metadata["mystnb"] = {"image": {"alt": text}}


def write_thumbnail(notebook: Any, path: Path) -> str:
    """Write the first picture of a notebook to a file, and return the name of the file, or "" without pictures."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if picture := output.get("data", {}).get("image/png"):
                path.write_bytes(base64.b64decode(picture))
                return path.name
    return ""


def card(name: str, title: str, text: str, picture: str) -> str:
    """Return a card of the grid, with a picture that leads to a page."""
    image = f":img-top: {picture}\n:img-alt: The first picture of this page\n" if picture else ""
    return f":::{{grid-item-card}} {title}\n{image}:link: {name}\n:link-type: doc\n\n{text}\n:::\n"

"""The book: links lead to pages, every plot is in the gallery, and broken links are found."""

import importlib
import pkgutil
import re
import sys
from pathlib import Path

import jupytext
import nbformat
import pytest

import rcnn

BOOK = Path(__file__).parents[2] / "docs" / "book"


@pytest.fixture(scope="module")
def book():
    """Return a function that imports a module of docs/book."""
    sys.path.insert(0, str(BOOK))
    yield importlib.import_module
    sys.path.remove(str(BOOK))


def test_links_to_files_lead_to_pages(book, tmp_path):
    make = book("make")
    text = (
        "[a](speed.md#7-threads) [b](../rcnn/nms.py) [c](../notebooks/01_boxes_and_iou.ipynb) [d](../CHANGELOG.md) "
        "[e](../examples/replace_a_stage.py) [f](https://arxiv.org) [g](../rcnn/_ext) [h](#here) [i](../notebooks)"
    )
    found = re.findall(r"\(([^)]*)\)", make.rewrite(text, make.ROOT / "docs", tmp_path))
    assert found == [
        "speed.md#7-threads",
        "reference/rcnn.nms.rst",
        "course/01_boxes_and_iou.ipynb",
        "changelog.md",
        "files/examples-replace_a_stage.py.md",
        "https://arxiv.org",
        "files/rcnn-_ext.md",
        "#here",
        "course.md",
    ]
    assert "def " in (tmp_path / "files/examples-replace_a_stage.py.md").read_text()
    assert "_nms.pyx" in (tmp_path / "files/rcnn-_ext.md").read_text()


def test_notebooks_are_complete_and_solutions_are_folded(book, tmp_path):
    book("make").write_notebooks(tmp_path / "course")
    notebook = nbformat.read(tmp_path / "course" / "08_proposals_and_nms.ipynb", as_version=4)
    folded = [cell.id for cell in notebook.cells if "hide-input" in cell.metadata.get("tags", [])]
    assert "nms-yours" in folded
    assert all("BEGIN SOLUTION" in cell.source for cell in notebook.cells if cell.id in folded)


def test_every_plot_is_in_the_gallery():
    from rcnn import plot

    code = "\n".join(path.read_text() for path in sorted((BOOK / "gallery").glob("*.py")))
    missing = [name for name in plot.__all__ if f"plot.{name}(" not in code]
    assert not missing, f"add {', '.join(missing)} to a page in docs/book/gallery"


@pytest.mark.parametrize("page", sorted((BOOK / "gallery").glob("*.py")), ids=lambda page: page.stem)
def test_every_picture_of_the_gallery_has_a_text(book, page):
    notebook = nbformat.from_dict(jupytext.read(page, fmt="py:percent"))
    book("gallery").describe_pictures(notebook)
    texts = [cell.metadata.mystnb["image"]["alt"] for cell in notebook.cells if cell.cell_type == "code"]
    assert texts and all(len(text) > 30 for text in texts)


def test_every_public_module_is_in_the_reference(book):
    modules = book("reference").MODULES
    public = {f"rcnn.{info.name}" for info in pkgutil.iter_modules(rcnn.__path__) if not info.name.startswith("_")}
    assert public - set(modules) == {"rcnn.cli"}  # docs/commands.md describes the commands


def test_broken_links_and_foreign_files_are_found(book, tmp_path):
    (tmp_path / "a.html").write_text(
        '<a href="b.html#there"></a><a href="b.html#gone"></a><a href="c.html"></a><img src="b.png" alt="A picture">'
        '<script src="https://example.org/x.js"></script><a href="https://example.org"></a><img src="a.html">'
    )
    (tmp_path / "b.html").write_text('<h1 id="there"></h1>')
    (tmp_path / "b.png").write_text("")
    assert book("check_links").problems(tmp_path) == [
        "a.html: no alternative text for the image a.html",
        "a.html: link to b.html#gone, whose anchor does not exist",
        "a.html: link to c.html, which does not exist",
        "a.html: loads https://example.org/x.js",
    ]


def test_a_folder_with_other_files_is_not_emptied(book, tmp_path, capsys):
    (tmp_path / "photo.jpg").write_text("")
    with pytest.raises(SystemExit):
        book("make").main(["--out", str(tmp_path)])
    assert "choose another folder" in capsys.readouterr().err and (tmp_path / "photo.jpg").exists()

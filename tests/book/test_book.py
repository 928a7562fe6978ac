"""The book: links lead to pages, every plot is in the gallery, and broken links are found."""

import importlib
import pkgutil
import re
import sys
from pathlib import Path

import docutils.core
import jupytext
import nbformat
import pytest
from docutils import nodes
from PIL import Image

import rcnn
from rcnn.course import sources

WIDE_AND_SMALL = (("wide", ""), ("small", ""), ("wide", ' class="sd-card-img-top"'))
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


def test_links_named_after_a_page_get_its_title(book, tmp_path):
    make = book("make")
    others = "[speed.md](stages.md) [CHANGELOG.md](CHANGELOG.md)"
    text = f"[speed.md](speed.md) [docs/speed.md](docs/speed.md#7-threads) {others}"
    title = (BOOK.parent / "speed.md").read_text().partition("\n")[0].removeprefix("# ")
    assert make.rewrite(text, make.ROOT / "docs", tmp_path).startswith(f"[{title}](speed.md) [{title}](")
    assert make.rewrite(text, make.ROOT / "docs", tmp_path).endswith(f" {others}")


def test_notebooks_are_complete_and_solutions_are_folded(book, tmp_path):
    book("make").write_notebooks(tmp_path / "course")
    notebook = nbformat.read(tmp_path / "course" / "08_proposals_and_nms.ipynb", as_version=4)
    folded = [cell.id for cell in notebook.cells if "hide-input" in cell.metadata.get("tags", [])]
    assert "nms-yours" in folded
    assert all("BEGIN SOLUTION" in cell.source for cell in notebook.cells if cell.id in folded)


def test_explorers_take_the_place_of_widgets(book, tmp_path):
    make = book("make")
    printed = nbformat.v4.new_output("stream", text="printed")
    data = {"text/html": '<img alt="still">', "text/plain": "Interactive explorer: run the cell to use it."}
    cell = nbformat.v4.new_code_cell(
        "widgets.box_iou()", id="here", outputs=[printed, nbformat.v4.new_output("execute_result", data=data)]
    )
    shown, added = make.with_explorer(cell)
    assert shown.outputs == [printed] and added.id == "here-explorer"
    assert added.source.startswith("<rcnn-box-iou>") and '<img alt="still">' in added.source  # without scripts
    plain = nbformat.v4.new_code_cell("boxes.iou(a, b)")
    assert make.with_explorer(plain) == [plain]


def test_every_widget_of_the_course_has_an_explorer_and_no_still(book, tmp_path):
    book("make").write_notebooks(tmp_path / "course")
    found = []
    for path in sorted((tmp_path / "course").glob("*.ipynb")):
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "raw":
                found += re.findall(r"^<rcnn-([\w-]+)>", cell.source)
                assert 'alt="' in cell.source
            elif cell.cell_type == "code":
                assert not any("Interactive explorer" in str(output.get("data", "")) for output in cell.outputs)
            else:
                assert "notebook only" not in cell.source
    assert sorted(found) == sorted(name.replace("_", "-") for name in book("explorers").DATA)


def test_texts_for_notebooks_only_are_removed(book):
    pattern = book("make").NOTEBOOK_ONLY
    text = "Move it. <!-- notebook only -->(Without\na kernel, look.)<!-- /notebook only --> Then go on."
    assert pattern.sub("", text) == "Move it. Then go on."


def test_markers_of_notebook_texts_are_in_pairs_and_inside_lines():
    for path in sources.paths():
        text = path.read_text()
        starts, ends = (text.count(f"<!-- {mark}notebook only -->") for mark in ("", "/"))
        assert starts == ends == len(re.findall(r"(?s)<!-- notebook only -->.*?<!-- /notebook only -->", text))
        assert "\n# <!--" not in text  # at the start of a line, Markdown ends the paragraph


def test_names_of_pages_become_links_with_titles(book):
    text = "The page `docs/annotating.md` explains each step; `docs` does not."
    title = (BOOK.parent / "annotating.md").read_text().partition("\n")[0].removeprefix("# ")
    assert book("make").rewrite_docs_names(text) == (
        f"The page [{title}](../annotating.md) explains each step; `docs` does not."
    )


def test_wide_images_scroll(book, tmp_path):
    make, page = book("make"), tmp_path / "page.html"
    Image.new("RGB", (700, 20)).save(tmp_path / "wide.png")
    Image.new("RGB", (300, 20)).save(tmp_path / "small.png")
    wide, small, card = (f'<img alt="a"{more} src="{name}.png" />' for name, more in WIDE_AND_SMALL)
    page.write_text(f'<p>{wide}{small}{card}<img src="data:x"></p><table class="table"><tr></tr></table>')
    make.make_accessible(tmp_path)
    text = page.read_text()
    assert text.count("rcnn-wide") == 1 and f'"overflow-x: auto">{wide}</span>{small}{card}<img' in text
    assert '<table tabindex="0" class="table">' in text


# ---------------------------------------------------------------------- links to the glossary

GLOSSARY = """# Glossary

| word | meaning | notebook |
|---|---|---|
| anchor | one of the `fixed` boxes; see [speed.md](speed.md) | 04 |
| AP, average precision | the area | 12 |
| AP50 | the AP at 0.5 | 12 |
| `aligned` | an option | 09 |
| image | an array | 00 |
"""


def linked(book, page, document):
    """Return the number of links, and the (text, address, hover text) of each."""
    terms = book("terms")
    count = terms.add_links(document, terms.read(GLOSSARY), page)
    return count, [
        (link.astext(), link["refuri"], link["reftitle"])
        for link in document.findall(nodes.reference)
        if "term" in link["classes"]
    ]


def document_of(text):
    return docutils.core.publish_doctree(text)


def test_entries_of_the_glossary_are_read(book):
    found = {term.names: (term.anchor, term.meaning) for term in book("terms").read(GLOSSARY)}
    assert found[("anchor",)] == ("term-anchor", "one of the fixed boxes; see speed.md")
    assert found[("AP", "average precision")] == ("term-ap", "the area")
    assert found[("`aligned`",)] == ("term-aligned", "an option") and len(found) == 5
    real = book("terms").read((BOOK.parent / "glossary.md").read_text())
    assert len(real) > 70 and len({term.anchor for term in real}) == len(real)
    assert {name for term in real for name in term.names} > book("terms").COMMON


def test_first_occurrence_of_a_term_becomes_a_link(book):
    document = document_of("Anchors are boxes. An anchor has *no average precision*, and AP50 is not AP.")
    text = document.astext()
    count, found = linked(book, "../glossary.html", document)
    assert count == 3 and document.astext() == text
    assert found == [
        ("Anchors", "../glossary.html#term-anchor", "one of the fixed boxes; see speed.md"),
        ("average precision", "../glossary.html#term-ap", "the area"),
        ("AP50", "../glossary.html#term-ap50", "the AP at 0.5"),
    ]


def test_headings_code_formulas_and_links_are_not_changed(book):
    document = document_of(
        "An anchor\n=========\n\n``anchor`` and :math:`anchor` and `the anchor <b.html>`_ ::\n\n    anchor\n\n"
        "An ap, re-anchor, anchor-free, anchored, anchor.py and an image are no terms."
    )
    before = document.pformat()
    assert linked(book, "glossary.html", document) == (0, [])
    assert document.pformat() == before


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

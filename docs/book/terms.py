"""An extension of Sphinx that links the first occurrence of each term of the glossary in the text of a page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from docutils import nodes

GLOSSARY = "glossary"
PAGES = re.compile(r"(?!index$|guides$|glossary$|changelog$|contributing$)[\w.-]+$|course/|plots/(?!index$)")
ROW = re.compile(r"^\| (?!word \||-)(.+?) \| (.+?) \| [^|]+ \|$", re.MULTILINE)
MARKS = re.compile(r"`|\*|\[([^\]]*)\]\([^)]*\)")
# Words that texts also use in another sense, or on every page.
COMMON = {
    *("background", "bin", "box", "crowd", "difficult", "duplicate", "head", "ignored", "image", "level", "match"),
    *("offset", "sample", "target", "tile", "trace", "view", "warm-up"),
}
SKIPPED = (
    nodes.title,
    nodes.reference,
    nodes.literal,
    nodes.literal_block,
    nodes.math,
    nodes.math_block,
    nodes.raw,
    nodes.thead,
    nodes.caption,
    nodes.field_name,
)


@dataclass(frozen=True)
class Term:
    """An entry of the glossary.

    Attributes
    ----------
    anchor : str
        Id of the entry on its page.
    names : tuple of str
        The term and its other names.
    meaning : str
        Plain text of its definition.
    """

    anchor: str
    names: tuple[str, ...]
    meaning: str


def read(text: str) -> list[Term]:
    """Return the entries of the glossary.

    Parameters
    ----------
    text : str
        The page in Markdown, with one table.

    Returns
    -------
    list of Term
        The entries, in order.
    """
    return [
        Term(anchor(words), tuple(words.split(", ")), MARKS.sub(lambda match: match[1] or "", meaning))
        for words, meaning in ROW.findall(text)
    ]


def anchor(words: str) -> str:
    """Return the id of an entry from the text of its first column."""
    return "term-" + nodes.make_id(words.partition(",")[0].replace("`", ""))


def add_links(document: nodes.document, terms: list[Term], page: str) -> int:
    """Link the first occurrence of each term in a document, outside headings, code, formulas and other links.

    Parameters
    ----------
    document : docutils.nodes.document
        Document to change.
    terms : list of Term
        Entries of the glossary.
    page : str
        Address of the glossary, relative to the document.

    Returns
    -------
    int
        Number of links.
    """
    names = {name: term for term in terms for name in term.names if "`" not in name and name.lower() not in COMMON}
    found: set[str] = set()
    for text in list(document.findall(nodes.Text)):
        if not _is_prose(text):
            continue
        parts = list(_parts(text.astext(), names, found, page))
        if len(parts) > 1:
            text.parent.replace(text, parts)
    return len(found)


def _is_prose(text: nodes.Text) -> bool:
    node: Any = text.parent
    while node is not None:
        if isinstance(node, SKIPPED):
            return False
        node = node.parent
    return True


def _parts(text: str, names: dict[str, Term], found: set[str], page: str) -> Iterator[nodes.Node]:
    """Yield the parts of a text: links to terms that are not in `found`, and the text between them."""
    end = 0
    for match in _pattern(tuple(names)).finditer(text):
        word = match[1]
        term = names.get(word) or names.get(word[:1].lower() + word[1:])  # also at the start of a sentence
        if term is None or term.anchor in found:
            continue
        found.add(term.anchor)
        yield nodes.Text(text[end : match.start()])
        link = nodes.reference("", match[0], internal=True, refuri=f"{page}#{term.anchor}", reftitle=term.meaning)
        link["classes"].append("term")
        yield link
        end = match.end()
    yield nodes.Text(text[end:])


def _pattern(names: tuple[str, ...]) -> re.Pattern[str]:
    longest_first = sorted(map(re.escape, names), key=len, reverse=True)
    either = "|".join(f"(?i:{name[0]}){name[1:]}" if name[0].islower() else name for name in longest_first)
    return re.compile(rf"(?<![\w/.-])({either})s?(?![\w-]|\.\w)")


def setup(app: Any) -> dict[str, bool]:
    """Add the links after the pages are read; Sphinx calls this function."""

    def change(app: Any, document: nodes.document, name: str) -> None:
        if name == GLOSSARY:
            for row in document.findall(nodes.row):
                first = row[0]
                if not isinstance(row.parent, nodes.thead):
                    first["ids"].append(anchor(first.astext()))
        elif PAGES.match(name):
            terms = read(Path(app.srcdir, f"{GLOSSARY}.md").read_text())
            add_links(document, terms, app.builder.get_relative_uri(name, GLOSSARY))

    app.connect("doctree-resolved", change)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

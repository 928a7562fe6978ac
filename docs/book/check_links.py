"""Check the links of a built site: every link, anchor and image must exist, and nothing may come from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADED = {("script", "src"), ("img", "src"), ("source", "src"), ("iframe", "src"), ("link", "href")}  # with the page
NOT_LOADED = {"canonical", "prev", "next", "search", "index", "author", "copyright", "alternate"}  # kinds of <link>


class Page(HTMLParser):
    """The links and the anchors of an HTML page.

    Parameters
    ----------
    text : str
        The page.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[tuple[str, bool]] = []  # address, and whether the page loads it
        self.anchors = {"", "top"}
        self.without_text: list[str] = []  # images without an alternative text
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect the links and the anchors of a tag."""
        values = {name: value or "" for name, value in attrs}
        self.anchors.update(filter(None, (values.get("id"), values.get("name"))))
        for name in ("href", "src"):
            if name in values:
                loaded = (tag, name) in LOADED and values.get("rel") not in NOT_LOADED
                self.links.append((values[name], loaded))
        if tag == "img" and not values.get("alt", "").strip() and values.get("role") != "presentation":
            self.without_text.append(values.get("src", "")[:60])


def problems(site: Path) -> list[str]:
    """Return one line for each broken link, each file from another server, and each image without a text.

    Parameters
    ----------
    site : Path
        Folder of the site.

    Returns
    -------
    list of str
        The problems; empty if there are none.
    """
    pages = {path: Page(path.read_text()) for path in sorted(site.rglob("*.html")) if path.parent.name != "_static"}
    return [
        f"{path.relative_to(site)}: {problem}" for path, page in pages.items() for problem in _of(path, page, pages)
    ]


def _of(path: Path, page: Page, pages: dict[Path, Page]) -> Iterator[str]:
    for source in page.without_text:
        yield f"no alternative text for the image {source}"
    for address, loaded in page.links:
        parts = urlsplit(address)
        if parts.scheme in ("http", "https") or parts.netloc:
            if loaded:
                yield f"loads {address}"
        elif not parts.scheme:
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            if not target.is_file():
                yield f"link to {address}, which does not exist"
            elif target in pages and unquote(parts.fragment) not in pages[target].anchors:
                yield f"link to {address}, whose anchor does not exist"

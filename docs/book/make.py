"""Build the book, a web site with the course, the guides, the reference and a gallery of all plots.

    python docs/book/make.py              writes build/book/html
    python docs/book/make.py --out DIR    writes DIR, which must be new, empty or an earlier book

It requires `pip install -e '.[docs]'`, npm, which installs MathJax and Pyodide, and what `.ci/wasm-wheel` requires. The
site requests nothing from other servers, with one exception: the detector in a tab loads NumPy from the server of
Pyodide, unless `--numpy` copies a wheel into the site.
If a page has a broken link, or loads a file from another server, the exit status is 1.

The pages are those of docs/, which also work without the site: their links lead to files of the repository. This
script copies them, and rewrites these links so that they lead to pages of the site.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import check_links
import explorers
import gallery
import nbformat
import reference
from PIL import Image

from rcnn.course import figures, sources

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
DOCS = ROOT / "docs"
OUT = ROOT / "build" / "book"
MATHJAX = ("es5/tex-chtml.js", "es5/output/chtml/fonts/woff-v2")
WIDGET = re.compile(r"^widgets\.(\w+)\(", re.MULTILINE)
WIDGET_OUTPUT = "Interactive explorer"  # start of the plain text of a widget
NOTEBOOK_ONLY = re.compile(r"\s?<!-- notebook only -->.*?<!-- /notebook only -->", re.DOTALL)  # not for the site
COMMENT = re.compile(r"<!--.*?-->\n?", re.DOTALL)
LINK = re.compile(r"(?<=\]\()(?!https?:|#|mailto:)([^)#\s]+)(#[^)\s]*)?(?=\))")
NAMED_LINK = re.compile(r"\[(?:docs/)?(\w+\.md)\](?=\((?:docs/)?\1[#)])")
IMAGE = re.compile(r'<img\b[^>]*\bsrc="([^":]+\.(?:png|jpg))"[^>]*>')
REPAIRS = {
    '<table class="table"': '<table tabindex="0" class="table"',
    '<summary aria-label="Toggle hidden content">': "<summary>",
}
PAGES = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}  # of the root folder


def main(arguments: Sequence[str] | None = None) -> int:
    """Build the site, check its links, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=OUT / "html", help="folder of the site (default: build/book/html)")
    parser.add_argument(
        "--quick", action="store_true", help="do not run the code of the gallery, and build the tab without Python"
    )
    for name, what in (
        ("wheel", "rcnn's wheel for browsers (default: build it)"),
        ("numpy", "NumPy's wheel for Pyodide (default: the tab loads it from Pyodide's server)"),
        ("recording", "the recorded walk of the tab (default: record it)"),
    ):
        parser.add_argument(f"--{name}", type=Path, metavar="PATH", help=what)
    options = parser.parse_args(arguments)
    from sphinx.cmd.build import build_main  # not at the top: the tests of the other functions do not need Sphinx

    stage = OUT / "source"
    if options.out.exists() and any(options.out.iterdir()) and not (options.out / "objects.inv").is_file():
        parser.error(f"{options.out} is neither empty nor an earlier book; choose another folder")
    for folder in (stage, options.out):  # Sphinx would keep old pages of the source code
        shutil.rmtree(folder, ignore_errors=True)
    write_pages(stage)
    write_notebooks(stage / "course")
    reference.write(stage / "reference")
    gallery.write(stage / "plots", run=not options.quick)
    install_mathjax(stage / "static" / "mathjax")
    explorers.install(stage / "static")
    status = build_main(["-W", "--keep-going", "-j", "auto", "-q", "-E", str(stage), str(options.out)])
    install_tab(options)
    make_accessible(options.out)
    problems = check_links.problems(options.out)
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"{options.out}: {len(list(options.out.rglob('*.html')))} pages, {len(problems)} problems with links")
    return status or bool(problems)


def write_pages(stage: Path) -> None:
    """Copy the pages and their images, with links that lead to pages of the site."""
    shutil.copytree(
        HERE, stage, ignore=shutil.ignore_patterns("node_modules", "gallery", "*.py", "__pycache__", "package*.json")
    )
    for name in ("conf.py", "terms.py"):
        shutil.copy(HERE / name, stage)
    for path in [*ROOT.glob("docs/*.png"), *ROOT.glob("docs/*.jpg")]:
        shutil.copy(path, stage)
    originals = {path.name: path for path in ROOT.glob("docs/*.md")}
    originals |= {name: ROOT / original for original, name in PAGES.items()}
    for name, original in originals.items():
        text = COMMENT.sub("", original.read_text())
        (stage / name).write_text(rewrite(text, original.parent, stage))
    notebooks = "\n".join(f"course/{source.stem}" for source in sources.paths())
    with (stage / "course.md").open("a") as page:
        page.write(f"\n```{{toctree}}\n:hidden:\n\n{notebooks}\n```\n")


def rewrite(text: str, folder: Path, stage: Path) -> str:
    """Return a page in Markdown with links to pages of the site instead of files; write the pages of linked files.

    A link whose text is the name of a page, such as speed.md, gets the title of the page.
    """
    text = NAMED_LINK.sub(lambda match: f"[{title_of(match[1])}]" if (DOCS / match[1]).exists() else match[0], text)

    def replace(match: re.Match[str]) -> str:
        target = (folder / match[1]).resolve()
        if not target.is_relative_to(ROOT):
            return match[0]
        return page_of(target.relative_to(ROOT), stage) + (match[2] or "")

    return LINK.sub(replace, text)


def page_of(target: Path, stage: Path) -> str:
    """Return the page of a file or folder of the repository; `target` is relative to the root folder."""
    name = target.as_posix()
    if name in PAGES:
        return PAGES[name]
    if target.parts[0] == "docs":
        return target.relative_to("docs").as_posix()
    if target.parts[0] == "notebooks" and target.suffix == ".ipynb":
        return f"course/{target.name}"
    if name in ("notebooks", "rcnn/course/src"):
        return "course.md"
    module = ".".join(target.with_suffix("").parts)
    if module in reference.MODULES:
        return f"reference/{module}.rst"
    if (ROOT / target).is_dir():
        return listing_page(target, stage)
    return file_page(target, stage)


def file_page(target: Path, stage: Path) -> str:
    """Write a page with the content of a text file, and return its path."""
    language = {".py": "python", ".md": "markdown", ".cff": "yaml"}.get(target.suffix, "text")
    fence = "`" * 8  # more than any line of the file has
    return write_page(target, f"{fence}{language}\n{(ROOT / target).read_text()}\n{fence}", stage)


def listing_page(folder: Path, stage: Path) -> str:
    """Write a page with links to the Python files of a folder, and return its path."""
    files = [path.relative_to(ROOT) for pattern in ("*.py", "*.pyx") for path in sorted((ROOT / folder).glob(pattern))]
    return write_page(folder, "\n".join(f"- [{file.name}](../{file_page(file, stage)})" for file in files), stage)


def write_page(target: Path, content: str, stage: Path) -> str:
    """Write a page about a file or folder of the repository, and return its path."""
    page = f"files/{target.as_posix().replace('/', '-')}.md"
    (stage / "files").mkdir(exist_ok=True)
    (stage / page).write_text(f"---\norphan: true\n---\n\n# {target.as_posix()}\n\n{content}\n")
    return page


def write_notebooks(folder: Path) -> None:
    """Copy the notebooks with their stored outputs. Solutions are folded, and explorers take the place of widgets."""
    folder.mkdir()
    for source in sources.paths():
        notebook = nbformat.read(ROOT / "notebooks" / f"{source.stem}.ipynb", as_version=4)
        for cell in notebook.cells:
            if sources.is_exercise(cell):
                cell.metadata["tags"] = ["hide-input"]
            elif cell.id == "quiz":
                cell.metadata["tags"] = ["remove-input"]  # it contains the answers
            elif cell.cell_type == "markdown":
                cell.source = rewrite_docs_names(NOTEBOOK_ONLY.sub("", cell.source))
        notebook.cells = [each for cell in notebook.cells for each in with_explorer(cell)]
        (folder / f"{source.stem}.ipynb").write_bytes(sources.as_json(notebook))


def with_explorer(cell: Any) -> list[Any]:
    """Return a cell and, if it shows a widget, a cell with the explorer that does the same without a kernel.

    The still image of the widget moves into the element of the explorer, which shows it if there are no scripts.
    """
    match = WIDGET.search(cell.source) if cell.cell_type == "code" else None
    if match is None:
        return [cell]
    stills = [output for output in cell.outputs if WIDGET_OUTPUT in output.get("data", {}).get("text/plain", "")]
    cell.outputs = [output for output in cell.outputs if output not in stills]
    still = "\n".join(output.data["text/html"] for output in stills)
    added = nbformat.v4.new_raw_cell(explorers.element(match[1], still), metadata={"format": "text/html"})
    added.id = f"{cell.id}-explorer"
    return [cell, added]


def rewrite_docs_names(text: str) -> str:
    """Return a text in which names such as `docs/speed.md` are links with the titles of the pages."""
    return re.sub(r"`docs/(\w+\.md)`", lambda match: f"[{title_of(match[1])}](../{match[1]})", text)


def title_of(name: str) -> str:
    """Return the title of a page of docs/, from its first line."""
    return (DOCS / name).read_text().partition("\n")[0].removeprefix("# ")


def make_accessible(site: Path) -> None:
    """Repair what the theme leaves: wide parts scroll, also with the keyboard, and labels are as shown."""
    for path in site.rglob("*.html"):
        text = path.read_text()
        for old, new in REPAIRS.items():
            text = text.replace(old, new)
        path.write_text(IMAGE.sub(lambda match, page=path: in_wide_box(match, page), text))


def in_wide_box(match: re.Match[str], page: Path) -> str:
    """Return an image of a page, inside a box that scrolls if the image is wide."""
    file = page.parent / unquote(match[1])
    if not file.is_file() or "sd-card-img-top" in match[0]:
        return match[0]
    with Image.open(file) as image:
        if image.width < figures.LEGIBLE:
            return match[0]
    return f"{figures.WIDE.replace('<div', '<span')}{match[0]}</span>"


def install_tab(options: argparse.Namespace) -> None:
    """Build the detector in a tab, in the folder tab of the site."""
    command = [sys.executable, ROOT / "web" / "tab" / "build.py", "--out", options.out / "tab"]
    for name in ("wheel", "numpy", "recording"):
        path = getattr(options, name)
        command += [] if path is None else [f"--{name}", path]
    subprocess.run([*command, *(["--without-python"] if options.quick else [])], check=True)


def install_mathjax(folder: Path) -> None:
    """Install MathJax with npm, in the version of the lock file, and copy the files that the site needs."""
    subprocess.run(["npm", "ci", "--silent", "--no-audit", "--no-fund"], cwd=HERE, check=True)
    for name in MATHJAX:
        source, target = HERE / "node_modules" / "mathjax" / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            shutil.copy(source, target)


if __name__ == "__main__":
    sys.exit(main())

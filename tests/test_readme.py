"""README and docs: the examples run as printed, the commands exist, and the targets of links exist."""

import re
import shlex
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import pytest

from rcnn import checks, cli

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
LONGEST_README = 150  # lines

# If a test cannot run a snippet, the snippet is below the comment "<!-- not run: the reason -->".
SNIPPET = re.compile(r"^(?:<!-- not run: ([^\n]+) -->\n)?```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
SHELL = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


class Snippet(NamedTuple):
    page: Path
    number: int
    reason: str  # why it is not run; empty if it is
    code: str


SNIPPETS = [
    Snippet(page, number, *match.groups(""))
    for page in PAGES
    for number, match in enumerate(SNIPPET.finditer(page.read_text(encoding="utf-8")))
]
RUN = [snippet for snippet in SNIPPETS if not snippet.reason]


def shell_commands(page: Path) -> list[list[str]]:
    """Return the words of every `rcnn` command in the shell blocks of a page."""
    lines = "\n".join(SHELL.findall(page.read_text(encoding="utf-8"))).splitlines()
    words = [shlex.split(part, comments=True) for line in lines for part in line.split("&&")]
    return [line[1:] for line in words if line and Path(line[0]).name == "rcnn"]


COMMANDS = [(page, words) for page in PAGES for words in shell_commands(page)]


@pytest.mark.parametrize("snippet", RUN, ids=lambda snippet: f"{snippet.page.stem}-{snippet.number}")
def test_a_snippet_runs_as_printed(
    snippet: Snippet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    matplotlib.use("Agg")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(snippet.code, snippet.page.name, "exec"), names)
    printed = capsys.readouterr().out.splitlines()
    promised = re.findall(r"^ *print\(.*# (.*)$", snippet.code, re.MULTILINE)
    assert printed[: len(promised)] == promised
    if "losses" in names:
        check_losses(names["losses"])


def check_losses(losses: dict[str, Any]) -> None:
    assert list(losses) == ["rpn_cls_loss", "rpn_reg_loss", "roi_cls_loss", "roi_reg_loss", "total_loss"]
    values = [loss.item() for loss in losses.values()]
    assert all(value > 0 for value in values)
    assert values[-1] == pytest.approx(sum(values[:4]))


def test_only_downloads_are_excluded_and_they_compile() -> None:
    excluded = [snippet for snippet in SNIPPETS if snippet.reason]
    assert len(RUN) >= 10 and any("get_loss" in snippet.code for snippet in RUN)
    assert {snippet.page.stem for snippet in excluded} <= {"checkpoints"}
    for snippet in excluded:
        assert re.match(r"downloads \d+ MB$", snippet.reason)
        compile(snippet.code, snippet.page.name, "exec")


def test_every_block_of_code_names_its_language() -> None:
    for page in PAGES:
        starts = [block.splitlines()[0] for block in FENCED.findall(page.read_text(encoding="utf-8"))]
        assert set(starts) <= {"```python", "```sh", "```text"}, page


def test_the_commands_of_the_pages_exist(capsys: pytest.CaptureFixture[str]) -> None:
    assert {words[0] for _, words in COMMANDS} >= {"demo", "check", "train", "eval", "detect", "doctor", "convert"}
    for page, words in COMMANDS:
        name = words[:2] if words[0] == "course" else words[:1]
        with pytest.raises(SystemExit) as end:
            cli.main([*name, "--help"])
        assert end.value.code == 0, page
        printed = capsys.readouterr().out
        for option in (word for word in words if word.startswith("--")):
            assert re.search(rf"(?<!\S){option}\b", printed.replace("[", " ")), f"{page.name}: rcnn {shlex.join(words)}"


def test_commands_md_has_a_section_for_every_command() -> None:
    sections = re.findall(r"^## ([a-z ]+)$", (ROOT / "docs" / "commands.md").read_text(encoding="utf-8"), re.MULTILINE)
    documented = {section.split()[0] for section in sections}
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    assert documented == {
        "demo",
        "check",
        "view",
        "train",
        "eval",
        "detect",
        "doctor",
        "convert",
        "export",
        "course",
        "info",
    }


def slugs(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    heads = re.findall(r"^#+ (.+)$", FENCED.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_have_an_existing_target(page: Path) -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")) if "://" not in link]
    assert links or page.stem not in ("README", "teaching")
    for link in links:
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in slugs(target), link


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, todo = set(), [README]
    while todo:
        page = todo.pop().resolve()
        if page not in reached and page.suffix == ".md":
            reached.add(page)
            links = re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8"))
            todo += [page.parent / link for link in links if "://" not in link]
    assert {page.resolve() for page in PAGES} <= reached


def test_the_readme_is_short_and_begins_with_the_two_commands() -> None:
    lines = README.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= LONGEST_README
    setups = [line for line in lines if line.startswith("python3 -m venv")]
    assert [line.split(" && ")[-1].removeprefix(".venv/bin/") for line in setups] == ["rcnn demo", "pytest"]
    assert lines.index(setups[1]) < 30
    assert "[" not in setups[0]  # the demo installs no extra


def test_every_check_is_listed_for_lecturers() -> None:
    text = (ROOT / "docs" / "teaching.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| [^|]+ \| ((?:`\w+`(?:, )?)+) \|$", text, re.MULTILINE)
    listed = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert listed == set(checks.__all__) - {"CheckFailed", "hint"}


def test_the_glossary_is_in_order_and_points_to_notebooks() -> None:
    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (?!word)([^|]+) \|[^|]+\| ([\d, ]+) \|$", text, re.MULTILINE)
    words = [word.split(",")[0].strip("`").lower() for word, _ in rows]
    assert len(words) >= 50 and words == sorted(words)
    numbers = {path.name[:2] for path in (ROOT / "rcnn" / "course" / "src").glob("*.py")}
    assert {number for _, cell in rows for number in cell.split(", ")} <= numbers

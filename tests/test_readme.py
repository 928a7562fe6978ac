"""The examples of README and docs run as they are printed, their links lead somewhere, and their commands exist."""

import re
from pathlib import Path
from typing import Any

import matplotlib
import pytest

from rcnn import cli

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
README = PAGES[0].read_text()


def examples(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


EXAMPLES = examples(PAGES[0])
COMMANDS = re.findall(r"^    rcnn (\w+)", "\n".join(page.read_text() for page in PAGES), re.MULTILINE)


@pytest.mark.parametrize(
    "example",
    [
        pytest.param(example, id=f"{page.stem}-{number}")
        for page in PAGES
        for number, example in enumerate(examples(page))
    ],
)
def test_example_runs_as_printed(
    example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    matplotlib.use("Agg")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(example, "README.md", "exec"), names)
    printed = capsys.readouterr().out.splitlines()
    promised = re.findall(r"^print\(.*# (.*)$", example, re.MULTILINE)
    assert printed[: len(promised)] == promised
    if "losses" in names:
        check_losses(names["losses"])


def check_losses(losses: dict[str, Any]) -> None:
    assert list(losses) == ["rpn_cls_loss", "rpn_reg_loss", "roi_cls_loss", "roi_reg_loss", "total_loss"]
    values = [loss.item() for loss in losses.values()]
    assert all(value > 0 for value in values)
    assert values[-1] == pytest.approx(sum(values[:4]))


def test_there_are_examples_and_every_command_exists(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(EXAMPLES) >= 4 and any("get_loss" in example for example in EXAMPLES) and len(COMMANDS) >= 5
    for command in COMMANDS:
        with pytest.raises(SystemExit) as end:
            cli.main([command, "--help"])
        assert end.value.code == 0
        assert f"usage: rcnn {command}" in capsys.readouterr().out


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", page.read_text()) if "://" not in link]
    assert links or page.stem not in ("README", "teaching")
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_glossary_is_in_order_and_points_to_notebooks() -> None:
    rows = re.findall(
        r"^\| (?!word)([^|]+) \|[^|]+\| ([\d, ]+) \|$", (ROOT / "docs" / "glossary.md").read_text(), re.MULTILINE
    )
    words = [word.split(",")[0].strip("`").lower() for word, _ in rows]
    assert len(words) >= 50 and words == sorted(words)
    numbers = {path.name[:2] for path in (ROOT / "notebooks" / "src").glob("*.py")}
    assert {number for _, cell in rows for number in cell.split(", ")} <= numbers

"""The README's examples run as they are printed, and its commands exist."""

import re
from pathlib import Path
from typing import Any

import matplotlib
import pytest

from rcnn import cli

README = (Path(__file__).parents[1] / "README.md").read_text()
EXAMPLES = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
COMMANDS = re.findall(r"^    rcnn (\w+)", README, re.MULTILINE)


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_example_runs_as_printed(example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                 capsys: pytest.CaptureFixture[str]) -> None:
    matplotlib.use("Agg")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(example, "README.md", "exec"), names)
    printed = capsys.readouterr().out.splitlines()
    promised = re.findall(r"^print\(.*# (.*)$", example, re.MULTILINE)
    assert printed[:len(promised)] == promised
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


def test_links_lead_somewhere() -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in link]
    assert links and all((Path(__file__).parents[1] / link).exists() for link in links)

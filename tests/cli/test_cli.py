"""The command line: output, files, exit status and errors."""

import argparse
import re
import subprocess
import sys
import webbrowser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import rcnn
from rcnn import cli, data, train
from rcnn.cli.html.report import REPORT
from rcnn.cli.process import INTERRUPTED
from rcnn.train import run_folder
from rcnn.zoo import checkpoint


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of two steps on shapes."""
    folder = tmp_path_factory.mktemp("runs") / "shapes"
    assert cli.main(["train", "shapes", "--steps", "2", "--seed", "3", "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def digits_weights() -> Path:
    """Path of the weights that are shipped with the package."""
    return Path(rcnn.__file__).parent / "zoo" / "weights" / "digits.safetensors"


def fails(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run a command that must fail with status 2, and return its one line on standard error."""
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("rcnn: ") and error.count("\n") == 1
    return error


def test_demo_shows_the_funnel_draws_every_stage_and_evaluates(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[str] = []
    monkeypatch.setattr(webbrowser, "open", shown.append)
    assert cli.main(["demo", "--out", str(tmp_path), "--open"]) == 0
    out = capsys.readouterr().out
    counts = [
        int(n.replace(",", ""))
        for n in re.findall(
            r"^  (?:anchors|candidates|after NMS|proposals|RoIs|detections) +([\d,]+)$", out, re.MULTILINE
        )
    ]
    assert len(counts) == 6 and counts == sorted(counts, reverse=True) and counts[-1] >= 5
    assert re.search(r"milliseconds: backbone \d", out)
    shown_scores = re.findall(
        r"\((\d\.\d\d)\)", re.search(r"^detections with a score above 0\.5: .*$", out, re.MULTILINE)[0]
    )
    assert len(shown_scores) >= 5 and all(float(score) >= 0.5 for score in shown_scores)
    assert re.findall(r"^  (rcnn \w+)", out[out.index("Try next:") :], re.MULTILINE) == [
        "rcnn detect",
        "rcnn train",
        "rcnn course",
    ]
    ap = re.search(r"^AP50 on 200 unseen pages: (\d\.\d+)$", out, re.MULTILINE)
    assert ap and float(ap[1]) >= 0.93
    figures = sorted(path.name for path in tmp_path.iterdir())
    assert len(figures) == 9 and "strip.png" in figures
    for path in tmp_path.iterdir():
        with Image.open(path) as image:
            assert min(image.size) >= 300
    assert shown == [(tmp_path / "strip.png").as_uri()]


def test_train_writes_a_model_that_eval_and_load_read(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert {path.name for path in trained.iterdir()} == {
        run_folder.WEIGHTS,
        run_folder.BEST,
        run_folder.STATE,
        run_folder.HISTORY,
        run_folder.VALIDATION,
        run_folder.PLAN,
        run_folder.CURVES,
        REPORT,
    }
    model = rcnn.load(trained / run_folder.WEIGHTS)
    assert model.config.class_names == data.Shapes.classes
    assert run_folder.open_run(trained).recipe.seed == 3
    assert cli.main(["eval", "shapes", "--weights", str(trained / run_folder.WEIGHTS), "--images", "20"]) == 0
    table = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in table] == ["class", *data.Shapes.classes[1:], "mean"]


def test_training_resumes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pages = data.load("shapes", "train")
    rcnn.seed(1)
    model = rcnn.faster_rcnn_small(pages.classes)
    recipe = train.RECIPES["shapes"].replace(steps=3, seed=1)
    train.fit(model, pages, recipe, tmp_path, stop_at=1, progress=False)
    assert cli.main(["train", "shapes", "--resume", str(tmp_path)]) == 0
    assert "3 steps" in capsys.readouterr().out
    assert len(run_folder.read_table(tmp_path / run_folder.HISTORY)["total_loss"]) == 3


def test_resuming_another_run_is_an_error(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "steps was 2, got 9" in fails(capsys, "train", "shapes", "--resume", str(trained), "--steps", "9")
    assert "circle" in fails(capsys, "train", "digits", "--resume", str(trained))
    assert "state.safetensors" in fails(capsys, "train", "digits", "--resume", str(trained / "nowhere"))


def test_info_names_versions_backend_and_threads(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["info"]) == 0
    facts = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert facts["rcnn"] == rcnn.__version__ and facts["numpy"] == np.__version__
    assert facts["backend"] in ("cython", "numpy") and int(facts["threads"]) >= 1
    assert {"kernels", "threads", "simd", "system", "processor", "pillow", "folder", "cache"} <= set(facts)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "cats"], "'cats'"),
        (["train", "shapes", "--steps", "0"], "steps must be an integer of at least 1 and at most 100000000"),
        (["eval", "shapes", "--weights", "nowhere.safetensors"], "nowhere.safetensors: file not found"),
        (["eval", "shapes", "--weights", __file__], "is not a readable .pth file"),
        (["detect", "a.png", "--weights", "nowhere.safetensors"], "nowhere.safetensors: file not found"),
        (["detect", "a.png", "--weights", "nowhere.safetensors", "--score", "7"], "--score must be between 0 and 1"),
    ],
)
def test_errors_are_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert message in fails(capsys, *arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        ["fly"],
        ["detect"],
        ["train", "shapes", "--steps", "many"],
        ["train", "shapes", "--out", "a", "--resume", "b"],
    ],
)
def test_wrong_usage_is_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    error = capsys.readouterr().err
    assert end.value.code == 2 and error.startswith("rcnn") and error.count("\n") == 1 and "--help" in error


@pytest.mark.parametrize(("arguments", "first"), [([], "usage: rcnn ["), (["course"], "usage: rcnn course [")])
def test_without_a_command_the_help_is_printed(arguments, first, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(arguments) == 0
    assert capsys.readouterr().out.startswith(first)


@pytest.mark.parametrize(
    ("arguments", "right"),
    [
        (["detcet"], "rcnn: 'detcet' is not a command; did you mean detect?"),
        (["Train"], "rcnn: 'Train' is not a command; did you mean train?"),
        (["evaluate"], "rcnn: 'evaluate' is not a command; did you mean eval?"),
        (["course", "exprt"], "rcnn course: argument ACTION: 'exprt' is not a choice; did you mean export?"),
        (
            ["eval", "--measure", "coc"],
            "rcnn eval: argument --measure: 'coc' is not a choice; did you mean coco?",
        ),
        (["train", "shapes", "--step", "9", "--sead=3"], "rcnn train: unknown option --sead; did you mean --seed?"),
        (["detect", "a.png", "--weigths", "coco"], "rcnn detect: unknown option --weigths; did you mean --weights?"),
        (["detect", "a.png", "--weights", "coco", "--fly"], "rcnn detect: unknown option --fly;"),
        (["info", "--verbos", "all"], "rcnn info: unknown arguments: all;"),
    ],
)
def test_misspelt_word_suggests_the_right_one(arguments, right, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(arguments)
    error = capsys.readouterr().err
    assert error.startswith(right) and "or help, run: " in error and error.count("\n") == 1


def test_unknown_command_lists_all(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(["0000"])
    assert capsys.readouterr().err.startswith("rcnn: '0000' is not a command; choose from demo, check, view, train, ")


@pytest.mark.parametrize("arguments", [["eval", "shapes", "--quiet"], ["-q", "eval", "shapes"]])
def test_quiet_prints_only_errors(arguments, trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*arguments, "--weights", str(trained), "--images", "2"]) == 0
    assert cli.main([*arguments, "--weights", str(trained), "--images", "0"]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err == "rcnn: --images must be at least 1, got 0\n"
    assert cli.main(["info"]) == 0 and capsys.readouterr().out  # only this command was quiet


def test_verbose_prints_all_names(tmp_path: Path, capsys: pytest.CaptureFixture[str], digits_weights: Path) -> None:
    tensors, metadata = checkpoint.read_tensors(digits_weights)
    left = {name: array for name, array in tensors.items() if ".bias" not in name}
    checkpoint.write_tensors(tmp_path / "part.safetensors", left, metadata)
    arguments = ["eval", "digits", "--weights", str(tmp_path / "part.safetensors")]
    assert " more" in fails(capsys, *arguments)
    assert cli.main([*arguments, "--verbose"]) == 2
    error = capsys.readouterr().err
    assert all(name in error for name in tensors.keys() - left.keys()) and error.count("\n") == 2


def test_shell_completion(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shell sets a variable and runs the command, which answers and ends the process."""

    def autocomplete(parser: argparse.ArgumentParser) -> None:
        assert "detect" in parser.format_help()
        raise SystemExit(0)

    monkeypatch.setitem(sys.modules, "argcomplete", SimpleNamespace(autocomplete=autocomplete))
    monkeypatch.setenv("_ARGCOMPLETE", "1")
    with pytest.raises(SystemExit):
        cli.main(["info"])


def test_weights_of_other_classes_are_an_error(capsys: pytest.CaptureFixture[str], digits_weights: Path) -> None:
    assert "11 classes" in fails(capsys, "eval", "shapes", "--weights", str(digits_weights))


def test_command_starts_without_matplotlib() -> None:
    """matplotlib is imported only to draw: `rcnn info` and training start without it."""
    code = "import sys, rcnn.cli; rcnn.cli.main(['info']); sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_ctrl_c_ends_with_the_command_to_continue(tmp_path: Path) -> None:
    """Run the whole command in its own process, and send Ctrl-C while it reads the first page of the training.

    The command reads one page before, to estimate the memory of a step.
    """
    code = """
import os, signal, sys
from rcnn import cli, data
page, indices = data.Shapes.__getitem__, []
def interrupted(self, index):
    indices.append(index)
    if len(indices) == 2:
        os.kill(os.getpid(), signal.SIGINT)
    return page(self, index)
data.Shapes.__getitem__ = interrupted
sys.exit(cli.main(["train", "shapes", "--steps", "4", "--out", sys.argv[1]]))
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == INTERRUPTED
    assert done.stdout == f"interrupted after step 1 of 4 and saved; to continue: rcnn train --resume {tmp_path}\n"
    assert len(run_folder.read_table(tmp_path / run_folder.HISTORY)["total_loss"]) == 1

"""A folder of annotated images from end to end, with the commands of the README's "Your own images"."""

import re
from pathlib import Path

import numpy as np
import pytest

import rcnn
from rcnn import cli
from rcnn.train import run_folder

FORMS = ("voc", "coco", "csv")


def test_pages_in_every_format_train_to_the_same_bits(tmp_path: Path) -> None:
    """Check, train on and compare drawn pages and their VOC, COCO and CSV copies from `rcnn convert`."""
    files = {}
    for form in FORMS:
        spec, out = f"{form}:{tmp_path / form}", tmp_path / "runs" / form
        assert cli.main(["convert", "digits", spec, "--train", "20", "--val", "4"]) == 0
        assert cli.main(["train", spec, "--steps", "4", "--out", str(out)]) == 0
        files[form] = [
            (out / name).read_bytes()
            for name in (run_folder.WEIGHTS, run_folder.BEST, run_folder.HISTORY, run_folder.VALIDATION)
        ]
    assert files["voc"] == files["coco"] == files["csv"]

    toml = (tmp_path / "runs" / "voc" / run_folder.PLAN).read_text().replace(f"voc:{tmp_path / 'voc'}", "digits")
    drawn = tmp_path / "drawn.toml"
    drawn.write_text(toml.replace("[data]", "[data]\ntrain_images = 20\nval_images = 4"))
    assert cli.main(["train", str(drawn), "--out", str(tmp_path / "runs" / "drawn")]) == 0
    assert [
        (tmp_path / "runs" / "drawn" / name).read_bytes()
        for name in (run_folder.WEIGHTS, run_folder.BEST, run_folder.HISTORY, run_folder.VALIDATION)
    ] == files["voc"]


def walk(folder: Path, spec: str, capsys: pytest.CaptureFixture[str], *training: str) -> tuple[float, int]:
    """Run every command of the README on a data set; return (AP50, the doctor's exit status)."""
    out, page = folder / "run", next((folder / "pages").rglob("val_000001.png"))
    assert cli.main(["check", spec, "--sheet", str(folder / "sheet.png")]) == 0
    assert "warning" not in capsys.readouterr().out
    assert cli.main(["train", spec, "--out", str(out), *training]) == 0
    capsys.readouterr()
    assert cli.main(["eval", spec, "--weights", str(out), "--errors", "--plots", str(folder / "plots")]) == 0
    mean = re.search(r"^mean +\d+ +\d+ +([\d.]+)$", capsys.readouterr().out, re.MULTILINE)
    assert mean is not None
    assert cli.main(["detect", str(page), "--weights", str(out / run_folder.BEST), "--out", str(folder / "drawn")]) == 0
    for drawing in ("sheet.png", "plots/evaluation.png", "drawn/val_000001.png", "run/curves.png"):
        assert (folder / drawing).stat().st_size > 10_000
    return float(mean[1]), cli.main(["doctor", str(out)])


@pytest.mark.slow
def test_the_small_network_reads_a_folder_of_digits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = f"voc:{tmp_path / 'pages'}"
    assert cli.main(["convert", "digits", spec, "--train", "400", "--val", "100"]) == 0
    ap50, trouble = walk(tmp_path, spec, capsys)
    assert ap50 >= 0.92
    report = capsys.readouterr().out
    assert trouble == 0 and report.rstrip().endswith("nothing is wrong"), report


@pytest.mark.slow
def test_a_resnet_learns_from_the_same_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Only require that the loss falls: training from random weights takes longer than a test may."""
    spec = f"coco:{tmp_path / 'pages'}"
    assert cli.main(["convert", "digits", spec, "--train", "40", "--val", "10"]) == 0
    walk(tmp_path, spec, capsys, "--model", "resnet18", "--steps", "30")
    history = run_folder.read_table(tmp_path / "run" / run_folder.HISTORY)["total_loss"]
    assert np.mean(history[-10:]) < 0.9 * np.mean(history[:10])
    assert rcnn.load(tmp_path / "run" / run_folder.BEST).config.use_fpn

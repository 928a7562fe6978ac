"""`rcnn train`: training from a data set or a plan, resuming, repeating, and errors."""

import argparse
import dataclasses
import os
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import rcnn
from rcnn import data
from rcnn.cli import train as train_command
from rcnn.cli.html.report import REPORT
from rcnn.train import memory, plan, run_folder
from rcnn.train.plan import Plan
from rcnn.train.recipe import Recipe

RECIPE = Recipe(steps=3, batch_size=2, warmup_steps=1, flip=0.5, scale_jitter=(0.9, 1.1), val_every=2, seed=2)
FILES = {  # all but the report, which names its folder
    run_folder.WEIGHTS,
    run_folder.BEST,
    run_folder.STATE,
    run_folder.HISTORY,
    run_folder.VALIDATION,
    run_folder.PLAN,
    run_folder.CURVES,
}


def command(*arguments: str) -> int:
    """Return the exit status of `rcnn train` with these arguments."""
    parser = argparse.ArgumentParser()
    train_command.add_parser(parser.add_subparsers())
    options = parser.parse_args(["train", *map(str, arguments)])
    status: int = options.run(options)
    return status


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plan, next to its VOC folder, whose anchors are fitted."""
    root = tmp_path_factory.mktemp("own")
    data.write_voc(data.Shapes(5, size=(64, 96)), root / "photos", "train", progress=False)
    data.write_voc(data.Shapes(2, split="val", size=(64, 96)), root / "photos", "val", progress=False)
    plan.write(
        root / "plan.toml",
        Plan("voc:photos", "voc:photos", anchors="fit", recipe=RECIPE, settings={"min_size": 64, "max_size": 96}),
    )
    return root / "plan.toml"


@pytest.fixture(scope="module")
def trained(planned: Path) -> Path:
    """The folder of the run of that plan."""
    assert command(planned, "--out", planned.parent / "run") == 0
    return planned.parent / "run"


def same(a: Path, b: Path, names: set[str]) -> bool:
    return all((a / name).read_bytes() == (b / name).read_bytes() for name in names)


def test_files_of_a_run(trained: Path) -> None:
    assert {path.name for path in trained.iterdir()} == {*FILES, REPORT}
    saved = run_folder.open_run(trained)
    assert saved.run.steps == 3 and saved.validation["step"] == [2, 3]
    assert saved.plan is not None and saved.plan.anchors is None and saved.plan.recipe == RECIPE == saved.recipe
    assert saved.plan.train == f"voc:{trained.parent / 'photos'}"
    assert rcnn.load(trained / run_folder.BEST).config.class_names == data.Shapes.classes
    with Image.open(trained / run_folder.CURVES) as image:
        assert min(image.size) >= 500


def test_plan_in_the_folder_repeats_the_run(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(trained / run_folder.PLAN, "--out", tmp_path / "again", "--workers", "0") == 0
    assert same(trained, tmp_path / "again", FILES)
    out = capsys.readouterr().out
    assert f"weights: {tmp_path / 'again' / run_folder.WEIGHTS}\n" in out and "best AP50 on voc:" in out


def test_interrupted_run_resumes_bit_identically(
    planned: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    getitem, indices = data.records.AnnotatedImages.__getitem__, []

    def interrupted(self: object, index: int) -> object:
        indices.append(index)
        if len(indices) == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return getitem(self, index)

    with monkeypatch.context() as patch:
        patch.setattr(data.records.AnnotatedImages, "__getitem__", interrupted)
        assert command(planned, "--out", tmp_path / "run") == train_command.INTERRUPTED
    assert capsys.readouterr().out.endswith(
        f"interrupted after step 1 of 3 and saved; to continue: rcnn train --resume {tmp_path / 'run'}\n"
    )
    assert command("--resume", tmp_path / "run", "--steps", "3") == 0
    assert same(trained, tmp_path / "run", FILES)


def test_data_set_on_the_command_line_is_the_new_location_of_the_images(trained: Path) -> None:
    saved = run_folder.open_run(trained)
    assert saved.plan is not None
    options = argparse.Namespace(dataset="voc:/moved", resume=trained, steps=None, seed=None, on_error=None)
    followed = train_command._followed(options, saved)
    assert followed == dataclasses.replace(saved.plan, train="voc:/moved", val="voc:/moved")
    elsewhere = dataclasses.replace(saved, plan=dataclasses.replace(saved.plan, val="voc:/other"))
    assert train_command._followed(options, elsewhere).val == "voc:/other"
    options.dataset = str(trained / run_folder.PLAN)
    assert train_command._followed(options, elsewhere) == saved.plan


def test_default_folder_has_the_name_of_the_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(data.Shapes, "__len__", lambda self: 4)
    assert command("shapes", "--steps", "1", "--seed", "3") == 0
    saved = run_folder.open_run(tmp_path / "runs" / "shapes")
    assert saved.plan is not None and saved.plan.train == "shapes"
    assert (saved.recipe.steps, saved.recipe.seed, saved.plan.recipe) == (1, 3, saved.recipe)


def test_batch_size_fits_the_memory_unless_a_plan_states_it(
    planned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(data.Shapes, "__len__", lambda self: 4)
    monkeypatch.setattr(memory, "available", lambda: 20_000_000)
    assert command("shapes", "--steps", "1", "--out", tmp_path / "a") == 0
    assert "use batch_size = 1 and accumulate = 4; this choice is written to run.toml" in capsys.readouterr().out
    recipe = run_folder.open_run(tmp_path / "a").recipe
    assert (recipe.batch_size, recipe.accumulate) == (1, 4)
    monkeypatch.setattr(memory, "available", lambda: 6_000_000)
    assert command(planned, "--out", tmp_path / "b") == 0
    assert "warning: a step with batch_size = 2 needs about " in capsys.readouterr().out
    assert run_folder.open_run(tmp_path / "b").recipe == RECIPE


@pytest.mark.parametrize(
    ("spec", "name"), [("digits", "digits"), ("voc:/a/photos", "photos"), ("csv:/a/b.csv", "b"), ("coco:/", "run")]
)
def test_names_of_runs(spec: str, name: str) -> None:
    assert train_command._name(spec) == name


def test_plan_is_written_for_editing(
    planned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(planned.parent)
    assert command("voc:photos", "--model", "resnet18", "--steps", "9", "--plan", tmp_path / "a.toml") == 0
    assert f"rcnn train {tmp_path / 'a.toml'}" in capsys.readouterr().out
    written = plan.read(tmp_path / "a.toml")
    assert (written.kind, written.recipe.steps, written.anchors) == ("resnet18", 9, "fit")
    assert written.train == f"voc:{planned.parent / 'photos'}"
    assert not (planned.parent / "runs").exists()


@pytest.mark.parametrize("name", [run_folder.WEIGHTS, run_folder.BEST, run_folder.HISTORY])
def test_rest_of_a_run_is_not_overwritten(planned: Path, tmp_path: Path, name: str) -> None:
    """The large state may have been deleted to save space."""
    (tmp_path / name).write_bytes(b"kept")
    with pytest.raises(FileExistsError, match=f"files of a run without its state.safetensors: {name}; for a new run"):
        command(planned, "--out", tmp_path)
    assert (tmp_path / name).read_bytes() == b"kept"


def test_run_is_not_overwritten(planned: Path, trained: Path) -> None:
    before = (trained / run_folder.STATE).read_bytes()
    with pytest.raises(FileExistsError, match=f"to continue it: rcnn train --resume {trained}; for a new"):
        command(planned, "--out", trained)
    assert (trained / run_folder.STATE).read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "add a data set, a plan"),
        (
            ("--resume", "RUN", "--steps", "9"),
            "cannot resume the run in .* with other settings: steps was 3, got 9; start a new run",
        ),
        (("--resume", "RUN", "--seed", "0"), "with other settings: seed was 2, got 0; "),
        (("--resume", "RUN", "--model", "resnet18"), "with other settings: model was 'small', got 'resnet18'"),
        (("EDITED", "--resume", "RUN"), "other settings: min_size was 64, got 80, lr was 0.003, got 0.01; "),
        (("shapes", "--plan", "edit-me"), "--plan must name a file that ends in .toml, got 'edit-me'"),
        (("digits", "--resume", "RUN"), "the classes of the run are circle, square, .*, but the data set has 0, 1"),
        (("PLAN", "--model", "resnet18", "--out", "x"), "--model resnet18 contradicts kind = 'small' in .*; edit"),
        (("PLAN", "--steps", "0", "--out", "x"), "steps must be an integer of at least 1 and at most 100000000, got 0"),
    ],
)
def test_contradictory_arguments_are_an_error(
    planned: Path, trained: Path, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    edited = tmp_path / "edited.toml"
    edited.write_text(planned.read_text().replace("min_size = 64", "min_size = 80").replace("lr = 0.003", "lr = 0.01"))
    paths = {"RUN": trained, "PLAN": planned, "EDITED": edited}
    with pytest.raises(ValueError, match=message):
        command(*(str(paths.get(word, word)) for word in arguments))


def test_edited_plan_in_the_folder_is_an_error(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    toml = tmp_path / run_folder.PLAN
    toml.write_text(toml.read_text().replace("steps = 3", "steps = 300"))
    with pytest.raises(ValueError, match="with other settings: steps was 3, got 300; start a new run"):
        command("--resume", tmp_path)


def test_plan_resumes_its_run(planned: Path, trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    assert command(planned, "--resume", tmp_path, "--steps", "3", "--seed", "2") == 0
    assert same(trained, tmp_path, FILES)


def test_resuming_a_run_without_a_plan_requires_its_data_set(planned: Path, tmp_path: Path) -> None:
    from rcnn import train

    spec = f"voc:{planned.parent / 'photos'}"
    pages = data.load(spec, "train")
    rcnn.seed(1)
    model = rcnn.faster_rcnn_small(pages.classes)
    train.fit(model, pages, Recipe(steps=2, batch_size=1), tmp_path, stop_at=1, progress=False)
    with pytest.raises(ValueError, match="run.toml not found in .*; add the data set"):
        command("--resume", tmp_path)
    with pytest.raises(ValueError, match="was trained on 5 images, but the data set has 20000"):
        command("shapes", "--resume", tmp_path)
    assert command(spec, "--resume", tmp_path) == 0
    assert run_folder.open_run(tmp_path).run.steps == 2


def test_classes_of_the_two_splits_must_agree(tmp_path: Path) -> None:
    plan.write(tmp_path / "a.toml", Plan("shapes", "digits"))
    with pytest.raises(ValueError, match="classes must be equal: shapes has circle, .*, digits has 0, 1"):
        command(tmp_path / "a.toml", "--out", tmp_path / "run")


def test_skipped_weights_are_reported(
    planned: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cats = tmp_path / "cats.safetensors"
    rcnn.save(cats, rcnn.faster_rcnn_small(("background", "cat")))
    chosen = plan.read(trained / run_folder.PLAN)
    settings = {**chosen.settings, "anchor_sizes": (14, 24, 40), "aspect_ratios": (1.0, 1.7)}
    plan.write(tmp_path / "a.toml", Plan(chosen.train, weights=str(cats), settings=settings, recipe=Recipe(steps=1)))
    assert command(tmp_path / "a.toml", "--out", tmp_path / "run") == 0
    out = capsys.readouterr().out
    assert f"because their shapes differ from those in {cats}: roi_heads.box_predictor.cls_score." in out
    assert np.isfinite(run_folder.open_run(tmp_path / "run").history["total_loss"]).all()


def test_unusable_images_are_skipped_and_counted(
    planned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(planned.parent / "photos", tmp_path / "photos")
    torn, missing = (tmp_path / "photos" / "JPEGImages" / f"train_00000{i}.png" for i in (1, 3))
    torn.write_bytes(torn.read_bytes()[:200])
    missing.unlink()
    spec, toml = f"voc:{tmp_path / 'photos'}", tmp_path / "plan.toml"
    with pytest.raises(OSError, match="train_000003.png"):
        command(spec, "--plan", toml)
    assert command(spec, "--on-error", "skip", "--steps", "2", "--plan", toml) == 0
    assert plan.read(toml).options == {"on_error": "skip"}
    assert command(toml, "--out", tmp_path / "run") == 0
    assert "train: 2 skipped; the first is " in capsys.readouterr().out
    with pytest.raises(ValueError, match="has errors: missing-image, unreadable-image; correct them"):
        command(toml, "--on-error", "raise", "--out", tmp_path / "other")
    with pytest.raises(OSError, match=r"train_00000\d.png"):
        command(toml, "--on-error", "raise", "--no-check", "--out", tmp_path / "other")


def test_skipped_test_images_are_reported(planned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(planned.parent / "photos", tmp_path / "photos")
    data.write_voc(data.Shapes(2, split="val"), tmp_path / "photos", "test", progress=False)
    (tmp_path / "photos" / "JPEGImages" / "test_000001.png").unlink()
    assert command(f"voc:{tmp_path / 'photos'}", "--steps", "1", "--out", tmp_path / "run") == 0
    captured = capsys.readouterr()
    assert "AP50 on test (1 image)" in captured.out
    assert "warning: test: 1 skipped; the first is " in captured.err and "photos --split test\n" in captured.err


def test_plan_is_not_overwritten(planned: Path) -> None:
    with pytest.raises(FileExistsError, match="plan.toml already exists"):
        command("shapes", "--plan", planned)


def report_of(folder: Path) -> str:
    return (folder / REPORT).read_text("ascii")


def test_finished_run_has_a_report(trained: Path) -> None:
    page = report_of(trained)
    assert "Result on val (2 images)" in page and "What the doctor says" in page and "<figure>" in page


def test_interrupted_run_has_a_report(planned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fit = train_command.train.fit
    with monkeypatch.context() as patch:
        patch.setattr(train_command.train, "fit", lambda *args, **options: interrupt(fit(*args, stop_at=1, **options)))
        assert command(planned, "--out", tmp_path / "run") == train_command.INTERRUPTED
    assert "stopped after step 1 of 3" in report_of(tmp_path / "run")
    assert command("--resume", tmp_path / "run") == 0
    assert "stopped" not in report_of(tmp_path / "run") and "Result on val" in report_of(tmp_path / "run")


def interrupt(run: run_folder.Run) -> run_folder.Run:
    run.interrupted = True
    return run


def test_run_that_fails_has_a_report_of_the_saved_steps(
    planned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit = train_command.train.fit

    def diverge(*arguments: Any, **options: Any) -> None:
        fit(*arguments, stop_at=2, **options)
        raise FloatingPointError("the loss is not finite in step 2")

    monkeypatch.setattr(train_command.train, "fit", diverge)
    with pytest.raises(FloatingPointError, match="step 2"):
        command(planned, "--out", tmp_path / "run")
    assert "stopped after step 2 of 3" in report_of(tmp_path / "run")
    assert (tmp_path / "run" / run_folder.CURVES).exists()


def test_detector_is_evaluated_on_the_test_split(
    planned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = shutil.copytree(planned.parent / "photos", tmp_path / "photos")
    names = (photos / "ImageSets" / "Main" / "train.txt").read_text().split()
    (photos / "ImageSets" / "Main" / "test.txt").write_text("\n".join(names[:3]))
    assert command(f"voc:{photos}", "--steps", "1", "--out", tmp_path / "run") == 0
    assert "AP50 on test (3 images): " in capsys.readouterr().out and "Result on test" in report_of(tmp_path / "run")


def test_run_without_validation_has_a_report(planned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chosen = dataclasses.replace(plan.read(planned), val=None)
    plan.write(tmp_path / "a.toml", chosen)
    assert command(tmp_path / "a.toml", "--out", tmp_path / "run") == 0
    assert "AP50 on train (5 images): " in capsys.readouterr().out
    assert "trained on these images" in report_of(tmp_path / "run")


def test_data_set_is_checked_before_training(planned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos = shutil.copytree(planned.parent / "photos", tmp_path / "photos")
    sheet = photos / "Annotations" / "train_000000.xml"
    sheet.write_text(re.sub("<xmax>.*?<", "<xmax>500<", sheet.read_text(), count=1))
    arguments = (f"voc:{photos}", "--steps", "1", "--out", tmp_path / "run")
    with pytest.raises(ValueError, match="training must not start, because .* has errors: box-outside; correct them"):
        command(*arguments)
    out = capsys.readouterr().out
    assert 'to do: cut the box at the border with on_error="fix"' in out and "train_000000.xml), box 0" in out
    assert re.search(r"^images +5 +2$", out, re.MULTILINE) and not (tmp_path / "run").exists()
    with pytest.raises(ValueError, match="train_000000.xml"):
        command(*arguments, "--no-check")
    assert command(*arguments, "--on-error", "fix") == 0
    assert "train: 1 fixed; " in capsys.readouterr().out


def test_errors_in_test_are_reported_but_do_not_stop_the_training(
    planned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = shutil.copytree(planned.parent / "photos", tmp_path / "photos")
    data.write_voc(data.Shapes(2), photos, "test", progress=False)
    sheet = photos / "Annotations" / "test_000000.xml"
    sheet.write_text(re.sub("<xmax>.*?<", "<xmax>500<", sheet.read_text(), count=1))
    assert command(f"voc:{photos}", "--steps", "1", "--out", tmp_path / "run") == 0
    out = capsys.readouterr().out
    assert re.search(r"^images +5 +2 +2$", out, re.MULTILINE) and "test: 1 error" in out.partition("steps")[0]


def test_run_that_failed_the_check_is_resumed(planned: Path, tmp_path: Path) -> None:
    photos = shutil.copytree(planned.parent / "photos", tmp_path / "photos")
    image = next((photos / "JPEGImages").glob("train_000001.*"))
    whole = image.read_bytes()
    image.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="training must not start, because .* has errors: unreadable-image; "):
        command(f"voc:{photos}", "--steps", "2", "--seed", "5", "--out", tmp_path / "run")
    with pytest.raises(ValueError, match="training must not start, because .* has errors: unreadable-image; "):
        command("--resume", tmp_path / "run")
    image.write_bytes(whole)
    assert command("--resume", tmp_path / "run") == 0
    saved = run_folder.open_run(tmp_path / "run")
    assert saved.run.steps == 2 and saved.recipe.seed == 5


def test_data_set_without_objects_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "JPEGImages").mkdir()
    for name in "abc":
        Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(tmp_path / "JPEGImages" / f"{name}.png")
    (tmp_path / "train.csv").write_text(
        "image,x1,y1,x2,y2,label\n" + "".join(f"JPEGImages/{name}.png,,,,,\n" for name in "abc")
    )
    with pytest.raises(ValueError, match="training must not start, because csv:.* has errors: no-objects; "):
        command(f"csv:{tmp_path}", "--out", tmp_path / "run")
    with pytest.raises(ValueError, match="no objects to learn from; run rcnn check"):
        command(f"csv:{tmp_path}", "--no-check", "--out", tmp_path / "run")

"""The folder of a run: contents of its files and their validation."""

import csv
import errno
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rcnn
from rcnn import data, train
from rcnn.nn import Conv2d, Module, Tensor
from rcnn.train import plan, run_folder
from rcnn.train.recipe import Recipe
from rcnn.train.run_folder import Run
from rcnn.zoo import checkpoint
from rcnn.zoo.detectors import faster_rcnn_small

PAGES = data.Shapes(3, seed=3)
RECIPE = Recipe(steps=3, batch_size=2, warmup_steps=2, freeze=("rpn.head.conv",), val_every=2, seed=7)
FROZEN = ("rpn.head.conv.0.0.weight", "rpn.head.conv.0.0.bias")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run]:
    """The folder of a run of three steps with two validations, and the run."""
    folder = tmp_path_factory.mktemp("runs") / "shapes"
    rcnn.seed(5)
    run = train.fit(faster_rcnn_small(PAGES.classes), PAGES, RECIPE, folder, PAGES, progress=False)
    return folder, run


def test_a_run_folder_has_all_files(trained: tuple[Path, Run]) -> None:
    folder, _ = trained
    assert {path.name for path in folder.iterdir()} == {
        run_folder.WEIGHTS,
        run_folder.BEST,
        run_folder.STATE,
        run_folder.HISTORY,
        run_folder.VALIDATION,
    }


def test_history_is_a_table_of_every_step(trained: tuple[Path, Run]) -> None:
    folder, run = trained
    with open(folder / run_folder.HISTORY, newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["step", "lr", *run_folder.LOSSES, "grad_norm"]
    assert [row[0] for row in rows[1:]] == ["0", "1", "2"]
    table = run_folder.read_table(folder / run_folder.HISTORY)
    assert {name: table[name] for name in run_folder.LOSSES} == run.history
    assert table["lr"] == [RECIPE.lr_at(step) for step in range(3)]
    assert table["grad_norm"] == run.grad_norms and min(run.grad_norms) > 0
    sums = np.sum([run.history[name] for name in run_folder.LOSSES[:4]], axis=0)
    np.testing.assert_allclose(run.history["total_loss"], sums, rtol=1e-5)


def test_validation_is_a_table_too(trained: tuple[Path, Run]) -> None:
    folder, run = trained
    assert run_folder.read_table(folder / run_folder.VALIDATION) == run.validation
    assert run.validation["step"] == [2, 3]
    assert (folder / run_folder.VALIDATION).read_text().splitlines()[1].startswith("2,0.")


def test_open_run_returns_everything(trained: tuple[Path, Run]) -> None:
    folder, run = trained
    saved = run_folder.open_run(folder)
    assert (saved.folder, saved.plan, saved.recipe, saved.run, saved.frozen) == (folder, None, RECIPE, run, FROZEN)
    assert (saved.history, saved.validation) == (run.history, run.validation)
    assert [name for name, p in saved.model.named_parameters() if not p.requires_grad] == list(FROZEN)
    last = rcnn.load(folder / run_folder.WEIGHTS).state_dict()
    assert all(np.array_equal(array, last[name]) for name, array in saved.model.state_dict().items())


def test_open_run_reads_the_plan(trained: tuple[Path, Run], tmp_path: Path) -> None:
    shutil.copytree(trained[0], tmp_path, dirs_exist_ok=True)
    plan.write(tmp_path / run_folder.PLAN, plan.Plan("shapes"))
    assert run_folder.open_run(tmp_path).plan == plan.Plan("shapes")


@pytest.mark.parametrize(
    ("scores", "best"), [([], None), ([0.5], 0), ([0.25, 0.5, 0.5, 0.0], 1), ([np.nan, 0.0], 1), ([np.nan], None)]
)
def test_best_is_the_first_with_the_highest_ap(scores: list[float], best: int | None) -> None:
    assert Run(validation={"ap50": scores}).best == best


def test_files_of_an_earlier_run_are_removed(trained: tuple[Path, Run], tmp_path: Path) -> None:
    shutil.copytree(trained[0], tmp_path, dirs_exist_ok=True)
    train.fit(faster_rcnn_small(PAGES.classes), PAGES, Recipe(steps=1, batch_size=1), tmp_path, progress=False)
    assert {path.name for path in tmp_path.iterdir()} == {run_folder.WEIGHTS, run_folder.STATE, run_folder.HISTORY}
    assert run_folder.open_run(tmp_path).run.steps == 1


def test_best_of_an_earlier_run_is_removed_if_no_validation_had_an_object(
    trained: tuple[Path, Run], tmp_path: Path
) -> None:
    class Empty:
        classes = PAGES.classes

        def __len__(self) -> int:
            return 1

        def __getitem__(self, index: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
            return PAGES[index][0], {"boxes": np.zeros((0, 4)), "labels": np.zeros(0, int)}

    shutil.copytree(trained[0], tmp_path, dirs_exist_ok=True)
    run = train.fit(
        faster_rcnn_small(PAGES.classes), PAGES, Recipe(steps=1, batch_size=1), tmp_path, Empty(), progress=False
    )
    assert run.best is None and np.isnan(run_folder.read_table(tmp_path / run_folder.VALIDATION)["ap50"]).tolist() == [
        True
    ]
    assert {path.name for path in tmp_path.iterdir()} == {
        run_folder.WEIGHTS,
        run_folder.STATE,
        run_folder.HISTORY,
        run_folder.VALIDATION,
    }


def test_users_backbone(tmp_path: Path) -> None:
    class Own(Module):
        def __init__(self) -> None:
            self.conv = Conv2d(3, 4, 3, stride=16, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x)

    config = rcnn.FasterRCNNConfig(Own(), 4, 5, anchor_sizes=(32,), min_size=64, max_size=64, hidden_dim=4)
    train.fit(rcnn.FasterRCNN(config), PAGES, Recipe(steps=1, batch_size=1), tmp_path, progress=False)
    assert isinstance(run_folder.open_run(tmp_path, Own()).model.backbone, Own)
    with pytest.raises(checkpoint.CheckpointError, match="backbone=Own()"):
        run_folder.open_run(tmp_path)


def test_invalid_run_folder_is_an_error(trained: tuple[Path, Run], tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere is not a run folder: .*state.safetensors not found"):
        run_folder.open_run(tmp_path / "nowhere")
    tensors, metadata = checkpoint.read_tensors(trained[0] / run_folder.STATE)
    for wrong, message in (
        (metadata | {"recipe": {"steps": 0}}, "valid recipe: .*steps must be"),
        (metadata | {"recipe": {"stepz": 1}}, "valid recipe: .*stepz"),
        (metadata | {"frozen": ["rpn.tail"]}, r"does not have: \['rpn.tail'\]"),
    ):
        checkpoint.write_tensors(tmp_path / run_folder.STATE, tensors, wrong)
        with pytest.raises(checkpoint.CheckpointError, match=message):
            run_folder.open_run(tmp_path)
    checkpoint.write_tensors(
        tmp_path / run_folder.STATE, {n: a for n, a in tensors.items() if n != "grad_norms"}, metadata
    )
    with pytest.raises(checkpoint.CheckpointError, match="does not contain the history"):
        run_folder.open_run(tmp_path)


def test_resuming_with_other_parameters_frozen_is_an_error(trained: tuple[Path, Run]) -> None:
    model = run_folder.open_run(trained[0]).model
    model.backbone.requires_grad_(False)
    with pytest.raises(
        ValueError,
        match="they were rpn.head.conv.0.0.weight, .*; now, they are backbone.stem.0.0.weight",
    ):
        train.fit(model, PAGES, RECIPE, trained[0], resume=True, progress=False)


# ---------------------------------------------------------------------- files that are not what they seem


def changed_state(trained: tuple[Path, Run], folder: Path, change: Callable[[Any, Any], None]) -> None:
    """Copy a run folder, and change the tensors and the metadata of its state."""
    shutil.copytree(trained[0], folder, dirs_exist_ok=True)
    tensors, metadata = checkpoint.read_tensors(folder / run_folder.STATE)
    change(tensors, metadata)
    checkpoint.write_tensors(folder / run_folder.STATE, tensors, metadata)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t, m: t.update({"history.total_loss": np.float64(1)}), "a valid history"),
        (lambda t, m: t.update({"history.total_loss": np.zeros(2)}), "a valid history"),
        (lambda t, m: t.update({"grad_norms": np.zeros((3, 2))}), "a valid history"),
        (
            lambda t, m: [t.update({name: np.zeros(9)}) for name in t if name.startswith("validation")],
            "a valid history",
        ),
        (lambda t, m: t.update({"validation.step": np.array([1, np.nan])}), "validations after steps"),
        (lambda t, m: t.update({"validation.step": np.array([1, 1e9])}), "validations after steps"),
        (lambda t, m: m.update(frozen=[["a"]]), "frozen parameters that its model does not have"),
        (lambda t, m: m.update(frozen=["x" * 100_000]), "frozen parameters that its model does not have"),
        (lambda t, m: m["recipe"].update(batch_size=10**8), "batch_size must be"),
        (lambda t, m: m.update(recipe=[]), "a valid recipe"),
    ],
)
def test_invalid_state_is_refused(
    trained: tuple[Path, Run], tmp_path: Path, change: Callable[[Any, Any], None], message: str
) -> None:
    changed_state(trained, tmp_path, change)
    with pytest.raises(checkpoint.CheckpointError, match=message) as error:
        run_folder.open_run(tmp_path)
    assert len(str(error.value)) < 500


@pytest.mark.parametrize("name", [run_folder.STATE, run_folder.PLAN])
def test_pipe_in_a_run_folder_is_not_read(trained: tuple[Path, Run], tmp_path: Path, name: str) -> None:
    shutil.copytree(trained[0], tmp_path, dirs_exist_ok=True)
    (tmp_path / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / name)
    with pytest.raises(OSError, match=f"{name} is a pipe, but a regular file"):
        run_folder.open_run(tmp_path)


def test_only_regular_files_are_removed(trained: tuple[Path, Run], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / run_folder.VALIDATION)
    with pytest.raises(OSError, match=f"{run_folder.VALIDATION} was not removed, because it is not a regular"):
        train.fit(faster_rcnn_small(PAGES.classes), PAGES, Recipe(steps=1), tmp_path, progress=False)
    assert stat.S_ISFIFO(os.lstat(tmp_path / run_folder.VALIDATION).st_mode)


def test_temporary_files_are_removed_when_a_run_is_resumed(trained: tuple[Path, Run], tmp_path: Path) -> None:
    shutil.copytree(trained[0], tmp_path, dirs_exist_ok=True)
    before = set(os.listdir(tmp_path))
    for name in run_folder.FILES:
        (tmp_path / f".{name}.0123abcd.tmp").write_bytes(b"a part")
    model = run_folder.open_run(tmp_path).model
    train.fit(model, PAGES, RECIPE, tmp_path, PAGES, resume=True, progress=False)
    assert set(os.listdir(tmp_path)) == before


@pytest.mark.parametrize("text", ["step,lr\n1\n", "step\nx\n", "step\n" + "1" * 200_000 + "\n", "a,b\n1,2,3\n"])
def test_invalid_tables_name_the_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "history.csv").write_text(text)
    with pytest.raises(ValueError, match="history.csv, line 2: "):
        run_folder.read_table(tmp_path / "history.csv")


@pytest.mark.parametrize("name", ["state.safetensors", "run.toml"])
def test_folder_that_cannot_be_searched_is_not_taken_for_an_empty_one(
    name: str, trained: tuple[Path, Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    lstat = os.lstat

    def denied(path: object, **options: object) -> os.stat_result:
        if str(path).endswith(name):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return lstat(path, **options)

    monkeypatch.setattr(os, "lstat", denied)
    with pytest.raises(PermissionError, match=f"Permission denied: .*{name}"):
        run_folder.open_run(trained[0])


@pytest.mark.parametrize("folder", [None, 3, b"run"], ids=repr)
def test_run_folder_must_be_a_path(folder: object) -> None:
    with pytest.raises(TypeError, match="^folder must be a path, got "):
        run_folder.open_run(folder)

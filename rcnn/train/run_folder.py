"""The folder of a training run: what its files are called, how they are written, and how they are read again.

model.safetensors   the weights after the last step that was saved (see `rcnn.load`)
best.safetensors    those with the best AP50 on the validation images
state.safetensors   what a run needs to go on: weights, optimiser, recipe, history, how many images it learns from
history.csv         per step the learning rate, the losses and the norm of the gradients
validation.csv      per validation the AP50 and the losses on the validation images
run.toml            the plan that was followed (see `rcnn.train.plan`)
curves.png          what the two tables look like
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rcnn._files import write_whole
from rcnn.model import FasterRCNN
from rcnn.nn import Module, optim
from rcnn.train import plan as plans
from rcnn.train.recipe import Recipe
from rcnn.zoo import checkpoint

WEIGHTS, BEST, STATE = "model.safetensors", "best.safetensors", "state.safetensors"
HISTORY, VALIDATION, PLAN, CURVES = "history.csv", "validation.csv", "run.toml", "curves.png"
LOSSES = ("rpn_cls_loss", "rpn_reg_loss", "roi_cls_loss", "roi_reg_loss", "total_loss")
VALIDATED = ("step", "ap50", *LOSSES)


def _columns(names: Iterable[str]) -> dict[str, list[float]]:
    return {name: [] for name in names}


@dataclass
class Run:
    """A training run so far.

    history: the losses of every step, by name. grad_norms: of every step, before they are scaled down. validation: per
    validation "step", how many steps had been taken, "ap50", NaN where there is no object to find, and the losses.
    interrupted: whether it was stopped before its end.
    """

    history: dict[str, list[float]] = field(default_factory=lambda: _columns(LOSSES))
    grad_norms: list[float] = field(default_factory=list)
    validation: dict[str, list[float]] = field(default_factory=lambda: _columns(VALIDATED))
    interrupted: bool = False

    @property
    def steps(self) -> int:
        """How many steps have been taken."""
        return len(self.history["total_loss"])

    @property
    def best(self) -> int | None:
        """Index of the validation with the highest AP50, the first of equals; None where there is none."""
        scores = self.validation["ap50"]
        return max((i for i, ap in enumerate(scores) if not math.isnan(ap)), key=scores.__getitem__, default=None)


@dataclass(frozen=True, eq=False)
class SavedRun:
    """What the folder of a run holds.

    plan: None where no run.toml was written, as by `train.fit` alone. model: after the last step that was saved, in
    evaluation mode; what did not learn requires no gradient. frozen: the names of the parameters that did not.
    """

    folder: Path
    plan: plans.Plan | None
    recipe: Recipe
    model: FasterRCNN
    run: Run
    frozen: tuple[str, ...]

    @property
    def history(self) -> dict[str, list[float]]:
        """Per step the losses, by name."""
        return self.run.history

    @property
    def validation(self) -> dict[str, list[float]]:
        """Per validation the step, the AP50 and the losses, by name."""
        return self.run.validation


# ---------------------------------------------------------------------- writing


def save(
    folder: Path, model: FasterRCNN, optimizer: optim.Optimizer, recipe: Recipe, run: Run, num_images: int
) -> None:
    """Writes the run's files.

    Only state.safetensors is read to resume, and it comes last: wherever the writing breaks off, a run that goes on
    from it writes the others again.
    """
    checkpoint.save(folder / WEIGHTS, model)
    steps = range(run.steps)
    _write_table(
        folder / HISTORY,
        {"step": steps, "lr": [recipe.lr_at(step) for step in steps], **run.history, "grad_norm": run.grad_norms},
    )
    if run.validation["step"]:
        _write_table(folder / VALIDATION, {**run.validation, "step": map(int, run.validation["step"])})
    else:  # another run was in this folder
        (folder / VALIDATION).unlink(missing_ok=True)
    if run.best is None:
        (folder / BEST).unlink(missing_ok=True)
    _save_state(folder / STATE, model, optimizer, recipe, run, num_images)


def _save_state(
    path: Path, model: FasterRCNN, optimizer: optim.Optimizer, recipe: Recipe, run: Run, num_images: int
) -> None:
    tensors = {f"model.{name}": array for name, array in model.state_dict().items()}
    tensors |= {f"optimizer.{name}": array for name, array in optimizer.state_dict().items()}
    tensors |= {f"history.{name}": np.array(values, np.float64) for name, values in run.history.items()}
    tensors |= {f"validation.{name}": np.array(values, np.float64) for name, values in run.validation.items()}
    tensors["grad_norms"] = np.array(run.grad_norms, np.float64)
    metadata = {
        **checkpoint.describe(model),
        "recipe": dataclasses.asdict(recipe),
        "frozen": frozen_names(model),
        "images": num_images,
    }
    checkpoint.write_tensors(path, tensors, metadata)


def save_best(folder: Path, model: FasterRCNN) -> None:
    """Writes the weights of a model that did better on the validation images than all before."""
    checkpoint.save(folder / BEST, model)


def frozen_names(model: FasterRCNN) -> list[str]:
    """The names of the parameters that do not learn."""
    return [name for name, parameter in model.named_parameters() if not parameter.requires_grad]


def _write_table(path: Path, columns: Mapping[str, Iterable[float]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    write_whole(path, text.getvalue().encode())


# ---------------------------------------------------------------------- reading


def read_table(path: str | os.PathLike[str]) -> dict[str, list[float]]:
    """The columns of a history.csv or a validation.csv, by name."""
    with open(path, newline="") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    return {name: [float(row[name]) for row in rows] for name in reader.fieldnames or ()}


def open_run(folder: str | os.PathLike[str], backbone: Module | None = None) -> SavedRun:
    """What the folder of a run holds; with `fit(..., resume=True)` its model goes on.

    backbone: a module like the one that was trained, where it was not one of the library's own. Raises OSError where
    there is no run, CheckpointError for a file that does not hold one, ValueError for a run.toml that is no plan.
    """
    path = Path(folder) / STATE
    if not path.is_file():
        raise FileNotFoundError(f"there is no run in {folder}: no file {path}")
    tensors, metadata = checkpoint.read_tensors(path)
    recipe = _recipe(metadata, path)
    model = checkpoint.restore(_part(tensors, "model."), metadata, str(path), backbone)
    frozen = _frozen(metadata, model, path)
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name not in frozen
    toml = Path(folder) / PLAN
    return SavedRun(
        Path(folder), plans.read(toml) if toml.is_file() else None, recipe, model, _run(tensors, path), tuple(frozen)
    )


def resume(folder: Path, model: FasterRCNN, optimizer: optim.Optimizer, recipe: Recipe, num_images: int) -> Run:
    """The run that was saved in a folder; its weights and state go into the model and the optimiser.

    Raises ValueError that says which where the recipe, the model's settings, what learns or the number of images are
    others than they were: it would be another run.
    """
    path = folder / STATE
    tensors, metadata = checkpoint.read_tensors(path)
    saved = dataclasses.asdict(_recipe(metadata, path)) | _settings(metadata, path)
    now = dataclasses.asdict(recipe) | _settings(json.loads(json.dumps(checkpoint.describe(model))), path)
    if changed := differences(saved, now):
        raise ValueError(f"the run in {folder} cannot go on with other settings: {changed}")
    if (images := metadata.get("images")) != num_images:
        raise ValueError(
            f"the run in {folder} learns from {images} images, but now there are {num_images}; with "
            "other images it is a new run, which may begin with its weights"
        )
    if _frozen(metadata, model, path) != frozen_names(model):
        raise ValueError(
            f"in {folder} other parameters learned: all but "
            f"{', '.join(_frozen(metadata, model, path)) or 'none'}, not all but "
            f"{', '.join(frozen_names(model)) or 'none'}"
        )
    model.load_state_dict(_part(tensors, "model."))
    optimizer.load_state_dict(_part(tensors, "optimizer."))
    return _run(tensors, path)


def differences(saved: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """Which of the `wanted` settings are others than those that were saved, for messages; "" where none is."""
    return ", ".join(
        f"{name} is {saved.get(name)!r}, not {value!r}" for name, value in wanted.items() if saved.get(name) != value
    )


def _settings(metadata: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The settings of a model and its backbone, as JSON has them."""
    if not isinstance(metadata.get("settings"), dict):
        raise checkpoint.CheckpointError(f"{path} does not say how its model was made")
    return {**metadata["settings"], "backbone": metadata.get("backbone")}


def _recipe(metadata: Mapping[str, Any], path: Path) -> Recipe:
    try:
        return Recipe(**metadata["recipe"])
    except (KeyError, TypeError, ValueError) as error:
        raise checkpoint.CheckpointError(f"{path} does not hold a recipe to go on with: {error!r}") from error


def _frozen(metadata: Mapping[str, Any], model: FasterRCNN, path: Path) -> list[str]:
    """The names of the parameters that did not learn."""
    names = metadata.get("frozen", [])
    if not isinstance(names, list) or not set(names) <= {name for name, _ in model.named_parameters()}:
        raise checkpoint.CheckpointError(f"{path} names frozen parameters that its model does not have: {names!r}")
    return names


def _run(tensors: Mapping[str, np.ndarray], path: Path) -> Run:
    history, validation = (_part(tensors, prefix) for prefix in ("history.", "validation."))
    if not history.keys() >= set(LOSSES) or not validation.keys() >= set(VALIDATED) or "grad_norms" not in tensors:
        raise checkpoint.CheckpointError(f"{path} does not hold the history of its run")
    return Run(
        {name: history[name].tolist() for name in LOSSES},
        tensors["grad_norms"].tolist(),
        {name: validation[name].tolist() for name in VALIDATED},
    )


def _part(tensors: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """The tensors whose names begin with a prefix, without it."""
    return {name.removeprefix(prefix): array for name, array in tensors.items() if name.startswith(prefix)}

"""The folder of a training run: the names of its files, and functions that write and read them.

model.safetensors   the weights after the last saved step (see `rcnn.load`), averaged if the recipe says so
best.safetensors    the weights with the best AP50 on the validation images, averaged if the recipe says so
state.safetensors   everything needed to resume: weights, their average, optimiser, recipe, history, number of images
history.csv         for each step: learning rate, losses and gradient norm
validation.csv      for each validation: AP50 and losses on the validation images
run.toml            the plan of the run (see `rcnn.train.plan`)
curves.png          a plot of history.csv and validation.csv
report.html         the result of the run (see `rcnn.cli.html.write_report`)
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import os
import reprlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rcnn._files import check_path, check_regular, exists, read_text, remove_regular, write_whole
from rcnn._validate import listed, shown
from rcnn.model import FasterRCNN
from rcnn.nn import Module, optim
from rcnn.train import plan as plans
from rcnn.train.average import WeightAverage, averaged
from rcnn.train.recipe import Recipe
from rcnn.zoo import checkpoint

WEIGHTS, BEST, STATE = "model.safetensors", "best.safetensors", "state.safetensors"
HISTORY, VALIDATION, PLAN, CURVES = "history.csv", "validation.csv", "run.toml", "curves.png"
FILES = (WEIGHTS, BEST, STATE, HISTORY, VALIDATION, PLAN, CURVES)
WRITTEN_IN_TRAINING = tuple(name for name in FILES if name != PLAN)
MAX_TABLE = 1 << 31  # largest size of history.csv in bytes
MAX_CHANGES = 150  # characters of changed settings in a message
LOSSES = ("rpn_cls_loss", "rpn_reg_loss", "roi_cls_loss", "roi_reg_loss", "total_loss")
VALIDATED = ("step", "ap50", *LOSSES)


def _columns(names: Iterable[str]) -> dict[str, list[float]]:
    return {name: [] for name in names}


@dataclass
class Run:
    """The history of a training run.

    Attributes
    ----------
    history : dict of str to list of float
        The losses: for each name of a loss, a list with one value for each step.
    grad_norms : list of float
        Gradient norm of every step, before the gradients are scaled down.
    validation : dict of str to list of float
        Lists with one value for each validation: "step" contains the number of training steps before the validation,
        and "ap50" contains the AP50 (NaN if there are no objects). The other keys are the names of the losses.
    interrupted : bool
        True if the run was stopped before its end.
    """

    history: dict[str, list[float]] = field(default_factory=lambda: _columns(LOSSES))
    grad_norms: list[float] = field(default_factory=list)
    validation: dict[str, list[float]] = field(default_factory=lambda: _columns(VALIDATED))
    interrupted: bool = False

    @property
    def steps(self) -> int:  # numpydoc ignore=RT01
        """Number of steps that were run."""
        return len(self.history["total_loss"])

    @property
    def best(self) -> int | None:  # numpydoc ignore=RT01
        """Index of the validation with the highest AP50 (in a tie, the first one); None if there is no AP50."""
        scores = self.validation["ap50"]
        return max((i for i, ap in enumerate(scores) if not math.isnan(ap)), key=scores.__getitem__, default=None)

    def lost_patience(self, patience: int) -> bool:
        """Return whether the last `patience` validations brought no better AP50.

        Parameters
        ----------
        patience : int
            Number of validations. With 0, the result is always False.

        Returns
        -------
        bool
            True if the training should stop early.
        """
        return patience > 0 and self.best is not None and len(self.validation["step"]) > self.best + patience


@dataclass(frozen=True, eq=False)
class SavedRun:
    """The contents of a run folder.

    Attributes
    ----------
    folder : Path
        The folder.
    plan : Plan or None
        The plan; None if the folder contains no run.toml. (`train.fit` does not write this file.)
    recipe : Recipe
        The recipe.
    model : FasterRCNN
        The model after the last saved step, in evaluation mode. Its weights are not averaged. Frozen parameters have
        requires_grad = False.
    run : Run
        The history of the run.
    frozen : tuple of str
        Names of the frozen parameters.
    """

    folder: Path
    plan: plans.Plan | None
    recipe: Recipe
    model: FasterRCNN
    run: Run
    frozen: tuple[str, ...]

    @property
    def history(self) -> dict[str, list[float]]:  # numpydoc ignore=RT01
        """The losses of every step, by name."""
        return self.run.history

    @property
    def validation(self) -> dict[str, list[float]]:  # numpydoc ignore=RT01
        """The step, the AP50 and the losses of every validation, by name."""
        return self.run.validation


# ---------------------------------------------------------------------- writing


def save(
    folder: Path,
    model: FasterRCNN,
    optimizer: optim.Optimizer,
    average: WeightAverage | None,
    recipe: Recipe,
    run: Run,
    num_images: int,
) -> None:
    """Write the files of a run.

    To resume a run, only state.safetensors is read. This file is written last. If the writing is interrupted, the
    resumed run writes the other files again.

    Parameters
    ----------
    folder : Path
        The folder of the run.
    model : FasterRCNN
        The model.
    optimizer : Optimizer
        The optimiser of the model.
    average : WeightAverage or None
        The average of the weights, if the recipe has one.
    recipe : Recipe
        The recipe.
    run : Run
        The history of the run.
    num_images : int
        Number of training images.
    """
    with averaged(average, model):
        checkpoint.save(folder / WEIGHTS, model)
    steps = range(run.steps)
    _write_table(
        folder / HISTORY,
        {"step": steps, "lr": [recipe.lr_at(step) for step in steps], **run.history, "grad_norm": run.grad_norms},
    )
    if run.validation["step"]:
        _write_table(folder / VALIDATION, {**run.validation, "step": map(int, run.validation["step"])})
    else:  # remove the file of an earlier run in this folder
        remove_regular(folder / VALIDATION)
    if run.best is None:
        remove_regular(folder / BEST)
    _save_state(folder / STATE, model, optimizer, average, recipe, run, num_images)


def _save_state(
    path: Path,
    model: FasterRCNN,
    optimizer: optim.Optimizer,
    average: WeightAverage | None,
    recipe: Recipe,
    run: Run,
    num_images: int,
) -> None:
    tensors = {f"model.{name}": array for name, array in model.state_dict().items()}
    tensors |= {f"optimizer.{name}": array for name, array in optimizer.state_dict().items()}
    tensors |= {f"average.{name}": array for name, array in (average.state if average else {}).items()}
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
    """Write the weights of a model that is the best so far.

    Parameters
    ----------
    folder : Path
        The folder of the run.
    model : FasterRCNN
        The model.
    """
    checkpoint.save(folder / BEST, model)


def frozen_names(model: FasterRCNN) -> list[str]:
    """Return the names of the frozen parameters.

    Parameters
    ----------
    model : FasterRCNN
        The model.

    Returns
    -------
    list of str
        Names of the parameters that require no gradient.
    """
    return [name for name, parameter in model.named_parameters() if not parameter.requires_grad]


def _write_table(path: Path, columns: Mapping[str, Iterable[float]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    write_whole(path, text.getvalue().encode())


# ---------------------------------------------------------------------- reading


def read_table(path: str | os.PathLike[str]) -> dict[str, list[float]]:
    """Read history.csv or validation.csv.

    Parameters
    ----------
    path : path
        The file.

    Returns
    -------
    dict of str to list of float
        The columns, by name.

    Raises
    ------
    OSError
        If the file is not a regular file, or cannot be read.
    ValueError
        If the file is larger than 2 GiB, if a value is not a number, or if a row has more or fewer columns than the
        header.
    """
    reader = csv.reader(io.StringIO(read_text(path, MAX_TABLE), newline=""))
    try:
        header = next(reader, [])
        columns: dict[str, list[float]] = {name: [] for name in header}
        for row in reader:
            for name, cell in zip(header, row, strict=True):
                columns[name].append(float(cell))
    except (csv.Error, ValueError) as error:
        raise ValueError(f"{path}, line {reader.line_num}: {error}") from error
    return columns


def open_run(folder: str | os.PathLike[str], backbone: Module | None = None) -> SavedRun:
    """Read a run folder. To continue the run, pass the model to `fit(..., resume=True)`.

    Parameters
    ----------
    folder : path
        The folder.
    backbone : Module, optional
        A module with the structure of the trained backbone. It is required if the backbone is not one of rcnn's own.

    Returns
    -------
    SavedRun
        The plan, the model and the history.

    Raises
    ------
    OSError
        If the folder contains no run or cannot be searched, or one of its files is not a regular file.
    CheckpointError
        If state.safetensors is invalid.
    ValueError
        If run.toml is invalid.
    """
    path = Path(check_path(folder, "folder")) / STATE
    if not exists(path):
        raise FileNotFoundError(f"{folder} is not a run folder: {path} not found")
    check_regular(path)
    tensors, metadata = checkpoint.read_tensors(path)
    recipe = _recipe(metadata, path)
    model = checkpoint.restore(_part(tensors, "model."), metadata, str(path), backbone)
    frozen = _frozen(metadata, model, path)
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name not in frozen
    toml = Path(folder) / PLAN
    return SavedRun(
        Path(folder),
        plans.read(toml) if exists(toml) else None,
        recipe,
        model,
        _run(tensors, recipe, path),
        tuple(frozen),
    )


def resume(
    folder: Path,
    model: FasterRCNN,
    optimizer: optim.Optimizer,
    average: WeightAverage | None,
    recipe: Recipe,
    num_images: int,
) -> Run:
    """Load the run saved in a folder into the model, the optimiser and the average, and return its history.

    Parameters
    ----------
    folder : Path
        The folder of the run.
    model : FasterRCNN
        A model with the same settings.
    optimizer : Optimizer
        The optimiser of the model.
    average : WeightAverage or None
        The average of the weights, if the recipe has one.
    recipe : Recipe
        The recipe of the run.
    num_images : int
        Number of training images.

    Returns
    -------
    Run
        The history of the run.

    Raises
    ------
    ValueError
        If the recipe, the model's settings, the frozen parameters or the number of images differ from the saved ones.
    """
    path = folder / STATE
    tensors, metadata = checkpoint.read_tensors(path)
    saved = dataclasses.asdict(_recipe(metadata, path)) | _settings(metadata, path)
    now = dataclasses.asdict(recipe) | _settings(json.loads(json.dumps(checkpoint.describe(model))), path)
    if changed := differences(saved, now):
        raise ValueError(f"cannot resume the run in {folder} with other settings: {changed}")
    if (images := metadata.get("images")) != num_images:
        raise ValueError(
            f"cannot resume the run in {folder}: it was trained on {images} images, but the data set has "
            f"{num_images}; start a new run, which can use {folder / WEIGHTS} as its initial weights"
        )
    if _frozen(metadata, model, path) != frozen_names(model):
        raise ValueError(
            f"cannot resume the run in {folder} with different frozen parameters: before, they were "
            f"{listed(_frozen(metadata, model, path)) or 'none'}; now, they are {listed(frozen_names(model)) or 'none'}"
        )
    if average is not None:
        model.load_state_dict(_part(tensors, "average."))
        average.reset(model)
    model.load_state_dict(_part(tensors, "model."))
    optimizer.load_state_dict(_part(tensors, "optimizer."))
    return _run(tensors, recipe, path)


def differences(saved: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """Return a text for a message: the settings that differ from the saved settings, with both values.

    Parameters
    ----------
    saved : mapping
        Settings of the saved run.
    wanted : mapping
        Settings to compare with the saved settings.

    Returns
    -------
    str
        For example, "steps was 5, got 6". The text is empty if there is no difference.
    """
    changed = [
        f"{name} was {shown(saved.get(name))}, got {shown(value)}"
        for name, value in wanted.items()
        if saved.get(name) != value
    ]
    return listed(changed, MAX_CHANGES)


def _settings(metadata: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return the settings of a saved model, and the description of its backbone under the key "backbone"."""
    if not isinstance(metadata.get("settings"), dict):
        raise checkpoint.CheckpointError(f"{path} does not contain the settings of its model")
    return {**metadata["settings"], "backbone": metadata.get("backbone")}


def _recipe(metadata: Mapping[str, Any], path: Path) -> Recipe:
    try:
        return Recipe(**metadata["recipe"])
    except (KeyError, TypeError, ValueError) as error:
        raise checkpoint.CheckpointError(f"{path} does not contain a valid recipe: {error!r}") from error


def _frozen(metadata: Mapping[str, Any], model: FasterRCNN, path: Path) -> list[str]:
    """Return the names of the frozen parameters of a saved run."""
    names = metadata.get("frozen", [])
    known = {name for name, _ in model.named_parameters()}
    if not isinstance(names, list) or not all(isinstance(name, str) and name in known for name in names):
        raise checkpoint.CheckpointError(
            f"{path} lists frozen parameters that its model does not have: {reprlib.repr(names)}"
        )
    return names


def _run(tensors: Mapping[str, np.ndarray], recipe: Recipe, path: Path) -> Run:
    history, validation = (_part(tensors, prefix) for prefix in ("history.", "validation."))
    if not history.keys() >= set(LOSSES) or not validation.keys() >= set(VALIDATED) or "grad_norms" not in tensors:
        raise checkpoint.CheckpointError(f"{path} does not contain the history of its run")
    for columns in (
        [tensors["grad_norms"], *(history[name] for name in LOSSES)],
        [validation[name] for name in VALIDATED],
    ):
        shapes = {column.shape for column in columns}
        if len(shapes) > 1 or columns[0].ndim != 1 or len(columns[0]) > recipe.steps:
            raise checkpoint.CheckpointError(
                f"{path} does not contain a valid history: the columns must have equal lengths of at most "
                f"{recipe.steps} numbers, got {listed([str(shape) for shape in sorted(shapes)])}"
            )
    steps = validation["step"]
    if not ((steps >= 1) & (steps <= recipe.steps) & (steps == np.floor(steps))).all():
        raise checkpoint.CheckpointError(f"{path} contains validations after steps that its training run does not have")
    return Run(
        {name: history[name].tolist() for name in LOSSES},
        tensors["grad_norms"].tolist(),
        {name: validation[name].tolist() for name in VALIDATED},
    )


def _part(tensors: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """Return the tensors whose names start with `prefix`, and remove the prefix from the names."""
    return {name.removeprefix(prefix): array for name, array in tensors.items() if name.startswith(prefix)}

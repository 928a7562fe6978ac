"""The training loop: steps, checkpoints, resume, progress.

Everything random in step k is drawn from (seed, k) alone: which pages, which anchors and RoIs are sampled, what dropout
drops. A run that was stopped and resumed at step k therefore goes on to the same bits, from the weights and the
optimiser's state.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import io
import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from rcnn import _backend, checkpoint
from rcnn.data import Dataset
from rcnn.model import FasterRCNN
from rcnn.nn import optim

LOSSES = ("rpn_cls_loss", "rpn_reg_loss", "roi_cls_loss", "roi_reg_loss", "total_loss")
WEIGHTS, STATE, HISTORY = "model.safetensors", "state.safetensors", "history.csv"
_ORDER, _SAMPLES = 0, 1  # what a generator is for, so that no two share a stream


@dataclass(frozen=True)
class Recipe:
    """How to train: everything that, with the model and the data, decides the result.

    steps: how many batches of `batch_size` pictures.
    optimizer: "adam" or "sgd" (with `momentum`); weight_decay as in PyTorch's optimisers of these names.
    lr: the learning rate. It rises over the first `warmup_steps`, then falls along half a cosine to `final_lr` times
        itself.
    max_norm: gradients are scaled down to this joint norm.
    seed: of everything random but the first weights, which the model brings along.
    """

    steps: int = 2500
    batch_size: int = 4
    optimizer: str = "adam"
    lr: float = 3e-3
    momentum: float = 0.9
    weight_decay: float = 1e-4
    warmup_steps: int = 200
    final_lr: float = 0.01
    max_norm: float = 5.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be an integer of at least 1, not {value!r}")
        if self.optimizer not in ("adam", "sgd"):
            raise ValueError(f"optimizer must be 'adam' or 'sgd', not {self.optimizer!r}")
        if not isinstance(self.seed, int) or self.seed < 0:
            raise ValueError(f"seed must be an integer of at least 0, not {self.seed!r}")

    def replace(self, steps: int | None = None, seed: int | None = None) -> Recipe:
        """The same recipe with another number of steps or another seed; None leaves it as it is."""
        return dataclasses.replace(self, steps=self.steps if steps is None else steps,
                                   seed=self.seed if seed is None else seed)

    def make_optimizer(self, model: FasterRCNN) -> optim.Optimizer:
        """The optimiser of the model's parameters."""
        if self.optimizer == "adam":
            return optim.Adam(model.parameters(), self.lr, weight_decay=self.weight_decay)
        return optim.SGD(model.parameters(), self.lr, self.momentum, self.weight_decay)

    def lr_at(self, step: int) -> float:
        """The learning rate of a step."""
        factor = optim.product(optim.linear_warmup(self.warmup_steps), optim.cosine(self.steps, self.final_lr))
        return self.lr * factor(step)


RECIPES = {"shapes": Recipe(steps=1300), "digits": Recipe(steps=2500)}


@dataclass
class Run:
    """A training run so far: the losses of every step, by name, and whether it was stopped before its end."""

    history: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in LOSSES})
    interrupted: bool = False

    @property
    def steps(self) -> int:
        return len(self.history["total_loss"])


def fit(model: FasterRCNN, dataset: Dataset, recipe: Recipe, out: str | os.PathLike[str] | None = None,
        resume: bool = False, save_every: int = 500, stop_at: int | None = None, progress: bool = True) -> Run:
    """Trains the model on the data set, in place, and leaves it in training mode.

    out: a folder for model.safetensors (see `rcnn.load`), state.safetensors (to resume from) and history.csv (the
        losses of every step), written every `save_every` steps and at the end; None writes nothing.
    resume: goes on from what is in `out`, with the same recipe, to the same bits as a run that was not stopped.
    stop_at: a step to stop at, as if interrupted there.

    Ctrl-C finishes the step, saves and returns; a second one breaks off at once. Raises ValueError for an empty data
    set or another recipe than the one to resume, and FloatingPointError when the loss is no longer finite (what was
    saved last stays).
    """
    if len(dataset) == 0:
        raise ValueError("the data set is empty")
    optimizer = recipe.make_optimizer(model)
    folder = None if out is None else Path(out)
    run = Run()
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        if resume:
            run = _resume(folder, model, optimizer, recipe)
    elif resume:
        raise ValueError("to resume, name the folder that the run was saved in: out=...")
    end = recipe.steps if stop_at is None else min(stop_at, recipe.steps)
    model.train()
    bar = tqdm(total=recipe.steps, initial=run.steps, disable=not progress, unit="step", dynamic_ncols=True)
    with bar, _backend.blas_threads(), _interruptible() as interrupted:
        for step in range(run.steps, end):
            losses = train_step(model, optimizer, dataset, recipe, step)
            for name in LOSSES:
                run.history[name].append(losses[name])
            bar.update()
            bar.set_postfix({name.removesuffix("_loss"): f"{losses[name]:.3f}" for name in LOSSES}, refresh=False)
            run.interrupted = interrupted.is_set() and step + 1 < end
            if folder is not None and ((step + 1) % save_every == 0 or run.interrupted or step + 1 == end):
                _save(folder, model, optimizer, recipe, run)
            if run.interrupted:
                break
    return run


def train_step(model: FasterRCNN, optimizer: optim.Optimizer, dataset: Dataset, recipe: Recipe,
               step: int) -> dict[str, float]:
    """The five losses of one step, after which the parameters have moved."""
    pages = [dataset[index] for index in batch_indices(len(dataset), recipe, step)]
    rng = np.random.default_rng([recipe.seed, _SAMPLES, step])
    losses = model.get_loss([picture for picture, _ in pages], [target for _, target in pages], rng)
    values = {name: loss.item() for name, loss in losses.items()}
    if not np.isfinite(values["total_loss"]):
        raise FloatingPointError(f"the loss is not finite at step {step}: {values}; a lower learning rate may help")
    optimizer.zero_grad()
    losses["total_loss"].backward()
    optim.clip_grad_norm(optimizer.parameters, recipe.max_norm)
    optimizer.lr = recipe.lr_at(step)
    optimizer.step()
    return values


def batch_indices(length: int, recipe: Recipe, step: int) -> list[int]:
    """Which pages a step sees. Every page comes once per epoch, in an order of the epoch's own."""
    positions = range(step * recipe.batch_size, (step + 1) * recipe.batch_size)
    orders = {epoch: np.random.default_rng([recipe.seed, _ORDER, epoch]).permutation(length)
              for epoch in {position // length for position in positions}}
    return [int(orders[position // length][position % length]) for position in positions]


def read_history(path: str | os.PathLike[str]) -> dict[str, list[float]]:
    """The losses of every step, by name, from a history.csv."""
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: [float(row[name]) for row in rows] for name in LOSSES}


def _save(folder: Path, model: FasterRCNN, optimizer: optim.Optimizer, recipe: Recipe, run: Run) -> None:
    """Writes the three files. Only state.safetensors is read to resume, and it comes first: it cannot disagree."""
    tensors = {f"model.{name}": array for name, array in model.state_dict().items()}
    tensors |= {f"optimizer.{name}": array for name, array in optimizer.state_dict().items()}
    tensors |= {f"history.{name}": np.array(values, np.float64) for name, values in run.history.items()}
    metadata = {**checkpoint.describe(model), "recipe": dataclasses.asdict(recipe)}
    checkpoint.write_tensors(folder / STATE, tensors, metadata)
    checkpoint.save(folder / WEIGHTS, model)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("step", "lr", *LOSSES))
    for step in range(run.steps):
        writer.writerow((step, recipe.lr_at(step), *(run.history[name][step] for name in LOSSES)))
    checkpoint.write_whole(folder / HISTORY, text.getvalue().encode())


def _resume(folder: Path, model: FasterRCNN, optimizer: optim.Optimizer, recipe: Recipe) -> Run:
    """The run that was saved in a folder; its weights and state go into the model and the optimiser."""
    tensors, metadata = checkpoint.read_tensors(folder / STATE)
    if metadata.get("recipe") != dataclasses.asdict(recipe):
        raise ValueError(f"{folder} was trained with another recipe: {metadata.get('recipe')}, "
                         f"not {dataclasses.asdict(recipe)}")
    model.load_state_dict(_part(tensors, "model."))
    optimizer.load_state_dict(_part(tensors, "optimizer."))
    return Run({name: values.tolist() for name, values in _part(tensors, "history.").items()})


def saved_run(folder: str | os.PathLike[str]) -> tuple[FasterRCNN, Recipe]:
    """The model and the recipe of the run saved in a folder, from which `fit(..., resume=True)` goes on."""
    path = Path(folder) / STATE
    tensors, metadata = checkpoint.read_tensors(path)
    try:
        recipe = Recipe(**metadata["recipe"])
    except (KeyError, TypeError, ValueError) as error:
        raise checkpoint.CheckpointError(f"{path} does not hold a recipe to go on with: {error!r}") from error
    return checkpoint.restore(_part(tensors, "model."), metadata, str(path)), recipe


def _part(tensors: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """The tensors whose names begin with a prefix, without it."""
    return {name.removeprefix(prefix): array for name, array in tensors.items() if name.startswith(prefix)}


@contextlib.contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C sets instead of breaking off; the second breaks off as usual."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():  # only the main thread hears signals
        yield event
        return

    def on_interrupt(number: int, frame: Any) -> None:
        del number, frame
        event.set()
        signal.signal(signal.SIGINT, before)

    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, before)

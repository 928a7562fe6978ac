"""The training loop: validation, checkpoints, resume, progress around `train_step`.

Everything random in step k is drawn from (seed, k) alone: which images and how they are changed, which anchors and
RoIs are sampled, what dropout drops. A run that was stopped and resumed at step k therefore goes on to the same bits,
from the weights and the optimiser's state, with any number of threads that read the images.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from rcnn import evaluate, nn
from rcnn._ext import backend
from rcnn._validate import integer
from rcnn.data import Dataset
from rcnn.model import FasterRCNN
from rcnn.nn import Parameter, optim
from rcnn.train import run_folder
from rcnn.train.loader import Loader, Order, TrainingBatch, aspect_groups, describe, draw_changes, prefetch
from rcnn.train.recipe import Recipe
from rcnn.train.run_folder import LOSSES, Run
from rcnn.train.step import train_step

WORKERS = 1  # a step then takes 0.88 to 1 of the time; 2 gain no more, and 1 is safe for any data set
_VALIDATION = 3  # the stream of the samples of a validation; step.py and loader.py have the others


def fit(
    model: FasterRCNN,
    dataset: Dataset,
    recipe: Recipe,
    out: str | os.PathLike[str] | None = None,
    val: Dataset | None = None,
    resume: bool = False,
    save_every: int = 500,
    stop_at: int | None = None,
    workers: int = WORKERS,
    progress: bool = True,
) -> Run:
    """Trains the model on the data set, in place, and leaves it in training mode.

    Objects that the data set marks difficult, and boxes round a crowd, are not learned. A batch norm that the recipe
    or the model freezes keeps its statistics, too.

    out: a folder for the files that `rcnn.train.run_folder` lists, written every `save_every` steps, at every
        validation and at the end; None writes nothing. What another run left there is replaced.
    val: images on which the model is validated every `recipe.val_every` steps and at the end.
    resume: goes on from what is in `out`, with the same recipe, to the same bits as a run that was not stopped.
    stop_at: a step to stop at, as if interrupted there.
    workers: threads that read the next images while a step computes; 0 reads them in between. More than 1 call the
        data set from several threads at once. The result does not depend on it.

    Ctrl-C finishes the step, or the validation, saves and returns; a second one breaks off at once. Raises ValueError
    for an empty data set, for classes that are not the model's, for another recipe, model or number of images than
    those of the run to resume, or for a name in `recipe.freeze` that the model does not have; and FloatingPointError
    where a loss or the gradients are not finite: before the parameters move, naming the images and the first stage
    that is not (see `rcnn.train.nonfinite`). What was saved before stays.
    """
    _check_data(model, dataset, "the data set")
    if val is not None:
        _check_data(model, val, "the data set to validate on")
    if resume and out is None:
        raise ValueError("to resume, name the folder that the run was saved in: out=...")
    integer(0).check("workers", workers)
    integer(1).check("save_every", save_every)
    freeze(model, recipe.freeze)
    folder = None if out is None else Path(out)
    training = _Training(model, dataset, recipe, recipe.make_optimizer(model), folder, val, workers)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        if resume:
            training.run = run_folder.resume(folder, model, training.optimizer, recipe, len(dataset))
    run = training.run
    end = recipe.steps if stop_at is None else min(stop_at, recipe.steps)
    batches = _batches(model, dataset, recipe, range(run.steps, end), workers, progress)
    bar = tqdm(
        total=recipe.steps, initial=run.steps, disable=None if progress else True, unit="step", dynamic_ncols=True
    )
    with bar, backend.one_pool(), _interruptible() as interrupted, contextlib.closing(batches):
        if run.steps and training.validate_if_due(bar):  # it was stopped before it could be
            training.save()
        _training_mode(model)
        for batch in batches:
            training.step(batch)
            training.show(bar)
            is_last = run.steps == end
            validated = (is_last or not interrupted.is_set()) and training.validate_if_due(bar)
            run.interrupted = interrupted.is_set() and not is_last
            if validated or run.interrupted or is_last or run.steps % save_every == 0:
                training.save()
            if run.interrupted:
                break
    return run


def freeze(model: FasterRCNN, prefixes: Sequence[str]) -> None:
    """Freeze every parameter whose name is one of `prefixes` or begins with one of them and a dot.

    Raises
    ------
    ValueError
        For a prefix of no parameter's name, listing the first parts of the names.
    """
    parameters = dict(model.named_parameters())
    for prefix in prefixes:
        chosen = [parameter for name, parameter in parameters.items() if f"{name}.".startswith(f"{prefix}.")]
        if not chosen:
            first_parts = dict.fromkeys(name.split(".")[0] for name in parameters)
            raise ValueError(
                f"freeze: no parameter's name is or begins with {prefix!r}; they begin with {', '.join(first_parts)}"
            )
        for parameter in chosen:
            parameter.requires_grad = False


def validate(
    model: FasterRCNN, dataset: Dataset, batch_size: int = 4, seed: int = 0, workers: int = WORKERS
) -> dict[str, float]:
    """{"ap50": VOC 2012's mean AP at an IoU of 0.5, and the five losses} of the model in evaluation mode on a data set.

    A loss is that of `get_loss`, each batch's weighed with its images; its samples are drawn from the seed, the same
    whenever it is called. Difficult objects and crowds are not in the losses. The model stays as it is. Raises
    FloatingPointError where a loss is not finite.
    """
    sums, detections, targets = dict.fromkeys(LOSSES, 0.0), [], []
    loader = Loader(dataset, model.make_batch, model.config.num_classes)
    indices = [
        list(range(first, min(first + batch_size, len(dataset)))) for first in range(0, len(dataset), batch_size)
    ]
    with nn.evaluation(), nn.no_grad(), contextlib.closing(prefetch(loader.load, indices, workers)) as batches:
        for batch in batches:
            rng = np.random.default_rng([seed, _VALIDATION, batch.indices[0]])
            for name, loss in model.get_loss(batch.images, batch.targets, rng).items():
                sums[name] += loss.item() * len(batch.indices)
            if not np.isfinite(sums["total_loss"]):
                raise FloatingPointError(
                    f"the loss is not finite on {describe(dataset, batch.indices[0])} or those after it in its batch"
                )
            detections += model.predict(batch.images)
            targets += batch.complete
    score = evaluate.evaluate_detections(detections, targets, len(dataset.classes)).mean_ap
    return {"ap50": score, **{name: total / max(len(dataset), 1) for name, total in sums.items()}}


# ---------------------------------------------------------------------- the parts of fit


@dataclass
class _Training:
    """What a run works on, and where it is."""

    model: FasterRCNN
    dataset: Dataset
    recipe: Recipe
    optimizer: optim.Optimizer
    folder: Path | None
    val: Dataset | None
    workers: int
    run: Run = field(default_factory=Run)

    def step(self, batch: TrainingBatch) -> None:
        """Take a step and append its losses and the norm of its gradients to the history."""
        try:
            losses, norm = train_step(self.model, self.optimizer, batch, self.recipe, self.run.steps)
        except FloatingPointError as error:
            shown = ", ".join(describe(self.dataset, index) for index in batch.indices)
            raise FloatingPointError(f"{error}. The step saw {shown}") from error
        for name in LOSSES:
            self.run.history[name].append(losses[name])
        self.run.grad_norms.append(norm)

    def validate_if_due(self, bar: tqdm[Any]) -> bool:
        """Whether there was a validation to do; then it is done, noted, and the model saved if it is the best."""
        run, every = self.run, self.recipe.val_every
        due = run.steps == self.recipe.steps or (every > 0 and run.steps % every == 0)
        if self.val is None or not due or run.validation["step"][-1:] == [run.steps]:
            return False
        bar.set_description("validating")
        try:
            scores = validate(self.model, self.val, self.recipe.batch_size, self.recipe.seed, self.workers)
        except BaseException:  # an image that cannot be read, or a second Ctrl-C: the steps before are not lost
            self.save()
            raise
        for name, value in {"step": run.steps, **scores}.items():
            run.validation[name].append(value)
        bar.set_description(f"AP50 {scores['ap50']:.3f}")
        if self.folder is not None and run.best == len(run.validation["step"]) - 1:
            self._check_weights()
            run_folder.save_best(self.folder, self.model)
        return True

    def save(self) -> None:
        """Writes the run's files, if it has a folder."""
        if self.folder is not None:
            self._check_weights()
            run_folder.save(self.folder, self.model, self.optimizer, self.recipe, self.run, len(self.dataset))

    def _check_weights(self) -> None:
        """FloatingPointError for weights that are not finite: what was saved before is better."""
        for name, array in self.model.state_dict().items():
            if not np.isfinite(array).all():
                raise FloatingPointError(
                    f"{name} is not finite after step {self.run.steps - 1} and is not saved; "
                    f"a lower learning rate than {self.recipe.lr:g} may help"
                )

    def show(self, bar: tqdm[Any]) -> None:
        """Moves the bar on by a step."""
        bar.update()
        bar.set_postfix(
            {name.removesuffix("_loss"): f"{self.run.history[name][-1]:.3f}" for name in LOSSES}, refresh=False
        )


def _check_data(model: FasterRCNN, dataset: Dataset, name: str) -> None:
    """ValueError for a data set without images, or whose labels mean something else than the model's."""
    if len(dataset) == 0:
        raise ValueError(f"{name} is empty")
    config, classes = model.config, tuple(dataset.classes)
    if len(classes) != config.num_classes or classes != (config.class_names or classes):
        names = "" if config.class_names is None else f", {', '.join(config.class_names)}"
        raise ValueError(
            f"{name} has {len(classes)} classes, {', '.join(classes)}; the model tells "
            f"{config.num_classes} apart{names} (the background is one)"
        )


def _batches(
    model: FasterRCNN, dataset: Dataset, recipe: Recipe, steps: range, workers: int, progress: bool
) -> Generator[TrainingBatch]:
    """Yield the batch of each of these steps."""
    groups = aspect_groups(dataset, progress) if recipe.group_by_aspect and steps else None
    order = Order(len(dataset), recipe.batch_size, recipe.seed, groups)
    loader = Loader(dataset, model.make_batch, model.config.num_classes)

    def load(step: int) -> TrainingBatch:
        indices = order.batch(step)
        return loader.load(indices, draw_changes(recipe.seed, step, len(indices), recipe.flip, recipe.scale_jitter))

    return prefetch(load, steps, workers)


def _training_mode(model: FasterRCNN) -> None:
    """Switches the model to training, but for modules with parameters of which none learns: their statistics stay."""
    model.train()
    for module in model.modules():
        own = [value for value in vars(module).values() if isinstance(value, Parameter)]
        if own and not any(parameter.requires_grad for parameter in own):
            module.training = False


@contextlib.contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C sets instead of breaking off; the second breaks off as usual."""
    event = threading.Event()
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield event  # only the main thread hears signals, and nobody does who was started in a shell's background
        return

    def on_interrupt(number: int, frame: Any) -> None:
        del number, frame
        event.set()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, before)

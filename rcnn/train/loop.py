"""The training loop: validation, checkpoints, resuming and progress bars around `train_step`.

The random numbers in step k depend only on (seed, k). These numbers determine the images and their augmentation, the
sampled anchors and RoIs, and dropout. A run that is stopped and resumed at step k therefore gives bit-identical
results. To resume it, only the weights, their average and the state of the optimiser are needed. The number of loader
threads does not change the results. The number of processes changes only the rounding: the random numbers of an image
depend on its position in the batch, not on the process that reads it (see `rcnn.train.parallel`).
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from rcnn import evaluate, nn
from rcnn._ext import backend
from rcnn._files import check_path, remove_temporary
from rcnn._validate import FLAG, integer, listed, optional, shown
from rcnn.data import Dataset
from rcnn.data.protocol import check_dataset
from rcnn.model import FasterRCNN
from rcnn.nn import Parameter, optim
from rcnn.trace import Detections
from rcnn.train import forecast, parallel, run_folder
from rcnn.train.augment import Target
from rcnn.train.average import WeightAverage, averaged
from rcnn.train.loader import Loader, TrainingBatch, describe, prefetch
from rcnn.train.order import Order, aspect_groups, repeat_factors
from rcnn.train.parallel import ALONE, Group
from rcnn.train.recipe import Recipe
from rcnn.train.run_folder import LOSSES, Run
from rcnn.train.step import train_step

# With one loader thread, a step takes 0.88 to 1 times as long as without threads. Two threads are not faster than one.
# One thread is safe for any data set.
WORKERS = 1
_VALIDATION = 3  # number of the random stream for sampling in validation; step.py and loader.py use other numbers


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
    report: Callable[[str], None] | None = None,
    group: Group | None = None,
) -> Run:
    """Train the model in place on the data set, and leave it in training mode.

    Difficult objects and crowds are not used in training. If a batch norm layer is frozen (by the recipe or in the
    model), its running statistics do not change. After Ctrl-C, the function finishes the current step or validation,
    saves the run and returns. A second Ctrl-C stops the function at once.

    If mpiexec or srun has started several processes, all of them must call this function with the same arguments. They
    share every batch. The weights of process 0 replace those of the others at the start. Only process 0 uses `out`,
    shows a progress bar and calls `report`.

    Parameters
    ----------
    model : FasterRCNN
        The model to train.
    dataset : Dataset
        The training images and their targets.
    recipe : Recipe
        The settings of the training.
    out : path, optional
        Folder for the files that `rcnn.train.run_folder` lists. The files are written every `save_every` steps, at
        every validation and at the end. They replace the files of an earlier run. By default, no files are written.
    val : Dataset, optional
        Images and targets for validation. A validation takes place every `recipe.val_every` steps and at the end.
    resume : bool
        If True, continue the run in `out` with the same recipe. The result is bit-identical to that of an uninterrupted
        run.
    save_every : int
        Number of steps between two saves.
    stop_at : int, optional
        Stop after this number of steps (counted from the start of the run), as if the run were interrupted.
    workers : int
        Number of threads that prefetch images, at most 256. With 0, images are read between the steps. With 2 or more,
        several threads read from the data set at the same time. The result does not depend on this number.
    progress : bool
        If True, show a progress bar.
    report : callable, optional
        Function that receives a line of text after ten steps: a forecast of how long the rest of the run will take.
    group : Group, optional
        The processes that share every batch; by default, all that mpiexec or srun has started.

    Returns
    -------
    Run
        The history of the run.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type; if a data set does not follow the protocol `rcnn.data.Dataset` (the message
        names the item) or is empty, or if its classes are not those of the model; if the recipe, the model or the
        number of images differs from the run to resume; if `recipe.freeze` contains a name that the model does not
        have; or if there are more processes than images in a batch.
    FloatingPointError
        If a loss or a gradient is not finite. The error is raised before the parameters change. Its message names the
        images and the first non-finite stage (see `rcnn.train.first_non_finite`). Files that were saved before are
        kept.
    """
    for name, value, kind in (("model", model, FasterRCNN), ("recipe", recipe, Recipe)):
        if not isinstance(value, kind):
            raise TypeError(f"{name} must be a {kind.__name__}, got {shown(value)}")
    check_dataset(dataset)
    _check_data(model, dataset, "the data set")
    if val is not None:
        check_dataset(val, "val")
        _check_data(model, val, "the validation data set")
    for name, flag in (("resume", resume), ("progress", progress)):
        FLAG.check(name, flag)
    stop_at = optional(integer(0)).check("stop_at", stop_at)
    if recipe.patience and val is None:
        raise ValueError(f"patience = {recipe.patience} requires validation images: pass val=...")
    if resume and out is None:
        raise ValueError("resume=True requires the folder of the run: pass out=...")
    integer(0, 256).check("workers", workers)
    integer(1).check("save_every", save_every)
    group = parallel.group() if group is None else group
    if recipe.batch_size < group.size:
        raise ValueError(
            f"batch_size = {recipe.batch_size} must be at least the number of processes, {group.size}, because each "
            "process needs an image of every batch; start fewer processes, or set a larger batch_size in the plan"
        )
    progress, report = progress and group.rank == 0, report if group.rank == 0 else None
    freeze(model, recipe.freeze)
    folder = None if out is None or group.rank else Path(check_path(out, "out"))
    average = WeightAverage(model, recipe.ema) if recipe.ema else None
    training = _Training(model, dataset, recipe, recipe.make_optimizer(model), average, folder, val, workers, group)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        remove_temporary(folder, run_folder.FILES)  # a run that was killed may have left temporary files
        if resume:
            training.run = run_folder.resume(folder, model, training.optimizer, average, recipe, len(dataset))
    training.follow_process_0()
    run = training.run
    end = recipe.steps if stop_at is None else min(stop_at, recipe.steps)
    batches = _batches(model, dataset, recipe, range(run.steps, end), workers, progress, group)
    bar = tqdm(
        total=recipe.steps, initial=run.steps, disable=None if progress else True, unit="step", dynamic_ncols=True
    )
    with bar, backend.one_pool(), _interruptible() as interrupted, contextlib.closing(batches):
        if run.steps and training.validate_if_due(bar):  # the run was stopped before this validation
            training.save()
        _training_mode(model)
        for batches_of_step in () if training.is_over() else batches:
            training.step(batches_of_step)
            training.show(bar)
            training.tell_forecast(report)
            is_last = run.steps == end
            validated = (is_last or not group.any(interrupted.is_set())) and training.validate_if_due(bar)
            is_last = is_last or training.is_over()
            run.interrupted = group.any(interrupted.is_set()) and not is_last
            if validated or run.interrupted or is_last or run.steps % save_every == 0:
                training.save()
            if run.interrupted or is_last:
                break
    if average is not None:
        model.load_state_dict(average.state)
    return run


def freeze(model: FasterRCNN, prefixes: Sequence[str]) -> None:
    """Freeze every parameter whose name is one of `prefixes`, or starts with one of them followed by a dot.

    Parameters
    ----------
    model : FasterRCNN
        The model. For its frozen parameters, `requires_grad` becomes False.
    prefixes : sequence of str
        Names of parameters or of modules, such as "backbone" or "backbone.stem.0".

    Raises
    ------
    ValueError
        If a prefix matches no parameter. The message lists the possible first parts of the names.
    """
    parameters = dict(model.named_parameters())
    for prefix in prefixes:
        chosen = [parameter for name, parameter in parameters.items() if f"{name}.".startswith(f"{prefix}.")]
        if not chosen:
            first_parts = dict.fromkeys(name.split(".")[0] for name in parameters)
            raise ValueError(
                f"freeze: no parameter name starts with {prefix!r}; the names start with {listed(list(first_parts))}"
            )
        for parameter in chosen:
            parameter.requires_grad = False


def validate(
    model: FasterRCNN,
    dataset: Dataset,
    batch_size: int = 4,
    seed: int = 0,
    workers: int = WORKERS,
    group: Group = ALONE,
) -> dict[str, float]:
    """Return the AP50 and the losses of a model on a data set, computed in evaluation mode.

    The losses are those of `get_loss`, averaged over the images. The losses ignore difficult objects and crowds. The
    sampled anchors and RoIs depend only on the seed. The model does not change.

    Parameters
    ----------
    model : FasterRCNN
        The model.
    dataset : Dataset
        The images and their targets.
    batch_size : int
        Number of images in a batch.
    seed : int
        Seed for the sampling of anchors and RoIs.
    workers : int
        Number of threads that prefetch images, at most 256.
    group : Group
        The processes that share the batches; by default, this process alone. The result is the same in all processes.

    Returns
    -------
    dict of str to float
        "ap50" is the mean average precision at an IoU of 0.5, computed as in VOC 2012. The other keys are the
        names of the five losses.

    Raises
    ------
    FloatingPointError
        If a loss is not finite.
    """
    check_dataset(dataset)
    integer(1).check("batch_size", batch_size)
    integer(0, 256).check("workers", workers)
    loader = Loader(dataset, model.make_batch)
    indices = [
        list(range(first, min(first + batch_size, len(dataset)))) for first in range(0, len(dataset), batch_size)
    ]
    own = indices[group.rank :: group.size]
    results: list[tuple[list[int], dict[str, float], list[Detections], list[Target]]] = []
    with nn.evaluation(), nn.no_grad(), contextlib.closing(prefetch(loader.load, own, workers)) as batches:
        for batch in batches:
            rng = np.random.default_rng([seed, _VALIDATION, batch.indices[0]])
            losses = {name: loss.item() for name, loss in model.get_loss(batch.images, batch.targets, rng).items()}
            if not np.isfinite(losses["total_loss"]):
                results.append((batch.indices, losses, [], []))
                break
            results.append((batch.indices, losses, model.predict(batch.images), batch.complete))
    sums, detections, targets = dict.fromkeys(LOSSES, 0.0), [], []
    for numbers, losses, found, complete in sorted(
        itertools.chain(*group.exchange(results)), key=lambda batch: batch[0]
    ):
        for name, loss in losses.items():
            sums[name] += loss * len(numbers)
        if not np.isfinite(sums["total_loss"]):
            raise FloatingPointError(
                f"the loss is not finite in the batch that starts with {describe(dataset, numbers[0])}"
            )
        detections += found
        targets += complete
    score = evaluate.evaluate_detections(detections, targets, len(dataset.classes)).mean_ap
    return {"ap50": score, **{name: total / max(len(dataset), 1) for name, total in sums.items()}}


# ---------------------------------------------------------------------- the parts of fit


@dataclass
class _Training:
    """The state of a run in progress."""

    model: FasterRCNN
    dataset: Dataset
    recipe: Recipe
    optimizer: optim.Optimizer
    average: WeightAverage | None
    folder: Path | None
    val: Dataset | None
    workers: int
    group: Group
    run: Run = field(default_factory=Run)
    ends: list[float] = field(default_factory=list)  # times at which the first steps ended

    def follow_process_0(self) -> None:
        """Make the weights, the state of the optimiser, the average and the history those of process 0 of the group."""
        if self.group.size == 1:
            return
        average = {} if self.average is None else self.average.state
        state = (self.run, self.model.state_dict(), self.optimizer.state_dict(), average)
        self.run, weights, optimizer, average = self.group.broadcast(state)
        if self.group.rank:
            self.model.load_state_dict(weights)
            self.optimizer.load_state_dict(optimizer)
            if self.average is not None:
                self.average.state = average

    def step(self, batches: Sequence[TrainingBatch]) -> None:
        """Run one training step, and append its losses and its gradient norm to the history."""
        try:
            losses, norm = train_step(self.model, self.optimizer, batches, self.recipe, self.run.steps, self.group)
        except FloatingPointError as error:
            shown = ", ".join(describe(self.dataset, index) for batch in batches for index in batch.indices)
            raise FloatingPointError(f"{error}; images of this step: {shown}") from error
        if self.average is not None:
            self.average.update(self.model, self.run.steps)
        for name in LOSSES:
            self.run.history[name].append(losses[name])
        self.run.grad_norms.append(norm)

    def tell_forecast(self, report: Callable[[str], None] | None) -> None:
        """Report a forecast of the duration after the first steps, if most of the run is still to come."""
        if report is None or len(self.ends) == forecast.STEPS:
            return
        self.ends.append(time.perf_counter())
        if len(self.ends) == forecast.STEPS < self.recipe.steps - self.run.steps:
            seconds = (self.ends[-1] - self.ends[0]) / (forecast.STEPS - 1)
            num_val = 0 if self.val is None else len(self.val)
            report(forecast.forecast(seconds, self.run.steps, self.recipe, num_val))

    def is_over(self) -> bool:
        """Return whether the run has done all its steps, or is stopped early by `patience`."""
        return self.run.steps >= self.recipe.steps or self.run.lost_patience(self.recipe.patience)

    def validate_if_due(self, bar: tqdm[Any]) -> bool:
        """If a validation is due, run it, record its scores, and save the best model. Return whether it was due."""
        run, every = self.run, self.recipe.val_every
        due = run.steps == self.recipe.steps or (every > 0 and run.steps % every == 0)
        if self.val is None or not due or run.validation["step"][-1:] == [run.steps]:
            return False
        bar.set_description("validating")
        try:
            with averaged(self.average, self.model):
                scores = validate(
                    self.model, self.val, self.recipe.batch_size, self.recipe.seed, self.workers, self.group
                )
        except BaseException:  # for example an unreadable image or a second Ctrl-C: save all steps so far
            self.save()
            raise
        for name, value in {"step": run.steps, **scores}.items():
            run.validation[name].append(value)
        bar.set_description(f"AP50 {scores['ap50']:.3f}")
        if run.best == len(run.validation["step"]) - 1:
            if self.folder is not None or self.group.size > 1:
                self._check_weights()
            if self.folder is not None:
                with averaged(self.average, self.model):
                    run_folder.save_best(self.folder, self.model)
        return True

    def save(self) -> None:
        """Write the files of the run if it has a folder."""
        if self.folder is not None or self.group.size > 1:  # all processes of a group raise the same error
            self._check_weights()
        if self.folder is not None:
            run_folder.save(
                self.folder, self.model, self.optimizer, self.average, self.recipe, self.run, len(self.dataset)
            )

    def _check_weights(self) -> None:
        """Raise FloatingPointError if a weight is not finite, because such a weight must not replace a valid file."""
        for name, array in self.model.state_dict().items():
            if not np.isfinite(array).all():
                raise FloatingPointError(
                    f"{name} is not finite after step {self.run.steps - 1}, so the model was not saved; "
                    f"try a lower learning rate than {self.recipe.lr:g}"
                )

    def show(self, bar: tqdm[Any]) -> None:
        """Advance the progress bar by one step, and show the losses."""
        bar.update()
        bar.set_postfix(
            {name.removesuffix("_loss"): f"{self.run.history[name][-1]:.3f}" for name in LOSSES}, refresh=False
        )


def _check_data(model: FasterRCNN, dataset: Dataset, name: str) -> None:
    """Raise ValueError if a data set has no images, or if its classes differ from those of the model."""
    if len(dataset) == 0:
        raise ValueError(f"{name} is empty")
    config, classes = model.config, tuple(dataset.classes)
    if len(classes) != config.num_classes or classes != (config.class_names or classes):
        names = "" if config.class_names is None else f" ({listed(config.class_names)})"
        raise ValueError(
            f"{name} has {len(classes)} classes ({listed(classes)}), but the model has "
            f"{config.num_classes}{names}; both numbers include the background"
        )


def _batches(
    model: FasterRCNN, dataset: Dataset, recipe: Recipe, steps: range, workers: int, progress: bool, group: Group
) -> Generator[list[TrainingBatch]]:
    """Return an iterator over the given steps. Each item contains this process's shares of the batches of a step."""
    groups = aspect_groups(dataset, progress) if recipe.group_by_aspect and steps else None
    repeats = repeat_factors(dataset, recipe.repeat_thresh, progress) if recipe.repeat_thresh and steps else None
    order = Order(len(dataset), recipe.batch_size, recipe.seed, groups, repeats)
    loader = Loader(dataset, model.make_batch)

    def load(step: int) -> list[TrainingBatch]:
        numbers = range(step * recipe.accumulate, (step + 1) * recipe.accumulate)
        shares = [(number, *group.share(order.batch(number))) for number in numbers]
        return [loader.load(indices, recipe, number, first) for number, first, indices in shares]

    return prefetch(load, steps, workers)


def _training_mode(model: FasterRCNN) -> None:
    """Set training mode, except in modules whose parameters are all frozen: their statistics must not change."""
    model.train()
    for module in model.modules():
        own = [value for value in vars(module).values() if isinstance(value, Parameter)]
        if own and not any(parameter.requires_grad for parameter in own):
            module.training = False


@contextlib.contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """Yield an event. The first Ctrl-C sets the event, and a second Ctrl-C interrupts the program as usual."""
    event = threading.Event()
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield event  # only the main thread receives signals, and background jobs of a shell ignore Ctrl-C
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

"""One training step: the losses, the gradients, the optimiser, and an error that names the first non-finite stage."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from rcnn.model import FasterRCNN
from rcnn.nn import optim
from rcnn.train.loader import TrainingBatch
from rcnn.train.nonfinite import first_non_finite
from rcnn.train.parallel import ALONE, Group
from rcnn.train.recipe import Recipe
from rcnn.train.run_folder import LOSSES

_SAMPLES = 1  # number of the random stream for sampling and dropout; loader.py and loop.py use other numbers


def train_step(
    model: FasterRCNN,
    optimizer: optim.Optimizer,
    batches: Sequence[TrainingBatch],
    recipe: Recipe,
    step: int,
    group: Group = ALONE,
) -> tuple[dict[str, float], float]:
    """Run one training step: update the parameters, and return the losses and the gradient norm.

    Parameters
    ----------
    model : FasterRCNN
        The model, in training mode.
    optimizer : Optimizer
        The optimiser of the model's parameters, from `recipe.make_optimizer`.
    batches : sequence of TrainingBatch
        The images and targets of the step. Their number is `recipe.accumulate`. In a group, each batch contains this
        process's share.
    recipe : Recipe
        The recipe, which contains the seed, the learning rate and the largest gradient norm.
    step : int
        Number of the step, starting from 0. The seed, the step and the position of an image in its batch determine
        which anchors and RoIs of the image are sampled.
    group : Group
        The processes that share the batches; by default, this process alone.

    Returns
    -------
    losses : dict of str to float
        The four losses and their sum, "total_loss", averaged over the batches. In a group, they are those of the whole
        batches.
    norm : float
        Norm of all gradients together, before they are scaled down to `recipe.max_norm`.

    Raises
    ------
    FloatingPointError
        If a loss or a gradient is not finite. The message names the first non-finite stage. The model does not change.
    """
    buffers = {name: array.copy() for name, array in model.named_buffers()}  # running statistics of batch norms
    optimizer.zero_grad()
    values, norm, agreed = dict.fromkeys(LOSSES, 0.0), np.nan, False
    try:
        for number, batch in _numbered(batches, step):
            is_last = number == (step + 1) * len(batches) - 1
            with group.sharing():
                losses = model.get_loss(group.padded(batch.images), batch.targets, _rngs(recipe, number, batch))
                totals = group.total(np.array([loss.item() for loss in losses.values()]))
                for name, loss in zip(losses, totals.tolist(), strict=True):
                    values[name] += loss / len(batches)
                if np.isfinite(values["total_loss"]):
                    with group.adding_gradients(optimizer.parameters) if is_last else contextlib.nullcontext():
                        losses["total_loss"].backward(1 / len(batches))  # adds to the gradients of the batches before
        if np.isfinite(values["total_loss"]):
            norm = optim.clip_grad_norm(optimizer.parameters, recipe.max_norm)
        if not np.isfinite(norm):
            agreed = True  # all processes of a group come here
            raise FloatingPointError(f"the losses are {values}, and the gradient norm is {norm}")
    except (ValueError, FloatingPointError) as error:  # a ValueError comes from a stage that itself found a NaN
        optimizer.zero_grad()
        stage = _diagnose(model, batches, recipe, step, buffers)
        if agreed:
            stage = next((found for found in group.exchange(stage) if found is not None), None)
        if stage is None:
            raise
        raise FloatingPointError(
            f"step {step} produced non-finite values, first in {stage}: {error}; "
            f"try a lower learning rate than {recipe.lr:g}"
        ) from error
    optimizer.lr = recipe.lr_at(step)
    optimizer.step()
    return values, norm


def _numbered(batches: Sequence[TrainingBatch], step: int) -> Iterator[tuple[int, TrainingBatch]]:
    """Return the batches of a step with their numbers, counted from the start of the run."""
    return enumerate(batches, start=step * len(batches))


def _rngs(recipe: Recipe, number: int, batch: TrainingBatch) -> list[np.random.Generator]:
    """Return, for each image of a batch with this number, the generator for all random numbers of the image."""
    positions = range(batch.first, batch.first + len(batch.indices))
    return [np.random.default_rng([recipe.seed, _SAMPLES, number, position]) for position in positions]


def _diagnose(
    model: FasterRCNN, batches: Sequence[TrainingBatch], recipe: Recipe, step: int, buffers: Mapping[str, np.ndarray]
) -> str | None:
    """Return the first non-finite stage of a step, and reset the model's buffers to `buffers`."""
    try:
        for number, batch in _numbered(batches, step):
            model.load_state_dict(buffers, strict=False)
            stage = first_non_finite(model, batch.images, batch.targets, _rngs(recipe, number, batch))
            if stage is not None:
                return stage
    except ValueError:  # the step raised the same ValueError again, but all values before it are finite
        pass
    finally:
        model.load_state_dict(buffers, strict=False)
    return None

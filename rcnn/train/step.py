"""One training step: the losses, the gradients, the optimiser, and an error that names the first non-finite stage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from rcnn.model import FasterRCNN
from rcnn.nn import optim
from rcnn.train.loader import TrainingBatch
from rcnn.train.nonfinite import first_non_finite
from rcnn.train.recipe import Recipe
from rcnn.train.run_folder import LOSSES

_SAMPLES = 1  # number of the random stream for sampling and dropout; loader.py and loop.py use other numbers


def train_step(
    model: FasterRCNN, optimizer: optim.Optimizer, batches: Sequence[TrainingBatch], recipe: Recipe, step: int
) -> tuple[dict[str, float], float]:
    """Run one training step: update the parameters, and return the losses and the gradient norm.

    Parameters
    ----------
    model : FasterRCNN
        The model, in training mode.
    optimizer : Optimizer
        The optimiser of the model's parameters, from `recipe.make_optimizer`.
    batches : sequence of TrainingBatch
        The images and targets of the step. Their number is `recipe.accumulate`.
    recipe : Recipe
        The recipe, which contains the seed, the learning rate and the largest gradient norm.
    step : int
        Number of the step, starting from 0. The seed and the step determine which anchors and RoIs are sampled.

    Returns
    -------
    losses : dict of str to float
        The four losses and their sum, "total_loss", averaged over the batches.
    norm : float
        Norm of all gradients together, before they are scaled down to `recipe.max_norm`.

    Raises
    ------
    FloatingPointError
        If a loss or a gradient is not finite. The message names the first non-finite stage. The model does not change.
    """
    buffers = {name: array.copy() for name, array in model.named_buffers()}  # running statistics of batch norms
    optimizer.zero_grad()
    values, norm = dict.fromkeys(LOSSES, 0.0), np.nan
    try:
        for number, batch in _numbered(batches, step):
            losses = model.get_loss(batch.images, batch.targets, _rng(recipe, number))
            for name, loss in losses.items():
                values[name] += loss.item() / len(batches)
            if np.isfinite(values["total_loss"]):
                losses["total_loss"].backward(1 / len(batches))  # adds to the gradients of the batches before
        if np.isfinite(values["total_loss"]):
            norm = optim.clip_grad_norm(optimizer.parameters, recipe.max_norm)
        if not np.isfinite(norm):
            raise FloatingPointError(f"the losses are {values}, and the gradient norm is {norm}")
    except (ValueError, FloatingPointError) as error:  # a ValueError comes from a stage that itself found a NaN
        optimizer.zero_grad()
        stage = _diagnose(model, batches, recipe, step, buffers)
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


def _rng(recipe: Recipe, number: int) -> np.random.Generator:
    """Return the generator for all random numbers in a batch with this number."""
    return np.random.default_rng([recipe.seed, _SAMPLES, number])


def _diagnose(
    model: FasterRCNN, batches: Sequence[TrainingBatch], recipe: Recipe, step: int, buffers: Mapping[str, np.ndarray]
) -> str | None:
    """Return the first non-finite stage of a step, and reset the model's buffers to `buffers`."""
    try:
        for number, batch in _numbered(batches, step):
            model.load_state_dict(buffers, strict=False)
            stage = first_non_finite(model, batch.images, batch.targets, _rng(recipe, number))
            if stage is not None:
                return stage
    except ValueError:  # the step raised the same ValueError again, but all values before it are finite
        pass
    finally:
        model.load_state_dict(buffers, strict=False)
    return None

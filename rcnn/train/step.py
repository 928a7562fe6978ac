"""One training step: the losses, their gradients, the optimiser; and an error that names a stage that is not finite."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from rcnn.model import FasterRCNN
from rcnn.nn import optim
from rcnn.train.loader import TrainingBatch
from rcnn.train.nonfinite import first_non_finite
from rcnn.train.recipe import Recipe

_SAMPLES = 1  # the stream of the samples and the dropout of a step; loader.py and loop.py have the others


def train_step(
    model: FasterRCNN, optimizer: optim.Optimizer, batch: TrainingBatch, recipe: Recipe, step: int
) -> tuple[dict[str, float], float]:
    """Move the parameters by one step; return its losses and the norm of its gradients.

    Parameters
    ----------
    model : FasterRCNN
        In training mode.
    optimizer : Optimizer
        Of the model's parameters, from `recipe.make_optimizer`.
    batch : TrainingBatch
    recipe : Recipe
    step : int
        Number of steps before this one. With the recipe's seed it decides which anchors and RoIs are sampled.

    Returns
    -------
    losses : dict of str to float
        The four losses and their sum, "total_loss".
    norm : float
        Joint norm of the gradients before they are scaled down to `recipe.max_norm`.

    Raises
    ------
    FloatingPointError
        Where a loss or the gradients are not finite, with the first stage that is not. The model is as before the step.
    """
    buffers = {name: array.copy() for name, array in _buffers(model).items()}
    optimizer.zero_grad()
    try:
        losses = model.get_loss(batch.images, batch.targets, _rng(recipe, step))
        values, norm = {name: loss.item() for name, loss in losses.items()}, np.nan
        if np.isfinite(values["total_loss"]):
            losses["total_loss"].backward()
            norm = optim.clip_grad_norm(optimizer.parameters, recipe.max_norm)
        if not np.isfinite(norm):
            raise FloatingPointError(f"the losses are {values}, the norm of the gradients is {norm}")
    except (ValueError, FloatingPointError) as error:  # a check within a stage may find NaN before the losses show it
        optimizer.zero_grad()
        stage = _diagnose(model, batch, recipe, step, buffers)
        if stage is None:
            raise
        raise FloatingPointError(
            f"step {step} is not finite, first in {stage}: {error}; a lower learning rate than {recipe.lr:g} may help"
        ) from error
    optimizer.lr = recipe.lr_at(step)
    optimizer.step()
    return values, norm


def _rng(recipe: Recipe, step: int) -> np.random.Generator:
    """Return the generator of everything random within a step."""
    return np.random.default_rng([recipe.seed, _SAMPLES, step])


def _buffers(model: FasterRCNN) -> dict[str, np.ndarray]:
    """Return the part of the state that moves in training without being learned: the statistics of batch norms."""
    learned = {id(parameter.data) for parameter in model.parameters()}
    return {name: array for name, array in model.state_dict().items() if id(array) not in learned}


def _diagnose(
    model: FasterRCNN, batch: TrainingBatch, recipe: Recipe, step: int, buffers: Mapping[str, np.ndarray]
) -> str | None:
    """Return the first stage of a step that is not finite, and restore the buffers to those before the step."""
    model.load_state_dict(buffers, strict=False)
    try:
        return first_non_finite(model, batch.images, batch.targets, _rng(recipe, step))
    except ValueError:  # the same as before, with nothing that is not finite up to it
        return None
    finally:
        model.load_state_dict(buffers, strict=False)

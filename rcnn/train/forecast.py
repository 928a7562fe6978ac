"""A forecast of how long a training run will take, made after its first steps."""

from __future__ import annotations

import math

from rcnn.train.recipe import Recipe

STEPS = 10  # number of steps after which the forecast is made; the first step is not counted, because it is slower
VALIDATION_COST = 0.5  # time of a batch in a validation, in training batches (measured on the small network)


def forecast(seconds: float, step: int, recipe: Recipe, num_val: int) -> str:
    """Return a line about the time that the rest of a run will take.

    Parameters
    ----------
    seconds : float
        Duration of a step.
    step : int
        Number of steps that were run.
    recipe : Recipe
        The recipe.
    num_val : int
        Number of validation images.

    Returns
    -------
    str
        For example, "the other 1,490 steps and 10 validations will take about 5 minutes".
    """
    steps = recipe.steps - step
    validations = 0
    if num_val:
        every = recipe.val_every or recipe.steps
        validations = math.ceil(recipe.steps / every) - step // every
    batches = steps * recipe.accumulate + VALIDATION_COST * validations * math.ceil(num_val / recipe.batch_size)
    work = f"{steps:,} steps" + (f" and {validations} validation{'s' * (validations != 1)}" if validations else "")
    return f"the other {work} will take about {duration(seconds / recipe.accumulate * batches)}"


def duration(seconds: float) -> str:
    """Return a duration in words, rounded.

    Parameters
    ----------
    seconds : float
        The duration.

    Returns
    -------
    str
        The duration in seconds, minutes or hours.

    Examples
    --------
    >>> duration(41.2), duration(290), duration(9000)
    ('41 seconds', '5 minutes', '2.5 hours')
    """
    if seconds < 90:
        return f"{max(round(seconds), 1)} second{'s' * (round(seconds) > 1)}"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"

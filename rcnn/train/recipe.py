"""`Recipe`: the settings of a training run. The model, the data and the recipe determine every bit of the result."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from rcnn._validate import (
    BELOW_ONE,
    FLAG,
    FRACTION,
    POSITIVE,
    Rule,
    as_float,
    as_integer,
    as_string,
    integer,
    normalise_fields,
    number,
    one_of,
    tuple_of,
    wrong_value,
)
from rcnn.nn import Module, optim

OPTIMIZERS = ("adam", "sgd")
SCHEDULES = ("cosine", "steps")
MAX_STEPS = 10**8


@dataclass(frozen=True)
class Recipe:
    """Settings of a training run. Together with the model and the data, they determine the result.

    Attributes
    ----------
    steps : int
        Number of training steps, at most 10^8. Each step uses `accumulate` batches.
    batch_size : int
        Number of images in a batch, at most 1,024.
    accumulate : int
        Number of batches in a step, at most 1,024. The gradient is the mean over these batches, so that a step uses
        `accumulate * batch_size` images in the memory of `batch_size` images. Batch norms still see single batches.
    optimizer : str
        "adam" or "sgd". Both work like PyTorch's optimisers of the same name.
    lr : float
        Peak learning rate.
    momentum : float
        Momentum of the "sgd" optimiser.
    weight_decay : float
        Weight decay, as in PyTorch.
    warmup_steps : int
        Number of steps at the start during which the learning rate increases linearly, at most 10^8. In a short run,
        it is only a quarter of all steps.
    final_lr : float
        Learning rate at the end of the "cosine" schedule, as a fraction of `lr`.
    max_norm : float
        Largest allowed norm of all gradients together. If their norm is larger, the gradients are scaled down.
    seed : int
        Seed for all random numbers in training, below 2^64. The initial weights are part of the model, so `fit` does
        not draw them.
    schedule : str
        With "cosine", the learning rate follows half a cosine from `lr` to `final_lr * lr`. With "steps", it is
        multiplied by `gamma` at each step in `milestones`.
    milestones : tuple of int
        Steps of the "steps" schedule, in ascending order; at most 1,000 numbers up to 10^8.
    gamma : float
        Factor by which the "steps" schedule multiplies the learning rate at each step in `milestones`.
    flip : float
        Probability that an image and its boxes are mirrored horizontally.
    vertical_flip : float
        Probability that an image and its boxes are mirrored vertically.
    crop : float
        Largest fraction of the height and of the width that a random crop cuts away, from 0 (no crop) to 0.9. The crop
        contains at least one whole object, and does not change the size of the objects.
    translate : float
        Largest random shift, as a fraction of the height and of the width, from 0 (no shift) to 0.5.
    rotate : float
        Largest angle of a random rotation in degrees, from 0 (no rotation) to 45.
    colour_jitter : float
        Largest relative change of the brightness, the contrast and the saturation, from 0 (no change) to 1.
    scale_jitter : (float, float)
        Lowest and highest value of a random factor that multiplies the target size of each image, from 0.1 to 10. The
        logarithm of the factor is uniformly distributed. With (1, 1), the size does not change.
    group_by_aspect : bool
        If True, images that are taller than wide are not in the same batch as other images. The batches then contain
        less padding. This has an effect only if the data set knows the image sizes without decoding the images.
    repeat_thresh : float
        If a class is in a smaller fraction of the images than this, images with the class appear more often in an
        epoch; see `rcnn.train.order.repeat_factors`. With 0, no image is repeated.
    freeze : tuple of str
        Names of the parameters or modules to freeze, such as "backbone" or "backbone.stem.0".
    val_every : int
        Number of steps between two validations, at most 10^8; 0 turns them off. There is always a validation at the
        end.
    patience : int
        Number of validations without a better AP50 after which the training stops early, at most 10^8; 0 turns this
        off. It requires `val_every`.
    ema : float
        Decay of an exponential moving average of the weights, at least 0 and below 1; see
        `rcnn.train.average.WeightAverage`. With 0, the weights are not averaged. Otherwise, the averaged weights are
        validated and saved, and `fit` leaves them in the model.

    Raises
    ------
    TypeError, ValueError
        If a value is invalid. The message names the field, the value and what is allowed.
    """

    steps: int = 2500
    batch_size: int = 4
    accumulate: int = 1
    optimizer: str = "adam"
    lr: float = 3e-3
    momentum: float = 0.9
    weight_decay: float = 1e-4
    warmup_steps: int = 200
    final_lr: float = 0.01
    max_norm: float = 5.0
    seed: int = 0
    schedule: str = "cosine"
    milestones: tuple[int, ...] = ()
    gamma: float = 0.1
    flip: float = 0.0
    vertical_flip: float = 0.0
    crop: float = 0.0
    translate: float = 0.0
    rotate: float = 0.0
    colour_jitter: float = 0.0
    scale_jitter: tuple[float, float] = (1.0, 1.0)
    group_by_aspect: bool = True
    repeat_thresh: float = 0.0
    freeze: tuple[str, ...] = ()
    val_every: int = 0
    patience: int = 0
    ema: float = 0.0

    def __post_init__(self) -> None:
        normalise_fields(self, RULES)
        if self.milestones and self.schedule != "steps":
            raise wrong_value("milestones", self.milestones, f"empty if schedule is {self.schedule!r}")
        if self.patience and not self.val_every:
            raise wrong_value("patience", self.patience, "0 if val_every is 0")

    def replace(self, steps: int | None = None, seed: int | None = None) -> Recipe:
        """Return the recipe with another number of steps or another seed.

        Parameters
        ----------
        steps : int, optional
            New number of steps; None keeps the current one.
        seed : int, optional
            New seed; None keeps the current one.

        Returns
        -------
        Recipe
            A new recipe.
        """
        return dataclasses.replace(
            self, steps=self.steps if steps is None else steps, seed=self.seed if seed is None else seed
        )

    def make_optimizer(self, model: Module) -> optim.Optimizer:
        """Return an optimiser for the model's parameters.

        Parameters
        ----------
        model : Module
            The model.

        Returns
        -------
        Optimizer
            Adam or SGD.
        """
        if self.optimizer == "adam":
            return optim.Adam(model.parameters(), self.lr, weight_decay=self.weight_decay)
        return optim.SGD(model.parameters(), self.lr, self.momentum, self.weight_decay)

    def lr_at(self, step: int) -> float:
        """Return the learning rate of a step.

        Parameters
        ----------
        step : int
            Number of the step, starting from 0.

        Returns
        -------
        float
            The learning rate.
        """
        if self.schedule == "cosine":
            fall = optim.cosine(self.steps, self.final_lr)
        else:
            fall = optim.multi_step(self.milestones, self.gamma)
        warmup = optim.linear_warmup(min(self.warmup_steps, self.steps // 4))
        return self.lr * optim.product(warmup, fall)(step)


RULES: dict[str, Rule] = {
    "steps": integer(1, MAX_STEPS),
    "batch_size": integer(1, 1_024),
    "accumulate": integer(1, 1_024),
    "optimizer": one_of(OPTIMIZERS),
    "lr": POSITIVE,
    "momentum": BELOW_ONE,
    "weight_decay": Rule("a number of at least 0", as_float, lambda x: x >= 0),
    "warmup_steps": integer(0, MAX_STEPS),
    "final_lr": FRACTION,
    "max_norm": POSITIVE,
    "seed": integer(0, 2**64 - 1),
    "schedule": one_of(SCHEDULES),
    "milestones": Rule(
        f"an ascending sequence of at most 1,000 steps, integers in 1 .. {MAX_STEPS}",
        tuple_of(as_integer),
        lambda steps: (
            list(steps) == sorted(set(steps))
            and len(steps) <= 1_000
            and min(steps, default=1) >= 1
            and max(steps, default=1) <= MAX_STEPS
        ),
    ),
    "gamma": Rule("a number above 0 and at most 1", as_float, lambda x: 0 < x <= 1),
    "flip": FRACTION,
    "vertical_flip": FRACTION,
    "crop": number(0, 0.9),
    "translate": number(0, 0.5),
    "rotate": number(0, 45),
    "colour_jitter": FRACTION,
    "scale_jitter": Rule(
        "two numbers in [0.1, 10], the lowest factor and the highest factor",
        tuple_of(as_float),
        lambda factors: len(factors) == 2 and 0.1 <= factors[0] <= factors[1] <= 10,
    ),
    "group_by_aspect": FLAG,
    "repeat_thresh": FRACTION,
    "freeze": Rule("a sequence of parameter names or prefixes", tuple_of(as_string), all),
    "val_every": integer(0, MAX_STEPS),
    "patience": integer(0, MAX_STEPS),
    "ema": BELOW_ONE,
}

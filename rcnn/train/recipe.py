"""`Recipe`: how to train. With the model and the data it decides the result, to the last bit."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from rcnn._validate import (
    FLAG,
    FRACTION,
    POSITIVE,
    Rule,
    as_float,
    as_integer,
    as_string,
    integer,
    normalise_fields,
    one_of,
    tuple_of,
    wrong_value,
)
from rcnn.nn import Module, optim

OPTIMIZERS = ("adam", "sgd")
SCHEDULES = ("cosine", "steps")


@dataclass(frozen=True)
class Recipe:
    """How to train: everything that, with the model and the data, decides the result.

    steps: how many batches of `batch_size` images.
    optimizer: "adam" or "sgd" (with `momentum`); weight_decay as in PyTorch's optimisers of these names.
    lr: the learning rate. It rises over the first `warmup_steps`; `schedule` says how it falls: "cosine", along half a
        cosine to `final_lr` times itself at the end; "steps", by the factor `gamma` at each step of `milestones`.
    max_norm: gradients are scaled down to this joint norm.
    seed: of everything random but the first weights, which the model brings along.
    flip: probability that an image is mirrored, left for right, with its boxes.
    scale_jitter: (lowest, highest) factor of the size to which an image is resized, drawn evenly on a logarithmic
        scale for each; (1, 1) leaves it as the config says.
    group_by_aspect: whether a batch holds only upright or only other images, where the data set tells their sizes
        without decoding them; less of a batch is then padding.
    freeze: what does not learn: names of parameters, or what these begin with ("backbone", "backbone.stem.0").
    val_every: steps from one validation to the next; there is one at the end in any case.

    Raises TypeError or ValueError that names the field, its value and what is allowed.
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
    schedule: str = "cosine"
    milestones: tuple[int, ...] = ()
    gamma: float = 0.1
    flip: float = 0.0
    scale_jitter: tuple[float, float] = (1.0, 1.0)
    group_by_aspect: bool = True
    freeze: tuple[str, ...] = ()
    val_every: int = 0

    def __post_init__(self) -> None:
        normalise_fields(self, RULES)
        if self.milestones and self.schedule != "steps":
            raise wrong_value("milestones", self.milestones, f"empty where schedule is {self.schedule!r}")

    def replace(self, steps: int | None = None, seed: int | None = None) -> Recipe:
        """The same recipe with another number of steps or another seed; None leaves it as it is."""
        return dataclasses.replace(
            self, steps=self.steps if steps is None else steps, seed=self.seed if seed is None else seed
        )

    def make_optimizer(self, model: Module) -> optim.Optimizer:
        """The optimiser of the model's parameters."""
        if self.optimizer == "adam":
            return optim.Adam(model.parameters(), self.lr, weight_decay=self.weight_decay)
        return optim.SGD(model.parameters(), self.lr, self.momentum, self.weight_decay)

    def lr_at(self, step: int) -> float:
        """The learning rate of a step."""
        if self.schedule == "cosine":
            fall = optim.cosine(self.steps, self.final_lr)
        else:
            fall = optim.multi_step(self.milestones, self.gamma)
        return self.lr * optim.product(optim.linear_warmup(self.warmup_steps), fall)(step)


RULES: dict[str, Rule] = {
    "steps": integer(1),
    "batch_size": integer(1),
    "optimizer": one_of(OPTIMIZERS),
    "lr": POSITIVE,
    "momentum": Rule("a number of at least 0 and below 1", as_float, lambda x: 0 <= x < 1),
    "weight_decay": Rule("a number of at least 0", as_float, lambda x: x >= 0),
    "warmup_steps": integer(0),
    "final_lr": FRACTION,
    "max_norm": POSITIVE,
    "seed": integer(0),
    "schedule": one_of(SCHEDULES),
    "milestones": Rule(
        "a rising sequence of steps, integers of at least 1",
        tuple_of(as_integer),
        lambda steps: list(steps) == sorted(set(steps)) and min(steps, default=1) >= 1,
    ),
    "gamma": Rule("a number above 0 and at most 1", as_float, lambda x: 0 < x <= 1),
    "flip": FRACTION,
    "scale_jitter": Rule(
        "two numbers above 0, the lowest factor and the highest",
        tuple_of(as_float),
        lambda factors: len(factors) == 2 and 0 < factors[0] <= factors[1],
    ),
    "group_by_aspect": FLAG,
    "freeze": Rule("a sequence of parameter names or of beginnings of them", tuple_of(as_string), all),
    "val_every": integer(0),
}

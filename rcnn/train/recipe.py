"""`Recipe`: how to train. With the model and the data it decides the result, to the last bit."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from rcnn.nn import Module, optim

OPTIMIZERS = ("adam", "sgd")
SCHEDULES = ("cosine", "steps")


@dataclass(frozen=True)
class Recipe:
    """How to train: everything that, with the model and the data, decides the result.

    steps: how many batches of `batch_size` pictures.
    optimizer: "adam" or "sgd" (with `momentum`); weight_decay as in PyTorch's optimisers of these names.
    lr: the learning rate. It rises over the first `warmup_steps`; `schedule` says how it falls: "cosine", along half a
        cosine to `final_lr` times itself at the end; "steps", by the factor `gamma` at each step of `milestones`.
    max_norm: gradients are scaled down to this joint norm.
    seed: of everything random but the first weights, which the model brings along.
    flip: probability that a picture is mirrored, left for right, with its boxes.
    scale_jitter: (lowest, highest) factor of the size to which a picture is resized, drawn evenly on a logarithmic
        scale for each; (1, 1) leaves it as the config says.
    group_by_aspect: whether a batch holds only upright or only other pictures, where the data set tells their sizes
        without decoding them; less of a batch is then padding.
    freeze: what does not learn: names of parameters, or what these begin with ("backbone", "backbone.stem.0").
    val_every: steps from one validation to the next; there is one at the end in any case.

    Raises ValueError that names the field, its value and what is allowed.
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
        for name, least in (("steps", 1), ("batch_size", 1), ("warmup_steps", 0), ("seed", 0), ("val_every", 0)):
            self._fix_integer(name, least)
        for name, allowed in (("optimizer", OPTIMIZERS), ("schedule", SCHEDULES)):
            if getattr(self, name) not in allowed:
                raise _wrong(name, getattr(self, name), " or ".join(map(repr, allowed)))
        for name in ("lr", "max_norm"):
            self._fix_number(name, "a number above 0", lambda x: x > 0)
        self._fix_number("weight_decay", "a number of at least 0", lambda x: x >= 0)
        self._fix_number("momentum", "a number of at least 0 and below 1", lambda x: 0 <= x < 1)
        self._fix_number("gamma", "a number above 0 and at most 1", lambda x: 0 < x <= 1)
        for name in ("final_lr", "flip"):
            self._fix_number(name, "a number in [0, 1]", lambda x: 0 <= x <= 1)
        if not isinstance(self.group_by_aspect, bool):
            raise _wrong("group_by_aspect", self.group_by_aspect, "True or False")
        self._fix_milestones()
        self._fix_scale_jitter()
        self._fix_freeze()

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

    # ------------------------------------------------------------------ checks

    def _fix(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)  # the one way to normalise a field of a frozen dataclass

    def _fix_integer(self, name: str, least: int) -> None:
        value = getattr(self, name)
        if not _is_integer(value) or value < least:
            raise _wrong(name, value, f"an integer of at least {least}")
        self._fix(name, int(value))

    def _fix_number(self, name: str, allowed: str, is_allowed: Callable[[float], bool]) -> None:
        value = getattr(self, name)
        if not _is_number(value) or not is_allowed(value):
            raise _wrong(name, value, allowed)
        self._fix(name, float(value))

    def _fix_milestones(self) -> None:
        values = _as_tuple(self.milestones)
        if values is None or not all(_is_integer(v) and v >= 1 for v in values) or sorted(set(values)) != list(values):
            raise _wrong("milestones", self.milestones, "a rising sequence of steps, integers of at least 1")
        if values and self.schedule != "steps":
            raise _wrong("milestones", self.milestones, f"empty where schedule is {self.schedule!r}")
        self._fix("milestones", tuple(map(int, values)))

    def _fix_scale_jitter(self) -> None:
        values = _as_tuple(self.scale_jitter)
        if values is None or len(values) != 2 or not all(map(_is_number, values)) or not 0 < values[0] <= values[1]:
            raise _wrong("scale_jitter", self.scale_jitter, "two numbers above 0, the lowest factor and the highest")
        self._fix("scale_jitter", (float(values[0]), float(values[1])))

    def _fix_freeze(self) -> None:
        values = _as_tuple(self.freeze)
        if values is None or not all(isinstance(v, str) and v for v in values):
            raise _wrong("freeze", self.freeze, "a sequence of names of parameters, or of what these begin with")
        self._fix("freeze", values)


def _is_integer(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _as_tuple(value: Any) -> tuple[Any, ...] | None:
    """The items of a sequence; None for what is none, as a lone string is."""
    return tuple(value) if isinstance(value, (list, tuple)) else None


def _wrong(name: str, value: Any, allowed: str) -> ValueError:
    return ValueError(f"{name} must be {allowed}, not {value!r}")


RECIPES = {"shapes": Recipe(steps=1300), "digits": Recipe(steps=2500)}

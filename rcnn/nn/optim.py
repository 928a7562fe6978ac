"""Optimisers, learning-rate schedules and gradient clipping.

A schedule is a function that returns a factor of the learning rate for each step (0, 1, 2, ...). `product` combines
several schedules. To continue a schedule, a resumed run needs only the number of the step.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np

from rcnn._ext.dispatch import compiled
from rcnn._validate import (
    BELOW_ONE,
    MOST_SEQUENCE,
    Rule,
    as_array,
    as_float,
    check_sequence,
    integer,
    listed,
    number,
    shown,
)
from rcnn.nn.tensor import Parameter

Schedule = Callable[[int], float]


RATE = Rule("a number of at least 0", as_float, lambda x: x >= 0)
NORM = Rule("a number of at least 0", lambda value: value if value == math.inf else as_float(value), lambda x: x >= 0)
MOST_STEPS = 2**31 - 1


def _check_parameters(parameters: Iterable[Any]) -> list[Parameter]:
    """Return the parameters as a list. Raise TypeError if one of them is not a Parameter."""
    try:
        found = list(islice(parameters, MOST_SEQUENCE))
    except TypeError:
        raise TypeError(f"parameters must be an iterable of Parameters, got {shown(parameters)}") from None
    for index, parameter in enumerate(found):
        if not isinstance(parameter, Parameter):
            raise TypeError(f"parameters[{index}] must be a Parameter, got {type(parameter).__name__}")
    return found


# ---------------------------------------------------------------- optimisers


class Optimizer(abc.ABC):
    """An algorithm that uses the gradients of parameters to reduce the loss.

    A subclass defines `_update`. If it keeps arrays for each parameter (the state), it lists their names in
    `state_names`.

    Parameters
    ----------
    parameters : iterable of Parameter
        The parameters. Parameters that require no gradient are skipped.
    lr : float
        The learning rate, at least 0.
    weight_decay : float
        The factor of the L2 penalty, at least 0: weight_decay * w is added to the gradient of each parameter w.

    Raises
    ------
    TypeError, ValueError
        If no parameter requires a gradient, or if a number is out of range.
    """

    state_names: tuple[str, ...] = ()

    def __init__(self, parameters: Iterable[Parameter], lr: float, weight_decay: float = 0.0) -> None:
        self.parameters = [p for p in _check_parameters(parameters) if p.requires_grad]
        if not self.parameters:
            raise ValueError("no parameter requires a gradient; pass parameters that are not frozen")
        self.lr, self.weight_decay = RATE.check("lr", lr), RATE.check("weight_decay", weight_decay)
        self.steps = 0
        self._state = {name: [np.zeros_like(p.data) for p in self.parameters] for name in self.state_names}

    def step(self) -> None:
        """Update every parameter that has a gradient."""
        self.steps += 1
        for index, parameter in enumerate(self.parameters):
            if parameter.grad is None:
                continue
            self._update(parameter.data, parameter.grad, *(self._state[name][index] for name in self.state_names))

    def zero_grad(self) -> None:
        """Set every gradient to None."""
        for parameter in self.parameters:
            parameter.grad = None

    def state_dict(self) -> dict[str, np.ndarray]:
        """Return the state that a resumed run needs.

        Returns
        -------
        dict of str to array
            "steps" is the number of steps so far. For each parameter, there is one array per name in `state_names`.
        """
        state: dict[str, np.ndarray] = {"steps": np.array(self.steps, np.int64)}
        for name in self.state_names:
            state.update({f"{name}.{index}": array for index, array in enumerate(self._state[name])})
        return state

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Restore a state that `state_dict` returned.

        Parameters
        ----------
        state : mapping of str to array
            The state.

        Raises
        ------
        TypeError, ValueError
            If the state belongs to other parameters or to another kind of optimiser.
        """
        if not isinstance(state, Mapping):
            raise TypeError(f"state must be a mapping, got {shown(state)}")
        own = self.state_dict()
        wrong = sorted(str(name) for name in own.keys() ^ state.keys()) + [
            name for name in own if name in state and own[name].shape != as_array(state[name], name).shape
        ]
        if wrong:
            raise ValueError(f"these entries of the state do not fit this {type(self).__name__}: {listed(wrong)}")
        arrays = {name: as_array(state[name], f"state[{name!r}]") for name in own}
        for name, array in arrays.items():
            if array.dtype.kind not in "fiu":
                raise TypeError(f"state[{name!r}] must contain numbers, got dtype {array.dtype}")
        self.steps = integer(0, 2**62).check("state['steps']", arrays.pop("steps"))
        with np.errstate(over="ignore"):
            for name, array in arrays.items():
                own[name][...] = array

    @abc.abstractmethod
    def _update(self, values: np.ndarray, grad: np.ndarray, *state: np.ndarray) -> None:
        """Update `values` and `state` of a parameter in place. The state has one array per name in `state_names`."""


class SGD(Optimizer):
    """Stochastic gradient descent with momentum and weight decay, as in PyTorch.

    For each parameter w with velocity v, each step computes v <- momentum * v + gradient, and then w <- w - lr * v.

    Parameters
    ----------
    parameters : iterable of Parameter
        The parameters. Parameters that require no gradient are skipped.
    lr : float
        The learning rate, at least 0.
    momentum : float
        The fraction of the velocity that is kept in each step, in [0, 1).
    weight_decay : float
        The factor of the L2 penalty, at least 0.

    Raises
    ------
    TypeError, ValueError
        If no parameter requires a gradient, or if a number is out of range.
    """

    state_names = ("momentum",)

    def __init__(
        self, parameters: Iterable[Parameter], lr: float, momentum: float = 0.0, weight_decay: float = 0.0
    ) -> None:
        super().__init__(parameters, lr, weight_decay)
        self.momentum = BELOW_ONE.check("momentum", momentum)

    def _update(self, values: np.ndarray, grad: np.ndarray, *state: np.ndarray) -> None:
        (velocity,) = state
        _sgd(values, grad, velocity, self.lr, self.momentum, self.weight_decay)


@compiled("optim.sgd")
def _sgd(
    values: np.ndarray, grad: np.ndarray, velocity: np.ndarray, lr: float, momentum: float, weight_decay: float
) -> None:
    """Make one step of SGD: update `values` and `velocity` (same shape) in place."""
    if weight_decay:
        grad = grad + weight_decay * values
    velocity *= momentum
    velocity += grad
    values -= lr * velocity


class Adam(Optimizer):
    """The Adam optimiser.

    Parameters
    ----------
    parameters : iterable of Parameter
        The parameters. Parameters that require no gradient are skipped.
    lr : float
        The learning rate, at least 0.
    betas : (float, float)
        The decay rates of the running mean of the gradient and of the running mean of the squared gradient, in [0, 1).
    eps : float
        A small number that is added to the root of the mean square, at least 0.
    weight_decay : float
        The factor of the L2 penalty, at least 0.

    Raises
    ------
    TypeError, ValueError
        If no parameter requires a gradient, or if a number is out of range.

    References
    ----------
    Kingma and Ba, "Adam: a method for stochastic optimization", 2015, algorithm 1.
    """

    state_names = ("mean", "square")

    def __init__(
        self,
        parameters: Iterable[Parameter],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(parameters, lr, weight_decay)
        check_sequence(betas, "betas", 2)
        self.betas = (BELOW_ONE.check("betas[0]", betas[0]), BELOW_ONE.check("betas[1]", betas[1]))
        self.eps = RATE.check("eps", eps)

    def _update(self, values: np.ndarray, grad: np.ndarray, *state: np.ndarray) -> None:
        mean, square = state
        _adam(values, grad, mean, square, self.steps, self.lr, self.betas, self.eps, self.weight_decay)


@compiled("optim.adam")
def _adam(
    values: np.ndarray,
    grad: np.ndarray,
    mean: np.ndarray,
    square: np.ndarray,
    step: int,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
) -> None:
    """Make one step of Adam: update `values`, `mean` and `square` (same shape) in place. The first `step` is 1."""
    beta1, beta2 = betas
    if weight_decay:
        grad = grad + weight_decay * values
    mean *= beta1
    mean += (1 - beta1) * grad
    square *= beta2
    square += (1 - beta2) * grad * grad
    # Both running means start at 0, so they are biased towards 0. The divisions by 1 - beta^step correct this bias.
    deviation = np.sqrt(square / (1 - beta2**step))
    values -= (lr / (1 - beta1**step)) * mean / (deviation + eps)


# ---------------------------------------------------------------- gradient clipping


def clip_grad_norm(parameters: Iterable[Parameter], max_norm: float) -> float:
    """Scale all gradients by the same factor, so that the L2 norm of all gradients together is at most `max_norm`.

    Parameters
    ----------
    parameters : iterable of Parameter
        The parameters. Parameters without a gradient are skipped.
    max_norm : float
        The maximum norm, at least 0; it may be infinite. If the norm is smaller, the gradients are not changed.

    Returns
    -------
    float
        The L2 norm of all gradients together, before scaling. If it is not finite, the gradients are not changed.

    Raises
    ------
    TypeError, ValueError
        If `parameters` contains something other than parameters, or if `max_norm` is out of range.

    References
    ----------
    Pascanu, Mikolov and Bengio, "On the difficulty of training recurrent neural networks", 2013, algorithm 1.
    """
    max_norm = NORM.check("max_norm", max_norm)
    grads: list[Any] = [p.grad for p in _check_parameters(parameters) if p.grad is not None]
    norm = math.sqrt(sum(map(_square_sum, grads)))
    if max_norm < norm < math.inf:
        for grad in grads:
            _scale(grad, max_norm / norm)
    return norm


@compiled("optim.square_sum")
def _square_sum(grad: np.ndarray) -> float:
    """Return the sum of the squares of all elements, computed in float64."""
    return float(np.square(grad, dtype=np.float64).sum())


@compiled("optim.scale")
def _scale(grad: np.ndarray, factor: float) -> None:
    """Multiply the gradient by a factor, in place."""
    grad *= factor


@compiled("optim.average")
def update_average(mean: np.ndarray, values: np.ndarray, weight: float) -> None:
    """Move the average of an array towards its current values, in place.

    Parameters
    ----------
    mean : float array
        The average. It becomes mean + weight * (values - mean).
    values : float array
        The current values, with the same shape.
    weight : float
        The weight of the current values.
    """
    mean += (weight * (values - mean)).astype(mean.dtype)


# ---------------------------------------------------------------- schedules


def linear_warmup(steps: int, start: float = 1e-3) -> Schedule:
    """Return a schedule that rises linearly from `start` to 1 and then stays at 1.

    Parameters
    ----------
    steps : int
        The number of steps until the factor is 1, in 0 .. 2^31 - 1.
    start : float
        The factor at step 0, at least 0.

    Returns
    -------
    callable
        The schedule.

    Raises
    ------
    TypeError, ValueError
        If a number is out of range.
    """
    steps, start = integer(0, MOST_STEPS).check("steps", steps), RATE.check("start", start)
    return lambda step: 1.0 if step >= steps else start + (1 - start) * step / steps


def multi_step(milestones: Sequence[int], gamma: float = 0.1) -> Schedule:
    """Return a schedule that starts at 1 and is multiplied by `gamma` at each milestone.

    Parameters
    ----------
    milestones : sequence of int
        The steps at which the factor changes, in 0 .. 2^31 - 1.
    gamma : float
        The number by which the factor is multiplied, in [0, 1].

    Returns
    -------
    callable
        The schedule.

    Raises
    ------
    TypeError, ValueError
        If a number is out of range.

    Examples
    --------
    >>> schedule = multi_step([60, 80])
    >>> [round(schedule(step), 4) for step in (0, 60, 80)]
    [1.0, 0.1, 0.01]
    """
    check_sequence(milestones, "milestones")
    milestones = [integer(0, MOST_STEPS).check(f"milestones[{i}]", step) for i, step in enumerate(milestones)]
    gamma = number(0, 1).check("gamma", gamma)
    return lambda step: float(gamma ** sum(step >= milestone for milestone in milestones))


def cosine(steps: int, end: float = 0.0) -> Schedule:
    """Return a schedule that falls from 1 to `end` along half a period of a cosine and then stays at `end`.

    Parameters
    ----------
    steps : int
        The number of steps until the factor is `end`, in 1 .. 2^31 - 1.
    end : float
        The last factor, at least 0.

    Returns
    -------
    callable
        The schedule.

    Raises
    ------
    TypeError, ValueError
        If a number is out of range.

    References
    ----------
    Loshchilov and Hutter, "SGDR: stochastic gradient descent with warm restarts", 2017.
    """
    steps, end = integer(1, MOST_STEPS).check("steps", steps), RATE.check("end", end)
    return lambda step: end + (1 - end) * 0.5 * (1 + math.cos(math.pi * min(step / steps, 1)))


def product(*schedules: Schedule) -> Schedule:
    """Return a schedule whose factor is the product of the factors of several schedules.

    Parameters
    ----------
    *schedules : callable
        The schedules to combine.

    Returns
    -------
    callable
        The schedule.

    Raises
    ------
    TypeError
        If a schedule is not callable.
    """
    for index, schedule in enumerate(schedules):
        if not callable(schedule):
            raise TypeError(f"schedules[{index}] must be callable, got {shown(schedule)}")
    return lambda step: math.prod(schedule(step) for schedule in schedules)

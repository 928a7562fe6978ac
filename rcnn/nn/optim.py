"""Optimisers, learning-rate schedules and gradient clipping.

A schedule is a function from the step (0, 1, 2, ...) to a factor of the learning rate. Factors multiply. A resumed run
needs only the step to continue its schedule.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from rcnn._ext.dispatch import compiled
from rcnn.nn.tensor import Parameter

Schedule = Callable[[int], float]


# ---------------------------------------------------------------- optimisers


class Optimizer(abc.ABC):
    """An algorithm that moves parameters against their gradients.

    A subclass defines `_update` and lists in `state_names` the state that it keeps for each parameter.

    Parameters
    ----------
    parameters : iterable of Parameter
        Those that require no gradient are skipped.
    lr : float
        The learning rate, at least 0.
    weight_decay : float
        The factor of the L2 penalty, at least 0: the gradient of a parameter w counts as gradient + weight_decay * w.

    Raises
    ------
    ValueError
        If no parameter requires a gradient, or `lr` or `weight_decay` is negative.
    """

    state_names: tuple[str, ...] = ()

    def __init__(self, parameters: Iterable[Parameter], lr: float, weight_decay: float = 0.0) -> None:
        self.parameters = [p for p in parameters if p.requires_grad]
        if not self.parameters:
            raise ValueError("no parameter requires a gradient; pass parameters that are not frozen")
        if lr < 0 or weight_decay < 0:
            raise ValueError(f"lr and weight_decay must be at least 0, got {lr} and {weight_decay}")
        self.lr, self.weight_decay, self.steps = lr, weight_decay, 0
        self._state = {name: [np.zeros_like(p.data) for p in self.parameters] for name in self.state_names}

    def step(self) -> None:
        """Move every parameter that has a gradient."""
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
            "steps", the number of steps taken, and one array per parameter and name of state.
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
        ValueError
            If it belongs to other parameters or to another kind of optimiser.
        """
        own = self.state_dict()
        wrong = sorted(own.keys() ^ state.keys()) + [
            name for name in own.keys() & state.keys() if own[name].shape != np.shape(state[name])
        ]
        if wrong:
            raise ValueError(f"the state does not fit this {type(self).__name__}: {', '.join(wrong[:8])}")
        self.steps = int(state["steps"])
        for name, array in own.items():
            if name != "steps":
                array[...] = state[name]

    @abc.abstractmethod
    def _update(self, values: np.ndarray, grad: np.ndarray, *state: np.ndarray) -> None:
        """Change a parameter's `values` and its `state`, in the order of `state_names`, in place."""


class SGD(Optimizer):
    """Stochastic gradient descent with momentum and weight decay, as in PyTorch.

    The step is v <- momentum * v + gradient, then w <- w - lr * v.

    Parameters
    ----------
    parameters : iterable of Parameter
        Those that require no gradient are skipped.
    lr : float
        The learning rate, at least 0.
    momentum : float
        The share of the velocity v that is kept.
    weight_decay : float
        The factor of the L2 penalty, at least 0.
    """

    state_names = ("momentum",)

    def __init__(
        self, parameters: Iterable[Parameter], lr: float, momentum: float = 0.0, weight_decay: float = 0.0
    ) -> None:
        super().__init__(parameters, lr, weight_decay)
        self.momentum = momentum

    def _update(self, values: np.ndarray, grad: np.ndarray, *state: np.ndarray) -> None:
        (velocity,) = state
        _sgd(values, grad, velocity, self.lr, self.momentum, self.weight_decay)


@compiled("optim.sgd")
def _sgd(
    values: np.ndarray, grad: np.ndarray, velocity: np.ndarray, lr: float, momentum: float, weight_decay: float
) -> None:
    """Change `values` and `velocity`, of one shape, by one step of SGD, in place."""
    if weight_decay:
        grad = grad + weight_decay * values
    velocity *= momentum
    velocity += grad
    values -= lr * velocity


class Adam(Optimizer):
    """The optimiser Adam.

    Parameters
    ----------
    parameters : iterable of Parameter
        Those that require no gradient are skipped.
    lr : float
        The learning rate, at least 0.
    betas : (float, float)
        The decay of the running mean of the gradient and of that of its square.
    eps : float
        Added to the root of the mean square.
    weight_decay : float
        The factor of the L2 penalty, at least 0.

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
        self.betas, self.eps = betas, eps

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
    """Change `values`, `mean` and `square`, of one shape, by step number `step` of Adam, counted from 1, in place."""
    beta1, beta2 = betas
    if weight_decay:
        grad = grad + weight_decay * values
    mean *= beta1
    mean += (1 - beta1) * grad
    square *= beta2
    square += (1 - beta2) * grad * grad
    # Both averages start at 0, which biases them towards it; the divisions by 1 - beta^step correct that.
    deviation = np.sqrt(square / (1 - beta2**step))
    values -= (lr / (1 - beta1**step)) * mean / (deviation + eps)


# ---------------------------------------------------------------- gradient clipping


def clip_grad_norm(parameters: Iterable[Parameter], max_norm: float) -> float:
    """Scale all gradients by one factor so that their joint norm is at most `max_norm`.

    Parameters
    ----------
    parameters : iterable of Parameter
        Those without a gradient are skipped.
    max_norm : float
        The largest norm; smaller gradients are not changed.

    Returns
    -------
    float
        The joint L2 norm before scaling.

    References
    ----------
    Pascanu, Mikolov and Bengio, "On the difficulty of training recurrent neural networks", 2013, algorithm 1.
    """
    grads: list[Any] = [p.grad for p in parameters if p.grad is not None]
    norm = math.sqrt(sum(map(_square_sum, grads)))
    if norm > max_norm:
        for grad in grads:
            _scale(grad, max_norm / norm)
    return norm


@compiled("optim.square_sum")
def _square_sum(grad: np.ndarray) -> float:
    """Return the sum of squares, added in float64."""
    return float(np.square(grad, dtype=np.float64).sum())


@compiled("optim.scale")
def _scale(grad: np.ndarray, factor: float) -> None:
    """Multiply the gradient by a factor, in place."""
    grad *= factor


# ---------------------------------------------------------------- schedules


def linear_warmup(steps: int, start: float = 1e-3) -> Schedule:
    """Return a schedule that rises linearly from `start` to 1, and stays there.

    Parameters
    ----------
    steps : int
        The length of the rise.
    start : float
        The factor at step 0.

    Returns
    -------
    callable
        The schedule.
    """
    return lambda step: 1.0 if step >= steps else start + (1 - start) * step / steps


def multi_step(milestones: Sequence[int], gamma: float = 0.1) -> Schedule:
    """Return a schedule that is multiplied by `gamma` at each milestone.

    Parameters
    ----------
    milestones : sequence of int
        Steps.
    gamma : float
        The factor.

    Returns
    -------
    callable
        The schedule.

    Examples
    --------
    >>> schedule = multi_step([60, 80])
    >>> [round(schedule(step), 4) for step in (0, 60, 80)]
    [1.0, 0.1, 0.01]
    """
    return lambda step: float(gamma ** sum(step >= milestone for milestone in milestones))


def cosine(steps: int, end: float = 0.0) -> Schedule:
    """Return a schedule that falls from 1 to `end` along half a cosine, and stays there.

    Parameters
    ----------
    steps : int
        The length of the fall.
    end : float
        The last factor.

    Returns
    -------
    callable
        The schedule.

    References
    ----------
    Loshchilov and Hutter, "SGDR: stochastic gradient descent with warm restarts", 2017.
    """
    return lambda step: end + (1 - end) * 0.5 * (1 + math.cos(math.pi * min(step / steps, 1)))


def product(*schedules: Schedule) -> Schedule:
    """Return the schedule whose factor is the product of several.

    Parameters
    ----------
    *schedules : callable
        The schedules.

    Returns
    -------
    callable
        The schedule.
    """
    return lambda step: math.prod(schedule(step) for schedule in schedules)

"""Optimisers, learning-rate schedules and gradient clipping.

A schedule is a function from the step (0, 1, 2, ...) to a factor of the learning rate. Factors multiply, and a run that
is resumed at a step needs nothing else to go on.

A step has little to compute and much to read and write: parameters, gradients, averages. For float32 the kernels do it
in one pass and without arrays in between; the references, in NumPy, say what they do.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from rcnn._ext import backend
from rcnn.nn import elementwise
from rcnn.nn.tensor import Parameter

Schedule = Callable[[int], float]


class Optimizer(abc.ABC):
    """Moves parameters against their gradients. Subclasses define `_move` and the names of the state they keep."""

    state_names: tuple[str, ...] = ()

    def __init__(self, parameters: Iterable[Parameter], lr: float, weight_decay: float = 0.0) -> None:
        self.parameters = [p for p in parameters if p.requires_grad]
        if not self.parameters:
            raise ValueError("there is nothing to optimise: no parameter requires a gradient")
        if lr < 0 or weight_decay < 0:
            raise ValueError(f"lr and weight_decay must not be negative: {lr}, {weight_decay}")
        self.lr, self.weight_decay, self.steps = lr, weight_decay, 0
        self._state = {name: [np.zeros_like(p.data) for p in self.parameters] for name in self.state_names}

    def step(self) -> None:
        """Moves every parameter that has a gradient."""
        self.steps += 1
        for index, parameter in enumerate(self.parameters):
            if parameter.grad is None:
                continue
            self._update(parameter.data, parameter.grad, *(self._state[name][index] for name in self.state_names))

    def zero_grad(self) -> None:
        """Forgets every gradient."""
        for parameter in self.parameters:
            parameter.grad = None

    def state_dict(self) -> dict[str, np.ndarray]:
        """What a resumed run needs: the step count and one array per parameter and kind of state."""
        state: dict[str, np.ndarray] = {"steps": np.array(self.steps, np.int64)}
        for name in self.state_names:
            state.update({f"{name}.{index}": array for index, array in enumerate(self._state[name])})
        return state

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Restores what `state_dict` gave; ValueError when it belongs to other parameters or another optimiser."""
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

    def _update(self, values: np.ndarray, grad: np.ndarray, *state: np.ndarray) -> None:
        """Moves a parameter's `values`, in place."""
        if self.weight_decay:
            grad = grad + self.weight_decay * values
        values -= self._move(grad, *state)

    @abc.abstractmethod
    def _move(self, grad: np.ndarray, *state: np.ndarray) -> np.ndarray:
        """How far to move against `grad`; changes `state` in place."""


class SGD(Optimizer):
    """Stochastic gradient descent with momentum and weight decay, as PyTorch computes it."""

    state_names = ("momentum",)

    def __init__(
        self, parameters: Iterable[Parameter], lr: float, momentum: float = 0.0, weight_decay: float = 0.0
    ) -> None:
        super().__init__(parameters, lr, weight_decay)
        self.momentum = momentum

    def _move(self, grad: np.ndarray, *state: np.ndarray) -> np.ndarray:
        (velocity,) = state
        velocity *= self.momentum
        velocity += grad
        return self.lr * velocity

    def _update(self, values: np.ndarray, grad: np.ndarray, *state: np.ndarray) -> None:
        if _is_fast(values, grad, *state):
            (velocity,) = state
            backend.optim_kernels.sgd(
                values.reshape(-1),
                grad.reshape(-1),
                velocity.reshape(-1),
                self.lr,
                self.momentum,
                self.weight_decay,
                backend.threads_for(values.size),
            )
        else:
            super()._update(values, grad, *state)


class Adam(Optimizer):
    """Adam. Kingma and Ba, "Adam: a method for stochastic optimization", 2015, algorithm 1."""

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

    def _move(self, grad: np.ndarray, *state: np.ndarray) -> np.ndarray:
        mean, square = state
        beta1, beta2 = self.betas
        mean *= beta1
        mean += (1 - beta1) * grad
        square *= beta2
        square += (1 - beta2) * grad * grad
        size = np.sqrt(square / (1 - beta2**self.steps))  # both averages start at 0: divided by what they lack
        size += self.eps
        return (self.lr / (1 - beta1**self.steps)) * mean / size

    def _update(self, values: np.ndarray, grad: np.ndarray, *state: np.ndarray) -> None:
        if _is_fast(values, grad, *state):
            (mean, square), (beta1, beta2) = state, self.betas
            backend.optim_kernels.adam(
                values.reshape(-1),
                grad.reshape(-1),
                mean.reshape(-1),
                square.reshape(-1),
                self.lr / (1 - beta1**self.steps),
                beta1,
                beta2,
                1 - beta2**self.steps,
                self.eps,
                self.weight_decay,
                backend.threads_for(values.size),
            )
        else:
            super()._update(values, grad, *state)


def clip_grad_norm(parameters: Iterable[Parameter], max_norm: float) -> float:
    """Scales all gradients by one factor so that their joint norm is at most `max_norm`; gives the norm before.

    Pascanu, Mikolov and Bengio, "On the difficulty of training recurrent neural networks", 2013, algorithm 1.
    """
    grads: list[Any] = [p.grad for p in parameters if p.grad is not None]
    norm = math.sqrt(sum(map(_square_sum, grads)))
    if norm > max_norm:
        for grad in grads:
            _scale(grad, max_norm / norm)
    return norm


def _square_sum(grad: np.ndarray) -> float:
    """The sum of the squares, added in float64, the same to the bit for any number of threads."""
    if not _is_fast(grad):
        return float(np.square(grad, dtype=np.float64).sum())
    sums = np.empty(-(-grad.size // backend.optim_kernels.block_size))
    backend.optim_kernels.square_sums(grad.reshape(-1), sums, backend.threads_for(grad.size))
    return float(sums.sum())


def _scale(grad: np.ndarray, factor: float) -> None:
    """Multiplies the gradient, in place."""
    if _is_fast(grad):
        backend.optim_kernels.scale(grad.reshape(-1), factor, backend.threads_for(grad.size))
    else:
        grad *= factor


def _is_fast(*arrays: np.ndarray) -> bool:
    """Whether the kernels take these arrays: float32, contiguous and of one shape, and so changed in place."""
    shape = arrays[0].shape
    return elementwise.is_fast(*arrays) and all(array.flags.c_contiguous and array.shape == shape for array in arrays)


def linear_warmup(steps: int, start: float = 1e-3) -> Schedule:
    """Rises in a line from `start` to 1 over the first `steps` steps."""
    return lambda step: 1.0 if step >= steps else start + (1 - start) * step / steps


def multi_step(milestones: Sequence[int], gamma: float = 0.1) -> Schedule:
    """Falls by the factor `gamma` at each milestone."""
    return lambda step: float(gamma ** sum(step >= milestone for milestone in milestones))


def cosine(steps: int, end: float = 0.0) -> Schedule:
    """Falls from 1 to `end` along half a cosine over `steps` steps. Loshchilov and Hutter, "SGDR", 2017."""
    return lambda step: end + (1 - end) * 0.5 * (1 + math.cos(math.pi * min(step / steps, 1)))


def product(*schedules: Schedule) -> Schedule:
    """All the factors multiplied."""
    return lambda step: math.prod(schedule(step) for schedule in schedules)

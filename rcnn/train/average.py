"""`WeightAverage`: an exponential moving average of the weights of a model during training."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from rcnn.model import FasterRCNN
from rcnn.nn import optim


class WeightAverage:
    """An exponential moving average of the weights and the running statistics of a model.

    After each step, average = d * average + (1 - d) * weights. At the start of training, d is smaller than `decay`, so
    that the average soon forgets the random initial weights: after step t (starting from 0), d is at most
    (1 + t) / (10 + t).

    Parameters
    ----------
    model : FasterRCNN
        The model. The average starts with its weights.
    decay : float
        Largest value of d, below 1. The average then covers about the last 1 / (1 - decay) steps.

    References
    ----------
    Polyak and Juditsky, "Acceleration of Stochastic Approximation by Averaging", 1992. The schedule of d is that of
    TensorFlow's ExponentialMovingAverage.
    """

    def __init__(self, model: FasterRCNN, decay: float) -> None:
        self.decay = decay
        self.reset(model)

    def reset(self, model: FasterRCNN) -> None:
        """Set the average to the weights of the model.

        Parameters
        ----------
        model : FasterRCNN
            The model.
        """
        self.state = {name: array.copy() for name, array in model.state_dict().items()}

    def update(self, model: FasterRCNN, step: int) -> None:
        """Include the current weights of the model in the average.

        Parameters
        ----------
        model : FasterRCNN
            The model, after a training step.
        step : int
            Number of this step, starting from 0.
        """
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, array in model.state_dict().items():
            optim.update_average(self.state[name], array, 1 - decay)

    @contextlib.contextmanager
    def applied(self, model: FasterRCNN) -> Iterator[None]:
        """Within the `with` block, the model has the averaged weights.

        Parameters
        ----------
        model : FasterRCNN
            The model.
        """
        own = {name: array.copy() for name, array in model.state_dict().items()}
        model.load_state_dict(self.state)
        try:
            yield
        finally:
            model.load_state_dict(own)


def averaged(average: WeightAverage | None, model: FasterRCNN) -> contextlib.AbstractContextManager[None]:
    """Return a context in which the model has the averaged weights, if there is an average.

    Parameters
    ----------
    average : WeightAverage or None
        The average of the model's weights.
    model : FasterRCNN
        The model.

    Returns
    -------
    context manager
        The context.
    """
    return contextlib.nullcontext() if average is None else average.applied(model)

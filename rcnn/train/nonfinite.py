"""A search for the first stage of a training step whose values are not all finite."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from rcnn import transform
from rcnn.model import FasterRCNN
from rcnn.nn import Module, Tensor, optim
from rcnn.nn.module import Hook

Rng = np.random.Generator | Sequence[np.random.Generator]

_searching: contextvars.ContextVar[bool] = contextvars.ContextVar("searching", default=False)


class NotFinite(Exception):
    """Raised to stop the search at the first stage with a non-finite value; its argument is the name of this stage."""


def first_non_finite(
    model: FasterRCNN, batch: transform.Batch, targets: Sequence[Mapping[str, Any]], rng: Rng
) -> str | None:
    """Return the first stage of a training step whose values are not all finite.

    The step computes `model.get_loss(batch, targets, rng)` and its gradients. The stages are checked in the order
    in which they are computed: the batch, the backbone, the RPN head, the proposals, the pooled features, the head and
    the losses. For the backbone, the result also names its first module with a non-finite output. (A feature pyramid
    is part of the backbone.) The last stages are the gradients, from the last parameter to the first, and the
    norm of all gradients together.

    The search does not change the gradients of the parameters. The running statistics of batch norms change as in
    `get_loss`.

    Parameters
    ----------
    model : FasterRCNN
        The model.
    batch : rcnn.transform.Batch
        The images of the step.
    targets : sequence of mapping
        For each image with G objects, {"boxes": (G, 4), "labels": (G,)}.
    rng : numpy.random.Generator or sequence of generators
        Random generator of the step, or one generator for each image.

    Returns
    -------
    str or None
        The name of the stage; None if all values are finite.
    """
    before = [(parameter, parameter.grad) for parameter in model.parameters()]
    model.zero_grad()
    try:
        with np.errstate(all="ignore"):
            _search(model, batch, targets, rng)
    except NotFinite as found:
        return str(found)
    finally:
        for parameter, grad in before:
            parameter.grad = grad
    return None


def _search(model: FasterRCNN, batch: transform.Batch, targets: Sequence[Mapping[str, Any]], rng: Rng) -> None:
    """Run a training step. Raise NotFinite at the first non-finite value."""
    _look("the batch", batch.images)
    with _watched(model.backbone):
        losses = model.get_loss(batch, targets, rng, watch=_watch)
    losses["total_loss"].backward()
    gradients = [(name, parameter.grad) for name, parameter in model.named_parameters() if parameter.grad is not None]
    for name, grad in reversed(gradients):
        _look(f"the gradient of {name}", grad)
    _look("the norm of the gradients", optim.clip_grad_norm(model.parameters(), np.inf))


def _watch(stage: str, **values: Any) -> None:
    """Raise NotFinite at the first non-finite value of a stage; the values are in the order of their computation."""
    for name, value in values.items():
        title = {
            "RPN head": f"the RPN head ({name})",
            "proposals": "the proposals",
            "RoIAlign": "the pooled features",
            "head": f"the head ({name.replace('_', ' ')})",
            "losses": name,
        }.get(stage, f"the {stage}")
        for array in value if isinstance(value, list) else [value]:
            _look(title, array)


def _look(name: str, values: Any) -> None:
    if not np.isfinite(values).all():
        raise NotFinite(name)


@contextlib.contextmanager
def _watched(root: Module) -> Iterator[None]:
    """Within the `with` block, check the outputs of `root` and of all its submodules as they are computed."""

    def hook(name: str) -> Hook:
        def look(module: Module, args: tuple[Any, ...], result: Any) -> None:
            if not _searching.get():  # this call comes from another thread that uses the same modules
                return
            for item in result if isinstance(result, (list, tuple)) else [result]:
                if isinstance(item, Tensor):
                    _look(f"the backbone ({name})" if name else "the backbone", item.data)

        return look

    token = _searching.set(True)
    try:
        with contextlib.ExitStack() as hooks:
            for prefix, module in root.named_modules():
                hooks.enter_context(module.register_forward_hook(hook(prefix.removesuffix("."))))
            yield
    finally:
        _searching.reset(token)

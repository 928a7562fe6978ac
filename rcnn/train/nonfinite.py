"""Where a pass through a detector stops being finite: the stages once more, each looked at as it comes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from rcnn import roi_heads, rpn, transform
from rcnn._ext import backend
from rcnn.model import FasterRCNN
from rcnn.nn import Module, Tensor, optim
from rcnn.nn.random import drawing_from


def first_non_finite(
    model: FasterRCNN, batch: transform.Batch, targets: Sequence[Mapping[str, Any]], rng: np.random.Generator
) -> str | None:
    """The first stage of `model.get_loss(batch, targets, rng)`, or of its gradients, with a value that is not finite.

    In the order in which they are computed: the batch, the backbone (by the first module in it, or in its pyramid,
    whose output is not finite), the RPN head, the proposals, the pooled features, the head, the losses; then the
    gradients from the last parameter to the first, and their joint norm. None where all are finite. Gradients are as
    they were afterwards; the running statistics of batch norms move as in `get_loss`.
    """
    before = [(parameter, parameter.grad) for parameter in model.parameters()]
    model.zero_grad()
    try:
        with np.errstate(all="ignore"), backend.one_pool(), drawing_from(rng):
            return next(
                (name for name, values in _stages(model, batch, targets, rng) if not np.isfinite(values).all()), None
            )
    finally:
        for parameter, grad in before:
            parameter.grad = grad


def _stages(
    model: FasterRCNN, batch: transform.Batch, targets: Sequence[Mapping[str, Any]], rng: np.random.Generator
) -> Iterator[tuple[str, Any]]:
    """(name, values) of every stage, in order; a stage is computed once the values before it have been looked at."""
    yield "the batch", batch.images
    objects = model._targets(targets, batch)
    with _outputs(model.backbone) as outputs:
        features = model._features(batch)
    yield from ((f"the backbone ({name})" if name else "the backbone", values) for name, values in outputs)
    anchors = model._anchors(batch, features)
    objectness, rpn_deltas = model.rpn.head(features)
    yield from (("the RPN head (objectness)", level.data) for level in objectness)
    yield from (("the RPN head (deltas)", level.data) for level in rpn_deltas)
    proposals = model._select(objectness, rpn_deltas, anchors, batch, "train")
    yield from (("the proposals", found.boxes) for found in proposals)
    rpn_targets, roi_targets = model._find_targets(objects, anchors, proposals, rng)
    rpn_losses = rpn.loss(objectness, rpn_deltas, rpn_targets)
    rois = np.concatenate([t.rois for t in roi_targets])  # (R, 4)
    roi_images = np.repeat(np.arange(len(roi_targets)), [len(t.rois) for t in roi_targets])  # (R,)
    pooled, _, _ = model._pool(features, rois, roi_images, batch)
    yield "the pooled features", pooled.data
    class_logits, box_deltas = model.roi_heads(pooled)
    yield "the head (class logits)", class_logits.data
    yield "the head (box deltas)", box_deltas.data
    losses = (*rpn_losses, *roi_heads.loss(class_logits, box_deltas, roi_targets))
    total = losses[0] + losses[1] + losses[2] + losses[3]
    names = ("rpn_cls_loss", "rpn_reg_loss", "roi_cls_loss", "roi_reg_loss", "total_loss")
    yield from ((name, loss.data) for name, loss in zip(names, (*losses, total), strict=True))
    total.backward()
    gradients = [(name, parameter.grad) for name, parameter in model.named_parameters() if parameter.grad is not None]
    yield from ((f"the gradient of {name}", grad) for name, grad in reversed(gradients))
    yield "the norm of the gradients", optim.clip_grad_norm(model.parameters(), np.inf)


@contextlib.contextmanager
def _outputs(root: Module) -> Iterator[list[tuple[str, np.ndarray]]]:
    """What `root` and the modules below it give in this block, (name, values), in the order in which they finish."""
    outputs: list[tuple[str, np.ndarray]] = []

    def watched(name: str, forward: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            result = forward(*args, **kwargs)
            outputs.extend((name, tensor.data) for tensor in _tensors(result))
            return result

        return run

    own = {id(module): (module, vars(module).get("forward")) for module in root.modules()}
    for prefix, module in root.named_modules():
        vars(module)["forward"] = watched(prefix.removesuffix("."), module.forward)
    try:
        yield outputs
    finally:
        for module, forward in own.values():
            del vars(module)["forward"]
            if forward is not None:
                vars(module)["forward"] = forward


def _tensors(result: Any) -> list[Tensor]:
    """The tensors of what a module gave: one, or a list of them."""
    return [item for item in (result if isinstance(result, (list, tuple)) else [result]) if isinstance(item, Tensor)]

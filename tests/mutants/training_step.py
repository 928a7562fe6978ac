"""Answers to `checks.training_step`."""

import math

import numpy as np

from mutants import answer
from rcnn.nn import optim


def in_the_usual_order(model, optimizer, images, targets, max_norm, rng):
    optimizer.zero_grad()
    losses = model.get_loss(images, targets, rng)
    if not np.isfinite(losses["total_loss"].item()):
        raise FloatingPointError("the loss is not finite")
    losses["total_loss"].backward()
    norm = optim.clip_grad_norm(model.parameters(), max_norm)
    optimizer.step()
    return {name: loss.item() for name, loss in losses.items()}, norm


def clipped_by_hand(model, optimizer, images, targets, max_norm, rng):
    losses = model.get_loss(images, targets, rng)
    values = {name: float(loss.data) for name, loss in losses.items()}
    if math.isnan(values["total_loss"]) or math.isinf(values["total_loss"]):
        raise FloatingPointError
    for parameter in model.parameters():
        parameter.grad = None
    losses["total_loss"].backward()
    norm = math.sqrt(sum(float((p.grad**2).sum()) for p in model.parameters()))
    for parameter in model.parameters():
        parameter.grad = parameter.grad * min(1, max_norm / norm)
    optimizer.step()
    return values, norm


def clears_gradients_twice(model, optimizer, images, targets, max_norm, rng):
    model.zero_grad()
    losses = model.get_loss(images, targets, rng=rng)
    total = losses["total_loss"]
    if not np.isfinite(total.data):
        raise FloatingPointError(total.item())
    total.backward()
    norm = optim.clip_grad_norm(optimizer.parameters, max_norm)
    optimizer.step()
    optimizer.zero_grad()
    return {name: np.float64(loss.data) for name, loss in losses.items()}, np.float64(norm)


def _wrong(
    before=lambda optimizer: optimizer.zero_grad(),
    backward=lambda losses: losses["total_loss"].backward(),
    clip=lambda optimizer, max_norm: optim.clip_grad_norm(optimizer.parameters, max_norm),
    move=lambda optimizer: optimizer.step(),
    after=lambda optimizer: None,
    values=lambda losses: {name: loss.item() for name, loss in losses.items()},
    refuses=True,
):
    """Return a step with one of its parts replaced."""

    def function(model, optimizer, images, targets, max_norm, rng):
        before(optimizer)
        losses = model.get_loss(images, targets, rng)
        if refuses and not np.isfinite(losses["total_loss"].item()):
            raise FloatingPointError("the loss is not finite")
        backward(losses)
        norm = clip(optimizer, max_norm)
        move(optimizer)
        after(optimizer)
        return values(losses), norm

    return function


def _named(**functions):
    for name, function in functions.items():
        function.__name__ = name
    return functions


def _nothing(*_):
    pass


def _always_scaled(optimizer, max_norm):
    norm = optim.clip_grad_norm(optimizer.parameters, 1e30)
    for parameter in optimizer.parameters:
        parameter.grad = parameter.grad / norm * max_norm
    return norm


def _each_number(optimizer, max_norm):
    norm = optim.clip_grad_norm(optimizer.parameters, 1e30)
    for parameter in optimizer.parameters:
        parameter.grad = np.clip(parameter.grad, -max_norm, max_norm)
    return norm


def _norm_afterwards(optimizer, max_norm):
    return min(optim.clip_grad_norm(optimizer.parameters, max_norm), max_norm)


def _only_measured(optimizer, max_norm):
    return optim.clip_grad_norm(optimizer.parameters, math.inf)


def _by_hand(optimizer):
    for parameter in optimizer.parameters:
        parameter.data -= optimizer.lr * parameter.grad


def _uphill(optimizer):
    for parameter in optimizer.parameters:
        parameter.grad = -parameter.grad
    optimizer.step()


def _twice(optimizer):
    optimizer.step()
    optimizer.step()


PARTS = _named(
    never_clears=_wrong(before=_nothing),
    clears_afterwards_only=_wrong(before=_nothing, after=lambda optimizer: optimizer.zero_grad()),
    no_step=_wrong(move=_nothing),
    two_steps=_wrong(move=_twice),
    uphill=_wrong(move=_uphill),
    without_momentum=_wrong(move=_by_hand),
    one_loss_only=_wrong(backward=lambda losses: losses["roi_cls_loss"].backward()),
    boxes_only=_wrong(backward=lambda losses: (losses["rpn_reg_loss"] + losses["roi_reg_loss"]).backward()),
    total_twice=_wrong(backward=lambda losses: (losses["total_loss"] * 2.0).backward()),
    no_clipping=_wrong(clip=_only_measured),
    always_scaled=_wrong(clip=_always_scaled),
    each_number_clipped=_wrong(clip=_each_number),
    the_norm_afterwards=_wrong(clip=_norm_afterwards),
    no_norm=_wrong(clip=lambda optimizer, max_norm: [optim.clip_grad_norm(optimizer.parameters, max_norm), None][1]),
    keeps_tensors=_wrong(values=lambda losses: losses),
    only_the_total=_wrong(values=lambda losses: {"total_loss": losses["total_loss"].item()}),
    moves_on_nan=_wrong(refuses=False),
)


def clips_before_backward(model, optimizer, images, targets, max_norm, rng):
    optimizer.zero_grad()
    losses = model.get_loss(images, targets, rng)
    if not np.isfinite(losses["total_loss"].item()):
        raise FloatingPointError("the loss is not finite")
    norm = optim.clip_grad_norm(optimizer.parameters, max_norm)
    losses["total_loss"].backward()
    optimizer.step()
    return {name: loss.item() for name, loss in losses.items()}, norm


def clips_after_the_step(model, optimizer, images, targets, max_norm, rng):
    optimizer.zero_grad()
    losses = model.get_loss(images, targets, rng)
    if not np.isfinite(losses["total_loss"].item()):
        raise FloatingPointError("the loss is not finite")
    losses["total_loss"].backward()
    optimizer.step()
    return {name: loss.item() for name, loss in losses.items()}, optim.clip_grad_norm(optimizer.parameters, max_norm)


def clears_its_own_gradient(model, optimizer, images, targets, max_norm, rng):
    losses = model.get_loss(images, targets, rng)
    if not np.isfinite(losses["total_loss"].item()):
        raise FloatingPointError("the loss is not finite")
    losses["total_loss"].backward()
    norm = optim.clip_grad_norm(optimizer.parameters, max_norm)
    optimizer.zero_grad()
    optimizer.step()
    return {name: loss.item() for name, loss in losses.items()}, norm


def calls_get_loss_twice(model, optimizer, images, targets, max_norm, rng):
    values = {name: loss.item() for name, loss in model.get_loss(images, targets, rng).items()}
    return values, in_the_usual_order(model, optimizer, images, targets, max_norm, rng)[1]


def losses_after_the_move(model, optimizer, images, targets, max_norm, rng):
    _, norm = in_the_usual_order(model, optimizer, images, targets, max_norm, rng)
    return {name: loss.item() for name, loss in model.get_loss(images, targets, rng).items()}, norm


def without_the_generator(model, optimizer, images, targets, max_norm, rng):
    return in_the_usual_order(model, optimizer, images, targets, max_norm, np.random.default_rng(12345))


def refuses_too_late(model, optimizer, images, targets, max_norm, rng):
    values, norm = PARTS["moves_on_nan"](model, optimizer, images, targets, max_norm, rng)
    if not np.isfinite(values["total_loss"]):
        raise FloatingPointError("the loss is not finite")
    return values, norm


def another_error(model, optimizer, images, targets, max_norm, rng):
    values, norm = PARTS["moves_on_nan"](model, optimizer, images, targets, max_norm, rng)
    assert np.isfinite(values["total_loss"]), "the loss is not finite"
    return values, norm


def gives_the_total(model, optimizer, images, targets, max_norm, rng):
    return in_the_usual_order(model, optimizer, images, targets, max_norm, rng)[0]["total_loss"]


def forgets_to_return(model, optimizer, images, targets, max_norm, rng):
    in_the_usual_order(model, optimizer, images, targets, max_norm, rng)


def _refusing(refuses):
    def function(model, optimizer, images, targets, max_norm, rng):
        optimizer.zero_grad()
        losses = model.get_loss(images, targets, rng)
        if refuses(losses):
            raise FloatingPointError
        losses["total_loss"].backward()
        norm = optim.clip_grad_norm(optimizer.parameters, max_norm)
        optimizer.step()
        return {name: loss.item() for name, loss in losses.items()}, norm

    return function


def _norms(optimizer):
    return [math.sqrt(float((parameter.grad**2).sum())) for parameter in optimizer.parameters]


def _clipped_by(optimizer, max_norm, together):
    norm = together(_norms(optimizer))
    for parameter in optimizer.parameters:
        parameter.grad = parameter.grad * min(1, max_norm / norm)
    return norm


def _each_parameter(optimizer, max_norm):
    norms = _norms(optimizer)
    for parameter, norm in zip(optimizer.parameters, norms, strict=True):
        parameter.grad = parameter.grad * min(1, max_norm / norm)
    return math.sqrt(sum(norm * norm for norm in norms))


def _first_parameter(optimizer, max_norm):
    norm = math.sqrt(sum(norm * norm for norm in _norms(optimizer)))
    first = next(iter(optimizer.parameters))
    first.grad = first.grad * min(1, max_norm / norm)
    return norm


def _zeros_if_broken(model, optimizer, images, targets, max_norm, rng):
    try:
        return in_the_usual_order(model, optimizer, images, targets, max_norm, rng)
    except FloatingPointError:
        return dict.fromkeys(("rpn_cls_loss", "rpn_reg_loss", "roi_cls_loss", "roi_reg_loss", "total_loss"), 0.0), 0.0


RIGHT = (in_the_usual_order, clipped_by_hand, clears_gradients_twice)
WRONG = (
    (PARTS["never_clears"], "left over"),
    (PARTS["clears_afterwards_only"], "left over"),
    (PARTS["no_step"], r"the optimiser's step\(\) moves the parameters"),
    (PARTS["two_steps"], r"the optimiser's step\(\) moves the parameters"),
    (PARTS["uphill"], r"the optimiser's step\(\) moves the parameters"),
    (PARTS["without_momentum"], "is the optimiser's job|The gradient of the first step"),
    (PARTS["one_loss_only"], "gradient of the total loss"),
    (PARTS["boxes_only"], "gradient of the total loss"),
    (PARTS["total_twice"], "gradient of the total loss"),
    (PARTS["no_clipping"], "the gradient is above max_norm"),
    (PARTS["always_scaled"], "`max_norm` is an upper limit"),
    (PARTS["each_number_clipped"], "Scale (all gradients by one factor|the gradient down)"),
    (PARTS["the_norm_afterwards"], "the norm before scaling"),
    (PARTS["no_norm"], "the norm is None"),
    (PARTS["keeps_tensors"], "keeps the whole graph"),
    (PARTS["only_the_total"], "the losses do not contain rpn_cls_loss"),
    (PARTS["moves_on_nan"], "before the parameters move"),
    (clips_before_backward, r"the optimiser's step\(\) moves the parameters"),
    (clips_after_the_step, "before step"),
    (clears_its_own_gradient, r"the optimiser's step\(\) moves the parameters"),
    (calls_get_loss_twice, "Call get_loss once, with `rng`"),
    (losses_after_the_move, "before the move"),
    (without_the_generator, "with `rng`|with more weights|left over"),
    (refuses_too_late, "before the parameters move"),
    (another_error, "before the parameters move"),
    (gives_the_total, "must return a tuple of two values"),
    (forgets_to_return, "must return a tuple of two values"),
)
WRONG += (  # each with the description of a misconception
    answer(
        "looks at the RPN's first loss alone", _refusing(lambda losses: not np.isfinite(losses["rpn_cls_loss"].item()))
    ),
    answer("looks for NaN, not for infinity", _refusing(lambda losses: np.isnan(losses["total_loss"].item()))),
    answer(
        "looks for infinity above 0 only",
        _refusing(lambda losses: np.isnan(losses["total_loss"].item()) or losses["total_loss"].item() == np.inf),
    ),
    answer("looks for infinity, not for NaN", _refusing(lambda losses: np.isinf(losses["total_loss"].item()))),
    answer("refuses large losses", _refusing(lambda losses: not abs(losses["total_loss"].item()) < 20)),
    answer(
        "norms of the parameters are added up, not their squares",
        _wrong(clip=lambda o, most: _clipped_by(o, most, lambda norms: sum(norms))),
    ),
    answer("the largest norm of a parameter", _wrong(clip=lambda o, most: _clipped_by(o, most, max))),
    answer(
        "the norm of the first parameter", _wrong(clip=lambda o, most: _clipped_by(o, most, lambda norms: norms[0]))
    ),
    answer("each parameter is clipped alone", _wrong(clip=_each_parameter)),
    answer("only the first parameter is scaled", _wrong(clip=_first_parameter)),
    answer(
        "the mean of the squares",
        _wrong(
            clip=lambda o, most: _clipped_by(o, most, lambda norms: math.sqrt(sum(n * n for n in norms) / len(norms)))
        ),
    ),
    answer(
        "only the first parameter's gradient is cleared",
        _wrong(before=lambda o: setattr(next(iter(o.parameters)), "grad", None)),
    ),
    answer(
        "the losses are rounded",
        _wrong(values=lambda losses: {name: round(loss.item(), 1) for name, loss in losses.items()}),
    ),
    answer("the losses are a list", _wrong(values=lambda losses: [loss.item() for loss in losses.values()])),
    answer(
        "the losses are text",
        _wrong(values=lambda losses: {name: f"{loss.item():.1f} x" for name, loss in losses.items()}),
    ),
    answer("the norm is squared", _wrong(clip=lambda o, most: optim.clip_grad_norm(o.parameters, most) ** 2)),
    answer(
        "the norm is an array of all norms",
        _wrong(clip=lambda o, most: np.array([optim.clip_grad_norm(o.parameters, most)] * 2)),
    ),
    answer("returns zeros in place of raising", _zeros_if_broken),
)

"""Checks of training: one step, and the learning rate of every step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from rcnn._ext.dispatch import original
from rcnn.checks._engine import Case, Function, check_callable, generator_of, run
from rcnn.nn import Module, Parameter, Tensor, optim

LOSSES = ("rpn_cls_loss", "rpn_reg_loss", "roi_cls_loss", "roi_reg_loss", "total_loss")
SHARES = (0.125, 0.25, 0.25, 0.375)  # how much each of four losses contributes to the total loss below
WIDE = 1e6  # larger than the norm of any gradient in the cases
NOTHING_LEFT = 0.0


ALWAYS_SCALED = (
    "`max_norm` is an upper limit. If the norm of the gradients is above it, scale them. Otherwise, do not change them."
)

# ---------------------------------------------------------------------- a step
PLACES = (  # what the check measures, in this order
    "in the weights of the model after all steps",
    "in the bias of the model after all steps",
    "in the losses that the steps return",
    "in the norms that the steps return",
    "in whether a step raises FloatingPointError",
)


@original
def training_step(function: Function, seed: int | None = None) -> None:
    """Raise CheckFailed unless `function` takes one training step.

    Parameters
    ----------
    function : callable
        ``function(model, optimizer, images, targets, max_norm, rng)``. The function calls `model.get_loss(images,
        targets, rng)` once, clears old gradients, computes the gradient of the total loss, scales the gradient to a
        norm of at most `max_norm`, and moves the parameters once with the optimiser. It returns (losses, norm): a dict
        from names to the five losses, as floats, and the norm of all gradients together before scaling. If the total
        loss is not finite, the function raises FloatingPointError, and the parameters stay unchanged. The check uses a
        small model with K weights, (K,), and one bias, (1, 1), and with images and targets of shape (K,).
    seed : int, optional
        Seed for the random inputs. Without it, every call uses new inputs.

    Raises
    ------
    CheckFailed
        If any result is wrong. The message shows a hint and the smallest failing input that was found.
    TypeError
        If `function` is not callable.
    """
    check_callable("training_step", function)
    run(
        "training_step",
        _on_a_small_model(function),
        _on_a_small_model(_reference_step),
        _step_cases(generator_of(seed)),
        parts=PLACES,
        mistakes=[(_on_a_small_model(partial(_reference_step, always=True)), ALWAYS_SCALED)],
    )


class _SmallModel(Module):
    """A model with one weight per image and one bias for all. It learns to make its output equal to the target."""

    def __init__(self, weights: np.ndarray, bias: float) -> None:
        self.calls = 0
        self.weights = Parameter(np.array(weights, np.float64))
        self.bias = Parameter(np.array([[bias]], np.float64))

    def get_loss(self, images: Any, targets: Any, rng: np.random.Generator | None = None) -> dict[str, Tensor]:
        """Return five losses. The targets are shifted at random, to imitate the random sampling in a detector.

        A target that is not finite makes only the last of the four losses, and the total loss, not finite.
        """
        self.calls += 1
        noise = np.random.default_rng() if rng is None else rng
        wanted = np.asarray(targets, np.float64) + noise.integers(0, 4, len(targets)) / 4  # (K,)
        fine = np.where(np.isfinite(wanted), wanted, 0)
        missed = self.weights * Tensor(np.asarray(images, np.float64)) + self.bias.reshape(1) - Tensor(fine)  # (K,)
        total = (missed * missed).sum() * 0.5
        parts = [total * share for share in SHARES]
        parts[-1] = parts[-1] + Tensor(np.array((wanted - fine).sum()))
        return dict(zip(LOSSES, (*parts, parts[0] + parts[1] + parts[2] + parts[3]), strict=True))


def _on_a_small_model(function: Function) -> Callable[..., Any]:
    """Return a function that runs S training steps with `function`.

    The new function returns weights (K,), bias, losses (S, 5), norms (S,), and whether a step raised
    FloatingPointError.
    """

    def steps(
        weights: np.ndarray,
        bias: float,
        images: np.ndarray,
        targets: np.ndarray,
        left_over: float,
        lr: float,
        max_norm: float,
        steps: int,
    ) -> tuple[np.ndarray, float, np.ndarray, np.ndarray, bool]:
        model, rng = _SmallModel(weights, bias), np.random.default_rng(len(weights))
        optimizer = optim.SGD(model.parameters(), lr, momentum=0.5)
        if left_over:
            model.weights.grad = np.full(len(weights), left_over)
            model.bias.grad = np.full((1, 1), -left_over)
        losses, norms, refused = [], [], False
        for number in range(1, steps + 1):
            try:
                named, norm = _checked(function(model, optimizer, images, targets, max_norm, rng))
            except FloatingPointError:
                refused = True
                break
            if model.calls > number:
                raise TypeError("a step calls get_loss more than once; every call draws new random numbers from rng")
            losses.append([named[name] for name in LOSSES])
            norms.append(norm)
        return model.weights.data, model.bias.data.item(), np.array(losses).reshape(-1, 5), np.array(norms), refused

    return steps


def _checked(got: Any) -> tuple[Mapping[str, float], float]:
    """Return the result of a step. Raise TypeError if the result has the wrong form."""
    if not isinstance(got, (tuple, list)) or len(got) != 2 or not isinstance(got[0], Mapping):
        raise TypeError("a step must return a tuple of two values: a dict of the losses, and the norm")
    named, norm = got
    missing = [name for name in LOSSES if name not in named]
    if missing:
        raise TypeError(f"the losses do not contain {', '.join(missing)}")
    kept = [name for name in LOSSES if isinstance(named[name], Tensor)]
    if kept:
        raise TypeError(
            f"{kept[0]} is a Tensor; return a number instead (call its item() method), because a tensor keeps the "
            "whole graph in memory until backward() frees it"
        )
    if norm is None:
        raise TypeError("the norm is None; return the norm that the clipping function returns")
    arrays = [name for name in LOSSES if isinstance(named[name], np.ndarray)]
    if arrays:
        raise TypeError(f"{arrays[0]} is an array; return a number instead (call the item() method of the tensor)")
    return {name: float(named[name]) for name in LOSSES}, float(norm)


def _reference_step(
    model: _SmallModel,
    optimizer: optim.Optimizer,
    images: Any,
    targets: Any,
    max_norm: float,
    rng: np.random.Generator,
    always: bool = False,
) -> tuple[dict[str, float], float]:
    """Take one step. If `always` is True, scale the gradients to `max_norm` even if their norm is smaller."""
    optimizer.zero_grad()
    losses = model.get_loss(images, targets, rng)
    values = {name: loss.item() for name, loss in losses.items()}
    if not np.isfinite(values["total_loss"]):
        raise FloatingPointError("the total loss is not finite")
    losses["total_loss"].backward()
    norm = optim.clip_grad_norm(optimizer.parameters, max_norm)
    if always and 0 < norm < max_norm:
        for parameter in optimizer.parameters:
            parameter.grad = np.asarray(parameter.grad) * (max_norm / norm)
    optimizer.step()
    return values, norm


def _step_cases(rng: np.random.Generator) -> Iterator[Case]:
    yield _step(
        rng,
        1,
        "backward() computes the gradient of the total loss, and the optimiser's step() moves the parameters in the "
        "opposite direction. Return the losses from before the move. Call get_loss once, with `rng`.",
    )
    yield _step(rng, 3, "This is the same step with more weights.", size=3)
    yield _step(
        rng,
        2,
        "Gradients left over from another batch must not change this step, but backward() adds to the existing "
        "gradients.",
        left_over=float(rng.integers(2, 6)),
    )
    yield _step(
        rng,
        2,
        "The gradient of the first step must not change the second step, but backward() adds to the existing "
        "gradients.",
        steps=2,
    )
    yield _step(
        rng,
        1,
        "The norm of the gradient is above max_norm. Scale the gradient down after backward() and before step(). "
        "Return the norm before scaling.",
        max_norm=0.125,
    )
    yield _step(
        rng,
        4,
        "Scale all gradients by one factor, so that the direction of the gradient stays. Compare max_norm "
        "with the norm of all gradients together.",
        max_norm=0.5,
        size=4,
    )
    for size in (1, 3):
        yield _step(
            rng,
            0,
            "The norm of the gradient is small, but above max_norm. Compare it with max_norm, not with 1, and multiply "
            "all gradients by max_norm / norm.",
            size=size,
            max_norm=0.0625,
            close=True,
        )
    yield _step(
        rng,
        4,
        "The norm is the root of the sum of the squares of all gradients of all parameters. It is not the sum of the "
        "norms of the parameters, and each parameter is not clipped alone.",
        max_norm=2.0,
        size=3,
        steps=2,
    )
    yield _step(rng, 2, "Momentum is the optimiser's job: its step() moves the parameters, once per batch.", steps=3)
    yield _step(
        rng,
        2,
        "The total loss is NaN here. Raise FloatingPointError before the parameters move, because a move would "
        "destroy them.",
        broken=np.nan,
    )
    for bad in (np.nan, np.inf, -np.inf):
        yield _step(
            rng,
            2,
            "Only the last of the four losses is not finite here, and so is the total loss. Look at the total loss, "
            "and treat an infinite loss like NaN: raise FloatingPointError before the parameters move.",
            broken=bad,
            size=2,
            steps=2,
            left_over=1.0,
        )
    for _ in range(3):
        yield _step(
            rng,
            3,
            "These steps combine left-over gradients, clipping and momentum.",
            size=3,
            steps=3,
            left_over=2.0,
            max_norm=0.75,
        )
    yield _step(
        rng, 4000, "The total loss is in the millions here, but it is finite. Take the step.", size=2, max_norm=0.5
    )


def _step(
    rng: np.random.Generator,
    least: int,
    hint: str,
    size: int = 1,
    left_over: float = NOTHING_LEFT,
    max_norm: float = WIDE,
    steps: int = 1,
    broken: float | None = None,
    close: bool = False,
) -> Case:
    """Return a case with a model. Each weight times its image differs from its target by more than `least`.

    If `close` is True, the difference is 1/8 instead. If `broken` is not None, the last target has this value.
    """
    images = rng.integers(1, 4, size) / 2
    weights = rng.integers(-4, 5, size) / 2
    targets = weights * images - rng.integers(least + 1, least + 5, size) * rng.choice([-1, 1])
    if close:
        images = np.full(size, 0.25)
        targets = weights * images + 0.125
    bias = float(rng.integers(-4, 5)) / 4
    targets = targets + bias
    if broken is not None:
        targets[-1] = broken
    return Case(
        {
            "weights": weights,
            "bias": bias,
            "images": images,
            "targets": targets,
            "left_over": left_over,
            "lr": 0.25,
            "max_norm": max_norm,
            "steps": steps,
        },
        hint,
    )


# ---------------------------------------------------------------------- the learning rate


@original
def learning_rate(function: Function, seed: int | None = None) -> None:
    """Raise CheckFailed unless `function` returns the learning rate of a step.

    Parameters
    ----------
    function : callable
        ``function(step, steps, base, warmup, final)``. The function returns a number, base * w * c. The factor w rises
        linearly from 0.001 at step 0 to 1 at step `warmup`, and then stays 1. The factor c falls along half a cosine
        from 1 at step 0 to `final` at step `steps`, and then stays constant. `warmup` may be 0.
    seed : int, optional
        Seed for the random inputs. Without it, every call uses new inputs.

    Raises
    ------
    CheckFailed
        If any result is wrong. The message shows a hint and the smallest failing input that was found.
    TypeError
        If `function` is not callable.

    References
    ----------
    Loshchilov and Hutter, "SGDR", 2017, section 3 (the cosine).
    Goyal et al., "Accurate, Large Minibatch SGD", 2017, section 2.2 (the warm-up).
    """
    run("learning_rate", function, _reference_rate, _rate_cases(generator_of(seed)))


def _reference_rate(step: int, steps: int, base: float, warmup: int, final: float) -> float:
    return base * optim.product(optim.linear_warmup(warmup), optim.cosine(steps, final))(step)


def _rate_cases(rng: np.random.Generator) -> Iterator[Case]:
    base, final = float(rng.integers(2, 9)), float(rng.integers(1, 4)) / 10
    half = int(rng.integers(20, 60))
    steps = 2 * half
    yield _rate(0, steps, base, 0, final, "Without a warm-up, the first step has the full rate.")
    yield _rate(steps, steps, base, 0, final, "At the end, the rate is `final` times the base rate.")
    yield _rate(
        half,
        steps,
        base,
        0,
        0.0,
        "Halfway, the cosine factor has fallen by half. The argument of the cosine goes from 0 to pi, and the cosine "
        "itself falls from 1 to -1.",
    )
    yield _rate(
        half,
        steps,
        base,
        0,
        final,
        "The cosine factor falls to `final`, not to 0. Halfway, it is the mean of 1 and `final`.",
    )
    yield _rate(
        half // 2,
        steps,
        base,
        0,
        final,
        "After a quarter of the steps, the cosine factor has fallen only a little. A cosine is flat at both ends. It "
        "is not a straight line.",
    )
    yield _rate(steps + 7, steps, base, 0, final, "Beyond the end, the rate stays constant and does not rise again.")
    warmup = int(rng.integers(8, 16))
    yield _rate(
        0,
        steps,
        base,
        warmup,
        final,
        "At step 0, the warm-up factor is 0.001. It is small, but not 0, because a rate of 0 would waste the first "
        "batch.",
    )
    yield _rate(
        warmup,
        steps,
        base,
        warmup,
        final,
        "At step `warmup`, the warm-up ends. The cosine counts its steps from step 0, too, not from the end of the "
        "warm-up.",
    )
    yield _rate(
        warmup // 2,
        steps,
        base,
        warmup,
        final,
        "The warm-up factor rises along a straight line from 0.001 to 1. It is multiplied by the cosine factor.",
    )
    yield _rate(
        warmup // 4,
        steps,
        base,
        warmup,
        final,
        "After a quarter of the warm-up, a straight line has reached about a quarter of its height.",
    )
    yield _rate(steps - 1, steps, base, warmup, final, "After the warm-up, its factor stays 1.")
    yield _rate(1, steps, base, 1, final, "A warm-up may last for a single step: at step 1, its factor is 1.")
    yield _rate(0, steps, base, 1, final, "A warm-up may last for a single step: at step 0, its factor is 0.001.")
    yield _rate(3, 4, base * 1e-4, 2, 0.0, "A run may be short, and the base rate may be small.")
    yield _rate(steps, 2 * steps, base, 3 * steps, final, "The warm-up may last longer than the run.")
    for beyond in (0, int(rng.integers(1, 9))):
        yield _rate(
            steps + beyond,
            steps,
            base,
            3 * steps,
            final,
            "The warm-up lasts longer than the run here, so its factor is still below 1 at the end and beyond it.",
        )
    yield _rate(half, steps, base, 0, 1.0, "If `final` is 1, the cosine factor is always 1.")
    yield _rate(
        2 * steps, steps, base, warmup, final / 2, "Beyond the end, the rate stays `final` times the base rate."
    )
    for _ in range(12):
        yield _rate(
            int(rng.integers(0, steps + half)),
            steps,
            base,
            int(rng.integers(0, steps)),
            final,
            "The rate is the product of two factors. Draw both factors over the steps, and work out the rate at this "
            "step by hand.",
        )
    yield _rate(20, 37, base, 0, final, "The rate changes with every step. Do not round the fraction step / steps.")


def _rate(step: int, steps: int, base: float, warmup: int, final: float, hint: str) -> Case:
    return Case({"step": step, "steps": steps, "base": base, "warmup": warmup, "final": final}, hint)

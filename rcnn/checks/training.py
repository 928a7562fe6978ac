"""Checks of how a detector is trained: one step, and the learning rate of every step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from rcnn.checks._engine import Case, Function, check_callable, run
from rcnn.nn import Module, Parameter, Tensor, optim

LOSSES = ("rpn_cls_loss", "rpn_reg_loss", "roi_cls_loss", "roi_reg_loss", "total_loss")
SHARES = (0.125, 0.25, 0.25, 0.375)  # of the four losses in the total, for the small model below
WIDE = 1e6  # a norm that no gradient of the cases reaches
NOTHING_LEFT = 0.0


# ---------------------------------------------------------------------- a step


def training_step(function: Function, seed: int | None = None) -> None:
    """Nothing where `function(model, optimizer, images, targets, max_norm, rng)` takes one step of training.

    It gives (the five losses by name, as floats; the norm of all gradients together before they are clipped). The
    model's `get_loss(images, targets, rng)` is asked once; gradients that are left over from before count nothing; the
    gradient is that of the total loss, scaled down to a norm of at most `max_norm`; and the optimiser moves the
    parameters, once. Where the total loss is not finite: FloatingPointError, and the parameters stay as they are. What
    the check shows of a model is (K,) weights, and (K,) images and targets. Raises CheckFailed, which says what is
    wrong.
    """
    check_callable("training_step", function)
    run(
        "training_step",
        _on_a_small_model(function),
        _on_a_small_model(_reference_step),
        _step_cases(np.random.default_rng(seed)),
    )


class _SmallModel(Module):
    """As many weights as images, each to be multiplied by its image and to come near its target."""

    def __init__(self, weights: np.ndarray) -> None:
        self.weights = Parameter(np.array(weights, np.float64))

    def get_loss(self, images: Any, targets: Any, rng: np.random.Generator | None = None) -> dict[str, Tensor]:
        """The five losses; the generator moves the targets a little, as sampling moves a detector's losses."""
        noise = np.random.default_rng() if rng is None else rng
        wanted = np.asarray(targets, np.float64) + noise.integers(0, 4, len(targets)) / 4  # (K,)
        missed = self.weights * Tensor(np.asarray(images, np.float64)) - Tensor(wanted)  # (K,)
        total = (missed * missed).sum() * 0.5
        parts = [total * share for share in SHARES]
        return dict(zip(LOSSES, (*parts, parts[0] + parts[1] + parts[2] + parts[3]), strict=True))


def _on_a_small_model(function: Function) -> Callable[..., Any]:
    """(weights (K,), losses (S, 5), norms (S,), whether it refused) after some steps that `function` takes."""

    def steps(
        weights: np.ndarray,
        images: np.ndarray,
        targets: np.ndarray,
        left_over: float,
        lr: float,
        max_norm: float,
        steps: int,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, bool]:
        model, rng = _SmallModel(weights), np.random.default_rng(len(weights))
        optimizer = optim.SGD(model.parameters(), lr, momentum=0.5)
        if left_over:
            model.weights.grad = np.full(len(weights), left_over)
        losses, norms, refused = [], [], False
        for _ in range(steps):
            try:
                named, norm = _checked(function(model, optimizer, images, targets, max_norm, rng))
            except FloatingPointError:
                refused = True
                break
            losses.append([named[name] for name in LOSSES])
            norms.append(norm)
        return model.weights.data, np.array(losses).reshape(-1, 5), np.array(norms), refused

    return steps


def _checked(got: Any) -> tuple[Mapping[str, float], float]:
    """What a step gave, or a TypeError that says what it should be."""
    if not isinstance(got, tuple) or len(got) != 2 or not isinstance(got[0], Mapping):
        raise TypeError("a step gives two things, (losses by name, norm), and not what yours gives")
    named, norm = got
    missing = [name for name in LOSSES if name not in named]
    if missing:
        raise TypeError(f"the losses lack {', '.join(missing)}")
    kept = [name for name in LOSSES if isinstance(named[name], Tensor)]
    if kept:
        raise TypeError(
            f"{kept[0]} is a Tensor; a number is wanted, as its item() gives, for a tensor holds the whole "
            "graph of its pass until backward() has walked it"
        )
    if norm is None:
        raise TypeError("the norm is None; it is what the clipping of the gradients gives")
    return {name: float(named[name]) for name in LOSSES}, float(norm)


def _reference_step(
    model: _SmallModel, optimizer: optim.Optimizer, images: Any, targets: Any, max_norm: float, rng: np.random.Generator
) -> tuple[dict[str, float], float]:
    optimizer.zero_grad()
    losses = model.get_loss(images, targets, rng)
    values = {name: loss.item() for name, loss in losses.items()}
    if not np.isfinite(values["total_loss"]):
        raise FloatingPointError("the total loss is not finite")
    losses["total_loss"].backward()
    norm = optim.clip_grad_norm(optimizer.parameters, max_norm)
    optimizer.step()
    return values, norm


def _step_cases(rng: np.random.Generator) -> Iterator[Case]:
    yield _step(
        rng,
        1,
        "backward() computes the gradient of the total loss, and the optimiser's step() moves the "
        "parameters against it; the losses are those before the move, from one call of get_loss, which is "
        "given the generator",
    )
    yield _step(rng, 3, "the same with more weights", size=3)
    yield _step(
        rng,
        2,
        "gradients that another batch has left over are no part of this step: backward() adds to what is there",
        left_over=float(rng.integers(2, 6)),
    )
    yield _step(
        rng,
        2,
        "the second step must not see the gradient of the first one, for backward() adds to what is there",
        steps=2,
    )
    yield _step(
        rng,
        1,
        "the gradient is longer than max_norm: it is scaled down after backward() has made it and "
        "before step() uses it; the norm that is wanted is the one before",
        max_norm=0.125,
    )
    yield _step(
        rng,
        4,
        "all gradients are scaled by one factor, so that their joint direction stays: it is the norm "
        "of all that is held against max_norm",
        max_norm=0.5,
        size=4,
    )
    yield _step(
        rng, 2, "momentum is the optimiser's own business: its step() moves the parameters, and once per batch", steps=3
    )
    yield _step(
        rng,
        2,
        "the total loss is not a number here: raise FloatingPointError before the parameters move, for "
        "after it there is nothing left to save",
        broken=True,
    )
    for _ in range(3):
        yield _step(
            rng,
            3,
            "several steps with all of it: left-over gradients, clipping, momentum",
            size=3,
            steps=3,
            left_over=2.0,
            max_norm=0.75,
        )


def _step(
    rng: np.random.Generator,
    least: int,
    hint: str,
    size: int = 1,
    left_over: float = NOTHING_LEFT,
    max_norm: float = WIDE,
    steps: int = 1,
    broken: bool = False,
) -> Case:
    """Steps of a model whose weights miss their targets by at least `least`."""
    images = rng.integers(1, 4, size) / 2
    weights = rng.integers(-4, 5, size) / 2
    targets = weights * images - rng.integers(least + 1, least + 5, size) * rng.choice([-1, 1])
    if broken:
        targets = np.full(size, np.nan)
    return Case(
        {
            "weights": weights,
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


def learning_rate(function: Function, seed: int | None = None) -> None:
    """Nothing where `function(step, steps, base, warmup, final)` gives the learning rate of a step, a number.

    It is base * w * c. Over the first `warmup` steps w rises in a line from 0.001 at step 0 to 1 at step `warmup`, and
    it stays 1; c falls along half a cosine from 1 at step 0 to `final` at step `steps`, and it stays there. `warmup`
    may be 0. Raises CheckFailed, which says what is wrong.
    """
    run("learning_rate", function, _reference_rate, _rate_cases(np.random.default_rng(seed)))


def _reference_rate(step: int, steps: int, base: float, warmup: int, final: float) -> float:
    return base * optim.product(optim.linear_warmup(warmup), optim.cosine(steps, final))(step)


def _rate_cases(rng: np.random.Generator) -> Iterator[Case]:
    base, final = float(rng.integers(2, 9)), float(rng.integers(1, 4)) / 10
    half = int(rng.integers(20, 60))
    steps = 2 * half
    yield _rate(0, steps, base, 0, final, "without a warm-up the first step has the whole rate")
    yield _rate(steps, steps, base, 0, final, "at the end what is left is the share `final` of the base rate")
    yield _rate(
        half,
        steps,
        base,
        0,
        0.0,
        "half-way the cosine has fallen by half: the argument of the cosine goes "
        "from 0 to pi while it falls from 1 to -1",
    )
    yield _rate(
        half,
        steps,
        base,
        0,
        final,
        "the cosine falls to `final`, not to 0: half-way the share lies in the middle between 1 and `final`",
    )
    yield _rate(
        half // 2,
        steps,
        base,
        0,
        final,
        "a quarter of the way the cosine has hardly fallen yet: it is flat at both ends, and no straight line",
    )
    yield _rate(steps + 7, steps, base, 0, final, "beyond the end the rate stays where it was, it does not rise again")
    warmup = int(rng.integers(8, 16))
    yield _rate(
        0,
        steps,
        base,
        warmup,
        final,
        "at step 0 the warm-up's factor is 0.001: small, but not 0, or the first batch would be read for nothing",
    )
    yield _rate(
        warmup,
        steps,
        base,
        warmup,
        final,
        "at step `warmup` the warm-up is over; the cosine counts its steps "
        "from step 0, too, not from the end of the warm-up",
    )
    yield _rate(
        warmup // 2,
        steps,
        base,
        warmup,
        final,
        "the warm-up is a straight line from 0.001 to 1, and the two factors are multiplied",
    )
    yield _rate(
        warmup // 4,
        steps,
        base,
        warmup,
        final,
        "a quarter of the way up a straight line lies at about a quarter of its height",
    )
    yield _rate(steps - 1, steps, base, warmup, final, "after the warm-up its factor stays 1")
    for _ in range(6):
        yield _rate(
            int(rng.integers(0, steps + half)),
            steps,
            base,
            int(rng.integers(0, steps)),
            final,
            "the product of two factors: draw both over the step and read this one off by hand",
        )


def _rate(step: int, steps: int, base: float, warmup: int, final: float, hint: str) -> Case:
    return Case({"step": step, "steps": steps, "base": base, "warmup": warmup, "final": final}, hint)

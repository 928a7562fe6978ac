"""The check of the gradient of the second stage's loss."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from rcnn.checks._engine import Case, Function, run
from rcnn.nn import Tensor
from rcnn.roi_heads import RoITargets, loss


def head_loss_gradient(function: Function, seed: int | None = None) -> None:
    """Nothing where `function(class_logits, box_deltas, labels, deltas)` gives the gradient of the second stage's loss.

    (R, L), (R, L, 4), (R,) and (R, 4) come in; the derivatives with respect to the first two come out, in their shapes.
    The loss is the mean over the RoIs of -log softmax(class_logits)[label], and beside it smooth L1 with beta 1/9
    between a RoI's deltas and those of its true class, summed over the RoIs that are not background (label 0) and
    divided by the number of all R. Without RoIs the gradients are as empty as they are. Raises CheckFailed, which says
    what is wrong.
    """
    run(
        "head_loss_gradient",
        function,
        _head_loss_gradient_of,
        _head_cases(np.random.default_rng(seed)),
        rows=(("class_logits", "box_deltas", "labels", "deltas"),),
    )


def _head_loss_gradient_of(
    class_logits: np.ndarray, box_deltas: np.ndarray, labels: np.ndarray, deltas: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    logits, moves = (Tensor(np.asarray(array, np.float64), requires_grad=True) for array in (class_logits, box_deltas))
    rois = np.zeros((len(labels), 4))  # the loss does not look at where they are
    cls_loss, reg_loss = loss(logits, moves, [RoITargets(rois, labels, np.asarray(deltas, np.float64))])
    (cls_loss + reg_loss).backward()
    return np.asarray(logits.grad), np.asarray(moves.grad)


def _head_cases(rng: np.random.Generator) -> Iterator[Case]:
    classes = int(rng.integers(3, 6))
    label, near, far = int(rng.integers(1, classes - 1)), float(rng.choice([1, 3])) / 36, float(rng.integers(2, 6))
    still = [0.0] * 4

    def one(labels: int, moves: list[float], hint: str) -> Case:
        """One RoI without an opinion on the class, whose true class is off by `moves`, and the others by far more."""
        return _head_case(rng, np.zeros((1, classes)), [labels], [moves], hint)

    yield one(
        label,
        still,
        "the box is right already, so all that is left is the class: all are equally likely here, "
        "and the logit of the true one must rise, the others fall; and only the deltas of the true class are "
        "held against the target, so those of the other classes have no slope, wherever they are",
    )
    yield one(
        0,
        [far, -far, near, 0],
        "background learns its class as every other RoI does; but there is no box for "
        "it to learn, so all its deltas have derivatives of 0, those of class 0 as well; nor may anything be "
        "divided by the number of objects, which is 0 here",
    )
    yield one(
        label,
        [far, -far, 0, 0],
        "far from the target smooth L1 is a straight line: its slope is the sign of "
        "the difference, however large that is",
    )
    yield one(
        label,
        [near, -near, 0, 0],
        "near the target smooth L1 is a parabola, d^2 / (2 beta) with beta = 1/9: what is its slope?",
    )
    yield _head_case(
        rng,
        _sixteenths(rng, 1, classes),
        [label],
        [still],
        "the softmax of the row says how likely the head holds each class: compare it with what it should have said",
    )
    yield _head_case(
        rng,
        _sixteenths(rng, 2, classes),
        [label, label + 1],
        [[far, 0, 0, 0], [0, -far, 0, 0]],
        "each "
        "RoI has a true class of its own, and both losses are divided by the number of RoIs: of RoIs, not "
        "of coordinates, nor of classes",
    )
    yield _head_case(
        rng,
        _sixteenths(rng, 3, classes),
        [0, label, 0],
        [still, [far, near, 0, -far], still],
        "both "
        "losses are divided by the number of *all* RoIs, background included, though only one of these "
        "has a box to learn",
    )
    yield _head_case(
        rng,
        _sixteenths(rng, 2, classes),
        [0, 0],
        [still, still],
        "there are no objects: the boxes learn nothing, the classes do, and nothing may be divided by 0",
    )
    yield _head_case(
        rng,
        _sixteenths(rng, 1, classes) + 1000,
        [label],
        [still],
        "exp(1000) is too large for any "
        "float; the softmax does not change when the same number is taken from all logits of a row",
    )
    yield _head_case(
        rng,
        _sixteenths(rng, 2, classes) + [[2000], [-2000]],
        [label, 0],
        [still, still],
        "these rows lie far apart: what is taken from a row so that its exponentials fit must come from that row",
    )
    yield _head_case(
        rng,
        np.zeros((0, classes)),
        [],
        np.zeros((0, 4)),
        "no RoIs at all are an ordinary input: the gradients have no rows, and nothing may be divided by 0",
    )
    whole = {
        "class_logits": rng.integers(-3, 4, (2, classes)),
        "box_deltas": rng.integers(-3, 4, (2, classes, 4)),
        "labels": np.array([label, 0]),
        "deltas": np.array([[9, -9, 9, 0], [0, 0, 0, 0]]),
    }
    yield Case(whole, "whole numbers are numbers, too; a derivative is not whole")
    for count in (1, 2, 5, 20):
        labels = rng.integers(0, classes, count)
        moves = np.where(labels[:, None] > 0, rng.integers(-16, 17, (count, 4)) / 72, 0)
        case = _head_case(
            rng,
            _sixteenths(rng, count, classes),
            labels.tolist(),
            moves,
            "RoIs as they come: go through softmax, true class, slope and mean for this one by hand",
        )
        if count == 2:
            outputs = {name: case.arguments[name].astype(np.float32) for name in ("class_logits", "box_deltas")}
            case = Case({**case.arguments, **outputs}, "class logits and deltas come as float32 from a net")
        yield case


def _head_case(rng: np.random.Generator, class_logits: np.ndarray, labels: list[int], moves: Any, hint: str) -> Case:
    """RoIs that miss the deltas of their labels by `moves` (R, 4), and those of all other classes by more."""
    rows, classes = class_logits.shape
    deltas = np.where(np.array(labels, int)[:, None] > 0, rng.integers(-16, 17, (rows, 4)) / 8, 0)
    box_deltas = deltas[:, None] + rng.choice([-1.0, 1.0], (rows, classes, 4)) * rng.integers(1, 9, (rows, classes, 4))
    box_deltas[np.arange(rows), labels] = deltas + moves
    return Case(
        {
            "class_logits": class_logits,
            "box_deltas": box_deltas,
            "labels": np.array(labels, np.int64),
            "deltas": deltas,
        },
        hint,
    )


def _sixteenths(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Logits that float32 holds exactly, with 2000 added, too."""
    return rng.integers(-48, 49, shape) / 16

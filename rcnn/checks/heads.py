"""Check of the gradient of the loss of the second stage."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from rcnn._ext.dispatch import original
from rcnn.checks import _inputs
from rcnn.checks._engine import Case, Function, generator_of, run
from rcnn.nn import Tensor
from rcnn.roi_heads import RoITargets, loss


@original
def head_loss_gradient(function: Function, seed: int | None = None) -> None:
    """Raise CheckFailed unless `function` returns the gradient of the second stage's loss.

    Parameters
    ----------
    function : callable
        ``function(class_logits, box_deltas, labels, deltas)``. For R RoIs and L classes, the arguments are the logits,
        (R, L), the predicted deltas for each class, (R, L, 4), the labels, (R,), and the target deltas, (R, 4). The
        function returns the derivatives of the loss with respect to `class_logits`, (R, L), and `box_deltas`, (R, L,
        4). The loss is a sum of two terms. The first term is the mean of -log softmax(class_logits)[label] over the
        RoIs. The second term is smooth L1 with beta 1/9 between the target deltas of a RoI and the predicted deltas of
        its true class. It is summed over the RoIs that are not background (label 0), and divided by the number of all
        RoIs, R. If R is 0, the gradients are empty.
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
    Girshick, "Fast R-CNN", 2015, section 2.3.
    """
    run(
        "head_loss_gradient",
        function,
        _head_loss_gradient_of,
        _head_cases(generator_of(seed)),
        rows=(("class_logits", "box_deltas", "labels", "deltas"),),
        of_factor="Each term is divided by R, the number of all RoIs, and by nothing else. Background counts, too.",
    )


def _head_loss_gradient_of(
    class_logits: np.ndarray, box_deltas: np.ndarray, labels: np.ndarray, deltas: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    logits, moves = (Tensor(np.asarray(array, np.float64), requires_grad=True) for array in (class_logits, box_deltas))
    rois = np.zeros((len(labels), 4))  # the loss does not use the boxes
    cls_loss, reg_loss = loss(logits, moves, [RoITargets(rois, labels, np.asarray(deltas, np.float64))])
    (cls_loss + reg_loss).backward()
    return np.asarray(logits.grad), np.asarray(moves.grad)


def _head_cases(rng: np.random.Generator) -> Iterator[Case]:
    classes = int(rng.integers(3, 6))
    label, near, far = int(rng.integers(1, classes - 1)), float(rng.choice([1, 3])) / 36, float(rng.integers(2, 6))
    still = [0.0] * 4

    def one(labels: int, moves: list[float], hint: str) -> Case:
        """Return a case of one RoI with equal logits. Only the deltas of its true class are close to the targets."""
        return _head_case(rng, np.zeros((1, classes)), [labels], [moves], hint)

    yield one(
        label,
        still,
        "The box is already right, so only the class contributes. All classes are equally likely here: the logit of "
        "the true class must rise, and the other logits must fall. Only the deltas of the true class are compared "
        "with the target, so the derivatives of all other deltas are 0.",
    )
    yield one(
        0,
        [far, -far, near, 0],
        "A background RoI learns its class like every other RoI. But it has no box to learn, so the derivatives of "
        "all its deltas are 0, including those of class 0. Do not divide by the number of objects, which is 0 here.",
    )
    yield one(
        label,
        [far, -far, 0, 0],
        "Far from the target, smooth L1 is a straight line. Its slope is the sign of the difference, and does not "
        "depend on the size of the difference.",
    )
    yield one(
        label,
        [near, -near, 0, 0],
        "Near the target, smooth L1 is a parabola, d^2 / (2 beta) with beta = 1/9. What is its slope?",
    )
    yield one(
        label,
        [0.105, -0.118, -0.1, 0.122],
        "These differences are close to beta, which is 1/9 = 0.111. Below it, smooth L1 is a parabola, and above it, a "
        "straight line. The slope is 9 d where |d| < 1/9, and 1 or -1 elsewhere.",
    )
    yield _head_case(
        rng,
        _sixteenths(rng, 1, classes),
        [label],
        [still],
        "The softmax of the row gives the predicted probability of each class. Compare it with the probabilities that "
        "should be predicted.",
    )
    yield _head_case(
        rng,
        _sixteenths(rng, 2, classes),
        [label, label + 1],
        [[far, 0, 0, 0], [0, -far, 0, 0]],
        "Each RoI has its own true class. Both losses are divided by the number of RoIs, not by the number of "
        "coordinates or classes.",
    )
    yield _head_case(
        rng,
        _sixteenths(rng, 3, classes),
        [0, label, 0],
        [still, [far, near, 0, -far], still],
        "Both losses are divided by the number of *all* RoIs, including background, although only one of these RoIs "
        "has a box to learn.",
    )
    yield _head_case(
        rng,
        _sixteenths(rng, 2, classes),
        [0, 0],
        [still, still],
        "There are no objects here, so the derivatives of all deltas are 0. The class logits still have a gradient. "
        "Do not divide by 0.",
    )
    yield _head_case(
        rng,
        _sixteenths(rng, 1, classes) + 1000,
        [label],
        [still],
        "exp(1000) is too large for any float. The softmax does not change when the same number is subtracted from "
        "all logits of a row.",
    )
    yield _head_case(
        rng,
        _sixteenths(rng, 2, classes) + [[2000], [-2000]],
        [label, 0],
        [still, still],
        "The logits of these two rows are far apart. Before taking exponentials, subtract a number from each row. "
        "This number must come from the same row.",
    )
    yield _head_case(
        rng,
        np.zeros((0, classes)),
        [],
        np.zeros((0, 4)),
        "Zero RoIs are valid input: the gradients have no rows. Do not divide by 0.",
    )
    whole = {
        "class_logits": rng.integers(-3, 4, (2, classes)),
        "box_deltas": rng.integers(-3, 4, (2, classes, 4)),
        "labels": np.array([label, 0]),
        "deltas": np.array([[9, -9, 9, 0], [0, 0, 0, 0]]),
    }
    yield Case(whole, "Integers are valid input, but a derivative need not be an integer.")
    row = _sixteenths(rng, 1, classes)
    for number in np.delete(np.arange(classes), label).tolist():
        yield _head_case(
            rng,
            row + 1000.0 * (np.arange(classes) == number),
            [label],
            [still],
            "One logit of this row is far above all others, wherever it stands. Before taking exponentials, subtract "
            "the largest logit of the row, so that every exponential is at most 1.",
        )
    case = _head_case(
        rng,
        (row + 100.0 * (np.arange(classes) == label + 1)).astype(np.float32),
        [label],
        [still],
        "exp(100) is too large for float32. Before taking exponentials, subtract the largest logit of the row.",
    )
    yield case
    fits = _head_case(
        rng,
        _sixteenths(rng, 3, classes),
        [label, 0, classes - 1],
        [[far, near, -near, -far]] * 3,
        "The target deltas of these RoIs are all 0, because the boxes are already right. A RoI is background if its "
        "label is 0, not if its deltas are 0.",
    )
    wrong_by = rng.choice([-1.0, 1.0], fits.arguments["box_deltas"].shape) * rng.integers(1, 9, (3, classes, 4))
    yield Case({**fits.arguments, "deltas": np.zeros((3, 4)), "box_deltas": wrong_by}, fits.hint)
    yield Case(
        {
            **fits.arguments,
            "deltas": wrong_by[:, 0] * (fits.arguments["labels"] > 0)[:, None],
            "box_deltas": np.zeros_like(wrong_by),
        },
        f"All predicted deltas are 0, but the target deltas are not. {_inputs.ZEROS}",
    )
    twice = _head_case(
        rng, _sixteenths(rng, 1, classes), [label], [[far, near, 0, -far]], "Equal RoIs count separately."
    )
    yield Case({name: np.repeat(value, 3, axis=0) for name, value in twice.arguments.items()}, twice.hint)
    for count in (classes, 4):
        mixed = [classes - 1, *rng.integers(0, classes, count - 1).tolist()]
        yield _head_case(
            rng,
            _sixteenths(rng, count, classes),
            mixed,
            np.where(np.array(mixed)[:, None] > 0, rng.integers(-16, 17, (count, 4)) / 72, 0),
            "RoIs and classes, or RoIs and deltas, may be equally many. Look at each axis: RoI, class, delta.",
        )
    for logit in (6.0, 9.0):
        yield _head_case(
            rng,
            np.stack([logit * np.eye(classes)[label], _sixteenths(rng, classes)]),
            [label, 0],
            [still, still],
            "The class of the first RoI is right and certain, so the derivatives of its class logits are small, but "
            "not 0. Do not round the probabilities.",
        )
    for count in (1, 2, 5, 20):
        labels = rng.integers(0, classes, count)
        moves = np.where(labels[:, None] > 0, rng.integers(-16, 17, (count, 4)) / 72, 0)
        case = _head_case(
            rng,
            _sixteenths(rng, count, classes),
            labels.tolist(),
            moves,
            "These RoIs are random. Work out the softmax, the true class, the slope and the mean for this one by hand.",
        )
        if count == 2:
            outputs = {name: case.arguments[name].astype(np.float32) for name in ("class_logits", "box_deltas")}
            case = Case({**case.arguments, **outputs}, "A network returns class logits and deltas as float32.")
        yield case


def _head_case(rng: np.random.Generator, class_logits: np.ndarray, labels: list[int], moves: Any, hint: str) -> Case:
    """Return a case of R RoIs. The deltas of the true class miss the targets by `moves` (R, 4), all others by more."""
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
    """Draw logits that float32 represents exactly, even after 2000 is added."""
    return rng.integers(-48, 49, shape) / 16

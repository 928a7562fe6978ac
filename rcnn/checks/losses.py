"""Checks of losses and of their gradients: smooth L1, both cross-entropies, the loss of the RPN's objectness."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from rcnn.checks._engine import Case, Function, run
from rcnn.nn import Tensor
from rcnn.nn import functional as F

BETAS = (0.5, 1.0, 2.0)
NOT_SAMPLED = -1


# ---------------------------------------------------------------------- smooth L1


def smooth_l1(function: Function, seed: int | None = None) -> None:
    """Nothing where `function(prediction, target, beta)`, both (N, 4), gives the sum of their smooth L1, a number.

    With d = prediction - target, a term is d^2 / (2 beta) where |d| < beta and |d| - beta / 2 elsewhere. Terms are
    summed: what the sum is divided by is the business of whoever calls. Raises CheckFailed, which says what is wrong.
    """
    run(
        "smooth_l1",
        function,
        _smooth_l1_of,
        _smooth_l1_cases(np.random.default_rng(seed)),
        rows=(("prediction", "target"),),
    )


def smooth_l1_gradient(function: Function, seed: int | None = None) -> None:
    """Nothing where `function(prediction, target, beta)`, both (N, 4), gives smooth L1's gradient, (N, 4).

    It is the derivative of the sum of all terms with respect to each number of the prediction. Raises CheckFailed,
    which says what is wrong.
    """
    run(
        "smooth_l1_gradient",
        function,
        _smooth_l1_gradient_of,
        _smooth_l1_gradient_cases(np.random.default_rng(seed)),
        rows=(("prediction", "target"),),
    )


def _smooth_l1_of(prediction: np.ndarray, target: np.ndarray, beta: float) -> float:
    return float(F.smooth_l1_loss(Tensor(_as_float(prediction)), _as_float(target), beta).data)


def _smooth_l1_gradient_of(prediction: np.ndarray, target: np.ndarray, beta: float) -> np.ndarray:
    return _gradient(lambda moved: F.smooth_l1_loss(moved, _as_float(target), beta), prediction)


def _smooth_l1_cases(rng: np.random.Generator) -> Iterator[Case]:
    yield _moved(rng, [0, 0, 0, 0], 1.0, "where prediction and target agree, nothing is lost")
    far, near = float(rng.integers(3, 9)), float(rng.integers(1, 8)) / 8
    yield _moved(rng, [near, 0, 0, 0], 1.0, "near the target the loss is a parabola: half the square, when beta is 1")
    yield _moved(
        rng,
        [far, 0, 0, 0],
        1.0,
        "far from the target the loss is a straight line, which must meet the "
        "parabola where |d| is beta: at which height does it start there?",
    )
    yield _moved(
        rng,
        [-far, -near, 0, 0],
        1.0,
        "a prediction below its target is as wrong as one above: it is the "
        "size of the difference that counts, in the choice between the two forms as well as in each",
    )
    yield _moved(
        rng,
        [near, far, -near, far + 1],
        1.0,
        "the four numbers of a box each have a term of their own, and the terms are summed",
    )
    yield _moved(
        rng,
        [near / 4, 0, 0, 0],
        0.25,
        "beta is where the parabola ends and also how wide it is: with a "
        "smaller beta the parabola is steeper, so that its slope is 1 at its end",
    )
    yield _moved(
        rng,
        [far, -far, 0, 0],
        0.5,
        "the line lies beta / 2 below |d|: it must meet the parabola for every beta, not only for 1",
    )
    yield _moved(rng, [1.5, -1.25, 1.75, 0], 2.0, "the parabola reaches as far as beta, which may be larger than 1")
    yield from _smooth_l1_others(
        rng,
        "the sum over no boxes is 0",
        "the loss of all rows is summed; what the sum is divided by is not this function's business",
    )


def _smooth_l1_gradient_cases(rng: np.random.Generator) -> Iterator[Case]:
    yield _moved(
        rng,
        [0, 0, 0, 0],
        1.0,
        "where prediction and target agree the parabola has its lowest point: which slope has it there?",
    )
    far, near = float(rng.integers(3, 9)), float(rng.integers(1, 8)) / 8
    yield _moved(
        rng,
        [near, 0, 0, 0],
        1.0,
        "near the target the loss is a parabola, d^2 / 2 when beta is 1, and the "
        "loss grows as the prediction moves away: what is its derivative with respect to the prediction?",
    )
    yield _moved(
        rng,
        [far, 0, 0, 0],
        1.0,
        "far from the target the loss is a straight line: its slope no longer "
        "depends on how far, which is why one bad box does not spoil a step",
    )
    yield _moved(
        rng, [-near, 0, 0, 0], 1.0, "below the target the parabola falls: the slope has the sign of the difference"
    )
    yield _moved(
        rng,
        [-far, 0, 0, 0],
        1.0,
        "below the target the line falls: the slope has the sign of the "
        "difference, and which form holds is decided by its size",
    )
    yield _moved(rng, [near, far, -near, -far], 1.0, "each number of the prediction has a derivative of its own")
    yield _moved(
        rng,
        [near / 4, 0, 0, 0],
        0.25,
        "the parabola is d^2 / (2 beta), and beta stays in its derivative; "
        "at |d| = beta the slope is 1, whatever beta is",
    )
    yield _moved(
        rng,
        [far, -far, 0, 0],
        0.5,
        "the slope of the line is 1 or -1, whatever beta is: beta only moves the line up and down",
    )
    yield _moved(rng, [1.5, -1.25, 1.75, 0], 2.0, "the parabola reaches as far as beta, which may be larger than 1")
    yield from _smooth_l1_others(
        rng,
        "no boxes at all have a gradient without rows",
        "the loss is a sum, so a row's derivative does not know how many other rows there are",
    )


def _smooth_l1_others(rng: np.random.Generator, of_nothing: str, of_rows: str) -> Iterator[Case]:
    """What is asked about the loss as well as about its gradient."""
    yield Case({"prediction": np.zeros((0, 4)), "target": np.zeros((0, 4)), "beta": 1.0}, of_nothing)
    yield Case({"prediction": _eighths(rng, (2, 4)), "target": _eighths(rng, (2, 4)) + 5, "beta": 1.0}, of_rows)
    yield Case(
        {"prediction": rng.integers(0, 4, (2, 4)), "target": rng.integers(4, 8, (2, 4)), "beta": 8.0},
        "whole numbers are numbers, too; what comes out of a division is not whole",
    )
    yield Case(
        {"prediction": _eighths(rng, (2, 4)).astype(np.float32), "target": _eighths(rng, (2, 4)), "beta": 1.0},
        "predictions come as float32 from a net",
    )
    for count in (1, 3, 6, 20):
        yield Case(
            {
                "prediction": _eighths(rng, (count, 4)),
                "target": _eighths(rng, (count, 4)),
                "beta": float(rng.choice(BETAS)),
            },
            of_rows,
        )


def _moved(rng: np.random.Generator, differences: list[float], beta: float, hint: str) -> Case:
    """One box (1, 4) that misses its target by `differences`."""
    target = _eighths(rng, (1, 4))
    return Case({"prediction": target + differences, "target": target, "beta": beta}, hint)


def _eighths(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Numbers whose differences float32 holds exactly."""
    return rng.integers(-16, 17, shape) / 8


# ---------------------------------------------------------------------- cross-entropy of classes


def cross_entropy_gradient(function: Function, seed: int | None = None) -> None:
    """Nothing where `function(logits, labels)`, (R, L) and (R,), gives the cross-entropy's gradient, (R, L).

    The loss is the mean over the rows of -log softmax(logits)[label]; labels are whole numbers in 0 .. L-1, and 0, the
    background, is a class as any other. No rows have a gradient without rows. Raises CheckFailed, which says what is
    wrong.
    """
    run(
        "cross_entropy_gradient",
        function,
        _cross_entropy_gradient_of,
        _cross_entropy_gradient_cases(np.random.default_rng(seed)),
        rows=(("logits", "labels"),),
    )


def _cross_entropy_gradient_of(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return _gradient(lambda moved: F.cross_entropy(moved, np.asarray(labels)), logits)


def _cross_entropy_gradient_cases(rng: np.random.Generator) -> Iterator[Case]:
    def rows(logits: np.ndarray, labels: list[int], hint: str) -> Case:
        return Case({"logits": np.asarray(logits), "labels": np.array(labels, np.int64)}, hint)

    classes = int(rng.integers(3, 6))
    label = int(rng.integers(1, classes))
    yield rows(
        np.zeros((1, classes)),
        [label],
        "all classes are equally likely here: raising the logit of the true "
        "class makes the loss smaller, raising any other makes it larger, and raising all alike changes nothing",
    )
    yield rows(
        _logits(rng, 1, classes),
        [label],
        "the softmax of the row says how likely the net holds each class: "
        "compare it with what it should have said, class by class",
    )
    yield rows(
        _logits(rng, 1, classes), [0], "label 0 is the background, a class as any other: the head must learn to say it"
    )
    yield rows(
        _logits(rng, 2, classes),
        [label, label],
        "the loss is the mean over the rows, of which each has a softmax of its own: how much does one row count?",
    )
    yield rows(
        _logits(rng, 3, classes),
        [0, label, (label + 1) % classes],
        "each row has its own true class: a row's label says nothing about the other rows",
    )
    yield rows(
        _logits(rng, 1, classes) + 1000,
        [label],
        "exp(1000) is too large for any float; the softmax does not "
        "change when the same number is taken from all logits of a row",
    )
    yield rows(
        _logits(rng, 2, classes) + [[2000], [-2000]],
        [label, 0],
        "these rows lie far apart: what is taken "
        "from a row so that its exponentials fit must come from that row itself",
    )
    yield rows(
        np.zeros((0, classes)),
        [],
        "no rows at all are an ordinary input: the mean over nothing must not become NaN, nor fail",
    )
    yield rows(
        rng.integers(-3, 4, (2, classes)), [label, 0], "whole numbers are numbers, too; a probability is not whole"
    )
    yield rows(_logits(rng, 3, classes).astype(np.float32), [label, 0, label], "logits come as float32 from a net")
    for count in (1, 2, 5, 30):
        yield rows(
            _logits(rng, count, classes),
            rng.integers(0, classes, count).tolist(),
            "rows as they come: go through softmax, true class and mean for this row by hand",
        )


# ---------------------------------------------------------------------- cross-entropy of yes and no


def binary_cross_entropy(function: Function, seed: int | None = None) -> None:
    """Nothing where `function(logits, labels)`, both (A,), gives the mean binary cross-entropy, a number.

    labels: 1 for an object, 0 for none. With p = sigmoid(logit), an anchor loses -log p where the label is 1 and
    -log(1 - p) where it is 0; that must hold for logits of any size. The mean over nothing is 0. Raises CheckFailed,
    which says what is wrong.
    """
    run(
        "binary_cross_entropy",
        function,
        _binary_cross_entropy_of,
        _binary_cross_entropy_cases(np.random.default_rng(seed)),
        rows=(("logits", "labels"),),
    )


def _binary_cross_entropy_of(logits: np.ndarray, labels: np.ndarray) -> float:
    return float(F.binary_cross_entropy_with_logits(Tensor(_as_float(logits)), labels).data)


def _binary_cross_entropy_cases(rng: np.random.Generator) -> Iterator[Case]:
    z = float(rng.integers(2, 12)) / 4
    large = float(rng.integers(40, 60))
    yield _anchors([0.0], [1], "a logit of 0 says one half: the natural logarithm of that, with which sign?")
    yield _anchors(
        [z],
        [1],
        "a logit is no probability yet: the sigmoid makes one of it, and the loss of an object is "
        "small where that is near 1",
    )
    yield _anchors([-z], [0], "for an anchor without an object, 1 - p is the probability of the right answer")
    yield _anchors([z], [0], "the surer the net is of an object where there is none, the more it loses")
    yield _anchors([-z, z, 0.0], [1, 1, 0], "the loss is the mean over all anchors, those of both labels alike")
    yield _anchors(
        [-large], [1], "a logit far on the wrong side: the loss grows as far as the logit does, and nothing cuts it off"
    )
    yield _anchors(
        [large, 0.5],
        [0, 1],
        "a logit far on the wrong side: here 1 - p is 0 in every float, and its "
        "logarithm is lost; write log(1 - p) in terms of the logit before you compute it",
    )
    yield _anchors(
        [1000.0, 1000.0, z],
        [1, 0, 1],
        "exp(1000) is too large for any float, and yet the loss of these is "
        "finite; let only exponentials of numbers below 0 be computed",
    )
    yield _anchors(
        [-1000.0, -1000.0, z],
        [1, 0, 0],
        "exp(-z) is too large for any float where z is -1000, and yet the "
        "loss of these is finite; let only exponentials of numbers below 0 be computed",
    )
    yield _anchors([], [], "no anchors at all are an ordinary input: the mean over nothing is 0 here, not NaN")
    yield Case(
        {"logits": rng.integers(1, 5, 3), "labels": np.array([1, 0, 1])},
        "whole numbers are numbers, too; a loss is not whole",
    )
    yield Case(
        {"logits": _logits(rng, 4).astype(np.float32), "labels": np.array([1, 0, 0, 1])},
        "logits come as float32 from a net",
    )
    for count in (1, 2, 8, 40):
        yield _anchors(
            _logits(rng, count).tolist(),
            rng.integers(0, 2, count).tolist(),
            "anchors as they come: go through sigmoid, logarithm and mean for these by hand",
        )


# ---------------------------------------------------------------------- the loss of the RPN's objectness


def rpn_loss_gradient(function: Function, seed: int | None = None) -> None:
    """Nothing where `function(logits, labels)`, both (A,), gives the gradient of the RPN's objectness loss, (A,).

    labels: 1 for an object, 0 for background, -1 for an anchor that was not sampled. The loss is the mean binary
    cross-entropy over the anchors that were sampled; there is a derivative for each logit. If none was sampled, all are
    0. Raises CheckFailed, which says what is wrong.
    """
    run(
        "rpn_loss_gradient",
        function,
        _rpn_loss_gradient_of,
        _rpn_loss_gradient_cases(np.random.default_rng(seed)),
        rows=(("logits", "labels"),),
    )


def _rpn_loss_gradient_of(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    sampled = np.flatnonzero(labels != NOT_SAMPLED)
    return _gradient(lambda moved: F.binary_cross_entropy_with_logits(moved[sampled], labels[sampled]), logits)


def _rpn_loss_gradient_cases(rng: np.random.Generator) -> Iterator[Case]:
    z = float(rng.integers(2, 12)) / 4
    yield _anchors(
        [0.0],
        [1],
        "a larger logit makes the loss of an object smaller: which sign has the derivative? And "
        "how far is one half from what it should be?",
    )
    yield _anchors(
        [z],
        [1],
        "the derivative of -log(sigmoid) is simpler than the sigmoid's own: in the chain rule "
        "nearly everything cancels",
    )
    yield _anchors(
        [z],
        [0],
        "an anchor of the background pushes its logit down, the harder the surer it was; a "
        "image without objects has only such anchors, and they teach as well",
    )
    yield _anchors(
        [z, -z, 0.5],
        [1, 0, 0],
        "the loss is the mean over the sampled anchors, positive and negative: how much does one of them count?",
    )
    yield _anchors(
        [z, 0.5],
        [1, -1],
        "an anchor that was not sampled has no part in the loss: moving its logit "
        "changes nothing, nor does it count in the mean",
    )
    yield _anchors(
        [z, 0.5, -z, z, -0.25],
        [-1, 0, -1, 1, 0],
        "there is a derivative for every logit, in the order of "
        "the anchors, and the mean is over those sampled: labels of -1 are neither objects nor background, "
        "nor to be summed",
    )
    yield _anchors(
        [z, -z, 0.5],
        [-1, -1, -1],
        "no anchor was sampled: the loss is 0 whatever the logits, so every "
        "derivative is 0, and nothing may be divided by 0",
    )
    yield _anchors(
        [1000.0, -1000.0],
        [0, 1],
        "exp(1000) is too large for any float; let only exponentials of numbers below 0 be computed",
    )
    yield _anchors(
        [-1000.0, 1000.0, z],
        [0, 1, 0],
        "exp(1000) is too large for any float; let only exponentials of numbers below 0 be computed",
    )
    yield _anchors([], [], "no anchors at all are an ordinary input: the gradient is as empty as they are")
    yield Case(
        {"logits": rng.integers(-3, 4, 3), "labels": np.array([1, 0, -1])},
        "whole numbers are numbers, too; a derivative is not whole",
    )
    yield Case(
        {"logits": _logits(rng, 4).astype(np.float32), "labels": np.array([1, 0, -1, 1])},
        "logits come as float32 from a net",
    )
    for count in (1, 3, 10, 50):
        yield _anchors(
            _logits(rng, count).tolist(),
            rng.integers(-1, 2, count).tolist(),
            "anchors as they come: go through sigmoid, label and mean for these by hand",
        )


# ---------------------------------------------------------------------- what they share


def _gradient(loss: Callable[[Tensor], Tensor], at: np.ndarray) -> np.ndarray:
    """The gradient of a scalar `loss` with respect to the array that it is taken at, of that array's shape."""
    moved = Tensor(_as_float(at), requires_grad=True)
    loss(moved).backward()
    return np.asarray(moved.grad)


def _as_float(values: np.ndarray) -> np.ndarray:
    return np.asarray(values, np.float64)


def _anchors(logits: list[float], labels: list[int], hint: str) -> Case:
    return Case({"logits": np.array(logits, float), "labels": np.array(labels, np.int64)}, hint)


def _logits(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Logits of any shape, of either sign, that float32 holds exactly, with 1000 added, too."""
    return rng.integers(-48, 49, shape) / 16

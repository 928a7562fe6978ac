"""Checks of losses and gradients: smooth L1, (binary) cross-entropy, and the objectness loss of the RPN."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from rcnn._ext.dispatch import original
from rcnn.checks import _inputs
from rcnn.checks._engine import Case, Function, generator_of, run
from rcnn.nn import Tensor
from rcnn.nn import functional as F

BETAS = (1 / 9, 0.5, 1.0, 2.0, 3.0)
FLOAT32 = 100.0  # a logit whose exponential is infinite in float32, but not in float64
NOT_SAMPLED = -1
LONG = 620  # rows: more than two blocks of 256, and not a multiple of a power of two


# ---------------------------------------------------------------------- smooth L1


@original
def smooth_l1(function: Function, seed: int | None = None) -> None:
    """Raise CheckFailed unless `function` returns the sum of the smooth L1 terms.

    Parameters
    ----------
    function : callable
        ``function(prediction, target, beta)``. The first two arguments are (N, 4) arrays with four numbers for each of
        N boxes. The function returns a number. With d = prediction - target, the term of an element is d^2 / (2 beta)
        if abs(d) < beta, and abs(d) - beta / 2 otherwise. The result is the sum of all terms. Do not divide this sum,
        because the caller does that.
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
    Girshick, "Fast R-CNN", 2015, section 2.3, where beta is 1.
    """
    run(
        "smooth_l1",
        function,
        _smooth_l1_of,
        _smooth_l1_cases(generator_of(seed)),
        rows=(("prediction", "target"),),
        of_factor="The result is the sum of the terms of all elements. Do not divide it: the caller does that.",
    )


@original
def smooth_l1_gradient(function: Function, seed: int | None = None) -> None:
    """Raise CheckFailed unless `function` returns the gradient of smooth L1.

    Parameters
    ----------
    function : callable
        ``function(prediction, target, beta)``. The first two arguments are (N, 4) arrays with four numbers for each of
        N boxes. The function returns the derivative of the sum of all terms with respect to each element of
        `prediction`, (N, 4).
    seed : int, optional
        Seed for the random inputs. Without it, every call uses new inputs.

    Raises
    ------
    CheckFailed
        If any result is wrong. The message shows a hint and the smallest failing input that was found.
    TypeError
        If `function` is not callable.
    """
    run(
        "smooth_l1_gradient",
        function,
        _smooth_l1_gradient_of,
        _smooth_l1_gradient_cases(generator_of(seed)),
        rows=(("prediction", "target"),),
        of_factor="The loss is the sum of the terms of all elements. It is not divided, and neither is its gradient.",
    )


def _smooth_l1_of(prediction: np.ndarray, target: np.ndarray, beta: float) -> float:
    return float(F.smooth_l1_loss(Tensor(_as_float(prediction)), _as_float(target), beta).data)


def _smooth_l1_gradient_of(prediction: np.ndarray, target: np.ndarray, beta: float) -> np.ndarray:
    return _gradient(lambda moved: F.smooth_l1_loss(moved, _as_float(target), beta), prediction)


def _smooth_l1_cases(rng: np.random.Generator) -> Iterator[Case]:
    yield _moved(rng, [0, 0, 0, 0], 1.0, "Prediction and target are equal, so the loss is 0.")
    far, near = float(rng.integers(3, 9)), float(rng.integers(1, 8)) / 8
    yield _moved(
        rng,
        [near, 0, 0, 0],
        1.0,
        "Near the target, the loss is a parabola: half the square of the difference if beta is 1.",
    )
    yield _moved(
        rng,
        [far, 0, 0, 0],
        1.0,
        "Far from the target, the loss is a straight line. It must meet the parabola where |d| equals beta. What is "
        "the value of the loss there?",
    )
    yield _moved(
        rng,
        [-far, -near, 0, 0],
        1.0,
        "A prediction below its target is as wrong as a prediction above it. Only the absolute difference counts, "
        "both for the choice between parabola and line and for their values.",
    )
    yield _moved(
        rng,
        [near, far, -near, far + 1],
        1.0,
        "Each of the four numbers of a box has its own term, and the terms are summed.",
    )
    yield _moved(
        rng,
        [near / 4, 0, 0, 0],
        0.25,
        "Beta is the distance at which the parabola ends. A smaller beta makes the parabola steeper, so that its "
        "slope is 1 where it ends.",
    )
    yield _moved(
        rng,
        [far, -far, 0, 0],
        0.5,
        "The line lies beta / 2 below |d|. It must meet the parabola for every beta, not only for beta = 1.",
    )
    yield _moved(
        rng, [1.5, -1.25, 1.75, 0], 2.0, "The parabola extends to a distance of beta, and beta may be larger than 1."
    )
    yield from _smooth_l1_others(
        rng,
        "Zero boxes are valid input: the sum is 0.",
        "Return the sum over all rows. The caller divides it, not this function.",
    )


def _smooth_l1_gradient_cases(rng: np.random.Generator) -> Iterator[Case]:
    yield _moved(
        rng,
        [0, 0, 0, 0],
        1.0,
        "Prediction and target are equal, so the loss is at the lowest point of the parabola. What is the slope there?",
    )
    far, near = float(rng.integers(3, 9)), float(rng.integers(1, 8)) / 8
    yield _moved(
        rng,
        [near, 0, 0, 0],
        1.0,
        "Near the target, the loss is a parabola, d^2 / 2 if beta is 1. It grows as the prediction moves away from "
        "the target. What is its derivative with respect to the prediction?",
    )
    yield _moved(
        rng,
        [far, 0, 0, 0],
        1.0,
        "Far from the target, the loss is a straight line. Its slope no longer depends on the distance, so one bad "
        "box cannot dominate a step.",
    )
    yield _moved(
        rng,
        [-near, 0, 0, 0],
        1.0,
        "If the prediction is below the target, the parabola falls: the slope has the sign of the difference.",
    )
    yield _moved(
        rng,
        [-far, 0, 0, 0],
        1.0,
        "If the prediction is below the target, the line falls: the slope has the sign of the difference. Use the "
        "absolute difference to choose between parabola and line.",
    )
    yield _moved(rng, [near, far, -near, -far], 1.0, "Each number of the prediction has its own derivative.")
    yield _moved(
        rng,
        [near / 4, 0, 0, 0],
        0.25,
        "The parabola is d^2 / (2 beta), and beta stays in its derivative. At |d| = beta, the slope is 1 for every "
        "beta.",
    )
    yield _moved(
        rng,
        [far, -far, 0, 0],
        0.5,
        "The slope of the line is 1 or -1 for every beta. Beta only moves the line up and down.",
    )
    yield _moved(
        rng, [1.5, -1.25, 1.75, 0], 2.0, "The parabola extends to a distance of beta, and beta may be larger than 1."
    )
    yield from _smooth_l1_others(
        rng,
        "Zero boxes are valid input: the gradient has no rows.",
        "The loss is a sum, so the derivatives of a row do not depend on the number of rows.",
    )


def _smooth_l1_others(rng: np.random.Generator, of_nothing: str, of_rows: str) -> Iterator[Case]:
    """Yield the cases that the loss and its gradient have in common."""
    yield Case({"prediction": np.zeros((0, 4)), "target": np.zeros((0, 4)), "beta": 1.0}, of_nothing)
    yield Case({"prediction": _eighths(rng, (2, 4)), "target": _eighths(rng, (2, 4)) + 5, "beta": 1.0}, of_rows)
    for name in ("prediction", "target"):
        given = {"prediction": _eighths(rng, (2, 4)) + 5, "target": _eighths(rng, (2, 4)) + 5, name: np.zeros((2, 4))}
        yield Case({**given, "beta": 1.0}, f"All numbers of `{name}` are 0, but there are two boxes. {_inputs.ZEROS}")
    yield Case(
        {"prediction": rng.integers(0, 4, (2, 4)), "target": rng.integers(4, 8, (2, 4)), "beta": 8.0},
        "Integers are valid input, but the result of a division need not be an integer.",
    )
    yield Case(
        {"prediction": np.array([[2, 1, 0, 3]]), "target": np.array([[1.5, 1.25, 0.75, 0.5]]), "beta": 1.0},
        "The predictions are integers here, but the targets and the differences are not.",
    )
    yield Case(
        {"prediction": _eighths(rng, (2, 4)).astype(np.float32), "target": _eighths(rng, (2, 4)), "beta": 1.0},
        "A network returns predictions as float32.",
    )
    yield Case(
        {"prediction": _eighths(rng, (3, 4)) * 1e4, "target": _eighths(rng, (3, 4)), "beta": 1.0},
        "These predictions are far from their targets, on both sides.",
    )
    yield Case(
        {"prediction": _eighths(rng, (4, 4)) / 64, "target": _eighths(rng, (4, 4)) / 64, "beta": 1 / 9},
        "Beta may be any positive number. Faster R-CNN uses 1/9. Here many differences are smaller than beta, and some "
        "are larger.",
    )
    yield Case(
        {"prediction": 1000 + _eighths(rng, (3, 4)), "target": 1000 + _eighths(rng, (3, 4)) / 16, "beta": 1.0},
        "Prediction and target are large, but their difference is small. Half precision (float16) loses it.",
    )
    for count in (1, 3, 4, 6, 20):
        yield Case(
            {
                "prediction": _eighths(rng, (count, 4)),
                "target": _eighths(rng, (count, 4)),
                "beta": float(rng.choice(BETAS)),
            },
            of_rows,
        )
    yield Case({"prediction": _eighths(rng, (LONG, 4)), "target": _eighths(rng, (LONG, 4)), "beta": 1.0}, of_rows)


def _moved(rng: np.random.Generator, differences: list[float], beta: float, hint: str) -> Case:
    """Return a case of one box (1, 4) that differs from its target by `differences`."""
    target = _eighths(rng, (1, 4))
    return Case({"prediction": target + differences, "target": target, "beta": beta}, hint)


def _eighths(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Generate random numbers whose differences float32 represents exactly."""
    return rng.integers(-16, 17, shape) / 8


# ---------------------------------------------------------------------- cross-entropy of classes


@original
def cross_entropy_gradient(function: Function, seed: int | None = None) -> None:
    """Raise CheckFailed unless `function` returns the gradient of the cross-entropy.

    Parameters
    ----------
    function : callable
        ``function(logits, labels)``. `logits` is an (R, L) array, and `labels` is an (R,) array of integers in 0 ..
        L-1, for R rows and L classes. The function returns the derivatives of the loss with respect to the logits, (R,
        L). The loss is the mean of -log softmax(logits)[label] over the rows. Label 0, the background, is an ordinary
        class. If there are no rows (R = 0), the gradient has shape (0, L).
    seed : int, optional
        Seed for the random inputs. Without it, every call uses new inputs.

    Raises
    ------
    CheckFailed
        If any result is wrong. The message shows a hint and the smallest failing input that was found.
    TypeError
        If `function` is not callable.
    """
    run(
        "cross_entropy_gradient",
        function,
        _cross_entropy_gradient_of,
        _cross_entropy_gradient_cases(generator_of(seed)),
        rows=(("logits", "labels"),),
        of_factor="The loss is the mean over the rows: the sum is divided by the number of rows, and by nothing else.",
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
        "All classes are equally likely here. If the logit of the true class rises, the loss falls. If any other "
        "logit rises, the loss rises. If all logits rise equally, the loss does not change.",
    )
    yield rows(
        _logits(rng, 1, classes),
        [label],
        "The softmax of the row gives the predicted probability of each class. Compare it, class by class, with the "
        "probabilities that should be predicted.",
    )
    yield rows(
        _logits(rng, 1, classes),
        [0],
        "Label 0, the background, is an ordinary class: the network must learn to predict it.",
    )
    yield rows(
        _logits(rng, 2, classes),
        [label, label],
        "The loss is the mean over the rows, and each row has its own softmax. How much does one row contribute to "
        "the loss?",
    )
    yield rows(
        _logits(rng, 3, classes),
        [0, label, (label + 1) % classes],
        "Each row has its own true class, and its label does not affect the other rows.",
    )
    yield rows(
        _logits(rng, 1, classes) + 1000,
        [label],
        "exp(1000) is too large for any float. The softmax does not change when the same number is subtracted from "
        "all logits of a row.",
    )
    yield rows(
        _logits(rng, 2, classes) + [[2000], [-2000]],
        [label, 0],
        "The logits of these two rows are far apart. Before taking exponentials, subtract a number from each row. "
        "This number must come from the same row.",
    )
    yield rows(
        np.zeros((0, classes)),
        [],
        "Zero rows are valid input: the mean over no rows must not become NaN or raise an error.",
    )
    yield rows(
        rng.integers(-3, 4, (2, classes)),
        [label, 0],
        "Integers are valid input, but a probability need not be an integer.",
    )
    yield rows(_logits(rng, 3, classes).astype(np.float32), [label, 0, label], "A network returns logits as float32.")
    spread = _logits(rng, 1, classes)
    for number in np.delete(np.arange(classes), label).tolist():
        yield rows(
            spread + 1000.0 * (np.arange(classes) == number),
            [label],
            "One logit of this row is far above all others, wherever it stands. Before taking exponentials, subtract "
            "the largest logit of the row, so that every exponential is at most 1.",
        )
    yield rows(
        spread - 1000.0 * (np.arange(classes) == label),
        [label],
        "The logit of the true class is far below all others. Its softmax is 0, and the gradient is still finite.",
    )
    single = _logits(rng, 3, classes) + FLOAT32 * rng.permutation([1, -1, 0])[:, None]
    single[0, label] += FLOAT32
    yield rows(
        single.astype(np.float32),
        [label, 0, classes - 1],
        "exp(100) is too large for float32. Before taking exponentials, subtract the largest logit of each row.",
    )
    yield rows(
        np.repeat(_logits(rng, 2, classes), [3, 1], axis=0),
        [label, label, 0, label],
        "Equal rows count separately: the mean is over all rows.",
    )
    for count in (classes, 2, 4):
        yield rows(
            _logits(rng, count, classes if count != 2 else 2),
            rng.integers(0, 2, count).tolist(),
            "Rows and classes may be equally many. A sum or a maximum over the classes is a sum along each row.",
        )
    for far in (6.0, 9.0):
        yield rows(
            np.stack([far * np.eye(classes)[label], _logits(rng, classes)]),
            [label, 0],
            "For the first row, the network is right and certain, so its derivatives are small, but not 0. Do not "
            "round the probabilities.",
        )
    for count in (1, 2, 5, 30):
        yield rows(
            _logits(rng, count, classes),
            rng.integers(0, classes, count).tolist(),
            "These rows are random. Work out the softmax, the true class and the mean for this row by hand.",
        )


# ---------------------------------------------------------------------- binary cross-entropy


@original
def binary_cross_entropy(function: Function, seed: int | None = None) -> None:
    """Raise CheckFailed unless `function` returns the mean binary cross-entropy.

    Parameters
    ----------
    function : callable
        ``function(logits, labels)``. The arguments are (A,) arrays: the logits of A anchors, and their labels (1 for an
        object, 0 for no object). The function returns a number. With p = sigmoid(logit), the loss of an anchor is -log
        p if its label is 1, and -log(1 - p) if its label is 0. The result is the mean over the anchors, or 0 if there
        are no anchors. It must be accurate for logits of any size.
    seed : int, optional
        Seed for the random inputs. Without it, every call uses new inputs.

    Raises
    ------
    CheckFailed
        If any result is wrong. The message shows a hint and the smallest failing input that was found.
    TypeError
        If `function` is not callable.
    """
    run(
        "binary_cross_entropy",
        function,
        _binary_cross_entropy_of,
        _binary_cross_entropy_cases(generator_of(seed)),
        rows=(("logits", "labels"),),
    )


def _binary_cross_entropy_of(logits: np.ndarray, labels: np.ndarray) -> float:
    return float(F.binary_cross_entropy_with_logits(Tensor(_as_float(logits)), labels).data)


def _binary_cross_entropy_cases(rng: np.random.Generator) -> Iterator[Case]:
    z = float(rng.integers(2, 12)) / 4
    large = float(rng.integers(40, 60))
    yield _anchors(
        [0.0],
        [1],
        "A logit of 0 is a probability of 1/2. What is the natural logarithm of 1/2, and with which sign does it "
        "enter the loss?",
    )
    yield _anchors(
        [z],
        [1],
        "A logit is not a probability. The sigmoid turns a logit into a probability. The loss of an object is small "
        "if this probability is close to 1.",
    )
    yield _anchors([-z], [0], "For an anchor without an object, 1 - p is the probability of the right answer.")
    yield _anchors([z], [0], "The more certain the network is of an object that is not there, the larger the loss is.")
    yield _anchors([-z, z, 0.0], [1, 1, 0], "The loss is the mean over all anchors, whether their label is 1 or 0.")
    yield _anchors(
        [-large],
        [1],
        "This logit is far from 0 and has the wrong sign. The loss grows in proportion to such a logit and has no "
        "upper limit.",
    )
    yield _anchors(
        [large, 0.5],
        [0, 1],
        "The large logit has the wrong sign. Here 1 - p rounds to 0, so its logarithm is not finite. Write log(1 - p) "
        "in terms of the logit before you compute it.",
    )
    yield _anchors(
        [1000.0, 1000.0, z],
        [1, 0, 1],
        "exp(1000) is too large for any float, but the loss of these anchors is finite. Compute exponentials of "
        "negative numbers only.",
    )
    yield _anchors(
        [-1000.0, -1000.0, z],
        [1, 0, 0],
        "For a logit z of -1000, exp(-z) is too large for any float, but the loss of these anchors is finite. Compute "
        "exponentials of negative numbers only.",
    )
    yield _anchors([], [], "Zero anchors are valid input: the mean over no anchors is 0 here, not NaN.")
    yield Case(
        {"logits": rng.integers(1, 5, 3), "labels": np.array([1, 0, 1])},
        "Integers are valid input, but a loss need not be an integer.",
    )
    yield Case(
        {"logits": np.array([300, -200, 100_000, -70_000]), "labels": np.array([0, 1, 0, 0])},
        "Logits may be large integers. Convert them to floats of full precision, not to a smaller type.",
    )
    yield Case(
        {"logits": _logits(rng, 4).astype(np.float32), "labels": np.array([1, 0, 0, 1])},
        "A network returns logits as float32.",
    )
    for sign in (1, -1):
        logits = np.array([FLOAT32, -FLOAT32, z, 300], np.float32) * sign
        yield Case(
            {"logits": logits.astype(np.float32), "labels": np.array([0, 1, 1, 0])},
            "exp(100) is too large for float32, but the loss of these anchors is finite. Compute exponentials of "
            "negative numbers only.",
        )
    for far in (6.0, 9.0, 13.0):
        yield _anchors(
            [-far, -far - z],  # for these, float32 is precise, too
            [0, 0],
            "The network is right and certain here, so the losses are small, but not 0. Do not limit the probability, "
            "and do not drop a small term of the loss.",
        )
    for far in (5.25, 7.5):
        yield _anchors(
            [far, -far],
            [0, 1],
            "The network is wrong and certain here. The loss is nearly the absolute value of the logit, but it is a "
            "little larger: a small term remains.",
        )
    for given in ([1, 1], [0, 0, 0]):
        yield _anchors(
            _logits(rng, len(given)).tolist(),
            given,
            "All anchors have the same label here. The loss is the mean over all anchors, not over one kind.",
        )
    for count in (1, 2, 8, 40):
        yield _anchors(
            _logits(rng, count).tolist(),
            rng.integers(0, 2, count).tolist(),
            "These anchors are random. Work out the sigmoid, the logarithm and the mean for them by hand.",
        )
    yield _anchors(
        _logits(rng, LONG).tolist(),
        [*[1] * (LONG // 50), *[0] * (LONG - LONG // 50)],
        "There are hundreds of anchors, and few are positive. Every anchor has the same weight in the mean.",
    )


# ---------------------------------------------------------------------- the loss of the RPN's objectness


@original
def rpn_loss_gradient(function: Function, seed: int | None = None) -> None:
    """Raise CheckFailed unless `function` returns the gradient of the RPN's objectness loss.

    Parameters
    ----------
    function : callable
        ``function(logits, labels)``. The arguments are (A,) arrays: the logits of A anchors, and their labels (1 for an
        object, 0 for background, -1 for an anchor that was not sampled). The function returns the derivative of the
        loss with respect to every logit, (A,). The loss is the mean binary cross-entropy over the sampled anchors. If
        no anchor was sampled, all derivatives are 0.
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
    Ren et al., "Faster R-CNN", 2015, section 3.1.2.
    """
    run(
        "rpn_loss_gradient",
        function,
        _rpn_loss_gradient_of,
        _rpn_loss_gradient_cases(generator_of(seed)),
        rows=(("logits", "labels"),),
        of_factor="The loss is the mean over the sampled anchors: the sum is divided by the number of anchors whose "
        "label is 0 or 1 in this call, and by nothing else.",
    )


def _rpn_loss_gradient_of(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    sampled = np.flatnonzero(labels != NOT_SAMPLED)
    return _gradient(lambda moved: F.binary_cross_entropy_with_logits(moved[sampled], labels[sampled]), logits)


def _rpn_loss_gradient_cases(rng: np.random.Generator) -> Iterator[Case]:
    z = float(rng.integers(2, 12)) / 4
    yield _anchors(
        [0.0],
        [1],
        "A larger logit makes the loss of an object smaller. Which sign does the derivative have? And how far is the "
        "probability, 1/2, from the label?",
    )
    yield _anchors(
        [z],
        [1],
        "The derivative of -log(sigmoid(z)) is simpler than the derivative of sigmoid(z), because nearly everything "
        "cancels in the chain rule.",
    )
    yield _anchors(
        [z],
        [0],
        "The gradient of a background anchor lowers its logit. The more certain the network is of an object, the "
        "larger this gradient is. An image without objects has only background anchors, and they contribute to the "
        "gradient, too.",
    )
    yield _anchors(
        [z, -z, 0.5],
        [1, 0, 0],
        "The loss is the mean over the sampled anchors, positive and negative. How much does one anchor contribute to "
        "the loss?",
    )
    yield _anchors(
        [z, 0.5],
        [1, -1],
        "An anchor that was not sampled does not contribute to the loss. Its logit does not change the loss, and the "
        "anchor does not count in the mean.",
    )
    yield _anchors(
        [z, 0.5, -z, z, -0.25],
        [-1, 0, -1, 1, 0],
        "Return a derivative for every logit, in the order of the anchors. The mean is over the sampled anchors only. "
        "A label of -1 is neither object nor background, and must not enter a sum.",
    )
    yield _anchors(
        [z, -z, 0.5],
        [-1, -1, -1],
        "No anchor was sampled, so the loss is 0 for any logits, and every derivative is 0. Do not divide by 0.",
    )
    yield _anchors(
        [1000.0, -1000.0],
        [0, 1],
        "exp(1000) is too large for any float. Compute exponentials of negative numbers only.",
    )
    yield _anchors(
        [-1000.0, 1000.0, z],
        [0, 1, 0],
        "exp(1000) is too large for any float. Compute exponentials of negative numbers only.",
    )
    yield _anchors([], [], "Zero anchors are valid input: the gradient is empty, too.")
    yield Case(
        {"logits": rng.integers(-3, 4, 3), "labels": np.array([1, 0, -1])},
        "Integers are valid input, but a derivative need not be an integer.",
    )
    yield Case(
        {"logits": _logits(rng, 4).astype(np.float32), "labels": np.array([1, 0, -1, 1])},
        "A network returns logits as float32.",
    )
    for sign in (1, -1):
        logits = np.array([FLOAT32, -FLOAT32, z, 300], np.float32) * sign
        yield Case(
            {"logits": logits.astype(np.float32), "labels": np.array([0, 1, -1, 1])},
            "exp(100) is too large for float32. Compute exponentials of negative numbers only.",
        )
    for far in (6.0, 9.0):
        yield _anchors(
            [-far, far, z],
            [0, 1, 0],
            "For two of these anchors, the network is right and certain, so their derivatives are small, but not 0. Do "
            "not round the probabilities.",
        )
    for given in ([1, 1], [0, 0, 0], [-1, 1, 1, -1, -1], [0, -1, -1]):
        yield _anchors(
            _logits(rng, len(given)).tolist(),
            given,
            "All sampled anchors have the same label here. The mean is over the sampled anchors.",
        )
    for count in (1, 3, 10, 50):
        yield _anchors(
            _logits(rng, count).tolist(),
            rng.integers(-1, 2, count).tolist(),
            "These anchors are random. Work out the sigmoid, the label and the mean for them by hand.",
        )
    yield _anchors(
        _logits(rng, LONG).tolist(),
        [*[1] * (LONG // 50), *[0] * (LONG - LONG // 50)],
        "There are hundreds of sampled anchors, and few are positive. Every sampled anchor has the same weight in the "
        "mean, and their number is that of this sample.",
    )


# ---------------------------------------------------------------------- shared helpers


def _gradient(loss: Callable[[Tensor], Tensor], at: np.ndarray) -> np.ndarray:
    """Return the gradient of a scalar `loss` at the array `at`, with the shape of `at`."""
    moved = Tensor(_as_float(at), requires_grad=True)
    loss(moved).backward()
    return np.asarray(moved.grad)


def _as_float(values: np.ndarray) -> np.ndarray:
    return np.asarray(values, np.float64)


def _anchors(logits: list[float], labels: list[int], hint: str) -> Case:
    return Case({"logits": np.array(logits, float), "labels": np.array(labels, np.int64)}, hint)


def _logits(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Draw positive and negative logits that float32 represents exactly, even after 2000 is added."""
    return rng.integers(-48, 49, shape) / 16

"""Answers to `checks.smooth_l1_gradient`."""

import numpy as np

from mutants import answer


def clipped(prediction, target, beta):
    return np.clip((np.asarray(prediction, float) - target) / beta, -1, 1)


def by_loops(prediction, target, beta=1.0):
    return [
        [_slope(p - t, beta) for p, t in zip(row, wanted, strict=True)]
        for row, wanted in zip(prediction, target, strict=True)
    ]


def in_float32(prediction, target, beta):
    d = np.subtract(prediction, target, dtype=np.float32)
    return np.where(np.abs(d) < beta, d / np.float32(beta), np.sign(d))


def _slope(d, beta):
    if abs(d) <= beta:
        return d / beta
    return 1.0 if d > 0 else -1.0


def _d(prediction, target):
    return np.asarray(prediction, float) - target


def sign_flipped(prediction, target, beta):
    return clipped(target, prediction, beta)


def not_clipped(prediction, target, beta):
    return _d(prediction, target) / beta


def sign_everywhere(prediction, target, beta):
    return np.sign(_d(prediction, target))


def one_at_the_target(prediction, target, beta):
    d = _d(prediction, target)
    return np.where(np.abs(d) < beta, d / beta, np.sign(d)) + (d == 0)


def square_without_half(prediction, target, beta):
    d = _d(prediction, target)
    return np.where(np.abs(d) < beta, 2 * d / beta, np.sign(d))


def of_the_size(prediction, target, beta):
    return np.abs(clipped(prediction, target, beta))


def no_absolute_value_in_the_choice(prediction, target, beta):
    d = _d(prediction, target)
    return np.where(d < beta, d / beta, np.sign(d))


def line_always_rising(prediction, target, beta):
    d = _d(prediction, target)
    return np.where(np.abs(d) < beta, d / beta, 1)


def beta_left_out(prediction, target, beta):
    d = _d(prediction, target)
    return np.where(np.abs(d) < beta, d, np.sign(d))


def line_over_beta(prediction, target, beta):
    d = _d(prediction, target)
    return np.where(np.abs(d) < beta, d / beta, np.sign(d) / min(beta, 1))


def parabola_up_to_one(prediction, target, beta):
    d = _d(prediction, target)
    return np.where(np.abs(d) < min(beta, 1), d / beta, np.sign(d))


def mean_of_rows(prediction, target, beta):
    return clipped(prediction, target, beta) / max(len(prediction), 1)


def summed(prediction, target, beta):
    return clipped(prediction, target, beta).sum()


def the_loss_itself(prediction, target, beta):
    d = np.abs(_d(prediction, target))
    return np.where(d < beta, d**2 / (2 * beta), d - beta / 2)


def fails_without_boxes(prediction, target, beta):
    return np.stack([clipped(p, t, beta) for p, t in zip(prediction, target, strict=True)])


def whole_numbers(prediction, target, beta):
    gradient = np.zeros_like(prediction)
    gradient[:] = clipped(prediction, target, beta)
    return gradient


def changes_the_prediction(prediction, target, beta):
    prediction -= target
    return clipped(prediction, 0, beta)


def forgets_to_return(prediction, target, beta):
    clipped(prediction, target, beta)


RIGHT = (clipped, by_loops, in_float32)
WRONG = (
    (sign_flipped, "as the prediction moves away"),
    (not_clipped, "no longer depends on the distance"),
    (sign_everywhere, "What is its derivative"),
    (one_at_the_target, "lowest point"),
    (square_without_half, "What is its derivative"),
    (of_the_size, "the parabola falls"),
    (no_absolute_value_in_the_choice, "the absolute difference to choose between"),
    (line_always_rising, "the line falls"),
    (beta_left_out, "beta stays in its derivative"),
    (line_over_beta, "only moves the line up and down"),
    (parabola_up_to_one, "larger than 1"),
    (mean_of_rows, "It is not divided"),
    (summed, r"expected \(1, 4\)"),
    (the_loss_itself, "What is its derivative"),
    (fails_without_boxes, "Zero boxes are valid input: the gradient"),
    (whole_numbers, "a division need not be an integer"),
    (changes_the_prediction, "changes its argument 'prediction'"),
    (forgets_to_return, "without `return`"),
)
WRONG += (  # each with the description of a misconception
    answer("beta is 1/3 at least", lambda p, t, b: clipped(p, t, max(b, 1 / 3))),
    answer("beta is 1 at most", lambda p, t, b: clipped(p, t, min(b, 1.0))),
    answer("divided by four", lambda p, t, b: clipped(p, t, b) / 4, "quarter"),
    answer(
        "divided by the number of rows above three", lambda p, t, b: clipped(p, t, b) / (len(p) if len(p) > 3 else 1)
    ),
    answer("only the first row has a gradient", lambda p, t, b: clipped(p, t, b) * (np.arange(len(p)) == 0)[:, None]),
    answer("only dx and dy have a gradient", lambda p, t, b: clipped(p, t, b) * (1, 1, 0, 0)),
    answer("the gradient of the target", lambda p, t, b: clipped(t, p, b), "opposite sign|It grows"),
    answer(
        "signs of the line where d equals beta half",
        lambda p, t, b: np.where(np.abs(_d(p, t)) < b / 2, _d(p, t) / b, np.sign(_d(p, t))),
    ),
    answer("tanh, which is nearly the same", lambda p, t, b: np.tanh(_d(p, t) / b)),
    answer("transposed where it is square", lambda p, t, b: clipped(p, t, b).T if len(p) == 4 else clipped(p, t, b)),
    answer("a tuple with the loss", lambda p, t, b: (0.0, clipped(p, t, b))),
    answer("as integers", lambda p, t, b: clipped(p, t, b).astype(int)),
    answer("no boxes give an array of shape (0,)", lambda p, t, b: np.array(clipped(p, t, b).tolist())),
)

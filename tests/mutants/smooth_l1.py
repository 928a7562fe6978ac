"""Answers to `checks.smooth_l1`."""

import numpy as np

from mutants import answer


def vectorised(prediction, target, beta):
    d = np.abs(np.asarray(prediction, float) - target)
    return np.where(d < beta, d**2 / (2 * beta), d - beta / 2).sum()


def by_loops(prediction, target, beta=1.0):
    total = 0.0
    for row, wanted in zip(prediction, target, strict=True):
        for p, t in zip(row, wanted, strict=True):
            d = abs(p - t)
            total += 0.5 * d * d / beta if d <= beta else d - 0.5 * beta
    return total


def in_float32(prediction, target, beta):
    d = np.abs(np.subtract(prediction, target, dtype=np.float32))
    near = np.minimum(d, np.float32(beta))
    return np.float32((near * (d - near / 2)).sum() / beta)


def _d(prediction, target):
    return np.asarray(prediction, float) - target


def no_half(prediction, target, beta):
    d = np.abs(_d(prediction, target))
    return np.where(d < beta, d**2 / beta, d - beta / 2).sum()


def a_step_at_beta(prediction, target, beta):
    d = np.abs(_d(prediction, target))
    return np.where(d < beta, d**2 / (2 * beta), d).sum()


def absolute(prediction, target, beta):
    return np.abs(_d(prediction, target)).sum()


def squared(prediction, target, beta):
    return (_d(prediction, target) ** 2 / (2 * beta)).sum()


def forms_swapped(prediction, target, beta):
    d = np.abs(_d(prediction, target))
    return np.where(d >= beta, d**2 / (2 * beta), d - beta / 2).sum()


def no_absolute_value_in_the_choice(prediction, target, beta):
    d = _d(prediction, target)
    return np.where(d < beta, d**2 / (2 * beta), np.abs(d) - beta / 2).sum()


def mean_of_all(prediction, target, beta):
    return vectorised(prediction, target, beta) / max(np.size(prediction), 1)


def mean_of_rows(prediction, target, beta):
    return vectorised(prediction, target, beta) / max(len(prediction), 1)


def not_summed(prediction, target, beta):
    d = np.abs(_d(prediction, target))
    return np.where(d < beta, d**2 / (2 * beta), d - beta / 2)


def beta_left_out(prediction, target, beta):
    return vectorised(prediction, target, 1.0)


def beta_multiplied(prediction, target, beta):
    d = np.abs(_d(prediction, target))
    return np.where(d < beta, d**2 * beta / 2, d - beta / 2).sum()


def line_half_below(prediction, target, beta):
    d = np.abs(_d(prediction, target))
    return np.where(d < beta, d**2 / (2 * beta), d - 0.5).sum()


def parabola_up_to_one(prediction, target, beta):
    d = np.abs(_d(prediction, target))
    return np.where(d < min(beta, 1), d**2 / (2 * beta), d - beta / 2).sum()


def fails_without_boxes(prediction, target, beta):
    return sum(vectorised(p, t, beta) for p, t in zip(prediction, target, strict=True)) / len(prediction) * len(target)


def whole_numbers(prediction, target, beta):
    d = np.abs(np.subtract(prediction, target))
    loss = np.zeros_like(d)
    loss[:] = np.where(d < beta, d**2 / (2 * beta), d - beta / 2)
    return float(loss.sum())


def changes_the_prediction(prediction, target, beta):
    prediction -= target
    return vectorised(prediction, 0, beta)


def forgets_to_return(prediction, target, beta):
    vectorised(prediction, target, beta)


RIGHT = (vectorised, by_loops, in_float32)
WRONG = (
    (no_half, "half the square"),
    (a_step_at_beta, "must meet the parabola where"),
    (absolute, "a parabola"),
    (squared, "a straight line"),
    (forms_swapped, "so the loss is 0"),
    (no_absolute_value_in_the_choice, "both for the choice between"),
    (mean_of_all, "Do not divide it"),
    (mean_of_rows, "Do not divide it"),
    (not_summed, r"expected \(\)"),
    (beta_left_out, "Beta is the distance at"),
    (beta_multiplied, "Beta is the distance at"),
    (line_half_below, "for every beta"),
    (parabola_up_to_one, "larger than 1"),
    (fails_without_boxes, "boxes are valid input: the sum"),
    (whole_numbers, "a division need not be an integer"),
    (changes_the_prediction, "changes its argument 'prediction'"),
    (forgets_to_return, "without `return`"),
)
WRONG += (  # each with the description of a misconception
    answer("beta is 1/9 at least", lambda p, t, b: vectorised(p, t, max(b, 1 / 3))),
    answer("beta is 1 at most", lambda p, t, b: vectorised(p, t, min(b, 1.0))),
    answer("differences are limited to 100", lambda p, t, b: vectorised(np.clip(_d(p, t), -100, 100), 0, b)),
    answer("only the first row counts", lambda p, t, b: vectorised(p[:1], t[:1], b)),
    answer("only the first column counts", lambda p, t, b: vectorised(p[:, :1], t[:, :1], b)),
    answer("the sum over the rows of the mean over the columns", lambda p, t, b: vectorised(p, t, b) / 4),
    answer(
        "compared with beta squared",
        lambda p, t, b: np.where(np.abs(_d(p, t)) < b * b, _d(p, t) ** 2 / (2 * b), np.abs(_d(p, t)) - b / 2).sum(),
    ),
    answer("an array with one number", lambda p, t, b: np.array([vectorised(p, t, b)])),
    answer(
        "a number for each row",
        lambda p, t, b: np.array([vectorised(p[i : i + 1], t[i : i + 1], b) for i in range(len(p))]),
    ),
    answer("in half precision", lambda p, t, b: np.float16(vectorised(p, t, b))),
    answer(
        "the norm of each row in place of its elements",
        lambda p, t, b: vectorised(np.linalg.norm(_d(p, t), axis=1), 0, b),
    ),
    answer("None without boxes", lambda p, t, b: vectorised(p, t, b) if len(p) else None),
    answer("text", lambda p, t, b: str(vectorised(p, t, b))),
    answer("1e-3 is added to beta", lambda p, t, b: vectorised(p, t, b + 1e-3)),
)

"""Answers to `checks.head_loss_gradient`."""

import math

import numpy as np

from mutants import answer

BETA = 1 / 9


def vectorised(class_logits, box_deltas, labels, deltas):
    return _class_part(class_logits, labels), _box_part(box_deltas, labels, deltas)


def by_loops(class_logits, box_deltas, labels, deltas):
    rows = len(labels)
    of_logits, of_deltas = [], np.zeros(np.shape(box_deltas))
    for row, label in enumerate(labels):
        highest = max(class_logits[row])
        powers = [math.exp(z - highest) for z in class_logits[row]]
        of_logits.append([(power / sum(powers) - (c == label)) / rows for c, power in enumerate(powers)])
        for i in range(4 if label else 0):
            d = float(box_deltas[row][label][i]) - float(deltas[row][i])
            of_deltas[row, label, i] = (9 * d if abs(d) < 1 / 9 else math.copysign(1, d)) / rows
    return np.array(of_logits).reshape(np.shape(class_logits)), of_deltas


def by_masks(class_logits, box_deltas, labels, deltas):
    one_hot = np.eye(box_deltas.shape[1], dtype=np.float32)[labels]
    mask = (one_hot * (labels > 0)[:, None])[..., None]
    slope = np.clip((box_deltas - deltas[:, None]) * np.float32(9), -1, 1)
    z = class_logits - class_logits.max(axis=1, keepdims=True)
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    return (p - one_hot) / max(len(labels), 1), slope * mask / max(len(labels), 1)


def _softmax(logits, axis=1):
    z = np.asarray(logits, float)
    powers = np.exp(z - z.max(axis=axis, keepdims=True, initial=-np.inf))
    return powers / powers.sum(axis=axis, keepdims=True)


def _class_part(class_logits, labels):
    gradient = _softmax(class_logits)
    gradient[np.arange(len(labels)), labels] -= 1
    return gradient / max(len(labels), 1)


def _box_part(box_deltas, labels, deltas, beta=BETA, rows=None, classes=None):
    """Return the right gradient, except that other `rows`, or the deltas of other `classes`, get a gradient."""
    gradient = np.zeros(np.shape(box_deltas))
    rows = np.flatnonzero(labels > 0) if rows is None else rows
    classes = labels if classes is None else classes
    d = np.asarray(box_deltas, float)[rows, classes[rows]] - deltas[rows]
    gradient[rows, classes[rows]] = np.clip(d / beta, -1, 1)
    return gradient / max(len(labels), 1)


def sign_flipped(class_logits, box_deltas, labels, deltas):
    return -_class_part(class_logits, labels), -_box_part(box_deltas, labels, deltas)


def sign_of_the_boxes_flipped(class_logits, box_deltas, labels, deltas):
    return _class_part(class_logits, labels), -_box_part(box_deltas, labels, deltas)


def no_label(class_logits, box_deltas, labels, deltas):
    return _softmax(class_logits) / max(len(labels), 1), _box_part(box_deltas, labels, deltas)


def no_softmax(class_logits, box_deltas, labels, deltas):
    return (
        (class_logits - np.eye(class_logits.shape[1])[labels]) / max(len(labels), 1),
        _box_part(box_deltas, labels, deltas),
    )


def softmax_over_rows(class_logits, box_deltas, labels, deltas):
    p = _softmax(class_logits, axis=0) - np.eye(class_logits.shape[1])[labels]
    return p / max(len(labels), 1), _box_part(box_deltas, labels, deltas)


def sigmoids(class_logits, box_deltas, labels, deltas):
    p = 0.5 + np.tanh(np.asarray(class_logits, float) / 2) / 2
    return (p - np.eye(p.shape[1])[labels]) / max(len(labels), 1), _box_part(box_deltas, labels, deltas)


def background_learns_no_class(class_logits, box_deltas, labels, deltas):
    return _class_part(class_logits, labels) * (labels > 0)[:, None], _box_part(box_deltas, labels, deltas)


def background_learns_a_box(class_logits, box_deltas, labels, deltas):
    return _class_part(class_logits, labels), _box_part(box_deltas, labels, deltas, rows=np.arange(len(labels)))


def all_classes_learn_the_box(class_logits, box_deltas, labels, deltas):
    slope = np.clip((box_deltas - deltas[:, None]) / BETA, -1, 1) * (labels > 0)[:, None, None]
    return _class_part(class_logits, labels), slope / max(len(labels), 1)


def one_class_too_low(class_logits, box_deltas, labels, deltas):
    return _class_part(class_logits, labels), _box_part(box_deltas, labels, deltas, classes=labels - 1)


def first_class_learns(class_logits, box_deltas, labels, deltas):
    return _class_part(class_logits, labels), _box_part(box_deltas, labels, deltas, classes=0 * labels)


def likeliest_class_learns(class_logits, box_deltas, labels, deltas):
    best = _softmax(class_logits).argmax(axis=1) if len(labels) else labels
    return _class_part(class_logits, labels), _box_part(box_deltas, labels, deltas, classes=best)


def other_classes_pushed_to_zero(class_logits, box_deltas, labels, deltas):
    wanted = np.zeros(np.shape(box_deltas))
    wanted[np.arange(len(labels)), labels] = deltas
    slope = np.clip((box_deltas - wanted) / BETA, -1, 1) * (labels > 0)[:, None, None]
    return _class_part(class_logits, labels), slope / max(len(labels), 1)


def beta_is_one(class_logits, box_deltas, labels, deltas):
    return _class_part(class_logits, labels), _box_part(box_deltas, labels, deltas, beta=1.0)


def signs_alone(class_logits, box_deltas, labels, deltas):
    return _class_part(class_logits, labels), _box_part(box_deltas, labels, deltas, beta=1e-9)


def squares(class_logits, box_deltas, labels, deltas):
    gradient, rows = np.zeros(np.shape(box_deltas)), np.flatnonzero(labels > 0)
    gradient[rows, labels[rows]] = box_deltas[rows, labels[rows]] - deltas[rows]
    return _class_part(class_logits, labels), gradient / max(len(labels), 1)


def boxes_by_the_number_of_objects(class_logits, box_deltas, labels, deltas):
    objects = max((labels > 0).sum(), 1)
    return _class_part(class_logits, labels), _box_part(box_deltas, labels, deltas) * (max(len(labels), 1) / objects)


def boxes_by_the_number_of_coordinates(class_logits, box_deltas, labels, deltas):
    return _class_part(class_logits, labels), _box_part(box_deltas, labels, deltas) / 4


def boxes_summed(class_logits, box_deltas, labels, deltas):
    return _class_part(class_logits, labels), _box_part(box_deltas, labels, deltas) * max(len(labels), 1)


def classes_summed(class_logits, box_deltas, labels, deltas):
    return _class_part(class_logits, labels) * max(len(labels), 1), _box_part(box_deltas, labels, deltas)


def classes_averaged_over_classes(class_logits, box_deltas, labels, deltas):
    return _class_part(class_logits, labels) / class_logits.shape[1], _box_part(box_deltas, labels, deltas)


def deltas_weighted_again(class_logits, box_deltas, labels, deltas):
    return _class_part(class_logits, labels), _box_part(box_deltas, labels, deltas) * [10, 10, 5, 5]


def true_class_only(class_logits, box_deltas, labels, deltas):
    return _class_part(class_logits, labels), _box_part(box_deltas, labels, deltas).sum(axis=1)


def other_way_round(class_logits, box_deltas, labels, deltas):
    return vectorised(class_logits, box_deltas, labels, deltas)[::-1]


def nan_for_empty_input(class_logits, box_deltas, labels, deltas):
    objects = np.float64((labels > 0).sum())
    with np.errstate(all="ignore"):
        return (_class_part(class_logits, labels), _box_part(box_deltas, labels, deltas) * (objects / objects))


def fails_without_rois(class_logits, box_deltas, labels, deltas):
    class_logits.max()
    return vectorised(class_logits, box_deltas, labels, deltas)


def overflows(class_logits, box_deltas, labels, deltas):
    with np.errstate(all="ignore"):
        powers = np.exp(np.asarray(class_logits, float))
        p = powers / powers.sum(axis=1, keepdims=True)
    p[np.arange(len(labels)), labels] -= 1
    return p / max(len(labels), 1), _box_part(box_deltas, labels, deltas)


def shifted_by_the_largest_of_all(class_logits, box_deltas, labels, deltas):
    z = np.asarray(class_logits, float)
    with np.errstate(all="ignore"):
        powers = np.exp(z - z.max(initial=-np.inf))
        p = powers / powers.sum(axis=1, keepdims=True)
    p[np.arange(len(labels)), labels] -= 1
    return p / max(len(labels), 1), _box_part(box_deltas, labels, deltas)


def whole_numbers(class_logits, box_deltas, labels, deltas):
    of_logits, of_deltas = np.zeros_like(class_logits), np.zeros_like(box_deltas)
    of_logits[:], of_deltas[:] = vectorised(class_logits, box_deltas, labels, deltas)
    return of_logits, of_deltas


def changes_the_logits(class_logits, box_deltas, labels, deltas):
    answer = vectorised(class_logits, box_deltas, labels, deltas)
    class_logits[...] = 0
    return answer


def forgets_to_return(class_logits, box_deltas, labels, deltas):
    vectorised(class_logits, box_deltas, labels, deltas)


def _shifted(class_logits, labels, shift):
    """Return the gradient of the logits with another number taken off each row before the exponential."""
    z = np.asarray(class_logits) * 1.0
    with np.errstate(all="ignore"):
        powers = np.exp(z - shift(z))
        gradient = powers / powers.sum(axis=1, keepdims=True)
    gradient[np.arange(len(labels)), labels] -= 1
    return gradient / max(len(labels), 1)


RIGHT = (vectorised, by_loops, by_masks)
WRONG = (
    (sign_flipped, "the logit of the true class must rise"),
    (sign_of_the_boxes_flipped, "the sign of the difference"),
    (no_label, "the logit of the true class must rise"),
    (no_softmax, "All classes are equally likely here"),
    (softmax_over_rows, "All classes are equally likely here"),
    (sigmoids, "All classes are equally likely here"),
    (background_learns_no_class, "background RoI learns its class"),
    (background_learns_a_box, "no box to learn"),
    (all_classes_learn_the_box, "Only the deltas of the true class"),
    (one_class_too_low, "Only the deltas of the true class"),
    (first_class_learns, "Only the deltas of the true class"),
    (likeliest_class_learns, "Only the deltas of the true class"),
    (other_classes_pushed_to_zero, "Only the deltas of the true class"),
    (beta_is_one, "with beta = 1/9"),
    (signs_alone, "What is its slope"),
    (squares, "a straight line"),
    (boxes_by_the_number_of_objects, "divided by R, the number of all RoIs"),
    (boxes_by_the_number_of_coordinates, "divided by R, the number of all RoIs"),
    (boxes_summed, "divided by R, the number of all RoIs"),
    (classes_summed, "divided by R, the number of all RoIs"),
    (classes_averaged_over_classes, "divided by R, the number of all RoIs"),
    (deltas_weighted_again, "a straight line"),
    (true_class_only, "an array of shape .*; expected"),
    (other_way_round, "an array of shape .*; expected"),
    (nan_for_empty_input, "the number of objects, which is 0 here"),
    (fails_without_rois, "Zero RoIs are valid"),
    (overflows, r"exp\(1000\)"),
    (shifted_by_the_largest_of_all, "a number from each row"),
    (whole_numbers, "a derivative need not be an integer"),
    (changes_the_logits, "changes its argument 'class_logits'"),
    (forgets_to_return, "without `return`"),
)
WRONG += (  # each with the description of a misconception
    answer(
        "rows whose deltas are all 0 are taken for background",
        lambda c, b, y, d: (_class_part(c, y), _box_part(b, np.where((d == 0).all(axis=1), 0, y), d)),
    ),
    answer(
        "rows whose deltas are all 0 learn no box, but their class",
        lambda c, b, y, d: (_class_part(c, y), _box_part(b, y, d) * ((d != 0).any(axis=1))[:, None, None]),
    ),
    answer(
        "the row's mean is taken off before the exponential",
        lambda c, b, y, d: (_shifted(c, y, lambda x: x.mean(axis=1, keepdims=True)), _box_part(b, y, d)),
    ),
    answer(
        "the row's first logit is taken off before the exponential",
        lambda c, b, y, d: (_shifted(c, y, lambda x: x[:, :1]), _box_part(b, y, d)),
    ),
    answer(
        "exponentials in the type of the logits", lambda c, b, y, d: (_shifted(c, y, lambda x: 0), _box_part(b, y, d))
    ),
    answer(
        "the last class learns no box",
        lambda c, b, y, d: (_class_part(c, y), _box_part(b, y, d) * (np.arange(c.shape[1]) < c.shape[1] - 1)[:, None]),
    ),
    answer(
        "only the first RoI on an object learns a box",
        lambda c, b, y, d: (_class_part(c, y), _box_part(b, y, d, rows=np.flatnonzero(y > 0)[:1])),
    ),
    answer("only dx and dy are learned", lambda c, b, y, d: (_class_part(c, y), _box_part(b, y, d) * (1, 1, 0, 0))),
    answer("beta is 1/4", lambda c, b, y, d: (_class_part(c, y), _box_part(b, y, d, beta=1 / 4))),
    answer(
        "classes and RoIs exchanged where they are equally many",
        lambda c, b, y, d: (_class_part(c, y).T if len(c) == c.shape[1] else _class_part(c, y), _box_part(b, y, d)),
    ),
    answer("the gradients in another order", lambda c, b, y, d: (_box_part(b, y, d), _class_part(c, y))),
    answer(
        "deltas of the true class only, (R, 4)",
        lambda c, b, y, d: (_class_part(c, y), _box_part(b, y, d)[np.arange(len(y)), y]),
    ),
    answer(
        "one array with both",
        lambda c, b, y, d: np.concatenate([_class_part(c, y)[..., None], _box_part(b, y, d)], axis=2),
    ),
    answer("the loss, too", lambda c, b, y, d: (0.0, _class_part(c, y), _box_part(b, y, d))),
    answer(
        "no RoIs give arrays of shape (0,)",
        lambda c, b, y, d: tuple(np.array(part.tolist()) for part in (_class_part(c, y), _box_part(b, y, d))),
    ),
)

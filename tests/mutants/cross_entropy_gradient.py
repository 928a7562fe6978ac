"""Answers to `checks.cross_entropy_gradient`."""

import math

import numpy as np

from mutants import answer


def vectorised(logits, labels):
    p = _softmax(logits)
    p[np.arange(len(p)), labels] -= 1
    return p / max(len(p), 1)


def by_loops(logits, labels):
    out = []
    for row, label in zip(logits, labels, strict=True):
        e = [math.exp(z - max(row)) for z in row]
        out.append([(x / sum(e) - (k == label)) / len(logits) for k, x in enumerate(e)])
    return np.reshape(out, np.shape(logits))


def one_hot_in_float32(logits, labels):
    z = np.array(logits, np.float32)
    z = z - z.max(axis=1, keepdims=True)
    p = np.exp(z - np.log(np.exp(z).sum(axis=1, keepdims=True)))
    return (p - np.eye(z.shape[1], dtype=np.float32)[labels]) / np.float32(max(len(z), 1))


def _softmax(logits):
    z = np.array(logits, float)
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def _one_hot(logits, labels):
    return np.eye(np.shape(logits)[1])[labels]


def _count(logits):
    return max(len(logits), 1)


def sign_flipped(logits, labels):
    return -vectorised(logits, labels)


def softmax_alone(logits, labels):
    return _softmax(logits) / _count(logits)


def only_the_true_class(logits, labels):
    return vectorised(logits, labels) * _one_hot(logits, labels)


def logits_without_softmax(logits, labels):
    return (np.asarray(logits, float) - _one_hot(logits, labels)) / _count(logits)


def sigmoid_for_softmax(logits, labels):
    return (1 / (1 + np.exp(-np.clip(logits, -50, 50))) - _one_hot(logits, labels)) / _count(logits)


def times_softmax_once_more(logits, labels):
    p = _softmax(logits)
    return p * (p - _one_hot(logits, labels)) / _count(logits)


def background_left_out(logits, labels):
    return vectorised(logits, labels) * (np.asarray(labels) > 0)[:, None]


def background_last(logits, labels):
    return vectorised(logits, np.asarray(labels) - 1)


def summed_over_rows(logits, labels):
    return vectorised(logits, labels) * _count(logits)


def mean_over_all_numbers(logits, labels):
    return vectorised(logits, labels) / np.shape(logits)[1]


def mean_over_objects(logits, labels):
    return vectorised(logits, labels) * _count(logits) / max((np.asarray(labels) > 0).sum(), 1)


def softmax_down_the_columns(logits, labels):
    return (_softmax(np.transpose(logits)).T if len(logits) else _softmax(logits)) - _one_hot(logits, labels)


def true_classes_of_all_rows(logits, labels):
    p = _softmax(logits)
    p[:, labels] -= 1
    return p / _count(logits)


def overflows(logits, labels):
    with np.errstate(all="ignore"):
        e = np.exp(np.asarray(logits, float))
        return (e / e.sum(axis=1, keepdims=True) - _one_hot(logits, labels)) / _count(logits)


def one_maximum_for_all(logits, labels):
    with np.errstate(all="ignore"):
        e = np.exp(np.asarray(logits, float) - np.max(logits, initial=-np.inf))
        return (e / e.sum(axis=1, keepdims=True) - _one_hot(logits, labels)) / _count(logits)


def fails_without_rows(logits, labels):
    return np.stack(
        [vectorised(row[None], [label])[0] / len(logits) for row, label in zip(logits, labels, strict=True)]
    )


def whole_numbers(logits, labels):
    gradient = np.zeros_like(logits)
    gradient[:] = vectorised(logits, labels)
    return gradient


def changes_the_logits(logits, labels):
    logits -= logits.max(axis=1, keepdims=True)
    return vectorised(logits, labels)


def forgets_to_return(logits, labels):
    vectorised(logits, labels)


def _shifted(logits, labels, shift):
    """Return the gradient with another number taken off each row before the exponential."""
    z = np.asarray(logits) * 1.0
    with np.errstate(all="ignore"):
        powers = np.exp(z - shift(z))
        return (powers / powers.sum(axis=1, keepdims=True) - _one_hot(logits, labels)) / _count(logits)


def _without_keepdims(logits, labels):
    z = np.asarray(logits, float)
    if len(z) == 0:
        return z
    powers = np.exp(z - z.max(axis=1, keepdims=True))
    total = powers.sum(axis=1)
    p = powers / total if len(z) == z.shape[1] else (powers.T / total).T
    return (p - _one_hot(logits, labels)) / _count(logits)


RIGHT = (vectorised, by_loops, one_hot_in_float32)
WRONG = (
    (sign_flipped, "the logit of the true class"),
    (softmax_alone, "the logit of the true class"),
    (only_the_true_class, "If any other logit rises"),
    (logits_without_softmax, "All classes are equally likely"),
    (sigmoid_for_softmax, "All classes are equally likely"),
    (times_softmax_once_more, "All classes are equally likely"),
    (background_left_out, "background, is an ordinary class: the network"),
    (background_last, "the logit of the true class"),
    (summed_over_rows, "divided by the number of rows, and by nothing else"),
    (mean_over_all_numbers, "divided by the number of rows, and by nothing else"),
    (mean_over_objects, "divided by the number of rows, and by nothing else"),
    (softmax_down_the_columns, "All classes are equally likely"),
    (true_classes_of_all_rows, "its own true class"),
    (overflows, r"exp\(1000\)"),
    (one_maximum_for_all, "a number from each row"),
    (fails_without_rows, "Zero rows are valid"),
    (whole_numbers, "a probability need not be an integer"),
    (changes_the_logits, "changes its argument 'logits'"),
    (forgets_to_return, "without `return`"),
)
WRONG += (  # each with the description of a misconception
    answer(
        "the row's first logit is taken off in place of its largest", lambda z, t: _shifted(z, t, lambda x: x[:, :1])
    ),
    answer("the row's mean is taken off", lambda z, t: _shifted(z, t, lambda x: x.mean(axis=1, keepdims=True))),
    answer("the row's last logit is taken off", lambda z, t: _shifted(z, t, lambda x: x[:, -1:])),
    answer(
        "the logit of the true class is taken off",
        lambda z, t: _shifted(z, t, lambda x: x[np.arange(len(x)), t][:, None]),
    ),
    answer(
        "the smallest logit is taken off",
        lambda z, t: _shifted(z, t, lambda x: x.min(axis=1, keepdims=True, initial=0)),
    ),
    answer(
        "keepdims is missing, put right by a transposition unless there are as many rows as classes",
        lambda z, t: _without_keepdims(z, t),
    ),
    answer("exponentials in the type of the logits", lambda z, t: _shifted(z, t, lambda x: 0)),
    answer("logits are limited to 30", lambda z, t: vectorised(np.clip(z, -30, 30), t)),
    answer(
        "rows count only where the label is not the last class",
        lambda z, t: vectorised(z, t) * (np.asarray(t) != np.shape(z)[1] - 1)[:, None],
    ),
    answer("the label of the first row for all", lambda z, t: vectorised(z, np.resize(t[:1], len(t)))),
    answer(
        "transposed where it is square",
        lambda z, t: vectorised(z, t).T if len(z) == np.shape(z)[1] else vectorised(z, t),
    ),
    answer("no rows give an array of shape (0,)", lambda z, t: np.array(vectorised(z, t).tolist()), r"shape \(0,\)"),
    answer("the loss, too", lambda z, t: (0.0, vectorised(z, t))),
    answer("rounded to two digits", lambda z, t: vectorised(z, t).round(2)),
    answer("a list of dicts", lambda z, t: [dict(enumerate(row)) for row in vectorised(z, t)]),
)

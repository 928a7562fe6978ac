"""Answers to `checks.cross_entropy_gradient`."""

import math

import numpy as np


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
    (summed_over_rows, "How much does one row"),
    (mean_over_all_numbers, "All classes are equally likely"),
    (mean_over_objects, "its own true class"),
    (softmax_down_the_columns, "All classes are equally likely"),
    (true_classes_of_all_rows, "its own true class"),
    (overflows, r"exp\(1000\)"),
    (one_maximum_for_all, "a number from each row"),
    (fails_without_rows, "Zero rows are valid"),
    (whole_numbers, "a probability need not be an integer"),
    (changes_the_logits, "changes its argument 'logits'"),
    (forgets_to_return, "without `return`"),
)

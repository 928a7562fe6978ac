"""Answers to `checks.rpn_loss_gradient`."""

import math

import numpy as np

from mutants import answer


def vectorised(logits, labels):
    return np.where(labels >= 0, _sigmoid(logits) - labels, 0) / max((labels >= 0).sum(), 1)


def by_loops(logits, labels):
    count = sum(1 for label in labels if label != -1)
    return [0.0 if label == -1 else (_one(z) - label) / count for z, label in zip(logits, labels, strict=True)]


def in_float32(logits, labels):
    gradient = np.zeros(len(logits), np.float32)
    sampled = np.flatnonzero(labels > -1)
    if len(sampled):
        p = np.tanh(np.asarray(logits, np.float32)[sampled] / 2) / 2 + np.float32(0.5)
        gradient[sampled] = (p - labels[sampled]) / len(sampled)
    return gradient


def _one(z):
    return 1 / (1 + math.exp(-z)) if z >= 0 else math.exp(z) / (1 + math.exp(z))


def _sigmoid(logits):
    z = np.asarray(logits, float)
    small = np.exp(-np.abs(z))
    return np.where(z >= 0, 1, small) / (1 + small)


def _sampled(labels):
    return max((labels >= 0).sum(), 1)


def sign_flipped(logits, labels):
    return -vectorised(logits, labels)


def no_label(logits, labels):
    return np.where(labels >= 0, _sigmoid(logits), 0) / _sampled(labels)


def logits_without_sigmoid(logits, labels):
    return np.where(labels >= 0, logits - labels, 0) / _sampled(labels)


def times_sigmoid_slope(logits, labels):
    p = _sigmoid(logits)
    return vectorised(logits, labels) * 4 * p * (1 - p)


def objects_only(logits, labels):
    return np.where(labels > 0, _sigmoid(logits) - 1, 0) / _sampled(labels)


def background_pushed_up(logits, labels):
    return np.where(labels >= 0, _sigmoid(logits) - 1, 0) / _sampled(labels)


def summed(logits, labels):
    return vectorised(logits, labels) * _sampled(labels)


def mean_over_objects(logits, labels):
    return vectorised(logits, labels) * _sampled(labels) / max((labels == 1).sum(), 1)


def mean_over_all_anchors(logits, labels):
    return vectorised(logits, labels) * _sampled(labels) / max(len(labels), 1)


def unsampled_included(logits, labels):
    return (_sigmoid(logits) - labels) / max(len(labels), 1)


def unsampled_as_background(logits, labels):
    return (_sigmoid(logits) - (labels == 1)) / _sampled(labels)


def counted_by_truth(logits, labels):
    return vectorised(logits, labels) * _sampled(labels) / max((labels != 0).sum(), 1)


def only_the_sampled(logits, labels):
    return vectorised(logits, labels)[labels >= 0]


def sampled_first(logits, labels):
    gradient = vectorised(logits, labels)
    return np.concatenate([gradient[labels >= 0], gradient[labels < 0]])


def nothing_without_objects(logits, labels):
    return vectorised(logits, labels) if (labels == 1).any() else np.zeros(len(logits))


def nan_for_empty_input(logits, labels):
    with np.errstate(all="ignore"):
        return np.where(labels >= 0, _sigmoid(logits) - labels, 0) / (labels >= 0).sum()


def overflows(logits, labels):
    with np.errstate(all="ignore"):
        e = np.exp(np.asarray(logits, float))
        return np.where(labels >= 0, e / (1 + e) - labels, 0) / _sampled(labels)


def whole_numbers(logits, labels):
    gradient = np.zeros_like(logits)
    gradient[:] = vectorised(logits, labels)
    return gradient


def changes_the_labels(logits, labels):
    gradient = vectorised(logits, labels)
    labels[labels < 0] = 0
    return gradient


def forgets_to_return(logits, labels):
    vectorised(logits, labels)


def _naive(logits):
    with np.errstate(all="ignore"):
        powers = np.exp(logits)
        return powers / (1 + powers)


RIGHT = (vectorised, by_loops, in_float32)
WRONG = (
    (sign_flipped, "Which sign does the derivative"),
    (no_label, "how far is the probability"),
    (logits_without_sigmoid, "how far is the probability"),
    (times_sigmoid_slope, "nearly everything cancels"),
    (objects_only, "background anchor lowers its logit"),
    (background_pushed_up, "background anchor lowers its logit"),
    (summed, "the mean over the sampled anchors"),
    (mean_over_objects, "label is 0 or 1 in this call"),
    (mean_over_all_anchors, "label is 0 or 1 in this call"),
    (unsampled_included, "not contribute to the loss"),
    (unsampled_as_background, "not contribute to the loss"),
    (counted_by_truth, "label is 0 or 1 in this call"),
    (only_the_sampled, "an array of shape .*; expected"),
    (sampled_first, "in the order of the anchors"),
    (nothing_without_objects, "without objects has only background anchors"),
    (nan_for_empty_input, "No anchor was sampled"),
    (overflows, r"exp\(1000\)"),
    (whole_numbers, "a derivative need not be an integer"),
    (changes_the_labels, "changes its argument 'labels'"),
    (forgets_to_return, "without `return`"),
)
WRONG += (  # each with the description of a misconception
    answer("logits are limited to 3", lambda z, t: vectorised(np.clip(z, -3, 3), t)),
    answer("exponentials in the type of the logits", lambda z, t: np.where(t >= 0, _naive(z) - t, 0) / _sampled(t)),
    answer(
        "divided by the anchors that are not background",
        lambda z, t: vectorised(z, t) * _sampled(t) / max((t != 0).sum(), 1),
    ),
    answer("background counts a third", lambda z, t: vectorised(z, t) * np.where(t == 0, 1 / 3, 1)),
    answer(
        "the mean of the two kinds' means",
        lambda z, t: np.where(t >= 0, _sigmoid(z) - t, 0) / np.maximum([(t == x).sum() * 2 for x in t], 1),
    ),
    answer(
        "nothing where all have the same label",
        lambda z, t: vectorised(z, t) if len(set(t[t >= 0].tolist())) != 1 or len(t) == 1 else 0.0 * vectorised(z, t),
    ),
    answer("unsampled anchors are NaN", lambda z, t: np.where(t >= 0, vectorised(z, t), np.nan)),
    answer(
        "a label of -1 is read from the end",
        lambda z, t: (_sigmoid(z) - np.array([0, 1, 0.5])[t]) * (t >= 0) / max(len(t), 1),
    ),
    answer("a column", lambda z, t: vectorised(z, t)[:, None]),
    answer("the sum of the gradients", lambda z, t: vectorised(z, t).sum()),
    answer("as integers", lambda z, t: vectorised(z, t).astype(int)),
    answer("rounded to two digits", lambda z, t: vectorised(z, t).round(2)),
    answer("a dict", lambda z, t: dict(enumerate(vectorised(z, t)))),
)

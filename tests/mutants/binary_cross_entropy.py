"""Answers to `checks.binary_cross_entropy`."""

import math

import numpy as np

from mutants import answer


def vectorised(logits, labels):
    z, t = np.asarray(logits, float), np.asarray(labels)
    return (np.maximum(z, 0) - z * t + np.log1p(np.exp(-np.abs(z)))).sum() / max(z.size, 1)


def by_loops(logits, labels):
    total = 0.0
    for z, label in zip(logits, labels, strict=True):
        wrong = -z if label == 1 else z  # distance on the wrong side
        total += max(wrong, 0) + math.log1p(math.exp(-abs(wrong)))
    return total / len(logits) if len(logits) else 0.0


def in_float32(logits, labels):
    wrong = np.asarray(logits, np.float32) * (1 - 2 * np.asarray(labels, np.float32))
    return np.logaddexp(np.float32(0), wrong).mean() if len(wrong) else np.float32(0)


def _sigmoid(logits):
    z = np.asarray(logits, float)
    small = np.exp(-np.abs(z))
    return np.where(z >= 0, 1, small) / (1 + small)


def _count(logits):
    return max(len(logits), 1)


def sign_flipped(logits, labels):
    return -vectorised(logits, labels)


def base_two(logits, labels):
    return vectorised(logits, labels) / np.log(2)


def logits_as_probabilities(logits, labels):
    p = np.clip(logits, 1e-7, 1 - 1e-7)
    return -(labels * np.log(p) + (1 - labels) * np.log(1 - p)).sum() / _count(logits)


def labels_swapped(logits, labels):
    return vectorised(logits, 1 - labels)


def objects_only(logits, labels):
    return (labels == 1) @ np.logaddexp(0, -np.asarray(logits, float)) / _count(logits)


def summed(logits, labels):
    return vectorised(logits, labels) * _count(logits)


def mean_over_objects(logits, labels):
    return vectorised(logits, labels) * _count(logits) / max(labels.sum(), 1)


def not_averaged(logits, labels):
    return [vectorised(np.array([z]), np.array([t])) for z, t in zip(logits, labels, strict=True)]


def cut_off(logits, labels):
    p = np.clip(_sigmoid(logits), 1e-7, 1 - 1e-7)
    return -(labels * np.log(p) + (1 - labels) * np.log(1 - p)).sum() / _count(logits)


def logarithm_of_zero(logits, labels):
    z = np.asarray(logits, float)
    log_p = np.minimum(z, 0) - np.log1p(np.exp(-np.abs(z)))
    with np.errstate(all="ignore"):
        return -np.where(labels == 1, log_p, np.log(1 - _sigmoid(z))).sum() / _count(z)


def exponential_of_the_logit(logits, labels):
    z = np.asarray(logits, float)
    with np.errstate(all="ignore"):
        return (np.log1p(np.exp(z)) - z * labels).sum() / _count(z)


def exponential_of_minus_the_logit(logits, labels):
    z = np.asarray(logits, float)
    with np.errstate(all="ignore"):
        return (np.log1p(np.exp(-z)) + z * (1 - labels)).sum() / _count(z)


def nan_for_empty_input(logits, labels):
    with np.errstate(all="ignore"):
        return np.float64(vectorised(logits, labels) * _count(logits)) / len(logits)


def whole_numbers(logits, labels):
    losses = np.zeros_like(logits)
    losses[:] = [vectorised(np.array([z]), np.array([t])) for z, t in zip(logits, labels, strict=True)]
    return float(losses.sum() / _count(logits))


def changes_the_logits(logits, labels):
    logits[labels == 0] *= -1
    return vectorised(logits, np.ones_like(labels))


def forgets_to_return(logits, labels):
    vectorised(logits, labels)


def _of_kinds(logits, labels):
    labels = np.asarray(labels)
    means = [vectorised(np.asarray(logits)[labels == kind], labels[labels == kind]) for kind in set(labels.tolist())]
    return float(np.mean(means)) if means else 0.0


RIGHT = (vectorised, by_loops, in_float32)
WRONG = (
    (sign_flipped, "with which sign"),
    (base_two, "natural logarithm"),
    (logits_as_probabilities, "A logit of 0 is a probability"),
    (labels_swapped, "not a probability"),
    (objects_only, r"1 - p is the probability of the right answer"),
    (summed, "the mean over all anchors"),
    (mean_over_objects, "all anchors, whether their label"),
    (not_averaged, r"expected \(\)"),
    (cut_off, "no upper limit"),
    (logarithm_of_zero, "so its logarithm is not"),
    (exponential_of_the_logit, r"exp\(1000\)"),
    (exponential_of_minus_the_logit, r"exp\(-z\)"),
    (nan_for_empty_input, "mean over no anchors"),
    (whole_numbers, "a loss need not be an integer"),
    (changes_the_logits, "changes its argument 'logits'"),
    (forgets_to_return, "without `return`"),
)
WRONG += (  # each with the description of a misconception
    answer("logits are limited to 50", lambda z, t: vectorised(np.clip(z, -50, 50), t)),
    answer(
        "exponentials in float32",
        lambda z, t: (
            float(
                np.mean(
                    np.maximum(0, 0)
                    + np.log(1 + np.exp(np.asarray(z, np.float32) * (1 - 2 * np.asarray(t, np.float32))))
                )
            )
            if len(z)
            else 0.0
        ),
    ),
    answer(
        "exponentials in the type of the logits, one sign only",
        lambda z, t: (
            float(np.mean(np.log1p(np.exp(-np.asarray(z))) + (1 - np.asarray(t)) * np.asarray(z))) if len(z) else 0.0
        ),
    ),
    answer(
        "only anchors with an object where all are objects",
        lambda z, t: vectorised(z, t) if np.any(np.asarray(t) == 0) else 2 * vectorised(z, t),
    ),
    answer("the mean of the two kinds' means", lambda z, t: _of_kinds(z, t)),
    answer(
        "positives count twice",
        lambda z, t: float(
            np.sum([vectorised([a], [b]) * (1 + b) for a, b in zip(z, t, strict=True)]) / max(len(z), 1)
        ),
    ),
    answer("label smoothing of 0.1", lambda z, t: vectorised(z, np.asarray(t) * 0.9 + 0.05)),
    answer("a loss for each anchor", lambda z, t: np.array([vectorised([a], [b]) for a, b in zip(z, t, strict=True)])),
    answer("an array with one number", lambda z, t: np.array([vectorised(z, t)])),
    answer("divided by one anchor more", lambda z, t: vectorised(z, t) * len(z) / (len(z) + 1)),
    answer("None without anchors", lambda z, t: vectorised(z, t) if len(z) else None),
    answer("0.5 for a sure answer that is right", lambda z, t: vectorised(np.clip(z, -8, 1e9), t)),
    answer("text", lambda z, t: f"{vectorised(z, t):.6f}"),
)

"""Answers to `checks.sample`."""

import random

import numpy as np

from mutants import answer


def by_permutation(labels, size, positive_fraction, rng):
    positive, negative = _candidates(labels)
    positive = np.sort(rng.permutation(positive)[: int(size * positive_fraction)])
    return positive, np.sort(rng.permutation(negative)[: size - len(positive)])


def by_loops(labels, size, positive_fraction, rng):
    chosen = []
    for candidates, most in (
        ([i for i, label in enumerate(labels) if label > 0], int(size * positive_fraction)),
        ([i for i, label in enumerate(labels) if label == 0], size),
    ):
        kept = []
        while candidates and len(kept) < most - sum(map(len, chosen)):
            kept.append(candidates.pop(int(rng.integers(len(candidates)))))
        chosen.append(sorted(kept))
    return chosen


def by_choice(labels, size, positive_fraction, rng):
    return _chosen(labels, int(size * positive_fraction), size, rng)


def by_random_keys(labels, size, positive_fraction, rng):
    keys = rng.random(len(labels), np.float32)
    positive, negative = (rows[np.argsort(keys[rows])] for rows in _candidates(labels))
    positive = np.sort(positive[: int(size * positive_fraction)])
    return positive, np.sort(negative[: size - len(positive)]).astype(np.int32)


def _candidates(labels):
    labels = np.asarray(labels)
    return np.flatnonzero(labels >= 1), np.flatnonzero(labels == 0)


def _draw(rows, count, rng):
    return np.sort(rng.choice(rows, max(min(count, len(rows)), 0), replace=False))


def _chosen(labels, most, size, rng, candidates=_candidates, draw=_draw):
    positive, negative = candidates(labels)
    positive = draw(positive, most, rng)
    return positive, draw(negative, size - len(positive), rng)


def with_replacement(labels, size, positive_fraction, rng):
    return _chosen(
        labels,
        int(size * positive_fraction),
        size,
        rng,
        draw=lambda rows, count, rng: np.sort(rng.choice(rows, min(count, len(rows)), replace=True)),
    )


def not_filled_up(labels, size, positive_fraction, rng):
    positive, negative = _candidates(labels)
    most = int(size * positive_fraction)
    return _draw(positive, most, rng), _draw(negative, size - most, rng)


def fraction_ignored(labels, size, positive_fraction, rng):
    return _chosen(labels, size, size, rng)


def fraction_of_the_candidates(labels, size, positive_fraction, rng):
    return _chosen(labels, min(int(len(_candidates(labels)[0]) * positive_fraction), size), size, rng)


def fraction_of_the_negatives(labels, size, positive_fraction, rng):
    return _chosen(labels, size - int(size * positive_fraction), size, rng)


def rounded_up(labels, size, positive_fraction, rng):
    return _chosen(labels, int(np.ceil(size * positive_fraction)), size, rng)


def positives_fill_up(labels, size, positive_fraction, rng):
    positive, negative = _candidates(labels)
    room = size - min(len(negative), size - int(size * positive_fraction))
    return _chosen(labels, room, size, rng)


def ignored_as_negative(labels, size, positive_fraction, rng):
    return _chosen(
        labels,
        int(size * positive_fraction),
        size,
        rng,
        lambda labels: (np.flatnonzero(labels > 0), np.flatnonzero(labels <= 0)),
    )


def ignored_as_positive(labels, size, positive_fraction, rng):
    return _chosen(
        labels,
        int(size * positive_fraction),
        size,
        rng,
        lambda labels: (np.flatnonzero(labels), np.flatnonzero(labels == 0)),
    )


def only_the_first_class(labels, size, positive_fraction, rng):
    return _chosen(
        labels,
        int(size * positive_fraction),
        size,
        rng,
        lambda labels: (np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)),
    )


def positions_among_the_candidates(labels, size, positive_fraction, rng):
    return _chosen(
        labels,
        int(size * positive_fraction),
        size,
        rng,
        draw=lambda rows, count, rng: _draw(np.arange(len(rows)), count, rng),
    )


def masks(labels, size, positive_fraction, rng):
    return [np.isin(np.arange(len(labels)), rows) for rows in by_choice(labels, size, positive_fraction, rng)]


def negatives_first(labels, size, positive_fraction, rng):
    return by_choice(labels, size, positive_fraction, rng)[::-1]


def one_row(labels, size, positive_fraction, rng):
    return np.concatenate(by_choice(labels, size, positive_fraction, rng))


def out_of_order(labels, size, positive_fraction, rng):
    return _chosen(
        labels, int(size * positive_fraction), size, rng, draw=lambda rows, count, rng: rng.permutation(rows)[:count]
    )


def fails_where_few(labels, size, positive_fraction, rng):
    positive, negative = _candidates(labels)
    most = int(size * positive_fraction)
    return (
        np.sort(rng.choice(positive, most, replace=False)),
        np.sort(rng.choice(negative, size - most, replace=False)),
    )


def the_first_ones(labels, size, positive_fraction, rng):
    return _chosen(labels, int(size * positive_fraction), size, rng, draw=lambda rows, count, rng: rows[:count])


def negatives_not_by_chance(labels, size, positive_fraction, rng):
    positive, negative = _candidates(labels)
    positive = _draw(positive, int(size * positive_fraction), rng)
    return positive, negative[: size - len(positive)]


def from_the_global_generator(labels, size, positive_fraction, rng):
    positive, negative = (random.sample(rows.tolist(), len(rows)) for rows in _candidates(labels))
    positive = sorted(positive[: int(size * positive_fraction)])
    return positive, sorted(negative[: size - len(positive)])


def a_generator_of_its_own(labels, size, positive_fraction, rng):
    return by_choice(labels, size, positive_fraction, np.random.default_rng(0))


def _never_the_last(rows, count, rng):
    return _draw(rows[: max(count, len(rows) - 1)], count, rng)


def last_left_out(labels, size, positive_fraction, rng):
    return _chosen(labels, int(size * positive_fraction), size, rng, draw=_never_the_last)


def a_run(labels, size, positive_fraction, rng):
    def draw(rows, count, rng):
        start = int(rng.integers(max(len(rows) - count, 0) + 1))
        return rows[start : start + count]

    return _chosen(labels, int(size * positive_fraction), size, rng, draw=draw)


def a_run_round_the_end(labels, size, positive_fraction, rng):
    def draw(rows, count, rng):
        return np.sort(np.roll(rows, int(rng.integers(max(len(rows), 1))))[:count])

    return _chosen(labels, int(size * positive_fraction), size, rng, draw=draw)


def one_past_the_end(labels, size, positive_fraction, rng):
    def draw(rows, count, rng):
        left = rows.tolist()
        return sorted(left.pop(int(rng.integers(0, len(left), endpoint=True))) for _ in range(min(count, len(rows))))

    return _chosen(labels, int(size * positive_fraction), size, rng, draw=draw)


def each_by_a_coin(labels, size, positive_fraction, rng):
    return _chosen(
        labels,
        int(size * positive_fraction),
        size,
        rng,
        draw=lambda rows, count, rng: rows[rng.random(len(rows)) * len(rows) < count],
    )


def fails_at_rare_draws(labels, size, positive_fraction, rng):
    return by_choice(labels[:] if rng.random() < 0.95 else None, size, positive_fraction, rng)


def relabels_in_place(labels, size, positive_fraction, rng):
    positive, negative = by_choice(labels, size, positive_fraction, rng)
    rest = np.setdiff1d(np.arange(len(labels)), np.concatenate([positive, negative]))
    labels[rest] = -1
    return positive, negative


def forgets_to_return(labels, size, positive_fraction, rng):
    by_choice(labels, size, positive_fraction, rng)


def _with_order(labels, size, positive_fraction, order):
    positive, negative = _candidates(labels)
    positive = np.sort(order(positive)[: int(size * positive_fraction)])
    return positive, np.sort(order(negative)[: size - len(positive)])


def _exchanged(rows, rng):
    rows = rows.copy()
    for i in range(len(rows)):
        j = rng.integers(len(rows))
        rows[i], rows[j] = rows[j], rows[i]
    return rows


RIGHT = (by_permutation, by_loops, by_choice, by_random_keys)
WRONG = (
    (with_replacement, "without replacement"),
    (not_filled_up, "Fill the sample with negatives"),
    (fraction_ignored, "are enough anchors of both"),
    (fraction_of_the_candidates, "of `size` anchors, not among the candidates"),
    (fraction_of_the_negatives, "is the fraction of positives in a sample"),
    (rounded_up, "rounded down"),
    (positives_fill_up, "no more positives than the fraction allows"),
    (ignored_as_negative, "below 0 is ignored"),
    (ignored_as_positive, "below 0 is ignored"),
    (only_the_first_class, "are classes of objects, so all"),
    (positions_among_the_candidates, "candidates is not an index"),
    (masks, "not a mask"),
    (negatives_first, "Look up the label of each index"),
    (one_row, r"two arrays, \(positive, negative\)"),
    (out_of_order, "Return them in ascending order"),
    (fails_where_few, "fewer positives than the fraction allows"),
    (the_first_ones, "The choice must depend on the random"),
    (negatives_not_by_chance, "same negative anchors"),
    (from_the_global_generator, "the choice cannot be repeated"),
    (a_generator_of_its_own, "a generator of your own"),
    (last_left_out, "Every candidate must have the same probability"),
    (a_run, "Every candidate must have the same probability"),
    (a_run_round_the_end, "your function choose neighbours together"),
    (one_past_the_end, "raises IndexError"),
    (each_by_a_coin, "chooses [0-9]+ (positive|negative) anchors; "),
    (fails_at_rare_draws, "raises TypeError"),
    (relabels_in_place, "changes its argument 'labels'"),
    (forgets_to_return, "without `return`"),
)
WRONG += (  # each with the description of a misconception
    answer(
        "shuffles by exchanging each with any other",
        lambda y, n, f, rng: _with_order(y, n, f, lambda rows: _exchanged(rows, rng)),
        "times in|together",
    ),
    answer(
        "keys from 0 to 5, so equals go to the earlier box",
        lambda y, n, f, rng: _with_order(
            y, n, f, lambda rows: rows[np.argsort(rng.integers(0, 6, len(rows)), kind="stable")]
        ),
        "times in|together",
    ),
    answer(
        "keys from 0 to 20",
        lambda y, n, f, rng: _with_order(
            y, n, f, lambda rows: rows[np.argsort(rng.integers(0, 21, len(rows)), kind="stable")]
        ),
        "times in|together|sets|early",
    ),
    answer(
        "one exchange more than a shuffle needs, and one element fewer",
        lambda y, n, f, rng: _with_order(
            y, n, f, lambda rows: np.concatenate([rng.permutation(rows[:-1]), rows[-1:]]) if len(rows) else rows
        ),
    ),
    answer(
        "a random rotation",
        lambda y, n, f, rng: _with_order(y, n, f, lambda rows: np.roll(rows, rng.integers(max(len(rows), 1)))),
    ),
    answer("reversed at random", lambda y, n, f, rng: _with_order(y, n, f, lambda rows: rows[:: rng.choice([-1, 1])])),
    answer("labels below -1 are negatives", lambda y, n, f, rng: by_permutation(np.where(y < -1, 0, y), n, f, rng)),
    answer("labels above 1 are not positive", lambda y, n, f, rng: by_permutation(np.where(y > 1, -1, y), n, f, rng)),
    answer("half of the batch is positive, whatever the fraction", lambda y, n, f, rng: by_permutation(y, n, 0.5, rng)),
    answer("a quarter of the batch at most", lambda y, n, f, rng: by_permutation(y, n, min(f, 0.25), rng)),
    answer(
        "rounded to the nearest", lambda y, n, f, rng: by_permutation(y, n, (round(n * f) + 0.001) / n if n else f, rng)
    ),
    answer("the batch holds 256 at least", lambda y, n, f, rng: by_permutation(y, max(n, 16), f, rng)),
    answer(
        "indices as floats", lambda y, n, f, rng: tuple(part.astype(float) for part in by_permutation(y, n, f, rng))
    ),
    answer(
        "a dict", lambda y, n, f, rng: dict(zip(("positive", "negative"), by_permutation(y, n, f, rng), strict=True))
    ),
    answer("labels of the batch", lambda y, n, f, rng: tuple(y[part] for part in by_permutation(y, n, f, rng))),
    answer(
        "the labels are shuffled in place",
        lambda y, n, f, rng: [by_permutation(y, n, f, rng), rng.shuffle(y)][0],
        "changes its argument",
    ),
    answer("descending indices", lambda y, n, f, rng: tuple(part[::-1] for part in by_permutation(y, n, f, rng))),
    answer(
        "reseeds with the sum of the labels",
        lambda y, n, f, rng: by_permutation(y, n, f, np.random.default_rng(abs(int(y.sum())))),
    ),
)

"""Answers to `checks.learning_rate`."""

import math

import numpy as np

from mutants import answer


def with_if(step, steps, base, warmup, final):
    rise = 1.0
    if step < warmup:
        rise = 0.001 + 0.999 * step / warmup
    fall = final + (1 - final) * (1 + math.cos(math.pi * min(step, steps) / steps)) / 2
    return base * rise * fall


def with_numpy(step, steps, base, warmup, final):
    rise = np.interp(step, [0, max(warmup, 1e-9)], [0.001 if warmup else 1, 1])
    share = np.clip(step / steps, 0, 1)
    return base * rise * (final + (1 - final) * np.cos(np.pi / 2 * share) ** 2)


def from_the_end(step, steps, base, warmup, final):
    left = max(1 - step / steps, 0)
    fall = 1 - (1 - final) * (1 + math.cos(math.pi * left)) / 2
    missing = 0.999 * max(1 - step / warmup, 0) if warmup else 0
    return base * fall * (1 - missing)


def _wrong(
    rise=lambda k, n: 1.0 if k >= n else 0.001 + 0.999 * k / n,
    fall=lambda k, n, final: final + (1 - final) * (1 + math.cos(math.pi * min(k / n, 1))) / 2,
    join=lambda a, b: a * b,
):
    def function(step, steps, base, warmup, final):
        return base * join(rise(step, warmup), fall(step, steps, final))

    return function


def _named(**functions):
    for name, function in functions.items():
        function.__name__ = name
    return functions


def counts_after_the_warmup(step, steps, base, warmup, final):
    if step < warmup:
        return base * (0.001 + 0.999 * step / warmup)
    share = min((step - warmup) / max(steps - warmup, 1), 1)
    return base * (final + (1 - final) * (1 + math.cos(math.pi * share)) / 2)


def either_or(step, steps, base, warmup, final):
    return with_if(step, steps, base, 0, final) if step >= warmup else base * (0.001 + 0.999 * step / warmup)


def final_is_a_rate(step, steps, base, warmup, final):
    fall = final + (base - final) * (1 + math.cos(math.pi * min(step / steps, 1))) / 2
    return (1.0 if step >= warmup else 0.001 + 0.999 * step / warmup) * fall


def forgets_to_return(step, steps, base, warmup, final):
    with_if(step, steps, base, warmup, final)


def forgets_the_base(step, steps, base, warmup, final):
    return with_if(step, steps, 1, warmup, final)


PARTS = _named(
    no_warmup=_wrong(rise=lambda k, n: 1.0),
    divides_by_no_warmup=_wrong(rise=lambda k, n: min(0.001 + 0.999 * k / n, 1)),
    from_zero=_wrong(rise=lambda k, n: 1.0 if k >= n else k / n),
    rises_on=_wrong(rise=lambda k, n: 0.001 + 0.999 * k / n if n else 1.0),
    counts_from_one=_wrong(rise=lambda k, n: min(0.001 + 0.999 * (k + 1) / n, 1) if n else 1.0),
    warms_up_along_a_cosine=_wrong(
        rise=lambda k, n: 1.0 if k >= n else 1 - 0.999 * (1 + math.cos(math.pi * k / n)) / 2
    ),
    whole_steps=_wrong(rise=lambda k, n: 1.0 if k >= n else 0.001 + 0.999 * (k // n)),
    constant=_wrong(fall=lambda k, n, final: 1.0),
    straight=_wrong(fall=lambda k, n, final: final + (1 - final) * (1 - min(k / n, 1))),
    to_zero=_wrong(fall=lambda k, n, final: (1 + math.cos(math.pi * min(k / n, 1))) / 2),
    cut_at_final=_wrong(fall=lambda k, n, final: max((1 + math.cos(math.pi * min(k / n, 1))) / 2, final)),
    adds_final=_wrong(fall=lambda k, n, final: final + (1 + math.cos(math.pi * min(k / n, 1))) / 2),
    a_quarter_wave=_wrong(fall=lambda k, n, final: final + (1 - final) * math.cos(math.pi / 2 * min(k / n, 1))),
    a_whole_wave=_wrong(fall=lambda k, n, final: final + (1 - final) * (1 + math.cos(2 * math.pi * min(k / n, 1))) / 2),
    rises_again=_wrong(fall=lambda k, n, final: final + (1 - final) * (1 + math.cos(math.pi * k / n)) / 2),
    degrees=_wrong(fall=lambda k, n, final: final + (1 - final) * (1 + math.cos(180 * min(k / n, 1))) / 2),
    upside_down=_wrong(fall=lambda k, n, final: final + (1 - final) * (1 - math.cos(math.pi * min(k / n, 1))) / 2),
    the_lower=_wrong(join=min),
)

RIGHT = (with_if, with_numpy, from_the_end)
WRONG = (
    (PARTS["no_warmup"], "factor is 0.001"),
    (PARTS["divides_by_no_warmup"], "raises ZeroDivisionError"),
    (PARTS["from_zero"], "but not 0"),
    (PARTS["rises_on"], "stays 1"),
    (PARTS["counts_from_one"], "factor is 0.001"),
    (PARTS["warms_up_along_a_cosine"], "rises along a straight line|, a straight line has"),
    (PARTS["whole_steps"], "warm-up factor rises along a straight line"),
    (PARTS["constant"], "the end, the rate is `final`"),
    (PARTS["straight"], "not a straight line"),
    (PARTS["to_zero"], "the end, the rate is `final`"),
    (PARTS["cut_at_final"], "falls to `final`"),
    (PARTS["adds_final"], "the full rate"),
    (PARTS["a_quarter_wave"], "from 0 to pi"),
    (PARTS["a_whole_wave"], "the end, the rate is `final`"),
    (PARTS["rises_again"], "does not rise again"),
    (PARTS["degrees"], "the end, the rate is `final`"),
    (PARTS["upside_down"], "the full rate"),
    (PARTS["the_lower"], "multiplied by the cosine factor"),
    (counts_after_the_warmup, "not from the end of the warm-up"),
    (either_or, "multiplied by the cosine factor"),
    (final_is_a_rate, "the end, the rate is `final`"),
    (forgets_to_return, "without `return`"),
    (forgets_the_base, "the full rate"),
)
WRONG += (  # each with the description of a misconception
    answer("the warm-up ends with the run", lambda k, n, b, w, f: with_if(k, n, b, min(w, n), f)),
    answer(
        "a warm-up of a single step is none",
        lambda k, n, b, w, f: with_if(k, n, b, w if w > 1 else 0, f),
    ),
    answer("a warm-up of two steps at least", lambda k, n, b, w, f: with_if(k, n, b, max(w, 2) if w else 0, f)),
    answer("the warm-up reaches 1 one step early", lambda k, n, b, w, f: with_if(k, n, b, max(w - 1, 0), f)),
    answer(
        "the cosine ends one step early",
        lambda k, n, b, w, f: with_if(k, n - 1, b, w, f) if n > 1 else with_if(k, n, b, w, f),
    ),
    answer(
        "the cosine begins after the warm-up, while it counts all steps",
        lambda k, n, b, w, f: with_if(k, n, b, w, f) if k <= w else with_if(k, n, 1.0, 0, f) * b * 0.99,
    ),
    answer("0 after the end", lambda k, n, b, w, f: with_if(k, n, b, w, f) if k <= n else 0.0),
    answer("the base rate after the end", lambda k, n, b, w, f: with_if(k, n, b, w, f) if k <= n else b),
    answer("a factor of 0.01 at step 0", lambda k, n, b, w, f: with_if(k, n, b, w, f) * (10 if k == 0 and w else 1)),
    answer("rounded to three digits", lambda k, n, b, w, f: round(with_if(k, n, b, w, f), 3)),
    answer("1e-3 at least", lambda k, n, b, w, f: max(with_if(k, n, b, w, f), 1e-3)),
    answer("final is 0.1", lambda k, n, b, w, f: with_if(k, n, b, w, 0.1)),
    answer(
        "an array of the rates so far", lambda k, n, b, w, f: np.array([with_if(i, n, b, w, f) for i in range(k + 1)])
    ),
    answer("a tuple of the two factors", lambda k, n, b, w, f: (with_if(k, n, b, w, f), 1.0)),
    answer("text", lambda k, n, b, w, f: f"{with_if(k, n, b, w, f):.2e}"),
    answer("whole divisions", lambda k, n, b, w, f: with_if(k // 2 * 2, n, b, w, f)),
)

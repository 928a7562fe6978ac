"""The recipe of a run: learning rate, optimiser and validation of its fields."""

import numpy as np
import pytest

from rcnn._validate import shown
from rcnn.nn import Linear, optim
from rcnn.train.recipe import Recipe


def test_learning_rate_rises_then_falls_along_a_cosine() -> None:
    recipe = Recipe(steps=100, lr=2.0, warmup_steps=10, final_lr=0.1)
    rates = [recipe.lr_at(step) for step in range(101)]
    assert rates[0] == pytest.approx(2.0 * 1e-3)
    assert rates[50] == pytest.approx(2.0 * (0.1 + 0.9 * 0.5))
    assert rates[100] == pytest.approx(0.2)
    assert np.argmax(rates) == 10


def test_warm_up_of_a_short_run_is_a_quarter_of_its_steps() -> None:
    short, long = Recipe(steps=40), Recipe(steps=800)
    assert short.lr_at(9) < 0.92 * short.lr and short.lr_at(10) > 0.85 * short.lr
    assert long.lr_at(199) < long.lr_at(200) > long.lr_at(201)


def test_learning_rate_falls_in_steps() -> None:
    recipe = Recipe(steps=100, lr=2.0, warmup_steps=10, schedule="steps", milestones=(20, 50), gamma=0.5)
    assert [recipe.lr_at(step) for step in (10, 19, 20, 49, 50, 99)] == [2, 2, 1, 1, 0.5, 0.5]
    assert recipe.lr_at(5) == pytest.approx(2.0 * (1e-3 + 0.999 * 0.5))


def test_optimizer_by_name() -> None:
    sgd = Recipe(optimizer="sgd", lr=0.5, momentum=0.75, weight_decay=0.25).make_optimizer(Linear(2, 2))
    assert isinstance(sgd, optim.SGD) and (sgd.lr, sgd.momentum, sgd.weight_decay) == (0.5, 0.75, 0.25)
    assert isinstance(Recipe().make_optimizer(Linear(2, 2)), optim.Adam)


def test_lists_and_integers_are_accepted() -> None:
    recipe = Recipe(lr=1, schedule="steps", milestones=[3, 5], scale_jitter=[1, 2], freeze=["backbone"])
    assert recipe == Recipe(lr=1.0, schedule="steps", milestones=(3, 5), scale_jitter=(1.0, 2.0), freeze=("backbone",))
    assert hash(recipe) and isinstance(recipe.lr, float)


def test_replace_with_none_keeps_the_value() -> None:
    assert Recipe(flip=0.5).replace(steps=3) == Recipe(steps=3, flip=0.5)
    assert Recipe(flip=0.5).replace(seed=3) == Recipe(seed=3, flip=0.5)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", 0),
        ("optimizer", "lbfgs"),
        ("lr", 0),
        ("lr", float("nan")),
        ("lr", float("inf")),
        ("lr", 10**400),
        ("momentum", 1),
        ("weight_decay", -1e-4),
        ("warmup_steps", -1),
        ("final_lr", 1.5),
        ("max_norm", 0),
        ("seed", -1),
        ("schedule", "linear"),
        ("gamma", 0),
        ("gamma", 2),
        ("flip", 1.01),
        ("vertical_flip", -0.1),
        ("crop", 0.95),
        ("translate", 0.6),
        ("rotate", 90),
        ("colour_jitter", 1.5),
        ("scale_jitter", (1.5, 0.5)),
        ("scale_jitter", (0, 1)),
        ("scale_jitter", (1, 1, 1)),
        ("freeze", ("",)),
        ("val_every", -1),
        ("accumulate", 0),
        ("patience", -1),
        ("ema", 1),
    ],
)
def test_wrong_values_are_named(name: str, value: object) -> None:
    with pytest.raises(ValueError) as error:
        Recipe(**{name: value})
    assert str(error.value).startswith(f"{name} must be ") and str(error.value).endswith(f"got {shown(value)}")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", True),
        ("batch_size", 1.5),
        ("optimizer", 3),
        ("lr", "fast"),
        ("flip", True),
        ("scale_jitter", 0.8),
        ("group_by_aspect", 1),
        ("freeze", "backbone"),
        ("freeze", (3,)),
        ("milestones", 3),
        ("milestones", (1.5,)),
        ("val_every", 10.0),
    ],
)
def test_wrong_types_are_named(name: str, value: object) -> None:
    with pytest.raises(TypeError) as error:
        Recipe(**{name: value})
    assert str(error.value).startswith(f"{name} must be ")
    assert str(error.value).endswith(f"got {value!r} ({type(value).__name__})")


@pytest.mark.parametrize("milestones", [(3, 3), (5, 3), (0,)])
def test_milestones_must_ascend(milestones: object) -> None:
    with pytest.raises(ValueError, match="milestones must be an ascending sequence of at most 1,000 steps"):
        Recipe(schedule="steps", milestones=milestones)


def test_milestones_without_the_steps_schedule_are_an_error() -> None:
    with pytest.raises(ValueError, match="milestones must be empty if schedule is 'cosine', got "):
        Recipe(milestones=(3,))


def test_patience_without_regular_validations_is_an_error() -> None:
    with pytest.raises(ValueError, match="^patience must be 0 if val_every is 0, got 2$"):
        Recipe(patience=2)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", 10**8 + 1),
        ("batch_size", 10**8),
        ("warmup_steps", 10**9),
        ("val_every", 10**9),
        ("seed", 2**64),
        ("scale_jitter", (1, 1e9)),
        ("scale_jitter", (1e-9, 1)),
    ],
)
def test_numbers_have_an_upper_bound(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"^{name} must be "):
        Recipe(**{name: value})


def test_milestones_have_an_upper_bound() -> None:
    for milestones in ((10**9,), range(1, 1_002)):
        with pytest.raises(ValueError, match="milestones must be an ascending sequence of at most 1,000 steps"):
            Recipe(schedule="steps", milestones=milestones)

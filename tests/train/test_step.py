"""One training step: updates, random samples, and the state after an error."""

import numpy as np
import pytest

import rcnn
from rcnn import data, train
from rcnn.model import FasterRCNN
from rcnn.nn import optim
from rcnn.train import Recipe
from rcnn.train.loader import Loader, Order, TrainingBatch
from rcnn.train.run_folder import LOSSES
from rcnn.zoo.detectors import faster_rcnn_small

PAGES = data.Shapes(6, seed=3)
RECIPE = Recipe(steps=5, batch_size=2, warmup_steps=2, seed=7)


def small_model() -> FasterRCNN:
    rcnn.seed(5)
    return faster_rcnn_small(PAGES.classes, dropout=0.3)


def first_batch(model: FasterRCNN) -> TrainingBatch:
    """The batch of step 0, as the loop reads it."""
    indices = Order(len(PAGES), RECIPE.batch_size, RECIPE.seed).batch(0)
    return Loader(PAGES, model.make_batch, model.config.num_classes).load(indices)


def state(model: FasterRCNN) -> dict[str, np.ndarray]:
    return {name: array.copy() for name, array in model.state_dict().items()}


def changed(model: FasterRCNN, before: dict[str, np.ndarray]) -> set[str]:
    """Return the names of the parameters and buffers that changed."""
    return {name for name, array in model.state_dict().items() if not np.array_equal(array, before[name])}


def test_step_updates_every_parameter_as_the_loop_does() -> None:
    model, other = small_model().train(), small_model()
    before = state(model)
    losses, norm = train.train_step(model, RECIPE.make_optimizer(model), first_batch(model), RECIPE, 0)
    run = train.fit(other, PAGES, RECIPE, stop_at=1, progress=False)
    assert not changed(model, state(other))
    assert changed(model, before) >= {name for name, _ in model.named_parameters()}
    assert list(losses) == list(LOSSES) and norm > 0
    assert losses == {name: run.history[name][0] for name in LOSSES} and run.grad_norms == [norm]


def test_learning_rate_is_that_of_the_recipe_at_this_step() -> None:
    model = small_model().train()
    optimizer = RECIPE.make_optimizer(model)
    train.train_step(model, optimizer, first_batch(model), RECIPE, 3)
    assert optimizer.lr == RECIPE.lr_at(3)


def test_gradients_are_scaled_down_to_the_largest_norm() -> None:
    model = small_model().train()
    optimizer = RECIPE.make_optimizer(model)
    recipe = Recipe(batch_size=2, max_norm=1e-3)
    _, norm = train.train_step(model, optimizer, first_batch(model), recipe, 0)
    assert norm > 1e-3
    assert optim.clip_grad_norm(optimizer.parameters, np.inf) == pytest.approx(1e-3, rel=1e-4)


def test_every_step_draws_its_own_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_model().train()
    optimizer, batch = RECIPE.make_optimizer(model), first_batch(model)
    drawn: list[float] = []

    def get_loss(images: object, targets: object, rng: np.random.Generator) -> dict[str, rcnn.nn.Tensor]:
        drawn.append(rng.random())
        return FasterRCNN.get_loss(model, images, targets, rng)

    monkeypatch.setattr(model, "get_loss", get_loss)
    for step in range(3):
        train.train_step(model, optimizer, batch, RECIPE, step)
    assert drawn == [np.random.default_rng([7, 1, step]).random() for step in range(3)]


@pytest.mark.filterwarnings("ignore:invalid value encountered")  # non-finite on purpose
def test_non_finite_step_changes_nothing_and_names_the_stage() -> None:
    model = small_model().train()
    model.roi_heads.box_predictor.bbox_pred.weight.data[...] = np.inf
    before = state(model)
    with pytest.raises(
        FloatingPointError,
        match=r"^step 2 produced non-finite values, first in the head \(box deltas\): .*; "
        "try a lower learning rate than 0.003$",
    ):
        train.train_step(model, RECIPE.make_optimizer(model), first_batch(model), RECIPE, 2)
    assert not changed(model, before)


def test_error_without_non_finite_values_is_raised_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_model().train()
    batch, before = first_batch(model), state(model)

    def get_loss(images: object, targets: object, rng: np.random.Generator, watch: object = None) -> None:
        raise ValueError("there is no image")

    monkeypatch.setattr(model, "get_loss", get_loss)
    with pytest.raises(ValueError, match="^there is no image$"):
        train.train_step(model, RECIPE.make_optimizer(model), batch, RECIPE, 0)
    assert not changed(model, before)

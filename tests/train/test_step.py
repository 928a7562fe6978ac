"""One training step: updates, random samples, and the state after an error."""

import numpy as np
import pytest

import rcnn
from rcnn import data, train
from rcnn.model import FasterRCNN
from rcnn.nn import optim
from rcnn.train import Recipe
from rcnn.train.loader import Loader, TrainingBatch
from rcnn.train.order import Order
from rcnn.train.run_folder import LOSSES
from rcnn.zoo.detectors import faster_rcnn_small

PAGES = data.Shapes(6, seed=3)
RECIPE = Recipe(steps=5, batch_size=2, warmup_steps=2, seed=7)


def small_model() -> FasterRCNN:
    rcnn.seed(5)
    return faster_rcnn_small(PAGES.classes, dropout=0.3)


def first_batches(model: FasterRCNN, count: int = 1) -> list[TrainingBatch]:
    """The first batches of a run, as the loop reads them."""
    order = Order(len(PAGES), RECIPE.batch_size, RECIPE.seed)
    loader = Loader(PAGES, model.make_batch)
    return [loader.load(order.batch(number)) for number in range(count)]


def state(model: FasterRCNN) -> dict[str, np.ndarray]:
    return {name: array.copy() for name, array in model.state_dict().items()}


def changed(model: FasterRCNN, before: dict[str, np.ndarray]) -> set[str]:
    """Return the names of the parameters and buffers that changed."""
    return {name for name, array in model.state_dict().items() if not np.array_equal(array, before[name])}


def test_step_updates_every_parameter_as_the_loop_does() -> None:
    model, other = small_model().train(), small_model()
    before = state(model)
    losses, norm = train.train_step(model, RECIPE.make_optimizer(model), first_batches(model), RECIPE, 0)
    run = train.fit(other, PAGES, RECIPE, stop_at=1, progress=False)
    assert not changed(model, state(other))
    assert changed(model, before) >= {name for name, _ in model.named_parameters()}
    assert list(losses) == list(LOSSES) and norm > 0
    assert losses == {name: run.history[name][0] for name in LOSSES} and run.grad_norms == [norm]


def test_learning_rate_is_that_of_the_recipe_at_this_step() -> None:
    model = small_model().train()
    optimizer = RECIPE.make_optimizer(model)
    train.train_step(model, optimizer, first_batches(model), RECIPE, 3)
    assert optimizer.lr == RECIPE.lr_at(3)


def test_gradients_are_scaled_down_to_the_largest_norm() -> None:
    model = small_model().train()
    optimizer = RECIPE.make_optimizer(model)
    recipe = Recipe(batch_size=2, max_norm=1e-3)
    _, norm = train.train_step(model, optimizer, first_batches(model), recipe, 0)
    assert norm > 1e-3
    assert optim.clip_grad_norm(optimizer.parameters, np.inf) == pytest.approx(1e-3, rel=1e-4)


def test_every_image_of_every_step_draws_its_own_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_model().train()
    optimizer, batches = RECIPE.make_optimizer(model), first_batches(model)
    drawn: list[list[float]] = []

    def get_loss(images: object, targets: object, rng: list[np.random.Generator]) -> dict[str, rcnn.nn.Tensor]:
        drawn.append([own.random() for own in rng])
        return FasterRCNN.get_loss(model, images, targets, rng)

    monkeypatch.setattr(model, "get_loss", get_loss)
    for step in range(3):
        train.train_step(model, optimizer, batches, RECIPE, step)
    assert drawn == [[np.random.default_rng([7, 1, step, image]).random() for image in range(2)] for step in range(3)]


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
        train.train_step(model, RECIPE.make_optimizer(model), first_batches(model), RECIPE, 2)
    assert not changed(model, before)


def test_error_without_non_finite_values_is_raised_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_model().train()
    batches, before = first_batches(model), state(model)

    def get_loss(images: object, targets: object, rng: np.random.Generator, watch: object = None) -> None:
        raise ValueError("there is no image")

    monkeypatch.setattr(model, "get_loss", get_loss)
    with pytest.raises(ValueError, match="^there is no image$"):
        train.train_step(model, RECIPE.make_optimizer(model), batches, RECIPE, 0)
    assert not changed(model, before)


def test_accumulated_gradient_is_the_mean_over_the_batches() -> None:
    """The step of SGD with two batches is the mean of its steps with each batch."""
    recipe = Recipe(batch_size=2, accumulate=2, optimizer="sgd", lr=1.0, warmup_steps=0, weight_decay=0, max_norm=1e9)

    def moved(first: int, last: int) -> tuple[dict[str, float], dict[str, np.ndarray]]:
        """Return the losses, and the change of each parameter in step 0 with some of the two batches."""
        model = small_model()
        model.eval()  # batch norms that do not change
        before = state(model)
        batches = first_batches(model, 2)[first:last]
        losses, _ = train.train_step(model, recipe.make_optimizer(model), batches, recipe, first)
        return losses, {name: parameter.data - before[name] for name, parameter in model.named_parameters()}

    (losses, both), (of_first, first), (of_second, second) = moved(0, 2), moved(0, 1), moved(1, 2)
    for name in LOSSES:
        assert losses[name] == pytest.approx((of_first[name] + of_second[name]) / 2, rel=1e-12)
    for name, change in both.items():
        np.testing.assert_allclose(change, (first[name] + second[name]) / 2, atol=1e-6, rtol=1e-4)

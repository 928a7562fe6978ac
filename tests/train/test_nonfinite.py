"""The search for the first non-finite stage, with planted NaN and infinities."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

import rcnn
from rcnn import data
from rcnn.model import FasterRCNN
from rcnn.nn import Tensor
from rcnn.train.nonfinite import first_non_finite
from rcnn.zoo.detectors import faster_rcnn_resnet_fpn, faster_rcnn_small

PAGES = [data.Shapes(2, seed=3)[i] for i in range(2)]
TARGETS = [target for _, target in PAGES]


def first(model: FasterRCNN, batch: rcnn.transform.Batch | None = None) -> str | None:
    batch = batch or model.make_batch([image for image, _ in PAGES])
    return first_non_finite(model, batch, TARGETS, np.random.default_rng(0))


@pytest.fixture
def small() -> FasterRCNN:
    rcnn.seed(1)
    return faster_rcnn_small(data.Shapes.classes).train()


@pytest.fixture
def pyramid() -> FasterRCNN:
    rcnn.seed(1)
    return faster_rcnn_resnet_fpn(5, backbone="resnet18", min_size=64, max_size=64, hidden_dim=16).train()


def plant(model: FasterRCNN, name: str, value: float = np.nan) -> None:
    dict(model.named_parameters())[name].data.flat[0] = value


def test_finite_pass_returns_none_and_leaves_no_gradient(small: FasterRCNN) -> None:
    small.rpn.head.cls_logits.bias.grad = np.ones_like(small.rpn.head.cls_logits.bias.data)
    assert first(small) is None
    graded = [name for name, parameter in small.named_parameters() if parameter.grad is not None]
    assert graded == ["rpn.head.cls_logits.bias"]
    assert all("forward" not in vars(module) for module in small.modules())


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize(
    ("name", "stage"),
    [
        ("backbone.stem.0.0.weight", "the backbone (stem.0.0)"),
        ("backbone.stem.2.1.bias", "the backbone (stem.2.1)"),
        ("backbone.blocks.1.second.0.weight", "the backbone (blocks.1.second.0)"),
        ("rpn.head.cls_logits.weight", "the RPN head (objectness)"),
        ("rpn.head.bbox_pred.bias", "the RPN head (deltas)"),
        ("roi_heads.box_predictor.cls_score.bias", "the head (class logits)"),
        ("roi_heads.box_predictor.bbox_pred.bias", "the head (box deltas)"),
    ],
)
def test_weights(small: FasterRCNN, name: str, stage: str, value: float) -> None:
    plant(small, name, value)
    assert first(small) == stage


@pytest.mark.parametrize(
    ("name", "stage"),
    [
        ("backbone.body.layer2.0.conv1.weight", "the backbone (body.layer2.0.conv1)"),
        ("backbone.fpn.inner_blocks.3.0.weight", "the backbone (fpn.inner_blocks.3.0)"),
        ("backbone.fpn.layer_blocks.0.0.weight", "the backbone (fpn.layer_blocks.0.0)"),
    ],
)
def test_weights_of_a_pyramid(pyramid: FasterRCNN, name: str, stage: str) -> None:
    plant(pyramid, name)
    assert first(pyramid) == stage


def test_batch(small: FasterRCNN) -> None:
    batch = small.make_batch([image for image, _ in PAGES])
    batch.images[1, 2, 3, 4] = np.nan  # in place, because a new Batch refuses NaN
    assert first(small, batch) == "the batch"


def replaced(monkeypatch: pytest.MonkeyPatch, owner: object, name: str, change: Callable[..., object]) -> None:
    own = getattr(owner, name)
    monkeypatch.setattr(owner, name, lambda *arguments, **options: change(own(*arguments, **options)))


def test_proposals(small: FasterRCNN, monkeypatch: pytest.MonkeyPatch) -> None:
    replaced(monkeypatch, rcnn.rpn, "propose", lambda found: replace(found, boxes=found.boxes * np.nan))
    assert first(small) == "the proposals"


def test_pooled_features(small: FasterRCNN, monkeypatch: pytest.MonkeyPatch) -> None:
    replaced(monkeypatch, rcnn.roi_heads, "pool", lambda pooled: pooled * np.inf)
    assert first(small) == "the pooled features"


@pytest.mark.parametrize(
    ("module", "index", "name"),
    [
        ("rpn", 0, "rpn_cls_loss"),
        ("rpn", 1, "rpn_reg_loss"),
        ("roi_heads", 0, "roi_cls_loss"),
        ("roi_heads", 1, "roi_reg_loss"),
    ],
)
def test_losses(small: FasterRCNN, monkeypatch: pytest.MonkeyPatch, module: str, index: int, name: str) -> None:
    replaced(
        monkeypatch,
        getattr(rcnn, module),
        "loss",
        lambda losses: [loss * (np.nan if i == index else 1.0) for i, loss in enumerate(losses)],
    )
    assert first(small) == name


def test_total_loss(small: FasterRCNN, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four finite losses whose sum overflows float32."""
    replaced(monkeypatch, rcnn.rpn, "loss", lambda losses: [loss * 0.0 + 3e38 for loss in losses])
    assert first(small) == "total_loss"


def added_to_the_loss(
    model: FasterRCNN, monkeypatch: pytest.MonkeyPatch, names: list[str], term: Callable[[Tensor], Tensor]
) -> None:
    """Make `get_loss` add `term(sum of the values)` of each of these parameters to a loss."""
    parameters = dict(model.named_parameters())
    replaced(
        monkeypatch,
        rcnn.rpn,
        "loss",
        lambda losses: (sum((term(parameters[name].sum()) for name in names), losses[0]), losses[1]),
    )


HEAD, STEM = "roi_heads.box_predictor.cls_score.bias", "backbone.stem.0.0.weight"


@pytest.mark.parametrize(("names", "named"), [([HEAD], HEAD), ([STEM], STEM), ([STEM, HEAD], HEAD)])
def test_gradients_are_named_from_the_last_parameter_to_the_first(
    small: FasterRCNN, monkeypatch: pytest.MonkeyPatch, names: list[str], named: str
) -> None:
    """The square root of 0 is 0, and its derivative is infinite."""
    added_to_the_loss(small, monkeypatch, names, lambda total: (total * 0.0).sqrt())
    assert first(small) == f"the gradient of {named}"


def test_infinite_norm_of_finite_gradients(small: FasterRCNN, monkeypatch: pytest.MonkeyPatch) -> None:
    small.astype(np.float64)
    added_to_the_loss(small, monkeypatch, [HEAD], lambda total: total * 1e200)
    assert first(small) == "the norm of the gradients"

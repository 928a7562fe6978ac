"""Rows of training: a step from pictures to moved parameters. The peer is torchvision's detector in PyTorch."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

import rcnn
from rcnn import data, train
from rcnn.loader import Loader, Order
from rcnn.recipe import RECIPES, Recipe
from speed import detector, inputs
from speed.agreement import Agreement, same_detections, same_losses
from speed.rows import Contest, Row, Settings
from speed.timing import Contestant

SIZE = (512, 512)
TRAINED_STAGES = 3  # of the backbone, as torchvision fine-tunes it
RECIPE = Recipe(steps=10_000, batch_size=1, optimizer="sgd", lr=1e-4, warmup_steps=0, max_norm=5.0)
EVERYTHING = {"rpn_batch_size_per_image": 10**6, "box_batch_size_per_image": 10**6}  # sampled: chance plays no part
ALLOWED = 1e-3  # of a loss


def resnet_contest(settings: Settings) -> Contest:
    """ResNet-50-FPN on one picture, by SGD with momentum."""
    pages = [(inputs.textured_picture(*SIZE), inputs.targets(*SIZE)[0])]
    contestants = [our_training(resnet(), pages, RECIPE)]
    if "torchvision" not in settings.peers:
        return Contest(contestants, dict)
    import torch

    from speed import torch_peer

    net = torch_resnet()
    trained = [parameter for parameter in net.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, RECIPE.lr, RECIPE.momentum, weight_decay=RECIPE.weight_decay)
    contestants.append(their_training(torch_peer.TrainingStep(net, optimizer, RECIPE.max_norm), pages, RECIPE))
    return Contest(contestants, lambda: {"torchvision": losses_agree(pages)})


def digits_contest(settings: Settings) -> Contest:
    """The small detector on pages of handwritten digits, by the recipe with which it is trained."""
    pages, recipe = data.load("digits", "train"), RECIPES["digits"]
    rcnn.seed(0)
    model = rcnn.faster_rcnn_small(pages.classes)
    if "torchvision" not in settings.peers:
        return Contest([our_training(model, pages, recipe)], dict)
    import torch

    from speed import torch_peer

    net = torch_peer.small_detector(model)
    optimizer = torch.optim.Adam(net.parameters(), recipe.lr, weight_decay=recipe.weight_decay)
    step = torch_peer.TrainingStep(net, optimizer, recipe.max_norm)
    pictures = [pages[index][0] for index in range(recipe.batch_size)]

    def agreements() -> dict[str, Agreement]:  # before the first step; later the two have seen other samples
        net.eval()
        net.roi_heads.score_thresh = 0.0
        theirs = torch_peer.detecting("torchvision", net, pictures).answer()
        net.train()
        return {"torchvision": same_detections(model.predict(pictures, score_thresh=0.0), theirs)}

    return Contest([our_training(model, pages, recipe), their_training(step, pages, recipe)], agreements)


def our_training(model: rcnn.FasterRCNN, pages: Any, recipe: Recipe) -> Contestant:
    """Steps of rcnn, one after the other, reading the pictures included."""
    loader = Loader(pages, model.make_batch, model.config.num_classes)
    order, steps = Order(len(pages), recipe.batch_size, recipe.seed), itertools.count()
    optimizer = recipe.make_optimizer(model)
    model.train()

    def call(_: None) -> float:
        step = next(steps)
        losses, _norm = train.train_step(model, optimizer, loader.load(order.batch(step)), recipe, step)
        return losses["total_loss"]

    return Contestant("rcnn", call)


def their_training(step: Callable[..., float], pages: Any, recipe: Recipe) -> Contestant:
    """Steps of torchvision on the same pictures in the same order, reading included."""
    order, steps = Order(len(pages), recipe.batch_size, recipe.seed), itertools.count()

    def call(_: None) -> float:
        batch = [pages[index] for index in order.batch(next(steps))]
        loss = step([picture for picture, _ in batch], [target for _, target in batch])
        if not np.isfinite(loss):
            raise FloatingPointError("torchvision's training has diverged, and is no measure of anything")
        return loss

    return Contestant("torchvision", call)


def losses_agree(pages: Sequence[tuple[np.ndarray, Mapping[str, np.ndarray]]]) -> Agreement:
    """Whether both have the same losses where they sample everything, so that chance plays no part."""
    import torch

    from speed import torch_peer

    pictures, targets = [picture for picture, _ in pages], [target for _, target in pages]
    ours = resnet(**EVERYTHING).train().get_loss(pictures, targets)
    step = torch_peer.TrainingStep(torch_resnet(**EVERYTHING), None, RECIPE.max_norm)
    with torch.no_grad():
        theirs = {name: loss.item() for name, loss in step.losses(pictures, targets).items()}
    return same_losses({name: loss.item() for name, loss in ours.items()}, theirs, ALLOWED)


def resnet(**settings: Any) -> rcnn.FasterRCNN:
    """rcnn's detector, of whose backbone the last stages learn."""
    model = rcnn.faster_rcnn_resnet_50_fpn(
        inputs.NUM_CLASSES, trainable_backbone_layers=TRAINED_STAGES, **detector.sizes(SIZE), **settings)
    model.load_state_dict(detector.weights())
    return model


def torch_resnet(**settings: Any) -> Any:
    """torchvision's, of whose backbone the same stages learn."""
    from speed import torch_peer

    net = torch_peer.resnet_detector(detector.weights(), inputs.NUM_CLASSES, **detector.sizes(SIZE), **settings)
    stages = tuple(f"layer{stage}" for stage in range(5 - TRAINED_STAGES, 5))
    for name, parameter in net.backbone.body.named_parameters():
        parameter.requires_grad_(name.startswith(stages))
    return net


ROWS = [
    Row("train-resnet", f"training step, ResNet-50-FPN, 1 x 3 x {SIZE[0]} x {SIZE[1]}, SGD", resnet_contest),
    Row("train-digits", "training step of the digit detector, 4 pages, Adam", digits_contest),
]

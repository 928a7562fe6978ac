"""Rows that measure a training step, from images to updated parameters. The peer is torchvision."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import rcnn
from rcnn import data, train
from rcnn.train.defaults import RECIPES
from rcnn.train.loader import Loader
from rcnn.train.order import Order
from rcnn.train.recipe import Recipe
from speed import detector, inputs
from speed.agreement import Agreement, Arrays, same_step
from speed.rows import Contest, Row, Settings
from speed.timing import Contestant

SIZE = (512, 512)
TRAINED_STAGES = 3  # the number of trainable backbone stages, as in the fine-tuning of torchvision
RECIPE = Recipe(steps=10_000, batch_size=1, optimizer="sgd", lr=1e-4, warmup_steps=0, max_norm=5.0)
EVERYTHING = {"rpn_batch_size_per_image": 10**6, "box_batch_size_per_image": 10**6}  # sample all, not at random
LOSS, GRADIENTS = 1e-3, 1e-2  # allowed relative differences of each loss and of all gradients


class Examples(list[tuple[np.ndarray, Arrays]]):
    """A data set in memory: a list of images with their targets."""

    classes = tuple(f"class {label}" for label in range(inputs.NUM_CLASSES))


def resnet_contest(settings: Settings) -> Contest:
    """Return the contest of training ResNet-50-FPN on one image with SGD and momentum."""
    dataset = Examples([(inputs.textured_image(*SIZE), inputs.targets(*SIZE)[0])])
    contestants = [our_training(resnet(), dataset, RECIPE)]
    if "torchvision" not in settings.peers:
        return Contest(contestants, dict)
    import torch

    from speed import torch_peer

    net = torch_resnet()
    trained = [parameter for parameter in net.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, RECIPE.lr, RECIPE.momentum, weight_decay=RECIPE.weight_decay)
    contestants.append(their_training(torch_peer.TrainingStep(net, optimizer, RECIPE.max_norm), dataset, RECIPE))

    def agreements() -> dict[str, Agreement]:
        return {"torchvision": steps_agree(resnet(**EVERYTHING), torch_resnet(**EVERYTHING), dataset)}

    return Contest(contestants, agreements)


def digits_contest(settings: Settings) -> Contest:
    """Return the contest of training the small detector on pages of handwritten digits, with its usual recipe."""
    dataset, recipe = data.load("digits", "train"), RECIPES["digits"]
    rcnn.seed(0)
    model = rcnn.faster_rcnn_small(dataset.classes)
    if "torchvision" not in settings.peers:
        return Contest([our_training(model, dataset, recipe)], dict)
    import torch

    from speed import torch_peer

    net = torch_peer.small_detector(model)
    optimizer = torch.optim.Adam(net.parameters(), recipe.lr, weight_decay=recipe.weight_decay)
    step = torch_peer.TrainingStep(net, optimizer, recipe.max_norm)

    def agreements() -> dict[str, Agreement]:
        sampling_all = rcnn.faster_rcnn_small(dataset.classes, **EVERYTHING)
        few = [dataset[index] for index in range(recipe.batch_size)]
        return {"torchvision": steps_agree(sampling_all, torch_peer.small_detector(sampling_all), few)}

    return Contest([our_training(model, dataset, recipe), their_training(step, dataset, recipe)], agreements)


def our_training(model: rcnn.FasterRCNN, dataset: Any, recipe: Recipe) -> Contestant:
    """Return a contestant whose calls are consecutive training steps in rcnn, including the reading of the images."""
    loader = Loader(dataset, model.make_batch)
    order, steps = Order(len(dataset), recipe.batch_size, recipe.seed), itertools.count()
    optimizer = recipe.make_optimizer(model)
    model.train()

    def call(_: None) -> float:
        step = next(steps)
        losses, _norm = train.train_step(model, optimizer, [loader.load(order.batch(step))], recipe, step)
        return losses["total_loss"]

    return Contestant("rcnn", call)


def their_training(step: Callable[..., float], dataset: Any, recipe: Recipe) -> Contestant:
    """Return a contestant whose calls are training steps in torchvision on the same images in the same order."""
    order, steps = Order(len(dataset), recipe.batch_size, recipe.seed), itertools.count()

    def call(_: None) -> float:
        batch = [dataset[index] for index in order.batch(next(steps))]
        loss = step([image for image, _ in batch], [target for _, target in batch])
        if not np.isfinite(loss):
            raise FloatingPointError(f"the training of torchvision has diverged: its loss is {loss}")
        return loss

    return Contestant("torchvision", call)


def steps_agree(model: rcnn.FasterRCNN, net: Any, dataset: Sequence[tuple[np.ndarray, Arrays]]) -> Agreement:
    """Compare the losses and gradients of one training step of two detectors that sample everything (`EVERYTHING`)."""
    from speed import torch_peer

    images, targets = [image for image, _ in dataset], [target for _, target in dataset]
    losses = model.train().get_loss(images, targets)
    losses["total_loss"].backward()
    ours = (
        {name: loss.data for name, loss in losses.items()},
        {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None},
    )
    return same_step(ours, torch_peer.TrainingStep(net, None, 1.0).gradients(images, targets), LOSS, GRADIENTS)


def resnet(**settings: Any) -> rcnn.FasterRCNN:
    """Return the detector of rcnn, in which the last backbone stages are trainable."""
    model = rcnn.faster_rcnn_resnet_50_fpn(
        inputs.NUM_CLASSES, trainable_backbone_layers=TRAINED_STAGES, **detector.unresized(SIZE), **settings
    )
    model.load_state_dict(detector.weights(detector.RESNET))
    return model


def torch_resnet(**settings: Any) -> Any:
    """Return the detector of torchvision, in which the same backbone stages are trainable."""
    from speed import torch_peer

    net = torch_peer.detector(
        detector.RESNET.peer,
        detector.weights(detector.RESNET),
        inputs.NUM_CLASSES,
        **detector.unresized(SIZE),
        **settings,
    )
    stages = tuple(f"layer{stage}" for stage in range(5 - TRAINED_STAGES, 5))
    for name, parameter in net.backbone.body.named_parameters():
        parameter.requires_grad_(name.startswith(stages))
    return net


ROWS = [
    Row("train-resnet", f"training step, ResNet-50-FPN, 1 x 3 x {SIZE[0]} x {SIZE[1]}, SGD", resnet_contest),
    Row("train-digits", "training step of the digit detector, 4 pages, Adam", digits_contest),
]

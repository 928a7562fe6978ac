"""Default settings for a data set: a plan to start from, and values for the settings that a plan leaves open."""

from __future__ import annotations

import dataclasses
import os
import re
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from rcnn import data, evaluate
from rcnn._validate import listed, shown
from rcnn.backbones import MOBILENETS
from rcnn.data import Dataset
from rcnn.data.protocol import check_dataset
from rcnn.model import FasterRCNN
from rcnn.train.plan import FIT, SETTINGS, Plan, absolute_spec
from rcnn.train.recipe import Recipe
from rcnn.zoo import checkpoint, download

RECIPES = {"shapes": Recipe(steps=1300), "digits": Recipe(steps=2500)}  # for the data sets that rcnn draws itself
MOBILENET = "mobilenet"  # a kind of which `for_dataset` chooses the version
EPOCHS = 12
MIN_STEPS, MAX_STEPS = 1200, 6000
MOBILENET_EPOCHS, MOBILENET_MIN_STEPS = 7, 700  # fewer, because each step takes longer, and ImageNet's weights help
VALIDATIONS = 10
MAX_SHORT_SIDE = 320  # pixels; training on larger images takes too long on a CPU
# For the small network and MobileNets. With half the batch and twice as many steps, they learn more in the same time.
BATCH_SIZE = 2
SCALE_JITTER = (0.8, 1.25)
FLIP = 0.5
EMA = 0.998
# Numbers of proposals of these networks, before and after NMS. With the numbers for drawn pages (400, and 200 or 100),
# red cells filled the candidates in images of blood, and many platelets had no proposal. With torchvision's numbers
# (2000), NMS takes longer.
CANDIDATES, PROPOSALS = 1000, 300
# The value of box_batch_size_per_image. With torchvision's value, 512, the head takes 90 % of a step on small images.
RESNET_ROIS = 128
MOBILENET_LAYERS = (2, 3, 5)  # levels with the strides 8, 16 and 32, and one with stride 64 for the RPN alone
MOBILENET_CHANNELS = 128
RESNET_LR = 3e-4  # low, because a ResNet with frozen norm layers starts with large gradients (norm 44 on digits)


def for_dataset(
    spec: str,
    kind: str = "small",
    steps: int | None = None,
    options: Mapping[str, Any] | None = None,
    weights_backbone: str | None = None,
) -> Plan:
    """Return an initial plan for a data set. Its paths are absolute.

    The data sets "shapes" and "digits" have their own recipes. For any other data set, the plan resizes the short side
    of the images to the median short side of the data set, but to at most 320 pixels. During training, each image is
    also scaled by a random factor. The anchors are chosen from the boxes of the data set. Training runs for 12 epochs,
    with a minimum of 1,200 and a maximum of 6,000 steps, or for 7 epochs and at least 700 steps if the model is a
    MobileNet. The weights are averaged over the last steps.

    Half of the images are mirrored. However, a mirrored 2 is not a 2, and training with mirrored digits harms the
    detector (docs/accuracy.md shows how much). Therefore, no image is mirrored if the name of a class is a single
    character or a number, or contains "left" or "right".

    Parameters
    ----------
    spec : str
        The data set, in a form that `rcnn.data.load` accepts, such as "voc:photos".
    kind : str
        The model, one of `rcnn.train.plan.KINDS`, or "mobilenet": the MobileNet of `weights_backbone` or, by default,
        the one whose ImageNet weights are in the cache.
    steps : int, optional
        Number of steps. By default, it depends on the size of the data set.
    options : mapping, optional
        Options for the reader of the data set.
    weights_backbone : str, optional
        Initial weights of a ResNet or MobileNet: a file or "imagenet".

    Returns
    -------
    Plan
        The plan. `resolve` fills in the settings that are still open, such as the anchors and the class names.

    Raises
    ------
    TypeError, ValueError
        If the data set is unknown or empty. The errors of `Plan` and `rcnn.data.load` are also raised.
    """
    spec, options = absolute_spec(spec), dict(options or {})
    if kind == MOBILENET:
        kind, weights_backbone = _choose_mobilenet(weights_backbone)
    if weights_backbone is not None and weights_backbone != "imagenet":
        weights_backbone = os.path.abspath(weights_backbone)
    if spec in RECIPES and kind == "small" and weights_backbone is None:
        return Plan(spec, spec, options, recipe=RECIPES[spec].replace(steps))
    dataset = data.load(spec, "train", options=options)
    side = min(MAX_SHORT_SIDE, _median_short_side(dataset))
    recipe = RECIPES[spec].replace(steps) if spec in RECIPES else _recipe(dataset, kind, steps)
    settings = {"min_size": side, "max_size": 2 * side}
    if _is_light(kind):
        for phase in ("train", "test"):
            settings |= {f"rpn_pre_nms_top_n_{phase}": CANDIDATES, f"rpn_post_nms_top_n_{phase}": PROPOSALS}
    if kind != "small":
        recipe = dataclasses.replace(recipe, lr=RESNET_LR)
        settings["box_batch_size_per_image"] = RESNET_ROIS
    layout: dict[str, Any] = {}
    if kind in MOBILENETS:
        layout = {"returned_layers": MOBILENET_LAYERS, "out_channels": MOBILENET_CHANNELS}
    return Plan(
        spec,
        spec,
        options,
        kind=kind,
        weights_backbone=weights_backbone,
        **layout,
        anchors=FIT,
        settings=settings,
        recipe=recipe,
    )


def _choose_mobilenet(weights_backbone: str | None) -> tuple[str, str | None]:
    """Return the kind of MobileNet and its initial weights: ImageNet's if they are in the cache, or else random ones.

    If weights are given, the kind is that of these weights.
    """
    if weights_backbone is None:
        cached = [kind for kind in reversed(MOBILENETS) if download.is_cached(kind)]
        return (cached[0], "imagenet") if cached else (MOBILENETS[-1], None)
    if weights_backbone == "imagenet":
        return MOBILENETS[-1], weights_backbone
    names = checkpoint.read_weights(weights_backbone).tensors
    return "mobilenet_v2" if any(".conv.0.0." in name for name in names) else "mobilenet_v3_large", weights_backbone


def _recipe(dataset: Dataset, kind: str, steps: int | None) -> Recipe:
    """Return the recipe for a data set and a kind of model."""
    batch_size = BATCH_SIZE if _is_light(kind) else Recipe.batch_size
    epochs, least = (MOBILENET_EPOCHS, MOBILENET_MIN_STEPS) if kind in MOBILENETS else (EPOCHS, MIN_STEPS)
    if steps is None:
        steps = min(max(epochs * len(dataset) // batch_size, least), MAX_STEPS)
    return Recipe(
        steps=steps,
        batch_size=batch_size,
        flip=FLIP if _may_be_mirrored(dataset.classes) else 0.0,
        scale_jitter=SCALE_JITTER,
        val_every=steps // VALIDATIONS,
        ema=EMA,
    )


def _is_light(kind: str) -> bool:
    """Return whether a kind of model is the small network or a MobileNet."""
    return kind == "small" or kind in MOBILENETS


def _may_be_mirrored(classes: Sequence[str]) -> bool:
    """Return whether mirrored objects keep their class, as far as the names of the classes tell."""
    return not any(len(name) == 1 or name.isdigit() or re.search("left|right", name.lower()) for name in classes[1:])


def _median_short_side(dataset: Dataset) -> int:
    """Return the median short side of the images in pixels. If the data set knows the sizes, decode no images."""
    annotation = getattr(dataset, "annotation", None)
    sizes = [annotation(i)[0] if annotation else dataset[i][0].shape[:2] for i in range(len(dataset))]
    if not sizes:
        raise ValueError("the data set is empty")
    return int(statistics.median(min(size) for size in sizes))


def resolve(plan: Plan, dataset: Dataset, progress: bool = True) -> Plan:
    """Return the plan with every setting of the model filled in, including the class names and the anchors.

    Parameters
    ----------
    plan : Plan
        The plan to complete.
    dataset : Dataset
        The training data, for example from `plan.load_train`.
    progress : bool
        If True, show a progress bar while the anchors are chosen.

    Returns
    -------
    Plan
        A complete plan. Its method `make_model` does not need the data set. Resolving a complete plan changes nothing.

    Raises
    ------
    TypeError
        If `plan` is not a plan, or `dataset` is not a data set.
    ValueError
        If the data set has no objects, or if its class names differ from the class names in the plan.
    """
    if not isinstance(plan, Plan):
        raise TypeError(f"plan must be a Plan, got {shown(plan)}")
    check_dataset(dataset)
    plan = _with_class_names(plan, dataset)
    untrained = dataclasses.replace(plan, anchors=None, weights=None, weights_backbone=None)
    model, _ = untrained.make_model()
    chosen = model.config.settings() | (_fit_anchors(model, dataset, progress) if plan.anchors == FIT else {})
    settings = {name: chosen[name] for name in SETTINGS if chosen[name] is not None}
    return dataclasses.replace(plan, anchors=None, settings=settings)


def _with_class_names(plan: Plan, dataset: Dataset) -> Plan:
    """Return the plan with the data set's class names. Raise ValueError if the plan has other class names."""
    classes = tuple(dataset.classes)
    if len(classes) < 2:
        raise ValueError(f"{plan.train} has no objects to learn from; run rcnn check for details")
    names = plan.settings.get("class_names")
    if names is not None and names != classes:
        raise ValueError(f"[model] class_names are {listed(names)}, but {plan.train} has {listed(classes)}")
    return dataclasses.replace(plan, settings={**plan.settings, "class_names": classes})


def _fit_anchors(model: FasterRCNN, dataset: Dataset, progress: bool) -> dict[str, Any]:
    """Return the anchor settings that fit the boxes of a data set.

    The fitted anchors have one size on each level of a pyramid. If the anchors of the model have one size, too, the
    result is never worse than these. The five sizes of a MobileNet would take too much time, and are always replaced.
    """
    config = model.config
    has_one_size = not any(isinstance(size, tuple) and len(size) > 1 for size in config.anchor_sizes)
    found = evaluate.suggest(
        dataset,
        model.strides(),
        config.min_size,
        config.max_size,
        num_ratios=len(config.aspect_ratios),
        generator=model.anchor_generator if has_one_size else None,
        progress=progress,
    )
    return {"anchor_sizes": found.sizes, "aspect_ratios": found.ratios}

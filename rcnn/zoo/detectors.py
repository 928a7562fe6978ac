"""Ready-made detectors: a small one for small images, and torchvision's ResNets with a feature pyramid."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from rcnn.backbones import BLOCKS, BasicBlock, Bottleneck, ResNetFPN, SmallBackbone
from rcnn.config import FasterRCNNConfig
from rcnn.model import FasterRCNN
from rcnn.zoo import checkpoint
from rcnn.zoo.classes import COCO_NAMES
from rcnn.zoo.pth.bounded import CheckpointError

Source = str | os.PathLike[str]

BLOCK_NAME = r"backbone\.body\.layer([1-4])\.(\d+)\."
DEFAULT_CLASSES = 21  # PASCAL VOC's twenty and the background
RESNETS = {f"resnet{layers}": layers for layers in BLOCKS}
TRAINABLE_STAGES = 3  # of a backbone that knows something already: its early features serve any task


def faster_rcnn_small(class_names: Sequence[str], **config: Any) -> FasterRCNN:
    """A detector of half a million parameters for small images, which learns from random weights in minutes.

    class_names: one per class, the background first. config: fields of `FasterRCNNConfig` other than these defaults,
    which suit objects of 12 to 48 pixels on images of about 128.
    """
    settings: dict[str, Any] = {
        "anchor_sizes": (14, 24, 40),
        "aspect_ratios": (1.0, 1.7),
        "pool_size": (5, 5),
        "hidden_dim": 128,
        "dropout": 0.0,
        "min_size": 128,
        "max_size": 256,
        "image_mean": (0.5, 0.5, 0.5),
        "image_std": (0.25, 0.25, 0.25),
        "rpn_pre_nms_top_n_train": 400,
        "rpn_pre_nms_top_n_test": 400,
        "rpn_post_nms_top_n_train": 200,
        "rpn_post_nms_top_n_test": 100,
        "rpn_batch_size_per_image": 128,
        "box_batch_size_per_image": 128,
    }
    backbone = SmallBackbone()
    return FasterRCNN(
        FasterRCNNConfig(
            backbone, backbone.out_channels, len(class_names), class_names=tuple(class_names), **{**settings, **config}
        )
    )


def faster_rcnn_resnet_50_fpn(
    num_classes: int | None = None,
    *,
    weights: Source | None = None,
    trainable_backbone_layers: int | None = None,
    **config: Any,
) -> FasterRCNN:
    """Faster R-CNN on ResNet-50 with a feature pyramid; arguments as of `faster_rcnn_resnet_fpn`."""
    return faster_rcnn_resnet_fpn(
        num_classes, backbone="resnet50", weights=weights, trainable_backbone_layers=trainable_backbone_layers, **config
    )


def faster_rcnn_resnet_101_fpn(
    num_classes: int | None = None,
    *,
    weights: Source | None = None,
    trainable_backbone_layers: int | None = None,
    **config: Any,
) -> FasterRCNN:
    """Faster R-CNN on ResNet-101 with a feature pyramid; arguments as of `faster_rcnn_resnet_fpn`."""
    return faster_rcnn_resnet_fpn(
        num_classes,
        backbone="resnet101",
        weights=weights,
        trainable_backbone_layers=trainable_backbone_layers,
        **config,
    )


def faster_rcnn_resnet_fpn(
    num_classes: int | None = None,
    *,
    backbone: str = "resnet50",
    weights: Source | None = None,
    weights_backbone: Source | None = None,
    trainable_backbone_layers: int | None = None,
    **config: Any,
) -> FasterRCNN:
    """Torchvision's Faster R-CNN on a ResNet with a feature pyramid.

    backbone: "resnet18", "resnet34", "resnet50" or "resnet101".
    num_classes: the background included. None is the file's own count, or 21 without `weights`.
    weights: of the whole detector, a .safetensors or .pth file, or "coco" (50 layers only), which is fetched once.
    weights_backbone: of the ResNet alone, a file or "imagenet".
    trainable_backbone_layers: how many of the ResNet's stages learn, from the last; 0 to 5. None is 3 with weights of
        either kind, else 5.
    config: fields of `FasterRCNNConfig` other than the defaults, which are torchvision's: hidden_dim=1024, dropout=0,
        one anchor size of (32, 64, 128, 256, 512) per level.

    Raises ValueError for a number of classes that contradicts the file, CheckpointError for a file that does not fit,
    and DownloadError where "coco" or "imagenet" cannot be fetched.
    """
    if backbone not in RESNETS:
        raise ValueError(f"backbone must be one of {', '.join(RESNETS)}, not {backbone!r}")
    if weights == "coco" and backbone != "resnet50":
        raise ValueError(f'weights="coco" are for backbone="resnet50", not for {backbone!r}')
    read = None if weights is None else checkpoint.read_weights(checkpoint.locate(weights))
    return _resnet_detector(RESNETS[backbone], num_classes, read, weights_backbone, trainable_backbone_layers, config)


def load_detector(source: Source) -> FasterRCNN:
    """The detector of a file, in evaluation mode: one that `rcnn.save` wrote, a ResNet-FPN of torchvision's, or "coco".

    Raises CheckpointError where the file holds no such detector.
    """
    weights = checkpoint.read_weights(checkpoint.locate(source))
    if weights.metadata:
        return checkpoint.restore(weights.tensors, weights.metadata, str(weights.path))
    return _resnet_detector(_layers(weights), None, weights, None, None, {}).eval()


def _resnet_detector(
    layers: int,
    num_classes: int | None,
    weights: checkpoint.Weights | None,
    weights_backbone: Source | None,
    trainable_layers: int | None,
    config: Mapping[str, Any],
) -> FasterRCNN:
    """See `faster_rcnn_resnet_fpn`; `weights` have been read."""
    settings: dict[str, Any] = {"anchor_sizes": (32, 64, 128, 256, 512), "hidden_dim": 1024, "dropout": 0.0}
    if weights is not None:
        in_file, settings["hidden_dim"] = _head_shape(weights)
        if num_classes not in (None, in_file):
            raise ValueError(
                f"num_classes={num_classes}, but {weights.path} holds weights for {in_file} classes; "
                "checkpoint.load_into(model, path, skip_mismatched=True) starts from weights for others"
            )
        num_classes = in_file
        settings["class_names"] = _class_names(weights, in_file)
    num_classes = DEFAULT_CLASSES if num_classes is None else num_classes
    backbone = ResNetFPN(layers)
    model = FasterRCNN(FasterRCNNConfig(backbone, backbone.out_channels, num_classes, True, **{**settings, **config}))
    if weights_backbone is not None:
        checkpoint.load_into(backbone.body, weights_backbone)
    if weights is not None:
        checkpoint.put_into(model, weights)
    knows_something = weights is not None or weights_backbone is not None
    backbone.body.freeze((TRAINABLE_STAGES if knows_something else 5) if trainable_layers is None else trainable_layers)
    return model


def _head_shape(weights: checkpoint.Weights) -> tuple[int, int]:
    """(how many classes the detector of a file tells apart, the width of its head)."""
    name = "roi_heads.box_predictor.cls_score.weight"
    if name not in weights.tensors or weights.tensors[name].ndim != 2:
        raise CheckpointError(f"{weights.path} holds no detector: there is no matrix {name!r} in it")
    num_classes, hidden_dim = weights.tensors[name].shape
    return num_classes, hidden_dim


def _class_names(weights: checkpoint.Weights, num_classes: int) -> Sequence[str] | None:
    """The names that the file gives its classes, or COCO's where it tells as many classes apart as COCO's files do."""
    return weights.class_names() or (COCO_NAMES if num_classes == len(COCO_NAMES) else None)


def _layers(weights: checkpoint.Weights) -> int:
    """How many layers the ResNet of a file has, from the names of its blocks."""
    found = {match.groups() for name in weights.tensors if (match := re.match(BLOCK_NAME, name))}
    counts = tuple(sum(stage == str(number) for stage, _ in found) for number in (1, 2, 3, 4))
    kind = Bottleneck if "backbone.body.layer1.0.conv3.weight" in weights.tensors else BasicBlock
    for layers, (block, block_counts) in BLOCKS.items():
        if (block, block_counts) == (kind, counts):
            return layers
    raise CheckpointError(
        f"{weights.path} was not written by rcnn.save, and holds no ResNet of "
        f"{', '.join(map(str, BLOCKS))} layers with a feature pyramid"
    )

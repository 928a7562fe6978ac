"""Ready-made detectors: a small one for small images, and torchvision's detectors with a feature pyramid."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from rcnn._validate import check_sequence
from rcnn.backbones import BLOCKS, MOBILENETS, BasicBlock, Bottleneck, MobileNetFPN, ResNetFPN, SmallBackbone
from rcnn.config import FasterRCNNConfig
from rcnn.model import FasterRCNN
from rcnn.zoo import checkpoint, download, origins
from rcnn.zoo.classes import COCO_NAMES
from rcnn.zoo.pth.bounded import CheckpointError

Source = str | os.PathLike[str]

V2_HEAD = "roi_heads.box_head.0.0.weight"  # of torchvision's fasterrcnn_resnet50_fpn_v2
BLOCK_NAME = r"backbone\.body\.layer([1-4])\.(\d+)\."
DEFAULT_CLASSES = 21  # the 20 classes of PASCAL VOC and the background
RESNETS = {f"resnet{layers}": layers for layers in BLOCKS}
TRAINABLE_STAGES = 3  # in a pretrained backbone; the features of the early stages are useful for any task
MOBILENET_BLOCKS = {  # a tensor of the first block, and one of the last block
    "mobilenet_v2": {"backbone.body.1.conv.0.0.weight", "backbone.body.18.0.weight"},
    "mobilenet_v3_large": {"backbone.body.1.block.0.0.weight", "backbone.body.16.0.weight"},
}
RESNET_SETTINGS: dict[str, Any] = {"anchor_sizes": (32, 64, 128, 256, 512)}
MOBILENET_SETTINGS: dict[str, Any] = {
    "anchor_sizes": ((32, 64, 128, 256, 512),) * 3,
    "aspect_ratios": ((0.5, 1.0, 2.0),) * 3,
    "rpn_score_thresh": 0.05,
}
MOBILENET_320_SETTINGS: dict[str, Any] = {
    "min_size": 320,
    "max_size": 640,
    "rpn_pre_nms_top_n_test": 150,
    "rpn_post_nms_top_n_test": 150,
}


def faster_rcnn_small(class_names: Sequence[str], **config: Any) -> FasterRCNN:
    """Return a small detector for small images, with random weights.

    The detector has half a million parameters, and training it from scratch takes minutes. The default settings suit
    objects of 12 to 48 pixels in images of about 128 pixels.

    Parameters
    ----------
    class_names : sequence of str
        One name for each class. The first class is the background.
    **config
        Values for fields of `FasterRCNNConfig`. They replace the default settings of this detector.

    Returns
    -------
    FasterRCNN
        The detector, in training mode.

    Raises
    ------
    TypeError, ValueError
        If `class_names` is not a sequence of different names, or if a value in `config` is invalid.

    Examples
    --------
    >>> import rcnn
    >>> model = rcnn.faster_rcnn_small(("background", "cat", "dog"), dropout=0.5)
    >>> model.config.num_classes
    3
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
    check_sequence(class_names, "class_names")
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
    """Return a Faster R-CNN with a ResNet-50 and a feature pyramid.

    Parameters
    ----------
    num_classes, weights, trainable_backbone_layers, **config
        See `faster_rcnn_resnet_fpn`.

    Returns
    -------
    FasterRCNN
        The detector, in training mode.
    """
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
    """Return a Faster R-CNN with a ResNet-101 and a feature pyramid.

    Parameters
    ----------
    num_classes, weights, trainable_backbone_layers, **config
        See `faster_rcnn_resnet_fpn`.

    Returns
    -------
    FasterRCNN
        The detector, in training mode.
    """
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
    """Return torchvision's Faster R-CNN with a ResNet and a feature pyramid.

    Parameters
    ----------
    num_classes : int, optional
        Number of classes, including the background. The default is the number of classes in the weights file, or 21 if
        `weights` is None.
    backbone : str
        "resnet18", "resnet34", "resnet50" or "resnet101".
    weights : path or "coco", optional
        Weights of the whole detector: a .safetensors or .pth file, or "coco". The "coco" weights are for ResNet-50 only
        and are downloaded once.
    weights_backbone : path or "imagenet", optional
        Weights of the ResNet alone: a file, or "imagenet". The "imagenet" weights are downloaded once.
    trainable_backbone_layers : int, optional
        Number of ResNet stages to train, from 0 to 5, counted from the last stage. The default is 3 if you pass
        `weights` or `weights_backbone`, and 5 otherwise.
    **config
        Values for fields of `FasterRCNNConfig`. They replace torchvision's defaults: hidden_dim=1024, dropout=0 and
        anchor_sizes=(32, 64, 128, 256, 512), which is one size for each level.

    Returns
    -------
    FasterRCNN
        The detector, in training mode.

    Raises
    ------
    ValueError
        If `backbone` is unknown, if `weights` is "coco" and `backbone` is not "resnet50", or if `num_classes` is not
        the number of classes in the weights file.
    CheckpointError
        If a weights file does not match the model.
    DownloadError
        If "coco" or "imagenet" cannot be downloaded.

    References
    ----------
    Ren et al., "Faster R-CNN: Towards Real-Time Object Detection with Region Proposal Networks", 2015. Lin et al.,
    "Feature Pyramid Networks for Object Detection", 2017. Code: torchvision, models/detection/faster_rcnn.py.
    """
    if backbone not in RESNETS:
        raise ValueError(f"backbone must be one of {', '.join(RESNETS)}, got {backbone!r}")
    if weights == "coco" and backbone != "resnet50":
        raise ValueError(f'weights="coco" requires backbone="resnet50", got {backbone!r}')
    read = None if weights is None else checkpoint.read_weights(checkpoint.locate(weights))
    return _detector(backbone, num_classes, read, weights_backbone, trainable_backbone_layers, config)


def faster_rcnn_mobilenet_v3_large_fpn(
    num_classes: int | None = None,
    *,
    weights: Source | None = None,
    weights_backbone: Source | None = None,
    trainable_backbone_layers: int | None = None,
    **config: Any,
) -> FasterRCNN:
    """Return torchvision's Faster R-CNN with a MobileNetV3-Large and a feature pyramid, for images of 800 pixels.

    Parameters
    ----------
    num_classes, weights, weights_backbone, trainable_backbone_layers, **config
        See `faster_rcnn_mobilenet_fpn`. With "coco", the weights "mobilenet_v3_large_fpn" are downloaded once.

    Returns
    -------
    FasterRCNN
        The detector, in training mode.
    """
    source = "mobilenet_v3_large_fpn" if weights == "coco" else weights
    return faster_rcnn_mobilenet_fpn(
        num_classes,
        weights=source,
        weights_backbone=weights_backbone,
        trainable_backbone_layers=trainable_backbone_layers,
        **config,
    )


def faster_rcnn_mobilenet_v3_large_320_fpn(
    num_classes: int | None = None,
    *,
    weights: Source | None = None,
    weights_backbone: Source | None = None,
    trainable_backbone_layers: int | None = None,
    **config: Any,
) -> FasterRCNN:
    """Return torchvision's Faster R-CNN with a MobileNetV3-Large and a feature pyramid, for images of 320 pixels.

    Parameters
    ----------
    num_classes, weights, weights_backbone, trainable_backbone_layers, **config
        See `faster_rcnn_mobilenet_fpn`. With "coco", the weights "mobilenet_v3_large_320_fpn" are downloaded once. The
        config has torchvision's defaults for this detector: min_size=320, max_size=640, and at most 150 proposals per
        level and per image in `predict`.

    Returns
    -------
    FasterRCNN
        The detector, in training mode.
    """
    source = "mobilenet_v3_large_320_fpn" if weights == "coco" else weights
    return faster_rcnn_mobilenet_fpn(
        num_classes,
        weights=source,
        weights_backbone=weights_backbone,
        trainable_backbone_layers=trainable_backbone_layers,
        **{**MOBILENET_320_SETTINGS, **config},
    )


def faster_rcnn_mobilenet_fpn(
    num_classes: int | None = None,
    *,
    backbone: str = "mobilenet_v3_large",
    weights: Source | None = None,
    weights_backbone: Source | None = None,
    trainable_backbone_layers: int | None = None,
    frozen: bool | None = None,
    **config: Any,
) -> FasterRCNN:
    """Return a Faster R-CNN with a MobileNet and a feature pyramid.

    The two finest levels of the pyramid have stride 32.

    Parameters
    ----------
    num_classes : int, optional
        Number of classes, including the background. The default is the number of classes in the weights file, or 21 if
        `weights` is None.
    backbone : str
        "mobilenet_v2" or "mobilenet_v3_large".
    weights : path or str, optional
        Weights of the whole detector: a .safetensors or .pth file, or the name of torchvision's weights for COCO:
        "mobilenet_v3_large_fpn" or "mobilenet_v3_large_320_fpn". The latter were trained with images of 320 pixels.
    weights_backbone : path or "imagenet", optional
        Weights of the MobileNet alone: a file, or "imagenet". The "imagenet" weights are downloaded once.
    trainable_backbone_layers : int, optional
        Number of stages of the MobileNet to train, from 0 to 6, counted from the last stage. The default is 3 if you
        pass `weights` or `weights_backbone`, and 6 otherwise.
    frozen : bool, optional
        Whether the norms of the MobileNet are frozen. The default is True if you pass `weights` or `weights_backbone`.
    **config
        Values for fields of `FasterRCNNConfig`. They replace torchvision's defaults: hidden_dim=1024, dropout=0,
        rpn_score_thresh=0.05, and the five sizes of anchors (32, 64, 128, 256, 512) on each of the three levels.

    Returns
    -------
    FasterRCNN
        The detector, in training mode.

    Raises
    ------
    ValueError
        If `backbone` is unknown, or if `num_classes` is not the number of classes in the weights file.
    CheckpointError
        If a weights file does not match the model.
    DownloadError
        If weights cannot be downloaded.

    References
    ----------
    Howard et al., "Searching for MobileNetV3", 2019. Code: torchvision, models/detection/faster_rcnn.py.
    """
    if backbone not in MOBILENETS:
        raise ValueError(f"backbone must be one of {', '.join(MOBILENETS)}, got {backbone!r}")
    read = None if weights is None else checkpoint.read_weights(checkpoint.locate(weights))
    return _detector(backbone, num_classes, read, weights_backbone, trainable_backbone_layers, config, frozen)


def load_detector(source: Source) -> FasterRCNN:
    """Load a detector from a file, in evaluation mode.

    Parameters
    ----------
    source : path or str
        A file that `rcnn.save` wrote, a file with the weights of one of torchvision's detectors with a feature pyramid
        and a ResNet or MobileNet, or the name of weights that are downloaded once: "coco" (ResNet-50),
        "mobilenet_v3_large_fpn" or "mobilenet_v3_large_320_fpn". If the file is a copy of the last of these, the
        detector has the settings that belong to it.

    Returns
    -------
    FasterRCNN
        The detector.

    Raises
    ------
    CheckpointError
        If the file does not contain a detector of one of these kinds.
    """
    weights = checkpoint.read_weights(checkpoint.locate(source))
    if weights.metadata:
        return checkpoint.restore(weights.tensors, weights.metadata, str(weights.path))
    is_320 = download.is_published(weights.path, "mobilenet_v3_large_320_fpn")
    return _detector(_network(weights), None, weights, None, None, MOBILENET_320_SETTINGS if is_320 else {}).eval()


def _detector(
    network: str,
    num_classes: int | None,
    weights: checkpoint.Weights | None,
    weights_backbone: Source | None,
    trainable_layers: int | None,
    config: Mapping[str, Any],
    frozen: bool | None = None,
) -> FasterRCNN:
    """Build a detector with a feature pyramid. The weights of the detector are already in memory."""
    is_mobilenet = network in MOBILENETS
    own_settings = MOBILENET_SETTINGS if is_mobilenet else RESNET_SETTINGS
    settings: dict[str, Any] = {**own_settings, "hidden_dim": 1024, "dropout": 0.0}
    if weights is not None:
        in_file, settings["hidden_dim"] = _head_shape(weights)
        if num_classes not in (None, in_file):
            raise ValueError(
                f"num_classes={num_classes}, but {weights.path} has weights for {in_file} classes; to start from "
                "weights for other classes, use checkpoint.load_into(model, path, skip_mismatched=True)"
            )
        num_classes = in_file
        settings["class_names"] = _class_names(weights, in_file)
    num_classes = DEFAULT_CLASSES if num_classes is None else num_classes
    pretrained = weights is not None or weights_backbone is not None
    backbone: MobileNetFPN | ResNetFPN
    if is_mobilenet:
        backbone = MobileNetFPN(network, frozen=pretrained if frozen is None else frozen)
    else:
        backbone = ResNetFPN(RESNETS[network])
    chosen = FasterRCNNConfig(backbone, backbone.out_channels, num_classes, True, **{**settings, **config})
    if weights is not None:
        checkpoint.check_shapes(weights.tensors, checkpoint.head_shapes(chosen), str(weights.path))
    model = FasterRCNN(chosen)
    if weights_backbone is not None:
        checkpoint.load_into(backbone.body, weights_backbone)
    if weights is not None:
        _check_anchors(model, weights)
        checkpoint.put_into(model, weights)
    if trainable_layers is None:
        trainable_layers = TRAINABLE_STAGES if pretrained else 6 if is_mobilenet else 5
    backbone.body.freeze(trainable_layers)
    return model


def _head_shape(weights: checkpoint.Weights) -> tuple[int, int]:
    """Return the number of classes and the width of the RoI head of the detector in a file."""
    name = "roi_heads.box_predictor.cls_score.weight"
    is_known = any(re.match(BLOCK_NAME, other) for other in weights.tensors) or _mobilenet(weights)
    if not is_known or V2_HEAD in weights.tensors or name not in weights.tensors or weights.tensors[name].ndim != 2:
        raise CheckpointError(
            f"{weights.path} contains no detector that rcnn reads: {origins.of_names(weights.tensors, weights.beside)}"
        )
    num_classes, hidden_dim = weights.tensors[name].shape
    return num_classes, hidden_dim


def _check_anchors(model: FasterRCNN, weights: checkpoint.Weights) -> None:
    """Raise CheckpointError if the model does not have as many anchors per cell as the detector in a file."""
    tensor, own = weights.tensors.get("rpn.head.cls_logits.weight"), len(model.anchor_generator.cells[0])
    if tensor is not None and tensor.ndim and len(tensor) != own:
        function = (faster_rcnn_mobilenet_fpn if _mobilenet(weights) else faster_rcnn_resnet_fpn).__name__
        raise CheckpointError(
            f"{weights.path} has {len(tensor)} anchors per cell, but this detector has {own}; build it with the file's "
            f"anchors, then save it with rcnn.save: rcnn.{function}(weights=..., anchor_sizes=..., aspect_ratios=...)"
        )


def _class_names(weights: checkpoint.Weights, num_classes: int) -> Sequence[str] | None:
    """Return the class names in the file. If it has none, return COCO's names if their number fits, else None."""
    return weights.class_names() or (COCO_NAMES if num_classes == len(COCO_NAMES) else None)


def _mobilenet(weights: checkpoint.Weights) -> str | None:
    """Return the name of the MobileNet in a file, or None if there is none."""
    return next((name for name, tensors in MOBILENET_BLOCKS.items() if tensors <= weights.tensors.keys()), None)


def _network(weights: checkpoint.Weights) -> str:
    """Return the name of the MobileNet or ResNet in a file, which follows from the names of its blocks."""
    if mobilenet := _mobilenet(weights):
        return mobilenet
    found = {match.groups() for name in weights.tensors if (match := re.match(BLOCK_NAME, name))}
    counts = tuple(sum(stage == str(number) for stage, _ in found) for number in (1, 2, 3, 4))
    kind = Bottleneck if "backbone.body.layer1.0.conv3.weight" in weights.tensors else BasicBlock
    for layers, (block, block_counts) in BLOCKS.items():
        if (block, block_counts) == (kind, counts):
            return f"resnet{layers}"
    raise CheckpointError(
        f"{weights.path} contains no detector that rcnn reads: {origins.of_names(weights.tensors, weights.beside)}"
    )

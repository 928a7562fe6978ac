"""Ready-made detectors: a small one for small images, and torchvision's detectors with a feature pyramid."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from rcnn._validate import check_sequence
from rcnn.backbones import BLOCKS, MOBILENETS, BasicBlock, Bottleneck, MobileNetFPN, ResNetFPN, SmallBackbone
from rcnn.config import FasterRCNNConfig
from rcnn.model import FasterRCNN
from rcnn.nn.layers import without_drawing
from rcnn.zoo import checkpoint, download, origins
from rcnn.zoo.classes import COCO_NAMES
from rcnn.zoo.pth.bounded import CheckpointError

Source = str | os.PathLike[str]

V2_HEAD = "roi_heads.box_head.0.0.weight"  # a tensor of version 2 of the ResNet detector
BLOCK_NAME = r"backbone\.body\.layer([1-4])\.(\d+)\."
DEFAULT_CLASSES = 21  # the 20 classes of PASCAL VOC and the background
RESNETS = {f"resnet{layers}": layers for layers in BLOCKS}
RESNETS_V2 = {f"resnet{layers}_v2": layers for layers in BLOCKS}
TRAINABLE_STAGES = 3  # in a pretrained backbone; the features of the early stages are useful for any task
MOBILENET_BLOCKS = {  # a tensor of the first block, and one of the last block
    "mobilenet_v2": {"backbone.body.1.conv.0.0.weight", "backbone.body.18.0.weight"},
    "mobilenet_v3_large": {"backbone.body.1.block.0.0.weight", "backbone.body.16.0.weight"},
}
RESNET_SETTINGS: dict[str, Any] = {"anchor_sizes": (32, 64, 128, 256, 512), "hidden_dim": 1024, "dropout": 0.0}
RESNET_V2_SETTINGS: dict[str, Any] = {**RESNET_SETTINGS, "rpn_num_convs": 2, "box_num_convs": 4}
MOBILENET_SETTINGS: dict[str, Any] = {**RESNET_SETTINGS, "rpn_score_thresh": 0.05}
MOBILENET_320_SETTINGS: dict[str, Any] = {
    "min_size": 320,
    "max_size": 640,
    "rpn_pre_nms_top_n_test": 150,
    "rpn_post_nms_top_n_test": 150,
}
NETWORKS = {  # for each network of a detector, its settings and the function that builds it
    **dict.fromkeys(RESNETS, (RESNET_SETTINGS, "faster_rcnn_resnet_fpn")),
    **dict.fromkeys(RESNETS_V2, (RESNET_V2_SETTINGS, "faster_rcnn_resnet_50_fpn_v2")),
    **dict.fromkeys(MOBILENETS, (MOBILENET_SETTINGS, "faster_rcnn_mobilenet_fpn")),
}
PUBLISHED = {  # for each network, the names of the weights that torchvision trained on COCO
    "resnet50": ("coco",),
    "resnet50_v2": ("resnet50_fpn_v2",),
    "mobilenet_v3_large": ("mobilenet_v3_large_fpn", "mobilenet_v3_large_320_fpn"),
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


def faster_rcnn_resnet_50_fpn_v2(
    num_classes: int | None = None,
    *,
    weights: Source | None = None,
    weights_backbone: Source | None = None,
    trainable_backbone_layers: int | None = None,
    **config: Any,
) -> FasterRCNN:
    """Return torchvision's more accurate Faster R-CNN with a ResNet-50 and a feature pyramid.

    Compared with `faster_rcnn_resnet_50_fpn`, body and pyramid have batch norms that learn, the head of the region
    proposal network has two convolutions, and the second stage has four convolutions and one fully connected layer.

    Parameters
    ----------
    num_classes
        See `faster_rcnn_resnet_fpn`.
    weights : path or str, optional
        Weights of the whole detector: a .safetensors or .pth file, or "coco" or "resnet50_fpn_v2". Both names stand for
        the same weights, which are downloaded once.
    weights_backbone, trainable_backbone_layers
        See `faster_rcnn_resnet_fpn`.
    **config
        Values for fields of `FasterRCNNConfig`. They replace those of `faster_rcnn_resnet_fpn`, rpn_num_convs=2 and
        box_num_convs=4.

    Returns
    -------
    FasterRCNN
        The detector, in training mode.

    References
    ----------
    Li et al., "Benchmarking detection transfer learning with vision transformers", 2021. Code: torchvision,
    models/detection/faster_rcnn.py.
    """
    read = _read_weights(weights, "resnet50_v2")
    return _detector("resnet50_v2", num_classes, read, weights_backbone, trainable_backbone_layers, config)


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
        If `backbone` is unknown, if `weights` is the name of another detector's weights, or if `num_classes` is not the
        number of classes in the weights file.
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
    read = _read_weights(weights, backbone)
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
        See `faster_rcnn_mobilenet_fpn`.

    Returns
    -------
    FasterRCNN
        The detector, in training mode.
    """
    return faster_rcnn_mobilenet_fpn(
        num_classes,
        weights=weights,
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
    returned_layers: Sequence[int] = (4, 5),
    out_channels: int = 256,
    frozen: bool | None = None,
    **config: Any,
) -> FasterRCNN:
    """Return a Faster R-CNN with a MobileNet and a feature pyramid.

    By default, the two finest levels of the pyramid have stride 32, as in torchvision. For small objects,
    `returned_layers=(2, 3, 5)` adds levels with the strides 8 and 16.

    Parameters
    ----------
    num_classes : int, optional
        Number of classes, including the background. The default is the number of classes in the weights file, or 21 if
        `weights` is None.
    backbone : str
        "mobilenet_v2" or "mobilenet_v3_large".
    weights : path or str, optional
        Weights of the whole detector: a .safetensors or .pth file, "coco" or "mobilenet_v3_large_fpn" (both name the
        same weights), or "mobilenet_v3_large_320_fpn", which were trained with images of 320 pixels. Weights with a
        name are for MobileNetV3-Large only and are downloaded once.
    weights_backbone : path or "imagenet", optional
        Weights of the MobileNet alone: a file, or "imagenet". The "imagenet" weights are downloaded once.
    trainable_backbone_layers : int, optional
        Number of stages of the MobileNet to train, from 0 to 6, counted from the last stage. The default is 3 if you
        pass `weights` or `weights_backbone`, and 6 otherwise.
    returned_layers : sequence of int
        The stages from which the pyramid is made; see `rcnn.backbones.MobileNet`.
    out_channels : int
        The number of channels of every level of the pyramid, in 1 .. 2^20.
    frozen : bool, optional
        Whether the norms of the MobileNet are frozen. The default is True if you pass `weights` or `weights_backbone`.
    **config
        Values for fields of `FasterRCNNConfig`. They replace torchvision's defaults: hidden_dim=1024, dropout=0,
        rpn_score_thresh=0.05, and the five sizes of anchors (32, 64, 128, 256, 512) on every level.

    Returns
    -------
    FasterRCNN
        The detector, in training mode.

    Raises
    ------
    ValueError
        If `backbone` is unknown, if `weights` is the name of another detector's weights, or if `num_classes` is not the
        number of classes in the weights file.
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
    read = _read_weights(weights, backbone)
    layout = {"returned_layers": returned_layers, "out_channels": out_channels}
    if frozen is not None:
        layout["frozen"] = frozen
    return _detector(backbone, num_classes, read, weights_backbone, trainable_backbone_layers, config, layout)


def load_detector(source: Source) -> FasterRCNN:
    """Load a detector from a file, in evaluation mode.

    Parameters
    ----------
    source : path or str
        A file that `rcnn.save` wrote, a file with the weights of one of torchvision's detectors with a feature pyramid
        and a ResNet or MobileNet, or the name of weights that are downloaded once: "coco" (ResNet-50),
        "resnet50_fpn_v2" (more accurate, but slower), "mobilenet_v3_large_fpn" or "mobilenet_v3_large_320_fpn". If the
        file is a copy of the last of these, the detector has the settings that belong to it.

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
    is_320 = download.is_copy(weights.path, "mobilenet_v3_large_320_fpn")
    return _detector(_network(weights), None, weights, None, None, MOBILENET_320_SETTINGS if is_320 else {}).eval()


def _read_weights(source: Source | None, network: str) -> checkpoint.Weights | None:
    """Read the weights of a detector with this network. Raise ValueError if they are named after another detector."""
    if source is None:
        return None
    names = PUBLISHED.get(network, ())
    if source == "coco" and names:
        source = names[0]
    if isinstance(source, str) and source in download.DETECTORS and source not in names:
        raise ValueError(f"weights={source!r} belong to rcnn.{download.DETECTORS[source]}; use this function instead")
    return checkpoint.read_weights(checkpoint.locate(source))


def _detector(
    network: str,
    num_classes: int | None,
    weights: checkpoint.Weights | None,
    weights_backbone: Source | None,
    trainable_layers: int | None,
    config: Mapping[str, Any],
    layout: Mapping[str, Any] = MappingProxyType({}),
) -> FasterRCNN:
    """Build a detector with a feature pyramid. The weights of the detector are already in memory.

    `layout` contains arguments of `MobileNetFPN`.
    """
    settings = dict(NETWORKS[network][0])
    if weights is not None:
        in_file, settings["hidden_dim"] = _head_shape(weights)
        _check_network(network, weights)
        if num_classes not in (None, in_file):
            raise ValueError(
                f"num_classes={num_classes}, but {weights.path} has weights for {in_file} classes; to start from "
                "weights for other classes, use checkpoint.load_into(model, path, skip_mismatched=True)"
            )
        num_classes = in_file
        settings["class_names"] = _class_names(weights, in_file)
    num_classes = DEFAULT_CLASSES if num_classes is None else num_classes
    pretrained = weights is not None or weights_backbone is not None
    with contextlib.nullcontext() if weights is None else without_drawing():  # the file has all weights
        backbone = _make_backbone(network, {"frozen": pretrained, **layout})
        if network in MOBILENETS:  # every level has all sizes of anchors
            settings["anchor_sizes"] = (settings["anchor_sizes"],) * backbone.fpn.num_levels
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
        trainable_layers = TRAINABLE_STAGES if pretrained else 6 if network in MOBILENETS else 5
    backbone.body.freeze(trainable_layers)
    return model


def _make_backbone(network: str, layout: Mapping[str, Any]) -> MobileNetFPN | ResNetFPN:
    """Return a backbone with a feature pyramid. `layout` contains arguments of `MobileNetFPN`."""
    if network in MOBILENETS:
        return MobileNetFPN(network, **layout)
    if network in RESNETS_V2:
        return ResNetFPN(RESNETS_V2[network], batch_norm=True)
    return ResNetFPN(RESNETS[network])


def _head_shape(weights: checkpoint.Weights) -> tuple[int, int]:
    """Return the number of classes and the width of the RoI head of the detector in a file."""
    name = "roi_heads.box_predictor.cls_score.weight"
    is_known = any(re.match(BLOCK_NAME, other) for other in weights.tensors) or _mobilenet(weights)
    if not is_known or name not in weights.tensors or weights.tensors[name].ndim != 2:
        raise CheckpointError(
            f"{weights.path} contains no detector that rcnn reads: {origins.of_names(weights.tensors, weights.beside)}"
        )
    num_classes, hidden_dim = weights.tensors[name].shape
    return num_classes, hidden_dim


def _check_network(network: str, weights: checkpoint.Weights) -> None:
    """Raise CheckpointError if a file contains a detector that another function builds."""
    found = _function(weights)
    if found != NETWORKS[network][1]:
        raise CheckpointError(
            f"{weights.path} contains another detector; pass it to rcnn.load_detector or to rcnn.{found}(weights=...)"
        )


def _check_anchors(model: FasterRCNN, weights: checkpoint.Weights) -> None:
    """Raise CheckpointError if the model does not have as many anchors per cell as the detector in a file."""
    tensor, own = weights.tensors.get("rpn.head.cls_logits.weight"), len(model.anchor_generator.cells[0])
    if tensor is not None and tensor.ndim and len(tensor) != own:
        raise CheckpointError(
            f"{weights.path} has {len(tensor)} anchors per cell, but this detector has {own}; build it with the file's "
            "anchors, then save it with rcnn.save: "
            f"rcnn.{_function(weights)}(weights=..., anchor_sizes=..., aspect_ratios=...)"
        )


def _class_names(weights: checkpoint.Weights, num_classes: int) -> Sequence[str] | None:
    """Return the class names in the file. If it has none, return COCO's names if their number fits, else None."""
    return weights.class_names() or (COCO_NAMES if num_classes == len(COCO_NAMES) else None)


def _mobilenet(weights: checkpoint.Weights) -> str | None:
    """Return the name of the MobileNet in a file, or None if there is none."""
    return next((name for name, tensors in MOBILENET_BLOCKS.items() if tensors <= weights.tensors.keys()), None)


def _function(weights: checkpoint.Weights) -> str:
    """Return the name of the function that builds the detector in a file."""
    network = _mobilenet(weights) or ("resnet50_v2" if V2_HEAD in weights.tensors else "resnet50")
    return NETWORKS[network][1]


def _network(weights: checkpoint.Weights) -> str:
    """Return the name of the MobileNet or ResNet in a file, which follows from the names of its blocks."""
    if mobilenet := _mobilenet(weights):
        return mobilenet
    found = {match.groups() for name in weights.tensors if (match := re.match(BLOCK_NAME, name))}
    counts = tuple(sum(stage == str(number) for stage, _ in found) for number in (1, 2, 3, 4))
    kind = Bottleneck if "backbone.body.layer1.0.conv3.weight" in weights.tensors else BasicBlock
    for layers, (block, block_counts) in BLOCKS.items():
        if (block, block_counts) == (kind, counts):
            return f"resnet{layers}_v2" if V2_HEAD in weights.tensors else f"resnet{layers}"
    raise CheckpointError(
        f"{weights.path} contains no detector that rcnn reads: {origins.of_names(weights.tensors, weights.beside)}"
    )

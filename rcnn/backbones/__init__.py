"""Backbones: networks that turn an image into feature maps.

A backbone is any module that maps N images (N, 3, H, W) to a feature map (N, C, H', W') with C channels. With
`use_fpn`, a backbone returns a list of such maps.
"""

from rcnn.backbones.mobilenet import MOBILENETS, MobileNet, MobileNetFPN, MobileNetMap, mobilenet_backbone
from rcnn.backbones.resnet import (
    BLOCKS,
    BasicBlock,
    Bottleneck,
    ResNet,
    ResNetFPN,
    resnet18,
    resnet34,
    resnet50,
    resnet101,
)
from rcnn.backbones.small import ResidualBlock, SmallBackbone

__all__ = [
    "BLOCKS",
    "MOBILENETS",
    "BasicBlock",
    "Bottleneck",
    "MobileNet",
    "MobileNetFPN",
    "MobileNetMap",
    "ResNet",
    "ResNetFPN",
    "ResidualBlock",
    "SmallBackbone",
    "mobilenet_backbone",
    "resnet101",
    "resnet18",
    "resnet34",
    "resnet50",
]

"""A small and complete neural-network library: tensors with gradients, operations, layers and optimisers."""

from rcnn.nn import functional, optim
from rcnn.nn.fusion import fused
from rcnn.nn.layers import (
    AdaptiveAvgPool2d,
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Dropout,
    Flatten,
    FrozenBatchNorm2d,
    Identity,
    LeakyReLU,
    Linear,
    MaxPool2d,
    ReLU,
    Sequential,
    Sigmoid,
    Upsample,
)
from rcnn.nn.module import Module, evaluation
from rcnn.nn.tensor import Parameter, Tensor, concatenate, no_grad

__all__ = [
    "AdaptiveAvgPool2d",
    "AvgPool2d",
    "BatchNorm2d",
    "Conv2d",
    "Dropout",
    "Flatten",
    "FrozenBatchNorm2d",
    "Identity",
    "LeakyReLU",
    "Linear",
    "MaxPool2d",
    "Module",
    "Parameter",
    "ReLU",
    "Sequential",
    "Sigmoid",
    "Tensor",
    "Upsample",
    "concatenate",
    "evaluation",
    "functional",
    "fused",
    "no_grad",
    "optim",
]

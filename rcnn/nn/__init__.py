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
    Hardsigmoid,
    Hardswish,
    Identity,
    LeakyReLU,
    Linear,
    MaxPool2d,
    ReLU,
    ReLU6,
    Sequential,
    Sigmoid,
    SqueezeExcitation,
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
    "Hardsigmoid",
    "Hardswish",
    "Identity",
    "LeakyReLU",
    "Linear",
    "MaxPool2d",
    "Module",
    "Parameter",
    "ReLU",
    "ReLU6",
    "Sequential",
    "Sigmoid",
    "SqueezeExcitation",
    "Tensor",
    "Upsample",
    "concatenate",
    "evaluation",
    "functional",
    "fused",
    "no_grad",
    "optim",
]

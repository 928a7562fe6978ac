"""ResNets with 18, 34, 50 and 101 layers, as bodies, as classifiers, and with a feature pyramid.

A body is a ResNet without its last layer; it returns feature maps. See He et al., "Deep residual learning for image
recognition", 2016. The learned parameters have the same names as in torchvision.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

from rcnn._validate import FLAG, integer, number, optional, shown
from rcnn.fpn import BackboneWithFPN, Norm
from rcnn.nn import BatchNorm2d, Conv2d, FrozenBatchNorm2d, Linear, Module, Sequential, Tensor
from rcnn.nn import functional as F
from rcnn.nn.fusion import fused
from rcnn.nn.layers import MOST_CHANNELS, normal


class BasicBlock(Module):
    """The block of ResNet-18 and ResNet-34: two 3x3 convolutions and a shortcut (He et al., 2016, figure 5, left).

    Parameters
    ----------
    in_channels : int
        The number of channels of the input.
    width : int
        The number of channels of the 3x3 convolutions.
    stride : int
        The stride of the block.
    norm : callable
        Function that returns a normalisation layer for a given number of channels.
    """

    expansion = 1

    def __init__(self, in_channels: int, width: int, stride: int, norm: Norm) -> None:
        self.conv1, self.bn1 = biasless_conv(in_channels, width, 3, stride), norm(width)
        self.conv2, self.bn2 = biasless_conv(width, width, 3), norm(width)
        self.downsample = _downsample(in_channels, width, stride, norm)

    @fused
    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        shortcut = x if self.downsample is None else self.downsample(x)
        return F.relu(self.bn2(self.conv2(out)) + shortcut)


class Bottleneck(Module):
    """The block of ResNet-50 and ResNet-101: three convolutions and a shortcut (He et al., 2016, figure 5, right).

    The kernels of the convolutions are 1x1, 3x3 and 1x1. The first convolution reduces the number of channels to
    `width`, and the last one increases it to 4 * `width`. The 3x3 convolution has the stride of the block, as in the
    public weights. In the paper, the first 1x1 convolution has this stride.

    Parameters
    ----------
    in_channels : int
        The number of channels of the input.
    width : int
        The number of channels of the 3x3 convolution.
    stride : int
        The stride of the block.
    norm : callable
        Function that returns a normalisation layer for a given number of channels.
    """

    expansion = 4

    def __init__(self, in_channels: int, width: int, stride: int, norm: Norm) -> None:
        self.conv1, self.bn1 = biasless_conv(in_channels, width, 1), norm(width)
        self.conv2, self.bn2 = biasless_conv(width, width, 3, stride), norm(width)
        self.conv3, self.bn3 = biasless_conv(width, 4 * width, 1), norm(4 * width)
        self.downsample = _downsample(in_channels, 4 * width, stride, norm)

    @fused
    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = F.relu(self.bn2(self.conv2(out)))
        shortcut = x if self.downsample is None else self.downsample(x)
        return F.relu(self.bn3(self.conv3(out)) + shortcut)


BLOCKS: dict[int, tuple[type[BasicBlock] | type[Bottleneck], tuple[int, int, int, int]]] = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
}  # for each number of layers, the block and the number of blocks per stage (table 1 of the paper)


class ResNet(Module):
    """A ResNet with 18, 34, 50 or 101 layers, either as a body or as a classifier.

    A body maps N images (N, 3, H, W) to four levels l = 0 .. 3. Level l has shape
    (N, channels[l], H / 2^(l + 2), W / 2^(l + 2)). A classifier maps the images to logits (N, num_classes).

    Parameters
    ----------
    layers : {18, 34, 50, 101}
        The number of layers.
    num_classes : int, optional
        The number of classes of a classifier, in 1 .. 2^20. Without it, the network is a body.
    frozen : bool
        Whether to use FrozenBatchNorm2d instead of BatchNorm2d, as detectors do.
    eps : float
        The number that the batch norms add to the variance, in [0, 1e6].

    Attributes
    ----------
    channels : tuple of int
        The number of channels of each of the four levels.

    Raises
    ------
    TypeError, ValueError
        If an argument is invalid.
    """

    def __init__(self, layers: int, num_classes: int | None = None, frozen: bool = False, eps: float = 1e-5) -> None:
        if isinstance(layers, bool) or not isinstance(layers, int) or layers not in BLOCKS:
            raise ValueError(f"layers must be one of {', '.join(map(str, BLOCKS))}, got {shown(layers)}")
        frozen, eps = FLAG.check("frozen", frozen), number(0, 1e6).check("eps", eps)
        optional(integer(1, MOST_CHANNELS)).check("num_classes", num_classes)
        block, counts = BLOCKS[layers]
        norm = partial(FrozenBatchNorm2d if frozen else BatchNorm2d, eps=eps)
        self.layers, self.frozen = layers, frozen
        self.channels = tuple(width * block.expansion for width in (64, 128, 256, 512))
        self.conv1, self.bn1 = biasless_conv(3, 64, 7, 2), norm(64)
        incoming = (64, *self.channels)
        for stage, count in enumerate(counts):
            stride = 1 if stage == 0 else 2
            first = block(incoming[stage], 64 * 2**stage, stride, norm)
            rest = [block(self.channels[stage], 64 * 2**stage, 1, norm) for _ in range(count - 1)]
            setattr(self, f"layer{stage + 1}", Sequential(first, *rest))
        self.fc = None if num_classes is None else Linear(self.channels[-1], num_classes)
        if self.fc is None:
            self.ignored_state = ("fc.weight", "fc.bias")  # so that a body can load the weights of a classifier

    @property
    def eps(self) -> float:  # numpydoc ignore=RT01
        """The number that the batch norms add to the variance."""
        return float(self.bn1.eps)

    @fused
    def forward(self, x: Tensor) -> Any:
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.max_pool2d(x, kernel_size=3, stride=2, padding=1)
        levels = []
        for stage in (1, 2, 3, 4):
            x = getattr(self, f"layer{stage}")(x)
            levels.append(x)
        return levels if self.fc is None else self.fc(F.adaptive_avg_pool2d(x, 1).flatten(start_dim=1))

    def freeze(self, trainable_layers: int) -> None:
        """Freeze all stages except the last `trainable_layers`.

        The stages are conv1, layer1, layer2, layer3 and layer4. Stages that are not frozen become trainable, and so
        does the last layer of a classifier.

        Parameters
        ----------
        trainable_layers : int
            The number of trainable stages, in 0 .. 5, as in torchvision's `trainable_backbone_layers`.

        Raises
        ------
        TypeError, ValueError
            If `trainable_layers` is not in 0 .. 5.
        """
        trainable_layers = integer(0, 5).check("trainable_layers", trainable_layers)
        trainable = ("layer4", "layer3", "layer2", "layer1", "conv1", "bn1")[
            : trainable_layers + (trainable_layers == 5)
        ]
        for name, parameter in self.named_parameters():
            parameter.requires_grad = name.split(".")[0] in (*trainable, "fc")


def resnet18(num_classes: int | None = None, **options: Any) -> ResNet:
    """Return a ResNet-18, either as a body or as a classifier.

    Parameters
    ----------
    num_classes : int, optional
        The number of classes of a classifier, in 1 .. 2^20. Without it, the network is a body.
    **options : dict
        The arguments `frozen` and `eps` of `ResNet`.

    Returns
    -------
    ResNet
        The network.
    """
    return ResNet(18, num_classes, **options)


def resnet34(num_classes: int | None = None, **options: Any) -> ResNet:
    """Return a ResNet-34, either as a body or as a classifier.

    Parameters
    ----------
    num_classes : int, optional
        The number of classes of a classifier, in 1 .. 2^20. Without it, the network is a body.
    **options : dict
        The arguments `frozen` and `eps` of `ResNet`.

    Returns
    -------
    ResNet
        The network.
    """
    return ResNet(34, num_classes, **options)


def resnet50(num_classes: int | None = None, **options: Any) -> ResNet:
    """Return a ResNet-50, either as a body or as a classifier.

    Parameters
    ----------
    num_classes : int, optional
        The number of classes of a classifier, in 1 .. 2^20. Without it, the network is a body.
    **options : dict
        The arguments `frozen` and `eps` of `ResNet`.

    Returns
    -------
    ResNet
        The network.
    """
    return ResNet(50, num_classes, **options)


def resnet101(num_classes: int | None = None, **options: Any) -> ResNet:
    """Return a ResNet-101, either as a body or as a classifier.

    Parameters
    ----------
    num_classes : int, optional
        The number of classes of a classifier, in 1 .. 2^20. Without it, the network is a body.
    **options : dict
        The arguments `frozen` and `eps` of `ResNet`.

    Returns
    -------
    ResNet
        The network.
    """
    return ResNet(101, num_classes, **options)


def biasless_conv(in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, groups: int = 1) -> Conv2d:
    """Return a convolution without bias and with padding kernel_size // 2.

    The weights are drawn from a normal distribution with variance 2 / fan_out (Kaiming initialisation).

    Parameters
    ----------
    in_channels, out_channels : int
        The numbers of channels of the input and of the output.
    kernel_size : int
        The side of the kernel, in pixels.
    stride : int
        The stride along both axes.
    groups : int
        The number of groups of channels; see `functional.conv2d`.

    Returns
    -------
    Conv2d
        The convolution.

    References
    ----------
    He et al., "Delving deep into rectifiers", 2015.
    """
    conv = Conv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2, groups=groups, bias=False)
    conv.weight.data = normal(conv.weight.shape, std=math.sqrt(2 / (kernel_size**2 * out_channels)))
    return conv


def _downsample(in_channels: int, out_channels: int, stride: int, norm: Norm) -> Sequential | None:
    """Return the shortcut of a block: a 1x1 convolution and its norm, or None if the shortcut is the identity."""
    if stride == 1 and in_channels == out_channels:
        return None
    return Sequential(biasless_conv(in_channels, out_channels, 1, stride), norm(out_channels))


class ResNetFPN(BackboneWithFPN):
    """The backbone of the public detectors: a ResNet body, and a pyramid of five levels.

    Parameters
    ----------
    layers : {18, 34, 50, 101}
        The number of layers of the body.
    out_channels : int
        The number of channels of every level, in 1 .. 2^20.
    eps : float
        The number that the batch norms add to the variance, in [0, 1e6].
    batch_norm : bool
        If False, the batch norms of the body are frozen, and the pyramid has none. If True, body and pyramid have
        batch norms that learn.
    """

    body: ResNet

    def __init__(self, layers: int, out_channels: int = 256, eps: float = 1e-5, batch_norm: bool = False) -> None:
        batch_norm = FLAG.check("batch_norm", batch_norm)
        body = ResNet(layers, frozen=not batch_norm, eps=eps)
        super().__init__(body, body.channels, out_channels, partial(BatchNorm2d, eps=eps) if batch_norm else None)
        self.layers, self.out_channels, self.batch_norm = layers, out_channels, batch_norm

    @property
    def eps(self) -> float:  # numpydoc ignore=RT01
        """The number that the batch norms add to the variance."""
        return self.body.eps

    @eps.setter
    def eps(self, eps: float) -> None:  # numpydoc ignore=GL08,PR01
        eps = number(0, 1e6).check("eps", eps)
        for module in self.modules():
            if isinstance(module, (BatchNorm2d, FrozenBatchNorm2d)):
                module.eps = eps

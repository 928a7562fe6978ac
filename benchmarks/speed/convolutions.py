"""Rows that measure convolutions. The peer is PyTorch, which uses oneDNN.

One convolution is measured with its two gradients. The other rows measure every convolution shape in a ResNet-50-FPN.
"""

from __future__ import annotations

import functools
from collections import Counter

import numpy as np

from rcnn.nn import Parameter, Tensor, functional, no_grad
from rcnn.nn.tensor import record
from speed import inputs
from speed.agreement import close
from speed.inputs import Convolution
from speed.rows import Contest, Row, Settings, by_answer
from speed.timing import Contestant

ALLOWED = 1e-4  # difference relative to the largest value; Winograd's algorithms round more than the direct algorithm


def contest(settings: Settings, layer: Convolution) -> Contest:
    """Return the contest of a convolution without gradients, with PyTorch in both memory layouts."""
    x, weight = arrays(layer)
    contestants = [convolving(layer, x, weight)]
    if "torchvision" in settings.peers:
        from speed import torch_peer

        contestants += [torch_peer.convolving(layer, x, weight, channels_last) for channels_last in (False, True)]
    return by_answer(contestants, functools.partial(close, allowed=ALLOWED))


def backward_contest(settings: Settings, layer: Convolution, wanted: str) -> Contest:
    """Return the contest of one gradient of a convolution, with respect to its "input" or its "weights"."""
    x, weight = arrays(layer)
    grad = inputs.feature_maps(1, layer.out_channels, *layer.output_size, seed=2)
    contestants = [convolving_backward(layer, x, weight, grad, wanted)]
    if "torchvision" in settings.peers:
        from speed import torch_peer

        contestants += [
            torch_peer.convolving_backward(layer, x, weight, grad, wanted, channels_last)
            for channels_last in (False, True)
        ]
    return by_answer(contestants, functools.partial(close, allowed=ALLOWED))


def arrays(layer: Convolution) -> tuple[np.ndarray, np.ndarray]:
    """Return random inputs of a layer: feature maps (1, C, H, W), stored channels last, and filters (O, C, k, k).

    C and O are the numbers of channels and filters, and k is the filter size. The filters are scaled so that the output
    has about the same standard deviation as the input.
    """
    x = inputs.feature_maps(1, layer.in_channels, layer.height, layer.width)
    shape = (layer.out_channels, layer.in_channels, layer.kernel, layer.kernel)
    weight = np.random.default_rng(1).standard_normal(shape, np.float32)
    return x, weight / np.float32(np.sqrt(weight[0].size))


def convolving(layer: Convolution, x: np.ndarray, weight: np.ndarray) -> Contestant:
    """Return a contestant that computes the convolution in rcnn."""
    maps, filters = Tensor(x), Parameter(weight)

    def call(_: None) -> Tensor:
        with no_grad():
            return functional.conv2d(maps, filters, None, layer.stride, layer.kernel // 2)

    return Contestant("rcnn", call, read=Tensor.numpy)


def convolving_backward(
    layer: Convolution, x: np.ndarray, weight: np.ndarray, grad: np.ndarray, wanted: str
) -> Contestant:
    """Return a contestant that computes the gradient in rcnn; the forward pass is not timed."""
    filters = Parameter(weight, requires_grad=wanted == "weights")
    arrived: list[np.ndarray] = []

    def catch(g: np.ndarray) -> tuple[None]:
        arrived[:] = [g]
        return (None,)

    def before() -> Tensor:
        # The input is not a leaf, as inside a network: a leaf would also copy its gradient.
        maps = Tensor(x) if wanted == "weights" else record(x, (Parameter(np.zeros(1, np.float32)),), catch)
        filters.grad = None
        return functional.conv2d(maps, filters, None, layer.stride, layer.kernel // 2)

    def read(_: None) -> np.ndarray:
        gradient = filters.grad if wanted == "weights" else arrived[0]
        assert gradient is not None
        return gradient

    return Contestant("rcnn", lambda out: out.backward(grad), before, read)


MIDDLE = Convolution(inputs.CHANNELS, inputs.CHANNELS, 3, 1, *inputs.FEATURES)
SHAPES = Counter(inputs.resnet_fpn_convolutions())

ROWS = [
    Row("conv-forward", f"convolution {MIDDLE}", functools.partial(contest, layer=MIDDLE), flop=MIDDLE.flop),
    *(
        Row(
            f"conv-{wanted}",
            f"gradient of this convolution with respect to the {wanted}",
            functools.partial(backward_contest, layer=MIDDLE, wanted=wanted),
            flop=MIDDLE.flop,
        )
        for wanted in ("input", "weights")
    ),
]
SHAPE_ROWS = [
    Row(
        f"shape-{number}",
        str(layer),
        functools.partial(contest, layer=layer),
        table="shapes",
        flop=layer.flop,
        times=count,
        share=0.1,
    )
    for number, (layer, count) in enumerate(SHAPES.items(), 1)
]

"""Benchmarks of every kernel and of its NumPy reference, for pytest-benchmark.

    pip install -e '.[bench]'
    pytest benchmarks/microbenchmarks.py                                           all kernels
    pytest benchmarks/microbenchmarks.py -k convolution --benchmark-autosave       before a change: save the times
    pytest benchmarks/microbenchmarks.py -k convolution --benchmark-compare        after the change: compare with them

The arrays are as large as those of a small image, so a reference takes less than a second. To compare rcnn with other
libraries, use run.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from speed import inputs

import rcnn
from rcnn import boxes, nms, roi, transform
from rcnn.nn import Parameter, Tensor, functional, fused, no_grad, optim

HEIGHT, WIDTH, CHANNELS = 50, 76, 64
SCALE = HEIGHT / inputs.IMAGE[0]
REGIONS = 64
SIZE = 1_000_000  # the number of parameters for the optimisers

Work = Callable[[], Any]


def iou() -> Work:
    first, second = inputs.clustered_boxes(1000)[0], inputs.clustered_boxes(100, seed=1)[0]
    return lambda: boxes.iou(first, second)


def suppression() -> Work:
    candidates, scores = inputs.clustered_boxes(1000)
    return lambda: nms.nms(candidates, scores, 0.7)


def suppression_in_groups() -> Work:
    candidates, scores = inputs.clustered_boxes(1000)
    groups = np.arange(len(candidates)) % 5
    return lambda: nms.batched_nms(candidates, scores, groups, 0.7)


def roi_align() -> Work:
    features, rois, images = maps(), inputs.rois(REGIONS), np.zeros(REGIONS, np.int64)
    return lambda: roi.roi_align(features, rois, images, (7, 7), SCALE)


def roi_align_gradient() -> Work:
    rois, images, grad = inputs.rois(REGIONS), np.zeros(REGIONS, np.int64), pooled_maps()
    return lambda: roi.roi_align_backward(grad, rois, images, (1, CHANNELS, HEIGHT, WIDTH), SCALE)


def roi_pool() -> Work:
    features, rois, images = maps(), inputs.rois(REGIONS), np.zeros(REGIONS, np.int64)
    return lambda: roi.roi_pool(features, rois, images, (7, 7), SCALE)


def roi_pool_gradient() -> Work:
    features, rois, images, grad = maps(), inputs.rois(REGIONS), np.zeros(REGIONS, np.int64), pooled_maps()
    return lambda: roi.roi_pool_backward(grad, features, rois, images, SCALE)


def convolution() -> Work:
    x, weight = Tensor(maps()), filters(3)
    return without_gradient(lambda: functional.conv2d(x, weight, None, 1, 1))


def convolution_1x1() -> Work:
    x, weight = Tensor(maps()), filters(1)
    return without_gradient(lambda: functional.conv2d(x, weight))


def convolution_stride_2() -> Work:
    x, weight = Tensor(maps()), filters(3)
    return without_gradient(lambda: functional.conv2d(x, weight, None, 2, 1))


def convolution_there_and_back() -> Work:
    x, weight = Parameter(maps()), filters(3)
    return there_and_back(lambda: functional.conv2d(x, weight, None, 1, 1), x, weight)


def depthwise_convolution() -> Work:
    x, weight = Tensor(maps()), Parameter(np.random.default_rng(7).standard_normal((CHANNELS, 1, 5, 5), np.float32))
    return without_gradient(lambda: functional.conv2d(x, weight, None, 1, 2, 1, CHANNELS))


def depthwise_convolution_there_and_back() -> Work:
    x, weight = Parameter(maps()), Parameter(np.random.default_rng(7).standard_normal((CHANNELS, 1, 5, 5), np.float32))
    return there_and_back(lambda: functional.conv2d(x, weight, None, 1, 2, 1, CHANNELS), x, weight)


def hard_swish_there_and_back() -> Work:
    x = Parameter(maps())
    return there_and_back(lambda: functional.hardswish(x), x)


def batch_norm() -> Work:
    x, scale, shift = Tensor(maps()), Parameter(ones()), Parameter(ones())
    mean, variance = np.zeros(CHANNELS, np.float32), ones()
    return without_gradient(lambda: functional.batch_norm(x, mean, variance, scale, shift))


def batch_norm_there_and_back() -> Work:
    x, scale, shift = Parameter(maps()), Parameter(ones()), Parameter(ones())
    mean, variance = np.zeros(CHANNELS, np.float32), ones()
    return there_and_back(
        lambda: functional.batch_norm(x, mean, variance, scale, shift, training=True), x, scale, shift
    )


def max_pooling() -> Work:
    x = Tensor(maps())
    return without_gradient(lambda: functional.max_pool2d(x, 3, 2, 1))


def max_pooling_there_and_back() -> Work:
    x = Parameter(maps())
    return there_and_back(lambda: functional.max_pool2d(x, 3, 2, 1), x)


def mean_pooling_there_and_back() -> Work:
    x = Parameter(maps())
    return there_and_back(lambda: functional.avg_pool2d(x, 2), x)


def linear() -> Work:
    pooled = Tensor(pooled_maps())
    weight = Parameter(np.random.default_rng(4).standard_normal((256, 49 * CHANNELS), np.float32))
    return without_gradient(fused(lambda: functional.relu(functional.linear(pooled, weight))))


def relu_there_and_back() -> Work:
    x = Parameter(maps())
    return there_and_back(lambda: functional.relu(x), x)


def top_down_step_there_and_back() -> Work:
    lateral, top = Parameter(maps()), Parameter(inputs.feature_maps(1, CHANNELS, HEIGHT // 2, WIDTH // 2, seed=5))
    return there_and_back(lambda: functional.upsample_add(lateral, top), lateral, top)


def image_resized() -> Work:
    image = inputs.textured_image(240, 320)
    return lambda: transform.resize(image, (400, 533))


def clipping() -> Work:
    weight = Parameter(np.zeros(SIZE, np.float32))
    grad = np.random.default_rng(6).standard_normal(SIZE, np.float32)

    def work() -> np.ndarray:
        weight.grad = grad.copy()
        optim.clip_grad_norm([weight], 5.0)
        return weight.grad

    return work


def sgd() -> Work:
    return moving(optim.SGD)


def adam() -> Work:
    return moving(optim.Adam)


KERNELS = {
    make.__name__: make
    for make in (
        iou,
        suppression,
        suppression_in_groups,
        roi_align,
        roi_align_gradient,
        roi_pool,
        roi_pool_gradient,
        convolution,
        convolution_1x1,
        convolution_stride_2,
        convolution_there_and_back,
        depthwise_convolution,
        depthwise_convolution_there_and_back,
        hard_swish_there_and_back,
        linear,
        batch_norm,
        batch_norm_there_and_back,
        max_pooling,
        max_pooling_there_and_back,
        mean_pooling_there_and_back,
        relu_there_and_back,
        top_down_step_there_and_back,
        image_resized,
        clipping,
        sgd,
        adam,
    )
}


@pytest.mark.parametrize("backend", ["numpy", "cython"])
@pytest.mark.parametrize("name", KERNELS)
def test_kernel(benchmark: Any, name: str, backend: str) -> None:
    benchmark.group = name
    with rcnn.use_backend(backend):
        benchmark(KERNELS[name]())


# ---------------------------------------------------------------- inputs


def maps() -> np.ndarray:
    """Return random features (1, CHANNELS, HEIGHT, WIDTH), stored channels last."""
    return inputs.feature_maps(1, CHANNELS, HEIGHT, WIDTH)


def pooled_maps() -> np.ndarray:
    """Return random features (REGIONS, CHANNELS, 7, 7), with the memory layout of the output of RoIAlign."""
    return inputs.feature_maps(REGIONS, CHANNELS, 7, 7, seed=1)


def filters(kernel: int) -> Parameter:
    """Return random filters of shape (CHANNELS, CHANNELS, kernel, kernel)."""
    return Parameter(np.random.default_rng(2).standard_normal((CHANNELS, CHANNELS, kernel, kernel), np.float32))


def ones() -> np.ndarray:
    """Return an array of ones with the shape (CHANNELS,)."""
    return np.ones(CHANNELS, np.float32)


def moving(kind: type[optim.Optimizer]) -> Work:
    """Return a function that runs the first step of an optimiser on SIZE parameters and returns the parameters."""
    weight = Parameter(np.zeros(SIZE, np.float32))
    weight.grad = np.random.default_rng(7).standard_normal(SIZE, np.float32)

    def work() -> np.ndarray:
        weight.data[...] = 1.0
        kind([weight], lr=0.01).step()
        return weight.data.copy()

    return work


def without_gradient(forward: Callable[[], Tensor]) -> Work:
    """Return a function that computes `forward` without recording gradients."""

    def work() -> np.ndarray:
        with no_grad():
            return forward().data

    return work


def there_and_back(forward: Callable[[], Tensor], *leaves: Parameter) -> Work:
    """Return a function that runs the forward and the backward pass and returns the gradients of `leaves`."""
    batch, channels, height, width = forward().shape
    grad = inputs.feature_maps(batch, channels, height, width, seed=3)

    def work() -> list[np.ndarray | None]:
        for leaf in leaves:
            leaf.grad = None
        forward().backward(grad)
        return [leaf.grad for leaf in leaves]

    return work

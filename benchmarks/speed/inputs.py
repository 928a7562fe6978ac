"""Seeded random inputs for the contestants, created with NumPy only."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
from seeded import seeded_image, seeded_state  # noqa: E402

IMAGE = (800, 1216)  # (height, width): usual size of a COCO photo after resizing and padding
PHOTO = (480, 640)  # (height, width): usual size of a COCO photo
FEATURES = (200, 304)  # (height, width) of the finest level of its feature pyramid
CHANNELS = 256
NUM_CLASSES = 91
SEED = 2  # with this seed, the detector finds 1,000 proposals, from all levels, and 100 detections
BLOCKS = (3, 4, 6, 3)  # the number of blocks in each stage of ResNet-50
STAGE_CHANNELS = (256, 512, 1024, 2048)  # the output channels of each stage


def textured_image(height: int, width: int, seed: int = SEED) -> np.ndarray:
    """Return a random image (H, W, 3). Its noise avoids plain surfaces, where many scores are equal up to rounding."""
    grain = np.random.default_rng(seed).normal(0, 0.08, (height, width, 3))
    return np.clip(seeded_image(height, width, seed).transpose(1, 2, 0) + grain, 0, 1).astype(np.float32)


def detector_weights(shapes: Mapping[str, tuple[int, ...]], seed: int = SEED) -> dict[str, np.ndarray]:
    """Return random weights {name: array} for the given {name: shape}; with them, the detector finds objects."""
    return seeded_state(shapes, seed)


def clustered_boxes(count: int, seed: int = 0, per_object: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """Return boxes (count, 4) and scores (count,) that resemble proposals: about `per_object` boxes for each object.

    NMS with a threshold of 0.7 keeps 20% to 30% of the boxes. All scores are different.
    """
    rng = np.random.default_rng(seed)
    height, width = IMAGE
    objects = max(count // per_object, 1)
    sides = np.exp(rng.uniform(np.log(16), np.log(256), (objects, 2)))
    centres = rng.uniform(0, (width, height), (objects, 2))
    of = rng.integers(0, objects, count)
    centres = centres[of] + rng.normal(0, 0.05, (count, 2)) * sides[of]
    sides = sides[of] * np.exp(rng.normal(0, 0.1, (count, 2)))
    boxes = np.concatenate([centres - sides / 2, centres + sides / 2], axis=1)  # (count, 4)
    boxes = np.clip(boxes, 0, (width, height, width, height)).astype(np.float32)
    return boxes, rng.permutation(count).astype(np.float32) / np.float32(count)


def rois(count: int, seed: int = 0) -> np.ndarray:
    """Return RoIs (count, 4) inside the image; the square root of their area is log-uniform from 16 to 512 pixels."""
    rng = np.random.default_rng(seed)
    height, width = IMAGE
    size, ratio = np.exp(rng.uniform(np.log(16), np.log(512), count)), np.exp(rng.uniform(-0.7, 0.7, count) / 2)
    sides = np.stack([size * ratio, size / ratio], axis=1)  # (count, 2)
    corners = rng.uniform(size=(count, 2)) * (np.array([width, height]) - sides)
    return np.concatenate([corners, corners + sides], axis=1).astype(np.float32)


def feature_maps(batch: int, channels: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    """Return normally distributed features (batch, channels, height, width), stored channels last."""
    values = np.random.default_rng(seed).standard_normal((batch, height, width, channels), np.float32)
    return values.transpose(0, 3, 1, 2)


def targets(height: int, width: int, count: int = 8, seed: int = SEED) -> list[dict[str, np.ndarray]]:
    """Return a list with the target of one image: random boxes (count, 4) and labels (count,)."""
    rng = np.random.default_rng(seed)
    sides = rng.uniform(0.1, 0.5, (count, 2)) * (width, height)
    corners = rng.uniform(size=(count, 2)) * (np.array([width, height]) - sides)
    boxes = np.concatenate([corners, corners + sides], axis=1).astype(np.float32)
    return [{"boxes": boxes, "labels": rng.integers(1, NUM_CLASSES, count)}]


# ---------------------------------------------------------------- the convolutions of a ResNet-50-FPN


@dataclass(frozen=True)
class Convolution:
    """A convolution with padding `kernel // 2`, for an input of `height` x `width` pixels."""

    in_channels: int
    out_channels: int
    kernel: int
    stride: int
    height: int
    width: int

    @property
    def output_size(self) -> tuple[int, int]:
        """The (height, width) of the output."""
        return -(-self.height // self.stride), -(-self.width // self.stride)

    @property
    def flop(self) -> int:
        """The number of multiplications and additions of the direct algorithm for one image."""
        height, width = self.output_size
        return 2 * height * width * self.out_channels * self.in_channels * self.kernel**2

    def __str__(self) -> str:
        stride = f", stride {self.stride}" if self.stride > 1 else ""
        return (
            f"{self.kernel}x{self.kernel}{stride}, {self.in_channels} to {self.out_channels}, "
            f"{self.height} x {self.width}"
        )


def resnet_fpn_convolutions(height: int = IMAGE[0], width: int = IMAGE[1]) -> list[Convolution]:
    """Return all convolutions of a ResNet-50-FPN detector for one image, in order, including those of the RPN."""
    return [*_resnet(height, width), *_pyramid(height, width)]


def _resnet(height: int, width: int) -> Iterator[Convolution]:
    yield Convolution(3, 64, 7, 2, height, width)
    height, width, channels = _halved(height, 4), _halved(width, 4), 64  # after the pooling
    for stage, (count, out) in enumerate(zip(BLOCKS, STAGE_CHANNELS, strict=True)):
        for block in range(count):
            stride = 2 if block == 0 and stage > 0 else 1
            yield Convolution(channels, out // 4, 1, 1, height, width)
            yield Convolution(out // 4, out // 4, 3, stride, height, width)
            if block == 0:
                yield Convolution(channels, out, 1, stride, height, width)  # the shortcut
            height, width, channels = -(-height // stride), -(-width // stride), out
            yield Convolution(out // 4, out, 1, 1, height, width)


def _pyramid(height: int, width: int) -> Iterator[Convolution]:
    levels = [(_halved(height, 4 * 2**level), _halved(width, 4 * 2**level)) for level in range(5)]
    for channels, size in zip(STAGE_CHANNELS, levels, strict=False):
        yield Convolution(channels, CHANNELS, 1, 1, *size)
        yield Convolution(CHANNELS, CHANNELS, 3, 1, *size)
    for size in levels:
        yield Convolution(CHANNELS, CHANNELS, 3, 1, *size)  # the RPN; then scores and deltas of 3 anchors
        yield Convolution(CHANNELS, 3, 1, 1, *size)
        yield Convolution(CHANNELS, 12, 1, 1, *size)


def _halved(side: int, stride: int) -> int:
    return -(-side // stride)

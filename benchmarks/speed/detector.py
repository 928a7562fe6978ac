"""Rows that measure the whole detector, from an image to its detections."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import rcnn
from rcnn.zoo import checkpoint
from speed import inputs
from speed.agreement import same_array, same_detections
from speed.rows import Contest, Row, Settings, by_answer
from speed.timing import Contestant

Size = tuple[int, int]


def contest(settings: Settings, size: Size = inputs.IMAGE) -> Contest:
    """Return the contest of all contestants on one image, with the same weights."""
    image = inputs.textured_image(*size)
    contestants = [*batch_contestants(settings, size, [image]), *onnx_contestants(settings, size, image)]
    return by_answer(contestants, same_detections)


def batch_contest(settings: Settings, size: Size, batch: int) -> Contest:
    """Return the contest on a batch of images, without the ONNX peers, because an ONNX file is for one image."""
    images = [inputs.textured_image(*size, seed) for seed in range(inputs.SEED, inputs.SEED + batch)]
    return by_answer(batch_contestants(settings, size, images), same_detections)


def load_contest(settings: Settings) -> Contest:
    """Return the contest of making a detector from a file, and of reading the arrays in the file alone."""
    path = settings.folder / "detector.safetensors"
    rcnn.save(path, detector(inputs.IMAGE))
    contestants = [
        Contestant("rcnn", lambda _: rcnn.load(path), read=lambda model: all_numbers(model.state_dict())),
        Contestant("rcnn, arrays only", lambda _: checkpoint.read_tensors(path)[0], read=all_numbers),
    ]
    if "torchvision" in settings.peers:
        from speed import torch_peer

        contestants.append(torch_peer.loading(path, inputs.NUM_CLASSES, all_numbers))
    return by_answer(contestants, same_array)


def all_numbers(state: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the numbers of all arrays in one array, in the order of the names."""
    return np.concatenate([np.asarray(state[name]).ravel() for name in sorted(state) if "num_batches" not in name])


def batch_contestants(settings: Settings, size: Size, images: Sequence[np.ndarray]) -> list[Contestant]:
    """Return rcnn, and torchvision in both memory layouts, as contestants."""
    model = detector(size)
    contestants = [Contestant("rcnn", lambda _: model.predict(images))]
    if "torchvision" in settings.peers:
        from speed import torch_peer

        contestants += [
            torch_peer.detecting("torchvision", torch_detector(size), images),
            torch_peer.detecting("torchvision, channels last", torch_channels_last(size), images),
        ]
    return contestants


def onnx_contestants(settings: Settings, size: Size, image: np.ndarray) -> list[Contestant]:
    """Return the selected contestants that run ONNX files."""
    wanted = [peer for peer in ("onnxruntime", "openvino") if peer in settings.peers]
    if not wanted:
        return []
    from speed import onnx_peer

    path = exported(size, settings.folder)
    make = {"onnxruntime": onnx_peer.with_onnxruntime, "openvino": onnx_peer.with_openvino}
    return [make[peer](path, image, settings.threads) for peer in wanted]


def exported(size: Size, folder: Path) -> Path:
    """Return the path of the ONNX file for images of a size; the first call writes the file."""
    from speed import onnx_peer

    path = folder / f"detector-{size[0]}-{size[1]}.onnx"
    return path if path.exists() else onnx_peer.export(torch_detector(size), size, path)


def sizes(size: Size) -> dict[str, Any]:
    """Return detector settings with which an image of this size is not resized."""
    return {"min_size": min(size), "max_size": max(size)}


@functools.lru_cache(maxsize=1)
def weights() -> Mapping[str, np.ndarray]:
    """Return the weights of all detectors in this module, which do not depend on the image size."""
    model = rcnn.faster_rcnn_resnet_50_fpn(inputs.NUM_CLASSES)
    return inputs.detector_weights({name: array.shape for name, array in model.state_dict().items()})


@functools.lru_cache(maxsize=1)
def detector(size: Size) -> rcnn.FasterRCNN:
    """Return the detector of rcnn for images of a size."""
    model = rcnn.faster_rcnn_resnet_50_fpn(inputs.NUM_CLASSES, **sizes(size))
    model.load_state_dict(weights())
    return model.eval()


@functools.lru_cache(maxsize=1)
def torch_detector(size: Size) -> Any:
    """Return the detector of torchvision for images of a size."""
    from speed import torch_peer

    return torch_peer.resnet_detector(weights(), inputs.NUM_CLASSES, **sizes(size))


@functools.lru_cache(maxsize=1)
def torch_channels_last(size: Size) -> Any:
    """Return the detector of torchvision with channels-last filters; its feature maps are then channels last, too."""
    import torch

    from speed import torch_peer

    net = torch_peer.resnet_detector(weights(), inputs.NUM_CLASSES, **sizes(size))
    return net.to(memory_format=torch.channels_last)


def _work(threads: str) -> str:
    return f"detector ResNet-50-FPN, 1 x 3 x {inputs.IMAGE[0]} x {inputs.IMAGE[1]}, {threads}"


ROWS = [
    Row("detector", _work("all threads"), contest),
    Row("detector-1", _work("one thread"), contest, threads=1),
    Row("load", "making a detector ResNet-50-FPN from a file", load_contest),
]

"""Rows that measure the whole detector, from an image to its detections."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Network:
    """A detector that rcnn and its peers build with the same weights.

    title: its name in the tables. build: the function of rcnn. peer: the name of the function of torchvision. image:
    the (height, width) of the image. resizes: True if the detector resizes the image, with its default settings.
    frozen: True if the batch norms of torchvision's pretrained detector are frozen. onnx: True if the peers that run
    ONNX files take part. deviation: the standard deviation of the logits of a class, or None if it is large enough.
    """

    title: str
    build: Callable[..., rcnn.FasterRCNN]
    peer: str
    image: Size
    resizes: bool = False
    frozen: bool = True
    onnx: bool = True
    deviation: float | None = None

    def settings(self, size: Size) -> dict[str, Any]:
        """Return the settings of the detector for images of a size."""
        return {} if self.resizes else unresized(size)


RESNET = Network("ResNet-50-FPN", rcnn.faster_rcnn_resnet_50_fpn, "fasterrcnn_resnet50_fpn", inputs.IMAGE)
RESNET_V2 = Network(
    "ResNet-50-FPN version 2",
    rcnn.faster_rcnn_resnet_50_fpn_v2,
    "fasterrcnn_resnet50_fpn_v2",
    inputs.IMAGE,
    frozen=False,
    onnx=False,
)
MOBILENET = Network(
    "MobileNetV3-Large-FPN 320",
    rcnn.faster_rcnn_mobilenet_v3_large_320_fpn,
    "fasterrcnn_mobilenet_v3_large_320_fpn",
    inputs.PHOTO,
    resizes=True,
    deviation=2.0,  # a photo then has 100 detections, about 7 of them with a score above 0.5
)


def contest(settings: Settings, network: Network = RESNET, size: Size | None = None) -> Contest:
    """Return the contest of all contestants on one image, with the same weights; `size` replaces that of the image."""
    size = size or network.image
    image = inputs.textured_image(*size)
    contestants = batch_contestants(settings, network, size, [image])
    if network.onnx:
        contestants += onnx_contestants(settings, network, size, image)
    return by_answer(contestants, same_detections)


def batch_contest(settings: Settings, size: Size, batch: int) -> Contest:
    """Return the contest on a batch of images, without the ONNX peers, because an ONNX file is for one image."""
    images = [inputs.textured_image(*size, seed) for seed in range(inputs.SEED, inputs.SEED + batch)]
    return by_answer(batch_contestants(settings, RESNET, size, images), same_detections)


def load_contest(settings: Settings) -> Contest:
    """Return the contest of making a detector from a file, and of reading the arrays in the file alone."""
    path = settings.folder / "detector.safetensors"
    rcnn.save(path, detector(RESNET))
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


def batch_contestants(
    settings: Settings, network: Network, size: Size, images: Sequence[np.ndarray]
) -> list[Contestant]:
    """Return rcnn, and torchvision in both memory layouts, as contestants."""
    model = detector(network, size)
    contestants = [Contestant("rcnn", lambda _: model.predict(images))]
    if "torchvision" in settings.peers:
        from speed import torch_peer

        contestants += [
            torch_peer.detecting("torchvision", torch_detector(network, size), images),
            torch_peer.detecting("torchvision, channels last", torch_channels_last(network, size), images),
        ]
    return contestants


def onnx_contestants(settings: Settings, network: Network, size: Size, image: np.ndarray) -> list[Contestant]:
    """Return the selected contestants that run ONNX files."""
    wanted = [peer for peer in ("onnxruntime", "openvino") if peer in settings.peers]
    if not wanted:
        return []
    from speed import onnx_peer

    path = exported(network, settings.folder, size)
    make = {"onnxruntime": onnx_peer.with_onnxruntime, "openvino": onnx_peer.with_openvino}
    return [make[peer](path, image, settings.threads) for peer in wanted]


def exported(network: Network, folder: Path, size: Size | None = None) -> Path:
    """Return the path of the ONNX file for images of a size; the first call writes the file."""
    from speed import onnx_peer

    size = size or network.image
    path = folder / f"{network.peer}-{size[0]}-{size[1]}.onnx"
    return path if path.exists() else onnx_peer.export(torch_detector(network, size), size, path)


def unresized(size: Size) -> dict[str, Any]:
    """Return detector settings with which an image of this size is not resized."""
    return {"min_size": min(size), "max_size": max(size)}


@functools.lru_cache(maxsize=1)
def weights(network: Network) -> Mapping[str, np.ndarray]:
    """Return the weights of a network, which do not depend on the image size."""
    model = network.build(inputs.NUM_CLASSES).eval()
    state = inputs.detector_weights({name: array.shape for name, array in model.state_dict().items()})
    if network.deviation is not None:
        model.load_state_dict(state)
        spread_logits(state, model.trace([inputs.textured_image(*network.image)]).class_logits, network.deviation)
    return state


def spread_logits(state: dict[str, np.ndarray], logits: np.ndarray, deviation: float) -> None:
    """Change the weights of the class logits, so that `logits` (R, L) get a mean of 0 and this standard deviation.

    Without this, a network whose features hardly differ between proposals has the same low scores for all of them.
    """
    factor = deviation / logits.std(axis=0).mean()
    layer = "roi_heads.box_predictor.cls_score"
    state[f"{layer}.bias"] = factor * (state[f"{layer}.bias"] - logits.mean(axis=0))
    state[f"{layer}.weight"] = factor * state[f"{layer}.weight"]


@functools.lru_cache(maxsize=1)
def detector(network: Network, size: Size | None = None) -> rcnn.FasterRCNN:
    """Return the detector of rcnn for images of a size."""
    model = network.build(inputs.NUM_CLASSES, **network.settings(size or network.image))
    model.load_state_dict(weights(network))
    return model.eval()


@functools.lru_cache(maxsize=1)
def torch_detector(network: Network, size: Size | None = None) -> Any:
    """Return the detector of torchvision for images of a size."""
    from speed import torch_peer

    eps = torch_peer.EPS if network.frozen else None
    settings = network.settings(size or network.image)
    return torch_peer.detector(network.peer, weights(network), inputs.NUM_CLASSES, eps, **settings)


@functools.lru_cache(maxsize=1)
def torch_channels_last(network: Network, size: Size) -> Any:
    """Return the detector of torchvision with channels-last filters; its feature maps are then channels last, too."""
    import torch

    return torch_detector.__wrapped__(network, size).to(memory_format=torch.channels_last)


def _row(name: str, network: Network, threads: int | None = None) -> Row:
    height, width = network.image
    given = f"image of {height} x {width} pixels" if network.resizes else f"1 x 3 x {height} x {width}"
    spread = "one thread" if threads == 1 else "all threads"
    make = functools.partial(contest, network=network)
    return Row(name, f"detector {network.title}, {given}, {spread}", make, threads=threads)


ROWS = [
    _row("detector", RESNET),
    _row("detector-1", RESNET, threads=1),
    _row("version-2", RESNET_V2),
    _row("version-2-1", RESNET_V2, threads=1),
    _row("mobilenet", MOBILENET),
    _row("mobilenet-1", MOBILENET, threads=1),
    Row("load", "making a detector ResNet-50-FPN from a file", load_contest),
]

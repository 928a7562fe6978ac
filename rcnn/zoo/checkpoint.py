"""Saving and loading: weights as safetensors, with the config beside them, and public .pth files.

A file that `save` writes holds every parameter and buffer under its name, and in its metadata what is needed to build
the model again. A public file holds names and arrays alone; `load_into` brings them into a model that is there already.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from rcnn._files import write_whole
from rcnn.backbones import ResNet, ResNetFPN, SmallBackbone
from rcnn.config import FasterRCNNConfig
from rcnn.model import FasterRCNN
from rcnn.nn import Module
from rcnn.zoo import download, pth
from rcnn.zoo.pth.bounded import CheckpointError

__all__ = [
    "CheckpointError",
    "LoadReport",
    "Weights",
    "build_backbone",
    "describe",
    "describe_backbone",
    "load",
    "load_digits",
    "load_into",
    "locate",
    "put_into",
    "read_tensors",
    "read_weights",
    "restore",
    "save",
    "write_tensors",
]

FORMAT = "rcnn-1"  # a reader refuses what it does not know
KEY = "rcnn"  # of the metadata

# The library's own backbones by name, with the arguments they were made with, which they keep as attributes: what a
# checkpoint can rebuild without the user's help.
OWN_BACKBONES: dict[str, tuple[type[Module], tuple[str, ...]]] = {
    "SmallBackbone": (SmallBackbone, ("out_channels", "depth")),
    "ResNetFPN": (ResNetFPN, ("layers", "out_channels", "eps")),
}

# What torchvision called two of its parts until 0.12, and what it has called them since.
OLD_NAMES = (
    (re.compile(r"^rpn\.head\.conv\.(?=weight$|bias$)"), "rpn.head.conv.0.0."),
    (re.compile(r"^(backbone\.fpn\.(?:inner|layer)_blocks\.\d+)\.(?=weight$|bias$)"), r"\1.0."),
)


def save(path: str | os.PathLike[str], model: FasterRCNN) -> None:
    """Writes the model's weights and config to a .safetensors file; `load` needs nothing else.

    The file appears whole or not at all. Raises OSError where it cannot be written.
    """
    write_tensors(path, model.state_dict(), describe(model))


def load(path: str | os.PathLike[str], backbone: Module | None = None) -> FasterRCNN:
    """The model that `save` wrote, in evaluation mode.

    backbone: a module like the one that was saved, where it was not one of the library's own. Raises CheckpointError
    for a file that is no checkpoint or does not fit, and OSError where it cannot be read.
    """
    tensors, metadata = read_tensors(path)
    return restore(tensors, metadata, str(path), backbone)


def load_digits() -> FasterRCNN:
    """The detector of handwritten digits that comes with the package; it was trained as rcnn/weights/README.md says."""
    with resources.as_file(resources.files("rcnn.zoo") / "weights" / "digits.safetensors") as path:
        return load(path)


def describe(model: FasterRCNN) -> dict[str, Any]:
    """The metadata from which `restore` builds the model again."""
    return {
        "format": FORMAT,
        "backbone": describe_backbone(model.backbone),
        "backbone_class": type(model.backbone).__name__,
        "settings": model.config.settings(),
    }


def restore(
    tensors: Mapping[str, np.ndarray], metadata: Mapping[str, Any], name: str, backbone: Module | None = None
) -> FasterRCNN:
    """The model of these tensors and metadata, in evaluation mode. `name` is the file's, for messages."""
    if metadata.get("format") != FORMAT:
        raise CheckpointError(
            f"{name} was not written by rcnn.save: its format is {metadata.get('format')!r}, {FORMAT!r} is wanted"
        )
    try:
        description, class_name, settings = (metadata[key] for key in ("backbone", "backbone_class", "settings"))
        if backbone is None and description is not None:
            backbone = build_backbone(description)
    except (KeyError, AttributeError, TypeError, ValueError) as error:
        raise CheckpointError(f"{name} does not say how to build its model: {error!r}") from error
    if backbone is None:
        raise CheckpointError(
            f"{name} was saved with a backbone that is not the library's own ({class_name}); "
            f"pass one like it: rcnn.load({name!r}, backbone={class_name}())"
        )
    try:
        model = FasterRCNN(FasterRCNNConfig(backbone, **settings))
        names = tensors.keys() & {name for name, _ in model.named_parameters()}
        if any(tensors[name].dtype == np.float64 for name in names):  # a buffer may be so in a float32 model, too
            model.astype(np.float64)
        model.load_state_dict(tensors)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{name}: {error}") from error
    model.eval()
    return model


def describe_backbone(backbone: Module) -> dict[str, object] | None:
    """What `build_backbone` makes such a backbone from, as values that JSON can hold; None for a user's own."""
    for name, (kind, arguments) in OWN_BACKBONES.items():
        if type(backbone) is kind:
            return {"name": name, "arguments": {argument: getattr(backbone, argument) for argument in arguments}}
    return None


def build_backbone(description: object) -> Module:
    """A new backbone from what `describe_backbone` gave; ValueError for anything else, for any file may hold it."""
    if not isinstance(description, dict):
        raise ValueError(f"a backbone is described by its name and arguments, not by {description!r}")
    name, arguments = description.get("name"), description.get("arguments")
    if not isinstance(name, str) or name not in OWN_BACKBONES or not isinstance(arguments, dict):
        raise ValueError(f"no backbone {name!r} here; there are {', '.join(OWN_BACKBONES)}")
    kind, allowed = OWN_BACKBONES[name]
    if set(arguments) != set(allowed) or not all(isinstance(value, (int, float)) for value in arguments.values()):
        raise ValueError(f"{name} takes the numbers {', '.join(allowed)}, not {arguments}")
    return kind(**arguments)


# ---------------------------------------------------------------------- into a model that is there


@dataclass(frozen=True)
class Weights:
    """What a file holds: arrays by name, under today's names, and the metadata of `save`, where it wrote the file."""

    path: Path
    tensors: dict[str, np.ndarray]
    metadata: dict[str, Any]

    def norm_eps(self) -> float | None:
        """The eps of the frozen batch norms that these weights were trained with, where that is known."""
        if not self.metadata and download.is_coco(self.path):
            return 0.0  # that file was trained so, and does not say it
        eps = self._entry("backbone", "arguments", "eps")
        return eps if isinstance(eps, (int, float)) else None

    def class_names(self) -> list[str] | None:
        """The names that the file gives its classes; None where it gives none."""
        names = self._entry("settings", "class_names")
        return names if isinstance(names, list) else None

    def _entry(self, *keys: str) -> object:
        """Return the value of the metadata under a path of keys; None if there is none, as any file may be given."""
        value: object = self.metadata
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        return value


@dataclass(frozen=True)
class LoadReport:
    """The parameters and buffers that were copied from a file into a module, and those that were left out.

    names: of those that were copied. left_out: {name: (shape in the file, shape in the module)} of the others.
    """

    names: list[str]
    left_out: dict[str, tuple[tuple[int, ...], tuple[int, ...]]]


def load_into(module: Module, source: str | os.PathLike[str], skip_mismatched: bool = False) -> LoadReport:
    """Copies the weights of a file into a module: a detector, a ResNet, anything whose names are in the file.

    source: a .safetensors or a .pth file, or "coco" (for the 50-layer detector) or "imagenet" (for a ResNet), which are
    fetched once. skip_mismatched: leaves out what has another shape, such as the last layers of a detector for other
    classes, instead of refusing. Raises CheckpointError that names every missing, unexpected and misshapen parameter,
    having changed nothing.
    """
    return put_into(module, read_weights(locate(source, module)), skip_mismatched)


def put_into(module: Module, weights: Weights, skip_mismatched: bool = False) -> LoadReport:
    """Copies weights that were read into a module; see `load_into`."""
    tensors, state = weights.tensors, module.state_dict()
    mismatched = [
        name for name in state if skip_mismatched and name in tensors and tensors[name].shape != state[name].shape
    ]
    left_out = {name: (tensors[name].shape, state[name].shape) for name in mismatched}
    try:
        module.load_state_dict(tensors | {name: state[name] for name in mismatched})
    except ValueError as error:
        raise CheckpointError(f"{weights.path}: {error}") from error
    for part in module.modules():
        if isinstance(part, ResNetFPN) and (eps := weights.norm_eps()) is not None:
            part.eps = eps
    return LoadReport([name for name in state if name in tensors and name not in left_out], left_out)


def locate(source: str | os.PathLike[str], module: Module | None = None) -> Path:
    """The path of a file, which is fetched where it is named "coco", or "imagenet" for a ResNet `module`."""
    if source == "coco":
        return download.fetch("coco")
    if source == "imagenet":
        if not isinstance(module, ResNet):
            raise ValueError(f'"imagenet" are weights for a ResNet, not for {type(module).__name__}')
        return download.fetch(f"resnet{module.layers}")
    return Path(source)


def read_weights(path: str | os.PathLike[str]) -> Weights:
    """What a .safetensors or a .pth file holds, whatever the file is called.

    Raises CheckpointError for a file that is neither, OSError where it cannot be read.
    """
    _check_is_file(path)
    with open(path, "rb") as file:
        start = file.read(9)
    tensors, metadata = read_tensors(path) if start[8:] == b"{" else (pth.read(path), {})  # eight bytes, then JSON
    return Weights(Path(path), modern_names(tensors), metadata)


def modern_names(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays under today's names, where torchvision has changed them since the file was written."""

    def modern(name: str) -> str:
        for old, new in OLD_NAMES:
            name = old.sub(new, name)
        return name

    return {modern(name): array for name, array in tensors.items()}


# ---------------------------------------------------------------------- files


def write_tensors(path: str | os.PathLike[str], tensors: Mapping[str, np.ndarray], metadata: Mapping[str, Any]) -> None:
    """Writes arrays, and metadata that JSON can hold, to a .safetensors file, whole or not at all."""
    # Contiguous before anything else: safetensors 0.8.0 writes the memory of a strided array, not its values.
    contiguous = {name: np.asarray(array, order="C") for name, array in tensors.items()}
    # Under one key, for safetensors writes several in no particular order, and equal models shall make equal files.
    write_whole(path, safetensors.numpy.save(contiguous, {KEY: json.dumps(metadata)}))


def read_tensors(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays and the metadata of a .safetensors file; no metadata, where another program wrote it.

    Raises CheckpointError for a file that is none, OSError where it cannot be read.
    """
    _check_is_file(path)
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = json.loads((file.metadata() or {}).get(KEY, "{}"))
    except (safetensors.SafetensorError, ValueError) as error:
        raise CheckpointError(f"{path} is not a safetensors file of rcnn: {error}") from error
    except (AttributeError, TypeError) as error:  # safetensors asked NumPy for bfloat16 or float8
        raise CheckpointError(f"{path} holds numbers of a kind that NumPy does not have: {error}") from error
    return tensors, metadata if isinstance(metadata, dict) else {}


def _check_is_file(path: str | os.PathLike[str]) -> None:
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no file {path}")

"""Saving and loading: safetensors files with weights and config, and public .pth files.

A file of `save` contains every parameter and buffer under its name, and the model's config in its metadata, so that
`load` can rebuild the model. A public file contains only names and arrays; `load_into` copies them into a model.
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

FORMAT = "rcnn-1"  # readers refuse any other format
KEY = "rcnn"  # of the metadata

# The library's own backbones and the names of their arguments, which they keep as attributes. A checkpoint can rebuild
# these without the user's help.
OWN_BACKBONES: dict[str, tuple[type[Module], tuple[str, ...]]] = {
    "SmallBackbone": (SmallBackbone, ("out_channels", "depth")),
    "ResNetFPN": (ResNetFPN, ("layers", "out_channels", "eps")),
}

# Two names that torchvision used until 0.12, and their replacements.
OLD_NAMES = (
    (re.compile(r"^rpn\.head\.conv\.(?=weight$|bias$)"), "rpn.head.conv.0.0."),
    (re.compile(r"^(backbone\.fpn\.(?:inner|layer)_blocks\.\d+)\.(?=weight$|bias$)"), r"\1.0."),
)


def save(path: str | os.PathLike[str], model: FasterRCNN) -> None:
    """Write the model's weights and config to a .safetensors file, atomically.

    Parameters
    ----------
    path : path
        The file to write.
    model : FasterRCNN
        The model.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    write_tensors(path, model.state_dict(), describe(model))


def load(path: str | os.PathLike[str], backbone: Module | None = None) -> FasterRCNN:
    """Return the model in a file of `save`, in evaluation mode.

    Parameters
    ----------
    path : path
        The file.
    backbone : Module, optional
        A module like the saved backbone; required if that is not one of the library's.

    Returns
    -------
    FasterRCNN
        The model.

    Raises
    ------
    CheckpointError
        If the file is not a checkpoint, or does not match the backbone.
    OSError
        If the file cannot be read.
    """
    tensors, metadata = read_tensors(path)
    return restore(tensors, metadata, str(path), backbone)


def load_digits() -> FasterRCNN:
    """Return the detector of handwritten digits that is shipped with the package, in evaluation mode.

    Returns
    -------
    FasterRCNN
        The detector; rcnn/zoo/weights/README.md describes its training.

    Examples
    --------
    >>> import rcnn
    >>> rcnn.load_digits().config.class_names[:3]
    ('background', '0', '1')
    """
    with resources.as_file(resources.files("rcnn.zoo") / "weights" / "digits.safetensors") as path:
        return load(path)


def describe(model: FasterRCNN) -> dict[str, Any]:
    """Return the metadata from which `restore` rebuilds the model.

    Parameters
    ----------
    model : FasterRCNN
        The model.

    Returns
    -------
    dict
        Values that JSON can represent.
    """
    return {
        "format": FORMAT,
        "backbone": describe_backbone(model.backbone),
        "backbone_class": type(model.backbone).__name__,
        "settings": model.config.settings(),
    }


def restore(
    tensors: Mapping[str, np.ndarray], metadata: Mapping[str, Any], name: str, backbone: Module | None = None
) -> FasterRCNN:
    """Return the model of tensors and metadata, in evaluation mode.

    Parameters
    ----------
    tensors : mapping of str to array
        Parameters and buffers.
    metadata : mapping
        The metadata, as from `describe`.
    name : str
        Name of the file, for messages.
    backbone : Module, optional
        As in `load`.

    Returns
    -------
    FasterRCNN
        The model.

    Raises
    ------
    CheckpointError
        For invalid metadata, or tensors that do not match the model.
    """
    if metadata.get("format") != FORMAT:
        raise CheckpointError(
            f"{name} was not written by rcnn.save: its format must be {FORMAT!r}, got {metadata.get('format')!r}"
        )
    try:
        description, class_name, settings = (metadata[key] for key in ("backbone", "backbone_class", "settings"))
        if backbone is None and description is not None:
            backbone = build_backbone(description)
    except (KeyError, AttributeError, TypeError, ValueError) as error:
        raise CheckpointError(f"{name} does not contain a valid description of its model: {error!r}") from error
    if backbone is None:
        raise CheckpointError(
            f"{name} was saved with a backbone of your own, {class_name}; "
            f"pass a new one: rcnn.load({name!r}, backbone={class_name}())"
        )
    try:
        model = FasterRCNN(FasterRCNNConfig(backbone, **settings))
        names = tensors.keys() & {name for name, _ in model.named_parameters()}
        if any(tensors[name].dtype == np.float64 for name in names):  # buffers may be float64 anyway
            model.astype(np.float64)
        model.load_state_dict(tensors)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{name}: {error}") from error
    model.eval()
    return model


def describe_backbone(backbone: Module) -> dict[str, object] | None:
    """Return the name and arguments from which `build_backbone` rebuilds a backbone.

    Parameters
    ----------
    backbone : Module
        The backbone.

    Returns
    -------
    dict or None
        Values that JSON can represent; None if the backbone is not one of the library's.
    """
    for name, (kind, arguments) in OWN_BACKBONES.items():
        if type(backbone) is kind:
            return {"name": name, "arguments": {argument: getattr(backbone, argument) for argument in arguments}}
    return None


def build_backbone(description: object) -> Module:
    """Return a new backbone from the description of `describe_backbone`.

    Parameters
    ----------
    description : dict
        The description. It may come from any file, so it is validated.

    Returns
    -------
    Module
        The backbone.

    Raises
    ------
    ValueError
        For an invalid description.
    """
    if not isinstance(description, dict):
        raise ValueError(f"the description of a backbone must be a dict of name and arguments, got {description!r}")
    name, arguments = description.get("name"), description.get("arguments")
    if not isinstance(name, str) or name not in OWN_BACKBONES or not isinstance(arguments, dict):
        raise ValueError(f"the name of a backbone must be one of {', '.join(OWN_BACKBONES)}, got {name!r}")
    kind, allowed = OWN_BACKBONES[name]
    if set(arguments) != set(allowed) or not all(isinstance(value, (int, float)) for value in arguments.values()):
        raise ValueError(f"{name} takes the numbers {', '.join(allowed)}, got {arguments}")
    return kind(**arguments)


# ---------------------------------------------------------------------- into an existing model


@dataclass(frozen=True)
class Weights:
    """Contents of a file of weights.

    Attributes
    ----------
    path : Path
        The file.
    tensors : dict of str to array
        The arrays, under torchvision's current names.
    metadata : dict
        The metadata of `save`; empty if another program wrote the file.
    """

    path: Path
    tensors: dict[str, np.ndarray]
    metadata: dict[str, Any]

    def norm_eps(self) -> float | None:
        """Return the eps of the frozen batch norms in the training of these weights.

        Returns
        -------
        float or None
            None if it is unknown.
        """
        if not self.metadata and download.is_coco(self.path):
            return 0.0  # this file was trained with eps 0, but does not record it
        eps = self._entry("backbone", "arguments", "eps")
        return eps if isinstance(eps, (int, float)) else None

    def class_names(self) -> list[str] | None:
        """Return the class names in the file.

        Returns
        -------
        list of str or None
            None if the file has none.
        """
        names = self._entry("settings", "class_names")
        return names if isinstance(names, list) else None

    def _entry(self, *keys: str) -> object:
        """Return the value of the metadata under nested keys; None if there is none, because a file may have any."""
        value: object = self.metadata
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        return value


@dataclass(frozen=True)
class LoadReport:
    """Copied and skipped parameters and buffers of `load_into`.

    Attributes
    ----------
    names : list of str
        Names of the copied ones.
    left_out : dict of str to (tuple, tuple)
        Skipped ones, with the shape in the file and the shape in the module.
    """

    names: list[str]
    left_out: dict[str, tuple[tuple[int, ...], tuple[int, ...]]]


def load_into(module: Module, source: str | os.PathLike[str], skip_mismatched: bool = False) -> LoadReport:
    """Copy the weights in a file into a module, such as a detector or a ResNet.

    Parameters
    ----------
    module : Module
        The module; it changes in place.
    source : path or "coco" or "imagenet"
        A .safetensors or .pth file, or "coco" (for the ResNet-50 detector) or "imagenet" (for a ResNet), downloaded
        once.
    skip_mismatched : bool
        Skip parameters of another shape, such as the last layers of a detector for other classes, instead of raising.

    Returns
    -------
    LoadReport
        The copied and the skipped names.

    Raises
    ------
    CheckpointError
        If names or shapes do not match; the message lists every missing, unexpected and misshapen parameter. The
        module does not change.
    """
    return put_into(module, read_weights(locate(source, module)), skip_mismatched)


def put_into(module: Module, weights: Weights, skip_mismatched: bool = False) -> LoadReport:
    """Copy weights in memory into a module.

    Parameters
    ----------
    module : Module
        The module; it changes in place.
    weights : Weights
        The weights, as from `read_weights`.
    skip_mismatched : bool
        As in `load_into`.

    Returns
    -------
    LoadReport
        The copied and the skipped names.

    Raises
    ------
    CheckpointError
        As in `load_into`.
    """
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
    """Return the path of a source of weights; "coco" and "imagenet" are downloaded once.

    Parameters
    ----------
    source : path or "coco" or "imagenet"
        As in `load_into`.
    module : Module, optional
        The ResNet that "imagenet" is for.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ValueError
        For "imagenet" if `module` is not a ResNet.
    DownloadError
        If the file cannot be downloaded.
    """
    if source == "coco":
        return download.fetch("coco")
    if source == "imagenet":
        if not isinstance(module, ResNet):
            raise ValueError(f'weights "imagenet" require a ResNet, got {type(module).__name__}')
        return download.fetch(f"resnet{module.layers}")
    return Path(source)


def read_weights(path: str | os.PathLike[str]) -> Weights:
    """Read a .safetensors or .pth file; the format is detected from its content, not from its name.

    Parameters
    ----------
    path : path
        The file.

    Returns
    -------
    Weights
        The arrays and the metadata.

    Raises
    ------
    CheckpointError
        If the file has neither format.
    OSError
        If the file cannot be read.
    """
    _check_is_file(path)
    with open(path, "rb") as file:
        start = file.read(9)
    tensors, metadata = read_tensors(path) if start[8:] == b"{" else (pth.read(path), {})  # eight bytes, then JSON
    return Weights(Path(path), modern_names(tensors), metadata)


def modern_names(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Rename arrays from torchvision's old names to its current ones.

    Parameters
    ----------
    tensors : mapping of str to array
        The arrays.

    Returns
    -------
    dict of str to array
        The same arrays.
    """

    def modern(name: str) -> str:  # numpydoc ignore=GL08
        for old, new in OLD_NAMES:
            name = old.sub(new, name)
        return name

    return {modern(name): array for name, array in tensors.items()}


# ---------------------------------------------------------------------- files


def write_tensors(path: str | os.PathLike[str], tensors: Mapping[str, np.ndarray], metadata: Mapping[str, Any]) -> None:
    """Write arrays and metadata to a .safetensors file, atomically.

    Parameters
    ----------
    path : path
        The file to write.
    tensors : mapping of str to array
        The arrays.
    metadata : mapping
        Values that JSON can represent.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    # Copy to contiguous arrays first: safetensors 0.8.0 writes the memory of a strided array, not its values.
    contiguous = {name: np.asarray(array, order="C") for name, array in tensors.items()}
    # One key: safetensors writes several keys in arbitrary order, and files of equal models must be equal.
    write_whole(path, safetensors.numpy.save(contiguous, {KEY: json.dumps(metadata)}))


def read_tensors(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read the arrays and the metadata of a .safetensors file.

    Parameters
    ----------
    path : path
        The file.

    Returns
    -------
    tensors : dict of str to array
        The arrays.
    metadata : dict
        The metadata; empty if another program wrote the file.

    Raises
    ------
    CheckpointError
        If the file is not a safetensors file.
    OSError
        If the file cannot be read.
    """
    _check_is_file(path)
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = json.loads((file.metadata() or {}).get(KEY, "{}"))
    except (safetensors.SafetensorError, ValueError) as error:
        raise CheckpointError(f"{path} is not a valid safetensors file: {error}") from error
    except (AttributeError, TypeError) as error:  # safetensors asked NumPy for bfloat16 or float8
        raise CheckpointError(f"{path} contains a dtype that NumPy does not have: {error}") from error
    return tensors, metadata if isinstance(metadata, dict) else {}


def _check_is_file(path: str | os.PathLike[str]) -> None:
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: file not found")

"""Saving and loading of models: safetensors files with weights and config, and published .pth files.

`save` writes every parameter and buffer under its name, and stores the model's config in the metadata of the file, so
that `load` can rebuild the model. A published file contains only names and arrays; `load_into` copies the arrays into
an existing model.
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

from rcnn._files import write_whole
from rcnn.backbones import ResNet, ResNetFPN, SmallBackbone
from rcnn.config import FasterRCNNConfig
from rcnn.model import FasterRCNN
from rcnn.nn import Module
from rcnn.zoo import download, pth, safetensors_format
from rcnn.zoo.pth.bounded import CheckpointError

try:
    import safetensors
    import safetensors.numpy
except ImportError:  # in a browser
    safetensors = None  # type: ignore[assignment]

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

FORMAT = "rcnn-1"  # a file with any other format is refused
KEY = "rcnn"  # name of the metadata entry that holds the config

# The library's own backbones and the names of their arguments. Each backbone stores its arguments as attributes, so
# that `load` can rebuild it from the checkpoint alone.
OWN_BACKBONES: dict[str, tuple[type[Module], tuple[str, ...]]] = {
    "SmallBackbone": (SmallBackbone, ("out_channels", "depth")),
    "ResNetFPN": (ResNetFPN, ("layers", "out_channels", "eps")),
}

# Two names that torchvision used up to version 0.12, and the names that replaced them.
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
    """Load a model from a file that `save` wrote, in evaluation mode.

    Parameters
    ----------
    path : path
        The file.
    backbone : Module, optional
        A new module with the same layers as the saved backbone. It is required only if the saved backbone is not one
        of the library's.

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
    """Load the detector of handwritten digits that comes with the package, in evaluation mode.

    Returns
    -------
    FasterRCNN
        The detector. The file rcnn/zoo/weights/README.md describes how it was trained.

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
        The metadata, as values that JSON can represent.
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
    """Rebuild a model from its tensors and its metadata, in evaluation mode.

    Parameters
    ----------
    tensors : mapping of str to array
        Parameters and buffers.
    metadata : mapping
        The metadata, as `describe` returns it.
    name : str
        Name of the file, for error messages.
    backbone : Module, optional
        See `load`.

    Returns
    -------
    FasterRCNN
        The model.

    Raises
    ------
    CheckpointError
        If the metadata is invalid, or the tensors do not match the model.
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
            f"{name} was saved with your own backbone, {class_name}; "
            f"pass a new instance of it: rcnn.load({name!r}, backbone={class_name}())"
        )
    try:
        model = FasterRCNN(FasterRCNNConfig(backbone, **settings))
        names = tensors.keys() & {name for name, _ in model.named_parameters()}
        if any(tensors[name].dtype == np.float64 for name in names):  # buffers may be float64 in any model
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
        The name and the arguments, as values that JSON can represent. None if the backbone is not one of the library's.
    """
    for name, (kind, arguments) in OWN_BACKBONES.items():
        if type(backbone) is kind:
            return {"name": name, "arguments": {argument: getattr(backbone, argument) for argument in arguments}}
    return None


def build_backbone(description: object) -> Module:
    """Build a backbone from a description that `describe_backbone` returned.

    Parameters
    ----------
    description : dict
        The description. It is validated, because it may come from any file.

    Returns
    -------
    Module
        The backbone.

    Raises
    ------
    ValueError
        If the description is invalid.
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
    """Contents of a weights file.

    Attributes
    ----------
    path : Path
        The file.
    tensors : dict of str to array
        The arrays, under torchvision's current names.
    metadata : dict
        The metadata that `save` wrote; empty if another program wrote the file.
    """

    path: Path
    tensors: dict[str, np.ndarray]
    metadata: dict[str, Any]

    def norm_eps(self) -> float | None:
        """Return the eps that the frozen batch norms had when these weights were trained.

        Returns
        -------
        float or None
            The eps, or None if it is unknown.
        """
        if not self.metadata and download.is_coco(self.path):
            return 0.0  # these weights were trained with eps 0, but their file does not state it
        eps = self._entry("backbone", "arguments", "eps")
        return eps if isinstance(eps, (int, float)) else None

    def class_names(self) -> list[str] | None:
        """Return the class names in the file.

        Returns
        -------
        list of str or None
            The names, or None if the file does not contain any.
        """
        names = self._entry("settings", "class_names")
        return names if isinstance(names, list) else None

    def _entry(self, *keys: str) -> object:
        """Return the value under nested keys of the metadata, or None if any key is missing."""
        value: object = self.metadata
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        return value


@dataclass(frozen=True)
class LoadReport:
    """Names of the parameters and buffers that `load_into` copied or skipped.

    Attributes
    ----------
    names : list of str
        Names of the copied parameters and buffers.
    left_out : dict of str to (tuple, tuple)
        Maps the name of each skipped parameter or buffer to its shape in the file and its shape in the module.
    """

    names: list[str]
    left_out: dict[str, tuple[tuple[int, ...], tuple[int, ...]]]


def load_into(module: Module, source: str | os.PathLike[str], skip_mismatched: bool = False) -> LoadReport:
    """Copy the weights from a file into a module, such as a detector or a ResNet.

    Parameters
    ----------
    module : Module
        The module, which is changed in place.
    source : path or "coco" or "imagenet"
        A .safetensors or .pth file, "coco" (for the ResNet-50 detector) or "imagenet" (for a ResNet). The weights of
        "coco" and "imagenet" are downloaded once.
    skip_mismatched : bool
        If True, parameters whose shapes differ are skipped. Use it, for example, to start from a detector for other
        classes, whose last layers have other shapes. If False, such parameters are an error.

    Returns
    -------
    LoadReport
        Names of the copied and of the skipped parameters and buffers.

    Raises
    ------
    CheckpointError
        If names or shapes do not match. The message lists every parameter that is missing, is unexpected or has the
        wrong shape. The module stays unchanged.
    """
    return put_into(module, read_weights(locate(source, module)), skip_mismatched)


def put_into(module: Module, weights: Weights, skip_mismatched: bool = False) -> LoadReport:
    """Copy the weights that `read_weights` returned into a module.

    Parameters
    ----------
    module : Module
        The module, which is changed in place.
    weights : Weights
        The weights, as `read_weights` returns them.
    skip_mismatched : bool
        See `load_into`.

    Returns
    -------
    LoadReport
        Names of the copied and of the skipped parameters and buffers.

    Raises
    ------
    CheckpointError
        If names or shapes do not match, as in `load_into`.
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
    """Return the path of a weights file; download "coco" or "imagenet" if it is not in the cache.

    Parameters
    ----------
    source : path or "coco" or "imagenet"
        See `load_into`.
    module : Module, optional
        The ResNet for the "imagenet" weights; not used for other sources.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ValueError
        If `source` is "imagenet" and `module` is not a ResNet.
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
    # A safetensors file starts with eight bytes, followed by JSON.
    tensors, metadata = read_tensors(path) if start[8:] == b"{" else (pth.read(path), {})
    return Weights(Path(path), modern_names(tensors), metadata)


def modern_names(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Rename arrays from torchvision's old names to its current names.

    Parameters
    ----------
    tensors : mapping of str to array
        The arrays.

    Returns
    -------
    dict of str to array
        The same arrays, under the current names.
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
    write = safetensors_format.save if safetensors is None else safetensors.numpy.save
    # Make the arrays contiguous first: safetensors 0.8.0 ignores strides and would write wrong values.
    contiguous = {name: np.asarray(array, order="C") for name, array in tensors.items()}
    # Use only one key: safetensors writes several keys in arbitrary order, but equal models must give equal files.
    write_whole(path, write(contiguous, {KEY: json.dumps(metadata)}))


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
        The metadata that `write_tensors` stored; empty if another program wrote the file.

    Raises
    ------
    CheckpointError
        If the file is not a safetensors file.
    OSError
        If the file cannot be read.
    """
    _check_is_file(path)
    try:
        tensors, entries = safetensors_format.read(path) if safetensors is None else _read_with_safetensors(path)
        metadata = json.loads(entries.get(KEY, "{}"))
    except safetensors_format.UnknownDtypeError as error:
        raise CheckpointError(f"{path} contains a dtype that NumPy does not have: {error}") from error
    except ValueError as error:
        raise CheckpointError(f"{path} is not a valid safetensors file: {error}") from error
    return tensors, metadata if isinstance(metadata, dict) else {}


def _read_with_safetensors(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Read a file as `safetensors_format.read` does, with the same errors."""
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except safetensors.SafetensorError as error:
        raise ValueError(str(error)) from error
    except (AttributeError, TypeError) as error:  # safetensors requested bfloat16 or float8 from NumPy
        raise safetensors_format.UnknownDtypeError(str(error)) from error


def _check_is_file(path: str | os.PathLike[str]) -> None:
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: file not found")

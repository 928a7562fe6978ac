"""Saving and loading of models: safetensors files with weights and config, and published .pth files.

`save` writes every parameter and buffer under its name, and stores the model's config in the metadata of the file, so
that `load` can rebuild the model. A published file contains only names and arrays; `load_into` copies the arrays into
an existing model.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import reprlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from rcnn._files import check_regular, open_regular, write_whole
from rcnn._validate import FLAG, Rule, as_float, as_table, check_keys, integer, listed, one_of
from rcnn.backbones import MOBILENETS, MobileNet, MobileNetFPN, MobileNetMap, ResNet, ResNetFPN, SmallBackbone
from rcnn.backbones.mobilenet import RETURNED_LAYERS
from rcnn.config import FasterRCNNConfig
from rcnn.model import FasterRCNN
from rcnn.nn import Module
from rcnn.nn.layers import without_drawing
from rcnn.nn.module import StateError
from rcnn.zoo import download, origins, pth, safetensors_format
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
KEY = "rcnn"  # name of the metadata entry that contains the config

SETTINGS = tuple(field.name for field in dataclasses.fields(FasterRCNNConfig) if field.name != "backbone")

# The library's own backbones, and the values that a file may contain for their arguments. Each backbone stores its
# arguments as attributes, so that `load` can rebuild it from the checkpoint alone.
CHANNELS, DEPTH, LAYERS = integer(1, 65_536), integer(0, 1_000), integer(1, 1_000)
EPS = Rule("a number in [0, 1]", as_float, lambda eps: 0 <= eps <= 1)
NETWORK = one_of(MOBILENETS)
OWN_BACKBONES: dict[str, tuple[type[Module], dict[str, Rule]]] = {
    "SmallBackbone": (SmallBackbone, {"out_channels": CHANNELS, "depth": DEPTH}),
    "ResNetFPN": (ResNetFPN, {"layers": LAYERS, "out_channels": CHANNELS, "eps": EPS, "batch_norm": FLAG}),
    "MobileNetFPN": (
        MobileNetFPN,
        {"name": NETWORK, "out_channels": CHANNELS, "returned_layers": RETURNED_LAYERS, "frozen": FLAG, "eps": EPS},
    ),
    "MobileNetMap": (MobileNetMap, {"name": NETWORK, "out_channels": CHANNELS, "frozen": FLAG, "eps": EPS}),
}

# Two names that torchvision used up to version 0.12, and the names that replaced them.
OLD_NAMES = (
    (re.compile(r"^rpn\.head\.conv\.(?=weight$|bias$)"), "rpn.head.conv.0.0."),
    (re.compile(r"^(backbone\.fpn\.(?:inner|layer)_blocks\.\d+)\.(?=weight$|bias$)"), r"\1.0."),
)

# Advice for errors in safetensors files: a part of the error message, and what the user can do.
REMEDIES = (
    ("not a valid safetensors file", "; if you downloaded it, download it again, because it may be incomplete"),
    ("a dtype that NumPy", "; save the weights as float32 instead, with tensor.float()"),
)

# Two tensors of each of torchvision's Faster R-CNNs. Files from some other programs have only one of these names.
TORCHVISION = ("rpn.head.cls_logits.weight", "roi_heads.box_predictor.cls_score.weight")
OTHER_HEADS = ("roi_heads.mask_", "roi_heads.keypoint_")
# Parts of names that torch.compile, FSDP and activation checkpointing insert.
WRAPPER = re.compile(r"(^|\.)(?:(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.)+")


def save(path: str | os.PathLike[str], model: FasterRCNN) -> None:
    """Write the model's weights and config to a .safetensors file, either completely or not at all.

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
    """Load a model from a file that `save` wrote; the model is in evaluation mode.

    Parameters
    ----------
    path : path
        The file.
    backbone : Module, optional
        A new module with the same layers as the saved backbone. It is required only if the class of the saved backbone
        is not part of the library.

    Returns
    -------
    FasterRCNN
        The model.

    Raises
    ------
    CheckpointError
        If the file is not a checkpoint, or does not match the backbone.
    OSError
        If the file is not a regular file, or cannot be read.
    """
    tensors, metadata = read_tensors(path)
    return restore(tensors, metadata, str(path), backbone)


def load_digits() -> FasterRCNN:
    """Load the detector of handwritten digits that comes with the package; it is in evaluation mode.

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
        Parameters and buffers. They then belong to the model, which does not copy them.
    metadata : mapping
        The metadata from `describe`.
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
        If the metadata is invalid, or the tensors do not match the model. The sizes in the metadata are compared with
        the tensors before memory is allocated, so a model never needs much more memory than the size of its file.
    """
    if metadata.get("format") != FORMAT:
        raise CheckpointError(
            f"{name} was not written by rcnn.save: its format must be {FORMAT!r}, "
            f"got {reprlib.repr(metadata.get('format'))}"
        )
    try:
        description, class_name, settings = (metadata[key] for key in ("backbone", "backbone_class", "settings"))
        check_keys(Rule("a table", as_table).check("settings", settings), SETTINGS, "settings")
        if backbone is None and description is not None:
            with without_drawing():
                backbone = build_backbone(description, tensors, name)
    except CheckpointError:
        raise
    except (KeyError, AttributeError, TypeError, ValueError) as error:
        raise CheckpointError(f"{name} does not contain a valid description of its model: {error!r}") from error
    if backbone is None:
        raise CheckpointError(
            f"{name} was saved with your own backbone, {str(class_name)[:100]}; "
            f"pass a new instance of it: rcnn.load({name!r}, backbone={str(class_name)[:100]}())"
        )
    try:
        config = FasterRCNNConfig(backbone, **settings)
        check_shapes(tensors, head_shapes(config), name)
        _check_anchors(tensors, config, name)
        with without_drawing():  # the file has all weights
            model = FasterRCNN(config)
        names = tensors.keys() & {name for name, _ in model.named_parameters()}
        if any(tensors[name].dtype == np.float64 for name in names):  # buffers may be float64 in any model
            model.astype(np.float64)
        model.load_state_dict(tensors, assign=True)
    except CheckpointError:
        raise
    except (TypeError, ValueError) as error:
        raise _named(name, error) from error
    model.eval()
    return model


def _named(path: str | Path, error: Exception) -> CheckpointError:
    """Return the error as a CheckpointError that names the file."""
    named = CheckpointError(f"{path}: {error}")
    if isinstance(error, StateError):
        named.details = tuple(f"{kind}: {', '.join(names)}" for kind, names in error.problems.items())
    return named


def head_shapes(config: FasterRCNNConfig) -> dict[str, tuple[int, ...]]:
    """Return the shapes that a config requires for the largest tensors of a detector, without those of the backbone.

    Parameters
    ----------
    config : FasterRCNNConfig
        The config.

    Returns
    -------
    dict of str to tuple
        Maps the names of these tensors to their shapes.
    """
    channels, hidden, (rows, columns) = config.feat_channels, config.hidden_dim, config.pool_size
    square, pooled, num_convs = (channels, channels, 3, 3), channels * rows * columns, config.box_num_convs
    box_head: dict[str, tuple[int, ...]] = {"fc6": (hidden, pooled), "fc7": (hidden, hidden)}
    if num_convs:
        box_head = {f"{index}.0": square for index in range(num_convs)} | {f"{num_convs + 1}": (hidden, pooled)}
    return {
        **{f"rpn.head.conv.{index}.0.weight": square for index in range(config.rpn_num_convs)},
        **{f"roi_heads.box_head.{name}.weight": shape for name, shape in box_head.items()},
        "roi_heads.box_predictor.cls_score.weight": (config.num_classes, hidden),
        "roi_heads.box_predictor.bbox_pred.weight": (4 * config.num_classes, hidden),
    }


def _check_anchors(tensors: Mapping[str, np.ndarray], config: FasterRCNNConfig, name: str) -> None:
    """Raise CheckpointError unless the RPN in the file has as many anchors per cell as the config describes."""
    sizes, ratios = (
        len(values[0]) if isinstance(values[0], tuple) else len(values)
        for values in (config.anchor_sizes, config.aspect_ratios)
    )
    allowed = {sizes * ratios, ratios} if config.use_fpn else {sizes * ratios}  # each level may have only one size
    tensor = tensors.get("rpn.head.cls_logits.weight")
    found = 0 if tensor is None or not tensor.ndim else len(tensor)
    if found not in allowed:
        raise CheckpointError(
            f"{name}: wrong shape: its settings require {' or '.join(map(str, sorted(allowed)))} anchors per cell, but "
            f"rpn.head.cls_logits.weight has {found}"
        )


def _backbone_shapes(kind: type[Module], arguments: Mapping[str, Any]) -> Iterable[tuple[str, tuple[int, ...]]]:
    """Return the name and the shape of each tensor whose size depends on the arguments of a backbone."""
    channels = arguments["out_channels"]
    square = (channels, channels, 3, 3)
    if kind is ResNetFPN:
        return [(f"backbone.fpn.layer_blocks.{level}.0.weight", square) for level in range(4)]
    if kind is MobileNetFPN:
        levels = range(len(arguments["returned_layers"]))
        return [(f"backbone.fpn.layer_blocks.{level}.0.weight", square) for level in levels]
    if kind is MobileNetMap:
        return [("backbone.1.bias", (channels,))]
    blocks = range(arguments["depth"])
    return [(f"backbone.blocks.{i}.{half}.0.weight", square) for i in blocks for half in ("first", "second")]


def check_shapes(
    tensors: Mapping[str, np.ndarray],
    expected: Mapping[str, tuple[int, ...]] | Iterable[tuple[str, tuple[int, ...]]],
    name: str,
) -> None:
    """Check the shapes of some tensors.

    Parameters
    ----------
    tensors : mapping of str to array
        The tensors.
    expected : mapping of str to tuple, or pairs of str and tuple
        The name of each tensor and its expected shape.
    name : str
        Name of the file, for error messages.

    Raises
    ------
    CheckpointError
        If a tensor is missing or has another shape. The message names the first such tensor.
    """
    for tensor, shape in dict(expected).items():
        if tensor not in tensors:
            raise CheckpointError(f"{name}: its settings require a tensor {tensor} of shape {shape}, which is missing")
        if tensors[tensor].shape != shape:
            raise CheckpointError(
                f"{name}: wrong shape: its settings require {shape} for {tensor}, got {tensors[tensor].shape}"
            )


def describe_backbone(backbone: Module) -> dict[str, object] | None:
    """Return the name and arguments from which `build_backbone` rebuilds a backbone.

    Parameters
    ----------
    backbone : Module
        The backbone.

    Returns
    -------
    dict or None
        The name and the arguments, as values that JSON can represent. None if the class of the backbone is not part of
        the library.
    """
    for name, (kind, arguments) in OWN_BACKBONES.items():
        if type(backbone) is kind:
            return {"name": name, "arguments": {argument: getattr(backbone, argument) for argument in arguments}}
    return None


def build_backbone(
    description: object, tensors: Mapping[str, np.ndarray] | None = None, name: str = "the file"
) -> Module:
    """Build a backbone from a description that `describe_backbone` returned.

    Parameters
    ----------
    description : dict
        The description. It is validated, because it may come from any file.
    tensors : mapping of str to array, optional
        The tensors of the detector. Their sizes must be those in the description.
    name : str
        Name of the file, for error messages.

    Returns
    -------
    Module
        The backbone.

    Raises
    ------
    TypeError, ValueError
        If the description is invalid. A backbone may have at most 65,536 channels and a depth of at most 1,000.
    CheckpointError
        If the tensors do not fit. This is checked before memory is allocated for the backbone.
    """
    if not isinstance(description, dict):
        raise ValueError(
            f"the description of a backbone must be a dict of name and arguments, got {reprlib.repr(description)}"
        )
    own, arguments = description.get("name"), description.get("arguments")
    if not isinstance(own, str) or own not in OWN_BACKBONES or not isinstance(arguments, dict):
        raise ValueError(f"the name of a backbone must be one of {', '.join(OWN_BACKBONES)}, got {reprlib.repr(own)}")
    kind, rules = OWN_BACKBONES[own]
    if set(arguments) != set(rules):
        raise ValueError(f"the arguments of {own} must be {', '.join(rules)}, got {reprlib.repr(arguments)}")
    checked = {argument: rule.check(argument, arguments[argument]) for argument, rule in rules.items()}
    if tensors is not None:
        check_shapes(tensors, _backbone_shapes(kind, checked), name)
    return kind(**checked)


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
    beside : tuple of str
        The outermost keys of a .pth file, such as "model" and "epoch".
    """

    path: Path
    tensors: dict[str, np.ndarray]
    metadata: dict[str, Any]
    beside: tuple[str, ...] = ()

    def norm_eps(self) -> float | None:
        """Return the eps that the batch norms of the backbone had when these weights were trained.

        Returns
        -------
        float or None
            The eps, which a batch norm adds to the variance. None if it is unknown or not in [0, 1].
        """
        if not self.metadata and download.is_copy(self.path, "coco"):
            return 0.0  # these weights were trained with eps 0, but their file does not contain this value
        eps = self._entry("backbone", "arguments", "eps")
        return float(eps) if isinstance(eps, (int, float)) and EPS.accepts(eps) else None

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
    source : path or str
        A .safetensors or .pth file, the name of a detector that torchvision trained on COCO (one of
        `rcnn.zoo.download.DETECTORS`, such as "coco"), or "imagenet" (for a ResNet or a MobileNet). Weights with a name
        are downloaded once.
    skip_mismatched : bool
        If True, a parameter is skipped if its shape in the file differs from its shape in the module. Use this option,
        for example, if the file contains a detector for other classes, because the shapes of the last layers then
        differ. If False, such a parameter is an error.

    Returns
    -------
    LoadReport
        Names of the copied and of the skipped parameters and buffers.

    Raises
    ------
    CheckpointError
        If names or shapes do not match. The message shows some of the parameters that are missing, are unexpected or
        have the wrong shape, and the attribute `details` lists all of them. The module stays unchanged.
    """
    return put_into(module, read_weights(locate(source, module)), skip_mismatched)


def put_into(module: Module, weights: Weights, skip_mismatched: bool = False) -> LoadReport:
    """Copy weights from `read_weights` into a module.

    Parameters
    ----------
    module : Module
        The module, which is changed in place.
    weights : Weights
        The weights from `read_weights`. Their arrays then belong to the module, which does not copy them.
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
    state = module.state_dict()
    tensors = dict(without_prefix(weights.tensors, state))
    mismatched = [
        name for name in state if skip_mismatched and name in tensors and tensors[name].shape != state[name].shape
    ]
    left_out = {name: (tensors[name].shape, state[name].shape) for name in mismatched}
    if state and not state.keys() & tensors.keys():
        text = origins.of_names(tensors, weights.beside)
        raise CheckpointError(f"{weights.path} does not fit {listed([type(module).__name__])}: {text}")
    try:
        module.load_state_dict(tensors | {name: state[name] for name in mismatched}, assign=True)
    except (TypeError, ValueError) as error:
        raise _named(weights.path, error) from error
    for part in module.modules():
        if isinstance(part, ResNetFPN) and (eps := weights.norm_eps()) is not None:
            part.eps = eps
    return LoadReport([name for name in state if name in tensors and name not in left_out], left_out)


def locate(source: str | os.PathLike[str], module: Module | None = None) -> Path:
    """Return the path of a weights file; download weights with a name if they are not in the cache.

    Parameters
    ----------
    source : path or str
        See `load_into`.
    module : Module, optional
        The ResNet or MobileNet. It is used only if the source is "imagenet".

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ValueError
        If `source` is "imagenet" and `module` is neither a ResNet nor a MobileNet, or if `source` is a web address.
    DownloadError
        If the file cannot be downloaded.
    """
    if isinstance(source, str) and source in download.DETECTORS:
        return download.fetch(source)
    if source == "imagenet":
        if module is None:
            raise ValueError(
                '"imagenet" names weights of a backbone without a detector; use weights_backbone="imagenet" in Python'
            )
        if isinstance(module, MobileNet):
            return download.fetch(module.name)
        if not isinstance(module, ResNet):
            raise ValueError(f'weights "imagenet" require a ResNet or a MobileNet, got {type(module).__name__}')
        return download.fetch(f"resnet{module.layers}")
    if str(source).startswith(("http://", "https://")):
        raise ValueError(f"{str(source)[:100]} is a web address; download the file, then pass its path")
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
    with open_regular(path) as file:
        start = file.read(9)
    if start[8:] == b"{":  # a safetensors file starts with eight bytes, followed by JSON
        try:
            tensors, metadata = read_tensors(path)
        except CheckpointError as error:
            remedy = next((text for part, text in REMEDIES if part in str(error)), "")
            raise CheckpointError(f"{error}{remedy}") from error
        return Weights(Path(path), tensors if metadata else torchvision_names(tensors), metadata)
    state = pth.read(path)
    return Weights(Path(path), torchvision_names(state), {}, state.beside)


def torchvision_names(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Rename the arrays of a Faster R-CNN to torchvision's current names, without a prefix such as "module.".

    Arrays without the prefix are dropped. Mask R-CNN and Keypoint R-CNN contain a complete Faster R-CNN, so only their
    heads for masks and keypoints are dropped.

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

    unwrapped = {WRAPPER.sub(r"\1", name): array for name, array in tensors.items()}
    bare = without_prefix(unwrapped if len(unwrapped) == len(tensors) else tensors, TORCHVISION)
    if not all(name in bare for name in TORCHVISION):
        return dict(bare)
    return {modern(name): array for name, array in bare.items() if not name.startswith(OTHER_HEADS)}


def without_prefix(tensors: Mapping[str, np.ndarray], names: Collection[str]) -> Mapping[str, np.ndarray]:
    """Remove a prefix, such as "module.", from the names of arrays, if the result contains all of `names`.

    DataParallel, for example, adds the prefix "module.". Arrays without the prefix are dropped.

    Parameters
    ----------
    tensors : mapping of str to array
        The arrays.
    names : collection of str
        The names to find.

    Returns
    -------
    mapping of str to array
        The arrays under the shorter names, or `tensors` if there is no such prefix.
    """
    first = next(iter(names), "")
    if first in tensors:
        return tensors
    for found in tensors:
        prefix = found.removesuffix(first)
        if found.endswith(f".{first}") and all(prefix + name in tensors for name in names):
            return {name.removeprefix(prefix): array for name, array in tensors.items() if name.startswith(prefix)}
    return tensors


# ---------------------------------------------------------------------- files


def write_tensors(path: str | os.PathLike[str], tensors: Mapping[str, np.ndarray], metadata: Mapping[str, Any]) -> None:
    """Write arrays and metadata to a .safetensors file, either completely or not at all.

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
    check_regular(path)
    try:
        tensors, entries = safetensors_format.read(path) if safetensors is None else _read_with_safetensors(path)
        metadata = json.loads(entries.get(KEY, "{}"))
    except safetensors_format.UnknownDtypeError as error:
        raise CheckpointError(f"{path} contains a dtype that NumPy does not support: {_start(error)}") from error
    except (ValueError, RecursionError) as error:  # the metadata may be nested deeply
        raise CheckpointError(f"{path} is not a valid safetensors file: {_start(error)}") from error
    return tensors, metadata if isinstance(metadata, dict) else {}


def _start(error: Exception) -> str:
    """Return the start of a message, because a damaged file can contain very long names."""
    return str(error)[:300]


def _read_with_safetensors(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Read a file with the package safetensors; return and raise the same as `safetensors_format.read`."""
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
    except safetensors.SafetensorError as error:
        raise ValueError(str(error)) from error
    except (AttributeError, TypeError) as error:  # safetensors requested bfloat16 or float8 from NumPy
        raise safetensors_format.UnknownDtypeError(str(error)) from error
    for name, array in tensors.items():
        if array.dtype.isbuiltin != 1:  # the package ml_dtypes, which onnx installs, adds dtypes to NumPy
            raise safetensors_format.UnknownDtypeError(f"{name} has the dtype {array.dtype}")
    return tensors, metadata

"""Saving and loading: weights as safetensors, with the config beside them.

A file holds every parameter and buffer under its name, and in its metadata what is needed to build the model again.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from rcnn import backbone as backbones
from rcnn.config import FasterRCNNConfig
from rcnn.model import FasterRCNN
from rcnn.nn import Module

FORMAT = "rcnn-1"  # a reader refuses what it does not know
KEY = "rcnn"  # of the metadata


class CheckpointError(ValueError):
    """A file that cannot be read as a checkpoint, or that does not fit the model; the message says what is wrong."""


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
    with resources.as_file(resources.files("rcnn") / "weights" / "digits.safetensors") as path:
        return load(path)


def describe(model: FasterRCNN) -> dict[str, Any]:
    """The metadata from which `restore` builds the model again."""
    return {"format": FORMAT, "backbone": backbones.describe(model.backbone),
            "backbone_class": type(model.backbone).__name__, "settings": model.config.settings()}


def restore(tensors: Mapping[str, np.ndarray], metadata: Mapping[str, Any], name: str,
            backbone: Module | None = None) -> FasterRCNN:
    """The model of these tensors and metadata, in evaluation mode. `name` is the file's, for messages."""
    if metadata.get("format") != FORMAT:
        raise CheckpointError(f"{name} was not written by rcnn.save: its format is {metadata.get('format')!r}, "
                              f"{FORMAT!r} is wanted")
    try:
        own, class_name, settings = (metadata[key] for key in ("backbone", "backbone_class", "settings"))
        if backbone is None and own is not None:
            backbone = backbones.build(own)
    except (KeyError, AttributeError, ValueError) as error:
        raise CheckpointError(f"{name} does not say how to build its model: {error!r}") from error
    if backbone is None:
        raise CheckpointError(f"{name} was saved with a backbone that is not the library's own ({class_name}); "
                              f"pass one like it: rcnn.load({name!r}, backbone={class_name}())")
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
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = json.loads((file.metadata() or {}).get(KEY, "{}"))
    except (safetensors.SafetensorError, ValueError) as error:
        raise CheckpointError(f"{path} is not a safetensors file of rcnn: {error}") from error
    except (AttributeError, TypeError) as error:  # safetensors asked NumPy for bfloat16 or float8
        raise CheckpointError(f"{path} holds numbers of a kind that NumPy does not have: {error}") from error
    return tensors, metadata if isinstance(metadata, dict) else {}


def write_whole(path: str | os.PathLike[str], content: bytes) -> None:
    """Writes a file beside its target, flushes it to the disk and renames it over the target."""
    target = Path(path)
    descriptor, beside = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(beside, 0o666 & ~_umask())  # mkstemp makes it private; a new file usually is not
        os.replace(beside, target)
    except BaseException:
        Path(beside).unlink(missing_ok=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


"""An estimate of the memory that a training step needs, and of the memory that is available."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from rcnn import nn
from rcnn.data import Dataset
from rcnn.data.protocol import annotation_of
from rcnn.model import FasterRCNN
from rcnn.nn import Module, Tensor
from rcnn.train.parallel import ALONE, Group
from rcnn.train.recipe import Recipe
from rcnn.transform import padded_size, resized_size

# Bytes for each byte of the outputs of all layers: the outputs, and gradients and buffers that exist at the same time.
# Measured in a training step: 1.4 to 1.6 for the small network, 1.5 for resnet18, 0.9 for resnet50.
STORED = 1.5
PER_WEIGHT = 3  # gradient and two averages of Adam
USABLE = 0.8  # fraction of the available memory that a step should use
PROBE = 128  # side of the image with which the outputs of the layers are measured
MOST_SIZES = 1000  # number of images whose sizes are read
MEMINFO = Path("/proc/meminfo")
LIMITS = (  # the limit and the use of a container: versions 2 and 1 of Linux's control groups
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"), Path("/sys/fs/cgroup/memory/memory.usage_in_bytes")),
)


def fit_batch(model: FasterRCNN, dataset: Dataset, recipe: Recipe, group: Group = ALONE) -> tuple[Recipe, str]:
    """Return the recipe with a batch size that fits the memory, and a line that explains the change.

    A smaller batch is compensated by more batches in each step (`accumulate`). In a group of processes, each process
    needs memory for its share of the batch, and those on this machine share the memory.

    Parameters
    ----------
    model : FasterRCNN
        The model.
    dataset : Dataset
        The training images.
    recipe : Recipe
        The recipe.
    group : Group
        The processes that share the batch; by default, this process alone.

    Returns
    -------
    recipe : Recipe
        The given recipe if a step fits, or if the available memory is unknown. If even one image does not fit, the
        batch size is the number of processes.
    text : str
        The line; empty if a step fits.
    """
    free = available()
    copies = PER_WEIGHT if group.size == 1 else PER_WEIGHT + 1  # also the gradients that are being added
    weights = copies * sum(parameter.data.nbytes for parameter in model.parameters())
    image = image_bytes(model, dataset, recipe)
    share = math.ceil(recipe.batch_size / group.size)
    needed = group.neighbours * (weights + share * image)
    if free is None or needed <= USABLE * free:
        return recipe, ""
    count = max(int((USABLE * free / group.neighbours - weights) / image), 1) * group.size
    fitted = dataclasses.replace(
        recipe, batch_size=count, accumulate=math.ceil(recipe.accumulate * recipe.batch_size / count)
    )
    text = (
        f"a step with batch_size = {recipe.batch_size} needs about {_size(needed)} of memory, but only "
        f"{_size(free)} are available"
    )
    if group.neighbours * (weights + image) > USABLE * free:
        return fitted, f"{text}; even one image does not fit, so choose a smaller min_size and max_size"
    return fitted, f"{text}; use batch_size = {count} and accumulate = {fitted.accumulate}"


def image_bytes(model: FasterRCNN, dataset: Dataset, recipe: Recipe) -> float:
    """Return the memory that the largest image of a data set needs in a training step.

    Parameters
    ----------
    model : FasterRCNN
        The model.
    dataset : Dataset
        The training images.
    recipe : Recipe
        The recipe.

    Returns
    -------
    float
        The estimate in bytes.
    """
    config, scale = model.config, recipe.scale_jitter[1]
    indices = [0]  # a data set that does not know its sizes would decode all images
    if hasattr(dataset, "annotation"):
        indices = np.unique(np.linspace(0, len(dataset) - 1, MOST_SIZES).astype(int)).tolist()
    pixels = 0
    for index in indices:
        size, _ = annotation_of(dataset, index, keys=())
        height, width = resized_size(size, config.min_size, config.max_size)
        pixels = max(pixels, math.prod(padded_size([(math.ceil(height * scale), math.ceil(width * scale))])))
    return STORED * pixels * _bytes_per_pixel(model)


def available() -> int | None:
    """Return the memory that is available to this process.

    Returns
    -------
    int or None
        The number of bytes, or None if the operating system does not tell.
    """
    found = [_system_memory()]
    for limit, used in LIMITS:
        with contextlib.suppress(OSError, ValueError):  # no control group, or "max", which means no limit
            found.append(int(limit.read_text()) - int(used.read_text()))
    known = [value for value in found if value is not None]
    return max(min(known), 0) if known else None


def _system_memory() -> int | None:
    """Return the available memory of the machine or, if it is unknown, the size of its memory."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        lines = dict(line.split(":") for line in MEMINFO.read_text().splitlines())
        return 1024 * int(lines["MemAvailable"].split()[0])
    with contextlib.suppress(AttributeError, OSError, ValueError):  # Windows has no sysconf
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def _bytes_per_pixel(model: FasterRCNN) -> float:
    """Return the bytes of the outputs of all layers of the backbone for each pixel of an image."""
    outputs: list[int] = []

    def add(module: Module, args: tuple[Any, ...], result: Any) -> None:
        outputs.extend(value.data.nbytes for value in _tensors(result))

    layers = [module for module in model.backbone.modules() if not list(module.children())]
    with nn.evaluation(), nn.no_grad(), contextlib.ExitStack() as hooks:
        for layer in layers:
            hooks.enter_context(layer.register_forward_hook(add))
        model.backbone(Tensor(np.zeros((1, 3, PROBE, PROBE), next(iter(model.parameters())).data.dtype)))
    return sum(outputs) / PROBE**2


def _tensors(result: Any) -> Iterator[Tensor]:
    for value in result if isinstance(result, (list, tuple)) else [result]:
        if isinstance(value, Tensor):
            yield value


def _size(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"

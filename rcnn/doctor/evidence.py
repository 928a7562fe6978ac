"""Measurements of the doctor: statistics from one pass over a sample of images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from rcnn._ext.dispatch import original
from rcnn._validate import as_index_array, check_boxes, counted
from rcnn.boxes import iou
from rcnn.data import Dataset
from rcnn.data.protocol import check_keys, pair_of
from rcnn.data.report import ERROR, Problem
from rcnn.data.validation import validate
from rcnn.model import FasterRCNN
from rcnn.nn import BatchNorm2d, FrozenBatchNorm2d, Module, Tensor
from rcnn.trace import Trace
from rcnn.transform import as_image

FOUND = 0.5  # the lowest IoU at which a box finds an object
# Annotations are checked on CHECKED times as many images. They are read in runs of RUN consecutive images, to detect
# lists of annotations that are shifted by one image.
CHECKED, RUN = 10, 8


@dataclass(frozen=True, eq=False)
class Objects:
    """The G objects in some images, with the IoU of the best box at each stage.

    Attributes
    ----------
    labels : (G,) array of int
        Class of each object.
    anchors, proposals, detections : (G,) array
        Highest IoU of each object with an anchor, with a proposal, and with a detection of any class.
    predicted : (G,) array of int
        Class of the highest-scoring detection that has an IoU of at least 0.5 with the object; 0 if there is none.
    sampled : (P, 2) array of int
        Numbers of positive and negative anchors that the RPN would sample, for each of P images with objects.
    """

    labels: np.ndarray
    anchors: np.ndarray
    proposals: np.ndarray
    detections: np.ndarray
    predicted: np.ndarray
    sampled: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def share(self, stage: str, threshold: float = FOUND) -> float:
        """Return the fraction of objects for which a stage has a box with an IoU of at least `threshold`.

        Parameters
        ----------
        stage : str
            "anchors", "proposals" or "detections".
        threshold : float, optional
            Lowest IoU of the box with the object.

        Returns
        -------
        float
            The fraction, in [0, 1]; NaN if there are no objects.
        """
        best: np.ndarray = getattr(self, stage)
        return float((best >= threshold).mean()) if len(best) else float("nan")


@dataclass(frozen=True, eq=False)
class Evidence:
    """Measurements that the rules of the doctor judge.

    Attributes
    ----------
    problems : sequence of Problem
        Errors in images and annotations that should be fixed before training.
    pixel_mean, pixel_std : (3,) array
        Mean and standard deviation of each channel of the normalised images; NaN if no image could be read.
    drift : float or None
        Distance between the mean input of the backbone's first norm layer and the layer's running mean, in running
        standard deviations. It is the median of |mean - running mean| / running deviation over the channels. None if
        there is no such layer.
    train : Objects
        Objects in images on which the detector was trained.
    val : Objects or None
        Objects in images that were not used for training.
    losses : (S,) array
        Total loss of each of S training steps.
    frozen : sequence of str
        Names of the frozen parameters.
    pretrained : sequence of str
        Name prefixes of the parameters that were pretrained and may be frozen.
    parameters : mapping of str to int
        Number of parameter arrays in each part of the network. The key is the name of the part, from `part_of`.
    class_names : sequence of str
        Name of each class, in the order of the labels.
    """

    problems: Sequence[Problem]
    pixel_mean: np.ndarray
    pixel_std: np.ndarray
    drift: float | None
    train: Objects
    val: Objects | None
    losses: np.ndarray
    frozen: Sequence[str]
    pretrained: Sequence[str]
    parameters: Mapping[str, int]
    class_names: Sequence[str]


def gather(
    model: FasterRCNN,
    train: Dataset,
    val: Dataset | None,
    losses: np.ndarray,
    frozen: Sequence[str],
    pretrained: Sequence[str],
    num_images: int,
    progress: bool,
) -> Evidence:
    """Measure a model on about `num_images` images of each data set, evenly spread over the data set.

    Parameters
    ----------
    model : FasterRCNN
        The detector.
    train : Dataset
        Images on which the detector was trained.
    val : Dataset or None
        Images that were not used for training.
    losses : (S,) array
        Total loss of each of S training steps.
    frozen : sequence of str
        Names of the frozen parameters.
    pretrained : sequence of str
        Name prefixes of the parameters that were pretrained.
    num_images : int
        Number of images of each data set.
    progress : bool
        If True, show a progress bar.

    Returns
    -------
    Evidence
        The measurements.
    """
    walker = _Walker(model)
    trained = walker.objects(train, spread(len(train), num_images), "train", progress)
    unseen = None if val is None else walker.objects(val, spread(len(val), num_images), "val", progress)
    # Only errors are kept: warnings concern the whole set, not a sample, and do not explain why a detector fails.
    report = validate(train, progress=progress, only=spread(len(train), CHECKED * num_images, RUN))
    problems = [problem for problem in report.problems if problem.severity == ERROR]
    return Evidence(
        problems,
        walker.pixels.mean,
        walker.pixels.std,
        walker.drift(),
        trained,
        unseen,
        losses,
        tuple(frozen),
        tuple(pretrained),
        _count_parameters(model),
        train.classes,
    )


def spread(length: int, n: int, run: int = 1) -> list[int]:
    """Choose about `n` of `length` indices, in evenly spread runs of consecutive indices.

    Parameters
    ----------
    length : int
        Number of indices from which to choose.
    n : int
        Number of indices to choose.
    run : int, optional
        Number of consecutive indices in a run.

    Returns
    -------
    list of int
        The indices in ascending order; all of them if `length` is at most `n`.

    Examples
    --------
    >>> spread(8, 3)
    [0, 4, 7]
    >>> spread(30, 6, run=2)
    [0, 1, 14, 15, 28, 29]
    """
    if length <= n:
        return list(range(length))
    starts = np.linspace(0, max(length - run, 0), max(n // run, 1)).round().astype(np.int64)
    indices: list[int] = np.unique(starts[:, None] + np.arange(run)).tolist()
    return indices


NOTHING: tuple[np.ndarray, ...] = (
    np.zeros(0, np.int64),
    np.zeros(0),
    np.zeros(0),
    np.zeros(0),
    np.zeros(0, np.int64),
    np.zeros((0, 2), np.int64),
)


class _Walker:
    """Statistics that are accumulated while images pass through a model, one by one."""

    def __init__(self, model: FasterRCNN) -> None:
        self.model = model
        self.pixels = Moments(3)
        self.first_norm = _first_norm(model.backbone)
        self.norm_input = None if self.first_norm is None else Moments(len(self.first_norm.running_mean))

    def objects(self, dataset: Dataset, indices: Sequence[int], name: str, progress: bool) -> Objects:
        """Return the objects in the images at these indices. `name` is the name of the data set in messages.

        Unreadable images and invalid values are left out; raise TypeError if an item has the wrong form.
        """
        found = [NOTHING]
        for index in tqdm(indices, desc=f"{name} images", unit="image", disable=None if progress else True):
            with suppress(OSError, ValueError):  # skip unreadable images; `problems` lists them
                image, target = pair_of(dataset, index, name)
                objects = usable(target, self.model.config.num_classes, f"the target of {name}[{index}]")
                try:
                    found.append(self._walk(image, objects))
                except TypeError:
                    as_image(image, f"the image of {name}[{index}]")  # name the invalid image
                    raise
        return Objects(*(np.concatenate(parts) for parts in zip(*found, strict=True)))

    def drift(self) -> float | None:
        """Return the value of `Evidence.drift`."""
        if self.first_norm is None or self.norm_input is None:
            return None
        expected, spread = self.first_norm.running_mean, np.sqrt(self.first_norm.running_var + self.first_norm.eps)
        return float(np.median(np.abs(self.norm_input.mean - expected) / spread))

    def _walk(self, image: np.ndarray, target: Mapping[str, np.ndarray]) -> tuple[np.ndarray, ...]:
        """Add an image to the statistics, and return the fields of `Objects` for its objects."""
        with _recording(self.first_norm, self.norm_input):
            trace = self.model.trace([image], [target], np.random.default_rng(0))
        (height, width), batch = trace.image_sizes[0], trace.batch[0]  # (3, H, W)
        self.pixels.add(batch[:, :height, :width])
        return _follow(trace)


@original
def _follow(trace: Trace) -> tuple[np.ndarray, ...]:
    """Return the fields of `Objects` for a trace of one image."""
    assert trace.gt_boxes is not None and trace.gt_labels is not None and trace.sampled_anchors is not None
    boxes, labels = trace.gt_boxes[0], trace.gt_labels[0]  # (G, 4), (G,)
    sampled = [[len(indices) for indices in trace.sampled_anchors[0]]] if len(boxes) else []
    with_anchors = iou(np.concatenate(trace.anchors), boxes)  # (A, G)
    with_detections = iou(trace.detections[0]["boxes"], boxes)  # (D, G)
    return (
        labels,
        with_anchors.max(axis=0, initial=0),
        iou(trace.proposals[0], boxes).max(axis=0, initial=0),
        with_detections.max(axis=0, initial=0),
        _predicted_classes(with_detections, trace.detections[0]["labels"]),
        np.array(sampled, np.int64).reshape(-1, 2),
    )


def _predicted_classes(overlaps: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the label (G,) of the best detection that finds each of G objects, or 0 if no detection finds it.

    `overlaps` (D, G) contains the IoU of each detection with each object. `labels` (D,) contains the predicted classes.
    The detections are in descending order of score.
    """
    finds = overlaps >= FOUND  # (D, G)
    if not len(labels):
        return np.zeros(overlaps.shape[1], np.int64)
    return np.where(finds.any(axis=0), labels[finds.argmax(axis=0)], 0)


def usable(target: Mapping[str, np.ndarray], num_classes: int, name: str = "target") -> dict[str, np.ndarray]:
    """Return the objects of a target from which a detector can learn.

    Difficult objects, crowds and invalid objects are left out.

    Parameters
    ----------
    target : mapping of str to array
        Target of an image with G objects: "boxes" (G, 4), "labels" (G,), and optionally "difficult" and "crowd".
    num_classes : int
        Number of classes, including the background.
    name : str
        Name of the target, for error messages.

    Returns
    -------
    dict of str to array
        "boxes" (K, 4) and "labels" (K,) of the K remaining objects.

    Raises
    ------
    TypeError, ValueError
        If the target is not a mapping with these keys, or the arrays have other dtypes or shapes.
    """
    check_keys(target, name)
    boxes = check_boxes(target["boxes"], f"{name}['boxes']").astype(np.float64)  # (G, 4)
    labels = as_index_array(target["labels"], f"{name}['labels']", len(boxes))  # (G,)
    left_out = ~np.isfinite(boxes).all(axis=1) | (boxes[:, 2:] <= boxes[:, :2]).any(axis=1)  # (G,)
    left_out |= (labels < 1) | (labels >= num_classes)
    kept = counted(target, len(boxes), name) & ~left_out
    return {"boxes": boxes[kept], "labels": labels[kept]}


class Moments:
    """Running mean and standard deviation of each channel.

    Parameters
    ----------
    channels : int
        The number of channels, C.
    """

    def __init__(self, channels: int) -> None:
        self._count, self._sum, self._squares = 0, np.zeros(channels), np.zeros(channels)

    def add(self, values: np.ndarray) -> None:
        """Add values to the statistics.

        Parameters
        ----------
        values : (C, H, W) array
            New values for each channel.
        """
        flat = values.reshape(len(values), -1).astype(np.float64)  # (C, H * W)
        self._count += flat.shape[1]
        self._sum += flat.sum(axis=1)
        self._squares += np.square(flat).sum(axis=1)

    @property
    def mean(self) -> np.ndarray:
        """The mean of each channel.

        Returns
        -------
        (C,) array
            The mean values; NaN before the first value.
        """
        return self._sum / (self._count or np.nan)

    @property
    def std(self) -> np.ndarray:
        """The standard deviation of each channel.

        Returns
        -------
        (C,) array
            The standard deviations; NaN before the first value.
        """
        return np.sqrt(np.maximum(self._squares / (self._count or np.nan) - self.mean**2, 0))


def _first_norm(backbone: Module) -> BatchNorm2d | FrozenBatchNorm2d | None:
    """Return the backbone's first norm layer; None without one, or if its statistics are still the initial ones."""
    for module in backbone.modules():
        if isinstance(module, (BatchNorm2d, FrozenBatchNorm2d)):
            is_new = not module.running_mean.any() and (module.running_var == 1).all()
            return None if is_new else module
    return None


@contextmanager
def _recording(norm: Module | None, moments: Moments | None) -> Iterator[None]:
    """Within the `with` block, add all inputs of `norm` to `moments`."""
    if norm is None or moments is None:
        yield
        return

    def record(_: Module, args: tuple[Tensor], result: object) -> None:
        for image in args[0].data:
            moments.add(image)

    with norm.register_forward_hook(record):
        yield


def _count_parameters(model: FasterRCNN) -> dict[str, int]:
    """Return the number of parameter arrays in each part of the model; see `part_of`."""
    counts: dict[str, int] = {}
    for name, _ in model.named_parameters():
        part = part_of(name)
        counts[part] = counts.get(part, 0) + 1
    return counts


def part_of(name: str) -> str:
    """Return the name of the part of a model to which a parameter belongs.

    Parameters
    ----------
    name : str
        Name of the parameter, such as "roi_heads.box_head.fc6.weight".

    Returns
    -------
    str
        The first two components of the parameter's name, such as "roi_heads.box_head".
    """
    return ".".join(name.split(".")[:2])

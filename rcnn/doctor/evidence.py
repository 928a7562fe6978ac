"""What the doctor measures: one walk through the stages for each of a few images, summed up in numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from rcnn._ext.dispatch import original
from rcnn._validate import counted
from rcnn.boxes import iou
from rcnn.data import Dataset
from rcnn.data.report import ERROR, Problem
from rcnn.data.validation import validate
from rcnn.model import FasterRCNN
from rcnn.nn import BatchNorm2d, FrozenBatchNorm2d, Module, Tensor
from rcnn.trace import Trace

FOUND = 0.5  # an object is found by a box with at least this IoU
CHECKED, RUN = 10, 8  # annotations are checked on ten times as many images, in runs, for a list may slip by one


@dataclass(frozen=True, eq=False)
class Objects:
    """What becomes of the objects of some images on their way through the stages; G objects in all.

    labels: (G,) their classes.
    anchors, proposals, detections: (G,) IoU with the best anchor, proposal and detection of any class.
    predicted: (G,) the class of the detection with the highest score among those that have an IoU of at least 0.5 with
        the object; 0 if there is none.
    sampled: (P, 2) for every image that has objects, how many positive and negative anchors would teach the RPN.
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
        """The share of the objects that a stage, "anchors", "proposals" or "detections", has a box for; NaN of none."""
        best: np.ndarray = getattr(self, stage)
        return float((best >= threshold).mean()) if len(best) else float("nan")


@dataclass(frozen=True, eq=False)
class Evidence:
    """Everything that the rules judge by.

    problems: what is wrong with the images and their annotations, if training should not have started with them.
    pixel_mean, pixel_std: (3,) of the normalised images; NaN where none could be read.
    drift: how far what reaches the first norm of the backbone is from what that norm has learned to expect: the median
        over its channels of |mean - running mean| / running deviation; None without such a norm.
    train, val: the objects of images that were trained on, and of others, if there are any.
    losses: (S,) the total loss of every step.
    frozen: names of the parameters that did not learn. pretrained: what the names of those begin with that may be
        among them, for they began with weights that had been trained.
    parameters: how many parameters each part of the network has, by the first two parts of its name.
    class_names: of the labels.
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
    """The evidence of a model and its data, from about `num_images` images of either set, spread over it."""
    walker = _Walker(model)
    trained = walker.objects(train, spread(len(train), num_images), "trained on", progress)
    unseen = None if val is None else walker.objects(val, spread(len(val), num_images), "others", progress)
    # Warnings are about the set as a whole, of which this is a part, and no reason for a detector to be ill.
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
    """About `n` of `length` indices, rising, in runs of `run` neighbours that are evenly spread over all."""
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
    """Walks images through a model, one by one, and keeps sums of what it sees on the way."""

    def __init__(self, model: FasterRCNN) -> None:
        self.model = model
        self.pixels = Moments(3)
        self.first_norm = _first_norm(model.backbone)
        self.norm_input = None if self.first_norm is None else Moments(len(self.first_norm.running_mean))

    def objects(self, dataset: Dataset, indices: Sequence[int], name: str, progress: bool) -> Objects:
        """What becomes of the objects of these images; `name` stands before the bar."""
        found = [NOTHING]
        for index in tqdm(indices, desc=name, unit="image", disable=not progress):
            with suppress(OSError, ValueError):  # an image that cannot be read is among the problems of the data
                image, target = dataset[index]
                found.append(self._walk(image, usable(target, self.model.config.num_classes)))
        return Objects(*(np.concatenate(parts) for parts in zip(*found, strict=True)))

    def drift(self) -> float | None:
        """See `Evidence.drift`."""
        if self.first_norm is None or self.norm_input is None:
            return None
        expected, spread = self.first_norm.running_mean, np.sqrt(self.first_norm.running_var + self.first_norm.eps)
        return float(np.median(np.abs(self.norm_input.mean - expected) / spread))

    def _walk(self, image: np.ndarray, target: Mapping[str, np.ndarray]) -> tuple[np.ndarray, ...]:
        """The fields of `Objects` for one image."""
        with _recording(self.first_norm, self.norm_input):
            trace = self.model.trace([image], [target], np.random.default_rng(0))
        (height, width), batch = trace.image_sizes[0], trace.batch[0]  # (3, H, W)
        self.pixels.add(batch[:, :height, :width])
        return _follow(trace)


@original
def _follow(trace: Trace) -> tuple[np.ndarray, ...]:
    """The fields of `Objects` for the only image of a trace."""
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
    """(G,) the label of the first detection, which has the highest score, that finds each object; 0 for none.

    overlaps: (D, G) IoU of the detections, by falling score, with the objects. labels: (D,).
    """
    finds = overlaps >= FOUND  # (D, G)
    if not len(labels):
        return np.zeros(overlaps.shape[1], np.int64)
    return np.where(finds.any(axis=0), labels[finds.argmax(axis=0)], 0)


def usable(target: Mapping[str, np.ndarray], num_classes: int) -> dict[str, np.ndarray]:
    """The boxes and labels of the objects of a target that one could learn from.

    Neither of difficult ones and crowds nor of what is wrong, which is among the problems of the data.
    """
    boxes, labels = np.asarray(target["boxes"], np.float64).reshape(-1, 4), np.asarray(target["labels"])
    left_out = ~np.isfinite(boxes).all(axis=1) | (boxes[:, 2:] <= boxes[:, :2]).any(axis=1)  # (G,)
    left_out |= (labels < 1) | (labels >= num_classes)
    kept = counted(target, len(boxes), "target") & ~left_out
    return {"boxes": boxes[kept], "labels": labels[kept]}


class Moments:
    """Mean and standard deviation per channel of everything that was added."""

    def __init__(self, channels: int) -> None:
        self._count, self._sum, self._squares = 0, np.zeros(channels), np.zeros(channels)

    def add(self, values: np.ndarray) -> None:
        """Takes values (C, H, W) in."""
        flat = values.reshape(len(values), -1).astype(np.float64)  # (C, H * W)
        self._count += flat.shape[1]
        self._sum += flat.sum(axis=1)
        self._squares += np.square(flat).sum(axis=1)

    @property
    def mean(self) -> np.ndarray:
        """(C,); NaN of nothing."""
        return self._sum / (self._count or np.nan)

    @property
    def std(self) -> np.ndarray:
        """(C,); NaN of nothing."""
        return np.sqrt(np.maximum(self._squares / (self._count or np.nan) - self.mean**2, 0))


def _first_norm(backbone: Module) -> BatchNorm2d | FrozenBatchNorm2d | None:
    """The first norm of a backbone, if it has learned what to expect; a new one expects mean 0 and deviation 1."""
    for module in backbone.modules():
        if isinstance(module, (BatchNorm2d, FrozenBatchNorm2d)):
            is_new = not module.running_mean.any() and (module.running_var == 1).all()
            return None if is_new else module
    return None


@contextmanager
def _recording(norm: Module | None, moments: Moments | None) -> Iterator[None]:
    """A block in which what goes into `norm` is added to `moments`."""
    if norm is None or moments is None:
        yield
        return

    def record(_: Module, args: tuple[Tensor], result: object) -> None:
        for image in args[0].data:
            moments.add(image)

    with norm.register_forward_hook(record):
        yield


def _count_parameters(model: FasterRCNN) -> dict[str, int]:
    """How many parameters each part of the model has, by the first two parts of their names, in order."""
    counts: dict[str, int] = {}
    for name, _ in model.named_parameters():
        part = part_of(name)
        counts[part] = counts.get(part, 0) + 1
    return counts


def part_of(name: str) -> str:
    """The part of a model that a parameter belongs to: "roi_heads.box_head" of "roi_heads.box_head.fc6.weight"."""
    return ".".join(name.split(".")[:2])

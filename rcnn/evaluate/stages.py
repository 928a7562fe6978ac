"""Recall by stage: how many objects a detector can still find after each of its stages."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from rcnn._ext.dispatch import original
from rcnn._validate import FRACTION, MOST_BOXES, as_array, as_index_array, check_sequence, integer, shown
from rcnn.boxes import iou
from rcnn.data import Dataset
from rcnn.data.protocol import check_dataset
from rcnn.evaluate._inputs import Wanted, check_target, concatenate
from rcnn.evaluate.classes import rename
from rcnn.evaluate.voc import batches, check_iou_threshold, is_to_find
from rcnn.trace import Detections, Trace
from rcnn.transform import Size, scale_boxes

AVERAGED = np.linspace(0.5, 0.95, 10)  # the IoU thresholds of COCO's average recall
MOST_KS = 64
SIZES = ("small", "medium", "large")  # each contains a third of the objects


class Tracer(Protocol):
    """A detector that returns its intermediate arrays, such as `FasterRCNN`."""

    def trace(self, images: list[np.ndarray], /) -> Trace:
        """Return all intermediate arrays of one forward pass.

        Parameters
        ----------
        images : list of (H, W, 3) array
            The images.

        Returns
        -------
        Trace
            The intermediate arrays.
        """
        ...


@dataclass(frozen=True, eq=False)
class StageRecall:
    """The best overlap of each of G objects with the boxes of each of S stages. `str()` returns a table.

    The stages are the anchors, the best k proposals (for several numbers k), the detections of any class, and the
    detections of the right class. A stage reaches an object if one of its boxes has a high enough IoU with the object.
    A later stage may reach objects that an earlier stage does not reach, because proposals are anchors that were moved,
    and detections are proposals that were moved.

    Attributes
    ----------
    stages : tuple of str
        The names of the S stages.
    best_iou : (G, S) array
        The highest IoU of each object with a box of each stage; 0 if the stage has no boxes.
    labels : (G,) int64 array
        The class of each object.
    sides : (G,) array
        The square root of each object's area, in pixels of its image.
    most_proposals : int
        The largest number of proposals in an image. If an image has at most k proposals, the stage "best k proposals"
        contains all of them.
    iou_threshold : float
        The default IoU threshold: an object is reached if its IoU with a box is at least this value.
    """

    stages: tuple[str, ...]
    best_iou: np.ndarray
    labels: np.ndarray
    sides: np.ndarray
    most_proposals: int
    iou_threshold: float = 0.5

    def reached(self, iou_threshold: float | None = None, of: np.ndarray | None = None) -> np.ndarray:
        """Return the number of objects that each stage reaches.

        Parameters
        ----------
        iou_threshold : float, optional
            The lowest IoU at which an object is reached; by default, the attribute `iou_threshold`.
        of : (G,) bool array, optional
            A mask of the objects to count; all by default.

        Returns
        -------
        (S,) int64 array
            One number for each of S stages.
        """
        lowest = self.iou_threshold if iou_threshold is None else FRACTION.check("iou_threshold", iou_threshold)
        return (self.best_iou[self._mask(of)] >= lowest).sum(axis=0)

    def recall(self, iou_threshold: float | None = None, of: np.ndarray | None = None) -> np.ndarray:
        """Return the fraction of the objects that each stage reaches.

        Parameters
        ----------
        iou_threshold : float, optional
            The lowest IoU at which an object is reached; by default, the attribute `iou_threshold`.
        of : (G,) bool array, optional
            A mask of the objects to count; all by default.

        Returns
        -------
        (S,) array
            One value in [0, 1] for each of S stages; NaN if there are no objects.
        """
        total = np.count_nonzero(self._mask(of))
        return self.reached(iou_threshold, of) / total if total else np.full(len(self.stages), np.nan)

    def average_recall(self, of: np.ndarray | None = None) -> np.ndarray:
        """Return the mean of `recall` over the IoU thresholds 0.5, 0.55, ..., 0.95.

        Parameters
        ----------
        of : (G,) bool array, optional
            A mask of the objects to count; all by default.

        Returns
        -------
        (S,) array
            One value in [0, 1] for each of S stages; NaN if there are no objects.
        """
        return np.mean([self.recall(threshold, of) for threshold in AVERAGED], axis=0)

    def by_size(self) -> dict[str, np.ndarray]:
        """Return masks of the smallest, the middle and the largest third of the objects; see `size_limits`.

        Returns
        -------
        dict of str to (G,) bool array
            The masks of the G objects, with the keys "small", "medium" and "large".
        """
        group = np.searchsorted(self.size_limits(), self.sides, side="right")  # (G,)
        return {name: group == number for number, name in enumerate(SIZES)}

    def size_limits(self) -> np.ndarray:
        """Return the smallest side of medium objects and the smallest side of large objects.

        Returns
        -------
        (2,) array
            The two sides, in pixels of the image; 0 if there are no objects.
        """
        return np.quantile(self.sides, (1 / 3, 2 / 3)) if len(self.sides) else np.zeros(2)

    def _mask(self, of: Any) -> np.ndarray:
        """Return a mask (G,) of the objects that are counted."""
        if of is None:
            return np.ones(len(self.best_iou), np.bool_)
        mask = as_array(of, "of")
        if mask.shape != (len(self.best_iou),) or mask.dtype != np.bool_:
            raise ValueError(f"`of` must be a boolean array of shape ({len(self.best_iou)},), got {shown(of)}")
        return mask

    def __str__(self) -> str:
        columns = {
            f"IoU {self.iou_threshold:g}": self.recall(),
            "IoU 0.7": self.recall(0.7),
            "0.5-0.95": self.average_recall(),
            **{name: self.recall(of=group) for name, group in self.by_size().items()},
        }
        lines = [f"{'stage':<24}{'reached':>8}" + "".join(f"{name:>10}" for name in columns)]
        for s, stage in enumerate(self.stages):
            shares = "".join(f"{values[s]:>10.3f}" for values in columns.values())
            lines.append(f"{stage:<24}{self.reached()[s]:>8}{shares}")
        medium, large = self.size_limits()
        lines.append(
            f"{len(self.labels)} objects; medium: sides of {medium:.0f} pixels or more, large: {large:.0f} or more; "
            f"no image has more than {self.most_proposals} proposals"
        )
        return "\n".join(lines)


def recall_by_stage(
    model: Tracer,
    dataset: Dataset,
    ks: Sequence[int] = (10, 100, 1000),
    iou_threshold: float = 0.5,
    batch_size: int = 4,
    progress: bool = True,
    labels: np.ndarray | None = None,
) -> StageRecall:
    """Measure which objects of a data set each stage of a detector still reaches.

    Parameters
    ----------
    model : Tracer
        A detector with a `trace` method, which is called with lists of up to `batch_size` images.
    dataset : Dataset
        The images and targets. Difficult objects and crowds do not count.
    ks : sequence of int
        1 to 64 ascending integers from 1 to 2^20. For each k, the best k proposals of each image are one stage. The
        config of the model limits the number of proposals; see `most_proposals`.
    iou_threshold : float
        The lowest IoU at which a box reaches an object, in (0, 1].
    batch_size : int
        The largest number of images in a pass, from 1 to 2^20.
    progress : bool
        If True, show a progress bar.
    labels : (L,) int64 array, optional
        The data set's label for each of the model's L labels, from `match_classes`. By default, the model and the data
        set have the same labels.

    Returns
    -------
    StageRecall
        The best overlap of each object with each stage.

    Raises
    ------
    TypeError, ValueError
        If `ks` is invalid, if another number is out of range, or if a target is invalid.
    """
    return trace_dataset(model, dataset, ks, iou_threshold, batch_size, progress, labels)[0]


def trace_dataset(
    model: Tracer,
    dataset: Dataset,
    ks: Sequence[int] = (10, 100, 1000),
    iou_threshold: float = 0.5,
    batch_size: int = 4,
    progress: bool = True,
    labels: np.ndarray | None = None,
) -> tuple[StageRecall, list[Detections], list[dict[str, np.ndarray]]]:
    """Return the recall by stage, the detections and the targets from one pass over a data set.

    All metrics can be computed from these results, so the model needs to run only once.

    Parameters
    ----------
    model : Tracer
        A detector with a `trace` method, which is called with lists of up to `batch_size` images.
    dataset : Dataset
        The images and targets. Difficult objects and crowds do not count.
    ks : sequence of int
        1 to 64 ascending integers from 1 to 2^20. For each k, the best k proposals of each image are one stage.
    iou_threshold : float
        The lowest IoU at which a box reaches an object, in (0, 1].
    batch_size : int
        The largest number of images in a pass, from 1 to 2^20.
    progress : bool
        If True, show a progress bar.
    labels : (L,) int64 array, optional
        The data set's label for each of the model's L labels, from `match_classes`. By default, the model and the data
        set have the same labels.

    Returns
    -------
    recall : StageRecall
        The result of `recall_by_stage`.
    detections : list of dict
        For each image, the detections that `predict` would return, with the model's labels.
    targets : list of dict
        For each image, the target of the data set.

    Raises
    ------
    TypeError, ValueError
        If `ks` is invalid, if another number is out of range, or if a target is invalid.
    """
    if not callable(getattr(model, "trace", None)):
        raise TypeError(f"model must have a trace method, got {shown(model)}")
    check_sequence(ks, "ks")
    ks = [integer(1, MOST_BOXES).check("ks", k) for k in ks[: MOST_KS + 1]]
    if not 1 <= len(ks) <= MOST_KS or ks != sorted(set(ks)):
        raise ValueError(f"ks must contain 1 to {MOST_KS} positive integers in ascending order, got {shown(ks)}")
    check_iou_threshold(iou_threshold)
    labels = None if labels is None else as_index_array(labels, "labels")
    check_dataset(dataset)
    detections: list[Detections] = []
    targets: list[dict[str, np.ndarray]] = []
    wanted: list[Wanted] = []
    best_iou: list[np.ndarray] = []
    most_proposals = 0
    for batch in batches(dataset, batch_size, progress):
        first = len(targets)
        objects = [
            check_target(target, len(dataset.classes), f"the target of dataset[{first + i}]")
            for i, (_, target) in enumerate(batch)
        ]
        trace = model.trace([image for image, _ in batch])
        renamed = trace.outputs if labels is None else rename(trace.outputs, labels)
        best_iou += [
            _best_overlaps(trace, i, image.shape[:2], objects[i], renamed[i], ks) for i, (image, _) in enumerate(batch)
        ]
        most_proposals = max(most_proposals, *(len(proposals) for proposals in trace.proposals))
        detections += trace.outputs
        targets += [target for _, target in batch]
        wanted += objects
    to_find = concatenate([is_to_find(target) for target in wanted], np.bool_)
    stages = ("anchors", *(f"best {k:,} proposals" for k in ks), "detections", "of the right class")
    result = StageRecall(
        stages,
        best_iou=np.concatenate([np.zeros((0, len(stages))), *best_iou])[to_find],
        labels=concatenate([target.labels for target in wanted], np.int64)[to_find],
        sides=np.sqrt(concatenate([target.areas for target in wanted], np.float64))[to_find],
        most_proposals=most_proposals,
        iou_threshold=iou_threshold,
    )
    return result, detections, targets


def join_stages(parts: Sequence[StageRecall]) -> StageRecall:
    """Return the recall by stage of a whole data set, from the results for its parts.

    Parameters
    ----------
    parts : sequence of StageRecall
        The results of `recall_by_stage` for one or more parts of the data set, with the same arguments.

    Returns
    -------
    StageRecall
        The result for all parts together. The order of the objects is that of the parts.

    Raises
    ------
    ValueError
        If there are no parts, or if their stages or their thresholds differ.
    """
    if not parts:
        raise ValueError("parts must contain at least one result, got none")
    first = parts[0]
    for i, part in enumerate(parts):
        if (part.stages, part.iou_threshold) != (first.stages, first.iou_threshold):
            raise ValueError(
                f"all parts must have the same stages and threshold, got {part.stages} and {part.iou_threshold} in "
                f"parts[{i}], but {first.stages} and {first.iou_threshold} in parts[0]"
            )
    return StageRecall(
        first.stages,
        best_iou=np.concatenate([part.best_iou for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
        sides=np.concatenate([part.sides for part in parts]),
        most_proposals=max(part.most_proposals for part in parts),
        iou_threshold=first.iou_threshold,
    )


@original
def _best_overlaps(
    trace: Trace, i: int, size: Size, target: Wanted, renamed: Detections, ks: Sequence[int]
) -> np.ndarray:
    """Return the highest IoU (G, S) of each object in image i with a box of each of S stages.

    `size` is the (height, width) of the original image. The boxes of the target and of the detections are in pixels of
    the original image. Anchors and proposals are in pixels of the resized image.
    """
    own = target.boxes  # (G, 4)
    in_batch = scale_boxes(own, size, trace.image_sizes[i])  # (G, 4)
    right = np.asarray(renamed["labels"])[:, None] == target.labels  # (D', G)
    overlaps = [
        iou(np.concatenate(trace.anchors), in_batch),
        *(iou(trace.proposals[i][:k], in_batch) for k in ks),
        iou(trace.outputs[i]["boxes"], own),
        iou(renamed["boxes"], own) * right,
    ]  # S arrays of shape (boxes, G)
    return np.stack([stage.max(axis=0, initial=0) for stage in overlaps], axis=1)  # (G, S)

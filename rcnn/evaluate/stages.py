"""Which stage of a detector loses the objects: how well each can still be reached after every stage."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from rcnn._ext.dispatch import original
from rcnn._validate import check_boxes
from rcnn.boxes import iou
from rcnn.data import Dataset
from rcnn.evaluate._inputs import PerImage, check_inputs, concatenate
from rcnn.evaluate.classes import rename
from rcnn.evaluate.voc import batches, is_to_find
from rcnn.trace import Detections, Trace
from rcnn.transform import Size, scale_boxes

_NOTHING: PerImage = {"boxes": [], "scores": [], "labels": []}
AVERAGED = np.linspace(0.5, 0.95, 10)  # the IoU thresholds over which COCO averages
SIZES = ("small", "medium", "large")  # a third of the objects each


class Tracer(Protocol):
    """A detector that shows its stages, as `FasterRCNN` does."""

    def trace(self, images: list[np.ndarray], /) -> Trace:
        """Every intermediate array of one pass."""
        ...


@dataclass(frozen=True, eq=False)
class StageRecall:
    """How near each object some box comes after every stage; S stages, G objects that are to be found.

    The stages are the anchors, the best k proposals for some numbers k, the detections whatever their class, and those
    of the right class. A stage may reach objects that the one before it does not: proposals are anchors that have been
    moved, and detections are proposals that have been.
    """

    stages: tuple[str, ...]
    """(S,) the names."""
    best_iou: np.ndarray
    """(G, S): the IoU of the object with the best box of the stage; 0 if it has none."""
    labels: np.ndarray
    """(G,): the classes of the objects."""
    sides: np.ndarray
    """(G,): the square root of each object's area, in pixels of its image."""
    most_proposals: int
    """The most proposals that any image had. The best k of fewer than k are all there are."""
    iou_threshold: float = 0.5
    """The IoU from which on an object is reached, where nothing else is said."""

    def reached(self, iou_threshold: float | None = None, of: np.ndarray | None = None) -> np.ndarray:
        """How many objects each stage reaches, (S,) int64; `of`, (G,) bool, says which objects are asked about."""
        chosen = self.best_iou if of is None else self.best_iou[of]
        return (chosen >= (self.iou_threshold if iou_threshold is None else iou_threshold)).sum(axis=0)

    def recall(self, iou_threshold: float | None = None, of: np.ndarray | None = None) -> np.ndarray:
        """The share of the objects that each stage reaches, (S,); NaN where there is none."""
        total = len(self.best_iou) if of is None else np.count_nonzero(of)
        return self.reached(iou_threshold, of) / total if total else np.full(len(self.stages), np.nan)

    def average_recall(self, of: np.ndarray | None = None) -> np.ndarray:
        """The mean of `recall` over the IoU thresholds 0.5, 0.55, ..., 0.95, (S,)."""
        return np.mean([self.recall(threshold, of) for threshold in AVERAGED], axis=0)

    def by_size(self) -> dict[str, np.ndarray]:
        """The objects' smaller, middle and larger third, {"small": (G,) bool, "medium", "large"}; see `size_limits`."""
        group = np.searchsorted(self.size_limits(), self.sides, side="right")  # (G,)
        return {name: group == number for number, name in enumerate(SIZES)}

    def size_limits(self) -> np.ndarray:
        """Pixels of the side from which on objects are medium, and large, (2,)."""
        return np.quantile(self.sides, (1 / 3, 2 / 3)) if len(self.sides) else np.zeros(2)

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
            f"{len(self.labels)} objects; medium ones have sides from {medium:.0f} pixels, large ones from "
            f"{large:.0f}; no image had more than {self.most_proposals} proposals"
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
    """How many objects of `dataset` each stage of `model` still reaches.

    Args:
        model: anything with `trace`; it is given lists of up to `batch_size` images.
        dataset: objects that are difficult, or a crowd, are not asked about.
        ks: numbers of proposals, of each image the best, rising. A model proposes no more than its config allows;
            `most_proposals` says how many there were.
        iou_threshold: an object is reached by a box of at least this IoU.
        progress: whether to show a bar.
        labels: (L,) the data set's label for each of the model's, as from `match_classes`; the same ones without it.
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
    """(what `recall_by_stage` says, detections, targets): one pass of the model for every measure there is.

    The arguments are those of `recall_by_stage`; the detections are what `predict` gives, under the model's labels.
    """
    if not ks or min(ks) < 1 or list(ks) != sorted(set(ks)):
        raise ValueError(f"ks must be rising numbers of at least 1, got {ks!r}")
    detections: list[Detections] = []
    targets: list[dict[str, np.ndarray]] = []
    best_iou: list[np.ndarray] = []
    most_proposals = 0
    for batch in batches(dataset, batch_size, progress):
        trace = model.trace([image for image, _ in batch])
        renamed = trace.outputs if labels is None else rename(trace.outputs, labels)
        best_iou += [
            _best_overlaps(trace, i, image.shape[:2], target, renamed[i], ks) for i, (image, target) in enumerate(batch)
        ]
        most_proposals = max(most_proposals, *(len(proposals) for proposals in trace.proposals))
        detections += trace.outputs
        targets += [target for _, target in batch]
    wanted = check_inputs([_NOTHING] * len(targets), targets, len(dataset.classes))[1]
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


@original
def _best_overlaps(
    trace: Trace, i: int, size: Size, target: Mapping[str, np.ndarray], renamed: Detections, ks: Sequence[int]
) -> np.ndarray:
    """The highest IoU of each object of image i with a box of each stage, (G, S).

    size: (height, width) of the image, in whose pixels the target and the detections are; anchors and proposals are
    in those of the batch.
    """
    own = check_boxes(target["boxes"]).astype(np.float64)  # (G, 4)
    in_batch = scale_boxes(own, size, trace.image_sizes[i])  # (G, 4)
    right = np.asarray(renamed["labels"])[:, None] == np.asarray(target["labels"])  # (D', G)
    overlaps = [
        iou(np.concatenate(trace.anchors), in_batch),
        *(iou(trace.proposals[i][:k], in_batch) for k in ks),
        iou(trace.outputs[i]["boxes"], own),
        iou(renamed["boxes"], own) * right,
    ]  # S of (boxes, G)
    return np.stack([stage.max(axis=0, initial=0) for stage in overlaps], axis=1)  # (G, S)

"""Compare every stage of a ResNet-50-FPN detector in rcnn and torchvision, with the same weights and images.

    python benchmarks/torchvision_stages.py [--seed 1] [--eps 1e-5] [--plot docs/torchvision.png]

The script prints a Markdown table of the largest differences. The weights are random, but they are scaled so that the
detector finds boxes. The script requires rcnn, torch and torchvision.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from speed import record, torch_peer
from speed.inputs import seeded_state, textured_image
from speed.torch_peer import tensors

import rcnn
from rcnn.trace import Trace

SIZES = ((480, 640), (375, 500), (640, 427), (333, 1000), (300, 300), (512, 384))


@dataclass
class Stage:
    """One row of the table: a stage, its largest difference, and the largest allowed difference."""

    name: str
    shape: tuple[int, ...]
    difference: float
    unit: str
    allowed: float


def pair(seed: int, eps: float, num_classes: int = 7, **settings: Any) -> tuple[rcnn.FasterRCNN, torch.nn.Module]:
    """Return a detector of rcnn and a detector of torchvision, with the same seeded random weights."""
    ours = rcnn.faster_rcnn_resnet_50_fpn(num_classes, **settings)
    ours.backbone.eps = eps
    state = seeded_state({name: array.shape for name, array in ours.state_dict().items()}, seed)
    ours.load_state_dict(state)
    return ours.eval(), torch_peer.detector("fasterrcnn_resnet50_fpn", state, num_classes, eps, **settings)


def run_torch(net: torch.nn.Module, images: list[np.ndarray]) -> dict[str, Any]:
    """Return the output of torchvision at every stage; images are (H, W, 3) with values in [0, 1]."""
    given = tensors(images)
    with torch.no_grad():
        batch, _ = net.transform(given)
        features = net.backbone(batch.tensors)
        logits, deltas = net.rpn.head(list(features.values()))
        proposals, _ = net.rpn(batch, features)
        pooled = net.roi_heads.box_roi_pool(features, proposals, batch.image_sizes)
        class_logits, box_deltas = net.roi_heads.box_predictor(net.roi_heads.box_head(pooled))
        detections = net(given)
    return {
        "batch": batch.tensors.numpy(),
        "features": [f.numpy() for f in features.values()],
        "objectness": [by_anchor(x.numpy(), 1)[..., 0] for x in logits],
        "rpn_deltas": [by_anchor(x.numpy(), 4) for x in deltas],
        "proposals": [p.numpy() for p in proposals],
        "pooled": pooled.numpy(),
        "class_logits": class_logits.numpy(),
        "box_deltas": box_deltas.numpy().reshape(*class_logits.shape, 4),
        "detections": [{key: value.numpy() for key, value in d.items()} for d in detections],
    }


def by_anchor(head_output: np.ndarray, per_anchor: int) -> np.ndarray:
    """Reshape an output of the RPN head from (N, A * n, H, W) to (N, H * W * A, n).

    N is the number of images, A the number of anchors per pixel, and n = `per_anchor`.
    """
    n, channels, height, width = head_output.shape
    split = head_output.reshape(n, channels // per_anchor, per_anchor, height, width)
    return split.transpose(0, 3, 4, 1, 2).reshape(n, -1, per_anchor)


def compare(trace: Trace, theirs: dict[str, Any]) -> list[Stage]:
    """Return the largest difference of each stage; it is infinite if the numbers of boxes or the labels differ."""
    rows = [relative("batch", [trace.batch], [theirs["batch"]])]
    rows += [relative(name, getattr(trace, name), theirs[name]) for name in ("features", "objectness", "rpn_deltas")]
    count = sum(map(len, trace.proposals))
    distances = [farthest(ours, other) for ours, other in zip(trace.proposals, theirs["proposals"], strict=True)]
    rows.append(Stage("proposals", (count, 4), max(distances), "pixels", 0.02))
    if all(
        np.array_equal(order(a, b), np.arange(len(b)))
        for a, b in zip(trace.proposals, theirs["proposals"], strict=True)
    ):  # the proposals have the same order, so these arrays can be compared row by row
        for name in ("pooled", "class_logits", "box_deltas"):
            rows.append(relative(name, [getattr(trace, name)], [theirs[name]]))
    boxes, scores = 0.0, 0.0
    for ours, other in zip(trace.outputs, theirs["detections"], strict=True):
        boxes = max(boxes, farthest(ours["boxes"], other["boxes"]))
        if np.isfinite(boxes) and len(other["boxes"]):
            match = order(ours["boxes"], other["boxes"])
            same = np.array_equal(ours["labels"], other["labels"][match])
            scores = max(scores, float(np.abs(ours["scores"] - other["scores"][match]).max()) if same else np.inf)
    count = sum(len(d["boxes"]) for d in trace.outputs)
    return [
        *rows,
        Stage("detections: boxes", (count, 4), boxes, "pixels", 0.05),
        Stage("detections: scores", (count,), scores, "", 1e-4),
    ]


def relative(name: str, ours: list[np.ndarray], theirs: list[np.ndarray]) -> Stage:
    """Return the largest difference on any level, divided by the largest value of this level."""
    worst = max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in zip(ours, theirs, strict=True))
    return Stage(name, ours[0].shape, worst, "of the largest value", 2e-5)


def order(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Return, for each box in `ours`, the index of the nearest box in `theirs`."""
    return np.abs(ours[:, None] - theirs[None]).max(axis=2).argmin(axis=1) if len(theirs) else np.zeros(0, int)


def farthest(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Return the largest difference between matched boxes, or infinity if the boxes do not match one to one."""
    match = order(ours, theirs)
    if len(ours) != len(theirs) or len(set(match)) != len(theirs):
        return np.inf
    return float(np.abs(ours - theirs[match]).max(initial=0))


def table(rows: list[Stage]) -> str:
    """Return the rows as a Markdown table."""
    lines = ["| stage | shape (first level) | largest difference | allowed |", "|---|---|---|---|"]
    lines += [
        f"| {r.name} | {' x '.join(map(str, r.shape))} | {r.difference:.1e} {r.unit} | {r.allowed:.0e} |" for r in rows
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1, help="seed of the weights and images (default: 1)")
    parser.add_argument("--eps", type=float, default=1e-5, help="eps of the batch norms (default: 1e-5)")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the first image into this file")
    parser.add_argument("--results", action="store_true", help="write the table to docs/results.json")
    options = parser.parse_args()
    ours, theirs = pair(options.seed, options.eps)
    images = [textured_image(h, w, options.seed + i) for i, (h, w) in enumerate(SIZES)]
    answers = [(ours.trace([image]), run_torch(theirs, [image])) for image in images]
    rows = [compare(trace, answer) for trace, answer in answers]
    common = [r.name for r in rows[0] if all(r.name in [x.name for x in other] for other in rows)]
    worst = [max((r for group in rows for r in group if r.name == name), key=lambda r: r.difference) for name in common]
    setting = (
        f"torch {torch.__version__}, torchvision {torchvision.__version__}, seed {options.seed}, "
        f"eps {options.eps:g}, {len(images)} images"
    )
    print(f"{setting}\n\n{table(worst)}")
    if options.results:
        command = "python benchmarks/torchvision_stages.py"
        record.update("torchvision", {"stages": record.table(table(worst), command)}, setting)
    if options.plot:
        draw(options.plot, *answers[0])


def draw(path: Path, trace: Trace, theirs: dict[str, Any]) -> None:
    """Draw the detections of both libraries, a feature map of rcnn, and its difference from torchvision."""
    from rcnn import plot

    figure = plot.figure(10, 6.6)
    (top_left, top_right), (left, right) = figure.subplots(2, 2)
    best = [slice(0, 12)] * 2
    for ax, name, found in zip(
        (top_left, top_right), ("rcnn", "torchvision"), (trace.outputs[0], theirs["detections"][0]), strict=True
    ):
        scale = trace.image_sizes[0][0] / 480
        plot.detections(
            ax, trace.images[0], found["boxes"][best[0]] * scale, found["scores"][best[0]], found["labels"][best[0]]
        )
        plot.title(ax, name, f"the best 12 of {len(found['boxes'])} detections")
    plot.feature_map(left, trace.features[1][0])
    plot.title(left, "rcnn, features[1]", "mean over 256 channels")
    plot.feature_map(right, np.abs(trace.features[1][0] - theirs["features"][1][0]), quantity="difference")
    plot.title(right, "absolute difference from torchvision", "mean over 256 channels")
    figure.savefig(path)


if __name__ == "__main__":
    main()

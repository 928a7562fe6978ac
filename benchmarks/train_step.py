"""The training step of the small digit detector, in rcnn and in PyTorch with torchvision, side by side in one process.

    python benchmarks/train_step.py [--steps 30] [--threads 2]

Both train the same network from the same weights on the same pages: first the detections of the untrained weights are
compared, then steps are timed in turn, and the medians and their ratio are printed. Needs torch and torchvision beside
rcnn.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
import torch
import torchvision
from torch import nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.ops import MultiScaleRoIAlign

import rcnn
from rcnn import data, train
from rcnn.factories import faster_rcnn_small
from rcnn.loader import Loader, Order
from rcnn.recipe import RECIPES


class TorchResidualBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.second = torch_conv_norm(channels, channels), torch_conv_norm(channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x + self.second(torch.relu(self.first(x))))


class TorchSmallBackbone(nn.Module):
    """`rcnn.backbone.SmallBackbone`, with the same parameter names."""

    def __init__(self, out_channels: int = 64, depth: int = 2) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.stem = nn.Sequential(torch_conv_norm(3, 24, 2), nn.ReLU(), torch_conv_norm(24, 48, 2), nn.ReLU(),
                                  TorchResidualBlock(48), torch_conv_norm(48, out_channels, 2), nn.ReLU())
        self.blocks = nn.Sequential(*(TorchResidualBlock(out_channels) for _ in range(depth)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.blocks(self.stem(x))


def torch_conv_norm(in_channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False), nn.BatchNorm2d(out_channels))


def torch_model(model: rcnn.FasterRCNN) -> FasterRCNN:
    """torchvision's Faster R-CNN with the settings and the weights of `model`."""
    c = model.config
    same = {name: getattr(c, name) for name in (
        "min_size", "max_size", "image_mean", "image_std", "rpn_pre_nms_top_n_train", "rpn_pre_nms_top_n_test",
        "rpn_post_nms_top_n_train", "rpn_post_nms_top_n_test", "rpn_nms_thresh", "rpn_fg_iou_thresh",
        "rpn_bg_iou_thresh", "rpn_batch_size_per_image", "rpn_positive_fraction", "rpn_score_thresh",
        "box_score_thresh", "box_nms_thresh", "box_detections_per_img", "box_fg_iou_thresh", "box_bg_iou_thresh",
        "box_batch_size_per_image", "box_positive_fraction", "bbox_reg_weights")}
    peer = FasterRCNN(
        TorchSmallBackbone(c.feat_channels),
        rpn_anchor_generator=AnchorGenerator((c.anchor_sizes,), (c.aspect_ratios,)),
        box_roi_pool=MultiScaleRoIAlign(["0"], list(c.pool_size), c.sampling_ratio),
        box_head=TwoMLPHead(c.feat_channels * c.pool_size[0] * c.pool_size[1], c.hidden_dim),
        box_predictor=FastRCNNPredictor(c.hidden_dim, c.num_classes), **same)
    state = {name: torch.from_numpy(np.array(value)) for name, value in model.state_dict().items()}
    missing, unexpected = peer.load_state_dict(state, strict=False)
    if unexpected or any(not name.endswith("num_batches_tracked") for name in missing):
        raise RuntimeError(f"the two networks differ: {missing}, {unexpected}")
    return peer


def torch_pictures(pages: list) -> list[torch.Tensor]:
    return [torch.from_numpy(picture).permute(2, 0, 1).float() / 255 for picture, _ in pages]


def compare_detections(model: rcnn.FasterRCNN, peer: FasterRCNN, pages: list) -> float:
    """The largest difference of a box or score between the two; RuntimeError where they find different objects."""
    ours = model.predict([picture for picture, _ in pages], score_thresh=0.0)
    peer.eval()
    peer.roi_heads.score_thresh = 0.0
    with torch.no_grad():
        theirs = peer(torch_pictures(pages))
    worst = 0.0
    for a, b in zip(ours, theirs, strict=True):
        if a["boxes"].shape != tuple(b["boxes"].shape):
            raise RuntimeError(f"{len(a['boxes'])} detections against torchvision's {len(b['boxes'])}")
        worst = max(worst, float(np.abs(a["boxes"] - b["boxes"].numpy()).max()),
                    float(np.abs(a["scores"] - b["scores"].numpy()).max()))
    peer.train()
    return worst


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    rcnn.set_num_threads(options.threads)
    torch.set_num_threads(options.threads)

    rcnn.seed(0)
    pages = data.load("digits", "train")
    model = faster_rcnn_small(pages.classes)
    peer = torch_model(model)
    difference = compare_detections(model, peer, [pages[i] for i in range(4)])

    recipe = RECIPES["digits"]
    order = Order(len(pages), recipe.batch_size, recipe.seed)
    loader = Loader(pages, model.make_batch, len(pages.classes))
    optimizer = recipe.make_optimizer(model)
    model.train()
    torch_optimizer = torch.optim.Adam(peer.parameters(), recipe.lr, weight_decay=recipe.weight_decay)

    def our_step(step: int) -> None:
        train.train_step(model, optimizer, loader.load(order.batch(step)), recipe, step)

    def torch_step(step: int) -> None:
        batch = [pages[index] for index in order.batch(step)]
        targets = [{name: torch.from_numpy(value) for name, value in target.items()} for _, target in batch]
        loss = sum(peer(torch_pictures(batch), targets).values())
        torch_optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(peer.parameters(), recipe.max_norm)
        torch_optimizer.step()

    times: dict[str, list[float]] = {"rcnn": [], "torch": []}
    for step in range(options.steps + 5):
        for name, run in (("rcnn", our_step), ("torch", torch_step)):
            started = time.perf_counter()
            run(step)
            if step >= 5:
                times[name].append(time.perf_counter() - started)
    ours, theirs = (statistics.median(times[name]) for name in ("rcnn", "torch"))
    print(f"largest difference of the detections before training: {difference:.1e}")
    print(f"torch {torch.__version__}, torchvision {torchvision.__version__}, numpy {np.__version__}, "
          f"{options.threads} threads, median of {options.steps} steps in turn")
    print(f"rcnn {1000 * ours:.0f} ms, torch {1000 * theirs:.0f} ms per step; ratio {ours / theirs:.2f}")


if __name__ == "__main__":
    main()

"""The peers PyTorch and torchvision, with the same networks, weights and inputs as rcnn."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torchvision.models import detection
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.ops import MultiScaleRoIAlign, roi_align
from torchvision.ops.misc import FrozenBatchNorm2d

from speed.inputs import Convolution, detector_weights
from speed.timing import Contestant

if TYPE_CHECKING:  # not imported at run time, because rcnn would add to the memory measured for torchvision
    import rcnn

EPS = 1e-5  # of the batch norms
DEVIATION, CANDIDATES = 2.0, 500  # of one-stage detectors
LOSS_NAMES = {
    "loss_objectness": "rpn_cls_loss",
    "loss_rpn_box_reg": "rpn_reg_loss",
    "loss_classifier": "roi_cls_loss",
    "loss_box_reg": "roi_reg_loss",
}


# ---------------------------------------------------------------- detectors


def detector(
    name: str, state: Mapping[str, np.ndarray], num_classes: int, eps: float | None = EPS, **settings: Any
) -> torch.nn.Module:
    """Return a new detector of torchvision with the weights `state`, in evaluation mode.

    Each call creates a new detector, because a detector of torchvision caches scales.
    """
    return load_arrays(empty_detector(name, num_classes, eps, **settings), state)


def empty_detector(name: str, num_classes: int, eps: float | None = EPS, **settings: Any) -> torch.nn.Module:
    """Return the detector of `detector` before its weights are loaded. `name` is that of a function of torchvision.

    Its batch norms are frozen, with this `eps`, as in most pretrained detectors of torchvision. (Without pretrained
    weights, the batch norms in torchvision are trainable.) If `eps` is None, they are left as torchvision makes them.
    """
    net = getattr(detection, name)(weights=None, weights_backbone=None, num_classes=num_classes, **settings)
    if eps is not None:
        freeze_batch_norms(net, eps)
    return net.eval()


def load_arrays(net: torch.nn.Module, state: Mapping[str, np.ndarray]) -> torch.nn.Module:
    """Load the arrays, which contain no counters of batches, into a network, and return the network.

    Raise RuntimeError if the names differ.
    """
    tensors = {name: torch.from_numpy(np.array(array)) for name, array in state.items()}
    missing, unexpected = net.load_state_dict(tensors, strict=False)
    if unexpected or any(not name.endswith("num_batches_tracked") for name in missing):
        raise RuntimeError(f"the two networks differ: {missing}, {unexpected}")
    return net


def one_stage_detector(name: str, image: np.ndarray, num_classes: int) -> torch.nn.Module:
    """Return a one-stage detector of torchvision, an SSD, in evaluation mode.

    Its random weights give the logits and the deltas a standard deviation of `DEVIATION`. The score of the background
    is chosen so that `CANDIDATES` pairs of an anchor and a class reach the score threshold in `image`, as in a photo.
    """
    net = getattr(detection, name)(weights=None, weights_backbone=None, num_classes=num_classes).eval()
    shapes = {name: tuple(value.shape) for name, value in net.state_dict().items()}
    load_arrays(net, detector_weights(shapes))
    with torch.no_grad():
        maps = list(net.backbone(net.transform(tensors([image]))[0].tensors).values())
        for head in (net.head.regression_head, net.head.classification_head):
            factor = DEVIATION / head(maps).std()
            for layer in _last_layers(head):
                layer.weight *= factor
                layer.bias *= factor
        logits = head(maps)[0].double()  # (A, L)
        total = logits[:, 1:].exp().sum(dim=1, keepdim=True)
        # A score exceeds the threshold if the logit of the background is raised by less than this.
        limits = (logits[:, 1:].exp() / net.score_thresh - total).clamp(min=1e-9).log() - logits[:, :1]
        for layer in _last_layers(head):
            layer.bias[::num_classes] += limits.flatten().topk(CANDIDATES).values[-1]
    return net


def _last_layers(head: torch.nn.Module) -> list[torch.nn.Conv2d]:
    """Return the last convolution of each level in a head of an SSD."""
    return [level if isinstance(level, torch.nn.Conv2d) else level[-1] for level in head.module_list]


def freeze_batch_norms(net: torch.nn.Module, eps: float) -> None:
    """Replace each batch norm with a FrozenBatchNorm2d."""
    for module in net.modules():
        for name, child in list(module.named_children()):
            if isinstance(child, (torch.nn.BatchNorm2d, FrozenBatchNorm2d)):
                setattr(module, name, FrozenBatchNorm2d(len(child.weight), eps=eps))


def tensors(images: Sequence[np.ndarray]) -> list[torch.Tensor]:
    """Convert images (H, W, 3), uint8 or in [0, 1], to torchvision's format: (3, H, W) in [0, 1]."""
    arrays = [image / np.float32(255) if image.dtype == np.uint8 else image for image in images]
    return [torch.from_numpy(np.ascontiguousarray(array.transpose(2, 0, 1))) for array in arrays]


def loading(path: Path, num_classes: int, read: Callable[[Mapping[str, np.ndarray]], np.ndarray]) -> Contestant:
    """Return a contestant that makes a detector from a safetensors file; `read` converts its state to one array."""
    from safetensors.torch import load_file

    def call(_: None) -> torch.nn.Module:
        net = detection.fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=num_classes)
        net.load_state_dict(load_file(path), strict=False)  # the file does not count batches
        return net

    return Contestant(
        "torchvision", call, read=lambda net: read({name: value.numpy() for name, value in net.state_dict().items()})
    )


def detecting(name: str, net: torch.nn.Module, images: Sequence[np.ndarray]) -> Contestant:
    """Return a contestant that detects the objects in the images with `net`."""
    given = tensors(images)

    def call(_: None) -> list[dict[str, torch.Tensor]]:
        with torch.inference_mode():
            return net(given)

    return Contestant(name, call, read=lambda answer: [{k: v.numpy() for k, v in found.items()} for found in answer])


# ---------------------------------------------------------------- kernels


def aligning(features: np.ndarray, rois: np.ndarray, scale: float) -> Contestant:
    """Return a contestant that computes RoIAlign for one image, with 7 x 7 bins and 2 x 2 samples per bin."""
    maps, boxes = torch.from_numpy(np.ascontiguousarray(features)), [torch.from_numpy(rois)]

    def call(_: None) -> torch.Tensor:
        with torch.inference_mode():
            return roi_align(maps, boxes, 7, scale, 2)

    return Contestant("torchvision", call, read=torch.Tensor.numpy)


def aligning_backward(features: np.ndarray, rois: np.ndarray, scale: float, grad: np.ndarray) -> Contestant:
    """Return a contestant that computes the gradient of RoIAlign, given `grad` (R, C, 7, 7) for R RoIs, C channels."""
    maps = torch.from_numpy(np.ascontiguousarray(features)).requires_grad_()
    pooled, upstream = roi_align(maps, [torch.from_numpy(rois)], 7, scale, 2), torch.from_numpy(np.array(grad))
    return Contestant(
        "torchvision",
        lambda _: torch.autograd.grad(pooled, maps, upstream, retain_graph=True)[0],
        read=torch.Tensor.numpy,
    )


def calling(function: Any, *arguments: Any) -> Contestant:
    """Return a contestant that calls a function of torchvision.ops with arrays and numbers."""
    given = [torch.from_numpy(value) if isinstance(value, np.ndarray) else value for value in arguments]

    def call(_: None) -> torch.Tensor:
        with torch.inference_mode():
            return function(*given)

    return Contestant("torchvision", call, read=torch.Tensor.numpy)


def convolving(layer: Convolution, x: np.ndarray, weight: np.ndarray, channels_last: bool) -> Contestant:
    """Return a contestant that computes a convolution without recording gradients."""
    maps, filters = in_layout(x, channels_last), in_layout(weight, channels_last)

    def call(_: None) -> torch.Tensor:
        with torch.inference_mode():
            return torch.nn.functional.conv2d(maps, filters, None, layer.stride, layer.kernel // 2)

    return Contestant("PyTorch, channels last" if channels_last else "PyTorch", call, read=torch.Tensor.numpy)


def convolving_backward(
    layer: Convolution, x: np.ndarray, weight: np.ndarray, grad: np.ndarray, wanted: str, channels_last: bool
) -> Contestant:
    """Return a contestant that computes a gradient of a convolution, for its "input" or its "weights"."""
    maps, filters, upstream = (in_layout(array, channels_last) for array in (x, weight, grad))
    of = (maps if wanted == "input" else filters).requires_grad_()
    out = torch.nn.functional.conv2d(maps, filters, None, layer.stride, layer.kernel // 2)
    return Contestant(
        "PyTorch, channels last" if channels_last else "PyTorch",
        lambda _: torch.autograd.grad(out, of, upstream, retain_graph=True)[0],
        read=torch.Tensor.numpy,
    )


def in_layout(array: np.ndarray, channels_last: bool) -> torch.Tensor:
    """Return an array (N, C, H, W) as a tensor that is stored channels last or channels first."""
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    return tensor.to(memory_format=torch.channels_last) if channels_last else tensor


# ---------------------------------------------------------------- training


class TrainingStep:
    """A function that runs training steps of `net` with `optimizer` and clips the gradients to the norm `max_norm`."""

    def __init__(self, net: torch.nn.Module, optimizer: torch.optim.Optimizer, max_norm: float) -> None:
        self.net, self.optimizer, self.max_norm = net.train(), optimizer, max_norm
        self.parameters = [parameter for parameter in net.parameters() if parameter.requires_grad]

    def __call__(self, images: Sequence[np.ndarray], targets: Sequence[Mapping[str, np.ndarray]]) -> float:
        """Run one step: update the parameters and return the total loss."""
        loss = sum(self.losses(images, targets).values())
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, self.max_norm)
        self.optimizer.step()
        return loss.item()

    def gradients(
        self,
        images: Sequence[np.ndarray],
        targets: Sequence[Mapping[str, np.ndarray]],
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Return {name: loss} and {name: gradient} for the trainable parameters, without updating them."""
        losses = self.losses(images, targets)
        sum(losses.values()).backward()
        return (
            {name: loss.detach().numpy() for name, loss in losses.items()},
            {
                name: parameter.grad.numpy()
                for name, parameter in self.net.named_parameters()
                if parameter.requires_grad
            },
        )

    def losses(
        self, images: Sequence[np.ndarray], targets: Sequence[Mapping[str, np.ndarray]]
    ) -> dict[str, torch.Tensor]:
        """Return the four losses, with the names that rcnn uses."""
        objects = [{name: torch.from_numpy(np.asarray(value)) for name, value in target.items()} for target in targets]
        losses = self.net(tensors(images), objects)
        return {LOSS_NAMES[name]: value for name, value in losses.items()}


def small_detector(model: rcnn.FasterRCNN) -> FasterRCNN:
    """Return a Faster R-CNN of torchvision with the settings and weights of `model`, an `rcnn.faster_rcnn_small`."""
    c = model.config
    same = {
        name: getattr(c, name)
        for name in (
            "min_size",
            "max_size",
            "image_mean",
            "image_std",
            "rpn_pre_nms_top_n_train",
            "rpn_pre_nms_top_n_test",
            "rpn_post_nms_top_n_train",
            "rpn_post_nms_top_n_test",
            "rpn_nms_thresh",
            "rpn_fg_iou_thresh",
            "rpn_bg_iou_thresh",
            "rpn_batch_size_per_image",
            "rpn_positive_fraction",
            "rpn_score_thresh",
            "box_score_thresh",
            "box_nms_thresh",
            "box_detections_per_img",
            "box_fg_iou_thresh",
            "box_bg_iou_thresh",
            "box_batch_size_per_image",
            "box_positive_fraction",
            "bbox_reg_weights",
        )
    }
    peer = FasterRCNN(
        SmallBackbone(c.feat_channels),
        rpn_anchor_generator=AnchorGenerator((c.anchor_sizes,), (c.aspect_ratios,)),
        box_roi_pool=MultiScaleRoIAlign(["0"], list(c.pool_size), c.sampling_ratio),
        box_head=TwoMLPHead(c.feat_channels * c.pool_size[0] * c.pool_size[1], c.hidden_dim),
        box_predictor=FastRCNNPredictor(c.hidden_dim, c.num_classes),
        **same,
    )
    load_arrays(peer, model.state_dict())
    return peer


class SmallBackbone(torch.nn.Module):
    """The same network as `rcnn.backbones.SmallBackbone`, with the same parameter names."""

    def __init__(self, out_channels: int = 64, depth: int = 2) -> None:
        super().__init__()
        self.out_channels = out_channels
        relu = functools.partial(torch.nn.ReLU, inplace=True)
        self.stem = torch.nn.Sequential(
            _conv_norm(3, 24, 2),
            relu(),
            _conv_norm(24, 48, 2),
            relu(),
            ResidualBlock(48),
            _conv_norm(48, out_channels, 2),
            relu(),
        )
        self.blocks = torch.nn.Sequential(*(ResidualBlock(out_channels) for _ in range(depth)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.blocks(self.stem(x))


class ResidualBlock(torch.nn.Module):
    """The residual block of `rcnn.backbones.SmallBackbone`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.second = _conv_norm(channels, channels), _conv_norm(channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu_(x + self.second(torch.relu_(self.first(x))))


def _conv_norm(in_channels: int, out_channels: int, stride: int = 1) -> torch.nn.Sequential:
    return torch.nn.Sequential(
        torch.nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False), torch.nn.BatchNorm2d(out_channels)
    )

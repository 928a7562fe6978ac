"""Rows that measure the other kernels of a detector: RoIAlign, NMS and IoU. The peer is torchvision.ops."""

from __future__ import annotations

import functools

import numpy as np

from rcnn import boxes, nms, roi
from speed import inputs
from speed.agreement import close, same_array
from speed.rows import Contest, Row, Settings, by_answer
from speed.timing import Contestant

SCALE = inputs.FEATURES[0] / inputs.IMAGE[0]
NMS_THRESHOLD = 0.7  # as in the RPN
LEVELS = (1000, 1000, 1000, 1000, 800)  # the number of candidates on each of the five levels of a feature pyramid


def align_contest(settings: Settings, count: int) -> Contest:
    """Return the contest of RoIAlign on the finest level of a feature pyramid."""
    features, rois = inputs.feature_maps(1, inputs.CHANNELS, *inputs.FEATURES), inputs.rois(count)
    images = np.zeros(count, np.int64)
    contestants = [Contestant("rcnn", lambda _: roi.roi_align(features, rois, images, (7, 7), SCALE))]
    if "torchvision" in settings.peers:
        from speed import torch_peer

        contestants.append(torch_peer.aligning(features, rois, SCALE))
    return by_answer(contestants, functools.partial(close, allowed=1e-6))


def align_backward_contest(settings: Settings, count: int) -> Contest:
    """Return the contest of the gradient of RoIAlign with respect to the features."""
    features, rois = inputs.feature_maps(1, inputs.CHANNELS, *inputs.FEATURES), inputs.rois(count)
    grad, images = inputs.feature_maps(count, inputs.CHANNELS, 7, 7, seed=1), np.zeros(count, np.int64)
    contestants = [Contestant("rcnn", lambda _: roi.roi_align_backward(grad, rois, images, features.shape, SCALE))]
    if "torchvision" in settings.peers:
        from speed import torch_peer

        contestants.append(torch_peer.aligning_backward(features, rois, SCALE, grad))
    return by_answer(contestants, functools.partial(close, allowed=1e-6))


def nms_contest(settings: Settings, count: int) -> Contest:
    """Return the contest of NMS, with about ten boxes for each object."""
    candidates, scores = inputs.clustered_boxes(count)
    contestants = [Contestant("rcnn", lambda _: nms.nms(candidates, scores, NMS_THRESHOLD))]
    if "torchvision" in settings.peers:
        from torchvision import ops

        from speed import torch_peer

        contestants.append(torch_peer.calling(ops.nms, candidates, scores, NMS_THRESHOLD))
    return by_answer(contestants, same_array)


def batched_nms_contest(settings: Settings) -> Contest:
    """Return the contest of NMS on each level separately, as in the RPN."""
    candidates = np.concatenate([inputs.clustered_boxes(count, seed)[0] for seed, count in enumerate(LEVELS)])
    scores = inputs.clustered_boxes(sum(LEVELS))[1]
    levels = np.repeat(np.arange(len(LEVELS)), LEVELS)
    contestants = [Contestant("rcnn", lambda _: nms.batched_nms(candidates, scores, levels, NMS_THRESHOLD))]
    if "torchvision" in settings.peers:
        from torchvision import ops

        from speed import torch_peer

        contestants.append(torch_peer.calling(ops.batched_nms, candidates, scores, levels, NMS_THRESHOLD))
    return by_answer(contestants, same_array)


def iou_contest(settings: Settings, rows: int, columns: int) -> Contest:
    """Return the contest of the IoU of all pairs of boxes."""
    first, second = inputs.clustered_boxes(rows)[0], inputs.clustered_boxes(columns, seed=1)[0]
    contestants = [Contestant("rcnn", lambda _: boxes.iou(first, second))]
    if "torchvision" in settings.peers:
        from torchvision import ops

        from speed import torch_peer

        contestants.append(torch_peer.calling(ops.box_iou, first, second))
    return by_answer(contestants, same_array)


def align_work() -> str:
    """Return the description of the RoIAlign rows without the number of RoIs."""
    return f"RoIAlign, {inputs.CHANNELS} channels at {inputs.FEATURES[0]} x {inputs.FEATURES[1]}"


ROWS = [
    *(
        Row(f"roi-align-{n}", f"{align_work()}, {n:,} RoIs", functools.partial(align_contest, count=n))
        for n in (512, 1000)
    ),
    *(
        Row(
            f"roi-align-backward-{n}",
            f"gradient of RoIAlign, {n:,} RoIs",
            functools.partial(align_backward_contest, count=n),
        )
        for n in (512, 1000)
    ),
    *(Row(f"nms-{n}", f"NMS, {n:,} boxes", functools.partial(nms_contest, count=n)) for n in (1000, 6000, 20000)),
    Row("nms-batched", f"NMS, {sum(LEVELS):,} boxes on {len(LEVELS)} levels", batched_nms_contest),
    Row("iou-square", "IoU, 1,000 x 1,000 boxes", functools.partial(iou_contest, rows=1000, columns=1000)),
    Row("iou-tall", "IoU, 200,000 x 20 boxes", functools.partial(iou_contest, rows=200_000, columns=20)),
]

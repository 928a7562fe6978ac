"""The stages of the detector as ONNX operators, in the order in which an image meets them.

Each function here is the counterpart of a function in a stage's own module, which explains it. The layers are not
written again: `rcnn.zoo.onnx.network` records them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

import rcnn
from rcnn import nn, roi_heads, rpn
from rcnn._validate import MOST_BOXES
from rcnn.boxes import MAX_LOG_SCALE
from rcnn.config import FasterRCNNConfig
from rcnn.model import FasterRCNN, FirstStage, SecondStage, check_predictions
from rcnn.nn.tape import Call, taping
from rcnn.transform import SIZE_DIVISOR, Batch
from rcnn.zoo.onnx import OPSET
from rcnn.zoo.onnx.graph import Graph, Value
from rcnn.zoo.onnx.network import REFUSED, Network

PROBES = ((128, 192, 3), (224, 320, 5))  # the (height, width) of two images, and the number of RoIs in each


@dataclass(frozen=True)
class Probe:
    """A pass of the detector for a random image, and the tapes of its two networks."""

    batch: Batch
    first: FirstStage
    second: SecondStage
    first_calls: list[Call]
    second_calls: list[Call]


@dataclass(frozen=True)
class Sizes:
    """The sizes of the image, each as an int64 vector (height, width)."""

    original: Value
    resized: Value
    padded: Value


def build(model: FasterRCNN, rules: Mapping[str, Any]) -> onnx.ModelProto:
    """Return the ONNX model of a detector.

    Parameters
    ----------
    model : FasterRCNN
        The detector.
    rules : mapping
        The arguments `score_thresh`, `nms_thresh`, `top_k` and `class_agnostic` of `FasterRCNN.predict`.

    Returns
    -------
    onnx.ModelProto
        The model.

    Raises
    ------
    ValueError
        If the detector cannot be exported.
    """
    c, graph = model.config, Graph()
    probes = [_probe(model, *probe) for probe in PROBES]
    image = graph.input("image", np.uint8, ("height", "width", 3))
    batch, sizes = _make_batch(graph, image, c)

    body = Network(graph, model, (probes[0].batch.images, probes[1].batch.images), batch)
    body.add(*(probe.first_calls for probe in probes))
    features, objectness, deltas = (
        [body.value(*level) for level in zip(*(getattr(probe.first, name) for probe in probes), strict=True)]
        for name in ("features", "objectness", "deltas")
    )
    cells = model.anchor_generator.cells_of(len(features))
    anchors = [
        _grid_anchors(graph, cell, level, sizes, c.anchor_offset) for cell, level in zip(cells, features, strict=True)
    ]
    rois = _propose(graph, objectness, deltas, anchors, sizes, c)  # (R, 4)

    small, large = (probe.second for probe in probes)
    if small.scales != large.scales:
        raise ValueError(
            f"{REFUSED} has a backbone with a stride that depends on the size of the image; make sure that its "
            "convolutions pad their input"
        )
    pooled, position = _pool(graph, features, rois, small.scales, c)
    head = Network(graph, model, (small.pooled.data, large.pooled.data), pooled)
    head.add(*(probe.second_calls for probe in probes))
    logits = head.value(small.class_logits, large.class_logits).take(position)  # (R, L)
    deltas_of_rois = head.value(small.box_deltas, large.box_deltas).take(position)  # (R, L, 4)
    boxes, scores, labels = _detect(graph, logits, deltas_of_rois, rois, sizes, c, **rules)
    built = graph.finish(
        {"boxes": (boxes, ("detections", 4)), "scores": (scores, ("detections",)), "labels": (labels, ("detections",))}
    )
    onnx.helper.set_model_props(built, _metadata(c, rules))
    return built


def _metadata(c: FasterRCNNConfig, rules: Mapping[str, Any]) -> dict[str, str]:
    """Return the metadata of the file."""
    settings = c.settings() | {
        "box_score_thresh": rules["score_thresh"],
        "box_nms_thresh": rules["nms_thresh"],
        "box_detections_per_img": rules["top_k"],
        "class_agnostic": rules["class_agnostic"],
    }
    return {
        "class_names": json.dumps(c.class_names),
        "settings": json.dumps(settings),
        "rcnn": rcnn.__version__,
        "opset": str(OPSET),
    }


def _probe(model: FasterRCNN, height: int, width: int, num_rois: int) -> Probe:
    """Run the detector for a random image and some boxes, and record the operations of both networks."""
    rng = np.random.default_rng(0)
    batch = model.make_batch(rng.standard_normal((1, 3, height, width), dtype=np.float32))
    rois, images = np.tile(np.array([0, 0, width, height], np.float32), (num_rois, 1)), np.zeros(num_rois, np.int64)
    with nn.evaluation(), nn.no_grad():
        with taping() as first_calls:
            first = model.first_stage(batch, watch=check_predictions)
        with taping() as second_calls:
            second = model.second_stage(batch, first.features, rois, images, watch=check_predictions)
    return Probe(batch, first, second, first_calls, second_calls)


# ---------------------------------------------------------------------- from the image to the batch


def _make_batch(graph: Graph, image: Value, c: FasterRCNNConfig) -> tuple[Value, Sizes]:
    """Resize, normalise and pad an image (H, W, 3). Return the batch (1, 3, H', W'); see `transform.make_batch`."""
    original = image.shape.slice(0, 2)
    sides = original.astype(np.float64)
    # Not min(min_size / shorter, max_size / longer), because OpenVINO 2026.4 swaps the operands of such quotients.
    ends = graph.concatenate([graph.apply(operator, sides, keepdims=1) for operator in ("ReduceMin", "ReduceMax")])
    scale = graph.apply("ReduceMin", np.array([c.min_size, c.max_size]) / ends, keepdims=1)
    size = (sides * scale).astype(np.int64).maximum(1)
    padded = (size + (SIZE_DIVISOR - 1)) // SIZE_DIVISOR * SIZE_DIVISOR

    pixels = image.astype(np.float32) / 255
    pixels = _interpolated(graph, pixels, original, size, axis=0)
    pixels = _interpolated(graph, pixels, original, size, axis=1)
    pixels = (pixels - np.array(c.image_mean, np.float32)) / np.array(c.image_std, np.float32)
    none = graph.constant(np.zeros(1, np.int64))
    border = graph.concatenate([none, none, none, padded - size, none])  # before and after the rows, columns, channels
    pixels = graph.apply("Pad", pixels, border)  # (H', W', 3)
    batch = graph.apply("Unsqueeze", pixels.transpose(2, 0, 1), np.array([0], np.int64))
    return batch, Sizes(original, size, padded)


def _interpolated(graph: Graph, pixels: Value, before: Value, after: Value, axis: int) -> Value:
    """Resize an image (H, W, 3) along one axis. The weights are those of `nn.resize.bilinear_taps`, to the last bit."""
    size, out = before.take(axis), after.take(axis)
    step = (size.astype(np.float32) / out.astype(np.float32)).astype(np.float64)
    centre = ((graph.arange(out).astype(np.float64) + 0.5) * step - 0.5).maximum(0).astype(np.float32)  # (out,)
    first = centre.astype(np.int64).minimum(size - 1)
    second = (first + 1).minimum(size - 1)
    weight = (centre - first.astype(np.float32)).reshape(*(-1, 1, 1) if axis == 0 else (1, -1, 1))
    return pixels.take(first, axis) * (1 - weight) + pixels.take(second, axis) * weight


# ---------------------------------------------------------------------- boxes


def _grid_anchors(graph: Graph, cell: np.ndarray, features: Value, sizes: Sizes, offset: float) -> Value:
    """Return the anchors (H * W * A, 4) of one level; see `anchors.grid_anchors`."""
    feature_size = features.shape.slice(2)
    stride = sizes.padded // feature_size
    rows, columns = (
        ((graph.arange(feature_size.take(axis)).astype(np.float64) + offset) * stride.take(axis).astype(np.float64))
        .astype(np.float32)
        .reshape(*shape)
        for axis, shape in ((0, (-1, 1, 1, 1)), (1, (1, -1, 1, 1)))
    )
    anchors = columns * np.array([1, 0, 1, 0], np.float32) + rows * np.array([0, 1, 0, 1], np.float32) + cell
    return anchors.reshape(-1, 4)


def _decode(graph: Graph, deltas: Value, boxes: Value, weights: Sequence[float]) -> Value:
    """Return boxes (..., 4), moved by deltas of the same shape; see `boxes.decode`."""
    sides = boxes.slice(2) - boxes.slice(0, 2)
    centre = boxes.slice(0, 2) + 0.5 * sides
    unit = deltas / np.array(weights, np.float32)
    new_centre = unit.slice(0, 2) * sides + centre
    half = 0.5 * (graph.apply("Exp", unit.slice(2).minimum(MAX_LOG_SCALE)) * sides)
    return graph.concatenate([new_centre - half, new_centre + half], axis=-1)


def _clip(graph: Graph, boxes: Value, size: Value) -> Value:
    """Return boxes (..., 4), clipped to an image of `size` (height, width)."""
    return boxes.maximum(0).minimum(_xyxy(graph, size.astype(np.float32)))


def _xyxy(graph: Graph, pair: Value) -> Value:
    """Return (y, x) as (x, y, x, y)."""
    return pair.take(np.array([1, 0, 1, 0]))


def _both_at_least(graph: Graph, sides: Value, shortest: float) -> Value:
    """Return whether both sides (..., 2) are at least `shortest`, as bools (...)."""
    return graph.apply("ReduceMin", sides, axes=[-1], keepdims=0) >= shortest


def _suppress(graph: Graph, boxes: Value, scores: Value, thresh: float) -> Value:
    """Apply non-maximum suppression (NMS) to each of G groups of boxes (G, N, 4) with scores (G, N).

    Boxes with a score of 0 take no part. Return the scores, with -1 for every box that is not kept.
    """
    threshold = np.array([thresh], np.float32)
    if float(threshold[0]) > thresh:  # `nms` compares with the float64 number, but ONNX with a float32 number
        threshold = np.nextafter(threshold, np.float32(0))
    most, above = np.array([MOST_BOXES], np.int64), np.zeros(1, np.float32)
    each = graph.apply("Unsqueeze", scores, np.array([1], np.int64))  # (G, 1, N)
    kept = graph.apply("NonMaxSuppression", boxes, each, most, threshold, above, dtype=np.int64)  # (K, 3)
    kept = kept.take(np.array([0, 2]), axis=1)  # (K, 2), the group and the box
    nothing = graph.apply("Expand", graph.constant(np.array(-1, np.float32)), scores.shape)
    return graph.apply("ScatterND", nothing, kept, graph.apply("GatherND", scores, kept))


def _best(graph: Graph, scores: Value, most: int) -> tuple[Value, Value]:
    """Return the largest scores of at least 0, in descending order, and their indices; ties keep the first."""
    zero = np.array([0], np.int64)
    count = graph.apply("ReduceSum", (scores >= 0).astype(np.int64), zero, keepdims=1)
    return _top_k(graph, scores, count.minimum(most))


def _top_k(graph: Graph, scores: Value, count: Value) -> tuple[Value, Value]:
    largest, indices = graph.apply_many("TopK", (scores, count), (np.float32, np.int64))
    return largest, indices


# ---------------------------------------------------------------------- the first stage


def _propose(
    graph: Graph,
    objectness: Sequence[Value],
    deltas: Sequence[Value],
    anchors: Sequence[Value],
    sizes: Sizes,
    c: FasterRCNNConfig,
) -> Value:
    """Return the proposals (R, 4); see `rpn.propose`."""
    candidates, remaining = [], []
    for level_logits, level_deltas, level_anchors in zip(objectness, deltas, anchors, strict=True):
        flat = level_logits.reshape(-1)  # (A_l,)
        logits, best = _top_k(graph, flat, flat.shape.minimum(c.rpn_pre_nms_top_n_test))  # (K,)
        boxes = _decode(graph, level_deltas.reshape(-1, 4).take(best), level_anchors.take(best), (1, 1, 1, 1))
        boxes = _clip(graph, boxes, sizes.resized)  # (K, 4)
        scores = graph.apply("Sigmoid", logits)
        valid = _both_at_least(graph, boxes.slice(2) - boxes.slice(0, 2), rpn.MIN_SIDE)
        valid = valid & (scores >= c.rpn_score_thresh)
        # The boxes are in descending order. NMS gets the numbers K .. 1 in place of the scores, so that there are no
        # ties, whose order ONNX does not define.
        count = best.shape
        rank = (count - graph.arange(count.take(0))).astype(np.float32)
        rank = graph.where(valid, rank, 0, np.float32)
        kept = _suppress(graph, _row(graph, boxes), _row(graph, rank), c.rpn_nms_thresh).reshape(-1)  # (K,)
        candidates.append(boxes)
        remaining.append(graph.where(kept > 0, scores, -1, np.float32))
    _, chosen = _best(graph, graph.concatenate(remaining), c.rpn_post_nms_top_n_test)
    return graph.concatenate(candidates).take(chosen)


def _row(graph: Graph, value: Value) -> Value:
    """Add an axis of length 1 in front."""
    return graph.apply("Unsqueeze", value, np.array([0], np.int64))


# ---------------------------------------------------------------------- the second stage


def _pool(
    graph: Graph, features: Sequence[Value], rois: Value, scales: Sequence[float], c: FasterRCNNConfig
) -> tuple[Value, Value]:
    """Return the pooled features (R, C, ph, pw), level by level, and the position of each RoI in them (R,)."""
    every = graph.arange(rois.shape.take(0))
    if len(scales) == 1:
        return _roi_align(graph, features[0], rois, scales[0], c), every
    levels = _roi_levels(graph, rois, scales, c)
    order, pooled = [], []
    for level, scale in enumerate(scales):
        members = graph.apply("NonZero", levels.equals(level), dtype=np.int64).reshape(-1)  # (M,)
        order.append(members)
        pooled.append(_roi_align(graph, features[level], rois.take(members), scale, c))
    position = graph.apply("ScatterElements", every, graph.concatenate(order), every)
    return graph.concatenate(pooled), position


def _roi_align(graph: Graph, features: Value, rois: Value, scale: float, c: FasterRCNNConfig) -> Value:
    """Return the pooled features (M, C, ph, pw) of the RoIs (M, 4) of one level; see `roi.roi_align`."""
    images = graph.arange(rois.shape.take(0)) * 0  # the batch has one image
    return graph.apply(
        "RoiAlign",
        features,
        rois,
        images,
        mode="avg",
        output_height=c.pool_size[0],
        output_width=c.pool_size[1],
        sampling_ratio=c.sampling_ratio,
        spatial_scale=scale,
        coordinate_transformation_mode="half_pixel" if c.aligned else "output_half_pixel",
    )


def _roi_levels(graph: Graph, rois: Value, scales: Sequence[float], c: FasterRCNNConfig) -> Value:
    """Return the index of the level of each RoI; see `roi.roi_levels`.

    A RoI belongs to level k or a coarser one if canonical_level + log2(side / canonical_size) + 1e-6 is at least k.
    Solved for the side, this is a comparison with a constant for each level.
    """
    finest, coarsest = (round(-math.log2(scale)) for scale in (scales[0], scales[-1]))
    sides = rois.slice(2) - rois.slice(0, 2)
    side = graph.apply("Sqrt", graph.apply("ReduceProd", sides, axes=[1], keepdims=1))  # (R, 1)
    bounds = c.canonical_size * 2.0 ** (np.arange(finest + 1, coarsest + 1) - c.canonical_level - 1e-6)
    above = (side >= bounds.astype(np.float32)).astype(np.int64)  # (R, number of levels - 1)
    index = graph.apply("ReduceSum", above, np.array([1], np.int64), keepdims=0)  # (R,)
    return index.minimum(len(scales) - 1)


def _detect(
    graph: Graph,
    logits: Value,
    deltas: Value,
    rois: Value,
    sizes: Sizes,
    c: FasterRCNNConfig,
    *,
    score_thresh: float,
    nms_thresh: float,
    top_k: int,
    class_agnostic: bool,
) -> tuple[Value, Value, Value]:
    """Return the boxes, the scores and the labels of the detections; see `roi_heads.detect`."""
    classes = c.num_classes - 1  # without the background
    scores = graph.apply("Softmax", logits, axis=-1).slice(1)  # (R, L-1)
    each = graph.apply("Unsqueeze", rois, np.array([1], np.int64))  # (R, 1, 4)
    whole = _decode(graph, deltas.slice(1, axis=1), each, c.bbox_reg_weights)  # (R, L-1, 4)
    boxes = _clip(graph, whole, sizes.resized)

    sides = boxes.slice(2) - boxes.slice(0, 2)
    valid = (scores > score_thresh) & _both_at_least(graph, sides, roi_heads.MIN_SIDE)
    pixel = (sizes.resized.astype(np.float64) / sizes.original.astype(np.float64)).astype(np.float32)
    pixel = pixel * (sizes.resized < sizes.padded).astype(np.float32)
    cut = (whole.slice(2) > boxes.slice(2)) & (sides < pixel.take(np.array([1, 0])))
    is_sliver = graph.apply("ReduceMax", cut.astype(np.int32), axes=[-1], keepdims=0)
    scores = graph.where(valid & is_sliver.equals(0), scores, 0, np.float32)

    if class_agnostic:
        kept = _suppress(graph, boxes.reshape(1, -1, 4), scores.reshape(1, -1), nms_thresh)
    else:
        kept = _suppress(graph, boxes.transpose(1, 0, 2), scores.transpose(1, 0), nms_thresh).transpose(1, 0)
    best, chosen = _best(graph, kept.reshape(-1), top_k)
    ratio = (sizes.original.astype(np.float64) / sizes.resized.astype(np.float64)).astype(np.float32)
    found = boxes.reshape(-1, 4).take(chosen) * _xyxy(graph, ratio)
    labels = graph.apply("Mod", chosen, np.array(classes, np.int64)) + 1
    return found, best, labels

"""Wrong and odd arguments of public functions, on both backends: each error is one line that gives the reason.

The table `CALLS` contains a valid call of each function. The fuzzer replaces one argument, or one element of it, with
an odd value. For every value, both backends must raise the same error or return the same result.
"""

import decimal
import fractions
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rcnn
from rcnn import anchors, boxes, evaluate, fpn, matching, nms, nn, roi, roi_heads, rpn, transform, views
from rcnn.backbones import SmallBackbone
from rcnn.nn import functional as F
from rcnn.nn import layers, optim

BOXES = np.array([[0, 0, 10, 10], [5, 5, 12, 14.0]])
SCORES = np.array([0.9, 0.8])
MAPS = np.random.default_rng(0).standard_normal((1, 2, 6, 6)).astype(np.float32)
ROIS = np.array([[0, 0, 4, 4], [1, 1, 5, 5]], np.float32)
GRAD = np.ones((2, 2, 2, 2), np.float32)
IMAGE = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
BATCH = np.random.default_rng(0).standard_normal((1, 3, 40, 50)).astype(np.float32)
TARGETS = [{"boxes": [[1, 2, 20, 30]], "labels": [1]}]
FOUND = [{"boxes": BOXES, "scores": SCORES, "labels": np.array([1, 2])}]
OBJECTS = [{"boxes": BOXES, "labels": np.array([1, 2]), "difficult": [False, True]}]


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def parameters() -> list[nn.Parameter]:
    parameter = nn.Parameter(np.ones(3))
    parameter.grad = np.ones(3)
    return [parameter]


def tensor(*shape: int) -> nn.Tensor:
    return nn.Tensor(np.random.default_rng(0).standard_normal(shape).astype(np.float32))


@pytest.fixture(scope="module", autouse=True)
def model() -> rcnn.FasterRCNN:
    rcnn.seed(0)
    return _MODEL


rcnn.seed(0)
_MODEL = rcnn.faster_rcnn_small(
    ("background", "a", "b"),
    min_size=48,
    max_size=64,
    rpn_pre_nms_top_n_test=20,
    rpn_post_nms_top_n_test=10,
    rpn_pre_nms_top_n_train=20,
    rpn_post_nms_top_n_train=10,
).eval()


def losses(images: Any, targets: Any, rng: Any) -> dict[str, float]:
    return {name: loss.item() for name, loss in _MODEL.get_loss(images, targets, rng).items()}


def made(layer: type[nn.Module]) -> Callable[..., None]:
    """Return a function that makes a layer and returns nothing, because its weights are random."""

    def make(**arguments: Any) -> None:
        layer(**arguments)

    return make


Arguments = Callable[[], dict[str, Any]]
CALLS: dict[str, tuple[Callable[..., Any], Arguments]] = {
    "convert": (boxes.convert, lambda: {"boxes": BOXES, "source": "xyxy", "target": "xywh"}),
    "area": (boxes.area, lambda: {"boxes": BOXES}),
    "iou": (boxes.iou, lambda: {"boxes1": BOXES, "boxes2": BOXES}),
    "share_inside": (boxes.share_inside, lambda: {"boxes": BOXES, "regions": BOXES}),
    "clip": (boxes.clip, lambda: {"boxes": BOXES, "size": (8, 9)}),
    "remove_small": (boxes.remove_small, lambda: {"boxes": BOXES, "min_size": 2.0}),
    "encode": (boxes.encode, lambda: {"gt_boxes": BOXES, "boxes": BOXES, "weights": (1, 1, 1, 1)}),
    "decode": (boxes.decode, lambda: {"deltas": BOXES / 20, "boxes": BOXES, "weights": (1, 1, 1, 1)}),
    "cell_anchors": (anchors.cell_anchors, lambda: {"sizes": [16, 32], "ratios": [0.5, 1]}),
    "grid_anchors": (
        anchors.grid_anchors,
        lambda: {"cell": BOXES, "feature_size": (2, 3), "stride": (16, 16), "offset": 0.0},
    ),
    "measure_stride": (anchors.measure_stride, lambda: {"image_size": (32, 32), "feature_size": (4, 4)}),
    "AnchorGenerator": (
        lambda **given: anchors.AnchorGenerator(**given).cells,
        lambda: {"sizes": [16, 32], "ratios": [0.5, 1], "offset": 0.0},
    ),
    "match": (
        matching.match,
        lambda: {"iou": np.array([[0.8, 0.1], [0.2, 0.4]]), "high": 0.7, "low": 0.3, "force_best": True},
    ),
    "sample": (
        matching.sample,
        lambda: {"labels": [1, 0, -1, 2, 0], "size": 4, "positive_fraction": 0.25, "rng": rng()},
    ),
    "nms": (nms.nms, lambda: {"boxes": BOXES, "scores": SCORES, "iou_threshold": 0.5}),
    "batched_nms": (
        nms.batched_nms,
        lambda: {"boxes": BOXES, "scores": SCORES, "groups": [0, 1], "iou_threshold": 0.5},
    ),
    "soft_nms": (
        nms.soft_nms,
        lambda: {
            "boxes": BOXES,
            "scores": SCORES,
            "iou_threshold": 0.1,
            "method": "linear",
            "sigma": 0.5,
            "score_thresh": 0.1,
        },
    ),
    "suppress": (
        nms.suppress,
        lambda: {
            "boxes": BOXES,
            "scores": SCORES,
            "labels": [1, 2],
            "score_thresh": 0.1,
            "nms_thresh": 0.1,
            "top_k": 5,
            "class_agnostic": True,
            "soft_nms": "gaussian",
        },
    ),
    "descending_order": (nms.descending_order, lambda: {"scores": SCORES}),
    "roi_align": (
        roi.roi_align,
        lambda: {
            "features": MAPS,
            "rois": ROIS,
            "roi_images": [0, 0],
            "output_size": (2, 2),
            "spatial_scale": 1.0,
            "sampling_ratio": 2,
            "aligned": False,
        },
    ),
    "roi_align_backward": (
        roi.roi_align_backward,
        lambda: {"grad": GRAD, "rois": ROIS, "roi_images": [0, 0], "features_shape": (1, 2, 6, 6), "sampling_ratio": 0},
    ),
    "multiscale_roi_align": (
        roi.multiscale_roi_align,
        lambda: {
            "features": [MAPS, MAPS],
            "rois": ROIS,
            "roi_images": [0, 0],
            "levels": [0, 1],
            "output_size": (2, 2),
            "spatial_scales": [1.0, 0.5],
        },
    ),
    "multiscale_roi_align_backward": (
        roi.multiscale_roi_align_backward,
        lambda: {
            "grad": GRAD,
            "rois": ROIS,
            "roi_images": [0, 0],
            "levels": [0, 1],
            "features_shapes": [(1, 2, 6, 6), (1, 2, 3, 3)],
            "spatial_scales": [1.0, 0.5],
        },
    ),
    "roi_pool": (
        roi.roi_pool,
        lambda: {"features": MAPS, "rois": ROIS, "roi_images": [0, 0], "output_size": (2, 2), "spatial_scale": 1.0},
    ),
    "roi_pool_backward": (
        roi.roi_pool_backward,
        lambda: {"grad": GRAD, "features": MAPS, "rois": ROIS, "roi_images": [0, 0], "spatial_scale": 1.0},
    ),
    "level_scales": (roi.level_scales, lambda: {"feature_heights": [200, 100], "padded_height": 800}),
    "assign_levels": (
        roi.assign_levels,
        lambda: {"rois": ROIS, "min_level": 2, "max_level": 5, "canonical_size": 224, "canonical_level": 4},
    ),
    "propose": (
        rpn.propose,
        lambda: {
            "objectness": [SCORES],
            "deltas": [BOXES / 20],
            "anchors": [BOXES],
            "image_size": (16, 16),
            "pre_nms_top_n": 10,
            "post_nms_top_n": 10,
            "nms_thresh": 0.7,
            "score_thresh": 0.0,
        },
    ),
    "anchor targets": (
        rpn.find_targets,
        lambda: {
            "anchors": BOXES,
            "gt_boxes": BOXES[:1],
            "fg_iou_thresh": 0.7,
            "bg_iou_thresh": 0.3,
            "batch_size": 4,
            "positive_fraction": 0.25,
            "rng": rng(),
        },
    ),
    "roi targets": (
        roi_heads.find_targets,
        lambda: {
            "proposals": BOXES,
            "gt_boxes": BOXES[:1],
            "gt_labels": [1],
            "batch_size": 4,
            "weights": (10, 10, 5, 5),
            "rng": rng(),
        },
    ),
    "detect": (
        roi_heads.detect,
        lambda: {
            "class_logits": np.ones((2, 3)),
            "box_deltas": np.zeros((2, 3, 4)),
            "rois": BOXES,
            "image_size": (16, 16),
            "score_thresh": 0.05,
            "nms_thresh": 0.5,
            "top_k": 100,
            "class_agnostic": True,
            "soft_nms": "linear",
        },
    ),
    "RoIHeads": (
        made(roi_heads.RoIHeads),
        lambda: {"in_channels": 8, "num_classes": 3, "pool_size": (2, 2), "hidden_dim": 4, "dropout": 0.5},
    ),
    "FPN": (made(fpn.FPN), lambda: {"in_channels_list": [2, 3], "out_channels": 4, "extra_max_pool": True}),
    "SmallBackbone": (made(SmallBackbone), lambda: {"out_channels": 4, "depth": 1}),
    "make_batch": (
        transform.make_batch,
        lambda: {
            "images": [IMAGE],
            "min_size": 32,
            "max_size": 64,
            "image_mean": (0.5, 0.5, 0.5),
            "image_std": (0.2, 0.2, 0.2),
            "scales": [1.0],
        },
    ),
    "Batch": (
        transform.Batch,
        lambda: {"images": np.zeros((1, 3, 32, 32)), "image_sizes": [(30, 30)], "original_sizes": [(30, 30)]},
    ),
    "resize": (transform.resize, lambda: {"image": np.ones((4, 5, 3), np.float32), "size": (3, 4)}),
    "resized_size": (transform.resized_size, lambda: {"size": (480, 640), "min_size": 800, "max_size": 1333}),
    "scale_boxes": (transform.scale_boxes, lambda: {"boxes": BOXES, "source": (10, 10), "target": (20, 30)}),
    "check_targets": (transform.check_targets, lambda: {"targets": TARGETS, "num_images": 1, "num_classes": 3}),
    "predict": (
        _MODEL.predict,
        lambda: {"images": [IMAGE], "score_thresh": 0.01, "nms_thresh": 0.5, "top_k": 5},
    ),
    "predict in views": (
        _MODEL.predict,
        lambda: {
            "images": [IMAGE],
            "score_thresh": 0.01,
            "class_agnostic": True,
            "soft_nms": "gaussian",
            "flip": True,
            "scales": (1.0, 0.5),
        },
    ),
    "tile_boxes": (views.tile_boxes, lambda: {"size": (40, 50), "tile": 32, "overlap": 0.25}),
    "detect_in_tiles": (
        views.detect_in_tiles,
        lambda: {"predict": _MODEL.predict, "image": IMAGE, "tile": 40, "overlap": 8, "batch_size": 2, "top_k": 5},
    ),
    "mirror": (views.mirror, lambda: {"boxes": BOXES, "width": 50}),
    "predict a batch": (_MODEL.predict, lambda: {"images": BATCH}),
    "trace": (_MODEL.trace, lambda: {"images": [IMAGE], "targets": TARGETS, "rng": rng()}),
    "get_loss": (losses, lambda: {"images": [IMAGE], "targets": TARGETS, "rng": rng()}),
    "forward": (_MODEL.forward, lambda: {"images": BATCH, "rois": BOXES, "roi_images": [0, 0]}),
    "linear": (F.linear, lambda: {"x": tensor(3, 4), "weight": tensor(2, 4), "bias": tensor(2)}),
    "conv2d": (
        F.conv2d,
        lambda: {"x": tensor(1, 2, 5, 6), "weight": tensor(3, 2, 3, 3), "stride": 1, "padding": 1, "dilation": 1},
    ),
    "max_pool2d": (
        F.max_pool2d,
        lambda: {"x": tensor(1, 2, 5, 6), "kernel_size": 2, "stride": 2, "padding": 1},
    ),
    "avg_pool2d": (
        F.avg_pool2d,
        lambda: {"x": tensor(1, 2, 5, 6), "kernel_size": 2, "stride": 2, "padding": 1},
    ),
    "interpolate": (F.interpolate, lambda: {"x": tensor(1, 2, 5, 6), "size": (4, 4), "mode": "nearest"}),
    "adaptive_avg_pool2d": (F.adaptive_avg_pool2d, lambda: {"x": tensor(1, 2, 5, 6), "output_size": 2}),
    "dropout": (F.dropout, lambda: {"x": tensor(2, 3), "p": 0.5, "training": True, "rng": rng()}),
    "cross_entropy": (F.cross_entropy, lambda: {"logits": tensor(3, 4), "labels": [0, 1, 2]}),
    "smooth_l1_loss": (F.smooth_l1_loss, lambda: {"prediction": tensor(3), "target": [0.0, 1, 1], "beta": 1.0}),
    "concatenate": (nn.concatenate, lambda: {"tensors": [tensor(1, 2), tensor(1, 3)], "axis": 1}),
    "reshape": (lambda shape: tensor(2, 6).reshape(shape), lambda: {"shape": (3, 4)}),
    "sum": (tensor(2, 6).sum, lambda: {"axis": (0, 1), "keepdims": True}),
    "Conv2d": (
        made(nn.Conv2d),
        lambda: {"in_channels": 2, "out_channels": 4, "kernel_size": 3, "stride": 1, "padding": 1, "groups": 2},
    ),
    "Linear": (made(nn.Linear), lambda: {"in_features": 2, "out_features": 3, "bias": True}),
    "BatchNorm2d": (made(nn.BatchNorm2d), lambda: {"num_features": 3, "eps": 1e-5, "momentum": 0.1}),
    "Upsample": (made(nn.Upsample), lambda: {"scale_factor": 2, "mode": "nearest"}),
    "normal": (layers.normal, lambda: {"shape": (2, 3), "std": 1.0, "rng": rng()}),
    "load_state_dict": (
        lambda state: nn.Linear(2, 3).load_state_dict(state),
        lambda: {"state": {"weight": np.ones((3, 2)), "bias": np.ones(3)}},
    ),
    "Adam": (
        lambda **given: optim.Adam(**given) and None,
        lambda: {"parameters": parameters(), "lr": 0.1, "betas": (0.9, 0.99), "eps": 1e-8},
    ),
    "clip_grad_norm": (optim.clip_grad_norm, lambda: {"parameters": parameters(), "max_norm": 1.0}),
    "cosine": (lambda **given: optim.cosine(**given)(3), lambda: {"steps": 10, "end": 0.1}),
    "seed": (rcnn.seed, lambda: {"n": 3}),
    "evaluate_detections": (
        evaluate.evaluate_detections,
        lambda: {"detections": FOUND, "targets": OBJECTS, "num_classes": 3, "iou_threshold": 0.5},
    ),
    "evaluate_coco": (
        evaluate.evaluate_coco,
        lambda: {"detections": FOUND, "targets": OBJECTS, "num_classes": 3},
    ),
    "error_kinds": (
        evaluate.error_kinds,
        lambda: {"detections": FOUND, "targets": OBJECTS, "num_classes": 3, "background_iou": 0.1},
    ),
    "confusion": (
        evaluate.confusion,
        lambda: {"detections": FOUND, "targets": OBJECTS, "num_classes": 3, "score_thresh": 0.5},
    ),
    "average_precision": (
        evaluate.average_precision,
        lambda: {"recall": [0.5, 0.5, 1.0], "precision": [1.0, 0.5, 0.6], "method": "voc2012"},
    ),
    "match_classes": (
        evaluate.match_classes,
        lambda: {"detector_classes": ("bg", "a", "b"), "dataset_classes": ("bg", "b", "a")},
    ),
    "results_json": (
        evaluate.results_json,
        lambda: {"detections": FOUND, "image_ids": [7], "category_ids": [0, 3, 5]},
    ),
}


# ---------------------------------------------------------------- odd values


class BadArray:
    def __array__(self, *args: object, **kwargs: object) -> np.ndarray:
        raise KeyError("boom")


def nested(depth: int) -> list[Any]:
    values: list[Any] = []
    for _ in range(depth):
        values = [values]
    return values


ODD: dict[str, Any] = {
    **{repr(value): value for value in (None, True, 0, -1, 1, 3, 2**31, 2**40, 2**63, 0.5, -0.5, 1.5, 1j, "", "nan")},
    **{repr(value): value for value in (float("nan"), float("inf"), -float("inf"), 1e308, 1e-320, b"x", [], {}, [[]])},
    "10**400": 10**400,
    "-10**400": -(10**400),
    "10**5000": 10**5000,
    "object": object(),
    "a function": len,
    "float32": np.float32(0.5),
    "int64": np.int64(3),
    "0-d": np.array(3),
    "0-d NaN": np.array(np.nan),
    "decimal": decimal.Decimal("sNaN"),
    "fraction": fractions.Fraction(10**400, 3),
    "ragged": [[1, 2], [3]],
    "set": {1, 2},
    "nested": nested(2000),
    "bad array": BadArray(),
    "a pair": (2, 2),
    "zeros": (0, 0),
    "huge pair": (2**40, 2**40),
    "infinite pair": (float("inf"), float("inf")),
    "long pair": (10**400, 10**400),
    "names": ("a", "b"),
    "no boxes": np.zeros((0, 4)),
    "no elements": np.zeros((0, 0, 0, 0)),
    "NaN boxes": np.full((2, 4), np.nan),
    "large integers": [2**63],
    "strings": np.array(["a", "b"]),
    "objects": np.array([None, 1], object),
    "complex": np.array([1j]),
    "structured": np.zeros(2, [("a", "f4")]),
    "a view of one number": np.broadcast_to(np.float32(1), (2**40, 4)),
    "a view of one integer": np.broadcast_to(np.int64(1), (2**40,)),
    "a tensor": nn.Tensor(np.ones((2, 4))),
    "surrogate": "\udc80",
    "long name": "a" * 20000,
}


def variants(array: np.ndarray) -> dict[str, np.ndarray]:
    """Return odd arrays of the shape of a valid one, or of nearly this shape."""
    found: dict[str, np.ndarray] = {"one more axis": array[None], "transposed": array.T}
    for axis in range(array.ndim):
        found[f"empty along axis {axis}"] = np.take(array, [], axis)
        found[f"one along axis {axis}"] = np.take(array, [0], axis)
        shape = [2**38 if i == axis else side for i, side in enumerate(array.shape)]
        found[f"huge along axis {axis}"] = np.broadcast_to(np.take(array, [0], axis), shape)
    for value in (np.nan, np.inf, -np.inf, 1e30, 1e300, -1.0, 0.0):
        found[f"all {value}"] = np.full(array.shape, value)
        last = array.astype(np.float64)
        last.reshape(-1)[-1:] = value
        found[f"last {value}"] = last
        if abs(value) != 1e300:
            found[f"last {value} in float32"] = last.astype(np.float32)
    for dtype in ("f2", "i1", "u8", "?", ">f4", "c8", "O", "U3"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found[f"as {dtype}"] = array.astype(dtype)
    return found


def mutants(value: Any, depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Yield odd values to use instead of `value`, with a description of each."""
    yield from ODD.items()
    if isinstance(value, nn.Tensor):
        for name, array in variants(value.data).items():
            if array.dtype.kind in "fiub" and array.size < 2**20:
                yield f"tensor {name}", nn.Tensor(array)
    elif isinstance(value, np.ndarray):
        yield from variants(value).items()
    elif isinstance(value, dict) and depth < 2:
        for key in value:
            yield f"without {key}", {k: v for k, v in value.items() if k != key}
            for name, odd in mutants(value[key], depth + 1):
                yield f"{key}: {name}", {**value, key: odd}
    elif isinstance(value, (list, tuple)) and value and depth < 2:
        kind = type(value)
        yield "shorter", value[:-1]
        yield "longer", value + value[-1:]
        for name, odd in mutants(value[-1], depth + 1):
            yield f"last: {name}", kind([*value[:-1], odd])


CASES = [
    (call, argument, index)
    for call, (_, arguments) in CALLS.items()
    for argument, value in arguments().items()
    for index, _ in enumerate(mutants(value))
]


def outcome(call: str, argument: str, index: int, backend: str) -> Any:
    """Return the result of a call with an odd value, or the type of its error."""
    function, arguments = CALLS[call]
    given = arguments()
    given[argument] = list(mutants(given[argument]))[index][1]
    rcnn.seed(0)
    try:
        with rcnn.use_backend(backend), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return function(**given)
    except (TypeError, ValueError) as error:
        message = str(error)
        assert "\n" not in message and len(message) < 1000, message[:1000]
        assert any(name in message for name in (*given, "image", "classes")), f"no argument is named: {message}"
        return type(error)
    except OSError:  # a name instead of an image
        assert call in ("predict", "predict in views", "trace", "get_loss", "make_batch", "forward") or "batch" in call
        return OSError


def same(a: Any, b: Any) -> bool:
    if isinstance(a, nn.Tensor):
        return same(a.data, b.data)
    if isinstance(a, np.ndarray):
        with np.errstate(all="ignore"):
            return (a.shape, a.dtype) == (b.shape, b.dtype) and bool(
                np.allclose(a, b, rtol=1e-3, atol=1e-3, equal_nan=True)
            )
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    return True if not isinstance(a, type) else a is b


@settings(max_examples=250, deadline=None, derandomize=True)
@given(st.sampled_from(CASES))
def test_both_backends_refuse_or_accept_odd_values(case: tuple[str, str, int]) -> None:
    by_numpy, by_kernels = (outcome(*case, backend) for backend in ("numpy", "cython"))
    if type(by_numpy) is not type(by_kernels) or not same(by_numpy, by_kernels):
        pytest.fail(f"{str(by_numpy)[:200]} by NumPy, {str(by_kernels)[:200]} by the kernels")

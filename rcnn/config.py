"""`FasterRCNNConfig`: all settings of a Faster R-CNN, validated and frozen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, fields
from typing import Any

from rcnn._validate import (
    BELOW_ONE,
    FLAG,
    FRACTION,
    MAX_CLASSES,
    MAX_NAME,
    MOST_BOXES,
    MOST_CONVS,
    MOST_ELEMENTS,
    MOST_LEVELS,
    MOST_SIDE,
    NAME,
    Rule,
    as_integer,
    as_number,
    as_string,
    as_tuple,
    integer,
    is_number,
    optional,
    tuple_of,
    wrong_type,
    wrong_value,
)
from rcnn.anchors import MIN_SIZE, MOST_PER_CELL
from rcnn.nn import Module
from rcnn.roi import MOST_BINS, MOST_SAMPLES

MOST_CHANNELS = 2**16  # channels of a feature map
MOST_HIDDEN = 2**15  # outputs of a hidden layer
MOST_PIXELS = 2**14  # along a side of a resized image
Numbers = tuple[float, ...]
Nested = tuple[Numbers, ...]


@dataclass(frozen=True, eq=False)
class FasterRCNNConfig:
    """The settings of a `FasterRCNN`, with the names that torchvision uses and the defaults of the paper.

    Every number has an upper bound, so that a wrong number in a file cannot exhaust the memory. Fractions and
    thresholds are in [0, 1]. The maximum numbers of anchors, proposals, regions of interest (RoIs) and detections are
    in 1 .. 2^20.

    Two configs are equal only if they are the same object, because a config contains a module. All models that are made
    from one config share this module.

    Attributes
    ----------
    backbone : Module
        Module that maps N images (N, 3, H, W) to a feature map (N, feat_channels, H', W'). With `use_fpn`, it returns a
        list of such maps instead, finest first.
    feat_channels : int
        The number of channels of every feature map, in 1 .. 2^16.
    num_classes : int
        The number of classes, including the background (label 0), in 2 .. 2^16.
    use_fpn : bool
        Whether the backbone returns a list of feature maps, one for each level of a pyramid.
    anchor_sizes : sequence of floats, or one such sequence per level
        The square roots of the areas of the anchors, in pixels of the resized image, in [2, 2^20]. There are at most 64
        levels, with at most 4096 sizes each. A flat sequence applies to every level. However, if `use_fpn` is True and
        there are as many sizes as levels, each level gets one of the sizes.
    aspect_ratios : sequence of floats, or one such sequence per level
        The ratios height / width of the anchors, in [2^-20, 2^20]. There are at most 64 levels, with at most 4096
        ratios each.
    anchor_stride : float, or one per level, optional
        The distance between neighbouring cells, in pixels of the resized image. By default, it is measured from the
        feature maps. If you set it, it must be equal to the measured stride.
    pool_size : (height, width)
        The size of the features that are pooled from each RoI, in 1 .. 1024.
    hidden_dim : int
        The number of outputs of each fully connected hidden layer of the second stage, in 1 .. 2^15. No layer of the
        second stage may have more than 2^30 weights.
    dropout : float
        The probability that an output of a hidden layer is set to 0 in training, in [0, 1).
    min_size, max_size : int
        The size of a resized image, in pixels, in 1 .. 2^14. Its shorter side is `min_size`, or less if its longer side
        would otherwise be longer than `max_size`.
    image_mean, image_std : 3 floats
        The mean and the standard deviation of each colour channel, for pixels in [0, 1]. A mean is in [-1000, 1000],
        and a standard deviation is in [0.001, 1000]. To normalise an image, the mean is subtracted, and the result is
        divided by the standard deviation.
    anchor_offset : float
        The position of the centre of an anchor in its cell, in [0, 1]: 0 means the top left corner of the cell, and 0.5
        means the middle.
    rpn_pre_nms_top_n_train, rpn_pre_nms_top_n_test : int
        The number of anchors per level that are kept before non-maximum suppression (NMS), in `get_loss` (train) and in
        `predict` (test). The anchors with the highest scores are kept.
    rpn_post_nms_top_n_train, rpn_post_nms_top_n_test : int
        The number of proposals per image that are kept after NMS, in `get_loss` (train) and in `predict` (test).
    rpn_num_convs : int
        The number of 3x3 convolutions in the head of the region proposal network, in 1 .. 16. The paper has one.
    rpn_nms_thresh : float
        NMS removes a proposal if its intersection over union (IoU) with a better proposal exceeds this threshold.
    rpn_fg_iou_thresh, rpn_bg_iou_thresh : float
        An anchor is positive if its highest IoU with an object is at least the first threshold, and negative if this
        IoU is below the second threshold. The best anchor for each object is always positive.
    rpn_batch_size_per_image : int
        The maximum number of anchors per image that are sampled for the loss.
    rpn_positive_fraction : float
        The maximum fraction of positive anchors in the sample.
    rpn_score_thresh : float
        The minimum score of a proposal.
    box_num_convs : int
        The number of 3x3 convolutions with batch norm in the hidden layers of the second stage, in 0 .. 16. If it is
        not 0, they replace the first of the two fully connected layers.
    box_score_thresh : float
        A detection must have a score that is greater than this threshold.
    box_nms_thresh : float
        NMS removes a detection if its IoU with a better detection of the same class exceeds this threshold.
    box_detections_per_img : int
        The maximum number of detections per image.
    box_fg_iou_thresh, box_bg_iou_thresh : float
        A RoI is positive if its highest IoU with an object is at least the first threshold, and background if this IoU
        is below the second threshold.
    box_batch_size_per_image : int
        The maximum number of RoIs per image that are sampled for the loss.
    box_positive_fraction : float
        The maximum fraction of positive RoIs in the sample.
    box_class_weights : sequence of floats, optional
        The weight of each class in the classification loss of the second stage, in [0, 1000], starting with the
        background. Larger weights for rare classes compensate for class imbalance. By default, all weights are 1.
    bbox_reg_weights : 4 floats
        The weights of the deltas in the second stage, in [1e-6, 1e6]. The defaults are the inverses of 0.1 and 0.2, the
        values in the paper.
    sampling_ratio : int
        See `rcnn.roi.roi_align`. The value is in 0 .. 128.
    aligned : bool
        See `rcnn.roi.roi_align`.
    canonical_size, canonical_level : int
        A square RoI with a side of `canonical_size` pixels is pooled from level `canonical_level` of a pyramid. Level k
        has stride 2^k. The size is in 1 .. 2^20, and the level is in 0 .. 64.
    class_names : sequence of str, optional
        One name per class, starting with the background. A name has 1 to 256 characters and no control characters.

    Raises
    ------
    TypeError, ValueError
        If a setting is invalid. The message contains the field, its value and the allowed values.
    """

    backbone: Module
    feat_channels: int
    num_classes: int
    use_fpn: bool = False
    anchor_sizes: Numbers | Nested = (128, 256, 512)
    aspect_ratios: Numbers | Nested = (0.5, 1.0, 2.0)
    anchor_stride: float | Numbers | None = None
    pool_size: tuple[int, int] = (7, 7)
    hidden_dim: int = 4096
    dropout: float = 0.5
    _: KW_ONLY
    min_size: int = 800
    max_size: int = 1333
    image_mean: Numbers = (0.485, 0.456, 0.406)
    image_std: Numbers = (0.229, 0.224, 0.225)
    anchor_offset: float = 0.0
    rpn_pre_nms_top_n_train: int = 2000
    rpn_pre_nms_top_n_test: int = 1000
    rpn_post_nms_top_n_train: int = 2000
    rpn_post_nms_top_n_test: int = 1000
    rpn_num_convs: int = 1
    rpn_nms_thresh: float = 0.7
    rpn_fg_iou_thresh: float = 0.7
    rpn_bg_iou_thresh: float = 0.3
    rpn_batch_size_per_image: int = 256
    rpn_positive_fraction: float = 0.5
    rpn_score_thresh: float = 0.0
    box_num_convs: int = 0
    box_score_thresh: float = 0.05
    box_nms_thresh: float = 0.5
    box_detections_per_img: int = 100
    box_fg_iou_thresh: float = 0.5
    box_bg_iou_thresh: float = 0.5
    box_batch_size_per_image: int = 512
    box_positive_fraction: float = 0.25
    box_class_weights: Numbers | None = None
    bbox_reg_weights: Numbers = (10.0, 10.0, 5.0, 5.0)
    sampling_ratio: int = 2
    aligned: bool = False
    canonical_size: int = 224
    canonical_level: int = 4
    class_names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.backbone, Module):
            raise wrong_type("backbone", self.backbone, "an rcnn.nn.Module")
        for name, value in check_settings(self.settings()).items():
            object.__setattr__(self, name, value)  # a frozen dataclass does not allow ordinary assignment

    def settings(self) -> dict[str, Any]:
        """Return all fields except the backbone, as JSON-serialisable values.

        Returns
        -------
        dict
            Maps the name of each field to its value.
        """
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "backbone"}


def check_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Check some settings of a `FasterRCNNConfig` and return them with normalised values.

    Two settings that depend on each other are compared if both are given.

    Parameters
    ----------
    settings : mapping
        Maps the names of fields to their values. It may contain any field except the backbone.

    Returns
    -------
    dict
        Maps the same names to normalised values.

    Raises
    ------
    TypeError, ValueError
        If a setting is invalid. The message contains the field, its value and the allowed values.
    """
    checked = {name: RULES[name].check(name, value) for name, value in settings.items()}
    for low, high in ORDERED:
        if low in checked and high in checked and checked[low] > checked[high]:
            raise wrong_value(low, checked[low], f"at most {high} ({checked[high]})")
    _check_weights(checked)
    names, weights = checked.get("class_names"), checked.get("box_class_weights")
    num_classes = checked.get("num_classes", None if names is None else len(names))
    for name, values, kind in (("class_names", names, "names"), ("box_class_weights", weights, "numbers")):
        if values is not None and num_classes is not None and len(values) != num_classes:
            raise wrong_value(
                name, values, f"{num_classes} {kind}, one per class (num_classes), starting with the background"
            )
    return checked


def _check_weights(checked: Mapping[str, Any]) -> None:
    """Raise ValueError if a layer of the second stage would have more than 2^30 weights."""
    if not {"feat_channels", "num_classes", "pool_size", "hidden_dim"} <= checked.keys():
        return
    hidden, inputs = checked["hidden_dim"], checked["feat_channels"] * checked["pool_size"][0] * checked["pool_size"][1]
    most = max(inputs * hidden, 4 * checked["num_classes"] * hidden)
    if most > MOST_ELEMENTS:
        raise wrong_value(
            "hidden_dim",
            hidden,
            f"smaller (together with feat_channels, pool_size and num_classes, it gives a layer {most} weights)",
        )


# ---------------------------------------------------------------------- rules

ORDERED = (  # pairs of settings; the first must not exceed the second
    ("min_size", "max_size"),
    ("rpn_bg_iou_thresh", "rpn_fg_iou_thresh"),
    ("box_bg_iou_thresh", "box_fg_iou_thresh"),
)


def _sizes(values: Any) -> Numbers | Nested:
    """Return a sequence of numbers as a tuple, or a sequence of such sequences (one per level) as a tuple of tuples."""
    elements = as_tuple(values)
    is_nested = bool(elements) and not any(map(is_number, elements))
    if is_nested and len(elements) > MOST_LEVELS:
        raise ValueError
    return tuple(map(_numbers, elements)) if is_nested else _numbers(elements)


def _stride(value: Any) -> float | Numbers:
    return as_number(value) if is_number(value) else _numbers(value)


def _all(is_allowed: Callable[[float], bool]) -> Callable[[Any], bool]:
    """Return a function that tests every number in a value: a number, a tuple, or a tuple of tuples."""

    def test(value: Any) -> bool:
        if isinstance(value, tuple):
            return 0 < len(value) <= MOST_PER_CELL and all(map(test, value))
        return is_allowed(value)

    return test


_numbers = tuple_of(as_number)

RULES: dict[str, Rule] = {
    "feat_channels": integer(1, MOST_CHANNELS),
    "num_classes": integer(2, MAX_CLASSES),
    "use_fpn": FLAG,
    "anchor_sizes": Rule(
        "a sequence of numbers in [2, 2^20], or one such sequence per level",
        _sizes,
        _all(lambda x: MIN_SIZE <= x <= MOST_SIDE),
    ),
    "aspect_ratios": Rule(
        "a sequence of numbers in [2^-20, 2^20], or one such sequence per level",
        _sizes,
        _all(lambda x: 1 / MOST_SIDE <= x <= MOST_SIDE),
    ),
    "anchor_stride": optional(
        Rule("None, a number above 0, or one per level", _stride, _all(lambda x: 0 < x <= MOST_SIDE))
    ),
    "pool_size": Rule(
        f"two integers of at least 1 and at most {MOST_BINS} (height and width)",
        tuple_of(as_integer),
        lambda size: len(size) == 2 and 1 <= min(size) <= max(size) <= MOST_BINS,
    ),
    "hidden_dim": integer(1, MOST_HIDDEN),
    "dropout": BELOW_ONE,
    "min_size": integer(1, MOST_PIXELS),
    "max_size": integer(1, MOST_PIXELS),
    "image_mean": Rule(
        "3 numbers in [-1000, 1000]", _numbers, lambda mean: len(mean) == 3 and max(map(abs, mean)) <= 1e3
    ),
    "image_std": Rule(
        "3 numbers in [0.001, 1000]",
        _numbers,
        lambda std: len(std) == 3 and 1e-3 <= min(std) <= max(std) <= 1e3,
    ),
    "anchor_offset": FRACTION,
    "rpn_pre_nms_top_n_train": integer(1, MOST_BOXES),
    "rpn_pre_nms_top_n_test": integer(1, MOST_BOXES),
    "rpn_post_nms_top_n_train": integer(1, MOST_BOXES),
    "rpn_post_nms_top_n_test": integer(1, MOST_BOXES),
    "rpn_num_convs": integer(1, MOST_CONVS),
    "rpn_nms_thresh": FRACTION,
    "rpn_fg_iou_thresh": FRACTION,
    "rpn_bg_iou_thresh": FRACTION,
    "rpn_batch_size_per_image": integer(1, MOST_BOXES),
    "rpn_positive_fraction": FRACTION,
    "rpn_score_thresh": FRACTION,
    "box_num_convs": integer(0, MOST_CONVS),
    "box_score_thresh": FRACTION,
    "box_nms_thresh": FRACTION,
    "box_detections_per_img": integer(1, MOST_BOXES),
    "box_fg_iou_thresh": FRACTION,
    "box_bg_iou_thresh": FRACTION,
    "box_batch_size_per_image": integer(1, MOST_BOXES),
    "box_positive_fraction": FRACTION,
    "box_class_weights": optional(
        Rule(
            "None, or a number in [0, 1000] for each class, not all 0, starting with the background",
            _numbers,
            lambda weights: 0 <= min(weights, default=-1) <= max(weights) <= 1e3 and max(weights) > 0,
        )
    ),
    "bbox_reg_weights": Rule(
        "4 numbers in [1e-6, 1e6]",
        _numbers,
        lambda weights: len(weights) == 4 and 1e-6 <= min(weights) <= max(weights) <= 1e6,
    ),
    "sampling_ratio": integer(0, MOST_SAMPLES),
    "aligned": FLAG,
    "canonical_size": integer(1, MOST_SIDE),
    "canonical_level": integer(0, MOST_LEVELS),
    "class_names": optional(
        Rule(
            f"None, or a unique name of at most {MAX_NAME} characters for each class, starting with the background",
            tuple_of(as_string),
            lambda names: len(set(names)) == len(names) and all(map(NAME.accepts, names)),
        )
    ),
}

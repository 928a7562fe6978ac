"""`FasterRCNNConfig`: all settings of a Faster R-CNN, validated and frozen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, fields
from typing import Any

from rcnn._validate import (
    FLAG,
    FRACTION,
    Rule,
    as_float,
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
from rcnn.nn import Module

Numbers = tuple[float, ...]
Nested = tuple[Numbers, ...]


@dataclass(frozen=True, eq=False)
class FasterRCNNConfig:
    """The settings of a `FasterRCNN`, with the names that torchvision uses and the defaults of the paper.

    Two configs are equal only if they are the same object, because a config contains a module. All models that are made
    from one config share this module.

    Attributes
    ----------
    backbone : Module
        Module that maps N images (N, 3, H, W) to a feature map (N, feat_channels, H', W'). With `use_fpn`, it returns a
        list of such maps instead, finest first.
    feat_channels : int
        The number of channels of every feature map.
    num_classes : int
        The number of classes, including the background (label 0).
    use_fpn : bool
        Whether the backbone returns a list of feature maps, one for each level of a pyramid.
    anchor_sizes : sequence of floats, or one such sequence per level
        The square roots of the areas of the anchors, in pixels of the resized image. A flat sequence applies to every
        level. However, if `use_fpn` is True and there are as many sizes as levels, each level gets one of the sizes.
    aspect_ratios : sequence of floats, or one such sequence per level
        The ratios height / width of the anchors.
    anchor_stride : float, or one per level, optional
        The distance between neighbouring cells, in pixels of the resized image. By default, it is measured from the
        feature maps. If you set it, it must be equal to the measured stride.
    pool_size : (height, width)
        The size of the features that are pooled from each region of interest (RoI).
    hidden_dim : int
        The number of outputs of each of the two hidden layers of the second stage.
    dropout : float
        The probability that an output of a hidden layer is set to 0 in training.
    min_size, max_size : int
        The size of a resized image, in pixels. Its shorter side is `min_size`, or less if its longer side would
        otherwise be longer than `max_size`.
    image_mean, image_std : 3 floats
        The mean and the standard deviation of each colour channel, for pixels in [0, 1]. To normalise an image, the
        mean is subtracted, and the result is divided by the standard deviation.
    anchor_offset : float
        The position of the centre of an anchor in its cell: 0 is the top left corner of the cell, 0.5 is the middle.
    rpn_pre_nms_top_n_train, rpn_pre_nms_top_n_test : int
        The number of anchors per level that are kept before non-maximum suppression (NMS), in `get_loss` (train) and in
        `predict` (test). The anchors with the highest scores are kept.
    rpn_post_nms_top_n_train, rpn_post_nms_top_n_test : int
        The number of proposals per image that are kept after NMS, in `get_loss` (train) and in `predict` (test).
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
    bbox_reg_weights : 4 floats
        The weights of the deltas in the second stage. The defaults are the inverses of 0.1 and 0.2, the values in the
        paper.
    sampling_ratio : int
        See `rcnn.roi.roi_align`.
    aligned : bool
        See `rcnn.roi.roi_align`.
    canonical_size, canonical_level : int
        A square RoI with a side of `canonical_size` pixels is pooled from the level `canonical_level` of a pyramid.
        Level k has the stride 2^k.
    class_names : sequence of str, optional
        One name per class, starting with the background.

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
    rpn_nms_thresh: float = 0.7
    rpn_fg_iou_thresh: float = 0.7
    rpn_bg_iou_thresh: float = 0.3
    rpn_batch_size_per_image: int = 256
    rpn_positive_fraction: float = 0.5
    rpn_score_thresh: float = 0.0
    box_score_thresh: float = 0.05
    box_nms_thresh: float = 0.5
    box_detections_per_img: int = 100
    box_fg_iou_thresh: float = 0.5
    box_bg_iou_thresh: float = 0.5
    box_batch_size_per_image: int = 512
    box_positive_fraction: float = 0.25
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
        Maps names of fields to values. It may contain any of the fields except the backbone.

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
            raise wrong_value(low, checked[low], f"at most {high}, which is {checked[high]}")
    names, num_classes = checked.get("class_names"), checked.get("num_classes")
    if names is not None and num_classes is not None and len(names) != num_classes:
        raise wrong_value(
            "class_names", names, f"{num_classes} names, one per class (num_classes), starting with the background"
        )
    return checked


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
    return tuple(map(_numbers, elements)) if is_nested else _numbers(elements)


def _stride(value: Any) -> float | Numbers:
    return as_number(value) if is_number(value) else _numbers(value)


def _all(is_allowed: Callable[[float], bool]) -> Callable[[Any], bool]:
    """Return a function that tests every number in a value: a number, a tuple, or a tuple of tuples."""

    def test(value: Any) -> bool:
        if isinstance(value, tuple):
            return len(value) > 0 and all(map(test, value))
        return is_allowed(value)

    return test


_numbers = tuple_of(as_number)
_is_positive = _all(lambda x: x > 0)

RULES: dict[str, Rule] = {
    "feat_channels": integer(1),
    "num_classes": integer(2),
    "use_fpn": FLAG,
    "anchor_sizes": Rule(
        "a sequence of numbers of at least 2, or one such sequence per level", _sizes, _all(lambda x: x >= 2)
    ),
    "aspect_ratios": Rule("a sequence of numbers above 0, or one such sequence per level", _sizes, _is_positive),
    "anchor_stride": optional(Rule("None, a number above 0, or one per level", _stride, _is_positive)),
    "pool_size": Rule(
        "two integers of at least 1 (height and width)",
        tuple_of(as_integer),
        lambda size: len(size) == 2 and min(size) >= 1,
    ),
    "hidden_dim": integer(1),
    "dropout": Rule("a number in [0, 1)", as_float, lambda x: 0 <= x < 1),
    "min_size": integer(1),
    "max_size": integer(1),
    "image_mean": Rule("3 numbers", _numbers, lambda mean: len(mean) == 3),
    "image_std": Rule("3 numbers above 0", _numbers, lambda std: len(std) == 3 and min(std) > 0),
    "anchor_offset": FRACTION,
    "rpn_pre_nms_top_n_train": integer(1),
    "rpn_pre_nms_top_n_test": integer(1),
    "rpn_post_nms_top_n_train": integer(1),
    "rpn_post_nms_top_n_test": integer(1),
    "rpn_nms_thresh": FRACTION,
    "rpn_fg_iou_thresh": FRACTION,
    "rpn_bg_iou_thresh": FRACTION,
    "rpn_batch_size_per_image": integer(1),
    "rpn_positive_fraction": FRACTION,
    "rpn_score_thresh": FRACTION,
    "box_score_thresh": FRACTION,
    "box_nms_thresh": FRACTION,
    "box_detections_per_img": integer(1),
    "box_fg_iou_thresh": FRACTION,
    "box_bg_iou_thresh": FRACTION,
    "box_batch_size_per_image": integer(1),
    "box_positive_fraction": FRACTION,
    "bbox_reg_weights": Rule("4 numbers above 0", _numbers, lambda weights: len(weights) == 4 and min(weights) > 0),
    "sampling_ratio": integer(0),
    "aligned": FLAG,
    "canonical_size": integer(1),
    "canonical_level": integer(0),
    "class_names": optional(
        Rule(
            "None, or a unique name for each class, starting with the background",
            tuple_of(as_string),
            lambda names: len(set(names)) == len(names),
        )
    ),
}
